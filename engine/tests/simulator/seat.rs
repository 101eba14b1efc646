//! What the fake kernel writes down about a slot, a buffer and itself.
//!
//! Owns: the states. The rules about them are in `kernel`.

use corecast::io::driver::Interest;

use crate::net::ConnId;

/// Sizes of one fake kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) memory_bytes: usize,
    pub(crate) slots: u32,
    pub(crate) buffers: u16,
    pub(crate) buffer_bytes: usize,
    pub(crate) orders: usize,
}

/// A receive or a wait, from the order until its last completion is reaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armed {
    pub(crate) generation: u16,
    pub(crate) interest: Interest,
    /// The kernel may still answer; no longer so once the last completion stands in the queue.
    pub(crate) live: bool,
    /// When the answer comes, drawn when there first is one.
    pub(crate) due_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Free,
    /// Accepted, but the shard has not reaped it: it must not name the slot.
    Unannounced,
    Open,
    /// The shard ordered `close`.
    Closing,
    /// The kernel closed it; `Closed` comes at this time.
    Closed(u64),
    /// `Closed` stands in the queue.
    ClosedUnreaped,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) phase: Phase,
    pub(crate) conn: ConnId,
    pub(crate) receive: Option<Armed>,
    pub(crate) writable: Option<Armed>,
    pub(crate) sends_since_submit: u32,
    pub(crate) unsent_unreaped: u32,
    pub(crate) finished: bool,
}

pub(crate) const EMPTY: Seat = Seat {
    phase: Phase::Free,
    conn: usize::MAX,
    receive: None,
    writable: None,
    sends_since_submit: 0,
    unsent_unreaped: 0,
    finished: false,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferOwner {
    Kernel,
    /// In a completion that is not reaped.
    Queue,
    Shard,
}

/// What the kernel did, for tests that ask whether a fault really happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sends: u64,
    pub(crate) short: u64,
    pub(crate) again: u64,
    pub(crate) shortages: u64,
    pub(crate) no_buffers: u64,
    pub(crate) rearms: u64,
    pub(crate) crossed_cancels: u64,
    pub(crate) table_full: u64,
    pub(crate) overfull_orders: u64,
    pub(crate) late: u64,
    pub(crate) halves: u64,
    pub(crate) crossed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.sends += other.sends;
        self.short += other.short;
        self.again += other.again;
        self.shortages += other.shortages;
        self.no_buffers += other.no_buffers;
        self.rearms += other.rearms;
        self.crossed_cancels += other.crossed_cancels;
        self.table_full += other.table_full;
        self.overfull_orders += other.overfull_orders;
        self.late += other.late;
        self.halves += other.halves;
        self.crossed += other.crossed;
    }
}
