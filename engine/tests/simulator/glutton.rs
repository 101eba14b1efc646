//! A client that polls whole histories, again as soon as it has an answer, some of them several at once: it does what it may, and
//! others must not feel it.

use std::collections::VecDeque;

use crate::ask::{Ask, Start, Transport};
use crate::client::{Exit, Phase, Scene};
use crate::following::Following;
use crate::net::{ConnId, Net};
use crate::oracle::Since;
use crate::reading::{News, Reading};
use crate::rng::Rng;
use crate::wire::{Flow, Pace, Wire};

#[derive(Debug)]
pub(crate) struct Glutton {
    name: usize,
    wire: Option<Wire>,
    /// What it asked for, and what must come.
    asked: VecDeque<(Reading, Following)>,
    /// Requests that it has under way at once.
    depth: usize,
    /// The server said that this connection ends.
    closing: bool,
    ended: bool,
    pace: Pace,
    next_us: u64,
}

impl Glutton {
    pub(crate) fn new(name: usize, rng: &mut Rng) -> Glutton {
        Glutton {
            name,
            wire: None,
            asked: VecDeque::new(),
            depth: rng.pick(&[1, 1, 1, 2, 8]),
            closing: false,
            ended: false,
            pace: if rng.chance(800) { Pace::FAST } else { Pace::draw(rng) },
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
        let hungry = self.wire.is_none() || self.asked.len() < self.depth && !self.closing && !self.ended;
        (phase.is_lively() && hungry).then_some(self.next_us)
    }

    pub(crate) fn waits_for(&self, phase: Phase) -> Option<String> {
        let wire = self.wire.as_ref()?;
        let waits = !self.asked.is_empty() || phase == Phase::Draining || self.ended || self.closing;
        waits.then(|| format!("glutton {} on connection {}: {} answers", self.name, wire.conn, self.asked.len()))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let Some(wire) = &mut self.wire else {
            if scene.phase.is_lively() && self.next_us <= scene.net.now_us() {
                let shard = scene.rng.below(scene.plan.shards);
                self.wire = Some(Wire::open_roomy(scene.net, shard, self.pace));
            }
            return;
        };
        wire.pace = self.pace;
        let flow = wire.flow(scene.net, scene.rng);
        self.read(scene);
        if flow != Flow::Open {
            self.lose(scene, flow);
        } else if scene.phase.is_lively() && scene.rng.chance(2) {
            let exit = Exit::draw(scene.rng);
            self.exit(scene, exit);
        } else if scene.phase.is_lively() {
            while self.ask(scene) {}
            // It loses no time: what it asks for is written in the same step.
            if let Some(wire) = &mut self.wire {
                wire.write(scene.net, scene.rng);
            }
        }
    }

    /// Sends another request, if it has fewer under way than it may; says whether it did.
    fn ask(&mut self, scene: &mut Scene<'_>) -> bool {
        // All want the same, so that one home has to serve them all.
        let topic = scene.plan.topics[0].clone();
        let Some(wire) = &mut self.wire else { return false };
        if self.asked.len() >= self.depth || self.closing || self.ended || wire.is_stuffed() {
            return false;
        }
        let since = scene.rng.pick(&[Since::Earliest, Since::Earliest, Since::Last(64)]);
        let mut following = Following::new(vec![topic], since);
        let ask = Ask::new(Transport::Poll, following.topics.clone(), Start::Since(since.to_string()));
        following.asked(scene.oracle, &ask);
        self.asked.push_back((Reading::begin(ask, wire, scene.rng), following));
        true
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let (Some(wire), Some((reading, following))) = (&mut self.wire, self.asked.front_mut()) {
            let Some(news) = reading.next(wire, scene.rng) else { return };
            match news {
                News::Begun => self.closing |= reading.closing,
                News::Item(item) => following.item(scene.oracle, item),
                News::Refused => {
                    self.closing |= reading.closing;
                    self.asked.pop_front();
                }
                News::Over => {
                    following.parted(scene.oracle);
                    self.asked.pop_front();
                }
            }
        }
    }

    /// The server ended the connection: it is full, finishes, or was asked for too little for too long.
    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        if let (Flow::Ended, Some(wire), false) = (flow, &self.wire, self.ended) {
            scene.net.client_close(wire.conn);
        }
        self.forget(scene);
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        self.wire = None;
        self.asked.clear();
        (self.closing, self.ended) = (false, false);
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
