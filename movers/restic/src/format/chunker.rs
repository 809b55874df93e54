//! Where the content of a file is cut into blobs.
//!
//! restic cuts where a Rabin fingerprint of the last 64 bytes has 20 zero bits, not before 512 KiB
//! and at 8 MiB at the latest. The fingerprint depends on nothing but those 64 bytes, so several
//! stretches of a file are searched at once: one alone waits for the memory at every byte.

use std::fmt;

/// No chunk but the last of a file is shorter, in bytes.
pub const MIN_SIZE: usize = 512 << 10;
/// No chunk is longer, in bytes.
pub const MAX_SIZE: usize = 8 << 20;

const WINDOW: usize = 64;
const SPLIT_MASK: u64 = (1 << 20) - 1;
/// How many stretches are searched at once, and how long each is.
const LANES: usize = 4;
const STRETCH: usize = 4096;

/// Cuts files, by the polynomial of one repository.
pub struct Chunker {
    out: [u64; 256],
    reduce: [u64; 256],
    shift: u32,
}

impl fmt::Debug for Chunker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chunker")
    }
}

/// Where a search has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The chunk ends here, in bytes from its start.
    At(usize),
    /// There is no end in what was given; more is needed.
    NotYet,
}

const fn degree(polynomial: u64) -> u32 {
    63 - polynomial.leading_zeros()
}

const fn remainder(mut value: u64, polynomial: u64) -> u64 {
    let degree_of = degree(polynomial);
    while value != 0 && degree(value) >= degree_of {
        value ^= polynomial << (degree(value) - degree_of);
    }
    value
}

impl Chunker {
    /// For a polynomial from a repository's config; `None` if it is none that restic accepts: of
    /// degree 9 to 53.
    pub fn new(polynomial: u64) -> Option<Self> {
        if polynomial == 0 || !(9..=53).contains(&degree(polynomial)) {
            return None;
        }
        let degree_of = degree(polynomial);
        let mut chunker = Self { out: [0; 256], reduce: [0; 256], shift: degree_of - 8 };
        for (byte, (out, reduce)) in
            (0u64..).zip(chunker.out.iter_mut().zip(chunker.reduce.iter_mut()))
        {
            let mut hash = remainder(byte, polynomial);
            for _ in 0..WINDOW - 1 {
                hash = remainder(hash << 8, polynomial);
            }
            *out = hash;
            *reduce = remainder(byte << degree_of, polynomial) | byte << degree_of;
        }
        Some(chunker)
    }

    #[inline(always)]
    fn append(&self, digest: u64, byte: u8) -> u64 {
        // The degree is at most 53: what is shifted out of the digest fits a byte.
        let index = (digest >> self.shift) as u8;
        (digest << 8 | u64::from(byte)) ^ self.reduce[usize::from(index)]
    }

    /// The end of the chunk that begins at the start of `data`, knowing that it does not end
    /// within its first `searched` bytes. At the end of a file whatever is there is a chunk.
    pub fn cut(&self, data: &[u8], searched: usize, at_end: bool) -> Cut {
        let limit = data.len().min(MAX_SIZE);
        // Position p stands for the chunk of p bytes, judged by the 64 bytes before p.
        let mut position = MIN_SIZE.max(searched + 1);
        while position <= limit {
            let stretch = ((limit - position + 1) / LANES).min(STRETCH);
            let found = if stretch >= WINDOW {
                let found = self.search_lanes(data, position, stretch);
                position += stretch * LANES;
                found
            } else {
                let found = self.search(data, position, limit);
                position = limit + 1;
                found
            };
            if let Some(end) = found {
                return Cut::At(end);
            }
        }
        if limit == MAX_SIZE {
            Cut::At(MAX_SIZE)
        } else if at_end && !data.is_empty() {
            Cut::At(data.len())
        } else {
            Cut::NotYet
        }
    }

    /// The digest of the 64 bytes before `position`.
    fn digest_before(&self, data: &[u8], position: usize) -> u64 {
        let window = position.checked_sub(WINDOW).and_then(|from| data.get(from..position));
        window.unwrap_or_default().iter().fold(0, |digest, byte| self.append(digest, *byte))
    }

    /// The first end in `from..=to`.
    fn search(&self, data: &[u8], from: usize, to: usize) -> Option<usize> {
        let mut digest = self.digest_before(data, from);
        if digest & SPLIT_MASK == 0 {
            return Some(from);
        }
        let leaving = data.get(from - WINDOW..to - WINDOW)?;
        let entering = data.get(from..to)?;
        for (at, (old, new)) in (from + 1..).zip(leaving.iter().zip(entering)) {
            digest = self.append(digest ^ self.out[usize::from(*old)], *new);
            if digest & SPLIT_MASK == 0 {
                return Some(at);
            }
        }
        None
    }

    /// The first end in `from..from + LANES * stretch`, whose bytes are all there.
    fn search_lanes(&self, data: &[u8], from: usize, stretch: usize) -> Option<usize> {
        let mut digests = [0; LANES];
        let mut found = [usize::MAX; LANES];
        let mut bytes: [(&[u8], &[u8]); LANES] = [(&[], &[]); LANES];
        for lane in 0..LANES {
            let start = from + lane * stretch;
            digests[lane] = self.digest_before(data, start);
            if digests[lane] & SPLIT_MASK == 0 {
                found[lane] = start;
            }
            let leaving = data.get(start - WINDOW..start - WINDOW + stretch - 1)?;
            bytes[lane] = (leaving, data.get(start..start + stretch - 1)?);
        }
        let [a, b, c, d] = bytes;
        for at in 0..stretch - 1 {
            let step =
                [(a.0[at], a.1[at]), (b.0[at], b.1[at]), (c.0[at], c.1[at]), (d.0[at], d.1[at])];
            let mut zero = false;
            for lane in 0..LANES {
                let (old, new) = step[lane];
                digests[lane] = self.append(digests[lane] ^ self.out[usize::from(old)], new);
                zero |= digests[lane] & SPLIT_MASK == 0;
            }
            if zero {
                for lane in 0..LANES {
                    if digests[lane] & SPLIT_MASK == 0 {
                        found[lane] = found[lane].min(from + lane * stretch + at + 1);
                    }
                }
            }
        }
        found.into_iter().min().filter(|end| *end != usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// restic's own loop, byte by byte.
    fn reference(chunker: &Chunker, data: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut start = 0;
        while start < data.len() {
            let (mut window, mut at) = ([0u8; WINDOW], 0);
            let mut digest = 0;
            let mut slide = |digest: u64, byte: u8| {
                let old = std::mem::replace(&mut window[at % WINDOW], byte);
                at += 1;
                chunker.append(digest ^ chunker.out[usize::from(old)], byte)
            };
            digest = slide(digest, 1);
            let rest = &data[start..];
            let mut length = rest.len();
            for (count, byte) in rest.iter().enumerate().skip(MIN_SIZE - WINDOW) {
                digest = slide(digest, *byte);
                let count = count + 1;
                if count >= MIN_SIZE && (digest & SPLIT_MASK == 0 || count >= MAX_SIZE) {
                    length = count;
                    break;
                }
            }
            start += length;
            ends.push(start);
        }
        ends
    }

    fn noise(length: usize, mut seed: u64) -> Vec<u8> {
        (0..length)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect()
    }

    fn ends(chunker: &Chunker, data: &[u8], step: usize) -> Vec<usize> {
        let (mut start, mut have, mut searched) = (0, 0, 0);
        let mut ends = Vec::new();
        while start < data.len() {
            match chunker.cut(&data[start..have], searched, have == data.len()) {
                Cut::At(length) => {
                    start += length;
                    searched = 0;
                    ends.push(start);
                }
                Cut::NotYet => {
                    searched = have - start;
                    have = data.len().min(have + step);
                }
            }
        }
        ends
    }

    #[test]
    fn only_polynomials_of_a_fitting_degree_are_taken() {
        assert!(Chunker::new(0x3DA3358B4DC173).is_some());
        for bad in [0, 1, 0xff, u64::MAX] {
            assert!(Chunker::new(bad).is_none());
        }
    }

    #[test]
    fn zeros_are_cut_as_early_as_may_be() {
        let chunker = Chunker::new(0x3DA3358B4DC173).unwrap();
        assert_eq!(chunker.cut(&vec![0; 2 << 20], 0, false), Cut::At(MIN_SIZE));
        assert_eq!(chunker.cut(&vec![0; MIN_SIZE - 1], 0, false), Cut::NotYet);
        assert_eq!(chunker.cut(&vec![0; MIN_SIZE - 1], 0, true), Cut::At(MIN_SIZE - 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn cuts_are_where_the_plain_loop_cuts(
            seed in 1u64.., length in 0usize..12 << 20, step in 1usize..3 << 20, constant in any::<bool>(),
        ) {
            let chunker = Chunker::new(0x3DA3358B4DC173).unwrap();
            let data = if constant { vec![seed as u8; length] } else { noise(length, seed) };
            prop_assert_eq!(ends(&chunker, &data, step.max(1000)), reference(&chunker, &data));
        }
    }
}
