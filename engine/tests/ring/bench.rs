//! What the tests share: a ring without a shard.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver, End, Slot};
use corecast::io::listen::listen;
use corecast::io::memory::Span;
use corecast::io::ring::{Ring, RingConfig};

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A ring without a shard: it is told what to do by a test, and waits for what the kernel says.
pub(crate) struct Bench {
    pub(crate) ring: Ring,
    pub(crate) address: SocketAddr,
    pub(crate) heard: Vec<Completion>,
}

impl Bench {
    pub(crate) fn new(slots: u32, buffers: u16) -> Bench {
        let listeners = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = listeners[0].address();
        let config = RingConfig { slots, buffers, buffer_bytes: 256, memory_bytes: 16 << 20 };
        let mut ring = Ring::new(&config, 0, Doorbell::several(2).unwrap(), listeners).unwrap();
        ring.enable().unwrap();
        Bench { ring, address, heard: Vec::new() }
    }

    /// Waits for the first completion that `wanted` turns into something; others stay heard, in order.
    pub(crate) fn wait<T>(&mut self, mut wanted: impl FnMut(&Completion) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let found = self.heard.iter().enumerate().find_map(|(at, one)| wanted(one).map(|found| (at, found)));
            if let Some((at, found)) = found {
                self.heard.remove(at);
                return found;
            }
            assert!(start.elapsed() < DEADLINE, "waited too long; heard {:?}", self.heard);
            self.turn();
            std::thread::yield_now();
        }
    }

    pub(crate) fn turn(&mut self) {
        self.ring.submit();
        self.ring.reap(&mut self.heard, 64);
    }

    pub(crate) fn accepted(&mut self) -> (Slot, SocketAddr) {
        self.wait(|one| match one {
            Completion::Accepted { listener: 0, slot, peer } => Some((*slot, *peer)),
            _ => None,
        })
    }

    /// Connects a client, and returns it with its slot.
    pub(crate) fn client(&mut self) -> (TcpStream, Slot) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let (slot, peer) = self.accepted();
        assert_eq!(peer, client.local_addr().unwrap());
        (client, slot)
    }

    /// Waits for bytes, and returns them with their generation and whether the receive stays armed; the buffer goes
    /// back.
    pub(crate) fn received(&mut self, slot: Slot) -> (Vec<u8>, u16, bool) {
        let (lent, generation, more) = self.wait(|one| match one {
            Completion::Received { slot: from, generation, lent, more } if *from == slot => {
                Some((*lent, *generation, *more))
            }
            _ => None,
        });
        let bytes = self.ring.received(0, lent).to_vec();
        self.ring.recycle(lent);
        (bytes, generation, more)
    }

    pub(crate) fn ended(&mut self, slot: Slot) -> End {
        self.wait(|one| match one {
            Completion::ReceiveEnded { slot: from, end, .. } if *from == slot => Some(*end),
            _ => None,
        })
    }

    /// Waits for readability to end, and returns whether it was cancelled.
    pub(crate) fn readable(&mut self, slot: Slot) -> bool {
        self.wait(|one| match one {
            Completion::Readable { slot: from, cancelled, .. } if *from == slot => Some(*cancelled),
            _ => None,
        })
    }

    pub(crate) fn send(&mut self, slot: Slot, bytes: &[u8]) {
        let span = Span { start: 0, len: bytes.len() as u32 };
        self.ring.memory_mut().bytes_mut(span).copy_from_slice(bytes);
        self.ring.send(slot, span);
        self.ring.submit();
    }

    /// Makes every further send fail with `EPIPE`.
    pub(crate) fn refuse_sends(&mut self, client: &mut TcpStream, slot: Slot) {
        self.ring.finish_sending(slot);
        self.ring.submit();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }

    pub(crate) fn close(&mut self, slot: Slot) {
        self.ring.close(slot);
        self.wait(|one| (*one == Completion::Closed { slot }).then_some(()));
    }
}
