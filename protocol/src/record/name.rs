//! Names and strings as they stand in a record: compared, hashed and read by what they mean.

use core::cmp::Ordering;
use core::fmt;

use crate::write::hex_digit;

/// A name or a string of a record, as it stands between its quotes. Two are equal if they mean the same, however they are escaped.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    pub(super) raw: &'a [u8],
    /// Whether there is a backslash in it.
    pub(super) escaped: bool,
}

impl<'a> Name<'a> {
    /// Lends the bytes between the quotes, escapes and all.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Returns the bytes that it means.
    #[must_use]
    pub const fn bytes(&self) -> Unescaped<'a> {
        Unescaped { rest: self.raw, pending: [0; 4], pending_at: 4 }
    }

    /// Lends the bytes that it means, if they are those between the quotes.
    #[must_use]
    pub const fn plain(&self) -> Option<&'a [u8]> {
        if self.escaped { None } else { Some(self.raw) }
    }

    /// Says whether it means `text`.
    #[must_use]
    #[inline]
    pub fn is(&self, text: &[u8]) -> bool {
        if self.escaped { self.bytes().eq(text.iter().copied()) } else { self.raw == text }
    }

    /// Returns a hash of what it means. It keeps nobody from making names of the same hash: order by [`compare`](Self::compare) then.
    #[inline]
    pub(crate) fn hash(&self) -> u32 {
        if self.escaped { hash_bytes(self.bytes()) } else { hash(self.raw) }
    }

    /// Orders names by the bytes that they mean.
    pub(crate) fn compare(&self, other: &Name<'_>) -> Ordering {
        if self.escaped || other.escaped { self.bytes().cmp(other.bytes()) } else { self.raw.cmp(other.raw) }
    }
}

impl PartialEq for Name<'_> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        if self.escaped || other.escaped { self.bytes().eq(other.bytes()) } else { self.raw == other.raw }
    }
}

impl Eq for Name<'_> {}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.raw.escape_ascii())
    }
}

const SEED: u64 = 0x243f_6a88_85a3_08d3; // The first digits of pi.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio, made odd.

const fn mix(state: u64, word: u64) -> u64 {
    (state ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

/// Ends a hash with the last word, of which less than eight bytes are used: the length has room above them.
const fn finish(state: u64, last: u64, len: u64) -> u32 {
    (mix(state, last | len << 56).wrapping_mul(FACTOR) >> 32) as u32
}

/// Returns the hash of a name that means these bytes.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(SEED, |state, word| mix(state, u64::from_le_bytes(*word)));
    // Parts that overlap say the same of the bytes that they share.
    let last = match (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        (Some(low), Some(high)) => {
            let (low, high) = (u32::from_le_bytes(*low), u32::from_le_bytes(*high));
            u64::from(low) | u64::from(high) << (8 * (rest.len() - 4))
        }
        _ => match *rest {
            [a, b, c] => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
            [a, b] => u64::from(a) | u64::from(b) << 8,
            [a] => u64::from(a),
            _ => 0,
        },
    };
    finish(state, last, bytes.len() as u64)
}

/// Returns the hash of a name that means these bytes, one by one.
pub(crate) fn hash_bytes(bytes: impl Iterator<Item = u8>) -> u32 {
    let (mut state, mut word, mut len) = (SEED, 0u64, 0u64);
    for byte in bytes {
        word |= u64::from(byte) << (8 * (len % 8));
        len += 1;
        if len.is_multiple_of(8) {
            state = mix(state, word);
            word = 0;
        }
    }
    finish(state, word, len)
}

/// The bytes that a string means. Of escapes that there are not it gives the letters, of half a surrogate pair U+FFFD.
#[derive(Clone, Debug)]
pub struct Unescaped<'a> {
    rest: &'a [u8],
    /// What the last escape stands for, at the end.
    pending: [u8; 4],
    pending_at: u8,
}

impl Unescaped<'_> {
    fn escape(&mut self, letter: u8, behind: usize) -> u8 {
        self.rest = &self.rest[behind..];
        match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => match code_unit(self.rest) {
                Some(unit) => self.unicode(unit),
                None => b'u',
            },
            other => other,
        }
    }

    /// Reads the rest of `\uXXXX`, and the second of a pair behind it: the first byte, and the others pending.
    fn unicode(&mut self, unit: u32) -> u8 {
        self.rest = &self.rest[4..];
        let second = match self.rest {
            [b'\\', b'u', digits @ ..] if matches!(unit, 0xd800..=0xdbff) => code_unit(digits),
            _ => None,
        };
        let code = match second {
            Some(second @ 0xdc00..=0xdfff) => {
                self.rest = &self.rest[6..];
                0x1_0000 + ((unit - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => unit,
        };
        let mut bytes = [0; 4];
        let text = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut bytes).as_bytes();
        let from = 4 - text.len();
        self.pending[from..].copy_from_slice(text);
        self.pending_at = from as u8 + 1;
        text[0]
    }
}

impl Iterator for Unescaped<'_> {
    type Item = u8;

    #[inline]
    fn next(&mut self) -> Option<u8> {
        if let Some(&byte) = self.pending.get(usize::from(self.pending_at)) {
            self.pending_at += 1;
            return Some(byte);
        }
        match *self.rest {
            [] => None,
            [b'\\', letter, ..] => Some(self.escape(letter, 2)),
            [byte, ..] => {
                self.rest = &self.rest[1..];
                Some(byte)
            }
        }
    }
}

/// Reads four hexadecimal digits.
pub(super) fn code_unit(digits: &[u8]) -> Option<u32> {
    let digits = digits.first_chunk::<4>()?;
    digits.iter().try_fold(0u32, |value, &digit| Some(value << 4 | u32::from(hex_digit(digit)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::String, vec::Vec};

    /// A name hashes as it means, however much of it is escaped, and at every length.
    #[test]
    fn hashes_are_of_the_meaning() {
        let text: Vec<u8> = (0..40).map(|n| b'a' + n % 26).collect();
        let mut seen = Vec::new();
        for len in 0..text.len() {
            let plain = Name { raw: &text[..len], escaped: false };
            let escaped: String = text[..len].iter().map(|byte| format!("\\u{byte:04x}")).collect();
            let escaped = Name { raw: escaped.as_bytes(), escaped: true };
            assert!(plain == escaped && escaped.is(&text[..len]));
            assert_eq!(plain.compare(&escaped), Ordering::Equal);
            assert_eq!(plain.hash(), escaped.hash());
            assert!(!seen.contains(&plain.hash()));
            seen.push(plain.hash());
        }
    }
}
