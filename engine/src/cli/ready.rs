//! `corecast ready`: asks the engine of this host whether it is ready, for health checks of containers that hold nothing else.
//!
//! It reads the configuration as the engine did, and asks the admin listener that this names: so the same flags, file and variables
//! lead to it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use corecast::config::{self, Flags, Host, Listen};
use corecast::io::check::StartError;

use super::Outcome;

/// How long is waited for an answer, in all: less than the least of what probes wait.
const PATIENCE: Duration = Duration::from_millis(900);
/// An answer that is longer is not one of the engine's.
const ANSWER_BYTES_MAX: usize = 4 << 10;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Asks whether the process answers at all (/healthz), rather than whether it takes clients (/readyz).
    #[arg(long)]
    alive: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let config = match config::load(&arguments.flags, std::env::vars_os(), &Host::read()) {
        Ok(loaded) => loaded.config,
        Err(problems) => return Outcome::CannotStart(problems),
    };
    let Some(address) = config.admin.first() else {
        let cause = "the admin listener is switched off: nobody can be asked".to_owned();
        return Outcome::CannotStart(vec![StartError { cause, cure: "name its address with --admin".to_owned() }]);
    };
    let path = if arguments.alive { "/healthz" } else { "/readyz" };
    match ask(address, path) {
        Ok((200, said)) => super::say(&format!("{said}\n")),
        Ok((status, said)) => Outcome::Failed(format!("{address} says {status} {said}")),
        Err(error) => Outcome::Failed(format!("cannot ask {address}: {error}")),
    }
}

/// Asks for a path; returns the status and the first line of what is said.
fn ask(address: &Listen, path: &str) -> io::Result<(u16, String)> {
    let end_at = Instant::now() + PATIENCE;
    match address {
        Listen::Tcp(address) | Listen::Tls(address) => {
            let stream = TcpStream::connect_timeout(&reachable(*address), PATIENCE)?;
            talk(&stream, path, end_at, |left| stream.set_read_timeout(Some(left)))
        }
        Listen::Unix(file) => {
            let stream = UnixStream::connect(file)?;
            talk(&stream, path, end_at, |left| stream.set_read_timeout(Some(left)))
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

fn talk<S>(
    mut stream: S,
    path: &str,
    end_at: Instant,
    patient: impl Fn(Duration) -> io::Result<()>,
) -> io::Result<(u16, String)>
where
    S: Read + Write,
{
    // Without a Host: no setting says which names the listener has to be asked by.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    loop {
        let left = end_at.saturating_duration_since(Instant::now());
        if left.is_zero() || answer.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        patient(left)?;
        match stream.read(&mut piece)? {
            0 => break,
            bytes => answer.extend_from_slice(&piece[..bytes]),
        }
    }
    understood(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("it does not speak HTTP"))
}

/// Reads the status, and the first line of the body, which is said on one line whatever it holds.
fn understood(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.lines().next().unwrap_or_default().escape_debug().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of the admin listener is understood, and what is none is not.
    #[test]
    fn answers_are_understood() {
        let said = understood("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\ndraining\n");
        assert_eq!(said, Some((503, "draining".to_owned())));
        assert_eq!(understood("HTTP/1.0 200 OK\r\n\r\n"), Some((200, String::new())));
        for wrong in ["", "\r\n\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(understood(wrong), None, "{wrong:?}");
        }
    }

    /// A listener on all addresses is asked on loopback, any other where it is.
    #[test]
    fn all_addresses_are_this_one() {
        for (listens, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(listens.parse().expect("an address")), asked.parse().expect("an address"));
        }
    }
}
