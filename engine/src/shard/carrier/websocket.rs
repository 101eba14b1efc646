//! WebSockets: frames in, and messages out of them.

use corecast_protocol::violation::Violation;
use corecast_protocol::ws::decoder::Event;
use corecast_protocol::ws::{close, frame};

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::limits::Limits;
use crate::shard::memory::wheel::TICK_MS;
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::{Life, Waiting};
use crate::shard::slot::keep::Shelf;
use crate::shard::slot::wait::Outcome;
use crate::shard::topic::topics::LOOK;
use crate::shard::work::{INFLATED_BYTE_NS, PIECE_NS};

impl Shard {
    /// Takes the next frame, or part of one; returns the bytes used, 0 if more are needed.
    pub(in crate::shard) fn frames<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> usize {
        let bytes_max = self.bytes_max(slot);
        let step = match self.slots.connections[slot as usize].decoder.next(bytes, bytes_max) {
            Ok(step) => step,
            Err(violation) => {
                self.violated(driver, slot, violation);
                return bytes.len();
            }
        };
        let connection = &mut self.slots.connections[slot as usize];
        if step.event.is_some() && !connection.decoder.mid_message() {
            // What was begun is complete: the time of the next message begins with its first byte.
            connection.opened_tick = 0;
        }
        match step.event {
            _ if self.slots.is_closing(slot) && !matches!(step.event, Some(Event::Close { .. })) => {}
            None | Some(Event::Pong(_)) => {}
            Some(Event::Data { text, compressed: false, data, first: true, last: true }) => {
                self.message(driver, slot, text, &mut bytes[data]);
            }
            Some(Event::Data { text, compressed: true, data, first: true, last: true }) => {
                self.compressed_message(driver, slot, text, &bytes[data]);
            }
            Some(Event::Data { text, compressed, data, last, .. }) => {
                if self.piece(driver, slot, &bytes[data]) && last {
                    self.last_piece(driver, slot, text, compressed);
                }
            }
            Some(Event::Ping(payload)) => self.pong(driver, slot, &bytes[payload]),
            Some(Event::Close { code, .. }) => {
                if self.slots.is_closing(slot) {
                    self.slots.connections[slot as usize].ended = true;
                    self.slots.make_ready(slot);
                } else {
                    self.close_websocket(driver, slot, code.unwrap_or(close::NORMAL), "");
                }
            }
        }
        step.consumed
    }

    /// Keeps a piece of a message; says false if there is no memory for it.
    #[must_use]
    fn piece<D: Driver>(&mut self, driver: &mut D, slot: Slot, piece: &[u8]) -> bool {
        let kept = self.keep(driver, slot, Shelf::Body, piece);
        if !kept {
            self.shed(driver, slot);
        }
        kept
    }

    /// Handles a message whose last piece was kept.
    fn last_piece<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, compressed: bool) {
        let mut bytes = self.take_whole(driver, slot);
        if compressed {
            self.compressed_message(driver, slot, text, &bytes);
        } else {
            self.message(driver, slot, text, &mut bytes);
        }
        self.scratch.whole = bytes;
    }

    /// Handles a whole message that came compressed.
    fn compressed_message<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, compressed: &[u8]) {
        let bytes_max = self.bytes_max(slot);
        let mut bytes = std::mem::take(&mut self.scratch.inflated);
        let inflated = self.inflater.inflate(compressed, bytes_max, &mut bytes);
        self.work.spend(PIECE_NS + bytes.len() as u64 * INFLATED_BYTE_NS);
        match inflated {
            Ok(()) if text && !is_utf8(&bytes) => self.violated(driver, slot, Violation::NotUtf8),
            Ok(()) => self.message(driver, slot, text, &mut bytes),
            Err(violation) => self.violated(driver, slot, violation),
        }
        self.scratch.inflated = bytes;
    }

    /// Returns the largest message that the connection may send, in bytes.
    fn bytes_max(&self, slot: Slot) -> usize {
        self.limits.message_bytes_max as usize + self.slots.connections[slot as usize].session.traits().header_bytes
    }

    /// Handles a whole message; one that has to wait is kept.
    pub(in crate::shard) fn message<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, bytes: &mut [u8]) {
        if self.slots.is_closing(slot) {
            return; // It waited, and meanwhile the last word was said.
        }
        if let Outcome::Wait(wait) = self.handle_message(driver, slot, text, bytes) {
            self.wait(slot, wait);
            self.stash(driver, slot, text, bytes);
        }
    }

    /// Handles a message that had to wait.
    pub(in crate::shard) fn resume_message<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let text = self.active(slot).text;
        let mut bytes = self.take_whole(driver, slot);
        self.message(driver, slot, text, &mut bytes);
        self.scratch.whole = bytes;
    }

    pub(in crate::shard) fn violated<D: Driver>(&mut self, driver: &mut D, slot: Slot, violation: Violation) {
        if violation == Violation::MessageTooLarge {
            self.refuse_connection(driver, slot, Refusal::TooLarge); // It breaks a limit of ours, not a rule.
            return;
        }
        self.stats.violations += 1;
        let connection = &self.slots.connections[slot as usize];
        tracing::debug!(shard = self.index, peer = %connection.peer(), rule = violation.text(), "violation");
        self.close_websocket(driver, slot, violation.close_code(), violation.text());
    }

    /// Ends a WebSocket with a close frame, after what is in its queue.
    pub(in crate::shard) fn close_websocket<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        if !self.slots.is_websocket(slot) || self.slots.is_closing(slot) {
            return;
        }
        if !self.unsubscribe_in_order(driver, slot) {
            self.kill(driver, slot);
            return;
        }
        if let Some(active) = self.slots.actives.get_mut(self.slots.connections[slot as usize].active as usize) {
            // What it has not finished is not waited for.
            active.body.clear(&mut self.store);
            active.carry.clear(&mut self.store);
        }
        self.last_words(driver, slot, code, reason);
        let mut bytes = [0; 131];
        let written = frame::write_close(&mut bytes, code, reason);
        let len = written.expect("the longest close frame has 129 bytes");
        self.push(driver, slot, &bytes[..len]);
        if self.slots.is_websocket(slot) {
            self.access.ends_with(slot, code);
            self.active(slot).closing = true;
            // A peer that does not read its farewell has as long as one that does not answer it.
            self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
            self.slots.make_ready(slot);
        }
    }

    /// Puts a ping into the connection's queue.
    pub(in crate::shard) fn ping<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut bytes = [0; 2];
        let len = frame::write_header(&mut bytes, true, false, frame::Opcode::Ping, 0, None);
        self.push(driver, slot, &bytes[..len]);
    }

    /// A WebSocket is to be looked at: is a message late, has it to be pinged, is its peer dead?
    pub(in crate::shard) fn expire_websocket<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Limits { ping_ms, dead_ms, .. } = self.limits;
        if self.slots.is_closing(slot) {
            self.expire_farewell(driver, slot);
            return;
        }
        let begun_tick = self.slots.connections[slot as usize].opened_tick;
        let message_ms = match begun_tick {
            0 => u64::MAX,
            tick => self.limits.request_ms.saturating_sub(u64::from(self.clock.tick - tick) * TICK_MS),
        };
        if message_ms == 0 {
            reach(Mark::MessageTooSlow);
            self.violated(driver, slot, Violation::MessageTooSlow);
            return;
        }
        self.choose_receive(driver, slot);
        let late =
            |waiting| matches!(waiting, Waiting::Room(_) | Waiting::Answer | Waiting::Turn | Waiting::Verdict(_));
        if self.slots.active_if_any(slot).is_some_and(|active| late(active.waiting)) {
            // It is we who are late, and may not have read what it says. It is pinged like others, for its own sake.
            let connection = &mut self.slots.connections[slot as usize];
            connection.pinged = false;
            if u64::from(self.clock.tick - connection.heard_tick) * TICK_MS >= ping_ms {
                connection.heard_tick = self.clock.tick;
                self.ping(driver, slot);
                if self.slots.connections[slot as usize].life == Life::Dead {
                    return;
                }
            }
        }
        let connection = &self.slots.connections[slot as usize];
        let silent_ms = u64::from(self.clock.tick - connection.heard_tick) * TICK_MS;
        let pinged = connection.pinged;
        // What was delivered and taken shows that the peer lives as well as a pong does; the kernel gives up a
        // connection that does not acknowledge (TCP_USER_TIMEOUT). Whom the walk serves has been sent what its log has got; others
        // may wait for their time, or for a replay, while their topic is busy.
        let walked_tick = match self.topics.subscriptions.get(connection.first as usize) {
            Some(place) if self.topics.subscriber(connection.first).flags & LOOK == 0 => {
                self.topics.logs[place.log as usize].appended_tick
            }
            _ => 0,
        };
        let flowed_ms = match connection.sent_tick.max(walked_tick) {
            0 => u64::MAX,
            _ if connection.blocked => u64::MAX,
            tick => u64::from(self.clock.tick.saturating_sub(tick)) * TICK_MS,
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
            let since_tick = self.clock.tick.saturating_sub((ping_ms / TICK_MS) as u32);
            let connection = &mut self.slots.connections[slot as usize];
            connection.heard_tick = connection.heard_tick.max(since_tick);
            connection.pinged = true;
            self.ping(driver, slot);
            if self.slots.connections[slot as usize].life == Life::Dead {
                return;
            }
            // If it answers now, it can have been silent for so long again by then.
            ping_ms.min(dead_ms - ping_ms)
        } else {
            ping_ms - quiet_ms
        };
        let after_ms = self.with_jitter(after_ms).min(message_ms);
        self.timers.wheel.set(slot, self.clock.tick, after_ms);
        self.watch_right(slot);
    }
}

/// Says whether bytes are UTF-8.
pub(in crate::shard) fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}
