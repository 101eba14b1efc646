//! Baseline of the benches with topics: a bare epoll server that fans out, as one would write it by hand. Level-triggered, one
//! thread, one read for each connection that has something to say, one write for each that there is something new for.
//!
//! Speaks just enough of corecast's contract for the load generator: `/topics/{topic}` subscribes and gets payloads, `/ws` takes
//! `SUB` (answered with `OK`) and `PUB`, and gets messages with their header line. A message is encoded once for each of the two;
//! what a round of reads brings is gathered by connection, and leaves in one write each. A connection without room keeps its
//! bytes and waits for EPOLLOUT. It has no limits, no history, no timers.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use clap::Parser as _;
use corecast_benches::frame::{self, Header};
use corecast_benches::handshake;
use corecast_benches::host::Place;

/// Events taken per call.
const EVENTS: usize = 1024;
/// Bytes read per call; level triggering serves the rest.
const READ_BYTES: usize = 65_536;
/// Bytes of a connection without room above which it is dropped.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// First line of the line protocol, as a frame.
const HI: &[u8] = b"\x81\x10HI corecast.v1 0";

/// WebSocket fan-out on one core over epoll, with topics, no engine.
#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
}

/// How a connection gets messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// The request is not complete yet.
    Unknown,
    /// Payloads.
    Raw,
    /// A header line and the payload.
    Line,
}

struct Connection {
    stream: TcpStream,
    speech: Speech,
    /// Bytes of a request or frame cut short.
    carry: Vec<u8>,
    /// What is to be written.
    output: Vec<u8>,
    /// Is in the list of those that this round has something for.
    gathered: bool,
    /// Waits for room.
    blocked: bool,
    topics: Vec<usize>,
}

#[derive(Default)]
struct Topic {
    name: Vec<u8>,
    messages: u64,
    subscribers: Vec<(i32, Speech)>,
}

struct Fanout {
    epoll: i32,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    topics: Vec<Topic>,
    names: HashMap<Vec<u8>, usize>,
    /// Connections that this round has something for.
    news: Vec<i32>,
    /// The frames of the message in hand.
    raw: Vec<u8>,
    line: Vec<u8>,
}

fn main() -> io::Result<()> {
    let Arguments { place } = Arguments::parse();
    let listener = place.take()?;
    listener.set_nonblocking(true)?;
    // SAFETY: no memory is involved.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut fanout = Fanout {
        epoll,
        connections: Vec::new(),
        topics: Vec::new(),
        names: HashMap::new(),
        news: Vec::new(),
        raw: Vec::new(),
        line: Vec::new(),
    };
    fanout.watch(libc::EPOLL_CTL_ADD, listener.as_raw_fd(), libc::EPOLLIN)?;
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let mut input = vec![0; READ_BYTES];
    loop {
        // SAFETY: `events` has room for `EVENTS`.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            let (fd, what) = (event.u64 as i32, event.events as i32);
            if fd == listener.as_raw_fd() {
                fanout.accept(fd)?;
                continue;
            }
            if what & libc::EPOLLOUT != 0 {
                fanout.writable(fd)?;
            }
            if what & !libc::EPOLLOUT != 0 {
                fanout.read(fd, &mut input);
            }
        }
        fanout.write_news()?;
    }
}

impl Fanout {
    fn watch(&self, operation: i32, fd: i32, what: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: what as u32, u64: fd as u64 };
        // SAFETY: `event` outlives the call.
        let done = unsafe { libc::epoll_ctl(self.epoll, operation, fd, &raw mut event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn accept(&mut self, listener: i32) -> io::Result<()> {
        loop {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: no address is asked for.
            let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if fd < 0 {
                return Ok(());
            }
            // SAFETY: the descriptor is new and ours.
            let stream = unsafe { TcpStream::from_raw_fd(fd) };
            stream.set_nodelay(true)?;
            self.watch(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN)?;
            if self.connections.len() <= fd as usize {
                self.connections.resize_with(fd as usize + 1, || None);
            }
            self.connections[fd as usize] = Some(Connection {
                stream,
                speech: Speech::Unknown,
                carry: Vec::new(),
                output: Vec::new(),
                gathered: false,
                blocked: false,
                topics: Vec::new(),
            });
        }
    }

    fn read(&mut self, fd: i32, input: &mut [u8]) {
        let Some(connection) = &mut self.connections[fd as usize] else {
            return;
        };
        let count = match connection.stream.read(input) {
            Ok(0) => return self.forget(fd),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.forget(fd),
        };
        let mut carry = std::mem::take(&mut connection.carry);
        let bytes = if carry.is_empty() {
            &input[..count]
        } else {
            carry.extend_from_slice(&input[..count]);
            &carry[..]
        };
        // What is cut short, as mostly nothing is.
        let rest = match self.understand(fd, bytes) {
            Ok(used) => bytes[used..].to_vec(),
            Err(handshake::NotAnUpgrade) => return self.forget(fd),
        };
        if let Some(connection) = &mut self.connections[fd as usize] {
            connection.carry = rest;
        }
    }

    /// Does what whole requests and frames ask for, and returns how many bytes those are.
    fn understand(&mut self, fd: i32, bytes: &[u8]) -> Result<usize, handshake::NotAnUpgrade> {
        let mut at = 0;
        if self.speech(fd) == Some(Speech::Unknown) {
            let Some(upgrade) = handshake::parse(bytes)? else {
                return Ok(0);
            };
            at = upgrade.head_len;
            let mut answer = handshake::answer(upgrade.key);
            let topic = upgrade.path.strip_prefix("/topics/").map(|topic| topic.split('?').next().unwrap_or_default());
            let speech = if topic.is_some() { Speech::Raw } else { Speech::Line };
            if speech == Speech::Line {
                answer.extend_from_slice(HI);
            }
            if let Some(connection) = &mut self.connections[fd as usize] {
                connection.speech = speech;
            }
            self.gather(fd, &answer);
            if let Some(topic) = topic {
                self.subscribe(fd, topic.as_bytes());
            }
        }
        let mut message = Vec::new();
        while let Some(header) = Header::read(&bytes[at..]) {
            let Some(payload) = bytes.get(at + header.header_len..at + header.frame_len()) else {
                break;
            };
            if matches!(header.opcode, frame::TEXT | frame::BINARY) {
                message.resize(payload.len(), 0);
                frame::unmask(payload, &mut message, header.mask);
                self.command(fd, &message);
            }
            at += header.frame_len();
        }
        Ok(at)
    }

    fn speech(&self, fd: i32) -> Option<Speech> {
        self.connections[fd as usize].as_ref().map(|connection| connection.speech)
    }

    fn command(&mut self, fd: i32, message: &[u8]) {
        let line_end = message.iter().position(|byte| *byte == b'\n');
        let (line, payload) = line_end.map_or((message, &[][..]), |end| (&message[..end], &message[end + 1..]));
        let mut words = line.split(|byte| *byte == b' ');
        match (words.next(), words.next()) {
            (Some(b"PUB"), Some(topic)) => self.publish(topic, payload),
            (Some(b"SUB"), Some(topic)) => {
                let number = self.subscribe(fd, topic);
                let token = words.find_map(|word| word.strip_prefix(b"id=")).unwrap_or(b"-");
                let messages = self.topics[number].messages;
                let answer = [b"OK ", token, format!(" 00000001-{messages}").as_bytes()].concat();
                let mut frame = vec![0; frame::header_len(answer.len())];
                frame::write_header(&mut frame, frame::TEXT, answer.len());
                frame.extend_from_slice(&answer);
                self.gather(fd, &frame);
            }
            _ => {}
        }
    }

    fn subscribe(&mut self, fd: i32, name: &[u8]) -> usize {
        let number = self.names.get(name).copied().unwrap_or_else(|| {
            self.topics.push(Topic { name: name.to_vec(), ..Topic::default() });
            self.names.insert(name.to_vec(), self.topics.len() - 1);
            self.topics.len() - 1
        });
        if let Some(connection) = &mut self.connections[fd as usize] {
            self.topics[number].subscribers.push((fd, connection.speech));
            connection.topics.push(number);
        }
        number
    }

    fn publish(&mut self, name: &[u8], payload: &[u8]) {
        let Some(number) = self.names.get(name).copied() else {
            return;
        };
        let topic = &mut self.topics[number];
        topic.messages += 1;
        let opcode = if std::str::from_utf8(payload).is_ok() { frame::TEXT } else { frame::BINARY };
        // Each is made when the first needs it.
        let (mut raw, mut line) = (std::mem::take(&mut self.raw), std::mem::take(&mut self.line));
        raw.clear();
        line.clear();
        let subscribers = std::mem::take(&mut topic.subscribers);
        for (fd, speech) in &subscribers {
            let frame = if *speech == Speech::Raw { &mut raw } else { &mut line };
            if frame.is_empty() {
                let topic = &self.topics[number];
                let head = match speech {
                    Speech::Raw | Speech::Unknown => Vec::new(),
                    Speech::Line => {
                        [b"MSG ", &topic.name[..], format!(" 00000001-{}\n", topic.messages).as_bytes()].concat()
                    }
                };
                let len = head.len() + payload.len();
                frame.resize(frame::header_len(len), 0);
                frame::write_header(frame, opcode, len);
                frame.extend_from_slice(&head);
                frame.extend_from_slice(payload);
            }
            gather(&mut self.connections, &mut self.news, *fd, frame);
        }
        self.topics[number].subscribers = subscribers;
        (self.raw, self.line) = (raw, line);
    }

    fn gather(&mut self, fd: i32, bytes: &[u8]) {
        gather(&mut self.connections, &mut self.news, fd, bytes);
    }

    /// Writes what this round has brought, once for each connection.
    fn write_news(&mut self) -> io::Result<()> {
        let mut news = std::mem::take(&mut self.news);
        for fd in news.drain(..) {
            if let Some(connection) = &mut self.connections[fd as usize] {
                connection.gathered = false;
                if !connection.blocked {
                    self.write(fd)?;
                }
            }
        }
        self.news = news;
        Ok(())
    }

    fn writable(&mut self, fd: i32) -> io::Result<()> {
        if let Some(connection) = &mut self.connections[fd as usize] {
            connection.blocked = false;
            self.watch(libc::EPOLL_CTL_MOD, fd, libc::EPOLLIN)?;
            self.write(fd)?;
        }
        Ok(())
    }

    fn write(&mut self, fd: i32) -> io::Result<()> {
        let Some(connection) = &mut self.connections[fd as usize] else {
            return Ok(());
        };
        let written = match connection.stream.write(&connection.output) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.forget(fd);
                return Ok(());
            }
        };
        if written == connection.output.len() {
            connection.output.clear();
            return Ok(());
        }
        connection.output.drain(..written);
        if connection.output.len() > WAITING_BYTES_MAX {
            self.forget(fd);
            return Ok(());
        }
        connection.blocked = true;
        self.watch(libc::EPOLL_CTL_MOD, fd, libc::EPOLLIN | libc::EPOLLOUT)
    }

    /// Closes a connection, which takes it out of the epoll set.
    fn forget(&mut self, fd: i32) {
        if let Some(connection) = self.connections[fd as usize].take() {
            for number in connection.topics {
                self.topics[number].subscribers.retain(|(subscriber, _)| *subscriber != fd);
            }
        }
    }
}

/// Appends to what a connection is written at the end of the round.
#[inline]
fn gather(connections: &mut [Option<Connection>], news: &mut Vec<i32>, fd: i32, bytes: &[u8]) {
    if let Some(connection) = &mut connections[fd as usize] {
        connection.output.extend_from_slice(bytes);
        if !connection.gathered {
            connection.gathered = true;
            news.push(fd);
        }
    }
}
