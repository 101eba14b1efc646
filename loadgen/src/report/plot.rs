//! Plots as inline SVG that need no script and no font of their own.
//!
//! The curves are SVG, stretched to whatever room there is; labels are text of the page beside them, so that they stay
//! readable from a telephone to a print. Every point is drawn: plots hide nothing by averaging.

use std::fmt::Write as _;

/// Units of the drawing, stretched to the room there is.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 400.0;

/// Points of a curve up to which each is marked, with its values for who points at it.
const MARKS_MAX: usize = 64;

/// Largest part between greatest and smallest value that still is drawn on an even scale.
const EVEN_MAX: f64 = 20.0;

/// A curve. A `None` interrupts it.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points, ascending in x.
    pub points: Vec<(f64, Option<f64>)>,
}

/// How the horizontal axis is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Across {
    /// Seconds.
    Time,
    /// 1/(1-p), on a logarithmic scale, labelled with p: each label to the right is ten times rarer.
    Percentile,
}

/// What the vertical axis shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Up {
    /// Nanoseconds, labelled in a unit that reads well.
    Time,
    /// A number of things.
    Count,
    /// Percent of a core.
    Percent,
    /// Bytes.
    Bytes,
}

/// Percentiles that have room for a label each, 0 % among them; with more, every second has one.
const NINES_LABELLED: usize = 6;

/// See the module.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// How the horizontal axis is read.
    pub across: Across,
    /// What the vertical axis shows.
    pub up: Up,
    /// The curves, at most six that can be told apart.
    pub curves: Vec<Curve>,
    /// Spans of the horizontal axis with a name: the phases.
    pub spans: Vec<(f64, f64, String)>,
}

/// A scale: what lies at which part (0 to 1) of an axis.
#[derive(Clone, Debug)]
struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Scale {
    fn part(&self, value: f64) -> f64 {
        let (from, to, value) = if self.logarithmic {
            (self.from.ln(), self.to.ln(), value.max(self.from).ln())
        } else {
            (self.from, self.to, value)
        };
        ((value - from) / (to - from)).clamp(0.0, 1.0)
    }

    /// Makes a scale from 0, with a handful of round ticks.
    fn even(max: f64, whole: bool) -> Scale {
        let max = if max > 0.0 { max } else { 1.0 };
        let raw = max / 4.0;
        let decade = 10f64.powf(raw.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
        let step = steps.iter().map(|step| step * decade).find(|step| *step >= raw).unwrap_or(raw);
        let step = if whole { step.ceil().max(1.0) } else { step };
        let count = (max / step - 1e-9).ceil().max(1.0) as u32;
        let ticks = (0..=count).map(|tick| f64::from(tick) * step).collect();
        Scale { from: 0.0, to: f64::from(count) * step, logarithmic: false, ticks }
    }

    /// Makes a logarithmic scale with ticks at 1, 2 and 5, or only at 1 when there are many decades.
    fn logarithmic(min: f64, max: f64) -> Scale {
        let decades = (max / min).log10();
        let steps: &[f64] = if decades > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let first = min.log10().floor() as i32;
        let last = max.log10().ceil() as i32;
        let all: Vec<f64> =
            (first..=last).flat_map(|exponent| steps.iter().map(move |step| step * 10f64.powi(exponent))).collect();
        let from = all.iter().copied().rfind(|tick| *tick <= min * 1.0001).unwrap_or(min);
        let to = all.iter().copied().find(|tick| *tick >= max * 0.9999 && *tick > from).unwrap_or(max);
        let ticks = all.into_iter().filter(|tick| *tick >= from && *tick <= to).collect();
        Scale { from, to, logarithmic: true, ticks }
    }
}

/// Replaces what would be taken for markup, and what XML has no form for.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\t' | '\n' | ' '.. => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}

/// Returns a value in words, as an axis and a mark have it.
fn label(up: Up, value: f64) -> String {
    let scaled = |units: &[&str], step: f64| {
        let (mut value, mut at) = (value, 0);
        while value >= step * 0.9995 && at + 1 < units.len() {
            value /= step;
            at += 1;
        }
        format!("{}{}", short(value), units[at])
    };
    match up {
        Up::Time => scaled(&[" ns", " µs", " ms", " s"], 1000.0),
        Up::Count => scaled(&["", " k", " M", " G"], 1000.0),
        Up::Percent => format!("{} %", short(value)),
        Up::Bytes => scaled(&[" B", " KiB", " MiB", " GiB"], 1024.0),
    }
}

/// Returns a number with at most three digits that count.
fn short(value: f64) -> String {
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Returns a percentile from 1/(1-p), with as many nines as it has.
fn percentile(inverse: f64) -> String {
    match inverse.log10().round() as usize {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        nines => format!("99.{} %", "9".repeat(nines - 2)),
    }
}

fn time_label(seconds: f64) -> String {
    format!("{} s", short(seconds))
}

impl Plot {
    /// Returns the plot as markup; nothing if there is no point to draw.
    ///
    /// # Panics
    /// Never: a text takes everything that is written to it.
    #[must_use]
    pub fn markup(&self) -> String {
        let values: Vec<f64> =
            self.curves.iter().flat_map(|curve| curve.points.iter().filter_map(|(_, y)| *y)).collect();
        if values.is_empty() {
            return String::new();
        }
        let (across, up) = (self.across_scale(), self.up_scale(&values));
        let mut svg = String::new();
        for (at, (from, to, _)) in self.spans.iter().enumerate() {
            let (left, right) = (across.part(*from) * WIDTH, across.part(*to) * WIDTH);
            if at % 2 == 1 {
                let width = right - left;
                put(
                    &mut svg,
                    format_args!("<rect class=\"span\" x=\"{left:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\"/>"),
                );
            }
        }
        for tick in &up.ticks {
            let y = (1.0 - up.part(*tick)) * HEIGHT;
            put(&mut svg, format_args!("<path class=\"grid\" d=\"M0 {y:.1}H{WIDTH}\"/>"));
        }
        for tick in &across.ticks {
            let x = across.part(*tick) * WIDTH;
            put(&mut svg, format_args!("<path class=\"grid\" d=\"M{x:.1} 0V{HEIGHT}\"/>"));
        }
        for (number, curve) in self.curves.iter().enumerate() {
            self.draw(&mut svg, number, curve, &across, &up);
        }
        self.frame(&svg, &across, &up)
    }

    fn across_scale(&self) -> Scale {
        let xs = self.curves.iter().flat_map(|curve| curve.points.iter().map(|(x, _)| *x));
        let max = xs.chain(self.spans.iter().map(|(_, to, _)| *to)).fold(0.0, f64::max);
        match self.across {
            Across::Time => Scale { to: max.max(1e-3), ..Scale::even(max, false) },
            Across::Percentile => {
                // To the next whole nine: the rarest that was seen lies inside.
                let nines = max.max(10.0).log10().ceil() as i32;
                let ticks = (0..=nines).map(|exponent| 10f64.powi(exponent)).collect();
                Scale { from: 1.0, to: 10f64.powi(nines), logarithmic: true, ticks }
            }
        }
    }

    fn up_scale(&self, values: &[f64]) -> Scale {
        let max = values.iter().copied().fold(0.0, f64::max);
        let min = values.iter().copied().filter(|value| *value > 0.0).fold(max, f64::min);
        if self.up == Up::Time && max / min.max(1e-9) > EVEN_MAX {
            return Scale::logarithmic(min, max);
        }
        if self.up == Up::Bytes {
            // Round in powers of two.
            let unit = 1024f64.powf((max.max(1.0).log2() / 10.0).floor());
            let mut scale = Scale::even(max / unit, false);
            scale.to *= unit;
            scale.ticks.iter_mut().for_each(|tick| *tick *= unit);
            return scale;
        }
        Scale::even(max, self.up == Up::Count)
    }

    fn draw(&self, svg: &mut String, number: usize, curve: &Curve, across: &Scale, up: &Scale) {
        let place = |x: f64, y: f64| (across.part(x) * WIDTH, (1.0 - up.part(y)) * HEIGHT);
        let mut path = String::new();
        let mut pen_up = true;
        for (x, y) in &curve.points {
            let Some(y) = y else {
                pen_up = true;
                continue;
            };
            let (left, top) = place(*x, *y);
            put(&mut path, format_args!("{}{left:.1} {top:.1}", if pen_up { 'M' } else { 'L' }));
            pen_up = false;
        }
        put(svg, format_args!("<path class=\"curve c{number}\" d=\"{path}\"/>"));
        if curve.points.len() > MARKS_MAX {
            return;
        }
        for (x, y) in curve.points.iter().filter_map(|(x, y)| Some((*x, (*y)?))) {
            let (left, top) = place(x, y);
            let at = match self.across {
                Across::Time => time_label(x),
                Across::Percentile => format!("{:.4} %", (1.0 - 1.0 / x) * 100.0),
            };
            let title = escape(&format!("{}, {at}: {}", curve.name, label(self.up, y)));
            // A line without length with round ends stays round however the drawing is stretched.
            put(
                svg,
                format_args!(
                    "<path class=\"mark c{number}\" d=\"M{left:.1} {top:.1}h0\"><title>{title}</title></path>"
                ),
            );
        }
    }

    /// Puts the axes' labels, the title and the legend around the drawing.
    fn frame(&self, svg: &str, across: &Scale, up: &Scale) -> String {
        let title = escape(&self.title);
        let mut out = format!("<figure>\n<figcaption>{title}</figcaption>\n");
        if self.curves.len() > 1 {
            out += "<p class=\"legend\">";
            for (number, curve) in self.curves.iter().enumerate() {
                put(&mut out, format_args!("<span class=\"key k{number}\">{}</span> ", escape(&curve.name)));
            }
            out += "</p>\n";
        }
        out += "<div class=\"plot\">\n<div class=\"up\">";
        for tick in &up.ticks {
            let (bottom, text) = (up.part(*tick) * 100.0, label(self.up, *tick));
            put(&mut out, format_args!("<span style=\"bottom:{bottom:.2}%\">{text}</span>"));
        }
        out += "</div>\n";
        let class = if self.across == Across::Percentile { "across percentile" } else { "across" };
        put(
            &mut out,
            format_args!(
                "<svg role=\"img\" aria-label=\"{title}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\">\
                 {svg}</svg>\n<div class=\"{class}\">"
            ),
        );
        let every = if self.across == Across::Percentile && across.ticks.len() > NINES_LABELLED { 2 } else { 1 };
        let labelled = across.ticks.iter().step_by(every).filter(|tick| **tick <= across.to);
        for (number, tick) in labelled.enumerate() {
            let left = across.part(*tick) * 100.0;
            let text = match self.across {
                Across::Time => time_label(*tick),
                Across::Percentile => percentile(*tick),
            };
            // On a narrow page every second label goes.
            let class = if number % 2 == 1 { " class=\"odd\"" } else { "" };
            put(&mut out, format_args!("<span{class} style=\"left:{left:.2}%\">{text}</span>"));
        }
        out += "</div>\n";
        if self.spans.len() > 1 {
            out += "<div class=\"spans\">";
            for (from, to, name) in &self.spans {
                let (left, right) = (across.part(*from) * 100.0, across.part(*to) * 100.0);
                let (width, name) = (right - left, escape(name));
                put(
                    &mut out,
                    format_args!("<span style=\"left:{left:.2}%;width:{width:.2}%\" title=\"{name}\">{name}</span>"),
                );
            }
            out += "</div>\n";
        }
        out += "</div>\n</figure>\n";
        out
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a text takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<(f64, Option<f64>)>) -> Plot {
        let curves = vec![Curve { name: "a < b".to_owned(), points }];
        Plot { title: "t".to_owned(), across: Across::Time, up: Up::Time, curves, spans: Vec::new() }
    }

    /// Every point is drawn, a gap interrupts the curve, and marks carry the values.
    #[test]
    fn every_point_is_drawn() {
        let points = vec![(0.0, Some(1e6)), (1.0, Some(2e6)), (2.0, None), (3.0, Some(1.5e6)), (4.0, Some(1e6))];
        let markup = plot(points).markup();
        let curve = markup.split("class=\"curve c0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(curve, "M0.0 200.0L250.0 0.0M750.0 100.0L1000.0 200.0");
        assert_eq!(markup.matches("class=\"mark c0\"").count(), 4);
        assert!(markup.contains("<title>a &lt; b, 1 s: 2 ms</title>"), "{markup}");
        let many = (0..1000).map(|x| (f64::from(x), Some(1e6))).collect();
        let markup = plot(many).markup();
        assert_eq!(markup.matches(['M', 'L']).count() - markup.matches("class=\"grid\"").count(), 1000);
        assert!(!markup.contains("mark"), "too many to be told apart");
        assert_eq!(plot(vec![(0.0, None)]).markup(), "");
    }

    /// Axes have round labels that enclose all values, whatever the range.
    #[test]
    fn axes_enclose_and_are_round() {
        for max in [1e-3, 0.7, 1.0, 3.0, 99.0, 101.0, 12_345.0, 9e9] {
            let even = Scale::even(max, false);
            assert!(even.to >= max && even.to <= max * 2.0 && (3..=7).contains(&even.ticks.len()), "{max}: {even:?}");
            for min in [max / 21.0, max / 1e3, max / 1e7] {
                let scale = Scale::logarithmic(min, max);
                assert!(scale.from <= min * 1.001 && scale.to >= max * 0.999, "{min} to {max}: {scale:?}");
                assert!((3..=9).contains(&scale.ticks.len()), "{min} to {max}: {scale:?}");
            }
        }
        assert_eq!(Scale::even(3.0, true).ticks, [0.0, 1.0, 2.0, 3.0]);
    }

    /// Labels are short and have a unit.
    #[test]
    fn labels_read_well() {
        assert_eq!(label(Up::Time, 999.0), "999 ns");
        assert_eq!(label(Up::Time, 1_250_000.0), "1.25 ms");
        assert_eq!(label(Up::Time, 20_000_000_000.0), "20 s");
        assert_eq!(label(Up::Count, 12_500.0), "12.5 k");
        assert_eq!(label(Up::Bytes, 1_572_864.0), "1.5 MiB");
        assert_eq!(label(Up::Percent, 100.0), "100 %");
        assert_eq!([1.0, 10.0, 100.0, 1e3, 1e5].map(percentile), ["0 %", "90 %", "99 %", "99.9 %", "99.999 %"]);
    }

    /// On the percentile axis each nine is as wide as the next.
    #[test]
    fn nines_are_equally_wide() {
        let plot = Plot { across: Across::Percentile, ..plot(vec![(1.0, Some(1e6)), (500.0, Some(9e6))]) };
        let scale = plot.across_scale();
        assert_eq!(scale.ticks, [1.0, 10.0, 100.0, 1000.0]);
        assert!((scale.part(10.0) - 1.0 / 3.0).abs() < 1e-9 && (scale.part(100.0) - 2.0 / 3.0).abs() < 1e-9);
    }

    /// The labels of many nines do not run into each other: a report of a million deliveries showed it.
    #[test]
    fn many_nines_have_fewer_labels() {
        let labels = |inverse: f64| {
            let plot = Plot { across: Across::Percentile, ..plot(vec![(1.0, Some(1e6)), (inverse, Some(9e6))]) };
            let markup = plot.markup();
            ["90 %", "99 %", "99.9 %", "99.99 %", "99.9999 %", "99.99999 %"]
                .map(|text| markup.contains(&format!(">{text}<")))
        };
        assert_eq!(labels(9e3), [true, true, true, true, false, false]);
        assert_eq!(labels(5e6), [false, true, false, true, true, false]);
    }
}
