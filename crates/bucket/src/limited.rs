//! `Limited`: a store to and from which no more than so many bytes a second travel.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::{Instant, sleep_until};

use crate::error::Error;
use crate::store::{Entry, Listing, Store};

/// What is no longer than this, in bytes, does not wait behind others: locks must be refreshed in time,
/// whatever else is on its way. It counts all the same.
const SMALL: u64 = 64 << 10;

/// A store whose transfers, both ways together, keep to a bandwidth.
///
/// An object, or a range of one, goes as fast as it can, and the next one waits until as much time has
/// passed as all before it may take. So the limit holds over the length of a few objects, and not
/// within one.
pub struct Limited {
    store: Arc<dyn Store>,
    /// Bytes a second.
    bandwidth: NonZeroU64,
    /// When all that was begun may have been transferred.
    free: Mutex<Instant>,
    is_over: IsOver,
}

/// Whether whoever transfers has been asked to come to an end.
type IsOver = Box<dyn Fn() -> bool + Send + Sync>;

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(200);

impl fmt::Debug for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited")
            .field("store", &self.store)
            .field("bandwidth", &self.bandwidth)
            .finish_non_exhaustive()
    }
}

impl Limited {
    /// The store, with a bandwidth in bytes a second. Once `is_over` nobody waits any more: what is under
    /// way is to come to its end soon.
    pub fn new(
        store: Arc<dyn Store>,
        bandwidth: NonZeroU64,
        is_over: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let (free, is_over) = (Mutex::new(Instant::now()), Box::new(is_over));
        Self { store, bandwidth, free, is_over }
    }

    /// Counts so many bytes, and returns when they may go.
    fn count(&self, bytes: u64) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / self.bandwidth.get() as f64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*free).max(Instant::now());
        *free = begin + takes;
        begin
    }

    /// Waits for the turn of so many bytes.
    async fn turn(&self, bytes: u64) {
        let begin = self.count(bytes);
        if bytes > SMALL {
            self.wait_until(begin).await;
        }
    }

    async fn wait_until(&self, begin: Instant) {
        while Instant::now() < begin && !(self.is_over)() {
            sleep_until(begin.min(Instant::now() + LOOK)).await;
        }
    }
}

#[async_trait]
impl Store for Limited {
    fn location(&self) -> &str {
        self.store.location()
    }

    async fn create(&self) -> Result<(), Error> {
        self.store.create().await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        if let Some(range) = range {
            self.turn(range.end.saturating_sub(range.start)).await;
            return self.store.get(key, Some(range)).await;
        }
        // How much it is shows afterwards; whoever comes next waits for it.
        let content = self.store.get(key, None).await?;
        self.count(content.len() as u64);
        Ok(content)
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        self.turn(content.len() as u64).await;
        self.store.put(key, content).await
    }

    fn is_exclusive(&self) -> bool {
        self.store.is_exclusive()
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        self.turn(content.len() as u64).await;
        self.store.put_new(key, content).await
    }

    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let paced = content.then(|chunk| async move {
            if let Ok(chunk) = &chunk {
                self.wait_until(self.count(chunk.len() as u64)).await;
            }
            chunk
        });
        self.store.put_stream(key, paced.boxed()).await
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        self.store.head(key).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        self.store.list(prefix)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.store.delete(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use futures::stream;

    fn limited(bandwidth: u64) -> Limited {
        Limited::new(Arc::new(Memory::default()), NonZeroU64::new(bandwidth).unwrap(), || false)
    }

    #[tokio::test]
    async fn transfers_of_both_ways_share_the_bandwidth() {
        let store = limited(1 << 20);
        let begin = Instant::now();
        let object = Bytes::from(vec![7; 256 << 10]);
        // The first goes at once, and each later one when those before it have had their time.
        for key in ["a", "b"] {
            store.put(key, object.clone()).await.unwrap();
        }
        assert_eq!(store.get("a", Some(0..256 << 10)).await.unwrap(), object);
        assert!(begin.elapsed() >= Duration::from_millis(500), "{:?}", begin.elapsed());
        assert_eq!(store.get("b", None).await.unwrap(), object);
        assert!(store.count(0) >= begin + Duration::from_millis(1000));
    }

    #[tokio::test]
    async fn chunks_of_a_stream_wait_for_each_other() {
        let store = limited(100 << 10);
        let begin = Instant::now();
        let chunks = (0..4).map(|_| Ok(Bytes::from(vec![1; 10 << 10])));
        store.put_stream("a", stream::iter(chunks).boxed()).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
        assert_eq!(store.head("a").await.unwrap().size, 40 << 10);
    }

    #[tokio::test]
    async fn nobody_waits_once_it_is_over() {
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = over.clone();
        let is_over = move || seen.load(std::sync::atomic::Ordering::SeqCst);
        let store = Limited::new(Arc::new(Memory::default()), NonZeroU64::MIN, is_over);
        let object = Bytes::from(vec![0; 100 << 10]);
        store.put("a", object.clone()).await.unwrap();
        let waits = store.put("b", object);
        tokio::pin!(waits);
        let soon = Duration::from_millis(300);
        assert!(tokio::time::timeout(soon, &mut waits).await.is_err());
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_small_does_not_wait_and_counts() {
        let store = limited(1);
        store.put("large", Bytes::from(vec![0; 100 << 10])).await.unwrap();
        let before = store.count(0);
        let lock = Bytes::from_static(b"a lock");
        tokio::time::timeout(Duration::from_secs(60), store.put("lock", lock))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(store.count(0), before + Duration::from_secs(6));
    }
}
