//! WebSockets: frames in, messages and commands out of them, and the short answers back.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::dialect::line as answer;
use corecast_protocol::line::{self, Command, ErrCode};
use corecast_protocol::message::Message;
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::Event;
use corecast_protocol::ws::{close, frame};

use super::Shard;
use super::connection::{Kind, Waiting};
use super::crossing::Way;
use super::encode::Effort;
use super::subscribe::{Outcome, Wish};
use super::topics::{NONE, UNRESOLVED};
use super::work::{INFLATED_BYTE_NS, PIECE_NS};
use crate::io::driver::{Driver, Slot};
use crate::io::memory::Span;
use crate::mesh::{Content, Purpose};

/// Publications with a token that one connection may have on their way.
pub(super) const TICKETS_MAX: u32 = 64;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handled {
    /// It is done.
    Done,
    /// It has to wait for room in the ring to a home.
    Room(Way),
    /// It has to wait for an answer that is on its way.
    Answer,
}

impl Shard {
    /// Takes the next frame, or part of one; returns the bytes used, 0 if more are needed.
    pub(super) fn frames<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> usize {
        let bytes_max = self.bytes_max(slot);
        let step = match self.connections[slot as usize].decoder.next(bytes, bytes_max) {
            Ok(step) => step,
            Err(violation) => {
                self.violated(driver, slot, violation);
                return bytes.len();
            }
        };
        let connection = &mut self.connections[slot as usize];
        if step.event.is_some() && !connection.decoder.mid_message() {
            // What was begun is complete: the time of the next message begins with its first byte.
            connection.opened_tick = 0;
        }
        match step.event {
            _ if self.is_closing(slot) && !matches!(step.event, Some(Event::Close { .. })) => {}
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
                if self.is_closing(slot) {
                    self.connections[slot as usize].ended = true;
                    self.make_ready(slot);
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
        self.active(slot);
        let index = self.connections[slot as usize].active as usize;
        let kept = self.actives[index].body.push(&mut self.store, driver.memory_mut(), piece);
        if !kept {
            self.shed(driver, slot);
        }
        kept
    }

    /// Handles a message whose last piece was kept.
    fn last_piece<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, compressed: bool) {
        let index = self.connections[slot as usize].active as usize;
        let span = self.actives[index].body.span();
        let mut bytes = std::mem::take(&mut self.whole);
        bytes.clear();
        bytes.extend_from_slice(driver.memory().bytes(span));
        self.actives[index].body.clear(&mut self.store);
        if compressed {
            self.compressed_message(driver, slot, text, &bytes);
        } else {
            self.message(driver, slot, text, &mut bytes);
        }
        self.whole = bytes;
    }

    /// Handles a whole message that came compressed.
    fn compressed_message<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, compressed: &[u8]) {
        let bytes_max = self.bytes_max(slot);
        let mut bytes = std::mem::take(&mut self.inflated);
        let inflated = self.inflater.inflate(compressed, bytes_max, &mut bytes);
        self.work.spend(PIECE_NS + bytes.len() as u64 * INFLATED_BYTE_NS);
        match inflated {
            Ok(()) if text && !is_utf8(&bytes) => self.violated(driver, slot, Violation::NotUtf8),
            Ok(()) => self.message(driver, slot, text, &mut bytes),
            Err(violation) => self.violated(driver, slot, violation),
        }
        self.inflated = bytes;
    }

    /// Returns the largest message that the connection may send, in bytes.
    fn bytes_max(&self, slot: Slot) -> usize {
        let head = if self.connections[slot as usize].kind == Kind::Line { line::HEADER_BYTES_MAX } else { 0 };
        self.limits.message_bytes_max as usize + head
    }

    /// Handles a whole message; one that has to wait is kept.
    pub(super) fn message<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, bytes: &mut [u8]) {
        if self.is_closing(slot) {
            return; // It waited, and meanwhile the last word was said.
        }
        let handled = match self.connections[slot as usize].kind {
            Kind::Payload => self.publish_payload(driver, slot, text, bytes),
            Kind::Line => self.command(driver, slot, bytes),
            Kind::Echo => {
                self.echo(driver, slot, text, bytes);
                Handled::Done
            }
            _ => Handled::Done,
        };
        match handled {
            Handled::Done => {}
            Handled::Room(way) => {
                self.park(slot, way);
                self.stash(driver, slot, text, bytes);
            }
            Handled::Answer => {
                self.active(slot).waiting = Waiting::Answer;
                self.stash(driver, slot, text, bytes);
            }
        }
    }

    fn publish_payload<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, bytes: &[u8]) -> Handled {
        let membership = self.connections[slot as usize].first;
        if membership == NONE {
            return Handled::Done;
        }
        let log = &self.topics.logs[self.topics.memberships[membership as usize].log as usize];
        let mut topic = [0; 255];
        let name = self.topics.topic(log.topic).name().text.as_bytes();
        let topic = &mut topic[..name.len()];
        topic.copy_from_slice(name);
        let topic = std::str::from_utf8(topic).expect("topics are text");
        if corecast_protocol::topic::is_system(topic) {
            self.close_websocket(driver, slot, close::POLICY, "topics that start with $ belong to the engine");
            return Handled::Done;
        }
        let text = text || is_utf8(bytes);
        match self.publish(slot, topic, Content { event: "", payload: bytes, text }, Purpose::Silent, "") {
            Outcome::NoRoom(way) => Handled::Room(way),
            Outcome::Done | Outcome::Full => Handled::Done,
        }
    }

    fn command<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> Handled {
        // A percent-encoded topic is decoded where it stands; the message must stay as it came, should it have to wait.
        let head = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        if bytes[..head].contains(&b'%') {
            let mut copy = bytes.to_vec();
            return self.parsed_command(driver, slot, &mut copy);
        }
        self.parsed_command(driver, slot, bytes)
    }

    fn parsed_command<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> Handled {
        match line::parse(bytes) {
            Ok(Command::Sub { topic, since, conflate, every_ms, id }) => {
                let token = id.unwrap_or("");
                self.command_sub(driver, slot, topic, since, conflate, every_ms, token)
            }
            Ok(Command::Unsub { topic, id }) => {
                let membership = self.membership_of(slot, topic);
                let unresolved = |membership| self.topics.subscriber(membership).flags & UNRESOLVED != 0;
                if membership.is_some_and(unresolved) {
                    // The answer to its SUB is on its way, and comes first.
                    return Handled::Answer;
                }
                match membership {
                    Some(membership) if !self.unsubscribe(driver, slot, membership) => self.kill(driver, slot),
                    _ => {
                        if let Some(token) = id {
                            self.tell_ok(driver, slot, token, None);
                        }
                    }
                }
                Handled::Done
            }
            Ok(Command::Pub { topic, event, id, payload }) => {
                if payload.len() > self.limits.message_bytes_max as usize {
                    self.tell_err(driver, slot, id, ErrCode::TooLarge, "the payload is too large");
                    return Handled::Done;
                }
                let content = Content { event: event.unwrap_or(""), text: is_utf8(payload), payload };
                let purpose = if id.is_some() { Purpose::Line } else { Purpose::Silent };
                if id.is_some() && self.active(slot).tickets >= TICKETS_MAX {
                    return Handled::Answer;
                }
                match self.publish(slot, topic, content, purpose, id.unwrap_or("")) {
                    Outcome::NoRoom(way) => return Handled::Room(way),
                    Outcome::Done | Outcome::Full => {}
                }
                if id.is_some() {
                    self.active(slot).tickets += 1;
                }
                Handled::Done
            }
            Ok(Command::Ping { token }) => {
                self.tell(driver, slot, |w| answer::pong(w, token));
                Handled::Done
            }
            Err(error) => {
                self.tell_err(driver, slot, error.token, error.code, error.text);
                Handled::Done
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn command_sub<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        topic: &str,
        since: Option<Since>,
        conflate: bool,
        every_ms: u32,
        token: &str,
    ) -> Handled {
        if !self.may_replay(slot, since.unwrap_or_default()) {
            return Handled::Answer;
        }
        if let Some(membership) = self.membership_of(slot, topic) {
            match since {
                None => {
                    self.change(slot, membership, conflate, every_ms);
                    if !token.is_empty() {
                        let log = self.topics.memberships[membership as usize].log;
                        let topic = self.topics.topic(self.topics.logs[log as usize].topic);
                        let head = Cursor { epoch: topic.epoch, seq: topic.next.saturating_sub(1) };
                        self.tell_ok(driver, slot, token, Some(head));
                    }
                    return Handled::Done;
                }
                // A new start is a new subscription; room for it is looked for before the old one ends.
                Some(_) => {
                    let home = self.home_of(self.hash(topic));
                    if let Err(way) = self.may_subscribe(home) {
                        return Handled::Room(way);
                    }
                    if !self.unsubscribe(driver, slot, membership) {
                        self.kill(driver, slot);
                        return Handled::Done;
                    }
                }
            }
        } else if self.connections[slot as usize].subscriptions >= self.limits.subscriptions_max {
            let id = Some(token).filter(|token| !token.is_empty());
            self.tell_err(driver, slot, id, ErrCode::TooMany, "too many subscriptions");
            return Handled::Done;
        }
        let wish = Wish { topic, since: since.unwrap_or_default(), conflate, every_ms, counted: false, token };
        match self.subscribe(slot, wish) {
            Outcome::Done => {}
            Outcome::NoRoom(way) => return Handled::Room(way),
            Outcome::Full => {
                let id = Some(token).filter(|token| !token.is_empty());
                self.tell_err(driver, slot, id, ErrCode::Full, "the engine is full");
            }
        }
        Handled::Done
    }

    fn echo<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, bytes: &[u8]) {
        let message = Message { topic: "", cursor: Cursor { epoch: 0, seq: 0 }, event: None, payload: bytes, text };
        let dialect = self.connections[slot as usize].dialect;
        let effort = Effort::From(self.limits.compress_from.unwrap_or(u32::MAX));
        let len = self.encoder.measure(dialect, &message, effort) as u32;
        self.work.spend(self.encoder.cost_ns);
        self.active(slot);
        let index = self.connections[slot as usize].active as usize;
        let memory = driver.memory_mut();
        match self.actives[index].queue.reserve(&mut self.store, memory, len) {
            Some(place) => {
                self.encoder.write(dialect, &message, memory.bytes_mut(place));
                self.queued(slot);
            }
            None => self.shed(driver, slot),
        }
    }

    pub(super) fn violated<D: Driver>(&mut self, driver: &mut D, slot: Slot, violation: Violation) {
        self.stats.violations += 1;
        let connection = &self.connections[slot as usize];
        tracing::debug!(shard = self.index, peer = %connection.peer(), rule = violation.text(), "violation");
        self.close_websocket(driver, slot, violation.close_code(), violation.text());
    }

    pub(super) fn tell_ok<D: Driver>(&mut self, driver: &mut D, slot: Slot, token: &str, cursor: Option<Cursor>) {
        self.tell(driver, slot, |w| answer::ok(w, token, cursor));
    }

    pub(super) fn tell_err<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: Option<&str>,
        code: ErrCode,
        text: &str,
    ) {
        self.tell(driver, slot, |w| answer::err(w, token, code, text));
    }

    /// Puts a line into the connection's queue.
    pub(super) fn tell<D: Driver>(&mut self, driver: &mut D, slot: Slot, write: impl FnOnce(&mut Writer<'_>)) {
        let mut text = std::mem::take(&mut self.text);
        let written = answer::text_frame(&mut text, write);
        let len = written.expect("the scratch holds the longest line");
        self.push(driver, slot, &text[..len]);
        self.text = text;
    }

    /// Puts bytes into the connection's queue; sheds the connection if there is no memory for them.
    pub(super) fn push<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) {
        let gone =
            matches!(self.connections[slot as usize].kind, Kind::Free | Kind::Lingering | Kind::Dead | Kind::Closing);
        if gone || self.is_closing(slot) {
            return; // Nobody reads it any more, or our last word stands in the queue already.
        }
        self.active(slot);
        let index = self.connections[slot as usize].active as usize;
        if self.actives[index].queue.push(&mut self.store, driver.memory_mut(), bytes) {
            self.queued(slot);
        } else {
            self.kill(driver, slot);
        }
    }

    /// Copies a frame into the connection's queue; says false if there is no memory.
    #[must_use]
    pub(super) fn queue_span<D: Driver>(&mut self, driver: &mut D, slot: Slot, frame: Span) -> bool {
        self.active(slot);
        let index = self.connections[slot as usize].active as usize;
        let memory = driver.memory_mut();
        let Some(place) = self.actives[index].queue.reserve(&mut self.store, memory, frame.len) else { return false };
        memory.copy(frame, place, frame.len);
        self.make_ready(slot);
        true
    }

    /// Copies the rest of a frame that was begun before everything in the connection's queue; says false if there is no
    /// memory.
    #[must_use]
    pub(super) fn queue_span_first<D: Driver>(&mut self, driver: &mut D, slot: Slot, rest: Span) -> bool {
        self.active(slot);
        let index = self.connections[slot as usize].active as usize;
        self.make_ready(slot);
        let active = &mut self.actives[index];
        let put = active.queue.push_front(&mut self.store, driver.memory_mut(), rest);
        if put {
            active.front.put_first(rest.len);
        }
        put
    }

    /// Something came into the connection's queue: it is to be sent; and if it is much, no command is taken meanwhile.
    pub(super) fn queued(&mut self, slot: Slot) {
        let private_bytes_max = self.limits.private_bytes_max;
        let active = self.active(slot);
        if active.waiting == Waiting::No && active.queue.len() > private_bytes_max {
            active.waiting = Waiting::Drain;
        }
        self.make_ready(slot);
    }

    /// Writes a close frame's worth of farewell in the line protocol.
    pub(super) fn say_bye<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        if self.connections[slot as usize].kind == Kind::Line && !reason.is_empty() {
            self.tell(driver, slot, |w| answer::bye(w, code, reason));
        }
    }

    /// Puts a ping into the connection's queue.
    pub(super) fn ping<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut bytes = [0; 2];
        let len = frame::write_header(&mut bytes, true, false, frame::Opcode::Ping, 0, None);
        self.push(driver, slot, &bytes[..len]);
    }
}

/// Says whether bytes are UTF-8.
pub(super) fn is_utf8(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok()
}
