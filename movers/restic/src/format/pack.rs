//! Packs: many sealed blobs in one file, with a sealed header at its end that lists them.
//!
//! ```text
//!   blob | blob | ... | sealed(header) | length of the sealed header, u32 little-endian
//! ```

use bytes::Bytes;

use super::blob::BlobKind;
use super::crypto::{Key, NONCE, OVERHEAD};
use super::error::Error;
use super::id::Id;

/// Length of a header entry of a blob that is not compressed, in bytes.
const PLAIN_ENTRY: usize = 1 + 4 + 32;
/// Length of a header entry of a compressed blob.
const COMPRESSED_ENTRY: usize = PLAIN_ENTRY + 4;
/// The longest header that is read or written, in bytes; restic's limit too.
const MAX_HEADER: usize = 16 << 20;
/// The longest pack, in bytes: offsets are of 32 bits.
const MAX_PACK: u64 = u32::MAX as u64;

/// Where a blob lies in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// What it holds.
    pub kind: BlobKind,
    /// Its name.
    pub id: Id,
    /// Where it begins, in bytes from the pack's start.
    pub offset: u32,
    /// How long it is in the pack, in bytes.
    pub length: u32,
    /// How long it was before compression, in bytes; 0 if it is not compressed.
    pub raw_length: u32,
}

impl PackedBlob {
    /// What it takes in a pack with its entry in the header, in bytes.
    pub const fn space(&self) -> u64 {
        let entry = if self.raw_length == 0 { PLAIN_ENTRY } else { COMPRESSED_ENTRY };
        self.length as u64 + entry as u64
    }
}

/// What a pack takes beside its blobs and their entries, in bytes.
pub const FRAME: u64 = OVERHEAD as u64 + 4;

/// A pack that is being filled, in memory.
#[derive(Debug, Default)]
pub struct PackBuilder {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

/// A pack that is ready to be written.
#[derive(Debug)]
pub struct FinishedPack {
    /// Its name.
    pub id: Id,
    /// The whole file.
    pub bytes: Bytes,
    /// What it holds.
    pub blobs: Vec<PackedBlob>,
}

impl PackBuilder {
    /// Appends a sealed blob.
    pub fn push(
        &mut self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        raw_length: u32,
    ) -> Result<(), Error> {
        let too_long = |_| Error::damaged("a pack", "it grows beyond 4 GiB");
        let offset = u32::try_from(self.bytes.len()).map_err(too_long)?;
        let length = u32::try_from(sealed.len()).map_err(too_long)?;
        self.bytes.extend_from_slice(sealed);
        self.blobs.push(PackedBlob { kind, id, offset, length, raw_length });
        Ok(())
    }

    /// Its length so far, in bytes, without the header.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds no blob.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Whether it should be written: it has reached `target` bytes, or its header is full.
    pub fn is_full(&self, target: usize) -> bool {
        self.bytes.len() >= target
            || OVERHEAD + (self.blobs.len() + 1) * COMPRESSED_ENTRY > MAX_HEADER
    }

    /// Writes the header.
    pub fn finish(mut self, key: &Key) -> Result<FinishedPack, Error> {
        let mut header = vec![0; NONCE];
        for blob in &self.blobs {
            let compressed = blob.raw_length != 0;
            header.push(match (blob.kind, compressed) {
                (BlobKind::Data, false) => 0,
                (BlobKind::Tree, false) => 1,
                (BlobKind::Data, true) => 2,
                (BlobKind::Tree, true) => 3,
            });
            header.extend_from_slice(&blob.length.to_le_bytes());
            if compressed {
                header.extend_from_slice(&blob.raw_length.to_le_bytes());
            }
            header.extend_from_slice(blob.id.as_bytes());
        }
        key.seal(&mut header)?;
        let length = u32::try_from(header.len())
            .map_err(|_| Error::damaged("a pack", "its header grows beyond 4 GiB"))?;
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        Ok(FinishedPack {
            id: Id::of(&self.bytes),
            bytes: Bytes::from(self.bytes),
            blobs: self.blobs,
        })
    }
}

/// How many bytes at the end of a pack are its header, from the pack's last four bytes and its
/// length; `None` if that cannot be.
pub fn header_length(last: [u8; 4], pack_length: u64) -> Option<u64> {
    let length = u64::from(u32::from_le_bytes(last));
    let fits = length >= (OVERHEAD + PLAIN_ENTRY) as u64
        && length <= MAX_HEADER as u64
        && length + 4 <= pack_length
        && pack_length <= MAX_PACK;
    fits.then_some(length)
}

/// Reads a sealed header, without the length behind it, of a pack whose blobs take `blobs_length`
/// bytes.
pub fn parse_header(
    key: &Key,
    what: &str,
    sealed: &mut [u8],
    blobs_length: u64,
) -> Result<Vec<PackedBlob>, Error> {
    let opened = key.open(sealed)?.ok_or_else(|| Error::Decrypt { what: what.to_owned() })?;
    let damaged = |why: &str| Error::damaged(what, why);
    let mut rest = &*opened;
    let mut blobs = Vec::with_capacity(rest.len() / PLAIN_ENTRY);
    let mut offset = 0u64;
    while let Some((tag, after)) = rest.split_first() {
        let (kind, compressed) = match tag {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            _ => return Err(damaged("its header lists a blob of unknown type")),
        };
        let short = || damaged("its header ends within an entry");
        let (length, mut after) = after.split_first_chunk::<4>().ok_or_else(short)?;
        let mut raw_length = 0;
        if compressed {
            let (raw, behind) = after.split_first_chunk::<4>().ok_or_else(short)?;
            raw_length = u32::from_le_bytes(*raw);
            after = behind;
        }
        let (id, after) = after.split_first_chunk::<32>().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length);
        let end = offset + u64::from(length);
        if (length as usize) < OVERHEAD || end > blobs_length {
            return Err(damaged("its header lists a blob that does not lie in it"));
        }
        let at = u32::try_from(offset).map_err(|_| damaged("it is longer than 4 GiB"))?;
        blobs.push(PackedBlob { kind, id: Id::from_bytes(*id), offset: at, length, raw_length });
        offset = end;
        rest = after;
    }
    Ok(blobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new(&[1; 32], &[2; 16], &[3; 16]).unwrap()
    }

    fn pack() -> FinishedPack {
        let mut pack = PackBuilder::default();
        pack.push(BlobKind::Data, Id::of(b"a"), &[0; 40], 0).unwrap();
        pack.push(BlobKind::Tree, Id::of(b"b"), &[0; 50], 77).unwrap();
        pack.finish(&key()).unwrap()
    }

    fn parse(bytes: &[u8]) -> Option<Vec<PackedBlob>> {
        let last = *bytes.last_chunk::<4>()?;
        let length = header_length(last, bytes.len() as u64)? as usize;
        let start = bytes.len() - 4 - length;
        let mut header = bytes[start..bytes.len() - 4].to_vec();
        parse_header(&key(), "p", &mut header, start as u64).ok()
    }

    #[test]
    fn a_header_lists_what_was_packed() {
        let pack = pack();
        assert_eq!(parse(&pack.bytes), Some(pack.blobs.clone()));
        assert_eq!(pack.id, Id::of(&pack.bytes));
        let space: u64 = pack.blobs.iter().map(PackedBlob::space).sum();
        assert_eq!(pack.bytes.len() as u64, space + FRAME);
    }

    #[test]
    fn a_pack_that_was_cut_or_changed_has_no_header() {
        let pack = pack().bytes;
        for cut in 0..pack.len() {
            assert_eq!(parse(&pack[..cut]), None);
        }
        // The blobs themselves are not looked at here: each has a MAC of its own.
        for at in 90..pack.len() {
            let mut changed = pack.to_vec();
            changed[at] ^= 0x41;
            assert_eq!(parse(&changed), None, "{at}");
        }
    }

    #[test]
    fn a_header_that_lists_more_than_there_is_is_refused() {
        let mut pack = PackBuilder::default();
        pack.push(BlobKind::Data, Id::of(b"a"), &[0; 40], 0).unwrap();
        pack.blobs[0].length = u32::MAX;
        assert_eq!(parse(&pack.finish(&key()).unwrap().bytes), None);
    }
}
