//! A client of one raw topic (`GET /topics/{topic}` with an upgrade): every frame is a payload, in both directions.
//!
//! Such a client learns no cursors. Its messages are judged at the end, by the cursors that others saw.

use crate::client::{Exit, Phase, Scene};
use crate::net::{ConnId, Net};
use crate::oracle::{Oracle, PayloadId};
use crate::rng::Rng;
use crate::wire::{Flow, Frame, Pace, Wire, check_kind};

#[derive(Debug)]
pub(crate) struct RawClient {
    name: usize,
    wire: Option<Wire>,
    open: bool,
    closing: bool,
    /// The server sent its close frame.
    farewell: bool,
    ended: bool,
    pace: Pace,
    topic: String,
    /// Starts with what is there, so the newest message must come.
    from_snapshot: bool,
    /// Wants the newest only, and is not told of what it does not get.
    conflates: bool,
    received: Vec<PayloadId>,
    next_us: u64,
}

impl RawClient {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool) -> RawClient {
        RawClient {
            name,
            wire: None,
            open: false,
            closing: false,
            farewell: false,
            ended: false,
            pace: if calm { Pace::FAST } else { Pace::draw(rng) },
            topic: String::new(),
            from_snapshot: false,
            conflates: false,
            received: Vec::new(),
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
        let reason = if wire.has_unwritten() {
            "its bytes to be taken".to_string()
        } else if phase == Phase::Draining || self.closing || self.ended {
            "the server to close".to_string()
        } else if !self.open {
            "the handshake".to_string()
        } else if wire.pong_due {
            "a pong".to_string()
        } else if self.is_complete(oracle) {
            return None;
        } else {
            format!("messages of {}, last {:?}, head {:?}", self.topic, self.received.last(), oracle.head(&self.topic))
        };
        Some(format!("raw client {} on connection {}: {reason}", self.name, wire.conn))
    }

    /// Says whether the newest message is the last that came, as far as anybody can tell.
    fn is_complete(&self, oracle: &Oracle) -> bool {
        let Some(head) = oracle.head(&self.topic) else {
            return true;
        };
        match self.received.last() {
            // Where even the newest message may be forgotten, it goes without a word.
            Some(_) if self.conflates && oracle.may_forget => true,
            Some(last) => oracle.cursor_of(*last).is_none_or(|last| last.epoch != head.epoch || last.seq == head.seq),
            None => !self.from_snapshot || head.seq == 0 || oracle.may_forget,
        }
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let Some(wire) = &mut self.wire else {
            if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
                self.connect(scene);
            }
            return;
        };
        wire.pace = self.pace;
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if flow != Flow::Open {
            let excused = self.closing || self.ended || !scene.plan.calm || scene.phase == Phase::Draining;
            assert!(excused, "raw client {}: {flow:?} without a reason", self.name);
            if let (Flow::Ended, Some(wire), false) = (flow, &self.wire, self.ended) {
                scene.net.client_close(wire.conn);
            }
            self.forget(scene);
        } else if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
            self.next_us = scene.pause_until_us();
            let stuffed = self.wire.as_ref().is_some_and(Wire::is_stuffed);
            if !stuffed && self.open && !self.closing && !self.ended {
                self.act(scene);
            } else if scene.rng.chance(20) {
                self.exit(scene, Exit::Reset);
            }
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        let shard = scene.rng.below(scene.plan.shards);
        self.topic = scene.topic();
        let since = scene.rng.pick(&["", "?since=live", "?since=earliest", "?since=-5", "?since=latest&conflate"]);
        self.from_snapshot = since != "?since=live";
        self.conflates = since.ends_with("conflate");
        let mut wire = Wire::open(scene.net, scene.rng, shard, self.pace);
        let packed = scene.rng.chance(300);
        wire.put_upgrade(scene.rng, &format!("/topics/{}{since}", escape_url(&self.topic)), packed);
        self.wire = Some(wire);
        self.open = false;
        self.closing = false;
        self.farewell = false;
        self.ended = false;
        self.received.clear();
        self.next_us = scene.pause_until_us();
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        self.wire = None;
        self.next_us = scene.pause_until_us();
        scene.oracle.saw_raw(&self.topic, std::mem::take(&mut self.received));
    }

    /// Hands over what came, at the end of the run.
    pub(crate) fn finish(&mut self, oracle: &mut Oracle) {
        oracle.saw_raw(&self.topic, std::mem::take(&mut self.received));
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            if !self.open {
                let Some(answer) = wire.take_answer(false) else {
                    return;
                };
                if answer.accepts_websocket() {
                    self.open = true;
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
                eprintln!("{:>12} raw {:>2} < {}", scene.net.now_us(), self.name, frame.brief());
            }
            match frame {
                Frame::Message { text, bytes: payload } => {
                    assert!(!self.farewell, "a message after the server's close frame");
                    check_kind(text, &payload);
                    let id = scene.oracle.identify(&self.topic, &payload);
                    assert!(!self.received.contains(&id), "raw client {}: payload {id} twice", self.name);
                    self.received.push(id);
                }
                Frame::Ping(payload) if !self.ended => wire.put_frame(scene.rng, 10, &payload),
                Frame::Ping(_) => {}
                Frame::Pong(_) => {}
                Frame::Close(code) => {
                    let excused = self.closing
                        || (code == Some(1001) && (scene.phase == Phase::Draining || self.ended))
                        || (matches!(code, Some(1001 | 1008 | 1011 | 1013)) && !scene.plan.calm);
                    assert!(excused, "raw client {}: close {code:?} without a reason", self.name);
                    if !self.closing && !self.ended {
                        wire.put_frame(scene.rng, 8, &code.unwrap_or(1000).to_be_bytes());
                    }
                    self.closing = true;
                    self.farewell = true;
                }
            }
        }
    }

    pub(crate) fn exit(&mut self, scene: &mut Scene<'_>, exit: Exit) {
        let Some(wire) = &mut self.wire else { return };
        if exit.leave(wire, scene) {
            self.forget(scene);
        } else {
            self.ended = true;
        }
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        match scene.rng.below(100) {
            0..30 if scene.phase != Phase::Busy => {}
            0..30 => {
                let burst = if scene.rng.chance(200) { scene.rng.skewed(40) } else { 1 };
                for _ in 0..burst {
                    let len = scene.payload_len();
                    let Some(wire) = &mut self.wire else { return };
                    let mut sent = scene.oracle.publish(scene.rng, &self.topic, wire.conn, len);
                    scene.oracle.without_event(&mut sent);
                    wire.put_message(scene.rng, &sent.bytes);
                }
            }
            30..33 => {
                if let Some(wire) = &mut self.wire {
                    wire.put_frame(scene.rng, 8, &1000u16.to_be_bytes());
                }
                self.closing = true;
            }
            33..36 => {
                let exit = Exit::draw(scene.rng);
                self.exit(scene, exit);
            }
            _ => {}
        }
    }
}

/// Escapes a topic for a URL.
pub(crate) fn escape_url(topic: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    topic.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
