//! Connections that come and go: accepted, made, refused, closed.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver, End, Interest};
use corecast::io::listen::listen;
use corecast::io::ring::{Ring, RingConfig};

use crate::bench::{Bench, DEADLINE};

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
        bench.ring.receive(slot, 5, Interest::Multishot);
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

/// Peers of an IPv6 listener are named by their address; those that come by IPv4 by their IPv4 address.
#[test]
fn ipv6_and_mapped_peers() {
    let Ok(listeners) = listen("[::]:0".parse().unwrap(), 1) else {
        return; // a host without IPv6 has nothing to show here
    };
    let port = listeners[0].address().port();
    let config = RingConfig { slots: 8, buffers: 8, buffer_bytes: 256, memory_bytes: 1 << 16 };
    let ring = Ring::new(&config, 0, Doorbell::several(1).unwrap(), listeners).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut bench = Bench { ring, address, heard: Vec::new() };
    bench.ring.enable().unwrap();
    bench.ring.accept(0);
    bench.client();
    bench.address = format!("[::1]:{port}").parse().unwrap();
    bench.client();
}
