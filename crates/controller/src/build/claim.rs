//! PersistentVolumeClaims.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use volsync_volume::{NewVolume, Origin};

use crate::kind::Owner;

/// The claim of a volume that is made; with `cleanup`, it goes when the sync ends.
pub(crate) fn claim(owner: &Owner, volume: &NewVolume, cleanup: bool) -> PersistentVolumeClaim {
    let data_source = match &volume.origin {
        Origin::Empty => None,
        Origin::Clone { of } => Some(TypedLocalObjectReference {
            api_group: None,
            kind: "PersistentVolumeClaim".to_owned(),
            name: of.clone(),
        }),
        Origin::Snapshot { name, .. } => Some(TypedLocalObjectReference {
            api_group: Some("snapshot.storage.k8s.io".to_owned()),
            kind: "VolumeSnapshot".to_owned(),
            name: name.clone(),
        }),
    };
    let modes = volume.access_modes.iter().map(|mode| mode.as_str().to_owned()).collect();
    PersistentVolumeClaim {
        metadata: owner.metadata(&volume.name, cleanup),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(modes),
            data_source,
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(volume.capacity.as_str().to_owned()),
                )])),
                limits: None,
            }),
            storage_class_name: volume.storage_class.clone(),
            volume_mode: Some(volume.mode.as_str().to_owned()),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
