//! The admin listener: health, readiness and statistics over plain HTTP.
//!
//! Owns: one listening socket and a few threads of the control plane. Touches: what [`Watched`] lets it read. Never:
//! a shard, or anything a message passes through. Small on purpose: one request per connection, a head of at most
//! [`HEAD_BYTES_MAX`], [`DEADLINE`] for everything, and never more connections than threads; further ones wait in the
//! kernel's queue. A stalled peer holds one thread for one deadline.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use corecast_protocol::http::head::{self, Method, Request};
use corecast_protocol::http::response::{self, Framing, Head};
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use serde_json::{Map, Value};

use crate::config::Problem;

/// Largest request head in bytes; probes send a tenth of it.
const HEAD_BYTES_MAX: usize = 4096;
/// Time a peer has to send its request and take the answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// Requests answered at the same time.
const THREADS: usize = 4;

/// One look at the statistics of all shards.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Name of every number.
    pub names: Vec<&'static str>,
    /// The numbers of each shard, in the order of the names.
    pub shards: Vec<Vec<u64>>,
    /// The numbers of all shards put together.
    pub total: Vec<u64>,
}

/// What the listener may ask of the engine.
pub struct Watched {
    /// Reads the statistics.
    pub read: Box<dyn Fn() -> Reading + Send + Sync>,
    /// Says whether new connections are welcome, or why not.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

/// The bound port, which does not answer yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes the port.
    ///
    /// # Errors
    /// The port is taken, or the address is not one of this host.
    pub fn bind(address: SocketAddr) -> Result<Listener, Problem> {
        let bound =
            TcpListener::bind(address).and_then(|socket| Ok(Listener { address: socket.local_addr()?, socket }));
        bound.map_err(|error| Problem {
            cause: format!("cannot listen on the admin address {address}: {error}"),
            cure: "choose another with --admin, or switch it off with --admin off".to_owned(),
        })
    }

    /// Returns the address it listens on, with the port the kernel chose if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests from now on, in threads that end with the process.
    pub fn serve(self, watched: Watched) {
        let shared = Arc::new((self.socket, watched));
        for n in 0..THREADS {
            let shared = shared.clone();
            let spawned = thread::Builder::new().name(format!("admin-{n}")).spawn(move || {
                let (socket, watched) = &*shared;
                loop {
                    match socket.accept() {
                        // What goes wrong with one connection is its peer's business.
                        Ok((stream, _)) => drop(answer(stream, watched)),
                        Err(error) => {
                            tracing::warn!(%error, "the admin listener cannot accept");
                            // Out of descriptors, most likely: they come back when somebody closes.
                            thread::sleep(Duration::from_millis(100));
                        }
                    }
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "a thread of the admin listener could not be started");
            }
        }
    }
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream, watched: &Watched) -> io::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut buf = [0; HEAD_BYTES_MAX];
    let mut filled = 0;
    let reply = loop {
        match head::parse(&buf[..filled], HEAD_BYTES_MAX) {
            Ok(Some((request, _))) => break reply_to(&request, watched),
            Ok(None) if filled == buf.len() => {
                break Reply::error(Violation::HeadTooLarge.status(), "too large");
            }
            Ok(None) => {}
            Err(violation) => break Reply::error(violation.status(), violation.text()),
        }
        // A zero timeout would mean none.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buf[filled..]) {
            Ok(0) => return Ok(()),
            Ok(count) => filled += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break Reply::error(408, "the request did not arrive in time");
            }
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            break Reply::error(408, "the request did not arrive in time");
        }
    };
    reply.send(&mut stream)?;
    // Closing with unread bytes would reset the connection and could take the answer with it.
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let _ = stream.read(&mut buf);
    Ok(())
}

#[derive(Debug)]
struct Reply {
    status: u16,
    content_type: &'static str,
    body: String,
    /// HEAD: all but the body.
    head_only: bool,
}

impl Reply {
    fn text(status: u16, body: impl Into<String>) -> Reply {
        Reply { status, content_type: "text/plain; charset=utf-8", body: body.into() + "\n", head_only: false }
    }

    fn error(status: u16, text: &str) -> Reply {
        Reply::text(status, text)
    }

    fn send(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut out = [0; 1024];
        let mut writer = Writer::new(&mut out);
        let allow = [("Allow", "GET, HEAD")];
        let head = Head {
            status: self.status,
            content_type: Some(self.content_type),
            framing: Framing::Sized(self.body.len() as u64),
            http10: false,
            keep_alive: false,
            extra: if self.status == 405 { &allow } else { &[] },
        };
        response::head(&mut writer, &head);
        let length = writer.finish().expect("a head of constants fits 1 KiB");
        stream.write_all(&out[..length])?;
        if self.head_only { Ok(()) } else { stream.write_all(self.body.as_bytes()) }
    }
}

fn reply_to(request: &Request<'_>, watched: &Watched) -> Reply {
    let page: fn(&Watched) -> Reply = match request.path {
        "/healthz" => |_| Reply::text(200, "ok"),
        "/readyz" => readiness,
        "/stats" => statistics,
        _ => return Reply::text(404, "no such page; there are /healthz, /readyz and /stats"),
    };
    match request.method {
        Method::Get => page(watched),
        Method::Head => Reply { head_only: true, ..page(watched) },
        _ => Reply::text(405, "only GET and HEAD are answered here"),
    }
}

fn readiness(watched: &Watched) -> Reply {
    match (watched.ready)() {
        Ok(()) => Reply::text(200, "ready"),
        Err(reason) => Reply::text(503, reason),
    }
}

/// `{"total":{"connections":3,...},"shards":[{"shard":0,"connections":1,...},...]}`
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
    let body = serde_json::json!({ "total": object(&reading.total), "shards": shards });
    Reply { content_type: "application/json", ..Reply::text(200, body.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn running(ready: Arc<Mutex<Result<(), String>>>) -> SocketAddr {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address();
        listener.serve(Watched {
            read: Box::new(|| Reading {
                names: vec!["connections", "turns"],
                shards: vec![vec![1, 10], vec![2, 20]],
                total: vec![3, 30],
            }),
            ready: Box::new(move || ready.lock().unwrap().clone()),
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
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
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
        assert_eq!((&json["shards"][1]["shard"], &json["shards"][1]["turns"]), (&1.into(), &20.into()));
    }

    /// What is not served is refused with the right status: unknown pages, other methods, bytes that are no request.
    #[test]
    fn what_is_not_served() {
        let address = running(Arc::new(Mutex::new(Ok(()))));
        assert_eq!(get(address, "/nothing").0, 404);
        assert_eq!(ask(address, "POST /stats HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").0, 405);
        assert_eq!(ask(address, "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n"), (200, String::new()));
        assert_eq!(ask(address, "GET /healthz HTTP/1.1\r\n\r\n").0, 400, "no Host");
        assert_eq!(ask(address, "nonsense\r\n\r\n").0, 400);
        let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
        assert_eq!(ask(address, &long).0, 431);
    }

    /// A peer that never finishes its head costs one thread one deadline; the others are answered meanwhile.
    #[test]
    fn a_stalled_peer_does_not_stop_the_rest() {
        let address = running(Arc::new(Mutex::new(Ok(()))));
        let mut stalled = TcpStream::connect(address).unwrap();
        stalled.write_all(b"GET /heal").unwrap();
        let start = Instant::now();
        assert_eq!(get(address, "/healthz").0, 200);
        assert!(start.elapsed() < DEADLINE, "answered only after {:?}", start.elapsed());
        let mut answer = String::new();
        stalled.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stalled.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }

    /// A taken port is told with a cure.
    #[test]
    fn a_taken_port() {
        let taken = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let problem = Listener::bind(taken.address()).unwrap_err();
        assert!(problem.cause.contains("in use") && problem.cure.contains("--admin"), "{problem}");
    }
}
