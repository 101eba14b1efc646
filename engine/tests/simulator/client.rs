//! What all scripted clients share: the scene they act in, the plan they act by, the phase of the run.

use corecast::shard::Refusal;

use crate::beholder::Beholder;
use crate::echo::EchoClient;
use crate::glutton::Glutton;
use crate::guest::Guest;
use crate::hoarder::Hoarder;
use crate::line::LineClient;
use crate::migrant::Migrant;
use crate::net::{ConnId, Net};
use crate::oracle::Oracle;
use crate::poller::Poller;
use crate::raw::RawClient;
use crate::rest::HttpClient;
use crate::rng::Rng;
use crate::stranger::Stranger;
use crate::stream::StreamClient;
use crate::wire::Wire;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Clients do what comes to their mind, faults happen.
    Busy,
    /// Nobody publishes any more, but subscriptions and connections come and go: what is on its way must get through.
    Churning,
    /// Nobody does anything of itself, for hours: who wants a message an hour gets it. No faults.
    Patient,
    /// Clients only finish what they began; who lost its connection comes back for the rest; no faults.
    Settling,
    /// The server was told to finish: everybody must be sent away.
    Draining,
}

/// What a world's clients are told.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) topics: Vec<String>,
    pub(crate) shards: usize,
    pub(crate) message_bytes_max: usize,
    /// Longest payload that clients publish to be read.
    pub(crate) payload_bytes_max: usize,
    /// Longest pause between two actions of a client, in microseconds.
    pub(crate) pause_us_max: u64,
    /// Age at which the server may end a stream, in milliseconds.
    pub(crate) stream_ms: u64,
    /// Bytes of messages after which the server may end a stream; 0: never.
    pub(crate) stream_bytes: u64,
    /// Time that a reader has for what was said before the end, in milliseconds.
    pub(crate) linger_ms: u64,
    /// Nothing in this world entitles the server to refuse, or to close a connection of its own accord.
    pub(crate) calm: bool,
    /// There are very many topics, and some clients want most of them.
    pub(crate) broad: bool,
    /// Hours pass in it, and many a reader wants a message an hour.
    pub(crate) patient: bool,
    pub(crate) trace: bool,
}

/// The engine's timers are so coarse: what has a time may come so much too early.
const TICK_US: u64 = 128_000;

/// Where a client acts.
pub(crate) struct Scene<'a> {
    pub(crate) net: &'a mut Net,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) rng: &'a mut Rng,
    pub(crate) plan: &'a Plan,
    pub(crate) phase: Phase,
    /// When it began.
    pub(crate) phase_us: u64,
}

impl Phase {
    /// Says whether clients still act of themselves.
    pub(crate) fn is_lively(self) -> bool {
        self <= Phase::Churning
    }
}

impl Scene<'_> {
    pub(crate) fn topic(&mut self) -> String {
        // The first topic is a hot one.
        if self.rng.chance(400) {
            self.plan.topics[0].clone()
        } else {
            self.plan.topics[self.rng.below(self.plan.topics.len())].clone()
        }
    }

    /// Draws several different topics, `max` at most.
    pub(crate) fn topics(&mut self, max: usize) -> Vec<String> {
        let mut topics = self.plan.topics.clone();
        self.rng.shuffle(&mut topics);
        topics.truncate(1 + self.rng.below(max));
        topics
    }

    /// Says whether a stream of that time, with so many bytes, may end for its age or its length.
    pub(crate) fn may_end(&self, opened_us: u64, length: u64) -> bool {
        let Plan { stream_ms, stream_bytes, calm, .. } = *self.plan;
        let old = self.net.now_us() + TICK_US - opened_us >= stream_ms * 1000;
        // One that is long and then falls off its log ends where it is, before it has had all that made it long.
        old || stream_bytes > 0 && (length >= stream_bytes - stream_bytes / 8 || !calm)
    }

    /// Asserts that a stream may be refused so now.
    pub(crate) fn check_refusal(&self, refusal: Refusal) {
        let excused = match refusal {
            Refusal::Draining => self.phase == Phase::Draining,
            Refusal::TooSlow | Refusal::Full | Refusal::TooMany => !self.plan.calm,
            _ => false,
        };
        assert!(excused, "{refusal:?} without a reason in {:?}", self.phase);
    }

    /// Says whether a stream that the server ended because it finishes may be cut off: its reader had its time.
    pub(crate) fn is_late(&self) -> bool {
        self.phase == Phase::Draining && self.net.now_us() + TICK_US - self.phase_us >= self.plan.linger_ms * 1000
    }

    /// Says something in the trace, if there is one.
    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        if self.plan.trace {
            eprintln!("{:>12} {}", self.net.now_us(), text());
        }
    }

    /// Draws the length of a payload: mostly small, now and then up to the limit.
    pub(crate) fn payload_len(&mut self) -> usize {
        if self.rng.chance(30) {
            return self.plan.payload_bytes_max;
        }
        self.rng.skewed(self.plan.payload_bytes_max)
    }

    pub(crate) fn pause_until_us(&mut self) -> u64 {
        let pause_us = self.rng.skewed(self.plan.pause_us_max as usize) as u64;
        self.net.now_us() + pause_us
    }
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    HalfClose,
    Close,
    Reset,
}

impl Exit {
    /// Does it to a connection; says whether the client is gone, or hears what still comes.
    pub(crate) fn leave(self, wire: &mut Wire, scene: &mut Scene<'_>) -> bool {
        match self {
            Exit::HalfClose => wire.end(),
            Exit::Close => scene.net.client_close(wire.conn),
            Exit::Reset => scene.net.client_reset(wire.conn, scene.rng.chance(500)),
        }
        self != Exit::HalfClose
    }

    pub(crate) fn draw(rng: &mut Rng) -> Exit {
        rng.pick(&[Exit::HalfClose, Exit::Close, Exit::Reset])
    }
}

#[derive(Debug)]
pub(crate) enum Client {
    Line(LineClient),
    Raw(RawClient),
    Http(HttpClient),
    Echo(EchoClient),
    Stream(StreamClient),
    Poller(Poller),
    Migrant(Migrant),
    Glutton(Glutton),
    Hoarder(Hoarder),
    Stranger(Stranger),
    Guest(Guest),
    Beholder(Beholder),
}

impl Client {
    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        match self {
            Client::Line(client) => client.step(scene),
            Client::Raw(client) => client.step(scene),
            Client::Http(client) => client.step(scene),
            Client::Echo(client) => client.step(scene),
            Client::Stream(client) => client.step(scene),
            Client::Poller(client) => client.step(scene),
            Client::Migrant(client) => client.step(scene),
            Client::Glutton(client) => client.step(scene),
            Client::Hoarder(client) => client.step(scene),
            Client::Stranger(client) => client.step(scene),
            Client::Guest(client) => client.step(scene),
            Client::Beholder(client) => client.step(scene),
        }
    }

    /// Says whether a step would change anything now.
    pub(crate) fn has_work(&self, net: &Net, phase: Phase, oracle: &Oracle) -> bool {
        match self {
            Client::Line(client) => client.has_work(net, phase),
            Client::Raw(client) => client.has_work(net, phase),
            Client::Http(client) => client.has_work(net, phase),
            Client::Echo(client) => client.has_work(net, phase),
            Client::Stream(client) => client.has_work(net, phase, oracle),
            Client::Poller(client) => client.has_work(net, phase, oracle),
            Client::Migrant(client) => client.has_work(net, phase, oracle),
            Client::Glutton(client) => client.has_work(net, phase),
            Client::Hoarder(client) => client.has_work(net, phase),
            Client::Stranger(client) => client.has_work(net, phase),
            Client::Guest(client) => client.has_work(net, phase),
            Client::Beholder(client) => client.has_work(net, phase),
        }
    }

    /// Returns when this client next acts of itself.
    pub(crate) fn next_due_us(&self, phase: Phase, oracle: &Oracle) -> Option<u64> {
        match self {
            Client::Line(client) => client.next_due_us(phase),
            Client::Raw(client) => client.next_due_us(phase),
            Client::Http(client) => client.next_due_us(phase),
            Client::Echo(client) => client.next_due_us(phase),
            Client::Stream(client) => client.next_due_us(phase, oracle),
            Client::Poller(client) => client.next_due_us(phase, oracle),
            Client::Migrant(client) => client.next_due_us(phase, oracle),
            Client::Glutton(client) => client.next_due_us(phase),
            Client::Hoarder(client) => client.next_due_us(phase),
            Client::Stranger(client) => client.next_due_us(phase),
            Client::Guest(client) => client.next_due_us(phase),
            Client::Beholder(client) => client.next_due_us(phase),
        }
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self {
            Client::Line(client) => client.conn(),
            Client::Raw(client) => client.conn(),
            Client::Http(client) => client.conn(),
            Client::Echo(client) => client.conn(),
            Client::Stream(client) => client.conn(),
            Client::Poller(client) => client.conn(),
            Client::Migrant(client) => client.conn(),
            Client::Glutton(client) => client.conn(),
            Client::Hoarder(client) => client.conn(),
            Client::Stranger(client) => client.conn(),
            Client::Guest(client) => client.conn(),
            Client::Beholder(client) => client.conn(),
        }
    }

    /// Says what this client still waits for from the server, if anything.
    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle, topics: &[String]) -> Option<String> {
        match self {
            Client::Line(client) => client.waits_for(phase, oracle),
            Client::Raw(client) => client.waits_for(phase, oracle),
            Client::Http(client) => client.waits_for(phase),
            Client::Echo(client) => client.waits_for(phase),
            Client::Stream(client) => client.waits_for(phase, oracle),
            Client::Poller(client) => client.waits_for(phase, oracle),
            Client::Migrant(client) => client.waits_for(phase, oracle),
            Client::Glutton(client) => client.waits_for(phase),
            // The server owes it nothing.
            Client::Hoarder(_) => None,
            Client::Stranger(client) => client.waits_for(phase, oracle),
            Client::Guest(client) => client.waits_for(phase, oracle),
            Client::Beholder(client) => client.waits_for(phase, oracle, topics),
        }
    }

    /// Says what this client has waited for in vain, after hours in which nothing happened.
    pub(crate) fn misses_after_hours(&self, oracle: &Oracle) -> Option<String> {
        match self {
            Client::Line(client) => client.misses_after_hours(oracle),
            _ => None,
        }
    }

    /// Resets the connection, wherever it is.
    pub(crate) fn break_down(&mut self, scene: &mut Scene<'_>) {
        match self {
            Client::Line(client) => client.exit(scene, Exit::Reset),
            Client::Raw(client) => client.exit(scene, Exit::Reset),
            Client::Http(client) => client.exit(scene, Exit::Reset),
            Client::Echo(client) => client.exit(scene, Exit::Reset),
            Client::Stream(client) => client.exit(scene, Exit::Reset),
            Client::Poller(client) => client.exit(scene, Exit::Reset),
            Client::Migrant(client) => client.exit(scene, Exit::Reset),
            Client::Glutton(client) => client.exit(scene, Exit::Reset),
            Client::Hoarder(client) => client.exit(scene, Exit::Reset),
            Client::Stranger(client) => client.exit(scene, Exit::Reset),
            Client::Guest(client) => client.exit(scene, Exit::Reset),
            Client::Beholder(client) => client.exit(scene, Exit::Reset),
        }
    }

    /// Hands over what can only be judged when all is over.
    pub(crate) fn finish(&mut self, oracle: &mut Oracle) {
        if let Client::Raw(client) = self {
            client.finish(oracle);
        }
    }
}
