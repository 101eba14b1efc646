//! A chain: an append-only run of records in pooled blocks. Frame logs and histories are chains.
//!
//! ```text
//!   oldest block                 newest block
//!   ┌──────┬──────┬───┄┄┬─┬─┐   ┌──────┬──────────┬───┄┄┄┄┬─┬─┐
//!   │ p 17 │ p 18 │     │ │ │──▶│ p 19 │   p 20   │       │ │ │    records grow up, marks (where each record
//!   └──────┴──────┴───┄┄┴─┴─┘   └──────┴──────────┴───┄┄┄┄┴─┴─┘    ends, 4 bytes) grow down from the block's end
//! ```
//!
//! Records within a block lie back to back, so that any run of them is one slice. An empty chain holds no memory.
//!
//! A record has a *position*, which is this chain's own: positions count from 1 without holes. It also has a *number*, which its
//! home gave it: numbers grow, and may leave some out. A block knows the number of its first record. If those of the others run
//! on from it, it costs them nothing; if not, each of its marks has 8 bytes, and says by how much the number is larger than that.
//!
//! Invariants: the chain holds the positions `first..next`, each in exactly one block; blocks hold at least one record.

use crate::io::driver::PARTS_MAX;
use crate::io::memory::{Memory, Span};
use crate::shard::memory::pool::{Block, Owner, Pool};
use crate::shard::memory::slab::Slab;

const NONE: u32 = u32::MAX;
/// Where a record ends.
const MARK_BYTES: u32 = 4;
/// The same, and by how much its number is larger than that of the block's first record: what a record takes at most besides its bytes.
pub(in crate::shard) const WIDE_MARK_BYTES: u32 = 8;

/// A block of a chain.
#[derive(Debug)]
struct Link {
    block: Block,
    /// Position of its first record.
    first: u64,
    /// Number of its first record.
    number: u64,
    /// By how much the number of its last record is larger: `count - 1`, unless numbers were left out.
    span: u32,
    count: u32,
    used: u32,
    next: u32,
}

impl Link {
    /// Says whether its marks are wide, because numbers were left out between its records.
    fn is_wide(&self) -> bool {
        self.span >= self.count
    }

    fn mark_bytes(&self) -> u32 {
        if self.is_wide() { WIDE_MARK_BYTES } else { MARK_BYTES }
    }

    /// Returns the position after its last record.
    fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Returns the number of its last record.
    fn last(&self) -> u64 {
        self.number + u64::from(self.span)
    }

    /// Returns the size of the marks that it has with one more record of this number; `None` if it cannot say that number.
    fn mark_bytes_with(&self, number: u64) -> Option<u32> {
        let more = u32::try_from(number - self.number).ok()?;
        Some(if self.is_wide() || more != self.count { WIDE_MARK_BYTES } else { MARK_BYTES })
    }

    /// Marks a record that was put into it, whose number is so much larger than that of its first, by wide marks.
    #[cold]
    fn mark_wide(&mut self, memory: &mut Memory, more: u32) {
        if !self.is_wide() {
            self.widen(memory);
        }
        let mark = self.mark_place(self.count, WIDE_MARK_BYTES);
        memory.bytes_mut(mark.part(0, MARK_BYTES)).copy_from_slice(&self.used.to_le_bytes());
        memory.bytes_mut(mark.part(MARK_BYTES, 4)).copy_from_slice(&more.to_le_bytes());
        (self.span, self.count) = (more, self.count + 1);
    }

    /// Makes its marks wide. The caller made sure that there is room for that.
    fn widen(&self, memory: &mut Memory) {
        // From the last one on, so that none is written over one that is still to be read.
        for nth in (0..self.count).rev() {
            let end = mark(self, memory, nth, MARK_BYTES);
            let place = self.mark_place(nth, WIDE_MARK_BYTES);
            memory.bytes_mut(place.part(0, 4)).copy_from_slice(&end.to_le_bytes());
            memory.bytes_mut(place.part(4, 4)).copy_from_slice(&nth.to_le_bytes());
        }
    }

    fn mark_place(&self, nth: u32, mark_bytes: u32) -> Span {
        self.block.span().part(self.block.bytes() - (nth + 1) * mark_bytes, mark_bytes)
    }
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

    /// Returns the bytes of memory that knowing of the blocks takes.
    #[must_use]
    pub(in crate::shard) fn bookkeeping_bytes(&self) -> u64 {
        self.pool.bookkeeping_bytes() + self.links.bytes()
    }
}

/// A run of records.
#[derive(Debug)]
pub(in crate::shard) struct Chain {
    owner: Owner,
    oldest: u32,
    newest: u32,
    /// Position of the oldest record held.
    first: u64,
    /// Position that the next record will get.
    next: u64,
    /// Number of the record before the oldest one held.
    before: u64,
    /// Bytes of blocks held.
    bytes: u32,
}

/// Where a run of records lies, and the position after its last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Run {
    /// The bytes, contiguous.
    pub(in crate::shard) span: Span,
    /// Position of the record after the run.
    pub(in crate::shard) next: u64,
}

/// Where several runs lie that follow each other, and the position after the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Runs {
    parts: [Span; PARTS_MAX],
    count: usize,
    /// Bytes of all of them.
    pub(in crate::shard) bytes: u32,
    /// Position of the record after them.
    pub(in crate::shard) next: u64,
}

impl Runs {
    /// Returns them, one at least.
    pub(in crate::shard) fn parts(&self) -> &[Span] {
        &self.parts[..self.count]
    }
}

impl Chain {
    /// Makes an empty chain, whose first record will have position 1, and a number above `before`.
    #[must_use]
    pub(in crate::shard) fn new(owner: Owner, before: u64) -> Chain {
        Chain { owner, oldest: NONE, newest: NONE, first: 1, next: 1, before, bytes: 0 }
    }

    /// Returns the position of the oldest record held (equal to `next` if none is).
    #[must_use]
    pub(in crate::shard) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the position that the next record gets.
    #[must_use]
    pub(in crate::shard) fn next(&self) -> u64 {
        self.next
    }

    /// Returns the number of the record before the oldest one held (equal to `last` if none is).
    #[must_use]
    pub(in crate::shard) fn before(&self) -> u64 {
        self.before
    }

    /// Returns the number of the newest record there was.
    #[must_use]
    pub(in crate::shard) fn last(&self, store: &Store) -> u64 {
        store.links.get(self.newest as usize).map_or(self.before, Link::last)
    }

    /// Returns the number of the record at a position.
    ///
    /// # Panics
    /// If it is not held.
    #[must_use]
    pub(in crate::shard) fn number(&self, store: &Store, memory: &Memory, position: u64) -> u64 {
        let link = self.find(store, position);
        number_in(link, memory, (position - link.first) as u32)
    }

    /// Returns the number of the record before a position that is held, or before the end.
    ///
    /// # Panics
    /// If it is neither.
    #[must_use]
    pub(in crate::shard) fn number_before(&self, store: &Store, memory: &Memory, position: u64) -> u64 {
        if position == self.first { self.before } else { self.number(store, memory, position - 1) }
    }

    /// Returns the position of the first record with a larger number; that of the next one to come, if there is none.
    ///
    /// # Panics
    /// If such records may have been forgotten.
    #[must_use]
    pub(in crate::shard) fn position_after(&self, store: &Store, memory: &Memory, number: u64) -> u64 {
        assert!(number >= self.before, "what comes behind {number} is held from {} on", self.before);
        let Some(newest) = store.links.get(self.newest as usize).filter(|newest| newest.last() > number) else {
            return self.next;
        };
        let mut link = newest;
        if number < newest.number {
            link = &store.links[self.oldest as usize];
            while link.last() <= number {
                link = &store.links[link.next as usize];
            }
        }
        let nth = match number.checked_sub(link.number) {
            None => 0,
            Some(more) if !link.is_wide() => more as u32 + 1,
            Some(_) => {
                let (mut from, mut to) = (0, link.count);
                while from < to {
                    let middle = from + (to - from) / 2;
                    if number_in(link, memory, middle) <= number {
                        from = middle + 1;
                    } else {
                        to = middle;
                    }
                }
                from
            }
        };
        // The records before the first one may still lie in its block.
        self.first.max(link.first + u64::from(nth))
    }

    /// Returns the bytes of the blocks held.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Returns the bytes of the records from a position on, or of all that are held if some from there are gone.
    #[must_use]
    pub(in crate::shard) fn bytes_from(&self, store: &Store, memory: &Memory, position: u64) -> u64 {
        if position >= self.next {
            return 0;
        }
        let position = position.max(self.first);
        let link = self.find(store, position);
        let mut bytes = u64::from(link.used - start_of(link, memory, position));
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
    pub(in crate::shard) fn could_append(&self, store: &mut Store, number: u64, len: u32) -> bool {
        self.fits(store, number, len) || len.checked_add(MARK_BYTES).is_some_and(|bytes| store.pool.could_take(bytes))
    }

    /// Says whether the newest block has room for a record of `len` bytes.
    #[inline]
    fn fits(&self, store: &Store, number: u64, len: u32) -> bool {
        store.links.get(self.newest as usize).is_some_and(|newest| {
            let Some(mark_bytes) = newest.mark_bytes_with(number) else { return false };
            let marks_bytes = (newest.count + 1) * mark_bytes;
            len.checked_add(newest.used + marks_bytes).is_some_and(|bytes| bytes <= newest.block.bytes())
        })
    }

    /// Makes room for the next record, `len` bytes, and returns where to write it; `None` if there is no memory. Its number is
    /// larger than that of all before.
    ///
    /// A new block is at least `block_bytes` long, so that records appended in a row share it.
    pub(in crate::shard) fn append(
        &mut self,
        store: &mut Store,
        memory: &mut Memory,
        number: u64,
        len: u32,
        block_bytes: u32,
    ) -> Option<Span> {
        debug_assert!(number > self.last(store), "numbers grow");
        if !self.fits(store, number, len) {
            let wanted = len.checked_add(MARK_BYTES)?;
            let block = store.pool.take(self.owner, wanted.max(block_bytes)).or_else(|| {
                // A smaller block than hoped for is better than none.
                store.pool.take(self.owner, wanted)
            })?;
            self.bytes += block.bytes();
            let link = Link { block, first: self.next, number, span: 0, count: 0, used: 0, next: NONE };
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
        let more = (number - newest.number) as u32;
        if more == newest.count && (more == 0 || !newest.is_wide()) {
            let mark = newest.mark_place(more, MARK_BYTES);
            memory.bytes_mut(mark).copy_from_slice(&newest.used.to_le_bytes());
            (newest.span, newest.count) = (more, more + 1);
        } else {
            newest.mark_wide(memory, more);
        }
        self.next += 1;
        Some(place)
    }

    /// Returns the longest contiguous run that starts at a position, without its first `skip` bytes.
    ///
    /// # Panics
    /// If the record is not held, or is not longer than `skip`.
    #[must_use]
    pub(in crate::shard) fn run(&self, store: &Store, memory: &Memory, position: u64, skip: u32) -> Run {
        let link = self.find(store, position);
        let start = start_of(link, memory, position) + skip;
        Run { span: link.block.span().part(start, link.used - start), next: link.end() }
    }

    /// Returns as many records from a position on, without its first `skip` bytes, as have no more than so many bytes, and one at least.
    ///
    /// # Panics
    /// If the record is not held, or is not longer than `skip`.
    #[must_use]
    pub(in crate::shard) fn piece(
        &self,
        store: &Store,
        memory: &Memory,
        position: u64,
        skip: u32,
        bytes_max: u32,
    ) -> Run {
        let link = self.find(store, position);
        let start = start_of(link, memory, position) + skip;
        let (mut from, mut to) = ((position - link.first) as u32 + 1, link.count);
        // Of those that end within it the last.
        while from < to {
            let middle = from + (to - from) / 2;
            if mark(link, memory, middle, link.mark_bytes()) - start <= bytes_max {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        let end = mark(link, memory, from - 1, link.mark_bytes());
        Run { span: link.block.span().part(start, end - start), next: link.first + u64::from(from) }
    }

    /// Returns all that is held from a position on, without its first `skip` bytes, as far as `PARTS_MAX` runs and about
    /// `bytes_max` bytes reach.
    ///
    /// # Panics
    /// If the record is not held, or is not longer than `skip`.
    #[must_use]
    pub(in crate::shard) fn runs(
        &self,
        store: &Store,
        memory: &Memory,
        position: u64,
        skip: u32,
        bytes_max: u32,
    ) -> Runs {
        let first = self.run(store, memory, position, skip);
        let mut runs = Runs { parts: [Span::default(); PARTS_MAX], count: 1, bytes: first.span.len, next: first.next };
        runs.parts[0] = first.span;
        if first.next == self.next {
            return runs;
        }
        let mut index = self.find(store, position).next;
        while let Some(link) = store.links.get(index as usize) {
            if runs.count == PARTS_MAX || runs.bytes >= bytes_max {
                break;
            }
            runs.parts[runs.count] = link.block.span().part(0, link.used);
            runs.count += 1;
            runs.bytes += link.used;
            runs.next = link.end();
            index = link.next;
        }
        runs
    }

    /// Returns where the first `len` bytes of the oldest record held lie, which has so many.
    ///
    /// # Panics
    /// If none is held.
    #[must_use]
    pub(in crate::shard) fn start(&self, store: &Store, memory: &Memory, len: u32) -> Span {
        let link = &store.links[self.oldest as usize];
        link.block.span().part(start_of(link, memory, self.first), len)
    }

    /// Returns where the record at a position lies.
    ///
    /// # Panics
    /// If it is not held.
    #[must_use]
    pub(in crate::shard) fn record(&self, store: &Store, memory: &Memory, position: u64) -> Span {
        let link = self.find(store, position);
        let (nth, mark_bytes) = ((position - link.first) as u32, link.mark_bytes());
        let start = if nth == 0 { 0 } else { mark(link, memory, nth - 1, mark_bytes) };
        link.block.span().part(start, mark(link, memory, nth, mark_bytes) - start)
    }

    /// Returns the place `bytes` bytes before the record at `next`: a position, and how much of its record lies before.
    ///
    /// # Panics
    /// If fewer bytes are held before `next`.
    #[must_use]
    pub(in crate::shard) fn back(&self, store: &Store, memory: &Memory, next: u64, bytes: u32) -> (u64, u32) {
        let (mut position, mut left) = (next, bytes);
        while left > 0 {
            position -= 1;
            let len = self.record(store, memory, position).len;
            if left < len {
                return (position, len - left);
            }
            left -= len;
        }
        (position, 0)
    }

    /// Forgets all records before a position; a block goes back to the pool when its last record is forgotten.
    pub(in crate::shard) fn forget_before(&mut self, store: &mut Store, memory: &Memory, position: u64) {
        let position = position.min(self.next);
        if position <= self.first {
            return;
        }
        if position == self.next {
            return self.clear(store);
        }
        self.before = self.number(store, memory, position - 1);
        self.first = position;
        while self.oldest != NONE {
            let link = &store.links[self.oldest as usize];
            if link.end() > position {
                break;
            }
            self.drop_oldest(store);
        }
    }

    /// Forgets the oldest record; returns its length in bytes.
    ///
    /// # Panics
    /// If none is held.
    pub(in crate::shard) fn forget_first(&mut self, store: &mut Store, memory: &Memory) -> u32 {
        // It stands in the oldest block: one whose records are all forgotten goes at once.
        let link = &store.links[self.oldest as usize];
        let (nth, mark_bytes) = ((self.first - link.first) as u32, link.mark_bytes());
        let start = if nth == 0 { 0 } else { mark(link, memory, nth - 1, mark_bytes) };
        let len = mark(link, memory, nth, mark_bytes) - start;
        self.before = number_in(link, memory, nth);
        self.first += 1;
        if link.end() == self.first {
            self.drop_oldest(store);
        }
        len
    }

    /// Returns the position after the last record of the oldest block: what `forget_oldest_block` would leave.
    #[must_use]
    pub(in crate::shard) fn oldest_block_next(&self, store: &Store) -> u64 {
        let link = store.links.get(self.oldest as usize);
        link.map_or(self.next, |link| link.end())
    }

    /// Returns the number of the first record of the newest block, forgotten or not.
    #[must_use]
    pub(in crate::shard) fn newest_block_first(&self, store: &Store) -> u64 {
        store.links.get(self.newest as usize).map_or(self.next, |link| link.first)
    }

    /// Forgets the oldest block with all its records; does nothing if none is held.
    pub(in crate::shard) fn forget_oldest_block(&mut self, store: &mut Store) {
        if self.oldest != NONE {
            let link = &store.links[self.oldest as usize];
            (self.first, self.before) = (link.end(), link.last());
            self.drop_oldest(store);
        }
    }

    /// Forgets everything.
    pub(in crate::shard) fn clear(&mut self, store: &mut Store) {
        (self.first, self.before) = (self.next, self.last(store));
        while self.oldest != NONE {
            self.drop_oldest(store);
        }
    }

    /// Forgets everything, and goes on behind `count` records that it never gets, the last of which is numbered `last`.
    pub(in crate::shard) fn skip(&mut self, store: &mut Store, count: u64, last: u64) {
        self.clear(store);
        self.next += count;
        (self.first, self.before) = (self.next, last);
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

    fn find<'s>(&self, store: &'s Store, position: u64) -> &'s Link {
        assert!(
            self.first <= position && position < self.next,
            "record {position} is not in {}..{}",
            self.first,
            self.next
        );
        // Nearly everybody wants the newest block.
        let newest = &store.links[self.newest as usize];
        if newest.first <= position {
            return newest;
        }
        let mut link = &store.links[self.oldest as usize];
        while link.end() <= position {
            link = &store.links[link.next as usize];
        }
        link
    }
}

/// Returns where a record of a block with marks of this size ends.
fn mark(link: &Link, memory: &Memory, nth: u32, mark_bytes: u32) -> u32 {
    let place = link.mark_place(nth, mark_bytes).part(0, MARK_BYTES);
    u32::from_le_bytes(memory.bytes(place).try_into().expect("it has four bytes"))
}

fn number_in(link: &Link, memory: &Memory, nth: u32) -> u64 {
    let more = if link.is_wide() {
        let place = link.mark_place(nth, WIDE_MARK_BYTES).part(MARK_BYTES, 4);
        u32::from_le_bytes(memory.bytes(place).try_into().expect("it has four bytes"))
    } else {
        nth
    };
    link.number + u64::from(more)
}

fn start_of(link: &Link, memory: &Memory, position: u64) -> u32 {
    match (position - link.first) as u32 {
        0 => 0,
        nth => mark(link, memory, nth - 1, link.mark_bytes()),
    }
}

#[cfg(test)]
mod tests;
