//! What the kernel says: connections come, bytes come, peers go, room appears. What is done with bytes is the inbox's.

use super::Shard;
use super::quotas::Admission;
use super::random::random;
use super::refusal::Refusal;
use super::session::traits::Session;
use super::slot::connection::{Connection, Life};
use super::work::{ACCEPT_NS, PIECE_NS};
use crate::io::driver::{Completion, Driver, End, Interest, Slot};
use crate::reach::{Mark, reach};

/// Completions served in one turn.
const COMPLETIONS_PER_TURN: usize = 1024;

/// How long a turn serves what the kernel said, and those that wait for their turn, in microseconds.
const SERVE_US: u64 = 500;

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
        if self.completions.is_empty() {
            // It begins anew at its first byte, which is still in the cache.
            self.completions.clear();
        }
        true
    }

    fn serve_one<D: Driver>(&mut self, driver: &mut D, completion: Completion) {
        match completion {
            Completion::Accepted { listener, slot, peer } => self.accepted(driver, listener, slot, peer),
            Completion::AcceptFailed { listener, errno } => {
                reach(Mark::AcceptFailed);
                let failure = self.accepting.fails(listener, self.clock.now_us);
                if failure.warns {
                    tracing::warn!(
                        shard = self.index,
                        listener,
                        errno,
                        "cannot accept; trying again when a slot is free"
                    );
                }
                if failure.refuses {
                    self.refused(Refusal::Full);
                }
            }
            Completion::Received { slot, lent, more, .. } => {
                if !more {
                    self.disarmed(slot);
                }
                self.stats.bytes_received += u64::from(lent.len);
                let mut bytes = std::mem::take(&mut self.scratch.received);
                bytes.clear();
                bytes.extend_from_slice(driver.received(slot, lent));
                driver.recycle(lent);
                // A part of a record that nothing can be made of yet is no sign of life either.
                if !bytes.is_empty() {
                    self.received(driver, slot, &mut bytes);
                }
                self.scratch.received = bytes;
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
            Completion::Readable { slot, generation, cancelled, failed } => {
                let watched = self.slots.connections[slot as usize].armed == Some(Interest::Ending);
                self.disarmed(slot);
                if watched && !cancelled {
                    self.ends_unread(driver, slot, failed);
                    self.rearm(driver, slot);
                    return;
                }
                let connection = &mut self.slots.connections[slot as usize];
                if !cancelled && connection.life != Life::Dead && self.reads_wanted(slot) {
                    self.slots.connections[slot as usize].armed = Some(Interest::Once);
                    driver.receive(slot, generation, Interest::Once);
                } else {
                    self.rearm(driver, slot);
                }
            }
            Completion::Writable { slot, .. } => {
                let tick = self.clock.tick;
                let connection = &mut self.slots.connections[slot as usize];
                connection.blocked = false;
                if connection.life == Life::Dead {
                    self.bury(driver, slot);
                    return;
                }
                if !connection.ended && !connection.ends {
                    // It took what it had: that is as good a sign of life as a word.
                    connection.heard_tick = tick;
                    connection.pinged = false;
                }
                self.slots.make_ready(slot);
            }
            Completion::Closed { slot } => {
                self.trust.shown.remove(&slot);
                self.closed(slot);
                self.accept_again(driver);
            }
            Completion::Secured { slot, resumed, took_us } => {
                self.watch.shaken(took_us);
                self.stats.tls_handshakes += 1;
                self.stats.tls_resumed += u64::from(resumed);
                let names = driver.take_names(slot).filter(|_| self.limits.asks.certificates);
                if let Some(names) = names {
                    self.trust.shown.insert(slot, names);
                }
            }
            Completion::Announced { slot, peer } => {
                self.slots.connections[slot as usize].set_peer(peer);
                if self.slots.connections[slot as usize].life == Life::Open {
                    let admission = self.admit(slot);
                    self.receive_newcomer(driver, slot, admission);
                }
            }
            Completion::PeerEnded { slot } => {
                let connection = &self.slots.connections[slot as usize];
                if matches!(connection.life, Life::Open | Life::Lingering) && !connection.ended {
                    self.peer_ended(driver, slot);
                    self.rearm(driver, slot);
                }
            }
            Completion::Broken { slot, why } => {
                self.stats.tls_broken += 1;
                let peer = self.slots.connections[slot as usize].peer();
                tracing::debug!(shard = self.index, %peer, why, "a connection broke");
                self.kill(driver, slot);
            }
            Completion::Unsent { .. } => unreachable!("settled right after the submit"),
            Completion::Connected { .. } => unreachable!("a shard does not connect"),
        }
    }

    /// Starts to accept again where that failed.
    pub(super) fn accept_again<D: Driver>(&mut self, driver: &mut D) {
        self.accepting.again().for_each(|listener| driver.accept(listener));
    }

    fn accepted<D: Driver>(&mut self, driver: &mut D, listener: u8, slot: Slot, peer: std::net::SocketAddr) {
        if self.slots.connections.len() <= slot as usize {
            self.slots.connections.resize_with(slot as usize + 1, Connection::free);
        }
        self.stats.connections += 1;
        self.stats.accepted += 1;
        self.accepting.accepted(listener);
        self.work.spend(ACCEPT_NS);
        let full = self.stats.connections > u64::from(self.limits.connections_max);
        let session = Session::first(&self.limits, listener);
        let connection = &mut self.slots.connections[slot as usize];
        assert_eq!(connection.life, Life::Free, "the kernel hands out free slots only");
        connection.open(session, listener, peer, self.clock.tick);
        self.recount_kind(slot);
        let given = driver.take_credentials(slot).is_none_or(|credentials| self.give_to_peer(slot, credentials));
        if self.drain.is_some_and(|drain| drain.closed) {
            self.refused(Refusal::Draining);
            self.notice(slot, Refusal::Draining, "", Refusal::Draining.row().text);
            self.kill(driver, slot);
            return;
        }
        let admission = match (full, given) {
            // Operators look on to the end; somebody else has found their way in.
            (_, true) if self.is_inside(slot) => Admission::Taken,
            (_, false) if self.is_inside(slot) => Admission::CutOff(Refusal::Forbidden),
            _ if self.is_draining() => {
                reach(Mark::DrainRefuses);
                self.comes_back_after_the_drain();
                Admission::Refused(Refusal::Draining)
            }
            (true, _) => Admission::Refused(Refusal::Full),
            (_, false) => Admission::Refused(Refusal::TooMany),
            _ => self.weigh_newcomer(slot),
        };
        self.receive_newcomer(driver, slot, admission);
        if self.slots.connections[slot as usize].life == Life::Open {
            self.timers.wheel.set(slot, self.clock.tick, self.limits.head_ms);
            self.rearm(driver, slot);
        }
    }

    fn receive_newcomer<D: Driver>(&mut self, driver: &mut D, slot: Slot, admission: Admission) {
        let listener = usize::from(self.slots.connections[slot as usize].listener);
        match admission {
            Admission::Taken => {}
            // To tell would take a handshake, which costs more than to take it; but not those that come back all at once.
            Admission::Refused(refusal)
                if !matches!(refusal, Refusal::Overloaded | Refusal::Draining) && self.speaks_tls(listener) =>
            {
                reach(Mark::CutOffBeforeHandshake);
                self.refused(refusal);
                self.notice(slot, refusal, "", refusal.row().text);
                self.comes_back_s = None;
                self.kill(driver, slot);
            }
            Admission::Refused(refusal) => self.refuse_connection(driver, slot, refusal),
            Admission::CutOff(refusal) => {
                self.refused(refusal);
                self.notice(slot, refusal, "", refusal.row().text);
                self.kill(driver, slot);
            }
        }
    }

    fn speaks_tls(&self, listener: usize) -> bool {
        self.limits.tls.get(listener).copied().unwrap_or(false)
    }

    /// Decides whether one who has just come may stay.
    fn weigh_newcomer(&mut self, slot: Slot) -> Admission {
        if self.governor.refuses() {
            reach(Mark::OverloadRefuses);
            let later_us = self.governor.appoint(self.clock.now_us, random(&mut self.comes_back_random));
            self.comes_back_in_ns(later_us * 1000);
            return Admission::Refused(Refusal::Overloaded);
        }
        let listener = usize::from(self.slots.connections[slot as usize].listener);
        if self.limits.announced.get(listener).copied().unwrap_or(false) {
            return Admission::Taken; // It is the proxy's address: whom it comes from is said later, and then it is decided.
        }
        self.admit(slot)
    }
}
