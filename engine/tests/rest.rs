//! Resting: whatever ends a rest does end it, through glommio and without.
#![allow(clippy::unwrap_used)] // clippy knows the test functions only, not what they share

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::slice;
use std::sync::mpsc;
use std::time::Duration;

use corecast::io::clock::now_us;
use corecast::io::doorbell::Doorbell;
use corecast::io::driver::{Completion, Driver, Interest};
use corecast::io::executor::{ShardThread, beside, in_company, spawn_shard};
use corecast::io::listen::listen;
use corecast::io::memory::Span;
use corecast::io::rest::Rest;
use corecast::io::ring::{Ring, RingConfig};

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

/// How the shard below rests: as a core does, which is in its ring, or through glommio in company; or in the ring by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Alone,
    InCompany,
    Ring,
}

const WAYS: [Way; 3] = [Way::Alone, Way::InCompany, Way::Ring];

/// A rest of one ring.
struct Bed {
    way: Way,
    rest: Rest,
    company: Option<glommio::Task<()>>,
}

impl Bed {
    fn new(ring: &Ring, way: Way) -> Bed {
        let company = (way == Way::InCompany).then(|| beside(std::future::pending()));
        assert_eq!(in_company(), way == Way::InCompany);
        Bed { way, rest: Rest::new(ring).unwrap(), company }
    }

    async fn rest(&mut self, ring: &mut Ring, until_us: Option<u64>) {
        match self.way {
            Way::Ring => ring.wait(until_us),
            Way::Alone | Way::InCompany => self.rest.rest(slice::from_mut(ring), &[until_us]).await,
        }
    }

    /// Sends the company away, without which the shard's executor can end.
    async fn leave(self) {
        if let Some(company) = self.company {
            company.cancel().await;
        }
        assert!(!in_company());
    }
}

/// Runs an echo of `turns` messages that rests whenever nothing was heard; returns how often it rested.
fn echo(turns: u32, way: Way) -> (ShardThread<u32>, SocketAddr) {
    let (mut ring, _, address) = ring();
    let shard = spawn_shard("echo", None, move || async move {
        ring.enable().unwrap();
        ring.accept(0);
        let mut bed = Bed::new(&ring, way);
        let (mut heard, mut rests, mut echoed) = (Vec::new(), 0, 0);
        while echoed < turns {
            ring.submit();
            ring.reap(&mut heard, 64);
            if heard.is_empty() {
                rests += 1;
                bed.rest(&mut ring, None).await;
            }
            for one in heard.drain(..) {
                match one {
                    Completion::Accepted { slot, .. } => ring.receive(slot, 1, Interest::Multishot),
                    Completion::Received { slot, lent, .. } => {
                        let bytes = ring.received(0, lent).to_vec();
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
        bed.leave().await;
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
    for way in WAYS {
        let (shard, address) = echo(2_000, way);
        ping(address, 2_000);
        assert!(shard.join().unwrap() > 0, "it never rested");
    }
}

/// A shard that rests without any deadline is woken by another's ring of its doorbell, each time.
#[test]
fn the_doorbell_ends_a_rest() {
    for way in WAYS {
        let (mut ring, doorbells, _) = ring();
        let (told, tell) = mpsc::channel();
        let shard = spawn_shard("sleeper", None, move || async move {
            ring.enable().unwrap();
            let mut bed = Bed::new(&ring, way);
            for number in 0..100 {
                bed.rest(&mut ring, None).await;
                ring.reap(&mut Vec::new(), 8);
                told.send(number).unwrap();
            }
            bed.leave().await;
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
    for way in WAYS {
        let (mut ring, _, _) = ring();
        let shard = spawn_shard("sleeper", None, move || async move {
            ring.enable().unwrap();
            let mut bed = Bed::new(&ring, way);
            let far_us = now_us() + 60_000_000;
            ring.wake(0);
            bed.rest(&mut ring, Some(far_us)).await;
            ring.reap(&mut Vec::new(), 8);
            assert!(now_us() < far_us, "it was woken");
            for after_us in [20_000, 1_000, 40_000] {
                let until_us = now_us() + after_us;
                // A rest may end early, so it is asked for until the time has come.
                while now_us() < until_us {
                    bed.rest(&mut ring, Some(until_us)).await;
                    ring.reap(&mut Vec::new(), 8);
                }
                assert!(now_us() < until_us + 10_000_000, "it overslept");
            }
            bed.leave().await;
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
    for way in WAYS {
        let (mut ring, _, address) = ring_of(CLIENTS + 64);
        let (told, tell) = mpsc::channel();
        let (go, gone) = mpsc::channel();
        let shard = spawn_shard("sleeper", None, move || async move {
            ring.enable().unwrap();
            ring.accept(0);
            let mut bed = Bed::new(&ring, way);
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
                bed.rest(&mut ring, Some(until_us)).await;
                ring.reap(&mut heard, 64);
            }
            told.send(()).unwrap();
            bed.leave().await;
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

/// Several rings that share a core rest together: what happens at any of them ends the rest of all, and so do their
/// doorbell and the earliest of their times.
#[test]
fn rings_rest_together() {
    for way in [Way::Alone, Way::InCompany] {
        let doorbells = vec![Doorbell::new().unwrap(); 3];
        let (mut rings, mut addresses) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let listeners = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
            addresses.push(listeners[0].address());
            let config = RingConfig { slots: 64, buffers: 8, buffer_bytes: 256, memory_bytes: 1 << 20 };
            rings.push(Ring::new(&config, number, doorbells.clone(), listeners).unwrap());
        }
        let (told, tell) = mpsc::channel();
        let (rung, bell) = mpsc::channel();
        let core = spawn_shard("core", None, move || async move {
            for ring in &mut rings {
                ring.enable().unwrap();
                ring.accept(0);
            }
            let mut bed = Bed::new(&rings[0], way);
            let mut heard = Vec::new();
            let mut accepted = [0; 3];
            while accepted.iter().sum::<u32>() < 60 {
                bed.rest.rest(&mut rings, &[None, None, None]).await;
                for (ring, accepted) in rings.iter_mut().zip(&mut accepted) {
                    ring.submit();
                    ring.reap(&mut heard, 64);
                    *accepted += heard.drain(..).count() as u32;
                }
                told.send(accepted).unwrap();
            }
            let until_us = now_us() + 20_000;
            while now_us() < until_us {
                bed.rest.rest(&mut rings, &[None, Some(until_us), Some(until_us + 60_000_000)]).await;
                rings.iter_mut().for_each(|ring| ring.reap(&mut heard, 64));
            }
            told.send([0; 3]).unwrap();
            bell.recv().unwrap();
            // Rung before the rest, so it ends at once; nothing else would end it.
            bed.rest.rest(&mut rings, &[None, None, None]).await;
            bed.leave().await;
        });
        let mut clients = Vec::new();
        for number in 0..60 {
            clients.push(TcpStream::connect(addresses[number % 3]).unwrap());
            let wanted = number as u32 + 1;
            while tell.recv_timeout(DEADLINE).unwrap().iter().sum::<u32>() < wanted {}
        }
        assert_eq!(tell.recv_timeout(DEADLINE), Ok([0; 3]), "the clock ended the rest");
        doorbells[0].ring();
        rung.send(()).unwrap();
        core.unwrap().join().unwrap();
    }
}

/// A task beside a core gets its turn and its input and output, whether the core rests or is always busy; a core that is alone
/// has none to make way for.
#[test]
fn company_gets_its_turn() {
    for busy in [false, true] {
        let (mut ring, doorbells, _) = ring();
        let (told, tell) = mpsc::channel();
        let shard = spawn_shard("host", None, move || async move {
            ring.enable().unwrap();
            let mut rest = Rest::new(&ring).unwrap();
            assert!(!in_company());
            rest.make_way(&ring).await;
            let guest = beside(async move {
                for number in 0..20 {
                    glommio::timer::sleep(Duration::from_millis(1)).await;
                    told.send(number).unwrap();
                }
            });
            assert!(in_company());
            let mut turns = 0u64;
            while in_company() {
                turns += 1;
                ring.submit();
                ring.reap(&mut Vec::new(), 8);
                if busy {
                    rest.make_way(&ring).await;
                } else {
                    rest.rest(slice::from_mut(&mut ring), &[Some(now_us() + 500)]).await;
                }
            }
            guest.await;
            turns
        });
        for number in 0..20 {
            assert_eq!(tell.recv_timeout(DEADLINE), Ok(number));
        }
        assert!(shard.unwrap().join().unwrap() > 0);
        drop(doorbells);
    }
}
