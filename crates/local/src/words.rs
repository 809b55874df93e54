//! Sizes, durations, counts and reasons as people say them.

use std::io;

/// `1.2 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// `83 731`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// `6.2 s`, `41 s`, `3 m 10 s`, `2 h 5 m`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} m {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} m", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// `12 min`, `2 days`: roughly, for how long ago or until when.
pub(crate) fn roughly(seconds: i64) -> String {
    let some = |count: i64, one: &str, more: &str| {
        format!("{count} {}", if count == 1 { one } else { more })
    };
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => some(seconds / 3600, "hour", "hours"),
        seconds => some(seconds / 86_400, "day", "days"),
    }
}

/// What went wrong, without the number the system has for it.
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_lowercase().chain(characters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_binary_units() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (612 << 20, "612 MiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn digits_are_in_groups_of_three() {
        for (number, text) in [(7, "7"), (831, "831"), (83_731, "83 731"), (1_000_000, "1 000 000")]
        {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_are_what_people_say() {
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (6.24, "6.2 s"),
            (41.2, "41 s"),
            (190.0, "3 m 10 s"),
            (90_000.0, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(roughly(720), "12 min");
        assert_eq!(roughly(200_000), "2 days");
    }

    #[test]
    fn a_reason_has_no_number() {
        assert_eq!(io_reason(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
