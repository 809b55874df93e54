//! `Spread`: median, least and most of several durations.

use std::fmt;
use std::time::Duration;

/// Median, least and most of several durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) median: Duration,
    pub(super) least: Duration,
    pub(super) most: Duration,
}

impl Spread {
    /// `None` of nothing. Of an even number of durations, the median lies between the middle two.
    pub(super) fn of(durations: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2
        } else {
            sorted[middle]
        };
        Some(Self { median, least, most })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, least, most] =
            [self.median, self.least, self.most].map(|duration| duration.as_secs_f64());
        write!(f, "{median:.2} s ({least:.2} to {most:.2})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[u64]) -> Option<Spread> {
        Spread::of(seconds.iter().map(|&seconds| Duration::from_secs(seconds)))
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3, 9, 1]).unwrap().to_string(), "3.00 s (1.00 to 9.00)");
        assert_eq!(of(&[4, 1, 9, 3]).unwrap().to_string(), "3.50 s (1.00 to 9.00)");
    }
}
