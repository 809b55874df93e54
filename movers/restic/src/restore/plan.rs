//! The plan: walks the trees of a snapshot in order, makes directories, links and devices, and
//! hands files on.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use volsync_mover::{
    Attribute, AttributesWanted, Dir, Kind, Metadata, RelPath, apply_at, check_name,
};

use super::Shared;
use super::fetch::Wanted;
use super::hard_links::Place;
use super::target::{TEMPORARY, TargetDir, TargetFile, metadata_of};
use super::workers::{Batch, Crew, locate};
use crate::format::tree::TreeReader;
use crate::format::{Error, Id, Node, TreeLoader};

/// Files that are handed on in one go. Far fewer than there are places in the gate, or those who have
/// them would wait for what is not handed on.
const BATCH: usize = 32;

/// A directory on the way down.
struct Frame {
    target: Arc<TargetDir>,
    tree: TreeReader,
    /// What was there and has not been come to, and what it is where the directory says so. What is left
    /// at the end is not in the snapshot.
    there: HashMap<Vec<u8>, Option<Kind>>,
    last: Option<Vec<u8>>,
}

struct Plan<'s, 'c, 'scope> {
    shared: &'s Shared<'s>,
    crew: &'c Crew<'scope>,
    trees: TreeLoader<'s>,
    /// Files to compare, not handed on yet.
    to_compare: Batch,
    /// What is to be fetched for others.
    to_fetch: Vec<Wanted>,
}

/// Walks the trees to their end. What is left after it is in the hands of the crew.
pub(super) fn plan<'s>(
    shared: &'s Shared<'s>,
    crew: &Crew<'_>,
    tree: Id,
    runtime: &Handle,
) -> Result<(), Error> {
    let trees = TreeLoader::new(shared.files, shared.index, runtime.clone())?;
    let mut plan = Plan { shared, crew, trees, to_compare: Batch::new(), to_fetch: Vec::new() };
    let path = RelPath::root();
    // Without its root there is no snapshot.
    let tree = plan.trees.load(tree)?;
    let dir = shared.root.dir(&path).map_err(Error::ReadVolume)?;
    let there = names(&dir).map_err(Error::ReadVolume)?;
    let target = TargetDir::new(dir, path, None, None);
    let mut frames = vec![Frame { target, tree, there, last: None }];
    while let Some(frame) = frames.last_mut() {
        if shared.is_over() {
            return Ok(());
        }
        let next = frame.tree.next_node();
        match next {
            Ok(Some(node)) => {
                if let Some(below) = plan.entry(frame, node) {
                    frames.push(below);
                }
            }
            Ok(None) => {
                if let Some(frame) = frames.pop() {
                    plan.leave(frame, true);
                }
            }
            Err(why) => {
                shared.damaged(&frame.target.path, &format!("the rest of it: {why}"));
                if let Some(frame) = frames.pop() {
                    plan.leave(frame, false);
                }
            }
        }
    }
    plan.hand_on(0);
    Ok(())
}

fn names(dir: &Dir) -> io::Result<HashMap<Vec<u8>, Option<Kind>>> {
    let mut names = HashMap::new();
    dir.entries(&mut |name, kind| {
        names.insert(name.to_vec(), kind);
    })?;
    Ok(names)
}

impl Plan<'_, '_, '_> {
    /// One entry. A directory is returned, to be gone into.
    fn entry(&mut self, frame: &mut Frame, node: Node) -> Option<Frame> {
        let shared = self.shared;
        let in_order = frame.last.as_ref().is_none_or(|last| *last < node.name);
        if let Err(why) = check_name(&node.name) {
            let shown = RelPath::root().join(node.name.escape_ascii().to_string().as_bytes());
            shared.damaged(&frame.target.path, &format!("an entry named {shown}: {why}"));
            return None;
        }
        let path = frame.target.path.join(&node.name);
        if !in_order {
            shared.damaged(&path, "it is listed out of order or twice");
            return None;
        }
        frame.last = Some(node.name.clone());
        let there = frame.there.remove(&node.name);
        let Some(kind) = node.kind else {
            shared.monitor.skipped(&path, "not restored: a volume cannot hold such an entry");
            return None;
        };
        // Whoever compares a file looks at it, so that there is no need to look twice.
        if let (Kind::File, Some(Some(have))) = (kind, there) {
            if let Err(error) = self.file(frame, node, &path, Some(have)) {
                shared.not_written(&path, error);
            }
            return None;
        }
        let have = if there.is_some() {
            match frame.target.dir.metadata(&node.name, AttributesWanted::None) {
                Ok(have) => Some(have),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => {
                    shared.not_written(&path, error);
                    return None;
                }
            }
        } else {
            None
        };
        let done = match kind {
            Kind::Directory => match self.enter(frame, &node, have) {
                Ok(below) => return below,
                Err(error) => Err(error),
            },
            Kind::File => self.file(frame, node, &path, have.map(|have| have.kind)),
            Kind::Symlink | Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => {
                self.special(frame, &node, kind, &path, have)
            }
            // Of no use without whoever listened on it.
            Kind::Socket => Ok(()),
        };
        if let Err(error) = done {
            shared.not_written(&path, error);
        }
        None
    }

    /// Gives the crew what is more than so many files, or blobs of such.
    fn hand_on(&mut self, most: usize) {
        if self.to_compare.len() > most {
            self.crew.compare(std::mem::take(&mut self.to_compare));
        }
        if self.to_fetch.len() > most {
            self.crew.fetch(std::mem::take(&mut self.to_fetch));
        }
    }

    fn file(
        &mut self,
        frame: &Frame,
        node: Node,
        path: &RelPath,
        have: Option<Kind>,
    ) -> io::Result<()> {
        let shared = self.shared;
        let mut group = None;
        if node.links > 1 {
            match shared.links.place(&node, path) {
                Place::First(first) => group = Some(first),
                Place::Further(first) => {
                    shared.monitor.found(1, 0);
                    first.link(shared, &frame.target, &node.name);
                    shared.monitor.compared(1);
                    return Ok(());
                }
            }
        }
        shared.monitor.found(1, node.size);
        shared.gate.enter();
        let file = TargetFile::new(&frame.target, node, group);
        match have {
            Some(Kind::File) => {
                self.to_compare.push(file);
                self.hand_on(BATCH);
                return Ok(());
            }
            // Only a directory cannot be replaced by a file in one go.
            Some(have) if have != Kind::Directory => file.replace(),
            Some(have) => {
                let cleared = frame.target.clear_the_way(shared, &file.node.name, have);
                if let Err(error) = cleared {
                    file.fail_to_write(shared, error);
                    file.finish(shared);
                    return Ok(());
                }
            }
            None => {}
        }
        match locate(shared, &file) {
            Some(blobs) if !blobs.is_empty() => {
                file.expect(blobs.len());
                self.to_fetch.extend(blobs);
                self.hand_on(BATCH);
            }
            Some(_) | None => file.finish(shared),
        }
        Ok(())
    }

    fn special(
        &self,
        frame: &Frame,
        node: &Node,
        kind: Kind,
        path: &RelPath,
        have: Option<Metadata>,
    ) -> io::Result<()> {
        let (shared, name) = (self.shared, &node.name[..]);
        shared.monitor.found(1, 0);
        let mut group = None;
        if node.links > 1 && matches!(kind, Kind::Symlink | Kind::Fifo) {
            match shared.links.place(node, path) {
                Place::First(first) => group = Some(first),
                Place::Further(first) => {
                    first.link(shared, &frame.target, name);
                    return Ok(());
                }
            }
        }
        let made = make_special(shared, &frame.target, node, kind, path, have);
        if let Some(group) = group {
            group.finish(shared, !matches!(made, Ok(true)));
        }
        shared.monitor.compared(1);
        made.map(|_| ())
    }
    /// Makes or opens a directory. `None` if it cannot be gone into, which was said.
    fn enter(
        &mut self,
        frame: &mut Frame,
        node: &Node,
        have: Option<Metadata>,
    ) -> io::Result<Option<Frame>> {
        let shared = self.shared;
        let name = &node.name[..];
        let path = frame.target.path.join(name);
        let is_there = have.as_ref().is_some_and(|have| have.kind == Kind::Directory);
        let mut there = HashMap::new();
        let dir = if is_there {
            let dir = self.open_up(&frame.target.dir, name, have)?;
            there = names(&dir)?;
            dir
        } else {
            if let Some(have) = have {
                frame.target.clear_the_way(shared, name, have.kind)?;
            }
            frame.target.dir.make_dir(name, 0o700)?;
            shared.monitor.other_made();
            frame.target.dir.subdir(name)?
        };
        let parent = Some(frame.target.clone());
        let want = Some(metadata_of(node, Kind::Directory));
        let target = TargetDir::new(dir, path, parent, want);
        let tree = match node.subtree {
            Some(tree) => self.trees.load(tree).map_err(|error| error.to_string()),
            None => Err("it has no listing".to_owned()),
        };
        match tree {
            Ok(tree) => Ok(Some(Frame { target, tree, there, last: None })),
            Err(why) => {
                shared.damaged(&target.path, &format!("what is in it: {why}"));
                TargetDir::complete(shared, target);
                Ok(None)
            }
        }
    }

    /// Opens a directory that is there; its owner's rights are set at its end, and until then the
    /// restore needs them.
    fn open_up(&self, dir: &Dir, name: &[u8], have: Option<Metadata>) -> io::Result<Dir> {
        if let Some(have) = have
            && have.mode & 0o700 != 0o700
            && !self.shared.privileges.is_root()
        {
            let open = Metadata { mode: have.mode | 0o700, ..have.clone() };
            apply_at(dir, name, &open, &have, &self.shared.privileges, &mut |_| {})?;
        }
        dir.subdir(name)
    }

    fn leave(&self, frame: Frame, is_whole: bool) {
        let shared = self.shared;
        let goes = |(name, kind): &(Vec<u8>, Option<Kind>)| {
            shared.delete || (*kind == Some(Kind::File) && name.starts_with(TEMPORARY))
        };
        if is_whole {
            for (name, _) in frame.there.into_iter().filter(goes) {
                if frame.target.path.as_bytes().is_empty() && name == b"lost+found" {
                    continue;
                }
                let path = frame.target.path.join(&name);
                let removed = frame.target.dir.remove_tree(&name, &mut |below, error| {
                    shared.not_written(&path.join_path(below), error);
                });
                match removed {
                    Ok(entries) => shared.monitor.deleted(entries),
                    Err(error) => shared.not_written(&path, error),
                }
            }
        }
        TargetDir::complete(shared, frame.target);
    }
}

/// Makes a link, pipe or device, or gives the one that is there its attributes. False if this
/// process may not make it.
fn make_special(
    shared: &Shared<'_>,
    target: &TargetDir,
    node: &Node,
    kind: Kind,
    path: &RelPath,
    have: Option<Metadata>,
) -> io::Result<bool> {
    let (dir, name) = (&target.dir, &node.name[..]);
    let want = metadata_of(node, kind);
    let is_right = |have: &Metadata| -> io::Result<bool> {
        Ok(have.kind == kind
            && (kind != Kind::Symlink || dir.read_link(name)? == node.link_target)
            && (!matches!(kind, Kind::CharDevice | Kind::BlockDevice) || have.rdev == want.rdev))
    };
    let mut right = false;
    if let Some(have) = &have {
        right = is_right(have)?;
        if !right {
            target.clear_the_way(shared, name, have.kind)?;
        }
    }
    if !right {
        match kind {
            Kind::Symlink => dir.make_symlink(name, &node.link_target)?,
            Kind::Fifo => dir.make_fifo(name, 0o600)?,
            Kind::CharDevice | Kind::BlockDevice => {
                match dir.make_device(name, kind, 0o600, want.rdev) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        shared.monitor.not_kept(path, Attribute::Device);
                        return Ok(false);
                    }
                    made => made?,
                }
            }
            Kind::File | Kind::Directory | Kind::Socket => return Ok(false),
        }
        shared.monitor.other_made();
    }
    let have = dir.metadata(name, AttributesWanted::All)?;
    let changed = apply_at(dir, name, &want, &have, &shared.privileges, &mut |attribute| {
        shared.monitor.not_kept(path, attribute);
    })?;
    if changed && right {
        shared.monitor.attributes_changed();
    }
    Ok(true)
}
