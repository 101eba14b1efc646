//! What `pub` and `sub` are told of an engine and how they reach it: address, authorities, token, headers.
//!
//! Never: shows a token or a header in what it says, follows a redirect, or asks the proxies of the environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corecast::io::check::StartError;
use corecast::trust;
use crossbeam_channel::Receiver;
use rustls::ClientConfig;
use serde_json::Value;
use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::url::Url;
use super::wire::{Dialer, NoConnection, Nowhere, Wire};

/// Largest head of an answer in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

#[derive(clap::Args)]
pub(super) struct Reach {
    /// Where the engine is; https:// speaks TLS.
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "CORECAST_URL")]
    pub(super) url: Url,
    /// Believes the authorities in this PEM file and no others, or a certificate that is in it itself; by default those that browsers believe.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Shows this token. Other users of this host see arguments: better is the variable, or @FILE, which is read each time it is shown.
    #[arg(long, value_name = "TOKEN", env = "CORECAST_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Sends one more header, as in 'Corecast-Key: ...'; @FILE has one a line. May be given several times.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// How long to wait for a connection, and for each answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout: u32,
}

/// What is told to the engine with each request.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) url: Url,
    pub(super) timeout: Duration,
    pub(super) tls: Option<Arc<ClientConfig>>,
    headers: Headers,
    token: Option<Token>,
    /// Who waits for a signal, if anybody does; it stays for him.
    signals: Option<Receiver<i32>>,
}

/// Where the token is; it is never here for `Debug` to show.
enum Token {
    Word(HeaderValue),
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Client {
    pub(super) fn new(reach: &Reach, signals: Option<Receiver<i32>>) -> Result<Client, StartError> {
        if reach.ca.is_some() && !reach.url.is_tls {
            return Err(wrong(format!("--ca is given, and {} speaks no TLS", reach.url), "give an https:// URL"));
        }
        let tls = reach.url.is_tls.then(|| trust::config(reach.ca.as_deref())).transpose()?;
        let token = match reach.token.as_deref() {
            None | Some("") => None,
            Some(word) => Some(match word.strip_prefix('@') {
                Some(path) => Token::File(path.into()),
                None => {
                    Token::Word(bearer(word).map_err(|cause| wrong(cause, "give one as `corecast token` prints it"))?)
                }
            }),
        };
        let client = Client {
            url: reach.url.clone(),
            timeout: Duration::from_secs(reach.timeout.into()),
            tls: tls.map(Arc::new),
            headers: headers(&reach.headers)?,
            token,
            signals,
        };
        client.authorization().map_err(|cause| wrong(cause, "name a file that has the token and nothing else"))?;
        Ok(client)
    }

    /// Returns what to send with the next request.
    pub(super) fn headers(&self) -> Result<Headers, String> {
        let shown = self.authorization()?.map(|token| (AUTHORIZATION, token));
        Ok(self.headers.iter().cloned().chain(shown).collect())
    }

    /// Returns what shows the token as it is now.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        match &self.token {
            None => Ok(None),
            Some(Token::Word(value)) => Ok(Some(value.clone())),
            Some(Token::File(path)) => {
                let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                bearer(text.trim()).map(Some).map_err(|cause| format!("{}: {cause}", path.display()))
            }
        }
    }

    /// Says whether somebody wants this to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.signals.as_ref().is_some_and(|signals| !signals.is_empty())
    }

    /// Returns what asks over HTTP; the first time on this connection, if there is one already.
    pub(super) fn agent(self: &Arc<Client>, ready: Option<Wire>) -> Agent {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .max_response_header_size(HEAD_BYTES_MAX)
            .timeout_recv_response(Some(self.timeout))
            .user_agent(concat!("corecast/", env!("CARGO_PKG_VERSION")));
        Agent::with_parts(config.build(), Dialer::new(self.clone(), ready), Nowhere)
    }
}

fn wrong(cause: impl Into<String>, cure: &str) -> StartError {
    StartError { cause: cause.into(), cure: cure.to_owned() }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let visible = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = visible.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    let mut value = value.ok_or("that is no token: it has to be one word")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the headers of the command line.
fn headers(given: &[String]) -> Result<Headers, StartError> {
    let mut headers = Vec::new();
    for text in given {
        let Some(path) = text.strip_prefix('@').map(Path::new) else {
            headers.push(header(text)?);
            continue;
        };
        let lines = fs::read_to_string(path).map_err(|error| {
            wrong(format!("{}: {error}", path.display()), "name a file with a header a line, as NAME: VALUE")
        })?;
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            headers.push(header(line)?);
        }
    }
    Ok(headers)
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), StartError> {
    let (name, value) = text.split_once(':').unwrap_or((text, "\n"));
    let read = name.trim().parse::<HeaderName>().ok().zip(HeaderValue::try_from(value.trim_matches([' ', '\t'])).ok());
    // The text may be a secret.
    let (name, mut value) = read.ok_or_else(|| wrong("--header: that is no header", "give it as NAME: VALUE"))?;
    let ours = ["connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"];
    if ours.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-") {
        return Err(wrong(format!("--header: `{name}` says how the request is sent"), "leave it out"));
    }
    value.set_sensitive(true);
    Ok((name, value))
}

/// Says why a request has no answer.
pub(super) fn cause(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Protocol(error) => format!("not an engine? {error}"),
        ureq::Error::LargeResponseHeader(..) => "not an engine? the head of its answer is too long".to_owned(),
        ureq::Error::Timeout(_) => "the engine did not answer in time".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Returns why there is no connection, if that is what it is.
pub(super) fn unreachable(error: ureq::Error) -> Result<NoConnection, ureq::Error> {
    match error {
        ureq::Error::Other(inner) => inner.downcast().map(|inner| *inner).map_err(ureq::Error::Other),
        other => Err(other),
    }
}

/// Says why a request was refused: what the body of the answer says, fit for a terminal.
pub(super) fn refusal(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let error = json.as_ref().and_then(|json| json["error"].as_str());
    let reason = error.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    reason.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers are read as they are written; one that belongs to the transport is not taken, and no error repeats what may be a secret.
    #[test]
    fn headers_are_read() {
        let (name, value) = header("Corecast-Key:  abc ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("corecast-key", "abc"));
        assert!(!format!("{value:?}").contains("abc"));
        for text in ["secret", "a b: secret", ": secret", "a: b\nsecret", "Host: secret", "Sec-WebSocket-Key: secret"] {
            let error = header(text).unwrap_err();
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    /// A token is one word.
    #[test]
    fn tokens_are_words() {
        assert_eq!(bearer("a.b.c").unwrap().to_str().unwrap(), "Bearer a.b.c");
        for text in ["", "a b", "a\n", "\u{fc}"] {
            assert!(bearer(text).is_err(), "{text}");
        }
    }
}
