//! A chain: an append-only run of numbered records in pooled blocks. Frame logs and histories are chains.
//!
//! ```text
//!   oldest block                 newest block
//!   ┌──────┬──────┬───┄┄┬─┬─┐   ┌──────┬──────────┬───┄┄┄┄┬─┬─┐
//!   │ r 17 │ r 18 │     │ │ │──▶│ r 19 │   r 20   │       │ │ │    records grow up, marks (where each record
//!   └──────┴──────┴───┄┄┴─┴─┘   └──────┴──────────┴───┄┄┄┄┴─┴─┘    ends, 4 bytes) grow down from the block's end
//! ```
//!
//! Records within a block lie back to back, so that any run of them is one slice. An empty chain holds no memory.
//! Invariants: the chain holds the numbers `first..next`, each in exactly one block; blocks hold at least one record.

use slab::Slab;

use crate::io::driver::PARTS_MAX;
use crate::io::memory::{Memory, Span};
use crate::shard::memory::pool::{Block, Owner, Pool};

const NONE: u32 = u32::MAX;
const MARK_BYTES: u32 = 4;

/// A block of a chain.
#[derive(Debug)]
struct Link {
    block: Block,
    first: u64,
    count: u32,
    used: u32,
    next: u32,
}

/// Memory for all chains of a shard.
#[derive(Debug)]
pub(in crate::shard) struct Store {
    /// The blocks.
    pub(in crate::shard) pool: Pool,
    links: Slab<Link>,
}

impl Store {
    /// Makes the store over a memory with so many bytes.
    #[must_use]
    pub(in crate::shard) fn new(memory_bytes: u64) -> Store {
        Store { pool: Pool::new(memory_bytes), links: Slab::new() }
    }
}

/// A run of records.
#[derive(Debug)]
pub(in crate::shard) struct Chain {
    owner: Owner,
    oldest: u32,
    newest: u32,
    /// Number of the oldest record held.
    first: u64,
    /// Number that the next record will get.
    next: u64,
    /// Bytes of blocks held.
    bytes: u32,
}

/// Where a run of records lies, and the number after its last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Run {
    /// The bytes, contiguous.
    pub(in crate::shard) span: Span,
    /// Number of the record after the run.
    pub(in crate::shard) next: u64,
}

/// Where several runs lie that follow each other, and the number after the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Runs {
    parts: [Span; PARTS_MAX],
    count: usize,
    /// Bytes of all of them.
    pub(in crate::shard) bytes: u32,
    /// Number of the record after them.
    pub(in crate::shard) next: u64,
}

impl Runs {
    /// Returns them, one at least.
    pub(in crate::shard) fn parts(&self) -> &[Span] {
        &self.parts[..self.count]
    }
}

impl Chain {
    /// Makes an empty chain whose first record will be numbered `next`.
    #[must_use]
    pub(in crate::shard) fn new(owner: Owner, next: u64) -> Chain {
        Chain { owner, oldest: NONE, newest: NONE, first: next, next, bytes: 0 }
    }

    /// Returns the number of the oldest record held (equal to `next` if none is).
    #[must_use]
    pub(in crate::shard) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number that the next record gets.
    #[must_use]
    pub(in crate::shard) fn next(&self) -> u64 {
        self.next
    }

    /// Returns the bytes of the blocks held.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Returns the bytes of the records from `seq` on, or of all that are held if some from there are gone.
    #[must_use]
    pub(in crate::shard) fn bytes_from(&self, store: &Store, memory: &Memory, seq: u64) -> u64 {
        if seq >= self.next {
            return 0;
        }
        let seq = seq.max(self.first);
        let link = self.find(store, seq);
        let mut bytes = u64::from(link.used - start_of(link, memory, seq));
        let mut later = link.next;
        while let Some(link) = store.links.get(later as usize) {
            bytes += u64::from(link.used);
            later = link.next;
        }
        bytes
    }

    /// Returns the bytes of all records in the blocks held, forgotten ones among them.
    #[must_use]
    pub(in crate::shard) fn bytes_used(&self, store: &Store) -> u64 {
        let mut bytes = 0;
        let mut at = self.oldest;
        while let Some(link) = store.links.get(at as usize) {
            bytes += u64::from(link.used);
            at = link.next;
        }
        bytes
    }

    /// Says whether no record is held.
    #[must_use]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Says whether there is room for a record of `len` bytes, or would be if histories gave theirs back.
    #[must_use]
    pub(in crate::shard) fn could_append(&self, store: &mut Store, len: u32) -> bool {
        self.fits(store, len) || len.checked_add(MARK_BYTES).is_some_and(|bytes| store.pool.could_take(bytes))
    }

    /// Says whether the newest block has room for a record of `len` bytes.
    fn fits(&self, store: &Store, len: u32) -> bool {
        store.links.get(self.newest as usize).is_some_and(|newest| {
            let marks_bytes = (newest.count + 1) * MARK_BYTES;
            len.checked_add(newest.used + marks_bytes).is_some_and(|bytes| bytes <= newest.block.bytes())
        })
    }

    /// Makes room for the next record, `len` bytes, and returns where to write it; `None` if there is no memory.
    ///
    /// A new block is at least `block_bytes` long, so that records appended in a row share it.
    pub(in crate::shard) fn append(
        &mut self,
        store: &mut Store,
        memory: &mut Memory,
        len: u32,
        block_bytes: u32,
    ) -> Option<Span> {
        if !self.fits(store, len) {
            let wanted = len.checked_add(MARK_BYTES)?;
            let block = store.pool.take(self.owner, wanted.max(block_bytes)).or_else(|| {
                // A smaller block than hoped for is better than none.
                store.pool.take(self.owner, wanted)
            })?;
            self.bytes += block.bytes();
            let link = Link { block, first: self.next, count: 0, used: 0, next: NONE };
            let index = u32::try_from(store.links.insert(link)).expect("fewer blocks than 2^32");
            if self.newest == NONE {
                self.oldest = index;
            } else {
                store.links[self.newest as usize].next = index;
            }
            self.newest = index;
        }
        let newest = &mut store.links[self.newest as usize];
        let place = newest.block.span().part(newest.used, len);
        newest.used += len;
        newest.count += 1;
        let mark = newest.block.span().part(newest.block.bytes() - newest.count * MARK_BYTES, MARK_BYTES);
        memory.bytes_mut(mark).copy_from_slice(&newest.used.to_le_bytes());
        self.next += 1;
        Some(place)
    }

    /// Returns the longest contiguous run that starts with record `seq`, without its first `skip` bytes.
    ///
    /// # Panics
    /// If the record is not held, or is not longer than `skip`.
    #[must_use]
    pub(in crate::shard) fn run(&self, store: &Store, memory: &Memory, seq: u64, skip: u32) -> Run {
        let link = self.find(store, seq);
        let start = start_of(link, memory, seq) + skip;
        Run { span: link.block.span().part(start, link.used - start), next: link.first + u64::from(link.count) }
    }

    /// Returns all that is held from record `seq` on, without its first `skip` bytes, as far as `PARTS_MAX` runs and about
    /// `bytes_max` bytes reach.
    ///
    /// # Panics
    /// If the record is not held, or is not longer than `skip`.
    #[must_use]
    pub(in crate::shard) fn runs(&self, store: &Store, memory: &Memory, seq: u64, skip: u32, bytes_max: u32) -> Runs {
        let first = self.run(store, memory, seq, skip);
        let mut runs = Runs { parts: [Span::default(); PARTS_MAX], count: 1, bytes: first.span.len, next: first.next };
        runs.parts[0] = first.span;
        if first.next == self.next {
            return runs;
        }
        let mut index = self.find(store, seq).next;
        while let Some(link) = store.links.get(index as usize) {
            if runs.count == PARTS_MAX || runs.bytes >= bytes_max {
                break;
            }
            runs.parts[runs.count] = link.block.span().part(0, link.used);
            runs.count += 1;
            runs.bytes += link.used;
            runs.next = link.first + u64::from(link.count);
            index = link.next;
        }
        runs
    }

    /// Returns where record `seq` lies.
    ///
    /// # Panics
    /// If it is not held.
    #[must_use]
    pub(in crate::shard) fn record(&self, store: &Store, memory: &Memory, seq: u64) -> Span {
        let link = self.find(store, seq);
        let start = start_of(link, memory, seq);
        let end = end_of(link, memory, seq);
        link.block.span().part(start, end - start)
    }

    /// Returns the place `bytes` bytes before the start of record `next`: a record, and how much of it lies before.
    ///
    /// # Panics
    /// If fewer bytes are held before `next`.
    #[must_use]
    pub(in crate::shard) fn back(&self, store: &Store, memory: &Memory, next: u64, bytes: u32) -> (u64, u32) {
        let (mut seq, mut left) = (next, bytes);
        while left > 0 {
            seq -= 1;
            let len = self.record(store, memory, seq).len;
            if left < len {
                return (seq, len - left);
            }
            left -= len;
        }
        (seq, 0)
    }

    /// Forgets all records before `seq`; a block goes back to the pool when its last record is forgotten.
    pub(in crate::shard) fn forget_before(&mut self, store: &mut Store, seq: u64) {
        let seq = seq.min(self.next);
        if seq <= self.first {
            return;
        }
        self.first = seq;
        while self.oldest != NONE {
            let link = &store.links[self.oldest as usize];
            if link.first + u64::from(link.count) > seq {
                break;
            }
            self.drop_oldest(store);
        }
    }

    /// Returns the number after the last record of the oldest block: what `forget_oldest_block` would leave.
    #[must_use]
    pub(in crate::shard) fn oldest_block_next(&self, store: &Store) -> u64 {
        let link = store.links.get(self.oldest as usize);
        link.map_or(self.next, |link| link.first + u64::from(link.count))
    }

    /// Forgets the oldest block with all its records; does nothing if none is held.
    pub(in crate::shard) fn forget_oldest_block(&mut self, store: &mut Store) {
        if self.oldest != NONE {
            let link = &store.links[self.oldest as usize];
            self.first = link.first + u64::from(link.count);
            self.drop_oldest(store);
        }
    }

    /// Forgets everything, and numbers the next record `next`.
    pub(in crate::shard) fn restart(&mut self, store: &mut Store, next: u64) {
        self.forget_before(store, self.next);
        self.first = next;
        self.next = next;
    }

    fn drop_oldest(&mut self, store: &mut Store) {
        let link = store.links.remove(self.oldest as usize);
        self.bytes -= link.block.bytes();
        store.pool.give(self.owner, link.block);
        self.oldest = link.next;
        if self.oldest == NONE {
            self.newest = NONE;
        }
    }

    fn find<'s>(&self, store: &'s Store, seq: u64) -> &'s Link {
        assert!(self.first <= seq && seq < self.next, "record {seq} is not in {}..{}", self.first, self.next);
        // Nearly everybody wants the newest block.
        let newest = &store.links[self.newest as usize];
        if newest.first <= seq {
            return newest;
        }
        let mut link = &store.links[self.oldest as usize];
        while link.first + u64::from(link.count) <= seq {
            link = &store.links[link.next as usize];
        }
        link
    }
}

fn mark(link: &Link, memory: &Memory, nth: u32) -> u32 {
    let place = link.block.span().part(link.block.bytes() - (nth + 1) * MARK_BYTES, MARK_BYTES);
    u32::from_le_bytes(memory.bytes(place).try_into().expect("a mark has four bytes"))
}

fn start_of(link: &Link, memory: &Memory, seq: u64) -> u32 {
    match (seq - link.first) as u32 {
        0 => 0,
        nth => mark(link, memory, nth - 1),
    }
}

fn end_of(link: &Link, memory: &Memory, seq: u64) -> u32 {
    mark(link, memory, (seq - link.first) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(seq: u64) -> Vec<u8> {
        vec![seq as u8; (seq as usize * 53) % 900]
    }

    /// A chain answers like a plain list of records, for any order of appending, forgetting and restarting.
    #[test]
    fn like_a_list() {
        let mut memory = Memory::reserve(1 << 20).unwrap();
        let mut store = Store::new(1 << 20);
        let mut chain = Chain::new(Owner::Log, 5);
        let mut list: std::collections::VecDeque<u64> = [].into();
        let mut next = 5u64;
        let mut seed = 7u64;
        for _ in 0..5_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as u32;
            match dice % 16 {
                0 => {
                    let before = chain.first() + u64::from(dice >> 8) % 9;
                    chain.forget_before(&mut store, before);
                    list.retain(|seq| *seq >= before);
                }
                1 => {
                    chain.forget_oldest_block(&mut store);
                    list.retain(|seq| *seq >= chain.first());
                }
                2 if dice % 8 == 2 => {
                    next += 3;
                    chain.restart(&mut store, next);
                    list.clear();
                }
                _ => {
                    let bytes = bytes_of(next);
                    let len = bytes.len() as u32;
                    let place = chain.append(&mut store, &mut memory, len, 1 << ((dice >> 8) % 14)).unwrap();
                    memory.bytes_mut(place).copy_from_slice(&bytes);
                    list.push_back(next);
                    next += 1;
                }
            }
            assert_eq!(chain.next(), next);
            assert_eq!(chain.first(), list.front().copied().unwrap_or(next));
            for seq in &list {
                assert_eq!(memory.bytes(chain.record(&store, &memory, *seq)), bytes_of(*seq));
            }
            if let Some(from) = list.get(dice as usize % list.len().max(1)) {
                let run = chain.run(&store, &memory, *from, 0);
                let expected: Vec<u8> = (*from..run.next).flat_map(bytes_of).collect();
                assert_eq!(memory.bytes(run.span), expected);
                let runs = chain.runs(&store, &memory, *from, 0, dice >> 12);
                let all: Vec<u8> = runs.parts().iter().flat_map(|part| memory.bytes(*part)).copied().collect();
                assert_eq!(all, (*from..runs.next).flat_map(bytes_of).collect::<Vec<u8>>());
                assert_eq!(runs.bytes as usize, all.len());
                assert!(runs.next == next || runs.count == PARTS_MAX || runs.bytes >= dice >> 12);
                let unsent = (dice >> 9) % (run.span.len + 1);
                let (seq, skip) = chain.back(&store, &memory, run.next, unsent);
                let before: usize = (*from..seq).map(|seq| bytes_of(seq).len()).sum();
                assert_eq!(before + skip as usize + unsent as usize, expected.len());
                let ahead: usize = (*from..next).map(|seq| bytes_of(seq).len()).sum();
                assert_eq!(chain.bytes_from(&store, &memory, *from), ahead as u64);
                assert!(chain.bytes_used(&store) >= chain.bytes_from(&store, &memory, 0));
            }
        }
        chain.restart(&mut store, 0);
        assert_eq!((store.pool.used_total(), chain.bytes(), store.links.len()), (0, 0, 0));
    }

    /// When memory is used up, appending says so and changes nothing.
    #[test]
    fn out_of_memory_changes_nothing() {
        let mut memory = Memory::reserve(1 << 16).unwrap();
        let mut store = Store::new(1 << 16);
        let mut chain = Chain::new(Owner::History, 1);
        while chain.append(&mut store, &mut memory, 1000, 0).is_some() {}
        let (first, next, used) = (chain.first(), chain.next(), store.pool.used_total());
        assert!(chain.append(&mut store, &mut memory, 1000, 0).is_none());
        assert_eq!((first, next, used), (chain.first(), chain.next(), store.pool.used_total()));
    }
}
