//! Are two trees the same? Asked of a real rsync, and again of code that shares nothing with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peers;

/// Everything in which `b` differs from `a` by the judgement of a real rsync, down to the
/// nanosecond; empty when it finds nothing.
pub fn rsync_differences(a: &Path, b: &Path) -> String {
    rsync(&["-aHAXSn", "--delete", "--itemize-changes", "--checksum"], a, b)
}

/// Copies `a` to `b` by a real rsync; returns its complaints.
pub fn rsync_copy(a: &Path, b: &Path) -> String {
    rsync(&["-aHAXS", "--delete"], a, b)
}

fn rsync(options: &[&str], a: &Path, b: &Path) -> String {
    let output = Command::new(peers::tool("rsync"))
        // A mover that was called in this process may have left it in a directory that is gone.
        .current_dir("/")
        .env("LC_ALL", "C")
        .args(options)
        .args(["--numeric-ids", "--modify-window=-1", "--"])
        .arg(a.join(""))
        .arg(b.join(""))
        .output()
        .expect("rsync starts");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        said.push_str(&format!("rsync ended with {}", output.status));
    }
    said
}

/// Fails unless the trees are the same to rsync, to our own comparison, and as sparse.
#[track_caller]
pub fn assert_same(a: &Path, b: &Path) {
    let said = rsync_differences(a, b);
    assert!(said.is_empty(), "rsync sees differences:\n{}", first_lines(&said));
    let own = differences(a, b);
    assert!(
        own.is_empty(),
        "differences that rsync does not see:\n{}",
        first_lines(&own.join("\n"))
    );
    let thick = grown_thick(a, b);
    assert!(thick.is_empty(), "no longer sparse:\n{}", first_lines(&thick.join("\n")));
}

fn first_lines(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().take(40).collect();
    let more = text.lines().count().saturating_sub(lines.len());
    let rest = format!("… and {more} more lines");
    if more > 0 {
        lines.push(&rest);
    }
    lines.join("\n")
}

/// Files of `b` that take more blocks than their likes in `a`.
pub fn grown_thick(a: &Path, b: &Path) -> Vec<String> {
    let mut thick = Vec::new();
    for path in walk(a) {
        let Ok(before) = fs::symlink_metadata(a.join(&path)) else {
            continue;
        };
        let sparse = before.is_file() && before.blocks() * 512 + 4096 <= before.size();
        let Ok(after) = fs::symlink_metadata(b.join(&path)) else {
            continue;
        };
        if sparse && after.blocks() > before.blocks() + 128 {
            thick.push(format!(
                "{}: {} blocks became {}",
                path.display(),
                before.blocks(),
                after.blocks()
            ));
        }
    }
    thick
}

/// Everything in which `b` differs from `a`, one line each: names, kinds, modes, owners, times,
/// link targets, devices, content byte for byte, extended attributes with ACLs, hard links.
pub fn differences(a: &Path, b: &Path) -> Vec<String> {
    let (mut left, mut right) = (walk(a), walk(b));
    left.push(PathBuf::new());
    right.push(PathBuf::new());
    let mut found = Vec::new();
    for path in &right {
        if fs::symlink_metadata(a.join(path)).is_err() {
            found.push(format!("{}: only in the second", path.display()));
        }
    }
    let mut names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    for path in &left {
        let (in_a, in_b) = (a.join(path), b.join(path));
        let was = fs::symlink_metadata(&in_a).unwrap();
        let Ok(is) = fs::symlink_metadata(&in_b) else {
            found.push(format!("{}: only in the first", path.display()));
            continue;
        };
        let mut differ = |what: &str, was: String, is: String| {
            if was != is {
                found.push(format!("{}: {what} was {was}, is {is}", path.display()));
            }
        };
        differ("mode", format!("{:o}", was.mode()), format!("{:o}", is.mode()));
        differ(
            "owner",
            format!("{}:{}", was.uid(), was.gid()),
            format!("{}:{}", is.uid(), is.gid()),
        );
        let time = |of: &fs::Metadata| format!("{}.{:09}", of.mtime(), of.mtime_nsec());
        differ("mtime", time(&was), time(&is));
        if was.is_symlink() && is.is_symlink() {
            differ(
                "target",
                format!("{:?}", fs::read_link(&in_a)),
                format!("{:?}", fs::read_link(&in_b)),
            );
        }
        if was.file_type().is_char_device() || was.file_type().is_block_device() {
            differ("device", format!("{:x}", was.rdev()), format!("{:x}", is.rdev()));
        }
        differ("attributes", format!("{:?}", xattrs(&in_a)), format!("{:?}", xattrs(&in_b)));
        if was.is_file() && is.is_file() && !same_bytes(&in_a, &in_b) {
            found.push(format!(
                "{}: content differs ({} and {} bytes)",
                path.display(),
                was.size(),
                is.size()
            ));
        }
        if !was.is_dir() && was.nlink() > 1 {
            let first = names.entry((was.dev(), was.ino())).or_insert_with(|| path.clone());
            let twin = fs::symlink_metadata(b.join(&*first)).ok();
            if twin.is_some_and(|twin| twin.ino() != is.ino()) {
                found.push(format!(
                    "{}: no longer the same file as {}",
                    path.display(),
                    first.display()
                ));
            }
        }
        if !was.is_dir() && is.nlink() > was.nlink() {
            found.push(format!(
                "{}: has {} names, had {}",
                path.display(),
                is.nlink(),
                was.nlink()
            ));
        }
    }
    found
}

fn same_bytes(a: &Path, b: &Path) -> bool {
    match (fs::File::open(a), fs::File::open(b)) {
        (Ok(mut a), Ok(mut b)) => {
            let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
            loop {
                let (m, n) = (fill(&mut a, &mut left), fill(&mut b, &mut right));
                if left[..m] != right[..n] {
                    return false;
                }
                if m == 0 {
                    return true;
                }
            }
        }
        (Err(_), Err(_)) => true,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

fn fill(file: &mut fs::File, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]).unwrap() {
            0 => break,
            read => filled += read,
        }
    }
    filled
}

/// The extended attributes of a path itself, ACLs among them.
pub fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let Ok(length) = rustix::fs::llistxattr(path, &mut [0u8; 0][..]) else {
        return attributes;
    };
    let mut names = vec![0; length];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let read = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or(0);
        let shown = value[..read].escape_ascii().to_string();
        attributes.insert(name.escape_ascii().to_string(), shown);
    }
    attributes
}

/// What is behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// A hash of all its bytes.
        hash: [u8; 32],
    },
    /// A symbolic link and its target.
    Link(PathBuf),
    /// A directory.
    Directory,
    /// A FIFO, socket or device.
    Special,
}

/// What is behind every name below `dir`.
pub fn content(dir: &Path) -> BTreeMap<PathBuf, Content> {
    let one = |path: &PathBuf| {
        let full = dir.join(path);
        let metadata = fs::symlink_metadata(&full).ok()?;
        Some(if metadata.is_dir() {
            Content::Directory
        } else if metadata.is_symlink() {
            Content::Link(fs::read_link(&full).ok()?)
        } else if metadata.is_file() {
            let mut hasher = blake3::Hasher::new();
            let size = std::io::copy(&mut fs::File::open(&full).ok()?, &mut hasher).ok()?;
            Content::File { size, hash: *hasher.finalize().as_bytes() }
        } else {
            Content::Special
        })
    };
    walk(dir).into_iter().filter_map(|path| one(&path).map(|content| (path, content))).collect()
}

/// What the kernel changes whenever something is written, for every path below and for `dir`
/// itself: inode, change time and modification time.
pub fn stamps(dir: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, i64, i64)> {
    let mut paths = walk(dir);
    paths.push(PathBuf::new());
    let stamp = |path: &PathBuf| {
        let at = fs::symlink_metadata(dir.join(path)).unwrap();
        (at.ino(), at.ctime(), at.ctime_nsec(), at.mtime(), at.mtime_nsec())
    };
    paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

/// Every path below `dir`, relative to it, parents first, ordered by their bytes.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let Ok(entries) = fs::read_dir(dir.join(&below)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = below.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    found
}
