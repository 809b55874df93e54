//! The four exit codes of a mover, and whether trying again can help.

use serde::{Deserialize, Serialize};

/// How a mover process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// Done; everything moved.
    Complete,
    /// Failed; may pass next time.
    Transient,
    /// Failed; will not pass until someone changes something.
    Permanent,
    /// Done, but some content could not be read or written.
    Incomplete,
}

impl ExitStatus {
    /// The process exit code: 0, 1, 2 or 3.
    pub const fn code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Transient => 1,
            Self::Permanent => 2,
            Self::Incomplete => 3,
        }
    }

    /// The status a code stands for; `None` for codes no mover of ours uses.
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Complete),
            1 => Some(Self::Transient),
            2 => Some(Self::Permanent),
            3 => Some(Self::Incomplete),
            _ => None,
        }
    }
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Retry {
    /// It may pass next time.
    Transient,
    /// It will not pass until someone changes something.
    Permanent,
}

impl Retry {
    /// The exit status of a failure of this class.
    pub const fn exit_status(self) -> ExitStatus {
        match self {
            Self::Transient => ExitStatus::Transient,
            Self::Permanent => ExitStatus::Permanent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_as_its_status() {
        for status in [
            ExitStatus::Complete,
            ExitStatus::Transient,
            ExitStatus::Permanent,
            ExitStatus::Incomplete,
        ] {
            assert_eq!(ExitStatus::from_code(i32::from(status.code())), Some(status));
        }
        assert_eq!(ExitStatus::from_code(4), None);
        assert_eq!(ExitStatus::from_code(-1), None);
    }
}
