//! Sessions: what a peer's messages mean, and how it is told what became of them.
//!
//! ```text
//!   request/   HTTP: publish, poll, value, clear, batch, and how a stream or a WebSocket begins
//!   stream     subscriptions over HTTP, long polls
//!   line       the line protocol, on `/ws`
//!   raw        payloads of one topic, on `/topics/...`; the echo
//!   publish    what all of them share: to the topic's home, and on when there is room again
//! ```

pub(in crate::shard) mod length;
pub(in crate::shard) mod line;
pub(in crate::shard) mod publish;
pub(in crate::shard) mod raw;
pub(in crate::shard) mod request;
pub(in crate::shard) mod stream;
