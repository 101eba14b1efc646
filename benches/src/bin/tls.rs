//! What TLS costs: the same fan-out plain, with the engine's TLS, and with nginx before the plain engine, in one run; bytes of an idle
//! connection; handshakes a second.
//!
//! Starts what it measures, on core 0, and is the client on core 1. CPU is the scheduler's run time of all threads of the servers
//! (`/proc/PID/task/*/schedstat`), with the kernel's work for them; on loopback also the receiving side's. Subscribers read one after the
//! other, which costs the servers nothing. Certificates are made here: ECDSA P-256.
//!
//! A round begins at a fixed pace, and its readers read when all of it has been sent. As fast as each can, a reader that waits for its message
//! has to be woken by the sender, and one that reads meanwhile acknowledges into a socket that is being sent to: up to two microseconds a
//! delivery of the sender's time that depend on how fast readers decrypt, not on who sends (LOG).

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser as _;
use corecast_benches::host::pin;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// What TLS costs, beside plain and beside nginx.
#[derive(clap::Parser)]
struct Arguments {
    /// The engine.
    #[arg(long, default_value = "target/release/corecast")]
    engine: PathBuf,
    /// Subscribers of the one topic.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 512)]
    bytes: usize,
    /// Messages of a round.
    #[arg(long, default_value_t = 112)]
    messages: usize,
    /// Rounds of each, one after the other in turn; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Milliseconds from round to round: more than twice of what the slowest takes for its sending.
    #[arg(long, default_value_t = 60)]
    pace: u64,
    /// Idle connections, of which a quarter is the first measure: the more, the less counts what is kept once.
    #[arg(long, default_value_t = 12_000)]
    idle: usize,
    /// Handshakes of a round.
    #[arg(long, default_value_t = 500)]
    handshakes: usize,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A way to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    Nginx,
}

/// Either end of a subscriber.
enum Reader {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Reader::Plain(stream) => stream.read(into),
            Reader::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Reader::Plain(stream) => stream.write(bytes),
            Reader::Tls(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Reader::Plain(stream) => stream.flush(),
            Reader::Tls(stream) => stream.flush(),
        }
    }
}

/// A server that ends with its measurement.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours, and nothing of it is needed any more. Asked, as nginx has workers that it ends then.
        if let Ok(id) = i32::try_from(self.0.id()) {
            // SAFETY: it is a child that was not waited for, so the id is its own.
            unsafe { libc::kill(id, libc::SIGTERM) };
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(command: &mut Command, listens: &[SocketAddr]) -> Outcome<Server> {
        // SAFETY: between fork and exec only one system call is made, on local memory.
        unsafe { command.pre_exec(|| pin(0)) };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Server(child);
        let start = Instant::now();
        for address in listens {
            while TcpStream::connect(address).is_err() {
                if start.elapsed() > Duration::from_secs(10) {
                    return Err(format!("{command:?} does not listen on {address}").into());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(server)
    }

    /// Returns the processes: it and its children.
    fn processes(&self) -> Vec<u32> {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        std::iter::once(id).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect()
    }

    /// Returns the run time of all their threads, in nanoseconds.
    fn cpu_ns(&self) -> u64 {
        let tasks = self.processes().into_iter().filter_map(|id| fs::read_dir(format!("/proc/{id}/task")).ok());
        let stats = tasks.flatten().flatten().map(|task| task.path().join("schedstat"));
        let ran = stats.filter_map(|path| fs::read_to_string(path).ok()?.split(' ').next()?.parse::<u64>().ok());
        ran.sum()
    }

    /// Returns the anonymous memory that is resident, in bytes.
    fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    }
}

/// What is run against.
struct Place {
    engine: Server,
    nginx: Option<Server>,
    addresses: [SocketAddr; 3],
    config: Arc<ClientConfig>,
    resuming: Arc<ClientConfig>,
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

impl Place {
    fn open(arguments: &Arguments, folder: &Path) -> Outcome<Place> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
        let (chain, secret) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&chain, certificate.pem())?;
        fs::write(&secret, key.serialize_pem())?;
        let addresses = [free_port()?, free_port()?, free_port()?];
        let [plain, tls, nginx] = addresses;
        let mut command = Command::new(&arguments.engine);
        command.args(["--listen", &plain.to_string(), "--listen", &format!("tls://{tls}"), "--admin", "off"]);
        command.args(["--shards", "1", "--cores", "0", "--memory", "256m"]);
        command.arg("--tls-cert").arg(&chain).arg("--tls-key").arg(&secret);
        let engine = Server::start(&mut command, &[plain, tls])?;
        let text = format!(
            "daemon off; worker_processes 1; worker_cpu_affinity 01; pid {0}/nginx.pid; error_log /dev/null;\n\
             events {{ worker_connections 16384; }}\n\
             http {{ access_log off; server {{ listen {nginx} ssl; ssl_certificate {0}/cert.pem;\n\
             ssl_certificate_key {0}/key.pem; ssl_protocols TLSv1.3; tcp_nodelay on;\n\
             location / {{ proxy_pass http://{plain}; proxy_http_version 1.1; proxy_read_timeout 600s;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
             proxy_set_header Host $http_host; }} }} }}\n",
            folder.display()
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, text)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&path);
        let nginx = Server::start(&mut command, &[nginx]).map_err(|error| eprintln!("without nginx: {error}")).ok();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.der().to_vec()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let resuming = config.with_root_certificates(roots).with_no_client_auth();
        let mut config = resuming.clone();
        config.resumption = Resumption::disabled();
        Ok(Place { engine, nginx, addresses, config: Arc::new(config), resuming: Arc::new(resuming) })
    }

    fn connect(&self, way: Way, config: &Arc<ClientConfig>) -> Outcome<Reader> {
        let stream = TcpStream::connect(self.addresses[way as usize])?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        if way == Way::Plain {
            return Ok(Reader::Plain(stream));
        }
        let client = ClientConnection::new(config.clone(), "localhost".try_into()?)?;
        Ok(Reader::Tls(Box::new(StreamOwned::new(client, stream))))
    }

    /// Opens a WebSocket that reads the topic.
    fn subscribe(&self, way: Way) -> Outcome<Reader> {
        let mut reader = self.connect(way, &self.config)?;
        reader.write_all(
            b"GET /topics/bench?since=live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&head).into_owned().into());
        }
        Ok(reader)
    }

    fn cpu_ns(&self, way: Way) -> u64 {
        let nginx = self.nginx.as_ref().filter(|_| way == Way::Nginx).map_or(0, Server::cpu_ns);
        self.engine.cpu_ns() + nginx
    }

    /// Publishes and reads, so many messages at a time; returns nanoseconds of CPU a delivery.
    fn fan_out(&self, arguments: &Arguments, way: Way, at_once: usize) -> Outcome<f64> {
        let mut readers = (0..arguments.subscribers).map(|_| self.subscribe(way)).collect::<Outcome<Vec<_>>>()?;
        let mut publisher = TcpStream::connect(self.addresses[0])?;
        publisher.set_nodelay(true)?;
        let frame_len = arguments.bytes + if arguments.bytes < 126 { 2 } else { 4 };
        let request = format!(
            "POST /topics/bench HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}",
            arguments.bytes,
            "x".repeat(arguments.bytes)
        );
        let mut frames = vec![0; frame_len * at_once];
        let mut before = 0;
        let rounds = arguments.messages / at_once;
        let warm = rounds.div_ceil(10);
        // What comes together costs each less.
        let pace = Duration::from_millis(arguments.pace * (at_once as u64).isqrt() / 2);
        for round in 0..warm + rounds {
            std::thread::sleep(pace);
            if round == warm {
                before = self.cpu_ns(way);
            }
            publisher.write_all(request.repeat(at_once).as_bytes())?;
            std::thread::sleep(pace);
            for reader in &mut readers {
                reader.read_exact(&mut frames)?;
            }
            if frames[frame_len - 1] != b'x' || frames[0] != 0x81 {
                return Err("something else was delivered".into());
            }
            let mut answers = [0; 1 << 14];
            let mut seen = 0;
            while seen < at_once {
                let count = publisher.read(&mut answers)?;
                seen += answers[..count].windows(9).filter(|nine| *nine == b"\"cursor\":").count();
            }
        }
        let spent = self.cpu_ns(way) - before;
        Ok(spent as f64 / (rounds * at_once * arguments.subscribers) as f64)
    }

    /// Returns nanoseconds of CPU for a connection that says nothing but its handshake, and then ends.
    fn handshakes(&self, arguments: &Arguments, way: Way, config: &Arc<ClientConfig>) -> Outcome<f64> {
        let before = self.cpu_ns(way);
        for _ in 0..arguments.handshakes {
            let mut reader = self.connect(way, config)?;
            reader.write_all(b"GET /topics/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            // Whether the end is told in words of TLS is not the question.
            let _ = reader.read_to_end(&mut answer);
            if !answer.starts_with(b"HTTP/1.1 200") {
                return Err(String::from_utf8_lossy(&answer).into_owned().into());
            }
        }
        Ok((self.cpu_ns(way) - before) as f64 / arguments.handshakes as f64)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let folder = std::env::temp_dir().join(format!("corecast-tls-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let outcome = run(&arguments, &folder);
    fs::remove_dir_all(&folder)?;
    outcome
}

/// Prints a row of the table: a figure for each way, in a unit of so many, and how many times that of the first.
fn row(what: &str, figures: &[Option<f64>; 3], unit: f64) {
    let cells = figures.iter().map(|figure| match (figure, figures[0]) {
        (Some(figure), Some(first)) => {
            let shown = figure / unit;
            let digits = if shown < 10.0 { 2 } else { usize::from(shown < 100.0) };
            format!("{shown:.digits$} ({:.2})", figure / first)
        }
        _ => "not measured".to_owned(),
    });
    println!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

fn run(arguments: &Arguments, folder: &Path) -> Outcome<()> {
    pin(1)?;
    let place = Place::open(arguments, folder)?;
    let ways: Vec<Way> = match place.nginx {
        Some(_) => vec![Way::Plain, Way::Tls, Way::Nginx],
        None => vec![Way::Plain, Way::Tls],
    };
    println!("| | plain | corecast's TLS | TLS of nginx, plain behind it |\n|---|---|---|---|");
    for at_once in [1, 16] {
        let mut spent = [const { Vec::new() }; 3];
        for _ in 0..arguments.rounds {
            for way in &ways {
                spent[*way as usize].push(place.fan_out(arguments, *way, at_once)?);
            }
        }
        let what = format!(
            "CPU of a delivery, {} B to {} subscribers, {at_once} at once, µs",
            arguments.bytes, arguments.subscribers
        );
        row(&what, &spent.map(median), 1000.0);
    }
    let (mut full, mut resumed) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for _ in 0..arguments.rounds {
        for way in &ways {
            full[*way as usize].push(place.handshakes(arguments, *way, &place.config)?);
            resumed[*way as usize].push(place.handshakes(arguments, *way, &place.resuming)?);
        }
    }
    row("CPU of a connection with one request, full handshake, µs", &full.map(median), 1000.0);
    row("the same, session resumed, µs", &resumed.map(median), 1000.0);
    drop(place);
    let mut idle = [None; 3];
    for way in [Way::Plain, Way::Tls] {
        let place = Place::open(arguments, folder)?;
        let mut readers = Vec::new();
        let mut seen = Vec::new();
        for count in [arguments.idle / 4, arguments.idle] {
            while readers.len() < count {
                readers.push(place.subscribe(way)?);
            }
            // What handshakes have left goes back to the kernel after a while.
            std::thread::sleep(Duration::from_secs(3));
            seen.push(place.engine.resident());
        }
        let grown = seen[1] as f64 - seen[0] as f64;
        idle[way as usize] = Some(grown / (arguments.idle - arguments.idle / 4) as f64);
    }
    row("user memory of an idle subscriber, B", &idle, 1.0);
    Ok(())
}
