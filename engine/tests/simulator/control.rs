//! The control plane beside shards that have work: limits change under messages, questions are answered in pieces, and a control
//! plane that never reads makes nobody wait.

use corecast::mesh::Control;
use corecast::mesh::control::OWED_MAX;
use corecast::reach::Mark;
use corecast::shard::{Answer, Busy, By, ConnectionRow, Errand, LagPolicy, Limits, Only, Question, Said, Wanted};

use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, post};

/// Turns after which a shard with nothing to do rests.
const QUIET_TURNS: usize = 100;

fn limits() -> Limits {
    Limits { memory_bytes: 32 << 20, ..Limits::default() }
}

/// Gives a shard an order; says whether it was taken.
fn order(stage: &Stage, control: &mut Control, shard: usize, number: u64, wish: Wanted) -> bool {
    control.send(shard, Errand { number, wish }, |shard| stage.net.borrow_mut().ring_doorbell(shard))
}

/// Asks shard 0, and returns its answer and the turns that it took.
fn ask(stage: &mut Stage, control: &mut Control, question: Question, rows: usize) -> (Said, usize) {
    assert!(order(stage, control, 0, 9, Wanted::Ask(question, rows)));
    for turns in 1..1000 {
        stage.turn();
        if let Some(Answer { number, said }) = control.receive(0) {
            assert_eq!(number, 9);
            return (said, turns);
        }
    }
    panic!("no answer");
}

/// Reads the payloads of the messages that came on a WebSocket.
fn payloads(stage: &mut Stage, conn: ConnId) -> Vec<String> {
    let mut bytes = Vec::new();
    assert!(!stage.read(conn, usize::MAX, &mut bytes), "it still stands");
    let mut rest = bytes.as_slice();
    let mut found = Vec::new();
    while let [_, length, behind @ ..] = rest {
        let (payload, next) = behind.split_at(usize::from(*length));
        found.push(String::from_utf8(payload.to_vec()).expect("text"));
        rest = next;
    }
    found
}

/// Limits change on all shards while messages flow between them: every message arrives once and in order, every shard says that it
/// holds to the new limits, and the last ones do hold.
#[test]
fn limits_change_under_messages() {
    const MESSAGES: usize = 600;
    let (mut stage, mut control) = Stage::with_control(3, &limits(), 4096);
    let readers: Vec<ConnId> = (0..9).map(|n| stage.upgrade_at(n % 3, 1 << 16, "/topics/t?since=live")).collect();
    let mut publisher = Vec::new();
    let (mut set, mut applied) = (0, 0);
    for n in 0..MESSAGES {
        // One connection, so that there is an order to hold to.
        match publisher.first() {
            None => publisher.push(stage.open_at(1, 1 << 20, post("t", "m0").as_bytes())),
            Some(conn) => stage.say(*conn, post("t", &format!("m{n}")).as_bytes()),
        }
        if n % 20 == 19 {
            let last = n == MESSAGES - 1;
            let new = Limits {
                history_messages: if last { 3 } else { [1, 64, 1000][n / 20 % 3] },
                history_bytes: [100, 1 << 20][n / 20 % 2].max(if last { 100 } else { 0 }),
                lag: if n % 40 == 19 { LagPolicy::Close } else { LagPolicy::Replay },
                compress_from: (n % 40 == 19).then_some(1),
                // What rings and blocks were made from is not changed, whoever says so.
                message_bytes_max: 1,
                memory_bytes: 0,
                loopback: Vec::new(),
                ..limits()
            };
            for shard in 0..3 {
                assert!(order(&stage, &mut control, shard, n as u64, Wanted::Set(Box::new(new.clone()))));
                set += 1;
            }
        }
        stage.turn();
        for shard in 0..3 {
            while let Some(answer) = control.receive(shard) {
                assert!(matches!(answer.said, Said::Applied(_)));
                applied += 1;
            }
        }
    }
    stage.turns();
    for shard in 0..3 {
        applied += std::iter::from_fn(|| control.receive(shard)).count();
    }
    assert_eq!(applied, set);
    let expected: Vec<String> = (0..MESSAGES).map(|n| format!("m{n}")).collect();
    for reader in readers {
        assert_eq!(payloads(&mut stage, reader), expected);
    }
    // The last limits came behind the last message; they hold from the next one on.
    assert!(stage.publish("t", "end"));
    let poll = stage.open(
        1 << 16,
        b"GET /topics/t?since=earliest&transport=poll HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n",
    );
    stage.turns();
    let answer = stage.text(poll);
    let held = ["m597", "m598", "m599", "end"].map(|message| answer.contains(message));
    assert_eq!(held, [false, true, true, true], "{answer}");
}

/// Origins, names and what is served hold from the next request on, and so does what was made from them.
#[test]
fn new_origins_hold_at_once() {
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 64);
    let said = |stage: &mut Stage, line: &str, lines: &str| {
        let conn = stage.open(1 << 16, format!("GET {line} HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes());
        stage.turns();
        stage.text(conn)
    };
    let frame = "/topics/t?transport=forever-frame&callback=c";
    let app = "Origin: https://app.example\r\n";
    assert!(!said(&mut stage, frame, "").contains("app.example"));
    assert!(said(&mut stage, "/topics/t?transport=sse", app).starts_with("HTTP/1.1 403 "));
    assert!(said(&mut stage, "/topics/t?transport=jsonp&callback=c", "").starts_with("HTTP/1.1 200 "));
    let new = Limits { origins: vec!["https://app.example".to_owned()], jsonp: false, ..limits() };
    assert!(order(&stage, &mut control, 0, 1, Wanted::Set(Box::new(new))));
    stage.turns();
    let Some(Answer { said: Said::Applied(old), .. }) = control.receive(0) else { panic!("no answer") };
    assert!(old.origins.is_empty() && old.jsonp, "the old ones come back");
    assert!(said(&mut stage, frame, "").contains(" https://app.example"));
    assert!(said(&mut stage, "/topics/t?transport=sse", app).starts_with("HTTP/1.1 200 "));
    assert!(!said(&mut stage, "/topics/t?transport=jsonp&callback=c", "").starts_with("HTTP/1.1 200 "));
}

/// A control plane that orders whenever it can, and never reads an answer, is told no: shards come to rest, and serve.
#[test]
fn nobody_waits_for_the_control_plane() {
    let marks = Watched::begin();
    let (mut stage, mut control) = Stage::with_control(2, &limits(), 1024);
    let reader = stage.upgrade_at(1, 1 << 16, "/topics/t?since=live");
    let mut taken = 0;
    for n in 0..200 {
        for shard in 0..2 {
            let wish = match n % 2 {
                0 => Wanted::Ask(Question::Connections(Only::default()), 1000),
                _ => Wanted::Set(Box::new(limits())),
            };
            taken += usize::from(order(&stage, &mut control, shard, n, wish));
        }
        stage.turn();
    }
    assert_eq!(taken, 2 * OWED_MAX);
    assert!(stage.publish("t", "still here"));
    assert_eq!(payloads(&mut stage, reader), ["still here"]);
    for (shard, kernel) in &mut stage.berths {
        let rests = (0..QUIET_TURNS).any(|_| matches!(shard.turn(kernel), Busy::RestUntil(_)));
        assert!(rests && !shard.has_mail(), "there is nothing to do");
    }
    // Once it reads, it is heard again.
    for shard in 0..2 {
        assert_eq!(std::iter::from_fn(|| control.receive(shard)).count(), OWED_MAX);
    }
    assert!(order(&stage, &mut control, 0, 1, Wanted::Ask(Question::Topics(By::Bytes), 1)));
    stage.turns();
    assert!(control.receive(0).is_some());
    marks.reached(&[Mark::ControlStalled]);
}

/// A question to a shard with many connections is answered over several turns, in which messages go on.
#[test]
fn questions_are_answered_in_pieces() {
    let marks = Watched::begin();
    const IDLE: usize = 5000;
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 8192);
    let reader = stage.upgrade_at(0, 1 << 16, "/topics/t?since=live");
    let idle: Vec<ConnId> = (0..IDLE).map(|_| stage.open(1 << 10, b"")).collect();
    stage.turns();
    let (said, turns) = ask(&mut stage, &mut control, Question::Connections(Only::default()), 1000);
    let Said::Connections(rows) = said else { panic!("{said:?}") };
    assert_eq!(rows.len(), 1000);
    assert!(turns < IDLE / 1024, "no more is looked at than is asked for: {turns}");
    let is_idle = |row: &ConnectionRow| (row.kind, row.subscriptions, row.queued_bytes) == ("http", 0, 0);
    assert!(rows.iter().filter(|row| !is_idle(row)).all(|row| (row.kind, row.subscriptions) == ("websocket", 1)));

    // All but the reader are gone: their slots are looked at, some each turn.
    idle.iter().for_each(|conn| stage.net.borrow_mut().client_reset(*conn, true));
    (0..10).for_each(|_| stage.turns());
    assert!(order(&stage, &mut control, 0, 9, Wanted::Ask(Question::Connections(Only::default()), 1000)));
    let publisher = stage.open(4096, post("t", "meanwhile").as_bytes());
    let mut turns = 0;
    let mut came = 0;
    let answer = loop {
        stage.turn();
        turns += 1;
        if came == 0 && stage.net.borrow().client_has_news(reader) {
            came = turns;
        }
        if let Some(answer) = control.receive(0) {
            break answer;
        }
    };
    assert!((IDLE / 1024..20).contains(&turns), "{turns}");
    assert!(came > 0 && came < turns, "the message did not wait for the answer: {came} of {turns}");
    let Said::Connections(rows) = answer.said else { panic!("{answer:?}") };
    assert!(rows.len() <= 2, "the reader, and perhaps the publisher: {rows:?}");
    stage.text(publisher);
    marks.reached(&[Mark::AnsweredInTurns]);
}

/// Topics with most bytes and subscribers that are most behind are found, and are what they are.
#[test]
fn the_largest_and_the_slowest_are_found() {
    let (mut stage, mut control) = Stage::with_control(1, &limits(), 1024);
    // It takes the handshake, and hardly anything after that.
    let slow = stage.upgrade_at(0, 300, "/topics/busy?since=live");
    let _quick = stage.upgrade_at(0, 1 << 20, "/topics/busy?since=live");
    for n in 0..50 {
        assert!(stage.publish("busy", &format!("{n:0100}")));
    }
    assert!(stage.publish("small", "x") && stage.publish("small", "y"));
    assert!(stage.publish("smaller", "x"));
    let (said, _) = ask(&mut stage, &mut control, Question::Topics(By::Bytes), 2);
    let Said::Topics(mut rows) = said else { panic!("{said:?}") };
    rows.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    let rows: Vec<_> = rows.iter().map(|row| (row.topic.as_str(), row.messages, row.bytes, row.head)).collect();
    assert_eq!(rows, [("busy", 50, 5000, 50), ("small", 2, 2, 2)]);
    let (said, _) = ask(&mut stage, &mut control, Question::Slow, 10);
    let Said::Slow(rows) = said else { panic!("{said:?}") };
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].topic == "busy" && rows[0].behind > 40 && rows[0].behind <= 50, "{rows:?}");
    stage.text(slow);
    stage.turns();
    stage.text(slow);
}
