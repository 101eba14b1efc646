//! Topics with subscribers on this shard, their frame logs, and who subscribes.
//!
//! ```text
//!   connection ──first──▶ subscription ◀─next, previous─▶ subscription …  (a list per connection)
//!                             │ log, index
//!                             ▼
//!   topic ──logs──▶ frame log: subscribers [ next | slot | subscription | part | flags ] …
//!                      │       chain of encoded frames
//!                      └─next─▶ the log of the next dialect in use ──▶ …
//! ```
//!
//! A connection with more than [`FEW`] subscriptions finds them by topic in a table of all such connections; one with fewer
//! looks through its list, and costs the table nothing.
//!
//! Owns: topics, frame logs, subscriptions. Never: sends. Invariants: a subscription and a subscriber point at each other;
//! a topic exists exactly while one of its logs has a subscriber (or its Leave could not be sent yet).

use std::num::NonZeroU8;

use crate::mesh::Name;
use crate::shard::dialect::Dialect;
use crate::shard::dialect::view::Views;
use crate::shard::memory::few::Few;
use crate::shard::memory::slab::Slab;
use crate::shard::pattern::reads::pattern_of;
use crate::shard::rules::Mode;
use crate::shard::topic::chain::Chain;
use crate::shard::topic::names::{NamePlace, Names};
use crate::shard::topic::places::{Places, half};
use crate::shard::topic::side::Side;
pub(in crate::shard) use crate::shard::topic::subscriber::{
    AWAY, BEHIND, CONFLATE, COUNTED, ENOUGH, FALLEN, LOOK, METERED, NEWS, PACED, REPLAYING, Subscriber, UNRESOLVED,
};

/// No index.
pub(in crate::shard) const NONE: u32 = u32::MAX;

/// Subscriptions of a connection that are looked through: about as many as one look into the table costs.
pub(in crate::shard) const FEW: u32 = 8;

/// Bytes of a log between two looks at those who follow it: a block of a busy log. A look costs a subscriber a few hundred
/// nanoseconds at most; to send it those bytes costs a hundred times that.
pub(in crate::shard) const LOOK_BYTES: u64 = 64 << 10;

/// A topic with subscribers here.
#[derive(Debug)]
pub(in crate::shard) struct Topic {
    hash: u64,
    name: NamePlace,
    /// Shard of its home.
    pub(in crate::shard) home: u32,
    /// Tells one life of the index from the next.
    pub(in crate::shard) generation: u32,
    /// The home has told us its epoch and head.
    pub(in crate::shard) joined: bool,
    /// The home did not find room for a message; a replay is to be asked for or under way.
    pub(in crate::shard) catching_up: bool,
    /// It has no subscriber, and its home is to be told.
    pub(in crate::shard) leaving: bool,
    /// It stands among those whose home is to be told; it may have a subscriber again.
    pub(in crate::shard) leaves: bool,
    /// How many read it is told, as the rules say.
    pub(in crate::shard) counted: bool,
    /// It stands among those whose home is to be told how many read it here.
    pub(in crate::shard) recounts: bool,
    /// While catching up: the number of the last message of the batch that is arriving.
    pub(in crate::shard) batch_end: u64,
    /// While catching up: this batch is the last one.
    pub(in crate::shard) batch_last: bool,
    /// Epoch, once joined.
    pub(in crate::shard) epoch: u32,
    /// Number of the newest message that has come, once joined: those that come have larger ones.
    pub(in crate::shard) head: u64,
    /// What its messages are to each other.
    pub(in crate::shard) mode: Mode,
    /// Its home was told that it wants to hear what was before.
    pub(in crate::shard) wants_old: bool,
    /// Its first frame log, or [`NONE`]; there is one per dialect in use, hardly ever more than three.
    pub(in crate::shard) logs: u32,
}

/// The encoded messages of a topic in one dialect, and everybody who reads them.
#[derive(Debug)]
pub(in crate::shard) struct FrameLog {
    /// The topic.
    pub(in crate::shard) topic: u32,
    /// The encoding.
    pub(in crate::shard) dialect: Dialect,
    /// What is encoded, if not simply all, and what it knows of its messages besides, if that is needed; or [`NONE`].
    pub(in crate::shard) side: u32,
    /// The topic's next log, or [`NONE`].
    pub(in crate::shard) next: u32,
    /// The frames.
    pub(in crate::shard) chain: Chain,
    /// The readers, in no order.
    pub(in crate::shard) subscribers: Few<Subscriber>,
    /// The subscriber that the walk visits next.
    pub(in crate::shard) walk: u32,
    /// Visits left in this round.
    pub(in crate::shard) pending: u32,
    /// The round must be followed by another one: somebody got only a part.
    pub(in crate::shard) again: bool,
    /// Subscribers flagged `BEHIND`.
    pub(in crate::shard) behind: u32,
    /// Subscribers flagged `UNRESOLVED`.
    pub(in crate::shard) unresolved: u32,
    /// Subscribers that were sent a frame in part.
    pub(in crate::shard) partials: u32,
    /// It stands in the queue of dirty logs.
    pub(in crate::shard) queued: bool,
    /// It stands in the list of logs that may give their blocks back.
    pub(in crate::shard) releasing: bool,
    /// Bytes that the last round took: the next one starts with a block of that size.
    pub(in crate::shard) block_bytes: u32,
    /// Tick of the newest message.
    pub(in crate::shard) appended_tick: u32,
    /// How long its streams are, if it has such; or [`NONE`].
    pub(in crate::shard) gauge: u32,
}

/// What has come for the streams of a log; those of other dialects are not measured.
#[derive(Debug)]
pub(in crate::shard) struct Gauge {
    /// Bytes that were ever appended, as a reader has them after decompression.
    pub(in crate::shard) appended: u64,
    /// The same bytes as they stood here.
    pub(in crate::shard) packed: u64,
    /// Bytes appended when its streams are looked at the next time: are they long?
    pub(in crate::shard) look_at: u64,
    /// The subscriber that is looked at next.
    pub(in crate::shard) look: u32,
}

impl Gauge {
    /// Returns how many bytes a reader has after decompression of so many that it is sent, going by all there were.
    #[must_use]
    pub(in crate::shard) fn unpacked(&self, bytes: u64) -> u64 {
        if self.appended == self.packed {
            return bytes;
        }
        let unpacked = u128::from(bytes) * u128::from(self.appended) / u128::from(self.packed.max(1));
        u64::try_from(unpacked).unwrap_or(u64::MAX)
    }
}

/// One subscription, as its connection sees it.
#[derive(Debug)]
pub(in crate::shard) struct Subscription {
    /// The connection.
    pub(in crate::shard) slot: u32,
    /// The frame log.
    pub(in crate::shard) log: u32,
    /// The subscriber's index there.
    pub(in crate::shard) index: u32,
    /// The connection's next subscription.
    pub(in crate::shard) next: u32,
    /// The connection's next subscription that has news, and the one before, in a circle; or [`NONE`].
    pub(in crate::shard) news_next: u32,
    pub(in crate::shard) news_previous: u32,
    /// The replay on its way to it, or 0.
    pub(in crate::shard) serial: u32,
    /// The one before it.
    pub(in crate::shard) previous: u32,
    /// Its pace, or [`NONE`].
    pace: u32,
    /// Its place among the topics of one request, from 1 on.
    order: NonZeroU8,
    /// What its stream is measured by; see [`crate::shard::session::length`].
    pub(in crate::shard) measure: u64,
    /// Whoever it is of has nothing yet: what it is sent first is all there is.
    pub(in crate::shard) fresh: bool,
    /// It is told when all has come that there was.
    pub(in crate::shard) awaits_end: bool,
}

impl Subscription {
    /// Returns its place among the topics of one request, from 0 on.
    #[must_use]
    pub(in crate::shard) fn order(&self) -> u8 {
        self.order.get() - 1
    }

    /// Gives it a place among the topics of one request, which are few.
    pub(in crate::shard) fn set_order(&mut self, order: u8) {
        self.order = NonZeroU8::MIN.saturating_add(order);
    }
}

/// How fast a subscription wants its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Speed {
    /// Least time between two messages, in milliseconds, all but the newest skipped; 0: none.
    pub(in crate::shard) every_ms: u32,
    /// What comes in so many milliseconds is sent together; 0: at once.
    pub(in crate::shard) batch_ms: u32,
    /// Most bytes a second; 0: no limit.
    pub(in crate::shard) rate: u32,
    /// Most messages that wait; 0: no limit of its own.
    pub(in crate::shard) queue: u32,
}

impl Speed {
    /// Says whether it is as fast as may be.
    #[must_use]
    pub(in crate::shard) fn is_full(self) -> bool {
        self == Speed::default()
    }

    /// Returns the least time between two sends, in milliseconds.
    fn least_ms(self) -> u64 {
        u64::from(self.every_ms.max(self.batch_ms))
    }
}

/// The pace of a subscription that has a speed; few have one.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Pace {
    /// How fast.
    pub(in crate::shard) speed: Speed,
    /// When something may be sent next, in milliseconds.
    pub(in crate::shard) due_ms: u64,
    /// The time for which it stands among those that wait for theirs.
    pub(in crate::shard) waits_for: u64,
}

/// All topics, logs and subscriptions of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Topics {
    pub(super) topics: Slab<Topic>,
    names: Names,
    by_name: Places,
    generation: u32,
    /// Subscriptions of connections with many, by connection and topic.
    by_place: Places,
    /// Frame logs.
    pub(in crate::shard) logs: Slab<FrameLog>,
    /// Subscriptions.
    pub(in crate::shard) subscriptions: Slab<Subscription>,
    paces: Slab<Pace>,
    /// What streams are measured by.
    pub(in crate::shard) gauges: Slab<Gauge>,
    /// What is wanted of topics, besides everything.
    pub(in crate::shard) views: Views,
    /// What logs know of their messages.
    pub(in crate::shard) sides: Slab<Side>,
    /// Memory that lists of subscribers hold.
    list_bytes: u64,
}

impl Topics {
    /// Makes an empty set.
    #[must_use]
    pub(in crate::shard) fn new() -> Topics {
        Topics {
            topics: Slab::new(),
            names: Names::new(),
            by_name: Places::default(),
            generation: 0,
            by_place: Places::default(),
            logs: Slab::new(),
            subscriptions: Slab::new(),
            paces: Slab::new(),
            gauges: Slab::new(),
            views: Views::default(),
            sides: Slab::new(),
            list_bytes: 0,
        }
    }

    /// Returns the bytes of memory that all of it holds: names, entries, lists, tables.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        let entries = self.topics.bytes() + self.logs.bytes() + self.subscriptions.bytes();
        let few = self.paces.bytes() + self.gauges.bytes() + self.views.bytes() + self.sides.bytes();
        entries + few + self.names.bytes() + self.by_name.bytes() + self.by_place.bytes() + self.list_bytes
    }

    /// Returns how many of these bytes are of what there is, and not of places where there was something.
    #[must_use]
    pub(in crate::shard) fn used_bytes(&self) -> u64 {
        let entries = self.topics.used_bytes() + self.logs.used_bytes() + self.subscriptions.used_bytes();
        let few = self.paces.used_bytes() + self.gauges.used_bytes() + self.views.bytes() + self.sides.used_bytes();
        entries + few + self.names.used_bytes() + self.by_name.bytes() + self.by_place.bytes() + self.list_bytes
    }

    /// Returns how many topics there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Returns of every topic with subscribers its name, and epoch and number of its newest message here, once joined.
    pub(in crate::shard) fn heads(&self) -> impl Iterator<Item = (&str, Option<(u32, u64)>)> {
        let read = self.topics.iter().filter(|(_, topic)| topic.logs != NONE && pattern_of(topic.home).is_none());
        read.map(|(_, topic)| (self.names.text(topic.name), topic.joined.then_some((topic.epoch, topic.head))))
    }

    /// Returns a bound of the numbers of topics.
    #[must_use]
    pub(in crate::shard) fn bound(&self) -> usize {
        self.topics.bound()
    }

    /// Says whether there is a topic with this number.
    #[must_use]
    pub(in crate::shard) fn is_there(&self, index: u32) -> bool {
        self.topics.get(index as usize).is_some()
    }

    /// Describes every topic that is catching up.
    pub(in crate::shard) fn each_catching(&self, mut tell: impl FnMut(String)) {
        for (index, topic) in self.topics.iter().filter(|(_, topic)| topic.catching_up) {
            tell(format!("{index}: {topic:?}"));
        }
    }

    /// Finds a topic.
    #[must_use]
    pub(in crate::shard) fn find(&self, name: Name<'_>) -> Option<u32> {
        let same = |index: u32| {
            let topic = &self.topics[index as usize];
            topic.hash == name.hash && self.names.is(topic.name, name.text)
        };
        self.by_name.find(half(name.hash), same)
    }

    /// Returns a topic's name.
    #[must_use]
    pub(in crate::shard) fn name(&self, index: u32) -> Name<'_> {
        let topic = self.topic(index);
        Name { hash: topic.hash, text: self.names.text(topic.name) }
    }

    /// Makes a topic that is not there yet.
    pub(in crate::shard) fn make(&mut self, name: Name<'_>, home: u32, counted: bool, mode: Mode) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let topic = Topic {
            hash: name.hash,
            name: self.names.keep(name.text),
            home,
            generation: self.generation,
            joined: false,
            catching_up: false,
            leaving: false,
            leaves: false,
            counted,
            recounts: false,
            batch_end: 0,
            batch_last: false,
            epoch: 0,
            head: 0,
            mode,
            wants_old: false,
            logs: NONE,
        };
        let index = u32::try_from(self.topics.insert(topic)).expect("fewer topics than 2^32");
        self.by_name.insert(half(name.hash), index);
        index
    }

    /// Returns a topic.
    #[must_use]
    pub(in crate::shard) fn topic(&self, index: u32) -> &Topic {
        &self.topics[index as usize]
    }

    /// Returns a topic, for changing.
    pub(in crate::shard) fn topic_mut(&mut self, index: u32) -> &mut Topic {
        &mut self.topics[index as usize]
    }

    /// Returns the topic that another shard means by index and generation, if it still lives.
    #[must_use]
    pub(in crate::shard) fn living(&self, index: u32, generation: u32) -> bool {
        self.topics.get(index as usize).is_some_and(|topic| topic.generation == generation)
    }

    /// Forgets a topic without logs.
    pub(in crate::shard) fn remove(&mut self, index: u32) {
        let topic = self.topics.remove(index as usize);
        debug_assert_eq!(topic.logs, NONE);
        self.names.forget(topic.name);
        self.by_name.remove(half(topic.hash), index);
    }

    /// Returns a subscriber by its subscription.
    #[must_use]
    pub(in crate::shard) fn subscriber(&self, subscription: u32) -> &Subscriber {
        let place = &self.subscriptions[subscription as usize];
        &self.logs[place.log as usize].subscribers[place.index as usize]
    }

    /// Returns a subscriber by its subscription, for changing.
    pub(in crate::shard) fn subscriber_mut(&mut self, subscription: u32) -> &mut Subscriber {
        let place = &self.subscriptions[subscription as usize];
        &mut self.logs[place.log as usize].subscribers[place.index as usize]
    }

    /// Puts a subscription before a connection's others; says which is the first now.
    #[must_use]
    pub(in crate::shard) fn link(&mut self, first: u32, subscription: u32, others: u32) -> u32 {
        self.subscriptions[subscription as usize].next = first;
        if let Some(second) = self.subscriptions.get_mut(first as usize) {
            second.previous = subscription;
        }
        if others == FEW {
            // From now on they are too many to be looked through.
            let mut each = subscription;
            while each != NONE {
                self.enter(each);
                each = self.subscriptions[each as usize].next;
            }
        } else if others > FEW {
            self.enter(subscription);
        }
        subscription
    }

    /// Takes a subscription out of its connection's list, of which it leaves so many others; says which is the first now.
    #[must_use]
    pub(in crate::shard) fn unlink(&mut self, first: u32, subscription: u32, others: u32) -> u32 {
        if others > FEW {
            self.strike_out(subscription);
        } else if others == FEW {
            let mut each = first;
            while each != NONE {
                self.strike_out(each);
                each = self.subscriptions[each as usize].next;
            }
        }
        let Subscription { next, previous, .. } = self.subscriptions[subscription as usize];
        if let Some(after) = self.subscriptions.get_mut(next as usize) {
            after.previous = previous;
        }
        match self.subscriptions.get_mut(previous as usize) {
            Some(before) => {
                before.next = next;
                first
            }
            None => next,
        }
    }

    /// Finds a connection's subscription of a topic, in its list that begins with `first` and has so many of them.
    #[must_use]
    pub(in crate::shard) fn subscription_of(&self, slot: u32, first: u32, count: u32, topic: u32) -> Option<u32> {
        if count > FEW {
            let hash = self.place_hash(slot, topic);
            let same = |subscription: u32| {
                let at = &self.subscriptions[subscription as usize];
                at.slot == slot && self.logs[at.log as usize].topic == topic
            };
            return self.by_place.find(hash, same);
        }
        let mut subscription = first;
        while subscription != NONE {
            let place = &self.subscriptions[subscription as usize];
            if self.logs[place.log as usize].topic == topic {
                return Some(subscription);
            }
            subscription = place.next;
        }
        None
    }

    /// Says whether a subscription stands in the table, for checks.
    #[must_use]
    pub(in crate::shard) fn is_entered(&self, subscription: u32) -> bool {
        let hash = self.hash_of(subscription);
        self.by_place.find(hash, |other| other == subscription).is_some()
    }

    /// Returns how many subscriptions stand in the table, for checks.
    #[must_use]
    pub(in crate::shard) fn entered(&self) -> usize {
        self.by_place.len()
    }

    fn enter(&mut self, subscription: u32) {
        let hash = self.hash_of(subscription);
        self.by_place.insert(hash, subscription);
    }

    fn strike_out(&mut self, subscription: u32) {
        let hash = self.hash_of(subscription);
        self.by_place.remove(hash, subscription);
    }

    fn hash_of(&self, subscription: u32) -> u32 {
        let place = &self.subscriptions[subscription as usize];
        self.place_hash(place.slot, self.logs[place.log as usize].topic)
    }

    /// The topic's hash is keyed, so no choice of topics makes places meet more often than chance does.
    fn place_hash(&self, slot: u32, topic: u32) -> u32 {
        let hash = self.topics[topic as usize].hash;
        (hash >> 32) as u32 ^ slot.wrapping_mul(0x9E37_79B9)
    }

    /// A subscriber has no frame in part any more.
    pub(in crate::shard) fn whole_again(&mut self, subscription: u32) {
        let place = &self.subscriptions[subscription as usize];
        let log = &mut self.logs[place.log as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        if subscriber.partial() > 0 {
            subscriber.set_partial(0);
            log.partials -= 1;
        }
    }

    /// Adds a subscriber to a log, and returns its subscription; linking it to its connection is the caller's.
    pub(in crate::shard) fn join(&mut self, log: u32, slot: u32, flags: u32, speed: Speed) -> u32 {
        let index = self.logs[log as usize].subscribers.len() as u32;
        let subscription = Subscription {
            slot,
            log,
            index,
            next: NONE,
            previous: NONE,
            news_next: NONE,
            news_previous: NONE,
            serial: 0,
            pace: NONE,
            order: NonZeroU8::MIN,
            measure: 0,
            fresh: false,
            awaits_end: false,
        };
        let subscription =
            u32::try_from(self.subscriptions.insert(subscription)).expect("fewer subscriptions than 2^32");
        self.set_pace(subscription, speed);
        let log = &mut self.logs[log as usize];
        self.list_bytes -= log.subscribers.bytes();
        let mut subscriber = Subscriber::at(log.chain.next(), slot, subscription, flags);
        if flags & UNRESOLVED != 0 {
            subscriber.go_away(self.topics[log.topic as usize].head, 0, log.chain.next());
        }
        log.subscribers.push(subscriber);
        self.list_bytes += log.subscribers.bytes();
        // The walk goes round: one more place lies between it and the end of its round.
        if log.pending > 0 {
            log.pending += 1;
        }
        log.unresolved += u32::from(flags & UNRESOLVED != 0);
        subscription
    }

    /// Gives a subscription a speed.
    pub(in crate::shard) fn set_pace(&mut self, subscription: u32, speed: Speed) {
        let Some(place) = self.subscriptions.get_mut(subscription as usize) else { return };
        match (place.pace, speed.is_full()) {
            (NONE, true) => {}
            (NONE, false) => {
                let pace = Pace { speed, due_ms: 0, waits_for: 0 };
                place.pace = u32::try_from(self.paces.insert(pace)).expect("fewer paces than subscriptions");
            }
            (pace, true) => {
                self.paces.remove(pace as usize);
                place.pace = NONE;
            }
            (pace, false) => {
                let pace = &mut self.paces[pace as usize];
                if pace.due_ms > 0 {
                    // The interval counts from the last message.
                    pace.due_ms = pace.due_ms.saturating_sub(pace.speed.least_ms()) + speed.least_ms();
                }
                pace.speed = speed;
            }
        }
    }

    /// Returns a subscription's pace, if it has one and exists.
    #[must_use]
    pub(in crate::shard) fn pace_mut(&mut self, subscription: u32) -> Option<&mut Pace> {
        let place = self.subscriptions.get(subscription as usize)?;
        self.paces.get_mut(place.pace as usize)
    }

    /// Returns a subscription's pace, if it has one and exists.
    #[must_use]
    pub(in crate::shard) fn pace(&self, subscription: u32) -> Option<&Pace> {
        self.paces.get(self.subscriptions.get(subscription as usize)?.pace as usize)
    }

    /// A subscription with a speed was sent so many bytes just now: this is when more may be sent.
    pub(in crate::shard) fn sent_in_pace(&mut self, subscription: u32, now_ms: u64, bytes: u32) {
        if let Some(pace) = self.pace_mut(subscription) {
            let taken_ms = u64::from(bytes) * 1000 / u64::from(pace.speed.rate.max(1));
            pace.due_ms = now_ms + pace.speed.least_ms().max(if pace.speed.rate > 0 { taken_ms } else { 0 });
        }
    }

    /// Takes a subscriber out of its log and forgets its subscription; unlinking it from its connection is the caller's.
    ///
    /// Returns the log and the subscriber as it was.
    pub(in crate::shard) fn leave(&mut self, subscription: u32) -> (u32, Subscriber) {
        self.set_pace(subscription, Speed::default());
        let place = self.subscriptions.remove(subscription as usize);
        let log = &mut self.logs[place.log as usize];
        self.list_bytes -= log.subscribers.bytes();
        let gone = log.subscribers.swap_remove(place.index as usize);
        self.list_bytes += log.subscribers.bytes();
        if gone.flags & BEHIND != 0 {
            log.behind -= 1;
        }
        if gone.flags & UNRESOLVED != 0 {
            log.unresolved -= 1;
        }
        log.partials -= u32::from(gone.partial() > 0);
        let count = log.subscribers.len() as u32;
        if let Some(moved) = log.subscribers.get(place.index as usize) {
            self.subscriptions[moved.subscription as usize].index = place.index;
            // The last one came to a place that the walk may have passed already.
            if log.pending > 0 && (moved.flags & AWAY != 0 || moved.next < log.chain.next()) {
                log.pending = count;
            }
        }
        log.pending = log.pending.min(count);
        if log.walk >= count {
            log.walk = 0;
        }
        (place.log, gone)
    }
}

#[cfg(test)]
mod tests;
