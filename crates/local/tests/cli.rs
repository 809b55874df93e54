//! The `volsync` binary as a user meets it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop there")]

#[path = "cli/restic.rs"]
mod restic;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const DESTINATION: &str = "\
apiVersion: volsync.backube/v1alpha1
kind: ReplicationDestination
metadata:
  name: mirror
spec:
  rsync:
    copyMethod: Direct
    destinationPVC: mirror
";

const SOURCE: &str = "\
apiVersion: volsync.backube/v1alpha1
kind: ReplicationSource
metadata:
  name: photos
spec:
  sourcePVC: photos
  trigger:
    manual: first
  rsync:
    copyMethod: Direct
    address: volsync-rsync-dst-mirror
    sshKeys: volsync-rsync-dst-src-mirror
";

/// A directory with manifests, two volumes and a state directory.
struct Machine {
    directory: TempDir,
    movers: PathBuf,
}

impl Machine {
    fn new(manifests: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for volume in ["photos", "mirror"] {
            fs::create_dir(directory.path().join(volume)).unwrap();
        }
        fs::write(directory.path().join("photos.yaml"), manifests).unwrap();
        let beside = Path::new(env!("CARGO_BIN_EXE_volsync")).parent().unwrap().to_owned();
        Self { directory, movers: beside }
    }

    /// A machine whose movers are this script.
    fn with_mover(manifests: &str, script: &str) -> Self {
        let mut machine = Self::new(manifests);
        machine.movers = machine.path("movers");
        fs::create_dir(&machine.movers).unwrap();
        let mover = machine.movers.join("volsync-mover-rsync");
        fs::write(&mover, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
        fs::set_permissions(&mover, fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volsync"));
        command.arg(verb).arg("photos.yaml").arg("--state-dir").arg("state").args(flags);
        for volume in ["photos", "mirror"] {
            command.arg("--volume").arg(format!("{volume}={volume}"));
        }
        command.current_dir(self.directory.path()).env("VOLSYNC_MOVER_DIR", &self.movers);
        command.env_remove("RUST_LOG");
        command
    }

    fn says(&self, verb: &str, flags: &[&str]) -> Said {
        Said::from(self.command(verb, flags).output().unwrap())
    }

    fn status(&self, kind: &str) -> serde_json::Value {
        let said = self.says("status", &["--output", "json"]);
        let list: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let items = list["items"].as_array().unwrap();
        items.iter().find(|item| item["kind"] == kind).unwrap()["status"].clone()
    }
}

#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

#[test]
fn help_starts_with_an_example() {
    for verb in ["run", "sync", "check", "status"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_volsync")).args([verb, "--help"]).output().unwrap();
        let said = Said::from(output);
        assert_eq!(said.code, Some(0));
        assert!(said.out.starts_with(&format!("Example:\n  volsync {verb} ")), "{}", said.out);
    }
    let said =
        Said::from(Command::new(env!("CARGO_BIN_EXE_volsync")).arg("--help").output().unwrap());
    assert!(
        said.out.starts_with("Example:\n  volsync sync photos.yaml --volume photos=/srv/photos"),
        "{}",
        said.out
    );
}

#[test]
fn all_problems_of_a_manifest_are_told_at_once_each_with_its_path() {
    let manifests = "\
apiVersion: volsync.backube/v1alpha1
kind: ReplicationSource
metadata: {name: a}
spec:
  sourcePVC: nowhere
  trigger: {schedule: 'once a day'}
  rsync: {copyMethd: Direct, copyMethod: Direct, address: volsync-rsync-dst-gone, sshKeys: lost, port: '22'}
---
apiVersion: volsync.backube/v1alpha1
kind: ReplicationSource
metadata: {name: b}
spec:
  sourcePVC: photos
  rclone: {rcloneConfig: r, copyMethod: Direct}
  rsync: {copyMethod: Direct, address: 10.0.0.1}
---
apiVersion: volsync.backube/v1alpha1
kind: ReplicationDestination
metadata: {name: c}
spec: {}
---
apiVersion: v1
kind: Secret
metadata: {name: half}
stringData: {source: x}
---
apiVersion: volsync.backube/v1alpha1
kind: ReplicationSource
metadata: {name: d}
spec:
  sourcePVC: photos
  rsync: {copyMethod: Direct, address: 10.0.0.1, sshKeys: half}
";
    let machine = Machine::new(manifests);
    for verb in ["check", "sync", "run"] {
        let said = machine.says(verb, &[]);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.starts_with("error: photos.yaml: "), "{}", said.err);
        for problem in [
            "document 1, spec.rsync.copyMethd: no such field; did you mean copyMethod?",
            "document 1, spec.rsync.port: is \"22\", expected a whole number",
            "document 1, spec.rsync.sshKeys: Secret default/lost is not in the manifests",
            "document 1, spec.rsync.address: volsync-rsync-dst-gone is the Service of a ReplicationDestination",
            "document 1, spec.sourcePVC: no directory is known for volume nowhere; give one with --volume nowhere=DIR",
            "document 1, spec.trigger.schedule: \"once a day\" is no schedule",
            "document 2, spec.rclone: this method is not part of this release on one machine",
            "document 3, spec: ",
            "document 5, spec.rsync.sshKeys: Secret default/half lacks source.pub, destination.pub",
        ] {
            assert!(said.err.contains(problem), "{problem} is missing in:\n{}", said.err);
        }
        assert!(!machine.path("state").exists(), "{verb} wrote something");
    }
    let said = machine.says("check", &["--output", "json"]);
    let error: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(error["event"], "error");
    assert!(error["problems"].as_array().unwrap().len() >= 9);
}

#[test]
fn check_shows_the_plan_and_touches_nothing() {
    let capacity =
        DESTINATION.replace("copyMethod: Direct", "copyMethod: Direct\n    capacity: 1Gi");
    let machine = Machine::new(&format!("{capacity}---\n{SOURCE}"));
    fs::write(machine.path("photos/a"), "hello").unwrap();
    let said = machine.says("check", &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for part in [
        "ReplicationDestination default/mirror\n",
        "ReplicationSource default/photos\n",
        "photos: 1 entries, 5 B",
        "to ReplicationDestination default/mirror of these manifests",
        "listens on a free port of 127.0.0.1, for ReplicationSource default/photos",
        "note: spec.rsync.capacity has no meaning on this machine",
    ] {
        assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
    }
    assert!(!machine.path("state").exists());
}

#[test]
fn a_missing_mover_is_named_with_what_helps() {
    let mut machine = Machine::new(&format!("{DESTINATION}---\n{SOURCE}"));
    machine.movers = machine.path("none");
    let said = machine.says("sync", &[]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("volsync-mover-rsync: the mover is not there\nhint: "),
        "{}",
        said.err
    );
}

#[test]
fn only_names_what_there_is() {
    let machine = Machine::new(&format!("{DESTINATION}---\n{SOURCE}"));
    let said = machine.says("sync", &["--only", "source/none"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err
            .contains("hint: they have ReplicationDestination/mirror, ReplicationSource/photos"),
        "{}",
        said.err
    );
}

/// Listens until the source has said that it is done, as far as a script can.
const PEERS: &str = r#"
report() { echo '{"version":1,"outcome":"'$1'","message":"'$2'","counts":{"filesCompared":3}}' > $VOLSYNC_REPORT; exit $3; }
if [ $VOLSYNC_DIRECTION = destination ]; then
  echo '{"event":"listening","address":"127.0.0.1:4711"}'
  trap 'exit 1' TERM
  n=0; while [ ! -e $VOLSYNC_DATA/done ] && [ $n -lt 400 ]; do sleep 0.05; n=$((n+1)); done
  report complete '' 0
fi
"#;

#[test]
fn source_and_destination_of_the_same_manifests_are_brought_together() {
    let source = r#"[ $DESTINATION_ADDRESS:$DESTINATION_PORT = 127.0.0.1:4711 ] || report failedPermanent address 2
ls $VOLSYNC_KEYS > $VOLSYNC_DATA/keys; touch $VOLSYNC_DATA/../mirror/done; report complete '' 0"#;
    let machine =
        Machine::with_mover(&format!("{DESTINATION}---\n{SOURCE}"), &format!("{PEERS}{source}"));
    let said = machine.says("sync", &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("ReplicationDestination default/mirror   listening on 127.0.0.1:4711"),
        "{}",
        said.err
    );
    assert_eq!(said.out, "✔ default/photos → default/mirror   3 compared, 0 sent, in 0.0 s\n");
    assert_eq!(
        fs::read_to_string(machine.path("photos/keys")).unwrap(),
        "destination.pub\nsource\nsource.pub\n"
    );
    let status = machine.status("ReplicationSource");
    assert_eq!(status["lastManualSync"], "first");
    assert_eq!(status["latestMoverStatus"]["result"], "Successful");
    assert!(status.get("lastSyncStartTime").is_none(), "{status}");
    let status = machine.status("ReplicationDestination");
    assert_eq!(status["rsync"]["sshKeys"], "volsync-rsync-dst-src-mirror");
    assert_eq!(status["latestImage"]["name"], "mirror");
    let secret = machine.path("state/secrets/default/volsync-rsync-dst-main-mirror.yaml");
    assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o777, 0o600);
    let table = machine.says("status", &[]).out;
    assert!(table.contains("source       default/photos  rsync   WaitingForManual"), "{table}");
}

#[test]
fn the_exit_status_is_that_of_the_worst_failure_and_the_other_end_is_stopped() {
    for (outcome, code) in [("failedPermanent", 2), ("failedTransient", 1), ("incomplete", 3)] {
        let mut script = format!("{PEERS}report {outcome} wrong-host-key {code}");
        if code == 3 {
            script = script.replace(
                "report incomplete",
                "touch $VOLSYNC_DATA/../mirror/done; report incomplete",
            );
        }
        let machine = Machine::with_mover(&format!("{DESTINATION}---\n{SOURCE}"), &script);
        let said = machine.says("sync", &[]);
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.out.contains("wrong-host-key"), "{said:?}");
        assert_eq!(machine.status("ReplicationSource")["latestMoverStatus"]["result"], "Failed");
        assert!(machine.status("ReplicationSource").get("lastManualSync").is_none());
    }
}

#[test]
fn a_mover_that_ends_without_a_report_is_a_failure_and_its_log_is_named() {
    let machine = Machine::with_mover(
        &format!("{DESTINATION}---\n{SOURCE}"),
        &format!("{PEERS}echo lost >&2; exit 0"),
    );
    let said = machine.says("sync", &["--output", "json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let results: Vec<serde_json::Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = results.iter().find(|line| line["event"] == "result").unwrap();
    assert_eq!(result["outcome"], "failedTransient");
    assert!(
        result["message"].as_str().unwrap().contains("exit code 0; it left no report"),
        "{result}"
    );
    assert!(
        result["hint"].as_str().unwrap().ends_with("movers/ReplicationSource/default/photos/log"),
        "{result}"
    );
}

#[test]
fn a_paused_replication_stays_still() {
    let paused = SOURCE.replace("spec:\n", "spec:\n  paused: true\n");
    let machine = Machine::with_mover(
        &format!("{DESTINATION}---\n{paused}"),
        &format!("{PEERS}touch $VOLSYNC_DATA/ran"),
    );
    let said = machine.says("sync", &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("default/photos   paused; not synchronized"), "{}", said.err);
    assert!(!machine.path("photos/ran").exists());
}

#[test]
fn two_documents_replicate_a_directory() {
    let machine = Machine::new(&format!("{DESTINATION}---\n{SOURCE}"));
    let mover = machine.movers.join("volsync-mover-rsync");
    assert!(mover.is_file(), "{} is not built; build the workspace first", mover.display());
    fs::create_dir(machine.path("photos/album")).unwrap();
    fs::write(machine.path("photos/album/one"), vec![7; 300_000]).unwrap();
    fs::write(machine.path("mirror/stale"), "goes").unwrap();
    for content in ["first", "second"] {
        fs::write(machine.path("photos/changes"), content).unwrap();
        let said = machine.says("sync", &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.starts_with("✔ default/photos → default/mirror   "), "{}", said.out);
        assert_eq!(fs::read_to_string(machine.path("mirror/changes")).unwrap(), content);
        assert!(!machine.path("mirror/stale").exists());
    }
    assert_eq!(fs::read(machine.path("mirror/album/one")).unwrap(), vec![7; 300_000]);
}

/// Waits for a line of a file.
fn wait_for(file: &Path) -> String {
    for _ in 0..200 {
        if let Ok(text) = fs::read_to_string(file)
            && text.ends_with('\n')
        {
            return text;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    String::new()
}

#[test]
fn a_destination_that_would_write_over_something_else_is_refused_before_anything_moves() {
    let machine = Machine::new(&format!("{DESTINATION}---\n{SOURCE}"));
    fs::create_dir_all(machine.path("photos/inside")).unwrap();
    fs::write(machine.path("photos/inside/precious"), "x").unwrap();
    fs::create_dir(machine.path("mirror/state")).unwrap();
    fs::create_dir(machine.path("mirror/photos")).unwrap();
    std::os::unix::fs::symlink("photos/inside", machine.path("link")).unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--volume", "mirror=photos"], "/photos is volume photos of ReplicationSource"),
        (&["--volume", "mirror=photos/inside"], "/photos/inside is inside /"),
        (&["--volume", "mirror=link"], "/link is inside /"),
        (&["--volume", "photos=mirror/photos"], "/mirror/photos, volume photos"),
        (&["--state-dir", "mirror/state"], "where it would be deleted"),
    ];
    for (flags, expected) in cases {
        for verb in ["check", "sync"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_volsync"));
            command.arg(verb).arg("photos.yaml").current_dir(machine.directory.path());
            let given = |flag: &str| flags.iter().any(|given| given.starts_with(flag));
            for volume in ["photos", "mirror"] {
                if !given(&format!("{volume}=")) {
                    command.arg("--volume").arg(format!("{volume}={volume}"));
                }
            }
            if !given("--state-dir") {
                command.args(["--state-dir", "state"]);
            }
            command.args(flags).env("VOLSYNC_MOVER_DIR", &machine.movers);
            let said = Said::from(command.output().unwrap());
            assert_eq!(said.code, Some(2), "{flags:?}: {said:?}");
            assert!(said.err.contains(expected), "{flags:?}: {}", said.err);
        }
    }
    assert_eq!(fs::read(machine.path("photos/inside/precious")).unwrap(), b"x");
}

#[test]
fn a_killed_runner_leaves_a_mover_that_the_next_one_ends() {
    let machine =
        Machine::with_mover(&format!("{DESTINATION}---\n{SOURCE}"), &format!("{PEERS}sleep 60"));
    let mut runner =
        machine.command("run", &[]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let pid = wait_for(&machine.path("state/movers/ReplicationSource/default/photos/pid"));
    let pid = pid.split(' ').next().unwrap().to_owned();
    let second = machine.says("run", &[]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(
        second.err.contains(&format!(
            "another volsync (process {}) uses this state directory",
            runner.id()
        ))
    );
    runner.kill().unwrap();
    runner.wait().unwrap();
    let running = Path::new("/proc").join(pid);
    assert!(running.exists());
    let done = "touch $VOLSYNC_DATA/../mirror/done; report complete '' 0";
    fs::write(
        machine.movers.join("volsync-mover-rsync"),
        format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{PEERS}{done}\n"),
    )
    .unwrap();
    let said = machine.says("sync", &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(
        said.err.contains("note: ended movers that a killed volsync left behind"),
        "{}",
        said.err
    );
    let state = fs::read_to_string(running.join("stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
}

#[test]
fn an_interrupt_stops_movers_and_says_what_is_kept() {
    let machine = Machine::with_mover(
        &format!("{DESTINATION}---\n{SOURCE}"),
        &format!("{PEERS}exec sleep 60"),
    );
    let mut command = machine.command("sync", &[]);
    let runner = command
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = wait_for(&machine.path("state/movers/ReplicationSource/default/photos/pid"));
    let status = Command::new("kill").args(["-INT", &runner.id().to_string()]).status().unwrap();
    assert!(status.success());
    let said = Said::from(runner.wait_with_output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("note: stopping; what has arrived is kept"), "{}", said.err);
    assert!(!Path::new("/proc").join(pid.split(' ').next().unwrap()).exists());
}

#[test]
fn without_reflinks_a_clone_is_refused_and_with_them_it_is_made() {
    let clone = SOURCE.replace("copyMethod: Direct", "copyMethod: Clone");
    let machine = Machine::new(&format!("{DESTINATION}---\n{clone}"));
    fs::write(machine.path("photos/a"), "hello").unwrap();
    let said = machine.says("check", &[]);
    match said.code {
        Some(0) => assert!(said.out.contains("a clone of every file"), "{}", said.out),
        code => {
            assert_eq!(code, Some(2));
            assert!(
                said.err.contains("spec.rsync.copyMethod: no point-in-time copy can be made: "),
                "{}",
                said.err
            );
            assert!(said.err.contains("Direct works everywhere"), "{}", said.err);
        }
    }
}

#[test]
fn a_second_interrupt_ends_movers_that_do_not_want_to_stop() {
    let stubborn = "trap '' TERM; n=0; while [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done";
    let machine =
        Machine::with_mover(&format!("{DESTINATION}---\n{SOURCE}"), &format!("{PEERS}{stubborn}"));
    let mut runner =
        machine.command("run", &[]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = wait_for(&machine.path("state/movers/ReplicationSource/default/photos/pid"));
    let number = runner.id().to_string();
    let interrupt = || Command::new("kill").args(["-INT", &number]).status().unwrap();
    interrupt();
    // The second one counts as a second one only when the first has been noticed.
    let mut lines = BufReader::new(runner.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("note: stopping")));
    interrupt();
    let since = std::time::Instant::now();
    let code = runner.wait().unwrap().code();
    assert!(since.elapsed().as_secs() < 5);
    assert_eq!(code, Some(1));
    // It has been killed; the kernel takes a moment to end it.
    let stat = Path::new("/proc").join(pid.split(' ').next().unwrap()).join("stat");
    let ended = || {
        let state = fs::read_to_string(&stat).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    while !ended() && since.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(ended());
}

#[test]
fn a_destination_without_a_claim_gets_a_directory_of_its_own() {
    let provisioned = DESTINATION
        .replace("destinationPVC: mirror", "capacity: 1Gi\n    accessModes: [ReadWriteOnce]");
    let machine = Machine::new(&format!("{provisioned}---\n{SOURCE}"));
    fs::write(machine.path("photos/a"), "hello").unwrap();
    let said = machine.says("sync", &["--only", "source/photos"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("note: --volume mirror="), "{}", said.err);
    let volume = machine.path("state/volumes/default/volsync-mirror-dst");
    assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "hello");
    assert_eq!(
        machine.status("ReplicationDestination")["latestImage"]["name"],
        "volsync-mirror-dst"
    );
}

#[test]
fn keys_of_a_users_own_secret_are_used() {
    let keys = |end: &str, names: [&str; 3], machine: &Machine| {
        let text = |name: &str| {
            let text = fs::read_to_string(machine.path("keys").join(name)).unwrap();
            format!("  {name}: |\n    {}\n", text.trim_end().replace('\n', "\n    "))
        };
        let data: String = names.into_iter().map(text).collect();
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {end}}}\nstringData:\n{data}---\n")
    };
    let machine = Machine::new("");
    fs::create_dir(machine.path("keys")).unwrap();
    for name in ["source", "destination"] {
        let mut made = Command::new("ssh-keygen");
        made.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(machine.path("keys").join(name));
        assert!(made.status().unwrap().success());
    }
    let manifests = format!(
        "{}{}{}---\n{}",
        keys("for-mirror", ["destination", "destination.pub", "source.pub"], &machine),
        keys("for-photos", ["source", "source.pub", "destination.pub"], &machine),
        DESTINATION.replace("rsync:\n", "rsync:\n    sshKeys: for-mirror\n"),
        SOURCE.replace("volsync-rsync-dst-src-mirror", "for-photos"),
    );
    fs::write(machine.path("photos.yaml"), manifests).unwrap();
    fs::write(machine.path("photos/a"), "hello").unwrap();
    let said = machine.says("sync", &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(fs::read_to_string(machine.path("mirror/a")).unwrap(), "hello");
    assert!(machine.status("ReplicationDestination")["rsync"].get("sshKeys").is_none());
    assert!(!machine.path("state/secrets").exists());
}
