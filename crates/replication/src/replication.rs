//! `Replication`: a manifest that was found to be right.

use jiff::Timestamp;
use volsync_api::v1alpha1::MoverConfig;
use volsync_contract::Direction;
use volsync_volume::{VolumeMode, VolumeOptions};

use crate::{Method, Reference, Trigger};

/// A manifest that was found to be right: one direction, exactly one method.
///
/// Only [`validate_source`](crate::validate_source) and
/// [`validate_destination`](crate::validate_destination) make one from a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Replication {
    /// Its namespace; `default` unless the manifest says otherwise.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// When the manifest was created, where an API server recorded that.
    pub created: Option<Timestamp>,
    /// Whether it is a ReplicationSource or a ReplicationDestination.
    pub direction: Direction,
    /// What starts a sync.
    pub trigger: Trigger,
    /// Whether the user asked it to stand still.
    pub paused: bool,
    /// The volume.
    pub volume: Volume,
    /// How data is moved.
    pub method: Method,
    /// How the user wants the mover's pod to be.
    pub pod: MoverConfig,
    /// At most so many bytes of what a mover said are kept in the status; `None`: all of them. No
    /// manifest says it: it is the shell's to set.
    pub mover_log_bytes: Option<usize>,
    pub(crate) references: Vec<Reference>,
}

/// The volume that is read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Volume {
    /// A source reads this claim, or a point-in-time copy of it.
    Source {
        /// `spec.sourcePVC`.
        claim: String,
        /// How it is copied.
        options: VolumeOptions,
    },
    /// A destination writes this volume.
    Destination {
        /// `destinationPVC`; `None`: a volume is provisioned.
        claim: Option<String>,
        /// How it is provisioned and how its image is made.
        options: VolumeOptions,
        /// Filesystem or block, of a provisioned volume.
        mode: VolumeMode,
        /// Whether a provisioned volume is removed after each successful sync.
        cleanup: bool,
    },
    /// Somebody else's business.
    External,
}

impl Replication {
    /// The objects the manifest names, which have to exist before a sync can start.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// `ReplicationSource` or `ReplicationDestination`.
    pub const fn kind(&self) -> &'static str {
        match self.direction {
            Direction::Source => "ReplicationSource",
            Direction::Destination => "ReplicationDestination",
        }
    }
}
