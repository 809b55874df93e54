//! Directory trees: everything a volume can hold, random ones, and random changes to them.

mod attributes;
mod hard_cases;
mod random;

pub use hard_cases::{hard_cases, odd_names, unreadable_cases};
pub use random::{Change, kernel_like, mutate, random_tree};

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use crate::as_user::Privilege;

/// Makes things in a directory on behalf of whoever will own them.
#[derive(Debug, Clone)]
pub struct Maker {
    root: PathBuf,
    privilege: Privilege,
}

impl Maker {
    /// Makes things below `root`, which becomes a directory if it is none.
    pub fn new(root: &Path, privilege: Privilege) -> Self {
        let maker = Self { root: root.to_owned(), privilege };
        if !root.exists() {
            fs::create_dir_all(root).unwrap();
        }
        maker.own(root);
        maker
    }

    /// The path of a name, which may hold any bytes.
    pub fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.root.join(OsStr::from_bytes(name.as_ref()))
    }

    /// A regular file, mode 0644.
    pub fn file(&self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self.own(&path);
        path
    }

    /// A regular file with a mode.
    pub fn file_with_mode(&self, name: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let name = name.as_ref();
        let path = self.file(name, [name, b" of its own\n"].concat());
        self.mode(&path, mode);
        path
    }

    /// A directory and its missing parents, mode 0755.
    pub fn dir(&self, name: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        if !path.exists() {
            if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
                let parent =
                    parent.strip_prefix(&self.root).unwrap().as_os_str().as_bytes().to_owned();
                self.dir(parent);
            }
            fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            self.own(&path);
        }
        path
    }

    /// A symbolic link.
    pub fn symlink(&self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::os::unix::fs::symlink(OsStr::from_bytes(target.as_ref()), &path).unwrap();
        self.own(&path);
        path
    }

    /// One more name for something that is no directory; symbolic links are not followed.
    pub fn hard_link(&self, name: impl AsRef<[u8]>, existing: &Path) -> PathBuf {
        let path = self.path(name);
        rustix::fs::linkat(CWD, existing, CWD, &path, AtFlags::empty()).unwrap();
        path
    }

    /// A file of `size` bytes that has data only in `(offset, bytes)` pieces.
    pub fn sparse(&self, name: impl AsRef<[u8]>, size: u64, data: &[(u64, &[u8])]) -> PathBuf {
        let path = self.file(name, b"");
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for (offset, bytes) in data {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file.set_len(size).unwrap();
        path
    }

    /// A FIFO, socket or device node of mode 0640. Devices need root.
    pub fn special(
        &self,
        name: impl AsRef<[u8]>,
        kind: FileType,
        major: u32,
        minor: u32,
    ) -> PathBuf {
        let path = self.path(name);
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o640), device)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.own(&path);
        self.mode(&path, 0o640);
        path
    }

    /// Sets all twelve permission bits.
    pub fn mode(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Sets the modification time, of a symbolic link itself too.
    pub fn mtime(&self, path: &Path, seconds: i64, nanoseconds: i64) {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|error| panic!("mtime of {}: {error}", path.display()));
    }

    fn own(&self, path: &Path) {
        if let Some(owner) = self.privilege.owner() {
            std::os::unix::fs::lchown(path, Some(owner), Some(owner)).unwrap();
        }
    }
}

#[cfg(test)]
mod tests;
