//! Attendance: who reads the topics with `presence` on this shard, by name, and what their homes are still to be told of it.
//!
//! Owns: of each topic and name how many connections there are, and how many were told; which subscription is counted where. A topic without the
//! rule has nothing here. Never: a packet; [`super::attending`] sends them. Invariants: a name is here while a subscription counts for it, or its home
//! was told of one; it stands in the queue of its home exactly if another number is to be told, and `stands` says so.

use std::collections::{HashMap, VecDeque};

use crate::mesh::Shards;
use crate::shard::memory::slab::Slab;
use crate::shard::scratch::bytes_of;
use crate::shard::topic::names::{NamePlace, Names};
use crate::shard::topic::places::{Places, half};

/// A name among the readers of a topic.
#[derive(Debug)]
struct Attendee {
    hash: u64,
    topic: u32,
    generation: u32,
    home: u32,
    name: NamePlace,
    /// Connections here, and how many of them the home knows.
    count: u32,
    told: u32,
    stands: bool,
}

/// Who is there of a topic, as its home is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Change<'a> {
    /// Number of the topic.
    pub(in crate::shard) topic: u32,
    /// Its generation.
    pub(in crate::shard) generation: u32,
    /// The name.
    pub(in crate::shard) name: &'a str,
    /// Connections of that name.
    pub(in crate::shard) count: u32,
}

/// Who reads which topic here.
#[derive(Debug)]
pub(in crate::shard) struct Attendance {
    attendees: Slab<Attendee>,
    names: Names,
    by_hash: Places,
    /// The attendee that a subscription counts for.
    of: HashMap<u32, u32>,
    /// How many names a topic has.
    counts: HashMap<u32, u32>,
    /// Per home: what is to be told.
    queues: Vec<VecDeque<u32>>,
    /// The homes for which there is anything.
    pub(in crate::shard) homes: Shards,
    /// The subscription that is looked at next, after the rules have changed.
    pub(in crate::shard) look: Option<usize>,
}

impl Attendance {
    /// Makes one of nobody, among so many shards.
    #[must_use]
    pub(in crate::shard) fn new(shards: usize) -> Attendance {
        Attendance {
            attendees: Slab::new(),
            names: Names::new(),
            by_hash: Places::default(),
            of: HashMap::new(),
            counts: HashMap::new(),
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
            homes: Shards::default(),
            look: None,
        }
    }

    /// Returns the bytes of memory that it holds besides queues.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        let maps = (self.of.capacity() + self.counts.capacity()) * 9;
        self.attendees.bytes() + self.names.bytes() + self.by_hash.bytes() + maps as u64
    }

    /// Returns how many of these bytes are of what there is.
    #[must_use]
    pub(in crate::shard) fn used_bytes(&self) -> u64 {
        let maps = (self.of.len() + self.counts.len()) * 18;
        self.attendees.used_bytes() + self.names.used_bytes() + self.by_hash.bytes() + maps as u64
    }

    /// Returns the bytes of memory that its queues hold.
    #[must_use]
    pub(in crate::shard) fn queue_bytes(&self) -> usize {
        self.queues.iter().map(bytes_of).sum()
    }

    /// Says whether nobody is to be told, and nothing to be looked at.
    #[must_use]
    pub(in crate::shard) fn is_idle(&self) -> bool {
        self.homes.is_empty() && self.look.is_none()
    }

    /// Says whether a subscription is counted.
    #[must_use]
    pub(in crate::shard) fn counts(&self, subscription: u32) -> bool {
        self.of.contains_key(&subscription)
    }

    /// A subscription of a topic begins to count for a name, unless the topic has `most` others.
    pub(in crate::shard) fn arrive(
        &mut self,
        subscription: u32,
        (topic, generation, home): (u32, u32, u32),
        (hash, name): (u64, &str),
        most: u32,
    ) {
        let same = |index: u32| {
            let other = &self.attendees[index as usize];
            (other.hash, other.topic, other.generation) == (hash, topic, generation) && self.names.is(other.name, name)
        };
        let found = self.by_hash.find(half(hash), same);
        let index = match found {
            Some(index) => index,
            None => {
                let count = self.counts.entry(topic).or_default();
                if *count >= most {
                    return;
                }
                *count += 1;
                let name = self.names.keep(name);
                let attendee = Attendee { hash, topic, generation, home, name, count: 0, told: 0, stands: false };
                let index = u32::try_from(self.attendees.insert(attendee)).expect("fewer than 2^32");
                self.by_hash.insert(half(hash), index);
                index
            }
        };
        self.attendees[index as usize].count += 1;
        self.of.insert(subscription, index);
        self.has_changed(index);
    }

    /// A subscription ends, or does not count any more.
    #[inline]
    pub(in crate::shard) fn depart(&mut self, subscription: u32) {
        if !self.of.is_empty() {
            self.depart_from(subscription);
        }
    }

    #[cold]
    fn depart_from(&mut self, subscription: u32) {
        let Some(index) = self.of.remove(&subscription) else { return };
        self.attendees[index as usize].count -= 1;
        self.has_changed(index);
    }

    fn has_changed(&mut self, index: u32) {
        let attendee = &mut self.attendees[index as usize];
        if attendee.stands {
            return;
        }
        if attendee.count != attendee.told {
            attendee.stands = true;
            let home = attendee.home as usize;
            self.queues[home].push_back(index);
            self.homes.insert(home);
        } else if attendee.count == 0 {
            self.forget(index);
        }
    }

    fn forget(&mut self, index: u32) {
        let attendee = self.attendees.remove(index as usize);
        self.names.forget(attendee.name);
        self.by_hash.remove(half(attendee.hash), index);
        if let Some(count) = self.counts.get_mut(&attendee.topic) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&attendee.topic);
            }
        }
    }

    /// Returns what a home is to be told next.
    #[must_use]
    pub(in crate::shard) fn next(&self, home: usize) -> Option<Change<'_>> {
        let attendee = &self.attendees[*self.queues[home].front()? as usize];
        let Attendee { topic, generation, count, .. } = *attendee;
        Some(Change { topic, generation, name: self.names.text(attendee.name), count })
    }

    /// A home was told what it was to be told next, or the topic was left, and with that all is told.
    pub(in crate::shard) fn was_told(&mut self, home: usize, left: bool) {
        let Some(index) = self.queues[home].pop_front() else { return };
        let attendee = &mut self.attendees[index as usize];
        attendee.stands = false;
        attendee.told = if left { 0 } else { attendee.count };
        self.has_changed(index);
    }

    /// Says whether a home is to be told of more.
    #[must_use]
    pub(in crate::shard) fn has_more(&self, home: usize) -> bool {
        !self.queues[home].is_empty()
    }

    /// Checks what it says of itself.
    ///
    /// # Panics
    /// If something does not hold.
    pub(in crate::shard) fn check(&self) {
        let (mut stand, mut count) = (0, 0);
        for (_, attendee) in self.attendees.iter() {
            assert!(attendee.stands == (attendee.count != attendee.told), "invariant 26: {attendee:?} is told of");
            assert!(attendee.count > 0 || attendee.told > 0, "invariant 26: {attendee:?} is there for a reason");
            stand += usize::from(attendee.stands);
            count += attendee.count as usize;
        }
        let queued: usize = self.queues.iter().map(VecDeque::len).sum();
        assert_eq!((stand, count), (queued, self.of.len()), "invariant 26: who is there is counted");
        let names: u32 = self.counts.values().sum();
        assert_eq!(names as usize, self.attendees.len(), "invariant 26: names of topics are counted");
    }
}
