//! Which topics are published to most, and how much: a small table of fixed size, an estimate that costs next to nothing.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi, 2005): each topic that is looked at has an entry, and where there is no room the one with
//! least gives its place, and what it had, to the new one. What was taken over in that way is known, and left out of what is said:
//! so a rate is rather too low than too high. Where publications are many, only some are looked at, by chance and about every 2^k-th, each
//! for all of these: so a publication costs a count down and a compare. Every second, what was before counts for a quarter less: a rate
//! is that of the last few seconds.
//!
//! Owns: the entries. Never: a name; a topic is its hash, which has a key that peers do not know.

use crate::shard::random::random;

/// Topics that are known at the same time.
const ENTRIES: usize = 64;

/// Publications looked at in a second, at most, about: each is a search through all entries, some 30 ns.
const LOOKED_MAX: u32 = 2048;
/// With fewer than this, more of them are looked at.
const LOOKED_MIN: u32 = LOOKED_MAX / 8;

/// With what the first second begins: one of eight.
const BEGINS_SHIFT: u32 = 3;

/// Seconds after which nothing is left of what was before: 3/4 to the power of that is less than a thousandth of a message of 2^32.
const FORGOTTEN_S: u64 = 100;

/// Parts of a message that are counted.
const SCALE: u64 = 1 << 10;

/// A topic.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    /// What was published before this second, in parts of messages, what is older counting for less.
    before: u64,
    /// What was published in this second.
    now: u64,
    /// How much of both is perhaps another topic's.
    inherited: u64,
}

impl Entry {
    fn weight(&self) -> u64 {
        self.before + self.now
    }

    /// What it certainly had before this second, as thousandths of messages a second: the sum of a constant rate is four times that.
    fn rate_milli(&self) -> u64 {
        self.before.saturating_sub(self.inherited) * 1000 / (4 * SCALE)
    }
}

/// The topics that are published to most.
#[derive(Debug)]
pub(in crate::shard) struct Hottest {
    entries: Vec<Entry>,
    /// Publications until one is looked at.
    left: u32,
    /// One of 2 to the power of this is looked at, on average.
    stride_shift: u32,
    /// Publications looked at in this second.
    looked: u32,
    /// When this second began, in milliseconds.
    second_ms: u64,
    random: u64,
}

impl Hottest {
    /// Makes an empty table that draws from `seed`.
    #[must_use]
    pub(in crate::shard) fn new(seed: u64) -> Hottest {
        let entries = Vec::with_capacity(ENTRIES);
        // As if there had been many: a storm at the start is not looked at one by one.
        Hottest { entries, left: 1, stride_shift: BEGINS_SHIFT, looked: 0, second_ms: 0, random: seed | 1 }
    }

    /// A message was published to a topic.
    #[inline(always)]
    pub(in crate::shard) fn published(&mut self, hash: u64, now_ms: u64) {
        self.left -= 1;
        if self.left == 0 {
            self.look(hash, now_ms);
        }
    }

    #[cold]
    fn look(&mut self, hash: u64, now_ms: u64) {
        self.bring_up_to(now_ms);
        self.looked += 1;
        // A burst is not waited for until its second is over.
        if self.looked >= LOOKED_MAX && self.stride_shift < 20 {
            (self.stride_shift, self.looked) = (self.stride_shift + 1, LOOKED_MAX / 2);
        }
        let weight = SCALE << self.stride_shift;
        // Drawn, not every 2^k-th: topics that take turns would be seen always, or never.
        self.left = match self.stride_shift {
            0 => 1,
            shift => 1 + (random(&mut self.random) % ((2 << shift) - 1)) as u32,
        };
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.hash == hash) {
            entry.now += weight;
        } else if self.entries.len() < ENTRIES {
            self.entries.push(Entry { hash, now: weight, ..Entry::default() });
        } else if let Some(least) = self.entries.iter_mut().min_by_key(|entry| entry.weight()) {
            *least = Entry { hash, inherited: least.weight(), before: least.weight(), now: weight };
        }
    }

    /// Brings it up to a time: seconds that are over count for less. To be called now and then: a stride that is too long lets nothing be
    /// looked at that would make it shorter.
    pub(in crate::shard) fn bring_up_to(&mut self, now_ms: u64) {
        let seconds = now_ms.saturating_sub(self.second_ms) / 1000;
        if seconds == 0 {
            return;
        }
        self.second_ms += seconds * 1000;
        if u64::from(self.looked) / seconds < u64::from(LOOKED_MIN) {
            let a_second = (u64::from(self.looked) << self.stride_shift) / seconds;
            self.stride_shift = (a_second / u64::from(LOOKED_MIN)).checked_ilog2().unwrap_or(0);
            // What was drawn for a longer stride would be waited for.
            self.left = self.left.min(1 << self.stride_shift);
        }
        self.looked = 0;
        if seconds > FORGOTTEN_S {
            self.entries.clear();
            return;
        }
        for entry in &mut self.entries {
            (entry.before, entry.now) = (entry.before - entry.before / 4 + entry.now, 0);
            entry.inherited -= entry.inherited / 4;
            for _ in 1..seconds {
                entry.before -= entry.before.div_ceil(4);
                entry.inherited -= entry.inherited / 4;
            }
        }
        self.entries.retain(|entry| entry.before > SCALE / 64);
    }

    /// Returns how much is published to a topic, in thousandths of messages a second; `None`: it is not known.
    #[must_use]
    pub(in crate::shard) fn rate_of(&self, hash: u64) -> Option<u64> {
        match self.entries.iter().find(|entry| entry.hash == hash) {
            Some(entry) => Some(entry.rate_milli()),
            // Everybody has found room.
            None if self.entries.len() < ENTRIES => Some(0),
            None => None,
        }
    }

    /// Returns all topics of which it is known that something was published to them: their hashes, and how much.
    pub(in crate::shard) fn rates(&self) -> impl Iterator<Item = (u64, u64)> {
        let rates = self.entries.iter().map(|entry| (entry.hash, entry.rate_milli()));
        rates.filter(|(_, rate_milli)| *rate_milli > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes so many messages a second for so many seconds, the topics as `draw` says, and returns the time.
    fn publish(hottest: &mut Hottest, from_ms: u64, seconds: u64, a_second: u64, draw: impl Fn(u64) -> u64) -> u64 {
        for n in 0..seconds * a_second {
            let now_ms = from_ms + n * 1000 / a_second;
            if n % a_second.div_ceil(10) == 0 {
                hottest.bring_up_to(now_ms);
            }
            hottest.published(draw(n), now_ms);
        }
        let end_ms = from_ms + seconds * 1000;
        hottest.bring_up_to(end_ms);
        end_ms
    }

    fn near(rate_milli: Option<u64>, expected: f64, tolerance: f64) -> bool {
        let rate = rate_milli.unwrap() as f64 / 1000.0;
        (rate - expected).abs() <= expected * tolerance
    }

    /// Few topics, slowly published to: every message counts, and the rate is that of each. What stops is forgotten.
    #[test]
    fn few_and_slow_are_known_exactly() {
        let mut hottest = Hottest::new(7);
        let end_ms = publish(&mut hottest, 0, 30, 20, |n| n % 4 / 3);
        assert!(near(hottest.rate_of(0), 15.0, 0.02) && near(hottest.rate_of(1), 5.0, 0.02), "{hottest:?}");
        assert_eq!(hottest.rate_of(9), Some(0), "there is room: it would be known");
        hottest.bring_up_to(end_ms + 3_000);
        assert!(near(hottest.rate_of(0), 15.0 * 0.42, 0.05), "{hottest:?}");
        hottest.bring_up_to(end_ms + 60_000);
        assert_eq!(hottest.rates().count(), 0);
        assert!(hottest.entries.is_empty());
    }

    /// Among very many topics at a high rate, those that have much are found and nearly right, never much too high, and few publications
    /// are looked at.
    #[test]
    fn the_hottest_of_many_are_found() {
        let mut hottest = Hottest::new(7);
        // Every tenth to one, every twentieth to another, the rest to ten thousand.
        let draw = |n: u64| match n % 20 {
            0 | 10 => 1,
            5 => 2,
            _ => 10 + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 10_000,
        };
        publish(&mut hottest, 0, 20, 100_000, draw);
        assert!(hottest.looked <= LOOKED_MAX && hottest.stride_shift >= 5, "{hottest:?}");
        let mut rates: Vec<_> = hottest.rates().collect();
        rates.sort_by_key(|(_, rate_milli)| std::cmp::Reverse(*rate_milli));
        assert_eq!([rates[0].0, rates[1].0], [1, 2], "{rates:?}");
        assert!(near(Some(rates[0].1), 10_000.0, 0.25) && near(Some(rates[1].1), 5_000.0, 0.35), "{rates:?}");
        assert!(rates.len() <= ENTRIES && hottest.rate_of(3).is_none());
    }

    /// A topic is seen although it always comes at the same place among others.
    #[test]
    fn turns_are_seen_through() {
        let mut hottest = Hottest::new(7);
        publish(&mut hottest, 0, 20, 50_000, |n| n % 16);
        for hash in 0..16 {
            assert!(near(hottest.rate_of(hash), 3_125.0, 0.4), "{hash}: {:?}", hottest.rate_of(hash));
        }
    }

    /// After a burst, slow topics are seen again.
    #[test]
    fn a_burst_is_over_soon() {
        let mut hottest = Hottest::new(7);
        let end_ms = publish(&mut hottest, 0, 5, 200_000, |_| 1);
        assert!(hottest.stride_shift > 5);
        publish(&mut hottest, end_ms, 60, 10, |_| 2);
        assert!(near(hottest.rate_of(2), 10.0, 0.1) && hottest.stride_shift == 0, "{hottest:?}");
    }
}
