//! The ring against real sockets: what the seam promises (`io::driver`) is what the kernel does.
#![allow(clippy::unwrap_used)] // clippy knows the test functions only, not what they share

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
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
        let config = RingConfig { slots, buffers, buffer_bytes: 256, memory_bytes: 16 << 20 };
        let mut ring = Ring::new(&config, 0, Doorbell::several(2).unwrap(), listeners).unwrap();
        ring.enable().unwrap();
        Bench { ring, address, heard: Vec::new() }
    }

    /// Waits for the first completion that `wanted` turns into something; others stay heard, in order.
    fn wait<T>(&mut self, mut wanted: impl FnMut(&Completion) -> Option<T>) -> T {
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

    fn turn(&mut self) {
        self.ring.submit();
        self.ring.reap(&mut self.heard, 64);
    }

    fn accepted(&mut self) -> (Slot, SocketAddr) {
        self.wait(|one| match one {
            Completion::Accepted { listener: 0, slot, peer } => Some((*slot, *peer)),
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
            Completion::Received { slot: from, generation, lent, more } if *from == slot => {
                Some((*lent, *generation, *more))
            }
            _ => None,
        });
        let bytes = self.ring.received(lent).to_vec();
        self.ring.recycle(lent);
        (bytes, generation, more)
    }

    fn ended(&mut self, slot: Slot) -> End {
        self.wait(|one| match one {
            Completion::ReceiveEnded { slot: from, end, .. } if *from == slot => Some(*end),
            _ => None,
        })
    }

    /// Waits for readability to end, and returns whether it was cancelled.
    fn readable(&mut self, slot: Slot) -> bool {
        self.wait(|one| match one {
            Completion::Readable { slot: from, cancelled, .. } if *from == slot => Some(*cancelled),
            _ => None,
        })
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) {
        let span = Span { start: 0, len: bytes.len() as u32 };
        self.ring.memory_mut().bytes_mut(span).copy_from_slice(bytes);
        self.ring.send(slot, span);
        self.ring.submit();
    }

    /// Makes every further send fail with `EPIPE`.
    fn refuse_sends(&mut self, client: &mut TcpStream, slot: Slot) {
        self.ring.finish_sending(slot);
        self.ring.submit();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
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
        assert_eq!((bytes.as_slice(), generation, more), (text.as_bytes(), 7, true));
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
        assert_eq!((bytes.as_slice(), generation, more), (text.as_bytes(), 2, false));
        bench.send(slot, &bytes);
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }
    bench.ring.receive(slot, 3, Interest::Readiness);
    drop(client);
    assert!(!bench.readable(slot), "the peer's end is something to receive");
    bench.ring.receive(slot, 3, Interest::Once);
    assert_eq!(bench.ended(slot), End::Eof);
    bench.close(slot);
}

/// What a slow reader does not take is told to the byte: what was sent and what was said to be unsent add up to what
/// was asked, and the reader gets exactly that, in order. A send that fills the kernel's buffer exactly is full.
#[test]
fn slow_reader() {
    const PIECE: u32 = 100_000;
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    // A pattern with a long period, so that a hole or a repetition cannot hide.
    let pattern: Vec<u8> = (0..1_u32 << 22).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let whole = Span { start: 0, len: pattern.len() as u32 };
    bench.ring.memory_mut().bytes_mut(whole).copy_from_slice(&pattern);
    let expected = pattern.clone();
    let (mut sent, mut full, mut short, mut none) = (0_u32, 0, 0, 0);
    let mut reader = None;
    while sent < whole.len {
        let asked = PIECE.min(whole.len - sent);
        bench.ring.send(slot, whole.part(sent, asked));
        bench.ring.submit();
        bench.turn();
        let unsent = bench.heard.iter().position(|one| matches!(one, Completion::Unsent { .. }));
        match unsent.map(|at| bench.heard.remove(at)) {
            None => {
                sent += asked;
                full += 1;
            }
            Some(Completion::Unsent { slot: to, asked: of, sent: Ok(taken) }) => {
                assert_eq!((to, of), (slot, asked));
                assert!(taken > 0 && taken < asked);
                sent += taken;
                short += 1;
            }
            Some(Completion::Unsent { slot: to, asked: of, sent: Err(errno) }) => {
                assert_eq!((to, of, errno), (slot, asked, libc::EAGAIN));
                none += 1;
                bench.ring.wait_writable(slot, 9);
                // Only now does anybody read, so that the buffer has been full.
                if reader.is_none() {
                    let mut from = client.try_clone().unwrap();
                    let length = pattern.len();
                    reader = Some(std::thread::spawn(move || {
                        let mut bytes = vec![0; length];
                        from.read_exact(&mut bytes).map(|()| bytes)
                    }));
                }
                bench.wait(|one| (*one == Completion::Writable { slot, generation: 9 }).then_some(()));
            }
            Some(other) => unreachable!("{other:?}"),
        }
    }
    let bytes = reader.expect("4 MiB fill any default buffer").join().unwrap().unwrap();
    assert!(bytes == expected, "the reader's bytes differ");
    assert!(full > 0 && short > 0 && none > 0, "full {full}, short {short}, none {none}");
    bench.close(slot);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "nothing was sent beyond what was accounted");
    assert_eq!(bench.heard, []);
}

/// Every kind of wait can be cancelled, says so, and leaves a slot that closes and is free again.
#[test]
fn cancel() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (_client, slot) = bench.client();
    bench.ring.receive(slot, 1, Interest::Stream);
    bench.ring.submit();
    bench.ring.cancel_receive(slot, 1, Interest::Stream);
    assert_eq!(bench.ended(slot), End::Cancelled);
    bench.ring.receive(slot, 2, Interest::Readiness);
    bench.ring.submit();
    bench.ring.cancel_receive(slot, 2, Interest::Readiness);
    assert!(bench.readable(slot));
    // A full send buffer, or the wait for room would be over at once.
    let span = Span { start: 0, len: 8 << 20 };
    bench.ring.send(slot, span);
    bench.wait(|one| matches!(one, Completion::Unsent { .. }).then_some(()));
    bench.ring.wait_writable(slot, 3);
    bench.ring.submit();
    bench.ring.cancel_writable(slot, 3);
    bench.wait(|one| (*one == Completion::Writable { slot, generation: 3 }).then_some(()));
    // What is not armed is cancelled in vain, silently.
    bench.ring.cancel_receive(slot, 4, Interest::Stream);
    bench.ring.cancel_writable(slot, 4);
    bench.close(slot);
    assert_eq!(bench.heard, []);
}

/// A cancel that comes too late loses nothing: the bytes are received, and then nothing says `Cancelled`.
#[test]
fn cancel_too_late() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    client.write_all(b"here").unwrap();
    bench.ring.receive(slot, 1, Interest::Readiness);
    assert!(!bench.readable(slot));
    bench.ring.receive(slot, 1, Interest::Once);
    bench.ring.cancel_receive(slot, 1, Interest::Once);
    assert_eq!(bench.received(slot), (b"here".to_vec(), 1, false));
    bench.close(slot);
    assert_eq!(bench.heard, []);
}

/// A peer sees an orderly end after `finish_sending`, and a close ordered right behind it waits until it is done.
#[test]
fn finish_then_close() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.send(slot, b"last words");
    bench.ring.finish_sending(slot);
    bench.close(slot);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"last words");
}

/// Our direction ends, the peer's goes on.
#[test]
fn finish_and_go_on_receiving() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.ring.receive(slot, 1, Interest::Stream);
    bench.ring.finish_sending(slot);
    bench.ring.submit();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    client.write_all(b"still here").unwrap();
    assert_eq!(bench.received(slot).0, b"still here");
    drop(client);
    assert_eq!(bench.ended(slot), End::Eof);
    bench.close(slot);
}

/// A full table stops accepting and says so once; nobody in the kernel's queue is turned away, and is accepted when a
/// slot is free and `accept` is said again.
#[test]
fn full_table() {
    let mut bench = Bench::new(2, 8);
    assert_eq!(bench.ring.slots_max(), 2);
    bench.ring.accept(0);
    let (_first, slot) = bench.client();
    let (_second, other) = bench.client();
    assert_ne!(slot, other);
    let full = Completion::AcceptFailed { listener: 0, errno: libc::ENFILE };
    bench.wait(|one| (*one == full).then_some(()));
    let mut third = TcpStream::connect(bench.address).unwrap();
    third.set_read_timeout(Some(DEADLINE)).unwrap();
    for _ in 0..100 {
        bench.turn();
    }
    assert_eq!(bench.heard, [], "said once, accepted nobody");
    bench.close(slot);
    bench.ring.accept(0);
    let (again, peer) = bench.accepted();
    assert_eq!((again, peer), (slot, third.local_addr().unwrap()));
    bench.send(again, b"welcome");
    let mut heard = [0; 7];
    third.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"welcome");
}

/// With every buffer lent, a receive ends with `NoBuffers` and loses nothing: once one is back and it is armed again,
/// the bytes come in order.
#[test]
fn no_buffers() {
    let mut bench = Bench::new(8, 2);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    let text: Vec<u8> = (0..1_024_u32).map(|at| (at * 7 / 3) as u8).collect();
    client.write_all(&text).unwrap();
    bench.ring.receive(slot, 1, Interest::Stream);
    assert_eq!(bench.ended(slot), End::NoBuffers);
    let mut bytes = Vec::new();
    while bytes.len() < text.len() {
        let held = bench.heard.iter().any(|one| matches!(one, Completion::Received { .. }));
        if !held {
            bench.heard.clear();
            bench.ring.receive(slot, 1, Interest::Stream);
        }
        bytes.extend(bench.received(slot).0);
    }
    assert_eq!(bytes, text);
}

/// More orders than the queue holds, between two submits: each is carried out once.
#[test]
fn more_orders_than_fit() {
    const SENDS: u32 = 10_000;
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    let room = bench.ring.room();
    assert!(room > 1_000 && room < SENDS as usize, "the test must overfill the queue");
    for at in 0..SENDS {
        let place = Span { start: u64::from(at) * 2, len: 2 };
        bench.ring.memory_mut().bytes_mut(place).copy_from_slice(&(at as u16).to_be_bytes());
        bench.ring.send(slot, place);
    }
    assert!(bench.ring.room() < room);
    bench.ring.submit();
    let mut bytes = vec![0; SENDS as usize * 2];
    client.read_exact(&mut bytes).unwrap();
    let numbers = bytes.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    assert!(numbers.eq(0..SENDS), "each number once, in order");
    bench.turn();
    assert_eq!(bench.heard, []);
}

/// More completions than the kernel's queue holds: none is lost.
#[test]
fn more_completions_than_fit() {
    const REFUSED: usize = 100_000;
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.refuse_sends(&mut client, slot);
    for _ in 0..REFUSED {
        bench.ring.send(slot, Span { start: 0, len: 1 });
    }
    let refused = Completion::Unsent { slot, asked: 1, sent: Err(libc::EPIPE) };
    let mut heard = 0;
    let start = Instant::now();
    while heard < REFUSED {
        assert!(start.elapsed() < DEADLINE, "{heard} of {REFUSED}");
        bench.turn();
        assert!(bench.heard.iter().all(|one| *one == refused));
        heard += bench.heard.len();
        bench.heard.clear();
    }
    bench.turn();
    assert_eq!((heard, bench.heard.len()), (REFUSED, 0));
    assert!(bench.ring.counts().overflows > 0, "the test must overflow the queue");
}

/// `reap` moves at most what it is asked for, and keeps the rest in order.
#[test]
fn reap_in_parts() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.refuse_sends(&mut client, slot);
    for asked in 1..=100 {
        bench.ring.send(slot, Span { start: 0, len: asked });
    }
    bench.ring.submit();
    let mut heard = Vec::new();
    for part in 1..=10 {
        bench.ring.reap(&mut heard, 10);
        assert_eq!(heard.len(), part * 10);
    }
    let asked: Vec<u32> = heard
        .iter()
        .map(|one| match one {
            Completion::Unsent { asked, .. } => *asked,
            other => unreachable!("{other:?}"),
        })
        .collect();
    assert!(asked.into_iter().eq(1..=100));
}

/// After `stop_accepting` the port is free, nobody is accepted any more, and open connections live on.
#[test]
fn stop_accepting() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.ring.stop_accepting();
    let start = Instant::now();
    while let Ok(late) = TcpStream::connect(bench.address) {
        // The kernel may have queued this one just before; it gets an end, not silence.
        assert!(start.elapsed() < DEADLINE);
        drop(late);
        bench.turn();
    }
    bench.ring.accept(0);
    bench.turn();
    assert_eq!(bench.heard, []);
    bench.send(slot, b"bye");
    let mut heard = [0; 3];
    client.read_exact(&mut heard).unwrap();
}

/// A connection made by the ring is one that was accepted elsewhere, from the address asked for; one that nobody
/// accepts fails with the reason, and its slot closes.
#[test]
fn connect() {
    let mut bench = Bench::new(8, 8);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let from: IpAddr = "127.0.0.77".parse().unwrap();
    for from in [None, Some(from)] {
        bench.ring.connect(server.local_addr().unwrap(), from).unwrap();
        let (slot, errno) = bench.wait(|one| match one {
            Completion::Connected { slot, errno } => Some((*slot, *errno)),
            _ => None,
        });
        assert_eq!(errno, 0);
        let (mut accepted, peer) = server.accept().unwrap();
        assert!(from.is_none_or(|from| peer.ip() == from));
        bench.send(slot, b"hello");
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).unwrap();
        bench.ring.receive(slot, 5, Interest::Stream);
        accepted.write_all(b"world").unwrap();
        assert_eq!(bench.received(slot), (b"world".to_vec(), 5, true));
        drop(accepted);
        assert_eq!(bench.ended(slot), End::Eof);
        bench.close(slot);
    }
    let nobody = server.local_addr().unwrap();
    drop(server);
    bench.ring.connect(nobody, None).unwrap();
    let refused = bench.wait(|one| match one {
        Completion::Connected { slot, errno } => Some((*slot, *errno)),
        _ => None,
    });
    assert_eq!(refused.1, libc::ECONNREFUSED);
    bench.close(refused.0);
}

/// Far more connections than may be on their way at once are made by waiting when told to, and a full table refuses
/// the next.
#[test]
fn connect_many() {
    const MANY: usize = 600;
    let mut bench = Bench::new(MANY as u32 * 2, 8);
    bench.ring.accept(0);
    let (mut begun, mut connected, mut accepted) = (0, 0, 0);
    let start = Instant::now();
    while connected < MANY || accepted < MANY {
        assert!(start.elapsed() < DEADLINE, "begun {begun}, connected {connected}, accepted {accepted}");
        while begun < MANY {
            match bench.ring.connect(bench.address, None) {
                Ok(()) => begun += 1,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        bench.turn();
        for one in bench.heard.drain(..) {
            match one {
                Completion::Connected { errno: 0, .. } => connected += 1,
                Completion::Accepted { .. } => accepted += 1,
                Completion::AcceptFailed { errno: libc::ENFILE, .. } => assert_eq!(accepted, MANY),
                other => unreachable!("{other:?}"),
            }
        }
    }
    let full = bench.ring.connect(bench.address, None).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENFILE));
}
