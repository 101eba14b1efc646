//! What the simulator found, each as a small scene of its own: its seeds mean other worlds whenever worlds change.
//!
//! A scene needs the right amount of memory or of room at the right moment, and where that is may move when the engine
//! changes; so each is played with every amount, and shows that the amounts that matter were among them.

use corecast::io::driver::Driver as _;
use corecast::mesh;
use corecast::shard::{Limits, Setup, Shard};

use crate::faults::Faults;
use crate::kernel::FakeKernel;
use crate::net::{ConnId, Found, Net, SharedNet};
use crate::rng::Rng;
use crate::seat::Sizes;

/// Turns after which everything that can happen without further bytes has happened.
const TURNS: usize = 60;

const SMALL_MEMORY: u64 = 64 << 10;

/// One shard on a kernel that does what everybody hopes for, and the clients' ends.
struct Scene {
    net: SharedNet,
    kernel: FakeKernel,
    shard: Shard,
}

impl Scene {
    fn new(limits: Limits) -> Scene {
        let memory_bytes = usize::try_from(limits.memory_bytes).expect("scenes are small");
        let sizes = Sizes { memory_bytes, slots: 1024, buffers: 64, buffer_bytes: 4096, orders: 1024 };
        let net = Net::shared(1);
        let mut kernel =
            FakeKernel::new(0, net.clone(), Rng::new(1), Faults { delay_us_max: 1, ..Faults::NONE }, sizes);
        let links = mesh::join(1, 1, limits.ring_bytes(1)).pop().expect("one was made");
        let shard = Shard::new(Setup { index: 0, limits, links, seed: 1, slots_max: sizes.slots, hash_key: 1 });
        kernel.accept(0);
        Scene { net, kernel, shard }
    }

    /// Gives the shard as many turns as it can have something to do.
    fn turns(&mut self) {
        (0..TURNS).for_each(|_| self.turn());
    }

    fn turn(&mut self) {
        self.shard.turn(&mut self.kernel);
        self.shard.check();
        self.net.borrow_mut().advance_us(10);
    }

    /// Opens a connection with room for so many bytes from the server, and says something on it.
    fn open(&mut self, room: usize, says: &[u8]) -> ConnId {
        let conn = self.net.borrow_mut().connect(0, 1 << 16, room);
        self.say(conn, says);
        conn
    }

    fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let said = self.net.borrow_mut().client_write(conn, bytes);
        assert_eq!(said, Ok(bytes.len()), "it still stands, and there is room");
    }

    /// Reads what there is of at most `max` bytes, and says whether the connection has ended.
    fn read(&mut self, conn: ConnId, max: usize, into: &mut Vec<u8>) -> bool {
        let found = self.net.borrow_mut().client_read(conn, max, into);
        matches!(found, Found::Eof | Found::Reset)
    }

    /// Returns what there is, as text.
    fn text(&mut self, conn: ConnId) -> String {
        let mut bytes = Vec::new();
        self.read(conn, usize::MAX, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Publishes to a topic; says whether it was taken.
    fn publish(&mut self, topic: &str, message: &str) -> bool {
        let len = message.len();
        let head = format!("POST /topics/{topic} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{message}");
        let conn = self.open(4096, head.as_bytes());
        self.turns();
        self.text(conn).starts_with("HTTP/1.1 200 ")
    }

    /// Takes memory away: each of these requests stands half-read in a block of 256 bytes.
    fn begin_requests(&mut self, count: usize) {
        for _ in 0..count {
            self.open(4096, b"GET /topics/other HTTP/1.1\r\n");
        }
        self.turns();
    }
}

/// A long poll that waits is answered when a message comes, whatever memory there is for the answer: with the message, or
/// told that the engine is full. It used to wait until its time was over if there was none.
#[test]
fn a_waiting_poll_is_always_answered() {
    let (mut whole, mut full) = (0, 0);
    for taken in 0..256 {
        let mut scene = Scene::new(Limits { memory_bytes: SMALL_MEMORY, ..Limits::default() });
        let poll =
            scene.open(4096, b"GET /topics/t?transport=long-poll&since=live&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n");
        scene.turns();
        scene.begin_requests(taken);
        if !scene.publish("t", &"m".repeat(700)) {
            continue;
        }
        let answer = scene.text(poll);
        match answer.get(..12) {
            Some("HTTP/1.1 200") => whole += 1,
            Some("HTTP/1.1 503") => full += 1,
            _ => panic!("{taken} blocks taken: it waits on: {answer:?}"),
        }
    }
    assert!(whole > 0 && full > 0, "{whole} whole, {full} full: the scene shows nothing");
}

/// A stream of several topics that is to end after 500 bytes of messages has had them when it ends, whatever the kernel took
/// of a send. It used to end when they were ordered, and its client came back for the same again.
#[test]
fn a_stream_is_long_when_its_messages_were_taken() {
    let message = "m".repeat(600);
    for room in (100..1500).step_by(7) {
        let mut scene = Scene::new(Limits { stream_bytes: 500, ..Limits::default() });
        let get = b"GET /topics?topic=a&topic=b&transport=stream&since=live HTTP/1.0\r\nHost: x\r\n\r\n";
        let stream = scene.open(room, get);
        scene.turns();
        assert!(scene.publish("a", &message));
        let mut told = Vec::new();
        for _ in 0..100 {
            scene.turns();
            if scene.read(stream, 100, &mut told) {
                break;
            }
        }
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains(&message), "room for {room} bytes: it ended after {told:?}");
    }
}

/// The rest of a frame that a log forgets is kept by the connection, or the connection ends, whatever memory there is; a
/// ping that comes at that moment is answered behind it or not at all. Without memory the rest was counted although it was
/// not there, and the answer to the ping ended the process.
#[test]
fn a_ping_behind_a_begun_frame_without_memory() {
    let (mut kept, mut ended) = (0, 0);
    for taken in 0..256 {
        let mut scene = Scene::new(Limits { memory_bytes: SMALL_MEMORY, log_bytes_max: 4096, ..Limits::default() });
        let upgrade = b"GET /topics/t?since=live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let slow = scene.open(400, upgrade);
        scene.turns();
        scene.text(slow);
        scene.begin_requests(taken);
        // The first message is begun, and forgotten when others come. There is a ping in every turn.
        let post = format!("POST /topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}", "m".repeat(1000));
        for _ in 0..8 {
            scene.open(4096, post.as_bytes());
            for _ in 0..10 {
                // Fails once the connection has ended.
                let _ = scene.net.borrow_mut().client_write(slow, &[0x89, 0x80, 0, 0, 0, 0]);
                scene.turn();
            }
        }
        let mut told = Vec::new();
        let over = (0..4).any(|_| {
            scene.turns();
            scene.read(slow, 400, &mut told)
        });
        if over { ended += 1 } else { kept += 1 }
    }
    assert!(kept > 0 && ended > 0, "{kept} kept, {ended} ended: the scene shows nothing");
}
