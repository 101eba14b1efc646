//! What a home does: number, record, relay; answer joins and replays; and what it does when a ring is full.
//!
//! Nothing waits here. A message that does not fit into a member's ring marks the member as behind; it is told so, and asks for what
//! it missed. An answer that does not fit is kept ([`Crossing`](crate::shard::crossing::Crossing)); askers bound how many can be owed to them.

use corecast_protocol::message::Op;
use corecast_protocol::topic::{DEMAND, is_system};

use crate::io::driver::Driver;
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::{Asker, Content, Lost, Name, Packet, Reason, Rest, Standing, Start, Stretch, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::crossing::{Owed, Size};
use crate::shard::rules::Mode;
use crate::shard::topic::home::{Home, Valued};
use crate::shard::topic::member::{Hearing, Member, Resolved};
use crate::shard::topic::topics::NONE;

/// Bytes of messages in one batch of a replay, unless a single message is larger.
const BATCH_BYTES: usize = 64 << 10;

/// Bytes of a [`Packet::Message`] besides its token, event name and payload, rounded up.
const MESSAGE_FIELDS: usize = 64;

/// Refusals that nobody counts are dropped beyond this many: their publisher did not ask for answers.
const OWED_MAX: usize = 16 << 10;

impl Shard {
    pub(in crate::shard) fn number<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        topic: Name<'_>,
        ticket: Ticket<'_>,
        content: Content<'_>,
    ) {
        let (epoch, seq) = match self.record_and_relay(driver, topic, content) {
            Ok(cursor) => cursor,
            Err(reason) => {
                reach(Mark::NotRecorded);
                self.tell_shard(asker, &Packet::Refused { ticket, reason });
                return;
            }
        };
        if ticket.asker != Asker::Nobody {
            self.tell_shard(asker, &Packet::Published { ticket, epoch, seq });
        }
    }

    /// Numbers and records a message, and delivers it; returns the epoch and its number, or why it is not recorded.
    #[inline(always)]
    pub(in crate::shard) fn record_and_relay<D: Driver>(
        &mut self,
        driver: &mut D,
        topic: Name<'_>,
        content: Content<'_>,
    ) -> Result<(u32, u64), Reason> {
        let bytes = u32::try_from(bytes_of(content)).unwrap_or(u32::MAX);
        if !self.store.pool.has(bytes) {
            let spared = self.homes.find(topic).unwrap_or(NONE);
            self.make_way(driver, bytes, spared);
        }
        let Some(index) = self.homes.find_or_make(topic, &mut self.store, &self.limits) else {
            return Err(Reason::Full);
        };
        if self.homes.keeps_rows(index, &self.limits) {
            return self.record_and_relay_value(driver, index, content);
        }
        if self.homes.is_old_wanted(index) {
            return self.record_and_relay_change(driver, index, content);
        }
        let memory = driver.memory_mut();
        let recorded = self.homes.record(index, content, &mut self.store, memory, &self.limits, self.clock.now_ms);
        let Some(seq) = recorded else {
            self.homes.remove_if_idle(index);
            return Err(Reason::Full);
        };
        self.stats.published += 1;
        self.hottest.published(topic.hash, self.clock.now_ms);
        Ok((self.relay(index, seq, content, None), seq))
    }

    /// The same for a topic of which somebody wants to hear what was before.
    #[inline(never)]
    fn record_and_relay_change<D: Driver>(
        &mut self,
        driver: &mut D,
        index: u32,
        content: Content<'_>,
    ) -> Result<(u32, u64), Reason> {
        let mut values = std::mem::take(&mut self.values);
        let had = self.homes.copy_newest(index, (&self.store, driver.memory()), &mut values.old);
        let kept = driver.memory_mut();
        let recorded = self.homes.record(index, content, &mut self.store, kept, &self.limits, self.clock.now_ms);
        let done = recorded.ok_or(Reason::Full).map(|seq| {
            self.stats.published += 1;
            self.hottest.published(self.homes.hash_at(index), self.clock.now_ms);
            (self.relay(index, seq, content, had.then_some(&values.old[..])), seq)
        });
        self.values = values;
        self.homes.remove_if_idle(index);
        done
    }

    /// The same for a topic that keeps values: what changes one is put together with it here.
    #[inline(never)]
    fn record_and_relay_value<D: Driver>(
        &mut self,
        driver: &mut D,
        index: u32,
        content: Content<'_>,
    ) -> Result<(u32, u64), Reason> {
        let key_hash = self.hash_topic(content.key);
        let mut values = std::mem::take(&mut self.values);
        let kept = (&mut self.store, driver.memory_mut());
        let now_ms = self.clock.now_ms;
        let valued = self.homes.record_value(index, key_hash, content, &mut values, kept, &self.limits, now_ms);
        self.work.spend_on(values.old.len() + content.payload.len());
        let done = valued.map(|valued| match valued {
            Valued::Nothing(seq) => (self.homes.epoch_at(index), seq),
            Valued::Recorded(seq, had) => {
                self.stats.published += 1;
                self.hottest.published(self.homes.hash_at(index), now_ms);
                let old = had.then_some(&values.old[..]);
                let content = match content.op {
                    Op::Merge => Content { payload: &values.new, op: Op::Put, text: true, ..content },
                    Op::Put | Op::Delete => content,
                };
                (self.relay(index, seq, content, old), seq)
            }
        });
        self.values = values;
        self.homes.remove_if_idle(index);
        done
    }

    /// Delivers a message that was recorded; `old` is what its key had before. Returns the epoch.
    #[inline(always)]
    fn relay(&mut self, index: u32, seq: u64, content: Content<'_>, old: Option<&[u8]>) -> u32 {
        let Some(home) = self.homes.home_mut(index) else { return 0 };
        let epoch = home.epoch;
        for place in 0..home.members().len() {
            let Some(home) = self.homes.home_mut(index) else { break };
            let Member { shard, id, generation, hearing, wants_old } = home.members()[place];
            // Who joins hears of it when it is told where the home stands then, who is behind when it catches up.
            if hearing != Hearing::Live {
                continue;
            }
            let shard = shard as usize;
            if wants_old && old.is_some() && self.relay_change(shard, (id, generation), seq, content, old) {
                continue;
            }
            let deliver = Packet::Deliver { id, generation, seq, content };
            if bytes_of(content) > self.crossings.room_live(shard) || !self.crossings.links.send(shard, &deliver) {
                if let Some(home) = self.homes.home_mut(index) {
                    home.members_mut()[place].hearing = Hearing::Behind;
                }
                reach(Mark::RingFull);
                self.stats.behind += 1;
                self.crossings.all[shard].behind.push_back(index);
                self.crossings.crowded.insert(shard);
            }
        }
        let number = self.journal.next();
        let patterns = self.homes.journal(index, number, &mut self.journal);
        if !self.journal.is_none(patterns) {
            self.relay_to_patterns(patterns, index, (epoch, seq), content);
        }
        epoch
    }

    /// Delivers a message with what its key had before, if there is room for both; otherwise it goes without.
    #[inline(never)]
    fn relay_change(
        &mut self,
        shard: usize,
        (id, generation): (u32, u32),
        seq: u64,
        content: Content<'_>,
        old: Option<&[u8]>,
    ) -> bool {
        let old = old.unwrap_or_default();
        if bytes_of(content) + old.len() > self.crossings.room_live(shard) {
            return false;
        }
        let mut both = std::mem::take(&mut self.scratch.both);
        both.clear();
        both.extend_from_slice(old);
        both.extend_from_slice(content.payload);
        let content = Content { payload: &both, ..content };
        let change = Packet::Change { id, generation, seq, old_len: old.len() as u32, content };
        let sent = self.crossings.links.send(shard, &change);
        self.scratch.both = both;
        sent
    }

    pub(in crate::shard) fn clear<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        topic: Name<'_>,
        ticket: Ticket<'_>,
    ) {
        let done = match self.homes.find(topic) {
            // Its readers have values, too.
            Some(index) if self.homes.keeps_rows(index, &self.limits) => {
                self.record_and_relay_value(driver, index, Content { op: Op::Delete, text: true, ..Default::default() })
            }
            Some(index) => Ok(self.homes.clear(index, &mut self.store)),
            None => Ok((0, 0)),
        };
        let answer = match done {
            Ok((epoch, seq)) => Packet::Published { ticket, epoch, seq },
            Err(reason) => Packet::Refused { ticket, reason },
        };
        self.tell_shard(asker, &answer);
    }

    /// Numbers a message, or without one forgets the history, if the topic is still what the asker saw.
    pub(in crate::shard) fn act_if<D: Driver>(
        &mut self,
        driver: &mut D,
        asker: usize,
        topic: Name<'_>,
        ticket: Ticket<'_>,
        expected: Standing,
        content: Option<Content<'_>>,
    ) {
        let home = self.homes.find(topic);
        let nothing = Standing { epoch: self.homes.epoch_of(topic), head: 0, remembers: false };
        let home = home.and_then(|index| self.homes.home_mut(index));
        let standing = home.map_or(nothing, |home| home.standing(&self.store));
        match content {
            _ if standing != expected => self.tell_shard(asker, &Packet::Refused { ticket, reason: Reason::Changed }),
            Some(content) => self.number(driver, asker, topic, ticket, content),
            None => self.clear(driver, asker, topic, ticket),
        }
    }

    pub(in crate::shard) fn member_joins(&mut self, shard: usize, topic: Name<'_>, id: u32, generation: u32) {
        let index = match self.homes.find_or_make(topic, &mut self.store, &self.limits) {
            Some(index) => index,
            // Subscribing must not fail half-way: the bound is exceeded by at most what the shards' own bounds allow.
            None => self.homes.make(topic),
        };
        let Some(home) = self.homes.home_mut(index) else { return };
        let (epoch, head) = (home.epoch, home.head(&self.store));
        let joined = Packet::Joined { id, generation, epoch, head };
        let told = self.crossings.all[shard].owed.is_empty() && self.crossings.links.send(shard, &joined);
        if !told {
            self.crossings.all[shard].owed.push_back(Owed::Joined(index, id, generation));
            self.crossings.crowded.insert(shard);
        }
        let hearing = if told { Hearing::Live } else { Hearing::Joining };
        self.homes.add_member(index, Member { shard: shard as u32, id, generation, hearing, wants_old: false });
        if self.demand.is_told {
            self.demand_changes(topic);
        }
    }

    pub(in crate::shard) fn member_leaves(&mut self, shard: usize, topic: Name<'_>, id: u32, generation: u32) {
        let Some(index) = self.homes.find(topic) else { return };
        self.homes.remove_member(index, shard, id, generation);
        if !self.occupancy.is_empty() {
            self.reader_leaves(shard, topic);
        }
        if self.demand.is_told {
            self.demand_changes(topic);
        }
        if !self.presence.is_empty() {
            self.all_depart(shard, topic);
        }
    }

    /// A shard with subscribers wants to hear of values before they change.
    pub(in crate::shard) fn member_wants_old(&mut self, shard: usize, topic: Name<'_>, id: u32, generation: u32) {
        let Some(index) = self.homes.find(topic) else { return };
        self.homes.wants_old(index, shard, id, generation);
    }

    /// Answers a replay now, or later if the asker's ring has no room.
    pub(in crate::shard) fn replay<D: Driver>(&mut self, driver: &mut D, asker: usize, request: &Packet<'_>) {
        if let Packet::Replay { topic, .. } = *request
            && is_system(topic.text)
        {
            if topic.text == DEMAND && self.recall_demand(asker, request) {
                return;
            }
            self.recall_readers(driver, topic);
        }
        let size = Size::of(request) as usize;
        let crossing = &self.crossings.all[asker];
        // Not before the answer to its Join, and not before those that wait.
        let first = crossing.owed.is_empty() && crossing.replays[size].is_empty();
        if !first || !self.try_replay(driver, asker, request) {
            reach(Mark::ReplayKept);
            self.crossings.all[asker].replays[size].push_back(request.to_bytes());
            self.crossings.crowded.insert(asker);
        }
    }

    fn try_replay<D: Driver>(&mut self, driver: &mut D, asker: usize, request: &Packet<'_>) -> bool {
        let Packet::Replay { topic, ticket, from, generation } = *request else {
            return self.try_answer_pattern(driver, asker, request);
        };
        let (room, ring) = (self.crossings.links.room(asker), self.crossings.links.ring_bytes());
        // What one message may take, and what several may.
        let (one, several) = match Size::of(request) {
            Size::Missed => (room, room.saturating_sub(ring / 8)),
            _ if room < ring / 4 * 3 => (room.saturating_sub(ring / 2), room.saturating_sub(ring / 2)),
            _ => (room, room.saturating_sub(ring / 2)),
        };
        let Some(index) = self.homes.find(topic) else {
            let own = self.homes.epoch_of(topic);
            let lost = match from {
                Start::After { epoch, seq } if epoch != 0 && (epoch != own || seq > 0) => {
                    Some(Lost { after_epoch: epoch, after_seq: seq, count: 0, epoch_changed: true })
                }
                _ => None,
            };
            let stretch = Stretch::default();
            let nothing = Packet::Replayed { ticket, epoch: own, head: 0, stretch, lost };
            return one >= PREFIX_BYTES_MAX && self.crossings.links.send(asker, &nothing);
        };
        let memory = driver.memory();
        let keeps = self.homes.keeps(index, &self.limits);
        self.homes.fit(index, keeps, &mut self.store);
        let rows = self.homes.has_rows(index);
        let resolved = rows.then(|| self.homes.resolve_rows(index, &self.store, memory, from));
        let Some(home) = self.homes.home_mut(index) else { return true };
        home.forget_old(&mut self.store, memory, keeps, self.clock.now_ms);
        let (epoch, head, end) = (home.epoch, home.head(&self.store), home.next());
        let start = if keeps.mode == Mode::Raw && from == Start::Latest { Start::Live } else { from };
        let Resolved { first, lost } = resolved.unwrap_or_else(|| home.resolve(&self.store, memory, start));
        let is_passed = |home: &Home, position| rows && home.is_replaced(&self.store, memory, position);
        let ahead = match rows {
            true => (first..end).filter(|position| !is_passed(home, *position)).count() as u64,
            false => end - first,
        };
        // How many fit: all of them must, because the asker is told their number first.
        let overhead = Packet::bytes_max(ticket.token.len());
        let mut bytes = overhead;
        let mut count = 0;
        let mut next = first;
        while u64::from(count) < ahead {
            if !is_passed(home, next) {
                let len = home.content_len(&self.store, memory, next);
                let more = bytes + len + ticket.token.len() + MESSAGE_FIELDS;
                if more > if count == 0 { one } else { several.min(BATCH_BYTES) } {
                    break;
                }
                bytes = more;
                count += 1;
            }
            next += 1;
        }
        if one < overhead || (count == 0 && ahead > 0) {
            return false;
        }
        let is_all = u64::from(count) == ahead;
        let mut after = home.number_before(&self.store, memory, first);
        if let (true, None, Start::After { seq, .. } | Start::Behind(seq)) = (rows, lost, from) {
            // What was replaced meanwhile is not before it any more, but it has had it.
            after = after.max(seq);
        }
        let last = if is_all { head } else { home.number_before(&self.store, memory, next) };
        let stretch = Stretch { after, last: last.max(after), count, ahead };
        let mut sent = self.crossings.links.send(asker, &Packet::Replayed { ticket, epoch, head, stretch, lost });
        let mut left = count;
        for position in first..next {
            if is_passed(home, position) {
                continue;
            }
            left -= 1;
            let seq = home.number(&self.store, memory, position);
            let content = home.content(&self.store, memory, position);
            let rest = match left {
                0 if is_all => Rest::Nothing,
                0 => Rest::Later,
                _ => Rest::Follows,
            };
            sent &= self.crossings.links.send(asker, &Packet::Message { ticket, seq, rest, content });
        }
        assert!(sent, "the batch was measured against the ring's room");
        if !is_all {
            reach(Mark::ReplayInBatches);
        }
        if ticket.asker == Asker::Topic && is_all {
            for member in home.members_mut() {
                if member.shard as usize == asker && member.id == ticket.word && member.generation == generation {
                    member.hearing = Hearing::Live;
                }
            }
        }
        true
    }

    /// Tells an asker something now, or later if its ring has no room.
    pub(in crate::shard) fn tell_shard(&mut self, asker: usize, packet: &Packet<'_>) {
        let owed = &mut self.crossings.all[asker].owed;
        if owed.is_empty() && self.crossings.links.send(asker, packet) {
            return;
        }
        let uncounted = matches!(packet, Packet::Refused { ticket, .. } if ticket.asker == Asker::Nobody);
        if !uncounted || owed.len() < OWED_MAX {
            reach(Mark::AnswerKept);
            owed.push_back(Owed::Packet(packet.to_bytes()));
            self.crossings.crowded.insert(asker);
        }
    }

    /// Pays what is owed to a shard, as far as its ring has room; says whether anything was done.
    pub(in crate::shard) fn pay<D: Driver>(&mut self, driver: &mut D, shard: usize) -> bool {
        let mut worked = false;
        while let Some(owed) = self.crossings.all[shard].owed.pop_front() {
            let paid = match &owed {
                Owed::Packet(bytes) => self.crossings.links.send_encoded(shard, bytes),
                Owed::Joined(index, id, generation) => self.tell_joined(shard, *index, *id, *generation),
                Owed::JoinedPattern(index, id, generation) => self.tell_pattern_joined(shard, *index, *id, *generation),
            };
            if !paid {
                self.crossings.all[shard].owed.push_front(owed);
                return worked;
            }
            worked = true;
        }
        while self.crossings.links.room(shard) >= PREFIX_BYTES_MAX {
            let Some(index) = self.crossings.all[shard].behind.pop_front() else { break };
            let Some(home) = self.homes.home_mut(index) else { continue };
            for member in home.members() {
                if member.shard as usize == shard && member.hearing == Hearing::Behind {
                    let told = self
                        .crossings
                        .links
                        .send(shard, &Packet::Behind { id: member.id, generation: member.generation });
                    assert!(told, "a shard is a member once, and there is room for it");
                }
            }
            worked = true;
        }
        worked |= self.tell_behind_patterns(shard);
        worked | self.pay_replays(driver, shard)
    }

    /// Answers replays that are owed to a shard, one or a few of each size in turn.
    fn pay_replays<D: Driver>(&mut self, driver: &mut D, shard: usize) -> bool {
        let mut served = [false; Size::COUNT];
        let mut fits = [true; Size::COUNT];
        if let Some(first) = self.crossings.all[shard].impatient() {
            fits = std::array::from_fn(|size| size == first);
        }
        while fits.contains(&true) {
            for size in 0..Size::COUNT {
                for _ in 0..Size::IN_TURN[size] {
                    let request = if fits[size] { self.crossings.all[shard].replays[size].pop_front() } else { None };
                    let Some(bytes) = request else {
                        fits[size] = false;
                        break;
                    };
                    let request = Packet::decode(&bytes).expect("it was encoded here");
                    fits[size] = self.try_replay(driver, shard, &request);
                    served[size] |= fits[size];
                    if !fits[size] {
                        self.crossings.all[shard].replays[size].push_front(bytes);
                    }
                }
            }
        }
        let crossing = &mut self.crossings.all[shard];
        for (size, served) in served.iter().enumerate() {
            let starved = !served && !crossing.replays[size].is_empty();
            crossing.waited[size] = if starved { crossing.waited[size] + 1 } else { 0 };
        }
        served.contains(&true)
    }

    /// Tells a shard that it has joined, and where the home stands now; says whether there was room.
    fn tell_joined(&mut self, shard: usize, index: u32, id: u32, generation: u32) -> bool {
        let is_it =
            |member: &Member| member.shard as usize == shard && member.id == id && member.generation == generation;
        let mut home = self.homes.home_mut(index);
        let place = home.as_ref().and_then(|home| home.members().iter().position(is_it));
        // Who has left meanwhile counts its answers all the same.
        let (epoch, head) = match (&home, place) {
            (Some(home), Some(_)) => (home.epoch, home.head(&self.store)),
            _ => (0, 0),
        };
        let told = self.crossings.links.send(shard, &Packet::Joined { id, generation, epoch, head });
        if let (true, Some(home), Some(place)) = (told, &mut home, place) {
            reach(Mark::JoinedLater);
            home.members_mut()[place].hearing = Hearing::Live;
        } else if told {
            reach(Mark::JoinedAndLeft);
        }
        told
    }
}

/// Returns the bytes of a packet that delivers a content, rounded up.
fn bytes_of(content: Content<'_>) -> usize {
    MESSAGE_FIELDS + content.event.len() + content.key.len() + content.payload.len()
}
