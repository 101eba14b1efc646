//! What an address and a second allow: who meets a limit is told when to come back, and nobody else notices; counted across shards.

use std::net::IpAddr;

use corecast::grant::{Ask, Grant, GrantLimits};
use corecast::reach::Mark;
use corecast::shard::{Asks, COME_BACK, Limits, Quotas, Refusal, Stats};
use corecast_protocol::network::Network;

use crate::authority::grant;
use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, post};
use crate::table::{Got, Table};

/// Limits with these quotas.
fn limits(quotas: Quotas) -> Limits {
    Limits { quotas, ..Limits::default() }
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().expect("an address"))
}

/// Returns after how many seconds a request that was refused may come back.
fn after_s(got: &Got, refusal: Refusal) -> u64 {
    assert_eq!(got.statuses(), [refusal.row().status.expect("a request can meet it")], "{}", got.text());
    got.header("Retry-After").first().and_then(|value| value.parse().ok()).expect("it says when")
}

/// Asks on a connection, and reads the answer.
fn answer(stage: &mut Stage, conn: ConnId) -> Got {
    let mut got = Got { bytes: Vec::new(), ended: false };
    stage.turns();
    for _ in 0..2 {
        // That it has ended is seen behind what it said.
        got.ended = stage.read(conn, usize::MAX, &mut got.bytes);
    }
    got
}

/// Of connections of one address so many stay as may be, whatever shards they are on; who is above is told so, whoever comes from
/// elsewhere is taken, and a connection that ends makes room.
#[test]
fn connections_of_an_address() {
    let marks = Watched::begin();
    let mut stage = Stage::new(3, &limits(Quotas { connections_per_address: 5, ..Quotas::default() }));
    stage.net.borrow_mut().origin = address("2001:db8:1:2::1");
    let conns: Vec<ConnId> = (0..5).map(|n| stage.open_at(n % 3, 4_096, b"")).collect();
    stage.turns();
    for shard in 0..3 {
        // Another address of the same network is the same one.
        stage.net.borrow_mut().origin = address("2001:db8:1:2::2");
        let sixth = stage.open_at(shard, 4_096, b"");
        let got = answer(&mut stage, sixth);
        assert!((5..=15).contains(&after_s(&got, Refusal::TooMany)) && got.ended, "{}", got.text());
        stage.net.borrow_mut().client_close(sixth);
    }
    stage.net.borrow_mut().origin = address("2001:db8:1:3::1");
    let other = stage.open_at(0, 4_096, b"");
    assert_eq!(answer(&mut stage, other).bytes, b"");
    stage.net.borrow_mut().client_close(conns[0]);
    stage.turns();
    stage.net.borrow_mut().origin = address("2001:db8:1:2::2");
    let next = stage.open_at(2, 4_096, b"");
    assert_eq!(answer(&mut stage, next).bytes, b"");
    let Stats { limited_connections, refused_too_many, refused, .. } = stage.stats();
    assert_eq!((limited_connections, refused_too_many, refused), (3, 3, 3));
    marks.reached(&[Mark::AddressFull]);
}

/// Who opens connections too fast is told when to come back, each a little later than the one before, and nobody else is; who floods is
/// not even told; after a while all is as before.
#[test]
fn connections_in_a_second() {
    let marks = Watched::begin();
    let mut stage = Stage::new(2, &limits(Quotas { connects_per_address: 10, ..Quotas::default() }));
    let came = stage.net.borrow().now_us();
    stage.net.borrow_mut().origin = address("192.0.2.1");
    let conns: Vec<ConnId> = (0..300).map(|n| stage.open_at(n % 2, 4_096, b"")).collect();
    stage.turns();
    let gots: Vec<Got> = conns.into_iter().map(|conn| answer(&mut stage, conn)).collect();
    let taken = gots.iter().filter(|got| !got.ended).count();
    let told: Vec<u64> =
        gots.iter().filter(|got| !got.bytes.is_empty()).map(|got| after_s(got, Refusal::TooFast)).collect();
    assert_eq!(taken, 10, "a second's worth");
    assert_eq!(told.len(), 100, "of 290 that were refused");
    assert!(
        (1..=2).contains(told.iter().min().expect("some")) && told.iter().all(|after_s| *after_s <= 30),
        "{told:?}"
    );
    assert!(told.iter().max() >= Some(&10), "100 more come over ten seconds: {told:?}");
    assert!(stage.net.borrow().now_us() < came + 1_000_000, "all of that within a second");
    stage.net.borrow_mut().origin = address("192.0.2.2");
    let other = stage.open_at(0, 4_096, b"");
    assert!(!answer(&mut stage, other).ended, "an innocent");
    stage.net.borrow_mut().origin = address("192.0.2.1");
    stage.pass_ms(3_000);
    let again = stage.open_at(0, 4_096, b"");
    assert!(!answer(&mut stage, again).ended, "a second later");
    let Stats { limited_connects, refused_too_fast, connections, .. } = stage.stats();
    assert_eq!((limited_connects, refused_too_fast), (290, 290));
    assert_eq!(connections, 12, "who is refused leaves nothing behind");
    marks.reached(&[Mark::ConnectsTooFast]);
}

/// Connections of all addresses together have a rate, too, and those who are refused are spread over the seconds to come.
#[test]
fn connections_of_all() {
    let mut stage = Stage::new(2, &limits(Quotas { connects: 20, ..Quotas::default() }));
    let conns: Vec<ConnId> = (0..120).map(|n| stage.open_at(n % 2, 4_096, b"")).collect();
    stage.turns();
    let gots: Vec<Got> = conns.into_iter().map(|conn| answer(&mut stage, conn)).collect();
    let refused: Vec<u64> = gots.iter().filter(|got| got.ended).map(|got| after_s(got, Refusal::TooFast)).collect();
    assert_eq!(refused.len(), 100, "20 stay, and nobody is cut off");
    for second in 2..5 {
        let count = refused.iter().filter(|after_s| **after_s == second).count();
        assert!((15..=25).contains(&count), "{count} come back in second {second}: {refused:?}");
    }
}

/// Loopback addresses are held to nothing that holds for an address, unless that is wanted.
#[test]
fn loopback_is_exempt() {
    for loopback in [false, true] {
        let quotas = Quotas { connections_per_address: 2, connects_per_address: 5, loopback, ..Quotas::default() };
        let mut stage = Stage::new(1, &limits(quotas));
        stage.net.borrow_mut().origin = address("127.0.0.1");
        for _ in 0..20 {
            stage.open(4_096, b"");
        }
        stage.turns();
        let Stats { limited_connections, limited_connects, .. } = stage.stats();
        assert_eq!((limited_connections, limited_connects), if loopback { (3, 15) } else { (0, 0) });
    }
}

/// Subscriptions of an address are counted over its connections on all shards: one too many is refused, those that end make room, one
/// that is begun anew counts once, and so does a connection with many that ends.
#[test]
fn subscriptions_of_an_address() {
    let mut stage = Stage::new(2, &limits(Quotas { subscriptions_per_address: 100, ..Quotas::default() }));
    stage.net.borrow_mut().origin = address("192.0.2.1");
    let (one, other) = (stage.upgrade_at(0, 1 << 16, "/ws"), stage.upgrade_at(1, 1 << 16, "/ws"));
    for n in 0..60 {
        stage.say_text(one, format!("SUB a{n}").as_bytes());
        stage.say_text(other, format!("SUB b{n} id=b{n}").as_bytes());
        stage.turns();
    }
    stage.say_text(one, b"SUB a0 since=live");
    stage.turns();
    let refused = stage.text(other);
    assert_eq!(refused.matches("ERR b").count(), 10, "{refused}");
    assert_eq!(stage.text(one).matches("ERR - too-many ").count(), 10);
    assert!(refused.contains("ERR b59 too-many ") && refused.contains(COME_BACK), "{refused}");
    stage.say_text(other, b"UNSUB b0");
    stage.say_text(other, b"SUB b59 id=x");
    stage.turns();
    assert!(stage.text(other).contains("OK x"));
    stage.net.borrow_mut().client_close(one);
    stage.turns();
    for n in 100..150 {
        stage.say_text(other, format!("SUB b{n} id=b{n}").as_bytes());
        stage.turns();
    }
    assert!(!stage.text(other).contains("ERR"), "there is room for 50");
    stage.net.borrow_mut().client_close(other);
    stage.turns();
    let Stats { limited_subscriptions, subscriptions, .. } = stage.stats();
    assert_eq!((limited_subscriptions, subscriptions), (20, 0));
    assert_eq!(stage.berths[0].0.counted(), 0, "nothing is counted any more");
}

/// Who publishes too fast is told so in the form of its session, and when there is room again; others go on, and so does it, then.
#[test]
fn publishes_in_a_second() {
    let marks = Watched::begin();
    let mut table = Table::new(limits(Quotas { publishes: 3, ..Quotas::default() }));
    let (line, raw, http) = (table.connect(), table.connect(), table.connect());
    table.say(line, upgrade("/ws"));
    table.say(raw, upgrade("/topics/a"));
    for n in 0..3 {
        table.say(raw, text("x"));
        assert!(table.say(line, text(&format!("PUB a id=p{n}\nx"))).text().contains(&format!("OK p{n} ")));
        assert_eq!(table.say(http, post("a", "x")).statuses(), [200]);
    }
    let got = table.say(line, text("PUB a id=p3\nx")).text();
    assert!(got.contains(&format!("ERR p3 rate too much in too short a time{COME_BACK}1s")), "{got}");
    assert_eq!(after_s(&table.say(http, post("a", "x")), Refusal::TooFast), 1);
    let got = table.say(raw, text("x"));
    assert!(got.text().ends_with(&format!("{COME_BACK}1s")), "{}", got.text());
    let sum = *table.shard().stats();
    assert_eq!((sum.limited_publishes, sum.refused_too_fast, sum.published), (3, 3, 9));
    table.pass_ms(1_000);
    assert!(table.say(line, text("PUB a id=p4\nx")).text().contains("OK p4 "));
    assert_eq!(table.say(http, post("a", "x")).statuses(), [200]);
    marks.reached(&[Mark::PublishesTooFast]);
}

/// Bytes have a rate of their own: one message that is larger than a second's worth is taken, and paid for afterwards.
#[test]
fn bytes_in_a_second() {
    let mut table = Table::new(limits(Quotas { bytes: 1_000, ..Quotas::default() }));
    let conn = table.connect();
    assert_eq!(table.say(conn, post("a", &"x".repeat(5_000))).statuses(), [200]);
    let wait_s = after_s(&table.say(conn, post("a", "x")), Refusal::TooFast);
    assert!((4..=5).contains(&wait_s), "{wait_s}");
    table.pass_ms(wait_s * 1_000);
    assert_eq!(table.say(conn, post("a", "x")).statuses(), [200]);
}

/// An address has a rate for all of its connections, on all shards.
#[test]
fn publishes_of_an_address() {
    let mut stage = Stage::new(2, &limits(Quotas { publishes_per_address: 10, ..Quotas::default() }));
    stage.net.borrow_mut().origin = address("192.0.2.1");
    let conns: Vec<ConnId> = (0..20).map(|n| stage.open_at(n % 2, 4_096, post("a", "x").as_bytes())).collect();
    stage.turns();
    let answers: Vec<String> = conns.into_iter().map(|conn| stage.text(conn)).collect();
    let count = |status: &str| answers.iter().filter(|answer| answer.starts_with(status)).count();
    assert_eq!((count("HTTP/1.1 200 "), count("HTTP/1.1 429 ")), (10, 10));
    stage.net.borrow_mut().origin = address("192.0.2.2");
    assert!(stage.publish("a", "an innocent's"));
}

/// A batch is taken whole or not at all: nothing of one that is refused is published, and it is told when it may come.
#[test]
fn batches_are_paid_for_whole() {
    let mut table = Table::new(limits(Quotas { publishes: 5, ..Quotas::default() }));
    let batch = |lines: usize| {
        let body: String = (0..lines).map(|n| format!("{{\"topic\":\"a\",\"data\":\"{n}\"}}\n")).collect();
        let words = "POST /topics HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n";
        format!("{words}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    let conn = table.connect();
    assert_eq!(table.say(conn, batch(4)).body(), "{\"published\":4}");
    let got = table.say(conn, batch(4));
    assert_eq!(after_s(&got, Refusal::TooFast), 1);
    assert!(!got.body().contains("published"), "{}", got.body());
    assert_eq!(table.shard().stats().published, 4);
    table.pass_ms(1_000);
    assert_eq!(table.say(conn, batch(4)).body(), "{\"published\":4}");
    table.pass_ms(1_000);
    assert_eq!(
        table.say(conn, batch(20)).body(),
        "{\"published\":20}",
        "more than a second's worth into an empty bucket"
    );
    assert!((3..=4).contains(&after_s(&table.say(conn, batch(1)), Refusal::TooFast)));
}

/// Topics have a rate: it is their making that costs, by publishing or subscribing, and not their use.
#[test]
fn topics_in_a_second() {
    let mut table = Table::new(limits(Quotas { topics: 3, ..Quotas::default() }));
    let line = table.connect();
    table.say(line, upgrade("/ws"));
    let say = |table: &mut Table, command: &str| table.say(line, text(command)).text();
    assert!(say(&mut table, "PUB a id=1\nx").contains("OK 1"));
    assert!(say(&mut table, "SUB b id=2").contains("OK 2"));
    assert!(say(&mut table, "PUB c id=3\nx").contains("OK 3"));
    for (n, topic) in (4..14).zip(["a", "b", "c"].into_iter().cycle()) {
        assert!(say(&mut table, &format!("PUB {topic} id={n}\nx")).contains(&format!("OK {n}")));
    }
    assert!(say(&mut table, "PUB d id=d\nx").contains("ERR d rate"));
    assert!(say(&mut table, "SUB e id=e").contains("ERR e rate"));
    assert_eq!(table.shard().stats().limited_topics, 2);
    table.pass_ms(1_000);
    assert!(say(&mut table, "SUB e id=f").contains("OK f"));
}

/// Behind a trusted proxy it is the client that counts, from request to request, and the proxy itself is held to nothing: a client too
/// many is refused, and a connection that is another client's from now on makes room.
#[test]
fn clients_of_a_proxy() {
    let quotas = Quotas { connections_per_address: 2, connects_per_address: 1, ..Quotas::default() };
    let trusted_proxies = vec![Network::parse("10.0.0.0/8").expect("a network")];
    let mut stage = Stage::new(2, &Limits { trusted_proxies, insecure: true, ..limits(quotas) });
    stage.net.borrow_mut().origin = address("10.0.0.1");
    let conns: Vec<ConnId> = (0..5).map(|n| stage.open_at(n % 2, 4_096, b"")).collect();
    stage.turns();
    let mut status = |conn: usize, client: &str| {
        let request = format!("GET /topics/a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n\r\n");
        stage.say(conns[conn], request.as_bytes());
        answer(&mut stage, conns[conn]).statuses()
    };
    assert_eq!(status(0, "192.0.2.1"), [200]);
    assert_eq!(status(1, "192.0.2.1"), [200]);
    assert_eq!(status(2, "192.0.2.1"), [429], "a third of the same client");
    assert_eq!(status(1, "192.0.2.2"), [200], "and it is another's");
    assert_eq!(status(3, "192.0.2.1"), [200]);
    assert_eq!(status(1, "192.0.2.1"), [429]);
    assert_eq!(status(4, "192.0.2.3"), [200]);
    assert_eq!(stage.berths[0].0.counted(), 3, "those that were refused are gone");
    conns.iter().for_each(|conn| stage.net.borrow_mut().client_close(*conn));
    stage.turns();
    assert_eq!((stage.berths[0].0.counted(), stage.stats().limited_connections), (0, 2));
}

/// A grant's own rate holds for all connections of its subject together, instead of that of the settings, which holds for others.
#[test]
fn publishes_of_a_subject() {
    let says = |ask: &Ask, _| {
        let (Ask::Token(name) | Ask::Key(name)) = ask else { panic!("nothing else is asked: {ask:?}") };
        let limits = GrantLimits { publish_rate: (&**name == "slow").then_some(3), ..GrantLimits::default() };
        Ok(Grant { limits, ..grant(name, &["#"], &["#"]) })
    };
    let asks = Asks { tokens: true, ..Asks::default() };
    let quotas = Quotas { publishes: 5, ..Quotas::default() };
    let mut table = Table::with_authority(Limits { asks, ..limits(quotas) }, Box::new(says));
    let mut published = |token: &str, times: usize| {
        let line = format!("HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        let request = post("a", "x").replacen("HTTP/1.1\r\n", &line, 1);
        (0..times).filter(|_| table.ask(&request).statuses() == [200]).count()
    };
    assert_eq!(published("slow", 6), 3, "each on a connection of its own");
    assert_eq!(published("quick", 6), 6, "who has no rate of its own has that of each connection");
}
