//! The Job of a restic mover.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, SecretKeySelector, SecretVolumeSource, Volume,
};
use volsync_api::v1alpha1::MoverVolume;
use volsync_contract::{Task, env, paths, repository};
use volsync_replication::CaBundle;

use super::{MoverJob, data_volume, mount, temporary, var};

/// What a privileged mover needs to read what is not its own and to give what it restores to whom it
/// belongs.
const PRIVILEGED: [&str; 3] = ["CHOWN", "DAC_OVERRIDE", "FOWNER"];

/// What is particular to a restic repository.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// Its Secret.
    pub(crate) secret: String,
    /// The keys of that Secret.
    pub(crate) keys: BTreeSet<String>,
    /// Where the certificates of its authority are.
    pub(crate) custom_ca: Option<CaBundle>,
    /// The claim of the mover's cache.
    pub(crate) cache: String,
    /// Whether the namespace lets movers be privileged.
    pub(crate) privileged: bool,
}

/// The Job of a restic mover.
pub(crate) fn restic(
    job: &MoverJob<'_>,
    repository: &Repository,
    proxies: &[(String, String)],
    method: volsync_contract::Method,
) -> Job {
    let task = Task {
        name: format!("{}/{}", job.owner.namespace, job.owner.name),
        data: paths::DATA.into(),
        report: paths::REPORT.into(),
        events: false,
        strict_attributes: false,
        method,
    };
    let mut environment = job.environment(&task);
    environment.extend(repository.environment());
    environment.extend(proxies.iter().map(|(name, value)| var(name, value)));
    let mut mounts =
        vec![mount("data", paths::DATA), mount("cache", paths::CACHE), mount("tempdir", "/tmp")];
    let mut volumes = vec![data_volume(&job.data), claim("cache", &repository.cache), temporary()];
    let google = repository.google_credentials();
    for (path, volume) in
        [(paths::CUSTOM_CA_DIRECTORY, repository.custom_ca()), (paths::CREDENTIALS, google)]
    {
        let Some(volume) = volume else { continue };
        mounts.push(mount(&volume.name, path));
        volumes.push(volume);
    }
    for wanted in job.plan.pod.mover_volumes.iter().flatten() {
        let volume = users_volume(wanted);
        mounts.push(mount(&volume.name, &format!("{}/{}", paths::MOUNTS, wanted.mount_path)));
        volumes.push(volume);
    }
    let capabilities: &[&str] = if repository.privileged { &PRIVILEGED } else { &[] };
    let container = Container {
        env: Some(environment),
        volume_mounts: Some(mounts),
        ..job.container("restic", capabilities)
    };
    job.job([].into(), job.pod(container, volumes))
}

impl Repository {
    fn environment(&self) -> Vec<EnvVar> {
        let mut vars: Vec<EnvVar> = self
            .keys
            .iter()
            .filter(|key| repository::is_passed(key))
            .map(|key| from_secret(&self.secret, key))
            .collect();
        if self.keys.contains(repository::GOOGLE_CREDENTIALS) {
            vars.push(var(repository::GOOGLE_CREDENTIALS, paths::GOOGLE_CREDENTIALS));
        }
        if self.custom_ca.is_some() {
            vars.push(var(env::CUSTOM_CA, paths::CUSTOM_CA));
        }
        vars.push(var(env::PRIVILEGED_MOVER, if self.privileged { "1" } else { "0" }));
        vars
    }

    fn custom_ca(&self) -> Option<Volume> {
        let name = "custom-ca".to_owned();
        Some(match self.custom_ca.as_ref()? {
            CaBundle::Secret { name: secret, key } => Volume {
                name,
                secret: Some(SecretVolumeSource {
                    secret_name: Some(secret.clone()),
                    items: Some(vec![item(key, "ca.crt")]),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
            CaBundle::ConfigMap { name: map, key } => Volume {
                name,
                config_map: Some(ConfigMapVolumeSource {
                    name: map.clone(),
                    items: Some(vec![item(key, "ca.crt")]),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
        })
    }

    fn google_credentials(&self) -> Option<Volume> {
        self.keys.contains(repository::GOOGLE_CREDENTIALS).then(|| Volume {
            name: "gcs-credentials".to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(self.secret.clone()),
                items: Some(vec![item(repository::GOOGLE_CREDENTIALS, "gcs.json")]),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        })
    }
}

fn from_secret(secret: &str, key: &str) -> EnvVar {
    let mandatory = key == repository::REPOSITORY || key == repository::PASSWORD;
    EnvVar {
        name: key.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                optional: Some(!mandatory),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// A volume that the user wants under `/mnt`.
fn users_volume(wanted: &MoverVolume) -> Volume {
    let source = wanted.volume_source.clone();
    Volume {
        name: format!("u-{}", wanted.mount_path.replace('/', "-")),
        secret: source.secret,
        persistent_volume_claim: source.persistent_volume_claim,
        nfs: source.nfs,
        ..Volume::default()
    }
}

fn claim(name: &str, claim: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: claim.to_owned(),
            read_only: None,
        }),
        ..Volume::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), ..KeyToPath::default() }
}
