//! Records: payloads that are JSON objects (RFC 8259), read where they stand.
//!
//! Owns what makes a record sound ([`check`]), what is looked up in one ([`get()`], [`members`], [`key`]), which part of one is shown
//! ([`Fields`], [`project`]), and how one becomes another ([`merge`], [`diff`]: RFC 7396). Values are never decoded: what is not changed keeps its
//! bytes.
//!
//! **What is promised of what.** [`check`] takes any bytes. The others expect what it accepts; of other bytes they never panic and write no more than
//! they say, but what they find is not defined: they see where values begin and end, and look no closer.
//!
//! **What it costs.** Time grows with the bytes, and where members have to be found in each other with `n log n` of their number, whoever chose
//! their names. Names that have to be remembered stand in a scratch that the caller lends: one `u64` for each member of the objects that are open at
//! a time. [`MEMBERS_MAX`] words do for nearly all; what needs more is refused by name, or by [`diff`] sent whole.
//!
//! Paths are names joined by dots, `a.b` for the member `b` of the object `a`. A member whose own name has a dot, or that is inside an array, has no
//! path.

mod check;
mod diff;
mod fields;
mod index;
mod key;
mod merge;
mod name;
mod scan;

use core::fmt;

pub use check::check;
pub use diff::diff;
pub use fields::{FIELDS_BYTES_MAX, FIELDS_MAX, Fields, FieldsError, NODES_MAX, project};
pub use key::{KEY_BYTES_MAX, KeyError, check_key, key};
pub use merge::merge;
use name::hash;
pub(crate) use name::hash_bytes;
pub use name::{Name, Unescaped};
pub(crate) use scan::{Cursor, Malformed, Scanned};

/// The deepest nesting, the record itself included: as deep as the JSON that [`publish_line`](crate::json::publish_line) takes.
pub const DEPTH_MAX: usize = crate::json::DEPTH_MAX;

/// The longest record in bytes (1 GiB): a place in it is less than 31 bits.
pub const RECORD_BYTES_MAX: usize = 1 << 30;

/// The longest number in bytes: no machine's number needs more to be written exactly enough, and nobody has to keep more to compare it.
pub const NUMBER_BYTES_MAX: usize = 64;

/// How many words of scratch are enough for any record of 64 KiB: a member with a name that no other has takes seven bytes of it.
pub const MEMBERS_MAX: usize = 10_000;

const NOT_AN_OBJECT: &str = "the record is not an object";
const TOO_MANY_MEMBERS: &str = "the record has too many members";
const TOO_DEEP: &str = "the nesting is too deep";
const NOT_SOUND: &str = "the record is not sound";

/// What is wrong with a record, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordError {
    /// What is wrong, in English.
    pub text: &'static str,
    /// The byte of the record at which it was found.
    pub offset: usize,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.text, self.offset)
    }
}

impl core::error::Error for RecordError {}

/// Stands at the bracket of a record.
fn record(bytes: &[u8]) -> Result<Cursor<'_>, RecordError> {
    let cursor = Cursor::new(bytes);
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(RecordError { text: check::TOO_LONG, offset: RECORD_BYTES_MAX });
    }
    if !cursor.is_object() {
        return Err(RecordError { text: NOT_AN_OBJECT, offset: cursor.at });
    }
    Ok(cursor)
}

/// A member of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name.
    pub name: Name<'a>,
    /// The bytes of its value, as they stand there.
    pub value: &'a [u8],
}

/// The members of an object, in their order.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    cursor: Cursor<'a>,
    first: bool,
    /// Whether the object has ended, or cannot be followed any further.
    over: bool,
}

/// Returns the members of an object; of anything else there are none.
#[must_use]
pub fn members(bytes: &[u8]) -> Members<'_> {
    let mut cursor = Cursor::new(bytes);
    let over = cursor.open().is_err();
    Members { cursor, first: true, over }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        if self.over {
            return None;
        }
        let member = self.cursor.member(&mut self.first).and_then(|name| {
            let Some(name) = name else { return Ok(None) };
            Ok(Some(Member { name, value: self.cursor.value()? }))
        });
        let member = member.unwrap_or(None);
        self.over = member.is_none();
        member
    }
}

/// Finds the value at a path: its bytes, as they stand there.
///
/// `None` if there is none: a member is missing, or what should have it is no object.
#[must_use]
pub fn get<'a>(bytes: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let mut cursor = Cursor::new(bytes);
    for wanted in path.split('.') {
        cursor.open().ok()?;
        let mut first = true;
        while !cursor.member(&mut first).ok()??.is(wanted.as_bytes()) {
            cursor.value().ok()?;
        }
    }
    cursor.value().ok()
}
