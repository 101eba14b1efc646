//! What a setting is, and the rows of the table for the engine itself; what a heading has to itself stands in a file beside this one.
//!
//! Owns: [`ROWS`]. The order is the order of `--help` and of the document, and the order in which values are set:
//! `cores` stands before `shards` because the default of the latter is the number of the former, and `max-message` before the
//! sizes that follow it.

use std::fmt::Write as _;

use corecast_protocol::http::forwarded;
use tracing::level_filters::LevelFilter;

use super::{Config, Host, Listen, LogFormat, names, units};
use crate::edge::ClientAuth;
use crate::grant::UnixGrants;
use crate::io::unix::UnixAccess;
use crate::shard::{AccessLog, LagPolicy, Quotas, Rules};

/// How a setting is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    One,
    /// Several: the flag is repeated, the file has a list, the environment separates by commas.
    Many,
    /// On or off: the flag alone means on.
    Switch,
}

/// One setting: a flag `--key`, a key of the TOML file, and an environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Heading it stands under.
    pub heading: &'static str,
    /// Name of the flag and of the key.
    pub key: &'static str,
    /// What its value is called in the help.
    pub value: &'static str,
    /// Its default, as it would be written.
    pub default: &'static str,
    /// One or two sentences.
    pub help: &'static str,
    /// How it is given.
    pub kind: Kind,
    /// It can change while the engine runs: when the configuration is read again. Others are fixed at start, because threads,
    /// listeners, rings or memory were made from them.
    pub reloads: bool,
    pub(super) set: fn(&mut Config, &str, &Host) -> Result<(), String>,
    pub(super) show: fn(&Config) -> String,
}

/// Says whether a value stands in TOML without quotes: an octal number, which begins with 0, does not.
pub(super) fn is_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'))
}

impl Setting {
    /// Returns the name of its environment variable: `CORECAST_HISTORY_BYTES` for `history-bytes`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("CORECAST_{}", self.key.replace('-', "_").to_ascii_uppercase())
    }

    /// Writes the value that `config` has as a TOML value.
    #[must_use]
    pub fn toml(&self, config: &Config) -> String {
        self.quoted(&(self.show)(config))
    }

    /// Writes the value that `config` has.
    #[must_use]
    pub fn value_of(&self, config: &Config) -> String {
        (self.show)(config)
    }

    /// Writes its default as a TOML value.
    pub(super) fn toml_default(&self) -> String {
        self.quoted(self.default)
    }

    fn quoted(&self, text: &str) -> String {
        match self.kind {
            Kind::Switch => text.to_owned(),
            Kind::One if is_number(text) => text.to_owned(),
            Kind::One => format!("\"{text}\""),
            Kind::Many => {
                let mut list = String::from("[");
                for (i, part) in text.split(',').filter(|part| !part.is_empty()).enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(list, "{comma}\"{part}\"").expect("writing to a String cannot fail");
                }
                list + "]"
            }
        }
    }
}

impl Config {
    /// Returns a configuration that the table has yet to fill.
    pub(super) fn unset() -> Config {
        Config {
            listen: Vec::new(),
            admin: Vec::new(),
            admin_token: None,
            cores: Vec::new(),
            shards: 0,
            memory_bytes: 0,
            connections: 0,
            message_bytes_max: 0,
            history_messages: 0,
            history_bytes: 0,
            history_seconds: 0,
            log_bytes_max: 0,
            lag: LagPolicy::Replay,
            subscriptions_max: 0,
            views_max: 0,
            topics_max: 0,
            producers_max: 0,
            producer_seconds: 0,
            gone_after_ms: 0,
            header_timeout_ms: 0,
            request_timeout_ms: 0,
            ping_interval_ms: 0,
            dead_after_ms: 0,
            stream_ms: 0,
            compress_from: None,
            stream_bytes: 0,
            origins: Vec::new(),
            hosts: Vec::new(),
            jsonp: true,
            system_topics: true,
            echo: false,
            tls_certificates: Vec::new(),
            tls_keys: Vec::new(),
            tls_client_ca: None,
            tls_client_auth: ClientAuth::Off,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            unix: UnixAccess::default(),
            take_over: None,
            snapshot: None,
            unix_grants: UnixGrants::default(),
            forwarded_header: forwarded::Header::default(),
            demo: true,
            client_library: true,
            cors_credentials: true,
            quotas: Quotas::default(),
            overload_ms: 0,
            insecure: false,
            token_cookie: None,
            verdict_timeout_ms: 0,
            shutdown_timeout_ms: 0,
            drain_time_ms: 0,
            log_format: LogFormat::Human,
            log_level: LevelFilter::INFO,
            access_log: AccessLog::Off,
            rules: Rules::default(),
            authority: crate::authority::Settings::default(),
        }
    }
}

/// Largest message: below the largest contiguous run of blocks, and far above what belongs into a message.
pub(super) const MESSAGE_BYTES_MAX: u64 = 16 << 20;
/// What a topic remembers, and what its frame log holds, unless messages are larger: the defaults that were measured.
const HISTORY_BYTES_AUTO: u32 = 64 << 10;
const LOG_BYTES_AUTO: u32 = 256 << 10;
/// Shards may be more than cores, but each costs an io_uring, and a ring per other shard.
const SHARDS_MAX: u64 = crate::mesh::Shards::MAX as u64;
/// Direct descriptors a ring can have (Linux: IORING_MAX_FIXED_FILES).
const CONNECTIONS_MAX: u64 = 1 << 20;
const HOUR_MS: u64 = 3_600_000;
/// How long a drain takes at most that nobody has said anything about: as long as somebody waits for a restart without asking why.
const DRAIN_MS_AUTO: u64 = 5_000;

pub(super) fn small(text: &str, least: u64, most: u32) -> Result<u32, String> {
    units::number(text, least, most.into()).map(|number| u32::try_from(number).expect("`most` is a u32"))
}

pub(super) fn size_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let bytes = units::size(text)?;
    if (least..=most).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("`{text}` is out of range: {} to {}", units::size_text(least), units::size_text(most)))
    }
}

pub(super) fn small_size(text: &str, least: u64, most: u64) -> Result<u32, String> {
    let most = most.min(u32::MAX.into());
    size_within(text, least, most).map(|bytes| u32::try_from(bytes).expect("`most` is a u32"))
}

pub(super) fn duration_within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let ms = units::duration_ms(text)?;
    if (least..=most).contains(&ms) {
        Ok(ms)
    } else {
        let (least, most) = (units::duration_text(least), units::duration_text(most));
        Err(format!("`{text}` is out of range: {least} to {most}"))
    }
}

pub(super) fn each<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(|part| read(part.trim())).collect()
}

pub(super) fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    match choices.iter().find(|(name, _)| *name == text) {
        Some((_, choice)) => Ok(*choice),
        None => {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            Err(format!("`{text}` is not one of: {}", names.join(", ")))
        }
    }
}

const LISTENERS: &str = "Listeners";
const HOST: &str = "Cores and memory";
const MESSAGES: &str = "Messages and history";
const CLIENTS: &str = "Clients";

/// The settings of the engine itself.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        heading: LISTENERS,
        key: "listen",
        value: "ADDR",
        default: "127.0.0.1:8080",
        help: "Public address to listen on: an IP address and a port (port 0 takes a free one), the same after `tls://`, or \
               `unix:` and a path",
        kind: Kind::Many,
        reloads: false,
        set: |c, text, _| each(text, Listen::read).map(|v| c.listen = v),
        show: |c| joined(&c.listen),
    },
    Setting {
        heading: LISTENERS,
        key: "admin",
        value: "ADDR",
        default: "127.0.0.1:8081",
        help: "Address of the admin listener (/healthz, /readyz, /stats and more): an IP address and a port, or `unix:` and a \
               path; or `off`",
        kind: Kind::Many,
        reloads: false,
        set: |c, text, _| {
            c.admin = if text == "off" { Vec::new() } else { each(text, Listen::read)? };
            Ok(())
        },
        show: |c| {
            if c.admin.is_empty() { "off".to_owned() } else { joined(&c.admin) }
        },
    },
    Setting {
        heading: LISTENERS,
        key: "insecure",
        value: "BOOL",
        default: "false",
        help: "Lets whoever reaches a listener, and the admin listener, do what nothing says who may do; without it only clients \
               on loopback and Unix sockets may, and only as long as nothing says who may do anything",
        kind: Kind::Switch,
        reloads: false,
        set: |c, text, _| units::switch(text).map(|v| c.insecure = v),
        show: |c| c.insecure.to_string(),
    },
    Setting {
        heading: LISTENERS,
        key: "origins",
        value: "ORIGIN",
        default: "same-host",
        help: "Origins of pages that may connect besides those of the same host, as in https://example.com or \
               capacitor://localhost; `*` allows all",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.origins = if text == "same-host" { Vec::new() } else { each(text, names::origin)? };
            Ok(())
        },
        show: |c| {
            if c.origins.is_empty() { "same-host".to_owned() } else { joined(&c.origins) }
        },
    },
    Setting {
        heading: LISTENERS,
        key: "cors-credentials",
        value: "BOOL",
        default: "true",
        help: "Lets pages of other origins that `origins` lists by name read what a browser asked for with its user's cookies or \
               certificate; a page that only `*` lets in never may",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.cors_credentials = v),
        show: |c| c.cors_credentials.to_string(),
    },
    Setting {
        heading: LISTENERS,
        key: "allowed-hosts",
        value: "HOST",
        default: "auto",
        help: "Names under which clients may ask for this host (Host), loopback names aside; `.example.com` stands for those \
               below it too, `*` for all. `auto`: a listener on loopback takes no other name with its own port, which keeps \
               out DNS rebinding; others take all",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.hosts = if text == "auto" { Vec::new() } else { each(text, names::host)? };
            Ok(())
        },
        show: |c| {
            if c.hosts.is_empty() { "auto".to_owned() } else { joined(&c.hosts) }
        },
    },
    Setting {
        heading: HOST,
        key: "cores",
        value: "LIST",
        default: "auto",
        help: "Cores to pin shards to, round robin, as in 0,2-3; `auto`: all that this process may use",
        kind: Kind::One,
        reloads: false,
        set: |c, text, host| {
            c.cores = if text == "auto" { host.cores.clone() } else { units::cores(text)? };
            match c.cores.iter().find(|core| !host.cores.contains(core)) {
                None => Ok(()),
                Some(core) => {
                    let allowed = units::cores_text(&host.cores);
                    Err(format!("core {core} is not one this process may use: {allowed}"))
                }
            }
        },
        show: |c| units::cores_text(&c.cores),
    },
    Setting {
        heading: HOST,
        key: "shards",
        value: "N",
        default: "auto",
        help: "Number of shards; `auto`: one per core. More than cores is allowed, and raises the number of connections",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| {
            let auto = c.cores.len().min(SHARDS_MAX as usize) as u64;
            let number = if text == "auto" { Ok(auto) } else { units::number(text, 1, SHARDS_MAX) };
            number.map(|v| c.shards = u32::try_from(v).expect("at most SHARDS_MAX"))
        },
        show: |c| c.shards.to_string(),
    },
    Setting {
        heading: HOST,
        key: "memory",
        value: "SIZE",
        default: "auto",
        help: "Memory for history, topics, frame logs and what is on its way, of all shards together; `auto`: a quarter of the RAM",
        kind: Kind::One,
        reloads: false,
        set: |c, text, host| {
            // Whole MiB: an odd number of bytes would only look precise.
            let auto = (host.memory_bytes / 4) >> 20 << 20;
            let bytes = if text == "auto" { Ok(auto) } else { size_within(text, 1 << 20, 1 << 44) };
            bytes.map(|v| c.memory_bytes = v)
        },
        show: |c| units::size_text(c.memory_bytes),
    },
    Setting {
        heading: HOST,
        key: "connections",
        value: "N",
        default: "1048576",
        help: "Connections per shard that room is asked for; the file limit (ulimit -n) may allow fewer",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| small(text, 1, CONNECTIONS_MAX as u32).map(|v| c.connections = v),
        show: |c| c.connections.to_string(),
    },
    Setting {
        heading: MESSAGES,
        key: "max-message",
        value: "SIZE",
        default: "64k",
        help: "Largest payload of a message",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| small_size(text, 1, MESSAGE_BYTES_MAX).map(|v| c.message_bytes_max = v),
        show: |c| units::size_text(c.message_bytes_max.into()),
    },
    Setting {
        heading: MESSAGES,
        key: "history-messages",
        value: "N",
        default: "64",
        help: "Messages remembered per topic, for replay; the newest is kept even if this is 0",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| small(text, 0, 1 << 20).map(|v| c.history_messages = v),
        show: |c| c.history_messages.to_string(),
    },
    Setting {
        heading: MESSAGES,
        key: "history-bytes",
        value: "SIZE",
        default: "auto",
        help: "Bytes remembered per topic; `auto`: 64k, or one largest message if that is more",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            let auto = c.message_bytes_max.max(HISTORY_BYTES_AUTO);
            let bytes = if text == "auto" { Ok(auto) } else { small_size(text, 0, 1 << 30) };
            bytes.map(|v| c.history_bytes = v)
        },
        show: |c| units::size_text(c.history_bytes.into()),
    },
    Setting {
        heading: MESSAGES,
        key: "history-seconds",
        value: "N",
        default: "300",
        help: "Age in seconds up to which messages are remembered",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| small(text, 0, 31_536_000).map(|v| c.history_seconds = v),
        show: |c| c.history_seconds.to_string(),
    },
    Setting {
        heading: MESSAGES,
        key: "log-bytes",
        value: "SIZE",
        default: "auto",
        help: "Frame log of one topic in one dialect on one shard: how far a subscriber may fall behind without a replay; \
               `auto`: 256k, or four largest messages if that is more",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| {
            let auto = c.message_bytes_max.saturating_mul(4).max(LOG_BYTES_AUTO);
            let bytes = if text == "auto" { Ok(auto) } else { small_size(text, 4 << 10, 1 << 30) };
            bytes.map(|v| c.log_bytes_max = v)
        },
        show: |c| units::size_text(c.log_bytes_max.into()),
    },
    Setting {
        heading: MESSAGES,
        key: "lag",
        value: "POLICY",
        default: "replay",
        help: "What happens to a subscriber that fell behind the frame log: `replay` what is remembered, or `close`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| one_of(text, LAGS).map(|v| c.lag = v),
        show: |c| if c.lag == LagPolicy::Replay { "replay" } else { "close" }.to_owned(),
    },
    Setting {
        heading: CLIENTS,
        key: "max-subscriptions",
        value: "N",
        default: "1024",
        help: "Subscriptions of one connection",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| small(text, 1, 1 << 20).map(|v| c.subscriptions_max = v),
        show: |c| c.subscriptions_max.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "max-views",
        value: "N",
        default: "64",
        help: "Different views of one topic (`fields`, `where`, `delta`) that are read on one shard; each costs a look at every message",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| small(text, 0, 4096).map(|v| c.views_max = v),
        show: |c| c.views_max.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "max-topics",
        value: "N",
        default: "4194304",
        help: "Topics with subscribers on each shard, and topics with a history there; more are refused",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| small(text, 1, 1 << 24).map(|v| c.topics_max = v),
        show: |c| c.topics_max.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "max-producers",
        value: "N",
        default: "1024",
        help: "Producers of one topic whose numbers are known, half of them of one subject; more are refused",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| small(text, 1, 1 << 20).map(|v| c.producers_max = v),
        show: |c| c.producers_max.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "producer-seconds",
        value: "N",
        default: "900",
        help: "How long the numbers of a producer are known that is not heard of",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| small(text, 1, 31_536_000).map(|v| c.producer_seconds = v),
        show: |c| c.producer_seconds.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "header-timeout",
        value: "TIME",
        default: "10s",
        help: "Time a peer has for the head of its request or handshake, from the connection or the byte before it",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 100, HOUR_MS).map(|v| c.header_timeout_ms = v),
        show: |c| units::duration_text(c.header_timeout_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "request-timeout",
        value: "TIME",
        default: "60s",
        help: "Time a connection may be idle between two requests, and time the body of a request, or a WebSocket message, may take",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 100, HOUR_MS).map(|v| c.request_timeout_ms = v),
        show: |c| units::duration_text(c.request_timeout_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "ping-interval",
        value: "TIME",
        default: "25s",
        help: "Silence after which a peer is pinged, with jitter",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 1_000, HOUR_MS).map(|v| c.ping_interval_ms = v),
        show: |c| units::duration_text(c.ping_interval_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "dead-after",
        value: "TIME",
        default: "60s",
        help: "Silence after which a peer is taken for dead and closed",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 1_000, 24 * HOUR_MS).map(|v| c.dead_after_ms = v),
        show: |c| units::duration_text(c.dead_after_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "stream-seconds",
        value: "TIME",
        default: "30m",
        help: "Age at which an HTTP stream ends in order, a number of seconds or a time; its client comes back with its cursor",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            // The name says the unit, so the number alone will do.
            let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let text = if bare { format!("{text}s") } else { text.to_owned() };
            duration_within(&text, 1_000, 24 * HOUR_MS).map(|v| c.stream_ms = v)
        },
        show: |c| units::duration_text(c.stream_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "compress-from",
        value: "SIZE",
        default: "1k",
        help: "Messages of at least this size are compressed for clients that accept it (permessage-deflate, gzip), or `off`",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            let least = small_size(text, 1, MESSAGE_BYTES_MAX);
            c.compress_from = if text == "off" { None } else { Some(least?) };
            Ok(())
        },
        show: |c| c.compress_from.map_or_else(|| "off".to_owned(), |bytes| units::size_text(bytes.into())),
    },
    Setting {
        heading: CLIENTS,
        key: "stream-bytes",
        value: "SIZE",
        default: "64M",
        help: "Bytes of messages after which an HTTP stream ends in order, up to an eighth less; 0: never",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            let bytes = if units::size(text) == Ok(0) { Ok(0) } else { size_within(text, 64 << 10, 1 << 40) };
            bytes.map(|v| c.stream_bytes = v)
        },
        show: |c| units::size_text(c.stream_bytes),
    },
    Setting {
        heading: CLIENTS,
        key: "jsonp",
        value: "BOOL",
        default: "true",
        help: "Answers transport=jsonp: any page that reaches this listener can read topics that way, whatever `origins` says",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.jsonp = v),
        show: |c| c.jsonp.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "demo",
        value: "BOOL",
        default: "true",
        help: "Shows browsers the demo page at `/`, and demos at `/demo/`; without it they get at `/` the line of text that others get there",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.demo = v),
        show: |c| c.demo.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "client-library",
        value: "BOOL",
        default: "true",
        help: "Serves the client for browsers at `/corecast.js`, and without what only people read at `/corecast.min.js`",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.client_library = v),
        show: |c| c.client_library.to_string(),
    },
    Setting {
        heading: CLIENTS,
        key: "token-cookie",
        value: "NAME",
        default: "off",
        help: "Name of a cookie that holds a token, for pages that get one when somebody logs in, or `off`. A browser sends it from \
               pages of other origins too: `origins` says which of these may do anything",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            c.token_cookie = if text == "off" { None } else { Some(names::cookie(text)?) };
            Ok(())
        },
        show: |c| c.token_cookie.clone().unwrap_or_else(|| "off".to_owned()),
    },
    Setting {
        heading: CLIENTS,
        key: "verdict-timeout",
        value: "TIME",
        default: "5s",
        help: "Time to find out what a token or key gives, or what the hook says of a topic; whoever waits is told 503 after that, and to come back later",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 100, HOUR_MS).map(|v| c.verdict_timeout_ms = v),
        show: |c| units::duration_text(c.verdict_timeout_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "shutdown-timeout",
        value: "TIME",
        default: "10s",
        help: "Time a shutdown may take to close connections politely before they are cut off",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| duration_within(text, 0, HOUR_MS).map(|v| c.shutdown_timeout_ms = v),
        show: |c| units::duration_text(c.shutdown_timeout_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "drain-time",
        value: "TIME",
        default: "auto",
        help: "Time over which a shutdown spreads its closes, so that clients do not all come back at once; a few connections take less, and \
               0s closes all at once. `auto`: half of shutdown-timeout, 5s at most",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| {
            let auto = (c.shutdown_timeout_ms / 2).min(DRAIN_MS_AUTO);
            let ms = if text == "auto" { Ok(auto) } else { duration_within(text, 0, HOUR_MS) };
            ms.map(|v| c.drain_time_ms = v)
        },
        show: |c| units::duration_text(c.drain_time_ms),
    },
    Setting {
        heading: CLIENTS,
        key: "echo",
        value: "BOOL",
        default: "false",
        help: "Serves GET /echo, a WebSocket that sends back what it gets, for conformance suites and latency",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.echo = v),
        show: |c| c.echo.to_string(),
    },
];

/// What happens to subscribers that are too slow.
pub(super) const LAGS: &[(&str, LagPolicy)] = &[("replay", LagPolicy::Replay), ("close", LagPolicy::Close)];

#[cfg(test)]
mod tests;
