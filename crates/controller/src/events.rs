//! Kubernetes events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use volsync_api::events::REPORTING_CONTROLLER;
use volsync_replication::{EventKind, Happening};

/// Within this time the same said again is counted on the event that said it first, as Kubernetes' own
/// recorders do.
const SERIES: SignedDuration = SignedDuration::from_mins(6);

/// Publishes events.
///
/// As `kube`'s recorder, but what is said differently for the same reason is an event of its own: a
/// reader of the first words would not learn what is wrong now.
#[derive(Clone)]
pub(crate) struct Events {
    client: Client,
    latest: Arc<Mutex<HashMap<Said, Event>>>,
}

/// What makes two events the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Said {
    uid: String,
    reason: &'static str,
    action: &'static str,
    note: String,
    related: Option<String>,
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
            | Happening::NothingRestored { .. }
            | Happening::RepositoryDamaged { .. }
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
        Self { client, latest: Arc::default() }
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
        let said = Said {
            uid: reference.uid.clone().unwrap_or_default(),
            reason,
            action,
            note: message,
            related: related.as_ref().and_then(|related| related.uid.clone()),
        };
        let now = Timestamp::now();
        let event = self.again(&said, now).unwrap_or_else(|| Event {
            type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(action.to_owned()),
            note: Some(said.note.clone()),
            event_time: Some(MicroTime(now)),
            metadata: ObjectMeta {
                namespace: Some(namespace.clone()),
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            regarding: Some(reference),
            related,
            reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
            reporting_instance: Some(REPORTING_CONTROLLER.to_owned()),
            ..Event::default()
        });
        match self.write(&event).await {
            Ok(()) => {
                self.latest().insert(said, event);
            }
            Err(error) => {
                self.latest().remove(&said);
                tracing::warn!(%namespace, %name, reason, %error, "cannot publish an event");
            }
        }
    }

    /// The event that said the same a short while ago, with one more of it.
    fn again(&self, said: &Said, now: Timestamp) -> Option<Event> {
        let mut latest = self.latest();
        latest.retain(|_, event| {
            let series = event.series.as_ref().map(|series| &series.last_observed_time);
            let last = series.or(event.event_time.as_ref());
            last.is_some_and(|last| now.duration_since(last.0) < SERIES)
        });
        let mut event = latest.get(said)?.clone();
        let count = event.series.map_or(1, |series| series.count) + 1;
        event.series = Some(EventSeries { count, last_observed_time: MicroTime(now) });
        Some(event)
    }

    async fn write(&self, event: &Event) -> kube::Result<()> {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match &event.series {
            None => events.create(&PostParams::default(), event).await?,
            Some(_) => {
                let patch = Patch::Merge(event);
                events.patch(&event.name_any(), &PatchParams::default(), &patch).await?
            }
        };
        Ok(())
    }

    fn latest(&self) -> MutexGuard<'_, HashMap<Said, Event>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde_json::json;

    use super::*;
    use crate::fixtures::{Cluster, NAMESPACE, claim};

    fn photos() -> PersistentVolumeClaim {
        serde_json::from_value(claim("photos", "fast")).unwrap()
    }

    #[tokio::test]
    async fn the_same_is_counted_and_what_is_said_otherwise_is_an_event_of_its_own() {
        let cluster = Cluster::with([]);
        let events = Events::new(cluster.context.client.clone());
        let about = photos();
        let say = |message: &str| Notice {
            warning: true,
            reason: "MoverFailed",
            action: "Wait",
            message: message.to_owned(),
            related: None,
        };
        events.publish(&about, say("no route")).await;
        events.publish(&about, say("no route")).await;
        events.publish(&about, say("wrong key")).await;
        events.publish(&about, say("no route")).await;
        let told: Vec<_> = cluster
            .server
            .objects("events")
            .iter()
            .map(|event| (event["note"].clone(), event["series"]["count"].clone()))
            .collect();
        assert!(told.contains(&(json!("no route"), json!(3))), "{told:?}");
        assert!(told.contains(&(json!("wrong key"), json!(null))), "{told:?}");
        assert_eq!(told.len(), 2, "{told:?}");
        let event = &cluster.server.objects("events")[0];
        assert_eq!(event["metadata"]["namespace"], NAMESPACE);
        assert_eq!(event["type"], "Warning");
    }

    #[tokio::test]
    async fn long_ago_is_not_the_same_series() {
        let cluster = Cluster::with([]);
        let events = Events::new(cluster.context.client.clone());
        let notice = Notice::normal("Started", "Start", "it starts".to_owned(), None);
        events.publish(&photos(), notice).await;
        let said = events.latest().keys().next().unwrap().clone();
        let now = Timestamp::now();
        assert!(events.again(&said, now + SignedDuration::from_mins(5)).is_some());
        assert!(events.again(&said, now + SignedDuration::from_mins(7)).is_none());
        assert!(events.latest().is_empty());
    }
}
