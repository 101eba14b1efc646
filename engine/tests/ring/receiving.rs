//! Receives of every kind, their ends and their cancels.

use std::io::{Read, Write};

use corecast::io::driver::{Completion, Driver, End, Interest};
use corecast::io::memory::Span;

use crate::bench::Bench;

/// An accepted connection names its peer; what it sends comes through a multishot receive and goes back; its end is
/// told; its slot closes.
#[test]
fn echo_through_a_stream() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    bench.ring.receive(slot, 7, Interest::Multishot);
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

/// Every kind of wait can be cancelled, says so, and leaves a slot that closes and is free again.
#[test]
fn cancel() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let (_client, slot) = bench.client();
    bench.ring.receive(slot, 1, Interest::Multishot);
    bench.ring.submit();
    bench.ring.cancel_receive(slot, 1, Interest::Multishot);
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
    bench.ring.cancel_receive(slot, 4, Interest::Multishot);
    bench.ring.cancel_writable(slot, 4);
    bench.close(slot);
    assert_eq!(bench.heard, []);
}

/// Waiting for the peer's end tells of it whatever bytes stand before it, which are still to be received; of a failure it says that it
/// is one; bytes alone do not end it, and a cancel does.
#[test]
fn the_end_alone() {
    let mut bench = Bench::new(8, 8);
    bench.ring.accept(0);
    let ending = |bench: &mut Bench, slot| {
        bench.wait(|one| match one {
            Completion::Readable { slot: from, cancelled, failed, .. } if *from == slot => Some((*cancelled, *failed)),
            _ => None,
        })
    };
    let (mut client, slot) = bench.client();
    client.write_all(b"before").unwrap();
    bench.ring.receive(slot, 1, Interest::Ending);
    bench.ring.submit();
    bench.ring.cancel_receive(slot, 1, Interest::Ending);
    assert_eq!(ending(&mut bench, slot), (true, false), "bytes did not end it");
    bench.ring.receive(slot, 2, Interest::Ending);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(ending(&mut bench, slot), (false, false));
    bench.ring.receive(slot, 3, Interest::Once);
    assert_eq!(bench.received(slot).0, b"before");
    bench.close(slot);

    let (mut client, slot) = bench.client();
    client.write_all(b"before").unwrap();
    bench.send(slot, b"unread");
    client.peek(&mut [0; 1]).unwrap();
    bench.ring.receive(slot, 4, Interest::Ending);
    // With something unread, a close is a reset.
    drop(client);
    assert_eq!(ending(&mut bench, slot), (false, true));
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

/// With every buffer lent, a receive ends with `NoBuffers` and loses nothing: once one is back and it is armed again,
/// the bytes come in order.
#[test]
fn no_buffers() {
    let mut bench = Bench::new(8, 2);
    bench.ring.accept(0);
    let (mut client, slot) = bench.client();
    let text: Vec<u8> = (0..1_024_u32).map(|at| (at * 7 / 3) as u8).collect();
    client.write_all(&text).unwrap();
    bench.ring.receive(slot, 1, Interest::Multishot);
    assert_eq!(bench.ended(slot), End::NoBuffers);
    let mut bytes = Vec::new();
    while bytes.len() < text.len() {
        let held = bench.heard.iter().any(|one| matches!(one, Completion::Received { .. }));
        if !held {
            bench.heard.clear();
            bench.ring.receive(slot, 1, Interest::Multishot);
        }
        bytes.extend(bench.received(slot).0);
    }
    assert_eq!(bytes, text);
    assert_eq!(bench.ring.buffers_lent(), 0);
}
