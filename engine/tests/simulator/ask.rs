//! A request for the messages of topics: the transport, where to start, the options; and how it stands on the wire.

use crate::raw::escape_url;
use crate::rng::Rng;

/// How messages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Sse,
    Ndjson,
    Multipart,
    ForeverFrame,
    LongPoll,
    Poll,
    Jsonp,
    /// The line protocol on a WebSocket.
    Line,
}

pub(crate) const TRANSPORTS: usize = 8;

impl Transport {
    pub(crate) const STREAMS: [Transport; 4] =
        [Transport::Sse, Transport::Ndjson, Transport::Multipart, Transport::ForeverFrame];
    pub(crate) const POLLS: [Transport; 3] = [Transport::LongPoll, Transport::Poll, Transport::Jsonp];
    pub(crate) const ALL: [Transport; TRANSPORTS] = [
        Transport::Line,
        Transport::Sse,
        Transport::LongPoll,
        Transport::Ndjson,
        Transport::Poll,
        Transport::Multipart,
        Transport::Jsonp,
        Transport::ForeverFrame,
    ];

    /// Says whether the answer goes on and on.
    pub(crate) fn streams(self) -> bool {
        Transport::STREAMS.contains(&self)
    }

    fn name(self) -> &'static str {
        match self {
            Transport::Sse => "sse",
            Transport::Ndjson => "stream",
            Transport::Multipart => "multipart",
            Transport::ForeverFrame => "forever-frame",
            Transport::LongPoll => "long-poll",
            Transport::Poll => "poll",
            Transport::Jsonp => "jsonp",
            Transport::Line => "websocket",
        }
    }
}

/// Where an answer starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// `since=` this.
    Since(String),
    /// This is the last id that a browser has.
    LastEventId(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) transport: Transport,
    pub(crate) topics: Vec<String>,
    /// The only topic stands in the path.
    pub(crate) in_path: bool,
    pub(crate) from: Start,
    /// HTTP/1.0: the body ends with the connection.
    pub(crate) http10: bool,
    /// `conflate`, `every`: as they stand in the query.
    pub(crate) options: String,
    /// How long a poll waits, in seconds, if it says so.
    pub(crate) wait_s: Option<u32>,
    /// The cursors of `If-None-Match`.
    pub(crate) known: Option<String>,
    pub(crate) callback: Option<&'static str>,
    /// Event streams: the data of an event is an object that says everything.
    pub(crate) enveloped: bool,
    /// What comes may be compressed.
    pub(crate) packed: bool,
}

impl Ask {
    pub(crate) fn new(transport: Transport, topics: Vec<String>, from: Start) -> Ask {
        Ask {
            transport,
            in_path: topics.len() == 1,
            topics,
            from,
            http10: false,
            options: String::new(),
            wait_s: None,
            known: None,
            callback: None,
            enveloped: false,
            packed: false,
        }
    }

    /// Says whether events come in the way of several topics.
    pub(crate) fn is_shared(&self) -> bool {
        !self.in_path || self.topics.len() > 1
    }

    /// The function that is called when a script arrives.
    pub(crate) fn callback(&self) -> &'static str {
        match (self.callback, self.transport) {
            (Some(named), _) => named,
            (None, Transport::Jsonp) => "callback",
            (None, _) => "parent.corecast",
        }
    }

    /// Writes the request's head; of several ways to say the same, `rng` takes one.
    pub(crate) fn head(&self, rng: &mut Rng) -> String {
        let mut headers = String::from("Host: sim\r\n");
        let mut query: Vec<String> = Vec::new();
        let path = if self.in_path {
            format!("/topics/{}", escape_url(&self.topics[0]))
        } else {
            query.extend(self.topics.iter().map(|topic| format!("topic={}", escape_url(topic))));
            "/topics".to_string()
        };
        match self.transport {
            Transport::Sse if rng.chance(300) => headers.push_str("Accept: text/event-stream\r\n"),
            Transport::Poll if rng.chance(300) => {}
            transport => query.push(format!("transport={}", transport.name())),
        }
        match &self.from {
            Start::Since(since) if since == "latest" && rng.chance(500) => {}
            Start::Since(since) => query.push(format!("since={since}")),
            Start::LastEventId(id) => {
                // It wins over the `since` that the page began with.
                query.push("since=earliest".to_string());
                if rng.chance(500) {
                    headers.push_str(&format!("Last-Event-ID: {id}\r\n"));
                } else {
                    query.push(format!("last_event_id={id}"));
                }
            }
        }
        if !self.options.is_empty() {
            query.push(self.options.clone());
        }
        match self.wait_s {
            Some(wait_s) if rng.chance(300) => headers.push_str(&format!("Prefer: wait={wait_s}\r\n")),
            Some(wait_s) => query.push(format!("wait={wait_s}")),
            None => {}
        }
        if let Some(callback) = self.callback {
            query.push(format!("callback={callback}"));
        }
        if self.enveloped {
            query.push(rng.pick(&["enveloped=1", "enveloped=true", "enveloped"]).to_string());
        }
        if self.packed {
            headers.push_str(rng.pick(&["Accept-Encoding: gzip\r\n", "Accept-Encoding: br;q=1, gzip;q=0.5\r\n"]));
        }
        if let Some(known) = &self.known {
            headers.push_str(&format!("If-None-Match: \"{known}\"\r\n"));
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let version = if self.http10 { "1.0" } else { "1.1" };
        format!("GET {path}{mark}{} HTTP/{version}\r\n{headers}\r\n", query.join("&"))
    }
}
