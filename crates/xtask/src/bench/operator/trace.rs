//! `Trace`: when each step of one end's sync was seen, and which part of the time went where.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use volsync_contract::Direction;

use super::is_at_rest;
use super::watch::Seen;

/// A step of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// The API server has the new trigger.
    Accepted,
    SnapshotMade,
    SnapshotReady,
    /// The copy of the source has a volume.
    CopyBound,
    JobMade,
    Running,
    Terminated,
    /// The Job controller says that the Job is complete.
    JobComplete,
    /// `lastManualSync` is the new tag.
    Synced,
}

/// Where the time of one end's sync went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Parts {
    /// Ours: from the trigger to the mover's Job, without the waits for storage.
    pub(super) decision: Duration,
    /// Until a snapshot was ready and its copy had a volume.
    pub(super) storage: Duration,
    /// From the Job, and the volume, to the mover's running container.
    pub(super) pod_start: Duration,
    /// Until the container had ended.
    pub(super) transfer: Duration,
    /// From then until the Job controller called the Job complete, if nothing was done before.
    pub(super) job_controller: Duration,
    /// Ours: the rest until the status says so, without the wait for a snapshot.
    pub(super) record: Duration,
}

impl Parts {
    /// Our own share: the decision, and all that comes after the mover but the wait for a snapshot.
    pub(super) fn own(&self) -> Duration {
        self.decision + self.job_controller + self.record
    }
}

/// What was seen of one end of a sync.
#[derive(Debug)]
pub(super) struct Trace {
    kind: &'static str,
    /// The annotation of a mover's pod that names its replication.
    annotation: &'static str,
    name: String,
    tag: String,
    /// UIDs of what earlier syncs made.
    known: HashSet<String>,
    moments: BTreeMap<Moment, Instant>,
    failure: Option<String>,
    at_rest: bool,
}

impl Trace {
    /// Of a sync for the manual tag `tag` that has not begun.
    pub(super) fn new(direction: Direction, name: &str, tag: &str, known: HashSet<String>) -> Self {
        let (kind, annotation) = match direction {
            Direction::Source => ("ReplicationSource", "volsync.backube/replication-source"),
            Direction::Destination => {
                ("ReplicationDestination", "volsync.backube/replication-destination")
            }
        };
        Self {
            kind,
            annotation,
            name: name.to_owned(),
            tag: tag.to_owned(),
            known,
            moments: BTreeMap::new(),
            failure: None,
            at_rest: false,
        }
    }

    /// Takes notice of a change.
    pub(super) fn see(&mut self, seen: &Seen) {
        let (kind, name) = (seen.text("/kind"), seen.text("/metadata/name"));
        if kind == self.kind && name == self.name {
            self.see_replication(seen);
            return;
        }
        if self.known.contains(seen.text("/metadata/uid")) {
            return;
        }
        let owner = &seen.object["metadata"]["ownerReferences"][0];
        let owned = owner["kind"] == self.kind && owner["name"] == self.name.as_str();
        let for_us = seen.object["metadata"]["annotations"][self.annotation] == self.name.as_str();
        let status = &seen.object["status"];
        match kind {
            "Job" if owned => {
                self.first(Moment::JobMade, seen.at);
                let conditions = status["conditions"].as_array();
                if conditions.into_iter().flatten().any(|condition| {
                    condition["type"] == "Complete" && condition["status"] == "True"
                }) {
                    self.first(Moment::JobComplete, seen.at);
                }
            }
            "Pod" if for_us => {
                let state = &status["containerStatuses"][0]["state"];
                if !state["running"].is_null() || !state["terminated"].is_null() {
                    self.first(Moment::Running, seen.at);
                }
                if !state["terminated"].is_null() {
                    self.first(Moment::Terminated, seen.at);
                }
            }
            "VolumeSnapshot" if owned => {
                self.first(Moment::SnapshotMade, seen.at);
                if status["readyToUse"] == true {
                    self.first(Moment::SnapshotReady, seen.at);
                }
            }
            "PersistentVolumeClaim" if owned && status["phase"] == "Bound" => {
                self.first(Moment::CopyBound, seen.at);
            }
            _ => {}
        }
    }

    fn see_replication(&mut self, seen: &Seen) {
        if seen.text("/spec/trigger/manual") != self.tag {
            return;
        }
        self.first(Moment::Accepted, seen.at);
        let status = &seen.object["status"];
        let synced = status["lastManualSync"] == self.tag.as_str();
        if synced {
            self.first(Moment::Synced, seen.at);
        } else if status["latestMoverStatus"]["result"] == "Failed" {
            self.failure = Some(seen.text("/status/latestMoverStatus/logs").to_owned());
        }
        self.at_rest = synced && is_at_rest(&seen.object);
    }

    /// The first time counts.
    fn first(&mut self, moment: Moment, at: Instant) {
        self.moments.entry(moment).or_insert(at);
    }

    /// When the API server had the new trigger.
    pub(super) fn accepted(&self) -> Result<Instant> {
        self.at(Moment::Accepted)
    }

    /// When the status had the new tag.
    pub(super) fn synced(&self) -> Result<Instant> {
        self.at(Moment::Synced)
    }

    /// Whether the sync is over and what it left has been removed.
    pub(super) const fn is_at_rest(&self) -> bool {
        self.at_rest
    }

    /// Why a mover failed, if one did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn at(&self, moment: Moment) -> Result<Instant> {
        let seen = self.moments.get(&moment).copied();
        seen.with_context(|| format!("{} {}: {moment:?} was not seen", self.kind, self.name))
    }

    /// Where the time went.
    pub(super) fn parts(&self) -> Result<Parts> {
        let between = |from: Instant, to: Instant| to.saturating_duration_since(from);
        let (accepted, job) = (self.at(Moment::Accepted)?, self.at(Moment::JobMade)?);
        let (running, terminated) = (self.at(Moment::Running)?, self.at(Moment::Terminated)?);
        let synced = self.at(Moment::Synced)?;
        let (mut decision, mut storage) = (between(accepted, job), Duration::ZERO);
        let (mut record, mut next) = (between(terminated, synced), synced);
        if let Some(&made) = self.moments.get(&Moment::SnapshotMade) {
            let wait = between(made, self.at(Moment::SnapshotReady)?);
            storage += wait;
            // A source takes its snapshot before its mover, a destination after.
            if made < job {
                decision = decision.saturating_sub(wait);
            } else {
                record = record.saturating_sub(wait);
                next = made;
            }
        }
        let bound = self.moments.get(&Moment::CopyBound).copied().unwrap_or(job).max(job);
        storage += between(job, bound);
        let complete = self.moments.get(&Moment::JobComplete).copied();
        let complete = complete.filter(|complete| *complete < next).unwrap_or(terminated);
        let job_controller = between(terminated, complete);
        Ok(Parts {
            decision,
            storage,
            pod_start: between(bound, running),
            transfer: between(running, terminated),
            job_controller,
            record: record.saturating_sub(job_controller),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    struct Story {
        trace: Trace,
        start: Instant,
    }

    impl Story {
        fn of(direction: Direction) -> Self {
            let known = HashSet::from(["old".to_owned()]);
            let trace = Trace::new(direction, "photos", "two", known);
            Self { trace, start: Instant::now() }
        }

        fn at(&mut self, milliseconds: u64, kind: &str, metadata: Value, rest: Value) -> &mut Self {
            let mut object = rest;
            object["kind"] = json!(kind);
            object["metadata"] = metadata;
            let at = self.start + Duration::from_millis(milliseconds);
            self.trace.see(&Seen { at, object });
            self
        }

        fn status(&mut self, milliseconds: u64, status: Value) -> &mut Self {
            let rest = json!({"spec": {"trigger": {"manual": "two"}}, "status": status});
            self.at(milliseconds, self.trace.kind, json!({"name": "photos"}), rest)
        }

        fn owned(&mut self, milliseconds: u64, kind: &str, status: Value) -> &mut Self {
            let owners = json!([{"kind": self.trace.kind, "name": "photos"}]);
            let metadata = json!({"uid": "new", "ownerReferences": owners});
            self.at(milliseconds, kind, metadata, json!({"status": status}))
        }

        fn pod(&mut self, milliseconds: u64, state: &str) -> &mut Self {
            let metadata = json!({"annotations": {self.trace.annotation: "photos"}});
            let status = json!({"containerStatuses": [{"state": {state: {}}}]});
            self.at(milliseconds, "Pod", metadata, json!({"status": status}))
        }

        fn mover(&mut self, milliseconds: u64) -> &mut Self {
            let complete = json!({"conditions": [{"type": "Complete", "status": "True"}]});
            self.owned(milliseconds, "Job", json!({}))
                .pod(milliseconds + 1000, "running")
                .pod(milliseconds + 1300, "terminated")
                .owned(milliseconds + 2300, "Job", complete)
        }
    }

    fn milliseconds(parts: [u64; 6]) -> Parts {
        let [decision, storage, pod_start, transfer, job_controller, record] =
            parts.map(Duration::from_millis);
        Parts { decision, storage, pod_start, transfer, job_controller, record }
    }

    #[test]
    fn a_volume_used_as_it_is_has_no_wait_for_storage() {
        let mut story = Story::of(Direction::Source);
        story.status(0, json!({"lastManualSync": "one"})).mover(70);
        story.status(2450, json!({"lastManualSync": "two"}));
        let parts = story.trace.parts().unwrap();
        assert_eq!(parts, milliseconds([70, 0, 1000, 300, 1000, 80]));
        assert_eq!(parts.own(), Duration::from_millis(1150));
    }

    #[test]
    fn a_source_waits_for_its_snapshot_before_its_mover_and_for_its_copy_beside_it() {
        let mut story = Story::of(Direction::Source);
        story.status(0, json!({}));
        story.owned(50, "VolumeSnapshot", json!({}));
        story.owned(450, "VolumeSnapshot", json!({"readyToUse": true}));
        story.mover(500).owned(700, "PersistentVolumeClaim", json!({"phase": "Bound"}));
        story.status(2900, json!({"lastManualSync": "two"}));
        let parts = story.trace.parts().unwrap();
        assert_eq!(parts, milliseconds([100, 600, 800, 300, 1000, 100]));
    }

    #[test]
    fn a_destination_waits_for_its_snapshot_after_its_mover() {
        let mut story = Story::of(Direction::Destination);
        story.status(0, json!({})).mover(100);
        story.owned(2450, "VolumeSnapshot", json!({}));
        story.owned(2850, "VolumeSnapshot", json!({"readyToUse": true}));
        story.status(2900, json!({"lastManualSync": "two"}));
        let parts = story.trace.parts().unwrap();
        assert_eq!(parts, milliseconds([100, 400, 1000, 300, 1000, 100]));
    }

    #[test]
    fn a_job_that_is_complete_after_the_record_was_not_waited_for() {
        let mut story = Story::of(Direction::Source);
        story.status(0, json!({})).mover(70).status(1450, json!({"lastManualSync": "two"}));
        let parts = story.trace.parts().unwrap();
        assert_eq!(parts, milliseconds([70, 0, 1000, 300, 0, 80]));
    }

    #[test]
    fn what_earlier_syncs_made_and_what_is_somebody_elses_does_not_count() {
        let mut story = Story::of(Direction::Source);
        let ours = json!([{"kind": "ReplicationSource", "name": "photos"}]);
        let other = json!([{"kind": "ReplicationDestination", "name": "photos"}]);
        story.at(0, "Job", json!({"uid": "old", "ownerReferences": ours}), json!({}));
        story.at(0, "Job", json!({"uid": "new", "ownerReferences": other}), json!({}));
        assert!(story.trace.moments.is_empty());
        let error = story.trace.parts().unwrap_err().to_string();
        assert_eq!(error, "ReplicationSource photos: Accepted was not seen");
    }

    #[test]
    fn it_is_over_once_what_the_sync_left_is_gone() {
        let mut story = Story::of(Direction::Source);
        let says = |reason| json!({"lastManualSync": "two", "conditions": [{"reason": reason}]});
        story.status(0, says("CleaningUp"));
        assert!(!story.trace.is_at_rest() && story.trace.synced().is_ok());
        story.status(0, says("WaitingForManual"));
        assert!(story.trace.is_at_rest());
    }
}
