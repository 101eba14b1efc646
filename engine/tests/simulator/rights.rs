//! Who may what: every transport, every way to show who one is, every right; and what becomes of those whose right ends.

use corecast::grant::{Ask, Denial, Grant, Who};
use corecast::mesh::Ends;
use corecast::reach::Mark;
use corecast::shard::{Answer, Asks, Errand, Limits, Refusal, Rule, Rules, Said, Terms, Wanted};

use crate::authority::{Authority, grant};
use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::Stage;
use crate::table::{Got, Table};

/// Limits of an engine that takes tokens and keys, on a listener that others reach.
fn limits() -> Limits {
    let asks = Asks { tokens: true, keys: true, cookie: Some("access".to_owned()), ..Asks::default() };
    Limits { asks, open: vec![false], memory_bytes: 64 << 20, ..Limits::default() }
}

/// What the authority of these scenes says: tokens and keys have names that say what they give, and when they end.
fn says(ask: &Ask, now_s: u64) -> Result<Grant, Denial> {
    let (Ask::Token(name) | Ask::Key(name)) = ask else { panic!("nothing else is asked: {ask:?}") };
    Ok(match &**name {
        "reader" => grant("r", &[], &["a/#"]),
        "writer" => grant("w", &["a/#"], &[]),
        "both" => grant("b", &["a/#"], &["a/#"]),
        "other" => grant("o", &["b/#"], &["b/#"]),
        "nothing" => grant("n", &[], &[]),
        "short" => Grant { expires_s: now_s + 3, ..grant("s", &["a/#"], &["a/#", "b"]) },
        "longer" => Grant { expires_s: now_s + 30, ..grant("s", &["a/#"], &["a/#"]) },
        "over" => Grant { expires_s: now_s, ..grant("s", &["a/#"], &["a/#"]) },
        "slow" => return Err(Denial::Unavailable("the hook does not answer")),
        "banned" => return Err(Denial::Forbidden("not from there")),
        name if name.starts_with("user-") => {
            let id = &name["user-".len()..];
            Grant { token_id: id.into(), issued_s: 1, ..grant(id, &["a/#"], &["a/#"]) }
        }
        _ => return Err(Denial::Invalid("the signature is not that of any key")),
    })
}

fn table() -> Table {
    Table::with_authority(limits(), Box::new(says))
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Publish,
    Read,
}

/// Ways to do it: as a request, or over a WebSocket.
const REQUESTS: [(&str, Act); 11] = [
    ("POST /topics/a/x", Act::Publish),
    ("POST /topics", Act::Publish),
    ("DELETE /topics/a/x", Act::Publish),
    ("GET /topics/a/x", Act::Read),
    ("GET /topics/a/x?transport=value", Act::Read),
    ("GET /topics/a/x?transport=long-poll", Act::Read),
    ("GET /topics?topic=a/x&topic=a/y&transport=jsonp", Act::Read),
    ("GET /topics/a/x?transport=sse", Act::Read),
    ("GET /topics/a/x?transport=stream", Act::Read),
    ("GET /topics?topic=a/x&topic=a/y&transport=multipart", Act::Read),
    ("GET /topics/a/x?transport=forever-frame", Act::Read),
];

/// Shows the token or key of this name: what stands in the target, and what in a header line.
type Shows = fn(&str) -> (String, String);

/// Ways to show one.
const WAYS: [(&str, Shows); 7] = [
    ("bearer", |name| (String::new(), format!("Authorization: Bearer {name}\r\n"))),
    ("api key", |name| (String::new(), format!("Authorization: ApiKey {name}\r\n"))),
    ("basic", |name| {
        (String::new(), format!("Authorization: Basic {}\r\n", crate::base64::base64(format!("u:{name}").as_bytes())))
    }),
    ("key", |name| (String::new(), format!("Corecast-Key: {name}\r\n"))),
    ("query", |name| (format!("token={name}"), String::new())),
    ("cookie", |name| (String::new(), format!("Cookie: x=y; access={name}\r\n"))),
    ("subprotocol", |name| (String::new(), format!("Sec-WebSocket-Protocol: x, bearer.{name}\r\n"))),
];

/// Whom a name stands for, and what becomes of it when it publishes and when it reads.
const WHOM: [(&str, Option<Refusal>, Option<Refusal>); 10] = [
    ("reader", Some(Refusal::Forbidden), None),
    ("writer", None, Some(Refusal::Forbidden)),
    ("both", None, None),
    ("other", Some(Refusal::Forbidden), Some(Refusal::Forbidden)),
    ("nothing", Some(Refusal::Forbidden), Some(Refusal::Forbidden)),
    ("over", Some(Refusal::Expired), Some(Refusal::Expired)),
    ("forged", Some(Refusal::InvalidToken), Some(Refusal::InvalidToken)),
    ("slow", Some(Refusal::Unavailable), Some(Refusal::Unavailable)),
    ("banned", Some(Refusal::Forbidden), Some(Refusal::Forbidden)),
    ("", Some(Refusal::Unauthorized), Some(Refusal::Unauthorized)),
];

fn becomes(whom: (&str, Option<Refusal>, Option<Refusal>), act: Act) -> Option<Refusal> {
    if act == Act::Publish { whom.1 } else { whom.2 }
}

fn request(words: &str, (query, line): &(String, String)) -> String {
    let joint = if words.contains('?') { "&" } else { "?" };
    let target = if query.is_empty() { words.to_owned() } else { format!("{words}{joint}{query}") };
    let body = match words {
        "POST /topics" => "{\"topic\":\"a/x\",\"data\":\"hello\"}\n{\"topic\":\"a/y\",\"data\":\"hello\"}",
        words if words.starts_with("POST") => "hello",
        _ => "",
    };
    let kind = if words == "POST /topics" { "Content-Type: application/x-ndjson\r\n" } else { "" };
    format!("{target} HTTP/1.1\r\nHost: h\r\n{line}{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn refused_with(got: &Got, refusal: Refusal, what: &str) {
    let row = refusal.row();
    assert_eq!(got.statuses(), [row.status.expect("a request can meet it")], "{what}: {}", got.text());
    for (name, value) in row.headers {
        assert_eq!(got.header(name), [*value], "{what}: {}", got.text());
    }
}

/// Every cell of transport, way to show who one is, and right, of requests: whoever may, does; whoever may not is told why, with the
/// status and the challenge that belong to it, and nothing is published or sent.
#[test]
fn cells_of_requests() {
    let mut table = table();
    table.ask(request("POST /topics/a/x", &(WAYS[0].1)("both")));
    for whom in WHOM {
        for (way, show) in WAYS {
            for (words, act) in REQUESTS {
                let shown = if whom.0.is_empty() { (String::new(), String::new()) } else { show(whom.0) };
                let what = format!("{words} with {way} of {:?}", whom.0);
                let conn = table.connect();
                let got = table.say(conn, request(words, &shown));
                table.reset(conn);
                match becomes(whom, act) {
                    Some(refusal) => {
                        refused_with(&got, refusal, &what);
                        assert!(!got.text().contains("hello"), "{what}: {}", got.text());
                    }
                    // Somebody else may have deleted what there was to read; a long poll waits for the next.
                    None => assert!(
                        got.statuses().iter().all(|status| matches!(status, 200 | 404)),
                        "{what}: {}",
                        got.text()
                    ),
                }
                assert!(whom.0.len() < 4 || !got.text().contains(&format!("{}&", whom.0)), "{what} is told back");
            }
        }
    }
}

/// The same of WebSockets: raw ones are refused before they begin, or closed with 1008; commands are answered, and the connection
/// goes on.
#[test]
fn cells_of_websockets() {
    let mut table = table();
    for whom in WHOM {
        for (way, show) in WAYS {
            let shown = if whom.0.is_empty() { (String::new(), String::new()) } else { show(whom.0) };
            let what = format!("{way} of {:?}", whom.0);
            let open = |path: &str| {
                let target = if shown.0.is_empty() { path.to_owned() } else { format!("{path}?{}", shown.0) };
                upgrade(&target).replacen("\r\n\r\n", &format!("\r\n{}\r\n", shown.1), 1)
            };
            let believed = !matches!(
                becomes(whom, Act::Read),
                Some(Refusal::InvalidToken | Refusal::Unavailable | Refusal::Expired)
            ) && whom.0 != "banned";

            let raw = table.connect();
            let got = table.say(raw, open("/topics/a/x"));
            match becomes(whom, Act::Read) {
                Some(refusal) => refused_with(&got, refusal, &what),
                None => {
                    assert_eq!(got.statuses(), [101], "{what}: {}", got.text());
                    let got = table.say(raw, text("hello"));
                    match becomes(whom, Act::Publish) {
                        Some(refusal) => assert!(got.text().contains(refusal.row().text), "{what}: {}", got.text()),
                        None => assert!(got.text().contains("hello"), "{what}: {}", got.text()),
                    }
                }
            }

            let line = table.connect();
            let got = table.say(line, open("/ws"));
            if !believed {
                refused_with(&got, becomes(whom, Act::Read).expect("it is not believed"), &what);
                continue;
            }
            assert_eq!(got.statuses(), [101], "{what}: {}", got.text());
            if way == "subprotocol" && !whom.0.is_empty() {
                assert_eq!(got.header("sec-websocket-protocol"), [format!("bearer.{}", whom.0)]);
            }
            for (command, act) in [("SUB a/x id=1", Act::Read), ("PUB a/x id=1\nhello", Act::Publish)] {
                let got = table.say(line, text(command));
                let expected = match becomes(whom, act) {
                    Some(refusal) => {
                        let row = refusal.row();
                        format!("ERR 1 {} {}", row.err.expect("a command can meet it").as_str(), row.text)
                    }
                    None => "OK 1 ".to_owned(),
                };
                assert!(got.text().contains(&expected) && !got.ended, "{what} {command}: {}", got.text());
            }
        }
    }
}

/// `AUTH` says who one is, on a connection that was nobody's: then its commands are done; what is not believed is told, and what was
/// given before goes on. What is sent ahead waits in order.
#[test]
fn auth_on_the_line() {
    let mut table = table();
    table.authority().thinks_us = 50_000;
    let line = table.connect();
    table.say(line, upgrade("/ws"));
    for command in ["AUTH both id=1", "SUB a/x id=2", "PUB a/x id=3\nhello", "SUB b id=4"] {
        table.send(line, text(command));
    }
    assert!(!table.read(line).text().contains("OK"), "it thinks");
    table.pass_ms(50);
    let got = table.read(line).text();
    let order = ["OK 1", "OK 2", "OK 3", "ERR 4 forbidden", "hello"].map(|part| got.find(part).expect(part));
    assert!(order[0] < order[1] && order[1] < order[2] && order[0] < order[3], "{got}");
    table.send(line, text("AUTH forged id=5"));
    table.pass_ms(60);
    let got = table.read(line).text();
    assert!(got.contains("ERR 5 unauthorized the signature is not that of any key"), "{got}");
    assert!(table.say(line, text("PUB a/x id=6\nhello")).text().contains("OK 6"));
    table.send(line, text("AUTH both key id=7"));
    table.pass_ms(60);
    assert!(table.read(line).text().contains("OK 7"), "keys are taken, too");
}

/// A pattern may be read by whoever may read all that it may match, by what the grant gives and what rules say of any part of it; and what a
/// later grant does not give ends.
#[test]
fn patterns_need_all_that_they_match() {
    let rule = |pattern: &str, who| Rule {
        pattern: pattern.into(),
        terms: Terms { subscribe: Some(who), ..Terms::default() },
    };
    let rules =
        [rule("a/secret/#", Who::Nobody), rule("open/#", Who::Anyone), rule("open/some", Who::Granted)].to_vec();
    let limits = Limits { rules: Rules::new(rules).expect("sound rules"), ..limits() };
    let mut table = Table::with_authority(limits, Box::new(says));
    let line = table.connect();
    table.say(line, upgrade("/ws"));
    table.say(line, text("AUTH reader id=1"));
    let rows = [
        ("a/b/+", true),
        ("a/b/#", true),
        ("a/+/y", false),
        ("a/+", false),
        ("a/#", false),
        ("#", false),
        ("+/b", false),
        ("b/#", false),
        ("open/x/#", true),
        ("open/#", false),
        ("open/+", false),
        ("$sys/#", false),
        ("$sys/occupancy/a/b/#", true),
        ("$sys/occupancy/#", false),
    ];
    for (pattern, may) in rows {
        let got = table.say(line, text(&format!("SUB {pattern} id=s"))).text();
        assert_eq!((got.contains("OK s"), got.contains("ERR s forbidden")), (may, !may), "{pattern}: {got}");
        let (path, shown) =
            (pattern.replace('/', "%2F").replace('+', "%2B").replace('#', "%23"), (WAYS[0].1)("reader"));
        let got = table.ask(request(&format!("GET /topics/{path}?transport=sse"), &shown));
        assert_eq!(got.statuses()[0], if may { 200 } else { 403 }, "{pattern}: {}", got.text());
    }
    let got = table.say(line, text("AUTH other id=2")).text();
    for pattern in ["a/b/+", "a/b/#", "$sys/occupancy/a/b/#"] {
        assert!(got.contains(&format!("ERR - forbidden {pattern} may not be read any more")), "{pattern}: {got}");
    }
    assert!(got.contains("OK 2") && !got.contains("open/x"), "{got}");
}

/// A grant is that of a request, not of its connection: what is sent behind it without a token, as a proxy does that serves many
/// users on one connection, is nobody's.
#[test]
fn requests_do_not_share_a_grant() {
    let mut table = table();
    let conn = table.connect();
    let (with, without) = ((WAYS[0].1)("both"), (String::new(), String::new()));
    let all = [&with, &without, &with].map(|shown| request("POST /topics/a/x", shown)).concat();
    assert_eq!(table.say(conn, all).statuses(), [200, 401, 200]);
}

/// Requests that are sent ahead wait for the verdict to the first, and are answered in order; other connections go on meanwhile. A peer
/// that goes while it waits is found, and one that has ended its direction gets its answer.
#[test]
fn whoever_waits_holds_up_nobody_else() {
    let mut table = table();
    table.authority().thinks_us = 2_000_000;
    let known = (WAYS[0].1)("both");
    let first = table.connect();
    table.send(
        first,
        [request("POST /topics/a/x", &known), request("GET /topics/a/x", &(WAYS[0].1)("reader"))].concat(),
    );
    let (gone, half) = (table.connect(), table.connect());
    table.send(gone, request("GET /topics/a/x", &(WAYS[0].1)("other")));
    table.send(half, request("GET /topics/a/x", &known));
    table.pass_ms(10);
    table.end(half);
    table.reset(gone);
    assert_eq!(table.get("GET /topics/a/x", "").statuses(), [401], "nobody else waits");
    table.pass_ms(10);
    assert_eq!(table.shard().stats().connections, 3, "who is gone is found");
    table.pass_ms(2_100);
    let answered = table.read(half);
    assert!(answered.statuses() == [200] && answered.ended, "{}", answered.text());
    table.pass_ms(2_100);
    assert_eq!(table.read(first).statuses(), [200, 200]);
}

/// The same is asked once, however many show it at once, and not again while the verdict holds: a flood of one forged token costs one
/// question.
#[test]
fn the_same_is_asked_once() {
    let watched = Watched::begin();
    let mut table = table();
    table.authority().thinks_us = 100_000;
    let conns: Vec<ConnId> = (0..50).map(|_| table.connect()).collect();
    let forged = request("GET /topics/a/x", &(WAYS[0].1)("forged"));
    conns.iter().for_each(|conn| table.send(*conn, &forged));
    table.pass_ms(200);
    for conn in conns {
        refused_with(&table.read(conn), Refusal::InvalidToken, "forged");
    }
    (0..50).for_each(|_| refused_with(&table.ask(&forged), Refusal::InvalidToken, "forged"));
    assert_eq!((table.authority().asked, table.shard().stats().questions), (1, 1));
    watched.reached(&[Mark::VerdictShared]);
}

/// An authority that is silent: whoever waits is told in time that nobody can say, more than there is room to ask for wait in line, and
/// all goes on when it speaks again.
#[test]
fn a_silent_authority() {
    const CLIENTS: usize = 1500;
    let watched = Watched::begin();
    let (mut stage, control, mut authority) = stage(1);
    drop(control);
    authority.thinks_us = u64::MAX;
    let ask = |n: usize| request("GET /topics/a/x", &(WAYS[0].1)(&format!("user-{n}")));
    let conns: Vec<ConnId> = (0..CLIENTS).map(|n| stage.open(4096, ask(n).as_bytes())).collect();
    pass_ms(&mut stage, &mut authority, 4_000);
    assert!(conns.iter().all(|conn| stage.text(*conn).is_empty()));
    pass_ms(&mut stage, &mut authority, 2_000);
    for conn in &conns {
        let got = stage.text(*conn);
        assert!(got.starts_with("HTTP/1.1 503 ") && got.contains("Retry-After: "), "{got}");
    }
    assert_eq!(authority.asked, 1024, "and no more until it answers");
    authority.hurry();
    // On the same connections: their requests were answered, and others may follow.
    conns.iter().enumerate().for_each(|(n, conn)| stage.say(*conn, ask(n).as_bytes()));
    pass_ms(&mut stage, &mut authority, 2_000);
    for conn in conns {
        let got = stage.text(conn);
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
    }
    watched.reached(&[Mark::AsksInLine, Mark::VerdictLate]);
}

/// Whoever reads by a grant that ends is told so, by name, at that time: a WebSocket with its close code, a stream with its event, a
/// poll with its status. Who shows a fresh token before goes on.
#[test]
fn grants_end() {
    let watched = Watched::begin();
    let mut table = table();
    let show = |words: &str| request(words, &(WAYS[0].1)("short"));
    let open = |path: &str| upgrade(path).replacen("\r\n\r\n", "\r\nAuthorization: Bearer short\r\n\r\n", 1);
    let heads = [
        open("/topics/a/x"),
        open("/ws"),
        show("GET /topics/a/x?transport=sse"),
        show("GET /topics/a/x?transport=stream"),
        show("GET /topics/a/x?transport=long-poll&wait=60&since=live"),
        open("/ws"),
    ];
    let conns = heads.map(|head| (table.connect(), head)).map(|(conn, head)| {
        let got = table.say(conn, head);
        assert!(matches!(got.statuses()[..], [101 | 200] | []) && !got.ended, "{}", got.text());
        conn
    });
    table.say(conns[5], text("SUB a/x id=1"));
    table.say(conns[5], text("SUB b id=2"));
    table.pass_ms(1_500);
    let got = table.say(conns[5], text("AUTH longer id=3")).text();
    // The new one gives less: what is not its own ends.
    assert!(got.contains("OK 3") && got.contains("ERR - forbidden b may not be read any more"), "{got}");
    for conn in conns {
        assert!(!table.read(conn).ended, "it has not ended yet");
    }
    table.pass_ms(2_500);
    let name = Refusal::Expired.row().name;
    let gots = conns.map(|conn| table.read(conn));
    let words = Refusal::Expired.row().text;
    assert!(gots[0].text().contains(words) && gots[0].bytes.windows(4).any(|w| w[0] == 0x88 && w[2..] == [3, 240]));
    assert!(gots[1].text().contains(&format!("BYE 1008 {words}")), "{}", gots[1].text());
    for got in &gots[2..4] {
        assert!(got.ended && got.text().contains(&format!("\"name\":\"{name}\"")), "{}", got.text());
    }
    refused_with(&gots[4], Refusal::Expired, "a long poll");
    assert!(!gots[5].ended && table.say(conns[5], text("PUB a/x id=9\nhello")).text().contains("OK 9"));
    assert!(!table.say(conns[5], text("PING")).text().contains("MSG b"));
    refused_with(&table.ask(show("GET /topics/a/x")), Refusal::Expired, "shown again");
    watched.reached(&[Mark::GrantExpired, Mark::RightLost]);
}

/// Several topics: the first that may not be read is named, and nothing of the others is sent. A batch: the first line that may not be
/// published is named, and none of the others is.
#[test]
fn all_or_nothing() {
    let mut table = table();
    let both = (WAYS[0].1)("both");
    table.ask(request("POST /topics/a/x", &both));
    for transport in ["poll", "long-poll", "jsonp", "sse", "stream", "multipart", "forever-frame"] {
        let words = format!("GET /topics?topic=a/x&topic=b/%22&topic=c&transport={transport}");
        let got = table.ask(request(&words, &both));
        refused_with(&got, Refusal::Forbidden, transport);
        assert!(got.body().contains(r#""topic":"b/\""}"#) && !got.text().contains("hello"), "{}", got.text());
    }
    let batch = "{\"topic\":\"a/y\",\"data\":\"one\"}\n\n{\"topic\":\"b\",\"data\":\"two\"}\n{\"topic\":\"a/y\",\"data\":\"three\"}";
    let head =
        "POST /topics HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer both\r\nContent-Type: application/x-ndjson\r\n";
    let got = table.ask(format!("{head}Content-Length: {}\r\n\r\n{batch}", batch.len()));
    refused_with(&got, Refusal::Forbidden, "a batch");
    assert!(got.body().contains("line 2: "), "{}", got.text());
    assert_eq!(table.ask(request("GET /topics/a/y?since=earliest", &both)).body(), "[]");
}

/// A publication that depends on a condition needs the right to publish, not to read.
#[test]
fn conditions_need_no_right_to_read() {
    let mut table = table();
    let (query, line) = (WAYS[0].1)("writer");
    let got = table.ask(request("POST /topics/a/x", &(query.clone(), format!("{line}If-None-Match: *\r\n"))));
    assert_eq!(got.statuses(), [200], "{}", got.text());
    let reader = (WAYS[0].1)("reader").1;
    let got = table.ask(request("POST /topics/a/x", &(query, format!("{reader}If-None-Match: *\r\n"))));
    refused_with(&got, Refusal::Forbidden, "a reader");
}

/// Where nothing is configured, credentials are not looked at: on an open listener everybody may everything, with or without, and on
/// others nobody may anything.
#[test]
fn defaults() {
    for (open, expected) in [(vec![true], 200), (vec![true, false], 200), (vec![false, true], 401), (vec![], 401)] {
        let mut table = Table::new(Limits { open: open.clone(), ..Limits::default() });
        for shown in [(WAYS[0].1)("forged"), (String::new(), String::new())] {
            for words in ["POST /topics/a/x", "GET /topics/a/x", "GET /topics/a/x?transport=sse"] {
                assert_eq!(table.ask(request(words, &shown)).statuses(), [expected], "{open:?} {words}");
            }
        }
        assert_eq!(table.get("GET /", "").statuses(), [200], "the page is no secret");
        assert_eq!(table.get("OPTIONS /topics/a/x", "").statuses(), [204]);
    }
}

fn stage(shards: usize) -> (Stage, corecast::mesh::Control, Authority) {
    let limits = limits();
    let Ends { links, control, questions } = corecast::mesh::join_all(shards, shards, limits.ring_bytes(1));
    let stage = Stage::with_links(&limits, 4096, links);
    let authority = Authority::new(questions, stage.net.clone(), Box::new(says));
    (stage, control, authority)
}

/// Lets so much time pass, a hundredth of a second at a time.
fn pass_ms(stage: &mut Stage, authority: &mut Authority, ms: u64) {
    for _ in 0..ms.div_ceil(10) {
        stage.net.borrow_mut().advance_us(10_000);
        (0..3).for_each(|_| {
            stage.turn();
            authority.act();
        });
    }
}

/// Revocations end connections of all transports on all shards, by name, and forget verdicts: whoever shows the token again asks anew.
/// Others go on. A verdict that was on its way is not believed, but asked for again.
#[test]
fn revocations() {
    let watched = Watched::begin();
    let (mut stage, mut control, mut authority) = stage(3);
    let mut conns = Vec::new();
    for user in ["1", "2"] {
        for shard in 0..3 {
            let bearer = (String::new(), format!("Authorization: Bearer user-{user}\r\n"));
            for head in [
                upgrade("/topics/a/x").replacen("\r\n\r\n", &format!("\r\n{}\r\n", bearer.1), 1),
                upgrade("/ws").replacen("\r\n\r\n", &format!("\r\n{}\r\n", bearer.1), 1),
                request("GET /topics/a/x?transport=sse", &bearer),
                request("GET /topics/a/x?transport=long-poll&since=live", &bearer),
            ] {
                conns.push((user, stage.open_at(shard, 1 << 16, head.as_bytes())));
            }
        }
    }
    pass_ms(&mut stage, &mut authority, 100);
    let asked = authority.asked;
    assert_eq!(asked, 6, "each shard asks for itself, once for each token");
    conns.iter().for_each(|(_, conn)| drop(stage.text(*conn)));

    // A verdict on its way while the revocation comes.
    authority.thinks_us = 500_000;
    let late = stage.open_at(0, 1 << 16, request("GET /topics/a/x", &(WAYS[0].1)("user-3")).as_bytes());
    pass_ms(&mut stage, &mut authority, 100);
    for shard in 0..3 {
        let revocations = [corecast::grant::Revocation::Token("1".into())].into();
        let sent = control.send(shard, Errand { number: 7, wish: Wanted::Revoke(revocations) }, |_| {});
        assert!(sent);
    }
    pass_ms(&mut stage, &mut authority, 100);
    for shard in 0..3 {
        let Some(Answer { said: Said::Revoked(ended), .. }) = control.receive(shard) else { panic!("no answer") };
        assert_eq!(ended, 4, "shard {shard}");
    }
    for (user, conn) in &conns {
        let mut bytes = Vec::new();
        stage.read(*conn, usize::MAX, &mut bytes);
        let got = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(got.contains("the permission was revoked"), *user == "1", "{user}: {got:?}");
    }
    assert_eq!(stage.text(late), "", "it is asked for again");
    pass_ms(&mut stage, &mut authority, 1_200);
    assert!(stage.text(late).starts_with("HTTP/1.1 200 "));
    assert_eq!(authority.asked, asked + 2);
    let again = stage.open_at(0, 1 << 16, request("GET /topics/a/x", &(WAYS[0].1)("user-1")).as_bytes());
    pass_ms(&mut stage, &mut authority, 700);
    assert!(
        stage.text(again).starts_with("HTTP/1.1 200 ") && authority.asked == asked + 3,
        "what is known was forgotten"
    );
    watched.reached(&[Mark::GrantRevoked, Mark::VerdictStale]);
}

/// Very many who have what is taken back are ended a few a turn, all of them, and the answer comes when that is done.
#[test]
fn many_are_revoked_in_turns() {
    const MANY: usize = 300;
    let watched = Watched::begin();
    let (mut stage, mut control, mut authority) = stage(1);
    let head = upgrade("/ws").replacen("\r\n\r\n", "\r\nAuthorization: Bearer user-1\r\n\r\n", 1);
    let conns: Vec<ConnId> = (0..MANY).map(|_| stage.open(4096, head.as_bytes())).collect();
    pass_ms(&mut stage, &mut authority, 200);
    conns.iter().for_each(|conn| assert!(stage.text(*conn).starts_with("HTTP/1.1 101 ")));
    let revocations = [corecast::grant::Revocation::Subject("1".into(), 2)].into();
    assert!(control.send(0, Errand { number: 7, wish: Wanted::Revoke(revocations) }, |_| {}));
    stage.turn();
    assert!(control.receive(0).is_none(), "not all at once");
    (0..6).for_each(|_| stage.turn());
    let Some(Answer { said: Said::Revoked(ended), .. }) = control.receive(0) else { panic!("no answer") };
    assert_eq!(ended, MANY as u64);
    for conn in conns {
        assert!(stage.text(conn).contains("BYE 1008 the permission was revoked"));
    }
    watched.reached(&[Mark::RevokedInTurns]);
}

/// Whoever shows nothing is asked about at the hook, with target and headers: once for a connection, whose own the answer is from then
/// on; others, with other headers, are others. Whom the hook denies is refused, and a token goes before what the hook says.
#[test]
fn the_hook_is_asked_who_comes() {
    let says = |ask: &Ask, now_s: u64| match ask {
        Ask::Connect(visit) => {
            assert!(visit.target.starts_with("/topics/a/x") && visit.method.len() >= 3, "{visit:?}");
            match &*visit.headers {
                "cookie: session=1" => Ok(grant("one", &["a/#"], &["a/#"])),
                "cookie: session=2\norigin: http://h" => Ok(grant("two", &[], &["a/#"])),
                "" => Err(Denial::Invalid("nobody")),
                other => panic!("headers {other:?}"),
            }
        }
        other => says(other, now_s),
    };
    let names = ["cookie", "origin"].map(str::to_owned).to_vec();
    let asks = Asks { visits: true, visit_headers: names, tokens: true, ..Asks::default() };
    let mut table = Table::with_authority(Limits { asks, ..limits() }, Box::new(says));
    let request = |words: &str, lines: &str| format!("{words} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: 0\r\n\r\n");
    let one = "Cookie: session=1\r\n";
    let several = [
        request("POST /topics/a/x?q=1", one),
        // The connection is known by now, whatever else it asks for and shows.
        request("GET /topics/a/x?transport=value", ""),
        request("GET /topics/b", ""),
    ];
    let got = table.ask(several.concat());
    assert_eq!(got.statuses(), [200, 200, 403], "{}", got.text());
    assert_eq!(table.authority().asked, 1);
    let two = "Cookie: session=2\r\nOrigin: http://h\r\n";
    let got = table.ask([request("GET /topics/a/x", two), request("POST /topics/a/x", two)].concat());
    assert_eq!(got.statuses(), [200, 403], "{}", got.text());
    assert_eq!(table.authority().asked, 2);
    let got = table.ask(request("GET /topics/a/x", ""));
    refused_with(&got, Refusal::InvalidToken, "nobody");
    let got = table.ask(request("POST /topics/a/x", "Authorization: Bearer writer\r\nCookie: session=1\r\n"));
    assert_eq!(got.statuses(), [200], "{}", got.text());
}
