//! Rules of topics: what one says holds for its topics and no others, over every transport, and from a reload on.

use corecast::mesh::Control;
use corecast::reach::Mark;
use corecast::shard::{Errand, LagPolicy, Limits, Refusal, Rule, Rules, Terms, Wanted};

use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::Stage;
use crate::table::Table;

fn rules(rules: &[(&str, Terms)]) -> Rules {
    let rules = rules.iter().map(|(pattern, terms)| Rule { pattern: (*pattern).into(), terms: terms.clone() });
    Rules::new(rules.collect()).expect("sound rules")
}

fn terms() -> Terms {
    Terms::default()
}

/// Limits with these rules.
fn with(written: &[(&str, Terms)]) -> Limits {
    Limits { rules: rules(written), ..Limits::default() }
}

/// A payload may be as large as the most specific rule says: as a body, announced, in chunks, in pieces, as a line of a batch, as a
/// command and on a raw WebSocket; no other topic is meant.
#[test]
fn the_largest_payload_is_of_the_topic() {
    let small = Terms { message_bytes_max: Some(10), ..terms() };
    let smaller = Terms { message_bytes_max: Some(5), ..terms() };
    let written = [("small/#", small), ("small/+/x", smaller), ("small/a/x", terms())];
    for (topic, most) in [("small", 10), ("small/a", 10), ("small/a/x", 5), ("large", 100), ("smaller", 100)] {
        for bytes in [5_usize, 6, 10, 11, 100, 101] {
            let mut table = Table::new(Limits { message_bytes_max: 100, ..with(&written) });
            let payload = "x".repeat(bytes);
            let fits = bytes <= most;
            let what = format!("{bytes} bytes to {topic}");
            let status = [if fits { 200 } else { Refusal::TooLarge.row().status.expect("one") }];
            let head = format!("POST /topics/{topic} HTTP/1.1\r\nHost: h\r\n");
            let got = table.ask(format!("{head}Content-Length: {bytes}\r\n\r\n{payload}"));
            assert_eq!(got.statuses(), status, "{what}");
            let got = table.ask(format!("{head}Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{payload}\r\n0\r\n\r\n"));
            assert_eq!(got.statuses(), status, "{what}, chunked");
            let conn = table.connect();
            let mut got = table.say(conn, format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"));
            if !got.ended {
                let rest = table.say(conn, format!("{:x}\r\n{}\r\n0\r\n\r\n", bytes - 1, &payload[1..]));
                got.bytes.extend(rest.bytes);
            }
            assert_eq!(got.statuses(), status, "{what}, in two chunks");
            let batch = format!("{{\"topic\":\"{topic}\",\"data\":\"{payload}\"}}\n");
            let head = "POST /topics HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n";
            let got = table.ask(format!("{head}Content-Length: {}\r\n\r\n{batch}", batch.len()));
            assert_eq!(got.statuses(), [if fits { 200 } else { 400 }], "{what}, in a batch: {}", got.text());
            assert_eq!(got.text().contains("line 1: the payload is too large"), !fits, "{what}: {}", got.text());

            let line = table.connect();
            table.say(line, upgrade("/ws"));
            let got = table.say(line, text(&format!("PUB {topic} id=p\n{payload}"))).text();
            assert_eq!((got.contains("OK p"), got.contains("ERR p too-large")), (fits, !fits), "{what}: {got}");
            let raw = table.connect();
            table.say(raw, upgrade(&format!("/topics/{topic}?since=live")));
            let got = table.say(raw, text(&payload));
            assert_eq!(got.ended, !fits, "{what}: {}", got.text());
        }
    }
}

/// What a poll finds from the earliest message on.
fn remembered(table: &mut Table, topic: &str) -> usize {
    let got = table.get(&format!("GET /topics/{topic}?since=earliest&transport=poll"), "");
    assert_eq!(got.statuses(), [200], "{}", got.text());
    got.body().matches("\"data\"").count()
}

/// Each topic remembers as many messages, as many bytes, and for as long as rules and settings say, one value from here and one
/// from there.
#[test]
fn topics_remember_by_their_rules() {
    let few = Terms { history_messages: Some(3), ..terms() };
    let (small, short) = (Terms { history_bytes: Some(25), ..terms() }, Terms { history_ms: Some(100), ..terms() });
    let limits = with(&[("few/#", few), ("+/small", small), ("few/short", short)]);
    let mut table = Table::new(Limits { history_messages: 8, ..limits });
    for (topic, expected) in [("few", 3), ("few/a", 3), ("few/small", 2), ("a/small", 2), ("few/short", 3), ("a", 8)] {
        for _ in 0..20 {
            table.publish(topic, "0123456789");
        }
        assert_eq!(remembered(&mut table, topic), expected, "{topic}");
    }
    table.pass_ms(200);
    assert_eq!(remembered(&mut table, "few/short"), 1, "the newest is kept");
    assert_eq!(remembered(&mut table, "few/a"), 3);
}

/// A reader that is too slow is closed where a rule says so, whatever the setting, and the other way round.
#[test]
fn lag_is_of_the_topic() {
    let policy = |lag| Terms { lag: Some(lag), ..terms() };
    let written = [("close", policy(LagPolicy::Close)), ("replay", policy(LagPolicy::Replay))];
    for setting in [LagPolicy::Close, LagPolicy::Replay] {
        for (topic, lag) in [("close", LagPolicy::Close), ("replay", LagPolicy::Replay), ("other", setting)] {
            let limits = Limits { lag: setting, log_bytes_max: 4_096, history_messages: 1_000, ..with(&written) };
            let mut stage = Stage::new(2, &limits);
            let slow = stage.upgrade_at(0, 700, "/ws");
            stage.say_text(slow, format!("SUB {topic} since=live").as_bytes());
            stage.turns();
            for _ in 0..100 {
                assert!(stage.publish(topic, &"m".repeat(500)));
            }
            let mut bytes = Vec::new();
            let mut ended = false;
            for _ in 0..300 {
                stage.turns();
                ended |= stage.read(slow, usize::MAX, &mut bytes);
            }
            let closes = lag == LagPolicy::Close;
            assert_eq!((ended, stage.stats().refused_too_slow), (closes, u64::from(closes)), "{topic}, {setting:?}");
            assert!(closes || stage.stats().replays > 0, "it was slow");
        }
    }
}

/// Subscribes, publishes while nothing can be sent, and says which messages come.
fn heard(limits: &Limits, head: &[u8], line: Option<&str>) -> Vec<usize> {
    let mut stage = Stage::new(1, limits);
    // There is room for the heads and for a message or two.
    let conn = stage.open(3_000, head);
    let mut bytes = Vec::new();
    stage.turns();
    stage.read(conn, usize::MAX, &mut bytes);
    if let Some(line) = line {
        stage.say_text(conn, line.as_bytes());
    }
    for _ in 0..20 {
        stage.turns();
        stage.read(conn, usize::MAX, &mut bytes);
    }
    for n in 0..10 {
        assert!(stage.publish("t/a", &format!("({n}){}", "x".repeat(1_000))));
        stage.turns();
    }
    for _ in 0..100 {
        stage.turns();
        stage.read(conn, usize::MAX, &mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (0..10).filter(|n| text.contains(&format!("({n})"))).collect()
}

/// Subscriptions that say nothing about it get the newest only, or have a pace, if a rule says so, on every transport; what a
/// subscription says itself wins.
#[test]
fn what_a_subscription_does_not_say() {
    let all: Vec<usize> = (0..10).collect();
    let conflate = with(&[("t/+", Terms { conflate: Some(true), ..terms() })]);
    let paced = with(&[("t/+", Terms { every_ms: Some(3_600_000), ..terms() })]);
    let heads = |words: &str| {
        let mut heads = vec![upgrade(&format!("/topics/t/a?since=live{words}"))];
        for stream in ["sse", "stream", "multipart", "forever-frame"] {
            heads.push(format!(
                "GET /topics/t/a?transport={stream}&since=live{words} HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n"
            ));
        }
        heads
    };
    for head in heads("") {
        let some = heard(&conflate, head.as_bytes(), None);
        assert!(some.len() < 10 && some.last() == Some(&9), "{head}: {some:?}");
        assert_eq!(heard(&paced, head.as_bytes(), None), [0], "{head}");
        assert_eq!(heard(&Limits::default(), head.as_bytes(), None), all, "{head}");
    }
    for head in heads("&conflate=0&every=0") {
        assert_eq!(heard(&conflate, head.as_bytes(), None), all, "{head}");
        assert_eq!(heard(&paced, head.as_bytes(), None), all, "{head}");
    }
    let head = upgrade("/ws");
    let line =
        |limits: &Limits, words: &str| heard(limits, head.as_bytes(), Some(&format!("SUB t/a since=live{words}")));
    let some = line(&conflate, "");
    assert!(some.len() < 10 && some.last() == Some(&9), "{some:?}");
    assert_eq!(line(&conflate, " conflate=0"), all);
    assert_eq!(line(&conflate, " conflate=0 every=3600000"), [0]);
    assert_eq!(line(&paced, ""), [0]);
    assert_eq!(line(&paced, " every=0"), all);
    assert_eq!(line(&Limits::default(), ""), all);
}

/// Gives all shards limits with other rules, and waits until they hold to them.
fn reload(stage: &mut Stage, control: &mut Control, limits: &Limits) {
    for shard in 0..2 {
        let order = Errand { number: 1, wish: Wanted::Set(Box::new(limits.clone())) };
        assert!(control.send(shard, order, |shard| stage.net.borrow_mut().ring_doorbell(shard)));
    }
    stage.turns();
    for shard in 0..2 {
        assert!(control.receive(shard).is_some());
    }
}

fn poll(stage: &mut Stage, topic: &str) -> usize {
    let head = format!("GET /topics/{topic}?since=earliest&transport=poll HTTP/1.1\r\nHost: x\r\n\r\n");
    let conn: ConnId = stage.open(1 << 20, head.as_bytes());
    stage.turns();
    stage.text(conn).matches("\"data\"").count()
}

/// Other rules hold for topics that are there already: a history is made shorter by its next message, the largest payload holds at
/// once; and when the rule has gone, so has what it said.
#[test]
fn other_rules_hold_for_topics_that_are_there() {
    let (mut stage, mut control) = Stage::with_control(2, &Limits::default(), 256);
    let fill = |stage: &mut Stage| (0..20).for_each(|n| assert!(stage.publish("a/b", &n.to_string())));
    fill(&mut stage);
    assert_eq!(poll(&mut stage, "a/b"), 20);
    let few = Terms { history_messages: Some(3), message_bytes_max: Some(4), ..terms() };
    reload(&mut stage, &mut control, &with(&[("a/#", few)]));
    assert_eq!(poll(&mut stage, "a/b"), 20, "nothing was published yet");
    assert!(!stage.publish("a/b", "12345"), "too large from now on");
    assert_eq!(poll(&mut stage, "a/b"), 20);
    assert!(stage.publish("a/b", "1234"));
    assert_eq!(poll(&mut stage, "a/b"), 3);
    reload(&mut stage, &mut control, &with(&[("b/#", Terms { history_messages: Some(1), ..terms() })]));
    fill(&mut stage);
    assert_eq!(poll(&mut stage, "a/b"), 23);
    reload(&mut stage, &mut control, &with(&[("a/b", Terms { history_messages: Some(0), ..terms() })]));
    assert!(stage.publish("a/b", "1"));
    assert_eq!(poll(&mut stage, "a/b"), 1, "the newest is kept");
}

/// A batch whose lines were checked before the rules changed is answered: what is too large by now is refused, the rest published.
#[test]
fn a_batch_in_the_midst_of_a_reload() {
    let limits = Limits { request_ms: 600_000, ..Limits::default() };
    let (mut stage, mut control) = Stage::with_control(2, &limits, 256);
    // Many lines: a batch takes many turns, of which the last ones publish.
    let line =
        |n: usize| format!("{{\"topic\":\"{}\",\"data\":\"12345\"}}\n", if n.is_multiple_of(2) { "a" } else { "b" });
    let batch: String = (0..4_000).map(line).collect();
    let head = "POST /topics HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n";
    let conn = stage.open(1 << 20, format!("{head}Content-Length: {}\r\n\r\n", batch.len()).as_bytes());
    for piece in batch.as_bytes().chunks(8_000) {
        stage.turns();
        stage.say(conn, piece);
    }
    while stage.stats().published < 100 {
        stage.turn();
    }
    let watched = Watched::begin();
    let small = Terms { message_bytes_max: Some(4), ..terms() };
    reload(&mut stage, &mut control, &Limits { rules: rules(&[("b", small)]), ..limits });
    for _ in 0..100 {
        stage.turns();
    }
    let (answer, published) = (stage.text(conn), stage.stats().published);
    assert!((2_000..4_000).contains(&published), "{published} were published");
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(
        answer.contains(&format!("{{\"published\":{published},\"error\":\"the payload is too large\"}}")),
        "{answer}"
    );
    assert!(stage.publish("a", "12345"));
    watched.reached(&[Mark::LineRefused, Mark::TermsAgain]);
}
