//! `Bits`: a set of numbers that threads fill together.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug)]
pub(crate) struct Bits(Vec<AtomicU64>);

impl Bits {
    /// An empty set for the numbers below `end`.
    pub(crate) fn new(end: usize) -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(end.div_ceil(64)).collect())
    }

    /// Adds a number; false if it was there.
    pub(crate) fn insert(&self, number: usize) -> bool {
        let bit = 1 << (number % 64);
        self.0.get(number / 64).is_some_and(|word| word.fetch_or(bit, Relaxed) & bit == 0)
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word.load(Relaxed) >> (number % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_added_once() {
        let bits = Bits::new(130);
        for number in [0, 63, 64, 129] {
            assert!(!bits.contains(number));
            assert!(bits.insert(number));
            assert!(!bits.insert(number));
            assert!(bits.contains(number));
        }
        assert!(!bits.contains(1) && !bits.contains(1000));
    }
}
