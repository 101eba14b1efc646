//! The edge: what stands between the kernel and a shard. TLS, and who a proxy says that its client is.
//!
//! ```text
//!             accepted        PROXY header?      TLS handshake?         records
//!   kernel ──────────────▶ Front::Header ──▶ Front::Shaking ──▶ Front::Sealed ──text──▶ shard
//!             ◀─────────────────────────────────────────────────── sealed into scratch ◀──sends──
//! ```
//!
//! A layer of drivers: [`Through`] is a [`Driver`] that has one. The shard does not know it: it is told of a connection when that is
//! accepted, of bytes when they are text, and of what was not sent in bytes of its own. So the walk, the frame logs and all
//! positions stay what they are. A connection of a plain listener has no front, and costs a look at one number.
//!
//! Owns: handshakes, keys, what is left of a record on either side. Touches: the part of the block memory that no pool has, for what is
//! sent. Never: a message.
//!
//! **Where the bytes go.** A send of the shard is sealed from where it stands (a frame log, a queue) into scratch, some records of
//! [`sending::TEXT_BYTES_MAX`] and one send for all of them; the scratch is free when the kernel has said what it did not take. A record of
//! which it took a part has to go on as it is, and what it was made from may be gone by then: so its rest is kept, and the shard is told
//! that one byte of it was not sent. It finishes what it has begun first (its invariant 5), and so that byte comes back, and the rest
//! goes before what is new. What comes is opened where it stands, when the shard asks for it.
//!
//! **Handshakes** are done by rustls, a bounded time a turn and behind what the shard sends, so that a storm of them delays nobody's
//! messages. Of more than [`handshakes::UNDER_WAY_MAX`] that wait for their peers, the oldest end.

mod alert;
mod certificates;
mod door;
#[cfg(test)]
mod files;
mod front;
mod handshake;
mod handshakes;
mod receiving;
mod record;
mod sending;
#[cfg(test)]
mod tests;
mod through;

pub use certificates::{Certificates, ClientAuth, First, Identity, Serving};
pub use door::Door;
#[doc(hidden)]
pub use record::fuzz_records;
pub use sending::SCRATCH_BYTES;
pub use through::Through;

use std::collections::VecDeque;

use crate::io::driver::{Completion, Slot};
use crate::io::memory::Span;
use crate::shard::Slab;
use front::{Front, Unfinished};
use handshakes::Handshakes;
use sending::Flights;

/// No front: the connection is plain.
const NONE: u32 = u32::MAX;

/// Of the memory of the shard, what may be unfinished in records.
const UNFINISHED_SHARE: u64 = 16;

/// A record that is longer than this waits for its rest only while there is room: what browsers and publishers send is shorter.
const SHORT_BYTES: usize = 4 << 10;

/// Buffers that are kept for use again, at most.
const SPARE_MAX: usize = 64;

/// Of these, those that are kept have no more room than so much.
const SPARE_BYTES_MAX: usize = 32 << 10;

/// What was unfinished of connections, in the boxes that these have it in.
type Unused = Vec<Box<Unfinished>>;

/// What stands before the connections of a shard.
#[derive(Debug)]
pub struct Edge {
    doors: Vec<Door>,
    /// Some door has something before it.
    guards: bool,
    /// By slot: the front, or [`NONE`]; as long as it has to be.
    index: Vec<u32>,
    fronts: Slab<Front>,
    handshakes: Handshakes,
    flights: Flights,
    /// What the edge has to say, behind what the kernel says.
    said: VecDeque<Completion>,
    /// Waits for room of connections that cannot send yet.
    waiting: Vec<(Slot, u16)>,
    /// Slots that are to be closed with the next submit, behind a last word to their peers.
    leaving: Vec<Slot>,
    /// Connections whose handshake the kernel has not taken in full.
    unsaid: Vec<Slot>,
    unsaid_due_us: u64,
    /// The text that was opened last.
    text: Vec<u8>,
    /// Buffers that nobody uses.
    spare: Vec<Vec<u8>>,
    /// What was unfinished, without anything in it: a record that comes in two pieces allocates nothing.
    unused: Unused,
    /// Bytes kept for what is unfinished of sealed connections.
    unfinished_bytes: usize,
    /// Of these at most so many: beyond that, nobody may begin a long record.
    unfinished_bytes_max: usize,
    /// When it may be said again that somebody speaks no TLS to a port that does, in microseconds.
    plain_warn_us: u64,
}

impl Edge {
    /// Makes one with a scratch of its own in the block memory, behind what the pool has.
    #[must_use]
    pub fn new(scratch: Span) -> Edge {
        Edge {
            doors: Vec::new(),
            guards: false,
            index: Vec::new(),
            fronts: Slab::new(),
            handshakes: Handshakes::default(),
            flights: Flights::new(scratch),
            said: VecDeque::new(),
            waiting: Vec::new(),
            leaving: Vec::new(),
            unsaid: Vec::new(),
            unsaid_due_us: 0,
            text: Vec::new(),
            spare: Vec::new(),
            unused: Vec::new(),
            unfinished_bytes: 0,
            unfinished_bytes_max: (scratch.start / UNFINISHED_SHARE) as usize,
            plain_warn_us: 0,
        }
    }

    /// Says what stands before the connections of each listener, in their order; before any is accepted.
    pub fn stands_before(&mut self, doors: Vec<Door>) {
        self.guards = doors.iter().any(Door::guards);
        self.doors = doors;
    }

    /// Returns the bytes of memory that it holds for what is not finished: handshakes, parts of records.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished_bytes + self.handshakes.bytes()
    }

    /// Takes note of what is unfinished of a connection, of which so much was before.
    fn recount(&mut self, slot: Slot, before: usize) {
        self.unfinished_bytes = self.unfinished_bytes + self.unfinished_of(slot) - before;
    }

    fn unfinished_of(&mut self, slot: Slot) -> usize {
        match self.front(slot) {
            Some(Front::Sealed(sealed)) => sealed.unfinished_bytes(),
            _ => 0,
        }
    }

    #[inline]
    fn place(&self, slot: Slot) -> u32 {
        self.index.get(slot as usize).copied().unwrap_or(NONE)
    }

    fn front(&mut self, slot: Slot) -> Option<&mut Front> {
        self.fronts.get_mut(self.place(slot) as usize)
    }

    fn put(&mut self, slot: Slot, front: Front) {
        let at = slot as usize;
        if self.index.len() <= at {
            self.index.resize(at + 1, NONE);
        }
        debug_assert_eq!(self.index[at], NONE, "it was closed before it was accepted again");
        self.index[at] = self.fronts.insert(front) as u32;
    }

    fn take(&mut self, slot: Slot) -> Option<Front> {
        let place = self.place(slot);
        if place == NONE {
            return None;
        }
        self.index[slot as usize] = NONE;
        self.fronts.try_remove(place as usize)
    }

    /// Returns an empty buffer.
    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
