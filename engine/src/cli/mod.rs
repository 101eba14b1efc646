//! The words of the command line, and what its exit status means.
//!
//! Owns: the parse of the arguments and the choice of the subcommand. Every subcommand is a function of its arguments
//! that returns an [`Outcome`]; only [`run`] turns it into text on stderr and an exit status:
//! 0 fine, 1 failed while running, 2 wrong usage or cannot start, with the cause and the cure.

mod admin;
mod check;
mod client;
mod columns;
mod completions;
mod engine;
mod inherit;
mod man;
mod operate;
mod plan;
mod print;
mod publish;
mod ready;
mod serve;
mod snapshot;
mod subscribe;
mod token;
mod top;
mod tune;
mod url;
mod wire;

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use corecast::config::{self, Flags, Host, Loaded};
use corecast::io::check::{StartError, fault, no_thread};
use corecast::log;
use crossbeam_channel::Receiver;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const AFTER_HELP: &str = "\
Without a command `corecast` serves, and takes all flags of `corecast serve`.

Exit status: 0 fine, 1 failed while running, 2 wrong usage or cannot start.";

/// The web-messaging engine: publish to topics, delivered at once to very many subscribers.
#[derive(Parser)]
#[command(name = "corecast", version = env!("CORECAST_VERSION"), after_help = AFTER_HELP, args_conflicts_with_subcommands = true, override_usage = "corecast [OPTIONS]\n       corecast <COMMAND>")]
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
    /// Asks the engine of this host whether it is ready; takes the flags of `serve`.
    Ready(ready::Arguments),
    /// Publishes one message, or one per line of stdin.
    Pub(publish::Arguments),
    /// Subscribes to topics and prints their messages until stopped.
    Sub(subscribe::Arguments),
    /// Saves what a running engine remembers, or reads what was saved.
    Snapshot(snapshot::Arguments),
    /// Shows what a running engine does, second by second.
    Top(top::Arguments),
    /// Lists topics: those that remember most, or that most is published to.
    Topics(operate::Topics),
    /// Says what is known of a topic.
    Topic(operate::Topic),
    /// Lists connections.
    Connections(operate::Connections),
    /// Says what is known of a connection.
    Connection(operate::Connection),
    /// Lists subscribers that have not been sent everything.
    Slow(operate::Slow),
    /// Ends connections.
    Disconnect(operate::Disconnect),
    /// Has the engine tell its clients to come back, and end.
    Drain(operate::Drain),
    /// Has the engine read its configuration again.
    Reload(operate::Reload),
    /// Makes a token for trying, a secret or an API key; says what a token gives.
    Token(token::Arguments),
    /// Says what of this host would limit the engine, explains it, and raises limits.
    Tune(tune::Arguments),
    /// Says what a number of connections and messages takes: cores, memory, network, limits.
    Plan(plan::Arguments),
    /// Prints what a shell has to know to complete words and flags.
    Completions(completions::Arguments),
    /// Prints the manual page, or writes those of all words.
    Man(man::Arguments),
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
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    let outcome = match arguments.word {
        None => serve::run(&Flags::default()),
        Some(Word::Serve(flags)) => serve::run(&flags),
        Some(Word::Check(arguments)) => check::run(&arguments),
        Some(Word::Ready(arguments)) => ready::run(&arguments),
        Some(Word::Pub(arguments)) => publish::run(&arguments),
        Some(Word::Sub(arguments)) => subscribe::run(&arguments),
        Some(Word::Snapshot(arguments)) => snapshot::run(&arguments),
        Some(Word::Top(arguments)) => top::run(&arguments),
        Some(Word::Topics(arguments)) => operate::topics(&arguments),
        Some(Word::Topic(arguments)) => operate::topic(&arguments),
        Some(Word::Connections(arguments)) => operate::connections(&arguments),
        Some(Word::Connection(arguments)) => operate::connection(&arguments),
        Some(Word::Slow(arguments)) => operate::slow(&arguments),
        Some(Word::Disconnect(arguments)) => operate::disconnect(&arguments),
        Some(Word::Drain(arguments)) => operate::drain(&arguments),
        Some(Word::Reload(arguments)) => operate::reload(&arguments),
        Some(Word::Token(arguments)) => token::run(&arguments),
        Some(Word::Tune(arguments)) => tune::run(&arguments),
        Some(Word::Plan(arguments)) => plan::run(&arguments),
        Some(Word::Completions(arguments)) => completions::run(&arguments),
        Some(Word::Man(arguments)) => man::run(&arguments),
    };
    // The engine does not wait long for who reads that, as it never does for a reader of its log.
    match outcome {
        Outcome::Fine => log::say_last(""),
        Outcome::Failed(cause) => {
            log::say_error(&cause, None);
            return ExitCode::from(1);
        }
        Outcome::CannotStart(problems) => {
            problems.iter().for_each(|StartError { cause, cure }| log::say_error(cause, Some(cure)));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Returns the command line, for those who write about it.
fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments; on wrong usage prints what clap has to say and ends with status 2.
fn arguments() -> Result<Arguments, ExitCode> {
    // `corecast --help` shows the words; the flags of `serve`, which it also takes, would drown them.
    let command = Arguments::command().mut_args(|arg| arg.hide(true));
    let matches = command.try_get_matches();
    let mut arguments =
        matches.and_then(|matches| Arguments::from_arg_matches(&matches)).map_err(|error| explained(&error))?;
    if arguments.word.is_none() {
        arguments.word = Some(Word::Serve(std::mem::take(&mut arguments.serve)));
    }
    Ok(arguments)
}

/// Prints help, the version, or what is wrong with the arguments, and returns the exit status.
fn explained(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| io::stdout().flush());
    match written(printed) {
        Outcome::Failed(cause) if !error.use_stderr() => {
            log::say_error(&cause, None);
            ExitCode::from(1)
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

/// Writes text on stdout, all of it.
fn say(text: &str) -> Outcome {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Says how writing on stdout went; a reader that is gone is no failure, a full disk is.
fn written(result: io::Result<()>) -> Outcome {
    match result {
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

/// How often is looked for a second signal, and for the end of the time for the first.
const SECOND_SIGNAL: Duration = Duration::from_millis(50);
/// What the process may take to end after a second signal.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What SIGHUP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hangup {
    /// Like SIGTERM: the terminal went away.
    Ends,
    /// A word to a process that goes on, however often it is said.
    IsTold,
}

/// Catches SIGTERM, SIGINT and, unless it was ignored as by nohup, SIGHUP from now on, and returns where they arrive.
///
/// The first, other than a SIGHUP that [`Hangup::IsTold`], is to end the process, a second SIGTERM or SIGINT at once. Whatever the rest of the process waits for: `patience`
/// after the first, and a moment after a second, its thread ends it with status 1.
fn signals(patience: Duration, hangup: Hangup) -> Result<Receiver<i32>, StartError> {
    let mut caught = Signals::new([SIGTERM, SIGINT]).map_err(|error| StartError {
        cause: format!("cannot catch signals: {error}"),
        cure: "check the limits of this process (ulimit -a)".to_owned(),
    })?;
    if !ignores_hangup(&fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        caught.add_signal(SIGHUP).map_err(|error| fault("catch SIGHUP", &error))?;
    }
    let (heard, signals) = crossbeam_channel::unbounded();
    let thread = thread::Builder::new().name("signals".to_owned());
    let spawned = thread.spawn(move || {
        let mut first = None;
        for signal in caught.forever() {
            if signal != SIGHUP || hangup == Hangup::Ends {
                first = Some(signal);
                break;
            }
            if heard.send(signal).is_err() {
                return;
            }
        }
        let Some(first) = first else { return };
        let mut end_at = Instant::now() + patience;
        // Nobody listens any more when the process is about to end.
        let _ = heard.send(first);
        while Instant::now() < end_at {
            // A terminal that goes away says so more than once.
            if let Some(second) = caught.pending().find(|signal| *signal != SIGHUP) {
                end_at = end_at.min(Instant::now() + AT_ONCE);
                let _ = heard.send(second);
            }
            thread::sleep(SECOND_SIGNAL);
        }
        signal_hook::low_level::exit(1);
    });
    spawned.map_err(|error| no_thread("signals", &error))?;
    Ok(signals)
}

/// Reads from `/proc/self/status` whether SIGHUP, signal number 1, is ignored.
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SIGHUP that was ignored stays so: that is what nohup is for.
    #[test]
    fn nohup_is_heard() {
        assert!(ignores_hangup("Name:\tcorecast\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }

    /// The flags and words do not contradict each other (clap's own check).
    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
