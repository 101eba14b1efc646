//! WebSocket (RFC 6455, RFC 7692): handshake, frames, close codes, the agreement on compression.

pub mod close;
pub mod decoder;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod utf8;
