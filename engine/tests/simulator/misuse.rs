//! Peers that misuse the engine as it is set up by default: they stall bodies, never end messages, read nothing of very much, or
//! think of ever new names. It costs them, they are told by name what is refused, and nobody else loses anything: readers of other
//! topics get all of it, publishers are served, and what other topics remember is still there.

use std::collections::VecDeque;

use corecast::reach::Mark;
use corecast::shard::Limits;

use crate::endings::upgrade;
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, frame};

/// Topics that somebody published to before, and that nobody reads at the moment.
const REMEMBERED: usize = 600;

/// What each of them remembers: a message that takes a block of 64 KiB, so that all of them take 38 MiB of the 256 there are.
const REMEMBERED_BYTES: usize = 33_000;

/// Topics that are read and published to all the while.
const LIVE: usize = 4;

/// Whoever does nothing wrong.
struct Bystanders {
    publisher: ConnId,
    /// A connection that reads one of the live topics, and what it was told.
    readers: Vec<(usize, ConnId, Vec<u8>)>,
    published: usize,
    answered: Vec<u8>,
}

/// Lets a shard with very many connections take a turn, and nobody look at all it has.
fn turns(stage: &mut Stage, count: usize) {
    (0..count).for_each(|_| stage.quick_turn());
}

/// Lets the shard take turns until it has taken all that a connection has said.
fn until_taken(stage: &mut Stage, conn: ConnId) {
    for turns_taken in 0.. {
        if !stage.net.borrow().server_readable(conn) {
            break;
        }
        assert!(turns_taken < 10_000, "it is not taken");
        stage.quick_turn();
    }
    turns(stage, 6);
}

/// Opens connections that say something, a slice at a time, and lets the shard take it all.
fn open_all(stage: &mut Stage, count: usize, room: usize, says: &[u8]) -> VecDeque<ConnId> {
    let mut all = VecDeque::new();
    for n in 0..count {
        let conn = stage.net.borrow_mut().connect(0, 1 << 20, room);
        stage.say(conn, says);
        all.push_back(conn);
        if n % 50 == 49 {
            until_taken(stage, conn);
        }
    }
    turns(stage, 6);
    all.iter().for_each(|conn| until_taken(stage, *conn));
    all
}

impl Bystanders {
    fn new(stage: &mut Stage) -> Bystanders {
        let publisher = open_all(stage, 1, 1 << 20, upgrade("/ws").as_bytes())[0];
        stage.text(publisher);
        for topic in 0..REMEMBERED {
            let message = format!("PUB remembered/{topic} id=r\n{topic:0>REMEMBERED_BYTES$}");
            stage.say(publisher, &frame(0x81, message.as_bytes()));
            until_taken(stage, publisher);
        }
        assert_eq!(stage.text(publisher).matches("OK r ").count(), REMEMBERED);
        let mut readers = Vec::new();
        for topic in 0..LIVE {
            let raw = upgrade(&format!("/topics/live/{topic}?since=live"));
            let sse = format!("GET /topics/live/{topic}?since=live&transport=sse HTTP/1.1\r\nHost: x\r\n\r\n");
            for head in [raw, sse] {
                readers.push((topic, open_all(stage, 1, 1 << 20, head.as_bytes())[0], Vec::new()));
            }
        }
        Bystanders { publisher, readers, published: 0, answered: Vec::new() }
    }

    /// Publishes to each live topic, and reads.
    fn act(&mut self, stage: &mut Stage) {
        for topic in 0..LIVE {
            let message = format!("PUB live/{topic} id=l\n<{}>", self.published);
            stage.say(self.publisher, &frame(0x81, message.as_bytes()));
        }
        self.published += 1;
        turns(stage, 8);
        self.read(stage);
    }

    fn read(&mut self, stage: &mut Stage) {
        assert!(!stage.read(self.publisher, usize::MAX, &mut self.answered), "the publisher is not cut off");
        for (topic, conn, told) in &mut self.readers {
            assert!(!stage.read(*conn, usize::MAX, told), "a reader of live/{topic} is not cut off");
        }
    }

    /// All was published and delivered, once and in order, and all is remembered.
    fn lost_nothing(mut self, stage: &mut Stage) {
        self.heard_all(stage);
        all_is_remembered(stage);
    }

    /// All was published and delivered, once and in order.
    fn heard_all(&mut self, stage: &mut Stage) {
        stage.turns();
        self.read(stage);
        let answered = String::from_utf8_lossy(&self.answered);
        assert_eq!(answered.matches("OK l ").count(), LIVE * self.published, "all publications are taken");
        for (topic, _, told) in &self.readers {
            let told = String::from_utf8_lossy(told);
            let numbers =
                told.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default().parse::<usize>());
            let numbers: Vec<usize> = numbers.filter_map(Result::ok).collect();
            assert!(numbers.iter().copied().eq(0..self.published), "live/{topic}: {numbers:?} of {}", self.published);
            assert!(!told.contains("event: gap"), "live/{topic}: {told}");
        }
    }
}

/// All that was published before is still there.
fn all_is_remembered(stage: &mut Stage) {
    let forgotten: Vec<usize> = (0..REMEMBERED).filter(|topic| !remembers(stage, *topic)).collect();
    assert!(forgotten.is_empty(), "{} of {REMEMBERED} topics are forgotten: {forgotten:?}", forgotten.len());
}

/// Says whether a topic still has its message.
fn remembers(stage: &mut Stage, topic: usize) -> bool {
    let get =
        format!("GET /topics/remembered/{topic}?transport=value HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let conn = stage.net.borrow_mut().connect(0, 1 << 10, 1 << 16);
    stage.say(conn, get.as_bytes());
    turns(stage, 8);
    let answer = stage.text(conn);
    stage.net.borrow_mut().client_close(conn);
    answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&topic.to_string())
}

/// Returns how many of these connections were told this.
fn told(stage: &mut Stage, conns: impl IntoIterator<Item = ConnId>, what: &str) -> usize {
    conns.into_iter().filter(|conn| stage.text(*conn).contains(what)).count()
}

/// Bodies of batches of which half a megabyte comes, which takes a block of a whole one, and then nothing more: 320 of them want more
/// memory than there is. They have a share of it, those that hold most for longest are told 503, and the rest 408 when their time
/// is over.
#[test]
fn stalled_bodies() {
    let marks = Watched::begin();
    const STALLED: usize = 320;
    let mut stage = Stage::with_slots(1, &Limits::default(), 4096);
    let mut bystanders = Bystanders::new(&mut stage);
    let head =
        b"POST /topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 900000\r\n\r\n";
    let whole = [head.as_slice(), &vec![b'b'; 530_000]].concat();
    let mut stalled = Vec::new();
    for _ in 0..STALLED / 8 {
        stalled.extend(open_all(&mut stage, 8, 1 << 16, &whole));
        bystanders.act(&mut stage);
    }
    let share = stage.stats().pool_bytes_max / 8 * 3;
    assert!(stage.stats().pool_inbound_bytes <= share, "{} bytes", stage.stats().pool_inbound_bytes);
    let full = told(&mut stage, stalled.iter().copied(), "HTTP/1.1 503 ");
    assert!(full >= STALLED / 2, "{full} of {STALLED} were told that the engine is full");
    for _ in 0..70 {
        stage.net.borrow_mut().advance_us(1_000_000);
        bystanders.act(&mut stage);
    }
    let late = told(&mut stage, stalled, "HTTP/1.1 408 ");
    assert_eq!(full + late, STALLED, "the others were told that they are late");
    assert_eq!(stage.stats().pool_inbound_bytes, 0, "nothing is held any more");
    bystanders.lost_nothing(&mut stage);
    marks.reached(&[Mark::GivenUp, Mark::BodyTooSlow]);
}

/// Messages in fragments, none of which is the last, of just so many bytes that each takes a block of 128 KiB: 1,800 of them want
/// as much as there is. Those that hold most for longest are closed with 1013, the rest with 1008 when their time is over.
#[test]
fn endless_messages() {
    let marks = Watched::begin();
    const STALLED: usize = 1_800;
    let mut stage = Stage::with_slots(1, &Limits::default(), 4096);
    let mut bystanders = Bystanders::new(&mut stage);
    let part = [frame(0x01, b"PUB endless\n"), frame(0x00, &[b'e'; 33_000]), frame(0x00, &[b'e'; 32_530])].concat();
    let mut stalled = Vec::new();
    for _ in 0..STALLED / 100 {
        let opened = open_all(&mut stage, 100, 1 << 12, upgrade("/ws").as_bytes());
        assert_eq!(told(&mut stage, opened.iter().copied(), "HTTP/1.1 101 "), 100);
        for conn in &opened {
            stage.say(*conn, &part);
        }
        opened.iter().for_each(|conn| until_taken(&mut stage, *conn));
        stalled.extend(opened);
        bystanders.act(&mut stage);
    }
    let share = stage.stats().pool_bytes_max / 8 * 3;
    assert!(stage.stats().pool_inbound_bytes <= share, "{} bytes", stage.stats().pool_inbound_bytes);
    let mut codes = [0, 0];
    let mut open = stalled;
    for _ in 0..70 {
        open.retain(|conn| {
            let text = stage.text(*conn);
            let code = ["BYE 1013 ", "BYE 1008 "].iter().position(|code| text.contains(code));
            code.into_iter().for_each(|code| codes[code] += 1);
            if code.is_none() && !text.is_empty() {
                // It answers whatever it is asked: silence is not what it is closed for.
                let _ = stage.net.borrow_mut().client_write(*conn, &frame(0x8A, b""));
            }
            code.is_none()
        });
        stage.net.borrow_mut().advance_us(1_000_000);
        bystanders.act(&mut stage);
    }
    let [full, late] = codes;
    assert!(full >= STALLED / 3 && late > 0, "{full} were told that the engine is full, {late} that they are late");
    assert_eq!(full + late, STALLED, "everybody was told");
    assert_eq!(stage.stats().pool_inbound_bytes, 0, "nothing is held any more");
    bystanders.lost_nothing(&mut stage);
    marks.reached(&[Mark::GivenUp, Mark::MessageTooSlow]);
}

/// A peer that subscribes to as many topics as it may, and reads nothing while much is published in all of them: more than there is
/// memory for. It is told that it may not have more, and, should it ever read, what it has lost; who reads one of those topics gets
/// all of it.
#[test]
fn deaf_readers_of_very_much() {
    const TOPICS: usize = 1_024;
    const ROUNDS: usize = 4;
    let mut stage = Stage::with_slots(1, &Limits::default(), 4096);
    let mut bystanders = Bystanders::new(&mut stage);
    let conn = open_all(&mut stage, 1, 2_000, upgrade("/ws").as_bytes())[0];
    assert_eq!(told(&mut stage, [conn], "HTTP/1.1 101 "), 1);
    let mut heard = String::new();
    for topic in 0..=TOPICS {
        stage.say(conn, &frame(0x81, format!("SUB load/{topic} since=live id=s{topic}").as_bytes()));
        turns(&mut stage, 1);
        heard += &stage.text(conn);
    }
    turns(&mut stage, 12);
    heard += &stage.text(conn);
    assert!(heard.contains(&format!("ERR s{TOPICS} too-many ")), "one more is refused: {heard:.100}");
    assert_eq!(heard.matches("OK s").count(), TOPICS);
    let beside = open_all(&mut stage, 1, 1 << 20, upgrade("/topics/load/7?since=live").as_bytes())[0];
    let (mut got, mut taken) = (Vec::new(), 0);
    let load = open_all(&mut stage, 1, 1 << 20, upgrade("/ws").as_bytes())[0];
    for round in 0..ROUNDS {
        for topic in 0..TOPICS {
            let message = format!("PUB load/{topic} id=p\n[{round}]{}", "x".repeat(33_000));
            stage.say(load, &frame(0x82, message.as_bytes()));
            until_taken(&mut stage, load);
            if topic % 64 == 63 {
                bystanders.act(&mut stage);
                taken += stage.text(load).matches("OK p ").count();
                stage.read(beside, usize::MAX, &mut got);
            }
        }
    }
    bystanders.lost_nothing(&mut stage);
    let got = String::from_utf8_lossy(&got);
    let got: Vec<usize> = (0..ROUNDS).filter(|round| got.contains(&format!("[{round}]"))).collect();
    assert!(got.iter().copied().eq(0..ROUNDS), "who reads gets all: {got:?}");
    assert_eq!(taken, ROUNDS * TOPICS, "all publications are taken");
    // It reads after all, and is sent what there still is; or it was closed.
    let mut late = Vec::new();
    for _ in 0..2_000 {
        stage.read(conn, usize::MAX, &mut late);
        turns(&mut stage, 2);
    }
    let late = String::from_utf8_lossy(&late);
    assert!(late.contains("BYE 1013 ") || late.matches("MSG load/").count() > 10, "{} bytes", late.len());
}

/// Subscribes one connection to more new names than it may have, and returns its answers.
fn flood(stage: &mut Stage, peer: usize) -> String {
    let conn = open_all(stage, 1, 1 << 20, upgrade("/ws").as_bytes())[0];
    let mut heard = String::new();
    for topic in 0..1_030 {
        stage.say(conn, &frame(0x81, format!("SUB name/{peer}/{topic} since=live id=n").as_bytes()));
        if topic % 60 == 59 {
            turns(stage, 4);
            heard += &stage.text(conn);
        }
    }
    turns(stage, 40);
    heard + &stage.text(conn)
}

/// Peers that think of ever new names, to subscribe to and to publish to, up to as many topics as there may be, and far beyond. They
/// are told `too-many` and `full`. As long as there is room nobody forgets anything for them; beyond that, topics that are read go on
/// and remember what they said, and publishers are served.
#[test]
fn a_flood_of_names() {
    let marks = Watched::begin();
    const TOPICS_MAX: usize = 20_000;
    const PEERS: usize = 18;
    let limits = Limits { topics_max: TOPICS_MAX as u32, ..Limits::default() };
    let mut stage = Stage::with_slots(1, &limits, 4096);
    let mut bystanders = Bystanders::new(&mut stage);
    (0..10).for_each(|_| bystanders.act(&mut stage));
    for peer in 0..PEERS {
        let heard = flood(&mut stage, peer);
        assert_eq!((heard.matches("OK n ").count(), heard.matches("ERR n too-many ").count()), (1_024, 6));
        bystanders.act(&mut stage);
    }
    bystanders.heard_all(&mut stage);
    all_is_remembered(&mut stage);
    let rest: String = (PEERS..PEERS + 3).map(|peer| flood(&mut stage, peer)).collect();
    let (taken, full) = (rest.matches("OK n ").count(), rest.matches("ERR n full ").count());
    assert_eq!(taken, TOPICS_MAX - 1_024 * PEERS - LIVE, "and no more than there may be");
    assert!(full > 1_000, "all the others are told: {full}");
    // Who publishes to names that nobody reads makes others give way that nobody reads.
    let conn = open_all(&mut stage, 1, 1 << 20, upgrade("/ws").as_bytes())[0];
    for name in 0..2 * TOPICS_MAX {
        stage.say(conn, &frame(0x82, format!("PUB other/{name}\nx").as_bytes()));
        if name % 200 == 199 {
            turns(&mut stage, 8);
            bystanders.act(&mut stage);
            stage.text(conn);
        }
    }
    assert!(stage.stats().homes as usize <= TOPICS_MAX + REMEMBERED, "{} topics", stage.stats().homes);
    for topic in 0..LIVE {
        let get = format!("GET /topics/live/{topic}?transport=poll&since=earliest HTTP/1.1\r\nHost: x\r\n\r\n");
        let conn = open_all(&mut stage, 1, 1 << 20, get.as_bytes())[0];
        let answer = stage.text(conn);
        let mut newest = bystanders.published.saturating_sub(64)..bystanders.published;
        assert!(newest.all(|n| answer.contains(&format!("<{n}>"))), "live/{topic} forgets: {answer}");
    }
    bystanders.heard_all(&mut stage);
    marks.reached(&[Mark::TopicRefused, Mark::HomeForgotten]);
}
