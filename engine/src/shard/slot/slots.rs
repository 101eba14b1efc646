//! All connections of a shard, by slot: what each costs, what the busy ones cost on top, and who has something to send.

use std::collections::{HashMap, VecDeque};

use crate::io::driver::Slot;
use crate::shard::carrier::Carrier;
use crate::shard::memory::slab::Slab;
use crate::shard::slot::connection::{Active, Connection, Life, Waiting};
use crate::shard::topic::topics::NONE;

/// How fast one connection is.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Meter {
    pub(in crate::shard) generation: u16,
    /// Bytes a second.
    pub(in crate::shard) bandwidth: u32,
    /// When more may be sent, in milliseconds.
    pub(in crate::shard) due_ms: u64,
    /// The time for which it stands among those that wait for theirs.
    pub(in crate::shard) waits_for: u64,
}

/// The connections.
#[derive(Debug)]
pub(in crate::shard) struct Slots {
    /// By slot.
    pub(in crate::shard) connections: Vec<Connection>,
    /// What the busy ones cost on top.
    pub(in crate::shard) actives: Slab<Active>,
    /// Those with something to send that the walk does not send.
    pub(in crate::shard) ready: VecDeque<Slot>,
    /// How fast those are that say so.
    pub(in crate::shard) meters: HashMap<Slot, Meter>,
}

impl Slots {
    /// Makes none, with room for so many.
    #[must_use]
    pub(in crate::shard) fn new(slots_max: u32) -> Slots {
        // Reserved, not touched: growing by doubling would copy hundreds of megabytes in one turn.
        let connections = Vec::with_capacity(slots_max as usize);
        Slots { connections, actives: Slab::new(), ready: VecDeque::new(), meters: HashMap::new() }
    }

    /// Returns the connection's `Active`, if it has one.
    pub(in crate::shard) fn active_if_any(&mut self, slot: Slot) -> Option<&mut Active> {
        self.actives.get_mut(self.connections[slot as usize].active as usize)
    }

    /// Says whether a connection is open, in this life of its slot.
    #[must_use]
    pub(in crate::shard) fn is_living(&self, slot: Slot, generation: u16) -> bool {
        self.connections
            .get(slot as usize)
            .is_some_and(|connection| connection.generation == generation && connection.life == Life::Open)
    }

    /// Says whether it is a WebSocket in use.
    #[must_use]
    pub(in crate::shard) fn is_websocket(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        connection.life == Life::Open && connection.session.traits().carrier == Carrier::WebSocket
    }

    /// Says whether our last word is in the queue.
    #[must_use]
    pub(in crate::shard) fn is_closing(&self, slot: Slot) -> bool {
        let active = self.connections[slot as usize].active;
        active != NONE && self.actives[active as usize].closing
    }

    /// Says whether a connection waits for something.
    #[must_use]
    pub(in crate::shard) fn waits(&self, slot: Slot) -> bool {
        let active = self.actives.get(self.connections[slot as usize].active as usize);
        active.is_some_and(|active| active.waiting != Waiting::No)
    }

    /// Puts the connection into the queue of those with something to send.
    pub(in crate::shard) fn make_ready(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot as usize];
        if !std::mem::replace(&mut connection.ready, true) {
            self.ready.push_back(slot);
        }
    }
}
