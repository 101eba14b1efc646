//! What the configuration says about who may do what.
//!
//! Owns: plain values, and how each is written. Touches: text only; the files that are named are read by their owners.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::shard;

/// Where keys that verify tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with the secret of HS256, HS384 and HS512.
    Secret(PathBuf),
    /// A file with a public key.
    Pem(PathBuf),
    /// A file with a key set (RFC 7517).
    Set(PathBuf),
    /// A URL that answers with a key set.
    Url(String),
}

impl KeySource {
    /// Reads one as the setting `token-key` has it.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn read(text: &str) -> Result<KeySource, String> {
        let wrong = || {
            let expected = "secret:FILE, pem:FILE, jwks:FILE, or the https:// URL of a key set";
            format!("`{text}` is not where a key is: expected {expected}")
        };
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "secret" => path(rest).map(KeySource::Secret),
            "pem" => path(rest).map(KeySource::Pem),
            "jwks" => path(rest).map(KeySource::Set),
            "http" | "https" => url(text).map(KeySource::Url),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Secret(path) => write!(f, "secret:{}", path.display()),
            KeySource::Pem(path) => write!(f, "pem:{}", path.display()),
            KeySource::Set(path) => write!(f, "jwks:{}", path.display()),
            KeySource::Url(url) => f.write_str(url),
        }
    }
}

/// What the hook is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// When somebody connects.
    pub connect: bool,
    /// For each topic that somebody wants to read.
    pub subscribe: bool,
    /// For each topic that somebody publishes to.
    pub publish: bool,
}

/// The settings of the authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Keys that verify tokens.
    pub token_keys: Vec<KeySource>,
    /// Who may have issued tokens; none: whoever has the key.
    pub issuers: Vec<String>,
    /// For whom tokens may be meant; none: only those that do not say for whom.
    pub audiences: Vec<String>,
    /// The claim that says what somebody may do.
    pub claim: String,
    /// How far clocks may be apart.
    pub leeway_s: u64,
    /// Longest life of a token.
    pub token_age_max_s: u64,
    /// Takes tokens that never end.
    pub endless: bool,
    /// The file of API keys.
    pub api_keys: Option<PathBuf>,
    /// The file that says what clients with certificates may do.
    pub certificates: Option<PathBuf>,
    /// Where revocations are kept over a restart.
    pub revocations: Option<PathBuf>,
    /// The hook.
    pub hook_url: Option<String>,
    /// What it is asked.
    pub hook_asks: Asks,
    /// Names of headers that it is told of, in lower case.
    pub hook_headers: Vec<String>,
    /// Time that it has to answer.
    pub hook_timeout_ms: u64,
    /// Questions to it at the same time.
    pub hook_parallel: u32,
    /// How long what it said holds, at most.
    pub hook_cache_ms: u64,
    /// For how long what it said holds beyond that while it is down; none: not at all.
    pub hook_stale_ms: Option<u64>,
    /// The file of those who vouch for the hook and for key sets; none: those that browsers know.
    pub ca: Option<PathBuf>,
    /// Goes to other hosts without TLS.
    pub plain_http: bool,
}

impl Settings {
    /// Says whether there is any way to show who one is.
    #[must_use]
    pub fn says_who(&self) -> bool {
        let files = [&self.api_keys, &self.certificates];
        !self.token_keys.is_empty() || self.hook_url.is_some() || files.iter().any(|file| file.is_some())
    }

    /// Returns which credentials mean something. Without keys of ours the hook may know tokens that nobody else does.
    #[must_use]
    pub fn asks(&self) -> shard::Asks {
        shard::Asks {
            tokens: !self.token_keys.is_empty() || self.hook_url.is_some(),
            keys: self.api_keys.is_some(),
            cookie: None,
            certificates: self.certificates.is_some(),
            visits: self.hook_url.is_some() && self.hook_asks.connect,
            visit_headers: self.hook_headers.clone(),
            subscribe: self.hook_url.is_some() && self.hook_asks.subscribe,
            publish: self.hook_url.is_some() && self.hook_asks.publish,
        }
    }

    /// Says what does not fit together.
    pub fn check(&self, mut wrong: impl FnMut(String, &str)) {
        let urls = self.token_keys.iter().filter_map(|source| match source {
            KeySource::Url(url) => Some(("token-key", url)),
            _ => None,
        });
        for (key, url) in urls.chain(self.hook_url.iter().map(|url| ("auth-url", url))) {
            if !self.plain_http && is_plain(url) {
                wrong(
                    format!(
                        "{key} {url} goes to another host without TLS: whoever is on the way could say who may do what"
                    ),
                    "write https://, or say --auth-plain-http if the network to there is trusted",
                );
            }
        }
        if self.hook_url.is_none() && (self.hook_asks.subscribe || self.hook_asks.publish) {
            wrong(
                "auth-ask names subscribe or publish, and there is no hook to be asked".to_owned(),
                "say where it is with auth-url, or leave auth-ask out",
            );
        }
    }
}

/// Reads a path; with a slash, so that nobody takes a word for one.
pub fn path(text: &str) -> Result<PathBuf, String> {
    let text = text.trim();
    if text.contains('/') && !text.ends_with('/') && !text.contains([',', '"', '\\']) {
        Ok(Path::new(text).to_owned())
    } else {
        Err(format!(
            "`{text}` is not the path of a file: expected one with a slash, as in /etc/corecast/keys or ./keys"
        ))
    }
}

/// Reads a URL: scheme, host, perhaps a port, a path and a query; no user, as its password would be in every log.
pub fn url(text: &str) -> Result<String, String> {
    let wrong =
        |why: &str| Err(format!("`{text}` is not a URL that can be asked: {why}, as in https://example.com/keys.json"));
    let Some((scheme, rest)) = text.split_once("://") else { return wrong("it begins with https://") };
    if scheme != "https" && scheme != "http" {
        return wrong("it begins with https://");
    }
    if !rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\,<>#".contains(&b)) {
        return wrong("it has plain characters only");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(
            "a URL with a user name is not taken: its password would be seen by all who see the settings".to_owned()
        );
    }
    let host = authority.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches(':');
    if authority.is_empty() || host.is_empty() && !authority.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return wrong("it has a host");
    }
    Ok(text.to_owned())
}

/// Returns a URL as logs have it: there may be a password in its query.
pub(super) fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Says whether a URL goes to another host without TLS.
fn is_plain(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let on_loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    !on_loopback && host != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a key is says what it is: a public key is never taken for a secret because a file was mixed up.
    #[test]
    fn sources_of_keys() {
        for text in ["secret:/etc/a", "pem:./b.pem", "jwks:/c.json", "https://a.example/jwks?x=1", "http://[::1]:8/k"] {
            assert_eq!(KeySource::read(text).unwrap().to_string(), text);
        }
        for text in
            ["", "?", "/etc/a", "secret:", "secret:a", "file:/a", "https://", "https://a b", "ftp://a/b", "jwks:/a/"]
        {
            assert!(KeySource::read(text).is_err(), "{text}");
        }
        let error = KeySource::read("https://me:pass@a.example/").unwrap_err();
        assert!(error.contains("user name") && !error.contains("pass@"), "{error}");
    }

    /// Without TLS only this host is asked, unless somebody says that he trusts what is between.
    #[test]
    fn plain_http_stays_on_the_host() {
        for url in
            ["http://127.0.0.1/x", "http://localhost:9/", "http://[::1]/", "https://a.example/", "http://127.9.9.9?x"]
        {
            assert!(!is_plain(url), "{url}");
        }
        for url in [
            "http://a.example/",
            "http://10.0.0.1:80/",
            "http://localhost.evil/",
            "http://127.0.0.1.evil/x",
            "http://[2001:db8::1]/",
        ] {
            assert!(is_plain(url), "{url}");
        }
        assert_eq!(without_query("https://a.example/may?key=hidden"), "https://a.example/may");
        let settings = Settings { hook_url: Some("http://app:3000/may".to_owned()), ..Settings::default() };
        let count = |settings: &Settings| {
            let mut count = 0;
            settings.check(|_, _| count += 1);
            count
        };
        assert_eq!(count(&settings), 1);
        assert_eq!(count(&Settings { plain_http: true, ..settings }), 0);
    }

    /// Shards ask about single topics only where somebody can be asked; to name them without that is a mistake, which is told.
    #[test]
    fn topics_need_a_hook() {
        let hook_asks = Asks { connect: false, subscribe: true, publish: false };
        let hooked = Settings { hook_url: Some("http://127.0.0.1/".to_owned()), hook_asks, ..Settings::default() };
        let asks = hooked.asks();
        assert!(asks.subscribe && !asks.publish && !asks.visits && asks.tokens);
        hooked.check(|wrong, _| panic!("{wrong}"));
        let alone = Settings { hook_url: None, ..hooked };
        assert!(!alone.asks().subscribe);
        let mut told = Vec::new();
        alone.check(|wrong, cure| told.push(format!("{wrong}: {cure}")));
        assert!(told.len() == 1 && told[0].contains("auth-url"), "{told:?}");
    }
}
