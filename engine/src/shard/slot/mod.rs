//! A slot: one connection, what it costs, what waits to be sent to it, and how it ends.

pub(in crate::shard) mod close;
pub(in crate::shard) mod connection;
pub(in crate::shard) mod front;
pub(in crate::shard) mod inbox;
pub(in crate::shard) mod keep;
pub(in crate::shard) mod leap;
pub(in crate::shard) mod meter;
pub(in crate::shard) mod outbox;
pub(in crate::shard) mod sender;
pub(in crate::shard) mod slots;
pub(in crate::shard) mod wait;
