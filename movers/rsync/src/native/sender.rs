//! The sender: reads the files a destination wants and sends their content.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use volsync_mover::{
    Dir, Kind, Metadata, Monitor, RelPath, Root, data_ranges, file_metadata, io_reason,
};

use super::content::{ContentHash, PIECE, SMALL_BATCH, SMALL_FILE};
use super::delta::{Piece, SEGMENT, Segment, WINDOW, block_size};
use super::link::{Ended, Outbox};
use super::message::{CopyRange, Message, SegmentSignature, Small, SmallFile, Want};
use super::session::SourceSession;

/// One `Want`, with the channels on which the signatures of its basis files arrive.
#[derive(Debug)]
pub(super) struct Job {
    /// What is wanted.
    pub want: Want,
    /// For each file with a basis, in order.
    pub signatures: Vec<Option<Receiver<SegmentSignature>>>,
}

/// Sends files until there are no more jobs.
pub(super) struct Sender<'a> {
    root: &'a Root,
    outbox: &'a Outbox,
    session: &'a Mutex<SourceSession>,
    monitor: &'a Monitor,
    batch: Vec<SmallFile>,
    content: Vec<u8>,
    directory: Option<(RelPath, Dir)>,
}

impl std::fmt::Debug for Sender<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("batch", &self.batch.len()).finish_non_exhaustive()
    }
}

/// Why one file was not sent.
enum Trouble {
    Ended,
    Io(io::Error),
    NotAFile,
    Shorter,
    Signature,
}

impl From<Ended> for Trouble {
    fn from(_: Ended) -> Self {
        Self::Ended
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'a> Sender<'a> {
    /// A sender of files of `root`.
    pub(super) fn new(
        root: &'a Root,
        outbox: &'a Outbox,
        session: &'a Mutex<SourceSession>,
        monitor: &'a Monitor,
    ) -> Self {
        Self {
            root,
            outbox,
            session,
            monitor,
            batch: Vec::new(),
            content: Vec::new(),
            directory: None,
        }
    }

    /// Works off `jobs`; small files are gathered while there are more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) -> Result<(), Ended> {
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(_) => {
                    self.flush()?;
                    match jobs.recv() {
                        Ok(job) => job,
                        Err(_) => return Ok(()),
                    }
                }
            };
            self.job(job)?;
        }
    }

    fn job(&mut self, job: Job) -> Result<(), Ended> {
        let Job { want, mut signatures } = job;
        for (at, (name, basis)) in want.files.iter().enumerate() {
            let id = want.first_id + at as u64;
            let signatures = signatures.get_mut(at).and_then(Option::take);
            match self.file(id, &want.directory, name, *basis, signatures) {
                Ok(()) => {}
                Err(Trouble::Ended) => return Err(Ended),
                Err(trouble) => self.failed(id, &want.directory.join(name), &trouble)?,
            }
        }
        Ok(())
    }

    /// The destination counts what failed, after asking once more for what failed halfway.
    fn failed(&mut self, id: u64, path: &RelPath, trouble: &Trouble) -> Result<(), Ended> {
        let (vanished, why) = match trouble {
            Trouble::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                (true, "vanished".to_owned())
            }
            Trouble::Io(error) => (false, format!("not read: {}", io_reason(error))),
            Trouble::NotAFile => (true, "no longer a regular file".to_owned()),
            Trouble::Shorter => (false, "not read: it became shorter while it was read".to_owned()),
            Trouble::Signature => {
                (false, "not sent: the destination sent a signature that is none".to_owned())
            }
            Trouble::Ended => return Err(Ended),
        };
        tracing::debug!(%path, why);
        self.answered(id);
        self.outbox.send(&Message::Failed { id, vanished, why })
    }

    fn answered(&self, id: u64) {
        self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner).answered(id);
    }

    fn file(
        &mut self,
        id: u64,
        directory: &RelPath,
        name: &[u8],
        basis: u64,
        signatures: Option<Receiver<SegmentSignature>>,
    ) -> Result<(), Trouble> {
        let file = self.open(directory, name)?;
        let metadata = file_metadata(&file)?;
        if metadata.kind != Kind::File {
            return Err(Trouble::NotAFile);
        }
        let sparse = metadata.blocks.saturating_mul(512) < metadata.size;
        if metadata.size <= SMALL_FILE && !sparse {
            return self.small(id, &file, metadata);
        }
        self.flush()?;
        self.outbox.send(&Message::Begin { id, size: metadata.size, mtime: metadata.mtime })?;
        let hash = match signatures {
            Some(signatures) => self.delta(id, &file, &metadata, basis, &signatures)?,
            None => self.whole(id, &file, &metadata)?,
        };
        self.monitor.sent_file(metadata.size);
        self.answered(id);
        self.outbox.send(&Message::Commit { id, hash })?;
        Ok(())
    }

    fn open(&mut self, directory: &RelPath, name: &[u8]) -> io::Result<File> {
        if self.directory.as_ref().is_none_or(|(path, _)| path != directory) {
            self.directory = Some((directory.clone(), self.root.dir(directory)?));
        }
        match &self.directory {
            Some((_, dir)) => dir.open_file(name),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Reads a small file into the batch. A file that changes under the reader is read once more;
    /// after that its time is that of the first look, so that the next sync sees it differ.
    fn small(&mut self, id: u64, file: &File, mut metadata: Metadata) -> Result<(), Trouble> {
        let start = self.content.len();
        for again in [true, false] {
            self.content.truncate(start);
            let got = read_up_to(file, &mut self.content, metadata.size as usize)?;
            let now = file_metadata(file)?;
            if now.size == metadata.size
                && now.mtime == metadata.mtime
                && got as u64 == metadata.size
            {
                break;
            }
            if again && now.size <= SMALL_FILE {
                metadata = now;
            } else {
                break;
            }
        }
        let size = (self.content.len() - start) as u32;
        self.batch.push(SmallFile { id, size, mtime: metadata.mtime });
        self.monitor.sent_file(u64::from(size));
        if self.content.len() >= SMALL_BATCH || self.batch.len() >= 1024 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let content = Bytes::from(std::mem::replace(
            &mut self.content,
            Vec::with_capacity(SMALL_BATCH + SMALL_FILE as usize),
        ));
        let files = std::mem::take(&mut self.batch);
        {
            let mut session =
                self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for file in &files {
                session.answered(file.id);
            }
        }
        self.outbox.send(&Message::Small(Small {
            hash: *blake3::hash(&content).as_bytes(),
            files,
            content,
        }))
    }

    fn whole(&mut self, id: u64, file: &File, metadata: &Metadata) -> Result<[u8; 32], Trouble> {
        let mut hash = ContentHash::new();
        for range in data_ranges(file, metadata)? {
            self.literal(id, file, range, &mut hash)?;
        }
        Ok(hash.finish(metadata.size))
    }

    fn literal(
        &self,
        id: u64,
        file: &File,
        range: Range<u64>,
        hash: &mut ContentHash,
    ) -> Result<(), Trouble> {
        let mut offset = range.start;
        while offset < range.end {
            let length = (range.end - offset).min(PIECE as u64) as usize;
            let mut bytes = vec![0; length];
            read_exactly(file, &mut bytes, offset)?;
            hash.add(offset, &bytes);
            self.outbox.send(&Message::Data { id, offset, bytes: Bytes::from(bytes) })?;
            offset += length as u64;
        }
        Ok(())
    }

    /// Sends what the basis does not have. Segments arrive in order, one by one.
    fn delta(
        &mut self,
        id: u64,
        file: &File,
        metadata: &Metadata,
        basis: u64,
        signatures: &Receiver<SegmentSignature>,
    ) -> Result<[u8; 32], Trouble> {
        let block = block_size(basis);
        let mut hash = ContentHash::new();
        let mut window = vec![0; WINDOW];
        let mut segment: Option<(u64, Segment)> = None;
        for range in data_ranges(file, metadata)? {
            let mut offset = range.start;
            while offset < range.end {
                let number = offset / SEGMENT;
                while segment.as_ref().is_none_or(|(at, _)| *at < number)
                    && number * SEGMENT < basis
                {
                    segment = self.next_segment(id, signatures, basis, block)?;
                }
                let end = range.end.min((number + 1) * SEGMENT);
                match &segment {
                    Some((at, segment)) if *at == number => {
                        // Blocks are only looked for on their own grid.
                        let unaligned = offset % u64::from(block);
                        if unaligned > 0 {
                            let stop = end.min(offset - unaligned + u64::from(block));
                            self.literal(id, file, offset..stop, &mut hash)?;
                            offset = stop;
                        }
                        self.matched(id, file, offset..end, segment, &mut window, &mut hash)?;
                    }
                    _ => self.literal(id, file, offset..end, &mut hash)?,
                }
                offset = end;
            }
        }
        Ok(hash.finish(metadata.size))
    }

    fn next_segment(
        &self,
        id: u64,
        signatures: &Receiver<SegmentSignature>,
        basis: u64,
        block: u32,
    ) -> Result<Option<(u64, Segment)>, Trouble> {
        // The channel closes when the session ends.
        let signature = signatures.recv().map_err(|_| Trouble::Ended)?;
        self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner).used_segment(id);
        self.outbox.send(&Message::Used { id })?;
        let start = signature.segment * SEGMENT;
        let Some(length) = basis.checked_sub(start).map(|rest| rest.min(SEGMENT)) else {
            return Err(Trouble::Signature);
        };
        let segment =
            Segment::parse(&signature.bytes, start, length, block, signature.aligned_only)
                .map_err(|_| Trouble::Signature)?;
        Ok(Some((signature.segment, segment)))
    }

    fn matched(
        &self,
        id: u64,
        file: &File,
        range: Range<u64>,
        segment: &Segment,
        window: &mut [u8],
        hash: &mut ContentHash,
    ) -> Result<(), Trouble> {
        let searcher = segment.searcher();
        let mut pieces = Vec::new();
        let mut offset = range.start;
        while offset < range.end {
            let length = (range.end - offset).min(WINDOW as u64) as usize;
            let bytes = window.get_mut(..length).unwrap_or_default();
            read_exactly(file, bytes, offset)?;
            hash.add(offset, bytes);
            pieces.clear();
            searcher.search(offset, bytes, &mut pieces);
            let mut copies: Vec<CopyRange> = Vec::new();
            for piece in &pieces {
                match piece {
                    Piece::Copy(range) => copies.push(*range),
                    Piece::Literal { offset: at, length } => {
                        self.copies(id, &mut copies)?;
                        let from = (at - offset) as usize;
                        let literal = bytes.get(from..from + length).unwrap_or_default();
                        for (n, piece) in literal.chunks(PIECE).enumerate() {
                            let offset = at + (n * PIECE) as u64;
                            self.outbox.send(&Message::Data {
                                id,
                                offset,
                                bytes: Bytes::copy_from_slice(piece),
                            })?;
                        }
                    }
                }
            }
            self.copies(id, &mut copies)?;
            offset += length as u64;
        }
        Ok(())
    }

    fn copies(&self, id: u64, ranges: &mut Vec<CopyRange>) -> Result<(), Ended> {
        if ranges.is_empty() {
            return Ok(());
        }
        self.monitor.matched(ranges.iter().map(|range| range.length).sum());
        self.outbox.send(&Message::Copies { id, ranges: std::mem::take(ranges) })
    }
}

/// Appends up to `size` bytes from the start of `file`; fewer if it has become shorter.
fn read_up_to(file: &File, content: &mut Vec<u8>, size: usize) -> io::Result<usize> {
    let start = content.len();
    content.resize(start + size, 0);
    let mut got = 0;
    while got < size {
        match file.read_at(content.get_mut(start + got..).unwrap_or_default(), got as u64) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(start + got);
    Ok(got)
}

/// Fills `bytes` from `offset`.
fn read_exactly(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), Trouble> {
    match file.read_exact_at(bytes, offset) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Trouble::Shorter),
        other => Ok(other?),
    }
}
