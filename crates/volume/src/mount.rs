//! `MountedVolume`: what a mover sees of a volume.

use std::path::PathBuf;

/// What a mover sees of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVolume {
    /// Where it is: a directory, or a device.
    pub root: PathBuf,
    /// Whether it may only be read.
    pub read_only: bool,
    /// What is there.
    pub content: Content,
}

/// What is found at a volume's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// A directory tree.
    Filesystem,
    /// A device.
    Block,
}
