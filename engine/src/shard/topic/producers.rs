//! Producers: who numbers what it publishes to topics that have their home here, up to which number all of it was, and under which
//! cursors the last of it was.
//!
//! ```text
//!   n = last + 1 (of one that nobody knows: 1)  ─▶ published, once            last = n
//!   n <= last                                   ─▶ not again; its cursor, if it is one of the last CURSORS_MAX
//!   n >  last + 1                               ─▶ refused: last + 1 is next
//! ```
//!
//! So of each producer that stands here, the numbers from 1 to `last` were published, each once and in order, and no other. That is why a stranger
//! begins with 1: if any number could be the first, one that was refused would pass for published once a later one came through.
//!
//! Owns: the producers, by a hash of topic, owner and name that nobody outside can foresee, so that nobody can take the name of another owner;
//! and the crowds that bound them: of a topic, and of an owner in a topic. Nobody gives way to a newcomer before its time: a newcomer that finds
//! no room is refused, and told. Never: a name, a topic, a clock. Invariants: each producer stands in the list by last use, in the list of its
//! topic, and in the counts of two crowds; a crowd is here while it has somebody.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::mesh::Numbered;
use crate::reach::{Mark, reach};
use crate::shard::memory::slab::Slab;
use crate::shard::topic::places::{Places, half};

const NONE: u32 = u32::MAX;

/// Cursors remembered of each producer: as many as a connection may have unanswered, so that who comes back after a cut is told all of them.
pub(in crate::shard) const CURSORS_MAX: usize = 64;

/// Producers whose time is over that make way for one newcomer.
const FORGOTTEN_FOR_ONE: usize = 16;

/// A producer of one topic.
#[derive(Debug)]
struct Producer {
    id: u128,
    /// All its numbers up to this one were published.
    last: u64,
    /// When it was last heard of.
    used_ms: u64,
    /// Epoch of the cursors.
    epoch: u32,
    /// The number that the first of the cursors had.
    begun: u64,
    /// Numbers of its last messages in the topic, of those from `begun` on; a ring once it is full.
    cursors: Vec<u64>,
    /// Its crowds: the topic, and its owner there.
    crowds: [u32; 2],
    /// Neighbours in the list by last use.
    older: u32,
    newer: u32,
    /// Neighbours in the list of its topic.
    before: u32,
    next: u32,
}

impl Producer {
    /// Returns the cursor of a number that was published, if it is remembered.
    fn cursor(&self, number: u64) -> Option<(u32, u64)> {
        let held = self.cursors.len() as u64;
        let is_held = number >= self.begun && number + held > self.last;
        is_held.then(|| (self.epoch, self.cursors[(number - self.begun) as usize % CURSORS_MAX]))
    }

    /// Its next number was published.
    fn publish(&mut self, epoch: u32, seq: u64) {
        self.last += 1;
        if self.epoch != epoch || self.cursors.is_empty() {
            self.cursors.clear();
            (self.epoch, self.begun) = (epoch, self.last);
        }
        match self.cursors.len() {
            CURSORS_MAX => self.cursors[(self.last - self.begun) as usize % CURSORS_MAX] = seq,
            _ => self.cursors.push(seq),
        }
    }

    fn held_bytes(&self) -> u64 {
        (self.cursors.capacity() * size_of::<u64>()) as u64
    }
}

/// Producers that are counted together.
#[derive(Debug)]
struct Crowd {
    key: u64,
    count: u32,
    /// The first one, in the crowd of a topic.
    first: u32,
}

/// What a producer may hold of a topic, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Share {
    /// Producers of a topic at most; of one owner half of them.
    pub(in crate::shard) most: u32,
    /// How long one is kept that is not heard of, in milliseconds.
    pub(in crate::shard) keeps_ms: u64,
    /// There is memory for one more.
    pub(in crate::shard) has_room: bool,
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Found {
    /// The next one of the producer at this place.
    Next(u32),
    /// One that was published, under this cursor, if it is remembered.
    Repeated(Option<(u32, u64)>),
    /// Not the next one, which is this.
    Expected(u64),
    /// The next one of a producer for which there is no room.
    TooMany,
}

/// All producers whose topics have their home here.
#[derive(Debug)]
pub(in crate::shard) struct Producers {
    /// What names are hashed with.
    pub(in crate::shard) key: [u64; 2],
    all: Slab<Producer>,
    by_id: Places,
    crowds: Slab<Crowd>,
    by_key: Places,
    oldest: u32,
    newest: u32,
    /// Memory that cursors hold.
    held_bytes: u64,
}

/// Makes the key that names of producers are hashed with of the key of the topic hash, which it does not tell.
#[must_use]
pub(in crate::shard) fn key_of(hash_key: u64) -> [u64; 2] {
    let hash = hash_of([hash_key, !hash_key], &[b"producers"]);
    [hash as u64, (hash >> 64) as u64]
}

/// Hashes some parts, each with its length.
#[must_use]
pub(in crate::shard) fn hash_of(key: [u64; 2], parts: &[&[u8]]) -> u128 {
    let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish128().as_u128()
}

fn half_id(id: u128) -> u32 {
    half(id as u64)
}

impl Producers {
    /// Makes one without producers, whose names are hashed with a key.
    #[must_use]
    pub(in crate::shard) fn new(key: [u64; 2]) -> Producers {
        Producers {
            key,
            all: Slab::new(),
            by_id: Places::default(),
            crowds: Slab::new(),
            by_key: Places::default(),
            oldest: NONE,
            newest: NONE,
            held_bytes: 0,
        }
    }

    /// Returns how many there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the bytes of memory that it holds.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.all.bytes() + self.by_id.bytes() + self.crowds.bytes() + self.by_key.bytes() + self.held_bytes
    }

    /// Returns how many of these bytes are of what there is.
    #[must_use]
    pub(in crate::shard) fn used_bytes(&self) -> u64 {
        let tables = self.by_id.bytes() + self.by_key.bytes();
        self.all.used_bytes() + self.crowds.used_bytes() + tables + self.held_bytes
    }

    /// Says what a number is that comes for a topic; whoever has the next one stands here from then on, and is to be told whether it was
    /// [published](Producers::published) or [not](Producers::withdrawn).
    pub(in crate::shard) fn find(&mut self, topic: u64, numbered: Numbered, share: Share, now_ms: u64) -> Found {
        let Numbered { producer: id, owner, number } = numbered;
        let found = self.by_id.find(half_id(id), |index| self.all[index as usize].id == id);
        let Some(index) = found else {
            return match number {
                1 => self.make(topic, id, owner, share, now_ms).map_or(Found::TooMany, Found::Next),
                _ => Found::Expected(1),
            };
        };
        self.touch(index, now_ms);
        let producer = &self.all[index as usize];
        match number {
            _ if number <= producer.last => Found::Repeated(producer.cursor(number)),
            _ if number == producer.last + 1 => Found::Next(index),
            _ => Found::Expected(producer.last + 1),
        }
    }

    /// The next number of a producer was published, under this cursor.
    pub(in crate::shard) fn published(&mut self, index: u32, epoch: u32, seq: u64) {
        let producer = &mut self.all[index as usize];
        self.held_bytes -= producer.held_bytes();
        producer.publish(epoch, seq);
        self.held_bytes += producer.held_bytes();
    }

    /// The next number of a producer was not published: it is still the next one, and of one without any nothing has to be known.
    pub(in crate::shard) fn withdrawn(&mut self, index: u32) {
        if self.all[index as usize].last == 0 {
            self.forget(index);
        }
    }

    /// Forgets the producers whose time is over, at most so many.
    pub(in crate::shard) fn forget_old(&mut self, keeps_ms: u64, now_ms: u64, max: usize) {
        for _ in 0..max {
            let Some(oldest) = self.all.get(self.oldest as usize) else { return };
            if oldest.used_ms.saturating_add(keeps_ms) >= now_ms {
                return;
            }
            reach(Mark::ProducerForgotten);
            self.forget(self.oldest);
        }
    }

    fn make(&mut self, topic: u64, id: u128, owner: u64, share: Share, now_ms: u64) -> Option<u32> {
        self.forget_old(share.keeps_ms, now_ms, FORGOTTEN_FOR_ONE);
        // Both are keyed hashes: nobody makes two of these meet.
        let keys = [topic, topic.rotate_left(32) ^ owner];
        let most = [share.most, share.most.div_ceil(2)];
        let counts = keys.map(|key| self.crowd(key).map_or(0, |crowd| self.crowds[crowd as usize].count));
        if !share.has_room || counts[0] >= most[0] || counts[1] >= most[1] {
            return None;
        }
        let crowds = keys.map(|key| {
            let crowd = self.crowd(key).unwrap_or_else(|| {
                let crowd = self.crowds.insert(Crowd { key, count: 0, first: NONE });
                let crowd = u32::try_from(crowd).expect("fewer crowds than 2^32");
                self.by_key.insert(half(key), crowd);
                crowd
            });
            self.crowds[crowd as usize].count += 1;
            crowd
        });
        let next = self.crowds[crowds[0] as usize].first;
        let producer = Producer {
            id,
            last: 0,
            used_ms: now_ms,
            epoch: 0,
            begun: 0,
            cursors: Vec::new(),
            crowds,
            older: NONE,
            newer: NONE,
            before: NONE,
            next,
        };
        let index = u32::try_from(self.all.insert(producer)).expect("fewer producers than 2^32");
        self.crowds[crowds[0] as usize].first = index;
        if let Some(next) = self.all.get_mut(next as usize) {
            next.before = index;
        }
        self.by_id.insert(half_id(id), index);
        self.list(index);
        Some(index)
    }

    fn crowd(&self, key: u64) -> Option<u32> {
        self.by_key.find(half(key), |crowd| self.crowds[crowd as usize].key == key)
    }

    fn forget(&mut self, index: u32) {
        self.unlist(index);
        let producer = self.all.remove(index as usize);
        self.held_bytes -= producer.held_bytes();
        self.by_id.remove(half_id(producer.id), index);
        match self.all.get_mut(producer.before as usize) {
            Some(before) => before.next = producer.next,
            None => self.crowds[producer.crowds[0] as usize].first = producer.next,
        }
        if let Some(next) = self.all.get_mut(producer.next as usize) {
            next.before = producer.before;
        }
        for crowd in producer.crowds {
            let left = &mut self.crowds[crowd as usize];
            left.count -= 1;
            if left.count == 0 {
                let key = left.key;
                self.by_key.remove(half(key), crowd);
                self.crowds.remove(crowd as usize);
            }
        }
    }

    fn touch(&mut self, index: u32, now_ms: u64) {
        self.all[index as usize].used_ms = now_ms;
        if self.newest != index {
            self.unlist(index);
            self.list(index);
        }
    }

    /// Puts a producer at the end of the list by last use.
    fn list(&mut self, index: u32) {
        let producer = &mut self.all[index as usize];
        (producer.older, producer.newer) = (self.newest, NONE);
        match self.newest {
            NONE => self.oldest = index,
            newest => self.all[newest as usize].newer = index,
        }
        self.newest = index;
    }

    fn unlist(&mut self, index: u32) {
        let Producer { older, newer, .. } = self.all[index as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.all[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.all[newer as usize].older = older,
        }
    }

    /// Checks what it says of itself.
    ///
    /// # Panics
    /// If something does not hold.
    pub(in crate::shard) fn check(&self) {
        let (mut listed, mut index, mut used_ms) = (0, self.oldest, 0);
        while let Some(producer) = self.all.get(index as usize) {
            assert!(producer.used_ms >= used_ms, "invariant 21: producers stand by last use");
            assert!(
                producer.cursors.len() as u64 <= producer.last,
                "invariant 21: no cursor of what was not published"
            );
            (listed, index, used_ms) = (listed + 1, producer.newer, producer.used_ms);
        }
        let mut held = 0;
        let mut counts = vec![0; self.crowds.bound()];
        for (_, producer) in self.all.iter() {
            held += producer.held_bytes();
            producer.crowds.iter().for_each(|crowd| counts[*crowd as usize] += 1);
        }
        for (crowd, Crowd { count, first, .. }) in self.crowds.iter() {
            assert!(*count > 0 && *count == counts[crowd], "invariant 21: producers of a crowd are counted");
            let (mut of_topic, mut index) = (0, *first);
            while let Some(producer) = self.all.get(index as usize) {
                (of_topic, index) = (of_topic + 1, producer.next);
            }
            assert!(*first == NONE || of_topic == *count, "invariant 21: producers stand in the list of their topic");
        }
        assert_eq!(
            (listed, held),
            (self.all.len(), self.held_bytes),
            "invariant 21: producers stand in the list, once"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::shard::random::random;

    const SHARE: Share = Share { most: 8, keeps_ms: 1_000, has_room: true };

    fn numbered(producer: u64, owner: u64, number: u64) -> Numbered {
        Numbered { producer: u128::from(producer) << 64 | u128::from(producer), owner, number }
    }

    /// Whatever numbers come, in whatever order, and whether or not there is room for them: what is said of each is what a list of all
    /// that was published says, and nothing is published twice or out of its order.
    #[test]
    fn agrees_with_a_list() {
        let mut seed = 7;
        let mut draw = |below: u64| random(&mut seed) % below;
        for _ in 0..20 {
            let mut producers = Producers::new([1, 2]);
            // By producer: when it was last heard of, and the cursors of all that it has published.
            let mut naive: BTreeMap<u64, (u64, Vec<(u32, u64)>)> = BTreeMap::new();
            let (mut now_ms, mut epoch, mut seq) = (0, 1, 0);
            for _ in 0..3_000 {
                now_ms += if draw(200) == 0 { 900 } else { draw(3) };
                if draw(300) == 0 {
                    epoch += 1;
                }
                producers.forget_old(SHARE.keeps_ms, now_ms, usize::MAX);
                naive.retain(|_, (used_ms, _)| *used_ms + SHARE.keeps_ms >= now_ms);
                let (producer, owner) = (draw(12), 5);
                let last = naive.get(&producer).map_or(0, |(_, cursors)| cursors.len() as u64);
                let number = if draw(3) == 0 { 1 + draw(last + 4) } else { last + 1 };
                let found = producers.find(9, numbered(producer, owner, number), SHARE, now_ms);
                let of_owner = naive.len() as u32;
                let expected = match naive.get_mut(&producer) {
                    None if number > 1 => Found::Expected(1),
                    None if of_owner >= SHARE.most.div_ceil(2) => Found::TooMany,
                    None => Found::Next(0),
                    Some((used_ms, cursors)) => {
                        *used_ms = now_ms;
                        match cursors.get(number as usize - 1) {
                            Some(cursor) => {
                                // The last ones are remembered, but none from before the epoch changed.
                                let same = cursors
                                    .iter()
                                    .rev()
                                    .take_while(|(of, _)| *of == cursors[cursors.len() - 1].0)
                                    .count();
                                let held = same.min(CURSORS_MAX) as u64;
                                Found::Repeated((number + held > cursors.len() as u64).then_some(*cursor))
                            }
                            None if number == cursors.len() as u64 + 1 => Found::Next(0),
                            None => Found::Expected(cursors.len() as u64 + 1),
                        }
                    }
                };
                match (found, expected) {
                    (Found::Next(index), Found::Next(_)) if draw(10) > 0 => {
                        seq += 1 + draw(3);
                        producers.published(index, epoch, seq);
                        let (used_ms, cursors) = naive.entry(producer).or_default();
                        *used_ms = now_ms;
                        cursors.push((epoch, seq));
                    }
                    (Found::Next(index), Found::Next(_)) => producers.withdrawn(index),
                    _ => assert_eq!(found, expected, "number {number} of {producer}"),
                }
                assert_eq!(producers.len(), naive.len());
                producers.check();
            }
            producers.forget_old(0, u64::MAX, usize::MAX);
            assert_eq!((producers.len(), producers.held_bytes, producers.crowds.len()), (0, 0, 0));
        }
    }

    /// However many names come, an owner has half of a topic's places at most, a topic no more than it may, and who stood there before is
    /// known as before.
    #[test]
    fn a_crowd_takes_nothing_from_others() {
        let mut producers = Producers::new([1, 2]);
        let publish = |producers: &mut Producers, topic, producer, owner, number| {
            let found = producers.find(topic, numbered(producer, owner, number), SHARE, 10);
            if let Found::Next(index) = found {
                producers.published(index, 1, number);
            }
            found
        };
        assert!(matches!(publish(&mut producers, 1, 1_000_000, 1, 1), Found::Next(_)));
        for producer in 0..100_000 {
            let found = publish(&mut producers, 1, producer, 2, 1);
            assert_eq!(matches!(found, Found::Next(_)), producer < 4, "half of eight");
        }
        assert!(matches!(publish(&mut producers, 1, 2_000_000, 3, 1), Found::Next(_)), "another owner has room");
        assert!(matches!(publish(&mut producers, 2, 3_000_000, 2, 1), Found::Next(_)), "another topic has room");
        assert_eq!(producers.len(), 7);
        assert_eq!(publish(&mut producers, 1, 1_000_000, 1, 1), Found::Repeated(Some((1, 1))));
        assert!(matches!(publish(&mut producers, 1, 1_000_000, 1, 2), Found::Next(_)));
        let full = Share { has_room: false, ..SHARE };
        assert_eq!(producers.find(5, numbered(5_000_000, 5, 1), full, 10), Found::TooMany);
        assert!(matches!(producers.find(1, numbered(1_000_000, 1, 3), full, 10), Found::Next(_)), "it is known");
        producers.check();
    }
}
