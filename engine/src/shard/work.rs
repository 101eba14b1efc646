//! How much a phase of a turn may do: work, not pieces, so that no peer can make a turn long.
//!
//! What a peer asks for costs very differently: a ping 100 ns, a message that inflates to 64 KiB a thousand times as much. So
//! phases spend estimated time, in nanoseconds, and look at the clock whenever that adds up: what was estimated too low is found
//! out. A connection that has used up its slice, or whose phase is over, goes on in its next turn, after those that wait already.

use std::collections::VecDeque;

use crate::io::driver::{Driver, Slot};

/// Estimates, in nanoseconds, of a busy core with cold caches: whatever is done with a byte, what inflating makes of one byte,
/// what deflating takes for one, and for a message, a packet or completion as such; for a request on top.
pub(super) const BYTE_NS_SHARE: u64 = 2;
pub(super) const INFLATED_BYTE_NS: u64 = 2;
pub(super) const DEFLATED_BYTE_NS: u64 = 6;
pub(super) const PIECE_NS: u64 = 300;
pub(super) const REQUEST_NS: u64 = 1_000;

/// Estimate for a connection that has come: what it takes to let it in, and to let it wait for its head.
pub(super) const ACCEPT_NS: u64 = 1_500;

/// So much of one connection's at a time, while others wait; and of one that waited for room, which others wait for as well. The
/// more there are the shorter each has to be: who has one message to send waits for one slice of each of them.
pub(super) const SLICE_NS: u64 = 40_000;
pub(super) const SLICE_OF_ROOM_NS: u64 = 2_000;

/// So much at a time if nobody else waits: what is published to many topics at once shall leave at once.
pub(super) const SLICE_ALONE_NS: u64 = 200_000;

/// From so many that wait for their turn on, those that are put off are read a buffer at a time.
pub(super) const CROWD: usize = 4;

/// The clock is looked at whenever the estimates add up to so much.
const LOOK_NS: u64 = 50_000;

/// What a phase has spent, and may spend.
#[derive(Debug, Default)]
pub(super) struct Work {
    spent_ns: u64,
    budget_ns: u64,
    look_at_ns: u64,
    until_us: u64,
    over: bool,
    /// The connection whose slice it is, and where that began.
    slice: Option<(Slot, u64)>,
}

impl Work {
    /// Begins a phase that may take so many microseconds.
    pub(super) fn begin<D: Driver>(&mut self, driver: &mut D, budget_us: u64) {
        let until_us = driver.now_us() + budget_us;
        *self = Work { budget_ns: budget_us * 1000, look_at_ns: LOOK_NS, until_us, ..Work::default() };
    }

    /// Takes note of work.
    pub(super) fn spend(&mut self, ns: u64) {
        self.spent_ns += ns;
    }

    /// Takes note of work on so many bytes.
    pub(super) fn spend_on(&mut self, bytes: usize) {
        self.spent_ns += PIECE_NS + bytes as u64 / BYTE_NS_SHARE;
    }

    /// Returns what was spent in this phase, in nanoseconds.
    pub(super) fn spent_ns(&self) -> u64 {
        self.spent_ns
    }

    /// Returns where the connection's slice began: what came for it in several pieces, one after another, has one slice.
    pub(super) fn slice_of(&mut self, slot: Slot) -> u64 {
        match self.slice {
            Some((other, start_ns)) if other == slot => start_ns,
            _ => {
                self.slice = Some((slot, self.spent_ns));
                self.spent_ns
            }
        }
    }

    /// Says whether so much of the phase's share is used up, of two parts.
    pub(super) fn is_half_over<D: Driver>(&mut self, driver: &mut D) -> bool {
        self.is_over(driver) || self.spent_ns > self.budget_ns / 2
    }

    /// Says whether the phase has used up its share.
    pub(super) fn is_over<D: Driver>(&mut self, driver: &mut D) -> bool {
        self.is_over_by(|| driver.now_us())
    }

    fn is_over_by(&mut self, clock: impl FnOnce() -> u64) -> bool {
        if self.spent_ns >= self.look_at_ns {
            self.look_at_ns = self.spent_ns + LOOK_NS;
            self.over |= self.spent_ns >= self.budget_ns || clock() >= self.until_us;
        }
        self.over
    }
}

/// Connections that go on in a later turn, in the order in which they do.
pub(super) type Postponed = VecDeque<(Slot, u16)>;

#[cfg(test)]
mod tests {
    use super::*;

    fn work(until_us: u64) -> Work {
        Work { budget_ns: 1_000_000, look_at_ns: LOOK_NS, until_us, ..Work::default() }
    }

    /// A phase is over when its estimates have used up its budget, in pieces of any size, and not before.
    #[test]
    fn over_when_spent() {
        for piece_ns in [1, 40_000, 60_000, 5_000_000] {
            let mut work = work(u64::MAX);
            while !work.is_over_by(|| 0) {
                assert!(work.spent_ns < 1_000_000 + LOOK_NS, "{piece_ns}");
                work.spend(piece_ns);
            }
            assert!(work.spent_ns >= 1_000_000, "{piece_ns}");
        }
    }

    /// A phase is over when its time is, however little it seems to have done.
    #[test]
    fn over_when_late() {
        let mut work = work(100);
        work.spend(LOOK_NS);
        assert!(!work.is_over_by(|| 99));
        work.spend(LOOK_NS);
        assert!(work.is_over_by(|| 100));
        assert!(work.is_over_by(|| 0), "and stays so");
    }
}
