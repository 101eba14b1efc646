//! The statistics board: each shard writes its own column now and then, the control plane reads all of them.
//!
//! Relaxed stores are enough: every number stands for itself, and a reader that sees half of an update sees numbers
//! that are a moment apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shard::{BUCKETS, HISTOGRAMS, Histogram, Stats, Timings};

/// That they are not to finish.
const NOT: u64 = u64::MAX;

/// Statistics and state of all shards.
#[derive(Debug)]
pub struct Board {
    columns: Vec<[AtomicU64; Stats::COUNT]>,
    /// Of each shard, the values of each histogram.
    timings: Vec<Box<[[AtomicU64; BUCKETS + 1]]>>,
    /// Milliseconds over which the shards are to tell their connections that they finish, or [`NOT`].
    drain_ms: AtomicU64,
}

impl Board {
    /// Makes a board for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Board {
        let columns = (0..shards).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        let histogram = |_| std::array::from_fn(|_| AtomicU64::new(0));
        let timings = (0..shards).map(|_| (0..HISTOGRAMS).map(histogram).collect()).collect();
        Board { columns, timings, drain_ms: AtomicU64::new(NOT) }
    }

    /// Returns how many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.columns.len()
    }

    /// Writes a shard's statistics.
    pub fn write(&self, shard: usize, stats: &Stats) {
        for (to, value) in self.columns[shard].iter().zip(stats.values()) {
            to.store(value, Ordering::Relaxed);
        }
    }

    /// Writes what a shard has measured.
    pub fn write_timings(&self, shard: usize, timings: &Timings) {
        for (to, values) in self.timings[shard].iter().zip(timings.all()) {
            to.iter().zip(values).for_each(|(to, value)| to.store(value, Ordering::Relaxed));
        }
    }

    /// Adds to one histogram, by its place among all, what a shard has measured as it was last written.
    pub fn read_timing(&self, shard: usize, place: usize, sum: &mut Histogram) {
        sum.add(self.timings[shard][place].iter().map(|value| value.load(Ordering::Relaxed)));
    }

    /// Reads a shard's statistics as they were last written.
    #[must_use]
    pub fn read(&self, shard: usize) -> Stats {
        Stats::of_values(std::array::from_fn(|n| self.columns[shard][n].load(Ordering::Relaxed)))
    }

    /// Asks every shard to tell its connections that it finishes, evenly within that time, and to finish. The first word holds.
    pub fn drain(&self, within: Duration) {
        let ms = u64::try_from(within.as_millis()).unwrap_or(NOT).min(NOT - 1);
        let _ = self.drain_ms.compare_exchange(NOT, ms, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Says whether the shards were asked to finish.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.drains_within_ms().is_some()
    }
    /// Returns within how many milliseconds the shards are to tell their connections that they finish, if they are to.
    #[must_use]
    pub fn drains_within_ms(&self) -> Option<u64> {
        Some(self.drain_ms.load(Ordering::Relaxed)).filter(|ms| *ms != NOT)
    }
}
