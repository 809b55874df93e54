//! Replication through an object store configured for rclone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{CustomCa, DestinationVolumeOptions, MoverConfig, SourceVolumeOptions};

/// A volume copied to an object store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneSource {
    /// How the image of the source volume is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: MoverConfig,
    /// The section of the rclone configuration to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config_section: Option<String>,
    /// The remote path: bucket and prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_dest_path: Option<String>,
    /// The Secret with `rclone.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config: Option<String>,
    /// The certificate authority of the remote side.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
}

/// A volume copied from an object store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneDestination {
    /// Where data is written and how its image is made.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: MoverConfig,
    /// The section of the rclone configuration to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config_section: Option<String>,
    /// The remote path: bucket and prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_dest_path: Option<String>,
    /// The Secret with `rclone.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config: Option<String>,
    /// The certificate authority of the remote side.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
}
