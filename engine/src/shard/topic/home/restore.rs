//! Restoring: homes out of a snapshot, before anybody is served.
//!
//! ```text
//!   topic ──▶ a home with that epoch ──▶ its messages, as far as there is room ──▶ next topic: are they up to the newest?
//! ```
//!
//! Owns: which topic is being restored ([`Restoring`]). What holds for publishing holds here: memory, sizes, the rules of each topic. Nobody gives
//! way: what has no room is left out and counted. A history has no holes, so that what stands before something that was left out goes, too;
//! and where the newest message is left out, only epoch and number stay: the next message must not have a number that was given. Where it is not
//! sure that these are the newest ones, each topic begins a new life, and whoever comes with a cursor of the old one is told so.

use corecast_protocol::snapshot::{Message, Topic};

use super::Homes;
use crate::io::memory::Memory;
use crate::mesh::{Content, Name};
use crate::reach::{Mark, reach};
use crate::shard::errand::Restored;
use crate::shard::limits::Limits;
use crate::shard::memory::pool::Owner;
use crate::shard::topic::chain::{Chain, Store};
use crate::shard::topic::record;

/// How long homes without audience and history are kept that came from a snapshot, in milliseconds: their readers come back within a minute as a
/// rule, and have been told to come within an hour at most.
const AWAITED_MS: u64 = 10 * 60_000;

/// A restoring that is under way.
#[derive(Debug)]
pub(in crate::shard) struct Restoring {
    /// Epochs and numbers go on as they were; otherwise each topic begins a new life with what it remembers.
    exact: bool,
    /// The home of the topic at hand, and its newest number; none: it is left out.
    home: Option<(u32, u64)>,
    /// What was done so far.
    pub(in crate::shard) restored: Restored,
}

impl Restoring {
    /// Makes one that begins.
    #[must_use]
    pub(in crate::shard) fn new(exact: bool) -> Restoring {
        Restoring { exact, home: None, restored: Restored::default() }
    }
}

impl Homes {
    /// A topic begins, or goes on.
    pub(in crate::shard) fn restore_topic(
        &mut self,
        restoring: &mut Restoring,
        name: Name<'_>,
        topic: &Topic<'_>,
        store: &mut Store,
        limits: &Limits,
        now_ms: u64,
    ) {
        if topic.goes_on {
            if let (Some((_, head)), true) = (&mut restoring.home, restoring.exact) {
                *head = topic.head;
            }
            return;
        }
        self.restore_no_more(restoring, store);
        let found = self.find(name);
        let room = self.homes.len() < limits.topics_max as usize
            && store.pool.used(Owner::History) + self.unread_bytes() < store.pool.bytes_max() / 2;
        if found.is_none() && !room {
            restoring.restored.topics_left_out += 1;
            return;
        }
        restoring.restored.topics += u64::from(found.is_none());
        let index = found.unwrap_or_else(|| self.make(name));
        self.forget_all(index, store);
        let home = &mut self.homes[index as usize];
        home.awaited = true;
        if restoring.exact {
            home.epoch = topic.epoch;
            home.begin_behind(store, topic.head);
        }
        self.awaits_until_ms = now_ms + AWAITED_MS;
        self.touch(index);
        restoring.home = Some((index, if restoring.exact { topic.head } else { 0 }));
    }

    /// A message of that topic.
    pub(in crate::shard) fn restore_message(
        &mut self,
        restoring: &mut Restoring,
        message: &Message<'_>,
        key_hash: u64,
        (store, memory): (&mut Store, &mut Memory),
        limits: &Limits,
        time_ms: u64,
    ) {
        let Restoring { exact, home, restored } = restoring;
        restored.messages += 1;
        let gone = home.map(|(index, _)| {
            let keeps = self.keeps(index, limits);
            self.fit(index, keeps, store);
            match keeps.mode.is_table() {
                true => self.restore_value(index, message, key_hash, *exact, (store, memory), limits, time_ms),
                false => self.restore_one(index, message, *exact, (store, memory), limits, time_ms),
            }
        });
        restored.lose(gone.unwrap_or(1));
    }

    /// Appends a message to the history of its home, if there is room; returns how many are left out with it, or for it.
    fn restore_one(
        &mut self,
        index: u32,
        message: &Message<'_>,
        exact: bool,
        (store, memory): (&mut Store, &mut Memory),
        limits: &Limits,
        time_ms: u64,
    ) -> u64 {
        let content = content_of(message);
        let keeps = self.keeps(index, limits);
        let others = self.unread_bytes();
        let home = &mut self.homes[index as usize];
        let next = home.history.next();
        let number = if exact { message.number } else { home.numbering.number(home.epoch, next) };
        let nth = home.numbering.count(home.epoch, number);
        let Some(len) = record::len_of(content) else { return 1 };
        let is_full = store.pool.used(Owner::History) + others + u64::from(len) > store.pool.bytes_max() / 2;
        if is_full
            || home.numbering.number(home.epoch, nth) != number
            || limits.is_too_large(self.names.text(home.name), message.payload.len())
        {
            return 1;
        }
        let mut gone = 0;
        if nth != next || home.history.is_empty() {
            if !home.history.is_empty() {
                reach(Mark::RestoredBehindAHole);
            }
            gone = home.history.next() - home.history.first();
            home.forget_history(store);
            home.begin_behind(store, home.numbering.number(home.epoch, nth - 1));
        }
        let block_bytes = home.history.bytes().min(keeps.bytes);
        let Some(place) = home.history.append(store, memory, number, len, block_bytes) else {
            return gone + 1;
        };
        record::write(memory.bytes_mut(place), content, time_ms);
        home.payload_bytes += (content.event.len() + content.payload.len()) as u64;
        home.forget_surplus(store, memory, keeps);
        gone
    }

    /// Appends a value to those of its home, if there is room; returns how many are left out.
    #[allow(clippy::too_many_arguments)]
    fn restore_value(
        &mut self,
        index: u32,
        message: &Message<'_>,
        key_hash: u64,
        exact: bool,
        (store, memory): (&mut Store, &mut Memory),
        limits: &Limits,
        time_ms: u64,
    ) -> u64 {
        let content = content_of(message);
        let keeps = self.keeps(index, limits);
        let others = self.unread_bytes();
        let home = &mut self.homes[index as usize];
        let Some(len) = record::len_of(content) else { return 1 };
        let is_full = store.pool.used(Owner::History) + others + u64::from(len) > store.pool.bytes_max() / 2;
        if home.history.is_empty() {
            home.begin_behind(store, if exact { message.number - 1 } else { 0 });
        }
        let next = home.numbering.number(home.epoch, home.numbering.count(home.epoch, home.head(store)) + 1);
        let number = if exact { message.number } else { next };
        if is_full || number < next || limits.is_too_large(self.names.text(home.name), message.payload.len()) {
            return 1;
        }
        let block_bytes = home.history.bytes().min(keeps.row_bytes);
        let Some(place) = home.history.append(store, memory, number, len, block_bytes) else { return 1 };
        record::write(memory.bytes_mut(place), content, time_ms);
        self.replace(index, key_hash, number, len, content, (store, memory));
        0
    }

    /// Ends the topic at hand: one that has not got its newest message has none.
    pub(in crate::shard) fn restore_no_more(&mut self, restoring: &mut Restoring, store: &mut Store) {
        let Some((index, head)) = restoring.home.take() else { return };
        let home = &mut self.homes[index as usize];
        // One that was published to while it was dumped has newer ones.
        if home.head(store) < head {
            restoring.restored.lose(home.history.next() - home.history.first());
            self.forget_all(index, store);
            self.homes[index as usize].begin_behind(store, head);
        }
        // Which deletions were forgotten before is not known.
        self.deletions_are_gone(index, store);
        let home = &self.homes[index as usize];
        if !restoring.exact && home.history.is_empty() {
            self.await_no_more(index);
        }
    }
}

fn content_of<'a>(message: &Message<'a>) -> Content<'a> {
    let Message { event, payload, text, key, op, .. } = *message;
    Content { event, payload, text, at_us: 0, key, op }
}

impl super::Home {
    /// Goes on behind a message of this number, remembering nothing.
    fn begin_behind(&mut self, store: &mut Store, number: u64) {
        let count = self.numbering.count(self.epoch, number);
        self.history = Chain::new(Owner::History, 0);
        self.history.skip(store, count, number);
    }
}
