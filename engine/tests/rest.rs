//! Resting: whatever ends a rest does end it, through glommio and without.
#![allow(clippy::unwrap_used)] // clippy knows the test functions only, not what they share

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::slice;
use std::sync::mpsc;
use std::time::Duration;

use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver, Interest};
use corecast::io::executor::{ShardThread, spawn_shard};
use corecast::io::listen::listen;
use corecast::io::memory::Span;
use corecast::io::rest::Rest;
use corecast::io::ring::{Ring, RingConfig, now_us};

const DEADLINE: Duration = Duration::from_secs(10);

fn ring() -> (Ring, Vec<Doorbell>, SocketAddr) {
    ring_of(8)
}

fn ring_of(slots: u32) -> (Ring, Vec<Doorbell>, SocketAddr) {
    let listeners = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let address = listeners[0].address();
    let config = RingConfig { slots, buffers: 8, buffer_bytes: 256, memory_bytes: 1 << 20 };
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
                    Way::Glommio(rest) => rest.rest(slice::from_mut(&mut ring), &[None]).await,
                    Way::Ring => ring.wait(None),
                }
            }
            for one in heard.drain(..) {
                match one {
                    Completion::Accepted { slot, .. } => ring.receive(slot, 1, Interest::Stream),
                    Completion::Received { slot, lent, .. } => {
                        let bytes = ring.received(lent).to_vec();
                        ring.recycle(lent);
                        let span = Span { start: 0, len: bytes.len() as u32 };
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
                    rest.rest(slice::from_mut(&mut ring), &[None]).await;
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
                rest.rest(slice::from_mut(&mut ring), &[Some(far_us)]).await;
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
                        rest.rest(slice::from_mut(&mut ring), &[Some(until_us)]).await;
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

/// Says whether a client acknowledges at once; saying so also sends the acknowledgement that it owes.
fn acknowledge_at_once(client: &TcpStream, yes: bool) {
    let value = libc::c_int::from(yes);
    let (size, at) = (size_of_val(&value) as libc::socklen_t, (&raw const value).cast());
    // SAFETY: the descriptor is open, and the option reads one `int`.
    let set = unsafe { libc::setsockopt(client.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, at, size) };
    assert_eq!(set, 0);
}

/// A rest ends at its deadline also after peers by the hundred gave the kernel work that brings no completion, here by
/// acknowledging our end, which wakes the poll of their connection for nothing. A shard once rested while some of that
/// work was left, and then neither the clock nor a completion woke it. (That was a bug, found as engines that did not stop
/// while thousands of clients did not answer.)
#[test]
fn work_without_completions_does_not_outlast_a_rest() {
    const CLIENTS: u32 = 500;
    for glommio in [true, false] {
        let (mut ring, _, address) = ring_of(CLIENTS + 64);
        let (told, tell) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let shard = spawn_shard("sleeper", None, move || async move {
            ring.enable().unwrap();
            ring.accept(0);
            let mut rest = Rest::new(&ring).unwrap();
            let (mut heard, mut slots) = (Vec::new(), Vec::new());
            while slots.len() < CLIENTS as usize {
                ring.submit();
                ring.reap(&mut heard, 64);
                for one in heard.drain(..) {
                    let Completion::Accepted { slot, .. } = one else { unreachable!("{one:?}") };
                    ring.receive(slot, 1, Interest::Readiness);
                    // Who never got a byte does not wait with an acknowledgement.
                    ring.send(slot, Span { start: 0, len: 1 });
                    slots.push(slot);
                }
            }
            ring.submit();
            told.send(()).unwrap();
            gone.recv().unwrap();
            let ended = ring.counts().completions + u64::from(CLIENTS);
            slots.iter().for_each(|slot| ring.finish_sending(*slot));
            while ring.counts().completions < ended {
                ring.submit();
                ring.reap(&mut heard, 64);
            }
            told.send(()).unwrap();
            gone.recv().unwrap();
            // The kernel takes all the work there is, and runs some. What comes now stands behind the rest of it.
            ring.submit();
            told.send(()).unwrap();
            gone.recv().unwrap();
            let until_us = now_us() + 20_000;
            while now_us() < until_us {
                if glommio {
                    rest.rest(slice::from_mut(&mut ring), &[Some(until_us)]).await;
                } else {
                    ring.wait(Some(until_us));
                }
                ring.reap(&mut heard, 64);
            }
            told.send(()).unwrap();
        });
        let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
        let next = |step: &str| {
            assert_eq!(tell.recv_timeout(DEADLINE), Ok(()), "{step}");
        };
        next("all are accepted");
        for mut client in &clients {
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            client.read_exact(&mut [0]).unwrap();
            acknowledge_at_once(client, false);
        }
        go.send(()).unwrap();
        // They acknowledge 40 ms later by themselves, so the two steps should not take longer: then they show less.
        let (some, others) = clients.split_at(400);
        for (step, clients) in [("all are ended", some), ("the first work is taken", others)] {
            next(step);
            for mut client in clients {
                assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end has come, and is not acknowledged yet");
                acknowledge_at_once(client, true);
            }
            go.send(()).unwrap();
        }
        next("the rest ended");
        shard.unwrap().join().unwrap();
    }
}
