//! The report for people: lines of aligned text, phase after phase, and the verdict last.

use std::fmt;

use crate::report::times::QUANTILES;
use crate::report::{Pace, PhaseReport, Report, Times};
use crate::witness::Counts;

/// Nanoseconds, in a unit that reads well, with three digits that count.
#[derive(Clone, Copy, Debug)]
pub struct Ns(pub u64);

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0 {
            ns @ 0..1_000 => return f.pad(&format!("{ns} ns")),
            ns @ 1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
            ns @ 1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
            ns => (ns as f64 / 1e9, "s"),
        };
        // 99.95 would be rounded to three digits before the point.
        let digits = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        f.pad(&format!("{value:.digits$} {unit}"))
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

/// Returns bytes in a unit that reads well.
#[must_use]
pub fn size(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut at) = (bytes, 0);
    while value.abs() >= 1024.0 && at + 1 < units.len() {
        value /= 1024.0;
        at += 1;
    }
    let digits = usize::from(at > 0 && value.abs() < 99.95);
    format!("{value:.digits$} {}", units[at])
}

/// Returns a time as people write it.
#[must_use]
pub fn utc(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Years from 0000-03-01 on, so that a leap day is the last of its year: Howard Hinnant, "chrono-Compatible Low-Level
    // Date Algorithms", civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Writes the figures of a histogram below the heads that [`heads`] wrote.
fn times(f: &mut fmt::Formatter<'_>, name: &str, times: &Times) -> fmt::Result {
    write!(f, "  {name:<12}")?;
    for (quantile, _, _) in QUANTILES {
        write!(f, "{:>10}", Ns(times.quantile_ns(quantile)))?;
    }
    writeln!(f, "{:>10}", Ns(times.max_ns()))
}

fn heads(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "  {:<12}", "")?;
    for (_, label, _) in QUANTILES {
        write!(f, "{label:>10}")?;
    }
    writeln!(f, "{:>10}", "max")
}

impl fmt::Display for PhaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:.2} s", self.name, self.seconds)?;
        match self.pace {
            Pace::Open { messages_per_second } => {
                writeln!(f, ", open loop, {messages_per_second} messages/s: latency counts from when each was due")?;
            }
            Pace::Closed { in_flight_messages } => {
                writeln!(f, ", closed loop, {in_flight_messages} in flight: latency is blind to queues before it")?;
            }
            Pace::Silent => writeln!(f)?,
        }
        self.connecting(f)?;
        if self.published_messages > 0 || self.counts != Counts::default() {
            self.messages(f)?;
        }
        for (number, (name, histogram)) in self.all_times().enumerate() {
            if number == 0 {
                heads(f)?;
            }
            times(f, name, histogram)?;
        }
        self.costs(f)?;
        if let Some(bottleneck) = self.bottleneck() {
            writeln!(f, "  CAUTION     this program was the bottleneck: {bottleneck}")?;
        }
        Ok(())
    }
}

impl PhaseReport {
    fn connecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.connections_per_second() {
            Some(rate) => {
                let (made, seconds) = (Count(self.connections_made.into()), self.connect_seconds);
                writeln!(f, "  connected   {made} in {seconds:.2} s, {}/s", Count(rate as u64))?;
            }
            None => writeln!(f, "  connected   {}", Count(self.connections_after.into()))?,
        }
        if self.connections_failed > 0 {
            writeln!(f, "  failed      {} connections", Count(self.connections_failed.into()))?;
        }
        if self.pings > 0 {
            writeln!(f, "  pings       {} of the server, answered", Count(self.pings))?;
        }
        Ok(())
    }

    fn messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, bytes) = (Count(self.published_messages), self.payload_bytes);
        writeln!(f, "  published   {published} messages of {bytes} bytes")?;
        if self.refused_messages > 0 {
            writeln!(f, "  refused     {} by the server", Count(self.refused_messages))?;
        }
        let Counts { delivered, lost, duplicated, reordered, corrupted, late, told: _ } = self.counts;
        write!(f, "  delivered   {} of {}", Count(delivered), Count(self.expected_messages))?;
        match self.deliveries_per_second() {
            Some(rate) => writeln!(f, ", {}/s, in {} reads", Count(rate as u64), Count(self.reads))?,
            None => writeln!(f)?,
        }
        write!(
            f,
            "  witness     lost {lost}  duplicated {duplicated}  reordered {reordered}  corrupted {corrupted}  "
        )?;
        writeln!(f, "late {late}  gaps told {} ({} messages)", self.gaps_told, self.gap_messages)
    }

    fn costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            let share = server.cpu_ns as f64 / 1e7 / self.seconds.max(1e-9);
            write!(f, "  server CPU  {share:.1} % of a core")?;
            if let Some(ns) = self.server_cpu_ns_per_delivery() {
                write!(f, ", {} per delivery", Ns(ns as u64))?;
            }
            if let Some(ns) = self.server_cpu_ns_per_connection() {
                write!(f, ", {} per connection", Ns(ns as u64))?;
            }
            writeln!(f)?;
        }
        let (user, kernel) = (self.user_bytes_per_connection(), self.kernel_bytes_per_connection());
        if user.is_some() || kernel.is_some() {
            let told = |bytes: Option<f64>| bytes.map_or("?".to_owned(), |bytes| format!("{bytes:.0}"));
            writeln!(
                f,
                "  memory      {} B per connection in the server, {} B in the kernel (whole host, both ends)",
                told(user),
                told(kernel)
            )?;
        }
        if !self.worker_cpu_shares.is_empty() {
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
            writeln!(f, "note: {note}")?;
        }
        for fault in &self.faults {
            writeln!(f, "fault: {fault}")?;
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
    use super::*;
    use crate::report::samples;

    /// The text carries the verdict and the figures, columns under their heads.
    #[test]
    fn figures_are_told() {
        let mut report = samples::report();
        let text = report.to_string();
        for figure in [
            "connected   2,000 in 1.00 s, 2,000/s",
            "delivered   4,000 of 4,000, 2,000/s, in 4,000 reads",
            "1.50 µs per delivery",
            "260 B per connection in the server, 7760 B in the kernel",
            "publish: 2.00 s, open loop, 1 messages/s",
        ] {
            assert!(text.contains(figure), "{figure} in {text}");
        }
        let ends = |line: &str| line.chars().count();
        let heads = text.lines().rfind(|line| line.contains("p99.99")).unwrap();
        for name in ["  latency ", "  spread ", "  complete ", "  lag "] {
            let line = text.lines().find(|line| line.starts_with(name)).expect(name);
            assert_eq!(ends(line), ends(heads), "{text}");
        }
        assert!(text.ends_with("\nfine"), "{text}");
        report.phases[1].counts.lost = 3;
        assert!(report.to_string().ends_with("\nNOT FINE: 3 messages lost in publish"));
        report.phases[1].lag = samples::times(5, 50_000_000, 0);
        assert!(report.to_string().contains("CAUTION     this program was the bottleneck: messages were sent late"));
    }

    /// Times, counts, sizes and dates read as people write them.
    #[test]
    fn units_read_well() {
        let times = [999, 1_234, 9_996, 99_960, 123_456_789, 2_000_000_000].map(|ns| Ns(ns).to_string());
        assert_eq!(times, ["999 ns", "1.23 µs", "10.0 µs", "100 µs", "123 ms", "2.00 s"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(|n| Count(n).to_string()), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([512.0, 1536.0, 25_769_803_776.0].map(size), ["512 B", "1.5 KiB", "24.0 GiB"]);
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_798_761_599), "2026-12-31 23:59:59 UTC");
    }
}
