//! Replication by rsync over TLS.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{DestinationVolumeOptions, MoverConfig, SourceVolumeOptions};

/// The sending side of rsync over TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsSource {
    /// How the image of the source volume is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: MoverConfig,
    /// Secret with the pre-shared key; generated unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// The address of the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port of the destination, 8000 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// The receiving side of rsync over TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsDestination {
    /// Where data is written and how its image is made.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: MoverConfig,
    /// The mode of the provisioned volume: `Filesystem` or `Block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// Secret with the pre-shared key; generated unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// The type of the created Service, `ClusterIP` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Annotations of the Service; given, even empty, they replace the default ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_annotations: Option<BTreeMap<String, String>>,
}

/// What a source has generated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsSourceStatus {
    /// The Secret with the generated key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
}

/// What a source needs to know of the destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncTlsDestinationStatus {
    /// The Secret with the generated key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// The address to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The port to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}
