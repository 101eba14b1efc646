//! A drain: the engine is going to end, and its connections are told one after the other.
//!
//! ```text
//!   begins                              everybody is told        time to finish is over
//!     ├── one after the other, evenly ────────┼── last answers, closes ──────┤
//!     │   who is not told yet is served       │
//!     │   who comes new is refused by name    │ nobody is accepted any more
//! ```
//!
//! So those who have to go do not all come to another engine, or back to this one, in the same moment. A few are told faster than many: no
//! shutdown takes longer than it needs.
//!
//! Owns: how many are to have been told by now, and the slot up to which they have been. Never: ends anybody.

use crate::io::driver::Slot;

/// Connections that a shard tells in a second at least: thirty are gone before somebody who waits for the process gets impatient, and a
/// hundred that come back in a second are no burden to anybody.
const PER_SECOND_MIN: u64 = 100;

/// How often a shard looks for more to be told, in microseconds: often enough that those of one look are few, and seldom enough that
/// looking costs nothing.
const LOOK_US: u64 = 1_000;

/// A drain that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    begun_us: u64,
    /// Over which time they are told, in microseconds.
    over_us: u64,
    /// Connections as it began.
    connections: u64,
    /// Those that were told.
    pub(super) told: u64,
    /// The next slot to be looked at: whoever stands below it was told.
    pub(super) next: Slot,
    /// Nobody is accepted any more.
    pub(super) closed: bool,
}

impl Drain {
    /// Begins one of so many connections, which are told within so many microseconds.
    #[must_use]
    pub(super) fn new(now_us: u64, within_us: u64, connections: u64) -> Drain {
        let over_us = within_us.min(connections * 1_000_000 / PER_SECOND_MIN);
        Drain { begun_us: now_us, over_us, connections, told: 0, next: 0, closed: false }
    }

    /// Returns how many more are to be told now.
    #[must_use]
    pub(super) fn due(&self, now_us: u64) -> u64 {
        let elapsed_us = now_us.saturating_sub(self.begun_us);
        if elapsed_us >= self.over_us {
            return u64::MAX;
        }
        let by_now = u128::from(self.connections) * u128::from(elapsed_us) / u128::from(self.over_us);
        (by_now as u64 + 1).saturating_sub(self.told)
    }

    /// Returns when the next one is to be told, if now nobody is.
    #[must_use]
    pub(super) fn looks_us(&self, now_us: u64) -> u64 {
        let after_us = u128::from(self.told) * u128::from(self.over_us) / u128::from(self.connections.max(1)) + 1;
        (self.begun_us + (after_us as u64).min(self.over_us)).max(now_us + LOOK_US)
    }

    /// Returns how many seconds are left until everybody has been told.
    #[must_use]
    pub(super) fn left_s(&self, now_us: u64) -> u32 {
        let left_us = (self.begun_us + self.over_us).saturating_sub(now_us);
        u32::try_from(left_us.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }

    /// Returns the longest time after which somebody is to come back, in seconds, if all are to do so within `spread_s` (at least two): a
    /// part of that passes while they are told.
    #[must_use]
    pub(super) fn comes_back_s_max(&self, spread_s: u32) -> u32 {
        spread_s.saturating_sub(u32::try_from(self.over_us / 1_000_000).unwrap_or(u32::MAX)).max(2)
    }

    /// Returns how many there were as it began.
    #[must_use]
    pub(super) fn connections(&self) -> u64 {
        self.connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    /// Tells whoever is due every millisecond; returns how many were told in each tenth of a second, and when the last one was.
    fn tell(connections: u64, within_us: u64) -> (Vec<u64>, u64) {
        let mut drain = Drain::new(7, within_us, connections);
        let mut tenths = vec![0];
        let mut now_us = 7;
        loop {
            let due = drain.due(now_us).min(connections - drain.told);
            drain.told += due;
            let tenth = ((now_us - 7) / (SECOND_US / 10)) as usize;
            tenths.resize(tenth + 1, 0);
            tenths[tenth] += due;
            if drain.told == connections {
                return (tenths, now_us - 7);
            }
            let next_us = drain.looks_us(now_us);
            assert!(next_us > now_us && next_us <= now_us + SECOND_US / PER_SECOND_MIN + LOOK_US, "{next_us}");
            assert!(next_us > now_us + LOOK_US || drain.due(next_us) > 0 || connections < 1_000, "a look is of use");
            now_us = next_us;
        }
    }

    /// Many are told evenly over the whole time, whatever their number.
    #[test]
    fn many_are_spread() {
        for connections in [500, 5_000, 1_000_000] {
            let (tenths, last_us) = tell(connections, 5 * SECOND_US);
            assert!((49 * SECOND_US / 10..=5 * SECOND_US).contains(&last_us), "{connections} took {last_us}");
            let fair = connections / 50;
            let even = |told: &u64| told.abs_diff(fair) <= fair / 10 + 2;
            assert!(tenths[..49].iter().all(even), "{connections}: {tenths:?}");
        }
    }

    /// A few are told soon, however much time there would be; with none there is nothing to wait for, and with no time all are told at once.
    #[test]
    fn few_are_quick() {
        assert_eq!(tell(1, 5 * SECOND_US), (vec![1], 0));
        let (_, last_us) = tell(20, 3_600 * SECOND_US);
        assert!(last_us <= SECOND_US / 5, "{last_us}");
        assert_eq!(Drain::new(9, 5 * SECOND_US, 0).due(9), u64::MAX);
        assert_eq!(tell(100_000, 0), (vec![100_000], 0));
    }

    /// After the time everybody is due, and not before.
    #[test]
    fn the_time_is_kept() {
        let drain = Drain::new(0, 2 * SECOND_US, 1_000);
        assert_eq!(drain.due(0), 1);
        assert_eq!(drain.due(SECOND_US), 501);
        assert_eq!(drain.due(2 * SECOND_US), u64::MAX);
        assert_eq!([0, SECOND_US / 2, 2 * SECOND_US, 9 * SECOND_US].map(|now_us| drain.left_s(now_us)), [2, 2, 0, 0]);
    }

    /// Those who come back do so over the whole time: the later part of it if the first passes while they are told.
    #[test]
    fn they_come_back_over_time() {
        assert_eq!(Drain::new(0, 0, 1_000).comes_back_s_max(10), 10);
        assert_eq!(Drain::new(0, 4 * SECOND_US, 1_000).comes_back_s_max(10), 6);
        assert_eq!(Drain::new(0, 60 * SECOND_US, 1_000_000).comes_back_s_max(10), 2);
        assert_eq!(Drain::new(0, 60 * SECOND_US, 1_000_000).comes_back_s_max(1_000), 940);
    }
}
