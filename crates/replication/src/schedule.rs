//! `Schedule`: a cron expression, and the next time it names.
//!
//! The dialect is what passes both upstream's schema and upstream's parser: five numeric fields
//! (minute, hour, day of month, month, day of week from 0, Sunday, to 6), or one of six nicknames,
//! with an optional `TZ=ZONE ` or `CRON_TZ=ZONE ` before the five. When both days are restricted, a
//! day that fits either will do; only `*` does not restrict, while `*/2` does.
//!
//! Times are of the wall clock. A time that the clock skips in spring is skipped; a time that it
//! shows twice in autumn comes twice.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan};

/// How far ahead the next time is looked for.
const YEARS: i16 = 5;

/// By how many hours a clock may be set back.
const LONGEST_FOLD: i64 = 25;

const BLANKS: [char; 5] = [' ', '\t', '\n', '\x0c', '\r'];

/// A cron expression with its time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    fields: Fields,
    zone: TimeZone,
}

/// Why a text is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The text is of another form than five fields or a nickname.
    #[error(
        "{text:?} is not a schedule: expected five fields such as \"0 3 * * 1\", or one of @annually, @yearly, @monthly, @weekly, @daily, @hourly"
    )]
    Form {
        /// What was written.
        text: String,
    },
    /// One of the five fields.
    #[error("{text:?} is not a schedule: {field} {value:?} {why}")]
    Field {
        /// What was written.
        text: String,
        /// Which field.
        field: &'static str,
        /// The field.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The time zone.
    #[error("{text:?} is not a schedule: no such time zone: {zone:?}")]
    Zone {
        /// What was written.
        text: String,
        /// The time zone.
        zone: String,
    },
    /// There is no such day.
    #[error("{text:?} never fires")]
    NeverFires {
        /// What was written.
        text: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

/// A field's name, least and greatest number.
type Bounds = (&'static str, u32, u32);
const MINUTE: Bounds = ("minute", 0, 59);
const HOUR: Bounds = ("hour", 0, 23);
const DAY: Bounds = ("day of month", 1, 31);
const MONTH: Bounds = ("month", 1, 12);
const WEEKDAY: Bounds = ("day of week", 0, 6);

impl Schedule {
    /// Reads a schedule; `default_zone` is its time zone unless it names one itself.
    pub fn parse(text: &str, default_zone: &TimeZone) -> Result<Self, ScheduleError> {
        let form = || ScheduleError::Form { text: text.to_owned() };
        let (zone, expression) =
            match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
                None => (default_zone.clone(), text),
                Some(rest) => {
                    let (name, expression) = rest.split_once(' ').ok_or_else(form)?;
                    // Go takes no name for UTC and `Local` for the zone of the process.
                    let zone = match name {
                        "" => TimeZone::UTC,
                        "Local" => default_zone.clone(),
                        _ => TimeZone::get(name).map_err(|_| ScheduleError::Zone {
                            text: text.to_owned(),
                            zone: name.to_owned(),
                        })?,
                    };
                    (zone, expression)
                }
            };
        let prefixed = expression.len() != text.len();
        let expression = match expression {
            // The schema admits nicknames only at the beginning.
            _ if prefixed => expression,
            "@annually" | "@yearly" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => expression,
        };
        // Any blanks at the beginning, one between two fields, at most one at the end.
        let expression = expression.trim_start_matches(BLANKS);
        let expression = expression.strip_suffix(BLANKS).unwrap_or(expression);
        let fields: Vec<&str> = expression.split(BLANKS).collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return Err(form()) };
        if fields.iter().any(|field| field.is_empty()) {
            return Err(form());
        }
        let named = |bounds: Bounds, value: &str, why: String| ScheduleError::Field {
            text: text.to_owned(),
            field: bounds.0,
            value: value.to_owned(),
            why,
        };
        let first = |value| field(value, MINUTE, true).map_err(|why| named(MINUTE, value, why));
        let other =
            |value, bounds| field(value, bounds, false).map_err(|why| named(bounds, value, why));
        let fields = Fields {
            minutes: first(minute)?,
            hours: other(hour, HOUR)?,
            days: other(day, DAY)?,
            months: other(month, MONTH)?,
            weekdays: other(weekday, WEEKDAY)?,
            any_day: is_any(day),
            any_weekday: is_any(weekday),
        };
        if !fields.ever() {
            return Err(ScheduleError::NeverFires { text: text.to_owned() });
        }
        Ok(Self { text: text.to_owned(), fields, zone })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its time zone.
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time strictly after `time`; `None` when there is none within five years.
    pub fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        let local = self.zone.to_datetime(time);
        let last_year = local.year().checked_add(YEARS)?;
        // Where clocks were set back over midnight, times of the day before can still be to come.
        let mut date = local.date().yesterday().ok()?;
        while date.year() <= last_year {
            if !self.fields.month(date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
                continue;
            }
            let tomorrow = date.tomorrow().ok()?;
            if let Some(next) = self.next_on(date, time) {
                let later = if self.is_quiet(date) { None } else { self.next_on(tomorrow, time) };
                return Some(later.map_or(next, |later| later.min(next)));
            }
            date = tomorrow;
        }
        None
    }

    /// Whether `time` is one of its times.
    pub fn contains(&self, time: Timestamp) -> bool {
        time.checked_sub(SignedDuration::from_nanos(1))
            .is_ok_and(|before| self.next_after(before) == Some(time))
    }

    /// The first time after `time` on `date`.
    fn next_on(&self, date: Date, time: Timestamp) -> Option<Timestamp> {
        if !self.fields.month(date.month()) || !self.fields.day(date) {
            return None;
        }
        let earliest =
            self.zone.to_datetime(time).checked_sub(LONGEST_FOLD.hours()).unwrap_or(DateTime::MIN);
        let walls = bits(self.fields.hours)
            .flat_map(|hour| bits(self.fields.minutes).map(move |minute| (hour, minute)))
            .filter_map(|(hour, minute)| {
                let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
                Some(date.at(hour, minute, 0, 0))
            })
            .skip_while(|&wall| wall < earliest);
        let mut times =
            walls.flat_map(|wall| instants(&self.zone, wall)).flatten().filter(|&at| at > time);
        // Times are in order unless the clock is set back somewhere near.
        if self.is_quiet(date) { times.next() } else { times.min() }
    }

    /// Whether no clock is set forth or back on `date` or the days beside it.
    fn is_quiet(&self, date: Date) -> bool {
        let near = |days: i64| {
            let midnight = date.checked_add(days.days()).ok()?.at(0, 0, 0, 0);
            self.zone.to_ambiguous_timestamp(midnight).compatible().ok()
        };
        let (Some(from), Some(to)) = (near(-2), near(3)) else { return false };
        self.zone.following(from).next().is_none_or(|transition| transition.timestamp() > to)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Fields {
    fn month(&self, month: i8) -> bool {
        u32::try_from(month).is_ok_and(|month| self.months >> month & 1 == 1)
    }

    fn day(&self, date: Date) -> bool {
        let weekday = u32::try_from(date.weekday().to_sunday_zero_offset()).unwrap_or(0);
        let day = u32::try_from(date.day()).unwrap_or(0);
        let (fits_day, fits_weekday) =
            (self.days >> day & 1 == 1, self.weekdays >> weekday & 1 == 1);
        if self.any_day || self.any_weekday {
            fits_day && fits_weekday
        } else {
            fits_day || fits_weekday
        }
    }

    /// Whether there is such a date in any year.
    fn ever(&self) -> bool {
        if !self.any_day && !self.any_weekday {
            return true;
        }
        let longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        (1..).zip(longest).any(|(month, longest)| {
            self.months >> month & 1 == 1 && bits(self.days).any(|day| day <= longest)
        })
    }
}

/// Whether a field does not restrict its day. (The parser takes a step of 1 for none.)
fn is_any(field: &str) -> bool {
    field.strip_prefix('*').is_some_and(|step| {
        step.is_empty() || step.strip_prefix('/').and_then(|step| step.parse().ok()) == Some(1_u32)
    })
}

fn bits(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |bit| set >> bit & 1 == 1)
}

/// The instants at which the clock shows `wall`: none in a gap, two in a fold.
fn instants(zone: &TimeZone, wall: DateTime) -> [Option<Timestamp>; 2] {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(wall).ok(), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => {
            [before.to_timestamp(wall).ok(), after.to_timestamp(wall).ok()]
        }
    }
}

/// The numbers a field names, as bits. Upstream's schema looks at the beginning of the first field
/// only as far as its last entry, and keeps the others to one form each.
fn field(text: &str, bounds: Bounds, first: bool) -> Result<u64, String> {
    let entries: Vec<&str> = text.split(',').collect();
    let mut set = 0;
    for entry in &entries {
        let (range, step) = match entry.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (*entry, None),
        };
        let plain = range.bytes().all(|digit| digit.is_ascii_digit());
        let simple = match (entries.len(), plain, step) {
            // One entry: a number, a range, `*`, or a step from a number or from `*`.
            (1, true, _) | (1, false, None) => true,
            (1, false, Some(_)) => range == "*",
            // A list is of numbers.
            (_, true, None) => true,
            (_, _, _) => false,
        };
        if !simple && !first {
            return Err("mixes a list, a range and a step, which only the minute may".to_owned());
        }
        set |= entry_bits(range, step, bounds)?;
    }
    Ok(set)
}

fn entry_bits(
    range: &str,
    step: Option<&str>,
    (_, least, greatest): Bounds,
) -> Result<u64, String> {
    let (low, high) = match range.split_once('-') {
        _ if range == "*" => (least, greatest),
        Some((low, high)) => (number(low)?, number(high)?),
        None => {
            let low = number(range)?;
            (low, if step.is_some() { greatest } else { low })
        }
    };
    let step = match step {
        Some(step) => number(step)?,
        None => 1,
    };
    if low < least {
        return Err(format!("is below {least}"));
    }
    if high > greatest {
        return Err(format!("is above {greatest}"));
    }
    if low > high {
        return Err("is a range that ends before it begins".to_owned());
    }
    if step == 0 {
        return Err("has a step of 0".to_owned());
    }
    Ok((low..=high).step_by(step as usize).fold(0, |set, number| set | 1 << number))
}

fn number(text: &str) -> Result<u32, String> {
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("is not made of numbers, `*`, `,`, `-` and `/`".to_owned());
    }
    // Anything longer is out of every field's range.
    Ok(text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
