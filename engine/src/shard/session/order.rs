//! Orders: what a session wants done, and what became of it.
//!
//! ```text
//!   session ──order──▶ may it? ─▶ limits ─▶ room in the ring ─▶ home
//!           ◀─ Done, Wait or Refused, at once              │
//!           ◀─ news: subscribed, outcome, asked ◀──────────┘ later
//! ```
//!
//! All sessions share what is here: a rule that is added to these orders holds for each of them.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::message::{KEY_BYTES_MAX, Op};
use corecast_protocol::topic::is_system;

use crate::grant::Action;
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Name, Numbered, Packet, Reason, Standing, Start, Ticket};
use crate::shard::Shard;
use crate::shard::crossing::{Lane, Way};
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::wait::{Outcome, Told, Wait};
use crate::shard::timings::low_bits;
use crate::shard::topic::subscribe::Wish;
use crate::shard::topic::topics::{NONE, UNRESOLVED};

/// What a session wants a home to do.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) enum Order<'a> {
    /// A message.
    Publish {
        /// Its topic.
        topic: &'a str,
        /// What it says; what it does to the value of its key, if `op` says nothing.
        content: Content<'a>,
        /// What it does to that value; none: what its topic is for.
        op: Option<Op>,
        /// What the topic has to be for that.
        expected: Option<Standing>,
        /// Whose it is, and which one, if it is numbered; nothing else is expected then.
        numbered: Option<Numbered>,
        /// Who is told.
        asker: Asker,
        /// What it is told with.
        token: &'a str,
    },
    /// That a topic forgets its history.
    Clear {
        /// Which.
        topic: &'a str,
        /// What it has to be for that.
        expected: Option<Standing>,
    },
    /// Messages that a topic remembers, once.
    Ask {
        /// Which.
        topic: &'a str,
        /// What for: to read them, or to know whether a condition holds before it is published to.
        action: Action,
        /// From where on.
        from: Start,
        /// What its answer is known by.
        serial: u32,
    },
}

impl Shard {
    /// Sends a home what a session wants it to do.
    pub(in crate::shard) fn order(&mut self, slot: Slot, order: Order<'_>) -> Outcome {
        match order {
            // It would be missing from what another process has taken over by now.
            Order::Publish { .. } | Order::Clear { .. } if self.frozen => Outcome::Refused(Refusal::Draining),
            Order::Publish { topic, content, op, expected, numbered, asker, token } => {
                let content = Content { at_us: low_bits(self.clock.now_us), ..content };
                let mut key = [0; KEY_BYTES_MAX];
                if self.limits.is_too_large(topic, content.payload.len()) {
                    return Outcome::Refused(Refusal::TooLarge);
                }
                if is_system(topic) {
                    return Outcome::Refused(Refusal::Forbidden);
                }
                if let Err(may_not) = self.may(slot, Action::Publish, topic) {
                    return may_not.into();
                }
                if asker == Asker::Connection && self.owes_all(slot) {
                    return Outcome::Wait(Wait::Answer);
                }
                let content = match self.as_value(topic, content, op, &mut key) {
                    Ok(content) => content,
                    Err(refusal) => return Outcome::Refused(refusal),
                };
                let topic = self.name_topic(topic);
                let bytes = Packet::bytes_max(content.payload.len());
                let lane = Lane::of(bytes, self.crossings.links.ring_bytes());
                let way = Way::to(self.home_of(topic.hash), lane);
                if self.is_metered(slot) {
                    // What has to wait for room comes here again, and is metered once.
                    if !self.crossings.has_room(way, bytes, u32::from(asker != Asker::Nobody)) {
                        return Outcome::Wait(Wait::Room(way));
                    }
                    if let Err(refusal) = self.meter(slot, topic, content.payload.len() as u64) {
                        return Outcome::Refused(refusal);
                    }
                }
                let ticket = self.ticket(slot, asker, token);
                let packet = match (expected, numbered) {
                    (None, None) => Packet::Publish { topic, ticket, content },
                    (None, Some(numbered)) => Packet::PublishOnce { topic, ticket, numbered, content },
                    (Some(expected), _) => Packet::PublishIf { topic, ticket, expected, content },
                };
                self.send_order(slot, &packet, way, bytes, asker)
            }
            Order::Clear { topic, expected } => {
                if let Err(may_not) = self.may(slot, Action::Publish, topic) {
                    return may_not.into();
                }
                let topic = self.name_topic(topic);
                let ticket = self.ticket(slot, Asker::Connection, "");
                let packet = match expected {
                    None => Packet::Clear { topic, ticket },
                    Some(expected) => Packet::ClearIf { topic, ticket, expected },
                };
                let way = Way::to(self.home_of(topic.hash), Lane::Short);
                self.send_order(slot, &packet, way, Packet::bytes_max(0), Asker::Connection)
            }
            Order::Ask { topic, action, from, serial } => {
                if let Err(may_not) = self.may(slot, action, topic) {
                    return may_not.into();
                }
                let topic = self.name_topic(topic);
                let ticket = Ticket { serial, ..self.ticket(slot, Asker::Connection, "") };
                let way = Way::to(self.home_of(topic.hash), Lane::Bulk);
                let bytes = Packet::bytes_max(0);
                if !self.crossings.has_room(way, bytes, 1) {
                    return Outcome::Wait(Wait::Room(way));
                }
                let sent = self
                    .crossings
                    .links
                    .send(way.home as usize, &Packet::Replay { topic, ticket, from, generation: 0 });
                assert!(sent, "room was looked for");
                self.crossings.asked(way);
                Outcome::Done
            }
        }
    }

    /// Subscribes a connection to a topic; a subscription that it has is changed, or begins anew.
    pub(in crate::shard) fn order_subscription<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        wish: Wish<'_>,
    ) -> Outcome {
        if let Err(may_not) = self.may(slot, Action::Subscribe, wish.topic) {
            return may_not.into();
        }
        match self.subscription_of(slot, wish.topic) {
            Some(subscription)
                if wish.since.is_none() && wish.places.is_none() && self.has_view(subscription, wish.view) =>
            {
                self.change(slot, subscription, wish.manner);
                if self.tell_pattern_stands(driver, slot, subscription, wish.token) {
                    return Outcome::Done;
                }
                let log = self.topics.subscriptions[subscription as usize].log;
                let topic = self.topics.topic(self.topics.logs[log as usize].topic);
                let head = Cursor { epoch: topic.epoch, seq: topic.head };
                self.tell_subscribed(driver, slot, wish.token, head);
                return Outcome::Done;
            }
            // A new start, or another view, is a new subscription; room for it is looked for before the old one ends.
            Some(subscription) => {
                if let Err(way) = self.may_subscribe_to(self.name_topic(wish.topic)) {
                    return Outcome::Wait(Wait::Room(way));
                }
                if !self.unsubscribe(driver, slot, subscription) {
                    self.kill(driver, slot);
                    return Outcome::Done;
                }
            }
            None if self.slots.connections[slot as usize].subscriptions >= self.subscriptions_max(slot) => {
                return Outcome::Refused(Refusal::TooMany);
            }
            None => {}
        }
        if self.is_metered(slot)
            && let Err(refusal) = self.meter_topic(slot, self.name_topic(wish.topic))
        {
            return Outcome::Refused(refusal);
        }
        if let Err(refusal) = self.count_subscription(slot) {
            return Outcome::Refused(refusal);
        }
        let outcome = self.subscribe(slot, wish);
        if outcome != Outcome::Done {
            self.discount_subscription(slot);
        } else if wish.manner.skips() {
            driver.keep_lean(slot);
        }
        outcome
    }

    /// Takes a publication from what may be published; the lines of a batch were taken together.
    fn meter(&mut self, slot: Slot, topic: Name<'_>, bytes: u64) -> Result<(), Refusal> {
        self.meter_topic(slot, topic)?;
        if self.is_paid_for(slot) { Ok(()) } else { self.meter_messages(slot, 1, bytes) }
    }

    /// Says whether a subscription has a view.
    fn has_view(&self, subscription: u32, view: u32) -> bool {
        self.topics.view_of(self.topics.subscriptions[subscription as usize].log) == view
    }

    /// Returns how many subscriptions a connection may have.
    pub(in crate::shard) fn subscriptions_max(&self, slot: Slot) -> u32 {
        let own = self.trust.grants.get(self.grant_of(slot)).and_then(|interned| interned.grant.limits.subscriptions);
        own.map_or(self.limits.subscriptions_max, |own| own.min(self.limits.subscriptions_max))
    }

    /// Ends a subscription of a connection, if it has it.
    pub(in crate::shard) fn order_unsubscription<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        topic: &str,
    ) -> Outcome {
        let Some(subscription) = self.subscription_of(slot, topic) else { return Outcome::Done };
        if self.topics.subscriber(subscription).flags & UNRESOLVED != 0 {
            // That it stands is still to be told, and comes first.
            return Outcome::Wait(Wait::Answer);
        }
        if !self.unsubscribe(driver, slot, subscription) {
            self.kill(driver, slot);
        }
        Outcome::Done
    }

    /// Says whether a connection has as many orders on their way as its session may.
    fn owes_all(&self, slot: Slot) -> bool {
        let Some(active) = self.slots.actives.get(self.slots.connections[slot as usize].active as usize) else {
            return false;
        };
        active.owed >= self.slots.connections[slot as usize].session.traits().orders_max
    }

    fn name_topic<'a>(&self, topic: &'a str) -> Name<'a> {
        Name { hash: self.hash_topic(topic), text: topic }
    }

    fn ticket<'t>(&self, slot: Slot, asker: Asker, token: &'t str) -> Ticket<'t> {
        Ticket {
            slot,
            generation: self.slots.connections[slot as usize].generation,
            asker,
            word: NONE,
            serial: 0,
            token,
        }
    }

    /// Sends a home what a connection orders, in at most so many bytes.
    fn send_order(&mut self, slot: Slot, packet: &Packet<'_>, way: Way, bytes: usize, asker: Asker) -> Outcome {
        let answered = asker != Asker::Nobody;
        if !self.crossings.has_room(way, bytes, u32::from(answered)) {
            return Outcome::Wait(Wait::Room(way));
        }
        let sent = self.crossings.links.send(way.home as usize, packet);
        assert!(sent, "room was looked for");
        if answered {
            self.crossings.asked(way);
            self.active(slot).owed += 1;
        }
        Outcome::Done
    }

    /// A home has done what was ordered, or has not.
    pub(in crate::shard) fn order_is_done<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        outcome: Result<Told, Reason>,
    ) {
        let Ticket { slot, generation, asker, token, .. } = ticket;
        if !self.slots.is_living(slot, generation) {
            return;
        }
        let answered = asker == Asker::Connection;
        let owed_all = answered && self.owes_all(slot);
        if answered && let Some(active) = self.slots.active_if_any(slot) {
            active.owed -= 1;
        }
        self.tell_outcome(driver, slot, answered.then_some(token), outcome);
        if !answered || !self.slots.is_living(slot, generation) {
            return;
        }
        if owed_all && self.slots.active_if_any(slot).is_some_and(|active| active.waiting == Waiting::Answer) {
            self.go_on(driver, slot);
        }
        self.slots.make_ready(slot);
    }
}
