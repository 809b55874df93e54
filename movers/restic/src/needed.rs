//! What snapshots need: their trees are walked, each tree once, however many snapshots have it.
//!
//! Threads walk depth first, since trees lie in packs in about that order. Whoever has nothing left
//! to walk is given half of what another has not come to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use volsync_bucket::Kind as Missing;
use volsync_mover::{Kind, Shutdown};

mod bits;

use crate::format::{BlobKind, Error, Id, Index, RepositoryFiles, TreeLoader};
use crate::verify::Damage;
pub(crate) use bits::Bits;

/// The numbers of all blobs below these roots; of a blob that has several copies, of the first.
///
/// A blob that is in no pack, or a tree that cannot be read, is an error; with `damage` it is put there
/// and the walk goes on with what there is. Blocks until done.
pub(crate) fn find_needed(
    files: &RepositoryFiles,
    index: &Index,
    roots: &[Id],
    threads: usize,
    damage: Option<&Damage>,
    (shutdown, runtime): (&Shutdown, &Handle),
) -> Result<Bits, Error> {
    let walk = Walk {
        files,
        index,
        needed: Bits::new(index.len()),
        damage,
        threads: threads.max(1),
        queue: Mutex::default(),
        changed: Condvar::new(),
        idle: AtomicUsize::new(0),
        shutdown,
        runtime,
    };
    for root in roots {
        if walk.note(walk.mark(BlobKind::Tree, *root))?.unwrap_or(false) {
            walk.queue().trees.push(*root);
        }
    }
    std::thread::scope(|scope| {
        let mut started = Ok(());
        for _ in 0..walk.threads {
            let thread = std::thread::Builder::new().name("walk".to_owned());
            if let Err(error) = thread.spawn_scoped(scope, || walk.run()) {
                started = Err(Error::Thread(error));
                walk.end(Ok(()));
                break;
            }
        }
        started
    })?;
    let failed = walk.queue().failed.take();
    failed.map_or(Ok(walk.needed), Err)
}

/// Whether a pack that is needed is as the index says.
pub(crate) fn check_pack(id: Id, listed: u64, length: Option<u64>) -> Result<(), Error> {
    let why = match length {
        Some(length) if length == listed => return Ok(()),
        Some(length) => format!("it has {length} bytes, and {listed} by what the index lists"),
        None => "a snapshot needs what the index says lies in it, and it is not there".to_owned(),
    };
    Err(Error::damaged(format!("pack {id}"), why))
}

struct Walk<'a> {
    files: &'a RepositoryFiles,
    index: &'a Index,
    needed: Bits,
    damage: Option<&'a Damage>,
    threads: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
    /// How many threads wait for something to walk.
    idle: AtomicUsize,
    shutdown: &'a Shutdown,
    runtime: &'a Handle,
}

#[derive(Default)]
struct Queue {
    /// Trees that nobody has begun.
    trees: Vec<Id>,
    is_over: bool,
    failed: Option<Error>,
}

impl Walk<'_> {
    fn run(&self) {
        let walked = TreeLoader::new(self.files, self.index, self.runtime.clone())
            .and_then(|loader| self.walk(loader));
        if walked.is_err() {
            self.end(walked);
        }
    }

    fn walk(&self, mut loader: TreeLoader<'_>) -> Result<(), Error> {
        let mut own = Vec::new();
        while let Some(tree) = own.pop().or_else(|| self.take()) {
            if self.shutdown.is_requested() {
                return Err(Error::Stopped);
            }
            let below = own.len();
            self.note(self.read(&mut loader, tree, &mut own))?;
            if let Some(new) = own.get_mut(below..) {
                new.reverse();
            }
            if own.len() > 1 && self.idle.load(Ordering::Relaxed) > 0 {
                // The oldest are the furthest from where this thread reads.
                let given = own.drain(..own.len() / 2);
                self.queue().trees.extend(given);
                self.changed.notify_all();
            }
        }
        Ok(())
    }

    /// Marks what a tree names, and appends the trees that nobody has walked.
    fn read(&self, loader: &mut TreeLoader<'_>, id: Id, new: &mut Vec<Id>) -> Result<(), Error> {
        let damaged = |why: String| Error::damaged(format!("tree blob {id}"), why);
        let mut tree = loader.load(id).map_err(|error| match error {
            Error::Store(error)
                if matches!(error.kind(), Missing::NotFound | Missing::OutOfRange) =>
            {
                damaged(error.to_string())
            }
            other => other,
        })?;
        while let Some(node) = tree.next_node().map_err(damaged)? {
            for content in &node.content {
                self.note(self.mark(BlobKind::Data, *content))?;
            }
            match node.subtree {
                Some(subtree)
                    if self.note(self.mark(BlobKind::Tree, subtree))?.unwrap_or(false) =>
                {
                    new.push(subtree);
                }
                Some(_) => {}
                None if node.kind == Some(Kind::Directory) => {
                    return Err(damaged("it has a directory without a tree".to_owned()));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Whether nobody has marked it before.
    fn mark(&self, kind: BlobKind, id: Id) -> Result<bool, Error> {
        let number = self
            .index
            .number(kind, &id)
            .ok_or_else(|| Error::MissingBlob { kind: kind.name(), id })?;
        Ok(self.needed.insert(number))
    }

    /// Goes on after damage, where that is wanted.
    fn note<T>(&self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match (result, self.damage) {
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), Some(damage)) => damage.take(error).map(|()| None),
            (Err(error), None) => Err(error),
        }
    }

    /// A tree that nobody has begun; `None` at the end.
    fn take(&self) -> Option<Id> {
        let mut queue = self.queue();
        self.idle.fetch_add(1, Ordering::Relaxed);
        loop {
            if queue.is_over {
                return None;
            }
            if let Some(tree) = queue.trees.pop() {
                self.idle.fetch_sub(1, Ordering::Relaxed);
                return Some(tree);
            }
            if self.idle.load(Ordering::Relaxed) == self.threads {
                queue.is_over = true;
                self.changed.notify_all();
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the walk for all threads.
    fn end(&self, walked: Result<(), Error>) {
        let mut queue = self.queue();
        queue.is_over = true;
        if let Err(error) = walked {
            queue.failed.get_or_insert(error);
        }
        self.changed.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
