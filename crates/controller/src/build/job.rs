//! The Job of a mover.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EmptyDirVolumeSource, EnvVar,
    PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, SeccompProfile,
    SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeDevice, VolumeMount,
};
use kube::api::ObjectMeta;
use volsync_api::keys;
use volsync_api::v1alpha1::MoverConfig;
use volsync_contract::{Method, RsyncDestination, RsyncSource, Task, paths};
use volsync_replication::{Run, SyncPlan, names};

use crate::build::service::{SSH_PORT, mover_labels};
use crate::kind::Owner;

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

/// The path of a device in a mover's pod.
const DEVICE: &str = "/dev/block";
/// What the SSH mover needs to keep owners, modes and devices (SecurityContextConstraints
/// `volsync-privileged-mover` allow exactly these).
pub(crate) const SSH_CAPABILITIES: [&str; 7] =
    ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SYS_CHROOT"];

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

/// What is particular to rsync over SSH.
#[derive(Debug, Clone)]
pub(crate) struct Ssh {
    /// The Secret with the keys of this end.
    pub(crate) keys: String,
    /// Where a source finds its destination.
    pub(crate) address: String,
    pub(crate) port: u16,
}

/// The Job of an rsync mover over SSH.
pub(crate) fn rsync(job: &MoverJob<'_>, ssh: &Ssh) -> Job {
    let MoverJob { owner, plan, image, data, account, attempt, debug } = job;
    let name = names::job(&plan.method, owner.direction, &owner.name).unwrap_or_default();
    let keys_path = paths::KEYS.into();
    let task = Task {
        name: format!("{}/{}", owner.namespace, owner.name),
        data: if data.block { DEVICE } else { paths::DATA }.into(),
        report: paths::REPORT.into(),
        events: false,
        strict_attributes: false,
        method: match owner.direction {
            volsync_contract::Direction::Source => Method::RsyncSource(RsyncSource {
                keys: keys_path,
                address: ssh.address.clone(),
                port: ssh.port,
            }),
            volsync_contract::Direction::Destination => {
                Method::RsyncDestination(RsyncDestination {
                    keys: keys_path,
                    listen: ([0u16; 8], SSH_PORT).into(),
                })
            }
        },
    };
    let mut env: Vec<EnvVar> =
        task.to_env().into_iter().map(|(name, value)| var(name, value)).collect();
    if *debug {
        env.push(var("DEBUG_MOVER", "1".to_owned()));
    }
    let secret = Volume {
        name: "keys".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(ssh.keys.clone()),
            default_mode: Some(0o600),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let temporary = Volume {
        name: "tempdir".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut mounts = vec![mount("keys", paths::KEYS), mount("tempdir", "/tmp")];
    let mut devices = Vec::new();
    if data.block {
        devices.push(VolumeDevice { name: "data".to_owned(), device_path: DEVICE.to_owned() });
    } else {
        mounts.insert(0, mount("data", paths::DATA));
    }
    let container = Container {
        name: "rsync".to_owned(),
        image: Some((*image).to_owned()),
        env: Some(env),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: Some(SSH_CAPABILITIES.map(str::to_owned).to_vec()),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_user: Some(0),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        volume_devices: Some(devices).filter(|devices| !devices.is_empty()),
        ..Container::default()
    };
    let pod = PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(account.clone()),
        // A mover never talks to the API server.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        volumes: Some(vec![data_volume(data), secret, temporary]),
        ..PodSpec::default()
    };
    let labels = mover_labels(owner, keys::COMPONENT_RSYNC);
    assemble(owner, &name, plan, *attempt, labels, configured(pod, &plan.pod, &data.placement))
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

fn var(name: &str, value: String) -> EnvVar {
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
