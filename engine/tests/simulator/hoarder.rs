//! A client that takes the server's memory and gives nothing for it: it begins bodies and messages and never ends them, or
//! subscribes to all there is and never reads. When it is refused, by name, it comes back for more.

use crate::client::{Exit, Phase, Scene};
use crate::line::escape;
use crate::net::{ConnId, Net};
use crate::rng::Rng;
use crate::wire::{Flow, Frame, Pace, Wire};

/// How it holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A body with a length that never comes.
    Body,
    /// A body in chunks, none of which is the last.
    Chunks,
    /// A message in fragments, none of which is the last.
    Fragments,
    /// Subscriptions of which nothing is read.
    Deafness,
}

#[derive(Debug)]
pub(crate) struct Hoarder {
    name: usize,
    way: Way,
    wire: Option<Wire>,
    /// What it holds is on its way: the handshake is over, if there is one.
    begun: bool,
    /// The server has said why it ends the connection.
    told: bool,
    next_us: u64,
}

impl Hoarder {
    pub(crate) fn new(name: usize, rng: &mut Rng) -> Hoarder {
        let way = rng.pick(&[Way::Body, Way::Chunks, Way::Fragments, Way::Fragments, Way::Deafness]);
        Hoarder { name, way, wire: None, begun: false, told: false, next_us: 0 }
    }

    pub(crate) fn has_work(&self, net: &Net, phase: Phase) -> bool {
        let due = self.next_due_us(phase).is_some_and(|due_us| due_us <= net.now_us());
        let Some(wire) = &self.wire else { return due };
        let writes = wire.has_unwritten() && net.client_has_room(wire.conn);
        due || writes || self.reads(phase) && wire.has_work(net)
    }

    /// Says whether it reads at all.
    fn reads(&self, phase: Phase) -> bool {
        self.way != Way::Deafness || !self.begun || !phase.is_lively()
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        self.wire.as_ref().map(|wire| wire.conn)
    }

    pub(crate) fn next_due_us(&self, phase: Phase) -> Option<u64> {
        match (&self.wire, phase) {
            (None, phase) if phase.is_lively() => Some(self.next_us),
            // It lets go of what it holds: others shall find nothing of it.
            (Some(_), Phase::Patient | Phase::Settling) => Some(0),
            _ => None,
        }
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        let reads = self.reads(scene.phase);
        let Some(wire) = &mut self.wire else {
            if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
                self.connect(scene);
            }
            return;
        };
        if matches!(scene.phase, Phase::Patient | Phase::Settling) {
            self.exit(scene, Exit::Close);
            return;
        }
        if reads {
            let flow = wire.flow(scene.net, scene.rng);
            self.read(scene);
            self.lose(scene, flow);
        } else {
            wire.write(scene.net, scene.rng);
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        let shard = scene.rng.below(scene.plan.shards);
        let conn = scene.net.connect(shard, 400_000, 2_000);
        let mut wire = Wire::over(conn, Pace::FAST);
        let held = scene.plan.message_bytes_max / 2 + scene.rng.below(scene.plan.message_bytes_max / 2);
        (self.begun, self.told) = (true, false);
        match self.way {
            Way::Body => {
                let length = scene.plan.message_bytes_max;
                wire.put(
                    format!("POST /topics/hoard HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
                );
                wire.put(&vec![b'h'; held]);
            }
            Way::Chunks => {
                wire.put(b"POST /topics/hoard HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n");
                wire.put(format!("{held:x}\r\n").as_bytes());
                wire.put(&vec![b'h'; held]);
            }
            Way::Fragments | Way::Deafness => {
                wire.put_upgrade(scene.rng, "/ws", false);
                self.begun = false;
            }
        }
        self.wire = Some(wire);
    }

    /// The handshake is over: begins what it has come for.
    fn begin(&mut self, scene: &mut Scene<'_>) {
        let Some(wire) = &mut self.wire else { return };
        self.begun = true;
        if self.way == Way::Deafness {
            for topic in &scene.plan.topics {
                wire.put_frame(scene.rng, 0x81, format!("SUB {} since=earliest", escape(topic)).as_bytes());
            }
            return;
        }
        let held = scene.plan.message_bytes_max / 2 + scene.rng.below(scene.plan.message_bytes_max / 2);
        wire.put_frame(scene.rng, 0x01, b"PUB hoard\n");
        let mut left = held;
        while left > 0 {
            let now = scene.rng.skewed(left).max(left.min(1_000));
            wire.put_frame(scene.rng, 0x00, &vec![b'h'; now]);
            left -= now;
        }
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let Some(wire) = &mut self.wire {
            if matches!(self.way, Way::Body | Way::Chunks) || !self.begun {
                let Some(answer) = wire.take_answer(false) else { return };
                if answer.status == 101 {
                    self.begin(scene);
                    continue;
                }
                assert!([408, 503].contains(&answer.status), "hoarder {}: {answer:?}", self.name);
                self.told = true;
                continue;
            }
            match wire.take_frame() {
                None => return,
                // It says that it lives, or it would be taken for dead before its message is late.
                Some(Frame::Ping(payload)) => wire.put_frame(scene.rng, 10, &payload),
                Some(Frame::Close(code)) => {
                    assert!(matches!(code, Some(1001 | 1008 | 1013)), "hoarder {}: close {code:?}", self.name);
                    self.told = true;
                }
                Some(Frame::Message { .. } | Frame::Pong(_)) => {}
            }
        }
    }

    /// Looks whether the server has ended the connection, which it must not do without a word.
    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        let Some(wire) = &self.wire else { return };
        if flow == Flow::Open && !self.told {
            return;
        }
        // A record of TLS that it never ends has to make way where memory is short, which only TLS can tell: in one try, as the connection
        // is over, and the kernel may take a part of it or nothing.
        let cut_off = flow == Flow::Reset && scene.net.client_speaks_tls(wire.conn);
        let told = self.told || scene.net.client_was_alerted(wire.conn) || cut_off;
        assert!(told || scene.phase == Phase::Draining, "hoarder {}: {flow:?} without a word", self.name);
        scene.net.client_close(wire.conn);
        self.wire = None;
        self.next_us = scene.pause_until_us();
    }

    pub(crate) fn exit(&mut self, scene: &mut Scene<'_>, exit: Exit) {
        let Some(wire) = &mut self.wire else { return };
        let exit = if exit == Exit::HalfClose { Exit::Close } else { exit };
        exit.leave(wire, scene);
        self.wire = None;
        self.next_us = scene.pause_until_us();
    }
}
