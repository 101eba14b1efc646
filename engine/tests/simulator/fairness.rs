//! Hot topics and small topics at the same time: a broadcast to very many does not keep another topic's message waiting.

use std::collections::HashSet;

use corecast::io::driver::Driver as _;
use corecast::mesh;
use corecast::shard::{Limits, Setup, Shard};

use crate::faults::Faults;
use crate::kernel::FakeKernel;
use crate::net::{ConnId, Net, SharedNet};
use crate::rng::Rng;
use crate::seat::Sizes;

const HOT_SUBSCRIBERS: usize = 20_000;

/// Turns that a message may take from its publisher's socket to a subscriber's: poll, receive, number, deliver and flush
/// are a turn each at worst, and one more turn is the slice of the hot topic that may be under way.
const TURNS_MAX: usize = 6;

fn upgrade(topic: &str) -> Vec<u8> {
    format!(
        "GET /topics/{topic}?since=live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// Reads all there is.
fn discard(net: &SharedNet, conn: ConnId) {
    net.borrow_mut().client_read(conn, 1 << 20, &mut Vec::new());
}

/// While a broadcast to 20,000 subscribers is under way, which takes dozens of turns, a message of a small topic reaches
/// its subscriber within a few turns.
#[test]
fn a_broadcast_delays_another_topic_by_a_slice_at_most() {
    let sizes = Sizes { memory_bytes: 64 << 20, slots: 32 << 10, buffers: 4096, buffer_bytes: 1024, orders: 4096 };
    let net = Net::shared(1);
    let mut kernel = FakeKernel::new(0, net.clone(), Rng::new(1), Faults { delay_us_max: 1, ..Faults::NONE }, sizes);
    let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
    let links = mesh::join(1, 1, limits.ring_bytes(1)).pop().expect("one was made");
    let mut shard =
        Shard::new(Setup { index: 0, limits, links, seed: 1, slots_max: sizes.slots, hash_key: 1, wall_offset_us: 0 });
    kernel.accept(0);

    let open = |topic: &str| {
        let conn = net.borrow_mut().connect(0, 4096, 1 << 16);
        net.borrow_mut().client_write(conn, &upgrade(topic)).expect("there is room");
        conn
    };
    let hot: Vec<ConnId> = (0..HOT_SUBSCRIBERS).map(|_| open("hot")).collect();
    let small = open("small");
    let mut waiting: HashSet<ConnId> = hot.iter().copied().chain([small]).collect();
    for _ in 0..100_000 {
        shard.turn(&mut kernel);
        net.borrow_mut().advance_us(10);
        waiting.retain(|conn| !net.borrow().client_has_news(*conn));
        if waiting.is_empty() {
            break;
        }
    }
    assert!(waiting.is_empty(), "everybody is subscribed");
    for _ in 0..100 {
        shard.turn(&mut kernel);
    }
    hot.iter().chain([&small]).for_each(|conn| discard(&net, *conn));

    let publish = |topic: &str| {
        let conn = net.borrow_mut().connect(0, 4096, 1 << 16);
        let head = format!("POST /topics/{topic} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
        net.borrow_mut().client_write(conn, head.as_bytes()).expect("there is room");
    };
    let reached = |net: &SharedNet| hot.iter().filter(|conn| net.borrow().client_has_news(**conn)).count();
    publish("hot");
    while reached(&net) == 0 {
        shard.turn(&mut kernel);
        net.borrow_mut().advance_us(10);
    }
    publish("small");
    let mut turns = 0;
    while !net.borrow().client_has_news(small) {
        shard.turn(&mut kernel);
        net.borrow_mut().advance_us(10);
        turns += 1;
        assert!(turns <= TURNS_MAX, "the small topic waits for the hot one");
    }
    assert!(reached(&net) < HOT_SUBSCRIBERS / 2, "the broadcast was over: the test shows nothing");
    while reached(&net) < HOT_SUBSCRIBERS {
        shard.turn(&mut kernel);
        net.borrow_mut().advance_us(10);
        turns += 1;
        assert!(turns < 10_000, "the broadcast comes to its end");
    }
}
