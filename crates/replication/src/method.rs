//! `Method`: how data is moved, with what the user chose for it.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use jiff::Timestamp;
use volsync_volume::CacheOptions;

/// How data is moved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a replication has one, and none are kept in numbers")]
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
    /// Source: the host that snapshots are recorded under; `None`: the usual one. Destination: the only
    /// one of which they are eligible; `None`: every one.
    pub host: Option<String>,
    /// The path that snapshots are recorded under.
    pub path: String,
    /// Source: the tags of new snapshots.
    pub tags: Vec<String>,
    /// Source: patterns of what is not backed up.
    pub exclude: Vec<String>,
    /// Source: whether what is in tagged cache directories is left out.
    pub exclude_caches: bool,
    /// Source: how often the repository is verified, and how; `None`: never.
    pub verify: Option<VerifySchedule>,
    /// Destination: how many eligible snapshots to skip.
    pub previous: u32,
    /// Destination: only snapshots up to this time are eligible.
    pub restore_as_of: Option<Timestamp>,
    /// Destination: this snapshot, by its ID or the beginning of it.
    pub snapshot: Option<String>,
    /// Destination: fail when nothing can be restored.
    pub require_snapshot: bool,
    /// Destination: delete what the snapshot does not have.
    pub enable_file_deletion: bool,
    /// The certificate authority of the repository; `None`: those of the mover's image.
    pub custom_ca: Option<CaBundle>,
    /// How many bytes a second may travel to and from the repository; `None`: as many as can.
    pub bandwidth: Option<NonZeroU64>,
    /// The volume of the mover's cache.
    pub cache: CacheOptions,
    /// Destination: whether that volume is removed after each successful sync.
    pub cleanup_cache: bool,
}

/// How often a repository is verified, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifySchedule {
    /// Days between two verifications.
    pub interval_days: u32,
    /// How many percent of the data are read, 0 to 100.
    pub percent: u8,
}

impl Default for VerifySchedule {
    fn default() -> Self {
        Self { interval_days: 7, percent: 10 }
    }
}

impl Restic {
    /// Days between two prunes when the manifest names none.
    pub const DEFAULT_PRUNE_INTERVAL_DAYS: u32 = 7;
}

/// Where certificates of authorities are: one key, in PEM, of an object beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaBundle {
    /// Of a Secret.
    Secret {
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// Of a ConfigMap.
    ConfigMap {
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
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

impl Retain {
    /// In the words of `restic forget`.
    pub fn options(&self) -> String {
        let Self { hourly, daily, weekly, monthly, yearly, within, last } = self;
        let numbers = [
            ("hourly", hourly),
            ("daily", daily),
            ("weekly", weekly),
            ("monthly", monthly),
            ("yearly", yearly),
        ];
        let numbers = numbers.map(|(name, number)| (name, number.map(|number| number.to_string())));
        let texts = [("within", within.clone()), ("last", last.clone())];
        let given = numbers.into_iter().chain(texts).filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some(format!("--keep-{name} {value}"))
        });
        let options = given.collect::<Vec<_>>().join(" ");
        if options.is_empty() { "--keep-last 1".to_owned() } else { options }
    }
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
