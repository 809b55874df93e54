//! The Job of an rsync mover over SSH.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, SecretVolumeSource, Volume, VolumeDevice};
use volsync_api::keys;
use volsync_contract::{Direction, Method, RsyncDestination, RsyncSource, Task, paths};

use super::{MoverJob, data_volume, mount, temporary};
use crate::build::service::{SSH_PORT, mover_labels};

/// The path of a device in a mover's pod.
const DEVICE: &str = "/dev/block";
/// What the SSH mover needs to keep owners, modes and devices (SecurityContextConstraints
/// `volsync-privileged-mover` allow exactly these).
pub(crate) const SSH_CAPABILITIES: [&str; 7] =
    ["AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "SYS_CHROOT"];

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
    let MoverJob { owner, data, .. } = job;
    let keys_path = paths::KEYS.into();
    let task = Task {
        name: format!("{}/{}", owner.namespace, owner.name),
        data: if data.block { DEVICE } else { paths::DATA }.into(),
        report: paths::REPORT.into(),
        events: false,
        strict_attributes: false,
        method: match owner.direction {
            Direction::Source => Method::RsyncSource(RsyncSource {
                keys: keys_path,
                address: ssh.address.clone(),
                port: ssh.port,
            }),
            Direction::Destination => Method::RsyncDestination(RsyncDestination {
                keys: keys_path,
                listen: ([0u16; 8], SSH_PORT).into(),
            }),
        },
    };
    let secret = Volume {
        name: "keys".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(ssh.keys.clone()),
            default_mode: Some(0o600),
            ..SecretVolumeSource::default()
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
        env: Some(job.environment(&task)),
        volume_mounts: Some(mounts),
        volume_devices: Some(devices).filter(|devices| !devices.is_empty()),
        ..job.container("rsync", &SSH_CAPABILITIES)
    };
    let pod = job.pod(container, vec![data_volume(data), secret, temporary()]);
    job.job(mover_labels(owner, keys::COMPONENT_RSYNC), pod)
}
