//! Block signatures and deltas: the only file that names `fast_rsync`.
//!
//! A basis file is divided into segments of [`SEGMENT`] bytes, each with a signature of its own,
//! so that both sides need a bounded amount of memory whatever the size of the file, and so that
//! signing, searching and writing go on at the same time. A block is looked for at its own
//! offset first, which costs one hash; only what differs there is searched for with the rolling
//! checksum, within the segment.

use fast_rsync::{IndexedSignature, Signature, SignatureOptions, diff};

use super::message::CopyRange;

/// How many bytes of a basis one signature covers.
pub const SEGMENT: u64 = 64 << 20;
/// How many bytes of a segment are searched at a time.
pub const WINDOW: usize = 4 << 20;
/// MD4 bytes kept of each block. Content is verified with BLAKE3, so these only have to make a
/// false match rare, not impossible.
const STRONG: u32 = 8;
const HEADER: usize = 12;
const PER_BLOCK: usize = 4 + STRONG as usize;

/// What a peer sent is not the signature of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent a signature that is none")]
pub struct BadSignature;

/// The block size for a basis of `length` bytes: a power of two from 2 KiB to 64 KiB, about an
/// eighth of the square root. Smaller blocks than rsync's cost signature bytes, which are few,
/// and save literal bytes, which are many.
pub fn block_size(length: u64) -> u32 {
    let ideal = (length as f64).sqrt() / 8.0;
    (ideal as u32).next_power_of_two().clamp(2 << 10, 64 << 10)
}

/// The signature of one segment, from its pieces in order. Each piece but the last must be a
/// multiple of the block size.
#[derive(Debug)]
pub struct Signer {
    block: u32,
    bytes: Vec<u8>,
}

impl Signer {
    /// For a segment of a basis with blocks of `block` bytes.
    pub fn new(block: u32) -> Self {
        Self { block, bytes: sign(&[], block) }
    }

    /// Adds the next piece.
    pub fn add(&mut self, piece: &[u8]) {
        let signature = sign(piece, self.block);
        self.bytes.extend_from_slice(signature.get(HEADER..).unwrap_or_default());
    }

    /// The whole signature.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

fn sign(piece: &[u8], block_size: u32) -> Vec<u8> {
    Signature::calculate(piece, SignatureOptions { block_size, crypto_hash_size: STRONG })
        .into_serialized()
}

/// A segment's signature as it came from the peer, ready to be searched.
#[derive(Debug)]
pub struct Segment {
    start: u64,
    length: u64,
    block: u32,
    aligned_only: bool,
    signature: Signature,
}

/// One piece of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// The basis has it.
    Copy(CopyRange),
    /// It must be sent: offset in the new file and length.
    Literal {
        /// Where in the new file.
        offset: u64,
        /// How many bytes.
        length: usize,
    },
}

impl Segment {
    /// Reads a signature from the peer, for the part of the basis from `start` that is `length`
    /// bytes long.
    pub fn parse(
        bytes: &[u8],
        start: u64,
        length: u64,
        block: u32,
        aligned_only: bool,
    ) -> Result<Self, BadSignature> {
        let blocks = length.div_ceil(u64::from(block));
        if bytes.len() as u64 != HEADER as u64 + blocks * PER_BLOCK as u64 {
            return Err(BadSignature);
        }
        if bytes.get(..HEADER) != sign(&[], block).get(..HEADER) {
            return Err(BadSignature);
        }
        let signature = Signature::deserialize(bytes.to_vec()).map_err(|_| BadSignature)?;
        Ok(Self { start, length, block, aligned_only, signature })
    }

    /// Where the segment ends in the basis.
    pub fn end(&self) -> u64 {
        self.start + self.length
    }

    /// Ready to be searched; its index is made when it is first needed.
    pub fn searcher(&self) -> Searcher<'_> {
        Searcher { segment: self, index: std::cell::OnceCell::new() }
    }
}

/// A search in one segment.
#[derive(Debug)]
pub struct Searcher<'a> {
    segment: &'a Segment,
    index: std::cell::OnceCell<IndexedSignature<'a>>,
}

impl Searcher<'_> {
    /// Cuts `window`, which stands at `offset` of the new file, into pieces. `offset` must be a
    /// multiple of the block size beyond the start of the segment.
    pub fn search(&self, offset: u64, window: &[u8], pieces: &mut Vec<Piece>) {
        let segment = self.segment;
        let block = segment.block as usize;
        let own = sign(window, segment.block);
        let ours = own.get(HEADER..).unwrap_or_default().chunks_exact(PER_BLOCK);
        let first_block = ((offset - segment.start) / u64::from(segment.block)) as usize;
        let theirs = segment
            .signature
            .serialized()
            .get(HEADER + first_block * PER_BLOCK..)
            .unwrap_or_default();
        let mut theirs = theirs.chunks_exact(PER_BLOCK);
        let mut unmatched = 0..0;
        for (at, ours) in (0..).step_by(block).zip(ours) {
            let length = block.min(window.len() - at);
            let place = offset + at as u64;
            let same_length = place + length as u64 <= segment.start + segment.length
                && (length == block || place + length as u64 == segment.start + segment.length);
            if theirs.next() == Some(ours) && same_length {
                self.search_unmatched(offset, window, unmatched, pieces);
                unmatched = at + length..at + length;
                push_copy(pieces, CopyRange { offset: place, from: place, length: length as u64 });
            } else {
                unmatched.end = at + length;
            }
        }
        self.search_unmatched(offset, window, unmatched, pieces);
    }

    fn search_unmatched(
        &self,
        offset: u64,
        window: &[u8],
        range: std::ops::Range<usize>,
        pieces: &mut Vec<Piece>,
    ) {
        if range.is_empty() {
            return;
        }
        let place = offset + range.start as u64;
        // A run of a single block is an edit in place nearly always; searching it only pays when
        // its neighbourhood moved, and then the runs are long.
        let segment = self.segment;
        if segment.aligned_only || range.len() <= segment.block as usize {
            push_literal(pieces, place, range.len());
            return;
        }
        let bytes = window.get(range.clone()).unwrap_or_default();
        let mut delta = Vec::new();
        let index = self.index.get_or_init(|| segment.signature.index());
        if diff(index, bytes, &mut delta).is_err()
            || read_delta(&delta, place, segment.start, pieces).is_none()
        {
            push_literal(pieces, place, range.len());
        }
    }
}

fn push_copy(pieces: &mut Vec<Piece>, range: CopyRange) {
    if let Some(Piece::Copy(last)) = pieces.last_mut()
        && last.offset + last.length == range.offset
        && last.from + last.length == range.from
    {
        last.length += range.length;
        return;
    }
    pieces.push(Piece::Copy(range));
}

fn push_literal(pieces: &mut Vec<Piece>, offset: u64, length: usize) {
    if let Some(Piece::Literal { offset: start, length: before }) = pieces.last_mut()
        && *start + *before as u64 == offset
    {
        *before += length;
        return;
    }
    pieces.push(Piece::Literal { offset, length });
}

/// Reads a delta in librsync's format (`rdiff` of librsync, `RS_DELTA_MAGIC`): 0x01–0x40 short
/// literals, 0x41–0x44 literals with a length of 1, 2, 4, 8 bytes, 0x45–0x54 copies with offset and
/// length of 1, 2, 4, 8 bytes each, 0 the end. All big-endian.
fn read_delta(delta: &[u8], mut place: u64, start: u64, pieces: &mut Vec<Piece>) -> Option<()> {
    fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
        let (head, tail) = rest.split_at_checked(bytes)?;
        *rest = tail;
        Some(head.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
    let mut rest = delta.get(4..)?;
    let mut found = Vec::new();
    loop {
        match number(&mut rest, 1)? {
            0 => break,
            op @ 0x01..=0x44 => {
                let length = if op <= 0x40 { op } else { number(&mut rest, 1 << (op - 0x41))? };
                rest = rest.split_at_checked(length as usize)?.1;
                push_literal(&mut found, place, length as usize);
                place += length;
            }
            op @ 0x45..=0x54 => {
                let from = start + number(&mut rest, 1 << ((op - 0x45) / 4))?;
                let length = number(&mut rest, 1 << ((op - 0x45) % 4))?;
                push_copy(&mut found, CopyRange { offset: place, from, length });
                place += length;
            }
            _ => return None,
        }
    }
    for piece in found {
        match piece {
            Piece::Copy(range) => push_copy(pieces, range),
            Piece::Literal { offset, length } => push_literal(pieces, offset, length),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    fn signed(basis: &[u8], block: u32, aligned_only: bool) -> Segment {
        let mut signer = Signer::new(block);
        for piece in basis.chunks(block as usize * 3) {
            signer.add(piece);
        }
        Segment::parse(&signer.finish(), 0, basis.len() as u64, block, aligned_only).unwrap()
    }

    /// Applies the pieces and returns the literal bytes they needed.
    fn rebuild(basis: &[u8], new: &[u8], segment: &Segment) -> usize {
        let mut pieces = Vec::new();
        for (at, window) in new.chunks(segment.block as usize * 8).enumerate() {
            segment.searcher().search(
                (at * segment.block as usize * 8) as u64,
                window,
                &mut pieces,
            );
        }
        let (mut out, mut literal) = (Vec::new(), 0);
        for piece in pieces {
            match piece {
                Piece::Copy(range) => {
                    assert_eq!(range.offset, out.len() as u64);
                    out.extend_from_slice(
                        &basis[range.from as usize..(range.from + range.length) as usize],
                    );
                }
                Piece::Literal { offset, length } => {
                    assert_eq!(offset, out.len() as u64);
                    literal += length;
                    out.extend_from_slice(&new[offset as usize..offset as usize + length]);
                }
            }
        }
        assert_eq!(out, new);
        literal
    }

    #[test]
    fn an_edit_in_place_costs_its_block() {
        let basis = noise(1, 1 << 20);
        let mut new = basis.clone();
        new[300_000] ^= 1;
        assert_eq!(rebuild(&basis, &new, &signed(&basis, 2048, false)), 2048);
    }

    #[test]
    fn an_insertion_is_found_again_behind_it() {
        let basis = noise(2, 1 << 20);
        let mut new = basis[..5000].to_vec();
        new.extend_from_slice(b"inserted");
        new.extend_from_slice(&basis[5000..]);
        let literal = rebuild(&basis, &new, &signed(&basis, 2048, false));
        assert!(literal < (1 << 20) / 4, "{literal}");
        assert!(rebuild(&basis, &new, &signed(&basis, 2048, true)) > 1_000_000);
    }

    #[test]
    fn a_signature_of_the_wrong_length_is_refused() {
        let bytes = Signer::new(2048).finish();
        assert!(Segment::parse(&bytes, 0, 4096, 2048, false).is_err());
        assert!(Segment::parse(&bytes[..5], 0, 0, 2048, false).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_edit_is_rebuilt(
            seed: u64, length in 0usize..60_000,
            cuts in proptest::collection::vec((0usize..60_000, 0usize..60_000), 0..6),
        ) {
            let basis = noise(seed, length);
            let mut new = Vec::new();
            for (from, to) in cuts {
                let (from, to) = (from.min(length), to.min(length));
                new.extend_from_slice(&basis[from.min(to)..from.max(to)]);
                new.extend_from_slice(&noise(seed ^ from as u64, to % 300));
            }
            rebuild(&basis, &new, &signed(&basis, 2048, false));
            rebuild(&basis, &new, &signed(&basis, 2048, true));
        }

        #[test]
        fn no_delta_is_read_beyond_its_end(delta in proptest::collection::vec(any::<u8>(), 0..64)) {
            read_delta(&delta, 0, 0, &mut Vec::new());
        }
    }
}
