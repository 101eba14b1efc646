//! Patterns of topics: `prices/+` and `prices/#`.
//!
//! Segments are joined by `/`, as in topics. `+` stands for exactly one segment; `#`, only as the last, for the rest, which may be
//! nothing: `prices/#` matches `prices`, `prices/eur` and `prices/eur/spot`. As in MQTT (section 4.7.2), a pattern that begins with
//! `+` or `#` does not match the engine's own topics, which begin with `$`.

use core::cmp::Ordering;
use core::fmt;

use crate::topic::{self, TOPIC_BYTES_MAX, TopicError};

/// Why a pattern is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatternError {
    /// It is empty, or longer than 255 bytes.
    Length,
    /// A segment is empty.
    EmptySegment,
    /// `+` or `#` is only a part of a segment.
    PartOfSegment,
    /// `#` is not the last segment.
    NotLast,
    /// A character that no topic has.
    Character,
    /// A segment is `.` or `..`, which no topic has.
    DotSegment,
    /// It starts with `$`, and matches nothing that may be read.
    System,
}

impl PatternError {
    /// Returns what is wrong, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            PatternError::Length => "a pattern has 1 to 255 bytes",
            PatternError::EmptySegment => "a pattern has no empty segments",
            PatternError::PartOfSegment => "+ and # stand for whole segments: write prices/+, not prices/eur+",
            PatternError::NotLast => "# stands for the rest, so it comes last",
            PatternError::Character => "a pattern has no control characters and no *",
            PatternError::DotSegment => "a pattern has no segment . or .., as no topic has",
            PatternError::System => "of the topics that start with $ only those below $sys/ can be read",
        }
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for PatternError {}

/// Says whether this is a pattern; every topic is one.
///
/// # Errors
/// Why it is none.
pub fn validate(pattern: &str) -> Result<(), PatternError> {
    if pattern.is_empty() || pattern.len() > TOPIC_BYTES_MAX {
        return Err(PatternError::Length);
    }
    if topic::is_system(pattern) && !pattern.starts_with(topic::SYSTEM_PREFIX) {
        return Err(PatternError::System);
    }
    let mut rest = false;
    for segment in pattern.split('/') {
        if rest {
            return Err(PatternError::NotLast);
        }
        match segment {
            "" => return Err(PatternError::EmptySegment),
            "+" => {}
            "#" => rest = true,
            _ if segment.contains(['+', '#']) => return Err(PatternError::PartOfSegment),
            _ => match topic::check_characters(segment) {
                Ok(()) => {}
                Err(TopicError::DotSegment) => return Err(PatternError::DotSegment),
                Err(_) => return Err(PatternError::Character),
            },
        }
    }
    Ok(())
}

/// Says whether a sound pattern matches a sound topic.
#[must_use]
pub fn matches(pattern: &str, topic: &str) -> bool {
    if topic::is_system(topic) && pattern.starts_with(['+', '#']) {
        return false;
    }
    let (mut wanted, mut there) = (pattern.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), there.next()) {
            (None, None) | (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(there)) if wanted == there => {}
            _ => return false,
        }
    }
}

/// Says whether a sound topic or pattern is a pattern: whether it has a `+` or a `#`.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

/// Says whether a sound pattern matches every topic that another one matches.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    if topic::is_system(inner) && outer.starts_with(['+', '#']) {
        return false;
    }
    let (mut wanted, mut there) = (outer.split('/'), inner.split('/'));
    loop {
        match (wanted.next(), there.next()) {
            (None, None) | (Some("#"), _) => return true,
            (Some("+"), Some(segment)) if segment != "#" => {}
            (Some(wanted), Some(there)) if wanted == there => {}
            _ => return false,
        }
    }
}

/// Says whether there may be a topic that both of two sound patterns match.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let begins_with_any = |pattern: &str| pattern.starts_with(['+', '#']);
    if topic::is_system(one) && begins_with_any(other) || topic::is_system(other) && begins_with_any(one) {
        return false;
    }
    let (mut left, mut right) = (one.split('/'), other.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(left), Some(right)) if left == right => {}
            _ => return false,
        }
    }
}

/// Compares how specific two sound patterns are, segment by segment from the left: a name before `+`, `+` before the end, and
/// everything before `#`. Of all that match a topic, the greatest is the most specific; no two different ones are equal.
#[must_use]
pub fn specificity(a: &str, b: &str) -> Ordering {
    let rank = |segment: Option<&str>| match segment {
        Some("#") => 0,
        None => 1,
        Some("+") => 2,
        Some(_) => 3,
    };
    let (mut left, mut right) = (a.split('/'), b.split('/'));
    loop {
        let (one, other) = (left.next(), right.next());
        match rank(one).cmp(&rank(other)).then_with(|| one.cmp(&other)) {
            Ordering::Equal if one.is_none() => return Ordering::Equal,
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}
