//! Times backups and restores of a directory with a repository in a local directory.
//!
//! `local backup REPOSITORY DIRECTORY [PARENT]`, `local restore REPOSITORY SNAPSHOT DIRECTORY`.
//! The repository is opened by the `restic` on the PATH, which has the password from
//! `RESTIC_PASSWORD` and prints the master key.
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use volsync_bucket::Directory;
use volsync_contract::Outcome;
use volsync_mover::{Monitor, Root, Shutdown};
use volsync_mover_restic::archive::{ArchiveOptions, archive};
use volsync_mover_restic::format::{Id, Key, RepositoryFiles};
use volsync_mover_restic::restore::{RestoreOptions, restore};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    match args[..] {
        ["backup", repository, directory] => backup(&runtime, repository, directory, None),
        ["backup", repository, directory, parent] => {
            backup(&runtime, repository, directory, Some(parent))
        }
        ["restore", repository, snapshot, directory] => {
            restore_to(&runtime, repository, snapshot, directory)
        }
        _ => bail!("backup REPOSITORY DIRECTORY [PARENT] | restore REPOSITORY SNAPSHOT DIRECTORY"),
    }
}

fn open(path: &str) -> anyhow::Result<Arc<RepositoryFiles>> {
    let json = |what: &str| -> anyhow::Result<serde_json::Value> {
        let output =
            Command::new("restic").args(["--no-cache", "-r", path, "cat", what]).output()?;
        serde_json::from_slice(&output.stdout).context("restic cannot open it")
    };
    let (key, config) = (json("masterkey")?, json("config")?);
    let bytes = |value: &serde_json::Value| {
        let text = value.as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(text)
    };
    let short = "the key is too short";
    let key = Key::new(
        bytes(&key["encrypt"])?.first_chunk().context(short)?,
        bytes(&key["mac"]["k"])?.first_chunk().context(short)?,
        bytes(&key["mac"]["r"])?.first_chunk().context(short)?,
    )?;
    let polynomial = config["chunker_polynomial"].as_str().unwrap_or_default();
    let version = config["version"].as_u64().unwrap_or_default();
    let polynomial = u64::from_str_radix(polynomial, 16)?;
    let store = Arc::new(Directory::new(Path::new(path)));
    Ok(Arc::new(RepositoryFiles::new(store, key, u32::try_from(version)?, polynomial)))
}

fn id(text: &str) -> anyhow::Result<Id> {
    Id::from_hex(text.as_bytes()).context("a snapshot is named by 64 hexadecimal digits")
}

fn backup(
    runtime: &tokio::runtime::Runtime,
    repository: &str,
    directory: &str,
    parent: Option<&str>,
) -> anyhow::Result<()> {
    let files = open(repository)?;
    let started = Instant::now();
    let index = runtime.block_on(files.load_index())?;
    println!("{:?} {} blobs in the index", started.elapsed(), index.len());
    let parent = match parent {
        Some(text) => Some((id(text)?, runtime.block_on(files.load_snapshot(id(text)?))?)),
        None => None,
    };
    let options = ArchiveOptions::new("volsync", "/data");
    let monitor = Monitor::new(false);
    let archived = archive(
        &files,
        &index,
        &Root::open(Path::new(directory))?,
        parent.as_ref().map(|(id, snapshot)| (*id, snapshot)),
        &options,
        (&monitor, &Shutdown::default()),
        runtime.handle(),
    )?;
    println!("{:?} {} {:?}", started.elapsed(), archived.id, archived.snapshot.summary);
    println!("{:?}", monitor.report(Outcome::Complete).skipped);
    Ok(())
}

fn restore_to(
    runtime: &tokio::runtime::Runtime,
    repository: &str,
    snapshot: &str,
    directory: &str,
) -> anyhow::Result<()> {
    let files = open(repository)?;
    let started = Instant::now();
    let index = runtime.block_on(files.load_index())?;
    let tree = runtime.block_on(files.load_snapshot(id(snapshot)?))?.tree;
    let monitor = Monitor::new(false);
    let options = RestoreOptions { delete: true, threads: 2, reads: 4, memory: 64 << 20 };
    let restored = restore(
        &files,
        &index,
        &Root::open(Path::new(directory))?,
        tree,
        &options,
        (&monitor, &Shutdown::default()),
        runtime.handle(),
    )?;
    let report = monitor.report(Outcome::Complete);
    println!("{:?} {restored:?} {:?} {:?}", started.elapsed(), report.counts, report.skipped);
    Ok(())
}
