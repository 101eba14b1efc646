//! `corecast serve`: runs the engine until it is told to stop.
//!
//! Owns: the order of start and stop. Start: configuration, logs, signals, threads and memory of the shards, and only when
//! nothing more can be wanting, ports and greeting. Meanwhile: SIGHUP has the control plane read the configuration again. Stop:
//! the first SIGTERM or SIGINT asks the shards to drain, so that every WebSocket is closed with 1001 and requests are answered, one after the
//! other within `drain-time`; a second one, or the end of `shutdown-timeout`, ends the process at once. None of it needs a thread that is not there already, or waits for somebody
//! who reads what is written.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use corecast::admin::guard::{Guard, Tokens};
use corecast::authority::{self, Desk, Prepared};
use corecast::config::{self, Config, Flags, Host, Listen};
use corecast::control::{self, Asker, Demand, Hosts, ReadAgain, Sources, Tls};
use corecast::edge::{First, Serving};
use corecast::handover::give::{self, Giver, Sockets};
use corecast::handover::take::Wish;
use corecast::io::check::{StartError, fault};
use corecast::io::doorbell::Doorbell;
use corecast::io::poll;
use corecast::supervisor::{self, State, Supervisor};
use corecast::{admin, log};
use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::SIGHUP;

use super::engine::Engine;
use super::inherit::{Inheritance, Succession};
use super::{Hangup, Outcome};

pub(super) fn run(flags: &Flags) -> Outcome {
    let loaded = match super::configuration(flags) {
        Ok(loaded) => loaded,
        Err(problems) => {
            log::speak(config::log_format(flags, std::env::vars_os(), &Host::read()));
            return Outcome::CannotStart(problems);
        }
    };
    let config = loaded.config;
    if let Err(problem) = log::start(&config) {
        return Outcome::CannotStart(vec![problem]);
    }
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    if let Some(opened) = config.opens() {
        tracing::warn!("--insecure opens: {opened}");
    }
    let serving = match config.identity().map(|identity| Serving::load(&identity, None)).transpose() {
        Ok(serving) => serving,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    let prepared = match Prepared::read(&config.authority) {
        Ok(prepared) => prepared,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    let guard = Guard::default();
    match Tokens::read(config.admin_token.as_deref()) {
        Ok(tokens) => guard.set(tokens),
        Err(problem) => return Outcome::CannotStart(vec![problem]),
    };
    match start(&config, flags, serving, prepared, &guard) {
        Ok(running) => running.until_stopped(&config),
        Err(problem) => Outcome::CannotStart(vec![problem]),
    }
}

/// How often to look whether the shards still run.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a shard may take beyond the bound of a shutdown before the process ends without it.
const GRACE: Duration = Duration::from_secs(2);
/// What the process may take after that to say so, before it is ended without a word.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long somebody has to read the greeting.
const GREETING: Duration = Duration::from_secs(1);

/// Threads that a process has besides its first and those of its cores: the log's, the signals', the control plane's,
/// the admin listener's two, the authority's, and the one that fetches key sets.
const THREADS: usize = 7;

/// Returns how many threads the engine starts.
pub(super) fn threads(config: &Config) -> usize {
    let cores = (config.shards as usize).min(config.cores.len().max(1));
    let hook = if config.authority.hook_url.is_some() { config.authority.hook_parallel as usize } else { 0 };
    cores + THREADS + hook + usize::from(config.take_over.is_some()) - 2 * usize::from(config.admin.is_empty())
}

/// A running engine and what the control plane needs to end it.
struct Running {
    engine: Engine,
    signals: Receiver<i32>,
    control: Asker,
    /// Says that an operator wants it to end, and in which time, if he said so.
    drains: (Sender<Option<Duration>>, Receiver<Option<Duration>>),
    /// Says that everything is somebody else's now.
    given: (Sender<Wish>, Receiver<Wish>),
    succession: Succession,
    supervisor: Supervisor,
}

fn start(
    config: &Config,
    flags: &Flags,
    serving: Option<Serving>,
    prepared: Prepared,
    guard: &Guard,
) -> Result<Running, StartError> {
    let begun = Instant::now();
    // Before the engine: a signal that comes while it starts must stop it too.
    let signals =
        super::signals(Duration::from_millis(config.shutdown_timeout_ms) + GRACE + LAST_WORDS, Hangup::IsTold)?;
    let supervisor = Supervisor::of_this_process();
    let first = serving.as_ref().map(|serving| serving.first.clone());
    let tls = serving.map(Tls::new);
    let over = Doorbell::new().map_err(|error| fault("make doorbells", &error))?;
    let mut engine = Engine::prepare(config, tls.as_ref().map(Tls::certificates))?;
    let hosts = Hosts::default();
    let authority = authority(&mut engine, prepared);
    let control = authority.and_then(|authority| {
        let told = (supervisor.clone(), supervisor::watchdog());
        Ok((control(&mut engine, config, (flags, told), (&hosts, guard), tls, &authority)?, authority))
    });
    let listening = control.and_then(|control| Ok((control, Inheritance::take(config, &mut engine)?)));
    let ((control, authority), Inheritance { bound, admin, handover, sockets, taken_over }) = match listening {
        Ok(listening) => listening,
        Err(problem) => {
            engine.give_up();
            return Err(problem);
        }
    };
    engine.let_in(bound);
    let admin_addresses = admin.as_ref().map_or_else(Vec::new, |listener| listener.addresses().to_vec());
    let (retire, retired) = bounded(1);
    let drains = bounded(1);
    let drain = admin::Drain { to: drains.0.clone(), time_bound: Duration::from_millis(config.shutdown_timeout_ms) };
    let watched = engine.watched(hosts, guard.clone(), drain, control.clone(), authority, retired);
    let bell = admin.as_ref().map(admin::Listener::bell);
    let mut files = admin.map_or_else(Vec::new, |listener| listener.serve(watched));
    let given = bounded(1);
    let sockets: Sockets = Arc::new(Mutex::new(Some(sockets)));
    if let Some((listener, file)) = handover {
        files.extend(file);
        let shards = config.shards as usize;
        let giver = Giver {
            control: control.clone(),
            shards,
            sockets: sockets.clone(),
            bell: over.clone(),
            given: given.0.clone(),
        };
        // Another engine may have ended for this one: it has to go on.
        if let Err(StartError { cause, cure }) = give::start(listener, giver) {
            tracing::error!(cause, cure, "the next engine cannot take over from this one");
        }
    }
    say_start(config, &engine, &admin_addresses, begun);
    // A reader of stdout that is gone, or does not read, is no reason to stop serving.
    let greeting = greeting(config, engine.local_addresses(), &admin_addresses, first.as_ref());
    if let Err(error) = poll::write_within(io::stdout(), greeting.as_bytes(), GREETING) {
        tracing::info!(%error, "the greeting could not be written to stdout");
    }
    let status = status(config, engine.local_addresses());
    supervisor.tell(if taken_over { State::TookOver(&status) } else { State::Ready(&status) });
    let succession = Succession { files, sockets, over, retire, bell };
    Ok(Running { engine, signals, control, drains, given, succession, supervisor })
}

/// Starts the authority, which says who may do what.
fn authority(engine: &mut Engine, prepared: Prepared) -> Result<Desk, StartError> {
    let end = engine.authority().ok_or_else(|| started("the authority"))?;
    let bell = end.bell.clone();
    authority::start(prepared, Box::new(end), bell)
}

fn started(what: &str) -> StartError {
    let cause = format!("{what} was started before");
    StartError { cause, cure: "start one engine in a process".to_owned() }
}

/// Starts the control plane, which reads the configuration again from where it came from.
fn control(
    engine: &mut Engine,
    config: &Config,
    (flags, supervisor): (&Flags, (Supervisor, Option<Duration>)),
    (hosts, guard): (&Hosts, &Guard),
    tls: Option<Tls>,
    authority: &Desk,
) -> Result<Asker, StartError> {
    hosts.write().unwrap_or_else(PoisonError::into_inner).clone_from(&config.hosts);
    let (flags, host) = (flags.clone(), Host::read());
    let has_file = flags.file.is_some() || std::env::var_os("CORECAST_CONFIG").is_some_and(|path| !path.is_empty());
    let read_again: ReadAgain = Box::new(move || {
        // The host as it was: what follows from it must not seem to have been changed.
        let loaded = config::load(&flags, std::env::vars_os(), &host)?;
        loaded.config.check()?;
        for note in &loaded.notes {
            tracing::warn!("{note}");
        }
        Ok(loaded.config)
    });
    let sources = Sources {
        config: config.clone(),
        // Without a configuration file, certificates are files that may have changed.
        read_again: (has_file || tls.is_some()).then_some(read_again),
        hosts: hosts.clone(),
        guard: guard.clone(),
        tls,
        authority: Some(authority.clone()),
        observed: Some(engine.observed().clone()),
        supervisor,
    };
    let end = engine.control().ok_or_else(|| started("the control plane"))?;
    let control = control::start(end, sources)?;
    let teller = control.clone();
    // The first word to it: there is room.
    authority.spread_by(Box::new(move |revocation, reply| {
        teller.ask(Demand::Revoke(revocation.clone()), Some(reply.clone()))
    }));
    Ok(control)
}

/// Says in a line of the log what has started: what an operator looks for first, when something is not as it was.
fn say_start(config: &Config, engine: &Engine, admin: &[Listen], begun: Instant) {
    let list = |addresses: &[Listen]| addresses.iter().map(url).collect::<Vec<_>>().join(" ");
    let value = |key: &str| {
        let setting = config::SETTINGS.iter().find(|setting| setting.key == key);
        setting.map_or_else(String::new, |setting| setting.value_of(config))
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = list(engine.local_addresses()),
        admin = list(admin),
        shards = config.shards,
        cores = value("cores"),
        memory = value("memory"),
        connections = u64::from(engine.slots_max()) * u64::from(config.shards),
        max_connections = value("max-connections"),
        max_connections_per_address = value("max-connections-per-address"),
        max_message = value("max-message"),
        history_messages = value("history-messages"),
        history_bytes = value("history-bytes"),
        history_seconds = value("history-seconds"),
        drain_time = value("drain-time"),
        took_ms = begun.elapsed().as_millis() as u64,
        "started"
    );
}

/// Says in a line how the engine is, for the supervisor.
fn status(config: &Config, listen: &[Listen]) -> String {
    let addresses: Vec<_> = listen.iter().map(url).collect();
    let plural = if config.shards == 1 { "" } else { "s" };
    format!("serves {} with {} shard{plural}", addresses.join(" "), config.shards)
}

/// Says where the engine listens and what to try next.
fn greeting(config: &Config, listen: &[Listen], operators: &[Listen], certificate: Option<&First>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let plural = if config.shards == 1 { "" } else { "s" };
    let mut text = format!("corecast {version} serves with {} shard{plural}\n", config.shards);
    for address in listen {
        text += &format!("listening on {}\n", url(address));
    }
    for address in operators {
        text += &format!("admin on {} ({})\n", url(address), admin::pages());
    }
    // Of several addresses, one that needs the least words.
    let plain = listen.iter().filter(|address| !address.is_tls()).find_map(Listen::socket);
    if let Some(first) = plain {
        let url = format!("http://{}", reachable(first));
        text += &format!("try: corecast sub --url {url} news\n     curl -d hello {url}/topics/news\n");
    } else if let (Some(first), Some(of)) = (listen.iter().find_map(Listen::socket), certificate) {
        text += &try_tls(
            reachable(first),
            of,
            config.identity().as_ref().and_then(|identity| identity.certificates.first()),
        );
    } else if let Some(path) = listen.iter().find_map(Listen::path) {
        text += &format!("try: curl --unix-socket {} -d hello http://localhost/topics/news\n", path.display());
    }
    text
}

/// Returns an address as clients write it; a path stays as the setting has it.
fn url(address: &Listen) -> String {
    match address {
        Listen::Tcp(address) => format!("http://{address}"),
        Listen::Tls(address) => format!("https://{address}"),
        Listen::Unix(_) => address.to_string(),
    }
}

/// Says what to try over TLS: under a name of the certificate, and with the certificate where nobody else vouches for it.
fn try_tls(address: SocketAddr, certificate: &First, path: Option<&PathBuf>) -> String {
    let ip = address.ip().to_string();
    let local = |name: &&String| **name == ip || (address.ip().is_loopback() && *name == "localhost");
    let names = &certificate.names;
    let name = names.iter().find(local).or_else(|| names.iter().find(|name| name.parse::<IpAddr>().is_err()));
    let host = name
        .filter(|name| **name != ip)
        .map_or_else(|| address.to_string(), |name| format!("{name}:{}", address.port()));
    let path = path.filter(|_| certificate.signs_itself);
    let ca = path.map_or(String::new(), |path| format!(" --ca {}", path.display()));
    let mut text = format!("try: corecast sub --url https://{host}{ca} news\n");
    text += &format!("     corecast pub --url https://{host}{ca} news hello\n");
    if ca.is_empty() {
        text += "     (and --ca FILE, if the authority of the certificate is one of your own)\n";
    }
    text
}

/// Returns an address under which a listener can be reached from this host.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

impl Running {
    fn until_stopped(self, config: &Config) -> Outcome {
        let Running { mut engine, signals, control, drains, given, succession, supervisor } = self;
        let why = loop {
            crossbeam_channel::select! {
                recv(signals) -> signal => match signal {
                    Ok(SIGHUP) => {
                        // What comes of it is logged; if there is no room for it, many are on their way already.
                        if !control.ask(Demand::Reload, None) {
                            supervisor.tell(State::Reloading);
                            supervisor.tell(State::Ready("serves; the configuration is read again already"));
                        }
                    }
                    Ok(signal) => break Stop::Signal(signal),
                    Err(_) => return Outcome::Failed("the thread that waits for signals is gone".to_owned()),
                },
                recv(drains.1) -> time => if let Ok(time) = time { break Stop::Demand(time) },
                recv(given.1) -> wish => if let Ok(wish) = wish { break Stop::Given(wish) },
                // A shard that cannot go on asks all others to drain: without it nobody would be served right.
                default(LOOK_EVERY) => {}
            }
            if engine.draining() {
                break Stop::Shard;
            }
        };
        let timeout = Duration::from_millis(config.shutdown_timeout_ms);
        match why {
            Stop::Signal(signal) => {
                let (drain_ms, timeout_ms) = (config.drain_time_ms, config.shutdown_timeout_ms);
                tracing::info!(signal = name(signal), drain_ms, timeout_ms, "stopping");
            }
            Stop::Demand(time) => {
                let drain_ms = time.map_or(config.drain_time_ms, |time| time.as_millis() as u64);
                tracing::info!(drain_ms, timeout_ms = config.shutdown_timeout_ms, "stopping, as an operator wants it");
            }
            // It is said where it happened.
            Stop::Given(_) => {}
            Stop::Shard => tracing::error!("a shard ended by itself, stopping"),
        }
        supervisor.tell(match why {
            Stop::Given(Wish::TakeOver) => State::HandedOver("everything was handed over; drains"),
            Stop::Shard => State::Stopping("a shard ended by itself"),
            _ => State::Stopping("drains"),
        });
        let _files = succession.pass_on(why, &mut engine);
        // Without one of the shards nobody is served right: there is nothing to stay for.
        let within = match why {
            Stop::Shard => Duration::ZERO,
            Stop::Demand(Some(time)) => time,
            _ => Duration::from_millis(config.drain_time_ms),
        };
        engine.stop(within);
        crossbeam_channel::select! {
            recv(engine.over()) -> _ => match engine.join() {
                Ok(()) if why != Stop::Shard => {
                    tracing::info!("stopped");
                    Outcome::Fine
                }
                Ok(()) => Outcome::Failed("a shard ended by itself; the log says why".to_owned()),
                Err(cause) => Outcome::Failed(cause),
            },
            recv(signals) -> _ => Outcome::Failed("stopped at once by a second signal".to_owned()),
            // The shards keep the bound themselves; this is for one that no longer turns.
            default(timeout + GRACE) => Outcome::Failed(format!("a shard did not stop within {timeout:?}")),
        }
    }
}

/// Why the engine ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// A signal.
    Signal(i32),
    /// An operator's demand, with the time that it may take, if he said so.
    Demand(Option<Duration>),
    /// Everything is somebody else's.
    Given(Wish),
    /// A shard ended by itself.
    Shard,
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use corecast::config::Host;

    /// The threads that have to be there are those that are started: one for each core, and those of the control plane.
    #[test]
    fn threads_are_counted() {
        let host = Host { cores: vec![0, 1, 2, 3], memory_bytes: 1 << 30 };
        let config = Config::default_on(&host);
        assert_eq!(threads(&config), 11);
        assert_eq!(threads(&Config { shards: 2, admin: Vec::new(), ..config.clone() }), 7);
        assert_eq!(threads(&Config { shards: 64, ..config.clone() }), 11);
        let (hook_url, hook_parallel) = (Some("https://a".to_owned()), 3);
        let hooked = authority::Settings { hook_url, hook_parallel, ..config.authority.clone() };
        assert_eq!(threads(&Config { authority: hooked, ..config }), 14);
    }

    /// The greeting names every listener, and its commands can be pasted even if the engine listens everywhere.
    #[test]
    fn the_greeting_can_be_pasted() {
        let host = Host { cores: vec![0], memory_bytes: 1 << 30 };
        let config = Config::default_on(&host);
        let addresses = |texts: &[&str]| texts.iter().map(|text| Listen::read(text).unwrap()).collect::<Vec<_>>();
        let listen = addresses(&["unix:/run/a", "tls://0.0.0.0:443", "0.0.0.0:9000", "[::1]:9001"]);
        let text = greeting(&config, &listen, &addresses(&["127.0.0.1:9002", "unix:/run/b"]), None);
        for expected in [
            "with 1 shard\n",
            "listening on unix:/run/a\n",
            "listening on https://0.0.0.0:443\n",
            "listening on http://0.0.0.0:9000\n",
            "listening on http://[::1]:9001\n",
            "admin on http://127.0.0.1:9002 ",
            "admin on unix:/run/b ",
            "corecast sub --url http://127.0.0.1:9000 news\n",
            "curl -d hello http://127.0.0.1:9000/topics/news\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
        let text = greeting(&config, &addresses(&["unix:/run/a"]), &[], None);
        assert!(text.contains("curl --unix-socket /run/a -d hello http://localhost/topics/news\n"), "{text}");
    }

    /// Without a plain listener, what to try names the certificate's name for this host, and the certificate itself if nobody else vouches
    /// for it.
    #[test]
    fn the_greeting_of_tls_can_be_pasted() {
        let path = PathBuf::from("/etc/cert.pem");
        let text = |address: &str, names: &[&str], signs_itself| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            try_tls(reachable(address.parse().unwrap()), &First { names, signs_itself }, Some(&path))
        };
        for (address, names, url) in [
            ("127.0.0.1:8443", &["localhost", "127.0.0.1"] as &[&str], "https://localhost:8443"),
            ("0.0.0.0:443", &["127.0.0.1", "localhost"], "https://127.0.0.1:443"),
            ("[::]:443", &["::1"], "https://[::1]:443"),
            ("0.0.0.0:443", &["10.0.0.1", "example.com"], "https://example.com:443"),
            ("127.0.0.1:443", &[], "https://127.0.0.1:443"),
        ] {
            let own = text(address, names, true);
            assert!(own.contains(&format!("try: corecast sub --url {url} --ca /etc/cert.pem news\n")), "{own}");
            let signed = text(address, names, false);
            assert!(signed.contains(&format!("corecast pub --url {url} news hello\n")), "{signed}");
            assert!(signed.contains("--ca FILE"), "{signed}");
        }
    }
}
