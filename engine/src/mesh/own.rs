//! A shard's ring to itself. No other core sees it, so it begins at its beginning whenever it is empty: a lonely message finds
//! the memory of the last one, still in the core's cache, where a ring would go on through all of its bytes.
//!
//! Owns: bytes. Never: knows what a packet means beyond its length.

use super::packet::LENGTH_BYTES;

/// A queue of packets, bounded like every ring.
#[derive(Debug)]
pub(super) struct Own {
    bytes: Vec<u8>,
    /// Bytes at the front that were taken.
    taken: usize,
    capacity: usize,
}

impl Own {
    /// Makes an empty one of so many bytes; it takes memory as it is used.
    pub(super) fn new(capacity: usize) -> Own {
        Own { bytes: Vec::new(), taken: 0, capacity }
    }

    /// Returns how many bytes fit now.
    pub(super) fn room(&self) -> usize {
        self.capacity - (self.bytes.len() - self.taken)
    }

    /// Says whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Puts a packet in; says false, and does nothing, if it does not fit.
    pub(super) fn push(&mut self, pieces: [&[u8]; 2]) -> bool {
        let total = pieces[0].len() + pieces[1].len();
        if total > self.room() {
            return false;
        }
        if self.bytes.len() + total > 2 * self.capacity {
            // At most so much is moved as was taken since the last time.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        pieces.into_iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        true
    }

    /// Takes the next packet; says false if there is none.
    pub(super) fn pop(&mut self, into: &mut Vec<u8>) -> bool {
        let Some(head) = self.bytes[self.taken..].first_chunk::<LENGTH_BYTES>() else { return false };
        let end = self.taken + u32::from_le_bytes(*head) as usize;
        into.clear();
        into.extend_from_slice(&self.bytes[self.taken..end]);
        self.taken = end;
        if end == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u32, len: usize) -> Vec<u8> {
        let mut packet = vec![number as u8; len];
        packet[..LENGTH_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
        packet
    }

    /// Packets come out in order and whole, it never holds more than it may, and its memory stays bounded.
    #[test]
    fn in_order_and_bounded() {
        let mut own = Own::new(1000);
        let (mut said, mut heard) = (0u32, 0u32);
        let mut into = Vec::new();
        let len_of = |number: u32| LENGTH_BYTES + (number * 37 % 300) as usize;
        while heard < 10_000 {
            let room = own.room();
            let next = packet(said, len_of(said));
            if own.push([&next[..3], &next[3..]]) {
                assert!(next.len() <= room);
                said += 1;
                continue;
            }
            assert!(next.len() > room, "it is refused only if it does not fit");
            for _ in 0..=heard % 5 {
                if own.pop(&mut into) {
                    assert_eq!(into, packet(heard, len_of(heard)));
                    heard += 1;
                }
            }
            assert!(own.bytes.len() <= 2 * own.capacity);
        }
        while own.pop(&mut into) {}
        assert!(own.is_empty() && own.room() == 1000);
    }
}
