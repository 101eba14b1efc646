//! What is wanted, as whoever reads `$sys/demand` is told: all of it at once, what changes as it changes, and in the end what is so.

use std::collections::BTreeSet;

use corecast::reach::Mark;
use corecast::shard::{Limits, Rule, Rules, Stats, Terms};

use crate::endings::upgrade;
use crate::marks::Watched;
use crate::net::ConnId;
use crate::rng::Rng;
use crate::stage::{Stage, frame};

/// How long a topic that has lost its last reader is still said to be wanted, in milliseconds.
const DELAY_MS: u64 = 5_000;

fn rules(terms: &[(&str, Terms)]) -> Rules {
    let rule = |(pattern, terms): &(&str, Terms)| Rule { pattern: (*pattern).into(), terms: terms.clone() };
    Rules::new(terms.iter().map(rule).collect()).expect("sound rules")
}

fn told() -> Terms {
    Terms { demand: Some(true), ..Terms::default() }
}

/// Limits of an engine that tells what is wanted of these topics.
fn limits(pattern: &str) -> Limits {
    // Whoever reads here answers no pings.
    let (ping_ms, dead_ms) = (3_600_000, 7_200_000);
    Limits { rules: rules(&[(pattern, told())]), demand_ms: DELAY_MS, ping_ms, dead_ms, ..Limits::default() }
}

/// Somebody who reads what is wanted.
pub(crate) struct Feeder {
    conn: ConnId,
    bytes: Vec<u8>,
    /// The keys that there are.
    pub(crate) keys: BTreeSet<String>,
    /// Their payloads, as they came, and those that were deleted.
    pub(crate) told: Vec<(String, String)>,
    /// The snapshot has come to its end, with so many keys.
    pub(crate) complete: Option<usize>,
}

impl Feeder {
    pub(crate) fn open(stage: &mut Stage, shard: usize, topic: &str, since: &str) -> Feeder {
        let conn = stage.upgrade_at(shard, 1 << 20, "/ws");
        stage.say_text(conn, format!("SUB {topic} since={since}").as_bytes());
        Feeder { conn, bytes: Vec::new(), keys: BTreeSet::new(), told: Vec::new(), complete: None }
    }

    /// Reads what has come.
    pub(crate) fn hear(&mut self, stage: &mut Stage) -> &BTreeSet<String> {
        stage.read(self.conn, usize::MAX, &mut self.bytes);
        while let Some((message, len)) = unframe(&self.bytes) {
            self.bytes.drain(..len);
            let (head, payload) = message.split_once('\n').unwrap_or((&message, ""));
            let words: Vec<&str> = head.split(' ').collect();
            match words[0] {
                "MSG" => {
                    let key =
                        words.iter().find_map(|word| word.strip_prefix("key=")).expect("a key").replace("%20", " ");
                    if words.contains(&"op=delete") {
                        self.keys.remove(&key);
                        self.told.push((key, String::new()));
                    } else {
                        self.keys.insert(key.clone());
                        self.told.push((key, payload.to_owned()));
                    }
                }
                "EOS" => self.complete = Some(self.keys.len()),
                "GAP" => self.keys.clear(),
                _ => {}
            }
        }
        &self.keys
    }
}

/// Takes the first frame off some bytes, if it is whole.
fn unframe(bytes: &[u8]) -> Option<(String, usize)> {
    let (len, head) = match *bytes.get(1)? {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        len => (usize::from(len), 2),
    };
    let payload = bytes.get(head..head + len)?;
    Some((String::from_utf8_lossy(payload).into_owned(), head + len))
}

fn reader(stage: &mut Stage, shard: usize, topic: &str) -> ConnId {
    stage.open_at(shard, 1 << 16, upgrade(&format!("/topics/{topic}")).as_bytes())
}

fn keys(feeder: &mut Feeder, stage: &mut Stage) -> Vec<String> {
    feeder.hear(stage).iter().cloned().collect()
}

/// The first reader on any shard is told at once, the last one to go when the delay is over; those between are not, nor is a reload, nor
/// what no rule is about, nor a poll.
#[test]
fn first_and_last_are_told() {
    let mut stage = Stage::new(3, &limits("a/#"));
    let mut feeder = Feeder::open(&mut stage, 1, "$sys/demand", "earliest");
    stage.turns();
    assert_eq!((keys(&mut feeder, &mut stage), feeder.complete), (vec![], Some(0)));
    let first = reader(&mut stage, 0, "a/b");
    let _other = reader(&mut stage, 0, "b");
    stage.turns();
    assert_eq!(keys(&mut feeder, &mut stage), ["a/b"]);
    assert_eq!(feeder.told, [("a/b".to_owned(), "{\"topic\":\"a/b\",\"wanted\":true}".to_owned())]);
    let second = reader(&mut stage, 2, "a/b");
    stage.turns();
    stage.net.borrow_mut().client_close(first);
    stage.pass_ms(2 * DELAY_MS);
    assert_eq!(keys(&mut feeder, &mut stage), ["a/b"]);
    stage.net.borrow_mut().client_close(second);
    stage.pass_ms(DELAY_MS - 1_000);
    let third = reader(&mut stage, 1, "a/b");
    stage.pass_ms(2 * DELAY_MS);
    assert_eq!((keys(&mut feeder, &mut stage), feeder.told.len()), (vec!["a/b".to_owned()], 1), "nobody saw a reload");
    stage.net.borrow_mut().client_reset(third, true);
    stage.pass_ms(DELAY_MS - 1_000);
    assert_eq!(keys(&mut feeder, &mut stage), ["a/b"]);
    stage.pass_ms(2_000);
    assert_eq!((keys(&mut feeder, &mut stage), feeder.told.len()), (vec![], 2));
    let poll = stage.open(1 << 16, b"GET /topics/a/c HTTP/1.1\r\nHost: x\r\n\r\n");
    stage.turns();
    assert!(stage.text(poll).starts_with("HTTP/1.1 200"));
    assert_eq!(keys(&mut feeder, &mut stage), [""; 0]);
    assert_eq!(stage.stats().demands, 2);
}

/// Who comes is told all that is wanted, and then the end of it, also as the first one who ever asks; a poll as well. When nobody has read it for a
/// while, nothing is known of it any more, and all of it again for who asks then.
#[test]
fn who_comes_is_told_all() {
    let marks = Watched::begin();
    let mut stage = Stage::new(3, &limits("#"));
    let names: Vec<String> = (0..40).map(|n| format!("t/{n}")).collect();
    let mut conns: Vec<ConnId> = names.iter().enumerate().map(|(n, name)| reader(&mut stage, n % 3, name)).collect();
    stage.turns();
    let known = |stage: &mut Stage| {
        let Stats { demands, homes, .. } = stage.stats();
        (demands, homes)
    };
    assert_eq!(known(&mut stage), (0, 40), "nobody wants to know");
    for round in 0..3 {
        let mut feeders: Vec<Feeder> = ["earliest", "latest", "-100"]
            .iter()
            .map(|since| Feeder::open(&mut stage, round, "$sys/demand", since))
            .collect();
        let poll = stage.open(1 << 20, b"GET /topics/$sys/demand?since=earliest HTTP/1.1\r\nHost: x\r\n\r\n");
        stage.turns();
        let wanted: BTreeSet<String> = names[round * 10..].iter().cloned().collect();
        for feeder in &mut feeders {
            feeder.hear(&mut stage);
            let found = (feeder.complete, feeder.told.len());
            assert_eq!(found, (Some(wanted.len()), wanted.len()), "all, and then the end");
            assert_eq!(feeder.keys, wanted);
        }
        let text = stage.text(poll);
        assert_eq!(
            text.matches("\"wanted\":true").count().max(text.matches("\\\"wanted\\\":true").count()),
            wanted.len()
        );
        for feeder in feeders {
            stage.net.borrow_mut().client_close(feeder.conn);
        }
        stage.net.borrow_mut().client_close(poll);
        stage.pass_ms(30_000);
        assert_eq!(known(&mut stage).1, 40 - 10 * round as u64, "what was told is forgotten");
        for conn in conns.drain(..10) {
            stage.net.borrow_mut().client_close(conn);
        }
        stage.turns();
    }
    marks.reached(&[Mark::DemandAwaited, Mark::DemandForgotten]);
}

/// However topics come and go on shards whose rings are small and which take their turns as chance has it, with readers of it that come and go,
/// too: in the end each of them has what is so.
#[test]
fn in_the_end_it_is_so() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let limits = Limits { message_bytes_max: 1_000, demand_ms: 300, ..limits("t/#") };
        let mut stage = Stage::new(3, &limits);
        let names: Vec<String> = (0..60).map(|n| format!("{}/{n}", if n % 10 == 0 { "other" } else { "t" })).collect();
        let mut readers: Vec<(usize, ConnId)> = Vec::new();
        let mut feeders: Vec<Feeder> = Vec::new();
        for _ in 0..300 {
            for _ in 0..rng.skewed(12) {
                if rng.chance(450) && !readers.is_empty() {
                    let (_, conn) = readers.swap_remove(rng.below(readers.len()));
                    match rng.below(2) {
                        0 => stage.net.borrow_mut().client_close(conn),
                        _ => stage.net.borrow_mut().client_reset(conn, true),
                    }
                } else if readers.len() < 200 {
                    let topic = rng.below(names.len());
                    let shard = rng.below(3);
                    readers.push((topic, reader(&mut stage, shard, &names[topic])));
                }
            }
            if rng.chance(30) && feeders.len() < 4 {
                let shard = rng.below(3);
                let conn = stage.open_at(shard, 1 << 20, upgrade("/ws").as_bytes());
                stage.say(conn, &frame(0x81, b"SUB $sys/demand since=earliest"));
                feeders.push(Feeder {
                    conn,
                    bytes: Vec::new(),
                    keys: BTreeSet::new(),
                    told: Vec::new(),
                    complete: None,
                });
            } else if rng.chance(10) && !feeders.is_empty() {
                let feeder = feeders.swap_remove(rng.below(feeders.len()));
                stage.net.borrow_mut().client_close(feeder.conn);
            }
            for _ in 0..rng.skewed(30) {
                stage.turn_of(rng.below(3));
            }
            if rng.chance(20) {
                stage.pass_ms(rng.skewed(15_000) as u64);
            }
        }
        stage.pass_ms(3_000);
        let wanted: BTreeSet<String> =
            readers.iter().map(|(topic, _)| names[*topic].clone()).filter(|name| name.starts_with("t/")).collect();
        feeders.push(Feeder::open(&mut stage, 1, "$sys/demand", "earliest"));
        stage.turns();
        for feeder in &mut feeders {
            // The answer to its request comes first.
            stage.read(feeder.conn, usize::MAX, &mut feeder.bytes);
            if let Some(end) = feeder.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                feeder.bytes.drain(..end + 4);
            }
            feeder.hear(&mut stage);
            assert_eq!(feeder.keys, wanted, "seed {seed}");
        }
    }
}

/// There are no more keys than may be: of topics beyond that nobody hears, until there is room for them.
#[test]
fn what_has_no_room_is_told_later() {
    let marks = Watched::begin();
    let few = Terms { rows: Some(5), ..Terms::default() };
    let limits = Limits { rules: rules(&[("#", told()), ("$sys/demand", few)]), ..limits("#") };
    let mut stage = Stage::new(2, &limits);
    let mut feeder = Feeder::open(&mut stage, 1, "$sys/demand", "earliest");
    stage.turns();
    let conns: Vec<ConnId> = (0..8).map(|n| reader(&mut stage, n % 2, &format!("t/{n}"))).collect();
    stage.pass_ms(5_000);
    assert_eq!(feeder.hear(&mut stage).len(), 5);
    let gone: Vec<usize> = (0..8).filter(|n| feeder.keys.contains(&format!("t/{n}"))).take(3).collect();
    for n in &gone {
        stage.net.borrow_mut().client_close(conns[*n]);
    }
    stage.pass_ms(2 * DELAY_MS);
    let left: BTreeSet<String> = (0..8).filter(|n| !gone.contains(n)).map(|n| format!("t/{n}")).collect();
    assert_eq!(*feeder.hear(&mut stage), left);
    marks.reached(&[Mark::DemandUntold]);
}

/// A shard that stands still, with a full ring before it, hears later what is wanted and who is there, and then as it is.
#[test]
fn a_shard_that_is_late() {
    let marks = Watched::begin();
    for late in 0..2 {
        let other = 1 - late;
        let both = Terms { presence: Some(true), ..told() };
        let mut stage = Stage::new(2, &Limits { rules: rules(&[("#", both)]), ..limits("#") });
        // Some have their home on either shard.
        let names: Vec<String> = (0..16).map(|n| format!("a/{n}")).collect();
        let mut feeder = Feeder::open(&mut stage, other, "$sys/demand", "earliest");
        let stays: Vec<ConnId> = names.iter().map(|name| reader(&mut stage, other, name)).collect();
        let goes: Vec<ConnId> = names.iter().map(|name| reader(&mut stage, other, name)).collect();
        let publisher = stage.upgrade_at(other, 1 << 16, "/ws");
        stage.pass_ms(1_000);
        assert_eq!(feeder.hear(&mut stage).len(), 16);
        let message = |name| frame(0x81, format!("PUB {name}\n{}", "m".repeat(4_000)).as_bytes());
        let mut says: Vec<u8> = names.iter().cycle().take(200).flat_map(message).collect();
        for round in 0..12 {
            // What the full ring keeps the shard from reading fills the connection.
            let count = stage.net.borrow_mut().client_write(publisher, &says).expect("it stands");
            says.drain(..count);
            (0..60).for_each(|_| stage.turn_of(other));
            if round == 10 {
                goes.iter().for_each(|conn| stage.net.borrow_mut().client_reset(*conn, true));
                for n in 0..16 {
                    reader(&mut stage, other, &format!("b/{n}"));
                }
            }
        }
        (0..20).for_each(|_| stage.turn_of(other));
        (0..100).for_each(|_| stage.turns());
        stage.pass_ms(3 * DELAY_MS);
        assert_eq!(feeder.hear(&mut stage).len(), 32);
        for name in &names {
            let mut there = Feeder::open(&mut stage, late, &format!("$sys/presence/{name}"), "earliest");
            stage.turns();
            assert_eq!(there.hear(&mut stage).len(), 1, "{name}");
        }
        stays.iter().for_each(|conn| stage.net.borrow_mut().client_reset(*conn, true));
        stage.pass_ms(3 * DELAY_MS);
        assert_eq!(feeder.hear(&mut stage).len(), 16);
    }
    marks.reached(&[Mark::DemandWaits, Mark::PresenceWaits]);
}
