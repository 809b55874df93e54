//! What a directory entry is, as a node.

use std::collections::HashMap;

use rustix::fs::Stat;
use volsync_mover::{Attribute, Kind, Monitor, RelPath, Time, Xattr};

use crate::format::Node;

/// Names of users and groups where the mover runs, as restic records them beside the numbers.
#[derive(Debug)]
pub(super) struct UserNames {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl UserNames {
    /// From the system's files. An image without them still has a root.
    pub(super) fn load() -> Self {
        Self { users: names("/etc/passwd"), groups: names("/etc/group") }
    }

    /// A user's name; empty if there is none.
    pub(super) fn user(&self, uid: u32) -> String {
        self.users.get(&uid).cloned().unwrap_or_default()
    }

    /// A group's name; empty if there is none.
    pub(super) fn group(&self, gid: u32) -> String {
        self.groups.get(&gid).cloned().unwrap_or_default()
    }
}

/// `name:password:number:…`, a line each; the first line of a number counts.
fn names(path: &str) -> HashMap<u32, String> {
    let Ok(text) = std::fs::read_to_string(path) else {
        return HashMap::from([(0, "root".to_owned())]);
    };
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(number))) =
            (fields.next(), fields.nth(1).map(str::parse::<u32>))
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// The attributes that a snapshot can hold. It has no way to write a name that is not UTF-8; those
/// are counted as not kept.
pub(super) fn recordable(
    monitor: &Monitor,
    mut xattrs: Vec<Xattr>,
    path: impl Fn() -> RelPath,
) -> Vec<Xattr> {
    xattrs.retain(|xattr| {
        let is_text = std::str::from_utf8(&xattr.name).is_ok();
        if !is_text {
            monitor.not_kept(&path(), Attribute::Xattr(xattr.name.clone()));
        }
        is_text
    });
    xattrs
}

/// Modification and change time.
pub(super) fn times_of(stat: &Stat) -> (Time, Time) {
    (
        Time { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        Time { seconds: stat.st_ctime, nanoseconds: stat.st_ctime_nsec as u32 },
    )
}

/// The node of an entry, without what a file holds, where a link points, and what a directory
/// lists.
pub(super) fn node_of(name: &[u8], stat: &Stat, xattrs: Vec<Xattr>, users: &UserNames) -> Node {
    let kind = Kind::of(stat);
    let (mtime, ctime) = times_of(stat);
    Node {
        name: name.to_vec(),
        kind: Some(kind),
        mode: stat.st_mode & 0o7777,
        mtime,
        atime: mtime,
        ctime,
        uid: stat.st_uid,
        gid: stat.st_gid,
        user: users.user(stat.st_uid),
        group: users.group(stat.st_gid),
        inode: stat.st_ino,
        device_id: stat.st_dev,
        size: if kind == Kind::File { stat.st_size as u64 } else { 0 },
        links: match kind {
            Kind::File | Kind::Symlink | Kind::CharDevice | Kind::BlockDevice => stat.st_nlink,
            // restic never says it of pipes, so only those say it that need to.
            Kind::Fifo if stat.st_nlink > 1 => stat.st_nlink,
            Kind::Directory | Kind::Fifo | Kind::Socket => 0,
        },
        link_target: Vec::new(),
        xattrs,
        device: match kind {
            Kind::CharDevice | Kind::BlockDevice => stat.st_rdev,
            Kind::File | Kind::Directory | Kind::Symlink | Kind::Fifo | Kind::Socket => 0,
        },
        content: Vec::new(),
        subtree: None,
    }
}

/// restic's rule: a file is as it was if size, both times and the inode are.
pub(super) fn is_unchanged(stat: &Stat, previous: &Node) -> bool {
    let (mtime, ctime) = times_of(stat);
    previous.kind == Some(Kind::File)
        && previous.size == stat.st_size as u64
        && previous.mtime == mtime
        && previous.ctime == ctime
        && previous.inode == stat.st_ino
}
