//! Blobs as they lie in packs: compressed with zstd where the repository is of version 2, sealed.

use std::fmt;

use zstd::bulk::{Compressor, Decompressor};

use super::crypto::{Key, MAC, NONCE};
use super::error::Error;
use super::id::Id;

/// The longest data blob that is read, in bytes. restic's chunks end at 8 MiB; other programs may
/// be told to make longer ones.
pub const MAX_DATA_BLOB: u32 = 64 << 20;
/// The longest tree blob that is read, in bytes: a directory of some millions of entries.
pub const MAX_TREE_BLOB: u32 = 2047 << 20;

/// How much blobs are compressed, as `RESTIC_COMPRESSION` of a repository of version 2 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Directories only.
    Off,
    /// The least.
    Fastest,
    /// restic's default.
    #[default]
    Auto,
    /// More, in more time.
    Better,
    /// The most.
    Max,
}

impl Compression {
    /// What the user may write.
    pub const NAMES: &str = "auto, off, fastest, better or max";

    /// From what the user wrote.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "auto" => Self::Auto,
            "off" => Self::Off,
            "fastest" => Self::Fastest,
            "better" => Self::Better,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// The level of zstd that comes closest to restic's.
    const fn level(self) -> i32 {
        match self {
            Self::Fastest => 1,
            Self::Off | Self::Auto => 3,
            Self::Better => 7,
            Self::Max => 11,
        }
    }
}

/// What a blob holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A directory.
    Tree,
}

impl BlobKind {
    /// As index files name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }

    /// The longest blob of this kind that is read, in bytes, before compression.
    pub const fn limit(self) -> u32 {
        match self {
            Self::Data => MAX_DATA_BLOB,
            Self::Tree => MAX_TREE_BLOB,
        }
    }
}

/// Compresses and seals blobs, with memory that is used again. One a thread.
pub struct Encoder {
    compressor: Option<Compressor<'static>>,
    compression: Compression,
    sealed: Vec<u8>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

/// A sealed blob.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// As it lies in a pack.
    pub bytes: &'a [u8],
    /// Its length before compression; 0 if it is not compressed.
    pub raw_length: u32,
}

impl Encoder {
    /// For a repository of version 1 (nothing is compressed) or 2.
    pub fn new(version: u32) -> Result<Self, Error> {
        Self::with(version, Compression::default())
    }

    /// The same, compressing so much.
    pub fn with(version: u32, compression: Compression) -> Result<Self, Error> {
        let compressor = match version {
            0 | 1 => None,
            _ => Some(Compressor::new(compression.level()).map_err(Error::Compress)?),
        };
        Ok(Self { compressor, compression, sealed: Vec::new() })
    }

    /// Compresses and seals one blob.
    pub fn encode(&mut self, key: &Key, kind: BlobKind, plain: &[u8]) -> Result<Sealed<'_>, Error> {
        let stays = kind == BlobKind::Data && self.compression == Compression::Off;
        self.sealed.clear();
        self.sealed.resize(NONCE, 0);
        let raw_length = match &mut self.compressor {
            // No length says "not compressed", so an empty blob cannot be.
            Some(compressor) if !plain.is_empty() && !stays => {
                compress(compressor, plain, &mut self.sealed)?;
                u32::try_from(plain.len())
                    .map_err(|_| Error::damaged("a blob", "it is longer than 4 GiB"))?
            }
            _ => {
                self.sealed.extend_from_slice(plain);
                0
            }
        };
        key.seal(&mut self.sealed)?;
        Ok(Sealed { bytes: &self.sealed, raw_length })
    }

    /// Compresses, if the repository does, and seals a file that is not a pack: an index or a
    /// snapshot. Compressed ones begin with a byte that says so.
    pub(crate) fn encode_file(&mut self, key: &Key, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed = vec![0; NONCE];
        if let Some(compressor) = &mut self.compressor {
            sealed.push(COMPRESSED);
            compress(compressor, plain, &mut sealed)?;
        } else {
            sealed.extend_from_slice(plain);
        }
        key.seal(&mut sealed)?;
        Ok(sealed)
    }
}

/// In front of a compressed file that is not a pack.
const COMPRESSED: u8 = 2;

/// Appends `plain`, compressed.
fn compress(
    compressor: &mut Compressor<'static>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(plain.len()), 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let length = compressor.compress_to_buffer(plain, room).map_err(Error::Compress)?;
    out.truncate(start + length);
    Ok(())
}

/// Opens sealed blobs, with memory that is used again. One a thread.
pub struct Decoder {
    decompressor: Decompressor<'static>,
    sealed: Vec<u8>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// A new one.
    pub fn new() -> Result<Self, Error> {
        let decompressor = Decompressor::new().map_err(Error::Compress)?;
        Ok(Self { decompressor, sealed: Vec::new() })
    }

    /// Opens a sealed blob into `plain` and makes sure that it is the blob `id`. `raw_length` is
    /// what the index says, 0 for a blob that is not compressed.
    pub fn decode(
        &mut self,
        key: &Key,
        (kind, id): (BlobKind, Id),
        sealed: &[u8],
        raw_length: u32,
        plain: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let mut copy = std::mem::take(&mut self.sealed);
        copy.clear();
        copy.extend_from_slice(sealed);
        let decoded = self.decode_in_place(key, (kind, id), &mut copy, raw_length, plain);
        self.sealed = copy;
        decoded
    }

    /// The same, and what is in `sealed` afterwards is of no use.
    pub fn decode_in_place(
        &mut self,
        key: &Key,
        (kind, id): (BlobKind, Id),
        sealed: &mut [u8],
        raw_length: u32,
        plain: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let what = || format!("{} blob {id}", kind.name());
        if raw_length > kind.limit() {
            return Err(Error::damaged(what(), format!("it is to have {raw_length} bytes")));
        }
        let opened = key.open(sealed)?.ok_or_else(|| Error::Decrypt { what: what() })?;
        plain.clear();
        if raw_length == 0 {
            plain.extend_from_slice(opened);
        } else {
            plain.reserve(raw_length as usize);
            self.decompressor
                .decompress_to_buffer(opened, plain)
                .map_err(|error| Error::damaged(what(), error.to_string()))?;
            if plain.len() != raw_length as usize {
                return Err(Error::damaged(what(), "its length is not what the index says"));
            }
        }
        if Id::of(plain) != id {
            return Err(Error::damaged(what(), "its content is not what its name says"));
        }
        Ok(())
    }
}

/// Opens a file that is not a pack. `limit` bounds its length after decompression, in bytes.
pub(crate) fn decode_file(
    key: &Key,
    what: &str,
    sealed: &mut [u8],
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let opened = key.open(sealed)?.ok_or_else(|| Error::Decrypt { what: what.to_owned() })?;
    match opened.split_first() {
        Some((&COMPRESSED, compressed)) => {
            let mut plain = Vec::new();
            let reader = zstd::stream::read::Decoder::with_buffer(compressed)
                .map_err(|error| Error::damaged(what, error.to_string()))?;
            let mut reader = std::io::Read::take(reader, limit as u64 + 1);
            std::io::Read::read_to_end(&mut reader, &mut plain)
                .map_err(|error| Error::damaged(what, error.to_string()))?;
            if plain.len() > limit {
                return Err(Error::damaged(what, format!("it has more than {limit} bytes")));
            }
            Ok(plain)
        }
        // Repositories of version 1, and files from before an upgrade to version 2.
        None | Some((b'{' | b'[', _)) => Ok(opened.to_vec()),
        Some((other, _)) => {
            Err(Error::damaged(what, format!("it has the unknown encoding {other}")))
        }
    }
}

/// The length of `plain` bytes once sealed, without compression.
pub(crate) const fn sealed_length(plain: usize) -> usize {
    NONCE + plain + MAC
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(&[1; 32], &[2; 16], &[3; 16]).unwrap()
    }

    #[test]
    fn blobs_of_both_versions_come_back_and_only_under_their_own_name() {
        for version in [1, 2] {
            for plain in [&b""[..], b"a", &[7; 100_000]] {
                let id = Id::of(plain);
                let mut encoder = Encoder::new(version).unwrap();
                let sealed = encoder.encode(&key(), BlobKind::Data, plain).unwrap();
                let (bytes, raw_length) = (sealed.bytes.to_vec(), sealed.raw_length);
                assert_eq!(raw_length != 0, version == 2 && !plain.is_empty());
                let mut decoder = Decoder::new().unwrap();
                let mut out = Vec::new();
                decoder.decode(&key(), (BlobKind::Data, id), &bytes, raw_length, &mut out).unwrap();
                assert_eq!(out, plain);
                let other = (BlobKind::Data, Id::of(b"other"));
                assert!(decoder.decode(&key(), other, &bytes, raw_length, &mut out).is_err());
                let wrong = raw_length + 1;
                assert!(
                    decoder.decode(&key(), (BlobKind::Data, id), &bytes, wrong, &mut out).is_err()
                );
                let absurd = (BlobKind::Data, id);
                assert!(decoder.decode(&key(), absurd, &bytes, u32::MAX, &mut out).is_err());
            }
        }
    }

    #[test]
    fn a_file_that_unpacks_to_more_than_its_limit_is_refused() {
        let mut encoder = Encoder::new(2).unwrap();
        let mut sealed = encoder.encode_file(&key(), &[b'{'; 10_000]).unwrap();
        assert_eq!(decode_file(&key(), "f", &mut sealed.clone(), 10_000).unwrap().len(), 10_000);
        assert!(decode_file(&key(), "f", &mut sealed, 9_999).is_err());
    }
}
