//! Access modes, volume mode, and when a volume must be read-only.

use std::str::FromStr;

use crate::Error;

/// Who may mount a volume, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessMode {
    /// One node, reading and writing.
    ReadWriteOnce,
    /// Many nodes, reading.
    ReadOnlyMany,
    /// Many nodes, reading and writing.
    ReadWriteMany,
    /// One Pod, reading and writing.
    ReadWriteOncePod,
}

impl AccessMode {
    /// As Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadOnlyMany => "ReadOnlyMany",
            Self::ReadWriteMany => "ReadWriteMany",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

impl FromStr for AccessMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "ReadWriteOnce" => Ok(Self::ReadWriteOnce),
            "ReadOnlyMany" => Ok(Self::ReadOnlyMany),
            "ReadWriteMany" => Ok(Self::ReadWriteMany),
            "ReadWriteOncePod" => Ok(Self::ReadWriteOncePod),
            _ => Err(Error::AccessMode { value: text.to_owned() }),
        }
    }
}

/// What a volume looks like from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VolumeMode {
    /// A directory tree.
    #[default]
    Filesystem,
    /// A device.
    Block,
}

impl VolumeMode {
    /// As Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "Filesystem",
            Self::Block => "Block",
        }
    }
}

impl FromStr for VolumeMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "Filesystem" => Ok(Self::Filesystem),
            "Block" => Ok(Self::Block),
            _ => Err(Error::VolumeMode { value: text.to_owned() }),
        }
    }
}

/// Whether a volume with these modes can only be read.
pub fn is_read_only(modes: &[AccessMode]) -> bool {
    modes == [AccessMode::ReadOnlyMany]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_read_only_many_alone_is_read_only() {
        assert!(is_read_only(&[AccessMode::ReadOnlyMany]));
        assert!(!is_read_only(&[AccessMode::ReadOnlyMany, AccessMode::ReadWriteOnce]));
        assert!(!is_read_only(&[]));
    }

    #[test]
    fn modes_come_back_from_their_names() {
        for mode in [
            AccessMode::ReadWriteOnce,
            AccessMode::ReadOnlyMany,
            AccessMode::ReadWriteMany,
            AccessMode::ReadWriteOncePod,
        ] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        for mode in [VolumeMode::Filesystem, VolumeMode::Block] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        assert!("RWO".parse::<AccessMode>().is_err());
        assert!("block".parse::<VolumeMode>().is_err());
    }
}
