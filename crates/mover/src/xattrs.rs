//! Extended attributes, read without following anything.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use crate::metadata::Xattr;

const LIST: usize = 64 << 10;
const SHORT_LIST: usize = 1024;

/// Whether an attribute replicates. `security.selinux` belongs to the node it was made on, other
/// `system.*` attributes to the file system.
pub fn replicates(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || (name.starts_with(b"security.") && name != b"security.selinux")
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// Of an open file or directory.
pub(crate) fn of_open(file: impl AsFd) -> io::Result<Vec<Xattr>> {
    let file = file.as_fd();
    read(|buffer| flistxattr(file, buffer), |name, buffer| fgetxattr(file, name, buffer))
}

/// Of the entry at `path`: a name in the working directory, or a path through a held directory. A
/// symbolic link there is not followed.
pub(crate) fn of_path(path: &[u8]) -> io::Result<Vec<Xattr>> {
    read(|buffer| llistxattr(path, buffer), |name, buffer| lgetxattr(path, name, buffer))
}

fn read(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> io::Result<Vec<Xattr>> {
    let mut short = [0; SHORT_LIST];
    let mut long = Vec::new();
    let names = match list(&mut short) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(length) => short.get(..length).unwrap_or_default(),
        Err(Errno::RANGE) => {
            long.resize(LIST, 0);
            let length = list(&mut long)?;
            long.get(..length).unwrap_or_default()
        }
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    let mut value = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| replicates(name)) {
        value.resize(4096, 0);
        let length = match get(name, &mut value) {
            Err(Errno::RANGE) => {
                value.resize(LIST, 0);
                get(name, &mut value)
            }
            other => other,
        };
        match length {
            Ok(length) => {
                let value = value.get(..length).unwrap_or_default().to_vec();
                xattrs.push(Xattr { name: name.to_vec(), value });
            }
            // Gone between the two calls, or not for this process to see.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}
