//! Sides: which view a frame log shows, and what it knows of its messages besides their frames, where somebody may be sent the newest of each key, or what changed
//! since he was sent something last.
//!
//! ```text
//!   log     [ frame 7 ] [ frame 8 ] [ frame 9 ] ...        bytes as they are sent
//!   side    [ key of 7 ] [ of 8 ] [ of 9 ] ...             a record each, by the same numbers; of logs of changes what there was before, and
//!                                                          the whole
//! ```
//!
//! A side holds no more than its log does, as far as it is looked at, and is given back with it.

use corecast_protocol::message::Op;

use crate::io::memory::{Memory, Span};
use crate::mesh::Content;
use crate::shard::memory::pool::Owner;
use crate::shard::topic::chain::{Chain, Store};
use crate::shard::topic::record;

/// Bytes of a record before what there was: hash of the key (8), what of the rest is there (1), bytes of what there was (4).
const HEAD: usize = 13;

/// What is there: only the key; the whole; what there was before, too.
const WHOLE: u8 = 1;
const BEFORE: u8 = 2;
/// It deletes all that was before.
const ENDS_ALL: u8 = 4;

/// What a log knows of its messages.
#[derive(Debug)]
pub(in crate::shard) struct Side {
    /// What the log shows.
    pub(in crate::shard) view: u32,
    chain: Chain,
    /// It knows anything of single messages.
    pub(in crate::shard) notes: bool,
    /// It keeps values, before and after.
    pub(in crate::shard) deltas: bool,
    /// What was made last for those who jumped.
    pub(in crate::shard) leap: Option<Box<Leap>>,
}

/// Frames that were made for those who jump from one position to another.
#[derive(Debug, Default)]
pub(in crate::shard) struct Leap {
    pub(in crate::shard) from: u64,
    pub(in crate::shard) to: u64,
    pub(in crate::shard) frames: Vec<u8>,
    /// How many these are.
    pub(in crate::shard) count: u64,
}

/// What is known of a message.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Noted<'m> {
    /// The hash of its key.
    pub(in crate::shard) hash: u64,
    /// All of it, and what there was before; none: not kept, or nobody knows.
    pub(in crate::shard) whole: Option<Content<'m>>,
    pub(in crate::shard) before: Option<&'m [u8]>,
    /// It deletes all that was before.
    pub(in crate::shard) ends_all: bool,
}

impl Side {
    /// Makes one that knows nothing.
    #[must_use]
    pub(in crate::shard) fn new(view: u32, notes: bool, deltas: bool) -> Side {
        Side { view, chain: Chain::new(Owner::Log, 0), notes, deltas, leap: None }
    }

    /// Notes a message; says false if there is no memory for that.
    #[must_use]
    pub(in crate::shard) fn note(
        &mut self,
        (store, memory): (&mut Store, &mut Memory),
        number: u64,
        hash: u64,
        whole: Content<'_>,
        before: Option<&[u8]>,
    ) -> bool {
        let value_len = if self.deltas { record::len_of(whole) } else { Some(0) };
        let before = before.filter(|_| self.deltas);
        let before_len = before.map_or(0, <[u8]>::len);
        let len = value_len.and_then(|len| len.checked_add((HEAD + before_len) as u32));
        let Some(place) = len.and_then(|len| self.chain.append(store, memory, number, len, self.chain.bytes())) else {
            return false;
        };
        let place = memory.bytes_mut(place);
        place[..8].copy_from_slice(&hash.to_le_bytes());
        let flag = |flag: u8, on: bool| if on { flag } else { 0 };
        let ends_all = whole.op == Op::Delete && whole.key.is_empty();
        place[8] = flag(WHOLE, self.deltas) | flag(BEFORE, before.is_some()) | flag(ENDS_ALL, ends_all);
        place[9..HEAD].copy_from_slice(&(before_len as u32).to_le_bytes());
        let (old, value) = place[HEAD..].split_at_mut(before_len);
        old.copy_from_slice(before.unwrap_or_default());
        if self.deltas {
            record::write(value, whole, 0);
        }
        true
    }

    /// Returns what is known of the message with a number; none if nothing is.
    #[must_use]
    pub(in crate::shard) fn noted<'m>(&self, store: &Store, memory: &'m Memory, number: u64) -> Option<Noted<'m>> {
        if number <= self.chain.before() || number > self.chain.last(store) {
            return None;
        }
        let position = self.chain.position_after(store, memory, number - 1);
        let span: Span = self.chain.record(store, memory, position);
        let bytes = memory.bytes(span);
        let hash = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let flags = bytes[8];
        let before_len = u32::from_le_bytes(bytes[9..HEAD].try_into().expect("four bytes")) as usize;
        let (old, value) = bytes[HEAD..].split_at(before_len);
        let whole = (flags & WHOLE != 0).then(|| record::read(value));
        let ends_all = flags & ENDS_ALL != 0;
        Some(Noted { hash, whole, before: (flags & BEFORE != 0).then_some(old), ends_all })
    }

    /// Forgets what is known of messages up to a number.
    pub(in crate::shard) fn forget_up_to(&mut self, store: &mut Store, memory: &Memory, number: u64) {
        self.leap = None;
        if number > self.chain.before() {
            let position = self.chain.position_after(store, memory, number);
            self.chain.forget_before(store, memory, position);
        }
    }

    /// Forgets everything.
    pub(in crate::shard) fn clear(&mut self, store: &mut Store) {
        self.chain.clear(store);
        self.leap = None;
    }
}
