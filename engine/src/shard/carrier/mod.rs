//! Carriers: how the bytes of a socket become messages, whatever these mean.

pub(in crate::shard) mod pong;
pub(in crate::shard) mod websocket;

/// How the bytes of a connection become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Carrier {
    /// They are the session's own.
    Plain,
    /// In frames.
    WebSocket,
}
