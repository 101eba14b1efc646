//! Connections that have to wait with what they sent ahead: what resuming them costs; that their end is noticed meanwhile, and
//! that they are not taken for dead.

use corecast::shard::Limits;

use crate::endings::{frame, text, upgrade};
use crate::net::ConnId;
use crate::stage::Stage;

/// Returns the time that this thread has had a core, in nanoseconds: how busy the machine is does not show in it.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec) as u64
}

/// Lets a publisher send so many bytes of publications ahead, all of which arrive at once, and returns the CPU time of one.
fn cpu_ns_a_message(bytes: usize) -> u64 {
    let mut scene = Stage::with_buffers(&Limits::default(), 2, 1 << 20);
    let conn = scene.net.borrow_mut().connect(0, 1 << 20, 8 << 20);
    scene.say(conn, upgrade("/ws").as_bytes());
    scene.turns();
    let message = text("PUB t id=1\nhello");
    let count = bytes / message.len();
    scene.say(conn, &message.repeat(count));
    let before = cpu_ns();
    let mut turns = 0;
    while scene.stats().published < count as u64 {
        scene.quick_turn();
        turns += 1;
        assert!(turns < 100_000, "{} of {count} are published", scene.stats().published);
    }
    (cpu_ns() - before) / count as u64
}

/// A publisher that sent a megabyte ahead, and has to wait after each message for an answer, costs no more for each than one that
/// sent a little. (All that was left used to be copied twice for each message.)
#[test]
fn what_was_sent_ahead_is_not_copied_for_each_message() {
    let few = (0..3).map(|_| cpu_ns_a_message(50_000)).min().expect("three");
    let many = cpu_ns_a_message(1_000_000);
    assert!(many < 4 * few, "{few} ns a message with few ahead, {many} ns with many");
}

const LONG_POLL: &str = "GET /topics/t?transport=long-poll&wait=120 HTTP/1.1\r\nHost: x\r\n\r\n";

/// A long poll whose peer goes is over at once, whether it ends its direction or is reset, and whatever stands behind its
/// request. With a byte behind it, it used to be noticed when the wait was over.
#[test]
fn a_long_poll_with_a_byte_behind_it() {
    for behind in ["", "G", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        for reset in [false, true] {
            let mut scene = Stage::new(1, &Limits::default());
            let conn = scene.open(4096, format!("{LONG_POLL}{behind}").as_bytes());
            scene.turns();
            assert_eq!(scene.stats().connections, 1);
            if reset {
                scene.net.borrow_mut().client_reset(conn, false);
            } else {
                scene.net.borrow_mut().client_end(conn);
            }
            scene.turns();
            assert_eq!(scene.stats().connections, 0, "{behind:?} behind it, reset {reset}");
        }
    }
}

/// A client that ends its direction behind its requests gets all their answers, a long poll among them what there is.
#[test]
fn a_half_closed_client_gets_what_there_is() {
    let mut scene = Stage::new(1, &Limits::default());
    assert!(scene.publish("t", "hello"));
    let post = "POST /topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nyou";
    let conn = scene.open(8192, format!("{post}{LONG_POLL}{post}").as_bytes());
    scene.net.borrow_mut().client_end(conn);
    scene.turns();
    let told = scene.text(conn);
    assert_eq!(told.matches("HTTP/1.1 200 ").count(), 3, "{told}");
    assert!(told.contains("\"you\""), "{told}");
}

/// A client that ends its direction and does not read what it is owed costs no more than one that does not: it gets the rest as soon
/// as it reads, and is tried now and then until that, not all the time. The kernel ends every wait for room at once when the
/// peer has ended its direction, so a shard used to do nothing else.
#[test]
fn a_half_closed_client_that_does_not_read() {
    let mut scene = Stage::new(1, &Limits { private_bytes_max: 1 << 20, ..Limits::default() });
    let get = "GET /corecast.js HTTP/1.1\r\nHost: x\r\n\r\n";
    let whole = {
        let conn = scene.open(1 << 20, get.as_bytes());
        scene.turns();
        scene.text(conn)
    };
    let conn = scene.open(4_000, get.repeat(5).as_bytes());
    scene.turns();
    scene.net.borrow_mut().client_end(conn);
    scene.turns();
    let before = scene.stats().sends;
    scene.pass_ms(10_000);
    let sends = scene.stats().sends - before;
    assert!(sends <= 250, "{sends} sends in ten seconds to somebody who does not read");
    let mut told = Vec::new();
    for _ in 0..100_000 {
        scene.pass_ms(100);
        if scene.read(conn, usize::MAX, &mut told) {
            break;
        }
    }
    assert_eq!(told.len(), 5 * whole.len());
}

/// A publisher that is parked, with more behind what it waits for, and is reset gives its slot back; one that ends its direction
/// does not lose what it said before.
#[test]
fn a_parked_publisher_that_goes() {
    let (mut scene, _deaf) = Stage::beside_a_deaf_one(&Limits::default());
    let conn = park(&mut scene);
    scene.net.borrow_mut().client_reset(conn, false);
    scene.turns();
    assert_eq!(scene.stats().connections, 0);

    let (mut scene, _deaf) = Stage::beside_a_deaf_one(&Limits::default());
    let conn = park(&mut scene);
    scene.net.borrow_mut().client_end(conn);
    scene.turns();
    assert_eq!(scene.stats().connections, 1, "it is owed what it asked for");
    scene.net.borrow_mut().client_reset(conn, false);
}

/// Opens a WebSocket that publishes to topics of the deaf shard until it has to wait, with something carried over.
fn park(scene: &mut Stage) -> ConnId {
    let conn = scene.open(1 << 16, upgrade("/ws").as_bytes());
    scene.turns();
    for n in 0.. {
        let message = text(&format!("PUB t{}\n{}", n % 16, "x".repeat(4_000)));
        if scene.net.borrow_mut().client_write(conn, &message) != Ok(message.len()) {
            break; // It is not read any more.
        }
        scene.turns();
    }
    assert!(scene.stats().parked > 0);
    scene.text(conn);
    conn
}

/// A publisher that has to wait, and whose pongs are not read for that reason, is not taken for dead.
#[test]
fn a_parked_publisher_is_not_silent() {
    let limits = Limits::default();
    let (mut scene, _deaf) = Stage::beside_a_deaf_one(&limits);
    park(&mut scene);
    scene.pass_ms(4 * limits.dead_ms);
    assert_eq!(scene.stats().connections, 1, "it is we who do not read");
}

/// Nor is one that has to wait because it takes its answers slowly, as long as it takes them; once it does not, it is.
#[test]
fn a_slow_reader_is_not_silent() {
    let limits = Limits { echo: true, ..Limits::default() };
    let mut scene = Stage::new(1, &limits);
    let conn = scene.open(4_000, upgrade("/echo").as_bytes());
    scene.turns();
    for _ in 0..6 {
        scene.say(conn, &frame(0x82, &[b'e'; 20_000]));
        scene.turns();
    }
    for _ in 0..3 * limits.dead_ms / 1_000 {
        scene.read(conn, 500, &mut Vec::new());
        scene.pass_ms(1_000);
    }
    assert_eq!(scene.stats().connections, 1, "it takes 500 bytes a second");
    scene.pass_ms(3 * limits.dead_ms);
    assert_eq!(scene.stats().connections, 0, "it takes nothing any more");
}

/// Whoever gets little of a busy topic, because it has a pace or a replay that does not come, is pinged like others; if it does
/// not answer, it is gone in the time of others. It used to count as alive whatever its topic was sent to somebody else.
#[test]
fn a_paced_subscriber_is_pinged() {
    let limits = Limits::default();
    for answers in [true, false] {
        let mut scene = Stage::new(1, &limits);
        let path = "/topics/t?since=live&every=3600000";
        let conn = scene.open(1 << 16, upgrade(path).as_bytes());
        scene.turns();
        let mut pings = 0;
        for n in 0..2 * limits.dead_ms / 1_000 {
            assert!(scene.publish("t", &format!("message {n}")));
            scene.pass_ms(1_000);
            let mut told = Vec::new();
            if scene.read(conn, usize::MAX, &mut told) {
                break;
            }
            if told.windows(2).any(|bytes| bytes == [0x89, 0]) {
                pings += 1;
                if answers {
                    scene.say(conn, &frame(0x8A, b""));
                }
            }
        }
        assert!(pings >= 1, "it was never pinged");
        let living = scene.stats().subscriptions;
        assert_eq!(living, u64::from(answers), "answers {answers}, {pings} pings");
    }
}

/// A subscription whose pace is changed waits for the new one, counted from its last message, whether it is shorter or longer. A
/// shorter one used to begin when the longer one had passed.
#[test]
fn a_pace_that_is_changed() {
    let mut scene = Stage::new(1, &Limits::default());
    let conn = scene.open(1 << 16, upgrade("/ws").as_bytes());
    scene.turns();
    scene.say(conn, &text("SUB t since=live every=3600000"));
    scene.turns();
    assert!(scene.publish("t", "one"));
    assert!(scene.text(conn).contains("one"), "the first comes at once");
    assert!(scene.publish("t", "two"));
    scene.pass_ms(2_000);
    assert_eq!(scene.text(conn), "");
    scene.say(conn, &text("SUB t every=5000"));
    scene.pass_ms(2_500);
    assert_eq!(scene.text(conn), "", "five seconds since the first");
    scene.pass_ms(1_000);
    assert!(scene.text(conn).contains("two"));
    scene.say(conn, &text("SUB t every=10000"));
    assert!(scene.publish("t", "three"));
    scene.pass_ms(8_500);
    assert_eq!(scene.text(conn), "", "ten seconds since the second");
    scene.pass_ms(2_000);
    assert!(scene.text(conn).contains("three"));
}

/// A peer that sends very many pings at once and reads no pong is not read any more, and gets all its pongs when it reads. It used
/// to be shed if what was in the receive buffers by then was more than a megabyte.
#[test]
fn pings_without_reading() {
    for turns in 0..20 {
        let mut scene = Stage::with_buffers(&Limits::default(), 6, 1 << 20);
        let conn = scene.net.borrow_mut().connect(0, 8 << 20, 8_000);
        scene.say(conn, upgrade("/ws").as_bytes());
        scene.turns();
        // Enough reads that all there is comes at once from now on.
        for _ in 0..20 {
            scene.say(conn, &frame(0x89, b""));
            scene.turns();
        }
        (0..turns).for_each(|_| scene.turn());
        scene.text(conn); // The handshake and the first pongs.
        let count = 1 << 20;
        scene.say(conn, &frame(0x89, b"").repeat(count));
        let mut told = Vec::new();
        for _ in 0..1_000_000 {
            scene.quick_turn();
            if scene.read(conn, usize::MAX, &mut told) || told.len() >= 2 * count {
                break;
            }
        }
        assert_eq!(scene.stats().refused, 0, "after {turns} turns");
        let pongs = told.windows(2).filter(|bytes| *bytes == [0x8A, 0]).count();
        assert!(pongs >= count, "{pongs} pongs of {count}, after {turns} turns");
    }
}

/// Connections that find no slot are counted when they find none, not every time that it is tried again.
#[test]
fn a_full_table_is_counted_once() {
    let mut scene = Stage::new(1, &Limits { head_ms: 60_000, ..Limits::default() });
    for _ in 0..1_030 {
        scene.net.borrow_mut().connect(0, 100, 100);
    }
    scene.pass_ms(5_000);
    let stats = scene.stats();
    assert_eq!((stats.connections, stats.refused), (1_024, 1));
}
