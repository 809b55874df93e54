//! Opening a repository, or making one, by what is in the store.
//!
//! Where there is no `config` there is no repository, if there is nothing else of one either. A store
//! that refuses, or does not answer, says nothing about that: it is an error, and never an empty
//! repository.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use volsync_bucket::{Kind, Operation, Store};

use crate::cache::Cache;
use crate::error::Error;
use crate::format::{self, Id, Key, RepositoryFiles, Snapshot};
use crate::key_file::KeyFile;
use crate::lock::{Holder, Locks};
use crate::polynomial::random_polynomial;
use crate::verify::Damage;

/// The version of repositories that are made, as restic makes them.
const VERSION: u32 = 2;
/// Keys that are tried, as restic does.
const MOST_KEYS: usize = 20;
/// How long whoever makes a repository waits before and after, where others may do so at once. No
/// request takes longer, nearly always.
const SETTLE: Duration = Duration::from_secs(1);
/// How long each who is before has to write the config: he may have ended.
const TURN: Duration = Duration::from_secs(10);
/// Snapshot files that are read at the same time.
const SNAPSHOT_READS: usize = 16;
const CONFIG: &str = "config";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Config {
    version: u32,
    id: String,
    chunker_polynomial: String,
}

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    store: Arc<dyn Store>,
    config: Config,
    files: Arc<RepositoryFiles>,
}

/// What is in a store.
#[derive(Debug)]
pub enum Opened {
    /// A repository that opens.
    Repository(Repository),
    /// Nothing: no bucket, or none of a repository's files.
    Missing,
}

impl Repository {
    /// Opens the repository in a store.
    pub async fn open(store: &Arc<dyn Store>, password: &str) -> Result<Opened, Error> {
        let Some(config) = read_config(store).await? else { return Ok(Opened::Missing) };
        let keys: Vec<String> = store.list("keys/").map_ok(|entry| entry.key).try_collect().await?;
        if keys.is_empty() {
            return Err(torso(store, CONFIG, "keys"));
        }
        let mut other = false;
        for name in keys.iter().take(MOST_KEYS) {
            let file = match store.get(name, None).await {
                Ok(file) => file,
                // It was of somebody whose repository another was quicker to make.
                Err(error) if error.kind() == Kind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let file: KeyFile = match serde_json::from_slice(&file) {
                Ok(file) => file,
                Err(error) if keys.len() == 1 => return Err(damaged(name, &error.to_string())),
                Err(error) => {
                    // Another key may open; one that nobody can read is worth a word.
                    tracing::warn!("{name} cannot be read: {error}");
                    continue;
                }
            };
            let password = password.to_owned();
            let opened = tokio::task::spawn_blocking(move || file.open(&password))
                .await
                .map_err(|error| damaged(name, &error.to_string()))?;
            let Some(key) = opened? else { continue };
            match Self::with_key(store.clone(), key, config.clone()) {
                // Somebody was about to make a repository, and another was quicker.
                Err(Error::Repository(format::Error::Decrypt { .. })) => other = true,
                opened => return opened.map(Opened::Repository),
            }
        }
        if other {
            return Err(damaged(
                CONFIG,
                "no key that this password opens is the one it is sealed with",
            ));
        }
        Err(Error::WrongPassword { location: store.location().to_owned() })
    }

    /// Makes a repository in a store where there is none. If others do at the same time, all of them
    /// open the one that is there then.
    pub async fn create(store: &Arc<dyn Store>, password: &str, host: &str) -> Result<Self, Error> {
        store.create().await?;
        if read_config(store).await?.is_some() {
            return Self::there(store, password).await;
        }
        let (secret, host) = (password.to_owned(), host.to_owned());
        let (file, key) = tokio::task::spawn_blocking(move || KeyFile::create(&secret, &host))
            .await
            .map_err(|error| damaged("keys", &error.to_string()))??;
        let file =
            serde_json::to_vec(&file).map_err(|error| damaged("keys", &error.to_string()))?;
        let key_file = format!("keys/{}", Id::of(&file));
        store.put(&key_file, Bytes::from(file)).await?;
        match Self::create_config(store, &key, &key_file).await {
            Ok(true) => {}
            // The key opens nothing: whoever was quicker has another.
            Ok(false) => store.delete(&key_file).await?,
            Err(error) => {
                if is_refused(&error)
                    && let Err(left) = store.delete(&key_file).await
                {
                    tracing::debug!("a key that opens nothing stays behind: {left}");
                }
                return Err(error);
            }
        }
        Self::there(store, password).await
    }

    async fn there(store: &Arc<dyn Store>, password: &str) -> Result<Self, Error> {
        match Self::open(store, password).await? {
            Opened::Repository(repository) => Ok(repository),
            Opened::Missing => Err(torso(store, "keys", CONFIG)),
        }
    }

    /// Writes the config, sealed with `key`; false if another has come before.
    async fn create_config(
        store: &Arc<dyn Store>,
        key: &Key,
        key_file: &str,
    ) -> Result<bool, Error> {
        if !store.is_exclusive() && !Self::is_next(store, key_file).await? {
            return Ok(false);
        }
        let mut id = [0; 32];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| format::Error::Crypto)?;
        let config = Config {
            version: VERSION,
            id: Id::from_bytes(id).to_string(),
            chunker_polynomial: format!("{:x}", random_polynomial()?),
        };
        let json =
            serde_json::to_vec(&config).map_err(|error| damaged(CONFIG, &error.to_string()))?;
        let mut sealed = vec![0; 16];
        sealed.extend_from_slice(&json);
        key.seal(&mut sealed)?;
        let sealed = Bytes::from(sealed);
        if store.put_new(CONFIG, sealed.clone()).await? && !store.is_exclusive() {
            sleep(SETTLE).await;
        }
        // What was there already may be ours: the answer to a first attempt was lost.
        Ok(store.get(CONFIG, None).await? == sealed)
    }

    /// Where two may write the config at once, of all who have written a key the one whose key comes
    /// first does. The others wait for it, and the next goes before if it does not come; false if it
    /// has come.
    async fn is_next(store: &Arc<dyn Store>, key_file: &str) -> Result<bool, Error> {
        let began = Instant::now();
        loop {
            // Whoever writes his key from now on sees ours, and who did before has written the config
            // if he is to.
            sleep(SETTLE).await;
            if read_config(store).await?.is_some() {
                return Ok(false);
            }
            let mut before = 0;
            let mut keys = store.list("keys/");
            while let Some(entry) = keys.try_next().await? {
                before += u32::from(entry.key.as_str() < key_file);
            }
            if began.elapsed() >= TURN * before {
                return Ok(true);
            }
        }
    }

    fn with_key(store: Arc<dyn Store>, key: Key, config: Bytes) -> Result<Self, Error> {
        let mut sealed = Vec::from(config);
        let json = key
            .open(&mut sealed)?
            .ok_or_else(|| format::Error::Decrypt { what: CONFIG.to_owned() })?;
        let config: Config =
            serde_json::from_slice(json).map_err(|error| damaged(CONFIG, &error.to_string()))?;
        if !(1..=2).contains(&config.version) {
            let why = format!("its version is {}, this mover knows 1 and 2", config.version);
            return Err(damaged(CONFIG, &why));
        }
        let polynomial = u64::from_str_radix(&config.chunker_polynomial, 16)
            .map_err(|_| damaged(CONFIG, "the chunker polynomial is no number"))?;
        let files = RepositoryFiles::new(store.clone(), key, config.version, polynomial);
        Ok(Self { store, config, files: Arc::new(files) })
    }

    /// Its ID, in hexadecimal.
    pub fn id(&self) -> &str {
        &self.config.id
    }

    /// Its files.
    pub const fn files(&self) -> &Arc<RepositoryFiles> {
        &self.files
    }

    /// The same, with a cache in this directory.
    pub fn with_cache(self, directory: &Path) -> Self {
        let cache = Cache::open(directory, self.id());
        Self { files: Arc::new(self.files.with_cache(cache)), ..self }
    }

    /// The same, as it is in the store and nowhere else.
    pub(crate) fn without_cache(&self) -> Self {
        let (store, config) = (self.store.clone(), self.config.clone());
        Self { store, config, files: Arc::new(self.files.with_cache(None)) }
    }

    /// Its locks, for this holder.
    pub fn locks(&self, holder: Holder) -> Locks {
        Locks::new(self.store.clone(), self.files.clone(), holder)
    }

    /// The root of every snapshot. Under an exclusive lock: one that is not there any more is an
    /// error.
    pub async fn roots(&self) -> Result<Vec<Id>, Error> {
        futures::stream::iter(self.list_snapshots().await?)
            .map(|id| async move { Ok(self.files.load_snapshot(id).await?.tree) })
            .buffer_unordered(SNAPSHOT_READS)
            .try_collect()
            .await
    }

    /// Every snapshot that can be read, in no order; what cannot is damage.
    pub(crate) async fn readable_snapshots(
        &self,
        damage: &Damage,
    ) -> Result<Vec<(Id, Snapshot)>, Error> {
        let mut trouble = None;
        let take = |error: format::Error| {
            trouble = error.of_a_store_in_trouble().or_else(|| trouble.take());
            damage.take(error)
        };
        let snapshots = self.read_snapshots(take).await?;
        match trouble {
            // A store that gives nothing at all has lost nothing: it is in trouble.
            Some(error) if snapshots.is_empty() => Err(error.into()),
            _ => Ok(snapshots),
        }
    }

    async fn list_snapshots(&self) -> Result<Vec<Id>, Error> {
        let names = self.files.list_snapshots().await?;
        let ids = names.iter().filter_map(|name| {
            Id::from_hex(name.rsplit('/').next().unwrap_or_default().as_bytes())
        });
        Ok(ids.collect())
    }

    /// Every snapshot, in no order. One that was forgotten meanwhile is left out.
    pub async fn snapshots(&self) -> Result<Vec<(Id, Snapshot)>, Error> {
        self.read_snapshots(Err).await
    }

    /// Leaves out what `unreadable` takes.
    async fn read_snapshots(
        &self,
        mut unreadable: impl FnMut(format::Error) -> Result<(), format::Error> + Send,
    ) -> Result<Vec<(Id, Snapshot)>, Error> {
        let mut reads = futures::stream::iter(self.list_snapshots().await?)
            .map(|id| async move { (id, self.files.load_snapshot(id).await) })
            .buffer_unordered(SNAPSHOT_READS);
        let mut snapshots = Vec::new();
        while let Some((id, read)) = reads.next().await {
            match read {
                Ok(snapshot) => snapshots.push((id, snapshot)),
                // Forgotten meanwhile.
                Err(format::Error::Store(error)) if error.kind() == Kind::NotFound => {}
                Err(error) => unreadable(error)?,
            }
        }
        Ok(snapshots)
    }

    /// Removes snapshot files. Data stays until it is pruned.
    pub async fn forget(&self, ids: &[Id]) -> Result<(), Error> {
        for id in ids {
            self.files.delete_snapshot(*id).await?;
        }
        Ok(())
    }
}

/// Whether the config was certainly not written. Where that is open, its key must stay: there is no other
/// that opens it.
fn is_refused(error: &Error) -> bool {
    let Error::Repository(format::Error::Store(error)) = error else { return false };
    error.operation() == Operation::Put
        && matches!(error.kind(), Kind::Full | Kind::Forbidden | Kind::Invalid)
}

/// The config; `None` where there is no repository.
async fn read_config(store: &Arc<dyn Store>) -> Result<Option<Bytes>, Error> {
    let mut looked = false;
    loop {
        match store.get(CONFIG, None).await {
            Ok(config) => return Ok(Some(config)),
            Err(error) if error.kind() == Kind::NoBucket => return Ok(None),
            Err(error) if error.kind() == Kind::NotFound => match nothing_is_there(store).await {
                Ok(()) => return Ok(None),
                // What is there may have come after its config, which came after we looked.
                Err(Error::Torso { .. }) if !looked => looked = true,
                Err(other) => return Err(other),
            },
            Err(error) => return Err(error.into()),
        }
    }
}

/// Refuses to take a repository without its config for none. Keys alone are what somebody left who
/// did not come to writing the config: nothing was ever sealed with them.
async fn nothing_is_there(store: &Arc<dyn Store>) -> Result<(), Error> {
    for (prefix, has) in [("snapshots/", "snapshots"), ("index/", "an index"), ("data/", "data")] {
        match store.list(prefix).next().await {
            None => {}
            Some(Ok(_)) => return Err(torso(store, has, CONFIG)),
            Some(Err(error)) if matches!(error.kind(), Kind::NotFound | Kind::NoBucket) => {}
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

fn torso(store: &Arc<dyn Store>, has: &'static str, lacks: &'static str) -> Error {
    Error::Torso { location: store.location().to_owned(), has, lacks }
}

fn damaged(what: &str, why: &str) -> Error {
    format::Error::Damaged { what: what.to_owned(), why: why.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use volsync_bucket::Memory;

    #[tokio::test]
    async fn what_is_made_opens_and_only_with_its_password() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        assert!(matches!(Repository::open(&store, "secret").await, Ok(Opened::Missing)));
        let made = Repository::create(&store, "secret", "here").await.unwrap();
        let Opened::Repository(opened) = Repository::open(&store, "secret").await.unwrap() else {
            panic!("it is there");
        };
        assert_eq!(
            (opened.id(), opened.files().polynomial()),
            (made.id(), made.files().polynomial())
        );
        assert!(opened.snapshots().await.unwrap().is_empty());
        let wrong = Repository::open(&store, "other").await.unwrap_err();
        assert!(matches!(wrong, Error::WrongPassword { .. }), "{wrong}");
        let again = Repository::create(&store, "secret", "here").await.unwrap();
        assert_eq!(again.id(), made.id());
        assert!(Repository::create(&store, "other", "here").await.is_err());
    }

    #[tokio::test]
    async fn what_a_beginning_left_is_in_nobodys_way() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let (file, _) = KeyFile::create("secret", "here").unwrap();
        let file = Bytes::from(serde_json::to_vec(&file).unwrap());
        store.put(&format!("keys/{}", Id::of(&file)), file).await.unwrap();
        assert!(matches!(Repository::open(&store, "secret").await, Ok(Opened::Missing)));
        let made = Repository::create(&store, "secret", "here").await.unwrap();
        let again = Repository::open(&store, "secret").await.unwrap();
        assert!(matches!(again, Opened::Repository(opened) if opened.id() == made.id()));
    }

    /// A store that replaces what is to be new, as some servers of S3 do; or that writes it and answers
    /// otherwise.
    #[derive(Debug)]
    struct Careless(Memory, Answer);

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Answer {
        True,
        /// Of a second attempt, as that of the first was lost.
        Taken,
        Lost,
        Refused,
    }

    #[async_trait::async_trait]
    impl Store for Careless {
        fn location(&self) -> &str {
            self.0.location()
        }
        async fn create(&self) -> Result<(), volsync_bucket::Error> {
            self.0.create().await
        }
        async fn get(
            &self,
            key: &str,
            range: Option<std::ops::Range<u64>>,
        ) -> Result<Bytes, volsync_bucket::Error> {
            self.0.get(key, range).await
        }
        async fn put(&self, key: &str, content: Bytes) -> Result<(), volsync_bucket::Error> {
            sleep(Duration::from_millis(20)).await;
            self.0.put(key, content).await
        }
        async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, volsync_bucket::Error> {
            let error = |kind| {
                let (of, location) = (Operation::Put, self.location());
                Err(volsync_bucket::Error::new(kind, of, location, key, "as asked"))
            };
            if self.1 == Answer::Refused {
                return error(Kind::Full);
            }
            if self.1 == Answer::True && self.0.head(key).await.is_ok() {
                return Ok(false);
            }
            self.put(key, content).await?;
            match self.1 {
                Answer::Taken => Ok(false),
                Answer::Lost => error(Kind::Unreachable),
                Answer::True | Answer::Refused => Ok(true),
            }
        }
        async fn put_stream(
            &self,
            key: &str,
            content: futures::stream::BoxStream<'_, std::io::Result<Bytes>>,
        ) -> Result<(), volsync_bucket::Error> {
            self.0.put_stream(key, content).await
        }
        async fn head(&self, key: &str) -> Result<volsync_bucket::Entry, volsync_bucket::Error> {
            self.0.head(key).await
        }
        fn list<'a>(&'a self, prefix: &'a str) -> volsync_bucket::Listing<'a> {
            self.0.list(prefix)
        }
        async fn delete(&self, key: &str) -> Result<(), volsync_bucket::Error> {
            self.0.delete(key).await
        }
    }

    #[tokio::test]
    async fn the_only_key_that_opens_a_config_stays() {
        for (answer, keys) in [(Answer::Taken, 1), (Answer::Lost, 1), (Answer::Refused, 0)] {
            let store: Arc<dyn Store> = Arc::new(Careless(Memory::new(), answer));
            let made = Repository::create(&store, "secret", "here").await;
            assert_eq!(made.is_ok(), answer == Answer::Taken, "{answer:?}");
            let there: Vec<_> = store.list("keys/").try_collect().await.unwrap();
            assert_eq!(there.len(), keys, "{answer:?}");
            let opened = Repository::open(&store, "secret").await.unwrap();
            assert_eq!(matches!(opened, Opened::Repository(_)), keys == 1, "{answer:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_makes_it_at_the_same_time_gets_the_same_repository() {
        let scratch = tempfile::tempdir().unwrap();
        let stores: [Arc<dyn Store>; 3] = [
            Arc::new(Memory::new()),
            Arc::new(Careless(Memory::new(), Answer::True)),
            Arc::new(volsync_bucket::Directory::new(scratch.path())),
        ];
        for store in stores {
            let makers: Vec<_> = (0..6)
                .map(|_| {
                    let store = store.clone();
                    tokio::spawn(async move { Repository::create(&store, "secret", "here").await })
                })
                .collect();
            let mut ids = std::collections::BTreeSet::new();
            for maker in makers {
                ids.insert(maker.await.unwrap().unwrap().id().to_owned());
            }
            let Opened::Repository(there) = Repository::open(&store, "secret").await.unwrap()
            else {
                panic!("it is there");
            };
            assert_eq!(ids.into_iter().collect::<Vec<_>>(), [there.id()]);
            let keys: Vec<_> = store.list("keys/").try_collect().await.unwrap();
            assert_eq!(keys.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_repository_without_its_config_is_not_made_anew() {
        for left in ["snapshots/00", "index/00", "data/00/0000"] {
            let store: Arc<dyn Store> = Arc::new(Memory::new());
            store.put(left, Bytes::from_static(b"x")).await.unwrap();
            let said = Repository::open(&store, "secret").await.unwrap_err().to_string();
            assert!(said.contains("is damaged") && said.ends_with("and no config"), "{said}");
            assert!(Repository::create(&store, "secret", "here").await.is_err());
        }
    }
}
