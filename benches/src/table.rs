//! The table: medians, minima, and ratios taken within one round, because the host changes from round to round.

use std::fmt::Write as _;

/// The figures of one server in one scenario, by round.
#[derive(Clone, Debug)]
pub struct Row {
    /// Scenario.
    pub scenario: &'static str,
    /// Server.
    pub server: &'static str,
    /// Unit of the figures.
    pub unit: &'static str,
    /// What must hold; empty on the rows of baselines.
    pub goal: &'static str,
    /// One figure a round.
    pub figures: Vec<f64>,
    /// The figures of what it is compared with, round by round; empty if there is nothing.
    pub baseline: Vec<f64>,
}

impl Row {
    /// Returns the median over the rounds of figure divided by baseline.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let ratios: Vec<f64> = self.figures.iter().zip(&self.baseline).map(|(ours, theirs)| ours / theirs).collect();
        median(&ratios)
    }
}

/// Returns the middle value; of an even number, the mean of the two.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Returns the rows as a table in Markdown, to be pasted into a LOG or a note.
#[must_use]
pub fn render(rows: &[Row]) -> String {
    let mut text =
        String::from("| bench | server | median | min | x baseline | must hold |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let middle = median(&row.figures).unwrap_or(f64::NAN);
        let least = row.figures.iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let (bench, server, unit, goal) = (row.scenario, row.server, row.unit, row.goal);
        let decimals = if middle >= 100.0 { 0 } else { 2 };
        writeln!(text, "| {bench} | {server} | {middle:.decimals$} {unit} | {least:.decimals$} | {ratio} | {goal} |")
            .expect("a string can always grow");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ratio is the median of ratios within rounds, so that one slow round of both sides does not count.
    #[test]
    fn ratios_are_taken_within_rounds() {
        let row = Row {
            scenario: "fanout-warm",
            server: "corecast",
            unit: "µs",
            goal: "<= 1.10",
            figures: vec![2.2, 22.0, 3.3],
            baseline: vec![2.0, 20.0, 3.0],
        };
        assert!((row.ratio().unwrap() - 1.1).abs() < 1e-9);
        assert!(render(&[row]).contains("| fanout-warm | corecast | 3.30 µs | 2.20 | 1.10 | <= 1.10 |"));
    }

    /// Medians of none, an odd and an even number of values.
    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
