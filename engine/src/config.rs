//! The configuration of one engine: plain values, where they come from, and whether they make sense together.
//!
//! Owns: [`Config`]. One table, [`SETTINGS`], defines every setting: its flag, its key in the TOML file, its environment
//! variable, its default and its help. Flags, file, environment, `docs/configuration.md` and `corecast check` are all
//! made from it, so they cannot drift.
//! Touches: the file and the environment, at start and when told to read them again. Never: used by a shard, which has
//! [`Limits`] instead.

mod address;
mod changes;
mod document;
mod doors;
mod host;
mod limits;
mod logs;
mod names;
mod rule_keys;
mod rules;
mod sample;
mod settings;
mod sources;
mod table;
mod units;
mod unix;
mod who;

use std::path::PathBuf;

use corecast_protocol::http::forwarded;
use corecast_protocol::network::Network;

use crate::authority;
use crate::edge::{Certificates, ClientAuth, Door, Identity};
use crate::grant::UnixGrants;
use crate::io::check::StartError;
use crate::io::unix::UnixAccess;
use crate::shard::{AccessLog, Asks, BLOCKS_MIN, LagPolicy, Limits, Quotas, Rules, SHARD_BYTES_MAX, block_bytes_max};

pub use address::Listen;
pub use changes::{Change, changes};
pub use document::document;
pub use host::Host;
pub use rule_keys::{RULE_KEYS, RuleKey};
pub use rules::{RulePlace, explain, rules_text, terms};
pub use sample::sample;
pub use settings::SETTINGS;
pub use sources::{Flags, Loaded, Origin, load, log_format};
pub use table::{Kind, Setting};
pub use units::duration_ms;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Short lines, coloured on a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// The effective configuration of an engine. Sizes in bytes, times in the unit of their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Public addresses to listen on.
    pub listen: Vec<Listen>,
    /// Addresses of the admin listener; none: switched off.
    pub admin: Vec<Listen>,
    /// File of the tokens that the admin listener asks for; none: it asks for none.
    pub admin_token: Option<PathBuf>,
    /// Cores to pin shards to, round robin.
    pub cores: Vec<usize>,
    /// Number of shards.
    pub shards: u32,
    /// Block memory of all shards together.
    pub memory_bytes: u64,
    /// Connections asked for, per shard; the kernel's limits may allow fewer.
    pub connections: u32,
    /// Largest payload of a message.
    pub message_bytes_max: u32,
    /// Messages remembered per topic.
    pub history_messages: u32,
    /// Bytes remembered per topic.
    pub history_bytes: u32,
    /// Age up to which messages are remembered.
    pub history_seconds: u32,
    /// Largest frame log of one topic in one dialect on one shard.
    pub log_bytes_max: u32,
    /// What to do with a subscriber that fell off the log.
    pub lag: LagPolicy,
    /// Subscriptions allowed per connection.
    pub subscriptions_max: u32,
    /// Different views of one topic that are read on a shard.
    pub views_max: u32,
    /// Topics with subscribers on a shard, and topics with a history there.
    pub topics_max: u32,
    /// Producers of one topic whose numbers are known.
    pub producers_max: u32,
    /// How long what is gone is told to be there still.
    pub gone_after_ms: u64,
    /// How long a producer is known that is not heard of.
    pub producer_seconds: u32,
    /// Time for the head of a request, or the handshake, to arrive.
    pub header_timeout_ms: u64,
    /// Time between two requests on one connection, and for the body of a request.
    pub request_timeout_ms: u64,
    /// Silence after which a peer is pinged.
    pub ping_interval_ms: u64,
    /// Silence after which a peer is taken for dead.
    pub dead_after_ms: u64,
    /// Age at which an HTTP stream ends, so that its client comes back.
    pub stream_ms: u64,
    /// Size from which messages are compressed for clients that accept it; `None` offers no compression.
    pub compress_from: Option<u32>,
    /// Bytes after which an HTTP stream ends; 0 is never.
    pub stream_bytes: u64,
    /// Origins allowed besides the same host, as browsers write them; `*` allows all.
    pub origins: Vec<String>,
    /// Names that this host may be asked for by, as browsers write them; none: see the setting `allowed-hosts`.
    pub hosts: Vec<String>,
    /// Tells of the engine in topics of its own.
    pub system_topics: bool,
    /// Serves `transport=jsonp`.
    pub jsonp: bool,
    /// Name of the cookie that holds a token.
    pub token_cookie: Option<String>,
    /// Time to find out what a credential gives.
    pub verdict_timeout_ms: u64,
    /// Serves `GET /echo`.
    pub echo: bool,
    /// What an address and a second allow.
    pub quotas: Quotas,
    /// Length of turns that is an overload; 0 is none.
    pub overload_ms: u64,
    /// PEM files of certificates for listeners with TLS, the first for who asks for no name that is known.
    pub tls_certificates: Vec<PathBuf>,
    /// PEM files of their keys, in the same order.
    pub tls_keys: Vec<PathBuf>,
    /// PEM file of the authorities that certificates of clients are believed from.
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub tls_client_auth: ClientAuth,
    /// Listeners whose connections begin with a PROXY header.
    pub proxy_protocol: Vec<Listen>,
    /// Proxies that are believed when they say who asks.
    pub trusted_proxies: Vec<Network>,
    /// Who may connect to Unix sockets.
    pub unix: UnixAccess,
    /// Where histories and sockets are taken over, and handed over.
    pub take_over: Option<PathBuf>,
    /// What is restored at start, if it is there.
    pub snapshot: Option<PathBuf>,
    /// What clients of Unix sockets may do.
    pub unix_grants: UnixGrants,
    /// Where they say it.
    pub forwarded_header: forwarded::Header,
    /// Shows browsers the demo page at `/`, and demos at `/demo/`.
    pub demo: bool,
    /// Serves `GET /corecast.js` and `/corecast.min.js`.
    pub client_library: bool,
    /// Lets pages of listed origins read with their users' credentials.
    pub cors_credentials: bool,
    /// Whoever reaches a listener may do what nothing says.
    pub insecure: bool,
    /// Time a shutdown may take before what is left is cut off.
    pub shutdown_timeout_ms: u64,
    /// Time within which a shutdown tells all connections that they end.
    pub drain_time_ms: u64,
    /// How log lines look.
    pub log_format: LogFormat,
    /// The least important level that is logged.
    pub log_level: tracing::level_filters::LevelFilter,
    /// What is written down of what is served.
    pub access_log: AccessLog,
    /// What holds for topics of a pattern, instead of the settings above.
    pub rules: Rules,
    /// Who may do what, and who says so.
    pub authority: authority::Settings,
}

impl Config {
    /// Returns the configuration of an engine that was told nothing, on this host.
    #[must_use]
    pub fn default_on(host: &Host) -> Config {
        let mut config = Config::unset();
        for setting in SETTINGS {
            (setting.set)(&mut config, setting.default, host).expect("a test reads every default of the table");
        }
        config
    }

    /// Says whether the values make sense together.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(&self) -> Result<(), Vec<StartError>> {
        let mut problems = Vec::new();
        let mut wrong = |cause: String, cure: &str| problems.push(StartError { cause, cure: cure.to_owned() });
        self.check_addresses(&mut wrong);
        self.check_tls(&mut wrong);
        self.check_memory(&mut wrong);
        self.check_times(&mut wrong);
        self.authority.check(&mut wrong);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn check_addresses(&self, wrong: &mut impl FnMut(String, &str)) {
        // A slot's completion names its listener in one byte (`io::driver::Completion`).
        const LISTENERS_MAX: usize = 64;
        if self.listen.len() > LISTENERS_MAX {
            wrong(
                format!("{} addresses to listen on", self.listen.len()),
                "listen on at most 64; 0.0.0.0 or [::] stands for all addresses of the host",
            );
        }
        let named = self.listen.iter().map(|address| ("listen", address));
        let named: Vec<_> = named.chain(self.admin.iter().map(|address| ("admin", address))).collect();
        for (i, (name, address)) in named.iter().enumerate() {
            if let Some((other, taken)) = named[..i].iter().find(|(_, taken)| taken.overlaps(address)) {
                wrong(
                    format!(
                        "{name} {address} takes the same {} as {other} {taken}",
                        if address.path().is_some() { "path" } else { "port" }
                    ),
                    "give each listener an address and port, or a path, of its own",
                );
            }
        }
        if let Some(path) = &self.take_over
            && let Some((name, _)) = named.iter().find(|(_, address)| address.path() == Some(path))
        {
            wrong(format!("take-over takes the same path as {name}"), "give it a path of its own");
        }
        for address in self.listen.iter().filter(|address| !address.is_local() && !self.insecure && !self.says_who()) {
            wrong(
                format!("listen {address} can be reached from other hosts, and nothing says who may do what"),
                "say who may (docs/configuration.md, \"Who may do what\"), listen on 127.0.0.1 or unix:PATH, or say --insecure \
                 if whoever reaches it may do everything",
            );
        }
        for address in self.admin.iter().filter(|address| address.is_tls()) {
            wrong(
                format!("admin {address} is to speak TLS, and the admin listener does not"),
                "let it be 127.0.0.1:8081 or unix:PATH, and reach it through a proxy or a tunnel",
            );
        }
        let asks = self.insecure || self.admin_token.is_some();
        for address in self.admin.iter().filter(|address| !address.is_local() && !asks) {
            wrong(
                format!("admin {address} can be reached from other hosts, and asks nobody who he is"),
                "name a file of tokens with admin-token, let it be 127.0.0.1:8081 or unix:PATH, or say --insecure if the network \
                 around it is trusted",
            );
        }
    }

    /// Says whether anything here can say of somebody who is not on this host that he may do something: then what is said holds on every
    /// listener, and nobody else may do anything.
    #[must_use]
    pub fn says_who(&self) -> bool {
        self.rules.let_anyone() || self.authority.says_who() || !self.unix_grants.is_default()
    }

    /// Says whether what nothing says is allowed on a listener: on one of this host as long as nothing says anything.
    fn is_open(&self, address: &Listen) -> bool {
        self.insecure || address.is_local() && !self.says_who()
    }

    /// Says what `--insecure` opens, if it was said.
    #[must_use]
    pub fn opens(&self) -> Option<String> {
        let list = |addresses: &[Listen], is_opened: &dyn Fn(&Listen) -> bool| {
            let opened = addresses.iter().filter(|address| is_opened(address)).map(Listen::to_string);
            opened.collect::<Vec<_>>().join(", ")
        };
        let public = list(&self.listen, &|address| !address.is_local() || self.says_who());
        let admin = list(&self.admin, &|address| !address.is_local() && self.admin_token.is_none());
        let mut opened = Vec::new();
        if !public.is_empty() {
            opened.push(format!("whoever reaches {public} may publish and read whatever no rule and no grant says"));
        }
        if !admin.is_empty() {
            opened.push(format!(
                "whoever reaches {admin} may see connections, their addresses and topics, end them and the engine, and have the configuration loaded again"
            ));
        }
        match opened.as_slice() {
            _ if !self.insecure => None,
            [] => Some("nothing: all addresses are of this host".to_owned()),
            opened => Some(opened.join("; ")),
        }
    }

    fn check_tls(&self, wrong: &mut impl FnMut(String, &str)) {
        let first = self.listen.iter().find(|address| address.is_tls());
        if let (Some(address), true) = (first, self.tls_certificates.is_empty()) {
            wrong(
                format!("{address} is to speak TLS, and there is no certificate for it"),
                "name a PEM file with tls-cert, and its key with tls-key",
            );
        }
        if self.tls_certificates.len() != self.tls_keys.len() {
            wrong(
                format!("there are {} of tls-cert and {} of tls-key", self.tls_certificates.len(), self.tls_keys.len()),
                "give a key for each certificate, in the same order",
            );
        }
        if self.tls_client_auth != ClientAuth::Off && self.tls_client_ca.is_none() {
            wrong(
                "clients are asked for certificates, and none can be believed".to_owned(),
                "name the authorities with tls-client-ca",
            );
        }
        for address in &self.proxy_protocol {
            if !self.listen.contains(address) || address.path().is_some() {
                wrong(
                    format!("proxy-protocol {address} is none of the addresses in the network that are listened on"),
                    "write it as listen has it, or leave it out",
                );
            }
        }
    }

    /// Returns where the certificates are, if any listener speaks TLS.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.listen.iter().any(Listen::is_tls).then(|| Identity {
            certificates: self.tls_certificates.clone(),
            keys: self.tls_keys.clone(),
            client_ca: self.tls_client_ca.clone(),
            client_auth: self.tls_client_auth,
        })
    }

    /// Returns what stands before each listener.
    #[must_use]
    pub fn doors(&self, certificates: Option<&Certificates>) -> Vec<Door> {
        let door = |address: &Listen| Door {
            tls: certificates.filter(|_| address.is_tls()).cloned(),
            proxy: self.proxy_protocol.contains(address),
        };
        self.listen.iter().map(door).collect()
    }

    /// Returns the limits of a shard, as far as they are settings.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            message_bytes_max: self.message_bytes_max,
            subscriptions_max: self.subscriptions_max,
            views_max: self.views_max,
            topics_max: self.topics_max,
            producers_max: self.producers_max,
            producer_ms: u64::from(self.producer_seconds) * 1000,
            demand_ms: self.gone_after_ms,
            history_messages: self.history_messages,
            history_bytes: self.history_bytes,
            history_ms: u64::from(self.history_seconds) * 1000,
            log_bytes_max: self.log_bytes_max,
            lag: self.lag,
            head_ms: self.header_timeout_ms,
            request_ms: self.request_timeout_ms,
            ping_ms: self.ping_interval_ms,
            dead_ms: self.dead_after_ms,
            stream_ms: self.stream_ms,
            compress_from: self.compress_from,
            stream_bytes: self.stream_bytes,
            echo: self.echo,
            quotas: self.quotas,
            overload_us: self.overload_ms * 1000,
            access_log: self.access_log,
            origins: self.origins.clone(),
            hosts: self.hosts.clone(),
            jsonp: self.jsonp,
            trusted_proxies: self.trusted_proxies.clone(),
            forwarded_header: self.forwarded_header,
            unix_grants: self.unix_grants.clone(),
            insecure: self.insecure,
            demo: self.demo,
            client_library: self.client_library,
            cors_credentials: self.cors_credentials,
            open: self.listen.iter().map(|address| self.is_open(address)).collect(),
            rules: self.rules.clone(),
            asks: Asks { cookie: self.token_cookie.clone(), ..self.authority.asks() },
            verdict_ms: self.verdict_timeout_ms,
            ..Limits::default()
        }
    }

    /// Returns how many shards take turns on a core.
    #[must_use]
    pub fn shards_per_core(&self) -> usize {
        (self.shards as usize).div_ceil(self.cores.len().max(1))
    }

    fn check_memory(&self, wrong: &mut impl FnMut(String, &str)) {
        if u64::from(self.log_bytes_max) < 2 * u64::from(self.message_bytes_max) {
            wrong(
                format!(
                    "log-bytes {} is too small for messages of {}",
                    units::size_text(self.log_bytes_max.into()),
                    units::size_text(self.message_bytes_max.into())
                ),
                "make log-bytes at least twice max-message, so that one large message does not outrun every reader",
            );
        }
        let shard = self.memory_bytes / u64::from(self.shards.max(1));
        // One message on its way in, one crossing, one being remembered, and the log that carries it.
        let least = (3 * u64::from(self.message_bytes_max) + u64::from(self.log_bytes_max)).max(SHARD_BYTES_MIN);
        if shard < least {
            wrong(
                format!(
                    "memory {} leaves {} for each of {} shards, which need {}",
                    units::size_text(self.memory_bytes),
                    units::size_text(shard),
                    self.shards,
                    units::size_text(least)
                ),
                "give more memory, fewer shards, or a smaller max-message and log-bytes",
            );
        }
        self.check_blocks(shard, wrong);
        // Every shard has a ring from every shard; they come on top of the block memory, and must not dwarf it.
        let limits = Limits { message_bytes_max: self.message_bytes_max, ..Limits::default() };
        let rings = u64::from(self.shards).pow(2) * limits.ring_bytes(self.shards_per_core()) as u64;
        if rings > self.memory_bytes {
            wrong(
                format!(
                    "the rings between {} shards take {}, more than the memory of {}",
                    self.shards,
                    units::size_text(rings),
                    units::size_text(self.memory_bytes)
                ),
                "use fewer shards, a smaller max-message, or more memory",
            );
        }
    }

    /// What the block pool of a shard with so many bytes cannot serve.
    fn check_blocks(&self, shard: u64, wrong: &mut impl FnMut(String, &str)) {
        let text = units::size_text;
        if shard > SHARD_BYTES_MAX {
            let most = text(SHARD_BYTES_MAX + 1);
            wrong(
                format!(
                    "memory {} is {} for each of {} shards, and one manages less than {most}",
                    text(self.memory_bytes),
                    text(shard),
                    self.shards
                ),
                "give less memory, or use more shards",
            );
            return;
        }
        let limits = Limits { message_bytes_max: self.message_bytes_max, ..Limits::default() };
        let (wanted, longest) = (limits.block_bytes().next_power_of_two(), block_bytes_max(shard));
        if wanted > longest && shard >= SHARD_BYTES_MIN {
            wrong(
                format!(
                    "max-message {} takes blocks of {}, and the {} of each of {} shards are divided into blocks of {} at most",
                    text(self.message_bytes_max.into()),
                    text(wanted),
                    text(shard),
                    self.shards,
                    text(longest)
                ),
                &format!(
                    "make memory at least {}, or use fewer shards, or a smaller max-message",
                    text(BLOCKS_MIN * wanted * u64::from(self.shards))
                ),
            );
        }
        let of_rules = self.rules.written().iter().filter_map(|rule| {
            Some((format!("the rule for `{}`: history-bytes", rule.pattern), rule.terms.history_bytes?))
        });
        for (name, bytes) in [("history-bytes".to_owned(), self.history_bytes)].into_iter().chain(of_rules) {
            if u64::from(bytes) <= shard / 2 {
                continue;
            }
            wrong(
                format!(
                    "{name} {} cannot be kept: histories take at most half of the {} of each of {} shards",
                    text(bytes.into()),
                    text(shard),
                    self.shards
                ),
                "give more memory, fewer shards, or smaller history-bytes",
            );
        }
    }

    fn check_times(&self, wrong: &mut impl FnMut(String, &str)) {
        if self.dead_after_ms <= self.ping_interval_ms {
            wrong(
                format!(
                    "dead-after {} comes before the first ping after {}",
                    units::duration_text(self.dead_after_ms),
                    units::duration_text(self.ping_interval_ms)
                ),
                "make dead-after at least twice ping-interval, so that a healthy peer has time to answer",
            );
        }
        if self.drain_time_ms > 0 && self.drain_time_ms >= self.shutdown_timeout_ms {
            wrong(
                format!(
                    "drain-time {} leaves nothing of shutdown-timeout {} to those who are told last",
                    units::duration_text(self.drain_time_ms),
                    units::duration_text(self.shutdown_timeout_ms)
                ),
                "make drain-time shorter, shutdown-timeout longer by 3s or more, or leave drain-time out",
            );
        }
    }
}

/// Least block memory of a shard in bytes: below it even a few topics would fight for blocks.
const SHARD_BYTES_MIN: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of four cores and 8 GiB.
    pub(super) fn host() -> Host {
        Host { cores: vec![0, 1, 2, 3], memory_bytes: 8 << 30 }
    }

    /// Defaults are those of PROTOCOL.md, and are fine as they are.
    #[test]
    fn defaults_are_fine() {
        let config = Config::default_on(&host());
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.listen, [Listen::read("127.0.0.1:8080").unwrap()]);
        assert_eq!(config.admin, [Listen::read("127.0.0.1:8081").unwrap()]);
        assert_eq!((config.shards, config.cores.len()), (4, 4));
        assert_eq!((config.memory_bytes, config.message_bytes_max), (2 << 30, 64 << 10));
        assert_eq!((config.history_messages, config.history_bytes, config.history_seconds), (64, 64 << 10, 300));
        assert_eq!((config.ping_interval_ms, config.dead_after_ms), (25_000, 60_000));
        assert!(!config.echo && !config.insecure && config.lag == LagPolicy::Replay);
    }

    /// Every rule of `check` refuses what it is there for, and names a cure; all problems are told at once.
    #[test]
    fn nonsense_is_refused() {
        let base = Config::default_on(&host());
        let address = |text: &str| Listen::read(text).unwrap();
        let cases: Vec<(&str, Config)> = vec![
            ("can be reached from other hosts", Config { listen: vec![address("0.0.0.0:8080")], ..base.clone() }),
            ("can be reached from other hosts", Config { listen: vec![address("[::]:8080")], ..base.clone() }),
            ("the admin listener does not", Config { admin: vec![address("tls://127.0.0.1:9")], ..base.clone() }),
            ("asks nobody who he is", Config { admin: vec![address("10.0.0.1:9")], ..base.clone() }),
            ("the same port as listen", Config { listen: vec![address("127.0.0.1:9"); 2], ..base.clone() }),
            ("the same port as listen", Config { admin: vec![address("127.0.0.1:8080")], ..base.clone() }),
            (
                "the same port as listen",
                Config { listen: vec![address("0.0.0.0:8081")], insecure: true, ..base.clone() },
            ),
            ("the same path as listen", Config { listen: vec![address("unix:/a"); 2], ..base.clone() }),
            (
                "there is no certificate for it",
                Config { listen: vec![address("tls://127.0.0.1:8443")], ..base.clone() },
            ),
            ("1 of tls-cert and 0 of tls-key", Config { tls_certificates: vec!["a".into()], ..base.clone() }),
            ("none can be believed", Config { tls_client_auth: ClientAuth::Optional, ..base.clone() }),
            ("is none of the addresses", Config { proxy_protocol: vec![address("127.0.0.1:1")], ..base.clone() }),
            ("addresses to listen on", Config { listen: vec![address("127.0.0.1:0"); 65], ..base.clone() }),
            ("is too small for messages of", Config { message_bytes_max: 1 << 20, ..base.clone() }),
            ("leaves 2M for each", Config { memory_bytes: 8 << 20, ..base.clone() }),
            (
                "is 2T for each of 4 shards, and one manages less than 1T",
                Config { memory_bytes: 8 << 40, ..base.clone() },
            ),
            ("is 1T for each of 4 shards", Config { memory_bytes: 4 << 40, ..base.clone() }),
            (
                "max-message 16M takes blocks of 32M, and the 126M of each of 1 shards are divided into blocks of 16M at most",
                Config {
                    message_bytes_max: 16 << 20,
                    log_bytes_max: 64 << 20,
                    memory_bytes: 126 << 20,
                    shards: 1,
                    ..base.clone()
                },
            ),
            ("history-bytes 1G cannot be kept", Config { history_bytes: 1 << 30, ..base.clone() }),
            ("the rings between 200 shards take 5177500k", Config { shards: 200, ..base.clone() }),
            ("comes before the first ping", Config { dead_after_ms: 25_000, ..base.clone() }),
            ("drain-time 10s leaves nothing", Config { drain_time_ms: 10_000, ..base.clone() }),
        ];
        for (expected, config) in cases {
            let problems = config.check().unwrap_err();
            assert_eq!(problems.len(), 1, "{expected}: {problems:?}");
            assert!(problems[0].cause.contains(expected), "{expected}: {problems:?}");
            assert!(!problems[0].cure.is_empty());
        }
        let enough = Config {
            message_bytes_max: 16 << 20,
            log_bytes_max: 64 << 20,
            memory_bytes: 128 << 20,
            shards: 1,
            ..base.clone()
        };
        assert_eq!(enough.check(), Ok(()), "as much as the cure says");
        let most = Config { memory_bytes: (4 << 40) - 4, ..base.clone() };
        assert_eq!(most.check(), Ok(()), "the most that four shards manage");
        let both = Config { memory_bytes: 8 << 20, dead_after_ms: 1, ..base };
        assert_eq!(both.check().unwrap_err().len(), 2);
    }

    /// Addresses that cannot collide are left alone: port 0, other hosts, and anything with --insecure.
    #[test]
    fn sensible_addresses_pass() {
        let base = Config::default_on(&host());
        let list = |texts: &[&str]| texts.iter().map(|text| Listen::read(text).unwrap()).collect::<Vec<Listen>>();
        let fine = [
            Config { listen: list(&["127.0.0.1:0", "127.0.0.1:0"]), ..base.clone() },
            Config { listen: list(&["127.0.0.2:8080", "127.0.0.3:8080", "[::1]:8080"]), ..base.clone() },
            Config { listen: list(&["0.0.0.0:8080"]), insecure: true, ..base.clone() },
            Config { listen: list(&["unix:/a", "unix:/b", "127.0.0.1:8080"]), ..base.clone() },
            Config {
                listen: list(&["tls://127.0.0.1:8443", "127.0.0.1:8080"]),
                tls_certificates: vec!["a".into()],
                tls_keys: vec!["b".into()],
                proxy_protocol: list(&["tls://127.0.0.1:8443"]),
                ..base.clone()
            },
            Config {
                listen: list(&["0.0.0.0:8080"]),
                authority: authority::Settings { api_keys: Some("/keys".into()), ..base.authority.clone() },
                ..base.clone()
            },
            Config { admin: list(&["10.0.0.1:8081"]), admin_token: Some("/etc/tokens".into()), ..base.clone() },
            Config { admin: Vec::new(), ..base },
        ];
        for config in fine {
            assert_eq!(config.check(), Ok(()), "{config:?}");
        }
    }

    /// On addresses of this host everything is open as long as nothing says who may what; `--insecure` opens all, and says so.
    #[test]
    fn what_is_open() {
        let list = |texts: &[&str]| texts.iter().map(|text| Listen::read(text).unwrap()).collect::<Vec<Listen>>();
        let listen = list(&["127.0.0.1:1", "unix:/a", "0.0.0.0:2", "tls://[::]:443"]);
        let safe = Config { listen, ..Config::default_on(&host()) };
        assert_eq!(safe.limits().open, [true, true, false, false]);
        assert_eq!(safe.opens(), None);
        let hook_url = Some("https://a.example".to_owned());
        let authority = authority::Settings { hook_url, ..safe.authority.clone() };
        assert_eq!(Config { authority, ..safe.clone() }.limits().open, [false; 4], "somebody says who may");
        let insecure = Config { insecure: true, ..safe };
        assert_eq!(insecure.limits().open, [true; 4]);
        let opened = insecure.opens().unwrap();
        assert!(opened.starts_with("whoever reaches 0.0.0.0:2, tls://[::]:443 may publish and read"), "{opened}");
        assert!(!opened.contains("127.0.0.1") && !opened.contains("configuration"), "{opened}");
        let admin = Config { admin: list(&["unix:/b", "10.0.0.1:8081"]), ..insecure.clone() };
        assert!(admin.opens().unwrap().contains("; whoever reaches 10.0.0.1:8081 may see connections"), "{admin:?}");
        let local = Config { listen: list(&["127.0.0.1:1"]), ..insecure };
        assert_eq!(local.opens().as_deref(), Some("nothing: all addresses are of this host"));
    }

    /// Each way in which something says who may opens beyond this host, and closes on it what it does not say.
    #[test]
    fn what_says_who() {
        let base = Config::default_on(&host());
        let hook = crate::authority::Settings {
            hook_url: Some("http://127.0.0.1:9/may".to_owned()),
            ..base.authority.clone()
        };
        let keys = crate::authority::Settings { api_keys: Some("/keys".into()), ..base.authority.clone() };
        let names = crate::authority::Settings { certificates: Some("/names".into()), ..base.authority.clone() };
        let ways = [
            Config { authority: hook, ..base.clone() },
            Config { authority: keys, ..base.clone() },
            Config { authority: names, ..base.clone() },
            Config { unix_grants: UnixGrants::read("uid:7").unwrap(), ..base.clone() },
        ];
        assert!(!base.says_who() && base.limits().open == [true]);
        for way in ways {
            assert!(way.says_who() && way.limits().open == [false], "{way:?}");
            let beyond = Config { listen: vec![Listen::read("0.0.0.0:1").unwrap()], ..way.clone() };
            let refused = beyond.check().err().unwrap_or_default();
            assert!(refused.iter().all(|problem| !problem.cause.contains("nothing says who")), "{refused:?}");
            assert_eq!(Config { insecure: true, ..way }.limits().open, [true]);
        }
    }
}
