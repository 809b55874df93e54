//! Locks of a repository, as restic writes, refreshes and honours them.
//!
//! A lock is a file below `locks/`. Whoever reads or adds holds a shared one, whoever removes an
//! exclusive one. There is no compare and swap in an object store, so: look, write, wait, look again,
//! and take the own one back if somebody came between. A lock is refreshed every five minutes by one
//! of a new name; one that is half an hour old is nobody's (`internal/repository/lock.go` of restic
//! 0.19).
//!
//! When is a lock nobody's before that? Restic asks whether its process still runs, which it can only
//! tell on its own host, and every pod is a host of its own. But whoever starts movers promises that
//! no two of one replication run at once. So ours carry the replication in a field that restic
//! ignores, and one that carries our own was left by an attempt that has ended. That is the only
//! proof there is: a pod's name proves nothing about a repository that several clusters share.
//!
//! Restic's way of asking whether a process runs is SIGHUP, which ends whoever does not expect it. So
//! this process ignores it from its first lock on, as restic does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use volsync_bucket::{Kind, Store};
use volsync_mover::Shutdown;

use crate::error::Error;
use crate::format::{Encoder, Id, RepositoryFiles};

/// How often a lock is refreshed.
const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// How old a lock is that nobody refreshes any more.
const STALE_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// How long work goes on while the lock cannot be refreshed: others must not take it for stale.
const REFRESHABLE_FOR: Duration = Duration::from_secs(22 * 60);
/// How long to wait after writing a lock before looking who else has.
const SETTLE: Duration = Duration::from_millis(200);
/// How long to wait before looking again for a lock that is held.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The longest lock file that is read, in bytes.
const MAX_LOCK_FILE: u64 = 1 << 16;

/// Whether others may work in the repository, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Others may read and add.
    Shared,
    /// Nobody else may do anything.
    Exclusive,
}

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LockFile {
    time: String,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    /// Which replication left it; unknown to restic.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    volsync: String,
}

/// Who takes locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name of this host.
    pub host: String,
    /// The number of this process.
    pub pid: i32,
    /// This replication and no other; empty: nobody's.
    pub replication: String,
}

impl Holder {
    /// This process, for this replication.
    pub fn current(replication: &str) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { host, pid, replication: replication.to_owned() }
    }
}

impl LockFile {
    fn new(holder: &Holder, mode: Mode) -> Self {
        Self {
            time: Timestamp::now().to_string(),
            exclusive: mode == Mode::Exclusive,
            hostname: holder.host.clone(),
            username: "volsync".to_owned(),
            pid: holder.pid,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            volsync: holder.replication.clone(),
        }
    }

    /// Whether nobody holds it any more. `runs` tells whether a process of this host does.
    fn is_stale(&self, me: &Holder, now: Timestamp, runs: impl Fn(i32) -> bool) -> bool {
        let old = self
            .time
            .parse::<Timestamp>()
            .is_ok_and(|written| now.duration_since(written) > STALE_AFTER);
        let ours = !me.replication.is_empty() && self.volsync == me.replication;
        if old || self.hostname != me.host {
            return old || ours;
        }
        // A process of this very number may run beside us where hosts share their name.
        if self.pid == me.pid { ours } else { !runs(self.pid) }
    }

    fn excludes(&self, mode: Mode) -> bool {
        self.exclusive || mode == Mode::Exclusive
    }

    fn by(&self) -> String {
        let how = if self.exclusive { "exclusively " } else { "" };
        format!(
            "{how}by {} on {} (process {}) since {}",
            self.username, self.hostname, self.pid, self.time
        )
    }
}

/// The locks of a repository.
#[derive(Debug, Clone)]
pub struct Locks {
    store: Arc<dyn Store>,
    files: Arc<RepositoryFiles>,
    me: Holder,
}

/// What lies below `locks/`.
enum Found {
    Lock(String, LockFile),
    /// Something that is no lock we can read: it may be somebody's.
    Unreadable(String),
}

impl Locks {
    /// Of the repository in `store` with these files.
    pub const fn new(store: Arc<dyn Store>, files: Arc<RepositoryFiles>, me: Holder) -> Self {
        Self { store, files, me }
    }

    /// Takes a lock and keeps it until it is released. Stale locks in the way are removed; for one
    /// that is held it waits this long. If the lock is lost, `shutdown` is requested.
    pub async fn take(
        &self,
        mode: Mode,
        wait: Duration,
        shutdown: &Shutdown,
    ) -> Result<Lock, Error> {
        // Who has listened once is not ended by this signal any more.
        let _listened =
            signal(SignalKind::hangup()).map_err(|source| Error::IgnoreHangup { source })?;
        let until = Instant::now() + wait;
        let mut told = false;
        loop {
            let by = match self.in_the_way(mode, None).await? {
                None => {
                    let own = self.write(mode).await?;
                    sleep(SETTLE).await;
                    match self.in_the_way(mode, Some(&own)).await {
                        Ok(None) => {
                            return Ok(Lock::hold(self.clone(), mode, own, shutdown.clone()));
                        }
                        Ok(Some(by)) => {
                            self.store.delete(&own).await?;
                            by
                        }
                        Err(error) => {
                            self.store.delete(&own).await?;
                            return Err(error);
                        }
                    }
                }
                Some(by) => by,
            };
            if Instant::now() + LOOK_AGAIN > until {
                return Err(Error::Locked { by });
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!("waiting: the repository is locked {by}");
            }
            tokio::select! {
                () = sleep(LOOK_AGAIN) => {}
                () = shutdown.requested() => return Err(Error::Interrupted),
            }
        }
    }

    /// Removes every stale lock and says how many there were.
    pub async fn remove_stale(&self) -> Result<u32, Error> {
        let mut removed = 0;
        for found in self.all().await? {
            if let Found::Lock(name, lock) = found
                && self.is_stale(&lock)
            {
                self.remove(&name, &lock).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Who holds a lock that does not let `mode` in.
    async fn in_the_way(&self, mode: Mode, own: Option<&str>) -> Result<Option<String>, Error> {
        for found in self.all().await? {
            match found {
                Found::Lock(name, _) | Found::Unreadable(name) if Some(name.as_str()) == own => {}
                Found::Lock(name, lock) if self.is_stale(&lock) => {
                    self.remove(&name, &lock).await?
                }
                Found::Lock(_, lock) if lock.excludes(mode) => return Ok(Some(lock.by())),
                Found::Lock(..) => {}
                Found::Unreadable(name) => {
                    return Ok(Some(format!("by {name}, which cannot be read")));
                }
            }
        }
        Ok(None)
    }

    fn is_stale(&self, lock: &LockFile) -> bool {
        lock.is_stale(&self.me, Timestamp::now(), |pid| {
            // Whoever may not be signalled is there all the same.
            rustix::process::Pid::from_raw(pid).is_some_and(|pid| {
                rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
            })
        })
    }

    async fn remove(&self, name: &str, lock: &LockFile) -> Result<(), Error> {
        tracing::info!(name, "removing a lock that nobody holds any more: {}", lock.by());
        Ok(self.store.delete(name).await?)
    }

    async fn all(&self) -> Result<Vec<Found>, Error> {
        let entries: Vec<_> = self.store.list("locks/").try_collect().await?;
        let mut found = Vec::new();
        // An empty file is one whose writer died before it had a lock, as restic sees it.
        for entry in entries.into_iter().filter(|entry| entry.size > 0) {
            if entry.size > MAX_LOCK_FILE {
                found.push(Found::Unreadable(entry.key));
                continue;
            }
            let sealed = match self.store.get(&entry.key, None).await {
                Ok(sealed) => sealed,
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            found.push(match self.read(sealed)? {
                Some(lock) => Found::Lock(entry.key, lock),
                None => Found::Unreadable(entry.key),
            });
        }
        Ok(found)
    }

    fn read(&self, sealed: Bytes) -> Result<Option<LockFile>, Error> {
        let mut sealed = Vec::from(sealed);
        let Some(plain) = self.files.key().open(&mut sealed)? else { return Ok(None) };
        // Files of version 2 are compressed behind a byte that says so.
        let limit = usize::try_from(MAX_LOCK_FILE).unwrap_or(usize::MAX);
        let lock = match plain.split_first() {
            Some((2, compressed)) => zstd::bulk::decompress(compressed, limit)
                .ok()
                .and_then(|json| serde_json::from_slice(&json).ok()),
            Some(_) | None => serde_json::from_slice(plain).ok(),
        };
        Ok(lock)
    }

    async fn write(&self, mode: Mode) -> Result<String, Error> {
        let json = serde_json::to_vec(&LockFile::new(&self.me, mode)).map_err(|error| {
            crate::format::Error::Damaged { what: "a new lock".to_owned(), why: error.to_string() }
        })?;
        let sealed = Encoder::new(self.files.version())?.encode_file(self.files.key(), &json)?;
        let name = format!("locks/{}", Id::of(&sealed));
        self.store.put(&name, Bytes::from(sealed)).await?;
        Ok(name)
    }
}

/// A lock that is held and refreshed.
#[derive(Debug)]
pub struct Lock {
    locks: Locks,
    mode: Mode,
    name: Arc<tokio::sync::Mutex<String>>,
    lost: Arc<AtomicBool>,
    refresher: JoinHandle<()>,
}

impl Lock {
    fn hold(locks: Locks, mode: Mode, name: String, shutdown: Shutdown) -> Self {
        let name = Arc::new(tokio::sync::Mutex::new(name));
        let lost = Arc::new(AtomicBool::new(false));
        let (held, theirs, current) = (locks.clone(), lost.clone(), name.clone());
        let refresher = tokio::spawn(async move {
            let why = keep(&held, mode, &current).await;
            tracing::error!("the lock of the repository is lost: {why}");
            theirs.store(true, Ordering::SeqCst);
            shutdown.request();
        });
        Self { locks, mode, name, lost, refresher }
    }

    /// Makes sure, by refreshing it, that it is still held.
    pub async fn confirm(&self) -> Result<(), Error> {
        let mut name = self.name.lock().await;
        let held =
            !self.lost.load(Ordering::SeqCst) && refresh(&self.locks, self.mode, &mut name).await?;
        if !held {
            self.lost.store(true, Ordering::SeqCst);
            return Err(lost());
        }
        Ok(())
    }

    /// Gives the lock back. An error if it was lost: then others may have changed the repository.
    pub async fn release(self) -> Result<(), Error> {
        // A refresh under way is not torn, or its file would stay behind.
        let name = self.name.lock().await;
        self.refresher.abort();
        self.locks.store.delete(&name).await?;
        if self.lost.load(Ordering::SeqCst) { Err(lost()) } else { Ok(()) }
    }
}

fn lost() -> Error {
    let why = "somebody removed it, or the store could not be written for too long";
    Error::LockLost { why: why.to_owned() }
}

/// Refreshes until the lock is lost, and says why it is.
async fn keep(locks: &Locks, mode: Mode, current: &tokio::sync::Mutex<String>) -> String {
    let mut refreshed = Instant::now();
    loop {
        sleep(REFRESH_EVERY).await;
        let mut name = current.lock().await;
        match refresh(locks, mode, &mut name).await {
            Ok(true) => refreshed = Instant::now(),
            Ok(false) => return "somebody removed it".to_owned(),
            Err(error) if refreshed.elapsed() + REFRESH_EVERY > REFRESHABLE_FOR => {
                return error.to_string();
            }
            Err(error) => tracing::warn!("the lock of the repository is not refreshed: {error}"),
        }
    }
}

/// Writes the lock anew and removes the old file; false if that was gone.
async fn refresh(locks: &Locks, mode: Mode, name: &mut String) -> Result<bool, Error> {
    match locks.store.head(name).await {
        Ok(_) => {}
        Err(error) if error.kind() == Kind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let old = std::mem::replace(name, locks.write(mode).await?);
    locks.store.delete(&old).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Key;
    use volsync_bucket::Memory;

    fn holder(host: &str, pid: i32, replication: &str) -> Holder {
        Holder { host: host.into(), pid, replication: replication.into() }
    }

    fn locks(store: &Arc<Memory>, me: Holder) -> Locks {
        let key = Key::new(&[1; 32], &[2; 16], &[3; 16]).unwrap();
        let files = RepositoryFiles::new(store.clone(), key, 2, 0x3d_a335_8b4d_c173);
        Locks::new(store.clone(), Arc::new(files), me)
    }

    async fn take(locks: &Locks, mode: Mode) -> Result<Lock, Error> {
        locks.take(mode, Duration::ZERO, &Shutdown::default()).await
    }

    #[test]
    fn a_lock_is_stale_with_its_age_its_process_or_its_replication() {
        let now = Timestamp::now();
        let me = holder("pod-b", 1, "uid-1");
        let lock = |host: &str, pid, replication: &str, minutes| LockFile {
            time: (now - SignedDuration::from_mins(minutes)).to_string(),
            ..LockFile::new(&holder(host, pid, replication), Mode::Shared)
        };
        for (stale, lock) in [
            (false, lock("pod-a", 1, "", 0)),
            (false, lock("pod-a", 1, "", 29)),
            (true, lock("pod-a", 1, "", 31)),
            (false, lock("pod-a", 1, "", -60)),
            (false, lock("pod-a", 1, "uid-2", 0)),
            (true, lock("pod-a", 1, "uid-1", 0)),
            (false, lock("pod-b", 7, "uid-1", 0)),
            (true, lock("pod-b", 8, "", 0)),
            (false, lock("pod-b", 1, "", 0)),
            (true, lock("pod-b", 1, "uid-1", 0)),
        ] {
            assert_eq!(lock.is_stale(&me, now, |pid| pid == 7), stale, "{lock:?}");
        }
        let nobody = holder("pod-c", 1, "");
        assert!(!lock("pod-a", 1, "", 0).is_stale(&nobody, now, |_| true));
    }

    #[tokio::test]
    async fn readers_share_and_an_exclusive_lock_lets_nobody_in() {
        let store = Arc::new(Memory::new());
        let (one, two) = (locks(&store, holder("a", 1, "1")), locks(&store, holder("b", 1, "2")));
        let (first, second) =
            (take(&one, Mode::Shared).await.unwrap(), take(&two, Mode::Shared).await.unwrap());
        let refused = take(&locks(&store, holder("c", 1, "3")), Mode::Exclusive).await.unwrap_err();
        assert!(
            refused.to_string().starts_with("the repository is locked by volsync on "),
            "{refused}"
        );
        first.release().await.unwrap();
        second.release().await.unwrap();
        let alone = take(&one, Mode::Exclusive).await.unwrap();
        assert!(matches!(take(&two, Mode::Shared).await, Err(Error::Locked { .. })));
        alone.release().await.unwrap();
        assert_eq!(two.all().await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn the_lock_of_an_earlier_attempt_is_removed_and_that_of_another_is_not() {
        let store = Arc::new(Memory::new());
        let killed = locks(&store, holder("pod-a", 1, "uid-1"));
        killed.write(Mode::Exclusive).await.unwrap();
        let other = locks(&store, holder("pod-b", 1, "uid-2"));
        assert!(matches!(take(&other, Mode::Shared).await, Err(Error::Locked { .. })));
        assert_eq!(other.remove_stale().await.unwrap(), 0);
        let again = locks(&store, holder("pod-c", 1, "uid-1"));
        take(&again, Mode::Exclusive).await.unwrap().release().await.unwrap();
        assert_eq!(again.all().await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_read_may_be_a_lock_and_what_is_empty_is_none() {
        let store = Arc::new(Memory::new());
        store.put("locks/00", Bytes::new()).await.unwrap();
        let me = locks(&store, holder("a", 1, "1"));
        take(&me, Mode::Exclusive).await.unwrap().release().await.unwrap();
        store.put("locks/01", Bytes::from_static(b"not a lock")).await.unwrap();
        assert!(matches!(take(&me, Mode::Shared).await, Err(Error::Locked { .. })));
        assert_eq!(me.remove_stale().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_refreshed_lock_has_another_file_and_one_that_was_removed_is_lost() {
        let store = Arc::new(Memory::new());
        let me = locks(&store, holder("a", 1, "1"));
        let mut name = me.write(Mode::Shared).await.unwrap();
        let before = name.clone();
        assert!(refresh(&me, Mode::Shared, &mut name).await.unwrap());
        assert_ne!(before, name);
        assert_eq!(me.all().await.unwrap().len(), 1);
        store.delete(&name).await.unwrap();
        assert!(!refresh(&me, Mode::Shared, &mut name).await.unwrap());

        let held = take(&me, Mode::Exclusive).await.unwrap();
        held.confirm().await.unwrap();
        assert_eq!(me.all().await.unwrap().len(), 1);
        store.delete(&held.name.lock().await).await.unwrap();
        assert!(matches!(held.confirm().await, Err(Error::LockLost { .. })));
        assert!(matches!(held.release().await, Err(Error::LockLost { .. })));
    }
}
