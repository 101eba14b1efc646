//! What a run found: the data, and everything that shows it.
//!
//! [`Report`] is all of it: what was asked for, of which host, what each phase found, and the verdict. It is made once,
//! when the run is over; while it lasts, workers keep [`series::Timeline`]s and the coordinator keeps a [`watch::Watch`].
//! It is shown as a [table](table), as JSON that is read back equal, as a page, and as files for HdrHistogram's plotters.
//! Never: decides when to measure.

mod curves;
mod hgrm;
pub mod host;
mod html;
mod json;
pub mod kernel;
mod listener;
pub mod plot;
pub mod series;
pub mod show;
pub mod table;
pub mod times;
pub mod watch;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::witness::Counts;

pub use host::Host;
pub use kernel::KernelUse;
pub use series::{Row, Series};
pub use times::Times;
pub use watch::ServerUse;

/// Version of the stored form. Raised when a program that reads an older one would misunderstand a newer one.
pub const FORMAT: u32 = 1;

/// Lag of the schedule above which latencies say more about this program than about the server, in nanoseconds.
const LAG_NS_MAX: u64 = 10_000_000;

/// Part of a core above which a worker is taken for the bottleneck.
const CPU_SHARE_MAX: f64 = 0.95;

/// What a run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was to be done: enough to do it again.
    pub plan: Plan,
    /// When it began, in seconds since 1970, UTC.
    pub started_unix_seconds: u64,
    /// Where the load generator ran.
    pub host: Host,
    /// What was done, in this order.
    pub phases: Vec<PhaseReport>,
    /// Why things failed, for the first few.
    pub faults: Vec<String>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
    /// Where it was interrupted, if it was.
    #[serde(default)]
    pub interrupted: Option<String>,
}

/// What a phase does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Connections are made.
    Connect,
    /// Connections stand, nothing is sent.
    Hold,
    /// Messages are sent to subscribers.
    Publish,
    /// Messages are sent and come back.
    Echo,
    /// Everyone is dropped at once and comes back.
    Reconnect,
    /// Connections come and go.
    Churn,
}

/// What decides when a message is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Nothing is sent.
    #[default]
    Silent,
    /// A schedule, whatever happens.
    Open {
        /// Messages a second, over all topics or connections.
        messages_per_second: f64,
    },
    /// The arrival of an earlier one.
    Closed {
        /// Messages under way at a time.
        in_flight_messages: u32,
    },
}

/// What one phase found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// What the plan calls it.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// What decided when messages were sent.
    pub pace: Pace,
    /// When it began, in seconds from the start of the run.
    pub start_seconds: f64,
    /// How long it took: to the last connection or delivery, or as long as was asked for.
    pub seconds: f64,
    /// Connections that stood when it began.
    pub connections_before: u32,
    /// Connections that stood when it ended.
    pub connections_after: u32,
    /// Connections that were made and became ready.
    pub connections_made: u32,
    /// Connections that could not be made, or ended unasked.
    pub connections_failed: u32,
    /// How long connecting took, in seconds; 0 if nothing was to be connected.
    pub connect_seconds: f64,
    /// Bytes of a payload; 0 if nothing was sent.
    pub payload_bytes: u32,
    /// Messages that were sent.
    pub published_messages: u64,
    /// Messages that the server said it did not take.
    pub refused_messages: u64,
    /// Deliveries that there should have been.
    pub expected_messages: u64,
    /// Verdicts of all subscribers.
    pub counts: Counts,
    /// Times the server said that it had skipped messages.
    pub gaps_told: u64,
    /// Messages that it said it had skipped, over all subscribers.
    pub gap_messages: u64,
    /// WebSocket pings of the server, each answered.
    #[serde(default)]
    pub pings: u64,
    /// The plan allows gaps that are told.
    pub gaps_allowed: bool,
    /// Bytes that came over all connections: payloads, framing, and answers to requests.
    pub received_bytes: u64,
    /// Times that bytes came: as many as there were reads that found any.
    #[serde(default)]
    pub reads: u64,
    /// From due (open loop) or sent (closed loop) to delivered.
    pub latency: Times,
    /// From the first to the last delivery of a message; empty where each has one subscriber.
    pub spread: Times,
    /// From due or sent to the last delivery of a message: all have it; empty where each has one subscriber.
    #[serde(default)]
    pub complete: Times,
    /// How late messages were sent.
    pub lag: Times,
    /// From dialling to ready, of each connection made.
    pub connect_time: Times,
    /// Part of the phase that each worker of the load generator was on a core, 0 to 1.
    pub worker_cpu_shares: Vec<f64>,
    /// The phase over time.
    pub series: Series,
    /// The server process, if it is on this host and may be looked at.
    pub server: Option<ServerUse>,
    /// The kernel of this host, if the server is on it; both ends of all connections are in it.
    pub kernel: Option<KernelUse>,
}

impl PhaseReport {
    /// Makes one that found nothing.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: Kind) -> PhaseReport {
        PhaseReport {
            name: name.into(),
            kind,
            pace: Pace::Silent,
            start_seconds: 0.0,
            seconds: 0.0,
            connections_before: 0,
            connections_after: 0,
            connections_made: 0,
            connections_failed: 0,
            connect_seconds: 0.0,
            payload_bytes: 0,
            published_messages: 0,
            refused_messages: 0,
            expected_messages: 0,
            counts: Counts::default(),
            gaps_told: 0,
            gap_messages: 0,
            pings: 0,
            gaps_allowed: false,
            received_bytes: 0,
            reads: 0,
            latency: Times::default(),
            spread: Times::default(),
            complete: Times::default(),
            lag: Times::default(),
            connect_time: Times::default(),
            worker_cpu_shares: Vec::new(),
            series: Series::default(),
            server: None,
            kernel: None,
        }
    }

    /// Returns what was timed, by name. In a closed loop nothing is due at a time, so nothing can lag.
    pub fn all_times(&self) -> impl Iterator<Item = (&'static str, &Times)> {
        let all = [
            ("latency", &self.latency),
            ("spread", &self.spread),
            ("complete", &self.complete),
            ("lag", &self.lag),
            ("connect-time", &self.connect_time),
        ];
        let scheduled = matches!(self.pace, Pace::Open { .. });
        all.into_iter().filter(move |(name, times)| !times.is_empty() && (scheduled || *name != "lag"))
    }

    /// Returns what was wrong; nothing if every message came to everyone, once, whole and in order, over connections
    /// that all held. Late messages are not wrong.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let Counts { delivered: _, lost, duplicated, reordered, corrupted, late: _, told: _ } = self.counts;
        let gaps = if self.gaps_allowed { 0 } else { self.gap_messages.max(self.gaps_told) };
        let found = [
            (u64::from(self.connections_failed), "connections failed"),
            (self.refused_messages, "messages refused"),
            (lost, "messages lost"),
            (duplicated, "messages duplicated"),
            (reordered, "messages reordered"),
            (corrupted, "messages corrupted"),
            (gaps, "messages skipped by the server, and told"),
        ];
        let found = found.into_iter().filter(|(count, _)| *count > 0);
        found.map(|(count, what)| format!("{count} {what} in {}", self.name)).collect()
    }

    /// Returns why the figures may say more about this program than about the server, if they may.
    #[must_use]
    pub fn bottleneck(&self) -> Option<String> {
        let lag_ns = self.lag.quantile_ns(0.99);
        if let (Pace::Open { .. }, true) = (self.pace, lag_ns > LAG_NS_MAX) {
            return Some(format!("messages were sent late, p99 {}", table::Ns(lag_ns)));
        }
        let percent = self.worker_cpu_shares.iter().copied().find(|share| *share > CPU_SHARE_MAX)? * 100.0;
        match self.pace {
            Pace::Open { messages_per_second } => {
                Some(format!("a worker used {percent:.0} % of its core at {messages_per_second} messages a second"))
            }
            Pace::Silent if self.connections_made > 0 => {
                Some(format!("a worker used {percent:.0} % of its core to connect"))
            }
            // A closed loop is never late; that it saturates something, perhaps this program, is its purpose.
            Pace::Silent | Pace::Closed { .. } => None,
        }
    }

    /// Returns deliveries per second, if anything was delivered.
    #[must_use]
    pub fn deliveries_per_second(&self) -> Option<f64> {
        (self.counts.delivered > 0 && self.seconds > 0.0).then(|| self.counts.delivered as f64 / self.seconds)
    }

    /// Returns connections made per second, if any were.
    #[must_use]
    pub fn connections_per_second(&self) -> Option<f64> {
        let made = f64::from(self.connections_made);
        (made > 0.0 && self.connect_seconds > 0.0).then(|| made / self.connect_seconds)
    }

    /// Returns the server's CPU time per delivery, in nanoseconds, where messages were delivered.
    #[must_use]
    pub fn server_cpu_ns_per_delivery(&self) -> Option<f64> {
        let server = self.server.as_ref().filter(|_| self.counts.delivered > 0)?;
        Some(server.cpu_ns as f64 / self.counts.delivered as f64)
    }

    /// Returns the server's CPU time per connection made, in nanoseconds, where nothing else was done.
    #[must_use]
    pub fn server_cpu_ns_per_connection(&self) -> Option<f64> {
        let server = self.server.as_ref().filter(|_| self.kind == Kind::Connect && self.connections_made > 0)?;
        Some(server.cpu_ns as f64 / f64::from(self.connections_made))
    }

    /// Returns how much the server's private memory grew per connection made, in bytes, where nothing else was done.
    #[must_use]
    pub fn user_bytes_per_connection(&self) -> Option<f64> {
        let server = self.server.as_ref().filter(|_| self.kind == Kind::Connect && self.connections_made > 0)?;
        let grown = server.resident_bytes_after? as f64 - server.resident_bytes_before? as f64;
        Some(grown / f64::from(self.connections_made))
    }

    /// Returns how much the kernel's memory grew per connection made, in bytes, both ends, where nothing else was done.
    #[must_use]
    pub fn kernel_bytes_per_connection(&self) -> Option<f64> {
        let kernel = self.kernel.as_ref().filter(|_| self.kind == Kind::Connect && self.connections_made > 0)?;
        Some(kernel.grown_bytes() as f64 / f64::from(self.connections_made))
    }
}

impl Report {
    /// Returns what was wrong in any phase; nothing if all is fine.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let interrupted =
            self.interrupted.iter().map(|phase| format!("interrupted in {phase}: the rest was not tried"));
        self.phases.iter().flat_map(PhaseReport::problems).chain(interrupted).collect()
    }

    /// Says whether every message came to everyone, once, whole and in order, over connections that all held.
    #[must_use]
    pub fn fine(&self) -> bool {
        self.problems().is_empty()
    }

    /// Returns the verdicts of all phases together.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.phases.iter().for_each(|phase| sum.add(&phase.counts));
        sum
    }

    /// Returns the messages that were sent in all phases together.
    #[must_use]
    pub fn published_messages(&self) -> u64 {
        self.phases.iter().map(|phase| phase.published_messages).sum()
    }

    /// Returns the connections that could not be made, or ended unasked, in all phases together.
    #[must_use]
    pub fn connections_failed(&self) -> u32 {
        self.phases.iter().map(|phase| phase.connections_failed).sum()
    }

    /// Returns what each phase is called in plots and heads: its name, with its number where several have the same.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        let several = |name: &str| self.phases.iter().filter(|phase| phase.name == name).count() > 1;
        let label = |(number, phase): (u32, &PhaseReport)| match several(&phase.name) {
            true => format!("{number} {}", phase.name),
            false => phase.name.clone(),
        };
        (1..).zip(&self.phases).map(label).collect()
    }

    /// Returns the first phase of a kind.
    #[must_use]
    pub fn phase(&self, kind: Kind) -> Option<&PhaseReport> {
        self.phases.iter().find(|phase| phase.kind == kind)
    }
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::*;

    fn phase() -> PhaseReport {
        samples::report().phases.remove(1)
    }

    /// Anything but lateness is a problem, and gaps that are told are one unless the plan allows them.
    #[test]
    fn what_is_fine() {
        let with = |change: fn(&mut PhaseReport)| {
            let mut phase = phase();
            change(&mut phase);
            phase.problems()
        };
        assert!(with(|phase| phase.counts.late = 1).is_empty());
        assert_eq!(with(|phase| phase.counts.lost = 1), ["1 messages lost in publish"]);
        assert!(!with(|phase| phase.counts.duplicated = 1).is_empty());
        assert!(!with(|phase| phase.counts.reordered = 1).is_empty());
        assert!(!with(|phase| phase.counts.corrupted = 1).is_empty());
        assert!(!with(|phase| phase.connections_failed = 1).is_empty());
        assert!(!with(|phase| phase.refused_messages = 1).is_empty());
        assert!(!with(|phase| phase.gaps_told = 1).is_empty());
        assert!(!with(|phase| phase.gap_messages = 1).is_empty());
        let allowed = with(|phase| (phase.gap_messages, phase.gaps_told, phase.gaps_allowed) = (9, 1, true));
        assert!(allowed.is_empty());
        assert!(samples::report().fine());
    }

    /// A generator that ran late or out of CPU, also while it connected, says so; in a closed loop it cannot be late.
    #[test]
    fn own_limits_are_told() {
        assert_eq!(phase().bottleneck(), None);
        let mut slow = phase();
        slow.worker_cpu_shares = vec![0.1, 0.99];
        assert!(slow.bottleneck().unwrap().contains("99 %"));
        slow.lag = Times::default();
        slow.lag.record(LAG_NS_MAX * 2);
        assert!(slow.bottleneck().unwrap().contains("late"));
        slow.pace = Pace::Closed { in_flight_messages: 1 };
        assert_eq!(slow.bottleneck(), None);
        slow.pace = Pace::Silent;
        assert_eq!(slow.bottleneck(), None);
        slow.connections_made = 5;
        assert!(slow.bottleneck().unwrap().contains("99 % of its core to connect"));
    }

    /// Phases with the same name are told apart by their number.
    #[test]
    fn labels_tell_phases_apart() {
        let mut report = samples::report();
        report.phases.push(phase());
        assert_eq!(report.labels(), ["connect", "2 publish", "3 publish"]);
    }

    /// What a connection costs is told of phases that only connect; what a delivery costs, of those that deliver.
    #[test]
    fn costs_are_told_where_they_mean_something() {
        let [connect, publish] = &samples::report().phases[..] else { panic!("two phases") };
        assert_eq!(connect.user_bytes_per_connection(), Some(260.0));
        assert_eq!(connect.kernel_bytes_per_connection(), Some(7_760.0));
        assert_eq!(connect.server_cpu_ns_per_connection(), Some(20_000.0));
        assert_eq!(connect.connections_per_second(), Some(2_000.0));
        assert_eq!((connect.server_cpu_ns_per_delivery(), connect.deliveries_per_second()), (None, None));
        assert_eq!(publish.server_cpu_ns_per_delivery(), Some(1_500.0));
        assert_eq!((publish.user_bytes_per_connection(), publish.connections_per_second()), (None, None));
    }
}
