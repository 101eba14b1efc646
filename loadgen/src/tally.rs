//! How many messages each topic has: the numbers that publishers give, and that every subscriber must have seen.
//!
//! Written by whoever publishes to a topic, which is one thread, before the message is on its way; read by all. So who
//! subscribes, and then reads a count, gets every message from that number on.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::plan::{Audience, Plan, Topic};

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    /// By audience and topic.
    counts: [Box<[AtomicU64]>; 3],
}

impl Tally {
    pub(crate) fn new(plan: &Plan) -> Tally {
        let topics = |audience| if plan.audiences().contains(&audience) { plan.topics_of(audience) } else { 0 };
        let counts = |audience| (0..topics(audience)).map(|_| AtomicU64::new(0)).collect();
        Tally { counts: [counts(Audience::All), counts(Audience::Group), counts(Audience::Own)] }
    }

    /// Returns how many messages a topic has.
    #[inline]
    pub(crate) fn published(&self, topic: Topic) -> u64 {
        self.count(topic).load(Ordering::Acquire)
    }

    /// Counts a message, and returns its number.
    pub(crate) fn next(&self, topic: Topic) -> u64 {
        self.count(topic).fetch_add(1, Ordering::Release)
    }

    /// Returns how many messages all topics of an audience have.
    pub(crate) fn published_to(&self, audience: Audience) -> u64 {
        self.counts[audience as usize].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn count(&self, topic: Topic) -> &AtomicU64 {
        &self.counts[topic.audience as usize][topic.number as usize]
    }
}
