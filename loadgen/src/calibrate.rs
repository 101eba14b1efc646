//! Measures what connections and deliveries cost on this host, for the planner of `corecast plan`.
//!
//! Owns the runs that this takes and how figures are read off their reports. Starts no server: the one it is given must be
//! on this host, freshly started, with nobody else connected. Never: takes a figure from a run in which anything was lost.

use std::fmt;
use std::net::SocketAddr;

use corecast_tuning::constants::{Calibrated, Constants, ConstantsFile, Measured};
use corecast_tuning::transport::Transport as Planned;

use crate::plan::{Audience, CannotStart, Load, Phase, Plan, Transport};
use crate::report::table::{Ns, size};
use crate::report::{Host, Kind, PhaseReport, Report};
use crate::run;

/// Payload that all costs are told for, and one that is larger by whole KiB.
const BYTES: usize = 512;
const LARGE_BYTES: usize = BYTES + LARGE_KIB * 1024;
const LARGE_KIB: usize = 4;

/// Subscribers that stay in the processor's caches.
const WARM_CONNECTIONS: u32 = 1_000;

/// Messages of each measurement: so many that the server is busy for a second or so.
const WARM_MESSAGES: u64 = 500;
const COLD_MESSAGES: u64 = 30;
const UNICAST_MESSAGES: u64 = 30_000;

/// Connections and messages of the warm-up: so many that every shard of the server gets more messages than it has receive
/// buffers. Pools that are touched sooner or later, whatever the number of connections, are no cost of a connection.
const WARM_UP_CONNECTIONS: u32 = 32;
const WARM_UP_MESSAGES: u64 = 60_000;

/// Seconds that connections are held, so that the kernel clears away what connecting left.
const IDLE_SECONDS: f64 = 1.0;

/// Longest time that pings may be measured, in seconds.
const PING_SECONDS_MAX: f64 = 3600.0;

/// Objects of a cache for each connection, both ends: within these bounds they are taken to be the connections' own.
const OBJECTS_PER_CONNECTION: std::ops::RangeInclusive<f64> = 1.9..=2.5;

/// Transports that are compared with a WebSocket for each topic: the phase's name, its figures, and what the planner calls it.
const OTHERS: [(Transport, &str, &str, &str); 3] = [
    (Transport::Line, "line", "cpu_ns_per_delivery_websocket_line", "stream_bytes_per_delivery_websocket_line"),
    (Transport::Sse, "sse", "cpu_ns_per_delivery_sse", "stream_bytes_per_delivery_sse"),
    (Transport::LongPoll, "long-poll", "cpu_ns_per_delivery_long_poll", "stream_bytes_per_delivery_long_poll"),
];

/// Caches of the kernel that a connection has one object of at each end, and what the planner calls it.
const CACHES: [(&str, &str); 4] = [
    ("TCP", "kernel_bytes_per_tcp_sock"),
    ("sock_inode_cache", "kernel_bytes_per_inode"),
    ("filp", "kernel_bytes_per_file"),
    ("dentry", "kernel_bytes_per_dentry"),
];

/// What shall be measured, and how.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Server addresses.
    pub connect: Vec<SocketAddr>,
    /// The server's process, if it cannot be found by its port.
    pub server_pid: Option<u32>,
    /// Connections of most measurements: more than caches hold.
    pub connections: u32,
    /// Times that everything is measured; the median counts.
    pub rounds: u32,
    /// Seconds in which the server's pings are measured, once; 0: not at all.
    pub ping_seconds: f64,
    /// Cores of the load generator.
    pub cores: Vec<usize>,
}

/// Puts a figure where it belongs.
type Put = fn(&mut Calibrated, Measured);

/// One cost.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Its name, with the unit in it.
    pub name: String,
    /// Its value in that unit.
    pub value: f64,
    /// How it was measured.
    pub source: String,
    /// Where it belongs among the planner's constants, if it has such a one.
    put: Option<Put>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Where.
    pub host: String,
    /// The costs.
    pub figures: Vec<Figure>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// The reports of one round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// Very many subscribers: connect, hold, a few messages, and a few larger ones.
    pub(crate) cold: Report,
    /// Few subscribers, many messages.
    pub(crate) warm: Report,
    /// Very many topics of one subscriber each.
    pub(crate) unicast: Report,
    /// As cold, over other transports, in the order of `OTHERS`.
    pub(crate) others: Vec<Report>,
}

/// Measures.
///
/// # Errors
/// Why it could not be measured: no server, none of this host, or something was lost.
pub fn calibrate(wish: &Wish, told: &mut dyn FnMut(&str)) -> Result<Calibration, CannotStart> {
    if wish.rounds == 0 || wish.connections == 0 {
        return Err(CannotStart::new("nothing is to be measured", "give --rounds and --connections of at least 1"));
    }
    if !(0.0..=PING_SECONDS_MAX).contains(&wish.ping_seconds) {
        return Err(CannotStart::new(
            "--ping-seconds must be a number of seconds up to an hour",
            "give --ping-seconds 60, for example, or 0 to leave pings out",
        ));
    }
    told("warming up");
    measured(&warm_up(wish))?;
    told(&format!("half of the connections, and {} s of pings", wish.ping_seconds));
    let half = measured(&half(wish))?;
    let mut rounds = Vec::new();
    for number in 1..=wish.rounds {
        let mut tell = |what: &str| told(&format!("round {number} of {}: {what}", wish.rounds));
        tell("one message at a time to very many");
        let cold = measured(&cold(wish))?;
        tell("one message at a time to few");
        let warm = measured(&warm(wish))?;
        tell("a topic for each");
        let unicast = measured(&unicast(wish))?;
        let mut others = Vec::new();
        for (transport, name, ..) in OTHERS {
            tell(name);
            others.push(measured(&other(wish, transport, name))?);
        }
        rounds.push(Round { cold, warm, unicast, others });
    }
    let host = Host::read();
    let host =
        format!("{} cores ({}), {}, {}", host.cores, host.cpu_model, size(host.memory_bytes as f64), host.kernel);
    Ok(Calibration::of(host, wish, &half, &rounds))
}

/// Does a run, and gives its report only if all was well.
fn measured(plan: &Plan) -> Result<Report, CannotStart> {
    let report = run(plan, &mut || {})?;
    if let Some(problem) = report.problems().first() {
        return Err(CannotStart::new(
            format!("a run that loses something measures nothing: {problem}"),
            "see `corecast-load` with the same flags, or take fewer --connections",
        ));
    }
    if report.phases.iter().any(|phase| phase.server.is_none()) {
        let why = report.notes.first().cloned().unwrap_or_else(|| "it cannot be looked at".to_owned());
        return Err(CannotStart::new(
            format!("the server's CPU time is not known: {why}"),
            "calibrate a server on this host, as root or as its user, with --server-pid if need be",
        ));
    }
    Ok(report)
}

fn base(wish: &Wish) -> Plan {
    Plan {
        connect: wish.connect.clone(),
        connections: wish.connections,
        transport: Transport::Raw,
        subscribe: vec![Audience::All],
        bytes: BYTES,
        cores: wish.cores.clone(),
        server_pid: wish.server_pid,
        ..Plan::default()
    }
}

fn publish(name: &str, in_flight: u32, messages: u64) -> Phase {
    let load = Load::Closed { in_flight };
    Phase { name: Some(name.to_owned()), messages: Some(messages), ..Phase::publish(load) }
}

fn warm_up(wish: &Wish) -> Plan {
    let phases = Plan::connect_then(publish("warm-up", WARM_UP_CONNECTIONS, WARM_UP_MESSAGES));
    let (connections, publishers) = (WARM_UP_CONNECTIONS, WARM_UP_CONNECTIONS);
    Plan { connections, publishers, subscribe: vec![Audience::Own], phases, ..base(wish) }
}

/// Connects half of the connections: what the other half adds to the level is the cost of a connection, and whatever the
/// first of them set up is not. And holds them until the server pings.
fn half(wish: &Wish) -> Plan {
    let mut phases = vec![Phase::connect(), Phase::hold(IDLE_SECONDS)];
    if wish.ping_seconds > 0.0 {
        phases.push(Phase { name: Some("pings".to_owned()), ..Phase::hold(wish.ping_seconds) });
    }
    Plan { connections: wish.connections.div_ceil(2), phases, ..base(wish) }
}

fn cold(wish: &Wish) -> Plan {
    let large = Phase { bytes: Some(LARGE_BYTES), ..publish("large", 1, COLD_MESSAGES) };
    let phases = vec![Phase::connect(), Phase::hold(IDLE_SECONDS), publish("cold", 1, COLD_MESSAGES), large];
    Plan { phases, ..base(wish) }
}

fn warm(wish: &Wish) -> Plan {
    let phases = Plan::connect_then(publish("warm", 1, WARM_MESSAGES));
    Plan { connections: wish.connections.min(WARM_CONNECTIONS), phases, ..base(wish) }
}

fn unicast(wish: &Wish) -> Plan {
    let phases = Plan::connect_then(publish("unicast", 64, UNICAST_MESSAGES));
    Plan { subscribe: vec![Audience::Own], phases, ..base(wish) }
}

fn other(wish: &Wish, transport: Transport, name: &str) -> Plan {
    Plan { transport, phases: Plan::connect_then(publish(name, 1, COLD_MESSAGES)), ..base(wish) }
}

/// Figures of one round, by name, in the order they are told.
type Values = Vec<(&'static str, f64)>;

impl Round {
    /// Reads the figures off; the server's memory only in the first round, against the run with `half` of the connections,
    /// because a server keeps what it once had for later connections. That also makes each kind's memory what its run adds to
    /// the level of the one before it, which had cheaper ones: a topic, a waiting poll.
    fn values(&self, half: Option<&Report>) -> Values {
        let mut values = Values::new();
        let mut put = |name: &'static str, value: Option<f64>| {
            // What noise has made nothing or less was not measured.
            if let Some(value) = value.filter(|value| value.is_finite() && *value > 0.0) {
                values.push((name, value));
            }
        };
        let delivery = |report: &Report, name: &str| named(report, name)?.server_cpu_ns_per_delivery();
        let cold_ns = delivery(&self.cold, "cold");
        let difference = |more: Option<f64>, less: Option<f64>| Some(more? - less?);
        put("cpu_ns_per_delivery_websocket", cold_ns);
        let large_ns = difference(delivery(&self.cold, "large"), cold_ns);
        put("cpu_ns_per_delivered_kib", large_ns.map(|ns| ns / LARGE_KIB as f64));
        put("cpu_ns_per_publish", difference(delivery(&self.unicast, "unicast"), cold_ns));
        for ((_, phase, cpu, stream), report) in OTHERS.into_iter().zip(&self.others) {
            put(cpu, delivery(report, phase));
            put(stream, named(report, phase).and_then(stream_bytes));
        }
        put("cpu_ns_per_delivery_websocket_warm", delivery(&self.warm, "warm"));
        put("cpu_ns_per_delivery_unicast", delivery(&self.unicast, "unicast"));
        let connect = self.cold.phase(Kind::Connect);
        put("cpu_ns_per_connect", connect.and_then(PhaseReport::server_cpu_ns_per_connection));
        if let Some(half) = half {
            let connection_bytes = levels_per(half, &self.cold, |less, more| more - less);
            put("user_bytes_per_connection", connection_bytes);
            put("user_bytes_per_topic", levels_per(&self.cold, &self.unicast, |less, _| less));
            if let [.., before, waiting] = &self.others[..] {
                let more_bytes = levels_per(before, waiting, |_, more| more);
                let sum = |connection: f64| more_bytes.map(|more| connection + more);
                put("user_bytes_per_waiting_poll", connection_bytes.and_then(sum));
            }
            put("cpu_ns_per_ping", named(half, "pings").and_then(ping_ns));
        }
        put("kernel_bytes_per_connection_both_ends", connect.and_then(PhaseReport::kernel_bytes_per_connection));
        for (cache, name) in CACHES {
            put(name, connect.and_then(|connect| object_bytes(connect, cache)));
        }
        put("stream_bytes_per_delivery_websocket", named(&self.cold, "cold").and_then(stream_bytes));
        values
    }
}

/// Returns by how much the server's memory is more in one run than in another, both connected, for each of some
/// connections, counted from those of both runs. Levels, and not growth: it may have kept memory from before.
fn levels_per(less: &Report, more: &Report, count: impl Fn(f64, f64) -> f64) -> Option<f64> {
    let connect = |report: &Report| {
        let phase = report.phase(Kind::Connect)?;
        let level = phase.server.as_ref()?.resident_bytes_after?;
        Some((level as f64, f64::from(phase.connections_made)))
    };
    let ((less_bytes, less_made), (more_bytes, more_made)) = (connect(less)?, connect(more)?);
    Some((more_bytes - less_bytes) / count(less_made, more_made))
}

fn named<'a>(report: &'a Report, name: &str) -> Option<&'a PhaseReport> {
    report.phases.iter().find(|phase| phase.name == name)
}

/// Returns the server's CPU time for a ping and its pong, in a phase in which nothing else was to be done.
fn ping_ns(phase: &PhaseReport) -> Option<f64> {
    (phase.pings > 0).then_some(phase.server.as_ref()?.cpu_ns as f64 / phase.pings as f64)
}

/// Returns what one end of a connection takes of a cache, if each has one object of it.
fn object_bytes(connect: &PhaseReport, cache: &str) -> Option<f64> {
    let grown = connect.kernel.as_ref()?.cache(cache)?;
    let made = f64::from(connect.connections_made);
    let each = grown.grown_objects() as f64 / made;
    OBJECTS_PER_CONNECTION.contains(&each).then(|| grown.grown_bytes() as f64 / made / 2.0)
}

/// Returns the bytes that came for each delivery: payload and framing, without TCP's and IP's headers.
fn stream_bytes(phase: &PhaseReport) -> Option<f64> {
    (phase.counts.delivered > 0).then(|| phase.received_bytes as f64 / phase.counts.delivered as f64)
}

impl Calibration {
    pub(crate) fn of(host: String, wish: &Wish, half: &Report, rounds: &[Round]) -> Calibration {
        let halves = std::iter::once(Some(half)).chain(std::iter::repeat(None));
        let all: Vec<Values> = rounds.iter().zip(halves).map(|(round, half)| round.values(half)).collect();
        let mut figures = Vec::new();
        let mut notes = Vec::new();
        for (name, how, put) in FIGURES {
            let of_name = |values: &Values| values.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
            let mut found: Vec<f64> = all.iter().filter_map(of_name).collect();
            found.sort_by(f64::total_cmp);
            if found.is_empty() {
                let why = match name {
                    "cpu_ns_per_ping" if named(half, "pings").is_none_or(|phase| phase.pings == 0) => {
                        format!("the server sent no ping within {} s (--ping-seconds)", wish.ping_seconds)
                    }
                    _ => "what else the host did was larger".to_owned(),
                };
                notes.push(format!("{name} is left out: {why}"));
                continue;
            }
            let how = how.replace("{n}", &wish.connections.to_string()).replace("{s}", &wish.ping_seconds.to_string());
            figures.push(Figure {
                name: name.to_owned(),
                value: (found[found.len() / 2] * 10.0).round() / 10.0,
                source: format!("calibrate: {how}; median of {}", found.len()),
                put,
            });
        }
        Calibration { host, figures, notes }
    }

    /// Returns the planner's constants that keep their shipped values: a crossing takes two servers to compare, and parts of
    /// the kernel's memory a kernel that tells them apart.
    #[must_use]
    pub fn not_measured(&self) -> Vec<&'static str> {
        let is_known = |name: &str| self.figures.iter().any(|figure| figure.name == name && figure.put.is_some());
        let shipped = Constants::shipped();
        shipped.named().into_iter().map(|(name, _)| name).filter(|name| !is_known(name)).collect()
    }

    /// Returns the file of constants.
    #[must_use]
    pub fn file(&self) -> ConstantsFile {
        let mut constants = Calibrated::default();
        for Figure { value, source, put, .. } in &self.figures {
            if let Some(put) = put {
                put(&mut constants, Measured::new(*value, source));
            }
        }
        ConstantsFile::new(&self.host, constants)
    }
}

/// Every figure: how it is measured, with `{n}` for the number of connections, and where the planner has it.
const FIGURES: [(&str, &str, Option<Put>); 22] = [
    (
        "cpu_ns_per_delivery_websocket",
        "512 bytes to {n} subscribers of one topic, one message at a time",
        Some(|to, found| to.cpu_ns_per_delivery_websocket = Some(found)),
    ),
    (
        "cpu_ns_per_delivered_kib",
        "as before with 4 KiB more, the difference by 4",
        Some(|to, found| to.cpu_ns_per_delivered_kib = Some(found)),
    ),
    (
        "cpu_ns_per_publish",
        "512 bytes to one of {n} topics with a subscriber each, less a delivery",
        Some(|to, found| to.cpu_ns_per_publish = Some(found)),
    ),
    (
        "cpu_ns_per_delivery_websocket_line",
        "512 bytes to {n} subscribers over the line protocol",
        Some(|to, found| drop(to.cpu_ns_per_delivery.insert(Planned::WebsocketLine, found))),
    ),
    (
        "cpu_ns_per_delivery_sse",
        "512 bytes to {n} subscribers by Server-Sent Events",
        Some(|to, found| drop(to.cpu_ns_per_delivery.insert(Planned::Sse, found))),
    ),
    (
        "cpu_ns_per_delivery_long_poll",
        "512 bytes to {n} waiting long polls, and their next requests",
        Some(|to, found| drop(to.cpu_ns_per_delivery.insert(Planned::LongPoll, found))),
    ),
    ("cpu_ns_per_delivery_websocket_warm", "512 bytes to at most 1000 subscribers, one message at a time", None),
    ("cpu_ns_per_delivery_unicast", "512 bytes to one of {n} topics with a subscriber each, 64 in flight", None),
    (
        "cpu_ns_per_connect",
        "{n} connections as fast as they come: TCP, handshake, subscription",
        Some(|to, found| to.cpu_ns_per_connect = Some(found)),
    ),
    (
        "cpu_ns_per_ping",
        "pings to half of {n} idle connections for {s} s, and their pongs",
        Some(|to, found| to.cpu_ns_per_ping = Some(found)),
    ),
    (
        "user_bytes_per_connection",
        "private memory of a fresh server, {n} connections to one topic, less that with half of them",
        Some(|to, found| to.user_bytes_per_connection = Some(found)),
    ),
    (
        "user_bytes_per_topic",
        "private memory of a fresh server, {n} connections with a topic each, less that with one",
        Some(|to, found| to.user_bytes_per_topic = Some(found)),
    ),
    (
        "user_bytes_per_waiting_poll",
        "private memory of a fresh server, {n} waiting long polls, less that with streams, and what a connection takes",
        Some(|to, found| to.user_bytes_per_waiting_poll = Some(found)),
    ),
    ("kernel_bytes_per_connection_both_ends", "caches that may be of connections, and TCP's buffers, whole host", None),
    (
        "kernel_bytes_per_tcp_sock",
        "growth of the cache TCP with {n} connections, for one end",
        Some(|to, found| to.kernel_bytes_per_tcp_sock = Some(found)),
    ),
    (
        "kernel_bytes_per_inode",
        "growth of the cache sock_inode_cache with {n} connections, for one end",
        Some(|to, found| to.kernel_bytes_per_inode = Some(found)),
    ),
    (
        "kernel_bytes_per_file",
        "growth of the cache filp with {n} connections, for one end",
        Some(|to, found| to.kernel_bytes_per_file = Some(found)),
    ),
    (
        "kernel_bytes_per_dentry",
        "growth of the cache dentry with {n} connections, for one end",
        Some(|to, found| to.kernel_bytes_per_dentry = Some(found)),
    ),
    ("stream_bytes_per_delivery_websocket", "bytes received for 512 bytes, headers of TCP and IP not counted", None),
    ("stream_bytes_per_delivery_websocket_line", "bytes received for 512 bytes over the line protocol", None),
    ("stream_bytes_per_delivery_sse", "bytes received for 512 bytes by Server-Sent Events", None),
    ("stream_bytes_per_delivery_long_poll", "bytes received for 512 bytes by long poll", None),
];

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.host)?;
        for Figure { name, value, source, put } in &self.figures {
            let read = if name.starts_with("cpu_ns") { Ns(*value as u64).to_string() } else { format!("{value:.0} B") };
            let mark = if put.is_some() { ' ' } else { '*' };
            writeln!(f, "{mark} {name:<42} {read:>10}   {}", source.trim_start_matches("calibrate: "))?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "* is told, but no constant of the planner's")?;
        write!(f, "shipped values stay for {}", self.not_measured().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn wish() -> Wish {
        Wish {
            connect: Vec::new(),
            server_pid: None,
            connections: 2_000,
            rounds: 1,
            ping_seconds: 60.0,
            cores: Vec::new(),
        }
    }

    fn half() -> Report {
        let mut half = samples::report();
        half.phases[0].connections_made = 1_000;
        half.phases[0].server.as_mut().unwrap().resident_bytes_after = Some(1_000_000 + 200_000);
        let mut pings = half.phases.remove(1);
        pings.name = "pings".to_owned();
        pings.pings = 2_000;
        pings.server.as_mut().unwrap().cpu_ns = 18_000_000;
        half.phases.push(pings);
        half
    }

    /// A round in which a delivery costs so much when cold.
    fn round(cold_ns: u64) -> Round {
        let phase = |name: &str, ns: u64| {
            let mut phase = samples::report().phases.remove(1);
            phase.name = name.to_owned();
            phase.server.as_mut().unwrap().cpu_ns = ns * phase.counts.delivered;
            phase
        };
        let report = |connect_bytes: u64, phases: Vec<PhaseReport>| {
            let mut report = samples::report();
            report.phases.truncate(1);
            let server = report.phases[0].server.as_mut().unwrap();
            server.resident_bytes_after = server.resident_bytes_before.map(|before| before + connect_bytes * 2_000);
            report.phases.extend(phases);
            report
        };
        Round {
            cold: report(200, vec![phase("cold", cold_ns), phase("large", cold_ns + 2_000)]),
            warm: report(200, vec![phase("warm", 3_000)]),
            unicast: report(650, vec![phase("unicast", cold_ns + 2_700)]),
            others: OTHERS
                .map(|(transport, name, ..)| {
                    let bytes = if transport == Transport::LongPoll { 950 } else { 700 };
                    report(bytes, vec![phase(name, cold_ns + 100)])
                })
                .to_vec(),
        }
    }

    /// Costs are read off the phases that tell them, and differences are differences.
    #[test]
    fn figures_are_read_off() {
        let found = Calibration::of("here".to_owned(), &wish(), &half(), &[round(6_000)]);
        let value = |name: &str| found.figures.iter().find(|figure| figure.name == name).expect(name).value;
        assert_eq!(value("cpu_ns_per_delivery_websocket"), 6_000.0);
        assert_eq!(value("cpu_ns_per_delivered_kib"), 500.0);
        assert_eq!(value("cpu_ns_per_publish"), 2_700.0);
        assert_eq!(value("cpu_ns_per_delivery_websocket_line"), 6_100.0);
        assert_eq!(value("cpu_ns_per_delivery_websocket_warm"), 3_000.0);
        assert_eq!(value("cpu_ns_per_connect"), 20_000.0);
        assert_eq!(value("user_bytes_per_connection"), 200.0);
        assert_eq!(value("user_bytes_per_topic"), 450.0);
        assert_eq!(value("user_bytes_per_waiting_poll"), 200.0 + 250.0);
        assert_eq!(value("cpu_ns_per_ping"), 9_000.0);
        assert_eq!(value("kernel_bytes_per_tcp_sock"), 2_500.0);
        assert_eq!(value("stream_bytes_per_delivery_websocket"), 530.0);
        let missing = ["kernel_bytes_per_inode", "kernel_bytes_per_dentry"];
        assert!(missing.iter().all(|name| found.notes.iter().any(|note| note.starts_with(name))), "{:?}", found.notes);
        assert_eq!(found.figures.len() + found.notes.len(), FIGURES.len());
        assert!(found.to_string().contains("6.00 µs"), "{found}");
        let kept = found.not_measured();
        assert!(kept.contains(&"cpu_ns_per_crossing") && !kept.contains(&"cpu_ns_per_connect"), "{kept:?}");
    }

    /// A server that does not ping is not said to do it for nothing, nor to be lost in noise.
    #[test]
    fn no_pings() {
        let mut half = half();
        half.phases[1].pings = 0;
        let found = Calibration::of("here".to_owned(), &wish(), &half, &[round(6_000)]);
        assert!(found.not_measured().contains(&"cpu_ns_per_ping"));
        assert!(
            found.notes.iter().any(|note| note.contains("the server sent no ping within 60 s")),
            "{:?}",
            found.notes
        );
    }

    /// The median of the rounds counts, and what noise has made negative is left out.
    #[test]
    fn the_median_counts() {
        let mut rounds = vec![round(6_000), round(90_000), round(6_500)];
        rounds[1].cold.phases[0].server.as_mut().unwrap().resident_bytes_after = Some(9_000_000);
        let unicast = rounds[0].unicast.phases[1].server.as_mut().unwrap();
        unicast.cpu_ns = 1;
        let found = Calibration::of("here".to_owned(), &wish(), &half(), &rounds);
        let figure = |name: &str| found.figures.iter().find(|figure| figure.name == name).expect(name);
        assert_eq!(figure("cpu_ns_per_delivery_websocket").value, 6_500.0);
        assert!(figure("cpu_ns_per_publish").source.ends_with("median of 2"));
        assert_eq!(figure("user_bytes_per_connection").value, 200.0, "of the first round");
    }

    /// The file has what the planner has constants for, each with its source, and nothing else.
    #[test]
    fn file_is_for_the_planner() {
        let found = Calibration::of("here".to_owned(), &wish(), &half(), &[round(6_000)]);
        let text = found.file().text();
        let constants = Constants::shipped().with(ConstantsFile::read(&text).unwrap().constants);
        assert_eq!(constants.cpu_ns_per_delivery_websocket.value, 6_000.0);
        assert_eq!(constants.delivery(Planned::WebsocketLine).value, 6_100.0);
        assert_eq!(constants.delivery(Planned::LongPoll).value, 6_100.0);
        let source = constants.cpu_ns_per_connect.source;
        assert!(source.contains("2000 connections"), "{source}");
        let told = found.figures.iter().filter(|figure| figure.put.is_some()).count();
        assert_eq!(text.matches("\"source\"").count(), told, "{text}");
    }
}
