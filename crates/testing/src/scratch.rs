//! `Scratch`: a temporary directory that any user may enter and that always goes away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A temporary directory, mode 0755, removed on drop even when it holds directories of mode 0000.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Below the system's directory for temporary files.
    pub fn new() -> Self {
        Self::beneath(&std::env::temp_dir())
    }

    /// In memory where the machine has such a place, for tests that would drown in disk writes.
    pub fn in_memory() -> Self {
        let shm = Path::new("/dev/shm");
        if fs::metadata(shm).is_ok_and(|shm| shm.permissions().mode() & 0o1777 == 0o1777) {
            Self::beneath(shm)
        } else {
            Self::new()
        }
    }

    /// In memory where files there may have extended attributes, for trees of hard cases.
    pub fn with_attributes() -> Self {
        let scratch = Self::in_memory();
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::setxattr(scratch.path(), "user.probe", b"", flags) {
            Ok(()) => scratch,
            Err(_) => Self::new(),
        }
    }

    fn beneath(parent: &Path) -> Self {
        let path = tempfile::Builder::new()
            .prefix("volsync-test-")
            .tempdir_in(parent)
            .unwrap_or_else(|error| {
                panic!("no temporary directory below {}: {error}", parent.display())
            })
            .keep();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name inside it; nothing is made.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a directory inside it.
    pub fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.path).is_err() {
            open_up(&self.path);
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Gives the owner every permission on every directory below.
fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_directory_is_removed_too() {
        let scratch = Scratch::new();
        let path = scratch.path().to_owned();
        let closed = scratch.dir("a/b");
        fs::write(closed.join("c"), "x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
