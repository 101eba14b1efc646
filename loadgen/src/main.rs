//! `corecast-load`: the load generator's command line.
//!
//! Exit status: 0 fine, 1 something was lost or failed while running, 2 wrong usage or cannot start.

mod arguments;

use std::process::ExitCode;

use arguments::Arguments;
use clap::Parser as _;
use corecast_loadgen::{CannotStart, Report, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json.clone();
    let report = arguments.plan().and_then(|plan| {
        if arguments.print_plan {
            print!("{}", plan.to_toml());
            return Ok(None);
        }
        run(&plan, &mut || {}).map(Some)
    });
    match report {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => match print(&report, json.as_deref()) {
            Ok(()) if report.fine() => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("corecast-load: cannot write the report: {error}");
                ExitCode::FAILURE
            }
        },
        Err(CannotStart { cause, cure }) => {
            eprintln!("corecast-load: {cause}\n  cure: {cure}");
            ExitCode::from(2)
        }
    }
}

fn print(report: &Report, json: Option<&str>) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    match json {
        Some("-") => return write!(stdout, "{}", report.to_json()),
        Some(path) => std::fs::write(path, report.to_json())?,
        None => {}
    }
    writeln!(stdout, "{report}")
}
