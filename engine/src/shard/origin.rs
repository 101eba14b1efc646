//! Which pages may open a WebSocket: a browser sends `Origin`, and no cookie or network position replaces the check.

/// Says whether a request with this `Origin` may go on.
///
/// Allowed are: no origin at all (not a browser), the host itself, what the list names (`*`: everything), and on a
/// loopback listener every loopback origin.
#[must_use]
pub(super) fn allowed(origin: Option<&str>, host: Option<&str>, listed: &[String], on_loopback: bool) -> bool {
    let Some(origin) = origin else { return true };
    if listed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    if !matches!(scheme, "http" | "https") {
        return false;
    }
    if host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) {
        return true;
    }
    on_loopback && is_loopback(authority)
}

fn is_loopback(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::allowed;

    /// Only pages of the host itself, of the list, and loopback pages on loopback get through.
    #[test]
    fn table() {
        let listed = ["https://app.example".to_owned()];
        for (origin, host, on_loopback, expected) in [
            (None, Some("a.example"), false, true),
            (Some("https://a.example"), Some("a.example"), false, true),
            (Some("https://A.example"), Some("a.example"), false, true),
            (Some("https://a.example:444"), Some("a.example"), false, false),
            (Some("https://app.example"), Some("a.example"), false, true),
            (Some("https://evil.example"), Some("a.example"), false, false),
            (Some("https://evil.example"), Some("a.example"), true, false),
            (Some("http://localhost:3000"), Some("127.0.0.1:8080"), true, true),
            (Some("http://127.0.0.1"), Some("localhost:8080"), true, true),
            (Some("http://[::1]:3000"), Some("127.0.0.1:8080"), true, true),
            (Some("http://localhost:3000"), Some("a.example"), false, false),
            (Some("http://127.0.0.1.evil.example"), Some("127.0.0.1:8080"), true, false),
            (Some("http://localhost.evil.example"), Some("127.0.0.1:8080"), true, false),
            (Some("null"), Some("a.example"), true, false),
            (Some("file://a.example"), Some("a.example"), true, false),
            (Some(""), Some(""), true, false),
        ] {
            assert_eq!(allowed(origin, host, &listed, on_loopback), expected, "{origin:?} at {host:?}");
        }
        assert!(allowed(Some("https://evil.example"), None, &["*".to_owned()], false));
    }
}
