//! Places: how far a reader of a pattern is, at each of the homes that its topics have.
//!
//! ```text
//!   ~1a2b3c4d-17.0.204!0           of the first home everything up to its 17th, of the second nothing yet; of the third what there was when
//!      life    17 0 204 from 0     204 was the newest is still to come, from the topic at place 0 on, and then what followed 204
//! ```
//!
//! Owns the text, one word without a comma, so that it may stand in a list of cursors. What the numbers count is the homes' business: to a
//! client the parts between the points are words. `at=2.205` with a message says which of them it brings up to date: the one with number 2,
//! counted from 0, is `205` from then on.

use crate::violation::Violation;
use crate::write::{Overflow, Writer, decimal_len, hex_digit, parse_decimal};

/// What the text begins with.
pub const MARK: char = '~';

/// The longest text, in bytes: that of a hundred homes whose numbers have nine digits. What would be longer is not written.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Where a message of a pattern stands: its home, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// The home, from 0 on.
    pub home: u32,
    /// The number.
    pub number: u64,
}

impl At {
    /// Writes `home.number`.
    pub fn write(self, w: &mut Writer<'_>) {
        w.decimal(self.home.into());
        w.byte(b'.');
        w.decimal(self.number);
    }

    /// Says how many bytes [`At::write`] takes.
    #[must_use]
    pub const fn text_len(self) -> usize {
        decimal_len(self.home as u64) + 1 + decimal_len(self.number)
    }
}

/// How far a reader is at one home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// It has, or will have had, everything up to this number.
    pub number: u64,
    /// Of what there was up to that number some is still to come.
    pub rest: Option<Rest>,
}

/// What is still to come of what there was at a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// Topics from this place on.
    pub place: u32,
    /// As far as they have something with a larger number; none: whatever they have.
    pub after: Option<u64>,
}

/// Says whether a word is meant as places.
#[must_use]
pub fn are_meant(text: &str) -> bool {
    text.starts_with(MARK)
}

/// Reads places: the life that they are of, and a part for each home.
///
/// # Errors
/// [`Violation::BadCursor`] for anything else.
pub fn parse(text: &str) -> Result<(u32, impl Iterator<Item = Part>), Violation> {
    let (life, parts) = split(text).ok_or(Violation::BadCursor)?;
    if text.len() > TEXT_BYTES_MAX || !parts.split('.').all(|part| read(part).is_some()) {
        return Err(Violation::BadCursor);
    }
    Ok((life, parts.split('.').filter_map(read)))
}

/// Writes places, at most [`TEXT_BYTES_MAX`] bytes.
///
/// # Errors
/// [`Overflow`] if they would be longer.
pub fn write(
    out: &mut [u8; TEXT_BYTES_MAX],
    life: u32,
    parts: impl IntoIterator<Item = Part>,
) -> Result<&str, Overflow> {
    let mut w = Writer::new(out);
    w.byte(MARK as u8);
    w.hex8(life);
    for (place, Part { number, rest }) in parts.into_iter().enumerate() {
        w.byte(if place == 0 { b'-' } else { b'.' });
        w.decimal(number);
        if let Some(Rest { place, after }) = rest {
            w.byte(b'!');
            w.decimal(place.into());
            if let Some(after) = after {
                w.byte(b'!');
                w.decimal(after);
            }
        }
    }
    let len = w.finish()?;
    Ok(core::str::from_utf8(&out[..len]).expect("places are ASCII"))
}

fn split(text: &str) -> Option<(u32, &str)> {
    let (life, parts) = text.strip_prefix(MARK)?.split_at_checked(8)?;
    let life =
        life.bytes().try_fold(0u32, |value, digit| hex_digit(digit).map(|digit| value << 4 | u32::from(digit)))?;
    Some((life, parts.strip_prefix('-')?))
}

fn read(part: &str) -> Option<Part> {
    let number = |text: &str| {
        let plain = text == "0" || !text.starts_with('0');
        parse_decimal(text.as_bytes()).filter(|_| plain)
    };
    let mut numbers = part.split('!');
    let mut part = Part { number: number(numbers.next()?)?, rest: None };
    if let Some(place) = numbers.next() {
        let place = u32::try_from(number(place)?).ok()?;
        let after = match numbers.next() {
            Some(after) => Some(number(after)?),
            None => None,
        };
        part.rest = Some(Rest { place, after });
    }
    numbers.next().is_none().then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// Places come out as they went in, and their text is what the manual says.
    #[test]
    fn round_trip() {
        let parts = [
            Part { number: 17, rest: None },
            Part { number: 0, rest: Some(Rest { place: 0, after: None }) },
            Part { number: u64::MAX, rest: Some(Rest { place: u32::MAX, after: Some(204) }) },
        ];
        let mut out = [0; TEXT_BYTES_MAX];
        let text = write(&mut out, 0x1a2b_3c4d, parts).expect("there is room");
        assert_eq!(text, "~1a2b3c4d-17.0!0.18446744073709551615!4294967295!204");
        let (life, read) = parse(text).expect("it was written here");
        assert_eq!((life, read.collect::<Vec<_>>()), (0x1a2b_3c4d, parts.to_vec()));
        assert!(write(&mut out, 1, [parts[2]; 30]).is_err(), "what is too long is not cut");
    }

    /// Whatever is no such text is told, and nothing panics.
    #[test]
    fn nonsense_is_told() {
        for text in [
            "",
            "~",
            "1a2b3c4d-1",
            "~1a2b3c4d",
            "~1a2b3c4d-",
            "~1a2b3c4d-1.",
            "~1a2b3c4d-01",
            "~1a2b3c4d-1!",
            "~1a2b3c4d-1!2!",
            "~1a2b3c4d-1!2!3!4",
            "~1a2b3c4d-1!4294967296",
            "~1a2b3c4-1",
            "~1a2b3c4x-1",
            "~1a2b3c4d-18446744073709551616",
            "~1a2b3c4d-1,2",
            "~äääää-1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
