//! What the admin listener answers: one table of its pages, and what each of them says.
//!
//! Owns: the table, and the form of answers. Touches: what [`Watched`] lets it read, and the control plane, which it asks.
//! Never: waits for what is asked for; that is said [later](Said::Later).

use corecast_protocol::http::head::{BodyLength, Method, Request};
use crossbeam_channel::{Receiver, bounded};
use serde_json::{Map, Value};

use super::{PROCESS_FIELDS, Watched, act, dashboard, look, pipe, revoke};
use crate::control::{self, Demand, Outcome};
use crate::io::doorbell::Doorbell;

/// Every page there is.
const PAGES: &[Page] = &[
    open(reads("/", dashboard::page)),
    reads("/metrics", dashboard::metrics),
    open(reads("/healthz", |_| Reply::text(200, "ok").into())),
    open(reads("/readyz", readiness)),
    reads("/stats", statistics),
    reads("/connections", look::connections),
    reads("/connection", look::one_connection),
    reads("/topics", look::topics),
    reads("/topic", look::one_topic),
    reads("/slow", look::slow),
    reads("/revoked", revoke::list),
    open(reads("/dashboard.css", dashboard::style)),
    open(reads("/dashboard.js", dashboard::script)),
    open(reads("/uplot.js", dashboard::plot)),
    open(reads("/uplot.css", dashboard::plot_style)),
    open(reads("/corecast.js", dashboard::client)),
    Page { methods: "GET", ..reads(pipe::PATH, piped) },
    does("/reload", Body::Ignored, |asked| asked.demand(Demand::Reload)),
    does("/revoke", Body::Json, revoke::revoke),
    does("/disconnect", Body::Json, act::disconnect),
    does("/drain", Body::Json, act::drain),
];

/// A path, and what is answered there.
#[derive(Debug)]
struct Page {
    path: &'static str,
    /// What it takes, as `Allow` has it.
    methods: &'static str,
    body: Body,
    /// It is shown to whoever reaches the listener, also where a token is needed for others.
    is_open: bool,
    answer: fn(&Asked<'_>) -> Said,
}

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// It is not waited for.
    Ignored,
    /// The answer depends on it; if there is one, it is JSON.
    Json,
}

/// Makes a page that is looked at.
const fn reads(path: &'static str, answer: fn(&Asked<'_>) -> Said) -> Page {
    Page { path, methods: "GET, HEAD", body: Body::Ignored, is_open: false, answer }
}

/// Makes a page that does something.
const fn does(path: &'static str, body: Body, answer: fn(&Asked<'_>) -> Said) -> Page {
    Page { path, methods: "POST", body, is_open: false, answer }
}

/// Makes a page one that needs no token.
const fn open(page: Page) -> Page {
    Page { is_open: true, ..page }
}

/// A request, and what it may ask of the engine.
pub(super) struct Asked<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) body: &'a [u8],
    pub(super) watched: &'a Watched,
    /// Is rung when there is an answer to what was asked of others.
    pub(super) bell: &'a Doorbell,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
    /// HEAD: all but the body.
    pub(super) head_only: bool,
    /// Headers that go with it.
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

/// What a request is told.
#[derive(Debug)]
pub(super) enum Said {
    /// This.
    Now(Reply),
    /// What comes from the control plane.
    Later { outcome: Receiver<Outcome>, head_only: bool },
    /// What the engine itself answers.
    Piped,
}

impl From<Reply> for Said {
    fn from(reply: Reply) -> Said {
        Said::Now(reply)
    }
}

impl Said {
    /// Leaves the body away: that was a HEAD.
    fn without_body(self) -> Said {
        match self {
            Said::Now(reply) => Said::Now(Reply { head_only: true, ..reply }),
            Said::Later { outcome, .. } => Said::Later { outcome, head_only: true },
            Said::Piped => Said::Piped,
        }
    }
}

impl Reply {
    pub(super) fn text(status: u16, body: impl Into<String>) -> Reply {
        let body = body.into() + "\n";
        Reply { status, content_type: "text/plain; charset=utf-8", body, head_only: false, headers: Vec::new() }
    }

    pub(super) fn json(status: u16, body: impl Into<String>) -> Reply {
        Reply { content_type: "application/json", ..Reply::text(status, body) }
    }

    /// Has a body, as it is.
    pub(super) fn with_body(self, body: String) -> Reply {
        Reply { body, ..self }
    }

    fn not_allowed(allow: &'static str) -> Reply {
        Reply { headers: vec![("Allow", allow)], ..Reply::text(405, format!("only {allow} are answered here")) }
    }
}

impl Asked<'_> {
    /// Returns what it is told.
    pub(super) fn answer(&self) -> Said {
        let Some(page) = page_at(self.request.path) else {
            return Reply::text(404, format!("no such page; there are {}", pages())).into();
        };
        if !page.is_open && !self.is_let_in() {
            let text = "this needs a token of the file that admin-token names: Authorization: Bearer TOKEN";
            return Reply { headers: vec![("WWW-Authenticate", "Bearer")], ..Reply::text(401, text) }.into();
        }
        let method = self.request.method;
        match page.methods {
            "POST" if method != Method::Post => Reply::not_allowed(page.methods).into(),
            "POST" => (page.answer)(self),
            _ if method == Method::Head => (page.answer)(self).without_body(),
            _ if method != Method::Get => Reply::not_allowed(page.methods).into(),
            _ => (page.answer)(self),
        }
    }

    /// Says whether whoever asks may. Browsers give a WebSocket no headers of the page's: its token is a subprotocol, as at the engine itself.
    fn is_let_in(&self) -> bool {
        let headers = &self.request.headers;
        let bearer = |name: &'_ [u8]| {
            let token = name.strip_prefix(b"bearer.").and_then(|token| std::str::from_utf8(token).ok());
            token.is_some_and(|token| self.watched.guard.is_let_in(Some(token)))
        };
        self.watched.guard.lets_in(headers.authorization)
            || headers.upgrade_websocket && headers.sec_websocket_protocol.members().any(bearer)
    }

    /// Asks the control plane.
    pub(super) fn demand(&self, demand: Demand) -> Said {
        let control = self.watched.control.as_ref();
        self.later(|reply| control.is_some_and(|control| control.ask(demand, Some(reply))))
    }

    /// Asks somebody, who takes the question or says that it is one too many.
    pub(super) fn later(&self, ask: impl FnOnce(control::Reply) -> bool) -> Said {
        let (to, outcome) = bounded(1);
        if ask(control::Reply { to, bell: self.bell.clone() }) {
            return Said::Later { outcome, head_only: false };
        }
        Reply::text(503, "too much is asked already").into()
    }
}

fn page_at(path: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.path == path)
}

/// Returns how long a body is that is to be waited for before a request is answered.
///
/// # Errors
/// What is said to one that is not taken.
pub(super) fn awaited_body(request: &Request<'_>, bytes_max: usize) -> Result<usize, Reply> {
    if request.method != Method::Post || page_at(request.path).is_none_or(|page| page.body == Body::Ignored) {
        return Ok(0);
    }
    let length = match request.body {
        BodyLength::None | BodyLength::Sized(0) => return Ok(0),
        BodyLength::Chunked => return Err(Reply::text(411, "say Content-Length")),
        BodyLength::Sized(length) => length,
    };
    let media = request.headers.content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("application/json") {
        return Err(Reply::text(415, "bodies are JSON here: say Content-Type: application/json"));
    }
    usize::try_from(length).ok().filter(|length| *length <= bytes_max).ok_or_else(|| Reply::text(413, "too large"))
}

/// Names all pages but what the dashboard is made of: those that are looked at, and behind them those that do something.
#[must_use]
pub fn pages() -> String {
    let all = |posts: bool| {
        let pages = PAGES.iter().filter(|page| !page.path.contains('.') && page.path != pipe::PATH);
        let pages = pages.filter(|page| (page.methods == "POST") == posts);
        pages.map(|page| page.path).collect::<Vec<_>>().join(" ")
    };
    format!("{}, POST {}", all(false), all(true))
}

/// A WebSocket to the engine itself.
fn piped(asked: &Asked<'_>) -> Said {
    if !asked.request.headers.upgrade_websocket {
        return Reply::text(426, "this is for WebSockets").into();
    }
    if asked.watched.inside.is_none() {
        return Reply::text(503, "the engine cannot be reached from here").into();
    }
    Said::Piped
}

fn readiness(asked: &Asked<'_>) -> Said {
    match (asked.watched.ready)() {
        Ok(()) => Reply::text(200, "ready").into(),
        Err(reason) => Reply::text(503, reason).into(),
    }
}

/// `{"version":"0.2.0","uptime_seconds":12.5,"process":{"log_lines_dropped":0,...},"total":{"connections":3,...},"shards":[{"shard":0,"connections":1,...},...]}`
fn statistics(asked: &Asked<'_>) -> Said {
    let reading = (asked.watched.read)();
    let object = |values: &[u64]| -> Map<String, Value> {
        reading.names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
    };
    let shards = reading.shards.iter().enumerate().map(|(n, values)| {
        let mut shard = object(values);
        shard.insert("shard".to_owned(), n.into());
        Value::Object(shard)
    });
    let shards: Vec<Value> = shards.collect();
    let process: Map<String, Value> = PROCESS_FIELDS
        .iter()
        .zip(reading.process)
        .map(|((name, _), value)| ((*name).to_owned(), value.into()))
        .collect();
    let mut body = serde_json::json!({
        "version": env!("CORECAST_VERSION"), "process": process, "total": object(&reading.total), "shards": shards,
    });
    if let Some(observed) = &asked.watched.observed {
        body["uptime_seconds"] = observed.uptime_s().into();
    }
    Reply::json(200, body.to_string()).into()
}
