//! The journal of a home: how many messages it has recorded, which patterns anybody reads, and what each of them had lately.
//!
//! ```text
//!   topic ──patterns (known until they change)──▶ set ──▶ pattern: members [ shard | number there | hears ]
//!                                                                  entries [ number | home | epoch | number in its topic ] …
//! ```
//!
//! Entries are kept for those who come back, or have not kept up: the content is in the histories. A pattern that nobody reads any more stays
//! for a while, so that its reader finds what it missed. Owns: patterns, their members and entries. Never: a message, a ring.

use std::collections::{BTreeMap, VecDeque};

use crate::reach::{Mark, reach};
use crate::shard::memory::few::Few;
use crate::shard::memory::slab::Slab;
use crate::shard::pattern::tree::Tree;
use crate::shard::scratch::bytes_of;
use crate::shard::topic::member::{Hearing, Member};

/// Entries of one pattern at most: 384 KiB.
const ENTRIES_MAX: usize = 16 << 10;

/// Entries of one pattern that there is room for, however many patterns there are.
const ENTRIES_MIN: usize = 64;

/// All entries take at most one part in so many of a shard's memory.
const SHARE: u64 = 64;

/// How long a pattern stays that nobody reads: as long as histories do, unless configured.
const LINGER_MS: u64 = 300_000;

/// Patterns that stay at the same time though nobody reads them.
const LEFT_MAX: usize = 1024;

/// Numbers in all sets together, about: a megabyte. There are no more sets than that.
const SET_NUMBERS_MAX: usize = 1 << 18;
const SETS_MAX: u32 = SET_NUMBERS_MAX as u32 + 2;

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Entry {
    /// Its number here.
    pub(in crate::shard) number: u64,
    /// Its number in its topic.
    pub(in crate::shard) seq: u64,
    /// Its topic.
    pub(in crate::shard) home: u32,
    /// The topic's epoch.
    pub(in crate::shard) epoch: u32,
}

/// A pattern that somebody reads, or read lately.
#[derive(Debug)]
pub(in crate::shard) struct Known {
    text: Box<str>,
    /// The shards with readers.
    pub(in crate::shard) members: Few<Member>,
    /// What it had, from the oldest on.
    pub(in crate::shard) entries: VecDeque<Entry>,
    /// What was up to this number is not known any more, or never was.
    pub(in crate::shard) forgot_to: u64,
    /// When its last member left, if it has none.
    left_ms: u64,
}

/// What a home knows of messages and patterns.
#[derive(Debug)]
pub(in crate::shard) struct Journal {
    /// Messages recorded so far.
    count: u64,
    /// Number of the first set. With each change of what patterns there are it is larger than those of all sets before, so that homes see that
    /// they have to look for theirs.
    first_set: u32,
    /// Numbers of sets begin anew.
    anew: bool,
    tree: Tree,
    patterns: Slab<Known>,
    /// Which patterns topics have, since the last change; the first is none.
    sets: Vec<Box<[u32]>>,
    by_set: BTreeMap<Box<[u32]>, u32>,
    set_numbers: usize,
    found: Vec<u32>,
    /// Patterns whose last member left, and when.
    left: VecDeque<(u64, u32)>,
    entries_max: usize,
    /// Bytes of entries, members and texts.
    held_bytes: u64,
}

impl Journal {
    /// Makes one without patterns, for a shard with so much memory.
    #[must_use]
    pub(in crate::shard) fn new(memory_bytes: u64) -> Journal {
        let entries_max = memory_bytes / SHARE / size_of::<Entry>() as u64;
        Journal {
            count: 0,
            first_set: 0,
            anew: false,
            tree: Tree::new(),
            patterns: Slab::new(),
            sets: vec![Box::default()],
            by_set: BTreeMap::new(),
            set_numbers: 0,
            found: Vec::new(),
            left: VecDeque::new(),
            entries_max: usize::try_from(entries_max).unwrap_or(usize::MAX),
            held_bytes: 0,
        }
    }

    /// Returns the bytes of memory that it holds.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        let sets = self.set_numbers * size_of::<u32>() * 2 + self.sets.capacity() * size_of::<Box<[u32]>>() * 3;
        self.tree.bytes() + self.patterns.bytes() + self.held_bytes + (sets + bytes_of(&self.left)) as u64
    }

    /// Counts a message; returns its number.
    #[inline]
    pub(in crate::shard) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Returns the number of the newest message.
    #[must_use]
    pub(in crate::shard) fn count(&self) -> u64 {
        self.count
    }

    /// Says whether a set is one of now.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn knows(&self, set: u32) -> bool {
        set >= self.first_set
    }

    /// Says whether the numbers of all sets of before have to be forgotten, which they are then. To be asked before a set is looked for.
    #[must_use]
    pub(in crate::shard) fn begins_anew(&mut self) -> bool {
        if self.set_numbers > SET_NUMBERS_MAX {
            self.has_changed();
        }
        if self.anew {
            self.first_set = 1;
        }
        std::mem::take(&mut self.anew)
    }

    /// Returns a pattern, if it is there.
    #[must_use]
    pub(in crate::shard) fn pattern(&self, index: u32) -> Option<&Known> {
        self.patterns.get(index as usize)
    }

    /// Returns a pattern, for changing how its members hear.
    pub(in crate::shard) fn members_mut(&mut self, index: u32) -> &mut [Member] {
        match self.patterns.get_mut(index as usize) {
            Some(known) => &mut known.members,
            None => &mut [],
        }
    }

    /// Finds a pattern.
    #[must_use]
    pub(in crate::shard) fn find(&self, pattern: &str) -> Option<u32> {
        self.tree.find(pattern)
    }

    /// Says whether each message of a pattern is sent to a shard.
    #[must_use]
    pub(in crate::shard) fn hears(&self, pattern: &str, shard: usize) -> bool {
        let known = self.find(pattern).and_then(|index| self.pattern(index));
        known.is_some_and(|known| {
            known.members.iter().any(|member| member.shard as usize == shard && member.hearing == Hearing::Live)
        })
    }

    /// Adds a shard to the members of a pattern, and the pattern, if it is not there; returns its place.
    pub(in crate::shard) fn join(&mut self, pattern: &str, member: Member) -> u32 {
        let index = self.tree.find(pattern).unwrap_or_else(|| self.make(pattern));
        let known = &mut self.patterns[index as usize];
        self.held_bytes -= known.members.bytes();
        known.members.push(member);
        self.held_bytes += known.members.bytes();
        index
    }

    fn make(&mut self, pattern: &str) -> u32 {
        let (text, forgot_to) = (Box::from(pattern), self.count);
        let known = Known { text, members: Few::new(), entries: VecDeque::new(), forgot_to, left_ms: 0 };
        let index = u32::try_from(self.patterns.insert(known)).expect("fewer patterns than 2^32");
        self.tree.insert(pattern, index);
        self.held_bytes += pattern.len() as u64;
        self.has_changed();
        // The others have less room now.
        let room = self.room();
        for place in 0..self.patterns.bound() {
            let Some(known) = self.patterns.get_mut(place).filter(|known| known.entries.len() > room) else { continue };
            let before = bytes_of(&known.entries);
            let surplus = known.entries.len() - room;
            known.forgot_to = known.entries.drain(..surplus).next_back().map_or(known.forgot_to, |last| last.number);
            known.entries.shrink_to_fit();
            self.held_bytes = self.held_bytes + bytes_of(&known.entries) as u64 - before as u64;
        }
        index
    }

    /// Takes a shard out of the members of a pattern, if it stands there for this life of it.
    pub(in crate::shard) fn leave(&mut self, pattern: &str, shard: usize, id: u32, generation: u32, now_ms: u64) {
        let Some(index) = self.tree.find(pattern) else { return };
        let known = &mut self.patterns[index as usize];
        let is_it = |member: &Member| (member.shard as usize, member.id, member.generation) == (shard, id, generation);
        let Some(place) = known.members.iter().position(is_it) else { return };
        self.held_bytes -= known.members.bytes();
        known.members.swap_remove(place);
        self.held_bytes += known.members.bytes();
        if known.members.is_empty() {
            // The same time twice would be one entry for two departures, and the first would end the second.
            known.left_ms = now_ms.max(known.left_ms + 1);
            self.left.push_back((known.left_ms, index));
            if self.left.len() > LEFT_MAX {
                self.forget_first_left();
            }
        }
    }

    /// Forgets patterns that nobody has read for long.
    #[inline]
    pub(in crate::shard) fn forget_left(&mut self, now_ms: u64) {
        while self.left.front().is_some_and(|(left_ms, _)| left_ms + LINGER_MS < now_ms) {
            self.forget_first_left();
        }
    }

    fn forget_first_left(&mut self) {
        let Some((left_ms, index)) = self.left.pop_front() else { return };
        let is_left = |known: &&Known| known.members.is_empty() && known.left_ms == left_ms;
        if self.patterns.get(index as usize).filter(is_left).is_some() {
            reach(Mark::PatternForgotten);
            let known = self.patterns.remove(index as usize);
            self.tree.remove(&known.text);
            self.held_bytes -= (known.text.len() + bytes_of(&known.entries)) as u64;
            self.has_changed();
        }
    }

    fn has_changed(&mut self) {
        // 0 is of homes that have not looked yet. The last number is none.
        let next = self.first_set.checked_add(self.sets.len() as u32).filter(|next| *next < u32::MAX - SETS_MAX);
        self.anew |= next.is_none();
        self.first_set = if self.anew { u32::MAX } else { next.unwrap_or(u32::MAX) };
        self.sets.truncate(1);
        self.by_set.clear();
        self.set_numbers = 0;
    }

    /// Returns the number of the set of patterns that match a topic. It means the same until the next change.
    #[cold]
    pub(in crate::shard) fn set_of(&mut self, topic: &str) -> u32 {
        debug_assert!(!self.anew, "whoever looks has seen to that");
        let mut found = std::mem::take(&mut self.found);
        self.tree.matching(topic, &mut found);
        let set = match self.by_set.get(found.as_slice()) {
            _ if found.is_empty() => 0,
            Some(set) => *set,
            None => {
                let set = u32::try_from(self.sets.len()).expect("fewer sets than numbers in them");
                self.sets.push(found.as_slice().into());
                self.by_set.insert(found.as_slice().into(), set);
                self.set_numbers += found.len();
                set
            }
        };
        self.found = found;
        self.first_set + set
    }

    /// Says whether no pattern is of a set.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn is_none(&self, set: u32) -> bool {
        set == self.first_set
    }

    /// Returns the patterns of a set.
    #[must_use]
    pub(in crate::shard) fn set(&self, set: u32) -> &[u32] {
        self.sets.get((set - self.first_set) as usize).map_or(&[], |set| set)
    }

    /// Notes a message of a pattern.
    pub(in crate::shard) fn note(&mut self, index: u32, entry: Entry) {
        let room = self.room();
        let Some(known) = self.patterns.get_mut(index as usize) else { return };
        let before = known.entries.capacity();
        while known.entries.len() >= room {
            known.forgot_to = known.entries.pop_front().map_or(known.forgot_to, |first| first.number);
        }
        known.entries.push_back(entry);
        if known.entries.capacity() != before {
            self.held_bytes += ((known.entries.capacity() - before) * size_of::<Entry>()) as u64;
        }
    }

    /// Returns how many entries a pattern may have.
    fn room(&self) -> usize {
        (self.entries_max / self.patterns.len().max(1)).clamp(ENTRIES_MIN, ENTRIES_MAX)
    }

    /// Returns the places of entries behind a number, up to another one.
    #[must_use]
    pub(in crate::shard) fn behind(&self, index: u32, number: u64, up_to: u64) -> std::ops::Range<usize> {
        let Some(known) = self.patterns.get(index as usize) else { return 0..0 };
        let place = |number| known.entries.partition_point(|entry| entry.number <= number);
        let first = place(number);
        first..place(up_to).max(first)
    }

    /// Checks what can be seen of it alone.
    ///
    /// # Panics
    /// If something is wrong.
    pub(in crate::shard) fn check(&self) {
        let mut held = 0;
        for (index, known) in self.patterns.iter() {
            assert_eq!(self.tree.find(&known.text), Some(index as u32), "a pattern is found by its text");
            assert!(known.entries.len() <= self.room(), "entries have their bound");
            let numbers = std::iter::once(known.forgot_to).chain(known.entries.iter().map(|entry| entry.number));
            assert!(numbers.is_sorted(), "entries stand in their order");
            held += (known.text.len() + bytes_of(&known.entries)) as u64 + known.members.bytes();
        }
        assert_eq!(held, self.held_bytes, "what is held is counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(shard: u32) -> Member {
        Member { shard, id: 1, generation: 2, hearing: Hearing::Live, wants_old: false }
    }

    /// A topic's set is looked for once for each change, the entries of a pattern are bounded, and what was dropped is known to be.
    #[test]
    fn what_is_dropped_is_known() {
        let mut journal = Journal::new(SHARE * (size_of::<Entry>() * 2 * ENTRIES_MIN) as u64);
        assert!(journal.knows(0) && journal.set_of("a/b") == 0);
        let first = journal.join("a/+", member(0));
        let set = journal.set_of("a/b");
        assert_eq!(journal.set(set), [first]);
        for seq in 1..=200 {
            let number = journal.next();
            journal.note(first, Entry { number, seq, home: 3, epoch: 4 });
        }
        journal.check();
        assert_eq!(journal.pattern(first).map(|known| (known.forgot_to, known.entries.len())), Some((72, 128)));
        assert_eq!(journal.behind(first, 100, 110), 28..38);
        assert_eq!(journal.behind(first, 300, 110), 128..128);
        assert!(!journal.knows(0) && journal.knows(set) && !journal.is_none(set));
        let second = journal.join("#", member(1));
        journal.check();
        assert!(!journal.knows(set));
        let set = journal.set_of("a/b");
        assert_eq!(journal.set(set), [first, second]);
        assert_eq!(journal.pattern(first).map(|known| known.forgot_to), Some(136), "there is less room for each");
        assert_eq!(journal.pattern(second).map(|known| known.forgot_to), Some(200), "it knows nothing of before");
    }

    /// When the numbers of sets are used up they begin anew, and no home takes one of before for one of now.
    #[test]
    fn numbers_of_sets_begin_anew() {
        let mut journal = Journal::new(1 << 30);
        journal.first_set = u32::MAX - SETS_MAX - 1;
        let old = journal.first_set;
        journal.join("a/+", member(0));
        assert!(!journal.knows(old) && !journal.knows(0) && journal.begins_anew() && !journal.begins_anew());
        assert!(!journal.knows(0));
        let set = journal.set_of("a/b");
        assert!(set < 10 && journal.knows(set) && journal.set(set).len() == 1);
        let none = journal.set_of("b");
        assert!(journal.is_none(none));
    }

    /// A pattern outlives its last reader for a while, and no longer; one that has a reader again stays.
    #[test]
    fn patterns_linger() {
        let mut journal = Journal::new(1 << 30);
        let one = journal.join("a/+", member(0));
        journal.join("b/+", member(0));
        for text in ["a/+", "b/+"] {
            journal.leave(text, 0, 1, 2, 1_000);
        }
        assert_eq!(journal.join("b/+", member(0)), journal.find("b/+").unwrap());
        journal.forget_left(1_000 + LINGER_MS);
        assert_eq!(journal.find("a/+"), Some(one));
        journal.forget_left(1_002 + LINGER_MS);
        assert_eq!((journal.find("a/+"), journal.patterns.len()), (None, 1));
        journal.check();
        for n in 0..3 * LEFT_MAX {
            let text = format!("c/{n}/+");
            journal.join(&text, member(0));
            journal.leave(&text, 0, 1, 2, 2_000 + LINGER_MS);
        }
        assert_eq!(journal.patterns.len(), 1 + LEFT_MAX);
        journal.check();
    }
}
