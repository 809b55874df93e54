//! What can be wrong before a mover has begun, and how an I/O error reads.

use std::io;
use std::path::PathBuf;

use volsync_contract::{Retry, TaskError};

/// What can be wrong before a mover has begun.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The volume cannot be opened.
    #[error("the volume {} cannot be opened: {}", path.display(), io_reason(source))]
    OpenVolume {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// An error that knows whether trying again can help, and what else might.
pub trait Classified: std::error::Error {
    /// Whether trying again can help.
    fn retry(&self) -> Retry;

    /// What helps, or nothing.
    fn hint(&self) -> String {
        String::new()
    }
}

impl Classified for Error {
    fn retry(&self) -> Retry {
        match self {
            Self::Task(_) | Self::OpenVolume { .. } => Retry::Permanent,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Task(_) => String::new(),
            Self::OpenVolume { .. } => {
                "is the volume mounted, and may the mover's user enter it?".to_owned()
            }
        }
    }
}

/// An I/O error in people's words, without its number.
pub fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
