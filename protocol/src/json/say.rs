//! Strings and small answers, written.
//!
//! Owns the escaping. Strings are also safe inside JavaScript text; inside HTML they are not.

use crate::cursor::Cursor;
use crate::write::{HEX_LOWER, Writer};

/// Writes `text` as a JSON string, with its quotes. U+2028 and U+2029 are escaped too, so that it is also a string of every
/// JavaScript.
pub fn string(w: &mut Writer<'_>, text: &str) {
    w.byte(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    let mut at = 0;
    while at < bytes.len() {
        let taken = match escape_len(&bytes[at..]) {
            (1, 1) => {
                at += 1;
                continue;
            }
            (_, taken) => taken,
        };
        w.put(&bytes[clean..at]);
        match bytes[at] {
            byte @ (b'"' | b'\\') => w.put(&[b'\\', byte]),
            b'\n' => w.put(b"\\n"),
            b'\r' => w.put(b"\\r"),
            b'\t' => w.put(b"\\t"),
            byte @ 0..=0x1f => w.put(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                b'0' + (byte >> 4),
                HEX_LOWER[usize::from(byte & 15)],
            ]),
            _ if bytes[at + 2] == 0xa8 => w.put(b"\\u2028"),
            _ => w.put(b"\\u2029"),
        }
        at += taken;
        clean = at;
    }
    w.put(&bytes[clean..]);
    w.byte(b'"');
}

/// Says how many bytes [`string`] writes, quotes included.
pub fn escaped_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut len = 2;
    let mut at = 0;
    while at < bytes.len() {
        let (escaped, taken) = escape_len(&bytes[at..]);
        len += escaped;
        at += taken;
    }
    len
}

/// Says how many bytes the start of `rest` becomes, and how many bytes of `rest` that takes.
#[inline]
fn escape_len(rest: &[u8]) -> (usize, usize) {
    match *rest {
        [b'"' | b'\\' | b'\n' | b'\r' | b'\t', ..] => (2, 1),
        [0..=0x1f, ..] => (6, 1),
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => (6, 3),
        _ => (1, 1),
    }
}

/// Writes the answer to a publish, `{"topic":"...","cursor":"..."}`.
pub fn publish_answer(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    w.text("{\"topic\":");
    string(w, topic);
    w.text(",\"cursor\":\"");
    cursor.write(w);
    w.text("\"}");
}

/// Writes the answer to a batch, `{"published":n}`.
pub fn batch_answer(w: &mut Writer<'_>, published: u64) {
    w.text("{\"published\":");
    w.decimal(published);
    w.byte(b'}');
}

/// Writes the body of an error, `{"error":"..."}`.
pub fn error(w: &mut Writer<'_>, text: &str) {
    w.text("{\"error\":");
    string(w, text);
    w.byte(b'}');
}
