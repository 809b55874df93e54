//! SIGTERM and SIGINT become a value that is handed down; a second signal ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use volsync_contract::ExitStatus;

/// Whether the mover has been asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    requested: AtomicBool,
    notify: Notify,
}

impl Shutdown {
    /// Listens for signals from now on. Call within a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::default();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let requested = shutdown.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if first {
                    requested.request();
                } else {
                    abort();
                }
            }
        });
        Ok(shutdown)
    }

    /// Asks for a stop.
    pub fn request(&self) {
        self.inner.requested.store(true, Ordering::SeqCst);
        self.inner.notify.notify_waiters();
    }

    /// Whether a stop has been asked for.
    pub fn is_requested(&self) -> bool {
        self.inner.requested.load(Ordering::SeqCst)
    }

    /// Waits until a stop is asked for.
    pub async fn requested(&self) {
        let notified = self.inner.notify.notified();
        if !self.is_requested() {
            notified.await;
        }
    }
}

#[allow(
    clippy::exit,
    reason = "a second signal means now; unfinished files are kept for the next sync"
)]
fn abort() {
    std::process::exit(i32::from(ExitStatus::Transient.code()));
}
