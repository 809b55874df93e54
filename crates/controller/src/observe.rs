//! Job and pods → what became of the mover.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt;
use volsync_contract::{Outcome, Report, Retry};
use volsync_replication::MoverState;

use crate::build::job::{FINGERPRINT, REPORT, attempt_of, run_of};

/// A pod that waits is only said to be stuck after this many seconds: volumes take their time.
pub(crate) const POD_PATIENCE: i64 = 15;

/// What is there of a mover.
#[derive(Debug, Clone, Default)]
pub(crate) struct MoverObjects {
    /// Its Job, unless that is being deleted.
    pub(crate) job: Option<Job>,
    /// The pods of that Job.
    pub(crate) pods: Vec<Pod>,
    /// Pods that have not ended though their Job has, or is gone.
    pub(crate) earlier: Vec<Pod>,
    /// Why the Job controller cannot make a pod, from its events.
    pub(crate) no_pod: Option<String>,
}

impl MoverObjects {
    /// Sorts the pods by the Job that made them.
    pub(crate) fn new(job: Option<Job>, pods: Vec<Pod>) -> Self {
        let uid = job.as_ref().and_then(ResourceExt::uid);
        let (pods, mut others): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(|pod| {
            uid.is_some()
                && pod.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref())
        });
        // Before Kubernetes 1.31 a Job fails as soon as its pod is to end, which may take long.
        if job.as_ref().is_some_and(|job| condition(job, "Failed").is_some()) {
            others.extend(pods.iter().cloned());
        }
        let earlier = others.into_iter().filter(|pod| !has_ended(pod)).collect();
        Self { job, pods, earlier, no_pod: None }
    }

    /// Which pod of an earlier Job does not end, if that will not pass by itself.
    pub(crate) fn lingering(&self, now: Timestamp) -> Option<String> {
        let pod = self.earlier.first()?;
        let end = pod.metadata.deletion_timestamp.as_ref()?;
        if now.duration_since(end.0).as_secs() < POD_PATIENCE {
            return None;
        }
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        Some(format!(
            "Pod/{} of an earlier mover does not end; see whether node {} is ready, and delete the pod by force only if nothing runs there any more",
            pod.name_any(),
            node.unwrap_or("(none)")
        ))
    }

    /// Whether a container of the mover was ever started.
    pub(crate) fn has_started(&self) -> bool {
        self.pods.iter().any(|pod| {
            let state = container(pod).and_then(|container| container.state.as_ref());
            has_ended(pod)
                || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        })
    }

    /// Whether the mover is another release's and has not ended.
    ///
    /// It is not waited for, as it may wait itself, for a peer that speaks as it does. Upstream starts
    /// its movers anew with every release as well; what they have written stays.
    pub(crate) fn is_foreign(&self) -> bool {
        let Some(job) = &self.job else { return false };
        let succeeded = self.pods.iter().any(|pod| phase(pod) == Some("Succeeded"));
        run_of(job).fingerprint.is_none()
            && !succeeded
            && condition(job, "Complete").or_else(|| condition(job, "Failed")).is_none()
    }

    /// What became of the mover.
    pub(crate) fn state(&self, now: Timestamp) -> MoverState {
        let Some(job) = &self.job else { return MoverState::NotStarted };
        let mut run = run_of(job);
        if let Some(ended) = condition(job, "Complete") {
            let foreign = run.fingerprint.is_none();
            return match self.report() {
                Some(report) if report.outcome == Outcome::Complete => {
                    MoverState::Succeeded { run, report, ended }
                }
                // A Job of a release without reports: its exit code is its word.
                None if foreign => {
                    MoverState::Succeeded { run, report: Report::new(Outcome::Complete), ended }
                }
                report => MoverState::Failed {
                    run,
                    attempts: attempt_of(job),
                    message: match report {
                        Some(_) => String::new(),
                        None => "the mover's pod was removed before its report was read".to_owned(),
                    },
                    report,
                    ended,
                },
            };
        }
        if let Some(ended) = condition(job, "Failed") {
            return MoverState::Failed {
                run,
                attempts: attempt_of(job),
                report: self.report(),
                message: self.failure(job),
                ended,
            };
        }
        if let Some((report, ended)) = self.success() {
            return MoverState::Succeeded { run, report, ended };
        }
        let started = self.has_started();
        if started {
            // What runs is never stopped for a changed manifest: it does not say what it was told.
            run.fingerprint = None;
        }
        let stalled = if started { None } else { self.stalled(job, now) };
        MoverState::Running { run, stalled }
    }

    fn terminated(&self) -> Option<&ContainerStateTerminated> {
        let newest = self.pods.iter().max_by_key(|pod| pod.creation_timestamp().map(|made| made.0));
        container(newest?)?.state.as_ref()?.terminated.as_ref()
    }

    /// The report of a mover that has ended well, and when it did. The Job controller says so a second
    /// later, as it looks at the pods of a Job once a second at most; never, if another container was
    /// injected into the pod that does not end.
    fn success(&self) -> Option<(Report, Timestamp)> {
        let terminated = self.terminated()?;
        let report = self.report().filter(|report| report.outcome == Outcome::Complete)?;
        let ended = terminated.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        (terminated.exit_code == 0).then_some((report, ended))
    }

    /// The report the mover left, if it is one; that of a pod that is gone is kept on its Job.
    fn report(&self) -> Option<Report> {
        let kept = self.job.as_ref().and_then(|job| job.annotations().get(REPORT));
        let left = || self.terminated()?.message.as_ref();
        Report::from_json(kept.or_else(left)?.trim()).ok()
    }

    /// What is to be kept on the Job of a mover that ended as `state` says; `None`: it is kept, or the
    /// mover has not ended.
    pub(crate) fn to_keep(&self, state: &MoverState) -> Option<Report> {
        if self.job.as_ref()?.annotations().contains_key(REPORT) {
            return None;
        }
        match state {
            MoverState::NotStarted | MoverState::Running { .. } => None,
            MoverState::Succeeded { report, .. } => Some(report.clone()),
            MoverState::Failed { report: Some(report), .. }
                if report.outcome != Outcome::Complete =>
            {
                Some(report.clone())
            }
            MoverState::Failed { message, .. } => {
                Some(Report::failed(Retry::Transient, message.as_str(), ""))
            }
        }
    }

    /// What is known of a failure without a report.
    fn failure(&self, job: &Job) -> String {
        if let Some(terminated) = self.terminated() {
            let how = match (terminated.reason.as_deref(), terminated.exit_code) {
                (Some("OOMKilled"), _) => "the mover was killed for using more memory than it may; raise moverResources.limits.memory".to_owned(),
                (_, code) if code > 128 => format!("the mover was killed by signal {}", code - 128),
                (_, code) => format!("the mover ended with exit code {code}"),
            };
            return match terminated.message.as_deref().map(str::trim) {
                Some(said) if !said.is_empty() => format!("{how}: {said}"),
                Some(_) | None => how,
            };
        }
        let pod = self.pods.iter().rev().filter_map(|pod| pod.status.as_ref());
        let mut told =
            pod.filter_map(|status| Some((status.reason.clone()?, status.message.clone())));
        if let Some((reason, message)) = told.next() {
            return format!("the mover's pod failed: {reason}: {}", message.unwrap_or_default());
        }
        let conditions =
            job.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        let failed = conditions.into_iter().find(|condition| condition.type_ == "Failed");
        let message = failed.and_then(|condition| condition.message.clone());
        format!("the mover's Job failed: {}", message.unwrap_or_default())
    }

    /// Why the mover has not begun, if that will not pass by itself.
    fn stalled(&self, job: &Job, now: Timestamp) -> Option<String> {
        let name = job.name_any();
        let Some(pod) = self.pods.first() else {
            return self
                .no_pod
                .as_ref()
                .map(|why| format!("Job/{name} cannot make its pod: {why}"));
        };
        let pod_name = pod.name_any();
        if let Some(waiting) =
            container(pod).and_then(|container| container.state.as_ref()?.waiting.as_ref())
        {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            if WAITING_FOR_GOOD.contains(&reason) {
                let message = waiting.message.as_deref().unwrap_or_default();
                return Some(format!("Pod/{pod_name} does not start: {reason}: {message}"));
            }
        }
        let age = pod.creation_timestamp().map_or(0, |made| now.duration_since(made.0).as_secs());
        if age < POD_PATIENCE {
            return None;
        }
        let conditions =
            pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        let unscheduled = conditions
            .into_iter()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
        Some(format!(
            "Pod/{pod_name} cannot be scheduled: {}",
            unscheduled.message.as_deref().unwrap_or("no reason is known yet")
        ))
    }
}

/// Why a container waits, when waiting alone will not help.
const WAITING_FOR_GOOD: [&str; 6] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// The mover's container, whatever else was injected into its pod.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let name = &pod.spec.as_ref()?.containers.first()?.name;
    pod.status.as_ref()?.container_statuses.as_ref()?.iter().find(|status| status.name == *name)
}

/// Whether nothing of the pod runs any more.
pub(crate) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

/// When this condition of a Job came true.
fn condition(job: &Job, type_: &str) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == "True")?;
    Some(condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// Whether a Job was made for another plan than the one with this fingerprint.
pub(crate) fn is_outdated(job: &Job, fingerprint: u32) -> bool {
    let kept = job.annotations().get(FINGERPRINT);
    kept.is_some_and(|kept| *kept != fingerprint.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A Job and its only pod as another release left them.
    fn left(job_status: Value, pod_status: Value) -> MoverObjects {
        let job = json!({
            "metadata": {"name": "volsync-rsync-dst-mirror", "uid": "job"},
            "spec": {"backoffLimit": 2, "template": {}},
            "status": job_status,
        });
        let pod = json!({
            "metadata": {
                "name": "volsync-rsync-dst-mirror-abcde",
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": "job"}],
            },
            "spec": {"containers": [{"name": "rsync"}]},
            "status": pod_status,
        });
        let pods = vec![serde_json::from_value(pod).unwrap()];
        MoverObjects::new(Some(serde_json::from_value(job).unwrap()), pods)
    }

    fn now() -> Timestamp {
        "2024-05-06T07:08:09Z".parse().unwrap()
    }

    fn ended(type_: &str) -> Value {
        json!({"conditions": [{"type": type_, "status": "True", "lastTransitionTime": "2024-05-06T07:00:00Z"}]})
    }

    #[test]
    fn a_mover_of_another_release_that_listens_is_replaced() {
        let running = json!({"phase": "Running", "containerStatuses": [
            {"name": "rsync", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
        ]});
        let listens = left(json!({"active": 1}), running);
        assert!(listens.has_started() && listens.is_foreign());
        assert!(matches!(listens.state(now()), MoverState::Running { stalled: None, .. }));
    }

    #[test]
    fn what_a_mover_of_another_release_has_done_counts() {
        let succeeded = left(ended("Complete"), json!({"phase": "Succeeded"}));
        assert!(!succeeded.is_foreign());
        assert!(matches!(succeeded.state(now()), MoverState::Succeeded { .. }));
        // Its Job is about to say so.
        assert!(!left(json!({"active": 0}), json!({"phase": "Succeeded"})).is_foreign());
    }

    #[test]
    fn a_mover_of_another_release_that_failed_gets_another_attempt_of_ours() {
        let failed = left(ended("Failed"), json!({"phase": "Failed"}));
        assert!(!failed.is_foreign());
        assert!(matches!(failed.state(now()), MoverState::Failed { attempts: 1, .. }));
    }

    #[test]
    fn a_pod_that_cannot_start_says_why() {
        let stalled = |pod_status: Value| match left(json!({"active": 1}), pod_status).state(now())
        {
            MoverState::Running { stalled, .. } => stalled.unwrap_or_default(),
            other => panic!("{other:?}"),
        };
        let waiting = |reason: &str| {
            json!({"phase": "Pending", "containerStatuses": [{
                "name": "rsync", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": "the words"}},
            }]})
        };
        let pod = "Pod/volsync-rsync-dst-mirror-abcde";
        for reason in ["ImagePullBackOff", "CreateContainerConfigError"] {
            let says = format!("{pod} does not start: {reason}: the words");
            assert_eq!(stalled(waiting(reason)), says);
        }
        assert_eq!(stalled(waiting("ContainerCreating")), "");
        let unscheduled = json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available",
        }]});
        // Not before it had its time.
        assert_eq!(stalled(unscheduled.clone()), "");
        let mut objects = left(json!({"active": 1}), unscheduled);
        objects.pods[0].metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
        let MoverState::Running { stalled: Some(says), .. } = objects.state(now()) else {
            panic!("it is not said");
        };
        assert_eq!(says, format!("{pod} cannot be scheduled: 0/3 nodes are available"));
    }

    #[test]
    fn a_pod_that_outlives_its_failed_job_is_waited_for_and_named() {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
        assert!(left(ended("Failed"), json!({"phase": "Failed"})).earlier.is_empty());
        let mut objects = left(ended("Failed"), json!({"phase": "Running"}));
        assert_eq!((objects.earlier.len(), objects.lingering(now())), (1, None));
        objects.earlier[0].metadata.deletion_timestamp = Some(Time(now()));
        assert_eq!(objects.lingering(now()), None);
        objects.earlier[0].metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(objects.lingering(now()).is_some_and(|said| said.contains("does not end")));
    }

    #[test]
    fn a_job_without_a_pod_says_why() {
        let mut objects = left(json!({}), json!({}));
        objects.pods.clear();
        objects.no_pod = Some("exceeded quota: few".to_owned());
        let MoverState::Running { stalled: Some(says), .. } = objects.state(now()) else {
            panic!("it is not said");
        };
        assert_eq!(says, "Job/volsync-rsync-dst-mirror cannot make its pod: exceeded quota: few");
    }

    fn mover(job_status: Value, container_state: Value) -> MoverObjects {
        let job = json!({"metadata": {"uid": "job"}, "status": job_status});
        let owners =
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "mover", "uid": "job"}]);
        let pod = json!({
            "metadata": {"name": "mover-1", "ownerReferences": owners},
            "spec": {"containers": [{"name": "rsync"}, {"name": "injected"}]},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "rsync",
                "image": "mover",
                "imageID": "",
                "ready": false,
                "restartCount": 0,
                "state": container_state,
            }]},
        });
        let job = serde_json::from_value(job).unwrap();
        MoverObjects::new(Some(job), vec![serde_json::from_value(pod).unwrap()])
    }

    fn terminated(exit_code: i32, outcome: Outcome) -> Value {
        let message = Report::new(outcome).to_json();
        json!({"terminated": {"exitCode": exit_code, "message": message}})
    }

    #[test]
    fn a_mover_that_ended_well_has_succeeded_before_its_job_is_complete() {
        let state = |state| mover(json!({}), state).state(Timestamp::UNIX_EPOCH);
        let succeeded = |container| matches!(state(container), MoverState::Succeeded { .. });
        assert!(succeeded(terminated(0, Outcome::Complete)));
        assert!(!succeeded(terminated(0, Outcome::Incomplete)));
        assert!(!succeeded(terminated(1, Outcome::Complete)));
        assert!(!succeeded(json!({"terminated": {"exitCode": 0}})));
        assert!(!succeeded(json!({"running": {}})));
    }

    #[test]
    fn a_job_that_failed_is_no_success_whatever_its_mover_said() {
        let failed = json!({"conditions": [{"type": "Failed", "status": "True"}]});
        let state = mover(failed, terminated(0, Outcome::Complete)).state(Timestamp::UNIX_EPOCH);
        assert!(matches!(state, MoverState::Failed { .. }), "{state:?}");
    }
}
