//! Which pages may do what they ask for, and under which names this host may be asked.
//!
//! A browser sends `Origin`, and no cookie or network position replaces the check. `Host` is checked for the page that had
//! its own name resolve to this host (DNS rebinding) and is, to its browser, of the same origin. What it sends names it all
//! the same, with the port that it was connected to: so a request that names another port came through a proxy or a tunnel,
//! and is none of those.

use std::net::{IpAddr, SocketAddr};

use corecast_protocol::http::head::Request;

use crate::io::driver::Slot;
use crate::shard::Shard;
use crate::shard::session::request::exchange::ORIGIN_BYTES_MAX;

/// What a page of an origin is told that is not allowed.
pub(in crate::shard) const REFUSED: &str =
    "this origin is not allowed; the setting `origins` (--origins, CORECAST_ORIGINS) lists those that are";

/// What is told where the host is asked for under a name that is not its own.
pub(crate) const MISDIRECTED: &str = "this host is not known by that name; the setting `allowed-hosts` (--allowed-hosts, \
                                      CORECAST_ALLOWED_HOSTS) lists its names";

/// What is told where JSONP is switched off.
pub(in crate::shard) const JSONP_OFF: &str =
    "jsonp is switched off here, by the setting `jsonp` (--jsonp, CORECAST_JSONP)";

/// Bytes of what a peer sent that a line of the log shows at most.
const SHOWN_BYTES_MAX: usize = 128;

impl Shard {
    /// Takes note of the addresses that are listened on, in the order of the listeners.
    pub fn listens_on(&mut self, addresses: impl Iterator<Item = SocketAddr>) {
        self.limits.ports = addresses.map(|address| address.port()).collect();
    }

    /// Returns the origin that the answer is meant for; empty if there is none, or none that may read it.
    pub(in crate::shard) fn origin_answered<'r>(&self, slot: Slot, request: &Request<'r>) -> &'r str {
        let Some(origin) = request.headers.origin else { return "" };
        if self.is_origin_allowed(slot, request) {
            return origin;
        }
        let (shard, peer) = (self.index, self.slots.connections[slot as usize].peer());
        let (origin, host) = (shown(origin), shown(request.headers.host.unwrap_or("")));
        tracing::warn!(shard, %peer, origin, host, "a page of this origin is refused; the setting origins lists the allowed");
        ""
    }

    pub(in crate::shard) fn is_origin_allowed(&self, slot: Slot, request: &Request<'_>) -> bool {
        let (on_loopback, _) = self.listener_of(slot);
        allowed(request.headers.origin, request.headers.host, &self.limits.origins, on_loopback)
    }

    /// Says whether a request is for another host than this one, and logs it.
    pub(in crate::shard) fn is_misdirected(&self, slot: Slot, request: &Request<'_>) -> bool {
        let (on_loopback, port) = self.listener_of(slot);
        if is_host_allowed(request.headers.host, &self.limits.hosts, on_loopback, port) {
            return false;
        }
        let (shard, peer) = (self.index, self.slots.connections[slot as usize].peer());
        let host = shown(request.headers.host.unwrap_or(""));
        tracing::warn!(shard, %peer, host, "a request for another host is refused; the setting allowed-hosts lists the allowed");
        true
    }

    /// Says whether the connection's listener is on loopback, and what port it has, if that is known.
    fn listener_of(&self, slot: Slot) -> (bool, Option<u16>) {
        let listener = usize::from(self.slots.connections[slot as usize].listener);
        let on_loopback = self.limits.loopback.get(listener).copied().unwrap_or(false);
        (on_loopback, self.limits.ports.get(listener).copied())
    }
}

/// Says whether a request with this `Origin` may go on.
///
/// Allowed are: no origin at all (not a browser), the host itself, what the list names (`*`: everything), and on a
/// loopback listener every loopback origin.
#[must_use]
pub(crate) fn allowed(origin: Option<&str>, host: Option<&str>, listed: &[String], on_loopback: bool) -> bool {
    let Some(origin) = origin else { return true };
    if origin.len() > ORIGIN_BYTES_MAX {
        return false;
    }
    let parts = Parts::of(origin);
    if listed.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(origin) || same(parts, Parts::of(entry))) {
        return true;
    }
    let Some(parts) = parts.filter(|parts| parts.default_port().is_some()) else { return false };
    let to_itself = host.is_some_and(|host| {
        let (name, port) = split_port(host);
        name.eq_ignore_ascii_case(parts.name) && parts.has_port(port)
    });
    to_itself || on_loopback && is_loopback(parts.name)
}

/// Says whether a request for this `Host` is for a listener with this port.
///
/// No host at all (HTTP/1.0), and names of loopback, always are. Otherwise a list decides; addresses, which no page can
/// have resolve elsewhere, pass it beyond loopback. Without a list, a listener on loopback refuses what names its own port.
#[must_use]
pub(crate) fn is_host_allowed(host: Option<&str>, listed: &[String], on_loopback: bool, port: Option<u16>) -> bool {
    let Some(host) = host else { return true };
    let (name, named_port) = split_port(host);
    if is_loopback(name) {
        return true;
    }
    let named_port = if named_port.is_empty() { Some(80) } else { named_port.parse().ok() };
    if listed.is_empty() {
        return !on_loopback || port.is_none() || named_port.is_some() && named_port != port;
    }
    let is_listed = |entry: &String| {
        let (listed_name, listed_port) = split_port(entry);
        let within = listed_name.strip_prefix('.').is_some_and(|parent| {
            let (left, right) = name.split_at_checked(name.len().wrapping_sub(parent.len())).unwrap_or((name, ""));
            right.eq_ignore_ascii_case(parent) && (left.is_empty() || left.ends_with('.'))
        });
        entry == "*"
            || (within || listed_name.eq_ignore_ascii_case(name))
                && (listed_port.is_empty() || listed_port.parse().ok() == named_port)
    };
    listed.iter().any(is_listed) || !on_loopback && address(name).is_some()
}

/// An origin, taken apart.
#[derive(Clone, Copy)]
struct Parts<'o> {
    scheme: &'o str,
    name: &'o str,
    /// As it is written; empty if it is not.
    port: &'o str,
}

impl<'o> Parts<'o> {
    fn of(origin: &'o str) -> Option<Parts<'o>> {
        let (scheme, authority) = origin.split_once("://")?;
        let (name, port) = split_port(authority);
        Some(Parts { scheme, name, port })
    }

    /// Returns the port that a browser leaves out, for the schemes that have one.
    fn default_port(self) -> Option<&'static str> {
        if self.scheme.eq_ignore_ascii_case("https") {
            Some("443")
        } else {
            self.scheme.eq_ignore_ascii_case("http").then_some("80")
        }
    }

    /// Says whether a written port, empty for the default one, is this origin's.
    fn has_port(self, port: &str) -> bool {
        let default = self.default_port().unwrap_or("");
        let written = if port.is_empty() { default } else { port };
        let own = if self.port.is_empty() { default } else { self.port };
        written == own
    }
}

fn same(one: Option<Parts<'_>>, other: Option<Parts<'_>>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    one.scheme.eq_ignore_ascii_case(other.scheme)
        && one.name.eq_ignore_ascii_case(other.name)
        && one.has_port(other.port)
}

/// Splits an authority into a name, with the brackets of IPv6, and a port, empty if none is written.
fn split_port(authority: &str) -> (&str, &str) {
    let end = if authority.starts_with('[') { authority.find(']').map(|at| at + 1) } else { authority.find(':') };
    let (name, port) = authority.split_at(end.unwrap_or(authority.len()));
    (name, port.strip_prefix(':').unwrap_or(port))
}

/// Says whether a name is this host itself, whatever any name server says: browsers ask none for `localhost` and the names
/// below it (RFC 6761 section 6.3).
fn is_loopback(name: &str) -> bool {
    if let Some(address) = address(name) {
        return address.is_loopback() || address.is_unspecified();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = name.len().checked_sub("localhost".len()).and_then(|at| name.split_at_checked(at));
    below.is_some_and(|(left, right)| {
        right.eq_ignore_ascii_case("localhost") && (left.is_empty() || left.ends_with('.') && left.len() > 1)
    })
}

fn address(name: &str) -> Option<IpAddr> {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address: IpAddr = inner.unwrap_or(name).parse().ok()?;
    // Brackets are for IPv6, and IPv6 has them.
    (address.is_ipv6() == inner.is_some()).then(|| address.to_canonical())
}

/// Returns as much of a peer's text as a line of the log shows.
fn shown(text: &str) -> &str {
    text.get(..SHOWN_BYTES_MAX.min(text.len())).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// The default port of a scheme is the same whether it is written or left out, in `Host` and in the list; a page was
    /// refused at its own host because of it.
    #[test]
    fn default_ports() {
        for (origin, host, expected) in [
            ("https://a.example", "a.example:443", true),
            ("http://a.example", "a.example:80", true),
            ("http://a.example:80", "a.example", true),
            ("https://a.example:443", "a.example:443", true),
            ("https://a.example", "a.example:80", false),
            ("http://a.example", "a.example:443", false),
            ("https://a.example:8443", "a.example:8443", true),
            ("https://a.example:8443", "a.example:443", false),
            ("https://[2001:db8::1]", "[2001:db8::1]:443", true),
            ("capacitor://a.example", "a.example", false),
            ("https://a.example", "b.example:443", false),
        ] {
            assert_eq!(allowed(Some(origin), Some(host), &[], false), expected, "{origin} at {host}");
        }
        let listed =
            ["https://app.example", "http://b.example:8080", "https://xn--bcher-kva.example"].map(str::to_owned);
        for (origin, expected) in [
            ("https://app.example:443", true),
            ("https://APP.example", true),
            ("https://app.example:80", false),
            ("http://app.example", false),
            ("http://b.example:8080", true),
            ("http://b.example", false),
            ("https://xn--bcher-kva.example", true),
        ] {
            assert_eq!(allowed(Some(origin), Some("x"), &listed, false), expected, "{origin}");
        }
    }

    /// Apps and extensions have schemes of their own, which are allowed when listed, `null` too; never on their own.
    #[test]
    fn schemes_of_apps() {
        let apps = [
            "capacitor://localhost",
            "tauri://localhost",
            "chrome-extension://abcdefgh",
            "app://a:80",
            "file://",
            "null",
        ];
        let listed = apps.map(str::to_owned);
        for app in apps {
            assert!(allowed(Some(app), Some("127.0.0.1:8080"), &listed, false), "{app}");
            assert!(!allowed(Some(app), Some("localhost"), &[], true), "{app}");
        }
        for stranger in ["capacitor://evil", "chrome-extension://other", "tauri://localhost:1", "app://a", "file://a"] {
            assert!(!allowed(Some(stranger), Some("x"), &listed, true), "{stranger}");
        }
    }

    /// An origin as long as any can be is allowed; a longer one is refused, not answered as if it had none.
    #[test]
    fn long_origins() {
        let name = |bytes: usize| format!("https://{}", "a".repeat(bytes - "https://".len()));
        let all = ["*".to_owned()];
        assert!(allowed(Some(&name(ORIGIN_BYTES_MAX)), None, &all, false));
        assert!(!allowed(Some(&name(ORIGIN_BYTES_MAX + 1)), None, &all, false));
    }

    /// A listener on loopback is asked for by a loopback name, by a listed one, or through a proxy: a page whose own name
    /// resolves to it is turned away.
    #[test]
    fn names_of_loopback() {
        for (host, expected) in [
            (None, true),
            (Some("localhost:8080"), true),
            (Some("LOCALHOST:8080"), true),
            (Some("localhost.:8080"), true),
            (Some("app.localhost:8080"), true),
            (Some("127.0.0.1:8080"), true),
            (Some("127.1.2.3:8080"), true),
            (Some("[::1]:8080"), true),
            (Some("[::ffff:127.0.0.1]:8080"), true),
            (Some("0.0.0.0:8080"), true),
            (Some("evil.example:8080"), false),
            (Some("localhost.evil.example:8080"), false),
            (Some("evillocalhost:8080"), false),
            (Some(".localhost:8080"), false),
            (Some("127.0.0.1.evil.example:8080"), false),
            (Some("evil.example:08080"), false),
            (Some("evil.example:x"), false),
            (Some("10.0.0.1:8080"), false),
            // Through a proxy: no browser that is connected to port 8080 itself names another.
            (Some("app.example"), true),
            (Some("app.example:443"), true),
        ] {
            assert_eq!(is_host_allowed(host, &[], true, Some(8080)), expected, "{host:?}");
            assert!(is_host_allowed(host, &[], false, Some(8080)), "{host:?}, not on loopback");
            assert!(is_host_allowed(host, &["*".to_owned()], true, Some(8080)), "{host:?}, all allowed");
        }
        assert!(!is_host_allowed(Some("evil.example"), &[], true, Some(80)), "the port that is left out");
    }

    /// A list of hosts is held to on every listener, whatever the port; addresses pass beyond loopback.
    #[test]
    fn listed_hosts() {
        let listed = ["app.example", ".b.example", "c.example:8443"].map(str::to_owned);
        for (host, on_loopback, beyond) in [
            ("app.example:8080", true, true),
            ("App.Example", true, true),
            ("x.app.example", false, false),
            ("b.example", true, true),
            ("x.y.b.example:1", true, true),
            ("xb.example", false, false),
            ("c.example:8443", true, true),
            ("c.example", false, false),
            ("evil.example:443", false, false),
            ("10.0.0.1:8080", false, true),
            ("[2001:db8::1]", false, true),
            ("localhost:1", true, true),
        ] {
            assert_eq!(is_host_allowed(Some(host), &listed, true, Some(8080)), on_loopback, "{host}");
            assert_eq!(is_host_allowed(Some(host), &listed, false, Some(8080)), beyond, "{host}, not on loopback");
        }
    }
}
