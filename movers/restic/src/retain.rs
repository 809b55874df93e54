//! Which snapshots are kept: the options of `restic forget`, and what they come to.
//!
//! The rules are restic's (`internal/data/snapshot_policy.go` of 0.19): each option keeps the newest
//! snapshot of each of so many hours, days and so on, in the time zone that a snapshot was recorded
//! in; the oldest snapshot fills what is left of any of them.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::error::Error;

/// What is kept. A number is how many; below zero: all. With nothing set, everything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    last: i64,
    hourly: i64,
    daily: i64,
    weekly: i64,
    monthly: i64,
    yearly: i64,
    within: Within,
}

/// A duration by the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Within {
    years: i32,
    months: i32,
    days: i32,
    hours: i32,
}

/// When a snapshot was taken: the instant, and what the clock of its host showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The instant.
    pub at: Timestamp,
    /// The clock of the host.
    pub clock: DateTime,
}

impl Taken {
    /// Reads the time of a snapshot (RFC 3339).
    pub fn parse(text: &str) -> Option<Self> {
        let at: Timestamp = text.parse().ok()?;
        let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        let time = pieces.time()?;
        Some(Self { at, clock: pieces.date().to_datetime(time) })
    }
}

impl Policy {
    /// Reads options such as `--keep-daily 7 --keep-within 1y5m`; none: the last one is kept.
    pub fn parse(options: &str) -> Result<Self, Error> {
        let invalid = |why: String| Error::Setting { setting: "retain", why };
        let mut policy = Self::default();
        let mut words = options.split_ascii_whitespace().peekable();
        if words.peek().is_none() {
            policy.last = 1;
        }
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| invalid(format!("{option} has no value")))?;
            let field = match option {
                "--keep-last" => &mut policy.last,
                "--keep-hourly" => &mut policy.hourly,
                "--keep-daily" => &mut policy.daily,
                "--keep-weekly" => &mut policy.weekly,
                "--keep-monthly" => &mut policy.monthly,
                "--keep-yearly" => &mut policy.yearly,
                "--keep-within" => {
                    policy.within = Within::parse(value).ok_or_else(|| {
                        invalid(format!(
                            "within is {value:?}, expected a duration such as 1y5m7d2h"
                        ))
                    })?;
                    continue;
                }
                _ => return Err(invalid(format!("{option} is no option of it"))),
            };
            *field = value
                .parse()
                .map_err(|_| invalid(format!("{option} is {value:?}, expected a number")))?;
        }
        Ok(policy)
    }

    /// Which of these snapshots, newest first, are kept.
    pub fn keep(&self, snapshots: &[Taken], now: Timestamp) -> Vec<bool> {
        if *self == Self::default() {
            return vec![true; snapshots.len()];
        }
        let newest = snapshots.iter().find(|taken| taken.at <= now).or_else(|| snapshots.last());
        let since = newest.and_then(|newest| self.within.before(newest));
        let mut rules = self.rules();
        let oldest = snapshots.len().saturating_sub(1);
        let kept = snapshots.iter().enumerate().map(|(nr, taken)| {
            let mut keep = since.is_some_and(|since| taken.at > since);
            for rule in &mut rules {
                keep |= rule.takes(nr, taken, nr == oldest);
            }
            keep
        });
        kept.collect()
    }

    fn rules(&self) -> [Rule; 6] {
        let rule = |left, period: fn(usize, &Taken) -> i64| Rule { left, period, last: None };
        [
            rule(self.last, |nr, _| i64::try_from(nr).unwrap_or(i64::MAX)),
            rule(self.hourly, |_, taken| {
                day(taken.clock.date()) * 100 + i64::from(taken.clock.hour())
            }),
            rule(self.daily, |_, taken| day(taken.clock.date())),
            rule(self.weekly, |_, taken| {
                let week = taken.clock.date().iso_week_date();
                i64::from(week.year()) * 100 + i64::from(week.week())
            }),
            rule(self.monthly, |_, taken| day(taken.clock.date()) / 100),
            rule(self.yearly, |_, taken| i64::from(taken.clock.year())),
        ]
    }
}

/// A date as a number: 20260131.
fn day(date: Date) -> i64 {
    i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day())
}

/// One option while it is applied.
struct Rule {
    left: i64,
    period: fn(usize, &Taken) -> i64,
    last: Option<i64>,
}

impl Rule {
    fn takes(&mut self, nr: usize, taken: &Taken, oldest: bool) -> bool {
        if self.left == 0 {
            return false;
        }
        let period = (self.period)(nr, taken);
        if self.last == Some(period) && !oldest {
            return false;
        }
        self.last = Some(period);
        self.left -= i64::from(self.left > 0);
        true
    }
}

impl Within {
    fn parse(text: &str) -> Option<Self> {
        let mut within = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let unit = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
            let (number, after) = rest.split_at(unit);
            let number = number.parse().ok()?;
            let mut letters = after.chars();
            match letters.next()? {
                'y' => within.years = number,
                'm' => within.months = number,
                'd' => within.days = number,
                'h' => within.hours = number,
                _ => return None,
            }
            rest = letters.as_str();
        }
        Some(within)
    }

    /// The instant that lies this long before. Days that a month does not have go into the next, as
    /// in restic.
    fn before(&self, newest: &Taken) -> Option<Timestamp> {
        if *self == Self::default() {
            return None;
        }
        let date = newest.clock.date();
        let months = i64::from(date.year()) * 12 + i64::from(date.month())
            - 1
            - (i64::from(self.years) * 12 + i64::from(self.months));
        let first = Date::new(
            i16::try_from(months.div_euclid(12)).ok()?,
            i8::try_from(months.rem_euclid(12) + 1).ok()?,
            1,
        );
        let days = i64::from(date.day()) - 1 - i64::from(self.days);
        // Beyond the calendar: everything is within it.
        let Some(date) = first.ok().and_then(|first| first.checked_add(days.days()).ok()) else {
            return Some(Timestamp::MIN);
        };
        let zone = newest.clock.duration_since(jiff::tz::Offset::UTC.to_datetime(newest.at));
        let clock = date.to_datetime(newest.clock.time());
        let instant = jiff::tz::Offset::UTC.to_timestamp(clock).ok()?;
        let hours = SignedDuration::from_hours(i64::from(self.hours));
        Some(
            instant
                .checked_sub(zone)
                .and_then(|at| at.checked_sub(hours))
                .unwrap_or(Timestamp::MIN),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(options: &str, times: &[&str]) -> Vec<bool> {
        let taken: Vec<Taken> = times.iter().map(|time| Taken::parse(time).unwrap()).collect();
        Policy::parse(options).unwrap().keep(&taken, "2030-01-01T00:00:00Z".parse().unwrap())
    }

    const TIMES: [&str; 6] = [
        "2026-03-31T12:30:00Z",
        "2026-03-31T12:10:00Z",
        "2026-03-31T09:00:00Z",
        "2026-03-30T23:30:00-02:00",
        "2026-03-03T13:00:00Z",
        "2025-12-31T00:00:00Z",
    ];

    #[test]
    fn each_option_keeps_the_newest_of_its_periods() {
        let [yes, no] = [true, false];
        for (options, expected) in [
            ("", [yes, no, no, no, no, no]),
            ("--keep-last 2", [yes, yes, no, no, no, no]),
            ("--keep-last 0", [yes; 6]),
            ("--keep-hourly 2", [yes, no, yes, no, no, no]),
            ("--keep-daily 3", [yes, no, no, yes, yes, no]),
            ("--keep-daily -1", [yes, no, no, yes, yes, yes]),
            ("--keep-weekly 2", [yes, no, no, no, yes, no]),
            ("--keep-monthly 5", [yes, no, no, no, no, yes]),
            ("--keep-yearly 1", [yes, no, no, no, no, no]),
            ("--keep-within 4h", [yes, yes, yes, no, no, no]),
            // One month before 31 March is 31 February, which is 3 March.
            ("--keep-within 1m", [yes, yes, yes, yes, yes, no]),
            ("--keep-within 1m1h --keep-last 1", [yes, yes, yes, yes, yes, no]),
        ] {
            assert_eq!(kept(options, &TIMES), expected, "{options:?}");
        }
    }

    #[test]
    fn what_is_no_option_is_named() {
        for (options, said) in [
            ("--keep-daily", "retain: --keep-daily has no value"),
            ("--keep-last x", r#"retain: --keep-last is "x", expected a number"#),
            ("--keep-within 3w", r#"retain: within is "3w", expected a duration such as 1y5m7d2h"#),
            ("--keep-all 1", "retain: --keep-all is no option of it"),
        ] {
            assert_eq!(Policy::parse(options).unwrap_err().to_string(), said);
        }
    }
}
