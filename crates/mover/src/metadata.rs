//! What a directory entry is: kind, owner, mode, times, extended attributes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{FileType, SeekFrom, Stat, fstat, seek};

use crate::xattrs;

/// What sort of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl Kind {
    /// Of what `stat` says.
    pub const fn of(stat: &Stat) -> Self {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::RegularFile | FileType::Unknown => Self::File,
        }
    }
}

/// Seconds since 1970 and nanoseconds within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// 0 to 999 999 999.
    pub nanoseconds: u32,
}

/// One extended attribute. POSIX ACLs are `system.posix_acl_access` and `…_default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// Its name with its namespace.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What a directory entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What sort of thing.
    pub kind: Kind,
    /// Permission bits, 0 to 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Size in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Device number of a device, as the kernel writes it (`st_rdev`).
    pub rdev: u64,
    /// How many names the inode has.
    pub nlink: u32,
    /// The file system it is on.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
    /// Its extended attributes, ordered by name; empty if they were not asked for.
    pub xattrs: Vec<Xattr>,
}

/// Whether extended attributes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributesWanted {
    /// All that replicate.
    All,
    /// None: identity and kind are enough.
    None,
}

impl Metadata {
    /// From what `stat` says.
    pub(crate) fn of(stat: &Stat, xattrs: Vec<Xattr>) -> Self {
        Self {
            kind: Kind::of(stat),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            rdev: stat.st_rdev,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            device: stat.st_dev,
            inode: stat.st_ino,
            xattrs,
        }
    }
}

/// Metadata of an open file, without its extended attributes.
pub fn file_metadata(file: impl AsFd) -> io::Result<Metadata> {
    Ok(Metadata::of(&fstat(file)?, Vec::new()))
}

/// Metadata of an open file with its extended attributes.
pub fn file_metadata_and_xattrs(file: impl AsFd) -> io::Result<Metadata> {
    Ok(Metadata::of(&fstat(&file)?, xattrs::of_open(&file)?))
}

/// The extended attributes of an open file that replicate, ordered by name.
pub fn file_xattrs(file: impl AsFd) -> io::Result<Vec<Xattr>> {
    xattrs::of_open(file)
}

/// What two entries of one kind differ in, content apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Differences {
    /// Owner or group.
    pub owner: bool,
    /// Permission bits.
    pub mode: bool,
    /// Modification time.
    pub mtime: bool,
    /// Extended attributes.
    pub xattrs: bool,
}

impl Differences {
    /// Whether there are any.
    pub const fn any(self) -> bool {
        self.owner || self.mode || self.mtime || self.xattrs
    }
}

/// What `have` must be changed in to be like `want`. Symbolic links have no mode of their own.
pub fn differences(want: &Metadata, have: &Metadata) -> Differences {
    Differences {
        owner: want.uid != have.uid || want.gid != have.gid,
        mode: want.mode != have.mode && want.kind != Kind::Symlink,
        mtime: want.mtime != have.mtime,
        xattrs: want.xattrs != have.xattrs,
    }
}

/// The ranges of a file that hold data, in order. A file that is not sparse is one range.
pub fn data_ranges(file: &File, metadata: &Metadata) -> io::Result<DataRanges> {
    let sparse = metadata.blocks.saturating_mul(512) < metadata.size;
    Ok(DataRanges { file: file.try_clone()?, at: 0, size: metadata.size, sparse })
}

/// Iterator over the data of a file.
#[derive(Debug)]
pub struct DataRanges {
    file: File,
    at: u64,
    size: u64,
    sparse: bool,
}

impl Iterator for DataRanges {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.at >= self.size {
            return None;
        }
        let (start, end) = if self.sparse {
            match seek(&self.file, SeekFrom::Data(self.at)) {
                Ok(start) => {
                    let end = seek(&self.file, SeekFrom::Hole(start)).unwrap_or(self.size);
                    (start, end.min(self.size))
                }
                Err(rustix::io::Errno::NXIO) => (self.size, self.size),
                // A file system that cannot tell has no holes to speak of.
                Err(_) => (self.at, self.size),
            }
        } else {
            (self.at, self.size)
        };
        self.at = end.max(start);
        (start < end).then_some(start..end)
    }
}
