//! A stranger who comes with requests: publishes, batches, values, streams and polls, each with a credential that may give it the right to,
//! or not, or not any more.
//!
//! Whatever it is answered must be one of what its [`Regime`](crate::regime::Regime) says may become of that. Its `Following` lives as long
//! as it does: who comes back with a fresh credential goes on where the old one left it.

use std::collections::VecDeque;

use corecast::grant::Action;
use corecast::shard::{COME_BACK, Refusal};

use crate::ask::{Ask, Start, Transport};
use crate::client::{Exit, Phase, Scene};
use crate::following::Following;
use crate::item::Item;
use crate::line::draw_since;
use crate::net::{ConnId, Net};
use crate::oracle::{Claim, Cursor, Oracle, PayloadId};
use crate::raw::escape_url;
use crate::reading::{News, Reading};
use crate::regime::{OWN_TOPICS, Outcomes, SharedRegime, Shown, Span, TAKEN_BACK};
use crate::rng::Rng;
use crate::wire::{Answer, Flow, Pace, Wire};

/// Requests on their way at most.
const AHEAD_MAX: usize = 6;

/// Lines of a batch at most.
const LINES_MAX: usize = 4;

#[derive(Debug)]
enum What {
    Publish(String, PayloadId),
    Batch(Vec<(String, PayloadId)>),
    Value(String),
    Clear(String),
}

#[derive(Debug)]
struct Asked {
    what: What,
    shown: Option<usize>,
    from_us: u64,
}

#[derive(Debug)]
pub(crate) struct Stranger {
    name: usize,
    regime: SharedRegime,
    wire: Option<Wire>,
    shard: usize,
    asked: VecDeque<Asked>,
    reading: Option<Reading>,
    /// What it showed when it asked for that, and when.
    shown: (Option<usize>, u64),
    following: Option<Following>,
    /// When its stream was opened.
    opened_us: u64,
    closing: bool,
    ended: bool,
    pace: Pace,
    next_us: u64,
}

impl Stranger {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool, regime: SharedRegime) -> Stranger {
        Stranger {
            name,
            regime,
            wire: None,
            shard: 0,
            asked: VecDeque::new(),
            reading: None,
            shown: (None, 0),
            following: None,
            opened_us: 0,
            closing: false,
            ended: false,
            pace: if calm { Pace::FAST } else { Pace::draw(rng) },
            next_us: 0,
        }
    }

    pub(crate) fn has_work(&self, net: &Net, phase: Phase) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.has_work(net))
            || self.next_due_us(phase).is_some_and(|due_us| due_us <= net.now_us())
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        self.wire.as_ref().map(|wire| wire.conn)
    }

    pub(crate) fn next_due_us(&self, phase: Phase) -> Option<u64> {
        phase.is_lively().then_some(self.next_us)
    }

    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle) -> Option<String> {
        let wire = self.wire.as_ref()?;
        let over_us = self.regime.borrow().over_us(self.shard, self.shown.0);
        let reason = if wire.has_unwritten() {
            "its bytes to be taken".to_string()
        } else if phase == Phase::Draining || self.closing || self.ended {
            "the server to close".to_string()
        } else if !self.asked.is_empty() {
            format!("answers to {:?}", self.asked)
        } else if let (Some(reading), Some(following)) = (&self.reading, &self.following) {
            if over_us.is_some() {
                format!("its end, as its time is over since {over_us:?}: {:?}", self.shown)
            } else if (reading.is_streaming() || reading.ask().transport == Transport::LongPoll)
                && following.is_complete(oracle, false)
            {
                return None;
            } else {
                format!("messages of {:?}: {}", reading.ask(), following.describe(oracle))
            }
        } else {
            return None;
        };
        Some(format!("stranger {} on connection {}: {reason}", self.name, wire.conn))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let due = self.next_due_us(scene.phase).is_some_and(|due_us| due_us <= scene.net.now_us());
        let Some(wire) = &mut self.wire else {
            if due {
                self.shard = scene.rng.below(scene.plan.shards);
                self.wire = Some(Wire::open(scene.net, scene.rng, self.shard, self.pace));
                (self.closing, self.ended) = (false, false);
                self.act(scene);
            }
            return;
        };
        wire.pace = self.pace;
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if flow != Flow::Open {
            self.lose(scene, flow);
        } else if due {
            self.next_us = scene.pause_until_us();
            let stuffed = self.wire.as_ref().is_some_and(Wire::is_stuffed);
            if !stuffed && !self.closing && !self.ended && self.reading.is_none() {
                self.act(scene);
            } else if scene.rng.chance(80) {
                let exit = if self.ended { Exit::Reset } else { Exit::draw(scene.rng) };
                self.exit(scene, exit);
            }
        }
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.asked.is_empty() && scene.rng.chance(400) {
            self.begin_reading(scene);
            return;
        }
        let burst = if scene.rng.chance(300) { scene.rng.skewed(4) } else { 1 };
        for _ in 0..burst {
            if self.asked.len() < AHEAD_MAX {
                self.ask(scene);
            }
        }
    }

    /// Chooses what to show: mostly something.
    fn choose(&self, scene: &mut Scene<'_>) -> Option<usize> {
        (!scene.rng.chance(150)).then(|| self.regime.borrow_mut().give(scene.rng))
    }

    /// Sends a request that is answered at once.
    fn ask(&mut self, scene: &mut Scene<'_>) {
        let shown = self.choose(scene);
        let topic = topic(scene);
        let url = escape_url(&topic);
        let Some(wire) = &mut self.wire else { return };
        let may_publish = scene.phase == Phase::Busy;
        let (what, head, body) = match scene.rng.below(10) {
            0..5 if may_publish => {
                let len = scene.payload_len();
                let sent = scene.oracle.publish(scene.rng, &topic, wire.conn, len);
                scene.oracle.claim(sent.id, Claim { shard: self.shard, by: vec![shown] });
                let event = sent.event.map_or(String::new(), |event| format!("Corecast-Event: {event}\r\n"));
                let head = format!("POST /topics/{url} HTTP/1.1\r\nHost: sim\r\n{event}");
                (What::Publish(topic, sent.id), head, sent.bytes)
            }
            5..7 if may_publish => {
                let (lines, body) = batch(scene, wire.conn, self.shard, shown);
                let head = "POST /topics HTTP/1.1\r\nHost: sim\r\nContent-Type: application/x-ndjson\r\n".to_string();
                (What::Batch(lines), head, body)
            }
            7 if scene.oracle.may_forget => {
                (What::Clear(topic), format!("DELETE /topics/{url} HTTP/1.1\r\nHost: sim\r\n"), Vec::new())
            }
            _ => {
                let head = format!("GET /topics/{url}?transport=value HTTP/1.1\r\nHost: sim\r\n");
                (What::Value(topic), head, Vec::new())
            }
        };
        wire.shows = Some(Shown::draw(scene.rng, shown, false));
        wire.put(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        wire.shows = Some(Shown::default());
        wire.put(&body);
        scene.say(|| format!("stranger {:>2} > {what:?} with {shown:?}", self.name));
        self.asked.push_back(Asked { what, shown, from_us: scene.net.now_us() });
    }

    fn begin_reading(&mut self, scene: &mut Scene<'_>) {
        let shown = self.choose(scene);
        if self.following.is_none() || scene.rng.chance(200) {
            let topics = if scene.rng.chance(300) { topics(scene) } else { vec![topic(scene)] };
            self.following = Some(Following::new(topics, draw_since(scene.rng)));
        }
        let (Some(following), Some(wire)) = (&mut self.following, &mut self.wire) else { return };
        let transport = match scene.rng.below(10) {
            0..5 => scene.rng.pick(&Transport::STREAMS),
            // Most of its time it waits, and who waits for long is who may lose its right meanwhile.
            5..8 => Transport::LongPoll,
            _ => scene.rng.pick(&Transport::POLLS),
        };
        let mut ask = Ask::new(transport, following.topics.clone(), Start::Since(following.since()));
        ask.packed = scene.rng.chance(300);
        if transport == Transport::LongPoll {
            ask.wait_s = scene.rng.pick(&[None, Some(1), Some(120), Some(120)]);
        }
        following.asked(scene.oracle, &ask);
        scene.say(|| format!("stranger {:>2} > {ask:?} with {shown:?}", self.name));
        wire.shows = Some(Shown::draw(scene.rng, shown, false));
        let mut reading = Reading::begin(ask, wire, scene.rng);
        reading.strange = true;
        self.reading = Some(reading);
        self.shown = (shown, scene.net.now_us());
        self.opened_us = scene.net.now_us();
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while self.wire.is_some() {
            let goes_on = if self.reading.is_some() { self.read_on(scene) } else { self.read_answer(scene) };
            if !goes_on {
                return;
            }
        }
    }

    /// Takes the next of what it reads; says whether there was anything.
    fn read_on(&mut self, scene: &mut Scene<'_>) -> bool {
        let (Some(wire), Some(reading), Some(following)) = (&mut self.wire, &mut self.reading, &mut self.following)
        else {
            return false;
        };
        let Some(news) = reading.next(wire, scene.rng) else { return false };
        scene.say(|| format!("stranger {:>2} < {news:?}", self.name));
        let (shown, from_us) = self.shown;
        let span = Span { from_us, to_us: scene.net.now_us() };
        let regime = self.regime.borrow();
        let of = |topic: &String| regime.requested(self.shard, shown, Action::Subscribe, topic, span);
        let outcomes: Vec<Outcomes> = following.topics.iter().map(of).collect();
        let what = || {
            format!("stranger {} reads {:?} with {:?}", self.name, reading.ask(), shown.map(|one| regime.describe(one)))
        };
        let streams = reading.ask().transport.streams();
        match news {
            News::Begun => {
                let may = outcomes.iter().all(|outcomes| outcomes.done);
                assert!(may, "{}: it begins, and {outcomes:?}", what());
            }
            News::Item(Item::Refused(refusal)) => {
                let told = outcomes.iter().any(|outcomes| outcomes.allow(Some(refusal)));
                assert!(told || is_excused(scene, refusal), "{}: {refusal:?}, and {outcomes:?}", what());
                drop(regime);
                self.regime.borrow_mut().told.count(Some(refusal));
            }
            News::Item(item) => {
                if let Item::Message(message) = &item {
                    let topic = message.topic.clone().unwrap_or_else(|| following.topics[0].clone());
                    let ordered_us = scene.oracle.ordered_us(&topic, &message.bytes);
                    let over_us = regime.over_us(self.shard, shown);
                    let late = over_us.is_some_and(|over_us| ordered_us > over_us);
                    assert!(!late, "{}: {message:?} of {ordered_us}, over since {over_us:?}", what());
                }
                drop(regime);
                following.item(scene.oracle, item);
            }
            News::Refused => {
                let answer = reading.denied.as_ref().expect("it was refused by an answer");
                let refusal = refusal_of(answer);
                let told = refusal.is_some() && outcomes.iter().any(|outcomes| outcomes.allow(refusal));
                let excused = refusal.map_or(!scene.plan.calm, |refusal| is_excused(scene, refusal));
                assert!(told || excused, "{}: {answer:?}, and {outcomes:?}", what());
                self.closing |= reading.closing;
                drop(regime);
                self.regime.borrow_mut().told.count(refusal);
                following.parted(scene.oracle);
                self.reading = None;
            }
            News::Over => {
                let may_end = reading.refused.is_some() || self.ended || scene.may_end(self.opened_us, reading.length);
                assert!(!streams || may_end, "{}: its stream ended without a reason", what());
                self.closing |= reading.closing || streams;
                drop(regime);
                if !streams {
                    following.parted(scene.oracle);
                    self.reading = None;
                }
            }
        }
        true
    }

    /// Takes the next answer; says whether there was one.
    fn read_answer(&mut self, scene: &mut Scene<'_>) -> bool {
        let Some(answer) = self.wire.as_mut().and_then(|wire| wire.take_answer(false)) else { return false };
        scene.say(|| format!("stranger {:>2} < {} ({} bytes)", self.name, answer.status, answer.body.len()));
        self.closing |= answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let Some(asked) = self.asked.pop_front() else {
            let excused = !scene.plan.calm || scene.phase == Phase::Draining;
            assert!(excused && [408, 503].contains(&answer.status), "an answer to nothing: {answer:?}");
            return true;
        };
        let Asked { what, shown, from_us } = asked;
        let span = Span { from_us, to_us: scene.net.now_us() };
        let regime = self.regime.borrow();
        let of = |action, topic: &str| regime.requested(self.shard, shown, action, topic, span);
        let outcomes: Vec<Outcomes> = match &what {
            What::Publish(topic, _) | What::Clear(topic) => vec![of(Action::Publish, topic)],
            What::Value(topic) => vec![of(Action::Subscribe, topic)],
            What::Batch(lines) => lines.iter().map(|(topic, _)| of(Action::Publish, topic)).collect(),
        };
        let about = || format!("stranger {}: {what:?} with {:?}", self.name, shown.map(|one| regime.describe(one)));
        if matches!(answer.status, 200 | 204) || answer.status == 404 && matches!(what, What::Value(_) | What::Clear(_))
        {
            let may = outcomes.iter().all(|outcomes| outcomes.done);
            assert!(may, "{}: {answer:?}, and {outcomes:?}", about());
        } else {
            let refusal = refusal_of(&answer);
            let told = refusal.is_some() && outcomes.iter().any(|outcomes| outcomes.allow(refusal));
            let excused = refusal.map_or(!scene.plan.calm, |refusal| is_excused(scene, refusal));
            assert!(told || excused, "{}: {answer:?}, and {outcomes:?}", about());
        }
        drop(regime);
        self.regime.borrow_mut().told.count(if answer.status < 400 { None } else { refusal_of(&answer) });
        match what {
            What::Publish(_, id) if answer.status == 200 => {
                let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("the answer is JSON");
                scene.oracle.answered(id, Cursor::parse(json["cursor"].as_str().expect("a cursor")));
            }
            What::Publish(_, id) if answer.status != 408 => scene.oracle.refused(id),
            // Refused as a whole, before any line of it.
            What::Batch(lines) if matches!(answer.status, 401 | 403) && !says_published(&answer) => {
                lines.into_iter().for_each(|(_, id)| scene.oracle.refused(id));
            }
            What::Value(topic) if answer.status == 200 => {
                let cursor = Cursor::parse(answer.header("corecast-cursor").expect("a value has a cursor"));
                scene.oracle.saw_value(&topic, cursor, &answer.body);
            }
            _ => {}
        }
        true
    }

    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        let in_order = self
            .wire
            .as_ref()
            .zip(self.reading.as_ref())
            .is_some_and(|(wire, reading)| reading.is_over() || flow == Flow::Ended && reading.ends_in_order(wire));
        let idle = self.asked.is_empty() && self.reading.is_none();
        let old = self.reading.as_ref().is_some_and(|reading| scene.may_end(self.opened_us, reading.length));
        let excused = in_order || idle || old || self.closing || self.ended || !scene.plan.calm;
        let draining = scene.phase == Phase::Draining;
        assert!(excused || draining, "stranger {}: {flow:?} before {:?} {:?}", self.name, self.asked, self.reading);
        if let (Flow::Ended, Some(wire), false) = (flow, &self.wire, self.ended) {
            scene.net.client_close(wire.conn);
        }
        self.forget(scene);
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        (self.wire, self.reading, self.shown) = (None, None, (None, 0));
        self.asked.clear();
        if let Some(following) = &mut self.following {
            following.parted(scene.oracle);
        }
        self.next_us = scene.pause_until_us();
    }

    pub(crate) fn exit(&mut self, scene: &mut Scene<'_>, exit: Exit) {
        let Some(wire) = &mut self.wire else { return };
        if exit.leave(wire, scene) {
            self.forget(scene);
        } else {
            self.ended = true;
        }
    }
}

/// Says whether the server may say so to anybody now, whatever the right.
pub(crate) fn is_excused(scene: &Scene<'_>, refusal: Refusal) -> bool {
    match refusal {
        Refusal::Draining => scene.phase == Phase::Draining,
        Refusal::Full | Refusal::TooMany | Refusal::TooFast | Refusal::TooSlow | Refusal::Lost => !scene.plan.calm,
        _ => false,
    }
}

/// Draws a topic: one of the strangers' own, or one that others read and publish to.
pub(crate) fn topic(scene: &mut Scene<'_>) -> String {
    if scene.rng.chance(500) { scene.rng.pick(&OWN_TOPICS).to_string() } else { scene.topic() }
}

/// Draws several different topics.
fn topics(scene: &mut Scene<'_>) -> Vec<String> {
    let mut topics = scene.topics(3);
    topics.extend(OWN_TOPICS.iter().take(1 + scene.rng.below(2)).map(|topic| (*topic).to_string()));
    scene.rng.shuffle(&mut topics);
    topics
}

/// Puts lines of a batch together; returns their topics and payloads, and the body.
fn batch(
    scene: &mut Scene<'_>,
    conn: ConnId,
    shard: usize,
    shown: Option<usize>,
) -> (Vec<(String, PayloadId)>, Vec<u8>) {
    let (mut lines, mut body) = (Vec::new(), Vec::new());
    for _ in 0..1 + scene.rng.below(LINES_MAX) {
        let topic = topic(scene);
        let len = scene.rng.skewed(scene.plan.message_bytes_max.min(100));
        let sent = scene.oracle.publish(scene.rng, &topic, conn, len);
        scene.oracle.claim(sent.id, Claim { shard, by: vec![shown] });
        let mut object = serde_json::json!({ "topic": topic });
        match std::str::from_utf8(&sent.bytes) {
            Ok(text) => object["data"] = text.into(),
            Err(_) => {
                object["data"] = crate::base64::base64(&sent.bytes).into();
                object["encoding"] = "base64".into();
            }
        }
        if let Some(event) = sent.event {
            object["event"] = event.into();
        }
        body.extend_from_slice(format!("{object}\n").as_bytes());
        lines.push((topic, sent.id));
    }
    (lines, body)
}

/// Says whether the answer to a batch tells of lines that were published.
fn says_published(answer: &Answer) -> bool {
    let json: serde_json::Value = serde_json::from_slice(&answer.body).expect("the answer is JSON");
    json.get("published").is_some()
}

/// Finds out by status, challenge and words why a request was refused; `None`: in another way than by a refusal.
pub(crate) fn refusal_of(answer: &Answer) -> Option<Refusal> {
    let json: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let text = json["error"].as_str()?;
    let text = text.split(COME_BACK).next().unwrap_or_default();
    let says = |refusal: Refusal| text.ends_with(refusal.row().text);
    let of = |status: u16| Refusal::ALL.iter().copied().filter(move |refusal| refusal.row().status == Some(status));
    let found = match answer.status {
        401 if answer.header("www-authenticate") == Some("Bearer") => Refusal::Unauthorized,
        401 if says(Refusal::Expired) || text == TAKEN_BACK => Refusal::Expired,
        401 => Refusal::InvalidToken,
        403 => Refusal::Forbidden,
        // Whoever cannot say who somebody is says why in words of its own.
        status => of(status).find(|refusal| says(*refusal)).or((status == 503).then_some(Refusal::Unavailable))?,
    };
    Some(found)
}
