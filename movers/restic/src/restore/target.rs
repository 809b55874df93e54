//! Directories and files that are being restored.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};
use volsync_mover::{
    Dir, Kind, Metadata, RelPath, apply_to_dir, apply_to_file, file_metadata_and_xattrs, replicates,
};

use super::Shared;
use super::hard_links::Group;
use crate::format::Node;

/// What an entry is to be.
pub(super) fn metadata_of(node: &Node, kind: Kind) -> Metadata {
    let mut xattrs: Vec<_> =
        node.xattrs.iter().filter(|xattr| replicates(&xattr.name)).cloned().collect();
    xattrs.sort_unstable();
    Metadata {
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        size: node.size,
        blocks: 0,
        rdev: node.device,
        nlink: u32::try_from(node.links).unwrap_or(u32::MAX),
        device: node.device_id,
        inode: node.inode,
        xattrs,
    }
}

/// A directory whose entries are not all restored yet. It gets its attributes after them.
#[derive(Debug)]
pub(super) struct TargetDir {
    pub(super) dir: Dir,
    pub(super) path: RelPath,
    parent: Option<Arc<Self>>,
    want: Option<Metadata>,
    /// Entries in work, and one for the plan.
    missing: AtomicUsize,
}

impl TargetDir {
    pub(super) fn new(
        dir: Dir,
        path: RelPath,
        parent: Option<Arc<Self>>,
        want: Option<Metadata>,
    ) -> Arc<Self> {
        if let Some(parent) = &parent {
            parent.expect_one();
        }
        Arc::new(Self { dir, path, parent, want, missing: AtomicUsize::new(1) })
    }

    /// One more entry is in work.
    pub(super) fn expect_one(&self) {
        self.missing.fetch_add(1, Ordering::AcqRel);
    }

    /// One entry fewer is in work.
    pub(super) fn complete(shared: &Shared<'_>, mut dir: Arc<Self>) {
        while dir.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            if let Some(want) = &dir.want
                && !shared.is_over()
            {
                dir.apply(shared, want);
            }
            match &dir.parent {
                Some(parent) => {
                    let parent = parent.clone();
                    dir = parent;
                }
                None => return,
            }
        }
    }

    fn apply(&self, shared: &Shared<'_>, want: &Metadata) {
        let applied = self.dir.own_metadata().and_then(|have| {
            apply_to_dir(&self.dir, want, &have, &shared.privileges, &mut |attribute| {
                shared.monitor.not_kept(&self.path, attribute);
            })
        });
        match applied {
            Ok(true) => shared.monitor.attributes_changed(),
            Ok(false) => {}
            Err(error) => shared.not_written(&self.path, error),
        }
    }

    /// Removes what stands where something else belongs. What is in a directory goes only if what
    /// the snapshot does not have is to go.
    pub(super) fn clear_the_way(
        &self,
        shared: &Shared<'_>,
        name: &[u8],
        kind: Kind,
    ) -> io::Result<()> {
        if kind != Kind::Directory {
            return self.dir.remove_file(name);
        }
        if !shared.delete {
            let mut empty = true;
            self.dir.subdir(name)?.entries(&mut |_, _| empty = false)?;
            if !empty {
                return Err(io::Error::other("a directory that is not empty is in the way"));
            }
        }
        let mut failed = None;
        let removed = self.dir.remove_tree(name, &mut |_, error| {
            failed.get_or_insert(error);
        })?;
        shared.monitor.deleted(removed);
        failed.map_or(Ok(()), Err)
    }
}

/// A file in work.
#[derive(Debug)]
pub(super) struct TargetFile {
    pub(super) dir: Arc<TargetDir>,
    pub(super) node: Node,
    pub(super) group: Option<Arc<Group>>,
    content: Mutex<Content>,
    /// Blobs that are not written yet.
    missing: AtomicUsize,
    failed: AtomicBool,
    /// Something else has its name, and keeps it until this is whole.
    replaces: AtomicBool,
}

#[derive(Debug, Default)]
struct Content {
    file: Option<Arc<File>>,
    /// The name it has until it is whole, as another file has its own.
    temporary: Option<Vec<u8>>,
    /// The file was there before: what is not written is not zero.
    in_place: bool,
}

/// What temporary names begin with. One that was left by a restore that was killed is removed by the next.
pub(super) const TEMPORARY: &[u8] = b".volsync-restore-";

impl TargetFile {
    pub(super) fn new(dir: &Arc<TargetDir>, node: Node, group: Option<Arc<Group>>) -> Arc<Self> {
        dir.expect_one();
        Arc::new(Self {
            dir: dir.clone(),
            node,
            group,
            content: Mutex::default(),
            missing: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            replaces: AtomicBool::new(false),
        })
    }

    /// What has its name is replaced once this is whole, and stays if it never will be.
    pub(super) fn replace(&self) {
        self.replaces.store(true, Ordering::Release);
    }

    pub(super) fn path(&self) -> RelPath {
        self.dir.path.join(&self.node.name)
    }

    /// So many blobs are to be written before it is done.
    pub(super) fn expect(&self, blobs: usize) {
        self.missing.store(blobs, Ordering::Release);
    }

    /// Blobs are written into what is there.
    pub(super) fn write_in_place(&self, file: File) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) =
            Content { file: Some(Arc::new(file)), temporary: None, in_place: true };
    }

    /// Writes a blob that was verified, or with `None` notes that there will be none, and finishes
    /// the file if it was the last.
    pub(super) fn write(self: &Arc<Self>, shared: &Shared<'_>, offset: u64, blob: Option<&[u8]>) {
        if let Some(blob) = blob
            && !self.failed.load(Ordering::Acquire)
            && !shared.is_over()
            && let Err(error) = self.write_blob(offset, blob)
        {
            self.fail_to_write(shared, error);
        }
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(shared);
        }
    }

    fn write_blob(&self, offset: u64, blob: &[u8]) -> io::Result<()> {
        let (file, in_place) = self.opened()?;
        // Zeros of a new file stay holes, those of an old one become some; the length is set at
        // the end.
        let mut from = 0;
        for hole in zeros(blob) {
            write_at(&file, blob.get(from..hole.start), offset + from as u64)?;
            from = hole.end;
            if in_place && !punch_hole(&file, offset + hole.start as u64, hole.len() as u64) {
                from = hole.start;
            }
        }
        write_at(&file, blob.get(from..), offset + from as u64)
    }

    /// The file, made if there is none yet, and whether it was there before the restore. Whoever writes
    /// into it keeps nobody else from doing so.
    fn opened(&self) -> io::Result<(Arc<File>, bool)> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &content.file {
            return Ok((file.clone(), content.in_place));
        }
        let temporary = self.replaces.load(Ordering::Acquire).then(temporary_name);
        let name = temporary.as_ref().unwrap_or(&self.node.name);
        let file = Arc::new(self.dir.dir.create_file(name, 0o600)?);
        *content = Content { file: Some(file.clone()), temporary, in_place: false };
        Ok((file, false))
    }

    pub(super) fn fail_to_write(&self, shared: &Shared<'_>, error: io::Error) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            shared.not_written(&self.path(), error);
        }
    }

    /// The repository does not give what belongs into it.
    pub(super) fn fail_for_damage(&self, shared: &Shared<'_>, why: &str) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            shared.damaged(&self.path(), why);
        }
    }

    /// All blobs are written, or never will be.
    pub(super) fn finish(&self, shared: &Shared<'_>) {
        let mut whole = false;
        if !self.failed.load(Ordering::Acquire) && !shared.is_over() {
            match self.complete(shared) {
                Ok(()) => {
                    whole = true;
                    shared.monitor.sent_file(self.node.size);
                }
                Err(error) => self.fail_to_write(shared, error),
            }
        }
        if !whole {
            self.discard(shared);
        }
        self.done(shared, !whole);
    }

    /// Gives what was written its length, its attributes and its name.
    fn complete(&self, shared: &Shared<'_>) -> io::Result<()> {
        let (file, _) = self.opened()?;
        let have = file_metadata_and_xattrs(&file)?;
        if have.size != self.node.size {
            file.set_len(self.node.size)?;
        }
        self.apply_attributes(shared, &file, &have)?;
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(temporary) = &content.temporary {
            let dir = &self.dir.dir;
            dir.rename(temporary, dir, &self.node.name)?;
            content.temporary = None;
        }
        Ok(())
    }

    /// Removes what this restore made and is not whole: half a file must not look like a whole one. What
    /// was there before is never removed for that.
    fn discard(&self, shared: &Shared<'_>) {
        let content =
            std::mem::take(&mut *self.content.lock().unwrap_or_else(PoisonError::into_inner));
        if content.in_place {
            tracing::warn!("{}: it is partly what it was and partly restored", self.path());
        } else if content.file.is_some()
            && let Err(error) =
                self.dir.dir.remove_file(content.temporary.as_ref().unwrap_or(&self.node.name))
        {
            shared.not_written(&self.path(), error);
        }
    }

    /// Makes the attributes what they are to be. True if anything was changed.
    pub(super) fn apply_attributes(
        &self,
        shared: &Shared<'_>,
        file: &File,
        have: &Metadata,
    ) -> io::Result<bool> {
        let want = metadata_of(&self.node, Kind::File);
        apply_to_file(file, &want, have, &shared.privileges, &mut |attribute| {
            shared.monitor.not_kept(&self.path(), attribute);
        })
    }

    /// It is whole without any writing.
    pub(super) fn is_kept(&self, shared: &Shared<'_>) {
        shared.monitor.matched(self.node.size);
        shared.monitor.done_bytes(self.node.size);
        self.done(shared, self.failed.load(Ordering::Acquire));
    }

    fn done(&self, shared: &Shared<'_>, failed: bool) {
        if let Some(group) = &self.group {
            group.finish(shared, failed);
        }
        TargetDir::complete(shared, self.dir.clone());
        shared.monitor.compared(1);
        shared.gate.leave();
    }
}

/// One that nothing else has.
fn temporary_name() -> Vec<u8> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    [TEMPORARY, format!("{process:x}-{number:x}").as_bytes()].concat()
}

/// The ranges of zeros in `bytes` that are worth a hole, in order: whole blocks.
fn zeros(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    const BLOCK: usize = 4096;
    let mut from = 0;
    std::iter::from_fn(move || {
        while from < bytes.len() {
            let is_zero = |block: &&[u8]| block.iter().all(|byte| *byte == 0);
            let rest = bytes.get(from..).unwrap_or_default();
            let blocks = rest.chunks(BLOCK).take_while(is_zero).count();
            let start = from;
            // What ends the bytes may be shorter than a block.
            from = bytes.len().min(start + blocks.max(1) * BLOCK);
            if blocks > 0 {
                return Some(start..from);
            }
        }
        None
    })
}

/// False if the file system cannot.
fn punch_hole(file: &File, offset: u64, length: u64) -> bool {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, offset, length).is_ok()
}

fn write_at(file: &File, bytes: Option<&[u8]>, offset: u64) -> io::Result<()> {
    match bytes {
        Some(bytes) if !bytes.is_empty() => file.write_all_at(bytes, offset),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_zeros_are_holes() {
        let of = |bytes: &[u8]| -> Vec<(usize, usize)> {
            zeros(bytes).map(|hole| (hole.start, hole.end)).collect()
        };
        assert!(of(b"").is_empty());
        assert!(of(b"a").is_empty());
        assert_eq!(of(&[0; 5]), [(0, 5)]);
        let mut bytes = vec![1; 100_000];
        bytes[4000..8191].fill(0);
        assert!(of(&bytes).is_empty());
        bytes[30_000..60_000].fill(0);
        assert_eq!(of(&bytes), [(32_768, 57_344)]);
        bytes[98_304..].fill(0);
        assert_eq!(of(&bytes), [(32_768, 57_344), (98_304, 100_000)]);
    }
}
