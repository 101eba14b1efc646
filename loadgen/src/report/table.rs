//! The report for people: lines of aligned text, phase after phase, and the verdict last.

use std::fmt;

use crate::report::times::QUANTILES;
use crate::report::{Kind, Pace, PhaseReport, Report, Times};
use crate::witness::Counts;

/// Nanoseconds, in a unit that reads well.
#[derive(Clone, Copy, Debug)]
pub struct Ns(pub u64);

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            ns @ 0..10_000 => format!("{ns} ns"),
            ns @ 10_000..10_000_000 => format!("{} µs", ns / 1_000),
            ns @ 10_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
            ns => format!("{} s", ns / 1_000_000_000),
        };
        f.pad(&text)
    }
}

/// A count with its thousands set apart.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

fn times(f: &mut fmt::Formatter<'_>, name: &str, times: &Times) -> fmt::Result {
    if times.is_empty() {
        return Ok(());
    }
    write!(f, "  {name:<12}")?;
    for (quantile, label, _) in QUANTILES {
        write!(f, "{label} {:<9}", Ns(times.quantile_ns(quantile)))?;
    }
    writeln!(f, "max {}", Ns(times.max_ns()))
}

impl fmt::Display for PhaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {:.2} s", self.name, self.seconds)?;
        if let Some(rate) = self.connections_per_second() {
            let (made, seconds) = (Count(self.connections_made.into()), self.connect_seconds);
            writeln!(f, "  connected   {made} in {seconds:.2} s, {}/s", Count(rate as u64))?;
        } else if self.connections_after > 0 {
            writeln!(f, "  connected   {}", Count(self.connections_after.into()))?;
        }
        if self.connections_failed > 0 {
            writeln!(f, "  failed      {} connections", Count(self.connections_failed.into()))?;
        }
        times(f, "connecting", &self.connect_time)?;
        if self.published_messages > 0 || self.counts != Counts::default() {
            self.messages(f)?;
        }
        self.costs(f)?;
        if let Some(bottleneck) = self.bottleneck() {
            writeln!(f, "  CAUTION     this program was the bottleneck: {bottleneck}")?;
        }
        Ok(())
    }
}

impl PhaseReport {
    fn messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, bytes) = (Count(self.published_messages), self.payload_bytes);
        writeln!(f, "  published   {published} messages of {bytes} bytes")?;
        if self.refused_messages > 0 {
            writeln!(f, "  refused     {} by the server", Count(self.refused_messages))?;
        }
        let Counts { delivered, lost, duplicated, reordered, corrupted, late, told: _ } = self.counts;
        write!(f, "  delivered   {} of {}", Count(delivered), Count(self.expected_messages))?;
        match self.deliveries_per_second() {
            Some(rate) => writeln!(f, ", {}/s", Count(rate as u64))?,
            None => writeln!(f)?,
        }
        writeln!(
            f,
            "  witness     lost {lost}  duplicated {duplicated}  reordered {reordered}  corrupted {corrupted}  \
             late {late}  gaps told {} ({} messages)",
            self.gaps_told, self.gap_messages
        )?;
        times(f, "latency", &self.latency)?;
        match self.pace {
            Pace::Closed { in_flight_messages: count } => {
                writeln!(
                    f,
                    "              closed loop, {count} in flight: time on the way, blind to queues before it"
                )?;
            }
            Pace::Open { .. } => writeln!(f, "              open loop: counted from when each message was due")?,
            Pace::Silent => {}
        }
        times(f, "spread", &self.spread)
    }

    fn costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            let share = server.cpu_ns as f64 / 1e7 / self.seconds.max(1e-9);
            write!(f, "  server CPU  {share:.1} % of a core")?;
            if let Some(ns) = self.server_cpu_ns_per_delivery() {
                write!(f, ", {:.2} µs per delivery", ns / 1e3)?;
            }
            if let Some(ns) = self.server_cpu_ns_per_connection() {
                write!(f, ", {:.1} µs per connection", ns / 1e3)?;
            }
            writeln!(f)?;
        }
        if let Some(bytes) = self.user_bytes_per_connection() {
            write!(f, "  memory      {bytes:.0} B per connection in the server")?;
            match self.kernel_bytes_per_connection() {
                Some(bytes) => writeln!(f, ", {bytes:.0} B in the kernel (both ends, whole host)")?,
                None => writeln!(f)?,
            }
        }
        if !self.worker_cpu_shares.is_empty() && self.kind != Kind::Connect {
            let shares = self.worker_cpu_shares.iter().map(|share| format!("{:.0} %", share * 100.0));
            writeln!(f, "  own CPU     {} of a core, by worker", shares.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for phase in &self.phases {
            write!(f, "{phase}")?;
        }
        for note in &self.notes {
            writeln!(f, "note          {note}")?;
        }
        for fault in &self.faults {
            writeln!(f, "fault         {fault}")?;
        }
        let problems = self.problems();
        if problems.is_empty() {
            return write!(f, "fine");
        }
        write!(f, "NOT FINE: {}", problems.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use crate::report::samples;

    /// The text carries the verdict and the figures.
    #[test]
    fn figures_are_told() {
        let mut report = samples::report();
        let text = report.to_string();
        for figure in [
            "connected   2,000 in 1.00 s, 2,000/s",
            "delivered   4,000 of 4,000, 2,000/s",
            "1.50 µs per delivery",
            "260 B per connection in the server, 7760 B in the kernel",
        ] {
            assert!(text.contains(figure), "{figure} in {text}");
        }
        assert!(text.ends_with("\nfine"), "{text}");
        report.phases[1].counts.lost = 3;
        assert!(report.to_string().ends_with("\nNOT FINE: 3 messages lost in publish"));
    }
}
