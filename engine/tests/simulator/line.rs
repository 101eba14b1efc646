//! A client of the line protocol (`GET /ws`): subscribes, publishes, misbehaves, leaves and comes back.

use std::collections::BTreeMap;

use crate::client::{Exit, Phase, Scene};
use crate::net::{ConnId, Net};
use crate::oracle::{Cursor, Oracle, PayloadId, Since, Told, Watch};
use crate::rng::Rng;
use crate::wire::{Flow, Frame, Pace, Wire, check_kind};

/// So often a client comes back once the faults are over.
const RETURNS_MAX: u32 = 5;

/// What an answer with a token is for.
#[derive(Debug)]
enum Asked {
    Subscribe(String),
    Change,
    /// A subscription again, from another place: a new one in place of the old one.
    Restart(String, Since),
    Unsubscribe(String),
    Publish(PayloadId),
    TooLarge,
    Nonsense,
    Ping,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// `101` has not come.
    Handshake,
    /// `HI` has not come.
    Greeting,
    Open,
    /// We broke a rule: the server must close.
    Misbehaved,
    /// One of us sent a close frame.
    Closing,
}

#[derive(Debug)]
struct Subscribed {
    watch: Watch,
    /// SUB was answered.
    settled: bool,
    leaving: bool,
    /// It asked for so few messages that nobody can wait for the next one.
    slow: bool,
    /// It wants a message an hour, and has from the beginning.
    hourly: bool,
    /// When the last message came.
    heard_us: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct LineClient {
    name: usize,
    /// It listens, and does little else.
    quiet: bool,
    wire: Option<Wire>,
    stage: Stage,
    ended: bool,
    pace: Pace,
    subscribed: BTreeMap<String, Subscribed>,
    /// Subscriptions to take up again after a lost connection.
    resume: BTreeMap<String, Since>,
    asked: BTreeMap<String, Asked>,
    tokens: u64,
    next_us: u64,
    /// Times it tried to come back since the faults ended.
    returns: u32,
    /// The server sent its close frame.
    farewell: bool,
}

impl LineClient {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool, quiet: bool) -> LineClient {
        LineClient {
            name,
            quiet,
            wire: None,
            stage: Stage::Handshake,
            ended: false,
            pace: if calm || quiet { Pace::FAST } else { Pace::draw(rng) },
            subscribed: BTreeMap::new(),
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
            (Phase::Settling, Some(_)) if self.is_slow() => Some(self.next_us),
            _ => None,
        }
    }

    /// Says whether it has a subscription whose pace it will change, now that it wants what is left.
    fn is_slow(&self) -> bool {
        let slow = |subscribed: &Subscribed| subscribed.slow && subscribed.settled && !subscribed.leaving;
        self.stage == Stage::Open && !self.ended && self.subscribed.values().any(slow)
    }

    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle) -> Option<String> {
        let Some(wire) = &self.wire else {
            let waits = phase == Phase::Settling && !self.resume.is_empty();
            return waits.then(|| format!("line client {}: to come back", self.name));
        };
        let reason = if wire.has_unwritten() && self.stage != Stage::Misbehaved {
            "its bytes to be taken".to_string()
        } else if phase == Phase::Draining || self.stage != Stage::Open || self.ended {
            format!("the next stage after {:?}", self.stage)
        } else if wire.pong_due {
            "a pong".to_string()
        } else if let Some(asked) = self.asked.iter().next() {
            format!("an answer to {asked:?} and {} more", self.asked.len() - 1)
        } else if phase == Phase::Settling && self.is_slow() {
            "its turn to change a pace".to_string()
        } else {
            let behind = |subscribed: &&Subscribed| !subscribed.slow && !subscribed.watch.is_complete(oracle);
            let behind = self.subscribed.values().find(behind)?;
            format!("messages: {:?}, head {:?}", behind.watch, oracle.head(behind.watch.topic()))
        };
        Some(format!("line client {} on connection {}: {reason}", self.name, wire.conn))
    }

    /// Says what it has not got although it wants a message an hour, and an hour has passed.
    pub(crate) fn misses_after_hours(&self, oracle: &Oracle) -> Option<String> {
        let stands = self.wire.is_some() && self.stage == Stage::Open && !self.ended;
        let misses = |subscribed: &&Subscribed| {
            let waits = subscribed.hourly && subscribed.settled && !subscribed.leaving;
            waits && !subscribed.watch.is_complete(oracle)
        };
        let missing = self.subscribed.values().find(misses).filter(|_| stands)?;
        Some(format!("line client {}: {missing:?}, head {:?}", self.name, oracle.head(missing.watch.topic())))
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
        if scene.phase == Phase::Settling && self.is_slow() {
            self.hurry(scene);
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

    /// The server ended the connection.
    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        if scene.plan.calm && scene.phase != Phase::Draining && self.stage == Stage::Open && !self.ended {
            panic!("line client {}: {flow:?} without a reason", self.name);
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
        for (topic, subscribed) in std::mem::take(&mut self.subscribed) {
            if !subscribed.leaving {
                let since = subscribed.watch.last().map_or(Since::Latest, Since::After);
                self.resume.insert(topic, since);
            }
        }
        self.asked.clear();
        self.wire = None;
        self.next_us = scene.pause_until_us();
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            if self.stage == Stage::Handshake {
                let Some(answer) = wire.take_answer(false) else {
                    return;
                };
                if answer.accepts_websocket() {
                    self.stage = Stage::Greeting;
                } else {
                    assert!(!scene.plan.calm || scene.phase == Phase::Draining, "refused without a reason: {answer:?}");
                    self.exit(scene, Exit::Close);
                }
                continue;
            }
            let Some(frame) = wire.take_frame() else {
                return;
            };
            if scene.plan.trace {
                eprintln!("{:>12} line {:>2} < {}", scene.net.now_us(), self.name, frame.brief());
            }
            match frame {
                Frame::Message { text, bytes } => {
                    assert!(!self.farewell, "a message after the server's close frame");
                    check_kind(text, &bytes);
                    self.line(scene, &bytes);
                }
                Frame::Ping(payload) if !self.ended => wire.put_frame(scene.rng, 10, &payload),
                Frame::Ping(_) => {}
                Frame::Pong(_) => {}
                Frame::Close(code) => {
                    self.farewell = true;
                    self.closed(scene, code);
                }
            }
        }
    }

    fn closed(&mut self, scene: &mut Scene<'_>, code: Option<u16>) {
        let excused = match code {
            Some(1000) | None => self.stage == Stage::Closing,
            Some(1001) => scene.phase == Phase::Draining || self.ended || !scene.plan.calm,
            Some(1002 | 1007 | 1009) => self.stage == Stage::Misbehaved,
            Some(1008 | 1011 | 1013) => !scene.plan.calm,
            Some(_) => false,
        };
        assert!(excused, "line client {} in {:?}: close {code:?} without a reason", self.name, self.stage);
        if self.stage != Stage::Closing
            && !self.ended
            && let Some(wire) = &mut self.wire
        {
            wire.put_frame(scene.rng, 8, &code.unwrap_or(1000).to_be_bytes());
        }
        self.stage = Stage::Closing;
    }

    /// Understands one line of the server.
    fn line(&mut self, scene: &mut Scene<'_>, text: &[u8]) {
        let head_len = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        let head = std::str::from_utf8(&text[..head_len]).expect("a header line is UTF-8");
        let words: Vec<&str> = head.split(' ').collect();
        if self.stage == Stage::Greeting {
            assert_eq!(words[..2], ["HI", "corecast.v1"], "the first line");
            self.stage = Stage::Open;
            self.come_back(scene);
            return;
        }
        match words.as_slice() {
            ["MSG", topic, cursor, rest @ ..] => {
                let event = rest.first().map(|word| word.strip_prefix("event=").expect("only an event may follow"));
                assert!(rest.len() <= 1 && head_len < text.len(), "a message: {head:?}");
                let topic = unescape(topic);
                let Some(subscribed) = self.subscribed.get_mut(&topic) else {
                    panic!("line client {}: {head:?}, but it does not subscribe", self.name);
                };
                subscribed.watch.message(scene.oracle, Cursor::parse(cursor), event, &text[head_len + 1..]);
                let before_us = subscribed.heard_us.replace(scene.net.now_us());
                if let (true, Some(before_us)) = (subscribed.hourly, before_us) {
                    let after_us = scene.net.now_us() - before_us;
                    assert!(after_us > u64::from(HOUR_MS) * 1000 - EARLY_US_MAX, "{after_us} us later: {subscribed:?}");
                }
            }
            ["GAP", topic, from, to, count, reason] => {
                let topic = unescape(topic);
                let Some(subscribed) = self.subscribed.get_mut(&topic) else {
                    panic!("line client {}: {head:?}, but it does not subscribe", self.name);
                };
                let excused = !scene.plan.calm || *reason == "conflated" || !subscribed.watch.has_begun();
                assert!(excused, "line client {}: {head:?} without a reason", self.name);
                let told = Told { topic: &topic, from, to, count: count.parse().expect("a count"), reason };
                subscribed.watch.gap(scene.oracle, told);
            }
            ["OK", token, rest @ ..] => self.ok(scene, token, rest),
            ["ERR", token, code, ..] => self.err(scene, token, code),
            ["PONG", token] => {
                assert!(matches!(self.asked.remove(*token), Some(Asked::Ping)), "{head:?} was not asked for");
            }
            ["BYE", code, ..] => {
                let excused = scene.phase == Phase::Draining || !scene.plan.calm || self.stage == Stage::Misbehaved;
                assert!(excused, "BYE {code} without a reason");
            }
            _ => panic!("line client {}: no line of the server is {head:?}", self.name),
        }
    }

    fn ok(&mut self, scene: &mut Scene<'_>, token: &str, rest: &[&str]) {
        let Some(asked) = self.asked.remove(token) else { panic!("OK {token} was not asked for") };
        match (asked, rest) {
            (Asked::Subscribe(topic), [cursor]) => {
                let subscribed = self.subscribed.get_mut(&topic).expect("it was asked for");
                subscribed.watch.head_told(scene.oracle, Cursor::parse(cursor));
                subscribed.settled = true;
            }
            (Asked::Change, [] | [_]) => {}
            (Asked::Restart(topic, since), [cursor]) => {
                let subscribed = self.subscribed.get_mut(&topic).expect("it was asked for");
                subscribed.watch = Watch::new(&topic, since);
                subscribed.watch.head_told(scene.oracle, Cursor::parse(cursor));
                subscribed.settled = true;
            }
            (Asked::Unsubscribe(topic), []) => {
                self.subscribed.remove(&topic);
            }
            (Asked::Publish(id), [cursor]) => scene.oracle.answered(id, Cursor::parse(cursor)),
            (asked, rest) => panic!("OK {token} {rest:?} for {asked:?}"),
        }
    }

    fn err(&mut self, scene: &mut Scene<'_>, token: &str, code: &str) {
        let excused = |codes: &[&str]| codes.contains(&code) && !scene.plan.calm;
        if token == "-" {
            assert!(excused(&["full", "rate"]), "ERR - {code}");
            return;
        }
        match self.asked.remove(token) {
            Some(Asked::Subscribe(topic)) => {
                assert!(excused(&["full", "too-many"]), "ERR {code} for a subscription to {topic}");
                let subscribed = &self.subscribed[&topic];
                assert!(!subscribed.watch.has_begun(), "a subscription was refused after it began");
                // If it is leaving, the answer to UNSUB is on its way, and the topic is not free before.
                if !subscribed.leaving {
                    self.subscribed.remove(&topic);
                }
            }
            Some(Asked::Restart(topic, _)) => {
                assert!(excused(&["full"]), "ERR {code} for another start of {topic}");
                if !self.subscribed[&topic].leaving {
                    self.subscribed.remove(&topic);
                }
            }
            Some(Asked::Publish(id)) => {
                assert!(excused(&["full", "rate"]), "ERR {code} for {}", scene.oracle.describe(id));
                scene.oracle.refused(id);
            }
            Some(Asked::TooLarge) => assert_eq!(code, "too-large"),
            Some(Asked::Nonsense) => {
                assert!(["bad-command", "bad-topic"].contains(&code), "ERR {code}")
            }
            Some(Asked::Unsubscribe(_)) => assert!(excused(&["full"]), "ERR {code} for UNSUB"),
            asked => panic!("ERR {token} {code} for {asked:?}"),
        }
    }

    fn token(&mut self, asked: Asked) -> String {
        self.tokens += 1;
        let token = format!("t{}", self.tokens);
        self.asked.insert(token.clone(), asked);
        token
    }

    fn say(&mut self, scene: &mut Scene<'_>, text: &[u8]) {
        if scene.plan.trace {
            let head = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            eprintln!("{:>12} line {:>2} > {}", scene.net.now_us(), self.name, String::from_utf8_lossy(head));
        }
        if let Some(wire) = &mut self.wire {
            wire.put_message(scene.rng, text);
        }
    }

    fn come_back(&mut self, scene: &mut Scene<'_>) {
        for (topic, since) in std::mem::take(&mut self.resume) {
            self.subscribe(scene, topic, since);
        }
    }

    pub(crate) fn subscribes(&self, topic: &str) -> bool {
        self.subscribed.contains_key(topic)
    }

    pub(crate) fn subscribe(&mut self, scene: &mut Scene<'_>, topic: String, since: Since) {
        let token = self.token(Asked::Subscribe(topic.clone()));
        let permille = if self.quiet || !scene.phase.is_lively() { 0 } else { 150 };
        let may = scene.plan.patient && since == Since::Live && scene.phase.is_lively();
        let hourly = may && (self.quiet || scene.rng.chance(700));
        let drawn = if hourly { Options::hourly() } else { Options::draw(scene.rng, permille) };
        let Options { text: options, slow } = drawn;
        let since_word = match since {
            Since::Latest if scene.rng.chance(500) => String::new(),
            since => format!(" since={since}"),
        };
        self.say(scene, format!("SUB {}{since_word}{options} id={token}", escape(&topic)).as_bytes());
        let watch = Watch::new(&topic, since);
        let subscribed = Subscribed { watch, settled: false, leaving: false, slow, hourly, heard_us: None };
        self.subscribed.insert(topic, subscribed);
    }

    fn publish(&mut self, scene: &mut Scene<'_>) {
        let topic = scene.topic();
        let len = scene.payload_len();
        self.publish_to(scene, &topic, len);
    }

    pub(crate) fn publish_to(&mut self, scene: &mut Scene<'_>, topic: &str, len: usize) {
        let conn = self.wire.as_ref().expect("only an open client publishes").conn;
        let sent = scene.oracle.publish(scene.rng, topic, conn, len);
        let id =
            if scene.rng.chance(800) { format!(" id={}", self.token(Asked::Publish(sent.id))) } else { String::new() };
        let event = sent.event.map_or(String::new(), |event| format!(" event={event}"));
        let mut text = format!("PUB {}{event}{id}\n", escape(topic)).into_bytes();
        text.extend_from_slice(&sent.bytes);
        self.say(scene, &text);
    }

    /// Listens to one topic, and now and then goes away or begins anew.
    fn listen(&mut self, scene: &mut Scene<'_>) {
        if self.subscribed.is_empty() {
            let topic = scene.topic();
            self.subscribe(scene, topic, Since::Live);
        } else if scene.plan.patient {
            // It waits for its hour.
        } else if scene.rng.chance(100) {
            self.unsubscribe(scene, 1);
        } else if scene.rng.chance(20) {
            self.exit(scene, Exit::Reset);
        }
    }

    /// Leaves so many topics, or all that it has.
    pub(crate) fn unsubscribe(&mut self, scene: &mut Scene<'_>, count: usize) {
        let staying = self.subscribed.iter_mut().filter(|(_, subscribed)| !subscribed.leaving).take(count);
        let topics: Vec<String> = staying
            .map(|(topic, subscribed)| {
                subscribed.leaving = true;
                topic.clone()
            })
            .collect();
        for topic in topics {
            let token = self.token(Asked::Unsubscribe(topic.clone()));
            self.say(scene, format!("UNSUB {} id={token}", escape(&topic)).as_bytes());
        }
    }

    /// Wants what is left, at no pace or a short one.
    fn hurry(&mut self, scene: &mut Scene<'_>) {
        let slow = self
            .subscribed
            .iter_mut()
            .filter(|(_, subscribed)| subscribed.slow && subscribed.settled && !subscribed.leaving);
        let topics: Vec<String> = slow
            .map(|(topic, subscribed)| {
                subscribed.slow = false;
                subscribed.hourly = false;
                topic.clone()
            })
            .collect();
        for topic in topics {
            let every = scene.rng.pick(&["", " every=0", " every=20"]);
            let token = self.token(Asked::Change);
            self.say(scene, format!("SUB {}{every} id={token}", escape(&topic)).as_bytes());
        }
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        if self.quiet {
            self.listen(scene);
            return;
        }
        if scene.plan.broad && self.act_broadly(scene) {
            return;
        }
        match scene.rng.below(100) {
            0..40 if scene.phase != Phase::Busy => {}
            0..40 => {
                let burst = if scene.rng.chance(200) { scene.rng.skewed(40) } else { 1 };
                (0..burst).for_each(|_| self.publish(scene));
            }
            40..60 => {
                let topic = scene.topic();
                if !self.subscribed.contains_key(&topic) {
                    let live = scene.plan.patient && scene.rng.chance(500);
                    let since = if live { Since::Live } else { draw_since(scene.rng) };
                    self.subscribe(scene, topic, since);
                }
            }
            60..70 => self.unsubscribe(scene, 1),
            70..75 => self.change(scene),
            75..80 => {
                let token = self.token(Asked::Ping);
                self.say(scene, format!("PING {token}").as_bytes());
            }
            80..82 => {
                let token = self.token(Asked::Nonsense);
                let lines = ["SUB a//b", "SUB a since=yesterday", "UNSUB a x=y", "JUMP a", "SUB a/+b", "PUB a"];
                let line = scene.rng.pick(&lines);
                self.say(scene, format!("{line} id={token}").as_bytes());
            }
            82..83 if scene.plan.payload_bytes_max == scene.plan.message_bytes_max => {
                let token = self.token(Asked::TooLarge);
                let mut text = format!("PUB {} id={token}\n", escape(&scene.topic())).into_bytes();
                text.resize(text.len() + scene.plan.message_bytes_max + 1, b'x');
                self.say(scene, &text);
            }
            83..84 => self.misbehave(scene),
            84..86 => {
                if let Some(wire) = &mut self.wire {
                    wire.put_frame(scene.rng, 8, &1000u16.to_be_bytes());
                }
                self.stage = Stage::Closing;
            }
            86..88 => {
                let exit = Exit::draw(scene.rng);
                self.exit(scene, exit);
            }
            88..90 => {
                if let Some(wire) = &mut self.wire {
                    wire.put_pings(scene.rng);
                }
            }
            _ => {}
        }
    }

    /// Subscribes to what it subscribes to already: with other options, or from another place.
    fn change(&mut self, scene: &mut Scene<'_>) {
        let free = |subscribed: &Subscribed| subscribed.settled && !subscribed.leaving && !subscribed.hourly;
        let staying = self.subscribed.iter_mut().find(|(_, subscribed)| free(subscribed));
        let Some((topic, subscribed)) = staying else { return };
        let topic = topic.clone();
        let Options { text: options, slow } = Options::draw(scene.rng, 500);
        subscribed.slow = slow;
        if scene.rng.chance(400) {
            subscribed.settled = false;
            let since = draw_since(scene.rng);
            let token = self.token(Asked::Restart(topic.clone(), since));
            self.say(scene, format!("SUB {} since={since}{options} id={token}", escape(&topic)).as_bytes());
        } else {
            let token = self.token(Asked::Change);
            self.say(scene, format!("SUB {}{options} id={token}", escape(&topic)).as_bytes());
        }
    }

    /// Breaks a rule of RFC 6455: the server must close.
    fn misbehave(&mut self, scene: &mut Scene<'_>) {
        let Some(wire) = &mut self.wire else { return };
        match scene.rng.below(4) {
            0 => wire.put(&[0x81, 0x01, b'x']),
            1 => wire.put_frame(scene.rng, 0x80 | 3, b"reserved opcode"),
            2 => wire.put_frame(scene.rng, 0x81, &[b'a', 0xFF]),
            _ => wire.put_frame(scene.rng, 0x80, b"continues nothing"),
        }
        self.stage = Stage::Misbehaved;
    }
}

/// What a subscription may ask for besides its start.
struct Options {
    text: String,
    /// A message an hour, or less often.
    slow: bool,
}

impl Options {
    /// Wants a message an hour.
    fn hourly() -> Options {
        Options { text: format!(" every={HOUR_MS}"), slow: true }
    }

    /// Draws some of it, each so many times of a thousand.
    fn draw(rng: &mut Rng, permille: u32) -> Options {
        let conflate = if rng.chance(permille) { " conflate" } else { "" };
        let every_ms = if rng.chance(permille) { draw_every_ms(rng) } else { 0 };
        let every = if every_ms > 0 { format!(" every={every_ms}") } else { String::new() };
        Options { text: format!("{conflate}{every}"), slow: every_ms >= HOUR_MS }
    }
}

/// A message of a reader with a pace may come so much too early, as far as the reader can tell: the one before may have been read late.
const EARLY_US_MAX: u64 = 5_000_000;

/// A pace that few worlds last for.
pub(crate) const HOUR_MS: u32 = 3_600_000;

/// Draws the least time between two messages: mostly one that passes soon.
pub(crate) fn draw_every_ms(rng: &mut Rng) -> u32 {
    if rng.chance(200) { rng.pick(&[HOUR_MS, 24 * HOUR_MS, u32::MAX]) } else { rng.skewed(50) as u32 }
}

/// Draws where a reader starts.
pub(crate) fn draw_since(rng: &mut Rng) -> Since {
    match rng.below(6) {
        0 | 1 => Since::Latest,
        2 | 3 => Since::Live,
        4 => Since::Earliest,
        _ => Since::Last(rng.skewed(30) as u64),
    }
}

/// Escapes a topic as a word of the line protocol: spaces and `%` only.
pub(crate) fn escape(topic: &str) -> String {
    topic.replace('%', "%25").replace(' ', "%20")
}

pub(crate) fn unescape(word: &str) -> String {
    word.replace("%20", " ").replace("%25", "%")
}
