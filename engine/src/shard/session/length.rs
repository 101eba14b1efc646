//! How long streams have become, and their end when they are long.
//!
//! Whoever reads a stream with XMLHttpRequest or in a frame keeps all of it in memory. So a stream ends in order once its
//! messages took `stream_bytes`, and its client comes back with its cursor.
//!
//! The walk counts nothing: whom it serves has been sent what the log has got, so the log counts what is appended to it, once
//! a message and not once a subscriber. A subscription keeps its `measure`, what its log had got when it began to follow it; the
//! difference is the length of its stream. Every [`LOOK_BYTES`] of a log, those who follow it are gone through, a bounded number
//! with each message. Who is found long is flagged `ENOUGH`, and so left by the walk to the sender, which ends the stream once it
//! was sent all that had come by then. A stream is thus too long by at most [`LOOK_BYTES`] and the block of its last message, and
//! never has a hole.
//!
//! Of a compressed stream the length is that after decompression: it is the reader's memory that is spared.
//!
//! Those who get something else than all of one log (several topics, only the newest, a replay) are looked at for each send
//! anyway: their `measure` is what they were sent. Of several subscriptions, the connection's first one measures for all.

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::session::traits::Session;
use crate::shard::topic::topics::{AWAY, COUNTED, ENOUGH, LOOK, LOOK_BYTES, NONE, REPLAYING, UNRESOLVED};

/// Subscribers looked at with one message: so many, and this share of all, so that no turn is long and every look ends.
const LOOKS_MIN: usize = 64;
const LOOKS_SHARE: usize = 256;

/// Says whether a subscriber's `measure` is what it was sent, rather than what its log had got when it began to follow it.
const fn is_counted(flags: u32) -> bool {
    flags & (REPLAYING | COUNTED) != 0
}

impl Shard {
    /// A log has got [`LOOK_BYTES`] since the last look: looks at some of those who follow it, or the next ones.
    pub(in crate::shard) fn look_for_long_streams(&mut self, index: u32) {
        let count = self.topics.logs[index as usize].subscribers.len();
        let Some(gauge) = self.topics.gauge_mut(index) else { return };
        if self.limits.stream_bytes == 0 {
            // There may be a limit when this much more has come.
            gauge.look_at = gauge.appended + LOOK_BYTES;
            return;
        }
        let first = gauge.look as usize;
        let end = count.min(first + LOOKS_MIN + count / LOOKS_SHARE);
        if end == count {
            gauge.look = 0;
            gauge.look_at = gauge.appended + LOOK_BYTES;
        } else {
            gauge.look = end as u32;
        }
        for place in first..end {
            let subscriber = self.topics.logs[index as usize].subscribers[place];
            if !is_counted(subscriber.flags) {
                self.end_if_long(subscriber.slot);
            }
        }
    }

    /// Sees to it that a stream ends, if it is long, once it was sent what there is for it now.
    pub(in crate::shard) fn end_if_long(&mut self, slot: Slot) {
        let connection = &self.slots.connections[slot as usize];
        if !connection.is(Session::Stream) {
            return;
        }
        let limit = self.limits.stream_bytes;
        // Up to an eighth less: streams that began together would end together, and their clients come back in one rush.
        let life = u64::from(slot) << 16 | u64::from(connection.generation);
        let spread = life.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        let bytes_max = limit - ((limit / 8 * spread) >> 16);

        let Some(place) = self.topics.subscriptions.get_mut(connection.first as usize) else { return };
        let log = &mut self.topics.logs[place.log as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        let flags = subscriber.flags;
        let appended = self.topics.gauges.get(log.gauge as usize).map_or(0, |gauge| gauge.appended);
        let length = if is_counted(flags) { place.measure } else { appended.wrapping_sub(place.measure) };
        if limit == 0 || flags & (ENOUGH | UNRESOLVED) != 0 || length < bytes_max {
            return;
        }
        reach(Mark::LongStream);
        // Who has no position there has what it was sent, and may end where it is.
        place.measure = log.chain.next();
        subscriber.flags |= ENOUGH | LOOK;
        let first = connection.first;
        self.has_news(slot, first);
        self.slots.make_ready(slot);
    }

    /// Adds to the length of a stream what it was sent in another way than by the walk, or takes off what the kernel did not take:
    /// so many bytes of a log, or uncompressed ones of no log.
    pub(in crate::shard) fn lengthen(&mut self, slot: Slot, log: u32, bytes: i64) {
        let first = self.slots.connections[slot as usize].first;
        if first == NONE {
            return;
        }
        let gauge = self.topics.logs.get(log as usize).and_then(|log| self.topics.gauges.get(log.gauge as usize));
        let bytes = gauge.map_or(bytes, |gauge| {
            let unpacked = i64::try_from(gauge.unpacked(bytes.unsigned_abs())).unwrap_or(i64::MAX);
            if bytes < 0 { -unpacked } else { unpacked }
        });
        let flags = self.topics.subscriber(first).flags;
        if flags & ENOUGH == 0 {
            let bytes = if is_counted(flags) { bytes } else { -bytes };
            let place = &mut self.topics.subscriptions[first as usize];
            place.measure = place.measure.wrapping_add_signed(bytes);
        }
    }

    /// A subscriber has come to the end of its replay and follows its log from now on.
    pub(in crate::shard) fn measure_by_log<D: Driver>(&mut self, driver: &D, subscription: u32) {
        let place = &mut self.topics.subscriptions[subscription as usize];
        let log = &self.topics.logs[place.log as usize];
        let subscriber = log.subscribers[place.index as usize];
        let Some(gauge) = self.topics.gauges.get(log.gauge as usize) else { return };
        if !is_counted(subscriber.flags) && subscriber.flags & ENOUGH == 0 {
            // Who is still away has come further than the log.
            let from = if subscriber.flags & AWAY == 0 { subscriber.next } else { log.chain.next() };
            let ahead = log.chain.bytes_from(&self.store, driver.memory(), from);
            place.measure = gauge.appended.wrapping_sub(gauge.unpacked(ahead)).wrapping_sub(place.measure);
        }
    }

    /// A subscriber has fallen off the tail of its log, and is given a replay from now on. It had about all that the log had got
    /// before what it holds now.
    pub(in crate::shard) fn measure_by_count(&mut self, subscription: u32) {
        let place = &mut self.topics.subscriptions[subscription as usize];
        let log = &self.topics.logs[place.log as usize];
        let flags = log.subscribers[place.index as usize].flags;
        let Some(gauge) = self.topics.gauges.get(log.gauge as usize) else { return };
        if !is_counted(flags) && flags & ENOUGH == 0 {
            let held = gauge.unpacked(log.chain.bytes_used(&self.store));
            let had = gauge.appended.wrapping_sub(held).wrapping_sub(place.measure);
            // It may have begun with a message that the log has forgotten meanwhile.
            place.measure = u64::try_from(had.cast_signed()).unwrap_or(0);
        }
    }
}
