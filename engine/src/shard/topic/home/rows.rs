//! Rows: the values that a topic keeps, each the newest of its key, in place of a history.
//!
//! ```text
//!   history   [ a=1 ✗ ] [ b=2 ] [ a=3 ✗ ] [ c gone ] [ a=4 ]       ✗ replaced: passed over, and left behind when the rest is copied
//!   newest     b ─────────╯        c ─────────╯          │
//!              a ────────────────────────────────────────╯
//! ```
//!
//! The history of such a topic holds a record of each key, in the order of their numbers, and some that newer ones have replaced. A deletion
//! is a record, too, as long as somebody may come back who has not heard of it: then it is forgotten, and whoever comes from before is
//! told that he does not know what is gone, and gets everything. Without a key it is the deletion of all that was before.
//!
//! Owns: which record is the newest of each key. A merge is done here, so that nobody else needs the value before. Invariant: of the
//! records in the history exactly those are not marked as replaced whose number stands in `newest`.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use corecast_protocol::message::Op;
use corecast_protocol::record as json;
use corecast_protocol::write::Writer;

use super::{Home, Homes, NONE};
use crate::io::memory::Memory;
use crate::mesh::{Content, Lost, Reason, Start};
use crate::reach::{Mark, reach};
use crate::shard::limits::{Keeps, Limits};
use crate::shard::memory::pool::Owner;
use crate::shard::topic::chain::{Chain, Store};
use crate::shard::topic::member::Resolved;
use crate::shard::topic::record;
use crate::shard::topic::values::Values;

/// Records that may be replaced before the rest is copied, however small they are: so that few are copied often.
const REPLACED_MAX: u32 = 64;

/// What a deletion of everything is known by: no key has this hash but by chance, and keys are hashed with a secret.
const ALL: u64 = 0;

/// A hash that is one already.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only hashes are hashed")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Which records of a history are values.
#[derive(Debug, Default)]
pub(in crate::shard) struct Rows {
    /// By the hash of a key, the number of its newest record.
    newest: HashMap<u64, u64, BuildHasherDefault<Taken>>,
    /// Those of them that are deletions, in their order: number and hash.
    deleted: VecDeque<(u64, u64)>,
    /// Records that are replaced.
    replaced: u32,
    /// Their bytes, and those of all others.
    replaced_bytes: u64,
    bytes: u64,
    /// Deletions up to this number are forgotten.
    gone: u64,
}

impl Rows {
    /// Says whether what had this number may have been a deletion that is forgotten, or something that was.
    pub(super) fn forgot(&self, number: u64) -> bool {
        number <= self.gone
    }

    /// Returns the bytes of memory that they hold besides the history.
    fn table_bytes(&self) -> u64 {
        // Of each place a hash, a number, and a byte.
        (self.newest.capacity() * 17 + self.deleted.capacity() * 16) as u64
    }
}

/// What recording a value did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Valued {
    /// It has this number; whether its key had a value before, which is in the scratch then.
    Recorded(u64, bool),
    /// There was nothing to delete: this is the newest number.
    Nothing(u64),
}

impl Homes {
    /// Returns how many records of a home are passed over.
    pub(super) fn replaced(&self, home: &Home) -> u32 {
        self.tables.get(home.table as usize).map_or(0, |rows| rows.replaced)
    }

    /// Says whether a home keeps values.
    pub(in crate::shard) fn has_rows(&self, index: u32) -> bool {
        self.homes.get(index as usize).is_some_and(|home| home.table != NONE)
    }

    /// Sees to it that a home keeps values, or a history, as its terms say: what it kept otherwise is forgotten.
    pub(in crate::shard) fn fit(&mut self, index: u32, keeps: Keeps, store: &mut Store) {
        let home = &self.homes[index as usize];
        if keeps.mode.is_table() == (home.table != NONE) {
            return;
        }
        self.forget_all(index, store);
        if keeps.mode.is_table() {
            let table = self.tables.insert(Rows::default()) as u32;
            self.homes[index as usize].table = table;
            self.list_bytes += size_of::<Rows>() as u64;
        } else {
            self.drop_rows(index);
        }
    }

    /// A home keeps no values any more, and has none.
    pub(super) fn drop_rows(&mut self, index: u32) {
        let table = std::mem::replace(&mut self.homes[index as usize].table, NONE);
        if table != NONE {
            let rows = self.tables.remove(table as usize);
            self.list_bytes -= size_of::<Rows>() as u64 + rows.table_bytes();
        }
    }

    /// All values of a home are forgotten, and nobody knows of which keys.
    pub(super) fn forget_rows(&mut self, index: u32, store: &Store) {
        let home = &self.homes[index as usize];
        let Some(rows) = self.tables.get_mut(home.table as usize) else { return };
        self.list_bytes -= rows.table_bytes();
        *rows = Rows { gone: home.head(store), ..Rows::default() };
    }

    /// Nobody who comes from before the newest number knows what was deleted.
    pub(super) fn deletions_are_gone(&mut self, index: u32, store: &Store) {
        let home = &self.homes[index as usize];
        if let Some(rows) = self.tables.get_mut(home.table as usize) {
            rows.gone = home.head(store);
        }
    }

    /// Records a value of a key, or what changes it, or that it is gone.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::shard) fn record_value(
        &mut self,
        index: u32,
        key_hash: u64,
        content: Content<'_>,
        values: &mut Values,
        (store, memory): (&mut Store, &mut Memory),
        limits: &Limits,
        now_ms: u64,
    ) -> Result<Valued, Reason> {
        let keeps = self.keeps(index, limits);
        self.fit(index, keeps, store);
        let home = &self.homes[index as usize];
        let rows = &self.tables[home.table as usize];
        let hash = place_of(key_hash, content);
        let known = rows.newest.get(&hash).copied();
        let old = known.map(|number| home.record_of(store, memory, number)).filter(|old| old.op != Op::Delete);
        let (had, old_len) = (old.is_some(), old.map_or(0, |old| old.payload.len()));
        values.old.clear();
        values.old.extend_from_slice(old.map_or(&[], |old| old.payload));
        let head = home.head(store);
        let mut content = Content { at_us: 0, ..content };
        match content.op {
            Op::Delete if hash == ALL && rows.newest.len() == rows.deleted.len() => return Ok(Valued::Nothing(head)),
            Op::Delete if hash != ALL && !had => return Ok(Valued::Nothing(head)),
            Op::Merge => {
                values.new.resize(old_len + content.payload.len() + 2, 0);
                values.scratch();
                let mut w = Writer::new(&mut values.new);
                let target: &[u8] = if had { &values.old } else { b"{}" };
                let merged = json::merge(target, content.payload, &mut values.members, &mut w);
                let len = merged.ok().and_then(|()| w.finish().ok()).ok_or(Reason::TooLarge)?;
                values.new.truncate(len);
                content = Content { payload: &values.new, op: Op::Put, text: true, ..content };
                if limits.is_too_large(self.names.text(home.name), len) {
                    return Err(Reason::TooLarge);
                }
            }
            Op::Put | Op::Delete => {}
        }
        let Some(len) = record::len_of(content) else { return Err(Reason::TooLarge) };
        if content.op == Op::Put {
            let live = rows.newest.len() - rows.deleted.len();
            let bytes = rows.bytes + u64::from(len) - known.map_or(0, |number| home.bytes_of(store, memory, number));
            if !had && live >= keeps.rows as usize || bytes > u64::from(keeps.row_bytes) {
                return Err(Reason::Rows);
            }
        }
        if hash == ALL {
            // Nothing that was before has to be told to anybody.
            self.forget_all(index, store);
            self.tables[self.homes[index as usize].table as usize].gone = 0;
        }
        let home = &self.homes[index as usize];
        let number = home.numbering.number(home.epoch, home.numbering.count(home.epoch, head) + 1);
        if !self.append(index, number, len, content, keeps, (store, memory), now_ms) {
            return Err(Reason::Full);
        }
        self.replace(index, key_hash, number, len, content, (store, memory));
        self.forget_deletions(index, keeps, (store, memory), now_ms);
        self.leave_replaced(index, (store, memory));
        self.touch(index);
        Ok(Valued::Recorded(number, had))
    }

    /// The newest record of a key is another one now.
    pub(super) fn replace(
        &mut self,
        index: u32,
        key_hash: u64,
        number: u64,
        len: u32,
        content: Content<'_>,
        (store, memory): (&Store, &mut Memory),
    ) {
        let (hash, op) = (place_of(key_hash, content), content.op);
        let home = &self.homes[index as usize];
        let rows = &mut self.tables[home.table as usize];
        let before = rows.table_bytes();
        if let Some(old) = rows.newest.insert(hash, number) {
            // What stood before may have been a deletion.
            if let Ok(place) = rows.deleted.binary_search_by_key(&old, |(number, _)| *number) {
                rows.deleted.remove(place);
            }
            home.pass_over(rows, store, memory, old);
        }
        if op == Op::Delete {
            rows.deleted.push_back((number, hash));
        }
        rows.bytes += u64::from(len);
        self.list_bytes = self.list_bytes + rows.table_bytes() - before;
    }

    /// Forgets deletions that are too old, or too many; the newest record of all stays, so that everybody has come as far as its number.
    pub(super) fn forget_deletions(
        &mut self,
        index: u32,
        keeps: Keeps,
        (store, memory): (&Store, &mut Memory),
        now_ms: u64,
    ) {
        let home = &self.homes[index as usize];
        let Some(rows) = self.tables.get_mut(home.table as usize) else { return };
        let head = home.history.last(store);
        while let Some((number, hash)) = rows.deleted.front().copied().filter(|(number, _)| *number < head) {
            let position = home.history.position_after(store, memory, number - 1);
            let span = home.history.record(store, memory, position);
            let old = record::time_in(memory.bytes(span)) + keeps.ms < now_ms;
            if !old && rows.deleted.len() <= keeps.rows as usize {
                break;
            }
            reach(Mark::DeletionForgotten);
            rows.deleted.pop_front();
            rows.newest.remove(&hash);
            rows.gone = number;
            home.pass_over(rows, store, memory, number);
        }
    }

    /// Copies a history without what was replaced, once that is more than the rest.
    fn leave_replaced(&mut self, index: u32, (store, memory): (&mut Store, &mut Memory)) {
        let home = &mut self.homes[index as usize];
        let rows = &mut self.tables[home.table as usize];
        if rows.replaced <= REPLACED_MAX || rows.replaced_bytes <= rows.bytes {
            return;
        }
        let mut copy: Option<Chain> = None;
        let mut position = home.history.first();
        while position < home.history.next() {
            let span = home.history.record(store, memory, position);
            if !record::is_replaced(memory.bytes(span)) {
                let number = home.history.number(store, memory, position);
                let copy = copy.get_or_insert_with(|| Chain::new(Owner::History, number - 1));
                let Some(place) = copy.append(store, memory, number, span.len, copy.bytes()) else {
                    // No memory for both: they stay.
                    copy.clear(store);
                    return;
                };
                memory.copy(span, place, span.len);
            }
            position += 1;
        }
        let Some(copy) = copy else { return };
        reach(Mark::ReplacedLeft);
        let mut old = std::mem::replace(&mut home.history, copy);
        old.clear(store);
        (rows.replaced, rows.replaced_bytes) = (0, 0);
        home.payload_bytes = rows.bytes;
    }

    /// Finds out where a replay of values starts.
    #[must_use]
    pub(in crate::shard) fn resolve_rows(&self, index: u32, store: &Store, memory: &Memory, start: Start) -> Resolved {
        let home = &self.homes[index as usize];
        let rows = &self.tables[home.table as usize];
        let (first, next) = (home.history.first(), home.history.next());
        let behind = |epoch, seq| {
            if seq < rows.gone {
                let lost = Lost { after_epoch: epoch, after_seq: seq, count: 0, epoch_changed: false };
                return Resolved { first, lost: Some(lost) };
            }
            let position =
                if seq < home.history.before() { first } else { home.history.position_after(store, memory, seq) };
            Resolved { first: position, lost: None }
        };
        match start {
            Start::Latest | Start::Earliest => Resolved { first, lost: None },
            Start::Live => Resolved { first: next, lost: None },
            Start::Last(n) => {
                let (mut position, mut left) = (next, n);
                while position > first && left > 0 {
                    position -= 1;
                    left -= u32::from(!home.is_replaced(store, memory, position));
                }
                Resolved { first: position, lost: None }
            }
            // The cursor of a topic that did not exist yet.
            Start::After { epoch: 0, seq: 0 } if rows.gone == 0 => Resolved { first, lost: None },
            Start::After { epoch, seq } if epoch != home.epoch || seq > home.head(store) => {
                let lost = Lost { after_epoch: epoch, after_seq: seq, count: 0, epoch_changed: true };
                Resolved { first, lost: Some(lost) }
            }
            Start::After { epoch, seq } => behind(epoch, seq),
            Start::Behind(seq) => behind(home.epoch, seq),
        }
    }

    /// Checks that the rows of each home are those of its history.
    #[cfg(test)]
    pub(in crate::shard) fn check_rows(&self, store: &Store, memory: &Memory) {
        for (_, home) in self.homes.iter() {
            let Some(rows) = self.tables.get(home.table as usize) else { continue };
            let (mut replaced, mut bytes, mut replaced_bytes) = (0, 0, 0);
            for position in home.history.first()..home.history.next() {
                let span = home.history.record(store, memory, position);
                let number = home.history.number(store, memory, position);
                let is_newest = rows.newest.values().any(|newest| *newest == number);
                assert_ne!(
                    is_newest,
                    record::is_replaced(memory.bytes(span)),
                    "invariant 22: {number} is replaced or newest"
                );
                *(if is_newest { &mut bytes } else { &mut replaced_bytes }) += u64::from(span.len);
                replaced += u32::from(!is_newest);
            }
            let counted = (rows.replaced, rows.bytes, rows.replaced_bytes);
            assert_eq!(counted, (replaced, bytes, replaced_bytes), "invariant 22: what is replaced");
            assert!(rows.deleted.iter().is_sorted(), "invariant 22: deletions stand in order");
        }
    }
}

/// Returns what the key of a content is known by.
fn place_of(key_hash: u64, content: Content<'_>) -> u64 {
    if content.key.is_empty() && content.op == Op::Delete { ALL } else { key_hash }
}

impl Home {
    /// Returns the record with a number, which the history holds.
    fn record_of<'m>(&self, store: &Store, memory: &'m Memory, number: u64) -> Content<'m> {
        let position = self.history.position_after(store, memory, number - 1);
        self.content(store, memory, position)
    }

    fn bytes_of(&self, store: &Store, memory: &Memory, number: u64) -> u64 {
        let position = self.history.position_after(store, memory, number - 1);
        self.history.record(store, memory, position).len.into()
    }

    /// Says whether the record at a position is replaced by a newer one.
    #[must_use]
    pub(in crate::shard) fn is_replaced(&self, store: &Store, memory: &Memory, position: u64) -> bool {
        self.table != NONE && record::is_replaced(memory.bytes(self.history.record(store, memory, position)))
    }

    /// The record with a number is passed over from now on, if the history still holds it.
    fn pass_over(&self, rows: &mut Rows, store: &Store, memory: &mut Memory, number: u64) {
        let position = self.history.position_after(store, memory, number - 1);
        let span = self.history.record(store, memory, position);
        record::mark_replaced(memory.bytes_mut(span));
        rows.replaced += 1;
        rows.replaced_bytes += u64::from(span.len);
        rows.bytes -= u64::from(span.len);
    }
}

#[cfg(test)]
mod tests;
