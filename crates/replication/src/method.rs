//! `Method`: how data is moved, with what the user chose for it.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// How data is moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// rsync over SSH.
    Rsync(Rsync),
    /// rsync over TLS with a pre-shared key.
    RsyncTls(RsyncTls),
    /// An object store, configured as for rclone.
    ObjectStore(ObjectStore),
    /// A restic repository.
    Restic(Restic),
    /// A Syncthing device.
    Syncthing(Syncthing),
    /// Somebody else replicates; we leave it alone.
    External(External),
}

impl Method {
    /// The name users, metrics and messages know it by; `external` for somebody else's.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rsync(_) => "rsync",
            Self::RsyncTls(_) => "rsync-tls",
            Self::ObjectStore(_) => "rclone",
            Self::Restic(_) => "restic",
            Self::Syncthing(_) => "syncthing",
            Self::External(_) => "external",
        }
    }

    /// Its section of the manifest's spec.
    pub const fn section(&self) -> &'static str {
        match self {
            Self::Rsync(_) => "rsync",
            Self::RsyncTls(_) => "rsyncTLS",
            Self::ObjectStore(_) => "rclone",
            Self::Restic(_) => "restic",
            Self::Syncthing(_) => "syncthing",
            Self::External(_) => "external",
        }
    }
}

/// rsync over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rsync {
    /// The Secret with the keys; `None`: they are generated.
    pub ssh_keys: Option<String>,
    /// Source: where the destination listens. Destination: if set, nothing is published.
    pub address: Option<String>,
    /// The port of the destination, or of its Service; `None`: 22.
    pub port: Option<u16>,
    /// The type of the Service; `None`: ClusterIP.
    pub service_type: Option<String>,
    /// Annotations of the Service; `None`: the default one.
    pub service_annotations: Option<BTreeMap<String, String>>,
}

impl Rsync {
    /// The port used when the manifest names none.
    pub const DEFAULT_PORT: u16 = 22;

    /// The port of the destination.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(Self::DEFAULT_PORT)
    }
}

/// rsync over TLS with a pre-shared key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RsyncTls {
    /// The Secret with the key; `None`: it is generated.
    pub key_secret: Option<String>,
    /// Source only: where the destination listens.
    pub address: Option<String>,
    /// Source only: the port of the destination; `None`: 8000.
    pub port: Option<u16>,
    /// Destination only: the type of the Service; `None`: ClusterIP.
    pub service_type: Option<String>,
    /// Destination only: annotations of the Service; `None`: the default one.
    pub service_annotations: Option<BTreeMap<String, String>>,
}

impl RsyncTls {
    /// The port used when the manifest names none.
    pub const DEFAULT_PORT: u16 = 8000;

    /// The port of the destination.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(Self::DEFAULT_PORT)
    }
}

/// An object store, configured as for rclone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStore {
    /// The Secret with `rclone.conf`.
    pub config_secret: String,
    /// The section of that file.
    pub section: String,
    /// Bucket and path.
    pub path: String,
}

/// A restic repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restic {
    /// The Secret that describes the repository.
    pub repository: String,
    /// Source: days between two prunes.
    pub prune_interval_days: u32,
    /// Source: unlock the repository, once for each distinct text; empty: never.
    pub unlock: String,
    /// Source: which snapshots are kept.
    pub retain: Retain,
    /// Destination: how many eligible snapshots to skip.
    pub previous: u32,
    /// Destination: only snapshots up to this time are eligible.
    pub restore_as_of: Option<Timestamp>,
    /// Destination: delete what the snapshot does not have.
    pub enable_file_deletion: bool,
}

impl Restic {
    /// Days between two prunes when the manifest names none.
    pub const DEFAULT_PRUNE_INTERVAL_DAYS: u32 = 7;
}

/// Which snapshots are kept. All unset: the last one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retain {
    /// The last so many of an hour each.
    pub hourly: Option<i32>,
    /// The last so many of a day each.
    pub daily: Option<i32>,
    /// The last so many of a week each.
    pub weekly: Option<i32>,
    /// The last so many of a month each.
    pub monthly: Option<i32>,
    /// The last so many of a year each.
    pub yearly: Option<i32>,
    /// All within this duration of the newest.
    pub within: Option<String>,
    /// The last so many.
    pub last: Option<String>,
}

/// A Syncthing device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Syncthing {
    /// The devices to connect to.
    pub peers: Vec<Peer>,
}

/// A Syncthing device to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its device ID.
    pub id: String,
    /// Where it is, such as `tcp://host:22000`.
    pub address: String,
    /// Whether it may introduce us to others.
    pub introducer: bool,
}

/// Somebody else replicates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct External {
    /// Who.
    pub provider: String,
    /// What they were told.
    pub parameters: BTreeMap<String, String>,
}
