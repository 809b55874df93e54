//! Damage of a repository: a verification finds it, and no restore passes wrong bytes for right ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use volsync_bucket::{Memory, Store};
use volsync_mover::{Monitor, Root, Shutdown};
use volsync_mover_restic::Error;
use volsync_mover_restic::archive::{ArchiveOptions, archive};
use volsync_mover_restic::repository::Repository;
use volsync_mover_restic::restore::{RestoreOptions, restore};
use volsync_mover_restic::verify::{Verified, VerifyOptions, verify};
use volsync_testing::compare::content;
use volsync_testing::tree::Maker;
use volsync_testing::{Privilege, Scratch, Seed};

/// How many objects are damaged, one at a time.
const TRIALS: usize = 1200;

struct Place {
    scratch: Scratch,
    runtime: tokio::runtime::Runtime,
    store: Arc<Memory>,
    repository: Repository,
}

impl Place {
    /// A repository of two snapshots, in packs of 64 KiB and several index files.
    fn new(seed: &mut Seed) -> Self {
        let scratch = Scratch::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Arc::new(Memory::new());
        let repository = runtime
            .block_on(Repository::create(&(store.clone() as Arc<dyn Store>), "secret", "here"))
            .unwrap();
        let place = Self { scratch, runtime, store, repository };
        for round in 0..2 {
            let maker = Maker::new(&place.volume(), Privilege::User);
            for directory in 0..4 {
                maker.dir(format!("{directory}"));
                for file in 0..6 {
                    let length = seed.below(40_000) + 1;
                    maker.file(format!("{directory}/{round}-{file}"), seed.bytes(length as usize));
                }
            }
            place.back_up();
        }
        place
    }

    fn volume(&self) -> std::path::PathBuf {
        self.scratch.dir("volume")
    }

    fn back_up(&self) {
        let files = self.repository.files();
        let index = self.runtime.block_on(files.load_index()).unwrap();
        let options =
            ArchiveOptions { pack_size: 64 << 10, ..ArchiveOptions::new("volsync", "/data") };
        let root = Root::open(&self.volume()).unwrap();
        let (monitor, shutdown) = (Monitor::new(false), Shutdown::default());
        let ends = (&monitor, &shutdown);
        archive(files, &index, &root, None, &options, ends, self.runtime.handle()).unwrap();
    }

    fn verify(&self, percent: u8, round: u32) -> Result<Verified, Error> {
        let options = VerifyOptions { percent, round, threads: 2 };
        self.runtime.block_on(verify(&self.repository, &options, &Shutdown::default()))
    }

    /// Restores the newest snapshot; whether it is said to be whole.
    fn restore(&self, to: &Path) -> bool {
        let files = self.repository.files();
        let Ok(snapshots) = self.runtime.block_on(self.repository.snapshots()) else {
            return false;
        };
        let Ok(index) = self.runtime.block_on(files.load_index()) else { return false };
        let newest = snapshots.iter().max_by_key(|(_, snapshot)| &snapshot.time).unwrap();
        let options = RestoreOptions { delete: true, threads: 2, reads: 2, memory: 8 << 20 };
        let (monitor, shutdown) = (Monitor::new(false), Shutdown::default());
        let restored = restore(
            files,
            &index,
            &Root::open(to).unwrap(),
            newest.1.tree,
            &options,
            (&monitor, &shutdown),
            self.runtime.handle(),
        );
        restored.is_ok() && monitor.is_complete()
    }

    fn put(&self, key: &str, content: Bytes) {
        self.runtime.block_on(self.store.put(key, content)).unwrap();
    }
}

#[test]
fn a_whole_repository_is_found_whole_and_all_of_it_is_read_in_all_rounds() {
    let place = Place::new(&mut Seed::new(7));
    let all = place.verify(100, 0).unwrap();
    assert_eq!((all.damaged, &all.first[..]), (0, &[][..]));
    let packs: Vec<_> =
        place.store.objects().into_iter().filter(|(key, _)| key.starts_with("data/")).collect();
    assert!(packs.len() > 10, "{}", packs.len());
    assert_eq!(all.packs_read, packs.len());
    assert_eq!(all.bytes_read, packs.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    let parts: Vec<_> = (0..4).map(|round| place.verify(25, round).unwrap()).collect();
    assert_eq!(parts.iter().map(|part| part.bytes_read).sum::<u64>(), all.bytes_read);
    assert!(parts.iter().all(|part| part.packs_read < packs.len()));
    assert_eq!(place.verify(0, 0).unwrap(), Verified::default());
}

#[test]
fn every_damage_of_one_object_is_found_and_no_restore_passes_it_over() {
    let mut seed = Seed::new(2026);
    let place = Place::new(&mut seed);
    let expected = content(&place.volume());
    let objects: Vec<(String, Bytes)> = place
        .store
        .objects()
        .into_iter()
        .filter(|(key, _)| ["data/", "index/", "snapshots/"].iter().any(|of| key.starts_with(of)))
        .collect();
    let restored = place.scratch.dir("restored");
    assert!(place.restore(&restored));
    assert_eq!(content(&restored), expected);
    let (mut incomplete, mut whole) = (0, 0);
    for trial in 0..TRIALS {
        let (key, bytes) = seed.pick(&objects).clone();
        let mut damaged = bytes.to_vec();
        let how = match seed.below(3) {
            // A snapshot that is gone is one that was forgotten.
            0 if !key.starts_with("snapshots/") => {
                place.runtime.block_on(place.store.delete(&key)).unwrap();
                "deleted".to_owned()
            }
            1 => {
                damaged.truncate(seed.below(bytes.len() as u64) as usize);
                place.put(&key, damaged.clone().into());
                format!("cut to {} of {} bytes", damaged.len(), bytes.len())
            }
            _ => {
                let (at, bit) = (seed.below(bytes.len() as u64) as usize, seed.below(8));
                damaged[at] ^= 1 << bit;
                place.put(&key, damaged.clone().into());
                format!("bit {bit} of byte {at} flipped")
            }
        };
        let found = place.verify(100, trial as u32);
        assert!(found.as_ref().is_ok_and(|found| found.damaged > 0), "{key} {how}: {found:?}");
        // Over what is there, or into an empty volume: then everything has to be fetched.
        if trial % 2 == 0 {
            std::fs::remove_dir_all(&restored).unwrap();
            std::fs::create_dir(&restored).unwrap();
        }
        if place.restore(&restored) {
            assert_eq!(content(&restored), expected, "{key} {how}");
            whole += 1;
        } else {
            incomplete += 1;
        }
        place.put(&key, bytes);
    }
    assert!(incomplete > TRIALS / 10 && whole > TRIALS / 10, "{incomplete} {whole}");
    assert_eq!(place.verify(100, 0).unwrap().damaged, 0);
    assert!(place.restore(&restored));
    assert_eq!(content(&restored), expected);
}
