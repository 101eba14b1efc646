//! Replays as a connection sees them: the start of a subscription, a subscriber that lagged, `poll` and `value`.
//!
//! A replay's messages are encoded into the connection's own queue; when the last of what there is has come, the subscriber goes
//! on from its frame log. Until then it has no position there, only the number that the home goes on after; how much it has
//! coming, and what it lost, is what the home says. A subscription knows the serial number of the replay on its way to it; whatever else comes is of one that
//! has ended.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::line::GapReason;
use corecast_protocol::message::{Gap, Message};
use corecast_protocol::topic::TOPIC_BYTES_MAX;

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Lost, Packet, Rest, Start, Stretch, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::crossing::{Lane, Way};
use crate::shard::dialect::encode::Effort;
use crate::shard::dialect::view::{ALL, Known};
use crate::shard::pattern::reads::pattern_of;
use crate::shard::slot::connection::Waiting;
use crate::shard::topic::topics::{AWAY, BEHIND, FALLEN, NONE, REPLAYING, Topics, UNRESOLVED};

/// Replays of the newest message that may be on their way to one connection: it subscribes to so many topics at once.
const REPLAYS_MAX: u32 = 64;

/// Where a subscriber stands, seen from its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Whereabouts {
    /// At a position.
    Here,
    /// Further than the log is: its replay was faster.
    Ahead,
    /// It is served otherwise, or is to be.
    Elsewhere,
}

impl Shard {
    /// Returns a number for a replay.
    pub(in crate::shard) fn next_serial(&mut self) -> u32 {
        // 0 is none.
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        self.serial
    }

    /// Says whether one more replay may be on its way to a connection: of those that bring the newest message several, of those
    /// that bring a history one.
    pub(in crate::shard) fn may_replay(&self, slot: Slot, since: Since) -> bool {
        let active = self.slots.actives.get(self.slots.connections[slot as usize].active as usize);
        let replays = active.map_or(0, |active| active.replays);
        match since {
            Since::Latest | Since::Live => replays < REPLAYS_MAX,
            _ => replays == 0,
        }
    }

    /// Asks the home for what a lagging subscriber of this connection needs next; says false if it has to wait.
    pub(in crate::shard) fn ask_for_more(&mut self, slot: Slot, subscription: u32) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let topic = self.topics.topic(self.topics.logs[place.log as usize].topic);
        if let Some(pattern) = pattern_of(topic.home) {
            return self.ask_for_more_of_pattern(slot, subscription, pattern);
        }
        let home = topic.home as usize;
        if !self.crossings.may_ask_for_more(home) {
            return false;
        }
        let serial = self.next_serial();
        let topic =
            self.topics.name(self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize].topic);
        let generation = self.slots.connections[slot as usize].generation;
        let ticket = Ticket { slot, generation, asker: Asker::Connection, word: subscription, serial, token: "" };
        let from = Start::Behind(self.topics.subscriber(subscription).next);
        let asked = self.crossings.links.send(home, &Packet::Replay { topic, ticket, from, generation: 0 });
        assert!(asked, "room was looked for");
        self.crossings.asked(Way::to(home, Lane::Bulk));
        self.stats.replays += 1;
        self.topics.subscriptions[subscription as usize].serial = serial;
        self.active(slot).replays += 1;
        true
    }

    /// No answer is expected any more to what was asked for a subscription.
    pub(in crate::shard) fn replay_is_over(&mut self, slot: Slot, subscription: u32) {
        if std::mem::take(&mut self.topics.subscriptions[subscription as usize].serial) != 0
            && let Some(active) = self.slots.active_if_any(slot)
        {
            active.replays -= 1;
        }
    }

    pub(in crate::shard) fn replay_begins<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        head: Cursor,
        stretch: Stretch,
        lost: Option<Lost>,
    ) {
        // Nothing comes behind our last word, though its subscriptions may not all have ended yet.
        if !self.slots.is_living(ticket.slot, ticket.generation) || self.slots.is_closing(ticket.slot) {
            return;
        }
        let slot = ticket.slot;
        if ticket.word == NONE {
            if self.expects(slot, ticket.serial) {
                self.tell_asked(driver, slot, head, stretch, lost);
            }
        } else if self.is_replaying(ticket) {
            self.subscription_continues(driver, ticket, head, stretch, lost);
        }
    }

    /// Says whether an answer is that to what was asked last for a subscription, which has not ended meanwhile.
    pub(in crate::shard) fn is_replaying(&self, ticket: Ticket<'_>) -> bool {
        let place = self.topics.subscriptions.get(ticket.word as usize);
        place.is_some_and(|place| place.slot == ticket.slot && place.serial == ticket.serial)
    }

    fn subscription_continues<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        head: Cursor,
        stretch: Stretch,
        lost: Option<Lost>,
    ) {
        let (slot, subscription) = (ticket.slot, ticket.word);
        let unresolved = self.topics.subscriber(subscription).flags & UNRESOLVED != 0;
        self.home_counts(subscription, stretch, lost);
        if unresolved {
            self.tell_subscribed(driver, slot, ticket.token, head);
            if !self.slots.is_living(slot, ticket.generation) {
                return; // No memory for the answer: the connection and its subscriptions are gone.
            }
        }
        if let Some(lost) = lost {
            // All that there is follows, and whoever is told so begins anew.
            let topic = self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize].topic;
            let table = self.topics.topic(topic).mode.is_table();
            let place = &mut self.topics.subscriptions[subscription as usize];
            (place.fresh, place.awaits_end) = (true, table);
            let reason = match (unresolved, lost.epoch_changed) {
                (true, true) => GapReason::Epoch,
                (true, false) => GapReason::Expired,
                (false, _) => GapReason::Overflow,
            };
            self.tell_lost(driver, slot, subscription, Cursor { epoch: head.epoch, seq: stretch.after }, lost, reason);
        }
        if !self.slots.is_living(slot, ticket.generation) || !self.is_replaying(ticket) {
            return; // What it was told has ended it.
        }
        let held = self.slots.active_if_any(slot).map_or(0, |active| active.queue.len());
        if stretch.count == 0 {
            self.batch_ends(driver, slot, subscription, stretch.is_all());
        } else if held > self.limits.private_bytes_max {
            // Others of its replays brought more than it has read: this one is asked for again.
            reach(Mark::ReplayTwice);
            self.batch_ends(driver, slot, subscription, false);
        }
        self.slots.make_ready(slot);
    }

    /// A home has said how much a subscriber without a position has coming, and what it lost. That is what it is owed from now on.
    fn home_counts(&mut self, subscription: u32, stretch: Stretch, lost: Option<Lost>) {
        let place = &self.topics.subscriptions[subscription as usize];
        let log = &mut self.topics.logs[place.log as usize];
        let end = log.chain.next();
        let subscriber = &mut log.subscribers[place.index as usize];
        let owed = if subscriber.flags & UNRESOLVED != 0 {
            log.unresolved -= 1;
            0
        } else {
            subscriber.pending(end)
        };
        subscriber.flags &= !UNRESOLVED;
        subscriber.go_away(stretch.after, stretch.ahead, end);
        let lost_count = lost.map_or(0, |lost| lost.count);
        let owes = subscriber.pending(end) + lost_count;
        self.stats.owed = self.stats.owed.wrapping_add(owes).wrapping_sub(owed);
        self.stats.dropped = self.stats.dropped.wrapping_add(lost_count);
    }

    /// Finds out where a subscriber stands. Whose replay is over takes its position, if its log has come as far.
    pub(in crate::shard) fn whereabouts<D: Driver>(&mut self, driver: &D, subscription: u32) -> Whereabouts {
        let place = &self.topics.subscriptions[subscription as usize];
        let log = &mut self.topics.logs[place.log as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        if subscriber.flags & AWAY == 0 {
            return Whereabouts::Here;
        }
        let number = subscriber.next;
        if subscriber.flags & (REPLAYING | FALLEN) != 0 || number < log.chain.before() {
            return Whereabouts::Elsewhere;
        }
        if number > log.chain.last(&self.store) {
            return Whereabouts::Ahead;
        }
        let end = log.chain.next();
        let position = log.chain.position_after(&self.store, driver.memory(), number);
        // From now on the log says what it has coming.
        let owed = subscriber.pending(end);
        self.stats.owed = self.stats.owed.wrapping_add(end - position).wrapping_sub(owed);
        subscriber.come_back(position);
        if position < end && subscriber.flags & BEHIND == 0 {
            subscriber.flags |= BEHIND;
            log.behind += 1;
        }
        Whereabouts::Here
    }

    pub(in crate::shard) fn replay_message<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        seq: u64,
        rest: Rest,
        content: Content<'_>,
    ) {
        if !self.slots.is_living(ticket.slot, ticket.generation) || self.slots.is_closing(ticket.slot) {
            return;
        }
        let (slot, subscription) = (ticket.slot, ticket.word);
        if subscription == NONE {
            if self.expects(slot, ticket.serial) {
                self.tell_message(driver, slot, seq, content);
            }
            return;
        }
        if !self.is_replaying(ticket) {
            return;
        }
        if !self.queue_message(driver, slot, subscription, seq, content) {
            self.shed(driver, slot);
            return;
        }
        if rest != Rest::Follows && self.is_replaying(ticket) {
            self.batch_ends(driver, slot, subscription, rest == Rest::Nothing);
        }
    }

    /// Encodes a message into the connection's own queue, if it is of the view that is wanted; says false if there is no memory.
    fn queue_message<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        seq: u64,
        content: Content<'_>,
    ) -> bool {
        let place = &self.topics.subscriptions[subscription as usize];
        let (log, fresh) = (&self.topics.logs[place.log as usize], place.fresh);
        let (view, topic) = (self.topics.view_of(place.log), log.topic);
        let table = self.topics.topic(topic).mode.is_table();
        if view == ALL && !(table && fresh) {
            return self.queue_content(driver, slot, subscription, seq, content);
        }
        let mut shaping = std::mem::take(&mut self.shaping);
        self.work.spend_on(content.payload.len());
        let known = Known { table, old: None, fresh: table && fresh };
        let views = std::mem::take(&mut self.topics.views);
        let shaped = views.shape(view, self.topics.name(topic).text, content, known, &mut shaping);
        self.topics.views = views;
        let queued = match shaped {
            Some(shaped) => self.queue_content(driver, slot, subscription, seq, shaped.whole),
            None => {
                self.topics.subscriber_mut(subscription).pass_away(seq);
                self.stats.filtered = self.stats.filtered.wrapping_add(1);
                true
            }
        };
        self.shaping = shaping;
        queued
    }

    fn queue_content<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        seq: u64,
        content: Content<'_>,
    ) -> bool {
        let message = message_of(&self.topics, subscription, seq, content);
        let dialect = self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize].dialect;
        let len = self.encoder.measure(dialect, &message, Effort::None) as u32;
        self.work.spend(self.encoder.cost_ns);
        let Some(place) = self.place_for(driver, slot, subscription, len) else { return false };
        let message = message_of(&self.topics, subscription, seq, content);
        self.encoder.write(dialect, &message, driver.memory_mut().bytes_mut(place));
        self.lengthen(slot, NONE, self.encoder.plain_bytes as i64);
        self.passed(subscription, seq);
        true
    }

    /// A message of a replay stands where it will be sent from.
    fn passed(&mut self, subscription: u32, seq: u64) {
        self.topics.subscriber_mut(subscription).pass_away(seq);
        self.stats.delivered = self.stats.delivered.wrapping_add(1);
    }

    /// The batch has come: go on from the frame log if that was all, or ask again when the queue has drained.
    pub(in crate::shard) fn batch_ends<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32, all: bool) {
        self.replay_is_over(slot, subscription);
        let Some(active) = self.slots.active_if_any(slot) else { return };
        let waits = active.waiting == Waiting::Answer && self.goes_on_after_replay(slot);
        if all {
            self.topics.subscriptions[subscription as usize].fresh = false;
        }
        if all && std::mem::take(&mut self.topics.subscriptions[subscription as usize].awaits_end) {
            self.snapshot_ends(driver, slot, subscription);
            if !self.slots.connections[slot as usize].is_subscriber() {
                return; // No memory for that: the connection and its subscriptions are gone.
            }
        }
        if all {
            // If the log begins further on, there is more to ask for.
            self.topics.subscriber_mut(subscription).flags &= !REPLAYING;
            match self.whereabouts(driver, subscription) {
                Whereabouts::Here | Whereabouts::Ahead => self.measure_by_log(driver, subscription),
                Whereabouts::Elsewhere => self.topics.subscriber_mut(subscription).flags |= REPLAYING,
            }
        }
        self.has_news(slot, subscription);
        self.end_if_long(slot);
        self.slots.make_ready(slot);
        if waits {
            self.go_on(driver, slot);
        }
    }

    /// What there was of a topic with values has come.
    fn snapshot_ends<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) {
        let topic = self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize].topic;
        let (epoch, seq) = (self.topics.topic(topic).epoch, self.topics.subscriber(subscription).next);
        let mut room = [0; TOPIC_BYTES_MAX];
        let name = copied(self.topics.name(topic).text, &mut room);
        self.tell_end_of_snapshot(driver, slot, name, Cursor { epoch, seq });
    }

    /// Turns a subscriber that its frame log cannot serve any more to the home's history.
    pub(in crate::shard) fn lag(&mut self, subscription: u32) {
        reach(Mark::Lagged);
        self.measure_by_count(subscription);
        let log = self.topics.subscriptions[subscription as usize].log;
        let subscriber = self.topics.subscriber_mut(subscription);
        debug_assert!(subscriber.flags & AWAY != 0, "who has a position is served by the log");
        let counted = subscriber.flags & BEHIND != 0;
        subscriber.flags = (subscriber.flags & !(BEHIND | FALLEN)) | REPLAYING;
        if counted {
            let log = &mut self.topics.logs[log as usize];
            log.behind -= 1;
            self.release_later(self.topics.subscriptions[subscription as usize].log);
        }
    }

    /// Tells a subscriber what it lost before it goes on behind `to`.
    fn tell_lost<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        to: Cursor,
        lost: Lost,
        reason: GapReason,
    ) {
        let epoch = if lost.epoch_changed { lost.after_epoch } else { to.epoch };
        let from = Cursor { epoch, seq: lost.after_seq };
        self.subscription_lost(driver, slot, subscription, from, to, lost.count, reason);
    }

    /// Tells a subscriber of a gap.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::shard) fn subscription_lost<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        from: Cursor,
        to: Cursor,
        count: u64,
        reason: GapReason,
    ) {
        let log = &self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize];
        let mut room = [0; TOPIC_BYTES_MAX];
        let topic = copied(self.topics.name(log.topic).text, &mut room);
        self.tell_gap(driver, slot, subscription, &Gap { topic, from, to, count, reason, of: "" });
    }
}

fn copied<'o>(text: &str, out: &'o mut [u8; TOPIC_BYTES_MAX]) -> &'o str {
    let out = &mut out[..text.len()];
    out.copy_from_slice(text.as_bytes());
    std::str::from_utf8(out).expect("topics are text")
}

fn message_of<'a>(topics: &'a Topics, subscription: u32, seq: u64, content: Content<'a>) -> Message<'a> {
    let topic = topics.logs[topics.subscriptions[subscription as usize].log as usize].topic;
    Message {
        topic: topics.name(topic).text,
        cursor: Cursor { epoch: topics.topic(topic).epoch, seq },
        event: Some(content.event).filter(|event| !event.is_empty()),
        payload: content.payload,
        text: content.text,
        key: content.key,
        op: content.op,
        ..Message::default()
    }
}
