//! `corecast pub TOPIC [DATA|-]`: publishes over HTTP and prints the cursor of every message.

use std::io::{self, BufRead as _, Read as _, Write as _};

use corecast_protocol::message::check_event;
use corecast_protocol::topic;
use serde_json::Value;

use super::Outcome;
use super::connect::{Exchange, Url, refusal, topic_path};
use corecast::io::check::StartError;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Topic to publish to, as in `news/sport`.
    topic: String,
    /// The message; `-` or nothing reads it from stdin.
    data: Option<String>,
    /// Where the engine is.
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "CORECAST_URL")]
    url: Url,
    /// Name of the event, 1 to 64 visible ASCII characters.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Reads stdin, and publishes every line as one message.
    #[arg(long, conflicts_with = "data")]
    lines: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    if let Err(problem) = check(arguments) {
        return Outcome::CannotStart(vec![problem]);
    }
    // Before stdin is read: whoever types a message should not learn only then that nobody takes it.
    let exchange = match Exchange::open(&arguments.url) {
        Ok(exchange) => exchange,
        Err(error) => {
            return Outcome::CannotStart(vec![StartError {
                cause: format!("cannot publish at {}: {error}", arguments.url),
                cure: "start the engine with `corecast`, or say where it is with --url".to_owned(),
            }]);
        }
    };
    match publish(arguments, exchange) {
        Ok(()) => Outcome::Fine,
        Err(cause) => Outcome::Failed(cause),
    }
}

fn check(arguments: &Arguments) -> Result<(), StartError> {
    let topic = &arguments.topic;
    topic::validate(topic).map_err(|error| StartError {
        cause: format!("`{topic}` is not a topic: {}", error.text()),
        cure: "use words joined by `/`, as in news/sport".to_owned(),
    })?;
    match &arguments.event {
        Some(event) => check_event(event).map_err(|violation| StartError {
            cause: format!("`{event}` cannot name an event: {}", violation.text()),
            cure: "use 1 to 64 visible ASCII characters, beginning with something of your own".to_owned(),
        }),
        None => Ok(()),
    }
}

fn publish(arguments: &Arguments, exchange: Exchange) -> Result<(), String> {
    let mut publisher = Publisher { arguments, exchange: Some(exchange) };
    let stdin = io::stdin();
    if arguments.lines {
        let mut lines = stdin.lock();
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line).map_err(|error| format!("cannot read stdin: {error}"))?;
            if length == 0 {
                return Ok(());
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if !publisher.send(&line)? {
                return Ok(());
            }
        }
    }
    let mut payload = Vec::new();
    match arguments.data.as_deref() {
        Some("-") | None => {
            stdin.lock().read_to_end(&mut payload).map_err(|error| format!("cannot read stdin: {error}"))?;
        }
        Some(data) => payload.extend_from_slice(data.as_bytes()),
    }
    publisher.send(&payload).map(|_| ())
}

struct Publisher<'a> {
    arguments: &'a Arguments,
    exchange: Option<Exchange>,
}

impl Publisher<'_> {
    /// Publishes one message and prints its cursor; false if nobody reads what we print.
    fn send(&mut self, payload: &[u8]) -> Result<bool, String> {
        let url = &self.arguments.url;
        let failed = |error: io::Error| format!("cannot publish at {url}: {error}");
        // Never repeats a request that failed: it may have been published before the connection broke.
        let mut exchange = match self.exchange.take() {
            Some(exchange) if exchange.stands() => exchange,
            _ => Exchange::open(url).map_err(failed)?,
        };
        let target = format!("{}/topics/{}", url.prefix, topic_path(&self.arguments.topic));
        let event = self.arguments.event.as_deref().map(|event| ("Corecast-Event", event));
        let (status, body) = exchange.ask("POST", &target, event.as_slice(), payload).map_err(failed)?;
        self.exchange = Some(exchange);
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        let text = |key: &str| json.as_ref().and_then(|json| json[key].as_str());
        match (status, text("cursor")) {
            (200, Some(cursor)) => match writeln!(io::stdout(), "{cursor}") {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                Err(error) => Err(format!("cannot write to stdout: {error}")),
            },
            (200, None) => Err(format!("{url} does not answer like an engine")),
            _ => Err(format!("{url} refused the message with status {status}: {}", refusal(&body))),
        }
    }
}
