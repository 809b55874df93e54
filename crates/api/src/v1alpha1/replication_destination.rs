//! `ReplicationDestination`: a volume that receives replicated data.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{
    External, MoverStatus, RcloneDestination, ResticDestination, ResticDestinationStatus,
    RsyncDestination, RsyncStatus, RsyncTlsDestination, RsyncTlsDestinationStatus, Trigger,
};

/// What to replicate, when, and by which method; exactly one method must be given.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "volsync.backube",
    version = "v1alpha1",
    kind = "ReplicationDestination",
    plural = "replicationdestinations",
    singular = "replicationdestination",
    namespaced,
    status = "ReplicationDestinationStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A volume that receives replicated data.",
    printcolumn = r#"{"name":"Last sync","type":"string","format":"date-time","jsonPath":".status.lastSyncTime"}"#,
    printcolumn = r#"{"name":"Duration","type":"string","jsonPath":".status.lastSyncDuration"}"#,
    printcolumn = r#"{"name":"Next sync","type":"string","format":"date-time","jsonPath":".status.nextSyncTime"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationDestinationSpec {
    /// When to synchronise; continuously unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// Replicate by rsync over SSH.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<RsyncDestination>,
    /// Replicate by rsync over TLS.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<RsyncTlsDestination>,
    /// Replicate through an object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone: Option<RcloneDestination>,
    /// Restore from a restic repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<ResticDestination>,
    /// Leave replication to an external provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// Start no mover while true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// How replication is going.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationDestinationStatus {
    /// When the last successful sync ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// When the sync in progress started; absent when none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_start_time: Option<Time>,
    /// How long the last successful sync took, in the format of Go such as `1m50.2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_duration: Option<String>,
    /// When the next scheduled sync starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sync_time: Option<Time>,
    /// The manual tag whose sync completed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_manual_sync: Option<String>,
    /// How the last run of the mover ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_mover_status: Option<MoverStatus>,
    /// The newest complete image of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_image: Option<TypedLocalObjectReference>,
    /// What the other side of rsync over SSH needs to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<RsyncStatus>,
    /// What the other side of rsync over TLS needs to know.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<RsyncTlsDestinationStatus>,
    /// How the last restore from a restic repository ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<ResticDestinationStatus>,
    /// What an external provider reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<BTreeMap<String, String>>,
    /// Whether a sync is in progress and what is being waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}
