//! The admin listener: health, readiness, statistics, and what the control plane is asked, over plain HTTP.
//!
//! Owns: its listening sockets and one thread of the control plane. Touches: what [`Watched`] lets it read. Never: a shard, or
//! anything a message passes through; what a shard has to say comes through [`crate::control`], and whoever asked for it waits
//! for itself. Small on purpose: one request per connection, a head of at most [`HEAD_BYTES_MAX`],
//! [`DEADLINE`] for everything, [`PEERS_MAX`] connections. A peer that stalls costs nobody but itself: the thread waits for all
//! of them at once, and where there are too many, the oldest gives way to the newest.

mod peer;
mod revoke;
mod socket;

use std::io;
use std::os::fd::AsFd as _;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use corecast_protocol::http::head::{Method, Request};
use corecast_protocol::http::query;
use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Map, Value};

use crate::authority::Desk;
use crate::config::Listen;
use crate::control::{self, Asker, Demand, Hosts, Outcome};
use crate::handover::{Role, Shared, find};
use crate::io::check::{StartError, fault, no_thread};
use crate::io::doorbell::Doorbell;
use crate::io::poll::{self, For};
use crate::io::unix::{SocketFile, UnixAccess};
use crate::shard::{Entrance, Question, ROWS_MAX, Welcome, is_host_allowed, welcome};
use peer::Peer;
use socket::Socket;

/// Largest request head in bytes; probes send a tenth of it.
const HEAD_BYTES_MAX: usize = 4096;
/// Time a peer has to send its request and take the answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Time that the control plane has, beyond that of the shards, to say what became of a demand: it may have waited in line.
const ANSWER: Duration = Duration::from_secs(2);
/// Rows of a list, unless `limit` says otherwise.
const ROWS: usize = 100;
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
    /// Asks the control plane; none: there is none.
    pub control: Option<Asker>,
    /// Has the authority revoke, and list what is revoked; none: there is none.
    pub authority: Option<Desk>,
    /// Says, once, that the sockets are another process's now; none: that is never said.
    pub retired: Option<Receiver<()>>,
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
        reply_to(request, body, watched, bell)
    };
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
            if is_ready || peer.is_answered() { peer.go_on(&answer) } else { now < peer.deadline() || peer.late() }
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

#[derive(Debug)]
struct Reply {
    status: u16,
    content_type: &'static str,
    body: String,
    /// HEAD: all but the body.
    head_only: bool,
    /// What is allowed instead, if it is not.
    allow: &'static str,
}

/// What a request is told.
#[derive(Debug)]
enum Said {
    /// This.
    Now(Reply),
    /// What comes from the control plane.
    Later { outcome: Receiver<Outcome>, head_only: bool },
}

impl From<Reply> for Said {
    fn from(reply: Reply) -> Said {
        Said::Now(reply)
    }
}

impl Reply {
    fn text(status: u16, body: impl Into<String>) -> Reply {
        let body = body.into() + "\n";
        Reply { status, content_type: "text/plain; charset=utf-8", body, head_only: false, allow: "" }
    }

    fn json(status: u16, body: impl Into<String>) -> Reply {
        Reply { content_type: "application/json", ..Reply::text(status, body) }
    }

    fn not_allowed(allow: &'static str) -> Reply {
        Reply { allow, ..Reply::text(405, format!("only {allow} are answered here")) }
    }
}

fn reply_to(request: &Request<'_>, body: &[u8], watched: &Watched, bell: &Doorbell) -> Said {
    let page: fn(&Watched) -> Reply = match request.path {
        "/healthz" => |_| Reply::text(200, "ok"),
        "/readyz" => readiness,
        "/stats" => statistics,
        "/connections" => return look(Question::Connections, request, watched, bell),
        "/topics" => return look(Question::Topics, request, watched, bell),
        "/slow" => return look(Question::Slow, request, watched, bell),
        "/reload" if request.method == Method::Post => return demand(Demand::Reload, false, watched, bell),
        "/revoke" if request.method == Method::Post => return revoke::revoke(body, watched, bell),
        "/revoked" => return revoke::list(request, watched, bell),
        "/reload" | "/revoke" => return Reply::not_allowed("POST").into(),
        _ => {
            let pages = "/healthz, /readyz, /stats, /connections, /topics, /slow, /revoked, and POST /reload, /revoke";
            return Reply::text(404, format!("no such page; there are {pages}")).into();
        }
    };
    match request.method {
        Method::Get => page(watched).into(),
        Method::Head => Reply { head_only: true, ..page(watched) }.into(),
        _ => Reply::not_allowed("GET, HEAD").into(),
    }
}

/// Asks the shards a question, for so many rows as the query says.
fn look(question: Question, request: &Request<'_>, watched: &Watched, bell: &Doorbell) -> Said {
    if !matches!(request.method, Method::Get | Method::Head) {
        return Reply::not_allowed("GET, HEAD").into();
    }
    let limit = query::value(request.query, "limit").map(|limit| limit.parse::<usize>().unwrap_or(0));
    match limit.unwrap_or(ROWS) {
        rows @ 1..=ROWS_MAX => demand(Demand::Look(question, rows), request.method == Method::Head, watched, bell),
        _ => Reply::text(400, format!("limit is a number from 1 to {ROWS_MAX}")).into(),
    }
}

fn demand(demand: Demand, head_only: bool, watched: &Watched, bell: &Doorbell) -> Said {
    let (to, outcome) = bounded(1);
    let reply = control::Reply { to, bell: bell.clone() };
    match &watched.control {
        Some(control) if control.ask(demand, Some(reply)) => Said::Later { outcome, head_only },
        _ => Reply::text(503, "too much is asked already").into(),
    }
}

fn readiness(watched: &Watched) -> Reply {
    match (watched.ready)() {
        Ok(()) => Reply::text(200, "ready"),
        Err(reason) => Reply::text(503, reason),
    }
}

/// `{"process":{"log_lines_dropped":0,...},"total":{"connections":3,...},"shards":[{"shard":0,"connections":1,...},...]}`
fn statistics(watched: &Watched) -> Reply {
    let reading = (watched.read)();
    let object = |values: &[u64]| -> Map<String, Value> {
        reading.names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
    };
    let shards = reading.shards.iter().enumerate().map(|(n, values)| {
        let mut shard = object(values);
        shard.insert("shard".to_owned(), n.into());
        Value::Object(shard)
    });
    let shards: Vec<Value> = shards.collect();
    let process: Map<String, Value> = PROCESS_FIELDS
        .iter()
        .zip(reading.process)
        .map(|((name, _), value)| ((*name).to_owned(), value.into()))
        .collect();
    let body = serde_json::json!({ "process": process, "total": object(&reading.total), "shards": shards });
    Reply::json(200, body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::{Arc, Mutex, RwLock};

    use crate::config::{Config, Host};
    use crate::mesh::{Links, join_with_control};
    use crate::shard::{Answer, Wanted};

    fn running(ready: Arc<Mutex<Result<(), String>>>) -> SocketAddr {
        with_control(ready, None)
    }

    fn with_control(ready: Arc<Mutex<Result<(), String>>>, control: Option<Asker>) -> SocketAddr {
        let listener =
            Listener::bind(&[Listen::read("127.0.0.1:0").unwrap()], UnixAccess::default(), &mut Vec::new()).unwrap();
        let address = listener.addresses()[0].socket().unwrap();
        listener.serve(Watched {
            read: Box::new(|| Reading {
                names: vec!["connections", "turns"],
                shards: vec![vec![1, 10], vec![2, 20]],
                total: vec![3, 30],
                process: [4, 5],
            }),
            ready: Box::new(move || ready.lock().unwrap().clone()),
            hosts: Arc::new(RwLock::new(vec!["stats.example".to_owned()])),
            control,
            authority: None,
            retired: None,
        });
        address
    }

    /// Sends bytes, ends, and returns status and body of the answer.
    fn ask(address: SocketAddr, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn get(address: SocketAddr, path: &str) -> (u16, String) {
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    /// Health is told always, readiness as the engine says, with the reason when it is not.
    #[test]
    fn health_and_readiness() {
        let ready = Arc::new(Mutex::new(Ok(())));
        let address = running(ready.clone());
        assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(get(address, "/readyz"), (200, "ready\n".to_owned()));
        *ready.lock().unwrap() = Err("draining".to_owned());
        assert_eq!(get(address, "/readyz"), (503, "draining\n".to_owned()));
        assert_eq!(get(address, "/healthz?verbose"), (200, "ok\n".to_owned()));
    }

    /// Statistics are one JSON object: the total, and every shard with its number.
    #[test]
    fn statistics_are_json() {
        let (status, body) = get(running(Arc::new(Mutex::new(Ok(())))), "/stats");
        let json: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(json["total"]["connections"], 3);
        assert_eq!(
            (&json["process"]["log_lines_dropped"], &json["process"]["log_lines_left_out"]),
            (&4.into(), &5.into())
        );
        assert_eq!((&json["shards"][1]["shard"], &json["shards"][1]["turns"]), (&1.into(), &20.into()));
    }

    /// What is not served is refused with the right status: unknown pages, other methods, bytes that are no request.
    #[test]
    fn what_is_not_served() {
        let address = running(Arc::new(Mutex::new(Ok(()))));
        assert_eq!(get(address, "/nothing").0, 404);
        assert_eq!(ask(address, "POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").0, 405);
        assert_eq!(ask(address, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"), (200, String::new()));
        assert_eq!(ask(address, "GET /healthz HTTP/1.1\r\n\r\n").0, 400, "no Host");
        assert_eq!(ask(address, "nonsense\r\n\r\n").0, 400);
        let long = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
        assert_eq!(ask(address, &long).0, 431);
    }

    /// Peers that never finish their heads are told so when their time is over; the others are answered meanwhile, however
    /// many stall. Four of them once kept everybody else waiting.
    #[test]
    fn stalled_peers_do_not_stop_the_rest() {
        let address = running(Arc::new(Mutex::new(Ok(()))));
        let stalled = || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /heal").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream
        };
        let mut first: Vec<TcpStream> = (0..PEERS_MAX / 2).map(|_| stalled()).collect();
        // The first of them is not told anything yet: so this answer did not wait for it.
        assert_eq!(get(address, "/healthz").0, 200);
        first[0].set_nonblocking(true).unwrap();
        assert_eq!(first[0].read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        first[0].set_nonblocking(false).unwrap();
        let mut answer = String::new();
        first[0].read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        // More than there may be at once.
        let many: Vec<TcpStream> = (0..3 * PEERS_MAX).map(|_| stalled()).collect();
        assert_eq!(get(address, "/healthz").0, 200);
        drop(many);
    }

    /// A peer that sends its request byte by byte is answered.
    #[test]
    fn slow_peers() {
        let address = running(Arc::new(Mutex::new(Ok(()))));
        let mut slow = TcpStream::connect(address).unwrap();
        slow.set_nodelay(true).unwrap();
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" {
            slow.write_all(&[*byte]).unwrap();
        }
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    }

    /// A page whose own name resolves to this host (DNS rebinding) reads nothing; names that are listed do.
    #[test]
    fn foreign_hosts() {
        let address = running(Arc::new(Mutex::new(Ok(()))));
        let port = address.port();
        let asked = |host: String| ask(address, &format!("GET /stats HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let (status, body) = asked(format!("evil.example:{port}"));
        assert_eq!(status, 421, "{body}");
        assert!(body.contains("allowed-hosts") && !body.contains("connections"), "{body}");
        assert_eq!(asked(format!("stats.example:{port}")).0, 200);
        assert_eq!(asked(format!("127.0.0.1:{port}")).0, 200);
        assert_eq!(ask(address, "GET /stats HTTP/1.0\r\n\r\n").0, 200, "no Host at all");
    }

    /// A control plane whose shards answer only if this test does it for them.
    fn control(shards: usize) -> (Asker, Vec<Links>) {
        let config = Config::default_on(&Host { cores: vec![0], memory_bytes: 1 << 30 });
        let (links, control) = join_with_control(shards, 1, 4096);
        let end = control::End { control, bell: Doorbell::new().unwrap(), cores: Doorbell::several(1).unwrap() };
        let sources = control::Sources {
            config,
            read_again: None,
            hosts: Hosts::default(),
            tls: None,
            authority: None,
            supervisor: Default::default(),
        };
        (control::start(end, sources).unwrap(), links)
    }

    fn post(address: SocketAddr, lines: &str) -> (u16, String) {
        ask(address, &format!("POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{lines}\r\n"))
    }

    /// While a shard keeps somebody waiting for an answer, others are served; a shard that does not answer at all is named.
    #[test]
    fn a_question_delays_nobody_else() {
        let (asker, mut links) = control(2);
        let address = with_control(Arc::new(Mutex::new(Ok(()))), Some(asker));
        let asking = thread::spawn(move || get(address, "/slow?limit=1000"));
        let late = Instant::now() + Duration::from_secs(10);
        while !links[1].has_orders() {
            assert!(Instant::now() < late, "the shards are asked");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
        assert!(!asking.is_finished(), "nobody has answered the question");
        let order = links[0].next_order().unwrap();
        assert!(matches!(order.wish, Wanted::Ask(Question::Slow, 1000)));
        links[0].answer(Answer { number: order.number, said: crate::shard::Said::Slow(Vec::new()) });
        let (status, body) = asking.join().unwrap();
        assert!(status == 504 && body.contains("\"late\":[1]"), "{status} {body}");
    }

    /// What is asked wrongly is refused; pages of other origins cannot have the configuration loaded, and no GET can.
    #[test]
    fn demands_are_refused() {
        let (asker, _links) = control(1);
        let address = with_control(Arc::new(Mutex::new(Ok(()))), Some(asker));
        for limit in ["0", "1001", "x", ""] {
            assert_eq!(get(address, &format!("/topics?limit={limit}")).0, 400, "{limit}");
        }
        assert_eq!(get(address, "/reload").0, 405);
        assert_eq!(ask(address, "POST /topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").0, 405);
        for origin in ["https://evil.example", "null", "http://stats.example"] {
            assert_eq!(post(address, &format!("Origin: {origin}\r\n")).0, 403, "{origin}");
        }
        for lines in ["", "Origin: http://localhost:3000\r\n", "Origin: http://127.0.0.1\r\n"] {
            let (status, body) = post(address, lines);
            assert!(status == 200 && body.contains("no configuration file"), "{lines}: {status} {body}");
        }
        let (status, _) = post(running(Arc::new(Mutex::new(Ok(())))), "");
        assert_eq!(status, 503, "no control plane");
    }

    /// A taken port is told with a cure.
    #[test]
    fn a_taken_port() {
        let bind = |addresses: &[Listen]| Listener::bind(addresses, UnixAccess::default(), &mut Vec::new());
        let taken = bind(&[Listen::read("127.0.0.1:0").unwrap()]).unwrap();
        let problem = bind(taken.addresses()).unwrap_err();
        assert!(problem.cause.contains("in use") && problem.cure.contains("--admin"), "{problem}");
    }
}
