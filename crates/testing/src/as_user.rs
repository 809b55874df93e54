//! `Privilege`: the same test as root and as an ordinary user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peers;
use crate::scratch::Scratch;

/// The ordinary user that tests run by root turn into; needs no entry in `/etc/passwd`.
pub const USER: u32 = 1234;

/// Who runs a program under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// Root: owners, devices and all attributes may be set.
    Root,
    /// An ordinary user without any capability.
    User,
}

impl Privilege {
    /// What this process can test: both when it is root, else the ordinary user it is.
    pub fn available() -> &'static [Self] {
        if is_root() { &[Self::Root, Self::User] } else { &[Self::User] }
    }

    /// The privilege of this process.
    pub fn own() -> Self {
        if is_root() { Self::Root } else { Self::User }
    }

    /// Owner for files made by this process on behalf of it; `None`: they already have it.
    pub fn owner(self) -> Option<u32> {
        (self == Self::User && is_root()).then_some(USER)
    }

    /// A command that runs `program` with this privilege; its process id is the program's own.
    /// `scratch` takes a copy of a program that the user could not reach.
    pub fn command(self, program: &Path, scratch: &Scratch) -> Command {
        match (self, is_root()) {
            (Self::Root, false) => panic!("running {} as root needs root", program.display()),
            (Self::Root, true) | (Self::User, false) => Command::new(program),
            (Self::User, true) => {
                let mut command = Command::new(peers::tool("setpriv"));
                command
                    .args(["--reuid", &USER.to_string(), "--regid", &USER.to_string()])
                    .args(["--clear-groups", "--inh-caps=-all", "--"])
                    .arg(reachable(program, scratch));
                command
            }
        }
    }

    /// Gives a tree to whoever this is.
    pub fn take(self, path: &Path) {
        let Some(owner) = self.owner() else { return };
        std::os::unix::fs::lchown(path, Some(owner), Some(owner)).unwrap();
        if fs::symlink_metadata(path).unwrap().is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.take(&entry.unwrap().path());
            }
        }
    }
}

/// Whether this process is root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A path to `program` that every user may walk: itself, or a copy in `scratch`.
fn reachable(program: &Path, scratch: &Scratch) -> PathBuf {
    let open = program
        .ancestors()
        .skip(1)
        .all(|dir| fs::metadata(dir).is_ok_and(|dir| dir.mode() & 0o001 != 0));
    if open {
        return program.to_owned();
    }
    let copy = scratch.join(program.file_name().unwrap());
    if !copy.exists() && fs::hard_link(program, &copy).is_err() {
        fs::copy(program, &copy).unwrap();
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_privilege_runs_a_program() {
        let scratch = Scratch::new();
        for privilege in Privilege::available() {
            let id = privilege.command(&peers::tool("id"), &scratch).arg("-u").output().unwrap();
            let uid: u32 = String::from_utf8(id.stdout).unwrap().trim().parse().unwrap();
            assert_eq!(uid == 0, *privilege == Privilege::Root, "{privilege:?} ran as {uid}");
        }
    }
}
