//! Who waits because the kernel had no memory for a send (`ENOBUFS`, `ENOMEM`), and until when.
//!
//! Owns: the times. Never: asks the kernel for anything: a timer of its would need the memory that it has not, and a wait
//! for room in the socket would be over at once, as there is room, and turn shortage into a spin.
//!
//! The more wait, the longer each does, so that all of them together try [`TRIES_PER_MS_MAX`] times a millisecond at most.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::driver::Slot;

/// Shortest wait, in microseconds: the kernel gets memory back in ticks of its own (acknowledgements, its flusher), which
/// are a few milliseconds long.
const WAIT_US_MIN: u64 = 20_000;

/// Tries of all who wait, in a millisecond: a tenth of a core, at some ten microseconds for a send that fails.
const TRIES_PER_MS_MAX: u64 = 10;

/// Those who wait for the kernel to have memory.
#[derive(Debug, Default)]
pub(super) struct Shortage {
    /// When each tries again, and the generation it gave.
    waiting: BTreeMap<Slot, (u64, u16)>,
    /// The same by time; an entry counts only while it is the one above, as a wait may have been cancelled.
    by_time: BinaryHeap<Reverse<(u64, Slot)>>,
}

impl Shortage {
    /// Begins a wait.
    ///
    /// # Panics
    /// If the slot waits already.
    pub(super) fn begin(&mut self, slot: Slot, generation: u16, now_us: u64) {
        let wait_us = WAIT_US_MIN.max(self.waiting.len() as u64 * 1_000 / TRIES_PER_MS_MAX);
        let due_us = now_us + wait_us;
        let before = self.waiting.insert(slot, (due_us, generation));
        assert!(before.is_none(), "slot {slot} waits for memory twice");
        self.by_time.push(Reverse((due_us, slot)));
    }

    /// Ends a wait early; says false if there is none of this slot and generation.
    pub(super) fn cancel(&mut self, slot: Slot, generation: u16) -> bool {
        let waits = self.waiting.get(&slot).is_some_and(|(_, of)| *of == generation);
        if waits {
            self.waiting.remove(&slot);
            self.forget_cancelled();
        }
        waits
    }

    /// Returns when the first wait is over, in microseconds.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.by_time.peek().map(|Reverse((due_us, _))| *due_us)
    }

    /// Takes one whose wait is over, with its generation.
    pub(super) fn over(&mut self, now_us: u64) -> Option<(Slot, u16)> {
        self.next_us().filter(|due_us| *due_us <= now_us)?;
        let Reverse((_, slot)) = self.by_time.pop()?;
        let (_, generation) = self.waiting.remove(&slot).expect("the first entry counts");
        self.forget_cancelled();
        Some((slot, generation))
    }

    /// The first entry always counts, or is not there.
    fn forget_cancelled(&mut self) {
        while let Some(Reverse((due_us, slot))) = self.by_time.peek() {
            if self.waiting.get(slot).is_some_and(|(due, _)| due == due_us) {
                return;
            }
            self.by_time.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each that waits is told once, with its generation, in the order of time, and not before its time.
    #[test]
    fn told_once_and_in_time() {
        let mut shortage = Shortage::default();
        assert_eq!((shortage.next_us(), shortage.over(u64::MAX)), (None, None));
        for (slot, now_us) in [(7, 0), (3, 100), (5, 50)] {
            shortage.begin(slot, slot as u16 * 2, now_us);
        }
        assert_eq!(shortage.over(WAIT_US_MIN - 1), None);
        assert_eq!(shortage.over(WAIT_US_MIN + 50), Some((7, 14)));
        assert_eq!(shortage.next_us(), Some(WAIT_US_MIN + 50));
        assert_eq!(shortage.over(WAIT_US_MIN + 50), Some((5, 10)));
        assert_eq!(shortage.over(WAIT_US_MIN + 50), None);
        assert_eq!(shortage.over(u64::MAX), Some((3, 6)));
        assert_eq!((shortage.next_us(), shortage.over(u64::MAX)), (None, None));
    }

    /// A wait that was cancelled is not told, whether it was the first or not, and its slot may wait anew.
    #[test]
    fn cancelled_is_not_told() {
        let mut shortage = Shortage::default();
        (1..=3).for_each(|slot| shortage.begin(slot, 9, u64::from(slot)));
        assert!(!shortage.cancel(1, 8) && !shortage.cancel(4, 9), "no such wait");
        assert!(shortage.cancel(1, 9) && shortage.cancel(2, 9));
        assert!(!shortage.cancel(1, 9), "cancelled already");
        assert_eq!(shortage.next_us(), Some(WAIT_US_MIN + 3));
        shortage.begin(1, 10, 1_000);
        assert_eq!(shortage.over(u64::MAX), Some((3, 9)));
        assert_eq!(shortage.over(u64::MAX), Some((1, 10)));
        assert_eq!(shortage.over(u64::MAX), None);
    }

    /// However many wait, they try so many times in a second at most.
    #[test]
    fn tries_are_bounded() {
        let mut shortage = Shortage::default();
        (0..100_000).for_each(|slot| shortage.begin(slot, 0, 0));
        let mut tries = 0u64;
        let seconds = 30;
        for now_us in (0..seconds * 1_000_000).step_by(1_000) {
            while let Some((slot, generation)) = shortage.over(now_us) {
                tries += 1;
                shortage.begin(slot, generation, now_us);
            }
        }
        assert!(tries > 100_000, "everybody tries again");
        assert!(tries <= seconds * 1_000 * TRIES_PER_MS_MAX * 11 / 10, "{tries} tries");
    }
}
