//! The raw WebSocket dialect: one unmasked frame per message, which holds the payload and nothing else.

use crate::message::Message;
use crate::ws::frame::{Opcode, header_len, write_header};

/// Says how many bytes [`encode`] writes.
#[inline]
pub fn encoded_len(message: &Message<'_>) -> usize {
    header_len(message.payload.len(), false) + message.payload.len()
}

/// Writes the message to the start of `out`, and says how many bytes it took: [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
#[inline]
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let payload = message.payload;
    let header = write_header(out, true, false, opcode(message), payload.len(), None);
    out[header..header + payload.len()].copy_from_slice(payload);
    header + payload.len()
}

/// Says which kind of frame the message goes in: text if its payload is UTF-8.
#[inline]
pub(crate) fn opcode(message: &Message<'_>) -> Opcode {
    if message.text { Opcode::Text } else { Opcode::Binary }
}
