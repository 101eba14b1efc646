//! Baseline of the echo bench: the best plain ring loop. Multishot receive, provided buffers, direct descriptors.
//!
//! Every data frame goes back as it came, unmasked; what arrives together goes back in one send. A peer that does not
//! read its echoes is dropped: the load generator always reads.

use clap::Parser as _;
use corecast_benches::frame::{self, Header};
use corecast_benches::handshake;
use corecast_benches::host::Place;
use corecast_benches::plain_ring::{Event, Lent, PlainRing};

/// WebSocket echo on one core over io_uring, no engine.
#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Default)]
struct Connection {
    open: bool,
    /// Bytes of a request or frame cut short.
    carry: Vec<u8>,
}

fn main() -> std::io::Result<()> {
    let Arguments { place } = Arguments::parse();
    let listener = place.take()?;
    let mut ring = PlainRing::new(listener, place.slots, 0)?;
    let mut connections = vec![Connection::default(); place.slots as usize];
    let mut events = Vec::new();
    loop {
        ring.submit(1);
        ring.reap(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Accepted(slot) => connections[slot as usize] = Connection::default(),
                Event::Received(slot, lent) => {
                    received(&mut ring, &mut connections[slot as usize], slot, lent);
                    ring.recycle(lent);
                }
                Event::Unsent { slot, .. } => ring.shut_down(slot),
                Event::Ended(slot) => connections[slot as usize] = Connection::default(),
                Event::Writable(_) => {}
            }
        }
    }
}

fn received(ring: &mut PlainRing, connection: &mut Connection, slot: u32, lent: Lent) {
    if connection.open && connection.carry.is_empty() {
        let (whole, echo_len) = measure(ring.received(lent));
        if echo_len > 0 {
            let (from, to) = ring.answer(slot, lent, echo_len);
            echo(&from[..whole], to);
        }
        let rest = &ring.received(lent)[whole..];
        if !rest.is_empty() {
            connection.carry.extend_from_slice(rest);
        }
        return;
    }
    connection.carry.extend_from_slice(ring.received(lent));
    if !connection.open {
        match handshake::parse(&connection.carry) {
            Ok(None) => return,
            Ok(Some(upgrade)) => {
                let (answer, head_len) = (handshake::answer(upgrade.key), upgrade.head_len);
                ring.send_new(slot, answer.len()).copy_from_slice(&answer);
                connection.open = true;
                connection.carry.drain(..head_len);
            }
            Err(handshake::NotAnUpgrade) => return ring.shut_down(slot),
        }
    }
    let (whole, echo_len) = measure(&connection.carry);
    if echo_len > 0 {
        echo(&connection.carry[..whole], ring.send_new(slot, echo_len));
    }
    connection.carry.drain(..whole);
}

/// Returns how many bytes are whole frames, and how many their echoes take.
fn measure(bytes: &[u8]) -> (usize, usize) {
    let (mut at, mut echo_len) = (0, 0);
    while let Some(header) = Header::read(&bytes[at..]) {
        if bytes.len() - at < header.frame_len() {
            break;
        }
        if matches!(header.opcode, frame::TEXT | frame::BINARY) {
            echo_len += frame::header_len(header.payload_len) + header.payload_len;
        }
        at += header.frame_len();
    }
    (at, echo_len)
}

/// Writes the echoes of whole frames.
fn echo(mut from: &[u8], mut to: &mut [u8]) {
    while let Some(header) = Header::read(from) {
        if matches!(header.opcode, frame::TEXT | frame::BINARY) {
            let header_len = frame::write_header(to, header.opcode, header.payload_len);
            let (out, rest) = to.split_at_mut(header_len + header.payload_len);
            frame::unmask(&from[header.header_len..header.frame_len()], &mut out[header_len..], header.mask);
            to = rest;
        }
        from = &from[header.frame_len()..];
    }
}
