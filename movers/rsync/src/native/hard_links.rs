//! Names that share one inode at the source share one at the destination.
//!
//! The first name of a group that is listed leads it; the others are linked to it as soon as it is
//! in place. A group is forgotten when all its names have been seen.

use std::sync::{Arc, MutexGuard, PoisonError};

use volsync_mover::{AttributesWanted, Kind, Metadata, RelPath};

use super::link::Ended;
use super::target::{Directory, Target};

/// Device and inode of a group at the source.
pub(super) type Key = (u64, u64);

/// The names of one inode.
#[derive(Debug)]
pub(super) struct Group {
    leader_directory: RelPath,
    leader_name: Vec<u8>,
    state: State,
    /// Names not yet listed.
    to_come: u32,
}

#[derive(Debug)]
enum State {
    UnderWay(Vec<(Arc<Directory>, Vec<u8>)>),
    InPlace,
    Failed,
}

/// The group an entry belongs to, if it has other names.
pub(super) fn key_of(metadata: &Metadata) -> Option<Key> {
    (metadata.nlink > 1 && metadata.kind != Kind::Directory)
        .then_some((metadata.device, metadata.inode))
}

fn lock<'a>(target: &'a Target<'_>) -> MutexGuard<'a, std::collections::HashMap<Key, Group>> {
    target.links.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of a listed name. True if it leads its group and is to be made like any file; false
/// if it is (or will be) linked to its leader.
pub(super) fn join(
    target: &Target<'_>,
    key: Key,
    nlink: u32,
    directory: &Arc<Directory>,
    name: &[u8],
) -> Result<bool, Ended> {
    let mut links = lock(target);
    let Some(group) = links.get_mut(&key) else {
        links.insert(
            key,
            Group {
                leader_directory: directory.path.clone(),
                leader_name: name.to_vec(),
                state: State::UnderWay(Vec::new()),
                to_come: nlink - 1,
            },
        );
        return Ok(true);
    };
    group.to_come = group.to_come.saturating_sub(1);
    match &mut group.state {
        State::UnderWay(waiting) => {
            target.hold(directory);
            waiting.push((directory.clone(), name.to_vec()));
        }
        State::Failed => {
            drop(links);
            let path = directory.path.join(name);
            target
                .monitor
                .skipped(&path, "not linked: the file it is a hard link to could not be had");
        }
        State::InPlace => {
            let (leader_directory, leader_name) =
                (group.leader_directory.clone(), group.leader_name.clone());
            if group.to_come == 0 {
                links.remove(&key);
            }
            drop(links);
            link(target, &leader_directory, &leader_name, directory, name)?;
        }
    }
    Ok(false)
}

/// The leader of a group is in place, or never will be.
pub(super) fn settled(target: &Target<'_>, key: Key, in_place: bool) -> Result<(), Ended> {
    let mut links = lock(target);
    let Some(group) = links.get_mut(&key) else { return Ok(()) };
    let state = if in_place { State::InPlace } else { State::Failed };
    let State::UnderWay(waiting) = std::mem::replace(&mut group.state, state) else {
        return Ok(());
    };
    let (leader_directory, leader_name) =
        (group.leader_directory.clone(), group.leader_name.clone());
    if group.to_come == 0 {
        links.remove(&key);
    }
    drop(links);
    for (directory, name) in waiting {
        if in_place {
            link(target, &leader_directory, &leader_name, &directory, &name)?;
        } else {
            let path = directory.path.join(&name);
            target
                .monitor
                .skipped(&path, "not linked: the file it is a hard link to could not be had");
        }
        target.release(&directory)?;
    }
    Ok(())
}

fn link(
    target: &Target<'_>,
    leader_directory: &RelPath,
    leader_name: &[u8],
    directory: &Directory,
    name: &[u8],
) -> Result<(), Ended> {
    let done = target.root.dir(leader_directory).and_then(|from| {
        let leader = from.metadata(leader_name, AttributesWanted::None)?;
        let have = directory.dir.metadata(name, AttributesWanted::None);
        if !have
            .as_ref()
            .is_ok_and(|have| (have.device, have.inode) == (leader.device, leader.inode))
        {
            directory.touch();
        }
        match have {
            Ok(have) if (have.device, have.inode) == (leader.device, leader.inode) => return Ok(()),
            Ok(have) if have.kind == Kind::Directory => {
                let mut trouble = None;
                directory.dir.remove_tree(name, &mut |_, error| trouble = Some(error))?;
                if let Some(error) = trouble {
                    return Err(error);
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let temporary = target.temporary_name(target.next_temporary());
        from.hard_link(leader_name, &directory.dir, &temporary)?;
        directory.dir.rename(&temporary, &directory.dir, name).inspect_err(|_| {
            // The rename's error is the one to report; a temporary name left behind goes with the next sync.
            directory.dir.remove_file(&temporary).unwrap_or_default();
        })?;
        target.monitor.other_made();
        Ok(())
    });
    done.or_else(|error| target.trouble(&directory.path.join(name), &error, "not linked"))
}
