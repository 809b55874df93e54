//! `Error`: what can be wrong with volume options.

/// What can be wrong with volume options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A copy method nobody knows.
    #[error("unsupported copyMethod: {value} -- must be Direct, None, Clone, or Snapshot")]
    CopyMethod {
        /// What was written.
        value: String,
    },
    /// An access mode nobody knows.
    #[error(
        "unsupported access mode: {value} -- must be ReadWriteOnce, ReadOnlyMany, ReadWriteMany, or ReadWriteOncePod"
    )]
    AccessMode {
        /// What was written.
        value: String,
    },
    /// A volume mode nobody knows.
    #[error("unsupported volumeMode: {value} -- must be Filesystem or Block")]
    VolumeMode {
        /// What was written.
        value: String,
    },
    /// Text that is not a quantity.
    #[error("{text:?} is not a quantity such as 10Gi")]
    Quantity {
        /// What was written.
        text: String,
    },
    /// A capacity of nothing, or less.
    #[error("capacity {text} must be more than zero")]
    NoCapacity {
        /// What was written.
        text: String,
    },
    /// A destination without a claim does not say how its volume can be accessed.
    #[error("accessModes must be provided when destinationPVC is not")]
    AccessModesMissing,
    /// A destination without a claim does not say how large its volume is.
    #[error("capacity must be provided when destinationPVC is not")]
    CapacityMissing,
    /// The source's claim does not say how large it is.
    #[error("the size of {claim} is not known; set capacity")]
    SizeNotKnown {
        /// The claim.
        claim: String,
    },
}
