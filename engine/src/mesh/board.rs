//! The statistics board: each shard writes its own column now and then, the control plane reads all of them.
//!
//! Relaxed stores are enough: every number stands for itself, and a reader that sees half of an update sees numbers
//! that are a moment apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shard::Stats;

/// That they are not to finish.
const NOT: u64 = u64::MAX;

/// Statistics and state of all shards.
#[derive(Debug)]
pub struct Board {
    columns: Vec<[AtomicU64; Stats::COUNT]>,
    /// Milliseconds over which the shards are to tell their connections that they finish, or [`NOT`].
    drain_ms: AtomicU64,
}

impl Board {
    /// Makes a board for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Board {
        let columns = (0..shards).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        Board { columns, drain_ms: AtomicU64::new(NOT) }
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
