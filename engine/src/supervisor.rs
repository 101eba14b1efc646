//! Whoever started the process, and wants to be told how it is: systemd, and others that speak as it does (`sd_notify(3)`).
//!
//! ```text
//!   start ──▶ READY=1 ──▶ (SIGHUP) RELOADING=1, READY=1 ──▶ STOPPING=1
//!                │  WATCHDOG=1, as long as all shards answer
//! ```
//!
//! Owns: the socket that `NOTIFY_SOCKET` names. Never: takes longer than [`PATIENCE`] for a word, though nobody reads it, or runs on a shard.
//!
//! The crate `sd-notify` (0.5) was tried and left: it knows no abstract addresses, and waits for ever for a supervisor that does not read.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use crate::io::clock::now_us;
use crate::mesh::Dial;

/// How long a word may wait for somebody who does not read: far longer than systemd takes, and nobody minds.
const PATIENCE: Duration = Duration::from_millis(200);

/// The way to the supervisor; clones lead to the same one. Without one, nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// Not 0: the end was told.
    ends: Arc<Dial>,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'s> {
    /// Whoever comes is served; how, in a line.
    Ready(&'s str),
    /// The same, and this process has taken the place of the one that was known.
    TookOver(&'s str),
    /// The configuration is being read again; `Ready` follows.
    Reloading,
    /// It ends.
    Stopping(&'s str),
    /// Everything is another process's, which says how it is; this one ends, which is not the end of the service.
    HandedOver(&'s str),
    /// All goes on as it should.
    Alive,
}

impl Supervisor {
    /// Finds the supervisor of this process, as the environment names it.
    #[must_use]
    pub fn of_this_process() -> Supervisor {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Supervisor::default();
        };
        match connect(&name) {
            Ok(socket) => Supervisor::of(socket),
            Err(error) => {
                let name = name.to_string_lossy();
                tracing::warn!(%name, %error, "the supervisor that NOTIFY_SOCKET names cannot be told anything");
                Supervisor::default()
            }
        }
    }

    /// Makes one of a connected socket.
    #[must_use]
    pub fn of(socket: UnixDatagram) -> Supervisor {
        // If it cannot be, a word waits longer.
        let _ = socket.set_write_timeout(Some(PATIENCE));
        Supervisor { socket: Some(Arc::new(socket)), ends: Arc::default() }
    }

    /// Tells how it is.
    pub fn tell(&self, state: State<'_>) {
        if matches!(state, State::Stopping(_) | State::HandedOver(_)) {
            self.ends.set(1);
        }
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(words(state, process::id(), now_us()).as_bytes()) {
            tracing::warn!(%error, ?state, "the supervisor could not be told");
        }
    }

    /// Says whether the end was told.
    #[must_use]
    pub fn was_told_the_end(&self) -> bool {
        self.ends.read() != 0
    }
}

/// Returns how often a sign of life is wanted at least, if the environment says that this process gives any.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().ok());
    interval(number("WATCHDOG_USEC")??, number("WATCHDOG_PID"), process::id())
}

/// The same, of what stands there.
fn interval(us: u64, pid: Option<Option<u64>>, own: u32) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid == Some(own.into()));
    (meant && us > 0).then(|| Duration::from_micros(us))
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            let what = "it is neither a path nor the name of an abstract socket (@...)";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// Writes what is said in one datagram.
fn words(state: State<'_>, pid: u32, now_us: u64) -> String {
    let line = |status: &str| status.replace(['\n', '\r'], " ");
    let mut text = String::new();
    let written = match state {
        State::Ready(status) => write!(text, "READY=1\nSTATUS={}", line(status)),
        State::TookOver(status) => write!(text, "MAINPID={pid}\nREADY=1\nSTATUS={}", line(status)),
        // So that it is known to answer the reload that was asked for last (`Type=notify-reload`).
        State::Reloading => write!(text, "RELOADING=1\nMONOTONIC_USEC={now_us}"),
        State::Stopping(status) => write!(text, "STOPPING=1\nSTATUS={}", line(status)),
        State::HandedOver(status) => write!(text, "STATUS={}", line(status)),
        State::Alive => write!(text, "WATCHDOG=1"),
    };
    written.expect("writing to a String cannot fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each state in the words of `sd_notify(3)`; a status cannot add words of its own.
    #[test]
    fn words_of_systemd() {
        let said = |state| words(state, 7, 99);
        assert_eq!(said(State::Ready("serves\nMAINPID=1")), "READY=1\nSTATUS=serves MAINPID=1");
        assert_eq!(said(State::TookOver("serves")), "MAINPID=7\nREADY=1\nSTATUS=serves");
        assert_eq!(said(State::Reloading), "RELOADING=1\nMONOTONIC_USEC=99");
        assert_eq!(said(State::Stopping("drains")), "STOPPING=1\nSTATUS=drains");
        assert_eq!(said(State::HandedOver("drains")), "STATUS=drains");
        assert_eq!(said(State::Alive), "WATCHDOG=1");
    }

    /// Signs of life are given if this process is meant, and only then.
    #[test]
    fn whose_watchdog() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(1_000_000, None, 7), second);
        assert_eq!(interval(1_000_000, Some(Some(7)), 7), second);
        assert_eq!(interval(1_000_000, Some(Some(8)), 7), None);
        assert_eq!(interval(1_000_000, Some(None), 7), None, "nobody knows who is meant");
        assert_eq!(interval(0, None, 7), None);
    }

    /// A supervisor that does not read costs a moment, and no more.
    #[test]
    fn nobody_waits_for_it() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let supervisor = Supervisor::of(ours);
        for _ in 0..3 {
            supervisor.tell(State::Alive);
        }
        let mut bytes = [0; 64];
        assert_eq!(theirs.recv(&mut bytes).unwrap(), "WATCHDOG=1".len());
        drop(theirs);
        supervisor.tell(State::Stopping("it goes"));
        assert!(supervisor.was_told_the_end());
        assert!(connect(OsStr::new("vsock:2:1")).is_err());
    }

    /// Names that begin with `@` are those of abstract sockets, others are paths.
    #[test]
    fn both_kinds_of_names() {
        let name = format!("corecast-supervisor-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let hidden = UnixDatagram::bind_addr(&address).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let seen = UnixDatagram::bind(&path).unwrap();
        for (name, socket) in [(format!("@{name}").into(), hidden), (path.into_os_string(), seen)] {
            Supervisor::of(connect(&name).unwrap()).tell(State::Alive);
            let mut bytes = [0; 64];
            assert_eq!(socket.recv(&mut bytes).unwrap(), "WATCHDOG=1".len());
        }
    }
}
