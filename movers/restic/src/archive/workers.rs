//! The threads that read, hash, compress and encrypt.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use rustix::fs::fstat;
use volsync_mover::{Dir, Kind, RelPath, file_xattrs, io_reason};

use super::Shared;
use super::entry::{node_of, recordable};
use super::file::{Trouble, save_file};
use super::pending::{PendingDir, Trees};
use crate::format::{BlobKind, Encoder, Error, Id};

/// Files of one directory that are next to each other and are to be read.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) dir: Arc<Dir>,
    pub(super) path: RelPath,
    /// Their names, and whether the parent snapshot has a file of that name.
    pub(super) files: Vec<(Vec<u8>, bool)>,
    /// Where their entries go.
    pub(super) part: (Arc<PendingDir>, usize),
}

/// Batches that wait.
const QUEUE: usize = 64;

/// The blobs of one large file, in the hands of several workers.
#[derive(Debug)]
pub(super) struct SharedBlobs {
    state: Mutex<BlobsState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct BlobsState {
    ids: Vec<Id>,
    outstanding: usize,
    failed: Option<Error>,
}

impl SharedBlobs {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, BlobsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> usize {
        let mut state = self.state();
        state.ids.push(Id::default());
        state.outstanding += 1;
        state.ids.len() - 1
    }

    fn close(&self, at: usize, saved: Result<Id, Error>) {
        let mut state = self.state();
        state.outstanding -= 1;
        match saved {
            Ok(saved) => {
                if let Some(id) = state.ids.get_mut(at) {
                    *id = saved;
                }
            }
            Err(error) => {
                state.failed.get_or_insert(error);
            }
        }
        self.changed.notify_all();
    }
}

/// One blob of a large file for whoever is idle.
#[derive(Debug)]
struct SharedBlob {
    content: Vec<u8>,
    at: usize,
    of: Arc<SharedBlobs>,
}

/// What a worker keeps from one file to the next.
#[derive(Debug)]
pub(super) struct Worker<'c> {
    pub(super) encoder: Encoder,
    pub(super) buffer: Vec<u8>,
    blobs: &'c Receiver<SharedBlob>,
    offers: &'c Sender<SharedBlob>,
}

impl Worker<'_> {
    /// Saves a blob of a large file, or lets somebody else do so.
    pub(super) fn save_shared(
        &mut self,
        shared: &Shared<'_>,
        blobs: &Arc<SharedBlobs>,
        content: &[u8],
    ) -> Result<(), Error> {
        let at = blobs.open();
        if !self.offers.is_full() {
            let offer = SharedBlob { content: content.to_vec(), at, of: blobs.clone() };
            match self.offers.try_send(offer) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(offer) | TrySendError::Disconnected(offer)) => drop(offer),
            }
        }
        blobs.close(at, shared.saver.save(&mut self.encoder, BlobKind::Data, content));
        match blobs.state().failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn save_offered(&mut self, shared: &Shared<'_>, offer: SharedBlob) {
        let saved = shared.saver.save(&mut self.encoder, BlobKind::Data, &offer.content);
        offer.of.close(offer.at, saved);
    }

    /// The names of a large file's blobs, once all are saved.
    pub(super) fn wait_for(
        &mut self,
        shared: &Shared<'_>,
        blobs: &SharedBlobs,
    ) -> Result<Vec<Id>, Error> {
        loop {
            match self.blobs.try_recv() {
                Ok(offer) => self.save_offered(shared, offer),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                    let mut state = blobs.state();
                    while state.outstanding > 0 {
                        state = blobs.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    let ids = std::mem::take(&mut state.ids);
                    return state.failed.take().map_or(Ok(ids), Err);
                }
            }
        }
    }
}

/// The running threads.
#[derive(Debug)]
pub(super) struct Workers<'scope> {
    batches: Sender<Batch>,
    threads: Vec<ScopedJoinHandle<'scope, Result<(), Error>>>,
}

impl<'scope> Workers<'scope> {
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        shared: &'env Shared<'env>,
        count: usize,
    ) -> Result<Self, Error> {
        let (batches, to_do) = bounded(QUEUE);
        let (offers, blobs) = bounded(count);
        let busy = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (to_do, offers, blobs) = (to_do.clone(), offers.clone(), blobs.clone());
            let busy = busy.clone();
            let thread = std::thread::Builder::new()
                .name(format!("archive-{number}"))
                .spawn_scoped(scope, move || work(shared, &to_do, (&offers, &blobs), &busy))
                .map_err(Error::Thread)?;
            threads.push(thread);
        }
        Ok(Self { batches, threads })
    }

    /// Hands over a batch, once there is a place for it. False if nobody takes it any more.
    pub(super) fn send(&self, batch: Batch) -> bool {
        self.batches.send(batch).is_ok()
    }

    /// Waits until everything is done.
    pub(super) fn finish(self) -> Result<(), Error> {
        drop(self.batches);
        let mut result = Ok(());
        for thread in self.threads {
            match thread.join() {
                Ok(ended) => result = result.and(ended),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        result
    }
}

/// How long a worker without files waits for blobs of somebody else's.
const IDLE: Duration = Duration::from_millis(5);

fn work(
    shared: &Shared<'_>,
    batches: &Receiver<Batch>,
    (offers, blobs): (&Sender<SharedBlob>, &Receiver<SharedBlob>),
    busy: &AtomicUsize,
) -> Result<(), Error> {
    let encoder = shared.saver.encoder()?;
    let mut worker = Worker { encoder, buffer: Vec::new(), blobs, offers };
    let mut result = Ok(());
    loop {
        let batch = crossbeam_channel::select! {
            recv(blobs) -> offer => {
                if let Ok(offer) = offer {
                    worker.save_offered(shared, offer);
                }
                continue;
            }
            recv(batches) -> batch => batch,
        };
        match batch {
            // The rest is drained, so that the walk does not wait for a place.
            Ok(_) if result.is_err() || shared.saver.has_failed() => {}
            Ok(batch) => {
                busy.fetch_add(1, Ordering::AcqRel);
                result = save_batch(shared, &mut worker, batch);
                busy.fetch_sub(1, Ordering::AcqRel);
            }
            Err(_) => break,
        }
    }
    while busy.load(Ordering::Acquire) > 0 {
        match blobs.recv_timeout(IDLE) {
            Ok(offer) => worker.save_offered(shared, offer),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    result
}

fn save_batch(shared: &Shared<'_>, worker: &mut Worker<'_>, batch: Batch) -> Result<(), Error> {
    let mut entries = Vec::with_capacity(batch.files.len() * 480);
    for (name, known) in &batch.files {
        if shared.shutdown.is_requested() {
            return Err(Error::Stopped);
        }
        let before = entries.len();
        if before > 0 {
            entries.push(b',');
        }
        match save_entry(shared, worker, &batch, (name, *known), &mut entries) {
            Ok(true) => {}
            // Gone since it was listed, as any file may be.
            Ok(false) => entries.truncate(before),
            Err(Trouble::Read(error)) => {
                entries.truncate(before);
                let why = format!("not read: {}", io_reason(&error));
                shared.monitor.skipped(&batch.path.join(name), &why);
            }
            Err(Trouble::Save(error)) => return Err(error),
        }
    }
    Trees::fill(shared, &mut worker.encoder, batch.part, entries)
}

/// Saves one file and appends its entry. False if it is gone.
fn save_entry(
    shared: &Shared<'_>,
    worker: &mut Worker<'_>,
    batch: &Batch,
    (name, known): (&[u8], bool),
    entries: &mut Vec<u8>,
) -> Result<bool, Trouble> {
    let file = match batch.dir.open_file(name) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Trouble::Read(error)),
    };
    let stat = fstat(&file).map_err(|error| Trouble::Read(error.into()))?;
    if Kind::of(&stat) != Kind::File {
        return Err(Trouble::Read(std::io::Error::other("it is a file no more")));
    }
    let xattrs = file_xattrs(&file).map_err(Trouble::Read)?;
    let xattrs = recordable(shared.monitor, xattrs, || batch.path.join(name));
    let mut node = node_of(name, &stat, xattrs, &shared.users);
    shared.monitor.found(1, node.size);
    let (content, size) = save_file(shared, worker, &file, node.size)?;
    node.content = content;
    node.size = size;
    node.write(entries);
    let counters = &shared.counters;
    if known { &counters.files_changed } else { &counters.files_new }
        .fetch_add(1, Ordering::Relaxed);
    counters.bytes.fetch_add(size, Ordering::Relaxed);
    shared.monitor.compared(1);
    shared.monitor.sent_file(size);
    Ok(true)
}
