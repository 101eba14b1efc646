//! Logs of the process: human lines or JSON on stderr, and a bound on how often one place may complain.
//!
//! Owns: the subscriber of `tracing`, set once by [`start`]. A peer can cause a warning as often as it likes, and stderr
//! may be a slow pipe; so each place in the source logs at most [`BURST`] warnings or errors per [`WINDOW`], and the next
//! one that is logged says how many were left out. Information lines are written by us, not caused by peers, and pass.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use crate::config::{Config, LogFormat};

/// Warnings and errors one place in the source may log per window.
const BURST: u32 = 10;
/// Length of the window.
const WINDOW: Duration = Duration::from_secs(10);

/// Sends the logs of the whole process to stderr, as the configuration asks.
///
/// # Errors
/// Logs were started before.
pub fn start(config: &Config) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing::subscriber::set_global_default(subscriber(config, colours, io::stderr))
}

fn subscriber<W>(config: &Config, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let places = Places::default();
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(colours);
    let format = tracing_subscriber::fmt::format().with_target(false);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Human => {
            let format = format.compact();
            lines.event_format(Bounded { inner: format, places: places.clone(), json: false }).boxed()
        }
        LogFormat::Json => {
            let format = format.json().flatten_event(true).with_current_span(false);
            let lines = lines.fmt_fields(JsonFields::new());
            lines.event_format(Bounded { inner: format, places: places.clone(), json: true }).boxed()
        }
    };
    tracing_subscriber::registry().with(lines).with(Bound { places }).with(config.log_level)
}

/// One place in the source and what it logged of late.
#[derive(Clone, Copy, Debug)]
struct Place {
    since: Instant,
    logged: u32,
    left_out: u64,
}

/// All places that ever warned: as many as the source has warnings, so bounded.
#[derive(Clone, Debug, Default)]
struct Places(Arc<Mutex<HashMap<Identifier, Place>>>);

impl Places {
    /// Counts one event of a place, and says whether it may be logged.
    fn allow(&self, place: Identifier, now: Instant) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place).or_insert(Place { since: now, logged: 0, left_out: 0 });
        if now.duration_since(place.since) >= WINDOW {
            (place.since, place.logged) = (now, 0);
        }
        if place.logged < BURST {
            place.logged += 1;
            true
        } else {
            place.left_out += 1;
            false
        }
    }

    /// Returns how many events of a place were left out since the last one logged, and forgets them.
    fn left_out(&self, place: &Identifier) -> u64 {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.get_mut(place).map_or(0, |place| std::mem::take(&mut place.left_out))
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
        *metadata.level() > Level::WARN || self.places.allow(metadata.callsite(), Instant::now())
    }
}

/// Writes, before an event, how many like it were left out.
#[derive(Debug)]
struct Bounded<F> {
    inner: F,
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
    use crate::config::Host;

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
        let host = Host { cores: vec![0], memory_bytes: 1 << 30 };
        let config = Config { log_format: format, ..Config::default_on(&host) };
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::subscriber::with_default(subscriber(&config, false, move || writer.clone()), body);
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

    /// After the window a place may log again, and what was left out is counted and told once.
    #[test]
    fn left_out_lines_are_counted() {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || {
            let places = Places::default();
            let place = tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, fields: message);
            let place = || tracing::callsite::Callsite::metadata(place).callsite();
            let start = Instant::now();
            let allowed = (0..25).filter(|_| places.allow(place(), start)).count();
            assert_eq!(allowed, BURST as usize);
            assert!(places.allow(place(), start + WINDOW));
            assert_eq!(places.left_out(&place()), 15);
            assert_eq!(places.left_out(&place()), 0);
        });
    }
}
