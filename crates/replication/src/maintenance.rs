//! `Maintenance`: is a prune or an unlock due, as of the sync's start.

use jiff::{SignedDuration, Timestamp};
use volsync_contract::{Direction, Verify};

use crate::{Method, Replication, Restic, ResticStatus, VerifySchedule};

/// What is done to a repository besides a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintenance {
    /// Whether unused data is pruned after the backup.
    pub prune: bool,
    /// The text that asks for an unlock before the backup, when it was not acted on yet.
    pub unlock: Option<String>,
    /// How the repository is verified after the backup.
    pub verify: Option<Verify>,
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
                verify: verify_due(restic, replication.created, start, status),
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
        if restic.verify.is_none() {
            status.verification = None;
        }
    }
}

/// Damage is looked for again with every sync, in the same part, until it is gone.
fn verify_due(
    restic: &Restic,
    created: Option<Timestamp>,
    start: Timestamp,
    status: &ResticStatus,
) -> Option<Verify> {
    let VerifySchedule { interval_days, percent } = restic.verify?;
    let last = status.verification.as_ref();
    let is_damaged = last.is_some_and(|last| last.damage.is_some());
    let since = last.map(|last| last.at).or(created);
    let round = last.map_or(0, |last| last.round);
    // Where it is damaged, the part is read in which that was found.
    let percent = last.filter(|_| is_damaged).and_then(|last| last.percent).unwrap_or(percent);
    (is_damaged || is_due(interval_days, since, start)).then_some(Verify { percent, round })
}

fn is_due(interval_days: u32, since: Option<Timestamp>, start: Timestamp) -> bool {
    let interval = SignedDuration::from_hours(24 * i64::from(interval_days));
    since.is_none_or(|since| since.checked_add(interval).is_ok_and(|due| start >= due))
}

fn prune_due(
    restic: &Restic,
    created: Option<Timestamp>,
    start: Timestamp,
    status: &ResticStatus,
) -> bool {
    is_due(restic.prune_interval_days, status.last_pruned.or(created), start)
}
