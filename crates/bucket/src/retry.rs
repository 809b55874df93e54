//! `Retrying`: a store in front of another that tries again what may pass.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{Error, Kind, Operation};
use crate::settings::Settings;
use crate::store::{Entry, Listing, Store};

/// The slowest connection that is still given time to move what it moves, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// How large an object is taken to be whose size is not known beforehand, in bytes.
const UNKNOWN: u64 = 64 << 20;

/// A stream up to this length is written as a whole, so that it can be written again.
const SMALL: usize = 8 << 20;

/// How long a store is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// How long all attempts at one call may take together while the store has never answered: its
    /// address is likelier mistyped than the store down.
    pub unanswered: Duration,
    /// The same once it has answered.
    pub answered: Duration,
    /// How long one attempt may take, besides the time that moving its content takes.
    pub attempt: Duration,
    /// How long to wait after the first attempt; doubled after each.
    pub first_delay: Duration,
    /// The longest wait.
    pub longest_delay: Duration,
}

impl Default for Patience {
    /// Half a minute for a store that never answered; a quarter of an hour, as restic, for others.
    fn default() -> Self {
        Self {
            unanswered: Duration::from_secs(30),
            answered: Duration::from_secs(15 * 60),
            attempt: Duration::from_secs(60),
            first_delay: Duration::from_millis(250),
            longest_delay: Duration::from_secs(30),
        }
    }
}

/// What is shared by all calls to one store, also by the adapter itself for the pages of a listing
/// and the parts of a stream: this is the only place where anything is tried again.
#[derive(Clone)]
pub(crate) struct Retries {
    patience: Patience,
    location: String,
    answered: Arc<AtomicBool>,
    secrets: Arc<Settings>,
}

impl fmt::Debug for Retries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retries").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Retries {
    /// Retries at a store whose errors must not show `secrets`.
    pub(crate) fn new(patience: Patience, location: String, secrets: Settings) -> Self {
        let answered = Arc::new(AtomicBool::new(false));
        Self { patience, location, answered, secrets: Arc::new(secrets) }
    }

    /// The store's location.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// Waits for an answer to begin, where its content may take longer.
    pub(crate) async fn answer<T>(
        &self,
        sent: impl Future<Output = T> + Send,
    ) -> Result<T, String> {
        let patience = self.patience.attempt;
        let silence = |_| format!("no answer within {}", seconds(patience));
        timeout(patience, sent).await.map_err(silence)
    }

    /// Tries until it succeeds, or fails for good, or has taken too long. `bytes` are what it
    /// moves.
    pub(crate) async fn run<T, F>(
        &self,
        operation: Operation,
        key: &str,
        bytes: u64,
        mut attempt: impl FnMut() -> F + Send,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let started = Instant::now();
        let deadline = self.patience.attempt + Duration::from_secs(bytes / SLOWEST);
        let mut delay = self.patience.first_delay;
        for attempts in 1.. {
            let error = match timeout(deadline, attempt()).await {
                Ok(Ok(done)) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(done);
                }
                Ok(Err(error)) => error.map_reason(|reason| self.secrets.redact(reason)),
                Err(_) => {
                    let reason = format!("no answer within {}", seconds(deadline));
                    Error::new(Kind::Unreachable, operation, &self.location, key, reason)
                }
            };
            if !error.is_temporary() {
                if error.kind().is_answer() {
                    self.answered.store(true, Ordering::Relaxed);
                }
                return Err(error);
            }
            let patience = if self.answered.load(Ordering::Relaxed) {
                self.patience.answered
            } else {
                self.patience.unanswered
            };
            let wait = jittered(delay);
            let taken = started.elapsed();
            if taken + wait >= patience {
                return Err(error.map_reason(|reason| {
                    format!("{reason} (tried {attempts} times in {})", seconds(taken))
                }));
            }
            tracing::debug!(%error, attempts, wait_milliseconds = wait.as_millis(), "trying again");
            sleep(wait).await;
            delay = (delay * 2).min(self.patience.longest_delay);
        }
        unreachable!("attempts are counted without end")
    }
}

impl Retries {
    /// A listing that comes in pages. `page` asks for the one with this token, the first has none, and
    /// says where the next begins.
    pub(crate) fn pages<'a, F>(
        &'a self,
        prefix: &'a str,
        page: impl Fn(Option<String>) -> F + Send + Sync + 'a,
    ) -> Listing<'a>
    where
        F: Future<Output = Result<(Vec<Entry>, Option<String>), Error>> + Send + 'a,
    {
        // Where the next page begins; `None` after the last.
        let start = (page, Some(None));
        stream::try_unfold(start, move |(page, next): (_, Option<Option<String>>)| async move {
            let Some(token) = next else { return Ok(None) };
            let attempt = || page(token.clone());
            let (entries, next) = self.run(Operation::List, prefix, 0, attempt).await?;
            let entries = stream::iter(entries.into_iter().map(Ok));
            Ok::<_, Error>(Some((entries, (page, next.map(Some)))))
        })
        .try_flatten()
        .boxed()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Between half of a delay and the whole: movers that failed together do not come back together.
fn jittered(delay: Duration) -> Duration {
    let mut random = [0; 1];
    // Without chance the whole delay is as good.
    let chance = getrandom(&mut random, GetRandomFlags::empty()).map_or(u8::MAX, |_| random[0]);
    delay / 2 + delay.mul_f64(f64::from(chance) / f64::from(u8::MAX) / 2.0)
}

/// A store that is tried again. Reads and whole writes are repeated; listings and the parts of
/// streams are repeated by the adapter, which alone knows where they can be taken up.
#[derive(Debug)]
pub(crate) struct Retrying<S> {
    inner: S,
    retries: Retries,
}

impl<S: Store> Retrying<S> {
    pub(crate) const fn new(inner: S, retries: Retries) -> Self {
        Self { inner, retries }
    }
}

#[async_trait]
impl<S: Store> Store for Retrying<S> {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn create(&self) -> Result<(), Error> {
        self.retries.run(Operation::Create, "", 0, || self.inner.create()).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        let bytes = range.as_ref().map_or(UNKNOWN, |range| range.end.saturating_sub(range.start));
        let get = || self.inner.get(key, range.clone());
        self.retries.run(Operation::Get, key, bytes, get).await
    }

    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        let put = || self.inner.put(key, content.clone());
        self.retries.run(Operation::Put, key, content.len() as u64, put).await
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    async fn put_new(&self, key: &str, content: Bytes) -> Result<bool, Error> {
        let put = || self.inner.put_new(key, content.clone());
        self.retries.run(Operation::Put, key, content.len() as u64, put).await
    }

    async fn put_stream(
        &self,
        key: &str,
        mut content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        let mut start: Vec<io::Result<Bytes>> = Vec::new();
        let mut length = 0;
        while length <= SMALL {
            let Some(chunk) = content.next().await else {
                return match start.into_iter().collect::<io::Result<Vec<Bytes>>>() {
                    Ok(chunks) => self.put(key, joined(&chunks, length)).await,
                    Err(error) => Err(Error::new(
                        Kind::Content,
                        Operation::Put,
                        self.location(),
                        key,
                        error.to_string(),
                    )),
                };
            };
            length += chunk.as_ref().map_or(0, Bytes::len);
            start.push(chunk);
        }
        let whole = stream::iter(start).chain(content).boxed();
        let put = self.inner.put_stream(key, whole).await;
        put.map_err(|error| error.map_reason(|reason| self.retries.secrets.redact(reason)))
    }

    async fn head(&self, key: &str) -> Result<Entry, Error> {
        self.retries.run(Operation::Head, key, 0, || self.inner.head(key)).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        let secrets = &self.retries.secrets;
        self.inner
            .list(prefix)
            .map(|found| found.map_err(|error| error.map_reason(|reason| secrets.redact(reason))))
            .boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.retries.run(Operation::Delete, key, 0, || self.inner.delete(key)).await
    }
}

fn joined(chunks: &[Bytes], length: usize) -> Bytes {
    match chunks {
        [only] => only.clone(),
        _ => {
            let mut whole = BytesMut::with_capacity(length);
            chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
            whole.freeze()
        }
    }
}

#[cfg(test)]
mod tests;
