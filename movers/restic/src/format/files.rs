//! `RepositoryFiles`: the files of an open repository, read and written whole.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use volsync_bucket::{Kind, Store};

use super::blob::{Encoder, decode_file};
use super::crypto::Key;
use super::error::Error;
use super::id::Id;
use super::index::{Index, IndexBuilder};
use super::own::Own;
use super::snapshot::Snapshot;
use crate::cache::{Cache, Kept};
use crate::verify::Damage;

/// The longest index file that is read, in bytes after decompression: one is full at 50 000 blobs.
const MAX_INDEX_FILE: usize = 1 << 30;
/// The longest snapshot file that is read, in bytes after decompression.
const MAX_SNAPSHOT_FILE: usize = 16 << 20;
/// The longest pack of trees that is fetched whole to be cached, in bytes.
const MAX_CACHED_PACK: u64 = 32 << 20;
/// What such a pack may have behind its last blob, in bytes.
const MAX_HEADER: u64 = 16 << 20;
/// Index files that are read at the same time.
const INDEX_READS: usize = 8;

/// The files of an open repository.
#[derive(Debug)]
pub struct RepositoryFiles {
    store: Arc<dyn Store>,
    key: Arc<Key>,
    version: u32,
    polynomial: u64,
    cache: Option<Arc<Cache>>,
    own: Arc<Own>,
}

impl RepositoryFiles {
    /// Of the repository in `store`, whose config has this version (1 or 2) and this polynomial.
    pub fn new(store: Arc<dyn Store>, key: Key, version: u32, polynomial: u64) -> Self {
        let (key, own) = (Arc::new(key), Arc::default());
        Self { store, key, version, polynomial, cache: None, own }
    }

    /// The same, with what need not be fetched again.
    pub fn with_cache(&self, cache: Option<Cache>) -> Self {
        let (store, key, own) = (self.store.clone(), self.key.clone(), self.own.clone());
        Self { store, key, cache: cache.map(Arc::new), own, ..*self }
    }

    /// The master key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The version of the format: 1 or 2.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The polynomial that decides where files are cut.
    pub const fn polynomial(&self) -> u64 {
        self.polynomial
    }

    /// Reads all index files.
    pub async fn load_index(&self) -> Result<Index, Error> {
        self.load_index_files(&self.list_index_files().await?).await
    }

    /// Reads all index files that can be read; what cannot is damage.
    pub(crate) async fn load_readable_index(&self, damage: &Damage) -> Result<Index, Error> {
        let names = self.list_index_files().await?;
        let mut files = std::pin::pin!(self.read_index_files(&names));
        let (mut builder, mut readable, mut trouble) = (IndexBuilder::default(), false, None);
        while let Some(read) = files.next().await {
            match read.and_then(|(name, json)| builder.add_file(name, &json)) {
                Ok(()) => readable = true,
                Err(error) => {
                    trouble = error.of_a_store_in_trouble().or(trouble);
                    damage.take(error)?;
                }
            }
        }
        match trouble {
            // A store that gives nothing at all has lost nothing: it is in trouble.
            Some(error) if !readable => Err(error.into()),
            _ => Ok(builder.finish()),
        }
    }

    /// The names of all index files.
    pub async fn list_index_files(&self) -> Result<Vec<String>, Error> {
        self.list(Kept::Index).await
    }

    /// The names of all snapshot files.
    pub(crate) async fn list_snapshots(&self) -> Result<Vec<String>, Error> {
        self.list(Kept::Snapshot).await
    }

    async fn list(&self, kept: Kept) -> Result<Vec<String>, Error> {
        let prefix = format!("{}/", kept.directory());
        let mut names: BTreeSet<String> =
            self.store.list(&prefix).map_ok(|entry| entry.key).try_collect().await?;
        for own in self.own.correct(&prefix, &mut names) {
            // Somebody else may have removed it meanwhile.
            match self.store.head(&own).await {
                Ok(_) => {
                    names.insert(own);
                }
                Err(error) if error.kind() == Kind::NotFound => self.own.has_gone(&own),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Reads these index files.
    pub async fn load_index_files(&self, names: &[String]) -> Result<Index, Error> {
        let mut files = std::pin::pin!(self.read_index_files(names));
        let mut builder = IndexBuilder::default();
        while let Some((name, json)) = files.try_next().await? {
            builder.add_file(name, &json)?;
        }
        Ok(builder.finish())
    }

    /// Index files with their content, in any order.
    fn read_index_files<'a>(
        &'a self,
        names: &'a [String],
    ) -> impl Stream<Item = Result<(&'a str, Vec<u8>), Error>> + Send {
        futures::stream::iter(names)
            .map(move |name| async move {
                let mut sealed = Vec::from(self.read_kept(Kept::Index, name).await?);
                let json = decode_file(&self.key, name, &mut sealed, MAX_INDEX_FILE)?;
                Ok((name.as_str(), json))
            })
            .buffer_unordered(INDEX_READS)
    }

    /// Reads a snapshot file.
    pub async fn load_snapshot(&self, id: Id) -> Result<Snapshot, Error> {
        let name = format!("snapshots/{id}");
        let mut sealed = Vec::from(self.read_kept(Kept::Snapshot, &name).await?);
        let json = decode_file(&self.key, &name, &mut sealed, MAX_SNAPSHOT_FILE)?;
        serde_json::from_slice(&json).map_err(|error| Error::damaged(name, error.to_string()))
    }

    /// Every pack and its length, in bytes. What lies among packs and is none is left out.
    pub async fn list_packs(&self) -> Result<HashMap<Id, u64>, Error> {
        let mut packs = HashMap::new();
        let mut entries = self.store.list("data/");
        while let Some(entry) = entries.try_next().await? {
            let name = entry.key.rsplit('/').next().unwrap_or_default();
            if let Some(id) = Id::from_hex(name.as_bytes())
                && entry.key == pack_key(id)
            {
                packs.insert(id, entry.size);
            }
        }
        self.own.add_packs(&mut packs);
        Ok(packs)
    }

    /// Removes a pack.
    pub async fn delete_pack(&self, id: Id) -> Result<(), Error> {
        self.store.delete(&pack_key(id)).await?;
        self.own.removed_pack(id);
        Ok(())
    }

    /// Removes an index file.
    pub async fn delete_index_file(&self, name: &str) -> Result<(), Error> {
        self.delete(name).await
    }

    /// Removes a snapshot file.
    pub(crate) async fn delete_snapshot(&self, id: Id) -> Result<(), Error> {
        self.delete(&format!("{}/{id}", Kept::Snapshot.directory())).await
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        self.store.delete(name).await?;
        self.own.removed(name);
        Ok(())
    }

    /// Reads a range of a pack, in bytes.
    pub async fn read_pack(&self, id: Id, range: Range<u64>) -> Result<Bytes, Error> {
        Ok(self.store.get(&pack_key(id), Some(range)).await?)
    }

    /// Reads a range of a pack of trees, in bytes: from the cache, which takes the pack in whole if its
    /// last blob ends at `end`, not too far from its start.
    pub async fn read_trees(&self, id: Id, range: Range<u64>, end: u64) -> Result<Bytes, Error> {
        let Some(cache) = &self.cache else { return self.read_pack(id, range).await };
        if let Some(bytes) = cache.get_range(Kept::Trees, id, range.clone()) {
            return Ok(bytes);
        }
        // Whatever the index says of its end, it is the pack that is fetched.
        let fits = end <= MAX_CACHED_PACK
            && cache.takes(end)
            && self.store.head(&pack_key(id)).await?.size <= MAX_CACHED_PACK + MAX_HEADER;
        if !fits {
            return self.read_pack(id, range).await;
        }
        let whole = self.store.get(&pack_key(id), None).await?;
        if Id::of(&whole) == id {
            cache.put(Kept::Trees, id, &whole);
        }
        let place = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let bytes = place.and_then(|(from, to)| whole.get(from..to));
        // A copy, so that the rest of the pack need not stay in memory.
        bytes
            .map(Bytes::copy_from_slice)
            .ok_or_else(|| Error::damaged(format!("pack {id}"), "it is too short"))
    }

    /// Writes a pack; one of trees is read by the next sync.
    pub async fn write_pack(&self, id: Id, bytes: Bytes, trees: bool) -> Result<(), Error> {
        self.store.put(&pack_key(id), bytes.clone()).await?;
        self.own.wrote_pack(id, bytes.len() as u64);
        if let Some(cache) = self.cache.as_ref().filter(|_| trees) {
            cache.put(Kept::Trees, id, &bytes);
        }
        Ok(())
    }

    /// Writes an index file.
    pub async fn write_index(&self, json: &[u8]) -> Result<Id, Error> {
        self.write_file(Kept::Index, json).await
    }

    /// Writes a snapshot file.
    pub async fn write_snapshot(&self, snapshot: &Snapshot) -> Result<Id, Error> {
        let json = serde_json::to_vec(snapshot)
            .map_err(|error| Error::damaged("a new snapshot", error.to_string()))?;
        self.write_file(Kept::Snapshot, &json).await
    }

    async fn write_file(&self, kept: Kept, json: &[u8]) -> Result<Id, Error> {
        let sealed = Bytes::from(Encoder::new(self.version)?.encode_file(&self.key, json)?);
        let id = Id::of(&sealed);
        let name = format!("{}/{id}", kept.directory());
        self.store.put(&name, sealed.clone()).await?;
        self.own.wrote(name);
        if let Some(cache) = &self.cache {
            cache.put(kept, id, &sealed);
        }
        Ok(id)
    }

    /// Reads a file whose name is the hash of its content, from the cache if it is there.
    async fn read_kept(&self, kept: Kept, name: &str) -> Result<Bytes, Error> {
        let id = name.rsplit('/').next().and_then(|name| Id::from_hex(name.as_bytes()));
        let (Some(cache), Some(id)) = (&self.cache, id) else {
            return Ok(self.store.get(name, None).await?);
        };
        if let Some(content) = cache.get(kept, id) {
            return Ok(content);
        }
        let content = self.store.get(name, None).await?;
        if Id::of(&content) == id {
            cache.put(kept, id, &content);
        }
        Ok(content)
    }
}

/// Packs are spread over 256 directories.
fn pack_key(id: Id) -> String {
    let name = id.to_string();
    format!("data/{}/{name}", name.get(..2).unwrap_or_default())
}
