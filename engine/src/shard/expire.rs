//! Time: heads that do not come, peers that fall silent, subscribers with a pace, draining.

use super::Shard;
use super::drain::Drain;
use super::slot::connection::Life;
use super::topic::topics::Pace;
use crate::io::driver::{Driver, Interest, Slot};
use crate::reach::{Mark, reach};

/// Timers looked at in one turn.
const TIMERS_PER_TURN: usize = 512;

/// Subscribers whose time has come that are looked at in one turn.
const PACES_PER_TURN: usize = 4096;

/// Slots looked at in one turn while draining.
const DRAINED_PER_TURN: u32 = 1024;

/// Homes whose history is looked through for old messages in one turn with timers due.
const HOMES_PER_LOOK: usize = 16;

impl Shard {
    /// Does what is due; says whether anything was.
    pub(super) fn expire<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = self.expire_paced() | self.expire_metered();
        worked |= self.retry();
        if self.trust.asking.next_deadline().is_some() {
            worked |= self.expire_verdicts(driver);
        }
        let mut due = std::mem::take(&mut self.timers.due);
        let more = self.timers.wheel.expire(self.clock.tick, TIMERS_PER_TURN, &mut due);
        worked |= more || !due.is_empty();
        for slot in due.drain(..) {
            self.expire_connection(driver, slot);
        }
        self.timers.due = due;
        if worked {
            self.journal.forget_left(self.clock.now_ms);
            let memory = driver.memory_mut();
            self.homes.forget_old(&mut self.store, memory, &self.limits, self.clock.now_ms, HOMES_PER_LOOK);
            self.producers.forget_old(self.limits.producer_ms, self.clock.now_ms, HOMES_PER_LOOK);
        }
        if self.accepting.again_us().is_some_and(|again_us| self.clock.now_us >= again_us) {
            self.accept_again(driver);
            worked = true;
        }
        worked |= self.drain_some(driver);
        self.tell_left_out();
        worked
    }

    fn expire_connection<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.slots.connections[slot as usize].life {
            Life::Free | Life::Dead | Life::Closing => {}
            Life::Lingering => self.kill(driver, slot),
            Life::Open => self.due(driver, slot),
        }
    }

    /// Who does not read what is left for it is given up; who does gets all of it.
    pub(super) fn expire_farewell<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let linger_ms = self.limits.linger_ms;
        if self.slots.active_if_any(slot).is_some_and(|active| active.is_read_in(linger_ms)) {
            self.timers.wheel.set(slot, self.clock.tick, linger_ms);
        } else {
            self.kill(driver, slot);
        }
    }

    /// Adds up to an eighth, so that what was started together does not stay together.
    pub(super) fn with_jitter(&mut self, ms: u64) -> u64 {
        ms + super::random::random(&mut self.random) % (ms / 8 + 1)
    }

    /// A connection with little to say gives its multishot receive back: that costs the kernel three times as much.
    pub(super) fn choose_receive<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        let quiet = connection.reads < super::slot::inbox::READS_FOR_MULTISHOT;
        connection.reads = 0;
        if quiet && connection.armed == Some(Interest::Multishot) && !connection.cancelling {
            connection.cancelling = true;
            driver.cancel_receive(slot, connection.generation, Interest::Multishot);
        }
    }

    /// Connections that could not be sent to, and that nobody says have room, may be tried again.
    fn retry(&mut self) -> bool {
        let mut worked = false;
        while let Some(std::cmp::Reverse((due_us, slot, generation))) = self.timers.retrying.peek().copied() {
            if due_us > self.clock.now_us {
                break;
            }
            self.timers.retrying.pop();
            let connection = &mut self.slots.connections[slot as usize];
            if connection.generation == generation && std::mem::take(&mut connection.retries) {
                reach(Mark::TriedAgain);
                connection.blocked = false;
                self.slots.make_ready(slot);
            }
            worked = true;
        }
        worked
    }

    fn expire_paced(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..PACES_PER_TURN {
            let Some(std::cmp::Reverse((due_ms, subscription))) = self.timers.paced.peek().copied() else { break };
            if due_ms > self.clock.now_ms {
                break;
            }
            self.timers.paced.pop();
            worked = true;
            // The subscription may be another one by now: then its connection is looked at for nothing.
            if let Some(place) = self.topics.subscriptions.get(subscription as usize) {
                let slot = place.slot;
                let hour = |pace: &Pace| pace.waits_for == due_ms && pace.speed.every_ms >= 3_600_000;
                reach(if self.topics.pace(subscription).is_some_and(hour) { Mark::HourOver } else { Mark::PaceOver });
                self.has_news(slot, subscription);
                self.slots.make_ready(slot);
            }
        }
        worked
    }

    /// Starts to finish: every connection is told, politely, one after the other within so many microseconds. Who is not told yet is served as before,
    /// and who comes new is refused; once all are told nobody is accepted any more.
    pub fn drain<D: Driver>(&mut self, driver: &mut D, within_us: u64) {
        if self.drain.is_some() {
            return;
        }
        let mut drain = Drain::new(driver.now_us(), within_us, self.stats.connections);
        // Whoever comes once histories are handed over is the next engine's.
        drain.closed = self.frozen || within_us == 0;
        if drain.closed {
            driver.stop_accepting();
        }
        self.drain = Some(drain);
    }

    /// Says whether the shard was asked to finish.
    #[must_use]
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Says whether a connection was told that the engine ends.
    #[must_use]
    pub(super) fn is_leaving(&self, slot: Slot) -> bool {
        self.drain.is_some_and(|drain| slot < drain.next)
    }

    /// Says whether a shard that was asked to finish has no connection left.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.drain.is_some_and(|drain| drain.closed) && self.stats.connections == 0
    }

    /// Returns when the next one is to be told that the engine ends.
    pub(super) fn drains_us(&self) -> Option<u64> {
        let drain = self.drain.filter(|drain| (drain.next as usize) < self.slots.connections.len())?;
        Some(drain.looks_us(self.clock.now_us))
    }

    fn drain_some<D: Driver>(&mut self, driver: &mut D) -> bool {
        let Some(mut drain) = self.drain else { return false };
        let slots = self.slots.connections.len() as u32;
        let mut due = drain.due(self.clock.now_us);
        let end = slots.min(drain.next.saturating_add(DRAINED_PER_TURN));
        let worked = drain.next < end && due > 0;
        while drain.next < end && due > 0 {
            let slot = drain.next;
            drain.next += 1;
            // What is refused already is on its way out.
            if self.slots.connections[slot as usize].life == Life::Open && !self.slots.is_closing(slot) {
                drain.told += 1;
                due -= 1;
                self.drain = Some(drain);
                self.farewell(driver, slot);
            }
        }
        if drain.next >= slots && !std::mem::replace(&mut drain.closed, true) {
            driver.stop_accepting();
        }
        self.drain = Some(drain);
        worked
    }
}
