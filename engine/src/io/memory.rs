//! The memory that the kernel reads from: one mapping per shard, addressed by spans.
//!
//! Owns: one anonymous private mapping, reserved at start and committed page by page when first written.
//! Never: allocates, frees or moves a byte after start. Who uses which span is the shard's business
//! (`shard::pool`); here a span is only a place.
//!
//! Why a mapping and not `Box`es: a send names its bytes by address until `submit` returns. With spans, a mistake in
//! the shard can send wrong bytes, but can never make the kernel read memory that is gone, so the shard needs no
//! `unsafe`. Soundness rests on three facts: the mapping lives as long as `Memory`, a `Driver` owns its `Memory` and
//! finishes every send inside `submit`, and a span is checked against the mapping before it becomes an address.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// Pieces of the allocator from so many bytes on are mapped by themselves, and go back to the kernel when they are freed. That is what
/// glibc begins with, but it raises the bound each time such a piece is freed, up to 32 MiB: then the chunks of tables, a quarter of a
/// megabyte each, would stay in its heaps.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 128 << 10;

/// Keeps large pieces of the allocator apart from each other, for the whole process: see [`MAPPED_BYTES_MIN`].
pub fn keep_large_pieces_apart() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator; it may be set at any time, from any thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
}

/// A place in a shard's [`Memory`]: where it starts and how long it is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte from the start of the mapping.
    pub start: u64,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// Returns the part of this span from `from` on, `len` bytes long.
    ///
    /// # Panics
    /// If the part does not lie within the span.
    #[must_use]
    pub fn part(self, from: u32, len: u32) -> Span {
        assert!(from as u64 + len as u64 <= self.len as u64, "part outside its span");
        Span { start: self.start + u64::from(from), len }
    }

    fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

/// One shard's block memory.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: `Memory` is the only owner of its mapping, and all access goes through `&self` or `&mut self`.
unsafe impl Send for Memory {}

impl Memory {
    /// Reserves `bytes` of address space; pages are committed when they are first written.
    ///
    /// # Errors
    /// What the kernel said (`ENOMEM`: the address space or the overcommit policy does not allow it).
    pub fn reserve(bytes: usize) -> io::Result<Memory> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("mmap without MAP_FIXED never maps address zero");
        Ok(Memory { base, bytes })
    }

    /// Returns the size of the mapping in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Says whether the mapping has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Returns the bytes at `span`.
    ///
    /// # Panics
    /// If the span does not lie within the mapping.
    #[must_use]
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.all()[span.range()]
    }

    /// Returns the bytes at `span`, for writing.
    ///
    /// # Panics
    /// If the span does not lie within the mapping.
    #[inline]
    pub fn bytes_mut(&mut self, span: Span) -> &mut [u8] {
        // SAFETY: the mapping is `bytes` long, initialised (zero pages), and borrowed mutably through `self`.
        let all = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) };
        &mut all[span.range()]
    }

    /// Returns the bytes at `from`, for reading, and those at `to`, for writing.
    ///
    /// # Panics
    /// If the two overlap, or do not lie within the mapping.
    #[inline]
    pub fn apart(&mut self, from: Span, to: Span) -> (&[u8], &mut [u8]) {
        let (from, to) = (from.range(), to.range());
        assert!(from.end <= to.start || to.end <= from.start, "the spans overlap");
        assert!(from.end <= self.bytes && to.end <= self.bytes, "span outside the mapping");
        // SAFETY: both lie within the mapping, which is initialised (zero pages) and borrowed mutably through `self`, and they are
        // apart. A range never ends before it starts, as its length is unsigned.
        unsafe {
            let base = self.base.as_ptr();
            let read = std::slice::from_raw_parts(base.add(from.start), from.len());
            (read, std::slice::from_raw_parts_mut(base.add(to.start), to.len()))
        }
    }

    /// Copies `len` bytes at the start of `from` to the start of `to`.
    ///
    /// # Panics
    /// If either place does not lie within the mapping.
    pub fn copy(&mut self, from: Span, to: Span, len: u32) {
        let (from, to) = (from.part(0, len).range(), to.part(0, len).range());
        // SAFETY: as in `bytes_mut`.
        let all = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) };
        all.copy_within(from, to.start);
    }

    /// Gives the pages of `span` back to the kernel; its bytes read as zero afterwards.
    pub fn discard(&mut self, span: Span) {
        let range = span.range();
        assert!(range.end <= self.bytes, "span outside the mapping");
        // SAFETY: the range lies within our private mapping; MADV_DONTNEED only makes its pages zero.
        unsafe {
            libc::madvise(self.base.as_ptr().add(range.start).cast(), range.len(), libc::MADV_DONTNEED);
        }
    }

    #[inline]
    fn all(&self) -> &[u8] {
        // SAFETY: the mapping is `bytes` long, initialised (zero pages), and borrowed through `self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference to it outlives `self`.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written at a span is read there again, and nothing else changes.
    #[test]
    fn spans_are_places() {
        let mut memory = Memory::reserve(1 << 20).unwrap();
        let span = Span { start: 4096, len: 5 };
        memory.bytes_mut(span).copy_from_slice(b"hello");
        assert_eq!(memory.bytes(span), b"hello");
        assert_eq!(memory.bytes(span.part(1, 3)), b"ell");
        let to = Span { start: 4098, len: 5 };
        memory.copy(span, to, 5);
        assert_eq!(memory.bytes(to), b"hello");
        assert_eq!(memory.bytes(Span { start: 4096, len: 2 }), b"he");
        memory.discard(Span { start: 4096, len: 4096 });
        assert_eq!(memory.bytes(span), [0; 5]);
    }

    /// A span outside the mapping stops the shard instead of reading foreign memory.
    #[test]
    #[should_panic(expected = "out of range")]
    fn outside_is_refused() {
        let memory = Memory::reserve(4096).unwrap();
        let _ = memory.bytes(Span { start: 4090, len: 7 });
    }
}
