//! The whole source side: unlock if asked to, back up, forget, prune if asked to.

use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use volsync_contract::{
    Outcome, Phase, Report, ResticReport, ResticSource, Task, Verify, VerifyReport,
};
use volsync_mover::{Context, RelPath, Root};

use crate::archive::{ArchiveOptions, Exclude, archive};
use crate::config::{Access, Tuning};
use crate::error::Error;
use crate::format::{self, Id, Snapshot};
use crate::lock::{Holder, Lock, Locks, Mode};
use crate::prune::{PruneOptions, prune};
use crate::repository::{Opened, Repository};
use crate::retain::{Policy, Taken};
use crate::select::{Wanted, select};
use crate::verify::{VerifyOptions, verify};

/// How long a backup waits for somebody who prunes.
pub(crate) const WAIT: Duration = Duration::from_secs(5 * 60);
/// How long forgetting and pruning wait for somebody who backs up; the next sync makes good for it.
const WAIT_TO_REMOVE: Duration = Duration::from_secs(60);

/// Backs up the volume.
pub async fn run(task: &Task, source: &ResticSource, context: &Context) -> Result<Report, Error> {
    let access = Access::new(&context.environment)?;
    let policy = Policy::parse(&source.forget)?;
    // What is wrong with these is told before anything is done.
    Tuning::new(&context.environment)?;
    Exclude::new(&source.exclude, source.exclude_caches)?;
    let root = Root::open(&task.data)?;
    access.outside_of(&task.data)?;
    let me = Holder::current(&source.replication);
    let mut said = ResticReport::default();

    let opened = Repository::open(&access.store, &access.password).await?;
    if let (true, Opened::Repository(repository)) = (source.unlock, &opened) {
        said.unlocked = Some(repository.locks(me.clone()).remove_stale().await?);
    }
    if is_empty(&root)? {
        said.empty = true;
        return Ok(report(context, said));
    }
    let repository = match opened {
        Opened::Repository(repository) => repository,
        Opened::Missing => {
            said.initialized = true;
            Repository::create(&access.store, &access.password, &me.host).await?
        }
    };
    said.repository = Some(repository.id().to_owned());
    let locks = repository.locks(me);
    back_up(&repository, &locks, root, source, context, &mut said).await?;
    // What could not be read, or has been lost, may only be in the snapshots before this one.
    let verified = verify_volume(&repository, &locks, source, context).await?;
    let is_damaged = verified.as_ref().is_some_and(|verified| verified.damaged > 0);
    said.verified = verified;
    if context.monitor.is_complete() && !is_damaged {
        remove(&repository, &locks, source, policy, context, &mut said).await?;
    }
    Ok(report(context, said))
}

/// The root of a new file system is empty but for `lost+found`.
fn is_empty(root: &Root) -> Result<bool, Error> {
    let mut empty = true;
    let listed = root
        .dir(&RelPath::root())
        .and_then(|dir| dir.entries(&mut |name, _| empty &= name == b"lost+found"));
    listed.map_err(format::Error::ReadVolume)?;
    Ok(empty)
}

async fn back_up(
    repository: &Repository,
    locks: &Locks,
    root: Root,
    source: &ResticSource,
    context: &Context,
    said: &mut ResticReport,
) -> Result<(), Error> {
    let lock = locks.take(Mode::Shared, WAIT, &context.shutdown).await?;
    let backed_up = archive_volume(repository, root, source, context).await;
    lock.release().await?;
    let (id, snapshot) = backed_up?;
    said.snapshot = Some(id.to_string());
    said.parent = snapshot.parent.map(|parent| parent.to_string());
    if let Some(summary) = &snapshot.summary {
        said.added_bytes = summary.data_added;
        said.stored_bytes = summary.data_added_packed;
    }
    Ok(())
}

async fn archive_volume(
    repository: &Repository,
    root: Root,
    source: &ResticSource,
    context: &Context,
) -> Result<(Id, Snapshot), Error> {
    let time = Timestamp::now();
    let snapshots = repository.snapshots().await?;
    let wanted =
        Wanted { path: source.path.clone(), host: Some(source.host.clone()), ..Wanted::default() };
    let parent = select(&snapshots, &wanted)?.cloned();
    let files = repository.files().clone();
    let index = files.load_index().await?;
    let tuning = Tuning::new(&context.environment)?;
    let options = ArchiveOptions {
        tags: source.tags.clone(),
        time,
        exclude: Exclude::new(&source.exclude, source.exclude_caches)?,
        compression: tuning.compression,
        pack_size: tuning.pack_size,
        threads: tuning.threads,
        ..ArchiveOptions::new(&source.host, &source.path)
    };
    let (monitor, shutdown, runtime) =
        (context.monitor.clone(), context.shutdown.clone(), Handle::current());
    monitor.phase(Phase::Transferring);
    let archived = tokio::task::spawn_blocking(move || {
        let parent = parent.as_ref().map(|(id, snapshot)| (*id, snapshot));
        archive(&files, &index, &root, parent, &options, (&monitor, &shutdown), &runtime)
    });
    let archived = archived.await.map_err(|_| Error::Interrupted)??;
    Ok((archived.id, archived.snapshot))
}

async fn verify_volume(
    repository: &Repository,
    locks: &Locks,
    source: &ResticSource,
    context: &Context,
) -> Result<Option<VerifyReport>, Error> {
    let Some(Verify { percent, round }) = source.verify else { return Ok(None) };
    let tuning = Tuning::new(&context.environment)?;
    let options = VerifyOptions { percent, round, threads: tuning.threads };
    let lock = locks.take(Mode::Shared, WAIT, &context.shutdown).await?;
    let verified = verify(repository, &options, &context.shutdown).await;
    lock.release().await?;
    let verified = verified?;
    for what in &verified.first {
        tracing::error!("{what}");
    }
    Ok(Some(VerifyReport {
        packs_read: verified.packs_read as u64,
        bytes_read: verified.bytes_read,
        damaged: verified.damaged,
        first: verified.first.into_iter().next().unwrap_or_default(),
    }))
}

/// Forgets what this source need not keep, which is snapshots of its own host and path and no other,
/// and prunes what no snapshot of anybody needs.
async fn remove(
    repository: &Repository,
    locks: &Locks,
    source: &ResticSource,
    policy: Policy,
    context: &Context,
    said: &mut ResticReport,
) -> Result<(), Error> {
    let superfluous = superfluous(&repository.snapshots().await?, source, policy)?;
    if superfluous.is_empty() && !source.prune {
        return Ok(());
    }
    context.monitor.phase(Phase::Deleting);
    let lock = match locks.take(Mode::Exclusive, WAIT_TO_REMOVE, &context.shutdown).await {
        Ok(lock) => lock,
        Err(Error::Locked { by }) => {
            said.postponed = by;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let removed = forget_and_prune(repository, &lock, &superfluous, source, context).await;
    lock.release().await?;
    removed?;
    said.forgotten = u32::try_from(superfluous.len()).unwrap_or(u32::MAX);
    said.pruned = source.prune;
    Ok(())
}

async fn forget_and_prune(
    repository: &Repository,
    lock: &Lock,
    superfluous: &[Id],
    source: &ResticSource,
    context: &Context,
) -> Result<(), Error> {
    repository.forget(superfluous).await?;
    if source.prune {
        let tuning = Tuning::new(&context.environment)?;
        let options = PruneOptions {
            pack_size: tuning.pack_size,
            threads: tuning.threads,
            reads: 8,
            uploads: 4,
        };
        prune(repository, lock, &options, &context.shutdown).await?;
    }
    Ok(())
}

fn superfluous(
    snapshots: &[(Id, Snapshot)],
    source: &ResticSource,
    policy: Policy,
) -> Result<Vec<Id>, Error> {
    let mut own = Vec::new();
    for (id, snapshot) in snapshots {
        if snapshot.hostname == source.host && snapshot.paths == [source.path.as_str()] {
            let taken = Taken::parse(&snapshot.time)
                .ok_or_else(|| Error::SnapshotTime { id: *id, time: snapshot.time.clone() })?;
            own.push((*id, taken));
        }
    }
    own.sort_by_key(|(id, taken)| std::cmp::Reverse((taken.at, *id)));
    let taken: Vec<Taken> = own.iter().map(|(_, taken)| *taken).collect();
    let kept = policy.keep(&taken, Timestamp::now());
    Ok(own.iter().zip(kept).filter(|(_, kept)| !kept).map(|((id, _), _)| *id).collect())
}

pub(crate) fn report(context: &Context, said: ResticReport) -> Report {
    let outcome =
        if context.monitor.is_complete() { Outcome::Complete } else { Outcome::Incomplete };
    Report { restic: Some(said), ..context.monitor.report(outcome) }
}
