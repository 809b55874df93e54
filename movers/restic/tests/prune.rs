//! Prunes, beside a current restic: what snapshots need stays, what none needs goes, and restic finds
//! nothing wrong, whatever happened in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what goes wrong ends the test")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use volsync_bucket::{Directory, Entry, Kind, Listing, Operation, Recording, Store};
use volsync_contract::{Method, Report, ResticReport, ResticSource, Task};
use volsync_mover::{Classified as _, Monitor, Root, Shutdown};
use volsync_mover_restic::Error;
use volsync_mover_restic::archive::{ArchiveOptions, archive};
use volsync_mover_restic::format::{Id, Index};
use volsync_mover_restic::lock::{Holder, Mode};
use volsync_mover_restic::prune::{PruneOptions, Pruned, prune};
use volsync_mover_restic::repository::{Opened, Repository};
use volsync_mover_restic::restore::{RestoreOptions, restore};
use volsync_testing::compare::{Content, content, walk};
use volsync_testing::{Scratch, Seed, peers};

/// No pack is small, as a prune sees it.
const PACK_SIZE: usize = 1 << 20;

fn command(repository: &Path) -> Command {
    let mut command = Command::new(peers::installed("bin/restic-current"));
    command
        .env("RESTIC_REPOSITORY", repository)
        .env("RESTIC_PASSWORD", "secret")
        .env("TZ", "UTC")
        .arg("--no-cache");
    command
}

/// A volume, a repository, and what its snapshots must have in them.
struct Place {
    scratch: Scratch,
    runtime: tokio::runtime::Runtime,
    seed: Seed,
    expected: BTreeMap<Id, BTreeMap<PathBuf, Content>>,
}

impl Place {
    fn new(seed: u64) -> Self {
        let place = Self {
            scratch: Scratch::new(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            seed: Seed::new(seed),
            expected: BTreeMap::new(),
        };
        place.scratch.dir("volume");
        let store = place.store();
        place.runtime.block_on(Repository::create(&store, "secret", "here")).unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.scratch.join("repository")
    }

    fn volume(&self) -> PathBuf {
        self.scratch.join("volume")
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(Directory::new(self.path()))
    }

    fn restic(&self, args: &[&str]) -> String {
        let output = command(&self.path()).args(args).current_dir(self.volume()).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "restic {args:?}: {said}");
        said
    }

    fn open(&self, store: &Arc<dyn Store>) -> Repository {
        match self.runtime.block_on(Repository::open(store, "secret")).unwrap() {
            Opened::Repository(repository) => repository,
            Opened::Missing => panic!("there is no repository"),
        }
    }

    /// Writes files anew: in each of four directories one that nothing has in common with what was
    /// there, and one with a new end.
    fn change(&mut self) {
        for dir in ["a", "b", "b/below", "c"] {
            let dir = self.volume().join(dir);
            std::fs::create_dir_all(&dir).unwrap();
            let name = format!("file-{}", self.seed.below(4));
            std::fs::write(dir.join(name), self.seed.bytes(700_000)).unwrap();
            let mut long = std::fs::read(dir.join("long")).unwrap_or_default();
            long.extend(self.seed.bytes(300_000));
            std::fs::write(dir.join("long"), long).unwrap();
        }
    }

    fn expect(&mut self, snapshot: Id) -> Id {
        self.expected.insert(snapshot, content(&self.volume()));
        snapshot
    }

    fn back_up(&mut self, host: &str) -> Id {
        let repository = self.open(&self.store());
        let index = self.runtime.block_on(repository.files().load_index()).unwrap();
        let id = self.archive(&repository, &index, host);
        self.expect(id)
    }

    /// Of what `index` does not have.
    fn archive(&self, repository: &Repository, index: &Index, host: &str) -> Id {
        let options = ArchiveOptions { pack_size: PACK_SIZE, ..ArchiveOptions::new(host, "/data") };
        let root = Root::open(&self.volume()).unwrap();
        let (monitor, shutdown) = (Monitor::new(false), Shutdown::default());
        let said = (&monitor, &shutdown);
        let (files, runtime) = (repository.files(), self.runtime.handle());
        archive(files, index, &root, None, &options, said, runtime).unwrap().id
    }

    fn restic_back_up(&mut self, host: &str) -> Id {
        let said = self.restic(&["backup", "--json", "--host", host, "."]);
        let summary: serde_json::Value =
            serde_json::from_str(said.lines().last().unwrap()).unwrap();
        self.expect(Id::from_hex(summary["snapshot_id"].as_str().unwrap().as_bytes()).unwrap())
    }

    fn forget(&mut self, snapshot: Id) {
        self.expected.remove(&snapshot).unwrap();
        let repository = self.open(&self.store());
        self.runtime.block_on(repository.forget(&[snapshot])).unwrap();
    }

    fn prune(&self) -> Result<Pruned, Error> {
        self.prune_in(&self.store(), &Shutdown::default())
    }

    fn prune_in(&self, store: &Arc<dyn Store>, shutdown: &Shutdown) -> Result<Pruned, Error> {
        let options = PruneOptions { pack_size: PACK_SIZE, threads: 2, reads: 2, uploads: 2 };
        self.runtime.block_on(async {
            let Opened::Repository(repository) = Repository::open(store, "secret").await? else {
                panic!("there is no repository");
            };
            let locks = repository.locks(Holder::current("uid-1"));
            let lock = locks.take(Mode::Exclusive, Duration::ZERO, shutdown).await?;
            let pruned = prune(&repository, &lock, &options, shutdown).await;
            lock.release().await?;
            pruned
        })
    }

    /// Real restic reads every byte, and each snapshot that is to be there comes back.
    fn assert_whole(&self) {
        self.restic(&["check", "--read-data", "--no-lock"]);
        let repository = self.open(&self.store());
        let files = repository.files();
        let snapshots = self.runtime.block_on(repository.snapshots()).unwrap();
        assert_eq!(snapshots.len(), self.expected.len());
        let index = self.runtime.block_on(files.load_index()).unwrap();
        let target = self.scratch.dir("target");
        for (id, snapshot) in snapshots {
            let options = RestoreOptions { delete: true, threads: 2, reads: 4, memory: 16 << 20 };
            let (monitor, shutdown) = (Monitor::new(false), Shutdown::default());
            let root = Root::open(&target).unwrap();
            let said = (&monitor, &shutdown);
            let runtime = self.runtime.handle();
            let restored = restore(files, &index, &root, snapshot.tree, &options, said, runtime);
            assert_eq!(restored.unwrap().damaged, 0);
            assert_eq!(content(&target), self.expected[&id]);
        }
    }

    fn packs(&self) -> Vec<PathBuf> {
        let data = self.path().join("data");
        let paths = walk(&data).into_iter().map(|path| data.join(path));
        paths.filter(|path| path.is_file()).collect()
    }

    fn size(&self) -> u64 {
        self.packs().iter().map(|pack| pack.metadata().unwrap().len()).sum()
    }

    fn index_files(&self) -> Vec<PathBuf> {
        let index = self.path().join("index");
        walk(&index).into_iter().map(|path| index.join(path)).collect()
    }
}

/// Some generations of two hosts, of which every other is forgotten.
fn generations(seed: u64) -> Place {
    let mut place = Place::new(seed);
    let mut snapshots = Vec::new();
    for generation in 0..8 {
        place.change();
        let host = if generation % 4 < 2 { "volsync" } else { "laptop" };
        snapshots.push(match generation % 3 {
            0 => place.restic_back_up(host),
            _ => place.back_up(host),
        });
    }
    for snapshot in snapshots.into_iter().step_by(2) {
        place.forget(snapshot);
    }
    place
}

#[test]
fn what_no_snapshot_needs_goes_and_what_one_of_any_host_needs_stays() {
    for seed in 0..2 {
        let place = generations(seed);
        let before = place.size();
        let pruned = place.prune().unwrap();
        assert!(pruned.removed + pruned.repacked > 0, "{pruned:?}");
        place.assert_whole();
        assert!(place.size() < before);
        let there = content(&place.path());
        assert_eq!(place.prune().unwrap(), Pruned::default());
        assert_eq!(content(&place.path()), there);
        // What is left that nobody needs is a twentieth at most.
        let size = place.size();
        place.restic(&["prune", "--max-unused", "0"]);
        assert!(place.size() >= size * 94 / 100, "{} of {size}", place.size());
    }
}

#[test]
fn prunes_of_restic_and_ours_follow_each_other() {
    let mut place = generations(7);
    for round in 0..4 {
        if round % 2 == 0 {
            place.prune().unwrap();
        } else {
            place.restic(&["prune"]);
        }
        place.assert_whole();
        place.change();
        let ours = place.back_up("volsync");
        place.change();
        let theirs = place.restic_back_up("volsync");
        place.forget(if round % 2 == 0 { ours } else { theirs });
    }
    place.prune().unwrap();
    place.assert_whole();
}

#[test]
fn a_blob_in_several_packs_is_kept_in_one() {
    let mut place = Place::new(1);
    place.change();
    place.back_up("volsync");
    let once = place.size();
    for _ in 0..2 {
        let repository = place.open(&place.store());
        let id = place.archive(&repository, &Index::default(), "volsync");
        place.expect(id);
    }
    assert!(place.size() > once * 5 / 2);
    place.prune().unwrap();
    place.assert_whole();
    assert!(place.size() < once * 11 / 10, "{} of {once}", place.size());
}

#[test]
fn what_a_killed_backup_left_goes() {
    let mut place = Place::new(2);
    place.change();
    place.back_up("volsync");
    let whole = content(&place.path());
    place.change();
    let killed = place.back_up("volsync");
    place.forget(killed);
    for file in place.index_files() {
        if !whole.contains_key(file.strip_prefix(place.path()).unwrap()) {
            std::fs::remove_file(file).unwrap();
        }
    }
    let pruned = place.prune().unwrap();
    assert!(pruned.leftovers > 1 && pruned.removed + pruned.repacked == 0, "{pruned:?}");
    let files = |of: BTreeMap<PathBuf, Content>| -> Vec<PathBuf> {
        let is_file = |content: &Content| !matches!(content, Content::Directory);
        of.into_iter().filter(|(_, content)| is_file(content)).map(|(path, _)| path).collect()
    };
    assert_eq!(files(content(&place.path())), files(whole));
    place.assert_whole();
}

#[test]
fn without_snapshots_nothing_is_left() {
    let mut place = Place::new(3);
    place.change();
    let only = place.back_up("volsync");
    place.forget(only);
    place.prune().unwrap();
    assert_eq!((place.size(), place.index_files().len()), (0, 0));
    place.assert_whole();
    place.back_up("volsync");
    place.assert_whole();
}

#[test]
fn nothing_is_changed_where_something_is_missing_that_a_snapshot_needs() {
    let place = generations(4);
    // What the index lists and nobody needs may be missing: so first that goes.
    place.prune().unwrap();
    let there = content(&place.path());
    let refused = |damaged: &Path| {
        let before = content(&place.path());
        let error = place.prune().unwrap_err();
        assert_eq!(content(&place.path()), before, "{error}");
        assert_eq!(error.retry(), volsync_contract::Retry::Permanent, "{error}");
        let said = error.to_string();
        assert!(said.starts_with("the repository is not pruned, and no data was removed: "));
        (said, damaged.file_name().unwrap().to_str().unwrap().to_owned())
    };
    for pack in place.packs() {
        let whole = std::fs::read(&pack).unwrap();
        std::fs::remove_file(&pack).unwrap();
        let (said, name) = refused(&pack);
        assert!(said.contains(&name), "{said}");
        std::fs::write(&pack, &whole[..whole.len() - 1]).unwrap();
        let (said, name) = refused(&pack);
        assert!(said.contains(&format!("pack {name} is damaged: it has ")), "{said}");
        std::fs::write(&pack, whole).unwrap();
    }
    for file in place.index_files() {
        let whole = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let (said, _) = refused(&file);
        assert!(said.contains(" blob ") && said.contains(" is in no index"), "{said}");
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let (said, name) = refused(&file);
        assert!(said.contains(&name), "{said}");
        std::fs::write(&file, whole).unwrap();
    }
    for file in walk(&place.path().join("snapshots")) {
        let file = place.path().join("snapshots").join(file);
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let (said, name) = refused(&file);
        assert!(said.contains(&name), "{said}");
        std::fs::write(&file, whole).unwrap();
    }
    assert_eq!(content(&place.path()), there);
    place.prune().unwrap();
    place.assert_whole();
}

#[test]
fn a_blob_that_changed_in_its_pack_is_not_repacked() {
    let place = generations(5);
    let packs = place.packs();
    let is_of_data = |pack: &&PathBuf| pack.metadata().unwrap().len() > 200_000;
    for pack in packs.iter().filter(is_of_data) {
        let mut bytes = std::fs::read(pack).unwrap();
        bytes.iter_mut().step_by(100).for_each(|byte| *byte ^= 1);
        std::fs::write(pack, bytes).unwrap();
    }
    let error = place.prune().unwrap_err().to_string();
    assert!(error.starts_with("pack ") && error.contains("data blob"), "{error}");
    assert!(packs.iter().all(|pack| pack.is_file()));
}

/// A store whose process is killed after so many changes: nothing is answered from then on.
#[derive(Debug)]
struct Killed {
    inner: Directory,
    changes: AtomicUsize,
    after: usize,
    /// Whether somebody removes all locks when an index file is written.
    loses_locks: bool,
}

impl Killed {
    fn change(&self) -> Result<(), volsync_bucket::Error> {
        if self.changes.fetch_add(1, Ordering::SeqCst) < self.after { Ok(()) } else { self.dead() }
    }

    fn look(&self) -> Result<(), volsync_bucket::Error> {
        if self.changes.load(Ordering::SeqCst) <= self.after { Ok(()) } else { self.dead() }
    }

    fn dead<T>(&self) -> Result<T, volsync_bucket::Error> {
        let location = self.inner.location();
        Err(volsync_bucket::Error::new(Kind::Failing, Operation::Get, location, "", "killed"))
    }
}

#[async_trait]
impl Store for Killed {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn create(&self) -> Result<(), volsync_bucket::Error> {
        self.dead()
    }

    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, volsync_bucket::Error> {
        self.look()?;
        self.inner.get(key, range).await
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), volsync_bucket::Error> {
        self.change()?;
        if self.loses_locks && key.starts_with("index/") {
            let locks: Vec<Entry> = self.inner.list("locks/").try_collect().await?;
            for lock in locks {
                self.inner.delete(&lock.key).await?;
            }
        }
        self.inner.put(key, content).await
    }

    async fn put_stream(
        &self,
        _: &str,
        _: BoxStream<'_, std::io::Result<Bytes>>,
    ) -> Result<(), volsync_bucket::Error> {
        self.dead()
    }

    async fn head(&self, key: &str) -> Result<Entry, volsync_bucket::Error> {
        self.look()?;
        self.inner.head(key).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        match self.look() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), volsync_bucket::Error> {
        self.change()?;
        self.inner.delete(key).await
    }
}

/// A store whose listings are those of an earlier time.
#[derive(Debug)]
struct Lagging {
    inner: Directory,
    listed: Vec<Entry>,
}

#[async_trait]
impl Store for Lagging {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn create(&self) -> Result<(), volsync_bucket::Error> {
        self.inner.create().await
    }

    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, volsync_bucket::Error> {
        self.inner.get(key, range).await
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), volsync_bucket::Error> {
        self.inner.put(key, content).await
    }

    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, std::io::Result<Bytes>>,
    ) -> Result<(), volsync_bucket::Error> {
        self.inner.put_stream(key, content).await
    }

    async fn head(&self, key: &str) -> Result<Entry, volsync_bucket::Error> {
        self.inner.head(key).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        let listed = self.listed.iter().filter(move |entry| entry.key.starts_with(prefix));
        futures::stream::iter(listed.cloned().map(Ok)).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), volsync_bucket::Error> {
        self.inner.delete(key).await
    }
}

#[test]
fn what_a_listing_does_not_show_yet_is_not_taken_for_what_nobody_needs() {
    let mut place = generations(12);
    let now = place.store();
    let listed = place.runtime.block_on(async { now.list("").try_collect().await }).unwrap();
    let store: Arc<dyn Store> = Arc::new(Lagging { inner: Directory::new(place.path()), listed });
    let repository = place.open(&store);
    let index = place.runtime.block_on(repository.files().load_index()).unwrap();
    let forgotten = *place.expected.keys().next().unwrap();
    place.expected.remove(&forgotten);
    place.change();
    let id = place.archive(&repository, &index, "volsync");
    place.expect(id);
    let before = place.size();
    let pruned = place.runtime.block_on(async {
        repository.forget(&[forgotten]).await?;
        let shutdown = Shutdown::default();
        let locks = repository.locks(Holder::current("uid-1"));
        let lock = locks.take(Mode::Exclusive, Duration::ZERO, &shutdown).await?;
        let options = PruneOptions { pack_size: PACK_SIZE, threads: 2, reads: 2, uploads: 2 };
        let pruned = prune(&repository, &lock, &options, &shutdown).await;
        lock.release().await?;
        pruned
    });
    pruned.unwrap();
    assert!(place.size() < before);
    place.assert_whole();
}

fn copy(from: &Path, to: &Path) {
    for path in walk(from) {
        let (source, target) = (from.join(&path), to.join(&path));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        if source.is_file() {
            std::fs::copy(source, target).unwrap();
        }
    }
}

#[test]
fn a_prune_that_is_killed_at_any_moment_leaves_all_and_the_next_one_ends_it() {
    let mut place = generations(6);
    // And something that no index file names.
    place.change();
    let killed = place.back_up("volsync");
    place.forget(killed);
    let newest = |files: Vec<PathBuf>| {
        files.into_iter().max_by_key(|file| file.metadata().unwrap().modified().unwrap()).unwrap()
    };
    std::fs::remove_file(newest(place.index_files())).unwrap();

    let original = place.scratch.join("original");
    std::fs::rename(place.path(), &original).unwrap();
    let again = |place: &Place| {
        std::fs::remove_dir_all(place.path()).ok();
        copy(&original, &place.path());
    };
    again(&place);
    place.prune().unwrap();
    let (size, mut ended) = (place.size(), false);
    for after in 0.. {
        again(&place);
        let inner = Directory::new(place.path());
        let store: Arc<dyn Store> =
            Arc::new(Killed { inner, changes: 0.into(), after, loses_locks: false });
        ended = place.prune_in(&store, &Shutdown::default()).is_ok();
        place.assert_whole();
        if ended {
            break;
        }
        place.prune().unwrap();
        place.assert_whole();
        assert!(place.size() <= size + size / 20, "after {after}: {} of {size}", place.size());
    }
    assert!(ended);
}

#[test]
fn nothing_is_removed_before_what_takes_its_place_is_there() {
    let place = generations(8);
    let store = Arc::new(Recording::new(place.store()));
    let recorded: Arc<dyn Store> = store.clone();
    place.prune_in(&recorded, &Shutdown::default()).unwrap();
    let stages = [
        (Operation::Put, "data/"),
        (Operation::Put, "index/"),
        (Operation::Delete, "index/"),
        (Operation::Delete, "data/"),
    ];
    let is_in = |operation, key: &str| {
        stages.iter().position(|(of, prefix)| *of == operation && key.starts_with(prefix))
    };
    let calls = store.take();
    let order: Vec<usize> =
        calls.iter().filter_map(|call| is_in(call.operation, &call.key)).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert!((0..4).all(|stage| order.contains(&stage)), "{order:?}");
}

#[test]
fn whose_lock_is_gone_removes_nothing() {
    let place = generations(11);
    let before = [place.packs(), place.index_files()].concat();
    let inner = Directory::new(place.path());
    let store: Arc<dyn Store> =
        Arc::new(Killed { inner, changes: 0.into(), after: usize::MAX, loses_locks: true });
    let error = place.prune_in(&store, &Shutdown::default()).unwrap_err();
    assert!(matches!(error, Error::LockLost { .. }), "{error}");
    assert!(before.iter().all(|file| file.is_file()));
    place.prune().unwrap();
    place.assert_whole();
}

#[test]
fn who_is_asked_to_stop_changes_nothing_and_leaves_no_lock() {
    let place = generations(9);
    let (packs, index) = (place.packs(), place.index_files());
    let shutdown = Shutdown::default();
    shutdown.request();
    let error = place.prune_in(&place.store(), &shutdown).unwrap_err();
    assert_eq!(error.retry(), volsync_contract::Retry::Transient, "{error}");
    assert_eq!((place.packs(), place.index_files()), (packs, index));
    assert!(walk(&place.path().join("locks")).is_empty());
}

/// A whole sync by the program.
fn sync(place: &Place) -> ResticReport {
    let report = place.scratch.join("report");
    let task = Task {
        name: "test/data".to_owned(),
        data: place.volume(),
        report: report.clone(),
        events: false,
        strict_attributes: false,
        method: Method::ResticSource(ResticSource {
            cache: place.scratch.dir("cache"),
            replication: "uid-1".to_owned(),
            host: "volsync".to_owned(),
            path: "/data".to_owned(),
            tags: Vec::new(),
            exclude: Vec::new(),
            exclude_caches: false,
            unlock: false,
            prune: true,
            forget: "--keep-last 1".to_owned(),
            verify: None,
            bandwidth: None,
        }),
    };
    let output = Command::new(peers::own_binary("volsync-mover-restic"))
        .env("RESTIC_REPOSITORY", place.path())
        .env("RESTIC_PASSWORD", "secret")
        .envs(task.to_env())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Report = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    report.restic.unwrap()
}

#[test]
fn a_sync_prunes_if_it_is_told_to_and_puts_it_off_while_somebody_works_there() {
    let mut place = Place::new(10);
    for _ in 0..3 {
        place.change();
        place.back_up("volsync");
    }
    let before = place.size();
    let mut running = command(&place.path())
        .args(["backup", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while walk(&place.path().join("locks")).is_empty() {
        assert!(running.try_wait().unwrap().is_none(), "restic has ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    let said = sync(&place);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(said.postponed.starts_with("by "), "{said:?}");
    assert!(!said.pruned && said.forgotten == 0 && said.snapshot.is_some(), "{said:?}");
    assert!(place.size() >= before);

    let said = sync(&place);
    assert!(said.pruned && said.forgotten == 4 && said.postponed.is_empty(), "{said:?}");
    place.expected.clear();
    place.expect(Id::from_hex(said.snapshot.unwrap().as_bytes()).unwrap());
    place.assert_whole();
    assert!(place.size() < before);
}
