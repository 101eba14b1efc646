//! Receive buffers: given to the kernel in a ring, lent to the shard full, and given back.
//!
//! Owns: one mapping with the buffers, one with the kernel's ring of buffer descriptors, and the knowledge of who has
//! which buffer. Never: copies a byte.
//!
//! ```text
//!    ring of descriptors (16 B each)          data
//!   +----+----+----+----+---               +--------+--------+--------+---
//!   | 17 |  3 |  9 | .. |     address -->  | buf 0  | buf 1  | buf 2  |
//!   +----+----+----+----+---               +--------+--------+--------+---
//!     ^head: kernel   ^tail: ours            kernel's | shard's (lent) | spare
//! ```
//!
//! The kernel goes round its ring, so each receive finds a buffer that was used longest ago, of all that are in the ring. Of 8 MiB
//! that is one that no cache holds, and for which the processor has to look up the page. So the kernel has only as many as it lately
//! needed, and the others are spare.
//!
//! Why the unsafe is sound: both mappings live as long as this value, and the ring that uses them is dropped first
//! (field order in [`super::ring::Ring`]). The kernel writes a buffer only while it has it, and, as the ring defers
//! its work (`DEFER_TASKRUN`), only inside our own system calls. The shard reads a buffer only while it is lent:
//! `lent` holds one bit per buffer, so a buffer used after it was given back, or given back twice, is a panic.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::driver::Lent;
use super::memory::{Memory, Span};

/// Most buffers one ring can hold (kernel: `io_uring_register(2)`, `IORING_REGISTER_PBUF_RING`).
pub const BUFFERS_MAX: u16 = 32_768;

/// The only buffer group; every receive of the ring takes from it.
pub(super) const GROUP: u16 = 0;

/// Buffers that the kernel has at least, if there are so many: 128 KiB of 2 KiB each.
const KERNEL_HAS_MIN: u32 = 64;

/// Looks at what was needed, one for each submit, after which the kernel gets fewer if it needed few.
const LOOKS_TO_SHRINK: u32 = 4_096;

/// One shard's receive buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    data: Memory,
    /// Held for `base`, which points into it.
    _descriptors: Memory,
    base: *mut BufRingEntry,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
    lent: Box<[bool]>,
    lent_count: u32,
    /// Buffers that nobody has; the one used last comes first.
    spare: Vec<u16>,
    /// Buffers that the kernel shall have, as long as the shard has none.
    wanted: u32,
    /// Most that were lent at the same time since `looks` was 0.
    needed: u32,
    looks: u32,
}

// SAFETY: `base` points into `descriptors`, which this value owns; nothing else refers to it in user space.
unsafe impl Send for Buffers {}

impl Buffers {
    /// Maps `count` buffers of `buffer_bytes` each and fills the descriptor ring.
    ///
    /// # Errors
    /// `InvalidInput` if `count` is no power of two from 1 to [`BUFFERS_MAX`] or `buffer_bytes` is zero; what the
    /// kernel said to the mapping.
    pub(super) fn new(count: u16, buffer_bytes: u32) -> io::Result<Buffers> {
        if !count.is_power_of_two() || count > BUFFERS_MAX || buffer_bytes == 0 {
            let text =
                format!("{count} receive buffers of {buffer_bytes} B: the count must be a power of two up to 32768");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let data = Memory::reserve(usize::from(count) * buffer_bytes as usize)?;
        let descriptor_bytes = u32::from(count) * size_of::<BufRingEntry>() as u32;
        let mut descriptors = Memory::reserve(descriptor_bytes as usize)?;
        let base = descriptors.bytes_mut(Span { start: 0, len: descriptor_bytes }).as_mut_ptr().cast();
        let lent = vec![true; usize::from(count)].into_boxed_slice();
        let lent_count = u32::from(count);
        let mut buffers = Buffers {
            data,
            _descriptors: descriptors,
            base,
            count,
            buffer_bytes,
            tail: 0,
            lent,
            lent_count,
            spare: Vec::with_capacity(usize::from(count)),
            wanted: KERNEL_HAS_MIN.min(u32::from(count)),
            needed: 0,
            looks: 0,
        };
        for id in (0..count).rev() {
            buffers.give(id);
        }
        Ok(buffers)
    }

    /// Returns where the descriptor ring is, for registration.
    pub(super) fn address(&self) -> u64 {
        self.base as u64
    }

    /// Returns how many buffers there are.
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Returns how many buffers the shard holds.
    pub(super) fn lent_count(&self) -> u32 {
        self.lent_count
    }

    /// Takes note that the kernel filled a buffer, and lends it on.
    #[inline]
    pub(super) fn lend(&mut self, id: u16, len: u32) -> Lent {
        let lent = &mut self.lent[usize::from(id)];
        assert!(!*lent, "the kernel filled a buffer it did not have");
        assert!(len <= self.buffer_bytes, "the kernel filled a buffer beyond its end");
        *lent = true;
        self.lent_count += 1;
        self.needed = self.needed.max(self.lent_count);
        Lent { id, len }
    }

    /// Returns how many the kernel has.
    fn kernel_has(&self) -> u32 {
        u32::from(self.count) - self.lent_count - self.spare.len() as u32
    }

    /// The kernel found no buffer: it gets all there are.
    #[cold]
    pub(super) fn ran_out(&mut self) {
        self.wanted = u32::from(self.count);
        self.needed = self.wanted;
    }

    /// Sees to it that the kernel has as many as it may need until this is asked again: four times as many as were lent at a time.
    #[inline]
    pub(super) fn provide(&mut self) {
        if self.needed > self.wanted / 4 {
            self.wanted = (4 * self.needed).next_power_of_two().min(u32::from(self.count));
        }
        while self.kernel_has() < self.wanted
            && let Some(id) = self.spare.pop()
        {
            self.put(id);
        }
        self.looks += 1;
        if self.looks == LOOKS_TO_SHRINK {
            if self.needed < self.wanted / 16 {
                self.wanted = (self.wanted / 2).max(KERNEL_HAS_MIN).min(u32::from(self.count));
            }
            (self.looks, self.needed) = (0, 0);
        }
    }

    /// Returns the bytes of a lent buffer.
    ///
    /// # Panics
    /// If it is not lent, or is said to be longer than a buffer.
    #[inline]
    pub(super) fn bytes(&mut self, lent: Lent) -> &mut [u8] {
        assert!(self.lent[usize::from(lent.id)], "a receive buffer was read after it was given back");
        assert!(lent.len <= self.buffer_bytes, "a receive buffer is longer than it can be");
        let start = u64::from(lent.id) * u64::from(self.buffer_bytes);
        self.data.bytes_mut(Span { start, len: lent.len })
    }

    /// Gives a buffer back: to the kernel, unless it has as many as it needs.
    ///
    /// # Panics
    /// If it is not lent.
    #[inline]
    pub(super) fn give(&mut self, id: u16) {
        let lent = &mut self.lent[usize::from(id)];
        assert!(*lent, "a receive buffer was given back twice");
        *lent = false;
        let kernel_has = self.kernel_has();
        self.lent_count -= 1;
        if kernel_has < self.wanted { self.put(id) } else { self.spare.push(id) }
    }

    /// Puts a buffer into the kernel's ring.
    #[inline]
    fn put(&mut self, id: u16) {
        let start = u64::from(id) * u64::from(self.buffer_bytes);
        let address = self.data.bytes(Span { start, len: self.buffer_bytes }).as_ptr() as u64;
        let place = usize::from(self.tail & (self.count - 1));
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `place` is below `count`, so the entry lies in our mapping; the kernel does not read entries
        // from the tail on. The three fields are written, not the fourth: of entry 0 that is the tail itself.
        unsafe {
            let entry = &mut *self.base.add(place);
            entry.set_addr(address);
            entry.set_len(self.buffer_bytes);
            entry.set_bid(id);
        }
        // Release: pairs with the kernel's acquire of the tail; the entry must be seen before it counts.
        // SAFETY: the tail lies in entry 0 of our mapping, is aligned, and is written by us only.
        unsafe {
            let tail = AtomicU16::from_ptr(BufRingEntry::tail(self.base).cast_mut());
            tail.store(self.tail, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the kernel would refuse are refused with a reason.
    #[test]
    fn bad_counts() {
        for (count, bytes) in [(0, 2048), (3, 2048), (8, 0), (40_000, 2048)] {
            assert_eq!(Buffers::new(count, bytes).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    /// A buffer is readable exactly while it is lent.
    #[test]
    fn lend_and_give() {
        let mut buffers = Buffers::new(4, 16).unwrap();
        let lent = buffers.lend(3, 5);
        buffers.bytes(lent).copy_from_slice(b"hello");
        assert_eq!(buffers.bytes(lent), b"hello");
        assert_eq!(buffers.lent_count(), 1);
        buffers.give(lent.id);
        assert_eq!(buffers.lent_count(), 0);
        assert_eq!(buffers.tail, 5);
    }

    /// The kernel gets back the buffer that was just used as long as it needs few, more as soon as it needs more, all there are if it
    /// found none, and fewer again in time; none is lost on the way.
    #[test]
    fn the_kernel_has_what_it_needs() {
        let mut buffers = Buffers::new(4_096, 16).unwrap();
        assert_eq!(buffers.kernel_has(), KERNEL_HAS_MIN);
        // As the kernel does it: round its ring.
        let mut taken = 0;
        let mut take = |buffers: &mut Buffers, count: u32| -> Vec<Lent> {
            (0..count)
                .map(|_| {
                    assert_ne!(taken, buffers.tail, "the kernel has none");
                    // SAFETY: the place is within the mapping, and before the tail.
                    let id = unsafe { (*buffers.base.add(usize::from(taken & 4_095))).bid() };
                    taken = taken.wrapping_add(1);
                    buffers.lend(id, 1)
                })
                .collect()
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            for lent in take(&mut buffers, 2) {
                seen.insert(lent.id);
                buffers.give(lent.id);
            }
            buffers.provide();
        }
        assert_eq!(seen.len() as u32, KERNEL_HAS_MIN);
        let many = take(&mut buffers, KERNEL_HAS_MIN);
        buffers.ran_out();
        buffers.provide();
        assert_eq!(buffers.kernel_has(), 4_096 - KERNEL_HAS_MIN);
        let more = take(&mut buffers, 4_096 - KERNEL_HAS_MIN);
        many.iter().chain(&more).for_each(|lent| buffers.give(lent.id));
        buffers.provide();
        assert_eq!((buffers.kernel_has(), buffers.lent_count()), (4_096, 0));
        // What it has it keeps until that is used; then it gets fewer back.
        for _ in 0..10 * LOOKS_TO_SHRINK {
            take(&mut buffers, 1).iter().for_each(|lent| buffers.give(lent.id));
            buffers.provide();
        }
        assert_eq!((buffers.kernel_has(), buffers.wanted), (KERNEL_HAS_MIN, KERNEL_HAS_MIN));
        take(&mut buffers, 20).iter().for_each(|lent| buffers.give(lent.id));
        buffers.provide();
        assert_eq!(buffers.kernel_has(), 128, "before it runs out");
    }

    /// Giving a buffer back twice stops the shard: otherwise two connections would share it.
    #[test]
    #[should_panic(expected = "given back twice")]
    fn given_back_twice() {
        let mut buffers = Buffers::new(4, 16).unwrap();
        let lent = buffers.lend(1, 1);
        buffers.give(lent.id);
        buffers.give(lent.id);
    }

    /// Reading a buffer that the kernel has stops the shard.
    #[test]
    #[should_panic(expected = "after it was given back")]
    fn read_after_given_back() {
        let mut buffers = Buffers::new(4, 16).unwrap();
        let lent = buffers.lend(1, 1);
        buffers.give(lent.id);
        let _ = buffers.bytes(lent);
    }
}
