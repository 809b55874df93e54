//! `Maintenance`: is a prune or an unlock due, as of the sync's start.

use jiff::{SignedDuration, Timestamp};
use volsync_contract::Direction;

use crate::{Method, Replication, Restic, ResticStatus};

/// What is done to a repository besides a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintenance {
    /// Whether unused data is pruned after the backup.
    pub prune: bool,
    /// The text that asks for an unlock before the backup, when it was not acted on yet.
    pub unlock: Option<String>,
}

impl Maintenance {
    /// What was due at `start`. The first prune comes one interval after the manifest's creation,
    /// or, where nobody recorded that, with the first sync.
    pub fn due(replication: &Replication, start: Timestamp, status: &ResticStatus) -> Self {
        match &replication.method {
            Method::Restic(restic) if replication.direction == Direction::Source => Self {
                prune: prune_due(restic, replication.created, start, status),
                unlock: Some(restic.unlock.clone())
                    .filter(|text| !text.is_empty() && status.last_unlocked.as_ref() != Some(text)),
            },
            Method::Restic(_)
            | Method::Rsync(_)
            | Method::RsyncTls(_)
            | Method::ObjectStore(_)
            | Method::Syncthing(_)
            | Method::External(_) => Self::default(),
        }
    }

    /// What the repository's status says once a sync that did this has succeeded at `end`.
    pub fn record(&self, replication: &Replication, end: Timestamp, status: &mut ResticStatus) {
        let Method::Restic(restic) = &replication.method else { return };
        if replication.direction != Direction::Source {
            return;
        }
        if self.prune {
            status.last_pruned = Some(end);
        }
        if let Some(text) = &self.unlock {
            status.last_unlocked = Some(text.clone());
        } else if restic.unlock.is_empty() {
            status.last_unlocked = None;
        }
    }
}

fn prune_due(
    restic: &Restic,
    created: Option<Timestamp>,
    start: Timestamp,
    status: &ResticStatus,
) -> bool {
    let interval = SignedDuration::from_hours(24 * i64::from(restic.prune_interval_days));
    let since = status.last_pruned.or(created);
    since.is_none_or(|since| since.checked_add(interval).is_ok_and(|due| start >= due))
}
