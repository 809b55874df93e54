//! PVC name → local directory: by PersistentVolume and PersistentVolumeClaim manifests, or `--volume`.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::args::VolumeFlag;
use crate::manifests::{Manifests, ObjectName};

/// The directory of a claim, or why there is none.
pub(crate) fn directory(
    claim: &ObjectName,
    flags: &[VolumeFlag],
    manifests: &Manifests,
) -> Result<PathBuf, String> {
    let directory = match flag(claim, flags) {
        Some(directory) => directory,
        None => by_manifest(claim, manifests)?,
    };
    match std::fs::metadata(&directory) {
        Ok(_) if directory.to_str().is_none() => Err(format!(
            "volume {} is {}, whose name is not UTF-8",
            claim.name,
            directory.display()
        )),
        Ok(metadata) if metadata.is_dir() => Ok(directory),
        Ok(_) => Err(format!(
            "volume {} is {}, which is not a directory",
            claim.name,
            directory.display()
        )),
        Err(error) => {
            let why = crate::words::io_reason(&error);
            Err(format!("volume {} is {}: {why}", claim.name, directory.display()))
        }
    }
}

/// Flags that no claim of the manifests is called by.
pub(crate) fn unused<'a>(
    flags: &'a [VolumeFlag],
    used: &'a [ObjectName],
) -> impl Iterator<Item = &'a VolumeFlag> {
    flags.iter().filter(|flag| !used.iter().any(|claim| names(flag, claim)))
}

fn names(flag: &VolumeFlag, claim: &ObjectName) -> bool {
    flag.claim == claim.name
        && flag.namespace.as_ref().is_none_or(|namespace| *namespace == claim.namespace)
}

/// The most particular flag, the last of several.
fn flag(claim: &ObjectName, flags: &[VolumeFlag]) -> Option<PathBuf> {
    let matching = flags.iter().filter(|flag| names(flag, claim));
    matching.max_by_key(|flag| flag.namespace.is_some()).map(|flag| flag.directory.clone())
}

fn by_manifest(claim: &ObjectName, manifests: &Manifests) -> Result<PathBuf, String> {
    let found = manifests.claims.get(claim);
    let wanted = found.and_then(|found| found.object.spec.as_ref()?.volume_name.clone());
    if let Some(name) = wanted {
        let volume = manifests.volumes.get(&name).ok_or_else(|| {
            format!("PersistentVolumeClaim {claim} names PersistentVolume {name}, which is not in the manifests")
        })?;
        return path_of(&volume.object).ok_or_else(|| no_path(&name));
    }
    let claimed = manifests.volumes.iter().find(|(_, volume)| {
        let claimed = volume.object.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        claimed.is_some_and(|by| {
            by.name.as_deref() == Some(&claim.name)
                && by.namespace.as_deref().unwrap_or("default") == claim.namespace
        })
    });
    if let Some((name, volume)) = claimed {
        return path_of(&volume.object).ok_or_else(|| no_path(name));
    }
    Err(format!(
        "no directory is known for volume {}; give one with --volume {}=DIR",
        claim.name, claim.name
    ))
}

fn no_path(volume: &str) -> String {
    format!(
        "PersistentVolume {volume} has neither local.path nor hostPath.path, which is all this machine can mount"
    )
}

fn path_of(volume: &PersistentVolume) -> Option<PathBuf> {
    let spec = volume.spec.as_ref()?;
    let local = spec.local.as_ref().map(|local| local.path.clone());
    local.or_else(|| spec.host_path.as_ref().map(|host| host.path.clone())).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::load;

    fn manifests(text: &str) -> Manifests {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), text).unwrap();
        let (manifests, problems) = load(&[directory.path().to_owned()]);
        problems.or(manifests).unwrap()
    }

    fn claim(name: &str) -> ObjectName {
        ObjectName { namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn a_claim_is_found_by_its_volume_name_or_by_claim_ref() {
        let manifests = manifests(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: disk}\nspec: {local: {path: /usr}}\n---\n\
             apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: photos}\nspec: {volumeName: disk}\n---\n\
             apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: other}\n\
             spec: {hostPath: {path: /etc}, claimRef: {name: mail, namespace: default}}\n---\n\
             apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: nfs}\n\
             spec: {nfs: {path: /x, server: a}, claimRef: {name: remote}}\n",
        );
        assert_eq!(directory(&claim("photos"), &[], &manifests), Ok("/usr".into()));
        assert_eq!(directory(&claim("mail"), &[], &manifests), Ok("/etc".into()));
        assert!(
            directory(&claim("remote"), &[], &manifests)
                .unwrap_err()
                .contains("neither local.path")
        );
        let unknown = directory(&claim("none"), &[], &manifests).unwrap_err();
        assert_eq!(
            unknown,
            "no directory is known for volume none; give one with --volume none=DIR"
        );
    }

    #[test]
    fn a_flag_comes_before_manifests_and_one_with_a_namespace_before_one_without() {
        let flag = |namespace: Option<&str>, directory: &str| VolumeFlag {
            namespace: namespace.map(str::to_owned),
            claim: "photos".into(),
            directory: directory.into(),
        };
        let flags =
            [flag(Some("default"), "/usr"), flag(None, "/etc"), flag(Some("other"), "/var")];
        let manifests = Manifests::default();
        assert_eq!(directory(&claim("photos"), &flags, &manifests), Ok("/usr".into()));
        assert_eq!(directory(&claim("photos"), &flags[1..], &manifests), Ok("/etc".into()));
        assert_eq!(unused(&flags, &[claim("photos")]).count(), 1);
        let missing = [flag(None, "/does/not/exist")];
        assert_eq!(
            directory(&claim("photos"), &missing, &manifests),
            Err("volume photos is /does/not/exist: no such file or directory".into())
        );
    }
}
