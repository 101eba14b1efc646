//! A storm: ten thousand clients come back at once, to a shard on a machine that is slow. Those who are connected do not notice, and
//! everybody is in after a while, in the order in which the shard asked them to come.

use corecast::reach::Mark;
use corecast::shard::{COME_BACK, Limits, Refusal, Stats};

use crate::endings::upgrade;
use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::Stage;

const CLIENTS: usize = 10_000;

/// What each order to the kernel takes, in microseconds: many times what it does.
const ORDER_US: u64 = 100;

/// Accepts in flight, as on the ring.
const ACCEPTS: usize = 32;

/// What lies between two turns, in microseconds: a storm takes seconds, and a test is to take few turns.
const PAUSE_US: u64 = 1_000;

/// Turns of more than this are an overload, in microseconds.
const OVERLOAD_US: u64 = 3_000;

/// The longest that a message of the innocent may take, in turns of the shard, and in microseconds.
const TURNS_MAX: usize = 6;
const LATE_US_MAX: u64 = 100_000;

/// Readers of a topic that is busy while the storm begins, so that turns are long whoever comes, and for how long, in microseconds.
const BUSY_READERS: usize = 100;
const BUSY_US: u64 = 3_000_000;

/// Turns in which everybody is in, at most.
const STORM_TURNS_MAX: usize = 10_000;

/// A client that wants to be connected.
enum Client {
    Outside { comes_us: u64 },
    Waiting { conn: ConnId, heard: Vec<u8>, since_us: u64 },
    Inside,
}

struct Storm {
    stage: Stage,
    clients: Vec<Client>,
    /// What was told to those who were refused, in seconds.
    told_s: Vec<u64>,
    longest_wait_us: u64,
}

impl Storm {
    fn now_us(&self) -> u64 {
        self.stage.net.borrow().now_us()
    }

    /// Lets every client do what it can; says whether all are in.
    fn act(&mut self) -> bool {
        let now_us = self.now_us();
        let mut inside = 0;
        for index in 0..self.clients.len() {
            match &mut self.clients[index] {
                Client::Inside => inside += 1,
                Client::Outside { comes_us } if *comes_us <= now_us => {
                    let conn = self.stage.open(4_096, upgrade("/topics/storm?since=live").as_bytes());
                    self.clients[index] = Client::Waiting { conn, heard: Vec::new(), since_us: now_us };
                }
                Client::Outside { .. } => {}
                Client::Waiting { conn, heard, since_us } => {
                    if !self.stage.net.borrow().client_has_news(*conn) {
                        continue;
                    }
                    let ended = self.stage.read(*conn, usize::MAX, heard);
                    let text = String::from_utf8_lossy(heard);
                    if text.contains("\r\n\r\n") && text.starts_with("HTTP/1.1 101 ") {
                        self.longest_wait_us = self.longest_wait_us.max(now_us - *since_us);
                        self.clients[index] = Client::Inside;
                    } else if ended {
                        let told = text.split("Retry-After: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                        let after_s: u64 = told.and_then(|told| told.parse().ok()).unwrap_or_else(|| {
                            panic!("nobody is refused without a time to come back: {text:?}");
                        });
                        assert!(text.contains(Refusal::Overloaded.row().text) && after_s > 0, "{text:?}");
                        self.stage.net.borrow_mut().client_close(*conn);
                        self.told_s.push(after_s);
                        // Nobody is there on the second.
                        let late_us = (index as u64 * 7_919) % 250_000;
                        self.clients[index] = Client::Outside { comes_us: now_us + after_s * 1_000_000 + late_us };
                    }
                }
            }
        }
        inside == self.clients.len()
    }
}

/// The storm, as it is told above.
#[test]
fn a_storm_of_reconnects() {
    let marks = Watched::begin();
    let limits = Limits { overload_us: OVERLOAD_US, ..Limits::default() };
    let mut stage = Stage::with_slots(1, &limits, 16 << 10);
    let reader = stage.upgrade_at(0, 1 << 16, "/topics/innocent?since=live");
    let writer = stage.upgrade_at(0, 1 << 16, "/ws");
    let busy: Vec<ConnId> =
        (0..BUSY_READERS).map(|_| stage.upgrade_at(0, 1 << 20, "/topics/busy?since=live")).collect();
    stage.berths[0].1.order_us = ORDER_US;
    stage.berths[0].1.accepts_max = ACCEPTS;
    let start_us = stage.net.borrow().now_us();
    let clients = (0..CLIENTS).map(|_| Client::Outside { comes_us: start_us }).collect();
    let mut storm = Storm { stage, clients, told_s: Vec::new(), longest_wait_us: 0 };
    // What is on its way to the innocent: since which turn, and when.
    let mut sent: Option<(usize, u64)> = None;
    let (mut slowest_turns, mut slowest_us) = (0, 0);
    let mut turns = 0;
    let mut messages = 0;
    while !storm.act() {
        assert!(
            turns < STORM_TURNS_MAX,
            "{} are in",
            storm.clients.iter().filter(|c| matches!(c, Client::Inside)).count()
        );
        if sent.is_none() && turns % 10 == 0 {
            storm.stage.say_text(writer, b"PUB innocent\nhello");
            sent = Some((turns, storm.now_us()));
        }
        if storm.now_us() < start_us + BUSY_US {
            storm.stage.say_text(writer, b"PUB busy\nx");
        }
        storm.stage.quick_turn();
        storm.stage.net.borrow_mut().advance_us(PAUSE_US);
        turns += 1;
        if turns % 256 == 0 {
            busy.iter().for_each(|conn| drop(storm.stage.text(*conn)));
        }
        if let Some((turn, sent_us)) = sent
            && storm.stage.net.borrow().client_has_news(reader)
        {
            assert_eq!(storm.stage.text(reader), "\u{fffd}\u{5}hello");
            (slowest_turns, slowest_us) = (slowest_turns.max(turns - turn), slowest_us.max(storm.now_us() - sent_us));
            messages += 1;
            sent = None;
        }
    }
    let Stats { refused, refused_overloaded, overloads, connections, .. } = storm.stage.stats();
    let took_s = (storm.now_us() - start_us) / 1_000_000;
    let most_s = storm.told_s.iter().max().copied().unwrap_or(0);
    eprintln!(
        "{turns} turns, {took_s} s, {refused} refused, {overloads} times held, told {most_s} s at most, waited {} ms; \
         the innocent's {messages} messages: {slowest_turns} turns, {slowest_us} us",
        storm.longest_wait_us / 1000
    );
    assert!(slowest_turns <= TURNS_MAX && slowest_us <= LATE_US_MAX, "{slowest_turns} turns, {slowest_us} us");
    assert!(messages > 100 && refused > 1_000, "{messages} messages, {refused} refused");
    assert_eq!((refused, storm.told_s.len() as u64), (refused_overloaded, refused));
    assert!(most_s <= 20 && took_s <= 30);
    marks.reached(&[Mark::OverloadHolds, Mark::OverloadRefuses]);
    for _ in 0..30_000 {
        storm.stage.quick_turn();
    }
    storm.stage.pass_ms(3_000);
    let Stats { connections: left, overloaded, .. } = storm.stage.stats();
    assert_eq!(
        (left, overloaded),
        ((CLIENTS + BUSY_READERS) as u64 + 2, 0),
        "of {connections} those who were refused are gone"
    );
    assert!(!Refusal::Overloaded.row().text.contains(COME_BACK));
}
