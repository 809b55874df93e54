//! The walk: in the order of names, depth first, through held directories.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::fs::{AtFlags, Stat, fstat, statat};
use tokio::runtime::Handle;
use volsync_mover::{Dir, Kind, RelPath, Root, Xattr, io_reason};

use super::Shared;
use super::entry::{is_unchanged, node_of, recordable};
use super::exclude::{Exclude, TAG};
use super::pending::{PendingDir, Trees};
use super::workers::{Batch, Workers};
use crate::format::tree::TreeReader;
use crate::format::{BlobKind, Encoder, Error, Id, Node, Snapshot, TreeLoader};

/// Files that go to a worker together.
const BATCH: usize = 32;
/// Entries of files that are as they were are handed on in parts of about this size, in bytes.
const PART: usize = 64 << 10;

/// The names in a directory, sorted.
#[derive(Debug, Default)]
struct Names {
    bytes: Vec<u8>,
    /// Where each begins and ends, and what it is if the file system says so at once.
    spans: Vec<(u32, u8, Option<Kind>)>,
}

impl Names {
    fn read(dir: &Dir) -> io::Result<Self> {
        let mut names = Self::default();
        let mut too_many = false;
        dir.entries(&mut |name, kind| match (
            u32::try_from(names.bytes.len()),
            u8::try_from(name.len()),
        ) {
            (Ok(start), Ok(length)) => {
                names.bytes.extend_from_slice(name);
                names.spans.push((start, length, kind));
            }
            _ => too_many = true,
        })?;
        if too_many {
            return Err(io::Error::other("it has too many entries"));
        }
        let Self { bytes, spans } = &mut names;
        spans.sort_unstable_by(|a, b| slice(bytes, a).cmp(slice(bytes, b)));
        Ok(names)
    }

    /// Those of a directory that is to be backed up.
    fn wanted(dir: &Dir, exclude: &Exclude) -> io::Result<Self> {
        let mut names = Self::read(dir)?;
        if exclude.is_cache(dir) {
            let Self { bytes, spans } = &mut names;
            spans.retain(|span| slice(bytes, span) == TAG);
        }
        Ok(names)
    }

    fn at(&self, at: usize) -> Option<(&[u8], Option<Kind>)> {
        let span = self.spans.get(at)?;
        Some((slice(&self.bytes, span), span.2))
    }
}

fn slice<'a>(bytes: &'a [u8], (start, length, _): &(u32, u8, Option<Kind>)) -> &'a [u8] {
    bytes.get(*start as usize..*start as usize + usize::from(*length)).unwrap_or_default()
}

/// The same directory in the parent snapshot, read in the order of names.
#[derive(Debug, Default)]
struct Previous {
    tree: Option<TreeReader>,
    ahead: Option<Node>,
}

impl Previous {
    /// The entry of this name. Names must be asked for in order.
    fn find(&mut self, name: &[u8]) -> Result<Option<Node>, String> {
        loop {
            match &self.ahead {
                Some(node) if &node.name[..] == name => return Ok(self.ahead.take()),
                Some(node) if &node.name[..] > name => return Ok(None),
                Some(_) | None => {}
            }
            let Some(tree) = &mut self.tree else { return Ok(None) };
            self.ahead = tree.next_node().inspect_err(|_| self.ahead = None)?;
            if self.ahead.is_none() {
                self.tree = None;
                return Ok(None);
            }
        }
    }
}

/// A directory on the way down.
struct Frame {
    dir: Arc<Dir>,
    path: RelPath,
    names: Names,
    at: usize,
    previous: Previous,
    pending: Arc<PendingDir>,
    /// Entries that are known, not handed on yet.
    entries: Vec<u8>,
    /// Files to read, not handed on yet.
    batch: Vec<(Vec<u8>, bool)>,
}

struct Walk<'s, 'w, 'scope> {
    shared: &'s Shared<'s>,
    workers: &'w Workers<'scope>,
    trees: TreeLoader<'s>,
    encoder: Encoder,
}

/// Walks the volume to its end. What is left after it is in the hands of the workers.
pub(super) fn walk<'s>(
    shared: &'s Shared<'s>,
    workers: &Workers<'_>,
    root: &Root,
    parent: Option<&Snapshot>,
    runtime: &Handle,
) -> Result<(), Error> {
    let saver = &shared.saver;
    let mut walk = Walk {
        shared,
        workers,
        trees: TreeLoader::new(saver.files(), saver.index(), runtime.clone())?,
        encoder: saver.encoder()?,
    };
    let dir = root.dir(&RelPath::root()).map_err(Error::ReadVolume)?;
    let names = Names::wanted(&dir, shared.exclude).map_err(Error::ReadVolume)?;
    let path = RelPath::root();
    let previous = walk.previous(&path, parent.map(|parent| parent.tree));
    let mut frames = vec![Frame {
        dir: Arc::new(dir),
        path,
        names,
        at: 0,
        previous,
        pending: PendingDir::root(),
        entries: Vec::new(),
        batch: Vec::new(),
    }];
    while let Some(frame) = frames.last_mut() {
        if shared.shutdown.is_requested() {
            return Err(Error::Stopped);
        }
        if saver.has_failed() {
            // The reason comes from the uploads.
            return Ok(());
        }
        match walk.next_subdirectory(frame)? {
            Some(below) => frames.push(below),
            None => {
                let done = frames.pop();
                walk.leave(done)?;
            }
        }
    }
    Ok(())
}

impl Walk<'_, '_, '_> {
    /// Goes on in a directory until there is one below it, or to its end.
    fn next_subdirectory(&mut self, frame: &mut Frame) -> Result<Option<Frame>, Error> {
        while let Some((name, kind)) = frame.names.at(frame.at) {
            let name = name.to_vec();
            frame.at += 1;
            if frame.path.as_bytes().is_empty() && name == b"lost+found" {
                // The file system's own, made anew with every volume.
                continue;
            }
            match self.shared.exclude.leaves_out(&frame.dir, &frame.path, &name, kind) {
                Ok(false) => {}
                Ok(true) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.skipped(&frame.path.join(&name), &error);
                    continue;
                }
            }
            let previous = match frame.previous.find(&name) {
                Ok(previous) => previous,
                Err(why) => {
                    self.listing_is_damaged(&frame.path, &why);
                    None
                }
            };
            match self.entry(frame, &name, kind, previous) {
                Ok(Some(below)) => return Ok(Some(below)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.skipped(&frame.path.join(&name), &error),
            }
            if self.shared.shutdown.is_requested() {
                return Err(Error::Stopped);
            }
        }
        Ok(None)
    }

    fn skipped(&self, path: &RelPath, error: &io::Error) {
        self.shared.monitor.skipped(path, &format!("not read: {}", io_reason(error)));
    }

    /// One entry. A directory is returned, opened.
    fn entry(
        &mut self,
        frame: &mut Frame,
        name: &[u8],
        kind: Option<Kind>,
        previous: Option<Node>,
    ) -> io::Result<Option<Frame>> {
        let known = previous.as_ref().is_some_and(|node| node.kind == Some(Kind::File));
        if kind == Some(Kind::File) && !known {
            self.read_later(frame, name, false);
            return Ok(None);
        }
        let stat = statat(&*frame.dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match Kind::of(&stat) {
            Kind::File => {
                let unchanged = previous
                    .filter(|previous| is_unchanged(&stat, previous) && self.has_all(previous));
                match unchanged {
                    Some(previous) => self.keep(frame, name, &stat, previous.content)?,
                    None => self.read_later(frame, name, known),
                }
            }
            Kind::Directory => return self.enter(frame, name, previous),
            // Made by whoever listens on it, and of no use to anybody else; restic's choice too.
            Kind::Socket => {}
            Kind::Symlink | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                let xattrs = self.xattrs(frame, name)?;
                let mut node = node_of(name, &stat, xattrs, &self.shared.users);
                if node.kind == Some(Kind::Symlink) {
                    node.link_target = frame.dir.read_link(name)?;
                }
                self.known(frame, &node);
            }
        }
        Ok(None)
    }

    fn xattrs(&self, frame: &Frame, name: &[u8]) -> io::Result<Vec<Xattr>> {
        let xattrs = frame.dir.xattrs(name)?;
        Ok(recordable(self.shared.monitor, xattrs, || frame.path.join(name)))
    }

    /// Whether all blobs of a file are in the repository.
    fn has_all(&self, node: &Node) -> bool {
        node.content.iter().all(|id| self.shared.saver.index().contains(BlobKind::Data, id))
    }

    /// A file that is as it was.
    fn keep(
        &mut self,
        frame: &mut Frame,
        name: &[u8],
        stat: &Stat,
        content: Vec<Id>,
    ) -> io::Result<()> {
        let xattrs = self.xattrs(frame, name)?;
        let mut node = node_of(name, stat, xattrs, &self.shared.users);
        node.content = content;
        let Shared { monitor, counters, .. } = self.shared;
        monitor.found(1, node.size);
        monitor.compared(1);
        monitor.matched(node.size);
        monitor.done_bytes(node.size);
        counters.files_unmodified.fetch_add(1, Relaxed);
        counters.bytes.fetch_add(node.size, Relaxed);
        self.known(frame, &node);
        Ok(())
    }

    /// An entry that needs no worker.
    fn known(&mut self, frame: &mut Frame, node: &Node) {
        self.send_batch(frame);
        if !frame.entries.is_empty() {
            frame.entries.push(b',');
        }
        node.write(&mut frame.entries);
        if frame.entries.len() >= PART {
            hand_on(frame);
        }
    }

    /// A file for a worker.
    fn read_later(&mut self, frame: &mut Frame, name: &[u8], known: bool) {
        hand_on(frame);
        frame.batch.push((name.to_vec(), known));
        if frame.batch.len() >= BATCH {
            self.send_batch(frame);
        }
    }

    fn send_batch(&mut self, frame: &mut Frame) {
        if frame.batch.is_empty() {
            return;
        }
        let batch = Batch {
            dir: frame.dir.clone(),
            path: frame.path.clone(),
            files: std::mem::take(&mut frame.batch),
            part: (frame.pending.clone(), frame.pending.open_part()),
        };
        // Workers that have gone have left their reason behind.
        self.workers.send(batch);
    }

    /// Opens a directory below.
    fn enter(
        &mut self,
        frame: &mut Frame,
        name: &[u8],
        previous: Option<Node>,
    ) -> io::Result<Option<Frame>> {
        let dir = frame.dir.subdir(name)?;
        let stat = fstat(&dir)?;
        let path = frame.path.join(name);
        let xattrs =
            recordable(self.shared.monitor, volsync_mover::file_xattrs(&dir)?, || path.clone());
        let names = Names::wanted(&dir, self.shared.exclude)?;
        let node = node_of(name, &stat, xattrs, &self.shared.users);
        self.send_batch(frame);
        hand_on(frame);
        let previous = previous.filter(|node| node.kind == Some(Kind::Directory));
        let tree = previous.as_ref().and_then(|node| node.subtree);
        let previous_tree = self.previous(&path, tree);
        Ok(Some(Frame {
            dir: Arc::new(dir),
            path,
            names,
            at: 0,
            previous: previous_tree,
            pending: PendingDir::below(&frame.pending, node, previous),
            entries: Vec::new(),
            batch: Vec::new(),
        }))
    }

    fn previous(&mut self, path: &RelPath, tree: Option<Id>) -> Previous {
        let Some(tree) = tree else { return Previous::default() };
        match self.trees.load(tree) {
            Ok(tree) => Previous { tree: Some(tree), ahead: None },
            Err(error) => {
                self.listing_is_damaged(path, &error.to_string());
                Previous::default()
            }
        }
    }

    /// The directory is backed up all the same, but the repository has lost something, and a tree
    /// that comes out the same would be taken for one that is there.
    fn listing_is_damaged(&self, path: &RelPath, why: &str) {
        let why = format!("its listing in the previous snapshot cannot be read: {why}");
        self.shared.monitor.skipped(path, &why);
    }

    fn leave(&mut self, frame: Option<Frame>) -> Result<(), Error> {
        let Some(mut frame) = frame else { return Ok(()) };
        self.send_batch(&mut frame);
        hand_on(&mut frame);
        Trees::complete(self.shared, &mut self.encoder, frame.pending)
    }
}

/// Hands on the entries that are known.
fn hand_on(frame: &mut Frame) {
    if !frame.entries.is_empty() {
        frame.pending.add_part(std::mem::take(&mut frame.entries));
    }
}
