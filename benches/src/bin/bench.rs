//! Runs the benches: every scenario against the engine and its baselines, in turn, several rounds, and prints the table.
//!
//! Exit status: 0 if every delivery of every run was right, 1 if not, 2 if something could not be started. Speed is
//! never a failure: the table says what must hold, a person (or the LOG) judges.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use corecast_benches::scenario::{Conduct, SCENARIOS, Scenario};
use corecast_benches::server::{Kind, Setup};
use corecast_benches::table::{Row, render};

/// Measures what corecast costs, each figure beside its baseline in the same run.
#[derive(clap::Parser)]
struct Arguments {
    /// Scenarios to run [default: all]; see --list.
    scenarios: Vec<String>,
    /// Prints the scenarios.
    #[arg(long)]
    list: bool,
    /// Rounds; in each, every server of a scenario has its turn, in changing order.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Divides the number of messages, for a quick look.
    #[arg(long, default_value_t = 1)]
    divisor: u64,
    /// Core of the servers.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load generator.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Runs the baselines only.
    #[arg(long)]
    baselines: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in SCENARIOS {
            println!("{:<14} {}", scenario.name, scenario.goal);
        }
        return ExitCode::SUCCESS;
    }
    let known = |name: &String| SCENARIOS.iter().any(|scenario| scenario.name == name);
    if let Some(unknown) = arguments.scenarios.iter().find(|name| !known(name)) {
        eprintln!("bench: there is no scenario {unknown}\n  cure: see bench --list");
        return ExitCode::from(2);
    }
    match bench(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn bench(arguments: &Arguments) -> std::io::Result<bool> {
    let folder = std::env::current_exe()?.parent().map(std::path::Path::to_path_buf).unwrap_or_default();
    let setup = Setup { folder, core: arguments.server_core };
    let conduct = Conduct { setup, client_core: arguments.client_core, divisor: arguments.divisor.max(1) };
    println!("{}", host());
    let mut rows = Vec::new();
    let mut fine = true;
    for scenario in SCENARIOS {
        if arguments.scenarios.is_empty() || arguments.scenarios.iter().any(|name| name == scenario.name) {
            fine &= rounds(scenario, arguments, &conduct, &mut rows)?;
        }
    }
    println!("\n{}", render(&rows));
    Ok(fine)
}

fn rounds(scenario: &Scenario, arguments: &Arguments, conduct: &Conduct, rows: &mut Vec<Row>) -> std::io::Result<bool> {
    let servers: Vec<Kind> =
        scenario.servers.iter().copied().filter(|kind| !arguments.baselines || !kind.is_engine()).collect();
    let mut figures = vec![vec![Vec::new(); scenario.figures.len()]; servers.len()];
    let mut fine = true;
    for round in 0..arguments.rounds {
        // A different server begins each round: none shall always have the cool or the warm host.
        for turn in 0..servers.len() {
            let index = (turn + round) % servers.len();
            let measured = scenario.measure(servers[index], conduct)?;
            print!("{:<12} round {round}  {:<20}", scenario.name, servers[index].name());
            for (number, figure) in measured.figures.iter().enumerate() {
                figures[index][number].push(*figure);
                print!("  {figure:.2} {}", scenario.figures[number].unit());
            }
            println!();
            std::io::stdout().flush()?;
            if !measured.report.fine() {
                fine = false;
                println!("{}", measured.report);
            }
        }
    }
    let baseline = servers.iter().position(|kind| !kind.is_engine());
    for (number, figure) in scenario.figures.iter().enumerate() {
        for (index, kind) in servers.iter().enumerate() {
            let compared = baseline.filter(|baseline| *baseline != index);
            rows.push(Row {
                scenario: scenario.name,
                server: kind.name(),
                unit: figure.unit(),
                goal: if kind.is_engine() && number == 0 { scenario.goal } else { "" },
                figures: figures[index][number].clone(),
                baseline: compared.map_or_else(Vec::new, |baseline| figures[baseline][number].clone()),
            });
        }
    }
    Ok(fine)
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
