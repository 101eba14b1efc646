//! What the baseline servers share: as little as a WebSocket server can do with.
//!
//! A baseline is the plainest loop that does the same visible work as the engine: the same handshake, the same frames,
//! the same load. It has no topics, limits, timers, replay or statistics. The cost of the engine is argued as a ratio
//! to it, in one run, by the binary `bench`.
//!
//! Nothing here comes from the engine or its protocol crate: a mistake there must not flatter both sides.

pub mod frame;
pub mod handshake;
pub mod host;
pub mod plain_ring;
