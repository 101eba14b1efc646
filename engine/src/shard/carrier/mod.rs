//! Carriers: how the bytes of a socket become messages, whatever these mean.

pub(in crate::shard) mod websocket;
