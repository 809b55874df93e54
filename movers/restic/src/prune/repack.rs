//! Repacking: blobs that are needed are read, verified and written into new packs.
//!
//! They are copied as they are, sealed, and only once they have been opened and have the content that
//! their name says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use volsync_mover::Shutdown;

use super::PruneOptions;
use crate::format::pack::{PackBuilder, PackedBlob};
use crate::format::{BlobKind, Decoder, Error, Id, Index, RepositoryFiles};
use crate::uploads::Uploads;

/// The longest range that is read at once, unless a single blob is longer, in bytes.
const RANGE: u64 = 4 << 20;
/// What lies between two blobs of one range and is read in vain, at most.
const GAP: u64 = 128 << 10;

/// Writes the copies of these numbers into new packs and waits until all are in the store and in its
/// index. They are in the order of packs and places in them. Blocks until done.
pub(super) fn repack(
    files: &Arc<RepositoryFiles>,
    index: &Index,
    numbers: &[usize],
    options: &PruneOptions,
    shutdown: &Shutdown,
    runtime: &Handle,
) -> Result<(), Error> {
    let repack = Repack {
        files,
        index,
        left: Mutex::new(numbers),
        packs: [Mutex::default(), Mutex::default()],
        pack_size: options.pack_size,
        uploads: Uploads::new(files, options.uploads, runtime),
        is_over: AtomicBool::new(false),
        shutdown,
        runtime,
    };
    let copied = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut copied = Ok(());
        for _ in 0..options.reads.max(1) {
            let thread = std::thread::Builder::new().name("repack".to_owned());
            match thread.spawn_scoped(scope, || repack.run()) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    repack.is_over.store(true, Ordering::Relaxed);
                    copied = Err(Error::Thread(error));
                    break;
                }
            }
        }
        for thread in threads {
            let joined = thread.join().unwrap_or(Err(Error::Stopped));
            copied = copied.and(joined);
        }
        copied
    });
    let copied = copied.and_then(|()| repack.packs.iter().try_for_each(|pack| repack.flush(pack)));
    let finished = repack.uploads.finish();
    copied.and(finished)
}

struct Repack<'a> {
    files: &'a Arc<RepositoryFiles>,
    index: &'a Index,
    /// What nobody has begun.
    left: Mutex<&'a [usize]>,
    /// One that is being filled for each kind.
    packs: [Mutex<PackBuilder>; 2],
    pack_size: usize,
    uploads: Uploads,
    is_over: AtomicBool,
    shutdown: &'a Shutdown,
    runtime: &'a Handle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end_of(blob: &PackedBlob) -> u64 {
    u64::from(blob.offset) + u64::from(blob.length)
}

impl Repack<'_> {
    fn run(&self) -> Result<(), Error> {
        let copied = self.copy();
        if copied.is_err() {
            self.is_over.store(true, Ordering::Relaxed);
        }
        copied
    }

    fn copy(&self) -> Result<(), Error> {
        let mut decoder = Decoder::new()?;
        let mut plain = Vec::new();
        while let Some((pack, blobs)) = self.next() {
            if self.shutdown.is_requested() {
                return Err(Error::Stopped);
            }
            if self.is_over.load(Ordering::Relaxed) || self.uploads.has_failed() {
                // Whoever failed says why.
                return Ok(());
            }
            let (Some(first), Some(last)) = (blobs.first(), blobs.last()) else { continue };
            let start = u64::from(first.offset);
            let bytes = self.runtime.block_on(self.files.read_pack(pack, start..end_of(last)))?;
            for blob in &blobs {
                let from = (u64::from(blob.offset) - start) as usize;
                let sealed = bytes
                    .get(from..from + blob.length as usize)
                    .ok_or_else(|| Error::damaged(format!("pack {pack}"), "it is too short"))?;
                let name = (blob.kind, blob.id);
                decoder
                    .decode(self.files.key(), name, sealed, blob.raw_length, &mut plain)
                    .map_err(|error| Error::damaged(format!("pack {pack}"), error.to_string()))?;
                self.push(blob, sealed)?;
            }
        }
        Ok(())
    }

    /// The next blobs that lie close to each other in one pack; `None` at the end.
    fn next(&self) -> Option<(Id, Vec<PackedBlob>)> {
        let mut left = lock(&self.left);
        let mut found: Option<(u32, Vec<PackedBlob>)> = None;
        while let Some((number, rest)) = left.split_first() {
            let (pack, blob) = self.index.copy(*number)?;
            let (of, blobs) = found.get_or_insert_with(|| (pack, Vec::new()));
            if let (Some(first), Some(last)) = (blobs.first(), blobs.last()) {
                let gap = u64::from(blob.offset).saturating_sub(end_of(last));
                let length = end_of(&blob).saturating_sub(u64::from(first.offset));
                if pack != *of || gap > GAP || length > RANGE {
                    break;
                }
            }
            blobs.push(blob);
            *left = rest;
        }
        let (pack, blobs) = found?;
        Some((*self.index.packs().get(pack as usize)?, blobs))
    }

    fn push(&self, blob: &PackedBlob, sealed: &[u8]) -> Result<(), Error> {
        let [data, trees] = &self.packs;
        let pack = match blob.kind {
            BlobKind::Data => data,
            BlobKind::Tree => trees,
        };
        let is_full = {
            let mut pack = lock(pack);
            pack.push(blob.kind, blob.id, sealed, blob.raw_length)?;
            pack.is_full(self.pack_size).then(|| std::mem::take(&mut *pack))
        };
        is_full.map_or(Ok(()), |full| self.submit(full))
    }

    fn flush(&self, pack: &Mutex<PackBuilder>) -> Result<(), Error> {
        let pack = std::mem::take(&mut *lock(pack));
        if pack.is_empty() || self.uploads.has_failed() { Ok(()) } else { self.submit(pack) }
    }

    fn submit(&self, pack: PackBuilder) -> Result<(), Error> {
        self.uploads.submit(pack.finish(self.files.key())?)
    }
}
