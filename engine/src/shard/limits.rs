//! What a shard is held to. Every number that a peer could otherwise drive up has its bound here.

use corecast_protocol::http::forwarded;
use corecast_protocol::network::Network;

use crate::grant::{Action, UnixGrants};

use super::access::AccessLog;
use super::rules::{LagPolicy, Mode, Rules};

/// Limits that hold for an address, for a subject, for a connection in a second, or for all of the process together; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Connections of all, at the same time.
    pub connections_in_all: u32,
    /// The same, of an address.
    pub connections_per_address: u32,
    /// The same, of a subject whose grant does not say it.
    pub connections_per_subject: u32,
    /// Subscriptions of all connections.
    pub subscriptions_in_all: u32,
    /// The same, of those of an address.
    pub subscriptions_per_address: u32,
    /// The same, of those of a subject whose grant does not say it.
    pub subscriptions_per_subject: u32,
    /// Connections accepted in a second, of all addresses.
    pub connects: u32,
    /// The same, of one address.
    pub connects_per_address: u32,
    /// Messages published in a second by a connection.
    pub publishes: u32,
    /// The same, by those of an address.
    pub publishes_per_address: u32,
    /// The same, by those of a subject whose grant does not say it.
    pub publishes_per_subject: u32,
    /// The same, by all.
    pub publishes_in_all: u32,
    /// Payload bytes published in a second by a connection.
    pub bytes: u64,
    /// The same, by those of an address.
    pub bytes_per_address: u64,
    /// The same, by those of a subject whose grant does not say it.
    pub bytes_per_subject: u64,
    /// The same, by all.
    pub bytes_in_all: u64,
    /// Topics made in a second by a connection.
    pub topics: u32,
    /// The same, by those of an address.
    pub topics_per_address: u32,
    /// The same, by those of a subject whose grant does not say it.
    pub topics_per_subject: u32,
    /// The same, by all.
    pub topics_in_all: u32,
    /// Loopback addresses are held to what holds for an address.
    pub loopback: bool,
}

impl Quotas {
    /// Says whether anything is limited that is to be looked at when somebody publishes, or names a topic.
    #[must_use]
    pub(in crate::shard) fn meters(&self) -> bool {
        let publishes =
            self.publishes | self.publishes_per_address | self.publishes_per_subject | self.publishes_in_all;
        let bytes = self.bytes | self.bytes_per_address | self.bytes_per_subject | self.bytes_in_all;
        let topics = self.topics | self.topics_per_address | self.topics_per_subject | self.topics_in_all;
        publishes | topics > 0 || bytes > 0
    }
}

/// What the authority is asked for: credentials of other kinds are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Tokens are looked for, and it knows what they give.
    pub tokens: bool,
    /// API keys are.
    pub keys: bool,
    /// Name of the cookie that holds a token; none: no cookie does.
    pub cookie: Option<String>,
    /// Names of certificates are shown to it.
    pub certificates: bool,
    /// The hook is asked about whoever shows nothing else.
    pub visits: bool,
    /// Headers that the hook is told of then, in lower case.
    pub visit_headers: Vec<String>,
    /// The hook is asked about each topic that somebody with a grant wants to read.
    pub subscribe: bool,
    /// The same, of each that he publishes to.
    pub publish: bool,
}

impl Asks {
    /// Says whether the hook is asked about single topics, for this.
    #[must_use]
    pub(in crate::shard) fn about(&self, action: Action) -> bool {
        match action {
            Action::Publish => self.publish,
            Action::Subscribe => self.subscribe,
        }
    }
}

/// Limits of one shard.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest payload in bytes.
    pub message_bytes_max: u32,
    /// Largest request head in bytes.
    pub head_bytes_max: u32,
    /// Connections at most.
    pub connections_max: u32,
    /// Subscriptions of one connection at most.
    pub subscriptions_max: u32,
    /// Different views of one topic that are read on one shard.
    pub views_max: u32,
    /// Topics that may have their home on the shard, and topics that may have a subscriber on it, at most.
    pub topics_max: u32,
    /// Messages kept per topic.
    pub history_messages: u32,
    /// Payload bytes kept per topic.
    pub history_bytes: u32,
    /// Age of a message that is still kept, in milliseconds.
    pub history_ms: u64,
    /// Producers of one topic whose numbers are known, at most.
    pub producers_max: u32,
    /// How long a producer is known that is not heard of, in milliseconds.
    pub producer_ms: u64,
    /// How long a topic that has lost its last subscriber is still said to be wanted, in milliseconds.
    pub demand_ms: u64,
    /// Bytes of one frame log (topic, dialect, shard) before its tail is cut.
    pub log_bytes_max: u32,
    /// Bytes waiting in the private queue of one connection before its commands wait.
    pub private_bytes_max: u32,
    /// What happens to a subscriber that is too slow.
    pub lag: LagPolicy,
    /// Time for a request head, or for the handshake, to arrive, in milliseconds.
    pub head_ms: u64,
    /// Time between two requests on a kept-alive connection, and for a request body, in milliseconds.
    pub request_ms: u64,
    /// Silence before a WebSocket is pinged, in milliseconds.
    pub ping_ms: u64,
    /// Silence before a WebSocket is given up, in milliseconds.
    pub dead_ms: u64,
    /// Age at which an HTTP stream ends, so that its client comes back with its cursor, in milliseconds.
    pub stream_ms: u64,
    /// Bytes of messages after which an HTTP stream ends, as by age; 0: never.
    pub stream_bytes: u64,
    /// Time for a peer to end a connection that we ended, in milliseconds.
    pub linger_ms: u64,
    /// Messages of at least so many bytes are compressed for clients that accept it; `None`: compression is not offered.
    pub compress_from: Option<u32>,
    /// Block memory in bytes.
    pub memory_bytes: u64,
    /// What an address and a second allow.
    pub quotas: Quotas,
    /// Where most of the time goes into turns longer than this, in microseconds, newcomers wait; 0: never.
    pub overload_us: u64,
    /// What is written down of what is served.
    pub access_log: AccessLog,
    /// `GET /echo` is served.
    pub echo: bool,
    /// Origins that browsers may come from besides the host itself, in the form browsers write; `*` allows all.
    pub origins: Vec<String>,
    /// Names that requests may ask for; none: see [`super::session::request::origin`].
    pub hosts: Vec<String>,
    /// `transport=jsonp` is served.
    pub jsonp: bool,
    /// `GET /` shows browsers the demo page, and `/demo/` the demos.
    pub demo: bool,
    /// `GET /corecast.js` and `/corecast.min.js` are served.
    pub client_library: bool,
    /// Pages of other origins that are listed may read answers that a browser asked for with its user's credentials.
    pub cors_credentials: bool,
    /// For each listener: only this host reaches it: its address is a loopback address, or a path.
    pub loopback: Vec<bool>,
    /// What clients of Unix sockets may do.
    pub unix_grants: UnixGrants,
    /// For each listener: its connections speak TLS.
    pub tls: Vec<bool>,
    /// Proxies that are believed when they say who asks.
    pub trusted_proxies: Vec<Network>,
    /// Where they say it.
    pub forwarded_header: forwarded::Header,
    /// Whatever no rule and no grant says is allowed to everybody.
    pub insecure: bool,
    /// For each listener: a proxy says whom its connections come from, after they have been accepted.
    pub announced: Vec<bool>,
    /// For each listener: what no rule and no grant says is allowed there. Nothing that is not listed here is.
    pub open: Vec<bool>,
    /// For each listener: its port, once it is known.
    pub ports: Vec<u16>,
    /// What the authority is asked for.
    pub asks: Asks,
    /// Time for the authority to say whether somebody may, in milliseconds.
    pub verdict_ms: u64,
    /// What holds for topics of a pattern, instead of the limits above.
    pub rules: Rules,
    /// The listener whose connections are this process's own, and the number of this process: they are an operator's.
    pub inside: Option<(u8, u32)>,
    /// The listener whose connections speak lines over bare TCP.
    #[cfg(feature = "telnet")]
    pub telnet: Option<u8>,
}

/// Keys that a topic has at most, where no rule says another number, and bytes of their values.
pub(super) const ROWS_MAX: u32 = 1_000;
pub(super) const ROW_BYTES_MAX: u32 = 1 << 20;

/// What a topic may remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keeps {
    /// Messages.
    pub(super) messages: u32,
    /// Payload bytes.
    pub(super) bytes: u32,
    /// Age of a message, in milliseconds.
    pub(super) ms: u64,
    /// What its messages are to each other.
    pub(super) mode: Mode,
    /// Keys, if they are values.
    pub(super) rows: u32,
    /// Bytes of the values of all of them.
    pub(super) row_bytes: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes_max: 64 << 10,
            // What nginx (4 x 8 KiB) and Apache (8 KiB a line) take is more than browsers send.
            head_bytes_max: 16 << 10,
            connections_max: 1 << 20,
            subscriptions_max: 1024,
            views_max: 64,
            topics_max: 1 << 22,
            producers_max: 1024,
            producer_ms: 900_000,
            demand_ms: 5_000,
            history_messages: 64,
            history_bytes: 64 << 10,
            history_ms: 300_000,
            log_bytes_max: 256 << 10,
            private_bytes_max: 64 << 10,
            lag: LagPolicy::Replay,
            head_ms: 10_000,
            request_ms: 60_000,
            ping_ms: 25_000,
            dead_ms: 60_000,
            stream_ms: 1_800_000,
            // What a page keeps of a stream in the worst case (a text of two bytes a letter) is then no more than other pages
            // are. Less would interrupt busy streams often: an EventSource comes back only after its `retry`.
            stream_bytes: 64 << 20,
            linger_ms: 2_000,
            compress_from: Some(1 << 10),
            memory_bytes: 256 << 20,
            quotas: Quotas::default(),
            overload_us: 0,
            access_log: AccessLog::Off,
            echo: false,
            origins: Vec::new(),
            hosts: Vec::new(),
            jsonp: true,
            demo: true,
            client_library: true,
            cors_credentials: true,
            loopback: vec![true],
            tls: Vec::new(),
            trusted_proxies: Vec::new(),
            unix_grants: UnixGrants::default(),
            forwarded_header: forwarded::Header::default(),
            insecure: false,
            announced: Vec::new(),
            open: vec![true],
            ports: Vec::new(),
            asks: Asks::default(),
            verdict_ms: 5_000,
            rules: Rules::default(),
            inside: None,
            #[cfg(feature = "telnet")]
            telnet: None,
        }
    }
}

impl Limits {
    /// Returns the bytes in a row that the largest message takes: as it arrives, as a history keeps it (a time and an event name
    /// with it), and as a frame log does (as base64 in JSON; text full of control characters would take more, and is shed).
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        u64::from(self.message_bytes_max).div_ceil(3) * 4 + FRAME_BYTES
    }

    /// Says whether a payload of so many bytes is too large for a topic.
    pub(super) fn is_too_large(&self, topic: &str, bytes: usize) -> bool {
        bytes > self.message_bytes_max as usize || self.rules.is_too_large(topic, bytes)
    }

    /// Returns the largest payload of a topic, in bytes.
    pub(super) fn message_bytes_max_of(&self, topic: &str) -> u32 {
        self.rules.of(topic).message_bytes_max.map_or(self.message_bytes_max, |most| most.min(self.message_bytes_max))
    }

    /// Returns what happens to a subscriber of a topic that is too slow.
    pub(super) fn lag_of(&self, topic: &str) -> LagPolicy {
        self.rules.of(topic).lag.unwrap_or(self.lag)
    }

    /// Returns what topics may remember whose terms have this number.
    pub(super) fn keeps(&self, terms: u16) -> Keeps {
        let settings = Keeps {
            messages: self.history_messages,
            bytes: self.history_bytes,
            ms: self.history_ms,
            mode: Mode::Distinct,
            rows: ROWS_MAX,
            row_bytes: ROW_BYTES_MAX,
        };
        if terms == 0 {
            return settings; // No rule says anything.
        }
        let terms = self.rules.terms(terms);
        Keeps {
            messages: terms.history_messages.unwrap_or(settings.messages),
            bytes: terms.history_bytes.unwrap_or(settings.bytes),
            ms: terms.history_ms.unwrap_or(settings.ms),
            mode: terms.mode.unwrap_or_default(),
            rows: terms.rows.unwrap_or(settings.rows),
            row_bytes: terms.row_bytes.unwrap_or(settings.row_bytes),
        }
    }

    /// Returns the largest body of a batch: sixteen messages, as far as one block of the pool holds them.
    #[must_use]
    pub fn batch_bytes_max(&self) -> u64 {
        let messages = u64::from(self.message_bytes_max) * super::session::request::batch::BATCH_MESSAGES;
        messages.min(super::memory::pool::block_bytes_max(self.memory_bytes))
    }

    /// Returns the size of a ring between two shards where so many shards share a core: two packets with the largest payload
    /// fit, and no fewer small ones than a turn or two sends. Shards that take turns on a core send each other less between two
    /// turns, and there are the square of them.
    #[must_use]
    pub fn ring_bytes(&self, shards_per_core: usize) -> usize {
        let twice = 2 * crate::mesh::packet::Packet::bytes_max(self.message_bytes_max as usize);
        twice.max(RING_BYTES / shards_per_core).max(RING_BYTES_MIN)
    }
}

/// What stands around a payload: a topic (255 bytes), an event name (64), a cursor, and the names of the fields.
const FRAME_BYTES: u64 = 1 << 10;

/// Small rings would make bursts of small messages fall behind; 256 KiB holds about 400 messages of 512 bytes.
const RING_BYTES: usize = 256 << 10;

/// A ring between two shards that share their cores with many: about 25 messages of 512 bytes.
const RING_BYTES_MIN: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch that no block can hold is too large, and not something that there may be room for later.
    #[test]
    fn batches_fit_a_block() {
        let limits = |message_bytes_max, memory_bytes| Limits { message_bytes_max, memory_bytes, ..Limits::default() };
        assert_eq!(limits(64 << 10, 256 << 20).batch_bytes_max(), 1 << 20);
        assert_eq!(limits(1 << 20, 16 << 20).batch_bytes_max(), 4 << 20);
        assert_eq!(limits(16 << 20, 4 << 30).batch_bytes_max(), 64 << 20);
    }
}
