//! Peers that are gone without a word: whatever a connection waits for, and however busy its topic is, a dead peer is noticed
//! in time; and one that answers every ping is never taken for dead.

use corecast::shard::Limits;

use crate::net::ConnId;
use crate::stage::{Stage, post};

/// Seconds after which a silent peer must have been pinged, and after which it must be gone: `ping_ms` and `dead_ms`, each an
/// eighth later at most, the silence counted once more from the ping, and two seconds of farewell. The first message, which no
/// pace holds back, comes a second or two after the beginning and is a sign of life.
const PINGED_S: u64 = 2 + 25 * 9 / 8 + 1;
const DEAD_S: u64 = (25 + 60) * 9 / 8 + 3;

const PING: [u8; 2] = [0x89, 0];
const PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// What became of a peer that answers nothing.
#[derive(Debug, PartialEq, Eq)]
struct Fate {
    pinged_s: Option<u64>,
    gone_s: Option<u64>,
}

/// Lets a second after the other pass, a message in each, and watches a peer that reads all and answers nothing.
fn watch(stage: &mut Stage, ghost: ConnId, topic: &str) -> Fate {
    let mut fate = Fate { pinged_s: None, gone_s: None };
    let mut told = Vec::new();
    for second in 1..=2 * DEAD_S {
        assert!(stage.publish(topic, "tick"));
        stage.net.borrow_mut().advance_us(1_000_000);
        let over = stage.read(ghost, usize::MAX, &mut told);
        if fate.pinged_s.is_none() && holds(&told, &PING) {
            fate.pinged_s = Some(second);
        }
        told.clear();
        if over {
            fate.gone_s = Some(second);
            break;
        }
    }
    fate
}

/// A subscriber that gets hardly anything because of its pace is pinged, and a dead one is noticed, however busy its topic is.
/// The topic's messages used to pass for signs of life although none was sent to it.
#[test]
fn a_paced_ghost_is_noticed() {
    for every in ["60000", "3600000", "4294967295"] {
        let mut stage = Stage::new(1, &Limits::default());
        let ghost = stage.upgrade_at(0, 1 << 16, "/ws");
        stage.say_text(ghost, format!("SUB busy every={every}").as_bytes());
        stage.turns();
        let fate = watch(&mut stage, ghost, "busy");
        let pinged = fate.pinged_s.is_some_and(|second| second <= PINGED_S);
        let gone = fate.gone_s.is_some_and(|second| second <= DEAD_S);
        assert!(pinged && gone, "every={every}: {fate:?}, and not {PINGED_S} and {DEAD_S} s");
    }
}

/// The same on a WebSocket that carries payloads only.
#[test]
fn a_paced_ghost_of_payloads_is_noticed() {
    let mut stage = Stage::new(1, &Limits::default());
    let ghost = stage.upgrade_at(0, 1 << 16, "/topics/busy?since=live&every=3600000");
    let fate = watch(&mut stage, ghost, "busy");
    let pinged = fate.pinged_s.is_some_and(|second| second <= PINGED_S);
    let gone = fate.gone_s.is_some_and(|second| second <= DEAD_S);
    assert!(pinged && gone, "{fate:?}, and not {PINGED_S} and {DEAD_S} s");
}

/// A subscriber whose home does not answer, because its core stands still, is pinged like any other.
#[test]
fn a_ghost_that_waits_for_its_replay_is_noticed() {
    let mut stage = Stage::new(2, &Limits::default());
    // Live topics of this shard go on meanwhile: one connection reads one of them and waits for another.
    let names: Vec<String> = (0..16).map(|n| format!("topic/{n}")).collect();
    for name in &names {
        assert!(stage.publish(name, "first"));
    }
    let mut home = vec![0; names.len()];
    for (index, (shard, _)) in stage.berths.iter().enumerate() {
        shard.heads(|head| {
            if let Some(n) = names.iter().position(|name| head.at_home && name == head.topic) {
                home[n] = index;
            }
        });
    }
    let near = &names[home.iter().position(|shard| *shard == 0).expect("one of so many")];
    let far = &names[home.iter().position(|shard| *shard == 1).expect("one of so many")];
    let ghost = stage.upgrade_at(0, 1 << 16, "/ws");
    stage.say_text(ghost, format!("SUB {far} since=earliest").as_bytes());
    let ticks = post(near, "tick");
    let mut told = Vec::new();
    let (mut pinged_s, mut gone_s) = (None, None);
    // Another subscriber keeps the near topic alive; shard 1 has no turn from now on.
    let reader =
        stage.open(1 << 16, format!("GET /topics/{near}?transport=stream HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    for second in 1..=2 * DEAD_S {
        let publisher = stage.open(4096, ticks.as_bytes());
        for _ in 0..20 {
            stage.turn_of(0);
        }
        stage.net.borrow_mut().client_close(publisher);
        stage.text(reader);
        stage.net.borrow_mut().advance_us(1_000_000);
        let over = stage.read(ghost, usize::MAX, &mut told);
        if pinged_s.is_none() && holds(&told, &PING) {
            pinged_s = Some(second);
        }
        if over {
            gone_s = Some(second);
            break;
        }
    }
    let pinged = pinged_s.is_some_and(|second| second <= PINGED_S);
    assert!(
        pinged && gone_s.is_some_and(|second| second <= DEAD_S),
        "pinged after {pinged_s:?} s, gone after {gone_s:?} s"
    );
}

/// A publisher that waits for room in a ring, because a core stands still, and answers every ping, lives: its answers are read
/// although its messages wait. It used to be cut off as silent.
#[test]
fn a_waiting_publisher_that_answers_pings_lives() {
    let mut stage = Stage::new(2, &Limits::default());
    let publisher = stage.upgrade_at(0, 1 << 16, "/ws");
    // Shard 1 has no turn from now on: of so many messages to so many topics some wait for its ring.
    let mut said = 0;
    let payload = "p".repeat(5_000);
    for n in 0..120 {
        stage.say_text(publisher, format!("PUB topic/{n}\n{payload}").as_bytes());
        for _ in 0..8 {
            stage.turn_of(0);
        }
        said += 1;
        if stage.stats().parked > 0 {
            break;
        }
    }
    assert!(stage.stats().parked > 0, "{said} messages, and nobody waits: the scene shows nothing");
    let (mut told, mut pings) = (Vec::new(), 0);
    for second in 1..=2 * DEAD_S {
        for _ in 0..20 {
            stage.turn_of(0);
        }
        stage.net.borrow_mut().advance_us(1_000_000);
        let over = stage.read(publisher, usize::MAX, &mut told);
        assert!(!over, "it was cut off after {second} s and {pings} pings, which it answered");
        if holds(&told, &PING) {
            pings += 1;
            stage.say(publisher, &PONG);
        }
        told.clear();
    }
    assert!(pings > 2, "{pings} pings in {} s", 2 * DEAD_S);
}

/// A long poll that waits is given up when its peer is gone, also if the peer had begun its next request. It used to stay for
/// as long as it might wait.
#[test]
fn a_long_poll_with_a_byte_behind_it_is_given_up() {
    for (behind, reset) in [("", true), ("G", true), ("G", false), ("GET /topics/other HTTP/1.1\r\n", true)] {
        let mut stage = Stage::new(1, &Limits::default());
        let poll = "GET /topics/t?transport=long-poll&since=live&wait=120 HTTP/1.1\r\nHost: x\r\n\r\n";
        let ghost = stage.open(4096, format!("{poll}{behind}").as_bytes());
        stage.turns();
        assert_eq!(stage.stats().connections, 1);
        if reset {
            stage.net.borrow_mut().client_reset(ghost, false);
        } else {
            stage.net.borrow_mut().client_close(ghost);
        }
        for _ in 0..10 {
            stage.turns();
            stage.net.borrow_mut().advance_us(1_000_000);
        }
        assert_eq!(stage.stats().connections, 0, "{behind:?} behind the poll, reset {reset}: it waits for nobody");
    }
}
