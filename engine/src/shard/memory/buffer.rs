//! A byte buffer in one pooled block: what a single connection has waiting, in or out. Empty, it holds no memory.

use crate::io::memory::{Memory, Span};
use crate::shard::memory::pool::{Block, Owner};
use crate::shard::topic::chain::Store;

/// The buffer.
#[derive(Debug)]
pub(in crate::shard) struct Buffer {
    owner: Owner,
    block: Option<Block>,
    start: u32,
    end: u32,
}

impl Buffer {
    /// Makes an empty buffer.
    #[must_use]
    pub(in crate::shard) const fn new(owner: Owner) -> Buffer {
        Buffer { owner, block: None, start: 0, end: 0 }
    }

    /// Returns the number of bytes held.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> u32 {
        self.end - self.start
    }

    /// Says whether no byte is held.
    #[must_use]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the memory that it holds, in bytes.
    #[must_use]
    pub(in crate::shard) fn block_bytes(&self) -> u32 {
        self.block.map_or(0, |block| block.bytes())
    }

    /// Returns where the bytes lie.
    #[must_use]
    pub(in crate::shard) fn span(&self) -> Span {
        self.block.map_or(Span::default(), |block| block.span().part(self.start, self.len()))
    }

    /// Makes room for `len` more bytes at the end, and returns the place; `None` if there is no memory.
    pub(in crate::shard) fn reserve(&mut self, store: &mut Store, memory: &mut Memory, len: u32) -> Option<Span> {
        self.make_room(store, memory, len)?;
        let place = self.block?.span().part(self.end, len);
        self.end += len;
        Some(place)
    }

    /// Makes room for `len` more bytes, if there is memory for that; says whether there is.
    pub(in crate::shard) fn expect(&mut self, store: &mut Store, memory: &mut Memory, len: u32) -> bool {
        self.make_room(store, memory, len).is_some()
    }

    /// Appends bytes; says false, and changes nothing, if there is no memory.
    #[must_use]
    pub(in crate::shard) fn push(&mut self, store: &mut Store, memory: &mut Memory, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let Ok(len) = u32::try_from(bytes.len()) else { return false };
        match self.reserve(store, memory, len) {
            Some(place) => {
                memory.bytes_mut(place).copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Puts the bytes at `from`, which lie outside this buffer, before its first byte; says false if there is no memory.
    #[must_use]
    pub(in crate::shard) fn push_front(&mut self, store: &mut Store, memory: &mut Memory, from: Span) -> bool {
        let held = self.len();
        if self.make_room(store, memory, from.len).is_none() {
            return false;
        }
        let Some(block) = self.block else { return true };
        let span = block.span();
        let old = span.part(self.start, held);
        let moved = span.part(self.start + from.len, held);
        memory.copy(old, moved, held);
        memory.copy(from, span.part(self.start, from.len), from.len);
        self.end += from.len;
        true
    }

    /// Puts bytes before the one at `at`; says false, and changes nothing, if there is no memory.
    ///
    /// # Panics
    /// If fewer than `at` bytes are held.
    #[must_use]
    pub(in crate::shard) fn insert(&mut self, store: &mut Store, memory: &mut Memory, at: u32, bytes: &[u8]) -> bool {
        let held = self.len();
        assert!(at <= held, "there is no such place");
        let Some(place) = self.reserve(store, memory, bytes.len() as u32) else { return false };
        let Some(block) = self.block else { return true };
        let from = self.start + at;
        let behind = block.span().part(from, held - at);
        memory.copy(behind, block.span().part(from + place.len, held - at), held - at);
        memory.bytes_mut(block.span().part(from, place.len)).copy_from_slice(bytes);
        true
    }

    /// Returns where the last `len` consumed bytes lie, and all that are held behind them.
    ///
    /// # Panics
    /// If fewer were consumed since room was last made.
    #[must_use]
    pub(in crate::shard) fn span_with_consumed(&self, len: u32) -> Span {
        self.block.map_or(Span::default(), |block| block.span().part(self.start - len, self.len() + len))
    }

    /// Forgets what is behind the first `len` bytes.
    pub(in crate::shard) fn truncate(&mut self, len: u32) {
        self.end = self.end.min(self.start + len);
    }

    /// Takes `len` bytes off the front.
    ///
    /// # Panics
    /// If there are fewer.
    pub(in crate::shard) fn consume(&mut self, len: u32) {
        assert!(len <= self.len(), "more consumed than held");
        self.start += len;
    }

    /// Takes back the last `len` bytes that were consumed.
    ///
    /// # Panics
    /// If fewer were.
    pub(in crate::shard) fn unconsume(&mut self, len: u32) {
        assert!(len <= self.start, "more taken back than consumed");
        self.start -= len;
    }

    /// Gives the block back, if no byte is held.
    pub(in crate::shard) fn release_if_empty(&mut self, store: &mut Store) {
        if self.is_empty() {
            self.clear(store);
        }
    }

    /// Forgets all bytes and gives the block back.
    pub(in crate::shard) fn clear(&mut self, store: &mut Store) {
        if let Some(block) = self.block.take() {
            store.pool.give(self.owner, block);
        }
        self.start = 0;
        self.end = 0;
    }

    fn make_room(&mut self, store: &mut Store, memory: &mut Memory, len: u32) -> Option<()> {
        let held = self.len();
        let needed = held.checked_add(len)?;
        if let Some(block) = self.block {
            if self.end.checked_add(len)? <= block.bytes() {
                return Some(());
            }
            if needed <= block.bytes() / 2 {
                // Much was consumed: moving to the front costs less than what came in since.
                memory.copy(self.span(), block.span(), held);
                self.start = 0;
                self.end = held;
                return Some(());
            }
        }
        let larger = store.pool.take(self.owner, needed)?;
        if let Some(block) = self.block.replace(larger) {
            memory.copy(block.span().part(self.start, held), larger.span(), held);
            store.pool.give(self.owner, block);
        }
        self.start = 0;
        self.end = held;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer behaves like a plain byte vector under pushing at both ends, inserting, consuming and taking back.
    #[test]
    fn like_a_vector() {
        let mut memory = Memory::reserve(1 << 20).unwrap();
        let mut store = Store::new(1 << 20);
        let outside = store.pool.take(Owner::Log, 256).unwrap().span();
        memory.bytes_mut(outside).fill(0xEE);
        let mut buffer = Buffer::new(Owner::Private);
        let mut list: Vec<u8> = Vec::new();
        let mut seed = 11u64;
        for n in 0..20_000u32 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as u32;
            match dice % 6 {
                5 => {
                    let at = (dice >> 8) % (buffer.len() + 1);
                    let bytes = vec![n as u8; (dice >> 20) as usize % 130];
                    assert!(buffer.insert(&mut store, &mut memory, at, &bytes));
                    list.splice(at as usize..at as usize, bytes);
                }
                0 | 1 => {
                    let bytes = vec![n as u8; (dice >> 8) as usize % 700];
                    assert!(buffer.push(&mut store, &mut memory, &bytes));
                    list.extend(bytes);
                }
                2 => {
                    let from = outside.part(0, (dice >> 8) % 200);
                    assert!(buffer.push_front(&mut store, &mut memory, from));
                    list.splice(0..0, vec![0xEE; from.len as usize]);
                }
                _ => {
                    let len = (dice >> 8) % (buffer.len() + 1);
                    buffer.consume(len);
                    let back = len / 3;
                    let before = memory.bytes(buffer.span_with_consumed(len)).to_vec();
                    assert_eq!(before, list);
                    buffer.unconsume(back);
                    list.drain(..(len - back) as usize);
                    buffer.release_if_empty(&mut store);
                }
            }
            assert_eq!(memory.bytes(buffer.span()), list);
        }
        buffer.clear(&mut store);
        assert_eq!(store.pool.used(Owner::Private), 0);
    }
}
