//! Events for the shell, one JSON object a line on standard output.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use volsync_contract::Event;

use crate::monitor::Monitor;

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Where events go: standard output, or nowhere.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    wanted: bool,
}

impl Events {
    pub(crate) const fn new(wanted: bool) -> Self {
        Self { wanted }
    }

    /// Writes one. A shell that no longer reads does not stop the sync.
    pub fn send(&self, event: &Event) {
        if !self.wanted {
            return;
        }
        match serde_json::to_string(event) {
            Ok(line) => {
                let mut out = std::io::stdout().lock();
                if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
                    tracing::debug!(%error, "an event was not read");
                }
            }
            Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
        }
    }

    /// Writes the monitor's progress now and then, until dropped by the runtime.
    pub(crate) async fn progress(self, monitor: Arc<Monitor>) {
        if !self.wanted {
            return;
        }
        let mut last = None;
        loop {
            tokio::time::sleep(PROGRESS_EVERY).await;
            let progress = monitor.progress();
            if last != Some(progress) {
                self.send(&Event::Progress(progress));
                last = Some(progress);
            }
        }
    }
}
