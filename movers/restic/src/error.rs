//! What can end a backup or a restore.

use volsync_bucket::LocationError;
use volsync_contract::{Retry, TaskError};
use volsync_mover::Classified;

use crate::format::{self, Id};

/// What can end a backup or a restore.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task or the volume is not usable.
    #[error(transparent)]
    Mover(#[from] volsync_mover::Error),
    /// The task is not one of a restic mover, or lacks something.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The repository's URL cannot be read.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// A field of the manifest has a value that it cannot have.
    #[error("{setting}: {why}")]
    Setting {
        /// The field.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The store or what is in it.
    #[error(transparent)]
    Repository(#[from] format::Error),
    /// No key of the repository opens with the password.
    #[error("the repository at {location} does not open with RESTIC_PASSWORD")]
    WrongPassword {
        /// Where it is.
        location: String,
    },
    /// Parts of a repository are there, and not what describes it.
    #[error("the repository at {location} is damaged: it has {has} and no {lacks}")]
    Torso {
        /// Where it is.
        location: String,
        /// What is there.
        has: &'static str,
        /// What is not.
        lacks: &'static str,
    },
    /// A backup would be backed up itself, a restore would delete what it restores from.
    #[error("the repository {path} is inside the volume itself", path = .path.display())]
    RepositoryInVolume {
        /// Where it is.
        path: std::path::PathBuf,
    },
    /// A backup of the repository itself, which would grow with each.
    #[error("the volume is inside the repository {path}", path = .path.display())]
    VolumeInRepository {
        /// Where the repository is.
        path: std::path::PathBuf,
    },
    /// A restore that must find a repository found none.
    #[error("there is no repository at {location}")]
    RepositoryMissing {
        /// Where it should be.
        location: String,
    },
    /// A restore that must find a snapshot found none.
    #[error("no snapshot in {location} is eligible: {why}")]
    NothingEligible {
        /// Where the repository is.
        location: String,
        /// What was looked for.
        why: String,
    },
    /// The beginning of an ID that several snapshots have.
    #[error("several snapshots have an ID that begins with {id}")]
    AmbiguousSnapshot {
        /// The beginning.
        id: String,
    },
    /// A snapshot whose time cannot be read.
    #[error("snapshot {id} has a time that cannot be read: {time:?}")]
    SnapshotTime {
        /// Which one.
        id: Id,
        /// Its time.
        time: String,
    },
    /// The signal by which restic asks whether a process runs would end this one.
    #[error("SIGHUP cannot be ignored: {source}")]
    IgnoreHangup {
        /// Why.
        source: std::io::Error,
    },
    /// The repository lacks something, or could not be read to its end.
    #[error("the repository is not pruned, and no data was removed: {source}")]
    NotPruned {
        /// What is wrong.
        source: format::Error,
    },
    /// Somebody else works in the repository.
    #[error("the repository is locked {by}")]
    Locked {
        /// By whom, and since when.
        by: String,
    },
    /// The own lock is gone or could not be refreshed.
    #[error("the lock of the repository was lost in the middle of a sync: {why}")]
    LockLost {
        /// How.
        why: String,
    },
    /// A signal asked for a stop.
    #[error("stopped on request before the sync was complete")]
    Interrupted,
}

impl From<volsync_bucket::Error> for Error {
    fn from(error: volsync_bucket::Error) -> Self {
        Self::Repository(error.into())
    }
}

impl Classified for Error {
    fn retry(&self) -> Retry {
        match self {
            Self::Mover(error) => error.retry(),
            Self::Repository(error) | Self::NotPruned { source: error } => error.retry(),
            Self::IgnoreHangup { .. }
            | Self::Locked { .. }
            | Self::LockLost { .. }
            | Self::Interrupted => Retry::Transient,
            Self::Task(_)
            | Self::Location(_)
            | Self::Setting { .. }
            | Self::WrongPassword { .. }
            | Self::Torso { .. }
            | Self::RepositoryMissing { .. }
            | Self::NothingEligible { .. }
            | Self::AmbiguousSnapshot { .. }
            | Self::RepositoryInVolume { .. }
            | Self::VolumeInRepository { .. }
            | Self::SnapshotTime { .. } => Retry::Permanent,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Mover(error) => error.hint(),
            Self::Repository(error) | Self::NotPruned { source: error } => error.hint(),
            Self::WrongPassword { .. } => "is RESTIC_PASSWORD of the repository's Secret the one it was made with?".to_owned(),
            Self::Torso { .. } => "nothing was changed; if this is a repository, restore what it lacks from another copy".to_owned(),
            Self::RepositoryMissing { .. } => "is RESTIC_REPOSITORY right?".to_owned(),
            Self::NothingEligible { .. } => "`restic snapshots` lists what there is".to_owned(),
            Self::RepositoryInVolume { .. } | Self::VolumeInRepository { .. } => "put it into another volume, or onto a server".to_owned(),
            Self::AmbiguousSnapshot { .. } => "give more of the ID".to_owned(),
            Self::Locked { .. } => "it is tried again; a lock whose holder is gone is removed half an hour after its last sign of life, or at once by restic unlock --remove-all".to_owned(),
            Self::LockLost { .. } | Self::Interrupted => "what was uploaded is kept; the next sync goes on from there".to_owned(),
            Self::Task(_) | Self::Location(_) | Self::Setting { .. } | Self::IgnoreHangup { .. } | Self::SnapshotTime { .. } => String::new(),
        }
    }
}
