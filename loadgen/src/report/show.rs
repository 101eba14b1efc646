//! Live progress: one line on a terminal, nothing anywhere else.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::table::{Count, Ns};

/// Time between two lines.
const SHOW: Duration = Duration::from_millis(200);

/// Steps of the bar.
const STEPS: u64 = 1000;

/// Part of the newest rate in the one that is shown; it steadies within a second.
const NEW_RATE: f64 = 0.3;

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress<'a> {
    /// The phase's name.
    pub phase: &'a str,
    /// Which it is, from 1, and how many there are.
    pub number: u32,
    /// How many there are.
    pub phases: u32,
    /// How much of it is done, 0 to 1.
    pub part: f64,
    /// Connections that stand.
    pub connections: u32,
    /// Connections that there shall be.
    pub connections_wanted: u32,
    /// Messages sent in this phase.
    pub published_messages: u64,
    /// Deliveries in this phase.
    pub delivered_messages: u64,
    /// Deliveries that there should be by now; 0 if that is not known.
    pub expected_messages: u64,
    /// 99th percentile of the latency so far.
    pub latency_p99_ns: Option<u64>,
    /// How late the schedule is.
    pub lag_ns: Option<u64>,
}

impl Progress<'_> {
    /// Returns the line, the most important first: a narrow terminal cuts the end off.
    fn line(&self, deliveries_per_second: f64) -> String {
        let mut parts = vec![format!("{} {}/{}", self.phase, self.number, self.phases)];
        if self.connections < self.connections_wanted {
            let (stand, wanted) = (Count(self.connections.into()), Count(self.connections_wanted.into()));
            parts.push(format!("{stand} of {wanted} connections"));
        } else {
            parts.push(format!("{} connections", Count(self.connections.into())));
        }
        if self.published_messages > 0 {
            let missing = self.expected_messages.saturating_sub(self.delivered_messages);
            parts.push(format!("{} published", Count(self.published_messages)));
            let delivered = Count(self.delivered_messages);
            if self.expected_messages > 0 {
                parts.push(format!("{delivered} of {} delivered", Count(self.expected_messages)));
            } else {
                parts.push(format!("{delivered} delivered"));
            }
            if missing > 0 {
                parts.push(format!("{} missing", Count(missing)));
            }
            parts.push(format!("{}/s", Count(deliveries_per_second as u64)));
        }
        if let Some(ns) = self.latency_p99_ns {
            parts.push(format!("p99 {}", Ns(ns)));
        }
        if let Some(ns) = self.lag_ns {
            parts.push(format!("lag {}", Ns(ns)));
        }
        parts.join(", ")
    }
}

/// See the module.
#[derive(Debug)]
pub struct Show {
    bar: ProgressBar,
    /// When, in which phase, and at how many deliveries the rate was last looked at.
    last: Option<(Instant, u32, u64)>,
    deliveries_per_second: f64,
}

impl Default for Show {
    fn default() -> Show {
        Show::on(ProgressDrawTarget::stderr())
    }
}

impl Show {
    /// Shows on a target; one that is no terminal shows nothing.
    fn on(target: ProgressDrawTarget) -> Show {
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        let style = ProgressStyle::with_template("{bar:10} {wide_msg}");
        bar.set_style(style.expect("the template is a constant"));
        Show { bar, last: None, deliveries_per_second: 0.0 }
    }

    /// Says whether a line is due: whoever asks first saves what it takes to put it together.
    #[must_use]
    pub fn due(&self) -> bool {
        !self.bar.is_hidden() && self.last.is_none_or(|(at, ..)| at.elapsed() >= SHOW)
    }

    /// Shows how far the run is.
    pub fn show(&mut self, progress: &Progress<'_>) {
        let now = Instant::now();
        match self.last {
            Some((at, number, delivered)) if number == progress.number => {
                let grown = progress.delivered_messages.saturating_sub(delivered) as f64;
                let newest = grown / now.duration_since(at).as_secs_f64().max(1e-9);
                self.deliveries_per_second += (newest - self.deliveries_per_second) * NEW_RATE;
            }
            _ => self.deliveries_per_second = 0.0,
        }
        self.last = Some((now, progress.number, progress.delivered_messages));
        self.bar.set_position((progress.part.clamp(0.0, 1.0) * STEPS as f64) as u64);
        self.bar.set_message(progress.line(self.deliveries_per_second));
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line tells what is going on, the missing only if there are some.
    #[test]
    fn lines_tell_what_is_going_on() {
        let mut progress = Progress { phase: "publish", number: 2, phases: 3, ..Progress::default() };
        (progress.connections, progress.connections_wanted) = (1_200, 5_000);
        assert_eq!(progress.line(0.0), "publish 2/3, 1,200 of 5,000 connections");
        progress.connections = 5_000;
        progress.published_messages = 12;
        progress.delivered_messages = 59_000;
        progress.expected_messages = 60_000;
        (progress.latency_p99_ns, progress.lag_ns) = (Some(23_000_000), Some(1_000));
        assert_eq!(
            progress.line(50_019.4),
            "publish 2/3, 5,000 connections, 12 published, 59,000 of 60,000 delivered, 1,000 missing, 50,019/s, \
             p99 23.0 ms, lag 1.00 µs"
        );
        progress.delivered_messages = 60_000;
        assert!(!progress.line(0.0).contains("missing"));
    }

    /// On what is no terminal nothing is due and nothing is shown.
    #[test]
    fn quiet_without_a_terminal() {
        let mut show = Show::on(ProgressDrawTarget::hidden());
        assert!(!show.due());
        show.show(&Progress { phase: "x", number: 1, phases: 1, ..Progress::default() });
        show.clear();
    }

    /// On a terminal the line has phase, bar and figures, and is gone at the end.
    #[test]
    fn shown_on_a_terminal() {
        let terminal = indicatif::InMemoryTerm::new(10, 120);
        let mut show = Show::on(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        assert!(show.due());
        let progress =
            Progress { phase: "publish", number: 2, phases: 3, part: 0.5, connections: 7, ..Progress::default() };
        show.show(&progress);
        show.bar.tick();
        let shown = terminal.contents();
        assert!(shown.starts_with("█████░░░░░ publish 2/3, 7 connections"), "{shown}");
        show.clear();
        assert_eq!(terminal.contents(), "");
    }
}
