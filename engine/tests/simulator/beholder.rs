//! A client of the line protocol that reads patterns, leaves and comes back with its places; and what must be true of what it is told.
//!
//! Of each topic that a pattern matches it gets every message once and in order, from the newest there was when it began, or is told what it
//! does not get. Where more is lost than anybody knows, it is told so for the pattern, and gets what there is.

use std::collections::{BTreeMap, BTreeSet};

use corecast_protocol::pattern;

use crate::client::{Exit, Phase, Scene};
use crate::line::{escape, unescape};
use crate::net::{ConnId, Net};
use crate::oracle::{Cursor, Oracle};
use crate::rng::Rng;
use crate::wire::{Flow, Frame, Pace, Wire, check_kind};

const RETURNS_MAX: u32 = 5;

/// What there is to read.
const PATTERNS: [&str; 9] = ["#", "+", "+/+", "a/#", "long/#", "t/+", "t/#", "+/b", "é/+"];

/// What one subscription of a pattern has seen.
#[derive(Debug, Default)]
struct Seen {
    /// How far it is with each home, as it was told, and the life of that.
    places: Vec<String>,
    life: String,
    /// The last message of each topic.
    topics: BTreeMap<String, Cursor>,
    /// The newest message of each topic that anybody knew of when it began.
    floor: BTreeMap<String, Cursor>,
    /// It began with what there was, or has been given that since.
    whole: bool,
    /// It comes back from places that it had.
    resumed: bool,
    /// `OK` has come.
    settled: bool,
    /// What there is has come.
    ended: bool,
    /// Topics that may leave something out once, as was told.
    jumps: BTreeSet<String>,
    /// Until what there is has come any topic may; and say again what it has said.
    loose: bool,
    may_repeat: bool,
    leaving: bool,
}

impl Seen {
    fn told_places(&mut self, text: &str) {
        let (life, parts) = text.split_once('-').unwrap_or_else(|| panic!("places, not {text}"));
        self.life = life.to_owned();
        self.places = parts.split('.').map(str::to_owned).collect();
    }

    fn message(&mut self, oracle: &mut Oracle, topic: &str, cursor: Cursor, event: Option<&str>, bytes: &[u8]) {
        oracle.saw(topic, cursor, event, bytes);
        let jumps = self.jumps.remove(topic);
        match self.topics.get(topic) {
            Some(last) if last.epoch != cursor.epoch => {
                assert!(oracle.may_forget || oracle.history.is_none(), "{topic} {cursor}: a new epoch: {self:?}");
            }
            Some(last) if self.loose || jumps => {
                assert!(
                    self.may_repeat && self.loose || cursor > *last,
                    "{topic}: {cursor} again or out of order: {self:?}"
                );
            }
            Some(last) => {
                assert!(
                    cursor.seq == oracle.numbers.after(*last),
                    "{topic}: a jump to {cursor} that nobody told: {self:?}"
                );
            }
            None => {
                let floor = self.floor.get(topic).filter(|floor| floor.epoch == cursor.epoch && !self.resumed);
                let soon = floor.is_none_or(|floor| cursor.seq >= floor.seq);
                assert!(soon, "{topic} begins with {cursor}, and {floor:?} was there before: {self:?}");
            }
        }
        self.topics.insert(topic.to_owned(), cursor);
    }

    fn at(&mut self, at: &str) {
        let (home, number) = at.split_once('.').unwrap_or_else(|| panic!("a place, not {at}"));
        let place = &mut self.places[home.parse::<usize>().expect("a home")];
        let (before, now): (Option<u64>, u64) = (place.parse().ok(), number.parse().expect("a number"));
        assert!(before.is_none_or(|before| before < now), "{at} behind {place}");
        *place = number.to_owned();
    }

    /// Says whether everything that anybody knows of has come.
    fn is_complete(&self, oracle: &Oracle, topics: &[String], pattern: &str) -> bool {
        let has = |topic: &String| {
            let Some(head) = oracle.head(topic) else { return true };
            match self.topics.get(topic) {
                // It was told that some may be missing; what was newest may be forgotten since.
                Some(_) if self.jumps.contains(topic) && oracle.may_forget => true,
                Some(last) => last.epoch != head.epoch || last.seq == head.seq || self.loose && last.seq > head.seq,
                None => !self.whole || head.seq == 0 || oracle.may_forget,
            }
        };
        self.settled && self.ended && topics.iter().filter(|topic| pattern::matches(pattern, topic)).all(has)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Greeting,
    Open,
    Closing,
}

#[derive(Debug)]
enum Asked {
    Subscribe(String),
    Unsubscribe(String),
    Ping,
}

#[derive(Debug)]
pub(crate) struct Beholder {
    name: usize,
    wire: Option<Wire>,
    stage: Stage,
    ended: bool,
    pace: Pace,
    seen: BTreeMap<String, Seen>,
    /// Subscriptions to take up again after a lost connection.
    resume: BTreeMap<String, Seen>,
    asked: BTreeMap<String, Asked>,
    tokens: u64,
    next_us: u64,
    returns: u32,
    farewell: bool,
}

impl Beholder {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool) -> Beholder {
        Beholder {
            name,
            wire: None,
            stage: Stage::Handshake,
            ended: false,
            pace: if calm { Pace::FAST } else { Pace::draw(rng) },
            seen: BTreeMap::new(),
            resume: BTreeMap::new(),
            asked: BTreeMap::new(),
            tokens: 0,
            next_us: 0,
            returns: 0,
            farewell: false,
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
        match (phase, &self.wire) {
            (Phase::Busy | Phase::Churning, _) => Some(self.next_us),
            (Phase::Settling, None) if !self.resume.is_empty() => Some(self.next_us),
            _ => None,
        }
    }

    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle, topics: &[String]) -> Option<String> {
        let Some(wire) = &self.wire else {
            let waits = phase == Phase::Settling && !self.resume.is_empty();
            return waits.then(|| format!("beholder {}: to come back", self.name));
        };
        let reason = if wire.has_unwritten() {
            "its bytes to be taken".to_string()
        } else if phase == Phase::Draining || self.stage != Stage::Open || self.ended {
            format!("the next stage after {:?}", self.stage)
        } else if wire.pong_due {
            "a pong".to_string()
        } else if let Some(asked) = self.asked.iter().next() {
            format!("an answer to {asked:?}")
        } else {
            let (pattern, seen) =
                self.seen.iter().find(|(pattern, seen)| !seen.is_complete(oracle, topics, pattern))?;
            let heads: Vec<_> = topics.iter().map(|topic| (topic, oracle.head(topic))).collect();
            format!("messages of {pattern}: {seen:?}, heads {heads:?}")
        };
        Some(format!("beholder {} on connection {}: {reason}", self.name, wire.conn))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let Some(wire) = &mut self.wire else {
            let again = scene.phase.is_lively() || (scene.phase == Phase::Settling && !self.resume.is_empty());
            if again && self.next_us <= scene.net.now_us() {
                self.connect(scene);
            }
            return;
        };
        wire.pace = self.pace;
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if flow != Flow::Open {
            self.lose(scene, flow);
            return;
        }
        if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
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
        if scene.phase == Phase::Settling {
            self.returns += 1;
            // A server that is full, or closes whoever is slow, may go on with that for ever.
            if self.returns > RETURNS_MAX {
                self.resume.clear();
                return;
            }
        }
        let shard = scene.rng.below(scene.plan.shards);
        let mut wire = Wire::open(scene.net, scene.rng, shard, self.pace);
        let packed = scene.rng.chance(300);
        wire.put_upgrade(scene.rng, "/ws", packed);
        self.wire = Some(wire);
        self.stage = Stage::Handshake;
        self.farewell = false;
        self.ended = false;
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
        if scene.plan.calm && scene.phase != Phase::Draining && self.stage == Stage::Open && !self.ended {
            panic!("beholder {}: {flow:?} without a reason", self.name);
        }
        if flow == Flow::Ended {
            let conn = self.wire.as_ref().expect("it was open").conn;
            if !self.ended {
                scene.net.client_close(conn);
            }
        }
        self.forget(scene);
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        for (pattern, seen) in std::mem::take(&mut self.seen) {
            if !seen.leaving {
                self.resume.insert(pattern, seen);
            }
        }
        self.asked.clear();
        self.wire = None;
        self.next_us = scene.pause_until_us();
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            if self.stage == Stage::Handshake {
                let Some(answer) = wire.take_answer(false) else { return };
                if answer.accepts_websocket() {
                    self.stage = Stage::Greeting;
                } else {
                    assert!(!scene.plan.calm || scene.phase == Phase::Draining, "refused without a reason: {answer:?}");
                    self.exit(scene, Exit::Close);
                }
                continue;
            }
            let Some(frame) = wire.take_frame() else { return };
            scene.say(|| format!("beholder {:>2} < {}", self.name, frame.brief()));
            match frame {
                Frame::Message { text, bytes } => {
                    assert!(!self.farewell, "a message after the server's close frame");
                    check_kind(text, &bytes);
                    self.line(scene, &bytes);
                }
                Frame::Ping(payload) if !self.ended => wire.put_frame(scene.rng, 10, &payload),
                Frame::Ping(_) | Frame::Pong(_) => {}
                Frame::Close(code) => {
                    self.farewell = true;
                    let excused = match code {
                        Some(1001) => scene.phase == Phase::Draining || self.ended || !scene.plan.calm,
                        Some(1008 | 1011 | 1013) => !scene.plan.calm,
                        _ => false,
                    };
                    assert!(excused, "beholder {}: close {code:?} without a reason", self.name);
                    if !self.ended {
                        wire.put_frame(scene.rng, 8, &code.unwrap_or(1000).to_be_bytes());
                    }
                    self.stage = Stage::Closing;
                }
            }
        }
    }

    fn line(&mut self, scene: &mut Scene<'_>, text: &[u8]) {
        let head_len = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        let head = std::str::from_utf8(&text[..head_len]).expect("a header line is UTF-8");
        let words: Vec<&str> = head.split(' ').collect();
        if self.stage == Stage::Greeting {
            assert_eq!(words[..2], ["HI", "corecast.v1"], "the first line");
            self.stage = Stage::Open;
            for (pattern, seen) in std::mem::take(&mut self.resume) {
                self.subscribe_again(scene, pattern, seen);
            }
            return;
        }
        let name = self.name;
        let known = |pattern: &str| format!("beholder {name}: {head:?} of {pattern}, which it does not read");
        match words.as_slice() {
            ["MSG", topic, cursor, rest @ ..] => {
                let topic = unescape(topic);
                let word = |name: &str| rest.iter().find_map(|word| word.strip_prefix(name));
                let of = unescape(word("of=").unwrap_or_else(|| panic!("{head:?} names its pattern")));
                assert!(pattern::matches(&of, &topic), "{head:?}");
                let seen = self.seen.get_mut(&of).unwrap_or_else(|| panic!("{}", known(&of)));
                assert!(seen.settled, "{head:?} before its OK");
                seen.message(scene.oracle, &topic, Cursor::parse(cursor), word("event="), &text[head_len + 1..]);
                match word("at=") {
                    Some(at) => seen.at(at),
                    None => assert!(!seen.ended, "{head:?} behind the end of what there was does not say where"),
                }
            }
            ["GAP", topic, from, to, count, reason, of] => {
                let (topic, of) = (unescape(topic), unescape(of.strip_prefix("of=").expect("its pattern")));
                scene.oracle.gaps += 1;
                let mut excused = !scene.plan.calm;
                if pattern::is_pattern(&topic) {
                    let seen = self.seen.get_mut(&topic).unwrap_or_else(|| panic!("{}", known(&topic)));
                    excused |= scene.plan.patient && seen.resumed;
                    assert_eq!([*from, *to, *count], ["00000000-0", "00000000-0", "0"], "{head:?}");
                    assert!(["expired", "overflow", "epoch"].contains(reason), "{head:?}");
                    assert!(*reason != "epoch" || scene.oracle.may_forget, "a new life of its own accord: {head:?}");
                    seen.loose = true;
                    seen.jumps = seen.topics.keys().cloned().collect();
                    seen.may_repeat |= *reason != "expired";
                    seen.ended = false;
                } else {
                    let (from, to) = (Cursor::parse(from), Cursor::parse(to));
                    assert_eq!(*reason, "expired", "{head:?}");
                    assert_eq!(
                        scene.oracle.numbers.between(from, to),
                        Some(count.parse().expect("a count")),
                        "{head:?}"
                    );
                    scene.oracle.check_exceeded(&topic, to);
                    let seen = self.seen.get_mut(&of).unwrap_or_else(|| panic!("{}", known(&of)));
                    let last = seen.topics.insert(topic.clone(), to);
                    let fits = last.is_none_or(|last| {
                        last == from || last.epoch != from.epoch || seen.loose || seen.jumps.contains(&topic)
                    });
                    assert!(fits, "beholder {name}: {head:?} behind {last:?}: {seen:?}");
                }
                assert!(excused, "beholder {name}: {head:?} without a reason");
            }
            ["EOS", pattern, places] => {
                let pattern = unescape(pattern);
                let seen = self.seen.get_mut(&pattern).unwrap_or_else(|| panic!("{}", known(&pattern)));
                assert!(seen.settled && !seen.ended, "{head:?} once: {seen:?}");
                seen.told_places(places);
                seen.ended = true;
                (seen.loose, seen.may_repeat) = (false, false);
            }
            ["OK", token, rest @ ..] => match (self.asked.remove(*token), rest) {
                (Some(Asked::Subscribe(pattern)), [places]) => {
                    let seen = self.seen.get_mut(&pattern).expect("it was asked for");
                    seen.told_places(places);
                    seen.settled = true;
                }
                (Some(Asked::Unsubscribe(pattern)), []) => {
                    self.seen.remove(&pattern);
                }
                asked => panic!("{head:?} for {asked:?}"),
            },
            ["ERR", token, code, ..] => {
                let strange =
                    scene.oracle.regime.is_some() && ["forbidden", "unauthorized", "unavailable"].contains(code);
                let excused = strange || !scene.plan.calm && ["full", "too-many"].contains(code);
                assert!(excused, "beholder {name}: {head:?}");
                match self.asked.remove(*token) {
                    Some(Asked::Subscribe(pattern)) => {
                        let seen = &self.seen[&pattern];
                        assert!(!seen.settled, "refused after it began");
                        if !seen.leaving {
                            self.seen.remove(&pattern);
                        }
                    }
                    Some(Asked::Unsubscribe(_)) => {}
                    asked => panic!("{head:?} for {asked:?}"),
                }
            }
            ["PONG", token] => assert!(matches!(self.asked.remove(*token), Some(Asked::Ping)), "{head:?}"),
            ["BYE", ..] => assert!(scene.phase == Phase::Draining || !scene.plan.calm, "{head:?} without a reason"),
            _ => panic!("beholder {name}: no line of the server is {head:?}"),
        }
    }

    fn token(&mut self, asked: Asked) -> String {
        self.tokens += 1;
        let token = format!("b{}", self.tokens);
        self.asked.insert(token.clone(), asked);
        token
    }

    fn say(&mut self, scene: &mut Scene<'_>, text: &str) {
        scene.say(|| format!("beholder {:>2} > {text}", self.name));
        if let Some(wire) = &mut self.wire {
            wire.put_message(scene.rng, text.as_bytes());
        }
    }

    fn subscribe(&mut self, scene: &mut Scene<'_>, pattern: String) {
        let live = scene.rng.chance(300);
        let floor = scene.plan.topics.iter().filter_map(|topic| Some((topic.clone(), scene.oracle.head(topic)?)));
        let seen = Seen { floor: floor.collect(), whole: !live, loose: !live, ..Seen::default() };
        let token = self.token(Asked::Subscribe(pattern.clone()));
        let since = if live { " since=live" } else { scene.rng.pick(&["", " since=latest"]) };
        self.say(scene, &format!("SUB {}{since} id={token}", escape(&pattern)));
        self.seen.insert(pattern, seen);
    }

    /// Goes on from where it was; what had not come to its end begins again.
    fn subscribe_again(&mut self, scene: &mut Scene<'_>, pattern: String, before: Seen) {
        if before.places.is_empty() {
            return self.subscribe(scene, pattern);
        }
        let token = self.token(Asked::Subscribe(pattern.clone()));
        let places = format!("{}-{}", before.life, before.places.join("."));
        let unfinished = !before.ended;
        let begins_again = unfinished && before.places.iter().any(|place| place.contains('!'));
        let jumps = if begins_again { before.topics.keys().cloned().collect() } else { before.jumps };
        let seen = Seen {
            jumps,
            loose: before.loose || unfinished && before.whole,
            may_repeat: begins_again || before.may_repeat,
            resumed: true,
            settled: false,
            ended: false,
            leaving: false,
            ..before
        };
        self.say(scene, &format!("SUB {} since={places} id={token}", escape(&pattern)));
        self.seen.insert(pattern, seen);
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        match scene.rng.below(100) {
            0..50 => {
                let pattern = scene.rng.pick(&PATTERNS).to_owned();
                if !self.seen.contains_key(&pattern) && self.seen.len() < 3 {
                    self.subscribe(scene, pattern);
                }
            }
            50..58 => {
                let staying = self.seen.iter_mut().find(|(_, seen)| !seen.leaving);
                if let Some((pattern, seen)) = staying {
                    seen.leaving = true;
                    let pattern = pattern.clone();
                    let token = self.token(Asked::Unsubscribe(pattern.clone()));
                    self.say(scene, &format!("UNSUB {} id={token}", escape(&pattern)));
                }
            }
            58..66 => {
                let token = self.token(Asked::Ping);
                self.say(scene, &format!("PING {token}"));
            }
            66..72 => {
                let exit = Exit::draw(scene.rng);
                self.exit(scene, exit);
            }
            _ => {}
        }
    }
}
