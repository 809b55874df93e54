//! Plain-text tables, and numbers as people say them.

use std::time::Duration;

/// Rows with a heading, columns aligned: the first to the left, the others to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            if column == 0 {
                text.push_str(&format!("{cell}{fill}"));
            } else {
                text.push_str(&format!("  {fill}{cell}"));
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        if number == 0 {
            let line: usize = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
            text.push_str(&"-".repeat(line));
            text.push('\n');
        }
    }
    text
}

/// A row of cells.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// A number of bytes in binary units.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A duration in seconds.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// A count with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_under_their_heading() {
        let text = table(&[
            row(["what", "time"]),
            row(["first", "1.00 s"]),
            row(["a longer one", "12.00 s"]),
        ]);
        let expected = "\
what             time
---------------------
first          1.00 s
a longer one  12.00 s
";
        assert_eq!(text, expected);
    }

    #[test]
    fn numbers_are_as_people_say_them() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(3 << 20), "3.0 MiB");
        assert_eq!(count(1_234_567), "1 234 567");
        assert_eq!(count(12), "12");
        assert_eq!(seconds(Duration::from_millis(1500)), "1.50 s");
    }
}
