//! `corecast sub TOPIC...`: prints messages as they come, and comes back with its cursors when the connection breaks.
//!
//! Owns: the positions in the topics, which outlive every connection, and the wait between two of them.
//! Never: prints a message twice or leaves one out without saying so on stderr.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use corecast::config::Problem;
use corecast_protocol::line::{self, ErrCode, ServerLine};
use corecast_protocol::{Cursor, Since, topic};
use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::Outcome;
use super::connect::Url;
use super::lines::{Line, Lines};
use super::print::{Printer, Shape};

/// The server pings after 25 s; twice that and a little without a byte means that it, or the way to it, is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Shortest and longest wait before the next attempt to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Topics to subscribe to.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where the engine is.
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "CORECAST_URL")]
    url: Url,
    /// Where to start: `latest`, `live`, `earliest`, `-N` for the newest N, or a cursor.
    #[arg(long, value_name = "WHERE", default_value = "latest", allow_hyphen_values = true)]
    since: String,
    /// Ends after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Prints every message as a JSON object.
    #[arg(long)]
    json: bool,
    /// Prints payloads only, byte for byte, each followed by a line feed.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// Where one topic is read from when the connection is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    since: Since,
    /// A message was seen: `since` is its cursor.
    seen: bool,
}

impl Position {
    /// A message arrived.
    fn saw(&mut self, cursor: Cursor) {
        *self = Position { since: Since::After(cursor), seen: true };
    }

    /// The subscription stands, and the topic's head is `head`. Until a message was seen, what came between the
    /// subscription and the end of the connection would be lost on `latest` and `live` alone.
    fn stands(&mut self, head: Cursor) {
        match self.since {
            Since::Live if !self.seen => self.since = Since::After(head),
            // The newest message itself may still be on its way.
            Since::Latest if !self.seen => {
                self.since = Since::After(Cursor { seq: head.seq.saturating_sub(1), ..head });
            }
            _ => {}
        }
    }
}

/// Why a connection is over.
enum End {
    /// We are done: stopped, counted enough, or nobody reads what we print.
    Done,
    /// It broke; it is worth another attempt. Says what happened.
    Broken(String),
    /// Another attempt would end the same.
    Refused(String),
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    match prepare(arguments) {
        Ok(mut subscriber) => subscriber.run(),
        Err(problem) => Outcome::CannotStart(vec![problem]),
    }
}

fn prepare(arguments: &Arguments) -> Result<Subscriber<'_>, Problem> {
    let wrong = |cause: String, cure: &str| Problem { cause, cure: cure.to_owned() };
    let since = Since::parse(&arguments.since).map_err(|violation| {
        let cause = format!("--since `{}`: {}", arguments.since, violation.text());
        wrong(cause, "use latest, live, earliest, -N, or a cursor as `corecast sub` prints it")
    })?;
    let mut positions = HashMap::new();
    for name in &arguments.topics {
        topic::validate_subscribe(name).map_err(|error| {
            let cause = format!("`{name}` is not a topic: {}", error.text());
            wrong(cause, "use words joined by `/`, as in news/sport")
        })?;
        positions.insert(name.as_str(), Position { since, seen: false });
    }
    let shape = match (arguments.json, arguments.raw) {
        (true, _) => Shape::Json,
        (_, true) => Shape::Raw,
        _ => Shape::Plain,
    };
    Ok(Subscriber {
        arguments,
        positions,
        printer: Printer::new(shape),
        left: arguments.count,
        signals: super::signals()?,
    })
}

struct Subscriber<'a> {
    arguments: &'a Arguments,
    positions: HashMap<&'a str, Position>,
    printer: Printer,
    /// Messages still to print.
    left: Option<u64>,
    signals: Receiver<i32>,
}

impl Subscriber<'_> {
    fn run(&mut self) -> Outcome {
        let url = &self.arguments.url;
        let mut attempts = 0;
        let mut connected_once = false;
        loop {
            let end = match Lines::open(url) {
                Ok(mut lines) => {
                    connected_once = true;
                    let start = Instant::now();
                    let end = self.session(&mut lines);
                    // A connection that held for a while is no reason to wait longer and longer.
                    if start.elapsed() > SILENCE_MAX {
                        attempts = 0;
                    }
                    if matches!(end, End::Done) {
                        lines.close();
                    }
                    end
                }
                Err(refusal) if refusal.permanent => End::Refused(refusal.cause),
                Err(refusal) if !connected_once => {
                    return Outcome::CannotStart(vec![Problem {
                        cause: format!("cannot subscribe at {url}: {}", refusal.cause),
                        cure: "start the engine with `corecast`, or say where it is with --url".to_owned(),
                    }]);
                }
                Err(refusal) => End::Broken(refusal.cause),
            };
            match end {
                End::Done => return Outcome::Fine,
                End::Refused(cause) => return Outcome::Failed(format!("{url}: {cause}")),
                End::Broken(cause) => {
                    let wait = backoff(attempts, RandomState::new().hash_one(attempts));
                    attempts += 1;
                    let _ = writeln!(io::stderr(), "{url}: {cause}; trying again in {} ms", wait.as_millis());
                    if !matches!(self.signals.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                        return Outcome::Fine;
                    }
                }
            }
        }
    }

    /// Subscribes, and prints what comes until the connection is over.
    fn session(&mut self, lines: &mut Lines) -> End {
        for (n, name) in self.arguments.topics.iter().enumerate() {
            let since = self.positions[name.as_str()].since;
            let id = n.to_string();
            if let Err(cause) = lines.send(|w| line::sub(w, name, Some(since), false, 0, Some(&id))) {
                return End::Broken(cause);
            }
        }
        let mut heard = Instant::now();
        loop {
            if self.signals.try_recv().is_ok() {
                return End::Done;
            }
            match lines.next() {
                Ok(Line::Message(message)) => {
                    heard = Instant::now();
                    if let Some(end) = self.take(message) {
                        return end;
                    }
                }
                Ok(Line::Alive) => heard = Instant::now(),
                Ok(Line::Nothing) => {
                    // Printed lines wait for company only while more is to be read.
                    if !self.printer.flush() {
                        return End::Done;
                    }
                    if heard.elapsed() > SILENCE_MAX {
                        return End::Broken(format!("no sign of life for {} s", SILENCE_MAX.as_secs()));
                    }
                }
                Err(cause) => {
                    self.printer.flush();
                    return End::Broken(cause);
                }
            }
        }
    }

    /// Acts on one message of the server.
    fn take(&mut self, message: &mut [u8]) -> Option<End> {
        let parsed = match line::parse_server(message) {
            Ok(parsed) => parsed,
            Err(violation) => {
                return Some(End::Refused(format!("not an engine? {}", violation.text())));
            }
        };
        match parsed {
            ServerLine::Msg { topic, cursor, event, payload } => {
                let position = self.positions.get_mut(topic)?;
                position.saw(cursor);
                if !self.printer.message(topic, cursor, event, payload) {
                    return Some(End::Done);
                }
                if let Some(left) = &mut self.left {
                    *left -= 1;
                    if *left == 0 {
                        self.printer.flush();
                        return Some(End::Done);
                    }
                }
            }
            ServerLine::Gap { topic, count, reason, .. } => {
                self.printer.flush();
                let _ = writeln!(io::stderr(), "gap: {count} messages of {topic} are gone ({})", reason.as_str());
            }
            ServerLine::Ok { token, cursor } => {
                let name = token.parse().ok().and_then(|n: usize| self.arguments.topics.get(n))?;
                if let (Some(head), Some(position)) = (cursor, self.positions.get_mut(name.as_str())) {
                    position.stands(head);
                }
            }
            ServerLine::Err { token, code, text } => {
                let name = token.and_then(|token| token.parse().ok()).and_then(|n: usize| self.arguments.topics.get(n));
                let name = name.map_or("", String::as_str);
                let cause = format!("{name} {}: {text}", code.as_str()).trim_start().to_owned();
                return Some(match code {
                    ErrCode::Full | ErrCode::Rate => End::Broken(cause),
                    _ => End::Refused(cause),
                });
            }
            ServerLine::Bye { code, text } => {
                let _ = writeln!(io::stderr(), "the engine says goodbye: {code} {text}");
            }
            ServerLine::Hi { .. } | ServerLine::Pong { .. } => {}
        }
        None
    }
}

/// Returns how long to wait before attempt number `attempts` after the first: twice as long each time, up to a limit,
/// and a random half of it less, so that clients that lost one engine do not all come back at once.
fn backoff(attempts: u32, random: u64) -> Duration {
    let (least, most) = BACKOFF;
    let whole = least.saturating_mul(1 << attempts.min(16)).min(most);
    whole / 2 + (whole / 2).mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: 7, seq }
    }

    /// After a broken connection a topic goes on behind the last message seen, or where the subscription stood.
    #[test]
    fn positions_outlive_connections() {
        let position = |since| Position { since, seen: false };
        for (since, head, expected) in [
            (Since::Live, 5, Since::After(cursor(5))),
            (Since::Latest, 5, Since::After(cursor(4))),
            (Since::Latest, 0, Since::After(cursor(0))),
            (Since::Earliest, 5, Since::Earliest),
            (Since::Last(3), 5, Since::Last(3)),
            (Since::After(cursor(2)), 5, Since::After(cursor(2))),
        ] {
            let mut position = position(since);
            position.stands(cursor(head));
            assert_eq!(position.since, expected, "{since:?}");
            position.saw(cursor(9));
            position.stands(cursor(20));
            assert_eq!(position.since, Since::After(cursor(9)), "{since:?}: the head is not what was seen");
        }
    }

    /// The wait doubles up to its limit, and is spread over half of itself.
    #[test]
    fn waits_grow_and_spread() {
        assert_eq!(backoff(0, 0), Duration::from_millis(125));
        assert_eq!(backoff(0, u64::MAX), Duration::from_millis(250));
        assert_eq!(backoff(3, u64::MAX), Duration::from_secs(2));
        for attempts in [10, 100, u32::MAX] {
            assert_eq!(backoff(attempts, u64::MAX), BACKOFF.1);
            assert_eq!(backoff(attempts, 0), BACKOFF.1 / 2);
        }
    }
}
