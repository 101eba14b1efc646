//! The report for programs: JSON, versioned, every unit in the name, read back equal.

use serde::{Deserialize, Serialize};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::report::{FORMAT, PhaseReport, Report};

/// What follows from the data, for programs that would otherwise compute it: not read back.
#[derive(Serialize)]
struct Verdict {
    fine: bool,
    problems: Vec<String>,
    bottlenecks: Vec<String>,
}

/// Costs and rates of a phase, likewise.
#[derive(Serialize)]
struct Derived<'a> {
    phase: &'a str,
    deliveries_per_second: Option<f64>,
    connections_per_second: Option<f64>,
    server_cpu_ns_per_delivery: Option<f64>,
    server_cpu_ns_per_connection: Option<f64>,
    user_bytes_per_connection: Option<f64>,
    kernel_bytes_per_connection_both_ends: Option<f64>,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    verdict: Verdict,
    derived: Vec<Derived<'a>>,
    #[serde(flatten)]
    report: &'a Report,
}

/// What is looked at before the rest, so that a newer form is named as such.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Report {
    /// Returns the report as JSON, for programs and for people with patience: an entry a line, lists on one line.
    ///
    /// # Panics
    /// Never: nothing in a report is without a form in JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let written = Written {
            format: FORMAT,
            verdict: Verdict {
                fine: self.fine(),
                problems: self.problems(),
                bottlenecks: self.phases.iter().filter_map(PhaseReport::bottleneck).collect(),
            },
            derived: self.phases.iter().map(Derived::of).collect(),
            report: self,
        };
        let mut out = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut out, Lines::default());
        written.serialize(&mut serializer).expect("numbers, texts and lists have a form in JSON");
        out.push(b'\n');
        String::from_utf8(out).expect("JSON is text")
    }

    /// Reads a report back.
    ///
    /// # Errors
    /// What is wrong with the text: no JSON, no report, or one of a form that this program does not know.
    pub fn from_json(text: &str) -> Result<Report, String> {
        let Versioned { format } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if format != FORMAT {
            return Err(format!("this is a report of format {format}; this program reads format {FORMAT}"));
        }
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

impl Derived<'_> {
    fn of(phase: &PhaseReport) -> Derived<'_> {
        Derived {
            phase: &phase.name,
            deliveries_per_second: phase.deliveries_per_second(),
            connections_per_second: phase.connections_per_second(),
            server_cpu_ns_per_delivery: phase.server_cpu_ns_per_delivery(),
            server_cpu_ns_per_connection: phase.server_cpu_ns_per_connection(),
            user_bytes_per_connection: phase.user_bytes_per_connection(),
            kernel_bytes_per_connection_both_ends: phase.kernel_bytes_per_connection(),
        }
    }
}

/// Objects over many lines, lists of numbers on one: thousands of buckets are not to be read.
#[derive(Default)]
struct Lines(PrettyFormatter<'static>);

impl Formatter for Lines {
    fn begin_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        CompactFormatter.begin_array(writer)
    }

    fn end_array<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        CompactFormatter.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        CompactFormatter.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        CompactFormatter.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    /// What is written is read back equal, also when nothing was found and numbers are at their ends.
    #[test]
    fn reports_round_trip() {
        let mut extreme = samples::report();
        extreme.phases[0].published_messages = u64::MAX;
        extreme.phases[0].seconds = 0.1 + 0.2;
        extreme.phases[1].start_seconds = f64::MIN_POSITIVE;
        extreme.faults = vec!["\"quoted\"\n\u{1f600}\u{0}".to_owned()];
        for report in [samples::report(), extreme] {
            let text = report.to_json();
            assert_eq!(Report::from_json(&text).unwrap(), report, "{text}");
        }
    }

    /// Programs find the verdict and the costs without computing them.
    #[test]
    fn what_follows_is_written_too() {
        let value: serde_json::Value = serde_json::from_str(&samples::report().to_json()).unwrap();
        assert_eq!(value["format"], 1);
        assert_eq!(value["verdict"]["fine"], true);
        assert_eq!(value["derived"][1]["server_cpu_ns_per_delivery"], 1500.0);
        assert_eq!(value["phases"][1]["latency"]["count"], 4000);
    }

    /// Another form is named as such, and damage is told.
    #[test]
    fn other_forms_are_refused() {
        let text = samples::report().to_json();
        let newer = text.replacen("\"format\": 1", "\"format\": 2", 1);
        assert!(Report::from_json(&newer).unwrap_err().contains("format 2"));
        assert!(Report::from_json(&text[..text.len() / 2]).is_err());
        assert!(Report::from_json("{}").unwrap_err().contains("format"));
    }
}
