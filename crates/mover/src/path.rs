//! Names and paths below a volume's root, as bytes, from whoever sends them.

use std::fmt;

/// What is wrong with a name or a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A component is empty.
    #[error("a path component is empty")]
    Empty,
    /// A component is longer than 255 bytes.
    #[error("a path component is longer than 255 bytes")]
    TooLong,
    /// A component is `.` or `..`.
    #[error("a path component is . or ..")]
    Dots,
    /// A component holds a slash or a zero byte.
    #[error("a path component holds a slash or a zero byte")]
    Forbidden,
}

/// Whether `name` can be one component of a path: 1 to 255 bytes, no `/`, no zero byte, neither
/// `.` nor `..`.
pub fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.is_empty() {
        Err(PathError::Empty)
    } else if name.len() > 255 {
        Err(PathError::TooLong)
    } else if name == b"." || name == b".." {
        Err(PathError::Dots)
    } else if name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        Err(PathError::Forbidden)
    } else {
        Ok(())
    }
}

/// A path below a volume's root: valid names joined by `/`, of any length. Empty is the root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The root itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks what a peer sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if !bytes.is_empty() {
            bytes.split(|byte| *byte == b'/').try_for_each(check_name)?;
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The path of `name`, which must be a valid name, in this directory.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        if !path.is_empty() && !name.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self(path)
    }

    /// The path that `below` has, seen from the same root.
    pub fn join_path(&self, below: &Self) -> Self {
        self.join(&below.0)
    }

    /// The directory it is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0.get(..end).unwrap_or_default().to_vec()))
    }

    /// Its last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.0.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// As bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Readable text as it is; control characters, backslashes and what is not UTF-8 as `\xNN`.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() || character == '\\' {
                    let mut bytes = [0; 4];
                    for byte in character.encode_utf8(&mut bytes).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                } else {
                    write!(f, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_volume_is_no_path() {
        for bad in [&b"/etc"[..], b"a//b", b"a/", b"..", b"a/../b", b".", b"a\0b", &[b'x'; 256]] {
            assert!(RelPath::parse(bad).is_err(), "{bad:?}");
        }
        for good in [&b""[..], b"a", b"a/b", b"...", b"-rf", b"\xff\n"] {
            assert_eq!(RelPath::parse(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn paths_take_apart_and_go_together() {
        let path = RelPath::root().join(b"a").join(b"b");
        assert_eq!(path.as_bytes(), b"a/b");
        assert_eq!(path.parent(), Some(RelPath::root().join(b"a")));
        assert_eq!(path.parent().unwrap().parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
        assert_eq!(path.file_name(), Some(&b"b"[..]));
        assert_eq!(path.components().count(), 2);
    }

    #[test]
    fn odd_bytes_are_escaped() {
        assert_eq!(
            RelPath::root().join(b"a\n\xff\xc3\xa4\\").to_string(),
            "a\\x0a\\xff\u{e4}\\x5c"
        );
    }
}
