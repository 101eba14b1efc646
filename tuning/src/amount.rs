//! How amounts are written on the command line and in reports: counts, sizes, rates, times.
//!
//! Counts grow by 1,000 (`10M` connections are ten million), sizes by 1,024 (`64k` bytes are 65,536), as in the
//! configuration of the engine. Touches: text only.

const COUNT_UNITS: [(&str, u64); 4] = [("", 1), ("k", 1_000), ("m", 1_000_000), ("g", 1_000_000_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("", 1), ("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)];

/// Reads a count: `1000`, `250k`, `1.5M`, `1_000_000`; `k`, `M`, `G` are powers of 1,000.
///
/// # Errors
/// What was expected, if it is not a whole number above zero.
pub fn count(text: &str) -> Result<u64, String> {
    let expected = "a number above 0 and perhaps k, M or G, as in 250k or 10M";
    let number = scaled(text, &COUNT_UNITS).ok_or_else(|| format!("`{text}` is not a count: expected {expected}"))?;
    if number == 0 { Err(format!("`{text}` is nothing: expected {expected}")) } else { Ok(number) }
}

/// Reads a size in bytes: `0`, `512`, `64k`, `1.5M`; `k`, `M`, `G` are powers of 1,024.
///
/// # Errors
/// What was expected.
pub fn size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZE_UNITS)
        .ok_or_else(|| format!("`{text}` is not a size: expected a number and perhaps k, M or G, as in 512 or 64k"))
}

/// Reads a rate per second: `20`, `0.5`, `1k`, or so many in so many seconds: `1/60`.
///
/// # Errors
/// What was expected.
pub fn rate(text: &str) -> Result<f64, String> {
    let bad =
        || format!("`{text}` is not a rate: expected messages a second, as in 20, 0.5 or 1/60 (one in 60 seconds)");
    let (number, seconds) = match text.split_once('/') {
        Some((number, seconds)) => (number, plain(seconds).filter(|seconds| *seconds > 0.0).ok_or_else(bad)?),
        None => (text, 1.0),
    };
    let (number, factor) = match number.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => (number, 1.0),
    };
    Ok(plain(number).ok_or_else(bad)? * factor / seconds)
}

/// Reads a time and returns it in seconds: `100ms`, `25s`, `5m`, `1h`. A unit is required.
///
/// # Errors
/// What was expected.
pub fn seconds(text: &str) -> Result<f64, String> {
    let bad = || format!("`{text}` is not a time: expected a number and ms, s, m or h, as in 100ms or 25s");
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(bad()),
    };
    Ok(plain(number).ok_or_else(bad)? * factor)
}

/// Reads digits with perhaps a point between them; no sign, no exponent, no infinity.
fn plain(text: &str) -> Option<f64> {
    let shaped = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number: &f64| shaped && number.is_finite())
}

/// Reads a number with a unit exactly; a fraction must come out as a whole number.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.replace('_', "").to_ascii_lowercase();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // More digits than any unit has zeros cannot come out whole; and they would overflow.
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let scale = 10u64.pow(fraction.len() as u32);
    let parts = match fraction {
        "" => 0,
        fraction => u128::from(fraction.parse::<u64>().ok()?) * u128::from(*factor),
    };
    if !parts.is_multiple_of(u128::from(scale)) {
        return None;
    }
    let total = u128::from(whole.parse::<u64>().ok()?) * u128::from(*factor) + parts / u128::from(scale);
    u64::try_from(total).ok()
}

/// Writes a whole number with its thousands apart: `1,048,576`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a size with three digits or so and its unit: `3.9 KB`, `38.7 GB`; powers of 1,000, as memory is sold and
/// reports are read.
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    let (number, unit) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (bytes as f64 / 1e3, "KB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        1_000_000_000..1_000_000_000_000 => (bytes as f64 / 1e9, "GB"),
        _ => (bytes as f64 / 1e12, "TB"),
    };
    format!("{} {unit}", digits(number))
}

/// Writes a time in seconds for people: `8.4 µs`, `120 ms`, `7.0 s`, `3.5 min`.
#[must_use]
pub fn seconds_text(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{} µs", digits(s * 1e6)),
        s if s < 1.0 => format!("{} ms", digits(s * 1e3)),
        s if s < 120.0 => format!("{} s", digits(s)),
        s if s < 7_200.0 => format!("{} min", digits(s / 60.0)),
        s => format!("{} h", digits(s / 3_600.0)),
    }
}

/// Writes a number above zero with two or three digits that mean something.
#[must_use]
pub fn digits(number: f64) -> String {
    match number {
        n if n >= 1_000.0 => grouped(n.round() as u64),
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts grow by 1,000 and sizes by 1,024; fractions must come out whole; anything else is refused.
    #[test]
    fn counts_and_sizes() {
        for (text, number) in [
            ("1", 1),
            ("1_000", 1_000),
            ("250k", 250_000),
            ("10M", 10_000_000),
            ("1.5m", 1_500_000),
            ("0.25G", 250_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(count(text), Ok(number), "{text}");
        }
        for (text, bytes) in [("0", 0), ("512", 512), ("64k", 65_536), ("1.5K", 1_536), ("1M", 1 << 20)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "-1", "+1", "1.M", ".5M", "1.0005k", "1e6", "ten", "10 M", "10MB", "1.2.3k", "NaN", "inf"]
        {
            assert!(count(text).is_err() && size(text).is_err(), "{text}");
        }
        for text in ["0", "0M", "18446744073709551616", "99999999999G", "0.0000000001G"] {
            assert!(count(text).is_err(), "{text}");
        }
    }

    /// A rate is so many a second, or so many in so many seconds; never negative, infinite or over nothing.
    #[test]
    fn rates() {
        for (text, expected) in
            [("20", 20.0), ("0.5", 0.5), ("1/60", 1.0 / 60.0), ("1k", 1e3), ("3/0.5", 6.0), ("0", 0.0)]
        {
            assert_eq!(rate(text), Ok(expected), "{text}");
        }
        for text in ["", "/", "1/", "/60", "1/0", "-1", "1/-60", "inf", "NaN", "1e3", "1/60s", ".", "one"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    /// A time needs its unit, so that nobody mistakes seconds for milliseconds.
    #[test]
    fn times() {
        for (text, expected) in [("100ms", 0.1), ("25s", 25.0), ("1.5m", 90.0), ("1h", 3_600.0), ("0s", 0.0)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in ["", "25", "s", "-1s", "1d", "1 s", "infs", ".s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    /// Reports are for eyes: thousands apart, three digits or so, a unit.
    #[test]
    fn writing() {
        let written = [0, 999, 1_000, 1_048_576, u64::MAX].map(grouped);
        assert_eq!(written, ["0", "999", "1,000", "1,048,576", "18,446,744,073,709,551,615"]);
        let sizes = [0, 999, 3_872, 38_720_000_000, 2_060_000_000_000].map(bytes_text);
        assert_eq!(sizes, ["0 B", "999 B", "3.87 KB", "38.7 GB", "2.06 TB"]);
        let times = [8.4e-6, 0.12, 7.0, 210.0, 86_400.0].map(seconds_text);
        assert_eq!(times, ["8.40 µs", "120 ms", "7.00 s", "3.50 min", "24.0 h"]);
    }
}
