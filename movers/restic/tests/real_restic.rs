//! A repository that is opened, locked and forgotten from here and by real restic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use volsync_bucket::{Directory, Store};
use volsync_mover::{Classified as _, Shutdown};
use volsync_mover_restic::Error;
use volsync_mover_restic::lock::{Holder, Lock, Mode};
use volsync_mover_restic::repository::{Opened, Repository};
use volsync_mover_restic::retain::{Policy, Taken};
use volsync_testing::{Scratch, peers};

/// Debian's and a current one.
fn both() -> [PathBuf; 2] {
    [peers::tool("restic"), peers::installed("bin/restic-current")]
}

fn command(program: &Path, place: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("RESTIC_REPOSITORY", place.join("repo"))
        .env("RESTIC_PASSWORD", "secret")
        .env("TZ", "UTC")
        .arg("--no-cache")
        .current_dir(place);
    command
}

/// What restic said, and whether it was content.
fn restic(program: &Path, place: &Path, args: &[&str]) -> (bool, String) {
    let output = command(program, place).args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn store(place: &Path) -> Arc<dyn Store> {
    Arc::new(Directory::new(place.join("repo")))
}

async fn open(place: &Path) -> Repository {
    match Repository::open(&store(place), "secret").await.unwrap() {
        Opened::Repository(repository) => repository,
        Opened::Missing => panic!("there is no repository"),
    }
}

async fn take(repository: &Repository, mode: Mode) -> Result<Lock, Error> {
    let locks = repository.locks(Holder::current("uid-1"));
    locks.take(mode, Duration::ZERO, &Shutdown::default()).await
}

#[tokio::test]
async fn restic_uses_a_repository_made_here_and_we_open_one_that_it_made() {
    for program in both() {
        let scratch = Scratch::new();
        let place = scratch.path();
        std::fs::write(place.join("file"), "content").unwrap();
        let made = Repository::create(&store(place), "secret", "here").await.unwrap();
        for args in [&["backup", "file"][..], &["check", "--read-data"], &["prune"]] {
            let (fine, said) = restic(&program, place, args);
            assert!(fine, "{args:?}: {said}");
        }
        assert_eq!(open(place).await.snapshots().await.unwrap().len(), 1);

        std::fs::remove_dir_all(place.join("repo")).unwrap();
        let (fine, said) = restic(&program, place, &["init"]);
        assert!(fine, "{said}");
        assert_ne!(open(place).await.id(), made.id());
        let wrong = Repository::open(&store(place), "another").await.unwrap_err();
        assert!(matches!(wrong, Error::WrongPassword { .. }), "{wrong}");
        assert_eq!(wrong.retry(), volsync_contract::Retry::Permanent);
    }
}

#[tokio::test]
async fn restic_honours_our_locks() {
    for program in both() {
        let scratch = Scratch::new();
        let place = scratch.path();
        std::fs::write(place.join("file"), "content").unwrap();
        let repository = Repository::create(&store(place), "secret", "here").await.unwrap();
        let shared = take(&repository, Mode::Shared).await.unwrap();
        assert!(restic(&program, place, &["backup", "file"]).0);
        let (fine, said) = restic(&program, place, &["prune"]);
        assert!(!fine && said.contains("already locked"), "{said}");
        let (_, said) = restic(&program, place, &["unlock"]);
        let refused = restic(&program, place, &["prune"]);
        assert!(!refused.0, "unlock removed a lock that is held: {said}");
        shared.release().await.unwrap();
        let exclusive = take(&repository, Mode::Exclusive).await.unwrap();
        let (fine, said) = restic(&program, place, &["backup", "file"]);
        assert!(!fine && said.contains("already locked exclusively"), "{said}");
        exclusive.release().await.unwrap();
        assert!(restic(&program, place, &["prune"]).0);
    }
}

/// A backup of restic that goes on until it is killed.
fn endless(program: &Path, place: &Path) -> Child {
    let mut child = command(program, place)
        .args(["backup", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let locks = place.join("repo/locks");
    for _ in 0..600 {
        if std::fs::read_dir(&locks).is_ok_and(|mut locks| locks.next().is_some()) {
            return child;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("restic has taken no lock in 30 s");
}

#[tokio::test]
async fn we_honour_the_locks_of_restic_while_it_lives() {
    for program in both() {
        let scratch = Scratch::new();
        let place = scratch.path();
        let repository = Repository::create(&store(place), "secret", "here").await.unwrap();
        let mut running = endless(&program, place);
        take(&repository, Mode::Shared).await.unwrap().release().await.unwrap();
        let refused = take(&repository, Mode::Exclusive).await.unwrap_err();
        assert!(matches!(refused, Error::Locked { .. }), "{refused}");
        let locks = repository.locks(Holder::current("uid-1"));
        assert_eq!(locks.remove_stale().await.unwrap(), 0);

        running.kill().unwrap();
        running.wait().unwrap();
        assert_eq!(locks.remove_stale().await.unwrap(), 1);
        take(&repository, Mode::Exclusive).await.unwrap().release().await.unwrap();
    }
}

#[test]
fn the_same_snapshots_are_kept_as_by_restic() {
    let times = [
        "2024-12-30 10:00:00",
        "2025-01-01 00:00:00",
        "2025-01-31 12:00:00",
        "2025-02-28 12:00:00",
        "2025-03-01 11:59:59",
        "2025-03-31 10:00:00",
        "2025-03-31 10:59:59",
        "2025-03-31 11:00:00",
    ];
    // Debian's does not keep the oldest of all yet where there are fewer than are to be kept.
    let program = peers::installed("bin/restic-current");
    let scratch = Scratch::new();
    let place = scratch.path();
    std::fs::write(place.join("file"), "content").unwrap();
    assert!(restic(&program, place, &["init"]).0);
    for time in times {
        let (fine, said) =
            restic(&program, place, &["backup", "--host", "volsync", "--time", time, "file"]);
        assert!(fine, "{said}");
    }
    for options in [
        "--keep-last 1",
        "--keep-last 3",
        "--keep-hourly 2",
        "--keep-daily 3",
        "--keep-weekly 2",
        "--keep-weekly 100",
        "--keep-monthly 2",
        "--keep-monthly 3",
        "--keep-yearly 2",
        "--keep-within 1h",
        "--keep-within 1m",
        "--keep-within 31d",
        "--keep-within 1y2m",
        "--keep-hourly 1 --keep-daily 2 --keep-within 1d1h",
    ] {
        let output = command(&program, place)
            .args(["forget", "--dry-run", "--json"])
            .args(options.split(' '))
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut snapshots: Vec<(String, bool)> = Vec::new();
        for (list, kept) in [("keep", true), ("remove", false)] {
            for snapshot in said[0][list].as_array().into_iter().flatten() {
                snapshots.push((snapshot["time"].as_str().unwrap().to_owned(), kept));
            }
        }
        assert_eq!(snapshots.len(), times.len(), "{said}");
        snapshots.sort();
        snapshots.reverse();
        let taken: Vec<Taken> =
            snapshots.iter().map(|(time, _)| Taken::parse(time).unwrap()).collect();
        let theirs: Vec<bool> = snapshots.iter().map(|(_, kept)| *kept).collect();
        let ours = Policy::parse(options).unwrap().keep(&taken, Timestamp::now());
        assert_eq!(ours, theirs, "{options}: {snapshots:?}");
    }
}
