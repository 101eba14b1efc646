//! What a shard knows of patterns that are read here: how far it is with each home, and where readers are whom it gives what they have not.
//!
//! ```text
//!   home 0 ──17, 19──▶ frame log   1  2  3  4  5      numbers of its own, from 1 on
//!   home 1 ──4, 8, 9─▶   homes     0  1  0  1  1
//!                        numbers  17  4 19  8  9      of the newest only: what is behind place 3 is 8 of home 1,
//!                                                     so that who stands there has 7 of it, and 19 of home 0
//! ```
//!
//! Owns: heads, the list of what stands in the logs, walks. Never: a log, a message.

use std::collections::{BTreeMap, VecDeque};

use corecast_protocol::cursor::Since;
use corecast_protocol::line::GapReason;
use corecast_protocol::places::{self, Part, Rest};

use crate::mesh::Shards;
use crate::shard::memory::slab::Slab;
use crate::shard::scratch::bytes_of;

/// What the number of a home is larger than, if it is none: the rest is the number of a pattern.
const PATTERN: u32 = 1 << 31;

/// Patterns that are read on a shard at most.
pub(in crate::shard) const PATTERNS_MAX: usize = 4096;

/// Messages of a pattern whose homes and numbers are known, at most, and however many patterns there are.
const LISTED_MAX: usize = 16 << 10;
const LISTED_MIN: usize = 256;

/// All of them take at most one part in so many of a shard's memory.
const SHARE: u64 = 64;

/// Returns the number of a pattern, if that is what stands for a home.
#[inline]
#[must_use]
pub(in crate::shard) fn pattern_of(home: u32) -> Option<u32> {
    home.checked_sub(PATTERN)
}

/// Returns what stands for the home of a pattern.
#[must_use]
pub(in crate::shard) fn home_of_pattern(pattern: u32) -> u32 {
    PATTERN + pattern
}

/// A pattern with readers.
#[derive(Debug)]
pub(in crate::shard) struct Read {
    /// Of each home: everything up to this number has come.
    pub(in crate::shard) heads: Vec<u64>,
    /// How many homes have answered the Join.
    pub(in crate::shard) joined: usize,
    /// Homes that had messages without room; they are asked for what is missing.
    pub(in crate::shard) catching: Shards,
    /// Of those, whose answer that is arriving is the last.
    pub(in crate::shard) ends: Shards,
    /// Readers that wait until all homes have joined: subscriptions, and their serials.
    pub(in crate::shard) waiting: Vec<(u32, u32)>,
    /// Homes and numbers of the newest messages in the logs.
    listed: VecDeque<(u32, u64)>,
    /// Number of the first of those in the logs.
    listed_from: u64,
}

impl Read {
    fn new(shards: usize) -> Read {
        Read {
            heads: vec![0; shards],
            joined: 0,
            catching: Shards::default(),
            ends: Shards::default(),
            waiting: Vec::new(),
            listed: VecDeque::new(),
            listed_from: 1,
        }
    }

    /// Says how much of each home a reader has that has the first so many messages of the logs; `None` if that is not known any more.
    #[must_use]
    pub(in crate::shard) fn numbers_at(&self, message: u64) -> Option<Vec<u64>> {
        let from = (message + 1).checked_sub(self.listed_from)?;
        let mut numbers = self.heads.clone();
        for (home, number) in self.listed.range(from as usize..).rev() {
            numbers[*home as usize] = number - 1;
        }
        Some(numbers)
    }

    fn bytes(&self) -> u64 {
        (bytes_of(&self.listed) + self.heads.capacity() * 8 + self.waiting.capacity() * 8) as u64
    }
}

/// Where a reader of a pattern starts.
#[derive(Debug)]
pub(in crate::shard) enum Begin {
    /// With the newest message of each topic.
    Latest,
    /// With what comes.
    Live,
    /// From its places of a life.
    Places(u32, Vec<Part>),
}

impl Begin {
    /// Reads where a reader starts; what it says is checked.
    #[must_use]
    pub(in crate::shard) fn new(since: Option<Since>, places: Option<&str>) -> Begin {
        match places.map(places::parse) {
            Some(Ok((life, parts))) => Begin::Places(life, parts.collect()),
            _ if matches!(since, Some(Since::Live | Since::Last(0))) => Begin::Live,
            _ => Begin::Latest,
        }
    }
}

/// A reader that is given what it has not, by one home after the other.
#[derive(Debug)]
pub(in crate::shard) struct Walk {
    /// Where it starts, until that is known.
    pub(in crate::shard) begin: Option<Begin>,
    /// Token of the answer to whoever subscribed, empty for none.
    pub(in crate::shard) token: Box<str>,
    /// How far it is with each home.
    pub(in crate::shard) parts: Vec<Part>,
    /// How far it is to be: from there on the log has everything.
    pub(in crate::shard) up_to: Vec<u64>,
    /// The home that is asked.
    pub(in crate::shard) home: usize,
    /// What the answer that is arriving says: where the next question begins, and whether there is none.
    pub(in crate::shard) next: u64,
    pub(in crate::shard) all: bool,
    /// That more is lost than anybody knows: it is to be told, and was.
    pub(in crate::shard) gap: Option<GapReason>,
    pub(in crate::shard) gap_told: bool,
    /// That it has all there was is to be told in the end.
    pub(in crate::shard) tells_end: bool,
}

impl Walk {
    /// Makes one that has to be told where it starts.
    #[must_use]
    pub(in crate::shard) fn new(begin: Option<Begin>, token: &str) -> Walk {
        Walk {
            tells_end: begin.is_some(),
            begin,
            token: token.into(),
            parts: Vec::new(),
            up_to: Vec::new(),
            home: 0,
            next: 0,
            all: false,
            gap: None,
            gap_told: false,
        }
    }

    /// It goes on with all homes, up to where the shard is with them.
    pub(in crate::shard) fn begin_round(&mut self, heads: &[u64]) {
        self.up_to = heads.to_vec();
        self.home = 0;
    }

    /// It has nothing of any home: it is given what there is.
    pub(in crate::shard) fn begin_anew(&mut self, heads: &[u64]) {
        self.parts = all_of(heads);
        self.begin_round(heads);
        self.tells_end = true;
    }

    /// Goes to the next home that is to be asked; says whether there is one.
    #[must_use]
    pub(in crate::shard) fn seek(&mut self) -> bool {
        while let (Some(part), Some(up_to)) = (self.parts.get(self.home), self.up_to.get(self.home)) {
            if part.rest.is_some() || part.number < *up_to {
                return true;
            }
            self.home += 1;
        }
        false
    }

    /// The home that is asked has forgotten what came behind the reader's number: it says what there is instead.
    pub(in crate::shard) fn home_forgot(&mut self) {
        let (part, up_to) = (&mut self.parts[self.home], self.up_to[self.home]);
        *part = Part { number: up_to, rest: Some(Rest { place: 0, after: Some(part.number) }) };
        self.tells_end = true;
    }

    /// All of an answer has come.
    pub(in crate::shard) fn answer_ends(&mut self) {
        let (part, up_to) = (&mut self.parts[self.home], self.up_to[self.home]);
        match &mut part.rest {
            rest @ Some(_) if self.all => *rest = None,
            Some(rest) => rest.place = u32::try_from(self.next).unwrap_or(u32::MAX),
            None => part.number = if self.all { up_to } else { self.next },
        }
    }
}

/// Returns the parts of a reader that is given what there is up to these numbers.
#[must_use]
pub(in crate::shard) fn all_of(heads: &[u64]) -> Vec<Part> {
    heads.iter().map(|number| Part { number: *number, rest: Some(Rest { place: 0, after: None }) }).collect()
}

/// Returns the parts of a reader that has everything up to these numbers.
#[must_use]
pub(in crate::shard) fn up_to(numbers: &[u64]) -> Vec<Part> {
    numbers.iter().map(|number| Part { number: *number, rest: None }).collect()
}

/// All patterns with readers of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Reads {
    reads: Slab<Read>,
    /// Readers that are given what they have not, by subscription.
    pub(in crate::shard) walks: BTreeMap<u32, Walk>,
    /// Walks that go on as soon as there is time, and room in a ring: subscriptions, and their serials.
    pub(in crate::shard) going: VecDeque<(u32, u32)>,
    /// Patterns that nobody reads any more, of which homes are to be told.
    pub(in crate::shard) leaving: VecDeque<u32>,
    /// What places are good for: this process.
    pub(in crate::shard) life: u32,
    shards: usize,
    listed_max: usize,
    held_bytes: u64,
}

impl Reads {
    /// Makes one without patterns, among so many shards, for one with so much memory.
    #[must_use]
    pub(in crate::shard) fn new(shards: usize, life: u32, memory_bytes: u64) -> Reads {
        let listed_max = memory_bytes / SHARE / size_of::<(u32, u64)>() as u64;
        Reads {
            reads: Slab::new(),
            walks: BTreeMap::new(),
            going: VecDeque::new(),
            leaving: VecDeque::new(),
            life,
            shards,
            listed_max: usize::try_from(listed_max).unwrap_or(usize::MAX),
            held_bytes: 0,
        }
    }

    /// Returns the bytes of memory that it holds, about.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        let walk = size_of::<Walk>() + self.shards * (size_of::<Part>() + size_of::<u64>());
        let queues = bytes_of(&self.going) + bytes_of(&self.leaving);
        self.reads.bytes() + self.held_bytes + (self.walks.len() * 2 * walk + queues) as u64
    }

    /// Returns how many there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.reads.len()
    }

    /// Adds a pattern; returns its number.
    pub(in crate::shard) fn make(&mut self) -> u32 {
        let read = Read::new(self.shards);
        self.held_bytes += read.bytes();
        u32::try_from(self.reads.insert(read)).expect("fewer patterns than 2^31")
    }

    /// Forgets a pattern that nobody reads.
    pub(in crate::shard) fn remove(&mut self, pattern: u32) {
        let read = self.reads.remove(pattern as usize);
        self.held_bytes -= read.bytes();
    }

    /// Returns a pattern.
    #[must_use]
    pub(in crate::shard) fn read(&self, pattern: u32) -> &Read {
        &self.reads[pattern as usize]
    }

    /// Returns a pattern, for changing what is not counted.
    pub(in crate::shard) fn read_mut(&mut self, pattern: u32) -> &mut Read {
        &mut self.reads[pattern as usize]
    }

    /// A reader waits until all homes have joined.
    pub(in crate::shard) fn wait(&mut self, pattern: u32, subscription: u32, serial: u32) {
        let read = &mut self.reads[pattern as usize];
        let before = read.bytes();
        read.waiting.push((subscription, serial));
        self.held_bytes = self.held_bytes + read.bytes() - before;
    }

    /// All homes have joined: those who wait go on.
    pub(in crate::shard) fn all_joined(&mut self, pattern: u32) {
        let read = &mut self.reads[pattern as usize];
        let before = read.bytes();
        self.going.extend(std::mem::take(&mut read.waiting));
        self.held_bytes = self.held_bytes + read.bytes() - before;
    }

    /// Notes that the next message in the logs of a pattern is the one with this number of a home.
    pub(in crate::shard) fn list(&mut self, pattern: u32, home: u32, number: u64) {
        let room = (self.listed_max / self.reads.len().max(1)).clamp(LISTED_MIN, LISTED_MAX);
        let read = &mut self.reads[pattern as usize];
        let before = read.listed.capacity();
        while read.listed.len() >= room {
            read.listed.pop_front();
            read.listed_from += 1;
        }
        read.listed.push_back((home, number));
        if read.listed.capacity() != before {
            self.held_bytes += ((read.listed.capacity() - before) * size_of::<(u32, u64)>()) as u64;
        }
    }

    /// Checks what can be seen of it alone.
    ///
    /// # Panics
    /// If something is wrong.
    pub(in crate::shard) fn check(&self) {
        let mut held = 0;
        for (_, read) in self.reads.iter() {
            held += read.bytes();
            let newest = read.listed.iter().rev().find(|(home, _)| *home == 0).map_or(0, |(_, number)| *number);
            assert!(newest <= read.heads[0] + 1, "what stands in a log has come");
        }
        assert_eq!(held, self.held_bytes, "what is held is counted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a reader is follows from what stands in the log behind it, whatever came from which home, and is unknown once that is too long.
    #[test]
    fn places_of_a_position() {
        let mut reads = Reads::new(3, 7, 1 << 30);
        let pattern = reads.make();
        reads.read_mut(pattern).heads = vec![16, 3, 5];
        for (home, number) in [(0, 17), (1, 4), (0, 19), (1, 8), (1, 9)] {
            reads.list(pattern, home, number);
            reads.read_mut(pattern).heads[home as usize] = number;
        }
        let at = |message| reads.read(pattern).numbers_at(message);
        assert_eq!(at(0), Some(vec![16, 3, 5]));
        assert_eq!(at(1), Some(vec![18, 3, 5]), "what lies between is not the pattern's");
        assert_eq!(at(3), Some(vec![19, 7, 5]));
        assert_eq!(at(5), Some(vec![19, 9, 5]));
        for number in 10..10 + LISTED_MAX as u64 {
            reads.list(pattern, 2, number);
            reads.read_mut(pattern).heads[2] = number;
        }
        assert_eq!(reads.read(pattern).numbers_at(4), None);
        assert_eq!(reads.read(pattern).numbers_at(5), Some(vec![19, 9, 9]));
        reads.check();
    }

    /// A walk asks each home for what is missing of it, in two steps where it is given what there is; what it has in between says how it
    /// goes on.
    #[test]
    fn walks_go_from_home_to_home() {
        let mut walk = Walk::new(Some(Begin::Latest), "");
        walk.parts = vec![
            Part { number: 5, rest: None },
            Part { number: 3, rest: Some(Rest { place: 7, after: None }) },
            Part { number: 9, rest: None },
        ];
        walk.begin_round(&[5, 4, 12]);
        assert!(walk.seek() && walk.home == 1);
        (walk.next, walk.all) = (40, false);
        walk.answer_ends();
        assert_eq!(walk.parts[1].rest, Some(Rest { place: 40, after: None }));
        walk.all = true;
        walk.answer_ends();
        assert!(walk.seek() && walk.home == 1, "what came after that is missing");
        walk.answer_ends();
        assert!(walk.seek() && walk.home == 2);
        walk.home_forgot();
        assert_eq!(walk.parts[2], Part { number: 12, rest: Some(Rest { place: 0, after: Some(9) }) });
        walk.answer_ends();
        assert!(!walk.seek());
        assert_eq!(walk.parts, up_to(&[5, 4, 12]));
    }
}
