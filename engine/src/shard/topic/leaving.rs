//! What is left bit by bit: connections with very many subscriptions that end, and topics that have no subscriber any more.

use std::collections::VecDeque;

use crate::io::driver::Slot;
use crate::mesh::Shards;

/// Who leaves.
#[derive(Debug)]
pub(in crate::shard) struct Leaving {
    /// Per home: topics without subscribers, which it is to be told.
    pub(in crate::shard) topics: Vec<VecDeque<u32>>,
    /// The homes for which there are any.
    pub(in crate::shard) homes: Shards,
    /// Connections that have ended, or will be sent nothing more, and had too many subscriptions to end them at once.
    pub(in crate::shard) connections: VecDeque<(Slot, u16)>,
    /// Subscriptions that were ended since they last had their share of a turn.
    pub(in crate::shard) left: usize,
}

impl Leaving {
    /// Makes one that nobody leaves, among so many shards.
    #[must_use]
    pub(in crate::shard) fn new(shards: usize) -> Leaving {
        Leaving {
            topics: (0..shards).map(|_| VecDeque::new()).collect(),
            homes: Shards::default(),
            connections: VecDeque::new(),
            left: 0,
        }
    }

    /// A home is to be told that a topic has no subscriber here.
    pub(in crate::shard) fn leave(&mut self, home: usize, topic: u32) {
        self.topics[home].push_back(topic);
        self.homes.insert(home);
    }
}
