//! The words of the command line, and what its exit status means.
//!
//! Owns: the parse of the arguments and the choice of the subcommand. Every subcommand is a function of its arguments
//! that returns an [`Outcome`]; only [`run`] turns it into text on stderr and an exit status:
//! 0 fine, 1 failed while running, 2 wrong usage or cannot start, with the cause and the cure.

mod check;
mod connect;
mod engine;
mod lines;
mod plan;
mod print;
mod publish;
mod serve;
mod subscribe;
mod tune;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use corecast::config::{self, Flags, Host, Loaded};
use corecast::io::check::StartError;
use crossbeam_channel::Receiver;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const AFTER_HELP: &str = "\
Without a command `corecast` serves, and takes all flags of `corecast serve`.

Exit status: 0 fine, 1 failed while running, 2 wrong usage or cannot start.";

/// The web-messaging engine: publish to topics, delivered at once to very many subscribers.
#[derive(Parser)]
#[command(name = "corecast", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true, override_usage = "corecast [OPTIONS]\n       corecast <COMMAND>")]
struct Arguments {
    #[command(flatten)]
    serve: Flags,
    #[command(subcommand)]
    word: Option<Word>,
}

#[derive(Subcommand)]
enum Word {
    /// Runs the engine (also without a command).
    Serve(Flags),
    /// Checks the configuration and prints the effective one; takes the flags of `serve`.
    Check(check::Arguments),
    /// Publishes one message, or one per line of stdin.
    Pub(publish::Arguments),
    /// Subscribes to topics and prints their messages until stopped.
    Sub(subscribe::Arguments),
    /// Says what of this host would limit the engine, explains it, and raises limits.
    Tune(tune::Arguments),
    /// Says what a number of connections and messages takes: cores, memory, network, limits.
    Plan(plan::Arguments),
}

/// How a subcommand ended.
enum Outcome {
    /// As it should: status 0.
    Fine,
    /// Failed while running: status 1.
    Failed(String),
    /// Could not start: status 2.
    CannotStart(Vec<StartError>),
}

/// Parses the arguments of the process, runs what they ask for, and returns the exit status.
pub(crate) fn run() -> ExitCode {
    let outcome = match arguments().word {
        None => serve::run(&Flags::default()),
        Some(Word::Serve(flags)) => serve::run(&flags),
        Some(Word::Check(arguments)) => check::run(&arguments),
        Some(Word::Pub(arguments)) => publish::run(&arguments),
        Some(Word::Sub(arguments)) => subscribe::run(&arguments),
        Some(Word::Tune(arguments)) => tune::run(&arguments),
        Some(Word::Plan(arguments)) => plan::run(&arguments),
    };
    // A stderr that is gone must not turn one failure into another.
    let mut stderr = io::stderr().lock();
    match outcome {
        Outcome::Fine => ExitCode::SUCCESS,
        Outcome::Failed(cause) => {
            let _ = writeln!(stderr, "error: {cause}");
            ExitCode::from(1)
        }
        Outcome::CannotStart(problems) => {
            for problem in problems {
                let _ = writeln!(stderr, "error: {problem}");
            }
            ExitCode::from(2)
        }
    }
}

/// Parses the arguments; on wrong usage prints what clap has to say and exits with status 2.
fn arguments() -> Arguments {
    // `corecast --help` shows the words; the flags of `serve`, which it also takes, would drown them.
    let command = Arguments::command().mut_args(|arg| arg.hide(true));
    let matches = command.get_matches();
    let mut arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if arguments.word.is_none() {
        arguments.word = Some(Word::Serve(std::mem::take(&mut arguments.serve)));
    }
    arguments
}

/// Writes text on stdout; a reader that is gone is no failure.
fn say(text: &str) -> Outcome {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Outcome::Failed(format!("cannot write to stdout: {error}"))
        }
        _ => Outcome::Fine,
    }
}

/// Says that something cannot be done, in the words of the tuning crate.
fn cannot(problem: corecast_tuning::Problem) -> Outcome {
    let corecast_tuning::Problem { cause, cure } = problem;
    Outcome::CannotStart(vec![StartError { cause, cure }])
}

/// Reads the configuration from all its sources and checks it.
fn configuration(flags: &Flags) -> Result<Loaded, Vec<StartError>> {
    let loaded = config::load(flags, std::env::vars_os(), &Host::read())?;
    loaded.config.check()?;
    Ok(loaded)
}

/// Catches SIGTERM and SIGINT from now on, and returns where they arrive.
fn signals() -> Result<Receiver<i32>, StartError> {
    let cannot = |error: io::Error| StartError {
        cause: format!("cannot catch signals: {error}"),
        cure: "check the limits of this process (ulimit -a)".to_owned(),
    };
    let mut caught = Signals::new([SIGTERM, SIGINT]).map_err(cannot)?;
    let (heard, signals) = crossbeam_channel::unbounded();
    let thread = thread::Builder::new().name("signals".to_owned());
    let spawned = thread.spawn(move || {
        // Ends when nobody listens any more, that is, with the process.
        for signal in caught.forever() {
            if heard.send(signal).is_err() {
                break;
            }
        }
    });
    spawned.map_err(cannot)?;
    Ok(signals)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags and words do not contradict each other (clap's own check).
    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
