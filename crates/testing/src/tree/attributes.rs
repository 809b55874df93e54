//! Extended attributes and POSIX ACLs, written as the kernel keeps them.

use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Sets an extended attribute. False: this machine does not allow it here (a container without
/// the capability, or a file system without the namespace).
pub(super) fn try_xattr(path: &Path, name: impl AsRef<[u8]>, value: &[u8]) -> bool {
    match rustix::fs::lsetxattr(path, name.as_ref(), value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(Errno::PERM | Errno::OPNOTSUPP) => false,
        Err(error) => {
            let name = String::from_utf8_lossy(name.as_ref()).into_owned();
            panic!("attribute {name} of {}: {error}", path.display())
        }
    }
}

/// Sets an extended attribute that every test machine must allow.
pub(super) fn xattr(path: &Path, name: impl AsRef<[u8]>, value: &[u8]) {
    let shown = String::from_utf8_lossy(name.as_ref()).into_owned();
    assert!(
        try_xattr(path, name, value),
        "{} cannot hold attribute {shown}: set TMPDIR to a file system that can",
        path.display()
    );
}

/// Whom an entry of an ACL is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum For {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Others,
}

/// Sets the access ACL, or the default ACL of a directory.
pub(super) fn acl(path: &Path, default: bool, entries: &[(For, u16)]) {
    const NOBODY: u32 = u32::MAX;
    let mut value = 2u32.to_le_bytes().to_vec();
    for (whom, permissions) in entries {
        let (tag, id) = match *whom {
            For::Owner => (0x01u16, NOBODY),
            For::User(id) => (0x02, id),
            For::OwningGroup => (0x04, NOBODY),
            For::Group(id) => (0x08, id),
            For::Mask => (0x10, NOBODY),
            For::Others => (0x20, NOBODY),
        };
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    xattr(
        path,
        if default { "system.posix_acl_default" } else { "system.posix_acl_access" },
        &value,
    );
}
