//! Scenes of patterns: who reads one gets what its topics say, each message once and in order, or is told; from what there is, from places
//! of before, and behind a ring that was full.

use std::collections::BTreeMap;

use corecast::reach::Mark;
use corecast::shard::{Limits, Rule, Rules, Terms};

use crate::marks::Watched;
use crate::net::ConnId;
use crate::stage::{Stage, frame, post};

/// A line that a reader was told.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    head: Vec<String>,
    payload: String,
}

/// Reads the frames that came, whole ones only.
fn lines(bytes: &[u8]) -> Vec<Told> {
    let mut told = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 2 {
        let (at, len) = match rest[1] {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            len => (2, usize::from(len)),
        };
        let Some(body) = rest.get(at..at + len) else { break };
        let text = String::from_utf8_lossy(body).into_owned();
        let (head, payload) = text.split_once('\n').unwrap_or((&text, ""));
        let head = head.split(' ').map(str::to_owned).collect();
        told.push(Told { head, payload: payload.to_owned() });
        rest = &rest[at + len..];
    }
    told
}

/// A reader of patterns that keeps its places as a client has to.
struct Reader {
    conn: ConnId,
    places: BTreeMap<String, Vec<String>>,
    /// Numbers of the messages that came, by topic.
    came: BTreeMap<String, Vec<u64>>,
    gaps: Vec<Vec<String>>,
    ends: usize,
    errors: Vec<String>,
}

impl Reader {
    fn at(stage: &mut Stage, shard: usize, room: usize) -> Reader {
        let conn = stage.upgrade_at(shard, room, "/ws");
        let (places, came) = (BTreeMap::new(), BTreeMap::new());
        Reader { conn, places, came, gaps: Vec::new(), ends: 0, errors: Vec::new() }
    }

    fn subscribe(&mut self, stage: &mut Stage, words: &str) {
        let pattern = words.split(' ').next().unwrap_or_default();
        stage.say_text(self.conn, format!("SUB {words} id={pattern}").as_bytes());
    }

    /// Reads what came; messages bring the places of `pattern` up to date.
    fn hear(&mut self, stage: &mut Stage, pattern: &str) -> Vec<Told> {
        let mut bytes = Vec::new();
        stage.read(self.conn, usize::MAX, &mut bytes);
        let told = lines(&bytes);
        for line in &told {
            let words: Vec<&str> = line.head.iter().map(String::as_str).collect();
            match words[..] {
                ["MSG", topic, cursor, ref rest @ ..] => {
                    let number = cursor.split_once('-').expect("a cursor").1.parse().expect("a number");
                    self.came.entry(topic.to_owned()).or_default().push(number);
                    if let Some((home, number)) = rest.iter().find_map(|word| word.strip_prefix("at=")?.split_once('.'))
                    {
                        let places = self.places.get_mut(pattern).expect("it was told before");
                        places[home.parse::<usize>().expect("a home")] = number.to_owned();
                    }
                }
                ["OK", pattern, places] | ["EOS", pattern, places] => {
                    self.ends += usize::from(words[0] == "EOS");
                    self.places.insert(pattern.to_owned(), split(places));
                }
                ["GAP", ref rest @ ..] => self.gaps.push(rest.iter().map(|word| (*word).to_owned()).collect()),
                ["ERR", ref rest @ ..] => self.errors.push(rest.join(" ")),
                _ => {}
            }
        }
        told
    }

    fn places(&self, pattern: &str) -> String {
        let places = &self.places[pattern];
        format!("{}-{}", places[places.len() - 1], places[..places.len() - 1].join("."))
    }
}

/// Splits places into their parts, and the life behind them.
fn split(places: &str) -> Vec<String> {
    let (life, parts) = places.split_once('-').expect("places");
    parts.split('.').chain([life]).map(str::to_owned).collect()
}

fn publish(stage: &mut Stage, topic: &str, message: &str) {
    assert!(stage.publish(topic, message));
}

/// A reader of a pattern gets the newest message of each topic that matches, is told that this is all, and then gets what comes, topics that
/// are new among it; others do not match. Its places are those of the last message.
#[test]
fn what_there_is_and_what_comes() {
    for shards in [1, 3] {
        let mut stage = Stage::new(shards, &Limits::default());
        for topic in ["prices/a", "prices/b", "prices/b", "prices/c/d", "other"] {
            publish(&mut stage, topic, "before");
        }
        let mut reader = Reader::at(&mut stage, shards - 1, 1 << 16);
        reader.subscribe(&mut stage, "prices/+");
        stage.turns();
        reader.hear(&mut stage, "prices/+");
        assert_eq!((reader.ends, &reader.gaps), (1, &Vec::new()));
        assert_eq!(reader.came["prices/a"], [1]);
        assert_eq!(reader.came["prices/b"], [2]);
        for topic in ["prices/a", "prices", "prices/new", "prices/c/d", "prices/a"] {
            publish(&mut stage, topic, "after");
        }
        reader.hear(&mut stage, "prices/+");
        let came: Vec<(&str, &[u64])> = reader.came.iter().map(|(topic, came)| (&**topic, &**came)).collect();
        assert_eq!(came, [("prices/a", &[1, 2, 3][..]), ("prices/b", &[2]), ("prices/new", &[1])]);
        stage.say_text(reader.conn, b"UNSUB prices/+ id=u");
        stage.turns();
        publish(&mut stage, "prices/a", "unheard");
        let told = reader.hear(&mut stage, "prices/+");
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

/// Whoever comes back with its places gets what it missed, in order, and nothing twice: also of topics that are new, and if nobody has read
/// the pattern meanwhile. What histories have forgotten is told of each topic, counted.
#[test]
fn places_are_gone_on_from() {
    let marks = Watched::begin();
    let limits = Limits { history_messages: 4, ..Limits::default() };
    let mut stage = Stage::new(3, &limits);
    publish(&mut stage, "chat/a", "1");
    let mut reader = Reader::at(&mut stage, 1, 1 << 16);
    reader.subscribe(&mut stage, "chat/# since=live");
    stage.turns();
    for n in 2..5 {
        publish(&mut stage, "chat/a", &n.to_string());
        publish(&mut stage, "chat/b", &n.to_string());
    }
    reader.hear(&mut stage, "chat/#");
    assert_eq!((&reader.came["chat/a"], &reader.came["chat/b"]), (&vec![2, 3, 4], &vec![1, 2, 3]));
    stage.net.borrow_mut().client_close(reader.conn);
    stage.turns();
    for n in 0..6 {
        publish(&mut stage, "chat/a", &n.to_string());
    }
    publish(&mut stage, "chat/b", "4");
    publish(&mut stage, "chat/new/one", "1");
    let mut again = Reader::at(&mut stage, 2, 1 << 16);
    again.subscribe(&mut stage, &format!("chat/# since={}", reader.places("chat/#")));
    stage.turns();
    again.hear(&mut stage, "chat/#");
    publish(&mut stage, "chat/a", "last");
    again.hear(&mut stage, "chat/#");
    let came: Vec<(&str, &[u64])> = again.came.iter().map(|(topic, came)| (&**topic, &**came)).collect();
    assert_eq!(came, [("chat/a", &[7, 8, 9, 10, 11][..]), ("chat/b", &[4]), ("chat/new/one", &[1])]);
    let lost: u64 = again.gaps.iter().map(|gap| gap[3].parse::<u64>().expect("a count")).sum();
    assert!(lost == 2 && again.gaps.iter().all(|gap| gap[0] == "chat/a" && gap[4] == "expired"), "{:?}", again.gaps);
    marks.reached(&[Mark::PatternLost]);
}

/// Places of another process, and places that a home does not go back to any more, are told to be so; then comes what there is, as far as it
/// is new.
#[test]
fn what_nobody_knows_is_told() {
    let marks = Watched::begin();
    let mut stage = Stage::new(2, &Limits::default());
    let mut reader = Reader::at(&mut stage, 0, 1 << 16);
    reader.subscribe(&mut stage, "a/#");
    stage.turns();
    publish(&mut stage, "a/x", "1");
    publish(&mut stage, "a/y", "1");
    reader.hear(&mut stage, "a/#");
    let places = reader.places("a/#");
    // Nobody reads it, and its time is over.
    stage.net.borrow_mut().client_close(reader.conn);
    stage.turns();
    stage.pass_ms(301_000);
    for topic in ["a/y", "a/z"] {
        publish(&mut stage, topic, "2");
    }
    publish(&mut stage, "a/z", "3");
    for (since, reason, expected) in [
        (places.clone(), "expired", vec![("a/y", vec![2]), ("a/z", vec![2])]),
        (format!("~00000000{}", &places[9..]), "epoch", vec![("a/x", vec![1]), ("a/y", vec![2]), ("a/z", vec![2])]),
        ("~12345678-7".to_owned(), "epoch", vec![("a/x", vec![1]), ("a/y", vec![2]), ("a/z", vec![2])]),
    ] {
        let mut again = Reader::at(&mut stage, 1, 1 << 16);
        again.subscribe(&mut stage, &format!("a/# since={since}"));
        stage.turns();
        again.hear(&mut stage, "a/#");
        let gap = ["a/#", "00000000-0", "00000000-0", "0", reason, "of=a/#"].map(str::to_owned);
        assert_eq!((&again.gaps, again.ends), (&vec![gap.to_vec()], 1), "{since}");
        let came: Vec<(&str, Vec<u64>)> = again.came.iter().map(|(topic, came)| (&**topic, came.clone())).collect();
        assert_eq!(came, expected, "{since}");
    }
    marks.reached(&[Mark::PatternForgotten, Mark::PatternForgot, Mark::PatternOtherLife]);
}

/// What is asked for wrongly is told by name, and costs nothing else.
#[test]
fn nonsense_is_told() {
    let mut stage = Stage::new(2, &Limits::default());
    let mut reader = Reader::at(&mut stage, 0, 1 << 16);
    for (words, code) in [
        ("a/+x", "bad-topic"),
        ("a/#/b", "bad-topic"),
        ("$other/#", "bad-topic"),
        ("a/+ conflate", "bad-command"),
        ("a/+ every=100", "bad-command"),
        ("a/+ since=earliest", "bad-command"),
        ("a/+ since=-3", "bad-command"),
        ("a/+ since=1a2b3c4d-7", "bad-command"),
        ("a/+ since=~1a2b3c4d-x", "bad-command"),
        ("a/b since=~1a2b3c4d-7", "bad-command"),
    ] {
        stage.say_text(reader.conn, format!("SUB {words} id=t").as_bytes());
        stage.turns();
        reader.hear(&mut stage, "");
        assert_eq!(reader.errors.len(), 1, "{words}");
        let error = reader.errors.remove(0);
        assert!(error.starts_with(&format!("t {code} ")), "{words}: {error}");
    }
    assert_eq!(stage.stats().subscriptions, 0);
}

/// A reader that takes nothing while more comes than its log holds is given what it missed by the homes, in rounds, and goes on: each message
/// once and in order, of all topics.
#[test]
fn who_falls_behind_is_given_the_rest() {
    let marks = Watched::begin();
    let limits = Limits {
        log_bytes_max: 8 << 10,
        history_messages: 1 << 16,
        history_bytes: 16 << 20,
        memory_bytes: 64 << 20,
        ..Limits::default()
    };
    let mut stage = Stage::new(3, &limits);
    let mut slow = Reader::at(&mut stage, 0, 600);
    let mut quick = Reader::at(&mut stage, 0, 1 << 20);
    for reader in [&mut slow, &mut quick] {
        reader.subscribe(&mut stage, "t/+ since=live");
    }
    stage.turns();
    let publisher = stage.upgrade_at(1, 1 << 20, "/ws");
    let message = "m".repeat(100);
    let mut bytes = Vec::new();
    for round in 0..400 {
        for topic in 0..10 {
            stage.say(publisher, &frame(0x81, format!("PUB t/{topic}\n{message}").as_bytes()));
        }
        stage.turn();
        stage.turn();
        if round > 200 {
            stage.read(slow.conn, 500, &mut bytes);
        }
    }
    stage.turns();
    quick.hear(&mut stage, "t/+");
    for _ in 0..20_000 {
        stage.turn();
        stage.read(slow.conn, 500, &mut bytes);
    }
    let mut came: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in lines(&bytes).iter().filter(|line| line.head[0] == "MSG") {
        let number = line.head[2].split_once('-').expect("a cursor").1.parse().expect("a number");
        came.entry(line.head[1].clone()).or_default().push(number);
    }
    let gaps = lines(&bytes).iter().filter(|line| line.head[0] == "GAP").count();
    assert_eq!(gaps, 0);
    for topic in 0..10 {
        let topic = format!("t/{topic}");
        assert!(quick.came[&topic].iter().copied().eq(1..=400), "{topic}: {:?}", quick.came[&topic]);
        assert!(came[&topic].iter().copied().eq(1..=400), "{topic}: {:?}", came[&topic]);
    }
    let stats = stage.stats();
    assert!(stats.replays > 10, "{stats:?}");
    marks.reached(&[Mark::PatternNextRound]);
}

/// A shard with a reader stands still while more is published than its ring holds: it is told that it is behind, catches up, and its reader gets
/// every message once and in order; of what the histories have forgotten by then it is told.
#[test]
fn full_rings_are_made_up_for() {
    const ROUNDS: u64 = 500;
    let marks = Watched::begin();
    for history_messages in [1 << 16, 50] {
        let limits = Limits {
            history_messages,
            history_bytes: 16 << 20,
            memory_bytes: 64 << 20,
            log_bytes_max: 8 << 20,
            ..Limits::default()
        };
        let mut stage = Stage::new(2, &limits);
        let topics: Vec<String> = (0..40).map(|n| format!("t/{n}")).collect();
        let far: Vec<&String> = topics.iter().filter(|topic| home_of(&mut stage, topic) == 1).take(10).collect();
        let mut reader = Reader::at(&mut stage, 0, 1 << 23);
        reader.subscribe(&mut stage, "t/+ since=live");
        stage.turns();
        let publisher = stage.upgrade_at(1, 1 << 20, "/ws");
        let message = "m".repeat(300);
        for _ in 0..ROUNDS {
            for topic in &far {
                stage.say(publisher, &frame(0x81, format!("PUB {topic}\n{message}").as_bytes()));
            }
            (0..3).for_each(|_| stage.turn_of(1));
        }
        (0..10).for_each(|_| stage.turns());
        reader.hear(&mut stage, "t/+");
        for topic in far {
            let mut numbers = reader.came[topic].clone();
            for gap in reader.gaps.iter().filter(|gap| gap[0] == *topic) {
                let number = |cursor: &str| cursor.split_once('-').expect("a cursor").1.parse::<u64>().expect("one");
                let (from, to) = (number(&gap[1]), number(&gap[2]));
                assert_eq!(gap[3], (to - from).to_string());
                numbers.extend(from + 1..=to);
            }
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(2..=ROUNDS + 1), "{topic}: {numbers:?}");
        }
        let forgets = history_messages < 100;
        assert_eq!(!reader.gaps.is_empty(), forgets, "{:?}", reader.gaps);
    }
    marks.reached(&[Mark::PatternRingFull, Mark::PatternSkipped, Mark::PatternLost]);
}

/// Finds out where the home of a topic is, which nobody else knows of.
fn home_of(stage: &mut Stage, topic: &str) -> usize {
    publish(stage, topic, "x");
    let at_home = |shard: &corecast::shard::Shard| {
        let mut found = false;
        shard.heads(|head| found |= head.at_home && head.topic == topic);
        found
    };
    stage.berths.iter().position(|(shard, _)| at_home(shard)).expect("one of them has it")
}

/// Very many topics come in batches, each of them once; and whoever comes to a shard that has not heard of as much as the one where it was
/// misses nothing, and gets nothing twice.
#[test]
fn many_topics_and_another_shard() {
    let marks = Watched::begin();
    let mut stage = Stage::new(2, &Limits::default());
    let mut other = Reader::at(&mut stage, 1, 1 << 20);
    other.subscribe(&mut stage, "many/+ since=live");
    stage.turns();
    for part in 0..8 {
        let lines: String = (0..400).map(|n| format!("{{\"topic\":\"many/{part}-{n}\",\"data\":\"x\"}}\n")).collect();
        let head = "POST /topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\n";
        stage.open(4096, format!("{head}Content-Length: {}\r\n\r\n{lines}", lines.len()).as_bytes());
        (0..4).for_each(|_| stage.turns());
    }
    for n in 0..20 {
        publish(&mut stage, &format!("other/{n}"), "x");
    }
    let mut reader = Reader::at(&mut stage, 0, 1 << 20);
    reader.subscribe(&mut stage, "many/+");
    (0..4).for_each(|_| stage.turns());
    reader.hear(&mut stage, "many/+");
    assert_eq!((reader.came.len(), reader.ends), (3_200, 1));
    assert!(reader.came.values().all(|came| came[..] == [1]));
    let mut again = Reader::at(&mut stage, 1, 1 << 20);
    again.subscribe(&mut stage, &format!("many/+ since={}", reader.places("many/+")));
    stage.turns();
    publish(&mut stage, "many/new", "x");
    again.hear(&mut stage, "many/+");
    let came: Vec<(&str, &[u64])> = again.came.iter().map(|(topic, came)| (&**topic, &**came)).collect();
    assert_eq!((came, again.gaps.len(), again.ends), (vec![("many/new", &[1][..])], 0, 1));
    marks.reached(&[Mark::PatternInBatches, Mark::PatternAhead]);
}

/// What rules say of single topics, that only the newest matters or how fast it comes, is nothing to readers of a pattern: they get every
/// message of every topic, however slowly they read.
#[test]
fn rules_of_topics_skip_nothing_of_a_pattern() {
    let terms = Terms { conflate: Some(true), every_ms: Some(1_000), ..Terms::default() };
    let rules = Rules::new([Rule { pattern: "t/#".into(), terms }].to_vec()).expect("sound rules");
    let mut stage = Stage::new(2, &Limits { rules, ..Limits::default() });
    let mut reader = Reader::at(&mut stage, 0, 300);
    reader.subscribe(&mut stage, "t/+ since=live");
    stage.turns();
    for n in 0..40 {
        publish(&mut stage, &format!("t/{}", n % 4), "message");
    }
    let mut bytes = Vec::new();
    for _ in 0..400 {
        stage.turn();
        stage.read(reader.conn, usize::MAX, &mut bytes);
    }
    let told = lines(&bytes);
    assert_eq!(told.iter().filter(|line| line.head[0] == "MSG").count(), 40, "{told:?}");
    assert!(told.iter().all(|line| line.head[0] != "GAP"), "{told:?}");
}

/// Who has taken nothing for so long that nobody knows any more where it was is told so, and gets the newest message of each topic.
#[test]
fn who_was_away_too_long_is_told() {
    let marks = Watched::begin();
    let limits = Limits { log_bytes_max: 4 << 10, memory_bytes: 1 << 20, ..Limits::default() };
    let mut stage = Stage::new(1, &limits);
    let mut slow = Reader::at(&mut stage, 0, 200);
    slow.subscribe(&mut stage, "t/+ since=live");
    stage.turns();
    let publisher = stage.upgrade_at(0, 1 << 20, "/ws");
    for n in 0..3_000 {
        stage.say(publisher, &frame(0x81, format!("PUB t/{}\nmessage", n % 3).as_bytes()));
        if n % 10 == 0 {
            stage.turn();
        }
    }
    stage.turns();
    let mut bytes = Vec::new();
    for _ in 0..2_000 {
        stage.turn();
        stage.read(slow.conn, usize::MAX, &mut bytes);
    }
    let told = lines(&bytes);
    let gap = told.iter().position(|line| line.head[0] == "GAP").expect("it is told");
    assert_eq!(told[gap].head[1..], ["t/+", "00000000-0", "00000000-0", "0", "overflow", "of=t/+"]);
    let behind: Vec<String> = told[gap + 1..].iter().map(|line| line.head[..2].join(" ")).collect();
    let mut topics = behind[..3].to_vec();
    topics.sort();
    assert_eq!((topics, &*behind[3]), (["MSG t/0", "MSG t/1", "MSG t/2"].map(str::to_owned).to_vec(), "EOS t/+"));
    assert_eq!(behind.len(), 4);
    marks.reached(&[Mark::PatternTooLate]);
}

/// Who reads a pattern and a topic of it gets both; and a batch of readers that come at once all get what there is.
#[test]
fn beside_single_topics() {
    let mut stage = Stage::new(2, &Limits::default());
    publish(&mut stage, "a/b", "1");
    let mut readers: Vec<Reader> = (0..20).map(|n| Reader::at(&mut stage, n % 2, 1 << 16)).collect();
    for reader in &mut readers {
        for words in ["a/+", "#", "a/b"] {
            reader.subscribe(&mut stage, words);
        }
    }
    stage.turns();
    let publisher = stage.open(4096, post("a/b", "2").as_bytes());
    stage.turns();
    assert!(stage.text(publisher).starts_with("HTTP/1.1 200 "));
    for reader in &mut readers {
        let mut bytes = Vec::new();
        stage.read(reader.conn, usize::MAX, &mut bytes);
        let heads: Vec<String> =
            lines(&bytes).iter().map(|line| line.head[..3.min(line.head.len())].join(" ")).collect();
        let messages: Vec<&String> = heads.iter().filter(|head| head.starts_with("MSG ")).collect();
        assert_eq!(messages.len(), 6, "{heads:?}");
        assert_eq!(heads.iter().filter(|head| head.starts_with("EOS ")).count(), 2, "{heads:?}");
    }
}

/// Reads the JSON objects that stand in a body, one a line or in an array.
fn objects(text: &str) -> Vec<serde_json::Value> {
    let body = text.split_once("\r\n\r\n").map_or(text, |(_, body)| body);
    let lines = body.split(['\n', '\r']).filter(|line| line.starts_with(['{', '[']));
    let values = lines.map(|line| serde_json::from_str(line).expect("JSON"));
    values.flat_map(|value: serde_json::Value| value.as_array().cloned().unwrap_or(vec![value])).collect()
}

/// Returns the topics of messages, in their order.
fn topics_of(objects: &[serde_json::Value]) -> Vec<&str> {
    objects.iter().filter(|object| object.get("data").is_some()).filter_map(|object| object["topic"].as_str()).collect()
}

/// Streams tell what a pattern has in their own words, and go on from what they told: event streams from their last id, others from the end of
/// what there was and the places of each message.
#[test]
fn streams_read_patterns() {
    let mut stage = Stage::new(3, &Limits::default());
    for topic in ["s/a", "s/b", "t/a"] {
        publish(&mut stage, topic, "1");
    }
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let sse = stage.open_at(1, 1 << 16, get("/topics/s%2F%2B?transport=sse", "").as_bytes());
    let both = stage.open_at(2, 1 << 16, get("/topics?topic=s/%2B&topic=t/a&transport=sse&enveloped=1", "").as_bytes());
    let json = stage.open_at(0, 1 << 16, get("/topics?topic=s/%23&transport=stream", "").as_bytes());
    let parts = stage.open_at(0, 1 << 16, get("/topics/s%2f%23?transport=multipart", "").as_bytes());
    let frame = stage.open_at(1, 1 << 16, get("/topics/s%2f%23?transport=forever-frame", "").as_bytes());
    stage.turns();
    publish(&mut stage, "s/new", "2");
    let told = stage.text(sse);
    for topic in ["s/a", "s/b", "s/new"] {
        assert_eq!(told.matches(&format!("topic: {topic}\ndata: ")).count(), 1, "{told}");
    }
    assert_eq!(
        told.matches("event: corecast-snapshot-end\ndata: {\"topic\":\"s/+\",\"cursor\":\"~").count(),
        1,
        "{told}"
    );
    let id = |told: &str| told.rsplit_once("id: ").expect("an id").1.split('\n').next().expect("a line").to_owned();
    let (last, last_of_both) = (id(&told), id(&stage.text(both)));
    assert!(last.starts_with('~') && last_of_both.contains(','), "{last} {last_of_both}");
    let told = stage.text(json);
    let objects_told = objects(&told);
    let mut topics = topics_of(&objects_told);
    topics.sort_unstable();
    assert_eq!(topics, ["s/a", "s/b", "s/new"]);
    let newest = objects_told.last().expect("a message");
    assert_eq!((&newest["of"], &newest["topic"]), (&"s/#".into(), &"s/new".into()));
    let end = objects_told.iter().find_map(|object| object.get("snapshot_end")).expect("the end");
    let mut places = split(end["cursor"].as_str().expect("places"));
    let (home, number) = newest["at"].as_str().expect("a place").split_once('.').expect("two numbers");
    places[home.parse::<usize>().expect("a home")] = number.to_owned();
    let told = stage.text(parts);
    assert!(
        told.contains("Corecast-Of: s/%23\r\nCorecast-At: ") && told.contains("Corecast-Snapshot-End: 1"),
        "{told}"
    );
    let told = stage.text(frame);
    assert!(told.contains(",\"of\":\"s/#\",\"at\":\"") && told.contains("c({\"snapshot_end\":"), "{told}");
    for conn in [sse, both, json, parts, frame] {
        stage.net.borrow_mut().client_close(conn);
    }
    stage.turns();
    publish(&mut stage, "s/a", "3");
    publish(&mut stage, "t/a", "3");
    let again = stage.open_at(
        0,
        1 << 16,
        get("/topics/s%2F%2B?transport=sse", &format!("Last-Event-ID: {last}\r\n")).as_bytes(),
    );
    let lines = format!("Last-Event-ID: {last_of_both}\r\n");
    let both =
        stage.open_at(1, 1 << 16, get("/topics?topic=s/%2B&topic=t/a&transport=sse&enveloped=1", &lines).as_bytes());
    let places = format!("{}-{}", places[places.len() - 1], places[..places.len() - 1].join("."));
    let target = format!("/topics?topic=s/%23&transport=stream&since={places}");
    let json = stage.open_at(2, 1 << 16, get(&target, "").as_bytes());
    stage.turns();
    let told = stage.text(again);
    let topics: Vec<&str> = told.split("topic: ").skip(1).map(|rest| rest.split('\n').next().unwrap_or("")).collect();
    assert_eq!(topics, ["s/a"], "{told}");
    let told = stage.text(both);
    let mut topics: Vec<&str> =
        told.split("{\"topic\":\"").skip(1).filter(|rest| rest.contains("\"data\":")).map(|rest| &rest[..3]).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["s/a", "t/a"], "{told}");
    assert_eq!(topics_of(&objects(&stage.text(json))), ["s/a"]);
}

/// Polls read patterns in pieces, however much there is, until an empty answer says that this was all; what comes between two polls is in the
/// second. A long poll waits for a message of any topic that matches.
#[test]
fn polls_read_patterns() {
    let mut stage = Stage::new(2, &Limits::default());
    let large = "x".repeat(900);
    for n in 0..300 {
        publish(&mut stage, &format!("p/{n}"), &large);
    }
    let mut cursor = "latest".to_owned();
    let mut came = BTreeMap::new();
    for turn in 0..20 {
        let get = format!("GET /topics/p%2F%2B?since={cursor} HTTP/1.1\r\nHost: x\r\n\r\n");
        let conn = stage.open(1 << 20, get.as_bytes());
        (0..3).for_each(|_| stage.turns());
        let told = stage.text(conn);
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
        assert!(told.len() < 200_000, "a piece has {} bytes", told.len());
        cursor =
            told.split_once("Corecast-Cursor: ").expect("a cursor").1.split('\r').next().expect("a line").to_owned();
        let objects = objects(&told);
        for topic in topics_of(&objects) {
            *came.entry(topic.to_owned()).or_insert(0) += 1;
        }
        if objects.is_empty() {
            assert!(turn > 2, "there were pieces");
            break;
        }
        if turn == 1 {
            publish(&mut stage, "p/new", "x");
        }
    }
    assert_eq!(came.len(), 301);
    assert!(came.values().all(|count| *count == 1), "{came:?}");
    let get = format!("GET /topics?topic=p/%2B&transport=long-poll&since={cursor} HTTP/1.1\r\nHost: x\r\n\r\n");
    let poll = stage.open_at(1, 1 << 16, get.as_bytes());
    stage.turns();
    assert_eq!(stage.text(poll), "");
    publish(&mut stage, "q/other", "x");
    publish(&mut stage, "p/7", "y");
    assert_eq!(topics_of(&objects(&stage.text(poll))), ["p/7"]);
    for (target, status) in [
        ("/topics/p%2F%2B?transport=value", "400"),
        ("/topics/p%2F%2Bx", "400"),
        ("/topics/p%2F%2B?since=earliest", "400"),
        ("/topics/p%2F%2B?every=10&transport=sse", "400"),
        ("/topics/p%2F%2B?fields=a&transport=sse", "400"),
        ("/topics?topic=a&topic=b/%2B&since=~1a2b3c4d-1", "400"),
        ("/topics?topic=a/%2B&topic=b/%2B&topic=c/%2B&topic=d/%2B&topic=e/%2B", "400"),
        ("/topics/p?since=~1a2b3c4d-1&transport=sse", "400"),
    ] {
        let conn = stage.open(1 << 16, format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        stage.turns();
        let told = stage.text(conn);
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {told}");
    }
}
