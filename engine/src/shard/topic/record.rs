//! A record: a message as a history keeps it.
//!
//! ```text
//!   time (8) | flags (1) | length of the event name (1) | length of the key (1), if it has one | event name | key | payload
//! ```

use crate::io::memory::{Memory, Span};
use crate::mesh::Content;
use crate::mesh::fields::{flags_of, op_of, says};

/// Bytes before the event name, or before the length of the key.
pub(in crate::shard) const RECORD_HEAD: usize = 10;

/// Bytes of a record that tell its time, at its beginning.
pub(in crate::shard) const TIME_BYTES: u32 = 8;

/// Returns the length of a message's record, if there can be one.
#[must_use]
pub(in crate::shard) fn len_of(content: Content<'_>) -> Option<u32> {
    let key = if content.key.is_empty() { 0 } else { 1 + content.key.len() };
    u32::try_from(RECORD_HEAD + content.event.len() + key + content.payload.len()).ok()
}

/// Writes a message of a time, in milliseconds, to its place.
pub(in crate::shard) fn write(record: &mut [u8], content: Content<'_>, now_ms: u64) {
    record[..8].copy_from_slice(&now_ms.to_le_bytes());
    record[8] = flags_of(content);
    record[9] = content.event.len() as u8;
    let mut rest = &mut record[RECORD_HEAD..];
    if !content.key.is_empty() {
        rest[0] = content.key.len() as u8;
        rest = &mut rest[1..];
    }
    let (event, rest) = rest.split_at_mut(content.event.len());
    event.copy_from_slice(content.event.as_bytes());
    let (key, payload) = rest.split_at_mut(content.key.len());
    key.copy_from_slice(content.key.as_bytes());
    payload.copy_from_slice(content.payload);
}

/// Reads a message.
#[must_use]
pub(in crate::shard) fn read(record: &[u8]) -> Content<'_> {
    let (flags, event_len) = (record[8], usize::from(record[9]));
    let (text, keyed) = says(flags);
    let (key_len, at) = if keyed { (usize::from(record[RECORD_HEAD]), RECORD_HEAD + 1) } else { (0, RECORD_HEAD) };
    let (event, rest) = record[at..].split_at(event_len);
    let (key, payload) = rest.split_at(key_len);
    let word = |bytes| std::str::from_utf8(bytes).expect("only checked names and keys are recorded");
    Content { event: word(event), payload, text, at_us: 0, key: word(key), op: op_of(flags) }
}

/// The flag of a record that a newer one of its key has replaced; the others are those of a content.
const REPLACED: u8 = 128;

/// Says whether a record is replaced.
#[must_use]
pub(in crate::shard) fn is_replaced(record: &[u8]) -> bool {
    record[8] & REPLACED != 0
}

/// A newer record of its key replaces this one.
pub(in crate::shard) fn mark_replaced(record: &mut [u8]) {
    record[8] |= REPLACED;
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
