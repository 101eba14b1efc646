//! `corecast-load`: the load generator's command line.
//!
//! Exit status: 0 fine, 1 something was lost or failed while running, or it was interrupted, 2 wrong usage or cannot start.

mod arguments;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arguments::{Arguments, CalibrateArguments, Command};
use clap::Parser as _;
use corecast_loadgen::calibrate::calibrate;
use corecast_loadgen::{CannotStart, Report, run_until};
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Some(Command::Calibrate(calibrating)) => measure(calibrating),
        None => load(&arguments),
    };
    match result {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            say(&format!("corecast-load: cannot write the report: {error}"));
            ExitCode::FAILURE
        }
        Err(CannotStart { cause, cure }) => {
            say(&format!("corecast-load: {cause}\n  cure: {cure}"));
            ExitCode::from(2)
        }
    }
}

/// Says something on stderr. A stderr that is gone must not turn one failure into another.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints on stdout, all of it. A reader that is gone is no failure, a full disk is.
fn print_all(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn load(arguments: &Arguments) -> Result<io::Result<ExitCode>, CannotStart> {
    let plan = arguments.plan()?;
    if arguments.print_plan {
        return Ok(print_all(&plan.to_toml()).map(|()| ExitCode::SUCCESS));
    }
    let interrupted = interruption().map_err(|error| CannotStart {
        cause: format!("cannot hear signals: {error}"),
        cure: "run on Linux".to_owned(),
    })?;
    let report = run_until(&plan, &interrupted, &mut || {})?;
    let status = if report.fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(print(&report, arguments).map(|()| status))
}

/// Returns what becomes true at the first SIGINT or SIGTERM. The second one ends the process as usual.
fn interruption() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down, and goes on to raise it.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

fn print(report: &Report, arguments: &Arguments) -> io::Result<()> {
    // What is on the terminal is there even if a file cannot be written.
    match arguments.json.as_deref() {
        Some("-") => print_all(&report.to_json())?,
        _ => print_all(&format!("{report}\n"))?,
    }
    if let Some(path) = arguments.json.as_deref().filter(|path| *path != "-") {
        write(path.as_ref(), &report.to_json())?;
    }
    if let Some(path) = &arguments.html {
        write(path, &report.to_html())?;
    }
    for (path, text) in arguments.hgrm.iter().flat_map(|path| report.hgrm_files(path)) {
        write(&path, &text)?;
    }
    Ok(())
}

fn measure(arguments: &CalibrateArguments) -> Result<io::Result<ExitCode>, CannotStart> {
    let watched = io::stderr().is_terminal();
    let found = calibrate(&arguments.wish(), &mut |what| {
        if watched {
            say(what);
        }
    })?;
    let written = print_all(&format!("{found}\n"));
    let written =
        written.and_then(|()| arguments.out.as_deref().map_or(Ok(()), |path| write(path, &found.file().text())));
    Ok(written.map(|()| ExitCode::SUCCESS))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
