//! The restorer: a snapshot becomes the content of a volume.
//!
//! ```text
//!   plan (one thread): walks the trees, makes directories and links, compares what is there
//!     | files that are there          | blobs that are needed
//!     v                               v
//!   workers: read, hash   --blobs-->  fetch: sorts by pack, reads large ranges
//!     ^                               |
//!     +------- ranges of packs -------+     workers decrypt, verify, write
//! ```
//!
//! A file that is there is read and hashed, and only blobs that differ are fetched. Every blob is
//! verified before it is written. Memory is bounded by the ranges in flight and by the number of
//! files in work.
//!
//! Nothing is written outside the volume: each name in a tree is one valid component, taken in a
//! held directory, and nothing is followed.

mod fetch;
mod gate;
mod hard_links;
mod plan;
mod target;
mod workers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use volsync_mover::{Monitor, Privileges, RelPath, Root, Shutdown, io_reason};

use crate::format::{Error, Id, Index, RepositoryFiles};

use gate::Gate;
use hard_links::HardLinks;

/// How a restore is done.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Whether what the snapshot does not have is removed.
    pub delete: bool,
    /// Threads that decrypt, verify and write.
    pub threads: usize,
    /// Ranges that are read from the store at the same time.
    pub reads: u32,
    /// Bytes of packs in memory.
    pub memory: u32,
}

/// What a restore came to, beside what the monitor has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Files and directories that the repository could not give whole. Each was named in the
    /// monitor, and nothing else stands in its place.
    pub damaged: u64,
}

/// What every part of a restorer needs.
#[derive(Debug)]
struct Shared<'a> {
    files: &'a Arc<RepositoryFiles>,
    index: &'a Index,
    root: &'a Root,
    delete: bool,
    monitor: &'a Monitor,
    shutdown: &'a Shutdown,
    privileges: Privileges,
    links: HardLinks,
    gate: Gate,
    damaged: AtomicU64,
    has_failed: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl Shared<'_> {
    /// Ends the restore.
    fn fail(&self, error: Error) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(error);
        drop(failed);
        self.has_failed.store(true, Ordering::Release);
        self.gate.open_for_good();
    }

    /// Whether nothing more is worth while.
    fn is_over(&self) -> bool {
        if self.shutdown.is_requested() && !self.has_failed.load(Ordering::Acquire) {
            self.fail(Error::Stopped);
        }
        self.has_failed.load(Ordering::Acquire)
    }

    /// Something the volume did not take. A volume that takes nothing more ends the restore.
    fn not_written(&self, path: &RelPath, error: std::io::Error) {
        use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) {
            self.fail(Error::WriteVolume { path: path.to_string(), source: error });
        } else {
            self.monitor.skipped(path, &format!("not restored: {}", io_reason(&error)));
        }
    }

    /// Something the repository does not give.
    fn damaged(&self, path: &RelPath, why: &str) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.monitor.skipped(path, &format!("not restored: {why}"));
    }
}

/// Makes what is below `root` like the tree `tree` of a snapshot.
///
/// What could not be restored is counted and named in `monitor`. An error means that the rest was
/// not tried. Blocks until done, so call it on a thread that may block.
pub fn restore(
    files: &Arc<RepositoryFiles>,
    index: &Index,
    root: &Root,
    tree: Id,
    options: &RestoreOptions,
    (monitor, shutdown): (&Monitor, &Shutdown),
    runtime: &Handle,
) -> Result<Restored, Error> {
    let shared = Shared {
        files,
        index,
        root,
        delete: options.delete,
        monitor,
        shutdown,
        privileges: Privileges::current(),
        links: HardLinks::default(),
        gate: Gate::default(),
        damaged: AtomicU64::new(0),
        has_failed: AtomicBool::new(false),
        failed: Mutex::default(),
    };
    std::thread::scope(|scope| {
        let crew = workers::Crew::start(scope, &shared, options, runtime)?;
        let planned = plan::plan(&shared, &crew, tree, runtime);
        if planned.is_ok() {
            shared.gate.wait_until_empty();
        }
        crew.finish();
        planned
    })?;
    let failed = shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failed {
        Some(error) => Err(error),
        None => Ok(Restored { damaged: shared.damaged.load(Ordering::Relaxed) }),
    }
}
