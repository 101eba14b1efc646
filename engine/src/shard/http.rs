//! HTTP: request heads, routes, bodies, answers.
//!
//! One request of a connection is handled at a time; what was sent ahead waits in the connection's carry buffer, and a
//! client that sends on and on without reading its answers is not read any more.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::dialect::json as object;
use corecast_protocol::http::body::Chunked;
use corecast_protocol::http::head::{self, BodyLength, Method, Request};
use corecast_protocol::http::{query, response};
use corecast_protocol::line::GapReason;
use corecast_protocol::message::{Message, valid_event};
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Role};
use corecast_protocol::ws::handshake;
use corecast_protocol::{json, percent, topic};

use super::connection::{Asked, Batch, Body, Kind, Pending, Waiting};
use super::subscribe::{Outcome, Wish};
use super::websocket::is_utf8;
use super::{Shard, origin};
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Lost, Purpose, Reason, Start};

/// What a stranger sees at `/`.
const WELCOME: &str =
    "corecast: publish with POST /topics/{topic}, subscribe with a WebSocket at /ws or /topics/{topic}\n";

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Longest query value that is understood: the longest cursor list of one topic and the longest transport fit twice.
const VALUE_BYTES_MAX: usize = 64;

/// What an answer says.
#[derive(Clone, Copy, Debug)]
struct Answer<'a> {
    status: u16,
    content_type: Option<&'a str>,
    extra: &'a [(&'a str, &'a str)],
}

/// A WebSocket that was asked for.
#[derive(Clone, Copy, Debug)]
struct Upgrade<'a> {
    kind: Kind,
    accept: [u8; 28],
    subprotocol: Option<&'a str>,
}

impl Shard {
    /// Takes a request, or the next part of one; returns the bytes used, 0 if more are needed.
    pub(super) fn http<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) -> usize {
        if self.active_if_any(slot).is_some_and(|active| active.arriving != Body::Done) {
            return self.body(driver, slot, bytes);
        }
        match head::parse(bytes, self.limits.head_bytes_max as usize) {
            Ok(None) => 0,
            Ok(Some((request, used))) => self.head(driver, slot, &request, used, &bytes[used..]),
            Err(violation) => {
                self.broken(driver, slot, violation);
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
        let pending = Pending {
            what: Asked::Discard,
            keep_alive: request.keep_alive && !self.draining,
            http10: request.http10,
            head_only: request.method == Method::Head,
        };
        self.active(slot).pending = pending;
        self.wheel.set(slot, self.tick, self.limits.request_ms);
        if request.headers.connection_upgrade && request.headers.upgrade_websocket {
            return self.upgrade(driver, slot, request, used);
        }
        let body_bytes_max = match self.route(driver, slot, request) {
            Ok(body_bytes_max) => body_bytes_max,
            Err(violation) => {
                self.answer_error(driver, slot, violation.status(), violation.text(), false);
                self.limits.message_bytes_max.into()
            }
        };
        if !self.is_http(slot) || self.is_closing(slot) {
            return used;
        }
        let arriving = match request.body {
            BodyLength::None | BodyLength::Sized(0) => Body::Done,
            BodyLength::Sized(len) if len > body_bytes_max => {
                // Neither kept nor thrown away byte by byte: the sender is told, and the connection ends.
                self.too_large(driver, slot);
                return used;
            }
            BodyLength::Sized(len) if len as usize <= rest.len() => {
                self.active(slot).arriving = Body::Done;
                self.request(driver, slot, &rest[..len as usize]);
                return used + len as usize;
            }
            BodyLength::Sized(len) => Body::Sized(len),
            BodyLength::Chunked => Body::Chunked(Chunked::default()),
        };
        self.active(slot).arriving = arriving;
        if arriving == Body::Done {
            self.request(driver, slot, &[]);
        } else if request.expect_continue && rest.is_empty() {
            self.push(driver, slot, response::CONTINUE);
        }
        used
    }

    /// Finds out what a request asks for, and how large its body may be. Answers at once what needs no body.
    fn route<D: Driver>(&mut self, driver: &mut D, slot: Slot, request: &Request<'_>) -> Result<u64, Violation> {
        let body_bytes_max = u64::from(self.limits.message_bytes_max);
        let reads = matches!(request.method, Method::Get | Method::Head);
        match request.path {
            "/" if reads => self.answer(driver, slot, ok(TEXT), WELCOME.as_bytes()),
            "/topics" if request.method == Method::Post => {
                let content_type = request.headers.content_type.unwrap_or("");
                if content_type.split(';').next().unwrap_or("").trim() != "application/x-ndjson" {
                    self.answer_error(driver, slot, 415, "a batch is application/x-ndjson", false);
                    return Ok(body_bytes_max);
                }
                self.active(slot).pending.what = Asked::Batch;
                self.active(slot).batch = Batch::default();
                return Ok(body_bytes_max * BATCH_MESSAGES);
            }
            "/topics" if reads => {
                self.answer_error(driver, slot, 400, "name one topic in the path: /topics/{topic}", false);
            }
            "/ws" | "/echo" if reads => {
                let upgrade = [("Upgrade", "websocket")];
                let answer = Answer { status: 426, content_type: Some(JSON), extra: &upgrade };
                self.answer(driver, slot, answer, b"{\"error\":\"this is a WebSocket endpoint\"}");
            }
            path => match path.strip_prefix("/topics/") {
                Some(name) => self.route_topic(driver, slot, request, name)?,
                None => self.answer_error(driver, slot, 404, "no such resource", false),
            },
        }
        Ok(body_bytes_max)
    }

    fn route_topic<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        name: &str,
    ) -> Result<(), Violation> {
        let mut room = [0; topic::TOPIC_BYTES_MAX];
        match request.method {
            Method::Post => {
                let name = topic::from_path(name, &mut room)?;
                let event = request.headers.corecast_event.unwrap_or("");
                if !event.is_empty() && !valid_event(event) {
                    return Err(Violation::BadEvent);
                }
                let active = self.active(slot);
                active.set_topic(name);
                active.set_event(event);
                active.pending.what = Asked::Publish;
            }
            Method::Delete => {
                let name = topic::from_path(name, &mut room)?;
                let active = self.active(slot);
                active.set_topic(name);
                active.pending.what = Asked::Clear;
            }
            Method::Get | Method::Head => {
                let name = topic::from_path_subscribe(name, &mut room)?;
                let mut value = [0; VALUE_BYTES_MAX];
                let what = match transport(request, &mut value)? {
                    "poll" => Asked::Poll,
                    "value" => Asked::Value,
                    _ => {
                        let text = "unknown transport; there are websocket, poll and value";
                        self.answer_error(driver, slot, 400, text, false);
                        return Ok(());
                    }
                };
                let since = since(request)?;
                let known = request.headers.if_none_match.and_then(known_cursor);
                let active = self.active(slot);
                active.set_topic(name);
                active.since = since;
                active.known = known;
                active.pending.what = what;
            }
            Method::Options => {
                let allow = [("Allow", "GET, HEAD, POST, DELETE, OPTIONS")];
                self.answer(driver, slot, Answer { status: 204, content_type: None, extra: &allow }, b"");
            }
            Method::Put | Method::Other => {
                let allow = [("Allow", "GET, HEAD, POST, DELETE, OPTIONS")];
                let answer = Answer { status: 405, content_type: Some(JSON), extra: &allow };
                self.answer(driver, slot, answer, b"{\"error\":\"this method is not for topics\"}");
            }
        }
        Ok(())
    }

    fn upgrade<D: Driver>(&mut self, driver: &mut D, slot: Slot, request: &Request<'_>, used: usize) -> usize {
        let offer = match handshake::check(request) {
            Ok(offer) => offer,
            Err(Violation::BadWebSocketVersion) => {
                let version = [("Sec-WebSocket-Version", "13")];
                let answer = Answer { status: 426, content_type: Some(JSON), extra: &version };
                self.active(slot).pending.keep_alive = false;
                self.answer(driver, slot, answer, b"{\"error\":\"the WebSocket version is 13\"}");
                return used;
            }
            Err(violation) => {
                self.answer_error(driver, slot, violation.status(), violation.text(), true);
                return used;
            }
        };
        let listener = usize::from(self.connections[slot as usize].listener);
        let on_loopback = self.limits.loopback.get(listener).copied().unwrap_or(false);
        let headers = &request.headers;
        if !origin::allowed(headers.origin, headers.host, &self.limits.origins, on_loopback) {
            self.answer_error(driver, slot, 403, "this origin is not allowed", true);
            return used;
        }
        let accept = handshake::accept_key(offer.key);
        let line = offer.corecast_v1.then_some(handshake::CORECAST_V1);
        match request.path {
            "/ws" => {
                let session = super::random(&mut self.random);
                self.become_websocket(driver, slot, Upgrade { kind: Kind::Line, accept, subprotocol: line });
                let mut text = [0; 16];
                let mut w = Writer::new(&mut text);
                w.hex8((session >> 32) as u32);
                w.hex8(session as u32);
                self.tell(driver, slot, |w| {
                    let session = std::str::from_utf8(&text).expect("hexadecimal digits are text");
                    corecast_protocol::dialect::line::hi(w, session);
                });
            }
            "/echo" if self.limits.echo => {
                self.become_websocket(driver, slot, Upgrade { kind: Kind::Echo, accept, subprotocol: None });
            }
            path => match path.strip_prefix("/topics/") {
                Some(name) => return self.upgrade_topic(driver, slot, request, used, name, accept),
                None => self.answer_error(driver, slot, 404, "no such resource", true),
            },
        }
        used
    }

    fn upgrade_topic<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        used: usize,
        name: &str,
        accept: [u8; 28],
    ) -> usize {
        let mut room = [0; topic::TOPIC_BYTES_MAX];
        let wish = topic::from_path_subscribe(name, &mut room).and_then(|topic| {
            let since = since(request)?;
            let conflate = query::value(request.query, "conflate").is_some_and(|value| value != "0");
            let every_ms = match query::value(request.query, "every") {
                Some(value) => value.parse().map_err(|_| Violation::BadLine)?,
                None => 0,
            };
            Ok(Wish { topic, since, conflate, every_ms, token: "" })
        });
        let wish = match wish {
            Ok(wish) => wish,
            Err(violation) => {
                self.answer_error(driver, slot, violation.status(), violation.text(), true);
                return used;
            }
        };
        let home = self.home_of(self.hash(wish.topic));
        if !self.may_ask(home, 2) {
            // The head is read once more when there is room.
            self.active(slot).pending = Pending::default();
            self.park(slot, home);
            return 0;
        }
        self.connections[slot as usize].kind = Kind::Payload;
        if self.subscribe(slot, wish) == Outcome::Full {
            self.connections[slot as usize].kind = Kind::Http;
            self.answer_full(driver, slot);
            return used;
        }
        self.become_websocket(driver, slot, Upgrade { kind: Kind::Payload, accept, subprotocol: None });
        used
    }

    fn become_websocket<D: Driver>(&mut self, driver: &mut D, slot: Slot, upgrade: Upgrade<'_>) {
        let mut head = [0; 512];
        let mut w = Writer::new(&mut head);
        handshake::respond(&mut w, &upgrade.accept, upgrade.subprotocol);
        let len = w.finish().expect("the answer to a handshake is short");
        self.active(slot).pending = Pending::default();
        let connection = &mut self.connections[slot as usize];
        connection.kind = upgrade.kind;
        connection.decoder = Decoder::new(Role::Server);
        let after_ms = self.with_jitter(self.limits.ping_ms);
        self.wheel.set(slot, self.tick, after_ms);
        self.push(driver, slot, &head[..len]);
    }

    /// Takes the next part of a body; returns the bytes used.
    fn body<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) -> usize {
        let index = self.connections[slot as usize].active as usize;
        let active = &mut self.actives[index];
        let bytes_max = match active.pending.what {
            Asked::Batch => u64::from(self.limits.message_bytes_max) * BATCH_MESSAGES,
            _ => u64::from(self.limits.message_bytes_max),
        };
        let (used, data, done) = match &mut active.arriving {
            Body::Sized(left) => {
                let taken = (*left).min(bytes.len() as u64) as usize;
                *left -= taken as u64;
                (taken, 0..taken, *left == 0)
            }
            Body::Chunked(chunked) => match chunked.next(bytes) {
                Ok(piece) => (piece.consumed, piece.data, piece.done),
                Err(violation) => {
                    self.broken(driver, slot, violation);
                    return bytes.len();
                }
            },
            Body::Done => return 0,
        };
        let discards = active.pending.what == Asked::Discard;
        if !discards {
            if u64::from(active.body.len()) + data.len() as u64 > bytes_max {
                self.too_large(driver, slot);
                return bytes.len();
            }
            if !active.body.push(&mut self.store, driver.memory_mut(), &bytes[data]) {
                self.answer_full(driver, slot);
                self.end_after_answer(slot);
                return bytes.len();
            }
        }
        if done {
            active.arriving = Body::Done;
            self.whole_body(driver, slot);
        }
        used
    }

    fn whole_body<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.connections[slot as usize].active as usize;
        let span = self.actives[index].body.span();
        let mut body = std::mem::take(&mut self.whole);
        body.clear();
        body.extend_from_slice(driver.memory().bytes(span));
        self.actives[index].body.clear(&mut self.store);
        self.request(driver, slot, &body);
        self.whole = body;
    }

    /// Does what the pending request asks for, its body being complete. What has to wait for room is kept.
    pub(super) fn request<D: Driver>(&mut self, driver: &mut D, slot: Slot, body: &[u8]) {
        let active = self.active(slot);
        let (topic, topic_len) = (active.topic, usize::from(active.topic_len));
        let (event, event_len) = (active.event, usize::from(active.event_len));
        let topic = std::str::from_utf8(&topic[..topic_len]).expect("only checked topics are kept");
        let event = std::str::from_utf8(&event[..event_len]).expect("only checked events are kept");
        let outcome = match active.pending.what {
            Asked::Nothing => return,
            Asked::Discard => {
                self.request_ends(slot);
                return;
            }
            Asked::Publish => {
                let content = Content { event, payload: body, text: is_utf8(body) };
                self.publish(slot, topic, content, Purpose::Http, "")
            }
            Asked::Batch => {
                self.begin_batch(driver, slot, body);
                return;
            }
            Asked::Clear => self.publish_clear(slot, topic),
            Asked::Poll => {
                let start = start_of(active.since);
                self.ask_replay(slot, topic, Purpose::Poll, start)
            }
            Asked::Value => self.ask_replay(slot, topic, Purpose::Value, Start::Latest),
        };
        match outcome {
            Outcome::NoRoom(home) => {
                self.park(slot, home);
                self.stash(driver, slot, false, body);
            }
            Outcome::Done | Outcome::Full => self.active(slot).waiting = Waiting::Answer,
        }
    }

    /// Checks every line of a batch, then begins to publish them.
    fn begin_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot, body: &[u8]) {
        let payload_bytes_max = self.limits.message_bytes_max as usize;
        let mut scratch = Vec::new();
        for (n, line) in lines(body).enumerate() {
            scratch.clear();
            scratch.extend_from_slice(line);
            let wrong = match json::publish_line(&mut scratch) {
                Ok(line) if line.data.len() <= payload_bytes_max => continue,
                Ok(_) => format!("line {}: the payload is too large", n + 1),
                Err(error) => format!("line {}: {error}", n + 1),
            };
            self.answer_error(driver, slot, 400, &wrong, false);
            self.request_ends(slot);
            return;
        }
        self.stash(driver, slot, false, body);
        if self.is_http(slot) && !self.is_closing(slot) {
            self.active(slot).complete = false;
            self.publish_batch(driver, slot);
        }
    }

    /// Publishes the lines of a checked batch, as far as the rings have room.
    pub(super) fn publish_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.connections[slot as usize].active as usize;
        let span = self.actives[index].body.span();
        let body = driver.memory().bytes(span).to_vec();
        let offset = self.actives[index].batch.offset as usize;
        let mut scratch = Vec::new();
        for line in lines(&body).filter(|line| line.as_ptr() as usize - body.as_ptr() as usize >= offset) {
            scratch.clear();
            scratch.extend_from_slice(line);
            let Ok(message) = json::publish_line(&mut scratch) else { continue };
            let event = message.event.unwrap_or("");
            let content = Content { event, payload: message.data, text: is_utf8(message.data) };
            if let Outcome::NoRoom(home) = self.publish(slot, message.topic, content, Purpose::Batch, "") {
                self.park(slot, home);
                self.actives[index].complete = true;
                return;
            }
            let batch = &mut self.actives[index].batch;
            batch.sent += 1;
            batch.offset = (line.as_ptr() as usize - body.as_ptr() as usize + line.len()) as u32;
        }
        self.actives[index].batch.offset = body.len() as u32;
        self.actives[index].body.clear(&mut self.store);
        self.actives[index].waiting = Waiting::Answer;
        self.end_batch(driver, slot);
    }

    pub(super) fn answer_line_of_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot, published: bool) {
        let Some(active) = self.active_if_any(slot) else { return };
        active.batch.answered += 1;
        active.batch.refused += u32::from(!published);
        self.end_batch(driver, slot);
    }

    /// Answers a batch, once all its lines are sent and answered.
    fn end_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Some(active) = self.active_if_any(slot) else { return };
        let batch = active.batch;
        if active.waiting != Waiting::Answer || batch.answered < batch.sent {
            return;
        }
        let mut body = [0; 128];
        let mut w = Writer::new(&mut body);
        let published = u64::from(batch.sent - batch.refused);
        let answer = if batch.refused == 0 {
            json::batch_answer(&mut w, published);
            ok(JSON)
        } else {
            w.text("{\"published\":");
            w.decimal(published);
            w.text(",\"error\":\"the engine is full\"}");
            Answer { status: 503, content_type: Some(JSON), extra: &RETRY }
        };
        let len = w.finish().expect("a number fits");
        self.answer(driver, slot, answer, &body[..len]);
        self.request_ends_and_goes_on(driver, slot);
    }

    /// Answers a publication or a clearing.
    pub(super) fn answer_publication<D: Driver>(&mut self, driver: &mut D, slot: Slot, answer: Result<Cursor, Reason>) {
        let Some(active) = self.active_if_any(slot) else { return };
        match answer {
            Ok(cursor) => {
                // Escaping makes a topic at most six times as long.
                let mut body = [0; 6 * topic::TOPIC_BYTES_MAX + 128];
                let mut w = Writer::new(&mut body);
                json::publish_answer(&mut w, active.topic(), cursor);
                let len = w.finish().expect("room for the longest topic was made");
                self.answer(driver, slot, ok(JSON), &body[..len]);
            }
            Err(Reason::Full) => self.answer_full(driver, slot),
        }
        self.request_ends_and_goes_on(driver, slot);
    }

    /// The home begins to answer a `poll` or `value`.
    pub(super) fn answer_begins<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        head: Cursor,
        first: u64,
        count: u32,
        lost: Option<Lost>,
    ) {
        let Some(active) = self.active_if_any(slot) else { return };
        let value = active.pending.what == Asked::Value;
        let cursor = Cursor { epoch: head.epoch, seq: first + u64::from(count) - 1 };
        active.cursor = cursor;
        active.poll_left = if value { count.min(1) } else { count };
        if value && count == 0 {
            self.answer_error(driver, slot, 404, "the topic has no message", false);
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        if active.known == Some(cursor) && lost.is_none() {
            active.poll_left = 0;
            self.answer_with_cursor(driver, slot, 304, None, cursor, b"");
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        if value {
            return;
        }
        let mut gap = [0; 6 * topic::TOPIC_BYTES_MAX + 256];
        let mut w = Writer::new(&mut gap);
        w.byte(b'[');
        if let Some(lost) = lost {
            write_gap(&mut w, active.topic(), head.epoch, first, lost);
        }
        let len = w.finish().expect("room for the longest topic was made");
        let index = self.connections[slot as usize].active as usize;
        if !self.actives[index].body.push(&mut self.store, driver.memory_mut(), &gap[..len]) {
            self.answer_full(driver, slot);
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        if count == 0 {
            self.answer_ends(driver, slot);
        }
    }

    /// The home says one message of the answer.
    pub(super) fn answer_message<D: Driver>(&mut self, driver: &mut D, slot: Slot, seq: u64, content: Content<'_>) {
        let Some(active) = self.active_if_any(slot) else { return };
        if active.poll_left == 0 {
            return; // It was answered already.
        }
        active.poll_left -= 1;
        if active.pending.what == Asked::Value {
            let content_type = if content.text { TEXT } else { "application/octet-stream" };
            let cursor = active.cursor;
            self.answer_with_cursor(driver, slot, 200, Some(content_type), cursor, content.payload);
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        let comma = usize::from(active.body.len() > 1);
        let (name, name_len) = (active.topic, usize::from(active.topic_len));
        let message = Message {
            topic: std::str::from_utf8(&name[..name_len]).expect("only checked topics are kept"),
            cursor: Cursor { epoch: active.cursor.epoch, seq },
            event: Some(content.event).filter(|event| !event.is_empty()),
            payload: content.payload,
            text: content.text,
        };
        let len = object::encoded_len(&message);
        let index = self.connections[slot as usize].active as usize;
        let memory = driver.memory_mut();
        let reserved = self.actives[index].body.reserve(&mut self.store, memory, (len + comma) as u32);
        let Some(place) = reserved else {
            self.actives[index].poll_left = 0;
            self.answer_full(driver, slot);
            self.request_ends_and_goes_on(driver, slot);
            return;
        };
        let out = memory.bytes_mut(place);
        out[..comma].fill(b',');
        object::encode(&message, &mut out[comma..]);
        if self.actives[index].poll_left == 0 {
            self.answer_ends(driver, slot);
        }
    }

    fn answer_ends<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.connections[slot as usize].active as usize;
        let cursor = self.actives[index].cursor;
        let span = self.actives[index].body.span();
        let mut body = driver.memory().bytes(span).to_vec();
        body.push(b']');
        self.answer_with_cursor(driver, slot, 200, Some(JSON), cursor, &body);
        self.request_ends_and_goes_on(driver, slot);
    }

    fn answer_with_cursor<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        status: u16,
        content_type: Option<&str>,
        cursor: Cursor,
        body: &[u8],
    ) {
        let mut text = [0; corecast_protocol::cursor::TEXT_BYTES_MAX];
        let cursor = cursor.text(&mut text);
        let etag = format!("\"{cursor}\"");
        let extra = [("Corecast-Cursor", cursor), ("ETag", etag.as_str())];
        self.answer(driver, slot, Answer { status, content_type, extra: &extra }, body);
    }

    fn answer_full<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.stats.refused += 1;
        let answer = Answer { status: 503, content_type: Some(JSON), extra: &RETRY };
        self.answer(driver, slot, answer, b"{\"error\":\"the engine is full\"}");
    }

    /// Answers with an error, and with `ends` closes the connection afterwards.
    pub(super) fn answer_error<D: Driver>(&mut self, driver: &mut D, slot: Slot, status: u16, text: &str, ends: bool) {
        if ends {
            self.active(slot).pending.keep_alive = false;
        }
        let mut body = [0; 512];
        let mut w = Writer::new(&mut body);
        json::error(&mut w, text);
        let len = w.finish().unwrap_or(0);
        self.answer(driver, slot, Answer { status, content_type: Some(JSON), extra: &[] }, &body[..len]);
        if ends {
            self.end_after_answer(slot);
        }
    }

    /// Puts an answer into the connection's queue.
    fn answer<D: Driver>(&mut self, driver: &mut D, slot: Slot, answer: Answer<'_>, body: &[u8]) {
        let pending = self.active(slot).pending;
        let framing = match answer.status {
            204 | 304 => response::Framing::Empty,
            _ => response::Framing::Sized(body.len() as u64),
        };
        let head = response::Head {
            status: answer.status,
            content_type: answer.content_type,
            framing,
            http10: pending.http10,
            keep_alive: pending.keep_alive,
            extra: answer.extra,
        };
        let mut text = std::mem::take(&mut self.text);
        let mut w = Writer::new(&mut text);
        response::head(&mut w, &head);
        let len = w.finish().expect("heads are far shorter than the scratch");
        self.push(driver, slot, &text[..len]);
        self.text = text;
        if !pending.head_only && self.is_http(slot) {
            self.push(driver, slot, body);
        }
        if self.is_http(slot) && self.active(slot).pending.what != Asked::Discard {
            self.active(slot).pending.what = Asked::Discard;
        }
    }

    /// The request is answered and its body is gone: the next one may come, or the connection ends.
    fn request_ends(&mut self, slot: Slot) {
        if !self.is_http(slot) {
            return;
        }
        let tick = self.tick;
        let request_ms = self.limits.request_ms;
        let active = self.active(slot);
        let keep_alive = active.pending.keep_alive;
        active.pending = Pending::default();
        active.batch = Batch::default();
        if active.waiting == Waiting::Answer {
            active.waiting = Waiting::No;
        }
        active.closing |= !keep_alive;
        self.wheel.set(slot, tick, request_ms);
        self.make_ready(slot);
    }

    fn request_ends_and_goes_on<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.connections[slot as usize].active as usize;
        let Some(active) = self.actives.get_mut(index) else { return };
        active.body.clear(&mut self.store);
        self.request_ends(slot);
        if self.is_http(slot) && !self.is_closing(slot) {
            self.go_on(driver, slot);
        }
    }

    fn end_after_answer(&mut self, slot: Slot) {
        if self.is_http(slot) {
            let active = self.active(slot);
            active.arriving = Body::Done;
            active.closing = true;
            self.make_ready(slot);
        }
    }

    fn too_large<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.stats.violations += 1;
        self.answer_error(driver, slot, 413, "the payload is too large", true);
    }

    /// The bytes make no sense: the sender is told, and nothing after them is believed.
    fn broken<D: Driver>(&mut self, driver: &mut D, slot: Slot, violation: Violation) {
        self.stats.violations += 1;
        let peer = self.connections[slot as usize].peer();
        tracing::debug!(shard = self.index, %peer, rule = violation.text(), "violation");
        self.answer_error(driver, slot, violation.status(), violation.text(), true);
    }

    fn is_http(&self, slot: Slot) -> bool {
        self.connections[slot as usize].kind == Kind::Http
    }
}

/// Bodies of batches may be so many times as large as a message.
const BATCH_MESSAGES: u64 = 16;

/// When to come back to an engine that is full, in seconds.
const RETRY: [(&str, &str); 1] = [("Retry-After", "1")];

const fn ok(content_type: &str) -> Answer<'_> {
    Answer { status: 200, content_type: Some(content_type), extra: &[] }
}

/// Non-empty lines.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.iter().all(u8::is_ascii_whitespace))
}

fn transport<'v>(request: &Request<'_>, value: &'v mut [u8; VALUE_BYTES_MAX]) -> Result<&'v str, Violation> {
    match query::value(request.query, "transport") {
        Some(name) => percent::decode(name, value, true),
        None => Ok("poll"),
    }
}

fn since(request: &Request<'_>) -> Result<Since, Violation> {
    let mut value = [0; VALUE_BYTES_MAX];
    match query::value(request.query, "since") {
        Some(text) => Since::parse(percent::decode(text, &mut value, true)?),
        None => Ok(Since::default()),
    }
}

fn start_of(since: Since) -> Start {
    match since {
        Since::Latest => Start::Latest,
        Since::Live => Start::Live,
        Since::Earliest => Start::Earliest,
        Since::Last(n) => Start::Last(n),
        Since::After(cursor) => Start::After { epoch: cursor.epoch, seq: cursor.seq },
    }
}

/// Reads the first of our entity tags in `If-None-Match`.
fn known_cursor(tags: &str) -> Option<Cursor> {
    tags.split(',').find_map(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        Cursor::parse(tag.strip_prefix('"')?.strip_suffix('"')?).ok()
    })
}

fn write_gap(w: &mut Writer<'_>, topic: &str, epoch: u32, first: u64, lost: Lost) {
    let (from, reason) = if lost.epoch_changed {
        (Cursor { epoch: lost.after_epoch, seq: lost.after_seq }, GapReason::Epoch)
    } else {
        (Cursor { epoch, seq: lost.after_seq + 1 }, GapReason::Expired)
    };
    let to = Cursor { epoch, seq: first - 1 };
    w.text("{\"gap\":{\"topic\":");
    json::string(w, topic);
    w.text(",\"from\":\"");
    from.write(w);
    w.text("\",\"to\":\"");
    to.write(w);
    w.text("\",\"count\":");
    w.decimal(lost.count);
    w.text(",\"reason\":\"");
    w.text(reason.as_str());
    w.text("\"}}");
}
