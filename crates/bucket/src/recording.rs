//! `Recording`: a store that remembers what was asked of it, for tests.

use std::io;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::{Error, Operation};
use crate::store::{Entry, Listing, Store};

/// What was asked of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was wanted.
    pub operation: Operation,
    /// Of which object; for a listing, its prefix.
    pub key: String,
    /// Which bytes of it, if not all.
    pub range: Option<Range<u64>>,
}

/// A store in front of another that remembers the calls, in order.
#[derive(Debug)]
pub struct Recording {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
}

impl Recording {
    /// A recording store in front of `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, calls: Mutex::default() }
    }

    /// The calls so far; they are forgotten.
    pub fn take(&self) -> Vec<Call> {
        mem::take(&mut *self.held())
    }

    fn held(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, operation: Operation, key: &str, range: Option<Range<u64>>) {
        self.held().push(Call { operation, key: key.to_owned(), range });
    }
}

#[async_trait]
impl Store for Recording {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn create(&self) -> Result<(), Error> {
        self.record(Operation::Create, "", None);
        self.inner.create().await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        self.record(Operation::Get, key, range.clone());
        self.inner.get(key, range).await
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        self.record(Operation::Put, key, None);
        self.inner.put(key, content).await
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        self.record(Operation::Put, key, None);
        self.inner.put_new(key, content).await
    }

    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        self.record(Operation::Put, key, None);
        self.inner.put_stream(key, content).await
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        self.record(Operation::Head, key, None);
        self.inner.head(key).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        self.record(Operation::List, prefix, None);
        self.inner.list(prefix)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.record(Operation::Delete, key, None);
        self.inner.delete(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    #[tokio::test]
    async fn calls_are_remembered_in_order_and_passed_on() {
        let store = Recording::new(Arc::new(Memory::new()));
        store.put("a", Bytes::from_static(b"abc")).await.unwrap();
        assert_eq!(store.get("a", Some(1..3)).await.unwrap(), "bc");
        let call = |operation, range| Call { operation, key: "a".to_owned(), range };
        assert_eq!(store.take(), [call(Operation::Put, None), call(Operation::Get, Some(1..3))]);
        assert!(store.take().is_empty());
    }
}
