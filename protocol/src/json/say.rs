//! Strings and small answers, written.
//!
//! Owns the escaping. Strings are also safe inside JavaScript text; inside HTML they are not.

use crate::cursor::Cursor;
use crate::write::{HEX_LOWER, Writer};

/// Writes `text` as a JSON string, with its quotes. U+2028 and U+2029 are escaped too, so that it is also a string of every
/// JavaScript.
pub fn string(w: &mut Writer<'_>, text: &str) {
    w.byte(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (clean, after) = rest.split_at(clean_len(rest));
        w.put(clean);
        let taken = match *after {
            [] => break,
            [byte @ (b'"' | b'\\'), ..] => {
                w.put(&[b'\\', byte]);
                1
            }
            [b'\n', ..] => {
                w.put(b"\\n");
                1
            }
            [b'\r', ..] => {
                w.put(b"\\r");
                1
            }
            [b'\t', ..] => {
                w.put(b"\\t");
                1
            }
            [byte @ 0..=0x1f, ..] => {
                let digits = [b'0' + (byte >> 4), HEX_LOWER[usize::from(byte & 15)]];
                w.put(b"\\u00");
                w.put(&digits);
                1
            }
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                w.put(if last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                3
            }
            [byte, ..] => {
                w.byte(byte);
                1
            }
        };
        rest = &after[taken..];
    }
    w.byte(b'"');
}

/// Says how many bytes [`string`] writes, quotes included.
pub fn escaped_len(text: &str) -> usize {
    let mut rest = text.as_bytes();
    let mut len = 2;
    loop {
        let clean = clean_len(rest);
        len += clean;
        rest = &rest[clean..];
        let (escaped, taken) = match *rest {
            [] => return len,
            [b'"' | b'\\' | b'\n' | b'\r' | b'\t', ..] => (2, 1),
            [0..=0x1f, ..] => (6, 1),
            [0xe2, 0x80, 0xa8 | 0xa9, ..] => (6, 3),
            _ => (1, 1),
        };
        len += escaped;
        rest = &rest[taken..];
    }
}

/// Says how many bytes stand as they are, up to the first that may need an escape. Sixteen at a time without a branch between
/// them, of which the compiler makes vector code.
#[inline]
fn clean_len(bytes: &[u8]) -> usize {
    let special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0xe2);
    let mut clean = 0;
    for chunk in bytes.as_chunks::<16>().0 {
        if chunk.iter().fold(false, |found, &byte| found | special(byte)) {
            break;
        }
        clean += chunk.len();
    }
    clean + bytes[clean..].iter().take_while(|&&byte| !special(byte)).count()
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
