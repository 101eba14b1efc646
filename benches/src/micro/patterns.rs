//! Messages of a pattern: the turns of a production shard whose subscribers read `t/+`, while each message is of the next of many topics;
//! beside the same with subscribers of one topic.

use corecast::io::driver::Slot;
use corecast::mesh;
use corecast::shard::{Busy, Limits, Setup, Shard};

use super::kernel::QuietKernel;
use super::messages::masked;

/// Bytes of a payload.
const BYTES: usize = 512;

/// Block memory of the shard: ten thousand histories of a message each are a quarter of it.
const MEMORY_BYTES: usize = 64 << 20;

/// Turns within which everything that a message causes is done.
const TURNS_MAX: u32 = 100;

/// Messages before anything is counted, besides one for each topic.
const WARM_UP: u32 = 200;

/// A shard with subscribers, and a publisher to so many topics in turn.
struct Room {
    shard: Shard,
    kernel: QuietKernel,
    subscribers: u32,
    topics: u32,
    next: u32,
    payload: Vec<u8>,
}

impl Room {
    fn new(subscribers: u32, topics: u32, reads: &str) -> Room {
        let slots = subscribers + 1;
        let limits = Limits { memory_bytes: MEMORY_BYTES as u64, history_messages: 1, ..Limits::default() };
        let links = mesh::join(1, 1, limits.ring_bytes(1)).pop().expect("one was made");
        let setup = Setup { index: 0, limits, links, seed: 1, slots_max: slots, hash_key: 2, wall_offset_us: 0 };
        let (shard, kernel) = (Shard::new(setup), QuietKernel::new(slots, MEMORY_BYTES));
        let payload = (0..BYTES).map(|place| b' ' + (place % 90) as u8).collect();
        let mut room = Room { shard, kernel, subscribers, topics, next: 0, payload };
        room.kernel.keeps = true;
        for slot in 0..slots {
            room.open(slot);
        }
        for slot in 0..subscribers {
            room.say(slot, format!("SUB {reads} since=live").as_bytes());
        }
        room.kernel.keeps = false;
        for _ in 0..topics.max(WARM_UP) + WARM_UP {
            room.message();
        }
        // As long as it takes a shard to know how long a tick is.
        room.kernel.pass_a_second();
        room.message_checked();
        room
    }

    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.shard.turn(&mut self.kernel) != Busy::Yes {
                assert!(self.kernel.heard(), "the shard rests and has not received everything");
                return;
            }
        }
        panic!("the shard is still busy");
    }

    fn open(&mut self, slot: Slot) {
        self.kernel.accept_one(slot);
        self.settle();
        let head = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        self.kernel.speak(slot, head.as_bytes());
        self.settle();
        assert!(self.kernel.kept[slot as usize].starts_with(b"HTTP/1.1 101 "));
    }

    fn say(&mut self, slot: Slot, text: &[u8]) {
        self.kernel.speak(slot, &masked(text));
        self.settle();
    }

    /// Publishes to the next topic, and delivers that.
    fn message(&mut self) {
        self.next = (self.next + 1) % self.topics;
        // Names of one length, as there are ten thousand or one.
        let head = format!("PUB t/{:05}\n", self.next);
        let message = [head.as_bytes(), &self.payload].concat();
        self.say(self.subscribers, &message);
    }

    /// Publishes a message, and checks that everybody is sent it.
    fn message_checked(&mut self) {
        self.kernel.kept.iter_mut().for_each(Vec::clear);
        self.kernel.keeps = true;
        self.message();
        self.kernel.keeps = false;
        let (last, subscribers) = self.kernel.kept.split_last().expect("there is a publisher");
        assert!(last.is_empty(), "who publishes is not answered");
        let head = format!("MSG t/{:05} ", self.next);
        for bytes in subscribers {
            let text = bytes.get(4..).unwrap_or_default();
            assert!(text.starts_with(head.as_bytes()) && text.ends_with(&self.payload), "everybody got the message");
        }
    }
}

fn turn(mut room: Room, iterations: u64) {
    let sends = room.kernel.sends;
    for _ in 0..iterations {
        room.message();
    }
    let sends_due = iterations * u64::from(room.subscribers);
    assert_eq!(room.kernel.sends - sends, sends_due, "one send for each subscriber and message");
    room.message_checked();
}

/// Messages to ten thousand topics in turn, all of them read by a pattern.
pub(super) fn pattern<const SUBSCRIBERS: u32>(iterations: u64) {
    turn(Room::new(SUBSCRIBERS, 10_000, "t/+"), iterations);
}

/// The same as messages of one topic.
pub(super) fn topic<const SUBSCRIBERS: u32>(iterations: u64) {
    turn(Room::new(SUBSCRIBERS, 1, "t/00000"), iterations);
}
