//! What can end a sync.

use std::io;

use volsync_contract::Retry;
use volsync_mover::{Classified, io_reason};

use crate::ssh;

/// What can end a sync.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The task or the volume is not usable.
    #[error(transparent)]
    Mover(#[from] volsync_mover::Error),
    /// The connection cannot be made or has broken.
    #[error(transparent)]
    Ssh(#[from] ssh::Error),
    /// The peer left in the middle.
    #[error("the connection to the {peer} was lost in the middle of a sync")]
    ConnectionLost {
        /// Which end.
        peer: &'static str,
    },
    /// The peer says what no volsync mover says.
    #[error("the session was ended: {message}")]
    Protocol {
        /// What it said.
        message: String,
    },
    /// The peer gave up.
    #[error("{message}")]
    Peer {
        /// Which end.
        peer: &'static str,
        /// Whether trying again can help.
        transient: bool,
        /// Whether it can help at once.
        at_once: bool,
        /// Its sentence.
        message: String,
        /// Its hint.
        hint: String,
    },
    /// The destination volume cannot take more.
    #[error("{message}")]
    Destination {
        /// Whether trying again can help.
        transient: bool,
        /// Whether it can help at once.
        at_once: bool,
        /// One sentence.
        message: String,
        /// What helps.
        hint: String,
    },
    /// The volume cannot be worked on at all.
    #[error("cannot {what} the volume: {}", io_reason(source))]
    Volume {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Several attempts failed.
    #[error("{last} ({attempts} attempts in {seconds} s)")]
    Attempts {
        /// How many.
        attempts: u32,
        /// In how long.
        seconds: u64,
        /// The last failure.
        last: Box<Self>,
    },
    /// A signal asked for a stop.
    #[error("stopped on request before the sync was complete")]
    Interrupted,
}

impl Error {
    /// Whether another attempt of this very process may go better: the connection failed, not
    /// something at either end.
    pub fn is_worth_another_attempt(&self) -> bool {
        match self {
            Self::Ssh(error) => error.retry() == Retry::Transient,
            Self::ConnectionLost { .. } => true,
            Self::Peer { at_once, .. } | Self::Destination { at_once, .. } => *at_once,
            Self::Mover(_)
            | Self::Protocol { .. }
            | Self::Volume { .. }
            | Self::Attempts { .. }
            | Self::Interrupted => false,
        }
    }
}

impl Classified for Error {
    fn retry(&self) -> Retry {
        match self {
            Self::Mover(error) => error.retry(),
            Self::Ssh(error) => error.retry(),
            Self::Attempts { last, .. } => last.retry(),
            Self::Peer { transient, .. } | Self::Destination { transient, .. } => {
                if *transient {
                    Retry::Transient
                } else {
                    Retry::Permanent
                }
            }
            Self::ConnectionLost { .. } | Self::Volume { .. } | Self::Interrupted => {
                Retry::Transient
            }
            Self::Protocol { .. } => Retry::Permanent,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Mover(error) => error.hint(),
            Self::Ssh(error) => error.hint(),
            Self::Attempts { last, .. } => last.hint(),
            Self::Peer { hint, .. } | Self::Destination { hint, .. } => hint.clone(),
            Self::ConnectionLost { .. } | Self::Interrupted => {
                "what has arrived is kept; the next sync goes on from there".to_owned()
            }
            Self::Protocol { .. } => "both ends must be volsync movers of this version".to_owned(),
            Self::Volume { .. } => "check the volume and the mover's user".to_owned(),
        }
    }
}
