//! Time: heads that do not come, peers that fall silent, subscribers with a pace, draining.

use super::Shard;
use super::limits::Limits;
use super::memory::wheel::TICK_MS;
use super::slot::connection::{Asked, Body, Kind, Pending, Waiting};
use super::topic::topics::LOOK;
use crate::io::driver::{Driver, Interest, Slot};
use corecast_protocol::http::head::is_for_head;
use corecast_protocol::violation::Violation;
use corecast_protocol::ws::close;

/// Timers looked at in one turn.
const TIMERS_PER_TURN: usize = 512;

/// Subscribers whose time has come that are looked at in one turn.
const PACES_PER_TURN: usize = 4096;

/// Connections closed in one turn while draining.
const DRAINED_PER_TURN: usize = 1024;

/// Homes whose history is looked through for old messages in one turn with timers due.
const HOMES_PER_LOOK: usize = 16;

impl Shard {
    /// Does what is due; says whether anything was.
    pub(super) fn expire<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = self.expire_paced();
        worked |= self.retry();
        let mut due = std::mem::take(&mut self.due);
        let more = self.wheel.expire(self.tick, TIMERS_PER_TURN, &mut due);
        worked |= more || !due.is_empty();
        for slot in due.drain(..) {
            self.expire_connection(driver, slot);
        }
        self.due = due;
        if worked {
            let memory = driver.memory();
            self.homes.forget_old(&mut self.store, memory, &self.limits, self.now_ms, HOMES_PER_LOOK);
        }
        if !self.accepting_failed.is_empty() && self.now_us >= self.accept_again_us {
            self.accept_again(driver);
            worked = true;
        }
        if self.draining {
            worked |= self.drain_some(driver);
        }
        worked
    }

    fn expire_connection<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.connections[slot as usize].kind {
            Kind::Free | Kind::Dead | Kind::Closing => {}
            Kind::Lingering => self.kill(driver, slot),
            Kind::Http => self.expire_request(driver, slot),
            Kind::Payload | Kind::Line | Kind::Echo => self.expire_websocket(driver, slot),
            Kind::Stream => self.expire_stream(driver, slot),
        }
    }

    fn expire_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.is_closing(slot) {
            self.expire_farewell(driver, slot);
            return;
        }
        let connection = &self.connections[slot as usize];
        let age_ms = u64::from(self.tick - connection.opened_tick) * TICK_MS;
        if age_ms >= self.limits.stream_ms {
            // The client comes back with its cursor: memory of proxies and browsers does not grow without end.
            self.end_stream(driver, slot);
            return;
        }
        // The first time comes soon after the beginning: the second sign of life.
        self.heartbeat(driver, slot);
        if self.connections[slot as usize].kind != Kind::Stream {
            return;
        }
        let after_ms = self.limits.ping_ms.min(self.limits.stream_ms.saturating_sub(age_ms).max(TICK_MS));
        let after_ms = self.with_jitter(after_ms);
        self.wheel.set(slot, self.tick, after_ms);
    }

    fn expire_request<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let answered = self.is_answered(slot);
        let (kept_alive, draining) = (self.connections[slot as usize].opened_tick > 0, self.draining);
        let Limits { request_ms, linger_ms, .. } = self.limits;
        let patience_ms = if draining { linger_ms } else { request_ms };
        let Some(active) = self.active_if_any(slot) else {
            self.kill(driver, slot); // Nothing was begun.
            return;
        };
        let idle = active.queue.is_empty() && active.sending == 0 && !active.closing;
        let begun = active.arriving != Body::Done || active.heading || !kept_alive && !active.carry.is_empty();
        if active.pending.what == Asked::LongPoll {
            self.answer_long_poll(driver, slot);
        } else if matches!(active.waiting, Waiting::Answer | Waiting::Room(_) | Waiting::Turn) {
            // The answer is late, not the peer.
            self.wheel.set(slot, self.tick, request_ms);
        } else if active.is_read_in(patience_ms) {
            self.wheel.set(slot, self.tick, patience_ms);
        } else if idle && begun && !answered {
            if active.arriving == Body::Done {
                let span = active.carry.span();
                let head_only = is_for_head(driver.memory().bytes(span));
                let active = self.active(slot);
                active.origin_len = 0;
                active.pending = Pending { head_only, ..Pending::default() };
            }
            self.stats.violations += 1;
            self.answer_error(driver, slot, 408, "the request did not arrive in time", true);
            self.wheel.set(slot, self.tick, linger_ms);
        } else {
            // It has its answer, or does not read it.
            self.kill(driver, slot);
        }
    }

    /// Who does not read what is left for it is given up; who does gets all of it.
    fn expire_farewell<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let linger_ms = self.limits.linger_ms;
        if self.active_if_any(slot).is_some_and(|active| active.is_read_in(linger_ms)) {
            self.wheel.set(slot, self.tick, linger_ms);
        } else {
            self.kill(driver, slot);
        }
    }

    fn expire_websocket<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Limits { ping_ms, dead_ms, .. } = self.limits;
        if self.is_closing(slot) {
            self.expire_farewell(driver, slot);
            return;
        }
        let begun_tick = self.connections[slot as usize].opened_tick;
        let message_ms = match begun_tick {
            0 => u64::MAX,
            tick => self.limits.request_ms.saturating_sub(u64::from(self.tick - tick) * TICK_MS),
        };
        if message_ms == 0 {
            self.violated(driver, slot, Violation::MessageTooSlow);
            return;
        }
        self.choose_receive(driver, slot);
        let late = |waiting| matches!(waiting, Waiting::Room(_) | Waiting::Answer | Waiting::Turn);
        if self.active_if_any(slot).is_some_and(|active| late(active.waiting)) {
            // It is we who are late, and may not have read what it says. It is pinged like others, for its own sake.
            let connection = &mut self.connections[slot as usize];
            connection.pinged = false;
            if u64::from(self.tick - connection.heard_tick) * TICK_MS >= ping_ms {
                connection.heard_tick = self.tick;
                self.ping(driver, slot);
                if self.connections[slot as usize].kind == Kind::Dead {
                    return;
                }
            }
        }
        let connection = &self.connections[slot as usize];
        let silent_ms = u64::from(self.tick - connection.heard_tick) * TICK_MS;
        let pinged = connection.pinged;
        // What was delivered and taken shows that the peer lives as well as a pong does; the kernel gives up a
        // connection that does not acknowledge (TCP_USER_TIMEOUT). Whom the walk serves has been sent what its log has got; others
        // may wait for their time, or for a replay, while their topic is busy.
        let walked_tick = match self.topics.memberships.get(connection.first as usize) {
            Some(place) if self.topics.subscriber(connection.first).flags & LOOK == 0 => {
                self.topics.logs[place.log as usize].appended_tick
            }
            _ => 0,
        };
        let flowed_ms = match connection.sent_tick.max(walked_tick) {
            0 => u64::MAX,
            _ if connection.blocked => u64::MAX,
            tick => u64::from(self.tick.saturating_sub(tick)) * TICK_MS,
        };
        let quiet_ms = silent_ms.min(flowed_ms);
        let after_ms = if pinged && silent_ms >= dead_ms {
            tracing::debug!(shard = self.index, peer = %connection.peer(), silent_ms, "peer is silent, closing");
            self.kill(driver, slot);
            return;
        } else if pinged {
            dead_ms - silent_ms
        } else if quiet_ms >= ping_ms {
            // Silent for longer than that (data flowed instead), it still gets its time to answer.
            let since_tick = self.tick.saturating_sub((ping_ms / TICK_MS) as u32);
            let connection = &mut self.connections[slot as usize];
            connection.heard_tick = connection.heard_tick.max(since_tick);
            connection.pinged = true;
            self.ping(driver, slot);
            if self.connections[slot as usize].kind == Kind::Dead {
                return;
            }
            // If it answers now, it can have been silent for so long again by then.
            ping_ms.min(dead_ms - ping_ms)
        } else {
            ping_ms - quiet_ms
        };
        let after_ms = self.with_jitter(after_ms).min(message_ms);
        self.wheel.set(slot, self.tick, after_ms);
    }

    /// Adds up to an eighth, so that what was started together does not stay together.
    pub(super) fn with_jitter(&mut self, ms: u64) -> u64 {
        ms + super::random(&mut self.random) % (ms / 8 + 1)
    }

    /// A connection with little to say gives its multishot receive back: that costs the kernel three times as much.
    fn choose_receive<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let connection = &mut self.connections[slot as usize];
        let quiet = connection.reads < super::slot::inbox::READS_FOR_STREAM;
        connection.reads = 0;
        if quiet && connection.armed == Some(Interest::Stream) && !connection.cancelling {
            connection.cancelling = true;
            driver.cancel_receive(slot, connection.generation, Interest::Stream);
        }
    }

    /// Connections that could not be sent to, and that nobody says have room, may be tried again.
    fn retry(&mut self) -> bool {
        let mut worked = false;
        while let Some(std::cmp::Reverse((due_us, slot, generation))) = self.retrying.peek().copied() {
            if due_us > self.now_us {
                break;
            }
            self.retrying.pop();
            let connection = &mut self.connections[slot as usize];
            if connection.generation == generation && std::mem::take(&mut connection.retries) {
                connection.blocked = false;
                self.make_ready(slot);
            }
            worked = true;
        }
        worked
    }

    fn expire_paced(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..PACES_PER_TURN {
            let Some(std::cmp::Reverse((due_ms, membership))) = self.paced.peek().copied() else { break };
            if due_ms > self.now_ms {
                break;
            }
            self.paced.pop();
            worked = true;
            // The membership may be another one by now: then its connection is looked at for nothing.
            if let Some(place) = self.topics.memberships.get(membership as usize) {
                let slot = place.slot;
                self.has_news(slot, membership);
                self.make_ready(slot);
            }
        }
        worked
    }

    /// Starts to finish: no connection is accepted any more, and every one is closed, politely.
    pub fn drain<D: Driver>(&mut self, driver: &mut D) {
        if !std::mem::replace(&mut self.draining, true) {
            driver.stop_accepting();
        }
    }

    /// Says whether a shard that was asked to finish has no connection left.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.draining && self.stats.connections == 0
    }

    fn drain_some<D: Driver>(&mut self, driver: &mut D) -> bool {
        let slots = self.connections.len() as u32;
        if self.drain_next >= slots {
            return false;
        }
        let end = slots.min(self.drain_next + DRAINED_PER_TURN as u32);
        for slot in self.drain_next..end {
            match self.connections[slot as usize].kind {
                Kind::Payload | Kind::Line | Kind::Echo => {
                    self.close_websocket(driver, slot, close::GOING_AWAY, "the engine is shutting down");
                }
                Kind::Stream => self.end_stream(driver, slot),
                Kind::Http => match self.active_if_any(slot) {
                    Some(active) if active.pending.what == Asked::LongPoll => {
                        active.pending.keep_alive = false;
                        self.answer_long_poll(driver, slot);
                    }
                    // Its body is on its way, and has its time: what ends first, that or the time to finish.
                    Some(active) if active.arriving != Body::Done && active.pending.what != Asked::Discard => {
                        active.pending.keep_alive = false;
                    }
                    // It gets its answer, and nothing after it.
                    Some(active) if active.waiting != Waiting::No || !active.queue.is_empty() => {
                        active.pending.keep_alive = false;
                        active.closing |= active.waiting == Waiting::No;
                        self.wheel.set(slot, self.tick, self.limits.linger_ms);
                    }
                    // Its head is on its way.
                    Some(active) if !active.carry.is_empty() => {
                        self.wheel.set(slot, self.tick, self.limits.linger_ms);
                    }
                    _ => self.kill(driver, slot),
                },
                _ => {}
            }
        }
        self.drain_next = end;
        true
    }
}
