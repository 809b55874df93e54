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
    until: Arc<Mutex<Option<Instant>>>,
}

/// Why a request was not sent.
#[derive(Debug, thiserror::Error)]
#[error("this replica's Lease has run out: nothing is written")]
pub(crate) struct Fenced;

impl Fence {
    /// The Lease was asked for at `asked`, and is ours for so long after that.
    pub(super) fn open(&self, asked: Instant, duration: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked + duration);
    }

    fn is_closed(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() >= until)
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
