//! Small files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` beside `path`, flushes them and renames. A `path` that cannot be replaced (a file
/// mounted on its own, such as a Pod's termination message) is written in place.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    let renamed = File::create(beside)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(beside, path));
    renamed.or_else(|_| {
        if beside.exists() {
            fs::remove_file(beside)?;
        }
        fs::write(path, bytes)
    })
}
