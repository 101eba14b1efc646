//! Tables for people: columns that stand below each other, numbers with their units, and nothing of a stranger's that drives a terminal.

use serde_json::Value;

use super::print::tame;

/// How a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Writes a table: a head, and rows with a cell for each column. The last column is as wide as it likes.
pub(super) fn table(head: &[(&str, Side)], rows: &[Vec<String>]) -> Vec<String> {
    let cells = |n: usize| rows.iter().filter_map(move |row| row.get(n)).map(|cell| width(cell));
    let widths: Vec<usize> =
        head.iter().enumerate().map(|(n, (name, _))| cells(n).chain([width(name)]).max().unwrap_or(0)).collect();
    let names: Vec<String> = head.iter().map(|(name, _)| (*name).to_owned()).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for ((cell, room), (_, side)) in row.iter().zip(&widths).zip(head) {
            if !line.is_empty() {
                line += "  ";
            }
            let blank = " ".repeat(room - width(cell));
            match side {
                Side::Left => line += &format!("{cell}{blank}"),
                Side::Right => line += &format!("{blank}{cell}"),
            }
        }
        line.trim_end().to_owned()
    };
    std::iter::once(&names).chain(rows).map(line).collect()
}

/// Returns how many cells of a terminal a text takes, about: letters of East Asia take two, which moves what stands right of them.
pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// Writes a text on one line, whatever it holds.
pub(super) fn plain(text: &str) -> String {
    text.chars().flat_map(tame).map(|letter| if letter == '\t' { ' ' } else { letter }).collect()
}

/// Returns the text of a field, or nothing.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Returns a number of a field with its thousands apart, or nothing.
pub(super) fn count(value: &Value) -> String {
    value.as_u64().map_or_else(String::new, grouped)
}

/// Writes a number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number of bytes of a field, or nothing.
pub(super) fn size(value: &Value) -> String {
    value.as_f64().map_or_else(String::new, bytes)
}

/// Writes a number of bytes.
pub(super) fn bytes(number: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024.0 {
        return format!("{number:.0} B");
    }
    let (mut number, mut unit) = (number / 1024.0, 0);
    while number >= 999.95 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1024.0, unit + 1);
    }
    format!("{number:.1} {}", UNITS[unit])
}

/// Writes how often something happens in a second.
pub(super) fn rate(number: f64) -> String {
    const UNITS: [&str; 4] = ["", "k", "M", "G"];
    if number < 9.95 {
        let text = format!("{number:.1}");
        return text.strip_suffix(".0").unwrap_or(&text).to_owned();
    }
    let (mut number, mut unit) = (number, 0);
    while number >= 9_999.5 && unit + 1 < UNITS.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    if unit > 0 && number < 99.95 {
        format!("{number:.1}{}", UNITS[unit])
    } else {
        format!("{number:.0}{}", UNITS[unit])
    }
}

/// Writes a time.
pub(super) fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} m {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} m", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns stand below each other, names left and numbers right, and no line ends with blanks.
    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["1".to_owned(), "a/b".to_owned()], vec!["1,000".to_owned(), "c".to_owned()]];
        let lines = table(&[("N", Side::Right), ("TOPIC", Side::Left)], &rows);
        assert_eq!(lines, ["    N  TOPIC", "    1  a/b", "1,000  c"]);
    }

    /// Numbers are written with units that people read.
    #[test]
    fn numbers_have_units() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let sizes = [0.0, 1023.0, 1024.0, 1_536.0, 1_048_064.0, 5e9].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "4.7 GiB"]);
        let rates = [0.0, 0.25, 3.0, 9.94, 9.96, 1234.0, 9_999.0, 12_345.0, 123_456.0, 2.5e6].map(rate);
        assert_eq!(rates, ["0", "0.2", "3", "9.9", "10", "1234", "9999", "12.3k", "123k", "2500k"]);
        let ages = [0.25, 59.9, 61.0, 3_600.0, 90_000.0].map(age);
        assert_eq!(ages, ["0.2 s", "59.9 s", "1 m 01 s", "1 h 00 m", "1 d 01 h"]);
    }

    /// What a stranger has written stays on its line, and moves no cursor.
    #[test]
    fn strangers_drive_no_terminal() {
        assert_eq!(plain("a\u{1b}[2J\r\n\tb"), "a\\u{1b}[2J\\r\\n b");
    }
}
