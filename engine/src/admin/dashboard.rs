//! The dashboard: a page that shows how the engine is doing, and what it loads. All of it is here; nothing comes from elsewhere.
//!
//! It reads the engine's own topics over the engine's own client, by a WebSocket that is [piped](super::pipe) to a shard.

use super::answer::{Asked, Reply, Said};
use crate::observed::metrics::{self, Format};
use corecast_protocol::http::query;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What a page may load, and do: nothing but what this listener serves.
const POLICY: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),
    // Another version may answer tomorrow.
    ("Cache-Control", "no-cache"),
];

fn asset(content_type: &'static str, text: &'static str) -> Said {
    Reply { status: 200, content_type, body: text.to_owned(), head_only: false, headers: POLICY.to_vec() }.into()
}

pub(super) fn page(_: &Asked<'_>) -> Said {
    asset(HTML, include_str!("../../assets/dashboard.html"))
}

pub(super) fn style(_: &Asked<'_>) -> Said {
    asset(CSS, include_str!("../../assets/dashboard.css"))
}

pub(super) fn script(_: &Asked<'_>) -> Said {
    asset(SCRIPT, include_str!("../../assets/dashboard.js"))
}

pub(super) fn plot(_: &Asked<'_>) -> Said {
    asset(SCRIPT, include_str!("../../assets/uplot.min.js"))
}

pub(super) fn plot_style(_: &Asked<'_>) -> Said {
    asset(CSS, include_str!("../../assets/uplot.min.css"))
}

pub(super) fn client(_: &Asked<'_>) -> Said {
    asset(SCRIPT, include_str!("../../../clients/js/corecast.js"))
}

/// `/metrics`; `?shards=0` leaves out what is told of each shard.
pub(super) fn metrics(asked: &Asked<'_>) -> Said {
    let Some(observed) = &asked.watched.observed else {
        return Reply::text(503, "there is nothing to be seen").into();
    };
    let of_shards = match query::value(asked.request.query, "shards") {
        None | Some("1") => true,
        Some("0") => false,
        Some(_) => return Reply::text(400, "shards is 0 or 1").into(),
    };
    let format = Format::accepted(asked.request.headers.accept.values());
    let body = metrics::page(observed, format, of_shards);
    Reply { content_type: format.content_type(), ..Reply::text(200, "") }.with_body(body).into()
}
