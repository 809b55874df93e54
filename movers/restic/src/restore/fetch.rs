//! Fetching blobs: those that are needed are sorted by where they lie, and read in large ranges.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use volsync_bucket::Kind as StoreKind;

use super::target::TargetFile;
use super::{RestoreOptions, Shared};
use crate::format::index::Location;
use crate::format::{Error, Id};

/// A blob that a file needs.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: Id,
    pub(super) location: Location,
    pub(super) file: Arc<TargetFile>,
    /// Where it goes in the file, in bytes.
    pub(super) offset: u64,
}

/// A range of a pack, and what lies in it.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Where the range begins in the pack, in bytes.
    pub(super) start: u64,
    pub(super) bytes: Result<Bytes, Error>,
    pub(super) blobs: Vec<FetchedBlob>,
    /// Returns its share of memory when it is dropped.
    _memory: Arc<OwnedSemaphorePermit>,
}

/// A blob and everywhere it goes.
#[derive(Debug)]
pub(super) struct FetchedBlob {
    pub(super) id: Id,
    pub(super) location: Location,
    pub(super) places: Vec<(Arc<TargetFile>, u64)>,
}

/// Blobs are gathered until they have so many bytes, or are so many, before they are sorted.
const WINDOW_BYTES: u64 = 32 << 20;
const WINDOW_BLOBS: usize = 8192;
/// Or until they have so many bytes, and nobody has anything to do.
const ENOUGH_BYTES: u64 = 1 << 20;
/// Or until nothing has come for so long.
const PATIENCE: Duration = Duration::from_millis(3);
/// The longest range, unless a single blob is longer.
const RANGE: u64 = 4 << 20;
/// What lies between two blobs of one range and is read in vain, at most.
const GAP: u64 = 128 << 10;
/// Memory is counted in pieces of so many bytes.
const PIECE: u64 = 1 << 10;

/// Gathers, sorts and reads until `wanted` is closed.
pub(super) fn run(
    shared: &Shared<'_>,
    wanted: &Receiver<Vec<Wanted>>,
    stop: &Receiver<()>,
    out: &Sender<Fetched>,
    options: &RestoreOptions,
    runtime: &Handle,
) {
    let pieces = (u64::from(options.memory) / PIECE).max(1);
    let fetch = Fetch {
        shared,
        out,
        runtime,
        memory: Arc::new(Semaphore::new(usize::try_from(pieces).unwrap_or(usize::MAX >> 4))),
        pieces: u32::try_from(pieces).unwrap_or(u32::MAX),
        reads: Arc::new(Semaphore::new(options.reads.max(1) as usize)),
    };
    let mut window = Vec::new();
    let mut bytes = 0;
    loop {
        crossbeam_channel::select! {
            recv(wanted) -> some => match some {
                Ok(some) => for one in some {
                    bytes += u64::from(one.location.length);
                    window.push(one);
                    let is_full = bytes >= WINDOW_BYTES || window.len() >= WINDOW_BLOBS;
                    // What waits longer is in a better order, but nobody is to wait for it.
                    if is_full || (bytes >= ENOUGH_BYTES && out.is_empty()) {
                        fetch.window(std::mem::take(&mut window));
                        bytes = 0;
                    }
                },
                Err(_) => break,
            },
            recv(stop) -> _ => break,
            default(PATIENCE) => if !window.is_empty() {
                fetch.window(std::mem::take(&mut window));
                bytes = 0;
            },
        }
    }
}

struct Fetch<'a, 's> {
    shared: &'a Shared<'s>,
    out: &'a Sender<Fetched>,
    runtime: &'a Handle,
    memory: Arc<Semaphore>,
    pieces: u32,
    reads: Arc<Semaphore>,
}

impl Fetch<'_, '_> {
    fn window(&self, mut window: Vec<Wanted>) {
        window.sort_by_key(|wanted| (wanted.location.pack_number, wanted.location.offset));
        let mut blobs: Vec<FetchedBlob> = Vec::new();
        for Wanted { id, location, file, offset } in window {
            if let Some(last) = blobs.last_mut()
                && last.id == id
            {
                last.places.push((file, offset));
                continue;
            }
            if let (Some(first), Some(last)) = (blobs.first(), blobs.last()) {
                let end = end_of(&last.location);
                let start = u64::from(location.offset);
                let fits = location.pack_number == last.location.pack_number
                    && start.saturating_sub(end) <= GAP
                    && end_of(&location) - u64::from(first.location.offset) <= RANGE;
                if !fits {
                    self.read(std::mem::take(&mut blobs));
                }
            }
            blobs.push(FetchedBlob { id, location, places: vec![(file, offset)] });
        }
        self.read(blobs);
    }

    /// Reads the range these blobs lie in, once there is memory for it.
    fn read(&self, blobs: Vec<FetchedBlob>) {
        let (Some(first), Some(last)) = (blobs.first(), blobs.last()) else { return };
        if self.shared.is_over() {
            return;
        }
        let pack = first.location.pack;
        let range = u64::from(first.location.offset)..end_of(&last.location);
        let length = range.end - range.start;
        // A blob beyond the budget has it alone.
        let pieces = u32::try_from(length.div_ceil(PIECE)).unwrap_or(u32::MAX).min(self.pieces);
        let permits = self.runtime.block_on(async {
            let memory = self.memory.clone().acquire_many_owned(pieces).await.ok()?;
            Some((memory, self.reads.clone().acquire_owned().await.ok()?))
        });
        let Some((memory, read)) = permits else { return };
        let (out, files) = (self.out.clone(), self.shared.files.clone());
        self.runtime.spawn(async move {
            let bytes = files.read_pack(pack, range.clone()).await;
            drop(read);
            let memory = Arc::new(memory);
            let sent = match bytes {
                // Of a pack that was cut, some blobs may be left.
                Err(error) if is_missing(&error) && blobs.len() > 1 => {
                    let mut sent = true;
                    for blob in blobs {
                        let range = u64::from(blob.location.offset)..end_of(&blob.location);
                        let start = range.start;
                        let bytes = files.read_pack(pack, range).await;
                        let _memory = memory.clone();
                        sent &=
                            out.send(Fetched { start, bytes, blobs: vec![blob], _memory }).is_ok();
                    }
                    sent
                }
                bytes => {
                    let start = range.start;
                    out.send(Fetched { start, bytes, blobs, _memory: memory }).is_ok()
                }
            };
            if !sent {
                tracing::debug!(%pack, "a range was read for a restore that is over");
            }
        });
    }
}

/// Whether it is the repository that lacks something, and not the store that fails.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Store(error)
        if matches!(error.kind(), StoreKind::OutOfRange | StoreKind::NotFound))
}

fn end_of(location: &Location) -> u64 {
    u64::from(location.offset) + u64::from(location.length)
}
