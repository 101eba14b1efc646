//! A regime: who may what in a world, and what may therefore become of what somebody orders.
//!
//! ```text
//!   credentials  what each gives, until when         ─┐
//!   revocations  since when, and what each shard knows ├─▶ outcomes: of an order of this time, answered by that time
//!   eras         what rules each shard may hold to    ─┘
//! ```
//!
//! Whatever changes needs time to be known: a shard is told of rules and revocations when it next looks, and may do this as well as
//! that meanwhile. From the turn on in which it must have looked, only one of them is right.
//!
//! Owns: credentials, rules and revocations, with their times. Never: looks into a shard. It is told of turns, and of answers to errands.

use std::cell::RefCell;
use std::rc::Rc;

use corecast::grant::{Action, Ask, Denial, Grant, GrantLimits, Revocation, Who};
use corecast::shard::{Limits, Refusal, Rules};
use corecast_protocol::pattern;

use crate::authority::{Says, grant, resident};
use crate::rng::Rng;

/// A regime, as the authority, the operator, the oracle and the strangers of a world share it. One thread runs everything.
pub(crate) type SharedRegime = Rc<RefCell<Regime>>;

/// Turns after which a shard has done an errand: it may have eight of them, and each takes a turn or two.
const ERRAND_TURNS: u64 = 32;

/// So long after the end of a grant a shard has ended whoever reads by it, in the second turn that begins then. The wheel counts 128 ms, and
/// whoever is looked at waits for the tick after the next, so that it is not looked at too early.
const END_US: u64 = 400_000;

/// How long it takes to wait for a verdict may be rounded down by so much.
const WAIT_SLACK_US: u64 = 2_000;

/// With less memory there may be none for one more grant.
const TIGHT_BYTES: u64 = 256 << 10;

/// Topics that nobody but strangers reads and publishes to.
pub(crate) const OWN_TOPICS: [&str; 4] = ["s", "s/1", "s/2", "s/2/x"];

/// What grants give: nothing, some, all.
const PATTERNS: [&[&str]; 16] = [
    &["#"],
    &["#"],
    &["#"],
    &["#"],
    &["#"],
    &["s/#"],
    &["s/1"],
    &["s/+", "hot"],
    &["+"],
    &["+/+"],
    &["hot", "a/#"],
    &["t/#"],
    &["+/1", "+/2", "x1"],
    &["s/+/x", "s"],
    &["elsewhere/#"],
    &[],
];

/// What the authority says of a credential that it does not believe.
const FORGED: &str = "the signature is not that of any key of this world";
const BANNED: &str = "not from there";
const UNHEARD: &str = "the hook of this world does not answer";
const REVOKED: &str = "it was revoked in this world";
const OUTDATED: &str = "it is of another time";

/// What shards say to whose grant was taken back.
pub(crate) const TAKEN_BACK: &str = "the permission was revoked";

/// What somebody can show.
#[derive(Debug)]
struct Credential {
    /// What the authority says of it, as long as it is in force.
    said: Result<Grant, Denial>,
    /// When somebody got it.
    born_us: u64,
    /// When it ends, if it does.
    ends_us: u64,
    /// For each shard, turns that began when it had long ended.
    late_turns: Vec<u64>,
    /// For each shard, when all who read by it have been ended for its time.
    over_us: Vec<Option<u64>>,
}

/// What one shard knows of an errand.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// When it was sent, and in which turn.
    sent: Option<(u64, u64)>,
    /// When it must have been done.
    done_us: Option<u64>,
}

#[derive(Debug)]
struct Revoked {
    what: Revocation,
    /// When the authority knew it.
    since_us: u64,
    shards: Vec<Known>,
}

/// Rules that a shard is told to hold to.
#[derive(Debug)]
struct Era {
    rules: Rules,
    number: u64,
    known: Known,
}

/// From when to when something was done: ordered, and answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from_us: u64,
    pub(crate) to_us: u64,
}

/// What may have become of something.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcomes {
    /// It was done.
    pub(crate) done: bool,
    /// It was refused so.
    pub(crate) refusals: Vec<Refusal>,
}

impl Outcomes {
    fn add(&mut self, outcome: Option<Refusal>) {
        match outcome {
            None => self.done = true,
            Some(refusal) if !self.refusals.contains(&refusal) => self.refusals.push(refusal),
            Some(_) => {}
        }
    }

    /// Says whether this is one of them; `None`: it was done.
    pub(crate) fn allow(&self, outcome: Option<Refusal>) -> bool {
        outcome.map_or(self.done, |refusal| self.refusals.contains(&refusal))
    }
}

#[derive(Debug)]
pub(crate) struct Regime {
    pub(crate) now_us: u64,
    /// Of each shard.
    turns: Vec<u64>,
    eras: Vec<Vec<Era>>,
    credentials: Vec<Credential>,
    revoked: Vec<Revoked>,
    /// How long shards wait for a verdict.
    verdict_us: u64,
    /// The authority is silent now and then, and some credentials it can say nothing about.
    moody: bool,
    /// There may be no memory for one more grant.
    tight: bool,
    /// The authority knows by itself when a credential has ended.
    watches_time: bool,
    /// What strangers were told.
    pub(crate) told: Told,
}

/// What strangers were told, for tests that ask whether it really happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Orders that were done, and refused so.
    pub(crate) done: u64,
    pub(crate) forbidden: u64,
    pub(crate) unauthorized: u64,
    pub(crate) invalid: u64,
    pub(crate) expired: u64,
    pub(crate) unavailable: u64,
    /// Connections and streams that were ended for their time, and because their right was taken back.
    pub(crate) ended: u64,
    pub(crate) taken_back: u64,
    /// Credentials that were shown on the line, and subscriptions that ended with that.
    pub(crate) renewed: u64,
    pub(crate) lost: u64,
}

impl Told {
    pub(crate) fn add(&mut self, other: &Told) {
        self.done += other.done;
        self.forbidden += other.forbidden;
        self.unauthorized += other.unauthorized;
        self.invalid += other.invalid;
        self.expired += other.expired;
        self.unavailable += other.unavailable;
        self.ended += other.ended;
        self.taken_back += other.taken_back;
        self.renewed += other.renewed;
        self.lost += other.lost;
    }

    /// Counts the end of a connection, for a reason in these words.
    pub(crate) fn count_end(&mut self, text: &str) {
        self.taken_back += u64::from(text == TAKEN_BACK);
        self.ended += u64::from(text == Refusal::Expired.row().text);
    }

    /// Counts what became of an order.
    pub(crate) fn count(&mut self, outcome: Option<Refusal>) {
        match outcome {
            None => self.done += 1,
            Some(Refusal::Forbidden) => self.forbidden += 1,
            Some(Refusal::Unauthorized) => self.unauthorized += 1,
            Some(Refusal::InvalidToken) => self.invalid += 1,
            Some(Refusal::Expired) => self.expired += 1,
            Some(Refusal::Unavailable) => self.unavailable += 1,
            Some(_) => {}
        }
    }
}

impl Regime {
    pub(crate) fn new(rng: &mut Rng, shards: usize, limits: &Limits, moody: bool) -> Regime {
        let known = Known { sent: Some((0, 0)), done_us: Some(0) };
        let first = || vec![Era { rules: limits.rules.clone(), number: 0, known }];
        Regime {
            now_us: 0,
            turns: vec![0; shards],
            eras: (0..shards).map(|_| first()).collect(),
            credentials: Vec::new(),
            revoked: Vec::new(),
            verdict_us: limits.verdict_ms * 1000,
            moody,
            tight: limits.memory_bytes < TIGHT_BYTES,
            watches_time: rng.chance(300),
            told: Told::default(),
        }
    }

    /// Returns an authority that says what holds here.
    pub(crate) fn says(regime: &SharedRegime) -> Says {
        let regime = regime.clone();
        Box::new(move |ask, now_s| regime.borrow().said(ask, now_s))
    }

    fn said(&self, ask: &Ask, now_s: u64) -> Result<Grant, Denial> {
        let Ask::Token(name) = ask else { panic!("nothing else is asked: {ask:?}") };
        // Whoever lives here may everything, always.
        let Some(number) = name.strip_prefix("s-") else { return Ok(resident()) };
        let number: usize = number.parse().expect("a number");
        if self.revoked_since(number).is_some() {
            return Err(Denial::Invalid(REVOKED));
        }
        let said = self.credentials[number].said.clone();
        match said {
            Ok(grant) if self.watches_time && now_s >= grant.expires_s => Err(Denial::Invalid(OUTDATED)),
            said => said,
        }
    }

    /// Gives somebody a credential: one that others have, or one of its own.
    pub(crate) fn give(&mut self, rng: &mut Rng) -> usize {
        if !self.credentials.is_empty() && rng.chance(500) {
            // The newer ones are more likely to be in force.
            let back = rng.skewed(self.credentials.len());
            return self.credentials.len() - back;
        }
        let now_s = self.now_us / 1_000_000;
        let number = self.credentials.len();
        let expires_s = if rng.chance(350) { u64::MAX } else { now_s + rng.pick(&[0, 1, 1, 1, 1, 2, 2, 3]) };
        let subject = rng.pick(&["", "u1", "u2", "u3", "u4"]);
        let limits = GrantLimits {
            subscriptions: rng.chance(100).then(|| 1 + rng.below(3) as u32),
            publish_rate: rng.chance(100).then(|| 1 + rng.below(20) as u32),
            ..GrantLimits::default()
        };
        let patterns = grant(subject, rng.pick(&PATTERNS), rng.pick(&PATTERNS));
        // Some have no id, and some are equal but for who shows them.
        let token_id = if rng.chance(800) { number.to_string() } else { String::new() };
        let said = Ok(Grant { token_id: token_id.into(), issued_s: now_s, expires_s, limits, ..patterns });
        let said = match rng.below(30) {
            0 => Err(Denial::Invalid(FORGED)),
            1 => Err(Denial::Forbidden(BANNED)),
            2 if self.moody => Err(Denial::Unavailable(UNHEARD)),
            _ => said,
        };
        let shards = self.turns.len();
        self.credentials.push(Credential {
            ends_us: if said.is_ok() { expires_s.saturating_mul(1_000_000) } else { u64::MAX },
            said,
            born_us: self.now_us,
            late_turns: vec![0; shards],
            over_us: vec![None; shards],
        });
        number
    }

    /// Takes back one of those that there are, or all of a subject; says false if there are none.
    pub(crate) fn revoke(&mut self, rng: &mut Rng) -> bool {
        if self.credentials.is_empty() {
            return false;
        }
        let back = rng.skewed(self.credentials.len());
        let number = self.credentials.len() - back;
        let Ok(grant) = &self.credentials[number].said else { return false };
        let what = if rng.chance(600) {
            Revocation::Token(grant.token_id.clone())
        } else {
            Revocation::Subject(grant.subject.clone(), self.now_us / 1_000_000 + rng.pick(&[0, 0, 1]))
        };
        self.revoked.push(Revoked { what, since_us: self.now_us, shards: vec![Known::default(); self.turns.len()] });
        true
    }

    /// Returns the next revocation that a shard was not told of, and its number.
    pub(crate) fn untold(&self, shard: usize) -> Option<(usize, Revocation)> {
        let number = self.revoked.iter().position(|revoked| revoked.shards[shard].sent.is_none())?;
        Some((number, self.revoked[number].what.clone()))
    }

    /// A shard was told of a revocation.
    pub(crate) fn told(&mut self, shard: usize, number: usize) {
        self.revoked[number].shards[shard].sent = Some((self.now_us, self.turns[shard]));
    }

    /// A shard has said that a revocation holds.
    pub(crate) fn revocation_is_done(&mut self, shard: usize, number: usize) {
        self.revoked[number].shards[shard].done_us.get_or_insert(self.now_us);
    }

    /// A shard was sent rules.
    pub(crate) fn ruled(&mut self, shard: usize, number: u64, rules: Rules) {
        let known = Known { sent: Some((self.now_us, self.turns[shard])), done_us: None };
        self.eras[shard].push(Era { rules, number, known });
    }

    /// A shard has said that rules hold.
    pub(crate) fn rules_hold(&mut self, shard: usize, number: u64) {
        let now_us = self.now_us;
        if let Some(era) = self.eras[shard].iter_mut().find(|era| era.number == number) {
            era.known.done_us.get_or_insert(now_us);
        }
    }

    /// A shard has taken a turn, which began at a time.
    pub(crate) fn turned(&mut self, shard: usize, began_us: u64, now_us: u64) {
        self.now_us = now_us;
        self.turns[shard] += 1;
        let turns = self.turns[shard];
        let done = |known: &mut Known| {
            let long = known.sent.is_some_and(|(_, turn)| turns - turn >= ERRAND_TURNS);
            if long {
                known.done_us.get_or_insert(now_us);
            }
        };
        self.eras[shard].iter_mut().for_each(|era| done(&mut era.known));
        self.revoked.iter_mut().for_each(|revoked| done(&mut revoked.shards[shard]));
        for credential in &mut self.credentials {
            if credential.over_us[shard].is_none() && began_us >= credential.ends_us.saturating_add(END_US) {
                credential.late_turns[shard] += 1;
                if credential.late_turns[shard] == 2 {
                    credential.over_us[shard] = Some(now_us);
                }
            }
        }
    }

    /// Says whether a revocation means a credential.
    fn is_meant(&self, what: &Revocation, number: usize) -> bool {
        let Ok(grant) = &self.credentials[number].said else { return false };
        match what {
            Revocation::Token(id) => !id.is_empty() && *id == grant.token_id,
            Revocation::Subject(subject, before_s) => {
                !subject.is_empty() && *subject == grant.subject && grant.issued_s < *before_s
            }
        }
    }

    fn revocations_of(&self, number: usize) -> impl Iterator<Item = &Revoked> {
        self.revoked.iter().filter(move |revoked| self.is_meant(&revoked.what, number))
    }

    /// Returns since when the authority has known that a credential is revoked.
    fn revoked_since(&self, number: usize) -> Option<u64> {
        self.revocations_of(number).map(|revoked| revoked.since_us).min()
    }

    /// Says whether a credential may have been revoked by a time.
    pub(crate) fn may_be_revoked(&self, number: usize, at_us: u64) -> bool {
        self.revoked_since(number).is_some_and(|since_us| since_us <= at_us)
    }

    /// Says whether the time of a credential may be over at a time.
    pub(crate) fn may_have_ended(&self, number: usize, at_us: u64) -> bool {
        at_us >= self.credentials[number].ends_us
    }

    /// Returns since when nobody on a shard reads any more by a credential.
    pub(crate) fn over_us(&self, shard: usize, shown: Option<usize>) -> Option<u64> {
        let number = shown?;
        let revoked = self.revocations_of(number).filter_map(|revoked| revoked.shards[shard].done_us).min();
        [self.credentials[number].over_us[shard], revoked].into_iter().flatten().min()
    }

    /// Says whether the authority may not have answered in time, or there may be no memory for what it said.
    fn may_be_late(&self, span: Span) -> bool {
        self.tight || self.moody && span.to_us - span.from_us + WAIT_SLACK_US >= self.verdict_us
    }

    /// Says whether a shard may hold a credential for good in this span.
    fn may_be_in_force(&self, shard: usize, number: usize, span: Span) -> bool {
        let credential = &self.credentials[number];
        let since_us = self.revoked_since(number);
        credential.said.is_ok()
            && span.from_us < credential.ends_us
            && since_us.is_none_or(|since_us| credential.born_us < since_us)
            && self
                .revocations_of(number)
                .all(|revoked| revoked.shards[shard].done_us.is_none_or(|done_us| span.from_us < done_us))
    }

    /// Says who may do something with a topic, by rules, in words of their own: the most specific that says it.
    fn who(rules: &Rules, action: Action, topic: &str) -> Option<Who> {
        let matching = rules.written().iter().filter(|rule| pattern::matches(&rule.pattern, topic));
        matching.into_iter().find_map(|rule| match action {
            Action::Publish => rule.terms.publish,
            Action::Subscribe => rule.terms.subscribe,
        })
    }

    /// Returns whom the rules may let do something, in this span.
    fn levels(&self, shard: usize, action: Action, topic: &str, span: Span) -> Vec<Option<Who>> {
        let eras = &self.eras[shard];
        let newest = eras.iter().rposition(|era| era.known.done_us.is_some_and(|done_us| done_us <= span.from_us));
        let sent = |era: &&Era| era.known.sent.is_some_and(|(sent_us, _)| sent_us <= span.to_us);
        let eras = eras[newest.unwrap_or(0)..].iter().filter(sent);
        eras.map(|era| Regime::who(&era.rules, action, topic)).collect()
    }

    /// Returns what may become of it when somebody does something with a topic whose connection or request has a grant already, or none.
    pub(crate) fn ordered(
        &self,
        shard: usize,
        given: Option<usize>,
        action: Action,
        topic: &str,
        span: Span,
    ) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let levels = self.levels(shard, action, topic, span);
        let Some(number) = given else {
            levels.into_iter().for_each(|level| {
                outcomes.add(match level {
                    Some(Who::Anyone) => None,
                    Some(Who::Nobody) => Some(Refusal::Forbidden),
                    _ => Some(Refusal::Unauthorized),
                })
            });
            return outcomes;
        };
        if let (true, Ok(grant)) = (self.may_be_in_force(shard, number, span), &self.credentials[number].said) {
            levels.into_iter().for_each(|level| {
                outcomes.add(match level {
                    Some(Who::Anyone | Who::Authenticated) => None,
                    Some(Who::Granted) | None if gives(grant, action, topic) => None,
                    _ => Some(Refusal::Forbidden),
                })
            });
            if outcomes.done && action == Action::Subscribe && grant.limits.subscriptions.is_some() {
                outcomes.add(Some(Refusal::TooMany));
            }
            if outcomes.done && action == Action::Publish && grant.limits.publish_rate.is_some() {
                outcomes.add(Some(Refusal::TooFast));
            }
        }
        if self.may_have_ended(number, span.to_us) || self.may_be_revoked(number, span.to_us) {
            outcomes.add(Some(Refusal::Expired));
        }
        outcomes
    }

    /// Returns what may become of it when somebody shows a credential: whether it is believed.
    pub(crate) fn shown(&self, shard: usize, number: usize, span: Span) -> Outcomes {
        let mut outcomes = Outcomes::default();
        match &self.credentials[number].said {
            Ok(_) if self.may_be_in_force(shard, number, span) => outcomes.add(None),
            Ok(_) => {}
            Err(Denial::Invalid(_)) => outcomes.add(Some(Refusal::InvalidToken)),
            Err(Denial::Forbidden(_)) => outcomes.add(Some(Refusal::Forbidden)),
            Err(Denial::Unavailable(_)) => outcomes.add(Some(Refusal::Unavailable)),
        }
        if self.may_have_ended(number, span.to_us) {
            outcomes.add(Some(Refusal::Expired));
            if self.watches_time {
                outcomes.add(Some(Refusal::InvalidToken));
            }
        }
        if self.may_be_revoked(number, span.to_us) {
            outcomes.add(Some(Refusal::InvalidToken));
            outcomes.add(Some(Refusal::Expired));
        }
        if self.may_be_late(span) {
            outcomes.add(Some(Refusal::Unavailable));
        }
        outcomes
    }

    /// Returns what may become of a request that shows a credential, or nothing, and wants to do something.
    pub(crate) fn requested(
        &self,
        shard: usize,
        shown: Option<usize>,
        action: Action,
        topic: &str,
        span: Span,
    ) -> Outcomes {
        let Some(number) = shown else { return self.ordered(shard, None, action, topic, span) };
        let mut outcomes = self.shown(shard, number, span);
        if std::mem::take(&mut outcomes.done) {
            let ordered = self.ordered(shard, shown, action, topic, span);
            outcomes.done = ordered.done;
            ordered.refusals.into_iter().for_each(|refusal| outcomes.add(Some(refusal)));
        }
        outcomes
    }

    /// Describes a credential, and what shards know of it, for reports.
    pub(crate) fn describe(&self, number: usize) -> String {
        let revoked: Vec<&Revoked> = self.revocations_of(number).collect();
        format!("credential {number}: {:?}, {revoked:?}", self.credentials[number])
    }
}

fn gives(grant: &Grant, action: Action, topic: &str) -> bool {
    let patterns = if action == Action::Publish { &grant.publish } else { &grant.subscribe };
    patterns.iter().any(|one| pattern::matches(one, topic))
}

/// How a credential stands in a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    line: String,
    query: String,
}

impl Shown {
    /// Shows one, or nothing, in one of several ways.
    pub(crate) fn draw(rng: &mut Rng, number: Option<usize>, upgrade: bool) -> Shown {
        let Some(number) = number else { return Shown::default() };
        let line = |line: String| Shown { line: format!("{line}\r\n"), query: String::new() };
        match rng.below(if upgrade { 4 } else { 3 }) {
            0 => line(format!("Authorization: Bearer s-{number}")),
            1 => line(format!("Cookie: a=b; access=s-{number}")),
            2 => Shown { line: String::new(), query: format!("token=s-{number}") },
            _ => line(format!("Sec-WebSocket-Protocol: bearer.s-{number}")),
        }
    }

    /// Puts it into the head of a request, if these bytes are one.
    pub(crate) fn in_request(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        const HOST: &str = "Host: sim\r\n";
        let host = bytes.windows(HOST.len()).position(|window| window == HOST.as_bytes())? + HOST.len();
        let (head, rest) = bytes.split_at(host);
        let head = std::str::from_utf8(head).expect("a head is text");
        let (target, version) = head.split_once(" HTTP/1.").expect("a request line");
        let query = match (self.query.is_empty(), target.contains('?')) {
            (true, _) => String::new(),
            (false, true) => format!("&{}", self.query),
            (false, false) => format!("?{}", self.query),
        };
        let head = format!("{target}{query} HTTP/1.{version}{}", self.line);
        Some([head.as_bytes(), rest].concat())
    }
}
