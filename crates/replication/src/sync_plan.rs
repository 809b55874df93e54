//! `SyncPlan`: everything one sync needs, fixed at its start.

use std::path::PathBuf;

use jiff::Timestamp;
use volsync_api::v1alpha1::MoverConfig;
use volsync_contract::{DEFAULT_HOST, Direction, ResticDestination, ResticSource};

use crate::{ImageReference, Maintenance, Method, Replication, ResticStatus, Run, Status, Volume};

/// Everything one sync needs.
///
/// It depends on the manifest and on when the sync started, and not on the time at which it is
/// looked at, so it does not change while the sync runs unless the manifest does.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncPlan {
    /// Namespace of the replication.
    pub namespace: String,
    /// Name of the replication.
    pub name: String,
    /// Which end this is.
    pub direction: Direction,
    /// When the sync started: `lastSyncStartTime`.
    pub start: Timestamp,
    /// The manual tag this sync answers to, if a mover is started now. A mover already started
    /// answers to the tag in its own [`Run`].
    pub manual_tag: Option<String>,
    /// The volume.
    pub volume: Volume,
    /// How data is moved.
    pub method: Method,
    /// How the user wants the mover's pod to be.
    pub pod: MoverConfig,
    /// What else is done to the repository.
    pub maintenance: Maintenance,
}

impl SyncPlan {
    /// The plan of the sync of `replication` that started at `start`. `restic` is what was recorded
    /// before that start, and does not change during the sync.
    pub fn new(replication: &Replication, start: Timestamp, restic: &ResticStatus) -> Self {
        Self {
            namespace: replication.namespace.clone(),
            name: replication.name.clone(),
            direction: replication.direction,
            start,
            manual_tag: replication.trigger.manual_tag().map(str::to_owned),
            volume: replication.volume.clone(),
            method: replication.method.clone(),
            pod: replication.pod.clone(),
            maintenance: Maintenance::due(replication, start, restic),
        }
    }

    /// What a restic mover is told, with its cache in this directory; `None` for another method. No other
    /// replication has the `identity`, as of [`ResticSource::replication`].
    pub fn restic(&self, identity: String, cache: PathBuf) -> Option<volsync_contract::Method> {
        let Method::Restic(restic) = &self.method else { return None };
        Some(match self.direction {
            Direction::Source => volsync_contract::Method::ResticSource(ResticSource {
                cache,
                replication: identity,
                host: restic.host.clone().unwrap_or_else(|| DEFAULT_HOST.to_owned()),
                path: restic.path.clone(),
                tags: restic.tags.clone(),
                exclude: restic.exclude.clone(),
                exclude_caches: restic.exclude_caches,
                unlock: self.maintenance.unlock.is_some(),
                prune: self.maintenance.prune,
                forget: restic.retain.options(),
                verify: self.maintenance.verify,
                bandwidth: restic.bandwidth,
            }),
            Direction::Destination => {
                volsync_contract::Method::ResticDestination(ResticDestination {
                    cache,
                    replication: identity,
                    host: restic.host.clone(),
                    path: restic.path.clone(),
                    snapshot: restic.snapshot.clone(),
                    // Whoever names a snapshot has seen it.
                    required: restic.require_snapshot || restic.snapshot.is_some(),
                    restore_as_of: restic
                        .restore_as_of
                        .map(|at| at.to_string())
                        .unwrap_or_default(),
                    previous: restic.previous,
                    delete: restic.enable_file_deletion,
                    bandwidth: restic.bandwidth,
                })
            }
        })
    }

    /// A number for all that a mover is told: two plans of one sync that differ in it need a mover
    /// each. The manual tag does not count, as no mover is told of it.
    pub fn fingerprint(&self) -> u32 {
        let Self {
            namespace,
            name,
            direction,
            start: _,
            manual_tag: _,
            volume,
            method,
            pod,
            maintenance,
        } = self;
        // Whether a repository is verified besides is no reason to begin anew.
        let Maintenance { prune, unlock, verify: _ } = maintenance;
        let told = format!(
            "{namespace}/{name} {direction:?} {volume:?} {method:?} {pod:?} \
             Maintenance {{ prune: {prune:?}, unlock: {unlock:?} }}"
        );
        crate::names::crc32(told.as_bytes())
    }

    /// What to keep with a mover started for this plan.
    pub fn run(&self) -> Run {
        Run {
            sync_start: Some(self.start),
            manual_tag: self.manual_tag.clone(),
            fingerprint: Some(self.fingerprint()),
        }
    }
}

/// What to remove after a sync: its movers, running or ended, its temporary volumes, and every
/// image made for this replication but the one to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanUpPlan {
    /// Namespace of the replication.
    pub namespace: String,
    /// Name of the replication.
    pub name: String,
    /// Which end this is.
    pub direction: Direction,
    /// The image that stays: `latestImage`.
    pub keep_image: Option<ImageReference>,
    /// Whether a provisioned destination volume goes too.
    pub remove_volume: bool,
}

impl CleanUpPlan {
    /// What to remove when `replication` stands as `status` says.
    pub fn new(replication: &Replication, status: &Status) -> Self {
        let remove_volume = match &replication.volume {
            Volume::Destination { claim, cleanup, .. } => *cleanup && claim.is_none(),
            Volume::Source { .. } | Volume::External => false,
        };
        Self {
            namespace: replication.namespace.clone(),
            name: replication.name.clone(),
            direction: replication.direction,
            keep_image: status.latest_image.clone(),
            remove_volume,
        }
    }
}
