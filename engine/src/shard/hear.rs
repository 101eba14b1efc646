//! What other shards say: whose turn it is to be heard, and the dispatch of packets.

use corecast_protocol::cursor::Cursor;

use super::Shard;
use super::crossing::Lane;
use super::refusal::Refusal;
use super::slot::wait::Told;
use crate::io::driver::Driver;
use crate::mesh::{Asker, Content, Packet};
use crate::reach::{Mark, reach};

/// Packets heard from one shard before the next one's turn.
const PACKETS_PER_RING: usize = 256;

/// How long a turn hears other shards, in microseconds.
const HEAR_US: u64 = 500;

/// How long a turn does what waited for room, in microseconds.
const RELIEVE_US: u64 = 500;

impl Shard {
    /// Hears packets, a bounded number from each shard; says whether there were any.
    pub(super) fn hear<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut senders = self.crossings.links.take_mail();
        senders.insert_all(std::mem::take(&mut self.crossings.unheard));
        if senders.is_empty() {
            return false;
        }
        let mut heard = false;
        let mut bytes = std::mem::take(&mut self.scratch.packet);
        self.work.begin(driver, HEAR_US);
        // Round about, from where the last turn had to stop.
        let first = std::mem::take(&mut self.crossings.hear_from);
        let mut stopped = None;
        for later in [false, true] {
            senders.each(|from| {
                if (from < first) == later {
                    heard |= self.hear_shard(driver, from, &mut bytes);
                    if self.work.is_over(driver) {
                        reach(Mark::HearsOthersLater);
                        stopped = stopped.or(Some(from + 1));
                    }
                }
            });
        }
        self.crossings.hear_from = stopped.unwrap_or(0);
        self.scratch.packet = bytes;
        self.tell_given_up(driver);
        heard
    }

    /// Hears what this shard has sent itself since the turn began; says whether there was anything.
    pub(super) fn hear_own<D: Driver>(&mut self, driver: &mut D) -> bool {
        let own = self.index as usize;
        if !self.crossings.links.has_packet(own) {
            return false;
        }
        let mut bytes = std::mem::take(&mut self.scratch.packet);
        self.work.begin(driver, HEAR_US);
        let heard = self.hear_shard(driver, own, &mut bytes);
        self.scratch.packet = bytes;
        self.tell_given_up(driver);
        heard
    }

    fn hear_shard<D: Driver>(&mut self, driver: &mut D, from: usize, bytes: &mut Vec<u8>) -> bool {
        for count in 0..PACKETS_PER_RING {
            if self.work.is_over(driver) {
                self.crossings.unheard.insert(from);
                return count > 0;
            }
            if !self.crossings.links.receive(from, bytes) {
                return count > 0;
            }
            self.work.spend_on(bytes.len());
            let packet = Packet::decode(bytes).expect("both ends of a ring are this program");
            self.take_packet(driver, from, &packet);
        }
        self.crossings.unheard.insert(from);
        true
    }

    fn take_packet<D: Driver>(&mut self, driver: &mut D, from: usize, packet: &Packet<'_>) {
        match *packet {
            Packet::Publish { topic, ticket, content } => self.number(driver, from, topic, ticket, content),
            Packet::Clear { topic, ticket } => self.clear(driver, from, topic, ticket),
            Packet::PublishIf { topic, ticket, expected, content } => {
                self.act_if(driver, from, topic, ticket, expected, Some(content));
            }
            Packet::PublishOnce { topic, ticket, numbered, content } => {
                self.number_once(driver, from, topic, ticket, (numbered, content));
            }
            Packet::ClearIf { topic, ticket, expected } => self.act_if(driver, from, topic, ticket, expected, None),
            Packet::Join { topic, id, generation } => self.member_joins(from, topic, id, generation),
            Packet::Say { topic, word, name, number } => self.hear_word(driver, from, topic, (word, name, number)),
            Packet::Leave { topic, id, generation } => self.member_leaves(from, topic, id, generation),
            Packet::WantsOld { topic, id, generation } => self.member_wants_old(from, topic, id, generation),
            Packet::Readers { topic, readers } => self.hear_readers(from, topic, readers),
            Packet::Replay { .. } => self.replay(driver, from, packet),

            Packet::Pattern(_) => self.hear_pattern(driver, from, packet),

            Packet::Published { ticket, epoch, seq } => {
                self.crossings.answered(from, Lane::Short);
                self.order_is_done(driver, ticket, Ok(Told { cursor: Cursor { epoch, seq }, repeated: false }));
            }
            Packet::Repeated { ticket, epoch, seq } => {
                self.crossings.answered(from, Lane::Short);
                self.order_is_done(driver, ticket, Ok(Told { cursor: Cursor { epoch, seq }, repeated: true }));
            }
            Packet::Refused { ticket, reason } => {
                if ticket.asker != Asker::Nobody {
                    self.crossings.answered(from, Lane::Short);
                }
                self.order_is_done(driver, ticket, Err(reason));
            }
            Packet::Joined { id, generation, epoch, head } => {
                self.crossings.answered(from, Lane::Short);
                if self.topics.living(id, generation) {
                    self.joined(id, epoch, head);
                }
            }
            Packet::Deliver { id, generation, seq, content } => {
                if self.topics.living(id, generation) {
                    assert!(!self.topics.topic(id).catching_up, "nothing is delivered while behind");
                    self.deliver(driver, id, seq, content, None, None);
                }
            }
            Packet::Change { id, generation, seq, old_len, content } => {
                if self.topics.living(id, generation) {
                    assert!(!self.topics.topic(id).catching_up, "nothing is delivered while behind");
                    let (old, payload) = content.payload.split_at(old_len as usize);
                    self.deliver(driver, id, seq, Content { payload, ..content }, Some(old), None);
                }
            }
            Packet::Behind { id, generation } => {
                if self.topics.living(id, generation) && !self.topics.topic(id).catching_up {
                    self.topics.topic_mut(id).catching_up = true;
                    self.catch_up(id);
                }
            }
            Packet::Replayed { ticket, epoch, head, stretch, lost } => {
                if ticket.asker == Asker::Topic {
                    self.catch_up_begins(driver, ticket, stretch, lost);
                } else {
                    self.crossings.answered(from, Lane::Bulk);
                    self.replay_begins(driver, ticket, Cursor { epoch, seq: head }, stretch, lost);
                }
            }
            Packet::Message { ticket, seq, rest, content } => {
                if ticket.asker == Asker::Topic {
                    self.caught_up_message(driver, ticket, seq, content);
                } else {
                    self.replay_message(driver, ticket, seq, rest, content);
                }
            }
        }
    }

    /// Does what waited for room in the rings; says whether anything was done.
    pub(super) fn ask<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = false;
        while let Some((slot, generation)) = self.sending.condemned.pop() {
            if self.slots.is_living(slot, generation) {
                self.refused(Refusal::Full);
                self.notice(slot, Refusal::Full, "", Refusal::Full.row().text);
                self.kill(driver, slot);
            }
        }
        if !self.crossings.crowded.is_empty() {
            self.work.begin(driver, RELIEVE_US);
            worked |= self.relieve(driver);
        }
        worked |= self.ask_in_line(driver);
        if !self.reads.going.is_empty() {
            worked |= self.walk_on_some(driver);
        }
        worked |= self.leave_topics(driver);
        // After those, who have told all there is to say of topics that they leave.
        if !self.recounts.is_idle() || self.occupancy.is_due(self.clock.now_ms) {
            worked |= self.count_readers(driver);
        }
        if self.demand.is_due(self.clock.now_ms) {
            worked |= self.tell_demand(driver);
        }
        if !self.attendance.is_idle() || self.presence.is_due(self.clock.now_ms) {
            worked |= self.tell_presence(driver);
        }
        worked
    }
}
