//! Delivery: what homes say of a topic, encoded once for each dialect and appended to its frame logs; and how a shard catches up.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::message::Message;
use corecast_protocol::places::At;

use crate::io::driver::Driver;
use crate::mesh::{Content, Lost, Stretch, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::dialect::Dialect;
use crate::shard::dialect::encode::Effort;
use crate::shard::dialect::view::{Known, Shaped};
use crate::shard::sending::Round;
use crate::shard::topic::chain::WIDE_MARK_BYTES;
use crate::shard::topic::topics::{AWAY, BEHIND, CONFLATE, FALLEN, FrameLog, LOOK, NONE, PACED, Topics};

/// A log's first block has so many bytes for each reader, up to a quarter of the largest.
const BLOCK_BYTES_A_READER: u32 = 64;

/// A glance at one subscriber of an array takes about so many nanoseconds.
const GLANCE_NS: u64 = 2;

/// Smallest and largest block that a frame log starts with, in bytes.
const BLOCK_BYTES_MAX: u32 = 64 << 10;

/// Where a message of a pattern comes from; those of a topic come from it.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Origin<'a> {
    /// The topic.
    pub(in crate::shard) topic: &'a str,
    /// Its number there.
    pub(in crate::shard) cursor: Cursor,
    /// Its home, and its number there.
    pub(in crate::shard) at: At,
}

impl Shard {
    pub(in crate::shard) fn joined(&mut self, id: u32, epoch: u32, head: u64) {
        let topic = self.topics.topic_mut(id);
        topic.joined = true;
        topic.epoch = epoch;
        topic.head = head;
        let mut index = topic.logs;
        while index != NONE {
            let log = &mut self.topics.logs[index as usize];
            log.chain.skip(&mut self.store, 0, head);
            debug_assert_eq!(log.unresolved as usize, log.subscribers.len(), "nobody started before the topic did");
            index = log.next;
        }
    }

    /// Appends a message to the frame logs of its topic or pattern, encoded once per dialect in use; `old` is what its key had before, if that is known.
    pub(in crate::shard) fn deliver<D: Driver>(
        &mut self,
        driver: &mut D,
        id: u32,
        seq: u64,
        content: Content<'_>,
        old: Option<&[u8]>,
        origin: Option<Origin<'_>>,
    ) {
        let topic = self.topics.topic_mut(id);
        // A ring keeps the order, and of what did not fit into it the home has told: nothing is missing between the two.
        assert!(seq > topic.head, "messages of a topic come in the order of their numbers");
        topic.head = seq;
        let (epoch, mut index) = (topic.epoch, topic.logs);
        while index != NONE {
            let FrameLog { side, next: following, .. } = self.topics.logs[index as usize];
            index = if side == NONE {
                self.append(driver, id, index, Cursor { epoch, seq }, content, origin);
                following
            } else {
                self.append_views(driver, id, index, Cursor { epoch, seq }, content, old)
            };
        }
    }

    /// Appends a message to logs of one view, as that wants it, which is found out once; returns the log behind them.
    #[inline(never)]
    fn append_views<D: Driver>(
        &mut self,
        driver: &mut D,
        id: u32,
        first: u32,
        cursor: Cursor,
        content: Content<'_>,
        old: Option<&[u8]>,
    ) -> u32 {
        let view = self.topics.view_of(first);
        let mut shaping = std::mem::take(&mut self.shaping);
        let views = std::mem::take(&mut self.topics.views);
        let topic = self.topics.topic(id);
        let known = Known { table: topic.mode.is_table(), old, fresh: false };
        self.work.spend_on(content.payload.len() + old.map_or(0, <[u8]>::len));
        let shaped = views.shape(view, self.topics.name(id).text, content, known, &mut shaping);
        let mut index = first;
        while index != NONE && self.topics.view_of(index) == view {
            let FrameLog { side, next: following, ref subscribers, unresolved, .. } = self.topics.logs[index as usize];
            let readers = subscribers.len() as u64 - u64::from(unresolved);
            match shaped {
                None => {
                    self.stats.owed = self.stats.owed.wrapping_add(readers);
                    self.stats.filtered = self.stats.filtered.wrapping_add(readers);
                }
                Some(shaped) => {
                    if side != NONE {
                        self.note(driver, index, cursor.seq, shaped);
                    }
                    self.append(driver, id, index, cursor, shaped.step, None);
                }
            }
            index = following;
        }
        self.topics.views = views;
        self.shaping = shaping;
        index
    }

    /// Notes what a log knows of a message. Without memory for that nothing is known of any: what is sent by what is known is sent
    /// otherwise then.
    fn note<D: Driver>(&mut self, driver: &mut D, log: u32, seq: u64, shaped: Shaped<'_>) {
        let hash = self.hash_topic(shaped.whole.key);
        self.topics.trim_side(log, &mut self.store, driver.memory());
        let Some(side) = self.topics.sides.get_mut(self.topics.logs[log as usize].side as usize) else { return };
        if !side.notes {
            return;
        }
        let kept = (&mut self.store, driver.memory_mut());
        if !side.note(kept, seq, hash, shaped.whole, shaped.before) {
            side.clear(&mut self.store);
        }
    }

    /// Appends a message to one log, encoded.
    #[inline(always)]
    fn append<D: Driver>(
        &mut self,
        driver: &mut D,
        id: u32,
        index: u32,
        cursor: Cursor,
        content: Content<'_>,
        origin: Option<Origin<'_>>,
    ) {
        let Cursor { epoch, seq } = cursor;
        let FrameLog { dialect, gauge, .. } = self.topics.logs[index as usize];
        let message = message_of(&self.topics, id, dialect, epoch, seq, content, origin);
        let effort = Effort::From(self.limits.compress_from.unwrap_or(u32::MAX));
        let len = self.encoder.measure(dialect, &message, effort) as u32;
        self.work.spend(self.encoder.cost_ns);
        match self.make_frame(driver, index, seq, len) {
            Some(place) => {
                let message = message_of(&self.topics, id, dialect, epoch, seq, content, origin);
                self.encoder.write(dialect, &message, driver.memory_mut().bytes_mut(place));
                if let Some(gauge) = self.topics.gauges.get_mut(gauge as usize) {
                    gauge.appended += self.encoder.plain_bytes;
                    gauge.packed += u64::from(len);
                }
            }
            // No memory at all: everybody who reads here asks the home's history instead.
            None => {
                reach(Mark::LogWithoutMemory);
                self.let_fall(driver, index, u64::MAX);
                self.topics.logs[index as usize].chain.skip(&mut self.store, 1, seq);
            }
        }
        let log = &mut self.topics.logs[index as usize];
        log.appended_tick = self.clock.tick;
        self.stats.owed = self.stats.owed.wrapping_add((log.subscribers.len() as u64) - u64::from(log.unresolved));
        log.pending = log.subscribers.len() as u32;
        if !std::mem::replace(&mut log.queued, true) {
            self.sending.dirty.push_back(Round::new(index, content.at_us, self.clock.now_us));
        }
        if self.topics.gauges.get(gauge as usize).is_some_and(|gauge| gauge.appended >= gauge.look_at) {
            self.look_for_long_streams(index);
        }
    }

    /// Makes room for a frame in a log, at the cost of its tail, and then of whoever can best do without.
    fn make_frame<D: Driver>(
        &mut self,
        driver: &mut D,
        log: u32,
        seq: u64,
        len: u32,
    ) -> Option<crate::io::memory::Span> {
        loop {
            let frame_log = &self.topics.logs[log as usize];
            let chain = &frame_log.chain;
            if chain.is_empty() || chain.bytes().saturating_add(len) <= self.limits.log_bytes_max {
                break;
            }
            let next = chain.oldest_block_next(&self.store);
            if frame_log.behind > 0 || frame_log.pending > 0 {
                self.let_fall(driver, log, next);
            }
            self.topics.logs[log as usize].chain.forget_oldest_block(&mut self.store);
        }
        let mut made_way = false;
        loop {
            let log = &mut self.topics.logs[log as usize];
            // Blocks double, so that a run of messages is few sends; the first is as large as the last round was.
            // With many readers, one block should hold a burst: the walk is faster that way than memory is dear.
            let shared = BLOCK_BYTES_A_READER.saturating_mul(log.subscribers.len() as u32).min(BLOCK_BYTES_MAX / 4);
            let block_bytes = log.chain.bytes().max(log.block_bytes).max(shared).min(BLOCK_BYTES_MAX);
            let place = log.chain.append(&mut self.store, driver.memory_mut(), seq, len, block_bytes);
            if place.is_some() || std::mem::replace(&mut made_way, true) {
                return place;
            }
            self.make_way(driver, len.saturating_add(WIDE_MARK_BYTES), NONE);
        }
    }

    /// Before frames up to position `next` are forgotten: who has not been sent all of them has no position from now on, but the
    /// number of the last message that it has, which nobody could find afterwards. It is given the rest when it is looked at.
    ///
    /// Whoever was sent one of the frames in part gets its rest into its own queue: without a whole frame nothing could be told to
    /// it any more. Costs a glance at each subscriber, and touches no connection besides those.
    pub(in crate::shard) fn let_fall<D: Driver>(&mut self, driver: &mut D, index: u32, next: u64) {
        let mut place = 0;
        loop {
            let log = &self.topics.logs[index as usize];
            let rest = log.subscribers.get(place..).unwrap_or_default();
            let Some(found) = rest.iter().position(|other| other.flags & AWAY == 0 && other.next < next) else { break };
            place += found;
            let subscriber = log.subscribers[place];
            if subscriber.partial() > 0 {
                let (slot, subscription) = (subscriber.slot, subscriber.subscription);
                let frame = log.chain.record(&self.store, driver.memory(), subscriber.next);
                let rest = frame.part(subscriber.partial(), frame.len - subscriber.partial());
                self.whole_again(slot, subscription);
                if self.queue_span_first(driver, slot, rest) {
                    reach(Mark::Rescued);
                    self.pass(subscription);
                } else {
                    // It can be told nothing more. It goes before anything is sent; now, somebody may be counting on the log.
                    reach(Mark::Condemned);
                    self.sending.condemned.push((slot, self.slots.connections[slot as usize].generation));
                }
            }
            let log = &mut self.topics.logs[index as usize];
            let end = log.chain.next();
            let subscriber = &mut log.subscribers[place];
            if subscriber.next < next {
                if subscriber.flags & LOOK == 0 {
                    reach(Mark::WalkOvertaken);
                }
                let number = log.chain.number_before(&self.store, driver.memory(), subscriber.next);
                subscriber.go_away(number, subscriber.pending(end), end);
                subscriber.flags |= FALLEN;
                // The log has the newest message for who wants no other, and nothing any more for who wants all.
                let (waits, counted) = (subscriber.flags & (CONFLATE | PACED) != 0, subscriber.flags & BEHIND != 0);
                subscriber.flags = if waits { subscriber.flags | BEHIND } else { subscriber.flags & !BEHIND };
                log.behind = log.behind + u32::from(waits) - u32::from(counted);
            }
            place += 1;
        }
        self.work.spend(self.topics.logs[index as usize].subscribers.len() as u64 * GLANCE_NS);
    }

    /// A subscriber has no frame in part any more.
    pub(in crate::shard) fn whole_again(&mut self, slot: crate::io::driver::Slot, subscription: u32) {
        self.topics.whole_again(subscription);
        self.slots.connections[slot as usize].partial = NONE;
        self.has_news(slot, subscription);
    }

    pub(in crate::shard) fn catch_up_begins<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        stretch: Stretch,
        lost: Option<Lost>,
    ) {
        let (id, generation) = (ticket.word, ticket.slot);
        if !self.topics.living(id, generation) {
            return;
        }
        let topic = self.topics.topic_mut(id);
        debug_assert!(topic.catching_up);
        topic.batch_end = stretch.last;
        topic.batch_last = stretch.is_all();
        if let Some(lost) = lost {
            reach(Mark::CaughtUpWithLoss);
            // The history does not hold it any more: whoever missed it finds that out from the home.
            topic.head = stretch.after;
            let mut index = topic.logs;
            while index != NONE {
                self.let_fall(driver, index, u64::MAX);
                let log = &mut self.topics.logs[index as usize];
                let resolved = log.subscribers.len() as u64 - u64::from(log.unresolved);
                self.stats.owed = self.stats.owed.wrapping_add(resolved.wrapping_mul(lost.count));
                log.chain.skip(&mut self.store, lost.count, stretch.after);
                log.pending = log.subscribers.len() as u32;
                if !std::mem::replace(&mut log.queued, true) {
                    self.sending.dirty.push_back(Round::new(index, 0, self.clock.now_us));
                }
                index = self.topics.logs[index as usize].next;
            }
        }
        if stretch.count == 0 {
            self.catch_up_ends(id);
        }
    }

    pub(in crate::shard) fn caught_up_message<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        seq: u64,
        content: Content<'_>,
    ) {
        let (id, generation) = (ticket.word, ticket.slot);
        if !self.topics.living(id, generation) {
            return;
        }
        self.deliver(driver, id, seq, content, None, None);
        if seq == self.topics.topic(id).batch_end {
            self.catch_up_ends(id);
        }
    }

    fn catch_up_ends(&mut self, id: u32) {
        let topic = self.topics.topic_mut(id);
        if topic.batch_last {
            topic.catching_up = false;
        } else {
            reach(Mark::CaughtUpInBatches);
            self.catch_up(id);
        }
    }
}

fn message_of<'a>(
    topics: &'a Topics,
    id: u32,
    dialect: Dialect,
    epoch: u32,
    seq: u64,
    content: Content<'a>,
    origin: Option<Origin<'a>>,
) -> Message<'a> {
    let topic = || if dialect.names_topics() { topics.name(id).text } else { "" };
    Message {
        topic: origin.map_or_else(topic, |origin| origin.topic),
        cursor: origin.map_or(Cursor { epoch, seq }, |origin| origin.cursor),
        of: if origin.is_some() { topics.name(id).text } else { "" },
        at: origin.map(|origin| origin.at),
        event: Some(content.event).filter(|event| !event.is_empty()),
        payload: content.payload,
        text: content.text,
        key: content.key,
        op: content.op,
    }
}
