//! Ends of connections: politely, at once, and how a slot becomes free.
//!
//! A slot is closed only when nothing is armed on it (teardown is a join), and used again only after the kernel said
//! that it is closed.

use corecast_protocol::ws::{close, frame};

use super::Shard;
use super::connection::{Connection, Kind};
use super::topics::NONE;
use crate::io::driver::{Driver, Slot};

impl Shard {
    /// Ends a WebSocket with a close frame, after what is in its queue.
    pub(super) fn close_websocket<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        if !self.connections[slot as usize].is_websocket() || self.is_closing(slot) {
            return;
        }
        while self.connections[slot as usize].first != NONE {
            let membership = self.connections[slot as usize].first;
            if !self.unsubscribe(driver, slot, membership) {
                self.kill(driver, slot);
                return;
            }
        }
        self.say_bye(driver, slot, code, reason);
        let mut bytes = [0; 131];
        let written = frame::write_close(&mut bytes, code, reason);
        let len = written.expect("the longest close frame has 129 bytes");
        self.push(driver, slot, &bytes[..len]);
        if self.connections[slot as usize].is_websocket() {
            self.active(slot).closing = true;
            // A peer that does not read its farewell has as long as one that does not answer it.
            self.wheel.set(slot, self.tick, self.limits.linger_ms);
            self.make_ready(slot);
        }
    }

    /// Ends a WebSocket or a stream in order.
    pub(super) fn end_subscriber<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        match self.connections[slot as usize].kind {
            Kind::Stream => self.end_stream(driver, slot),
            _ => self.close_websocket(driver, slot, code, reason),
        }
    }

    /// Ends a connection that we have no memory for.
    pub(super) fn shed<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.stats.refused += 1;
        if self.connections[slot as usize].partial == NONE {
            self.close_websocket(driver, slot, close::TRY_AGAIN, "the engine is full");
        }
        if matches!(self.connections[slot as usize].kind, Kind::Http | Kind::Stream)
            || self.connections[slot as usize].partial != NONE
        {
            self.kill(driver, slot);
        }
    }

    /// Says whether our last word is in the queue.
    pub(super) fn is_closing(&self, slot: Slot) -> bool {
        let active = self.connections[slot as usize].active;
        active != NONE && self.actives[active as usize].closing
    }

    /// Everything was said: ends our direction, and waits a moment for the peer to end its own.
    pub(super) fn finish<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.unsubscribe_all(slot);
        self.drop_active(slot);
        let connection = &mut self.connections[slot as usize];
        connection.kind = Kind::Lingering;
        if connection.ended {
            self.kill(driver, slot);
            return;
        }
        driver.finish_sending(slot);
        self.wheel.set(slot, self.tick, self.limits.linger_ms);
        self.rearm(driver, slot);
    }

    /// Ends a connection at once.
    pub(super) fn kill<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let kind = self.connections[slot as usize].kind;
        if matches!(kind, Kind::Free | Kind::Dead | Kind::Closing) {
            return;
        }
        self.unsubscribe_all(slot);
        self.drop_active(slot);
        self.wheel.cancel(slot);
        let connection = &mut self.connections[slot as usize];
        connection.kind = Kind::Dead;
        let generation = connection.generation;
        if let Some(interest) = connection.armed
            && !std::mem::replace(&mut connection.cancelling, true)
        {
            driver.cancel_receive(slot, generation, interest);
        }
        if connection.blocked {
            driver.cancel_writable(slot, generation);
        }
        self.bury(driver, slot);
    }

    /// Closes a dead connection, if the kernel names it no more.
    pub(super) fn bury<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let connection = &mut self.connections[slot as usize];
        if connection.kind == Kind::Dead && connection.armed.is_none() && !connection.blocked {
            connection.kind = Kind::Closing;
            driver.close(slot);
        }
    }

    /// The kernel has closed the slot.
    pub(super) fn closed(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot as usize];
        assert_eq!(connection.kind, Kind::Closing, "only what was to be closed is closed");
        let (generation, ready) = (connection.generation, connection.ready);
        *connection = Connection { generation, ready, ..Connection::free() };
        self.stats.connections -= 1;
    }

    fn drop_active(&mut self, slot: Slot) {
        let index = self.connections[slot as usize].active;
        if index == NONE {
            return;
        }
        let mut active = self.actives.remove(index as usize);
        active.queue.clear(&mut self.store);
        active.carry.clear(&mut self.store);
        active.body.clear(&mut self.store);
        active.plan.clear(&mut self.store);
        active.conditions.clear(&mut self.store);
        self.connections[slot as usize].active = NONE;
    }
}
