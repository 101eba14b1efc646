//! Questions that are open, and who waits for their verdicts.
//!
//! ```text
//!   lines      those for whose question there is no room, first come, first served
//!   open       a question each; all who show the same wait for the same verdict
//!   deadlines  of all who wait, in the order in which they end
//! ```
//!
//! Owns: numbers of questions (the word that comes back with a verdict), and whom to tell. Never: a credential. Who waits in line shows
//! it again when there is room: its request is still there.
//!
//! Questions about topics have half of the room, and a line of their own: whoever comes is not kept waiting by a hook that is slow about
//! those who are here.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::io::driver::Slot;
use crate::mesh::questions::OWED_MAX;
use crate::shard::memory::slab::Slab;
use crate::shard::scratch::bytes_of;

/// A connection, in one life of its slot.
pub(in crate::shard) type Waiter = (Slot, u16);

/// Questions about topics that have no verdict yet, at most.
const TOPICS_MAX: usize = OWED_MAX / 2;

/// Of these, those that nobody waits for yet.
const AHEAD_MAX: usize = TOPICS_MAX / 2;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum About {
    /// Who somebody is, and what that gives.
    Who,
    /// Whether somebody may do something with a topic.
    Topic,
}

impl About {
    pub(in crate::shard) const ALL: [About; 2] = [About::Who, About::Topic];
}

/// A question that has no verdict yet.
#[derive(Debug)]
pub(in crate::shard) struct Open {
    /// What it is about.
    pub(in crate::shard) key: u128,
    /// Of which kind it is.
    pub(in crate::shard) about: About,
    /// When it was asked, on the driver's clock in microseconds.
    pub(in crate::shard) asked_us: u64,
    /// Who waits for it.
    pub(in crate::shard) waiters: Vec<Waiter>,
    /// Something was revoked since it was asked: a grant that comes back may be older than that, and is not believed.
    pub(in crate::shard) stale: bool,
}

/// All of them.
#[derive(Debug)]
pub(in crate::shard) struct Asking {
    open: Slab<Open>,
    by_key: HashTable<u32>,
    /// Those of them that are about topics.
    topics: usize,
    /// Who waits for room to ask, and until when, by what about.
    lines: [VecDeque<(Waiter, u32)>; 2],
    /// Whose wait ends when, in milliseconds.
    deadlines: VecDeque<(u64, Waiter)>,
}

impl Asking {
    /// Makes one without questions.
    #[must_use]
    pub(in crate::shard) fn new() -> Asking {
        let (lines, deadlines) = ([VecDeque::new(), VecDeque::new()], VecDeque::new());
        Asking { open: Slab::new(), by_key: HashTable::new(), topics: 0, lines, deadlines }
    }

    /// Returns the line of those who wait for room to ask.
    pub(in crate::shard) fn line(&mut self, about: About) -> &mut VecDeque<(Waiter, u32)> {
        &mut self.lines[about as usize]
    }

    /// Says whether questions of a kind have their share of the room left.
    #[must_use]
    pub(in crate::shard) fn has_share(&self, about: About) -> bool {
        about == About::Who || self.topics < TOPICS_MAX
    }

    /// Says whether somebody may ask what he will want to know, without anybody who waits being behind him.
    #[must_use]
    pub(in crate::shard) fn has_share_ahead(&self) -> bool {
        self.topics < AHEAD_MAX && self.lines[About::Topic as usize].is_empty()
    }

    /// Finds those who wait for the verdict to a question, if it is open.
    #[must_use]
    pub(in crate::shard) fn waiters(&mut self, key: u128) -> Option<&mut Vec<Waiter>> {
        let open = &self.open;
        let place = *self.by_key.find(key as u64, |place| open[*place as usize].key == key)?;
        Some(&mut self.open[place as usize].waiters)
    }

    /// Opens a question, for somebody if he waits for it; returns its word.
    pub(in crate::shard) fn open(&mut self, key: u128, about: About, waiter: Option<Waiter>, now_us: u64) -> u64 {
        self.topics += usize::from(about == About::Topic);
        let place = self.open.insert(Open {
            key,
            about,
            asked_us: now_us,
            waiters: waiter.into_iter().collect(),
            stale: false,
        });
        let place = u32::try_from(place).expect("fewer than 2^32");
        let open = &self.open;
        self.by_key.insert_unique(key as u64, place, |place| open[*place as usize].key as u64);
        place.into()
    }

    /// The verdict to a question has come: it is open no more.
    ///
    /// # Panics
    /// If there is no such question.
    pub(in crate::shard) fn close(&mut self, word: u64) -> Open {
        let closed = self.open.remove(word as usize);
        self.topics -= usize::from(closed.about == About::Topic);
        if let Ok(entry) = self.by_key.find_entry(closed.key as u64, |place| u64::from(*place) == word) {
            entry.remove();
        }
        closed
    }

    /// Something was revoked: grants that are on their way may be older than that. Whoever shows the same from now on asks anew.
    pub(in crate::shard) fn grow_stale(&mut self) {
        for place in 0..self.open.bound() {
            if let Some(open) = self.open.get_mut(place) {
                open.stale = true;
            }
        }
        self.by_key.clear();
    }

    /// Notes when somebody's wait ends: no earlier than those that were noted before.
    pub(in crate::shard) fn expect_by(&mut self, due_ms: u64, waiter: Waiter) {
        self.deadlines.push_back((due_ms, waiter));
    }

    /// Returns the next deadline, and whose it is.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn next_deadline(&self) -> Option<(u64, Waiter)> {
        self.deadlines.front().copied()
    }

    /// Forgets the next deadline.
    pub(in crate::shard) fn pass_deadline(&mut self) {
        self.deadlines.pop_front();
    }

    /// Says whether it is known that somebody's wait ends then, for checks.
    #[must_use]
    pub(in crate::shard) fn has_deadline(&self, waiter: Waiter, due: u32) -> bool {
        self.deadlines.iter().any(|(due_ms, other)| *other == waiter && *due_ms as u32 == due)
    }

    /// Returns how many questions have no verdict yet.
    #[must_use]
    pub(in crate::shard) fn questions(&self) -> usize {
        self.open.len()
    }

    /// Returns how many wait for room to ask.
    #[must_use]
    pub(in crate::shard) fn in_line(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    /// Returns the bytes of memory that it holds.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> usize {
        let waiters: usize = self.open.iter().map(|(_, open)| open.waiters.capacity() * size_of::<Waiter>()).sum();
        let tables = self.open.bytes() as usize + self.by_key.allocation_size();
        let lines: usize = self.lines.iter().map(bytes_of).sum();
        tables + waiters + lines + bytes_of(&self.deadlines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who shows the same waits for the same verdict; once something was revoked, the next one asks anew.
    #[test]
    fn the_same_is_asked_once() {
        let mut asking = Asking::new();
        assert!(asking.waiters(7).is_none());
        let word = asking.open(7, About::Who, Some((1, 0)), 0);
        let other = asking.open(8, About::Who, Some((3, 0)), 0);
        asking.waiters(7).unwrap().push((2, 5));
        assert!(word != other);
        asking.grow_stale();
        assert!(asking.waiters(7).is_none());
        let again = asking.open(7, About::Who, Some((4, 0)), 0);
        let closed = asking.close(word);
        assert!(closed.stale && closed.waiters == [(1, 0), (2, 5)] && closed.key == 7);
        asking.waiters(7).expect("the newer question is still open").push((5, 0));
        let closed = asking.close(again);
        assert!(!closed.stale && closed.waiters == [(4, 0), (5, 0)]);
        assert!(asking.waiters(7).is_none() && asking.close(other).stale);
    }

    /// Questions about topics have their share, and those that nobody waits for a part of it; others always find room.
    #[test]
    fn topics_have_a_share() {
        let mut asking = Asking::new();
        let mut words = Vec::new();
        while asking.has_share_ahead() {
            words.push(asking.open(words.len() as u128, About::Topic, None, 0));
        }
        assert_eq!(words.len(), AHEAD_MAX);
        while asking.has_share(About::Topic) {
            words.push(asking.open(words.len() as u128, About::Topic, Some((1, 0)), 0));
        }
        assert!(words.len() == TOPICS_MAX && TOPICS_MAX < OWED_MAX && asking.has_share(About::Who));
        let other = asking.open(u128::MAX, About::Who, Some((2, 0)), 0);
        assert_eq!(asking.close(other).about, About::Who);
        assert!(!asking.has_share(About::Topic));
        assert!(asking.close(words[0]).waiters.is_empty() && asking.has_share(About::Topic));
        words[1..].iter().for_each(|word| drop(asking.close(*word)));
        asking.line(About::Topic).push_back(((1, 0), 5));
        assert!(!asking.has_share_ahead() && asking.line(About::Who).is_empty());
    }
}
