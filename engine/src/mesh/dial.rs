//! A number that one thread sets now and then, and all others read.

use std::sync::atomic::{AtomicU8, Ordering};

/// The number. It stands for itself, so that relaxed loads and stores are enough.
#[derive(Debug, Default)]
pub struct Dial(AtomicU8);

impl Dial {
    /// Sets it.
    pub fn set(&self, number: u8) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn read(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}
