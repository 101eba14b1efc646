//! Encoding a message in a dialect, compression included: once, for everybody who reads it there.
//!
//! ```text
//!   plain, chunked     message ─────────────────────────────────────────▶ frame log
//!   deflate, gzip      message ─▶ plain (scratch) ─▶ packed (scratch) ──▶ frame log
//! ```
//!
//! How long a compressed message is shows only when it is compressed, so it is made in scratch and then copied; all others
//! are written where they will be sent from. Owns the scratch and the compressors of a shard.

use corecast_protocol::http::{gzip, response};
use corecast_protocol::message::Message;
use corecast_protocol::ws::deflate::{TAIL, Window};
use corecast_protocol::ws::frame::{self, HEADER_BYTES_MAX};

use crate::shard::dialect::compress::{Deflater, room};
use crate::shard::dialect::{Coding, Dialect};
use crate::shard::work::{DEFLATED_BYTE_NS, PIECE_NS};

/// Compression may take one part in so many of a shard's time. Beyond it messages go as they are, which is as right, and takes
/// a fiftieth: a peer that asks for compression in many dialects must not delay others.
const COMPRESS_SHARE: u64 = 2;

/// So much of it at once, in nanoseconds: a message of 64 KiB in five of the thirteen dialects that compress.
const COMPRESS_NS_MAX: u64 = 2_000_000;

/// Whether a message is worth compressing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Effort {
    /// It has many readers, or its sender asks for it: compress it if it has so many bytes.
    From(u32),
    /// It has one reader among many who ask for their own: its bytes cost less than the time.
    None,
}

/// Encodes messages; keeps the one measured last.
#[derive(Debug, Default)]
pub(in crate::shard) struct Encoder {
    deflater: Deflater,
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// Where the message that was measured last lies in `packed`.
    measured: (usize, usize),
    /// Bytes of the message that was measured last, before compression.
    pub(in crate::shard) plain_bytes: u64,
    /// What it takes to encode it, as estimated, in nanoseconds.
    pub(in crate::shard) cost_ns: u64,
    /// Time that compressing may take still, in nanoseconds: it comes back as time passes.
    credit_ns: u64,
    filled_us: u64,
    /// Messages left uncompressed, because compressing had had its share of time.
    pub(in crate::shard) uncompressed: u64,
    /// Messages compressed.
    pub(in crate::shard) compressed: u64,
    /// Their bytes before, and after.
    pub(in crate::shard) bytes: (u64, u64),
}

impl Encoder {
    /// Returns the bytes of memory that its buffers hold.
    pub(in crate::shard) fn scratch_bytes(&self) -> usize {
        self.plain.capacity() + self.packed.capacity()
    }

    /// Returns the length of the encoded message in bytes; a dialect that compresses does it here.
    #[must_use]
    pub(in crate::shard) fn measure(&mut self, dialect: Dialect, message: &Message<'_>, effort: Effort) -> usize {
        let plain_len = dialect.encoded_len(message);
        self.plain_bytes = plain_len as u64;
        self.cost_ns = PIECE_NS + plain_len as u64;
        if matches!(dialect.coding, Coding::Plain | Coding::Chunked) {
            return plain_len;
        }
        grow(&mut self.plain, plain_len);
        dialect.encode(message, &mut self.plain[..plain_len]);
        self.measured = match dialect.coding {
            Coding::Deflate(window) => self.deflate(window, plain_len, effort),
            _ => self.gzip(plain_len, effort),
        };
        self.measured.1 - self.measured.0
    }

    /// Gives compression its share of the time that has passed.
    pub(in crate::shard) fn refill(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(std::mem::replace(&mut self.filled_us, now_us));
        let share_ns = passed_us.saturating_mul(1000 / COMPRESS_SHARE);
        self.credit_ns = self.credit_ns.saturating_add(share_ns).min(COMPRESS_NS_MAX);
    }

    /// Says whether there is time to compress so many bytes, and if so, takes it.
    fn has_time(&mut self, bytes: usize) -> bool {
        let cost_ns = bytes as u64 * DEFLATED_BYTE_NS;
        // A message that takes more than there can ever be takes all there can be.
        if self.credit_ns < cost_ns.min(COMPRESS_NS_MAX) {
            self.uncompressed += 1;
            return false;
        }
        self.credit_ns = self.credit_ns.saturating_sub(cost_ns);
        self.cost_ns += cost_ns;
        true
    }

    /// Writes the message, which was just measured with the same dialect, to `out`, which has that length.
    pub(in crate::shard) fn write(&self, dialect: Dialect, message: &Message<'_>, out: &mut [u8]) {
        if matches!(dialect.coding, Coding::Plain | Coding::Chunked) {
            dialect.encode(message, out);
        } else {
            out.copy_from_slice(&self.packed[self.measured.0..self.measured.1]);
        }
    }

    /// Makes what one connection is told a piece of its gzip stream, in a chunk.
    pub(in crate::shard) fn told(&mut self, text: &[u8]) -> &[u8] {
        let stored = gzip::stored_len(text.len());
        let len = response::chunk_len(stored);
        grow(&mut self.packed, len);
        response::chunk(&mut self.packed[..len], stored, |out| {
            gzip::store(text, out);
        });
        &self.packed[..len]
    }

    /// Compresses a WebSocket frame, if it becomes smaller.
    fn deflate(&mut self, window: Window, frame_len: usize, effort: Effort) -> (usize, usize) {
        let header = match self.plain[1] {
            0..=125 => 2,
            126 => 4,
            _ => 10,
        };
        grow(&mut self.packed, HEADER_BYTES_MAX + room(frame_len));
        let worth = effort.is_worth(frame_len - header) && self.has_time(frame_len);
        let frame = &self.plain[..frame_len];
        let body = &frame[header..];
        if worth {
            let out = &mut self.packed[HEADER_BYTES_MAX..];
            if let Some(packed) = self.deflater.deflate(window, body, out, body.len()) {
                self.compressed += 1;
                let packed = packed - TAIL.len();
                self.bytes = (self.bytes.0 + body.len() as u64, self.bytes.1 + packed as u64);
                let start = HEADER_BYTES_MAX - frame::header_len(packed, false);
                let opcode = frame::Opcode::from_bits(frame[0] & 0x0f).expect("it was written by us");
                frame::write_header(&mut self.packed[start..], true, true, opcode, packed, None);
                return (start, HEADER_BYTES_MAX + packed);
            }
        }
        self.packed[..frame_len].copy_from_slice(frame);
        (0, frame_len)
    }

    /// Makes a piece of a gzip stream of what stands in `plain`, in a chunk.
    fn gzip(&mut self, plain_len: usize, effort: Effort) -> (usize, usize) {
        let worth = effort.is_worth(plain_len) && self.has_time(plain_len);
        let plain = &self.plain[..plain_len];
        // The size of a chunk has at most 8 digits, and ends in CRLF, as its data does.
        const START: usize = 8 + 2;
        let stored = gzip::stored_len(plain_len);
        grow(&mut self.packed, START + stored.max(room(plain_len)) + 2);
        let out = &mut self.packed[START..];
        let packed = match worth {
            true => self.deflater.deflate(Window::Bits15, plain, out, stored),
            false => None,
        };
        let len = match packed {
            Some(packed) => {
                self.compressed += 1;
                self.bytes = (self.bytes.0 + plain_len as u64, self.bytes.1 + packed as u64);
                packed
            }
            None => gzip::store(plain, out),
        };
        let start = START + len + 2 - response::chunk_len(len);
        let end = START + len + 2;
        response::chunk(&mut self.packed[start..end], len, |_| {});
        (start, end)
    }
}

impl Effort {
    fn is_worth(self, bytes: usize) -> bool {
        matches!(self, Effort::From(bytes_min) if bytes >= bytes_min as usize)
    }
}

/// Makes scratch at least so long; it never shrinks.
fn grow(scratch: &mut Vec<u8>, len: usize) {
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
}
