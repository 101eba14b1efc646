//! Who reads a topic, as whoever reads `$sys/presence/TOPIC` is told: by name, all of them at once, and in the end those who do.

use std::collections::{BTreeMap, BTreeSet};

use corecast::grant::{Ask, Denial, Grant};
use corecast::reach::Mark;
use corecast::shard::{Asks, Limits, Rule, Rules, Terms};

use crate::authority::grant;
use crate::demand::Feeder;
use crate::endings::upgrade;
use crate::marks::Watched;
use crate::net::ConnId;
use crate::rng::Rng;
use crate::stage::{Stage, frame};
use crate::table::Table;

const DELAY_MS: u64 = 5_000;

fn rule(pattern: &str, terms: Terms) -> Rule {
    Rule { pattern: pattern.into(), terms }
}

fn told() -> Terms {
    Terms { presence: Some(true), ..Terms::default() }
}

fn limits(rules: Vec<Rule>) -> Limits {
    let rules = Rules::new(rules).expect("sound rules");
    // Whoever reads here answers no pings.
    Limits { rules, demand_ms: DELAY_MS, ping_ms: 3_600_000, dead_ms: 7_200_000, ..Limits::default() }
}

fn reader(stage: &mut Stage, shard: usize, topic: &str) -> ConnId {
    stage.open_at(shard, 1 << 16, upgrade(&format!("/topics/{topic}")).as_bytes())
}

/// How many connections each key is said to have, as it was told last.
fn counts(feeder: &Feeder) -> BTreeMap<String, u64> {
    let told = feeder.told.iter().filter(|(key, _)| feeder.keys.contains(key));
    told.map(|(key, payload)| {
        let count = payload.split("\"connections\":").nth(1).and_then(|rest| rest.strip_suffix('}')).unwrap_or("0");
        (key.clone(), count.parse().expect("a number"))
    })
    .collect()
}

/// Who shows nothing has a name that only his connection has; he is told at once, and gone after the delay, whichever way he goes.
#[test]
fn strangers_come_and_go() {
    let mut stage = Stage::new(3, &limits(vec![rule("a/#", told())]));
    let mut feeder = Feeder::open(&mut stage, 1, "$sys/presence/a/b", "earliest");
    let mut none = Feeder::open(&mut stage, 1, "$sys/presence/b", "earliest");
    stage.turns();
    assert_eq!((feeder.hear(&mut stage).len(), feeder.complete), (0, Some(0)));
    let conns: Vec<ConnId> = (0..6).map(|n| reader(&mut stage, n % 3, "a/b")).collect();
    reader(&mut stage, 0, "b");
    stage.turns();
    assert_eq!((feeder.hear(&mut stage).len(), none.hear(&mut stage).len()), (6, 0));
    assert!(feeder.keys.iter().all(|key| key.len() == 17 && key.starts_with('~')), "{:?}", feeder.keys);
    let payload = &feeder.told[0].1;
    assert!(payload.starts_with("{\"name\":\"~") && payload.ends_with(",\"connections\":1}"), "{payload}");
    for (n, conn) in conns.iter().enumerate() {
        match n % 3 {
            0 => stage.net.borrow_mut().client_close(*conn),
            1 => stage.net.borrow_mut().client_reset(*conn, true),
            _ => stage.say(*conn, &frame(0x88, &[])),
        }
    }
    stage.pass_ms(DELAY_MS - 1_000);
    assert_eq!(feeder.hear(&mut stage).len(), 6, "not before the delay is over");
    stage.pass_ms(2_000);
    assert_eq!(feeder.hear(&mut stage).len(), 0);
    // Nothing is left of those who nobody wants to hear of.
    drop(feeder);
    assert_eq!(stage.stats().presences, 12);
}

/// Who has a grant has its name, however many connections he has, on whatever shard; who says that he is somebody else is that from then on; and
/// who may read the topic may know who does.
#[test]
fn names_are_those_of_grants() {
    let asks = Asks { tokens: true, ..Asks::default() };
    let says = |ask: &Ask, _: u64| match ask {
        Ask::Token(name) => Ok(Grant { subject: name.clone(), ..grant(name, &[], &["a/#"]) }),
        _ => Err(Denial::Invalid("no")),
    };
    let base = limits(vec![rule("#", told())]);
    let mut table = Table::with_authority(Limits { asks, open: vec![false], ..base }, Box::new(says));
    let line = |table: &mut Table, name: &str| {
        let conn = table.connect();
        let head = upgrade("/ws").replacen("\r\n\r\n", &format!("\r\nAuthorization: Bearer {name}\r\n\r\n"), 1);
        table.say(conn, head);
        conn
    };
    let feeder = line(&mut table, "feeder");
    let said = table.say(feeder, crate::endings::text("SUB $sys/presence/a id=1")).text();
    assert!(said.contains("OK 1") && said.contains("EOS $sys/presence/a"), "{said}");
    let refused = table.say(feeder, crate::endings::text("SUB $sys/presence/b id=2")).text();
    assert!(refused.contains("ERR 2 forbidden"), "{refused}");
    let anna = [line(&mut table, "anna"), line(&mut table, "anna")];
    for conn in anna {
        table.say(conn, crate::endings::text("SUB a"));
    }
    table.pass_ms(1_500);
    let told = table.read(feeder).text();
    assert!(
        told.contains("key=anna") && told.contains("\"name\":\"anna\"") && told.contains("\"connections\":2}"),
        "{told}"
    );
    let said = table.say(anna[0], crate::endings::text("AUTH bert id=1")).text();
    assert!(said.contains("OK 1"), "{said}");
    table.pass_ms(1_500);
    let told = table.read(feeder).text();
    assert!(
        told.contains("key=bert") && told.contains("\"connections\":1}") && told.contains("\"name\":\"anna\""),
        "{told}"
    );
    table.end(anna[1]);
    table.reset(anna[1]);
    table.pass_ms(DELAY_MS + 1_500);
    let told = table.read(feeder).text();
    assert!(told.contains("key=anna op=delete") && !told.contains("bert"), "{told}");
    table.shard().check();
}

/// However connections come and go, on shards with small rings that take their turns as chance has it: in the end each reader has those who are there.
#[test]
fn in_the_end_it_is_so() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let base = limits(vec![rule("t/#", told())]);
        let mut stage = Stage::new(3, &Limits { message_bytes_max: 1_000, demand_ms: 300, ..base });
        let mut readers: Vec<(usize, ConnId)> = Vec::new();
        let mut feeders: Vec<(usize, Feeder)> = Vec::new();
        for _ in 0..200 {
            for _ in 0..rng.skewed(10) {
                if rng.chance(450) && !readers.is_empty() {
                    let (_, conn) = readers.swap_remove(rng.below(readers.len()));
                    stage.net.borrow_mut().client_reset(conn, true);
                } else if readers.len() < 150 {
                    let (topic, shard) = (rng.below(4), rng.below(3));
                    readers.push((topic, reader(&mut stage, shard, &format!("t/{topic}"))));
                }
            }
            if rng.chance(40) && feeders.len() < 5 {
                let (topic, shard) = (rng.below(4), rng.below(3));
                feeders.push((topic, Feeder::open(&mut stage, shard, &format!("$sys/presence/t/{topic}"), "earliest")));
            }
            for _ in 0..rng.skewed(30) {
                stage.turn_of(rng.below(3));
            }
            if rng.chance(30) {
                stage.pass_ms(rng.skewed(3_000) as u64);
            }
        }
        stage.pass_ms(10_000);
        let late =
            (0..4).map(|topic| (topic, Feeder::open(&mut stage, 0, &format!("$sys/presence/t/{topic}"), "earliest")));
        let late: Vec<_> = late.collect();
        stage.turns();
        let mut of_topic: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for (topic, feeder) in feeders.iter_mut().chain(late.into_iter().collect::<Vec<_>>().iter_mut()) {
            feeder.hear(&mut stage);
            let there = readers.iter().filter(|(of, _)| of == topic).count();
            assert_eq!(feeder.keys.len(), there, "seed {seed}, topic {topic}");
            let names = of_topic.entry(*topic).or_insert_with(|| feeder.keys.clone());
            assert_eq!(*names, feeder.keys, "seed {seed}, topic {topic}: all are told the same");
            assert!(counts(feeder).values().all(|count| *count == 1));
        }
    }
}

/// Of a topic no more names are told than may be, whoever else reads it; when one has gone, there is room for another one.
#[test]
fn there_are_no_more_names_than_may_be() {
    let marks = Watched::begin();
    let few = Terms { rows: Some(5), ..Terms::default() };
    let mut stage = Stage::new(2, &limits(vec![rule("#", told()), rule("$sys/presence/#", few)]));
    let mut feeder = Feeder::open(&mut stage, 1, "$sys/presence/a", "earliest");
    stage.turns();
    // Four on one shard and four on the other: neither has too many.
    let conns: Vec<ConnId> = (0..8).map(|n| reader(&mut stage, n % 2, "a")).collect();
    stage.pass_ms(3_000);
    assert_eq!(feeder.hear(&mut stage).len(), 5);
    for conn in &conns[..6] {
        stage.net.borrow_mut().client_close(*conn);
    }
    stage.pass_ms(4 * DELAY_MS);
    assert_eq!(feeder.hear(&mut stage).len(), 2);
    marks.reached(&[Mark::PresenceUntold]);
}
