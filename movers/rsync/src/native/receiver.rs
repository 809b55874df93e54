//! The receiver: writes content beside its file, verifies it, and puts it in place.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use crossbeam_channel::Receiver as Queue;
use volsync_mover::{Metadata, Time, apply_to_file, file_metadata};

use super::content::{ContentHash, PIECE};
use super::delta::{SEGMENT, Signer, WINDOW, block_size};
use super::hard_links;
use super::link::Ended;
use super::message::{CopyRange, Message, SegmentSignature, Small};
use super::target::{Failure, Target, Wanted, unfinished_name};

/// What a receiver is to do.
#[derive(Debug)]
pub(super) enum Work {
    /// Write small files.
    Small(Small, Vec<Arc<Wanted>>),
    /// A large file begins.
    Begin {
        /// The request.
        id: u64,
        /// What was asked.
        wanted: Arc<Wanted>,
        /// Size of the file, in bytes.
        size: u64,
        /// Its modification time.
        mtime: Time,
    },
    /// Bytes of a large file.
    Data {
        /// The request.
        id: u64,
        /// Where.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// Ranges of the basis.
    Copies {
        /// The request.
        id: u64,
        /// Which.
        ranges: Vec<CopyRange>,
    },
    /// A large file is complete.
    Commit {
        /// The request.
        id: u64,
        /// What it must hash to.
        hash: [u8; 32],
    },
    /// A request failed at the source.
    Failed {
        /// The request.
        id: u64,
        /// What was asked.
        wanted: Arc<Wanted>,
        /// Whether it is merely gone.
        vanished: bool,
        /// Why.
        why: String,
    },
}

/// Writes files until there is no more work.
#[derive(Debug)]
pub(super) struct Receiver<'a> {
    target: &'a Target<'a>,
    files: HashMap<u64, Incoming>,
    buffer: Vec<u8>,
}

/// A large file that is under way.
#[derive(Debug)]
struct Incoming {
    wanted: Arc<Wanted>,
    /// `None` once writing has failed; what still comes is passed over.
    file: Option<File>,
    size: u64,
    mtime: Time,
    position: u64,
    hash: ContentHash,
    matched: u64,
}

impl<'a> Receiver<'a> {
    /// For one session.
    pub(super) fn new(target: &'a Target<'a>) -> Self {
        Self { target, files: HashMap::new(), buffer: Vec::new() }
    }

    /// Works off the queue.
    pub(super) fn run(mut self, work: &Queue<Work>) -> Result<(), Ended> {
        for work in work {
            match work {
                Work::Small(small, wanted) => self.small(&small, &wanted)?,
                Work::Begin { id, wanted, size, mtime } => self.begin(id, wanted, size, mtime)?,
                Work::Data { id, offset, bytes } => {
                    self.piece(id, offset, bytes.len() as u64, |file, _, hash, _| {
                        file.write_all_at(&bytes, offset)?;
                        hash.add(offset, &bytes);
                        Ok(())
                    })?;
                }
                Work::Copies { id, ranges } => {
                    if let Some(incoming) = self.files.get_mut(&id) {
                        incoming.matched += ranges.iter().map(|range| range.length).sum::<u64>();
                    }
                    for range in ranges {
                        self.piece(
                            id,
                            range.offset,
                            range.length,
                            |file, wanted, hash, buffer| copy(file, wanted, range, hash, buffer),
                        )?;
                    }
                }
                Work::Commit { id, hash } => self.commit(id, hash)?,
                Work::Failed { id, wanted, vanished, why } => {
                    self.failed(id, &wanted, vanished, &why)?
                }
            }
        }
        Ok(())
    }

    fn small(&mut self, small: &Small, wanted: &[Arc<Wanted>]) -> Result<(), Ended> {
        if *blake3::hash(&small.content).as_bytes() != small.hash {
            // The channel authenticates every byte: this is broken memory or a broken peer.
            self.target.fail(Failure {
                transient: true,
                at_once: false,
                message: "what arrived is not what the source sent (BLAKE3 differs)".to_owned(),
                hint: "check the memory of both machines".to_owned(),
            });
            return Err(Ended);
        }
        let mut at = 0;
        for (file, wanted) in small.files.iter().zip(wanted) {
            let content = small.content.get(at..at + file.size as usize).unwrap_or_default();
            at += file.size as usize;
            let written = self.write_small(file.id, wanted, content, file.mtime);
            let in_place = written.is_ok();
            if let Err(error) = written {
                self.target.trouble(&wanted.path(), &error, "not written")?;
            } else {
                self.target.monitor.sent_file(u64::from(file.size));
            }
            self.close(wanted, in_place)?;
        }
        Ok(())
    }

    fn write_small(&self, id: u64, wanted: &Wanted, content: &[u8], mtime: Time) -> io::Result<()> {
        let dir = &wanted.directory.dir;
        let temporary = self.target.temporary_name(id);
        let private = wanted.metadata.uid != self.target.privileges.uid()
            || wanted.metadata.gid != self.target.privileges.gid();
        let mode =
            if private { wanted.metadata.mode & 0o700 } else { wanted.metadata.mode & 0o777 };
        wanted.directory.touch();
        let file = dir.create_file(&temporary, mode)?;
        let done = file
            .write_all_at(content, 0)
            .and_then(|()| self.finish(&file, wanted, mtime))
            .and_then(|()| dir.rename(&temporary, dir, &wanted.name));
        done.inspect_err(|_| {
            // The first error is the one to report; what is left goes with the next sync.
            dir.remove_file(&temporary).unwrap_or_default();
        })
    }

    fn finish(&self, file: &File, wanted: &Wanted, mtime: Time) -> io::Result<()> {
        let have = file_metadata(file)?;
        let want = Metadata { mtime, xattrs: wanted.metadata.xattrs.clone(), ..wanted.metadata };
        let path = || wanted.path();
        apply_to_file(file, &want, &have, &self.target.privileges, &mut |attribute| {
            self.target.not_kept(&path(), attribute);
        })?;
        Ok(())
    }

    fn begin(&mut self, id: u64, wanted: Arc<Wanted>, size: u64, mtime: Time) -> Result<(), Ended> {
        let dir = &wanted.directory.dir;
        let name = unfinished_name(&wanted.name);
        wanted.directory.touch();
        let resumes = wanted.basis.as_ref().is_some_and(|basis| basis.unfinished > 0);
        let opened = if resumes {
            dir.open_for_write(&name)
        } else {
            match dir.create_file(&name, 0o600) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    dir.remove_file(&name).and_then(|()| dir.create_file(&name, 0o600))
                }
                created => created,
            }
        };
        let file = match opened {
            Ok(file) => Some(file),
            Err(error) => {
                self.target.trouble(&wanted.path(), &error, "not written")?;
                None
            }
        };
        let hash = ContentHash::new();
        self.files
            .insert(id, Incoming { wanted, file, size, mtime, position: 0, hash, matched: 0 });
        Ok(())
    }

    fn piece(
        &mut self,
        id: u64,
        offset: u64,
        length: u64,
        write: impl FnOnce(&File, &Wanted, &mut ContentHash, &mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), Ended> {
        let Some(incoming) = self.files.get_mut(&id) else { return Ok(()) };
        let Some(file) = &incoming.file else { return Ok(()) };
        let done = clear_hole(file, &incoming.wanted, incoming.position, offset)
            .and_then(|()| write(file, &incoming.wanted, &mut incoming.hash, &mut self.buffer));
        incoming.position = offset + length;
        self.target.monitor.done_bytes(length);
        self.target.bytes_done.fetch_add(length, Ordering::Relaxed);
        if let Err(error) = done {
            incoming.file = None;
            self.target.trouble(&incoming.wanted.path(), &error, "not written")?;
        }
        Ok(())
    }

    fn commit(&mut self, id: u64, hash: [u8; 32]) -> Result<(), Ended> {
        let Some(incoming) = self.files.remove(&id) else { return Ok(()) };
        let Incoming { wanted, file, size, mtime, position, hash: ours, matched } = incoming;
        let Some(file) = file else { return self.close(&wanted, false) };
        let dir = &wanted.directory.dir;
        let name = unfinished_name(&wanted.name);
        if ours.finish(size) != hash {
            drop(file);
            dir.remove_file(&name).unwrap_or_default();
            if wanted.again {
                let error =
                    io::Error::other("what arrived is not what the source sent (BLAKE3 differs)");
                self.target.trouble(&wanted.path(), &error, "not written")?;
                return self.close(&wanted, false);
            }
            // The basis changed, or its block hashes lied: ask once more, for the whole file.
            return self.ask_again(&wanted);
        }
        let done = clear_hole(&file, &wanted, position, size)
            .and_then(|()| file.set_len(size))
            .and_then(|()| self.finish(&file, &wanted, mtime))
            .and_then(|()| dir.rename(&name, dir, &wanted.name));
        let in_place = done.is_ok();
        match done {
            Ok(()) => {
                self.target.monitor.sent_file(size);
                self.target.monitor.matched(matched);
            }
            Err(error) => self.target.trouble(&wanted.path(), &error, "not written")?,
        }
        self.close(&wanted, in_place)
    }

    fn failed(&mut self, id: u64, wanted: &Wanted, vanished: bool, why: &str) -> Result<(), Ended> {
        let begun = self.files.remove(&id).is_some();
        if begun {
            let name = unfinished_name(&wanted.name);
            if let Err(error) = wanted.directory.dir.remove_file(&name) {
                self.target.trouble(&wanted.path(), &error, "unfinished file not removed")?;
            }
        }
        if begun && !vanished && !wanted.again {
            // It changed under the reader: one more try, from its beginning.
            return self.ask_again(wanted);
        }
        if !vanished {
            self.target.monitor.skipped(&wanted.path(), why);
        }
        self.close(wanted, false)
    }

    fn ask_again(&self, wanted: &Wanted) -> Result<(), Ended> {
        let again = Wanted {
            directory: wanted.directory.clone(),
            name: wanted.name.clone(),
            metadata: wanted.metadata.clone(),
            basis: None,
            again: true,
        };
        self.target.ask(&wanted.directory, vec![Arc::new(again)], false)?;
        self.target.close(wanted)
    }

    fn close(&self, wanted: &Wanted, in_place: bool) -> Result<(), Ended> {
        if let Some(key) = hard_links::key_of(&wanted.metadata) {
            hard_links::settled(self.target, key, in_place)?;
        }
        self.target.close(wanted)
    }
}

/// A hole of the new file must be one here too, also where an unfinished file has something.
fn clear_hole(file: &File, wanted: &Wanted, from: u64, to: u64) -> io::Result<()> {
    let unfinished = wanted.basis.as_ref().map_or(0, |basis| basis.unfinished);
    let to = to.min(unfinished);
    if from >= to {
        return Ok(());
    }
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, to - from) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let zeros = vec![0; PIECE];
            let mut at = from;
            while at < to {
                let length = (to - at).min(PIECE as u64) as usize;
                file.write_all_at(zeros.get(..length).unwrap_or_default(), at)?;
                at += length as u64;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Copies a range of the basis into the new file. What an unfinished file has in its place already
/// is only read, for the hash.
fn copy(
    file: &File,
    wanted: &Wanted,
    range: CopyRange,
    hash: &mut ContentHash,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let Some(basis) = &wanted.basis else {
        return Err(io::Error::other("the source copies from a basis that was not offered"));
    };
    buffer.resize(PIECE, 0);
    let mut done = 0;
    while done < range.length {
        let length = (range.length - done).min(PIECE as u64);
        let (offset, from) = (range.offset + done, range.from + done);
        let bytes = buffer.get_mut(..length as usize).unwrap_or_default();
        basis.read_at(bytes, from)?;
        hash.add(offset, bytes);
        let in_place =
            if from == offset { basis.unfinished.saturating_sub(from).min(length) } else { 0 };
        file.write_all_at(bytes.get(in_place as usize..).unwrap_or_default(), offset + in_place)?;
        done += length;
    }
    Ok(())
}

/// Signs basis files until there are no more.
pub(super) fn sign(target: &Target<'_>, jobs: &Queue<(u64, Arc<Wanted>)>) -> Result<(), Ended> {
    let mut buffer = Vec::new();
    for (id, wanted) in jobs {
        let Some(basis) = &wanted.basis else { continue };
        let block = block_size(basis.length);
        let mut start = 0;
        while start < basis.length {
            let segment = start / SEGMENT;
            if !basis.wait_for_turn(segment, || target.is_over()) {
                break;
            }
            let end = (start + SEGMENT).min(basis.length);
            let mut signer = Signer::new(block);
            let mut at = start;
            buffer.resize(WINDOW, 0);
            while at < end {
                let length = (end - at).min(WINDOW as u64) as usize;
                let bytes = buffer.get_mut(..length).unwrap_or_default();
                if let Err(error) = basis.read_at(bytes, at) {
                    // Unsigned is unmatched: a zeroed block matches nothing that is not zeros, and
                    // the file's hash has the last word.
                    tracing::warn!(path = %wanted.path(), %error, "part of the old file cannot be read");
                    bytes.fill(0);
                }
                signer.add(bytes);
                at += length as u64;
            }
            target.outbox.send(&Message::Signature(SegmentSignature {
                id,
                segment,
                last: end == basis.length,
                aligned_only: start < basis.unfinished,
                bytes: Bytes::from(signer.finish()),
            }))?;
            start = end;
        }
    }
    Ok(())
}
