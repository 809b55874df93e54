//! The delete pass: what the source no longer has goes when the whole tree has been compared and
//! every new file is in place, and only if the source could read everything.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};

use volsync_mover::{RelPath, Root};

use super::link::Ended;
use super::target::Target;

/// Beyond this many bytes of names they are kept in a file without a name on the volume itself.
const IN_MEMORY: usize = 1 << 20;

/// Names to be deleted, in the order in which they were found.
#[derive(Debug)]
pub(super) struct Deletes {
    /// Records: length of the directory's path, path, length of the name, name.
    records: Vec<u8>,
    spilled: Option<BufWriter<File>>,
    spill_to: File,
    count: u64,
}

impl Deletes {
    /// Nothing so far. The file they may spill into has no name and vanishes with the process.
    pub(super) fn new(root: &Root, token: u32) -> io::Result<Self> {
        let dir = root.dir(&RelPath::root())?;
        let name = format!(".volsync-tmp-{token:08x}-deletes").into_bytes();
        let spill_to = dir.create_scratch(&name)?;
        Ok(Self { records: Vec::new(), spilled: None, spill_to, count: 0 })
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes note of one.
    pub(super) fn add(&mut self, directory: &RelPath, name: &[u8]) -> io::Result<()> {
        self.count += 1;
        for part in [directory.as_bytes(), name] {
            self.records.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.records.extend_from_slice(part);
        }
        if self.records.len() >= IN_MEMORY {
            let spilled = match &mut self.spilled {
                Some(spilled) => spilled,
                None => self.spilled.insert(BufWriter::new(self.spill_to.try_clone()?)),
            };
            spilled.write_all(&self.records)?;
            self.records.clear();
        }
        Ok(())
    }

    /// Carries them out. The times of the directories stay what they are.
    pub(super) fn carry_out(mut self, target: &Target<'_>) -> Result<(), Ended> {
        let spilled = match self.spilled.take().map(BufWriter::into_inner) {
            None => None,
            Some(Ok(mut file)) => match file.rewind() {
                Ok(()) => Some(BufReader::new(file)),
                Err(error) => return target.trouble(&RelPath::root(), &error, "nothing deleted"),
            },
            Some(Err(error)) => {
                return target.trouble(&RelPath::root(), error.error(), "nothing deleted");
            }
        };
        let in_file = spilled
            .map(|file| Box::new(file) as Box<dyn Read>)
            .unwrap_or_else(|| Box::new(io::empty()));
        let mut records = in_file.chain(&self.records[..]);
        let mut batch: Option<(RelPath, Vec<Vec<u8>>)> = None;
        loop {
            let record = match read_record(&mut records) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => {
                    return target.trouble(&RelPath::root(), &error, "not everything deleted");
                }
            };
            match &mut batch {
                Some((directory, names)) if *directory == record.0 && names.len() < 4096 => {
                    names.push(record.1)
                }
                _ => {
                    if let Some((directory, names)) = batch.replace((record.0, vec![record.1])) {
                        delete_in(target, &directory, names)?;
                    }
                }
            }
        }
        match batch {
            Some((directory, names)) => delete_in(target, &directory, names),
            None => Ok(()),
        }
    }
}

fn read_record(from: &mut impl Read) -> io::Result<Option<(RelPath, Vec<u8>)>> {
    let mut part = || -> io::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        from.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    };
    let Some((directory, name)) = part()?.zip(part()?) else { return Ok(None) };
    let directory = RelPath::parse(&directory).map_err(io::Error::other)?;
    Ok(Some((directory, name)))
}

fn delete_in(target: &Target<'_>, path: &RelPath, names: Vec<Vec<u8>>) -> Result<(), Ended> {
    let opened = target.root.dir(path).and_then(|dir| Ok((dir.own_metadata()?, dir)));
    let (own, dir) = match opened {
        Ok(opened) => opened,
        Err(error) => return target.trouble(path, &error, "not deleted"),
    };
    if !target.privileges.is_root() && own.mode & 0o300 != 0o300 {
        // Opened to ourselves for the moment; `settle` below sets it again.
        let open = volsync_mover::Metadata { mode: own.mode | 0o700, ..own.clone() };
        let done = volsync_mover::apply_to_dir(&dir, &open, &own, &target.privileges, &mut |_| {});
        if let Err(error) = done {
            return target.trouble(path, &error, "not deleted");
        }
    }
    for name in names {
        let mut failures = Vec::new();
        let removed =
            dir.remove_tree(&name, &mut |below, error| failures.push((below.clone(), error)));
        match removed {
            Ok(count) => target.monitor.deleted(count),
            Err(error) => target.trouble(&path.join(&name), &error, "not deleted")?,
        }
        for (below, error) in failures {
            let below = path.join(&name).join_path(&below);
            target.trouble(&below, &error, "not deleted")?;
        }
    }
    target.settle(path, &dir, &own)
}
