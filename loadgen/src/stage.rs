//! What the threads of a run share: the phase, and a few counts. Everything else goes through channels.
//!
//! The atomics need no order among each other but one: what the coordinator writes before a phase (start time,
//! audience) must be seen by whoever sees the phase. `set_phase` releases, `phase` acquires.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are made.
    Ramp,
    /// Messages are sent, and then waited for.
    Run,
    /// Workers report and end.
    Stop,
}

/// A count of one worker's, on a cache line of its own: another core reads it while it changes.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Stage {
    phase: AtomicU8,
    start_ns: AtomicU64,
    published: AtomicU64,
    /// Workers that may still send messages.
    publishing: AtomicU32,
    delivered: Vec<Count>,
    audience: OnceLock<Vec<u32>>,
}

impl Stage {
    pub(crate) fn new(workers: u32, publishing: u32) -> Stage {
        Stage {
            phase: AtomicU8::new(Phase::Ramp as u8),
            start_ns: AtomicU64::new(0),
            published: AtomicU64::new(0),
            publishing: AtomicU32::new(publishing),
            delivered: (0..workers).map(|_| Count::default()).collect(),
            audience: OnceLock::new(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Ramp,
            1 => Phase::Run,
            _ => Phase::Stop,
        }
    }

    /// Starts the run at a time, for so many subscribers per topic.
    pub(crate) fn run(&self, start_ns: u64, audience: Vec<u32>) {
        self.start_ns.store(start_ns, Ordering::Relaxed);
        self.audience.set(audience).expect("a run starts once");
        self.phase.store(Phase::Run as u8, Ordering::Release);
    }

    pub(crate) fn stop(&self) {
        self.phase.store(Phase::Stop as u8, Ordering::Release);
    }

    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns.load(Ordering::Relaxed)
    }

    pub(crate) fn audience(&self) -> &[u32] {
        self.audience.get().map_or(&[], Vec::as_slice)
    }

    /// Adds messages that a worker sent.
    pub(crate) fn add_published(&self, count: u64) {
        self.published.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Says that a worker will send no more; its `add_published` came before.
    pub(crate) fn end_publishing(&self) {
        let before = self.publishing.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a worker ends its publishing once");
    }

    /// Says whether `published` is final.
    pub(crate) fn publishing_ended(&self) -> bool {
        self.publishing.load(Ordering::Acquire) == 0
    }

    pub(crate) fn set_delivered(&self, worker: u32, count: u64) {
        self.delivered[worker as usize].0.store(count, Ordering::Relaxed);
    }

    /// Returns the deliveries that all workers have counted.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.iter().map(|count| count.0.load(Ordering::Relaxed)).sum()
    }
}
