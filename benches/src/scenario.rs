//! The scenarios: which load, against which servers, what is read off, and what that must hold.
//!
//! Each row of the table is one [`Claim`]: a figure of one server, beside the same figure of another, in one run. Load is
//! driven by the phases of the load generator's plans, which also check every delivery.

use std::io;
use std::time::Duration;

use corecast_loadgen::process::{anonymous_bytes, slab_bytes};
use corecast_loadgen::{Audience, Kind as PhaseKind, Load, Phase, PhaseReport, Plan, Report, Transport, run};

use crate::claims::{ENGINE, SPIN, TWO_CORES, TWO_SHARDS, UNICAST, UNICAST_BUSY, beside_epoll, connection, delivery};
use crate::server::{Kind, Server, Setup};
use crate::verdict::Bound;

/// Subscribers of the cold fan-out: as many as one ring's table surely holds here, and far more than caches do.
const COLD_SUBSCRIBERS: u32 = 15_000;

/// Messages of a warm-up: more than any server here has receive buffers.
const WARM_UP_MESSAGES: u64 = 6_000;

/// Half-seconds that the kernel gets to clear away, and a change between two that counts as none, in bytes.
const SETTLE_LOOKS_MAX: u32 = 30;
const SETTLED_BYTES: u64 = 256 << 10;

/// Time for a server to come to rest before its memory is read.
const REST: Duration = Duration::from_millis(500);

/// Messages that everybody who comes back has missed. The load generator writes so many in the same breath in which it drops
/// all connections, so they are history before the first of them is back.
const MISSED_MESSAGES: u64 = 250;

/// Times that everybody is dropped and comes back.
const RETURNS: usize = 4;

/// What is read off a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Server CPU per delivery or echo, in microseconds.
    CpuPerDelivery,
    /// Server CPU per message that was published, whatever it spun while it waited for the next, in microseconds.
    CpuPerMessage,
    /// From when half of the messages were due to when they were delivered, in microseconds.
    LatencyMedian,
    /// Reads that a connection needed for a round of messages that were published at once.
    ReadsPerRound,
    /// The time until all subscribers have a message: 99th percentile over median.
    TailOverMedian,
    /// Server CPU per connection, from connect to subscribed, in microseconds; of the engine without [`Figure::SpinPerConnection`].
    CpuPerConnection,
    /// The same with all that was spun.
    AllCpuPerConnection,
    /// Of the engine, CPU time per connection in which it looked around for work in vain, as it counts it, in microseconds. A
    /// core that is full has none; here it waits for the load generator, and the baselines sleep meanwhile.
    SpinPerConnection,
    /// Private memory of the server per idle connection, in bytes.
    UserBytes,
    /// Kernel objects per idle connection, both ends, in bytes.
    KernelBytes,
}

impl Figure {
    /// Returns the unit for the table.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Figure::CpuPerDelivery => "µs CPU/delivery",
            Figure::CpuPerMessage => "µs CPU/message",
            Figure::LatencyMedian => "µs latency, p50",
            Figure::ReadsPerRound => "reads/round of a connection",
            Figure::TailOverMedian => "x p50 at p99, until all have it",
            Figure::CpuPerConnection => "µs CPU/connection",
            Figure::AllCpuPerConnection => "µs CPU/connection, spin included",
            Figure::SpinPerConnection => "µs spun/connection",
            Figure::UserBytes => "user B/connection",
            Figure::KernelBytes => "kernel B/connection, both ends",
        }
    }
}

/// What a figure is put beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// The same figure of another server under the same load.
    Server(Kind),
    /// The first figure of a server in another scenario.
    Scenario(&'static str, Kind),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// What is read off.
    pub figure: Figure,
    /// Of which server.
    pub of: Kind,
    /// What it is compared with.
    pub beside: Beside,
    /// What must hold.
    pub bound: Bound,
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What happens, and why the bound is what it is where the design does not say.
    pub about: &'static str,
    /// The servers, in turn in every round.
    pub servers: &'static [Kind],
    /// What is read off each run.
    pub figures: &'static [Figure],
    /// What must hold of it.
    pub claims: &'static [Claim],
    /// Further flags of the engine.
    engine_flags: &'static [&'static str],
    /// The load, which is not the same for every kind of server.
    plan: fn(&mut Plan, Kind),
}

/// The bare loop keeps 64 MiB for those who fall behind; with its default of 256 KiB the engine would rather tell them of
/// a loss than wait, which is right, but not the same work.
const LONG_LOG: &[&str] = &["--log-bytes", "16m"];

/// History for everything that is missed between two connections.
const LONG_HISTORY: &[&str] = &["--history-messages", "2000", "--history-bytes", "2m"];

/// Connects, and then publishes so many messages, so many at a time.
fn closed(in_flight: u32, messages: u64) -> Vec<Phase> {
    Plan::connect_then(Phase { messages: Some(messages), ..Phase::publish(Load::Closed { in_flight }) })
}

/// Connects, and then drops everybody several times, each time with so many messages meanwhile.
fn returns(messages: u64) -> Vec<Phase> {
    // As fast as they can be written: all are due at once.
    let again = Phase { messages: Some(messages), rate: Some(1e9), ..Phase::new(PhaseKind::Reconnect) };
    // Who has never heard of a topic has no cursor to come back with.
    let mut phases = closed(1, 1);
    phases.extend(std::iter::repeat_n(again, RETURNS));
    phases
}

/// Connects, and then publishes so many messages, so many a second.
fn paced(rate: f64, messages: u64) -> Vec<Phase> {
    Plan::connect_then(Phase { messages: Some(messages), ..Phase::publish(Load::Open { rate }) })
}

/// 200 connections with so many topics each, all of them the same; a message to each topic at once, and the next when everybody has
/// got all of them.
fn rounds(plan: &mut Plan, topics: u32, rounds: u64) {
    plan.transport = Transport::Line;
    plan.connections = 200;
    (plan.topics, plan.topics_each) = (topics, topics);
    let load = Load::Closed { in_flight: topics };
    let messages = Some(rounds * u64::from(topics));
    plan.phases = Plan::connect_then(Phase { messages, together: Some(topics), ..Phase::publish(load) });
}

/// 15,000 connections with a topic each; messages to random ones.
fn unicast(plan: &mut Plan, rate: f64, messages: u64) {
    plan.connections = COLD_SUBSCRIBERS;
    plan.subscribe = vec![Audience::Own];
    plan.phases = paced(rate, messages);
}

/// All scenarios, in the order of the table.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "fanout-warm",
        about: "1 topic, 1,000 subscribers, 512 B, one message at a time",
        servers: &[ENGINE, Kind::BareFanout, Kind::EpollFanout],
        figures: &[Figure::CpuPerDelivery],
        claims: &[
            delivery(Beside::Server(Kind::BareFanout), Bound::Times(1.10)),
            beside_epoll(Figure::CpuPerDelivery, Bound::Below),
        ],
        engine_flags: &[],
        plan: |plan, _| plan.phases = closed(1, 500),
    },
    Scenario {
        name: "fanout-cold",
        about: "the same with 15,000 subscribers",
        servers: &[ENGINE, Kind::BareFanout, Kind::EpollFanout],
        figures: &[Figure::CpuPerDelivery],
        claims: &[
            delivery(Beside::Server(Kind::BareFanout), Bound::Times(1.10)),
            beside_epoll(Figure::CpuPerDelivery, Bound::Below),
        ],
        engine_flags: &[],
        plan: |plan, _| {
            plan.connections = COLD_SUBSCRIBERS;
            plan.phases = closed(1, 30);
        },
    },
    Scenario {
        name: "burst-16",
        about: "1 topic, 1,000 subscribers, 512 B, 16 messages in flight",
        servers: &[ENGINE, Kind::BareFanout, Kind::EpollFanout],
        figures: &[Figure::CpuPerDelivery],
        claims: &[
            delivery(Beside::Server(Kind::BareFanout), Bound::AtMost(0.5)),
            beside_epoll(Figure::CpuPerDelivery, Bound::Below),
        ],
        engine_flags: LONG_LOG,
        plan: |plan, _| plan.phases = closed(16, 4_000),
    },
    Scenario {
        name: "burst-256",
        about: "the same with 256 in flight; a delivery costs less than with 16",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerDelivery],
        claims: &[
            delivery(Beside::Scenario("burst-16", ENGINE), Bound::Below),
            delivery(Beside::Server(Kind::BareFanout), Bound::Told),
        ],
        engine_flags: LONG_LOG,
        plan: |plan, _| plan.phases = closed(256, 10_000),
    },
    Scenario {
        name: "echo",
        about: "64 B on each of 100 connections, one at a time",
        servers: &[ENGINE, Kind::BareEcho, Kind::EpollEcho],
        figures: &[Figure::CpuPerDelivery],
        claims: &[
            delivery(Beside::Server(Kind::BareEcho), Bound::Times(1.10)),
            delivery(Beside::Server(Kind::EpollEcho), Bound::Below),
        ],
        engine_flags: &[],
        plan: |plan, _| {
            plan.transport = Transport::Echo;
            plan.bytes = 64;
            plan.connections = 100;
            plan.phases = closed(1, 200_000);
        },
    },
    Scenario {
        name: "ramp",
        about: "10,000 connections: TCP, WebSocket handshake with the subscription in its path. The load generator is the slower \
                side, so the engine also spins, waiting for it: a row of its own, not counted in the first",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerConnection, Figure::SpinPerConnection],
        claims: &[connection(Beside::Server(Kind::BareFanout), Bound::AtMost(25.0)), SPIN],
        engine_flags: &[],
        plan: |plan, _| {
            plan.connections = 10_000;
            plan.phases = vec![Phase::connect()];
        },
    },
    Scenario {
        name: "ramp-line",
        about: "10,000 connections: TCP, WebSocket handshake, one SUB and its answer",
        servers: &[ENGINE],
        figures: &[Figure::CpuPerConnection, Figure::SpinPerConnection],
        claims: &[connection(Beside::Scenario("ramp", Kind::BareFanout), Bound::AtMost(25.0)), SPIN],
        engine_flags: &[],
        plan: |plan, _| {
            plan.connections = 10_000;
            plan.transport = Transport::Line;
            plan.phases = vec![Phase::connect()];
        },
    },
    Scenario {
        name: "idle",
        about: "memory of 15,000 subscribers that nothing is sent to; the kernel's is that of both ends, and of whatever else \
                the host does meanwhile",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::UserBytes, Figure::KernelBytes],
        claims: &[
            Claim {
                figure: Figure::UserBytes,
                of: ENGINE,
                beside: Beside::Server(Kind::BareFanout),
                bound: Bound::AtMost(256.0),
            },
            Claim {
                figure: Figure::KernelBytes,
                of: ENGINE,
                beside: Beside::Server(Kind::BareFanout),
                bound: Bound::Told,
            },
        ],
        engine_flags: &[],
        plan: |plan, _| {
            plan.connections = COLD_SUBSCRIBERS;
            plan.phases = vec![Phase::connect()];
        },
    },
    Scenario {
        name: "lonely-2000",
        about: "1 topic, 2 readers, 512 B, one message at a time, 2,000 a second",
        servers: &[ENGINE, Kind::EpollFanout],
        figures: &[Figure::CpuPerMessage, Figure::LatencyMedian],
        claims: &[
            beside_epoll(Figure::CpuPerMessage, Bound::Times(1.25)),
            beside_epoll(Figure::LatencyMedian, Bound::Told),
        ],
        engine_flags: &[],
        plan: |plan, _| {
            plan.connections = 2;
            plan.phases = paced(2_000.0, 10_000);
        },
    },
    Scenario {
        name: "lonely-100",
        about: "the same, 100 a second",
        servers: &[ENGINE, Kind::EpollFanout],
        figures: &[Figure::CpuPerMessage, Figure::LatencyMedian],
        claims: &[
            beside_epoll(Figure::CpuPerMessage, Bound::Times(1.5)),
            beside_epoll(Figure::LatencyMedian, Bound::Told),
        ],
        engine_flags: &[],
        plan: |plan, _| {
            plan.connections = 2;
            plan.phases = paced(100.0, 600);
        },
    },
    Scenario {
        name: "connect",
        about: "3,000 connections, one after another: TCP, WebSocket handshake, one SUB and its answer; the epoll server's have the \
                subscription in the path of the handshake, and no SUB",
        servers: &[ENGINE, Kind::EpollFanout],
        figures: &[Figure::AllCpuPerConnection],
        claims: &[beside_epoll(Figure::AllCpuPerConnection, Bound::Times(1.5))],
        engine_flags: &[],
        plan: |plan, kind| {
            plan.connections = 3_000;
            if kind.is_engine() {
                plan.transport = Transport::Line;
            }
            plan.phases = vec![Phase { under_way: Some(1), ..Phase::connect() }];
        },
    },
    Scenario {
        name: "connect-line",
        about: "the same, and the epoll server takes a SUB and answers it too",
        servers: &[ENGINE, Kind::EpollFanout],
        figures: &[Figure::AllCpuPerConnection],
        claims: &[beside_epoll(Figure::AllCpuPerConnection, Bound::Told)],
        engine_flags: &[],
        plan: |plan, _| {
            plan.connections = 3_000;
            plan.transport = Transport::Line;
            plan.phases = vec![Phase { under_way: Some(1), ..Phase::connect() }];
        },
    },
    Scenario {
        name: "topics-16",
        about: "200 connections with the same 16 topics each, 512 B to each topic at once, one round after another",
        servers: &[ENGINE, Kind::EpollFanout],
        figures: &[Figure::CpuPerDelivery, Figure::ReadsPerRound],
        claims: &[
            beside_epoll(Figure::CpuPerDelivery, Bound::Times(1.5)),
            beside_epoll(Figure::ReadsPerRound, Bound::Times(1.5)),
        ],
        engine_flags: &[],
        plan: |plan, _| rounds(plan, 16, 500),
    },
    Scenario {
        name: "topics-64",
        about: "the same with 64 topics",
        servers: &[ENGINE, Kind::EpollFanout],
        figures: &[Figure::CpuPerDelivery, Figure::ReadsPerRound],
        claims: &[
            beside_epoll(Figure::CpuPerDelivery, Bound::Times(1.5)),
            beside_epoll(Figure::ReadsPerRound, Bound::Times(1.5)),
        ],
        engine_flags: &[],
        plan: |plan, _| rounds(plan, 64, 200),
    },
    Scenario {
        name: "burst-tail",
        about: "1 topic, 1,000 readers, 512 B, 16 messages in flight: how long until all have it",
        servers: &[ENGINE, Kind::EpollFanout, Kind::BareFanout],
        figures: &[Figure::TailOverMedian],
        claims: &[
            beside_epoll(Figure::TailOverMedian, Bound::AtMost(2.0)),
            Claim {
                figure: Figure::TailOverMedian,
                of: ENGINE,
                beside: Beside::Server(Kind::BareFanout),
                bound: Bound::Told,
            },
        ],
        engine_flags: &[],
        plan: |plan, _| plan.phases = closed(16, 4_000),
    },
    Scenario {
        name: "unicast-1000",
        about: "15,000 connections with a topic each on two shards, each on a core; 512 B to a random one, 1,000 a second. The load \
                generator has one of the two cores too",
        servers: &[TWO_CORES, ENGINE, Kind::EpollFanout],
        figures: &[Figure::CpuPerMessage, Figure::LatencyMedian],
        claims: UNICAST,
        engine_flags: &[],
        plan: |plan, _| unicast(plan, 1_000.0, 6_000),
    },
    Scenario {
        name: "unicast-16667",
        about: "the same, 16,667 a second, as a million connections with one message a minute each; 30 µs are asked for",
        servers: &[TWO_CORES, ENGINE, Kind::EpollFanout],
        figures: &[Figure::CpuPerMessage, Figure::LatencyMedian],
        claims: UNICAST_BUSY,
        engine_flags: &[],
        plan: |plan, _| unicast(plan, 16_667.0, 83_335),
    },
    Scenario {
        name: "many-topics",
        about: "15,000 topics with one subscriber each, 64 messages in flight. Each delivery also pays for receiving its own \
                publication, as each echo does; that row is as cold, but has one message in flight per connection",
        servers: &[ENGINE, Kind::BareEcho],
        figures: &[Figure::CpuPerDelivery],
        claims: &[
            delivery(Beside::Scenario("fanout-cold", ENGINE), Bound::Times(1.3)),
            delivery(Beside::Server(Kind::BareEcho), Bound::Told),
        ],
        engine_flags: &[],
        plan: |plan, kind| {
            plan.connections = COLD_SUBSCRIBERS;
            if kind == Kind::BareEcho {
                plan.transport = Transport::Echo;
                plan.phases = closed(1, 300_000);
            } else {
                plan.topics = COLD_SUBSCRIBERS;
                plan.phases = closed(64, 300_000);
            }
        },
    },
    Scenario {
        name: "cross-shard",
        about: "1,000 topics; with two shards on one core half of the messages cross",
        servers: &[ENGINE, TWO_SHARDS],
        figures: &[Figure::CpuPerDelivery],
        claims: &[Claim {
            figure: Figure::CpuPerDelivery,
            of: TWO_SHARDS,
            beside: Beside::Server(ENGINE),
            bound: Bound::More(3.0),
        }],
        engine_flags: &[],
        plan: |plan, _| {
            plan.topics = 1_000;
            plan.phases = closed(64, 200_000);
        },
    },
    Scenario {
        name: "replay",
        about: "1,000 subscribers are dropped and come back with their cursors, four times, and get the 250 messages of 512 B \
                that they missed; coming back is in the figure. Beside it the bare loop, which sends the same bytes in slices \
                as long. History is read for each of them alone: into a ring, out of it, and encoded into a queue of its \
                own, three copies more than a slice of a frame log takes; so at most three times the bare slice",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerDelivery],
        claims: &[delivery(Beside::Server(Kind::BareFanout), Bound::Times(3.0))],
        engine_flags: LONG_HISTORY,
        plan: |plan, kind| {
            if kind.is_engine() {
                // Raw WebSockets have no cursors.
                plan.transport = Transport::Line;
                plan.phases = returns(MISSED_MESSAGES);
            } else {
                plan.phases = closed(MISSED_MESSAGES as u32, 10_000);
            }
        },
    },
];

/// Figures of one run, in the order of [`Scenario::figures`], and the report they come from.
#[derive(Debug)]
pub struct Measured {
    /// The figures.
    pub figures: Vec<f64>,
    /// The report, which says whether every delivery was right.
    pub report: Report,
}

/// How a run is scaled and placed.
#[derive(Clone, Debug)]
pub struct Conduct {
    /// Where servers are.
    pub setup: Setup,
    /// Messages are divided by this, for a quick look.
    pub divisor: u64,
}

impl Scenario {
    /// Starts the server, runs the load, ends the server, and reads the figures off.
    ///
    /// # Errors
    /// If the server or the load cannot be started, or the figures cannot be read.
    pub fn measure(&self, kind: Kind, conduct: &Conduct) -> io::Result<Measured> {
        let server = Server::start(kind, self.engine_flags, &conduct.setup)?;
        let mut plan = Plan {
            connect: vec![server.address()],
            transport: Transport::Raw,
            cores: vec![conduct.setup.client_core],
            server_pid: Some(server.pid()),
            ..Plan::default()
        };
        (self.plan)(&mut plan, kind);
        // How much is missed by who comes back is what a scenario is about, not how long it takes.
        for phase in plan.phases.iter_mut().filter(|phase| phase.kind == PhaseKind::Publish) {
            phase.messages = phase.messages.map(|messages| (messages / conduct.divisor).max(1));
        }
        if self.reads_memory() {
            warm_up(&plan)?;
        }
        let before = self.memory(server.pid())?;
        let mut after = Ok(before);
        let mut spun_us = Ok(0);
        let report = run(&plan, &mut || {
            if self.reads_memory() {
                std::thread::sleep(REST);
                after = self.memory(server.pid());
            }
            if self.figures.contains(&Figure::SpinPerConnection) {
                // The engine writes its counters when it comes to rest.
                std::thread::sleep(REST);
                spun_us = server.spun_us();
            }
        })
        .map_err(io::Error::other)?;
        let (after, spun_us) = (after?, spun_us? as f64);
        let Some((connect, load)) = report.phases.split_first().filter(|_| report.phases.len() == plan.phases.len())
        else {
            return Err(io::Error::other("the load generator gave up before the last phase"));
        };
        let connections = f64::from(connect.connections_made.max(1));
        let figures = self.figures.iter().map(|figure| match figure {
            Figure::CpuPerDelivery => cpu_ns_per_delivery(load).unwrap_or(f64::NAN) / 1e3,
            Figure::CpuPerMessage => cpu_ns_per_message(load).unwrap_or(f64::NAN) / 1e3,
            Figure::LatencyMedian => load[0].latency.quantile_ns(0.5) as f64 / 1e3,
            Figure::ReadsPerRound => reads_per_round(&plan, &load[0]),
            Figure::TailOverMedian => {
                load[0].complete.quantile_ns(0.99) as f64 / load[0].complete.quantile_ns(0.5) as f64
            }
            Figure::AllCpuPerConnection => connect.server_cpu_ns_per_connection().unwrap_or(f64::NAN) / 1e3,
            Figure::CpuPerConnection => {
                connect.server_cpu_ns_per_connection().unwrap_or(f64::NAN) / 1e3 - spun_us / connections
            }
            Figure::SpinPerConnection => spun_us / connections,
            Figure::UserBytes => (after.0 as f64 - before.0 as f64) / connections,
            Figure::KernelBytes => (after.1 as f64 - before.1 as f64) / connections,
        });
        let figures = figures.collect();
        Ok(Measured { figures, report })
    }

    /// Finds the scenario of a name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Returns the names of the scenarios that this one is compared with.
    pub fn needs(&self) -> impl Iterator<Item = &'static str> {
        self.claims.iter().filter_map(|claim| match claim.beside {
            Beside::Scenario(name, _) => Some(name),
            Beside::Nothing | Beside::Server(_) => None,
        })
    }

    fn reads_memory(&self) -> bool {
        self.figures.contains(&Figure::UserBytes)
    }

    /// Returns, once the kernel has cleared away what earlier runs left, the server's private bytes and the kernel's objects.
    fn memory(&self, pid: u32) -> io::Result<(u64, u64)> {
        if !self.reads_memory() {
            return Ok((0, 0));
        }
        let mut slab = slab_bytes()?;
        for _ in 0..SETTLE_LOOKS_MAX {
            std::thread::sleep(REST);
            let now = slab_bytes()?;
            if now.abs_diff(slab) < SETTLED_BYTES {
                break;
            }
            slab = now;
        }
        Ok((anonymous_bytes(pid)?, slab_bytes()?))
    }
}

/// Returns the server's CPU time per delivery over all phases behind the connecting one.
fn cpu_ns_per_delivery(phases: &[PhaseReport]) -> Option<f64> {
    let deliveries: u64 = phases.iter().map(|phase| phase.counts.delivered).sum();
    let cpu_ns: Option<u64> = phases.iter().map(|phase| Some(phase.server.as_ref()?.cpu_ns)).sum();
    (deliveries > 0).then_some(cpu_ns? as f64 / deliveries as f64)
}

/// Returns the server's CPU time per published message over all phases behind the connecting one.
fn cpu_ns_per_message(phases: &[PhaseReport]) -> Option<f64> {
    let messages: u64 = phases.iter().map(|phase| phase.published_messages).sum();
    let cpu_ns: Option<u64> = phases.iter().map(|phase| Some(phase.server.as_ref()?.cpu_ns)).sum();
    (messages > 0).then_some(cpu_ns? as f64 / messages as f64)
}

/// Returns in how many reads a connection got what was published at once.
fn reads_per_round(plan: &Plan, phase: &PhaseReport) -> f64 {
    let together = plan.phases.iter().find_map(|phase| phase.together).unwrap_or(1);
    let rounds = phase.published_messages as f64 / f64::from(together);
    phase.reads as f64 / (rounds * f64::from(plan.connections))
}

/// Uses every receive buffer of the server once: pools that are touched sooner or later whatever the number of
/// connections are no cost of a connection.
fn warm_up(plan: &Plan) -> io::Result<()> {
    let plan = Plan { connections: 1, topics: 1, phases: closed(1, WARM_UP_MESSAGES), ..plan.clone() };
    run(&plan, &mut || {}).map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every scenario has a name of its own, includes the engine, makes plans that could be run, and claims only what is
    /// measured, by itself or by a scenario further up.
    #[test]
    fn scenarios_are_sound() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            let name = scenario.name;
            assert_eq!(SCENARIOS.iter().filter(|other| other.name == name).count(), 1, "{name} is there twice");
            assert_eq!(Scenario::find(name).map(|found| found.name), Some(name));
            assert!(scenario.servers[0].is_engine() && !scenario.figures.is_empty() && !scenario.claims.is_empty());
            for kind in scenario.servers {
                let mut plan = Plan::default();
                (scenario.plan)(&mut plan, *kind);
                assert_eq!(plan.check(20_000), Ok(()), "{name}");
            }
            for claim in scenario.claims {
                assert!(scenario.servers.contains(&claim.of) && scenario.figures.contains(&claim.figure), "{name}");
                match claim.beside {
                    Beside::Nothing => {}
                    Beside::Server(kind) => assert!(scenario.servers.contains(&kind) && kind != claim.of, "{name}"),
                    Beside::Scenario(other, kind) => {
                        let other = SCENARIOS[..index].iter().find(|one| one.name == other).unwrap();
                        assert!(other.servers.contains(&kind) && other.figures[0] == claim.figure, "{name}");
                    }
                }
            }
        }
    }

    /// What a delivery costs is that of all phases together, and unknown if one of them was not measured.
    #[test]
    fn phases_add_up() {
        let phase = |cpu_ns: Option<u64>, delivered| {
            let mut phase = PhaseReport::new("again", corecast_loadgen::report::Kind::Reconnect);
            phase.counts.delivered = delivered;
            phase.server = cpu_ns.map(|cpu_ns| corecast_loadgen::report::ServerUse {
                pid: 1,
                cpu_ns,
                resident_bytes_before: None,
                resident_bytes_after: None,
                threads: None,
            });
            phase
        };
        assert_eq!(cpu_ns_per_delivery(&[phase(Some(600), 2), phase(Some(1_000), 2)]), Some(400.0));
        assert_eq!(cpu_ns_per_delivery(&[phase(Some(600), 2), phase(None, 2)]), None);
        assert_eq!(cpu_ns_per_delivery(&[phase(Some(600), 0)]), None);
    }
}
