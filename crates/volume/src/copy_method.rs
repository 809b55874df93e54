//! `CopyMethod`: `Direct`, `Clone`, `Snapshot`, and the deprecated spelling `None`.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// How a point-in-time image of a volume comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CopyMethod {
    /// The volume itself, as it is; also spelt `None`.
    Direct,
    /// A clone of the volume. Sources only.
    Clone,
    /// A snapshot of the volume.
    Snapshot,
}

impl CopyMethod {
    /// As it is spelt today.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "Direct",
            Self::Clone => "Clone",
            Self::Snapshot => "Snapshot",
        }
    }
}

impl fmt::Display for CopyMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CopyMethod {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "Direct" | "None" => Ok(Self::Direct),
            "Clone" => Ok(Self::Clone),
            "Snapshot" => Ok(Self::Snapshot),
            _ => Err(Error::CopyMethod { value: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_direct_and_anything_else_is_named() {
        assert_eq!("None".parse(), Ok(CopyMethod::Direct));
        for method in [CopyMethod::Direct, CopyMethod::Clone, CopyMethod::Snapshot] {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        assert_eq!(
            "snapshot".parse::<CopyMethod>().unwrap_err().to_string(),
            "unsupported copyMethod: snapshot -- must be Direct, None, Clone, or Snapshot"
        );
    }
}
