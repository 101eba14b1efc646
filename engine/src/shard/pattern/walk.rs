//! Walks: a reader of a pattern is given what it has not, by one home after the other, and goes on from its log.
//!
//! ```text
//!   where it is with each home ──▶ home 0: what there is up to 19 ─▶ home 1: ... ─▶ the log, from the message on that came
//!   where the shard is with them      behind 19: nothing, that is in the log         when the shard was at these numbers
//! ```
//!
//! The log is held meanwhile, as far as it may be long; who is too slow for that is given the next round. What it is given stands in the
//! connection's own queue, and is counted as owed when it comes: a reader on its way has nothing coming but what follows in the log.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::line::GapReason;
use corecast_protocol::message::{Gap, Message};
use corecast_protocol::places::TEXT_BYTES_MAX;
use corecast_protocol::topic::TOPIC_BYTES_MAX;

use crate::io::driver::{Driver, Slot};
use crate::mesh::pattern::From;
use crate::mesh::{Asker, Content, Packet, PatternPacket, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::crossing::{Lane, Way};
use crate::shard::dialect::encode::Effort;
use crate::shard::pattern::reads::{Begin, Walk, all_of, up_to};
use crate::shard::topic::delivery::Origin;
use crate::shard::topic::replay::Whereabouts;
use crate::shard::topic::topics::{BEHIND, NONE, REPLAYING, UNRESOLVED};

/// Walks that go on in one turn.
const GOING_PER_TURN: usize = 256;

/// Bytes of what a reader has not been sent, beyond which its walk waits for it.
const AHEAD_BYTES_MAX: u32 = 64 << 10;

impl Shard {
    /// Lets walks go on that waited for all homes, or for room in a ring; says whether any did.
    pub(in crate::shard) fn walk_on_some<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = false;
        for _ in 0..self.reads.going.len().min(GOING_PER_TURN) {
            let Some((subscription, serial)) = self.reads.going.pop_front() else { break };
            let Some(place) = self.topics.subscriptions.get(subscription as usize) else { continue };
            let slot = place.slot;
            if place.serial != serial || self.slots.is_closing(slot) || !self.reads.walks.contains_key(&subscription) {
                continue;
            }
            let generation = self.slots.connections[slot as usize].generation;
            if self.topics.subscriber(subscription).flags & UNRESOLVED != 0 {
                worked = true;
                if self.asks_for_head(slot, subscription, serial) {
                    continue; // It is further than this shard has heard of.
                }
                self.walk_begins(driver, slot, subscription);
                if !self.slots.is_living(slot, generation) || !self.walks(subscription, serial) {
                    continue; // What it was told has ended it.
                }
            }
            worked |= self.walk_on(driver, slot, subscription);
        }
        worked
    }

    /// Says whether a subscription is still on this walk.
    fn walks(&self, subscription: u32, serial: u32) -> bool {
        let place = self.topics.subscriptions.get(subscription as usize);
        place.is_some_and(|place| place.serial == serial) && self.reads.walks.contains_key(&subscription)
    }

    /// Whoever was on another shard before may be further with a home than this one: then the home is asked how far it is, and its answer
    /// comes behind all that is missing here. Says whether there is something to wait for.
    fn asks_for_head(&mut self, slot: Slot, subscription: u32, serial: u32) -> bool {
        let Some(pattern) = self.pattern_read_by(subscription) else { return false };
        let heads = &self.reads.read(pattern).heads;
        let Some(Walk { begin: Some(Begin::Places(life, parts)), .. }) = self.reads.walks.get(&subscription) else {
            return false;
        };
        let ahead = parts.iter().zip(heads).position(|(part, head)| part.number > *head);
        let Some(home) = ahead.filter(|_| *life == self.reads.life && parts.len() == heads.len()) else { return false };
        let number = parts[home].number;
        if !self.crossings.may_ask_for_more(home) {
            self.reads.going.push_back((subscription, serial));
            return true;
        }
        reach(Mark::PatternAhead);
        let serial = self.next_serial();
        let generation = self.slots.connections[slot as usize].generation;
        let ticket = Ticket { slot, generation, asker: Asker::Connection, word: subscription, serial, token: "" };
        let pattern = self.topics.name(self.topic_of(subscription));
        let ask = PatternPacket::Ask { pattern, ticket, from: From::Behind(number), up_to: number };
        let asked = self.crossings.links.send(home, &Packet::Pattern(ask));
        assert!(asked, "room was looked for");
        self.crossings.asked(Way::to(home, Lane::Bulk));
        self.expects_walk(slot, subscription, serial);
        true
    }

    /// Says whether an answer is that of a home that was asked how far it is.
    pub(in crate::shard) fn is_asking_for_head(&self, ticket: Ticket<'_>) -> bool {
        self.is_walking(ticket) && self.topics.subscriber(ticket.word).flags & UNRESOLVED != 0
    }

    /// A home says that it has recorded messages up to `next`, or to where a reader is; if all that are the pattern's have been sent here, they
    /// have come.
    pub(in crate::shard) fn head_is_told(&mut self, ticket: Ticket<'_>, home: usize, next: u64, sent_to: Option<u64>) {
        let Some(pattern) = self.pattern_read_by(ticket.word) else { return };
        if let Some(number) = sent_to {
            let head = &mut self.reads.read_mut(pattern).heads[home];
            *head = number.max(*head);
        }
        if let Some(Walk { begin: Some(Begin::Places(life, parts)), .. }) = self.reads.walks.get_mut(&ticket.word)
            && next < parts[home].number
        {
            // It is further than the home is: these are no places of ours.
            *life = !self.reads.life;
        }
        self.reads.going.push_back((ticket.word, ticket.serial));
    }

    /// All homes have joined: where the reader starts is known from now on.
    fn walk_begins<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) {
        let Some(pattern) = self.pattern_read_by(subscription) else { return };
        let heads = self.reads.read(pattern).heads.clone();
        let life = self.reads.life;
        let Some(walk) = self.reads.walks.get_mut(&subscription) else { return };
        let mut gap = None;
        walk.parts = match walk.begin.take() {
            Some(Begin::Live) => up_to(&heads),
            Some(Begin::Latest) | None => all_of(&heads),
            Some(Begin::Places(of, parts)) => {
                let sound =
                    parts.len() == heads.len() && parts.iter().zip(&heads).all(|(part, head)| part.number <= *head);
                if of == life && sound {
                    parts
                } else {
                    reach(Mark::PatternOtherLife);
                    gap = Some(GapReason::Epoch);
                    all_of(&heads)
                }
            }
        };
        walk.begin_round(&heads);
        walk.gap_told = gap.is_some();
        let token = std::mem::take(&mut walk.token);
        let place = &self.topics.subscriptions[subscription as usize];
        let log = &mut self.topics.logs[place.log as usize];
        log.subscribers[place.index as usize].flags &= !UNRESOLVED;
        log.unresolved -= 1;
        self.hold_log(subscription);
        let generation = self.slots.connections[slot as usize].generation;
        if !token.is_empty() {
            let mut text = [0; TEXT_BYTES_MAX];
            let text = self.places_of(driver, subscription, &mut text);
            self.tell_pattern_subscribed(driver, slot, &token, text);
        }
        if let Some(reason) = gap
            && self.slots.is_living(slot, generation)
        {
            self.tell_pattern_gap(driver, slot, subscription, reason);
        }
    }

    /// The reader goes on behind what is in the log by now, which is held for it.
    fn hold_log(&mut self, subscription: u32) {
        let head = self.topics.topic(self.topic_of(subscription)).head;
        let place = &self.topics.subscriptions[subscription as usize];
        let log = &mut self.topics.logs[place.log as usize];
        let end = log.chain.next();
        let subscriber = &mut log.subscribers[place.index as usize];
        subscriber.go_away(head, 0, end);
        if subscriber.flags & BEHIND == 0 {
            subscriber.flags |= BEHIND;
            log.behind += 1;
        }
    }

    /// Asks the next home for what a reader has not, or lets it go on from its log, if there is none; says false if it has to wait for room.
    fn walk_on<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> bool {
        let Some(walk) = self.reads.walks.get_mut(&subscription) else { return false };
        if !walk.seek() {
            self.walk_ends(driver, slot, subscription);
            return true;
        }
        let home = walk.home;
        let ahead = self.slots.active_if_any(slot).map_or(0, |active| active.queue.len().max(active.body.len()));
        if ahead > AHEAD_BYTES_MAX {
            // It goes on when it has been sent that.
            self.batch_ends(driver, slot, subscription, false);
            return true;
        }
        if self.crossings.may_ask_for_more(home) {
            self.ask_home(slot, subscription);
            return true;
        }
        reach(Mark::PatternWalkWaits);
        let serial = self.topics.subscriptions[subscription as usize].serial;
        self.reads.going.push_back((subscription, serial));
        false
    }

    /// Asks the home that a walk is at; there is room. An earlier answer is not expected any more.
    fn ask_home(&mut self, slot: Slot, subscription: u32) {
        let serial = self.next_serial();
        let Some(walk) = self.reads.walks.get(&subscription) else { return };
        let (home, part) = (walk.home, walk.parts[walk.home]);
        let (from, up_to) = match part.rest {
            Some(rest) => (From::Newest { place: rest.place, after: rest.after }, part.number),
            None => (From::Behind(part.number), walk.up_to[home]),
        };
        let generation = self.slots.connections[slot as usize].generation;
        let ticket = Ticket { slot, generation, asker: Asker::Connection, word: subscription, serial, token: "" };
        let pattern = self.topics.name(self.topic_of(subscription));
        let ask = Packet::Pattern(PatternPacket::Ask { pattern, ticket, from, up_to });
        let asked = self.crossings.links.send(home, &ask);
        assert!(asked, "room was looked for");
        self.crossings.asked(Way::to(home, Lane::Bulk));
        self.stats.replays += 1;
        self.expects_walk(slot, subscription, serial);
    }

    /// An answer is expected for a walk, known by this number.
    fn expects_walk(&mut self, slot: Slot, subscription: u32, serial: u32) {
        let before = std::mem::replace(&mut self.topics.subscriptions[subscription as usize].serial, serial);
        if before == 0 {
            self.active(slot).replays += 1;
        }
    }

    /// A reader that its log cannot serve, or whose walk waited for it, is to be given more; says false if it has to wait for room.
    pub(in crate::shard) fn ask_for_more_of_pattern(&mut self, slot: Slot, subscription: u32, pattern: u32) -> bool {
        let number = self.topics.subscriber(subscription).next;
        let goes_on = self.reads.walks.get(&subscription).is_some_and(|walk| walk.home < walk.parts.len());
        if !goes_on {
            let read = self.reads.read(pattern);
            let (heads, before) = (read.heads.clone(), read.numbers_at(number));
            let walk = self.reads.walks.entry(subscription).or_insert_with(|| Walk::new(None, ""));
            match before {
                // It has ended a round, and knows better.
                _ if !walk.parts.is_empty() => walk.begin_round(&heads),
                Some(numbers) => {
                    walk.parts = up_to(&numbers);
                    walk.begin_round(&heads);
                }
                None => {
                    reach(Mark::PatternTooLate);
                    walk.gap = Some(GapReason::Overflow);
                    walk.begin_anew(&heads);
                }
            }
            let end = self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize].chain.next();
            let pending = self.topics.subscriber(subscription).pending(end);
            self.stats.owed = self.stats.owed.wrapping_sub(pending);
            self.hold_log(subscription);
        }
        let Some(walk) = self.reads.walks.get_mut(&subscription) else { return false };
        if walk.seek() {
            if !self.crossings.may_ask_for_more(walk.home) {
                return false;
            }
            self.ask_home(slot, subscription);
        } else {
            // Nothing is missing: it goes on from its log, when there is time.
            let serial = self.next_serial();
            self.expects_walk(slot, subscription, serial);
            self.reads.going.push_back((subscription, serial));
        }
        true
    }

    /// Returns the home that the walk of a reader is at.
    pub(in crate::shard) fn home_of_walk(&self, subscription: u32) -> usize {
        self.reads.walks.get(&subscription).map_or(0, |walk| walk.home.min(self.crossings.links.shards() - 1))
    }

    /// A home answers: what follows is for a walk.
    pub(in crate::shard) fn walk_is_answered<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        count: u32,
        (next, all): (u64, bool),
        forgot: bool,
    ) {
        let (slot, subscription) = (ticket.slot, ticket.word);
        if !self.is_walking(ticket) {
            return;
        }
        let Some(walk) = self.reads.walks.get_mut(&subscription) else { return };
        (walk.next, walk.all) = (next, all);
        if forgot {
            walk.home_forgot();
            if !walk.gap_told && walk.gap.is_none() {
                walk.gap = Some(GapReason::Expired);
            }
        }
        if let Some(reason) = walk.gap.take() {
            walk.gap_told = true;
            self.tell_pattern_gap(driver, slot, subscription, reason);
            if !self.is_walking(ticket) {
                return; // What it was told has ended it.
            }
        }
        if forgot {
            self.walk_on(driver, slot, subscription);
        } else if count == 0 {
            self.walk_answer_ends(driver, slot, subscription);
        }
        self.slots.make_ready(slot);
    }

    /// Says whether an answer is that to what was asked last for a walk, which goes on.
    fn is_walking(&self, ticket: Ticket<'_>) -> bool {
        self.slots.is_living(ticket.slot, ticket.generation)
            && !self.slots.is_closing(ticket.slot)
            && self.is_replaying(ticket)
            && self.reads.walks.contains_key(&ticket.word)
    }

    /// One message for a walk.
    pub(in crate::shard) fn walk_message<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        origin: Origin<'_>,
        content: Content<'_>,
        last: bool,
    ) {
        if !self.is_walking(ticket) {
            return;
        }
        let (slot, subscription) = (ticket.slot, ticket.word);
        // Of what there is, the order says nothing: who is cut off in the middle of it begins anew.
        let in_order = self.reads.walks.get(&subscription).is_some_and(|walk| walk.parts[walk.home].rest.is_none());
        let mut name = [0; TOPIC_BYTES_MAX];
        let message = Message {
            of: self.name_into(subscription, &mut name),
            topic: origin.topic,
            cursor: origin.cursor,
            event: Some(content.event).filter(|event| !event.is_empty()),
            payload: content.payload,
            text: content.text,
            key: content.key,
            op: content.op,
            at: Some(origin.at).filter(|_| in_order),
        };
        let dialect = self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize].dialect;
        let len = self.encoder.measure(dialect, &message, Effort::None) as u32;
        self.work.spend(self.encoder.cost_ns);
        let Some(place) = self.place_for(driver, slot, subscription, len) else {
            self.shed(driver, slot);
            return;
        };
        self.encoder.write(dialect, &message, driver.memory_mut().bytes_mut(place));
        self.lengthen(slot, NONE, self.encoder.plain_bytes as i64);
        self.stats.owed = self.stats.owed.wrapping_add(1);
        self.stats.delivered = self.stats.delivered.wrapping_add(1);
        self.slots.connections[slot as usize].cursor_due = true;
        if last {
            self.walk_answer_ends(driver, slot, subscription);
            self.slots.make_ready(slot);
        }
    }

    /// Messages that the reader of a walk does not get.
    pub(in crate::shard) fn walk_lost<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        topic: &str,
        (from, to): (Cursor, Cursor),
        count: u64,
        last: bool,
    ) {
        if !self.is_walking(ticket) {
            return;
        }
        let (slot, subscription) = (ticket.slot, ticket.word);
        self.stats.owed = self.stats.owed.wrapping_add(count);
        self.stats.dropped = self.stats.dropped.wrapping_add(count);
        if topic.is_empty() {
            // Even its name is gone: that is told once, and that all else has come.
            let Some(walk) = self.reads.walks.get_mut(&subscription) else { return };
            walk.tells_end = true;
            if !std::mem::replace(&mut walk.gap_told, true) {
                self.tell_pattern_gap(driver, slot, subscription, GapReason::Epoch);
            }
        } else {
            let mut name = [0; TOPIC_BYTES_MAX];
            let of = self.name_into(subscription, &mut name);
            self.tell_gap(driver, slot, subscription, &Gap { topic, from, to, count, reason: GapReason::Expired, of });
        }
        if last && self.is_walking(ticket) {
            self.walk_answer_ends(driver, slot, subscription);
            self.slots.make_ready(slot);
        }
    }

    fn walk_answer_ends<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) {
        let Some(walk) = self.reads.walks.get_mut(&subscription) else { return };
        walk.answer_ends();
        self.walk_on(driver, slot, subscription);
    }

    /// A reader has been given all that it missed: it goes on from its log, if that goes back so far.
    fn walk_ends<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) {
        let generation = self.slots.connections[slot as usize].generation;
        if self.reads.walks.get_mut(&subscription).is_some_and(|walk| std::mem::take(&mut walk.tells_end)) {
            let mut text = [0; TEXT_BYTES_MAX];
            let text = self.places_of(driver, subscription, &mut text);
            let mut name = [0; TOPIC_BYTES_MAX];
            let name = self.name_into(subscription, &mut name);
            self.tell_end_of_places(driver, slot, name, text);
            if !self.slots.is_living(slot, generation) || !self.reads.walks.contains_key(&subscription) {
                return;
            }
        }
        self.topics.subscriber_mut(subscription).flags &= !REPLAYING;
        if self.whereabouts(driver, subscription) == Whereabouts::Here {
            self.reads.walks.remove(&subscription);
            let index = self.topics.subscriptions[subscription as usize].log;
            let place = self.topics.subscriptions[subscription as usize].index;
            let log = &mut self.topics.logs[index as usize];
            let end = log.chain.next();
            let subscriber = &mut log.subscribers[place as usize];
            if subscriber.next == end && subscriber.flags & BEHIND != 0 {
                subscriber.flags &= !BEHIND;
                log.behind -= 1;
                self.release_later(index);
            }
        } else {
            reach(Mark::PatternNextRound);
        }
        self.batch_ends(driver, slot, subscription, true);
    }

    fn name_into<'o>(&self, subscription: u32, out: &'o mut [u8; TOPIC_BYTES_MAX]) -> &'o str {
        let name = self.topics.name(self.topic_of(subscription)).text.as_bytes();
        out[..name.len()].copy_from_slice(name);
        std::str::from_utf8(&out[..name.len()]).expect("patterns are text")
    }

    /// Tells a reader that more is lost than anybody knows.
    fn tell_pattern_gap<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32, reason: GapReason) {
        let mut name = [0; TOPIC_BYTES_MAX];
        let topic = self.name_into(subscription, &mut name);
        let nowhere = Cursor::default();
        self.tell_gap(
            driver,
            slot,
            subscription,
            &Gap { topic, from: nowhere, to: nowhere, count: 0, reason, of: topic },
        );
    }
}
