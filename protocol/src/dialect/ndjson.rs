//! The NDJSON stream: one [JSON object](super::json) a line.
//!
//! Owns the line, and the lines of one connection: [`gap`], [`refused`] and [`HEARTBEAT`].

use super::json as object;
use crate::cursor::Cursor;
use crate::json;
use crate::message::{Gap, Message};
use crate::write::Writer;

/// The type of the answer's body.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// The heartbeat: an empty line.
pub const HEARTBEAT: &[u8] = b"\n";

/// Says how many bytes [`encode`] writes.
pub fn encoded_len(message: &Message<'_>) -> usize {
    object::encoded_len(message) + 1
}

/// Writes the message as one line to the start of `out`, and says how many bytes it took: [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let len = object::encode(message, out);
    out[len] = b'\n';
    len + 1
}

/// Writes the line `{"gap":{...}}`, whose inside is [`json::gap`].
pub fn gap(w: &mut Writer<'_>, gap: &Gap<'_>) {
    w.text("{\"gap\":");
    json::gap(w, gap);
    w.text("}\n");
}

/// Writes the line `{"snapshot_end":{...}}`, whose inside is [`json::end_of_snapshot`]: what follows is new.
pub fn end_of_snapshot(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    w.text("{\"snapshot_end\":");
    json::end_of_snapshot(w, topic, cursor);
    w.text("}\n");
}

/// Writes the line `{"refused":{...}}`, whose inside is [`json::refused`]: why the stream ends behind it.
pub fn refused(w: &mut Writer<'_>, name: &str, text: &str) {
    w.text("{\"refused\":");
    json::refused(w, name, text);
    w.text("}\n");
}
