//! Real files for the demo: copies of what this machine has, up to a limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::succeeds;
use crate::table;

const MAX_FILES: u64 = 12_000;
const MAX_BYTES: u64 = 250 << 20;

const PLACES: &[&str] = &[
    "/usr/share/doc",
    "/usr/include",
    "/usr/share/man",
    "/usr/share/zoneinfo",
    "/usr/lib/python3",
];

/// Copies as much as fits below `target`; returns one line for each place.
pub(super) fn gather(target: &Path) -> Result<Vec<String>> {
    gather_from(PLACES, target, MAX_FILES, MAX_BYTES)
}

fn gather_from(
    places: &[&str],
    target: &Path,
    max_files: u64,
    max_bytes: u64,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    for place in places.iter().map(Path::new).filter(|place| place.is_dir()) {
        let into = target.join(place.file_name().context("a place has a name")?);
        let (mut files_here, mut bytes_here) = (0, 0);
        let mut taken: Vec<PathBuf> = Vec::new();
        for entry in entries(place) {
            let Some((more_files, more_bytes)) = size(&entry) else {
                continue;
            };
            if files + files_here + more_files <= max_files
                && bytes + bytes_here + more_bytes <= max_bytes
            {
                files_here += more_files;
                bytes_here += more_bytes;
                taken.push(entry);
            }
        }
        if taken.is_empty() {
            continue;
        }
        fs::create_dir(&into).with_context(|| format!("cannot create {}", into.display()))?;
        for some in taken.chunks(500) {
            if !succeeds(Command::new("cp").args(["-a", "-t"]).arg(&into).args(some)) {
                bail!("cannot copy {} to {}", place.display(), into.display());
            }
        }
        files += files_here;
        bytes += bytes_here;
        lines.push(format!(
            "{}: {} files, {}",
            place.display(),
            table::count(files_here),
            table::bytes(bytes_here)
        ));
    }
    Ok(lines)
}

/// What is in a directory, in order.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Files and bytes at and below a path; `None` when some of it cannot be read.
fn size(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if metadata.is_dir() {
        let (mut files, mut bytes) = (1, 0);
        for entry in fs::read_dir(path).ok()? {
            let (more_files, more_bytes) = size(&entry.ok()?.path())?;
            files += more_files;
            bytes += more_bytes;
        }
        Some((files, bytes))
    } else if metadata.is_file() {
        fs::File::open(path).ok()?;
        Some((1, metadata.len()))
    } else {
        metadata.is_symlink().then_some((1, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use volsync_testing::Scratch;

    #[test]
    fn as_much_is_taken_as_fits_and_no_more() {
        let scratch = Scratch::new();
        let place = scratch.dir("place");
        for name in ["a", "b", "c"] {
            fs::create_dir(place.join(name)).unwrap();
            fs::write(place.join(name).join("file"), vec![0; 1000]).unwrap();
        }
        let target = scratch.dir("target");
        let lines =
            gather_from(&[place.to_str().unwrap(), "/no/such/place"], &target, 100, 2500).unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(target.join("place/a/file").exists() && target.join("place/b/file").exists());
        assert!(!target.join("place/c").exists());
    }
}
