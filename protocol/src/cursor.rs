//! Cursors and start positions.
//!
//! Owns their text: `1a2b3c4d-17`, the values of `since=`, and the combined cursor of a request for several topics,
//! `1a2b3c4d-17,00000000-0`: one per topic, in the order of the request ([`list`], [`write_list`]). A topic of which the client
//! has seen nothing has a cursor in it, too: the default one, `00000000-0`, before everything; an empty place is an error. What a cursor points at is the home shard's business.

use crate::violation::Violation;
use crate::write::{Writer, decimal_len, hex_digit, parse_decimal};

/// The longest text of a cursor, in bytes: 8 digits, `-`, 20 digits.
pub const TEXT_BYTES_MAX: usize = 29;

/// The most cursors of a combined cursor: as many as one request may name topics.
pub const LIST_MAX: usize = 64;

/// The longest text of a combined cursor, in bytes.
pub const LIST_BYTES_MAX: usize = LIST_MAX * (TEXT_BYTES_MAX + 1) - 1;

/// A place in the numbering of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cursor {
    /// Which life of the topic numbered it: random, drawn anew when its numbers start again.
    pub epoch: u32,
    /// The sequence number of the message; messages count from 1, and 0 is before the first.
    pub seq: u64,
}

impl Cursor {
    /// Reads a cursor: exactly 8 hexadecimal digits of either case, `-`, a decimal number without sign or leading zero.
    ///
    /// # Errors
    /// [`Violation::BadCursor`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        let (epoch, rest) = text.as_bytes().split_at_checked(8).ok_or(Violation::BadCursor)?;
        let epoch =
            epoch.iter().try_fold(0u32, |value, &digit| hex_digit(digit).map(|digit| value << 4 | u32::from(digit)));
        let (Some(epoch), [b'-', seq @ ..]) = (epoch, rest) else {
            return Err(Violation::BadCursor);
        };
        if seq.len() > 1 && seq[0] == b'0' {
            return Err(Violation::BadCursor);
        }
        let seq = parse_decimal(seq).ok_or(Violation::BadCursor)?;
        Ok(Self { epoch, seq })
    }

    /// Writes the cursor's text.
    #[inline]
    pub fn write(self, w: &mut Writer<'_>) {
        w.hex8(self.epoch);
        w.byte(b'-');
        w.decimal(self.seq);
    }

    /// Says how many bytes [`Cursor::write`] takes (10 to [`TEXT_BYTES_MAX`]).
    pub const fn text_len(self) -> usize {
        9 + decimal_len(self.seq)
    }

    /// Lends the cursor's text, written into `out`.
    pub fn text(self, out: &mut [u8; TEXT_BYTES_MAX]) -> &str {
        let mut w = Writer::new(out);
        self.write(&mut w);
        let len = w.finish().expect("TEXT_BYTES_MAX holds the longest cursor");
        core::str::from_utf8(&out[..len]).expect("a cursor is ASCII")
    }
}

/// Goes through a combined cursor, place by place; whether there are as many as topics is the caller's to count. It ends behind
/// the first error, and a text longer than [`LIST_BYTES_MAX`] is one. A single cursor is a list of one.
///
/// # Errors
/// [`Violation::BadCursor`] for a place that [`Cursor::parse`] refuses, an empty one included.
pub fn list(text: &str) -> impl Iterator<Item = Result<Cursor, Violation>> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        if text.len() > LIST_BYTES_MAX {
            rest = None;
            return Some(Err(Violation::BadCursor));
        }
        let (first, after) = match text.split_once(',') {
            Some((first, after)) => (first, Some(after)),
            None => (text, None),
        };
        let cursor = Cursor::parse(first);
        rest = after.filter(|_| cursor.is_ok());
        Some(cursor)
    })
}

/// Reads a combined cursor of exactly `out.len()` places into `out`.
///
/// # Errors
/// [`Violation::BadCursor`] for more places or fewer, and as [`list`] says; `out` is then undefined.
pub fn read_list(text: &str, out: &mut [Cursor]) -> Result<(), Violation> {
    let mut cursors = list(text);
    for place in out {
        *place = cursors.next().ok_or(Violation::BadCursor)??;
    }
    match cursors.next() {
        None => Ok(()),
        Some(_) => Err(Violation::BadCursor),
    }
}

/// Writes a combined cursor, joined by `,`: at most [`LIST_BYTES_MAX`] bytes for [`LIST_MAX`] cursors.
pub fn write_list(w: &mut Writer<'_>, cursors: impl IntoIterator<Item = Cursor>) {
    for (place, cursor) in cursors.into_iter().enumerate() {
        if place > 0 {
            w.byte(b',');
        }
        cursor.write(w);
    }
}

/// Where a subscription starts: the values of `since=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Since {
    /// With the newest message, if there is one.
    #[default]
    Latest,
    /// With what comes next.
    Live,
    /// With all the history.
    Earliest,
    /// With the newest so many of the history.
    Last(u32),
    /// With everything after this cursor.
    After(Cursor),
}

impl Since {
    /// Reads `latest`, `live`, `earliest`, `-N` or a cursor.
    ///
    /// # Errors
    /// [`Violation::BadSince`] for anything else, also for an N above `u32::MAX`.
    pub fn parse(text: &str) -> Result<Self, Violation> {
        match text {
            "latest" => Ok(Self::Latest),
            "live" => Ok(Self::Live),
            "earliest" => Ok(Self::Earliest),
            _ => match text.strip_prefix('-') {
                Some(count) => parse_decimal(count.as_bytes())
                    .and_then(|count| u32::try_from(count).ok())
                    .map(Self::Last)
                    .ok_or(Violation::BadSince),
                None => Cursor::parse(text).map(Self::After).map_err(|_| Violation::BadSince),
            },
        }
    }

    /// Writes the text that [`Since::parse`] reads.
    pub fn write(self, w: &mut Writer<'_>) {
        match self {
            Self::Latest => w.text("latest"),
            Self::Live => w.text("live"),
            Self::Earliest => w.text("earliest"),
            Self::Last(count) => {
                w.byte(b'-');
                w.decimal(u64::from(count));
            }
            Self::After(cursor) => cursor.write(w),
        }
    }
}
