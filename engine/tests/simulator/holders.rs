//! Whoever begins messages and does not end them has a share of the memory, takes nothing from what is remembered, and is the first
//! to go when others need it.

use corecast::shard::Limits;

use crate::endings::{frame, upgrade};
use crate::net::ConnId;
use crate::stage::Stage;

const MEMORY: u64 = 16 << 20;
const TOPICS: usize = 200;

/// Histories of 25 KB each: a third of the memory.
fn remembering() -> Stage {
    let limits = Limits { memory_bytes: MEMORY, request_ms: 120_000, message_bytes_max: 400_000, ..Limits::default() };
    let mut scene = Stage::new(1, &limits);
    let publisher = scene.open(1 << 16, upgrade("/ws").as_bytes());
    scene.turns();
    for topic in 0..TOPICS {
        scene.say(publisher, &frame(0x82, format!("PUB t/{topic}\n{}", "x".repeat(25_000)).as_bytes()));
        scene.turns();
    }
    assert_eq!(scene.stats().published as usize, TOPICS);
    scene
}

/// All histories are still there, a healthy publisher is served, and somebody else was told that the engine is full.
fn nobody_else_suffered(scene: &mut Stage, stalled: &[ConnId], told: &str) {
    let whole =
        format!("POST /topics/whole HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n{}", "y".repeat(300_000));
    let healthy = scene.open(1 << 16, &[]);
    for part in whole.as_bytes().chunks(20_000) {
        scene.say(healthy, part);
        (0..6).for_each(|_| scene.turn());
    }
    scene.turns();
    let answer = scene.text(healthy);
    assert!(answer.starts_with("HTTP/1.1 200 "), "who ends what it begins is served: {answer}");
    let stats = scene.stats();
    assert!(stats.pool_inbound_bytes <= MEMORY / 8 * 3, "{} bytes", stats.pool_inbound_bytes);
    for topic in 0..TOPICS {
        let poll = format!("GET /topics/t/{topic}?transport=value HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let conn = scene.open(1 << 16, poll.as_bytes());
        (0..12).for_each(|_| scene.turn());
        let answer = scene.text(conn);
        assert!(answer.contains(&"x".repeat(25_000)), "what t/{topic} said is remembered: {answer:.200}");
    }
    let refused = stalled.iter().filter(|conn| scene.text(**conn).contains(told)).count();
    assert!(refused > stalled.len() / 2, "{refused} of {} were told that the engine is full", stalled.len());
}

/// Bodies that are begun and then stall: 400 of them made a shard forget half of all histories.
#[test]
fn stalled_bodies() {
    let mut scene = remembering();
    let body = "b".repeat(30_000);
    let head = "POST /topics/load HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n";
    let stalled: Vec<ConnId> = (0..400)
        .map(|_| {
            let conn = scene.open(1 << 16, format!("{head}{body}").as_bytes());
            (0..12).for_each(|_| scene.turn());
            conn
        })
        .collect();
    scene.pass_ms(2_000);
    nobody_else_suffered(&mut scene, &stalled, "HTTP/1.1 503 ");
}

/// The same with messages in fragments, none of which is the last.
#[test]
fn endless_messages() {
    let mut scene = remembering();
    let stalled: Vec<ConnId> = (0..400)
        .map(|_| {
            let conn = scene.open(1 << 16, upgrade("/ws").as_bytes());
            scene.turns();
            scene.say(conn, &[frame(0x01, b"PUB load\n"), frame(0x00, &[b'b'; 30_000])].concat());
            (0..12).for_each(|_| scene.turn());
            conn
        })
        .collect();
    scene.pass_ms(2_000);
    nobody_else_suffered(&mut scene, &stalled, "the engine is full");
}
