//! Where a listener listens: an address of the network, plain or with TLS, or a path of this host.
//!
//! Owns: [`Listen`], how it is written and read. What a writer writes, its reader reads back unchanged.
//! Touches: text only. Never: opens anything.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket in bytes: `sun_path` holds 108 with the zero at its end (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// Plain TCP: `127.0.0.1:8080`.
    Tcp(SocketAddr),
    /// TLS over TCP: `tls://0.0.0.0:443`.
    Tls(SocketAddr),
    /// A Unix socket, for this host only: `unix:/run/corecast/corecast.sock`.
    Unix(PathBuf),
}

impl Listen {
    /// Reads an address. Names other than `localhost` are refused: what they mean may change later.
    ///
    /// # Errors
    /// What is wrong with it, and what was expected.
    pub fn read(text: &str) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            // A comma would end it in a list.
            let fits = path.len() <= PATH_BYTES_MAX && !path.contains(['\0', ',', '"', '\\']);
            return if path.starts_with('/') && !path.ends_with('/') && fits {
                Ok(Listen::Unix(PathBuf::from(path)))
            } else {
                let expected = "a whole path of at most 107 bytes, as in unix:/run/corecast/corecast.sock";
                Err(format!("`{text}` is not an address: expected {expected}"))
            };
        }
        match text.strip_prefix("tls://") {
            Some(rest) => socket(rest).map(Listen::Tls),
            None => socket(text).map(Listen::Tcp),
        }
        .ok_or_else(|| {
            let expected = "an IP address and a port, as in 127.0.0.1:8080, tls://[::]:443, or unix: and a path";
            format!("`{text}` is not an address: expected {expected}")
        })
    }

    /// Returns its address in the network, if it has one.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Listen::Tcp(address) | Listen::Tls(address) => Some(*address),
            Listen::Unix(_) => None,
        }
    }

    /// Returns its path, if it has one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Listen::Unix(path) => Some(path),
            Listen::Tcp(_) | Listen::Tls(_) => None,
        }
    }

    /// Says whether it can be reached from this host only.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.socket().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }

    /// Says whether connections to it speak TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Listen::Tls(_))
    }

    /// Returns the same with another address in the network: the one that the kernel chose. A path stays what it is.
    #[must_use]
    pub fn bound_to(&self, address: SocketAddr) -> Listen {
        match self {
            Listen::Tcp(_) => Listen::Tcp(address),
            Listen::Tls(_) => Listen::Tls(address),
            Listen::Unix(path) => Listen::Unix(path.clone()),
        }
    }

    /// Says whether two listeners would fight for one port or path. Port 0 is a different one each time.
    #[must_use]
    pub fn overlaps(&self, other: &Listen) -> bool {
        let (Some(a), Some(b)) = (self.socket(), other.socket()) else { return self == other };
        let (a_ip, b_ip) = (a.ip().to_canonical(), b.ip().to_canonical());
        a.port() == b.port() && a.port() != 0 && (a_ip == b_ip || a_ip.is_unspecified() || b_ip.is_unspecified())
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen::Tcp(address)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Tls(address) => write!(f, "tls://{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn socket(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses of each kind are read, and what is shown of them reads back.
    #[test]
    fn addresses_read_back() {
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        for (text, expected) in [
            ("127.0.0.1:8080", Listen::Tcp(address("127.0.0.1:8080"))),
            ("localhost:80", Listen::Tcp(address("127.0.0.1:80"))),
            ("[::1]:8080", Listen::Tcp(address("[::1]:8080"))),
            ("tls://0.0.0.0:443", Listen::Tls(address("0.0.0.0:443"))),
            ("tls://localhost:443", Listen::Tls(address("127.0.0.1:443"))),
            ("tls://[::]:443", Listen::Tls(address("[::]:443"))),
            ("unix:/run/corecast.sock", Listen::Unix("/run/corecast.sock".into())),
            ("unix:/run/a b:c.sock", Listen::Unix("/run/a b:c.sock".into())),
        ] {
            assert_eq!(Listen::read(text).as_ref(), Ok(&expected), "{text}");
            assert_eq!(Listen::read(&expected.to_string()), Ok(expected), "{text}: what is shown reads back");
        }
    }

    /// What is no address is refused with what one looks like: names other than localhost, ports that are none, paths from nowhere.
    #[test]
    fn no_addresses() {
        let long = format!("unix:/{}", "x".repeat(PATH_BYTES_MAX));
        for text in [
            "",
            "8080",
            ":8080",
            "127.0.0.1",
            "example.com:80",
            "127.0.0.1:70000",
            "localhost:x",
            "tls:127.0.0.1:443",
            "tls://",
            "tls://example.com:443",
            "http://127.0.0.1:80",
            "unix:",
            "unix:corecast.sock",
            "unix://",
            "unix:/run/",
            "unix:/a,b",
            "unix:/a\"b",
            &long,
        ] {
            let error = Listen::read(text).unwrap_err();
            assert!(error.contains("is not an address: expected"), "{error}");
        }
        assert!(Listen::read(&long[..long.len() - 1]).is_ok(), "as long as a path may be");
    }

    /// Listeners collide on a port, whatever they speak there, and on a path; port 0 never does.
    #[test]
    fn overlapping() {
        let overlap = |a: &str, b: &str| Listen::read(a).unwrap().overlaps(&Listen::read(b).unwrap());
        assert!(overlap("127.0.0.1:80", "tls://127.0.0.1:80"));
        assert!(overlap("tls://[::]:80", "127.0.0.1:80"));
        assert!(overlap("unix:/a", "unix:/a"));
        assert!(!overlap("unix:/a", "unix:/b"));
        assert!(!overlap("unix:/a", "0.0.0.0:80"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
        assert!(!overlap("127.0.0.1:80", "127.0.0.2:80"));
    }

    /// Loopback and paths are of this host only.
    #[test]
    fn local() {
        for (text, expected) in [
            ("127.9.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/a", true),
            ("tls://127.0.0.1:1", true),
            ("0.0.0.0:1", false),
            ("tls://[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(Listen::read(text).unwrap().is_local(), expected, "{text}");
        }
    }
}
