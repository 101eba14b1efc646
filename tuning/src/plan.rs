//! What a number of connections and messages takes: cores, memory, network, limits. Arithmetic, and nothing else.
//!
//! Owns: the sums. Every input is a [`Wish`] or one of the [`Constants`]; `text` writes them down for people. The plan is for
//! the mean: it knows neither bursts beyond a message to everyone at once, nor what else runs on the host.

mod text;

use serde_json::{Value, json};

use crate::Problem;
use crate::amount::{digits, grouped};
use crate::constants::Constants;
use crate::needs;
use crate::transport::SignOfLife;
use crate::wish::Wish;

/// Part of the cores that the plan fills: above, queues grow faster than load (at 60 % of a core a message waits for
/// 0.75 times its own work on average, at 90 % for 4.5 times: M/D/1).
pub const BUSY_MAX: f64 = 0.6;

/// Part of a port that the plan fills.
pub const PORT_MAX: f64 = 0.7;

/// Speeds of network ports, in Gbit/s.
pub const PORTS_GBIT: [u64; 7] = [1, 10, 25, 40, 100, 200, 400];

/// Payload of a full TCP segment over Ethernet with timestamps: 1,500 - 20 (IPv4) - 20 (TCP) - 12 (RFC 7323).
const SEGMENT_BYTES: u64 = 1_448;

/// Bytes on the wire around a segment: the 52 above, and Ethernet's header 14, check 4, preamble 8 and gap 12.
const WIRE_BYTES: u64 = 90;

/// A ping with its frame, from the server; a pong, masked (RFC 6455).
const PING_BYTES: u64 = 2;
const PONG_BYTES: u64 = 6;

/// A heartbeat in a chunk; the longest, of multipart, has 22 bytes more.
const HEARTBEAT_BYTES: u64 = 8;

/// Time a long poll waits without `wait=`, in seconds (docs/protocol.md).
const WAIT_S: f64 = 25.0;

/// Bytes that a message in the kernel takes besides its payload, for counting pages. An estimate.
const PACKET_OVERHEAD_BYTES: u64 = 1_024;

/// What a page holds, in bytes.
const PAGE_BYTES: u64 = 4_096;

/// Topics that one shard can be home to (`shard/limits.rs`).
const TOPICS_PER_SHARD: u64 = 1 << 22;

/// Bytes before a payload in a history.
const RECORD_BYTES: u64 = 10;

/// Least message memory of a shard that the engine starts with.
const MEMORY_PER_SHARD_MIN: u64 = 4 << 20;

/// The work that pings are.
const PINGS: &str = "pings and their answers";

/// A kind of work: how often, at what price.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What is done.
    pub what: &'static str,
    /// How often a second.
    pub per_second: f64,
    /// CPU time for each, in nanoseconds.
    pub cpu_ns: f64,
}

impl Work {
    /// Returns the cores that it keeps busy.
    #[must_use]
    pub fn cores(&self) -> f64 {
        self.per_second * self.cpu_ns / 1e9
    }
}

/// A part of the memory and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Whose it is.
    pub what: &'static str,
    /// How much.
    pub bytes: u64,
}

/// What goes over the wire, each second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Network {
    /// Bytes to the clients, Ethernet's own included.
    pub bytes_down: f64,
    /// Bytes from them.
    pub bytes_up: f64,
    /// Packets to them.
    pub packets_down: f64,
    /// Packets from them.
    pub packets_up: f64,
}

impl Network {
    fn down(&mut self, per_second: f64, payload: u64) {
        let segments = payload.div_ceil(SEGMENT_BYTES).max(1);
        self.bytes_down += per_second * (payload + segments * WIRE_BYTES) as f64;
        self.packets_down += per_second * segments as f64;
    }

    fn up(&mut self, per_second: f64, payload: u64) {
        let segments = payload.div_ceil(SEGMENT_BYTES).max(1);
        self.bytes_up += per_second * (payload + segments * WIRE_BYTES) as f64;
        self.packets_up += per_second * segments as f64;
    }

    /// Returns the busier direction in bits.
    #[must_use]
    pub fn bits(&self) -> f64 {
        8.0 * self.bytes_down.max(self.bytes_up)
    }
}

/// What a wish takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What was asked.
    pub wish: Wish,
    /// The work of the shards.
    pub work: Vec<Work>,
    /// Cores, with [`BUSY_MAX`] of them busy.
    pub cores: u64,
    /// Shards: one per core, or more where their tables need it.
    pub shards: u64,
    /// Entries of one shard's table, which is also the file limit it needs.
    pub slots_per_shard: u64,
    /// Time from the first to the last subscriber of one message to a whole topic, in seconds.
    pub walk_s: f64,
    /// Time for all to connect, in seconds.
    pub connect_s: f64,
    /// Memory of the process.
    pub user: Vec<Part>,
    /// Memory of the kernel.
    pub kernel: Vec<Part>,
    /// Pages that messages on their way take: for `tcp_mem`.
    pub pages: u64,
    /// What goes over the wire.
    pub network: Network,
    /// The smallest port that carries it, in Gbit/s.
    pub port_gbit: u64,
}

/// Makes the plan.
///
/// # Errors
/// What cannot be meant, or what no single engine can do, and what could.
pub fn plan(wish: &Wish, constants: &Constants) -> Result<Plan, Problem> {
    wish.check()?;
    let slots_shards = needs::with_spare(wish.connections).div_ceil(needs::SLOTS_MAX);
    if slots_shards > needs::SHARDS_MAX {
        let most = needs::SHARDS_MAX * needs::SLOTS_MAX / 11 * 10;
        return Err(Problem::new(
            format!(
                "{} connections need {} shards, and one engine runs at most {}",
                grouped(wish.connections),
                grouped(slots_shards),
                needs::SHARDS_MAX
            ),
            format!("plan for one of several boxes, each with at most {} connections", grouped(most)),
        ));
    }
    let topic_shards = wish.topics.div_ceil(TOPICS_PER_SHARD);
    let mut shards = slots_shards.max(topic_shards);
    // More shards make more crossings, which may take more cores: until neither grows. A wish too large for every engine
    // would go on for ever, and is told apart first.
    let (work, cores) = loop {
        let work = work(wish, constants, shards);
        let busy: f64 = work.iter().map(Work::cores).sum();
        let cores = (busy / BUSY_MAX).ceil().max(1.0);
        if cores > needs::SHARDS_MAX as f64 {
            let boxes = (cores / needs::SHARDS_MAX as f64).ceil();
            return Err(Problem::new(
                format!(
                    "this takes {} cores ({} busy, at most {:.0} % of each), and one engine runs at most {} shards",
                    digits(cores),
                    digits(busy),
                    BUSY_MAX * 100.0,
                    needs::SHARDS_MAX
                ),
                format!(
                    "spread it over {} boxes or more, or send less often (--rate), or conflate (docs/protocol.md)",
                    digits(boxes.max(2.0))
                ),
            ));
        }
        let cores = cores as u64;
        if cores <= shards {
            break (work, cores);
        }
        shards = cores;
    };
    let network = network(wish);
    let gbit = network.bits() / 1e9;
    let port = PORTS_GBIT.into_iter().find(|port| gbit <= *port as f64 * PORT_MAX);
    let Some(port_gbit) = port else {
        return Err(Problem::new(
            format!("this is {} Gbit/s, more than a port of 400 carries", digits(gbit)),
            "spread it over several boxes, or send less: smaller messages, fewer of them, or compressed",
        ));
    };
    let delivery_ns = work[0].cpu_ns;
    let audience = wish.connections as f64 / wish.topics as f64;
    let per_second_at_once = cores as f64 * 1e9 / delivery_ns;
    let pages = pages(wish, per_second_at_once, audience);
    Ok(Plan {
        wish: wish.clone(),
        cores,
        shards,
        slots_per_shard: needs::with_spare(wish.connections).div_ceil(shards),
        walk_s: audience / per_second_at_once,
        connect_s: wish.connections as f64 * constants.cpu_ns_per_connect.value / 1e9 / cores as f64,
        user: user(wish, constants, shards),
        kernel: kernel(wish, constants, pages),
        pages,
        network,
        port_gbit,
        work,
    })
}

/// Returns what the shards have to do, deliveries first.
fn work(wish: &Wish, constants: &Constants, shards: u64) -> Vec<Work> {
    let connections = wish.connections as f64;
    let further_kib = wish.bytes.saturating_sub(512) as f64 / 1_024.0;
    let delivery_ns = constants.delivery(wish.transport).value + further_kib * constants.cpu_ns_per_delivered_kib.value;
    let mut all = vec![Work { what: "deliveries", per_second: connections * wish.rate, cpu_ns: delivery_ns }];
    let signs = connections * signs_per_second(wish);
    match wish.transport.sign_of_life() {
        SignOfLife::Ping => {
            all.push(Work { what: PINGS, per_second: signs, cpu_ns: constants.cpu_ns_per_ping.value });
        }
        SignOfLife::Heartbeat => {
            all.push(Work { what: "heartbeats", per_second: signs, cpu_ns: constants.delivery(wish.transport).value });
            // Whichever ends it first: its age, or what its messages took.
            let of_age = 1.0 / needs::STREAM_SECONDS as f64;
            let of_length = wish.rate * message_bytes(wish) as f64 / needs::STREAM_BYTES as f64;
            let come_back = connections * of_age.max(of_length);
            let cpu_ns = constants.cpu_ns_per_connect.value;
            all.push(Work { what: "streams that end and come back", per_second: come_back, cpu_ns });
        }
        SignOfLife::Answer => all.push(Work { what: "empty answers", per_second: signs, cpu_ns: delivery_ns }),
        SignOfLife::None => {}
    }
    // A poll asks for what is there: how often that changes, its rate does not say.
    let published =
        if wish.transport.sign_of_life() == SignOfLife::None { 0.0 } else { wish.topics as f64 * wish.rate };
    let audience = (wish.connections / wish.topics).min(shards).saturating_sub(1) as f64;
    let crossing = constants.cpu_ns_per_crossing.value;
    // The publisher's shard is rarely the home: one crossing to it, one to each other shard with readers.
    let crossings = if shards > 1 { 1.0 + audience } else { 0.0 };
    let cpu_ns = constants.cpu_ns_per_publish.value + crossings * crossing;
    all.push(Work { what: "publishing, and crossing to other shards", per_second: published, cpu_ns });
    all
}

/// Returns what a message takes on its connection, in bytes.
fn message_bytes(wish: &Wish) -> u64 {
    wish.bytes + wish.transport.bytes_down(wish.bytes)
}

/// Returns how often a second one connection shows that it lives.
fn signs_per_second(wish: &Wish) -> f64 {
    let between_s = if wish.rate > 0.0 { 1.0 / wish.rate } else { f64::INFINITY };
    let per_pause = |after_s: f64| match between_s {
        between_s if between_s.is_infinite() => 1.0 / after_s,
        // A message shows it too: only what fits between two is sent.
        between_s => (between_s / after_s).floor() / between_s,
    };
    match wish.transport.sign_of_life() {
        SignOfLife::Ping => per_pause(wish.ping_s),
        SignOfLife::Heartbeat => 1.0 / wish.ping_s,
        SignOfLife::Answer => per_pause(WAIT_S),
        SignOfLife::None => 0.0,
    }
}

fn network(wish: &Wish) -> Network {
    let transport = wish.transport;
    let mut network = Network::default();
    let deliveries = wish.connections as f64 * wish.rate;
    let payload = message_bytes(wish);
    network.down(deliveries, payload);
    // Two segments share an acknowledgement; a request carries that of the answer before it.
    let acknowledgements = payload.div_ceil(SEGMENT_BYTES).div_ceil(2);
    match transport.bytes_up() {
        0 => network.up(deliveries * acknowledgements as f64, 0),
        request => network.up(deliveries, request),
    }
    let signs = wish.connections as f64 * signs_per_second(wish);
    match transport.sign_of_life() {
        SignOfLife::Ping => {
            network.down(signs, PING_BYTES);
            network.up(signs, PONG_BYTES);
            // The pong acknowledges the ping; nothing follows that could acknowledge the pong.
            network.down(signs, 0);
        }
        SignOfLife::Heartbeat => {
            network.down(signs, HEARTBEAT_BYTES);
            network.up(signs, 0);
        }
        SignOfLife::Answer => {
            network.down(signs, transport.bytes_down(0));
            network.up(signs, transport.bytes_up());
        }
        SignOfLife::None => {}
    }
    network
}

/// Returns the pages of messages that are not acknowledged yet: of the steady rate, or of one message to a whole topic as
/// fast as the cores can, whichever is more.
fn pages(wish: &Wish, per_second_at_once: f64, audience: f64) -> u64 {
    let steady = wish.connections as f64 * wish.rate * wish.round_trip_s;
    let at_once = (per_second_at_once * wish.round_trip_s).min(audience);
    let each = (message_bytes(wish) + PACKET_OVERHEAD_BYTES).div_ceil(PAGE_BYTES);
    (steady.max(at_once) * each as f64).ceil() as u64
}

fn user(wish: &Wish, constants: &Constants, shards: u64) -> Vec<Part> {
    let each = match wish.transport.sign_of_life() {
        SignOfLife::Answer => constants.user_bytes_per_waiting_poll.value,
        _ => constants.user_bytes_per_connection.value,
    };
    let of = |what, bytes: f64| Part { what, bytes: bytes as u64 };
    let history = wish.topics as f64 * history_bytes(wish) as f64;
    // Histories take at most half of the message memory; the other half is for what is on its way.
    let memory = (2.0 * history).max((shards * MEMORY_PER_SHARD_MIN) as f64);
    vec![
        of("connections and subscriptions", wish.connections as f64 * each),
        of("topics", wish.topics as f64 * constants.user_bytes_per_topic.value),
        of("messages: histories, twice (--memory at least)", memory),
        // A core each: where they share one, these are less.
        of("receive buffers", (shards * needs::buffer_bytes(1)) as f64),
        of("rings between shards", (shards * shards * needs::ring_bytes(1)) as f64),
    ]
}

/// Returns what the history of one topic comes to with the default bounds.
fn history_bytes(wish: &Wish) -> u64 {
    let record = wish.bytes + RECORD_BYTES;
    let of_age = (wish.rate * needs::HISTORY_SECONDS as f64).ceil();
    let kept = (of_age as u64).clamp(1, needs::HISTORY_MESSAGES);
    // The newest is kept whatever its size.
    kept.saturating_mul(record).min(needs::HISTORY_BYTES.max(record))
}

fn kernel(wish: &Wish, constants: &Constants, pages: u64) -> Vec<Part> {
    let each = |what, bytes: f64| Part { what, bytes: (wish.connections as f64 * bytes) as u64 };
    let buckets = (wish.connections / 4).max(1).next_power_of_two();
    vec![
        each("TCP state of the connections", constants.kernel_bytes_per_tcp_sock.value),
        each("inodes of their sockets", constants.kernel_bytes_per_inode.value),
        each("polls that wait for bytes", constants.kernel_bytes_per_poll.value),
        each("files", constants.kernel_bytes_per_file.value),
        each("directory entries", constants.kernel_bytes_per_dentry.value),
        each("labels of a security module", constants.kernel_bytes_per_labels.value),
        each("direct descriptors", constants.kernel_bytes_per_descriptor.value),
        Part { what: "hash table (thash_entries)", bytes: 8 * buckets },
        Part { what: "messages on their way (tcp_mem)", bytes: pages * PAGE_BYTES },
    ]
}

impl Plan {
    /// Returns the cores that are busy.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.work.iter().map(Work::cores).sum()
    }

    /// Returns all memory of the process in bytes.
    #[must_use]
    pub fn user_bytes(&self) -> u64 {
        self.user.iter().map(|part| part.bytes).sum()
    }

    /// Returns all memory of the kernel in bytes.
    #[must_use]
    pub fn kernel_bytes(&self) -> u64 {
        self.kernel.iter().map(|part| part.bytes).sum()
    }

    /// Returns the plan for programs. Constants come with their sources.
    #[must_use]
    pub fn json(&self, constants: &Constants, origin: &str) -> Value {
        let parts = |parts: &[Part]| -> Value {
            parts.iter().map(|part| json!({"what": part.what, "bytes": part.bytes})).collect()
        };
        let work = self.work.iter().map(|work| {
            json!({"what": work.what, "per_second": work.per_second, "cpu_ns": work.cpu_ns, "cores": work.cores()})
        });
        let named = constants.named().into_iter();
        let named = named.map(|(name, m)| (name.to_owned(), json!({"value": m.value, "source": m.source})));
        let delivery = constants.delivery(self.wish.transport);
        let Wish { connections, rate, bytes, transport, topics, ping_s, round_trip_s } = self.wish;
        json!({
            "wish": {
                "connections": connections, "rate": rate, "bytes": bytes, "transport": transport, "topics": topics,
                "ping_s": ping_s, "round_trip_s": round_trip_s,
            },
            "work": work.collect::<Vec<_>>(),
            "cores_busy": self.busy(), "cores": self.cores, "shards": self.shards,
            "slots_per_shard": self.slots_per_shard, "files": self.files(), "locked_bytes": self.locked_bytes(),
            "walk_s": self.walk_s, "connect_s": self.connect_s,
            "user": parts(&self.user), "user_bytes": self.user_bytes(),
            "kernel": parts(&self.kernel), "kernel_bytes": self.kernel_bytes(), "tcp_mem_pages": self.pages,
            "network": {
                "bits_down": 8.0 * self.network.bytes_down, "bits_up": 8.0 * self.network.bytes_up,
                "packets_down": self.network.packets_down, "packets_up": self.network.packets_up,
                "port_gbit": self.port_gbit,
            },
            "constants_from": origin,
            "constants": named.collect::<serde_json::Map<_, _>>(),
            "delivery": {"value": delivery.value, "source": delivery.source},
        })
    }

    /// Returns the shortest `ping-interval`, in whole seconds, at which messages come often enough that nobody is pinged;
    /// none if that is so already, or if it would have to be longer than the engine allows.
    #[must_use]
    pub fn quiet_ping_s(&self) -> Option<f64> {
        let pings = self.work.iter().any(|work| work.what == PINGS && work.per_second > 0.0);
        let between_s = (1.0 / self.wish.rate).floor() + 1.0;
        (pings && between_s <= 3_600.0).then_some(between_s)
    }

    /// Returns the limit of open files that the process needs.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.slots_per_shard.max(needs::DESCRIPTORS_BASE + needs::DESCRIPTORS_PER_SHARD * self.shards)
    }

    /// Returns the limit of locked memory that the process needs to be restarted at once, in bytes.
    #[must_use]
    pub fn locked_bytes(&self) -> u64 {
        2 * (needs::LOCKED_BYTES_MIN + needs::LOCKED_BYTES_PER_SHARD * self.shards)
    }
}
