//! `Status`: what was recorded of a replication, and the way from and to both kinds' status.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use volsync_api::v1alpha1::{MoverStatus, ReplicationDestinationStatus, ReplicationSourceStatus};

use volsync_contract::RestoreOutcome;

use crate::GoDuration;

/// What was recorded of a replication: the fields both kinds have in common, the image of a
/// destination and the repository of a source. What a method publishes beside them (addresses,
/// names of generated Secrets) is the shell's to write; it passes through untouched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// End of the last successful sync.
    pub last_sync_time: Option<Timestamp>,
    /// Start of the sync under way; `None` between syncs.
    pub last_sync_start_time: Option<Timestamp>,
    /// How long the last successful sync took.
    pub last_sync_duration: Option<GoDuration>,
    /// The next slot of a schedule; `None` for other triggers.
    pub next_sync_time: Option<Timestamp>,
    /// The tag of the last successful manual sync.
    pub last_manual_sync: Option<String>,
    /// How the last mover ended; `None` before the first.
    pub latest_mover_status: Option<MoverSummary>,
    /// Destination only: the last good image.
    pub latest_image: Option<ImageReference>,
    /// What was done with a restic repository.
    pub restic: ResticStatus,
    /// `Synchronizing`, and whatever others put there.
    pub conditions: Vec<Condition>,
}

/// How a mover ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MoverSummary {
    /// `None` when no mover has ended yet.
    pub result: Option<MoverResult>,
    /// What it said, in short.
    pub logs: String,
}

/// Whether a mover did what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoverResult {
    /// It moved everything.
    Successful,
    /// It did not.
    Failed,
}

impl MoverResult {
    /// As the status spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Successful => "Successful",
            Self::Failed => "Failed",
        }
    }
}

/// An image of a destination: a volume or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// `snapshot.storage.k8s.io` for a snapshot, empty for a volume.
    pub api_group: String,
    /// `VolumeSnapshot` or `PersistentVolumeClaim`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl ImageReference {
    /// The volume itself is the image.
    pub fn claim(name: impl Into<String>) -> Self {
        Self {
            api_group: String::new(),
            kind: "PersistentVolumeClaim".to_owned(),
            name: name.into(),
        }
    }

    /// A snapshot of the volume is the image.
    pub fn snapshot(name: impl Into<String>) -> Self {
        Self {
            api_group: "snapshot.storage.k8s.io".to_owned(),
            kind: "VolumeSnapshot".to_owned(),
            name: name.into(),
        }
    }

    /// As a Kubernetes reference; the group is present even when it is empty.
    pub fn to_reference(&self) -> TypedLocalObjectReference {
        TypedLocalObjectReference {
            api_group: Some(self.api_group.clone()),
            kind: self.kind.clone(),
            name: self.name.clone(),
        }
    }

    /// From a Kubernetes reference.
    pub fn from_reference(reference: &TypedLocalObjectReference) -> Self {
        Self {
            api_group: reference.api_group.clone().unwrap_or_default(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
        }
    }
}

/// What was done with a restic repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResticStatus {
    /// Source: end of the last sync that pruned.
    pub last_pruned: Option<Timestamp>,
    /// Source: the last text that asked for an unlock and was acted on.
    pub last_unlocked: Option<String>,
    /// Source: the last verification.
    pub verification: Option<Verification>,
    /// Destination: how the last restore ended.
    pub restore: Option<RestoreOutcome>,
    /// Destination: the ID of the snapshot that it restored.
    pub restored: Option<String>,
}

/// What a verification of a repository found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// End of the sync that verified.
    pub at: Timestamp,
    /// How many verifications found it whole: which part is read next.
    pub round: u32,
    /// How many percent of the data were read, where that is known.
    pub percent: Option<u8>,
    /// What is damaged; `None`: nothing was found to be.
    pub damage: Option<String>,
}

const WHOLE: &str = "Whole";
const DAMAGED: &str = "Damaged";

impl Status {
    /// How many attempts of the sync under way have failed. The words for the last of them begin with
    /// its number, so that the count outlives the movers themselves.
    pub fn failed_attempts(&self) -> u32 {
        let last = self.latest_mover_status.as_ref().filter(|last| {
            self.last_sync_start_time.is_some() && last.result == Some(MoverResult::Failed)
        });
        let number = last.and_then(|last| {
            let (number, _) = last.logs.strip_prefix(ATTEMPT)?.split_once(':')?;
            number.parse().ok()
        });
        number.unwrap_or(0)
    }

    /// What a source's status says.
    pub fn from_source(status: &ReplicationSourceStatus) -> Self {
        let restic = status.restic.clone().unwrap_or_default();
        Self {
            last_sync_time: time_of(status.last_sync_time.as_ref()),
            last_sync_start_time: time_of(status.last_sync_start_time.as_ref()),
            last_sync_duration: duration_of(status.last_sync_duration.as_deref()),
            next_sync_time: time_of(status.next_sync_time.as_ref()),
            last_manual_sync: tag_of(status.last_manual_sync.as_ref()),
            latest_mover_status: status.latest_mover_status.as_ref().map(MoverSummary::from_api),
            latest_image: None,
            restic: ResticStatus {
                verification: time_of(restic.last_verified.as_ref()).map(|at| Verification {
                    at,
                    percent: restic.verify_percent.and_then(|n| n.try_into().ok()),
                    round: restic.verify_round.and_then(|n| n.try_into().ok()).unwrap_or(0),
                    damage: (restic.verify_result.as_deref() == Some(DAMAGED))
                        .then(|| restic.verify_message.unwrap_or_default()),
                }),
                last_pruned: time_of(restic.last_pruned.as_ref()),
                last_unlocked: restic.last_unlocked.filter(|text| !text.is_empty()),
                ..ResticStatus::default()
            },
            conditions: status.conditions.clone().unwrap_or_default(),
        }
    }

    /// What a destination's status says.
    pub fn from_destination(status: &ReplicationDestinationStatus) -> Self {
        let restic = status.restic.clone().unwrap_or_default();
        let outcome = restic.restore_outcome.as_deref();
        Self {
            last_sync_time: time_of(status.last_sync_time.as_ref()),
            last_sync_start_time: time_of(status.last_sync_start_time.as_ref()),
            last_sync_duration: duration_of(status.last_sync_duration.as_deref()),
            next_sync_time: time_of(status.next_sync_time.as_ref()),
            last_manual_sync: tag_of(status.last_manual_sync.as_ref()),
            latest_mover_status: status.latest_mover_status.as_ref().map(MoverSummary::from_api),
            latest_image: status.latest_image.as_ref().map(ImageReference::from_reference),
            restic: ResticStatus {
                restore: outcome.and_then(|outcome| {
                    RestoreOutcome::ALL.into_iter().find(|one| one.as_str() == outcome)
                }),
                restored: restic.restored_snapshot,
                ..ResticStatus::default()
            },
            conditions: status.conditions.clone().unwrap_or_default(),
        }
    }

    /// Writes this into a source's status; what is not in here stays as it is.
    pub fn write_to_source(&self, status: &mut ReplicationSourceStatus) {
        let Self {
            last_sync_time,
            last_sync_start_time,
            last_sync_duration,
            next_sync_time,
            last_manual_sync,
            latest_mover_status,
            latest_image: _,
            restic,
            conditions,
        } = self;
        status.last_sync_time = last_sync_time.map(Time);
        status.last_sync_start_time = last_sync_start_time.map(Time);
        status.last_sync_duration = last_sync_duration.map(|duration| duration.to_string());
        status.next_sync_time = next_sync_time.map(Time);
        status.last_manual_sync = last_manual_sync.clone();
        status.latest_mover_status = latest_mover_status.as_ref().map(MoverSummary::to_api);
        status.conditions = (!conditions.is_empty()).then(|| conditions.clone());
        if status.restic.is_some() || *restic != ResticStatus::default() {
            let written = status.restic.get_or_insert_default();
            written.last_pruned = restic.last_pruned.map(Time);
            written.last_unlocked = restic.last_unlocked.clone();
            let last = restic.verification.as_ref();
            written.last_verified = last.map(|last| Time(last.at));
            written.verify_round = last.map(|last| i32::try_from(last.round).unwrap_or(0));
            written.verify_percent = last.and_then(|last| last.percent).map(i32::from);
            written.verify_result = last.map(|last| match last.damage {
                Some(_) => DAMAGED.to_owned(),
                None => WHOLE.to_owned(),
            });
            written.verify_message = last.and_then(|last| last.damage.clone());
        }
    }

    /// Writes this into a destination's status; what is not in here stays as it is.
    pub fn write_to_destination(&self, status: &mut ReplicationDestinationStatus) {
        let Self {
            last_sync_time,
            last_sync_start_time,
            last_sync_duration,
            next_sync_time,
            last_manual_sync,
            latest_mover_status,
            latest_image,
            restic,
            conditions,
        } = self;
        status.last_sync_time = last_sync_time.map(Time);
        status.last_sync_start_time = last_sync_start_time.map(Time);
        status.last_sync_duration = last_sync_duration.map(|duration| duration.to_string());
        status.next_sync_time = next_sync_time.map(Time);
        status.last_manual_sync = last_manual_sync.clone();
        status.latest_mover_status = latest_mover_status.as_ref().map(MoverSummary::to_api);
        status.latest_image = latest_image.as_ref().map(ImageReference::to_reference);
        if status.restic.is_some() || restic.restore.is_some() {
            let written = status.restic.get_or_insert_default();
            written.restore_outcome = restic.restore.map(|outcome| outcome.as_str().to_owned());
            written.restored_snapshot = restic.restored.clone();
        }
        status.conditions = (!conditions.is_empty()).then(|| conditions.clone());
    }
}

/// What the words for a failed attempt begin with, before its number.
const ATTEMPT: &str = "attempt ";

impl MoverSummary {
    /// An attempt that failed, with as much of what was said as is to be kept.
    pub(crate) fn failed_attempt(attempt: u32, said: &str, limit: Option<usize>) -> Self {
        let logs = format!("{ATTEMPT}{attempt}: {}", cut(said, limit));
        Self { result: Some(MoverResult::Failed), logs }
    }

    /// How a mover ended, with as much of what it said as is to be kept.
    pub(crate) fn new(result: MoverResult, said: &str, limit: Option<usize>) -> Self {
        Self { result: Some(result), logs: cut(said, limit).to_owned() }
    }

    fn from_api(status: &MoverStatus) -> Self {
        let result = status.result.map(|result| match result {
            volsync_api::v1alpha1::MoverResult::Successful => MoverResult::Successful,
            volsync_api::v1alpha1::MoverResult::Failed => MoverResult::Failed,
        });
        Self { result, logs: status.logs.clone().unwrap_or_default() }
    }

    fn to_api(&self) -> MoverStatus {
        let result = self.result.map(|result| match result {
            MoverResult::Successful => volsync_api::v1alpha1::MoverResult::Successful,
            MoverResult::Failed => volsync_api::v1alpha1::MoverResult::Failed,
        });
        MoverStatus { result, logs: Some(self.logs.clone()).filter(|logs| !logs.is_empty()) }
    }
}

fn cut(text: &str, limit: Option<usize>) -> &str {
    limit.map_or(text, |limit| text.get(..text.floor_char_boundary(limit)).unwrap_or(text))
}

fn time_of(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

/// Text that is not a duration was not written by us and is forgotten.
fn duration_of(text: Option<&str>) -> Option<GoDuration> {
    text?.parse().ok()
}

fn tag_of(tag: Option<&String>) -> Option<String> {
    tag.filter(|tag| !tag.is_empty()).cloned()
}
