//! Agreeing on compressed messages (RFC 7692, permessage-deflate).
//!
//! Owns the words of Sec-WebSocket-Extensions. Compressing is the engine's; it compresses a message once for all who receive
//! it, so no message may refer to an earlier one of the same connection: whatever a client offers, the answer asks for no
//! context takeover on both sides. For the same reason there are three windows only, not seven.

use crate::http::field::Field;
use crate::write::{Writer, parse_decimal};

/// The name of the extension.
const NAME: &str = "permessage-deflate";

/// What the sender of a compressed message leaves out at its end, and the receiver puts back (RFC 7692 section 7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// How far back a compressed message may refer: 2 to the power of so many bits, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Window {
    /// 32 KiB: what a client may look back that says nothing.
    Bits15 = 15,
    /// 4 KiB: what small clients ask for; Python's `websockets` does.
    Bits12 = 12,
    /// 512 bytes: the least that compressors agree on.
    Bits9 = 9,
}

/// What client and server have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The window of what the server sends.
    pub window: Window,
    /// The client named a window, and so is told which one it got (RFC 7692 section 7.1.2.1).
    pub named: bool,
}

impl Agreement {
    /// Writes the value of the answer's Sec-WebSocket-Extensions.
    pub fn write(self, w: &mut Writer<'_>) {
        w.text(NAME);
        w.text("; server_no_context_takeover; client_no_context_takeover");
        if self.named {
            w.text("; server_max_window_bits=");
            w.decimal(self.window as u64);
        }
    }
}

/// Finds the first offer in Sec-WebSocket-Extensions, on any of its lines, that can be accepted. An offer with a parameter that is unknown,
/// stands twice, or has a value that makes no sense is passed over, as section 5.1 wants; so is a window of 8 bits, which
/// zlib cannot write.
pub fn negotiate(offers: Field<'_>) -> Option<Agreement> {
    offers.members().filter_map(|offer| core::str::from_utf8(offer).ok()).find_map(accept)
}

fn accept(offer: &str) -> Option<Agreement> {
    let mut parts = offer.split(';').map(trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    let (mut server_bits, mut seen) = (None, 0u8);
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (trim(name), Some(unquote(trim(value)))),
            None => (part, None),
        };
        let parameter = match (name, value) {
            ("server_no_context_takeover", None) => 1,
            ("client_no_context_takeover", None) => 2,
            // A hint that the client can use a smaller window; we can read the largest.
            ("client_max_window_bits", None) => 4,
            ("client_max_window_bits", Some(value)) => window_bits(value).map(|_| 4)?,
            ("server_max_window_bits", Some(value)) => {
                server_bits = Some(window_bits(value)?);
                8
            }
            _ => return None,
        };
        if seen & parameter != 0 {
            return None;
        }
        seen |= parameter;
    }
    let window = match server_bits {
        None | Some(15) => Window::Bits15,
        Some(12..15) => Window::Bits12,
        Some(9..12) => Window::Bits9,
        Some(_) => return None,
    };
    Some(Agreement { window, named: server_bits.is_some() })
}

/// Reads the bits of a window: 8 to 15, without leading zeros.
fn window_bits(value: &str) -> Option<u64> {
    let clean = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    parse_decimal(value.as_bytes()).filter(|bits| clean && (8..=15).contains(bits))
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}
