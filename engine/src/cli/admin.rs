//! The client of the admin listener: where it is, who asks, and one question at a time, over HTTP.
//!
//! Owns: the flags that say so, requests and answers as bytes. What no flag says is read from the configuration, as the engine reads it. Never:
//! shows a token, or waits longer than it was told to. It is no client for the web: what answers is the engine, or nobody that it knows.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use corecast::config::{self, Config, Flags, Host, Listen};
use corecast::io::check::StartError;
use serde_json::Value;

/// How long is waited for an answer, in all: longer than the engine waits for a shard that stands still.
const PATIENCE: Duration = Duration::from_secs(8);
/// An answer that is longer is not one of the engine's: a thousand rows have a few hundred bytes each.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Largest file of a token.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

#[derive(clap::Args)]
pub(super) struct Reach {
    /// Where the admin listener is: http://HOST:PORT or unix:PATH; by default where the configuration says.
    #[arg(long, value_name = "URL")]
    admin: Option<Place>,
    /// File of tokens, the first of which is shown; by default the one that the configuration names.
    #[arg(long, value_name = "FILE", env = "CORECAST_ADMIN_TOKEN")]
    admin_token: Option<PathBuf>,
    /// The configuration that the engine was started with, if it is needed to find the listener.
    #[arg(long, value_name = "FILE", env = "CORECAST_CONFIG")]
    config: Option<PathBuf>,
}

/// Where an admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A host, as it was written, and a port.
    Tcp(String, u16),
    /// A path.
    Unix(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let expected = || "expected http://HOST:PORT or unix:PATH, as in http://127.0.0.1:8081".to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(expected()) } else { Ok(Place::Unix(path.into())) };
        }
        if text.starts_with("https://") || text.starts_with("tls://") {
            return Err("the admin listener speaks no TLS; reach it through a tunnel, as with ssh -L".to_owned());
        }
        let rest = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port_at = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&rest[..at], rest[at + 1..].parse().map_err(|_| expected())?),
            None => (rest, 80),
        };
        let is_bare = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        let is_odd = host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#@".contains(c));
        if host.is_empty() || is_bare || is_odd {
            return Err(expected());
        }
        Ok(Place::Tcp(host.to_owned(), port))
    }
}

impl From<&Listen> for Place {
    fn from(listen: &Listen) -> Place {
        match listen {
            Listen::Unix(path) => Place::Unix(path.clone()),
            Listen::Tcp(address) | Listen::Tls(address) => {
                let address = reachable(*address);
                let host = match address.ip() {
                    IpAddr::V4(ip) => ip.to_string(),
                    IpAddr::V6(ip) => format!("[{ip}]"),
                };
                Place::Tcp(host, address.port())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(host, port) => write!(f, "http://{host}:{port}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Returns where a listener on all addresses is reached from its own host.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Returns the first address of the admin listener that a configuration names.
pub(super) fn place_of(config: &Config) -> Result<Place, StartError> {
    let first = config.admin.first().map(Place::from);
    first.ok_or_else(|| StartError {
        cause: "the admin listener is switched off: nobody can be asked".to_owned(),
        cure: "name its address with --admin".to_owned(),
    })
}

/// Who asks whom.
pub(super) struct Admin {
    pub(super) place: Place,
    token: Option<String>,
}

impl Admin {
    /// Finds out where the listener is, and what is shown to it.
    pub(super) fn find(reach: &Reach) -> Result<Admin, Vec<StartError>> {
        // An empty variable counts as absent, as everywhere.
        let [admin_token, file] =
            [&reach.admin_token, &reach.config].map(|path| path.clone().filter(|path| !path.as_os_str().is_empty()));
        let named = reach.admin.is_some() && admin_token.is_some();
        let flags = Flags { file, given: Vec::new() };
        // What flags say holds even where the configuration cannot be read.
        let config = if named { None } else { Some(config::load(&flags, std::env::vars_os(), &Host::read())) };
        let config = match config {
            Some(Ok(loaded)) => Some(loaded.config),
            Some(Err(problems)) if reach.admin.is_none() || flags.file.is_some() => return Err(problems),
            _ => None,
        };
        let place = match (&reach.admin, &config) {
            (Some(place), _) => place.clone(),
            (None, Some(config)) => place_of(config).map_err(|problem| vec![problem])?,
            (None, None) => return Err(Vec::new()),
        };
        let file = admin_token.or_else(|| config.and_then(|config| config.admin_token));
        let token = file.map(|file| first_token(&file)).transpose().map_err(|problem| vec![problem])?;
        Ok(Admin { place, token })
    }

    /// Asks for a page, and returns its JSON as text.
    pub(super) fn get(&self, target: &str) -> Result<String, StartError> {
        self.ask("GET", target, None)
    }

    /// Has something done, with a body or without, and returns the JSON that is said to it, as text.
    pub(super) fn post(&self, target: &str, body: Option<&Value>) -> Result<String, StartError> {
        self.ask("POST", target, body)
    }

    fn ask(&self, method: &str, target: &str, body: Option<&Value>) -> Result<String, StartError> {
        let mut lines = String::new();
        if let Some(token) = &self.token {
            lines += &format!("Authorization: Bearer {token}\r\n");
        }
        let body = body.map(Value::to_string);
        if let Some(body) = &body {
            lines += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        let request = format!("{method} {target} HTTP/1.0\r\n{lines}\r\n{}", body.unwrap_or_default());
        let answer = talk(&self.place, &request, PATIENCE, ANSWER_BYTES_MAX).map_err(|error| StartError {
            cause: format!("cannot ask {}: {error}", self.place),
            cure: "start the engine, or say where its admin listener is with --admin".to_owned(),
        })?;
        if (200..300).contains(&answer.status) {
            return Ok(answer.body.trim_end().to_owned());
        }
        Err(refusal(&self.place, &answer, self.token.is_some()))
    }
}

/// Says why something was refused, and what helps.
fn refusal(place: &Place, answer: &Answer, shown: bool) -> StartError {
    let said = reason(&answer.body);
    let cure = match answer.status {
        401 if shown => {
            "show another one with --admin-token FILE: this one is not, or no longer, among those of the engine"
        }
        401 => "show one with --admin-token FILE, the file that the engine's setting admin-token names",
        404 if said.starts_with("no such page") => {
            "is that the admin listener of this version? say where it is with --admin"
        }
        404 => "look at what is there: corecast connections, corecast topics",
        409 | 422 => "correct the configuration: `corecast check` says the same",
        421 => "name the host by its address with --admin, or list its name in allowed-hosts",
        503 | 504 => "try again; if it stays so, see the engine's log, and which threads of it stand still",
        _ => "see docs/admin.md",
    };
    StartError { cause: format!("{place} says {} {said}", answer.status), cure: cure.to_owned() }
}

/// Returns what an answer says is wrong, on one line and fit for a terminal.
fn reason(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let said = match (&json["reason"], &json["errors"]) {
        (Value::String(reason), Value::Array(errors)) => {
            let causes = errors.iter().filter_map(|error| error["cause"].as_str());
            format!("{reason}: {}", causes.collect::<Vec<_>>().join("; "))
        }
        (Value::String(reason), _) => match &json["late"] {
            Value::Array(late) => format!("{reason}: shards {}", Value::Array(late.clone())),
            _ => match &json["refused"] {
                Value::Array(refused) => format!("{reason}: {}", Value::Array(refused.clone())),
                _ => reason.clone(),
            },
        },
        _ => body.lines().next().unwrap_or_default().to_owned(),
    };
    said.chars().filter(|c| !c.is_control()).take(400).collect()
}

/// Returns the first token of a file, as the engine reads it.
fn first_token(path: &Path) -> Result<String, StartError> {
    let wrong = |cause: String| StartError {
        cause: format!("admin token {}: {cause}", path.display()),
        cure: "name a file that you may read, with a token a line, with --admin-token".to_owned(),
    };
    let about = fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
    if about.len() > TOKEN_BYTES_MAX {
        return Err(wrong("the file is larger than 64k".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    match token {
        Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(token.to_owned()),
        Some(_) => Err(wrong("its first token is not one word of ASCII".to_owned())),
        None => Err(wrong("there is no token in it".to_owned())),
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends a request, and reads until the listener closes.
pub(super) fn talk(place: &Place, request: &str, patience: Duration, bytes_max: usize) -> io::Result<Answer> {
    let end_at = Instant::now() + patience;
    match place {
        Place::Tcp(host, port) => {
            let name = host.trim_start_matches('[').trim_end_matches(']');
            let mut last = io::Error::other("the name has no address");
            for address in (name, *port).to_socket_addrs()? {
                let left = end_at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                match TcpStream::connect_timeout(&address, left) {
                    Ok(stream) => {
                        return exchange(&stream, request, end_at, bytes_max, |left| {
                            stream.set_read_timeout(Some(left)).and_then(|()| stream.set_write_timeout(Some(left)))
                        });
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Place::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            exchange(&stream, request, end_at, bytes_max, |left| {
                stream.set_read_timeout(Some(left)).and_then(|()| stream.set_write_timeout(Some(left)))
            })
        }
    }
}

fn exchange<S: Read + Write>(
    mut stream: S,
    request: &str,
    end_at: Instant,
    bytes_max: usize,
    patient: impl Fn(Duration) -> io::Result<()>,
) -> io::Result<Answer> {
    let left = || {
        let left = end_at.saturating_duration_since(Instant::now());
        let late = io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        if left.is_zero() { Err(late) } else { Ok(left) }
    };
    patient(left()?)?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        if bytes.len() > bytes_max {
            return Err(io::Error::other("it says more than an engine would"));
        }
        patient(left()?)?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    understood(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::Error::other("it does not speak HTTP"))
}

/// Reads the status and the body.
fn understood(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of the admin listener is understood, and what is none is not.
    #[test]
    fn answers_are_understood() {
        let answer = |status, body: &str| Some(Answer { status, body: body.to_owned() });
        let said = understood("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\ndraining\n");
        assert_eq!(said, answer(503, "draining\n"));
        assert_eq!(understood("HTTP/1.0 200 OK\r\n\r\n"), answer(200, ""));
        for wrong in ["", "\r\n\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(understood(wrong), None, "{wrong:?}");
        }
    }

    /// A listener on all addresses is asked on loopback, any other where it is.
    #[test]
    fn listeners_are_reached() {
        for (listen, place) in [
            ("0.0.0.0:8081", "http://127.0.0.1:8081"),
            ("[::]:8081", "http://[::1]:8081"),
            ("10.0.0.1:1", "http://10.0.0.1:1"),
            ("unix:/run/a", "unix:/run/a"),
        ] {
            assert_eq!(Place::from(&Listen::read(listen).unwrap()).to_string(), place);
        }
    }

    /// Where a listener is can be written as its log and its setting have it, and is read back; anything else is told what is expected.
    #[test]
    fn places_are_read() {
        for (text, place) in [
            ("http://127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("127.0.0.1:8081", "http://127.0.0.1:8081"),
            ("http://[::1]:8081/", "http://[::1]:8081"),
            ("http://box", "http://box:80"),
            ("unix:/run/a", "unix:/run/a"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), place);
        }
        for text in ["", "unix:", "http://", "::1", "http://a:b", "http://a/b", "ftp://a:1", "u@a:1", "a b:1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        assert!("https://a".parse::<Place>().unwrap_err().contains("no TLS"));
    }

    /// Whatever form a refusal has, what it says stands on one line.
    #[test]
    fn reasons_are_found() {
        for (body, expected) in [
            ("limit is a number\n", "limit is a number"),
            (r#"{"reason":"no","late":[1,2]}"#, "no: shards [1,2]"),
            (r#"{"reason":"wrong","errors":[{"cause":"a","cure":"b"},{"cause":"c"}]}"#, "wrong: a; c"),
            (r#"{"reason":"at start only","refused":["shards"]}"#, r#"at start only: ["shards"]"#),
            ("a\u{1b}[2Jb\nc", "a[2Jb"),
            ("", ""),
        ] {
            assert_eq!(reason(body), expected);
        }
    }
}
