//! Drains that take their time: who is not told yet is served, who is told knows when to come back, and nobody is left in the end.

use corecast::reach::Mark;
use corecast::shard::{COME_BACK, Limits, Refusal};

use crate::endings::{text, upgrade};
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::Stage;
use crate::table::Table;

/// Time of the drain in tenths of a second.
const DRAIN_TENTHS: usize = 20;

/// Clients of each kind.
const CLIENTS: usize = 60;

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Line,
    Raw,
    Stream(&'static str),
    /// Waits for the first message of a topic that nobody publishes to.
    Waits,
    /// Has asked once, and may ask again.
    Idle,
}

struct Client {
    kind: Kind,
    conn: ConnId,
    got: String,
    /// In which tenth of a second it was told that this is the end.
    told: Option<usize>,
}

impl Client {
    fn new(scene: &mut Stage, kind: Kind, shard: usize) -> Client {
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let asks = match kind {
            Kind::Line => upgrade("/ws"),
            Kind::Raw => upgrade("/topics/news?since=live"),
            Kind::Stream(transport) => get(&format!("/topics/news?since=live&transport={transport}")),
            Kind::Waits => get("/topics/quiet?since=live&transport=long-poll&wait=60"),
            Kind::Idle => get("/nowhere"),
        };
        let conn = scene.open_at(shard, 1 << 20, asks.as_bytes());
        scene.turns();
        if kind == Kind::Line {
            scene.say(conn, &text("SUB news since=live id=s"));
        }
        Client { kind, conn, got: String::new(), told: None }
    }

    /// Returns the words that tell it of the end.
    fn last_words(&self) -> &'static str {
        match self.kind {
            Kind::Waits => "\r\nConnection: close\r\n",
            Kind::Idle => "HTTP/1.1 404",
            _ => Refusal::Draining.row().text,
        }
    }

    /// Returns after how many seconds it is told to come back, in the words of its transport.
    fn comes_back_s(&self) -> Vec<u32> {
        let (before, behind) = match self.kind {
            Kind::Idle => return Vec::new(),
            Kind::Waits => ("\r\nRetry-After: ", "\r\n"),
            _ => (COME_BACK, "s"),
        };
        let numbers = self.got.split(before).skip(1);
        let mut all: Vec<u32> =
            numbers.map(|rest| rest.split(behind).next().and_then(|n| n.parse().ok()).expect("a number")).collect();
        if self.kind == Kind::Stream("sse") {
            assert!(self.got.contains(&format!("retry: {}000\n", all[0])), "{}", self.got);
        }
        if self.kind == Kind::Line {
            // In a line, and in the close frame behind it.
            assert!(all.len() == 2 && all[0] == all[1], "{all:?}");
            all.pop();
        }
        all
    }
}

/// Connections of all kinds are told one after the other over the time of the drain. What is published meanwhile reaches all who are not told
/// yet, once; each is told a time of its own to come back; and at the end nobody is left.
#[test]
fn closes_are_spread() {
    let mut scene = Stage::with_slots(2, &Limits::default(), 1024);
    let kinds = [
        Kind::Line,
        Kind::Raw,
        Kind::Stream("sse"),
        Kind::Stream("stream"),
        Kind::Stream("multipart"),
        Kind::Waits,
        Kind::Idle,
    ];
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        for kind in kinds {
            clients.push(Client::new(&mut scene, kind, n % 2));
        }
    }
    scene.turns();
    let mut published = 0;
    for (shard, kernel) in &mut scene.berths {
        shard.drain(kernel, DRAIN_TENTHS as u64 * 100_000);
    }
    for tenth in 0..=DRAIN_TENTHS {
        let standing: Vec<bool> = clients.iter().map(|client| client.told.is_none()).collect();
        let mut stands = clients.iter().filter(|client| client.kind == Kind::Line && client.told.is_none());
        if let Some(publisher) = stands.next_back() {
            let publication = text(&format!("PUB news\n<{published}>"));
            let _ = scene.net.borrow_mut().client_write(publisher.conn, &publication);
            published += 1;
        }
        scene.turns();
        for (client, stood) in clients.iter_mut().zip(standing).filter(|(_, stood)| *stood) {
            let got = scene.text(client.conn);
            client.got += &got;
            let over = scene.net.borrow().client_has_news(client.conn);
            let told = if client.kind == Kind::Idle { over } else { client.got.contains(client.last_words()) };
            if told {
                client.told = Some(tenth);
                scene.net.borrow_mut().client_close(client.conn);
            } else {
                assert!(stood && !over, "{:?} ends without a word: {}", client.kind, client.got);
            }
        }
        scene.pass_ms(100);
    }
    let told = |tenth: usize| clients.iter().filter(|client| client.told == Some(tenth)).count();
    let tenths: Vec<usize> = (0..=DRAIN_TENTHS).map(told).collect();
    assert_eq!(tenths.iter().sum::<usize>(), clients.len(), "all are told: {tenths:?}");
    let most = clients.len() / DRAIN_TENTHS * 2;
    assert!(tenths.iter().all(|told| *told <= most), "{tenths:?}");
    // One whose publisher was told just before is nobody's.
    let is_seen = |n: usize| clients.iter().any(|client| client.got.contains(&format!("<{n}>")));
    let seen: Vec<bool> = (0..published).map(is_seen).collect();
    assert!(seen.iter().filter(|seen| **seen).count() > DRAIN_TENTHS / 2, "{seen:?}");
    for client in clients.iter().filter(|client| !matches!(client.kind, Kind::Waits | Kind::Idle)) {
        let told = client.told.unwrap_or_default();
        for (n, seen) in seen.iter().enumerate() {
            let times = client.got.matches(&format!("<{n}>")).count();
            let due = *seen && n < told;
            assert!(times <= 1 && (times == 1 || !due), "{:?}, told in {told}, got {n} {times} times", client.kind);
        }
    }
    let mut delays: Vec<u32> = clients.iter().flat_map(Client::comes_back_s).collect();
    assert_eq!(delays.len(), clients.len() - CLIENTS, "each is told when to come back, once");
    delays.sort_unstable();
    delays.dedup();
    assert_eq!(delays, (1..=8).collect::<Vec<_>>(), "ten seconds less those of the drain");
    scene.pass_ms(3_000);
    assert!(scene.berths.iter().all(|(shard, _)| shard.finished()));
}

/// While it drains, whoever comes new is told so by name, and when it will be over; who asks on a connection that stands is served, but gets
/// no new stream and no WebSocket. Once all are told, nobody is accepted.
#[test]
fn newcomers_are_refused_by_name() {
    let marks = Watched::begin();
    let mut table = Table::new(Limits::default());
    let conns: Vec<_> = (0..200).map(|_| table.connect()).collect();
    let stands = table.connect();
    table.pass_ms(10);
    let get = "GET /topics/a HTTP/1.1\r\nHost: h\r\n\r\n";
    table.drain_within_us(2_000_000);
    table.pass_ms(100);
    let got = table.say(stands, get);
    assert!(got.statuses() == [200] && !got.says_close() && !got.ended, "{}", got.text());
    for asks in [get.to_owned(), upgrade("/ws")] {
        let got = table.ask(asks);
        assert_eq!((got.statuses(), got.ended), (vec![503], true), "{}", got.text());
        assert_eq!(got.body(), format!("{{\"error\":\"{}\"}}", Refusal::Draining.row().text));
        let after_s: u32 = got.header("Retry-After")[0].parse().expect("a number");
        assert!((3..=10).contains(&after_s), "not before the drain is over: {after_s}");
    }
    let got = table.say(stands, upgrade("/ws"));
    assert_eq!((got.statuses(), got.says_close()), (vec![503], true), "{}", got.text());
    assert!(!table.shard().finished());
    table.pass_ms(2_000);
    let late = table.connect();
    table.pass_ms(10);
    assert_eq!(table.shard().stats().connections, 0, "the ends of all are told, and nobody has come since");
    assert!(table.shard().finished() && conns.into_iter().all(|conn| table.read_some(conn, 1).ended));
    table.reset(late);
    marks.reached(&[Mark::DrainRefuses]);
}

/// A drain of a few connections is over at once, however long it might take.
#[test]
fn few_are_quick() {
    let mut table = Table::new(Limits::default());
    let conns: Vec<_> = (0..5).map(|_| table.connect()).collect();
    table.pass_ms(10);
    table.drain_within_us(60_000_000);
    table.pass_ms(100);
    assert!(conns.into_iter().all(|conn| table.read_some(conn, 1).ended) && table.shard().finished());
}
