//! The ledger: what a shard holds besides blocks, and who may hold how much of it.
//!
//! All that peers can make grow is of one budget, `memory`. Blocks are counted by the pool; what else there is, is weighed here, and
//! lessens what the pool hands out:
//!
//! ```text
//!   owner       what                                           share        when it is used up
//!   arriving    blocks, and what busy connections cost         3/8          who holds most for longest is given up
//!   to be sent  blocks: private queues                         -            who does not read is given up
//!   logs        blocks: frame logs                             -            tails go first
//!   histories   blocks; topics that nobody reads               4/8          used longest ago first
//!   tables      topics that are read, subscriptions, names     3/8          whoever subscribes is refused
//!               of these: grants, known verdicts               1/8          verdicts used longest ago go first
//!               of these: how many read topics                 1/8          is not told of topics that nobody reads
//!               of these: producers                            1/8          new ones are refused
//!               of these: who reads topics                     1/8          is not told of
//!               of these: what is wanted                       1/8          is not told of
//!   scratch     what is kept of blocks, queues of a turn       -            bounded by the others
//! ```
//!
//! Histories and tables leave an eighth whatever happens, for what is on its way: so subscribing without end costs no topic its history.
//! A connection may hold no more of the tables than it leaves to others: with most of them used up, it is those with many
//! subscriptions who are refused, and newcomers still have their first ones, unless very many connections have taken theirs before.

use super::Shard;
use super::crossing::Crossing;
use super::memory::pool::Besides;
use super::scratch::bytes_of;
use crate::io::driver::{Completion, Driver, Slot};

/// Turns between two weighings. A turn adds what it is told in half a millisecond: some hundred kilobytes.
const TURNS: u64 = 16;

/// What one more subscription costs, in bytes, names aside: to a topic that is read on this shard already; and to one that is not,
/// with its home, wherever that is.
const KNOWN_BYTES: u64 = 100;
const NEW_BYTES: u64 = 400;

/// What a connection is taken to hold for each of its subscriptions: as many are of topics that others read as are not.
const HELD_BYTES: u64 = 256;

impl Shard {
    /// Weighs what is held besides blocks, every few turns.
    pub(super) fn weigh_sometimes<D: Driver>(&mut self, driver: &D) {
        if self.stats.turns.is_multiple_of(TURNS) {
            self.edge_bytes = driver.bytes_beside() as u64;
            self.weigh();
        }
    }

    /// Weighs what is held besides blocks, which lessens what blocks may take.
    pub(super) fn weigh(&mut self) {
        let besides = self.besides();
        self.store.pool.set_besides(besides);
    }

    /// Returns what is held besides blocks.
    pub(super) fn besides(&self) -> Besides {
        Besides {
            tables: self.topics.bytes()
                + self.homes.bytes()
                + self.reads.bytes()
                + self.journal.bytes()
                + self.occupancy.bytes()
                + self.producers.bytes()
                + self.demand.bytes()
                + self.attendance.bytes()
                + self.presence.bytes()
                + self.trust.bytes(),
            busy: self.slots.actives.bytes() + self.exchanges.bytes() + self.readings.bytes() + self.edge_bytes,
            scratch: self.store.bookkeeping_bytes() + self.scratch_bytes().saturating_sub(self.scratch_at_start),
        }
    }

    /// Says whether the tables have room for one more subscription of a connection, to a topic whose name has so many bytes, or that is
    /// read here already.
    pub(super) fn has_table_room(&self, slot: Slot, new_name: Option<usize>) -> bool {
        let busy = self.slots.actives.used_bytes() + self.exchanges.used_bytes() + self.readings.used_bytes();
        let counted = self.occupancy.used_bytes() + self.producers.used_bytes() + self.demand.used_bytes();
        let counted = counted + self.attendance.used_bytes() + self.presence.used_bytes();
        let used = self.topics.used_bytes() + self.homes.read_bytes() + counted + self.trust.bytes() + busy;
        let left = self.store.pool.tables_max().saturating_sub(used);
        let costs = new_name.map_or(KNOWN_BYTES, |bytes| NEW_BYTES + 2 * bytes as u64);
        let held = u64::from(self.slots.connections[slot as usize].subscriptions) * HELD_BYTES;
        costs + held <= left
    }

    /// Returns the bytes of queues and buffers that grow with what a turn has to do.
    pub(super) fn scratch_bytes(&self) -> u64 {
        let queues = [
            bytes_of(&self.completions),
            bytes_of(&self.slots.ready),
            bytes_of(&self.sending.dirty),
            bytes_of(&self.leaving.connections),
            self.recounts.queue_bytes(),
            self.occupancy.queue_bytes(),
            self.demand.queue_bytes(),
            self.attendance.queue_bytes(),
            self.presence.queue_bytes(),
            self.leaving.topics.iter().map(bytes_of).sum(),
            self.crossings.all.iter().map(Crossing::bytes).sum(),
            self.reaped.capacity() * size_of::<Completion>(),
            self.sending.bytes(),
            self.watch.bytes(),
            self.timers.bytes(),
            self.scratch.bytes(),
            self.values.bytes() + self.shaping.bytes(),
            self.trust.asking.bytes(),
            self.encoder.scratch_bytes(),
        ];
        queues.iter().sum::<usize>() as u64
    }
}
