//! Backups and restores side by side with a current restic: each reads what the other wrote.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use volsync_bucket::Directory;
use volsync_contract::Outcome;
use volsync_mover::{Monitor, Root, Shutdown};
use volsync_mover_restic::archive::{ArchiveOptions, Archived, archive};
use volsync_mover_restic::format::{Error, Id, Key, RepositoryFiles};
use volsync_mover_restic::restore::{RestoreOptions, Restored, restore};
use volsync_testing::tree::{Maker, hard_cases, kernel_like, mutate, random_tree};
use volsync_testing::{Privilege, Scratch, Seed, compare, peers};

/// A repository that real restic made.
struct Repository {
    path: PathBuf,
    files: Arc<RepositoryFiles>,
    runtime: tokio::runtime::Runtime,
}

fn restic<S: AsRef<OsStr>>(repository: &Path, args: &[S], within: &Path) -> (bool, String) {
    let output = Command::new(peers::installed("bin/restic-current"))
        .env("RESTIC_REPOSITORY", repository)
        .env("RESTIC_PASSWORD", "secret")
        .env("TZ", "UTC")
        .arg("--no-cache")
        .args(args)
        .current_dir(within)
        .output()
        .expect("restic starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), if output.status.success() { said } else { said + &complained })
}

impl Repository {
    fn new(path: PathBuf, version: &str) -> Self {
        let (made, said) =
            restic(&path, &["init", "--repository-version", version], Path::new("/"));
        assert!(made, "{said}");
        let json = |what: &str| -> serde_json::Value {
            let (read, said) = restic(&path, &["cat", what], Path::new("/"));
            assert!(read, "{said}");
            serde_json::from_str(&said).expect("restic prints JSON")
        };
        let (key, config) = (json("masterkey"), json("config"));
        let bytes = |value: &serde_json::Value| {
            use base64::Engine as _;
            let text = value.as_str().expect("a key is a string");
            base64::engine::general_purpose::STANDARD.decode(text).expect("a key is in Base64")
        };
        let key = Key::new(
            &bytes(&key["encrypt"]).try_into().expect("32 bytes"),
            &bytes(&key["mac"]["k"]).try_into().expect("16 bytes"),
            &bytes(&key["mac"]["r"]).try_into().expect("16 bytes"),
        )
        .expect("a key");
        let polynomial = config["chunker_polynomial"].as_str().expect("a polynomial");
        let files = RepositoryFiles::new(
            Arc::new(Directory::new(&path)),
            key,
            u32::try_from(config["version"].as_u64().expect("a version")).expect("a version"),
            u64::from_str_radix(polynomial, 16).expect("a polynomial in hexadecimal"),
        );
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        Self { path, files: Arc::new(files), runtime }
    }

    fn restic(&self, args: &[&str], within: &Path) -> String {
        let (success, said) = restic(&self.path, args, within);
        assert!(success, "restic {args:?}: {said}");
        said
    }

    /// Real restic reads every byte.
    fn check(&self) {
        self.restic(&["check", "--read-data"], Path::new("/"));
    }

    fn restic_backup(&self, volume: &Path) -> (Id, serde_json::Value) {
        let said = self.restic(&["backup", "--json", "--host", "volsync", "."], volume);
        let summary: serde_json::Value =
            serde_json::from_str(said.lines().last().expect("a summary")).expect("JSON");
        (Id::from_hex(summary["snapshot_id"].as_str().unwrap().as_bytes()).unwrap(), summary)
    }

    fn archive(&self, volume: &Path, parent: Option<Id>) -> (Archived, Monitor) {
        let index = self.runtime.block_on(self.files.load_index()).unwrap();
        let parent =
            parent.map(|id| (id, self.runtime.block_on(self.files.load_snapshot(id)).unwrap()));
        let monitor = Monitor::new(false);
        let options = ArchiveOptions {
            pack_size: 1 << 20,
            ..ArchiveOptions::new("volsync", volume.display().to_string())
        };
        let archived = archive(
            &self.files,
            &index,
            &Root::open(volume).unwrap(),
            parent.as_ref().map(|(id, snapshot)| (*id, snapshot)),
            &options,
            (&monitor, &Shutdown::default()),
            self.runtime.handle(),
        )
        .unwrap();
        (archived, monitor)
    }

    fn tree(&self, snapshot: Id) -> Id {
        self.runtime.block_on(self.files.load_snapshot(snapshot)).unwrap().tree
    }

    fn restore(&self, snapshot: Id, to: &Path, delete: bool) -> (Result<Restored, Error>, Monitor) {
        let index = self.runtime.block_on(self.files.load_index()).unwrap();
        let monitor = Monitor::new(false);
        let options = RestoreOptions { delete, threads: 2, reads: 4, memory: 16 << 20 };
        let restored = restore(
            &self.files,
            &index,
            &Root::open(to).unwrap(),
            self.tree(snapshot),
            &options,
            (&monitor, &Shutdown::default()),
            self.runtime.handle(),
        );
        (restored, monitor)
    }

    fn restore_whole(&self, snapshot: Id, to: &Path) -> Monitor {
        let (restored, monitor) = self.restore(snapshot, to, true);
        assert_eq!(restored.unwrap().damaged, 0);
        assert!(monitor.is_complete(), "{:?}", monitor.report(Outcome::Incomplete).skipped);
        monitor
    }
}

/// The root of a volume is not part of a snapshot of ".", to restic as to us.
fn same_root(from: &Path, to: &Path) {
    let metadata = std::fs::metadata(from).unwrap();
    std::fs::set_permissions(to, metadata.permissions()).unwrap();
    std::fs::File::open(to).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
}

/// What restic does not restore goes: sockets, names of attributes that are not UTF-8, further
/// names of links and pipes.
fn leave_out(dir: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    for path in compare::walk(dir) {
        let path = dir.join(path);
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        if kind.is_socket() || (metadata.nlink() > 1 && (kind.is_symlink() || kind.is_fifo())) {
            std::fs::remove_file(path).unwrap();
            continue;
        }
        let name = OsStr::from_bytes(b"user.odd \xff name");
        match rustix::fs::lremovexattr(&path, name) {
            Ok(()) | Err(rustix::io::Errno::NODATA | rustix::io::Errno::PERM) => {}
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}

#[test]
fn what_we_wrote_restic_checks_and_restores() {
    for version in ["1", "2"] {
        let scratch = Scratch::with_attributes();
        let volume = scratch.dir("volume");
        hard_cases(&volume, Privilege::own());
        leave_out(&volume);
        let repository = Repository::new(scratch.join("repository"), version);
        let (archived, monitor) = repository.archive(&volume, None);
        assert!(monitor.is_complete(), "{:?}", monitor.report(Outcome::Incomplete).skipped);
        repository.check();
        let target = scratch.dir("target");
        let id = archived.id.to_string();
        repository.restic(&["restore", &id, "-t", "."], &target);
        same_root(&volume, &target);
        let said = compare::rsync_differences(&volume, &target);
        assert!(said.is_empty(), "{said}");
    }
}

/// More files than may be in work at a time wait in the directories above: whoever has been let in must
/// get on, whatever lies below.
#[test]
fn deep_directories_of_many_files_are_restored_and_restored_over_themselves() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let scratch = Scratch::new();
        let (volume, target) = (scratch.dir("volume"), scratch.dir("target"));
        let mut dir = volume.clone();
        for depth in 0..40 {
            for number in 0..31 {
                std::fs::write(dir.join(format!("a{number}")), format!("{depth} {number}"))
                    .unwrap();
            }
            dir.push("z");
            std::fs::create_dir(&dir).unwrap();
        }
        let repository = Repository::new(scratch.join("repository"), "2");
        let (archived, _) = repository.archive(&volume, None);
        for _ in 0..2 {
            repository.restore_whole(archived.id, &target);
            assert_eq!(compare::content(&volume), compare::content(&target));
        }
        done.send(()).unwrap();
    });
    let patience = std::time::Duration::from_secs(120);
    ended.recv_timeout(patience).expect("the restores come to their end, and to a good one");
}

#[test]
fn our_own_snapshots_keep_further_names_of_links_and_pipes() {
    let scratch = Scratch::with_attributes();
    let volume = scratch.dir("volume");
    let make = Maker::new(&volume, Privilege::own());
    let link = make.symlink("link", "nowhere");
    make.hard_link("same-link", &link);
    let pipe = make.special("pipe", rustix::fs::FileType::Fifo, 0, 0);
    make.hard_link("same-pipe", &pipe);
    let file = make.file("file", b"content");
    make.dir("below");
    make.hard_link("below/same-file", &file);
    let repository = Repository::new(scratch.join("repository"), "2");
    let (archived, _) = repository.archive(&volume, None);
    repository.check();
    let target = scratch.dir("target");
    for _ in 0..2 {
        repository.restore_whole(archived.id, &target);
        same_root(&volume, &target);
        compare::assert_same(&volume, &target);
    }
}

#[test]
fn what_restic_wrote_we_restore() {
    let scratch = Scratch::with_attributes();
    let volume = scratch.dir("volume");
    hard_cases(&volume, Privilege::own());
    leave_out(&volume);
    let repository = Repository::new(scratch.join("repository"), "2");
    let (id, _) = repository.restic_backup(&volume);
    let target = scratch.dir("target");
    repository.restore_whole(id, &target);
    same_root(&volume, &target);
    compare::assert_same(&volume, &target);
    // And once more over what is there: nothing is written.
    let before = compare::stamps(&target);
    let monitor = repository.restore_whole(id, &target);
    assert_eq!(compare::stamps(&target), before);
    assert_eq!(monitor.report(Outcome::Complete).counts.files_sent, 0);
}

#[test]
fn trees_of_a_volume_are_the_same_whoever_wrote_them() {
    let scratch = Scratch::with_attributes();
    let volume = scratch.dir("volume");
    kernel_like(&volume, 2000);
    let make = Maker::new(&volume, Privilege::own());
    let mut seed = Seed::new(7);
    for length in [0, 1, 512 << 10, (512 << 10) + 1, 3 << 20, 20 << 20] {
        make.file(format!("length-{length}"), seed.bytes(length));
    }
    make.file("zeros", vec![0; 9 << 20]);
    for name in [
        &b"a<b>&\"c\\"[..],
        b"new\nline\x7f",
        b"\xff\xfe",
        "\u{e4}\u{a0}\u{200b}\u{1f600}".as_bytes(),
    ] {
        make.file(name, b"x");
        make.symlink([name, b".link"].concat(), name);
    }
    let repository = Repository::new(scratch.join("repository"), "2");
    let (theirs, _) = repository.restic_backup(&volume);
    let (ours, _) = repository.archive(&volume, None);
    assert_eq!(ours.snapshot.tree, repository.tree(theirs));
    let summary = ours.snapshot.summary.clone().unwrap();
    assert_eq!((summary.data_blobs, summary.tree_blobs), (0, 0));
    // With a parent of restic's nothing is read; with one of ours restic reads nothing.
    let (unchanged, _) = repository.archive(&volume, Some(theirs));
    let summary = unchanged.snapshot.summary.unwrap();
    assert_eq!((summary.files_new, summary.files_changed, summary.dirs_changed), (0, 0, 0));
    let (_, said) = repository.restic_backup(&volume);
    assert_eq!(
        (&said["files_new"], &said["files_changed"], &said["dirs_changed"]),
        (&0.into(), &0.into(), &0.into())
    );
    repository.check();
}

#[test]
fn volumes_that_change_come_back_as_they_were_each_time() {
    for round in 0..6 {
        let scratch = Scratch::with_attributes();
        let volume = scratch.dir("volume");
        random_tree(&volume, round, 150, Privilege::own());
        let repository = Repository::new(scratch.join("repository"), "2");
        let mut parent = None;
        let target = scratch.dir("target");
        for step in 0..4 {
            leave_out(&volume);
            let id = if step % 2 == 0 {
                repository.archive(&volume, parent).0.id
            } else {
                repository.restic_backup(&volume).0
            };
            parent = Some(id);
            repository.restore_whole(id, &target);
            same_root(&volume, &target);
            compare::assert_same(&volume, &target);
            mutate(&volume, round * 10 + step, 30, Privilege::own());
        }
        repository.check();
    }
}

#[test]
fn a_file_that_cannot_be_had_whole_is_named_and_is_not_there() {
    let scratch = Scratch::new();
    let volume = scratch.dir("volume");
    kernel_like(&volume, 300);
    let repository = Repository::new(scratch.join("repository"), "2");
    let (archived, _) = repository.archive(&volume, None);
    let source = compare::content(&volume);
    let data = repository.path.join("data");
    let mut packs: Vec<PathBuf> =
        compare::walk(&data).into_iter().map(|path| data.join(path)).collect();
    packs.retain(|path| path.is_file());
    let mut seed = Seed::new(3);
    let mut damaged = 0;
    for trial in 0..60 {
        let pack = seed.pick(&packs).clone();
        let whole = std::fs::read(&pack).unwrap();
        let mut bytes = whole.clone();
        match trial % 3 {
            0 => {
                let at = seed.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << (trial % 8);
                std::fs::write(&pack, &bytes).unwrap();
            }
            1 => {
                bytes.truncate(seed.below(bytes.len() as u64) as usize);
                std::fs::write(&pack, &bytes).unwrap();
            }
            _ => std::fs::remove_file(&pack).unwrap(),
        }
        let target = scratch.dir(format!("target-{trial}"));
        let (restored, monitor) = repository.restore(archived.id, &target, false);
        let there: BTreeMap<_, _> = compare::content(&target);
        for (path, content) in &there {
            assert_eq!(source.get(path), Some(content), "{}", path.display());
        }
        match restored {
            Ok(Restored { damaged: count }) => {
                damaged += count;
                assert_eq!(count == 0, there.len() == source.len());
                assert_eq!(count == 0, monitor.is_complete());
            }
            Err(error) => assert!(!there.contains_key(Path::new("a")), "{error}"),
        }
        std::fs::write(&pack, whole).unwrap();
        std::fs::remove_dir_all(target).unwrap();
    }
    assert!(damaged > 0);
}
