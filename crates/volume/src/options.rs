//! `VolumeOptions`: the parsed form of what the user wrote.

use crate::{AccessMode, CopyMethod, Quantity};

/// What the user chose for a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeOptions {
    /// How its image comes about.
    pub copy_method: CopyMethod,
    /// Size of a volume that is made; `None`: as large as what it is made from.
    pub capacity: Option<Quantity>,
    /// Storage class of a volume that is made; `None`: that of what it is made from, or the default.
    pub storage_class: Option<String>,
    /// Access modes of a volume that is made; empty: those of what it is made from.
    pub access_modes: Vec<AccessMode>,
    /// Class of a snapshot that is made; `None`: the default.
    pub snapshot_class: Option<String>,
}

impl VolumeOptions {
    /// Options that say nothing but how the image comes about.
    pub const fn new(copy_method: CopyMethod) -> Self {
        Self {
            copy_method,
            capacity: None,
            storage_class: None,
            access_modes: Vec::new(),
            snapshot_class: None,
        }
    }
}
