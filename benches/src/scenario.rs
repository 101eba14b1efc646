//! The scenarios: which load, against which servers, and what is read off.
//!
//! Each row of the table is one figure of one server; the first server of a scenario that is not the engine is what the
//! engine is compared with.

use std::io;
use std::time::Duration;

use corecast_loadgen::process::{anonymous_bytes, slab_bytes};
use corecast_loadgen::{Load, Phase, Plan, Report, Transport, run};

use crate::server::{Kind, Server, Setup};

/// Subscribers of the cold fan-out: as many as one ring's table surely holds here, and far more than caches do.
const COLD_SUBSCRIBERS: u32 = 15_000;

/// Messages of a warm-up: more than any server here has receive buffers.
const WARM_UP_MESSAGES: u64 = 6_000;

/// Half-seconds that the kernel gets to clear away, and a change between two that counts as none, in bytes.
const SETTLE_LOOKS_MAX: u32 = 30;
const SETTLED_BYTES: u64 = 256 << 10;

/// Time for a server to come to rest before its memory is read.
const REST: Duration = Duration::from_millis(500);

/// What is read off a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Server CPU per delivery or echo, in microseconds.
    CpuPerDelivery,
    /// Server CPU per connection, from connect to subscribed, in microseconds.
    CpuPerConnection,
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
            Figure::CpuPerConnection => "µs CPU/connection",
            Figure::UserBytes => "user B/connection",
            Figure::KernelBytes => "kernel B/connection, both ends",
        }
    }
}

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it must hold, as the design says.
    pub goal: &'static str,
    /// The servers, in turn in every round.
    pub servers: &'static [Kind],
    /// What is read off each run.
    pub figures: &'static [Figure],
    /// Further flags of the engine.
    engine_flags: &'static [&'static str],
    plan: fn(&mut Plan),
}

/// The bare loop keeps 64 MiB for those who fall behind; with its default of 256 KiB the engine would rather tell them of
/// a loss than wait, which is right, but not the same work.
const LONG_LOG: &[&str] = &["--log-bytes", "16m"];

/// Connects, and then publishes so many messages, so many at a time.
fn closed(in_flight: u32, messages: u64) -> Vec<Phase> {
    Plan::connect_then(Phase { messages: Some(messages), ..Phase::publish(Load::Closed { in_flight }) })
}

const ENGINE: Kind = Kind::Engine { shards: 1 };

/// All scenarios, in the order of the table.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "fanout-warm",
        goal: "<= 1.10 x the bare loop",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerDelivery],
        engine_flags: &[],
        plan: |plan| {
            plan.phases = closed(1, 500);
        },
    },
    Scenario {
        name: "fanout-cold",
        goal: "<= 1.10 x the bare loop",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerDelivery],
        engine_flags: &[],
        plan: |plan| {
            plan.connections = COLD_SUBSCRIBERS;
            plan.phases = closed(1, 30);
        },
    },
    Scenario {
        name: "burst-16",
        goal: "<= 0.5 µs",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerDelivery],
        engine_flags: LONG_LOG,
        plan: |plan| {
            plan.phases = closed(16, 4_000);
        },
    },
    Scenario {
        name: "burst-256",
        goal: "below burst-16",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerDelivery],
        engine_flags: LONG_LOG,
        plan: |plan| {
            plan.phases = closed(256, 10_000);
        },
    },
    Scenario {
        name: "echo",
        goal: "<= 1.10 x the bare ring, below epoll",
        servers: &[ENGINE, Kind::BareEcho, Kind::EpollEcho],
        figures: &[Figure::CpuPerDelivery],
        engine_flags: &[],
        plan: |plan| {
            plan.transport = Transport::Echo;
            plan.bytes = 64;
            plan.connections = 100;
            plan.phases = closed(1, 200_000);
        },
    },
    Scenario {
        name: "ramp",
        goal: "<= 25 µs",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::CpuPerConnection],
        engine_flags: &[],
        plan: |plan| {
            plan.connections = 10_000;
            plan.phases = vec![Phase::connect()];
        },
    },
    Scenario {
        name: "ramp-line",
        goal: "<= 25 µs",
        servers: &[ENGINE],
        figures: &[Figure::CpuPerConnection],
        engine_flags: &[],
        plan: |plan| {
            plan.connections = 10_000;
            plan.transport = Transport::Line;
            plan.phases = vec![Phase::connect()];
        },
    },
    Scenario {
        name: "idle",
        goal: "<= 256 B user",
        servers: &[ENGINE, Kind::BareFanout],
        figures: &[Figure::UserBytes, Figure::KernelBytes],
        engine_flags: &[],
        plan: |plan| {
            plan.connections = COLD_SUBSCRIBERS;
            plan.phases = vec![Phase::connect()];
        },
    },
    Scenario {
        name: "many-topics",
        goal: "<= 1.3 x fanout-cold",
        servers: &[ENGINE],
        figures: &[Figure::CpuPerDelivery],
        engine_flags: &[],
        plan: |plan| {
            plan.connections = COLD_SUBSCRIBERS;
            plan.topics = COLD_SUBSCRIBERS;
            plan.phases = closed(64, 300_000);
        },
    },
    Scenario {
        name: "cross-shard",
        goal: "2 shards <= 3 µs more than 1",
        servers: &[ENGINE, Kind::Engine { shards: 2 }],
        figures: &[Figure::CpuPerDelivery],
        engine_flags: &[],
        plan: |plan| {
            plan.topics = 1_000;
            plan.phases = closed(64, 200_000);
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
    /// Core of the load generator.
    pub client_core: usize,
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
            cores: vec![conduct.client_core],
            server_pid: Some(server.pid()),
            ..Plan::default()
        };
        (self.plan)(&mut plan);
        for phase in &mut plan.phases {
            phase.messages = phase.messages.map(|messages| (messages / conduct.divisor).max(1));
        }
        if self.reads_memory() {
            warm_up(&plan)?;
        }
        let before = self.memory(server.pid())?;
        let mut after = Ok(before);
        let report = run(&plan, &mut || {
            if self.reads_memory() {
                std::thread::sleep(REST);
                after = self.memory(server.pid());
            }
        })
        .map_err(io::Error::other)?;
        let after = after?;
        let [connect, load] = &report.phases[..] else {
            return Err(io::Error::other("a run has two phases"));
        };
        let connections = f64::from(connect.connections_made.max(1));
        let figures = self.figures.iter().map(|figure| match figure {
            Figure::CpuPerDelivery => load.server_cpu_ns_per_delivery().unwrap_or(f64::NAN) / 1e3,
            Figure::CpuPerConnection => connect.server_cpu_ns_per_connection().unwrap_or(f64::NAN) / 1e3,
            Figure::UserBytes => (after.0 as f64 - before.0 as f64) / connections,
            Figure::KernelBytes => (after.1 as f64 - before.1 as f64) / connections,
        });
        let figures = figures.collect();
        Ok(Measured { figures, report })
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

/// Uses every receive buffer of the server once: pools that are touched sooner or later whatever the number of
/// connections are no cost of a connection.
fn warm_up(plan: &Plan) -> io::Result<()> {
    let plan = Plan { connections: 1, topics: 1, phases: closed(1, WARM_UP_MESSAGES), ..plan.clone() };
    run(&plan, &mut || {}).map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every scenario has a name of its own, includes the engine, and makes a plan that could be run.
    #[test]
    fn scenarios_are_sound() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..index].iter().all(|earlier| earlier.name != scenario.name), "{}", scenario.name);
            assert!(scenario.servers[0].is_engine() && !scenario.figures.is_empty());
            let mut plan = Plan::default();
            (scenario.plan)(&mut plan);
            assert_eq!(plan.check(20_000), Ok(()), "{}", scenario.name);
        }
    }
}
