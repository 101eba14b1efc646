//! Sending: the walk over dirty frame logs, in turn with the connections that need a look.
//!
//! The walk visits a log's subscribers in the order of its array and touches nothing else of a healthy one: the bytes
//! are a run of the log, the descriptor is the slot number in the entry. It is resumable and goes round: a message
//! that arrives meanwhile starts the round anew from where the walk stands, so each subscriber gets all that is new for
//! it in one send. Logs take turns, a slice each, so that a small topic waits for at most one slice of a large one.
//!
//! Whoever is flagged `LOOK` (several subscriptions, bytes of its own to send, a full socket, a pace, a replay) is left
//! to [`Shard::send_next`] (`slot/sender.rs`), which decides what the connection sends next. Both keep the rule: at most one send per
//! connection and submit. A connection with several subscriptions keeps a list of those that have news, so that nobody searches
//! all of them, and gathers what is new in all its topics into one send.

use super::Shard;
use super::sending::{Round, SEND_BYTES_MAX, send};
use super::stats::Stats;
use super::topic::chain::Runs;
use super::topic::news::link_news;
use super::topic::topics::{AWAY, BEHIND, LOOK, NEWS, NONE};
use crate::io::driver::Driver;

/// Sends of one turn: a turn stays short, and one submit amortises its system call well.
const SENDS_PER_TURN: usize = 512;

/// Bytes of the sends of one turn: copying them into the kernel takes a millisecond.
const BYTES_PER_TURN: u64 = 1 << 20;

/// Sends of one log before the next log's turn: what a small topic waits for at most.
const SENDS_PER_SLICE: usize = 128;

/// Bytes of the sends of one log before the next log's turn.
const BYTES_PER_SLICE: u64 = BYTES_PER_TURN / 4;

/// Visits of one log before the next log's turn; visits without a send are cheap, but not free.
const VISITS_PER_SLICE: usize = 4 * SENDS_PER_SLICE;

impl Shard {
    /// Orders sends, a bounded number; says whether there were any.
    pub(super) fn flush<D: Driver>(&mut self, driver: &mut D) -> bool {
        self.sending.submit = self.sending.submit.wrapping_add(1);
        let room = driver.room() / 2;
        let mut budget = SENDS_PER_TURN.min(room);
        let mut worked = false;
        let before = self.stats.bytes_sent;
        let is_full =
            |stats: &Stats, bytes_max: u64| stats.bytes_sent.wrapping_sub(before).cast_signed() > bytes_max as i64;
        // Each connection once: what it still has to send afterwards is for the next submit.
        // Half is the walk's: otherwise enough busy connections would keep every log from being walked. A single one is its in every
        // second turn.
        let (for_ready, bytes_for_ready) = match self.sending.dirty.is_empty() {
            true => (budget, BYTES_PER_TURN),
            false => ((budget + (self.sending.submit & 1) as usize) / 2, BYTES_PER_TURN / 2),
        };
        for _ in 0..self.slots.ready.len().min(for_ready) {
            if is_full(&self.stats, bytes_for_ready) {
                break;
            }
            let Some(slot) = self.slots.ready.pop_front() else { break };
            self.slots.connections[slot as usize].ready = false;
            if self.send_next(driver, slot) {
                budget -= 1;
            }
            worked = true;
        }
        for _ in 0..self.sending.dirty.len() {
            if budget == 0 || is_full(&self.stats, BYTES_PER_TURN) {
                break;
            }
            let Some(round) = self.sending.dirty.pop_front() else { break };
            budget -= self.walk(driver, round, budget.min(SENDS_PER_SLICE));
            worked = true;
        }
        worked
    }

    /// Walks on over a log's subscribers; returns the sends ordered, at most `sends_max`.
    fn walk<D: Driver>(&mut self, driver: &mut D, round: Round, sends_max: usize) -> usize {
        let index = round.log;
        let log = &mut self.topics.logs[index as usize];
        if log.topic == NONE {
            // Its last subscriber left while it stood in the queue.
            log.queued = false;
            if !log.releasing {
                self.topics.forget_log(index);
            }
            return 0;
        }
        let subscriptions = &mut self.topics.subscriptions;
        let next = log.chain.next();
        let mut sends = 0;
        let mut visits = 0;
        let mut delivered = 0;
        let mut bytes = 0;
        let mut known: Option<(u64, Runs)> = None;
        let subscribers = &mut log.subscribers[..];
        while log.pending > 0 && sends < sends_max && visits < VISITS_PER_SLICE && bytes < BYTES_PER_SLICE {
            let place = log.walk as usize;
            log.walk += 1;
            if log.walk as usize == subscribers.len() {
                log.walk = 0;
            }
            log.pending -= 1;
            visits += 1;
            let subscriber = &mut subscribers[place];
            if subscriber.flags & LOOK != 0 {
                if subscriber.flags & AWAY == 0 && subscriber.next >= next {
                    continue;
                }
                let noted = subscriber.flags & NEWS != 0;
                if subscriber.flags & (BEHIND | AWAY) == 0 {
                    subscriber.flags |= BEHIND;
                    log.behind += 1;
                }
                let connection = &mut self.slots.connections[subscriber.slot as usize];
                if connection.subscriptions > 1 && !noted {
                    subscriber.flags |= NEWS;
                    connection.news = link_news(subscriptions, connection.news, subscriber.subscription);
                }
                if !connection.blocked && !std::mem::replace(&mut connection.ready, true) {
                    self.slots.ready.push_back(subscriber.slot);
                }
                continue;
            }
            if subscriber.next >= next {
                continue;
            }
            let runs = match &known {
                Some((position, runs)) if *position == subscriber.next => runs,
                _ => {
                    let runs = log.chain.runs(&self.store, driver.memory(), subscriber.next, 0, SEND_BYTES_MAX);
                    &known.insert((subscriber.next, runs)).1
                }
            };
            send(driver, subscriber.slot, runs);
            delivered += runs.next - subscriber.next;
            bytes += u64::from(runs.bytes);
            subscriber.next = runs.next;
            log.again |= runs.next < next;
            sends += 1;
        }
        self.stats.delivered = self.stats.delivered.wrapping_add(delivered);
        self.stats.bytes_sent = self.stats.bytes_sent.wrapping_add(bytes);
        self.stats.sends += sends as u64;
        if log.pending == 0 && std::mem::take(&mut log.again) {
            log.pending = log.subscribers.len() as u32;
        }
        if log.pending > 0 {
            self.sending.dirty.push_back(round);
        } else {
            log.queued = false;
            self.watch.round_ends(round.since_us, round.began_us);
            self.release_later(index);
        }
        sends
    }

    /// Notes a log that may be idle: after the submit, its blocks go back to the pool if it is.
    pub(super) fn release_later(&mut self, index: u32) {
        let log = &mut self.topics.logs[index as usize];
        if log.pending == 0 && log.behind == 0 && !std::mem::replace(&mut log.releasing, true) {
            self.sending.releasing.push(index);
        }
    }
}
