//! The authority: who somebody is and what he may do, outside of the shards.
//!
//! ```text
//!   shard ──question──▶ authority: a token ──▶ keys (files, key sets) ──▶ claims ──▶ not revoked? ──verdict──▶ shard
//!                                  an API key, a certificate ──▶ the row of a file ──────▲
//!                                  a peer, a topic ──▶ the hook ─────────────────────────┘
//! ```
//!
//! Owns: keys, key sets, rows, revocations, what the hook said. Touches: the clock, files when they are read, and through [`fetch`]
//! others' servers. Never: a shard. It may block and allocate, but does not wait for others' servers: their answers come back with a
//! ring of its bell. What somebody shows is never logged, kept or repeated; verdicts say why not in words of ours.

mod book;
pub mod claims;
mod desk;
mod fetch;
mod hook;
mod keys;
#[cfg(test)]
mod others;
mod remote;
mod revoked;
pub mod secret;
mod settings;
#[cfg(test)]
mod tests;
pub mod token;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::grant::{Ask, Denial, Grant, Question, Revocation, Verdict};
use crate::io::check::StartError;
use crate::io::clock::unix_s;
use crate::io::doorbell::Doorbell;
use book::{Book, What};
use claims::Claims;
use fetch::{Call, Pool};
use hook::{Decided, Hook};
use keys::{Keys, Miss};
use revoked::Revoked;
use ureq::tls::RootCerts;

pub use desk::{Desk, Shards, Spread, start};
pub use revoked::revocation_in;
pub use settings::{Asks, KeySource, Settings, path, url};

/// Tokens that wait for a key set, at most.
const PARKED_MAX: usize = 4096;
/// Key sets that are fetched at the same time wait in line; there are not many.
const FETCHES_MAX: usize = 64;
/// Time that the server of a key set has.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a no holds: a flood of one bad token asks once in that time, and who was let in since waits no longer.
const NO_HOLDS_MS: u64 = 5_000;
/// How long it holds that nobody can say now, or that it is too early.
const NOW_HOLDS_MS: u64 = 1_000;
/// How long a yes holds at most. A key that is taken away is gone from all caches after that.
const YES_HOLDS_MS: u64 = 300_000;

/// What was read from the files that the settings name.
#[derive(Debug)]
pub struct Prepared {
    settings: Settings,
    keys: Keys,
    api_keys: Book,
    certificates: Book,
    roots: RootCerts,
}

impl Prepared {
    /// Reads all files that the settings name, but for the revocations.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read(settings: &Settings) -> Result<Prepared, Vec<StartError>> {
        let mut problems = Vec::new();
        let keys = Keys::read(settings, Instant::now()).unwrap_or_else(|wrong| {
            problems.extend(wrong);
            Keys::default()
        });
        let mut book = |path: &Option<std::path::PathBuf>, what| {
            let read = path.as_ref().map_or_else(|| Ok(Book::default()), |path| Book::read(path, what));
            read.unwrap_or_else(|wrong| {
                problems.push(wrong);
                Book::default()
            })
        };
        let api_keys = book(&settings.api_keys, What::Keys);
        let certificates = book(&settings.certificates, What::Certificates);
        let roots = fetch::roots(settings.ca.as_deref()).unwrap_or_else(|wrong| {
            problems.push(wrong);
            RootCerts::WebPki
        });
        if problems.is_empty() {
            Ok(Prepared { settings: settings.clone(), keys, api_keys, certificates, roots })
        } else {
            Err(problems)
        }
    }
}

/// A token that waits for a key set.
struct Parked {
    from: usize,
    word: u64,
    token: Box<str>,
}

/// What was said of a token.
enum Judged {
    Said(Result<Grant, Denial>, u64),
    Wait,
}

/// The authority.
pub struct Authority {
    settings: Settings,
    keys: Keys,
    api_keys: Book,
    certificates: Book,
    revoked: Revoked,
    hook: Option<Hook>,
    fetches: Pool,
    /// Counts the settings: answers to what others asked for are not for these.
    generation: u64,
    parked: Vec<Parked>,
    ready: VecDeque<(usize, Verdict)>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens wait in it.
        f.debug_struct("Authority").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes one, and starts the threads that ask others. The bell is rung when [`Authority::hear`] has something to do.
    ///
    /// # Errors
    /// The revocations cannot be read, or a thread cannot be started.
    pub fn new(prepared: Prepared, bell: &Doorbell) -> Result<Authority, StartError> {
        let Prepared { settings, keys, api_keys, certificates, roots } = prepared;
        let revoked = match &settings.revocations {
            Some(path) => Revoked::open(path, unix_s())?,
            None => Revoked::default(),
        };
        let hook = settings.hook_url.as_ref().map(|url| {
            let pool = Pool::start("hook", settings.hook_parallel, hook::WAITING_MAX, &roots, bell)?;
            Ok(Hook::new(url.clone(), pool))
        });
        let fetches = Pool::start("keys", 1, FETCHES_MAX, &roots, bell)?;
        Ok(Authority {
            hook: hook.transpose()?,
            settings,
            keys,
            api_keys,
            certificates,
            revoked,
            fetches,
            generation: 0,
            parked: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// Goes by other settings and files from now on; returns whom shards should forget, as their rows are gone or changed. Revocations,
    /// who the hook is, and whose certificates others have to show stay as they were at the start.
    pub fn set(&mut self, prepared: Prepared) -> Vec<Revocation> {
        let Prepared { settings, mut keys, api_keys, certificates, .. } = prepared;
        // Sets that are known go on: a reload does not make anybody wait for a fetch.
        for remote in &mut keys.remotes {
            if let Some(at) = self.keys.remotes.iter().position(|known| known.url == remote.url) {
                *remote = self.keys.remotes.swap_remove(at);
                remote.refetch(Instant::now());
            }
        }
        let changed = self.api_keys.changed(&api_keys).chain(self.certificates.changed(&certificates));
        let changed = changed.map(|name| Revocation::Subject(name.into(), u64::MAX)).collect();
        self.generation += 1;
        if let Some(hook) = &mut self.hook {
            hook.refresh(Instant::now());
        }
        (self.settings, self.keys, self.api_keys, self.certificates) = (settings, keys, api_keys, certificates);
        self.settle_parked();
        changed
    }

    /// Takes a question of a shard; the verdict comes by [`Authority::take`], at once or later.
    pub fn ask(&mut self, from: usize, question: Question) {
        let Question { word, ask } = question;
        let asks_hook = match &ask {
            Ask::Connect(_) | Ask::Topic { .. } => true,
            // Who decides on all others may know tokens that nobody else does.
            Ask::Token(_) => self.keys.is_none(),
            Ask::Key(_) | Ask::Certificate(_) => false,
        };
        if asks_hook && let Some(hook) = &mut self.hook {
            if let Some(decided) = hook.ask((from, word), &ask, &self.settings, Instant::now()) {
                self.decide(decided);
            }
            return;
        }
        let (said, holds_ms) = match ask {
            Ask::Token(token) => match self.judge(&token, false) {
                Judged::Said(said, holds_ms) => (said, holds_ms),
                Judged::Wait if self.parked.len() < PARKED_MAX => {
                    self.parked.push(Parked { from, word, token });
                    return;
                }
                Judged::Wait => (Err(Denial::Unavailable("too many tokens wait for a key")), 0),
            },
            Ask::Key(key) => match self.api_keys.by_key(&key) {
                Some(grant) => (Ok(grant), YES_HOLDS_MS),
                None => (Err(Denial::Invalid("the API key is not known")), NO_HOLDS_MS),
            },
            Ask::Certificate(names) => match self.certificates.by_names(&names) {
                Ok(grant) => (Ok(grant), YES_HOLDS_MS),
                Err(why) => (Err(Denial::Forbidden(why)), NO_HOLDS_MS),
            },
            Ask::Connect(_) | Ask::Topic { .. } => {
                (Err(Denial::Unavailable("there is nobody to ask: auth-url is off")), NOW_HOLDS_MS)
            }
        };
        self.say(from, word, said, holds_ms);
    }

    /// Takes the next verdict, and for which shard it is.
    pub fn take(&mut self) -> Option<(usize, Verdict)> {
        self.ready.pop_front()
    }

    /// Takes what others answered, and asks what is due. To be called when the bell was rung, and at [`Authority::due_at`].
    pub fn hear(&mut self) {
        let (now, now_s) = (Instant::now(), unix_s());
        while let Some(decided) = self.hook.as_mut().and_then(|hook| hook.take(&self.settings, now, now_s)) {
            self.decide(decided);
        }
        let mut is_fetched = false;
        while let Some(answer) = self.fetches.take() {
            let (generation, at) = (answer.word >> 32, (answer.word & 0xffff_ffff) as usize);
            if generation != self.generation {
                continue;
            }
            let said = answer.said.and_then(|(status, cache, body)| match status {
                200 => Ok((body, cache)),
                _ => Err(format!("the answer has status {status}")),
            });
            if let Some(remote) = self.keys.remotes.get_mut(at) {
                remote.end(said, now);
                is_fetched = true;
            }
        }
        if is_fetched {
            self.settle_parked();
        }
        self.fetch(now);
    }

    /// Returns when [`Authority::hear`] has something to do without a ring of the bell.
    #[must_use]
    pub fn due_at(&self) -> Option<Instant> {
        self.keys.remotes.iter().filter_map(remote::Remote::due_at).min()
    }

    /// Revokes; returns how much is revoked. What was said before still has to be taken, and the shards to be told after that.
    ///
    /// # Errors
    /// It is not, or not over a restart; why.
    pub fn revoke(&mut self, revocation: &Revocation) -> Result<usize, String> {
        let now_s = unix_s();
        let named = match revocation {
            Revocation::Subject(subject, _) => self.api_keys.has(subject) || self.certificates.has(subject),
            Revocation::Token(_) => false,
        };
        // What never ends is revoked for ever.
        let until_s = if named || self.settings.endless {
            u64::MAX
        } else {
            now_s + self.settings.token_age_max_s + self.settings.leeway_s
        };
        let added = self.revoked.add(revocation, now_s, until_s);
        if let Some(hook) = &mut self.hook {
            hook.forget(revocation);
        }
        added.map(|()| self.revoked.len())
    }

    /// Lists what is revoked, as JSON.
    #[must_use]
    pub fn revoked(&self) -> Value {
        self.revoked.list(unix_s())
    }

    /// Fetches the key sets that are due.
    fn fetch(&mut self, now: Instant) {
        for (at, remote) in self.keys.remotes.iter_mut().enumerate() {
            if remote.due_at().is_some_and(|due| due <= now) {
                let word = self.generation << 32 | at as u64;
                let call = Call { word, url: remote.url.clone(), body: None, timeout: FETCH_TIMEOUT };
                remote.begin(now);
                if !self.fetches.ask(call) {
                    remote.end(Err("too many key sets are fetched at the same time".to_owned()), now);
                }
            }
        }
    }

    /// Judges tokens that waited for a key set again, unless there is still one to wait for.
    fn settle_parked(&mut self) {
        if self.keys.remotes.iter().any(|remote| remote.is_fetching()) {
            return;
        }
        for Parked { from, word, token } in std::mem::take(&mut self.parked) {
            let (said, holds_ms) = match self.judge(&token, true) {
                Judged::Said(said, holds_ms) => (said, holds_ms),
                Judged::Wait => (Err(Denial::Unavailable("the token's key cannot be fetched")), 0),
            };
            self.say(from, word, said, holds_ms);
        }
    }

    /// Judges a token; `last`: a set was fetched for it already.
    fn judge(&mut self, token: &str, last: bool) -> Judged {
        let now = Instant::now();
        match self.keys.verify(token, now, last) {
            Ok(claims) => {
                let (said, holds_ms) = self.weigh(&claims, unix_s());
                Judged::Said(said.map_err(Denial::Invalid), holds_ms)
            }
            Err(Miss::Invalid(why)) => Judged::Said(Err(Denial::Invalid(why)), NO_HOLDS_MS),
            Err(Miss::Unavailable(why)) => Judged::Said(Err(Denial::Unavailable(why)), NOW_HOLDS_MS),
            Err(Miss::Wait) => {
                self.fetch(now);
                Judged::Wait
            }
        }
    }

    /// Says what claims that are signed give, and how long that holds.
    fn weigh(&self, claims: &Claims, now_s: u64) -> (Result<Grant, &'static str>, u64) {
        match grant_in(&self.settings, claims, now_s) {
            Ok(grant) => (Ok(grant), YES_HOLDS_MS),
            Err(why @ (TOO_EARLY | FROM_THE_FUTURE)) => (Err(why), NOW_HOLDS_MS),
            Err(why) => (Err(why), NO_HOLDS_MS),
        }
    }

    fn decide(&mut self, decided: Decided) {
        let Decided { askers, said, holds } = decided;
        for (from, word) in askers {
            self.say(from, word, said.clone(), holds.as_millis() as u64);
        }
    }

    /// Says a verdict, unless it is revoked or over.
    fn say(&mut self, from: usize, word: u64, said: Result<Grant, Denial>, holds_ms: u64) {
        let now_s = unix_s();
        let said = said.and_then(|grant| {
            if self.revoked.has(&grant, now_s) {
                return Err(Denial::Invalid("it is revoked"));
            }
            if grant.expires_s <= now_s { Err(Denial::Invalid("it has expired")) } else { Ok(Box::new(grant)) }
        });
        let holds_ms = match &said {
            Ok(grant) => holds_ms.min(grant.expires_s.saturating_sub(now_s).saturating_mul(1000)),
            Err(_) => holds_ms.min(NO_HOLDS_MS),
        };
        self.ready.push_back((from, Verdict { word, said, holds_ms }));
    }
}

const TOO_EARLY: &str = "the token is not valid yet (nbf)";
const FROM_THE_FUTURE: &str = "the token was issued in the future (iat); a clock is wrong";

/// Returns the grant that signed claims give now.
///
/// # Errors
/// Why they give none.
pub fn grant_in(settings: &Settings, claims: &Claims, now_s: u64) -> Result<Grant, &'static str> {
    let mut identity = claims::identity(claims)?;
    claims::issuer(claims, &settings.issuers)?;
    claims::audience(claims, &settings.audiences)?;
    let leeway_s = settings.leeway_s;
    match identity.expires_s {
        None if !settings.endless => return Err("the token does not say when it ends (exp)"),
        Some(expires_s) if expires_s.saturating_add(leeway_s) <= now_s => return Err("the token has expired"),
        Some(expires_s) if expires_s.saturating_sub(identity.issued_s.unwrap_or(now_s)) > settings.token_age_max_s => {
            return Err("the token lives longer than is taken here (token-max-age)");
        }
        _ => {}
    }
    if identity.not_before_s.is_some_and(|not_before_s| not_before_s > now_s.saturating_add(leeway_s)) {
        return Err(TOO_EARLY);
    }
    if identity.issued_s.is_some_and(|issued_s| issued_s > now_s.saturating_add(leeway_s)) {
        return Err(FROM_THE_FUTURE);
    }
    // It is taken for so long, so what it gives lasts for so long.
    identity.expires_s = identity.expires_s.map(|expires_s| expires_s.saturating_add(leeway_s));
    claims::rights(&identity, claims.get(&settings.claim))
}
