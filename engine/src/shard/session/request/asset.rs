//! Assets: what the engine itself serves to browsers, the client, the demo page and the demos.
//!
//! Owns their bytes, which `build/assets.rs` has compressed and named. An answer copies them into the connection's queue, as every answer
//! is; conditions are held against the name at once, as it never changes while the engine runs.

use corecast_protocol::http::etag::{self, Current};
use corecast_protocol::http::head::Request;
use corecast_protocol::http::prefer;

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::session::request::answer::Answer;

/// Something to serve.
#[derive(Debug)]
pub(in crate::shard) struct Asset {
    content_type: &'static str,
    plain: &'static [u8],
    /// The same with the content coding gzip.
    packed: &'static [u8],
    /// Entity tags with their quotes; two, as a strong one names bytes (RFC 9110 section 8.8.3.3).
    plain_tag: &'static str,
    packed_tag: &'static str,
    /// How long it is kept without asking; as all answers, if nothing is said.
    cache: Option<&'static str>,
    /// A page of any origin may have it: it says nothing of this engine.
    is_public: bool,
}

/// Makes an asset of a file, of what `build/assets.rs` made of it, and of its tag.
macro_rules! asset {
    ($path:expr, $packed:expr, $tag:literal, $($field:ident: $value:expr),+) => {
        Asset {
            plain: include_bytes!(concat!("../../../../../", $path)),
            packed: include_bytes!(concat!(env!("OUT_DIR"), "/", $packed)),
            plain_tag: concat!("\"", env!($tag), "\""),
            packed_tag: concat!("\"", env!($tag), "-gzip\""),
            $($field: $value),+
        }
    };
}

/// A minute without a question, for pages that are opened one after another; then a 304, so that a new engine's client is soon used.
const FOR_A_MINUTE: Option<&str> = Some("public, max-age=60");
const SCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The client for browsers, as it stands in `clients/js`.
pub(in crate::shard) const CLIENT: Asset = asset!(
    "clients/js/corecast.js", "corecast.js.gz", "CORECAST_TAG_CLIENT",
    content_type: SCRIPT, cache: FOR_A_MINUTE, is_public: true
);

/// The same for pages that nobody reads.
pub(in crate::shard) const MINIFIED: Asset = asset!(
    "clients/js/corecast.min.js", "corecast.min.js.gz", "CORECAST_TAG_MINIFIED",
    content_type: SCRIPT, cache: FOR_A_MINUTE, is_public: true
);

/// The demo page: what a browser sees at `/`. Others see something else there, so nobody keeps it without asking.
pub(in crate::shard) const PAGE: Asset = asset!(
    "engine/assets/index.html", "index.html.gz", "CORECAST_TAG_PAGE",
    content_type: HTML, cache: None, is_public: false
);

/// A page of `/demo/`, or what the pages there share: asked for anew each time, so that they fit together.
macro_rules! demo {
    ($name:ident, $file:literal, $tag:literal, $content_type:expr) => {
        const $name: Asset = asset!(
            concat!("engine/assets/demo/", $file), concat!($file, ".gz"), $tag,
            content_type: $content_type, cache: None, is_public: false
        );
    };
}

demo!(DEMOS, "demos.html", "CORECAST_TAG_DEMOS", HTML);
demo!(STOCKS, "stocks.html", "CORECAST_TAG_STOCKS", HTML);
demo!(DEPTH, "depth.html", "CORECAST_TAG_DEPTH", HTML);
demo!(CHAT, "chat.html", "CORECAST_TAG_CHAT", HTML);
demo!(TELEMETRY, "telemetry.html", "CORECAST_TAG_TELEMETRY", HTML);
demo!(DEMO_SCRIPT, "demo.js", "CORECAST_TAG_DEMO", SCRIPT);
demo!(DEMO_STYLE, "demo.css", "CORECAST_TAG_DEMO_STYLE", STYLE);

/// Finds what `/demo/` shows by the rest of its path.
pub(in crate::shard) fn demo(name: &str) -> Option<&'static Asset> {
    Some(match name {
        "" => &DEMOS,
        "stocks" => &STOCKS,
        "depth" => &DEPTH,
        "chat" => &CHAT,
        "telemetry" => &TELEMETRY,
        "demo.js" => &DEMO_SCRIPT,
        "demo.css" => &DEMO_STYLE,
        _ => return None,
    })
}

impl Shard {
    /// Answers with an asset, unless the client has it already.
    pub(in crate::shard) fn answer_asset<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        asset: &Asset,
    ) {
        let headers = &request.headers;
        let (body, tag, coding) = if prefer::accepts_gzip(headers.accept_encoding) {
            (asset.packed, asset.packed_tag, Some(("Content-Encoding", "gzip")))
        } else {
            (asset.plain, asset.plain_tag, None)
        };
        let current = Current { tag: &tag.as_bytes()[1..tag.len() - 1], exists: true };
        if !etag::if_match(headers.if_match, current) {
            self.refuse_request(driver, slot, Refusal::Changed, false);
            return;
        }
        let has_it = !etag::if_none_match(headers.if_none_match, current);
        // A page that is not welcome can read nothing here; but with the client it can say so.
        let stranger = (asset.is_public && self.is_strange(slot)).then_some(("Access-Control-Allow-Origin", "*"));
        let mut extra = [("", ""); 5];
        let named = [("ETag", tag), ("Vary", "Accept-Encoding")];
        let cache = asset.cache.map(|cache| ("Cache-Control", cache));
        let mut count = 0;
        for header in named.into_iter().chain(cache).chain(stranger).chain(coding.filter(|_| !has_it)) {
            extra[count] = header;
            count += 1;
        }
        let extra = &extra[..count];
        let answer = if has_it {
            Answer { status: 304, content_type: None, extra }
        } else {
            Answer { status: 200, content_type: Some(asset.content_type), extra }
        };
        self.answer(driver, slot, answer, if has_it { b"" } else { body });
    }
}
