//! The table: one row a claim, the figure beside its baseline, what must hold, and whether it does.

use std::fmt::Write as _;

use crate::verdict::{Bound, Number, Pair, Pairing, Verdict, median};

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Scenario or case.
    pub bench: &'static str,
    /// Unit of the figures.
    pub unit: &'static str,
    /// The median in other words; empty if there are none.
    pub detail: String,
    /// One figure a round.
    pub figures: Vec<f64>,
    /// What it is compared with; empty if there is nothing.
    pub beside: String,
    /// Its figures.
    pub baseline: Vec<f64>,
    /// How the two are compared.
    pub pairing: Pairing,
    /// What must hold.
    pub bound: Bound,
    /// What must hold in other words than the bound's, and more that is worth saying.
    pub note: Option<String>,
    /// The verdict, if the figures are no measurement.
    pub instead: Option<Verdict>,
}

impl Row {
    /// Makes the row of what something else measures.
    #[must_use]
    pub fn elsewhere(bench: &'static str, must_hold: &str, what: &str) -> Row {
        Row {
            bench,
            unit: "",
            detail: String::new(),
            figures: Vec::new(),
            beside: String::new(),
            baseline: Vec::new(),
            pairing: Pairing::Rounds,
            bound: Bound::Told,
            note: Some(must_hold.to_owned()),
            instead: Some(Verdict::Elsewhere(what.to_owned())),
        }
    }

    fn pair(&self) -> Pair<'_> {
        Pair { ours: &self.figures, theirs: &self.baseline, pairing: self.pairing }
    }

    /// Judges the row.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.instead.clone().unwrap_or_else(|| self.bound.judge(&self.pair(), self.unit))
    }
}

/// How many rows are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows that hold.
    pub holds: usize,
    /// Rows that have something to hold.
    pub bound: usize,
    /// Rows that could not be measured.
    pub not_measured: usize,
}

/// Counts the verdicts.
#[must_use]
pub fn sum(rows: &[Row]) -> Sum {
    let mut sum = Sum::default();
    for row in rows {
        let verdict = row.verdict();
        sum.bound += usize::from(row.bound != Bound::Told);
        sum.holds += usize::from(verdict == Verdict::Holds);
        sum.not_measured += usize::from(matches!(verdict, Verdict::NotMeasured(_)));
    }
    sum
}

/// Returns the rows as a table in Markdown, to be pasted into a LOG or a note, and under it how many hold.
#[must_use]
pub fn render(rows: &[Row]) -> String {
    let mut text = String::from(
        "| bench | median | min | baseline | x baseline | must hold | verdict |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let number = |figure: Option<f64>| figure.map_or_else(|| "-".to_owned(), |figure| Number(figure).to_string());
        let least = row.figures.iter().copied().min_by(f64::total_cmp);
        let ratio = row.pair().ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let baseline = match median(&row.baseline) {
            Some(figure) => format!("{} {}", row.beside, Number(figure)),
            None => row.beside.clone(),
        };
        let must_hold = row.note.clone().unwrap_or_else(|| row.bound.words(row.unit, &row.beside));
        let (bench, unit, middle, least) = (row.bench, row.unit, number(median(&row.figures)), number(least));
        let unit = [unit, &row.detail].join(if row.detail.is_empty() { "" } else { ", " });
        let verdict = row.verdict();
        writeln!(text, "| {bench} | {middle} {unit} | {least} | {baseline} | {ratio} | {must_hold} | {verdict} |")
            .expect("a string can always grow");
    }
    let Sum { holds, bound, not_measured } = sum(rows);
    let missing = if not_measured > 0 { format!(", {not_measured} could not be measured") } else { String::new() };
    writeln!(text, "\n{holds} of {bound} hold{missing}").expect("a string can always grow");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(figures: &[f64], bound: Bound) -> Row {
        Row {
            bench: "fanout-warm",
            unit: "µs",
            detail: String::new(),
            figures: figures.to_vec(),
            beside: "bare loop".to_owned(),
            baseline: vec![3.0; figures.len()],
            pairing: Pairing::Rounds,
            bound,
            note: None,
            instead: None,
        }
    }

    /// A row shows the figure, the baseline, the bound and the verdict; the last line counts those with a bound only.
    #[test]
    fn rows_are_judged_and_counted() {
        let mut detailed = row(&[8_000.0], Bound::Told);
        detailed.detail = "8/B".to_owned();
        let mut broken = row(&[1.0], Bound::AtMost(2.0));
        broken.instead = Some(Verdict::NotMeasured("the server ended".to_owned()));
        let rows = [
            row(&[3.3, 3.0, 3.6], Bound::Times(1.1)),
            row(&[4.0, 4.5], Bound::AtMost(4.0)),
            detailed,
            broken,
            Row::elsewhere("million", "every delivery", "a script"),
        ];
        let text = render(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "| fanout-warm | 3.30 µs | 3.00 | bare loop 3.00 | 1.10 | <= 1.10 x bare loop | holds |");
        assert!(lines[3].ends_with("| <= 4.00 µs | MISSED by 0.25 µs (6.2 %) |"), "{text}");
        assert!(lines[4].ends_with("| 8000 µs, 8/B | 8000 | bare loop 3.00 | 2666.67 |  |  |"), "{text}");
        assert!(lines[5].ends_with("NOT MEASURED: the server ended |"), "{text}");
        assert_eq!(lines[6], "| million | -  | - |  |  | every delivery | see a script |");
        assert_eq!(lines.last(), Some(&"1 of 3 hold, 1 could not be measured"));
        assert_eq!(sum(&rows), Sum { holds: 1, bound: 3, not_measured: 1 });
    }
}
