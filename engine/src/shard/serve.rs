//! What the kernel says: connections come, bytes come, peers go, room appears.

use super::Shard;
use super::connection::{Asked, Body, Connection, Kind, Waiting};
use super::topics::{NONE, REPLAYING, UNRESOLVED};
use super::work::PIECE_NS;
use crate::io::driver::{Completion, Driver, End, Interest, Slot};

/// Completions served in one turn.
const COMPLETIONS_PER_TURN: usize = 1024;

/// How long a turn serves what the kernel said, and those that wait for their turn, in microseconds.
const SERVE_US: u64 = 500;

/// So many receives between two looks of the timer make a multishot receive cheaper than poll and receive.
pub(super) const READS_FOR_STREAM: u8 = 8;

/// Accepting is tried again when a slot becomes free, and after so many microseconds: what was short may not be slots.
const ACCEPT_AGAIN_US: u64 = 100_000;

/// That accepting failed is said this often at most, in microseconds.
const ACCEPT_WARN_US: u64 = 10_000_000;

/// Bytes that a waiting connection may have sent in advance before it is not read any more. What is in flight when
/// the receive is cancelled still comes, so the buffer is bounded by this and one burst of receive buffers.
const CARRY_BYTES_MAX: u32 = 1 << 20;

impl Shard {
    /// Serves what the kernel said, a bounded part of it; says whether it said anything.
    pub(super) fn serve<D: Driver>(&mut self, driver: &mut D) -> bool {
        if self.completions.is_empty() && self.postponed.is_empty() {
            return false;
        }
        self.work.begin(driver, SERVE_US);
        self.go_on_in_turn(driver);
        for _ in 0..self.completions.len().min(COMPLETIONS_PER_TURN) {
            if self.work.is_over(driver) {
                break;
            }
            let Some(completion) = self.completions.pop_front() else { break };
            self.work.spend(PIECE_NS);
            self.serve_one(driver, completion);
        }
        true
    }

    fn serve_one<D: Driver>(&mut self, driver: &mut D, completion: Completion) {
        match completion {
            Completion::Accepted { listener, slot, peer } => self.accepted(driver, listener, slot, peer),
            Completion::AcceptFailed { listener, errno } => {
                if self.now_us >= self.accept_warn_us {
                    self.accept_warn_us = self.now_us + ACCEPT_WARN_US;
                    tracing::warn!(
                        shard = self.index,
                        listener,
                        errno,
                        "cannot accept; trying again when a slot is free"
                    );
                }
                self.stats.refused += 1;
                self.accepting_failed.push(listener);
                self.accept_again_us = self.now_us + ACCEPT_AGAIN_US;
            }
            Completion::Received { slot, lent, more, .. } => {
                if !more {
                    self.disarmed(slot);
                }
                self.stats.bytes_received += u64::from(lent.len);
                let mut bytes = std::mem::take(&mut self.inbound);
                bytes.clear();
                bytes.extend_from_slice(driver.received(lent));
                driver.recycle(lent);
                self.received(driver, slot, &mut bytes);
                self.inbound = bytes;
                self.rearm(driver, slot);
            }
            Completion::ReceiveEnded { slot, end, .. } => {
                self.disarmed(slot);
                match end {
                    End::Eof => self.peer_ended(driver, slot),
                    End::Failed(_) => self.kill(driver, slot),
                    End::Again | End::NoBuffers | End::Cancelled | End::Rearm => {}
                }
                self.rearm(driver, slot);
            }
            Completion::Readable { slot, generation, cancelled } => {
                self.disarmed(slot);
                let connection = &mut self.connections[slot as usize];
                if !cancelled && connection.kind != Kind::Dead && self.reads_wanted(slot) {
                    self.connections[slot as usize].armed = Some(Interest::Once);
                    driver.receive(slot, generation, Interest::Once);
                } else {
                    self.rearm(driver, slot);
                }
            }
            Completion::Writable { slot, .. } => {
                self.connections[slot as usize].blocked = false;
                if self.connections[slot as usize].kind == Kind::Dead {
                    self.bury(driver, slot);
                } else {
                    self.make_ready(slot);
                }
            }
            Completion::Closed { slot } => {
                self.closed(slot);
                self.accept_again(driver);
            }
            Completion::Unsent { .. } => unreachable!("settled right after the submit"),
            Completion::Connected { .. } => unreachable!("a shard does not connect"),
        }
    }

    /// Starts to accept again where that failed.
    pub(super) fn accept_again<D: Driver>(&mut self, driver: &mut D) {
        self.accepting_failed.drain(..).for_each(|listener| driver.accept(listener));
    }

    fn accepted<D: Driver>(&mut self, driver: &mut D, listener: u8, slot: Slot, peer: std::net::SocketAddr) {
        if self.connections.len() <= slot as usize {
            self.connections.resize_with(slot as usize + 1, Connection::free);
        }
        self.stats.connections += 1;
        self.stats.accepted += 1;
        let full = self.stats.connections > u64::from(self.limits.connections_max);
        let connection = &mut self.connections[slot as usize];
        assert_eq!(connection.kind, Kind::Free, "the kernel hands out free slots only");
        connection.open(listener, peer, self.tick);
        if self.draining {
            self.kill(driver, slot);
            return;
        }
        if full {
            self.answer_full(driver, slot);
            self.end_after_answer(slot);
        }
        self.wheel.set(slot, self.tick, self.limits.head_ms);
        self.rearm(driver, slot);
    }

    fn disarmed(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot as usize];
        connection.armed = None;
        connection.cancelling = false;
    }

    /// Arms a receive, if none is armed and one is wanted; stops one that is not wanted.
    pub(super) fn rearm<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let wanted = self.reads_wanted(slot);
        let connection = &mut self.connections[slot as usize];
        match connection.kind {
            Kind::Free | Kind::Closing => return,
            Kind::Dead => return self.bury(driver, slot),
            _ => {}
        }
        let generation = connection.generation;
        match connection.armed {
            None if wanted => {
                let busy = connection.reads >= READS_FOR_STREAM;
                let interest = if busy { Interest::Stream } else { Interest::Readiness };
                connection.armed = Some(interest);
                driver.receive(slot, generation, interest);
            }
            Some(Interest::Stream) if !wanted && !connection.cancelling => {
                connection.cancelling = true;
                driver.cancel_receive(slot, generation, Interest::Stream);
            }
            _ => {}
        }
    }

    fn reads_wanted(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        if connection.ended {
            return false;
        }
        connection.active == NONE || {
            let active = &self.actives[connection.active as usize];
            active.waiting == Waiting::No || active.carry.is_empty()
        }
    }

    fn received<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) {
        let tick = self.tick;
        let connection = &mut self.connections[slot as usize];
        connection.heard_tick = tick;
        connection.pinged = false;
        connection.reads = connection.reads.saturating_add(1);
        if matches!(connection.kind, Kind::Lingering | Kind::Dead | Kind::Stream)
            || self.is_closing(slot) && !self.is_websocket(slot)
        {
            return;
        }
        let held =
            self.active_if_any(slot).is_some_and(|active| active.waiting != Waiting::No || !active.carry.is_empty());
        if !held {
            self.take(driver, slot, bytes);
            return;
        }
        let index = self.connections[slot as usize].active as usize;
        let active = &mut self.actives[index];
        let fits =
            active.carry.len() <= CARRY_BYTES_MAX && active.carry.push(&mut self.store, driver.memory_mut(), bytes);
        let waits = active.waiting != Waiting::No;
        if !fits {
            self.shed(driver, slot);
        } else if !waits {
            self.take_carried(driver, slot);
        }
    }

    fn is_websocket(&self, slot: Slot) -> bool {
        self.connections[slot as usize].is_websocket()
    }

    /// Handles what was carried over.
    pub(super) fn take_carried<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Some(active) = self.active_if_any(slot) else { return };
        if active.carry.is_empty() {
            return;
        }
        let span = active.carry.span();
        let mut bytes = std::mem::take(&mut self.carried);
        bytes.clear();
        bytes.extend_from_slice(driver.memory().bytes(span));
        let index = self.connections[slot as usize].active as usize;
        self.actives[index].carry.clear(&mut self.store);
        self.take(driver, slot, &mut bytes);
        self.carried = bytes;
    }

    /// Handles bytes in order, until they are used up, or the connection has to wait; what is left is carried over.
    fn take<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) {
        let generation = self.connections[slot as usize].generation;
        let start_ns = self.work.spent_ns();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &mut bytes[at..];
            let used = match self.connections[slot as usize].kind {
                Kind::Http => self.http(driver, slot, rest),
                Kind::Payload | Kind::Line | Kind::Echo => self.frames(driver, slot, rest),
                _ => return,
            };
            at += used;
            self.work.spend_on(used);
            if !self.is_living(slot, generation) {
                return;
            }
            let waits = self.active_if_any(slot).is_some_and(|active| active.waiting != Waiting::No);
            if used == 0 || waits {
                break;
            }
            // Also with nothing left: what it sent besides stands behind what others have sent.
            if self.is_slice_over(driver, start_ns) {
                self.postpone(slot);
                break;
            }
        }
        if at < bytes.len() && !matches!(self.connections[slot as usize].kind, Kind::Lingering | Kind::Stream) {
            self.active(slot);
            self.time_head(slot, &bytes[at..]);
            let index = self.connections[slot as usize].active as usize;
            let active = &mut self.actives[index];
            if !active.closing && !active.carry.push(&mut self.store, driver.memory_mut(), &bytes[at..]) {
                self.shed(driver, slot);
                return;
            }
        }
        self.make_ready_or_settle(slot);
    }

    /// A head that has begun has its time; that of the first one runs since the connection stands.
    fn time_head(&mut self, slot: Slot, bytes: &[u8]) {
        let Connection { kind, opened_tick, .. } = self.connections[slot as usize];
        let active = self.active(slot);
        let between = active.arriving == Body::Done && active.waiting == Waiting::No && !active.closing;
        let begun = kind == Kind::Http && opened_tick > 0 && between && !bytes.iter().all(u8::is_ascii_whitespace);
        if begun && !std::mem::replace(&mut active.heading, true) {
            self.wheel.set(slot, self.tick, self.limits.head_ms);
        }
    }

    /// Puts the connection into the sender's queue if it became busy.
    fn make_ready_or_settle(&mut self, slot: Slot) {
        if self.connections[slot as usize].active != NONE {
            self.make_ready(slot);
        }
    }

    /// The peer ended its direction: it is gone, or has asked for everything and waits for what is due.
    fn peer_ended<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.connections[slot as usize].ended = true;
        let Some(active) = self.active_if_any(slot) else {
            // A stream may have to be sent what is there.
            match self.connections[slot as usize].kind {
                Kind::Stream => self.make_ready(slot),
                _ => self.kill(driver, slot),
            }
            return;
        };
        let works = active.is_at_work();
        let polls = active.pending.what == Asked::LongPoll;
        match self.connections[slot as usize].kind {
            // Nobody knows whether it still waits for a message that has not been published: it is told that there is none.
            Kind::Http if polls => self.answer_long_poll(driver, slot),
            Kind::Http | Kind::Stream => self.make_ready(slot),
            _ if works || self.is_closing(slot) => self.make_ready(slot),
            _ => self.kill(driver, slot),
        }
    }

    /// Says whether a peer that has ended its direction has all that it asked for, so that the connection ends.
    pub(super) fn is_done(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        let active = self.actives.get(connection.active as usize);
        connection.ended
            && match connection.kind {
                Kind::Http => active.is_none_or(|active| active.waiting == Waiting::No),
                Kind::Payload | Kind::Line | Kind::Echo => active.is_none_or(|active| !active.is_at_work()),
                _ => false,
            }
    }

    /// Says whether a stream whose peer has ended its direction was sent everything there is: what is still to be published is not due.
    pub(super) fn is_over(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        let mut over = connection.ended && connection.kind == Kind::Stream && !self.is_closing(slot);
        if let Some(active) = self.actives.get(connection.active as usize) {
            over &= active.pending.what != Asked::Subscribe && active.queue.is_empty() && active.replays == 0;
        }
        let mut membership = connection.first;
        while over && membership != NONE {
            over = self.topics.subscriber(membership).flags & (UNRESOLVED | REPLAYING) == 0;
            membership = self.topics.memberships[membership as usize].next;
        }
        over
    }
}
