//! A client of the HTTP streams: event streams, NDJSON, multipart and forever frames, of one topic and of several. It reads
//! as slowly as its pace says, is cut off or leaves, and comes back with its cursors.

use crate::ask::{Ask, Start, Transport};
use crate::client::{Exit, Phase, Scene};
use crate::following::Following;
use crate::item::Item;
use crate::line::{HOUR_MS, draw_every_ms, draw_since};
use crate::net::{ConnId, Net};
use crate::oracle::Oracle;
use crate::reading::{News, Reading};
use crate::rng::Rng;
use crate::wire::{Flow, Pace, Wire};

/// So often a client comes back once the faults are over.
const RETURNS_MAX: u32 = 5;

/// Topics of one request at most, where there are few and where there are many.
const TOPICS_MAX: usize = 5;
const TOPICS_MAX_BROAD: usize = 64;

#[derive(Debug)]
pub(crate) struct StreamClient {
    name: usize,
    /// It listens to one topic, and does little else.
    quiet: bool,
    wire: Option<Wire>,
    reading: Option<Reading>,
    following: Option<Following>,
    transport: Transport,
    in_path: bool,
    options: String,
    /// It asked for so few messages that nobody can wait for the next one.
    slow: bool,
    ended: bool,
    opened_us: u64,
    pace: Pace,
    next_us: u64,
    /// Times it tried to come back since the faults ended.
    returns: u32,
}

impl StreamClient {
    pub(crate) fn new(name: usize, rng: &mut Rng, calm: bool, quiet: bool) -> StreamClient {
        StreamClient {
            name,
            quiet,
            wire: None,
            reading: None,
            following: None,
            transport: rng.pick(&Transport::STREAMS),
            in_path: true,
            options: String::new(),
            slow: false,
            ended: false,
            opened_us: 0,
            pace: if calm || quiet { Pace::FAST } else { Pace::draw(rng) },
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
        let settles = if self.wire.is_some() { self.slow } else { self.misses(oracle) };
        (phase.is_lively() || phase == Phase::Settling && settles).then_some(self.next_us)
    }

    /// Says whether it would come back for something.
    fn misses(&self, oracle: &Oracle) -> bool {
        self.returns <= RETURNS_MAX
            && self.following.as_ref().is_some_and(|following| !following.is_complete(oracle, false))
    }

    fn is_shared(&self) -> bool {
        self.transport == Transport::Sse && self.reading.as_ref().is_some_and(|reading| reading.ask().is_shared())
    }

    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle) -> Option<String> {
        let Some(wire) = &self.wire else {
            let waits = phase == Phase::Settling && self.misses(oracle);
            return waits.then(|| format!("stream client {}: to come back", self.name));
        };
        let following = self.following.as_ref()?;
        let streaming = self.reading.as_ref().is_some_and(Reading::is_streaming);
        let reason = if wire.has_unwritten() {
            "its bytes to be taken".to_string()
        } else if phase == Phase::Patient && self.slow {
            return None;
        } else if phase == Phase::Settling && self.slow {
            "its turn to come back without a pace".to_string()
        } else if phase == Phase::Draining || self.ended || !streaming {
            format!("the end, or the head of {:?}", self.reading)
        } else if following.is_complete(oracle, self.is_shared()) {
            return None;
        } else {
            format!("messages of {:?}: {}", self.transport, following.describe(oracle))
        };
        Some(format!("stream client {} on connection {}: {reason}", self.name, wire.conn))
    }

    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        if !scene.phase.is_lively() {
            self.pace = Pace::FAST;
        }
        let due = self.next_due_us(scene.phase, scene.oracle).is_some_and(|due_us| due_us <= scene.net.now_us());
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
            let chance = if self.quiet { 20 } else { 40 };
            if scene.phase == Phase::Settling {
                // It wants what is left.
                self.hurry();
                self.exit(scene, Exit::Close);
            } else if scene.rng.chance(chance) {
                let exit = if self.ended { Exit::Reset } else { Exit::draw(scene.rng) };
                self.exit(scene, exit);
            }
        }
    }

    fn connect(&mut self, scene: &mut Scene<'_>) {
        if scene.phase == Phase::Settling {
            self.returns += 1;
            self.hurry();
        } else if self.following.is_none() || scene.rng.chance(150) {
            self.choose(scene);
        }
        let Some(following) = &mut self.following else { return };
        let mut from = None;
        if self.transport == Transport::Sse && scene.rng.chance(600) {
            // As a browser does it, or, with what is known of the cursors, as well as it can be done.
            from = if scene.rng.chance(500) { following.last_event_id() } else { following.cursors() };
        }
        let from = from.map_or_else(|| Start::Since(following.since()), Start::LastEventId);
        let mut ask = Ask::new(self.transport, following.topics.clone(), from);
        ask.in_path = self.in_path;
        ask.http10 = scene.rng.chance(300);
        ask.options = self.options.clone();
        ask.packed = scene.rng.chance(300);
        ask.enveloped = self.transport == Transport::Sse && scene.rng.chance(300);
        if self.transport == Transport::ForeverFrame && scene.rng.chance(500) {
            ask.callback = Some("parent.$_1");
        }
        following.asked(scene.oracle, &ask);
        let shard = scene.rng.below(scene.plan.shards);
        let mut wire = Wire::open(scene.net, scene.rng, shard, self.pace);
        scene.say(|| format!("stream {:>2} > {ask:?}", self.name));
        self.reading = Some(Reading::begin(ask, &mut wire, scene.rng));
        self.wire = Some(wire);
        self.ended = false;
        self.opened_us = scene.net.now_us();
        self.next_us = scene.pause_until_us();
    }

    /// Chooses what to follow, and how.
    fn choose(&mut self, scene: &mut Scene<'_>) {
        let several = !self.quiet && scene.rng.chance(350);
        let topics_max = if scene.plan.broad { TOPICS_MAX_BROAD } else { TOPICS_MAX };
        let topics = if several { scene.topics(topics_max) } else { vec![scene.topic()] };
        let conflate = if scene.rng.chance(150) { "conflate=1" } else { "" };
        let every_ms = if scene.rng.chance(150) { draw_every_ms(scene.rng) } else { 0 };
        self.slow = every_ms >= HOUR_MS;
        let every = if every_ms > 0 { format!("every={every_ms}") } else { String::new() };
        self.options = [conflate, &every].into_iter().filter(|option| !option.is_empty()).collect::<Vec<_>>().join("&");
        self.transport = scene.rng.pick(&Transport::STREAMS);
        self.in_path = topics.len() == 1 && scene.rng.chance(700);
        let mut following = Following::new(topics, draw_since(scene.rng));
        following.conflates = !self.options.is_empty();
        self.following = Some(following);
    }

    /// Asks for no pace the next time, if this one was for hours.
    fn hurry(&mut self) {
        if std::mem::take(&mut self.slow) {
            self.options.clear();
        }
    }

    fn read(&mut self, scene: &mut Scene<'_>) {
        while let (Some(wire), Some(reading), Some(following)) =
            (&mut self.wire, &mut self.reading, &mut self.following)
        {
            let Some(news) = reading.next(wire, scene.rng) else { return };
            scene.say(|| format!("stream {:>2} < {news:?}", self.name));
            match news {
                News::Begun => {}
                News::Item(Item::Refused(refusal)) => scene.check_refusal(refusal),
                News::Item(item) => following.item(scene.oracle, item),
                News::Refused => {
                    let excused = !scene.plan.calm || scene.phase == Phase::Draining;
                    assert!(excused, "stream client {}: refused without a reason", self.name);
                    if !reading.closing {
                        // Others might go on with another request.
                        self.exit(scene, Exit::Close);
                    }
                }
                News::Over => {
                    scene.oracle.ends += 1;
                    // Who is refused is told so before. Who ended its own direction gets what there is, and then the end.
                    let excused =
                        reading.refused.is_some() || self.ended || scene.may_end(self.opened_us, reading.length);
                    assert!(excused, "stream client {}: its stream ended without a reason", self.name);
                }
            }
        }
    }

    /// The server ended the connection.
    fn lose(&mut self, scene: &mut Scene<'_>, flow: Flow) {
        if let (Some(wire), Some(reading)) = (&self.wire, &self.reading) {
            let in_order = reading.is_over() || flow == Flow::Ended && reading.ends_in_order(wire);
            let began = reading.is_streaming();
            // Who reads an end by age too slowly is cut off.
            let excused = in_order
                || self.ended
                || !scene.plan.calm
                || scene.may_end(self.opened_us, reading.length)
                || scene.is_late();
            let unheard = scene.phase == Phase::Draining && !began;
            assert!(excused || unheard, "stream client {}: {flow:?} in mid-stream without a reason", self.name);
        }
        if let (Flow::Ended, Some(wire), false) = (flow, &self.wire, self.ended) {
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

    pub(crate) fn exit(&mut self, scene: &mut Scene<'_>, exit: Exit) {
        let Some(wire) = &mut self.wire else { return };
        if exit.leave(wire, scene) {
            self.forget(scene);
        } else {
            self.ended = true;
        }
    }
}
