//! What the benches are made of: baseline servers, the scenarios, the micro benches, and the table they end up in.
//!
//! A baseline is the plainest loop that does the same visible work as the engine: the same handshake, the same frames,
//! the same load. It has no limits, timers, replay or statistics, and topics only if a bench has several. The cost of the engine
//! is argued as a ratio to it, in one run, by the binary `bench`.
//!
//! The baselines use nothing of the engine or its protocol crate: a mistake there must not flatter both sides.

pub mod callgrind;
mod claims;
pub mod frame;
pub mod handshake;
pub mod host;
pub mod micro;
pub mod plain_ring;
pub mod scenario;
pub mod server;
pub mod table;
pub mod verdict;
