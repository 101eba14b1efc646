//! What a shard does for patterns as the home of topics: it sends their messages to the shards with readers, and says again what these missed.
//!
//! As with topics nothing waits: what does not fit marks the member as behind, and a question is kept until its answer has room.

use corecast_protocol::topic::TOPIC_BYTES_MAX;

use crate::io::driver::Driver;
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::pattern::From;
use crate::mesh::{Asker, Content, Packet, PatternPacket, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::crossing::{Owed, Size};
use crate::shard::pattern::journal::Entry;
use crate::shard::topic::home::Remembered;
use crate::shard::topic::member::{Hearing, Member};

/// Bytes of messages in one answer, unless a single message is larger.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes of a packet with a message besides its topic, event name, key and payload, rounded up.
const MESSAGE_FIELDS: usize = 96;

/// Topics looked at for one answer: some 50 microseconds, if none of them matches.
const LOOKS: usize = 1024;

/// What a look costs, in nanoseconds.
const LOOK_NS: u64 = 50;

impl Shard {
    /// Sends a message to the shards with readers of patterns that match its topic, and notes it for those who miss it.
    #[inline(never)]
    pub(in crate::shard) fn relay_to_patterns(
        &mut self,
        set: u32,
        home: u32,
        (epoch, seq): (u32, u64),
        content: Content<'_>,
    ) {
        let number = self.journal.count();
        let mut name = [0; TOPIC_BYTES_MAX];
        let Some(topic) = self.homes.name_at(home as usize).map(|name| name.text.as_bytes()) else { return };
        name[..topic.len()].copy_from_slice(topic);
        let topic = std::str::from_utf8(&name[..topic.len()]).expect("topics are text");
        let bytes = MESSAGE_FIELDS + topic.len() + content.event.len() + content.key.len() + content.payload.len();
        for nth in 0..self.journal.set(set).len() {
            let index = self.journal.set(set)[nth];
            self.journal.note(index, Entry { number, seq, home, epoch });
            for place in 0..self.journal.members_mut(index).len() {
                let Member { shard, id, generation, hearing, .. } = self.journal.members_mut(index)[place];
                // Who joins hears of what comes after it was told, who is behind when it catches up.
                if hearing != Hearing::Live {
                    continue;
                }
                let shard = shard as usize;
                let deliver = PatternPacket::Deliver { id, generation, number, topic, epoch, seq, content };
                if bytes > self.crossings.room_live(shard)
                    || !self.crossings.links.send(shard, &Packet::Pattern(deliver))
                {
                    reach(Mark::PatternRingFull);
                    self.journal.members_mut(index)[place].hearing = Hearing::Behind;
                    self.stats.behind += 1;
                    self.crossings.all[shard].behind_patterns.push_back(index);
                    self.crossings.crowded.insert(shard);
                }
            }
        }
    }

    /// A shard has readers of a pattern from now on.
    pub(in crate::shard) fn pattern_joins(&mut self, shard: usize, pattern: &str, id: u32, generation: u32) {
        self.journal.forget_left(self.clock.now_ms);
        let joined = PatternPacket::Joined { id, generation, number: self.journal.count() };
        let told =
            self.crossings.all[shard].owed.is_empty() && self.crossings.links.send(shard, &Packet::Pattern(joined));
        let hearing = if told { Hearing::Live } else { Hearing::Joining };
        let index =
            self.journal.join(pattern, Member { shard: shard as u32, id, generation, hearing, wants_old: false });
        if !told {
            self.crossings.all[shard].owed.push_back(Owed::JoinedPattern(index, id, generation));
            self.crossings.crowded.insert(shard);
        }
    }

    /// Tells a shard that it has joined a pattern, and how many messages there were before; says whether there was room.
    pub(in crate::shard) fn tell_pattern_joined(&mut self, shard: usize, index: u32, id: u32, generation: u32) -> bool {
        // Who has left meanwhile counts its answers all the same.
        let joined = PatternPacket::Joined { id, generation, number: self.journal.count() };
        let told = self.crossings.links.send(shard, &Packet::Pattern(joined));
        if told {
            reach(Mark::PatternJoinedLater);
            self.is_live_from_now_on(shard, index, id, generation);
        }
        told
    }

    fn is_live_from_now_on(&mut self, shard: usize, index: u32, id: u32, generation: u32) {
        for member in self.journal.members_mut(index) {
            if (member.shard as usize, member.id, member.generation) == (shard, id, generation) {
                member.hearing = Hearing::Live;
            }
        }
    }

    /// Tells a shard of patterns with messages that did not fit, as far as there is room; says whether it told of any.
    pub(in crate::shard) fn tell_behind_patterns(&mut self, shard: usize) -> bool {
        let mut worked = false;
        while self.crossings.links.room(shard) >= PREFIX_BYTES_MAX {
            let Some(index) = self.crossings.all[shard].behind_patterns.pop_front() else { break };
            for place in 0..self.journal.members_mut(index).len() {
                let Member { shard: member, id, generation, hearing, .. } = self.journal.members_mut(index)[place];
                if member as usize == shard && hearing == Hearing::Behind {
                    let behind = Packet::Pattern(PatternPacket::Behind { id, generation });
                    let told = self.crossings.links.send(shard, &behind);
                    assert!(told, "a shard is a member once, and there is room for it");
                }
            }
            worked = true;
        }
        worked
    }

    /// Answers what a shard asks about a pattern; says false if its ring has no room.
    pub(in crate::shard) fn try_answer_pattern<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        request: &Packet<'_>,
    ) -> bool {
        let Packet::Pattern(PatternPacket::Ask { pattern, ticket, from, up_to }) = *request else {
            unreachable!("only questions are answered here")
        };
        let (room, ring) = (self.crossings.links.room(asker), self.crossings.links.ring_bytes());
        // What one message may take, and what several may: as for topics.
        let (one, several) = match Size::of(request) {
            Size::Missed => (room, room.saturating_sub(ring / 8)),
            _ if room < ring / 4 * 3 => (room.saturating_sub(ring / 2), room.saturating_sub(ring / 2)),
            _ => (room, room.saturating_sub(ring / 2)),
        };
        if one < PREFIX_BYTES_MAX {
            return false;
        }
        let rooms = (one, several.min(BATCH_BYTES));
        match from {
            From::Behind(number) => self.say_behind(driver, asker, pattern.text, ticket, (number, up_to), rooms),
            From::Newest { place, after } => {
                self.say_newest(driver, asker, pattern.text, ticket, place as usize, (after, up_to), rooms)
            }
        }
    }

    /// Says what a pattern had behind a number.
    fn say_behind<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        pattern: &str,
        ticket: Ticket<'_>,
        (number, up_to): (u64, u64),
        (one, several): (usize, usize),
    ) -> bool {
        let count = self.journal.count();
        let sent_to = self.journal.hears(pattern, asker).then_some(count);
        let known = self.journal.find(pattern).and_then(|index| Some((index, self.journal.pattern(index)?)));
        let forgot = known.is_none_or(|(_, known)| number < known.forgot_to);
        let Some((index, known)) = known.filter(|_| !forgot || ticket.asker == Asker::Topic) else {
            reach(Mark::PatternForgot);
            let answer = PatternPacket::Answer { ticket, count: 0, next: count, all: true, forgot, sent_to };
            return self.crossings.links.send(asker, &Packet::Pattern(answer));
        };
        let memory = driver.memory();
        let range = self.journal.behind(index, number, up_to);
        let mut bytes = PREFIX_BYTES_MAX;
        let (mut taken, mut count_of, mut full) = (0, 0, false);
        for entry in known.entries.range(range.clone()) {
            let more = match self.homes.entered(&self.store, memory, entry) {
                Ok(Some(Remembered { topic, content, .. })) => {
                    topic.len() + content.event.len() + content.key.len() + content.payload.len()
                }
                Ok(None) => {
                    taken += 1;
                    continue;
                }
                Err(forgotten) => forgotten.topic.len(),
            };
            bytes += MESSAGE_FIELDS + more;
            full = bytes > if count_of == 0 { one } else { several };
            if full {
                break;
            }
            (taken, count_of) = (taken + 1, count_of + 1);
        }
        if count_of == 0 && full {
            return false;
        }
        let all = taken == range.len();
        let last_number =
            known.entries.range(range.clone()).take(taken).next_back().map_or(number, |entry| entry.number);
        let next = if all { up_to.min(count) } else { last_number };
        let answer = PatternPacket::Answer { ticket, count: count_of, next, all, forgot, sent_to };
        let mut sent = self.crossings.links.send(asker, &Packet::Pattern(answer));
        for entry in known.entries.range(range).take(taken) {
            let Entry { number, seq, epoch, .. } = *entry;
            let last = count_of == 1;
            let packet = match self.homes.entered(&self.store, memory, entry) {
                Ok(Some(Remembered { topic, content, .. })) => {
                    PatternPacket::Message { ticket, number, last, topic, epoch, seq, content }
                }
                Ok(None) => continue,
                Err(gone) => {
                    reach(Mark::PatternLost);
                    let (topic, after) = (gone.topic, gone.after);
                    PatternPacket::Lost { ticket, number, last, topic, epoch, after, seq, count: 1 }
                }
            };
            count_of -= 1;
            sent &= self.crossings.links.send(asker, &Packet::Pattern(packet));
        }
        assert!(sent, "the batch was measured against the ring's room");
        if all && ticket.asker == Asker::Topic {
            self.is_live_from_now_on(asker, index, ticket.word, ticket.slot);
        }
        true
    }

    /// Says the newest message of each topic that matches a pattern, from a place on.
    #[allow(clippy::too_many_arguments)]
    fn say_newest<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        pattern: &str,
        ticket: Ticket<'_>,
        mut place: usize,
        (after, up_to): (Option<u64>, u64),
        (one, several): (usize, usize),
    ) -> bool {
        let memory = driver.memory();
        let end = self.homes.places();
        let looks_end = end.min(place.saturating_add(LOOKS));
        self.work.spend(looks_end.saturating_sub(place) as u64 * LOOK_NS);
        let mut found = std::mem::take(&mut self.scratch.newest);
        found.clear();
        let mut bytes = PREFIX_BYTES_MAX;
        let mut full = false;
        while place < looks_end {
            if let Some(newest) = self.homes.newest((&self.store, memory), place, pattern, (after, up_to), &self.limits)
            {
                bytes += MESSAGE_FIELDS + newest.bytes;
                full = bytes > if found.is_empty() { one } else { several };
                if full {
                    break;
                }
                found.push((newest.home, newest.number));
            }
            place += 1;
        }
        let fits = !full || !found.is_empty();
        if fits {
            let (count, all) = (found.len() as u32, place >= end);
            let answer = PatternPacket::Answer { ticket, count, next: place as u64, all, forgot: false, sent_to: None };
            let mut sent = self.crossings.links.send(asker, &Packet::Pattern(answer));
            for (nth, (home, number)) in found.iter().enumerate() {
                let Remembered { topic, epoch, seq, content } = self.homes.newest_of(&self.store, memory, *home);
                let last = nth + 1 == found.len();
                let packet = PatternPacket::Message { ticket, number: *number, last, topic, epoch, seq, content };
                sent &= self.crossings.links.send(asker, &Packet::Pattern(packet));
            }
            assert!(sent, "the batch was measured against the ring's room");
            if !all {
                reach(Mark::PatternInBatches);
            }
        }
        self.scratch.newest = found;
        fits
    }
}
