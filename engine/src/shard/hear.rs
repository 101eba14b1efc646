//! What other shards say: the dispatch of packets, and the subscribers' side of delivery (encode, append, catch up).

use corecast_protocol::cursor::Cursor;
use corecast_protocol::message::Message;

use super::Shard;
use super::crossing::Lane;
use super::dialect::encode::Effort;
use super::topic::home::FORGOTTEN_MAX;
use super::topic::topics::{NONE, Topics};
use crate::io::driver::Driver;
use crate::mesh::{Content, Lost, Packet, Purpose, Ticket};

/// Packets heard from one shard before the next one's turn.
const PACKETS_PER_RING: usize = 256;

/// How long a turn hears other shards, in microseconds.
const HEAR_US: u64 = 500;

/// A log's first block has so many bytes for each reader, up to a quarter of the largest.
const BLOCK_BYTES_A_READER: u32 = 64;

/// How long a turn does what waited for room, in microseconds.
const RELIEVE_US: u64 = 500;

/// Smallest and largest block that a frame log starts with, in bytes.
const BLOCK_BYTES_MAX: u32 = 64 << 10;

impl Shard {
    /// Hears packets, a bounded number from each shard; says whether there were any.
    pub(super) fn hear<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut senders = self.links.take_mail();
        senders.insert_all(std::mem::take(&mut self.unheard));
        if senders.is_empty() {
            return false;
        }
        let mut heard = false;
        let mut bytes = std::mem::take(&mut self.packet);
        self.work.begin(driver, HEAR_US);
        // Round about, from where the last turn had to stop.
        let first = std::mem::take(&mut self.hear_from);
        let mut stopped = None;
        for later in [false, true] {
            senders.each(|from| {
                if (from < first) == later {
                    heard |= self.hear_shard(driver, from, &mut bytes);
                    if self.work.is_over(driver) {
                        stopped = stopped.or(Some(from + 1));
                    }
                }
            });
        }
        self.hear_from = stopped.unwrap_or(0);
        self.packet = bytes;
        heard
    }

    /// Hears what this shard has sent itself since the turn began; says whether there was anything.
    pub(super) fn hear_own<D: Driver>(&mut self, driver: &mut D) -> bool {
        let own = self.index as usize;
        if !self.links.has_packet(own) {
            return false;
        }
        let mut bytes = std::mem::take(&mut self.packet);
        self.work.begin(driver, HEAR_US);
        let heard = self.hear_shard(driver, own, &mut bytes);
        self.packet = bytes;
        heard
    }

    fn hear_shard<D: Driver>(&mut self, driver: &mut D, from: usize, bytes: &mut Vec<u8>) -> bool {
        for count in 0..PACKETS_PER_RING {
            if self.work.is_over(driver) {
                self.unheard.insert(from);
                return count > 0;
            }
            if !self.links.receive(from, bytes) {
                return count > 0;
            }
            self.work.spend_on(bytes.len());
            let packet = Packet::decode(bytes).expect("both ends of a ring are this program");
            self.take_packet(driver, from, &packet);
        }
        self.unheard.insert(from);
        true
    }

    fn take_packet<D: Driver>(&mut self, driver: &mut D, from: usize, packet: &Packet<'_>) {
        match *packet {
            Packet::Publish { topic, ticket, content } => self.number(driver, from, topic, ticket, content),
            Packet::Clear { topic, ticket } => self.clear(from, topic, ticket),
            Packet::PublishIf { topic, ticket, expected, content } => {
                self.act_if(driver, from, topic, ticket, expected, Some(content));
            }
            Packet::ClearIf { topic, ticket, expected } => self.act_if(driver, from, topic, ticket, expected, None),
            Packet::Join { topic, id, generation } => self.member_joins(from, topic, id, generation),
            Packet::Leave { topic, id, generation } => self.member_leaves(from, topic, id, generation),
            Packet::Replay { .. } => self.replay(driver, from, packet),

            Packet::Published { ticket, epoch, seq } => {
                self.answered(from, Lane::Short);
                self.published(driver, ticket, Ok(Cursor { epoch, seq }));
            }
            Packet::Refused { ticket, reason } => {
                if ticket.purpose != Purpose::Silent {
                    self.answered(from, Lane::Short);
                }
                self.published(driver, ticket, Err(reason));
            }
            Packet::Joined { id, generation, epoch, head } => {
                self.answered(from, Lane::Short);
                if self.topics.living(id, generation) {
                    self.joined(id, epoch, head);
                }
            }
            Packet::Deliver { id, generation, seq, content } => {
                if self.topics.living(id, generation) {
                    assert!(!self.topics.topic(id).catching_up, "nothing is delivered while behind");
                    self.deliver(driver, id, seq, content);
                }
            }
            Packet::Behind { id, generation } => {
                if self.topics.living(id, generation) && !self.topics.topic(id).catching_up {
                    self.topics.topic_mut(id).catching_up = true;
                    self.catch_up(id);
                }
            }
            Packet::Replayed { ticket, epoch, head, first, count, lost } => {
                if ticket.purpose == Purpose::CatchUp {
                    self.catch_up_begins(driver, ticket, head, first, count, lost);
                } else {
                    self.answered(from, Lane::Bulk);
                    self.replay_begins(driver, ticket, Cursor { epoch, seq: head }, first, count, lost);
                }
            }
            Packet::Message { ticket, seq, rest, content } => {
                if ticket.purpose == Purpose::CatchUp {
                    self.caught_up_message(driver, ticket, seq, content);
                } else {
                    self.replay_message(driver, ticket, seq, rest, content);
                }
            }
        }
    }

    fn joined(&mut self, id: u32, epoch: u32, head: u64) {
        let topic = self.topics.topic_mut(id);
        topic.joined = true;
        topic.epoch = epoch;
        topic.next = head + 1;
        let mut index = topic.logs;
        while index != NONE {
            let log = &mut self.topics.logs[index as usize];
            log.chain.restart(&mut self.store, head + 1);
            debug_assert_eq!(log.unresolved as usize, log.subscribers.len(), "nobody started before the topic did");
            index = log.next;
        }
    }

    /// Appends a message to the frame logs of its topic, encoded once per dialect in use.
    pub(super) fn deliver<D: Driver>(&mut self, driver: &mut D, id: u32, seq: u64, content: Content<'_>) {
        let topic = self.topics.topic_mut(id);
        assert_eq!(seq, topic.next, "messages of a topic come in order");
        topic.next = seq + 1;
        let (epoch, mut index) = (topic.epoch, topic.logs);
        while index != NONE {
            let dialect = self.topics.logs[index as usize].dialect;
            let message = message_of(&self.topics, id, epoch, seq, content);
            let effort = Effort::From(self.limits.compress_from.unwrap_or(u32::MAX));
            let len = self.encoder.measure(dialect, &message, effort) as u32;
            self.work.spend(self.encoder.cost_ns);
            match self.make_frame(driver, index, len) {
                Some(place) => {
                    let message = message_of(&self.topics, id, epoch, seq, content);
                    self.encoder.write(dialect, &message, driver.memory_mut().bytes_mut(place));
                    let log = &mut self.topics.logs[index as usize];
                    log.appended += self.encoder.plain_bytes;
                    log.packed += u64::from(len);
                }
                // No memory at all: everybody who reads here asks the home's history instead.
                None => {
                    self.rescue(driver, index, seq);
                    self.topics.logs[index as usize].chain.restart(&mut self.store, seq + 1);
                }
            }
            let log = &mut self.topics.logs[index as usize];
            log.appended_tick = self.tick;
            self.stats.owed = self.stats.owed.wrapping_add((log.subscribers.len() as u64) - u64::from(log.unresolved));
            log.pending = log.subscribers.len() as u32;
            let look = log.appended >= log.look_at;
            if !std::mem::replace(&mut log.queued, true) {
                self.dirty.push_back(index);
            }
            if look {
                self.look_for_long_streams(index);
            }
            index = self.topics.logs[index as usize].next;
        }
    }

    /// Makes room for a frame in a log, at the cost of its tail, and then of the histories used longest ago.
    fn make_frame<D: Driver>(&mut self, driver: &mut D, log: u32, len: u32) -> Option<crate::io::memory::Span> {
        loop {
            let chain = &self.topics.logs[log as usize].chain;
            if chain.is_empty() || chain.bytes().saturating_add(len) <= self.limits.log_bytes_max {
                break;
            }
            let next = chain.oldest_block_next(&self.store);
            self.rescue(driver, log, next);
            self.topics.logs[log as usize].chain.forget_oldest_block(&mut self.store);
        }
        if !self.topics.logs[log as usize].chain.could_append(&mut self.store, len) {
            return None; // However much were forgotten for it.
        }
        let mut forgotten = 0;
        loop {
            let log = &mut self.topics.logs[log as usize];
            // Blocks double, so that a run of messages is few sends; the first is as large as the last round was.
            // With many readers, one block should hold a burst: the walk is faster that way than memory is dear.
            let shared = BLOCK_BYTES_A_READER.saturating_mul(log.subscribers.len() as u32).min(BLOCK_BYTES_MAX / 4);
            let block_bytes = log.chain.bytes().max(log.block_bytes).max(shared).min(BLOCK_BYTES_MAX);
            let place = log.chain.append(&mut self.store, driver.memory_mut(), len, block_bytes);
            if place.is_some() || forgotten >= FORGOTTEN_MAX || !self.homes.make_room(&mut self.store, NONE) {
                return place;
            }
            forgotten += 1;
        }
    }

    /// Before frames up to `next` are forgotten: whoever was sent one of them in part gets its rest into its own queue.
    /// Without a whole frame nothing could be told to it any more.
    fn rescue<D: Driver>(&mut self, driver: &mut D, index: u32, next: u64) {
        for place in 0..self.topics.logs[index as usize].subscribers.len() {
            let log = &self.topics.logs[index as usize];
            if log.partials == 0 {
                return;
            }
            let subscriber = log.subscribers[place];
            if subscriber.partial == 0 || subscriber.next >= next {
                continue;
            }
            let (slot, membership) = (subscriber.slot, subscriber.membership);
            let frame = log.chain.record(&self.store, driver.memory(), subscriber.next);
            let rest = frame.part(subscriber.partial, frame.len - subscriber.partial);
            self.whole_again(slot, membership);
            if self.queue_span_first(driver, slot, rest) {
                self.pass(membership);
            } else {
                // It can be told nothing more. It goes before anything is sent; now, somebody may be counting on the log.
                self.condemned.push((slot, self.connections[slot as usize].generation));
            }
        }
    }

    /// A subscriber has no frame in part any more.
    pub(super) fn whole_again(&mut self, slot: crate::io::driver::Slot, membership: u32) {
        self.topics.whole_again(membership);
        self.connections[slot as usize].partial = NONE;
        self.has_news(slot, membership);
    }

    fn catch_up_begins<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        head: u64,
        first: u64,
        count: u32,
        lost: Option<Lost>,
    ) {
        let (id, generation) = (ticket.detail, ticket.slot);
        if !self.topics.living(id, generation) {
            return;
        }
        let topic = self.topics.topic_mut(id);
        debug_assert!(topic.catching_up);
        let end = first + u64::from(count);
        topic.batch = (end, end > head);
        if lost.is_some() {
            // The history does not hold it any more: whoever missed it finds that out from the home.
            topic.next = first;
            let mut index = topic.logs;
            while index != NONE {
                let end = self.topics.logs[index as usize].chain.next();
                self.rescue(driver, index, end);
                let log = &mut self.topics.logs[index as usize];
                let resolved = log.subscribers.len() as u64 - u64::from(log.unresolved);
                let skipped = first - log.chain.next();
                self.stats.owed = self.stats.owed.wrapping_add(resolved.wrapping_mul(skipped));
                log.chain.restart(&mut self.store, first);
                log.pending = log.subscribers.len() as u32;
                if !std::mem::replace(&mut log.queued, true) {
                    self.dirty.push_back(index);
                }
                index = self.topics.logs[index as usize].next;
            }
        }
        if count == 0 {
            self.catch_up_ends(id);
        }
    }

    fn caught_up_message<D: Driver>(&mut self, driver: &mut D, ticket: Ticket<'_>, seq: u64, content: Content<'_>) {
        let (id, generation) = (ticket.detail, ticket.slot);
        if !self.topics.living(id, generation) {
            return;
        }
        self.deliver(driver, id, seq, content);
        if seq + 1 == self.topics.topic(id).batch.0 {
            self.catch_up_ends(id);
        }
    }

    fn catch_up_ends(&mut self, id: u32) {
        let topic = self.topics.topic_mut(id);
        if topic.batch.1 {
            topic.catching_up = false;
        } else {
            self.catch_up(id);
        }
    }

    /// Does what waited for room in the rings; says whether anything was done.
    pub(super) fn ask<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = false;
        while let Some((slot, generation)) = self.condemned.pop() {
            if self.is_living(slot, generation) {
                self.stats.refused += 1;
                self.kill(driver, slot);
            }
        }
        if !self.crowded.is_empty() {
            self.work.begin(driver, RELIEVE_US);
            worked |= self.relieve(driver);
        }
        worked |= self.leave_topics(driver);
        worked
    }
}

fn message_of<'a>(topics: &'a Topics, id: u32, epoch: u32, seq: u64, content: Content<'a>) -> Message<'a> {
    Message {
        topic: topics.topic(id).name().text,
        cursor: Cursor { epoch, seq },
        event: Some(content.event).filter(|event| !event.is_empty()),
        payload: content.payload,
        text: content.text,
    }
}
