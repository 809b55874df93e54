//! `Dir`: a held directory; every operation takes one name and follows nothing.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, chmodat, linkat, mkdirat, mknodat, openat, readlinkat,
    renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::metadata::{AttributesWanted, Kind, Metadata, Xattr, file_metadata_and_xattrs};
use crate::path::RelPath;
use crate::xattrs;

/// A held directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Never given twice in one process.
    id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Which directory is the process's working directory, by its id; 0 for none of ours.
///
/// The calls for extended attributes take a path, and no directory descriptor. A path through
/// `/proc/self/fd` costs four times what a bare name costs, once for every file there is, so the
/// working directory serves: whoever holds this lock may set it, and nothing else in a mover looks
/// at it.
static WORKING_DIRECTORY: Mutex<u64> = Mutex::new(0);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, id: NEXT_ID.fetch_add(1, Ordering::Relaxed) }
    }

    /// Calls `each` with every name but `.` and `..`, in the file system's order.
    pub fn entries(&self, each: &mut dyn FnMut(&[u8], Option<Kind>)) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&self.fd, c".", flags, Mode::empty())?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => Some(Kind::File),
                FileType::Directory => Some(Kind::Directory),
                FileType::Symlink => Some(Kind::Symlink),
                FileType::Fifo => Some(Kind::Fifo),
                FileType::Socket => Some(Kind::Socket),
                FileType::CharacterDevice => Some(Kind::CharDevice),
                FileType::BlockDevice => Some(Kind::BlockDevice),
                FileType::Unknown => None,
            };
            each(name, kind);
        }
        Ok(())
    }

    /// What `name` is.
    pub fn metadata(&self, name: &[u8], wanted: AttributesWanted) -> io::Result<Metadata> {
        let stat = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let xattrs = match wanted {
            AttributesWanted::None => Vec::new(),
            AttributesWanted::All => self.xattrs(name)?,
        };
        Ok(Metadata::of(&stat, xattrs))
    }

    /// The extended attributes of `name` that replicate, ordered by name.
    pub fn xattrs(&self, name: &[u8]) -> io::Result<Vec<Xattr>> {
        let mut working_directory =
            WORKING_DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner);
        if *working_directory != self.id {
            *working_directory = 0;
            if rustix::process::fchdir(&self.fd).is_err() {
                drop(working_directory);
                return self.through_proc(name, |path| xattrs::of_path(path.to_bytes()));
            }
            *working_directory = self.id;
        }
        xattrs::of_path(name)
    }

    /// What the directory itself is.
    pub fn own_metadata(&self) -> io::Result<Metadata> {
        file_metadata_and_xattrs(&self.fd)
    }

    /// Opens a file for reading. It may turn out to be something else: look at its metadata.
    pub fn open_file(&self, name: &[u8]) -> io::Result<File> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Reading leaves no trace where that is permitted: to the owner and to root.
        match openat(&self.fd, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => Ok(openat(&self.fd, name, flags, Mode::empty())?.into()),
            other => Ok(other?.into()),
        }
    }

    /// Makes a file that is not there yet.
    pub fn create_file(&self, name: &[u8], mode: u32) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.fd, name, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Makes a file without a name, which vanishes when it is closed. `name` is used for a moment
    /// where the file system cannot do without.
    pub fn create_scratch(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match openat(&self.fd, c".", flags, Mode::from_raw_mode(0o600)) {
            Ok(fd) => Ok(fd.into()),
            Err(_) => {
                let file = self.create_file(name, 0o600)?;
                self.remove_file(name)?;
                Ok(file)
            }
        }
    }

    /// Opens a regular file that is there for reading and writing.
    pub fn open_for_write(&self, name: &[u8]) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(&self.fd, name, flags, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("not a regular file"))
        }
    }

    /// Opens a subdirectory.
    pub fn subdir(&self, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self::new(openat(&self.fd, name, flags, Mode::empty())?))
    }

    /// Makes a directory.
    pub fn make_dir(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(mkdirat(&self.fd, name, Mode::from_raw_mode(mode))?)
    }

    /// Makes a symbolic link.
    pub fn make_symlink(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(symlinkat(target, &self.fd, name)?)
    }

    /// Where a symbolic link points.
    pub fn read_link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.fd, name, Vec::new())?.into_bytes())
    }

    /// Makes a named pipe.
    pub fn make_fifo(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(mknodat(&self.fd, name, FileType::Fifo, Mode::from_raw_mode(mode), 0)?)
    }

    /// Makes a socket that nobody listens on.
    pub fn make_socket(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(mknodat(&self.fd, name, FileType::Socket, Mode::from_raw_mode(mode), 0)?)
    }

    /// Makes a device.
    pub fn make_device(&self, name: &[u8], kind: Kind, mode: u32, rdev: u64) -> io::Result<()> {
        let kind = if kind == Kind::BlockDevice {
            FileType::BlockDevice
        } else {
            FileType::CharacterDevice
        };
        Ok(mknodat(&self.fd, name, kind, Mode::from_raw_mode(mode), rdev)?)
    }

    /// Gives a file one more name.
    pub fn hard_link(&self, name: &[u8], to: &Self, to_name: &[u8]) -> io::Result<()> {
        Ok(linkat(&self.fd, name, &to.fd, to_name, AtFlags::empty())?)
    }

    /// Moves `name`, replacing what stands there.
    pub fn rename(&self, name: &[u8], to: &Self, to_name: &[u8]) -> io::Result<()> {
        Ok(renameat(&self.fd, name, &to.fd, to_name)?)
    }

    /// Removes anything but a directory.
    pub fn remove_file(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Removes `name` and, if it is a directory, all below it. What cannot be removed is handed to
    /// `failed` with its path below `name`, and the rest goes. Returns how many entries went.
    pub fn remove_tree(
        &self,
        name: &[u8],
        failed: &mut dyn FnMut(&RelPath, io::Error),
    ) -> io::Result<u64> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => return Ok(1),
            Err(Errno::NOENT) => return Ok(0),
            // Linux says EISDIR for a directory, POSIX allows EPERM.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let mut removed = 0;
        // Depth first with one descriptor: `..` of a directory that was opened without following
        // anything, from below, is where we came from unless someone moved it away meanwhile,
        // which the inode tells.
        let mut path = RelPath::root();
        let mut stuck = std::collections::BTreeSet::new();
        loop {
            let here = self.descend(name, &path)?;
            let mut below = None;
            let mut names = Vec::new();
            here.entries(&mut |name, _| {
                if names.len() < 4096 {
                    names.push(name.to_vec());
                }
            })?;
            let mut left = false;
            for entry in names {
                let entry_path = path.join(&entry);
                if stuck.contains(&entry_path) {
                    left = true;
                    continue;
                }
                match unlinkat(&here.fd, &entry[..], AtFlags::empty()) {
                    Ok(()) => removed += 1,
                    Err(Errno::NOENT) => {}
                    Err(Errno::ISDIR | Errno::PERM) => {
                        match unlinkat(&here.fd, &entry[..], AtFlags::REMOVEDIR) {
                            Ok(()) => removed += 1,
                            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                                below = Some(entry_path);
                                break;
                            }
                            Err(error) => {
                                left = true;
                                failed(&entry_path, error.into());
                                stuck.insert(entry_path);
                            }
                        }
                    }
                    Err(error) => {
                        left = true;
                        failed(&entry_path, error.into());
                        stuck.insert(entry_path);
                    }
                }
            }
            if let Some(below) = below {
                path = below;
                continue;
            }
            let mut more = false;
            here.entries(&mut |name, _| more |= !stuck.contains(&path.join(name)))?;
            if more {
                continue;
            }
            if left {
                if path.as_bytes().is_empty() {
                    return Ok(removed);
                }
                stuck.insert(path.clone());
            } else if path.as_bytes().is_empty() {
                unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?;
                return Ok(removed + 1);
            }
            path = path.parent().unwrap_or_default();
        }
    }

    /// Opens `path` below the subdirectory `name`, making directories on the way accessible to
    /// their owner.
    fn descend(&self, name: &[u8], path: &RelPath) -> io::Result<Self> {
        let mut here = self.subdir_opened_up(name)?;
        if let Ok(fd) = crate::root::open_path_below(&here.fd, path)
            && (rustix::process::geteuid().is_root()
                || rustix::fs::fstat(&fd)?.st_mode & 0o700 == 0o700)
        {
            return Ok(Self::new(fd));
        }
        for name in path.components() {
            here = here.subdir_opened_up(name)?;
        }
        Ok(here)
    }

    fn subdir_opened_up(&self, name: &[u8]) -> io::Result<Self> {
        let opened = self.subdir(name);
        let accessible = match &opened {
            Ok(dir) => {
                rustix::fs::fstat(dir)?.st_mode & 0o700 == 0o700
                    || rustix::process::geteuid().is_root()
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
            Err(_) => return opened,
        };
        if accessible {
            return opened;
        }
        // Not through a link: `subdir` refused it or opened a directory, and `chmodat` is only
        // asked of one.
        let stat = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            chmodat(
                &self.fd,
                name,
                Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700),
                AtFlags::empty(),
            )?;
        }
        self.subdir(name)
    }

    /// Calls `with` with a path to `name` through this very directory, for the calls that take no
    /// directory descriptor.
    pub(crate) fn through_proc<T>(
        &self,
        name: &[u8],
        with: impl FnOnce(&CStr) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut buffer = [0u8; 300];
        let length = {
            let mut rest = &mut buffer[..];
            let room = rest.len();
            write!(rest, "/proc/self/fd/{}/", self.fd.as_raw_fd())?;
            rest.write_all(name)?;
            rest.write_all(&[0])?;
            room - rest.len()
        };
        let path = CStr::from_bytes_with_nul(buffer.get(..length).unwrap_or_default())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        with(path)
    }
}
