//! How volumes are copied, provisioned and snapshotted.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the point-in-time image of a volume is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CopyMethod {
    /// Use the volume itself.
    Direct,
    /// The deprecated spelling of `Direct`.
    None,
    /// Clone the volume; sources only.
    Clone,
    /// Take a snapshot of the volume.
    Snapshot,
}

/// How the point-in-time image of the source volume is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceVolumeOptions {
    /// How the image is made; must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_method: Option<CopyMethod>,
    /// The size of the image, if not that of the source volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// The storage class of the image, if not that of the source volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// The access modes of the image, if not those of the source volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_modes: Option<Vec<String>>,
    /// The class of the snapshot, if not the default of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
}

/// Where replicated data is written and how its image is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationVolumeOptions {
    /// How the image is made after each sync: `Direct` or `Snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_method: Option<CopyMethod>,
    /// The size of the provisioned volume; must be given without `destinationPVC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// The storage class of the provisioned volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// The access modes of the provisioned volume; must be given without `destinationPVC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_modes: Option<Vec<String>>,
    /// The class of the snapshot, if not the default of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
    /// An existing volume to write to instead of provisioning one.
    #[serde(rename = "destinationPVC", skip_serializing_if = "Option::is_none")]
    pub destination_pvc: Option<String>,
    /// Delete the provisioned volume after each successful sync.
    #[serde(rename = "cleanupTempPVC", skip_serializing_if = "Option::is_none")]
    pub cleanup_temp_pvc: Option<bool>,
}
