//! How many read a topic, as whoever reads `$sys/occupancy/TOPIC` is told: right in the end, not too often, and at once to who comes.

use corecast::grant::{Ask, Denial, Grant};
use corecast::mesh::Control;
use corecast::reach::Mark;
use corecast::shard::{Asks, By, Errand, LagPolicy, Limits, Question, Rule, Rules, Said, Terms, Wanted};

use crate::authority::grant;
use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, frame};
use crate::table::Table;

/// Enough for a change to be told, however short a time ago the last one was, in milliseconds.
const TOLD_MS: u64 = 1_300;

fn rules(occupancy: &[(&str, bool)]) -> Rules {
    let rule = |(pattern, counted): &(&str, bool)| Rule {
        pattern: (*pattern).into(),
        terms: Terms { occupancy: Some(*counted), ..Terms::default() },
    };
    Rules::new(occupancy.iter().map(rule).collect()).expect("sound rules")
}

/// Limits of an engine that counts who reads topics of this pattern.
fn counted(pattern: &str) -> Limits {
    // Whoever reads here answers no pings.
    let (ping_ms, dead_ms) = (3_600_000, 7_200_000);
    Limits { rules: rules(&[(pattern, true)]), ping_ms, dead_ms, ..Limits::default() }
}

/// The numbers that stand somewhere, in order.
fn numbers(text: &str) -> Vec<u64> {
    let behind = text.split("{\"readers\":").skip(1).filter_map(|rest| rest.split('}').next());
    behind.map(|number| number.parse().expect("a number")).collect()
}

/// Somebody who reads how many read a topic.
struct Watch {
    conn: ConnId,
    told: Vec<u64>,
}

impl Watch {
    fn open(stage: &mut Stage, shard: usize, topic: &str) -> Watch {
        let conn = stage.open_at(shard, 1 << 16, upgrade(&format!("/topics/$sys/occupancy/{topic}")).as_bytes());
        stage.turns();
        let mut watch = Watch { conn, told: Vec::new() };
        watch.hear(stage);
        watch
    }

    /// Returns the newest number it was told.
    fn hear(&mut self, stage: &mut Stage) -> Option<u64> {
        let text = stage.text(self.conn);
        self.told.extend(numbers(&text));
        self.told.last().copied()
    }
}

/// Heads that read a topic for as long as they stand.
fn heads(topic: &str) -> Vec<String> {
    let mut heads = vec![upgrade(&format!("/topics/{topic}"))];
    for transport in ["sse", "stream", "multipart", "forever-frame", "long-poll"] {
        heads.push(format!("GET /topics/{topic}?transport={transport} HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n"));
    }
    heads
}

fn value(stage: &mut Stage, topic: &str) -> String {
    let head = format!("GET /topics/{topic}?transport=value HTTP/1.1\r\nHost: x\r\n\r\n");
    let conn = stage.open(1 << 16, head.as_bytes());
    stage.turns();
    stage.text(conn)
}

/// Over every transport and on all shards: who comes is counted, who ends, or breaks off without a word, is not any more; the number
/// is 0 before the first and behind the last.
#[test]
fn readers_come_and_go_over_every_transport() {
    let mut stage = Stage::new(3, &counted("a/#"));
    let mut watch = Watch::open(&mut stage, 2, "a/b");
    assert_eq!(watch.told, [0], "who comes is told at once");
    for head in heads("a/b") {
        let conns: Vec<ConnId> = (0..5).map(|n| stage.open_at(n % 3, 1 << 16, head.as_bytes())).collect();
        stage.pass_ms(TOLD_MS);
        assert_eq!(watch.hear(&mut stage), Some(5), "{head}");
        for (n, conn) in conns.iter().enumerate() {
            match n {
                0 | 1 => stage.net.borrow_mut().client_reset(*conn, true),
                2 => stage.net.borrow_mut().client_close(*conn),
                _ => stage.net.borrow_mut().client_end(*conn),
            }
        }
        stage.pass_ms(2 * TOLD_MS);
        // A broken connection of a long poll is seen when it is written to.
        let left = watch.hear(&mut stage);
        if left != Some(0) {
            assert!(stage.publish("a/b", "m"));
            stage.pass_ms(TOLD_MS);
        }
        assert_eq!(watch.hear(&mut stage), Some(0), "{head}");
    }
}

/// One connection counts once for each topic it reads, however often it says so; an engine's own topic, and one without the rule,
/// tell nothing.
#[test]
fn subscriptions_are_counted() {
    let mut stage = Stage::new(2, &counted("a/#"));
    let mut watches = ["a/b", "a/c", "b", "$sys/occupancy/a/b"].map(|topic| Watch::open(&mut stage, 0, topic));
    let told = |stage: &mut Stage, watches: &mut [Watch; 4]| {
        stage.pass_ms(TOLD_MS);
        std::array::from_fn::<_, 4, _>(|n| watches[n].hear(stage))
    };
    assert_eq!(told(&mut stage, &mut watches), [Some(0), Some(0), None, None]);
    let conns = [0, 0, 1].map(|shard| stage.upgrade_at(shard, 1 << 16, "/ws"));
    for conn in conns {
        for topic in ["a/b", "a/c", "b", "a/b"] {
            stage.say_text(conn, format!("SUB {topic} since=live").as_bytes());
        }
    }
    assert_eq!(told(&mut stage, &mut watches), [Some(3), Some(3), None, None]);
    stage.say_text(conns[2], b"UNSUB a/c");
    stage.say_text(conns[1], b"SUB a/b since=earliest");
    assert_eq!(told(&mut stage, &mut watches), [Some(3), Some(2), None, None]);
    stage.say(conns[0], &frame(0x88, &[]));
    assert_eq!(told(&mut stage, &mut watches), [Some(2), Some(1), None, None]);
}

/// Polls that ask and go are not worth a word.
#[test]
fn who_is_gone_at_once_is_not_told() {
    let mut stage = Stage::new(2, &counted("#"));
    let mut watch = Watch::open(&mut stage, 0, "a");
    let reader = stage.upgrade_at(1, 1 << 16, "/topics/a");
    stage.pass_ms(TOLD_MS);
    for shard in [0, 1, 0, 1] {
        let conn = stage.open_at(shard, 1 << 16, b"GET /topics/a HTTP/1.1\r\nHost: x\r\n\r\n");
        stage.turns();
        assert!(stage.text(conn).starts_with("HTTP/1.1 200"));
        stage.pass_ms(TOLD_MS);
    }
    watch.hear(&mut stage);
    assert_eq!(watch.told, [0, 1]);
    stage.net.borrow_mut().client_reset(reader, true);
    stage.pass_ms(TOLD_MS);
    assert_eq!(watch.hear(&mut stage), Some(0));
}

/// However fast readers come and go, a number is told once in a second at most, and the last one is never withheld.
#[test]
fn numbers_are_told_once_in_a_second() {
    let mut stage = Stage::new(3, &counted("#"));
    let mut watch = Watch::open(&mut stage, 1, "a");
    let mut conns: Vec<ConnId> = Vec::new();
    let begin_us = stage.net.borrow().now_us();
    for round in 0..100 {
        if round % 3 == 2 {
            let gone = conns.swap_remove(round % conns.len());
            stage.net.borrow_mut().client_reset(gone, true);
        } else {
            conns.push(stage.open_at(round % 3, 1 << 16, upgrade("/topics/a").as_bytes()));
        }
        stage.pass_ms(100);
    }
    watch.hear(&mut stage);
    let seconds = (stage.net.borrow().now_us() - begin_us) / 1_000_000;
    let told = watch.told.len() as u64;
    assert!((seconds - 2..=seconds + 1).contains(&told), "{told} numbers in {seconds} s: {:?}", watch.told);
    stage.pass_ms(TOLD_MS);
    assert_eq!(watch.hear(&mut stage), Some(conns.len() as u64));
    let told = watch.told.len();
    stage.pass_ms(5_000);
    watch.hear(&mut stage);
    assert_eq!(watch.told.len(), told, "nothing has changed");
}

/// A number is remembered for who comes: by any transport, at once, the newest only; a long poll waits for the next one. What nobody reads
/// is forgotten after a while, and there again for who asks.
#[test]
fn who_comes_is_told_at_once() {
    let mut stage = Stage::new(2, &counted("#"));
    let readers = [0, 1, 1].map(|shard| stage.upgrade_at(shard, 1 << 16, "/topics/a"));
    stage.pass_ms(TOLD_MS);
    assert_eq!(stage.stats().occupancies, 0, "nobody wants to know");
    for _ in 0..2 {
        for name in ["$sys/occupancy/a", "%24sys%2Foccupancy/a"] {
            assert_eq!(numbers(&value(&mut stage, name)), [3]);
        }
        for head in heads("$sys/occupancy/a") {
            let conn = stage.open(1 << 16, head.as_bytes());
            stage.turns();
            let text = stage.text(conn).replace('\\', "");
            assert!(text.contains("{\"readers\":3}"), "{head}: {text}");
            stage.net.borrow_mut().client_reset(conn, true);
        }
        let homes = stage.stats().homes;
        stage.pass_ms(30_000);
        assert_eq!(stage.stats().homes, homes - 1, "nobody reads it");
    }
    let conn = stage.open(1 << 16, b"GET /topics/$sys/occupancy/a HTTP/1.1\r\nHost: x\r\n\r\n");
    stage.turns();
    let text = stage.text(conn);
    let cursor = text.split("\"cursor\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a cursor");
    let head = format!("GET /topics/$sys/occupancy/a?transport=long-poll&since={cursor} HTTP/1.1\r\nHost: x\r\n\r\n");
    let poll = stage.open(1 << 16, head.as_bytes());
    stage.pass_ms(TOLD_MS);
    assert_eq!(stage.text(poll), "", "it waits");
    stage.net.borrow_mut().client_reset(readers[1], true);
    stage.pass_ms(TOLD_MS);
    assert_eq!(numbers(&stage.text(poll).replace('\\', "")), [2]);
    let all = stage.open(1 << 16, b"GET /topics/$sys/occupancy/a?since=earliest HTTP/1.1\r\nHost: x\r\n\r\n");
    stage.turns();
    assert_eq!(numbers(&stage.text(all).replace('\\', "")), [2], "the newest only");
    for (name, words) in [("$sys/occupancy/b", "200"), ("$sys/occupancy/$sys/a", "404"), ("$sys/other", "404")] {
        assert!(value(&mut stage, name).starts_with(&format!("HTTP/1.1 {words}")), "{name}");
    }
    assert!(!stage.publish("$sys/occupancy/a", "{\"readers\":99}"), "it is the engine's");
}

/// Gives shards other rules, those that are named, and waits until they hold to them.
fn reload(stage: &mut Stage, control: &mut Control, shards: &[usize], limits: &Limits) {
    for shard in shards {
        let order = Errand { number: 1, wish: Wanted::Set(Box::new(limits.clone())) };
        assert!(control.send(*shard, order, |shard| stage.net.borrow_mut().ring_doorbell(shard)));
    }
    stage.turns();
    shards.iter().for_each(|shard| assert!(control.receive(*shard).is_some()));
}

/// Rules that change while readers are there: their number is told once all shards know the rule, whichever is the first to; without
/// the rule nothing is told or remembered any more.
#[test]
fn other_rules_hold_for_readers_that_are_there() {
    let (off, on) = (Limits::default(), counted("t/#"));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let (mut stage, mut control) = Stage::with_control(3, &off, 256);
        let topics: Vec<String> = (0..6).map(|n| format!("t/{n}")).collect();
        let mut watches: Vec<Watch> =
            topics.iter().enumerate().map(|(n, topic)| Watch::open(&mut stage, n % 3, topic)).collect();
        for (n, topic) in topics.iter().enumerate() {
            (0..n).for_each(|reader| {
                stage.upgrade_at(reader % 3, 1 << 16, &format!("/topics/{topic}"));
            });
        }
        stage.pass_ms(TOLD_MS);
        assert!(watches.iter_mut().all(|watch| watch.hear(&mut stage).is_none()));
        for _ in 0..2 {
            for shard in order {
                reload(&mut stage, &mut control, &[shard], &on);
                stage.pass_ms(200);
            }
            stage.pass_ms(2 * TOLD_MS);
            for (n, watch) in watches.iter_mut().enumerate() {
                assert_eq!(watch.hear(&mut stage), Some(n as u64), "{:?}", watch.told);
                assert_eq!(numbers(&value(&mut stage, &format!("$sys/occupancy/t/{n}"))), [n as u64]);
            }
            for shard in order {
                reload(&mut stage, &mut control, &[shard], &off);
                stage.upgrade_at(shard, 1 << 16, "/topics/t/0/other");
                stage.pass_ms(200);
            }
            stage.pass_ms(TOLD_MS);
            watches.iter_mut().for_each(|watch| {
                watch.hear(&mut stage);
                watch.told.clear();
            });
            for n in 0..6 {
                assert!(value(&mut stage, &format!("$sys/occupancy/t/{n}")).starts_with("HTTP/1.1 404"));
            }
        }
    }
}

/// The list of topics says how many read each that is counted.
#[test]
fn the_list_of_topics_says_it() {
    let (mut stage, mut control) = Stage::with_control(2, &counted("a/#"), 256);
    for (topic, shards) in [("a/x", &[0, 1, 1][..]), ("b", &[0])] {
        shards.iter().for_each(|shard| {
            stage.upgrade_at(*shard, 1 << 16, &format!("/topics/{topic}"));
        });
    }
    assert!(stage.publish("a/y", "nobody reads it"));
    let mut found = Vec::new();
    for shard in 0..2 {
        let order = Errand { number: 1, wish: Wanted::Ask(Question::Topics(By::Bytes), 10) };
        assert!(control.send(shard, order, |shard| stage.net.borrow_mut().ring_doorbell(shard)));
        stage.turns();
        let Some(Said::Topics(rows)) = control.receive(shard).map(|answer| answer.said) else { panic!("an answer") };
        found.extend(rows.into_iter().map(|row| (row.topic, row.readers)));
    }
    found.sort();
    let expected =
        [("a/x", Some(3)), ("a/y", Some(0)), ("b", None)].map(|(topic, readers)| (topic.to_owned(), readers));
    assert_eq!(found, expected);
}

/// Who is closed for being too slow does not read any more.
#[test]
fn laggards_are_gone() {
    let limits = Limits { lag: LagPolicy::Close, log_bytes_max: 4_096, ..counted("#") };
    let mut stage = Stage::new(2, &limits);
    let mut watch = Watch::open(&mut stage, 0, "a");
    let slow = stage.upgrade_at(1, 700, "/topics/a?since=live");
    let _quick = stage.upgrade_at(1, 1 << 20, "/topics/a?since=live");
    stage.pass_ms(TOLD_MS);
    assert_eq!(watch.hear(&mut stage), Some(2));
    for _ in 0..100 {
        assert!(stage.publish("a", &"m".repeat(500)));
    }
    stage.pass_ms(TOLD_MS);
    assert_eq!(watch.hear(&mut stage), Some(2), "it may read on");
    let mut read = Vec::new();
    while !stage.read(slow, usize::MAX, &mut read) {
        stage.turns();
    }
    stage.pass_ms(TOLD_MS);
    assert_eq!(watch.hear(&mut stage), Some(1));
}

/// What the authority of this scene says.
fn says(ask: &Ask, now_s: u64) -> Result<Grant, Denial> {
    let Ask::Token(name) = ask else { panic!("nothing else is asked: {ask:?}") };
    Ok(match &**name {
        "reader" => grant("r", &[], &["a/#"]),
        "short" => Grant { expires_s: now_s + 3, ..grant("s", &[], &["a/#"]) },
        "system" => grant("o", &[], &["$sys/#", "b/#"]),
        _ => grant("w", &["#", "$sys/#"], &[]),
    })
}

/// Who may read a topic may know how many do, by its grant or by a rule, and nobody else may, whatever patterns of the engine's own
/// topics it has; nobody may publish it. Whose grant ends does not read any more.
#[test]
fn who_may_read_may_know() {
    let anyone = Terms { occupancy: Some(true), subscribe: Some(corecast::grant::Who::Anyone), ..Terms::default() };
    let counted = Terms { occupancy: Some(true), ..Terms::default() };
    let rules = vec![Rule { pattern: "a/open".into(), terms: anyone }, Rule { pattern: "#".into(), terms: counted }];
    let asks = Asks { tokens: true, ..Asks::default() };
    let rules = Rules::new(rules).expect("sound rules");
    let limits = Limits { asks, open: vec![false], rules, ..Limits::default() };
    let mut table = Table::with_authority(limits, Box::new(says));
    for (topic, name, status) in [
        ("a/x", "reader", 200),
        ("a/x", "system", 403),
        ("a/x", "writer", 403),
        ("a/x", "", 401),
        ("a/open", "", 200),
        ("a/open", "writer", 200),
        ("b/x", "system", 200),
        ("b/x", "reader", 403),
    ] {
        let line = if name.is_empty() { String::new() } else { format!("Authorization: Bearer {name}\r\n") };
        for words in ["", "?transport=value", "?transport=poll"] {
            let got = table.get(&format!("GET /topics/$sys/occupancy/{topic}{words}"), &line);
            assert_eq!(got.statuses(), [status], "{topic} {name}: {}", got.text());
        }
        for words in ["POST", "DELETE"] {
            let got = table.get(&format!("{words} /topics/$sys/occupancy/{topic}"), &line);
            assert!(!got.text().starts_with("HTTP/1.1 2"), "{}", got.text());
        }
    }
    let line = |name: &str| format!("Authorization: Bearer {name}\r\n");
    let watch = table.connect();
    let head = |topic: &str, name: &str| {
        format!("GET /topics/{topic}?transport=stream HTTP/1.1\r\nHost: h\r\n{}\r\n", line(name))
    };
    table.say(watch, head("$sys/occupancy/a/x", "reader"));
    let reader = table.connect();
    table.say(reader, head("a/x", "short"));
    table.pass_ms(TOLD_MS);
    assert_eq!(numbers(&table.read(watch).text().replace('\\', "")), [1]);
    table.pass_ms(3_000);
    assert_eq!(numbers(&table.read(watch).text().replace('\\', "")), [0]);
}

/// A shard that stands still, with a full ring before it, hears later how many there are, and the number is right then.
#[test]
fn a_shard_that_is_late() {
    let marks = Watched::begin();
    let mut stage = Stage::new(2, &counted("#"));
    // Some have their home on shard 1.
    let names: Vec<String> = (0..16).map(|n| format!("a/{n}")).collect();
    let open = |stage: &mut Stage, name: &String| stage.upgrade_at(0, 1 << 22, &format!("/topics/{name}?since=live"));
    let stays: Vec<ConnId> = names.iter().map(|name| open(&mut stage, name)).collect();
    let goes: Vec<ConnId> = names.iter().map(|name| open(&mut stage, name)).collect();
    let publisher = stage.upgrade_at(0, 1 << 16, "/ws");
    stage.pass_ms(TOLD_MS);
    let message = |name| text(&format!("PUB {name}\n{}", "m".repeat(4_000)));
    let mut says: Vec<u8> = names.iter().cycle().take(200).flat_map(message).collect();
    for round in 0..12 {
        // What the full ring keeps the shard from reading fills the connection.
        let count = stage.net.borrow_mut().client_write(publisher, &says).expect("it stands");
        says.drain(..count);
        (0..60).for_each(|_| stage.turn_of(0));
        if round == 10 {
            goes.iter().for_each(|conn| stage.net.borrow_mut().client_reset(*conn, true));
        }
    }
    (0..20).for_each(|_| stage.turn_of(0));
    (0..100).for_each(|_| stage.turns());
    for name in &names {
        assert_eq!(numbers(&value(&mut stage, &format!("$sys/occupancy/{name}"))), [1]);
    }
    stays.iter().for_each(|conn| stage.net.borrow_mut().client_reset(*conn, true));
    stage.pass_ms(TOLD_MS);
    for name in &names {
        assert_eq!(numbers(&value(&mut stage, &format!("$sys/occupancy/{name}"))), [0]);
    }
    marks.reached(&[Mark::ReadersWait]);
}

/// Where memory is short, a number that was forgotten is there again for who asks, and what finds no memory comes later.
#[test]
fn memory_is_short() {
    let marks = Watched::begin();
    let limits = Limits { memory_bytes: 256 << 10, message_bytes_max: 16 << 10, ..counted("#") };
    let mut stage = Stage::new(2, &limits);
    let _reader = stage.upgrade_at(0, 4_096, "/topics/a");
    let mut watch = Watch::open(&mut stage, 1, "a");
    assert_eq!(numbers(&value(&mut stage, "$sys/occupancy/a")), watch.told);
    for n in 0..60 {
        let _ = stage.publish(&format!("other/{n}"), &"x".repeat(8_000));
    }
    assert_eq!(numbers(&value(&mut stage, "$sys/occupancy/a")), [1]);
    for n in 0..300 {
        let _ = value(&mut stage, &format!("$sys/occupancy/{}/{n}", "long".repeat(50)));
    }
    let more = stage.upgrade_at(1, 4_096, "/topics/a");
    stage.pass_ms(20_000);
    assert_eq!(watch.hear(&mut stage), Some(2));
    stage.net.borrow_mut().client_reset(more, true);
    stage.pass_ms(TOLD_MS);
    assert_eq!(watch.hear(&mut stage), Some(1));
    marks.reached(&[Mark::NumberUntold, Mark::HistoryGaveWay]);
}
