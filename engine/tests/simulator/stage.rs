//! A stage: a few shards on kernels that do what everybody hopes for, and the clients' ends, for scenes that are told in full.
//!
//! Owns: the shards and their turns, one each in every round. Checks after every turn what holds between turns.
//! Never: draws by chance what happens; a scene is the same in every run.

use corecast::handover::load::{Homes, Sink, load};
use corecast::io::driver::Driver as _;
use corecast::mesh;
use corecast::shard::{Limits, Restore, Restored, Setup, Shard, Stats};
use corecast_protocol::snapshot::Head;

use crate::faults::Faults;
use crate::kernel::FakeKernel;
use crate::net::{ConnId, Found, Net, SharedNet};
use crate::rng::Rng;
use crate::seat::Sizes;

/// Rounds after which everything that can happen without further bytes has happened.
const ROUNDS: usize = 60;

/// Time that passes with every turn, in microseconds.
const TURN_US: u64 = 10;

pub(crate) struct Stage {
    pub(crate) net: SharedNet,
    pub(crate) berths: Vec<(Shard, FakeKernel)>,
}

impl Stage {
    pub(crate) fn new(shards: usize, limits: &Limits) -> Stage {
        Stage::with_slots(shards, limits, 1024)
    }

    /// Makes shards with room for so many connections each.
    pub(crate) fn with_slots(shards: usize, limits: &Limits, slots: u32) -> Stage {
        let sizes = Sizes { slots, ..Stage::sizes(limits) };
        Stage::of(limits, sizes, mesh::join(shards, shards, limits.ring_bytes(1)))
    }

    /// Makes shards with room for so many connections each, and the control plane's end of their mesh.
    pub(crate) fn with_control(shards: usize, limits: &Limits, slots: u32) -> (Stage, mesh::Control) {
        let sizes = Sizes { slots, ..Stage::sizes(limits) };
        let (links, control) = mesh::join_with_control(shards, shards, limits.ring_bytes(1));
        (Stage::of(limits, sizes, links), control)
    }

    /// Makes shards of these ends, with room for so many connections each.
    pub(crate) fn with_links(limits: &Limits, slots: u32, links: Vec<mesh::Links>) -> Stage {
        Stage::of(limits, Sizes { slots, ..Stage::sizes(limits) }, links)
    }

    /// Makes one shard with so many receive buffers of so many bytes.
    pub(crate) fn with_buffers(limits: &Limits, buffers: u16, buffer_bytes: usize) -> Stage {
        let sizes = Sizes { buffers, buffer_bytes, ..Stage::sizes(limits) };
        Stage::of(limits, sizes, mesh::join(1, 1, limits.ring_bytes(1)))
    }

    /// Makes one of two shards. The other one, whose ends of the rings are returned, never takes a turn: what is said to it stays
    /// in its ring.
    pub(crate) fn beside_a_deaf_one(limits: &Limits) -> (Stage, mesh::Links) {
        let mut links = mesh::join(2, 2, limits.ring_bytes(1));
        let deaf = links.pop().expect("two were made");
        (Stage::of(limits, Stage::sizes(limits), links), deaf)
    }

    /// Makes shards that come after others, with another key and other chance, and restores what those said last.
    pub(crate) fn after(shards: usize, limits: &Limits, saved: &[u8], manner: Manner) -> (Stage, Restored) {
        let links = mesh::join(shards, shards, limits.ring_bytes(1));
        let mut stage = Stage::seeded(limits, Stage::sizes(limits), links, 2);
        let Manner { is_last, leaves_out } = manner;
        if leaves_out {
            stage.berths.iter_mut().for_each(|(shard, _)| shard.leave_out_numbers());
        }
        let mut pieces = Pieces { restores: (0..shards).map(|_| Restore::new(is_last)).collect(), stage: &mut stage };
        load(&mut &*saved, Homes { hash_key: 2, shards }, &mut pieces).expect("it is right");
        let mut sum = Restored::default();
        let restores = pieces.restores;
        for ((shard, _), restore) in stage.berths.iter_mut().zip(restores) {
            sum.add(&shard.restored(restore));
            shard.check();
        }
        (stage, sum)
    }

    fn sizes(limits: &Limits) -> Sizes {
        let memory_bytes = usize::try_from(limits.memory_bytes).expect("scenes are small");
        Sizes { memory_bytes, slots: 1024, buffers: 256, buffer_bytes: 4096, orders: 1024 }
    }

    fn of(limits: &Limits, sizes: Sizes, links: Vec<mesh::Links>) -> Stage {
        Stage::seeded(limits, sizes, links, 1)
    }

    fn seeded(limits: &Limits, sizes: Sizes, links: Vec<mesh::Links>, seed: u64) -> Stage {
        let slots = sizes.slots;
        let faults = Faults { delay_us_max: 1, ..Faults::NONE };
        let net = Net::shared(links[0].shards());
        let berths = links.into_iter().enumerate().map(|(index, links)| {
            let mut kernel = FakeKernel::new(index, net.clone(), Rng::new(1 + index as u64), faults, sizes);
            kernel.accept(0);
            let setup = Setup {
                index,
                limits: limits.clone(),
                links,
                seed,
                slots_max: slots,
                hash_key: seed,
                wall_offset_us: 0,
            };
            (Shard::new(setup), kernel)
        });
        let berths = berths.collect();
        Stage { net, berths }
    }

    /// Lets every shard take as many turns as it can have something to do.
    pub(crate) fn turns(&mut self) {
        (0..ROUNDS).for_each(|_| self.turn());
    }

    /// Lets every shard take a turn.
    pub(crate) fn turn(&mut self) {
        self.turn_and_look(|_, _| {});
    }

    /// Lets one shard take a turn: the others stand still.
    pub(crate) fn turn_of(&mut self, index: usize) {
        let (shard, kernel) = &mut self.berths[index];
        shard.turn(kernel);
        shard.check();
        self.net.borrow_mut().advance_us(TURN_US);
    }

    /// Lets so many milliseconds pass, a tenth of a second at a time.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.net.borrow_mut().advance_us(100_000);
            (0..6).for_each(|_| self.turn());
        }
    }

    /// Lets shard 0 take a turn that is not checked, where there are very many turns or there is very much to check.
    pub(crate) fn quick_turn(&mut self) {
        let (shard, kernel) = &mut self.berths[0];
        shard.turn(kernel);
        self.net.borrow_mut().advance_us(TURN_US);
    }

    /// Lets every shard take a turn, and shows it to `look` after its own.
    pub(crate) fn turn_and_look(&mut self, mut look: impl FnMut(usize, &Shard)) {
        for (index, (shard, kernel)) in self.berths.iter_mut().enumerate() {
            shard.turn(kernel);
            shard.check();
            look(index, shard);
            self.net.borrow_mut().advance_us(TURN_US);
        }
    }

    /// Opens a connection to shard 0 with room for so many bytes from the server, and says something on it.
    pub(crate) fn open(&mut self, room: usize, says: &[u8]) -> ConnId {
        self.open_at(0, room, says)
    }

    /// Opens a connection to a shard.
    pub(crate) fn open_at(&mut self, shard: usize, room: usize, says: &[u8]) -> ConnId {
        let conn = self.net.borrow_mut().connect(shard, 1 << 16, room);
        self.say(conn, says);
        conn
    }

    /// Opens a WebSocket to a shard, waits for the answer and reads it.
    pub(crate) fn upgrade_at(&mut self, shard: usize, room: usize, target: &str) -> ConnId {
        self.upgrade_with(shard, room, target, "")
    }

    /// Opens a WebSocket with further header lines.
    pub(crate) fn upgrade_with(&mut self, shard: usize, room: usize, target: &str, lines: &str) -> ConnId {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        let conn = self.open_at(shard, room, head.as_bytes());
        for _ in 0..ROUNDS {
            self.turn();
            if self.net.borrow().client_has_news(conn) {
                break;
            }
        }
        let answer = self.text(conn);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer:?}");
        conn
    }

    pub(crate) fn say(&mut self, conn: ConnId, bytes: &[u8]) {
        let said = self.net.borrow_mut().client_write(conn, bytes);
        assert_eq!(said, Ok(bytes.len()), "it still stands, and there is room");
    }

    /// Says a text message on a WebSocket.
    pub(crate) fn say_text(&mut self, conn: ConnId, text: &[u8]) {
        self.say(conn, &frame(0x81, text));
    }

    /// Reads what there is of at most `max` bytes, and says whether the connection has ended.
    pub(crate) fn read(&mut self, conn: ConnId, max: usize, into: &mut Vec<u8>) -> bool {
        let found = self.net.borrow_mut().client_read(conn, max, into);
        matches!(found, Found::Eof | Found::Reset)
    }

    /// Returns what there is, as text.
    pub(crate) fn text(&mut self, conn: ConnId) -> String {
        let mut bytes = Vec::new();
        self.read(conn, usize::MAX, &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Publishes to a topic; says whether it was taken.
    pub(crate) fn publish(&mut self, topic: &str, message: &str) -> bool {
        let conn = self.open(4096, post(topic, message).as_bytes());
        self.turns();
        self.text(conn).starts_with("HTTP/1.1 200 ")
    }

    pub(crate) fn stats(&mut self) -> Stats {
        let mut sum = Stats::default();
        self.berths.iter_mut().for_each(|(shard, _)| sum.add(shard.stats()));
        sum
    }
}

/// How shards come after others.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// What they restore was the last word.
    pub(crate) is_last: bool,
    /// Their numbers leave some out, as those of the others did.
    pub(crate) leaves_out: bool,
}

/// Nothing was numbered behind what is restored.
pub(crate) const LAST: Manner = Manner { is_last: true, leaves_out: false };

/// Where pieces of a snapshot go.
struct Pieces<'s> {
    stage: &'s mut Stage,
    restores: Vec<Restore>,
}

impl Sink for Pieces<'_> {
    fn begin(&mut self, _: Head) {}

    fn give(&mut self, shard: usize, piece: Vec<u8>) -> bool {
        let (of_shard, kernel) = &mut self.stage.berths[shard];
        of_shard.restore(kernel, &mut self.restores[shard], &piece);
        true
    }
}

/// Makes a client's frame; its mask changes nothing.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(len).expect("scenes say little").to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Writes a request that publishes to a topic.
pub(crate) fn post(topic: &str, message: &str) -> String {
    let len = message.len();
    format!("POST /topics/{topic} HTTP/1.1\r\nHost: x\r\nContent-Length: {len}\r\n\r\n{message}")
}
