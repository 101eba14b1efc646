//! Listeners that could not accept, because the kernel was short of something, and when they try again.

/// Accepting is tried again when a slot becomes free, and after so many microseconds: what was short may not be slots.
const AGAIN_US: u64 = 100_000;

/// That accepting failed is said this often at most, in microseconds.
const WARN_US: u64 = 10_000_000;

/// What became of the listeners.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    /// Those that stopped.
    failed: Vec<u8>,
    /// Those that have accepted nobody since.
    refusing: Vec<u8>,
    again_us: u64,
    warn_us: u64,
}

/// What a failure is worth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// It may be said again in the log.
    pub(super) warns: bool,
    /// Somebody is refused: once, however often it is tried again in vain.
    pub(super) refuses: bool,
}

impl Accepting {
    /// A listener could not accept.
    pub(super) fn fails(&mut self, listener: u8, now_us: u64) -> Failure {
        let warns = now_us >= self.warn_us;
        if warns {
            self.warn_us = now_us + WARN_US;
        }
        let refuses = !self.refusing.contains(&listener);
        if refuses {
            self.refusing.push(listener);
        }
        self.failed.push(listener);
        self.again_us = now_us + AGAIN_US;
        Failure { warns, refuses }
    }

    /// A listener has accepted somebody.
    pub(super) fn accepted(&mut self, listener: u8) {
        if !self.refusing.is_empty() {
            self.refusing.retain(|other| *other != listener);
        }
    }

    /// Returns the listeners that stopped; they are started again.
    pub(super) fn again(&mut self) -> impl Iterator<Item = u8> {
        self.failed.drain(..)
    }

    /// Returns when they are to be started again, in microseconds, if there are any.
    #[must_use]
    pub(super) fn again_us(&self) -> Option<u64> {
        (!self.failed.is_empty()).then_some(self.again_us)
    }
}
