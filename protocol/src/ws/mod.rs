//! WebSocket (RFC 6455): handshake, frames, close codes.

pub mod close;
pub mod decoder;
pub mod frame;
pub mod handshake;
pub mod utf8;
