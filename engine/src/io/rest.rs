//! Resting: how a core whose shards have nothing to do waits for the kernel, another shard, or the clock.
//!
//! Owns: the wait, each ring's one timer, and the spin before it. Never: decides that there is nothing to do; that is the
//! shards' word, given after the rest was announced and no mail was found.
//!
//! A core rests in its first ring: one system call that hands over what is queued and returns with the next completion, or
//! when the time has come. That blocks the executor's thread, which is right as long as the core is all that it runs
//! ([`executor::in_company`] says when not). Everything else that ends a rest is heard through the doorbell, which all rings
//! of a core share, and which the first reads: another core rings it, and while a rest lasts the kernel rings it for each
//! completion of the other rings (`register_eventfd`). The order is what makes it safe: notifications on, then the kernel is
//! asked once more, then sleep. What comes before the question is seen by it, what comes after rings.
//!
//! ```text
//!   first ring ──completion──────────────────────────┐        in company:
//!   other rings ──completion─▶ doorbell ─▶ read by it ├─▶ wait    all rings ─▶ doorbell ─▶ read by glommio ─▶ await
//!   other cores ─────────────▶ doorbell ─▶ read by it ┤
//!   the clock ─────────────────────────────────────────┘
//! ```
//!
//! In company, the wait is one of glommio's: it has no way to poll a foreign descriptor, and a ring's own never becomes
//! readable with `DEFER_TASKRUN`; but a read of a file is an `IORING_OP_READ`, which waits for an eventfd like for any other
//! file. It costs some five system calls more (LOG: 103 µs of CPU for a message, in the ring 60).
//!
//! Why the unsafe is sound: descriptors are duplicated before they are handed over, and the one memory the kernel
//! writes (`heard`) is boxed and written inside our own system calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd};

use glommio::io::BufferedFile;
use io_uring::types::{Fd, TimeoutFlags, Timespec};
use io_uring::{opcode, squeue};

use super::clock::now_us;
use super::executor;
use super::ring::Ring;
use super::token::{Operation, Token};

/// Longest spin before a rest, in microseconds: about what falling asleep in the ring and waking up costs. Longer would waste
/// more than it can save. (LOG: at 50, which is what a rest through glommio cost, connections that came one after another
/// paid half their CPU for it.)
pub const SPIN_US_MAX: u32 = 10;

/// Shortest spin, in microseconds; where that does not pay, there is none.
const SPIN_US_MIN: u32 = 2;

/// The wait of a core.
#[derive(Debug)]
pub struct Rest {
    bell: BufferedFile,
}

impl Rest {
    /// Prepares to rest for the ring's doorbell. To be called inside the core's glommio executor.
    ///
    /// # Errors
    /// What the kernel said to one more descriptor (`EMFILE`).
    ///
    /// # Panics
    /// If there is no glommio executor.
    pub fn new(ring: &Ring) -> io::Result<Rest> {
        let bell = ring.doorbell().as_fd().try_clone_to_owned()?;
        // SAFETY: the descriptor is a duplicate of ours alone, and is given away here.
        let bell = unsafe { BufferedFile::from_raw_fd(bell.into_raw_fd()) };
        Ok(Rest { bell })
    }

    /// Waits until there is something to look at: a completion in any of these rings, a ring of their doorbell, or the time
    /// (monotonic, in microseconds) that belongs to one of them.
    ///
    /// It may return early for no reason. Queued orders are submitted first, or will be by the next `submit`.
    pub async fn rest(&mut self, rings: &mut [Ring], until_us: &[Option<u64>]) {
        if executor::in_company() {
            self.through_executor(rings, until_us).await;
        } else {
            in_first_ring(rings, until_us);
        }
    }

    /// Gives the other tasks of the executor, if there are any, a turn, and its reactor one: for a core that has no rest.
    pub async fn make_way(&mut self, ring: &Ring) {
        if executor::in_company() {
            // A task that yields only keeps the executor from looking after the input and output of the others.
            ring.doorbell().ring();
            let _ = self.bell.read_at(0, size_of::<u64>()).await;
        }
    }

    async fn through_executor(&mut self, rings: &mut [Ring], until_us: &[Option<u64>]) {
        for (ring, until_us) in rings.iter_mut().zip(until_us) {
            ring.arm_timer(ring.until(*until_us));
            ring.ring.completion().enable_eventfd();
        }
        look_after_notifying();
        if rings.iter_mut().all(Ring::quiet) {
            // An error would be one of glommio's ring; then the turn that follows looks at everything anyway.
            let _ = self.bell.read_at(0, size_of::<u64>()).await;
        }
        rings.iter_mut().for_each(|ring| ring.ring.completion().disable_eventfd());
    }
}

fn in_first_ring(rings: &mut [Ring], until_us: &[Option<u64>]) {
    let until_us = rings.iter().zip(until_us).filter_map(|(ring, until_us)| ring.until(*until_us)).min();
    let Some((first, others)) = rings.split_first_mut() else { return };
    others.iter_mut().for_each(|ring| ring.ring.completion().enable_eventfd());
    look_after_notifying();
    if others.iter_mut().all(Ring::quiet) {
        first.wait(until_us);
    }
    others.iter_mut().for_each(|ring| ring.ring.completion().disable_eventfd());
}

/// Pairs with the kernel: it adds work, then looks whether notifications are on; we turn them on, then look for work. One
/// of the two sees the other.
fn look_after_notifying() {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// The ring's one timer: armed for the earliest deadline asked for, and left alone when a later one is asked for. So
/// a shard that rests often with a far deadline pays for the timer once.
pub(super) struct Timer {
    armed_us: u64,
    at: Box<Timespec>,
    /// Where a read of the doorbell goes ([`Ring::wait`]), and whether one is under way.
    heard: Box<[u8; 8]>,
    listening: bool,
}

impl Default for Timer {
    fn default() -> Timer {
        Timer { armed_us: u64::MAX, at: Box::new(Timespec::new()), heard: Box::new([0; 8]), listening: false }
    }
}

impl Timer {
    /// Takes note that the timer fired.
    pub(super) fn fired(&mut self) {
        self.armed_us = u64::MAX;
    }

    /// Takes note that the doorbell rang.
    pub(super) fn rang(&mut self) {
        self.listening = false;
    }
}

impl Ring {
    /// Waits as [`Rest::rest`] does for one ring, but in the ring itself, whoever else its thread has to run.
    ///
    /// Handing queued orders over, waiting for the kernel and waiting for the clock are one system call. Nothing is slept
    /// over: the kernel runs its deferred work and looks at the completions before it sleeps, and again for each new work.
    pub fn wait(&mut self, until_us: Option<u64>) {
        if !self.timer.listening {
            self.timer.listening = true;
            let bell = Fd(self.doorbell().as_fd().as_raw_fd());
            let entry = opcode::Read::new(bell, self.timer.heard.as_mut_ptr(), 8).build();
            self.push(&entry.user_data(Token::new(Operation::Doorbell, 0, 0).raw()));
        }
        if !self.said.is_empty() || !self.ring.completion().is_empty() {
            return;
        }
        let left_us = self.until(until_us).map_or(u64::MAX, |until| until.saturating_sub(now_us()));
        self.enter_for(timespec(left_us.min(1 << 40)));
    }

    /// Returns until when to rest, if the shard wants its next turn at `until_us`.
    fn until(&self, until_us: Option<u64>) -> Option<u64> {
        let next_us = self.shortage.next_us();
        until_us.into_iter().chain(next_us).min()
    }

    fn arm_timer(&mut self, until_us: Option<u64>) {
        let Some(until_us) = until_us else { return };
        let armed = self.timer.armed_us != u64::MAX;
        if until_us >= self.timer.armed_us {
            return;
        }
        self.timer.armed_us = until_us;
        *self.timer.at = timespec(until_us);
        let at: *const Timespec = &raw const *self.timer.at;
        let token = Token::new(Operation::Timer, 0, 0).raw();
        if armed {
            // If it has fired meanwhile, its completion is there: this rest ends at once, and the next arms it anew.
            let entry = opcode::TimeoutUpdate::new(token, at).flags(TimeoutFlags::ABS).build();
            let change = Token::new(Operation::TimerChange, 0, 0).raw();
            self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(change));
        } else {
            self.push(&opcode::Timeout::new(at).flags(TimeoutFlags::ABS).build().user_data(token));
        }
    }
}

fn timespec(us: u64) -> Timespec {
    Timespec::new().sec(us / 1_000_000).nsec((us % 1_000_000) as u32 * 1_000)
}

/// How long to look around before resting: longer when it would have paid lately, shorter when not.
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    us_max: u32,
    budget_us: u32,
    idle_since_us: Option<u64>,
    /// When it was last told to look once more, if it has not come back since.
    looks_since_us: Option<u64>,
    total_us: u64,
}

impl Spin {
    /// Spins at most `us_max` microseconds ([`SPIN_US_MAX`] is a good number); zero never spins.
    #[must_use]
    pub fn new(us_max: u32) -> Spin {
        Spin { us_max, budget_us: us_max, idle_since_us: None, looks_since_us: None, total_us: 0 }
    }

    /// Says whether to look once more; to be asked after a turn that found nothing.
    pub fn again(&mut self, now_us: u64) -> bool {
        self.looked(now_us);
        let since_us = *self.idle_since_us.get_or_insert(now_us);
        let again = now_us.saturating_sub(since_us) < u64::from(self.budget_us);
        self.looks_since_us = again.then_some(now_us);
        again
    }

    /// Takes note that a turn found something to do.
    ///
    /// What counts is how long there was nothing, not whether the spin lasted that long: one that was cut too short
    /// could not learn that a longer one pays. Twice the longest spin is the measure, as a rest adds its own wake-up.
    pub fn found(&mut self, now_us: u64) {
        self.looked(now_us);
        let Some(since_us) = self.idle_since_us.take() else {
            return;
        };
        let pays = now_us.saturating_sub(since_us) <= 2 * u64::from(self.us_max);
        self.budget_us = match self.budget_us {
            budget_us if pays => (budget_us * 2).max(SPIN_US_MIN).min(self.us_max),
            budget_us if budget_us / 2 < SPIN_US_MIN => 0,
            budget_us => budget_us / 2,
        };
    }

    /// Returns how long it has looked around so far, in microseconds: CPU time in which there was nothing to do.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.total_us
    }

    fn looked(&mut self, now_us: u64) {
        self.total_us += self.looks_since_us.take().map_or(0, |since_us| now_us.saturating_sub(since_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Work that comes seldom makes the spin short, and then there is none; work that comes soon makes it long again, even if
    /// each time it came after the short spin was over.
    #[test]
    fn spin_learns() {
        let mut spin = Spin::new(50);
        let mut now_us = 1_000;
        let mut spun = |after_us: u64| {
            let start_us = now_us;
            while spin.again(now_us) {
                now_us += 1;
            }
            let spun_us = now_us - start_us;
            now_us = start_us + after_us;
            spin.found(now_us);
            spun_us
        };
        assert_eq!([0; 7].map(|_| spun(1_000)), [50, 25, 12, 6, 3, 0, 0]);
        assert_eq!([0; 6].map(|_| spun(60)), [0, 2, 4, 8, 16, 32]);
    }

    /// Work that is found without a pause says nothing about spinning.
    #[test]
    fn busy_turns_teach_nothing() {
        let mut spin = Spin::new(16);
        assert!(spin.again(0));
        spin.found(100);
        assert_eq!(spin.budget_us, 8);
        spin.found(101);
        assert_eq!(spin.budget_us, 8);
    }

    /// What is counted is the time of looking: neither the rest behind it nor the work.
    #[test]
    fn spin_is_counted() {
        let mut spin = Spin::new(50);
        assert!(spin.again(100) && spin.again(110));
        spin.found(125);
        assert_eq!(spin.total_us(), 25);
        spin.found(400);
        assert!(spin.again(500) && !spin.again(550));
        assert!(!spin.again(9_000), "it has rested");
        spin.found(9_500);
        assert_eq!(spin.total_us(), 75);
    }

    /// Whoever is told not to spin does not.
    #[test]
    fn never() {
        let mut spin = Spin::new(0);
        for now_us in [5, 6, 7] {
            assert!(!spin.again(now_us));
            spin.found(now_us);
        }
    }
}
