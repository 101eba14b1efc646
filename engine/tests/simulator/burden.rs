//! Who gives a shard much to do keeps nobody else waiting: a turn is bounded in work, not in pieces.
//!
//! The kernel's clock stands still during a turn here, so what bounds a turn are the shard's own estimates. The bounds are in turns
//! and in what one turn may do; before, a turn did all that the kernel had brought, which took seconds.

use corecast::shard::Limits;

use crate::faults::Faults;
use crate::net::ConnId;
use crate::packing::pack_message;
use crate::stage::{Stage, frame, post};

/// Turns from a message's bytes to its reader's: poll, receive, publish, number, deliver and send are a turn each at worst, and
/// as many again for those whose turn comes first.
const TURNS_MAX: usize = 12;

const DEFLATE: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

/// A topic beside all the others, with one who publishes and one who reads.
struct Innocent {
    publisher: ConnId,
    reader: ConnId,
}

impl Innocent {
    fn new(stage: &mut Stage) -> Innocent {
        let reader = stage.upgrade_at(0, 1 << 16, "/topics/innocent?since=live");
        Innocent { publisher: stage.upgrade_at(0, 1 << 16, "/ws"), reader }
    }

    /// Publishes a message and returns how many turns it takes to its reader.
    fn turns(&self, stage: &mut Stage, mut meanwhile: impl FnMut(&mut Stage)) -> usize {
        stage.say_text(self.publisher, b"PUB innocent\nhello");
        for turns in 1.. {
            stage.turn();
            meanwhile(stage);
            if stage.text(self.reader).contains("hello") {
                return turns;
            }
            assert!(turns < 1_000, "the message has not come");
        }
        unreachable!("turns are counted without end")
    }
}

fn stage() -> Stage {
    Stage::new(1, &Limits { memory_bytes: 128 << 20, ..Limits::default() })
}

/// Messages that inflate to 64 KB are published a few in a turn, whoever sends them, and a message of somebody else's passes
/// them. A turn inflated all there was: 1,024 receives of 20 messages each.
#[test]
fn deflated_commands_take_turns() {
    const PUBLISHERS: usize = 20;
    const MESSAGES: usize = 100;
    let mut stage = stage();
    let innocent = Innocent::new(&mut stage);
    let block = frame(0xC1, &pack_message(&[b"PUB load\n".as_slice(), &[b'x'; 64_000]].concat())).repeat(MESSAGES);
    let publishers: Vec<ConnId> = (0..PUBLISHERS).map(|_| stage.upgrade_with(0, 1 << 16, "/ws", DEFLATE)).collect();
    publishers.iter().for_each(|conn| stage.say(*conn, &block));
    let mut before = stage.stats().published;
    let mut most = 0;
    let turns = innocent.turns(&mut stage, |stage| {
        let published = stage.stats().published;
        most = most.max(published - before);
        before = published;
    });
    assert!(turns <= TURNS_MAX, "{turns} turns");
    assert!(most <= 16, "{most} messages of 64 KB in a turn");
    for _ in 0..10_000 {
        stage.turn();
    }
    assert_eq!(stage.stats().published as usize, PUBLISHERS * MESSAGES + 1, "all of them are published");
}

/// Batches that are complete at the same moment are checked and published a slice each in turn, each line read once, and a
/// message of somebody else's passes them. Each was read twice, and all in one turn.
#[test]
fn batches_take_turns() {
    const BATCHES: usize = 50;
    const LINES: usize = 1_000;
    let mut stage = stage();
    let innocent = Innocent::new(&mut stage);
    let line = "{\"topic\":\"load\",\"data\":\"0123456789\"}\n";
    let body = line.repeat(LINES);
    let head = format!(
        "POST /topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let whole = [head.as_bytes(), body.as_bytes()].concat();
    let (most_of_it, last) = whole.split_at(whole.len() - 1);
    let conns: Vec<ConnId> = (0..BATCHES).map(|_| stage.open(4096, most_of_it)).collect();
    stage.turns();
    conns.iter().for_each(|conn| stage.say(*conn, last));
    let mut before = stage.stats().published;
    let mut most = 0;
    let turns = innocent.turns(&mut stage, |stage| {
        let published = stage.stats().published;
        most = most.max(published - before);
        before = published;
    });
    assert!(turns <= TURNS_MAX, "{turns} turns");
    assert!(most <= 4_000, "{most} lines in a turn");
    for _ in 0..10_000 {
        stage.turn();
    }
    for conn in conns {
        let answer = stage.text(conn);
        assert!(answer.contains(&format!("{{\"published\":{LINES}}}")), "{answer}");
    }
}

/// Pings, commands and fragments by the thousand are taken a slice in turn, connection by connection, and a message of
/// somebody else's passes them.
#[test]
fn small_frames_take_turns() {
    for small in [frame(0x89, b""), frame(0x81, b"PING t"), frame(0x81, b"DANCE"), frame(0x01, b"P")] {
        let mut stage = stage();
        let innocent = Innocent::new(&mut stage);
        let mut block = small.repeat(60_000 / small.len());
        if small[0] == 0x01 {
            // A message begins once, and goes on.
            block = [small.clone(), frame(0x00, b"x").repeat(60_000 / small.len())].concat();
        }
        let conns: Vec<ConnId> = (0..20).map(|_| stage.upgrade_at(0, 1 << 20, "/ws")).collect();
        conns.iter().for_each(|conn| stage.say(*conn, &block));
        let turns = innocent.turns(&mut stage, |_| {});
        assert!(turns <= TURNS_MAX, "{turns} turns beside {small:x?}");
        assert!(stage.stats().postponed > 0, "nobody had to wait: the scene shows nothing");
    }
}

/// What a few send without a pause, and have had multishot receives for since they send much, is not heard before what others
/// send: the kernel fills all buffers with it at once, and they were taken in the order in which they came.
#[test]
fn busy_receives_stand_behind_others() {
    let ping = frame(0x81, b"PING a-token-of-24-characters");
    let get = b"GET /nothing/here HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    for (upgrades, piece) in [(true, ping), (false, get)] {
        let limits = Limits { memory_bytes: 128 << 20, ..Limits::default() };
        let mut stage = Stage::with_buffers(&limits, 2048, 2048);
        let innocent = Innocent::new(&mut stage);
        let conns: Vec<ConnId> = (0..30)
            .map(|_| if upgrades { stage.upgrade_at(0, 1 << 20, "/ws") } else { stage.open(1 << 20, &piece) })
            .collect();
        for _ in 0..10 {
            conns.iter().for_each(|conn| stage.say(*conn, &piece));
            stage.turns();
        }
        stage.berths[0].1.set_faults(Faults { pauses: 0, delay_us_max: 1, ..Faults::NONE });
        let block = piece.repeat(60_000 / piece.len());
        conns.iter().for_each(|conn| stage.say(*conn, &block));
        // The kernel has brought all of it before the innocent says a word.
        stage.turn();
        stage.turn();
        let turns = innocent.turns(&mut stage, |_| {});
        assert!(turns <= TURNS_MAX, "{turns} turns");
        (0..3_000).for_each(|_| stage.quick_turn());
        let (first, answer) = if upgrades { (piece[6..].to_vec(), "PONG a-token") } else { (piece, "HTTP/1.1 404") };
        let asked = 10 + 60_000 / (first.len() + if upgrades { 6 } else { 0 }) + usize::from(!upgrades);
        for conn in conns {
            assert_eq!(stage.text(conn).matches(answer).count(), asked, "everything is answered, once");
        }
    }
}

/// Compression has its share of time: a topic that is read in many dialects is compressed for as many as there is time for, and
/// the others get it as it is. All got it compressed, whatever that took.
#[test]
fn compression_has_its_share() {
    let mut stage = stage();
    let windows = ["", "; server_max_window_bits=12", "; server_max_window_bits=9"];
    for window in windows {
        let lines = DEFLATE.replace("\r\n", &format!("{window}\r\n"));
        let line = stage.upgrade_with(0, 1 << 20, "/ws", &lines);
        stage.say_text(line, b"SUB load since=live");
        stage.upgrade_with(0, 1 << 20, "/topics/load?since=live", &lines);
    }
    for transport in ["sse", "stream", "multipart", "forever-frame", "sse&enveloped=1"] {
        let get = format!(
            "GET /topics/load?since=live&transport={transport} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"
        );
        stage.open(1 << 20, get.as_bytes());
    }
    stage.turns();
    let dialects = 2 * windows.len() as u64 + 5;
    stage.open(4096, post("load", &"text ".repeat(12_000)).as_bytes());
    stage.turns();
    let stats = stage.stats();
    assert_eq!(stats.compressed + stats.uncompressed, dialects, "{stats:?}");
    assert!(stats.compressed >= 2 && stats.uncompressed >= 2, "{stats:?}");
    assert_eq!(stats.delivered, dialects, "all have it");
    // Time passes, and compression has its share of it.
    stage.net.borrow_mut().advance_us(1_000_000);
    stage.open(4096, post("load", &"text ".repeat(1_000)).as_bytes());
    stage.turns();
    assert_eq!(stage.stats().uncompressed, stats.uncompressed, "there was time again");
}

/// What is new in many topics of a connection leaves in one send, and so do the answers to many commands of one read. There was
/// a send for each topic and each answer, and all topics were searched for each.
#[test]
fn many_topics_are_one_send() {
    const TOPICS: usize = 60;
    let mut stage = stage();
    let conn = stage.upgrade_at(0, 1 << 20, "/ws");
    let publisher = stage.upgrade_at(0, 1 << 16, "/ws");
    let subs: Vec<u8> =
        (0..TOPICS).flat_map(|n| frame(0x81, format!("SUB topic/{n} since=live id=s{n}").as_bytes())).collect();
    let before = stage.stats().sends;
    stage.say(conn, &subs);
    stage.turns();
    assert_eq!(stage.stats().sends - before, 1, "answers to commands of one read");
    let answers = stage.text(conn);
    assert!((0..TOPICS).all(|n| answers.contains(&format!("OK s{n} "))), "{answers}");
    let pubs: Vec<u8> =
        (0..TOPICS).flat_map(|n| frame(0x81, format!("PUB topic/{n}\nnews of {n};").as_bytes())).collect();
    let before = stage.stats().sends;
    stage.say(publisher, &pubs);
    stage.turns();
    assert_eq!(stage.stats().sends - before, 1, "messages that come together");
    let news = stage.text(conn);
    assert!((0..TOPICS).all(|n| news.contains(&format!("news of {n};"))), "{news}");
    // Half of them end, and the others go on.
    let unsubs: Vec<u8> =
        (0..TOPICS / 2).flat_map(|n| frame(0x81, format!("UNSUB topic/{n} id=u{n}").as_bytes())).collect();
    stage.say(conn, &unsubs);
    stage.turns();
    stage.text(conn);
    stage.say(publisher, &pubs);
    stage.turns();
    let news = stage.text(conn);
    assert!((0..TOPICS).all(|n| news.contains(&format!("news of {n};")) == (n >= TOPICS / 2)), "{news}");
}
