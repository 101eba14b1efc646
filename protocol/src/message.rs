//! A message and a gap, as every dialect sees them.
//!
//! Owns the views and the rule for event names. Never owns the bytes: they stay in the receive buffer, the ring between
//! shards, or the history.

use crate::cursor::Cursor;
use crate::line::GapReason;
use crate::places::At;
use crate::violation::Violation;

/// The longest event name, in bytes.
pub const EVENT_BYTES_MAX: usize = 64;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// What a message does to what its key stands for, or its topic, if it has no key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Op {
    /// The payload is its value from now on, all of it.
    #[default]
    Put,
    /// The payload is a JSON merge patch (RFC 7396) of its value.
    Merge,
    /// It is gone.
    Delete,
}

impl Op {
    /// Returns its name, as `op=` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Merge => "merge",
            Op::Delete => "delete",
        }
    }

    /// Reads its name.
    ///
    /// # Errors
    /// [`Violation::BadOp`] for any other.
    pub fn parse(name: &str) -> Result<Op, Violation> {
        match name {
            "put" => Ok(Op::Put),
            "merge" => Ok(Op::Merge),
            "delete" => Ok(Op::Delete),
            _ => Err(Violation::BadOp),
        }
    }

    /// Returns its name, if a message has to say it.
    #[must_use]
    pub const fn said(self) -> Option<&'static str> {
        match self {
            Op::Put => None,
            other => Some(other.as_str()),
        }
    }
}

/// Checks a key: 1 to [`KEY_BYTES_MAX`] bytes without control characters.
///
/// # Errors
/// [`Violation::BadKey`].
pub fn check_key(key: &str) -> Result<(), Violation> {
    let sound = (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.chars().any(char::is_control);
    if sound { Ok(()) } else { Err(Violation::BadKey) }
}

/// A numbered message, borrowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    /// What it is a value of, if its topic has many; empty for none. Valid as [`check_key`] says.
    pub key: &'a str,
    /// What it does to that value.
    pub op: Op,
    /// The pattern that it is sent for; empty for none.
    pub of: &'a str,
    /// How far its reader is with it, if that is one of a pattern, and the order says it.
    pub at: Option<At>,
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
    /// The pattern whose reader it is told to; empty for none.
    pub of: &'a str,
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
