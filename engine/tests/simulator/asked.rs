//! The hook is asked about single topics: every transport waits for what it says, keeps its order meanwhile, and is told a no as any other.

use std::net::{IpAddr, Ipv4Addr};

use corecast::grant::{Action, Ask, Denial, Grant, Revocation, Who};
use corecast::mesh::Ends;
use corecast::reach::Mark;
use corecast::shard::{Asks, Errand, Limits, Refusal, Rule, Rules, Terms, Wanted};

use crate::authority::{Authority, grant};
use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::Stage;
use crate::table::{Got, Table};

/// Limits of an engine that takes tokens, and has the hook asked about each topic.
fn limits() -> Limits {
    let asks = Asks { tokens: true, subscribe: true, publish: true, ..Asks::default() };
    Limits { asks, open: vec![false], memory_bytes: 64 << 20, ..Limits::default() }
}

/// What the authority of these scenes says: tokens have names that say what they give; a topic has a name that says what the hook does.
fn says(ask: &Ask, _: u64) -> Result<Grant, Denial> {
    match ask {
        Ask::Token(name) => Ok(match &**name {
            "both" => grant("both", &["a/#"], &["a/#"]),
            "again" => Grant { token_id: "again".into(), ..grant("both", &["a/#"], &["a/#"]) },
            "other" => grant("other", &["a/#"], &["a/#"]),
            "bare" => Grant { unlisted: true, ..grant("bare", &[], &[]) },
            "empty" => grant("empty", &[], &[]),
            name => panic!("nobody shows {name}"),
        }),
        Ask::Topic { subject, topic, peer, .. } => {
            assert!(["both", "other", "bare"].contains(&&**subject) && peer.port() > 0, "{ask:?}");
            match &**topic {
                topic if topic.ends_with("no") => Err(Denial::Forbidden("no")),
                topic if topic.ends_with("bad") => Err(Denial::Invalid("no")),
                topic if topic.ends_with("down") => Err(Denial::Unavailable("no")),
                _ => Ok(Grant::nothing("yes")),
            }
        }
        _ => panic!("nothing else is asked: {ask:?}"),
    }
}

fn table() -> Table {
    let mut table = Table::with_authority(limits(), Box::new(says));
    table.all_come_from(HOME);
    table
}

/// Where all clients of these scenes come from: the hook is told of addresses, and what it says of one is not said of another.
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// What becomes of an order with a topic of this name.
const WHICH: [(&str, Option<Refusal>); 4] = [
    ("yes", None),
    ("no", Some(Refusal::Forbidden)),
    ("bad", Some(Refusal::InvalidToken)),
    ("down", Some(Refusal::Unavailable)),
];

/// Requests for `a/TOPIC`, each of a transport.
const REQUESTS: [&str; 12] = [
    "POST /topics/a/TOPIC",
    "POST /topics",
    "DELETE /topics/a/TOPIC",
    "GET /topics/a/TOPIC",
    "GET /topics/a/TOPIC?transport=value",
    "GET /topics/a/TOPIC?transport=long-poll&wait=0",
    "GET /topics?topic=a/x&topic=a/TOPIC&transport=jsonp",
    "GET /topics/a/TOPIC?transport=sse",
    "GET /topics/a/TOPIC?transport=stream",
    "GET /topics?topic=a/x&topic=a/TOPIC&transport=multipart",
    "GET /topics/a/TOPIC?transport=forever-frame",
    "GET /topics?topic=a/TOPIC&topic=a/y&transport=sse",
];

fn request(words: &str, token: &str) -> String {
    let topic = words.split("a/").nth(1).unwrap_or("x").split(['?', '&']).next().unwrap_or_default();
    let body = if words.starts_with("POST") { format!("of {topic}") } else { String::new() };
    request_with(words, token, &body)
}

fn request_with(words: &str, token: &str, body: &str) -> String {
    let kind = if words == "POST /topics" { "Content-Type: application/x-ndjson\r\n" } else { "" };
    let shown = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    format!("{words} HTTP/1.1\r\nHost: h\r\n{shown}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Writes a request of a transport for one topic.
fn of(words: &str, topic: &str, token: &str) -> String {
    let words = words.replace("TOPIC", topic);
    match &*words {
        "POST /topics" => request_with(&words, token, &lines(&["x", topic])),
        words => request(words, token),
    }
}

/// Lines of a batch, for topics of these names.
fn lines(topics: &[&str]) -> String {
    topics.iter().map(|topic| format!("{{\"topic\":\"a/{topic}\",\"data\":\"of {topic}\"}}\n")).collect()
}

fn open(path: &str, token: &str) -> String {
    upgrade(path).replacen("\r\n\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n\r\n"), 1)
}

fn refused_with(got: &Got, refusal: Refusal, what: &str) {
    let row = refusal.row();
    assert_eq!(got.statuses(), [row.status.expect("a request can meet it")], "{what}: {}", got.text());
    for (name, value) in row.headers {
        assert_eq!(got.header(name), [*value], "{what}: {}", got.text());
    }
    assert_eq!(got.header("retry-after").len(), usize::from(row.comes_back_s.is_some()), "{what}: {}", got.text());
}

/// Every transport, and whatever the hook says, at once or after a while: whoever may, does; whoever may not is told as of any other
/// reason, and nothing is done.
#[test]
fn every_transport_is_asked_about() {
    let watched = Watched::begin();
    for thinks_us in [0, 30_000] {
        for (topic, refusal) in WHICH {
            for words in REQUESTS {
                let mut table = table();
                table.ask(of("POST /topics/a/TOPIC", "x", "both"));
                table.authority().thinks_us = thinks_us;
                let conn = table.connect();
                table.send(conn, of(words, topic, "both"));
                table.pass_ms(100);
                let (got, what) = (table.read(conn), format!("{words} of {topic}"));
                match refusal {
                    Some(refusal) => {
                        refused_with(&got, refusal, &what);
                        assert!(!got.text().contains("of x"), "{what}: {}", got.text());
                    }
                    None => assert!(matches!(got.statuses()[..], [200] | [404]), "{what}: {}", got.text()),
                }
                if words == "POST /topics" {
                    // The other line was fine.
                    table.authority().thinks_us = 0;
                    let there = table.ask(of("GET /topics/a/TOPIC?since=earliest", "x", "both")).text();
                    assert_eq!(there.matches("of x").count(), 1 + usize::from(refusal.is_none()), "{there}");
                }
            }
            let mut table = table();
            table.authority().thinks_us = thinks_us;
            let raw = table.connect();
            table.send(raw, open(&format!("/topics/a/{topic}"), "both"));
            table.pass_ms(100);
            let got = table.read(raw);
            match refusal {
                Some(refusal) => refused_with(&got, refusal, topic),
                None => {
                    assert_eq!(got.statuses(), [101], "{}", got.text());
                    table.send(raw, text("hello"));
                    table.pass_ms(100);
                    assert!(table.read(raw).text().contains("hello"));
                }
            }
            let line = table.connect();
            table.say(line, open("/ws", "both"));
            table.pass_ms(50);
            for (id, command) in [("s", format!("SUB a/{topic} id=s")), ("p", format!("PUB a/{topic} id=p\nhello"))] {
                table.send(line, text(&command));
                table.pass_ms(100);
                let got = table.read(line);
                let expected = match refusal {
                    Some(refusal) => {
                        format!("ERR {id} {} {}", refusal.row().err.expect("one").as_str(), refusal.row().text)
                    }
                    None => format!("OK {id} "),
                };
                assert!(got.text().contains(&expected) && !got.ended, "{command}: {}", got.text());
            }
        }
    }
    watched.reached(&[Mark::OrderAwaitsVerdict]);
}

/// The right to publish is asked for apart from the right to read: a raw WebSocket that may only read is closed when it publishes.
#[test]
fn each_action_is_asked_about() {
    let says = |ask: &Ask, now_s: u64| match ask {
        Ask::Topic { action: Action::Publish, .. } => Err(Denial::Forbidden("no")),
        ask => says(ask, now_s),
    };
    let mut table = Table::with_authority(limits(), Box::new(says));
    let raw = table.connect();
    assert_eq!(table.say(raw, open("/topics/a/x", "both")).statuses(), [101]);
    let got = table.say(raw, text("hello"));
    assert!(got.ended && got.text().contains(Refusal::Forbidden.row().text), "{}", got.text());
    // What is not asked about is not asked about.
    let asks = Asks { publish: false, ..limits().asks };
    let mut table = Table::with_authority(Limits { asks, ..limits() }, Box::new(says));
    assert_eq!(table.ask(of("POST /topics/a/TOPIC", "x", "both")).statuses(), [200]);
    assert_eq!(table.authority().asked, 1, "who it is");
}

/// Patterns and the hook have to say yes both, and the hook is not asked about what patterns do not give; who has no lists at all leaves
/// it to the hook, but only where that is asked; rules for everybody, for whoever has a grant, and for nobody need no asking.
#[test]
fn who_decides() {
    let rule = |pattern: &str, who| {
        let terms = Terms { publish: Some(who), subscribe: Some(who), ..Terms::default() };
        Rule { pattern: pattern.into(), terms }
    };
    let rules = [
        rule("open/#", Who::Anyone),
        rule("known/#", Who::Authenticated),
        rule("shut/#", Who::Nobody),
        rule("granted/#", Who::Granted),
    ];
    let rules = Rules::new(rules.into()).expect("sound rules");
    let publishes_only = Asks { subscribe: false, ..limits().asks };
    for (token, topic, asks, expected, asked) in [
        ("both", "a/yes", limits().asks, 200, true),
        ("both", "a/no", limits().asks, 403, true),
        ("both", "b/yes", limits().asks, 403, false),
        ("bare", "b/yes", limits().asks, 200, true),
        ("bare", "b/no", limits().asks, 403, true),
        ("bare", "granted/yes", limits().asks, 200, true),
        ("bare", "b/yes", publishes_only, 403, false),
        ("empty", "b/yes", limits().asks, 403, false),
        ("both", "open/no", limits().asks, 200, false),
        ("", "open/no", limits().asks, 200, false),
        ("bare", "known/no", limits().asks, 200, false),
        ("", "known/no", limits().asks, 401, false),
        ("bare", "shut/yes", limits().asks, 403, false),
        ("both", "granted/yes", limits().asks, 403, false),
        ("", "a/yes", limits().asks, 401, false),
    ] {
        let mut table = Table::with_authority(Limits { asks, rules: rules.clone(), ..limits() }, Box::new(says));
        let got = table.ask(request(&format!("GET /topics/{topic}"), token));
        assert_eq!(got.statuses(), [expected], "{token} {topic}: {}", got.text());
        let (who, what) = (u64::from(!token.is_empty()), u64::from(asked));
        assert_eq!(table.authority().asked, who + what, "{token} {topic}");
    }
}

/// What the hook said holds for a while, for the same grant and action, and is asked once for all who wait; then it is asked again. A reader
/// goes on.
#[test]
fn verdicts_hold_for_a_while() {
    let mut table = table();
    table.authority().holds_ms = 2_000;
    let reader = table.connect();
    table.say(reader, of("GET /topics/a/TOPIC?transport=sse", "x", "both"));
    for _ in 0..5 {
        assert_eq!(table.ask(of("POST /topics/a/TOPIC", "x", "both")).statuses(), [200]);
    }
    assert_eq!(table.authority().asked, 3, "who it is, whether he may read, whether he may publish");
    table.pass_ms(2_100);
    table.ask(of("POST /topics/a/TOPIC", "x", "both"));
    assert_eq!(table.authority().asked, 5, "who it is, and whether he may publish");
    let got = table.read(reader);
    assert!(got.text().matches("of x").count() == 6 && !got.ended, "{}", got.text());
    table.ask(of("POST /topics/a/TOPIC", "x", "other"));
    assert_eq!(table.authority().asked, 7, "somebody else");
    table.authority().thinks_us = 50_000;
    let conns: Vec<ConnId> = (0..20).map(|_| table.connect()).collect();
    conns.iter().for_each(|conn| table.send(*conn, of("POST /topics/a/TOPIC", "new", "both")));
    table.pass_ms(100);
    conns.iter().for_each(|conn| assert_eq!(table.read(*conn).statuses(), [200]));
    assert_eq!(table.authority().asked, 8);
    table.authority().thinks_us = 0;
    table.all_come_from([192, 0, 2, 8].into());
    table.ask(of("POST /topics/a/TOPIC", "new", "both"));
    assert_eq!(table.authority().asked, 9, "from elsewhere");
}

/// What a connection sends behind an order that waits waits with it, and stays in order; others go on. One that goes meanwhile is found,
/// and a verdict that comes for it does no harm; one that has ended its direction gets its answer.
#[test]
fn order_is_kept_over_a_wait() {
    let mut table = table();
    let reader = table.connect();
    table.say(reader, open("/ws", "both"));
    table.say(reader, text("SUB a/known id=s"));
    table.ask(of("POST /topics/a/TOPIC", "known", "both"));
    let (line, gone, half) = (table.connect(), table.connect(), table.connect());
    table.say(line, open("/ws", "both"));
    table.authority().thinks_us = 500_000;
    for command in ["PUB a/known id=1\none", "PUB a/new id=2\ntwo", "SUB a/new id=3", "PUB a/known id=4\nthree"] {
        table.send(line, text(command));
    }
    table.send(gone, of("POST /topics/a/TOPIC", "gone", "both"));
    let requests = ["slow", "known", "slower"].map(|topic| of("POST /topics/a/TOPIC", topic, "both"));
    table.send(half, requests.concat());
    table.pass_ms(10);
    table.end(half);
    table.reset(gone);
    let got = table.read(line).text();
    assert!(got.contains("OK 1 ") && !got.contains("OK 2"), "{got}");
    assert_eq!(table.ask(of("POST /topics/a/TOPIC", "known", "both")).statuses(), [200], "others go on");
    table.pass_ms(20);
    assert_eq!(table.shard().stats().connections, 5, "who is gone is found");
    table.pass_ms(2_000);
    let got = table.read(line).text();
    let places = ["OK 2 ", "OK 3 ", "OK 4 "].map(|part| got.find(part).expect(part));
    assert!(places.is_sorted(), "{got}");
    let got = table.read(half);
    assert!(got.statuses() == [200, 200, 200] && got.ended, "{}", got.text());
    let got = table.read(reader).text();
    let places: Vec<usize> = ["one", "of known", "three"].iter().map(|part| got.rfind(part).expect(part)).collect();
    assert!(places[0] < places[1].max(places[2]) && got.matches("of known").count() == 3, "{got}");
}

/// A hook that is silent: everybody who waits is told so in time, by the means of its transport, and the next order of the same connection
/// has a time of its own.
#[test]
fn a_silent_hook() {
    let watched = Watched::begin();
    let mut table = table();
    let unavailable = Refusal::Unavailable.row();
    table.ask(of("POST /topics/a/TOPIC", "x", "both"));
    let conns: Vec<_> = REQUESTS.iter().map(|words| (*words, table.connect())).collect();
    let (line, raw) = (table.connect(), table.connect());
    table.say(line, open("/ws", "both"));
    table.authority().thinks_us = u64::MAX;
    conns.iter().for_each(|(words, conn)| table.send(*conn, of(words, "new", "both")));
    table.send(raw, open("/topics/a/new", "both"));
    ["PUB a/new id=1\none", "PUB a/newer id=2\ntwo", "PUB a/x id=3\nthree"]
        .iter()
        .for_each(|command| table.send(line, text(command)));
    table.pass_ms(4_900);
    assert!(conns.iter().all(|(_, conn)| table.read_some(*conn, 1).bytes.is_empty()));
    table.pass_ms(200);
    for (words, conn) in conns {
        refused_with(&table.read(conn), Refusal::Unavailable, words);
    }
    refused_with(&table.read(raw), Refusal::Unavailable, "raw");
    let got = table.read(line).text();
    let told = |id| format!("ERR {id} {} {}", unavailable.err.expect("one").as_str(), unavailable.text);
    assert!(got.contains(&told(1)) && !got.contains(&told(2)), "the second has its own time: {got}");
    table.authority().hurry();
    table.pass_ms(50);
    let got = table.read(line).text();
    assert!(got.contains("OK 2 ") && got.contains("OK 3 "), "{got}");
    watched.reached(&[Mark::VerdictLate]);
}

/// A batch is taken whole or not at all: with one line that may not be, the line is named and nothing is published, whatever else is known.
#[test]
fn a_batch_with_one_line_that_may_not_be() {
    for thinks_us in [0, 20_000] {
        for (topic, refusal) in &WHICH[1..] {
            let mut table = table();
            table.ask(of("POST /topics/a/TOPIC", "1", "both"));
            table.authority().thinks_us = thinks_us;
            let conn = table.connect();
            table.send(conn, request_with("POST /topics", "both", &lines(&["1", "2", topic, "4"])));
            table.pass_ms(100);
            let got = table.read(conn);
            refused_with(&got, refusal.expect("a no"), topic);
            assert!(got.body().contains("line 3: "), "{}", got.text());
            table.authority().thinks_us = 0;
            for topic in ["2", "4"] {
                assert_eq!(table.ask(of("GET /topics/a/TOPIC?since=earliest", topic, "both")).body(), "[]");
            }
        }
    }
}

/// Very many topics at once, a hook that takes its time, and verdicts that hold no longer than they have to: the hook is asked ahead, once
/// about each, and whoever asked gets there. What was known at the beginning need not be known at the end.
#[test]
fn many_topics_at_once() {
    let watched = Watched::begin();
    let mut table = table();
    table.authority().holds_ms = 0;
    table.authority().thinks_us = 600_000;
    let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let conn = table.connect();
    table.send(conn, request_with("POST /topics", "both", &lines(&names)));
    table.pass_ms(4_500);
    assert!(table.read(conn).body().contains("\"published\":300"));
    assert_eq!(table.authority().asked, 301);

    table.authority().thinks_us = 2_500_000;
    let topics: Vec<String> = (0..64).map(|n| format!("topic=a/{n}")).collect();
    let stream = table.connect();
    table.send(stream, request(&format!("GET /topics?{}&transport=sse", topics.join("&")), "again"));
    table.pass_ms(6_000);
    let got = table.read(stream);
    assert!(got.statuses() == [200] && !got.ended, "{}", got.text());
    assert_eq!(table.authority().asked, 301 + 65);
    let raw = table.connect();
    table.send(raw, open("/topics/a/1", "other"));
    table.pass_ms(6_000);
    assert_eq!(table.read(raw).statuses(), [101]);
    assert_eq!(table.authority().asked, 301 + 65 + 2, "who it is is not asked again");
    watched.reached(&[Mark::AskedAhead]);
}

/// `AUTH` of one and the same leaves what is read as it is, and asks nobody; somebody else has to subscribe again.
#[test]
fn auth_asks_nobody_again() {
    let mut table = table();
    let line = table.connect();
    table.say(line, open("/ws", "both"));
    assert!(table.say(line, text("SUB a/x id=1")).text().contains("OK 1"));
    let got = table.say(line, text("AUTH again id=2")).text();
    assert!(got.contains("OK 2") && !got.contains("ERR"), "{got}");
    assert_eq!(table.authority().asked, 3);
    assert!(table.say(line, text("PUB a/x id=3\nhello")).text().contains("hello"));
    let got = table.say(line, text("AUTH other id=4")).text();
    assert!(got.contains("OK 4") && got.contains("ERR - forbidden a/x may not be read any more"), "{got}");
    assert!(table.say(line, text("SUB a/x id=5")).text().contains("OK 5"));
}

fn stage() -> (Stage, corecast::mesh::Control, Authority) {
    let limits = limits();
    let Ends { links, control, questions } = corecast::mesh::join_all(1, 1, limits.ring_bytes(1));
    let stage = Stage::with_links(&limits, 4096, links);
    stage.net.borrow_mut().origin = Some(HOME);
    let authority = Authority::new(questions, stage.net.clone(), Box::new(says));
    (stage, control, authority)
}

fn pass_ms(stage: &mut Stage, authority: &mut Authority, ms: u64) {
    for _ in 0..ms.div_ceil(10) {
        stage.net.borrow_mut().advance_us(10_000);
        (0..3).for_each(|_| {
            stage.turn();
            authority.act();
        });
    }
}

/// What the hook said is forgotten at a reload, and with the grant that it was said of: whoever comes back with an equal one is asked about
/// anew. What is on its way meanwhile is asked for again.
#[test]
fn verdicts_are_forgotten() {
    let watched = Watched::begin();
    let (mut stage, mut control, mut authority) = stage();
    let publish = |stage: &mut Stage, authority: &mut Authority| {
        let conn = stage.open(1 << 16, of("POST /topics/a/TOPIC", "x", "again").as_bytes());
        pass_ms(stage, authority, 30);
        stage.text(conn)
    };
    (0..2).for_each(|_| assert!(publish(&mut stage, &mut authority).starts_with("HTTP/1.1 200 ")));
    assert_eq!(authority.asked, 2);
    assert!(control.send(0, Errand { number: 1, wish: Wanted::Set(Box::new(limits())) }, |_| {}));
    assert!(publish(&mut stage, &mut authority).starts_with("HTTP/1.1 200 "));
    assert_eq!(authority.asked, 3, "the topic");
    let revocation = [Revocation::Token("again".into())];
    assert!(control.send(0, Errand { number: 2, wish: Wanted::Revoke(revocation.into()) }, |_| {}));
    assert!(publish(&mut stage, &mut authority).starts_with("HTTP/1.1 200 "));
    assert_eq!(authority.asked, 5, "who it is, and the topic");
    authority.thinks_us = 100_000;
    let late = stage.open(1 << 16, of("POST /topics/a/TOPIC", "late", "again").as_bytes());
    pass_ms(&mut stage, &mut authority, 50);
    assert!(control.send(0, Errand { number: 3, wish: Wanted::Set(Box::new(limits())) }, |_| {}));
    pass_ms(&mut stage, &mut authority, 80);
    assert!(authority.asked == 7 && stage.text(late).is_empty(), "it is asked for again");
    pass_ms(&mut stage, &mut authority, 150);
    assert!(stage.text(late).starts_with("HTTP/1.1 200 "));
    watched.reached(&[Mark::VerdictStale]);
}

/// A hook that is silent about topics keeps those waiting who ask for them, and nobody who comes: there is always room to ask who that is.
#[test]
fn the_slow_wait_for_themselves() {
    let watched = Watched::begin();
    let (mut stage, _control, mut authority) = stage();
    let known = stage.open(1 << 16, of("POST /topics/a/TOPIC", "known", "both").as_bytes());
    pass_ms(&mut stage, &mut authority, 30);
    authority.thinks_us = u64::MAX;
    let ask = |n: usize| of("POST /topics/a/TOPIC", &n.to_string(), "both");
    let conns: Vec<ConnId> = (0..1_500).map(|n| stage.open(4096, ask(n).as_bytes())).collect();
    pass_ms(&mut stage, &mut authority, 100);
    assert_eq!(authority.asked, 2 + 512, "and the others wait in line");
    authority.thinks_us = 0;
    let comes = stage.open(1 << 16, request("GET /topics/b", "other").as_bytes());
    stage.say(known, of("POST /topics/a/TOPIC", "known", "both").as_bytes());
    pass_ms(&mut stage, &mut authority, 30);
    assert!(stage.text(comes).starts_with("HTTP/1.1 403 "), "it is known who that is");
    assert_eq!(stage.text(known).matches("HTTP/1.1 200 ").count(), 2);
    authority.hurry();
    pass_ms(&mut stage, &mut authority, 1_000);
    conns.iter().for_each(|conn| assert!(stage.text(*conn).starts_with("HTTP/1.1 200 ")));
    watched.reached(&[Mark::AsksInLine]);
}
