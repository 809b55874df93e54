//! A restic repository as its Secret describes it, for a mover of this machine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use volsync_contract::{env, paths, repository};
use volsync_replication::{CaBundle, Replication, Restic};

use crate::args::VolumeFlag;
use crate::claims;
use crate::error::Error;
use crate::manifests::{Manifests, ObjectName, SecretData};
use crate::secrets;

/// The file of a certificate authority, and of a Google account, in [`Repository::directory`].
const CA: &str = "ca.crt";
const GOOGLE: &str = "gcs.json";

/// A repository and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    /// The Secret that describes it.
    pub(crate) secret: ObjectName,
    /// What a mover is told of it, by variables.
    variables: SecretData,
    /// What a mover is told of it, by files.
    files: SecretData,
    /// Whether the mover's cache goes after each sync.
    pub(crate) cleanup_cache: bool,
}

/// A field, and what is wrong with it.
pub(crate) type Wrong = (String, String);

impl Repository {
    /// The repository of a replication. Claims that its `moverVolumes` name are put into `used`.
    pub(crate) fn new(
        replication: &Replication,
        restic: &Restic,
        manifests: &Manifests,
        flags: &[VolumeFlag],
        used: &mut Vec<ObjectName>,
    ) -> Result<Self, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let named = |name: &String| ObjectName {
            namespace: replication.namespace.clone(),
            name: name.clone(),
        };
        let secret = named(&restic.repository);
        let mut data = BTreeMap::new();
        match manifests.secrets.get(&secret) {
            None => wrong.push((
                "spec.restic.repository".to_owned(),
                format!("Secret {secret} is not in the manifests"),
            )),
            Some(found) => {
                data.clone_from(&found.object.0);
                let lacks: Vec<_> = [repository::REPOSITORY, repository::PASSWORD]
                    .into_iter()
                    .filter(|key| data.get(*key).is_none_or(Vec::is_empty))
                    .collect();
                if !lacks.is_empty() {
                    let message = format!("Secret {secret} lacks {}", lacks.join(", "));
                    wrong.push(("spec.restic.repository".to_owned(), message));
                }
            }
        }
        let mut files = BTreeMap::new();
        if let Some(account) = data.remove(repository::GOOGLE_CREDENTIALS) {
            files.insert(GOOGLE.to_owned(), account);
        }
        match restic.custom_ca.as_ref().map(|ca| authority(ca, manifests, named)) {
            None => {}
            Some(Ok(certificates)) => {
                files.insert(CA.to_owned(), certificates);
            }
            Some(Err(problem)) => wrong.push(problem),
        }
        let mut mounts = Vec::new();
        for (index, volume) in replication.pod.mover_volumes.iter().flatten().enumerate() {
            let path = format!("spec.restic.moverVolumes[{index}].volumeSource");
            let Some(claim) = &volume.volume_source.persistent_volume_claim else {
                let message = "only a persistentVolumeClaim can be mounted on one machine";
                wrong.push((path, message.to_owned()));
                continue;
            };
            let claim = named(&claim.claim_name);
            match claims::directory(&claim, flags, manifests) {
                Ok(directory) => mounts.push((volume.mount_path.clone(), directory)),
                Err(why) => wrong.push((path, why)),
            }
            used.push(claim);
        }
        if let Some(url) = data.get_mut(repository::REPOSITORY) {
            *url = as_mounted(url, &mounts);
        }
        data.retain(|key, _| repository::is_passed(key));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Self {
            secret,
            variables: SecretData(data),
            files: SecretData(files),
            cleanup_cache: restic.cleanup_cache,
        })
    }

    /// The directory that it is, on this machine.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let url = self.variables.0.get(repository::REPOSITORY)?;
        let path = Path::new(OsStr::from_bytes(url.strip_prefix(b"local:").unwrap_or(url)));
        path.is_absolute().then(|| path.to_owned())
    }

    /// The directory of its files below that of a mover.
    pub(crate) fn directory(mover: &Path) -> PathBuf {
        mover.join("repository")
    }

    /// Writes the files below the directory of a mover.
    pub(crate) fn mount(&self, mover: &Path) -> Result<(), Error> {
        secrets::mount(&self.files, &Self::directory(mover))
    }

    /// The variables of a mover whose directory this is.
    pub(crate) fn environment(&self, mover: &Path) -> BTreeMap<OsString, OsString> {
        let given = self.variables.0.iter();
        let mut variables: BTreeMap<OsString, OsString> =
            given.map(|(name, value)| (name.into(), OsString::from_vec(value.clone()))).collect();
        for (file, variable) in [(CA, env::CUSTOM_CA), (GOOGLE, repository::GOOGLE_CREDENTIALS)] {
            if self.files.0.contains_key(file) {
                variables.insert(variable.into(), Self::directory(mover).join(file).into());
            }
        }
        variables
    }
}

fn authority(
    ca: &CaBundle,
    manifests: &Manifests,
    named: impl Fn(&String) -> ObjectName,
) -> Result<Vec<u8>, Wrong> {
    let (kind, field, name, key, found) = match ca {
        CaBundle::Secret { name, key } => {
            let name = named(name);
            let found = manifests.secrets.get(&name);
            ("Secret", "secretName", name, key, found)
        }
        CaBundle::ConfigMap { name, key } => {
            let name = named(name);
            let found = manifests.config_maps.get(&name);
            ("ConfigMap", "configMapName", name, key, found)
        }
    };
    let path = format!("spec.restic.customCA.{field}");
    let Some(found) = found else {
        return Err((path, format!("{kind} {name} is not in the manifests")));
    };
    let certificates = found.object.0.get(key).cloned();
    certificates.ok_or_else(|| (path, format!("{kind} {name} lacks {key}")))
}

/// A repository below `/mnt` is in the directory that would be mounted there.
fn as_mounted(url: &[u8], mounts: &[(String, PathBuf)]) -> Vec<u8> {
    let path = url.strip_prefix(b"local:").unwrap_or(url);
    let below = Path::new(OsStr::from_bytes(path)).strip_prefix(paths::MOUNTS).ok();
    let mounted = below.and_then(|below| {
        let inside = |(mount, directory): &(String, PathBuf)| {
            let rest = below.strip_prefix(mount).ok()?;
            Some(directory.components().chain(rest.components()).collect::<PathBuf>())
        };
        mounts.iter().find_map(inside)
    });
    match mounted {
        Some(directory) => directory.into_os_string().into_vec(),
        None => url.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_on_a_claim_is_in_its_directory() {
        let mounts =
            [("nas".to_owned(), "/srv/nas".into()), ("other/place".to_owned(), "/srv/o".into())];
        for (url, expected) in [
            ("/mnt/nas/photos", "/srv/nas/photos"),
            ("local:/mnt/nas", "/srv/nas"),
            ("/mnt/other/place/a", "/srv/o/a"),
            ("/mnt/nasty", "/mnt/nasty"),
            ("/backup", "/backup"),
            ("s3:https://example.org/mnt/nas", "s3:https://example.org/mnt/nas"),
        ] {
            let found = String::from_utf8(as_mounted(url.as_bytes(), &mounts)).unwrap();
            assert_eq!(found, expected, "{url}");
        }
    }
}
