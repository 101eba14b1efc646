//! Messages between and through shards: a ring hop, and the turns of a production shard on a quiet kernel.

use std::hint::black_box;

use corecast::io::driver::{Driver as _, Slot};
use corecast::io::memory::Span;
use corecast::mesh::{self, Content, Packet};
use corecast::shard::{Busy, Limits, Rule, Rules, Setup, Shard, Terms};
use corecast_protocol::ws::frame::{self, Opcode};

use super::kernel::QuietKernel;

/// Bytes of a payload.
const BYTES: usize = 512;

/// Block memory of the shard: far more than its log and history need.
const MEMORY_BYTES: usize = 32 << 20;

/// Messages before anything is counted: histories, logs and queues have their size then, and the publisher its multishot
/// receive.
const WARM_UP: u32 = 200;

/// Turns within which everything that a message causes is done, whatever the number of subscribers here.
const TURNS_MAX: u32 = 100;

fn deliver(payload: &[u8], seq: u64) -> Packet<'_> {
    Packet::Deliver {
        id: 7,
        generation: 3,
        seq,
        content: Content { event: "", payload, text: true, at_us: 1, ..Default::default() },
    }
}

/// One packet from a shard to another and back to meaning.
pub(super) fn ring_hop(iterations: u64) {
    let mut links = mesh::join(2, 2, Limits::default().ring_bytes(1));
    let mut receiver = links.pop().expect("two were made");
    let mut sender = links.pop().expect("two were made");
    let payload = [b'x'; BYTES];
    let mut bytes = Vec::with_capacity(1024);
    for seq in 0..iterations {
        assert!(sender.send(1, black_box(&deliver(&payload, seq))), "the ring is empty");
        assert!(receiver.receive(0, &mut bytes), "a packet was sent");
        let packet = Packet::decode(black_box(&bytes));
        assert!(matches!(packet, Some(Packet::Deliver { seq: came, .. }) if came == seq), "in order");
        black_box(&packet);
    }
    assert_eq!(Packet::decode(&bytes), Some(deliver(&payload, iterations - 1)));
    assert!(!receiver.anything(), "all was received");
}

/// What a hop cannot do without: the bytes go in, and out.
pub(super) fn two_copies(iterations: u64) {
    let payload = [b'x'; BYTES];
    let (mut between, mut out) = ([0; BYTES], [0; BYTES]);
    for _ in 0..iterations {
        between.copy_from_slice(black_box(&payload));
        out.copy_from_slice(black_box(&between));
        black_box(&out);
    }
    assert_eq!(out, payload);
}

/// A shard with subscribers of one topic, and a publisher.
struct Room {
    shard: Shard,
    kernel: QuietKernel,
    subscribers: u32,
    publication: Vec<u8>,
    delivery: Vec<u8>,
}

impl Room {
    fn new(subscribers: u32, rules: Rules) -> Room {
        let slots = subscribers + 1;
        let limits = Limits { memory_bytes: MEMORY_BYTES as u64, rules, ..Limits::default() };
        let links = mesh::join(1, 1, limits.ring_bytes(1)).pop().expect("one was made");
        let shard =
            Shard::new(Setup { index: 0, limits, links, seed: 1, slots_max: slots, hash_key: 2, wall_offset_us: 0 });
        let payload: Vec<u8> = (0..BYTES).map(|place| b' ' + (place % 90) as u8).collect();
        let mut room = Room {
            shard,
            kernel: QuietKernel::new(slots, MEMORY_BYTES),
            subscribers,
            publication: masked(&[b"PUB news/sport\n", &payload[..]].concat()),
            delivery: [&[0x81, 126, (BYTES >> 8) as u8, BYTES as u8], &payload[..]].concat(),
        };
        room.kernel.keeps = true;
        for slot in 0..subscribers {
            room.open(slot, "/topics/news/sport?since=live");
        }
        room.open(subscribers, "/ws");
        room
    }

    /// Takes turns until the shard would rest.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.shard.turn(&mut self.kernel) != Busy::Yes {
                assert!(self.kernel.heard(), "the shard rests and has not received everything");
                return;
            }
        }
        panic!("the shard is still busy");
    }

    fn open(&mut self, slot: Slot, path: &str) {
        self.kernel.accept_one(slot);
        self.settle();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.kernel.speak(slot, head.as_bytes());
        self.settle();
        let answer = &mut self.kernel.kept[slot as usize];
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(answer));
        answer.clear();
    }

    /// Publishes one message and delivers it.
    fn message(&mut self) {
        self.kernel.speak(self.subscribers, &self.publication);
        self.settle();
    }

    /// Publishes a message, and checks every byte that everybody is sent.
    fn message_checked(&mut self) {
        self.kernel.kept.iter_mut().for_each(Vec::clear);
        self.kernel.keeps = true;
        self.message();
        self.kernel.keeps = false;
        let (last, subscribers) = self.kernel.kept.split_last().expect("there is a publisher");
        assert!(last.is_empty(), "who publishes is not answered");
        assert!(subscribers.iter().all(|bytes| *bytes == self.delivery), "everybody got the message, and nothing else");
    }
}

pub(super) fn masked(payload: &[u8]) -> Vec<u8> {
    let mask = [0xa5, 0x5a, 0x0f, 0xf1];
    let header = frame::header_len(payload.len(), true);
    let mut bytes = vec![0; header + payload.len()];
    frame::write_header(&mut bytes, true, false, Opcode::Text, payload.len(), Some(mask));
    bytes[header..].copy_from_slice(payload);
    frame::unmask(&mut bytes[header..], mask, 0);
    bytes
}

/// So many rules. One is for the topic of the rooms and allows its payloads; the smallest of the others would not, so that a rule is
/// looked for with each message.
fn rules(count: u32) -> Rules {
    let rule = |pattern: String, bytes| {
        let terms = Terms { history_messages: Some(64), message_bytes_max: Some(bytes), ..Terms::default() };
        Rule { pattern: pattern.into(), terms }
    };
    let others = (1..count).map(|n| rule(format!("others/{n}/#"), 16));
    let all = (0..count.min(1)).map(|_| rule("news/#".to_owned(), 4 * BYTES as u32)).chain(others);
    Rules::new(all.collect()).expect("sound rules")
}

/// What rules say of a topic, asked by its name.
pub(super) fn find_rule<const RULES: u32>(iterations: u64) {
    let rules = rules(RULES);
    for _ in 0..iterations {
        black_box(rules.of(black_box("news/sport")));
    }
    assert_eq!(rules.of("news/sport").message_bytes_max.is_some(), RULES > 0);
}

/// A message on its whole way through a shard: received, numbered, recorded, relayed, encoded, sent to everybody.
pub(super) fn turn<const SUBSCRIBERS: u32, const RULES: u32>(iterations: u64) {
    let mut room = Room::new(SUBSCRIBERS, rules(RULES));
    for _ in 0..WARM_UP {
        room.message();
    }
    // As long as it takes a shard to know how long a tick is.
    room.kernel.pass_a_second();
    room.message_checked();
    let (sends, bytes) = (room.kernel.sends, room.kernel.sent_bytes);
    for _ in 0..iterations {
        room.message();
    }
    let sends_due = iterations * u64::from(SUBSCRIBERS);
    assert_eq!(room.kernel.sends - sends, sends_due, "one send for each subscriber and message");
    assert_eq!(room.kernel.sent_bytes - bytes, sends_due * room.delivery.len() as u64);
    room.message_checked();
}

/// The same orders without a shard.
pub(super) fn bare_orders<const SUBSCRIBERS: u32>(iterations: u64) {
    let mut kernel = QuietKernel::new(SUBSCRIBERS, MEMORY_BYTES);
    let span = Span { start: 4096, len: 516 };
    for _ in 0..iterations {
        for slot in 0..SUBSCRIBERS {
            kernel.send(black_box(slot), black_box(span));
        }
        kernel.submit();
    }
    assert_eq!(kernel.sends, iterations * u64::from(SUBSCRIBERS));
}
