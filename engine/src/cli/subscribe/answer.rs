//! One GET, and its answer as it comes.
//!
//! Owns the request's connection until the answer has ended. Looks up at every tick, so that a signal is noticed.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant, SystemTime};

use corecast_protocol::http::body::Chunked;
use corecast_protocol::http::client::ReplyBody;

use super::super::connect::{Exchange, PATIENCE, refusal};
use super::{End, Subscriber, TICK, wait};

/// Longest body of an answer that says no.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// What the head of an answer says.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) cursor: Option<String>,
    pub(super) etag: Option<String>,
    retry_after: Option<String>,
}

/// What [`Answer::body`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Bytes of the body.
    Bytes,
    /// Nothing within a tick.
    Nothing,
    /// The end of the body.
    End,
}

/// How the end of the body is told.
#[derive(Debug)]
enum Framing {
    Sized(u64),
    Chunked(Chunked),
    UntilClose,
    Ended,
}

/// An answer, its head being read.
#[derive(Debug)]
pub(super) struct Answer {
    exchange: Exchange,
    framing: Framing,
    keep_alive: bool,
}

impl Answer {
    /// Asks.
    fn begin(mut exchange: Exchange, target: &str, extra: &[(&str, &str)]) -> Result<Answer, End> {
        exchange.send("GET", target, extra, None).map_err(broken)?;
        exchange.stream.set_read_timeout(Some(TICK)).map_err(broken)?;
        Ok(Answer { exchange, framing: Framing::Ended, keep_alive: false })
    }

    /// Returns the head, or `None` if it has not come within a tick.
    fn head(&mut self) -> Result<Option<Head>, End> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        loop {
            let taken = self.exchange.head(|reply| {
                let head = Head {
                    status: reply.status,
                    content_type: reply.content_type.unwrap_or("").to_owned(),
                    cursor: owned(reply.corecast_cursor),
                    etag: owned(reply.etag),
                    retry_after: owned(reply.retry_after),
                };
                (head, reply.body, reply.keep_alive)
            });
            match taken {
                Ok((head, _, _)) if head.status < 200 => {}
                Ok((head, body, keep_alive)) => {
                    self.keep_alive = keep_alive;
                    self.framing = match body {
                        ReplyBody::None => Framing::Ended,
                        ReplyBody::Sized(length) => Framing::Sized(length),
                        ReplyBody::Chunked => Framing::Chunked(Chunked::default()),
                        ReplyBody::UntilClose => Framing::UntilClose,
                    };
                    return Ok(Some(head));
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Adds what has come of the body to `out`.
    pub(super) fn body(&mut self, out: &mut Vec<u8>) -> Result<Step, End> {
        let before = out.len();
        loop {
            let received = &mut self.exchange.received;
            match &mut self.framing {
                Framing::Ended => {}
                Framing::Sized(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(received.len());
                    out.extend(received.drain(..length));
                    *left -= length as u64;
                    if *left == 0 {
                        self.framing = Framing::Ended;
                    }
                }
                Framing::UntilClose => out.append(received),
                Framing::Chunked(chunked) => {
                    let (mut used, mut done) = (0, false);
                    while used < received.len() && !done {
                        let piece = chunked.next(&received[used..]).map_err(|violation| {
                            End::Refused(format!("the answer's chunks are broken: {}", violation.text()))
                        })?;
                        out.extend_from_slice(&received[used..][piece.data]);
                        (used, done) = (used + piece.consumed, piece.done);
                    }
                    received.drain(..used);
                    if done {
                        self.framing = Framing::Ended;
                    }
                }
            }
            if out.len() > before {
                return Ok(Step::Bytes);
            }
            if matches!(self.framing, Framing::Ended) {
                return Ok(Step::End);
            }
            match self.exchange.receive() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(Step::Nothing),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    if !matches!(self.framing, Framing::UntilClose) {
                        return Err(End::Broken("the answer was cut off".to_owned()));
                    }
                    self.framing = Framing::Ended;
                }
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Gives the connection back, if it can take another request.
    fn exchange(self) -> Option<Exchange> {
        let ended = matches!(self.framing, Framing::Ended);
        (ended && self.keep_alive).then_some(self.exchange)
    }
}

/// Where a request for topics goes: path and query, without a transport.
pub(super) fn target(prefix: &str, topics: &[String]) -> String {
    use super::super::connect::topic_path;
    match topics {
        [topic] => format!("{prefix}/topics/{}?", topic_path(topic)),
        _ => {
            let named = topics.iter().map(|topic| format!("topic={}&", topic_path(topic)));
            format!("{prefix}/topics?{}", named.collect::<String>())
        }
    }
}

impl Subscriber<'_> {
    /// Connects.
    pub(super) fn open(&self) -> Result<Exchange, End> {
        Exchange::open(&self.arguments.url).map_err(|error| End::Unreachable(error.to_string()))
    }

    /// Asks, and waits for the head of the answer; anything but 200, 204 and 304 is an error.
    pub(super) fn get(
        &mut self,
        exchange: Exchange,
        target: &str,
        extra: &[(&str, &str)],
        patience: Duration,
    ) -> Result<(Head, Answer), End> {
        let asked = Instant::now();
        let mut answer = Answer::begin(exchange, target, extra)?;
        let head = loop {
            if let Some(head) = answer.head()? {
                break head;
            }
            self.idle(asked, patience)?;
        };
        if matches!(head.status, 200 | 204 | 304) {
            return Ok((head, answer));
        }
        let body = self.whole(answer, REFUSAL_BYTES_MAX).map(|(body, _)| refusal(&body)).unwrap_or_default();
        let cause = format!("the answer was status {}: {body}", head.status);
        Err(refused(head.status, cause.trim_end_matches([':', ' ']).to_owned(), head.retry_after.as_deref()))
    }

    /// Reads the whole body, and gives the connection back if it can be used again.
    pub(super) fn whole(&mut self, mut answer: Answer, bytes_max: usize) -> Result<(Vec<u8>, Option<Exchange>), End> {
        let mut body = Vec::new();
        let mut heard = Instant::now();
        loop {
            match answer.body(&mut body)? {
                Step::Bytes => heard = Instant::now(),
                Step::Nothing => self.idle(heard, PATIENCE)?,
                Step::End => return Ok((body, answer.exchange())),
            }
            if body.len() > bytes_max {
                return Err(End::Refused(format!("the answer is longer than {bytes_max} bytes")));
            }
        }
    }

    /// Nothing came within a tick: shows what is printed, and says whether it is time to go.
    pub(super) fn idle(&mut self, heard: Instant, patience: Duration) -> Result<(), End> {
        self.printer.flush().map_err(End::Unwritten)?;
        if self.stopped() {
            return Err(End::Done);
        }
        if heard.elapsed() > patience {
            return Err(End::Broken(format!("no sign of life for {} s", patience.as_secs())));
        }
        Ok(())
    }
}

/// Says what a refusal with this status means for the next attempt.
pub(super) fn refused(status: u16, cause: String, retry_after: Option<&str>) -> End {
    match status {
        // These pass; what else a server refuses, it refuses again.
        408 | 429 | 500.. => match retry_after.and_then(|value| wait::retry_after(value, SystemTime::now())) {
            Some(wait) => End::Later(cause, wait),
            None => End::Broken(cause),
        },
        _ => End::Refused(cause),
    }
}

fn broken(error: io::Error) -> End {
    match error.kind() {
        // Not of the network, but of what came over it.
        ErrorKind::Other => End::Refused(error.to_string()),
        _ => End::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One topic stands in the path, several in the query, whatever is in their names.
    #[test]
    fn targets_name_topics() {
        let topics = ["a/b c&d".to_owned(), "+".to_owned()];
        assert_eq!(target("/x", &topics[..1]), "/x/topics/a/b%20c%26d?");
        assert_eq!(target("", &topics), "/topics?topic=a/b%20c%26d&topic=%2B&");
    }

    /// What passes is tried again, when the server said or after a wait of our own; the rest is final.
    #[test]
    fn refusals_pass_or_not() {
        let refused = |status, after| refused(status, String::new(), after);
        assert!(matches!(refused(503, Some("7")), End::Later(_, wait) if wait == Duration::from_secs(7)));
        assert!(matches!(refused(502, None), End::Broken(_)));
        assert!(matches!(refused(429, Some("whenever")), End::Broken(_)));
        for status in [301, 400, 403, 404] {
            assert!(matches!(refused(status, Some("7")), End::Refused(_)), "{status}");
        }
    }
}
