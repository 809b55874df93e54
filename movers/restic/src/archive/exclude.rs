//! What the user does not want in a backup.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{AtFlags, statat};
use volsync_mover::{Dir, Kind, RelPath};

use crate::error::Error;

/// The file that marks a cache, and how it begins (<https://bford.info/cachedir/>).
pub(super) const TAG: &[u8] = b"CACHEDIR.TAG";
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What is left out of a backup. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    patterns: Option<Gitignore>,
    lines: Vec<String>,
    caches: bool,
}

impl Exclude {
    /// Patterns of gitignore, which begin at the root of the volume, and whether what is in tagged
    /// cache directories is left out besides.
    pub fn new(lines: &[String], caches: bool) -> Result<Self, Error> {
        let wrong = |error: ignore::Error| Error::Setting {
            setting: "spec.restic.exclude",
            why: error.to_string(),
        };
        let mut builder = GitignoreBuilder::new("");
        for line in lines {
            builder.add_line(None, line).map_err(wrong)?;
        }
        let patterns = if lines.is_empty() { None } else { Some(builder.build().map_err(wrong)?) };
        Ok(Self { patterns, lines: lines.to_vec(), caches })
    }

    /// As the snapshot records it.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.clone()
    }

    /// Whether an entry of the directory at `path` is left out, with everything below it. `kind` is what
    /// the file system says at once.
    pub(crate) fn leaves_out(
        &self,
        dir: &Dir,
        path: &RelPath,
        name: &[u8],
        kind: Option<Kind>,
    ) -> io::Result<bool> {
        let Some(patterns) = &self.patterns else { return Ok(false) };
        let kind = match kind {
            Some(kind) => kind,
            None => Kind::of(&statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?),
        };
        let path = path.join(name);
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        Ok(matches!(patterns.matched(path, kind == Kind::Directory), Match::Ignore(_)))
    }

    /// Whether all but [`TAG`] is left out of a directory that has a file of this name. One that cannot
    /// be read marks nothing: it is told of when it is to be saved.
    pub(crate) fn is_cache(&self, dir: &Dir) -> bool {
        let begins = || -> io::Result<bool> {
            let mut start = Vec::new();
            dir.open_file(TAG)?.take(SIGNATURE.len() as u64).read_to_end(&mut start)?;
            Ok(start == SIGNATURE)
        };
        self.caches && begins().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volsync_mover::Root;

    #[test]
    fn patterns_are_those_of_gitignore() {
        let lines = ["*.tmp", "/cache/", "!keep.tmp", "a/**/b"].map(str::to_owned);
        let exclude = Exclude::new(&lines, false).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let dir = root.dir(&RelPath::root()).unwrap();
        let left_out = |path: &str, kind| {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            let above = above.split('/').filter(|name| !name.is_empty());
            let above = above.fold(RelPath::root(), |path, name| path.join(name.as_bytes()));
            exclude.leaves_out(&dir, &above, name.as_bytes(), Some(kind)).unwrap()
        };
        assert!(left_out("x.tmp", Kind::File));
        assert!(left_out("deep/down/x.tmp", Kind::File));
        assert!(!left_out("deep/keep.tmp", Kind::File));
        assert!(left_out("cache", Kind::Directory));
        assert!(!left_out("cache", Kind::File));
        assert!(!left_out("deep/cache", Kind::Directory));
        assert!(left_out("a/x/y/b", Kind::File));
        assert!(!left_out("photos", Kind::Directory));
    }

    #[test]
    fn a_wrong_pattern_is_told_with_its_field() {
        let error = Exclude::new(&["[z-a]".to_owned()], false).unwrap_err().to_string();
        assert!(error.starts_with("spec.restic.exclude: "), "{error}");
        assert!(error.contains("[z-a]"), "{error}");
    }
}
