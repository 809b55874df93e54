//! `Root`: the held directory of a mounted volume.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat, openat2, syncfs};
use rustix::io::Errno;

use crate::dir::Dir;
use crate::error::Error;
use crate::path::RelPath;

/// The longest path given to the kernel in one call; longer ones are opened in steps.
const STEP: usize = 3500;

/// The root of a mounted volume, held open. Every path below it is resolved by the kernel so that
/// it can neither leave the volume nor pass through a symbolic link.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    device: u64,
}

impl Root {
    /// Opens the directory a volume is mounted at. The path itself may lead through links: it is
    /// the shell's, not a peer's.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, path, flags, Mode::empty()).and_then(|fd| Ok((fstat(&fd)?, fd)));
        match opened {
            Ok((stat, fd)) => Ok(Self { fd, device: stat.st_dev }),
            Err(source) => Err(Error::OpenVolume { path: path.to_owned(), source: source.into() }),
        }
    }

    /// The file system the root is on.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Opens a directory below the root.
    pub fn dir(&self, path: &RelPath) -> io::Result<Dir> {
        Ok(Dir::new(open_path_below(&self.fd, path)?))
    }

    /// Flushes the volume's file system.
    pub fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.fd)?)
    }
}

/// Opens a directory below `fd`, however long its path is.
pub(crate) fn open_path_below(fd: &OwnedFd, path: &RelPath) -> io::Result<OwnedFd> {
    let bytes = path.as_bytes();
    if bytes.len() <= STEP {
        return open_below(fd, if bytes.is_empty() { b"." } else { bytes });
    }
    let mut held: Option<OwnedFd> = None;
    let mut step: Vec<u8> = Vec::new();
    for name in path.components() {
        if step.len() + name.len() > STEP {
            held = Some(open_below(held.as_ref().unwrap_or(fd), &step)?);
            step.clear();
        }
        if !step.is_empty() {
            step.push(b'/');
        }
        step.extend_from_slice(name);
    }
    open_below(held.as_ref().unwrap_or(fd), &step)
}

fn open_below(fd: &OwnedFd, path: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(fd, path, flags, Mode::empty(), resolve) {
            // The kernel could not rule out a race with a rename.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Before Linux 5.6, or hidden by a sandbox: one component at a time is as safe.
            Err(Errno::NOSYS | Errno::PERM) => return open_in_steps(fd, path, flags),
            other => return Ok(other?),
        }
    }
}

fn open_in_steps(fd: &OwnedFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut held: Option<OwnedFd> = None;
    for name in path.split(|byte| *byte == b'/') {
        held = Some(openat(held.as_ref().unwrap_or(fd), name, flags, Mode::empty())?);
    }
    held.ok_or_else(|| io::ErrorKind::NotFound.into())
}
