//! Recognizing: from what a peer shows to a grant.
//!
//! What is known is looked up; what is not is asked, and whoever has shown it waits, with its request or command complete. When the
//! verdict has come, that is read once more, and finds it. Nothing else of the connection is handled meanwhile, so that its order is
//! kept; its end is found. A wait has a deadline.

use corecast_protocol::http::credential::{self, Kind, Places};
use corecast_protocol::http::head::{Method, Request};

use super::asking::{About, Waiter};
use super::known::Known;
use super::table::NOBODY;
use crate::grant::{Ask, Denial, Question, Visit};
use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::NO_PROXY;
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::wait::Wait;
use crate::shard::work::PIECE_NS;

/// Kinds of what is asked about, besides those of credentials.
const CERTIFICATE: u8 = 16;
const VISIT: u8 = 17;

/// Verdicts heard in one turn; and deadlines looked at.
const VERDICTS_PER_TURN: usize = 256;
const DEADLINES_PER_TURN: usize = 256;

/// From so many on, those who wait for one verdict are looked through before there is room for more.
const MANY: usize = 1024;

/// How long a turn lets those go on that waited to ask, in microseconds.
const LINE_US: u64 = 200;

/// What is told of a credential that is too long, or cannot be decoded.
const UNREADABLE: &str = "the credential is too long, or cannot be read";
const EXPIRED: &str = "the permission has expired";
const LATE: &str = "it could not be found out in time who you are";
const NOT_TAKEN: &str = "nobody here knows such credentials: no keys are configured for them";

/// That whoever it is has as many connections as he may.
const TOO_MANY: Recognized = Recognized::Refused(Refusal::TooMany, Refusal::TooMany.row().text);

/// What somebody is recognized as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Recognized {
    /// Who has this grant; whoever is told so uses it from now on.
    As(u32),
    /// Nobody knows yet.
    Wait(Wait),
    /// Nobody who may anything, and this is why.
    Refused(Refusal, &'static str),
}

impl Shard {
    /// Finds out who sends a request: what it shows, or what its connection was given before.
    pub(in crate::shard) fn recognize(&mut self, slot: Slot, request: &Request<'_>) -> Recognized {
        let connection = &self.slots.connections[slot as usize];
        // What a proxy may do is not what they may for whom it asks.
        let direct = connection.proxy == NO_PROXY;
        let asks = &self.limits.asks;
        let asked = asks.tokens || asks.keys || asks.visits || !self.trust.shown.is_empty();
        // The admin listener has asked who it is.
        let asked = asked && !self.is_inside(slot);
        if !asked || request.method == Method::Options || !has_rights(request.path) {
            let own = if direct { connection.grant } else { NOBODY };
            return Recognized::As(self.trust.grants.keep(own));
        }
        if let Some(waits_or_refused) = self.certificate(slot) {
            return waits_or_refused;
        }
        let own = if direct { self.slots.connections[slot as usize].grant } else { NOBODY };
        let asks = &self.limits.asks;
        let mut room = std::mem::take(&mut self.scratch.secret);
        let places = Places { tokens: asks.tokens, keys: asks.keys, cookie: asks.cookie.as_deref() };
        let recognized = match credential::find(request, places, &mut room) {
            Some(found) => self.believe(slot, found.kind, found.secret),
            None if self.limits.asks.visits && own == NOBODY => self.visit(slot, request, direct),
            None => Recognized::As(self.trust.grants.keep(own)),
        };
        // What was decoded does not stay.
        room.fill(0);
        self.scratch.secret = room;
        recognized
    }

    /// Finds out what the certificate gives that a client has shown, once; nothing is to be said if that is known, or if it gives nothing.
    fn certificate(&mut self, slot: Slot) -> Option<Recognized> {
        let names = self.trust.shown.remove(&slot)?;
        let key = self.trust.key_of(CERTIFICATE, &[&names]);
        match self.verdict(slot, key, || Ask::Certificate(names.clone())) {
            Recognized::As(number) if self.give(slot, number) => None,
            Recognized::As(_) => {
                // It may send another request when there is room.
                self.trust.shown.insert(slot, names);
                Some(TOO_MANY)
            }
            Recognized::Wait(wait) => {
                self.trust.shown.insert(slot, names);
                Some(Recognized::Wait(wait))
            }
            // A certificate that nobody knows is none: its client may do what anybody may, or show something else.
            Recognized::Refused(Refusal::Forbidden | Refusal::InvalidToken, _) => None,
            Recognized::Refused(refusal, text) => {
                if refusal == Refusal::Unavailable {
                    // Nobody has said what it gives: the next request asks again.
                    self.trust.shown.insert(slot, names);
                }
                Some(Recognized::Refused(refusal, text))
            }
        }
    }

    /// Asks the hook who comes. What it says is the connection's from then on, unless others may ask over it, too.
    fn visit(&mut self, slot: Slot, request: &Request<'_>, direct: bool) -> Recognized {
        let connection = &self.slots.connections[slot as usize];
        let (peer, address, method) = (connection.peer(), connection.address, method_name(request.method));
        // Taken out meanwhile.
        let names = std::mem::take(&mut self.limits.asks.visit_headers);
        let headers = names.iter().filter_map(|name| Some((name.as_str(), visit_header(request, name)?)));
        let parts = [&address[..], method.as_bytes(), request.path.as_bytes(), request.query.as_bytes()];
        let said = headers.clone().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let key = self.trust.key_of_bytes(VISIT, parts.into_iter().chain(said));
        let recognized = self.verdict(slot, key, || {
            let mark = if request.query.is_empty() { "" } else { "?" };
            let lines: Vec<String> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
            Ask::Connect(Box::new(Visit {
                peer,
                method: method.into(),
                target: format!("{}{mark}{}", request.path, request.query).into(),
                headers: lines.join("\n").into(),
            }))
        });
        self.limits.asks.visit_headers = names;
        if let Recognized::As(number) = recognized
            && direct
        {
            let kept = self.trust.grants.keep(number);
            if !self.give(slot, kept) {
                self.trust.grants.release(number);
                return TOO_MANY;
            }
        }
        recognized
    }

    /// Finds out who has a credential.
    pub(in crate::shard) fn believe(&mut self, slot: Slot, kind: Kind, secret: &str) -> Recognized {
        if secret.is_empty() || secret.len() > credential::CREDENTIAL_BYTES_MAX {
            return Recognized::Refused(Refusal::InvalidToken, UNREADABLE);
        }
        let taken = match kind {
            Kind::Token => self.limits.asks.tokens,
            Kind::Key => self.limits.asks.keys,
        };
        if !taken {
            return Recognized::Refused(Refusal::InvalidToken, NOT_TAKEN);
        }
        let key = self.trust.key_of(kind as u8, &[secret]);
        self.verdict(slot, key, || match kind {
            Kind::Token => Ask::Token(secret.into()),
            Kind::Key => Ask::Key(secret.into()),
        })
    }

    /// Returns the verdict to a question, or asks it.
    fn verdict(&mut self, slot: Slot, key: u128, ask: impl FnOnce() -> Ask) -> Recognized {
        // Only what it has waited for is late: what it has sent behind that has its own time.
        let late = self.trust.late.take() == Some(slot);
        match self.trust.find(key, self.clock.now_ms) {
            Some(Known::Grant(number)) => {
                if self.has_ended(number) {
                    return Recognized::Refused(Refusal::Expired, EXPIRED);
                }
                Recognized::As(self.trust.grants.keep(number))
            }
            Some(Known::Denied(denial)) => {
                let (refusal, text) = refusal_of(denial);
                Recognized::Refused(refusal, text)
            }
            None if late => {
                reach(Mark::VerdictLate);
                Recognized::Refused(Refusal::Unavailable, LATE)
            }
            Some(Known::Yes) => unreachable!("that is said of topics"),
            None => Recognized::Wait(self.ask_authority(slot, key, About::Who, ask)),
        }
    }

    /// Says whether the wait of a connection for the verdict to what it is about to ask is over; to what it asks after that, it is not.
    pub(super) fn is_late(&mut self, slot: Slot) -> bool {
        let is_late = self.trust.late.take_if(|late| *late == slot).is_some();
        if is_late {
            reach(Mark::VerdictLate);
        }
        is_late
    }

    /// Makes somebody wait for the verdict to a question, which is asked if nobody else waits for it; if there is no room for that, in
    /// line.
    pub(super) fn ask_authority(&mut self, slot: Slot, key: u128, about: About, ask: impl FnOnce() -> Ask) -> Wait {
        let waiter = (slot, self.slots.connections[slot as usize].generation);
        let asking = &mut self.trust.asking;
        if let Some(waiters) = asking.waiters(key) {
            reach(Mark::VerdictShared);
            if waiters.len() == waiters.capacity() && waiters.len() >= MANY {
                // An authority that is silent for long must not make it grow by those who have gone.
                let mut others = std::mem::take(waiters);
                others.retain(|(slot, generation)| self.waits_for_verdict(*slot, *generation).is_some());
                if let Some(waiters) = self.trust.asking.waiters(key) {
                    *waiters = others;
                }
            }
            if let Some(waiters) = self.trust.asking.waiters(key) {
                waiters.push(waiter);
            }
        } else if !self.may_ask(about) || !self.trust.asking.line(about).is_empty() && !self.trust.in_turn {
            reach(Mark::AsksInLine);
            let due_ms = self.clock.now_ms + self.limits.verdict_ms;
            self.trust.asking.line(about).push_back((waiter, due_ms as u32));
        } else {
            self.open_question(key, about, Some(waiter), ask());
        }
        Wait::Verdict
    }

    /// Says whether there is room for one more question of a kind.
    pub(super) fn may_ask(&self, about: About) -> bool {
        self.crossings.links.may_ask() && self.trust.asking.has_share(about)
    }

    /// Asks the authority something that there is room for, for somebody if he waits for it.
    pub(super) fn open_question(&mut self, key: u128, about: About, waiter: Option<Waiter>, ask: Ask) {
        let word = self.trust.asking.open(key, about, waiter, self.clock.now_us);
        let asked = self.crossings.links.ask(Question { word, ask });
        assert!(asked, "room was looked for");
        self.stats.questions += 1;
    }

    /// Makes a connection wait for a verdict, and no longer than it may.
    pub(in crate::shard) fn await_verdict(&mut self, slot: Slot) {
        let due_ms = self.clock.now_ms + self.limits.verdict_ms;
        let generation = self.slots.connections[slot as usize].generation;
        self.active(slot).waiting = Waiting::Verdict(due_ms as u32);
        self.trust.asking.expect_by(due_ms, (slot, generation));
    }

    /// Hears verdicts, a bounded number; says whether there are more.
    pub(in crate::shard) fn hear_verdicts(&mut self) -> bool {
        for _ in 0..VERDICTS_PER_TURN {
            let Some(verdict) = self.crossings.links.next_verdict() else { return false };
            let open = self.trust.asking.close(verdict.word);
            let took_us = self.clock.now_us.saturating_sub(open.asked_us);
            self.watch.judged(u32::try_from(took_us).unwrap_or(u32::MAX));
            if open.stale && verdict.said.is_ok() {
                // It may be of before: who waits for it asks again.
                reach(Mark::VerdictStale);
            } else {
                let now_ms = self.clock.now_ms;
                match open.about {
                    About::Who => self.trust.note(open.key, verdict.said, now_ms, verdict.holds_ms),
                    About::Topic => {
                        self.trust.note_topic(open.key, verdict.said.map(drop), now_ms, verdict.holds_ms);
                    }
                }
            }
            for (slot, generation) in open.waiters {
                if self.waits_for_verdict(slot, generation).is_some() {
                    self.postpone(slot);
                } else {
                    reach(Mark::WaiterGone);
                }
            }
        }
        self.crossings.links.has_next_verdict()
    }

    /// Says whether a connection waits for a verdict, and until when.
    fn waits_for_verdict(&self, slot: Slot, generation: u16) -> Option<u32> {
        if !self.slots.is_living(slot, generation) {
            return None;
        }
        match self.slots.actives.get(self.slots.connections[slot as usize].active as usize)?.waiting {
            Waiting::Verdict(due) => Some(due),
            _ => None,
        }
    }

    /// Lets those ask who wait in line, as far as there is room; says whether any did.
    pub(in crate::shard) fn ask_in_line<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = false;
        for about in About::ALL {
            if self.trust.asking.line(about).is_empty() || !self.may_ask(about) {
                continue;
            }
            worked = true;
            self.work.begin(driver, LINE_US);
            while self.may_ask(about) && !self.work.is_over(driver) {
                let Some(((slot, generation), due)) = self.trust.asking.line(about).pop_front() else { break };
                self.work.spend(PIECE_NS);
                if self.waits_for_verdict(slot, generation) == Some(due) {
                    self.trust.in_turn = true;
                    self.go_on(driver, slot);
                    self.trust.in_turn = false;
                }
            }
        }
        worked
    }

    /// Tells those whose wait for a verdict is over; says whether there were any.
    pub(in crate::shard) fn expire_verdicts<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = false;
        for about in About::ALL {
            while let Some(((slot, generation), due)) = self.trust.asking.line(about).front().copied() {
                if self.waits_for_verdict(slot, generation) == Some(due) {
                    break;
                }
                self.trust.asking.line(about).pop_front();
            }
        }
        for _ in 0..DEADLINES_PER_TURN {
            let Some((due_ms, (slot, generation))) = self.trust.asking.next_deadline() else { break };
            let waits = self.waits_for_verdict(slot, generation) == Some(due_ms as u32);
            if waits && due_ms > self.clock.now_ms {
                break;
            }
            self.trust.asking.pass_deadline();
            if waits {
                worked = true;
                self.trust.late = Some(slot);
                self.go_on(driver, slot);
                self.trust.late = None;
            }
        }
        worked
    }

    /// Says whether the time of a grant is over.
    pub(in crate::shard) fn has_ended(&self, number: u32) -> bool {
        number != NOBODY
            && self.trust.grants.get(number).is_some_and(|interned| self.clock.wall_s() >= interned.grant.expires_s)
    }
}

/// Returns how a denial is told, and in which words.
pub(super) fn refusal_of(denial: Denial) -> (Refusal, &'static str) {
    match denial {
        Denial::Invalid(text) => (Refusal::InvalidToken, text),
        Denial::Forbidden(text) => (Refusal::Forbidden, text),
        Denial::Unavailable(text) => (Refusal::Unavailable, text),
    }
}

/// Returns a header that the hook may be told of: those that are read at all.
fn visit_header<'r>(request: &Request<'r>, name: &str) -> Option<&'r str> {
    let headers = &request.headers;
    match name {
        "authorization" => headers.authorization,
        "cookie" => headers.cookie,
        "host" => headers.host,
        "origin" => headers.origin,
        "corecast-key" => headers.corecast_key,
        _ => None,
    }
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        _ => "OTHER",
    }
}

/// Says whether it matters who asks for a resource.
fn has_rights(path: &str) -> bool {
    path.starts_with("/topics") || path == "/ws" || path == "/echo"
}
