//! Connections that an operator ends: those that are meant, told so in the way of their session, and nobody beside them.

use std::net::IpAddr;

use corecast::grant::{Ask, Denial, Grant, Patterns};
use corecast::mesh::{Control, Ends};
use corecast::reach::Mark;
use corecast::shard::{
    Answer, Asks, ConnectionRow, Errand, Limits, Only, PeerAddress, Question, Refusal, Said, Wanted, Whom,
};

use crate::authority::Authority;
use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, post};

fn limits() -> Limits {
    Limits { memory_bytes: 32 << 20, echo: true, ..Limits::default() }
}

/// Gives shard 0 an order, and returns what it says and the turns that it took.
fn ask(stage: &mut Stage, control: &mut Control, wish: Wanted) -> (Said, usize) {
    assert!(control.send(0, Errand { number: 9, wish }, |shard| stage.net.borrow_mut().ring_doorbell(shard)));
    for turns in 1..1000 {
        stage.turn();
        if let Some(Answer { number: 9, said }) = control.receive(0) {
            return (said, turns);
        }
    }
    panic!("no answer");
}

/// Ends connections of shard 0, and returns how many were.
fn disconnect(stage: &mut Stage, control: &mut Control, whom: Whom) -> u64 {
    let (said, _) = ask(stage, control, Wanted::Disconnect(whom));
    stage.turns();
    let Said::Disconnected(ended) = said else { panic!("{said:?}") };
    ended
}

fn connections(stage: &mut Stage, control: &mut Control, only: Only) -> Vec<ConnectionRow> {
    let (said, _) = ask(stage, control, Wanted::Ask(Question::Connections(only), 1000));
    let Said::Connections(rows) = said else { panic!("{said:?}") };
    rows
}

/// Comes from an address.
fn from(stage: &Stage, address: &str) {
    stage.net.borrow_mut().origin = Some(address.parse::<IpAddr>().expect("an address"));
}

fn whose(address: &str) -> PeerAddress {
    PeerAddress::read(address).expect("an address")
}

/// One of each kind comes from an address that an operator wants to be rid of, and one of each from another one: the first are told, each in
/// its way, and end; the others hear every message, and go on.
#[test]
fn the_innocent_go_on() {
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 64);
    let heads = [
        upgrade("/topics/t?since=live"),
        upgrade("/ws"),
        upgrade("/echo"),
        "GET /topics/t?transport=sse&since=live HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET /topics/t?transport=stream&since=live HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET /topics/t?transport=long-poll&since=live HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        "GET /topics/other?transport=value HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
    ];
    let open = |stage: &mut Stage, address: &str| -> Vec<ConnId> {
        from(stage, address);
        let conns: Vec<ConnId> = heads.iter().map(|head| stage.open(1 << 16, head.as_bytes())).collect();
        stage.turns();
        stage.say(conns[1], &text("SUB t since=live"));
        stage.turns();
        conns
    };
    let (meant, innocent) = (open(&mut stage, "10.0.0.1"), open(&mut stage, "10.0.0.2"));
    let kinds: Vec<&str> = connections(&mut stage, &mut control, Only { peer: Some(whose("10.0.0.1")), kind: None })
        .iter()
        .map(|row| row.kind)
        .collect();
    assert!(kinds.len() == heads.len() && kinds.contains(&"echo"), "{kinds:?}");
    meant.iter().chain(&innocent).for_each(|conn| drop(stage.text(*conn)));

    let ended = disconnect(&mut stage, &mut control, Whom::Peer(whose("10.0.0.1")));
    assert_eq!(ended, heads.len() as u64);
    let row = Refusal::Disconnected.row();
    let said: Vec<String> = meant.iter().map(|conn| stage.text(*conn)).collect();
    for n in [0, 1, 2] {
        assert!(said[n].contains(row.text), "{n}: {:?}", said[n]);
    }
    assert!(said[1].contains("BYE 1008 an operator"), "{:?}", said[1]);
    assert!(said[3].contains("event: corecast-refused\ndata: {\"name\":\"disconnected\","), "{:?}", said[3]);
    assert!(said[4].contains("{\"refused\":{\"name\":\"disconnected\","), "{:?}", said[4]);
    assert!(said[5].starts_with("HTTP/1.1 2"), "a poll has its answer: {:?}", said[5]);
    assert_eq!(stage.stats().refused_disconnected, 5, "all but the poll and the request");
    assert_eq!(disconnect(&mut stage, &mut control, Whom::Peer(whose("10.0.0.1"))), 0, "they end already, or have");

    from(&stage, "10.0.0.3");
    stage.open(4096, post("t", "still here").as_bytes());
    stage.turns();
    for n in [0, 1, 3, 4, 5] {
        let got = stage.text(innocent[n]);
        assert!(got.contains("still here"), "{n}: {got:?}");
        assert!(!stage.text(meant[n]).contains("still here"), "{n}");
    }
}

/// A slot is meant in one life only: who has it after the one that was seen is not hit.
#[test]
fn a_slot_that_was_used_again_is_spared() {
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 1);
    let first = stage.open(1 << 16, upgrade("/topics/t").as_bytes());
    stage.turns();
    let old = connections(&mut stage, &mut control, Only::default()).remove(0);
    stage.net.borrow_mut().client_reset(first, true);
    (0..10).for_each(|_| stage.turns());
    let second = stage.open(1 << 16, upgrade("/topics/t").as_bytes());
    (0..10).for_each(|_| stage.turns());
    let new = connections(&mut stage, &mut control, Only::default()).remove(0);
    assert!(new.slot == old.slot && new.generation != old.generation, "{old:?} {new:?}");
    assert_eq!(disconnect(&mut stage, &mut control, Whom::Slot(old.slot, old.generation)), 0);
    assert_eq!(disconnect(&mut stage, &mut control, Whom::Slot(new.slot + 1, new.generation)), 0);
    assert_eq!(connections(&mut stage, &mut control, Only::default()).len(), 1);
    assert_eq!(disconnect(&mut stage, &mut control, Whom::Slot(new.slot, new.generation)), 1);
    assert!(stage.text(second).contains(Refusal::Disconnected.row().text));
}

/// Very many are ended a few a turn, while a message goes on to whoever is not meant, and the answer comes when all are.
#[test]
fn many_are_ended_in_turns() {
    const MANY: usize = 300;
    let watched = Watched::begin();
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 1024);
    from(&stage, "10.0.0.2");
    let innocent = stage.open(1 << 16, upgrade("/topics/t?since=live").as_bytes());
    from(&stage, "10.0.0.1");
    let conns: Vec<ConnId> = (0..MANY).map(|_| stage.open(4096, upgrade("/ws").as_bytes())).collect();
    (0..5).for_each(|_| stage.turns());
    stage.text(innocent);
    let wish = Wanted::Disconnect(Whom::Peer(whose("10.0.0.1")));
    assert!(control.send(0, Errand { number: 9, wish }, |shard| stage.net.borrow_mut().ring_doorbell(shard)));
    from(&stage, "10.0.0.3");
    stage.open(4096, post("t", "meanwhile").as_bytes());
    for _ in 0..4 {
        stage.turn();
        assert!(control.receive(0).is_none(), "not all at once");
    }
    assert!(stage.text(innocent).contains("meanwhile"));
    (0..10).for_each(|_| stage.turn());
    let Some(Answer { said: Said::Disconnected(ended), .. }) = control.receive(0) else { panic!("no answer") };
    assert_eq!(ended, MANY as u64);
    stage.turns();
    for conn in conns {
        assert!(stage.text(conn).contains("BYE 1008 an operator"));
    }
    watched.reached(&[Mark::DisconnectedInTurns]);
}

/// What a token of these scenes gives: everything, to whom it names.
fn says(ask: &Ask, _: u64) -> Result<Grant, Denial> {
    let Ask::Token(name) = ask else { return Err(Denial::Invalid("only tokens are known")) };
    let all = || Patterns::new(["#"]).expect("a pattern");
    Ok(Grant { subject: name.clone(), publish: all(), subscribe: all(), ..Grant::nothing(name) })
}

/// The connections of a subject end, whatever they speak, and no others; lists say whose a connection is.
#[test]
fn a_subject_is_known_by_its_grant() {
    let limits = Limits { asks: Asks { tokens: true, ..Asks::default() }, open: vec![false], ..limits() };
    let Ends { links, mut control, questions } = corecast::mesh::join_all(1, 1, limits.ring_bytes(1));
    let mut stage = Stage::with_links(&limits, 64, links);
    let mut authority = Authority::new(questions, stage.net.clone(), Box::new(says));
    let mut open = |stage: &mut Stage, name: &str| -> Vec<ConnId> {
        let line = format!("\r\nAuthorization: Bearer {name}\r\n\r\n");
        let heads = [upgrade("/topics/t?since=live"), upgrade("/ws")];
        let conns: Vec<ConnId> =
            heads.iter().map(|head| stage.open(1 << 16, head.replacen("\r\n\r\n", &line, 1).as_bytes())).collect();
        for _ in 0..10 {
            stage.turns();
            authority.act();
        }
        conns
    };
    let (anna, berta) = (open(&mut stage, "anna"), open(&mut stage, "berta"));
    let subjects: Vec<_> = connections(&mut stage, &mut control, Only::default())
        .into_iter()
        .filter_map(|row| row.subject)
        .map(String::from)
        .collect();
    assert_eq!(subjects, ["anna", "anna", "berta", "berta"]);
    assert_eq!(disconnect(&mut stage, &mut control, Whom::Subject("".into())), 0);
    assert_eq!(disconnect(&mut stage, &mut control, Whom::Subject("anna".into())), 2);
    for conn in anna {
        assert!(stage.text(conn).contains(Refusal::Disconnected.row().text));
    }
    for conn in berta {
        assert!(!stage.text(conn).contains("operator"));
    }
    let left = connections(&mut stage, &mut control, Only::default());
    assert_eq!(left.iter().filter(|row| row.kind != "closing").count(), 2);
}

/// One connection is described with what it reads and how far it is behind, one topic with where its readers are.
#[test]
fn one_is_described() {
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 64);
    let slow = stage.upgrade_at(0, 300, "/topics/a/busy?since=live");
    for n in 0..40 {
        stage.publish("a/busy", &format!("{n:0100}"));
    }
    stage.turns();
    let rows = connections(&mut stage, &mut control, Only { kind: Some("websocket"), peer: None });
    assert_eq!(rows.len(), 1, "{rows:?}");
    let (said, _) = ask(&mut stage, &mut control, Wanted::Inspect(rows[0].slot));
    let Said::Inspected(Some(inspected)) = said else { panic!("{said:?}") };
    assert_eq!((&inspected.row.peer, inspected.is_tls), (&rows[0].peer, false));
    let [(topic, Some(behind))] = &inspected.subscribed[..] else { panic!("{inspected:?}") };
    assert!(topic == "a/busy" && (20..=40).contains(behind), "{inspected:?}");
    for nobody in [63, 64, u32::MAX] {
        let (said, _) = ask(&mut stage, &mut control, Wanted::Inspect(nobody));
        assert!(matches!(said, Said::Inspected(None)), "{said:?}");
    }

    let (said, _) = ask(&mut stage, &mut control, Wanted::Describe("a/busy".into()));
    let Said::Described(described) = said else { panic!("{said:?}") };
    let (row, first) = described.home.expect("it is at home here");
    assert_eq!((described.readers, row.messages, row.head, first), (1, 40, 40, Some(1)));
    let (said, _) = ask(&mut stage, &mut control, Wanted::Describe("nobody/knows".into()));
    let Said::Described(described) = said else { panic!("{said:?}") };
    assert!(described.home.is_none() && described.readers == 0);
    stage.text(slow);
    stage.turns();
    stage.text(slow);
}

/// The rate of a topic is found after some seconds of messages, and the hottest stands first.
#[test]
fn rates_are_told() {
    use corecast::shard::By;
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 64);
    let publisher = stage.open(1 << 16, b"");
    for _ in 0..100 {
        let messages = ["hot", "hot", "hot", "warm"].map(|topic| post(topic, "x"));
        stage.say(publisher, messages.concat().as_bytes());
        stage.pass_ms(100);
        stage.text(publisher);
    }
    let (said, _) = ask(&mut stage, &mut control, Wanted::Ask(Question::Topics(By::Rate), 10));
    let Said::Topics(mut rows) = said else { panic!("{said:?}") };
    rows.sort_by_key(|row| std::cmp::Reverse(row.rate_milli));
    let names: Vec<&str> = rows.iter().map(|row| row.topic.as_str()).collect();
    assert_eq!(names, ["hot", "warm"]);
    let ratio = rows[0].rate_milli.expect("known") as f64 / rows[1].rate_milli.expect("known") as f64;
    assert!((ratio - 3.0).abs() < 0.5, "{rows:?}");
}
