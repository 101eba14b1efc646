//! Which curves the plots of a report have: phases one after the other, on the run's time.

use crate::report::plot::{Across, Curve, Plot, Up};
use crate::report::{PhaseReport, Report, Row, Times};

/// Part of a row that the last one must have lasted for its rates to mean something.
const LAST_ROW_MIN: f64 = 0.2;

/// Lines from one halving of the distance to 100 % to the next, in curves by percentile.
const TICKS_PER_HALF: u32 = 5;

/// Returns the plots over time.
pub(crate) fn over_time(report: &Report) -> Vec<Plot> {
    let spans: Vec<_> = report
        .phases
        .iter()
        .zip(report.labels())
        .map(|(phase, label)| (phase.start_seconds, phase.start_seconds + length(phase), label))
        .collect();
    let plot = |title: &str, up, curves: Vec<Curve>| Plot {
        title: title.to_owned(),
        across: Across::Time,
        up,
        // A curve that never has a value (a server elsewhere) would only be a name in the legend.
        curves: curves.into_iter().filter(|curve| curve.points.iter().any(|(_, y)| y.is_some())).collect(),
        spans: spans.clone(),
    };
    let ns = |value: fn(&Row) -> Option<u64>| move |row: &Row, _: f64| value(row).map(|ns| ns as f64);
    let percent = |ns: u64, seconds: f64| ns as f64 / 1e7 / seconds;
    let silent = |phase: &PhaseReport| phase.published_messages == 0 && phase.counts.delivered == 0;
    let mut plots = vec![plot(
        "Latency",
        Up::Time,
        vec![
            rows(report, "p50", |_| false, ns(|row| row.latency_p50_ns)),
            rows(report, "p99", |_| false, ns(|row| row.latency_p99_ns)),
            rows(report, "longest", |_| false, ns(|row| row.latency_max_ns)),
        ],
    )];
    let rate = |count: u64, seconds: f64| Some(count as f64 / seconds);
    plots.push(plot(
        "Deliveries per second",
        Up::Count,
        vec![rows(report, "delivered", silent, |row, seconds| rate(row.delivered_messages, seconds))],
    ));
    plots.push(plot(
        "Messages published per second",
        Up::Count,
        vec![rows(report, "published", silent, |row, seconds| rate(row.published_messages, seconds))],
    ));
    plots.push(plot("Connections", Up::Count, vec![connections(report)]));
    plots.push(plot(
        "CPU, percent of a core",
        Up::Percent,
        vec![
            rows(report, "server", |_| false, |row, seconds| row.server_cpu_ns.map(|ns| percent(ns, seconds))),
            rows(report, "load generator", |_| false, |row, seconds| Some(percent(row.generator_cpu_ns, seconds))),
        ],
    ));
    plots.push(plot("Server memory (anonymous)", Up::Bytes, vec![memory(report)]));
    plots
}

/// Returns the plots by percentile, each with a curve for every phase that has such times.
pub(crate) fn by_percentile(report: &Report) -> Vec<Plot> {
    let plot = |title: &str, what: &str| {
        let curves = report.phases.iter().zip(report.labels()).filter_map(|(phase, name)| {
            let (_, times) = phase.all_times().find(|(other, _)| *other == what)?;
            Some(Curve { name, points: percentiles(times) })
        });
        Plot {
            title: title.to_owned(),
            across: Across::Percentile,
            up: Up::Time,
            curves: curves.collect(),
            spans: Vec::new(),
        }
    };
    vec![
        plot("Latency by percentile", "latency"),
        plot("Spread by percentile (first to last subscriber)", "spread"),
        plot("Complete by percentile (from due or sent until all have it)", "complete"),
        plot("Time to connect, by percentile", "connect-time"),
        plot("Lag of the generator's schedule, by percentile", "lag"),
    ]
}

fn length(phase: &PhaseReport) -> f64 {
    let rows = (phase.series.rows.len().saturating_sub(1) as f64) * f64::from(phase.series.row_seconds);
    phase.seconds.max(rows)
}

/// Makes a curve of the rows of all phases but those that are left out; what they tell is drawn in their middle.
fn rows(
    report: &Report,
    name: &str,
    leave_out: impl Fn(&PhaseReport) -> bool,
    value: impl Fn(&Row, f64) -> Option<f64>,
) -> Curve {
    let mut points = Vec::new();
    for phase in report.phases.iter().filter(|phase| !leave_out(phase)) {
        let row_seconds = f64::from(phase.series.row_seconds);
        let last = phase.series.rows.len().saturating_sub(1);
        for (at, row) in phase.series.rows.iter().enumerate() {
            let begin = at as f64 * row_seconds;
            let left = phase.seconds - begin;
            let seconds = if at == last && left > 0.0 { left.min(row_seconds) } else { row_seconds };
            if at == last && at > 0 && seconds < LAST_ROW_MIN * row_seconds {
                continue;
            }
            points.push((phase.start_seconds + begin + seconds / 2.0, value(row, seconds)));
        }
        points.push((phase.start_seconds + phase.seconds, None));
    }
    points.pop();
    Curve { name: name.to_owned(), points }
}

/// Makes the curve of connections, from what stood before each phase to what stood at the end of every row.
fn connections(report: &Report) -> Curve {
    let mut points = Vec::new();
    for phase in &report.phases {
        points.push((phase.start_seconds, Some(f64::from(phase.connections_before))));
        points.extend(row_ends(phase).map(|(x, row)| (x, Some(f64::from(row.connections)))));
    }
    Curve { name: "connections".to_owned(), points }
}

fn memory(report: &Report) -> Curve {
    let mut points = Vec::new();
    for phase in &report.phases {
        let before = phase.server.as_ref().and_then(|server| server.resident_bytes_before);
        points.push((phase.start_seconds, before.map(|bytes| bytes as f64)));
        points.extend(row_ends(phase).map(|(x, row)| (x, row.server_resident_bytes.map(|bytes| bytes as f64))));
    }
    Curve { name: "server".to_owned(), points }
}

fn row_ends(phase: &PhaseReport) -> impl Iterator<Item = (f64, &Row)> {
    let row_seconds = f64::from(phase.series.row_seconds);
    let end = length(phase);
    let ends = (1..).zip(&phase.series.rows);
    ends.map(move |(at, row)| (phase.start_seconds + (f64::from(at) * row_seconds).min(end), row))
}

fn percentiles(times: &Times) -> Vec<(f64, Option<f64>)> {
    let rarest = times.len().max(2) as f64;
    let steps = times.histogram().iter_quantiles(TICKS_PER_HALF);
    let points = steps.map(|step| {
        let inverse = 1.0 / (1.0 - step.quantile_iterated_to()).max(1e-12);
        (inverse.min(rarest), Some(step.value_iterated_to() as f64))
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    fn curve<'a>(plots: &'a [Plot], title: &str, name: &str) -> &'a Curve {
        let plot = plots.iter().find(|plot| plot.title == title).expect(title);
        plot.curves.iter().find(|curve| curve.name == name).expect(name)
    }

    /// Every row of every phase is a point at its time; rates are per second, and phases do not run into each other.
    #[test]
    fn rows_become_points() {
        let plots = over_time(&samples::report());
        assert_eq!(
            curve(&plots, "Deliveries per second", "delivered").points,
            [(1.7, Some(2_000.0)), (2.7, Some(2_000.0))]
        );
        let generator = curve(&plots, "CPU, percent of a core", "load generator");
        assert_eq!(generator.points, [(0.5, Some(0.5)), (1.0, None), (1.7, Some(0.5)), (2.7, Some(0.5))]);
        let connections = &curve(&plots, "Connections", "connections").points;
        assert_eq!(connections[..2], [(0.0, Some(0.0)), (1.0, Some(2_000.0))]);
        assert_eq!(connections.len(), 5);
        assert_eq!(plots[0].curves.len(), 3);
        assert_eq!(plots[0].spans[1], (1.2, 3.2, "publish".to_owned()));
    }

    /// Rates of a last row that lasted half as long are twice as high, and of one that hardly lasted are not told.
    #[test]
    fn last_rows_are_short() {
        let mut report = samples::report();
        report.phases.remove(0);
        let delivered = |report: &Report| {
            let plots = over_time(report);
            curve(&plots, "Deliveries per second", "delivered").points.clone()
        };
        report.phases[0].seconds = 1.5;
        assert_eq!(delivered(&report)[1], (1.2 + 1.25, Some(4_000.0)));
        report.phases[0].seconds = 1.01;
        assert_eq!(delivered(&report).len(), 1);
    }

    /// A server that cannot be looked at leaves no curve, and no plot of its own.
    #[test]
    fn what_is_not_known_is_not_drawn() {
        let mut report = samples::report();
        for phase in &mut report.phases {
            phase.server = None;
            phase.series.rows.iter_mut().for_each(|row| (row.server_cpu_ns, row.server_resident_bytes) = (None, None));
        }
        let plots = over_time(&report);
        let cpu = plots.iter().find(|plot| plot.up == Up::Percent).unwrap();
        assert_eq!(cpu.curves.len(), 1);
        let memory = plots.iter().find(|plot| plot.up == Up::Bytes).unwrap();
        assert_eq!(memory.markup(), "");
    }

    /// Curves by percentile rise to the longest time at the rarest part that was seen.
    #[test]
    fn percentiles_rise() {
        let plots = by_percentile(&samples::report());
        let points = &curve(&plots, "Latency by percentile", "publish").points;
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        let (x, y) = points[points.len() - 1];
        assert_eq!((x, y), (4_000.0, Some(samples::report().phases[1].latency.max_ns() as f64)));
    }
}
