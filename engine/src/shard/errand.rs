//! The vocabulary of the control plane and the shards: what it wants, what can be asked, and what is said to that.

use std::net::SocketAddr;

use super::limits::Limits;
use crate::grant::Revocation;
use crate::io::driver::Slot;

/// Rows of an answer at most.
pub const ROWS_MAX: usize = 1000;

/// What the control plane wants.
#[derive(Debug)]
pub struct Errand {
    /// Tells the answer to this one from others.
    pub number: u64,
    /// What is wanted.
    pub wish: Wanted,
}

/// What can be wanted.
#[derive(Debug)]
pub enum Wanted {
    /// These limits hold from now on, as far as they can change while the shard runs.
    Set(Box<Limits>),
    /// So many rows, at most [`ROWS_MAX`].
    Ask(Question, usize),
    /// Nothing of this is believed any more: connections with such grants end, and verdicts of before are forgotten. Whoever sends it
    /// has made the authority know it before, so that no later verdict says otherwise.
    Revoke(Box<[Revocation]>),
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Connections, by slot.
    Connections,
    /// The topics that have their home here, those first that remember most bytes.
    Topics,
    /// Subscribers that have not been sent everything, those first that miss most messages.
    Slow,
}

/// What a shard says to an order.
#[derive(Debug)]
pub struct Answer {
    /// The order's number.
    pub number: u64,
    /// What it says.
    pub said: Said,
}

/// What can be said.
#[derive(Debug)]
pub enum Said {
    /// The new limits hold; these are the old ones, which are the asker's to free.
    Applied(Box<Limits>),
    /// Connections.
    Connections(Vec<ConnectionRow>),
    /// Topics, in no order.
    Topics(Vec<TopicRow>),
    /// Subscribers, in no order.
    Slow(Vec<SlowRow>),
    /// It holds from now on: so many connections were ended.
    Revoked(u64),
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// Its number on the shard.
    pub slot: Slot,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// What it is: `http`, `long-poll`, `websocket`, `line`, `echo`, `sse`, `ndjson`, `multipart`, `forever-frame`, or `closing`.
    pub kind: &'static str,
    /// How many topics it has subscribed.
    pub subscriptions: u32,
    /// Bytes in its own queue.
    pub queued_bytes: u32,
    /// Milliseconds since something was heard of it.
    pub heard_ms: u64,
}

/// A topic at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRow {
    /// Its name.
    pub topic: String,
    /// Messages remembered.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Number of its newest message, 0 before the first.
    pub head: u64,
    /// How many subscriptions it has, on all shards; `None`: they are not counted.
    pub readers: Option<u64>,
}

/// A subscriber that has not been sent everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowRow {
    /// Number of its connection on the shard.
    pub slot: Slot,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// The topic.
    pub topic: String,
    /// Messages that are there for it.
    pub behind: u64,
    /// Bytes in the connection's own queue.
    pub queued_bytes: u32,
}

/// A question that is being answered.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) number: u64,
    /// The next slot, place among the homes, or frame log.
    pub(super) next: usize,
    /// The next subscriber of that log.
    pub(super) place: usize,
    pub(super) rows_max: usize,
    pub(super) rows: Rows,
}

/// The rows of its answer so far.
#[derive(Debug)]
pub(super) enum Rows {
    Connections(Vec<ConnectionRow>),
    Topics(Most<TopicRow>),
    Slow(Most<SlowRow>),
}

/// The rows with the largest keys, of any number of rows.
#[derive(Debug)]
pub(super) struct Most<T> {
    rows: Vec<(u64, T)>,
    /// No key below it is among the largest.
    least: u64,
}

impl<T> Most<T> {
    fn new() -> Most<T> {
        Most { rows: Vec::new(), least: 0 }
    }

    /// Keeps a row, if it may be among the `max` with the largest keys; it is made only then.
    pub(super) fn keep(&mut self, key: u64, max: usize, row: impl FnOnce() -> T) {
        if key < self.least {
            return;
        }
        self.rows.push((key, row()));
        // Twice as many before the smaller half goes: a comparison or two a row.
        if self.rows.len() >= 2 * max {
            self.cut(max);
            self.least = self.rows.iter().map(|(key, _)| *key).min().unwrap_or(0);
        }
    }

    fn cut(&mut self, max: usize) {
        if self.rows.len() > max {
            self.rows.select_nth_unstable_by_key(max, |(key, _)| std::cmp::Reverse(*key));
            self.rows.truncate(max);
        }
    }

    fn into_rows(mut self, max: usize) -> Vec<T> {
        self.cut(max);
        self.rows.into_iter().map(|(_, row)| row).collect()
    }
}

impl Look {
    /// Makes one that begins.
    pub(super) fn new(number: u64, question: Question, rows_max: usize) -> Box<Look> {
        let rows = match question {
            Question::Connections => Rows::Connections(Vec::new()),
            Question::Topics => Rows::Topics(Most::new()),
            Question::Slow => Rows::Slow(Most::new()),
        };
        Box::new(Look { number, next: 0, place: 0, rows_max: rows_max.clamp(1, ROWS_MAX), rows })
    }

    /// Makes its answer.
    pub(super) fn into_answer(self) -> Answer {
        let said = match self.rows {
            Rows::Connections(rows) => Said::Connections(rows),
            Rows::Topics(rows) => Said::Topics(rows.into_rows(self.rows_max)),
            Rows::Slow(rows) => Said::Slow(rows.into_rows(self.rows_max)),
        };
        Answer { number: self.number, said }
    }
}

/// A revocation that is being carried out.
#[derive(Debug)]
pub(super) struct Revoking {
    /// The errand's number.
    pub(super) number: u64,
    pub(super) revocations: Box<[Revocation]>,
    /// The next grant, and then the next slot.
    pub(super) next_grant: u32,
    pub(super) next_slot: usize,
    /// A grant was meant.
    pub(super) any: bool,
    /// Connections that were ended.
    pub(super) ended: u64,
}

impl Revoking {
    /// Makes one that begins.
    pub(super) fn new(number: u64, revocations: Box<[Revocation]>) -> Revoking {
        Revoking { number, revocations, next_grant: 0, next_slot: 0, any: false, ended: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of very many rows those with the largest keys are kept, and no more than twice as many at any time.
    #[test]
    fn the_most_are_kept() {
        let mut most = Most::new();
        for n in 0..10_000_u64 {
            // Each key below 10,000 once, in a wild order.
            let key = n * 7919 % 10_000;
            most.keep(key, 10, || key);
            assert!(most.rows.len() < 20);
        }
        let mut rows = most.into_rows(10);
        rows.sort_unstable();
        assert_eq!(rows, (9990..10_000).collect::<Vec<_>>());
        let mut few = Most::new();
        few.keep(1, 10, || "one");
        assert_eq!(few.into_rows(10), ["one"]);
    }
}
