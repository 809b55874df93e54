//! What is tried again, how often and how long.

use super::*;
use crate::Memory;
use std::collections::VecDeque;
use std::sync::Mutex;

/// A store whose reads and writes fail as told, then pass.
#[derive(Debug, Default)]
struct Failing {
    inner: Memory,
    failures: Mutex<VecDeque<Kind>>,
    silent: bool,
}

impl Failing {
    async fn next(&self, operation: Operation, key: &str) -> Result<(), Error> {
        if self.silent {
            std::future::pending::<()>().await;
        }
        let failure = self.failures.lock().unwrap().pop_front();
        let failed = |kind| Err(Error::new(kind, operation, "here", key, "hunter22 is wrong"));
        failure.map_or(Ok(()), failed)
    }
}

#[async_trait]
impl Store for Failing {
    fn location(&self) -> &str {
        "here"
    }
    async fn create(&self) -> Result<(), Error> {
        Ok(())
    }
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, Error> {
        self.next(Operation::Get, key).await?;
        self.inner.get(key, range).await
    }
    async fn put(&self, key: &str, content: Bytes) -> Result<(), Error> {
        // What arrived before the answer was lost.
        self.inner.put(key, content).await?;
        self.next(Operation::Put, key).await
    }
    async fn put_stream(
        &self,
        key: &str,
        content: BoxStream<'_, io::Result<Bytes>>,
    ) -> Result<(), Error> {
        self.next(Operation::Put, key).await?;
        self.inner.put_stream(key, content).await
    }
    async fn head(&self, key: &str) -> Result<Entry, Error> {
        self.inner.head(key).await
    }
    fn list<'a>(&'a self, prefix: &'a str) -> Listing<'a> {
        self.inner.list(prefix)
    }
    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.inner.delete(key).await
    }
}

fn failing(failures: &[Kind]) -> Retrying<Failing> {
    let secrets = Settings::new([("B2_ACCOUNT_KEY".to_owned(), "hunter22".to_owned())]);
    let store =
        Failing { failures: Mutex::new(failures.iter().copied().collect()), ..Failing::default() };
    Retrying::new(store, Retries::new(Patience::default(), "here".to_owned(), secrets))
}

const BODY: Bytes = Bytes::from_static(b"content");

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_until_it_does() {
    let store = failing(&[Kind::Unreachable, Kind::Throttled, Kind::Failing]);
    store.put("a", BODY).await.unwrap();
    assert_eq!(store.get("a", None).await.unwrap(), BODY);
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_said_at_once_and_without_secrets() {
    for kind in [Kind::Forbidden, Kind::NotFound, Kind::NoBucket, Kind::Full, Kind::Untrusted] {
        let store = failing(&[kind, Kind::Failing]);
        let started = Instant::now();
        let error = store.put("a", BODY).await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (kind, "*** is wrong"));
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answered_is_given_up_sooner_than_one_that_has() {
    let store = failing(&[Kind::Unreachable; 1000]);
    let started = Instant::now();
    let error = store.get("a", None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.reason().contains("times in"), "{error}");
    assert!(started.elapsed() <= Patience::default().unanswered, "{:?}", started.elapsed());

    let store = failing(&[Kind::NotFound]);
    store.get("a", None).await.unwrap_err();
    store.inner.failures.lock().unwrap().extend([Kind::Unreachable; 1000]);
    let started = Instant::now();
    store.get("a", None).await.unwrap_err();
    let taken = started.elapsed();
    assert!(taken > Duration::from_secs(600) && taken <= Patience::default().answered, "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_an_error_in_bounded_time() {
    let store = Retrying::new(
        Failing { silent: true, ..Failing::default() },
        Retries::new(Patience::default(), "here".to_owned(), Settings::default()),
    );
    let started = Instant::now();
    let error = store.get("a", Some(0..10)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unreachable);
    assert!(error.reason().starts_with("no answer within 60.0 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(100));
}

#[tokio::test(start_paused = true)]
async fn a_small_stream_is_written_again_and_a_large_one_is_not() {
    let store = failing(&[Kind::Unreachable]);
    let small = || stream::iter([Ok(BODY), Ok(BODY)]).boxed();
    store.put_stream("a", small()).await.unwrap();
    assert_eq!(store.get("a", None).await.unwrap(), "contentcontent");
    store.inner.failures.lock().unwrap().push_back(Kind::Unreachable);
    let large = stream::iter((0..10).map(|_| Ok(Bytes::from(vec![0; 1 << 20])))).boxed();
    assert_eq!(store.put_stream("b", large).await.unwrap_err().kind(), Kind::Unreachable);
    let broken = stream::iter([Ok(BODY), Err(io::Error::other("gone"))]).boxed();
    assert_eq!(store.put_stream("c", broken).await.unwrap_err().kind(), Kind::Content);
    assert_eq!(store.head("c").await.unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn waits_differ_and_stay_between_half_and_the_whole() {
    let delay = Duration::from_secs(8);
    let waits: Vec<Duration> = (0..50).map(|_| jittered(delay)).collect();
    assert!(waits.iter().all(|wait| (delay / 2..=delay).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]));
}
