//! `corecast top`: what a running engine does, second by second, on a terminal or as text.
//!
//! Owns: the loop. A thread of its own asks, so that keys are heard while the engine does not answer. On a terminal it draws over itself in
//! the alternate screen ([`screen`]), and leaves the terminal as it was, however it ends; otherwise each interval is a block of text, or with
//! `--json` a line. Touches: the admin listener only.

mod figures;
mod screen;
mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use corecast::config;
use corecast::io::check::{StartError, no_thread};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::admin::{Admin, Reach};
use super::{Hangup, Outcome};
use figures::{Figures, Sample};
use screen::{Key, Screen};
use view::{Page, Shown};

/// What the process may take to end after a signal.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long is waited for a key before the rest is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Lines of a block of text, and columns: what a terminal has that says nothing.
const BLOCK: (usize, usize) = (40, 100);

const AFTER_HELP: &str = "\
Keys: 1 or s shards, 2 or t topics, 3 or c connections, Tab the next of them; q, Esc or Ctrl-C ends.

Rates are those of the last interval; that of a topic is an estimate of the last few seconds.";

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// How long an interval is.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    every: Duration,
    /// Ends after so many intervals.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Ends after one interval, and writes text.
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// Writes a line of JSON for each interval.
    #[arg(long)]
    json: bool,
    /// How many topics, connections and subscribers are asked for.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    reach: Reach,
}

/// Reads a time that is neither too short to ask nor too long to wait.
fn interval(text: &str) -> Result<Duration, String> {
    match config::duration_ms(text)? {
        ms @ 100..=3_600_000 => Ok(Duration::from_millis(ms)),
        _ => Err("it is 100ms to 1h".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let admin = match Admin::find(&arguments.reach) {
        Ok(admin) => admin,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    let signals = match super::signals(PATIENCE, Hangup::Ends) {
        Ok(signals) => signals,
        Err(problem) => return Outcome::CannotStart(vec![problem]),
    };
    let place = admin.place.to_string();
    // Whoever cannot ask at all is told so where he can read it.
    let first = match Sample::take(&admin, arguments.limit) {
        Ok(sample) => sample,
        Err(problem) => return Outcome::Failed(problem.to_string()),
    };
    let samples = match ask(admin, arguments.every, arguments.limit) {
        Ok(samples) => samples,
        Err(problem) => return Outcome::CannotStart(vec![problem]),
    };
    let count = if arguments.once { Some(1) } else { arguments.count };
    let is_drawn = io::stdout().is_terminal() && !arguments.json && !arguments.once;
    if !is_drawn {
        return write(first, &samples, &signals, count, arguments.json, &place);
    }
    match Screen::open() {
        Ok(screen) => draw(screen, first, &samples, &signals, count, &place),
        Err(error) => {
            Outcome::Failed(format!("cannot draw on this terminal: {error}; corecast top --once writes text"))
        }
    }
}

/// Asks again and again, in a thread, until nobody listens.
fn ask(admin: Admin, every: Duration, limit: u16) -> Result<Receiver<Result<Sample, StartError>>, StartError> {
    let (to, samples) = bounded(1);
    let spawned = thread::Builder::new().name("asks".to_owned()).spawn(move || {
        let mut due = Instant::now() + every;
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.send(Sample::take(&admin, limit)).is_err() {
                return;
            }
            // An interval that is late does not make the next one shorter.
            due = (due + every).max(Instant::now());
        }
    });
    spawned.map_err(|error| no_thread("asks", &error))?;
    Ok(samples)
}

/// Writes each interval.
fn write(
    mut before: Sample,
    samples: &Receiver<Result<Sample, StartError>>,
    signals: &Receiver<i32>,
    count: Option<u64>,
    json: bool,
    place: &str,
) -> Outcome {
    let mut written = 0;
    while count.is_none_or(|count| written < count) {
        let sample = crossbeam_channel::select! {
            recv(samples) -> sample => match sample {
                Ok(Ok(sample)) => sample,
                Ok(Err(problem)) => return Outcome::Failed(problem.to_string()),
                Err(_) => return Outcome::Failed("the thread that asks is gone".to_owned()),
            },
            recv(signals) -> _ => return Outcome::Fine,
        };
        let figures = Figures::between(&before, &sample);
        let text = if json {
            format!("{}\n", figures.json())
        } else {
            let shown = Shown { figures: &figures, place, page: Page::All, trouble: None, keys: false };
            let lines = view::lines(&shown, BLOCK.0, BLOCK.1);
            let parting = if written > 0 { "\n" } else { "" };
            lines.iter().fold(parting.to_owned(), |text, line| text + line.text.trim_end() + "\n")
        };
        let mut stdout = io::stdout().lock();
        let went = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        if went.is_err() {
            // A reader that is gone wants no more of it.
            return super::written(went);
        }
        (before, written) = (sample, written + 1);
    }
    Outcome::Fine
}

/// Draws until somebody wants it to end.
fn draw(
    mut screen: Screen,
    mut before: Sample,
    samples: &Receiver<Result<Sample, StartError>>,
    signals: &Receiver<i32>,
    count: Option<u64>,
    place: &str,
) -> Outcome {
    let mut figures = Figures::between(&before, &before);
    let (mut page, mut trouble, mut drawn, mut changed) = (Page::Shards, None, 0, true);
    loop {
        if std::mem::take(&mut changed) {
            let (columns, rows) = screen.size();
            let shown = Shown { figures: &figures, place, page, trouble: trouble.as_deref(), keys: true };
            if let Err(error) = screen.show(&view::lines(&shown, rows, columns)) {
                drop(screen);
                return Outcome::Failed(format!("cannot draw: {error}"));
            }
        }
        if count.is_some_and(|count| drawn >= count) || !signals.is_empty() {
            return Outcome::Fine;
        }
        match screen.key(TICK) {
            Ok(None) => {}
            Ok(Some(Key::End)) => return Outcome::Fine,
            Ok(Some(Key::Resized)) => changed = true,
            Ok(Some(Key::Next)) => (page, changed) = (page.next(), true),
            Ok(Some(Key::Page(number))) => (page, changed) = (Page::at(number), true),
            Err(error) => {
                drop(screen);
                return Outcome::Failed(format!("cannot read keys: {error}"));
            }
        }
        match samples.recv_timeout(Duration::ZERO) {
            Ok(Ok(sample)) => {
                figures = Figures::between(&before, &sample);
                (before, trouble, drawn, changed) = (sample, None, drawn + 1, true);
            }
            Ok(Err(StartError { cause, .. })) => (trouble, changed) = (Some(cause), true),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                drop(screen);
                return Outcome::Failed("the thread that asks is gone".to_owned());
            }
        }
    }
}
