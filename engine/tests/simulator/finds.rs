//! What the simulator found, each as a small scene of its own: its seeds mean other worlds whenever worlds change.
//!
//! A scene needs the right amount of memory or of room at the right moment, and where that is may move when the engine
//! changes; so each is played with every amount, and shows that the amounts that matter were among them.

use corecast::reach::Mark;
use corecast::shard::Limits;

use crate::faults::Faults;
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, post};

const SMALL_MEMORY: u64 = 64 << 10;

/// Takes memory away: each of these answers waits for a peer that reads nothing, in a block of some hundred bytes.
fn leave_answers(stage: &mut Stage, count: usize) {
    for _ in 0..count {
        stage.open(1, b"GET /topics/other?transport=value HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    stage.turns();
}

/// A long poll that waits is answered when a message comes, whatever memory there is for the answer: with the message, or
/// told that the engine is full. It used to wait until its time was over if there was none.
#[test]
fn a_waiting_poll_is_always_answered() {
    let marks = Watched::begin();
    let (mut whole, mut full) = (0, 0);
    for taken in 0..256 {
        let mut scene = Stage::new(1, &Limits { memory_bytes: SMALL_MEMORY, ..Limits::default() });
        let poll =
            scene.open(4096, b"GET /topics/t?transport=long-poll&since=live&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n");
        scene.turns();
        leave_answers(&mut scene, taken);
        if !scene.publish("t", &"m".repeat(2000)) {
            continue;
        }
        let answer = scene.text(poll);
        match answer.get(..12) {
            Some("HTTP/1.1 200") => whole += 1,
            Some("HTTP/1.1 503") => full += 1,
            _ => panic!("{taken} blocks taken: it waits on: {answer:?}"),
        }
    }
    assert!(whole > 0 && full > 0, "{whole} whole, {full} full: the scene shows nothing");
    marks.reached(&[Mark::PollWithoutMemory]);
}

/// A stream of several topics that is to end after 500 bytes of messages has had them when it ends, whatever the kernel took
/// of a send. It used to end when they were ordered, and its client came back for the same again.
#[test]
fn a_stream_is_long_when_its_messages_were_taken() {
    let message = "m".repeat(600);
    for room in (100..1500).step_by(7) {
        let mut scene = Stage::new(1, &Limits { stream_bytes: 500, ..Limits::default() });
        let get = b"GET /topics?topic=a&topic=b&transport=stream&since=live HTTP/1.0\r\nHost: x\r\n\r\n";
        let stream = scene.open(room, get);
        scene.turns();
        assert!(scene.publish("a", &message));
        let mut told = Vec::new();
        for _ in 0..100 {
            scene.turns();
            if scene.read(stream, 100, &mut told) {
                break;
            }
        }
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(&message), "room for {room} bytes: it ended after {told:?}");
    }
}

/// The rest of a frame that a log forgets is kept by the connection, or the connection ends, whatever memory there is; a
/// ping that comes at that moment is answered behind it or not at all. Without memory the rest was counted although it was
/// not there, and the answer to the ping ended the process.
#[test]
fn a_ping_behind_a_begun_frame_without_memory() {
    let marks = Watched::begin();
    let (mut kept, mut ended) = (0, 0);
    for taken in 0..256 {
        let mut scene = Stage::new(1, &Limits { memory_bytes: SMALL_MEMORY, log_bytes_max: 4096, ..Limits::default() });
        let upgrade = b"GET /topics/t?since=live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let slow = scene.open(400, upgrade);
        scene.turns();
        scene.text(slow);
        leave_answers(&mut scene, taken);
        // The first message is begun, and forgotten when others come. There is a ping in every turn.
        let post = post("t", &"m".repeat(2000));
        for _ in 0..8 {
            scene.open(4096, post.as_bytes());
            for _ in 0..10 {
                // Fails once the connection has ended.
                let _ = scene.net.borrow_mut().client_write(slow, &[0x89, 0x80, 0, 0, 0, 0]);
                scene.turn();
            }
        }
        let mut told = Vec::new();
        let over = (0..4).any(|_| {
            scene.turns();
            scene.read(slow, 400, &mut told)
        });
        if over { ended += 1 } else { kept += 1 }
    }
    assert!(kept > 0 && ended > 0, "{kept} kept, {ended} ended: the scene shows nothing");
    marks.reached(&[Mark::Rescued, Mark::Condemned]);
}

/// A kernel that has no memory for a send delays it, and ends no connection: every subscriber gets every message, and nothing
/// is sent again at once. It used to end the connection, as if the peer had gone; and a wait for room in the socket, which
/// has room, would be over at once.
#[test]
fn a_kernel_without_memory_ends_nobody() {
    const READERS: usize = 8;
    const MESSAGES: usize = 40;
    let kind = Faults { delay_us_max: 1, ..Faults::NONE };
    let mut scene = Stage::new(1, &Limits { memory_bytes: 1 << 20, ..Limits::default() });
    let readers: Vec<ConnId> = (0..READERS).map(|_| scene.upgrade_at(0, 1 << 16, "/topics/t?since=live")).collect();
    let mut expected = Vec::new();
    for number in 0..MESSAGES {
        let message = format!("message {number}");
        expected.extend_from_slice(&[0x81, message.len() as u8]);
        expected.extend_from_slice(message.as_bytes());
        let shortage = if number % 4 == 3 { 0 } else { 1_000 };
        scene.berths[0].1.set_faults(Faults { shortage, ..kind });
        let before = scene.berths[0].1.tally.sends;
        // Its answer fails as well, and is not what is looked at.
        scene.open(4096, post("t", &message).as_bytes());
        scene.turns();
        let tries = scene.berths[0].1.tally.sends - before;
        assert!(tries <= 2 * (READERS as u64 + 1), "{tries} sends in less than a millisecond");
        scene.berths[0].1.set_faults(kind);
    }
    assert!(scene.berths[0].1.tally.shortages > 0, "the kernel was short of memory: the test shows something");
    for _ in 0..20 {
        scene.net.borrow_mut().advance_us(10_000);
        scene.turns();
    }
    for reader in readers {
        let mut bytes = Vec::new();
        let ended = scene.read(reader, usize::MAX, &mut bytes);
        assert!(!ended && bytes == expected, "{}", String::from_utf8_lossy(&bytes));
    }
}
