//! The one place that waits: until a time, a mover, a changed manifest, or a signal.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::error::Error;
use crate::manifests;
use crate::supervise::Told;

/// How often the manifests are looked at.
const MANIFESTS_EVERY: Duration = Duration::from_secs(1);

/// Why the wait is over.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The time has come.
    Time,
    /// A mover said something or ended.
    Mover(Told),
    /// A manifest changed.
    Manifests,
    /// Somebody wants us to stop.
    Stop,
}

/// Everything that can end a wait.
#[derive(Debug)]
pub(crate) struct Clock {
    told: UnboundedReceiver<Told>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    watched: Vec<PathBuf>,
    seen: Vec<(PathBuf, Option<(std::time::SystemTime, u64)>)>,
}

impl Clock {
    /// Listens from now on; `watched` are the manifests to watch.
    pub(crate) fn new(told: UnboundedReceiver<Told>, watched: Vec<PathBuf>) -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind).map_err(|source| Error::System { action: "listen for signals", source })
        };
        let (terminate, interrupt) =
            (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let seen = manifests::fingerprint(&watched);
        let hangup = listen(SignalKind::hangup())?;
        Ok(Self { told, terminate, interrupt, hangup, watched, seen })
    }

    /// Waits, until `until` at the latest.
    pub(crate) async fn wait(&mut self, now: Timestamp, until: Option<Timestamp>) -> Wake {
        let left = until.map(|until| until.duration_since(now).unsigned_abs());
        let left = match (left, until) {
            (Some(_), Some(until)) if until <= now => Duration::ZERO,
            (Some(left), _) => left,
            (None, _) => Duration::from_secs(3600),
        };
        let deadline = tokio::time::Instant::now() + left;
        loop {
            let look = tokio::time::Instant::now() + MANIFESTS_EVERY;
            let next = if self.watched.is_empty() { deadline } else { deadline.min(look) };
            tokio::select! {
                biased;
                _ = self.terminate.recv() => return Wake::Stop,
                _ = self.interrupt.recv() => return Wake::Stop,
                _ = self.hangup.recv() => return Wake::Stop,
                Some(told) = self.told.recv() => return Wake::Mover(told),
                () = tokio::time::sleep_until(next) => {}
            }
            if self.manifests_changed() {
                return Wake::Manifests;
            }
            if next >= deadline {
                return Wake::Time;
            }
        }
    }

    fn manifests_changed(&mut self) -> bool {
        if self.watched.is_empty() {
            return false;
        }
        let seen = manifests::fingerprint(&self.watched);
        let changed = seen != self.seen;
        self.seen = seen;
        changed
    }
}
