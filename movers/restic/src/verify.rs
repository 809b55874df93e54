//! Verification: is everything there that snapshots need, and does a part of it read back as it was
//! written? Nothing is changed.
//!
//! What is read is a part of the packs, another one with each round, so that after enough rounds every
//! byte has been read once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context as Digest, SHA256};
use tokio::runtime::Handle;
use volsync_bucket::Kind as Trouble;
use volsync_mover::Shutdown;

use crate::error::Error;
use crate::format::pack::PackedBlob;
use crate::format::{self, Decoder, Id, Index, RepositoryFiles};
use crate::needed::{Bits, check_pack, find_needed};
use crate::repository::Repository;

/// How much of a pack is read at once, unless a single blob is longer, in bytes.
const RANGE: u64 = 4 << 20;
/// More files than these that the store cannot read are no damage: the store itself is in trouble.
const FAILING: usize = 10;
/// As many things that are damaged are named.
const NAMED: usize = 10;

/// How much is verified, and how.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How many percent of the packs are read, 0 to 100.
    pub percent: u8,
    /// Which of these parts, counted from 0 and around.
    pub round: u32,
    /// Threads that walk trees, and that read packs.
    pub threads: usize,
}

/// What a verification came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Packs that were read.
    pub packs_read: usize,
    /// Bytes that were read of them.
    pub bytes_read: u64,
    /// How many things are damaged.
    pub damaged: u64,
    /// The first of them.
    pub first: Vec<String>,
}

/// What is damaged, as far as it was found.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    found: Mutex<Verified>,
    failing: AtomicUsize,
}

impl Damage {
    /// Takes an error that says what is damaged. Any other is returned: it says nothing about the
    /// repository.
    pub(crate) fn take(&self, error: format::Error) -> Result<(), format::Error> {
        use format::Error::{Damaged, Decrypt, MissingBlob, Store};
        match &error {
            Decrypt { .. } | Damaged { .. } | MissingBlob { .. } => {}
            Store(store) => match store.kind() {
                Trouble::NotFound | Trouble::OutOfRange => {}
                // A disk that has lost a sector says so for one file, one that has gone for all of them.
                Trouble::Failing if self.failing.fetch_add(1, Relaxed) < FAILING => {}
                _ => return Err(error),
            },
            _ => return Err(error),
        }
        self.add(error.to_string());
        Ok(())
    }

    /// What was found so far.
    pub(crate) fn found(self) -> Verified {
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, what: String) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.damaged += 1;
        if found.first.len() < NAMED {
            found.first.push(what);
        }
    }
}

/// Verifies a repository of which somebody holds a shared lock at least.
pub async fn verify(
    repository: &Repository,
    options: &VerifyOptions,
    shutdown: &Shutdown,
) -> Result<Verified, Error> {
    let repository = repository.without_cache();
    let files = repository.files();
    let damage = Damage::default();
    // Who backs up at the same time writes packs, then their index, then the snapshot.
    let snapshots = repository.readable_snapshots(&damage).await?;
    let roots: Vec<Id> = snapshots.iter().map(|(_, snapshot)| snapshot.tree).collect();
    let index = files.load_readable_index(&damage).await?;
    let lengths = files.list_packs().await?;
    let (files, options) = (files.clone(), options.clone());
    let (shutdown, runtime) = (shutdown.clone(), Handle::current());
    let verified = tokio::task::spawn_blocking(move || {
        let ends = (&shutdown, &runtime);
        let needed = find_needed(&files, &index, &roots, options.threads, Some(&damage), ends)?;
        let packs = arrange(&index, &needed, &lengths, &choose(index.packs(), &options), &damage)?;
        let reading = Reading {
            files: &files,
            damage: &damage,
            packs: &packs,
            next: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            shutdown: &shutdown,
            runtime: &runtime,
        };
        reading.run(options.threads.max(1))?;
        let (packs_read, bytes_read) = (reading.read.into_inner(), reading.bytes.into_inner());
        Ok::<_, format::Error>(Verified { packs_read, bytes_read, ..damage.found() })
    });
    Ok(verified.await.map_err(|_| Error::Interrupted)??)
}

/// Whether each pack is read in this round. A pack is in the same part in every round, whatever packs
/// come and go.
fn choose(packs: &[Id], options: &VerifyOptions) -> Vec<bool> {
    let Some(parts) = 100_u8.checked_div(options.percent) else {
        return vec![false; packs.len()];
    };
    let parts = u32::from(parts.max(1));
    let part = |id: &Id| {
        let [high, low, ..] = *id.as_bytes();
        u32::from(u16::from_be_bytes([high, low])) % parts
    };
    let mut chosen: Vec<bool> = packs.iter().map(|id| part(id) == options.round % parts).collect();
    if !chosen.contains(&true) && !packs.is_empty() {
        // Of few packs one is read each time.
        let mut in_order: Vec<usize> = (0..packs.len()).collect();
        in_order.sort_unstable_by_key(|number| packs.get(*number));
        let one = in_order.get(options.round as usize % packs.len());
        if let Some(chosen) = one.and_then(|one| chosen.get_mut(*one)) {
            *chosen = true;
        }
    }
    chosen
}

/// A pack that is to be read.
struct Pack {
    id: Id,
    length: u64,
    /// In the order of their places.
    blobs: Vec<PackedBlob>,
}

/// The packs that are to be read, of those that snapshots need. What no snapshot needs may be damaged
/// or gone: it is the next prune's.
fn arrange(
    index: &Index,
    needed: &Bits,
    lengths: &HashMap<Id, u64>,
    wanted: &[bool],
    damage: &Damage,
) -> Result<Vec<Pack>, format::Error> {
    let mut is_needed = vec![false; wanted.len()];
    let mut blobs = vec![Vec::new(); wanted.len()];
    for number in 0..index.len() {
        let Some((pack, blob)) = index.copy(number) else { continue };
        let pack = pack as usize;
        if let Some(is_needed) = is_needed.get_mut(pack) {
            *is_needed |= needed.contains(number);
        }
        if let (Some(blobs), Some(true)) = (blobs.get_mut(pack), wanted.get(pack)) {
            blobs.push(blob);
        }
    }
    let mut packs = Vec::new();
    let listed = index.packs().iter().zip(index.pack_lengths());
    for (((id, listed), mut blobs), is_needed) in listed.zip(blobs).zip(is_needed) {
        if !is_needed {
            continue;
        }
        let length = lengths.get(id).copied();
        if let Err(error) = check_pack(*id, listed, length) {
            damage.take(error)?;
        } else if let (Some(length), false) = (length, blobs.is_empty()) {
            blobs.sort_unstable_by_key(|blob| blob.offset);
            packs.push(Pack { id: *id, length, blobs });
        }
    }
    Ok(packs)
}

struct Reading<'a> {
    files: &'a Arc<RepositoryFiles>,
    damage: &'a Damage,
    packs: &'a [Pack],
    /// The first that nobody has begun.
    next: AtomicUsize,
    read: AtomicUsize,
    bytes: AtomicU64,
    is_over: AtomicBool,
    shutdown: &'a Shutdown,
    runtime: &'a Handle,
}

impl Reading<'_> {
    fn run(&self, threads: usize) -> Result<(), format::Error> {
        std::thread::scope(|scope| {
            let mut started = Vec::new();
            let mut result = Ok(());
            for _ in 0..threads {
                let thread = std::thread::Builder::new().name("verify".to_owned());
                match thread.spawn_scoped(scope, || self.read_packs()) {
                    Ok(thread) => started.push(thread),
                    Err(error) => {
                        self.is_over.store(true, Relaxed);
                        result = Err(format::Error::Thread(error));
                        break;
                    }
                }
            }
            for thread in started {
                let joined = thread.join().unwrap_or(Err(format::Error::Stopped));
                result = result.and(joined);
            }
            result
        })
    }

    fn read_packs(&self) -> Result<(), format::Error> {
        let mut decoder = Decoder::new()?;
        while let Some(pack) = self.packs.get(self.next.fetch_add(1, Relaxed)) {
            if self.is_over.load(Relaxed) {
                return Ok(());
            }
            let read = self.read_pack(pack, &mut decoder).or_else(|error| self.damage.take(error));
            if read.is_err() {
                self.is_over.store(true, Relaxed);
                return read;
            }
            self.read.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Every byte of a pack counts for its name, and every blob has the content its name says.
    fn read_pack(&self, pack: &Pack, decoder: &mut Decoder) -> Result<(), format::Error> {
        let damaged = |why: String| format::Error::damaged(format!("pack {}", pack.id), why);
        let mut digest = Digest::new(&SHA256);
        let (mut at, mut plain) = (0, Vec::new());
        let mut blobs = pack.blobs.as_slice();
        while at < pack.length {
            let (end, here) = stretch(at, pack.length, blobs);
            let bytes = self.read(pack, at..end)?;
            digest.update(&bytes);
            let (now, later) = blobs.split_at(here);
            for blob in now {
                let place = u64::from(blob.offset).checked_sub(at).and_then(|from| {
                    bytes.get(from as usize..(from + u64::from(blob.length)) as usize)
                });
                let sealed = place.ok_or_else(|| {
                    damaged(format!("its index has blob {} where another one is", blob.id))
                })?;
                let name = (blob.kind, blob.id);
                decoder
                    .decode(self.files.key(), name, sealed, blob.raw_length, &mut plain)
                    .map_err(|error| damaged(error.to_string()))?;
            }
            (at, blobs) = (end, later);
        }
        if digest.finish().as_ref() != pack.id.as_bytes() {
            return Err(damaged("its content is not what its name says".to_owned()));
        }
        Ok(())
    }

    fn read(&self, pack: &Pack, range: Range<u64>) -> Result<bytes::Bytes, format::Error> {
        if self.shutdown.is_requested() {
            return Err(format::Error::Stopped);
        }
        let wanted = range.end - range.start;
        let bytes = self.runtime.block_on(self.files.read_pack(pack.id, range))?;
        self.bytes.fetch_add(wanted, Relaxed);
        Ok(bytes)
    }
}

/// How far is read next from `at` in a pack of this length, and how many of these blobs lie in there.
fn stretch(at: u64, length: u64, blobs: &[PackedBlob]) -> (u64, usize) {
    let mut end = at;
    let mut here = 0;
    for blob in blobs {
        let (from, to) = (u64::from(blob.offset), u64::from(blob.offset) + u64::from(blob.length));
        // A blob that is longer than a range is one by itself.
        if to > at + RANGE && (here > 0 || from > at) {
            break;
        }
        end = end.max(to);
        here += 1;
    }
    let next = blobs.get(here).map_or(length, |blob| u64::from(blob.offset));
    if end <= at || here == blobs.len() {
        // What lies between blobs, and behind the last.
        end = end.max(next.min(at + RANGE));
    }
    (end.min(length).max(at + 1), here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlobKind;

    fn blob(offset: u64, length: u64) -> PackedBlob {
        let (offset, length) = (offset as u32, length as u32);
        let id = Id::of(&offset.to_le_bytes());
        PackedBlob { kind: BlobKind::Data, id, offset, length, raw_length: 0 }
    }

    #[test]
    fn a_pack_is_read_from_end_to_end_and_each_blob_in_one_stretch() {
        let long = 3 * RANGE;
        let blobs = [blob(0, 10), blob(10, long), blob(long + 10, 100), blob(long + 200, 5)];
        let length = long + 300;
        let (mut at, mut left, mut stretches) = (0, blobs.as_slice(), Vec::new());
        while at < length {
            let (end, here) = stretch(at, length, left);
            for blob in &left[..here] {
                let from = u64::from(blob.offset);
                assert!(at <= from && from + u64::from(blob.length) <= end);
            }
            stretches.push((at, end));
            (at, left) = (end, &left[here..]);
        }
        assert!(left.is_empty());
        assert_eq!(stretches, [(0, 10), (10, long + 10), (long + 10, length)]);
    }

    #[test]
    fn every_pack_is_read_once_in_all_rounds() {
        let packs: Vec<Id> = (0..500_u32).map(|number| Id::of(&number.to_le_bytes())).collect();
        for percent in [1, 7, 10, 33, 50, 100] {
            let rounds = 100 / u32::from(percent);
            let mut read = vec![0; packs.len()];
            for round in 5..5 + rounds {
                let options = VerifyOptions { percent, round, threads: 1 };
                for (count, wanted) in read.iter_mut().zip(choose(&packs, &options)) {
                    *count += u32::from(wanted);
                }
            }
            // A part without a pack is another pack's that is read once more.
            let again: u32 = read.iter().map(|count| count - 1).sum();
            assert!(read.iter().all(|count| *count >= 1) && again < 5, "{percent}: {again}");
        }
        for round in 0..20 {
            let options = VerifyOptions { percent: 10, round, threads: 1 };
            assert!(choose(&packs[..3], &options).contains(&true), "{round}");
        }
        let none = VerifyOptions { percent: 0, round: 0, threads: 1 };
        assert!(!choose(&packs, &none).contains(&true));
    }
}
