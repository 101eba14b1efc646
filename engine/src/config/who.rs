//! The rows of the table of settings about who may do what.

use super::table::{Kind, Setting, duration_within, each, joined, one_of, small};
use super::units;
use crate::authority::{Asks, KeySource, path, url};

const WHO: &str = "Who may do what";

/// A time that nobody outlives who asks for a token or an answer: a year.
const YEAR_MS: u64 = 365 * 24 * 3_600_000;
/// Threads that wait for the hook, at most.
const PARALLEL_MAX: u32 = 16;

/// Reads a name that somebody gave to himself, as issuers and audiences are.
fn name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\,".contains(&b));
    if plain && text.len() <= 255 && text.bytes().any(|b| b.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a name: expected letters, digits and signs, as in https://id.example.com/"))
    }
}

/// The headers that are read at all, as far as they say anything of who asks.
const HEADERS: [&str; 5] = ["authorization", "cookie", "host", "origin", "corecast-key"];

fn header(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    if HEADERS.contains(&name.as_str()) {
        Ok(name)
    } else {
        Err(format!("`{text}` is not the name of a header that the hook can be told of: {}", HEADERS.join(", ")))
    }
}

fn unless<T>(word: &str, text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == word { Ok(None) } else { read(text).map(Some) }
}

fn list(word: &str, values: &[impl ToString]) -> String {
    if values.is_empty() { word.to_owned() } else { joined(values) }
}

fn shown(word: &str, path: Option<&std::path::PathBuf>) -> String {
    path.map_or_else(|| word.to_owned(), |path| path.display().to_string())
}

const ASKS: [&str; 3] = ["connect", "subscribe", "publish"];

fn asks(text: &str) -> Result<Asks, String> {
    let mut asks = Asks::default();
    for part in each(text, |part| Ok(part.to_owned()))? {
        match part.as_str() {
            "connect" => asks.connect = true,
            "subscribe" => asks.subscribe = true,
            "publish" => asks.publish = true,
            _ => return Err(format!("`{part}` is not one of: {}", ASKS.join(", "))),
        }
    }
    Ok(asks)
}

/// The settings of this heading.
pub(super) const ROWS: &[Setting] = &[
    Setting {
        heading: WHO,
        key: "token-key",
        value: "KEY",
        default: "none",
        help: "Key that verifies tokens (JWT): `secret:FILE` (HS256, HS384, HS512), `pem:FILE` (a public key), `jwks:FILE` (a key \
               set), or the https:// URL of a key set. Files are read again with the configuration",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.authority.token_keys = unless("none", text, |text| each(text, KeySource::read))?.unwrap_or_default();
            Ok(())
        },
        show: |c| list("none", &c.authority.token_keys),
    },
    Setting {
        heading: WHO,
        key: "token-issuer",
        value: "NAME",
        default: "any",
        help: "Who may have issued tokens (`iss`); `any`: whoever has the key",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.authority.issuers = unless("any", text, |text| each(text, name))?.unwrap_or_default();
            Ok(())
        },
        show: |c| list("any", &c.authority.issuers),
    },
    Setting {
        heading: WHO,
        key: "token-audience",
        value: "NAME",
        default: "none",
        help: "For whom tokens may be meant (`aud`), this server among them; `none`: tokens that say for whom they are meant are \
               refused, as they are meant for others",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.authority.audiences = unless("none", text, |text| each(text, name))?.unwrap_or_default();
            Ok(())
        },
        show: |c| list("none", &c.authority.audiences),
    },
    Setting {
        heading: WHO,
        key: "token-claim",
        value: "NAME",
        default: "corecast",
        help: "Claim of a token that says what it allows",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| name(text).map(|v| c.authority.claim = v),
        show: |c| c.authority.claim.clone(),
    },
    Setting {
        heading: WHO,
        key: "token-leeway",
        value: "TIME",
        default: "30s",
        help: "How far the clock of who issues tokens may be from this one",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 0, 600_000).map(|v| c.authority.leeway_s = v / 1000),
        show: |c| units::duration_text(c.authority.leeway_s * 1000),
    },
    Setting {
        heading: WHO,
        key: "token-max-age",
        value: "TIME",
        default: "720h",
        help: "Longest life of a token; those that live longer are refused. Revocations are remembered for so long",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 60_000, YEAR_MS).map(|v| c.authority.token_age_max_s = v / 1000),
        show: |c| units::duration_text(c.authority.token_age_max_s * 1000),
    },
    Setting {
        heading: WHO,
        key: "token-expiry",
        value: "RULE",
        default: "required",
        help: "Whether tokens say when they end (`exp`): `required`, or `optional`, which takes tokens that never do",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| one_of(text, &[("required", false), ("optional", true)]).map(|v| c.authority.endless = v),
        show: |c| if c.authority.endless { "optional" } else { "required" }.to_owned(),
    },
    Setting {
        heading: WHO,
        key: "api-keys",
        value: "FILE",
        default: "none",
        help: "TOML file of API keys and what each may do; read again with the configuration",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| unless("none", text, path).map(|v| c.authority.api_keys = v),
        show: |c| shown("none", c.authority.api_keys.as_ref()),
    },
    Setting {
        heading: WHO,
        key: "certificate-grants",
        value: "FILE",
        default: "none",
        help: "TOML file of names in client certificates and what each may do; read again with the configuration",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| unless("none", text, path).map(|v| c.authority.certificates = v),
        show: |c| shown("none", c.authority.certificates.as_ref()),
    },
    Setting {
        heading: WHO,
        key: "revocations",
        value: "FILE",
        default: "none",
        help: "File in which revoked tokens and subjects are kept over a restart; it is made if it is not there",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| unless("none", text, path).map(|v| c.authority.revocations = v),
        show: |c| shown("none", c.authority.revocations.as_ref()),
    },
    Setting {
        heading: WHO,
        key: "auth-url",
        value: "URL",
        default: "off",
        help: "URL of a hook that is asked who may do what, with POST and JSON, or `off`",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| unless("off", text, url).map(|v| c.authority.hook_url = v),
        show: |c| c.authority.hook_url.clone().unwrap_or_else(|| "off".to_owned()),
    },
    Setting {
        heading: WHO,
        key: "auth-ask",
        value: "WHAT",
        default: "connect",
        help: "What the hook is asked about: `connect` (whoever comes and shows nothing else), `subscribe` (each topic that somebody with a grant wants to read), \
               `publish` (each that he publishes to)",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| asks(text).map(|v| c.authority.hook_asks = v),
        show: |c| {
            let Asks { connect, subscribe, publish } = c.authority.hook_asks;
            let asked = ASKS.iter().zip([connect, subscribe, publish]).filter(|(_, asked)| *asked);
            joined(&asked.map(|(name, _)| *name).collect::<Vec<_>>())
        },
    },
    Setting {
        heading: WHO,
        key: "auth-headers",
        value: "NAME",
        default: "authorization,cookie",
        help: "Headers of a request that the hook is told of, of authorization, cookie, host, origin and corecast-key",
        kind: Kind::Many,
        reloads: true,
        set: |c, text, _| {
            c.authority.hook_headers = unless("none", text, |text| each(text, header))?.unwrap_or_default();
            Ok(())
        },
        show: |c| list("none", &c.authority.hook_headers),
    },
    Setting {
        heading: WHO,
        key: "auth-timeout",
        value: "TIME",
        default: "2s",
        help: "Time that the hook has to answer",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 10, 60_000).map(|v| c.authority.hook_timeout_ms = v),
        show: |c| units::duration_text(c.authority.hook_timeout_ms),
    },
    Setting {
        heading: WHO,
        key: "auth-parallel",
        value: "N",
        default: "8",
        help: "Questions to the hook at the same time; further ones wait",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| small(text, 1, PARALLEL_MAX).map(|v| c.authority.hook_parallel = v),
        show: |c| c.authority.hook_parallel.to_string(),
    },
    Setting {
        heading: WHO,
        key: "auth-cache",
        value: "TIME",
        default: "10s",
        help: "How long an answer of the hook holds for the same question, at most; 0s: not at all",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| duration_within(text, 0, 24 * 3_600_000).map(|v| c.authority.hook_cache_ms = v),
        show: |c| units::duration_text(c.authority.hook_cache_ms),
    },
    Setting {
        heading: WHO,
        key: "auth-down",
        value: "TIME",
        default: "refuse",
        help: "What happens while the hook does not answer: `refuse`, or the time for which what it said before goes on",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| {
            let stale = unless("refuse", text, |text| duration_within(text, 1_000, 24 * 3_600_000));
            stale.map(|v| c.authority.hook_stale_ms = v)
        },
        show: |c| c.authority.hook_stale_ms.map_or_else(|| "refuse".to_owned(), units::duration_text),
    },
    Setting {
        heading: WHO,
        key: "auth-ca",
        value: "FILE",
        default: "browsers",
        help: "Certificates (PEM) of the authorities that vouch for `auth-url` and for the URLs of `token-key`, and no others; \
               `browsers`: those that browsers know",
        kind: Kind::One,
        reloads: false,
        set: |c, text, _| unless("browsers", text, path).map(|v| c.authority.ca = v),
        show: |c| shown("browsers", c.authority.ca.as_ref()),
    },
    Setting {
        heading: WHO,
        key: "auth-plain-http",
        value: "BOOL",
        default: "false",
        help: "Lets `auth-url` and `token-key` go to other hosts over http://, without TLS",
        kind: Kind::Switch,
        reloads: true,
        set: |c, text, _| units::switch(text).map(|v| c.authority.plain_http = v),
        show: |c| c.authority.plain_http.to_string(),
    },
    Setting {
        heading: WHO,
        key: "admin-token",
        value: "FILE",
        default: "none",
        help: "File of the tokens of operators, one a line, each of 16 bytes or more: the admin listener answers only who shows one of \
               them (Authorization: Bearer), but for /healthz and /readyz. Read again with the configuration",
        kind: Kind::One,
        reloads: true,
        set: |c, text, _| unless("none", text, path).map(|v| c.admin_token = v),
        show: |c| shown("none", c.admin_token.as_ref()),
    },
];

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::host;
    use super::*;

    /// Values other than the defaults read back, for every setting, and each changes something.
    #[test]
    fn other_values_read_back() {
        let other = [
            ("token-key", "secret:/etc/a,https://id.example/keys"),
            ("token-issuer", "https://id.example/,other"),
            ("token-audience", "me,us"),
            ("token-claim", "https://example.com/rights"),
            ("token-leeway", "5s"),
            ("token-max-age", "1h"),
            ("token-expiry", "optional"),
            ("api-keys", "/etc/keys.toml"),
            ("certificate-grants", "./certificates.toml"),
            ("revocations", "/var/lib/revoked"),
            ("auth-url", "http://127.0.0.1:9/may"),
            ("auth-ask", "connect,publish"),
            ("auth-headers", "none"),
            ("auth-timeout", "500ms"),
            ("auth-parallel", "3"),
            ("auth-cache", "0s"),
            ("auth-down", "10m"),
            ("auth-ca", "/etc/corecast/ca.pem"),
            ("auth-plain-http", "true"),
            ("admin-token", "/etc/corecast/admin-token"),
        ];
        assert_eq!(other.map(|(key, _)| key).to_vec(), ROWS.iter().map(|s| s.key).collect::<Vec<_>>());
        let default = Config::default_on(&host());
        for ((key, text), setting) in other.iter().zip(ROWS) {
            let mut config = default.clone();
            (setting.set)(&mut config, text, &host()).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!((setting.show)(&config), *text, "{key}");
            assert_ne!(config, default, "{key} changes nothing");
        }
    }

    /// What is no value is refused, and what would be one is said.
    #[test]
    fn ranges_are_held() {
        for (key, text, expected) in [
            ("token-key", "/etc/secret", "secret:FILE"),
            ("token-issuer", "?", "as in https://"),
            ("token-max-age", "1s", "1m to 8760h"),
            ("token-expiry", "never", "required, optional"),
            ("api-keys", "keys", "with a slash"),
            ("auth-url", "example.com", "https://"),
            ("auth-ask", "connect,all", "connect, subscribe, publish"),
            ("auth-headers", "a b", "name of a header"),
            ("auth-parallel", "17", "1 to 16"),
            ("auth-down", "stale", "as in 250ms"),
        ] {
            let setting = ROWS.iter().find(|setting| setting.key == key).unwrap();
            let error = (setting.set)(&mut Config::default_on(&host()), text, &host()).unwrap_err();
            assert!(error.contains(expected), "{key} {text}: {error}");
        }
    }
}
