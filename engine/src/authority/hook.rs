//! The hook: a URL of the operator's that is asked who may do what.
//!
//! ```text
//!   question ──▶ the same is cached? ──▶ the same is being asked? ──▶ ask ──▶ {"sub": "anna", "subscribe": ["#"], "ttl": 60}
//!                  that                    wait with it                        401, 403: no; all else: it is down
//! ```
//!
//! Owns: what is asked and what answers mean, the answers that still hold, who waits. Touches: the pool of [`super::fetch`]. Everything is
//! bounded: what waits, what is kept, the time and the size of an answer. What is asked holds credentials: it is never printed, and kept as
//! a hash only.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use serde_json::{Map, Value, json};

use super::claims::{self, Claims};
use super::fetch::{Answer, Call, Pool};
use super::settings::{Settings, without_query};
use crate::grant::{Action, Ask, Denial, Grant, Patterns, Revocation};

/// Questions that wait for an answer, at most, those to the same answer included.
pub(super) const WAITING_MAX: usize = 4096;
/// Answers that are kept.
const KEPT_MAX: usize = 16_384;
/// How long a no holds, at most.
const NO_HOLDS: Duration = Duration::from_secs(5);

const DOWN: Denial = Denial::Unavailable("who decides that cannot be asked now");
const TOO_MANY: Denial = Denial::Unavailable("too many ask who may connect");

type Said = Result<Grant, Denial>;

/// Who asks: a shard, and the word that goes back to it.
pub(super) type Asker = (usize, u64);

/// An answer, and how long it holds.
#[derive(Debug)]
pub(super) struct Decided {
    /// Who asked.
    pub(super) askers: Vec<Asker>,
    /// What was said.
    pub(super) said: Said,
    /// How long that holds.
    pub(super) holds: Duration,
}

#[derive(Debug)]
struct Kept {
    said: Said,
    fresh_until: Instant,
    stale_until: Instant,
}

/// What an answer will be about.
#[derive(Debug)]
enum About {
    Connection,
    Topic { name: Box<str>, subject: Box<str>, action: Action, topic: Box<str> },
}

#[derive(Debug)]
struct Flight {
    key: [u8; 32],
    about: About,
    askers: Vec<Asker>,
}

/// The hook.
#[derive(Debug)]
pub(super) struct Hook {
    pool: Pool,
    url: String,
    flights: HashMap<u64, Flight>,
    /// Which flight is about what.
    asked: HashMap<[u8; 32], u64>,
    kept: HashMap<[u8; 32], Kept>,
    number: u64,
    waiting: usize,
    is_down: bool,
}

impl Hook {
    /// Makes one.
    #[must_use]
    pub(super) fn new(url: String, pool: Pool) -> Hook {
        Hook {
            pool,
            url,
            flights: HashMap::new(),
            asked: HashMap::new(),
            kept: HashMap::new(),
            number: 0,
            waiting: 0,
            is_down: false,
        }
    }

    /// Asks; returns what is decided at once.
    pub(super) fn ask(&mut self, from: Asker, ask: &Ask, settings: &Settings, now: Instant) -> Option<Decided> {
        let (body, key, about) = question(ask)?;
        if let Some(kept) = self.kept.get(&key).filter(|kept| now < kept.fresh_until) {
            return Some(Decided { askers: vec![from], said: kept.said.clone(), holds: kept.fresh_until - now });
        }
        let full = Some(Decided { askers: vec![from], said: Err(TOO_MANY), holds: Duration::ZERO });
        if self.waiting == WAITING_MAX {
            return full;
        }
        if let Some(flight) = self.asked.get(&key).and_then(|number| self.flights.get_mut(number)) {
            flight.askers.push(from);
        } else {
            self.number += 1;
            let timeout = Duration::from_millis(settings.hook_timeout_ms);
            let call = Call { word: self.number, url: self.url.clone(), body: Some(body), timeout };
            if !self.pool.ask(call) {
                return full;
            }
            self.flights.insert(self.number, Flight { key, about, askers: vec![from] });
            self.asked.insert(key, self.number);
        }
        self.waiting += 1;
        None
    }

    /// Takes an answer that has come, with who waited for it.
    pub(super) fn take(&mut self, settings: &Settings, now: Instant, now_s: u64) -> Option<Decided> {
        let answer = self.pool.take()?;
        let flight = self.flights.remove(&answer.word)?;
        self.asked.remove(&flight.key);
        self.waiting -= flight.askers.len();
        let (said, holds) = match self.understand(answer, &flight.about, now_s) {
            Ok((said, holds)) => {
                let holds = holds.min(Duration::from_millis(settings.hook_cache_ms));
                self.keep(flight.key, said.clone(), holds, settings.hook_stale_ms, now);
                (said, holds)
            }
            Err(()) => {
                let stale = self.kept.get(&flight.key).filter(|kept| now < kept.stale_until);
                // For a moment only: so that it is noticed when it is back.
                (stale.map_or(Err(DOWN), |kept| kept.said.clone()), Duration::from_secs(1))
            }
        };
        Some(Decided { askers: flight.askers, said, holds })
    }

    /// Holds by nothing that it said before, but for while it is down.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.kept.values_mut().for_each(|kept| kept.fresh_until = kept.fresh_until.min(now));
    }

    /// Forgets what was said of somebody.
    pub(super) fn forget(&mut self, revocation: &Revocation) {
        self.kept.retain(|_, kept| match (&kept.said, revocation) {
            (Ok(grant), Revocation::Token(id)) => grant.token_id != *id,
            (Ok(grant), Revocation::Subject(subject, _)) => grant.subject != *subject,
            (Err(_), _) => true,
        });
    }

    fn keep(&mut self, key: [u8; 32], said: Said, holds: Duration, stale_ms: Option<u64>, now: Instant) {
        let stale = stale_ms.map_or(Duration::ZERO, Duration::from_millis);
        if self.kept.len() >= KEPT_MAX {
            self.kept.retain(|_, kept| now < kept.fresh_until);
        }
        if self.kept.len() < KEPT_MAX {
            let fresh_until = now + holds;
            self.kept.insert(key, Kept { said, fresh_until, stale_until: fresh_until + stale });
        }
    }

    /// Says what an answer means and how long that holds, or that it is none.
    fn understand(&mut self, answer: Answer, about: &About, now_s: u64) -> Result<(Said, Duration), ()> {
        let down = match answer.said {
            Ok((200, _, body)) => match granted(&body, about, now_s) {
                Ok((grant, holds)) => {
                    self.is_back();
                    return Ok((Ok(grant), holds));
                }
                Err(cause) => format!("its answer means nothing: {cause}"),
            },
            Ok((401, ..)) => {
                self.is_back();
                return Ok((Err(Denial::Invalid("who decides that says no")), NO_HOLDS));
            }
            Ok((403, ..)) => {
                self.is_back();
                return Ok((Err(Denial::Forbidden("who decides that says no")), NO_HOLDS));
            }
            Ok((status, ..)) => format!("it answers with status {status}"),
            Err(cause) => cause,
        };
        if !self.is_down {
            tracing::warn!(
                url = without_query(&self.url),
                cause = down,
                "the hook cannot be asked who may do what (auth-url)"
            );
        }
        self.is_down = true;
        Err(())
    }

    fn is_back(&mut self) {
        if std::mem::take(&mut self.is_down) {
            tracing::info!(url = without_query(&self.url), "the hook answers again");
        }
    }
}

/// Reads a grant from an answer, and how long it holds.
fn granted(body: &[u8], about: &About, now_s: u64) -> Result<(Grant, Duration), &'static str> {
    let claims: Claims = match (about, body.trim_ascii()) {
        // A yes needs no words.
        (About::Topic { .. }, b"") => Map::new(),
        (_, body) => serde_json::from_slice(body).map_err(|_| "it is no object of JSON")?,
    };
    let mut identity = claims::identity(&claims)?;
    let ttl = match claims.get("ttl") {
        None => None,
        Some(ttl) => Some(now_s.saturating_add(ttl.as_u64().ok_or("`ttl` is no whole number of seconds")?)),
    };
    identity.expires_s = identity.expires_s.or(ttl);
    // It was asked now, whatever was revoked before.
    identity.issued_s = identity.issued_s.or(Some(now_s));
    match about {
        About::Connection => {
            let grant = claims::rights(&identity, Some(&Value::Object(claims)))?;
            // A second has begun already: nobody who comes in what is left of the last one is told that he is late, but asked about anew.
            let left_s = grant.expires_s.saturating_sub(now_s).saturating_sub(1);
            Ok((grant, Duration::from_secs(left_s)))
        }
        About::Topic { name, subject, action, topic } => {
            let one = Patterns::new([&**topic]).map_err(|_| "the topic is none")?;
            let none = Patterns::default();
            let (publish, subscribe) = if *action == Action::Publish { (one, none) } else { (none, one) };
            // It never ends by itself: a yes to this question is one, for however short a time it holds for others.
            let holds = Duration::from_secs(identity.expires_s.unwrap_or(u64::MAX).saturating_sub(now_s));
            let grant = Grant { subject: subject.clone(), issued_s: now_s, publish, subscribe, ..Grant::nothing(name) };
            Ok((grant, holds))
        }
    }
}

/// Returns what the hook is sent, what tells this question from others, and what it is about; nothing for what it is not asked.
///
/// A peer that comes from another port is the same one.
fn question(ask: &Ask) -> Option<(Vec<u8>, [u8; 32], About)> {
    let (mut body, peer, about) = match ask {
        Ask::Connect(visit) => {
            let mut headers = Map::new();
            for (name, value) in visit.headers.lines().filter_map(|line| line.split_once(':')) {
                let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
                // As HTTP joins several of a name (RFC 9110, section 5.2); cookies have a separator of their own.
                let separator = if name == "cookie" { "; " } else { ", " };
                match headers.get_mut(&name) {
                    Some(Value::String(before)) => *before += &format!("{separator}{value}"),
                    _ => drop(headers.insert(name, value.into())),
                }
            }
            let body = json!({
                "action": "connect", "method": visit.method, "target": visit.target, "headers": headers,
            });
            (body, Some(visit.peer), About::Connection)
        }
        Ask::Token(token) => (json!({ "action": "connect", "token": token }), None, About::Connection),
        Ask::Topic { name, subject, action, topic, peer } => {
            let word = if *action == Action::Publish { "publish" } else { "subscribe" };
            let body = json!({ "action": word, "name": name, "subject": subject, "topic": topic });
            let about =
                About::Topic { name: name.clone(), subject: subject.clone(), action: *action, topic: topic.clone() };
            (body, Some(*peer), about)
        }
        Ask::Key(_) | Ask::Certificate(_) => return None,
    };
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(body.to_string().as_bytes());
    if let Some(peer) = peer {
        hash.update(peer.ip().to_canonical().to_string().as_bytes());
        body["peer"] = peer.to_string().into();
    }
    let mut key = [0; 32];
    key.copy_from_slice(hash.finish().as_ref());
    Some((body.to_string().into_bytes(), key, about))
}
