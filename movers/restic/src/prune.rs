//! Pruning: data that no snapshot needs is removed, under an exclusive lock.
//!
//! ```text
//!   index, packs, trees of all snapshots --plan--> new packs --> new index --> old index, old packs
//!                   are read                           are written                are removed
//! ```
//!
//! Whoever is killed between any two steps leaves a repository that is whole: nothing is removed
//! before what takes its place is durable and listed, and a pack goes only when no index file lists
//! it. What was left over, the next prune removes. Nothing is changed where something is missing that
//! a snapshot needs.

mod plan;
mod repack;

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;
use volsync_mover::Shutdown;

use crate::error::Error;
use crate::format::index::{INDEX_FILE_BLOBS, build_index_file};
use crate::format::pack::PackedBlob;
use crate::format::{self, Id, Index, RepositoryFiles};
use crate::lock::Lock;
use crate::needed::find_needed;
use crate::repository::Repository;
use plan::{Fate, Plan};

/// How a prune is done.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// The size at which a pack is written, in bytes.
    pub pack_size: usize,
    /// Threads that walk trees.
    pub threads: usize,
    /// Ranges that are read at the same time to be repacked.
    pub reads: usize,
    /// Packs that are written at the same time.
    pub uploads: u32,
}

/// What a prune came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Packs of which nothing was needed.
    pub removed: usize,
    /// Packs of which something was, and is in new packs now.
    pub repacked: usize,
    /// Packs that no index file named.
    pub leftovers: usize,
}

/// Files that are removed at the same time.
const REMOVALS: usize = 16;

/// Removes what no snapshot needs. The lock is an exclusive one of this repository.
pub async fn prune(
    repository: &Repository,
    lock: &Lock,
    options: &PruneOptions,
    shutdown: &Shutdown,
) -> Result<Pruned, Error> {
    let files = repository.files();
    let index_files = files.list_index_files().await?;
    let survey = survey(repository, &index_files, options, shutdown).await;
    let (index, plan) = survey.map_err(|error| match error {
        Error::Repository(source) => Error::NotPruned { source },
        other => other,
    })?;
    let count = |wanted| plan.fates.iter().filter(|fate| **fate == wanted).count();
    let pruned = Pruned {
        removed: count(Fate::Removed),
        repacked: count(Fate::Repacked),
        leftovers: plan.leftovers.len(),
    };
    tracing::info!(kept = count(Fate::Kept), missing = count(Fate::Missing), ?pruned, "pruning");

    if !plan.keeps_index() || is_scattered(&index, &index_files) {
        repack_into_new(files, &index, &plan, options, shutdown).await?;
        write_index(files, &index, &plan, shutdown).await?;
        lock.confirm().await?;
        remove(&index_files, shutdown, |name| files.delete_index_file(name)).await?;
    }
    let packs = plan.removed(&index);
    if !packs.is_empty() {
        lock.confirm().await?;
        remove(&packs, shutdown, |id| files.delete_pack(*id)).await?;
    }
    Ok(pruned)
}

/// Reads what is there and decides what becomes of it. Nothing is changed.
async fn survey(
    repository: &Repository,
    index_files: &[String],
    options: &PruneOptions,
    shutdown: &Shutdown,
) -> Result<(Arc<Index>, Plan), Error> {
    let files = repository.files();
    let index = Arc::new(files.load_index_files(index_files).await?);
    let packs = files.list_packs().await?;
    let roots = repository.roots().await?;
    let (files, walked, threads) = (files.clone(), index.clone(), options.threads);
    let (shutdown, runtime) = (shutdown.clone(), Handle::current());
    let planned = tokio::task::spawn_blocking(move || {
        let ends = (&shutdown, &runtime);
        let used = find_needed(&files, &walked, &roots, threads, None, ends)?;
        Plan::new(&walked, &used, &packs)
    });
    Ok((index, planned.await.map_err(|_| Error::Interrupted)??))
}

/// Whether there are more than twice as many index files as it takes.
fn is_scattered(index: &Index, index_files: &[String]) -> bool {
    index_files.len() > 2 * (index.len() / INDEX_FILE_BLOBS + 1)
}

async fn repack_into_new(
    files: &Arc<RepositoryFiles>,
    index: &Arc<Index>,
    plan: &Plan,
    options: &PruneOptions,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let (files, index, options) = (files.clone(), index.clone(), options.clone());
    let (numbers, shutdown, runtime) = (plan.repacked.clone(), shutdown.clone(), Handle::current());
    let repacked = tokio::task::spawn_blocking(move || {
        repack::repack(&files, &index, &numbers, &options, &shutdown, &runtime)
    });
    Ok(repacked.await.map_err(|_| Error::Interrupted)??)
}

/// Writes index files about the packs that stay. Those about new packs are there.
async fn write_index(
    files: &RepositoryFiles,
    index: &Index,
    plan: &Plan,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let mut packs: Vec<(Id, Vec<PackedBlob>)> = Vec::new();
    let mut blobs = 0;
    for (pack, blob) in plan.kept(index).into_iter().filter_map(|number| index.copy(number)) {
        let Some(id) = index.packs().get(pack as usize).copied() else { continue };
        match packs.last_mut() {
            Some((last, of)) if *last == id => of.push(blob),
            _ => {
                if blobs >= INDEX_FILE_BLOBS {
                    stopped(shutdown)?;
                    files.write_index(&build_index_file(&packs)).await?;
                    packs.clear();
                    blobs = 0;
                }
                packs.push((id, vec![blob]));
            }
        }
        blobs += 1;
    }
    stopped(shutdown)?;
    if !packs.is_empty() {
        files.write_index(&build_index_file(&packs)).await?;
    }
    Ok(())
}

/// Removes files, unless asked to stop: the lock may be lost.
async fn remove<'n, T, F>(
    names: &'n [T],
    shutdown: &Shutdown,
    delete: impl Fn(&'n T) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), format::Error>>,
{
    let deletions = names.iter().map(|name| {
        let deletion = delete(name);
        async move {
            stopped(shutdown)?;
            Ok::<_, Error>(deletion.await?)
        }
    });
    futures::stream::iter(deletions).buffer_unordered(REMOVALS).try_collect().await
}

fn stopped(shutdown: &Shutdown) -> Result<(), format::Error> {
    if shutdown.is_requested() { Err(format::Error::Stopped) } else { Ok(()) }
}
