//! Resting.

/// The ring's timer.
#[derive(Debug)]
pub(super) struct Timer {
    armed_us: u64,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { armed_us: u64::MAX }
    }
}

impl Timer {
    /// Takes note that the timer fired.
    pub(super) fn fired(&mut self) {
        self.armed_us = u64::MAX;
    }
}
