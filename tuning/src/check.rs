//! A check of the host: what is found, what is wanted, why, and what it costs; and the report over all of them.
//!
//! Owns: the words of a verdict and the two forms of a report. The table of checks stands in [`crate::checks`].

use serde_json::{Value, json};

use crate::amount::{bytes_text, grouped};
use crate::host::{Host, Unknown};
use crate::needs;

/// What is asked of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Connections to be held.
    pub connections: u64,
    /// Shards to hold them.
    pub shards: u64,
}

impl Ask {
    /// Returns the connections one shard needs room for, a tenth to spare.
    #[must_use]
    pub fn per_shard(&self) -> u64 {
        needs::with_spare(self.connections).div_ceil(self.shards.max(1))
    }
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but slower, or worse in a rush, than it could.
    Slow,
    /// The asked number of connections would not be reached.
    Low,
    /// Cannot be told here.
    Unknown,
}

impl Verdict {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Slow => "slow",
            Verdict::Low => "low",
            Verdict::Unknown => "cannot tell",
        }
    }
}

/// What a setting costs in memory at what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing to speak of.
    None,
    /// So many bytes, taken.
    Takes(u64),
    /// So many bytes at most, only while they are used.
    AtMost(u64),
}

impl Memory {
    fn text(self) -> String {
        match self {
            Memory::None => "-".to_owned(),
            Memory::Takes(bytes) => bytes_text(bytes),
            Memory::AtMost(bytes) => format!("up to {}", bytes_text(bytes)),
        }
    }
}

/// What a look at the host brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it comes to.
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
    /// What that costs.
    pub memory: Memory,
    /// What else is to be said of this host.
    pub note: Option<String>,
    /// The value to set; only of limits, and never lower than what is there.
    pub set: Option<String>,
}

impl Finding {
    /// Makes a finding that costs nothing and needs no more words.
    pub fn new(verdict: Verdict, found: impl Into<String>, wanted: impl Into<String>) -> Finding {
        let (found, wanted) = (found.into(), wanted.into());
        Finding { verdict, found, wanted, memory: Memory::None, note: None, set: None }
    }

    /// Judges a number that should be at least as large as another; worse is the verdict if it is not.
    #[must_use]
    pub fn at_least(worse: Verdict, found: u64, wanted: u64) -> Finding {
        let verdict = if found < wanted { worse } else { Verdict::Ok };
        Finding::new(verdict, number_text(found), number_text(wanted))
    }

    /// Adds what it costs.
    #[must_use]
    pub fn costing(mut self, memory: Memory) -> Finding {
        self.memory = memory;
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn noting(mut self, note: impl Into<String>) -> Finding {
        self.note = Some(note.into());
        self
    }

    /// Adds the value to set, if the verdict asks for one.
    #[must_use]
    pub fn setting(mut self, value: impl Into<String>) -> Finding {
        self.set = matches!(self.verdict, Verdict::Slow | Verdict::Low).then(|| value.into());
        self
    }
}

fn number_text(number: u64) -> String {
    if number == u64::MAX { "unlimited".to_owned() } else { grouped(number) }
}

/// How a setting is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// A limit among the sysctls: `corecast tune apply` raises it.
    Limit,
    /// By hand, like this.
    ByHand(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name: that of the sysctl if it is one.
    pub name: &'static str,
    /// What it is, in a sentence without a full stop.
    pub what: &'static str,
    /// Where it is read.
    pub place: &'static str,
    /// What is wanted, as a rule.
    pub rule: &'static str,
    /// Why.
    pub why: &'static str,
    /// Where that is written.
    pub source: &'static str,
    /// What it costs in memory, as a rule.
    pub cost: &'static str,
    /// How it is changed.
    pub cure: Cure,
    /// Looks at a host.
    pub look: fn(&Host, &Ask) -> Result<Finding, Unknown>,
}

impl Check {
    /// Returns how it is changed, for people.
    #[must_use]
    pub fn cure_text(&self) -> String {
        match self.cure {
            Cure::Limit => format!("`corecast tune apply`, or sysctl -w {}=VALUE", self.name),
            Cure::ByHand(how) => how.to_owned(),
        }
    }

    /// Looks at a host; what cannot be told is a finding too.
    #[must_use]
    pub fn finding(&self, host: &Host, ask: &Ask) -> Finding {
        (self.look)(host, ask)
            .unwrap_or_else(|unknown| Finding::new(Verdict::Unknown, "?", "?").noting(unknown.to_string()))
    }
}

/// What all checks brought.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked.
    pub ask: Ask,
    /// The checks and their findings, in the order of the table.
    pub rows: Vec<(&'static Check, Finding)>,
}

impl Report {
    /// Looks at a host.
    #[must_use]
    pub fn of(host: &Host, ask: Ask) -> Report {
        let rows = crate::checks::all().map(|check| (check, check.finding(host, &ask))).collect();
        Report { ask, rows }
    }

    /// Says whether something would keep the host from holding the asked number.
    #[must_use]
    pub fn limited(&self) -> bool {
        self.count(Verdict::Low) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|(_, finding)| finding.verdict == verdict).count()
    }

    /// Returns the report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let cells: Vec<[String; 5]> = self
            .rows
            .iter()
            .map(|(check, finding)| {
                let Finding { verdict, found, wanted, memory, .. } = finding;
                [verdict.word().to_owned(), check.name.to_owned(), found.clone(), wanted.clone(), memory.text()]
            })
            .collect();
        let heads = ["", "name", "found", "wanted", "memory"];
        let width = |i: usize| {
            let widest = cells.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
            widest.max(heads[i].len())
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let line = |row: [&str; 5]| {
            let padded = row.iter().zip(&widths).map(|(cell, width)| {
                // `{:<width$}` counts chars, as it should.
                format!("{cell:<width$}")
            });
            format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
        };
        let mut text = format!(
            "{} connections on {} shard{}\n\n",
            grouped(self.ask.connections),
            grouped(self.ask.shards),
            if self.ask.shards == 1 { "" } else { "s" }
        );
        text += &line(heads);
        for row in &cells {
            text += &line(row.each_ref().map(String::as_str));
        }
        for (verdict, heading) in [
            (Verdict::Low, "low: would limit the number"),
            (Verdict::Slow, "slow: works, but could be better"),
            (Verdict::Unknown, "cannot tell"),
            (Verdict::Ok, "ok, but note"),
        ] {
            let of_it = self.rows.iter().filter(|(_, finding)| finding.verdict == verdict);
            let worth_saying = of_it.filter(|(_, finding)| verdict != Verdict::Ok || finding.note.is_some());
            let mut said = false;
            for (check, finding) in worth_saying {
                if !said {
                    text += &format!("\n{heading}\n");
                    said = true;
                }
                text += &format!("  {}", check.name);
                if let Some(note) = &finding.note {
                    text += &format!(": {note}");
                }
                text.push('\n');
                if matches!(verdict, Verdict::Low | Verdict::Slow) {
                    text += &format!("    {}\n", check.cure_text());
                }
            }
        }
        text += &format!(
            "\n{} ok, {} slow, {} low, {} cannot tell; `corecast tune explain NAME` says why\n",
            self.count(Verdict::Ok),
            self.count(Verdict::Slow),
            self.count(Verdict::Low),
            self.count(Verdict::Unknown)
        );
        text
    }

    /// Returns the report for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let row = |(check, finding): &(&Check, Finding)| {
            let (memory_bytes, memory_taken) = match finding.memory {
                Memory::None => (0, false),
                Memory::Takes(bytes) => (bytes, true),
                Memory::AtMost(bytes) => (bytes, false),
            };
            json!({
                "name": check.name, "verdict": finding.verdict.word(),
                "found": finding.found, "wanted": finding.wanted,
                "memory_bytes": memory_bytes, "memory_taken": memory_taken,
                "note": finding.note, "set": finding.set,
                "why": check.why, "source": check.source, "cure": check.cure_text(),
            })
        };
        json!({
            "connections": self.ask.connections, "shards": self.ask.shards, "limited": self.limited(),
            "checks": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

/// Returns everything about one check, for people: `corecast tune explain NAME`.
#[must_use]
pub fn explain(check: &Check, host: &Host, ask: &Ask) -> String {
    let finding = check.finding(host, ask);
    let mut text = format!("{}: {}.\n\n", check.name, check.what);
    text += &format!("  here     {}: {} found, {} wanted", finding.verdict.word(), finding.found, finding.wanted);
    text += &format!(" for {} connections on {} shards\n", grouped(ask.connections), grouped(ask.shards));
    if let Some(note) = &finding.note {
        text += &format!("           {note}\n");
    }
    let memory = match finding.memory {
        Memory::None => String::new(),
        memory => format!(" Here: {}.", memory.text()),
    };
    text += &format!("  wanted   {}.\n  costs    {}.{memory}\n", check.rule, check.cost);
    text += &format!(
        "  change   {}\n  read at  {}\n\n{}\n\n(source: {})\n",
        check.cure_text(),
        check.place,
        check.why,
        check.source
    );
    text
}
