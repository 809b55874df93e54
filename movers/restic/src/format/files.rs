//! `RepositoryFiles`: the files of an open repository, read and written whole.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use volsync_bucket::Store;

use super::blob::{Encoder, decode_file};
use super::crypto::Key;
use super::error::Error;
use super::id::Id;
use super::index::{Index, IndexBuilder};
use super::snapshot::Snapshot;

/// The longest index file that is read, in bytes after decompression: one is full at 50 000 blobs.
const MAX_INDEX_FILE: usize = 1 << 30;
/// The longest snapshot file that is read, in bytes after decompression.
const MAX_SNAPSHOT_FILE: usize = 16 << 20;
/// Index files that are read at the same time.
const INDEX_READS: usize = 8;

/// The files of an open repository.
#[derive(Debug)]
pub struct RepositoryFiles {
    store: Arc<dyn Store>,
    key: Key,
    version: u32,
    polynomial: u64,
}

impl RepositoryFiles {
    /// Of the repository in `store`, whose config has this version (1 or 2) and this polynomial.
    pub fn new(store: Arc<dyn Store>, key: Key, version: u32, polynomial: u64) -> Self {
        Self { store, key, version, polynomial }
    }

    /// The master key.
    pub const fn key(&self) -> &Key {
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

    /// The names of all index files.
    pub async fn list_index_files(&self) -> Result<Vec<String>, Error> {
        Ok(self.store.list("index/").map_ok(|entry| entry.key).try_collect().await?)
    }

    /// Reads these index files.
    pub async fn load_index_files(&self, names: &[String]) -> Result<Index, Error> {
        let mut files = futures::stream::iter(names)
            .map(|name| async move {
                let sealed = self.store.get(name, None).await?;
                Ok::<_, Error>((name, sealed))
            })
            .buffer_unordered(INDEX_READS);
        let mut builder = IndexBuilder::default();
        while let Some((name, sealed)) = files.try_next().await? {
            let json = decode_file(&self.key, name, &mut Vec::from(sealed), MAX_INDEX_FILE)?;
            builder.add_file(name, &json)?;
        }
        Ok(builder.finish())
    }

    /// Reads a snapshot file.
    pub async fn load_snapshot(&self, id: Id) -> Result<Snapshot, Error> {
        let name = format!("snapshots/{id}");
        let mut sealed = Vec::from(self.store.get(&name, None).await?);
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
        Ok(packs)
    }

    /// Removes a pack.
    pub async fn delete_pack(&self, id: Id) -> Result<(), Error> {
        Ok(self.store.delete(&pack_key(id)).await?)
    }

    /// Removes an index file.
    pub async fn delete_index_file(&self, name: &str) -> Result<(), Error> {
        Ok(self.store.delete(name).await?)
    }

    /// Reads a range of a pack, in bytes.
    pub async fn read_pack(&self, id: Id, range: Range<u64>) -> Result<Bytes, Error> {
        Ok(self.store.get(&pack_key(id), Some(range)).await?)
    }

    /// Writes a pack.
    pub async fn write_pack(&self, id: Id, bytes: Bytes) -> Result<(), Error> {
        Ok(self.store.put(&pack_key(id), bytes).await?)
    }

    /// Writes an index file.
    pub async fn write_index(&self, json: &[u8]) -> Result<Id, Error> {
        self.write_file("index", json).await
    }

    /// Writes a snapshot file.
    pub async fn write_snapshot(&self, snapshot: &Snapshot) -> Result<Id, Error> {
        let json = serde_json::to_vec(snapshot)
            .map_err(|error| Error::damaged("a new snapshot", error.to_string()))?;
        self.write_file("snapshots", &json).await
    }

    async fn write_file(&self, directory: &str, json: &[u8]) -> Result<Id, Error> {
        let sealed = Encoder::new(self.version)?.encode_file(&self.key, json)?;
        let id = Id::of(&sealed);
        self.store.put(&format!("{directory}/{id}"), Bytes::from(sealed)).await?;
        Ok(id)
    }
}

/// Packs are spread over 256 directories.
fn pack_key(id: Id) -> String {
    let name = id.to_string();
    format!("data/{}/{name}", name.get(..2).unwrap_or_default())
}
