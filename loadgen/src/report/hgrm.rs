//! Percentile files as HdrHistogram's tools write them (`.hgrm`), for the plotters that read them.
//!
//! Values are in milliseconds, which is what those plotters take for granted; the last line says so.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::report::{Report, Times};

/// Lines from one halving of the distance to 100 % to the next.
const TICKS_PER_HALF: u32 = 5;

const NS_PER_MS: f64 = 1e6;

/// Returns the text of a percentile file.
///
/// # Panics
/// Never: a text takes everything that is written to it.
#[must_use]
pub(crate) fn text(times: &Times) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for step in times.histogram().iter_quantiles(TICKS_PER_HALF) {
        total += step.count_since_last_iteration();
        let (ms, quantile) = (step.value_iterated_to() as f64 / NS_PER_MS, step.quantile_iterated_to());
        let line = if quantile < 1.0 {
            writeln!(out, "{ms:12.6} {quantile:2.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(out, "{ms:12.6} {quantile:2.12} {total:10}")
        };
        line.expect("a text takes everything");
    }
    let (mean, deviation) = (times.mean_ns() / NS_PER_MS, times.histogram().stdev() / NS_PER_MS);
    let (max, count) = (times.max_ns() as f64 / NS_PER_MS, times.len());
    out += &format!("#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]\n");
    out += &format!("#[Max     = {max:12.6}, Total count    = {count:12}]\n");
    out += "#[Unit    = milliseconds]\n";
    out
}

impl Report {
    /// Returns the percentile files of all phases: `path` with the phase's number, its name, and what was timed before
    /// the extension, and the text.
    #[must_use]
    pub fn hgrm_files(&self, path: &Path) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for (number, phase) in (1..).zip(&self.phases) {
            for (what, times) in phase.all_times() {
                let name = file_name(&format!("{number}-{}-{what}", phase.name));
                let extension = path.extension().map_or("hgrm".into(), |extension| extension.to_string_lossy());
                files.push((path.with_extension(format!("{name}.{extension}")), text(times)));
            }
        }
        files
    }
}

/// Replaces what does not belong into a file's name: plans name their phases as they like.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Pace, samples};

    /// Reads a percentile file as a plotter does: four columns, or three at 100 %.
    fn read(text: &str) -> Vec<(f64, f64, u64)> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("Value") && !line.is_empty());
        let numbers = lines.map(|line| {
            let columns: Vec<f64> = line.split_whitespace().map(|column| column.parse().unwrap()).collect();
            match columns[..] {
                [value, percentile, count, inverse] => {
                    // The inverse is written with two digits, so large ones agree only roughly.
                    assert!((1.0 / (1.0 - percentile) / inverse - 1.0).abs() < 0.01, "{line}");
                    (value, percentile, count as u64)
                }
                [value, 1.0, count] => (value, 1.0, count as u64),
                _ => panic!("{line}"),
            }
        });
        numbers.collect()
    }

    /// Whoever reads the file finds the percentiles of the histogram, ascending, and every count.
    #[test]
    fn percentiles_are_those_of_the_histogram() {
        let mut random = 5u64;
        let mut times = Times::default();
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            times.record((random >> 33) % 5_000_000 + ((random >> 40) % 1000 / 999) * 80_000_000);
        }
        let lines = read(&text(&times));
        assert!(lines.len() > 50);
        assert!(lines.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2), "{lines:?}");
        for (ms, percentile, count) in &lines {
            // Where a line is the very last of its percentile, rounding decides on which side it falls.
            let ns = (ms * NS_PER_MS).round() as u64;
            let around = times.quantile_ns(percentile - 1e-9)..=times.quantile_ns(percentile + 1e-9);
            assert!(around.contains(&ns), "{ns} in {around:?} at {percentile}");
            assert!(*count as f64 >= percentile * 200_000.0 - 1.0);
        }
        let (max, percentile, count) = lines[lines.len() - 1];
        assert_eq!(((max * NS_PER_MS).round() as u64, percentile, count), (times.max_ns(), 1.0, 200_000));
    }

    /// Each phase's histograms get files of their own, whatever phases are called, and empty ones get none.
    #[test]
    fn files_are_told_apart() {
        let mut report = samples::report();
        report.phases[1].name = "../a b".to_owned();
        let files = report.hgrm_files(Path::new("out/run.hgrm"));
        let names: Vec<_> = files.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        let expected = ["connect-connect-time", "---a-b-latency", "---a-b-spread", "---a-b-complete", "---a-b-lag"];
        let numbered = expected.iter().zip([1, 2, 2, 2, 2]).map(|(name, phase)| format!("out/run.{phase}-{name}.hgrm"));
        assert_eq!(names, numbered.collect::<Vec<_>>());
        assert!(read(&files[0].1).len() > 5);
        report.phases.push(report.phases[1].clone());
        report.phases[2].pace = Pace::Closed { in_flight_messages: 1 };
        (report.phases[2].spread, report.phases[2].complete) = Default::default();
        report.phases[2].name = "closed".to_owned();
        let files = report.hgrm_files(Path::new("out/run.hgrm"));
        assert_eq!(files.len(), 6, "no spread, and no lag in a closed loop");
        assert!(files[5].0.ends_with("run.3-closed-latency.hgrm"), "{}", files[5].0.display());
    }
}
