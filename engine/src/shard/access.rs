//! The access log: who was served what. A line for each request that is answered, and for each WebSocket and stream that begins and that ends.
//!
//! Owns: what is noted of those that are under way, and which of them are told. Nothing is noted while it is off: that costs a branch. Never: knows what
//! a connection is, or writes: that is `session/served`'s.
//!
//! ```text
//!   off       nothing
//!   sampled   SAMPLES_PER_SECOND lines of a shard, drawn evenly; each says for how many it stands
//!   all       each; what the reader of stderr does not take is dropped by the outlet, and counted
//! ```

use std::collections::HashMap;

use super::random::random;
use crate::io::driver::Slot;

/// Lines that a shard samples in a second: enough to see who comes, and few enough for any disk.
const SAMPLES_PER_SECOND: u64 = 100;

/// What is written down of what is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nothing.
    #[default]
    Off,
    /// Some of it.
    Sampled,
    /// All of it.
    All,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) path: Box<str>,
    pub(super) begun_us: u64,
    /// How many it stands for.
    pub(super) stands_for: u64,
}

/// A WebSocket or a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// 0: it began before anything was noted.
    pub(super) begun_us: u64,
    /// How it ends, once that is known.
    pub(super) status: u16,
}

/// Which of very many are told.
#[derive(Debug, Default)]
struct Sampling {
    /// The second that is running, and those that were seen in it.
    since_us: u64,
    seen: u64,
    /// How many more may be told in it.
    left: u64,
    /// One of so many is told; of the second before.
    one_of: u64,
    /// Seen since one was told.
    unsaid: u64,
}

impl Sampling {
    /// Sees one more; returns for how many it stands, if it is told.
    fn see(&mut self, now_us: u64, random: u64) -> Option<u64> {
        let elapsed_us = now_us.saturating_sub(self.since_us);
        if elapsed_us >= 1_000_000 || self.one_of == 0 {
            let seconds = (elapsed_us / 1_000_000).max(1);
            self.one_of = (self.seen / seconds).div_ceil(SAMPLES_PER_SECOND).max(1);
            (self.since_us, self.seen, self.left) = (now_us, 0, SAMPLES_PER_SECOND);
        }
        self.seen += 1;
        self.unsaid += 1;
        if self.left == 0 || !random.is_multiple_of(self.one_of) {
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// What is noted.
#[derive(Debug, Default)]
pub(super) struct Accesses {
    pub(super) log: AccessLog,
    /// Requests under way that are told.
    pub(super) asked: HashMap<Slot, Asked>,
    /// By slot; of those that are none it says nothing.
    pub(super) standing: Vec<Standing>,
    sampling: Sampling,
}

impl Accesses {
    /// Makes it note so much.
    pub(super) fn new(log: AccessLog) -> Accesses {
        Accesses { log, ..Accesses::default() }
    }

    /// Notes so much from now on.
    pub(super) fn set(&mut self, log: AccessLog) {
        if log == AccessLog::Off {
            *self = Accesses::default();
        }
        self.log = log;
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.log != AccessLog::Off
    }

    /// Sees one more request, begin or end; returns for how many it stands, if it is told.
    pub(super) fn see(&mut self, now_us: u64, state: &mut u64) -> Option<u64> {
        match self.log {
            AccessLog::Off => None,
            AccessLog::All => Some(1),
            AccessLog::Sampled => self.sampling.see(now_us, random(state)),
        }
    }

    /// It is known how one ends.
    pub(super) fn ends_with(&mut self, slot: Slot, status: u16) {
        if let Some(standing) = self.standing.get_mut(slot as usize) {
            standing.status = status;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of few, each is told; of very many, about a hundred in a second, evenly, and together they stand for all.
    #[test]
    fn samples_are_even() {
        let mut state = 1;
        for per_second in [50, 100, 5_000, 200_000] {
            let mut sampling = Sampling::default();
            let (mut stood_for, mut tenths) = (0, [0; 50]);
            for n in 0..5 * per_second {
                let now_us = 7_000_000 + n * 1_000_000 / per_second;
                if let Some(stands_for) = sampling.see(now_us, random(&mut state)) {
                    stood_for += stands_for;
                    tenths[(n * 10 / per_second) as usize] += 1;
                }
            }
            assert_eq!(stood_for + sampling.unsaid, 5 * per_second);
            // Before it knows how many there are, the first hundred are told.
            let seconds: Vec<u64> = tenths.chunks(10).map(|tenths| tenths.iter().sum()).collect();
            assert!(seconds.iter().all(|told| *told <= SAMPLES_PER_SECOND), "{seconds:?}");
            let wanted = per_second.min(SAMPLES_PER_SECOND);
            assert!(seconds[1..].iter().all(|told| *told * 10 >= wanted * 6), "{per_second}: {seconds:?}");
            assert!(tenths[10..].iter().all(|told| *told <= 30), "{per_second}: {tenths:?}");
        }
    }

    /// Nothing is kept of one that is off, nor once it is switched off.
    #[test]
    fn off_is_off() {
        let mut access = Accesses::new(AccessLog::All);
        access.standing.resize(9, Standing::default());
        assert_eq!(access.see(1, &mut 1), Some(1));
        access.set(AccessLog::Off);
        assert!(!access.is_on() && access.standing.is_empty() && access.see(1, &mut 1).is_none());
    }
}
