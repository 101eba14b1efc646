//! Where an engine is: the value of `--url`.

use std::fmt;
use std::str::FromStr;

use corecast_protocol::percent;
use corecast_protocol::write::Writer;

/// `http://host[:port][/prefix]`, or `https://`; `ws://` and `wss://` mean the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) is_tls: bool,
    /// Host as it was written, brackets of IPv6 included.
    host: String,
    pub(super) port: u16,
    /// Path before `/topics` and `/ws`, without a slash at its end.
    prefix: String,
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(format!("`{scheme}` is not a scheme for an engine; use http:// or https://")),
        };
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        let expected = "expected http://host:port, as in http://127.0.0.1:8080";
        if path.contains(['?', '#']) || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(expected.to_owned());
        }
        let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| expected)?),
            None => (authority, if is_tls { 443 } else { 80 }),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains('@') || (host.contains(':') && !bracketed) {
            return Err(expected.to_owned());
        }
        let prefix = path.trim_end_matches('/');
        // What is copied from a page or from curl: it would be published to `news/topics/news`.
        if prefix.split('/').any(|part| part == "topics") || (scheme.starts_with("ws") && prefix.ends_with("/ws")) {
            let url = Url { is_tls, host: host.to_owned(), port, prefix: String::new() };
            return Err(format!(
                "that is more than where the engine is; give {url}, and the topic as a word of its own"
            ));
        }
        Ok(Url { is_tls, host: host.to_owned(), port, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of("http", ""))
    }
}

impl Url {
    /// Returns the host as resolvers and certificates know it.
    pub(super) fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Returns the URL of a path and query behind the prefix; `scheme` is that without TLS.
    pub(super) fn of(&self, scheme: &str, target: &str) -> String {
        let secure = if self.is_tls { "s" } else { "" };
        format!("{scheme}{secure}://{}:{}{}{target}", self.host, self.port, self.prefix)
    }
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
            ("localhost:8080", "http://localhost:8080"),
            ("ws://example.com", "http://example.com:80"),
            ("wss://example.com/", "https://example.com:443"),
            ("HTTPS://example.com:8443/a", "https://example.com:8443/a"),
            ("http://[::1]:9/a/b/", "http://[::1]:9/a/b"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "http://",
            "https://",
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

    /// A URL of a topic is not taken for a base that topics stand behind; the error says what to give.
    #[test]
    fn more_than_a_base_is_refused() {
        for (text, base) in [
            ("http://127.0.0.1:8080/topics/news", "http://127.0.0.1:8080,"),
            ("https://a/x/topics", "https://a:443,"),
            ("wss://a/ws", "https://a:443,"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(base) && error.contains("the topic as a word of its own"), "{text}: {error}");
        }
        assert!("http://a/ws".parse::<Url>().is_ok(), "a proxy may have anything there");
    }

    /// A topic survives the way into a path, whatever it holds.
    #[test]
    fn topics_in_paths() {
        assert_eq!(topic_path("a/b c%d?é"), "a/b%20c%25d%3F%C3%A9");
    }
}
