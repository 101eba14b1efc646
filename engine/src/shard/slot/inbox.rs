//! The inbox: what a peer sends, handled a slice at a time, and carried over as long as it has to wait.

use crate::io::driver::{Driver, Interest, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::slot::connection::{Active, Life, Waiting};
use crate::shard::slot::keep::Shelf;
use crate::shard::topic::topics::NONE;

/// So many receives between two looks of the timer make a multishot receive cheaper than poll and receive.
pub(in crate::shard) const READS_FOR_MULTISHOT: u8 = 8;

/// Bytes that a connection may have carried over. It is not read any more as soon as it waits with any; but what is in the
/// receive buffers by then still comes, and they may all be this connection's (4,096 of 2 KiB). With less, a peer that sends much
/// at once and has to wait would be shed, where it is only to be read no more.
const CARRY_BYTES_MAX: u32 = 9 << 20;

/// Bytes of what was carried over that are handled at once, to begin with: enough for most heads, and little to copy.
const CARRIED_AT_ONCE: u32 = 4 << 10;

/// The most, if nothing has to wait: beyond that, larger slices cost no less for each byte.
const CARRIED_AT_ONCE_MAX: u32 = 64 << 10;

impl Shard {
    pub(in crate::shard) fn disarmed(&mut self, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        connection.armed = None;
        connection.cancelling = false;
    }

    /// Arms a receive, if none is armed and one is wanted; stops one that is not wanted.
    pub(in crate::shard) fn rearm<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let wanted = self.reads_wanted(slot);
        let watches = self.watches(slot);
        let connection = &mut self.slots.connections[slot as usize];
        match connection.life {
            Life::Free | Life::Closing => return,
            Life::Dead => return self.bury(driver, slot),
            Life::Open | Life::Lingering => {}
        }
        let generation = connection.generation;
        match connection.armed {
            None if wanted => {
                let speaks_first = connection.life == Life::Open && connection.session.traits().speaks_first;
                let interest = match connection.reads {
                    READS_FOR_MULTISHOT.. => Interest::Multishot,
                    // Who has just come is about to say what it wants: LOG says what an order less saves. And who has said more
                    // than its slice says more, a buffer at a time: a multishot receive would take all that it has.
                    0 => Interest::Next,
                    1 if speaks_first && connection.first == NONE => Interest::Next,
                    _ => Interest::Readiness,
                };
                connection.armed = Some(interest);
                driver.receive(slot, generation, interest);
            }
            // Who waits and is not read may go away meanwhile, and its slot would wait for it.
            None if watches => {
                connection.armed = Some(Interest::Ending);
                driver.receive(slot, generation, Interest::Ending);
            }
            Some(interest @ Interest::Multishot) if !wanted && !connection.cancelling => {
                connection.cancelling = true;
                driver.cancel_receive(slot, generation, interest);
            }
            Some(interest @ Interest::Ending) if wanted && !connection.cancelling => {
                connection.cancelling = true;
                driver.cancel_receive(slot, generation, interest);
            }
            _ => {}
        }
    }

    pub(in crate::shard) fn reads_wanted(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        if connection.ended {
            return false;
        }
        connection.active == NONE || {
            let active = &self.slots.actives[connection.active as usize];
            active.waiting == Waiting::No || active.carry.is_empty()
        }
    }

    /// Says whether a connection that is not read may wait for so long that its end has to be watched for.
    fn watches(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        let soon = |active: &Active| matches!(active.waiting, Waiting::No | Waiting::Turn);
        !connection.ended && !connection.ends && !self.slots.actives.get(connection.active as usize).is_none_or(soon)
    }

    pub(in crate::shard) fn received<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) {
        let tick = self.clock.tick;
        let connection = &mut self.slots.connections[slot as usize];
        connection.heard_tick = tick;
        connection.pinged = false;
        connection.reads = connection.reads.saturating_add(1);
        let understands = connection.life == Life::Open && connection.session.traits().understands;
        if !understands || self.slots.is_closing(slot) && !self.slots.is_websocket(slot) {
            return;
        }
        let held = self
            .slots
            .active_if_any(slot)
            .is_some_and(|active| active.waiting != Waiting::No || !active.carry.is_empty());
        if !held {
            self.take(driver, slot, bytes);
            return;
        }
        let active = self.active(slot);
        let (waits, much) = (active.waiting != Waiting::No, active.carry.len() > CARRY_BYTES_MAX);
        if much || !self.keep(driver, slot, Shelf::Carry, bytes) {
            self.shed(driver, slot);
        } else if !waits {
            self.take_carried(driver, slot);
        }
    }

    /// Handles what was carried over, a slice at a time: of a megabyte that a publisher sent ahead, little is copied for each
    /// message that it has to wait for.
    pub(in crate::shard) fn take_carried<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Some(active) = self.slots.active_if_any(slot) else { return };
        if active.carry.is_empty() {
            return;
        }
        // Taken out, so that whatever ends a request on the way does not begin with the same bytes again.
        let mut carry = std::mem::replace(&mut active.carry, Buffer::new(Owner::Inbound));
        let generation = self.slots.connections[slot as usize].generation;
        let start_ns = self.work.spent_ns();
        let mut slice = CARRIED_AT_ONCE;
        loop {
            let span = carry.span();
            let len = span.len.min(slice);
            let mut bytes = std::mem::take(&mut self.scratch.carried);
            bytes.clear();
            bytes.extend_from_slice(driver.memory().bytes(span.part(0, len)));
            let used = self.handle(driver, slot, &mut bytes, start_ns) as u32;
            let begun = !bytes[used as usize..].iter().all(u8::is_ascii_whitespace);
            self.scratch.carried = bytes;
            carry.consume(used);
            let over = !self.slots.is_living(slot, generation)
                || !self.slots.connections[slot as usize].session.traits().understands
                || used == 0 && self.slots.is_closing(slot);
            if over || carry.is_empty() {
                carry.clear(&mut self.store);
                break;
            }
            let waits = self.slots.waits(slot);
            if waits || used == 0 && len == span.len {
                if begun {
                    self.time_head(slot);
                }
                let kept = &mut self.active(slot).carry;
                debug_assert!(kept.is_empty(), "nothing else is carried meanwhile");
                *kept = carry;
                break;
            }
            // A head may be longer than a slice; and whoever need not wait goes on in larger ones.
            slice = if used == 0 { slice.saturating_mul(2) } else { (slice * 2).min(CARRIED_AT_ONCE_MAX) };
        }
        if self.slots.is_living(slot, generation) {
            self.make_ready_or_settle(slot);
        }
    }

    /// Handles bytes in order, until they are used up, or the connection has to wait; what is left is carried over.
    fn take<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) {
        let generation = self.slots.connections[slot as usize].generation;
        let start_ns = self.work.slice_of(slot);
        let at = self.handle(driver, slot, bytes, start_ns);
        if !self.slots.is_living(slot, generation) {
            return;
        }
        if at < bytes.len() && self.slots.connections[slot as usize].session.traits().understands {
            if !bytes[at..].iter().all(u8::is_ascii_whitespace) {
                self.time_head(slot);
            }
            if !self.slots.is_closing(slot) && !self.keep(driver, slot, Shelf::Carry, &bytes[at..]) {
                self.shed(driver, slot);
                return;
            }
        }
        self.make_ready_or_settle(slot);
    }

    /// Handles bytes in order, until they are used up, or the connection, whose slice of the turn began at `start_ns`, has to wait
    /// or is gone; returns how many it used.
    fn handle<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8], start_ns: u64) -> usize {
        let generation = self.slots.connections[slot as usize].generation;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            if self.slots.connections[slot as usize].life != Life::Open
                || !self.slots.connections[slot as usize].session.traits().understands
            {
                break;
            }
            let used = self.understand(driver, slot, rest);
            at += used;
            self.work.spend_on(used);
            let waits = self.slots.waits(slot);
            if used == 0 || waits || !self.slots.is_living(slot, generation) {
                break;
            }
            // Also with nothing left: what it sent besides stands behind what others have sent.
            if self.is_slice_over(driver, start_ns) {
                self.postpone(slot);
                break;
            }
        }
        at
    }

    /// Puts the connection into the sender's queue if it became busy, and notes when a message was begun.
    fn make_ready_or_settle(&mut self, slot: Slot) {
        if self.slots.is_websocket(slot) {
            self.time_message(slot);
        }
        if self.slots.connections[slot as usize].active != NONE {
            self.slots.make_ready(slot);
        }
    }

    /// A message that has begun to come has as long as a body: from its first byte on, whatever else comes meanwhile.
    fn time_message(&mut self, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        let begun = connection.decoder.mid_message()
            || self.slots.actives.get(connection.active as usize).is_some_and(Active::carries_part);
        if !begun {
            connection.opened_tick = 0;
        } else if connection.opened_tick == 0 {
            connection.opened_tick = self.clock.tick;
            self.timers.wheel.set_earlier(slot, self.clock.tick, self.limits.request_ms);
        }
    }

    /// The peer of a connection that is not read has ended its direction, or is gone.
    pub(in crate::shard) fn ends_unread<D: Driver>(&mut self, driver: &mut D, slot: Slot, failed: bool) {
        if failed {
            self.kill(driver, slot);
            return;
        }
        // It is owed what it asked for, and may have said something more before the end: that is read when its turn comes. But a
        // message that has not been published yet is not waited for.
        reach(Mark::EndedUnread);
        self.slots.connections[slot as usize].ends = true;
        self.ends(driver, slot);
    }

    /// The peer ended its direction.
    pub(in crate::shard) fn peer_ended<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.slots.connections[slot as usize].ended = true;
        match self.slots.connections[slot as usize].life {
            Life::Open => self.ended(driver, slot),
            _ => self.kill(driver, slot),
        }
    }
}
