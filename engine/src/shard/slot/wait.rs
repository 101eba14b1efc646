//! Waiting: what a connection ordered and could not be done at once, and how it goes on.
//!
//! A message that has to wait is kept whole, and what the peer sends behind it is carried over; nothing else of the connection is
//! handled meanwhile, so that its order is kept. Whatever it waited for leads back to [`Shard::go_on`].

use corecast_protocol::cursor::Cursor;

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::crossing::Way;
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::keep::Shelf;
use crate::shard::work::{CROWD, PIECE_NS, SLICE_ALONE_NS, SLICE_NS, SLICE_OF_ROOM_NS};

/// What has to come before something can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Wait {
    /// Room in the ring to a home, on this lane.
    Room(Way),
    /// An answer that is on its way.
    Answer,
    /// A verdict of the authority.
    Verdict,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Outcome {
    /// It is done, or on its way.
    Done,
    /// Nothing was done, and something has to come before.
    Wait(Wait),
    /// Nothing was done, and nothing will be.
    Refused(Refusal),
}

/// What a home says of an order that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Told {
    /// The cursor of the message, or of the newest one of a topic that was cleared; of epoch 0: it is not known any more.
    pub(in crate::shard) cursor: Cursor,
    /// The message had been published before, under this cursor.
    pub(in crate::shard) repeated: bool,
}

impl Told {
    /// Returns the cursor, if it is known.
    pub(in crate::shard) fn known(self) -> Option<Cursor> {
        Some(self.cursor).filter(|cursor| cursor.epoch != 0 || !self.repeated)
    }
}

/// Why somebody may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum MayNot {
    /// It is not known yet whether he may.
    Yet(Wait),
    /// He may not.
    AtAll(Refusal),
}

impl From<MayNot> for Outcome {
    fn from(may_not: MayNot) -> Outcome {
        match may_not {
            MayNot::Yet(wait) => Outcome::Wait(wait),
            MayNot::AtAll(refusal) => Outcome::Refused(refusal),
        }
    }
}

impl Shard {
    /// Makes a connection wait.
    pub(in crate::shard) fn wait(&mut self, slot: Slot, wait: Wait) {
        match wait {
            Wait::Room(way) => self.park(slot, way),
            Wait::Answer => self.active(slot).waiting = Waiting::Answer,
            Wait::Verdict => self.await_verdict(slot),
        }
    }

    /// Keeps a complete message or body until it can be handled.
    pub(in crate::shard) fn stash<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, bytes: &[u8]) {
        self.active(slot);
        let index = self.slots.connections[slot as usize].active as usize;
        let active = &mut self.slots.actives[index];
        active.body.clear(&mut self.store);
        active.text = text;
        active.complete = true;
        if !self.keep(driver, slot, Shelf::Body, bytes) {
            self.shed(driver, slot);
        }
    }

    /// Lets a connection handle what has waited, and then what it received meanwhile.
    pub(in crate::shard) fn go_on<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let generation = self.slots.connections[slot as usize].generation;
        let private_bytes_max = self.limits.private_bytes_max;
        let Some(active) = self.slots.active_if_any(slot) else { return };
        if active.queue.len() > private_bytes_max {
            // Whoever does not read its answers is not given more of them: `drained` comes back here.
            active.waiting = Waiting::Drain;
            self.slots.make_ready(slot);
            return;
        }
        active.waiting = Waiting::No;
        if std::mem::take(&mut active.complete) {
            self.resume(driver, slot);
        }
        if !self.slots.is_living(slot, generation) {
            return;
        }
        if !self.slots.waits(slot) {
            self.take_carried(driver, slot);
        }
        if self.slots.is_living(slot, generation) {
            self.rearm(driver, slot);
            self.slots.make_ready(slot);
        }
    }

    /// Takes the message or body that stands complete out of the connection's body buffer, into the shard's scratch; whoever is done
    /// with it puts it back.
    pub(in crate::shard) fn take_whole<D: Driver>(&mut self, driver: &D, slot: Slot) -> Vec<u8> {
        let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
        let mut bytes = std::mem::take(&mut self.scratch.whole);
        bytes.clear();
        bytes.extend_from_slice(driver.memory().bytes(active.body.span()));
        active.body.clear(&mut self.store);
        bytes
    }

    /// Says whether a connection that began at `start_ns` has to let others go first now.
    pub(in crate::shard) fn is_slice_over<D: Driver>(&mut self, driver: &mut D, start_ns: u64) -> bool {
        let slice_ns = match self.crossings.unparking {
            Some(_) => SLICE_OF_ROOM_NS,
            None if self.postponed.is_empty() => SLICE_ALONE_NS,
            None => SLICE_NS,
        };
        self.work.spent_ns() - start_ns >= slice_ns || self.work.is_over(driver)
    }

    /// Makes a connection go on in its next turn.
    pub(in crate::shard) fn postpone(&mut self, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        let generation = connection.generation;
        if self.postponed.len() >= CROWD {
            // It is read a buffer at a time, until it has less to say.
            connection.reads = 0;
        }
        self.active(slot).waiting = Waiting::Turn;
        self.postponed.push_back((slot, generation));
        reach(Mark::Postponed);
        self.stats.postponed += 1;
    }

    /// Lets connections go on whose turn has come, for at most half of the phase: what the kernel says is heard as well.
    pub(in crate::shard) fn go_on_in_turn<D: Driver>(&mut self, driver: &mut D) {
        while !self.work.is_half_over(driver) {
            let Some((slot, generation)) = self.postponed.pop_front() else { break };
            self.work.spend(PIECE_NS);
            if self.slots.is_living(slot, generation) {
                self.go_on(driver, slot);
            }
        }
    }
}
