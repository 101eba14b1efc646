//! The ring against real sockets: what the seam promises (`io::driver`) is what the kernel does.
#![allow(clippy::unwrap_used)] // clippy knows the test functions only, not what they share

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver, End, Interest, Slot};
use corecast::io::listen::listen;
use corecast::io::memory::Span;
use corecast::io::ring::{Ring, RingConfig};

const DEADLINE: Duration = Duration::from_secs(10);

/// A ring without a shard: it is told what to do by a test, and waits for what the kernel says.
struct Bench {
    ring: Ring,
    address: SocketAddr,
    heard: Vec<Completion>,
}

impl Bench {
    fn new(slots: u32, buffers: u16) -> Bench {
        let listeners = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listeners[0].address();
        let config = RingConfig {
            slots,
            buffers,
            buffer_bytes: 256,
            memory_bytes: 16 << 20,
        };
        let mut ring = Ring::new(&config, 0, Doorbell::several(2).unwrap(), listeners).unwrap();
        ring.enable().unwrap();
        Bench {
            ring,
            address,
            heard: Vec::new(),
        }
    }

    /// Waits for the first completion that `wanted` turns into something; others stay heard, in order.
    fn wait<T>(&mut self, mut wanted: impl FnMut(&Completion) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let found = self
                .heard
                .iter()
                .enumerate()
                .find_map(|(at, one)| wanted(one).map(|found| (at, found)));
            if let Some((at, found)) = found {
                self.heard.remove(at);
                return found;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "waited too long; heard {:?}",
                self.heard
            );
            self.turn();
            std::thread::yield_now();
        }
    }

    fn turn(&mut self) {
        self.ring.submit();
        self.ring.reap(&mut self.heard, 64);
    }

    fn accepted(&mut self) -> (Slot, SocketAddr) {
        self.wait(|one| match one {
            Completion::Accepted {
                listener: 0,
                slot,
                peer,
            } => Some((*slot, *peer)),
            _ => None,
        })
    }

    /// Connects a client, and returns it with its slot.
    fn client(&mut self) -> (TcpStream, Slot) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let (slot, peer) = self.accepted();
        assert_eq!(peer, client.local_addr().unwrap());
        (client, slot)
    }

    /// Waits for bytes, and returns them with their generation and whether the receive stays armed; the buffer goes
    /// back.
    fn received(&mut self, slot: Slot) -> (Vec<u8>, u16, bool) {
        let (lent, generation, more) = self.wait(|one| match one {
            Completion::Received {
                slot: from,
                generation,
                lent,
                more,
            } if *from == slot => Some((*lent, *generation, *more)),
            _ => None,
        });
        let bytes = self.ring.received(lent).to_vec();
        self.ring.recycle(lent);
        (bytes, generation, more)
    }

    fn ended(&mut self, slot: Slot) -> End {
        self.wait(|one| match one {
            Completion::ReceiveEnded {
                slot: from, end, ..
            } if *from == slot => Some(*end),
            _ => None,
        })
    }

    /// Waits for readability to end, and returns whether it was cancelled.
    fn readable(&mut self, slot: Slot) -> bool {
        self.wait(|one| match one {
            Completion::Readable {
                slot: from,
                cancelled,
                ..
            } if *from == slot => Some(*cancelled),
            _ => None,
        })
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) {
        let span = Span {
            start: 0,
            len: bytes.len() as u32,
        };
        self.ring
            .memory_mut()
            .bytes_mut(span)
            .copy_from_slice(bytes);
        self.ring.send(slot, span);
        self.ring.submit();
    }

    fn close(&mut self, slot: Slot) {
        self.ring.close(slot);
        self.wait(|one| (*one == Completion::Closed { slot }).then_some(()));
    }
}

/// An accepted connection names its peer; what it sends comes through a multishot receive and goes back; its end is
/// told; its slot closes.
#[test]
fn echo_through_a_stream() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.ring.receive(slot, 7, Interest::Stream);
    for turn in 0..100_u32 {
        let text = format!("message {turn}");
        client.write_all(text.as_bytes()).unwrap();
        let (bytes, generation, more) = bench.received(slot);
        assert_eq!(
            (bytes.as_slice(), generation, more),
            (text.as_bytes(), 7, true)
        );
        bench.send(slot, &bytes);
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }
    drop(client);
    assert_eq!(bench.ended(slot), End::Eof);
    bench.close(slot);
    assert_eq!(bench.heard, [], "sends that were done in full say nothing");
}

/// Waiting for readability and then receiving once gives the same bytes, and `Again` when there are none, without
/// arming anything.
#[test]
fn echo_through_readiness() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.ring.receive(slot, 1, Interest::Once);
    assert_eq!(bench.ended(slot), End::Again);
    for turn in 0..100_u32 {
        bench.ring.receive(slot, 2, Interest::Readiness);
        let text = format!("message {turn}");
        client.write_all(text.as_bytes()).unwrap();
        assert!(!bench.readable(slot));
        bench.ring.receive(slot, 2, Interest::Once);
        let (bytes, generation, more) = bench.received(slot);
        assert_eq!(
            (bytes.as_slice(), generation, more),
            (text.as_bytes(), 2, false)
        );
        bench.send(slot, &bytes);
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }
    bench.ring.receive(slot, 3, Interest::Readiness);
    drop(client);
    assert!(
        !bench.readable(slot),
        "the peer's end is something to receive"
    );
    bench.ring.receive(slot, 3, Interest::Once);
    assert_eq!(bench.ended(slot), End::Eof);
    bench.close(slot);
}
