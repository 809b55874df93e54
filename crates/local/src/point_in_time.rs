//! `Clone` and `Snapshot` on a directory: reflinks where the file system can; refused where it cannot.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use crate::error::Error;
use crate::state_directory::make_directory;

/// How many entries are looked at to find a file to try a reflink with.
const LOOKED_AT: usize = 1000;

/// Whether copies of `volume` below `images` can be made; the reason if not. Touches no volume.
pub(crate) fn possible(volume: &Path, images: &Path) -> Result<(), String> {
    let images = existing(images);
    let why = |error: std::io::Error| crate::words::io_reason(&error);
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).map_err(why);
    if device(volume)? != device(&images)? {
        return Err(format!(
            "{} and the state directory are on different file systems, between which no files can be cloned",
            volume.display()
        ));
    }
    let Some(file) = some_file(volume) else { return Ok(()) };
    let Ok(source) = File::open(file) else { return Ok(()) };
    let target = tempfile_in(&images).map_err(why)?;
    rustix::fs::ioctl_ficlone(&target, &source).map_err(|_| {
        format!("the file system of {} cannot clone files (Btrfs and XFS can)", volume.display())
    })
}

/// The nearest directory above that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(path).to_owned()
}

/// A file without a name, gone when it is closed.
fn tempfile_in(directory: &Path) -> std::io::Result<File> {
    use rustix::fs::OFlags;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::from_raw_mode(0o600))?.into())
}

fn some_file(volume: &Path) -> Option<PathBuf> {
    let mut directories = vec![volume.to_owned()];
    let mut left = LOOKED_AT;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            left = left.checked_sub(1)?;
            let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if metadata.is_file() && metadata.len() > 0 {
                return Some(entry.path());
            }
        }
    }
    None
}

/// Makes `copy` as `volume` is now, all of it or nothing. An earlier unfinished copy is replaced.
pub(crate) fn make(volume: &Path, copy: &Path) -> Result<(), Error> {
    let failed = |why: String| Error::PointInTime { path: volume.to_owned(), why };
    let mut name = copy.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = copy.with_file_name(name);
    if let Some(parent) = copy.parent() {
        make_directory(parent)?;
    }
    crate::state_directory::remove(&unfinished)?;
    let mut copying = Copying { clone: reflink, linked: HashMap::new() };
    copying.tree(volume, &unfinished).map_err(|(path, error)| {
        failed(format!("{}: {}", path.display(), crate::words::io_reason(&error)))
    })?;
    fs::rename(&unfinished, copy).map_err(|error| failed(crate::words::io_reason(&error)))
}

type Failure = (PathBuf, std::io::Error);

fn reflink(to: &File, from: &File) -> std::io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// A copy under way; remembers files with several names.
struct Copying {
    /// Gives the first file the content of the second.
    clone: fn(&File, &File) -> std::io::Result<()>,
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copying {
    fn tree(&mut self, from: &Path, to: &Path) -> Result<(), Failure> {
        let at = |error: std::io::Error| (from.to_owned(), error);
        let metadata = fs::symlink_metadata(from).map_err(at)?;
        if !metadata.is_dir() {
            return self.leaf(from, to, &metadata).map_err(at);
        }
        fs::create_dir(to).map_err(at)?;
        for entry in fs::read_dir(from).map_err(at)? {
            let entry = entry.map_err(at)?;
            self.tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        attributes(from, to, &metadata).map_err(at)
    }

    fn leaf(&mut self, from: &Path, to: &Path, metadata: &fs::Metadata) -> std::io::Result<()> {
        if metadata.nlink() > 1 {
            let id = (metadata.dev(), metadata.ino());
            if let Some(first) = self.linked.get(&id) {
                return fs::hard_link(first, to);
            }
            self.linked.insert(id, to.to_owned());
        }
        let kind = metadata.file_type();
        if kind.is_file() {
            (self.clone)(&File::create_new(to)?, &File::open(from)?)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        } else {
            let node = if kind.is_fifo() {
                FileType::Fifo
            } else if kind.is_socket() {
                FileType::Socket
            } else if kind.is_block_device() {
                FileType::BlockDevice
            } else {
                FileType::CharacterDevice
            };
            rustix::fs::mknodat(CWD, to, node, Mode::from_raw_mode(0o600), metadata.rdev())?;
        }
        attributes(from, to, metadata)
    }
}

fn attributes(from: &Path, to: &Path, metadata: &fs::Metadata) -> std::io::Result<()> {
    let owner = (Some(Uid::from_raw(metadata.uid())), Some(Gid::from_raw(metadata.gid())));
    let made = fs::symlink_metadata(to)?;
    if (made.uid(), made.gid()) != (metadata.uid(), metadata.gid()) {
        rustix::fs::chownat(CWD, to, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(from, &mut names[..]).unwrap_or(0);
    let mut value = vec![0; 65_536];
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(from, name, &mut value[..])?;
        rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    if !metadata.file_type().is_symlink() {
        rustix::fs::chmod(to, Mode::from_raw_mode(metadata.mode() & 0o7777))?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_where_files_can_be_cloned_and_refused_with_a_reason_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, images) = (directory.path().join("volume"), directory.path().join("images"));
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::write(volume.join("a/file"), "content").unwrap();
        std::os::unix::fs::symlink("nowhere", volume.join("link")).unwrap();
        let copy = images.join("copy");
        match possible(&volume, &images) {
            Ok(()) => {
                make(&volume, &copy).unwrap();
                fs::write(volume.join("a/file"), "changed").unwrap();
                assert_eq!(fs::read_to_string(copy.join("a/file")).unwrap(), "content");
                assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("nowhere"));
            }
            Err(why) => {
                assert!(why.contains("cannot clone files"), "{why}");
                assert!(make(&volume, &copy).unwrap_err().to_string().contains("a/file"));
                assert!(!copy.exists());
            }
        }
    }

    #[test]
    fn a_copy_keeps_what_a_mover_would_look_at() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, copy) = (directory.path().join("volume"), directory.path().join("copy"));
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::write(volume.join("a/file"), "content").unwrap();
        fs::hard_link(volume.join("a/file"), volume.join("second")).unwrap();
        rustix::fs::mknodat(
            CWD,
            volume.join("pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o640),
            0,
        )
        .unwrap();
        rustix::fs::chmod(volume.join("a/file"), Mode::from_raw_mode(0o4751)).unwrap();
        rustix::fs::chmod(volume.join("a"), Mode::from_raw_mode(0o555)).unwrap();
        let by_hand = |mut to: &File, mut from: &File| std::io::copy(&mut from, &mut to).map(drop);
        Copying { clone: by_hand, linked: HashMap::new() }.tree(&volume, &copy).unwrap();
        for name in ["", "a", "a/file", "second", "pipe"] {
            let [old, new] =
                [&volume, &copy].map(|root| fs::symlink_metadata(root.join(name)).unwrap());
            let seen =
                |of: &fs::Metadata| (of.mode(), of.uid(), of.mtime(), of.mtime_nsec(), of.nlink());
            assert_eq!(seen(&old), seen(&new), "{name}");
        }
        let inode = |name: &str| fs::metadata(copy.join(name)).unwrap().ino();
        assert_eq!(inode("a/file"), inode("second"));
        rustix::fs::chmod(volume.join("a"), Mode::from_raw_mode(0o755)).unwrap();
        rustix::fs::chmod(copy.join("a"), Mode::from_raw_mode(0o755)).unwrap();
    }

    #[test]
    fn an_empty_volume_can_always_be_copied() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(possible(directory.path(), &directory.path().join("images")), Ok(()));
        let other = Path::new("/proc");
        assert!(possible(other, directory.path()).unwrap_err().contains("different file systems"));
    }
}
