//! Questions over HTTP to others: what may take long waits here, on threads of its own.
//!
//! Owns: a pool of threads, and all that is said to the library that speaks HTTP. Each question has a time limit, and its answer a
//! size limit; redirects are answers like others, so that nobody is sent to where he was not meant to ask; proxies of the environment
//! are not used. Touches: the network. Never: what is asked, or what the answer means.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::io::check::{StartError, no_thread};
use crate::io::doorbell::Doorbell;
use crate::trust::certificates;

/// Largest answer in bytes: a key set with chains of certificates has some 100 KiB.
const ANSWER_BYTES_MAX: u64 = 256 << 10;
/// Largest head of an answer in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How long a connection is kept for the next question. Servers that close idle ones do so after 5 s and more.
const KEPT: Duration = Duration::from_secs(3);
/// Stack of a thread: TLS needs some 100 KiB of it.
const STACK_BYTES: usize = 1 << 20;

/// A question.
#[derive(Clone)]
pub(super) struct Call {
    /// Comes back with the answer.
    pub(super) word: u64,
    /// Whom.
    pub(super) url: String,
    /// What: JSON for a POST; none is a GET.
    pub(super) body: Option<Vec<u8>>,
    /// How long it may take.
    pub(super) timeout: Duration,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What is asked has credentials in it.
        f.debug_struct("Call").field("word", &self.word).field("url", &self.url).finish_non_exhaustive()
    }
}

/// An answer.
pub(super) struct Answer {
    /// The question's.
    pub(super) word: u64,
    /// Status, Cache-Control and body; or why there is none.
    pub(super) said: Result<(u16, Option<String>, Vec<u8>), String>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("word", &self.word).finish_non_exhaustive()
    }
}

/// Threads that ask.
#[derive(Debug)]
pub(super) struct Pool {
    calls: Sender<Call>,
    answers: Receiver<Answer>,
}

impl Pool {
    /// Starts so many threads, with room for so many questions that wait; they end with the pool. An answer rings the bell. The
    /// certificates of who is asked come from these roots.
    ///
    /// # Errors
    /// They cannot be started.
    pub(super) fn start(
        name: &str,
        threads: u32,
        waiting_max: usize,
        roots: &RootCerts,
        bell: &Doorbell,
    ) -> Result<Pool, StartError> {
        let (calls, given) = bounded::<Call>(waiting_max);
        // As many as were asked, and those are bounded.
        let (give, answers) = unbounded();
        let agent = agent(roots);
        for _ in 0..threads {
            let (agent, given, give, bell) = (agent.clone(), given.clone(), give.clone(), bell.clone());
            let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
            let spawned = thread.spawn(move || {
                for call in given {
                    let answer = Answer { word: call.word, said: ask(&agent, &call) };
                    if give.send(answer).is_err() {
                        return;
                    }
                    bell.ring();
                }
            });
            spawned.map_err(|error| no_thread(name, &error))?;
        }
        Ok(Pool { calls, answers })
    }

    /// Asks; says false if too many wait. Never waits.
    pub(super) fn ask(&self, call: Call) -> bool {
        self.calls.try_send(call).is_ok()
    }

    /// Takes the next answer.
    #[must_use]
    pub(super) fn take(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// Returns the roots that certificates have to come from: those of a file, or, without one, those that browsers know.
///
/// # Errors
/// The file cannot be read, or has no certificates.
pub(super) fn roots(path: Option<&Path>) -> Result<RootCerts, StartError> {
    let Some(path) = path else { return Ok(RootCerts::WebPki) };
    let wrong = |error: &dyn std::fmt::Display| StartError {
        cause: format!("auth-ca {}: {error}", path.display()),
        cure: "name a PEM file with the certificates of the authorities".to_owned(),
    };
    let roots = certificates(path).map_err(|error| wrong(&error))?;
    let mut checked = rustls::RootCertStore::empty();
    for root in &roots {
        checked.add(root.clone()).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"there is no certificate in it"));
    }
    let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&roots))
}

fn agent(roots: &RootCerts) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().provider(TlsProvider::Rustls).unversioned_rustls_crypto_provider(provider);
    let tls = tls.root_certs(roots.clone()).build();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .tls_config(tls)
        .max_response_header_size(HEAD_BYTES_MAX)
        .max_idle_age(KEPT)
        .user_agent(concat!("corecast/", env!("CARGO_PKG_VERSION")));
    config.build().new_agent()
}

fn ask(agent: &Agent, call: &Call) -> Result<(u16, Option<String>, Vec<u8>), String> {
    let timeout = Some(call.timeout);
    let answered = match &call.body {
        None => {
            agent.get(&call.url).config().timeout_global(timeout).build().header("accept", "application/json").call()
        }
        Some(body) => {
            let request = agent.post(&call.url).config().timeout_global(timeout).build();
            request.header("accept", "application/json").content_type("application/json").send(body.as_slice())
        }
    };
    let mut answer = answered.map_err(|error| error.to_string())?;
    let cache = answer.headers().get("cache-control").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    Ok((answer.status().as_u16(), cache, body.map_err(|error| error.to_string())?))
}
