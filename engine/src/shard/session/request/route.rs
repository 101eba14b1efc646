//! Routes: what a request asks for, and whether it may.
//!
//! | resource | methods |
//! |---|---|
//! | `/`, the demos (`/demo/`), and the client (`/corecast.js`, `/corecast.min.js`), unless these are switched off | GET, HEAD |
//! | `/topics` | GET, HEAD, POST |
//! | `/topics/{topic}` | GET, HEAD, POST, DELETE |
//! | `/ws`, and `/echo` if it is served | GET, HEAD, to be told to upgrade |
//!
//! and OPTIONS for all of them, and for the whole server.

use corecast_protocol::cursor::Since;
use corecast_protocol::http::head::{Method, Request};
use corecast_protocol::http::{prefer, query};
use corecast_protocol::message::{KEY_BYTES_MAX, Op, check_event, check_key};
use corecast_protocol::producer::Produced;
use corecast_protocol::violation::Violation;
use corecast_protocol::{pattern, percent, topic};

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::session::reading::Transport;
use crate::shard::session::request::answer::{Answer, JSON, TEXT, ok};
use crate::shard::session::request::asset;
use crate::shard::session::request::exchange::Asked;
use crate::shard::session::request::options::{self, Options};
use crate::shard::session::request::origin;
use crate::shard::session::subscribing;
use crate::shard::slot::wait::Wait;

/// Headers that a page of another origin may send: those that have a meaning here.
const PREFLIGHT_HEADERS: &str = "Authorization, Content-Type, Corecast-Event, Corecast-Message-Key, Corecast-Op, Corecast-Producer, Corecast-Number, If-Match, If-None-Match, Last-Event-ID, Prefer, Cache-Control";

/// What a stranger without a browser sees at `/`.
const WELCOME: &str =
    "corecast: publish with POST /topics/{topic}, subscribe with a WebSocket at /ws or /topics/{topic}\n";

/// Longest query value that is understood: the longest cursor list of one topic and the longest transport fit twice.
const VALUE_BYTES_MAX: usize = 64;

/// What Allow says of each kind of resource.
const READ: &str = "GET, HEAD, OPTIONS";
const TOPICS: &str = "GET, HEAD, POST, OPTIONS";
const TOPIC: &str = "GET, HEAD, POST, DELETE, OPTIONS";

/// Why a request does not go its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Detour {
    /// It is wrong.
    Wrong(Violation),
    /// Something has to come before.
    Wait(Wait),
}

impl From<Violation> for Detour {
    fn from(violation: Violation) -> Detour {
        Detour::Wrong(violation)
    }
}

impl Shard {
    /// Finds out what a request asks for, and how large its body may be. Answers at once what needs no body.
    pub(in crate::shard) fn route<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
    ) -> Result<u64, Detour> {
        let body_bytes_max = u64::from(self.limits.message_bytes_max);
        let allow = self.allowed_methods(request.path);
        let writes = matches!(request.method, Method::Post | Method::Delete);
        match (request.method, allow) {
            (Method::Other, _) => self.answer_error(driver, slot, 501, "the method is not known", false),
            (_, None) => self.answer_error(driver, slot, 404, "no such resource", false),
            (Method::Options, Some(allow)) => self.answer_options(driver, slot, request, allow),
            (method, Some(allow)) if !is_allowed(method, allow) => {
                let extra = [("Allow", allow)];
                let answer = Answer { status: 405, content_type: Some(JSON), extra: &extra };
                self.answer(driver, slot, answer, b"{\"error\":\"this method is not for this resource\"}");
            }
            _ if writes && self.is_strange(slot) => {
                // A page of somebody else's can send these without asking first.
                self.refuse_request_because(driver, slot, Refusal::Forbidden, origin::REFUSED, false);
            }
            _ => return self.route_resource(driver, slot, request, body_bytes_max),
        }
        Ok(body_bytes_max)
    }

    /// Says which methods a resource has, as Allow says it; none if there is no such resource.
    fn allowed_methods(&self, path: &str) -> Option<&'static str> {
        match path {
            "/" | "/ws" => Some(READ),
            "/corecast.js" | "/corecast.min.js" if self.limits.client_library => Some(READ),
            "/echo" if self.limits.echo => Some(READ),
            "/topics" => Some(TOPICS),
            "*" => Some(TOPIC),
            path if path.starts_with("/topics/") => Some(TOPIC),
            path if self.limits.demo => path.strip_prefix("/demo/").and_then(asset::demo).map(|_| READ),
            _ => None,
        }
    }

    /// A request for something that is there, with a method that it has.
    fn route_resource<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        body_bytes_max: u64,
    ) -> Result<u64, Detour> {
        let headers = &request.headers;
        match request.path {
            "/" => {
                self.exchange(slot).pending.by_accept = self.limits.demo;
                if self.limits.demo && prefer::accepts_html(headers.accept) {
                    self.answer_asset(driver, slot, request, &asset::PAGE);
                } else {
                    self.answer(driver, slot, ok(TEXT), WELCOME.as_bytes());
                }
            }
            "/corecast.js" => self.answer_asset(driver, slot, request, &asset::CLIENT),
            "/corecast.min.js" => self.answer_asset(driver, slot, request, &asset::MINIFIED),
            "/topics" if request.method == Method::Post => {
                if !prefer::is_type(headers.content_type.unwrap_or(""), "application/x-ndjson") {
                    self.answer_error(driver, slot, 415, "a batch is application/x-ndjson", false);
                } else if headers.if_match.is_given() {
                    // A batch goes to many topics, and none of them is what this resource is.
                    self.refuse_request(driver, slot, Refusal::Changed, false);
                } else if produced_by(request)?.is_some() {
                    self.answer_error(driver, slot, 400, NUMBERED_IN_LINES, false);
                } else {
                    self.exchange(slot).pending.what = Asked::Batch;
                    return Ok(self.limits.batch_bytes_max());
                }
            }
            "/topics" => self.route_read(driver, slot, request, None)?,
            path => match (path.strip_prefix("/topics/"), path.strip_prefix("/demo/").and_then(asset::demo)) {
                (Some(name), _) => return self.route_topic(driver, slot, request, name),
                (None, Some(page)) => self.answer_asset(driver, slot, request, page),
                (None, None) => self.answer_upgrade(driver, slot),
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
    ) -> Result<u64, Detour> {
        let mut room = [0; topic::TOPIC_BYTES_MAX];
        match request.method {
            Method::Post => {
                let name = topic::from_path(name, &mut room)?;
                let event = request.headers.corecast_event.unwrap_or("");
                if !event.is_empty() {
                    check_event(event)?;
                }
                let op = request.headers.corecast_op.map(Op::parse).transpose()?;
                let mut room = [0; KEY_BYTES_MAX];
                let key = match request.headers.corecast_message_key {
                    Some(key) => percent::decode(key, &mut room, false)?,
                    None => "",
                };
                if request.headers.corecast_message_key.is_some() {
                    check_key(key)?;
                }
                let numbered = produced_by(request)?.map(|produced| self.numbered(slot, name, produced));
                let headers = &request.headers;
                if numbered.is_some() && (headers.if_match.is_given() || headers.if_none_match.is_given()) {
                    self.answer_error(driver, slot, 400, NUMBERED_AND_CONDITIONAL, false);
                } else if self.name_with_key(driver, slot, name, event, key) {
                    self.exchange(slot).op = op;
                    self.exchange(slot).numbered = numbered;
                    self.exchange(slot).pending.what = Asked::Publish;
                    return Ok(self.limits.message_bytes_max_of(name).into());
                }
            }
            Method::Delete => {
                let name = topic::from_path(name, &mut room)?;
                if self.name(driver, slot, name, "") {
                    self.exchange(slot).pending.what = Asked::Clear;
                }
            }
            _ => {
                topic::from_path_readable(name, &mut room)?;
                self.route_read(driver, slot, request, Some(name))?;
            }
        }
        Ok(self.limits.message_bytes_max.into())
    }

    /// Reading: one topic of the path, or those of the query, in one of many ways.
    fn route_read<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        name: Option<&str>,
    ) -> Result<(), Detour> {
        self.exchange(slot).pending.by_accept = query::value(request.query, "transport").is_none();
        let transport = match subscribing::transport(request) {
            Ok(transport) => transport,
            Err(text) => {
                self.answer_error(driver, slot, 400, text, false);
                return Ok(());
            }
        };
        if transport == Transport::Jsonp && !self.limits.jsonp {
            self.refuse_request_because(driver, slot, Refusal::Forbidden, origin::JSONP_OFF, false);
            return Ok(());
        }
        if name.is_some() && names_topics(request.query) {
            self.answer_error(driver, slot, 400, NAMED_TWICE, false);
            return Ok(());
        }
        let what = match (transport, name) {
            (Transport::Value, _) if options::has_view(request.query) => {
                self.answer_error(
                    driver,
                    slot,
                    400,
                    "value is the payload as it is: it has no fields, where or delta",
                    false,
                );
                return Ok(());
            }
            // What is wanted of it, its logs know.
            (Transport::Poll, Some(_)) if options::has_view(request.query) => None,
            (Transport::Poll, Some(name)) if is_pattern_of_path(name) => None,
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
            if self.name(driver, slot, name, "") {
                let exchange = self.exchange(slot);
                exchange.since = since;
                exchange.pending.what = what;
            }
            return Ok(());
        }
        let streams = matches!(transport, Transport::Stream(_));
        if streams && self.is_strange(slot) {
            self.refuse_request_because(driver, slot, Refusal::Forbidden, origin::REFUSED, true);
        } else if self.is_draining() {
            self.comes_back_after_the_drain();
            self.refuse_request(driver, slot, Refusal::Draining, true);
        } else {
            match self.begin_subscriber(driver, slot, request, name, transport, options) {
                Ok(None) => {}
                Ok(Some(wait)) => return Err(Detour::Wait(wait)),
                Err(text) => self.answer_error(driver, slot, 400, &text, false),
            }
        }
        Ok(())
    }

    /// What may be asked, for clients that ask, and for browsers before they send something across origins.
    fn answer_options<D: Driver>(&mut self, driver: &mut D, slot: Slot, request: &Request<'_>, allow: &'static str) {
        let extra: &[(&str, &str)] = if request.headers.access_control_request_method.is_some() {
            &[
                ("Access-Control-Allow-Methods", allow),
                ("Access-Control-Allow-Headers", PREFLIGHT_HEADERS),
                ("Access-Control-Max-Age", "86400"),
            ]
        } else {
            &[("Allow", allow)]
        };
        self.answer(driver, slot, Answer { status: 204, content_type: None, extra }, b"");
    }

    /// A WebSocket endpoint was asked for without asking for an upgrade.
    fn answer_upgrade<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let answer = Answer { status: 426, content_type: Some(JSON), extra: &[] };
        self.answer(driver, slot, answer, b"{\"error\":\"this is a WebSocket endpoint\"}");
    }
}

/// What is wrong with `/topics/a?topic=b`: some would read one of the two, some both.
pub(in crate::shard) const NAMED_TWICE: &str = "topics are named in the path or in the query, not twice";

/// A number depends on those before it, and a condition on the newest message: who has both would have to be told which of them is not met.
const NUMBERED_AND_CONDITIONAL: &str = "a message has a number or a condition, not both";

/// Numbers are of a topic, and a batch may have many.
const NUMBERED_IN_LINES: &str = "the lines of a batch have their producers and numbers in them";

/// Reads whose message a request publishes, and which one, if it is numbered.
fn produced_by<'r>(request: &Request<'r>) -> Result<Option<Produced<'r>>, Violation> {
    Produced::read(request.headers.corecast_producer, request.headers.corecast_number)
}

/// Says whether a query names topics.
pub(in crate::shard) fn names_topics(query: &str) -> bool {
    query::value(query, "topic").is_some()
}

fn is_allowed(method: Method, allow: &str) -> bool {
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Put | Method::Patch | Method::Trace | Method::Other => return false,
    };
    allow.split(", ").any(|allowed| allowed == name)
}

/// Reads where a request of one topic starts.
pub(in crate::shard) fn since(request: &Request<'_>) -> Result<Since, Violation> {
    let mut value = [0; VALUE_BYTES_MAX];
    match query::value(request.query, "since") {
        Some(text) => Since::parse(percent::decode(text, &mut value, true)?),
        None => Ok(Since::default()),
    }
}

/// Says whether the rest of a path is a pattern, which was checked.
fn is_pattern_of_path(name: &str) -> bool {
    let mut room = [0; topic::TOPIC_BYTES_MAX];
    topic::from_path_readable(name, &mut room).is_ok_and(pattern::is_pattern)
}
