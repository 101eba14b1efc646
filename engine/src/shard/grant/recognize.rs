//! Recognizing: from what a peer shows to a grant.
//!
//! What is known is looked up; what is not is asked, and whoever has shown it waits, with its request or command complete. When the
//! verdict has come, that is read once more, and finds it. Nothing else of the connection is handled meanwhile, so that its order is
//! kept; its end is found. A wait has a deadline.

use corecast_protocol::http::credential::{self, Kind, Places};
use corecast_protocol::http::head::{Method, Request};

use super::known::Known;
use super::table::NOBODY;
use crate::grant::{Ask, Denial, Question};
use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::NO_PROXY;
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::wait::Wait;
use crate::shard::work::PIECE_NS;

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
        let own = if connection.proxy == NO_PROXY { connection.grant } else { NOBODY };
        let asks = &self.limits.asks;
        if !(asks.tokens || asks.keys) || request.method == Method::Options || !has_rights(request.path) {
            return Recognized::As(self.trust.grants.keep(own));
        }
        let mut room = std::mem::take(&mut self.scratch.secret);
        let places = Places { tokens: asks.tokens, keys: asks.keys, cookie: asks.cookie.as_deref() };
        let recognized = match credential::find(request, places, &mut room) {
            Some(found) => self.believe(slot, found.kind, found.secret),
            None => Recognized::As(self.trust.grants.keep(own)),
        };
        // What was decoded does not stay.
        room.fill(0);
        self.scratch.secret = room;
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
        match self.trust.find(key, self.clock.now_ms) {
            Some(Known::Grant(number)) => {
                if self.has_ended(number) {
                    return Recognized::Refused(Refusal::Expired, EXPIRED);
                }
                Recognized::As(self.trust.grants.keep(number))
            }
            Some(Known::Denied(denial)) => match denial {
                Denial::Invalid(text) => Recognized::Refused(Refusal::InvalidToken, text),
                Denial::Forbidden(text) => Recognized::Refused(Refusal::Forbidden, text),
                Denial::Unavailable(text) => Recognized::Refused(Refusal::Unavailable, text),
            },
            None if self.trust.late == Some(slot) => {
                reach(Mark::VerdictLate);
                Recognized::Refused(Refusal::Unavailable, LATE)
            }
            None => Recognized::Wait(self.ask_authority(slot, key, ask)),
        }
    }

    /// Makes somebody wait for the verdict to a question, which is asked if nobody else waits for it; if there is no room for that, in
    /// line.
    fn ask_authority(&mut self, slot: Slot, key: u128, ask: impl FnOnce() -> Ask) -> Wait {
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
        } else if !self.crossings.links.may_ask() || !asking.line.is_empty() && !self.trust.in_turn {
            reach(Mark::AsksInLine);
            let due_ms = self.clock.now_ms + self.limits.verdict_ms;
            asking.line.push_back((waiter, due_ms as u32));
        } else {
            let word = asking.open(key, waiter);
            let asked = self.crossings.links.ask(Question { word, ask: ask() });
            assert!(asked, "room was looked for");
            self.stats.questions += 1;
        }
        Wait::Verdict
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
            if open.stale && verdict.said.is_ok() {
                // It may be of before: who waits for it asks again.
                reach(Mark::VerdictStale);
            } else {
                self.trust.note(open.key, verdict.said, self.clock.now_ms, verdict.holds_ms);
            }
            for (slot, generation) in open.waiters {
                if self.waits_for_verdict(slot, generation).is_some() {
                    self.postpone(slot);
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
        if self.trust.asking.line.is_empty() || !self.crossings.links.may_ask() {
            return false;
        }
        self.work.begin(driver, LINE_US);
        while self.crossings.links.may_ask() && !self.work.is_over(driver) {
            let Some(((slot, generation), due)) = self.trust.asking.line.pop_front() else { break };
            self.work.spend(PIECE_NS);
            if self.waits_for_verdict(slot, generation) == Some(due) {
                self.trust.in_turn = true;
                self.go_on(driver, slot);
                self.trust.in_turn = false;
            }
        }
        true
    }

    /// Tells those whose wait for a verdict is over; says whether there were any.
    pub(in crate::shard) fn expire_verdicts<D: Driver>(&mut self, driver: &mut D) -> bool {
        let mut worked = false;
        while let Some(((slot, generation), due)) = self.trust.asking.line.front().copied() {
            if self.waits_for_verdict(slot, generation) == Some(due) {
                break;
            }
            self.trust.asking.line.pop_front();
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

/// Says whether it matters who asks for a resource.
fn has_rights(path: &str) -> bool {
    path.starts_with("/topics") || path == "/ws" || path == "/echo"
}
