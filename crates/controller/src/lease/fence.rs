//! `Fence`: a process whose Lease has run out writes nothing any more.
//!
//! Who is frozen for longer than its Lease goes on where it stood when it wakes, and would carry out
//! what it had decided for a sync that its successor has long finished. So every request that is more
//! than a look passes here, by the clock and not by what was last heard.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::TryFutureExt as _;
use futures::future::{Either, ErrInto, Ready, ready};
use hyper::{Method, Request};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Until when this process may write; always, unless it is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fence {
    until: Arc<Mutex<Option<Moment>>>,
}

/// A moment by two clocks: the first stands still while the machine sleeps, the second does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    awake: Instant,
    with_sleep: Duration,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { awake: Instant::now(), with_sleep: with_sleep() }
    }

    fn after(self, duration: Duration) -> Self {
        Self { awake: self.awake + duration, with_sleep: self.with_sleep + duration }
    }

    fn has_come(self) -> bool {
        let now = Self::now();
        now.awake >= self.awake || now.with_sleep >= self.with_sleep
    }
}

fn with_sleep() -> Duration {
    let since_boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is ever below 0.
    Duration::new(since_boot.tv_sec.unsigned_abs(), since_boot.tv_nsec.unsigned_abs() as u32)
}

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
#[error("this replica's Lease has run out: nothing is written")]
pub(crate) struct Fenced;

impl Fence {
    /// The Lease was asked for at `asked`, and is ours for so long after that.
    pub(super) fn open(&self, asked: Moment, duration: Duration) {
        let until = asked.after(duration);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Somebody else has the Lease.
    pub(super) fn close(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Moment::now());
    }

    fn is_closed(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(Moment::has_come)
    }
}

impl<S> Layer<S> for Fence {
    type Service = Behind<S>;

    fn layer(&self, service: S) -> Behind<S> {
        Behind { service, fence: self.clone() }
    }
}

/// A service that a [`Fence`] stands in front of.
#[derive(Debug, Clone)]
pub(crate) struct Behind<S> {
    service: S,
    fence: Fence,
}

impl<S, B> Service<Request<B>> for Behind<S>
where
    S: Service<Request<B>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Either<ErrInto<S::Future, BoxError>, Ready<Result<S::Response, BoxError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.method() != Method::GET && self.fence.is_closed() {
            return Either::Right(ready(Err(Fenced.into())));
        }
        Either::Left(self.service.call(request).err_into())
    }
}
