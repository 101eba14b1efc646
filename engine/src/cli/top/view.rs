//! How `corecast top` looks: lines of text for so many rows and columns, whatever they are drawn on.

use crate::cli::columns::{Side, age, bytes, grouped, plain, rate, table, width};
use crate::cli::operate::{connection_lines, slow_lines, topic_lines};
use crate::cli::top::figures::{Figures, ShardFigures};

/// Columns of the widest bar.
const BAR: usize = 20;

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// Heads of tables.
    Bold,
    /// The line of keys, and of what is wrong.
    Reverse,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) style: Style,
}

/// What is shown below the figures of the whole engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Shards,
    Topics,
    Connections,
    /// A part of each: text has no keys.
    All,
}

impl Page {
    /// Returns the page of a key, from 1 on.
    pub(super) fn at(number: u8) -> Page {
        match number {
            2 => Page::Topics,
            3 => Page::Connections,
            _ => Page::Shards,
        }
    }

    /// Returns the one behind it.
    pub(super) fn next(self) -> Page {
        match self {
            Page::Shards | Page::All => Page::Topics,
            Page::Topics => Page::Connections,
            Page::Connections => Page::Shards,
        }
    }
}

/// What is to be shown.
pub(super) struct Shown<'f> {
    pub(super) figures: &'f Figures,
    /// Whom is asked.
    pub(super) place: &'f str,
    pub(super) page: Page,
    /// What went wrong since these figures.
    pub(super) trouble: Option<&'f str>,
    /// There are keys to tell of.
    pub(super) keys: bool,
}

/// Writes what is to be shown, in at most so many rows and columns.
pub(super) fn lines(shown: &Shown<'_>, rows: usize, columns: usize) -> Vec<Line> {
    let figures = shown.figures;
    let mut all = Lines(Vec::new());
    let version = figures.version.as_ref().map_or_else(String::new, |version| format!(" {}", plain(version)));
    let uptime = figures.uptime_s.map_or_else(String::new, |time| format!(", up {}", age(time)));
    all.bold(format!("corecast{version} at {}{uptime}", shown.place));
    whole(figures, &mut all);
    all.plain(String::new());
    let foot = usize::from(shown.keys || shown.trouble.is_some());
    let room = rows.saturating_sub(all.0.len() + foot);
    match shown.page {
        Page::Shards => shards_and_more(figures, &mut all, room),
        Page::Topics => all.table(topic_lines(&figures.hottest), "nothing is published", room),
        Page::Connections => {
            let slow = slow_lines(&figures.slow);
            let half = (room / 2).min(slow.len().max(2));
            all.table(slow, "nobody is behind", half);
            all.plain(String::new());
            all.table(connection_lines(&figures.connections), "nobody is connected", room.saturating_sub(half + 1));
        }
        Page::All => {
            all.table(shard_lines(&figures.shards()), "", usize::MAX);
            all.plain(String::new());
            all.table(topic_lines(&figures.hottest), "nothing is published", 11);
            all.plain(String::new());
            all.table(slow_lines(&figures.slow), "nobody is behind", 11);
        }
    }
    if shown.page != Page::All {
        all.0.truncate(rows.saturating_sub(foot));
        all.0.resize_with(rows.saturating_sub(foot), || Line { text: String::new(), style: Style::Plain });
    }
    if let Some(trouble) = shown.trouble {
        all.0.push(Line { text: format!("no answer: {}", plain(trouble)), style: Style::Reverse });
    } else if shown.keys {
        let mark = |page, name: &str| if page == shown.page { format!("[{name}]") } else { format!(" {name} ") };
        let pages = [(Page::Shards, "1 shards"), (Page::Topics, "2 topics"), (Page::Connections, "3 connections")];
        let pages: String = pages.iter().map(|(page, name)| mark(*page, name)).collect();
        all.0.push(Line { text: format!("{pages}  Tab next  q quit"), style: Style::Reverse });
    }
    for line in &mut all.0 {
        if width(&line.text) > columns {
            line.text = line.text.chars().take(columns.saturating_sub(1)).collect();
            line.text.push('\u{2026}');
        }
    }
    all.0
}

struct Lines(Vec<Line>);

impl Lines {
    fn plain(&mut self, text: String) {
        self.0.push(Line { text, style: Style::Plain });
    }

    fn bold(&mut self, text: String) {
        self.0.push(Line { text, style: Style::Bold });
    }

    /// Writes a table of at most so many lines, its head among them; a sentence, if it has no rows.
    fn table(&mut self, lines: Vec<String>, nothing: &str, rows: usize) {
        if lines.len() < 2 {
            if rows > 0 {
                self.plain(nothing.to_owned());
            }
            return;
        }
        for (n, text) in lines.into_iter().take(rows).enumerate() {
            if n == 0 { self.bold(text) } else { self.plain(text) }
        }
    }
}

/// The figures of the whole engine.
fn whole(figures: &Figures, all: &mut Lines) {
    let a_second = |name: &str| format!("{}/s", rate(figures.rate(name)));
    let bytes_a_second = |name: &str| format!("{}/s", bytes(figures.rate(name)));
    let pairs = |pairs: &[(&str, String)]| {
        let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name} {value:<11}")).collect();
        pairs.join("  ").trim_end().to_owned()
    };
    all.plain(pairs(&[
        ("connections", grouped(figures.now("connections"))),
        ("accepted ", a_second("accepted")),
        ("published", a_second("published")),
    ]));
    all.plain(pairs(&[
        ("delivered  ", a_second("delivered")),
        ("in       ", bytes_a_second("bytes_received")),
        ("out      ", bytes_a_second("bytes_sent")),
    ]));
    let (used, max) = figures.memory();
    let percent = if max > 0 { used * 100 / max } else { 0 };
    all.plain(format!("memory      {} of {} ({percent} %)", bytes(used as f64), bytes(max as f64)));
    let refusals: Vec<String> =
        figures.refusals().into_iter().map(|(name, a_second)| format!("{} {}", plain(name), rate(a_second))).collect();
    let refusals = if refusals.is_empty() { String::new() } else { format!(" ({})", refusals.join(", ")) };
    let [gaps, violations] = ["gaps", "violations"].map(a_second);
    all.plain(format!("gaps {gaps}  violations {violations}  refused {}{refusals}", a_second("refused")));
}

/// Writes shards side by side, one a line.
fn shard_lines(shards: &[ShardFigures]) -> Vec<String> {
    let right = |name| (name, Side::Right);
    let head = [
        right("SHARD"),
        right("CONN"),
        right("SUBS"),
        right("PUB/s"),
        right("DELIV/s"),
        right("OUT/s"),
        right("BUSY"),
        ("", Side::Left),
    ];
    let row = |of: &ShardFigures| {
        let bar = "#".repeat((of.busy / 100.0 * BAR as f64).round() as usize);
        let numbers = [of.shard.to_string(), grouped(of.connections), grouped(of.subscriptions), rate(of.published)];
        let more = [rate(of.delivered), bytes(of.sent), format!("{:.0}%", of.busy), bar];
        numbers.into_iter().chain(more).collect()
    };
    table(&head, &shards.iter().map(row).collect::<Vec<_>>())
}

/// Shards, and as much as there is room for of what is hottest and slowest.
fn shards_and_more(figures: &Figures, all: &mut Lines, room: usize) {
    let mut shards = figures.shards();
    let (topics, slow) = (topic_lines(&figures.hottest), slow_lines(&figures.slow));
    // Some of each, however many shards there are: the busiest of these.
    let most = (room / 2).max(room.saturating_sub(topics.len().max(1) + slow.len().max(1) + 2)).saturating_sub(1);
    let left_out = shards.len().saturating_sub(most);
    if left_out > 0 {
        shards.sort_by(|one, other| other.busy.total_cmp(&one.busy).then(one.shard.cmp(&other.shard)));
        shards.truncate(most.saturating_sub(1));
    }
    let lines = shard_lines(&shards);
    let mut used = lines.len() + 1;
    all.table(lines, "", room);
    if left_out > 0 {
        all.plain(format!("       and {} that are less busy", left_out + 1));
        used += 1;
    }
    all.plain(String::new());
    let left = room.saturating_sub(used);
    let half = (left / 2).max(left.saturating_sub(slow.len().max(1) + 1)).min(topics.len().max(1));
    all.table(topics, "nothing is published", half);
    all.plain(String::new());
    all.table(slow, "nobody is behind", left.saturating_sub(half + 1));
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::*;

    fn draw(page: Page, trouble: Option<&str>, rows: usize, columns: usize) -> Vec<String> {
        let figures = figures();
        let shown = Shown { figures: &figures, place: "http://127.0.0.1:8081", page, trouble, keys: true };
        lines(&shown, rows, columns).into_iter().map(|line| line.text).collect()
    }

    /// A screen of usual size shows the engine, its shards, what is hottest and who is slowest, in as many rows as there are.
    #[test]
    fn a_screen_shows_it_all() {
        let drawn = draw(Page::Shards, None, 24, 80);
        let expected = [
            "corecast 0.2.0 at http://127.0.0.1:8081, up 1 m 33 s",
            "connections 10           accepted  2/s          published 100/s",
            "delivered   5000/s       in        2.0 KiB/s    out       1.0 MiB/s",
            "memory      1.5 MiB of 1.0 GiB (0 %)",
            "gaps 0/s  violations 1/s  refused 1/s (full 1)",
            "",
            "SHARD  CONN  SUBS  PUB/s  DELIV/s      OUT/s  BUSY",
            "    0    10    20    100     5000  1.0 MiB/s   25%  #####",
        ];
        assert_eq!(drawn.len(), 24);
        for (line, expected) in drawn.iter().zip(&expected[..7]) {
            assert_eq!(line.replace("  OUT/s", "  OUT/s"), expected.replace("      OUT/s", "    OUT/s"), "{drawn:#?}");
        }
        let text = drawn.join("\n");
        for expected in ["25%  #####", "50%  ##########", "prices/eur", "10.0.0.9:51544", "[1 shards]", "q quit"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    /// Each page has its own tables, and what is wrong stands instead of the keys.
    #[test]
    fn pages_and_troubles() {
        let text = draw(Page::Topics, None, 24, 80).join("\n");
        assert!(text.contains("RATE/s") && text.contains("[2 topics]") && !text.contains("BUSY"), "{text}");
        let text = draw(Page::Connections, None, 24, 80).join("\n");
        assert!(text.contains("BEHIND") && text.contains("anna") && text.contains("[3 connections]"), "{text}");
        let drawn = draw(Page::Shards, Some("gone\u{1b}[2J"), 24, 80);
        assert_eq!(drawn.last().unwrap(), "no answer: gone\\u{1b}[2J");
        assert_eq!(
            [Page::Shards.next(), Page::Topics.next(), Page::Connections.next()].map(|p| p == Page::Topics),
            [true, false, false]
        );
    }

    /// Whatever the size, there are no more rows and columns than that.
    #[test]
    fn any_size_is_kept() {
        for page in [Page::Shards, Page::Topics, Page::Connections] {
            for rows in 0..40 {
                for columns in [1, 5, 20, 80, 200] {
                    let drawn = draw(page, None, rows, columns);
                    assert!(drawn.len() <= rows.max(1), "{page:?} {rows}: {drawn:#?}");
                    assert!(drawn.iter().all(|line| width(line) <= columns), "{columns}: {drawn:#?}");
                }
            }
        }
    }
}
