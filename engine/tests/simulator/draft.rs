//! What a world is made of, drawn from its seed: limits, sizes, topics, clients, and of what kind it is.
//!
//! Owns: chances. Most worlds have a few clients of every sort; some are crowds, fans, feasts or broad, which reach what the others
//! hardly ever do.

use corecast::mesh::Packet;
use corecast::shard::{LagPolicy, Limits};

use crate::beholder::Beholder;
use crate::client::{Client, Plan};
use crate::echo::EchoClient;
use crate::faults::Faults;
use crate::glutton::Glutton;
use crate::guest::Guest;
use crate::hoarder::Hoarder;
use crate::line::LineClient;
use crate::migrant::Migrant;
use crate::oracle::{History, Oracle};
use crate::poller::Poller;
use crate::promptness::Bounds;
use crate::raw::RawClient;
use crate::regime::SharedRegime;
use crate::rest::HttpClient;
use crate::rng::Rng;
use crate::seat::Sizes;
use crate::stranger::Stranger;
use crate::stream::StreamClient;

const TOPICS: [&str; 12] = [
    "hot",
    "a",
    "a/b",
    "with space",
    "100%",
    "é/ü",
    "long/long/long/long/long/long/long/topic",
    "x1",
    "x2",
    "x3",
    "x4",
    "x5",
];

/// Lengths at which streams end: soon, after a while, never.
const STREAM_BYTES: [u64; 4] = [500, 20_000, 0, 64 << 20];

/// Ages at which streams end: soon after their beginning, after a while, never in a run.
const STREAM_MS: [u64; 4] = [150, 2_000, 1_800_000, 1_800_000];

/// What a message may have where some begin very large ones and do not end them.
const HELD_BYTES_MAX: u32 = 200_000;

/// What is special about a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usual,
    /// Very many clients: walks that take more than one slice, and change while they are under way.
    Crowd,
    /// Very many subscribers of one topic, a few sends a turn.
    Fan,
    /// Full histories, and many that poll them again and again, beside live topics.
    Feast,
    /// Very many topics, many of them on one connection.
    Broad,
    /// Most hold as much of a small memory as they get, and the others must not notice.
    Hoard,
}

impl Kind {
    fn draw(rng: &mut Rng) -> Kind {
        match rng.below(1_000) {
            0..30 => Kind::Crowd,
            30..140 => Kind::Fan,
            140..210 => Kind::Feast,
            210..280 => Kind::Broad,
            280..340 => Kind::Hoard,
            _ => Kind::Usual,
        }
    }
}

/// What a world is made of.
#[derive(Debug)]
pub(crate) struct Draft {
    kind: Kind,
    /// Steps of the busy phase.
    pub(crate) busy_steps: u64,
    pub(crate) shards: usize,
    pub(crate) cores: usize,
    pub(crate) ring_bytes: usize,
    pub(crate) limits: Limits,
    pub(crate) sizes: Sizes,
    pub(crate) plan: Plan,
    pub(crate) faults: Faults,
    /// Clients.
    count: usize,
    /// Topics are cleared now and then.
    clears: bool,
}

impl Draft {
    pub(crate) fn draw(rng: &mut Rng, trace: bool) -> Draft {
        let kind = Kind::draw(rng);
        let shards = if kind == Kind::Feast { 1 + rng.below(2) } else { 2 + rng.below(4) };
        let calm = match kind {
            Kind::Feast => false,
            Kind::Hoard => true,
            _ => rng.chance(200),
        };
        let mut faults = Faults::draw(rng);
        if calm {
            faults = Faults { clock_jump: 0, reset: 0, ..faults };
        }
        if kind == Kind::Feast {
            // Nothing else shall keep the gluttons from eating.
            faults.delay_us_max = faults.delay_us_max.min(50);
            (faults.late, faults.again, faults.no_buffers) = (faults.late.min(300), faults.again.min(300), 0);
            faults.halves = 0;
        }
        let mut limits = draw_limits(rng, calm);
        if kind == Kind::Feast {
            limits.message_bytes_max = limits.message_bytes_max.min(2_000);
            limits.memory_bytes = 16 << 20;
            (limits.history_messages, limits.history_bytes, limits.history_ms) = (64, 64 << 10, 300_000);
            (limits.connections_max, limits.topics_max) = (1 << 20, 1 << 20);
        }
        if kind == Kind::Hoard {
            // They would hold all of it several times over, if they could.
            (limits.memory_bytes, limits.message_bytes_max) = (16 << 20, HELD_BYTES_MAX);
            (limits.log_bytes_max, limits.request_ms) = (256 << 10, 5_000);
        }
        let patient = calm && kind == Kind::Usual && rng.chance(600);
        if patient {
            // Pings and their answers would be most of what happens in hours.
            (limits.ping_ms, limits.dead_ms) = (900_000, 1_800_000);
        }
        let message_bytes_max = limits.message_bytes_max as usize;
        // A subscription takes up to three packets, and leaves half of its ring.
        let ring_bytes_min = (2 * Packet::bytes_max(message_bytes_max)).max(8 * Packet::bytes_max(0));
        let ring_bytes = if calm { 1 << 20 } else { ring_bytes_min * rng.pick(&[1, 1, 2, 10]) };
        let count = match kind {
            Kind::Fan => 20 + rng.below(100),
            Kind::Crowd => 150 + rng.below(400),
            Kind::Feast => 30 + rng.below(60),
            Kind::Broad => 2 + rng.skewed(20),
            Kind::Hoard => 90 + rng.below(60),
            Kind::Usual => 2 + rng.skewed(40),
        };
        let topics = match kind {
            Kind::Fan => vec![TOPICS[0].to_string()],
            Kind::Feast | Kind::Hoard => TOPICS[..2 + rng.below(3)].iter().map(|topic| (*topic).to_string()).collect(),
            Kind::Broad => (0..16 + rng.below(185)).map(|n| format!("t/{n}")).collect(),
            _ => TOPICS[..1 + rng.below(TOPICS.len())].iter().map(|topic| (*topic).to_string()).collect(),
        };
        let plan = Plan {
            topics,
            shards,
            message_bytes_max,
            payload_bytes_max: if kind == Kind::Hoard { 400 } else { message_bytes_max },
            pause_us_max: if kind == Kind::Feast { 200 } else { rng.pick(&[20, 200, 5_000, 100_000]) },
            stream_ms: limits.stream_ms,
            stream_bytes: limits.stream_bytes,
            linger_ms: limits.linger_ms,
            calm,
            broad: kind == Kind::Broad,
            patient,
            trace,
        };
        let sizes = Sizes {
            memory_bytes: limits.memory_bytes as usize,
            slots: match kind {
                Kind::Crowd => 1_000,
                Kind::Feast => 200,
                _ if calm => 200,
                _ => rng.pick(&[3, 10, 50, 200]),
            },
            buffers: if calm || kind == Kind::Feast { 64 } else { rng.pick(&[1, 2, 4, 64]) },
            buffer_bytes: if kind == Kind::Feast { 2_048 } else { rng.pick(&[16, 100, 2_048]) },
            orders: match kind {
                Kind::Fan => rng.pick(&[2, 4, 8]),
                Kind::Feast => rng.pick(&[64, 1_024]),
                _ => rng.pick(&[2, 8, 64, 1_024]),
            },
        };
        let cores = if rng.chance(400) { 1 + rng.below(shards) } else { shards };
        let clears = !calm && rng.chance(300);
        let busy_steps = match kind {
            Kind::Feast => rng.within(6_000..12_000),
            Kind::Hoard => rng.within(2_000..4_000),
            _ => rng.within(200..6_000),
        };
        Draft { kind, busy_steps, shards, cores, ring_bytes, limits, sizes, plan, faults, count, clears }
    }

    /// Says whether most clients hold as much memory as they get.
    pub(crate) fn is_hoard(&self) -> bool {
        self.kind == Kind::Hoard
    }

    pub(crate) fn clients(&self, rng: &mut Rng) -> Vec<Client> {
        let calm = self.plan.calm;
        let client = |name| match (self.kind, rng.below(18)) {
            (Kind::Fan, kind) if name % 8 != 0 && kind < 12 => Client::Line(LineClient::new(name, rng, calm, true)),
            (Kind::Fan, _) if name % 8 != 0 => Client::Stream(StreamClient::new(name, rng, calm, true)),
            (Kind::Feast, _) if name % 4 != 0 => Client::Glutton(Glutton::new(name, rng)),
            _ if self.plan.patient && name % 3 == 0 => Client::Line(LineClient::new(name, rng, calm, true)),
            (Kind::Hoard, _) if name % 3 != 0 => Client::Hoarder(Hoarder::new(name, rng)),
            // Somebody has to cook.
            (Kind::Feast, kind) if kind < 9 => Client::Line(LineClient::new(name, rng, calm, false)),
            (_, 0..6) => Client::Line(LineClient::new(name, rng, calm, false)),
            (_, 6..8) => Client::Raw(RawClient::new(name, rng, calm)),
            (_, 8..10) => Client::Http(HttpClient::new(name, rng, calm, self.clears)),
            (_, 10) => Client::Echo(EchoClient::new(name, rng, calm)),
            (_, 11..14) => Client::Stream(StreamClient::new(name, rng, calm, false)),
            (_, 14..16) => Client::Poller(Poller::new(name, rng, calm)),
            _ => Client::Migrant(Migrant::new(name, rng, calm)),
        };
        let mut clients: Vec<Client> = (0..self.count).map(client).collect();
        // Two thirds of most worlds have some who read patterns; drawn apart, so that the others are what they were.
        let mut apart = Rng::new(self.busy_steps ^ (self.count as u64) << 32);
        if !matches!(self.kind, Kind::Feast | Kind::Hoard) && apart.chance(660) {
            let name = |n| self.count + 1_000 + n;
            let count = 1 + apart.below(4);
            clients.extend((0..count).map(|n| Client::Beholder(Beholder::new(name(n), &mut apart, calm))));
        }
        clients
    }

    /// Says whether there is room for strangers.
    pub(crate) fn may_have_strangers(&self) -> bool {
        matches!(self.kind, Kind::Usual | Kind::Crowd | Kind::Fan | Kind::Broad) && !self.plan.patient
    }

    /// Says by how much time may run faster than in other worlds, so that it passes.
    pub(crate) fn haste(&self) -> &'static [u64] {
        if matches!(self.kind, Kind::Crowd | Kind::Fan) { &[10, 30] } else { &[30, 100, 200] }
    }

    /// Makes those of a regime.
    pub(crate) fn strangers(&self, rng: &mut Rng, regime: &SharedRegime) -> Vec<Client> {
        let calm = self.plan.calm;
        let count = 3 + rng.skewed(12);
        let stranger = |n| match rng.below(2) {
            0 => Client::Stranger(Stranger::new(self.count + n, rng, calm, regime.clone())),
            _ => Client::Guest(Guest::new(self.count + n, rng, calm, regime.clone())),
        };
        (0..count).map(stranger).collect()
    }

    pub(crate) fn oracle(&self, now_us: u64) -> Oracle {
        let Limits { memory_bytes, topics_max, history_messages, history_bytes, history_ms, .. } = self.limits;
        let mut oracle = Oracle::default();
        let few_topics = (topics_max as usize) < self.plan.topics.len().max(TOPICS.len());
        let long = self.kind == Kind::Broad && self.plan.message_bytes_max > 2_000;
        oracle.may_forget = self.clears || memory_bytes < 16 << 20 || few_topics || long;
        oracle.history = Some(History {
            messages: history_messages as usize,
            bytes: history_bytes as usize,
            until_us: now_us + history_ms * 1000,
        });
        oracle
    }

    /// Returns how long a shard may wait for what its homes have to say.
    ///
    /// A ring is read 256 packets a turn, the smallest of about 24 bytes. What does not fit into it is told of, asked for and sent, four rounds for
    /// as much as fits; every topic may need that, in turn with what others ask for.
    pub(crate) fn bounds(&self) -> Bounds {
        let rounds = 32 + 16 * self.plan.topics.len() as u64 + self.ring_bytes as u64 / (256 * 24);
        Bounds { joined: rounds, heard: rounds, by_progress: true }
    }
}

fn draw_limits(rng: &mut Rng, calm: bool) -> Limits {
    if calm {
        return Limits {
            message_bytes_max: 400,
            history_messages: 100_000,
            history_bytes: 64 << 20,
            log_bytes_max: 8 << 20,
            memory_bytes: 64 << 20,
            stream_ms: rng.pick(&STREAM_MS),
            stream_bytes: rng.pick(&STREAM_BYTES),
            compress_from: rng.pick(&[None, Some(1), Some(200)]),
            echo: true,
            ..Limits::default()
        };
    }
    let message_bytes_max = rng.pick(&[64, 300, 2_000, 20_000]);
    let defaults = Limits::default();
    Limits {
        message_bytes_max,
        connections_max: rng.pick(&[3, 10, 1 << 20, 1 << 20]),
        subscriptions_max: rng.pick(&[2, 5, 1024]),
        topics_max: rng.pick(&[2, 5, 1 << 20, 1 << 20]),
        history_messages: rng.pick(&[1, 3, 10, 64]),
        history_bytes: rng.pick(&[100, 5_000, 64 << 10]),
        history_ms: rng.pick(&[1, 50, 300_000]),
        log_bytes_max: rng.pick(&[1_000, 10_000, 256 << 10]),
        private_bytes_max: rng.pick(&[1_000, 10_000, 64 << 10]),
        lag: if rng.chance(300) { LagPolicy::Close } else { LagPolicy::Replay },
        memory_bytes: rng.pick(&[64 << 10, 256 << 10, 1 << 20, 16 << 20]),
        stream_ms: rng.pick(&STREAM_MS),
        stream_bytes: rng.pick(&STREAM_BYTES),
        compress_from: rng.pick(&[None, Some(1), Some(200), Some(1 << 10)]),
        echo: true,
        ..defaults
    }
}
