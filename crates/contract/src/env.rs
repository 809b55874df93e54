//! Names of the environment variables that carry a [`Task`](crate::Task).

/// `source` or `destination`.
pub const DIRECTION: &str = "VOLSYNC_DIRECTION";
/// `rsync` or `restic`.
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
/// The directory of a restic mover's cache; [`paths::CACHE`](crate::paths::CACHE) unless set
/// (upstream's name).
pub const RESTIC_CACHE: &str = "RESTIC_CACHE_DIR";
/// `1`: locks of a repository that nobody holds any more are removed before the backup.
pub const UNLOCK: &str = "VOLSYNC_UNLOCK";
/// `1`: unused data of a repository is removed after the backup.
pub const PRUNE: &str = "VOLSYNC_PRUNE";
/// Which snapshots are kept, as options of `restic forget` (upstream's name).
pub const FORGET_OPTIONS: &str = "FORGET_OPTIONS";
/// Only snapshots up to this time are restored (upstream's name).
pub const RESTORE_AS_OF: &str = "RESTORE_AS_OF";
/// How many eligible snapshots are skipped (upstream's name).
pub const SELECT_PREVIOUS: &str = "SELECT_PREVIOUS";
/// `--delete`: what the snapshot does not have is deleted (upstream's name).
pub const RESTORE_OPTIONS: &str = "RESTORE_OPTIONS";
/// `1` when the mover has been given privileges, `0` when not (upstream's name).
pub const PRIVILEGED_MOVER: &str = "PRIVILEGED_MOVER";
/// The certificate authority of a repository, in PEM (upstream's name).
pub const CUSTOM_CA: &str = "CUSTOM_CA";
/// Names this replication and no other, everywhere and for all time: locks of a repository that carry
/// it were left by earlier attempts.
pub const REPLICATION: &str = "VOLSYNC_REPLICATION";
/// The host that snapshots are recorded under; restoring, the only one that is eligible.
pub const HOST: &str = "VOLSYNC_HOST";
/// The path that snapshots are recorded under.
pub const PATH: &str = "VOLSYNC_PATH";
/// The tags of a new snapshot, with commas between them.
pub const TAGS: &str = "VOLSYNC_TAGS";
/// What is not backed up: patterns of gitignore, one a line.
pub const EXCLUDE: &str = "VOLSYNC_EXCLUDE";
/// `1`: what is in directories with a `CACHEDIR.TAG` is not backed up.
pub const EXCLUDE_CACHES: &str = "VOLSYNC_EXCLUDE_CACHES";
/// How many percent of a repository's data are read to verify it; unset: it is not verified.
pub const VERIFY_PERCENT: &str = "VOLSYNC_VERIFY_PERCENT";
/// Which of these parts, counted from 0 and around.
pub const VERIFY_ROUND: &str = "VOLSYNC_VERIFY_ROUND";
/// The snapshot to restore, by its ID or the beginning of it.
pub const SNAPSHOT: &str = "VOLSYNC_SNAPSHOT";
/// How many bytes a second may travel between a mover and its repository; unset: as many as can.
pub const BANDWIDTH: &str = "VOLSYNC_BANDWIDTH";
/// `1`: a restore that finds no repository, or no eligible snapshot, fails.
pub const RESTORE_REQUIRED: &str = "VOLSYNC_RESTORE_REQUIRED";
