//! Kubernetes events.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use volsync_api::events::REPORTING_CONTROLLER;
use volsync_replication::{EventKind, Happening};

/// Publishes events.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    /// Never empty: the API server refuses events without one.
    pub(crate) action: &'static str,
    pub(crate) message: String,
    /// The other object it is about.
    pub(crate) related: Option<ObjectReference>,
}

impl Notice {
    /// Nothing to worry about.
    pub(crate) fn normal(
        reason: &'static str,
        action: &'static str,
        message: String,
        related: Option<ObjectReference>,
    ) -> Self {
        Self { warning: false, reason, action, message, related }
    }

    /// What the state machine says happened. `None`: another event says it.
    pub(crate) fn of(happening: &Happening, blocked_reason: Option<&'static str>) -> Option<Self> {
        let reason = match happening {
            // Told when the Job is there.
            Happening::SyncStarted { .. } => return None,
            Happening::Blocked { .. } => blocked_reason.unwrap_or_else(|| happening.reason()),
            Happening::SyncCompleted { .. }
            | Happening::SyncIncomplete { .. }
            | Happening::MoverFailed { .. }
            | Happening::IntervalMissed { .. } => happening.reason(),
        };
        Some(Self {
            warning: happening.kind() == EventKind::Warning,
            reason,
            action: happening.action(),
            message: happening.to_string(),
            related: None,
        })
    }
}

impl Events {
    pub(crate) fn new(client: Client) -> Self {
        let reporter = Reporter { controller: REPORTING_CONTROLLER.to_owned(), instance: None };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes an event about an object. The same is in its status or in a log line too, so a sync
    /// does not fail for an event that cannot be published.
    pub(crate) async fn publish<T: Resource<DynamicType = ()>>(&self, about: &T, notice: Notice) {
        let reference = about.object_ref(&());
        let name = reference.name.clone().unwrap_or_default();
        let namespace = reference.namespace.clone().unwrap_or_default();
        let Notice { warning, reason, action, mut message, related } = notice;
        if warning {
            tracing::warn!(%namespace, %name, reason, "{message}");
        } else {
            tracing::info!(%namespace, %name, reason, "{message}");
        }
        // A note has at most 1 kB.
        let cut = (0..=1000.min(message.len())).rev().find(|&at| message.is_char_boundary(at));
        message.truncate(cut.unwrap_or(0));
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(message),
            action: action.to_owned(),
            secondary: related,
        };
        if let Err(error) = self.recorder.publish(&event, &reference).await {
            tracing::warn!(%namespace, %name, reason, %error, "cannot publish an event");
        }
    }
}
