//! Topics whose homes are to be told how many read them here: those whose readers have become more or fewer, by home.
//!
//! Owns: which, and how far the look at all topics has come after the rules have changed. Never: a number; how many there are is
//! counted when there is room to tell it.

use std::collections::VecDeque;

use crate::mesh::Shards;
use crate::shard::scratch::bytes_of;

/// Those that are to be told.
#[derive(Debug)]
pub(in crate::shard) struct Recounts {
    /// Per home: topics, as number and generation.
    topics: Vec<VecDeque<(u32, u32)>>,
    /// The homes for which there are any.
    pub(in crate::shard) homes: Shards,
    /// What is looked at next, if all are to be looked at.
    pub(in crate::shard) look: Option<usize>,
}

impl Recounts {
    /// Makes one without any, among so many shards.
    #[must_use]
    pub(in crate::shard) fn new(shards: usize) -> Recounts {
        Recounts { topics: (0..shards).map(|_| VecDeque::new()).collect(), homes: Shards::default(), look: None }
    }

    /// Says whether there is nothing to tell and nothing to look at.
    #[must_use]
    pub(in crate::shard) fn is_idle(&self) -> bool {
        self.homes.is_empty() && self.look.is_none()
    }

    /// Returns the bytes of memory that its queues hold.
    #[must_use]
    pub(in crate::shard) fn queue_bytes(&self) -> usize {
        self.topics.iter().map(bytes_of).sum()
    }

    /// Returns how many stand there, for checks.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.topics.iter().map(VecDeque::len).sum()
    }

    /// All are to be looked at, from the first on: other rules hold.
    pub(in crate::shard) fn look_at_all(&mut self) {
        self.look = Some(0);
    }

    /// A home is to be told of a topic.
    pub(in crate::shard) fn add(&mut self, home: usize, topic: u32, generation: u32) {
        self.topics[home].push_back((topic, generation));
        self.homes.insert(home);
    }

    /// A home is to be told of a topic before others.
    pub(in crate::shard) fn put_back(&mut self, home: usize, topic: u32, generation: u32) {
        self.topics[home].push_front((topic, generation));
    }

    /// Takes the next topic that a home is to be told of.
    pub(in crate::shard) fn next(&mut self, home: usize) -> Option<(u32, u32)> {
        self.topics[home].pop_front()
    }

    /// Says whether a home is to be told of more.
    #[must_use]
    pub(in crate::shard) fn has_more(&self, home: usize) -> bool {
        !self.topics[home].is_empty()
    }
}
