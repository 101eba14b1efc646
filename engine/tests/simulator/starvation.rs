//! Who asks for much does not keep others waiting: pollers of a full history and storms of returning readers beside live topics.
//!
//! Every shard here has its own core and takes its turns; the bounds are in rounds, in which each has one. They say that what is
//! live has a share of every ring that histories cannot take, and that who waits for room gets it in turn.

use corecast::shard::Limits;

use crate::net::ConnId;
use crate::promptness::{Bounds, Promptness};
use crate::stage::{Stage, post};

/// Topics with subscribers on every shard; some of so many have their home where the history has its own.
const LIVE: [&str; 6] = ["live/0", "live/1", "live/2", "live/3", "live/4", "live/5"];

/// The history that everybody wants: as much as one holds.
const HISTORY_MESSAGES: usize = 63;
const HISTORY_MESSAGE_BYTES: usize = 1_000;

/// Rounds until a shard has heard of a message: it stands in the ring at once, or the home says that it did not fit, is asked and
/// answers, which are four rounds; and a full ring takes a few turns to read. Twice that.
const HEARD_ROUNDS_MAX: u64 = 16;

/// Rounds until a publication or a subscription is answered: a few as above on both ways, and two until it was read and sent.
const ANSWER_ROUNDS_MAX: u64 = 48;

/// A question on a connection of the line protocol whose answer has not come.
struct Asked {
    token: String,
    round: u64,
}

/// A connection of the line protocol that asks now and then, and all that came on it.
struct Asker {
    conn: ConnId,
    told: String,
    asked: Vec<Asked>,
}

impl Asker {
    fn at(stage: &mut Stage, shard: usize) -> Asker {
        Asker { conn: stage.upgrade_at(shard, 1 << 16, "/ws"), told: String::new(), asked: Vec::new() }
    }

    fn ask(&mut self, stage: &mut Stage, round: u64, token: String, text: &str) {
        stage.say_text(self.conn, text.as_bytes());
        self.asked.push(Asked { token, round });
    }

    /// Reads what has come; panics if an answer is overdue.
    fn hear(&mut self, stage: &mut Stage, round: u64) {
        self.told.push_str(&stage.text(self.conn));
        let Asker { told, asked, .. } = self;
        asked.retain(|asked| !told.contains(&format!("OK {} ", asked.token)));
        if let Some(Asked { token, round: from }) = asked.first() {
            assert!(round - from <= ANSWER_ROUNDS_MAX, "{token} was asked in round {from}, and it is round {round}");
        }
    }
}

/// A connection that polls the whole history, and again as soon as it has an answer.
struct Poller {
    conn: ConnId,
    bytes: Vec<u8>,
    answers: usize,
}

const POLL: &[u8] = b"GET /topics/big?transport=poll&since=earliest HTTP/1.1\r\nHost: x\r\n\r\n";

impl Poller {
    /// Makes one that always has so many requests under way.
    fn at(stage: &mut Stage, shard: usize, depth: usize) -> Poller {
        let conn = stage.open_at(shard, 1 << 18, &POLL.repeat(depth));
        Poller { conn, bytes: Vec::new(), answers: 0 }
    }

    fn poll_on(&mut self, stage: &mut Stage) {
        assert!(!stage.read(self.conn, usize::MAX, &mut self.bytes), "a poller is not cut off");
        while let Some(len) = answer_len(&self.bytes).filter(|len| *len <= self.bytes.len()) {
            assert!(self.bytes.starts_with(b"HTTP/1.1 200 "), "a poll is answered");
            self.bytes.drain(..len);
            self.answers += 1;
            stage.say(self.conn, POLL);
        }
    }
}

/// Returns the length of the answer that begins here, once its head has come.
fn answer_len(bytes: &[u8]) -> Option<usize> {
    let head_len = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_len]).expect("a head is text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("an answer has a length");
    Some(head_len + length.parse::<usize>().expect("a length is a number"))
}

/// Shards with a full history, live topics with two readers on each shard, and one who publishes and subscribes on each.
struct Scene {
    stage: Stage,
    promptness: Promptness,
    readers: Vec<(usize, ConnId, String)>,
    askers: Vec<Asker>,
    /// Messages of each live topic.
    published: [u64; LIVE.len()],
    round: u64,
}

impl Scene {
    fn new(shards: usize) -> Scene {
        let mut stage = Stage::new(shards, &Limits { memory_bytes: 64 << 20, ..Limits::default() });
        for n in 0..HISTORY_MESSAGES {
            let message = format!("{n:0>HISTORY_MESSAGE_BYTES$}");
            assert!(stage.publish("big", &message));
        }
        let mut readers = Vec::new();
        for (topic, name) in LIVE.iter().enumerate() {
            for shard in (0..shards).chain(0..shards) {
                let conn = stage.upgrade_at(shard, 1 << 16, &format!("/topics/{name}?since=live"));
                readers.push((topic, conn, String::new()));
            }
        }
        let askers = (0..shards).map(|shard| Asker::at(&mut stage, shard)).collect();
        let bounds = Bounds { joined: HEARD_ROUNDS_MAX, heard: HEARD_ROUNDS_MAX, by_progress: false };
        Scene {
            stage,
            promptness: Promptness::new(shards, bounds),
            readers,
            askers,
            published: [0; LIVE.len()],
            round: 0,
        }
    }

    /// A turn of each shard; now and then somebody publishes to a live topic, and somebody subscribes to a new one.
    fn round(&mut self) {
        self.quiet_round();
        let Scene { stage, round, askers, .. } = self;
        let asker = *round as usize / 4 % askers.len();
        match *round % 4 {
            0 => {
                let topic = (*round / 4) as usize % LIVE.len();
                self.published[topic] += 1;
                let text = format!("PUB {} id=p{round}\n#{};", LIVE[topic], self.published[topic]);
                askers[asker].ask(stage, *round, format!("p{round}"), &text);
            }
            2 => {
                let text = format!("SUB new/{round} id=s{round}");
                askers[asker].ask(stage, *round, format!("s{round}"), &text);
            }
            _ => {}
        }
    }

    /// A turn of each shard, and whoever waits hears what has come.
    fn quiet_round(&mut self) {
        self.round += 1;
        let Scene { stage, promptness, round, askers, .. } = self;
        stage.turn_and_look(|index, shard| promptness.turned(index, shard));
        askers.iter_mut().for_each(|asker| asker.hear(stage, *round));
        for (_, conn, told) in &mut self.readers {
            told.push_str(&stage.text(*conn));
        }
    }

    /// All that was published to live topics comes, once nobody publishes any more.
    fn check_readers(&mut self) {
        (0..ANSWER_ROUNDS_MAX).for_each(|_| self.quiet_round());
        let beside = LIVE.iter().any(|topic| self.promptness.home_of(topic) == self.promptness.home_of("big"));
        assert!(beside, "no live topic has its home where the history is: the scene shows nothing");
        for (topic, _, told) in &self.readers {
            for n in 1..=self.published[*topic] {
                assert!(told.contains(&format!("#{n};")), "{}: message {n} has not come", LIVE[*topic]);
            }
        }
    }
}

/// Connections that poll a full history, one request after the other or several at once, keep no message of another topic, no
/// publisher and no subscriber waiting. They used to get every ring for themselves: a shard that was behind with a live topic
/// was never told, and was delivered nothing any more.
fn pollers(shards: usize, count: usize, depth: usize) {
    let mut scene = Scene::new(shards);
    let mut pollers: Vec<Poller> = (0..count).map(|n| Poller::at(&mut scene.stage, n % shards, depth)).collect();
    for _ in 0..300 {
        scene.round();
        pollers.iter_mut().for_each(|poller| poller.poll_on(&mut scene.stage));
    }
    let least = pollers.iter().map(|poller| poller.answers).min();
    let sum: usize = pollers.iter().map(|poller| poller.answers).sum();
    assert!(least > Some(2), "every poller gets its answers, and the last {least:?}");
    // So much that it would have filled the rings many times over.
    let asked = sum * HISTORY_MESSAGES * HISTORY_MESSAGE_BYTES;
    assert!(asked > 20 * shards * Limits::default().ring_bytes(1), "{sum} answers: the scene shows nothing");
    pollers.iter().for_each(|poller| scene.stage.net.borrow_mut().client_close(poller.conn));
    scene.check_readers();
}

/// So many pollers of one shard that some always wait for room: answers of three or four fill a ring.
const POLLERS: usize = 60;

/// Clients that poll on one shard, as ordinary ones do.
#[test]
fn pollers_do_not_starve_others() {
    pollers(1, POLLERS, 1);
}

/// The same with two shards: rings from one to the other, and of each to itself.
#[test]
fn pollers_of_two_shards_do_not_starve_others() {
    pollers(2, 2 * POLLERS, 1);
}

/// Pollers that send eight requests at once.
#[test]
fn pipelining_pollers_do_not_starve_others() {
    pollers(2, 2 * POLLERS, 8);
}

/// Readers that all come back at once, each for a whole history, keep nobody else waiting, and all get what they came for.
#[test]
fn a_storm_of_replays_does_not_starve_others() {
    const READERS: usize = 400;
    let mut scene = Scene::new(2);
    let get = b"GET /topics/big?transport=stream&since=-63 HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut storm: Vec<(ConnId, usize)> = (0..READERS).map(|n| (scene.stage.open_at(n % 2, 1 << 17, get), 0)).collect();
    let whole = HISTORY_MESSAGES * HISTORY_MESSAGE_BYTES;
    let mut rounds = 0;
    while storm.iter().any(|(_, told)| *told < whole) {
        scene.round();
        for (conn, told) in &mut storm {
            let mut bytes = Vec::new();
            assert!(!scene.stage.read(*conn, usize::MAX, &mut bytes), "nobody is cut off");
            *told += bytes.len();
        }
        rounds += 1;
        // A quarter of a ring in every round would do.
        assert!(rounds < READERS * whole / (Limits::default().ring_bytes(1) / 4), "the storm comes to its end");
    }
    scene.check_readers();
}

/// Publishers whose messages do not fit into the ring at once get on in turn, beside pollers: each is answered in time.
#[test]
fn parked_publishers_get_on_beside_pollers() {
    const PUBLISHERS: usize = 40;
    let mut scene = Scene::new(2);
    let mut pollers: Vec<Poller> = (0..2 * POLLERS).map(|n| Poller::at(&mut scene.stage, n % 2, 1)).collect();
    (0..20).for_each(|_| scene.round());
    for _ in 0..3 {
        let message = post("crowded", &"m".repeat(60_000));
        let mut waiting: Vec<ConnId> =
            (0..PUBLISHERS).map(|n| scene.stage.open_at(n % 2, 4096, message.as_bytes())).collect();
        let mut rounds = 0;
        while !waiting.is_empty() {
            scene.round();
            pollers.iter_mut().for_each(|poller| poller.poll_on(&mut scene.stage));
            waiting.retain(|conn| !scene.stage.net.borrow().client_has_news(*conn));
            rounds += 1;
            assert!(rounds <= ANSWER_ROUNDS_MAX, "{} publishers wait after {rounds} rounds", waiting.len());
        }
    }
    assert!(scene.stage.stats().parked > 20, "nobody had to wait: the scene shows nothing");
    scene.check_readers();
}
