//! A number that any thread may raise and any may read: what is counted beside the shards.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only grows. Relaxed: it stands for itself.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Raises it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns what it is now.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
