//! `GoDuration`: a duration in the form Go writes, such as `1m50.209297869s`.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;

/// A duration in the form Go writes and Kubernetes' status fields use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct GoDuration(pub SignedDuration);

/// Text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration such as 1m50.2s")]
pub struct GoDurationError {
    /// The text.
    pub text: String,
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < 0 {
            f.write_str("-")?;
        }
        let nanos = nanos.unsigned_abs();
        if nanos < 1_000 {
            return write!(f, "{nanos}ns");
        }
        if nanos < 1_000_000 {
            return fraction(f, nanos, 1_000, "µs");
        }
        if nanos < 1_000_000_000 {
            return fraction(f, nanos, 1_000_000, "ms");
        }
        let minutes = nanos / 60_000_000_000;
        let seconds = nanos % 60_000_000_000;
        if minutes >= 60 {
            write!(f, "{}h", minutes / 60)?;
        }
        if minutes > 0 {
            write!(f, "{}m", minutes % 60)?;
        }
        fraction(f, seconds, 1_000_000_000, "s")
    }
}

fn fraction(f: &mut fmt::Formatter<'_>, value: u128, unit: u128, name: &str) -> fmt::Result {
    write!(f, "{}", value / unit)?;
    let rest = value % unit;
    if rest != 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

impl FromStr for GoDuration {
    type Err = GoDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| GoDurationError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<GoDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(GoDuration(SignedDuration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && decimals.is_empty() {
            return None;
        }
        if !whole.is_empty() {
            nanos = nanos.checked_add(whole.parse::<i128>().ok()?.checked_mul(unit)?)?;
        }
        let mut scale = unit;
        for digit in decimals.bytes() {
            if !digit.is_ascii_digit() {
                return None;
            }
            scale /= 10;
            nanos = nanos.checked_add(i128::from(digit - b'0') * scale)?;
        }
        rest = tail;
    }
    let nanos = if negative { -nanos } else { nanos };
    // As in Go, a duration is at most 2^63 nanoseconds.
    Some(GoDuration(SignedDuration::from_nanos(i64::try_from(nanos).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (350_000_000, "350ms"),
            (28_800_000_000, "28.8s"),
            (60_000_000_000, "1m0s"),
            (110_209_297_869, "1m50.209297869s"),
            (3_600_000_000_000, "1h0m0s"),
            (-1_000_000_000, "-1s"),
        ] {
            assert_eq!(GoDuration(SignedDuration::from_nanos(nanos)).to_string(), text);
            assert_eq!(text.parse(), Ok(GoDuration(SignedDuration::from_nanos(nanos))));
        }
    }

    #[test]
    fn what_go_cannot_read_is_refused() {
        for text in ["", "-", "1", "s", ".s", "1.2.3s", "1x", "1s2", " 1s", "9999999999h"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_comes_back_from_its_text(nanos: i64) {
            let duration = GoDuration(SignedDuration::from_nanos(nanos));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,40}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
