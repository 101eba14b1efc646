//! Views: what part of a topic somebody wants, and how. Readers with small sockets and all kinds of views, topics of records, of keys and of
//! neither, rings that are full and logs that are short: what each has after all it was sent is what the topic says, filtered and projected.
//!
//! Owns: the truth, as publishers were told it (cursor by cursor), and what each reader has made of what it was sent.

use std::collections::{BTreeMap, HashMap};

use corecast::reach::Mark;
use corecast::shard::{Limits, Mode, Rule, Rules, Terms};
use corecast_protocol::record::{self, Fields};
use corecast_protocol::selector::{Given, Selector};
use corecast_protocol::write::Writer;

use crate::marks::Watched;
use crate::net::ConnId;
use crate::rng::Rng;
use crate::stage::{Stage, frame};

const SEEDS: u64 = 60;

/// What a topic says of its keys; one without keys has one that is empty.
type Table = BTreeMap<String, String>;

/// One message as its home took it.
#[derive(Clone, Debug)]
struct Said {
    key: String,
    op: &'static str,
    payload: String,
}

#[derive(Clone, Debug, Default)]
struct View {
    fields: Option<String>,
    selector: Option<String>,
    delta: bool,
    conflate: bool,
    every: Option<u32>,
    /// How fast it wants all.
    pace: &'static str,
}

impl View {
    fn draw(rng: &mut Rng) -> View {
        let fields = [None, None, Some("n"), Some("n,s"), Some("p.x,id"), Some("none")];
        let selectors = [
            None,
            None,
            Some("n > 50"),
            Some("s = 'a' OR n BETWEEN 20 AND 40"),
            Some("p.x IS NULL"),
            Some("s LIKE 'b%' AND NOT n = 7"),
        ];
        View {
            fields: rng.pick(&fields).map(str::to_owned),
            selector: rng.pick(&selectors).map(str::to_owned),
            delta: rng.chance(400),
            conflate: rng.chance(300),
            every: rng.chance(200).then(|| rng.pick(&[1, 20, 300])),
            pace: rng.pick(&[
                "",
                "",
                "",
                " batch=50",
                " rate=20000",
                " queue=3",
                " queue=1 batch=30",
                " rate=90000 queue=5",
            ]),
        }
    }

    fn words(&self) -> String {
        let mut words = String::new();
        let mut add = |name: &str, value: &str| {
            words.push_str(&format!(" {name}={}", value.replace('%', "%25").replace(' ', "%20")));
        };
        if let Some(fields) = &self.fields {
            add("fields", fields);
        }
        if let Some(selector) = &self.selector {
            add("where", selector);
        }
        if let Some(every) = self.every {
            add("every", &every.to_string());
        }
        if self.delta {
            words.push_str(" delta");
        }
        if self.conflate {
            words.push_str(" conflate");
        }
        words.push_str(self.pace);
        words
    }

    /// What it shows of a value; none if it does not show it.
    fn shows(&self, topic: &str, key: &str, payload: &str) -> Option<String> {
        if let Some(selector) = &self.selector {
            let given = Given { topic: Some(topic), key: Some(key).filter(|key| !key.is_empty()), event: None };
            if !Selector::parse(selector).expect("sound").matches(payload.as_bytes(), &given) {
                return None;
            }
        }
        let Some(fields) = &self.fields else { return Some(payload.to_owned()) };
        let mut out = vec![0; payload.len()];
        let mut w = Writer::new(&mut out);
        if record::project(payload.as_bytes(), &Fields::parse(fields).expect("sound"), &mut w).is_err() {
            return Some(payload.to_owned());
        }
        let len = w.finish().expect("sound");
        Some(String::from_utf8(out[..len].to_vec()).expect("sound"))
    }
}

fn merge(target: &str, patch: &str) -> String {
    let mut out = vec![0; target.len() + patch.len()];
    let mut w = Writer::new(&mut out);
    record::merge(target.as_bytes(), patch.as_bytes(), &mut vec![0; 64], &mut w).expect("sound");
    let len = w.finish().expect("sound");
    String::from_utf8(out[..len].to_vec()).expect("sound")
}

/// A reader on the line protocol, and what it has.
struct Reader {
    conn: ConnId,
    topic: &'static str,
    view: View,
    bytes: Vec<u8>,
    /// It has been sent all there was, and this is what it has of each key.
    table: Table,
    complete: bool,
    /// Of each message: its number, its key, and what the key had then.
    seen: Vec<(u64, String, Option<String>)>,
    cursor: Option<String>,
    gaps: usize,
    /// Messages up to this number are lost, as far as it was told.
    lost_to: u64,
    bandwidth: u32,
    /// What it was told, without payloads: for whoever looks at a failure.
    heads: Vec<String>,
}

impl Reader {
    fn open(stage: &mut Stage, rng: &mut Rng, topic: &'static str, view: View) -> Reader {
        let shard = rng.below(stage.berths.len());
        let room = rng.pick(&[250, 700, 4_000, 1 << 16]);
        let conn = stage.upgrade_at(shard, room, "/ws");
        let mut reader = Reader {
            conn,
            topic,
            view,
            bytes: Vec::new(),
            table: Table::new(),
            complete: false,
            seen: Vec::new(),
            cursor: None,
            gaps: 0,
            lost_to: 0,
            heads: Vec::new(),
            bandwidth: rng.pick(&[0, 0, 0, 15_000, 200_000]),
        };
        reader.subscribe(stage);
        reader
    }

    fn subscribe(&mut self, stage: &mut Stage) {
        let since = self.cursor.as_ref().map_or(String::new(), |cursor| format!(" since={cursor}"));
        if self.bandwidth > 0 {
            stage.say_text(self.conn, format!("SET bandwidth={}", self.bandwidth).as_bytes());
        }
        let line = format!("SUB {}{since}{}", self.topic, self.view.words());
        stage.say_text(self.conn, line.as_bytes());
    }

    /// Comes back with what it has.
    fn come_back(&mut self, stage: &mut Stage, rng: &mut Rng) {
        stage.net.borrow_mut().client_reset(self.conn, true);
        let shard = rng.below(stage.berths.len());
        self.conn = stage.upgrade_at(shard, rng.pick(&[300, 5_000]), "/ws");
        self.bytes.clear();
        self.heads.push("(comes back)".to_owned());
        self.subscribe(stage);
    }

    /// Reads up to so many bytes, and takes what is complete.
    fn read(&mut self, stage: &mut Stage, max: usize) {
        let ended = stage.read(self.conn, max, &mut self.bytes);
        assert!(!ended, "{}: {}", self.topic, String::from_utf8_lossy(&self.bytes));
        while let Some((payload, len)) = whole_frame(&self.bytes) {
            let (opcode, payload) = (self.bytes[0] & 15, payload.to_vec());
            self.bytes.drain(..len);
            match opcode {
                1 => self.take(std::str::from_utf8(&payload).expect("everything here is text")),
                9 => stage.say(self.conn, &frame(0x8A, &[])),
                other => panic!("opcode {other}"),
            }
        }
    }

    fn take(&mut self, message: &str) {
        let (head, payload) = message.split_once('\n').unwrap_or((message, ""));
        self.heads.push(head.to_owned());
        let words: Vec<&str> = head.split(' ').collect();
        let option = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)).unwrap_or("");
        match words[0] {
            "HI" => {}
            "EOS" => {
                assert!(self.topic != "d", "a topic without values has no end of a snapshot");
                self.complete = true;
            }
            "GAP" => {
                if words[5] != "conflated" {
                    self.gaps += 1;
                    self.lost_to = words[3].split_once('-').expect("sound").1.parse().expect("sound");
                    self.table.clear();
                    self.complete = self.topic == "d";
                }
                self.cursor = Some(words[3].to_owned());
            }
            "MSG" => {
                let (key, op) = (option("key=").to_owned(), option("op="));
                let seq = words[2].split_once('-').expect("sound").1.parse().expect("sound");
                self.cursor = Some(words[2].to_owned());
                match op {
                    "delete" if key.is_empty() => self.table.clear(),
                    "delete" => drop(self.table.remove(&key)),
                    "merge" => {
                        assert!(self.view.delta, "nobody else is sent changes");
                        let before = self.table.get(&key).unwrap_or_else(|| panic!("a change of nothing: {message}"));
                        let merged = merge(before, payload);
                        self.table.insert(key.clone(), merged);
                    }
                    _ => drop(self.table.insert(key.clone(), payload.to_owned())),
                }
                let has = self.table.get(&key).cloned();
                self.seen.push((seq, key, has));
            }
            _ => panic!("{message}"),
        }
    }
}

fn whole_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (at, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        len => (2, usize::from(len)),
    };
    Some((bytes.get(at..at + len)?, at + len))
}

/// Who publishes, and what was taken.
struct Publisher {
    conn: ConnId,
    bytes: Vec<u8>,
}

struct World {
    stage: Stage,
    rng: Rng,
    publishers: Vec<Publisher>,
    readers: Vec<Reader>,
    orders: HashMap<u64, (&'static str, Said)>,
    next_id: u64,
    /// Of each topic, by number, what was said.
    said: HashMap<&'static str, BTreeMap<u64, Vec<Said>>>,
    refused: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let rule = |pattern: &str, mode, key: Option<&str>| {
            let terms = Terms { mode: Some(mode), key: key.map(Into::into), rows: Some(12), ..Terms::default() };
            Rule { pattern: pattern.into(), terms }
        };
        let rules = vec![rule("m", Mode::Merge, None), rule("c", Mode::Command, Some("id"))];
        let limits = Limits {
            rules: Rules::new(rules).expect("sound"),
            memory_bytes: 8 << 20,
            log_bytes_max: rng.pick(&[1 << 10, 4 << 10, 64 << 10]),
            history_messages: rng.pick(&[4, 64]),
            history_ms: rng.pick(&[5, 10_000]),
            message_bytes_max: 2 << 10,
            ping_ms: 1 << 40,
            dead_ms: 1 << 41,
            ..Limits::default()
        };
        let shards = 1 + rng.below(3);
        let mut stage = Stage::with_slots(shards, &limits, 256);
        let publishers =
            (0..shards).map(|at| Publisher { conn: stage.upgrade_at(at, 1 << 16, "/ws"), bytes: Vec::new() }).collect();
        World {
            stage,
            rng,
            publishers,
            readers: Vec::new(),
            orders: HashMap::new(),
            next_id: 0,
            said: HashMap::from([("m", BTreeMap::new()), ("c", BTreeMap::new()), ("d", BTreeMap::new())]),
            refused: 0,
        }
    }

    fn payload(&mut self, whole: bool) -> String {
        let rng = &mut self.rng;
        let mut members = Vec::new();
        let mut add = |rng: &mut Rng, name: &str, values: &[&str]| {
            if whole || rng.chance(400) {
                members.push(format!("\"{name}\":{}", rng.pick(values)));
            }
        };
        let number = rng.below(100).to_string();
        add(rng, "n", &[&number, "7", "null"]);
        add(rng, "s", &["\"a\"", "\"bc\"", "\"\\u0062\"", "null"]);
        add(rng, "p", &["{\"x\":1}", "{\"x\":2,\"y\":[1,2]}", "{}", "null"]);
        let long = format!("\"{}\"", "z".repeat(rng.below(300)));
        add(rng, "pad", &[&long, "1"]);
        format!("{{{}}}", members.join(","))
    }

    fn publish(&mut self) {
        let topic = self.rng.pick(&["m", "c", "c", "d"]);
        let whole = topic == "d" || self.rng.chance(500);
        let payload = self.payload(whole);
        let key = format!("k{}", self.rng.below(15));
        let said = match (topic, self.rng.below(12)) {
            ("c", 0 | 1) => Said { key, op: "delete", payload: String::new() },
            ("c", 2) => Said { key, op: "merge", payload },
            ("c", 3..=6) => {
                // The key is in the record.
                let payload = format!("{{\"id\":\"{key}\",{}", &payload[1..]).replace(",}", "}");
                Said { key, op: "", payload }
            }
            ("c", _) => Said { key, op: "put", payload },
            ("m", 0) => Said { key: String::new(), op: "delete", payload: String::new() },
            ("m", 1) => Said { key: String::new(), op: "put", payload },
            ("m", _) => Said { key: String::new(), op: "merge", payload },
            _ => Said { key: String::new(), op: "", payload },
        };
        self.next_id += 1;
        let id = self.next_id;
        let mut line = format!("PUB {topic} id={id}");
        if !said.key.is_empty() && !said.op.is_empty() {
            line.push_str(&format!(" key={}", said.key));
        }
        if !said.op.is_empty() && (topic != "m" || said.op != "merge") {
            line.push_str(&format!(" op={}", said.op));
        }
        let line = format!("{line}\n{}", said.payload);
        let at = self.rng.below(self.publishers.len());
        let conn = self.publishers[at].conn;
        self.stage.say_text(conn, line.as_bytes());
        self.orders.insert(id, (topic, said));
    }

    fn hear_publishers(&mut self) {
        for publisher in &mut self.publishers {
            assert!(!self.stage.read(publisher.conn, usize::MAX, &mut publisher.bytes));
            while let Some((payload, len)) = whole_frame(&publisher.bytes) {
                let line = String::from_utf8(payload.to_vec()).expect("sound");
                publisher.bytes.drain(..len);
                let words: Vec<&str> = line.split(' ').collect();
                match words[0] {
                    "HI" => {}
                    "OK" => {
                        let (topic, said) = self.orders.remove(&words[1].parse().expect("sound")).expect("asked once");
                        let seq: u64 = words[2].split_once('-').expect("sound").1.parse().expect("sound");
                        self.said.get_mut(topic).expect("sound").entry(seq).or_default().push(said);
                    }
                    "ERR" => {
                        assert!(line.contains("bad-record") || line.contains(" full "), "{line}");
                        self.orders.remove(&words[1].parse().expect("sound")).expect("asked once");
                        self.refused += 1;
                    }
                    _ => panic!("{line}"),
                }
            }
        }
    }

    fn run(&mut self) {
        let turns = 250 + self.rng.below(250);
        for _ in 0..turns {
            if self.readers.len() < 9 && self.rng.chance(60) {
                let (topic, view) = (self.rng.pick(&["m", "c", "c", "d"]), View::draw(&mut self.rng));
                self.readers.push(Reader::open(&mut self.stage, &mut self.rng, topic, view));
            }
            if self.rng.chance(700) {
                for _ in 0..self.rng.skewed(12) {
                    self.publish();
                }
            }
            for _ in 0..self.rng.below(4) {
                let shard = self.rng.below(self.stage.berths.len());
                self.stage.turn_of(shard);
            }
            for at in 0..self.readers.len() {
                if self.rng.chance(400) {
                    let max = self.rng.skewed(3_000);
                    self.readers[at].read(&mut self.stage, max);
                }
                if self.rng.chance(4) {
                    self.readers[at].come_back(&mut self.stage, &mut self.rng);
                }
            }
            if self.rng.chance(50) {
                self.stage.net.borrow_mut().advance_us(20_000);
            }
            self.hear_publishers();
        }
        for round in 0..4_000 {
            let pending: u64 = self.stage.berths.iter().map(|(shard, _)| shard.pending()).sum();
            if round > 200 && pending == 0 {
                break;
            }
            self.stage.net.borrow_mut().advance_us(30_000);
            (0..3).for_each(|_| self.stage.turn());
            self.readers.iter_mut().for_each(|reader| reader.read(&mut self.stage, usize::MAX));
            self.hear_publishers();
        }
        assert!(self.orders.is_empty(), "everything is answered");
    }

    /// What a topic says after each number.
    fn history(&self, topic: &str) -> BTreeMap<u64, Table> {
        let mut table = Table::new();
        let mut all = BTreeMap::from([(0, table.clone())]);
        for (number, all_said) in &self.said[topic] {
            // A deletion of nothing is answered with the number of what was there before.
            let real = |said: &&Said| said.op != "delete" || table.contains_key(&said.key);
            let Some(said) = all_said.iter().find(|said| said.op != "delete").or_else(|| all_said.iter().find(real))
            else {
                continue;
            };
            match said.op {
                "delete" => drop(table.remove(&said.key)),
                "merge" => {
                    let merged = merge(table.get(&said.key).map_or("{}", |value| value), &said.payload);
                    table.insert(said.key.clone(), merged);
                }
                _ => drop(table.insert(said.key.clone(), said.payload.clone())),
            }
            all.insert(*number, table.clone());
        }
        all
    }

    fn check(&self, seed: u64) {
        let stats: HashMap<&str, BTreeMap<u64, Table>> =
            ["m", "c", "d"].map(|topic| (topic, self.history(topic))).into();
        for (at, reader) in self.readers.iter().enumerate() {
            let truth = &stats[reader.topic];
            let who = || {
                let told = reader.heads.len().saturating_sub(8);
                let (words, bandwidth) = (reader.view.words(), reader.bandwidth);
                let heads = &reader.heads[told..];
                format!(
                    "seed {seed}, reader {at} of {} with{words}, bandwidth {bandwidth}, told {heads:?}",
                    reader.topic
                )
            };
            for (number, key, has) in &reader.seen {
                let then = truth.get(number).unwrap_or_else(|| panic!("{}: number {number} was not given", who()));
                let expected = then.get(key).and_then(|value| reader.view.shows(reader.topic, key, value));
                assert_eq!(same(has), same(&expected), "{}: {key:?} at {number}", who());
            }
            let last = truth.last_key_value().expect("sound").1;
            let shown = last.iter().filter_map(|(key, value)| {
                Some((key.clone(), same(&Some(reader.view.shows(reader.topic, key, value)?))?))
            });
            let shown: BTreeMap<String, serde_json::Value> = shown.collect();
            let has = reader.table.iter().map(|(key, value)| (key.clone(), same(&Some(value.clone())).expect("sound")));
            let has: BTreeMap<String, serde_json::Value> = has.collect();
            if reader.topic == "d" {
                // Who wants some messages has the last of these, which need not be the last of all.
                let numbers: Vec<u64> = reader.seen.iter().map(|(number, ..)| *number).collect();
                assert!(numbers.is_sorted_by(|a, b| a < b), "{}: {numbers:?}", who());
                let wanted = self.said["d"]
                    .iter()
                    .rev()
                    .find(|(_, said)| reader.view.shows("d", "", &said[0].payload).is_some());
                if let (Some((number, _)), false) = (wanted, reader.view.delta) {
                    let has = numbers.is_empty() || numbers.last() == Some(number) || *number <= reader.lost_to;
                    assert!(has, "{}: {numbers:?}, {number}", who());
                }
                continue;
            }
            assert!(reader.complete, "{}: it has all", who());
            assert_eq!(has, shown, "{}: what it has in the end", who());
        }
    }
}

/// A value by what it means.
fn same(value: &Option<String>) -> Option<serde_json::Value> {
    value.as_ref().map(|value| serde_json::from_str(value).expect("sound"))
}

/// Whatever the readers want, however slowly they read and however often they come back: each value that one has is what the topic said
/// at that number, and in the end each has all that he wants, and nothing else.
#[test]
fn what_readers_have_is_what_topics_say() {
    let marks = Watched::begin();
    let (mut seen, mut gaps, mut refused, mut changes) = (0, 0, 0, 0);
    let first = std::env::var("SIM_FIRST").map_or(0, |first| first.parse().expect("a number"));
    for seed in first..first + SEEDS {
        let mut world = World::new(seed);
        world.run();
        world.check(seed);
        seen += world.readers.iter().map(|reader| reader.seen.len()).sum::<usize>();
        gaps += world.readers.iter().map(|reader| reader.gaps).sum::<usize>();
        refused += world.refused;
        changes += world.stage.stats().conflated;
    }
    println!("{seen} messages, {gaps} gaps, {refused} refused, {changes} conflated");
    assert!(seen > 1000 && gaps > 10 && refused > 10 && changes > 1000, "the test is too tame");
    if first > 0 {
        return; // Other worlds reach other places.
    }
    marks.reached(&[Mark::Leapt, Mark::ReplacedLeft, Mark::DeletionForgotten, Mark::HeldBack, Mark::QueueCut]);
}

/// Two who have the same, and want a change a second, are sent one change in place of many, made once for both.
#[test]
fn who_leaps_alike_shares() {
    let marks = Watched::begin();
    let terms = Terms { mode: Some(Mode::Merge), ..Terms::default() };
    let rules = Rules::new(vec![Rule { pattern: "m".into(), terms }]).expect("sound");
    let mut stage = Stage::new(1, &Limits { rules, ..Limits::default() });
    let view = View { delta: true, every: Some(1000), ..View::default() };
    let mut rng = Rng::new(1);
    assert!(stage.publish("m", r#"{"a":0,"b":"a longer text that never changes"}"#));
    let mut readers = [(); 2].map(|()| Reader::open(&mut stage, &mut rng, "m", view.clone()));
    for n in 1..5 {
        stage.pass_ms(100);
        assert!(stage.publish("m", &format!(r#"{{"a":{n}}}"#)));
    }
    stage.pass_ms(3000);
    for reader in &mut readers {
        reader.read(&mut stage, usize::MAX);
        assert_eq!(reader.table[""], r#"{"a":4,"b":"a longer text that never changes"}"#);
        assert!(reader.heads.iter().any(|head| head.ends_with("op=merge")), "{:?}", reader.heads);
        assert!(reader.seen.len() < 5, "{:?}", reader.seen);
    }
    marks.reached(&[Mark::LeapShared]);
}
