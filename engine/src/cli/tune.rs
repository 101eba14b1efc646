//! `corecast tune`: what of this host would limit the engine, why, and raising it. The checks are the tuning crate's.

use std::path::PathBuf;

use corecast_tuning::amount;
use corecast_tuning::apply::{self, Change, Done};
use corecast_tuning::check::{self, Ask, Report, Verdict};
use corecast_tuning::host::Host;
use corecast_tuning::{Problem, checks, document, needs};

use super::Outcome;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    word: Word,
}

#[derive(clap::Subcommand)]
enum Word {
    /// Says what would limit the number of connections here, or slow them down; status 1 if something would limit it.
    Check {
        #[command(flatten)]
        asked: Asked,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// Prints the table of `tuning/kernel.md`, made from the table of checks, instead.
        #[arg(long, hide = true)]
        document: bool,
    },
    /// Explains one setting; without a name, lists them.
    Explain {
        /// Name of the setting, or its last part, as in somaxconn.
        name: Option<String>,
        #[command(flatten)]
        asked: Asked,
    },
    /// Raises the limits that are too low: shows what would change, and does it with --yes.
    Apply {
        #[command(flatten)]
        asked: Asked,
        /// Does it; without, it only shows what would change.
        #[arg(long)]
        yes: bool,
        /// Takes back what was raised before.
        #[arg(long)]
        undo: bool,
        /// Where the settings are kept for the next boot; default: /etc/sysctl.d/60-corecast.conf.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Asked {
    /// Connections that shall be held, as in 250k or 10M (k and M are powers of 1,000).
    #[arg(long, value_name = "NUMBER", default_value = "1M", value_parser = amount::count)]
    connections: u64,
    /// Shards that shall hold them; default: one per core that this process may use.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=needs::SHARDS_MAX))]
    shards: Option<u64>,
    /// Looks at the limits of this process instead of our own: those of a service differ from those of a shell.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Looks at the `/proc` and `/sys` below this folder.
    #[arg(long, value_name = "FOLDER", default_value = "/", hide = true)]
    root: PathBuf,
}

impl Asked {
    fn host(&self) -> Result<(Host, Ask), Problem> {
        let host = Host::at(&self.root, self.pid);
        if let Some(pid) = self.pid
            && !host.path(&format!("proc/{pid}")).exists()
        {
            return Err(Problem::new(format!("there is no process {pid}"), "find the engine's with pidof corecast"));
        }
        let cores = host.cpus().map_or(1, |cpus| cpus.len() as u64);
        let shards = self.shards.unwrap_or(cores.clamp(1, needs::SHARDS_MAX));
        Ok((host, Ask { connections: self.connections, shards }))
    }
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let outcome = match &arguments.word {
        Word::Check { document: true, .. } => Ok(super::say(&document::document())),
        Word::Check { asked, json, .. } => asked.host().map(|(host, ask)| judge(&Report::of(&host, ask), *json)),
        Word::Explain { name, asked } => explain(name.as_deref(), asked),
        Word::Apply { asked, yes, undo, file } => asked.host().and_then(|(host, ask)| {
            let file = file.as_deref();
            let plan = if *undo { apply::undo(&host, file) } else { apply::raise(&host, &ask, file) };
            change(plan?, *yes)
        }),
    };
    outcome.unwrap_or_else(super::cannot)
}

fn judge(report: &Report, json: bool) -> Outcome {
    let text = if json { format!("{:#}\n", report.json()) } else { report.text() };
    match super::say(&text) {
        Outcome::Fine if report.limited() => {
            let low = report.rows.iter().filter(|(_, finding)| finding.verdict == Verdict::Low);
            let names = low.map(|(check, _)| check.name).collect::<Vec<_>>().join(", ");
            let connections = amount::grouped(report.ask.connections);
            Outcome::Failed(format!("too low here for {connections} connections: {names}"))
        }
        outcome => outcome,
    }
}

fn explain(name: Option<&str>, asked: &Asked) -> Result<Outcome, Problem> {
    let Some(name) = name else {
        let lines = checks::all().map(|check| format!("{:<38} {}\n", check.name, check.what));
        return Ok(super::say(&lines.collect::<String>()));
    };
    let found = checks::named(name);
    if found.is_empty() {
        let cure = "`corecast tune explain` lists them";
        return Err(Problem::new(format!("there is no setting `{name}`"), cure));
    }
    let (host, ask) = asked.host()?;
    let texts = found.into_iter().map(|check| check::explain(check, &host, &ask));
    Ok(super::say(&texts.collect::<Vec<_>>().join("\n")))
}

fn change(plan: apply::Plan, yes: bool) -> Result<Outcome, Problem> {
    let text = plan.text();
    if plan.is_empty() {
        return Ok(super::say(&format!("{text}nothing to change\n")));
    }
    if !yes {
        return Ok(super::say(&format!("{text}\nnothing was changed: --yes does it\n")));
    }
    let Done { set, failed } = plan.commit()?;
    let set = format!("{text}\n{} set in the running kernel, {} failed\n", set.len(), failed.len());
    Ok(match super::say(&set) {
        Outcome::Fine if !failed.is_empty() => {
            let why = |(Change { name, after, .. }, why): &(Change, String)| format!("{name} = {after}: {why}");
            let all = failed.iter().map(why).collect::<Vec<_>>().join("; ");
            Outcome::Failed(format!("the kernel did not take {all}"))
        }
        outcome => outcome,
    })
}
