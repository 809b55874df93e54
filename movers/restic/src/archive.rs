//! The archiver: a volume becomes a snapshot.
//!
//! ```text
//!   walk (one thread) --files to read--> workers --blobs--> packs --> uploads --> index files
//!     |  what is as in the parent is not read           |
//!     +--------> pending directories <---- entries -----+     each becomes a tree when its last
//!                                                             entry is known, innermost first
//! ```
//!
//! The walk goes in the order of names, depth first, so what is in memory is the directories on
//! the way down, the files in the hands of workers, and packs. Files to read go to workers in
//! batches; a large file's blobs are shared among idle workers.
//!
//! Nothing refers to a blob before it is durable: packs are written first, then index files, and
//! the snapshot last.

mod entry;
mod exclude;
mod file;
mod pending;
mod saver;
mod walk;
mod workers;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use jiff::Timestamp;
use tokio::runtime::Handle;
use volsync_mover::{Monitor, Root, Shutdown};

use crate::format::chunker::Chunker;
use crate::format::snapshot::Summary;
use crate::format::{Compression, Error, Id, Index, RepositoryFiles, Snapshot};

pub use exclude::Exclude;

use entry::UserNames;
use pending::Trees;
use saver::BlobSaver;
use workers::Workers;

/// What a snapshot says about itself, and how it is made.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// The host that is recorded.
    pub host: String,
    /// The paths that are recorded.
    pub paths: Vec<String>,
    /// The tags that are recorded.
    pub tags: Vec<String>,
    /// The time that is recorded.
    pub time: Timestamp,
    /// What is left out.
    pub exclude: Exclude,
    /// How much blobs are compressed.
    pub compression: Compression,
    /// The size at which a pack is written, in bytes.
    pub pack_size: usize,
    /// Threads that read, compress and encrypt.
    pub threads: usize,
    /// Packs that are written at the same time.
    pub uploads: u32,
}

impl ArchiveOptions {
    /// A whole volume, as of now, as fast as this machine permits.
    pub fn new(host: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            paths: vec![path.into()],
            tags: Vec::new(),
            time: Timestamp::now(),
            exclude: Exclude::default(),
            compression: Compression::default(),
            pack_size: Self::PACK_SIZE,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            uploads: 4,
        }
    }

    /// restic's usual pack size, in bytes.
    pub const PACK_SIZE: usize = 16 << 20;
    /// What restic refuses to exceed, in bytes.
    pub const MAX_PACK_SIZE: usize = 128 << 20;
}

/// A snapshot that was made.
#[derive(Debug)]
pub struct Archived {
    /// Its name.
    pub id: Id,
    /// What it says.
    pub snapshot: Snapshot,
}

/// What is counted for the snapshot's summary.
#[derive(Debug, Default)]
struct Counters {
    files_new: AtomicU64,
    files_changed: AtomicU64,
    files_unmodified: AtomicU64,
    dirs_new: AtomicU64,
    dirs_changed: AtomicU64,
    dirs_unmodified: AtomicU64,
    bytes: AtomicU64,
}

/// What every part of an archiver needs.
#[derive(Debug)]
struct Shared<'a> {
    saver: BlobSaver<'a>,
    trees: Trees,
    counters: Counters,
    users: UserNames,
    exclude: &'a Exclude,
    chunker: Chunker,
    monitor: &'a Monitor,
    shutdown: &'a Shutdown,
}

/// Backs up what is below `root` and returns the snapshot. With a `parent`, files that are as they
/// were in it are not read again.
///
/// What cannot be read is left out, counted and named in `monitor`; an error means that there is
/// no snapshot. Blocks until done, so call it on a thread that may block.
pub fn archive(
    files: &Arc<RepositoryFiles>,
    index: &Index,
    root: &Root,
    parent: Option<(Id, &Snapshot)>,
    options: &ArchiveOptions,
    (monitor, shutdown): (&Monitor, &Shutdown),
    runtime: &Handle,
) -> Result<Archived, Error> {
    let chunker = Chunker::new(files.polynomial())
        .ok_or_else(|| Error::damaged("config", "the chunker polynomial is none"))?;
    let shared = Shared {
        saver: BlobSaver::new(files, index, options, runtime),
        trees: Trees::default(),
        counters: Counters::default(),
        users: UserNames::load(),
        exclude: &options.exclude,
        chunker,
        monitor,
        shutdown,
    };
    let tree = std::thread::scope(|scope| {
        let workers = Workers::start(scope, &shared, options.threads.max(1))?;
        let walked =
            walk::walk(&shared, &workers, root, parent.map(|(_, snapshot)| snapshot), runtime);
        // Workers end when nothing more can come.
        let finished = workers.finish();
        walked.and(finished)
    })
    .and_then(|()| {
        shared.saver.finish()?;
        shared.trees.root().ok_or(Error::Stopped)
    })?;
    let counters = &shared.counters;
    monitor.total_known(counters.bytes.load(Relaxed));
    let snapshot = Snapshot {
        time: options.time.to_string(),
        parent: parent.map(|(id, _)| id),
        tree,
        paths: options.paths.clone(),
        hostname: options.host.clone(),
        username: shared.users.user(rustix::process::geteuid().as_raw()),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        excludes: options.exclude.lines(),
        tags: options.tags.clone(),
        original: None,
        program_version: concat!("volsync ", env!("CARGO_PKG_VERSION")).to_owned(),
        summary: Some(summary(&shared, options.time)),
    };
    let id = runtime.block_on(files.write_snapshot(&snapshot))?;
    Ok(Archived { id, snapshot })
}

fn summary(shared: &Shared<'_>, start: Timestamp) -> Summary {
    let Counters {
        files_new,
        files_changed,
        files_unmodified,
        dirs_new,
        dirs_changed,
        dirs_unmodified,
        bytes,
    } = &shared.counters;
    let added = shared.saver.added();
    let [files_new, files_changed, files_unmodified] =
        [files_new, files_changed, files_unmodified].map(|count| count.load(Relaxed));
    Summary {
        backup_start: start.to_string(),
        backup_end: Timestamp::now().to_string(),
        files_new,
        files_changed,
        files_unmodified,
        dirs_new: dirs_new.load(Relaxed),
        dirs_changed: dirs_changed.load(Relaxed),
        dirs_unmodified: dirs_unmodified.load(Relaxed),
        data_blobs: added.data_blobs,
        tree_blobs: added.tree_blobs,
        data_added: added.bytes,
        data_added_packed: added.packed_bytes,
        total_files_processed: files_new + files_changed + files_unmodified,
        total_bytes_processed: bytes.load(Relaxed),
    }
}
