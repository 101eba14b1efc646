//! A message and a gap, as every dialect sees them.
//!
//! Owns the views and the rule for event names. Never owns the bytes: they stay in the receive buffer, the ring between
//! shards, or the history.

use crate::cursor::Cursor;
use crate::line::GapReason;
use crate::violation::Violation;

/// The longest event name, in bytes.
pub const EVENT_BYTES_MAX: usize = 64;

/// A numbered message, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The topic; valid as [`topic::validate_subscribe`](crate::topic::validate_subscribe) says.
    pub topic: &'a str,
    /// The number its home gave it.
    pub cursor: Cursor,
    /// The event name, if it has one; valid as [`valid_event`] says.
    pub event: Option<&'a str>,
    /// The payload, as published.
    pub payload: &'a [u8],
    /// Whether the payload is UTF-8; found out once, when it was published.
    pub text: bool,
}

/// Messages of a topic that a subscriber did not get, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Where the subscriber was.
    pub from: Cursor,
    /// Where it is now: the last message that it did not get.
    pub to: Cursor,
    /// How many messages it did not get, as far as anybody knows.
    pub count: u64,
    /// Why.
    pub reason: GapReason,
}

/// What event names begin with that are the engine's own: what a dialect says under such a name, no publisher can say.
pub const RESERVED_EVENTS: &str = "corecast-";

/// Says whether `event` may be an event name: 1 to 64 visible ASCII characters (0x21 to 0x7e), not beginning with
/// [`RESERVED_EVENTS`].
pub fn valid_event(event: &str) -> bool {
    check_event(event).is_ok()
}

/// Checks what [`valid_event`] says.
///
/// # Errors
/// [`Violation::BadEvent`], [`Violation::ReservedEvent`].
pub fn check_event(event: &str) -> Result<(), Violation> {
    if !is_token(event.as_bytes()) {
        Err(Violation::BadEvent)
    } else if event.starts_with(RESERVED_EVENTS) {
        Err(Violation::ReservedEvent)
    } else {
        Ok(())
    }
}

/// Says whether `word` is 1 to 64 visible ASCII characters: what event names and the tokens of commands are made of.
pub(crate) fn is_token(word: &[u8]) -> bool {
    (1..=EVENT_BYTES_MAX).contains(&word.len()) && word.iter().all(u8::is_ascii_graphic)
}

/// Says whether `payload` is UTF-8, and so goes as text: what [`Message::text`] is set to when a message is published as bytes.
pub fn is_text(payload: &[u8]) -> bool {
    simdutf8::basic::from_utf8(payload).is_ok()
}
