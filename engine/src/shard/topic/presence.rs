//! Presence: who reads the topics that have their home here, by name, as shards say, and what was told of it.
//!
//! ```text
//!   Present, Leave ──▶ connections by shard ──sum──▶ told: who comes at once, how many they are once in a second,
//!                                                    who is gone after a delay ──▶ $sys/presence/TOPIC
//! ```
//!
//! Owns: of each topic its names; of each name the counts, since when it is there, and when something is to be done. A topic without the rule has
//! nothing here. Touches nothing else: names are told by [`super::attending`]. Invariants: a name stands in at most one queue, and `stands` says
//! so; it is here while it is there, was told to be, or stands in a queue; a topic is here while it has names.

use std::collections::VecDeque;

use crate::mesh::Name;
use crate::shard::memory::few::Few;
use crate::shard::memory::slab::Slab;
use crate::shard::scratch::bytes_of;
use crate::shard::topic::names::{NamePlace, Names};
use crate::shard::topic::places::{Places, half};

const NONE: u32 = u32::MAX;

/// Least time between two numbers of a name, in milliseconds.
const TOLD_EVERY_MS: u64 = 1_000;

/// What found no room is told again after so long, in milliseconds: of a topic with more names than it may tell there are always such.
const AGAIN_MS: u64 = 5_000;

/// Somebody of whom it is told that he reads a topic.
#[derive(Debug)]
struct Person {
    hash: u64,
    room: u32,
    name: NamePlace,
    /// The shards where connections of this name read it, and how many these are.
    shards: Few<(u32, u32)>,
    connections: u32,
    /// What was told last; 0: nothing, or that he is gone.
    told: u32,
    /// Since when he is there, in milliseconds since 1970, and when he went.
    since_ms: u64,
    lost_ms: u64,
    stands: bool,
    /// Neighbours in the list of the topic.
    before: u32,
    next: u32,
}

/// A topic with names.
#[derive(Debug)]
struct Room {
    hash: u64,
    name: NamePlace,
    first: u32,
}

/// What is to be told of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct News<'a> {
    /// The topic.
    pub(in crate::shard) topic: &'a str,
    /// Who.
    pub(in crate::shard) name: &'a str,
    /// How many connections he has; 0: he is gone.
    pub(in crate::shard) connections: u32,
    /// Since when he is there, in milliseconds since 1970.
    pub(in crate::shard) since_ms: u64,
}

/// Who reads topics that have their home here.
#[derive(Debug)]
pub(in crate::shard) struct Presence {
    persons: Slab<Person>,
    rooms: Slab<Room>,
    names: Names,
    by_hash: Places,
    by_name: Places,
    list_bytes: u64,
    /// Who is looked at at once, when a number may be told again, when the delay is over, and once more, with the times.
    soon: VecDeque<(u64, u32)>,
    paced: VecDeque<(u64, u32)>,
    later: VecDeque<(u64, u32)>,
    again: VecDeque<(u64, u32)>,
}

impl Presence {
    /// Makes one of nobody.
    #[must_use]
    pub(in crate::shard) fn new() -> Presence {
        Presence {
            persons: Slab::new(),
            rooms: Slab::new(),
            names: Names::new(),
            by_hash: Places::default(),
            by_name: Places::default(),
            list_bytes: 0,
            soon: VecDeque::new(),
            paced: VecDeque::new(),
            later: VecDeque::new(),
            again: VecDeque::new(),
        }
    }

    /// Returns the bytes of memory that it holds besides queues.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        let tables = self.by_hash.bytes() + self.by_name.bytes();
        self.persons.bytes() + self.rooms.bytes() + self.names.bytes() + tables + self.list_bytes
    }

    /// Returns how many of these bytes are of what there is.
    #[must_use]
    pub(in crate::shard) fn used_bytes(&self) -> u64 {
        let tables = self.by_hash.bytes() + self.by_name.bytes();
        self.persons.used_bytes() + self.rooms.used_bytes() + self.names.used_bytes() + tables + self.list_bytes
    }

    /// Returns the bytes of memory that its queues hold.
    #[must_use]
    pub(in crate::shard) fn queue_bytes(&self) -> usize {
        [&self.soon, &self.paced, &self.later, &self.again].into_iter().map(bytes_of).sum()
    }

    /// Says whether nobody is known.
    #[must_use]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.persons.len() == 0
    }

    fn room(&self, topic: Name<'_>) -> Option<u32> {
        let same = |index: u32| {
            let room = &self.rooms[index as usize];
            room.hash == topic.hash && self.names.is(room.name, topic.text)
        };
        self.by_name.find(half(topic.hash), same)
    }

    /// Says whether somebody of a topic is known.
    #[must_use]
    pub(in crate::shard) fn has(&self, hash: u64, text: &str) -> bool {
        self.room(Name { hash, text }).is_some()
    }

    /// A shard says how many connections of a name read a topic there; of a new name only if there is room.
    pub(in crate::shard) fn count(
        &mut self,
        topic: Name<'_>,
        (hash, name): (u64, &str),
        (shard, count): (usize, u32),
        has_room: bool,
        (now_ms, wall_ms, delay_ms): (u64, u64, u64),
    ) {
        let room = self.room(topic);
        let same = |index: u32| {
            let person = &self.persons[index as usize];
            person.hash == hash && Some(person.room) == room && self.names.is(person.name, name)
        };
        let index = match self.by_hash.find(half(hash), same) {
            Some(index) => index,
            None if count == 0 || !has_room => return,
            None => {
                let room = room.unwrap_or_else(|| {
                    let kept = self.names.keep(topic.text);
                    let room = self.rooms.insert(Room { hash: topic.hash, name: kept, first: NONE });
                    let room = u32::try_from(room).expect("fewer than 2^32");
                    self.by_name.insert(half(topic.hash), room);
                    room
                });
                let next = self.rooms[room as usize].first;
                let person = Person {
                    hash,
                    room,
                    name: self.names.keep(name),
                    shards: Few::new(),
                    connections: 0,
                    told: 0,
                    since_ms: wall_ms,
                    lost_ms: now_ms,
                    stands: false,
                    before: NONE,
                    next,
                };
                let index = u32::try_from(self.persons.insert(person)).expect("fewer than 2^32");
                if let Some(next) = self.persons.get_mut(next as usize) {
                    next.before = index;
                }
                self.rooms[room as usize].first = index;
                self.by_hash.insert(half(hash), index);
                index
            }
        };
        self.set(index, shard, count, now_ms, delay_ms);
    }

    /// A shard has no readers of a topic any more.
    pub(in crate::shard) fn leave(&mut self, topic: Name<'_>, shard: usize, now_ms: u64, delay_ms: u64) {
        let Some(room) = self.room(topic) else { return };
        let mut index = self.rooms[room as usize].first;
        while let Some(person) = self.persons.get(index as usize) {
            let next = person.next;
            self.set(index, shard, 0, now_ms, delay_ms);
            index = next;
        }
    }

    fn set(&mut self, index: u32, shard: usize, count: u32, now_ms: u64, delay_ms: u64) {
        let person = &mut self.persons[index as usize];
        self.list_bytes -= person.shards.bytes();
        let place = person.shards.iter().position(|(of, _)| *of as usize == shard);
        match (place, count) {
            (Some(place), 0) => drop(person.shards.swap_remove(place)),
            (Some(place), count) => person.shards[place].1 = count,
            (None, 0) => {}
            (None, count) => person.shards.push((shard as u32, count)),
        }
        self.list_bytes += person.shards.bytes();
        person.connections = person.shards.iter().map(|(_, count)| *count).sum();
        if person.connections == 0 {
            person.lost_ms = now_ms;
        }
        if person.stands {
            return; // He is looked at as he is then.
        }
        if person.connections == person.told {
            return self.forget_if_idle(index);
        }
        person.stands = true;
        match (person.told, person.connections) {
            (_, 0) => self.later.push_back((now_ms + delay_ms, index)),
            (0, _) => self.soon.push_back((now_ms, index)),
            _ => self.paced.push_back((now_ms + TOLD_EVERY_MS, index)),
        }
    }

    /// Returns when something is due, in milliseconds.
    #[must_use]
    pub(in crate::shard) fn due_ms(&self) -> Option<u64> {
        let queues = [&self.soon, &self.paced, &self.later, &self.again];
        queues.into_iter().filter_map(|queue| queue.front()).map(|(due, _)| *due).min()
    }

    /// Says whether something is due.
    #[must_use]
    #[inline]
    pub(in crate::shard) fn is_due(&self, now_ms: u64) -> bool {
        !self.is_empty() && self.due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Takes whoever is to be looked at next.
    pub(in crate::shard) fn take_due(&mut self, delay_ms: u64, now_ms: u64) -> Option<u32> {
        loop {
            let is_due = |due: &mut (u64, u32)| due.0 <= now_ms;
            let (_, index) = self
                .soon
                .pop_front_if(is_due)
                .or_else(|| self.paced.pop_front_if(is_due))
                .or_else(|| self.later.pop_front_if(is_due))
                .or_else(|| self.again.pop_front_if(is_due))?;
            let person = &mut self.persons[index as usize];
            if person.connections == 0 && person.told > 0 && person.lost_ms + delay_ms > now_ms {
                // He came back meanwhile, and went again.
                self.later.push_back((person.lost_ms + delay_ms, index));
                continue;
            }
            person.stands = false;
            if person.connections != person.told {
                return Some(index);
            }
            self.forget_if_idle(index);
        }
    }

    /// Returns what is to be told of somebody.
    #[must_use]
    pub(in crate::shard) fn news(&self, index: u32) -> News<'_> {
        let Person { room, name, connections, since_ms, .. } = &self.persons[index as usize];
        let topic = self.names.text(self.rooms[*room as usize].name);
        News { topic, name: self.names.text(*name), connections: *connections, since_ms: *since_ms }
    }

    /// It was told how many connections somebody has, or could not be.
    pub(in crate::shard) fn was_told(&mut self, index: u32, told: bool, now_ms: u64) {
        let person = &mut self.persons[index as usize];
        if told {
            person.told = person.connections;
            return self.forget_if_idle(index);
        }
        person.stands = true;
        self.again.push_back((now_ms + AGAIN_MS, index));
    }

    fn forget_if_idle(&mut self, index: u32) {
        let person = &self.persons[index as usize];
        if person.connections > 0 || person.told > 0 || person.stands {
            return;
        }
        let person = self.persons.remove(index as usize);
        self.names.forget(person.name);
        self.by_hash.remove(half(person.hash), index);
        match self.persons.get_mut(person.before as usize) {
            Some(before) => before.next = person.next,
            None => self.rooms[person.room as usize].first = person.next,
        }
        if let Some(next) = self.persons.get_mut(person.next as usize) {
            next.before = person.before;
        }
        if self.rooms[person.room as usize].first == NONE {
            let room = self.rooms.remove(person.room as usize);
            self.names.forget(room.name);
            self.by_name.remove(half(room.hash), person.room);
        }
    }

    /// Checks what it says of itself.
    ///
    /// # Panics
    /// If something does not hold.
    pub(in crate::shard) fn check(&self) {
        let (mut stand, mut lists) = (0, 0);
        for (_, person) in self.persons.iter() {
            let sum: u32 = person.shards.iter().map(|(_, count)| *count).sum();
            assert_eq!(sum, person.connections, "invariant 26: connections of {person:?}");
            assert!(person.connections > 0 || person.told > 0 || person.stands, "invariant 26: {person:?} is there");
            assert!(person.stands || person.connections == person.told, "invariant 26: {person:?} is told of");
            (stand, lists) = (stand + usize::from(person.stands), lists + person.shards.bytes());
        }
        let queued = self.soon.len() + self.paced.len() + self.later.len() + self.again.len();
        assert_eq!((stand, lists), (queued, self.list_bytes), "invariant 26: who stands in a queue says so");
        assert!(self.rooms.iter().all(|(_, room)| room.first != NONE), "invariant 26: a topic has names");
    }
}
