//! An answer to a request for a range is that range, whole, or an error.

use std::ops::Range;

use bytes::Bytes;

use crate::error::Kind;

/// What is wrong with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RangeProblem {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

/// The range that was asked for out of what came: `content` lies at `start` in an object of `total`
/// bytes. Servers shorten a range that ends beyond the object, and some ignore ranges.
pub(crate) fn cut(
    content: Bytes,
    range: &Range<u64>,
    total: u64,
    start: u64,
) -> Result<Bytes, RangeProblem> {
    if range.start > range.end || range.end > total {
        let reason =
            format!("bytes {} to {} were asked for, and it has {total}", range.start, range.end);
        return Err(RangeProblem { kind: Kind::OutOfRange, reason });
    }
    let from = range.start.checked_sub(start).map(|from| from as usize);
    let to = range.end.checked_sub(start).map(|to| to as usize);
    match (from, to) {
        _ if range.start == range.end => Ok(Bytes::new()),
        (Some(from), Some(to)) if to <= content.len() => Ok(content.slice(from..to)),
        _ => {
            let reason = format!("the content was cut short at {} bytes", content.len());
            Err(RangeProblem { kind: Kind::Unreachable, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_whole_or_an_error() {
        let content = Bytes::from_static(b"0123456789");
        let kind = |range, total, start| {
            cut(content.clone(), &range, total, start).map_err(|problem| problem.kind)
        };
        assert_eq!(kind(2..4, 10, 0), Ok(Bytes::from_static(b"23")));
        assert_eq!(kind(102..104, 200, 100), Ok(Bytes::from_static(b"23")));
        assert_eq!(kind(5..11, 10, 0), Err(Kind::OutOfRange));
        assert_eq!(kind(11..11, 10, 0), Err(Kind::OutOfRange));
        assert_eq!(kind(10..10, 10, 0), Ok(Bytes::new()));
        assert_eq!(kind(5..15, 20, 0), Err(Kind::Unreachable));
        assert_eq!(kind(5..15, 20, 7), Err(Kind::Unreachable));
    }
}
