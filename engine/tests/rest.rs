//! Resting: whatever ends a rest does end it, through glommio and without.
#![allow(clippy::unwrap_used)] // clippy knows the test functions only, not what they share

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver, Interest};
use corecast::io::executor::{ShardThread, spawn_shard};
use corecast::io::listen::listen;
use corecast::io::rest::Rest;
use corecast::io::ring::{Ring, RingConfig, now_us};

const DEADLINE: Duration = Duration::from_secs(10);

fn ring() -> (Ring, Vec<Doorbell>, SocketAddr) {
    let listeners = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let address = listeners[0].address();
    let config = RingConfig { slots: 8, buffers: 8, buffer_bytes: 256, memory_bytes: 1 << 20 };
    let doorbells = Doorbell::several(2).unwrap();
    (Ring::new(&config, 0, doorbells.clone(), listeners).unwrap(), doorbells, address)
}

/// How the shard below rests.
enum Way {
    Glommio(Rest),
    Ring,
}

/// Runs an echo of `turns` messages that rests whenever nothing was heard; returns how often it rested.
fn echo(turns: u32, glommio: bool) -> (ShardThread<u32>, SocketAddr) {
    let (mut ring, _, address) = ring();
    let shard = spawn_shard("echo", None, move || async move {
        ring.enable().unwrap();
        ring.accept(0);
        let mut way = if glommio { Way::Glommio(Rest::new(&ring).unwrap()) } else { Way::Ring };
        let (mut heard, mut rests, mut echoed) = (Vec::new(), 0, 0);
        while echoed < turns {
            ring.submit();
            ring.reap(&mut heard, 64);
            if heard.is_empty() {
                rests += 1;
                match &mut way {
                    Way::Glommio(rest) => rest.rest(&mut ring, None).await,
                    Way::Ring => ring.wait(None),
                }
            }
            for one in heard.drain(..) {
                match one {
                    Completion::Accepted { slot, .. } => ring.receive(slot, 1, Interest::Stream),
                    Completion::Received { slot, lent, .. } => {
                        let bytes = ring.received(lent).to_vec();
                        ring.recycle(lent);
                        let span = corecast::io::memory::Span { start: 0, len: bytes.len() as u32 };
                        ring.memory_mut().bytes_mut(span).copy_from_slice(&bytes);
                        ring.send(slot, span);
                        ring.submit();
                        echoed += 1;
                    }
                    other => unreachable!("{other:?}"),
                }
            }
        }
        rests
    });
    (shard.unwrap(), address)
}

fn ping(address: SocketAddr, turns: u32) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_nodelay(true).unwrap();
    for _ in 0..turns {
        client.write_all(b"ping").unwrap();
        let mut back = [0; 4];
        client.read_exact(&mut back).unwrap();
    }
}

/// A shard that rests after every message is woken by every message: none is slept over.
#[test]
fn completions_end_a_rest() {
    for glommio in [true, false] {
        let (shard, address) = echo(2_000, glommio);
        ping(address, 2_000);
        assert!(shard.join().unwrap() > 0, "it never rested");
    }
}

/// A shard that rests without any deadline is woken by another's ring of its doorbell, each time.
#[test]
fn the_doorbell_ends_a_rest() {
    for glommio in [true, false] {
        let (mut ring, doorbells, _) = ring();
        let (told, tell) = mpsc::channel();
        let shard = spawn_shard("sleeper", None, move || async move {
            ring.enable().unwrap();
            let mut rest = Rest::new(&ring).unwrap();
            for number in 0..100 {
                if glommio {
                    rest.rest(&mut ring, None).await;
                } else {
                    ring.wait(None);
                    ring.reap(&mut Vec::new(), 8);
                }
                told.send(number).unwrap();
            }
        });
        for number in 0..100 {
            doorbells[0].ring();
            assert_eq!(tell.recv_timeout(DEADLINE), Ok(number));
        }
        shard.unwrap().join().unwrap();
    }
}

/// A rest ends at its deadline; an earlier deadline than the last one counts, a later one does too.
#[test]
fn the_clock_ends_a_rest() {
    for glommio in [true, false] {
        let (mut ring, _, _) = ring();
        let shard = spawn_shard("sleeper", None, move || async move {
            ring.enable().unwrap();
            let mut rest = Rest::new(&ring).unwrap();
            let far_us = now_us() + 60_000_000;
            ring.wake(0);
            if glommio {
                rest.rest(&mut ring, Some(far_us)).await;
            } else {
                ring.wait(Some(far_us));
                ring.reap(&mut Vec::new(), 8);
            }
            assert!(now_us() < far_us, "it was woken");
            for after_us in [20_000, 1_000, 40_000] {
                let until_us = now_us() + after_us;
                // A rest may end early, so it is asked for until the time has come.
                while now_us() < until_us {
                    if glommio {
                        rest.rest(&mut ring, Some(until_us)).await;
                    } else {
                        ring.wait(Some(until_us));
                    }
                    ring.reap(&mut Vec::new(), 8);
                }
                assert!(now_us() < until_us + 10_000_000, "it overslept");
            }
            ring.counts().enters
        });
        let enters = shard.unwrap().join().unwrap();
        assert!(enters < 100, "it did not rest but ask {enters} times");
    }
}
