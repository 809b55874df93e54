//! Quantities: parse and compare as Kubernetes does.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::Error;

const NANO: i128 = 1_000_000_000;
/// Kubernetes takes anything beyond this for this.
const LARGEST: i128 = i64::MAX as i128 * NANO;

/// An amount such as `10Gi`, kept as it was written and compared by its value.
#[derive(Debug, Clone)]
pub struct Quantity {
    text: String,
    nanos: i128,
}

impl Quantity {
    /// An amount of whole bytes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self { text: bytes.to_string(), nanos: (i128::from(bytes) * NANO).min(LARGEST) }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In whole bytes, rounded up; nothing below zero.
    pub fn bytes(&self) -> u64 {
        let whole = self.nanos.max(0) / NANO + i128::from(self.nanos.max(0) % NANO != 0);
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    /// Whether it is more than zero.
    pub fn is_positive(&self) -> bool {
        self.nanos > 0
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match parse(text) {
            Some(nanos) => Ok(Self { text: text.to_owned(), nanos }),
            None => Err(Error::Quantity { text: text.to_owned() }),
        }
    }
}

/// The value in billionths, rounded away from zero, at most [`LARGEST`].
fn parse(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && decimals.is_empty() || decimals.contains('.') {
        return None;
    }
    let (binary, exponent) = scale(suffix)?;
    // Leading and trailing zeros say nothing, and there may be very many.
    let whole = whole.trim_start_matches('0');
    let decimals = decimals.trim_end_matches('0');
    if whole.is_empty() && decimals.bytes().all(|digit| digit == b'0') {
        return Some(0);
    }
    let digits = decimal_digits(whole, decimals, binary, exponent);
    Some(if negative { -digits } else { digits })
}

/// `whole.decimals × 2^binary × 10^exponent` in billionths, rounded up, at most [`LARGEST`].
fn decimal_digits(whole: &str, decimals: &str, binary: u32, exponent: i64) -> i128 {
    let point =
        i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(exponent).saturating_add(9);
    let mut digits = whole.bytes().chain(decimals.bytes()).map(|digit| i128::from(digit - b'0'));
    if binary > 0 {
        // A binary suffix has no exponent: whole part exactly, decimals to 18 places and rounded up.
        let factor = 1_i128 << binary;
        let Some(units) = whole.bytes().try_fold(0_i128, |value, digit| {
            let value = value * 10 + i128::from(digit - b'0');
            (value < LARGEST).then_some(value)
        }) else {
            return LARGEST;
        };
        let Some(units) = units.checked_mul(factor).and_then(|units| units.checked_mul(NANO))
        else {
            return LARGEST;
        };
        let (mut part, mut unit, mut more) = (0_i128, 1_i128, false);
        for digit in decimals.bytes() {
            if unit == 1_000_000_000_000 {
                more |= digit != b'0';
            } else {
                part = part * 10 + i128::from(digit - b'0');
                unit *= 10;
            }
        }
        let scaled = part * factor;
        let (whole_part, rest) = (scaled / unit, scaled % unit);
        let rest_nanos = rest * NANO;
        let nanos = whole_part
            .saturating_mul(NANO)
            .saturating_add(rest_nanos / unit + i128::from(rest_nanos % unit != 0 || more));
        return units.saturating_add(nanos).min(LARGEST);
    }
    let mut value = 0_i128;
    let mut place = 0_i64;
    while place < point {
        match digits.next() {
            Some(digit) => value = value * 10 + digit,
            None if value == 0 => return 0,
            None => value *= 10,
        }
        if value >= LARGEST {
            return LARGEST;
        }
        place += 1;
    }
    value + i128::from(digits.any(|digit| digit != 0) || point < 0)
}

/// The power of two and the power of ten a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i64)> {
    Some(match suffix {
        "" => (0, 0),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            (0, i64::from(exponent.parse::<i32>().ok()?))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &str) -> u64 {
        text.parse::<Quantity>().unwrap().bytes()
    }

    #[test]
    fn quantities_mean_what_kubernetes_means() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1),
            ("+1", 1),
            ("-5Gi", 0),
            ("1k", 1_000),
            ("1Ki", 1_024),
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            (".5Mi", 1 << 19),
            ("0.1Ki", 103),
            ("1500m", 2),
            ("1n", 1),
            ("1e3", 1_000),
            ("1.5E3", 1_500),
            ("12e-1", 2),
            ("1E", 1_000_000_000_000_000_000),
            ("9Ei", i64::MAX as u64),
            ("1e400", i64::MAX as u64),
            ("0e400", 0),
            ("1e-400", 1),
            ("00000000000000000000000000000000000000000000001", 1),
            ("99999999999999999999999999999999999999999999999999999999Ei", i64::MAX as u64),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for text in
            ["", "-", ".", "Gi", "1gi", "1 Gi", "1K", "1.2.3", "1e", "1e+", "10GiB", "0x10", "1Gi "]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn quantities_are_compared_by_value() {
        assert_eq!("1Gi".parse::<Quantity>(), "1024Mi".parse::<Quantity>());
        assert!("1G".parse::<Quantity>().unwrap() < "1Gi".parse().unwrap());
        assert!(!"-1".parse::<Quantity>().unwrap().is_positive());
    }

    proptest! {
        #[test]
        fn no_text_makes_parsing_panic(text in "[-+]?[0-9.]{0,40}[a-zA-Z]{0,3}[-+]?[0-9]{0,12}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn whole_bytes_come_back(bytes in 0..=i64::MAX as u64) {
            prop_assert_eq!(bytes.to_string().parse::<Quantity>().unwrap().bytes(), bytes);
            prop_assert_eq!(Quantity::from_bytes(bytes).bytes(), bytes);
        }
    }
}
