//! `corecast sub TOPIC...`: prints messages as they come, and comes back with its cursors when the connection breaks.
//!
//! Owns: the positions in the topics, which outlive every connection, and the wait between two of them. How one
//! connection is made and read is a file for each family of transports; what they deliver comes together in
//! [`Subscriber::message`] and [`Subscriber::gap`].
//! Never: prints a message twice or leaves one out without saying so on stderr.

mod answer;
mod poll;
mod position;
mod read;
mod stream;
mod wait;
mod websocket;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use corecast::io::check::StartError;
use corecast_protocol::cursor::LIST_MAX;
use corecast_protocol::line::{self, GapReason};
use corecast_protocol::message::Op;
use corecast_protocol::write::Writer;
use corecast_protocol::{self as protocol, record, topic};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, HeaderValue};

use super::Outcome;
use super::client::{Client, Headers, Reach};
use super::print::{Printer, Shape};
use super::wire::NoConnection;
use position::{Place, Position};
use read::{Gap, Item};

/// The server shows a sign of life after 25 s; twice that and a little without a byte means that it, or the way to it,
/// is gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// What it may take to end after a signal, whatever it waits for: an engine, or who reads what is printed.
const PATIENCE_AT_END: Duration = Duration::from_secs(5);
/// A stream that ended in order after less than this is no reason to be quick.
const ENDED_AFTER_MIN: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Topics to subscribe to.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    reach: Reach,
    /// The way the messages come; all topics come on one connection.
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    transport: Transport,
    /// Where to start: `latest`, `live`, `earliest`, `-N` for the newest N, or a cursor for each topic, joined by commas.
    #[arg(long, value_name = "WHERE", default_value = "latest", allow_hyphen_values = true)]
    since: String,
    /// Skips to the newest message whenever more than one waits.
    #[arg(long)]
    conflate: bool,
    /// At most one message of a topic in so many milliseconds, the newest; with `poll` also the pause between two polls.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..))]
    every: Option<u32>,
    /// Members of records to get, as in `bid,ask,depth.first`; all others are left out.
    #[arg(long, value_name = "MEMBERS")]
    fields: Option<String>,
    /// Gets only messages that a condition is true of, as in `bid > 1.08 AND venue IN ('EBS', 'LMAX')`.
    #[arg(long = "where", value_name = "CONDITION")]
    selector: Option<String>,
    /// Is sent only what changed, and prints whole values all the same.
    #[arg(long)]
    delta: bool,
    /// Is sent at most so many bytes a second.
    #[arg(long, value_name = "BYTES")]
    bandwidth: Option<u32>,
    /// Is sent what comes in so many milliseconds together.
    #[arg(long, value_name = "MS")]
    batch: Option<u32>,
    /// Ends after so many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Prints every message as a JSON object a line, and gaps and the engine's goodbyes among them.
    #[arg(long)]
    json: bool,
    /// Prints payloads only, byte for byte, each followed by a line feed.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// The ways that messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Transport {
    /// The line protocol.
    Websocket,
    /// Server-sent events.
    Sse,
    /// A JSON object a line.
    Stream,
    /// A part a message.
    Multipart,
    /// A script a message, in a page that never ends.
    ForeverFrame,
    /// A request that waits for each answer.
    LongPoll,
    /// A request now and then.
    Poll,
    /// Long polls whose answers are scripts.
    Jsonp,
}

impl Transport {
    /// Returns its name in the query of a request.
    fn name(self) -> &'static str {
        match self {
            Transport::Websocket => "websocket",
            Transport::Sse => "sse",
            Transport::Stream => "stream",
            Transport::Multipart => "multipart",
            Transport::ForeverFrame => "forever-frame",
            Transport::LongPoll => "long-poll",
            Transport::Poll => "poll",
            Transport::Jsonp => "jsonp",
        }
    }
}

impl Arguments {
    /// Says whether old values may be left out.
    fn conflates(&self) -> bool {
        self.conflate || self.every.is_some()
    }

    /// Returns what the query of a stream says about that, and of what is wanted and how fast.
    fn conflation(&self) -> String {
        let conflate = if self.conflate { "&conflate=1" } else { "" };
        let numbers = [("every", self.every), ("batch", self.batch), ("bandwidth", self.bandwidth)];
        let numbers = numbers.iter().filter_map(|(name, value)| Some(format!("&{name}={}", (*value)?)));
        conflate.to_owned() + &numbers.collect::<String>() + &self.viewed()
    }

    /// Returns what the query of any request says of what is wanted.
    fn viewed(&self) -> String {
        let texts = [("fields", &self.fields), ("where", &self.selector)];
        let texts = texts.iter().filter_map(|(name, value)| Some(format!("&{name}={}", encoded(value.as_ref()?))));
        let delta = if self.delta { "&delta=1" } else { "" };
        texts.collect::<String>() + delta
    }

    fn view(&self) -> line::View<'_> {
        line::View { fields: self.fields.as_deref(), selector: self.selector.as_deref(), delta: self.delta }
    }
}

/// Encodes a value of a query.
fn encoded(text: &str) -> String {
    let keeps = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if keeps(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Why a connection is over.
#[derive(Debug)]
enum End {
    /// We are done: stopped, or counted enough.
    Done,
    /// What we print cannot be written: nobody reads it, or the disk is full.
    Unwritten(io::Error),
    /// Nobody answered, or nobody whom we believe.
    Unreachable(NoConnection),
    /// It ended in order, and there is no reason not to come back at once. Says what happened, as the others do.
    Ended(String),
    /// It broke, or the server may have room later; it is worth another attempt.
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

fn prepare(arguments: &Arguments) -> Result<Subscriber<'_>, StartError> {
    let wrong = |cause: String, cure: &str| StartError { cause, cure: cure.to_owned() };
    let topics = &arguments.topics;
    let starts = position::starts(&arguments.since, topics.len()).map_err(|problem| {
        let cause = format!("--since `{}`: {problem}", arguments.since);
        wrong(cause, "use latest, live, earliest, -N, or a cursor as `corecast sub` prints it for each topic")
    })?;
    if topics.len() > LIST_MAX && arguments.transport != Transport::Websocket {
        let cause = format!("{} topics do not fit into one request, only {LIST_MAX}", topics.len());
        return Err(wrong(cause, "use --transport websocket, or run it several times"));
    }
    let mut places = HashMap::new();
    for (n, name) in topics.iter().enumerate() {
        topic::validate_subscribe(name).map_err(|error| {
            let cause = format!("`{name}` is not a topic: {}", error.text());
            wrong(cause, "use words joined by `/`, as in news/sport")
        })?;
        if places.insert(name.as_str(), n).is_some() {
            return Err(wrong(format!("the topic `{name}` is named twice"), "name it once"));
        }
    }
    let shape = match (arguments.json, arguments.raw) {
        (true, _) => Shape::Json,
        (_, true) => Shape::Raw,
        _ => Shape::Plain,
    };
    let signals = super::signals(PATIENCE_AT_END, super::Hangup::Ends)?;
    let client = Arc::new(Client::new(&arguments.reach, Some(signals.clone()))?);
    Ok(Subscriber {
        arguments,
        agent: client.agent(None),
        client,
        shown: None,
        again: None,
        topics: topics.clone(),
        places,
        positions: starts.into_iter().map(Position::new).collect(),
        stood: false,
        printer: Printer::new(shape),
        left: arguments.count,
        values: HashMap::new(),
        signals,
    })
}

struct Subscriber<'a> {
    arguments: &'a Arguments,
    client: Arc<Client>,
    agent: Agent,
    /// The token that was shown last.
    shown: Option<HeaderValue>,
    /// When the server wants to see us again, from the end of this connection on.
    again: Option<Duration>,
    topics: Vec<String>,
    /// Where each topic stands in `topics` and `positions`.
    places: HashMap<&'a str, usize>,
    positions: Vec<Position>,
    /// A request for all topics was answered: from now on cursors say where to go on, not the words of the user.
    stood: bool,
    printer: Printer,
    /// Messages still to print.
    left: Option<u64>,
    /// Where changes are applied: by topic and key, what it has.
    values: HashMap<(String, String), Vec<u8>>,
    signals: Receiver<i32>,
}

impl Subscriber<'_> {
    fn run(&mut self) -> Outcome {
        let url = self.client.url.clone();
        let mut attempts = 0;
        let mut connected_once = false;
        loop {
            let start = Instant::now();
            let over = match self.arguments.transport {
                Transport::Websocket => self.websocket(),
                Transport::LongPoll | Transport::Poll | Transport::Jsonp => self.poll(),
                _ => self.stream(),
            };
            // What came before the end is not kept back until the next attempt.
            let shown = self.printer.flush();
            let Err(mut end) = over;
            if self.stopped() {
                end = End::Done;
            }
            // A connection that held for a while is no reason to wait longer and longer.
            let held = match end {
                End::Ended(_) => ENDED_AFTER_MIN,
                _ => SILENCE_MAX,
            };
            if start.elapsed() >= held {
                attempts = 0;
            }
            // Never sooner than asked; and not all at the same moment.
            let wait =
                wait::backoff(attempts, RandomState::new().hash_one(attempts)) + self.again.take().unwrap_or_default();
            if let Err(error) = shown {
                return super::written(Err(error));
            }
            let cause = match end {
                End::Done => return Outcome::Fine,
                End::Unwritten(error) => return super::written(Err(error)),
                End::Refused(cause) => return Outcome::Failed(format!("{url}: {cause}")),
                End::Unreachable(none) if !connected_once && !self.stood => {
                    let cause = format!("cannot subscribe at {url}: {none}");
                    return Outcome::CannotStart(vec![StartError { cause, cure: none.cure.to_owned() }]);
                }
                End::Unreachable(none) if none.is_final => return Outcome::Failed(format!("{url}: {none}")),
                End::Unreachable(none) => none.cause,
                End::Ended(cause) | End::Broken(cause) => {
                    connected_once = true;
                    cause
                }
            };
            attempts += 1;
            self.tell(&format!("{url}: {cause}; trying again in {} ms", wait.as_millis()));
            if self.stops_within(wait) {
                return Outcome::Fine;
            }
        }
    }

    fn stopped(&self) -> bool {
        self.signals.try_recv().is_ok()
    }

    fn stops_within(&self, wait: Duration) -> bool {
        !matches!(self.signals.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }

    /// Says something on stderr, behind what was printed before. A stderr that is gone is no reason to stop.
    fn tell(&mut self, text: &str) {
        // If that fails, it will again, where it is looked at.
        let _ = self.printer.flush();
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Returns the combined cursor of what was read.
    fn place(&mut self) -> String {
        let cursor = |position: &mut Position| {
            position.resume();
            position.exactly().unwrap_or_default()
        };
        position::list(self.positions.iter_mut().map(cursor))
    }

    /// Returns where the user wants to start, as a query says it.
    fn start(&self) -> String {
        self.arguments.since.clone()
    }

    /// Acts on what a reader found.
    fn accept(&mut self, item: &Item) -> Result<(), End> {
        match item {
            Item::Message(message) => self.message(&message.lent()),
            Item::SnapshotEnd { topic, cursor } => self.printer.snapshot_end(topic, *cursor).map_err(End::Unwritten),
            Item::Gap(gap) => self.gap(gap),
            Item::Refused { name, text } => {
                let said = self.goodbye(name, text)?;
                match name.as_str() {
                    "forbidden" | "unauthorized" | "invalid-token" | "expired" => Err(self.denied(said)),
                    _ => Ok(()),
                }
            }
            Item::Retry(wait) => {
                self.again = Some(wait::bounded(*wait));
                Ok(())
            }
        }
    }

    /// Returns what to send with the next request, and remembers which token it shows.
    fn headers(&mut self) -> Result<Headers, End> {
        let headers = self.client.headers().map_err(End::Refused)?;
        self.shown = headers.iter().rev().find(|(name, _)| *name == AUTHORIZATION).map(|(_, value)| value.clone());
        Ok(headers)
    }

    /// What the engine does not let us do it will not later, unless there is another token by then than the one that was shown.
    fn denied(&self, cause: String) -> End {
        match self.client.authorization() {
            Ok(Some(token)) if self.shown.as_ref() != Some(&token) => End::Broken(cause),
            _ => End::Refused(cause),
        }
    }

    /// The engine says why it is about to end this connection; returns that, fit for a terminal.
    fn goodbye(&mut self, name: &str, text: &str) -> Result<String, End> {
        self.again = wait::in_words(text).or(self.again);
        self.printer.refused(name, text).map_err(End::Unwritten)?;
        let said = format!("{name}: {}", text.escape_debug());
        self.tell(&format!("the engine says goodbye: {said}"));
        Ok(said)
    }

    fn index(&self, topic: &str) -> Result<usize, End> {
        let unwanted =
            || End::Refused(format!("a message of `{}` came, which was not asked for", topic.escape_debug()));
        self.places.get(topic).copied().ok_or_else(unwanted)
    }

    /// Prints a message, unless it was printed before; tells of a new epoch that nobody told of.
    fn message(&mut self, message: &protocol::Message<'_>) -> Result<(), End> {
        let index = self.index(message.topic)?;
        match self.positions[index].saw(message.cursor) {
            Place::Next => {}
            Place::Again => return Ok(()),
            Place::Elsewhere => {
                self.tell(&format!("gap: {} began anew, and nobody said so; messages may be missing", message.topic));
            }
        }
        let whole = self.whole_value(message)?;
        let message = match &whole {
            Some(whole) => protocol::Message { payload: whole, op: Op::Put, text: true, ..*message },
            None => *message,
        };
        self.printer.message(&message).map_err(End::Unwritten)?;
        if let Some(left) = &mut self.left {
            *left -= 1;
            if *left == 0 {
                return Err(End::Done);
            }
        }
        Ok(())
    }

    /// Applies a change to what there is, and returns the whole; none of a message that is whole.
    fn whole_value(&mut self, message: &protocol::Message<'_>) -> Result<Option<Vec<u8>>, End> {
        if !self.arguments.delta {
            return Ok(None);
        }
        let place = (message.topic.to_owned(), message.key.to_owned());
        match message.op {
            Op::Put => drop(self.values.insert(place, message.payload.to_vec())),
            Op::Delete if message.key.is_empty() => self.forget_values(message.topic),
            Op::Delete => drop(self.values.remove(&place)),
            Op::Merge => {
                let wrong = || End::Broken(format!("a change of {} came, of nothing that there is", place.0));
                let before = self.values.get(&place).ok_or_else(wrong)?;
                let mut whole = vec![0; before.len() + message.payload.len() + 2];
                let mut w = Writer::new(&mut whole);
                let merged = record::merge(before, message.payload, &mut vec![0; record::MEMBERS_MAX], &mut w).is_ok();
                let length = w.finish().ok().filter(|_| merged).ok_or_else(wrong)?;
                whole.truncate(length);
                self.values.insert(place, whole.clone());
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }

    fn forget_values(&mut self, topic: &str) {
        self.values.retain(|(of, _), _| of != topic);
    }

    /// Tells of messages that will not come.
    fn gap(&mut self, gap: &Gap) -> Result<(), End> {
        let index = self.index(&gap.topic)?;
        let from = self.positions[index].exactly().unwrap_or_default();
        self.positions[index].passed(gap.to);
        if gap.reason != GapReason::Conflated {
            self.forget_values(&gap.topic);
        }
        let Gap { ref topic, to, count, reason } = *gap;
        self.printer.gap(&protocol::Gap { topic, from, to, count, reason, of: "" }).map_err(End::Unwritten)?;
        self.tell(&format!("gap: {} messages of {} are gone ({})", gap.count, gap.topic, gap.reason.as_str()));
        Ok(())
    }
}
