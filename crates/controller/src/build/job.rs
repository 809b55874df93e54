//! The Job of a mover.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EmptyDirVolumeSource, EnvVar,
    PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, SeccompProfile, SecurityContext,
    Toleration, Volume, VolumeMount,
};
use kube::api::ObjectMeta;
use volsync_api::v1alpha1::MoverConfig;
use volsync_contract::Task;
use volsync_replication::{Run, SyncPlan, names};

use crate::kind::Owner;

pub(crate) mod restic;
pub(crate) mod rsync;

/// Annotation: `lastSyncStartTime` of the sync a mover was started for.
pub(crate) const SYNC_START: &str = "volsync.backube/sync-start";
/// Annotation: the manual tag a mover's sync answers to.
pub(crate) const MANUAL_TAG: &str = "volsync.backube/manual-tag";
/// Annotation: what a mover was told, as a number.
pub(crate) const FINGERPRINT: &str = "volsync.backube/fingerprint";
/// Annotation: which attempt of its sync a mover is, from 1.
pub(crate) const ATTEMPT: &str = "volsync.backube/attempt";
/// Annotation: the report of a mover that has ended, kept as its pod may be removed at any time.
pub(crate) const REPORT: &str = "volsync.backube/report";

/// The volume a mover reads or writes, and where it has to run to reach it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct DataVolume {
    pub(crate) claim: String,
    pub(crate) read_only: bool,
    pub(crate) block: bool,
    pub(crate) placement: Placement,
}

/// Where a pod has to run.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Placement {
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
}

/// Everything the Job of a mover is made of.
#[derive(Debug, Clone)]
pub(crate) struct MoverJob<'a> {
    pub(crate) owner: &'a Owner,
    pub(crate) plan: &'a SyncPlan,
    pub(crate) image: &'a str,
    pub(crate) data: DataVolume,
    pub(crate) account: String,
    pub(crate) attempt: u32,
    pub(crate) debug: bool,
}

impl MoverJob<'_> {
    /// The variables that carry `task`.
    fn environment(&self, task: &Task) -> Vec<EnvVar> {
        let vars = task.to_env().into_iter().map(|(name, value)| var(name, value));
        let debug = self.debug.then(|| var("DEBUG_MOVER", "1"));
        vars.chain(debug).collect()
    }

    /// The one container of a mover, which may do what its capabilities say and nothing else.
    fn container(&self, name: &str, capabilities: &[&str]) -> Container {
        let added = capabilities.iter().map(|&capability| capability.to_owned()).collect();
        Container {
            name: name.to_owned(),
            image: Some(self.image.to_owned()),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(Capabilities {
                    add: Some(added).filter(|added: &Vec<String>| !added.is_empty()),
                    drop: Some(vec!["ALL".to_owned()]),
                }),
                privileged: Some(false),
                read_only_root_filesystem: Some(true),
                // Without a capability it runs as whoever the user says, or as the image does.
                run_as_user: (!capabilities.is_empty()).then_some(0),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..SecurityContext::default()
            }),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    /// The pod around the container.
    fn pod(&self, container: Container, volumes: Vec<Volume>) -> PodSpec {
        PodSpec {
            containers: vec![container],
            restart_policy: Some("Never".to_owned()),
            service_account_name: Some(self.account.clone()),
            // A mover never talks to the API server.
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            volumes: Some(volumes),
            ..PodSpec::default()
        }
    }

    /// The Job around the pod; `labels` are those by which a Service finds it.
    fn job(&self, labels: BTreeMap<String, String>, pod: PodSpec) -> Job {
        let MoverJob { owner, plan, data, attempt, .. } = self;
        let name = names::job(&plan.method, owner.direction, &owner.name).unwrap_or_default();
        assemble(owner, &name, plan, *attempt, labels, configured(pod, &plan.pod, &data.placement))
    }
}

/// The Job around a mover's pod.
///
/// A pod is never replaced inside a Job: another attempt is another Job, after a back-off that the
/// condition names, so a failing mover is not hammered and every attempt has a report.
fn assemble(
    owner: &Owner,
    name: &str,
    plan: &SyncPlan,
    attempt: u32,
    labels: BTreeMap<String, String>,
    pod: PodSpec,
) -> Job {
    let mut metadata = owner.metadata(name, true);
    metadata.annotations = Some(run_annotations(&plan.run(), attempt));
    let mut pod_labels = owner.labels(false);
    pod_labels.extend(plan.pod.mover_pod_labels.clone().unwrap_or_default());
    // What the Service and we find the pod by is not the user's to change.
    pod_labels.extend(labels);
    pod_labels.extend(owner.labels(false));
    let annotations = BTreeMap::from([(owner.annotation.to_owned(), owner.name.clone())]);
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            parallelism: Some(1),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// What the user wants of the pod.
fn configured(mut pod: PodSpec, wanted: &MoverConfig, placement: &Placement) -> PodSpec {
    let Placement { node_selector, tolerations } = placement;
    pod.node_selector = Some(node_selector.clone()).filter(|selector| !selector.is_empty());
    pod.tolerations = Some(tolerations.clone()).filter(|tolerations| !tolerations.is_empty());
    pod.affinity =
        wanted.mover_affinity.clone().filter(|affinity| *affinity != Affinity::default());
    pod.security_context = wanted.mover_security_context.clone();
    for container in &mut pod.containers {
        container.resources = wanted.mover_resources.clone();
    }
    pod
}

fn data_volume(data: &DataVolume) -> Volume {
    Volume {
        name: "data".to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: data.claim.clone(),
            read_only: data.read_only.then_some(true),
        }),
        ..Volume::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

/// The mover's own temporary directory, in memory: its root file system cannot be written.
fn temporary() -> Volume {
    Volume {
        name: "tempdir".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// A variable of a container. In its value kubelet takes `$(NAME)` for another variable and `$$` for one
/// `$`.
fn var(name: &str, value: impl AsRef<str>) -> EnvVar {
    let value = value.as_ref().replace('$', "$$");
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn run_annotations(run: &Run, attempt: u32) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(ATTEMPT.to_owned(), attempt.to_string())]);
    if let Some(start) = run.sync_start {
        annotations.insert(SYNC_START.to_owned(), start.to_string());
    }
    if let Some(tag) = &run.manual_tag {
        annotations.insert(MANUAL_TAG.to_owned(), tag.clone());
    }
    if let Some(fingerprint) = run.fingerprint {
        annotations.insert(FINGERPRINT.to_owned(), fingerprint.to_string());
    }
    annotations
}

/// What a Job was made for. One that was made by others says nothing of it.
pub(crate) fn run_of(job: &Job) -> Run {
    let annotation = |key| job.metadata.annotations.as_ref().and_then(|all| all.get(key));
    Run {
        sync_start: annotation(SYNC_START).and_then(|text| text.parse().ok()),
        manual_tag: annotation(MANUAL_TAG).cloned(),
        fingerprint: annotation(FINGERPRINT).and_then(|text| text.parse().ok()),
    }
}

/// Which attempt of its sync a Job is, from 1.
pub(crate) fn attempt_of(job: &Job) -> u32 {
    let annotations = job.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(ATTEMPT)).and_then(|text| text.parse().ok()).unwrap_or(1)
}
