//! `Unfinished`: a file that has no name until its whole content is on the disk.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, fsync, linkat, openat, renameat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// What the names of unfinished files begin with, where files must have one.
const BEGINNING: &str = ".volsync-unfinished-";

/// Where the kernel lets an open file be named.
const OPEN_FILES: &str = "/proc/self/fd";

/// A file being written. It vanishes when it is dropped, and where the file system allows
/// (`O_TMPFILE`) also when the process is killed.
#[derive(Debug)]
pub(super) struct Unfinished {
    dir: OwnedFd,
    file: File,
    /// What it is called, if it must be called something.
    name: Option<String>,
}

impl Unfinished {
    /// A new file in a directory.
    pub(super) fn create(dir: OwnedFd) -> io::Result<Self> {
        let mode = Mode::RUSR | Mode::WUSR;
        if Path::new(OPEN_FILES).exists() {
            let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
            match openat(&dir, ".", flags, mode) {
                Ok(file) => return Ok(Self { dir, file: file.into(), name: None }),
                // NFS and others cannot.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let name = new_name();
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&dir, &name, flags, mode)?;
        Ok(Self { dir, file: file.into(), name: Some(name) })
    }

    /// Where its content is written to.
    pub(super) const fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it its name, in place of a file that has it. All is on the disk when this returns.
    pub(super) fn finish(mut self, name: &str) -> io::Result<()> {
        self.file.sync_all()?;
        if self.name.is_none() && !self.link(name)? {
            // The name is taken, and only a rename replaces.
            let beside = new_name();
            if !self.link(&beside)? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.name = Some(beside);
        }
        if let Some(beside) = &self.name {
            renameat(&self.dir, beside, &self.dir, name)?;
            self.name = None;
        }
        Ok(fsync(&self.dir)?)
    }

    /// Gives it its name, unless something has it: `false` then. All is on the disk when this returns.
    pub(super) fn finish_new(mut self, name: &str) -> io::Result<bool> {
        self.file.sync_all()?;
        let is_new = match &self.name {
            None => self.link(name)?,
            Some(beside) => {
                match renameat_with(&self.dir, beside, &self.dir, name, RenameFlags::NOREPLACE) {
                    Ok(()) => {
                        self.name = None;
                        true
                    }
                    Err(Errno::EXIST) => false,
                    // NFS cannot; a second name for it is as good, and its first goes when it is dropped.
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        match linkat(&self.dir, beside, &self.dir, name, AtFlags::empty()) {
                            Ok(()) => true,
                            Err(Errno::EXIST) => false,
                            Err(error) => return Err(error.into()),
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        fsync(&self.dir)?;
        Ok(is_new)
    }

    /// Names it; `false` if that name is taken.
    fn link(&self, name: &str) -> io::Result<bool> {
        let path = format!("{OPEN_FILES}/{}", self.file.as_raw_fd());
        match linkat(CWD, path, &self.dir, name, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && let Err(error) = unlinkat(&self.dir, name, AtFlags::empty())
        {
            tracing::debug!(%name, %error, "an unfinished file stays behind");
        }
    }
}

/// A name that nobody else uses.
pub(crate) fn new_name() -> String {
    let mut random = [0; 12];
    // Names that are not random are caught by `EXCL`.
    if let Err(error) = getrandom(&mut random, GetRandomFlags::empty()) {
        tracing::debug!(%error, "no random name");
    }
    random.iter().fold(BEGINNING.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Whether a name is that of an unfinished file.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with(BEGINNING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn held(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn names(path: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(path).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_replaces_another_whether_or_not_it_had_a_name() {
        let scratch = tempfile::tempdir().unwrap();
        for content in ["first", "second"] {
            let mut file = Unfinished::create(held(scratch.path())).unwrap();
            file.file().write_all(content.as_bytes()).unwrap();
            file.finish("x").unwrap();
            assert_eq!(names(scratch.path()), ["x"]);
            assert_eq!(std::fs::read_to_string(scratch.path().join("x")).unwrap(), content);
        }
        let beside = new_name();
        std::fs::write(scratch.path().join(&beside), "third").unwrap();
        let file = File::open(scratch.path().join(&beside)).unwrap();
        Unfinished { dir: held(scratch.path()), file, name: Some(beside) }.finish("x").unwrap();
        assert_eq!(names(scratch.path()), ["x"]);
        assert_eq!(std::fs::read_to_string(scratch.path().join("x")).unwrap(), "third");
    }

    #[test]
    fn a_file_that_is_to_be_new_replaces_none() {
        let scratch = tempfile::tempdir().unwrap();
        for is_new in [true, false] {
            let mut file = Unfinished::create(held(scratch.path())).unwrap();
            file.file().write_all(format!("{is_new}").as_bytes()).unwrap();
            assert_eq!(file.finish_new("x").unwrap(), is_new);
            let beside = new_name();
            let named = File::create(scratch.path().join(&beside)).unwrap();
            let named = Unfinished { dir: held(scratch.path()), file: named, name: Some(beside) };
            assert_eq!(named.finish_new("y").unwrap(), is_new);
        }
        let mut there = names(scratch.path());
        there.sort();
        assert_eq!(there, ["x", "y"]);
        assert_eq!(std::fs::read_to_string(scratch.path().join("x")).unwrap(), "true");
    }

    #[test]
    fn what_is_dropped_is_gone() {
        let scratch = tempfile::tempdir().unwrap();
        drop(Unfinished::create(held(scratch.path())).unwrap());
        let beside = new_name();
        let file = File::create(scratch.path().join(&beside)).unwrap();
        drop(Unfinished { dir: held(scratch.path()), file, name: Some(beside) });
        assert!(names(scratch.path()).is_empty());
    }
}
