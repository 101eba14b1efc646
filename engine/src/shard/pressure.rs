//! Pressure: what gives way when a message finds no memory, and what goes back to the kernel when there is more than enough.

use std::collections::VecDeque;

use super::Shard;
use super::memory::wheel::TICK_MS;
use super::slot::connection::Waiting;
use super::topic::home::FORGOTTEN_MAX;
use super::topic::topics::NONE;
use crate::io::driver::{Driver, Slot};

/// Logs, and busy connections, looked at for one that can give memory back: some microseconds each.
const LOGS_LOOKED_AT: usize = 256;
const CONNECTIONS_LOOKED_AT: usize = 64;
const SEARCH_NS: u64 = 5_000;

/// Ticks after which who neither sends nor reads holds memory for nothing: about a second.
const SILENT_TICKS: u64 = 8;

/// Regions of block memory given back in one tick, 64 KiB each: half a millisecond.
const REGIONS_A_TICK: usize = 32;

/// A queue of a turn that once was longer is made so long again when it is empty.
const QUEUE_MAX: usize = 4096;

impl Shard {
    /// Makes way for so many bytes in a row, as far as that is possible. What is given up first, those can best do without who have it:
    ///
    /// 1. frames that nobody but laggards still reads: these go on from the history, or are told what they lost;
    /// 2. what waits to be sent to who does not read, and what is arriving of who does not go on: their connections end;
    /// 3. histories, the one used longest ago first, but not for what finds no room even then.
    pub(super) fn make_way<D: Driver>(&mut self, driver: &mut D, bytes: u32, spared: u32) {
        self.make_way_without_histories(driver, bytes);
        for _ in 0..FORGOTTEN_MAX {
            let pool = &mut self.store.pool;
            if pool.has(bytes) || !pool.could_take(bytes) || !self.homes.make_room(&mut self.store, spared) {
                return;
            }
        }
    }

    /// The same without the last step, for what is still arriving: nothing that is remembered is forgotten for that.
    pub(in crate::shard) fn make_way_without_histories<D: Driver>(&mut self, driver: &mut D, bytes: u32) {
        let (mut tails, mut holders) = (true, true);
        while !self.store.pool.has(bytes) && (tails || holders) {
            tails = tails && self.cut_a_tail(driver);
            if !tails {
                holders = holders && self.give_up_a_holder();
            }
        }
    }

    /// Cuts a log that nobody but laggards still reads; says whether there was one among the next.
    fn cut_a_tail<D: Driver>(&mut self, driver: &mut D) -> bool {
        self.work.spend(SEARCH_NS);
        let bound = self.topics.logs.bound();
        for _ in 0..bound.min(LOGS_LOOKED_AT) {
            self.cut_from = (self.cut_from + 1) % bound;
            let Some(log) = self.topics.logs.get(self.cut_from) else { continue };
            // Whom the walk has still to visit may be healthy.
            if log.topic == NONE || log.behind == 0 || log.pending > 0 || log.chain.bytes() == 0 {
                continue;
            }
            // The newest block stays, unless it is all there is.
            let newest = log.chain.newest_block_first(&self.store);
            let next = if newest > log.chain.first() { newest } else { log.chain.next() };
            let index = self.cut_from as u32;
            self.let_fall(driver, index, next);
            self.topics.logs[index as usize].chain.forget_before(&mut self.store, driver.memory(), next);
            self.topics.trim_side(index, &mut self.store, driver.memory());
            return true;
        }
        false
    }

    /// Takes what a connection holds for nothing, of those looked at next; says whether any does. Its end is told later: now, somebody
    /// may be counting on its subscriptions.
    fn give_up_a_holder(&mut self) -> bool {
        self.work.spend(SEARCH_NS);
        let bound = self.slots.actives.bound();
        let mut worst: Option<(u64, Slot, bool)> = None;
        for _ in 0..bound.min(CONNECTIONS_LOOKED_AT) {
            self.keep_from = (self.keep_from + 1) % bound;
            let Some(active) = self.slots.actives.get(self.keep_from) else { continue };
            let connection = &self.slots.connections[active.slot as usize];
            let ticks_since = |tick: u32| u64::from(self.clock.tick.wrapping_sub(tick));
            let unread_ticks = if connection.blocked { ticks_since(connection.sent_tick) } else { 0 };
            let silent_ticks = if active.waiting == Waiting::No { ticks_since(connection.heard_tick) } else { 0 };
            for (held, ticks, unread) in [
                (u64::from(active.queue.block_bytes()), unread_ticks, true),
                (active.inbound_bytes(), silent_ticks, false),
            ] {
                let weight = held * ticks;
                if ticks >= SILENT_TICKS && weight > worst.map_or(0, |(most, ..)| most) {
                    worst = Some((weight, active.slot, unread));
                }
            }
        }
        let Some((_, slot, unread)) = worst else { return false };
        let generation = self.slots.connections[slot as usize].generation;
        let Some(active) = self.slots.active_if_any(slot) else { return false };
        if unread {
            active.queue.clear(&mut self.store);
            self.sending.condemned.push((slot, generation));
        } else {
            active.body.clear(&mut self.store);
            active.carry.clear(&mut self.store);
            self.sending.given_up.push((slot, generation));
        }
        true
    }

    /// Tells connections whose unfinished messages were given up that there was no room for them.
    pub(super) fn tell_given_up<D: Driver>(&mut self, driver: &mut D) {
        while let Some((slot, generation)) = self.sending.given_up.pop() {
            if self.slots.is_living(slot, generation) && self.slots.active_if_any(slot).is_some() {
                self.give_up(driver, slot);
            }
        }
    }

    /// Gives memory that nobody has used for a while back to the kernel, a little in each tick.
    pub(super) fn give_back<D: Driver>(&mut self, driver: &mut D) {
        if self.gave_back_tick == self.clock.tick {
            return;
        }
        self.gave_back_tick = self.clock.tick;
        let mut looks = if self.store.pool.has_looks() { self.store.pool.looks_a_tick() } else { 0 };
        for _ in 0..REGIONS_A_TICK {
            let Some(span) = self.store.pool.next_unused(&mut looks) else { break };
            driver.memory_mut().discard(span);
        }
        shrink(&mut self.slots.ready);
        shrink(&mut self.sending.dirty);
    }

    /// Returns when memory is to be given back next, if there may be any, in microseconds.
    pub(super) fn gives_back_us(&self) -> Option<u64> {
        self.store.pool.has_looks().then(|| u64::from(self.clock.tick) * TICK_MS * 1000)
    }
}

/// Gives back what an empty queue kept of a peak.
fn shrink<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > 2 * QUEUE_MAX {
        queue.shrink_to(QUEUE_MAX);
    }
}
