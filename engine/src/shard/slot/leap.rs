//! Leaping: what a subscriber is sent that skips messages, where these are of many keys, or changes of what was before.
//!
//! ```text
//!   log    a=1   b=1   a=2   a=3   c=1   b=2          from here to the newest of each key
//!          ✗     ✗     ✗     a=3   c=1   b=2          as it stands in the log; of changes one that is made of all that it skips,
//!                                                     once for all who leap from the same place
//! ```
//!
//! Nothing that is the newest of its key is ever skipped, and what was deleted is told.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use corecast_protocol::cursor::Cursor;
use corecast_protocol::message::{Message, Op};

use crate::io::driver::{Driver, Slot};
use crate::mesh::Content;
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::dialect::encode::Effort;
use crate::shard::topic::home::Taken;
use crate::shard::topic::side::{Leap, Noted};
use crate::shard::topic::topics::AWAY;

/// Bytes of frames that one leap of whole values takes, about; those of changes are one leap, whatever they take.
const LEAP_BYTES: u32 = 64 << 10;

/// By the hash of a key, the first and the last position of its messages.
type Keys = HashMap<u64, (u64, u64), BuildHasherDefault<Taken>>;

impl Shard {
    /// Queues the newest message of each key that a subscriber has coming; says false if the connection goes on otherwise.
    pub(in crate::shard) fn leap<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let log = &self.topics.logs[index as usize];
        let (subscriber, to) = (log.subscribers[place.index as usize], log.chain.next());
        if subscriber.flags & AWAY != 0 {
            return self.leap_to_newest(driver, slot, subscription);
        }
        let from = subscriber.next;
        let side = &self.topics.sides[log.side as usize];
        let noted = |position| {
            let number = log.chain.number(&self.store, driver.memory(), position);
            side.noted(&self.store, driver.memory(), number)
        };
        if noted(from).is_none() {
            // Of what came first nothing is known: everything is sent.
            return self.queue_all(driver, slot, subscription);
        }
        reach(Mark::Leapt);
        let mut keys = Keys::default();
        // What is before a deletion of everything is none of anybody's business any more.
        let mut begin = from;
        for position in from..to {
            let Some(Noted { hash, .. }) = noted(position) else { continue };
            if self.is_end_of_all(driver, index, position) {
                keys.clear();
                begin = position;
            }
            keys.entry(hash).and_modify(|(_, last)| *last = position).or_insert((position, position));
        }
        self.work.spend((to - from) * 40);
        let deltas = side.deltas;
        if deltas {
            return self.leap_of_changes(driver, slot, subscription, (from, begin, to), &keys);
        }
        let is_newest = |shard: &Shard, driver: &D, position| {
            let log = &shard.topics.logs[index as usize];
            let number = log.chain.number(&shard.store, driver.memory(), position);
            let noted = shard.topics.sides[log.side as usize].noted(&shard.store, driver.memory(), number);
            noted.is_none_or(|noted| keys.get(&noted.hash).is_none_or(|(_, last)| *last == position))
        };
        let (mut position, mut bytes, mut skipped) = (from, 0, 0);
        while position < to && bytes < LEAP_BYTES {
            if position < begin || !is_newest(self, driver, position) {
                skipped += 1;
            } else {
                let frame = self.topics.logs[index as usize].chain.record(&self.store, driver.memory(), position);
                if !self.queue_span(driver, slot, frame) {
                    self.shed(driver, slot);
                    return false;
                }
                bytes += frame.len;
            }
            position += 1;
        }
        self.leapt(slot, subscription, position, skipped, bytes);
        true
    }

    /// Says whether the message at a position of a log deletes all that was before. Only messages without a key may.
    fn is_end_of_all<D: Driver>(&self, driver: &D, log: u32, position: u64) -> bool {
        let log = &self.topics.logs[log as usize];
        let number = log.chain.number(&self.store, driver.memory(), position);
        let side = &self.topics.sides[log.side as usize];
        side.noted(&self.store, driver.memory(), number).is_some_and(|noted| noted.ends_all)
    }

    /// Queues one change for each key: from what the subscriber has to what is there now.
    fn leap_of_changes<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        (from, begin, to): (u64, u64, u64),
        keys: &Keys,
    ) -> bool {
        let index = self.topics.subscriptions[subscription as usize].log;
        let side = self.topics.logs[index as usize].side;
        let known = self.topics.sides[side as usize].leap.take().filter(|leap| (leap.from, leap.to) == (from, to));
        let leap = match known {
            Some(leap) => {
                reach(Mark::LeapShared);
                leap
            }
            None => Box::new(self.make_leap(driver, index, (from, begin, to), keys)),
        };
        let queued = self.push_frames(driver, slot, &leap.frames);
        let (skipped, bytes) = (to - from - leap.count, leap.frames.len() as u32);
        self.topics.sides[side as usize].leap = Some(leap);
        if !queued {
            self.shed(driver, slot);
            return false;
        }
        self.leapt(slot, subscription, to, skipped, bytes);
        true
    }

    /// Makes the frames of a leap.
    fn make_leap<D: Driver>(
        &mut self,
        driver: &D,
        index: u32,
        (from, begin, to): (u64, u64, u64),
        keys: &Keys,
    ) -> Leap {
        let mut leap = Leap { from, to, frames: Vec::new(), count: 0 };
        let mut shaping = std::mem::take(&mut self.shaping);
        let log = &self.topics.logs[index as usize];
        let topic = self.topics.topic(log.topic);
        let side = &self.topics.sides[log.side as usize];
        let memory = driver.memory();
        let noted = |position| side.noted(&self.store, memory, log.chain.number(&self.store, memory, position));
        for position in begin..to {
            let Some(Noted { hash, whole: Some(whole), .. }) = noted(position) else { continue };
            let Some((first, last)) = keys.get(&hash).copied().filter(|(_, last)| *last == position) else { continue };
            let before = noted(first).and_then(|noted| noted.before).filter(|_| begin == from);
            // Who had nothing, and is to have nothing, is told nothing.
            let change = match before {
                Some(before) if whole.op == Op::Put => shaping.diff(before, whole.payload),
                _ => None,
            };
            let content = match change {
                Some(b"{}") => continue,
                Some(change) => Content { payload: change, text: true, op: Op::Merge, ..whole },
                None => whole,
            };
            debug_assert!(first <= last);
            let named = if log.dialect.names_topics() { self.topics.name(log.topic).text } else { "" };
            let cursor = Cursor { epoch: topic.epoch, seq: log.chain.number(&self.store, memory, position) };
            let message = message_of(named, cursor, content);
            let len = self.encoder.measure(log.dialect, &message, Effort::None);
            let at = leap.frames.len();
            leap.frames.resize(at + len, 0);
            self.encoder.write(log.dialect, &message, &mut leap.frames[at..]);
            leap.count += 1;
            self.work.spend(self.encoder.cost_ns);
        }
        self.shaping = shaping;
        leap
    }

    /// A subscriber has been sent what it had coming before a position, but for what it skipped.
    fn leapt(&mut self, slot: Slot, subscription: u32, position: u64, skipped: u64, bytes: u32) {
        self.pass_run(subscription, position);
        // Those it skipped were not delivered.
        self.stats.delivered = self.stats.delivered.wrapping_sub(skipped);
        self.stats.conflated = self.stats.conflated.wrapping_add(skipped);
        let index = self.topics.subscriptions[subscription as usize].log;
        self.lengthen(slot, index, bytes.into());
        self.slots.connections[slot as usize].cursor_due = true;
        self.topics.sent_in_pace(subscription, self.clock.now_ms, bytes);
        if position < self.topics.logs[index as usize].chain.next() {
            self.has_news(slot, subscription);
            self.slots.make_ready(slot);
        }
    }

    /// Queues the newest message, whole, for one who has fallen off the tail of its log, which is of one value.
    fn leap_to_newest<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let log = &self.topics.logs[place.log as usize];
        let to = log.chain.next() - 1;
        let skipped = log.subscribers[place.index as usize].pending(to);
        let number = log.chain.number(&self.store, driver.memory(), to);
        let side = &self.topics.sides[log.side as usize];
        let Some(whole) = side.noted(&self.store, driver.memory(), number).and_then(|noted| noted.whole) else {
            // It is not known: its home knows.
            self.lag(subscription);
            self.slots.make_ready(slot);
            return true;
        };
        let epoch = self.topics.topic(log.topic).epoch;
        let topic = if log.dialect.names_topics() { self.topics.name(log.topic).text } else { "" };
        let cursor = Cursor { epoch, seq: number };
        let message = message_of(topic, cursor, whole);
        let len = self.encoder.measure(log.dialect, &message, Effort::None);
        let mut frame = vec![0; len];
        self.encoder.write(log.dialect, &message, &mut frame);
        if !self.push_frames(driver, slot, &frame) {
            self.shed(driver, slot);
            return false;
        }
        self.topics.subscriber_mut(subscription).come_back(to);
        self.leapt(slot, subscription, to + 1, 0, frame.len() as u32);
        self.stats.conflated = self.stats.conflated.wrapping_add(skipped);
        true
    }

    /// Puts frames into a connection's queue; says false if there is no memory.
    fn push_frames<D: Driver>(&mut self, driver: &mut D, slot: Slot, frames: &[u8]) -> bool {
        let Some(place) = self.place_in_queue(driver, slot, frames.len() as u32) else { return false };
        driver.memory_mut().bytes_mut(place).copy_from_slice(frames);
        self.slots.make_ready(slot);
        true
    }

    /// Queues all that a subscriber has coming.
    fn queue_all<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let log = &self.topics.logs[place.log as usize];
        let run = log.chain.run(&self.store, driver.memory(), log.subscribers[place.index as usize].next, 0);
        if !self.queue_span(driver, slot, run.span) {
            self.shed(driver, slot);
            return false;
        }
        self.leapt(slot, subscription, run.next, 0, run.span.len);
        true
    }
}

fn message_of<'a>(topic: &'a str, cursor: Cursor, content: Content<'a>) -> Message<'a> {
    let Content { event, payload, text, key, op, .. } = content;
    let event = Some(event).filter(|event| !event.is_empty());
    Message { topic, cursor, event, payload, text, key, op, ..Message::default() }
}
