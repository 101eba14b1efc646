//! A record: a message as a history keeps it.
//!
//! ```text
//!   time (8) | is it text? (1) | length of the event name (1) | event name | payload
//! ```

use crate::io::memory::{Memory, Span};
use crate::mesh::Content;

/// Bytes before the event name.
pub(in crate::shard) const RECORD_HEAD: usize = 10;

/// Bytes of a record that tell its time, at its beginning.
pub(in crate::shard) const TIME_BYTES: u32 = 8;

/// Returns the length of a message's record, if there can be one.
#[must_use]
pub(in crate::shard) fn len_of(content: Content<'_>) -> Option<u32> {
    u32::try_from(RECORD_HEAD + content.event.len() + content.payload.len()).ok()
}

/// Writes a message of a time, in milliseconds, to its place.
pub(in crate::shard) fn write(record: &mut [u8], content: Content<'_>, now_ms: u64) {
    record[..8].copy_from_slice(&now_ms.to_le_bytes());
    record[8] = u8::from(content.text);
    record[9] = content.event.len() as u8;
    let (event, payload) = record[RECORD_HEAD..].split_at_mut(content.event.len());
    event.copy_from_slice(content.event.as_bytes());
    payload.copy_from_slice(content.payload);
}

/// Reads a message.
#[must_use]
pub(in crate::shard) fn read(record: &[u8]) -> Content<'_> {
    let event_len = usize::from(record[9]);
    let (event, payload) = record[RECORD_HEAD..].split_at(event_len);
    let event = std::str::from_utf8(event).expect("only checked event names are recorded");
    Content { event, payload, text: record[8] == 1, at_us: 0 }
}

/// Reads the time of a record from its first [`TIME_BYTES`].
#[must_use]
pub(in crate::shard) fn time(memory: &Memory, start: Span) -> u64 {
    time_in(memory.bytes(start))
}

/// Reads the time of a record, or of its first [`TIME_BYTES`].
#[must_use]
pub(in crate::shard) fn time_in(record: &[u8]) -> u64 {
    u64::from_le_bytes(record[..TIME_BYTES as usize].try_into().expect("eight bytes"))
}
