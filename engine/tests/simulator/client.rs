//! What all scripted clients share: the scene they act in, the plan they act by, the phase of the run.

use crate::echo::EchoClient;
use crate::line::LineClient;
use crate::net::{ConnId, Net};
use crate::oracle::Oracle;
use crate::raw::RawClient;
use crate::rest::HttpClient;
use crate::rng::Rng;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Clients do what comes to their mind, faults happen.
    Busy,
    /// Nobody publishes any more, but subscriptions and connections come and go: what is on its way must get through.
    Churning,
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
    /// Longest pause between two actions of a client, in microseconds.
    pub(crate) pause_us_max: u64,
    /// Nothing in this world entitles the server to refuse, or to close a connection of its own accord.
    pub(crate) calm: bool,
    pub(crate) trace: bool,
}

/// Where a client acts.
pub(crate) struct Scene<'a> {
    pub(crate) net: &'a mut Net,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) rng: &'a mut Rng,
    pub(crate) plan: &'a Plan,
    pub(crate) phase: Phase,
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

    /// Draws the length of a payload: mostly small, now and then up to the limit.
    pub(crate) fn payload_len(&mut self) -> usize {
        if self.rng.chance(30) {
            return self.plan.message_bytes_max;
        }
        self.rng.skewed(self.plan.message_bytes_max)
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
}

impl Client {
    pub(crate) fn step(&mut self, scene: &mut Scene<'_>) {
        match self {
            Client::Line(client) => client.step(scene),
            Client::Raw(client) => client.step(scene),
            Client::Http(client) => client.step(scene),
            Client::Echo(client) => client.step(scene),
        }
    }

    /// Says whether a step would change anything now.
    pub(crate) fn has_work(&self, net: &Net, phase: Phase) -> bool {
        match self {
            Client::Line(client) => client.has_work(net, phase),
            Client::Raw(client) => client.has_work(net, phase),
            Client::Http(client) => client.has_work(net, phase),
            Client::Echo(client) => client.has_work(net, phase),
        }
    }

    /// Returns when this client next acts of itself.
    pub(crate) fn next_due_us(&self, phase: Phase) -> Option<u64> {
        match self {
            Client::Line(client) => client.next_due_us(phase),
            Client::Raw(client) => client.next_due_us(phase),
            Client::Http(client) => client.next_due_us(phase),
            Client::Echo(client) => client.next_due_us(phase),
        }
    }

    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self {
            Client::Line(client) => client.conn(),
            Client::Raw(client) => client.conn(),
            Client::Http(client) => client.conn(),
            Client::Echo(client) => client.conn(),
        }
    }

    /// Says what this client still waits for from the server, if anything.
    pub(crate) fn waits_for(&self, phase: Phase, oracle: &Oracle) -> Option<String> {
        match self {
            Client::Line(client) => client.waits_for(phase, oracle),
            Client::Raw(client) => client.waits_for(phase, oracle),
            Client::Http(client) => client.waits_for(phase),
            Client::Echo(client) => client.waits_for(phase),
        }
    }

    /// Resets the connection, wherever it is.
    pub(crate) fn break_down(&mut self, scene: &mut Scene<'_>) {
        match self {
            Client::Line(client) => client.exit(scene, Exit::Reset),
            Client::Raw(client) => client.exit(scene, Exit::Reset),
            Client::Http(client) => client.exit(scene, Exit::Reset),
            Client::Echo(client) => client.exit(scene, Exit::Reset),
        }
    }

    /// Hands over what can only be judged when all is over.
    pub(crate) fn finish(&mut self, oracle: &mut Oracle) {
        if let Client::Raw(client) = self {
            client.finish(oracle);
        }
    }
}
