//! The admin listener: health, readiness, statistics, and what the control plane is asked, over plain HTTP.
//!
//! Owns: its listening sockets and one thread of the control plane. Touches: what [`Watched`] lets it read. Never: a shard, or
//! anything a message passes through; what a shard has to say comes through [`crate::control`], and whoever asked for it waits
//! for itself. Small on purpose: one request per connection, a head of at most [`HEAD_BYTES_MAX`],
//! [`DEADLINE`] for everything, [`PEERS_MAX`] connections. A peer that stalls costs nobody but itself: the thread waits for all
//! of them at once, and where there are too many, the oldest gives way to the newest.

mod act;
mod answer;
mod dashboard;
pub mod guard;
mod look;
mod peer;
mod pipe;
mod revoke;
mod socket;

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use corecast_protocol::http::head::{Method, Request};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::authority::Desk;
use crate::config::Listen;
use crate::control::{Asker, Hosts};
use crate::handover::{Role, Shared, find};
use crate::io::check::{StartError, fault, no_thread};
use crate::io::doorbell::Doorbell;
use crate::io::poll::{self, For};
use crate::io::unix::{SocketFile, UnixAccess};
use crate::observed::Observed;
use crate::shard::{Entrance, Welcome, is_host_allowed, welcome};
pub use answer::pages;
use answer::{Asked, Reply};
use guard::Guard;
use peer::Peer;
use pipe::Pipe;
use socket::Socket;

/// Largest request head in bytes; probes send a fortieth of it, and browsers the cookies of everything that this host serves.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Largest body of a request in bytes.
const BODY_BYTES_MAX: usize = 4096;
/// Time a peer has to send its request and take the answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Time that the control plane has, beyond that of the shards, to say what became of a demand: it may have waited in line.
const ANSWER: Duration = Duration::from_secs(2);
/// Connections at the same time; further ones take the place of the oldest.
const PEERS_MAX: usize = 64;
/// How long nothing is accepted when that failed: out of descriptors, most likely, and they come back when somebody closes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is counted beside the shards: name and meaning.
pub const PROCESS_FIELDS: [(&str, &str); 2] = [
    ("log_lines_dropped", "Log lines dropped, because stderr was not read as fast as they came."),
    ("log_lines_left_out", "Log lines left out, because one place in the engine logged too many."),
];

/// One look at the statistics of all shards.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Name of every number.
    pub names: Vec<&'static str>,
    /// The numbers of each shard, in the order of the names.
    pub shards: Vec<Vec<u64>>,
    /// The numbers of all shards put together.
    pub total: Vec<u64>,
    /// The numbers of [`PROCESS_FIELDS`].
    pub process: [u64; PROCESS_FIELDS.len()],
}

/// What the listener may ask of the engine.
pub struct Watched {
    /// Reads the statistics.
    pub read: Box<dyn Fn() -> Reading + Send + Sync>,
    /// Says whether new connections are welcome, or why not.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The names this host may be asked for by, as the setting `allowed-hosts` has them.
    pub hosts: Hosts,
    /// Who may ask.
    pub guard: Guard,
    /// Has the engine end; none: nobody can.
    pub drain: Option<Drain>,
    /// Asks the control plane; none: there is none.
    pub control: Option<Asker>,
    /// Has the authority revoke, and list what is revoked; none: there is none.
    pub authority: Option<Desk>,
    /// Says, once, that the sockets are another process's now; none: that is never said.
    pub retired: Option<Receiver<()>>,
    /// What can be seen without asking anybody; none: there are no metrics.
    pub observed: Option<Observed>,
    /// Where the engine takes connections of this process; none: there is no dashboard.
    pub inside: Option<net::SocketAddr>,
}

/// What has the engine end.
#[derive(Clone, Debug)]
pub struct Drain {
    /// Hears of it, once, with the time in which connections are told, if that was said.
    pub to: Sender<Option<Duration>>,
    /// Every time has to be shorter.
    pub time_bound: Duration,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

/// The bound ports, which do not answer yet, and the thread that will.
#[derive(Debug)]
pub struct Listener {
    addresses: Vec<Listen>,
    files: Vec<SocketFile>,
    begin: Sender<Watched>,
    duplicates: Vec<Shared>,
    bell: Doorbell,
}

impl Listener {
    /// Starts the thread, then takes the ports, or sockets that were handed over by another process.
    ///
    /// # Errors
    /// The thread cannot be started, a port is taken, or an address is not one of this host.
    pub fn bind(addresses: &[Listen], access: UnixAccess, handed: &mut Vec<Shared>) -> Result<Listener, StartError> {
        let (begin, begun) = bounded(1);
        let bell = Doorbell::new().map_err(|error| fault("make doorbells", &error))?;
        let (give, given) = bounded::<Vec<Socket>>(1);
        let rings = bell.clone();
        let spawned = thread::Builder::new().name("admin".to_owned()).spawn(move || {
            // Whoever drops the other end does not want to serve after all.
            let (Ok(sockets), Ok(watched)) = (given.recv(), begun.recv()) else { return };
            serve(sockets, &bell, &watched);
        });
        spawned.map_err(|error| no_thread("admin", &error))?;
        let mut sockets = Vec::new();
        let (mut bound, mut files) = (Vec::new(), Vec::new());
        for address in addresses {
            let shared = find(handed, Role::Admin, address).and_then(|shared| shared.sockets.into_iter().next());
            let opened = match shared {
                Some(socket) => Socket::handed(address, socket),
                None => Socket::open(address, access),
            };
            let opened = opened.map_err(|error| StartError {
                cause: format!("cannot listen on the admin address {address}: {error}"),
                cure: "choose another with --admin, or switch it off with --admin off".to_owned(),
            });
            let (address, socket, file) = opened?;
            bound.push(address);
            files.extend(file);
            sockets.push(socket);
        }
        let duplicates: io::Result<Vec<Shared>> =
            bound.iter().zip(&sockets).map(|(a, socket)| socket.duplicate(a)).collect();
        let duplicates = duplicates.map_err(|error| fault("duplicate sockets", &error))?;
        // It waits for nothing else.
        let _ = give.send(sockets);
        Ok(Listener { addresses: bound, files, begin, duplicates, bell: rings })
    }

    /// Returns the addresses it listens on, with the ports the kernel chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[Listen] {
        &self.addresses
    }

    /// Takes duplicates of its sockets, for the next process.
    pub fn duplicates(&mut self) -> Vec<Shared> {
        std::mem::take(&mut self.duplicates)
    }

    /// Returns what is rung when it is to look whether it is [retired](Watched::retired).
    #[must_use]
    pub fn bell(&self) -> Doorbell {
        self.bell.clone()
    }

    /// Answers requests from now on, until the process ends. Returns the files of its Unix sockets, which go when they are dropped.
    pub fn serve(self, watched: Watched) -> Vec<SocketFile> {
        // Those that were handed over have their files since the other process let go of them.
        let paths = self.addresses.iter().filter_map(Listen::path);
        let mut files = self.files;
        let known = |path: &std::path::Path, files: &[SocketFile]| files.iter().any(|file| file.path() == path);
        let handed: Vec<_> =
            paths.filter(|path| !known(path, &files)).filter_map(|path| SocketFile::handed(path).ok()).collect();
        files.extend(handed);
        // It waits for nothing else.
        let _ = self.begin.send(watched);
        files
    }
}

/// Serves all peers, none of which is waited for alone.
fn serve(mut sockets: Vec<Socket>, bell: &Doorbell, watched: &Watched) {
    let entrances: Vec<Entrance> = sockets.iter().map(Socket::entrance).collect();
    let answer = |of: usize, request: &Request<'_>, body: &[u8]| {
        let entrance = entrances[of];
        let hosts = watched.hosts.read().unwrap_or_else(PoisonError::into_inner);
        if !is_host_allowed(request.headers.host, &hosts, entrance) {
            return Reply::text(421, crate::shard::MISDIRECTED).into();
        }
        // Anybody's page can send this, though it could not read the answer. No list opens it: it is for operators.
        let headers = &request.headers;
        if request.method == Method::Post && welcome(headers.origin, headers.host, &[], entrance) == Welcome::No {
            return Reply::text(403, "pages of other origins may not do that").into();
        }
        if request.path == pipe::PATH && welcome(headers.origin, headers.host, &[], entrance) == Welcome::No {
            return Reply::text(403, "pages of other origins may not read that").into();
        }
        Asked { request, body, watched, bell }.answer()
    };
    let pipe = watched.inside.clone().and_then(|inside| {
        // Who looks at pages can do without.
        Pipe::start(inside).inspect_err(|error| tracing::warn!(%error, "there is no dashboard")).ok()
    });
    let mut peers: Vec<Peer> = Vec::new();
    let mut accept_at = Instant::now();
    loop {
        let now = Instant::now();
        // Whoever is being answered is; whoever comes is the other process's.
        if watched.retired.as_ref().is_some_and(|retired| retired.try_recv().is_ok()) {
            sockets.clear();
        }
        let accepts = now >= accept_at;
        let deadline = peers.iter().map(Peer::deadline).chain((!accepts).then_some(accept_at)).min();
        let waiting = [(bell.as_fd(), For::Reading)].into_iter().chain(peers.iter().map(Peer::waits_for));
        let waiting: Vec<_> =
            waiting.chain(sockets.iter().filter(|_| accepts).map(|socket| (socket.as_fd(), For::Reading))).collect();
        let ready = poll::wait(&waiting, deadline.map(|deadline| deadline.saturating_duration_since(now)));
        let Ok(ready) = ready else {
            thread::sleep(ACCEPT_PAUSE); // The kernel is out of memory.
            continue;
        };
        let now = Instant::now();
        let mut ready = ready.into_iter();
        if ready.next() == Some(true) {
            bell.hear();
        }
        peers.retain_mut(|peer| {
            let is_ready = ready.next() == Some(true);
            if is_ready || peer.is_answered() {
                peer.go_on(&answer, pipe.as_ref())
            } else {
                now < peer.deadline() || peer.late()
            }
        });
        for (of, socket) in sockets.iter().enumerate() {
            if ready.next() == Some(true)
                && let Err(error) = accept(of, socket, &mut peers)
            {
                tracing::warn!(%error, "the admin listener cannot accept");
                accept_at = now + ACCEPT_PAUSE;
            }
        }
    }
}

/// Accepts who waits, so many as there may be at once.
fn accept(of: usize, socket: &Socket, peers: &mut Vec<Peer>) -> io::Result<()> {
    for _ in 0..PEERS_MAX {
        match socket.accept() {
            Ok(stream) => {
                if peers.len() == PEERS_MAX {
                    peers.remove(0);
                }
                // What goes wrong with one connection is its peer's business.
                peers.extend(Peer::new(of, stream));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // Gone before it was taken (accept(2)), or a signal.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) => {
                // One descriptor less in use, if anybody here has one.
                peers.drain(..peers.len().min(1));
                return Err(error);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
