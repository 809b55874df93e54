//! Names of the environment variables that carry a [`Task`](crate::Task).

/// `source` or `destination`.
pub const DIRECTION: &str = "VOLSYNC_DIRECTION";
/// `rsync`; further methods follow with their movers.
pub const METHOD: &str = "VOLSYNC_METHOD";
/// What the messages call this replication, such as `default/photos`.
pub const NAME: &str = "VOLSYNC_NAME";
/// The mounted volume; [`paths::DATA`](crate::paths::DATA) unless set.
pub const DATA: &str = "VOLSYNC_DATA";
/// The directory of the mounted key Secret; [`paths::KEYS`](crate::paths::KEYS) unless set.
pub const KEYS: &str = "VOLSYNC_KEYS";
/// Where the report is written; [`paths::REPORT`](crate::paths::REPORT) unless set.
pub const REPORT: &str = "VOLSYNC_REPORT";
/// `json`: write one [`Event`](crate::Event) a line to standard output.
pub const EVENTS: &str = "VOLSYNC_EVENTS";
/// `1`: attributes that could not be kept make the sync incomplete.
pub const STRICT_ATTRIBUTES: &str = "VOLSYNC_STRICT_ATTRIBUTES";
/// Where a destination listens, as `ADDRESS:PORT`; port 0 means any free port.
pub const LISTEN: &str = "VOLSYNC_LISTEN";
/// The host name or address of the destination (upstream's name).
pub const DESTINATION_ADDRESS: &str = "DESTINATION_ADDRESS";
/// The port of the destination, 22 unless set (upstream's name).
pub const DESTINATION_PORT: &str = "DESTINATION_PORT";
/// `1` when the mover has been given privileges, `0` when not (upstream's name).
pub const PRIVILEGED_MOVER: &str = "PRIVILEGED_MOVER";
