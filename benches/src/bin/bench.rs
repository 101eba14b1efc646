//! Runs the benches and prints one table: every claim beside its baseline of the same run, what must hold, and whether it
//! does. Scenarios run against the engine and its baselines in turn, several rounds; the micro benches run under callgrind.
//!
//! Exit status: 0 if every row was measured and every delivery was right, 1 if not, 2 if the command makes no sense. A row
//! that misses what it must hold is no failure of the measurement: the table says so, a person (or the LOG) judges.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use corecast_benches::callgrind;
use corecast_benches::micro::{CASES, Case, GROWTH_MAX};
use corecast_benches::scenario::{Beside, Claim, Conduct, SCENARIOS, Scenario};
use corecast_benches::server::{Kind, Setup};
use corecast_benches::table::{Row, render, sum};
use corecast_benches::verdict::{Bound, Pairing, Verdict};

/// The word for all micro benches.
const MICRO: &str = "micro";

/// What only `scripts/million` measures: what must hold, and where.
const MILLION: (&str, &str) = ("1,000,000 connections, every delivery right", "scripts/million");

/// Measures what corecast costs, each figure beside its baseline in the same run.
#[derive(clap::Parser)]
struct Arguments {
    /// Scenarios and micro benches to run, or `micro` for all of these [default: everything]; see --list. What a scenario is
    /// compared with runs too.
    benches: Vec<String>,
    /// Prints the scenarios and the micro benches.
    #[arg(long)]
    list: bool,
    /// Rounds; in each, every server of a scenario has its turn, in changing order.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Divides the number of messages, for a quick look.
    #[arg(long, default_value_t = 1)]
    divisor: u64,
    /// Measures this engine instead of the one built beside `bench`; the baselines stay those.
    #[arg(long, value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Core of the servers.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load generator.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
}

/// The figures of a server in a scenario: by figure, one a round.
type Figures = Vec<Vec<f64>>;

/// What was measured, by scenario and server.
#[derive(Default)]
struct Found {
    figures: HashMap<(&'static str, &'static str), Figures>,
    /// Why a scenario's figures are none.
    failures: HashMap<&'static str, String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        // Whoever wants no more of it, `head` say, has what it wanted.
        return if list(&mut std::io::stdout()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let known = |name: &str| name == MICRO || Scenario::find(name).is_some() || Case::find(name).is_some();
    if let Some(unknown) = arguments.benches.iter().find(|name| !known(name)) {
        eprintln!("bench: there is no bench {unknown}\n  cure: see bench --list");
        return ExitCode::from(2);
    }
    let folder = match std::env::current_exe() {
        Ok(program) => program.parent().map(Path::to_path_buf).unwrap_or_default(),
        Err(error) => {
            eprintln!("bench: where the programs are is not known: {error}");
            return ExitCode::from(2);
        }
    };
    println!("{}", host());
    let mut rows = scenarios(&arguments, &folder);
    if arguments.benches.is_empty() {
        rows.push(Row::elsewhere("million", MILLION.0, MILLION.1));
    }
    rows.extend(micros(&arguments, &folder));
    println!("\n{}", render(&rows).trim_end());
    if sum(&rows).not_measured == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn list(out: &mut impl Write) -> std::io::Result<()> {
    for scenario in SCENARIOS {
        writeln!(out, "{}: {}", scenario.name, scenario.about)?;
        for claim in scenario.claims.iter().filter(|claim| claim.bound != Bound::Told) {
            writeln!(out, "    {}", claim.bound.words(claim.figure.unit(), &beside(claim)))?;
        }
    }
    writeln!(out, "{MICRO}: all of the following, under callgrind; each within {GROWTH_MAX:.2} x its record")?;
    for case in CASES {
        writeln!(out, "    {:<15} {}", case.name, case.operation)?;
    }
    writeln!(out, "million: {}; see {}", MILLION.0, MILLION.1)
}

/// Says what a claim compares with.
fn beside(claim: &Claim) -> String {
    match claim.beside {
        Beside::Nothing => String::new(),
        Beside::Server(kind) => kind.name().to_owned(),
        Beside::Scenario(name, kind) => format!("{name} of {}", kind.name()),
    }
}

/// Runs the scenarios that were asked for, and those they are compared with.
fn scenarios(arguments: &Arguments, folder: &Path) -> Vec<Row> {
    let asked = |name: &str| arguments.benches.is_empty() || arguments.benches.iter().any(|asked| asked == name);
    let wanted = |name: &str| {
        asked(name) || SCENARIOS.iter().any(|other| asked(other.name) && other.needs().any(|needed| needed == name))
    };
    let setup = Setup {
        folder: folder.to_owned(),
        engine: arguments.engine.clone(),
        core: arguments.server_core,
        client_core: arguments.client_core,
    };
    let conduct = Conduct { setup, divisor: arguments.divisor.max(1) };
    let mut found = Found::default();
    let mut rows = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.name)) {
        if let Err(failure) = rounds(scenario, arguments.rounds, &conduct, &mut found) {
            println!("{}: {failure}", scenario.name);
            found.failures.insert(scenario.name, failure.lines().next().unwrap_or_default().to_owned());
        }
        rows.extend(scenario.claims.iter().map(|claim| row(scenario, claim, &found)));
    }
    rows
}

/// Measures every server of a scenario in every round.
fn rounds(scenario: &'static Scenario, rounds: u32, conduct: &Conduct, found: &mut Found) -> Result<(), String> {
    let servers = scenario.servers;
    for round in 0..rounds as usize {
        // A different server begins each round: none shall always have the cool or the warm host.
        for turn in 0..servers.len() {
            let server = servers[(turn + round) % servers.len()];
            let measured = scenario.measure(server, conduct).map_err(|error| format!("{}: {error}", server.name()))?;
            print!("{:<12} round {round}  {:<20}", scenario.name, server.name());
            let figures = found.figures.entry((scenario.name, server.name())).or_default();
            figures.resize(scenario.figures.len(), Vec::new());
            for (number, figure) in measured.figures.iter().enumerate() {
                figures[number].push(*figure);
                print!("  {figure:.2} {}", scenario.figures[number].unit());
            }
            println!();
            // Whoever reads along does so line by line; one who has gone away does not matter.
            let _ = std::io::stdout().flush();
            if !measured.report.fine() {
                println!("{}", measured.report);
                return Err(format!("{}: {}", server.name(), measured.report.problems().join(", ")));
            }
        }
    }
    Ok(())
}

/// Makes the row of a claim.
fn row(scenario: &Scenario, claim: &Claim, found: &Found) -> Row {
    let figures = |scenario: &Scenario, kind: Kind| {
        let place = scenario.figures.iter().position(|figure| *figure == claim.figure).unwrap_or_default();
        found.figures.get(&(scenario.name, kind.name())).and_then(|all| all.get(place)).cloned().unwrap_or_default()
    };
    let mut failure = found.failures.get(scenario.name).cloned();
    let (baseline, pairing) = match claim.beside {
        Beside::Nothing => (Vec::new(), Pairing::Rounds),
        Beside::Server(kind) => (figures(scenario, kind), Pairing::Rounds),
        Beside::Scenario(name, kind) => {
            failure = failure.or_else(|| found.failures.get(name).map(|why| format!("{name}: {why}")));
            (Scenario::find(name).map(|other| figures(other, kind)).unwrap_or_default(), Pairing::Medians)
        }
    };
    Row {
        bench: scenario.name,
        unit: claim.figure.unit(),
        // A scenario's first server is the one that it is about.
        detail: if claim.of == scenario.servers[0] { String::new() } else { claim.of.name().to_owned() },
        figures: figures(scenario, claim.of),
        beside: beside(claim),
        baseline,
        pairing,
        bound: claim.bound,
        note: None,
        instead: failure.map(Verdict::NotMeasured),
    }
}

/// Counts the instructions of the micro benches that were asked for.
fn micros(arguments: &Arguments, folder: &Path) -> Vec<Row> {
    let asked = |case: &Case| {
        arguments.benches.is_empty() || arguments.benches.iter().any(|asked| asked == MICRO || asked == case.name)
    };
    let micro: PathBuf = folder.join("micro");
    CASES.iter().filter(|case| asked(case)).map(|case| micro_row(&micro, case)).collect()
}

fn micro_row(micro: &Path, case: &Case) -> Row {
    let counted = callgrind::count(micro, case, false);
    let beside = case.baseline.map(|baseline| (baseline.name, callgrind::count(micro, case, true)));
    let mut failure = None;
    let mut figures = |count: std::io::Result<f64>| match count {
        Ok(count) => vec![count],
        Err(error) => {
            failure.get_or_insert(error.to_string().lines().next().unwrap_or_default().to_owned());
            Vec::new()
        }
    };
    let figures_of_case = figures(counted);
    let (name, baseline) = beside.map_or_else(Default::default, |(name, count)| (name.to_owned(), figures(count)));
    let each = figures_of_case.first().map(|count| format!("{:.2}/{}", count / f64::from(case.units), case.unit));
    let told = failure.clone().or_else(|| each.clone()).unwrap_or_default();
    println!("{:<15} {told}  ({})", case.name, case.operation);
    Row {
        bench: case.name,
        unit: "instr",
        detail: each.filter(|_| case.units > 1).unwrap_or_default(),
        figures: figures_of_case,
        beside: name,
        baseline,
        pairing: Pairing::Rounds,
        bound: Bound::AtMost(case.recorded * GROWTH_MAX),
        note: Some(format!("<= {GROWTH_MAX:.2} x {} recorded", case.recorded)),
        instead: failure.map(Verdict::NotMeasured),
    }
}

/// Describes the host in one line, for the LOG.
fn host() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = read("/proc/meminfo").lines().next().unwrap_or_default().replace("MemTotal:", "");
    format!(
        "{cores} cores, {} memory, Linux {}, rps_cpus of lo {}",
        memory.trim(),
        read("/proc/sys/kernel/osrelease"),
        read("/sys/class/net/lo/queues/rx-0/rps_cpus"),
    )
}
