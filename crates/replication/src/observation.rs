//! `Observation`: the facts a shell saw, and nothing it concluded.

use jiff::Timestamp;
use volsync_contract::Report;

use crate::ImageReference;

/// The facts a shell saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// The mover of this replication.
    pub mover: MoverState,
    /// Whether anything of a sync still exists that a clean-up would remove: a mover, running or
    /// ended, a temporary volume, a superseded image.
    pub leftovers: bool,
    /// Why the shell cannot carry out a sync now, such as a Secret that is missing.
    pub blocked: Option<String>,
    /// The image a destination makes after a transfer; only looked at once the mover succeeded.
    pub image: ImageState,
}

/// What a mover was started for. A shell keeps it with the mover: on its Job, or beside its process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Run {
    /// `lastSyncStartTime` of its sync; `None` when that was not kept.
    pub sync_start: Option<Timestamp>,
    /// The manual tag its sync answers to. `None` when that was not kept, or none was asked for.
    pub manual_tag: Option<String>,
    /// [`SyncPlan::fingerprint`](crate::SyncPlan::fingerprint); `None` when that was not kept.
    pub fingerprint: Option<u32>,
}

/// What became of a mover.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MoverState {
    /// There is none.
    #[default]
    NotStarted,
    /// It runs, or will.
    Running {
        /// What it was started for.
        run: Run,
        /// Why it has not begun, if that will not pass by itself, such as an image that cannot be
        /// pulled.
        stalled: Option<String>,
    },
    /// It ended and reported that it moved everything, or what it could not.
    ///
    /// A report that says otherwise is taken as the failure it describes.
    Succeeded {
        /// What it was started for.
        run: Run,
        /// Its word for it.
        report: Report,
        /// When it ended.
        ended: Timestamp,
    },
    /// It ended otherwise, or without a report.
    Failed {
        /// What it was started for.
        run: Run,
        /// How many attempts of this sync have failed, this one included; from 1.
        attempts: u32,
        /// Its report, if it left one.
        report: Option<Report>,
        /// What is known when there is no report, such as `exit code 137`.
        message: String,
        /// When it ended.
        ended: Timestamp,
    },
}

impl MoverState {
    /// What the mover was started for, if there is one.
    pub const fn run(&self) -> Option<&Run> {
        match self {
            Self::NotStarted => None,
            Self::Running { run, .. } | Self::Succeeded { run, .. } | Self::Failed { run, .. } => {
                Some(run)
            }
        }
    }

    /// The mover's report, if it ended and left one.
    pub const fn report(&self) -> Option<&Report> {
        match self {
            Self::NotStarted | Self::Running { .. } => None,
            Self::Succeeded { report, .. } => Some(report),
            Self::Failed { report, .. } => report.as_ref(),
        }
    }
}

/// How far the image of a destination is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ImageState {
    /// None is made: a source, or a method without images.
    #[default]
    NotNeeded,
    /// It is asked for and not ready yet.
    Pending,
    /// It is ready, and this is it.
    Ready(ImageReference),
}
