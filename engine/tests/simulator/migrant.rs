//! One logical reader of a topic that changes its transport at random, in mid-stream, and is cut off at any byte: however
//! a run of messages is split into requests, what arrives is what was published, in order, or a gap that tells exactly
//! what is missing.
//!
//! Its `Following` lives as long as it does: nothing is forgiven when the transport changes.

use crate::ask::{Ask, Start, Transport};
use crate::client::{Exit, Phase, Scene};
use crate::following::Following;
use crate::item::Item;
use crate::line::draw_since;
use crate::net::{ConnId, Net};
use crate::oracle::Oracle;
use crate::reading::{News, Reading};
use crate::rng::Rng;
use crate::wire::{Flow, Pace, Wire};

/// So often a client comes back once the faults are over.
const RETURNS_MAX: u32 = 10;

#[derive(Debug)]
pub(crate) struct Migrant {
    name: usize,
    wire: Option<Wire>,
    reading: Option<Reading>,
    following: Option<Following>,
    pace: Pace,
    opened_us: u64,
    /// Times it was sent away since the faults ended.
    returns: u32,
    /// Chance in thousandths to be cut off, per thing that comes.
    restless: u32,
    next_us: u64,
}

impl Migrant {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool) -> Migrant {
        Migrant {
            name,
            wire: None,
            reading: None,
            following: None,
            pace: if calm { Pace::FAST } else { Pace::draw(rng) },
            opened_us: 0,
            restless: rng.pick(&[0, 20, 100, 500]),
            next_us: 0,
            returns: 0,
        }
    }

    pub(crate) fn has_work(&self, net: &Net, phase: Phase, oracle: &Oracle) -> bool {
        self.wire.as_ref().is_some_and(|wire| wire.has_work(net))
            || self.next_due_us(phase, oracle).is_some_and(|due_us| due_us <= net.now_us())
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        self.wire.as_ref().map(|wire| wire.conn)
    }

    pub(crate) fn next_due_us(&self, phase: Phase, oracle: &Oracle) -> Option<u64> {
        let settles = phase == Phase::Settling && self.reading.is_none() && self.misses(oracle);
        (phase.is_lively() || settles).then_some(self.next_us)
    }

    fn misses(&self, oracle: &Oracle) -> bool {
        self.returns <= RETURNS_MAX
            && self.following.as_ref().is_some_and(|following| !following.is_complete(oracle, false))
    }

    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle) -> Option<String> {
        let Some(reading) = &self.reading else {
            let waits = phase == Phase::Settling && self.misses(oracle);
            let closes = phase == Phase::Draining && self.wire.is_some();
            return (waits || closes).then(|| format!("migrant {}: to go on", self.name));
        };
        let wire = self.wire.as_ref()?;
        let following = self.following.as_ref()?;
        let transport = reading.ask().transport;
        let patient = reading.is_streaming() || transport == Transport::LongPoll;
        if phase != Phase::Draining && !wire.has_unwritten() && patient && following.is_complete(oracle, false) {
            return None;
        }
        let (name, conn, missing) = (self.name, wire.conn, following.describe(oracle));
        Some(format!("migrant {name} on connection {conn}: {transport:?}, {missing}"))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let due = self.next_due_us(scene.phase, scene.oracle).is_some_and(|due_us| due_us <= scene.net.now_us());
        if let Some(wire) = &mut self.wire {
            wire.pace = self.pace;
            let flow = wire.flow(scene.net, scene.rng);
            self.read(scene);
            if flow != Flow::Open {
                self.lose(scene, flow);
                return;
            }
        }
        if due {
            self.next_us = scene.pause_until_us();
            if self.reading.is_none() {
                self.go_on(scene);
            } else if scene.phase.is_lively() && scene.rng.chance(200) {
                let exit = scene.rng.pick(&[Exit::Close, Exit::Reset]);
                self.exit(scene, exit);
            }
        }
    }

    /// Asks for what comes next, in another way.
    fn go_on(&mut self, scene: &mut Scene<'_>) {
        let following = self.following.get_or_insert_with(|| {
            let topic = scene.topic();
            Following::new(vec![topic], draw_since(scene.rng))
        });
        // A poll's connection goes on with another request, or is left for another one.
        let mut wire = match self.wire.take() {
            Some(wire) if scene.rng.chance(500) => wire,
            left => {
                if let Some(left) = left {
                    scene.net.client_close(left.conn);
                }
                let shard = scene.rng.below(scene.plan.shards);
                Wire::open(scene.net, scene.rng, shard, self.pace)
            }
        };
        let transport = scene.rng.pick(&Transport::ALL);
        let last_id = following.cursors().filter(|_| transport == Transport::Sse && scene.rng.chance(500));
        let from = last_id.map_or_else(|| Start::Since(following.since()), Start::LastEventId);
        let mut ask = Ask::new(transport, following.topics.clone(), from);
        ask.in_path = scene.rng.chance(700) || transport == Transport::Line;
        ask.http10 = transport != Transport::Line && scene.rng.chance(300);
        ask.packed = scene.rng.chance(300);
        ask.enveloped = transport == Transport::Sse && scene.rng.chance(300);
        if transport == Transport::LongPoll {
            ask.wait_s = scene.rng.pick(&[None, Some(1), Some(120)]);
        }
        following.asked(scene.oracle, &ask);
        scene.say(|| format!("migrant {:>2} > {ask:?}", self.name));
        self.reading = Some(Reading::begin(ask, &mut wire, scene.rng));
        self.wire = Some(wire);
        self.opened_us = scene.net.now_us();
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let (Some(wire), Some(reading), Some(following)) =
            (&mut self.wire, &mut self.reading, &mut self.following)
        {
            let Some(news) = reading.next(wire, scene.rng) else { return };
            scene.say(|| format!("migrant {:>2} < {news:?}", self.name));
            let excused = !scene.plan.calm || scene.phase == Phase::Draining;
            let streams = reading.ask().transport.streams() || reading.ask().transport == Transport::Line;
            match news {
                News::Begun => {}
                News::Item(Item::Refused(refusal)) => scene.check_refusal(refusal),
                News::Item(item) => {
                    following.item(scene.oracle, item);
                    if scene.phase.is_lively() && scene.rng.chance(self.restless) {
                        let exit = scene.rng.pick(&[Exit::Close, Exit::Reset]);
                        self.exit(scene, exit);
                    }
                }
                News::Refused => {
                    assert!(excused, "migrant {}: refused without a reason", self.name);
                    self.returns += u32::from(scene.phase == Phase::Settling);
                    self.exit(scene, Exit::Close);
                }
                News::Over if streams => {
                    // The connection ends now, and with it the reading.
                    let over = match reading.ask().transport {
                        Transport::Line => excused,
                        _ => reading.refused.is_some() || scene.may_end(self.opened_us, reading.length),
                    };
                    assert!(over, "migrant {}: its stream ended without a reason", self.name);
                }
                News::Over if reading.closing => self.exit(scene, Exit::Close),
                News::Over => {
                    following.parted(scene.oracle);
                    self.reading = None;
                }
            }
        }
    }

    /// The server ended the connection.
    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        if let (Some(wire), Some(reading)) = (&self.wire, &self.reading) {
            let in_order = reading.is_over() || flow == Flow::Ended && reading.ends_in_order(wire);
            let unheard = scene.phase == Phase::Draining && !reading.is_streaming();
            let old = reading.ask().transport.streams() && scene.may_end(self.opened_us, reading.length);
            let excused = in_order || unheard || old || !scene.plan.calm || scene.is_late();
            assert!(excused, "migrant {}: {flow:?} without a reason: {reading:?}", self.name);
        }
        self.returns += u32::from(scene.phase == Phase::Settling);
        if let (Flow::Ended, Some(wire)) = (flow, &self.wire) {
            scene.net.client_close(wire.conn);
        }
        self.forget(scene);
    }

    fn forget(&mut self, scene: &mut Scene<'_>) {
        self.wire = None;
        self.reading = None;
        if let Some(following) = &mut self.following {
            following.parted(scene.oracle);
        }
        self.next_us = scene.pause_until_us();
    }

    /// Leaves in the middle of whatever comes.
    pub(crate) fn exit(&mut self, scene: &mut Scene<'_>, exit: Exit) {
        let Some(wire) = &self.wire else { return };
        if exit == Exit::Reset {
            scene.net.client_reset(wire.conn, scene.rng.chance(500));
        } else {
            scene.net.client_close(wire.conn);
        }
        self.forget(scene);
    }
}
