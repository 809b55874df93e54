//! `BlobSaver`: every blob goes into a pack once.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use super::ArchiveOptions;
use crate::format::pack::PackBuilder;
use crate::format::{BlobKind, Compression, Encoder, Error, Id, Index, RepositoryFiles};
use crate::uploads::Uploads;

const SHARDS: usize = 16;

/// What was added to the repository. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) data_blobs: u64,
    pub(super) tree_blobs: u64,
    pub(super) bytes: u64,
    pub(super) packed_bytes: u64,
}

#[derive(Debug)]
pub(super) struct BlobSaver<'a> {
    files: &'a RepositoryFiles,
    index: &'a Index,
    data: Packer,
    trees: Packer,
    pack_size: usize,
    compression: Compression,
    uploads: Uploads,
    bytes: AtomicU64,
    packed_bytes: AtomicU64,
}

/// Blobs of one kind.
#[derive(Debug, Default)]
struct Packer {
    pack: Mutex<PackBuilder>,
    /// What this run has saved or is about to.
    saved: [Mutex<HashSet<Id, BuildHasherDefault<IdHasher>>>; SHARDS],
    count: AtomicU64,
}

/// Identifiers are hashes already.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Packer {
    /// Whether nobody has saved it before in this run.
    fn claim(&self, id: Id) -> bool {
        let [.., last] = *id.as_bytes();
        self.saved.get(usize::from(last) % SHARDS).is_some_and(|saved| lock(saved).insert(id))
    }
}

impl<'a> BlobSaver<'a> {
    pub(super) fn new(
        files: &'a Arc<RepositoryFiles>,
        index: &'a Index,
        options: &ArchiveOptions,
        runtime: &Handle,
    ) -> Self {
        Self {
            files,
            index,
            data: Packer::default(),
            trees: Packer::default(),
            pack_size: options.pack_size.min(ArchiveOptions::MAX_PACK_SIZE),
            compression: options.compression,
            uploads: Uploads::new(files, options.uploads, runtime),
            bytes: AtomicU64::new(0),
            packed_bytes: AtomicU64::new(0),
        }
    }

    /// One for each thread.
    pub(super) fn encoder(&self) -> Result<Encoder, Error> {
        Encoder::with(self.files.version(), self.compression)
    }

    pub(super) const fn files(&self) -> &'a RepositoryFiles {
        self.files
    }

    pub(super) const fn index(&self) -> &'a Index {
        self.index
    }

    /// Whether nothing more is worth while.
    pub(super) fn has_failed(&self) -> bool {
        self.uploads.has_failed()
    }

    /// Saves a blob, unless the repository has it, and returns its name.
    pub(super) fn save(
        &self,
        encoder: &mut Encoder,
        kind: BlobKind,
        plain: &[u8],
    ) -> Result<Id, Error> {
        let id = Id::of(plain);
        let packer = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        if self.index.contains(kind, &id) || !packer.claim(id) {
            return Ok(id);
        }
        let sealed = encoder.encode(self.files.key(), kind, plain)?;
        packer.count.fetch_add(1, Relaxed);
        self.bytes.fetch_add(plain.len() as u64, Relaxed);
        self.packed_bytes.fetch_add(sealed.bytes.len() as u64, Relaxed);
        let full = {
            let mut pack = lock(&packer.pack);
            pack.push(kind, id, sealed.bytes, sealed.raw_length)?;
            pack.is_full(self.pack_size).then(|| std::mem::take(&mut *pack))
        };
        if let Some(pack) = full {
            self.uploads.submit(pack.finish(self.files.key())?)?;
        }
        Ok(id)
    }

    /// Writes what is left and waits until everything is in the store and in its index.
    pub(super) fn finish(&self) -> Result<(), Error> {
        for packer in [&self.data, &self.trees] {
            let pack = std::mem::take(&mut *lock(&packer.pack));
            if !pack.is_empty() && !self.has_failed() {
                self.uploads.submit(pack.finish(self.files.key())?)?;
            }
        }
        self.uploads.finish()
    }

    pub(super) fn added(&self) -> Added {
        Added {
            data_blobs: self.data.count.load(Relaxed),
            tree_blobs: self.trees.count.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            packed_bytes: self.packed_bytes.load(Relaxed),
        }
    }
}
