//! Random trees and random changes to them, the same for the same seed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::Maker;
use super::attributes::try_xattr;
use crate::as_user::Privilege;
use crate::seed::Seed;

/// A tree of about `entries` entries of all kinds that `privilege` may make.
pub fn random_tree(dir: &Path, seed: u64, entries: usize, privilege: Privilege) {
    let make = Maker::new(dir, privilege);
    let mut seed = Seed::new(seed);
    let mut dirs = vec![String::new()];
    for number in 0..entries {
        let parent = seed.pick(&dirs).clone();
        let name = format!("{parent}{}", new_name(&mut seed, number));
        if seed.percent(15) {
            make.dir(&name);
            dirs.push(format!("{name}/"));
        } else {
            make_entry(&make, &name, &mut seed);
        }
    }
}

/// A source tree of about `files` small text files, some twenty a directory, as kernel sources have.
pub fn kernel_like(dir: &Path, files: usize) {
    let make = Maker::new(dir, Privilege::own());
    let mut seed = Seed::new(files as u64);
    for number in 0..files {
        let (top, below) = (number / 400, number / 20);
        if number % 20 == 0 {
            make.dir(format!("drivers{top}/part{below}"));
        }
        let size = 1usize << (6 + seed.below(11));
        let size = size + seed.below(size as u64) as usize;
        fs::write(make.path(format!("drivers{top}/part{below}/file{number}.c")), seed.text(size))
            .unwrap();
    }
}

/// One thing that [`mutate`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Some bytes inside a file become others.
    Edit,
    /// A file grows at its end.
    Append,
    /// A file loses its end.
    Truncate,
    /// A file or a whole directory goes.
    Delete,
    /// Something gets another name, perhaps in another directory.
    Rename,
    /// A file becomes a directory, a directory a link, and so on.
    ChangeKind,
    /// Only the mode changes.
    ChangeMode,
    /// Only the modification time changes.
    Touch,
    /// Something new appears.
    Add,
    /// A file gets one more name.
    HardLink,
    /// An extended attribute is set.
    Attribute,
}

const CHANGES: &[Change] = &[
    Change::Edit,
    Change::Append,
    Change::Truncate,
    Change::Delete,
    Change::Rename,
    Change::ChangeKind,
    Change::ChangeMode,
    Change::Touch,
    Change::Add,
    Change::Add,
    Change::Add,
    Change::HardLink,
    Change::Attribute,
];

/// Makes so many random changes to a tree; returns what was changed, for the message of a failure.
pub fn mutate(
    dir: &Path,
    seed: u64,
    changes: usize,
    privilege: Privilege,
) -> Vec<(Change, PathBuf)> {
    let make = Maker::new(dir, privilege);
    let mut seed = Seed::new(seed ^ 0x00c0_ffee);
    let mut made = Vec::new();
    for _ in 0..changes {
        let all = everything(dir);
        let change = if all.is_empty() { Change::Add } else { *seed.pick(CHANGES) };
        let path = if all.is_empty() { dir.to_owned() } else { seed.pick(&all).clone() };
        if apply(&make, change, &path, &all, &mut seed) {
            made.push((change, path.strip_prefix(dir).unwrap().to_owned()));
        }
    }
    made
}

fn apply(make: &Maker, change: Change, path: &Path, all: &[PathBuf], seed: &mut Seed) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    let name =
        |path: &Path| path.strip_prefix(&make.root).unwrap().as_os_str().as_bytes().to_owned();
    let beside = |seed: &mut Seed| {
        let dirs: Vec<_> = all
            .iter()
            .filter(|path| fs::symlink_metadata(path).is_ok_and(|at| at.is_dir()))
            .collect();
        let parent = if dirs.is_empty() { &make.root } else { *seed.pick(&dirs) };
        let unused = 1_000_000 + seed.below(1 << 40) as usize;
        parent.join(new_name(seed, unused))
    };
    match change {
        Change::Edit | Change::Append | Change::Truncate => {
            if !metadata.is_file() {
                return false;
            }
            make.mode(path, 0o600);
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            let (size, bytes) = (metadata.size(), 1 + seed.below(3000) as usize);
            match change {
                Change::Edit => file.write_all_at(&seed.bytes(bytes), seed.below(size)).unwrap(),
                Change::Append => file.write_all_at(&seed.bytes(bytes), size).unwrap(),
                _ => file.set_len(seed.below(size)).unwrap(),
            }
            make.mode(path, metadata.mode() & 0o7777);
        }
        Change::Delete => remove(path, &metadata),
        Change::Rename => {
            let to = beside(seed);
            if to.starts_with(path) || to.exists() {
                return false;
            }
            fs::rename(path, to).unwrap();
        }
        Change::ChangeKind => {
            remove(path, &metadata);
            if metadata.is_dir() {
                make_entry(make, name(path), seed);
            } else if seed.percent(50) {
                make.dir(name(path));
                make.file([&name(path)[..], b"/now a directory"].concat(), "");
            } else {
                make.symlink(name(path), "now/a/link");
            }
        }
        Change::ChangeMode => {
            if metadata.is_symlink() {
                return false;
            }
            let modes: &[u32] = if metadata.is_dir() {
                &[0o755, 0o700, 0o1777]
            } else {
                &[0o600, 0o755, 0o444, 0o4711]
            };
            make.mode(path, *seed.pick(modes));
        }
        Change::Touch => {
            make.mtime(path, seed.below(1 << 31) as i64, seed.below(1_000_000_000) as i64)
        }
        Change::Add => make_entry(make, name(&beside(seed)), seed),
        Change::HardLink => {
            if !metadata.is_file() {
                return false;
            }
            make.hard_link(name(&beside(seed)), path);
        }
        Change::Attribute => {
            if !metadata.is_file() && !metadata.is_dir() {
                return false;
            }
            let value_bytes = seed.below(60) as usize;
            let value = seed.bytes(value_bytes);
            make.mode(path, 0o700);
            try_xattr(path, format!("user.test{}", seed.below(3)), &value);
            make.mode(path, metadata.mode() & 0o7777);
        }
    }
    true
}

fn new_name(seed: &mut Seed, number: usize) -> String {
    const PARTS: &[&str] = &["report", "café", "a b", "-x", "data\n", "%41", ".rc", "ÿ", "IMG_"];
    format!("{}{number}", seed.pick(PARTS))
}

fn make_entry(make: &Maker, name: impl AsRef<[u8]>, seed: &mut Seed) {
    let name = name.as_ref();
    if fs::symlink_metadata(make.path(name)).is_ok() {
        return;
    }
    match seed.below(20) {
        0 => drop(make.symlink(name, format!("to/{}", seed.below(100)))),
        1 => drop(make.special(name, FileType::Fifo, 0, 0)),
        2 => {
            let hole = seed.below(4 << 20);
            drop(make.sparse(name, hole + 100_000, &[(hole, b"after a hole")]));
        }
        3 => drop(make.dir(name)),
        4 => {
            let size = seed.below(1 << 20) as usize;
            make.file(name, seed.bytes(size));
        }
        _ => {
            let magnitude = 4 + seed.below(13);
            let size = seed.below(1 << magnitude) as usize;
            let path = make.file(name, seed.text(size));
            make.mode(&path, *seed.pick(&[0o644, 0o600, 0o755, 0o444]));
        }
    }
}

fn remove(path: &Path, metadata: &fs::Metadata) {
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
}

/// Every path below, in an order that depends on names alone.
fn everything(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
