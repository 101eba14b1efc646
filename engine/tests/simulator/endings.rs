//! Connections that end, and what they leave behind: how much of it is done in one turn, and that all of it is.

use corecast::reach::Mark;
use corecast::shard::Limits;

use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::Stage;

/// Subscriptions that one connection has in these scenes.
const MANY: usize = 20_000;

/// Subscriptions that may end in one turn, and topics that may be left in one.
const PER_TURN_MAX: u64 = 4_200;

/// Makes a frame as clients send it, with a mask of zeroes.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ ..126 => bytes.push(0x80 | len as u8),
        len => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// Makes a text message as clients send it.
pub(crate) fn text(line: &str) -> Vec<u8> {
    frame(0x81, line.as_bytes())
}

/// The request of a WebSocket.
pub(crate) fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Opens a connection of the line protocol with so many subscriptions.
fn open_with_many(scene: &mut Stage, count: usize) -> ConnId {
    let conn = scene.open(1 << 16, upgrade("/ws").as_bytes());
    scene.turns();
    for n in 0..count {
        scene.say(conn, &text(&format!("SUB {n}")));
        if n % 256 == 255 {
            subscribed(scene, n as u64 + 1);
        }
    }
    subscribed(scene, count as u64);
    scene.text(conn);
    conn
}

fn subscribed(scene: &mut Stage, count: u64) {
    for _ in 0..10_000 {
        if scene.stats().subscriptions == count {
            return;
        }
        scene.quick_turn();
    }
    panic!("{} of {count} are subscribed", scene.stats().subscriptions);
}

/// Takes turns until the connection's subscriptions and topics are gone, and checks that no turn ends too many of them.
fn all_go_bit_by_bit(scene: &mut Stage) {
    let mut before = scene.stats();
    for _ in 0..300 {
        scene.turn();
        let now = scene.stats();
        let ended = [before.subscriptions - now.subscriptions, before.topics - now.topics];
        assert!(ended.iter().all(|ended| *ended <= PER_TURN_MAX), "{ended:?} subscriptions and topics in one turn");
        if now.subscriptions == 0 && now.topics == 0 && now.homes == 0 && now.connections == 0 {
            return;
        }
        before = now;
    }
    let left = scene.stats();
    panic!("{} subscriptions and {} topics are left", left.subscriptions, left.topics);
}

fn limits() -> Limits {
    Limits { subscriptions_max: 1 << 20, ..Limits::default() }
}

/// A connection with very many subscriptions that is reset takes its leave in many turns, each of a bounded length; what is
/// left of it is gone in the end, and its slot is free. It used to be one turn, however many there were.
#[test]
fn many_subscriptions_that_are_reset() {
    let marks = Watched::begin();
    let mut scene = Stage::new(1, &limits());
    let conn = open_with_many(&mut scene, MANY);
    scene.net.borrow_mut().client_reset(conn, true);
    all_go_bit_by_bit(&mut scene);
    marks.reached(&[Mark::DepartsInTurns]);
}

/// The same if it is closed in order: the answer to its close frame does not wait for that.
#[test]
fn many_subscriptions_that_are_closed() {
    let mut scene = Stage::new(1, &limits());
    let conn = open_with_many(&mut scene, MANY);
    scene.say(conn, &frame(0x88, &1000u16.to_be_bytes()));
    let mut turns = 0;
    while !scene.net.borrow().client_has_news(conn) {
        scene.turn();
        turns += 1;
        assert!(turns < 5, "the close frame is not answered");
    }
    let mut answer = Vec::new();
    scene.read(conn, 100, &mut answer);
    assert_eq!(answer, [0x88, 2, 0x03, 0xE8]);
    scene.net.borrow_mut().client_close(conn);
    all_go_bit_by_bit(&mut scene);
}

/// The same if the engine is asked to finish.
#[test]
fn many_subscriptions_when_draining() {
    let mut scene = Stage::new(1, &limits());
    let conn = open_with_many(&mut scene, MANY);
    let (shard, kernel) = &mut scene.berths[0];
    shard.drain(kernel, 0);
    scene.turn();
    scene.net.borrow_mut().client_close(conn);
    all_go_bit_by_bit(&mut scene);
    assert!(scene.berths[0].0.finished());
}

/// A topic that is left while nobody can be told, and subscribed to again, is not left: its messages come.
#[test]
fn left_and_subscribed_again() {
    let mut scene = Stage::new(1, &limits());
    let conn = open_with_many(&mut scene, MANY);
    let again = scene.open(1 << 16, upgrade("/topics/7").as_bytes());
    scene.net.borrow_mut().client_reset(conn, true);
    (0..10).for_each(|_| scene.turns());
    assert_eq!(scene.stats().topics, 1);
    scene.text(again);
    assert!(scene.publish("7", "seven"));
    scene.turns();
    assert!(scene.text(again).contains("seven"));
}
