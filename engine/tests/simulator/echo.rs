//! A client of `GET /echo`: what it sends must come back, each message once, in order, unchanged.

use std::collections::VecDeque;

use crate::client::{Exit, Phase, Scene};
use crate::net::{ConnId, Net};
use crate::rng::Rng;
use crate::wire::{Flow, Frame, Pace, Wire};

#[derive(Debug)]
pub(crate) struct EchoClient {
    name: usize,
    wire: Option<Wire>,
    open: bool,
    closing: bool,
    /// The server sent its close frame.
    farewell: bool,
    ended: bool,
    pace: Pace,
    /// Sent, and not back yet.
    away: VecDeque<(bool, Vec<u8>)>,
    next_us: u64,
}

impl EchoClient {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool) -> EchoClient {
        EchoClient {
            name,
            wire: None,
            open: false,
            closing: false,
            farewell: false,
            ended: false,
            pace: if calm { Pace::FAST } else { Pace::draw(rng) },
            away: VecDeque::new(),
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

    pub(crate) fn waits_for(&self, phase: Phase) -> Option<String> {
        let wire = self.wire.as_ref()?;
        let due = !self.away.is_empty() || wire.pong_due;
        let waits = due || !self.open || self.closing || self.ended || phase == Phase::Draining;
        let (name, conn, away) = (self.name, wire.conn, self.away.len());
        waits.then(|| format!("echo client {name} on connection {conn}: {away} messages, open {}", self.open))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let Some(wire) = &mut self.wire else {
            if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
                let shard = scene.rng.below(scene.plan.shards);
                let mut wire = Wire::open(scene.net, scene.rng, shard, self.pace);
                let packed = scene.rng.chance(300);
                wire.put_upgrade(scene.rng, "/echo", packed);
                self.wire = Some(wire);
                (self.open, self.closing, self.ended) = (false, false, false);
                self.farewell = false;
            }
            return;
        };
        wire.pace = self.pace;
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if flow != Flow::Open {
            let excused = self.closing || self.ended || !scene.plan.calm || scene.phase == Phase::Draining;
            assert!(excused, "echo client {}: {flow:?} without a reason", self.name);
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

    fn forget(&mut self, scene: &mut Scene<'_>) {
        self.wire = None;
        self.away.clear();
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

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            if !self.open {
                let Some(answer) = wire.take_answer(false) else { return };
                if answer.accepts_websocket() {
                    self.open = true;
                } else {
                    assert!(!scene.plan.calm || scene.phase == Phase::Draining, "refused without a reason: {answer:?}");
                    self.exit(scene, Exit::Close);
                }
                continue;
            }
            let Some(frame) = wire.take_frame() else { return };
            match frame {
                Frame::Message { text, bytes } => {
                    assert!(!self.farewell, "a message after the server's close frame");
                    let sent = self.away.pop_front().expect("nothing comes back that was not sent");
                    assert!((text, bytes) == sent, "echo client {}: {} bytes changed", self.name, sent.1.len());
                }
                Frame::Ping(payload) if !self.ended => wire.put_frame(scene.rng, 10, &payload),
                Frame::Ping(_) => {}
                Frame::Pong(_) => {}
                Frame::Close(code) => {
                    let excused = self.closing
                        || (code == Some(1001) && scene.phase == Phase::Draining)
                        || (matches!(code, Some(1008 | 1013)) && !scene.plan.calm);
                    assert!(excused, "echo client {}: close {code:?} without a reason", self.name);
                    if !self.closing && !self.ended {
                        wire.put_frame(scene.rng, 8, &code.unwrap_or(1000).to_be_bytes());
                    }
                    self.closing = true;
                    self.farewell = true;
                }
            }
        }
    }

    fn act(&mut self, scene: &mut Scene<'_>) {
        match scene.rng.below(100) {
            0..60 => {
                for _ in 0..scene.rng.skewed(5) {
                    let len = if scene.rng.chance(100) { 0 } else { scene.payload_len() };
                    let binary = scene.rng.chance(300);
                    let byte = |rng: &mut Rng| if binary { rng.next() as u8 } else { rng.pick(b"echo \"") };
                    let payload: Vec<u8> = (0..len).map(|_| byte(scene.rng)).collect();
                    let Some(wire) = &mut self.wire else { return };
                    let text = wire.put_message(scene.rng, &payload);
                    self.away.push_back((text, payload));
                }
            }
            60..62 => {
                if let Some(wire) = &mut self.wire {
                    wire.put_frame(scene.rng, 8, &1000u16.to_be_bytes());
                }
                self.closing = true;
            }
            62..64 => {
                let exit = Exit::draw(scene.rng);
                self.exit(scene, exit);
            }
            _ => {}
        }
    }
}
