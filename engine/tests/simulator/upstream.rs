//! Somebody in a world who numbers what it publishes, and loses its connection all the time: each of its messages must stand in its topic once, and
//! in its order, or it is told why not.
//!
//! Owns: what it has published and was not told of. It comes back on any shard, and sends that again, as it was and in its order. To the
//! oracle all its connections are one, so that order and cursors are judged over all of them.

use std::collections::BTreeMap;

use crate::client::{Phase, Plan, Scene};
use crate::line::escape;
use crate::net::{ConnId, Net, SharedNet};
use crate::oracle::{Cursor, Oracle, PayloadId};
use crate::regime::Shown;
use crate::rng::Rng;
use crate::wire::{Flow, Frame, Pace, Wire};

/// Messages that it has unanswered at most: fewer than cursors are remembered.
const WAITING_MAX: usize = 40;

/// So often it comes back once the faults are over.
const RETURNS_MAX: u32 = 8;

/// Times that it is refused on a connection once the faults are over, before it gives up.
const REFUSED_MAX: u32 = 20;

/// What the oracle knows its connections by: no connection has such a number.
const CONN: usize = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is to be sent, or sent again.
    Due,
    /// It was sent on this connection, and was not answered.
    Sent,
}

#[derive(Debug)]
struct Message {
    topic: String,
    number: u64,
    id: PayloadId,
    event: String,
    bytes: Vec<u8>,
    state: State,
    /// Times that it was sent.
    sent: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Greeting,
    Open,
}

/// Those of a world; what they do is drawn apart, so that worlds are otherwise those that they were without them.
#[derive(Debug)]
pub(crate) struct Upstreams {
    all: Vec<Upstream>,
    rng: Rng,
}

impl Upstreams {
    /// Draws some for half of the worlds that have room for them.
    pub(crate) fn draw(seed: u64, room: bool) -> Upstreams {
        let mut rng = Rng::new(seed.rotate_left(5));
        let count = if room && rng.chance(500) { 1 + rng.below(3) } else { 0 };
        Upstreams { all: (0..count).map(Upstream::new).collect(), rng }
    }

    /// Lets those act who have something to do; says whether anybody had.
    pub(crate) fn act(
        &mut self,
        net: &SharedNet,
        oracle: &mut Oracle,
        plan: &Plan,
        phase: Phase,
        phase_us: u64,
    ) -> bool {
        let mut acted = false;
        let net = &mut *net.borrow_mut();
        oracle.now_us = net.now_us();
        for upstream in &mut self.all {
            if upstream.has_work(net, phase) {
                acted = true;
                upstream.act(&mut Scene { net, oracle, rng: &mut self.rng, plan, phase, phase_us });
            }
        }
        acted
    }

    pub(crate) fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.all.iter().filter_map(|upstream| upstream.wire.as_ref()).map(|wire| wire.conn)
    }

    pub(crate) fn next_due_us(&self, phase: Phase) -> Option<u64> {
        self.all.iter().filter_map(|upstream| upstream.next_due_us(phase)).min()
    }

    /// Says who was not told of something.
    pub(crate) fn waits(&self, phase: Phase) -> Option<String> {
        self.all.iter().find_map(|upstream| upstream.waits(phase))
    }
}

#[derive(Debug)]
struct Upstream {
    name: usize,
    /// Names that it has had.
    names: u32,
    wire: Option<Wire>,
    stage: Stage,
    /// By topic: the newest number.
    numbers: BTreeMap<String, u64>,
    /// In the order of their numbers.
    waiting: Vec<Message>,
    next_us: u64,
    returns: u32,
    refused: u32,
}

impl Upstream {
    fn new(name: usize) -> Upstream {
        Upstream {
            name,
            names: 0,
            wire: None,
            stage: Stage::Handshake,
            numbers: BTreeMap::new(),
            waiting: Vec::new(),
            next_us: 0,
            returns: 0,
            refused: 0,
        }
    }

    fn wants_to_act(&self, phase: Phase) -> bool {
        match (phase, &self.wire) {
            (Phase::Busy | Phase::Churning, _) => true,
            // Not only once hours have passed, when nobody knows it any more.
            (Phase::Patient | Phase::Settling, None) => !self.waiting.is_empty(),
            (Phase::Patient | Phase::Settling, Some(_)) => self.is_due(),
            _ => false,
        }
    }

    /// Says whether something is to be sent: as long as answers are on their way, nothing is sent again.
    fn is_due(&self) -> bool {
        let any = |state| self.waiting.iter().any(|message| message.state == state);
        self.stage == Stage::Open && any(State::Due) && !any(State::Sent)
    }

    fn next_due_us(&self, phase: Phase) -> Option<u64> {
        self.wants_to_act(phase).then_some(self.next_us)
    }

    fn has_work(&self, net: &Net, phase: Phase) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.has_work(net))
            || self.next_due_us(phase).is_some_and(|due_us| due_us <= net.now_us())
    }

    fn waits(&self, phase: Phase) -> Option<String> {
        let waits = phase == Phase::Settling && !self.waiting.is_empty();
        waits.then(|| format!("upstream {}: answers to {:?}", self.name, self.waiting.first()))
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        let due = self.next_us <= scene.net.now_us();
        let Some(wire) = &mut self.wire else {
            if due && self.wants_to_act(scene.phase) {
                self.connect(scene);
            }
            return;
        };
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if self.wire.is_some() && flow != Flow::Open {
            self.lose(scene);
        }
        if due && self.wire.is_some() && self.wants_to_act(scene.phase) {
            self.next_us = scene.pause_until_us();
            if scene.phase.is_lively() && scene.rng.chance(60) {
                self.lose(scene);
            } else if self.stage == Stage::Open {
                self.publish(scene);
            }
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        if scene.phase == Phase::Settling {
            self.returns += 1;
            // A server that is full, or closes whoever is slow, may go on with that for ever.
            if self.returns > RETURNS_MAX {
                return self.give_up(scene);
            }
        }
        let shard = scene.rng.below(scene.plan.shards);
        let mut wire = Wire::open(scene.net, scene.rng, shard, Pace::FAST);
        // Whoever shows something now and then would be another producer each time.
        wire.shows = Some(Shown::default());
        wire.put_upgrade(scene.rng, "/ws", false);
        (self.wire, self.stage) = (Some(wire), Stage::Handshake);
        self.next_us = scene.pause_until_us();
    }

    fn give_up(&mut self, scene: &Scene<'_>) {
        assert!(!scene.plan.calm, "upstream {}: nobody takes {:?}", self.name, self.waiting.first());
        self.waiting.clear();
    }

    /// Cuts its connection, whatever is on its way; the server may read some of it much later.
    fn lose(&mut self, scene: &mut Scene<'_>) {
        let Some(wire) = self.wire.take() else { return };
        match scene.rng.below(3) {
            0 => scene.net.client_close(wire.conn),
            purge => scene.net.client_reset(wire.conn, purge == 1),
        }
        self.waiting.iter_mut().for_each(|message| message.state = State::Due);
        self.next_us = scene.pause_until_us();
    }

    /// Publishes something new, and what has to be sent again before that.
    fn publish(&mut self, scene: &mut Scene<'_>) {
        if self.is_due() {
            self.send(scene);
        }
        let free = self.waiting.iter().all(|message| message.state == State::Sent);
        if scene.phase != Phase::Busy || !free || self.waiting.len() >= WAITING_MAX {
            return;
        }
        for _ in 0..scene.rng.skewed(12) {
            let topic = scene.plan.topics[scene.rng.below(scene.plan.topics.len().min(2))].clone();
            let len = scene.payload_len();
            let sent = scene.oracle.publish(scene.rng, &topic, CONN + self.name, len);
            let number = self.numbers.entry(topic.clone()).or_default();
            *number += 1;
            let event = sent.event.map_or(String::new(), |event| format!(" event={event}"));
            let (number, id, bytes) = (*number, sent.id, sent.bytes);
            self.waiting.push(Message { topic, number, id, event, bytes, state: State::Due, sent: 0 });
        }
        self.send(scene);
    }

    fn send(&mut self, scene: &mut Scene<'_>) {
        let Some(wire) = &mut self.wire else { return };
        for message in self.waiting.iter_mut().filter(|message| message.state == State::Due) {
            let Message { topic, number, event, bytes, .. } = message;
            let producer = format!("up{}.{}", self.name, self.names);
            let topic = escape(topic);
            let head = format!("PUB {topic} producer={producer} n={number}{event} id={number}@{topic}\n");
            if scene.plan.trace {
                eprintln!("{:>12} up   {:>2} > {}", scene.net.now_us(), self.name, head.trim_end());
            }
            wire.put_message(scene.rng, &[head.as_bytes(), bytes].concat());
            message.state = State::Sent;
            message.sent += 1;
        }
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            if self.stage == Stage::Handshake {
                let Some(answer) = wire.take_answer(false) else { return };
                if !answer.accepts_websocket() {
                    return self.lose(scene);
                }
                self.stage = Stage::Greeting;
                continue;
            }
            let Some(frame) = wire.take_frame() else { return };
            if scene.plan.trace {
                eprintln!("{:>12} up   {:>2} < {}", scene.net.now_us(), self.name, frame.brief());
            }
            match frame {
                Frame::Message { bytes, .. } => {
                    self.hear(scene, std::str::from_utf8(&bytes).expect("answers are text"));
                }
                Frame::Ping(payload) => wire.put_frame(scene.rng, 10, &payload),
                Frame::Pong(_) => {}
                Frame::Close(_) => self.lose(scene),
            }
        }
    }

    fn hear(&mut self, scene: &mut Scene<'_>, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["HI", ..] => {
                self.stage = Stage::Open;
                self.next_us = scene.net.now_us();
            }
            ["OK", token, rest @ ..] => self.published(scene, token, rest),
            ["ERR", token, code, text @ ..] => self.refused(scene, token, code, text),
            ["BYE", ..] => {}
            _ => panic!("upstream {}: {line:?} was not asked for", self.name),
        }
    }

    fn place(&self, token: &str) -> usize {
        let (number, topic) = token.split_once('@').expect("a token of ours");
        let is_it = |message: &Message| message.number.to_string() == number && escape(&message.topic) == topic;
        let place = self.waiting.iter().position(is_it);
        place.unwrap_or_else(|| panic!("upstream {}: {token} was not asked for", self.name))
    }

    fn published(&mut self, scene: &mut Scene<'_>, token: &str, rest: &[&str]) {
        let place = self.place(token);
        let Message { topic, number, id, sent, .. } = self.waiting.remove(place);
        let before = self.waiting.iter().find(|message| message.topic == topic && message.number < number);
        assert!(before.is_none(), "{topic}: number {number} stands there, and not {before:?}");
        match rest {
            [cursor] => scene.oracle.answered(id, Cursor::parse(cursor)),
            [cursor, "repeated"] => {
                assert!(sent > 1, "{topic}: number {number} was sent once, and is said to be a repeat");
                scene.oracle.answered(id, Cursor::parse(cursor));
            }
            [] => assert!(sent > 1, "{topic}: number {number} was sent once, and is said to be a repeat"),
            rest => panic!("OK {token} {rest:?}"),
        }
    }

    fn refused(&mut self, scene: &mut Scene<'_>, token: &str, code: &str, text: &[&str]) {
        let place = self.place(token);
        let Message { topic, number, .. } = &self.waiting[place];
        match code {
            "out-of-order" => {
                let next: u64 = text[0].parse().expect("the next number");
                if next == 1 && *number > 1 && self.waiting.iter().all(|m| m.topic != *topic || m.number > 1) {
                    // It is not known any more: it was away for long, or the clock has jumped.
                    assert!(!scene.plan.calm || scene.plan.patient, "{token} is forgotten without a reason");
                    self.waiting.clear();
                    self.numbers.clear();
                    self.names += 1;
                    return self.lose(scene);
                }
                let is_ours = self.waiting.iter().any(|message| message.topic == *topic && message.number == next);
                assert!(next < *number && is_ours, "{topic}: {number} came, {next} is said to be next");
            }
            "full" | "rate" | "too-many" => assert!(!scene.plan.calm, "ERR {token} {code}"),
            "draining" => assert!(scene.phase == Phase::Draining, "ERR {token} {code}"),
            _ => panic!("ERR {token} {code} {text:?}"),
        }
        self.waiting[place].state = State::Due;
        self.next_us = scene.pause_until_us().max(scene.net.now_us() + 1_000);
        if scene.phase == Phase::Settling {
            self.refused += 1;
            if self.refused > REFUSED_MAX {
                self.give_up(scene);
                self.lose(scene);
            }
        }
    }
}
