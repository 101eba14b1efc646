//! An indexed table in chunks: things that come and go, each at a number that stays its own until it goes.
//!
//! Owns: the things. It grows by a chunk at a time and never moves what it holds, so that no insertion copies what millions before it
//! left; a page that was never used takes no memory. What comes is put into the first chunk with room, so that after a peak the last
//! chunks become empty, and go back to the kernel. One empty chunk is kept, or who comes and goes at the edge of one would fetch and
//! return it each time.
//!
//! The first chunk stands in the table itself: small tables, and what has been there for long, are found with one step less.
//!
//! Invariant: a chunk without things holds no memory, except one.

use std::ops::{Index, IndexMut};

const NONE: u32 = u32::MAX;

/// Bytes of a chunk, at most, and more than half of it: large enough for the allocator to map and unmap it by itself
/// (`io::memory::keep_large_pieces_apart`), small enough that what a little-used table wastes is nothing.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// Returns the power of two that is the number of things of so many bytes in a chunk.
pub(crate) const fn shift_for(bytes: usize) -> u32 {
    (CHUNK_BYTES / bytes).ilog2()
}

#[derive(Debug)]
enum Entry<T> {
    /// Free, with the next free place of the chunk.
    Vacant(u32),
    Occupied(T),
}

#[derive(Debug)]
struct Chunk<T> {
    /// Grows up to the size of a chunk, within memory that was reserved at once.
    entries: Vec<Entry<T>>,
    /// The first free place, or [`NONE`].
    free: u32,
    used: u32,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    first: Chunk<T>,
    /// All others.
    others: Vec<Chunk<T>>,
    rooms: Rooms,
    /// The chunk that is kept though it is empty, or [`NONE`].
    spare: u32,
    len: usize,
    /// Entries in chunks, vacant ones among them.
    entries: usize,
}

impl<T> Chunk<T> {
    const fn new() -> Chunk<T> {
        Chunk { entries: Vec::new(), free: NONE, used: 0 }
    }
}

impl<T> Slab<T> {
    const SHIFT: u32 = shift_for(size_of::<Entry<T>>());
    const MASK: usize = (1 << Slab::<T>::SHIFT) - 1;

    /// Makes an empty table, which holds no memory.
    #[must_use]
    pub(crate) const fn new() -> Slab<T> {
        Slab { first: Chunk::new(), others: Vec::new(), rooms: Rooms::new(), spare: NONE, len: 0, entries: 0 }
    }

    /// Returns how many things there are.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns a bound of the numbers of things.
    #[must_use]
    pub(crate) fn bound(&self) -> usize {
        let last = self.others.last().unwrap_or(&self.first);
        (self.others.len() << Slab::<T>::SHIFT) + last.entries.len()
    }

    /// Returns the bytes of memory that it holds: of things, and of places where there were some.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        (self.entries * size_of::<Entry<T>>() + self.others.capacity() * size_of::<Chunk<T>>()) as u64
    }

    /// Returns the bytes of what there is, without places where there was something: these are used before it grows.
    #[must_use]
    pub(crate) fn used_bytes(&self) -> u64 {
        (self.len * size_of::<Entry<T>>()) as u64
    }

    /// Puts a thing into it; returns its number.
    pub(crate) fn insert(&mut self, thing: T) -> usize {
        let at = self.rooms.first().min(self.others.len() + 1);
        let at = if at > self.others.len() { self.add_chunk() } else { at };
        let chunk = match at.checked_sub(1) {
            None => &mut self.first,
            Some(other) => &mut self.others[other],
        };
        let place = if chunk.free == NONE {
            if chunk.entries.capacity() == 0 {
                chunk.entries.reserve_exact(1 << Slab::<T>::SHIFT);
            }
            chunk.entries.push(Entry::Occupied(thing));
            self.entries += 1;
            chunk.entries.len() - 1
        } else {
            let place = chunk.free as usize;
            let Entry::Vacant(next) = chunk.entries[place] else { unreachable!("a free place is vacant") };
            chunk.free = next;
            chunk.entries[place] = Entry::Occupied(thing);
            place
        };
        chunk.used += 1;
        self.len += 1;
        if chunk.used == 1 && self.spare as usize == at {
            self.spare = NONE;
        }
        if chunk.used == 1 << Slab::<T>::SHIFT {
            self.rooms.clear(at);
        }
        at << Slab::<T>::SHIFT | place
    }

    /// Adds a chunk, the first one if it was not in use; returns its place.
    #[cold]
    fn add_chunk(&mut self) -> usize {
        let at = if self.first.entries.capacity() == 0 { 0 } else { self.others.len() + 1 };
        if at > 0 {
            self.others.push(Chunk::new());
        }
        self.rooms.set(at);
        at
    }

    /// Takes a thing out of it.
    ///
    /// # Panics
    /// If there is none with this number.
    pub(crate) fn remove(&mut self, number: usize) -> T {
        let (at, place) = (number >> Slab::<T>::SHIFT, number & Slab::<T>::MASK);
        let chunk = match at.checked_sub(1) {
            None => &mut self.first,
            Some(other) => &mut self.others[other],
        };
        let Entry::Occupied(thing) = std::mem::replace(&mut chunk.entries[place], Entry::Vacant(chunk.free)) else {
            panic!("there is nothing with number {number}")
        };
        chunk.free = place as u32;
        if chunk.used == 1 << Slab::<T>::SHIFT {
            self.rooms.set(at);
        }
        chunk.used -= 1;
        self.len -= 1;
        if chunk.used == 0 {
            self.emptied(at);
        }
        thing
    }

    /// Takes a thing out of it, if there is one with this number.
    pub(crate) fn try_remove(&mut self, number: usize) -> Option<T> {
        self.get(number).is_some().then(|| self.remove(number))
    }

    /// A chunk has become empty: the first one is kept.
    #[cold]
    fn emptied(&mut self, at: usize) {
        let at = at as u32;
        let kept = self.spare.min(at);
        let other = std::mem::replace(&mut self.spare, kept);
        if other == NONE {
            return;
        }
        // Of two, the later one goes, which is not the first.
        let chunk = &mut self.others[other.max(at) as usize - 1];
        self.entries -= chunk.entries.len();
        *chunk = Chunk::new();
        while self.others.last().is_some_and(|chunk| chunk.entries.capacity() == 0) {
            self.rooms.clear(self.others.len());
            self.others.pop();
        }
    }

    /// Returns a thing, if there is one with this number.
    #[must_use]
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        let entry = match number >> Slab::<T>::SHIFT {
            0 => self.first.entries.get(number),
            at => self.others.get(at - 1)?.entries.get(number & Slab::<T>::MASK),
        };
        match entry? {
            Entry::Occupied(thing) => Some(thing),
            Entry::Vacant(_) => None,
        }
    }

    /// Returns a thing, for changing, if there is one with this number.
    #[must_use]
    #[inline]
    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        let entry = match number >> Slab::<T>::SHIFT {
            0 => self.first.entries.get_mut(number),
            at => self.others.get_mut(at - 1)?.entries.get_mut(number & Slab::<T>::MASK),
        };
        match entry? {
            Entry::Occupied(thing) => Some(thing),
            Entry::Vacant(_) => None,
        }
    }

    /// Returns all things with their numbers, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        std::iter::once(&self.first).chain(&self.others).enumerate().flat_map(|(at, chunk)| {
            chunk.entries.iter().enumerate().filter_map(move |(place, entry)| match entry {
                Entry::Occupied(thing) => Some((at << Slab::<T>::SHIFT | place, thing)),
                Entry::Vacant(_) => None,
            })
        })
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: usize) -> &T {
        self.get(number).expect("there is something with this number")
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut T {
        self.get_mut(number).expect("there is something with this number")
    }
}

/// Which chunks of a table have room.
#[derive(Debug)]
pub(crate) struct Rooms {
    /// A bit for each chunk that has room.
    bits: Vec<u64>,
    /// The first one.
    first: usize,
}

impl Rooms {
    /// Knows of no chunk yet.
    pub(crate) const fn new() -> Rooms {
        Rooms { bits: Vec::new(), first: usize::MAX }
    }

    /// Returns the first chunk with room, or a number that is larger than any.
    #[inline]
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// A chunk has room.
    pub(crate) fn set(&mut self, at: usize) {
        if self.bits.len() <= at / 64 {
            self.bits.resize(at / 64 + 1, 0);
        }
        self.bits[at / 64] |= 1 << (at % 64);
        self.first = self.first.min(at);
    }

    /// A chunk has none, or is the last one and goes.
    pub(crate) fn clear(&mut self, at: usize) {
        let Some(word) = self.bits.get_mut(at / 64) else { return };
        *word &= !(1 << (at % 64));
        if at == self.first {
            let words = self.bits.iter().enumerate().skip(at / 64);
            let found = words.map(|(n, word)| (n, word.trailing_zeros() as usize)).find(|(_, bit)| *bit < 64);
            self.first = found.map_or(usize::MAX, |(n, bit)| n * 64 + bit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It answers like a plain map, whatever comes and goes; numbers of what is there are never given again, and when most has
    /// gone, so has most of the memory.
    #[test]
    fn like_a_map() {
        // Large, so that chunks are short.
        type Thing = [u64; 512];
        let mut slab: Slab<Thing> = Slab::new();
        let mut map = std::collections::BTreeMap::new();
        let mut seed = 3u64;
        let mut bytes_max = 0;
        for n in 0..20_000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as usize;
            // More and more for half of the time, then fewer and fewer.
            let grows = dice % 8 < if n < 10_000 { 5 } else { 2 };
            if grows {
                let number = slab.insert([n; 512]);
                assert!(map.insert(number, n).is_none(), "a number is one thing's");
            } else if let Some((number, value)) = map.range(dice % slab.bound().max(1)..).next() {
                let (number, value) = (*number, *value);
                map.remove(&number);
                assert_eq!(slab.remove(number)[511], value);
                assert!(slab.get(number).is_none());
            }
            assert_eq!(slab.len(), map.len());
            if n.is_multiple_of(64) {
                assert!(slab.iter().map(|(number, thing)| (number, thing[0])).eq(map.iter().map(|(n, v)| (*n, *v))));
                assert!(map.keys().all(|number| *number < slab.bound()));
                let held =
                    std::iter::once(&slab.first).chain(&slab.others).filter(|chunk| chunk.entries.capacity() > 0);
                let empty = held.clone().filter(|chunk| chunk.used == 0).count();
                assert_eq!((empty, slab.spare == NONE), (usize::from(empty == 1), empty == 0), "one at most is kept");
                let entries: usize = held.map(|chunk| chunk.entries.len()).sum();
                assert_eq!(slab.entries, entries);
            }
            bytes_max = bytes_max.max(slab.bytes());
        }
        assert!(bytes_max > 20 * CHUNK_BYTES as u64, "it was never large: the test is too tame");
        while let Some((number, _)) = map.pop_last() {
            slab.remove(number);
        }
        let kept = (2 * CHUNK_BYTES + slab.others.capacity() * size_of::<Chunk<Thing>>()) as u64;
        assert!((slab.len(), slab.iter().count()) == (0, 0) && slab.bytes() < kept, "{} bytes are left", slab.bytes());
    }

    /// What comes takes the first place there is: the last chunks become empty while things come and go.
    #[test]
    fn the_first_place_is_taken() {
        let mut slab: Slab<[u64; 512]> = Slab::new();
        let numbers: Vec<usize> = (0..1_000).map(|n| slab.insert([n; 512])).collect();
        for number in numbers.iter().step_by(2) {
            slab.remove(*number);
        }
        let before = slab.bytes();
        for number in numbers.iter().skip(1).step_by(2).rev() {
            slab.remove(*number);
            assert!(slab.insert([0; 512]) <= *number);
        }
        assert!(slab.bytes() < before / 2 + 2 * CHUNK_BYTES as u64, "{} of {before} bytes", slab.bytes());
    }

    /// Who comes and goes alone, at the edge of a chunk, moves no memory.
    #[test]
    fn no_memory_moves_at_the_edge() {
        let mut slab: Slab<[u64; 512]> = Slab::new();
        let full = 1 << Slab::<[u64; 512]>::SHIFT;
        (0..full).for_each(|n| _ = slab.insert([n; 512]));
        let number = slab.insert([0; 512]);
        let bytes = slab.bytes();
        for _ in 0..10 {
            slab.remove(number);
            assert_eq!(slab.bytes(), bytes);
            assert_eq!(slab.insert([0; 512]), number);
        }
    }

    /// A number without a thing stops the shard.
    #[test]
    #[should_panic(expected = "there is nothing")]
    fn removing_twice_is_a_bug() {
        let mut slab = Slab::new();
        let number = slab.insert(1u32);
        slab.insert(2);
        slab.remove(number);
        slab.remove(number);
    }
}
