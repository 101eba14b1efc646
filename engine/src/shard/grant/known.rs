//! Verdicts that are known: what became of a credential that somebody has shown lately, or of a question about a topic.
//!
//! The key is a keyed hash of 128 bits of what was shown; the credential itself is never kept. The key of that hash is drawn anew by
//! every shard and known to nobody else, so what comparing two hashes takes says nothing of any credential: nobody can choose one
//! whose hash begins like another's, and to find one takes 2^64 credentials, shown to this shard. (So they need not be compared in
//! constant time, as secrets must.)
//!
//! Owns: verdicts, in the order in which they were looked for last. Never: uses a grant; whoever puts one in and takes one out counts it.

use hashbrown::HashTable;

use crate::grant::Denial;
use crate::shard::memory::slab::Slab;

const NONE: u32 = u32::MAX;

/// What is known of a credential, or of whether somebody may do something with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Known {
    /// It gives this grant.
    Grant(u32),
    /// It gives nothing; or he may not.
    Denied(Denial),
    /// To a question about a topic: he may.
    Yes,
}

#[derive(Debug)]
struct Entry {
    key: u128,
    known: Known,
    until_ms: u64,
    newer: u32,
    older: u32,
}

/// The verdicts.
#[derive(Debug)]
pub(in crate::shard) struct Verdicts {
    slab: Slab<Entry>,
    table: HashTable<u32>,
    newest: u32,
    oldest: u32,
}

impl Verdicts {
    /// Makes a table that knows nothing.
    #[must_use]
    pub(in crate::shard) fn new() -> Verdicts {
        Verdicts { slab: Slab::new(), table: HashTable::new(), newest: NONE, oldest: NONE }
    }

    /// Returns how many there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the bytes of memory that they hold.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.slab.bytes() + self.table.allocation_size() as u64
    }

    /// Finds what is known, whether or not it still holds, and when it ends; it is the newest from now on.
    pub(in crate::shard) fn find(&mut self, key: u128) -> Option<(Known, u64)> {
        let slab = &self.slab;
        let place = *self.table.find(key as u64, |place| slab[*place as usize].key == key)?;
        if place != self.newest {
            self.unlink(place);
            self.link(place);
        }
        let entry = &self.slab[place as usize];
        Some((entry.known, entry.until_ms))
    }

    /// Notes a verdict that was not known; it ends at a time.
    pub(in crate::shard) fn put(&mut self, key: u128, known: Known, until_ms: u64) {
        let entry = Entry { key, known, until_ms, newer: NONE, older: NONE };
        let place = u32::try_from(self.slab.insert(entry)).expect("fewer than 2^32");
        let slab = &self.slab;
        self.table.insert_unique(key as u64, place, |place| slab[*place as usize].key as u64);
        self.link(place);
    }

    /// Forgets a verdict; returns what it was.
    pub(in crate::shard) fn forget(&mut self, key: u128) -> Option<Known> {
        let slab = &self.slab;
        let entry = self.table.find_entry(key as u64, |place| slab[*place as usize].key == key).ok()?;
        let (place, _) = entry.remove();
        self.unlink(place);
        Some(self.slab.remove(place as usize).known)
    }

    /// Forgets the verdict that was looked for longest ago; returns what it was.
    pub(in crate::shard) fn forget_oldest(&mut self) -> Option<Known> {
        let key = self.slab.get(self.oldest as usize)?.key;
        self.forget(key)
    }

    /// Returns the numbers of the grants that they use, each as often as one does.
    pub(in crate::shard) fn grants(&self) -> impl Iterator<Item = u32> {
        self.slab.iter().filter_map(|(_, entry)| match entry.known {
            Known::Grant(number) => Some(number),
            Known::Denied(_) | Known::Yes => None,
        })
    }

    fn link(&mut self, place: u32) {
        let newest = std::mem::replace(&mut self.newest, place);
        let entry = &mut self.slab[place as usize];
        (entry.newer, entry.older) = (NONE, newest);
        match self.slab.get_mut(newest as usize) {
            Some(entry) => entry.newer = place,
            None => self.oldest = place,
        }
    }

    fn unlink(&mut self, place: u32) {
        let Entry { newer, older, .. } = self.slab[place as usize];
        match self.slab.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.slab.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one that was looked for longest ago goes first, whatever was put, found and forgotten before.
    #[test]
    fn like_a_list() {
        let mut verdicts = Verdicts::new();
        let mut list: Vec<u128> = Vec::new();
        let mut seed = 5_u64;
        for round in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = u128::from(seed >> 33) % 40;
            let place = list.iter().position(|other| *other == key);
            match (seed >> 60, place) {
                (0..6, Some(at)) => {
                    assert_eq!(verdicts.find(key), Some((Known::Grant(key as u32), key as u64)), "{round}");
                    let key = list.remove(at);
                    list.push(key);
                }
                (0..10, None) => {
                    assert_eq!(verdicts.find(key), None);
                    verdicts.put(key, Known::Grant(key as u32), key as u64);
                    list.push(key);
                }
                (10..13, _) => {
                    assert_eq!(verdicts.forget(key).is_some(), place.is_some());
                    place.map(|at| list.remove(at));
                }
                (13.., _) => {
                    let oldest = if list.is_empty() { None } else { Some(Known::Grant(list.remove(0) as u32)) };
                    assert_eq!(verdicts.forget_oldest(), oldest);
                }
                _ => {}
            }
            assert_eq!((verdicts.len(), verdicts.grants().count()), (list.len(), list.len()));
        }
    }
}
