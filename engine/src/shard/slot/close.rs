//! Ends of connections: politely, at once, and how a slot becomes free.
//!
//! A slot is closed only when nothing is armed on it (teardown is a join) and none of its subscriptions is left: of very many, a
//! bounded number ends in a turn. It is used again only after the kernel said that it is closed.

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::{Connection, Life};
use crate::shard::topic::topics::NONE;

impl Shard {
    /// Ends a connection that we have no memory for.
    pub(in crate::shard) fn shed<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        reach(Mark::Shed);
        let Connection { session, partial, .. } = self.slots.connections[slot as usize];
        if partial == NONE && session.traits().is_told_its_end {
            self.refuse_connection(driver, slot, Refusal::Full);
            return;
        }
        self.refused(Refusal::Full);
        self.notice(slot, Refusal::Full, "", Refusal::Full.row().text);
        // In the midst of something there is no word for it.
        if self.slots.connections[slot as usize].life == Life::Open {
            self.kill(driver, slot);
        }
    }

    /// Everything was said: ends our direction, and waits a moment for the peer to end its own.
    pub(in crate::shard) fn finish<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.note_end(slot);
        self.leaves_subject(slot);
        self.depart(slot);
        self.drop_active(slot);
        let connection = &mut self.slots.connections[slot as usize];
        connection.life = Life::Lingering;
        let ended = connection.ended;
        self.recount_kind(slot);
        if ended {
            self.kill(driver, slot);
            return;
        }
        driver.finish_sending(slot);
        self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
        self.rearm(driver, slot);
    }

    /// Ends a connection at once.
    pub(in crate::shard) fn kill<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if matches!(self.slots.connections[slot as usize].life, Life::Free | Life::Dead | Life::Closing) {
            return;
        }
        self.note_end(slot);
        self.leaves_subject(slot);
        self.depart(slot);
        self.drop_active(slot);
        self.timers.wheel.cancel(slot);
        let connection = &mut self.slots.connections[slot as usize];
        connection.life = Life::Dead;
        self.recount_kind(slot);
        let connection = &mut self.slots.connections[slot as usize];
        let generation = connection.generation;
        if let Some(interest) = connection.armed
            && !std::mem::replace(&mut connection.cancelling, true)
        {
            driver.cancel_receive(slot, generation, interest);
        }
        if std::mem::take(&mut connection.retries) {
            connection.blocked = false;
        }
        if connection.blocked {
            driver.cancel_writable(slot, generation);
        }
        self.bury(driver, slot);
    }

    /// Closes a dead connection, if neither the kernel nor a log names it any more.
    pub(in crate::shard) fn bury<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        let named = connection.armed.is_some() || connection.blocked;
        if connection.life == Life::Dead && !named && connection.first == NONE {
            connection.life = Life::Closing;
            driver.close(slot);
        }
    }

    /// The kernel has closed the slot.
    pub(in crate::shard) fn closed(&mut self, slot: Slot) {
        self.discount(slot);
        let connection = &mut self.slots.connections[slot as usize];
        assert_eq!(connection.life, Life::Closing, "only what was to be closed is closed");
        self.trust.grants.release(connection.grant);
        connection.life = Life::Free;
        if !self.slots.meters.is_empty() {
            self.slots.meters.remove(&slot);
        }
        self.recount_kind(slot);
        let connection = &mut self.slots.connections[slot as usize];
        let (generation, ready) = (connection.generation, connection.ready);
        *connection = Connection { generation, ready, ..Connection::free() };
        self.stats.connections -= 1;
    }

    fn drop_active(&mut self, slot: Slot) {
        self.forget_state(slot);
        let index = std::mem::replace(&mut self.slots.connections[slot as usize].active, NONE);
        if let Some(mut active) = self.slots.actives.try_remove(index as usize) {
            active.clear(&mut self.store);
        }
    }
}
