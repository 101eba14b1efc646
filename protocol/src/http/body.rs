//! Chunked bodies (RFC 9112 section 7.1), as they arrive.
//!
//! Owns 16 bytes of state. The data is handed out where it stands in the caller's buffer, never copied; sizes, extensions
//! and trailers are checked and swallowed. Strict: CRLF only, plain hexadecimal sizes, extensions and trailers that follow their
//! grammar and are bounded, because every leniency here is a way to smuggle a request.

use core::ops::Range;

use super::field::is_token_byte;
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
    /// White space before the `;` of an extension.
    BeforeExtension,
    /// Behind a `;`, and white space.
    ExtensionStart,
    ExtensionName,
    /// White space behind an extension's name.
    ExtensionNameEnd,
    /// Behind a `=`, and white space.
    ValueStart,
    Value,
    Quoted,
    /// Behind a `\\` in a quoted value.
    Escaped,
    QuotedEnd,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
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
    /// [`Violation::BadChunk`], [`Violation::BadTrailer`], [`Violation::BareLineFeed`], [`Violation::ChunkExtensionTooLong`],
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
        self.at = match self.at {
            At::Size => match byte {
                b'\r' | b';' | b' ' | b'\t' if self.count > 0 => {
                    self.count = 0;
                    self.extension(At::BeforeExtension, byte)?
                }
                b'\n' => return Err(Violation::BareLineFeed),
                _ => {
                    let digit = hex_digit(byte).ok_or(Violation::BadChunk)?;
                    self.count += 1;
                    if self.count > SIZE_DIGITS_MAX {
                        return Err(Violation::BadChunk);
                    }
                    self.remaining = self.remaining << 4 | u64::from(digit);
                    At::Size
                }
            },
            at @ (At::BeforeExtension
            | At::ExtensionStart
            | At::ExtensionName
            | At::ExtensionNameEnd
            | At::ValueStart
            | At::Value
            | At::Quoted
            | At::Escaped
            | At::QuotedEnd) => {
                if byte != b'\r' {
                    self.counted(EXTENSION_BYTES_MAX, Violation::ChunkExtensionTooLong)?;
                }
                self.extension(at, byte)?
            }
            At::SizeLineFeed if byte == b'\n' && self.remaining > 0 => At::Data,
            At::SizeLineFeed if byte == b'\n' => At::TrailerStart,
            At::DataCarriageReturn if byte == b'\r' => At::DataLineFeed,
            At::DataCarriageReturn if byte == b'\n' => return Err(Violation::BareLineFeed),
            At::DataLineFeed if byte == b'\n' => At::Size,
            at @ (At::TrailerStart | At::TrailerName | At::TrailerValue) => self.trailer(at, byte)?,
            At::TrailerLineFeed if byte == b'\n' => At::TrailerStart,
            At::EndLineFeed if byte == b'\n' => At::Done,
            _ => return Err(Violation::BadChunk),
        };
        Ok(())
    }

    /// Reads a byte of `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1), or of its end.
    fn extension(&mut self, at: At, byte: u8) -> Result<At, Violation> {
        let blank = matches!(byte, b' ' | b'\t');
        Ok(match (at, byte) {
            (_, b'\n') => return Err(Violation::BareLineFeed),
            (At::Quoted, b'"') => At::QuotedEnd,
            (At::Quoted, b'\\') => At::Escaped,
            (At::Quoted | At::Escaped, b'\t' | b' '..=0x7e | 0x80..) => At::Quoted,
            (At::Quoted | At::Escaped, _) => return Err(Violation::BadChunk),
            // White space ends no line: an extension has to follow it. Behind a size, that is where the line may end.
            (At::BeforeExtension, b'\r') if self.count == 0 => self.line_ends(),
            (At::ExtensionName | At::Value | At::QuotedEnd, b'\r') => self.line_ends(),
            (At::BeforeExtension | At::ExtensionName | At::ExtensionNameEnd | At::Value | At::QuotedEnd, b';') => {
                At::ExtensionStart
            }
            (At::ExtensionName | At::ExtensionNameEnd, b'=') => At::ValueStart,
            (At::ExtensionName | At::ExtensionNameEnd, _) if blank => At::ExtensionNameEnd,
            (At::BeforeExtension | At::Value | At::QuotedEnd, _) if blank => {
                self.count = self.count.max(1);
                At::BeforeExtension
            }
            (At::ExtensionStart | At::ValueStart, _) if blank => at,
            (At::ExtensionStart | At::ExtensionName, _) if is_token_byte(byte) => At::ExtensionName,
            (At::ValueStart, b'"') => At::Quoted,
            (At::ValueStart | At::Value, _) if is_token_byte(byte) => At::Value,
            _ => return Err(Violation::BadChunk),
        })
    }

    fn line_ends(&mut self) -> At {
        self.count = 0;
        At::SizeLineFeed
    }

    /// Reads a byte of a line of the trailer section (RFC 9112 sections 5 and 7.1.2), or of its end.
    fn trailer(&mut self, at: At, byte: u8) -> Result<At, Violation> {
        match (at, byte) {
            (At::TrailerStart, b'\r') => return Ok(At::EndLineFeed),
            (At::TrailerValue, b'\r') => return Ok(At::TrailerLineFeed),
            _ => {}
        }
        self.counted(TRAILER_BYTES_MAX, Violation::TrailerTooLong)?;
        match (at, byte) {
            (_, b'\n') => Err(Violation::BareLineFeed),
            (At::TrailerName, b':') => Ok(At::TrailerValue),
            (At::TrailerStart | At::TrailerName, _) if is_token_byte(byte) => Ok(At::TrailerName),
            (At::TrailerValue, b'\t' | b' '..=0x7e | 0x80..) => Ok(At::TrailerValue),
            _ => Err(Violation::BadTrailer),
        }
    }

    /// Counts a byte of an extension or a trailer.
    fn counted(&mut self, bytes_max: u16, too_long: Violation) -> Result<(), Violation> {
        self.count += 1;
        if self.count > bytes_max { Err(too_long) } else { Ok(()) }
    }
}
