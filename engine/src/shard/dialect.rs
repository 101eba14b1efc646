//! Dialects: how a message looks on the wire. One enum, so that the hot path has no dynamic calls.

use corecast_protocol::dialect::{line, payload};
use corecast_protocol::message::Message;

/// Number of dialects.
pub(super) const DIALECTS: usize = 2;

/// An encoder of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Dialect {
    /// WebSocket: every message is its payload.
    Payload = 0,
    /// WebSocket: the line protocol `corecast.v1`.
    Line = 1,
}

impl Dialect {
    /// Returns the length of the encoded message in bytes.
    #[must_use]
    pub(super) fn encoded_len(self, message: &Message<'_>) -> usize {
        match self {
            Dialect::Payload => payload::encoded_len(message),
            Dialect::Line => line::encoded_len(message),
        }
    }

    /// Encodes the message into the front of `out`, which is at least `encoded_len` long.
    pub(super) fn encode(self, message: &Message<'_>, out: &mut [u8]) -> usize {
        match self {
            Dialect::Payload => payload::encode(message, out),
            Dialect::Line => line::encode(message, out),
        }
    }
}
