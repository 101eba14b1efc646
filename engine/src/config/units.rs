//! How a value is written: sizes, durations, lists of cores; each with its reader and its writer.
//!
//! Touches: text only. Never reads the host or a file. What a writer writes, its reader reads back unchanged.

const SIZES: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)];
const DURATIONS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a size in bytes: `65536`, `64k`, `64KiB`, `1M`, `2G`. All units are powers of 1,024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "ki" | "kib" => 1 << 10,
        "m" | "mb" | "mi" | "mib" => 1 << 20,
        "g" | "gb" | "gi" | "gib" => 1 << 30,
        "t" | "tb" | "ti" | "tib" => 1 << 40,
        _ => {
            return Err(not_a(text, "size", "a whole number and k, M, G or T, as in 64k or 2G"));
        }
    };
    number
        .parse::<u64>()
        .map_err(|_| not_a(text, "size", "a whole number and k, M, G or T, as in 64k or 2G"))?
        .checked_mul(factor)
        .ok_or_else(|| format!("`{text}` is more bytes than there are"))
}

/// Writes a size with the largest unit that keeps it exact.
pub(super) fn size_text(bytes: u64) -> String {
    with_unit(bytes, &SIZES)
}

/// Reads a duration and returns it in milliseconds: `250ms`, `25s`, `5m`, `1h`. A unit is required.
///
/// # Errors
/// What is wrong with it, for people.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let expected = "a whole number and ms, s, m or h, as in 250ms or 25s";
    let (number, unit) = split(text);
    let factor = DURATIONS.iter().find(|(name, _)| *name == unit);
    let (Some((_, factor)), Ok(number)) = (factor, number.parse::<u64>()) else {
        return Err(not_a(text, "duration", expected));
    };
    number.checked_mul(*factor).ok_or_else(|| format!("`{text}` is longer than time is counted"))
}

/// Writes a duration of so many milliseconds with the largest unit that keeps it exact.
pub(super) fn duration_text(ms: u64) -> String {
    if ms == 0 { "0s".to_owned() } else { with_unit(ms, &DURATIONS) }
}

/// Reads a whole number within bounds, both included. Underscores may group digits, as in TOML.
pub(super) fn number(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let digits = text.replace('_', "");
    match digits.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(format!("`{text}` is out of range: {least} to {most}")),
        Err(_) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Err(format!("`{text}` is out of range: {least} to {most}"))
        }
        Err(_) => Err(not_a(text, "whole number", &format!("{least} to {most}"))),
    }
}

/// Reads yes or no.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(not_a(text, "switch", "true or false")),
    }
}

/// Reads a list of cores: `0,2-3`. The order is kept; a core twice is an error.
pub(super) fn cores(text: &str) -> Result<Vec<usize>, String> {
    // The kernel's own limit is CONFIG_NR_CPUS, 8,192 at most on the machines we know.
    const CORES_MAX: usize = 8_192;
    let bad = || not_a(text, "list of cores", "numbers and ranges, as in 0,2-3");
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) else {
            return Err(bad());
        };
        if first > last || last >= CORES_MAX {
            return Err(bad());
        }
        for core in first..=last {
            if list.contains(&core) {
                return Err(format!("core {core} stands twice in `{text}`"));
            }
            list.push(core);
        }
    }
    Ok(list)
}

/// Writes a list of cores with runs as ranges.
pub(super) fn cores_text(cores: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    let text = |(first, last): (usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(",")
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn with_unit(value: u64, units: &[(&str, u64)]) -> String {
    match units.iter().find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => value.to_string(),
    }
}

fn not_a(text: &str, what: &str, expected: &str) -> String {
    let article = if what.starts_with(['a', 'o']) { "an" } else { "a" };
    format!("`{text}` is not {article} {what}: expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes are multiples of 1,024 in every spelling, and anything else is refused.
    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("7b", 7),
            ("64k", 65_536),
            ("64K", 65_536),
            ("64KiB", 65_536),
            ("64kb", 65_536),
            ("1M", 1 << 20),
            ("2G", 2 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1.5M", "64 k", "64x", "1e3", "99999999999999999999", "99999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    /// Durations need a unit, so nobody mistakes seconds for milliseconds.
    #[test]
    fn durations() {
        for (text, ms) in [("250ms", 250), ("25s", 25_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "25", "s", "-1s", "1.5s", "1d", "1 s", "999999999999999999h"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }

    /// What the writers write, the readers read back.
    #[test]
    fn writers_and_readers_agree() {
        for value in
            [0, 1, 999, 1_000, 1_023, 1_024, 60_000, 65_536, 90_000, 1 << 20, 3_600_000, 1 << 30, (1 << 40) + 1]
        {
            assert_eq!(size(&size_text(value)), Ok(value));
            assert_eq!(duration_ms(&duration_text(value)), Ok(value));
        }
        for list in [vec![0], vec![0, 2, 3], vec![3, 2, 1], vec![0, 1, 2, 7, 9, 10]] {
            assert_eq!(cores(&cores_text(&list)), Ok(list));
        }
    }

    /// Lists of cores keep their order; doubles, backward ranges and nonsense are refused.
    #[test]
    fn lists_of_cores() {
        assert_eq!(cores("0,2-3"), Ok(vec![0, 2, 3]));
        assert_eq!(cores("5, 1"), Ok(vec![5, 1]));
        for text in ["", ",", "1,", "3-1", "a", "1-", "-1", "0,0", "1-3,2", "9000", "0-99999999"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    /// Numbers outside their bounds name the bounds.
    #[test]
    fn numbers() {
        assert_eq!(number("1_000", 1, 1_000), Ok(1_000));
        for text in ["0", "1001", "-1", "", "ten", "99999999999999999999999"] {
            let error = number(text, 1, 1_000).unwrap_err();
            assert!(error.contains("1 to 1000"), "{error}");
        }
    }
}
