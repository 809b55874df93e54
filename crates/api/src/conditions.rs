//! Condition types, reasons and fixed messages.

/// The one condition type: whether a sync is in progress.
pub const SYNCHRONIZING: &str = "Synchronizing";

/// Reason: a sync is in progress.
pub const SYNC_IN_PROGRESS: &str = "SyncInProgress";

/// Reason: idle until the next scheduled sync.
pub const WAITING_FOR_SCHEDULE: &str = "WaitingForSchedule";

/// Reason: idle until the manual tag changes.
pub const WAITING_FOR_MANUAL: &str = "WaitingForManual";

/// Reason: a sync has completed and its leftovers are being removed.
pub const CLEANING_UP: &str = "CleaningUp";

/// Reason: something failed; the message says what.
pub const ERROR: &str = "Error";

/// Message that goes with [`SYNC_IN_PROGRESS`].
pub const SYNC_IN_PROGRESS_MESSAGE: &str = "Synchronization in-progress";

/// Message that goes with [`WAITING_FOR_SCHEDULE`].
pub const WAITING_FOR_SCHEDULE_MESSAGE: &str = "Waiting for next scheduled synchronization";

/// Message that goes with [`WAITING_FOR_MANUAL`].
pub const WAITING_FOR_MANUAL_MESSAGE: &str = "Waiting for manual trigger";

/// Message that goes with [`CLEANING_UP`].
pub const CLEANING_UP_MESSAGE: &str = "Cleaning up";

/// Error message: more than one method was given.
pub const MULTIPLE_METHODS_MESSAGE: &str = "only one replication method can be supplied";
