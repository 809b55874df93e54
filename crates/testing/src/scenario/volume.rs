//! What both drivers do to a volume that is a directory of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Files, Tree};
use crate::as_user::Privilege;
use crate::compare;
use crate::seed::Seed;
use crate::tree::{Maker, mutate, random_tree};

/// When every entry of a volume was last written to.
pub(super) type Stamps = BTreeMap<PathBuf, (u64, i64, i64, i64, i64)>;

/// Makes or changes what is in a volume.
pub(super) fn change(path: &Path, tree: &Tree, owner: Privilege) -> Result<()> {
    let make = Maker::new(path, owner);
    let in_its_directory = |file: &str, content: &[u8]| {
        if let Some((dir, _)) = file.rsplit_once('/') {
            make.dir(dir);
        }
        make.file(file, content);
    };
    for file in &tree.remove {
        let file = path.join(file);
        if file.is_dir() { fs::remove_dir_all(&file) } else { fs::remove_file(&file) }
            .with_context(|| file.display().to_string())?;
    }
    for (file, content) in &tree.files {
        in_its_directory(file, content.as_bytes());
    }
    for (file, content) in &tree.base64 {
        in_its_directory(file, &STANDARD.decode(content).with_context(|| file.clone())?);
    }
    for (file, length) in &tree.noise {
        in_its_directory(file, &Seed::new(*length as u64).bytes(*length));
    }
    for (file, patches) in &tree.patch {
        let open = fs::OpenOptions::new()
            .write(true)
            .open(path.join(file))
            .with_context(|| file.clone())?;
        for (offset, bytes) in patches {
            open.write_all_at(bytes.as_bytes(), *offset)?;
        }
    }
    if let Some(random) = tree.random {
        random_tree(path, random.seed, random.count, owner);
    }
    if let Some(random) = tree.mutate {
        mutate(path, random.seed, random.count, owner);
    }
    for file in &tree.close {
        make.mode(&path.join(file), 0o000);
    }
    for file in &tree.open {
        make.mode(&path.join(file), 0o644);
    }
    Ok(())
}

/// A real rsync and we find no difference.
pub(super) fn same(a: &Path, b: &Path) -> Result<()> {
    let said = compare::rsync_differences(a, b);
    ensure!(said.is_empty(), "rsync sees differences:\n{said}");
    let own = compare::differences(a, b);
    ensure!(own.is_empty(), "differences that rsync does not see: {own:#?}");
    Ok(())
}

/// As [`same`], but for the root itself.
pub(super) fn same_below(a: &Path, b: &Path) -> Result<()> {
    let said = compare::rsync_differences(a, b);
    let said: Vec<_> = said.lines().filter(|line| !line.ends_with(" ./")).collect();
    ensure!(said.is_empty(), "rsync sees differences: {said:#?}");
    let mut own = compare::differences(a, b);
    own.retain(|difference| !difference.starts_with(": "));
    ensure!(own.is_empty(), "differences that rsync does not see: {own:#?}");
    Ok(())
}

/// A volume is the same as one of several.
pub(super) fn same_as_one(volume: &Path, of: &[PathBuf]) -> Result<()> {
    let mut differences = String::new();
    for other in of {
        match same(volume, other) {
            Ok(()) => return Ok(()),
            Err(error) => differences.push_str(&format!("{}: {error:#}\n", other.display())),
        }
    }
    bail!("it is the same as none:\n{differences}")
}

/// Nothing in a volume was written to since.
pub(super) fn untouched(volume: &Path, before: &Stamps) -> Result<()> {
    let now = compare::stamps(volume);
    let touched: Vec<_> =
        now.iter().filter(|(path, stamp)| before.get(*path) != Some(stamp)).collect();
    ensure!(touched.is_empty() && now.len() == before.len(), "written to: {touched:?}");
    Ok(())
}

/// Files are there with their content, or not.
pub(super) fn check_files(volume: &Path, files: &Files) -> Result<()> {
    for (file, content) in &files.present {
        let is = fs::read(volume.join(file)).with_context(|| file.clone())?;
        ensure!(is == content.as_bytes(), "{file} holds {:?}", String::from_utf8_lossy(&is));
    }
    for file in &files.absent {
        ensure!(fs::symlink_metadata(volume.join(file)).is_err(), "{file} is there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_root_counts_only_where_it_is_meant_to() {
        let scratch = Scratch::new();
        let (a, b) = (scratch.dir("a"), scratch.dir("b"));
        fs::File::open(&b).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(same(&a, &b).is_err());
        same_below(&a, &b).unwrap();
        fs::create_dir(a.join("below")).unwrap();
        assert!(same_below(&a, &b).is_err());
        fs::create_dir(b.join("below")).unwrap();
        fs::File::open(b.join("below")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert!(same_below(&a, &b).is_err());
    }
}
