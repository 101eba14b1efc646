//! What a run shall do: who connects, and the phases that follow each other over these connections.
//!
//! Owns the numbers of a run. [`check`](Plan::check) knows every reason why it cannot be started, `file` reads and writes it as
//! TOML, `scenario` has ready-made ones. Never: touches a server.

mod check;
mod file;
mod generic;
mod phase;
mod scenario;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::sealed::Seal;

pub use generic::{Filling, Generic, Heard, Script, Step, Template, Url};
pub use phase::{Audience, Kind, Load, Phase, Stream};
pub use scenario::Scenario;

/// Most direct descriptors asked of one ring. A ring's table may not exceed RLIMIT_NOFILE, commonly 20,000 and up; a
/// larger table brings nothing, as a worker may have many rings.
pub const RING_SLOTS_MAX: u32 = 18_000;

/// Descriptors of the process left to everything else when a ring's table is sized.
const SPARE_FILES: u32 = 200;

/// Connections from one source to one destination address on loopback. Linux's default range has 28,232 ports, and
/// looks at every second one first: above half of them, finding a free one takes longer and longer.
const PORTS_PER_PAIR: u32 = 12_000;

/// Source addresses of a round: those who reconnect come from others, so that what the last round's connections left
/// behind (TIME_WAIT) is not in their way. 127.1.0.0/16 and up, as all of 127.0.0.0/8 is this host.
const ROUNDS_MAX: u32 = 100;

/// Connections up to which a multishot receive is armed for each: above, its 864 B of kernel memory each count more
/// than the CPU it saves.
const STREAM_CONNECTIONS_MAX: u32 = 50_000;

/// Connections of a worker on their way at a time: well below the accept queue of a default host (4,096).
const UNDER_WAY: u32 = 512;

/// How subscribers get their messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// `/ws`, `SUB topic`, messages with a header line; several topics on a connection.
    Line,
    /// `/topics/{topic}` upgraded to a WebSocket, messages are payloads. Has no cursors.
    Raw,
    /// Server-Sent Events: `/topics/{topic}?transport=sse`.
    Sse,
    /// Long polls, one after another.
    LongPoll,
    /// Polls, one each `poll-seconds`.
    Poll,
    /// Another server's WebSocket, as the plan's `generic` says.
    Generic,
    /// `/echo`: each connection gets its own messages back.
    Echo,
}

/// How the publisher publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// `PUB topic` on a WebSocket to `/ws`.
    Ws,
    /// `POST /topics/{topic}`, pipelined on one connection.
    Http,
}

/// What it means when the server says that it skipped messages for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Gaps {
    /// The run has failed.
    Refused,
    /// It is counted, and fine.
    Allowed,
}

/// Subscribers that read slowly. Their messages are checked, but are not in the latencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slow {
    /// Part of all connections, 0 to 1; they are spread evenly.
    pub fraction: f64,
    /// Bytes that each of them reads in a second, while messages are published.
    pub bytes_per_second: u32,
    /// Receive buffer of their sockets, so that the kernel does not read for them.
    #[serde(default = "Slow::receive_buffer")]
    pub receive_buffer: u32,
}

impl Slow {
    fn receive_buffer() -> u32 {
        4096
    }

    /// Makes a wish with the usual receive buffer.
    #[must_use]
    pub fn new(fraction: f64, bytes_per_second: u32) -> Slow {
        Slow { fraction, bytes_per_second, receive_buffer: Slow::receive_buffer() }
    }
}

/// How connections wait for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A multishot receive each: least CPU.
    Stream,
    /// A poll each, then a receive: least memory.
    Readiness,
}

/// A topic of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Whose it is.
    pub audience: Audience,
    /// Which of them.
    pub number: u32,
}

impl Topic {
    /// Bits of a topic's number; the two above say whose it is.
    const BITS: u32 = 30;

    /// Most topics of a kind, and so most connections.
    pub const NUMBERS_MAX: u32 = 1 << Topic::BITS;

    /// Returns the number that payloads carry.
    #[must_use]
    #[inline]
    pub fn stamp(self) -> u32 {
        (self.audience as u32) << Topic::BITS | self.number
    }

    /// Returns the topic that a number of a payload names.
    #[must_use]
    #[inline]
    pub fn of_stamp(stamp: u32) -> Option<Topic> {
        let audience = match stamp >> Topic::BITS {
            0 => Audience::All,
            1 => Audience::Group,
            2 => Audience::Own,
            _ => return None,
        };
        Some(Topic { audience, number: stamp & (Topic::NUMBERS_MAX - 1) })
    }
}

/// Whom connections that speak TLS believe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tls {
    /// A PEM file of the server's authorities, or of its certificate if that signs itself.
    pub ca: PathBuf,
    /// The name that the server's certificate is for.
    pub name: String,
}

impl Tls {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it, or with the name.
    pub(crate) fn seal(&self) -> Result<Seal, CannotStart> {
        let config = corecast::trust::config(Some(&self.ca));
        let config = Arc::new(config.map_err(|error| CannotStart::new(error.cause, error.cure))?);
        let name = ServerName::try_from(self.name.clone()).ok();
        let name = name.filter(|name| ClientConnection::new(config.clone(), name.clone()).is_ok());
        let wrong =
            || CannotStart::new(format!("`{}` names no server", self.name), "give --tls-name localhost, for example");
        Ok(Seal { config, name: name.ok_or_else(wrong)? })
    }
}

/// Everything a run needs to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Plan {
    /// Server addresses, used in turn.
    pub connect: Vec<SocketAddr>,
    /// TLS with the server, for all connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Subscribers (echo: echoing connections).
    pub connections: u32,
    /// How they get their messages.
    pub transport: Transport,
    /// What each of them subscribes to; several only with the line protocol.
    pub subscribe: Vec<Audience>,
    /// Topics of the audience `group`; connection i has topic i modulo this.
    pub topics: u32,
    /// How many of them each connection has: that one, and those with the next numbers.
    pub topics_each: u32,
    /// Topics are named this, a slash, and what they are; if it is empty, each run makes up a name of its own, so that an
    /// earlier run's messages are never taken for its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub topic_prefix: String,
    /// Subscribers that are behind get the newest message only.
    pub conflate: bool,
    /// Time from the answer to a poll to the next poll.
    pub poll_seconds: f64,
    /// Those who read slowly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
    /// How messages are published.
    pub publish: Publish,
    /// Connections that publish; a topic's messages come from one of them.
    pub publishers: u32,
    /// Bytes of a payload.
    pub bytes: usize,
    /// A message that takes longer counts as late, in milliseconds.
    pub late_ms: u64,
    /// Without any delivery for so long, what is missing is lost; in seconds.
    pub patience_seconds: f64,
    /// What told gaps mean.
    pub gaps: Gaps,
    /// Worker threads.
    pub workers: u32,
    /// Cores of the workers, in turn; empty: not pinned.
    pub cores: Vec<usize>,
    /// Process whose CPU time is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_pid: Option<u32>,
    /// How to talk to a server that is not the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic: Option<Generic>,
    /// What happens, in order.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            connect: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            tls: None,
            connections: 1000,
            transport: Transport::Line,
            subscribe: vec![Audience::Group],
            topics: 1,
            topics_each: 1,
            topic_prefix: String::new(),
            conflate: false,
            poll_seconds: 1.0,
            slow: None,
            publish: Publish::Ws,
            publishers: 1,
            bytes: 512,
            late_ms: 1000,
            patience_seconds: 5.0,
            gaps: Gaps::Refused,
            workers: 1,
            cores: Vec::new(),
            server_pid: None,
            generic: None,
            phases: Plan::connect_then(Phase { seconds: Some(10.0), ..Phase::publish(Load::Open { rate: 10.0 }) }),
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
    /// Returns the phases of a simple run: connect as fast as possible, then do one thing.
    #[must_use]
    pub fn connect_then(phase: Phase) -> Vec<Phase> {
        vec![Phase::connect(), phase]
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

    /// Returns where subscriber number `index` connects to, and from where, when it comes for the `round`th time.
    ///
    /// On loopback every 12,000 connections, and every round, get a source address of their own.
    #[must_use]
    pub fn route(&self, index: u32, round: u32) -> (SocketAddr, Option<IpAddr>) {
        let to = self.connect[index as usize % self.connect.len()];
        let source = index / (PORTS_PER_PAIR * self.connect.len() as u32);
        let from = match to.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && (source > 0 || round > 0) => {
                let [_, _, high, low] = (source + 1).to_be_bytes();
                Some(IpAddr::V4(Ipv4Addr::new(127, 1 + (round % ROUNDS_MAX) as u8, high, low)))
            }
            _ => None,
        };
        (to, from)
    }

    /// Returns where publishers connect to.
    #[must_use]
    pub fn publish_address(&self) -> SocketAddr {
        self.generic.as_ref().and_then(|generic| generic.publish_connect).unwrap_or(self.connect[0])
    }

    /// Returns how connections wait for bytes.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        if self.connections > STREAM_CONNECTIONS_MAX { Waiting::Readiness } else { Waiting::Stream }
    }

    /// Returns how many connections of a worker may be on their way at a time in a phase.
    #[must_use]
    pub fn under_way(&self, phase: &Phase) -> u32 {
        phase.under_way.unwrap_or(UNDER_WAY)
    }

    /// Returns whether connections echo instead of subscribing.
    #[must_use]
    pub fn echo(&self) -> bool {
        self.transport == Transport::Echo
    }

    /// Returns the audiences that connections have, in the order of their subscriptions.
    #[must_use]
    pub fn audiences(&self) -> &[Audience] {
        if self.echo() { &[Audience::Own] } else { &self.subscribe }
    }

    /// Returns whom a stream's messages go to.
    #[must_use]
    pub fn target(&self, stream: &Stream) -> Audience {
        stream.to.unwrap_or_else(|| self.audiences()[0])
    }

    /// Returns the bytes of a stream's payloads.
    #[must_use]
    pub fn bytes_of(&self, stream: &Stream) -> usize {
        stream.bytes.unwrap_or(self.bytes)
    }

    /// Returns the length of the longest payload of all.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        let streams = self.phases.iter().flat_map(Phase::streams);
        streams.map(|stream| self.bytes_of(&stream)).fold(self.bytes, usize::max)
    }

    /// Returns how many topics there are for an audience.
    #[must_use]
    pub fn topics_of(&self, audience: Audience) -> u32 {
        match audience {
            Audience::All => 1,
            Audience::Group => self.topics,
            Audience::Own => self.connections,
        }
    }

    /// Returns how many topics of an audience each connection has.
    #[must_use]
    #[inline]
    pub fn topics_each_of(&self, audience: Audience) -> u32 {
        match audience {
            Audience::Group if !self.echo() => self.topics_each,
            Audience::All | Audience::Group | Audience::Own => 1,
        }
    }

    /// Returns how many subscriptions each connection has.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.audiences().iter().map(|audience| self.topics_each_of(*audience) as usize).sum()
    }

    /// Returns the topics of a connection, in the order of its subscriptions.
    pub fn topics_of_connection(&self, connection: u32) -> impl Iterator<Item = Topic> {
        let several = move |audience: Audience| (0..self.topics_each_of(audience)).map(move |each| (audience, each));
        self.audiences().iter().copied().flat_map(several).map(move |(audience, each)| {
            let Topic { number, .. } = self.topic_of(audience, connection);
            // Only a group has several.
            let number = if each == 0 { number } else { (number + each) % self.topics };
            Topic { audience, number }
        })
    }

    /// Returns which of its topics of an audience a connection takes a topic for; `None` if it has not got it.
    #[must_use]
    #[inline]
    pub fn place_of(&self, topic: Topic, connection: u32) -> Option<u32> {
        let first = self.topic_of(topic.audience, connection).number;
        match topic.audience {
            Audience::All | Audience::Own => (topic.number == first).then_some(0),
            Audience::Group => {
                let after = (topic.number < self.topics).then(|| (topic.number + self.topics - first) % self.topics)?;
                (after < self.topics_each_of(Audience::Group)).then_some(after)
            }
        }
    }

    /// Returns the first topic that a connection has of an audience.
    #[must_use]
    #[inline]
    pub fn topic_of(&self, audience: Audience, connection: u32) -> Topic {
        let number = match audience {
            Audience::All => 0,
            Audience::Group => connection % self.topics,
            Audience::Own => connection,
        };
        Topic { audience, number }
    }

    /// Returns a topic's name.
    #[must_use]
    pub fn topic_name(&self, topic: Topic) -> String {
        match topic.audience {
            // A template may have to say how long a name is.
            Audience::Group if self.generic.is_some() => format!("{}/{:08}", self.topic_prefix, topic.number),
            Audience::Own if self.generic.is_some() => format!("{}/own/{:08}", self.topic_prefix, topic.number),
            Audience::All => format!("{}/all", self.topic_prefix),
            Audience::Group => format!("{}/{}", self.topic_prefix, topic.number),
            Audience::Own => format!("{}/own/{}", self.topic_prefix, topic.number),
        }
    }

    /// Returns the topic that has a name.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<Topic> {
        let rest = name.strip_prefix(&self.topic_prefix)?.strip_prefix('/')?;
        if rest == "all" {
            return Some(Topic { audience: Audience::All, number: 0 });
        }
        let (audience, number) = match rest.strip_prefix("own/") {
            Some(number) => (Audience::Own, number),
            None => (Audience::Group, rest),
        };
        Some(Topic { audience, number: number.parse().ok()? })
    }

    /// Gives the topics a name if they have none.
    #[must_use]
    pub fn with_names(&self) -> Plan {
        let mut plan = self.clone();
        if plan.topic_prefix.is_empty() {
            plan.topic_prefix =
                format!("load/{:08x}{:08x}", std::process::id(), crate::process::now_ns() & 0xffff_ffff);
        }
        plan
    }

    /// Says whether a connection reads slowly.
    #[must_use]
    pub fn is_slow(&self, connection: u32) -> bool {
        self.slow.is_some_and(|slow| {
            let until = |count: u32| (f64::from(count) * slow.fraction) as u32;
            until(connection + 1) > until(connection)
        })
    }

    /// Says whether anybody comes back, and so needs cursors.
    #[must_use]
    pub fn reconnects(&self) -> bool {
        self.phases.iter().any(|phase| phase.kind == Kind::Reconnect)
    }
}
