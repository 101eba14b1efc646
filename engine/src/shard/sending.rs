//! What a turn sends: logs to be walked, and what is settled after the submit.

use std::collections::VecDeque;

use super::timings::low_bits;
use super::topic::chain::Runs;
use crate::io::driver::{Driver, Slot};

/// Bytes of one send of a log, beyond which no further block is begun.
pub(super) const SEND_BYTES_MAX: u32 = 128 << 10;

/// A walk over all readers of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// Which log.
    pub(super) log: u32,
    /// When the oldest message in it was read from its publisher; 0 if nobody knows. Low bits of microseconds, as the next.
    pub(super) since_us: u32,
    /// When it began.
    pub(super) began_us: u32,
}

impl Round {
    /// Begins one with a message that was read then.
    pub(super) fn new(log: u32, since_us: u32, now_us: u64) -> Round {
        Round { log, since_us, began_us: low_bits(now_us) }
    }
}

/// What is to be sent, and what was.
#[derive(Debug)]
pub(super) struct Sending {
    /// Walks that are under way.
    pub(super) dirty: VecDeque<Round>,
    /// Logs that may give their blocks back after this submit.
    pub(super) releasing: Vec<u32>,
    /// Connections whose queue is sent by this submit.
    pub(super) private: Vec<Slot>,
    /// Connections that lost part of a frame for want of memory: they end before anything more is sent.
    pub(super) condemned: Vec<(Slot, u16)>,
    /// Connections whose unfinished message was given up: they are told before anything else is done for them.
    pub(super) given_up: Vec<(Slot, u16)>,
    /// Number of the submit being prepared.
    pub(super) submit: u32,
}

impl Default for Sending {
    fn default() -> Sending {
        Sending {
            dirty: VecDeque::new(),
            releasing: Vec::new(),
            private: Vec::new(),
            condemned: Vec::new(),
            given_up: Vec::new(),
            submit: 1,
        }
    }
}

impl Sending {
    /// Returns the bytes of memory that the lists hold besides the queue of logs.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        (self.releasing.capacity() + self.private.capacity()) * size_of::<u32>()
            + (self.condemned.capacity() + self.given_up.capacity()) * size_of::<(Slot, u16)>()
    }
}

/// Orders a send of all these runs.
#[inline]
pub(super) fn send<D: Driver>(driver: &mut D, slot: Slot, runs: &Runs) {
    match runs.parts() {
        [one] => driver.send(slot, *one),
        several => driver.send_parts(slot, several),
    }
}
