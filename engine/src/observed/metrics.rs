//! `/metrics`: what can be seen, in the text formats of Prometheus (0.0.4) and OpenMetrics (1.0).
//!
//! One table of names ([`series_of`]) makes both of what a shard counts; a field that is added to the statistics is exported without
//! a word here. Totals are `corecast_NAME`, those of a shard `corecast_shard_NAME{shard="N"}`: two families, so that a sum over
//! one of them counts nothing twice. No series has a topic or a peer in its name: their number would be their peers' choice.

use std::fmt::Write as _;

use super::{Limit, Observed, total_of};
use crate::shard::{Histogram, PHASES, Stats, TIMED};

/// Histograms that are told of each shard, besides of all together: more would be most of what is scraped.
const OF_SHARDS: [&str; 2] = ["latency", "turn"];

/// Largest bound of a bucket: 2^24 µs are 17 s. The smallest is 1 µs.
const POWER_MAX: u32 = 24;

/// Which text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns what a scraper takes that says so: the newer one if it knows of it.
    #[must_use]
    pub fn accepted<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Format {
        const NEWER: &[u8] = b"application/openmetrics-text";
        let is_newer = |value: &[u8]| value.windows(NEWER.len()).any(|part| part.eq_ignore_ascii_case(NEWER));
        if accept.into_iter().any(is_newer) { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// Returns its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A series: its family, and what tells it from others of that.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Series {
    family: String,
    kind: Kind,
    label: Option<(&'static str, String)>,
    /// The value is in microseconds, and told in seconds.
    micros: bool,
}

/// Statistics that go up and down.
const GAUGES: [&str; 10] = [
    "topics",
    "homes",
    "subscriptions",
    "producers",
    "grants",
    "grant_bytes",
    "pool_bytes",
    "resident_bytes",
    "overloaded",
    "long_turns_percent",
];

/// Returns the series of a field of the statistics; `None`: it is the sum of others.
fn series_of(field: &str) -> Option<Series> {
    let series = |family: &str, kind, label| Some(Series { family: family.to_owned(), kind, label, micros: false });
    let timed = |family: &str, kind| Some(Series { family: family.to_owned(), kind, label: None, micros: true });
    let labelled = |label, value: &str| Some((label, value.replace('_', "-")));
    if let Some(kind) = field.strip_prefix("connections_") {
        return series("connections", Kind::Gauge, labelled("kind", kind));
    }
    if let Some(reason) = field.strip_prefix("refused_") {
        return series("refused", Kind::Counter, labelled("reason", reason));
    }
    if let Some(limit) = field.strip_prefix("limited_") {
        return series("limited", Kind::Counter, labelled("limit", limit));
    }
    let owner = |owner| series("memory_bytes", Kind::Gauge, labelled("owner", owner));
    match field {
        "connections" | "refused" => None,
        "pool_log_bytes" => owner("log"),
        "pool_history_bytes" => owner("history"),
        "pool_private_bytes" => owner("private"),
        "pool_inbound_bytes" => owner("inbound"),
        "table_bytes" => owner("tables"),
        "busy_bytes" => owner("busy"),
        "scratch_bytes" => owner("scratch"),
        "pool_bytes_max" => series("memory_max_bytes", Kind::Gauge, None),
        "turn_us_total" => timed("turn_busy_seconds", Kind::Counter),
        "spin_us_total" => timed("spin_seconds", Kind::Counter),
        "turn_us_max" => timed("turn_max_seconds", Kind::Gauge),
        other if GAUGES.contains(&other) => series(other, Kind::Gauge, None),
        other => series(other, Kind::Counter, None),
    }
}

/// Returns what a family is, where several fields make one.
fn help_of<'h>(family: &str, of_field: &'h str) -> &'h str {
    match family {
        "connections" => "Open connections, by kind.",
        "refused" => "Connections, requests and commands refused, by reason: docs/protocol.md explains each.",
        "limited" => "What was refused because of limits for addresses, subjects or all, by limit.",
        "memory_bytes" => "Memory in use, by whom, of what corecast_memory_max_bytes allows.",
        "turn_busy_seconds" => "Seconds spent in turns that did something.",
        "spin_seconds" => {
            "Seconds of CPU time in which a core looked for work before a rest, and found none; at its first shard."
        }
        "turn_max_seconds" => "The longest turn.",
        _ => of_field,
    }
}

/// A text that is being written.
struct Page {
    text: String,
    format: Format,
}

impl Page {
    /// Begins a family; returns the name of its samples.
    fn family(&mut self, name: &str, kind: Kind, help: &str) -> String {
        let (kind, total) = match kind {
            Kind::Counter => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
        };
        let sample = format!("corecast_{name}{total}");
        // OpenMetrics names the family, the older format what its samples are called.
        let of = if self.format == Format::OpenMetrics { format!("corecast_{name}") } else { sample.clone() };
        self.line(format_args!("# TYPE {of} {kind}\n# HELP {of} {help}\n"));
        sample
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text.write_fmt(line).expect("memory takes everything");
    }

    fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl std::fmt::Display) {
        let sample = self.family(name, kind, help);
        self.line(format_args!("{sample} {value}\n"));
    }

    /// Writes the samples of one histogram; `labels` is empty, or ends with a comma.
    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let count = histogram.count();
        for power in 0..=POWER_MAX {
            let (bound, below) = (f64::from(1_u32 << power) / 1e6, histogram.below_power(power));
            self.line(format_args!("corecast_{name}_bucket{{{labels}le=\"{bound}\"}} {below}\n"));
        }
        let (braces, sum) = (braced(labels.trim_end_matches(',')), seconds(histogram.sum_ns()));
        self.line(format_args!("corecast_{name}_bucket{{{labels}le=\"+Inf\"}} {count}\n"));
        self.line(format_args!("corecast_{name}_sum{braces} {sum}\ncorecast_{name}_count{braces} {count}\n"));
    }
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Returns what is scraped; with `of_shards`, of each shard, too.
#[must_use]
pub fn page(observed: &Observed, format: Format, of_shards: bool) -> String {
    let mut page = Page { text: String::with_capacity(64 << 10), format };
    let shards = observed.shards();
    let total = total_of(&shards);
    process(&mut page, observed, &total);
    fields(&mut page, "", &[(String::new(), total.values())]);
    timings(&mut page, observed);
    if of_shards {
        let all: Vec<_> =
            shards.iter().enumerate().map(|(n, stats)| (format!("shard=\"{n}\""), stats.values())).collect();
        fields(&mut page, "shard_", &all);
        for (place, (name, help)) in TIMED.iter().enumerate().filter(|(_, (name, _))| OF_SHARDS.contains(name)) {
            let family = format!("shard_{name}_seconds");
            page.family(&family, Kind::Histogram, help);
            for shard in 0..shards.len() {
                page.histogram(&family, &format!("shard=\"{shard}\","), &observed.histogram_of(shard, place));
            }
        }
    }
    if format == Format::OpenMetrics {
        page.text += "# EOF\n";
    }
    page.text
}

/// What is known of the process.
fn process(page: &mut Page, observed: &Observed, total: &Stats) {
    let (version, commit, date) = version();
    let sample = page.family("build_info", Kind::Gauge, "The version that runs; its value is 1.");
    page.line(format_args!("{sample}{{version=\"{version}\",commit=\"{commit}\",date=\"{date}\"}} 1\n"));
    page.single("uptime_seconds", Kind::Gauge, "Seconds since the start.", observed.uptime_s());
    let ready = u8::from(observed.is_ready());
    page.single("ready", Kind::Gauge, "1: new connections are welcome; 0: it is about to end.", ready);
    let shards = observed.shards().len();
    page.single("shards", Kind::Gauge, "How many shards there are.", shards);
    let (dropped, left_out) = observed.log_lines();
    let help = "Log lines dropped, because stderr was not read as fast as they came.";
    page.single("log_lines_dropped", Kind::Counter, help, dropped);
    let help = "Log lines left out, because one place in the engine logged too many.";
    page.single("log_lines_left_out", Kind::Counter, help, left_out);
    if let Some(expires_s) = observed.held().certificate_expires_s {
        let help = "When the first TLS certificate expires, in seconds since 1970.";
        page.single("certificate_expires_timestamp_seconds", Kind::Gauge, help, expires_s);
    }
    let limits = observed.limits(total);
    let sample = page.family("limit_used", Kind::Gauge, "How much there is of what is limited.");
    for Limit { name, used, .. } in &limits {
        page.line(format_args!("{sample}{{limit=\"{name}\"}} {used}\n"));
    }
    let sample = page.family("limit_max", Kind::Gauge, "How much there may be.");
    for Limit { name, max, .. } in &limits {
        page.line(format_args!("{sample}{{limit=\"{name}\"}} {max}\n"));
    }
}

/// What is counted, of one or several, each with its own label.
fn fields(page: &mut Page, prefix: &str, of: &[(String, [u64; Stats::COUNT])]) {
    let mut done: Vec<String> = Vec::new();
    let all = || Stats::FIELDS.iter().enumerate().filter_map(|(n, (field, help))| Some((n, help, series_of(field)?)));
    for (_, help, Series { family, kind, .. }) in all() {
        if done.contains(&family) {
            continue;
        }
        let sample = page.family(&format!("{prefix}{family}"), kind, help_of(&family, help));
        for (n, _, series) in all().filter(|(.., series)| series.family == family) {
            for (own, values) in of {
                let label = series.label.as_ref().map(|(label, value)| format!("{label}=\"{value}\""));
                let labels = [Some(own.clone()).filter(|own| !own.is_empty()), label];
                let labels: Vec<String> = labels.into_iter().flatten().collect();
                let braces = braced(&labels.join(","));
                match series.micros {
                    true => page.line(format_args!("{sample}{braces} {}\n", values[n] as f64 / 1e6)),
                    false => page.line(format_args!("{sample}{braces} {}\n", values[n])),
                }
            }
        }
        done.push(family);
    }
}

/// What was measured, of all shards together.
fn timings(page: &mut Page, observed: &Observed) {
    let histograms = observed.histograms();
    let (single, phases) = histograms.split_at(TIMED.len());
    for ((name, help), histogram) in TIMED.iter().zip(single) {
        let family = format!("{name}_seconds");
        page.family(&family, Kind::Histogram, help);
        page.histogram(&family, "", histogram);
    }
    page.family("phase_seconds", Kind::Histogram, "What the phases of turns took that did something.");
    for (phase, histogram) in PHASES.iter().zip(phases) {
        page.histogram("phase_seconds", &format!("phase=\"{phase}\","), histogram);
    }
}

/// Returns the version, the commit and its day, as far as this build knows them.
#[must_use]
pub fn version() -> (&'static str, &'static str, &'static str) {
    let (version, rest) = env!("CORECAST_VERSION").split_once(" (").unwrap_or((env!("CORECAST_VERSION"), ""));
    let (commit, date) = rest.trim_end_matches(')').split_once(' ').unwrap_or((rest.trim_end_matches(')'), ""));
    (version, commit, date)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::mesh::Board;

    fn observed() -> Observed {
        let board = Arc::new(Board::new(2));
        board.write(
            0,
            &Stats { connections: 3, connections_line: 2, connections_sse: 1, refused_full: 4, ..Stats::default() },
        );
        board.write(1, &Stats { turn_us_total: 1_500_000, turn_us_max: 7, published: 5, ..Stats::default() });
        Observed::new(board, 10)
    }

    /// Each field is told once, or is the sum of what is told; what goes up and down is no counter.
    #[test]
    fn every_field_is_told() {
        let mut seen = BTreeSet::new();
        for (field, _) in Stats::FIELDS {
            let Some(series) = series_of(field) else {
                assert!(Stats::FIELDS.iter().any(|(other, _)| other.starts_with(&format!("{field}_"))), "{field}");
                continue;
            };
            assert!(seen.insert(format!("{series:?}")), "{field} is told twice");
            assert!(series.family.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{field}");
        }
        let fields: Vec<&str> = Stats::FIELDS.iter().map(|(field, _)| *field).collect();
        assert!(GAUGES.iter().all(|gauge| fields.contains(gauge)));
    }

    /// Totals and shards are families of their own; labels, units and the end are as the formats want them.
    #[test]
    fn the_page_says_it() {
        let text = page(&observed(), Format::OpenMetrics, true);
        for line in [
            "# TYPE corecast_connections gauge",
            "corecast_connections{kind=\"line\"} 2",
            "corecast_connections{kind=\"forever-frame\"} 0",
            "corecast_shard_connections{shard=\"0\",kind=\"sse\"} 1",
            "# TYPE corecast_refused counter",
            "corecast_refused_total{reason=\"full\"} 4",
            "corecast_turn_busy_seconds_total 1.5",
            "corecast_shard_published_total{shard=\"1\"} 5",
            "corecast_latency_seconds_bucket{le=\"0.000001\"} 0",
            "corecast_latency_seconds_bucket{le=\"+Inf\"} 0",
            "corecast_phase_seconds_count{phase=\"flush\"} 0",
            "corecast_shard_turn_seconds_sum{shard=\"1\"} 0",
            "corecast_limit_used{limit=\"memory\"} 0",
        ] {
            // A limit of nothing is none.
            assert_eq!(text.lines().any(|other| other == line), !line.contains("limit=\"memory\""), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let plain = page(&observed(), Format::Prometheus, false);
        assert!(plain.contains("# TYPE corecast_refused_total counter\n") && !plain.contains("EOF"), "{plain}");
        assert!(!plain.contains("shard="), "{plain}");
    }

    /// A family stands together, once, and no series twice.
    #[test]
    fn families_stand_together() {
        let text = page(&observed(), Format::OpenMetrics, true);
        let mut families = BTreeSet::new();
        let mut series = BTreeSet::new();
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                assert!(families.insert(family.to_owned()), "{line}");
            } else if !line.starts_with('#') {
                let (name, _) = line.rsplit_once(' ').unwrap();
                assert!(series.insert(name.to_owned()), "{line}");
            }
        }
    }

    /// Whoever knows the newer format is given it.
    #[test]
    fn formats_are_negotiated() {
        let prometheus: &[u8] = b"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Format::accepted([prometheus]), Format::OpenMetrics);
        assert_eq!(Format::accepted([&b"*/*"[..]]), Format::Prometheus);
        assert_eq!(Format::accepted([]), Format::Prometheus);
    }
}
