//! Multipart: one part per message (RFC 2046 section 5.1, as `multipart/x-mixed-replace`).
//!
//! Owns the part, its boundary, and what one connection gets: [`PROLOGUE`], [`gap`], [`refused`], [`HEARTBEAT`], [`END`].
//!
//! ```text
//! PROLOGUE    --corecast-part-7f3e9a51c2d84b06
//! message     headers, empty line, payload, line end, --corecast-part-7f3e9a51c2d84b06
//! HEARTBEAT   Corecast-Heartbeat: 1
//! END         line end, --corecast-part-7f3e9a51c2d84b06--
//! ```
//!
//! The boundary stands *behind* each part, not before it: a client that looks for boundaries, as browsers do, has the message
//! when it is sent and not when the next one is. What follows a boundary is the next part's headers, so a heartbeat is one of
//! them.
//!
//! A client that looks for Content-Length is safe with any payload. For the others the boundary must not occur in one, and
//! everybody may know it: a payload that holds it goes in base64, with Content-Transfer-Encoding to say so (RFC 2045 section 6),
//! as one line. Otherwise who may publish could put a page of his own on the engine's origin.

use memchr::memmem;

use super::json::{base64, base64_len};
use crate::cursor::Cursor;
use crate::json;
use crate::message::{Gap, Message};
use crate::percent::{encode_path, path_len};
use crate::write::{Writer, decimal_len};

/// Writes the boundary into a longer literal.
macro_rules! around {
    ($before:literal, $after:literal) => {
        concat!($before, "corecast-part-7f3e9a51c2d84b06", $after)
    };
}

/// The boundary between parts.
pub const BOUNDARY: &str = around!("", "");

/// The type of the answer's body.
pub const CONTENT_TYPE: &str = around!("multipart/x-mixed-replace; boundary=", "");

/// What begins the body.
pub const PROLOGUE: &[u8] = around!("--", "\r\n").as_bytes();

/// The heartbeat: a header of the next part.
pub const HEARTBEAT: &[u8] = b"Corecast-Heartbeat: 1\r\n";

/// What ends the body. Clients see it as a last part that is empty.
pub const END: &[u8] = around!("\r\n--", "--\r\n").as_bytes();

pub(super) const PART_END: &str = around!("\r\n--", "\r\n");
const TYPE_TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\n";
const TYPE_BINARY: &str = "Content-Type: application/octet-stream\r\n";
const TYPE_GAP: &str = "Content-Type: application/json\r\nCorecast-Gap: 1\r\n";
pub(super) const TYPE_END: &str = "Content-Type: application/json\r\nCorecast-Snapshot-End: 1\r\n";
const TYPE_REFUSED: &str = "Content-Type: application/json\r\nCorecast-Refused: 1\r\n";
const BASE64: &str = "Content-Transfer-Encoding: base64\r\n";
pub(super) const LENGTH: &str = "Content-Length: ";
pub(super) const CURSOR: &str = "Corecast-Cursor: ";
pub(super) const TOPIC: &str = "Corecast-Topic: ";
const EVENT: &str = "Corecast-Event: ";
const KEY: &str = "Corecast-Message-Key: ";
const OP: &str = "Corecast-Op: ";
const OF: &str = "Corecast-Of: ";
const AT: &str = "Corecast-At: ";
pub(super) const LINE_END: &str = "\r\n";

/// Says how many bytes [`encode`] writes.
pub fn encoded_len(message: &Message<'_>) -> usize {
    let line = |name: &str, value: usize| name.len() + value + LINE_END.len();
    let (encoding, body) = match holds_boundary(message.payload) {
        true => (BASE64.len(), base64_len(message.payload.len())),
        false => (0, message.payload.len()),
    };
    content_type(message).len()
        + encoding
        + line(LENGTH, decimal_len(body as u64))
        + line(CURSOR, message.cursor.text_len())
        + line(TOPIC, path_len(message.topic))
        + message.event.map_or(0, |event| line(EVENT, event.len()))
        + if message.key.is_empty() { 0 } else { line(KEY, path_len(message.key)) }
        + message.op.said().map_or(0, |op| line(OP, op.len()))
        + if message.of.is_empty() { 0 } else { line(OF, path_len(message.of)) }
        + message.at.map_or(0, |at| line(AT, at.text_len()))
        + LINE_END.len()
        + body
        + PART_END.len()
}

/// Writes the message as one part and the boundary behind it to the start of `out`, and says how many bytes it took:
/// [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    let safe = !holds_boundary(message.payload);
    w.text(content_type(message));
    if !safe {
        w.text(BASE64);
    }
    w.text(LENGTH);
    w.decimal(if safe { message.payload.len() } else { base64_len(message.payload.len()) } as u64);
    w.text(LINE_END);
    w.text(CURSOR);
    message.cursor.write(&mut w);
    w.text(LINE_END);
    w.text(TOPIC);
    encode_path(message.topic, &mut w);
    w.text(LINE_END);
    if let Some(event) = message.event {
        w.text(EVENT);
        w.text(event);
        w.text(LINE_END);
    }
    if !message.key.is_empty() {
        w.text(KEY);
        encode_path(message.key, &mut w);
        w.text(LINE_END);
    }
    if let Some(op) = message.op.said() {
        w.text(OP);
        w.text(op);
        w.text(LINE_END);
    }
    if !message.of.is_empty() {
        w.text(OF);
        encode_path(message.of, &mut w);
        w.text(LINE_END);
    }
    if let Some(at) = message.at {
        w.text(AT);
        at.write(&mut w);
        w.text(LINE_END);
    }
    w.text(LINE_END);
    if safe {
        w.put(message.payload);
    } else {
        base64(&mut w, message.payload);
    }
    w.text(PART_END);
    w.finish().expect("the caller gave encoded_len bytes")
}

fn content_type(message: &Message<'_>) -> &'static str {
    if message.text { TYPE_TEXT } else { TYPE_BINARY }
}

fn holds_boundary(payload: &[u8]) -> bool {
    memmem::find(payload, BOUNDARY.as_bytes()).is_some()
}

/// Writes a gap as a part of type `application/json` with the header `Corecast-Gap: 1`, whose body is [`json::gap`], and the
/// boundary behind it. Its cursor is where the gap ends.
pub fn gap(w: &mut Writer<'_>, gap: &Gap<'_>) {
    w.text(TYPE_GAP);
    w.text(CURSOR);
    gap.to.write(w);
    w.text(LINE_END);
    w.text(TOPIC);
    encode_path(gap.topic, w);
    w.text(LINE_END);
    w.text(LENGTH);
    w.decimal(json::gap_len(gap) as u64);
    w.text(LINE_END);
    w.text(LINE_END);
    json::gap(w, gap);
    w.text(PART_END);
}

/// Writes that what there was of a topic has come, as a part of type `application/json` with the header `Corecast-Snapshot-End: 1`, whose
/// body is [`json::end_of_snapshot`], and the boundary behind it.
pub fn end_of_snapshot(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    w.text(TYPE_END);
    w.text(CURSOR);
    cursor.write(w);
    w.text(LINE_END);
    w.text(TOPIC);
    encode_path(topic, w);
    w.text(LINE_END);
    w.text(LENGTH);
    w.decimal(json::end_of_snapshot_len(topic, cursor) as u64);
    w.text(LINE_END);
    w.text(LINE_END);
    json::end_of_snapshot(w, topic, cursor);
    w.text(PART_END);
}

/// Writes why the stream ends behind this, as a part of type `application/json` with the header `Corecast-Refused: 1`, whose body is
/// [`json::refused`], and the boundary behind it. It has no topic and no cursor.
pub fn refused(w: &mut Writer<'_>, name: &str, text: &str) {
    w.text(TYPE_REFUSED);
    w.text(LENGTH);
    w.decimal(json::refused_len(name, text) as u64);
    w.text(LINE_END);
    w.text(LINE_END);
    json::refused(w, name, text);
    w.text(PART_END);
}
