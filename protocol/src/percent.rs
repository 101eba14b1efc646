//! Percent-encoding (RFC 3986 section 2.1), and the `+` of HTML forms.
//!
//! Owns the two directions. Strict on the way in: a `%` without two hexadecimal digits is refused, not passed through, so
//! that two readers of one URL cannot disagree.

use memchr::memchr;

use crate::violation::Violation;
use crate::write::{Writer, hex_digit};

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Decodes `input` into `out`; with `plus_is_space` also `+`, as in the values of a query.
///
/// # Errors
/// [`Violation::BadEscape`]; [`Violation::ValueTooLong`] if `out` is too short; [`Violation::NotUtf8`].
pub fn decode<'o>(input: &str, out: &'o mut [u8], plus_is_space: bool) -> Result<&'o str, Violation> {
    let input = input.as_bytes();
    let mut from = 0;
    let mut to = 0;
    while from < input.len() {
        let (byte, taken) = decode_one(&input[from..], plus_is_space)?;
        *out.get_mut(to).ok_or(Violation::ValueTooLong)? = byte;
        from += taken;
        to += 1;
    }
    simdutf8::basic::from_utf8(&out[..to]).map_err(|_| Violation::NotUtf8)
}

/// Decodes `data` where it stands; says how many bytes are left.
///
/// # Errors
/// [`Violation::BadEscape`] or [`Violation::NotUtf8`]; `data` is then undefined.
pub fn decode_in_place(data: &mut [u8]) -> Result<usize, Violation> {
    // What does not need decoding, which is nearly every topic, is only checked.
    let mut to = memchr(b'%', data).unwrap_or(data.len());
    let mut from = to;
    while from < data.len() {
        let (byte, taken) = decode_one(&data[from..], false)?;
        data[to] = byte;
        from += taken;
        to += 1;
    }
    match simdutf8::basic::from_utf8(&data[..to]) {
        Ok(_) => Ok(to),
        Err(_) => Err(Violation::NotUtf8),
    }
}

fn decode_one(input: &[u8], plus_is_space: bool) -> Result<(u8, usize), Violation> {
    match *input {
        [b'%', high, low, ..] => match (hex_digit(high), hex_digit(low)) {
            (Some(high), Some(low)) => Ok((high << 4 | low, 3)),
            _ => Err(Violation::BadEscape),
        },
        [b'+', ..] if plus_is_space => Ok((b' ', 1)),
        [b'%', ..] | [] => Err(Violation::BadEscape),
        [byte, ..] => Ok((byte, 1)),
    }
}

/// Says whether a topic must be encoded to stand as a word of the line protocol: it holds a space or `%`.
///
/// Control characters would need it too, but no valid topic holds one.
#[inline]
pub fn needs_encoding(topic: &str) -> bool {
    // Topics are short: a search that has to be set up first costs more than looking at every byte.
    topic.bytes().fold(false, |found, byte| found | (byte == b' ') | (byte == b'%'))
}

/// Says how many bytes [`encode_topic_word`] writes.
pub fn topic_word_len(topic: &str) -> usize {
    if !needs_encoding(topic) {
        return topic.len();
    }
    topic.bytes().map(|byte| if word_escapes(byte) { 3 } else { 1 }).sum()
}

/// Writes a topic as a word of the line protocol: only space, `%` and ASCII control characters are encoded.
#[inline]
pub fn encode_topic_word(topic: &str, w: &mut Writer<'_>) {
    if !needs_encoding(topic) {
        return w.text(topic);
    }
    encode(topic, w, word_escapes);
}

/// Writes a topic as the rest of a URL's path: everything but unreserved characters and `/` is encoded.
pub fn encode_path(topic: &str, w: &mut Writer<'_>) {
    encode(topic, w, path_escapes);
}

/// Says how many bytes [`encode_path`] writes.
pub fn path_len(topic: &str) -> usize {
    topic.bytes().map(|byte| if path_escapes(byte) { 3 } else { 1 }).sum()
}

fn encode(text: &str, w: &mut Writer<'_>, escapes: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if escapes(byte) {
            w.put(&[b'%', HEX_UPPER[usize::from(byte >> 4)], HEX_UPPER[usize::from(byte & 15)]]);
        } else {
            w.byte(byte);
        }
    }
}

const fn word_escapes(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | b'%' | 0x7f)
}

const fn path_escapes(byte: u8) -> bool {
    !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/'))
}
