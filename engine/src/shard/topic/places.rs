//! Where things stand, by hash.
//!
//! Owns: hashes and places. Never: the things; whoever owns them says which one is meant. Hashes are kept beside the places, so
//! that a table that grows touches nothing but itself: fetching 200,000 topics for their hashes made turns of 16 ms. There are many
//! small tables instead of a large one: each grows and shrinks by itself, so that none of a million entries moves all of them.

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

/// Tables, chosen by bits of the hash that a table does not look at: it takes the place from the lowest ones, as many as it has
/// entries, and what it compares first from the seven highest.
const TABLES: usize = 64;
const TABLE_BIT: u32 = 19;

/// A table with so much room for each of its entries gives most of it back.
const ROOM_MAX: usize = 8;

/// What an entry takes in a table, about, with the room that it has.
pub(in crate::shard) const ENTRY_BYTES: usize = 16;

/// Smaller tables are left as they are.
const CAPACITY_MIN: usize = 64;

/// Places by hash.
#[derive(Debug)]
pub(in crate::shard) struct Places {
    tables: Box<[HashTable<Entry>; TABLES]>,
    len: usize,
    bytes: u64,
}

impl Default for Places {
    fn default() -> Places {
        Places { tables: Box::new([const { HashTable::new() }; TABLES]), len: 0, bytes: 0 }
    }
}

/// Returns the table of a hash.
const fn table_of(hash: u32) -> usize {
    (hash >> TABLE_BIT) as usize % TABLES
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
        self.len
    }

    /// Returns the bytes of memory that the tables hold.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Finds the place with this hash that is the one.
    #[must_use]
    pub(in crate::shard) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let table = &self.tables[table_of(hash)];
        table.find(Entry::spread(hash), |entry| entry.hash == hash && is(entry.place)).map(|entry| entry.place)
    }

    /// Adds a place that is not there yet.
    pub(in crate::shard) fn insert(&mut self, hash: u32, place: u32) {
        let table = &mut self.tables[table_of(hash)];
        self.bytes -= table.allocation_size() as u64;
        table.insert_unique(Entry::spread(hash), Entry { hash, place }, |entry| Entry::spread(entry.hash));
        self.bytes += table.allocation_size() as u64;
        self.len += 1;
    }

    /// Takes a place out, if it is there. What a storm made the table grow to is not kept when it is over.
    pub(in crate::shard) fn remove(&mut self, hash: u32, place: u32) {
        let table = &mut self.tables[table_of(hash)];
        let Ok(entry) = table.find_entry(Entry::spread(hash), |entry| entry.place == place) else { return };
        entry.remove();
        self.len -= 1;
        let capacity = table.capacity();
        if self.len == 0 || capacity > CAPACITY_MIN && table.len() < capacity / ROOM_MAX {
            self.bytes -= table.allocation_size() as u64;
            table.shrink_to(table.len() * 2, |entry| Entry::spread(entry.hash));
            self.bytes += table.allocation_size() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let full = places.bytes();
        for place in (0..10_000).step_by(2) {
            places.remove(hash_of(place), place);
            places.remove(hash_of(place), place);
        }
        assert_eq!(places.len(), 5_000);
        for place in 0..10_000 {
            assert_eq!(places.find(hash_of(place), |_| true), Some(place | 1));
        }
        (1..10_000).step_by(2).for_each(|place| places.remove(hash_of(place), place));
        assert_eq!(places.len(), 0);
        assert!(full > 80_000 && places.bytes() < full / 4, "{} of {full} bytes", places.bytes());
        let held: usize = places.tables.iter().map(HashTable::allocation_size).sum();
        assert_eq!(places.bytes(), held as u64);
    }

    /// Entries are spread evenly, and what a table compares first is not what chose it.
    #[test]
    fn tables_are_even() {
        let mut lens = [0; TABLES];
        let mut tags: [BTreeSet<u32>; TABLES] = std::array::from_fn(|_| BTreeSet::new());
        for n in 0..64_000u64 {
            let hash = half(n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            lens[table_of(hash)] += 1;
            tags[table_of(hash)].insert(hash >> 25);
        }
        assert!(lens.iter().all(|len| (500..1_500).contains(len)), "{lens:?}");
        assert!(tags.iter().all(|tags| tags.len() > 100));
    }
}
