//! What a run found, as text for people and JSON for programs.

use std::fmt;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::plan::{Load, Phase, Plan};
use crate::witness::Counts;

/// Lag of the schedule above which latencies say more about this program than about the server, in nanoseconds.
const LAG_NS_MAX: u64 = 10_000_000;

/// Part of a core above which a worker is taken for the bottleneck.
const CPU_SHARE_MAX: f64 = 0.95;

/// Quantiles that are reported, with their names.
const QUANTILES: [(f64, &str); 5] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// How connecting went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ramp {
    /// Subscribers (or echoing connections) that were ready at the end of it.
    pub connected: u32,
    /// Time it took, in seconds.
    pub seconds: f64,
    /// CPU time of the server meanwhile, in nanoseconds.
    pub server_cpu_ns: Option<u64>,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to be done.
    pub plan: Plan,
    /// How connecting went.
    pub ramp: Ramp,
    /// Messages sent to the server (`--echo`: all of them to be echoed).
    pub published: u64,
    /// Messages that the server said it did not take.
    pub refused: u64,
    /// Verdicts of all subscribers.
    pub counts: Counts,
    /// Times the server said that it had skipped messages.
    pub gaps_told: u64,
    /// Connections that could not be made, or ended before the run did.
    pub failed: u32,
    /// Why, for the first few.
    pub faults: Vec<String>,
    /// Time from the first message due to the last delivery, in seconds.
    pub seconds: f64,
    /// CPU time of the server from the first message to the last delivery, in nanoseconds.
    pub server_cpu_ns: Option<u64>,
    /// From due to delivered, in nanoseconds.
    pub latency_ns: Histogram<u64>,
    /// From the first to the last delivery of a message, in nanoseconds; empty where each has one subscriber.
    pub spread_ns: Histogram<u64>,
    /// How late messages were sent, in nanoseconds.
    pub lag_ns: Histogram<u64>,
    /// Part of the run that each worker was on a core.
    pub cpu_shares: Vec<f64>,
}

impl Report {
    /// Says whether every message came to everyone, once, whole and in order, over connections that all held.
    #[must_use]
    pub fn fine(&self) -> bool {
        let told = self.counts.told > 0 && self.plan.refuses_gaps();
        self.counts.clean() && !told && self.failed == 0 && self.refused == 0
    }

    /// Returns why the figures may say more about this program than about the server, if they may.
    #[must_use]
    pub fn bottleneck(&self) -> Option<String> {
        let Load::Open { rate } = self.load() else {
            return None;
        };
        let lag_ns = self.lag_ns.value_at_quantile(0.99);
        if lag_ns > LAG_NS_MAX {
            return Some(format!("messages were sent late, p99 {}", Ns(lag_ns)));
        }
        if let Some(share) = self.cpu_shares.iter().copied().find(|share| *share > CPU_SHARE_MAX) {
            return Some(format!("a worker used {:.0} % of its core at {rate} messages a second", share * 100.0));
        }
        None
    }

    /// Returns the server's CPU time per delivery, in nanoseconds.
    #[must_use]
    pub fn server_ns_per_delivery(&self) -> Option<f64> {
        let deliveries = self.counts.delivered.max(1) as f64;
        self.server_cpu_ns.map(|cpu_ns| cpu_ns as f64 / deliveries)
    }

    /// Returns the report for programs. Times are in nanoseconds unless the name says otherwise.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let times = |histogram: &Histogram<u64>| {
            let mut object = serde_json::Map::new();
            for (quantile, name) in QUANTILES {
                object.insert(name.to_owned(), histogram.value_at_quantile(quantile).into());
            }
            object.insert("max".to_owned(), histogram.max().into());
            object.insert("count".to_owned(), histogram.len().into());
            Value::Object(object)
        };
        let Counts { delivered, lost, duplicated, reordered, corrupted, late, told } = self.counts;
        json!({
            "fine": self.fine(),
            "plan": {
                "connect": self.plan.connect.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "connections": self.plan.connections, "topics": self.plan.topics, "bytes": self.plan.bytes,
                "workers": self.plan.workers, "echo": self.plan.echo(), "loop": self.loop_name(),
            },
            "ramp": {
                "connected": self.ramp.connected, "seconds": self.ramp.seconds,
                "per_second": f64::from(self.ramp.connected) / self.ramp.seconds.max(1e-9),
                "server_cpu_ns": self.ramp.server_cpu_ns,
            },
            "published": self.published, "refused": self.refused,
            "delivered": delivered, "lost": lost, "duplicated": duplicated, "reordered": reordered,
            "corrupted": corrupted, "late": late, "gaps_told": self.gaps_told, "told": told,
            "failed_connections": self.failed, "faults": self.faults,
            "seconds": self.seconds,
            "deliveries_per_second": delivered as f64 / self.seconds.max(1e-9),
            "server_cpu_ns": self.server_cpu_ns,
            "server_cpu_ns_per_delivery": self.server_ns_per_delivery(),
            "latency": times(&self.latency_ns), "spread": times(&self.spread_ns), "lag": times(&self.lag_ns),
            "cpu_shares": self.cpu_shares, "bottleneck": self.bottleneck(),
        })
    }

    /// Returns how the first phase that publishes is driven.
    fn load(&self) -> Load {
        let mut streams = self.plan.phases.iter().flat_map(Phase::streams);
        streams.next().map_or(Load::Idle, |stream| stream.load())
    }

    fn loop_name(&self) -> &'static str {
        match self.load() {
            Load::Idle => "idle",
            Load::Open { .. } => "open",
            Load::Closed { .. } => "closed",
        }
    }
}

/// Nanoseconds, in a unit that reads well.
struct Ns(u64);

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns @ 0..10_000 => write!(f, "{ns} ns"),
            ns @ 10_000..10_000_000 => write!(f, "{} µs", ns / 1_000),
            ns @ 10_000_000..10_000_000_000 => write!(f, "{} ms", ns / 1_000_000),
            ns => write!(f, "{} s", ns / 1_000_000_000),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, histogram: &Histogram<u64>) -> fmt::Result {
    write!(f, "{name:<12}")?;
    for (quantile, label) in QUANTILES {
        write!(f, "{label} {}  ", Ns(histogram.value_at_quantile(quantile)))?;
    }
    writeln!(f, "max {}", Ns(histogram.max()))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ramp { connected, seconds, server_cpu_ns } = self.ramp;
        let per_second = f64::from(connected) / seconds.max(1e-9);
        write!(f, "connected   {connected} in {seconds:.2} s, {per_second:.0}/s")?;
        if let Some(cpu_ns) = server_cpu_ns {
            let each_us = cpu_ns as f64 / 1e3 / f64::from(connected.max(1));
            write!(f, ", server CPU {each_us:.1} µs each")?;
        }
        writeln!(f)?;
        if self.failed > 0 {
            writeln!(f, "failed      {} connections", self.failed)?;
        }
        let Counts { delivered, lost, duplicated, reordered, corrupted, late, told } = self.counts;
        let rate = delivered as f64 / self.seconds.max(1e-9);
        writeln!(f, "published   {} messages of {} bytes", self.published, self.plan.bytes)?;
        if self.refused > 0 {
            writeln!(f, "refused     {} by the server", self.refused)?;
        }
        writeln!(f, "delivered   {delivered} in {:.2} s, {rate:.0}/s", self.seconds)?;
        writeln!(
            f,
            "witness     lost {lost}  duplicated {duplicated}  reordered {reordered}  corrupted {corrupted}  \
             late {late}  gaps told {} ({told} messages)",
            self.gaps_told
        )?;
        if !self.latency_ns.is_empty() {
            line(f, "latency", &self.latency_ns)?;
            match self.load() {
                Load::Closed { in_flight } => {
                    writeln!(
                        f,
                        "            closed loop, {in_flight} in flight: time on the way, blind to queues before it"
                    )?;
                }
                _ => writeln!(f, "            open loop: counted from when each message was due")?,
            }
        }
        if !self.spread_ns.is_empty() {
            line(f, "spread", &self.spread_ns)?;
        }
        if let (Some(cpu_ns), Some(each_ns)) = (self.server_cpu_ns, self.server_ns_per_delivery()) {
            let share = cpu_ns as f64 / 1e7 / self.seconds.max(1e-9);
            writeln!(f, "server CPU  {share:.1} % of a core, {:.2} µs per delivery", each_ns / 1e3)?;
        }
        let shares: Vec<String> = self.cpu_shares.iter().map(|share| format!("{:.0} %", share * 100.0)).collect();
        writeln!(f, "own CPU     {} of a core, by worker", shares.join(", "))?;
        if let Some(bottleneck) = self.bottleneck() {
            writeln!(f, "CAUTION     this program was the bottleneck: {bottleneck}")?;
        }
        for fault in &self.faults {
            writeln!(f, "fault       {fault}")?;
        }
        write!(f, "{}", if self.fine() { "fine" } else { "NOT FINE" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::histogram;
    use crate::plan::Gaps;

    fn report() -> Report {
        let mut latency_ns = histogram();
        latency_ns.saturating_record(1_500_000);
        Report {
            plan: Plan::default(),
            ramp: Ramp { connected: 2, seconds: 0.5, server_cpu_ns: Some(50_000) },
            published: 1,
            refused: 0,
            counts: Counts { delivered: 2, ..Counts::default() },
            gaps_told: 0,
            failed: 0,
            faults: Vec::new(),
            seconds: 0.1,
            server_cpu_ns: Some(8_000),
            latency_ns,
            spread_ns: histogram(),
            lag_ns: histogram(),
            cpu_shares: vec![0.25],
        }
    }

    /// Both forms carry the verdict and the figures.
    #[test]
    fn text_and_json_agree() {
        let report = report();
        let text = report.to_string();
        assert!(text.contains("delivered   2 in 0.10 s, 20/s"), "{text}");
        assert!(text.contains("4.00 µs per delivery") && text.ends_with("\nfine"), "{text}");
        let json = report.to_json();
        assert_eq!(json["server_cpu_ns_per_delivery"], 4000.0);
        assert_eq!(json["ramp"]["per_second"], 4.0);
        assert_eq!(json["fine"], true);
    }

    /// Anything but lateness makes a run fail.
    #[test]
    fn what_is_fine() {
        let with = |change: fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            report.fine()
        };
        assert!(with(|report| report.counts.late = 1));
        assert!(!with(|report| report.counts.lost = 1));
        assert!(!with(|report| report.counts.duplicated = 1));
        assert!(!with(|report| report.counts.reordered = 1));
        assert!(!with(|report| report.counts.corrupted = 1));
        assert!(!with(|report| report.failed = 1));
        assert!(!with(|report| report.refused = 1));
        assert!(!with(|report| report.counts.told = 1));
        let allowed = |report: &mut Report| {
            report.counts.told = 1;
            report.plan.gaps = Gaps::Allowed;
        };
        assert!(with(allowed));
    }

    /// A generator that ran late or out of CPU says so; in a closed loop it cannot be late.
    #[test]
    fn own_limits_are_told() {
        assert_eq!(report().bottleneck(), None);
        let mut slow = report();
        slow.cpu_shares = vec![0.1, 0.99];
        assert!(slow.bottleneck().unwrap().contains("99 %"));
        slow.lag_ns.saturating_record(LAG_NS_MAX * 2);
        assert!(slow.bottleneck().unwrap().contains("late"));
        slow.plan.phases[1].set_load(Load::Closed { in_flight: 1 });
        assert_eq!(slow.bottleneck(), None);
    }
}
