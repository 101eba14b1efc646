//! Chunked bodies (RFC 9112 section 7.1), as they arrive.
//!
//! Owns 16 bytes of state. The data is handed out where it stands in the caller's buffer, never copied; sizes, extensions
//! and trailers are swallowed. Strict: CRLF only, plain hexadecimal sizes, bounded extensions and trailers, because every
//! leniency here is a way to smuggle a request.

use core::ops::Range;

use crate::violation::Violation;
use crate::write::hex_digit;

/// The most bytes of extensions behind one chunk's size. Nobody uses them; they are swallowed.
pub const EXTENSION_BYTES_MAX: u16 = 256;

/// The most bytes of the trailer section. It is swallowed.
pub const TRAILER_BYTES_MAX: u16 = 1024;

/// The most hexadecimal digits of a chunk's size: what a `u64` holds.
const SIZE_DIGITS_MAX: u16 = 16;

/// The state of a chunked body between two pieces of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chunked {
    /// Bytes of the chunk that are still to come; while its size is read, the size so far.
    remaining: u64,
    /// Digits, extension bytes or trailer bytes so far, each held to its limit.
    count: u16,
    at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum At {
    #[default]
    Size,
    Extension,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    EndLineFeed,
    Done,
}

/// What [`Chunked::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes of the input are used up; 0 only if the input is empty or the body has ended.
    pub consumed: usize,
    /// Where in the input the data stands; part of `consumed`, may be empty.
    pub data: Range<usize>,
    /// Whether the body has ended; what follows is the next request.
    pub done: bool,
}

impl Chunked {
    /// Reads on: at most one run of data per call. The caller goes on with the rest of the input until `done`, or until all
    /// of it is consumed.
    ///
    /// # Errors
    /// [`Violation::BadChunk`], [`Violation::BareLineFeed`], [`Violation::ChunkExtensionTooLong`],
    /// [`Violation::TrailerTooLong`]; the connection is then beyond repair.
    pub fn next(&mut self, input: &[u8]) -> Result<Piece, Violation> {
        let mut used = 0;
        while used < input.len() && self.at != At::Done {
            if self.at == At::Data {
                let available = (input.len() - used) as u64;
                let run = available.min(self.remaining) as usize;
                self.remaining -= run as u64;
                if self.remaining == 0 {
                    self.at = At::DataCarriageReturn;
                }
                return Ok(Piece { consumed: used + run, data: used..used + run, done: false });
            }
            self.step(input[used])?;
            used += 1;
        }
        Ok(Piece { consumed: used, data: used..used, done: self.at == At::Done })
    }

    /// Says how many bytes of the chunk at hand are still to come, so that a chunk too large is refused when it is announced.
    pub const fn announced(&self) -> u64 {
        match self.at {
            At::Data => self.remaining,
            _ => 0,
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), Violation> {
        self.at = match (self.at, byte) {
            (At::Size, b'\r' | b';') if self.count > 0 => {
                self.count = 0;
                if byte == b';' { At::Extension } else { At::SizeLineFeed }
            }
            (At::Size, b'\n') => return Err(Violation::BareLineFeed),
            (At::Size, _) => {
                let digit = hex_digit(byte).ok_or(Violation::BadChunk)?;
                self.count += 1;
                if self.count > SIZE_DIGITS_MAX {
                    return Err(Violation::BadChunk);
                }
                self.remaining = self.remaining << 4 | u64::from(digit);
                At::Size
            }
            (At::Extension, b'\r') => {
                self.count = 0;
                At::SizeLineFeed
            }
            (At::Extension, _) => {
                self.text(byte, EXTENSION_BYTES_MAX, Violation::ChunkExtensionTooLong)?;
                At::Extension
            }
            (At::SizeLineFeed, b'\n') if self.remaining > 0 => At::Data,
            (At::SizeLineFeed, b'\n') => At::TrailerStart,
            (At::DataCarriageReturn, b'\r') => At::DataLineFeed,
            (At::DataLineFeed, b'\n') => At::Size,
            (At::TrailerStart, b'\r') => At::EndLineFeed,
            (At::Trailer, b'\r') => At::TrailerLineFeed,
            (At::TrailerStart | At::Trailer, _) => {
                self.text(byte, TRAILER_BYTES_MAX, Violation::TrailerTooLong)?;
                At::Trailer
            }
            (At::TrailerLineFeed, b'\n') => At::TrailerStart,
            (At::EndLineFeed, b'\n') => At::Done,
            (At::DataCarriageReturn, b'\n') => return Err(Violation::BareLineFeed),
            _ => return Err(Violation::BadChunk),
        };
        Ok(())
    }

    /// Counts a byte of an extension or a trailer.
    fn text(&mut self, byte: u8, bytes_max: u16, too_long: Violation) -> Result<(), Violation> {
        self.count += 1;
        match byte {
            _ if self.count > bytes_max => Err(too_long),
            b'\n' => Err(Violation::BareLineFeed),
            0..=8 | 0x0a..=0x1f | 0x7f => Err(Violation::BadChunk),
            _ => Ok(()),
        }
    }
}
