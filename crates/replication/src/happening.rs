//! `Happening`: what happened, once, for events, logs and metrics alike.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use volsync_contract::{Counts, Direction, RestoreOutcome};

/// What happened. `Display` is the sentence for events and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A sync is under way from now on.
    SyncStarted {
        /// Which end this is.
        direction: Direction,
        /// The manual tag it answers to.
        manual_tag: Option<String>,
    },
    /// A sync succeeded.
    SyncCompleted {
        /// From its start to its end.
        duration: SignedDuration,
        /// What its mover counted.
        counts: Counts,
        /// The same in words.
        in_words: String,
    },
    /// A restore succeeded that found nothing to restore.
    NothingRestored {
        /// What was missing.
        outcome: RestoreOutcome,
    },
    /// A verification found a repository damaged.
    RepositoryDamaged {
        /// What is damaged.
        message: String,
    },
    /// A scheduled sync ended without having moved everything.
    SyncIncomplete {
        /// What was left out, and why.
        message: String,
        /// The next slot, if there is one.
        next: Option<Timestamp>,
    },
    /// A mover failed and gets another attempt.
    MoverFailed {
        /// Which attempt this was, from 1.
        attempt: u32,
        /// Why.
        message: String,
        /// When the next attempt starts.
        next: Timestamp,
    },
    /// The sync that just succeeded ended after the start of the slot following its own.
    IntervalMissed {
        /// When it should have ended.
        deadline: Timestamp,
    },
    /// A sync is due or under way and cannot go on.
    Blocked {
        /// Why.
        message: String,
    },
}

/// The type of a Kubernetes event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing to worry about.
    Normal,
    /// Somebody may have to look.
    Warning,
}

impl Happening {
    /// Whether it should worry anybody.
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::SyncStarted { .. } | Self::SyncCompleted { .. } => EventKind::Normal,
            Self::NothingRestored { .. }
            | Self::RepositoryDamaged { .. }
            | Self::SyncIncomplete { .. }
            | Self::MoverFailed { .. }
            | Self::IntervalMissed { .. }
            | Self::Blocked { .. } => EventKind::Warning,
        }
    }

    /// The event's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::SyncStarted { .. } => "TransferStarted",
            Self::SyncCompleted { .. } => "TransferCompleted",
            Self::NothingRestored { .. } => "NothingRestored",
            Self::RepositoryDamaged { .. } => "RepositoryDamaged",
            Self::SyncIncomplete { .. } => "TransferIncomplete",
            Self::MoverFailed { .. } => "TransferFailed",
            Self::IntervalMissed { .. } => "IntervalMissed",
            Self::Blocked { .. } => "TransferBlocked",
        }
    }

    /// The event's action; never empty, as the API server refuses events without one.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::SyncStarted { .. } | Self::Blocked { .. } => "CreateMover",
            Self::SyncCompleted { .. }
            | Self::NothingRestored { .. }
            | Self::RepositoryDamaged { .. }
            | Self::SyncIncomplete { .. }
            | Self::MoverFailed { .. }
            | Self::IntervalMissed { .. } => "DeleteMover",
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SyncStarted { direction, manual_tag } => {
                f.write_str(match direction {
                    Direction::Source => "starting a sync to transmit data",
                    Direction::Destination => "starting a sync to receive data",
                })?;
                match manual_tag {
                    Some(tag) => write!(f, " for manual tag {tag:?}"),
                    None => Ok(()),
                }
            }
            Self::SyncCompleted { duration, counts: _, in_words } => {
                write!(f, "sync completed in {:.1} s: {in_words}", duration.as_secs_f64())
            }
            Self::RepositoryDamaged { message } => write!(
                f,
                "the repository is damaged: {message}; `restic check --read-data` lists what is, `restic repair` mends what can be"
            ),
            Self::NothingRestored { outcome } => f.write_str(match outcome {
                RestoreOutcome::RepositoryMissing => {
                    "nothing was restored: there was no repository, an empty one was made"
                }
                RestoreOutcome::NothingEligible | RestoreOutcome::Restored => {
                    "nothing was restored: the repository has no eligible snapshot"
                }
            }),
            Self::SyncIncomplete { message, next } => {
                write!(f, "sync incomplete: {message}")?;
                match next {
                    Some(next) => write!(f, "; next attempt at {next}"),
                    None => Ok(()),
                }
            }
            Self::MoverFailed { attempt, message, next } => {
                write!(f, "attempt {attempt} failed: {message}; next attempt at {next}")
            }
            Self::IntervalMissed { deadline } => {
                write!(
                    f,
                    "the sync should have ended by {deadline}, when the following one was due"
                )
            }
            Self::Blocked { message } => f.write_str(message),
        }
    }
}
