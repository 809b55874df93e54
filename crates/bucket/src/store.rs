//! `Store`: what every object store can do.

use std::fmt::Debug;
use std::io;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::error::{Error, Kind};

/// An object, without its content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its key, below the store's location.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, where the store says so.
    pub modified: Option<Timestamp>,
}

/// Objects as they are found; ends with the first error.
pub type Listing<'a> = BoxStream<'a, Result<Entry, Error>>;

/// One configured object store.
///
/// Keys are exact strings of UTF-8, at most 1 024 bytes, with `/` between their parts and none in
/// front. Every call may be repeated: writing an object twice or deleting it twice does no harm.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Where the store is, for people: as the user wrote it, without credentials.
    fn location(&self) -> &str;

    /// Makes the bucket or directory if there is none. What is there stays as it is.
    async fn create(&self) -> Result<(), Error>;

    /// The content of an object, or exactly this range of its bytes. A range that ends beyond the
    /// object's end is an error ([`Kind::OutOfRange`](crate::Kind::OutOfRange)), never less content.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error>;

    /// Writes an object, in place of one that is there. It is there whole or not at all, and
    /// durable when this returns.
    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error>;

    /// Whether of several who [put what is to be new](Store::put_new) at once exactly one succeeds.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Writes an object if there is none of this key; `false`, and nothing is written, if there is one.
    /// A store that is not [exclusive](Store::is_exclusive) looks first, and somebody else may come in
    /// between.
    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        match self.head(key).await {
            Ok(_) => Ok(false),
            Err(absent) if absent.kind() == Kind::NotFound => {
                self.put(key, content).await.map(|()| true)
            }
            Err(other) => Err(other),
        }
    }

    /// As [`Store::put`], for content that need not fit into memory. If the stream fails, nothing is written.
    /// Where the protocol has no parts (restic's REST, Swift) it is held in memory, and refused beyond
    /// 256 MiB.
    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error>;

    /// An object without its content.
    async fn head(&self, key: &str) -> Result<Entry, Error>;

    /// Every object whose key starts with these bytes, at any depth, in no promised order.
    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a>;

    /// Removes an object; one that is not there is fine.
    async fn delete(&self, key: &str) -> Result<(), Error>;
}
