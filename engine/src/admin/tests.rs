//! The admin listener over a real socket: what it answers, refuses, and whom it keeps waiting.

use super::*;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, RwLock};

use crate::config::{Config, Host};
use crate::control;
use crate::mesh::{Links, join_with_control};
use crate::shard::{Answer, Question, Wanted};
use serde_json::Value;

fn running(ready: Arc<Mutex<Result<(), String>>>) -> SocketAddr {
    with_control(ready, None)
}

fn with_control(ready: Arc<Mutex<Result<(), String>>>, control: Option<Asker>) -> SocketAddr {
    with_guard(ready, control, Guard::default(), None)
}

fn with_guard(
    ready: Arc<Mutex<Result<(), String>>>,
    control: Option<Asker>,
    guard: Guard,
    drain: Option<Drain>,
) -> SocketAddr {
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
        guard,
        drain,
        control,
        authority: None,
        retired: None,
        observed: None,
        inside: None,
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
    assert_eq!((&json["process"]["log_lines_dropped"], &json["process"]["log_lines_left_out"]), (&4.into(), &5.into()));
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
    let (bell, cores) = (Doorbell::new().unwrap(), Doorbell::several(1).unwrap());
    let end = control::End { control, bell, cores, hash_key: 0 };
    let sources = control::Sources {
        config,
        read_again: None,
        hosts: Hosts::default(),
        guard: Guard::default(),
        tls: None,
        authority: None,
        observed: None,
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

/// Asks with a method, further lines of the head, and a body.
fn send(address: SocketAddr, words: &str, lines: &str, body: &str) -> (u16, String) {
    let length = body.len();
    ask(address, &format!("{words} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}"))
}

const JSON: &str = "Content-Type: application/json\r\n";

/// Where tokens are asked for, nothing is said or done without one but health and readiness, and how to show one is said.
#[test]
fn tokens_are_asked_for() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "an-operator-token\n").unwrap();
    let guard = Guard::default();
    guard.set(guard::Tokens::read(Some(file.path())).unwrap());
    let (to, drains) = bounded(1);
    let drain = Drain { to, time_bound: Duration::from_secs(10) };
    let address = with_guard(Arc::new(Mutex::new(Ok(()))), None, guard.clone(), Some(drain));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(address, path).0, 200, "{path}");
    }
    for lines in ["", "Authorization: Bearer another-token-than-that\r\n", "Authorization: Basic an-operator-token\r\n"]
    {
        for words in
            ["GET /stats", "HEAD /stats", "GET /connections", "POST /reload", "POST /drain", "POST /disconnect"]
        {
            let (status, body) = send(address, words, &format!("{JSON}{lines}"), "");
            assert_eq!(status, 401, "{words} {lines}: {body}");
        }
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\r\nWWW-Authenticate: Bearer\r\n") && answer.contains("admin-token"), "{answer}");
    assert!(drains.is_empty(), "nobody was heard");
    let shown = "Authorization: Bearer an-operator-token\r\n";
    assert_eq!(send(address, "GET /stats", shown, "").0, 200);
    assert_eq!(send(address, "POST /drain", shown, ""), (202, "{\"draining\":true}\n".to_owned()));
    assert_eq!(drains.try_recv(), Ok(None));
    guard.set(guard::Tokens::default());
    assert_eq!(get(address, "/stats").0, 200, "a reload holds at once");
}

/// Bodies are JSON and say so; how long a drain may take is said in seconds, and less than shutdown-timeout.
#[test]
fn bodies_are_json() {
    let (to, drains) = bounded(1);
    let drain = Drain { to, time_bound: Duration::from_secs(10) };
    let address = with_guard(Arc::new(Mutex::new(Ok(()))), None, Guard::default(), Some(drain));
    for (lines, body, expected, cause) in [
        ("", "{\"seconds\":5}", 415, "application/json"),
        ("Content-Type: text/plain\r\n", "{\"seconds\":5}", 415, "application/json"),
        (JSON, "{\"seconds\":10}", 400, "less than shutdown-timeout, which is 10 s"),
        (JSON, "{\"second\":1}", 400, "`second` is not known"),
        (JSON, "{", 400, "no JSON"),
        (JSON, "[]", 400, "no object"),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", "{\"seconds\":5}", 202, "draining"),
    ] {
        let (status, said) = send(address, "POST /drain", lines, body);
        assert!(status == expected && said.contains(cause), "{lines}{body}: {status} {said}");
    }
    assert_eq!(drains.try_recv(), Ok(Some(Duration::from_secs(5))));
    assert_eq!(send(address, "POST /drain", JSON, &"x".repeat(HEAD_BYTES_MAX + 1)).0, 413);
    let chunked = "POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(ask(address, chunked).0, 411);
    assert_eq!(get(address, "/drain").0, 405);
    assert!(drains.is_empty(), "what is refused does nothing");
}

/// What is asked for with words that are not known, or with values that are none, is refused by name.
#[test]
fn questions_are_read_strictly() {
    let (asker, _links) = control(1);
    let address = with_control(Arc::new(Mutex::new(Ok(()))), Some(asker));
    for (path, cause) in [
        ("/topics?sort=size", "sort is one of bytes, messages, rate, readers"),
        ("/topics?kind=line", "`kind` is nothing that can be asked here; there is limit, sort"),
        ("/connections?kind=smoke", "kind is one of http, "),
        ("/connections?peer=nobody", "peer is an address"),
        ("/connections?peer=%zz", "peer is an address"),
        ("/slow?sort=rate", "`sort` is nothing"),
        ("/topic", "say which"),
        ("/topic?topic=a//b", "topic: "),
        ("/topic?topic=", "topic: "),
        ("/connection?shard=0", "say which"),
        ("/connection?shard=0&slot=-1", "say which"),
    ] {
        let (status, body) = get(address, path);
        assert!(status == 400 && body.contains(cause), "{path}: {status} {body}");
    }
    let (status, body) = get(address, "/connection?shard=1&slot=0");
    assert!(status == 404 && body.contains("they are 0 to 0"), "{status} {body}");
}

/// A taken port is told with a cure.
#[test]
fn a_taken_port() {
    let bind = |addresses: &[Listen]| Listener::bind(addresses, UnixAccess::default(), &mut Vec::new());
    let taken = bind(&[Listen::read("127.0.0.1:0").unwrap()]).unwrap();
    let problem = bind(taken.addresses()).unwrap_err();
    assert!(problem.cause.contains("in use") && problem.cure.contains("--admin"), "{problem}");
}
