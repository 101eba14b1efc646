//! Strings and small answers, written.
//!
//! Owns the escaping. All strings are also strings of JavaScript; those of [`script_string`] may moreover stand in an HTML
//! `<script>` element, which [`string`]'s may not.

use crate::cursor::Cursor;
use crate::message::Gap;
use crate::write::{HEX_LOWER, Writer, decimal_len};

/// Writes `text` as a JSON string, with its quotes. U+2028 and U+2029 are escaped too, so that it is also a string of every
/// JavaScript.
pub fn string(w: &mut Writer<'_>, text: &str) {
    write_string::<false>(w, text);
}

/// Writes `text` as a JSON string that may stand inside an HTML `<script>` element: as [`string`], and `<`, `>` and `&` are
/// escaped, so that no text closes the element, opens a comment (`<!--`) or a nested script, or ends a CDATA section (`]]>`).
pub fn script_string(w: &mut Writer<'_>, text: &str) {
    write_string::<true>(w, text);
}

/// Writes a string for JSON, or with `SCRIPT` for JSON in HTML.
pub(crate) fn write_string<const SCRIPT: bool>(w: &mut Writer<'_>, text: &str) {
    w.byte(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (clean, after) = rest.split_at(clean_len::<SCRIPT>(rest));
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
            [byte, ..] if byte < 0x20 || SCRIPT && is_markup(byte) => {
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
    string_len::<false>(text)
}

/// Says how many bytes [`script_string`] writes, quotes included.
pub fn script_escaped_len(text: &str) -> usize {
    string_len::<true>(text)
}

/// Says how many bytes [`write_string`] writes.
pub(crate) fn string_len<const SCRIPT: bool>(text: &str) -> usize {
    let mut rest = text.as_bytes();
    let mut len = 2;
    loop {
        let clean = clean_len::<SCRIPT>(rest);
        len += clean;
        rest = &rest[clean..];
        let (escaped, taken) = match *rest {
            [] => return len,
            [b'"' | b'\\' | b'\n' | b'\r' | b'\t', ..] => (2, 1),
            [byte, ..] if byte < 0x20 || SCRIPT && is_markup(byte) => (6, 1),
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
fn clean_len<const SCRIPT: bool>(bytes: &[u8]) -> usize {
    let special =
        |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0xe2) | (SCRIPT & is_markup(byte));
    let mut clean = 0;
    for chunk in bytes.as_chunks::<16>().0 {
        if chunk.iter().fold(false, |found, &byte| found | special(byte)) {
            break;
        }
        clean += chunk.len();
    }
    clean + bytes[clean..].iter().take_while(|&&byte| !special(byte)).count()
}

/// Says whether `byte` means something to an HTML parser inside a script.
const fn is_markup(byte: u8) -> bool {
    (byte == b'<') | (byte == b'>') | (byte == b'&')
}

/// Writes a gap, `{"topic","from","to","count","reason","of"?}`.
pub fn gap(w: &mut Writer<'_>, gap: &Gap<'_>) {
    write_gap::<false>(w, gap);
}

/// Says how many bytes [`gap`] writes.
pub fn gap_len(gap: &Gap<'_>) -> usize {
    const FIXED: usize = r#"{"topic":,"from":"","to":"","count":,"reason":""}"#.len();
    let cursors = gap.from.text_len() + gap.to.text_len();
    let of = if gap.of.is_empty() { 0 } else { r#","of":"#.len() + escaped_len(gap.of) };
    FIXED + escaped_len(gap.topic) + cursors + decimal_len(gap.count) + gap.reason.as_str().len() + of
}

/// Writes a gap as [`gap`] does, with its strings as [`script_string`] writes them.
pub fn script_gap(w: &mut Writer<'_>, gap: &Gap<'_>) {
    write_gap::<true>(w, gap);
}

fn write_gap<const SCRIPT: bool>(w: &mut Writer<'_>, gap: &Gap<'_>) {
    w.text("{\"topic\":");
    write_string::<SCRIPT>(w, gap.topic);
    w.text(",\"from\":\"");
    gap.from.write(w);
    w.text("\",\"to\":\"");
    gap.to.write(w);
    w.text("\",\"count\":");
    w.decimal(gap.count);
    w.text(",\"reason\":\"");
    w.text(gap.reason.as_str());
    w.byte(b'"');
    if !gap.of.is_empty() {
        w.text(",\"of\":");
        write_string::<SCRIPT>(w, gap.of);
    }
    w.byte(b'}');
}

/// Writes that what there was of a topic has come, `{"topic","cursor"}`.
pub fn end_of_snapshot(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    publish_answer(w, topic, cursor);
}

/// Says how many bytes [`end_of_snapshot`] writes.
pub fn end_of_snapshot_len(topic: &str, cursor: Cursor) -> usize {
    r#"{"topic":,"cursor":""}"#.len() + escaped_len(topic) + cursor.text_len()
}

/// Writes it as [`end_of_snapshot`] does, with its strings as [`script_string`] writes them.
pub fn script_end_of_snapshot(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    w.text("{\"topic\":");
    script_string(w, topic);
    w.text(",\"cursor\":\"");
    cursor.write(w);
    w.text("\"}");
}

/// Writes why a stream is refused, `{"name","text"}`.
pub fn refused(w: &mut Writer<'_>, name: &str, text: &str) {
    write_refused::<false>(w, name, text);
}

/// Says how many bytes [`refused`] writes.
pub fn refused_len(name: &str, text: &str) -> usize {
    r#"{"name":,"text":}"#.len() + escaped_len(name) + escaped_len(text)
}

/// Writes why a stream is refused as [`refused`] does, with its strings as [`script_string`] writes them.
pub fn script_refused(w: &mut Writer<'_>, name: &str, text: &str) {
    write_refused::<true>(w, name, text);
}

fn write_refused<const SCRIPT: bool>(w: &mut Writer<'_>, name: &str, text: &str) {
    w.text("{\"name\":");
    write_string::<SCRIPT>(w, name);
    w.text(",\"text\":");
    write_string::<SCRIPT>(w, text);
    w.byte(b'}');
}

/// Writes the answer to a publish, `{"topic":"...","cursor":"..."}`.
pub fn publish_answer(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    w.text("{\"topic\":");
    string(w, topic);
    w.text(",\"cursor\":\"");
    cursor.write(w);
    w.text("\"}");
}

/// Writes the answer to a message that had been published before, `{"topic":..,"cursor":..,"repeated":true}`; without the cursor if that is
/// not known any more.
pub fn repeat_answer(w: &mut Writer<'_>, topic: &str, cursor: Option<Cursor>) {
    w.text("{\"topic\":");
    string(w, topic);
    if let Some(cursor) = cursor {
        w.text(",\"cursor\":\"");
        cursor.write(w);
        w.byte(b'"');
    }
    w.text(",\"repeated\":true}");
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
