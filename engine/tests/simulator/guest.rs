//! A stranger on a WebSocket, of the line protocol or of one raw topic: it says who it is when it comes, and on the line again and again with
//! `AUTH`, in time or too late, with more rights or fewer.
//!
//! Commands are done in their order, so that what it has shown before a command is what that command is judged by, once its `AUTH` is
//! answered; and whatever comes behind a command's answer was done by what was shown by then.

use std::collections::BTreeMap;

use corecast::grant::Action;
use corecast::shard::{COME_BACK, Refusal};

use crate::client::{Exit, Phase, Scene};
use crate::line::{draw_since, escape, unescape};
use crate::net::{ConnId, Net};
use crate::oracle::{Claim, Cursor, Oracle, PayloadId, Since, Told, Watch};
use crate::raw::escape_url;
use crate::regime::{Outcomes, SharedRegime, Shown, Span, TAKEN_BACK};
use crate::rng::Rng;
use crate::stranger::{is_excused, refusal_of, topic};
use crate::wire::{Flow, Frame, Pace, Wire, check_kind};

/// Subscriptions of a guest at most.
const SUBSCRIPTIONS_MAX: usize = 6;

/// Commands without an answer at most.
const AHEAD_MAX: usize = 10;

/// What a command is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Subscribe(String),
    Unsubscribe(String),
    Publish(String, PayloadId),
    /// What was shown, by its number.
    Auth(usize),
    Ping,
}

#[derive(Clone, Debug)]
struct Asked {
    what: What,
    /// How much had been shown before.
    shown: usize,
    from_us: u64,
}

/// Something that was shown on this connection.
#[derive(Clone, Copy, Debug)]
struct Face {
    credential: Option<usize>,
    /// Whether it was believed, once that is known.
    believed: Option<bool>,
}

#[derive(Debug)]
struct Subscribed {
    watch: Watch,
    settled: bool,
    leaving: bool,
    /// It has ended with its right, and the answer to UNSUB is still to come.
    lost: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Greeting,
    Open,
    Closing,
}

#[derive(Debug)]
pub(crate) struct Guest {
    name: usize,
    regime: SharedRegime,
    wire: Option<Wire>,
    shard: usize,
    stage: Stage,
    /// The topic of a raw one.
    raw: Option<String>,
    received: Vec<PayloadId>,
    opened_us: u64,
    faces: Vec<Face>,
    subscribed: BTreeMap<String, Subscribed>,
    asked: BTreeMap<u64, Asked>,
    /// Publications that want no answer.
    silent: Vec<Asked>,
    tokens: u64,
    ended: bool,
    /// What `BYE` said.
    bye: Option<String>,
    pace: Pace,
    next_us: u64,
}

impl Guest {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool, regime: SharedRegime) -> Guest {
        Guest {
            name,
            regime,
            wire: None,
            shard: 0,
            stage: Stage::Handshake,
            raw: None,
            received: Vec::new(),
            opened_us: 0,
            faces: Vec::new(),
            subscribed: BTreeMap::new(),
            asked: BTreeMap::new(),
            silent: Vec::new(),
            tokens: 0,
            ended: false,
            bye: None,
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

    /// Returns what it is known by, of what it had shown when so much was shown; all of that is answered.
    fn face(&self, shown: usize) -> Option<usize> {
        let believed = self.faces[..shown].iter().rev().find(|face| face.believed == Some(true));
        believed.expect("what it came with was believed").credential
    }

    /// Returns all that it may be known by.
    fn faces(&self) -> Vec<Option<usize>> {
        let believed = self.faces.iter().rposition(|face| face.believed == Some(true)).unwrap_or(0);
        self.faces[believed..].iter().filter(|face| face.believed != Some(false)).map(|face| face.credential).collect()
    }

    fn over_us(&self) -> Option<u64> {
        let [only] = self.faces()[..] else { return None };
        self.regime.borrow().over_us(self.shard, only)
    }

    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle) -> Option<String> {
        let wire = self.wire.as_ref()?;
        let reason = if wire.has_unwritten() {
            "its bytes to be taken".to_string()
        } else if phase == Phase::Draining || self.stage != Stage::Open || self.ended {
            format!("the next stage after {:?}", self.stage)
        } else if let Some(over_us) = self.over_us() {
            format!("its end, as its time is over since {over_us}: {:?}", self.faces)
        } else if let Some(asked) = self.asked.values().next() {
            format!("an answer to {asked:?} and {} more", self.asked.len() - 1)
        } else {
            let behind = self.subscribed.values().find(|one| !one.lost && !one.watch.is_complete(oracle))?;
            format!("messages: {:?}, head {:?}", behind.watch, oracle.head(behind.watch.topic()))
        };
        Some(format!("guest {} on connection {}: {reason}", self.name, wire.conn))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let due = self.next_due_us(scene.phase).is_some_and(|due_us| due_us <= scene.net.now_us());
        let Some(wire) = &mut self.wire else {
            if due {
                self.connect(scene);
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
            if !stuffed && !self.ended && self.stage == Stage::Open {
                self.act(scene);
            } else if scene.rng.chance(20) {
                self.exit(scene, Exit::Reset);
            }
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        let credential = (!scene.rng.chance(200)).then(|| self.regime.borrow_mut().give(scene.rng));
        self.shard = scene.rng.below(scene.plan.shards);
        self.raw = scene.rng.chance(300).then(|| topic(scene));
        let target = self.raw.as_ref().map_or("/ws".to_string(), |topic| {
            let since = scene.rng.pick(&["", "?since=live", "?since=earliest"]);
            format!("/topics/{}{since}", escape_url(topic))
        });
        let mut wire = Wire::open(scene.net, scene.rng, self.shard, self.pace);
        wire.shows = Some(Shown::draw(scene.rng, credential, true));
        let packed = scene.rng.chance(300);
        wire.put_upgrade(scene.rng, &target, packed);
        wire.shows = Some(Shown::default());
        scene.say(|| format!("guest {:>2} > {target} with {credential:?}", self.name));
        self.wire = Some(wire);
        self.stage = Stage::Handshake;
        (self.ended, self.bye) = (false, None);
        self.faces = vec![Face { credential, believed: None }];
        self.opened_us = scene.net.now_us();
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

    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        let excused = self.stage != Stage::Open || self.ended || !scene.plan.calm || scene.phase == Phase::Draining;
        assert!(excused, "guest {}: {flow:?} without a reason", self.name);
        if let (Flow::Ended, Some(wire), false) = (flow, &self.wire, self.ended) {
            scene.net.client_close(wire.conn);
        }
        self.forget(scene);
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        self.wire = None;
        self.subscribed.clear();
        self.asked.clear();
        self.silent.clear();
        if let Some(topic) = &self.raw {
            scene.oracle.saw_raw(topic, std::mem::take(&mut self.received));
        }
        self.next_us = scene.pause_until_us();
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            if self.stage == Stage::Handshake {
                let Some(answer) = wire.take_answer(false) else { return };
                scene.say(|| format!("guest {:>2} < {}", self.name, answer.status));
                let span = Span { from_us: self.opened_us, to_us: scene.net.now_us() };
                let credential = self.faces[0].credential;
                let regime = self.regime.borrow();
                let outcomes = match (&self.raw, credential) {
                    (Some(topic), _) => regime.requested(self.shard, credential, Action::Subscribe, topic, span),
                    (None, Some(number)) => regime.shown(self.shard, number, span),
                    (None, None) => Outcomes { done: true, ..Outcomes::default() },
                };
                drop(regime);
                let refusal = if answer.status == 101 { None } else { refusal_of(&answer) };
                self.regime.borrow_mut().told.count(refusal);
                if answer.status == 101 {
                    assert!(
                        answer.accepts_websocket() && outcomes.done,
                        "{}: {outcomes:?}",
                        self.describe("it is taken")
                    );
                    self.faces[0].believed = Some(true);
                    self.stage = if self.raw.is_some() { Stage::Open } else { Stage::Greeting };
                } else {
                    let told = refusal.is_some() && outcomes.allow(refusal);
                    let excused = refusal.map_or(!scene.plan.calm, |refusal| is_excused(scene, refusal));
                    assert!(told || excused, "{}: {answer:?}, and {outcomes:?}", self.describe("it is refused"));
                    self.exit(scene, Exit::Close);
                }
                continue;
            }
            let Some(frame) = wire.take_frame() else { return };
            scene.say(|| format!("guest {:>2} < {}", self.name, frame.brief()));
            match frame {
                Frame::Message { text, bytes } => {
                    check_kind(text, &bytes);
                    match self.raw.clone() {
                        Some(topic) => self.payload(scene, &topic, &bytes),
                        None => self.line(scene, &bytes),
                    }
                }
                Frame::Ping(payload) if !self.ended => wire.put_frame(scene.rng, 10, &payload),
                Frame::Ping(_) | Frame::Pong(_) => {}
                Frame::Close(code) => self.closed(scene, code),
            }
        }
    }

    /// A message has come that was published at a time: nobody's time may have been over by then.
    fn check_late(&self, topic: &str, ordered_us: u64) {
        let over_us = self.over_us();
        let late = over_us.is_some_and(|over_us| ordered_us > over_us);
        assert!(!late, "{}, which was over at {over_us:?}", self.describe(&format!("{topic} of {ordered_us} comes")));
    }

    fn payload(&mut self, scene: &mut Scene<'_>, topic: &str, bytes: &[u8]) {
        let id = scene.oracle.identify(topic, bytes);
        self.check_late(topic, scene.oracle.ordered_us(topic, bytes));
        assert!(!self.received.contains(&id), "guest {}: payload {id} twice", self.name);
        self.received.push(id);
    }

    fn closed(&mut self, scene: &mut Scene<'_>, code: Option<u16>) {
        let wire = self.wire.as_mut().expect("it was closed");
        let words = wire.farewell.clone();
        if self.stage != Stage::Closing && !self.ended {
            wire.put_frame(scene.rng, 8, &code.unwrap_or(1000).to_be_bytes());
        }
        let before = std::mem::replace(&mut self.stage, Stage::Closing);
        let text = words.split(COME_BACK).next().unwrap_or_default();
        self.regime.borrow_mut().told.count_end(text);
        if let Some(bye) = &self.bye {
            assert!(words.is_empty() || bye.starts_with(text), "BYE says {bye:?}, and the close frame {words:?}");
        }
        let excused = match code {
            Some(1000) | None => before == Stage::Closing,
            Some(1001) => scene.phase == Phase::Draining || self.ended || !scene.plan.calm,
            Some(1008) => self.may_end_so(scene, text) || !scene.plan.calm && text.contains("in time"),
            Some(1011 | 1013) => !scene.plan.calm,
            Some(_) => false,
        };
        assert!(excused || before == Stage::Closing, "{}", self.describe(&format!("close {code:?} {words:?}")));
    }

    /// Says whether its connection may be ended for its right, in these words.
    fn may_end_so(&self, scene: &Scene<'_>, text: &str) -> bool {
        let (regime, now_us) = (self.regime.borrow(), scene.net.now_us());
        let shown: Vec<usize> = self.faces().into_iter().flatten().collect();
        let over = if text == TAKEN_BACK {
            shown.iter().any(|one| regime.may_be_revoked(*one, now_us))
        } else if text == Refusal::Expired.row().text {
            shown.iter().any(|one| regime.may_have_ended(*one, now_us))
        } else {
            false
        };
        // A raw one has no other way to hear that it may not publish.
        let refused = |silent: &Asked| {
            let What::Publish(topic, _) = &silent.what else { return false };
            let span = Span { from_us: silent.from_us, to_us: now_us };
            let outcomes = regime.ordered(self.shard, self.faces[0].credential, Action::Publish, topic, span);
            outcomes.refusals.iter().any(|refusal| refusal.row().text == text)
        };
        over || self.raw.is_some() && self.silent.iter().any(refused)
    }

    /// Understands one line of the server.
    fn line(&mut self, scene: &mut Scene<'_>, text: &[u8]) {
        let head_len = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        let head = std::str::from_utf8(&text[..head_len]).expect("a header line is UTF-8");
        let words: Vec<&str> = head.split(' ').collect();
        if self.stage == Stage::Greeting {
            assert_eq!(words[..2], ["HI", "corecast.v1"], "the first line");
            self.stage = Stage::Open;
            return;
        }
        match words.as_slice() {
            ["MSG", topic, cursor, rest @ ..] => {
                let event = rest.first().map(|word| word.strip_prefix("event=").expect("only an event may follow"));
                let topic = unescape(topic);
                let payload = &text[head_len + 1..];
                self.check_late(&topic, scene.oracle.ordered_us(&topic, payload));
                let subscribed = self.subscribed.get_mut(&topic);
                let subscribed = subscribed.filter(|subscribed| !subscribed.lost);
                let subscribed = subscribed.unwrap_or_else(|| panic!("guest {}: {head:?}, not subscribed", self.name));
                subscribed.watch.message(scene.oracle, Cursor::parse(cursor), event, payload);
            }
            ["GAP", topic, from, to, count, reason] => {
                let topic = unescape(topic);
                let subscribed = self.subscribed.get_mut(&topic);
                let subscribed = subscribed.unwrap_or_else(|| panic!("guest {}: {head:?}, not subscribed", self.name));
                let excused = !scene.plan.calm || !subscribed.watch.has_begun();
                assert!(excused, "guest {}: {head:?} without a reason", self.name);
                let told = Told { topic: &topic, from, to, count: count.parse().expect("a count"), reason };
                subscribed.watch.gap(scene.oracle, told);
            }
            ["OK", token, rest @ ..] => self.ok(scene, token, rest),
            ["ERR", "-", "forbidden", topic, "may", "not", "be", "read", ..] => {
                self.right_lost(scene, &unescape(topic))
            }
            ["ERR", token, code, rest @ ..] => self.err(scene, token, code, &rest.join(" ")),
            ["PONG", token] => {
                let asked = self.take(token);
                assert_eq!(asked.what, What::Ping, "{head:?}");
            }
            ["BYE", _, rest @ ..] => self.bye = Some(rest.join(" ")),
            _ => panic!("guest {}: no line of the server is {head:?}", self.name),
        }
    }

    fn take(&mut self, token: &str) -> Asked {
        let number = token.strip_prefix('t').and_then(|number| number.parse().ok());
        number
            .and_then(|number: u64| self.asked.remove(&number))
            .unwrap_or_else(|| panic!("guest {}: an answer to {token}, which was not asked for", self.name))
    }

    /// Returns what may have become of a command that is answered now.
    fn outcomes(&self, scene: &Scene<'_>, asked: &Asked) -> Outcomes {
        let span = Span { from_us: asked.from_us, to_us: scene.net.now_us() };
        let regime = self.regime.borrow();
        let (action, topic) = match &asked.what {
            What::Subscribe(topic) => (Action::Subscribe, topic),
            What::Publish(topic, _) => (Action::Publish, topic),
            What::Auth(shown) => {
                let number = self.faces[*shown].credential.expect("AUTH shows something");
                return regime.shown(self.shard, number, span);
            }
            What::Unsubscribe(_) | What::Ping => return Outcomes { done: true, ..Outcomes::default() },
        };
        regime.ordered(self.shard, self.face(asked.shown), action, topic, span)
    }

    fn ok(&mut self, scene: &mut Scene<'_>, token: &str, rest: &[&str]) {
        let asked = self.take(token);
        let outcomes = self.outcomes(scene, &asked);
        assert!(outcomes.done, "{}, and {outcomes:?}", self.describe(&format!("OK to {asked:?}")));
        self.regime.borrow_mut().told.count(None);
        match (&asked.what, rest) {
            (What::Subscribe(topic), [cursor]) => {
                let subscribed = self.subscribed.get_mut(topic).expect("it was asked for");
                subscribed.watch.head_told(scene.oracle, Cursor::parse(cursor));
                subscribed.settled = true;
                // What was shown meanwhile has been asked about it, too.
                let newest = Asked { shown: self.faces.len(), ..asked.clone() };
                let outcomes = self.outcomes(scene, &newest);
                assert!(outcomes.done, "{}, and {outcomes:?}", self.describe(&format!("OK to {newest:?}")));
            }
            (What::Unsubscribe(topic), []) => {
                self.subscribed.remove(topic);
            }
            (What::Publish(_, id), [cursor]) => scene.oracle.answered(*id, Cursor::parse(cursor)),
            (What::Auth(shown), []) => {
                self.faces[*shown].believed = Some(true);
                self.regime.borrow_mut().told.renewed += 1;
                self.check_kept(scene, &asked, *shown);
            }
            _ => panic!("guest {}: OK {token} {rest:?} to {asked:?}", self.name),
        }
    }

    /// It has another grant: what that does not give has ended before it was told so.
    fn check_kept(&self, scene: &Scene<'_>, asked: &Asked, shown: usize) {
        let span = Span { from_us: asked.from_us, to_us: scene.net.now_us() };
        let regime = self.regime.borrow();
        for (topic, subscribed) in &self.subscribed {
            let credential = self.faces[shown].credential;
            let outcomes = regime.ordered(self.shard, credential, Action::Subscribe, topic, span);
            // What is asked for later is judged by its own answer.
            if subscribed.settled && !subscribed.lost {
                assert!(outcomes.done, "{}", self.describe(&format!("{topic} goes on behind {asked:?}")));
            }
        }
    }

    /// A subscription has ended because what was shown now does not give it.
    fn right_lost(&mut self, scene: &mut Scene<'_>, topic: &str) {
        let reads = self.subscribed.get(topic).is_some_and(|subscribed| !subscribed.lost);
        assert!(reads, "{}", self.describe(&format!("{topic} ends, which it does not read")));
        // It is told before the answer to the first AUTH that has none.
        let auth = self.asked.values().find(|asked| matches!(asked.what, What::Auth(_)));
        let Some(Asked { what: What::Auth(shown), from_us, .. }) = auth else {
            panic!("{}", self.describe(&format!("{topic} ends, and nothing was shown")));
        };
        let span = Span { from_us: *from_us, to_us: scene.net.now_us() };
        let regime = self.regime.borrow();
        let outcomes = regime.ordered(self.shard, self.faces[*shown].credential, Action::Subscribe, topic, span);
        let may = outcomes.refusals.iter().any(|refusal| [Refusal::Forbidden, Refusal::Expired].contains(refusal));
        assert!(may, "{}, and {outcomes:?}", self.describe(&format!("{topic} ends with face {shown}")));
        drop(regime);
        self.regime.borrow_mut().told.lost += 1;
        match self.subscribed.get_mut(topic) {
            Some(subscribed) if subscribed.leaving => subscribed.lost = true,
            _ => drop(self.subscribed.remove(topic)),
        }
    }

    fn err(&mut self, scene: &mut Scene<'_>, token: &str, code: &str, text: &str) {
        let text = text.split(COME_BACK).next().unwrap_or_default();
        let refusal = refusal_named(code, text);
        self.regime.borrow_mut().told.count(Some(refusal));
        if token == "-" {
            // To one of those that want no answer.
            let told = self.silent.iter().any(|asked| self.outcomes(scene, asked).allow(Some(refusal)));
            assert!(told || is_excused(scene, refusal), "{}", self.describe(&format!("ERR - {code} {text}")));
            return;
        }
        let asked = self.take(token);
        let outcomes = self.outcomes(scene, &asked);
        let told = outcomes.allow(Some(refusal)) || is_excused(scene, refusal);
        assert!(told, "{}, and {outcomes:?}", self.describe(&format!("ERR {code} {text} to {asked:?}")));
        match asked.what {
            What::Subscribe(topic) => {
                let subscribed = &self.subscribed[&topic];
                assert!(!subscribed.watch.has_begun(), "a subscription was refused after it began");
                if !subscribed.leaving {
                    self.subscribed.remove(&topic);
                }
            }
            What::Publish(_, id) => scene.oracle.refused(id),
            What::Auth(shown) => self.faces[shown].believed = Some(false),
            What::Unsubscribe(_) | What::Ping => {}
        }
    }

    fn say(&mut self, scene: &mut Scene<'_>, what: Option<What>, command: &str, payload: Option<&[u8]>) {
        let mut text = command.as_bytes().to_vec();
        if let Some(what) = what {
            self.tokens += 1;
            let asked = Asked { what, shown: self.faces.len(), from_us: scene.net.now_us() };
            self.asked.insert(self.tokens, asked);
            text.extend_from_slice(format!(" id=t{}", self.tokens).as_bytes());
        }
        scene.say(|| format!("guest {:>2} > {}", self.name, String::from_utf8_lossy(&text)));
        if let Some(payload) = payload {
            text.push(b'\n');
            text.extend_from_slice(payload);
        }
        if let Some(wire) = &mut self.wire {
            wire.put_message(scene.rng, &text);
        }
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.asked.len() >= AHEAD_MAX {
            return;
        }
        match scene.rng.below(100) {
            0..30 if scene.phase != Phase::Busy => {}
            0..30 => {
                let burst = if scene.rng.chance(200) { scene.rng.skewed(8) } else { 1 };
                (0..burst).for_each(|_| self.publish(scene));
            }
            30..34 => {
                let exit = Exit::draw(scene.rng);
                self.exit(scene, exit);
            }
            _ if self.raw.is_some() => {}
            34..64 => {
                let topic = topic(scene);
                if self.subscribed.len() < SUBSCRIPTIONS_MAX && !self.subscribed.contains_key(&topic) {
                    let since = draw_since(scene.rng);
                    let watch = Watch::new(&topic, since);
                    self.subscribed
                        .insert(topic.clone(), Subscribed { watch, settled: false, leaving: false, lost: false });
                    let from = if since == Since::Latest { String::new() } else { format!(" since={since}") };
                    let command = format!("SUB {}{from}", escape(&topic));
                    self.say(scene, Some(What::Subscribe(topic)), &command, None);
                }
            }
            64..70 => {
                let staying = self.subscribed.iter_mut().find(|(_, subscribed)| !subscribed.leaving);
                if let Some((topic, subscribed)) = staying {
                    subscribed.leaving = true;
                    let topic = topic.clone();
                    let command = format!("UNSUB {}", escape(&topic));
                    self.say(scene, Some(What::Unsubscribe(topic)), &command, None);
                }
            }
            70..90 => {
                let number = self.regime.borrow_mut().give(scene.rng);
                let what = What::Auth(self.faces.len());
                self.say(scene, Some(what), &format!("AUTH s-{number}"), None);
                self.faces.push(Face { credential: Some(number), believed: None });
            }
            90..95 => {
                self.tokens += 1;
                let asked = Asked { what: What::Ping, shown: self.faces.len(), from_us: scene.net.now_us() };
                self.asked.insert(self.tokens, asked);
                let command = format!("PING t{}", self.tokens);
                self.say(scene, None, &command, None);
            }
            _ => {}
        }
    }

    fn publish(&mut self, scene: &mut Scene<'_>) {
        let Some(conn) = self.conn() else { return };
        let topic = self.raw.clone().unwrap_or_else(|| topic(scene));
        let len = scene.payload_len();
        let mut sent = scene.oracle.publish(scene.rng, &topic, conn, len);
        let by = self.faces();
        scene.oracle.claim(sent.id, Claim { shard: self.shard, by });
        let asked =
            Asked { what: What::Publish(topic.clone(), sent.id), shown: self.faces.len(), from_us: scene.net.now_us() };
        if self.raw.is_some() {
            scene.oracle.without_event(&mut sent);
            self.silent.push(asked);
            if let Some(wire) = &mut self.wire {
                wire.put_message(scene.rng, &sent.bytes);
            }
            return;
        }
        let event = sent.event.map_or(String::new(), |event| format!(" event={event}"));
        let command = format!("PUB {}{event}", escape(&topic));
        let answered = scene.rng.chance(800);
        if !answered {
            self.silent.push(asked.clone());
        }
        self.say(scene, answered.then_some(asked.what), &command, Some(&sent.bytes));
    }

    fn describe(&self, what: &str) -> String {
        let regime = self.regime.borrow();
        let shown = self.faces.iter().filter_map(|face| face.credential);
        let shown: Vec<String> = shown.map(|number| regime.describe(number)).collect();
        format!("guest {} on shard {}: {what}; {:?}, {shown:#?}", self.name, self.shard, self.faces)
    }
}

/// Finds a refusal by the code of a command's answer, and its words.
fn refusal_named(code: &str, text: &str) -> Refusal {
    match code {
        "forbidden" => Refusal::Forbidden,
        "unauthorized" if text == Refusal::Unauthorized.row().text => Refusal::Unauthorized,
        "unauthorized" => Refusal::InvalidToken,
        "expired" => Refusal::Expired,
        "unavailable" => Refusal::Unavailable,
        "rate" => Refusal::TooFast,
        "too-many" => Refusal::TooMany,
        "full" => Refusal::Full,
        _ => panic!("nobody is refused so: {code} {text}"),
    }
}
