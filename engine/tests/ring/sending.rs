//! Sends, and what is said of those that were not done in full.

use std::io::{Read, Write};
use std::time::Instant;

use corecast::io::clock::now_us;
use corecast::io::driver::{Completion, Driver, End, Interest};
use corecast::io::memory::Span;

use crate::bench::{Bench, DEADLINE};

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

/// However many completions a submit brings, `submit` and `reap` tell all of them: nothing of a send is heard later. Those
/// beyond the kernel's queue used to be heard turns later, when their connection had been sent more, so that bytes were
/// sent twice.
#[test]
fn one_reap_hears_all() {
    const REFUSED: usize = 100_000;
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.refuse_sends(&mut client, slot);
    bench.turn();
    for round in 1..=3 {
        for _ in 0..REFUSED {
            bench.ring.send(slot, Span { start: 0, len: round });
        }
        bench.ring.submit();
        bench.ring.reap(&mut bench.heard, usize::MAX);
        let refused = Completion::Unsent { slot, asked: round, sent: Err(libc::EPIPE) };
        assert!(bench.heard.iter().all(|one| *one == refused));
        assert_eq!(bench.heard.len(), REFUSED, "round {round}");
        bench.heard.clear();
    }
    assert!(bench.ring.counts().overflows > 0, "the test must overflow the queue");
}

/// Who waits for the kernel to have memory is told that it may try again, once, not at once, and also while the ring
/// rests; a wait that is cancelled is over at once.
#[test]
fn wait_for_memory() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (_client, slot) = bench.client();
    let (_other, other) = bench.client();
    let start_us = now_us();
    bench.ring.wait_for_memory(slot, 4);
    bench.ring.wait_for_memory(other, 5);
    bench.ring.cancel_writable(other, 5);
    bench.turn();
    assert_eq!(bench.heard.pop(), Some(Completion::Writable { slot: other, generation: 5 }));
    let mut rests = 0;
    while bench.heard.is_empty() {
        bench.ring.wait(None);
        bench.turn();
        rests += 1;
        assert!(rests < 100, "it does not rest until then");
    }
    assert!(now_us() - start_us >= 10_000, "it was told too soon");
    assert_eq!(bench.heard, [Completion::Writable { slot, generation: 4 }]);
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
    bench.ring.receive(slot, 1, Interest::Multishot);
    bench.ring.finish_sending(slot);
    bench.ring.submit();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    client.write_all(b"still here").unwrap();
    assert_eq!(bench.received(slot).0, b"still here");
    drop(client);
    assert_eq!(bench.ended(slot), End::Eof);
    bench.close(slot);
}
