//! How often and how long a mover tries again.

use std::time::Duration;

/// Delays that double: 2, 4, 8, 16 seconds between five attempts, as upstream's movers.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    left: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Duration::from_secs(2), left: 4 }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    /// How long to wait before the next attempt; `None` when there have been enough.
    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let delay = self.next;
        self.next *= 2;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_attempts_take_half_a_minute_of_waiting() {
        let delays: Vec<u64> = Backoff::default().map(|delay| delay.as_secs()).collect();
        assert_eq!(delays, [2, 4, 8, 16]);
    }
}
