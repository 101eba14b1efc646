//! Cursors and start positions.
//!
//! Owns their text: `1a2b3c4d-17` and the values of `since=`. What a cursor points at is the home shard's business.

use crate::violation::Violation;
use crate::write::{Writer, decimal_len, hex_digit, parse_decimal};

/// The longest text of a cursor, in bytes: 8 digits, `-`, 20 digits.
pub const TEXT_BYTES_MAX: usize = 29;

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
