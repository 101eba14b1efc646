//! HTTP: request heads, bodies, and what a request does once it is complete.
//!
//! One request of a connection is handled at a time; what was sent ahead waits in the connection's carry buffer, and a
//! client that sends on and on without reading its answers is not read any more.
//!
//! A request has one answer. Where that comes before the end of the body (`route` refused it), and it is not known where the
//! body ends or that is far, the answer says that the connection ends, and so it does.

use corecast_protocol::http::body::Chunked;
use corecast_protocol::http::head::{self, BodyLength, Method, Request};
use corecast_protocol::http::response;
use corecast_protocol::violation::Violation;

use crate::grant::Action;
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Reason, Start};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::carrier::websocket::is_utf8;
use crate::shard::grant::recognize::Recognized;
use crate::shard::limits::Limits;
use crate::shard::refusal::Refusal;
use crate::shard::session::order::Order;
use crate::shard::session::request::exchange::{Asked, Body, Pending};
use crate::shard::session::request::origin::{self, Welcome};
use crate::shard::session::request::route::Detour;
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::keep::Shelf;
use crate::shard::slot::wait::{Outcome, Told};
use crate::shard::topic::subscribe::start_of;

/// What the first byte of a TLS connection says: a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// That somebody speaks TLS is said this often at most, in microseconds.
const TLS_WARN_US: u64 = 10_000_000;

impl Shard {
    /// Takes a request, or the next part of one; returns the bytes used, 0 if more are needed.
    pub(in crate::shard) fn http<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) -> usize {
        if self.slots.is_closing(slot) {
            return bytes.len(); // Nothing behind our last word is believed.
        }
        if self.is_arriving(slot) {
            return self.body(driver, slot, bytes);
        }
        match head::parse(bytes, self.limits.head_bytes_max as usize) {
            Ok(None) => 0,
            Ok(Some((request, used))) => self.head(driver, slot, &request, used, &bytes[used..]),
            Err(violation) => {
                self.broken_head(driver, slot, violation, bytes);
                bytes.len()
            }
        }
    }

    /// Handles a request head; returns the bytes used, of the head and of the body behind it.
    fn head<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        used: usize,
        rest: &[u8],
    ) -> usize {
        let entrance = self.enter(slot, request);
        let misdirected = self.is_misdirected(slot, request, entrance);
        let met = if misdirected { Welcome::No } else { self.meet(slot, request, entrance) };
        let origin = if met == Welcome::No { "" } else { request.headers.origin.unwrap_or("") };
        let pending = Pending {
            what: Asked::Discard,
            keep_alive: request.keep_alive && !self.is_leaving(slot),
            cut: self.is_cut(request, rest),
            by_accept: false,
            strange: met == Welcome::No,
            credentials: met == Welcome::AsOurs && self.limits.cors_credentials,
            http10: request.http10,
            head_only: request.method == Method::Head,
        };
        let known = self.begin_exchange(slot, pending);
        self.note_request(slot, request.method.name(), request.path);
        let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
        active.heading = false;
        let words = &mut self.exchanges[active.state as usize].words;
        let kept = words.begin(&mut self.store, driver.memory_mut(), origin);
        self.slots.connections[slot as usize].opened_tick = self.clock.tick;
        self.timers.wheel.set(slot, self.clock.tick, self.limits.request_ms);
        if misdirected {
            self.answer_error(driver, slot, 421, origin::MISDIRECTED, true);
            return used;
        }
        if self.slots.connections[slot as usize].counted.full {
            self.refuse_request(driver, slot, Refusal::TooMany, true);
            return used;
        }
        // An HTTP/1.0 peer's Upgrade is ignored (RFC 9110 section 7.8).
        let upgrades = request.headers.connection_upgrade && request.headers.upgrade_websocket && !request.http10;
        let recognized = if known { None } else { Some(self.recognize(slot, request)) };
        let refused = match recognized {
            None => None,
            Some(Recognized::As(grant)) => {
                self.exchange(slot).grant = grant;
                None
            }
            Some(Recognized::Wait(wait)) => {
                // The head is read once more when what it waits for has come.
                self.end_exchange(slot);
                self.wait(slot, wait);
                return 0;
            }
            Some(Recognized::Refused(refusal, text)) => Some((refusal, text)),
        };
        if let Some((refusal, text)) = refused.filter(|_| upgrades) {
            self.refuse_request_because(driver, slot, refusal, text, true);
            return used;
        }
        if upgrades {
            return self.upgrade(driver, slot, request, used);
        }
        let body_bytes_max = if let Some((refusal, text)) = refused {
            self.refuse_request_because(driver, slot, refusal, text, false);
            self.limits.message_bytes_max.into()
        } else if !kept || !self.keep_conditions(driver, slot, request) {
            self.refuse_request(driver, slot, Refusal::Full, false);
            self.limits.message_bytes_max.into()
        } else {
            match self.route(driver, slot, request) {
                Ok(body_bytes_max) => body_bytes_max,
                Err(Detour::Wait(wait)) => {
                    self.read_head_again(slot, wait);
                    return 0;
                }
                Err(Detour::Wrong(violation)) => {
                    self.answer_error(driver, slot, violation.status(), violation.text(), false);
                    self.limits.message_bytes_max.into()
                }
            }
        };
        if !self.is_http(slot) || self.slots.is_closing(slot) {
            return used;
        }
        if self.asks_for(slot) == Asked::Discard && pending.cut {
            self.end_after_answer(slot); // Its answer said so.
            return used;
        }
        let arriving = match request.body {
            BodyLength::None | BodyLength::Sized(0) => Body::Done,
            // What is answered already has no other answer: its body is thrown away, and all of it is here or comes soon.
            BodyLength::Sized(len) if len > body_bytes_max && self.asks_for(slot) != Asked::Discard => {
                // Neither kept nor thrown away byte by byte: the sender is told, and the connection ends.
                self.too_large(driver, slot);
                return used;
            }
            BodyLength::Sized(len) if len as usize <= rest.len() => {
                self.request(driver, slot, &rest[..len as usize]);
                return used + len as usize;
            }
            BodyLength::Sized(len) => Body::Sized(len),
            BodyLength::Chunked => Body::Chunked(Chunked::default()),
        };
        self.exchange(slot).arriving = arriving;
        if arriving == Body::Done {
            self.request(driver, slot, &[]);
        } else if request.expect_continue && rest.is_empty() {
            self.push(driver, slot, response::CONTINUE);
        }
        used
    }

    /// Says whether an answer to this head would have to end the connection: the client waits to hear whether it shall send its
    /// body, or the body is not here and would take long to throw away, or is in chunks that nobody knows to be sound.
    fn is_cut(&self, request: &Request<'_>, rest: &[u8]) -> bool {
        let waits = request.expect_continue && rest.is_empty();
        match request.body {
            BodyLength::None | BodyLength::Sized(0) => false,
            BodyLength::Sized(len) => {
                waits || len > u64::from(self.limits.message_bytes_max) && len > rest.len() as u64
            }
            BodyLength::Chunked => {
                let (mut chunked, mut at) = (Chunked::default(), 0);
                while at < rest.len() {
                    match chunked.next(&rest[at..]) {
                        Ok(piece) if piece.done => return false,
                        Ok(piece) => at += piece.consumed,
                        Err(_) => break,
                    }
                }
                true
            }
        }
    }

    /// Takes the next part of a body; returns the bytes used.
    fn body<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) -> usize {
        let index = self.slots.connections[slot as usize].active as usize;
        let active = &self.slots.actives[index];
        let held = u64::from(active.body.len());
        let exchange = &mut self.exchanges[active.state as usize];
        let bytes_max = match exchange.pending.what {
            Asked::Batch => self.limits.batch_bytes_max(),
            Asked::Publish => {
                let topic = exchange.words.topic(driver.memory());
                u64::from(self.limits.message_bytes_max_of(topic.text()))
            }
            _ => u64::from(self.limits.message_bytes_max),
        };
        let (used, data, done, announced) = match &mut exchange.arriving {
            Body::Sized(left) => {
                let taken = (*left).min(bytes.len() as u64) as usize;
                *left -= taken as u64;
                (taken, 0..taken, *left == 0, 0)
            }
            Body::Chunked(chunked) => match chunked.next(bytes) {
                Ok(piece) => (piece.consumed, piece.data, piece.done, chunked.announced()),
                Err(violation) => {
                    self.broken(driver, slot, violation);
                    return bytes.len();
                }
            },
            Body::Done => return 0,
        };
        if exchange.pending.what != Asked::Discard {
            if held.saturating_add(data.len() as u64).saturating_add(announced) > bytes_max {
                self.too_large(driver, slot);
                return bytes.len();
            }
            if !self.keep(driver, slot, Shelf::Body, &bytes[data]) {
                self.refuse_request(driver, slot, Refusal::Full, true);
                return bytes.len();
            }
        }
        if done {
            self.exchange(slot).arriving = Body::Done;
            self.whole_body(driver, slot);
        }
        used
    }

    fn whole_body<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.asks_for(slot) == Asked::Batch {
            self.exchange(slot).pending.cut = false;
            self.begin_batch(driver, slot); // It is read where it stands.
            return;
        }
        self.resume_request(driver, slot);
    }

    /// Goes on with a request whose body stands complete.
    pub(in crate::shard) fn resume_request<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.asks_for(slot) == Asked::Batch {
            self.batch_step(driver, slot);
            return;
        }
        let body = self.take_whole(driver, slot);
        self.request(driver, slot, &body);
        self.scratch.whole = body;
    }

    /// Does what the pending request asks for, its body being complete. What has to wait for room is kept.
    pub(in crate::shard) fn request<D: Driver>(&mut self, driver: &mut D, slot: Slot, body: &[u8]) {
        let exchange = self.exchange(slot);
        let (topic, event) = (exchange.words.topic(driver.memory()), exchange.words.event(driver.memory()));
        let key = exchange.words.key(driver.memory());
        let (topic, event, key, op) = (topic.text(), event.text(), key.text(), exchange.op);
        exchange.pending.cut = false;
        let (what, expected, asks_first) = (exchange.pending.what, exchange.expected, exchange.awaits_condition());
        let (since, numbered) = (exchange.since, exchange.numbered);
        let outcome = match what {
            Asked::Nothing => return,
            Asked::Subscribe => return self.poll(driver, slot),
            Asked::Discard => return self.request_ends(slot),
            Asked::Publish | Asked::Clear if asks_first => {
                let outcome = self.ask_topic(slot, topic, Action::Publish, Start::Latest);
                if outcome == Outcome::Done {
                    // It comes back here when it is known what there is.
                    self.active(slot).waiting = Waiting::Answer;
                    self.stash(driver, slot, false, body);
                    return;
                }
                outcome
            }
            Asked::Publish => {
                let content = Content { event, payload: body, text: is_utf8(body), key, ..Default::default() };
                let asker = Asker::Connection;
                self.order(slot, Order::Publish { topic, content, op, expected, numbered, asker, token: "" })
            }
            Asked::Batch => {
                if self.keep(driver, slot, Shelf::Body, body) {
                    self.begin_batch(driver, slot);
                } else {
                    self.refuse_request(driver, slot, Refusal::Full, false);
                    self.request_ends(slot);
                }
                return;
            }
            Asked::Clear => self.order(slot, Order::Clear { topic, expected }),
            Asked::Poll => self.ask_topic(slot, topic, Action::Subscribe, start_of(since)),
            // Of many values, the one that changed last.
            Asked::Value => self.ask_topic(slot, topic, Action::Subscribe, Start::Last(1)),
        };
        match outcome {
            Outcome::Wait(wait) => {
                self.wait(slot, wait);
                self.stash(driver, slot, false, body);
            }
            Outcome::Done => self.active(slot).waiting = Waiting::Answer,
            Outcome::Refused(refusal) => {
                self.refuse_request(driver, slot, refusal, false);
                self.request_ends(slot);
            }
        }
    }

    /// Asks for messages of a topic; answers to what was asked before are none of this request.
    fn ask_topic(&mut self, slot: Slot, topic: &str, action: Action, from: Start) -> Outcome {
        let serial = self.next_serial();
        self.exchange(slot).serial = serial;
        self.order(slot, Order::Ask { topic, action, from, serial })
    }

    /// Says whether an answer is that to what the present request of a connection has asked.
    pub(in crate::shard) fn expects(&self, slot: Slot, serial: u32) -> bool {
        self.exchange_if_any(slot).is_some_and(|exchange| exchange.serial == serial)
    }

    /// A home has done what a request ordered, or has not.
    pub(in crate::shard) fn request_is_done<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        outcome: Result<Told, Reason>,
    ) {
        match self.asks_for(slot) {
            Asked::Batch => self.line_is_done(driver, slot, outcome),
            _ => self.answer_publication(driver, slot, outcome),
        }
    }

    /// A body takes too much memory for too long.
    pub(in crate::shard) fn give_up_request<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
        active.body.clear(&mut self.store);
        active.carry.clear(&mut self.store);
        self.refuse_request(driver, slot, Refusal::Full, true);
    }

    /// Nothing more is taken: when the queue has drained, the connection ends.
    pub(in crate::shard) fn end_after_answer(&mut self, slot: Slot) {
        if self.is_http(slot) {
            self.exchange(slot).arriving = Body::Done;
            self.active(slot).closing = true;
            self.slots.make_ready(slot);
        }
    }

    fn too_large<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.refuse_request(driver, slot, Refusal::TooLarge, true);
    }

    /// Keeps the topic and the event name, or callback, of a request; says false, and answers so, if there is no memory for them.
    #[must_use]
    pub(in crate::shard) fn name<D: Driver>(&mut self, driver: &mut D, slot: Slot, topic: &str, event: &str) -> bool {
        self.name_with_key(driver, slot, topic, event, "")
    }

    /// The same, and keeps the key of what it publishes.
    #[must_use]
    pub(in crate::shard) fn name_with_key<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        topic: &str,
        event: &str,
        key: &str,
    ) -> bool {
        self.exchange(slot);
        let index = self.slots.actives[self.slots.connections[slot as usize].active as usize].state as usize;
        let named = self.exchanges[index].words.name((&mut self.store, driver.memory_mut()), topic, event, key);
        if !named {
            self.refuse_request(driver, slot, Refusal::Full, false);
        }
        named
    }

    /// A head makes no sense: the sender is told, and nothing after it is believed.
    fn broken_head<D: Driver>(&mut self, driver: &mut D, slot: Slot, violation: Violation, bytes: &[u8]) {
        if bytes.first() == Some(&TLS_HANDSHAKE) && self.clock.now_us >= self.tls_warn_us {
            self.tls_warn_us = self.clock.now_us + TLS_WARN_US;
            let peer = self.slots.connections[slot as usize].peer();
            tracing::warn!(shard = self.index, %peer, "a client speaks TLS to a port that speaks plain HTTP");
        }
        self.end_exchange(slot);
        self.note_request(slot, "", "");
        self.exchange(slot).pending.head_only = head::is_for_head(bytes);
        self.broken(driver, slot, violation);
    }

    /// The bytes make no sense: the sender is told, unless it has its answer, and nothing after them is believed.
    fn broken<D: Driver>(&mut self, driver: &mut D, slot: Slot, violation: Violation) {
        self.stats.violations += 1;
        let peer = self.slots.connections[slot as usize].peer();
        tracing::debug!(shard = self.index, %peer, rule = violation.text(), "violation");
        if self.is_answered(slot) {
            self.end_after_answer(slot);
        } else {
            self.answer_error(driver, slot, violation.status(), violation.text(), true);
        }
    }

    /// Says whether the request whose body is on its way has its answer.
    pub(in crate::shard) fn is_answered(&self, slot: Slot) -> bool {
        self.is_arriving(slot) && self.asks_for(slot) == Asked::Discard
    }

    pub(in crate::shard) fn is_http(&self, slot: Slot) -> bool {
        self.slots.connections[slot as usize].is(Session::Request)
    }

    /// The time of a request, or of its answer, is over.
    pub(in crate::shard) fn expire_request<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let answered = self.is_answered(slot);
        let (kept_alive, leaving) = (self.slots.connections[slot as usize].opened_tick > 0, self.is_leaving(slot));
        let Limits { request_ms, linger_ms, .. } = self.limits;
        let patience_ms = if leaving { linger_ms } else { request_ms };
        let arriving = self.is_arriving(slot);
        let Some(active) = self.slots.active_if_any(slot) else {
            self.kill(driver, slot); // Nothing was begun.
            return;
        };
        let idle = active.queue.is_empty() && active.sending == 0 && !active.closing;
        let begun = arriving || active.heading || !kept_alive && !active.carry.is_empty();
        if matches!(active.waiting, Waiting::Answer | Waiting::Room(_) | Waiting::Turn | Waiting::Verdict(_)) {
            // The answer is late, not the peer.
            self.timers.wheel.set(slot, self.clock.tick, request_ms);
        } else if active.is_read_in(patience_ms) {
            self.timers.wheel.set(slot, self.clock.tick, patience_ms);
        } else if idle && begun && !answered {
            if !arriving {
                let head_only = head::is_for_head(driver.memory().bytes(active.carry.span()));
                self.end_exchange(slot);
                self.exchange(slot).pending.head_only = head_only;
            }
            reach(if arriving { Mark::BodyTooSlow } else { Mark::HeadTooSlow });
            self.stats.violations += 1;
            self.answer_error(driver, slot, 408, "the request did not arrive in time", true);
            self.timers.wheel.set(slot, self.clock.tick, linger_ms);
        } else {
            // It has its answer, or does not read it.
            self.kill(driver, slot);
        }
    }

    /// The engine is asked to finish: what was asked for is answered, and nothing after it.
    pub(in crate::shard) fn finish_request<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let body_comes = self.is_arriving(slot) && !self.is_answered(slot);
        let is_new = self.frozen && self.slots.connections[slot as usize].opened_tick == 0;
        match self.slots.active_if_any(slot) {
            // Its body is on its way, and has its time: what ends first, that or the time to finish.
            Some(_) if body_comes => self.exchange(slot).pending.keep_alive = false,
            // It gets its answer, and nothing after it.
            Some(active) if active.waiting != Waiting::No || !active.queue.is_empty() => {
                active.closing |= active.waiting == Waiting::No;
                if let Some(exchange) = self.exchange_if_any_mut(slot) {
                    exchange.pending.keep_alive = false;
                }
                self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
            }
            // Its head is on its way.
            Some(active) if !active.carry.is_empty() => {
                self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
            }
            // It has only just come, and its first request may be on its way: it would find itself refused by who hands over.
            _ if is_new => {
                self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
            }
            _ => self.kill(driver, slot),
        }
    }

    /// A head that has begun has its time; that of the first one runs since the connection stands.
    pub(in crate::shard) fn time_head(&mut self, slot: Slot) {
        let connection = &self.slots.connections[slot as usize];
        let (requests, opened_tick) = (connection.is(Session::Request), connection.opened_tick);
        let arriving = self.is_arriving(slot);
        let active = self.active(slot);
        let between = !arriving && active.waiting == Waiting::No && !active.closing;
        if requests && opened_tick > 0 && between && !std::mem::replace(&mut active.heading, true) {
            self.timers.wheel.set(slot, self.clock.tick, self.limits.head_ms);
        }
    }
}
