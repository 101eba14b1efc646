//! Who has how much of what is limited, counted across the shards: connections of an address, what is published for a subject in a second.
//!
//! Two tables of atomics, of fixed size, which every shard reads and writes. Whoever counts names what it counts for by a *key*: a hash
//! with a secret key, so that nobody can aim at the place of somebody else.
//!
//! ```text
//!   counts   [mark|count][mark|count] ... 8 in a cache line      how many there are now; a count of 0 is a free place
//!   buckets  [key][full until] ...        4 in a cache line      how much there was lately; one that is empty again is a free place
//! ```
//!
//! What is counted for everybody together has a place of its own in two lines besides: however many addresses come, they do not take it.
//!
//! A key has its place in one of two lines. Where both are full of others it is not counted, and so not limited: to fill them takes as
//! many addresses as there are places, and the limit of who has so many is that of all connections. (A sketch, as in a count-min, was
//! rejected: where very many have one connection each, it takes their number for that of each of them, and small limits meet the innocent.)
//!
//! A bucket is a point in time: it is full until then, and each charge moves it on by what that costs at its rate (a generic cell rate
//! algorithm). Whoever asks how long to wait learns when there is room, and not more.
//!
//! Touched when a connection, a subscription or a publication begins or ends that is limited. Never: touched for a delivery, waits, or
//! grows. The tables are made when somebody is first counted. Relaxed is enough: each word stands for itself. Two shards that look at the
//! same moment may both be let in where there is room for one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines of eight counts: 262,144 of them in 2 MiB.
const COUNT_LINES: usize = 1 << 15;

/// Lines of four buckets: 65,536 of them in 1 MiB. Only who did something in the last second takes one.
const BUCKET_LINES: usize = 1 << 14;

/// Bits of a count; the others are the mark of its key. No limit is larger.
const COUNT_BITS: u32 = 24;

/// Largest count.
pub const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// Time in which as much may come at once as the rate allows in it, in nanoseconds.
const BURST_NS: u64 = 1_000_000_000;

/// However much something costs, it is paid after so long, in nanoseconds: an hour.
const DEBT_NS_MAX: u64 = 3_600_000_000_000;

/// What is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Everybody together; the number says what is counted, 7 at most.
    Everybody(u8),
    /// Somebody: a hash with a secret key, of whom and what.
    One(u64),
}

/// A cache line of words.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; 8]);

/// What became of one who wants to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It is counted, and has to leave again.
    Counted,
    /// The table has no place for it: it is not counted, and not limited.
    Uncounted,
    /// There are as many as may be.
    Refused,
}

/// The tables.
#[derive(Debug, Default)]
pub struct Census {
    counts: OnceLock<Box<[Line]>>,
    buckets: OnceLock<Box<[Line]>>,
    /// How many there are now, of everybody.
    all: Line,
    /// Until when the buckets of everybody are full.
    all_until: Line,
}

fn table(lines: usize) -> Box<[Line]> {
    (0..lines).map(|_| Line::default()).collect()
}

/// Returns the two lines of a key.
fn lines_of(table: &[Line], key: u64) -> [&Line; 2] {
    // Fifteen bits each at most; the mark of a count is the upper forty.
    let mask = table.len() - 1;
    let (one, other) = (key as usize & mask, (key >> 15) as usize & mask);
    // Two of them: whoever sums up what they say counts no place twice.
    [&table[one], &table[if one == other { other ^ 1 } else { other }]]
}

/// Returns what the word of a count has besides the count.
fn mark_of(key: u64) -> u64 {
    key >> COUNT_BITS
}

fn count_of(value: u64) -> u32 {
    value as u32 & COUNT_MAX
}

impl Census {
    /// Makes empty ones.
    #[must_use]
    pub fn new() -> Census {
        Census::default()
    }

    /// Counts so many more for a key, if that makes no more than `max`.
    #[must_use]
    pub fn enter(&self, key: Key, more: u32, max: u32) -> Entry {
        let key = match key {
            Key::Everybody(what) => {
                let all = &self.all.0[usize::from(what)];
                let entered = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    Some(count + u64::from(more)).filter(|sum| *sum <= u64::from(max))
                });
                return if entered.is_ok() { Entry::Counted } else { Entry::Refused };
            }
            Key::One(key) => key,
        };
        let lines = lines_of(self.counts.get_or_init(|| table(COUNT_LINES)), key);
        loop {
            // A key may have two places, if two shards made it one at the same moment: both count.
            let (mut count, mut place, mut free, mut most) = (0, None, None, 0);
            for line in lines {
                let (mut frees, mut first) = (0, None);
                for word in &line.0 {
                    let value = word.load(Ordering::Relaxed);
                    let here = count_of(value);
                    if here == 0 {
                        frees += 1;
                        first = Some((word, value));
                    } else if value >> COUNT_BITS == mark_of(key) {
                        count += u64::from(here);
                        place = Some((word, value));
                    }
                }
                // In the emptier one: so nine of ten places are taken before a line is full.
                if frees > most {
                    (free, most) = (first, frees);
                }
            }
            if count + u64::from(more) > u64::from(max.min(COUNT_MAX)) {
                return Entry::Refused;
            }
            let Some((word, value)) = place.or(free) else { return Entry::Uncounted };
            let new = mark_of(key) << COUNT_BITS | u64::from(count_of(value) + more);
            if word.compare_exchange(value, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Entry::Counted;
            }
        }
    }

    /// Counts so many less for a key. Those that were not counted, because there was no place, find nothing, or make room that is not
    /// there: that limits somebody later, and nobody sooner.
    pub fn leave(&self, key: Key, less: u32) {
        let key = match key {
            Key::Everybody(what) => {
                let before = self.all.0[usize::from(what)].fetch_sub(less.into(), Ordering::Relaxed);
                debug_assert!(before >= u64::from(less), "more leave than have entered");
                return;
            }
            Key::One(key) => key,
        };
        let lines = lines_of(self.counts.get_or_init(|| table(COUNT_LINES)), key);
        let mut left = less;
        for word in lines.iter().flat_map(|line| &line.0) {
            let mut value = word.load(Ordering::Relaxed);
            while left > 0 && count_of(value) > 0 && value >> COUNT_BITS == mark_of(key) {
                let here = left.min(count_of(value));
                match word.compare_exchange(value, value - u64::from(here), Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => {
                        left -= here;
                        break;
                    }
                    Err(other) => value = other,
                }
            }
        }
    }

    /// Returns how many are counted for a key.
    #[must_use]
    pub fn count(&self, key: Key) -> u32 {
        let key = match key {
            Key::Everybody(what) => {
                let count = self.all.0[usize::from(what)].load(Ordering::Relaxed);
                return u32::try_from(count).unwrap_or(u32::MAX);
            }
            Key::One(key) => key,
        };
        let Some(counts) = self.counts.get() else { return 0 };
        let words = lines_of(counts, key).into_iter().flat_map(|line| &line.0);
        let values = words.map(|word| word.load(Ordering::Relaxed));
        values.filter(|value| value >> COUNT_BITS == mark_of(key)).map(count_of).sum()
    }

    /// Returns how many are counted in all, for checks.
    #[must_use]
    pub fn total(&self) -> u64 {
        let words = self.counts.get().into_iter().flatten().flat_map(|line| &line.0);
        let ones: u64 = words.map(|word| u64::from(count_of(word.load(Ordering::Relaxed)))).sum();
        ones + self.all.0.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>()
    }

    /// Returns how long a key has to wait before something of this cost fits into its rate, in nanoseconds; 0 if it does now. What is
    /// more than a second's worth fits into an empty bucket.
    #[must_use]
    pub fn wait_ns(&self, key: Key, cost: u64, per_second: u64, now_ns: u64) -> u64 {
        let until_ns = match key {
            Key::Everybody(what) => self.all_until.0[usize::from(what)].load(Ordering::Relaxed),
            Key::One(key) => {
                let Some(buckets) = self.buckets.get() else { return 0 };
                let key = key.max(1);
                let pairs = lines_of(buckets, key).into_iter().flat_map(|line| line.0.chunks_exact(2));
                let mut untils = pairs.filter(|pair| pair[0].load(Ordering::Relaxed) == key);
                untils.next().map_or(0, |pair| pair[1].load(Ordering::Relaxed))
            }
        };
        until_ns
            .saturating_sub(now_ns)
            .saturating_add(price_ns(cost, per_second).min(BURST_NS))
            .saturating_sub(BURST_NS)
    }

    /// Charges a key with a cost; says false if there is no place for its bucket.
    pub fn charge(&self, key: Key, cost: u64, per_second: u64, now_ns: u64) -> bool {
        let until = match key {
            Key::Everybody(what) => &self.all_until.0[usize::from(what)],
            Key::One(key) => match self.bucket(key, now_ns) {
                Some(until) => until,
                None => return false,
            },
        };
        let price_ns = price_ns(cost, per_second);
        let mut until_ns = until.load(Ordering::Relaxed);
        loop {
            let new = until_ns.max(now_ns) + price_ns;
            match until.compare_exchange(until_ns, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => until_ns = other,
            }
        }
    }

    /// Finds or makes the bucket of a key; returns until when it is full.
    fn bucket(&self, key: u64, now_ns: u64) -> Option<&AtomicU64> {
        let key = key.max(1);
        let lines = lines_of(self.buckets.get_or_init(|| table(BUCKET_LINES)), key);
        let pairs = || lines.into_iter().flat_map(|line| line.0.chunks_exact(2));
        loop {
            if let Some(pair) = pairs().find(|pair| pair[0].load(Ordering::Relaxed) == key) {
                return Some(&pair[1]);
            }
            let pair = pairs().find(|pair| pair[1].load(Ordering::Relaxed) <= now_ns)?;
            let old = pair[0].load(Ordering::Relaxed);
            // Somebody else may have charged it meanwhile: then what comes of it is that this one waits a little longer.
            if pair[0].compare_exchange(old, key, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some(&pair[1]);
            }
        }
    }
}

/// Returns the time that pays for a cost at a rate, in nanoseconds.
fn price_ns(cost: u64, per_second: u64) -> u64 {
    cost.saturating_mul(1_000_000_000).div_ceil(per_second.max(1)).min(DEBT_NS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for a keyed hash.
    fn key(n: u64) -> Key {
        let z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Key::One(z ^ (z >> 31))
    }

    /// Each key has its own count, exactly, up to its limit, and what has left makes room.
    #[test]
    fn counts_are_exact() {
        let census = Census::new();
        for n in 0..20_000 {
            for _ in 0..n % 4 {
                assert_eq!(census.enter(key(n), 1, 3), Entry::Counted, "{n}");
            }
        }
        for n in 0..20_000 {
            assert_eq!(u64::from(census.count(key(n))), n % 4, "{n}");
        }
        assert_eq!(census.enter(key(3), 1, 3), Entry::Refused);
        census.leave(key(3), 1);
        assert_eq!(census.enter(key(3), 1, 3), Entry::Counted);
        (0..20_000).for_each(|n| (0..n % 4).for_each(|_| census.leave(key(n), 1)));
        assert!((0..20_000).all(|n| census.count(key(n)) == 0) && census.total() == 0);
    }

    /// Several are entered and leave together, all of them or none, also where two shards have made two places of one key; and everybody
    /// has a count and a bucket that nobody else can take, however full the tables are.
    #[test]
    fn several_enter_together() {
        let census = Census::new();
        for key in [key(1), Key::Everybody(1)] {
            assert_eq!(census.enter(key, 5, 7), Entry::Counted);
            assert_eq!(census.enter(key, 3, 7), Entry::Refused);
            assert_eq!((census.count(key), census.enter(key, 2, 7)), (5, Entry::Counted));
            census.leave(key, 4);
            assert_eq!(census.count(key), 3);
        }
        census.leave(key(1), 3);
        assert_eq!(census.total(), 3);
        let (census, Key::One(two)) = (Census::new(), key(2)) else { panic!("it is one") };
        let lines = lines_of(census.counts.get_or_init(|| table(COUNT_LINES)), two);
        lines.iter().for_each(|line| line.0[3].store(mark_of(two) << COUNT_BITS | 2, Ordering::Relaxed));
        assert_eq!((census.count(key(2)), census.enter(key(2), 1, 4)), (4, Entry::Refused));
        census.leave(key(2), 3);
        assert_eq!((census.count(key(2)), census.total()), (1, 1));
        for line in
            census.counts.get().into_iter().chain([census.buckets.get_or_init(|| table(BUCKET_LINES))]).flatten()
        {
            line.0.iter().for_each(|word| word.store(u64::MAX / 2, Ordering::Relaxed));
        }
        assert_eq!((census.enter(key(3), 1, 1), census.charge(key(3), 1, 1, 5)), (Entry::Uncounted, false));
        assert_eq!(census.enter(Key::Everybody(7), 1, 1), Entry::Counted);
        assert_eq!(census.enter(Key::Everybody(7), 1, 1), Entry::Refused);
        assert!(census.charge(Key::Everybody(7), 1, 1, 5) && census.wait_ns(Key::Everybody(7), 1, 1, 5) > 0);
        assert_eq!(census.wait_ns(Key::Everybody(6), 1, 1, 5), 0, "of something else");
    }

    /// Nine of ten places can be taken before one finds none; who finds none is let in uncounted, and nobody else's count changes.
    #[test]
    fn a_full_table_limits_nobody() {
        let census = Census::new();
        let places = COUNT_LINES as u64 * 8;
        let uncounted = |to| (0..to).filter(|n| census.enter(key(*n), 1, 1) == Entry::Uncounted).count();
        assert!(uncounted(places * 3 / 4) < 1_000);
        let census = Census::new();
        let all = (0..2 * places).filter(|n| census.enter(key(*n), 1, 1) == Entry::Uncounted).count() as u64;
        assert!((places..places * 11 / 10).contains(&all), "{all} of {}", 2 * places);
    }

    /// So much as the rate allows in a second goes at once, then one after the other, and the wait that is told is long enough and no
    /// longer.
    #[test]
    fn buckets_hold_a_second() {
        let (census, key) = (Census::new(), key(7));
        let mut now_ns = 5_000_000_000;
        for _ in 0..10 {
            assert_eq!(census.wait_ns(key, 1, 10, now_ns), 0);
            assert!(census.charge(key, 1, 10, now_ns));
        }
        for _ in 0..100 {
            let wait_ns = census.wait_ns(key, 1, 10, now_ns);
            assert_eq!(wait_ns, 100_000_000);
            assert_eq!(census.wait_ns(key, 1, 10, now_ns + wait_ns - 1), 1);
            now_ns += wait_ns;
            assert_eq!(census.wait_ns(key, 1, 10, now_ns), 0);
            assert!(census.charge(key, 1, 10, now_ns));
        }
        assert_eq!(census.wait_ns(key, 1, 10, now_ns + 1_000_000_000), 0, "and after a second everything as before");
    }

    /// What costs more than a second's worth goes into an empty bucket, and is paid for afterwards.
    #[test]
    fn large_things_are_paid_for() {
        let (census, key) = (Census::new(), key(7));
        let now_ns = 5_000_000_000;
        assert_eq!(census.wait_ns(key, 5_000, 1_000, now_ns), 0);
        assert!(census.charge(key, 5_000, 1_000, now_ns));
        assert_eq!(census.wait_ns(key, 1, 1_000, now_ns), 4_001_000_000);
        assert_eq!(census.wait_ns(key, 5_000, 1_000, now_ns), 5_000_000_000);
        assert!(census.charge(key, u64::MAX, 1, now_ns), "nothing overflows");
        assert!(census.wait_ns(key, u64::MAX, 1, now_ns) < 2 * DEBT_NS_MAX);
    }

    /// A bucket that is empty again gives its place to another; among those that are not, there is none for one more.
    #[test]
    fn empty_buckets_make_room() {
        let census = Census::new();
        let places = BUCKET_LINES as u64 * 4;
        let charged = |from, now_ns| (from..from + 2 * places).filter(|n| census.charge(key(*n), 1, 1, now_ns)).count();
        let first = charged(0, 1_000_000_000) as u64;
        assert!(first > places * 9 / 10 && first <= places, "{first}");
        assert_eq!(charged(10 * places, 1_500_000_000) as u64, places - first, "those were full");
        assert!(charged(20 * places, 5_000_000_000) as u64 > places * 9 / 10, "and are empty now");
    }

    /// Shards that count at the same time miss nobody.
    #[test]
    fn many_threads_count_together() {
        let census = Census::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000 {
                        assert_eq!(census.enter(key(n % 10), 1, COUNT_MAX), Entry::Counted);
                        if n % 2 == 0 {
                            census.leave(key(n % 10), 1);
                        }
                        assert!(census.charge(key(n % 10), 1, 1_000, 0));
                    }
                });
            }
        });
        let counts: Vec<u32> = (0..10).map(|n| census.count(key(n))).collect();
        assert_eq!(counts, [0, 4_000, 0, 4_000, 0, 4_000, 0, 4_000, 0, 4_000]);
        let waits = (0..10).map(|n| census.wait_ns(key(n), 1, 1_000, 0));
        assert!(waits.into_iter().all(|wait_ns| wait_ns == 4_000_000_000 - 999_000_000));
    }
}
