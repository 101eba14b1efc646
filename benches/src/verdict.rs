//! The judgement: what a figure must hold, and whether it does.

use std::fmt;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// The figure itself is at most this.
    AtMost(f64),
    /// It is at most so many times what stands beside it.
    Times(f64),
    /// It is less than what stands beside it.
    Below,
    /// It is at most so much more than what stands beside it.
    More(f64),
    /// Nothing: it is told.
    Told,
}

/// Whether it does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It does.
    Holds,
    /// It does not, by this much.
    Missed(String),
    /// There is nothing to hold.
    Told,
    /// There is no figure, for this reason.
    NotMeasured(String),
    /// Something else measures it: this.
    Elsewhere(String),
}

/// How the figures of rounds are put beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Round by round, because the host changes from round to round and both were measured in each.
    Rounds,
    /// Median by median: they were measured at different times.
    Medians,
}

/// Figures, and what stands beside them.
#[derive(Clone, Debug)]
pub struct Pair<'f> {
    /// One figure a round.
    pub ours: &'f [f64],
    /// The same of what it is compared with; empty if there is nothing.
    pub theirs: &'f [f64],
    /// How they are compared.
    pub pairing: Pairing,
}

impl Pair<'_> {
    fn compare(&self, with: impl Fn(f64, f64) -> f64) -> Option<f64> {
        match self.pairing {
            Pairing::Rounds => {
                let pairs: Vec<f64> =
                    self.ours.iter().zip(self.theirs).map(|(ours, theirs)| with(*ours, *theirs)).collect();
                median(&pairs)
            }
            Pairing::Medians => Some(with(median(self.ours)?, median(self.theirs)?)),
        }
    }

    /// Returns how many times as much it is.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.compare(|ours, theirs| ours / theirs)
    }

    /// Returns how much more it is.
    #[must_use]
    pub fn difference(&self) -> Option<f64> {
        self.compare(|ours, theirs| ours - theirs)
    }
}

impl Bound {
    /// Judges figures in `unit`.
    #[must_use]
    pub fn judge(self, pair: &Pair<'_>, unit: &str) -> Verdict {
        let (found, at_most, unit) = match self {
            Bound::Told => (median(pair.ours), f64::INFINITY, unit),
            Bound::AtMost(at_most) => (median(pair.ours), at_most, unit),
            Bound::Times(at_most) => (pair.ratio(), at_most, "x"),
            Bound::Below => (pair.ratio(), 1.0, "x"),
            Bound::More(at_most) => (pair.difference(), at_most, unit),
        };
        // A figure that is not a number was not measured, and must not pass for one that holds.
        let Some(found) = found.filter(|found| found.is_finite()) else {
            return Verdict::NotMeasured("there is no figure".to_owned());
        };
        let over = found - at_most;
        let percent = over / at_most * 100.0;
        match self {
            Bound::Told => Verdict::Told,
            Bound::Below if over < 0.0 => Verdict::Holds,
            Bound::AtMost(_) | Bound::Times(_) | Bound::More(_) if over <= 0.0 => Verdict::Holds,
            _ => Verdict::Missed(format!("{} {unit} ({percent:.1} %)", Number(over))),
        }
    }

    /// Returns what must hold, in words, for figures in `unit` beside something called `beside`.
    #[must_use]
    pub fn words(self, unit: &str, beside: &str) -> String {
        match self {
            Bound::AtMost(most) => format!("<= {} {unit}", Number(most)),
            Bound::Times(times) => format!("<= {times:.2} x {beside}"),
            Bound::Below => format!("< 1.00 x {beside}"),
            Bound::More(more) => format!("<= {} {unit} more than {beside}", Number(more)),
            Bound::Told => String::new(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Holds => f.write_str("holds"),
            Verdict::Missed(by) => write!(f, "MISSED by {by}"),
            Verdict::Told => Ok(()),
            Verdict::NotMeasured(why) => write!(f, "NOT MEASURED: {why}"),
            Verdict::Elsewhere(what) => write!(f, "see {what}"),
        }
    }
}

/// A number as it stands in the table: with two digits behind the point where they mean something.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = if self.0.abs() >= 100.0 { 0 } else { 2 };
        write!(f, "{:.decimals$}", self.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(bound: Bound, ours: &[f64], theirs: &[f64]) -> String {
        bound.judge(&Pair { ours, theirs, pairing: Pairing::Rounds }, "µs").to_string()
    }

    /// Medians of none, an odd and an even number of values.
    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    /// A ratio is the median of ratios within rounds, so that one slow round of both sides does not count; of figures
    /// measured at different times it is the ratio of medians.
    #[test]
    fn ratios_are_paired() {
        let mut pair = Pair { ours: &[2.2, 22.0, 3.3], theirs: &[2.0, 20.0, 30.0], pairing: Pairing::Rounds };
        assert!((pair.ratio().unwrap() - 1.1).abs() < 1e-9);
        pair.pairing = Pairing::Medians;
        assert!((pair.ratio().unwrap() - 0.165).abs() < 1e-9);
        assert!((pair.difference().unwrap() + 16.7).abs() < 1e-9);
    }

    /// Every kind of bound holds up to its number, and is missed above it by what the text says.
    #[test]
    fn bounds_hold_or_are_missed() {
        assert_eq!(judge(Bound::AtMost(25.0), &[25.0], &[]), "holds");
        assert_eq!(judge(Bound::AtMost(25.0), &[26.0], &[]), "MISSED by 1.00 µs (4.0 %)");
        assert_eq!(judge(Bound::AtMost(256.0), &[512.0, 512.0], &[]), "MISSED by 256 µs (100.0 %)");
        assert_eq!(judge(Bound::Times(1.5), &[3.0], &[2.0]), "holds");
        assert_eq!(judge(Bound::Times(1.5), &[3.6], &[2.0]), "MISSED by 0.30 x (20.0 %)");
        assert_eq!(judge(Bound::Below, &[1.9], &[2.0]), "holds");
        assert_eq!(judge(Bound::Below, &[2.0], &[2.0]), "MISSED by 0.00 x (0.0 %)");
        assert_eq!(judge(Bound::More(3.0), &[9.0], &[6.0]), "holds");
        assert_eq!(judge(Bound::More(3.0), &[12.0], &[6.0]), "MISSED by 3.00 µs (100.0 %)");
        assert_eq!(judge(Bound::Told, &[1e9], &[]), "");
    }

    /// What was not measured neither holds nor is told.
    #[test]
    fn no_figure_is_no_success() {
        for bound in [Bound::AtMost(1.0), Bound::Times(1.0), Bound::Below, Bound::More(1.0), Bound::Told] {
            for (ours, theirs) in [(&[][..], &[][..]), (&[f64::NAN], &[1.0]), (&[f64::INFINITY], &[1.0])] {
                assert!(judge(bound, ours, theirs).starts_with("NOT MEASURED"), "{bound:?} {ours:?}");
            }
        }
        assert!(judge(Bound::Times(1.0), &[1.0], &[]).starts_with("NOT MEASURED"));
        assert!(judge(Bound::Times(1.0), &[1.0], &[f64::NAN]).starts_with("NOT MEASURED"));
    }
}
