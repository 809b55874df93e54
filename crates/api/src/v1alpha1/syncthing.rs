//! Continuous replication among Syncthing peers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::MoverConfig;

/// A volume shared with Syncthing peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingSource {
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: MoverConfig,
    /// The peers to connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<SyncthingPeer>>,
    /// The type of the data Service, `ClusterIP` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// The size of the configuration volume, `1Gi` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_capacity: Option<Quantity>,
    /// The storage class of the configuration volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_storage_class_name: Option<String>,
    /// The access modes of the configuration volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_access_modes: Option<Vec<String>>,
}

/// A peer to connect to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingPeer {
    /// The device ID of the peer.
    #[serde(rename = "ID")]
    pub id: String,
    /// The address of the peer, such as `tcp://host:22000`.
    pub address: String,
    /// Whether the peer may introduce further peers.
    pub introducer: bool,
}

/// What peers need to know, and who is connected.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingStatus {
    /// The device ID of this side.
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The address peers connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The peers known to this side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<SyncthingPeerStatus>>,
}

/// What is known of a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingPeerStatus {
    /// The device ID of the peer.
    #[serde(rename = "ID")]
    pub id: String,
    /// The address of the peer.
    pub address: String,
    /// Whether the peer is connected now.
    pub connected: bool,
    /// The name the peer gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The device ID of the peer that introduced this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub introduced_by: Option<String>,
}
