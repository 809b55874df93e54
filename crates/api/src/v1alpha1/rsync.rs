//! Replication by rsync over SSH.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{DestinationVolumeOptions, SourceVolumeOptions, SshMoverConfig};

/// The sending side of rsync over SSH.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncSource {
    /// How the image of the source volume is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// Secret with the SSH keys; generated unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// The type of the created Service, `ClusterIP` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// The address of the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port of the destination, 22 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Accepted and ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Accepted and ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: SshMoverConfig,
}

/// The receiving side of rsync over SSH.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncDestination {
    /// Where data is written and how its image is made.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// The mode of the provisioned volume: `Filesystem` or `Block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// Secret with the SSH keys; generated unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// The type of the created Service, `ClusterIP` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Annotations of the Service; given, even empty, they replace the default ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_annotations: Option<BTreeMap<String, String>>,
    /// Given, no Service is created and no address is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port of the Service, 22 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Accepted and ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Accepted and ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: SshMoverConfig,
}

/// What the other side needs to know, once keys and an address exist. The same for both kinds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncStatus {
    /// The Secret with the keys the other side needs; generated keys only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// The address to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}
