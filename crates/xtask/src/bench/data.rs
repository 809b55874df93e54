//! What the benchmarks copy: a real source tree, very many files, one large file.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use volsync_testing::Seed;

use crate::command::output;
use crate::repository;
use crate::setup;

/// Unpacks the source tree of a Linux kernel into `dir`; only a part of it when `small`.
pub(crate) fn source_tree(dir: &Path, small: bool) -> Result<()> {
    let tar = unpacked_archive()?;
    let mut command = Command::new("tar");
    command.args(["--extract", "--no-same-owner", "--file"]).arg(&tar).arg("--directory").arg(dir);
    if small {
        command.args(["--wildcards", "*/fs/*"]);
    }
    output(&mut command).map(drop)
}

/// The archive without its compression, kept in the user's cache: unpacking takes a minute.
fn unpacked_archive() -> Result<PathBuf> {
    let packed = setup::source_archive()
        .context("no source tree is installed: run cargo xtask setup --bench")?;
    let dir = repository::cache()?.join("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let tar = dir.join(packed.file_stem().context("an archive has a name")?);
    if !tar.is_file() {
        eprintln!("unpacking {} once", packed.display());
        let program =
            if packed.extension().is_some_and(|end| end == "xz") { "xz" } else { "bzip2" };
        let partial = tar.with_extension("partial");
        let file = fs::File::create(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let status = Command::new(program)
            .args(["--decompress", "--stdout"])
            .arg(&packed)
            .stdin(Stdio::null())
            .stdout(file)
            .status()
            .with_context(|| format!("cannot start {program}"))?;
        if !status.success() {
            bail!("{program} could not unpack {}: {status}", packed.display());
        }
        fs::rename(&partial, &tar)
            .with_context(|| format!("cannot rename {}", partial.display()))?;
    }
    Ok(tar)
}

/// `count` files of `least` to `most` bytes of text, a hundred a directory, a hundred such a
/// directory.
pub(crate) fn many_files(dir: &Path, count: u64, least: usize, most: usize) -> Result<()> {
    let mut seed = Seed::new(count);
    let text = seed.text((1 << 20) + most);
    let mut parent = dir.to_owned();
    for number in 0..count {
        if number % 100 == 0 {
            parent = dir.join(format!("{:04}/{:02}", number / 10_000, number / 100 % 100));
            fs::create_dir_all(&parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        let size = least + seed.below((most - least + 1) as u64) as usize;
        let start = seed.below(1 << 20) as usize;
        let path = parent.join(format!("file-{number:07}"));
        fs::write(&path, &text[start..start + size])
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One file of `size` bytes that do not compress.
pub(crate) fn large_file(path: &Path, size: u64) -> Result<()> {
    let file =
        fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut seed = Seed::new(size);
    let mut block = seed.bytes(1 << 20);
    let mut at = 0;
    while at < size {
        // Every mebibyte differs from every other in every 64 bytes of it: cheap, and as hard to
        // compress or to find twice as random bytes are.
        let word = seed.next().to_le_bytes();
        for piece in block.chunks_exact_mut(64) {
            for (byte, salt) in piece.iter_mut().zip(word) {
                *byte = byte.wrapping_mul(5).wrapping_add(salt);
            }
        }
        let length = (size - at).min(block.len() as u64) as usize;
        file.write_all_at(&block[..length], at)
            .with_context(|| format!("cannot write {}", path.display()))?;
        at += length as u64;
    }
    // An hour ago: who compares only seconds must see that a later edit was later.
    let past = fs::FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(3600));
    file.set_times(past).with_context(|| format!("cannot set the time of {}", path.display()))
}

/// Overwrites one part in a hundred of a file, 4 KiB at a time, anywhere; returns how many edits.
pub(crate) fn scatter_edits(path: &Path, size: u64) -> Result<u64> {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let mut seed = Seed::new(size ^ 0xed17);
    let edits = size / 100 / 4096;
    for _ in 0..edits {
        let bytes = seed.bytes(4096);
        let at = seed.below(size - 4096);
        file.write_all_at(&bytes, at)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(edits)
}

/// How many files and bytes there are below `dir`.
pub(crate) fn size_of(dir: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
            let metadata = entry
                .metadata()
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                files += 1;
                bytes += if metadata.is_file() { metadata.len() } else { 0 };
            }
        }
    }
    Ok((files, bytes))
}

/// Copies a tree with everything that matters, as `cp -a` does.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    output(Command::new("cp").args(["-a", "--reflink=never", "-T"]).arg(from).arg(to)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use volsync_testing::Scratch;

    #[test]
    fn as_many_files_are_made_as_asked_for() {
        let scratch = Scratch::new();
        many_files(scratch.path(), 250, 10, 20).unwrap();
        let (files, bytes) = size_of(scratch.path()).unwrap();
        assert_eq!(files, 250);
        assert!((2500..=5000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn edits_change_about_one_part_in_a_hundred() {
        let scratch = Scratch::new();
        let file = scratch.join("file");
        large_file(&file, 8 << 20).unwrap();
        let before = fs::read(&file).unwrap();
        let edits = scatter_edits(&file, 8 << 20).unwrap();
        let after = fs::read(&file).unwrap();
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!(edits, 20);
        assert!((60_000..90_000).contains(&changed), "{changed}");
    }
}
