//! What a home has to do with patterns: which of them match its topic, and what of their messages it remembers.

use corecast_protocol::message::Op;
use corecast_protocol::pattern;

use super::{Homes, NONE};
use crate::io::memory::Memory;
use crate::mesh::Content;
use crate::shard::limits::Limits;
use crate::shard::pattern::journal::{Entry, Journal};
use crate::shard::rules::Mode;
use crate::shard::topic::chain::Store;

/// The newest message of a topic.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Newest {
    /// Its number in the journal.
    pub(in crate::shard) number: u64,
    /// The topic.
    pub(in crate::shard) home: u32,
    /// Bytes of topic, event name and payload.
    pub(in crate::shard) bytes: usize,
}

/// A message that a home remembers.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Remembered<'m> {
    pub(in crate::shard) topic: &'m str,
    pub(in crate::shard) epoch: u32,
    pub(in crate::shard) seq: u64,
    pub(in crate::shard) content: Content<'m>,
}

/// A message that a home knew, and does not remember.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Forgotten<'m> {
    /// Empty if its topic is gone.
    pub(in crate::shard) topic: &'m str,
    /// Number of the message before it.
    pub(in crate::shard) after: u64,
}

impl Homes {
    /// Notes the number in the journal of a home's newest message; returns the set of patterns that match its topic.
    #[inline]
    pub(in crate::shard) fn journal(&mut self, index: u32, number: u64, journal: &mut Journal) -> u32 {
        let home = &mut self.homes[index as usize];
        home.journaled = number;
        if !journal.knows(home.patterns) {
            if journal.begins_anew() {
                for place in 0..self.homes.bound() {
                    if let Some(home) = self.homes.get_mut(place) {
                        home.patterns = 0;
                    }
                }
            }
            let home = &mut self.homes[index as usize];
            home.patterns = journal.set_of(self.names.text(home.name));
        }
        self.homes[index as usize].patterns
    }

    /// Returns the newest message of the topic at a place, if that matches a pattern and its number in the journal is behind one and up to
    /// another.
    pub(in crate::shard) fn newest(
        &self,
        (store, memory): (&Store, &Memory),
        place: usize,
        pattern: &str,
        (after, up_to): (Option<u64>, u64),
        limits: &Limits,
    ) -> Option<Newest> {
        let home = self.homes.get(place)?;
        let number = home.journaled;
        if home.history.is_empty() || number > up_to || after.is_some_and(|after| number <= after) {
            return None;
        }
        let topic = self.names.text(home.name);
        if !pattern::matches(pattern, topic) || limits.keeps(home.terms).mode == Mode::Raw {
            return None;
        }
        let position = home.history.next() - 1;
        if home.table != NONE && home.content(store, memory, position).op == Op::Delete {
            return None;
        }
        let bytes = topic.len() + home.content_len(store, memory, position);
        Some(Newest { number, home: place as u32, bytes })
    }

    /// Returns the newest message of a home that remembers one.
    pub(in crate::shard) fn newest_of<'m>(&'m self, store: &Store, memory: &'m Memory, index: u32) -> Remembered<'m> {
        let home = &self.homes[index as usize];
        let position = home.history.next() - 1;
        Remembered {
            topic: self.names.text(home.name),
            epoch: home.epoch,
            seq: home.head(store),
            content: home.content(store, memory, position),
        }
    }

    /// Returns the message of an entry, if its home remembers it; otherwise what is still known of it. None: a newer value of its key has
    /// replaced it, which has an entry of its own.
    pub(in crate::shard) fn entered<'m>(
        &'m self,
        store: &Store,
        memory: &'m Memory,
        entry: &Entry,
    ) -> Result<Option<Remembered<'m>>, Forgotten<'m>> {
        let Some(home) = self.homes.get(entry.home as usize).filter(|home| home.epoch == entry.epoch) else {
            return Err(Forgotten { topic: "", after: 0 });
        };
        let (topic, seq) = (self.names.text(home.name), entry.seq);
        let rows = self.tables.get(home.table as usize);
        if seq <= home.history.before() || seq > home.head(store) {
            if rows.is_some_and(|rows| !rows.forgot(seq)) {
                return Ok(None);
            }
            let nth = home.numbering.count(home.epoch, seq);
            return Err(Forgotten { topic, after: home.numbering.number(home.epoch, nth.saturating_sub(1)) });
        }
        let position = home.history.position_after(store, memory, seq - 1);
        if rows.is_some() && (home.number(store, memory, position) != seq || home.is_replaced(store, memory, position))
        {
            return Ok(None);
        }
        Ok(Some(Remembered { topic, epoch: home.epoch, seq, content: home.content(store, memory, position) }))
    }
}
