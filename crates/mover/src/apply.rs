//! Makes an entry's attributes what they are to be, and says which may not be set.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, fremovexattr,
    fsetxattr, futimens, lremovexattr, lsetxattr, utimensat,
};
use rustix::io::Errno;

use crate::dir::Dir;
use crate::metadata::{Kind, Metadata, Time, Xattr, differences};

/// An attribute that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// Owner or group.
    Owner,
    /// Permission bits.
    Mode,
    /// The device itself.
    Device,
    /// An extended attribute, by name.
    Xattr(Vec<u8>),
}

impl std::fmt::Display for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::Mode => f.write_str("mode"),
            Self::Device => f.write_str("device"),
            Self::Xattr(name) => write!(f, "{}", name.escape_ascii()),
        }
    }
}

/// Who this process is, asked once.
#[derive(Debug, Clone, Copy)]
pub struct Privileges {
    uid: u32,
    gid: u32,
}

impl Privileges {
    /// Of this process.
    pub fn current() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// Whether it is root.
    pub const fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Its user.
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Its group.
    pub const fn gid(&self) -> u32 {
        self.gid
    }
}

/// The calls that set attributes, on something open or on a name in a held directory.
trait Handle {
    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno>;
    fn chmod(&self, mode: Mode) -> Result<(), Errno>;
    fn set_times(&self, times: &Timestamps) -> Result<(), Errno>;
    fn set_xattr(&self, xattr: &Xattr) -> Result<(), Errno>;
    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno>;
}

struct Open<F>(F);

impl<F: AsFd> Handle for Open<F> {
    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        fchown(&self.0, uid, gid)
    }

    fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        fchmod(&self.0, mode)
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        futimens(&self.0, times)
    }

    fn set_xattr(&self, xattr: &Xattr) -> Result<(), Errno> {
        fsetxattr(&self.0, &xattr.name[..], &xattr.value, rustix::fs::XattrFlags::empty())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        fremovexattr(&self.0, name)
    }
}

struct At<'a> {
    dir: &'a Dir,
    name: &'a [u8],
}

impl Handle for At<'_> {
    fn chown(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        chownat(self.dir, self.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn chmod(&self, mode: Mode) -> Result<(), Errno> {
        // Not for symbolic links; `apply` never asks. A racing replacement by a link is refused:
        // the entry is opened without following first, and changed through that descriptor.
        let flags =
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let held = rustix::fs::openat(self.dir, self.name, flags, Mode::empty())?;
        if rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode).is_symlink() {
            return Err(Errno::LOOP);
        }
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
        chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        utimensat(self.dir, self.name, times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn set_xattr(&self, xattr: &Xattr) -> Result<(), Errno> {
        self.by_path(|path| {
            lsetxattr(path, &xattr.name[..], &xattr.value, rustix::fs::XattrFlags::empty())
        })
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        self.by_path(|path| lremovexattr(path, name))
    }
}

impl At<'_> {
    fn by_path(
        &self,
        call: impl FnOnce(&std::ffi::CStr) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.dir
            .through_proc(self.name, |path| Ok(call(path)))
            .unwrap_or_else(|error| Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL)))
    }
}

/// Makes an open file's attributes those of `want`; `have` is what it has now. Returns whether
/// anything was changed. What may not be set is handed to `not_kept`.
pub fn apply_to_file(
    file: &File,
    want: &Metadata,
    have: &Metadata,
    privileges: &Privileges,
    not_kept: &mut dyn FnMut(Attribute),
) -> io::Result<bool> {
    apply(&Open(file), want, have, privileges, not_kept)
}

/// The same for an open directory.
pub fn apply_to_dir(
    dir: &Dir,
    want: &Metadata,
    have: &Metadata,
    privileges: &Privileges,
    not_kept: &mut dyn FnMut(Attribute),
) -> io::Result<bool> {
    apply(&Open(dir), want, have, privileges, not_kept)
}

/// The same for a name in a held directory; a symbolic link is not followed.
pub fn apply_at(
    dir: &Dir,
    name: &[u8],
    want: &Metadata,
    have: &Metadata,
    privileges: &Privileges,
    not_kept: &mut dyn FnMut(Attribute),
) -> io::Result<bool> {
    apply(&At { dir, name }, want, have, privileges, not_kept)
}

fn apply(
    handle: &impl Handle,
    want: &Metadata,
    have: &Metadata,
    privileges: &Privileges,
    not_kept: &mut dyn FnMut(Attribute),
) -> io::Result<bool> {
    let differs = differences(want, have);
    if !differs.any() {
        return Ok(false);
    }
    let mut changed = false;
    let mut mode_is = have.mode;
    if differs.owner && chown(handle, want, have, privileges, not_kept)? {
        changed = true;
        // The kernel takes setuid and setgid away.
        mode_is = u32::MAX;
    }
    if differs.xattrs
        || (changed && want.xattrs.iter().any(|xattr| xattr.name == b"security.capability"))
    {
        // The kernel lets an owner change attributes of what it may write only.
        let locked = have.mode & 0o200 == 0 && !privileges.is_root() && want.kind != Kind::Symlink;
        if locked && let Err(error) = handle.chmod(Mode::from_raw_mode(have.mode | 0o200)) {
            tracing::debug!(%error, "not the owner's to change");
        }
        changed |= set_xattrs(handle, want, have, changed, not_kept)?;
        // Access ACLs and permission bits are one thing to the kernel.
        mode_is = u32::MAX;
    }
    if want.kind != Kind::Symlink && mode_is != want.mode {
        match handle.chmod(Mode::from_raw_mode(want.mode)) {
            Ok(()) => changed = true,
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {
                not_kept(Attribute::Mode);
                // Without the special bits it may pass.
                if want.mode & 0o7000 != 0 {
                    match handle.chmod(Mode::from_raw_mode(want.mode & 0o777)) {
                        Ok(()) => changed = true,
                        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    if differs.mtime || changed {
        set_mtime(handle, want.mtime)?;
        changed |= differs.mtime;
    }
    Ok(changed)
}

/// True if owner or group changed.
fn chown(
    handle: &impl Handle,
    want: &Metadata,
    have: &Metadata,
    privileges: &Privileges,
    not_kept: &mut dyn FnMut(Attribute),
) -> io::Result<bool> {
    // To the kernel this number means "as it is" (chown(2)): nothing is owned by it.
    if want.uid == u32::MAX || want.gid == u32::MAX {
        not_kept(Attribute::Owner);
        return Ok(false);
    }
    let uid = (want.uid != have.uid).then(|| Uid::from_raw(want.uid));
    let gid = (want.gid != have.gid).then(|| Gid::from_raw(want.gid));
    // Only root gives files away; others may at most choose among their groups.
    if uid.is_none() || privileges.is_root() {
        match handle.chown(uid, gid) {
            Ok(()) => return Ok(true),
            Err(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    not_kept(Attribute::Owner);
    if uid.is_some() && gid.is_some() {
        match handle.chown(None, gid) {
            Ok(()) => return Ok(true),
            Err(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn set_xattrs(
    handle: &impl Handle,
    want: &Metadata,
    have: &Metadata,
    chowned: bool,
    not_kept: &mut dyn FnMut(Attribute),
) -> io::Result<bool> {
    let refused = |error| {
        matches!(
            error,
            Errno::PERM
                | Errno::ACCESS
                | Errno::OPNOTSUPP
                | Errno::INVAL
                | Errno::TOOBIG
                | Errno::RANGE
        )
    };
    let mut changed = false;
    for xattr in &have.xattrs {
        if want.xattrs.iter().all(|wanted| wanted.name != xattr.name) {
            match handle.remove_xattr(&xattr.name) {
                Ok(()) | Err(Errno::NODATA) => changed = true,
                Err(error) if refused(error) => not_kept(Attribute::Xattr(xattr.name.clone())),
                Err(error) => return Err(error.into()),
            }
        }
    }
    for xattr in &want.xattrs {
        let lost_by_chown = chowned && xattr.name == b"security.capability";
        if !lost_by_chown && have.xattrs.contains(xattr) {
            continue;
        }
        match handle.set_xattr(xattr) {
            Ok(()) => changed = true,
            Err(error) if refused(error) => not_kept(Attribute::Xattr(xattr.name.clone())),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(changed)
}

fn set_mtime(handle: &impl Handle, mtime: Time) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: i64::from(mtime.nanoseconds),
        },
    };
    Ok(handle.set_times(&times)?)
}
