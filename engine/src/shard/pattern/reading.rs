//! Reading patterns: how a reader begins and leaves, and what homes say to the shards with readers.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::pattern::is_pattern;
use corecast_protocol::places::{self, TEXT_BYTES_MAX};

use crate::io::driver::{Driver, Slot};
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::pattern::From;
use crate::mesh::{Asker, Name, Packet, PatternPacket, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::crossing::{Lane, Way};
use crate::shard::pattern::reads::{Begin, PATTERNS_MAX, Walk, home_of_pattern, pattern_of, up_to};
use crate::shard::rules::Mode;
use crate::shard::sending::Round;
use crate::shard::topic::delivery::Origin;
use crate::shard::topic::subscribe::Wish;
use crate::shard::topic::topics::{AWAY, NONE};

/// Says what is wrong with what somebody asks for of a pattern, or as if it were of one.
pub(in crate::shard) fn wrong_wish(
    topic: &str,
    since: Option<Since>,
    places: bool,
    conflate: Option<bool>,
    every_ms: Option<u32>,
    whole: bool,
) -> Option<&'static str> {
    match since {
        _ if !is_pattern(topic) => places.then_some("this cursor is one of a pattern"),
        _ if conflate == Some(true) || every_ms.is_some_and(|ms| ms > 0) => {
            Some("conflate and every are of single topics")
        }
        _ if !whole => Some("fields, where, delta, batch, rate and queue are of single topics"),
        None | Some(Since::Latest | Since::Live | Since::Last(0)) => None,
        _ => Some("a pattern is read from latest, live or a cursor of a pattern"),
    }
}

impl Shard {
    /// Says whether a topic or pattern can be subscribed to now, as far as rings have room; where to wait if not.
    pub(in crate::shard) fn may_subscribe_to(&self, name: Name<'_>) -> Result<(), Way> {
        if !is_pattern(name.text) {
            return self.crossings.may_subscribe(self.home_of(name.hash));
        }
        if self.topics.find(name).is_some() {
            return Ok(()); // Nobody has to be told.
        }
        (0..self.crossings.links.shards()).try_for_each(|home| self.crossings.may_subscribe(home))
    }

    /// Says whether one more pattern can be read.
    pub(in crate::shard) fn has_room_for_patterns(&self) -> bool {
        self.reads.len() < PATTERNS_MAX
    }

    /// Makes a pattern that is not there, and says so to all homes; room was looked for.
    pub(in crate::shard) fn make_pattern(&mut self, name: Name<'_>) -> u32 {
        let home = home_of_pattern(self.reads.make());
        let id = self.topics.make(name, home, false, Mode::default());
        let generation = self.topics.topic(id).generation;
        for home in 0..self.crossings.links.shards() {
            let join = Packet::Pattern(PatternPacket::Join { pattern: name, id, generation });
            let joined = self.crossings.links.send(home, &join);
            assert!(joined, "room was looked for");
            self.crossings.asked(Way::to(home, Lane::Short));
        }
        id
    }

    /// A subscription of a pattern was made: it begins when all homes have joined.
    pub(in crate::shard) fn pattern_subscribed(&mut self, slot: Slot, subscription: u32, wish: Wish<'_>) {
        let serial = self.next_serial();
        self.topics.subscriptions[subscription as usize].serial = serial;
        self.active(slot).replays += 1;
        let walk = Walk::new(Some(Begin::new(wish.since, wish.places)), wish.token);
        self.reads.walks.insert(subscription, walk);
        let topic = self.topics.topic(self.topic_of(subscription));
        if let Some(pattern) = pattern_of(topic.home) {
            if topic.joined {
                self.reads.going.push_back((subscription, serial));
            } else {
                self.reads.wait(pattern, subscription, serial);
            }
        }
    }

    /// Returns the number of the topic or pattern of a subscription.
    pub(in crate::shard) fn topic_of(&self, subscription: u32) -> u32 {
        self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize].topic
    }

    /// Returns the number of the pattern of a subscription, if it has one.
    pub(in crate::shard) fn pattern_read_by(&self, subscription: u32) -> Option<u32> {
        pattern_of(self.topics.topic(self.topic_of(subscription)).home)
    }

    /// Says Leave for patterns without readers, as far as there is room; says whether it did anything.
    pub(in crate::shard) fn leave_patterns(&mut self) -> bool {
        let mut worked = false;
        while let Some(id) = self.reads.leaving.front().copied() {
            let topic = self.topics.topic(id);
            if topic.leaving {
                let (generation, home) = (topic.generation, topic.home);
                let least = self.crossings.links.ring_bytes() / 4 + PREFIX_BYTES_MAX;
                let homes = 0..self.crossings.links.shards();
                if homes.clone().any(|home| self.crossings.links.room(home) < least) {
                    reach(Mark::PatternLeaveWaits);
                    break;
                }
                for home in homes {
                    let leave = Packet::Pattern(PatternPacket::Leave { pattern: self.topics.name(id), id, generation });
                    let left = self.crossings.links.send(home, &leave);
                    assert!(left, "room was looked for");
                }
                self.topics.remove(id);
                if let Some(pattern) = pattern_of(home) {
                    self.reads.remove(pattern);
                }
            } else {
                reach(Mark::PatternBackBeforeLeave);
                self.topics.topic_mut(id).leaves = false;
            }
            self.reads.leaving.pop_front();
            worked = true;
        }
        worked
    }

    /// Hears what another shard says of a pattern.
    pub(in crate::shard) fn hear_pattern<D: Driver>(&mut self, driver: &mut D, from: usize, packet: &Packet<'_>) {
        let Packet::Pattern(said) = *packet else { return };
        match said {
            PatternPacket::Join { pattern, id, generation } => self.pattern_joins(from, pattern.text, id, generation),
            PatternPacket::Leave { pattern, id, generation } => {
                self.journal.leave(pattern.text, from, id, generation, self.clock.now_ms);
            }
            PatternPacket::Ask { .. } => self.replay(driver, from, packet),

            PatternPacket::Joined { id, generation, number } => {
                self.crossings.answered(from, Lane::Short);
                if self.topics.living(id, generation) {
                    self.pattern_joined(id, from, number);
                }
            }
            PatternPacket::Deliver { id, generation, number, topic, epoch, seq, content } => {
                if let Some(pattern) = self.living_pattern(id, generation) {
                    assert!(!self.reads.read(pattern).catching.contains(from), "nothing is delivered while behind");
                    let at = places::At { home: from as u32, number };
                    self.deliver_of_pattern(driver, id, Origin { topic, cursor: Cursor { epoch, seq }, at }, content);
                }
            }
            PatternPacket::Behind { id, generation } => {
                if let Some(pattern) = self.living_pattern(id, generation) {
                    let read = self.reads.read_mut(pattern);
                    if !read.catching.contains(from) {
                        read.catching.insert(from);
                        self.catch_up_with(from, id, generation);
                    }
                }
            }
            PatternPacket::Answer { ticket, count, next, all, forgot, .. } if ticket.asker == Asker::Topic => {
                if let Some(pattern) = self.living_pattern(ticket.word, ticket.slot) {
                    let read = self.reads.read_mut(pattern);
                    read.ends.remove(from);
                    if all {
                        read.ends.insert(from);
                    }
                    if forgot {
                        let first = read.heads[from] + 1;
                        self.skip_in_pattern(driver, ticket.word, from, first);
                    }
                    if count == 0 {
                        let read = self.reads.read_mut(pattern);
                        read.heads[from] = read.heads[from].max(next);
                        self.catch_up_with_ends(from, ticket);
                    }
                }
            }
            PatternPacket::Message { ticket, number, last, topic, epoch, seq, content }
                if ticket.asker == Asker::Topic =>
            {
                if self.living_pattern(ticket.word, ticket.slot).is_some() {
                    let at = places::At { home: from as u32, number };
                    let origin = Origin { topic, cursor: Cursor { epoch, seq }, at };
                    self.deliver_of_pattern(driver, ticket.word, origin, content);
                    if last {
                        self.catch_up_with_ends(from, ticket);
                    }
                }
            }
            PatternPacket::Lost { ticket, number, last, .. } if ticket.asker == Asker::Topic => {
                if let Some(pattern) = self.living_pattern(ticket.word, ticket.slot) {
                    // Whoever missed it finds that out from the home.
                    self.skip_in_pattern(driver, ticket.word, from, number);
                    self.reads.read_mut(pattern).heads[from] = number;
                    if last {
                        self.catch_up_with_ends(from, ticket);
                    }
                }
            }
            PatternPacket::Answer { ticket, count, next, all, forgot, sent_to } => {
                self.crossings.answered(from, Lane::Bulk);
                if self.is_asking_for_head(ticket) {
                    return self.head_is_told(ticket, from, next, sent_to);
                }
                self.walk_is_answered(driver, ticket, count, (next, all), forgot);
            }
            PatternPacket::Message { ticket, number, last, topic, epoch, seq, content } => {
                let at = places::At { home: from as u32, number };
                self.walk_message(driver, ticket, Origin { topic, cursor: Cursor { epoch, seq }, at }, content, last);
            }
            PatternPacket::Lost { ticket, topic, epoch, after, seq, count, last, .. } => {
                let run = (Cursor { epoch, seq: after }, Cursor { epoch, seq });
                self.walk_lost(driver, ticket, topic, run, count, last);
            }
        }
    }

    fn living_pattern(&self, id: u32, generation: u32) -> Option<u32> {
        if self.topics.living(id, generation) { pattern_of(self.topics.topic(id).home) } else { None }
    }

    /// A home says that it sends messages of a pattern from now on.
    fn pattern_joined(&mut self, id: u32, home: usize, number: u64) {
        let Some(pattern) = pattern_of(self.topics.topic(id).home) else { return };
        let read = self.reads.read_mut(pattern);
        read.heads[home] = number;
        read.joined += 1;
        if read.joined == read.heads.len() {
            let life = self.reads.life;
            self.joined(id, life, 0);
            self.reads.all_joined(pattern);
        }
    }

    /// Appends a message to the logs of a pattern, under the next number of these.
    fn deliver_of_pattern<D: Driver>(
        &mut self,
        driver: &mut D,
        id: u32,
        origin: Origin<'_>,
        content: crate::mesh::Content<'_>,
    ) {
        let topic = self.topics.topic(id);
        let (number, joined) = (topic.head + 1, topic.joined);
        let Some(pattern) = pattern_of(topic.home) else { return };
        let places::At { home, number: at_home } = origin.at;
        let head = &mut self.reads.read_mut(pattern).heads[home as usize];
        assert!(at_home > *head, "messages of a home come in the order of their numbers");
        *head = at_home;
        if joined {
            self.reads.list(pattern, home, at_home);
            self.deliver(driver, id, number, content, None, Some(origin));
        }
    }

    /// Messages of a pattern from this number of a home on do not come: whoever reads it is turned to the homes.
    fn skip_in_pattern<D: Driver>(&mut self, driver: &mut D, id: u32, home: usize, number: u64) {
        reach(Mark::PatternSkipped);
        let topic = self.topics.topic_mut(id);
        if !topic.joined {
            return;
        }
        topic.head += 1;
        let (head, mut index) = (topic.head, topic.logs);
        if let Some(pattern) = pattern_of(topic.home) {
            self.reads.list(pattern, home as u32, number);
        }
        while index != NONE {
            self.let_fall(driver, index, u64::MAX);
            let log = &mut self.topics.logs[index as usize];
            let resolved = log.subscribers.len() as u64 - u64::from(log.unresolved);
            self.stats.owed = self.stats.owed.wrapping_add(resolved);
            log.chain.skip(&mut self.store, 1, head);
            log.pending = log.subscribers.len() as u32;
            if !std::mem::replace(&mut log.queued, true) {
                self.sending.dirty.push_back(Round::new(index, 0, self.clock.now_us));
            }
            index = self.topics.logs[index as usize].next;
        }
    }

    /// A pattern is to ask a home for what it missed.
    fn catch_up_with(&mut self, home: usize, id: u32, generation: u32) {
        self.crossings.all[home].catching.push_back((id, generation));
        self.crossings.crowded.insert(home);
    }

    fn catch_up_with_ends(&mut self, home: usize, ticket: Ticket<'_>) {
        let Some(pattern) = self.living_pattern(ticket.word, ticket.slot) else { return };
        let read = self.reads.read_mut(pattern);
        if read.ends.contains(home) {
            read.catching.remove(home);
        } else {
            self.catch_up_with(home, ticket.word, ticket.slot);
        }
    }

    /// Asks a home for what a pattern missed; room was looked for. Says false if it is a topic.
    pub(in crate::shard) fn ask_to_catch_up_with(&mut self, home: usize, id: u32, generation: u32) -> bool {
        let Some(pattern) = pattern_of(self.topics.topic(id).home) else { return false };
        let from = From::Behind(self.reads.read(pattern).heads[home]);
        let ticket = Ticket { slot: generation, generation: 0, asker: Asker::Topic, word: id, serial: 0, token: "" };
        let pattern = self.topics.name(id);
        let ask = PatternPacket::Ask { pattern, ticket, from, up_to: u64::MAX };
        let asked = self.crossings.links.send(home, &Packet::Pattern(ask));
        assert!(asked, "room was looked for");
        true
    }

    /// Writes where a reader of a pattern stands; the word for the beginning, if it has no room.
    pub(in crate::shard) fn places_of<'o, D: Driver>(
        &self,
        driver: &D,
        subscription: u32,
        out: &'o mut [u8; TEXT_BYTES_MAX],
    ) -> &'o str {
        const BEGINNING: &str = "latest";
        let Some(pattern) = self.pattern_read_by(subscription) else { return BEGINNING };
        let parts = match self.reads.walks.get(&subscription) {
            Some(Walk { begin: Some(Begin::Places(life, parts)), .. }) => {
                return places::write(out, *life, parts.iter().copied()).unwrap_or(BEGINNING);
            }
            Some(Walk { begin: Some(Begin::Live), .. }) => return "live",
            Some(walk) => Some(walk.parts.clone()).filter(|parts| !parts.is_empty()),
            None => {
                let place = &self.topics.subscriptions[subscription as usize];
                let log = &self.topics.logs[place.log as usize];
                let subscriber = &log.subscribers[place.index as usize];
                let message = match subscriber.flags & AWAY {
                    0 => log.chain.number_before(&self.store, driver.memory(), subscriber.next),
                    _ => subscriber.next,
                };
                self.reads.read(pattern).numbers_at(message).map(|numbers| up_to(&numbers))
            }
        };
        let written = parts.and_then(|parts| places::write(out, self.reads.life, parts).ok().map(str::len));
        match written {
            Some(len) => std::str::from_utf8(&out[..len]).unwrap_or(BEGINNING),
            None => BEGINNING,
        }
    }
}
