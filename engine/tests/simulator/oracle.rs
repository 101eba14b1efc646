//! What must be true of every message, whoever sends or sees it: the global record, and one `Watch` per subscriber and
//! topic.
//!
//! Owns: which payload was published where, under which cursor it was numbered, who has seen up to what; what a history
//! was told to hold, so that a loss without need is seen.
//! Never: looks into a shard. All it knows came over a client's connection.

use std::collections::{BTreeMap, HashMap};

use corecast::grant::Action;

use crate::ask::TRANSPORTS;
use crate::item::{Loss, Message};
use crate::numbers::Numbers;
use crate::regime::{SharedRegime, Span};
use crate::rng::Rng;

/// A publish to put on the wire.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) id: PayloadId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) event: Option<String>,
}

/// Number of a published payload, written into its first bytes.
pub(crate) type PayloadId = usize;

/// A message's place: epoch, then sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
}

impl Cursor {
    pub(crate) fn parse(text: &str) -> Cursor {
        let read = || {
            let (epoch, seq) = text.split_once('-')?;
            (epoch.len() == 8).then_some(())?;
            Some(Cursor { epoch: u32::from_str_radix(epoch, 16).ok()?, seq: seq.parse().ok()? })
        };
        read().unwrap_or_else(|| panic!("a cursor, not {text:?}"))
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{:08x}-{}", self.epoch, self.seq)
    }
}

/// What is known of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Sent, no answer yet, or none asked for.
    Open,
    Answered(Cursor),
    Refused,
}

#[derive(Debug)]
struct Published {
    topic: String,
    /// Publishes of one connection to one topic are numbered in the order they were sent.
    conn: usize,
    bytes: Vec<u8>,
    event: Option<String>,
    fate: Fate,
    seen: Option<Cursor>,
    /// When it was ordered.
    ordered_us: u64,
    /// By whom, if not everybody may publish.
    claim: Option<Claim>,
}

/// Who published something that nobody but those who may should ever see.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) shard: usize,
    /// What whoever published it had shown: one of these.
    pub(crate) by: Vec<Option<usize>>,
}

/// What a topic's history must hold, at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Messages may be forgotten for their age from this time on.
    pub(crate) until_us: u64,
}

/// Payloads hold these now and then: what means something to one transport or another.
const TRAPS: [&str; 9] = [
    "\r\n\r\n",
    "\n\ndata: x\n\n",
    "\nid: 0\n",
    "\n0\r\n\r\n",
    "</script><!--",
    "\u{2028}\u{2029}",
    "\r\n--corecast-part-7f3e9a51c2d84b06--\r\n",
    "{\"gap\":",
    "\0\u{1f}\u{7f}é",
];

/// The global record.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    published: Vec<Published>,
    topics: HashMap<String, BTreeMap<Cursor, PayloadId>>,
    /// Per topic the newest number of every epoch, in the order they were heard of.
    heads: HashMap<String, Vec<Cursor>>,
    raw_runs: Vec<(String, Vec<PayloadId>)>,
    /// Which numbers homes give.
    pub(crate) numbers: Numbers,
    /// Topics are cleared, or memory is so short that snapshots give way.
    pub(crate) may_forget: bool,
    /// What histories hold in a world that does not forget otherwise; `None`: nobody knows.
    pub(crate) history: Option<History>,
    pub(crate) now_us: u64,
    /// Who may what, if not everybody may everything.
    pub(crate) regime: Option<SharedRegime>,
    pub(crate) sights: u64,
    pub(crate) gaps: u64,
    /// Messages that came over each transport, and streams that the server ended in order.
    pub(crate) heard: [u64; TRANSPORTS],
    pub(crate) ends: u64,
}

impl Oracle {
    /// Makes a payload that tells who it is, and remembers it as on its way to `topic` through `conn`.
    pub(crate) fn publish(&mut self, rng: &mut Rng, topic: &str, conn: usize, len: usize) -> Sent {
        let id = self.published.len();
        let mut bytes = format!("#{id};").into_bytes();
        let binary = rng.chance(200);
        let event = rng.chance(300).then(|| format!("event-{}", id % 7));
        let trap = rng.pick(&TRAPS);
        if rng.chance(150) && !binary && bytes.len() + trap.len() <= len {
            bytes.extend_from_slice(trap.as_bytes());
        }
        while bytes.len() < len {
            bytes.push(if binary { rng.next() as u8 } else { rng.pick(b"abc \"\\\n\r\t{}[]<>&0") });
        }
        self.published.push(Published {
            topic: topic.to_string(),
            conn,
            bytes: bytes.clone(),
            event: event.clone(),
            fate: Fate::Open,
            seen: None,
            ordered_us: self.now_us,
            claim: None,
        });
        Sent { id, bytes, event }
    }

    /// Whoever published it may not have had the right to.
    pub(crate) fn claim(&mut self, id: PayloadId, claim: Claim) {
        self.published[id].claim = Some(claim);
    }

    /// Returns when the message was ordered that these bytes are.
    pub(crate) fn ordered_us(&self, topic: &str, bytes: &[u8]) -> u64 {
        self.published[self.named(topic, bytes)].ordered_us
    }

    /// Asserts that somebody could have had the right to publish what was seen.
    fn check_claim(&self, id: PayloadId) {
        let Published { topic, ordered_us, claim, .. } = &self.published[id];
        let (Some(claim), Some(regime)) = (claim, &self.regime) else { return };
        let span = Span { from_us: *ordered_us, to_us: self.now_us };
        let regime = regime.borrow();
        let may = |by: &Option<usize>| regime.requested(claim.shard, *by, Action::Publish, topic, span).done;
        assert!(
            claim.by.iter().any(may),
            "payload {id} to {topic} is seen, and nobody of these could publish it: {:?}",
            claim.by.iter().map(|by| by.map(|by| regime.describe(by))).collect::<Vec<_>>()
        );
    }

    /// The publish went out without its event name.
    pub(crate) fn without_event(&mut self, sent: &mut Sent) {
        sent.event = None;
        self.published[sent.id].event = None;
    }

    /// The server answered a publish with its cursor.
    pub(crate) fn answered(&mut self, id: PayloadId, cursor: Cursor) {
        assert_eq!(self.published[id].fate, Fate::Open, "payload {id} answered twice");
        self.published[id].fate = Fate::Answered(cursor);
        self.place(id, cursor);
    }

    /// The server refused a publish: nobody may ever see it.
    pub(crate) fn refused(&mut self, id: PayloadId) {
        let published = &mut self.published[id];
        assert_eq!(published.fate, Fate::Open, "payload {id} answered twice");
        assert_eq!(published.seen, None, "payload {id} was refused after it was delivered");
        published.fate = Fate::Refused;
    }

    /// Finds the payload whose number stands in these bytes.
    fn named(&self, topic: &str, bytes: &[u8]) -> PayloadId {
        let id = bytes.strip_prefix(b"#").and_then(|rest| {
            let end = rest.iter().position(|byte| *byte == b';')?;
            std::str::from_utf8(&rest[..end]).ok()?.parse::<PayloadId>().ok()
        });
        id.filter(|id| *id < self.published.len())
            .unwrap_or_else(|| panic!("topic {topic}: nobody published {:?}", String::from_utf8_lossy(bytes)))
    }

    /// Gives a message that a transport could not carry as it was (`loss`) its bytes and event name back, if what came is
    /// what that transport must make of them.
    pub(crate) fn restore(&self, topic: &str, message: &Message) -> (Vec<u8>, Option<String>) {
        if message.loss == Loss::Nothing {
            return (message.bytes.clone(), message.event.clone());
        }
        let id = self.named(topic, &message.bytes);
        let published = &self.published[id];
        if message.loss == Loss::EventName {
            return (message.bytes.clone(), published.event.clone());
        }
        let text = String::from_utf8_lossy(&published.bytes).replace("\r\n", "\n").replace('\r', "\n");
        assert!(text.as_bytes() == message.bytes, "payload {id} was changed by more than its line ends: {message:?}");
        (published.bytes.clone(), message.event.clone())
    }

    /// Finds the payload that these bytes are, which must have been published to this topic and not refused.
    pub(crate) fn identify(&self, topic: &str, bytes: &[u8]) -> PayloadId {
        let id = self.named(topic, bytes);
        let published = &self.published[id];
        assert!(published.bytes == bytes, "payload {id} was changed on the way: {:?}", String::from_utf8_lossy(bytes));
        assert_eq!(published.topic, topic, "payload {id} came on another topic");
        assert_ne!(published.fate, Fate::Refused, "payload {id} was refused and delivered");
        self.check_claim(id);
        id
    }

    /// A client saw this payload under this cursor.
    pub(crate) fn saw(&mut self, topic: &str, cursor: Cursor, event: Option<&str>, bytes: &[u8]) -> PayloadId {
        let id = self.identify(topic, bytes);
        assert_eq!(self.published[id].event.as_deref(), event, "payload {id} came with another event name");
        self.sights += 1;
        self.place(id, cursor);
        id
    }

    /// A client fetched this payload, under this cursor, and was not told its event name.
    pub(crate) fn saw_value(&mut self, topic: &str, cursor: Cursor, bytes: &[u8]) {
        let id = self.identify(topic, bytes);
        self.sights += 1;
        self.place(id, cursor);
    }

    /// Asserts that a topic's history could no longer hold the message at `to`, because enough was published behind it.
    pub(crate) fn check_exceeded(&self, topic: &str, to: Cursor) {
        let Some(history) = self.history.filter(|history| !self.may_forget && self.now_us < history.until_us) else {
            return;
        };
        let mut count = 0;
        let mut bytes = 0;
        for published in self.published.iter().filter(|published| published.topic == topic) {
            // What nobody has seen yet may stand anywhere.
            if published.fate != Fate::Refused && published.seen.is_none_or(|seen| seen.seq >= to.seq) {
                count += 1;
                bytes += published.bytes.len() + published.event.as_ref().map_or(0, String::len);
            }
        }
        let held = count <= history.messages && bytes <= history.bytes;
        assert!(
            !held,
            "topic {topic}: {to} is said to be gone, and the history holds it ({count} messages from there)"
        );
    }

    /// A raw subscriber saw these payloads, one after the other, without cursors.
    pub(crate) fn saw_raw(&mut self, topic: &str, ids: Vec<PayloadId>) {
        self.sights += ids.len() as u64;
        self.raw_runs.push((topic.to_string(), ids));
    }

    /// Where a payload was numbered, once anybody knows.
    pub(crate) fn cursor_of(&self, id: PayloadId) -> Option<Cursor> {
        self.published[id].seen
    }

    /// A client was told that this is the topic's newest number.
    pub(crate) fn head_told(&mut self, topic: &str, cursor: Cursor) {
        // Epoch 0 is that of a topic which does not exist.
        if cursor.epoch == 0 {
            return;
        }
        let epochs = self.heads.entry(topic.to_string()).or_default();
        match epochs.iter_mut().find(|head| head.epoch == cursor.epoch) {
            Some(head) => head.seq = head.seq.max(cursor.seq),
            None => epochs.push(cursor),
        }
    }

    /// Returns the newest number anybody knows of, in the epoch that was heard of last.
    pub(crate) fn head(&self, topic: &str) -> Option<Cursor> {
        self.heads.get(topic)?.last().copied()
    }

    /// Returns how many messages have a known cursor.
    pub(crate) fn numbered(&self) -> u64 {
        self.topics.values().map(|cursors| cursors.len() as u64).sum()
    }

    /// Returns how many messages were sent and not refused.
    pub(crate) fn sent(&self) -> u64 {
        self.published.iter().filter(|published| published.fate != Fate::Refused).count() as u64
    }

    fn place(&mut self, id: PayloadId, cursor: Cursor) {
        let published = &mut self.published[id];
        match published.seen {
            Some(before) => assert_eq!(before, cursor, "payload {id} has two cursors"),
            None => {
                assert!(cursor.seq > 0, "sequence numbers begin at one");
                assert!(self.numbers.is_given(cursor), "payload {id} has {cursor}, a number that no home gives");
                published.seen = Some(cursor);
                let topic = published.topic.clone();
                if let Some(other) = self.topics.entry(topic.clone()).or_default().insert(cursor, id) {
                    panic!("topic {topic}: payloads {other} and {id} have the same cursor {cursor}");
                }
                self.head_told(&topic, cursor);
            }
        }
    }

    /// Checks what can only be judged when all is over: each connection's publishes to a topic are numbered in order.
    pub(crate) fn check_order(&self) {
        let mut last: HashMap<(usize, &str), (Cursor, PayloadId)> = HashMap::new();
        for (id, published) in self.published.iter().enumerate() {
            let Some(cursor) = published.seen else {
                continue;
            };
            let key = (published.conn, published.topic.as_str());
            if let Some((before, earlier)) = last.insert(key, (cursor, id))
                && before.epoch == cursor.epoch
            {
                assert!(
                    before.seq < cursor.seq,
                    "topic {}: payload {earlier} ({before}) was sent before {id} ({cursor}) on one connection",
                    published.topic
                );
            }
        }
    }

    /// Checks that what raw subscribers saw came in the order of the cursors that others saw, each once.
    pub(crate) fn check_raw(&self) {
        for (topic, ids) in &self.raw_runs {
            let mut last: Option<(PayloadId, Cursor)> = None;
            for id in ids {
                let Some(cursor) = self.published[*id].seen else {
                    continue;
                };
                if let Some((earlier, before)) = last
                    && before.epoch == cursor.epoch
                {
                    let order = format!("{earlier} ({before}), then {id} ({cursor})");
                    assert!(before.seq < cursor.seq, "a raw subscriber of {topic} saw {order}");
                }
                last = Some((*id, cursor));
            }
        }
    }

    /// Returns what has no cursor although nothing was lost that could explain it; for reports.
    pub(crate) fn describe(&self, id: PayloadId) -> String {
        let Published { topic, conn, bytes, fate, seen, .. } = &self.published[id];
        format!("payload {id} ({} bytes) to {topic} through connection {conn}: {fate:?}, seen {seen:?}", bytes.len())
    }
}

/// From where a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Latest,
    Live,
    Earliest,
    Last(u64),
    After(Cursor),
}

impl std::fmt::Display for Since {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Since::Latest => write!(out, "latest"),
            Since::Live => write!(out, "live"),
            Since::Earliest => write!(out, "earliest"),
            Since::Last(count) => write!(out, "-{count}"),
            Since::After(cursor) => write!(out, "{cursor}"),
        }
    }
}

/// What one subscriber sees of one topic, and what it must see next.
#[derive(Debug)]
pub(crate) struct Watch {
    topic: String,
    since: Since,
    /// The newest number when the subscription began to be live, once the server told.
    head: Option<Cursor>,
    /// The newest number that anybody knew of when the request was sent; the server's may have been a later one.
    floor: Option<Cursor>,
    /// Everything up to here was delivered or told as lost.
    last: Option<Cursor>,
    /// Whether the first message or gap has come.
    begun: bool,
    /// Whether one has come since the request was sent.
    answered: bool,
}

impl Watch {
    pub(crate) fn new(topic: &str, since: Since) -> Watch {
        let last = match since {
            // The cursor of a topic that did not exist says nothing about what comes.
            Since::After(cursor) if cursor.epoch != 0 => Some(cursor),
            Since::After(_) => None,
            Since::Latest | Since::Live | Since::Earliest | Since::Last(_) => None,
        };
        Watch { topic: topic.to_string(), since, head: None, floor: None, last, begun: false, answered: false }
    }

    /// Returns the cursor to go on from.
    pub(crate) fn last(&self) -> Option<Cursor> {
        self.last
    }

    /// A request goes out, or goes out again.
    pub(crate) fn asked(&mut self, oracle: &Oracle) {
        self.floor = oracle.head(&self.topic);
        self.answered = false;
    }

    /// The server said where the topic stood when this subscription began.
    pub(crate) fn head_told(&mut self, oracle: &mut Oracle, head: Cursor) {
        self.head = Some(head);
        oracle.head_told(&self.topic, head);
        if self.since == Since::Live && self.last.is_none() && !self.begun {
            self.last = Some(head);
        }
    }

    pub(crate) fn message(&mut self, oracle: &mut Oracle, cursor: Cursor, event: Option<&str>, bytes: &[u8]) {
        oracle.saw(&self.topic, cursor, event, bytes);
        if let Some(last) = self.last {
            assert_eq!(cursor.epoch, last.epoch, "a new epoch without a gap: {self:?}");
            assert!(cursor.seq > last.seq, "{cursor} again or out of order: {self:?}");
            assert!(cursor.seq == oracle.numbers.after(last), "a jump to {cursor} that nobody told: {self:?}");
        } else if let (Some(head), false) = (self.head, self.begun) {
            self.check_first(oracle, head, cursor);
        } else if let (Some(floor), false) = (self.floor, self.begun) {
            self.check_floor(oracle, floor, cursor);
        }
        self.begun = true;
        self.answered = true;
        self.last = Some(cursor);
    }

    /// A message came without its cursor: it can only be the one after the last.
    pub(crate) fn next_message(&mut self, oracle: &mut Oracle, event: Option<&str>, bytes: &[u8]) {
        let last = self.last.expect("the caller knows where this watch stands");
        self.message(oracle, Cursor { seq: oracle.numbers.after(last), ..last }, event, bytes);
    }

    /// Checks the first message of a subscription of which only is known what had been numbered before it was asked for.
    fn check_floor(&self, oracle: &Oracle, floor: Cursor, first: Cursor) {
        if floor.epoch != first.epoch {
            return;
        }
        let earliest = match self.since {
            Since::Latest => floor.seq,
            Since::Live | Since::Last(0) => floor.seq + 1,
            Since::Last(count) => oracle.numbers.back(floor, count - 1),
            Since::Earliest | Since::After(_) => 1,
        };
        assert!(first.seq >= earliest, "the first message is {first}, asked for from {earliest} on: {self:?}");
        if self.since == Since::Earliest && oracle.numbers.count(first) > 1 {
            oracle.check_exceeded(&self.topic, Cursor { seq: oracle.numbers.back(first, 1), ..first });
        }
    }

    /// Checks the first message of a subscription that does not start from a cursor.
    fn check_first(&self, oracle: &Oracle, head: Cursor, first: Cursor) {
        assert_eq!(head.epoch, first.epoch, "the first message is of the epoch told: {self:?}");
        let earliest = match self.since {
            Since::Latest => head.seq,
            Since::Live | Since::Last(0) => head.seq + 1,
            Since::Last(count) => oracle.numbers.back(head, count - 1),
            Since::Earliest | Since::After(_) => 1,
        };
        assert!(
            (earliest..=oracle.numbers.after(head)).contains(&first.seq),
            "the first message is {first}, asked for from {earliest} on: {self:?}"
        );
    }

    /// The server said what is lost.
    pub(crate) fn gap(&mut self, oracle: &mut Oracle, told: Told<'_>) {
        oracle.gaps += 1;
        assert_eq!(told.topic, self.topic, "a gap of another topic");
        assert!(["overflow", "expired", "epoch", "conflated"].contains(&told.reason), "{told:?}");
        assert!(told.count > 0 || told.reason == "epoch", "a gap of nothing: {told:?}");
        let (from, to) = (Cursor::parse(told.from), Cursor::parse(told.to));
        match told.reason {
            "conflated" => {}
            "epoch" => {
                assert!(oracle.may_forget || oracle.history.is_none(), "a new epoch of its own accord: {told:?}")
            }
            _ => oracle.check_exceeded(&self.topic, to),
        }
        if told.reason == "epoch" {
            // How much of the old epoch is lost nobody knows; of the new one everything before the next message.
            assert_eq!(told.count, oracle.numbers.count(to), "{told:?}");
        } else {
            assert_eq!(from.epoch, to.epoch, "{told:?}");
            let count = oracle.numbers.between(from, to);
            assert_eq!(Some(told.count), count, "the count of a gap is exact: {told:?}");
            if let Some(last) = self.last {
                assert_eq!(from, last, "a gap begins after the last message: {told:?}, {self:?}");
            }
        }
        self.begun = true;
        self.answered = true;
        // The topic is gone: what comes next is the beginning of another life.
        self.last = (to.epoch != 0).then_some(to);
        oracle.head_told(&self.topic, to);
    }

    /// A poll's answer is over: the next one goes on from here.
    pub(crate) fn polled_up_to(&mut self, oracle: &mut Oracle, next: Cursor) {
        if let Some(floor) = self.floor
            && floor.epoch == next.epoch
        {
            assert!(self.answered || next.seq >= floor.seq, "nothing came, and {floor} was there: {self:?}");
        }
        self.told(oracle, next);
    }

    /// The server says that this is where the reader stands.
    pub(crate) fn told(&mut self, oracle: &mut Oracle, next: Cursor) {
        if let Some(last) = self.last {
            assert_eq!(last, next, "the cursor is that of the last message that came: {self:?}");
        }
        if next.epoch == 0 {
            return;
        }
        self.last = Some(next);
        oracle.head_told(&self.topic, next);
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Says whether a message or a gap has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Says whether everything that anybody knows of was delivered or told as lost.
    pub(crate) fn is_complete(&self, oracle: &Oracle) -> bool {
        let Some(head) = oracle.head(&self.topic) else {
            return true;
        };
        match (self.last, self.head) {
            // Another epoch than the oracle's newest: the topic was forgotten and began anew; nothing to compare with.
            (Some(last), _) => last.epoch != head.epoch || last.seq == head.seq,
            // Nothing came: the head that was told at the beginning must still be the head.
            (None, Some(told)) => told.epoch != head.epoch || told.seq == head.seq,
            // Nobody can know what a live subscription has coming; another one begins with the snapshot.
            (None, None) => matches!(self.since, Since::Live | Since::Last(0)) || head.seq == 0 || oracle.may_forget,
        }
    }
}

/// A loss that the server told, in the words of the protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) topic: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) count: u64,
    pub(crate) reason: &'a str,
}
