//! `FailingFs`: a mounted file system (FUSE) whose files misbehave on purpose, every time alike.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyEntry, ReplyOpen, Request, SessionACL,
};

use crate::as_user::is_root;
use crate::scratch::Scratch;

/// How a file behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As a file should.
    Honest,
    /// Reading beyond this many bytes is an input/output error.
    FailsAfter(u64),
    /// It claims its size, but only so many bytes can be read: it shrank after it was looked at.
    Shrunk(u64),
    /// It claims so many bytes fewer than can be read: it grew after it was looked at.
    Grown(u64),
    /// Its directory lists it, but it is gone when looked at.
    VanishedBeforeLook,
    /// It can be looked at, but is gone when opened.
    VanishedBeforeOpen,
    /// Opening it is an input/output error.
    CannotOpen,
}

/// A read-only file system with one directory; unmounted on drop.
#[derive(Debug)]
pub struct FailingFs {
    session: Option<BackgroundSession>,
    scratch: Scratch,
}

impl FailingFs {
    /// Mounts one with these files.
    pub fn mount(files: Vec<(&str, Vec<u8>, Behaviour)>) -> Self {
        let scratch = Scratch::new();
        let mount_point = scratch.dir("failing");
        let files =
            files.into_iter().map(|(name, content, how)| (name.to_owned(), content, how)).collect();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("failing".to_owned())];
        if is_root() {
            config.acl = SessionACL::All;
        }
        let session = fuser::spawn_mount(Files { files }, &mount_point, &config).unwrap_or_else(|error| {
            panic!("no FUSE file system can be mounted ({error}): run cargo xtask setup, or let this user open /dev/fuse")
        });
        Self { session: Some(session), scratch }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.scratch.join(Path::new("failing"))
    }
}

impl Drop for FailingFs {
    fn drop(&mut self) {
        drop(self.session.take());
    }
}

struct Files {
    files: Vec<(String, Vec<u8>, Behaviour)>,
}

const FIRST_FILE: u64 = 2;
const FOR_EVER: Duration = Duration::from_secs(3600);

impl Files {
    fn get(&self, inode: INodeNo) -> Option<&(String, Vec<u8>, Behaviour)> {
        self.files.get(usize::try_from(u64::from(inode).checked_sub(FIRST_FILE)?).ok()?)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = if inode == INodeNo::ROOT {
            (FileType::Directory, 0o755, 0)
        } else {
            let (_, content, behaviour) = self.get(inode)?;
            let less = if let Behaviour::Grown(bytes) = behaviour { *bytes } else { 0 };
            (FileType::RegularFile, 0o644, content.len() as u64 - less)
        };
        let time = UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Files {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.files.iter().position(|(own, ..)| OsStr::new(own) == name);
        let Some(index) =
            found.filter(|index| self.files[*index].2 != Behaviour::VanishedBeforeLook)
        else {
            return reply.error(Errno::ENOENT);
        };
        match self.attributes(INodeNo(FIRST_FILE + index as u64)) {
            Some(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOR_EVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.get(inode).map(|(_, _, behaviour)| *behaviour) {
            Some(Behaviour::CannotOpen) => reply.error(Errno::EIO),
            Some(Behaviour::VanishedBeforeOpen) | None => reply.error(Errno::ENOENT),
            Some(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((_, content, behaviour)) = self.get(inode) else {
            return reply.error(Errno::ENOENT);
        };
        let end = match *behaviour {
            Behaviour::FailsAfter(bytes) if offset >= bytes => return reply.error(Errno::EIO),
            Behaviour::FailsAfter(bytes) | Behaviour::Shrunk(bytes) => bytes,
            _ => content.len() as u64,
        };
        let start = offset.min(end);
        let end = end.min(start + u64::from(size));
        reply.data(&content[start as usize..end as usize]);
    }

    fn readdir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = [".", ".."].into_iter().map(|name| (1, FileType::Directory, name)).chain(
            self.files.iter().enumerate().map(|(index, (name, ..))| {
                (FIRST_FILE + index as u64, FileType::RegularFile, name.as_str())
            }),
        );
        for (index, (inode, kind, name)) in names.enumerate().skip(offset as usize) {
            if reply.add(INodeNo(inode), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_misbehave_as_asked() {
        let failing = FailingFs::mount(vec![
            ("honest", b"content".to_vec(), Behaviour::Honest),
            ("fails", vec![7; 10_000], Behaviour::FailsAfter(4096)),
            ("shrunk", vec![7; 10_000], Behaviour::Shrunk(100)),
            ("grown", vec![7; 10_000], Behaviour::Grown(9_000)),
            ("gone", vec![], Behaviour::VanishedBeforeLook),
            ("gone-later", vec![1], Behaviour::VanishedBeforeOpen),
        ]);
        let at = failing.path();
        assert_eq!(std::fs::read(at.join("honest")).unwrap(), b"content");
        let error = std::fs::read(at.join("fails")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
        assert_eq!(std::fs::read(at.join("shrunk")).unwrap().len(), 100);
        assert_eq!(std::fs::metadata(at.join("shrunk")).unwrap().len(), 10_000);
        assert_eq!(std::fs::metadata(at.join("grown")).unwrap().len(), 1_000);
        let mut grown = Vec::new();
        std::fs::File::open(at.join("grown")).unwrap().read_to_end(&mut grown).unwrap();
        assert_eq!(grown.len(), 10_000);
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 6);
        std::fs::metadata(at.join("gone")).unwrap_err();
        std::fs::File::open(at.join("gone-later")).unwrap_err();
    }
}
