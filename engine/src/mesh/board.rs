//! The statistics board: each shard writes its own column now and then, the control plane reads all of them.
//!
//! Relaxed stores are enough: every number stands for itself, and a reader that sees half of an update sees numbers
//! that are a moment apart.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::shard::Stats;

/// Statistics and state of all shards.
#[derive(Debug)]
pub struct Board {
    columns: Vec<[AtomicU64; Stats::COUNT]>,
    draining: AtomicBool,
}

impl Board {
    /// Makes a board for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Board {
        let columns = (0..shards).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect();
        Board { columns, draining: AtomicBool::new(false) }
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

    /// Asks every shard to stop accepting, close its connections and finish.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Says whether the shards were asked to finish.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
