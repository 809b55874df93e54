//! `Context`: what every reconciliation is given.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;
use kube::{Api, Client};

use crate::apply::Object;
use crate::events::Events;
use crate::metrics::Metrics;

/// What the process was asked to be, apart from how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Zone of schedules that name none.
    pub(crate) zone: TimeZone,
    /// The image of the rsync mover.
    pub(crate) rsync_image: String,
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
    failures: Mutex<HashMap<String, u32>>,
    said: Mutex<HashSet<String>>,
}

/// The wait after a reconciliation that broke off, doubled each time up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(120);

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
        }
    }

    /// Objects of one namespace.
    pub(crate) fn api<T: Object>(&self, namespace: &str) -> Api<T> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// How long to wait after the reconciliation of this object broke off once more.
    pub(crate) fn back_off(&self, key: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let failed = failures.entry(key.to_owned()).or_default();
        let wait = FIRST.saturating_mul(1 << (*failed).min(16)).min(LONGEST);
        *failed += 1;
        wait
    }

    /// The reconciliation of this object went well.
    pub(crate) fn went_well(&self, key: &str) {
        self.failures.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(key);
    }

    /// Whether this was not asked before: what is so for as long as the process runs is said once.
    pub(crate) fn first(&self, what: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        said.insert(what.to_owned())
    }
}
