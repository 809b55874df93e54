//! `Trigger`: what starts a sync.

use crate::Schedule;

/// What starts a sync. Whatever it is, the first sync starts as soon as the replication exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// At the times of a cron expression.
    Schedule(Schedule),
    /// When this tag differs from the last one that was synchronized.
    Manual(String),
    /// Again and again, with [`CONTINUOUS_FLOOR`](crate::CONTINUOUS_FLOOR) between two syncs.
    Continuous,
}

impl Trigger {
    /// The tag of a manual trigger.
    pub fn manual_tag(&self) -> Option<&str> {
        match self {
            Self::Manual(tag) => Some(tag),
            Self::Schedule(_) | Self::Continuous => None,
        }
    }
}
