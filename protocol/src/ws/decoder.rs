//! Frames as they arrive (RFC 6455 section 5, RFC 7692 section 6), in pieces of any size.
//!
//! Owns at most 32 bytes per connection: where in which frame we are, and the text check's open character. Data is unmasked
//! and handed out where it stands, piece by piece, so a connection that is in the middle of a large message holds no buffer;
//! control frames, 125 bytes at most, are handed out whole. Never copies, and never waits for a whole data frame.
//!
//! What comes out does not depend on the cuts: the same violation, the same payload bytes, the same control frames in the same
//! places. Only how the payload is divided into [`Event::Data`] pieces does.

use core::ops::Range;

use super::close;
use super::frame::{CONTROL_BYTES_MAX, Opcode, unmask};
use super::utf8::Utf8;
use crate::violation::Violation;

/// Which end of the connection decodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The peer is a client: it must mask.
    Server,
    /// The peer is a server: it must not mask.
    Client,
}

/// The state of one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoder {
    /// Payload bytes of the data frame under way that are still to come.
    remaining: u32,
    /// Payload bytes of the message so far, with all of the frame under way.
    message_bytes: u32,
    /// The mask of the frame under way, turned to its next byte.
    mask: [u8; 4],
    utf8: Utf8,
    role: Role,
    flags: u8,
}

/// A message has begun and its last fragment has not come to its end.
const MESSAGE: u8 = 1;
/// The message is text.
const TEXT: u8 = 2;
/// No piece of the message has been handed out yet.
const FIRST: u8 = 4;
/// The frame under way is the last of its message.
const FIN: u8 = 8;
/// A close frame came: nothing after it means anything (RFC 6455 section 5.5.1).
const CLOSED: u8 = 16;
/// Compressed messages were agreed on.
const DEFLATE: u8 = 32;
/// The message is compressed.
const COMPRESSED: u8 = 64;

/// How many bytes a compressed message may have whose content may have `bytes_max`: what does not compress becomes a little
/// longer, by five bytes in each block of deflate and what it takes to end them.
pub const fn compressed_bytes_max(bytes_max: usize) -> usize {
    bytes_max + bytes_max / 256 + 64
}

/// What [`Decoder::next`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How many bytes of the buffer are used up.
    pub consumed: usize,
    /// What was found. None with nothing consumed asks for more bytes; none with bytes consumed asks to be called again.
    pub event: Option<Event>,
}

/// Something that arrived. All ranges are in the buffer given, inside of what was consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A piece of a message, unmasked. It may be empty only if it is the last of its message.
    Data {
        /// Whether the message is text.
        text: bool,
        /// Whether the message is compressed. Whether its content is UTF-8 is then not known.
        compressed: bool,
        /// Where the piece stands.
        data: Range<usize>,
        /// Whether it is the first piece of its message.
        first: bool,
        /// Whether it is the last piece of its message; text is then known to be whole UTF-8.
        last: bool,
    },
    /// A ping; its payload belongs into the pong.
    Ping(Range<usize>),
    /// A pong.
    Pong(Range<usize>),
    /// A close frame. Everything after it is swallowed.
    Close {
        /// The code, if there is one; one that may be sent.
        code: Option<u16>,
        /// The reason, UTF-8.
        reason: Range<usize>,
    },
}

struct Header {
    fin: bool,
    compressed: bool,
    opcode: Opcode,
    len: u64,
    mask: [u8; 4],
    header_len: usize,
}

impl Decoder {
    /// Starts at the first byte after the handshake.
    pub const fn new(role: Role) -> Self {
        Self { remaining: 0, message_bytes: 0, mask: [0; 4], utf8: Utf8::new(), role, flags: 0 }
    }

    /// Expects compressed messages besides others: they were agreed on.
    #[must_use]
    pub const fn with_deflate(mut self) -> Self {
        self.flags |= DEFLATE;
        self
    }

    /// Says whether compressed messages were agreed on.
    pub const fn has_deflate(&self) -> bool {
        self.flags & DEFLATE != 0
    }

    /// Says whether a message has begun and not ended.
    pub const fn mid_message(&self) -> bool {
        self.flags & MESSAGE != 0
    }

    /// Reads on from the start of `buf`. The caller cuts off what was consumed and calls again, until it is asked for more
    /// bytes; then at most 14 + 125 bytes are left over, to be put before what comes next.
    ///
    /// # Errors
    /// The [`Violation`] that names the rule broken; the connection is then beyond repair. [`Violation::MessageTooLarge`] comes
    /// as soon as a header announces a message of more than `message_bytes_max` bytes, or one that is compressed and has more
    /// than [`compressed_bytes_max`] of that; and, whatever the limit, of one of 4 GiB.
    #[inline]
    pub fn next(&mut self, buf: &mut [u8], message_bytes_max: usize) -> Result<Step, Violation> {
        if self.remaining > 0 {
            return self.data(buf, 0);
        }
        if self.flags & CLOSED != 0 {
            return Ok(Step { consumed: buf.len(), event: None });
        }
        let Some(header) = self.header(buf)? else {
            return Ok(Step::MORE);
        };
        if header.opcode.is_control() {
            return self.control(buf, &header);
        }
        if header.opcode != Opcode::Continuation {
            self.message_bytes = 0;
            self.flags = self.flags & DEFLATE | MESSAGE | FIRST;
            if header.compressed {
                self.flags |= COMPRESSED;
            }
            if header.opcode == Opcode::Text {
                self.flags |= TEXT;
            }
        }
        // Both are below 2^63, so the sum is below 2^64.
        let message_bytes = u64::from(self.message_bytes) + header.len;
        let compressed = self.flags & COMPRESSED != 0;
        let bytes_max = if compressed { compressed_bytes_max(message_bytes_max) } else { message_bytes_max };
        if message_bytes > bytes_max as u64 {
            return Err(Violation::MessageTooLarge);
        }
        // A state has no room for larger ones: there is one for each of very many connections.
        self.message_bytes = u32::try_from(message_bytes).map_err(|_| Violation::MessageTooLarge)?;
        self.remaining = u32::try_from(header.len).map_err(|_| Violation::MessageTooLarge)?;
        self.mask = header.mask;
        if header.fin {
            self.flags |= FIN;
        }
        self.data(buf, header.header_len)
    }

    /// Hands out what there is of the data frame under way; its payload goes on at `start`.
    #[inline]
    fn data(&mut self, buf: &mut [u8], start: usize) -> Result<Step, Violation> {
        let available = buf.len() - start;
        let len = available.min(self.remaining as usize);
        let data = &mut buf[start..start + len];
        if self.role == Role::Server {
            unmask(data, self.mask, 0);
            self.mask.rotate_left(len % 4);
        }
        if self.flags & (TEXT | COMPRESSED) == TEXT {
            self.utf8.push(data)?;
        }
        self.remaining -= len as u32;
        let last = self.remaining == 0 && self.flags & FIN != 0;
        if last && !self.utf8.complete() {
            return Err(Violation::NotUtf8);
        }
        let consumed = start + len;
        if len == 0 && !last {
            return Ok(Step { consumed, event: None });
        }
        let event = Event::Data {
            text: self.flags & TEXT != 0,
            compressed: self.flags & COMPRESSED != 0,
            data: start..consumed,
            first: self.flags & FIRST != 0,
            last,
        };
        self.flags &= if last { DEFLATE } else { !FIRST };
        Ok(Step { consumed, event: Some(event) })
    }

    /// Reads a frame's header; `None` if it is not all there. Whatever is wrong is told at the first byte that shows it.
    #[inline]
    fn header(&self, buf: &[u8]) -> Result<Option<Header>, Violation> {
        let Some(&first) = buf.first() else {
            return Ok(None);
        };
        let compressed = first & 0x40 != 0;
        // Only the first frame of a message says that it is compressed (RFC 7692 section 6.1).
        if first & 0x30 != 0 || compressed && (!self.has_deflate() || !matches!(first & 0x0f, 1 | 2)) {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::ReservedOpcode)?;
        let fin = first & 0x80 != 0;
        match opcode {
            Opcode::Continuation if !self.mid_message() => {
                return Err(Violation::UnexpectedContinuation);
            }
            Opcode::Text | Opcode::Binary if self.mid_message() => {
                return Err(Violation::ExpectedContinuation);
            }
            _ if opcode.is_control() && !fin => return Err(Violation::FragmentedControl),
            _ => {}
        }
        let Some(&second) = buf.get(1) else {
            return Ok(None);
        };
        let masked = second & 0x80 != 0;
        match self.role {
            Role::Server if !masked => return Err(Violation::UnmaskedFrame),
            Role::Client if masked => return Err(Violation::MaskedFrame),
            _ => {}
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }
        let (len, mut header_len) = match short {
            126 => {
                let Some(bytes) = buf.get(2..4) else {
                    return Ok(None);
                };
                let len = u16::from_be_bytes(bytes.try_into().expect("the slice has 2 bytes"));
                if len < 126 {
                    return Err(Violation::BadLengthEncoding);
                }
                (u64::from(len), 4)
            }
            127 => {
                let Some(bytes) = buf.get(2..10) else {
                    return Ok(None);
                };
                let len = u64::from_be_bytes(bytes.try_into().expect("the slice has 8 bytes"));
                if len <= 0xffff || len > i64::MAX as u64 {
                    return Err(Violation::BadLengthEncoding);
                }
                (len, 10)
            }
            short => (u64::from(short), 2),
        };
        let mut mask = [0; 4];
        if masked {
            let Some(bytes) = buf.get(header_len..header_len + 4) else {
                return Ok(None);
            };
            mask.copy_from_slice(bytes);
            header_len += 4;
        }
        Ok(Some(Header { fin, compressed, opcode, len, mask, header_len }))
    }

    /// Hands out a control frame, if it is all there.
    fn control(&mut self, buf: &mut [u8], header: &Header) -> Result<Step, Violation> {
        let start = header.header_len;
        let consumed = start + header.len as usize;
        let Some(payload) = buf.get_mut(start..consumed) else {
            return Ok(Step::MORE);
        };
        if self.role == Role::Server {
            unmask(payload, header.mask, 0);
        }
        let range = start..consumed;
        let event = match header.opcode {
            Opcode::Ping => Event::Ping(range),
            Opcode::Pong => Event::Pong(range),
            _ => {
                let event = match *payload {
                    [] => Event::Close { code: None, reason: range },
                    [_] => return Err(Violation::BadClosePayload),
                    [high, low, ref reason @ ..] => {
                        let code = u16::from_be_bytes([high, low]);
                        if !close::may_be_sent(code) {
                            return Err(Violation::BadCloseCode);
                        }
                        if core::str::from_utf8(reason).is_err() {
                            return Err(Violation::NotUtf8);
                        }
                        Event::Close { code: Some(code), reason: start + 2..consumed }
                    }
                };
                self.flags |= CLOSED;
                event
            }
        };
        Ok(Step { consumed, event: Some(event) })
    }
}

impl Step {
    const MORE: Self = Self { consumed: 0, event: None };
}
