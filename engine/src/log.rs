//! Logs of the process: human lines or JSON on stderr, and a bound on how often one place may complain.
//!
//! Owns: the subscriber of `tracing`, set once by [`start`], and the thread that writes ([`outlet`]): who logs never waits
//! for stderr. A peer can cause a line as often as it likes, so each place in the source logs at most [`BURST`] warnings or
//! errors per [`WINDOW`], and [`BURST_DEBUG`] lines of lower levels, and it is said how many were left out: before the next
//! one that is logged, or when the window is over. Information lines are written by us, not caused by peers, and pass.

mod outlet;
mod threshold;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd as _;
use std::panic;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, LogFormat};
use crate::io::check::{self, StartError};
use crate::mesh::Tally;
use outlet::{Outlet, outlet};
use threshold::Threshold;

/// Warnings and errors one place in the source may log per window.
const BURST: u32 = 10;
/// Lines of level debug and trace one place may log per window.
const BURST_DEBUG: u32 = 100;
/// Target of the lines of the access log, which is shown: nothing else has one that is.
const ACCESS: &str = "access";
/// Length of the window.
const WINDOW: Duration = Duration::from_secs(10);
/// How long the end of the process waits for what is still to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process, once it is started.
static STARTED: OnceLock<Started> = OnceLock::new();

/// The form of what is written before it is started, and behind it.
static FORM: OnceLock<LogFormat> = OnceLock::new();

#[derive(Debug)]
struct Started {
    outlet: Outlet,
    places: Places,
    threshold: Threshold,
}

/// Sends the logs of the whole process to stderr, as the configuration asks; panics, too, so that none of them waits for a
/// stderr that nobody reads.
///
/// # Errors
/// The thread that writes cannot be started, or logs were started before.
pub fn start(config: &Config) -> Result<(), StartError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A descriptor of our own: who holds the lock of Rust's stderr while it waits would stop everybody else.
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(|error| check::fault("use stderr", &error))?;
    let (outlet, writer) = outlet();
    let places = Places::default();
    let left_out = places.clone();
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.run(File::from(stderr), 2 * WINDOW, |lost| say_missing(lost, &left_out)))
        .map_err(|error| check::no_thread("log", &error))?;
    let threshold = Threshold::new(config.log_level);
    let subscriber = subscriber(config.log_format, threshold.clone(), colours, outlet.clone(), places.clone());
    let begun = STARTED.set(Started { outlet, places, threshold }).is_ok()
        && tracing::subscriber::set_global_default(subscriber).is_ok();
    if !begun {
        let cause = "the logs were started before".to_owned();
        return Err(StartError { cause, cure: "start one engine in a process".to_owned() });
    }
    let _ = FORM.set(config.log_format);
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let mut text = format!("thread '{}' {info}\n", thread.name().unwrap_or("without a name"));
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text += &format!("{trace}\n");
        }
        match form() {
            LogFormat::Human => say_last(&text),
            LogFormat::Json => say_last(&json_line(text.trim_end(), None)),
        }
    }));
    Ok(())
}

/// Has errors be written in this form before the logs are started, too.
pub fn speak(form: LogFormat) {
    let _ = FORM.set(form);
}

fn form() -> LogFormat {
    FORM.get().copied().unwrap_or(LogFormat::Human)
}

/// Writes why the process fails, or could not start, with a cure if there is one: its last words.
pub fn say_error(cause: &str, cure: Option<&str>) {
    say_last(&match (form(), cure) {
        (LogFormat::Json, _) => json_line(cause, cure),
        (LogFormat::Human, Some(cure)) => format!("error: {cause}\n  cure: {cure}\n"),
        (LogFormat::Human, None) => format!("error: {cause}\n"),
    });
}

/// Makes a line of an error as those that are logged as JSON look.
fn json_line(message: &str, cure: Option<&str>) -> String {
    let mut timestamp = String::new();
    // Without a time it is still worth reading.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    let mut line = serde_json::json!({ "timestamp": timestamp, "level": "ERROR", "message": message });
    if let Some(cure) = cure {
        line["cure"] = cure.into();
    }
    format!("{line}\n")
}

/// Sets the least important level that is logged from now on.
pub fn set_level(level: LevelFilter) {
    if let Some(started) = STARTED.get() {
        started.threshold.set(level);
    }
}

/// Writes the last words of the process behind all that was logged; waits for that, but not for long.
pub fn say_last(text: &str) {
    match STARTED.get() {
        Some(started) => started.outlet.say_last(text, PATIENCE),
        // A stderr that is gone must not turn one failure into another.
        None => drop(io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Returns how many lines were dropped because stderr was not read, and how many were left out because one place logged too
/// many.
#[must_use]
pub fn missing() -> (u64, u64) {
    STARTED.get().map_or((0, 0), |started| (started.outlet.lost(), started.places.total.read()))
}

/// Says, on the thread that writes, what is missing and will not be said otherwise.
fn say_missing(lost: u64, places: &Places) {
    if lost > 0 {
        tracing::warn!(lines = lost, "lines were dropped, as stderr is not read");
    }
    for (place, level, lines) in places.overdue(Instant::now()) {
        if level <= Level::WARN {
            tracing::warn!(lines, place, "lines were left out");
        } else {
            tracing::debug!(lines, place, "lines were left out");
        }
    }
}

fn subscriber<W>(
    log_format: LogFormat,
    threshold: Threshold,
    colours: bool,
    writer: W,
    places: Places,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    let format = tracing_subscriber::fmt::format().with_target(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match log_format {
        LogFormat::Human => {
            let inner = format.compact();
            let named = inner.clone().with_target(true);
            lines.event_format(Bounded { inner, named, places: places.clone(), json: false }).boxed()
        }
        LogFormat::Json => {
            let inner = format.json().flatten_event(true).with_current_span(false);
            let named = inner.clone().with_target(true);
            let lines = lines.fmt_fields(JsonFields::new());
            lines.event_format(Bounded { inner, named, places: places.clone(), json: true }).boxed()
        }
    };
    tracing_subscriber::registry().with(lines).with(Bound { places }).with(threshold)
}

/// One place in the source and what it logged of late.
#[derive(Clone, Copy, Debug)]
struct Place {
    since: Instant,
    logged: u32,
    left_out: u64,
}

/// All places that ever logged a line that is counted: as many as the source has, so bounded.
#[derive(Clone, Debug, Default)]
struct Places {
    /// Nothing is written while this is locked.
    places: Arc<Mutex<HashMap<Identifier, Place>>>,
    /// Lines left out, of all places.
    total: Arc<Tally>,
}

impl Places {
    /// Returns the places, unless somebody else looks at them: a shard does not wait, not even for a thread that was kept off
    /// its core with the lock in its hand, but leaves its line out.
    fn unlocked(&self) -> Option<MutexGuard<'_, HashMap<Identifier, Place>>> {
        match self.places.try_lock() {
            Ok(places) => Some(places),
            Err(TryLockError::Poisoned(places)) => Some(places.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Counts one event of a place, and says whether it may be logged, with `burst` in a window.
    fn allow(&self, place: Identifier, burst: u32, now: Instant) -> bool {
        let Some(mut places) = self.unlocked() else {
            self.total.add(1);
            return false;
        };
        let place = places.entry(place).or_insert(Place { since: now, logged: 0, left_out: 0 });
        if now.duration_since(place.since) >= WINDOW {
            (place.since, place.logged) = (now, 0);
        }
        if place.logged < burst {
            place.logged += 1;
            true
        } else {
            place.left_out += 1;
            self.total.add(1);
            false
        }
    }

    /// Returns how many events of a place were left out since the last one logged, and forgets them.
    fn left_out(&self, place: &Identifier) -> u64 {
        let Some(mut places) = self.unlocked() else { return 0 };
        places.get_mut(place).map_or(0, |place| std::mem::take(&mut place.left_out))
    }

    /// Returns places whose window is over and that left lines out which nobody was told of: where they are, their level, and
    /// how many; and forgets the number.
    fn overdue(&self, now: Instant) -> Vec<(String, Level, u64)> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let over =
            places.iter_mut().filter(|(_, place)| place.left_out > 0 && now.duration_since(place.since) >= WINDOW);
        over.map(|(identifier, place)| {
            let metadata = identifier.0.metadata();
            let at = format!("{}:{}", metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
            (at, *metadata.level(), std::mem::take(&mut place.left_out))
        })
        .collect()
    }
}

/// Drops what a place logs beyond its bound.
#[derive(Debug)]
struct Bound {
    places: Places,
}

impl<S: Subscriber> Layer<S> for Bound {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let burst = match *metadata.level() {
            Level::INFO => return true,
            Level::ERROR | Level::WARN => BURST,
            _ => BURST_DEBUG,
        };
        self.places.allow(metadata.callsite(), burst, Instant::now())
    }
}

/// Writes, before an event, how many like it were left out.
#[derive(Debug)]
struct Bounded<F> {
    inner: F,
    /// The same with the target.
    named: F,
    places: Places,
    json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Bounded<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() == ACCESS {
            return self.named.format_event(context, writer, event);
        }
        let left_out = self.places.left_out(&event.metadata().callsite());
        if left_out > 0 {
            let level = event.metadata().level();
            if self.json {
                writeln!(
                    writer,
                    "{{\"level\":\"{level}\",\"message\":\"left out lines like the next\",\"count\":{left_out}}}"
                )?;
            } else {
                writeln!(writer, "{left_out} lines like the next were left out")?;
            }
        }
        self.inner.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::level_filters::LevelFilter;

    /// A writer that keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, body: impl FnOnce()) -> Vec<String> {
        logged_from(LevelFilter::INFO, format, body)
    }

    fn logged_from(level: LevelFilter, format: LogFormat, body: impl FnOnce()) -> Vec<String> {
        logged_at(Threshold::new(level), format, body)
    }

    fn logged_at(threshold: Threshold, format: LogFormat, body: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = subscriber(format, threshold, false, move || writer.clone(), Places::default());
        tracing::subscriber::with_default(subscriber, body);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    /// Human lines are short, say level, message and fields, and keep debug lines out at level info.
    #[test]
    fn human_lines() {
        let lines = logged(LogFormat::Human, || {
            tracing::info!(shards = 2, "ready");
            tracing::debug!("not seen");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("ready shards=2"), "{lines:?}");
        assert!(lines[0].contains(" INFO "), "{lines:?}");
        assert!(!lines[0].contains('\u{1b}'), "no colours into a file: {lines:?}");
    }

    /// Lines of the access log come at any level, say what they are, and leave out what is not known.
    #[test]
    fn lines_of_the_access_log() {
        let user: Option<&str> = None;
        let write =
            || tracing::info!(target: "access", peer = "a", user, path = "/t \u{1b}", status = 200_u16, "request");
        let human = logged_from(LevelFilter::OFF, LogFormat::Human, write);
        assert!(human.len() == 1 && human[0].contains(" INFO access: request peer="), "{human:?}");
        assert!(!human[0].contains('\u{1b}') && !human[0].contains("user"), "{human:?}");
        let json = logged_from(LevelFilter::OFF, LogFormat::Json, write);
        let line: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(
            (&line["target"], &line["message"], &line["status"]),
            (&"access".into(), &"request".into(), &200.into())
        );
        assert!(line.get("user").is_none(), "{line}");
    }

    /// The level can change while the process runs, up and down, for places that have logged before as for others.
    #[test]
    fn the_level_changes() {
        let threshold = Threshold::new(LevelFilter::INFO);
        let lines = logged_at(threshold.clone(), LogFormat::Human, || {
            for level in [LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::ERROR, LevelFilter::INFO] {
                threshold.set(level);
                tracing::info!(%level, "one");
                tracing::debug!(%level, "two");
            }
        });
        let ends: Vec<_> =
            lines.iter().map(|line| line.split_once("Z ").map_or(line.as_str(), |(_, end)| end.trim())).collect();
        assert_eq!(
            ends,
            ["INFO one level=info", "INFO one level=debug", "DEBUG two level=debug", "INFO one level=info"]
        );
    }

    /// JSON lines are objects with level, message and fields; bytes of peers cannot break out of them.
    #[test]
    fn json_lines() {
        let lines = logged(LogFormat::Json, || tracing::warn!(peer = "a\"\n{b", "refused"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("WARN"), Some("refused")));
        assert_eq!(line["peer"], "a\"\n{b");
    }

    /// Control characters of a peer do not reach a terminal through a human line.
    #[test]
    fn human_lines_are_one_line() {
        let lines = logged(LogFormat::Human, || tracing::warn!(peer = "a\nb\u{1b}[2J", "refused"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].contains('\u{1b}'), "{lines:?}");
    }

    /// A place that repeats a warning is cut off; information and other places are not.
    #[test]
    fn repeated_warnings_are_bounded() {
        let lines = logged(LogFormat::Human, || {
            for i in 0..1000 {
                tracing::warn!(i, "again");
                tracing::info!(i, "progress");
            }
            tracing::warn!("something else");
        });
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!((count("again"), count("progress"), count("something else")), (BURST as usize, 1000, 1));
    }

    /// Debug lines, which a peer causes as well, are cut off too: `--log-level debug` once wrote as fast as a peer asked for.
    #[test]
    fn debug_lines_are_bounded() {
        let lines = logged_from(LevelFilter::TRACE, LogFormat::Human, || {
            for i in 0..10_000 {
                tracing::debug!(i, "again");
                tracing::trace!(i, "and again");
            }
        });
        assert_eq!(lines.len(), 2 * BURST_DEBUG as usize);
    }

    /// After the window a place may log again, and what was left out is counted and told once.
    #[test]
    fn left_out_lines_are_counted() {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || {
            let places = Places::default();
            let place = tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, fields: message);
            let place = || tracing::callsite::Callsite::metadata(place).callsite();
            let start = Instant::now();
            let allowed = (0..25).filter(|_| places.allow(place(), BURST, start)).count();
            assert_eq!(allowed, BURST as usize);
            assert!(places.allow(place(), BURST, start + WINDOW));
            assert_eq!(places.left_out(&place()), 15);
            assert_eq!(places.left_out(&place()), 0);
            assert_eq!(places.total.read(), 15);
        });
    }

    /// A place that falls silent has what it left out told when its window is over, once: nobody waits for its next line.
    #[test]
    fn silent_places_are_told() {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || {
            let places = Places::default();
            let place = tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, fields: message);
            let place = || tracing::callsite::Callsite::metadata(place).callsite();
            let start = Instant::now();
            assert_eq!((0..25).filter(|_| places.allow(place(), BURST, start)).count(), BURST as usize);
            assert_eq!(places.overdue(start + WINDOW / 2), []);
            let told = places.overdue(start + WINDOW);
            assert!(matches!(&told[..], [(at, _, 15)] if at.contains("log.rs:")), "{told:?}");
            assert_eq!(places.overdue(start + WINDOW), []);
        });
    }
}
