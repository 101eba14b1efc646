//! Words of a request that are still needed when it is answered: the page it comes from, its topic, its event name or callback, its key.
//!
//! They lie one behind the other in a block, and only as long as they are needed: what waits for a message, a million long polls
//! perhaps, mostly has none.

use corecast_protocol::message::KEY_BYTES_MAX;
use corecast_protocol::topic::TOPIC_BYTES_MAX;

use crate::io::memory::Memory;
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::topic::chain::Store;

/// Longest event name or callback, in bytes.
const EVENT_BYTES_MAX: usize = 64;

/// Words of one request.
#[derive(Debug)]
pub(in crate::shard) struct Words {
    bytes: Buffer,
    origin_len: u16,
    topic_len: u8,
    key_len: u8,
}

/// A word, copied out of its block: so that others can be written into the same memory.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Word<const MAX: usize> {
    bytes: [u8; MAX],
    len: u16,
}

impl<const MAX: usize> Word<MAX> {
    fn of(bytes: &[u8]) -> Word<MAX> {
        let mut word = Word { bytes: [0; MAX], len: bytes.len() as u16 };
        word.bytes[..bytes.len()].copy_from_slice(bytes);
        word
    }

    /// Returns it as text.
    #[must_use]
    pub(in crate::shard) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only checked words are kept")
    }
}

impl Words {
    /// Makes none.
    #[must_use]
    pub(in crate::shard) fn new() -> Words {
        Words { bytes: Buffer::new(Owner::Inbound), origin_len: 0, topic_len: 0, key_len: 0 }
    }

    /// Begins a request: forgets the words of the last one, and keeps where this one comes from; says false if there is no memory.
    #[must_use]
    pub(in crate::shard) fn begin(&mut self, store: &mut Store, memory: &mut Memory, origin: &str) -> bool {
        self.clear(store);
        let kept = self.bytes.push(store, memory, origin.as_bytes());
        self.origin_len = if kept { origin.len() as u16 } else { 0 };
        kept
    }

    /// Keeps the topic, the key, and the event name, or callback; empty for none. Says false if there is no memory.
    #[must_use]
    pub(in crate::shard) fn name(
        &mut self,
        (store, memory): (&mut Store, &mut Memory),
        topic: &str,
        event: &str,
        key: &str,
    ) -> bool {
        self.bytes.truncate(u32::from(self.origin_len));
        (self.topic_len, self.key_len) = (0, 0);
        let kept = [topic, key, event].into_iter().all(|word| self.bytes.push(store, memory, word.as_bytes()));
        if kept {
            (self.topic_len, self.key_len) = (topic.len() as u8, key.len() as u8);
        } else {
            self.bytes.truncate(u32::from(self.origin_len));
        }
        kept
    }

    /// Returns the origin of the page that asks, if it may; empty otherwise.
    #[must_use]
    pub(in crate::shard) fn origin<const MAX: usize>(&self, memory: &Memory) -> Word<MAX> {
        Word::of(&self.all(memory)[..usize::from(self.origin_len)])
    }

    /// Returns the topic.
    #[must_use]
    pub(in crate::shard) fn topic(&self, memory: &Memory) -> Word<TOPIC_BYTES_MAX> {
        let start = usize::from(self.origin_len);
        Word::of(&self.all(memory)[start..start + usize::from(self.topic_len)])
    }

    /// Returns the event name, or the callback; empty for none.
    #[must_use]
    pub(in crate::shard) fn event(&self, memory: &Memory) -> Word<EVENT_BYTES_MAX> {
        let names = usize::from(self.origin_len) + usize::from(self.topic_len) + usize::from(self.key_len);
        Word::of(&self.all(memory)[names..])
    }

    /// Returns the key; empty for none.
    #[must_use]
    pub(in crate::shard) fn key(&self, memory: &Memory) -> Word<KEY_BYTES_MAX> {
        let start = usize::from(self.origin_len) + usize::from(self.topic_len);
        Word::of(&self.all(memory)[start..start + usize::from(self.key_len)])
    }

    /// Returns the memory that they hold, in bytes.
    #[must_use]
    pub(in crate::shard) fn block_bytes(&self) -> u32 {
        self.bytes.block_bytes()
    }

    /// Forgets all of them.
    pub(in crate::shard) fn clear(&mut self, store: &mut Store) {
        self.bytes.clear(store);
        (self.origin_len, self.topic_len, self.key_len) = (0, 0, 0);
    }

    fn all<'m>(&self, memory: &'m Memory) -> &'m [u8] {
        memory.bytes(self.bytes.span())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words come back as they were, whichever of them there are; those of the last request never do.
    #[test]
    fn words_of_one_request() {
        let mut memory = Memory::reserve(1 << 16).unwrap();
        let mut store = Store::new(1 << 16);
        let mut words = Words::new();
        for origin in ["", "https://a.example"] {
            for (topic, event, key) in
                [("a/b", "tick", ""), ("", "callback", ""), ("t", "", "k"), ("", "", ""), ("t", "e", "k")]
            {
                assert!(words.begin(&mut store, &mut memory, origin));
                assert_eq!((words.topic(&memory).text(), words.event(&memory).text()), ("", ""));
                assert!(words.name((&mut store, &mut memory), "first", "guess", "other"));
                assert!(words.name((&mut store, &mut memory), topic, event, key));
                assert_eq!(words.origin::<64>(&memory).text(), origin);
                assert_eq!((words.topic(&memory).text(), words.event(&memory).text()), (topic, event));
                assert_eq!(words.key(&memory).text(), key);
            }
        }
        words.clear(&mut store);
        assert_eq!((store.pool.used_total(), words.origin::<64>(&memory).text()), (0, ""));
    }

    /// Without memory there are none, and the page is still known if it was.
    #[test]
    fn no_memory() {
        let mut memory = Memory::reserve(1 << 12).unwrap();
        let mut store = Store::new(1 << 12);
        let mut words = Words::new();
        assert!(words.begin(&mut store, &mut memory, "https://a.example"));
        let held: Vec<_> = std::iter::from_fn(|| store.pool.take(Owner::Private, 256)).collect();
        assert!(!words.name((&mut store, &mut memory), &"t".repeat(255), "e", ""));
        assert_eq!((words.origin::<64>(&memory).text(), words.topic(&memory).text()), ("https://a.example", ""));
        held.into_iter().for_each(|block| store.pool.give(Owner::Private, block));
    }
}
