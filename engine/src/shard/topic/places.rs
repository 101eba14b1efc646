//! Where things stand, by hash.
//!
//! Owns: hashes and places. Never: the things; whoever owns them says which one is meant. Hashes are kept beside the places, so
//! that a table that grows touches nothing but itself: fetching 200,000 topics for their hashes made turns of 16 ms.

use hashbrown::HashTable;

/// A hash, and a place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    place: u32,
}

impl Entry {
    /// Spreads the hash over the bits that the table looks at.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

/// Places by hash.
#[derive(Debug, Default)]
pub(in crate::shard) struct Places {
    table: HashTable<Entry>,
}

/// Returns half of a hash, made of all of it: the bits that chose the home are the same for all of a home's topics.
#[must_use]
pub(in crate::shard) fn half(hash: u64) -> u32 {
    hash as u32 ^ (hash >> 32) as u32
}

impl Places {
    /// Returns how many there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.table.len()
    }

    /// Finds the place with this hash that is the one.
    #[must_use]
    pub(in crate::shard) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.table.find(Entry::spread(hash), |entry| entry.hash == hash && is(entry.place)).map(|entry| entry.place)
    }

    /// Adds a place that is not there yet.
    pub(in crate::shard) fn insert(&mut self, hash: u32, place: u32) {
        self.table.insert_unique(Entry::spread(hash), Entry { hash, place }, |entry| Entry::spread(entry.hash));
    }

    /// Takes a place out, if it is there. What a storm made the table grow to is not kept when it is over.
    pub(in crate::shard) fn remove(&mut self, hash: u32, place: u32) {
        if let Ok(entry) = self.table.find_entry(Entry::spread(hash), |entry| entry.place == place) {
            entry.remove();
            if self.table.is_empty() {
                self.table = HashTable::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was put in is found, by its hash and by what it is, until it is taken out; however often the table grew.
    #[test]
    fn found_until_removed() {
        let hash_of = |place: u32| half(u64::from(place / 2).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut places = Places::default();
        for place in 0..10_000 {
            places.insert(hash_of(place), place);
        }
        // Two have each hash.
        for place in 0..10_000 {
            assert_eq!(places.find(hash_of(place), |other| other == place), Some(place));
            assert_eq!(places.find(hash_of(place), |_| false), None);
        }
        for place in (0..10_000).step_by(2) {
            places.remove(hash_of(place), place);
            places.remove(hash_of(place), place);
        }
        assert_eq!(places.len(), 5_000);
        for place in 0..10_000 {
            assert_eq!(places.find(hash_of(place), |_| true), Some(place | 1));
        }
        (1..10_000).step_by(2).for_each(|place| places.remove(hash_of(place), place));
        assert_eq!((places.len(), places.table.capacity()), (0, 0));
    }
}
