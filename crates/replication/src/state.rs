//! `State`: where a replication stands, read from its status.

use crate::Status;

/// Where a replication stands. It is never stored: [`State::of`] is the only definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No sync has succeeded yet and none is under way.
    Initial,
    /// A sync is under way.
    Synchronizing,
    /// The last sync is over: what it left is removed, then the replication rests until it is due.
    CleaningUp,
}

impl State {
    /// The state that `status` describes.
    pub const fn of(status: &Status) -> Self {
        match (status.last_sync_start_time, status.last_sync_time) {
            (Some(_), _) => Self::Synchronizing,
            (None, Some(_)) => Self::CleaningUp,
            (None, None) => Self::Initial,
        }
    }
}
