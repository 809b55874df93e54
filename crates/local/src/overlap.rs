//! No destination may write over another volume, or over what we keep ourselves: what a source does
//! not have is deleted at its destination.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use volsync_contract::Direction;

use crate::dereference::{End, Resolved};

/// Why `destination` must not be written, if it overlaps with `other`.
///
/// A source may read what a destination of other data writes, so that copies can be passed on; it may
/// not send a directory into itself.
pub(crate) fn conflict(destination: &Resolved, other: &Resolved) -> Option<String> {
    let (here, there) = (&destination.directory, &other.directory);
    let (contains, inside) = (is_in(there, here), is_in(here, there));
    let what = format!("volume {} of {} {}", other.claim, other.kind(), other.name);
    let (here, there) = (here.display(), there.display());
    let feeds = match &destination.end {
        End::Destination { source, .. } => {
            other.direction() == Direction::Source && source.as_ref() == Some(&other.name)
        }
        End::Repository(_) => false,
        End::Source { .. } => return None,
    };
    match (contains, inside) {
        (true, true) if feeds => Some(format!("{here} is {what}, which is sent to it")),
        (true, true) if other.direction() == Direction::Destination => {
            Some(format!("{here} is also {what}; each would delete what the other wrote"))
        }
        (true, false) => {
            Some(format!("{there}, {what}, is inside {here}; it would be deleted or overwritten"))
        }
        (false, true) if feeds => {
            Some(format!("{here} is inside {there}, {what}, which is sent to it"))
        }
        (_, _) => None,
    }
}

/// Whether `inner` is `outer` or lies in it, by whatever names.
pub(crate) fn is_in(inner: &Path, outer: &Path) -> bool {
    let Ok(outer) = fs::metadata(outer) else {
        // Nothing lies in what does not exist.
        return false;
    };
    real(inner).ancestors().any(|above| {
        fs::metadata(above)
            .is_ok_and(|above| (above.dev(), above.ino()) == (outer.dev(), outer.ino()))
    })
}

/// The path without symbolic links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        (Err(_), Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            real(parent).join(name)
        }
        (Err(_), _, _) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_through_links_and_beyond_what_exists() {
        let directory = tempfile::tempdir().unwrap();
        let outer = directory.path().join("outer");
        fs::create_dir_all(outer.join("inner")).unwrap();
        std::os::unix::fs::symlink("outer/inner", directory.path().join("link")).unwrap();
        for inner in ["outer", "outer/inner", "link", "link/not/yet", "outer/inner/../x"] {
            assert!(is_in(&directory.path().join(inner), &outer), "{inner}");
        }
        assert!(!is_in(directory.path(), &outer));
        assert!(!is_in(&directory.path().join("outer2"), &outer));
        assert!(!is_in(&outer, &directory.path().join("nowhere")));
    }
}
