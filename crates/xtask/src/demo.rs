//! Real directories from one command: a first sync, a change, a delta sync, verified by a real rsync
//! each time. Here they are replicated; in `backup` they are backed up and restored.

mod backup;
mod gather;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use volsync_contract::Counts;
use volsync_testing::compare::{differences, rsync_differences};
use volsync_testing::tree::{hard_cases, mutate};
use volsync_testing::{Privilege, Scratch};

use crate::args::{DemoOptions, Demonstrated};
use crate::bench::data;
use crate::command::line;
use crate::repository;
use crate::setup::{self, Need};
use crate::table;

/// The manifests that the demo runs and that users start from.
const MANIFEST: &str = "docs/usage/mirror.yaml";

const LARGE_FILE: u64 = 64 << 20;
const CHANGED_DIRECTORIES: usize = 40;
const CHANGES_EACH: usize = 10;

/// Runs the demo that was asked for.
pub(crate) fn demo(options: &DemoOptions) -> Result<()> {
    match options.of {
        Demonstrated::Rsync => replicate(options),
        Demonstrated::Restic => backup::backup(options),
    }
}

/// Runs the demo of a replication from set-up to the two lines that a user needs.
fn replicate(options: &DemoOptions) -> Result<()> {
    let begin = Instant::now();
    setup::setup(vec![Need::Demo])?;
    say("building volsync and its rsync mover (some minutes the first time)");
    let programs = repository::build_release("rsync")?;

    let scratch = Scratch::new();
    let demo = Demo {
        programs,
        manifest: repository::root().join(MANIFEST),
        source: scratch.dir("data"),
        copy: scratch.dir("copy"),
        state: scratch.dir("state"),
    };
    prepare(&demo.source)?;
    print_manifest(MANIFEST)?;

    let mut syncs = Vec::new();
    say("first sync");
    syncs.push(("first sync", demo.sync()?));
    verify(&demo.source, &demo.copy, |_| false)?;
    say("the same again");
    syncs.push(("nothing changed", demo.sync()?));
    say("changes: edits, additions, renames, deletions, other modes, a directory where a file was");
    let changed = change(&demo.source)?;
    println!("  {changed} random changes, and 1 % of the large file in scattered places");
    say("delta sync");
    syncs.push(("after the changes", demo.sync()?));
    verify(&demo.source, &demo.copy, |_| false)?;

    println!("\nwhat moved, and how fast\n\n{}", table::table(&rows(&syncs)));
    println!(
        "done in {:.0} s; the copy was identical to its source each time it was verified",
        begin.elapsed().as_secs_f64()
    );
    println!("\nwith your own directories:\n");
    println!("  export PATH=\"$PATH:{}\"", demo.programs.display());
    println!(
        "  volsync sync {} --volume data=/your/directory --volume copy=/where/the/copy/goes",
        demo.manifest.display()
    );
    keep(options, scratch);
    Ok(())
}

fn print_manifest(manifest: &str) -> Result<()> {
    println!("\n$ cat {manifest}");
    let text = read(&repository::root().join(manifest))?;
    for text in text.lines().filter(|text| !text.trim_start().starts_with('#')) {
        println!("  {text}");
    }
    Ok(())
}

/// Leaves the directories where they are if that was asked for.
fn keep(options: &DemoOptions, scratch: Scratch) {
    if options.keep {
        println!("\nkept: {}", scratch.path().display());
        std::mem::forget(scratch);
    }
}

struct Demo {
    programs: PathBuf,
    manifest: PathBuf,
    source: PathBuf,
    copy: PathBuf,
    state: PathBuf,
}

/// What a sync took and what it counted.
struct Synced {
    elapsed: Duration,
    counts: Option<Counts>,
}

impl Demo {
    fn sync(&self) -> Result<Synced> {
        let mut command = Command::new(self.programs.join("volsync"));
        command.arg("sync").arg(&self.manifest);
        for (claim, dir) in [("data", &self.source), ("copy", &self.copy)] {
            command.arg("--volume").arg(format!("{claim}={}", dir.display()));
        }
        command.arg("--state-dir").arg(&self.state).args(["--output", "json"]);
        println!("$ {}", line(&command));
        let begin = Instant::now();
        let output =
            command.output().with_context(|| format!("cannot start {}", line(&command)))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!(
                "volsync sync failed: {}\n{}{}",
                output.status,
                said,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(Synced { elapsed: begin.elapsed(), counts: counts(&said) })
    }
}

/// Fills the source with real files and with everything that is hard to copy.
fn prepare(source: &Path) -> Result<()> {
    say("gathering documentation and headers of this machine");
    for gathered in gather::gather(source)? {
        println!("  {gathered}");
    }
    hard_cases(&source.join("hard-cases"), Privilege::own());
    println!(
        "  hard cases: odd names, links, sparse files, ACLs, attributes, FIFOs, a very deep tree"
    );
    data::large_file(&source.join("large-file"), LARGE_FILE)?;
    println!("  a file of {} that does not compress", table::bytes(LARGE_FILE));
    Ok(())
}

/// Changes the source at random, here and there; returns how many changes were made.
fn change(source: &Path) -> Result<usize> {
    let mut directories = vec![source.join("hard-cases")];
    for place in gather::entries(source) {
        let below = gather::entries(&place);
        directories.extend(below.into_iter().filter(|path| !path.is_symlink() && path.is_dir()));
    }
    let step = (directories.len() / CHANGED_DIRECTORIES).max(1);
    let changed = directories
        .iter()
        .step_by(step)
        .zip(1..)
        .map(|(directory, seed)| mutate(directory, seed, CHANGES_EACH, Privilege::own()).len())
        .sum();
    data::scatter_edits(&source.join("large-file"), LARGE_FILE)?;
    Ok(changed)
}

/// Asks a real rsync, which shares no code with us, and then a plain comparison; lines that do not
/// matter are left out.
fn verify(source: &Path, copy: &Path, ignored: impl Fn(&str) -> bool) -> Result<()> {
    println!(
        "$ rsync -aHAXSn --delete --itemize-changes --checksum {}/ {}/",
        source.display(),
        copy.display()
    );
    let begin = Instant::now();
    let judged = [
        (
            "rsync finds",
            rsync_differences(source, copy).lines().map(str::to_owned).collect::<Vec<_>>(),
        ),
        ("a comparison finds", differences(source, copy)),
    ];
    for (judge, mut lines) in judged {
        lines.retain(|line| !ignored(line));
        lines.truncate(20);
        if !lines.is_empty() {
            bail!("the copy differs from its source, {judge}:\n{}", lines.join("\n"));
        }
    }
    println!("  (printed nothing: identical; {})", table::seconds(begin.elapsed()));
    Ok(())
}

fn say(text: &str) {
    println!("\n{text}");
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The counts of the source's result, one of the JSON lines that volsync printed.
fn counts(printed: &str) -> Option<Counts> {
    printed
        .lines()
        .filter_map(|text| serde_json::from_str::<Value>(text).ok())
        .filter(|line| line["event"] == "result" && line["kind"] == "ReplicationSource")
        .find_map(|line| serde_json::from_value(line["counts"].clone()).ok())
}

fn rows(syncs: &[(&str, Synced)]) -> Vec<Vec<String>> {
    let mut rows = vec![table::row([
        "sync",
        "compared",
        "sent",
        "deleted",
        "content sent",
        "already there",
        "on the wire",
        "moved in",
        "rate",
        "in all",
    ])];
    for (name, synced) in syncs {
        let Some(counts) = &synced.counts else {
            let mut row = vec![(*name).to_owned()];
            row.extend(vec!["-".to_owned(); 8]);
            row.push(table::seconds(synced.elapsed));
            rows.push(row);
            continue;
        };
        let moving = Duration::from_millis(counts.elapsed_milliseconds.max(1));
        rows.push(vec![
            (*name).to_owned(),
            table::count(counts.files_compared),
            table::count(counts.files_sent),
            table::count(counts.deleted),
            table::bytes(counts.sent_file_bytes),
            table::bytes(counts.matched_bytes),
            table::bytes(counts.wire_sent_bytes + counts.wire_received_bytes),
            table::seconds(moving),
            rate(counts.sent_file_bytes, moving),
            table::seconds(synced.elapsed),
        ]);
    }
    rows
}

fn rate(bytes: u64, time: Duration) -> String {
    if bytes == 0 {
        return "-".to_owned();
    }
    format!("{}/s", table::bytes((bytes as f64 / time.as_secs_f64()) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_source() {
        let printed = "\
{\"event\": \"listening\", \"kind\": \"ReplicationDestination\"}
{\"event\": \"result\", \"kind\": \"ReplicationDestination\", \"counts\": {\"filesCompared\": 1}}
{\"event\": \"result\", \"kind\": \"ReplicationSource\", \"counts\": {\"filesCompared\": 7}}
";
        assert_eq!(counts(printed).unwrap().files_compared, 7);
        assert_eq!(counts("no JSON at all"), None);
    }

    #[test]
    fn the_manifest_that_users_start_from_is_there() {
        let text = read(&repository::root().join(MANIFEST)).unwrap();
        assert_eq!(text.matches("\nkind: ").count(), 2);
    }
}
