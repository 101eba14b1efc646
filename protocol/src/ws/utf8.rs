//! UTF-8 of a text that comes in pieces (RFC 6455 section 8.1, Unicode table 3-7).
//!
//! Owns three bytes: what the character at the cut still needs. Whole runs go to the fast validator; only the characters
//! around a cut are followed byte by byte. Fails in the piece that holds the first impossible byte, not at the end.

/// Says that the text is not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotUtf8;

impl From<NotUtf8> for crate::Violation {
    fn from(_: NotUtf8) -> Self {
        Self::NotUtf8
    }
}

/// The state of a text between two pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Utf8 {
    /// Continuation bytes the open character still needs, 0 to 3.
    need: u8,
    /// The bounds of the next one; only after E0, ED, F0 and F4 narrower than 80 to BF.
    low: u8,
    high: u8,
}

impl Utf8 {
    /// Starts a text.
    pub const fn new() -> Self {
        Self { need: 0, low: 0, high: 0 }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`NotUtf8`] as soon as no continuation could make the text valid; the state is then undefined.
    #[inline]
    pub fn push(&mut self, piece: &[u8]) -> Result<(), NotUtf8> {
        let mut piece = piece;
        while self.need > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            self.step(byte)?;
            piece = rest;
        }
        let (whole, open) = piece.split_at(open_at(piece));
        if simdutf8::basic::from_utf8(whole).is_err() {
            return Err(NotUtf8);
        }
        open.iter().try_for_each(|&byte| self.step(byte))
    }

    /// Says whether the text may end here: no character is open.
    pub const fn complete(&self) -> bool {
        self.need == 0
    }

    fn step(&mut self, byte: u8) -> Result<(), NotUtf8> {
        if self.need > 0 {
            if byte < self.low || byte > self.high {
                return Err(NotUtf8);
            }
            (self.need, self.low, self.high) = (self.need - 1, 0x80, 0xbf);
            return Ok(());
        }
        (self.need, self.low, self.high) = match byte {
            0x00..=0x7f => (0, 0, 0),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return Err(NotUtf8),
        };
        Ok(())
    }
}

/// Finds where a character starts that the end of `piece` cuts; the length of `piece` if none does.
fn open_at(piece: &[u8]) -> usize {
    let len = piece.len();
    for back in 1..=len.min(3) {
        let needs = match piece[len - back] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xff => 4,
            _ => 1,
        };
        return if needs > back { len - back } else { len };
    }
    len
}
