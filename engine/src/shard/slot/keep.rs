//! Keeping what is still arriving, and whose is given up when there is no more memory for it.
//!
//! All of it has one share of the memory. When that is used up somebody has to go, and it is not who comes last: it is who holds
//! much and has been silent for long, for that is what a body that is never ended looks like.

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::slot::connection::Waiting;

/// Where bytes of a connection are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Shelf {
    /// What it sent ahead.
    Carry,
    /// The message or body that is arriving.
    Body,
}

/// Connections given up for one piece at most, and busy ones looked at for each, which takes some 10 µs.
const GIVEN_UP_MAX: usize = 64;
const LOOKS_MAX: usize = 256;
const SEARCH_NS: u64 = 10_000;

impl Shard {
    /// Keeps bytes of a connection; says false if there is no memory for them, not even that of somebody worse.
    #[must_use]
    pub(in crate::shard) fn keep<D: Driver>(&mut self, driver: &mut D, slot: Slot, shelf: Shelf, bytes: &[u8]) -> bool {
        self.active(slot);
        let mut made_way = false;
        for _ in 0..GIVEN_UP_MAX {
            let index = self.slots.connections[slot as usize].active as usize;
            let active = &mut self.slots.actives[index];
            let buffer = match shelf {
                Shelf::Carry => &mut active.carry,
                Shelf::Body => &mut active.body,
            };
            if buffer.push(&mut self.store, driver.memory_mut(), bytes) {
                return true;
            }
            self.work.spend(SEARCH_NS);
            let grown = buffer.len().saturating_add(bytes.len() as u32);
            if !std::mem::replace(&mut made_way, true) && !self.store.pool.has(grown) {
                self.make_way_without_histories(driver, grown);
                continue;
            }
            let Some(worst) = self.worst_holder(slot, bytes.len() as u64) else {
                reach(Mark::NobodyWorse);
                return false;
            };
            reach(Mark::GivenUp);
            tracing::debug!(
                shard = self.index,
                peer = %self.slots.connections[worst as usize].peer(),
                "given up: it holds most of the memory for what is arriving"
            );
            self.give_up(driver, worst);
        }
        false
    }

    /// Finds, of the next busy connections, the one that holds most for longest, if that is more than this one does with `more` bytes.
    fn worst_holder(&mut self, slot: Slot, more: u64) -> Option<Slot> {
        let own = self.held_for(slot, more);
        let mut worst = None;
        let mut most = own;
        let (first, capacity) = (self.keep_from, self.slots.actives.bound());
        for step in 0..capacity.min(LOOKS_MAX) {
            let index = (first + step) % capacity;
            self.keep_from = index + 1;
            let Some(other) = self.slots.actives.get(index).map(|active| active.slot) else { continue };
            let held = self.held_for(other, 0);
            if other != slot && held > most {
                (worst, most) = (Some(other), held);
            }
        }
        worst
    }

    /// Returns what a connection holds of what is arriving, times the ticks since it was heard. Who waits for us is not silent.
    fn held_for(&self, slot: Slot, more: u64) -> u64 {
        let connection = &self.slots.connections[slot as usize];
        let Some(active) = self.slots.actives.get(connection.active as usize) else { return more };
        let silent = match active.waiting {
            Waiting::No => u64::from(self.clock.tick.wrapping_sub(connection.heard_tick)),
            _ => 0,
        };
        (active.inbound_bytes() + self.state_bytes(slot) + more) * (silent + 1)
    }
}
