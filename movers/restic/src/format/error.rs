//! What is wrong with a repository file, or with getting it.

use volsync_contract::Retry;
use volsync_mover::Classified;

use super::id::Id;

/// Why a repository file or a blob cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] volsync_bucket::Error),
    /// A file or a blob cannot be decrypted: it was changed or cut, or belongs to another key.
    #[error("{what} is damaged: it cannot be decrypted")]
    Decrypt {
        /// The file or blob.
        what: String,
    },
    /// A file or a blob was decrypted, and is not what it should be.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The file or blob.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A blob that is needed is in no index.
    #[error("{kind} blob {id} is in no index: a pack or an index file is missing")]
    MissingBlob {
        /// `data` or `tree`.
        kind: &'static str,
        /// Which one.
        id: Id,
    },
    /// The cryptographic library refused.
    #[error("the cryptographic library failed")]
    Crypto,
    /// The compression library refused.
    #[error("compression failed: {0}")]
    Compress(std::io::Error),
    /// The volume cannot be read at all.
    #[error("the volume cannot be read: {}", volsync_mover::io_reason(.0))]
    ReadVolume(std::io::Error),
    /// The volume cannot be written at all.
    #[error("{path} cannot be written: {}", volsync_mover::io_reason(.source))]
    WriteVolume {
        /// Where.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// The mover was asked to stop.
    #[error("stopped on request")]
    Stopped,
}

impl Error {
    /// The trouble of a store that may pass, if it is that.
    pub(crate) fn of_a_store_in_trouble(&self) -> Option<volsync_bucket::Error> {
        match self {
            Self::Store(error) if error.is_temporary() => Some(error.clone()),
            _ => None,
        }
    }

    pub(crate) fn damaged(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), why: why.into() }
    }
}

impl Classified for Error {
    fn retry(&self) -> Retry {
        match self {
            Self::Store(error) if error.is_temporary() => Retry::Transient,
            Self::ReadVolume(_) | Self::WriteVolume { .. } | Self::Thread(_) | Self::Stopped => {
                Retry::Transient
            }
            Self::Store(_)
            | Self::Decrypt { .. }
            | Self::Damaged { .. }
            | Self::MissingBlob { .. }
            | Self::Crypto
            | Self::Compress(_) => Retry::Permanent,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Store(error) => error.hint().to_owned(),
            Self::Decrypt { .. } | Self::Damaged { .. } | Self::MissingBlob { .. } => {
                "`restic check --read-data` lists what is damaged, `restic repair` mends what can be"
                    .to_owned()
            }
            Self::WriteVolume { source, .. }
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                "the volume is full".to_owned()
            }
            Self::Crypto
            | Self::Compress(_)
            | Self::ReadVolume(_)
            | Self::WriteVolume { .. }
            | Self::Thread(_)
            | Self::Stopped => String::new(),
        }
    }
}
