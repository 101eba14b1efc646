//! The fake kernel on trial: an honest little echo server must come through every fault, and every breach must be seen.

use corecast::io::driver::{Completion, Driver, End, Interest, Lent};
use corecast::io::memory::Span;

use crate::faults::Faults;
use crate::kernel::FakeKernel;
use crate::net::{ConnId, Found, Net, SharedNet};
use crate::rng::Rng;
use crate::seat::{Sizes, Tally};

const SIZES: Sizes = Sizes { memory_bytes: 1 << 20, slots: 8, buffers: 4, buffer_bytes: 64, orders: 16 };
const ECHO_BYTES: usize = 4096;

/// What the echo server knows of a slot: bytes to send lie at `slot * ECHO_BYTES`, from `from` to `to`.
#[derive(Clone, Copy, Default)]
struct Echo {
    open: bool,
    generation: u16,
    interest: Option<Interest>,
    rearm: bool,
    blocked: bool,
    ended: bool,
    failed: bool,
    from: usize,
    to: usize,
}

/// The smallest honest user of a driver: reads when its buffer has room, sends one span at a time, closes after the end.
struct EchoShard {
    slots: Vec<Echo>,
    stream: bool,
    accept_again: bool,
}

impl EchoShard {
    fn turn(&mut self, kernel: &mut FakeKernel) {
        let mut completions = Vec::new();
        kernel.reap(&mut completions, 64);
        for completion in completions {
            self.hear(kernel, completion);
        }
        if std::mem::take(&mut self.accept_again) {
            kernel.accept(0);
        }
        for slot in 0..self.slots.len() as u32 {
            self.serve(kernel, slot);
        }
        kernel.submit();
    }

    fn hear(&mut self, kernel: &mut FakeKernel, completion: Completion) {
        match completion {
            Completion::Accepted { slot, .. } => {
                let echo = &mut self.slots[slot as usize];
                assert!(!echo.open);
                *echo = Echo { open: true, generation: echo.generation + 1, rearm: true, ..Echo::default() };
            }
            Completion::AcceptFailed { .. } => self.accept_again = true,
            Completion::Received { slot, generation, lent, more } => {
                let echo = &mut self.slots[slot as usize];
                assert_eq!(generation, echo.generation);
                let bytes = kernel.received(0, lent).to_vec();
                let at = Span { start: (slot as usize * ECHO_BYTES + echo.to) as u64, len: lent.len };
                echo.to += bytes.len();
                kernel.memory_mut().bytes_mut(at).copy_from_slice(&bytes);
                kernel.recycle(lent);
                if !more {
                    echo.interest = None;
                    echo.rearm = true;
                }
            }
            Completion::ReceiveEnded { slot, end, .. } => {
                let echo = &mut self.slots[slot as usize];
                echo.interest = None;
                match end {
                    End::Eof => echo.ended = true,
                    End::Failed(_) => echo.failed = true,
                    End::Again | End::NoBuffers | End::Cancelled | End::Rearm => echo.rearm = true,
                }
            }
            Completion::Readable { slot, .. } => {
                let echo = &mut self.slots[slot as usize];
                echo.interest = None;
                if echo.to + 64 > ECHO_BYTES {
                    echo.rearm = true;
                    return;
                }
                kernel.receive(slot, echo.generation, Interest::Once);
                echo.interest = Some(Interest::Once);
            }
            Completion::Unsent { slot, asked, sent } => {
                let echo = &mut self.slots[slot as usize];
                match sent {
                    Ok(count) => echo.from -= (asked - count) as usize,
                    Err(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => echo.from -= asked as usize,
                    Err(_) => echo.failed = true,
                }
                if matches!(sent, Err(libc::ENOBUFS | libc::ENOMEM)) {
                    kernel.wait_for_memory(slot, echo.generation);
                } else {
                    kernel.wait_writable(slot, echo.generation);
                }
                echo.blocked = true;
            }
            Completion::Writable { slot, .. } => self.slots[slot as usize].blocked = false,
            Completion::Closed { slot } => self.slots[slot as usize].open = false,
            _ => unreachable!("nobody connects, and there is no edge"),
        }
    }

    fn serve(&mut self, kernel: &mut FakeKernel, slot: u32) {
        let echo = &mut self.slots[slot as usize];
        if !echo.open {
            return;
        }
        if echo.failed {
            if let Some(interest) = echo.interest {
                kernel.cancel_receive(slot, echo.generation, interest);
            }
            if echo.blocked {
                kernel.cancel_writable(slot, echo.generation);
            }
            if echo.interest.is_none() && !echo.blocked {
                kernel.close(slot);
                // Until `Closed`, the slot must not be named again.
                echo.open = false;
            }
            return;
        }
        if echo.to > echo.from && !echo.blocked {
            let start = (slot as usize * ECHO_BYTES + echo.from) as u64;
            kernel.send(slot, Span { start, len: (echo.to - echo.from) as u32 });
            echo.from = echo.to;
        } else if echo.to == echo.from && !echo.blocked {
            // The bytes of the last send are ours again, and it was a full one.
            echo.from = 0;
            echo.to = 0;
            if echo.ended {
                echo.failed = true;
                kernel.finish_sending(slot);
            }
        }
        if echo.rearm && echo.interest.is_none() && !echo.failed && !echo.ended && echo.to + 64 * 8 <= ECHO_BYTES {
            let interest = if self.stream { Interest::Multishot } else { Interest::Readiness };
            kernel.receive(slot, echo.generation, interest);
            echo.interest = Some(interest);
            echo.rearm = false;
        }
    }
}

struct EchoClient {
    conn: ConnId,
    unsent: Vec<u8>,
    all: Vec<u8>,
    back: Vec<u8>,
    ended: bool,
    over: Option<Found>,
}

impl EchoClient {
    fn step(&mut self, net: &mut Net, rng: &mut Rng) {
        if !self.unsent.is_empty() {
            let count = rng.skewed(self.unsent.len());
            if let Ok(taken) = net.client_write(self.conn, &self.unsent[..count]) {
                self.unsent.drain(..taken);
            }
        } else if !self.ended {
            self.ended = true;
            net.client_end(self.conn);
        }
        match net.client_read(self.conn, rng.skewed(100), &mut self.back) {
            found @ (Found::Eof | Found::Reset) => self.over = Some(found),
            Found::Bytes(_) | Found::Nothing => {}
        }
    }
}

fn echo_world(seed: u64, faults: Faults) -> Tally {
    let mut rng = Rng::new(seed);
    let net = Net::shared(1);
    let mut kernel = FakeKernel::new(0, net.clone(), rng.split(), faults, SIZES);
    let mut shard = EchoShard { slots: vec![Echo::default(); 8], stream: rng.chance(500), accept_again: true };
    let mut clients: Vec<EchoClient> = (0..20)
        .map(|_| {
            let all: Vec<u8> = (0..rng.skewed(1500)).map(|_| rng.next() as u8).collect();
            let conn = net.borrow_mut().connect(0, 15 + rng.skewed(300), 15 + rng.skewed(300));
            EchoClient { conn, unsent: all.clone(), all, back: Vec::new(), ended: false, over: None }
        })
        .collect();
    for _ in 0..200_000 {
        if clients.iter().all(|client| client.over.is_some()) && kernel.slots_taken() == 0 {
            break;
        }
        let longest_us = rng.pick(&[50, 50, 20_000]);
        net.borrow_mut().advance_us(rng.within(1..longest_us));
        shard.turn(&mut kernel);
        for _ in 0..rng.below(8) {
            let one = rng.below(clients.len());
            clients[one].step(&mut net.borrow_mut(), &mut rng);
        }
    }
    assert_eq!(kernel.slots_taken(), 0, "seed {seed}: every slot is free in the end");
    assert_eq!(kernel.buffers_lent(), 0, "seed {seed}: every buffer came back");
    for client in &clients {
        assert_eq!(client.over, Some(Found::Eof), "seed {seed}");
        assert_eq!(client.back, client.all, "seed {seed}: each byte once and in order");
    }
    kernel.tally
}

/// An honest server gets every byte through, in order, whatever the kernel does within its contract, and each fault
/// that the profile names really happens.
#[test]
fn an_honest_server_survives_every_fault() {
    let mut sum = Tally::default();
    for seed in 0..60 {
        let faults = Faults { reset: 0, ..Faults::draw(&mut Rng::new(seed)) };
        let tally = echo_world(seed, faults);
        sum.add(&tally);
    }
    let happened = [sum.sends, sum.short, sum.again, sum.no_buffers, sum.rearms, sum.table_full, sum.late];
    assert!(happened.iter().all(|count| *count > 0), "{sum:?}");
}

/// The same seed gives the same run, or a failure could not be replayed.
#[test]
fn a_seed_replays() {
    for seed in 0..5 {
        let faults = Faults { reset: 0, ..Faults::draw(&mut Rng::new(seed)) };
        let [first, again] = [(); 2].map(|()| format!("{:?}", echo_world(seed, faults)));
        assert_eq!(first, again);
    }
}

/// Brings up a kernel with one accepted connection, and says in which slot.
fn one_open() -> (SharedNet, FakeKernel, u32, ConnId) {
    let net = Net::shared(1);
    let mut kernel = FakeKernel::new(0, net.clone(), Rng::new(1), Faults::NONE, SIZES);
    let conn = net.borrow_mut().connect(0, 1000, 1000);
    kernel.accept(0);
    let Completion::Accepted { slot, .. } = next(&net, &mut kernel) else { panic!("accepted first") };
    (net, kernel, slot, conn)
}

fn next(net: &SharedNet, kernel: &mut FakeKernel) -> Completion {
    let mut completions = Vec::new();
    for _ in 0..100 {
        kernel.submit();
        kernel.reap(&mut completions, 1);
        net.borrow_mut().advance_us(10);
        if let Some(completion) = completions.pop() {
            return completion;
        }
    }
    panic!("the kernel said nothing");
}

/// A reset shows as a failed receive, and what was sent to a peer that is gone fails after the first send.
#[test]
fn a_reset_is_told() {
    let (net, mut kernel, slot, conn) = one_open();
    kernel.receive(slot, 7, Interest::Multishot);
    net.borrow_mut().client_reset(conn, true);
    let told = next(&net, &mut kernel);
    assert_eq!(told, Completion::ReceiveEnded { slot, generation: 7, end: End::Failed(libc::ECONNRESET) });
    kernel.send(slot, Span { start: 0, len: 4 });
    let Completion::Unsent { asked: 4, sent: Err(_), .. } = next(&net, &mut kernel) else { panic!("send failed") };
}

/// A cancel that finds its receive armed ends it; one that comes after the answer changes nothing.
#[test]
fn data_and_cancel_cross() {
    let (net, mut kernel, slot, conn) = one_open();
    kernel.receive(slot, 1, Interest::Readiness);
    kernel.submit();
    kernel.cancel_receive(slot, 1, Interest::Readiness);
    assert_eq!(next(&net, &mut kernel), Completion::Readable { slot, generation: 1, cancelled: true, failed: false });
    kernel.receive(slot, 2, Interest::Readiness);
    assert_eq!(net.borrow_mut().client_write(conn, b"hello"), Ok(5));
    for _ in 0..20 {
        kernel.submit();
        net.borrow_mut().advance_us(10);
    }
    kernel.cancel_receive(slot, 2, Interest::Readiness);
    assert_eq!(next(&net, &mut kernel), Completion::Readable { slot, generation: 2, cancelled: false, failed: false });
    assert_eq!(kernel.tally.crossed_cancels, 1);
}

/// A completion may stay in the queue for turns, and those of other sockets overtake it; those of one socket keep their order, and
/// that a send fell short is heard right after its submit.
#[test]
fn late_completions() {
    let net = Net::shared(1);
    let faults = Faults { late: 900, delay_us_max: 1, ..Faults::NONE };
    let mut kernel = FakeKernel::new(0, net.clone(), Rng::new(1), faults, SIZES);
    let conns: Vec<ConnId> = (0..4).map(|_| net.borrow_mut().connect(0, 1000, 10)).collect();
    kernel.accept(0);
    let mut order = Vec::new();
    let mut completions = Vec::new();
    let mut turns = 0;
    while order.len() < conns.len() {
        kernel.submit();
        kernel.reap(&mut completions, 64);
        for completion in completions.drain(..) {
            let Completion::Accepted { slot, peer, .. } = completion else { panic!("accepted, not {completion:?}") };
            order.push((slot, peer));
        }
        turns += 1;
        assert!(turns < 1000, "nothing stays for ever");
    }
    assert!(turns > 4, "nothing was late");
    assert!(!order.is_sorted_by_key(|(_, peer)| *peer), "nobody was overtaken: the seed shows nothing");
    for (slot, _) in &order {
        kernel.receive(*slot, 1, Interest::Readiness);
        kernel.send(*slot, Span { start: 0, len: 40 });
    }
    conns.iter().for_each(|conn| assert_eq!(net.borrow_mut().client_write(*conn, b"hello"), Ok(5)));
    kernel.submit();
    kernel.reap(&mut completions, 64);
    let unsent = completions.iter().filter(|completion| matches!(completion, Completion::Unsent { .. })).count();
    assert_eq!(unsent, conns.len(), "{completions:?}");
}

/// Two sends to one slot between two submits are seen.
#[test]
#[should_panic(expected = "two sends between two submits")]
fn two_sends() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.send(slot, Span { start: 0, len: 4 });
    kernel.send(slot, Span { start: 4, len: 4 });
}

/// A send while the shard has not heard what the last one missed is seen.
#[test]
#[should_panic(expected = "waits to be reaped")]
fn a_send_before_settling() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.send(slot, Span { start: 0, len: 2000 });
    kernel.submit();
    kernel.send(slot, Span { start: 0, len: 4 });
}

/// Bytes that change between the order and `submit` are seen.
#[test]
#[should_panic(expected = "changed before submit")]
fn changed_bytes() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.send(slot, Span { start: 0, len: 4 });
    kernel.memory_mut().bytes_mut(Span { start: 2, len: 1 })[0] = 1;
    kernel.submit();
}

/// A span that ends past the memory is seen.
#[test]
#[should_panic(expected = "outside the memory")]
fn a_span_outside() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.send(slot, Span { start: (1 << 20) - 3, len: 4 });
}

/// Two receives on one slot are seen.
#[test]
#[should_panic(expected = "a second receive")]
fn a_double_receive() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.receive(slot, 1, Interest::Multishot);
    kernel.receive(slot, 1, Interest::Once);
}

/// Two waits for room on one slot are seen.
#[test]
#[should_panic(expected = "a second wait for room")]
fn a_double_wait() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.wait_writable(slot, 1);
    kernel.wait_writable(slot, 1);
}

/// A close under an armed receive is seen.
#[test]
#[should_panic(expected = "closed while something is armed")]
fn a_close_too_early() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.receive(slot, 1, Interest::Multishot);
    kernel.close(slot);
}

/// An order for a closed slot is seen.
#[test]
#[should_panic(expected = "named while not open")]
fn an_order_after_close() {
    let (_net, mut kernel, slot, _) = one_open();
    kernel.close(slot);
    kernel.send(slot, Span { start: 0, len: 4 });
}

/// A buffer given back twice is seen.
#[test]
#[should_panic(expected = "recycled but not lent")]
fn a_double_recycle() {
    let (net, mut kernel, slot, conn) = one_open();
    kernel.receive(slot, 1, Interest::Multishot);
    assert_eq!(net.borrow_mut().client_write(conn, b"hello"), Ok(5));
    let Completion::Received { lent, .. } = next(&net, &mut kernel) else { panic!("bytes first") };
    assert_eq!(kernel.received(0, lent), b"hello");
    kernel.recycle(lent);
    kernel.recycle(lent);
}

/// Bytes of a buffer that is not lent cannot be read.
#[test]
#[should_panic(expected = "is not lent")]
fn a_read_of_a_buffer_not_lent() {
    let (_net, mut kernel, _, _) = one_open();
    let _ = kernel.received(0, Lent { id: 0, len: 1 });
}
