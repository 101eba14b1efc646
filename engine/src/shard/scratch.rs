//! Scratch: memory that a turn uses and leaves to the next one, so that nothing on the way of a message allocates.
//!
//! Whoever uses a piece takes it out meanwhile, so that nobody else finds it half written.

use std::collections::VecDeque;

use corecast_protocol::http::credential::CREDENTIAL_BYTES_MAX;

/// Room for heads, lines and short bodies: the longest is a head with the list of 64 cursors in it twice (4 KiB).
const TEXT_BYTES: usize = 16 << 10;

/// Returns the bytes that a queue holds.
pub(super) fn bytes_of<T>(queue: &VecDeque<T>) -> usize {
    queue.capacity() * size_of::<T>()
}

/// The pieces.
#[derive(Debug)]
pub(super) struct Scratch {
    /// What was received just now.
    pub(super) received: Vec<u8>,
    /// A message after decompression.
    pub(super) inflated: Vec<u8>,
    /// A slice of what was carried over.
    pub(super) carried: Vec<u8>,
    /// A message or body that was put together.
    pub(super) whole: Vec<u8>,
    /// The body of an answer that was put together.
    pub(super) answer: Vec<u8>,
    /// The plan of a request that subscribes, or a step of it.
    pub(super) plan: Vec<u8>,
    /// Topics with messages for an answer, and the numbers of these.
    pub(super) newest: Vec<(u32, u64)>,
    /// A packet of another shard.
    pub(super) packet: Vec<u8>,
    /// Text that is being written.
    pub(super) text: Vec<u8>,
    /// A value, before and after a change.
    pub(super) both: Vec<u8>,
    /// A credential that is being decoded.
    pub(super) secret: Vec<u8>,
}

impl Scratch {
    /// Makes the pieces, with room for a packet of so many bytes.
    #[must_use]
    pub(super) fn new(packet_bytes_max: usize) -> Scratch {
        Scratch {
            received: Vec::with_capacity(64 << 10),
            inflated: Vec::new(),
            carried: Vec::new(),
            whole: Vec::new(),
            answer: Vec::new(),
            plan: Vec::new(),
            newest: Vec::new(),
            packet: Vec::with_capacity(packet_bytes_max),
            text: vec![0; TEXT_BYTES],
            both: Vec::new(),
            secret: vec![0; CREDENTIAL_BYTES_MAX],
        }
    }

    /// Returns the bytes of memory that they hold.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        let pieces = [
            &self.received,
            &self.inflated,
            &self.carried,
            &self.whole,
            &self.plan,
            &self.packet,
            &self.text,
            &self.both,
        ];
        let bytes: usize = pieces.iter().map(|piece| piece.capacity()).sum();
        bytes + self.newest.capacity() * size_of::<(u32, u64)>()
    }
}
