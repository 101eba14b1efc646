//! Writing into a slice that the caller owns.
//!
//! Owns a position and one bit: did it all fit. Never panics, never grows, never formats through `core::fmt`: every byte a
//! message costs on its way out goes through here.

use core::fmt;

/// Says that the bytes did not fit into the slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes do not fit into the buffer")
    }
}

impl core::error::Error for Overflow {}

/// Appends bytes to a slice, and remembers an overflow until [`Writer::finish`].
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    overflow: bool,
}

/// A moment of a writing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    len: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    /// Starts at the beginning of `out`.
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0, overflow: false }
    }

    /// Appends `bytes`, or nothing of them if they do not fit.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        match self.out[self.len..].split_at_mut_checked(bytes.len()) {
            Some((room, _)) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.overflow = true,
        }
    }

    /// Appends the bytes of `text`.
    #[inline]
    pub fn text(&mut self, text: &str) {
        self.put(text.as_bytes());
    }

    /// Appends one byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        match self.out.get_mut(self.len) {
            Some(room) => {
                *room = byte;
                self.len += 1;
            }
            None => self.overflow = true,
        }
    }

    /// Appends `value` in decimal, without leading zeros (1 to 20 bytes).
    pub fn decimal(&mut self, mut value: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    /// Appends `value` as 8 lower-case hexadecimal digits.
    pub fn hex8(&mut self, value: u32) {
        let mut digits = [0; 8];
        for (place, digit) in digits.iter_mut().enumerate() {
            *digit = HEX_LOWER[(value >> (28 - 4 * place)) as usize & 15];
        }
        self.put(&digits);
    }

    /// Appends `value` in lower-case hexadecimal, without leading zeros (1 to 16 bytes), as chunk sizes are written.
    pub fn hex(&mut self, value: u64) {
        for place in (0..hex_len(value)).rev() {
            self.byte(HEX_LOWER[(value >> (4 * place)) as usize & 15]);
        }
    }

    /// Says how many bytes have been written.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Says whether nothing has been written.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lends what has been written.
    pub fn written(&self) -> &[u8] {
        &self.out[..self.len]
    }

    /// Remembers what has been written, for [`back_to`](Self::back_to).
    pub(crate) const fn mark(&self) -> Mark {
        Mark { len: self.len, overflow: self.overflow }
    }

    /// Takes back what was written since, and an overflow that it was.
    pub(crate) fn back_to(&mut self, mark: Mark) {
        debug_assert!(mark.len <= self.len, "a mark of this writer");
        (self.len, self.overflow) = (mark.len, mark.overflow);
    }

    /// Says whether anything did not fit.
    pub(crate) const fn is_overflown(&self) -> bool {
        self.overflow
    }

    /// Ends the writing: the number of bytes written.
    ///
    /// # Errors
    /// [`Overflow`] if anything did not fit; what was written is then incomplete.
    pub const fn finish(self) -> Result<usize, Overflow> {
        if self.overflow { Err(Overflow) } else { Ok(self.len) }
    }
}

/// Says how many bytes [`Writer::decimal`] takes for `value` (1 to 20).
pub const fn decimal_len(value: u64) -> usize {
    match value.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// Says how many bytes [`Writer::hex`] takes for `value` (1 to 16).
pub const fn hex_len(value: u64) -> usize {
    match value.checked_ilog2() {
        Some(log) => log as usize / 4 + 1,
        None => 1,
    }
}

pub(crate) const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

/// Reads a decimal number: digits only, no sign, no space, nothing above `u64::MAX`. Leading zeros count for nothing.
pub(crate) fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Reads one hexadecimal digit of either case.
pub(crate) const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::ToString};

    /// Numbers come out as the standard library prints them, and their length is known beforehand.
    #[test]
    fn numbers_match_the_standard_library() {
        let mut values = std::vec![0u64, 9, 10, 99, 100, u64::from(u32::MAX), u64::MAX];
        values.extend((0..64).map(|shift| 1u64 << shift));
        values.extend((0..20).map(|power| 10u64.pow(power)));
        for value in values {
            let mut out = [0; 64];
            let mut w = Writer::new(&mut out);
            w.decimal(value);
            assert_eq!(w.written(), value.to_string().as_bytes());
            assert_eq!(w.len(), decimal_len(value));
            assert_eq!(parse_decimal(w.written()), Some(value));
            let mut w = Writer::new(&mut out);
            w.hex(value);
            assert_eq!(w.written(), format!("{value:x}").as_bytes());
            assert_eq!(w.len(), hex_len(value));
            let mut w = Writer::new(&mut out);
            w.hex8(value as u32);
            assert_eq!(w.written(), format!("{:08x}", value as u32).as_bytes());
        }
    }

    /// An overflow is remembered, even if something shorter would still fit afterwards.
    #[test]
    fn overflow_is_remembered() {
        let mut out = [0; 4];
        let mut w = Writer::new(&mut out);
        w.put(b"abc");
        w.put(b"de");
        w.byte(b'f');
        assert_eq!(w.finish(), Err(Overflow));
        let mut w = Writer::new(&mut out);
        w.put(b"abcd");
        assert_eq!(w.finish(), Ok(4));
        let mut w = Writer::new(&mut out[..0]);
        w.byte(b'f');
        assert_eq!(w.finish(), Err(Overflow));
    }

    /// What is not a plain number below 2^64 is refused.
    #[test]
    fn decimal_is_strict() {
        for bad in ["", "+1", "-1", " 1", "1 ", "0x1", "1_0", "18446744073709551616", "99999999999999999999999"] {
            assert_eq!(parse_decimal(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_decimal(b"00018446744073709551615"), Some(u64::MAX));
    }
}
