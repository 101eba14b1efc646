//! The block pool: hands out power-of-two blocks of a shard's block memory, and counts who holds them.
//!
//! Owns: which parts of the memory are in use. Touches: no byte of it. Never: grows; when the memory is used up it
//! says no, and the asker sheds.
//!
//! A buddy allocator: a block of order `n` is `1 << n` bytes long and starts at a multiple of its length. Two free
//! buddies become one block of the next order, so that memory used for small messages can hold large ones later.
//!
//! Histories are what gives way when memory is short, so the pool also says whether that would help: where others hold
//! nothing. Per region of 64 KiB it counts the units of blocks that are not a history's; a smaller hole is looked for in the
//! states of the units.
//!
//! What peers are sending has a share of its own, so that whoever begins messages and does not end them takes nothing from what is
//! remembered.
//!
//! Invariants: a byte belongs to at most one block; `used` per owner is the sum of the blocks it holds.

use std::num::NonZeroU8;

use crate::io::memory::Span;

/// Smallest block: 256 bytes hold a short message with its frame and mark.
pub(in crate::shard) const ORDER_MIN: u8 = 8;

/// Largest block, if the memory is that large: 64 MiB hold the largest message there can be (16 MiB), escaped.
const ORDER_MAX: u8 = 26;

/// The largest block is at most one of so many parts of the memory: a message that arrives, is remembered, is in a log and
/// is sent to one reader takes four, and none of them may have to wait for another.
pub const BLOCKS_MIN: u64 = 4;

/// Most memory that a pool manages: units are counted in 32 bits.
pub const SHARD_BYTES_MAX: u64 = (1 << 40) - 1;

/// Returns the length of the largest block that a memory with so many bytes is divided into.
#[must_use]
pub fn block_bytes_max(memory_bytes: u64) -> u64 {
    1 << order_max(memory_bytes)
}

/// Returns how many bytes a pool needs besides its memory: what it knows of each unit.
#[must_use]
pub fn bookkeeping_bytes(memory_bytes: u64) -> [u64; 3] {
    let units = memory_bytes >> ORDER_MIN;
    [units, 4 * units, 4 * units]
}

fn order_max(memory_bytes: u64) -> u8 {
    (memory_bytes / BLOCKS_MIN).max(1).ilog2().clamp(u32::from(ORDER_MIN), u32::from(ORDER_MAX)) as u8
}

const NONE: u32 = u32::MAX;

/// A region, for which is counted what others than histories hold: a few hundred units, so that the counts are a small table.
const ORDER_REGION: u8 = 16;

/// Units of a region.
const REGION_UNITS: u32 = 1 << (ORDER_REGION - ORDER_MIN);

/// After memory was given back to the pool, its regions are looked at so often: to note that they are unused, and that they still are.
const LOOKS_UNTIL_UNUSED: u32 = 2;

/// A private queue of up to so many bytes needs a block, but no budget: a kilobyte holds a refusal with its headers.
const ORDER_SHORT: u8 = 10;

/// Block memory that may be resident and unused: nobody wakes up for less.
const SPARE_BYTES: u64 = 256 << 10;

/// Regions looked at in one tick at most: some microseconds.
const LOOKS_A_TICK: u32 = 4096;

/// Whether the kernel has given the memory of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    /// No, or it was given back.
    Never,
    /// Yes, and it was in use since it was last looked at.
    Lately,
    /// Yes, but nothing of it was in use when it was last looked at, nor since.
    Unused,
}

/// Units looked at in one search for a hole that is smaller than a region: some 100 µs.
const UNITS_SEARCHED_MAX: u32 = 1 << 16;

/// What is held besides blocks, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::shard) struct Besides {
    /// Names, topics, subscriptions, homes, and the tables to find them.
    pub(in crate::shard) tables: u64,
    /// What busy connections cost.
    pub(in crate::shard) busy: u64,
    /// What is kept of blocks, and the queues and buffers of a turn.
    pub(in crate::shard) scratch: u64,
}

impl Besides {
    /// Returns the sum.
    #[must_use]
    pub(in crate::shard) fn total(self) -> u64 {
        self.tables + self.busy + self.scratch
    }
}

/// Who holds a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Owner {
    /// Frame logs.
    Log,
    /// Histories.
    History,
    /// Private queues.
    Private,
    /// Heads, bodies and messages that are still arriving.
    Inbound,
}

/// A block in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Block {
    unit: u32,
    /// Never zero, so that no block is as large as one: every busy connection has several of either.
    order: NonZeroU8,
}

impl Block {
    /// Returns the place of the block.
    #[must_use]
    pub(in crate::shard) fn span(self) -> Span {
        Span { start: u64::from(self.unit) << ORDER_MIN, len: self.bytes() }
    }

    /// Returns its length in bytes.
    #[must_use]
    pub(in crate::shard) fn bytes(self) -> u32 {
        1 << self.order.get()
    }
}

/// Returns the order of the smallest block with at least so many bytes.
#[must_use]
pub(in crate::shard) fn order_for(bytes: u32) -> u8 {
    let order = bytes.max(1).next_power_of_two().trailing_zeros() as u8;
    order.max(ORDER_MIN)
}

/// The pool.
#[derive(Debug)]
pub(in crate::shard) struct Pool {
    /// Per unit: `FREE | order` at the first unit of a free block, `HISTORY | order` or `order` at that of one in use, and
    /// anything else that is not free otherwise.
    state: Vec<u8>,
    /// Per region: units of blocks that are not a history's, and of those that are.
    foreign: Vec<u32>,
    histories: Vec<u32>,
    /// Per region: whether the kernel has given its memory, and whether it was used lately.
    given: Vec<Given>,
    given_count: u32,
    /// Region that is looked at next, whether it is unused, and how many looks it takes to know that of all.
    sweep: u32,
    looks: u32,
    /// Region where the next search for a hole begins.
    search: u32,
    /// Free blocks of an order are a doubly linked list through these.
    next: Vec<u32>,
    previous: Vec<u32>,
    heads: [u32; ORDER_MAX as usize + 1],
    /// Largest order handed out.
    order_max: u8,
    /// Units from here on were never used; whole blocks of `order_max` come from here.
    fresh: u32,
    units: u32,
    used: [u64; 4],
    /// What is held besides blocks.
    besides: Besides,
    /// Bytes that may still be handed out; less than none, if more than the rest was taken besides.
    left: i64,
    memory_bytes: u64,
}

const FREE: u8 = 0x80;
const HISTORY: u8 = 0x40;
const ORDER: u8 = 0x3F;

impl Pool {
    /// Makes the pool of a memory with so many bytes; what is beyond the last whole largest block stays unused.
    #[must_use]
    pub(in crate::shard) fn new(memory_bytes: u64) -> Pool {
        let order_max = order_max(memory_bytes);
        let units = (memory_bytes >> order_max << order_max) >> ORDER_MIN;
        let units = u32::try_from(units).expect("`Config::check` keeps a shard's memory below 1 TiB");
        let regions = units.div_ceil(REGION_UNITS) as usize;
        // `vec!` of zeroes comes from the kernel's zero pages: units never used cost nothing.
        Pool {
            state: vec![0; units as usize],
            foreign: vec![0; regions],
            histories: vec![0; regions],
            given: vec![Given::Never; regions],
            given_count: 0,
            sweep: 0,
            looks: 0,
            search: 0,
            next: vec![0; units as usize],
            previous: vec![0; units as usize],
            heads: [NONE; ORDER_MAX as usize + 1],
            order_max,
            fresh: 0,
            units,
            used: [0; 4],
            besides: Besides::default(),
            left: memory_bytes.cast_signed(),
            memory_bytes,
        }
    }

    /// Takes note of what is held besides blocks. However much that is, half of the memory is for blocks.
    pub(in crate::shard) fn set_besides(&mut self, besides: Besides) {
        self.besides = besides;
        let taken = besides.total().min(self.memory_bytes / 2) + self.used_total();
        self.left = self.memory_bytes.cast_signed() - taken.cast_signed();
    }

    /// Returns what is held besides blocks, as it was weighed last.
    #[must_use]
    pub(in crate::shard) fn besides(&self) -> Besides {
        self.besides
    }

    /// Returns the bytes that topics which are read, subscriptions and what busy connections cost may take together.
    #[must_use]
    pub(in crate::shard) fn tables_max(&self) -> u64 {
        self.memory_bytes / 8 * 3
    }

    /// Returns the bytes of what is known of blocks, as far as there are any.
    #[must_use]
    pub(in crate::shard) fn bookkeeping_bytes(&self) -> u64 {
        bookkeeping_bytes(u64::from(self.fresh) << ORDER_MIN).iter().sum()
    }

    /// Says whether what is arriving would have more than its share with so many bytes more.
    ///
    /// Three eighths: the largest message needs one and a half of the largest block while it grows, and that may be a quarter. What busy
    /// connections cost is of this share, too, with a sixteenth more, so that the largest message fits beside some.
    fn is_beyond_share(&self, more: u64) -> bool {
        let (bytes, share) = (self.used(Owner::Inbound) + more, self.memory_bytes / 8 * 3);
        bytes > share || bytes + self.besides.busy > share + self.memory_bytes / 16
    }

    /// Returns a block of at least so many bytes, or `None` if there is none.
    pub(in crate::shard) fn take(&mut self, owner: Owner, bytes: u32) -> Option<Block> {
        let order = order_for(bytes);
        // Who is refused has to be told, whatever else was taken meanwhile.
        let short = owner == Owner::Private && order <= ORDER_SHORT;
        if order > self.order_max || 1 << order > self.left && !short {
            return None;
        }
        if owner == Owner::Inbound && self.is_beyond_share(1 << order) {
            return None;
        }
        let mut from = order;
        while from < self.order_max && self.heads[usize::from(from)] == NONE {
            from += 1;
        }
        let unit = if self.heads[usize::from(from)] != NONE {
            let unit = self.heads[usize::from(from)];
            self.unlink(unit, from);
            unit
        } else {
            let unit = self.fresh;
            if unit == self.units {
                return None;
            }
            self.fresh += 1 << (self.order_max - ORDER_MIN);
            unit
        };
        // Keep the lower half, free the upper one, until the size is right.
        while from > order {
            from -= 1;
            self.link(unit + (1 << (from - ORDER_MIN)), from);
        }
        self.state[unit as usize] = if owner == Owner::History { HISTORY | order } else { order };
        self.used[owner as usize] += 1 << order;
        self.left -= 1 << order;
        self.count(owner, unit, order, true);
        Some(Block { unit, order: NonZeroU8::new(order)? })
    }

    /// Takes a block back.
    ///
    /// # Panics
    /// If the block is not in use.
    pub(in crate::shard) fn give(&mut self, owner: Owner, block: Block) {
        let Block { mut unit, order } = block;
        let mut order = order.get();
        let state = if owner == Owner::History { HISTORY | order } else { order };
        assert_eq!(self.state[unit as usize], state, "a block that is not in use was given back");
        self.used[owner as usize] -= 1 << order;
        self.left += 1 << order;
        self.count(owner, unit, order, false);
        self.state[unit as usize] = 0;
        while order < self.order_max {
            let buddy = unit ^ (1 << (order - ORDER_MIN));
            if self.state[buddy as usize] != FREE | order {
                break;
            }
            self.unlink(buddy, order);
            unit = unit.min(buddy);
            order += 1;
        }
        self.link(unit, order);
    }

    /// Says whether a block of so many bytes could be had, now or if histories gave theirs back. A hole smaller than a region is
    /// looked for in a part of the memory only, another one each time: then it may say no although there is one.
    pub(in crate::shard) fn could_take(&mut self, bytes: u32) -> bool {
        let order = order_for(bytes);
        if order > self.order_max || 1 << order > self.left + self.used(Owner::History).cast_signed() {
            return false;
        }
        if self.fresh < self.units || self.heads[usize::from(order)..].iter().any(|head| *head != NONE) {
            return true;
        }
        if self.used(Owner::History) == 0 {
            return false;
        }
        if order >= ORDER_REGION {
            let regions = 1 << (order - ORDER_REGION);
            return self.foreign.chunks_exact(regions).any(|hole| hole.iter().all(|count| *count == 0));
        }
        self.find_hole(order)
    }

    /// Looks for an aligned block of an order below that of a region in which histories alone hold something.
    fn find_hole(&mut self, order: u8) -> bool {
        let region_units = REGION_UNITS;
        let hole_units = 1 << (order - ORDER_MIN);
        let mut searched = 0;
        for _ in 0..self.foreign.len() {
            let region = self.search;
            let (first, end) = (region * region_units, self.units.min((region + 1) * region_units));
            if self.foreign[region as usize] + hole_units <= end - first {
                if (first..end).step_by(hole_units as usize).any(|unit| self.is_hole(unit, hole_units)) {
                    return true;
                }
                searched += end - first;
            }
            self.search = (region + 1) % self.foreign.len() as u32;
            if searched >= UNITS_SEARCHED_MAX {
                return false;
            }
        }
        false
    }

    /// Says whether others than histories hold nothing of these units, which are those of one block that could be.
    fn is_hole(&self, first: u32, units: u32) -> bool {
        let mut unit = first;
        while unit < first + units {
            let state = self.state[unit as usize];
            if state & (FREE | HISTORY) == 0 {
                return false;
            }
            unit += 1 << ((state & ORDER) - ORDER_MIN);
        }
        true
    }

    fn count(&mut self, owner: Owner, unit: u32, order: u8, takes: bool) {
        let region = (unit >> (ORDER_REGION - ORDER_MIN)) as usize;
        let (regions, units) = match order.checked_sub(ORDER_REGION) {
            Some(more) => (1 << more, 1u32 << (ORDER_REGION - ORDER_MIN)),
            None => (1, 1 << (order - ORDER_MIN)),
        };
        let counts = if owner == Owner::History { &mut self.histories } else { &mut self.foreign };
        for count in &mut counts[region..region + regions] {
            *count = if takes { *count + units } else { *count - units };
        }
        if !takes {
            self.looks = LOOKS_UNTIL_UNUSED * self.touched_regions();
            return;
        }
        for given in &mut self.given[region..region + regions] {
            self.given_count += u32::from(*given == Given::Never);
            *given = Given::Lately;
        }
    }

    /// Returns how many regions blocks were ever taken from, or could have been.
    fn touched_regions(&self) -> u32 {
        self.fresh.div_ceil(REGION_UNITS)
    }

    /// Returns how many regions are looked at in one tick: it takes two seconds at least to go round, so that what is needed again and
    /// again is not given back in between.
    #[must_use]
    pub(in crate::shard) fn looks_a_tick(&self) -> u32 {
        (self.touched_regions() / 16).clamp(1, LOOKS_A_TICK)
    }

    /// Says whether looking for unused regions may still find some, and that would be worth it.
    #[must_use]
    pub(in crate::shard) fn has_looks(&self) -> bool {
        self.looks > 0 && self.resident_bytes() > self.used_total() + SPARE_BYTES
    }

    /// Returns the next region that nothing of was in use since the last time round, whose memory can so go back to the kernel; looks at
    /// so many regions at most, and counts them off.
    pub(in crate::shard) fn next_unused(&mut self, looks: &mut u32) -> Option<Span> {
        let touched = self.touched_regions();
        while *looks > 0 && self.looks > 0 {
            *looks -= 1;
            self.looks -= 1;
            let region = if self.sweep < touched { self.sweep } else { 0 };
            self.sweep = region + 1;
            let at = region as usize;
            if self.foreign[at] + self.histories[at] > 0 {
                continue;
            }
            match self.given[at] {
                Given::Never => {}
                Given::Lately => self.given[at] = Given::Unused,
                Given::Unused => {
                    self.given[at] = Given::Never;
                    self.given_count -= 1;
                    let (first, end) = (region * REGION_UNITS, self.units.min((region + 1) * REGION_UNITS));
                    return Some(Span { start: u64::from(first) << ORDER_MIN, len: (end - first) << ORDER_MIN });
                }
            }
        }
        None
    }

    /// Returns the bytes of the regions that the kernel has given, as far as they were ever used.
    #[must_use]
    pub(in crate::shard) fn resident_bytes(&self) -> u64 {
        u64::from(self.given_count) << ORDER_REGION
    }

    /// Says whether a block of so many bytes can be had now.
    #[must_use]
    pub(in crate::shard) fn has(&self, bytes: u32) -> bool {
        let order = order_for(bytes);
        order <= self.order_max
            && 1 << order <= self.left
            && (self.fresh < self.units || self.heads[usize::from(order)..].iter().any(|head| *head != NONE))
    }

    /// Returns how many bytes an owner holds.
    #[must_use]
    pub(in crate::shard) fn used(&self, owner: Owner) -> u64 {
        self.used[owner as usize]
    }

    /// Returns how many bytes are in use.
    #[must_use]
    pub(in crate::shard) fn used_total(&self) -> u64 {
        self.used.iter().sum()
    }

    /// Returns how many bytes there are.
    #[must_use]
    pub(in crate::shard) fn bytes_max(&self) -> u64 {
        u64::from(self.units) << ORDER_MIN
    }

    fn link(&mut self, unit: u32, order: u8) {
        let head = self.heads[usize::from(order)];
        self.state[unit as usize] = FREE | order;
        self.next[unit as usize] = head;
        self.previous[unit as usize] = NONE;
        if head != NONE {
            self.previous[head as usize] = unit;
        }
        self.heads[usize::from(order)] = unit;
    }

    fn unlink(&mut self, unit: u32, order: u8) {
        let (previous, next) = (self.previous[unit as usize], self.next[unit as usize]);
        if previous == NONE {
            self.heads[usize::from(order)] = next;
        } else {
            self.next[previous as usize] = next;
        }
        if next != NONE {
            self.previous[next as usize] = previous;
        }
        self.state[unit as usize] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random taking and giving never hands out a byte twice, and in the end everything is one piece again.
    #[test]
    fn no_byte_has_two_owners() {
        let memory_bytes = 1 << 20;
        let mut pool = Pool::new(memory_bytes);
        let mut held: Vec<Block> = Vec::new();
        let mut seed = 42u64;
        let mut refused = 0;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as u32;
            if dice % 5 < 3 {
                match pool.take(Owner::Log, 1 << ((dice >> 8) % 18)) {
                    Some(block) => held.push(block),
                    None => refused += 1,
                }
            } else if !held.is_empty() {
                let block = held.swap_remove(dice as usize % held.len());
                pool.give(Owner::Log, block);
            }
            if dice.is_multiple_of(64) {
                let mut spans: Vec<_> = held.iter().map(|block| block.span()).collect();
                spans.sort_by_key(|span| span.start);
                assert!(spans.windows(2).all(|two| two[0].start + u64::from(two[0].len) <= two[1].start));
                assert!(spans.last().is_none_or(|last| last.start + u64::from(last.len) <= memory_bytes));
                assert_eq!(pool.used_total(), spans.iter().map(|span| u64::from(span.len)).sum::<u64>());
            }
        }
        assert!(refused > 0, "the pool was never full: the test is too tame");
        for block in held.drain(..) {
            pool.give(Owner::Log, block);
        }
        assert_eq!(pool.used_total(), 0);
        let largest = block_bytes_max(memory_bytes) as u32;
        let whole: Vec<_> = std::iter::from_fn(|| pool.take(Owner::Log, largest)).collect();
        assert_eq!(whole.len() as u64 * u64::from(largest), memory_bytes, "free buddies become one again");
    }

    /// Whether a block could be had if histories gave theirs back is what the places of all others say, for every size.
    #[test]
    fn what_histories_could_give() {
        for memory_bytes in [1 << 20, 100_000] {
            let mut pool = Pool::new(memory_bytes);
            let mut held: Vec<(Owner, Block)> = Vec::new();
            let mut seed = 17u64;
            let (mut yes, mut no) = (0, 0);
            for _ in 0..4_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let dice = (seed >> 33) as u32;
                let owner = if dice & 3 == 0 { Owner::Inbound } else { Owner::History };
                if dice >> 2 & 7 < 5 {
                    held.extend(pool.take(owner, 1 << ((dice >> 8) % 13)).map(|block| (owner, block)));
                } else if !held.is_empty() {
                    let (owner, block) = held.swap_remove((dice >> 8) as usize % held.len());
                    pool.give(owner, block);
                }
                let mut foreign = vec![false; pool.units as usize];
                for (_, block) in held.iter().filter(|(owner, _)| *owner != Owner::History) {
                    let units = block.bytes() >> ORDER_MIN;
                    foreign[block.unit as usize..(block.unit + units) as usize].fill(true);
                }
                for order in ORDER_MIN..=pool.order_max + 1 {
                    let mut holes = foreign.chunks_exact(1 << (order - ORDER_MIN));
                    let expected = order <= pool.order_max && holes.any(|hole| !hole.contains(&true));
                    assert_eq!(pool.could_take(1 << order), expected, "order {order}");
                    *(if expected { &mut yes } else { &mut no }) += 1;
                }
            }
            assert!(yes > 100 && no > 100, "{yes} yes, {no} no: the test is too tame");
        }
    }

    /// What is larger than the largest block is refused, not cut.
    #[test]
    fn too_large_is_refused() {
        let mut pool = Pool::new(1 << 20);
        assert_eq!(pool.take(Owner::Inbound, block_bytes_max(1 << 20) as u32 + 1), None);
    }

    /// What a peak took goes back to the kernel when it was unused for two rounds, and no sooner; what is used again and again stays, and
    /// when nothing changes any more nobody looks any more.
    #[test]
    fn a_peak_is_given_back() {
        let mut memory = crate::io::memory::Memory::reserve(16 << 20).unwrap();
        let mut pool = Pool::new(16 << 20);
        let kept = pool.take(Owner::History, 300).unwrap();
        memory.bytes_mut(kept.span()).fill(7);
        let mut peak: Vec<Block> = std::iter::from_fn(|| pool.take(Owner::Log, 5_000)).collect();
        for block in &peak {
            memory.bytes_mut(block.span()).fill(1);
        }
        let place = peak[900].span();
        assert!(pool.resident_bytes() > 15 << 20);
        for block in peak.drain(..) {
            pool.give(Owner::Log, block);
        }
        let mut round = |pool: &mut Pool| {
            // What comes and goes all the time.
            let steady = pool.take(Owner::Private, 1_000).unwrap();
            memory.bytes_mut(steady.span()).fill(3);
            pool.give(Owner::Private, steady);
            let mut looks = pool.touched_regions();
            while let Some(span) = pool.next_unused(&mut looks) {
                memory.discard(span);
            }
            memory.bytes(place)[0]
        };
        assert_eq!((round(&mut pool), pool.resident_bytes() > 15 << 20), (1, true), "not at once");
        assert_eq!(round(&mut pool), 0, "its pages are empty again");
        assert!(pool.resident_bytes() <= 2 << ORDER_REGION, "{} bytes are left", pool.resident_bytes());
        round(&mut pool);
        assert!(pool.resident_bytes() >= 1 << ORDER_REGION, "what is in use is left alone");
        assert_eq!(memory.bytes(kept.span())[0], 7);
        let mut looks = u32::MAX;
        while pool.next_unused(&mut looks).is_some() {}
        assert!(!pool.has_looks() && looks > 0);
    }

    /// What is held besides blocks is taken off what there is for blocks, and half is always for them.
    #[test]
    fn blocks_and_the_rest_share_a_budget() {
        let mut pool = Pool::new(1 << 20);
        pool.set_besides(Besides { tables: 300 << 10, busy: 0, scratch: 0 });
        let held: Vec<Block> = std::iter::from_fn(|| pool.take(Owner::Log, 4096)).collect();
        assert_eq!(pool.used_total(), (1 << 20) - (300 << 10));
        assert!(!pool.has(256) && !pool.could_take(256));
        let word = pool.take(Owner::Private, 300).expect("who is refused is told");
        assert!(pool.take(Owner::Private, 3_000).is_none());
        pool.give(Owner::Private, word);
        pool.set_besides(Besides { tables: 2 << 20, busy: 0, scratch: 0 });
        for block in held {
            pool.give(Owner::Log, block);
        }
        let held = std::iter::from_fn(|| pool.take(Owner::Log, 4096)).count();
        assert_eq!(held as u64 * 4096, 1 << 19);
    }

    /// Busy connections cost what is arriving a part of its share.
    #[test]
    fn busy_connections_are_of_the_share_of_what_arrives() {
        let mut pool = Pool::new(1 << 20);
        let arriving = |pool: &mut Pool| std::iter::from_fn(|| pool.take(Owner::Inbound, 1024)).count() << 10;
        assert_eq!(arriving(&mut pool), 3 << 17);
        let mut pool = Pool::new(1 << 20);
        pool.set_besides(Besides { tables: 0, busy: 200 << 10, scratch: 0 });
        assert_eq!(arriving(&mut pool), (7 << 16) - (200 << 10));
    }

    /// Giving a block back twice stops the shard.
    #[test]
    #[should_panic(expected = "not in use")]
    fn giving_twice_is_a_bug() {
        let mut pool = Pool::new(1 << 20);
        let block = pool.take(Owner::Log, 300).unwrap();
        pool.give(Owner::Log, block);
        pool.give(Owner::Log, block);
    }
}
