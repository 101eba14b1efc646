//! One GET, and its answer as it comes.

use std::io::{self, ErrorKind, Read as _};
use std::time::{Duration, Instant, SystemTime};

use rustls::AlertDescription;
use ureq::BodyReader;
use ureq::http::response::Parts;

use super::super::client::{self, refusal};
use super::super::url::topic_path;
use super::{End, Subscriber, wait};

/// Longest body of an answer that says no.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body that are taken at a time.
const PIECE_BYTES: usize = 64 << 10;

/// What [`Answer::body`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Bytes of the body.
    Bytes,
    /// Nothing further for a moment.
    Nothing,
    /// The end of the body.
    End,
}

/// The body of an answer.
pub(super) struct Answer(BodyReader<'static>);

impl Answer {
    /// Adds what has come of the body to `out`.
    pub(super) fn body(&mut self, out: &mut Vec<u8>) -> Result<Step, End> {
        let before = out.len();
        out.resize(before + PIECE_BYTES, 0);
        let read = self.0.read(&mut out[before..]);
        out.truncate(before + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Ok(Step::End),
            Ok(_) => Ok(Step::Bytes),
            Err(error) => match ureq::Error::from(error) {
                ureq::Error::Io(error) if error.kind() == ErrorKind::WouldBlock => Ok(Step::Nothing),
                ureq::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    Err(End::Broken("the answer was cut off".to_owned()))
                }
                ureq::Error::Protocol(error) => Err(End::Refused(format!("the answer's chunks are broken: {error}"))),
                error => Err(broken(error)),
            },
        }
    }
}

/// Returns a header of an answer as text; nothing if it has none.
pub(super) fn header<'a>(head: &'a Parts, name: &str) -> &'a str {
    head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Where a request for topics goes: path and query, without a transport.
pub(super) fn target(topics: &[String]) -> String {
    match topics {
        [topic] => format!("/topics/{}?", topic_path(topic)),
        _ => {
            let named = topics.iter().map(|topic| format!("topic={}&", topic_path(topic)));
            format!("/topics?{}", named.collect::<String>())
        }
    }
}

impl Subscriber<'_> {
    /// Asks, and waits for the head of the answer; anything but 200, 204 and 304 is an error.
    pub(super) fn get(
        &mut self,
        target: &str,
        extra: Option<(&str, &str)>,
        patience: Duration,
    ) -> Result<(Parts, Answer), End> {
        self.printer.flush().map_err(End::Unwritten)?;
        let request = self.agent.get(self.client.url.of("http", target));
        let mut request = request.config().timeout_recv_response(Some(patience)).build();
        for (name, value) in self.headers()? {
            request = request.header(name, value);
        }
        if let Some((name, value)) = extra {
            request = request.header(name, value);
        }
        let (head, body) = request.call().map_err(broken)?.into_parts();
        let mut answer = Answer(body.into_reader());
        if matches!(head.status.as_u16(), 200 | 204 | 304) {
            return Ok((head, answer));
        }
        let body = match self.whole(&mut answer, REFUSAL_BYTES_MAX) {
            Err(End::Done) => return Err(End::Done),
            read => read.unwrap_or_default(),
        };
        let cause = format!("the answer was status {}: {}", head.status.as_u16(), refusal(&body));
        Err(self.refused(head.status.as_u16(), cause.trim_end_matches([':', ' ']), header(&head, "retry-after")))
    }

    /// Reads the whole body.
    pub(super) fn whole(&mut self, answer: &mut Answer, bytes_max: usize) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        let mut heard = Instant::now();
        loop {
            match answer.body(&mut body)? {
                Step::Bytes => heard = Instant::now(),
                Step::Nothing => self.idle(heard, self.client.timeout)?,
                Step::End => return Ok(body),
            }
            if body.len() > bytes_max {
                return Err(End::Refused(format!("the answer is longer than {bytes_max} bytes")));
            }
        }
    }

    /// Nothing further for a moment: shows what is printed, and says whether it is time to go.
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

    /// Says what a refusal with this status means for the next attempt.
    pub(super) fn refused(&mut self, status: u16, cause: &str, retry_after: &str) -> End {
        match status {
            // These pass; what else a server refuses, it refuses again.
            408 | 429 | 500.. => {
                self.again = wait::retry_after(retry_after, SystemTime::now());
                End::Broken(cause.to_owned())
            }
            401 => self.denied(cause.to_owned()),
            _ => End::Refused(cause.to_owned()),
        }
    }
}

fn broken(error: ureq::Error) -> End {
    let error = match client::unreachable(error) {
        Ok(none) => return End::Unreachable(none),
        Err(error) => error,
    };
    let cause = client::cause(&error);
    match error {
        ureq::Error::Timeout(_) => End::Broken(cause),
        ureq::Error::Io(error) if !is_of_certificates(&error) => End::Broken(cause),
        // Not of the network, but of what came over it.
        _ => End::Refused(cause),
    }
}

/// Says whether the engine ended a connection because of our certificate, or because we have none: it says so behind the handshake.
pub(super) fn is_of_certificates(error: &io::Error) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown,
        UnknownCA, UnsupportedCertificate,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => matches!(
            alert,
            AccessDenied
                | BadCertificate
                | CertificateExpired
                | CertificateRequired
                | CertificateRevoked
                | CertificateUnknown
                | UnknownCA
                | UnsupportedCertificate
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One topic stands in the path, several in the query, whatever is in their names.
    #[test]
    fn targets_name_topics() {
        let topics = ["a/b c&d".to_owned(), "+".to_owned()];
        assert_eq!(target(&topics[..1]), "/topics/a/b%20c%26d?");
        assert_eq!(target(&topics), "/topics?topic=a/b%20c%26d&topic=%2B&");
    }
}
