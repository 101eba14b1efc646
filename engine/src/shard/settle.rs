//! Settling: right after the submit, positions move back by what was not sent, and memory that nobody needs goes back.

use std::cmp::Reverse;

use super::Shard;
use super::slot::connection::Life;
use super::slot::front::Front;
use super::topic::topics::{BEHIND, COUNTED, NONE};
use crate::io::driver::{Completion, Driver, Errno, Slot};
use crate::reach::{Mark, reach};

/// `EAGAIN`: the socket's buffer is full.
const EAGAIN: Errno = 11;

/// A wait for room at a socket whose peer has ended its direction is over at once, room or not (`IO_POLL_UNMASK` of the kernel has
/// `EPOLLRDHUP`): sending is tried again after so many microseconds instead. Such peers are few, and want the rest of an answer.
const RETRY_US: u64 = 1_000;
const RETRY_SHIFT_MAX: u8 = 6;

/// `ENOBUFS` and `ENOMEM`: the kernel has no memory for it just now. That is no fault of the connection.
const SHORTAGES: [Errno; 2] = [105, 12];

/// Logs start their next round with a block as large as the last round, up to this.
const BLOCK_BYTES_MAX: u32 = 64 << 10;

impl Shard {
    /// Settles what the submit did; says whether the kernel said anything.
    pub(super) fn settle<D: Driver>(&mut self, driver: &mut D) -> bool {
        let worked = self.reap(driver);
        self.settle_private(driver);
        self.release();
        worked
    }

    /// Reaps what the kernel says; says whether it said anything.
    pub(super) fn reap<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut reaped = std::mem::take(&mut self.reaped);
        driver.reap(&mut reaped, usize::MAX);
        let worked = !reaped.is_empty();
        for completion in reaped.drain(..) {
            match completion {
                Completion::Unsent { slot, asked, sent } => self.unsent(driver, slot, asked, sent),
                other => self.completions.push_back(other),
            }
        }
        self.reaped = reaped;
        worked
    }

    fn unsent<D: Driver>(&mut self, driver: &mut D, slot: Slot, asked: u32, sent: Result<u32, Errno>) {
        self.stats.sends_short += 1;
        let shortage = sent.is_err_and(|errno| SHORTAGES.contains(&errno));
        let taken = match sent {
            Ok(taken) => taken,
            Err(EAGAIN) => 0,
            Err(_) if shortage => 0,
            Err(_) => {
                // The peer is gone. What it had coming is counted as abandoned: the position moves back first.
                self.move_back(driver, slot, asked);
                self.kill(driver, slot);
                return;
            }
        };
        self.move_back(driver, slot, asked - taken);
        let connection = &mut self.slots.connections[slot as usize];
        if !std::mem::replace(&mut connection.blocked, true) {
            if shortage {
                // There is room in the socket: a wait for that would be over at once, again and again.
                reach(Mark::KernelShort);
                driver.wait_for_memory(slot, connection.generation);
            } else if connection.ended || connection.ends {
                connection.retries = true;
                // Soon to who reads, and seldom to who does not. Of a long record some may have been taken before any of its text is told.
                connection.retry_shift =
                    if sent.is_ok() { 0 } else { (connection.retry_shift + 1).min(RETRY_SHIFT_MAX) };
                let due_us = self.clock.now_us + (RETRY_US << connection.retry_shift);
                self.timers.retrying.push(Reverse((due_us, slot, connection.generation)));
            } else {
                driver.wait_writable(slot, connection.generation);
            }
        }
        self.look_at(slot);
    }

    fn move_back<D: Driver>(&mut self, driver: &mut D, slot: Slot, unsent: u32) {
        self.stats.bytes_sent = self.stats.bytes_sent.wrapping_sub(u64::from(unsent));
        let frames = self.slots.is_websocket(slot);
        if let Some(active) = self.slots.active_if_any(slot)
            && active.sending > 0
        {
            let taken = active.sending - unsent;
            active.taken = active.taken.saturating_add(taken);
            active.queue.unconsume(unsent);
            if frames {
                let queue = driver.memory().bytes(active.queue.span_with_consumed(taken));
                active.front.advance(queue, taken as usize);
            }
            return;
        }
        let connection = &self.slots.connections[slot as usize];
        let subscription = if connection.subscriptions == 1 { connection.first } else { connection.sender };
        debug_assert_ne!(subscription, NONE, "somebody sent");
        let place = &self.topics.subscriptions[subscription as usize];
        let index = place.log;
        let log = &mut self.topics.logs[index as usize];
        let subscriber = &mut log.subscribers[place.index as usize];
        let (position, partial) = log.chain.back(&self.store, driver.memory(), subscriber.next, unsent);
        self.stats.delivered = self.stats.delivered.wrapping_sub(subscriber.next - position);
        subscriber.next = position;
        subscriber.set_partial(partial);
        log.partials += u32::from(partial > 0);
        let counted = subscriber.flags & COUNTED != 0;
        if subscriber.flags & BEHIND == 0 {
            subscriber.flags |= BEHIND;
            log.behind += 1;
        }
        if partial > 0 {
            self.slots.connections[slot as usize].partial = subscription;
        }
        self.has_news(slot, subscription);
        if counted {
            self.lengthen(slot, index, -i64::from(unsent));
        }
    }

    /// Queues that were sent in full are gone, and what waited for that goes on.
    fn settle_private<D: Driver>(&mut self, driver: &mut D) {
        let mut sent = std::mem::take(&mut self.sending.private);
        for slot in sent.drain(..) {
            if matches!(self.slots.connections[slot as usize].life, Life::Free | Life::Dead | Life::Closing) {
                continue;
            }
            let index = self.slots.connections[slot as usize].active;
            if index == NONE {
                continue;
            }
            let active = &mut self.slots.actives[index as usize];
            active.sending = 0;
            if active.queue.is_empty() {
                active.front = Front::default();
                active.queue.release_if_empty(&mut self.store);
                self.drained(driver, slot);
            }
        }
        self.sending.private = sent;
    }

    /// Logs that everybody has read to the end give their blocks back.
    fn release(&mut self) {
        while let Some(index) = self.sending.releasing.pop() {
            let log = &mut self.topics.logs[index as usize];
            log.releasing = false;
            if log.topic == NONE {
                if !log.queued {
                    self.topics.forget_log(index);
                }
                continue;
            }
            if log.pending == 0 && log.behind == 0 {
                log.block_bytes = log.chain.bytes().min(BLOCK_BYTES_MAX);
                self.topics.clear_log(index, &mut self.store);
            }
        }
    }
}
