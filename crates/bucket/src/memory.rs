//! `Memory`: a store in memory, for tests.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};

use crate::error::{Error, Kind, Operation};
use crate::key::problem_with_key;
use crate::store::{Entry, Listing, Store};

/// A store that forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every object and its content, in order of their keys.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn content(&self, operation: Operation, key: &str) -> Result<Bytes, Error> {
        self.held().get(key).cloned().ok_or_else(|| {
            Error::new(Kind::NotFound, operation, self.location(), key, "no such object")
        })
    }
}

#[async_trait]
impl Store for Memory {
    fn location(&self) -> &'static str {
        "memory"
    }

    async fn create(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        let content = self.content(Operation::Get, key)?;
        let Some(range) = range else {
            return Ok(content);
        };
        let length = content.len() as u64;
        if range.start > range.end || range.end > length {
            let reason = format!(
                "bytes {} to {} were asked for, and it has {length}",
                range.start, range.end
            );
            return Err(Error::new(Kind::OutOfRange, Operation::Get, self.location(), key, reason));
        }
        Ok(content.slice(range.start as usize..range.end as usize))
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        if let Some(problem) = problem_with_key(key) {
            let kind = Kind::Invalid;
            return Err(Error::new(kind, Operation::Put, self.location(), key, problem));
        }
        self.held().insert(key.to_owned(), content);
        Ok(())
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let mut held = self.held();
        let is_new = !held.contains_key(key);
        if is_new {
            held.insert(key.to_owned(), content);
        }
        Ok(is_new)
    }

    async fn put_stream(
        &self,
        key: &str,
        mut content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = content.next().await {
            whole.extend_from_slice(&chunk.map_err(|error| {
                let kind = Kind::Content;
                Error::new(kind, Operation::Put, self.location(), key, error.to_string())
            })?);
        }
        self.put(key, whole.freeze()).await
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        let size = self.content(Operation::Head, key)?.len() as u64;
        Ok(Entry { key: key.to_owned(), size, modified: None })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        let found: Vec<Result<Entry, Error>> = self
            .held()
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, content)| {
                Ok(Entry { key: key.clone(), size: content.len() as u64, modified: None })
            })
            .collect();
        stream::iter(found).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.held().remove(key);
        Ok(())
    }
}
