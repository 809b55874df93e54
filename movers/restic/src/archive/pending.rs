//! Directories whose entries are not all known yet.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Shared;
use crate::format::tree::build_tree;
use crate::format::{BlobKind, Encoder, Error, Id, Node};

/// A directory whose entries come in parts, in the order of names. It becomes a tree when the last
/// part is there.
#[derive(Debug)]
pub(super) struct PendingDir {
    /// Where its own entry goes; the root has none.
    parent: Option<(Arc<Self>, usize)>,
    node: Mutex<Option<Node>>,
    /// The same directory in the parent snapshot.
    previous: Option<Node>,
    parts: Mutex<Vec<Vec<u8>>>,
    /// Parts that are missing, and one for the walk.
    missing: AtomicUsize,
}

impl PendingDir {
    pub(super) fn root() -> Arc<Self> {
        Arc::new(Self::new(None, None, None))
    }

    /// A directory whose entry goes into a part of `parent`.
    pub(super) fn below(parent: &Arc<Self>, node: Node, previous: Option<Node>) -> Arc<Self> {
        let place = (parent.clone(), parent.open_part());
        Arc::new(Self::new(Some(place), Some(node), previous))
    }

    fn new(parent: Option<(Arc<Self>, usize)>, node: Option<Node>, previous: Option<Node>) -> Self {
        Self {
            parent,
            node: Mutex::new(node),
            previous,
            parts: Mutex::default(),
            missing: AtomicUsize::new(1),
        }
    }

    /// A part that is known: entries in JSON with commas between them.
    pub(super) fn add_part(&self, entries: Vec<u8>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(entries);
    }

    /// A part that [`Trees::complete`] will be called for.
    pub(super) fn open_part(&self) -> usize {
        self.missing.fetch_add(1, Ordering::AcqRel);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push(Vec::new());
        parts.len() - 1
    }

    fn fill_part(&self, part: usize, entries: Vec<u8>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.get_mut(part) {
            *part = entries;
        }
    }
}

/// Where trees come together.
#[derive(Debug, Default)]
pub(super) struct Trees {
    root: Mutex<Option<Id>>,
}

impl Trees {
    /// The root, once its tree is saved.
    pub(super) fn root(&self) -> Option<Id> {
        *self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills an open part of a directory.
    pub(super) fn fill(
        shared: &Shared<'_>,
        encoder: &mut Encoder,
        (dir, part): (Arc<PendingDir>, usize),
        entries: Vec<u8>,
    ) -> Result<(), Error> {
        dir.fill_part(part, entries);
        Self::complete(shared, encoder, dir)
    }

    /// One part fewer is missing. Saves the tree if that was the last, and its parent's tree if
    /// this was the last of that.
    pub(super) fn complete(
        shared: &Shared<'_>,
        encoder: &mut Encoder,
        mut dir: Arc<PendingDir>,
    ) -> Result<(), Error> {
        let mut tree = Vec::new();
        while dir.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            let parts =
                std::mem::take(&mut *dir.parts.lock().unwrap_or_else(PoisonError::into_inner));
            build_tree(parts.iter().map(|part| &part[..]), &mut tree);
            drop(parts);
            let id = shared.saver.save(encoder, BlobKind::Tree, &tree)?;
            let node = dir.node.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (Some((parent, part)), Some(mut node)) = (&dir.parent, node) else {
                *shared.trees.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
                return Ok(());
            };
            node.subtree = Some(id);
            count(shared, dir.previous.as_ref(), &node);
            let mut entry = Vec::with_capacity(512);
            node.write(&mut entry);
            parent.fill_part(*part, entry);
            let parent = parent.clone();
            dir = parent;
        }
        Ok(())
    }
}

fn count(shared: &Shared<'_>, previous: Option<&Node>, node: &Node) {
    let counter: &AtomicU64 = match previous {
        None => &shared.counters.dirs_new,
        Some(previous) if previous == node => &shared.counters.dirs_unmodified,
        Some(_) => &shared.counters.dirs_changed,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}
