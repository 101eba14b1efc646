//! Does one small work so many times and checks its answer; `bench` counts the instructions of it under callgrind.

use clap::Parser as _;
use corecast_benches::micro::{CASES, Case};

/// Does one operation of the path of a message over and over.
#[derive(clap::Parser)]
struct Arguments {
    /// The case; see --list.
    #[arg(required_unless_present = "list")]
    case: Option<String>,
    /// Prints the cases.
    #[arg(long)]
    list: bool,
    /// How many times [default: as `bench` does].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    iterations: Option<u64>,
    /// Does what the case is compared with instead.
    #[arg(long)]
    baseline: bool,
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for case in CASES {
            println!("{:<15} {}", case.name, case.operation);
        }
        return std::process::ExitCode::SUCCESS;
    }
    let name = arguments.case.unwrap_or_default();
    let Some(case) = Case::find(&name) else {
        eprintln!("micro: there is no case {name}\n  cure: see micro --list");
        return std::process::ExitCode::from(2);
    };
    let work = match (arguments.baseline, case.baseline) {
        (false, _) => case.work,
        (true, Some(baseline)) => baseline.work,
        (true, None) => {
            eprintln!("micro: nothing stands beside {name}\n  cure: leave --baseline away");
            return std::process::ExitCode::from(2);
        }
    };
    work(arguments.iterations.unwrap_or(case.iterations));
    std::process::ExitCode::SUCCESS
}
