//! Subscribing and unsubscribing: a connection, a topic, and where to start.

use corecast_protocol::cursor::Since;
use corecast_protocol::line::Pace;
use corecast_protocol::pattern::is_pattern;

use crate::io::driver::{Driver, Slot};
use crate::mesh::packet::PREFIX_BYTES_MAX;
use crate::mesh::{Asker, Name, Packet, Start, Ticket};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::crossing::{Lane, Way};
use crate::shard::dialect::view::ALL;
use crate::shard::pattern::reads::pattern_of;
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::Connection;
use crate::shard::slot::wait::{Outcome, Wait};
use crate::shard::topic::topics::{CONFLATE, COUNTED, LOOK, METERED, NONE, PACED, REPLAYING, Speed, UNRESOLVED};

/// Subscriptions of a connection that end at once when it does: all that one request can have, and most WebSockets have.
const LEFT_AT_ONCE: usize = 64;

/// Subscriptions that end in one turn, about: half a millisecond, when all of them have to be fetched from memory.
const LEFT_PER_TURN: usize = 512;

/// Topics left in one turn, about: no more than homes hear in one, as messages stand in the rings behind what they do not.
const LEAVES_PER_TURN: usize = 256;

/// How a subscription is served: as its session says, and as far as that says nothing, as the rules say; see [`Shard::manner`].
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Manner {
    /// Only the newest message matters.
    conflate: bool,
    /// How fast.
    speed: Speed,
}

/// What a session says of how it wants to be served; none of each: as the rules say.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Wanted {
    /// Only the newest message matters.
    pub(in crate::shard) conflate: Option<bool>,
    /// At most one message per so many milliseconds; 0: all.
    pub(in crate::shard) every_ms: Option<u32>,
    /// The rest.
    pub(in crate::shard) pace: Pace,
}

impl Manner {
    /// Says whether anything is sent otherwise than at once, or not at all.
    #[must_use]
    pub(in crate::shard) fn skips(self) -> bool {
        self.conflate || !self.speed.is_full()
    }

    fn flags(self) -> u32 {
        let flag = |flag: u32, on: bool| if on { flag } else { 0 };
        let metered = self.speed.batch_ms > 0 || self.speed.rate > 0 || self.speed.queue > 0;
        flag(CONFLATE, self.conflate) | flag(PACED, self.speed.every_ms > 0) | flag(METERED, metered)
    }
}

/// What a subscriber asks for.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Wish<'a> {
    /// The topic, checked.
    pub topic: &'a str,
    /// Where to start; if it does not say, with the newest message, or where it is already.
    pub since: Option<Since>,
    /// Where to start with a pattern, if it says so; checked.
    pub places: Option<&'a str>,
    /// How it wants to be served.
    pub manner: Manner,
    /// What of it; held by whoever asks.
    pub view: u32,
    /// What it is sent is counted, for the length of its stream.
    pub counted: bool,
    /// Token of the answer, empty for none.
    pub token: &'a str,
}

impl Shard {
    /// Subscribes a connection to a topic that it has not. The caller made sure that no replay is on its way to the connection.
    pub(in crate::shard) fn subscribe(&mut self, slot: Slot, wish: Wish<'_>) -> Outcome {
        let hash = self.hash_topic(wish.topic);
        let name = Name { hash, text: wish.topic };
        let home = self.home_of(hash);
        if let Err(way) = self.may_subscribe_to(name) {
            return Outcome::Wait(Wait::Room(way));
        }
        let known = self.topics.find(name);
        let (view, views_max) = (wish.view, self.limits.views_max);
        if view != ALL && known.is_some_and(|topic| self.topics.views_besides(topic, view) >= views_max as usize) {
            return Outcome::Refused(Refusal::TooManyViews);
        }
        if !self.has_table_room(slot, if known.is_none() { Some(name.text.len()) } else { None }) {
            return Outcome::Refused(Refusal::Full);
        }
        let topic = match known {
            Some(topic) => topic,
            None if self.topics.len() >= self.limits.topics_max as usize => {
                reach(Mark::TopicRefused);
                return Outcome::Refused(Refusal::Full);
            }
            None if is_pattern(wish.topic) && !self.has_room_for_patterns() => return Outcome::Refused(Refusal::Full),
            None if is_pattern(wish.topic) => self.make_pattern(name),
            None => {
                let counted = self.limits.rules.count(wish.topic);
                let mode = self.limits.rules.mode_of(wish.topic);
                let topic = self.topics.make(name, home as u32, counted, mode);
                let generation = self.topics.topic(topic).generation;
                let joined = self.crossings.links.send(home, &Packet::Join { topic: name, id: topic, generation });
                assert!(joined, "room was looked for");
                self.crossings.asked(Way::to(home, Lane::Short));
                topic
            }
        };
        // A Leave that was not sent yet need not be sent any more.
        self.topics.topic_mut(topic).leaving = false;
        let dialect = self.slots.connections[slot as usize].dialect;
        let log = self.topics.log_of(topic, dialect, wish.view);
        let table = self.topics.topic(topic).mode.is_table();
        if self.topics.views.wants_old(wish.view, table) && !self.topics.topic(topic).wants_old {
            let (topic_name, generation) = (self.topics.name(topic), self.topics.topic(topic).generation);
            let told = self.crossings.links.send(home, &Packet::WantsOld { topic: topic_name, id: topic, generation });
            assert!(told, "room was looked for");
            self.topics.topic_mut(topic).wants_old = true;
        }
        let mut flags = LOOK | UNRESOLVED | REPLAYING | wish.manner.flags();
        if wish.counted {
            flags |= COUNTED;
        }
        let subscription = self.topics.join(log, slot, flags, wish.manner.speed);
        let since = wish.since.unwrap_or_default();
        let has_nothing = matches!(since, Since::Latest | Since::Earliest | Since::Last(_));
        let place = &mut self.topics.subscriptions[subscription as usize];
        (place.fresh, place.awaits_end) = (has_nothing, table);
        if self.topics.topic(topic).counted {
            self.recount(topic);
        }
        if self.limits.rules.presence_any() {
            self.arrives(slot, subscription);
        }
        let connection = &mut self.slots.connections[slot as usize];
        if let Some(first) = self.topics.subscriptions.get_mut(connection.first as usize).filter(|_| wish.counted) {
            // The first one measures for all.
            self.topics.subscriptions[subscription as usize].measure = std::mem::take(&mut first.measure);
        }
        connection.first = self.topics.link(connection.first, subscription, connection.subscriptions);
        connection.subscriptions += 1;
        let (generation, second) = (connection.generation, connection.subscriptions == 2);
        if second {
            // From now on the walk must not send to this connection by itself.
            let other = self.topics.subscriptions[subscription as usize].next;
            self.topics.subscriber_mut(other).flags |= LOOK;
            self.has_news(slot, other);
        }
        if is_pattern(wish.topic) {
            self.pattern_subscribed(slot, subscription, wish);
            return Outcome::Done;
        }
        let from = start_of(since);
        let serial = self.next_serial();
        let ticket =
            Ticket { slot, generation, asker: Asker::Connection, word: subscription, serial, token: wish.token };
        let asked = self.crossings.links.send(home, &Packet::Replay { topic: name, ticket, from, generation: 0 });
        assert!(asked, "room was looked for");
        self.crossings.asked(Way::to(home, Lane::Bulk));
        self.topics.subscriptions[subscription as usize].serial = serial;
        self.active(slot).replays += 1;
        Outcome::Done
    }

    /// Returns how a subscription of a topic is served whose session says so much about it.
    pub(in crate::shard) fn manner(&self, topic: &str, wanted: Wanted) -> Manner {
        let Wanted { conflate, every_ms, pace } = wanted;
        if is_pattern(topic) {
            // What rules say is of single topics: the newest message of a pattern is no newer value of the one before.
            return Manner { conflate: false, speed: Speed::default() };
        }
        let terms = self.limits.rules.of(topic);
        // What a rule allows nobody may exceed.
        let rate = match (pace.rate.unwrap_or(0), terms.rate.unwrap_or(0)) {
            (0, most) => most,
            (wanted, 0) => wanted,
            (wanted, most) => wanted.min(most),
        };
        let speed = Speed {
            every_ms: every_ms.or(terms.every_ms).unwrap_or(0),
            batch_ms: pace.batch_ms.unwrap_or(0),
            rate,
            queue: pace.queue.unwrap_or(0),
        };
        Manner { conflate: conflate.or(terms.conflate).unwrap_or(false), speed }
    }

    /// Returns the connection's subscription of a topic.
    pub(in crate::shard) fn subscription_of(&self, slot: Slot, topic: &str) -> Option<u32> {
        let Connection { first, subscriptions, .. } = self.slots.connections[slot as usize];
        if first == NONE {
            return None;
        }
        let topic = self.topics.find(Name { hash: self.hash_topic(topic), text: topic })?;
        self.topics.subscription_of(slot, first, subscriptions, topic)
    }

    /// Changes the options of a subscription.
    pub(in crate::shard) fn change(&mut self, slot: Slot, subscription: u32, manner: Manner) {
        self.topics.set_pace(subscription, manner.speed);
        let subscriber = self.topics.subscriber_mut(subscription);
        subscriber.flags = subscriber.flags & !(CONFLATE | PACED | METERED) | manner.flags();
        self.look_at(slot);
        self.has_news(slot, subscription);
        self.slots.make_ready(slot);
    }

    /// Ends a subscription. A frame that was sent in part is completed first; false if there is no memory for that.
    #[must_use]
    pub(in crate::shard) fn unsubscribe<D: Driver>(&mut self, driver: &mut D, slot: Slot, subscription: u32) -> bool {
        let mut whole = true;
        let subscriber = *self.topics.subscriber(subscription);
        let log = self.topics.subscriptions[subscription as usize].log;
        if subscriber.partial() > 0 {
            let frame = self.topics.logs[log as usize].chain.record(&self.store, driver.memory(), subscriber.next);
            let rest = frame.part(subscriber.partial(), frame.len - subscriber.partial());
            whole = self.queue_span_first(driver, slot, rest);
            self.whole_again(slot, subscription);
            if whole {
                self.pass(subscription);
            }
        }
        self.leave(slot, subscription);
        self.slots.make_ready(slot);
        whole
    }

    /// Ends all subscriptions of a connection that is sent a last word. A frame that was sent in part is completed first; false
    /// if there is no memory for that.
    #[must_use]
    pub(in crate::shard) fn unsubscribe_in_order<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let partial = self.slots.connections[slot as usize].partial;
        if partial != NONE && !self.unsubscribe(driver, slot, partial) {
            return false;
        }
        self.depart(slot);
        true
    }

    /// Ends all subscriptions of a connection that will be sent nothing more of them: those of one request, 64 at most.
    pub(in crate::shard) fn unsubscribe_all(&mut self, slot: Slot) {
        while self.slots.connections[slot as usize].first != NONE {
            self.leave(slot, self.slots.connections[slot as usize].first);
        }
        self.slots.connections[slot as usize].partial = NONE;
    }

    /// Ends all subscriptions of a connection that ends, whose frames are whole or will never be: a few at once, more of them
    /// in slices, one a turn. The connection's slot is not free before that.
    pub(in crate::shard) fn depart(&mut self, slot: Slot) {
        let Connection { generation, first, subscriptions, .. } = self.slots.connections[slot as usize];
        if first == NONE || subscriptions as usize <= LEFT_AT_ONCE && self.leaving.left < LEFT_PER_TURN {
            return self.unsubscribe_all(slot);
        }
        if self.slots.connections[slot as usize].partial != NONE {
            self.topics.whole_again(self.slots.connections[slot as usize].partial);
            self.slots.connections[slot as usize].partial = NONE;
        }
        // The walk must not send to it meanwhile.
        self.look_at(slot);
        reach(Mark::DepartsInTurns);
        self.leaving.connections.push_back((slot, generation));
    }

    /// Goes on with connections that depart, a bounded number of subscriptions; says whether there were any.
    fn depart_some<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut left = std::mem::take(&mut self.leaving.left).min(LEFT_PER_TURN - LEFT_AT_ONCE);
        let worked = !self.leaving.connections.is_empty();
        while let Some((slot, generation)) = self.leaving.connections.front().copied() {
            let Connection { generation: present, first, .. } = self.slots.connections[slot as usize];
            if present == generation && first != NONE {
                if left >= LEFT_PER_TURN {
                    break;
                }
                left += 1;
                self.leave(slot, first);
                continue;
            }
            self.leaving.connections.pop_front();
            self.bury(driver, slot);
        }
        self.leaving.left = 0;
        worked
    }

    fn leave(&mut self, slot: Slot, subscription: u32) {
        if !self.reads.walks.is_empty() {
            self.reads.walks.remove(&subscription);
        }
        let news = self.slots.connections[slot as usize].news;
        self.slots.connections[slot as usize].news = self.topics.take_news(news, subscription);
        self.replay_is_over(slot, subscription);
        let connection = &mut self.slots.connections[slot as usize];
        connection.subscriptions -= 1;
        if connection.sender == subscription {
            connection.sender = NONE;
        }
        connection.first = self.topics.unlink(connection.first, subscription, connection.subscriptions);
        self.leaving.left += 1;
        self.attendance.depart(subscription);
        self.discount_subscription(slot);
        self.leave_log(subscription);
    }

    fn leave_log(&mut self, subscription: u32) {
        let (log, gone) = self.topics.leave(subscription);
        let frame_log = &mut self.topics.logs[log as usize];
        if gone.flags & UNRESOLVED == 0 {
            let pending = gone.pending(frame_log.chain.next());
            self.stats.abandoned = self.stats.abandoned.wrapping_add(pending);
        }
        let topic = frame_log.topic;
        if self.topics.topic(topic).counted {
            self.recount(topic);
        }
        let frame_log = &mut self.topics.logs[log as usize];
        if !frame_log.subscribers.is_empty() {
            self.release_later(log);
            return;
        }
        self.topics.clear_log(log, &mut self.store);
        self.topics.unlink_log(log);
        let frame_log = &mut self.topics.logs[log as usize];
        if frame_log.queued || frame_log.releasing {
            // Some queue still names it; whoever takes it from there finds it empty and removes it.
            frame_log.topic = NONE;
        } else {
            self.topics.forget_log(log);
        }
        let topic_left = self.topics.topic_mut(topic);
        if topic_left.logs == NONE {
            topic_left.leaving = true;
            if !std::mem::replace(&mut topic_left.leaves, true) {
                match pattern_of(topic_left.home) {
                    Some(_) => self.reads.leaving.push_back(topic),
                    None => self.leaving.leave(topic_left.home as usize, topic),
                }
            }
        }
    }

    /// Says Leave for topics without subscribers, a bounded number, and as far as a quarter of the ring stays free: less than
    /// replays leave, more than messages do, so that none of the three keeps another from going on. Says whether it did anything.
    /// Goes on with connections that depart, too: it is they who leave many.
    pub(in crate::shard) fn leave_topics<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = self.depart_some(driver);
        if !self.reads.leaving.is_empty() {
            worked |= self.leave_patterns();
        }
        let share = (LEAVES_PER_TURN / self.crossings.links.shards()).max(1);
        std::mem::take(&mut self.leaving.homes).each(|home| {
            for _ in 0..share {
                let Some(id) = self.leaving.topics[home].pop_front() else { break };
                let topic = self.topics.topic(id);
                if topic.leaving {
                    if self.crossings.links.room(home) < self.crossings.links.ring_bytes() / 4 + PREFIX_BYTES_MAX {
                        reach(Mark::LeaveWaits);
                        self.leaving.topics[home].push_front(id);
                        break;
                    }
                    let (name, generation) = (self.topics.name(id), topic.generation);
                    let left = self.crossings.links.send(home, &Packet::Leave { topic: name, id, generation });
                    assert!(left, "room was looked for");
                    self.topics.remove(id);
                } else {
                    // Somebody subscribed to it again.
                    reach(Mark::BackBeforeLeave);
                    self.topics.topic_mut(id).leaves = false;
                }
                worked = true;
            }
            if !self.leaving.topics[home].is_empty() {
                self.leaving.homes.insert(home);
            }
        });
        worked
    }
}

/// Says to a home where a client wants to start.
pub(in crate::shard) fn start_of(since: Since) -> Start {
    match since {
        Since::Latest => Start::Latest,
        Since::Live => Start::Live,
        Since::Earliest => Start::Earliest,
        Since::Last(n) => Start::Last(n),
        Since::After(cursor) => Start::After { epoch: cursor.epoch, seq: cursor.seq },
    }
}
