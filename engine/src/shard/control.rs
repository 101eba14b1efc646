//! What the control plane wants of a shard: new limits, and answers to what an operator asks.
//!
//! Owns: the orders, the answers, and the one question that is being answered. Touches: reads everything, changes the limits only.
//! Never: takes longer than a slice of a turn ([`LOOKS`]), waits for the control plane, or grows: each order has one answer of
//! bounded length. A look that takes several turns is no snapshot: what moves meanwhile may be missing, or stand there twice.

use std::net::SocketAddr;

use super::Shard;
use super::limits::Limits;
use super::memory::wheel::TICK_MS;
use super::session::request::embed;
use super::slot::connection::Life;
use super::topic::topics::UNRESOLVED;
use crate::io::driver::{Driver, Slot};

/// Connections, topics or subscribers that a turn looks at: 1,024 take some 20 to 100 µs, most of it waiting for memory.
const LOOKS: usize = 1024;

/// Rows of an answer at most.
pub const ROWS_MAX: usize = 1000;

/// What the control plane wants.
#[derive(Debug)]
pub struct Order {
    /// Tells the answer to this one from others.
    pub number: u64,
    /// What is wanted.
    pub wish: Wish,
}

/// What can be wanted.
#[derive(Debug)]
pub enum Wish {
    /// These limits hold from now on, as far as they can change while the shard runs.
    Set(Box<Limits>),
    /// So many rows, at most [`ROWS_MAX`].
    Ask(Question, usize),
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
    number: u64,
    /// The next slot, place among the homes, or frame log.
    next: usize,
    /// The next subscriber of that log.
    place: usize,
    rows_max: usize,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Connections(Vec<ConnectionRow>),
    Topics(Most<TopicRow>),
    Slow(Most<SlowRow>),
}

/// The rows with the largest keys, of any number of rows.
#[derive(Debug)]
struct Most<T> {
    rows: Vec<(u64, T)>,
    /// No key below it is among the largest.
    least: u64,
}

impl<T> Most<T> {
    fn new() -> Most<T> {
        Most { rows: Vec::new(), least: 0 }
    }

    /// Keeps a row, if it may be among the `max` with the largest keys; it is made only then.
    fn keep(&mut self, key: u64, max: usize, row: impl FnOnce() -> T) {
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
    fn new(number: u64, question: Question, rows_max: usize) -> Box<Look> {
        let rows = match question {
            Question::Connections => Rows::Connections(Vec::new()),
            Question::Topics => Rows::Topics(Most::new()),
            Question::Slow => Rows::Slow(Most::new()),
        };
        Box::new(Look { number, next: 0, place: 0, rows_max: rows_max.clamp(1, ROWS_MAX), rows })
    }

    fn into_answer(self) -> Answer {
        let said = match self.rows {
            Rows::Connections(rows) => Said::Connections(rows),
            Rows::Topics(rows) => Said::Topics(rows.into_rows(self.rows_max)),
            Rows::Slow(rows) => Said::Slow(rows.into_rows(self.rows_max)),
        };
        Answer { number: self.number, said }
    }
}

impl Shard {
    /// Does one order of the control plane, or a part of it. To be called if [`Links::has_orders`](crate::mesh::Links::has_orders).
    #[cold]
    pub(super) fn obey<D: Driver>(&mut self, driver: &mut D) {
        self.crossings.links.take_orders();
        let answer = match self.look.take() {
            Some(look) => self.look_on(look),
            None => match self.crossings.links.next_order() {
                None => return,
                Some(Order { number, wish: Wish::Set(limits) }) => {
                    Some(Answer { number, said: Said::Applied(self.hold_to(limits)) })
                }
                Some(Order { number, wish: Wish::Ask(question, rows_max) }) => {
                    self.look_on(Look::new(number, question, rows_max))
                }
            },
        };
        if let Some(answer) = answer {
            self.crossings.links.answer(answer);
            driver.wake(self.crossings.links.shards());
        }
        if self.look.is_some() || self.crossings.links.has_next_order() {
            self.crossings.links.put_off_orders();
        }
    }

    /// Holds to new limits from now on; returns the old ones. What sizes were made from at the start stays as it is.
    fn hold_to(&mut self, mut limits: Box<Limits>) -> Box<Limits> {
        let old = &mut self.limits;
        limits.message_bytes_max = old.message_bytes_max;
        limits.head_bytes_max = old.head_bytes_max;
        limits.private_bytes_max = old.private_bytes_max;
        limits.connections_max = old.connections_max;
        limits.memory_bytes = old.memory_bytes;
        limits.loopback.clone_from(&old.loopback);
        limits.ports.clone_from(&old.ports);
        if limits.origins != old.origins {
            self.frame_policy = embed::frame_policy(&limits.origins, &limits.loopback);
        }
        std::mem::swap(old, &mut limits);
        limits
    }

    /// Looks at so much as a turn has time for; returns the answer, if that was all.
    fn look_on(&mut self, mut look: Box<Look>) -> Option<Answer> {
        let Look { next, place, rows_max, rows, .. } = &mut *look;
        let over = match rows {
            Rows::Connections(rows) => self.look_at_connections(next, *rows_max, rows),
            Rows::Topics(rows) => self.look_at_homes(next, *rows_max, rows),
            Rows::Slow(rows) => self.look_at_subscribers(next, place, *rows_max, rows),
        };
        if over {
            return Some(look.into_answer());
        }
        self.look = Some(look);
        None
    }

    fn look_at_connections(&self, next: &mut usize, rows_max: usize, rows: &mut Vec<ConnectionRow>) -> bool {
        let end = self.slots.connections.len().min(*next + LOOKS);
        for slot in *next..end {
            if rows.len() >= rows_max {
                return true;
            }
            let connection = &self.slots.connections[slot];
            if connection.life != Life::Free {
                rows.push(ConnectionRow {
                    slot: slot as Slot,
                    peer: connection.peer(),
                    kind: self.name_of(slot as Slot),
                    subscriptions: connection.subscriptions,
                    queued_bytes: self.queued_bytes(slot),
                    heard_ms: u64::from(self.clock.tick.wrapping_sub(connection.heard_tick)) * TICK_MS,
                });
            }
        }
        *next = end;
        end == self.slots.connections.len() || rows.len() >= rows_max
    }

    fn look_at_homes(&self, next: &mut usize, rows_max: usize, rows: &mut Most<TopicRow>) -> bool {
        let places = self.homes.places();
        let end = places.min(*next + LOOKS);
        for place in *next..end {
            if let Some((name, epoch, head, messages, bytes)) = self.homes.remembered(place) {
                rows.keep(bytes, rows_max, || TopicRow { topic: name.to_owned(), messages, bytes, epoch, head });
            }
        }
        *next = end;
        end == places
    }

    fn look_at_subscribers(
        &self,
        log: &mut usize,
        place: &mut usize,
        rows_max: usize,
        rows: &mut Most<SlowRow>,
    ) -> bool {
        let mut looks = 0;
        while *log < self.topics.logs.capacity() {
            let Some(frame_log) = self.topics.logs.get(*log) else {
                (*log, *place, looks) = (*log + 1, 0, looks + 1);
                if looks >= LOOKS {
                    return false;
                }
                continue;
            };
            let head = frame_log.chain.next();
            let end = frame_log.subscribers.len().min(*place + LOOKS.saturating_sub(looks));
            for subscriber in frame_log.subscribers.get(*place..end).unwrap_or_default() {
                let behind = head.saturating_sub(subscriber.next);
                if behind == 0 || subscriber.flags & UNRESOLVED != 0 {
                    continue;
                }
                let slot = subscriber.slot;
                rows.keep(behind, rows_max, || SlowRow {
                    slot,
                    peer: self.slots.connections[slot as usize].peer(),
                    topic: self.topics.topic(frame_log.topic).name().text.to_owned(),
                    behind,
                    queued_bytes: self.queued_bytes(slot as usize),
                });
            }
            looks += 1 + end.saturating_sub(*place);
            *place = end;
            if *place >= frame_log.subscribers.len() {
                (*log, *place) = (*log + 1, 0);
            }
            if looks >= LOOKS {
                return *log >= self.topics.logs.capacity();
            }
        }
        true
    }

    fn queued_bytes(&self, slot: usize) -> u32 {
        self.slots.actives.get(self.slots.connections[slot].active as usize).map_or(0, |active| active.queue.len())
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
