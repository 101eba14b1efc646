//! Meters: how many bytes a second a connection wants to be sent, or a subscription, and what is sent until then.
//!
//! ```text
//!   send ─▶ so many bytes take so long at this speed ─▶ nothing more before that ─▶ then the newest, or a piece of what waits
//! ```
//!
//! What is sent at once is a piece: an eighth of a second's worth, and a message at least, so that a connection's topics take turns. Whoever
//! conflates gets what is the newest when his time has come. Answers to commands are counted, and what the kernel holds is not.
//!
//! Few have a meter: where nobody does, that is one branch.

use std::cmp::Reverse;

use corecast_protocol::cursor::Cursor;
use corecast_protocol::line::{GapReason, Stat};

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::slot::sender::News;
use crate::shard::slot::slots::Meter;
use crate::shard::topic::topics::{AWAY, BEHIND, FALLEN};

/// A second's worth is sent in so many pieces.
const PIECES: u32 = 8;

/// Longest time that a connection waits for what it was sent, in milliseconds: a client that asks for a byte an hour is still told that it lives.
const WAIT_MS_MAX: u64 = 10_000;

/// Subscriptions that are looked at for how a connection is doing, and what each look takes, in nanoseconds.
const LOOKS_MAX: usize = 1024;
const LOOK_NS: u64 = 50;

impl Shard {
    /// Gives a connection so many bytes a second; 0: as many as there are. What its grant allows is the most.
    pub(in crate::shard) fn set_bandwidth<D: Driver>(&mut self, driver: &mut D, slot: Slot, bandwidth: u32) {
        let most = self.trust.grants.get(self.grant_of(slot)).and_then(|interned| interned.grant.limits.bandwidth);
        let bandwidth = match (bandwidth, most) {
            (0, most) => most.unwrap_or(0),
            (wanted, most) => wanted.min(most.unwrap_or(u32::MAX)),
        };
        if bandwidth == 0 {
            self.slots.meters.remove(&slot);
        } else {
            let generation = self.slots.connections[slot as usize].generation;
            let known = self.slots.meters.get(&slot).filter(|meter| meter.generation == generation).copied();
            let meter = known.unwrap_or(Meter { generation, bandwidth, due_ms: 0, waits_for: 0 });
            // What was sent at another speed takes no longer than at this one.
            let due_ms = meter.due_ms.min(self.clock.now_ms + 1000);
            self.slots.meters.insert(slot, Meter { bandwidth, due_ms, ..meter });
            driver.keep_lean(slot);
        }
        self.look_at(slot);
        self.slots.make_ready(slot);
    }

    /// A connection begins to be sent messages, and says how fast, if it does: what its grant allows holds also for who says nothing.
    pub(in crate::shard) fn begin_meter<D: Driver>(&mut self, driver: &mut D, slot: Slot, bandwidth: Option<u32>) {
        if bandwidth.is_some() || !self.trust.grants.is_empty() {
            self.set_bandwidth(driver, slot, bandwidth.unwrap_or(0));
        }
    }

    /// Returns the meter of a connection, if it has one.
    #[must_use]
    pub(in crate::shard) fn meter_of(&self, slot: Slot) -> Option<Meter> {
        if self.slots.meters.is_empty() {
            return None;
        }
        let generation = self.slots.connections[slot as usize].generation;
        self.slots.meters.get(&slot).filter(|meter| meter.generation == generation).copied()
    }

    /// Says whether a connection has been sent as much as it may for now; if so, sees to it that it is looked at in time.
    pub(in crate::shard) fn is_held_back(&mut self, slot: Slot) -> bool {
        let Some(meter) = self.meter_of(slot).filter(|meter| meter.due_ms > self.clock.now_ms) else { return false };
        if self.slots.is_closing(slot) {
            return false;
        }
        reach(Mark::HeldBack);
        if meter.waits_for != meter.due_ms
            && let Some(kept) = self.slots.meters.get_mut(&slot)
        {
            kept.waits_for = meter.due_ms;
            self.timers.metered.push(Reverse((meter.due_ms, slot, meter.generation)));
        }
        true
    }

    /// A connection with a meter, if it is one, was sent so many bytes.
    pub(in crate::shard) fn count_sent(&mut self, slot: Slot, bytes: u32) {
        let Some(mut meter) = self.meter_of(slot) else { return };
        let taken_ms = u64::from(bytes) * 1000 / u64::from(meter.bandwidth);
        let now_ms = self.clock.now_ms;
        meter.due_ms = (meter.due_ms.max(now_ms) + taken_ms).min(now_ms + WAIT_MS_MAX.max(taken_ms.min(WAIT_MS_MAX)));
        self.slots.meters.insert(slot, meter);
    }

    /// Says how a connection is doing.
    pub(in crate::shard) fn stat_of<D: Driver>(&mut self, driver: &D, slot: Slot) -> Stat {
        let connection = &self.slots.connections[slot as usize];
        let queued = self.slots.actives.get(connection.active as usize).map_or(0, |active| active.queue.len());
        let bandwidth = self.meter_of(slot).map_or(0, |meter| meter.bandwidth);
        let mut stat = Stat { waiting: queued.into(), messages: 0, blocked: connection.blocked, bandwidth };
        let mut subscription = connection.first;
        // Of very many the first ones say enough.
        for _ in 0..LOOKS_MAX {
            let Some(place) = self.topics.subscriptions.get(subscription as usize) else { break };
            let log = &self.topics.logs[place.log as usize];
            let subscriber = &log.subscribers[place.index as usize];
            if subscriber.flags & AWAY == 0 {
                stat.waiting += log.chain.bytes_from(&self.store, driver.memory(), subscriber.next);
            }
            stat.messages += subscriber.pending(log.chain.next());
            subscription = place.next;
            self.work.spend(LOOK_NS);
        }
        stat
    }

    /// Connections whose time has come are looked at.
    pub(in crate::shard) fn expire_metered(&mut self) -> bool {
        let mut worked = false;
        while let Some(Reverse((due_ms, slot, generation))) = self.timers.metered.peek().copied() {
            if due_ms > self.clock.now_ms {
                break;
            }
            self.timers.metered.pop();
            if self.slots.connections[slot as usize].generation == generation {
                self.slots.make_ready(slot);
            }
            worked = true;
        }
        worked
    }

    /// Returns how many bytes of a subscription's messages are sent at once; none: as many as there are.
    #[must_use]
    pub(in crate::shard) fn piece_of(&self, slot: Slot, subscription: u32) -> Option<u32> {
        let rate = self.topics.pace(subscription).map_or(0, |pace| pace.speed.rate);
        let bandwidth = self.meter_of(slot).map_or(0, |meter| meter.bandwidth);
        match (rate, bandwidth) {
            (0, 0) => None,
            (0, one) | (one, 0) => Some(one / PIECES),
            (rate, bandwidth) => Some(rate.min(bandwidth) / PIECES),
        }
    }

    /// Says whether more messages wait for a subscription than it wants to wait.
    #[must_use]
    pub(in crate::shard) fn is_queue_over(&self, subscription: u32, pending: u64) -> bool {
        self.topics.pace(subscription).is_some_and(|pace| pace.speed.queue > 0 && pending > u64::from(pace.speed.queue))
    }

    /// Drops the oldest messages that wait for a subscription, but for as many as it wants to wait, and tells of it; says what is to be
    /// sent then. Of a topic with keys nothing is dropped, but the newest of each is next.
    pub(in crate::shard) fn drop_oldest<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> News {
        let Some(queue) = self.topics.pace(subscription).map(|pace| pace.speed.queue) else { return News::Run };
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let table = self.topics.topic(self.topics.logs[index as usize].topic).mode.is_table();
        let log = &mut self.topics.logs[index as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        if subscriber.flags & (AWAY | FALLEN) == AWAY || log.chain.is_empty() {
            self.lag(subscription);
            return self.want_more(slot, subscription);
        }
        if table || self.topics.sides.get(log.side as usize).is_some_and(|side| side.notes) {
            // The newest of each key says all.
            if subscriber.flags & AWAY == 0 {
                return News::Newest;
            }
            self.lag(subscription);
            return self.want_more(slot, subscription);
        }
        let end = log.chain.next();
        let to = log.chain.first().max(end.saturating_sub(queue.into()));
        if subscriber.flags & AWAY == 0 && subscriber.next >= to {
            return News::Run;
        }
        reach(Mark::QueueCut);
        let after = match subscriber.flags & AWAY {
            0 => log.chain.number_before(&self.store, driver.memory(), subscriber.next),
            _ => subscriber.next,
        };
        let before = log.chain.number_before(&self.store, driver.memory(), to);
        let skipped = subscriber.pending(to);
        subscriber.come_back(to);
        if subscriber.flags & BEHIND == 0 {
            subscriber.flags |= BEHIND;
            log.behind += 1;
        }
        let topic = log.topic;
        let epoch = self.topics.topic(topic).epoch;
        self.stats.dropped = self.stats.dropped.wrapping_add(skipped);
        let (from, to) = (Cursor { epoch, seq: after }, Cursor { epoch, seq: before });
        self.subscription_lost(driver, slot, subscription, from, to, skipped, GapReason::Overflow);
        // Its words come first; and some are ended by them.
        if self.slots.connections[slot as usize].is_subscriber() { News::Later } else { News::Ended }
    }
}
