//! Questions that are open, and who waits for their verdicts.
//!
//! ```text
//!   line       those for whose question there is no room in the ring, first come, first served
//!   open       a question each; all who show the same wait for the same verdict
//!   deadlines  of all who wait, in the order in which they end
//! ```
//!
//! Owns: numbers of questions (the word that comes back with a verdict), and whom to tell. Never: a credential. Who waits in line shows
//! it again when there is room: its request is still there.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::io::driver::Slot;
use crate::shard::memory::slab::Slab;
use crate::shard::scratch::bytes_of;

/// A connection, in one life of its slot.
pub(in crate::shard) type Waiter = (Slot, u16);

/// A question that has no verdict yet.
#[derive(Debug)]
pub(in crate::shard) struct Open {
    /// What it is about.
    pub(in crate::shard) key: u128,
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
    /// Who waits for room to ask, and until when.
    pub(in crate::shard) line: VecDeque<(Waiter, u32)>,
    /// Whose wait ends when, in milliseconds.
    deadlines: VecDeque<(u64, Waiter)>,
}

impl Asking {
    /// Makes one without questions.
    #[must_use]
    pub(in crate::shard) fn new() -> Asking {
        let (line, deadlines) = (VecDeque::new(), VecDeque::new());
        Asking { open: Slab::new(), by_key: HashTable::new(), line, deadlines }
    }

    /// Finds those who wait for the verdict to a question, if it is open.
    #[must_use]
    pub(in crate::shard) fn waiters(&mut self, key: u128) -> Option<&mut Vec<Waiter>> {
        let open = &self.open;
        let place = *self.by_key.find(key as u64, |place| open[*place as usize].key == key)?;
        Some(&mut self.open[place as usize].waiters)
    }

    /// Opens a question for somebody who waits; returns its word.
    pub(in crate::shard) fn open(&mut self, key: u128, waiter: Waiter) -> u64 {
        let place = self.open.insert(Open { key, waiters: vec![waiter], stale: false });
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

    /// Returns the bytes of memory that it holds.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> usize {
        let waiters: usize = self.open.iter().map(|(_, open)| open.waiters.capacity() * size_of::<Waiter>()).sum();
        let tables = self.open.bytes() as usize + self.by_key.allocation_size();
        tables + waiters + bytes_of(&self.line) + bytes_of(&self.deadlines)
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
        let word = asking.open(7, (1, 0));
        let other = asking.open(8, (3, 0));
        asking.waiters(7).unwrap().push((2, 5));
        assert!(word != other);
        asking.grow_stale();
        assert!(asking.waiters(7).is_none());
        let again = asking.open(7, (4, 0));
        let closed = asking.close(word);
        assert!(closed.stale && closed.waiters == [(1, 0), (2, 5)] && closed.key == 7);
        asking.waiters(7).expect("the newer question is still open").push((5, 0));
        let closed = asking.close(again);
        assert!(!closed.stale && closed.waiters == [(4, 0), (5, 0)]);
        assert!(asking.waiters(7).is_none() && asking.close(other).stale);
    }
}
