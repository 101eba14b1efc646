//! The NDJSON stream: one [JSON object](super::json) a line.
//!
//! Owns the line, and the lines of one connection: [`gap`] and [`HEARTBEAT`].

use super::json as object;
use crate::http::response::{chunk, chunk_len};
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

/// Says how many bytes [`encode_chunked`] writes.
pub fn encoded_len_chunked(message: &Message<'_>) -> usize {
    chunk_len(encoded_len(message))
}

/// Writes the message as one chunk to the start of `out`, and says how many bytes it took: [`encoded_len_chunked`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode_chunked(message: &Message<'_>, out: &mut [u8]) -> usize {
    let len = encoded_len(message);
    chunk(out, len, |out| assert_eq!(encode(message, out), len, "encoded_len is exact"))
}

/// Writes the line `{"gap":{...}}`, whose inside is [`json::gap`].
pub fn gap(w: &mut Writer<'_>, gap: &Gap<'_>) {
    w.text("{\"gap\":");
    json::gap(w, gap);
    w.text("}\n");
}
