//! Backups to a restic repository, and restores from it, as a user of one machine meets them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Machine;

const MANIFESTS: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: repository
stringData:
  RESTIC_REPOSITORY: REPOSITORY
  RESTIC_PASSWORD: open-sesame
---
apiVersion: volsync.backube/v1alpha1
kind: ReplicationSource
metadata:
  name: photos
spec:
  sourcePVC: photos
  restic:
    copyMethod: Direct
    repository: repository
    retain: {last: '5'}
---
apiVersion: volsync.backube/v1alpha1
kind: ReplicationDestination
metadata:
  name: mirror
spec:
  restic:
    copyMethod: Direct
    destinationPVC: mirror
    repository: repository
";

/// A machine whose repository is the directory `repository`.
fn machine() -> Machine {
    let machine = Machine::new("");
    let mover = machine.movers.join("volsync-mover-restic");
    assert!(mover.is_file(), "{} is not built; build the workspace first", mover.display());
    write(&machine, &manifests(&machine));
    machine
}

fn manifests(machine: &Machine) -> String {
    MANIFESTS.replace("REPOSITORY\n", &format!("{}\n", machine.path("repository").display()))
}

fn write(machine: &Machine, manifests: &str) {
    fs::write(machine.path("photos.yaml"), manifests).unwrap();
}

fn back_up(machine: &Machine, content: &str) {
    fs::write(machine.path("photos/a"), content).unwrap();
    let said = machine.says("sync", &["--only", "source/photos"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// All files of the repository with their content.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

/// What real restic prints about the repository.
fn restic(machine: &Machine, args: &[&str]) -> String {
    let output = Command::new("restic")
        .arg("--no-cache")
        .args(args)
        .env("RESTIC_REPOSITORY", machine.path("repository"))
        .env("RESTIC_PASSWORD", "open-sesame")
        .output()
        .expect("restic is not installed: run cargo xtask setup");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_directory_is_backed_up_and_restored_by_one_command_and_restic_reads_the_repository() {
    let machine = machine();
    fs::write(machine.path("photos/a"), "hello").unwrap();
    fs::write(machine.path("mirror/old"), "stays").unwrap();
    let said = machine.says("check", &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let describes = "the restic repository that Secret default/repository describes";
    assert!(said.out.contains(describes), "{}", said.out);
    assert!(!said.out.contains("deletes"), "{}", said.out);
    assert!(!machine.path("repository").exists());

    let said = machine.says("sync", &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let [backup, restore] = said.out.lines().collect::<Vec<_>>()[..] else { panic!("{said:?}") };
    assert!(backup.contains(": 1 compared, 1 saved (5 B read, "), "{backup}");
    assert!(restore.contains(": 1 compared, 1 restored (5 B)"), "{restore}");
    assert_eq!(fs::read_to_string(machine.path("mirror/a")).unwrap(), "hello");
    assert_eq!(fs::read_to_string(machine.path("mirror/old")).unwrap(), "stays");
    restic(&machine, &["check", "--read-data"]);
    let snapshots: serde_json::Value =
        serde_json::from_str(&restic(&machine, &["snapshots", "--json"])).unwrap();
    assert_eq!(snapshots.as_array().unwrap().len(), 1, "{snapshots}");
    assert_eq!(snapshots[0]["hostname"], "volsync");
    assert_eq!(snapshots[0]["paths"], serde_json::json!(["/data"]));
}

#[test]
fn only_the_snapshots_that_are_to_be_retained_stay() {
    let machine = machine();
    write(&machine, &manifests(&machine).replace("last: '5'", "last: '2'"));
    for content in ["first", "second", "third"] {
        back_up(&machine, content);
    }
    assert_eq!(fs::read_dir(machine.path("repository/snapshots")).unwrap().count(), 2);
}

#[test]
fn a_restore_takes_the_snapshot_that_is_asked_for() {
    let machine = machine();
    back_up(&machine, "first");
    let first = machine.status("ReplicationSource")["lastSyncTime"].as_str().unwrap().to_owned();
    // Times of snapshots count by the second.
    std::thread::sleep(Duration::from_millis(1100));
    back_up(&machine, "second");
    back_up(&machine, "third");
    for (option, expected) in [
        ("previous: 0", Some("third")),
        ("previous: 1", Some("second")),
        ("previous: 2", Some("first")),
        ("previous: 3", None),
        (&format!("restoreAsOf: '{first}'"), Some("first")),
        ("restoreAsOf: '2001-01-01T00:00:00Z'", None),
    ] {
        let wanted =
            format!("destinationPVC: mirror\n    enableFileDeletion: true\n    {option}\n");
        write(&machine, &manifests(&machine).replace("destinationPVC: mirror\n", &wanted));
        fs::write(machine.path("mirror/old"), "was here before").unwrap();
        let said = machine.says("sync", &["--only", "destination/mirror"]);
        assert_eq!(said.code, Some(0), "{option}: {said:?}");
        // Where nothing is eligible, nothing is deleted either.
        assert_eq!(machine.path("mirror/old").exists(), expected.is_none(), "{option}");
        let told = said.out.contains("no snapshot is eligible, nothing was restored");
        assert_eq!(told, expected.is_none(), "{option}: {said:?}");
        if let Some(expected) = expected {
            assert_eq!(fs::read_to_string(machine.path("mirror/a")).unwrap(), expected, "{option}");
        }
    }
}

#[test]
fn a_wrong_password_is_told_and_changes_nothing() {
    let machine = machine();
    back_up(&machine, "first");
    let before = files(&machine.path("repository"));
    let wrong = manifests(&machine).replace("open-sesame", "close-sesame");
    write(&machine, &wrong);
    for only in ["source/photos", "destination/mirror"] {
        let said = machine.says("sync", &["--only", only]);
        assert_eq!(said.code, Some(2), "{only}: {said:?}");
        let message = format!(
            "the repository at {} does not open with RESTIC_PASSWORD",
            machine.path("repository").display()
        );
        assert!(said.out.contains(&message), "{only}: {said:?}");
        assert!(said.out.contains("\nhint: "), "{only}: {said:?}");
        assert!(!format!("{said:?}").contains("close-sesame"), "{only}: {said:?}");
    }
    assert_eq!(machine.status("ReplicationSource")["latestMoverStatus"]["result"], "Failed");
    assert_eq!(files(&machine.path("repository")), before);
    write(&machine, &manifests(&machine));
    back_up(&machine, "second");
}

#[test]
fn an_empty_volume_is_not_backed_up_and_that_is_said() {
    let machine = machine();
    fs::create_dir(machine.path("photos/lost+found")).unwrap();
    let said = machine.says("sync", &["--only", "source/photos"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let told = "✔ default/photos   the volume is empty, nothing was backed up, in ";
    assert!(said.out.starts_with(told), "{said:?}");
    assert!(!machine.path("repository").exists());
    let logs = machine.status("ReplicationSource")["latestMoverStatus"]["logs"].clone();
    assert!(logs.as_str().unwrap().contains("Directory is empty"), "{logs}");
}

#[test]
fn a_repository_inside_a_volume_that_it_would_lose_or_hold_itself_is_refused() {
    let machine = machine();
    fs::write(machine.path("photos/a"), "hello").unwrap();
    for (inside, why) in [
        ("photos/repository", "would be backed up into itself"),
        ("mirror/repository", "would be deleted or overwritten"),
    ] {
        let place = machine.path(inside).display().to_string();
        write(&machine, &MANIFESTS.replace("REPOSITORY\n", &format!("{place}\n")));
        let said = machine.says("sync", &[]);
        assert_eq!(said.code, Some(2), "{said:?}");
        let said = format!("{}{}", said.out, said.err);
        assert!(said.contains("spec.restic.repository") && said.contains(why), "{said}");
        assert!(!machine.path(inside).exists());
    }
}

#[test]
fn what_the_user_leaves_out_is_not_saved_and_the_snapshot_says_what_it_was_told() {
    let machine = machine();
    let options = "host: app
    path: /photos
    tags: [one, two]
    exclude: ['*.tmp', '/cache/', '!keep.tmp']
    excludeCaches: true
    retain:";
    write(&machine, &manifests(&machine).replace("retain:", options));
    for (name, content) in [
        ("photos/a", "kept"),
        ("photos/x.tmp", "not"),
        ("photos/deep/x.tmp", "not"),
        ("photos/deep/keep.tmp", "kept"),
        ("photos/cache/a", "not"),
        ("photos/deep/cache/a", "kept"),
        ("photos/thumbnails/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("photos/thumbnails/a", "not"),
        ("photos/other/CACHEDIR.TAG", "of somebody else"),
        ("photos/other/a", "kept"),
    ] {
        let path = machine.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    for _ in 0..2 {
        let said = machine.says("sync", &["--only", "source/photos"]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let listed = restic(&machine, &["ls", "latest", "--host", "app", "--path", "/photos"]);
    let files: Vec<_> = listed.lines().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(
        files,
        [
            "/a",
            "/deep",
            "/deep/cache",
            "/deep/cache/a",
            "/deep/keep.tmp",
            "/other",
            "/other/CACHEDIR.TAG",
            "/other/a",
            "/thumbnails",
            "/thumbnails/CACHEDIR.TAG",
        ]
    );
    let snapshots: serde_json::Value =
        serde_json::from_str(&restic(&machine, &["snapshots", "--json"])).unwrap();
    assert_eq!(snapshots[1]["tags"], serde_json::json!(["one", "two"]));
    assert_eq!(snapshots[1]["excludes"], serde_json::json!(["*.tmp", "/cache/", "!keep.tmp"]));
    restic(&machine, &["check", "--read-data"]);

    write(&machine, &manifests(&machine).replace("retain:", "exclude: ['[z-a]']\n    retain:"));
    let said = machine.says("sync", &["--only", "source/photos"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("spec.restic.exclude: "), "{}", said.out);
}

#[test]
fn a_backup_and_a_restore_keep_to_their_bandwidth() {
    let machine = machine();
    let limited = manifests(&machine)
        .replace("  RESTIC_PASSWORD", "  RESTIC_PACK_SIZE: '4'\n  RESTIC_PASSWORD")
        .replace("repository: repository\n", "repository: repository\n    bandwidthLimit: 8Mi\n");
    write(&machine, &limited);
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(24 << 20)
    .collect();
    fs::write(machine.path("photos/noise"), &noise).unwrap();
    for replication in ["source/photos", "destination/mirror"] {
        let begin = Instant::now();
        let said = machine.says("sync", &["--only", replication]);
        assert_eq!(said.code, Some(0), "{said:?}");
        // The last piece, of 12 MiB at most, waits for 12 MiB before it at least.
        assert!(begin.elapsed() >= Duration::from_secs(1), "{replication}: {:?}", begin.elapsed());
    }
    assert_eq!(fs::read(machine.path("mirror/noise")).unwrap(), noise);
    let said = restic(&machine, &["check", "--read-data"]);
    assert!(said.contains("no errors were found"), "{said}");
}

#[test]
fn a_restore_that_must_find_a_snapshot_fails_without_one_and_makes_nothing() {
    let machine = machine();
    let destination = |more: &str| {
        let more = format!("destinationPVC: mirror\n    {more}\n");
        write(&machine, &manifests(&machine).replace("destinationPVC: mirror\n", &more));
        machine.says("sync", &["--only", "destination/mirror"])
    };
    let said = destination("requireSnapshot: true");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("there is no repository at "), "{}", said.out);
    assert!(!machine.path("repository").exists());

    let said = destination("previous: 0");
    assert_eq!(said.code, Some(0), "{said:?}");
    let outcome = |machine: &Machine| machine.status("ReplicationDestination")["restic"].clone();
    let missing = serde_json::json!({"restoreOutcome": "RepositoryMissing"});
    assert_eq!(outcome(&machine), missing);

    let said = destination("requireSnapshot: true");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("is eligible: none is of path /data"), "{}", said.out);

    write(&machine, &manifests(&machine));
    back_up(&machine, "first");
    back_up(&machine, "second");
    let snapshots: serde_json::Value =
        serde_json::from_str(&restic(&machine, &["snapshots", "--json"])).unwrap();
    let id = snapshots[0]["id"].as_str().unwrap();
    let said = destination(&format!("snapshot: '{}'", &id[..10]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(fs::read_to_string(machine.path("mirror/a")).unwrap(), "first");
    let restored = serde_json::json!({"restoreOutcome": "Restored", "restoredSnapshot": id});
    assert_eq!(outcome(&machine), restored);

    let said = destination("snapshot: '00000000'");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.out.contains("none has an ID that begins with 00000000"), "{}", said.out);
    let said = destination("snapshot: latest\n    previous: 1");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("\"latest\" is not the ID of a snapshot"), "{}", said.err);
    assert!(said.err.contains("spec.restic.previous: selects among snapshots"), "{}", said.err);
}

#[test]
fn a_repository_that_is_damaged_is_found_out_and_nothing_is_forgotten_until_it_is_whole() {
    let machine = machine();
    let verify = "verify: {intervalDays: 0, readDataPercent: 100}\n    retain: {last: '1'}";
    write(&machine, &manifests(&machine).replace("retain: {last: '5'}", verify));
    let numbers: String = (0..20_000).map(|number| format!("{number} ")).collect();
    fs::write(machine.path("photos/numbers"), numbers).unwrap();
    let sync = || machine.says("sync", &["--only", "source/photos"]);
    let said = sync();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains(", repository verified ("), "{}", said.out);
    let status = || machine.status("ReplicationSource")["restic"].clone();
    assert_eq!(
        (status()["verifyResult"].as_str(), &status()["verifyRound"]),
        (Some("Whole"), &1.into())
    );

    let packs = files(&machine.path("repository/data"));
    // The other one has the directory.
    let (path, bytes) = packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let mut damaged = bytes.clone();
    damaged[10] ^= 1;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&path, &damaged).unwrap();
    fs::write(machine.path("photos/a"), "hello again").unwrap();
    let said = sync();
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.out.contains("the repository is DAMAGED, nothing is forgotten"), "{}", said.out);
    assert!(said.err.contains("the repository is damaged: pack "), "{said:?}");
    assert_eq!(
        (status()["verifyResult"].as_str(), &status()["verifyRound"]),
        (Some("Damaged"), &1.into())
    );
    assert!(status()["verifyMessage"].as_str().unwrap().starts_with("pack "));
    let snapshots = || fs::read_dir(machine.path("repository/snapshots")).unwrap().count();
    assert_eq!(snapshots(), 2);

    fs::write(&path, &bytes).unwrap();
    let said = sync();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        (status()["verifyResult"].as_str(), &status()["verifyRound"]),
        (Some("Whole"), &2.into())
    );
    assert_eq!((status()["verifyMessage"].as_str(), snapshots()), (None, 1));
}

#[test]
fn what_restic_itself_backed_up_of_a_path_is_restored_to_the_root_of_the_volume() {
    let machine = machine();
    fs::create_dir(machine.path("photos/deep")).unwrap();
    fs::write(machine.path("photos/deep/a"), "of restic").unwrap();
    let photos = machine.path("photos").canonicalize().unwrap();
    restic(&machine, &["init"]);
    restic(&machine, &["backup", photos.to_str().unwrap()]);
    for choice in [
        format!("path: {}", photos.display()),
        format!("snapshot: '{}'", {
            let told: serde_json::Value =
                serde_json::from_str(&restic(&machine, &["snapshots", "--json"])).unwrap();
            told[0]["short_id"].as_str().unwrap().to_owned()
        }),
    ] {
        fs::write(machine.path("mirror/old"), "goes").unwrap();
        let wanted =
            format!("destinationPVC: mirror\n    enableFileDeletion: true\n    {choice}\n");
        write(&machine, &manifests(&machine).replace("destinationPVC: mirror\n", &wanted));
        let said = machine.says("sync", &["--only", "destination/mirror"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(fs::read_to_string(machine.path("mirror/deep/a")).unwrap(), "of restic");
        assert_eq!(fs::read_dir(machine.path("mirror")).unwrap().count(), 1);
    }
}

#[test]
fn a_volume_with_nothing_but_what_is_left_out_is_an_empty_one() {
    let machine = machine();
    let options = "exclude: ['/cache/']\n    excludeCaches: true\n    retain:";
    write(&machine, &manifests(&machine).replace("retain:", options));
    fs::create_dir(machine.path("photos/cache")).unwrap();
    let said = machine.says("sync", &["--only", "source/photos"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("the volume is empty"), "{}", said.out);
    // A tag that marks nothing is in nobody's way.
    std::os::unix::fs::symlink("nowhere", machine.path("photos/CACHEDIR.TAG")).unwrap();
    fs::write(machine.path("photos/a"), "saved").unwrap();
    let said = machine.says("sync", &["--only", "source/photos"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(restic(&machine, &["ls", "latest"]).contains("/a"));
}

#[test]
fn a_damaged_snapshot_or_index_stops_no_backup_and_is_told() {
    for place in ["repository/snapshots", "repository/index"] {
        let machine = machine();
        back_up(&machine, "first");
        let (path, mut bytes) = files(&machine.path(place)).into_iter().next().unwrap();
        bytes[20] ^= 1;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(&path, &bytes).unwrap();
        fs::write(machine.path("photos/a"), "second").unwrap();
        // Where a good copy is, nobody meets the damaged one.
        fs::remove_dir_all(machine.path("state/caches")).unwrap();
        let said = machine.says("sync", &["--only", "source/photos"]);
        assert_eq!(said.code, Some(3), "{place}: {said:?}");
        assert!(said.out.contains("the repository is DAMAGED"), "{place}: {said:?}");
        let status = machine.status("ReplicationSource")["restic"].clone();
        assert_eq!(status["verifyResult"], "Damaged", "{place}: {status}");
        assert!(files(&machine.path("repository/snapshots")).len() >= 2, "{place}");
    }
}
