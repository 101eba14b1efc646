//! `corecast serve`: runs the engine until it is told to stop.
//!
//! Owns: the order of start and stop. Start: configuration, logs, signals, admin port, engine, greeting. Stop: the first
//! SIGTERM or SIGINT asks the shards to drain, so that every WebSocket is closed with 1001 and requests are answered;
//! a second one, or the end of `shutdown-timeout`, ends the process at once.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::thread;

use corecast::config::{Config, Flags, Problem};
use corecast::{admin, log};
use crossbeam_channel::{Receiver, bounded};

use super::Outcome;
use super::engine::Engine;

pub(super) fn run(flags: &Flags) -> Outcome {
    let loaded = match super::configuration(flags) {
        Ok(loaded) => loaded,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    let config = loaded.config;
    log::start(&config).expect("logs are started once, here");
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    match start(&config) {
        Ok(running) => running.until_stopped(&config),
        Err(problem) => Outcome::CannotStart(vec![problem]),
    }
}

/// A running engine and what the control plane needs to end it.
struct Running {
    engine: Engine,
    signals: Receiver<i32>,
}

fn start(config: &Config) -> Result<Running, Problem> {
    // Before the engine: a signal that comes while it starts must stop it too, and a taken port is found at once.
    let signals = super::signals()?;
    let admin = config.admin.map(admin::Listener::bind).transpose()?;
    let engine = Engine::start(config).map_err(|error| Problem { cause: error.cause, cure: error.cure })?;
    let admin_address = admin.as_ref().map(admin::Listener::address);
    if let Some(listener) = admin {
        listener.serve(engine.watched());
    }
    // A reader of stdout that is gone is no reason to stop serving.
    let _ = io::stdout().lock().write_all(greeting(config, engine.local_addresses(), admin_address).as_bytes());
    Ok(Running { engine, signals })
}

/// Says where the engine listens and what to try next.
fn greeting(config: &Config, listen: &[SocketAddr], admin: Option<SocketAddr>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let plural = if config.shards == 1 { "" } else { "s" };
    let mut text = format!("corecast {version} serves with {} shard{plural}\n", config.shards);
    for address in listen {
        text += &format!("listening on http://{address}\n");
    }
    if let Some(address) = admin {
        text += &format!("admin on http://{address} (/healthz /readyz /stats)\n");
    }
    if let Some(first) = listen.first() {
        let url = reachable(*first);
        text += &format!("try: corecast sub --url {url} news\n     curl -d hello {url}/topics/news\n");
    }
    text
}

/// Returns a URL under which an address can be reached from this host.
fn reachable(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

impl Running {
    fn until_stopped(self, config: &Config) -> Outcome {
        let Ok(signal) = self.signals.recv() else {
            return Outcome::Failed("the thread that waits for signals is gone".to_owned());
        };
        tracing::info!(signal = name(signal), timeout_ms = config.shutdown_timeout_ms, "stopping");
        self.engine.stop();
        let (done, ended) = bounded(1);
        let engine = self.engine;
        thread::spawn(move || {
            // The other side is gone only if a second signal was faster.
            let _ = done.send(engine.join());
        });
        crossbeam_channel::select! {
            recv(ended) -> result => match result {
                Ok(Ok(())) => {
                    tracing::info!("stopped");
                    Outcome::Fine
                }
                Ok(Err(cause)) => Outcome::Failed(cause),
                Err(_) => Outcome::Failed("the engine could not be stopped in order".to_owned()),
            },
            recv(self.signals) -> _ => Outcome::Failed("stopped at once by a second signal".to_owned()),
        }
    }
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use corecast::config::Host;

    /// The greeting names every listener, and its commands can be pasted even if the engine listens everywhere.
    #[test]
    fn the_greeting_can_be_pasted() {
        let host = Host { cores: vec![0], memory_bytes: 1 << 30 };
        let config = Config::default_on(&host);
        let listen = ["0.0.0.0:9000".parse().unwrap(), "[::1]:9001".parse().unwrap()];
        let text = greeting(&config, &listen, Some("127.0.0.1:9002".parse().unwrap()));
        for expected in [
            "with 1 shard\n",
            "listening on http://0.0.0.0:9000\n",
            "listening on http://[::1]:9001\n",
            "admin on http://127.0.0.1:9002 ",
            "corecast sub --url http://127.0.0.1:9000 news\n",
            "curl -d hello http://127.0.0.1:9000/topics/news\n",
        ] {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
    }
}
