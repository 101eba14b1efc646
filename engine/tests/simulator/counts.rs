//! How many connections and subscriptions a subject may have, and all together: whoever meets a limit is told, whoever leaves makes room,
//! and nothing is counted that is not there.

use corecast::grant::{Ask, Denial, Grant, Revocation};
use corecast::mesh::{self, Control, Ends};
use corecast::reach::Mark;
use corecast::shard::{Asks, COME_BACK, Errand, Limits, Quotas, Refusal, Stats, Wanted};

use crate::authority::{Authority, grant};
use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::rng::Rng;
use crate::stage::{Stage, post};
use crate::table::{Got, Table};

/// What the authority of these scenes says to a token, as `anna-1-c2-e3`: whose it is, its number, and what it limits: connections `c`,
/// subscriptions of its subject `s`, publications `p` and topics `t` in a second; and after how many seconds it ends, `e`.
fn says(ask: &Ask, now_s: u64) -> Result<Grant, Denial> {
    let (Ask::Token(name) | Ask::Key(name)) = ask else { panic!("nothing else is asked: {ask:?}") };
    let mut parts = name.split('-');
    let (subject, id) = (parts.next().expect("a subject"), parts.next().expect("a number"));
    let mut grant = Grant { token_id: id.into(), issued_s: 1, ..grant(subject, &["#"], &["#"]) };
    for part in parts {
        let number = part[1..].parse().expect("a number");
        match &part[..1] {
            "c" => grant.limits.connections = Some(number),
            "s" => grant.limits.subscriptions_per_subject = Some(number),
            "p" => grant.limits.publish_rate = Some(number),
            "t" => grant.limits.topic_rate = Some(number),
            "e" => grant.expires_s = now_s + u64::from(number),
            other => panic!("{other} limits nothing"),
        }
    }
    Ok(grant)
}

/// Rounds in which everything that can happen has happened, mostly.
const ROUNDS: usize = 20;

fn limits(quotas: Quotas) -> Limits {
    let asks = Asks { tokens: true, ..Asks::default() };
    Limits { asks, quotas, memory_bytes: 64 << 20, ..Limits::default() }
}

/// A few shards with an authority that answers at once.
struct Scene {
    stage: Stage,
    control: Control,
    authority: Authority,
}

impl Scene {
    fn new(shards: usize, quotas: Quotas) -> Scene {
        let limits = limits(quotas);
        let Ends { links, control, questions } = mesh::join_all(shards, shards, limits.ring_bytes(1));
        let stage = Stage::with_links(&limits, 1024, links);
        let authority = Authority::new(questions, stage.net.clone(), Box::new(says));
        Scene { stage, control, authority }
    }

    /// Lets happen what can, and checks after every round that exactly what is there is counted.
    fn turns(&mut self) {
        for _ in 0..ROUNDS {
            self.stage.turn();
            self.authority.act();
            let here: u64 = self.stage.berths.iter().map(|(shard, _)| shard.counted_here()).sum();
            assert_eq!(here, self.stage.berths[0].0.counted(), "what is counted is there");
        }
    }

    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.stage.net.borrow_mut().advance_us(100_000);
            self.turns();
        }
    }

    fn open(&mut self, shard: usize, head: &str) -> ConnId {
        let conn = self.stage.open_at(shard, 1 << 18, head.as_bytes());
        self.turns();
        conn
    }

    fn read(&mut self, conn: ConnId) -> Got {
        let mut got = Got { bytes: Vec::new(), ended: false };
        for _ in 0..2 {
            // That it has ended is seen behind what it said.
            got.ended = self.stage.read(conn, usize::MAX, &mut got.bytes);
        }
        got
    }

    /// Opens one, and reads what it is told.
    fn ask(&mut self, shard: usize, head: &str) -> (ConnId, Got) {
        let conn = self.open(shard, head);
        let got = self.read(conn);
        (conn, got)
    }

    fn command(&mut self, conn: ConnId, command: &str) -> String {
        self.stage.say(conn, &text(command));
        self.turns();
        self.stage.text(conn)
    }

    fn close(&mut self, conn: ConnId) {
        self.stage.net.borrow_mut().client_close(conn);
        self.turns();
    }

    fn counted(&self) -> u64 {
        self.stage.berths[0].0.counted()
    }

    fn revoke(&mut self, revocation: &Revocation) {
        for shard in 0..self.stage.berths.len() {
            let wish = Wanted::Revoke([revocation.clone()].into());
            assert!(self.control.send(shard, Errand { number: 1, wish }, |_| {}));
        }
        self.turns();
        (0..self.stage.berths.len()).for_each(|shard| drop(self.control.receive(shard)));
    }
}

/// A head of each transport that keeps its connection, with a token.
const TRANSPORTS: [&str; 5] =
    ["ws /topics/a", "ws /ws", "/topics/a?transport=sse", "/topics/a?transport=stream", LONG_POLL];

const LONG_POLL: &str = "/topics/a?transport=long-poll&since=live&wait=60";

fn head(transport: &str, token: &str) -> String {
    let bearer = format!("\r\nAuthorization: Bearer {token}\r\n\r\n");
    let head = match transport.strip_prefix("ws ") {
        Some(path) => upgrade(path),
        None => format!("GET {transport} HTTP/1.1\r\nHost: x\r\n\r\n"),
    };
    if token.is_empty() { head } else { head.replacen("\r\n\r\n", &bearer, 1) }
}

fn stands(got: &Got) -> bool {
    !got.ended && matches!(got.statuses()[..], [] | [101 | 200])
}

#[track_caller]
fn is_refused(got: &Got, refusal: Refusal, what: &str) {
    assert_eq!(got.statuses(), [refusal.row().status.expect("a request can meet it")], "{what}: {}", got.text());
    let after_s: u32 = got.header("Retry-After").first().and_then(|value| value.parse().ok()).expect("it says when");
    let (least_s, most_s) = refusal.row().comes_back_s.expect("it may come back");
    assert!((least_s..=most_s).contains(&after_s), "{what}: {}", got.text());
}

/// Of connections of one subject so many stay as may be, on whatever shards and over whatever transport; one more is told so, others are
/// taken, and plain requests go on. One that goes makes room, a long poll with its answer. A grant that says how many may be counts
/// instead of the setting.
#[test]
fn connections_of_a_subject() {
    let watched = Watched::begin();
    let mut scene = Scene::new(3, Quotas { connections_per_subject: 5, ..Quotas::default() });
    let conns: Vec<ConnId> = (0..5)
        .map(|n| {
            let (conn, got) = scene.ask(n % 3, &head(TRANSPORTS[n], &format!("anna-{n}")));
            assert!(stands(&got), "{n}: {}", got.text());
            conn
        })
        .collect();
    for (n, transport) in TRANSPORTS.into_iter().enumerate() {
        let (conn, got) = scene.ask(n % 3, &head(transport, "anna-7"));
        is_refused(&got, Refusal::TooMany, transport);
        assert_eq!(got.ended, transport != LONG_POLL, "a request may follow a poll");
        let (other, got) = scene.ask(n % 3, &head(transport, "bert-1"));
        assert!(stands(&got), "{transport}: {}", got.text());
        scene.close(conn);
        scene.close(other);
    }
    let bearer = post("b", "x").replacen("\r\n", "\r\nAuthorization: Bearer anna-1\r\n", 1);
    assert_eq!(scene.ask(0, &bearer).1.statuses(), [200], "a plain request");
    assert_eq!(scene.counted(), 5);
    let message = post("a", "x");
    assert_eq!(scene.ask(0, &message).1.statuses(), [200]);
    assert!(scene.read(conns[4]).body().contains('x'), "its poll is answered");
    assert_eq!(scene.counted(), 4, "and it is not counted any more");
    let (fifth, got) = scene.ask(1, &head(LONG_POLL, "anna-1"));
    assert!(stands(&got));
    scene.stage.say(conns[4], head(LONG_POLL, "anna-1").as_bytes());
    scene.turns();
    is_refused(&scene.read(conns[4]), Refusal::TooMany, "on the same connection");
    scene.close(fifth);
    scene.stage.say(conns[4], head(LONG_POLL, "anna-1").as_bytes());
    scene.turns();
    assert!(stands(&scene.read(conns[4])));
    for (token, most) in [("carl-1-c2", 2), ("dora-1-c7", 7)] {
        let taken = (0..9).filter(|n| stands(&scene.ask(n % 3, &head(TRANSPORTS[1], token)).1)).count();
        assert_eq!(taken, most, "{token}");
    }
    conns.into_iter().for_each(|conn| scene.close(conn));
    assert_eq!(scene.counted(), 9);
    let Stats { limited_connections, refused_too_many, .. } = scene.stage.stats();
    assert_eq!((limited_connections, refused_too_many), (15, 15));
    watched.reached(&[Mark::SubjectFull]);
}

/// `AUTH` is held to the same: somebody else, who has as many as he may, is refused and changes nothing; a fresh token of the same
/// subject is taken at the limit; and the one before is given up.
#[test]
fn auth_at_the_limit() {
    let mut scene = Scene::new(2, Quotas { connections_per_subject: 2, ..Quotas::default() });
    let lines = [0, 1, 0].map(|shard| scene.ask(shard, &head("ws /ws", "")).0);
    assert!(scene.command(lines[0], "AUTH anna-1 id=1").contains("OK 1"));
    assert!(scene.command(lines[1], "AUTH anna-1 id=1").contains("OK 1"));
    assert_eq!(scene.counted(), 2);
    let refused = scene.command(lines[2], "AUTH anna-2 id=1");
    assert!(refused.contains("ERR 1 too-many ") && refused.contains(COME_BACK), "{refused}");
    assert!(scene.command(lines[2], "AUTH bert-1 id=2").contains("OK 2"), "it goes on");
    assert!(scene.command(lines[2], "AUTH anna-2 id=3").contains("ERR 3 too-many "));
    assert_eq!(scene.counted(), 3, "and is still bert");
    for n in 4..9 {
        assert!(scene.command(lines[0], &format!("AUTH anna-{n} id={n}")).contains(&format!("OK {n}")), "a fresh one");
    }
    assert_eq!(scene.counted(), 3);
    assert!(scene.command(lines[0], "AUTH bert-2 id=9").contains("OK 9"));
    assert!(scene.command(lines[2], "AUTH anna-2 id=4").contains("OK 4"), "there is room for one");
    assert!(scene.command(lines[1], "AUTH carl-1-c1 id=4").contains("OK 4"));
    assert_eq!(scene.counted(), 3);
    lines.into_iter().for_each(|line| scene.close(line));
    assert_eq!(scene.counted(), 0);
}

/// Subscriptions of a subject are counted over its connections, and go with a connection that becomes somebody else's; somebody who
/// would have too many by that is refused.
#[test]
fn subscriptions_of_a_subject() {
    let watched = Watched::begin();
    let mut scene = Scene::new(2, Quotas { subscriptions_per_subject: 10, ..Quotas::default() });
    let (one, other) = (scene.ask(0, &head("ws /ws", "anna-1")).0, scene.ask(1, &head("ws /ws", "anna-2")).0);
    for n in 0..5 {
        assert!(scene.command(one, &format!("SUB a{n} id={n}")).contains(&format!("OK {n}")));
        assert!(scene.command(other, &format!("SUB b{n} id={n}")).contains(&format!("OK {n}")));
    }
    assert!(scene.command(other, "SUB b5 id=5").contains("ERR 5 too-many "));
    assert!(scene.command(other, "SUB b4 since=live id=6").contains("OK 6"), "one that begins anew is one");
    is_refused(&scene.ask(0, &head("ws /topics/a", "anna-3")).1, Refusal::TooMany, "raw");
    let (stream, got) = scene.ask(0, &head("/topics/a?transport=sse", "anna-3"));
    assert!(got.ended && got.text().contains("\"name\":\"too-many\""), "{}", got.text());
    is_refused(&scene.ask(0, &head(LONG_POLL, "anna-3")).1, Refusal::TooMany, "long poll");
    scene.close(stream);
    let nobody = scene.ask(0, &head("ws /ws", "")).0;
    for n in 0..6 {
        assert!(scene.command(nobody, &format!("SUB c{n} id={n}")).contains(&format!("OK {n}")));
    }
    assert_eq!(scene.counted(), 10, "of nobody nothing is counted");
    assert!(scene.command(other, "UNSUB b4").is_empty());
    assert!(scene.command(nobody, "AUTH anna-4 id=7").contains("ERR 7 too-many "), "6 are more than 1");
    assert!(scene.command(nobody, "AUTH dora-1-c1-s3 id=7").contains("ERR 7 too-many "), "and is no connection either");
    assert!(scene.command(other, "AUTH bert-1 id=7").contains("OK 7"), "and takes 4 along");
    assert_eq!(scene.counted(), 9);
    assert!(scene.command(nobody, "AUTH anna-4 id=8").contains("ERR 8 too-many "), "6 are more than 5");
    assert!(scene.command(one, "UNSUB a4").is_empty());
    assert!(scene.command(nobody, "AUTH anna-4 id=9").contains("OK 9"));
    assert!(scene.command(one, "SUB a4 id=7").contains("ERR 7 too-many "));
    assert!(scene.command(one, "AUTH anna-5-s11 id=7").contains("OK 7"), "a grant that says it counts instead");
    assert!(scene.command(one, "SUB a4 id=8").contains("OK 8"));
    assert!(scene.command(one, "SUB a5 id=8").contains("ERR 8 too-many "));
    [one, other, nobody].into_iter().for_each(|conn| scene.close(conn));
    assert_eq!(scene.counted(), 0);
    assert_eq!(scene.stage.stats().limited_subscriptions, 9);
    watched.reached(&[Mark::SubjectFull]);
}

/// All connections and all subscriptions have a limit, too, of all shards together: one more is told that the engine is full, until
/// somebody leaves.
#[test]
fn everybody_together() {
    let watched = Watched::begin();
    let quotas = Quotas { connections_in_all: 4, subscriptions_in_all: 6, ..Quotas::default() };
    let mut scene = Scene::new(3, quotas);
    let lines: Vec<ConnId> = (0..4).map(|n| scene.ask(n % 3, &head("ws /ws", "")).0).collect();
    for shard in 0..3 {
        let (conn, got) = scene.ask(shard, "");
        is_refused(&got, Refusal::Full, "one more");
        assert!(got.ended);
        scene.close(conn);
    }
    for n in 0..6 {
        assert!(scene.command(lines[n % 4], &format!("SUB a{n} id={n}")).contains(&format!("OK {n}")));
    }
    let refused = scene.command(lines[3], "SUB b id=b");
    assert!(refused.contains("ERR b full ") && refused.contains(COME_BACK), "{refused}");
    assert_eq!(scene.counted(), 10);
    scene.close(lines[0]);
    assert_eq!(scene.counted(), 7, "it had two");
    assert!(scene.command(lines[3], "SUB b id=b").contains("OK b"));
    let (sixth, got) = scene.ask(0, &head("ws /topics/a", ""));
    assert!(stands(&got), "{}", got.text());
    assert_eq!(scene.counted(), 10);
    lines[1..].iter().chain([&sixth]).for_each(|conn| scene.close(*conn));
    assert_eq!(scene.counted(), 0);
    let Stats { limited_connections, limited_subscriptions, refused_full, .. } = scene.stage.stats();
    assert_eq!((limited_connections, limited_subscriptions, refused_full), (3, 1, 4));
    watched.reached(&[Mark::AllFull]);
}

/// A subject has rates for all its connections, of the setting where its grant says nothing; all together have some, too. Who has no
/// subject is held to what holds for all only.
#[test]
fn rates_of_a_subject_and_of_all() {
    let bearer = |topic: &str, token: &str| {
        let line = format!("HTTP/1.1\r\nAuthorization: Bearer {token}\r\n");
        let request = post(topic, &"x".repeat(1000));
        if token.is_empty() { request } else { request.replacen("HTTP/1.1\r\n", &line, 1) }
    };
    let taken = |quotas: Quotas, topics: bool, token: &str| {
        let mut table = Table::with_authority(limits(quotas), Box::new(says));
        let mut ask = |n: usize| table.ask(bearer(if topics { ["a", "b", "c", "d", "e", "f"][n] } else { "a" }, token));
        (0..6).filter(|n| ask(*n).statuses() == [200]).count()
    };
    let quotas = Quotas::default();
    for (quotas, topics, own) in [
        (Quotas { publishes_per_subject: 2, ..quotas }, false, "anna-1-p4"),
        (Quotas { topics_per_subject: 2, ..quotas }, true, "anna-1-t4"),
    ] {
        let counts = ["anna-1", own, ""].map(|token| taken(quotas, topics, token));
        assert_eq!(counts, [2, 4, 6], "{quotas:?}");
    }
    assert_eq!(taken(Quotas { bytes_per_subject: 2_000, ..quotas }, false, "anna-1"), 2);
    assert_eq!(taken(quotas, true, "anna-1-t3"), 3, "where nothing else is metered");
    for quotas in [
        Quotas { publishes_in_all: 3, ..quotas },
        Quotas { bytes_in_all: 3_000, ..quotas },
        Quotas { topics_in_all: 3, ..quotas },
    ] {
        let counts = ["anna-1", "anna-1-p5-t5", ""].map(|token| taken(quotas, true, token));
        assert_eq!(counts, [3, 3, 3], "{quotas:?}");
    }
}

/// Over TLS whoever is one too many, or too fast, is cut off before anything is said: to say it would take a handshake.
#[test]
fn cut_off_before_the_handshake() {
    for quotas in [
        Quotas { connects: 2, ..Quotas::default() },
        Quotas { connects_per_address: 2, ..Quotas::default() },
        Quotas { connections_per_address: 2, ..Quotas::default() },
        Quotas { connections_in_all: 2, ..Quotas::default() },
    ] {
        let watched = Watched::begin();
        let mut stage = Stage::new(1, &Limits { tls: vec![true], ..limits(quotas) });
        stage.net.borrow_mut().origin = Some("192.0.2.1".parse().expect("an address"));
        let conns: Vec<ConnId> = (0..5).map(|_| stage.open(4096, b"")).collect();
        stage.turns();
        let ended = conns.iter().filter(|conn| {
            let mut bytes = Vec::new();
            let ended = (0..2).fold(false, |_, _| stage.read(**conn, usize::MAX, &mut bytes));
            assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
            ended
        });
        assert_eq!(ended.count(), 3, "{quotas:?}");
        let Stats { connections, refused, bytes_sent, .. } = stage.stats();
        assert_eq!((connections, refused, bytes_sent), (2, 3, 0));
        watched.reached(&[Mark::CutOffBeforeHandshake]);
    }
}

/// Whatever comes and goes over whatever transport, is refused, becomes somebody else, runs out, is revoked, or whose limits change
/// meanwhile: after every turn exactly what is there is counted, and nothing when all have gone.
#[test]
fn nothing_is_left_behind() {
    for seed in 0..2 {
        let mut rng = Rng::new(seed);
        let quotas = Quotas {
            connections_in_all: 14,
            connections_per_address: 12,
            connections_per_subject: 3,
            subscriptions_in_all: 30,
            subscriptions_per_address: 25,
            subscriptions_per_subject: 8,
            loopback: true,
            ..Quotas::default()
        };
        let mut scene = Scene::new(3, quotas);
        let mut conns: Vec<(ConnId, &str)> = Vec::new();
        let mut refused = 0;
        for _ in 0..250 {
            let at = rng.below(conns.len().max(1));
            let one = conns.get(at).copied();
            let (subject, id) = (rng.pick(&["anna", "bert", "carl"]), rng.below(3));
            let token = format!("{subject}-{id}{}", rng.pick(&["", "", "-c2", "-s4", "-c5-s9", "-e1", "-c1-e2"]));
            match (rng.below(12), one) {
                (0..=4, _) => {
                    let transport = rng.pick(&TRANSPORTS);
                    let token = if rng.chance(250) { "" } else { &token };
                    let (conn, got) = scene.ask(rng.below(3), &head(transport, token));
                    refused += u64::from(!stands(&got));
                    conns.push((conn, transport));
                }
                (5, Some((conn, _))) => {
                    scene.close(conn);
                    conns.swap_remove(at);
                }
                (6, Some((conn, _))) => {
                    scene.stage.net.borrow_mut().client_reset(conn, true);
                    scene.turns();
                    conns.swap_remove(at);
                }
                (7..=9, Some((conn, "ws /ws"))) => {
                    let command = match rng.below(6) {
                        0..=2 => format!("SUB t{} since=live", rng.below(12)),
                        3 => format!("UNSUB t{}", rng.below(12)),
                        _ => format!("AUTH {token}"),
                    };
                    let _ = scene.stage.net.borrow_mut().client_write(conn, &text(&command));
                    scene.turns();
                    let got = scene.read(conn).text();
                    refused += u64::from(got.contains("too-many") || got.contains("full"));
                }
                (10, _) => {
                    let whole = Revocation::Subject(subject.into(), 2);
                    scene.revoke(&if rng.chance(500) { whole } else { Revocation::Token(id.to_string().into()) });
                }
                (11, _) => {
                    // Some limits end, and begin again: what was counted goes on being so.
                    let mut quotas = quotas;
                    if rng.chance(500) {
                        (quotas.subscriptions_in_all, quotas.subscriptions_per_subject) = (0, 0);
                        (quotas.connections_per_subject, quotas.subscriptions_per_address) = (0, 0);
                    }
                    for shard in 0..3 {
                        let wish = Wanted::Set(Box::new(limits(quotas)));
                        assert!(scene.control.send(shard, Errand { number: 1, wish }, |_| {}));
                    }
                    scene.turns();
                    (0..3).for_each(|shard| drop(scene.control.receive(shard)));
                    scene.pass_ms(rng.within(0..1_000));
                }
                _ => {
                    let conn = scene.open(0, &post("a", "x"));
                    scene.close(conn);
                }
            }
        }
        assert!(refused > 20, "limits are met: {refused}");
        conns.iter().for_each(|(conn, _)| scene.stage.net.borrow_mut().client_close(*conn));
        scene.pass_ms(3_000);
        assert_eq!((scene.counted(), scene.stage.stats().connections), (0, 0), "seed {seed}");
    }
}
