//! Which pages may do what they ask for, and under which names this host may be asked.
//!
//! A browser sends `Origin`, and no cookie or network position replaces the check. `Host` is checked for the page that had
//! its own name resolve to this host (DNS rebinding) and is, to its browser, of the same origin. What it sends names it all
//! the same, with the port that it was connected to: so a request that names another port came through a proxy or a tunnel,
//! and is none of those.
//!
//! What a page's own host is depends on the entrance: on a listener with TLS it is asked for by `https`, and its port is 443 where
//! none is written. On a plain one a proxy may speak TLS before us, and both schemes are taken for the page's own.

use std::net::{IpAddr, SocketAddr};

use corecast_protocol::http::head::Request;

use crate::io::driver::Slot;
use crate::shard::Shard;
use crate::shard::session::entrance::{Entrance, Scheme};
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

/// How a page is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// It may not go on, and reads nothing.
    No,
    /// It may because all may (`*`): it reads what anybody reads, and a browser must not send a user's cookies along.
    AsAnyone,
    /// It is one of ours: of the list, of the host itself, or of loopback on loopback. So it is if there is no page at all.
    AsOurs,
}

/// Bytes of what a peer sent that a line of the log shows at most.
const SHOWN_BYTES_MAX: usize = 128;

impl Shard {
    /// Takes note of the addresses that are listened on, in the order of the listeners.
    pub fn listens_on(&mut self, addresses: impl Iterator<Item = SocketAddr>) {
        self.limits.ports = addresses.map(|address| address.port()).collect();
    }

    /// Says how the page is met that asks; one that is not welcome is logged.
    pub(in crate::shard) fn meet(&self, slot: Slot, request: &Request<'_>, entrance: Entrance) -> Welcome {
        let met = welcome(request.headers.origin, request.headers.host, &self.limits.origins, entrance);
        if met == Welcome::No {
            let (shard, peer) = (self.index, self.slots.connections[slot as usize].peer());
            let (origin, host) =
                (shown(request.headers.origin.unwrap_or("")), shown(request.headers.host.unwrap_or("")));
            tracing::warn!(shard, %peer, origin, host, "a page of this origin is refused; the setting origins lists the allowed");
        }
        met
    }

    /// Says whether the page that asks is not welcome.
    pub(in crate::shard) fn is_strange(&mut self, slot: Slot) -> bool {
        self.exchange(slot).pending.strange
    }

    /// Says whether a request is for another host than this one, and logs it.
    pub(in crate::shard) fn is_misdirected(&self, slot: Slot, request: &Request<'_>, entrance: Entrance) -> bool {
        if is_host_allowed(request.headers.host, &self.limits.hosts, entrance) {
            return false;
        }
        let (shard, peer) = (self.index, self.slots.connections[slot as usize].peer());
        let host = shown(request.headers.host.unwrap_or(""));
        tracing::warn!(shard, %peer, host, "a request for another host is refused; the setting allowed-hosts lists the allowed");
        true
    }
}

/// Says whether a request with this `Origin` may go on.
///
/// Welcome are: no origin at all (not a browser), the host itself, what the list names (`*`: everything), and on a
/// loopback listener every loopback origin.
#[must_use]
pub(crate) fn welcome(origin: Option<&str>, host: Option<&str>, listed: &[String], entrance: Entrance) -> Welcome {
    let Some(origin) = origin else { return Welcome::AsOurs };
    if origin.len() > ORIGIN_BYTES_MAX {
        return Welcome::No;
    }
    let parts = Parts::of(origin);
    let is_listed = |entry: &String| entry.eq_ignore_ascii_case(origin) || same(parts, Parts::of(entry));
    if listed.iter().any(is_listed) || parts.is_some_and(|parts| parts.is_own(host, entrance)) {
        Welcome::AsOurs
    } else if listed.iter().any(|entry| entry == "*") {
        Welcome::AsAnyone
    } else {
        Welcome::No
    }
}

/// Says whether a request for this `Host` is for the listener where it came in.
///
/// No host at all (HTTP/1.0), and names of loopback, always are. Otherwise a list decides; addresses, which no page can
/// have resolve elsewhere, pass it beyond loopback. Without a list, a listener on loopback refuses what names its own port.
#[must_use]
pub(crate) fn is_host_allowed(host: Option<&str>, listed: &[String], entrance: Entrance) -> bool {
    let Some(host) = host else { return true };
    let Entrance { on_loopback, port, scheme } = entrance;
    let (name, named_port) = split_port(host);
    if is_loopback(name) {
        return true;
    }
    let default_port = scheme.unwrap_or(Scheme::Http).port();
    let named_port = if named_port.is_empty() { Some(default_port) } else { named_port.parse().ok() };
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

    /// Says whether it is that of the host that was asked for, where it was asked, or one of this machine where only that one asks.
    fn is_own(self, host: Option<&str>, entrance: Entrance) -> bool {
        let Some(scheme) = Scheme::of(self.scheme) else { return false };
        let to_itself = host.is_some_and(|host| {
            let (name, port) = split_port(host);
            name.eq_ignore_ascii_case(self.name)
                && self.has_port(port)
                && entrance.scheme.is_none_or(|own| own == scheme)
        });
        to_itself || entrance.on_loopback && is_loopback(self.name)
    }

    /// Says whether a written port, empty for the default one, is this origin's.
    fn has_port(self, port: &str) -> bool {
        let default = match Scheme::of(self.scheme) {
            Some(Scheme::Http) => "80",
            Some(Scheme::Https) => "443",
            None => "",
        };
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

    /// A listener with port 8080.
    fn plain(on_loopback: bool) -> Entrance {
        Entrance { on_loopback, port: Some(8080), scheme: None }
    }

    /// The same with TLS and another port, beyond loopback.
    fn with_tls(port: u16) -> Entrance {
        Entrance { on_loopback: false, port: Some(port), scheme: Some(Scheme::Https) }
    }

    fn allowed(origin: Option<&str>, host: Option<&str>, listed: &[String], on_loopback: bool) -> bool {
        welcome(origin, host, listed, plain(on_loopback)) != Welcome::No
    }

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
            assert_eq!(is_host_allowed(host, &[], plain(true)), expected, "{host:?}");
            assert!(is_host_allowed(host, &[], plain(false)), "{host:?}, not on loopback");
            assert!(is_host_allowed(host, &["*".to_owned()], plain(true)), "{host:?}, all allowed");
        }
        let on =
            |port, scheme| is_host_allowed(Some("evil.example"), &[], Entrance { on_loopback: true, port, scheme });
        assert!(!on(Some(80), None), "the port that is left out");
        assert!(!on(Some(443), Some(Scheme::Https)), "with TLS it is another");
        assert!(on(Some(80), Some(Scheme::Https)) && on(Some(443), None) && on(None, None));
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
            assert_eq!(is_host_allowed(Some(host), &listed, plain(true)), on_loopback, "{host}");
            assert_eq!(is_host_allowed(Some(host), &listed, plain(false)), beyond, "{host}, not on loopback");
        }
    }

    /// With TLS the host's own pages come over `https`, and its port is 443 where none is written; a page that came over plain HTTP,
    /// which anybody on its way could have changed, is a stranger.
    #[test]
    fn pages_over_tls() {
        for (origin, host, port, expected) in [
            ("https://a.example", "a.example", 443, true),
            ("https://a.example:443", "a.example", 443, true),
            ("https://a.example", "a.example:443", 443, true),
            ("https://a.example:8443", "a.example:8443", 8443, true),
            ("http://a.example", "a.example", 443, false),
            ("http://a.example:443", "a.example:443", 443, false),
            ("http://a.example:8443", "a.example:8443", 8443, false),
            ("https://b.example", "a.example", 443, false),
        ] {
            let met = welcome(Some(origin), Some(host), &[], with_tls(port));
            assert_eq!(met != Welcome::No, expected, "{origin} at {host}");
        }
        let listed = ["http://a.example".to_owned()];
        assert_eq!(
            welcome(Some("http://a.example"), Some("a.example"), &listed, with_tls(443)),
            Welcome::AsOurs,
            "listed"
        );
        let local = Entrance { on_loopback: true, ..with_tls(8443) };
        assert_eq!(welcome(Some("http://localhost:3000"), Some("localhost:8443"), &[], local), Welcome::AsOurs);
    }

    /// `*` lets everybody in as anybody: whose users are known is still who is listed, or at home.
    #[test]
    fn all_are_not_ours() {
        let met = |origin: &str, on_loopback: bool| {
            welcome(
                Some(origin),
                Some("a.example"),
                &["*", "https://app.example"].map(str::to_owned),
                plain(on_loopback),
            )
        };
        assert_eq!(met("https://app.example", false), Welcome::AsOurs);
        assert_eq!(met("https://a.example", false), Welcome::AsOurs);
        assert_eq!(met("http://localhost:3000", true), Welcome::AsOurs);
        assert_eq!(met("http://localhost:3000", false), Welcome::AsAnyone);
        assert_eq!(met("https://evil.example", true), Welcome::AsAnyone);
        assert_eq!(met("null", true), Welcome::AsAnyone);
        assert_eq!(met(&format!("https://{}", "a".repeat(ORIGIN_BYTES_MAX)), true), Welcome::No);
    }
}
