//! Topic names: which are allowed, and how they are read from a URL.
//!
//! Owns the rules of PROTOCOL "Topics". Never stores or hashes a topic.

use core::fmt;

use crate::pattern::{self, PatternError};
use crate::percent;
use crate::violation::Violation;

/// The longest topic, in bytes of UTF-8.
pub const TOPIC_BYTES_MAX: usize = 255;

/// The prefix of the engine's own, read-only topics.
pub const SYSTEM_PREFIX: &str = "$sys/";

/// What stands before a topic in the name of the one that tells how many read it.
pub const OCCUPANCY_PREFIX: &str = "$sys/occupancy/";

/// The topic that tells which topics are wanted.
pub const DEMAND: &str = "$sys/demand";

/// What the topics begin with that tell who reads another one.
pub const PRESENCE_PREFIX: &str = "$sys/presence/";

/// Names the rule that a topic breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicError {
    /// It has no bytes.
    Empty,
    /// It has more than [`TOPIC_BYTES_MAX`] bytes.
    TooLong,
    /// A segment between slashes is empty: a slash at either end, or two in a row.
    EmptySegment,
    /// It holds a control character (U+0000 to U+001F, U+007F to U+009F).
    ControlCharacter,
    /// It holds `+`, `#` or `*`, which are kept for patterns.
    ReservedCharacter,
    /// A segment is `.` or `..`: every URL parser takes those for steps in a path, escaped or not, so that no URL could name it.
    DotSegment,
    /// It starts with `$`, which is the engine's.
    System,
    /// It is meant as a pattern, and is none.
    Pattern(PatternError),
}

impl TopicError {
    /// Says in English what is wrong with the topic.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Empty => "the topic is empty",
            Self::TooLong => "the topic is longer than 255 bytes",
            Self::EmptySegment => "the topic has an empty segment",
            Self::ControlCharacter => "the topic holds a control character",
            Self::ReservedCharacter => "the topic holds +, # or *",
            Self::DotSegment => "the topic has a segment . or .., which no URL can name",
            Self::System => "topics that start with $ belong to the engine",
            Self::Pattern(error) => error.text(),
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for TopicError {}

/// Checks a topic that somebody wants to publish to.
///
/// # Errors
/// The [`TopicError`] that names the rule broken; the engine's own topics are [`TopicError::System`].
pub fn validate(topic: &str) -> Result<(), TopicError> {
    if is_system(topic) {
        return Err(TopicError::System);
    }
    check_characters(topic)
}

/// Checks a topic that somebody wants to read: as [`validate`], but `$sys/...` is allowed.
///
/// # Errors
/// The [`TopicError`] that names the rule broken; `$` with anything but `sys/` behind it is [`TopicError::System`].
pub fn validate_subscribe(topic: &str) -> Result<(), TopicError> {
    if is_system(topic) && !topic.starts_with(SYSTEM_PREFIX) {
        return Err(TopicError::System);
    }
    check_characters(topic)
}

/// Checks what somebody wants to read: a topic, as [`validate_subscribe`], or a [pattern] of topics.
///
/// # Errors
/// As [`validate_subscribe`]; [`TopicError::Pattern`] names the rule that a pattern breaks.
pub fn validate_readable(text: &str) -> Result<(), TopicError> {
    if pattern::is_pattern(text) {
        pattern::validate(text).map_err(TopicError::Pattern)
    } else {
        validate_subscribe(text)
    }
}

/// Says whether the topic is the engine's own (it starts with `$`).
pub fn is_system(topic: &str) -> bool {
    topic.starts_with('$')
}

/// Returns the topic whose readers this one tells the number of, if it is of that kind: `a/b` of `$sys/occupancy/a/b`. The engine's own
/// topics are not counted.
pub fn occupied(topic: &str) -> Option<&str> {
    topic.strip_prefix(OCCUPANCY_PREFIX).filter(|of| !is_system(of))
}

/// Returns the topic of whose readers this one tells who they are, if it is of that kind: `a/b` of `$sys/presence/a/b`.
pub fn presented(topic: &str) -> Option<&str> {
    topic.strip_prefix(PRESENCE_PREFIX).filter(|of| !is_system(of))
}

/// Says whether a topic is made of what is so now, and nothing else: what it remembers means nothing to another engine.
pub fn is_of_now(topic: &str) -> bool {
    topic == DEMAND || topic.starts_with(PRESENCE_PREFIX)
}

/// Says whether there can be a topic that tells how many read this one: it is not the engine's own, no pattern, and short enough.
pub fn can_be_occupied(topic: &str) -> bool {
    !is_system(topic) && !pattern::is_pattern(topic) && topic.len() <= TOPIC_BYTES_MAX - OCCUPANCY_PREFIX.len()
}

/// Reads a topic to publish to from the rest of a URL's path, percent-decoded into `out`.
///
/// # Errors
/// [`Violation::BadEscape`], [`Violation::NotUtf8`], or [`Violation::BadTopic`] as [`validate`] says.
pub fn from_path<'o>(encoded_path_tail: &str, out: &'o mut [u8; TOPIC_BYTES_MAX]) -> Result<&'o str, Violation> {
    let topic = decode(encoded_path_tail, out)?;
    validate(topic)?;
    Ok(topic)
}

/// Reads a topic to subscribe to from the rest of a URL's path: as [`from_path`], but `$sys/...` is allowed.
///
/// # Errors
/// [`Violation::BadEscape`], [`Violation::NotUtf8`], or [`Violation::BadTopic`] as [`validate_subscribe`] says.
pub fn from_path_subscribe<'o>(
    encoded_path_tail: &str,
    out: &'o mut [u8; TOPIC_BYTES_MAX],
) -> Result<&'o str, Violation> {
    let topic = decode(encoded_path_tail, out)?;
    validate_subscribe(topic)?;
    Ok(topic)
}

/// Reads a topic to subscribe to, or a pattern of such, from the rest of a URL's path: as [`from_path_subscribe`].
///
/// # Errors
/// [`Violation::BadEscape`], [`Violation::NotUtf8`], or [`Violation::BadTopic`] as [`validate_readable`] says.
pub fn from_path_readable<'o>(
    encoded_path_tail: &str,
    out: &'o mut [u8; TOPIC_BYTES_MAX],
) -> Result<&'o str, Violation> {
    let topic = decode(encoded_path_tail, out)?;
    validate_readable(topic)?;
    Ok(topic)
}

fn decode<'o>(encoded: &str, out: &'o mut [u8; TOPIC_BYTES_MAX]) -> Result<&'o str, Violation> {
    percent::decode(encoded, out, false).map_err(|violation| match violation {
        Violation::ValueTooLong => TopicError::TooLong.into(),
        other => other,
    })
}

/// Checks a topic, or one segment of it, whoever's it is.
pub(crate) fn check_characters(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        return Err(TopicError::Empty);
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    let bytes = topic.as_bytes();
    // A slash before the first byte stands for "a segment starts here"; one past the end must not.
    let mut before = b'/';
    // Dots that the segment at hand consists of, or more than two if of anything else.
    let mut dots = 0_u32;
    for &byte in bytes {
        dots = match byte {
            b'/' if matches!(dots, 1 | 2) => return Err(TopicError::DotSegment),
            b'/' => 0,
            b'.' => dots + 1,
            _ => 3,
        };
        match byte {
            b'/' if before == b'/' => return Err(TopicError::EmptySegment),
            0x00..=0x1f | 0x7f => return Err(TopicError::ControlCharacter),
            // C1 controls are U+0080 to U+009F, in UTF-8 the bytes C2 80 to C2 9F.
            0x80..=0x9f if before == 0xc2 => return Err(TopicError::ControlCharacter),
            b'+' | b'#' | b'*' => return Err(TopicError::ReservedCharacter),
            _ => before = byte,
        }
    }
    if before == b'/' {
        return Err(TopicError::EmptySegment);
    }
    if matches!(dots, 1 | 2) {
        return Err(TopicError::DotSegment);
    }
    Ok(())
}
