//! Occupancy: how many read the topics that have their home here, by shard, and what was last said of it.
//!
//! ```text
//!   Readers, Leave ──▶ counts of shards ──sum──▶ told, at most once in TOLD_EVERY_MS ──▶ $sys/occupancy/TOPIC
//!                                                 │
//!   who asks for that topic, or reads it ─────────╯ while anybody does, and for KEPT_MS more
//! ```
//!
//! Owns: of each topic that is counted and read, or asked for, its name, the counts, and when something is to be done with it. A topic
//! without the rule has nothing here. Touches nothing else: numbers are told by [`super::readers`]. Invariants: a topic stands in at most
//! one of the queues `soon` and `later`, and `stands` says so; in `kept` exactly if `kept` says so; it is here while a shard counts
//! readers of it, it is watched, or a queue names it.

use std::collections::VecDeque;

use crate::mesh::Name;
use crate::shard::memory::few::Few;
use crate::shard::memory::slab::Slab;
use crate::shard::scratch::bytes_of;
use crate::shard::topic::names::{NamePlace, Names};
use crate::shard::topic::places::{Places, half};

/// A number is told so long after it changed, in milliseconds: polls come and go, and who comes back at once was not away.
const SETTLES_MS: u64 = 100;

/// Least time between two numbers of a topic, in milliseconds.
const TOLD_EVERY_MS: u64 = 1_000;

/// How long a number is remembered that nobody reads, in milliseconds: who polls finds it as it was, and a cursor stays good.
const KEPT_MS: u64 = 10_000;

/// A topic whose readers are counted.
#[derive(Debug)]
struct Counted {
    hash: u64,
    name: NamePlace,
    /// The shards with readers, and how many these are.
    shards: Few<(u32, u32)>,
    /// All of them.
    readers: u64,
    /// What was told last, and is remembered; none: nothing, or it could not be.
    told: Option<u64>,
    /// When it was last asked for, or lost its last reader.
    asked_ms: u64,
    /// Somebody reads how many there are, or did just now.
    watched: bool,
    /// It stands among those that are looked at soon, or later.
    stands: bool,
    /// It stands among those that are kept for a while.
    kept: bool,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Due {
    /// To tell the number of a topic, if it is another one.
    Tell(u32),
    /// To look whether anybody still reads it.
    Look(u32),
}

/// All topics that are counted at home.
#[derive(Debug)]
pub(in crate::shard) struct Occupancy {
    topics: Slab<Counted>,
    names: Names,
    by_name: Places,
    /// Memory that lists of shards hold.
    list_bytes: u64,
    /// Topics whose number has changed, and those whose number was told, with the time at which they are looked at.
    soon: VecDeque<(u64, u32)>,
    later: VecDeque<(u64, u32)>,
    /// Topics that were asked for, and when it is looked whether anybody reads them.
    kept: VecDeque<(u64, u32)>,
}

impl Occupancy {
    /// Makes one without topics.
    #[must_use]
    pub(in crate::shard) fn new() -> Occupancy {
        Occupancy {
            topics: Slab::new(),
            names: Names::new(),
            by_name: Places::default(),
            list_bytes: 0,
            soon: VecDeque::new(),
            later: VecDeque::new(),
            kept: VecDeque::new(),
        }
    }

    /// Returns the bytes of memory that it holds besides queues.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.topics.bytes() + self.names.bytes() + self.by_name.bytes() + self.list_bytes
    }

    /// Returns how many of these bytes are of what there is.
    #[must_use]
    pub(in crate::shard) fn used_bytes(&self) -> u64 {
        self.topics.used_bytes() + self.names.used_bytes() + self.by_name.bytes() + self.list_bytes
    }

    /// Returns the bytes of memory that its queues hold.
    #[must_use]
    pub(in crate::shard) fn queue_bytes(&self) -> usize {
        bytes_of(&self.soon) + bytes_of(&self.later) + bytes_of(&self.kept)
    }

    /// Says whether nothing is counted.
    #[must_use]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.topics.len() == 0
    }

    /// Returns a bound of the places that topics stand at.
    #[must_use]
    pub(in crate::shard) fn bound(&self) -> usize {
        self.topics.bound()
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

    /// Makes a topic that is not there yet.
    pub(in crate::shard) fn make(&mut self, name: Name<'_>) -> u32 {
        let topic = Counted {
            hash: name.hash,
            name: self.names.keep(name.text),
            shards: Few::new(),
            readers: 0,
            told: None,
            asked_ms: 0,
            watched: false,
            stands: false,
            kept: false,
        };
        let index = u32::try_from(self.topics.insert(topic)).expect("fewer topics than 2^32");
        self.by_name.insert(half(name.hash), index);
        index
    }

    /// Returns the name of a topic.
    #[must_use]
    pub(in crate::shard) fn name(&self, index: u32) -> &str {
        self.names.text(self.topics[index as usize].name)
    }

    /// Returns how many read a topic.
    #[must_use]
    pub(in crate::shard) fn readers(&self, index: u32) -> u64 {
        self.topics[index as usize].readers
    }

    /// Says whether the topic at a place, if there is one, is watched.
    #[must_use]
    pub(in crate::shard) fn is_watched(&self, place: usize) -> bool {
        self.topics.get(place).is_some_and(|topic| topic.watched)
    }

    /// Says whether a number was told, and none since that could not be.
    #[must_use]
    pub(in crate::shard) fn was_anything_told(&self, index: u32) -> bool {
        self.topics[index as usize].told.is_some()
    }

    /// Says whether another number is to be told than was.
    #[must_use]
    pub(in crate::shard) fn has_news(&self, index: u32) -> bool {
        let topic = &self.topics[index as usize];
        topic.watched && topic.told != Some(topic.readers)
    }

    /// A shard has so many readers of a topic.
    pub(in crate::shard) fn count(&mut self, index: u32, shard: usize, readers: u32, now_ms: u64) {
        let topic = &mut self.topics[index as usize];
        self.list_bytes -= topic.shards.bytes();
        let place = topic.shards.iter().position(|(of, _)| *of as usize == shard);
        let before = place.map_or(0, |place| topic.shards[place].1);
        match (place, readers) {
            (Some(place), 0) => {
                topic.shards.swap_remove(place);
            }
            (Some(place), readers) => topic.shards[place].1 = readers,
            (None, 0) => {}
            (None, readers) => topic.shards.push((shard as u32, readers)),
        }
        self.list_bytes += topic.shards.bytes();
        topic.readers = topic.readers + u64::from(readers) - u64::from(before);
        if !topic.stands && self.has_news(index) {
            self.topics[index as usize].stands = true;
            self.soon.push_back((now_ms + SETTLES_MS, index));
        }
        self.forget_if_idle(index);
    }

    /// A topic was asked for, or its number has lost its last reader: it is watched for a while, whoever reads it.
    pub(in crate::shard) fn watch(&mut self, index: u32, now_ms: u64) {
        let topic = &mut self.topics[index as usize];
        topic.watched = true;
        topic.asked_ms = now_ms;
        if !std::mem::replace(&mut topic.kept, true) {
            self.kept.push_back((now_ms + KEPT_MS, index));
        }
    }

    /// Says whether a topic that somebody asked for is to be kept for longer, and sees to it.
    pub(in crate::shard) fn keep_on(&mut self, index: u32, now_ms: u64) -> bool {
        let topic = &mut self.topics[index as usize];
        topic.kept = topic.asked_ms + KEPT_MS > now_ms;
        if topic.kept {
            self.kept.push_back((now_ms + KEPT_MS, index));
        }
        topic.kept
    }

    /// The number of a topic was told, or could not be: it is looked at again when another one may be.
    pub(in crate::shard) fn was_told(&mut self, index: u32, told: Option<u64>, now_ms: u64) {
        let topic = &mut self.topics[index as usize];
        topic.told = told;
        if !std::mem::replace(&mut topic.stands, true) {
            self.later.push_back((now_ms + TOLD_EVERY_MS, index));
        }
    }

    /// Nobody watches a topic any more, and what was told is forgotten.
    pub(in crate::shard) fn unwatch(&mut self, index: u32) {
        let topic = &mut self.topics[index as usize];
        (topic.watched, topic.told) = (false, None);
        self.forget_if_idle(index);
    }

    /// Forgets a topic that there is nothing to remember of.
    pub(in crate::shard) fn forget_if_idle(&mut self, index: u32) {
        let topic = &self.topics[index as usize];
        if !(topic.watched || topic.stands || topic.kept) && topic.shards.is_empty() {
            let topic = self.topics.remove(index as usize);
            self.names.forget(topic.name);
            self.by_name.remove(half(topic.hash), index);
        }
    }

    /// Returns when something is due, in milliseconds.
    #[must_use]
    pub(in crate::shard) fn due_ms(&self) -> Option<u64> {
        [&self.soon, &self.later, &self.kept].into_iter().filter_map(|queue| queue.front()).map(|(due, _)| *due).min()
    }

    /// Says whether something is due.
    #[must_use]
    #[inline]
    pub(in crate::shard) fn is_due(&self, now_ms: u64) -> bool {
        !self.is_empty() && self.due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Takes what is due next.
    pub(in crate::shard) fn take_due(&mut self, now_ms: u64) -> Option<Due> {
        let is_due = |due: &mut (u64, u32)| due.0 <= now_ms;
        if let Some((_, index)) = self.soon.pop_front_if(is_due).or_else(|| self.later.pop_front_if(is_due)) {
            self.topics[index as usize].stands = false;
            return Some(Due::Tell(index));
        }
        let (_, index) = self.kept.pop_front_if(is_due)?;
        self.topics[index as usize].kept = false;
        Some(Due::Look(index))
    }

    /// Returns of every topic its name, how many read it, what was told, and whether it is watched.
    pub(in crate::shard) fn each(&self) -> impl Iterator<Item = (&str, u64, Option<u64>, bool)> {
        self.topics.iter().map(|(_, topic)| (self.names.text(topic.name), topic.readers, topic.told, topic.watched))
    }

    /// Checks what it says of itself.
    ///
    /// # Panics
    /// If something does not hold.
    pub(in crate::shard) fn check(&self) {
        let (mut lists, mut stand, mut kept) = (0, 0, 0);
        for (index, topic) in self.topics.iter() {
            let readers: u64 = topic.shards.iter().map(|(_, readers)| u64::from(*readers)).sum();
            assert_eq!(readers, topic.readers, "invariant 19: readers are counted");
            let used = topic.watched || topic.stands || topic.kept || !topic.shards.is_empty();
            assert!(used, "invariant 19: a topic is counted while there is a reason");
            let told = topic.stands || !self.has_news(index as u32);
            assert!(told, "invariant 19: what has changed is told in the end: {topic:?}");
            lists += topic.shards.bytes();
            stand += usize::from(topic.stands);
            kept += usize::from(topic.kept);
        }
        let queued = (self.soon.len() + self.later.len(), self.kept.len());
        assert_eq!((lists, (stand, kept)), (self.list_bytes, queued), "invariant 19: counts of what is counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Name<'_> = Name { hash: 7, text: "a/b" };

    /// Shards come, change and go; the sum is theirs, and a topic that nobody counts or watches holds nothing.
    #[test]
    fn sums_are_those_of_the_shards() {
        let mut occupancy = Occupancy::new();
        let index = occupancy.make(TOPIC);
        for (shard, readers, sum) in [(3, 5, 5), (0, 2, 7), (3, 1, 3), (9, 0, 3), (0, 0, 1)] {
            occupancy.count(index, shard, readers, 0);
            assert_eq!(occupancy.readers(index), sum);
            occupancy.check();
        }
        assert_eq!((occupancy.find(TOPIC), occupancy.due_ms()), (Some(index), None), "nobody wants to know");
        occupancy.count(index, 3, 0, 0);
        assert_eq!((occupancy.find(TOPIC), occupancy.list_bytes), (None, 0));
    }

    /// A change is due when it has settled, but not before the last number is a second old, and no change is forgotten; one that is taken
    /// back is not told.
    #[test]
    fn the_last_number_is_told() {
        let mut occupancy = Occupancy::new();
        let index = occupancy.make(TOPIC);
        occupancy.count(index, 0, 1, 0);
        occupancy.watch(index, 0);
        occupancy.was_told(index, Some(1), 0);
        occupancy.count(index, 0, 2, 10);
        occupancy.count(index, 1, 2, 20);
        assert_eq!(occupancy.due_ms(), Some(TOLD_EVERY_MS), "once in a second");
        assert_eq!(
            (occupancy.take_due(TOLD_EVERY_MS - 1), occupancy.take_due(TOLD_EVERY_MS)),
            (None, Some(Due::Tell(index)))
        );
        assert!(occupancy.has_news(index));
        occupancy.was_told(index, Some(4), 1_000);
        assert_eq!(occupancy.take_due(2_000), Some(Due::Tell(index)));
        assert!(!occupancy.has_news(index));
        occupancy.count(index, 1, 0, 3_000);
        assert_eq!(occupancy.due_ms(), Some(3_000 + SETTLES_MS));
        occupancy.count(index, 1, 2, 3_001);
        assert_eq!(occupancy.take_due(3_100), Some(Due::Tell(index)));
        assert!(!occupancy.has_news(index), "as it was");
        occupancy.was_told(index, None, 3_100);
        assert!(occupancy.has_news(index) && occupancy.take_due(4_100) == Some(Due::Tell(index)), "it is tried again");
    }

    /// A topic that was asked for is watched until some time after it was last asked for.
    #[test]
    fn who_asks_is_remembered_for_a_while() {
        let mut occupancy = Occupancy::new();
        let index = occupancy.make(TOPIC);
        occupancy.watch(index, 0);
        occupancy.was_told(index, Some(0), 0);
        occupancy.watch(index, 5_000);
        assert_eq!(occupancy.take_due(KEPT_MS), Some(Due::Tell(index)));
        assert_eq!(occupancy.take_due(KEPT_MS), Some(Due::Look(index)));
        assert!(occupancy.keep_on(index, KEPT_MS));
        assert_eq!(occupancy.take_due(2 * KEPT_MS), Some(Due::Look(index)));
        assert!(!occupancy.keep_on(index, 2 * KEPT_MS));
        occupancy.unwatch(index);
        assert!(occupancy.is_empty() && occupancy.due_ms().is_none());
    }
}
