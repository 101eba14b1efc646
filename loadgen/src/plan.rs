//! What a run shall do, checked before the first connection.
//!
//! Owns the numbers of a run and every reason why it cannot be started. Never: touches a server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::payload::STAMP_BYTES;

/// Most direct descriptors asked of one ring. A ring's table may not exceed RLIMIT_NOFILE, commonly 20,000 and up; a
/// larger table brings nothing, as a worker may have many rings.
pub const RING_SLOTS_MAX: u32 = 18_000;

/// Descriptors of the process left to everything else when a ring's table is sized.
const SPARE_FILES: u32 = 200;

/// Connections from one source to one destination address on loopback. Linux's default range has 28,232 ports, and
/// looks at every second one first: above half of them, finding a free one takes longer and longer.
const PORTS_PER_PAIR: u32 = 12_000;

/// Most connections from one source to one destination address elsewhere: nearly all ports of the default range.
const PORTS_PER_PAIR_MAX: u32 = 28_000;

/// Connections up to which a multishot receive is armed for each: above, its 864 B of kernel memory each count more
/// than the CPU it saves.
const STREAM_CONNECTIONS_MAX: u32 = 50_000;

/// How the load is driven.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Nothing is published: connect, hold, report.
    Idle,
    /// Messages are due by a fixed schedule, whatever happens: latency counts from when a message was due.
    Open {
        /// Messages a second, over all topics (`--echo`: over all connections).
        rate: f64,
    },
    /// The next message is sent when an earlier one has reached everyone: good for cost, blind to queues.
    Closed {
        /// Messages under way at a time (`--echo`: per connection).
        in_flight: u32,
    },
}

/// How subscribers ask for their topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// `/ws`, `SUB topic`, messages with a header line.
    Line,
    /// `/topics/{topic}` upgraded to a WebSocket, messages are payloads.
    Raw,
}

/// How the publisher publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Publish {
    /// `PUB topic` on a WebSocket to `/ws`.
    Ws,
    /// `POST /topics/{topic}`, pipelined on one connection.
    Http,
}

/// How connections wait for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A multishot receive each: least CPU.
    Stream,
    /// A poll each, then a receive: least memory.
    Readiness,
}

/// Everything a run needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Server addresses, used in turn.
    pub connect: Vec<SocketAddr>,
    /// Subscribers (`--echo`: echoing connections).
    pub connections: u32,
    /// Topics; connection i subscribes to topic i modulo this.
    pub topics: u32,
    /// Topics are named this, a slash, and their number.
    pub topic_prefix: String,
    /// How messages are driven.
    pub load: Load,
    /// Ends the run after so many messages (`--echo`: round trips), over all topics.
    pub messages: Option<u64>,
    /// Ends the run after so many seconds.
    pub seconds: Option<f64>,
    /// Bytes of a payload.
    pub bytes: usize,
    /// Most new connections a second.
    pub ramp: Option<u32>,
    /// Worker threads.
    pub workers: u32,
    /// Cores of the workers, in turn; empty: not pinned.
    pub cores: Vec<usize>,
    /// How subscribers subscribe.
    pub protocol: Protocol,
    /// How messages are published.
    pub publish: Publish,
    /// Echo round trips on `/echo` instead of topics.
    pub echo: bool,
    /// A message that takes longer counts as late, in milliseconds.
    pub late_ms: u64,
    /// Without any delivery for so long, what is missing is lost; in seconds.
    pub patience_s: f64,
    /// Process whose CPU time is reported.
    pub server_pid: Option<u32>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            connect: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            connections: 1000,
            topics: 1,
            topic_prefix: unique_prefix(),
            load: Load::Open { rate: 10.0 },
            messages: None,
            seconds: Some(10.0),
            bytes: 512,
            ramp: None,
            workers: 1,
            cores: Vec::new(),
            protocol: Protocol::Line,
            publish: Publish::Ws,
            echo: false,
            late_ms: 1000,
            patience_s: 5.0,
            server_pid: None,
        }
    }
}

/// Why a run cannot be started, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CannotStart {
    /// What is wrong.
    pub cause: String,
    /// What would help.
    pub cure: String,
}

impl CannotStart {
    pub(crate) fn new(cause: impl Into<String>, cure: impl Into<String>) -> CannotStart {
        CannotStart { cause: cause.into(), cure: cure.into() }
    }
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  cure: {}", self.cause, self.cure)
    }
}

impl std::error::Error for CannotStart {}

impl Plan {
    /// Checks the plan against itself and against this host's limit of open files.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, file_limit: u32) -> Result<(), CannotStart> {
        let wrong = |cause: String, cure: &str| Err(CannotStart::new(cause, cure));
        if self.connect.is_empty() {
            return wrong("there is no server to connect to".into(), "give --connect ADDRESS:PORT");
        }
        if self.connections == 0 || self.topics == 0 || self.workers == 0 {
            return wrong(
                "connections, topics and workers must be at least 1".into(),
                "give each of them a positive number",
            );
        }
        if self.topics > self.connections && !self.echo {
            return wrong(
                format!(
                    "{} topics for {} connections leave topics without a subscriber",
                    self.topics, self.connections
                ),
                "give at most as many --topics as --connections",
            );
        }
        if self.workers > self.connections {
            return wrong(
                format!("{} workers for {} connections", self.workers, self.connections),
                "give at most as many --workers as --connections",
            );
        }
        if self.bytes < STAMP_BYTES || self.bytes > 1 << 20 {
            return wrong(
                format!("a payload of {} bytes cannot be checked", self.bytes),
                "give --bytes from 56 (what the check needs) to 1048576",
            );
        }
        match self.load {
            Load::Open { rate } if !(rate.is_finite() && rate > 0.0) => {
                return wrong(format!("{rate} messages a second cannot be scheduled"), "give a positive --rate");
            }
            Load::Closed { in_flight: 0 } => {
                return wrong("nothing in flight publishes nothing".into(), "give --in-flight 1 or more");
            }
            _ => {}
        }
        if self.messages.is_none() && self.seconds.is_none() {
            return wrong("the run would never end".into(), "give --seconds or --messages");
        }
        if self.seconds.is_some_and(|seconds| !(seconds.is_finite() && seconds >= 0.0)) {
            return wrong("--seconds must be a number, 0 or more".into(), "give --seconds 10, for example");
        }
        if self.ramp == Some(0) {
            return wrong("--ramp 0 never connects".into(), "leave --ramp away to connect as fast as possible");
        }
        if file_limit < SPARE_FILES * 2 {
            return wrong(format!("only {file_limit} files may be open"), "raise the limit: ulimit -n 20000");
        }
        self.check_ports()
    }

    fn check_ports(&self) -> Result<(), CannotStart> {
        let pairs = self.connect.iter().filter(|address| !address.ip().is_loopback()).count() as u64;
        let all_loopback = pairs == 0;
        let most = pairs * u64::from(PORTS_PER_PAIR_MAX);
        if !all_loopback && u64::from(self.connections) > most {
            return Err(CannotStart::new(
                format!(
                    "{} connections from one address to {pairs} server address(es) run out of ports at {most}",
                    self.connections
                ),
                "give --connect several times, with more addresses of the server",
            ));
        }
        Ok(())
    }

    /// Returns the table size of each ring, in connections.
    #[must_use]
    pub fn ring_slots(&self, file_limit: u32) -> u32 {
        RING_SLOTS_MAX.min(file_limit - SPARE_FILES)
    }

    /// Returns how many subscribers a worker has; they are spread as evenly as possible.
    #[must_use]
    pub fn share_of(&self, worker: u32) -> u32 {
        self.connections / self.workers + u32::from(worker < self.connections % self.workers)
    }

    /// Returns the number of a worker's first subscriber.
    #[must_use]
    pub fn first_of(&self, worker: u32) -> u32 {
        (0..worker).map(|earlier| self.share_of(earlier)).sum()
    }

    /// Returns where subscriber number `index` connects to, and from where.
    ///
    /// On loopback every 12,000 connections get a source address of their own, as all of 127.0.0.0/8 is this host.
    #[must_use]
    pub fn route(&self, index: u32) -> (SocketAddr, Option<IpAddr>) {
        let to = self.connect[index as usize % self.connect.len()];
        let source = index / (PORTS_PER_PAIR * self.connect.len() as u32);
        let from = match to.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && source > 0 => {
                let [_, _, high, low] = (source + 1).to_be_bytes();
                Some(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)))
            }
            _ => None,
        };
        (to, from)
    }

    /// Returns how connections wait for bytes.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        if self.connections > STREAM_CONNECTIONS_MAX { Waiting::Readiness } else { Waiting::Stream }
    }

    /// Returns a topic's name.
    #[must_use]
    pub fn topic_name(&self, topic: u32) -> String {
        format!("{}/{topic}", self.topic_prefix)
    }

    /// Returns how many of the first `published` messages went to a topic: they go round robin.
    #[must_use]
    pub fn published_to(&self, topic: u32, published: u64) -> u64 {
        let topics = u64::from(self.topics);
        published / topics + u64::from(u64::from(topic) < published % topics)
    }
}

/// A name of this run's own, so that an earlier run's messages are never taken for this one's.
fn unique_prefix() -> String {
    format!("load/{:x}{:x}", std::process::id(), crate::process::now_ns() & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Plan)) -> String {
        let mut plan = Plan::default();
        change(&mut plan);
        plan.check(20_000).unwrap_err().cause
    }

    /// Each impossible wish is refused with its own cause; the default plan is fine.
    #[test]
    fn impossible_plans_are_refused() {
        assert_eq!(Plan::default().check(20_000), Ok(()));
        assert!(refused(|plan| plan.connect.clear()).contains("no server"));
        assert!(refused(|plan| plan.connections = 0).contains("at least 1"));
        assert!(refused(|plan| plan.topics = 1001).contains("without a subscriber"));
        assert!(refused(|plan| plan.workers = 1001).contains("workers"));
        assert!(refused(|plan| plan.bytes = 55).contains("cannot be checked"));
        assert!(refused(|plan| plan.load = Load::Open { rate: f64::NAN }).contains("scheduled"));
        assert!(refused(|plan| plan.load = Load::Open { rate: -1.0 }).contains("scheduled"));
        assert!(refused(|plan| plan.load = Load::Closed { in_flight: 0 }).contains("in flight"));
        assert!(refused(|plan| plan.seconds = None).contains("never end"));
        assert!(refused(|plan| plan.seconds = Some(-1.0)).contains("--seconds"));
        assert!(refused(|plan| plan.ramp = Some(0)).contains("never connects"));
        assert!(Plan::default().check(100).unwrap_err().cause.contains("files"));
        assert!(
            refused(|plan| {
                plan.connect = vec![SocketAddr::from(([10, 0, 0, 1], 80))];
                plan.connections = 28_001;
            })
            .contains("run out of ports")
        );
    }

    /// A million loopback connections never put more than 12,000 on one pair of addresses.
    #[test]
    fn ports_do_not_run_out() {
        let connect = (1..=3).map(|last| SocketAddr::from(([127, 0, 0, last], 80))).collect();
        let plan = Plan { connect, connections: 1_000_000, ..Plan::default() };
        assert_eq!(plan.check(20_000), Ok(()));
        let mut pairs = std::collections::HashMap::new();
        for index in 0..plan.connections {
            *pairs.entry(plan.route(index)).or_insert(0u32) += 1;
        }
        assert!(pairs.values().all(|count| *count <= PORTS_PER_PAIR));
        assert!(pairs.len() <= 84, "no more pairs than needed: {}", pairs.len());
    }

    /// Workers' shares and topics' messages add up, and differ by one at most.
    #[test]
    fn shares_add_up() {
        let plan = Plan { connections: 10, workers: 3, topics: 4, ..Plan::default() };
        assert_eq!([0, 1, 2].map(|worker| plan.share_of(worker)), [4, 3, 3]);
        assert_eq!([0, 1, 2].map(|worker| plan.first_of(worker)), [0, 4, 7]);
        assert_eq!([0, 1, 2, 3].map(|topic| plan.published_to(topic, 6)), [2, 2, 1, 1]);
    }
}
