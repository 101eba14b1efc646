//! `corecast pub TOPIC [DATA|-]`: publishes over HTTP and prints the cursor of every message.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use corecast::io::check::StartError;
use corecast_protocol::message::{Op, check_event, check_key};
use corecast_protocol::producer::check_producer;
use corecast_protocol::topic;
use serde_json::Value;
use ureq::Agent;

use super::Outcome;
use super::client::{self, Client, Reach, refusal};
use super::url::topic_path;

/// So often a numbered message is sent, in all, and so long after it failed.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Largest body of an answer in bytes; what the engine answers to a publish is a few hundred.
const BODY_BYTES_MAX: u64 = 1 << 20;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Topic to publish to, as in `news/sport`.
    topic: String,
    /// The message; `-` or nothing reads it from stdin.
    data: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Name of the event, 1 to 64 visible ASCII characters.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// The key that the message is the value of, in a topic of `record = "command"`.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// What the message does to that value, or to the record of its topic: `put`, `merge` or `delete`.
    #[arg(long, value_name = "OP")]
    op: Option<String>,
    /// Publishes once and in order, as this producer; what fails is sent again. A name for each run: 1 to 64 visible ASCII characters.
    #[arg(long, value_name = "NAME")]
    producer: Option<String>,
    /// The number of the message, of the first one of lines; a producer begins with 1, and counts on.
    #[arg(long, value_name = "N", requires = "producer", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    number: u64,
    /// Reads stdin, and publishes every line as one message.
    #[arg(long, conflicts_with = "data")]
    lines: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let client = match check(arguments).and_then(|()| Client::new(&arguments.reach, None)) {
        Ok(client) => Arc::new(client),
        Err(problem) => return Outcome::CannotStart(vec![problem]),
    };
    // Before stdin is read: whoever types a message should not learn only then that nobody takes it.
    let ready = match client.connect() {
        Ok(wire) => wire,
        Err(error) => {
            let cause = format!("cannot publish at {}: {error}", client.url);
            return Outcome::CannotStart(vec![StartError { cause, cure: error.cure.to_owned() }]);
        }
    };
    let publisher = Publisher { arguments, agent: client.agent(Some(ready)), client: &client };
    match publisher.run() {
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
    if let Some(name) = &arguments.producer {
        check_producer(name).map_err(|violation| StartError {
            cause: format!("`{name}` cannot name a producer: {}", violation.text()),
            cure: "use something that nothing else uses, as in meter-7.a41f".to_owned(),
        })?;
    }
    if let Some(key) = &arguments.key {
        check_key(key).map_err(|violation| StartError {
            cause: format!("`{}` cannot be a key: {}", key.escape_debug(), violation.text()),
            cure: "use what tells one row of the table from the others".to_owned(),
        })?;
    }
    if let Some(op) = &arguments.op {
        Op::parse(op).map_err(|violation| StartError {
            cause: format!("`{}` is nothing to do: {}", op.escape_debug(), violation.text()),
            cure: "use put, merge or delete".to_owned(),
        })?;
    }
    match &arguments.event {
        Some(event) => check_event(event).map_err(|violation| StartError {
            cause: format!("`{event}` cannot name an event: {}", violation.text()),
            cure: "use 1 to 64 visible ASCII characters, beginning with something of your own".to_owned(),
        }),
        None => Ok(()),
    }
}

struct Publisher<'a> {
    arguments: &'a Arguments,
    client: &'a Client,
    agent: Agent,
}

impl Publisher<'_> {
    fn run(&self) -> Result<(), String> {
        let unread = |error| format!("cannot read stdin: {error}");
        let mut stdin = io::stdin().lock();
        let mut payload = Vec::new();
        let mut number = self.arguments.number;
        if self.arguments.lines {
            while stdin.read_until(b'\n', &mut payload).map_err(unread)? > 0 {
                payload.pop_if(|last| *last == b'\n');
                if !self.send(&payload, number)? {
                    break;
                }
                number += 1;
                payload.clear();
            }
            return Ok(());
        }
        match self.arguments.data.as_deref() {
            Some("-") | None => drop(stdin.read_to_end(&mut payload).map_err(unread)?),
            Some(data) => payload.extend_from_slice(data.as_bytes()),
        }
        self.send(&payload, number).map(|_| ())
    }

    /// Publishes one message and prints its cursor; false if nobody reads what we print.
    ///
    /// A request that failed is repeated only if its message has a number: otherwise it may have been published before the connection broke.
    fn send(&self, payload: &[u8], number: u64) -> Result<bool, String> {
        let mut attempts = if self.arguments.producer.is_some() { ATTEMPTS } else { 1 };
        let cursor = loop {
            attempts -= 1;
            match self.attempt(payload, number) {
                Ok(cursor) => break cursor,
                Err((cause, passes)) if attempts == 0 || !passes => return Err(cause),
                Err(_) => thread::sleep(PAUSE),
            }
        };
        match writeln!(io::stdout(), "{cursor}") {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(format!("cannot write to stdout: {error}")),
        }
    }

    /// Publishes one message; returns its cursor, or why it could not, and whether that may pass.
    fn attempt(&self, payload: &[u8], number: u64) -> Result<String, (String, bool)> {
        let url = &self.client.url;
        let target = format!("/topics/{}", topic_path(&self.arguments.topic));
        let mut request = self.agent.post(url.of("http", &target));
        for (name, value) in self.client.headers().map_err(|cause| (cause, false))? {
            request = request.header(name, value);
        }
        if let Some(event) = &self.arguments.event {
            request = request.header("corecast-event", event);
        }
        if let Some(key) = &self.arguments.key {
            request = request.header("corecast-message-key", topic_path(key));
        }
        if let Some(op) = &self.arguments.op {
            request = request.header("corecast-op", op);
        }
        if let Some(producer) = &self.arguments.producer {
            request = request.header("corecast-producer", producer).header("corecast-number", number.to_string());
        }
        let failed = |error: ureq::Error| (format!("cannot publish at {url}: {}", client::cause(&error)), true);
        let request = request.config().timeout_recv_body(Some(self.client.timeout)).build();
        let mut answer = request.send(payload).map_err(failed)?;
        let body = answer.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec().map_err(failed)?;
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        match (answer.status().as_u16(), json.as_ref().and_then(|json| json["cursor"].as_str())) {
            (200, Some(cursor)) => Ok(cursor.to_owned()),
            // It was published, so long ago that nobody knows its cursor.
            (200, None) if json.as_ref().is_some_and(|json| json["repeated"] == true) => Ok("repeated".to_owned()),
            (200, None) => Err((format!("{url} does not answer like an engine"), false)),
            (status, _) => {
                let cause = format!("{url} refused the message with status {status}: {}", refusal(&body));
                Err((cause, matches!(status, 429 | 502..=504)))
            }
        }
    }
}
