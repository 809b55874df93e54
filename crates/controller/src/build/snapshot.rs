//! VolumeSnapshots (snapshot.storage.k8s.io/v1), as far as they matter here.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use crate::kind::Owner;

/// What a snapshot is made of.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshot",
    namespaced,
    status = "VolumeSnapshotStatus",
    schema = "disabled",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotSpec {
    /// Its class; `None`: the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) volume_snapshot_class_name: Option<String>,
    /// What it is a snapshot of.
    pub(crate) source: VolumeSnapshotSource,
}

/// What it is a snapshot of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotSource {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) persistent_volume_claim_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) volume_snapshot_content_name: Option<String>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bound_volume_snapshot_content_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready_to_use: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restore_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<VolumeSnapshotError>,
}

/// Why it is not made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeSnapshotError {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl VolumeSnapshot {
    /// Whether it can be restored from. A driver that does not say when it is ready is as soon as it
    /// is bound.
    pub(crate) fn is_ready(&self) -> bool {
        self.metadata.deletion_timestamp.is_none()
            && self.status.as_ref().is_some_and(|status| {
                status.bound_volume_snapshot_content_name.is_some()
                    && status.ready_to_use != Some(false)
            })
    }

    /// Why it is not made, in the driver's words.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.status.as_ref()?.error.as_ref()?.message.as_deref()
    }
}

/// A snapshot named `name` of the claim `of`; with `cleanup`, it goes when the sync ends.
pub(crate) fn snapshot(
    owner: &Owner,
    name: &str,
    of: &str,
    class: Option<&str>,
    cleanup: bool,
) -> VolumeSnapshot {
    let mut snapshot = VolumeSnapshot::new(
        name,
        VolumeSnapshotSpec {
            volume_snapshot_class_name: class.map(str::to_owned),
            source: VolumeSnapshotSource {
                persistent_volume_claim_name: Some(of.to_owned()),
                volume_snapshot_content_name: None,
            },
        },
    );
    snapshot.metadata = owner.metadata(name, cleanup);
    snapshot
}
