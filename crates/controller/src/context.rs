//! `Context`: what every reconciliation is given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use kube::{Api, Client};

use crate::apply::Object;
use crate::error::Error;
use crate::events::Events;
use crate::metrics::Metrics;

/// What the process was asked to be, apart from how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Zone of schedules that name none.
    pub(crate) zone: TimeZone,
    /// The image of the rsync mover.
    pub(crate) rsync_image: String,
    /// The image of the restic mover.
    pub(crate) restic_image: String,
    /// Variables that tell movers of stores by which proxies they are reached.
    pub(crate) proxies: Vec<(String, String)>,
    /// The SecurityContextConstraints privileged movers use on OpenShift.
    pub(crate) scc_name: String,
    /// How much of what a mover said is kept; `None`: all of it.
    pub(crate) mover_log_bytes: Option<usize>,
    /// The operator's own namespace.
    pub(crate) namespace: String,
    /// Secrets in that namespace that the movers' images are pulled with.
    pub(crate) pull_secrets: Vec<String>,
}

/// What every reconciliation is given.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    /// How often each object's reconciliation broke off, and when last.
    failures: Mutex<HashMap<String, (u32, Instant)>>,
    /// What was said, and when it was asked for last.
    said: Mutex<HashMap<String, Instant>>,
    /// What was refused to which object, in which words, since when.
    refusals: Mutex<HashMap<(String, String), (String, Instant)>>,
}

/// The wait after a reconciliation that broke off, doubled each time up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(120);
/// What is not asked for again for so long is of an object that is gone.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);
/// How long a refusal stands in its first words.
const STANDS: Duration = Duration::from_secs(60);

impl Context {
    pub(crate) fn new(client: Client, settings: Settings) -> Self {
        let events = Events::new(client.clone());
        Self {
            client,
            settings,
            events,
            metrics: Arc::default(),
            failures: Mutex::default(),
            said: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    /// Objects of one namespace.
    pub(crate) fn api<T: Object>(&self, namespace: &str) -> Api<T> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// How long to wait after the reconciliation of this object broke off once more.
    pub(crate) fn back_off(&self, key: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        failures.retain(|_, (_, last)| last.elapsed() < FORGOTTEN);
        let (failed, last) = failures.entry(key.to_owned()).or_insert_with(|| (0, Instant::now()));
        let wait = FIRST.saturating_mul(1 << (*failed).min(16)).min(LONGEST);
        *failed = failed.saturating_add(1);
        *last = Instant::now();
        wait
    }

    /// The reconciliation of this object went well.
    pub(crate) fn went_well(&self, key: &str) {
        self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(key);
    }

    /// Whether this was not asked before: what is so for as long as the process runs is said once.
    pub(crate) fn first(&self, what: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        said.retain(|_, asked| asked.elapsed() < FORGOTTEN);
        said.insert(what.to_owned(), Instant::now()).is_none()
    }

    /// What a refusal to this object is told as. An admission webhook may put the time or a number
    /// into its words: told anew each time, each would be a change that is looked at, at once.
    pub(crate) fn refusal(&self, key: &str, error: &Error) -> String {
        let mut refusals = self.refusals.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        refusals.retain(|_, (_, since)| since.elapsed() < STANDS);
        let asked = (key.to_owned(), error.action().to_owned());
        let told = refusals.entry(asked).or_insert_with(|| (error.to_string(), Instant::now()));
        told.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Cluster;

    #[tokio::test]
    async fn what_is_gone_for_long_is_forgotten() {
        let context = Cluster::with([]).context;
        let long_ago = Instant::now().checked_sub(FORGOTTEN).unwrap();
        context.back_off("gone");
        context.failures.lock().unwrap().entry("gone".to_owned()).and_modify(|it| it.1 = long_ago);
        assert!(context.first("gone"));
        context.said.lock().unwrap().insert("gone".to_owned(), long_ago);
        context.back_off("here");
        assert!(context.first("here"));
        assert!(!context.first("here"));
        assert_eq!(context.failures.lock().unwrap().keys().collect::<Vec<_>>(), ["here"]);
        assert_eq!(context.said.lock().unwrap().keys().collect::<Vec<_>>(), ["here"]);
    }
}
