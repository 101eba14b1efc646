//! The servers under test: child processes, each started afresh, pinned to its core, ended with its measurement.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::host::pin;

/// Time a server may take until it accepts.
const START: Duration = Duration::from_secs(10);

/// Time between two looks whether it does.
const LOOK: Duration = Duration::from_millis(10);

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `corecast serve` with so many shards.
    Engine {
        /// Shards, in turn on the cores.
        shards: u32,
        /// Where they run: on the server's core, or on that and the load generator's.
        cores: Cores,
    },
    /// The plain fan-out loop.
    BareFanout,
    /// The plain epoll fan-out, with topics.
    EpollFanout,
    /// The plain ring echo.
    BareEcho,
    /// The plain epoll echo.
    EpollEcho,
}

impl Kind {
    /// Returns the name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Engine { shards: 1, .. } => "corecast",
            Kind::Engine { cores: Cores::Server, .. } => "corecast, 2 shards",
            Kind::Engine { cores: Cores::Both, .. } => "corecast, 2 shards on 2 cores",
            Kind::BareFanout => "bare ring fan-out",
            Kind::EpollFanout => "bare epoll fan-out",
            Kind::BareEcho => "bare ring echo",
            Kind::EpollEcho => "epoll echo",
        }
    }

    /// Says whether this is the server that the benches are about.
    #[must_use]
    pub fn is_engine(self) -> bool {
        matches!(self, Kind::Engine { .. })
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Engine { .. } => "corecast",
            Kind::BareFanout => "bare-fanout",
            Kind::EpollFanout => "epoll-fanout",
            Kind::BareEcho => "bare-echo",
            Kind::EpollEcho => "epoll-echo",
        }
    }
}

/// Cores that an engine gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Only the server's.
    Server,
    /// The server's and the load generator's: shards on two cores, on a host that has no more.
    Both,
}

/// Where servers are found and put.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Folder of the binaries: the one of `bench` itself, so all are of one build.
    pub folder: PathBuf,
    /// Another engine than the one in there.
    pub engine: Option<PathBuf>,
    /// Core of the servers.
    pub core: usize,
    /// Core of the load generator.
    pub client_core: usize,
}

impl Setup {
    /// Returns the path of a server's binary.
    #[must_use]
    pub fn path(&self, kind: Kind) -> PathBuf {
        let other = self.engine.clone().filter(|_| kind.is_engine());
        other.unwrap_or_else(|| self.folder.join(kind.program()))
    }
}

/// A running server; ends with the value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Where the engine tells its counters.
    admin: Option<SocketAddr>,
}

impl Server {
    /// Starts a server and waits until it accepts; `engine_flags` are for the engine only.
    ///
    /// # Errors
    /// If it cannot be started, ends at once (with what it said on stderr), or does not accept in time.
    pub fn start(kind: Kind, engine_flags: &[&str], setup: &Setup) -> io::Result<Server> {
        let [address, free] = free_addresses()?;
        let listen = address.to_string();
        let mut command = Command::new(setup.path(kind));
        let mut admin = None;
        let mut core = Some(setup.core);
        if let Kind::Engine { shards, cores } = kind {
            let at = admin.insert(free).to_string();
            command.args(["serve", "--listen", &listen, "--admin", &at, "--echo", "--shards", &shards.to_string()]);
            let mut list = setup.core.to_string();
            if cores == Cores::Both {
                list.push_str(&format!(",{}", setup.client_core));
                core = None;
            }
            command.args(["--cores", &list, "--log-level", "warn"]).args(engine_flags);
        } else {
            command.args(["--listen", &listen]);
        }
        if let Some(core) = core {
            // SAFETY: between fork and exec only one system call is made, on local memory.
            unsafe { command.pre_exec(move || pin(core)) };
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| explain(&setup.path(kind), &error))?;
        let mut server = Server { child, address, admin };
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                let mut said = String::new();
                server.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said)).transpose()?;
                return Err(io::Error::other(format!("{} ended with {status}: {}", kind.program(), said.trim())));
            }
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("{} does not accept after {START:?}", kind.program())));
            }
            thread::sleep(LOOK);
        }
        Ok(server)
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns for how many microseconds the engine has spun so far; zero of a server that never does.
    ///
    /// # Errors
    /// If it does not answer, or says nothing of that.
    pub fn spun_us(&self) -> io::Result<u64> {
        let Some(admin) = self.admin else { return Ok(0) };
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(START))?;
        stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let counters: serde_json::Value = serde_json::from_str(body).map_err(io::Error::other)?;
        let spun_us = counters["total"]["spin_us_total"].as_u64();
        spun_us.ok_or_else(|| io::Error::other(format!("no spin_us_total in {body}")))
    }

    /// Returns its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn explain(path: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("cannot start {}: {error} (cargo build --release --workspace)", path.display()))
}

/// Finds two ports that nobody listens on now. Another process could take one before the server does; then the server
/// says so and the bench ends.
fn free_addresses() -> io::Result<[SocketAddr; 2]> {
    // Both at once, or they may be the same.
    let [one, other] = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([one.local_addr()?, other.local_addr()?])
}
