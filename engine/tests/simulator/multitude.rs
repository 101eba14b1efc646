//! Very many topics: tens of thousands that are left in one moment, and connections that read dozens of them.

use corecast::shard::Limits;

use crate::net::ConnId;
use crate::promptness::{Bounds, Promptness};
use crate::stage::{Stage, post};

const CONNECTIONS: usize = 40;
const TOPICS_EACH: usize = 400;

/// Rounds until a message is heard of and a publication is answered while all is left: a ring of 256 KiB full of leaves of 40 bytes
/// is read in 26 turns, 256 packets each, and an answer may have to pass two of them.
const ANSWER_ROUNDS_MAX: u64 = 64;

/// Opens a WebSocket of the line protocol that subscribes to all these in one breath, and waits for all answers.
fn subscribe(stage: &mut Stage, shard: usize, topics: impl Iterator<Item = String>) -> ConnId {
    let conn = stage.upgrade_at(shard, 1 << 20, "/ws");
    let mut count = 0;
    for topic in topics {
        stage.say_text(conn, format!("SUB {topic} since=live id=s").as_bytes());
        count += 1;
    }
    let mut told = String::new();
    for _ in 0..1_000 {
        if told.matches("OK s ").count() == count {
            return conn;
        }
        stage.turn();
        told.push_str(&stage.text(conn));
    }
    panic!("{} of {count} subscriptions were answered", told.matches("OK s ").count());
}

/// When tens of thousands of topics lose their last reader in one moment, all of them are given back, and meanwhile nobody else
/// waits: a live topic's messages are heard of, publishers and subscribers are answered.
#[test]
fn leaving_very_many_topics_at_once() {
    let mut stage = Stage::new(2, &Limits { memory_bytes: 64 << 20, ..Limits::default() });
    let crowd: Vec<ConnId> = (0..CONNECTIONS)
        .map(|n| subscribe(&mut stage, 0, (0..TOPICS_EACH).map(|topic| format!("left/{n}/{topic}"))))
        .collect();
    let reader = subscribe(&mut stage, 0, ["live".to_string()].into_iter());
    assert_eq!(stage.stats().topics as usize, CONNECTIONS * TOPICS_EACH + 1);

    for conn in crowd {
        stage.net.borrow_mut().client_reset(conn, true);
    }
    let bounds = Bounds { joined: ANSWER_ROUNDS_MAX, heard: ANSWER_ROUNDS_MAX, by_progress: false };
    let mut promptness = Promptness::new(2, bounds);
    let mut waiting: Vec<(ConnId, u64)> = Vec::new();
    let mut told = String::new();
    let mut round = 0;
    while round < 64 || stage.stats().topics > 1 || !waiting.is_empty() {
        if round % 8 == 0 && round < 64 {
            let publisher = stage.open_at(0, 4096, post("live", &format!("<{round}>")).as_bytes());
            waiting.push((publisher, round));
        }
        stage.turn_and_look(|index, shard| promptness.turned(index, shard));
        told.push_str(&stage.text(reader));
        waiting.retain(|(conn, _)| !stage.net.borrow().client_has_news(*conn));
        if let Some((_, asked)) = waiting.first() {
            assert!(round - asked <= ANSWER_ROUNDS_MAX, "a publisher of round {asked} waits in round {round}");
        }
        round += 1;
        assert!(round < 1_000, "{} topics are left", stage.stats().topics);
    }
    stage.turns();
    told.push_str(&stage.text(reader));
    for n in (0..64).step_by(8) {
        assert!(told.contains(&format!("<{n}>")), "message {n} has come");
    }
    assert_eq!(stage.stats().homes, 1, "nobody reads the others, and nothing was said in them");
}

/// Rounds until everybody has what was said to all of its topics in one moment: it is published, numbered and heard of in a few,
/// and leaves in a few sends, however many topics it is of.
const ALL_ROUNDS_MAX: usize = 16;

/// Connections that read many topics each get a message of every one of them in a few turns. Each topic used to take a turn of its
/// own: one send of one topic a submit.
#[test]
fn messages_to_all_topics_of_a_connection_come_together() {
    for topics in [16, 64, 200] {
        let mut stage = Stage::new(2, &Limits { memory_bytes: 64 << 20, ..Limits::default() });
        let readers: Vec<ConnId> =
            (0..8).map(|n| subscribe(&mut stage, n % 2, (0..topics).map(|topic| format!("quote/{topic}")))).collect();
        let publisher = stage.upgrade_at(0, 1 << 16, "/ws");
        for topic in 0..topics {
            stage.say_text(publisher, format!("PUB quote/{topic}\n<{topic}>").as_bytes());
        }
        let mut told: Vec<String> = vec![String::new(); readers.len()];
        let mut rounds = 0;
        while told.iter().any(|told| told.matches("MSG ").count() < topics) {
            stage.turn();
            for (told, conn) in told.iter_mut().zip(&readers) {
                told.push_str(&stage.text(*conn));
            }
            rounds += 1;
            let least = told.iter().map(|told| told.matches("MSG ").count()).min();
            assert!(rounds <= ALL_ROUNDS_MAX, "{least:?} of {topics} messages after {rounds} rounds");
        }
        for told in &told {
            assert!((0..topics).all(|topic| told.matches(&format!("<{topic}>")).count() == 1), "each once");
        }
    }
}
