//! What the threads of a run share: which phase it is, and a few counts. Everything else goes through channels.
//!
//! The coordinator begins and ends phases; a worker says on its board that it has begun, and how far it is. What the
//! coordinator writes before a step must be seen by whoever sees the step: `begin` releases, `step` acquires. What a
//! worker writes on its board after it has begun belongs to that step: its `step` is stored first, and released.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing has begun.
    Before,
    /// Phase number so-and-so runs.
    Runs(u32),
    /// It is over: workers close their accounts.
    Over(u32),
    /// Workers end.
    Stop,
}

const STOP: u32 = u32::MAX;

/// What a worker that does not know yet says of what is outstanding.
const UNKNOWN: u64 = u64::MAX;

/// How far a worker is, on a cache line of its own: the coordinator reads it while it changes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Board {
    begun: AtomicU32,
    /// Connections that are there, that will never be, and that are on their way.
    pub(crate) ready: AtomicU32,
    pub(crate) failed: AtomicU32,
    pub(crate) pending: AtomicU32,
    /// Messages delivered, or told to be skipped.
    pub(crate) heard: AtomicU64,
    /// Messages that may still come, once all are published.
    outstanding: AtomicU64,
    /// Somebody watches, and wants to know what costs a look through histograms.
    asked: AtomicBool,
    /// 99th percentiles of latency and lag so far, in nanoseconds; 0 if there is none yet.
    latency_p99_ns: AtomicU64,
    lag_p99_ns: AtomicU64,
}

/// Subscribers of every topic, for closed loops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribers {
    /// By audience and topic.
    pub(crate) counts: [Vec<u32>; 3],
}

impl Subscribers {
    /// Adds another worker's.
    pub(crate) fn add(&mut self, other: Subscribers) {
        for (sum, other) in self.counts.iter_mut().zip(other.counts) {
            if sum.is_empty() {
                *sum = other;
            } else {
                sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
            }
        }
    }
}

/// The sum of all boards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// Every worker has begun the phase.
    pub(crate) begun: bool,
    pub(crate) ready: u32,
    pub(crate) failed: u32,
    pub(crate) pending: u32,
    pub(crate) heard: u64,
    /// Nothing more is to come.
    pub(crate) complete: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage {
    step: AtomicU32,
    start_ns: AtomicU64,
    /// Workers that may still send messages.
    publishing: AtomicU32,
    published: AtomicU64,
    /// What will have been heard when all that was published has reached everyone.
    expected: AtomicU64,
    publisher_lost: AtomicBool,
    curtailed: AtomicBool,
    subscribers: Mutex<Arc<Subscribers>>,
    boards: Vec<Board>,
}

impl Stage {
    pub(crate) fn new(workers: u32) -> Stage {
        Stage {
            step: AtomicU32::new(0),
            start_ns: AtomicU64::new(0),
            publishing: AtomicU32::new(0),
            published: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            publisher_lost: AtomicBool::new(false),
            curtailed: AtomicBool::new(false),
            subscribers: Mutex::default(),
            boards: (0..workers).map(|_| Board::default()).collect(),
        }
    }

    pub(crate) fn step(&self) -> Step {
        match self.step.load(Ordering::Acquire) {
            0 => Step::Before,
            STOP => Step::Stop,
            step if step % 2 == 1 => Step::Runs(step / 2),
            step => Step::Over(step / 2 - 1),
        }
    }

    /// Begins a phase in which so many workers publish.
    pub(crate) fn begin(&self, phase: u32, start_ns: u64, publishing: u32, subscribers: Subscribers) {
        self.start_ns.store(start_ns, Ordering::Relaxed);
        self.publishing.store(publishing, Ordering::Relaxed);
        self.published.store(0, Ordering::Relaxed);
        self.expected.store(self.heard(), Ordering::Relaxed);
        *self.subscribers.lock().expect("nobody panics while holding it") = Arc::new(subscribers);
        self.step.store(phase * 2 + 1, Ordering::Release);
    }

    pub(crate) fn end(&self, phase: u32) {
        self.step.store(phase * 2 + 2, Ordering::Release);
    }

    pub(crate) fn stop(&self) {
        self.step.store(STOP, Ordering::Release);
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Relaxed)
    }

    pub(crate) fn subscribers(&self) -> Arc<Subscribers> {
        Arc::clone(&self.subscribers.lock().expect("nobody panics while holding it"))
    }

    /// Adds messages that a worker sent in this phase.
    pub(crate) fn add_published(&self, count: u64) {
        self.published.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Says what will have been heard when all that was published has reached everyone.
    pub(crate) fn set_expected(&self, heard: u64) {
        self.expected.store(heard, Ordering::Relaxed);
    }

    pub(crate) fn expected(&self) -> u64 {
        self.expected.load(Ordering::Relaxed)
    }

    /// Asks all workers for their percentiles, and returns the worst of those they told last: latency and lag, in
    /// nanoseconds.
    pub(crate) fn ask_percentiles(&self) -> (u64, u64) {
        let (mut latency_ns, mut lag_ns) = (0, 0);
        for board in &self.boards {
            board.asked.store(true, Ordering::Relaxed);
            latency_ns = board.latency_p99_ns.load(Ordering::Relaxed).max(latency_ns);
            lag_ns = board.lag_p99_ns.load(Ordering::Relaxed).max(lag_ns);
        }
        (latency_ns, lag_ns)
    }

    /// Says that a worker will send no more in this phase.
    pub(crate) fn end_publishing(&self) {
        let before = self.publishing.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a worker ends its publishing once");
    }

    /// Says whether what is published is final.
    pub(crate) fn publishing_ended(&self) -> bool {
        self.publishing.load(Ordering::Acquire) == 0
    }

    pub(crate) fn lose_publisher(&self) {
        self.publisher_lost.store(true, Ordering::Relaxed);
    }

    pub(crate) fn publisher_lost(&self) -> bool {
        self.publisher_lost.load(Ordering::Relaxed)
    }

    /// Asks all workers to send nothing more in this phase, and to let nobody else come or go.
    pub(crate) fn curtail(&self) {
        self.curtailed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn curtailed(&self) -> bool {
        self.curtailed.load(Ordering::Relaxed)
    }

    pub(crate) fn board(&self, worker: u32) -> &Board {
        &self.boards[worker as usize]
    }

    /// Returns what all workers have heard.
    pub(crate) fn heard(&self) -> u64 {
        self.boards.iter().map(|board| board.heard.load(Ordering::Relaxed)).sum()
    }

    /// Adds up what all workers say of a phase.
    pub(crate) fn sum(&self, phase: u32) -> Sum {
        let mut sum = Sum { begun: true, complete: true, ..Sum::default() };
        for board in &self.boards {
            sum.begun &= board.begun.load(Ordering::Acquire) == phase + 1;
            sum.complete &= board.outstanding.load(Ordering::Acquire) == 0;
            sum.ready += board.ready.load(Ordering::Relaxed);
            sum.failed += board.failed.load(Ordering::Relaxed);
            sum.pending += board.pending.load(Ordering::Relaxed);
            sum.heard += board.heard.load(Ordering::Relaxed);
        }
        sum.complete &= sum.begun;
        sum
    }
}

impl Board {
    /// Says that the worker has begun a phase; what is outstanding is not known yet.
    pub(crate) fn begin(&self, phase: u32, pending: u32) {
        self.outstanding.store(UNKNOWN, Ordering::Relaxed);
        self.pending.store(pending, Ordering::Relaxed);
        self.set_percentiles(0, 0);
        self.begun.store(phase + 1, Ordering::Release);
    }

    /// Says whether somebody wants to know the percentiles, once for each time that was asked.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Relaxed)
    }

    /// Says 99th percentiles of latency and lag.
    pub(crate) fn set_percentiles(&self, latency_p99_ns: u64, lag_p99_ns: u64) {
        self.latency_p99_ns.store(latency_p99_ns, Ordering::Relaxed);
        self.lag_p99_ns.store(lag_p99_ns, Ordering::Relaxed);
    }

    /// Says how many messages may still come.
    pub(crate) fn set_outstanding(&self, count: u64) {
        self.outstanding.store(count.min(UNKNOWN - 1), Ordering::Release);
    }
}
