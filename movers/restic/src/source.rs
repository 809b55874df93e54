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
use crate::verify::{Damage, Verified, VerifyOptions, verify};

/// How long a backup waits for somebody who prunes.
pub(crate) const WAIT: Duration = Duration::from_secs(5 * 60);
/// How long forgetting and pruning wait for somebody who backs up; the next sync makes good for it.
const WAIT_TO_REMOVE: Duration = Duration::from_secs(60);

/// Backs up the volume.
pub async fn run(task: &Task, source: &ResticSource, context: &Context) -> Result<Report, Error> {
    let access = Access::new(&context.environment, source.bandwidth, &context.shutdown)?;
    let policy = Policy::parse(&source.forget)?;
    // What is wrong with these is told before anything is done.
    Tuning::new(&context.environment)?;
    let exclude = Exclude::new(&source.exclude, source.exclude_caches)?;
    let root = Root::open(&task.data)?;
    access.outside_of(&task.data)?;
    let me = Holder::current(&source.replication);
    let mut said = ResticReport::default();

    let opened = Repository::open(&access.store, &access.password).await?;
    if let (true, Opened::Repository(repository)) = (source.unlock, &opened) {
        said.unlocked = Some(repository.locks(me.clone()).remove_stale().await?);
    }
    if is_empty(&root, &exclude)? {
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
    let repository = repository.with_cache(&source.cache);
    said.repository = Some(repository.id().to_owned());
    let locks = repository.locks(me);
    let damage = Damage::default();
    back_up(&repository, &locks, root, (source, exclude), context, &damage, &mut said).await?;
    verify_if_due(&repository, &locks, source, context, damage.found(), &mut said).await?;
    let is_damaged = said.verified.as_ref().is_some_and(|verified| verified.damaged > 0);
    // What could not be read, or has been lost, may only be in the snapshots before this one; and where
    // that was to be looked for and was not, nobody knows.
    if context.monitor.is_complete() && !is_damaged && said.unverified.is_empty() {
        remove(&repository, &locks, source, policy, context, &mut said).await?;
    }
    Ok(report(context, said))
}

/// Whether there is nothing to save: the root of a new file system is empty but for `lost+found`, and
/// what is left out does not count.
fn is_empty(root: &Root, exclude: &Exclude) -> Result<bool, Error> {
    let looked = || -> std::io::Result<bool> {
        let dir = root.dir(&RelPath::root())?;
        if exclude.is_cache(&dir) {
            return Ok(true);
        }
        let mut names = Vec::new();
        dir.entries(&mut |name, kind| names.push((name.to_vec(), kind)))?;
        for (name, kind) in names {
            if name == b"lost+found" {
                continue;
            }
            match exclude.leaves_out(&dir, &RelPath::root(), &name, kind) {
                Ok(true) => {}
                // It was deleted meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Ok(false) | Err(_) => return Ok(false),
            }
        }
        Ok(true)
    };
    Ok(looked().map_err(format::Error::ReadVolume)?)
}

async fn back_up(
    repository: &Repository,
    locks: &Locks,
    root: Root,
    (source, exclude): (&ResticSource, Exclude),
    context: &Context,
    damage: &Damage,
    said: &mut ResticReport,
) -> Result<(), Error> {
    let lock = locks.take(Mode::Shared, WAIT, &context.shutdown).await?;
    let backed_up = archive_volume(repository, root, (source, exclude), context, damage).await;
    let released = lock.release().await;
    // What went wrong first is what is told.
    let (id, snapshot) = backed_up?;
    released?;
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
    (source, exclude): (&ResticSource, Exclude),
    context: &Context,
    damage: &Damage,
) -> Result<(Id, Snapshot), Error> {
    let time = Timestamp::now();
    // Whatever has become of older backups, a new one is made: it needs nothing of them.
    let snapshots = repository.readable_snapshots(damage).await?;
    let wanted =
        Wanted { path: source.path.clone(), host: Some(source.host.clone()), ..Wanted::default() };
    let parent = select(&snapshots, &wanted)?.cloned();
    let files = repository.files().clone();
    let index = files.load_readable_index(damage).await?;
    let tuning = Tuning::new(&context.environment)?;
    let options = ArchiveOptions {
        tags: source.tags.clone(),
        time,
        exclude,
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

/// Verifies, if it is time, and tells what the backup came across besides. That it could not be done is
/// told, and no reason to lose a backup for: it stays due.
async fn verify_if_due(
    repository: &Repository,
    locks: &Locks,
    source: &ResticSource,
    context: &Context,
    met: Verified,
    said: &mut ResticReport,
) -> Result<(), Error> {
    let mut found = (met.damaged > 0).then_some(met);
    if let Some(how) = source.verify {
        match verify_locked(repository, locks, how, context).await {
            // It has read what the backup read, too.
            Ok(verified) if verified.damaged > 0 || found.is_none() => found = Some(verified),
            Ok(_) => {}
            Err(error) if context.shutdown.is_requested() => return Err(error),
            Err(error) => said.unverified = error.to_string(),
        }
    }
    let Some(found) = found else { return Ok(()) };
    for what in &found.first {
        tracing::error!("{what}");
    }
    said.verified = Some(VerifyReport {
        // What was asked for and not done is asked for again.
        asked: source.verify.filter(|_| said.unverified.is_empty()),
        packs_read: found.packs_read as u64,
        bytes_read: found.bytes_read,
        damaged: found.damaged,
        first: found.first.into_iter().next().unwrap_or_default(),
    });
    Ok(())
}

async fn verify_locked(
    repository: &Repository,
    locks: &Locks,
    Verify { percent, round }: Verify,
    context: &Context,
) -> Result<Verified, Error> {
    let threads = Tuning::new(&context.environment)?.walkers();
    let options = VerifyOptions { percent, round, threads };
    let lock = locks.take(Mode::Shared, WAIT, &context.shutdown).await?;
    let verified = match verify(repository, &options, &context.shutdown).await {
        // Without a lock somebody else may have removed what is missing.
        Ok(verified) if verified.damaged > 0 => lock.confirm().await.map(|()| verified),
        other => other,
    };
    let released = lock.release().await;
    let verified = verified?;
    released.map(|()| verified)
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
    let released = lock.release().await;
    removed?;
    released?;
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
            threads: tuning.walkers(),
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
