//! Backs real directories up from one command: a first backup, a change, a second backup, a restore,
//! and what restic itself says of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use volsync_contract::Report;
use volsync_testing::Scratch;
use volsync_testing::compare::walk;

use super::{change, keep, prepare, print_manifest, say, verify};
use crate::args::DemoOptions;
use crate::command::{line, output};
use crate::repository;
use crate::setup::{self, Need};
use crate::table;

/// The manifests that the demo runs and that users start from.
pub(super) const MANIFEST: &str = "docs/usage/backup-and-restore.yaml";
/// As the manifests have it.
const PASSWORD: &str = "change me";

/// Runs the demo from set-up to the lines that a user needs.
pub(super) fn backup(options: &DemoOptions) -> Result<()> {
    let begin = Instant::now();
    setup::setup(vec![Need::Demo])?;
    say("building volsync and its restic mover (some minutes the first time)");
    let scratch = Scratch::new();
    let demo = Demo {
        programs: repository::build_release("restic")?,
        manifest: repository::root().join(MANIFEST),
        data: scratch.dir("data"),
        repository: scratch.dir("repository"),
        restored: scratch.dir("restored"),
        state: scratch.dir("state"),
    };
    prepare(&demo.data)?;
    leave_out(&demo.data)?;
    print_manifest(MANIFEST)?;

    let mut syncs = Vec::new();
    say("first backup, and a restore of it");
    syncs.push(("first", demo.sync()?));
    demo.verify()?;
    say("the same again");
    syncs.push(("nothing changed", demo.sync()?));
    say("changes: edits, additions, renames, deletions, other modes, a directory where a file was");
    let changed = change(&demo.data)?;
    leave_out(&demo.data)?;
    println!("  {changed} random changes, and 1 % of the large file in scattered places");
    say("second backup, and a restore over what was restored before");
    syncs.push(("after the changes", demo.sync()?));
    demo.verify()?;

    println!("\nwhat was stored, and how fast\n\n{}", table::table(&rows(&syncs)?));
    say("the snapshots, as restic lists them");
    demo.list(&syncs)?;
    println!(
        "done in {:.0} s; what was restored was identical to its source each time it was verified",
        begin.elapsed().as_secs_f64()
    );
    println!("\nwith your own directories:\n");
    println!("  export PATH=\"$PATH:{}\"", demo.programs.display());
    println!(
        "  volsync sync {} --volume data=/your/directory \\\n    --volume repository=/where/backups/go --volume restored=/where/it/is/restored",
        demo.manifest.display()
    );
    keep(options, scratch);
    Ok(())
}

struct Demo {
    programs: PathBuf,
    manifest: PathBuf,
    data: PathBuf,
    repository: PathBuf,
    restored: PathBuf,
    state: PathBuf,
}

/// What a sync took, and what its two ends report.
struct Synced {
    elapsed: Duration,
    backup: Report,
    restore: Report,
}

impl Synced {
    fn snapshot(&self) -> Result<&str> {
        let restic = self.backup.restic.as_ref().context("a backup reports what it stored")?;
        restic.snapshot.as_deref().context("a backup has a snapshot")
    }
}

impl Demo {
    fn sync(&self) -> Result<Synced> {
        let mut command = Command::new(self.programs.join("volsync"));
        command.arg("sync").arg(&self.manifest);
        let volumes =
            [("data", &self.data), ("repository", &self.repository), ("restored", &self.restored)];
        for (claim, dir) in volumes {
            command.arg("--volume").arg(format!("{claim}={}", dir.display()));
        }
        command.arg("--state-dir").arg(&self.state).args(["--output", "json"]);
        println!("$ {}", line(&command));
        let begin = Instant::now();
        let printed = output(&mut command)?;
        let elapsed = begin.elapsed();
        let report = |kind| {
            report(&printed, kind).with_context(|| format!("no result of the {kind}:\n{printed}"))
        };
        Ok(Synced {
            elapsed,
            backup: report("ReplicationSource")?,
            restore: report("ReplicationDestination")?,
        })
    }

    fn verify(&self) -> Result<()> {
        // The root of a volume is its owner's: a backup has what is below.
        verify(&self.data, &self.restored, |line| line.ends_with(" ./") || line.starts_with(": "))
    }

    /// What restic lists must be what we reported.
    fn list(&self, syncs: &[(&str, Synced)]) -> Result<()> {
        let mut restic = Command::new("restic");
        restic.arg("--repo").arg(self.repository.join("data")).arg("snapshots");
        println!("$ RESTIC_PASSWORD='{PASSWORD}' {}", line(&restic));
        let listed = output(restic.env("RESTIC_PASSWORD", PASSWORD))?;
        println!("{listed}");
        // Of those between, the manifest keeps one a day.
        for (name, synced) in syncs.iter().take(1).chain(syncs.last()) {
            let short = &synced.snapshot()?[..8];
            ensure!(listed.contains(short), "restic does not list snapshot {short} ({name})");
        }
        println!("  of the snapshots of one day the manifest keeps the last, and the first of all");
        Ok(())
    }
}

/// What restic's format does not hold goes: sockets, and names of attributes that are not UTF-8.
fn leave_out(data: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    for path in walk(data) {
        let path = data.join(path);
        if path.symlink_metadata()?.file_type().is_socket() {
            fs::remove_file(path)?;
        }
    }
    let file = data.join("hard-cases/attributes/file");
    let name = c"user.odd \xff name";
    match rustix::fs::lremovexattr(&file, name) {
        // A change may have taken it away.
        Ok(()) | Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// The report of one kind, one of the JSON lines that volsync printed.
fn report(printed: &str, kind: &str) -> Option<Report> {
    printed
        .lines()
        .filter_map(|text| serde_json::from_str::<Value>(text).ok())
        .filter(|line| line["event"] == "result" && line["kind"] == kind)
        .find_map(|line| serde_json::from_value(line).ok())
}

fn rows(syncs: &[(&str, Synced)]) -> Result<Vec<Vec<String>>> {
    let mut rows = vec![table::row([
        "backup",
        "snapshot",
        "compared",
        "read",
        "new",
        "stored",
        "backed up in",
        "restored in",
        "in all",
    ])];
    for (name, synced) in syncs {
        let counts = &synced.backup.counts;
        let restic = synced.backup.restic.clone().unwrap_or_default();
        let took = |report: &Report| {
            table::seconds(Duration::from_millis(report.counts.elapsed_milliseconds))
        };
        rows.push(vec![
            (*name).to_owned(),
            synced.snapshot()?[..8].to_owned(),
            table::count(counts.files_compared),
            table::bytes(counts.sent_file_bytes),
            table::bytes(restic.added_bytes),
            table::bytes(restic.stored_bytes),
            took(&synced.backup),
            took(&synced.restore),
            table::seconds(synced.elapsed),
        ]);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart_by_their_kind() {
        let printed = "\
{\"event\": \"note\"}
{\"event\": \"result\", \"kind\": \"ReplicationSource\", \"version\": 1, \"outcome\": \"complete\", \"restic\": {\"snapshot\": \"abc\"}}
{\"event\": \"result\", \"kind\": \"ReplicationDestination\", \"version\": 1, \"outcome\": \"complete\"}
";
        let backup = report(printed, "ReplicationSource").unwrap();
        assert_eq!(backup.restic.unwrap().snapshot.as_deref(), Some("abc"));
        assert_eq!(report(printed, "ReplicationDestination").unwrap().restic, None);
        assert_eq!(report("no JSON at all", "ReplicationSource"), None);
    }

    #[test]
    fn the_manifest_has_the_password_that_restic_is_given() {
        let text = fs::read_to_string(repository::root().join(MANIFEST)).unwrap();
        assert!(text.contains(&format!("RESTIC_PASSWORD: {PASSWORD}")));
    }
}
