//! HTTP: request heads, routes, bodies, answers.
//!
//! One request of a connection is handled at a time; what was sent ahead waits in the connection's carry buffer, and a
//! client that sends on and on without reading its answers is not read any more.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::http::body::Chunked;
use corecast_protocol::http::head::{self, BodyLength, Method, Request};
use corecast_protocol::http::{query, response};
use corecast_protocol::message::check_event;
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Role};
use corecast_protocol::ws::deflate::Agreement;
use corecast_protocol::ws::handshake;
use corecast_protocol::{percent, topic};

use super::answer::{Answer, JSON, TEXT, ok};
use super::connection::{Asked, Batch, Body, Kind, Pending, Waiting};
use super::dialect::{Coding, Dialect, Shape};
use super::options::Options;
use super::pong::Front;
use super::stream::{self, Transport};
use super::subscribe::{Outcome, Wish, start_of};
use super::websocket::is_utf8;
use super::{Shard, origin};
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Purpose, Start};

/// Headers that a page of another origin may send: those that have a meaning here.
const PREFLIGHT_HEADERS: &str =
    "Authorization, Content-Type, Corecast-Event, If-None-Match, Last-Event-ID, Prefer, Cache-Control";

/// The client for browsers, as it stands in `clients/js`.
const CLIENT: &[u8] = include_bytes!("../../../clients/js/corecast.js");
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The demo page: what a browser sees at `/`.
const PAGE: &[u8] = include_bytes!("../../assets/index.html");
const PAGE_TYPE: &str = "text/html; charset=utf-8";

/// What a stranger without a browser sees at `/`.
const WELCOME: &str =
    "corecast: publish with POST /topics/{topic}, subscribe with a WebSocket at /ws or /topics/{topic}\n";

/// Longest query value that is understood: the longest cursor list of one topic and the longest transport fit twice.
const VALUE_BYTES_MAX: usize = 64;

/// A WebSocket that was asked for.
#[derive(Clone, Copy, Debug)]
struct Upgrade<'a> {
    kind: Kind,
    accept: [u8; 28],
    subprotocol: Option<&'a str>,
    deflate: Option<Agreement>,
}

impl Upgrade<'_> {
    fn dialect(&self) -> Dialect {
        let shape = if self.kind == Kind::Line { Shape::Line } else { Shape::Payload };
        Dialect::new(shape, self.deflate.map_or(Coding::Plain, |agreed| Coding::Deflate(agreed.window)))
    }
}

impl Shard {
    /// Takes a request, or the next part of one; returns the bytes used, 0 if more are needed.
    pub(super) fn http<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) -> usize {
        if self.is_closing(slot) {
            return bytes.len(); // Nothing behind our last word is believed.
        }
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
        let misdirected = self.is_misdirected(slot, request);
        let origin = if misdirected { "" } else { self.origin_answered(slot, request) };
        let active = self.active(slot);
        active.pending = pending;
        active.origin[..origin.len()].copy_from_slice(origin.as_bytes());
        active.origin_len = origin.len() as u16;
        self.wheel.set(slot, self.tick, self.limits.request_ms);
        if misdirected {
            self.answer_error(driver, slot, 421, origin::MISDIRECTED, true);
            return used;
        }
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
                if self.active(slot).pending.what == Asked::Discard {
                    self.end_after_answer(slot); // It has its one answer.
                } else {
                    self.too_large(driver, slot);
                }
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
        } else if request.expect_continue && rest.is_empty() && self.active(slot).pending.what == Asked::Discard {
            // It was answered instead of being told to go on; whether a body still comes nobody knows.
            self.end_after_answer(slot);
        } else if request.expect_continue && rest.is_empty() {
            self.push(driver, slot, response::CONTINUE);
        }
        used
    }

    /// Finds out what a request asks for, and how large its body may be. Answers at once what needs no body.
    fn route<D: Driver>(&mut self, driver: &mut D, slot: Slot, request: &Request<'_>) -> Result<u64, Violation> {
        let body_bytes_max = u64::from(self.limits.message_bytes_max);
        let reads = matches!(request.method, Method::Get | Method::Head);
        if matches!(request.method, Method::Post | Method::Delete) && !self.is_origin_allowed(slot, request) {
            // A page of somebody else's can send these without asking first.
            self.answer_error(driver, slot, 403, origin::REFUSED, false);
            return Ok(body_bytes_max);
        }
        match request.path {
            "/" if reads && request.headers.accept.is_some_and(|accept| accept.contains("text/html")) => {
                self.answer(driver, slot, ok(PAGE_TYPE), PAGE);
            }
            "/" if reads => self.answer(driver, slot, ok(TEXT), WELCOME.as_bytes()),
            "/corecast.js" if reads => self.answer(driver, slot, ok(SCRIPT), CLIENT),
            "/topics" if request.method == Method::Post => {
                let content_type = request.headers.content_type.unwrap_or("");
                if content_type.split(';').next().unwrap_or("").trim() != "application/x-ndjson" {
                    self.answer_error(driver, slot, 415, "a batch is application/x-ndjson", false);
                    return Ok(body_bytes_max);
                }
                self.active(slot).pending.what = Asked::Batch;
                self.active(slot).batch = Batch::default();
                return Ok(self.limits.batch_bytes_max());
            }
            "/topics" if reads => self.route_read(driver, slot, request, None)?,
            path if request.method == Method::Options => self.route_options(driver, slot, request, path),
            "/ws" if reads => self.answer_upgrade(driver, slot),
            "/echo" if reads && self.limits.echo => self.answer_upgrade(driver, slot),
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
                if !event.is_empty() {
                    check_event(event)?;
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
                topic::from_path_subscribe(name, &mut room)?;
                self.route_read(driver, slot, request, Some(name))?;
            }
            Method::Options | Method::Put | Method::Other => {
                let allow = [("Allow", "GET, HEAD, POST, DELETE, OPTIONS")];
                let answer = Answer { status: 405, content_type: Some(JSON), extra: &allow };
                self.answer(driver, slot, answer, b"{\"error\":\"this method is not for topics\"}");
            }
        }
        Ok(())
    }

    /// Reading: one topic of the path, or those of the query, in one of many ways.
    fn route_read<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        name: Option<&str>,
    ) -> Result<(), Violation> {
        let transport = match stream::transport(request) {
            Ok(transport) => transport,
            Err(text) => {
                self.answer_error(driver, slot, 400, text, false);
                return Ok(());
            }
        };
        if transport == Transport::Jsonp && !self.limits.jsonp {
            self.answer_error(driver, slot, 403, origin::JSONP_OFF, false);
            return Ok(());
        }
        let what = match (transport, name) {
            (Transport::Poll, Some(name)) => Some((Asked::Poll, name)),
            (Transport::Value, Some(name)) => Some((Asked::Value, name)),
            (Transport::Value, None) => {
                self.answer_error(driver, slot, 400, "value is for one topic, in the path", false);
                return Ok(());
            }
            _ => None,
        };
        let options = match Options::read(request.query) {
            Ok(options) => options,
            Err(text) => {
                self.answer_error(driver, slot, 400, text, false);
                return Ok(());
            }
        };
        if let Some((what, name)) = what {
            let mut room = [0; topic::TOPIC_BYTES_MAX];
            let name = topic::from_path_subscribe(name, &mut room)?;
            let since = since(request)?;
            let known = request.headers.if_none_match.and_then(known_cursor);
            let active = self.active(slot);
            active.set_topic(name);
            active.since = since;
            active.known = known;
            active.pending.what = what;
            return Ok(());
        }
        let streams = matches!(transport, Transport::Stream(_));
        if streams && !self.is_origin_allowed(slot, request) {
            self.answer_error(driver, slot, 403, origin::REFUSED, true);
        } else if self.draining {
            self.answer_error(driver, slot, 503, "the engine is shutting down", true);
        } else if let Err(text) = self.begin_subscriber(driver, slot, request, name, transport, options) {
            self.answer_error(driver, slot, 400, text, false);
        }
        Ok(())
    }

    /// What may be asked, for clients that ask, and for browsers before they send something across origins.
    fn route_options<D: Driver>(&mut self, driver: &mut D, slot: Slot, request: &Request<'_>, path: &str) {
        if path != "/topics" && path != "*" && !path.starts_with("/topics/") {
            self.answer_error(driver, slot, 404, "no such resource", false);
        } else if request.headers.access_control_request_method.is_some() {
            let extra = [
                ("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE"),
                ("Access-Control-Allow-Headers", PREFLIGHT_HEADERS),
                ("Access-Control-Max-Age", "86400"),
            ];
            self.answer(driver, slot, Answer { status: 204, content_type: None, extra: &extra }, b"");
        } else {
            let allow = [("Allow", "GET, HEAD, POST, DELETE, OPTIONS")];
            self.answer(driver, slot, Answer { status: 204, content_type: None, extra: &allow }, b"");
        }
    }

    fn upgrade<D: Driver>(&mut self, driver: &mut D, slot: Slot, request: &Request<'_>, used: usize) -> usize {
        let offer = match handshake::check(request) {
            Ok(offer) => offer,
            Err(Violation::BadWebSocketVersion) => {
                let version = [("Sec-WebSocket-Version", "13")];
                let answer = Answer { status: 426, content_type: Some(JSON), extra: &version };
                self.active(slot).pending.keep_alive = false;
                self.answer(driver, slot, answer, b"{\"error\":\"the WebSocket version is 13\"}");
                self.end_after_answer(slot);
                return used;
            }
            Err(violation) => {
                self.answer_error(driver, slot, violation.status(), violation.text(), true);
                return used;
            }
        };
        if !matches!(request.body, BodyLength::None | BodyLength::Sized(0)) {
            self.answer_error(driver, slot, 400, "an upgrade has no body", true);
            return used;
        }
        if !self.is_origin_allowed(slot, request) {
            self.answer_error(driver, slot, 403, origin::REFUSED, true);
            return used;
        }
        if self.draining {
            self.answer_error(driver, slot, 503, "the engine is shutting down", true);
            return used;
        }
        let accept = handshake::accept_key(offer.key);
        let line = offer.corecast_v1.then_some(handshake::CORECAST_V1);
        let deflate = offer.deflate.filter(|_| self.limits.compress_from.is_some());
        match request.path {
            "/ws" => {
                let session = super::random(&mut self.random);
                self.become_websocket(driver, slot, Upgrade { kind: Kind::Line, accept, subprotocol: line, deflate });
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
                self.become_websocket(driver, slot, Upgrade { kind: Kind::Echo, accept, subprotocol: None, deflate });
            }
            path => match path.strip_prefix("/topics/") {
                Some(name) => {
                    let upgrade = Upgrade { kind: Kind::Payload, accept, subprotocol: None, deflate };
                    return self.upgrade_topic(driver, slot, request, used, name, upgrade);
                }
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
        upgrade: Upgrade<'_>,
    ) -> usize {
        let mut room = [0; topic::TOPIC_BYTES_MAX];
        let topic = topic::from_path_subscribe(name, &mut room).and_then(|topic| Ok((topic, since(request)?)));
        let (topic, since) = match topic {
            Ok(known) => known,
            Err(violation) => {
                self.answer_error(driver, slot, violation.status(), violation.text(), true);
                return used;
            }
        };
        let Options { conflate, every_ms, .. } = match Options::read(request.query) {
            Ok(options) => options,
            Err(text) => {
                self.answer_error(driver, slot, 400, text, true);
                return used;
            }
        };
        let wish = Wish { topic, since, conflate, every_ms, counted: false, token: "" };
        let home = self.home_of(self.hash(wish.topic));
        if let Err(way) = self.may_subscribe(home) {
            // The head is read once more when there is room.
            self.active(slot).pending = Pending::default();
            self.park(slot, way);
            return 0;
        }
        self.connections[slot as usize].kind = Kind::Payload;
        self.connections[slot as usize].dialect = upgrade.dialect();
        if self.subscribe(slot, wish) == Outcome::Full {
            self.connections[slot as usize].kind = Kind::Http;
            self.active(slot).pending.keep_alive = false;
            self.answer_full(driver, slot);
            self.end_after_answer(slot);
            return used;
        }
        self.become_websocket(driver, slot, upgrade);
        used
    }

    fn become_websocket<D: Driver>(&mut self, driver: &mut D, slot: Slot, upgrade: Upgrade<'_>) {
        let mut head = [0; 512];
        let mut w = Writer::new(&mut head);
        handshake::respond(&mut w, &upgrade.accept, upgrade.subprotocol, upgrade.deflate);
        let len = w.finish().expect("the answer to a handshake is short");
        self.active(slot).pending = Pending::default();
        let connection = &mut self.connections[slot as usize];
        connection.kind = upgrade.kind;
        connection.dialect = upgrade.dialect();
        connection.decoder = Decoder::new(Role::Server);
        if upgrade.deflate.is_some() {
            connection.decoder = connection.decoder.with_deflate();
        }
        let after_ms = self.with_jitter(self.limits.ping_ms);
        self.wheel.set(slot, self.tick, after_ms);
        self.push(driver, slot, &head[..len]);
        if let Some(active) = self.active_if_any(slot) {
            // Whatever stands there now is not frames.
            active.front = Front::begun(active.queue.len());
        }
    }

    /// Takes the next part of a body; returns the bytes used.
    fn body<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) -> usize {
        let index = self.connections[slot as usize].active as usize;
        let active = &mut self.actives[index];
        let bytes_max = match active.pending.what {
            Asked::Batch => self.limits.batch_bytes_max(),
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
        if self.actives[index].pending.what == Asked::Batch {
            self.begin_batch(driver, slot); // It is read where it stands.
            return;
        }
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
            Asked::Nothing | Asked::LongPoll => return,
            Asked::Subscribe => {
                self.subscribe_step(driver, slot);
                return;
            }
            Asked::Discard => {
                self.request_ends(slot);
                return;
            }
            Asked::Publish => {
                let content = Content { event, payload: body, text: is_utf8(body) };
                self.publish(slot, topic, content, Purpose::Http, "")
            }
            Asked::Batch => {
                let index = self.connections[slot as usize].active as usize;
                if self.actives[index].body.push(&mut self.store, driver.memory_mut(), body) {
                    self.begin_batch(driver, slot);
                } else {
                    self.answer_full(driver, slot);
                    self.request_ends(slot);
                }
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
            Outcome::NoRoom(way) => {
                self.park(slot, way);
                self.stash(driver, slot, false, body);
            }
            Outcome::Done | Outcome::Full => self.active(slot).waiting = Waiting::Answer,
        }
    }

    /// A WebSocket endpoint was asked for without asking for an upgrade.
    fn answer_upgrade<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let answer = Answer { status: 426, content_type: Some(JSON), extra: &[("Upgrade", "websocket")] };
        self.answer(driver, slot, answer, b"{\"error\":\"this is a WebSocket endpoint\"}");
    }

    pub(super) fn end_after_answer(&mut self, slot: Slot) {
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

    pub(super) fn is_http(&self, slot: Slot) -> bool {
        self.connections[slot as usize].kind == Kind::Http
    }
}

fn since(request: &Request<'_>) -> Result<Since, Violation> {
    let mut value = [0; VALUE_BYTES_MAX];
    match query::value(request.query, "since") {
        Some(text) => Since::parse(percent::decode(text, &mut value, true)?),
        None => Ok(Since::default()),
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
