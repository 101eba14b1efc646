//! Becoming a WebSocket: an upgrade that is accepted, or refused with the reason.

use corecast_protocol::http::credential::{self, BEARER_SUBPROTOCOL, CREDENTIAL_BYTES_MAX};
use corecast_protocol::http::head::{BodyLength, Request};
use corecast_protocol::topic;
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Role};
use corecast_protocol::ws::deflate::Agreement;
use corecast_protocol::ws::handshake;

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::dialect::{Coding, Dialect, Shape};
use crate::shard::refusal::Refusal;
use crate::shard::session::request::answer::{Answer, JSON};
use crate::shard::session::request::options::{Options, ViewRoom};
use crate::shard::session::request::origin;
use crate::shard::session::request::route::{NAMED_TWICE, names_topics, since};
use crate::shard::session::traits::Session;
use crate::shard::slot::front::Front;
use crate::shard::slot::wait::Outcome;
use crate::shard::topic::subscribe::{Wanted, Wish};

/// The longest subprotocol that holds a token.
const BEARER_BYTES_MAX: usize = BEARER_SUBPROTOCOL.len() + CREDENTIAL_BYTES_MAX;

/// A WebSocket that was asked for.
#[derive(Clone, Copy, Debug)]
struct Upgrade<'a> {
    session: Session,
    accept: [u8; 28],
    subprotocol: Option<&'a str>,
    deflate: Option<Agreement>,
}

impl Upgrade<'_> {
    fn dialect(&self) -> Dialect {
        let shape = if self.session == Session::Line { Shape::Line } else { Shape::Payload };
        Dialect::new(shape, self.deflate.map_or(Coding::Plain, |agreed| Coding::Deflate(agreed.window)))
    }
}

impl Shard {
    /// Handles a head that asks for a WebSocket; returns the bytes used.
    pub(in crate::shard) fn upgrade<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        used: usize,
    ) -> usize {
        let offer = match handshake::check(request) {
            Ok(offer) => offer,
            Err(Violation::BadWebSocketVersion) => {
                let version = [("Sec-WebSocket-Version", "13")];
                let answer = Answer { status: 426, content_type: Some(JSON), extra: &version };
                self.exchange(slot).pending.keep_alive = false;
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
        if self.is_strange(slot) {
            self.refuse_request_because(driver, slot, Refusal::Forbidden, origin::REFUSED, true);
            return used;
        }
        if self.is_draining() {
            self.comes_back_after_the_drain();
            self.refuse_request(driver, slot, Refusal::Draining, true);
            return used;
        }
        // Before it subscribes: that counts for it.
        if !self.give_what_was_shown(slot) {
            self.refuse_request(driver, slot, Refusal::TooMany, true);
            return used;
        }
        let accept = handshake::accept_key(offer.key);
        // A page that offers a token as a subprotocol has to be answered one of those that it offers; who reads the answer has sent it.
        let bearer = credential::bearer(&request.headers).filter(|offered| offered.len() <= BEARER_BYTES_MAX);
        let line = if offer.corecast_v1 { Some(handshake::CORECAST_V1) } else { bearer };
        let deflate = offer.deflate.filter(|_| self.limits.compress_from.is_some());
        match request.path {
            "/ws" => {
                let bandwidth = match Options::read(request.query) {
                    Ok(options) => options.bandwidth,
                    Err(text) => {
                        self.answer_error(driver, slot, 400, text, true);
                        return used;
                    }
                };
                let session = crate::shard::random::random(&mut self.random);
                self.become_websocket(
                    driver,
                    slot,
                    Upgrade { session: Session::Line, accept, subprotocol: line, deflate },
                );
                self.begin_meter(driver, slot, bandwidth);
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
                self.become_websocket(
                    driver,
                    slot,
                    Upgrade { session: Session::Echo, accept, subprotocol: bearer, deflate },
                );
            }
            path => match path.strip_prefix("/topics/") {
                Some(name) => {
                    let upgrade = Upgrade { session: Session::Raw, accept, subprotocol: bearer, deflate };
                    return self.upgrade_topic(driver, slot, request, used, name, upgrade);
                }
                None => self.answer_error(driver, slot, 404, "no such resource", true),
            },
        }
        used
    }

    /// Gives a connection that will be more than this request what the request was given; says false if its subject has as many
    /// connections as it may.
    #[must_use]
    pub(in crate::shard) fn give_what_was_shown(&mut self, slot: Slot) -> bool {
        let grant = self.trust.grants.keep(self.grant_of(slot));
        self.give(slot, grant)
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
        if names_topics(request.query) {
            self.answer_error(driver, slot, 400, NAMED_TWICE, true);
            return used;
        }
        let Options { conflate, every_ms, pace, bandwidth, .. } = match Options::read(request.query) {
            Ok(options) => options,
            Err(text) => {
                self.answer_error(driver, slot, 400, text, true);
                return used;
            }
        };
        let mut room = ViewRoom::new();
        let view = match room.read(request.query) {
            // Payloads alone cannot say that they are changes.
            Ok(wanted) if wanted.delta => {
                Err("a raw WebSocket has payloads only, and none of them says that it is a delta".to_owned())
            }
            Ok(wanted) => self.topics.views.hold(&wanted).map_err(|wrong| wrong.to_string()),
            Err(text) => Err(text.to_owned()),
        };
        let view = match view {
            Ok(view) => view,
            Err(text) => {
                self.answer_error(driver, slot, 400, &text, true);
                return used;
            }
        };
        let manner = self.manner(topic, Wanted { conflate, every_ms, pace });
        let wish = Wish { topic, since: Some(since), places: None, manner, view, counted: false, token: "" };
        self.slots.connections[slot as usize].dialect = upgrade.dialect();
        let outcome = self.order_subscription(driver, slot, wish);
        self.topics.views.release(view);
        match outcome {
            Outcome::Done => {}
            Outcome::Wait(wait) => {
                self.read_head_again(slot, wait);
                return 0;
            }
            Outcome::Refused(refusal) => {
                self.refuse_request(driver, slot, refusal, true);
                return used;
            }
        }
        self.become_websocket(driver, slot, upgrade);
        self.begin_meter(driver, slot, bandwidth);
        used
    }

    fn become_websocket<D: Driver>(&mut self, driver: &mut D, slot: Slot, upgrade: Upgrade<'_>) {
        let mut text = std::mem::take(&mut self.scratch.text);
        let mut w = Writer::new(&mut text);
        handshake::respond(&mut w, &upgrade.accept, upgrade.subprotocol, upgrade.deflate);
        let len = w.finish().expect("the scratch holds the longest subprotocol");
        self.forget_state(slot);
        let connection = &mut self.slots.connections[slot as usize];
        connection.session = upgrade.session;
        connection.dialect = upgrade.dialect();
        connection.decoder = Decoder::new(Role::Server);
        connection.opened_tick = 0; // No message has begun.
        if upgrade.deflate.is_some() {
            connection.decoder = connection.decoder.with_deflate();
        }
        self.recount_kind(slot);
        self.note_begin(slot, 101);
        let after_ms = self.with_jitter(self.limits.ping_ms);
        self.timers.wheel.set(slot, self.clock.tick, after_ms);
        self.watch_right(slot);
        self.push(driver, slot, &text[..len]);
        self.scratch.text = text;
        if let Some(active) = self.slots.active_if_any(slot) {
            // Whatever stands there now is not frames.
            active.front = Front::begun(active.queue.len());
        }
    }
}
