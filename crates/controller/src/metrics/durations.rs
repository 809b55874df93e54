//! `Durations`: how long syncs took, as a Prometheus summary tells it.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// Quantiles are those of syncs that ended within so long.
const WINDOW: SignedDuration = SignedDuration::from_hours(24);
/// And of so many at most, the latest. More than a day has minutes end in 24 hours only without a
/// trigger.
const KEPT: usize = 1024;
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// How long syncs took: all of them summed up, and the latest one by one.
#[derive(Debug, Clone, Default)]
pub(super) struct Durations {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// When each ended, and its seconds.
    latest: VecDeque<(Timestamp, f64)>,
}

impl Durations {
    /// A sync that ended now.
    pub(super) fn add(&mut self, now: Timestamp, seconds: f64) {
        self.sum += seconds;
        self.count += 1;
        self.latest.retain(|(ended, _)| is_recent(*ended, now));
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back((now, seconds));
    }

    /// Each quantile with its value, by nearest rank: one of the durations. Not a number if no sync
    /// has ended recently.
    pub(super) fn quantiles(&self, now: Timestamp) -> [(f64, f64); QUANTILES.len()] {
        let recent = self.latest.iter().filter(|(ended, _)| is_recent(*ended, now));
        let mut recent: Vec<f64> = recent.map(|(_, seconds)| *seconds).collect();
        recent.sort_by(f64::total_cmp);
        QUANTILES.map(|quantile| {
            let rank = (quantile * recent.len() as f64).ceil() as usize;
            (quantile, recent.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN))
        })
    }
}

fn is_recent(ended: Timestamp, now: Timestamp) -> bool {
    now.duration_since(ended) < WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn quantiles_are_durations_that_occurred() {
        let mut durations = Durations::default();
        for second in 1..=100_i32 {
            durations.add(at(second.into()), f64::from(101 - second));
        }
        assert_eq!(durations.quantiles(at(100)), [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0)]);
        assert_eq!((durations.sum, durations.count), (5050.0, 100));
    }

    #[test]
    fn a_day_later_only_sum_and_count_are_left() {
        let mut durations = Durations::default();
        durations.add(at(0), 7.0);
        assert_eq!(durations.quantiles(at(86_399))[0].1, 7.0);
        assert!(durations.quantiles(at(86_400)).iter().all(|(_, value)| value.is_nan()));
        assert_eq!((durations.sum, durations.count), (7.0, 1));
    }

    #[test]
    fn memory_is_bounded_however_many_syncs_end() {
        let mut durations = Durations::default();
        for second in 0..5000 {
            durations.add(at(second), 1.0);
        }
        assert_eq!((durations.latest.len(), durations.count), (KEPT, 5000));
    }
}
