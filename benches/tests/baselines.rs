//! The baselines do what they are compared for: every delivery and echo arrives, whole, in order.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A frame of the client's: masked, up to 125 bytes or up to 64 KiB.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mask = [7, 77, 177, 250];
    let mut frame = vec![0x81];
    if payload.len() < 126 {
        frame.push(0x80 | payload.len() as u8);
    } else {
        frame.push(0x80 | 126);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    frame
}

/// A frame of the server's, as it must come.
fn unmasked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    if payload.len() < 126 {
        frame.push(payload.len() as u8);
    } else {
        frame.push(126);
        frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &str) -> Server {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--slots", "200"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").expect("says where it listens").to_owned();
        Server { child, address }
    }

    fn upgrade(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        // Cut in two: the server must wait for the rest.
        let (first, second) = head.as_bytes().split_at(30);
        stream.write_all(first).unwrap();
        stream.write_all(second).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == bytes, "another frame came than the one that was sent");
}

/// Echoes come back whole and in order, also when frames are cut or arrive together.
fn echoes(program: &str) {
    let server = Server::start(program);
    let mut streams: Vec<TcpStream> = (0..20).map(|_| server.upgrade("/echo")).collect();
    for round in 0..5u8 {
        for stream in &mut streams {
            let (small, large) = (vec![b'a' + round; 64], vec![b'A' + round; 5000]);
            let frames = [masked(&small), masked(&large), masked(&small)].concat();
            let (first, second) = frames.split_at(70 + usize::from(round) * 600);
            stream.write_all(first).unwrap();
            stream.write_all(second).unwrap();
            expect(stream, &[unmasked(&small), unmasked(&large), unmasked(&small)].concat());
        }
    }
}

/// The ring echo echoes.
#[test]
fn bare_echo_echoes() {
    echoes(env!("CARGO_BIN_EXE_bare-echo"));
}

/// The epoll echo echoes.
#[test]
fn epoll_echo_echoes() {
    echoes(env!("CARGO_BIN_EXE_epoll-echo"));
}

/// The epoll fan-out confirms subscriptions, delivers to those of a topic only, payloads to some and lines to others, and what came
/// at once leaves in order; who does not read gets it all later.
#[test]
fn epoll_fanout_knows_topics() {
    let server = Server::start(env!("CARGO_BIN_EXE_epoll-fanout"));
    let mut publisher = server.upgrade("/ws");
    expect(&mut publisher, &unmasked(b"HI corecast.v1 0"));
    let mut raw: Vec<TcpStream> = (0..20).map(|_| server.upgrade("/topics/load/a?since=live")).collect();
    let mut line = server.upgrade("/ws");
    expect(&mut line, &unmasked(b"HI corecast.v1 0"));
    let subs = [masked(b"SUB load/b since=live id=0"), masked(b"SUB load/a since=live id=1")].concat();
    let (first, second) = subs.split_at(20);
    line.write_all(first).unwrap();
    line.write_all(second).unwrap();
    expect(&mut line, &[unmasked(b"OK 0 00000001-0"), unmasked(b"OK 1 00000001-0")].concat());
    let (mut payloads, mut lines) = (Vec::new(), Vec::new());
    // More than a socket holds.
    for number in 1..=400 {
        let payload = format!("{number} {}", "x".repeat(20_000));
        let messages = ["a", "b", "nobody's"].map(|topic| masked(format!("PUB load/{topic}\n{payload}").as_bytes()));
        publisher.write_all(&messages.concat()).unwrap();
        payloads.extend_from_slice(&unmasked(payload.as_bytes()));
        for topic in ["a", "b"] {
            lines.extend_from_slice(&unmasked(format!("MSG load/{topic} 00000001-{number}\n{payload}").as_bytes()));
        }
    }
    expect(&mut line, &lines);
    raw.iter_mut().for_each(|subscriber| expect(subscriber, &payloads));
}

/// Every subscriber gets every message in order, one that reads late included, and slots are used again.
#[test]
fn bare_fanout_reaches_everyone() {
    let server = Server::start(env!("CARGO_BIN_EXE_bare-fanout"));
    let mut publisher = server.upgrade("/ws");
    expect(&mut publisher, &unmasked(b"HI corecast.v1 0"));
    for round in 0..3 {
        let mut subscribers: Vec<TcpStream> = (0..150).map(|_| server.upgrade("/topics/t")).collect();
        let mut all = Vec::new();
        // More than a socket holds, so that nobody reading means blocked subscribers.
        for number in 0..if round == 1 { 400 } else { 20 } {
            let payload = format!("{number} {}", "x".repeat(20_000));
            publisher.write_all(&masked(format!("PUB t\n{payload}").as_bytes())).unwrap();
            all.extend_from_slice(&unmasked(payload.as_bytes()));
        }
        for subscriber in &mut subscribers {
            expect(subscriber, &all);
        }
    }
}
