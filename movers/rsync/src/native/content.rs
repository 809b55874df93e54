//! The hash that both sides make of a file's content as it passes, and the limits of a piece.

/// Files up to this many bytes travel whole, many to a message.
pub const SMALL_FILE: u64 = 128 << 10;
/// How many bytes of small files one message gathers.
pub const SMALL_BATCH: usize = 256 << 10;
/// How many bytes of a large file one message carries.
pub const PIECE: usize = 256 << 10;

/// BLAKE3 over the extents of a file: at each break (the start of the file and the end of each
/// hole) the offset as eight little-endian bytes, then the content. Holes are never read, so a
/// sparse file of any size costs what its data costs.
#[derive(Debug)]
pub struct ContentHash {
    hasher: blake3::Hasher,
    position: Option<u64>,
}

impl ContentHash {
    /// Of nothing so far.
    pub fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), position: None }
    }

    /// Adds bytes at an offset, which never goes backwards.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) {
        if self.position != Some(offset) {
            self.hasher.update(&offset.to_le_bytes());
        }
        self.hasher.update(bytes);
        self.position = Some(offset + bytes.len() as u64);
    }

    /// The hash of a file of `size` bytes.
    pub fn finish(mut self, size: u64) -> [u8; 32] {
        self.hasher.update(&size.to_le_bytes());
        *self.hasher.finalize().as_bytes()
    }
}

impl Default for ContentHash {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_do_not_matter_but_holes_and_size_do() {
        let hash = |pieces: &[(u64, &[u8])], size| {
            let mut content = ContentHash::new();
            for (offset, bytes) in pieces {
                content.add(*offset, bytes);
            }
            content.finish(size)
        };
        let whole = hash(&[(0, b"abcdef")], 6);
        assert_eq!(whole, hash(&[(0, b"abc"), (3, b"def")], 6));
        assert_ne!(whole, hash(&[(0, b"abc"), (4, b"def")], 7));
        assert_ne!(whole, hash(&[(0, b"abcdef")], 7));
    }
}
