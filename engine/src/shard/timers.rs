//! Timers: of connections, of sends that are tried again, of subscribers with a pace.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::io::driver::Slot;
use crate::shard::memory::wheel::Wheel;

/// Returns the earlier of two times, if there are any.
#[must_use]
pub(super) fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// All that is to be done later.
#[derive(Debug)]
pub(super) struct Timers {
    /// One for each connection.
    pub(super) wheel: Wheel,
    /// Connections whose time has come, as they are looked at.
    pub(super) due: Vec<u32>,
    /// Connections that are tried again to be sent to, and when.
    pub(super) retrying: BinaryHeap<Reverse<(u64, Slot, u16)>>,
    /// Subscribers with a pace, by the time their next message may be sent.
    pub(super) paced: BinaryHeap<Reverse<(u64, u32)>>,
    /// Connections with a meter, by the time more may be sent, in milliseconds.
    pub(super) metered: BinaryHeap<Reverse<(u64, Slot, u16)>>,
}

impl Timers {
    /// Makes none, for so many slots.
    #[must_use]
    pub(super) fn new(slots_max: u32) -> Timers {
        let (retrying, paced, metered) = (BinaryHeap::new(), BinaryHeap::new(), BinaryHeap::new());
        Timers { wheel: Wheel::new(0, slots_max), due: Vec::new(), retrying, paced, metered }
    }

    /// Returns the bytes of memory that they hold besides the wheel.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        self.due.capacity() * size_of::<u32>()
            + self.retrying.capacity() * size_of::<(u64, Slot, u16)>()
            + self.paced.capacity() * size_of::<(u64, u32)>()
            + self.metered.capacity() * size_of::<(u64, Slot, u16)>()
    }

    /// Returns when the first of them is due, in microseconds.
    #[must_use]
    pub(super) fn next_us(&mut self) -> Option<u64> {
        let paced_us = self.paced.peek().map(|Reverse((due_ms, _))| *due_ms * 1000);
        let retried_us = self.retrying.peek().map(|Reverse((due_us, ..))| *due_us);
        let metered_us = self.metered.peek().map(|Reverse((due_ms, ..))| *due_ms * 1000);
        earlier(earlier(earlier(self.wheel.next_us(), paced_us), retried_us), metered_us)
    }
}
