//! How often and how long a mover tries again.

use std::time::Duration;

/// Delays that double, from a quarter of a second: whoever is called is often about to listen. They
/// add up to half a minute, as upstream's do.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    left: u32,
}

impl Backoff {
    /// How many attempts there are in all.
    pub const ATTEMPTS: u32 = 8;
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: Duration::from_millis(250), left: Self::ATTEMPTS - 1 }
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
    fn all_attempts_take_half_a_minute_of_waiting() {
        let delays: Vec<u128> = Backoff::default().map(|delay| delay.as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 16_000]);
    }
}
