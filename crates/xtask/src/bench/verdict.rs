//! Whether a figure reaches its goal.

/// A figure, what was hoped for, and the least that will do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// As printed.
    pub(crate) figure: String,
    /// As printed.
    pub(crate) goal: String,
    /// As printed.
    pub(crate) floor: String,
    reached: Reached,
}

/// How far a figure came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Nothing,
    Floor,
    Goal,
}

impl Verdict {
    /// How many times faster than the peer.
    pub(crate) fn times_faster(ratio: f64, goal: f64, floor: f64) -> Self {
        let reached = if ratio >= goal {
            Reached::Goal
        } else if ratio >= floor {
            Reached::Floor
        } else {
            Reached::Nothing
        };
        let times = |ratio: f64| format!("{ratio:.2}x");
        Self { figure: times(ratio), goal: times(goal), floor: times(floor), reached }
    }

    /// A size that must stay small.
    pub(crate) fn at_most_mib(bytes: u64, goal: u64, floor: u64) -> Self {
        let reached = if bytes <= goal << 20 {
            Reached::Goal
        } else if bytes <= floor << 20 {
            Reached::Floor
        } else {
            Reached::Nothing
        };
        Self {
            figure: format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            goal: format!("{goal} MiB"),
            floor: format!("{floor} MiB"),
            reached,
        }
    }

    /// One more condition of the goal, such as bytes on the wire.
    #[must_use]
    pub(crate) fn and(mut self, met: bool, figure: &str, goal: &str) -> Self {
        if !met {
            self.reached = self.reached.min(Reached::Floor);
        }
        self.figure = format!("{}, {figure}", self.figure);
        self.goal = format!("{}, {goal}", self.goal);
        self
    }

    /// In a word or two.
    pub(crate) const fn word(&self) -> &'static str {
        match self.reached {
            Reached::Goal => "goal reached",
            Reached::Floor => "enough",
            Reached::Nothing => "NOT ENOUGH",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_held_against_goal_and_floor() {
        let word = |ratio| Verdict::times_faster(ratio, 3.0, 1.5).word();
        assert_eq!((word(3.0), word(2.9), word(1.4)), ("goal reached", "enough", "NOT ENOUGH"));
        let word = |mib: u64| Verdict::at_most_mib(mib << 20, 32, 96).word();
        assert_eq!((word(32), word(33), word(97)), ("goal reached", "enough", "NOT ENOUGH"));
    }

    #[test]
    fn a_goal_with_two_conditions_needs_both() {
        let fast = Verdict::times_faster(2.5, 2.0, 1.2);
        assert_eq!(fast.clone().and(true, "wire 0.9x", "wire 1.1x").word(), "goal reached");
        assert_eq!(fast.and(false, "wire 1.5x", "wire 1.1x").word(), "enough");
    }
}
