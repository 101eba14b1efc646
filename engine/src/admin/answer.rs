//! What the admin listener answers: one table of its pages, and what each of them says.
//!
//! Owns: the table, and the form of answers. Touches: what [`Watched`] lets it read, and the control plane, which it asks.
//! Never: waits for what is asked for; that is said [later](Said::Later).

use corecast_protocol::http::head::{Method, Request};
use corecast_protocol::http::query;
use crossbeam_channel::{Receiver, bounded};
use serde_json::{Map, Value};

use super::{PROCESS_FIELDS, Watched, dashboard, pipe, revoke};
use crate::control::{self, Demand, Outcome};
use crate::io::doorbell::Doorbell;
use crate::shard::{Question, ROWS_MAX};

/// Rows of a list, unless `limit` says otherwise.
const ROWS: usize = 100;

/// Every page there is.
const PAGES: &[Page] = &[
    reads("/", dashboard::page),
    reads("/metrics", dashboard::metrics),
    reads("/healthz", |_| Reply::text(200, "ok").into()),
    reads("/readyz", readiness),
    reads("/stats", statistics),
    reads("/connections", |asked| look(Question::Connections, asked)),
    reads("/topics", |asked| look(Question::Topics, asked)),
    reads("/slow", |asked| look(Question::Slow, asked)),
    reads("/revoked", revoke::list),
    reads("/dashboard.css", dashboard::style),
    reads("/dashboard.js", dashboard::script),
    reads("/uplot.js", dashboard::plot),
    reads("/uplot.css", dashboard::plot_style),
    reads("/corecast.js", dashboard::client),
    Page { path: pipe::PATH, methods: "GET", body: Body::Ignored, answer: piped },
    does("/reload", Body::Ignored, |asked| asked.demand(Demand::Reload)),
    does("/revoke", Body::Awaited, revoke::revoke),
];

/// A path, and what is answered there.
#[derive(Debug)]
struct Page {
    path: &'static str,
    /// What it takes, as `Allow` has it.
    methods: &'static str,
    body: Body,
    answer: fn(&Asked<'_>) -> Said,
}

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// It is not waited for.
    Ignored,
    /// The answer depends on it.
    Awaited,
}

/// Makes a page that is looked at.
const fn reads(path: &'static str, answer: fn(&Asked<'_>) -> Said) -> Page {
    Page { path, methods: "GET, HEAD", body: Body::Ignored, answer }
}

/// Makes a page that does something.
const fn does(path: &'static str, body: Body, answer: fn(&Asked<'_>) -> Said) -> Page {
    Page { path, methods: "POST", body, answer }
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
    /// What is allowed instead, if it is not.
    pub(super) allow: &'static str,
    /// Headers besides.
    pub(super) headers: &'static [(&'static str, &'static str)],
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
        Reply { status, content_type: "text/plain; charset=utf-8", body, head_only: false, allow: "", headers: &[] }
    }

    pub(super) fn json(status: u16, body: impl Into<String>) -> Reply {
        Reply { content_type: "application/json", ..Reply::text(status, body) }
    }

    /// Has a body, as it is.
    pub(super) fn with_body(self, body: String) -> Reply {
        Reply { body, ..self }
    }

    fn not_allowed(allow: &'static str) -> Reply {
        Reply { allow, ..Reply::text(405, format!("only {allow} are answered here")) }
    }
}

impl Asked<'_> {
    /// Returns what it is told.
    pub(super) fn answer(&self) -> Said {
        let Some(page) = page_at(self.request.path) else {
            return Reply::text(404, format!("no such page; there are {}", pages())).into();
        };
        let method = self.request.method;
        match page.methods {
            "POST" if method != Method::Post => Reply::not_allowed(page.methods).into(),
            "POST" => (page.answer)(self),
            _ if method == Method::Head => (page.answer)(self).without_body(),
            _ if method != Method::Get => Reply::not_allowed(page.methods).into(),
            _ => (page.answer)(self),
        }
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

/// Says whether what is answered at a path depends on the body of the request.
pub(super) fn awaits_body(path: &str) -> bool {
    page_at(path).is_some_and(|page| page.body == Body::Awaited)
}

/// Names all pages: those that are looked at, and behind them those that do something.
#[must_use]
pub fn pages() -> String {
    let all = |posts: bool| {
        let pages = PAGES.iter().filter(|page| (page.methods == "POST") == posts);
        pages.map(|page| page.path).collect::<Vec<_>>().join(" ")
    };
    format!("{}, POST {}", all(false), all(true))
}

/// Asks the shards a question, for so many rows as the query says.
fn look(question: Question, asked: &Asked<'_>) -> Said {
    let limit = query::value(asked.request.query, "limit").map(|limit| limit.parse::<usize>().unwrap_or(0));
    match limit.unwrap_or(ROWS) {
        rows @ 1..=ROWS_MAX => asked.demand(Demand::Look(question, rows)),
        _ => Reply::text(400, format!("limit is a number from 1 to {ROWS_MAX}")).into(),
    }
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

/// `{"process":{"log_lines_dropped":0,...},"total":{"connections":3,...},"shards":[{"shard":0,"connections":1,...},...]}`
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
    let body = serde_json::json!({ "process": process, "total": object(&reading.total), "shards": shards });
    Reply::json(200, body.to_string()).into()
}
