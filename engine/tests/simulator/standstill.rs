//! Two shards, one of which stands still for a while: the rings between them fill up, and all that found no room comes later, complete
//! and in order, or its loss is told.

use corecast::reach::Mark;
use corecast::shard::Limits;

use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, frame, post};

/// Publications of one connection that wait for an answer: it may have 64, and a shard 4,096 at a home, a few of which are left.
const TICKETS: usize = 60;

/// Publishers on shard 0.
const PUBLISHERS: usize = 64;

/// Small messages of which nearly as many fit into a ring, both as they are published and as they are delivered.
const MESSAGES: usize = 4_000;

/// Turns after which shard 0 has taken all that its clients said. It hears 256 packets in each.
const FEW: usize = 8;

/// A topic that has its home on shard 1, where all that is said stays in the ring while it stands still.
struct Scene {
    stage: Stage,
    topic: String,
    publishers: Vec<ConnId>,
    published: usize,
}

impl Scene {
    fn new(limits: &Limits) -> Scene {
        let mut stage = Stage::new(2, limits);
        let topic = (0..).map(|n| format!("topic/{n}")).find(|topic| home_of(&mut stage, topic) == 1);
        let publishers = (0..PUBLISHERS).map(|_| stage.upgrade_at(0, 1 << 20, "/ws")).collect();
        // One was published to find the home.
        Scene { stage, topic: topic.expect("half of all topics have"), publishers, published: 1 }
    }

    /// Publishes so many messages in one breath, while shard 1 stands still.
    fn publish(&mut self, count: usize, options: &str) {
        let message = frame(0x81, format!("PUB {}{options}\n<m>", self.topic).as_bytes());
        for conn in &self.publishers {
            self.stage.say(*conn, &message.repeat(count / PUBLISHERS));
        }
        self.published += count / PUBLISHERS * PUBLISHERS;
        self.turns_of(0, FEW);
    }

    /// Lets the home number very many messages whose publishers wait for no answer, so many times over: twice, and the ring back is
    /// nearly full.
    fn fill(&mut self, times: usize) {
        for _ in 0..times {
            self.publish(MESSAGES, "");
            self.turns_of(1, 40);
        }
    }

    fn turns_of(&mut self, shard: usize, count: usize) {
        (0..count).for_each(|_| self.stage.turn_of(shard));
    }

    /// Lets both go on until nobody has anything to do.
    fn go_on(&mut self) {
        (0..10).for_each(|_| self.stage.turns());
    }

    /// Returns how many publications were answered.
    fn answered(&mut self) -> usize {
        let answers: Vec<String> = self.publishers.iter().map(|conn| self.stage.text(*conn)).collect();
        answers.iter().map(|answer| answer.matches("OK p ").count()).sum()
    }

    /// Subscribes a new connection on shard 0, and lets that shard alone take turns.
    fn subscribe(&mut self, topic: &str) -> ConnId {
        let conn = self.stage.upgrade_at(0, 1 << 20, "/ws");
        self.stage.say_text(conn, format!("SUB {topic} since=live id=s").as_bytes());
        self.turns_of(0, 6);
        conn
    }
}

/// Finds out where the home of a topic is, which nobody else knows of.
fn home_of(stage: &mut Stage, topic: &str) -> usize {
    assert!(stage.publish(topic, "x"));
    let at_home = |shard: &corecast::shard::Shard| {
        let mut found = false;
        shard.heads(|head| found |= head.at_home && head.topic == topic);
        found
    };
    stage.berths.iter().position(|(shard, _)| at_home(shard)).expect("one of them has it")
}

/// Reads the numbers of the messages that came.
fn numbers(told: &str) -> Vec<u64> {
    let cursors = told.match_indices("MSG ").filter_map(|(at, _)| told[at..].split([' ', '\n']).nth(2));
    cursors.filter_map(|cursor| cursor.split_once('-')?.1.parse().ok()).collect()
}

/// A shard with a reader stands still while thousands of messages are numbered: its ring is full, and so it is of answers. When it
/// goes on it catches up, in several batches, and its reader gets every message once and in order; all publishers are answered.
#[test]
fn all_that_found_no_room_comes_later() {
    let marks = Watched::begin();
    let limits =
        Limits { history_messages: 1 << 20, history_bytes: 4 << 20, log_bytes_max: 4 << 20, ..Limits::default() };
    let mut scene = Scene::new(&limits);
    let topic = scene.topic.clone();
    let reader = scene.subscribe(&topic);
    scene.stage.turns();
    scene.fill(2);
    scene.publish(PUBLISHERS * TICKETS, " id=p");
    scene.turns_of(1, 40);
    scene.go_on();
    assert_eq!(scene.answered(), PUBLISHERS * TICKETS);
    let numbers = numbers(&scene.stage.text(reader));
    assert!(numbers.iter().copied().eq(2..=scene.published as u64), "{} of {}", numbers.len(), scene.published);
    marks.reached(&[Mark::RingFull, Mark::CaughtUpInBatches, Mark::AnswerKept]);
}

/// The same where the history holds a few messages only: what is gone is told, and nothing else is missing.
#[test]
fn what_is_gone_meanwhile_is_told() {
    let marks = Watched::begin();
    let mut scene = Scene::new(&Limits { history_messages: 10, ..Limits::default() });
    let topic = scene.topic.clone();
    let reader = scene.subscribe(&topic);
    scene.stage.turns();
    scene.fill(5);
    scene.go_on();
    let told = scene.stage.text(reader);
    let words = told.match_indices("GAP ").filter_map(|(at, _)| told[at..].split(' ').nth(4)?.parse().ok());
    let gaps: Vec<u64> = words.collect();
    let numbers = numbers(&told);
    assert!(!gaps.is_empty() && numbers.is_sorted(), "{gaps:?}");
    assert_eq!(numbers.len() as u64 + gaps.iter().sum::<u64>(), scene.published as u64 - 1, "{gaps:?}");
    assert_eq!(numbers.last(), Some(&(scene.published as u64)));
    marks.reached(&[Mark::RingFull, Mark::CaughtUpWithLoss]);
}

/// Who subscribes while the ring back is full is told later that it has joined, and misses nothing from then on; who has left by
/// then leaves nothing behind.
#[test]
fn who_joins_meanwhile_is_told_later() {
    let marks = Watched::begin();
    let mut scene = Scene::new(&Limits::default());
    let topic = scene.topic.clone();
    scene.subscribe(&topic);
    scene.stage.turns();
    let mut others = (1_000..).map(|n| format!("topic/{n}")).filter(|topic| home_of(&mut scene.stage, topic) == 1);
    let others: [String; 2] = std::array::from_fn(|_| others.next().expect("half of all topics have"));
    let [stays, leaves, reads_all] = std::array::from_fn(|_| scene.stage.upgrade_at(0, 1 << 20, "/ws"));
    scene.fill(2);
    scene.publish(PUBLISHERS * TICKETS, " id=p");
    for (conn, topic) in [stays, leaves].into_iter().zip(&others) {
        scene.stage.say_text(conn, format!("SUB {topic} since=live id=s").as_bytes());
    }
    scene.stage.say_text(reads_all, b"SUB topic/+ since=live id=s");
    scene.turns_of(0, 4);
    scene.turns_of(1, 40);
    // A few turns make room for the word that it has left, and the home hears that before it says what it owes.
    scene.stage.net.borrow_mut().client_reset(leaves, true);
    scene.turns_of(0, 4);
    scene.go_on();
    assert_eq!(scene.answered(), PUBLISHERS * TICKETS);
    assert!(scene.stage.publish(&others[0], "after all"));
    for conn in [stays, reads_all] {
        let told = scene.stage.text(conn);
        assert!(told.contains("OK s ") && told.contains("after all"), "{told:?}");
    }
    marks.reached(&[Mark::AnswerKept, Mark::JoinedLater, Mark::JoinedAndLeft, Mark::PatternJoinedLater]);
}

/// Readers that lag cannot all ask their home while the ring to it is full of publications; they ask when there is room, and have
/// everything in the end.
#[test]
fn who_lags_asks_later() {
    const SLOW: usize = 12;
    let marks = Watched::begin();
    let limits =
        Limits { log_bytes_max: 1_000, history_messages: 1 << 20, history_bytes: 4 << 20, ..Limits::default() };
    let mut scene = Scene::new(&limits);
    let topic = scene.topic.clone();
    let slow: Vec<ConnId> = (0..SLOW).map(|_| scene.stage.upgrade_at(0, 300, "/ws")).collect();
    slow.iter().for_each(|conn| scene.stage.say_text(*conn, format!("SUB {topic} since=live").as_bytes()));
    scene.stage.turns();
    let mut told: Vec<String> = slow.iter().map(|conn| scene.stage.text(*conn)).collect();
    // Their sockets are full, and their log forgets what they have not got.
    for _ in 0..40 {
        assert!(scene.stage.publish(&topic, &"before ".repeat(20)));
        scene.published += 1;
    }
    scene.publish(2 * MESSAGES, "");
    // They read on, and want what the log does not hold.
    let read = |scene: &mut Scene, told: &mut Vec<String>| {
        slow.iter().zip(told).for_each(|(conn, told)| *told += &scene.stage.text(*conn));
    };
    for _ in 0..8 {
        read(&mut scene, &mut told);
        scene.turns_of(0, 2);
    }
    let last = scene.published as u64;
    for _ in 0..20_000 {
        read(&mut scene, &mut told);
        scene.stage.quick_turn();
        scene.turns_of(1, 1);
        if told.iter().all(|told| told.contains(&format!("-{last}\n"))) {
            break;
        }
    }
    for told in &told {
        let numbers = numbers(told);
        assert!(numbers.iter().copied().eq(2..=last), "{} of {last} messages", numbers.len());
    }
    marks.reached(&[Mark::Lagged, Mark::LagWaits]);
}

/// A history that somebody asked for waits while the ring is full; after its time messages make way for it, and come all the same.
#[test]
fn a_history_waits_for_its_time_only() {
    let marks = Watched::begin();
    let limits =
        Limits { history_messages: 1 << 20, history_bytes: 4 << 20, log_bytes_max: 4 << 20, ..Limits::default() };
    let mut scene = Scene::new(&limits);
    let topic = scene.topic.clone();
    let other = (1_000..).map(|n| format!("topic/{n}")).find(|topic| home_of(&mut scene.stage, topic) == 0);
    let other = other.expect("half of all topics have");
    let reader = scene.subscribe(&topic);
    scene.stage.turns();
    scene.fill(2);
    let head = format!("GET /topics/{topic}?since=-3&transport=poll HTTP/1.1\r\nHost: x\r\n\r\n");
    let poller = scene.stage.open_at(0, 1 << 20, head.as_bytes());
    scene.publish(MESSAGES, "");
    scene.turns_of(1, 60);
    // The ring is that to the home of this one, too.
    let publisher = scene.stage.open_at(1, 1 << 20, post(&other, "makes way").as_bytes());
    scene.turns_of(1, 10);
    assert_eq!(scene.stage.text(publisher), "", "it waits");
    scene.go_on();
    assert!(scene.stage.text(publisher).starts_with("HTTP/1.1 200"));
    assert!(scene.stage.text(poller).starts_with("HTTP/1.1 200"));
    let numbers = numbers(&scene.stage.text(reader));
    assert!(numbers.iter().copied().eq(2..=scene.published as u64), "{} of {}", numbers.len(), scene.published);
    marks.reached(&[Mark::HistoriesFirst, Mark::ReplayKept]);
}

/// While the ring to a home is full, that nobody reads very many topics any more waits to be said.
#[test]
fn leaves_wait_for_a_ring() {
    let marks = Watched::begin();
    let mut scene = Scene::new(&Limits::default());
    let long = "x".repeat(200);
    let name = |n: usize| format!("left/{n}/{long}");
    let readers: Vec<ConnId> = (0..5).map(|_| scene.stage.upgrade_at(0, 1 << 20, "/ws")).collect();
    for (reader, conn) in readers.iter().enumerate() {
        for n in 0..1_000 {
            scene.stage.say_text(*conn, format!("SUB {} since=live", name(reader * 1_000 + n)).as_bytes());
            if n % 100 == 99 {
                scene.stage.turns();
            }
        }
    }
    scene.go_on();
    scene.publish(2 * MESSAGES, "");
    for conn in &readers {
        scene.stage.net.borrow_mut().client_reset(*conn, true);
    }
    scene.turns_of(0, 200);
    scene.go_on();
    let again = scene.stage.upgrade_at(0, 1 << 20, "/ws");
    for n in [0, 999, 4_999] {
        scene.stage.say_text(again, format!("SUB {} since=live id=s{n}", name(n)).as_bytes());
        scene.stage.turns();
        assert!(scene.stage.publish(&name(n), &format!("after all {n}")));
        let told = scene.stage.text(again);
        assert!(told.contains(&format!("OK s{n} ")), "{told:?}");
        assert_eq!(told.matches(&format!("after all {n}")).count(), 1, "{told:?}");
    }
    marks.reached(&[Mark::LeaveWaits]);
}

/// While the ring to a home is full of publications, whoever begins to read a pattern waits to be given what there is; that nobody reads it any
/// more waits to be said, and is not said if somebody does again.
#[test]
fn patterns_wait_for_a_ring() {
    let marks = Watched::begin();
    let mut scene = Scene::new(&Limits::default());
    let first = scene.subscribe("topic/#");
    scene.go_on();
    let [second, third] = std::array::from_fn(|_| scene.stage.upgrade_at(0, 1 << 20, "/ws"));
    scene.publish(2 * MESSAGES, "");
    scene.stage.say_text(second, b"SUB topic/# id=s");
    scene.turns_of(0, 4);
    for conn in [first, second] {
        scene.stage.net.borrow_mut().client_reset(conn, true);
    }
    scene.turns_of(0, 4);
    scene.stage.say_text(third, b"SUB topic/# since=live id=s");
    scene.turns_of(0, 4);
    scene.go_on();
    let topic = scene.topic.clone();
    assert!(scene.stage.publish(&topic, "after all"));
    let told = scene.stage.text(third);
    assert!(told.contains("OK s ") && told.contains("after all"), "{told:?}");
    marks.reached(&[Mark::PatternWalkWaits, Mark::PatternLeaveWaits, Mark::PatternBackBeforeLeave]);
}
