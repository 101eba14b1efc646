//! Frame headers and masks (RFC 6455 sections 5.2 and 5.3).
//!
//! Owns the layout of a frame's first 2 to 14 bytes and the exclusive or. What may follow what is the decoder's business.

use crate::write::{Overflow, Writer};

/// The longest header: two bytes, a length of eight, a mask of four.
pub const HEADER_BYTES_MAX: usize = 14;

/// The most payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// A question whether the peer is there.
    Ping = 9,
    /// The answer to it.
    Pong = 10,
}

impl Opcode {
    /// Reads the low four bits of a frame's first byte; `None` if nobody defined them.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    /// Says whether the frame controls the connection, and so may stand between fragments.
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Says how many bytes a header takes (2 to [`HEADER_BYTES_MAX`]).
#[inline]
pub const fn header_len(payload_len: usize, masked: bool) -> usize {
    let length = match payload_len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    if masked { length + 4 } else { length }
}

/// Writes a header to the start of `out`, and says how many bytes it took: [`header_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
#[inline]
pub fn write_header(
    out: &mut [u8],
    fin: bool,
    rsv1: bool,
    opcode: Opcode,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let len = header_len(payload_len, mask.is_some());
    let out = &mut out[..len];
    out[0] = u8::from(fin) << 7 | u8::from(rsv1) << 6 | opcode as u8;
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload_len {
        0..=125 => out[1] = masked | payload_len as u8,
        126..=0xffff => {
            out[1] = masked | 126;
            out[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out[1] = masked | 127;
            out[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out[len - 4..].copy_from_slice(&mask);
    }
    len
}

/// Writes one whole frame whose payload `write` writes; for the short texts of one connection. A `mask` makes it a client's.
///
/// # Errors
/// [`Overflow`] if `out` is too short.
pub fn wrap(
    out: &mut [u8],
    opcode: Opcode,
    mask: Option<[u8; 4]>,
    write: impl FnOnce(&mut Writer<'_>),
) -> Result<usize, Overflow> {
    // The header's length depends on the payload's: room for the short one is left, and a long payload moves once.
    let guess = header_len(0, mask.is_some());
    let mut w = Writer::new(out.get_mut(guess..).ok_or(Overflow)?);
    write(&mut w);
    let payload_len = w.finish()?;
    let header = header_len(payload_len, mask.is_some());
    let frame = out.get_mut(..header + payload_len).ok_or(Overflow)?;
    if header != guess {
        frame.copy_within(guess..guess + payload_len, header);
    }
    write_header(frame, true, false, opcode, payload_len, mask);
    if let Some(mask) = mask {
        unmask(&mut frame[header..], mask, 0);
    }
    Ok(frame.len())
}

/// Writes a server's close frame: a code, and as much of the reason as fits at a character's end (123 bytes).
///
/// # Errors
/// [`Overflow`] if `out` is too short.
pub fn write_close(out: &mut [u8], code: u16, reason: &str) -> Result<usize, Overflow> {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    wrap(out, Opcode::Close, None, |w| {
        w.put(&code.to_be_bytes());
        w.text(reason);
    })
}

/// Masks or unmasks `data`, which starts `offset` bytes into its frame's payload.
///
/// The mask is turned to where the data starts and then laid over wide words; the compiler makes vector code of the loop.
#[inline]
pub fn unmask(data: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut turned = mask;
    turned.rotate_left(offset % 4);
    let word = u32::from_ne_bytes(turned);
    let wide = u64::from(word) << 32 | u64::from(word);
    let mut words = data.chunks_exact_mut(8);
    for chunk in &mut words {
        let value = u64::from_ne_bytes(chunk.try_into().expect("chunks_exact gives 8 bytes")) ^ wide;
        chunk.copy_from_slice(&value.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}
