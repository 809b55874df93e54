//! Backup to and restore from a restic repository.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{CustomCa, DestinationVolumeOptions, MoverConfig, SourceVolumeOptions};

/// Backup to a restic repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticSource {
    /// How the image of the source volume is made.
    #[serde(flatten)]
    pub volume: SourceVolumeOptions,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: MoverConfig,
    /// The Secret that describes the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The certificate authority of the repository.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// Days between prunes, 7 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_interval_days: Option<i32>,
    /// Which snapshots are kept; only the last one unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<ResticRetainPolicy>,
    /// The size of the cache volume, `1Gi` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_capacity: Option<Quantity>,
    /// The storage class of the cache volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_storage_class_name: Option<String>,
    /// The access modes of the cache volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_access_modes: Option<Vec<String>>,
    /// Any tag: the repository is unlocked once for each new value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlock: Option<String>,
    /// The host that snapshots are recorded under, `volsync` unless given. Retention concerns only
    /// snapshots of the same host and path, so volumes that share a repository need one each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The path that snapshots are recorded under, `/data` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The tags of new snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// What is not backed up, one pattern of gitignore each: `*.tmp`, `/cache/`. A pattern that begins
    /// with `!` includes again what an earlier one excludes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// Leave out what is in directories with a `CACHEDIR.TAG`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_caches: Option<bool>,
    /// Verify the repository from time to time; never unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<ResticVerify>,
    /// How many bytes a second may travel between mover and repository, such as `10Mi`; as many as can
    /// unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<Quantity>,
}

/// How a repository is verified: whether everything is there, and whether a part of the data reads back
/// as it was written, another part each time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticVerify {
    /// Days between verifications, 7 unless given; 0: with each sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_days: Option<i32>,
    /// How many percent of the data are read each time, 10 unless given; 0: none. Rounded up to one part
    /// of so many that are alike: 34 to 50 is a half, more is all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_data_percent: Option<i32>,
}

/// Restore from a restic repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticDestination {
    /// Where data is written and how its image is made.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// How the mover pod is run.
    #[serde(flatten)]
    pub mover: MoverConfig,
    /// The Secret that describes the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The certificate authority of the repository.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// The size of the cache volume, `1Gi` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_capacity: Option<Quantity>,
    /// The storage class of the cache volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_storage_class_name: Option<String>,
    /// The access modes of the cache volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_access_modes: Option<Vec<String>>,
    /// Delete the cache volume after each successful sync.
    #[serde(rename = "cleanupCachePVC", skip_serializing_if = "Option::is_none")]
    pub cleanup_cache_pvc: Option<bool>,
    /// How many eligible snapshots to skip, counted back from the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<i32>,
    /// Only snapshots taken at or before this time are eligible. Kept as written, with its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_as_of: Option<String>,
    /// Delete files that the restored snapshot does not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_file_deletion: Option<bool>,
    /// Only snapshots recorded under this host are eligible; those of every host unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only snapshots recorded under this path are eligible, `/data` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The snapshot to restore, by its ID or the beginning of it; `host`, `path`, `previous` and
    /// `restoreAsOf` are not for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Fail when there is no repository, or no eligible snapshot in it. Unless true, the volume stays
    /// as it is and the sync succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_snapshot: Option<bool>,
    /// How many bytes a second may travel between mover and repository, such as `10Mi`; as many as can
    /// unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<Quantity>,
}

/// Which snapshots are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticRetainPolicy {
    /// How many hourly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<i32>,
    /// How many daily snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<i32>,
    /// How many weekly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<i32>,
    /// How many monthly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<i32>,
    /// How many yearly snapshots are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<i32>,
    /// Every snapshot this young is kept, such as `1y5m7d2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// How many of the newest snapshots are kept, written as a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// What the backup remembers between syncs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticSourceStatus {
    /// When the repository was last pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pruned: Option<Time>,
    /// The last value of `unlock` that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_unlocked: Option<String>,
    /// When the repository was last verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<Time>,
    /// How that ended: `Whole` or `Damaged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_result: Option<String>,
    /// What is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_message: Option<String>,
    /// How many verifications found it whole: which part of the data is read next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_round: Option<i32>,
    /// How many percent of the data were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_percent: Option<i32>,
}

/// How the last restore ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticDestinationStatus {
    /// `Restored`; `NothingEligible`: no snapshot was eligible; `RepositoryMissing`: there was no
    /// repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_outcome: Option<String>,
    /// The ID of the snapshot that was restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_snapshot: Option<String>,
}
