//! How `pub` and `sub` reach an engine: the URL, the connection, one request and its answer.
//!
//! Owns: [`Url`] and [`Exchange`], a connection that requests and answers pass through one after the other. Blocking
//! sockets with a deadline for everything: these are short-lived tools, not the engine.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::str::FromStr;
use std::time::Duration;

use corecast_protocol::http::body::Chunked;
use corecast_protocol::http::client::{self, Reply, ReplyBody};
use corecast_protocol::percent;
use corecast_protocol::write::Writer;
use serde_json::Value;

/// Time to connect, and to wait for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Largest head of an answer in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Largest body of an answer in bytes; what the engine answers to a publish is a few hundred.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Where an engine is: `http://host[:port][/prefix]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// Host as it was written, brackets of IPv6 included.
    host: String,
    port: u16,
    /// Path before `/topics` and `/ws`, without a slash at its end.
    pub(super) prefix: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let rest = match text.split_once("://") {
            Some(("http" | "ws", rest)) => rest,
            Some(("https" | "wss", _)) => {
                return Err("TLS is not supported; use http:// to an engine or proxy on a trusted network".to_owned());
            }
            Some((scheme, _)) => {
                return Err(format!("`{scheme}` is not a scheme for an engine; use http://"));
            }
            None => text,
        };
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        let expected = "expected http://host:port, as in http://127.0.0.1:8080";
        if path.contains(['?', '#']) || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(expected.to_owned());
        }
        let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| expected)?),
            None => (authority, 80),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains('@') || (host.contains(':') && !bracketed) {
            return Err(expected.to_owned());
        }
        Ok(Url { host: host.to_owned(), port, prefix: path.trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.prefix)
    }
}

impl Url {
    /// Returns the value of the Host header.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Connects to the first of the host's addresses that answers.
    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut last = io::Error::other("the name has no address");
        for address in (host, self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// One connection, used for one request after the other.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) stream: TcpStream,
    authority: String,
    /// Bytes received and not used yet.
    pub(super) received: Vec<u8>,
    /// The server will not answer another request.
    ended: bool,
}

impl Exchange {
    pub(super) fn open(url: &Url) -> io::Result<Exchange> {
        Ok(Exchange { stream: url.connect()?, authority: url.authority(), received: Vec::new(), ended: false })
    }

    /// Says whether the connection can take another request: the engine closes one that was idle for long.
    pub(super) fn stands(&self) -> bool {
        let waits = || {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            peeked
        };
        // Bytes that nobody asked for are as bad a sign as the end.
        !self.ended && waits().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and returns status and body of its answer.
    pub(super) fn ask(
        &mut self,
        method: &str,
        target: &str,
        extra: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<(u16, Vec<u8>)> {
        let written = self.send(method, target, extra, Some(body));
        // A server that refuses a large body answers before it has read all of it; its answer explains the failure.
        let answer = loop {
            match self.answer() {
                Ok((100..=199, _)) => {}
                other => break other,
            }
        };
        match (answer, written) {
            (Ok(answer), Ok(())) => Ok(answer),
            (Ok(answer), Err(_)) => {
                self.ended = true;
                Ok(answer)
            }
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// Sends a request, whose answer is then to be read.
    pub(super) fn send(
        &mut self,
        method: &str,
        target: &str,
        extra: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<()> {
        let headers: usize = extra.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let mut request = vec![0; 256 + target.len() + self.authority.len() + headers];
        let mut writer = Writer::new(&mut request);
        client::request(&mut writer, method, target, &self.authority, extra, body.map(<[u8]>::len));
        let length = writer.finish().map_err(|_| io::Error::other("the request's head is too long"))?;
        request.truncate(length);
        // One write: the server then sees head and small bodies at once.
        request.extend_from_slice(body.unwrap_or_default());
        self.stream.write_all(&request)
    }

    fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let (status, framing, keep_alive) = self.head(|reply| (reply.status, reply.body, reply.keep_alive))?;
        self.ended |= !keep_alive;
        let body = match framing {
            ReplyBody::None => Vec::new(),
            ReplyBody::Sized(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length <= BODY_BYTES_MAX);
                let length = length.ok_or_else(|| io::Error::other("the answer is too long"))?;
                while self.received.len() < length {
                    self.receive()?;
                }
                self.received.drain(..length).collect()
            }
            ReplyBody::Chunked => self.chunks()?,
            ReplyBody::UntilClose => {
                while self.received.len() <= BODY_BYTES_MAX {
                    match self.receive() {
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                        other => other?,
                    }
                }
                std::mem::take(&mut self.received)
            }
        };
        Ok((status, body))
    }

    /// Receives the head of an answer, and returns what `take` makes of it.
    pub(super) fn head<T>(&mut self, take: impl Fn(&Reply<'_>) -> T) -> io::Result<T> {
        loop {
            let parsed = client::parse(&self.received, HEAD_BYTES_MAX);
            let parsed =
                parsed.map_err(|violation| io::Error::other(format!("not an engine? {}", violation.text())))?;
            if let Some((reply, length)) = parsed {
                let taken = take(&reply);
                self.received.drain(..length);
                return Ok(taken);
            }
            self.receive()?;
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut chunked = Chunked::default();
        let mut body = Vec::new();
        loop {
            let piece = chunked.next(&self.received).map_err(|violation| io::Error::other(violation.text()))?;
            body.extend_from_slice(&self.received[piece.data.clone()]);
            self.received.drain(..piece.consumed);
            if piece.done {
                return Ok(body);
            }
            if body.len() > BODY_BYTES_MAX {
                return Err(io::Error::other("the answer is too long"));
            }
            if piece.consumed == 0 {
                self.receive()?;
            }
        }
    }

    /// Receives what there is, at least one byte.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        let count = loop {
            match self.stream.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the engine did not answer in time"));
                }
                other => break other?,
            }
        };
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the engine closed the connection"));
        }
        self.received.extend_from_slice(&piece[..count]);
        Ok(())
    }
}

/// Says why a request was refused: what the body of the answer says, fit for a terminal.
pub(super) fn refusal(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let error = json.as_ref().and_then(|json| json["error"].as_str());
    let reason = error.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    reason.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Percent-encodes a topic for the path of a URL, or for a value in its query; `/` stays.
pub(super) fn topic_path(topic: &str) -> String {
    let mut path = vec![0; 3 * topic.len()];
    let mut writer = Writer::new(&mut path);
    percent::encode_path(topic, &mut writer);
    let length = writer.finish().expect("an encoded byte takes three at most");
    String::from_utf8_lossy(&path[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// URLs are taken as users write them, and refused with what was expected.
    #[test]
    fn urls() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("127.0.0.1:8080/", "http://127.0.0.1:8080"),
            ("ws://example.com", "http://example.com:80"),
            ("http://[::1]:9/a/b/", "http://[::1]:9/a/b"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "http://",
            "https://a",
            "ftp://a",
            "http://a:b",
            "http://a:99999",
            "http://::1",
            "http://a?b",
            "http://a b",
            "http://u@a",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    /// A topic survives the way into a path, whatever it holds.
    #[test]
    fn topics_in_paths() {
        assert_eq!(topic_path("a/b c%d?é"), "a/b%20c%25d%3F%C3%A9");
    }
}
