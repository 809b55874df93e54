//! Files with several names: the first is restored, the others are linked to it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use volsync_mover::{AttributesWanted, RelPath};

use super::Shared;
use super::target::TargetDir;
use crate::format::Node;

/// Every file with several names that has not come to its last one.
#[derive(Debug, Default)]
pub(super) struct HardLinks {
    groups: Mutex<HashMap<(u64, u64), Known>>,
}

#[derive(Debug)]
struct Known {
    group: Arc<Group>,
    names_left: u64,
}

/// The names of one file.
#[derive(Debug)]
pub(super) struct Group {
    first: RelPath,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The first is in work; these wait for it.
    InWork(Vec<(Arc<TargetDir>, Vec<u8>)>),
    Restored,
    /// There is no file to link to.
    Failed,
}

/// What a name of a file with several names is.
pub(super) enum Place {
    /// The one that is restored.
    First(Arc<Group>),
    /// One that is linked.
    Further(Arc<Group>),
}

impl HardLinks {
    /// Takes note of a name at `path`.
    pub(super) fn place(&self, node: &Node, path: &RelPath) -> Place {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (node.device_id, node.inode);
        if let Some(known) = groups.get_mut(&key) {
            let group = known.group.clone();
            known.names_left -= 1;
            if known.names_left == 0 {
                groups.remove(&key);
            }
            return Place::Further(group);
        }
        let state = Mutex::new(State::InWork(Vec::new()));
        let group = Arc::new(Group { first: path.clone(), state });
        if node.links > 1 {
            groups.insert(key, Known { group: group.clone(), names_left: node.links - 1 });
        }
        Place::First(group)
    }
}

impl Group {
    /// Links a further name, now or when the first is there.
    pub(super) fn link(&self, shared: &Shared<'_>, dir: &Arc<TargetDir>, name: &[u8]) {
        let failed = match &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::InWork(waiting) => {
                dir.expect_one();
                waiting.push((dir.clone(), name.to_vec()));
                return;
            }
            State::Restored => false,
            State::Failed => true,
        };
        self.link_or_name(shared, dir, name, failed);
    }

    /// The first is restored, or never will be.
    pub(super) fn finish(&self, shared: &Shared<'_>, failed: bool) {
        let state = if failed { State::Failed } else { State::Restored };
        let before = std::mem::replace(
            &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            state,
        );
        if let State::InWork(waiting) = before {
            for (dir, name) in waiting {
                self.link_or_name(shared, &dir, &name, failed);
                TargetDir::complete(shared, dir);
            }
        }
    }

    fn link_or_name(&self, shared: &Shared<'_>, dir: &TargetDir, name: &[u8], failed: bool) {
        if failed {
            let why = format!("it is another name of {}, which was not restored", self.first);
            shared.damaged(&dir.path.join(name), &why);
        } else if let Err(error) = self.link_now(shared, dir, name) {
            shared.not_written(&dir.path.join(name), error);
        }
    }

    fn link_now(&self, shared: &Shared<'_>, dir: &TargetDir, name: &[u8]) -> io::Result<()> {
        let parent = self.first.parent().unwrap_or_default();
        let first_name = self.first.file_name().unwrap_or_default();
        let first_dir = shared.root.dir(&parent)?;
        let first = first_dir.metadata(first_name, AttributesWanted::None)?;
        match dir.dir.metadata(name, AttributesWanted::None) {
            Ok(have) if (have.device, have.inode) == (first.device, first.inode) => return Ok(()),
            Ok(have) => dir.clear_the_way(shared, name, have.kind)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        first_dir.hard_link(first_name, &dir.dir, name)?;
        shared.monitor.other_made();
        Ok(())
    }
}
