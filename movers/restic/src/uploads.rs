//! `Uploads`: packs on their way into the store, a bounded number at a time, and index files about
//! those that have arrived.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::format::index::{INDEX_FILE_BLOBS, build_index_file};
use crate::format::pack::{FinishedPack, PackedBlob};
use crate::format::{BlobKind, Error, Id, RepositoryFiles};

#[derive(Debug)]
pub(crate) struct Uploads {
    files: Arc<RepositoryFiles>,
    runtime: Handle,
    permits: Arc<Semaphore>,
    count: u32,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    has_failed: AtomicBool,
    failed: Mutex<Option<Error>>,
    /// Packs that are in the store and in no index file yet.
    arrived: Mutex<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    packs: Vec<(Id, Vec<PackedBlob>)>,
    blobs: usize,
}

impl State {
    fn fail(&self, error: Error) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
    }

    /// Takes what an index file is to be written about, if there is `enough`.
    fn take(&self, enough: usize) -> Option<Vec<(Id, Vec<PackedBlob>)>> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        (arrived.blobs >= enough).then(|| std::mem::take(&mut *arrived).packs)
    }
}

impl Uploads {
    pub(crate) fn new(files: &Arc<RepositoryFiles>, count: u32, runtime: &Handle) -> Self {
        let count = count.max(1);
        Self {
            files: files.clone(),
            runtime: runtime.clone(),
            permits: Arc::new(Semaphore::new(count as usize)),
            count,
            state: Arc::default(),
        }
    }

    /// Whether one has failed: nothing more is worth while.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.has_failed.load(Ordering::Acquire)
    }

    /// Writes a pack, once there is a place for it.
    pub(crate) fn submit(&self, pack: FinishedPack) -> Result<(), Error> {
        let permit = self
            .runtime
            .block_on(self.permits.clone().acquire_owned())
            .map_err(|_| Error::Stopped)?;
        let (files, state) = (self.files.clone(), self.state.clone());
        self.runtime.spawn(async move {
            if let Err(error) = upload(&files, &state, pack).await {
                state.fail(error);
            }
            drop(permit);
        });
        Ok(())
    }

    /// Waits for all and writes the last index file.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let all = self.runtime.block_on(self.permits.acquire_many(self.count));
        drop(all.map_err(|_| Error::Stopped)?);
        let failed = self.state.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(packs) = self.state.take(1) {
            // Also after a failure: what has arrived need not be sent again.
            self.runtime.block_on(self.files.write_index(&build_index_file(&packs)))?;
        }
        failed.map_or(Ok(()), Err)
    }
}

async fn upload(files: &RepositoryFiles, state: &State, pack: FinishedPack) -> Result<(), Error> {
    let FinishedPack { id, bytes, blobs } = pack;
    let trees = blobs.first().is_some_and(|blob| blob.kind == BlobKind::Tree);
    files.write_pack(id, bytes, trees).await?;
    {
        let mut arrived = state.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.blobs += blobs.len();
        arrived.packs.push((id, blobs));
    }
    if let Some(packs) = state.take(INDEX_FILE_BLOBS) {
        files.write_index(&build_index_file(&packs)).await?;
    }
    Ok(())
}
