//! Names of hosts and pages as an operator writes them, brought into the form in which browsers send them.
//!
//! Owns: [`origin`] and [`host`]. A browser writes a host in lower case, in punycode where it is not ASCII (UTS 46), and
//! leaves the default port of a scheme out; an operator may write it either way.
//! Touches: text only.

use std::net::{Ipv4Addr, Ipv6Addr};

use idna::AsciiDenyList;

use crate::shard::ORIGIN_BYTES_MAX;

/// Schemes that no page has: writing one is a mistake.
const NO_PAGES: [&str; 7] = ["ftp", "ws", "wss", "data", "blob", "about", "javascript"];

/// Reads one allowed origin: `*`, `null`, or scheme, host and perhaps a port.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let wrong = || {
        let expected =
            "`*`, `null`, or scheme and host without a path, as in https://example.com or capacitor://localhost";
        format!("`{text}` is not an origin: expected {expected}")
    };
    if text == "*" || text.eq_ignore_ascii_case("null") {
        return Ok(text.to_ascii_lowercase());
    }
    let (scheme, authority) = text.split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(in_scheme) {
        return Err(wrong());
    }
    if NO_PAGES.contains(&scheme.as_str()) {
        return Err(format!("`{text}` is not an origin: no page has the scheme {scheme}"));
    }
    let default_port = match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let normal = if default_port.is_some() {
        let (name, port) = split_port(authority).ok_or_else(wrong)?;
        let name = name_of(name).ok_or_else(wrong)?;
        let port = port.filter(|port| Some(*port) != default_port).map(|port| format!(":{port}"));
        format!("{scheme}://{name}{}", port.unwrap_or_default())
    } else {
        // What stands there is for the app to choose: an identifier, `localhost`, or nothing, as in `file://`.
        let plain = |c: char| c.is_ascii_graphic() && !"/?#@*\\\",".contains(c);
        if !authority.chars().all(plain) {
            return Err(wrong());
        }
        format!("{scheme}://{}", authority.to_ascii_lowercase())
    };
    if normal.len() > ORIGIN_BYTES_MAX {
        return Err(format!("`{text}` is longer than any origin: {ORIGIN_BYTES_MAX} bytes"));
    }
    Ok(normal)
}

/// Reads one allowed host: `*`, a name or address, perhaps with a port; a name with a dot before it stands for all names
/// under it as well.
pub(super) fn host(text: &str) -> Result<String, String> {
    let wrong = || {
        format!("`{text}` is not a host: expected `*`, or a name as in example.com, .example.com or example.com:8080")
    };
    if text == "*" {
        return Ok(text.to_owned());
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let (name, port) = split_port(text).ok_or_else(wrong)?;
    let (dot, name) = name.strip_prefix('.').map_or(("", name), |name| (".", name));
    let name = name_of(name).ok_or_else(wrong)?;
    if !dot.is_empty() && (name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok()) {
        return Err(wrong());
    }
    Ok(format!("{dot}{name}{}", port.map_or(String::new(), |port| format!(":{port}"))))
}

/// Splits a port off an authority.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let name_end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (name, port) = authority.split_at(name_end);
    match port.strip_prefix(':') {
        Some(port) => {
            // `parse` would take a sign.
            let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
            Some((name, Some(port)))
        }
        None => port.is_empty().then_some((name, None)),
    }
}

/// Returns a host name as browsers write it, or nothing if it is none.
fn name_of(name: &str) -> Option<String> {
    if let Some(address) = name.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    // What must not stand in a host of a URL, and `*`, which some other servers take for a pattern.
    let ascii = idna::domain_to_ascii_cow(name.as_bytes(), AsciiDenyList::URL).ok()?;
    (!ascii.is_empty() && !ascii.contains('*')).then(|| ascii.into_owned())
}

/// Reads the name of a cookie.
///
/// # Errors
/// It is none.
pub(super) fn cookie(text: &str) -> Result<String, String> {
    // A token (RFC 6265 section 4.1.1), as in a header's name.
    let sound = !text.is_empty()
        && text.len() <= COOKIE_NAME_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    if sound {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not the name of a cookie: letters, digits, - and _"))
    }
}

/// Longest name of a cookie that anybody would choose.
const COOKIE_NAME_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Origins are brought into the form in which a browser sends them: punycode, lower case, no default port.
    #[test]
    fn origins() {
        let long = format!("https://{}.example", vec!["a".repeat(60); 3].join("."));
        for (text, normal) in [
            ("HTTPS://Example.com:8443", "https://example.com:8443"),
            ("*", "*"),
            ("null", "null"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://BÜCHER.example:443", "https://xn--bcher-kva.example"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://例え.テスト:8443", "https://xn--r8jz45g.xn--zckzah:8443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[0:0:0::1]:80", "http://[::1]"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("Tauri://localhost", "tauri://localhost"),
            ("ionic://localhost", "ionic://localhost"),
            ("chrome-extension://ABCDefgh", "chrome-extension://abcdefgh"),
            ("app://obsidian.md:80", "app://obsidian.md:80"),
            ("file://", "file://"),
            (&long, &long),
        ] {
            assert_eq!(origin(text).as_deref(), Ok(normal), "{text}");
            assert_eq!(origin(normal).as_deref(), Ok(normal), "{text}: what is shown reads back");
        }
    }

    /// What no page can be served from is refused: paths, patterns, users, ports that are none, schemes of no page.
    #[test]
    fn no_origins() {
        for text in [
            "",
            "example.com",
            "https://",
            "https://a/b",
            "https://a/",
            "https://*.a",
            "ftp://a",
            "wss://a",
            "https://a b",
            "https://u@a",
            "https://a:",
            "https://a:x",
            "https://a:+1",
            "https://a:65536",
            "https://[::1",
            "https://[a]",
            "https://a?b",
            "https://a#b",
            "://a",
            "1a://b",
            "a_b://c",
            "capacitor://a/b",
            "capacitor://ü",
            "https://::1",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
        let error = origin(&format!("app://{}", "a".repeat(ORIGIN_BYTES_MAX))).unwrap_err();
        assert!(error.contains("is longer than any origin"), "{error}");
    }

    /// Hosts are brought into the form in which a browser sends them; a leading dot and a port stay.
    #[test]
    fn hosts() {
        for (text, normal) in [
            ("*", "*"),
            ("App.Example", "app.example"),
            ("app.example:8080", "app.example:8080"),
            (".example.com", ".example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "[::1]"),
            ("[fe80::0:1]:80", "[fe80::1]:80"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(normal), "{text}");
            assert_eq!(host(normal).as_deref(), Ok(normal), "{text}: what is shown reads back");
        }
        for text in ["", ".", "http://a", "a/b", "*.a", "a b", "a:x", "a:", ".10.0.0.1", ".[::1]", "[::1", "u@a", "a?b"]
        {
            assert!(host(text).is_err(), "{text}");
        }
    }

    /// A cookie has a name that can stand in a header.
    #[test]
    fn cookies() {
        for text in ["access", "__Host-token", "a.b~c"] {
            assert_eq!(cookie(text).as_deref(), Ok(text));
        }
        for text in ["", "a b", "a=b", "a;b", "ü", "a,b"] {
            assert!(cookie(text).is_err(), "{text}");
        }
    }
}
