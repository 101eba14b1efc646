//! Baseline of the fan-out benches: the best plain send loop, without an engine around it.
//!
//! Speaks just enough of corecast's contract for the load generator: a connection to `/ws` publishes (`PUB topic`, a
//! newline, the payload), any other upgrade subscribes, and every payload goes to every subscriber as one unmasked
//! frame. What is published while a round of sends runs goes out together in the next round, one send per subscriber.
//! A subscriber without room keeps a position and waits for POLLOUT; everyone else is always at the head.

use std::collections::HashMap;

use clap::Parser as _;
use corecast_benches::frame::{self, Header};
use corecast_benches::handshake;
use corecast_benches::host::Place;
use corecast_benches::plain_ring::{Event, Lent, PlainRing};

/// Bytes of frames kept for subscribers without room; when they are used up, those subscribers are dropped.
const LOG_BYTES: usize = 64 << 20;

/// First line of the line protocol, as a frame.
const HI: &[u8] = b"\x81\x10HI corecast.v1 0";

/// WebSocket fan-out on one core, one topic, no engine.
#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
}

#[derive(Default)]
enum Connection {
    #[default]
    Free,
    /// Bytes of the request so far.
    Asking(Vec<u8>),
    /// Bytes of a frame cut short.
    Publisher(Vec<u8>),
    /// Answered; a subscriber from the end of this round on, as two sends in one submit could change places.
    Joining,
    /// Index in the list of subscribers.
    Subscriber(usize),
}

#[derive(Clone, Copy)]
struct Subscriber {
    slot: u32,
    blocked: bool,
}

struct Fanout {
    ring: PlainRing,
    connections: Vec<Connection>,
    subscribers: Vec<Subscriber>,
    joining: Vec<u32>,
    /// Position in the log of every blocked subscriber.
    blocked: HashMap<u32, usize>,
    /// Blocked subscribers that have room again.
    writable: Vec<u32>,
    /// Where the last round of sends ended, and where the log ends.
    sent: usize,
    head: usize,
}

fn main() -> std::io::Result<()> {
    let Arguments { place } = Arguments::parse();
    let listener = place.take()?;
    let mut fanout = Fanout {
        ring: PlainRing::new(listener, place.slots, LOG_BYTES)?,
        connections: (0..place.slots).map(|_| Connection::Free).collect(),
        subscribers: Vec::new(),
        joining: Vec::new(),
        blocked: HashMap::new(),
        writable: Vec::new(),
        sent: 0,
        head: 0,
    };
    let mut events = Vec::new();
    loop {
        fanout.ring.reap(&mut events);
        if events.is_empty() {
            fanout.ring.submit(1);
            continue;
        }
        for event in events.drain(..) {
            fanout.hear(event);
        }
        fanout.send_round();
        fanout.join();
        // One system call hands over the tail of the round and collects what happened meanwhile.
        fanout.ring.submit(0);
    }
}

impl Fanout {
    fn hear(&mut self, event: Event) {
        match event {
            Event::Accepted(slot) => self.connections[slot as usize] = Connection::Asking(Vec::new()),
            Event::Received(slot, lent) => {
                self.received(slot, lent);
                self.ring.recycle(lent);
            }
            Event::Ended(slot) => self.forget(slot),
            Event::Unsent { slot, asked, sent } => {
                // Answers of the handshake fit always: only what came from the log can be cut.
                if let (Connection::Subscriber(index), Some(sent)) = (&self.connections[slot as usize], sent) {
                    self.subscribers[*index].blocked = true;
                    match (self.sent + sent).checked_sub(asked) {
                        Some(position) => {
                            self.blocked.insert(slot, position);
                            self.ring.wait_writable(slot);
                        }
                        // The log had to make room before this was known.
                        None => self.ring.shut_down(slot),
                    }
                }
            }
            Event::Writable(slot) => {
                if self.blocked.contains_key(&slot) {
                    self.writable.push(slot);
                }
            }
        }
    }

    fn received(&mut self, slot: u32, lent: Lent) {
        match std::mem::take(&mut self.connections[slot as usize]) {
            Connection::Asking(mut head) => {
                head.extend_from_slice(self.ring.received(lent));
                self.connections[slot as usize] = self.ask(slot, head);
            }
            Connection::Publisher(mut carry) => {
                carry.extend_from_slice(self.ring.received(lent));
                let mut at = 0;
                while let Some(header) = Header::read(&carry[at..]) {
                    let Some(payload) = carry.get(at + header.header_len..at + header.frame_len()) else {
                        break;
                    };
                    self.publish(header, payload);
                    at += header.frame_len();
                }
                carry.drain(..at);
                self.connections[slot as usize] = Connection::Publisher(carry);
            }
            // Subscribers say nothing that matters here.
            other => self.connections[slot as usize] = other,
        }
    }

    fn ask(&mut self, slot: u32, head: Vec<u8>) -> Connection {
        let (answer, publishes, rest) = match handshake::parse(&head) {
            Ok(None) => return Connection::Asking(head),
            Ok(Some(upgrade)) => {
                (handshake::answer(upgrade.key), upgrade.path.starts_with("/ws"), head[upgrade.head_len..].to_vec())
            }
            Err(handshake::NotAnUpgrade) => {
                self.ring.shut_down(slot);
                return Connection::Free;
            }
        };
        let greeting: &[u8] = if publishes { HI } else { b"" };
        self.ring.send_new(slot, answer.len() + greeting.len()).copy_from_slice(&[&answer, greeting].concat());
        if publishes {
            return Connection::Publisher(rest);
        }
        self.joining.push(slot);
        Connection::Joining
    }

    fn publish(&mut self, header: Header, payload: &[u8]) {
        if !matches!(header.opcode, frame::TEXT | frame::BINARY) {
            return;
        }
        let mut message = vec![0; payload.len()];
        frame::unmask(payload, &mut message, header.mask);
        let Some(line) = message.iter().position(|byte| *byte == b'\n') else {
            return;
        };
        let message = &message[line + 1..];
        let len = frame::header_len(message.len()) + message.len();
        if self.head + len > LOG_BYTES {
            self.make_room();
        }
        let head = self.head;
        let out = &mut self.ring.log()[head..head + len];
        let opcode = if message.is_ascii() { frame::TEXT } else { frame::BINARY };
        let header_len = frame::write_header(out, opcode, message.len());
        out[header_len..].copy_from_slice(message);
        self.head += len;
    }

    /// Sends what is new to everyone who has room.
    fn send_round(&mut self) {
        if self.head == self.sent && self.writable.is_empty() {
            self.forget_sent();
            return;
        }
        if self.head > self.sent {
            for subscriber in self.subscribers.iter().filter(|subscriber| !subscriber.blocked) {
                self.ring.send(subscriber.slot, self.sent, self.head - self.sent);
            }
        }
        while let Some(slot) = self.writable.pop() {
            if let (Some(position), Connection::Subscriber(index)) =
                (self.blocked.remove(&slot), &self.connections[slot as usize])
            {
                self.subscribers[*index].blocked = false;
                self.ring.send(slot, position, self.head - position);
            }
        }
        self.sent = self.head;
    }

    fn join(&mut self) {
        for slot in self.joining.drain(..) {
            if matches!(self.connections[slot as usize], Connection::Joining) {
                self.connections[slot as usize] = Connection::Subscriber(self.subscribers.len());
                self.subscribers.push(Subscriber { slot, blocked: false });
            }
        }
    }

    /// Starts the log again at its beginning once nobody needs what is in it.
    fn forget_sent(&mut self) {
        if self.blocked.is_empty() && self.head == self.sent {
            (self.head, self.sent) = (0, 0);
        }
    }

    fn make_room(&mut self) {
        let (sent, head) = (self.sent, self.head);
        for slot in std::mem::take(&mut self.blocked).into_keys() {
            self.ring.shut_down(slot);
        }
        self.ring.log().copy_within(sent..head, 0);
        (self.head, self.sent) = (head - sent, 0);
    }

    fn forget(&mut self, slot: u32) {
        if let Connection::Subscriber(index) = std::mem::take(&mut self.connections[slot as usize]) {
            self.subscribers.swap_remove(index);
            if let Some(moved) = self.subscribers.get(index) {
                self.connections[moved.slot as usize] = Connection::Subscriber(index);
            }
        }
        self.blocked.remove(&slot);
    }
}
