//! The whole destination side: find the snapshot, restore it, and say how that ended.

use jiff::Timestamp;
use tokio::runtime::Handle;
use volsync_bucket::{Kind, Operation};
use volsync_contract::{
    Phase, Report, ResticDestination, ResticReport, RestoreOutcome, Task, TaskError, env, paths,
};
use volsync_mover::{Context, Root};

use crate::config::Access;
use crate::error::Error;
use crate::format::{self, Id, Snapshot, TreeLoader};
use crate::lock::{Holder, Mode};
use crate::repository::{Opened, Repository};
use crate::restore::{RestoreOptions, restore};
use crate::select::{Wanted, select};
use crate::source::{WAIT, report};

/// Restores the volume.
pub async fn run(
    task: &Task,
    destination: &ResticDestination,
    context: &Context,
) -> Result<Report, Error> {
    let access = Access::new(&context.environment, destination.bandwidth, &context.shutdown)?;
    let wanted = wanted(destination)?;
    let root = Root::open(&task.data)?;
    if destination.delete {
        access.outside_of(&task.data)?;
    }
    let me = Holder::current(&destination.replication);
    let mut said = ResticReport { deleting: destination.delete, ..ResticReport::default() };
    let location = || access.store.location().to_owned();

    let repository = match Repository::open(&access.store, &access.password).await? {
        Opened::Repository(repository) => repository,
        Opened::Missing if destination.required => {
            return Err(Error::RepositoryMissing { location: location() });
        }
        Opened::Missing => {
            // Whoever restores before the first backup finds its repository made, as with upstream.
            let made = Repository::create(&access.store, &access.password, &me.host).await?;
            said.initialized = true;
            said.repository = Some(made.id().to_owned());
            said.restore = Some(RestoreOutcome::RepositoryMissing);
            return Ok(report(context, said));
        }
    };
    let repository = repository.with_cache(&destination.cache);
    said.repository = Some(repository.id().to_owned());
    let lock = match repository.locks(me).take(Mode::Shared, WAIT, &context.shutdown).await {
        Ok(lock) => Some(lock),
        // A copy that may only be read is restored from all the same: what it has is verified.
        Err(Error::Repository(format::Error::Store(refused))) if forbids_writing(&refused) => {
            tracing::warn!("restoring without a lock, so nobody should prune meanwhile: {refused}");
            None
        }
        Err(other) => return Err(other),
    };
    let restored = restore_wanted(&repository, &wanted, root, destination, context).await;
    let released = match lock {
        Some(lock) => lock.release().await,
        None => Ok(()),
    };
    // What went wrong first is what is told.
    let restored = restored?;
    released?;
    said.restore = Some(match restored {
        Some(id) => {
            said.snapshot = Some(id.to_string());
            RestoreOutcome::Restored
        }
        None if destination.required => {
            return Err(Error::NothingEligible { location: location(), why: why(&wanted) });
        }
        None => RestoreOutcome::NothingEligible,
    });
    Ok(report(context, said))
}

fn forbids_writing(error: &volsync_bucket::Error) -> bool {
    error.kind() == Kind::Forbidden
        && matches!(error.operation(), Operation::Put | Operation::Delete)
}

fn wanted(destination: &ResticDestination) -> Result<Wanted, Error> {
    let as_of = Some(&destination.restore_as_of).filter(|text| !text.is_empty()).map(|text| {
        text.parse::<Timestamp>().map_err(|_| TaskError::Invalid {
            name: env::RESTORE_AS_OF,
            value: text.clone(),
            expected: "a time such as 2026-01-31T12:00:00Z",
        })
    });
    Ok(Wanted {
        path: destination.path.clone(),
        host: destination.host.clone(),
        as_of: as_of.transpose()?,
        previous: destination.previous,
        id: destination.snapshot.clone(),
    })
}

async fn restore_wanted(
    repository: &Repository,
    wanted: &Wanted,
    root: Root,
    destination: &ResticDestination,
    context: &Context,
) -> Result<Option<Id>, Error> {
    let snapshots = repository.snapshots().await?;
    let Some((id, snapshot)) = select(&snapshots, wanted)? else { return Ok(None) };
    let files = repository.files().clone();
    let index = files.load_index().await?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options =
        RestoreOptions { delete: destination.delete, threads, reads: 8, memory: 64 << 20 };
    let (monitor, shutdown, runtime) =
        (context.monitor.clone(), context.shutdown.clone(), Handle::current());
    monitor.phase(Phase::Transferring);
    let snapshot = snapshot.clone();
    let restored = tokio::task::spawn_blocking(move || {
        let tree = volume_root(&mut TreeLoader::new(&files, &index, runtime.clone())?, &snapshot)?;
        restore(&files, &index, &root, tree, &options, (&monitor, &shutdown), &runtime)?;
        // What a file system took and cannot keep shows here, and in nothing after it.
        monitor.phase(Phase::Finishing);
        root.sync().map_err(|source| {
            let path = "the volume".to_owned();
            format::Error::WriteVolume { path, source }
        })
    });
    restored.await.map_err(|_| Error::Interrupted)??;
    Ok(Some(*id))
}

/// The tree of the volume in a snapshot. restic keeps whole paths: what it made of `/home/me` has `home`
/// at its root and `me` in that, and nothing else. Movers begin at the root of the volume.
fn volume_root(trees: &mut TreeLoader<'_>, snapshot: &Snapshot) -> Result<Id, format::Error> {
    let [path] = &snapshot.paths[..] else { return Ok(snapshot.tree) };
    if path == paths::DATA || snapshot.program_version.starts_with("volsync ") {
        return Ok(snapshot.tree);
    }
    let mut tree = snapshot.tree;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let mut entries = trees.load(tree)?;
        let mut next = || {
            let damaged = |why| format::Error::damaged(format!("tree blob {tree}"), why);
            entries.next_node().map_err(damaged)
        };
        match (next()?, next()?) {
            (Some(node), None) if node.name[..] == *name.as_bytes() => match node.subtree {
                Some(below) => tree = below,
                None => return Ok(snapshot.tree),
            },
            _ => return Ok(snapshot.tree),
        }
    }
    Ok(tree)
}

/// What was looked for, in words.
fn why(wanted: &Wanted) -> String {
    if let Some(id) = &wanted.id {
        return format!("none has an ID that begins with {id}");
    }
    let mut words = format!("of path {}", wanted.path);
    if let Some(host) = &wanted.host {
        words.push_str(&format!(", of host {host}"));
    }
    if let Some(limit) = wanted.as_of {
        words.push_str(&format!(", taken up to {limit}"));
    }
    if wanted.previous > 0 {
        words.push_str(&format!(", the newest {} skipped", wanted.previous));
    }
    format!("none is {words}")
}
