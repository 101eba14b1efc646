//! What cores share: one SPSC byte ring per ordered pair of shards, a set of senders for each, the flags of resting cores,
//! the statistics board, and what is counted across them ([`census`]).
//!
//! Owns the only atomics of the project. Bytes cross a core by copy; pointers never do. Every shard also has a ring to
//! itself ([`own`]), so that a message takes the same path wherever its home is.
//!
//! ```text
//!   shard 0 ──ring 0→1──▶ shard 1        FIFO per ordered pair; nothing ever waits:
//!           ◀──ring 1→0──                 a packet that does not fit is the sender's business
//!   mail[0]    mail[1]                   take, then look into the rings | send, then leave it
//!   resting[0] resting[1]                announce, look again, sleep    | leave mail, then look who rests
//! ```
//!
//! Two more ends belong to the control plane ([`control`]): orders to each shard, and one answer to each order; and to the
//! authority ([`questions`]): questions of each shard, and one verdict to each.
//!
//! Shards may be more than cores, and then those of a core take turns on its thread: shard `n` on core `n % cores`. Mail
//! says which of them has something to hear, and from whom, so that nobody looks into all the rings of all of them.
//!
//! Why it is sound: the one `unsafe` below commits a chunk of a ring after every byte of it was written.

mod bells;
pub mod board;
pub mod census;
pub mod control;
pub mod dial;
pub mod fields;
mod own;
pub mod packet;
pub mod pattern;
pub mod questions;
pub mod shards;
pub mod tally;
mod word;

use std::sync::Arc;
// Those of `bells`, which takes what it finds here.
use std::sync::atomic;

use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use bells::Bells;
pub use board::Board;
pub use census::{Census, Entry, Key};
pub use control::Control;
use control::Ear;
pub use dial::Dial;
use own::Own;
pub use packet::{Asker, Content, Lost, Name, Packet, Reason, Rest, Standing, Start, Stretch, Ticket};
pub use pattern::PatternPacket;
use questions::Mouth;
pub use questions::Questions;
pub use shards::Shards;
pub use tally::Tally;
pub use word::{Numbered, Word};

/// One shard's ends of all its rings.
#[derive(Debug)]
pub struct Links {
    shard: usize,
    /// By shard; the ring to itself is another.
    out: Vec<Producer<u8>>,
    incoming: Vec<Consumer<u8>>,
    own: Own,
    ring_bytes: usize,
    /// Its end towards the control plane.
    ear: Ear,
    /// Its end towards the authority.
    mouth: Mouth,
    /// Shards that were sent something since the last `bells`.
    touched: Shards,
    bells: Arc<Bells>,
    census: Arc<Census>,
}

/// Makes the rings between `shards` shards on `cores` cores, `ring_bytes` bytes each, and returns each shard's ends.
///
/// # Panics
/// If there is no core, there are more shards than a set of them holds, or a packet of the largest kind but without a payload
/// would not fit into half a ring.
#[must_use]
pub fn join(shards: usize, cores: usize, ring_bytes: usize) -> Vec<Links> {
    join_with_control(shards, cores, ring_bytes).0
}

/// Makes the same, and the end of the control plane.
///
/// # Panics
/// As [`join`].
#[must_use]
pub fn join_with_control(shards: usize, cores: usize, ring_bytes: usize) -> (Vec<Links>, Control) {
    let Ends { links, control, .. } = join_all(shards, cores, ring_bytes);
    (links, control)
}

/// All ends of a mesh.
#[derive(Debug)]
pub struct Ends {
    /// Of each shard.
    pub links: Vec<Links>,
    /// The control plane's.
    pub control: Control,
    /// The authority's. Without it, questions have no verdicts.
    pub questions: Questions,
}

/// Makes the same, and the ends of the control plane and of the authority.
///
/// # Panics
/// As [`join`].
#[must_use]
pub fn join_all(shards: usize, cores: usize, ring_bytes: usize) -> Ends {
    assert!(cores > 0 && shards <= Shards::MAX, "shards run on cores, and are not more than a set holds");
    assert!(ring_bytes / 2 >= packet::PREFIX_BYTES_MAX, "a ring must hold the largest packet twice");
    let bells = Arc::new(Bells::new(shards, cores));
    let mut out: Vec<Vec<Producer<u8>>> = (0..shards).map(|_| Vec::new()).collect();
    let mut incoming: Vec<Vec<Consumer<u8>>> = (0..shards).map(|_| Vec::new()).collect();
    for (to, incoming) in incoming.iter_mut().enumerate() {
        for (from, out) in out.iter_mut().enumerate() {
            let (producer, consumer) = RingBuffer::new(if from == to { 0 } else { ring_bytes });
            out.push(producer);
            incoming.push(consumer);
        }
    }
    let census = Arc::new(Census::new());
    let (control, ears) = Control::to(shards, &bells);
    let (questions, mouths) = Questions::to(shards, &bells);
    let links = out.into_iter().zip(incoming).zip(ears.into_iter().zip(mouths)).enumerate();
    let links = links
        .map(|(shard, ((out, incoming), (ear, mouth)))| Links {
            shard,
            ear,
            mouth,
            touched: Shards::default(),
            out,
            incoming,
            own: Own::new(ring_bytes),
            ring_bytes,
            bells: bells.clone(),
            census: census.clone(),
        })
        .collect();
    Ends { links, control, questions }
}

impl Links {
    /// Returns the number of the shard these ends belong to.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Returns how many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.out.len()
    }

    /// Returns what is counted across all shards.
    #[must_use]
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Returns the size of every ring in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// Returns how many bytes fit into the ring to shard `to` now.
    #[must_use]
    pub fn room(&self, to: usize) -> usize {
        if to == self.shard { self.own.room() } else { self.out[to].slots() }
    }

    /// Puts a packet into the ring to shard `to`; says false, and does nothing, if it does not fit.
    #[must_use]
    pub fn send(&mut self, to: usize, packet: &Packet<'_>) -> bool {
        let mut prefix = [0; packet::PREFIX_BYTES_MAX];
        let (prefix_len, payload) = packet.encode(&mut prefix);
        self.send_pieces(to, [&prefix[..prefix_len], payload])
    }

    /// Puts an encoded packet into the ring to shard `to`; says false, and does nothing, if it does not fit.
    #[must_use]
    pub fn send_encoded(&mut self, to: usize, packet: &[u8]) -> bool {
        self.send_pieces(to, [packet, &[]])
    }

    fn send_pieces(&mut self, to: usize, pieces: [&[u8]; 2]) -> bool {
        let total = pieces[0].len() + pieces[1].len();
        let sent = match to == self.shard {
            true => self.own.push(pieces),
            false => push(&mut self.out[to], pieces, total).is_ok(),
        };
        if sent {
            self.touched.insert(to);
        }
        sent
    }

    /// Takes the next packet that shard `from` sent, as bytes for [`Packet::decode`]; says false if there is none.
    #[must_use]
    pub fn receive(&mut self, from: usize, into: &mut Vec<u8>) -> bool {
        if from == self.shard {
            return self.own.pop(into);
        }
        let ring = &mut self.incoming[from];
        // A packet is pushed whole (one commit), so whoever sees its length sees all of it.
        let Ok(head) = ring.read_chunk(packet::LENGTH_BYTES) else { return false };
        let mut length = [0; packet::LENGTH_BYTES];
        let (a, b) = head.as_slices();
        length[..a.len()].copy_from_slice(a);
        length[a.len()..].copy_from_slice(b);
        let length = u32::from_le_bytes(length) as usize;
        let whole = ring.read_chunk(length).expect("packets are pushed whole");
        let (a, b) = whole.as_slices();
        into.clear();
        into.extend_from_slice(a);
        into.extend_from_slice(b);
        whole.commit_all();
        true
    }

    /// Leaves mail for every shard that was sent something since the last call, and calls `wake` for those whose core rests; and for
    /// the authority, if it was asked something.
    pub fn bells(&mut self, mut wake: impl FnMut(usize)) {
        if self.has_asked() {
            wake(self.shards() + 1);
        }
        if self.touched.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.touched);
        // What was sent to itself is often heard already.
        if self.own.is_empty() {
            touched.remove(self.shard);
        }
        self.bells.leave(self.shard, touched, wake);
    }

    /// Says whether there is mail of any shard, of the control plane, or of the authority.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.bells.has_mail(self.shard)
    }

    /// Takes the mail, before a look into the rings of those who sent it: what they send after that look is mail again.
    pub fn take_mail(&self) -> Shards {
        self.bells.take(self.shard)
    }

    /// Announces that this shard's core is about to rest, and says whether it may as far as this shard is concerned: false
    /// if there is mail. A core with several shards asks all of them, and takes it back unless all agree.
    #[must_use]
    pub fn announce_rest(&mut self) -> bool {
        self.bells.announce_rest(self.shard)
    }

    /// Takes the announcement back, after a rest or instead of one.
    pub fn woke(&mut self) {
        self.bells.woke(self.shard);
    }

    /// Says whether a packet of shard `from` waits.
    #[must_use]
    pub fn has_packet(&self, from: usize) -> bool {
        if from == self.shard { !self.own.is_empty() } else { !self.incoming[from].is_empty() }
    }

    /// Says whether a packet waits in any in-ring.
    #[must_use]
    pub fn anything(&self) -> bool {
        !self.own.is_empty() || !self.incoming.iter().all(Consumer::is_empty)
    }
}

/// Pushes both pieces as one commit, so that the other side sees all of them or nothing.
#[allow(unsafe_code)]
fn push(ring: &mut Producer<u8>, pieces: [&[u8]; 2], total: usize) -> Result<(), ChunkError> {
    let mut chunk = ring.write_chunk_uninit(total)?;
    let (first, second) = chunk.as_mut_slices();
    let mut written = 0;
    for piece in pieces {
        let in_first = piece.len().min(first.len().saturating_sub(written));
        if in_first > 0 {
            first[written..written + in_first].write_copy_of_slice(&piece[..in_first]);
        }
        let rest = &piece[in_first..];
        if !rest.is_empty() {
            let at = written + in_first - first.len();
            second[at..at + rest.len()].write_copy_of_slice(rest);
        }
        written += piece.len();
    }
    assert_eq!(written, total, "the pieces of a packet add up to its length");
    // SAFETY: `total` bytes of the chunk, which is all of it, were written just above.
    unsafe { chunk.commit_all() };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(payload: &[u8]) -> Packet<'_> {
        Packet::Publish {
            topic: Name { hash: 7, text: "a/b" },
            ticket: Ticket { slot: 1, generation: 2, asker: Asker::Nobody, word: 3, serial: 4, token: "" },
            content: Content { event: "tick", payload, text: false, at_us: 9, ..Default::default() },
        }
    }

    /// Packets of every length cross a ring in order and whole, wherever the ring's end cuts them.
    #[test]
    fn packets_cross_whole() {
        let mut links = join(2, 2, 4096);
        let mut scratch = Vec::new();
        let payloads: Vec<Vec<u8>> = (0..1000usize).map(|n| vec![n as u8; (n * 37) % 1500]).collect();
        let mut heard = 0;
        for payload in &payloads {
            while !links[0].send(1, &publish(payload)) {
                assert!(links[1].receive(0, &mut scratch), "a full ring has packets");
                assert_eq!(Packet::decode(&scratch), Some(publish(&payloads[heard])));
                heard += 1;
            }
        }
        while links[1].receive(0, &mut scratch) {
            assert_eq!(Packet::decode(&scratch), Some(publish(&payloads[heard])));
            heard += 1;
        }
        assert_eq!(heard, payloads.len());
    }

    /// A packet that does not fit changes nothing.
    #[test]
    fn a_full_ring_refuses() {
        let mut links = join(1, 1, 4096);
        let room = links[0].room(0);
        assert!(!links[0].send(0, &publish(&[0; 5000])));
        assert_eq!(links[0].room(0), room);
        assert!(!links[0].anything());
    }

    /// A shard does not rest with a packet waiting, and is woken once by what comes after its announcement.
    #[test]
    fn rest_is_never_slept_over() {
        let mut links = join(2, 2, 4096);
        assert!(links[0].send(1, &publish(b"x")));
        let mut woken = Vec::new();
        links[0].bells(|shard| woken.push(shard));
        assert!(woken.is_empty(), "nobody rests");
        assert!(!links[1].announce_rest(), "a packet waits");
        links[1].woke();
        links[1].take_mail().each(|from| assert_eq!(from, 0));
        let mut scratch = Vec::new();
        assert!(links[1].receive(0, &mut scratch));
        assert!(links[1].announce_rest());
        assert!(links[0].send(1, &publish(b"y")));
        links[0].bells(|shard| woken.push(shard));
        links[0].bells(|shard| woken.push(shard));
        assert_eq!(woken, [1]);
    }

    /// Shards of one core leave mail for each other and ring no bell; one of another core rings once for all of them.
    #[test]
    fn shards_share_a_core() {
        let mut links = join(3, 2, 4096); // 0 and 2 are on one core
        let mut woken = Vec::new();
        assert!(links[0].send(2, &publish(b"x")));
        links[0].bells(|shard| woken.push(shard));
        assert!(links[2].has_mail() && !links[0].has_mail());
        assert!(links[0].announce_rest(), "the first agrees");
        assert!(!links[2].announce_rest(), "the other has mail");
        links[2].woke();
        assert!(links[1].send(0, &publish(b"y")));
        links[1].bells(|shard| woken.push(shard));
        assert!(woken.is_empty(), "nobody rests");
        assert!(!links[0].take_mail().is_empty() && !links[2].take_mail().is_empty());
        assert!(links[0].announce_rest() && links[2].announce_rest());
        assert!(links[1].send(2, &publish(b"z")) && links[1].send(0, &publish(b"z")));
        links[1].bells(|shard| woken.push(shard));
        assert_eq!(woken, [0]);
        assert!(links[0].has_mail() && links[2].has_mail());
    }

    /// Two threads hammer one ring with rests and bells in between; every packet arrives, and nobody sleeps for ever.
    #[test]
    fn two_threads_and_a_bell() {
        let mut links = join(2, 2, 4096);
        let mut receiver = links.pop().expect("two were made");
        let mut sender = links.pop().expect("two were made");
        let (ring_bell, bell) = std::sync::mpsc::channel::<()>();
        const PACKETS: u32 = 20_000;
        let hearing = std::thread::spawn(move || {
            let mut scratch = Vec::new();
            let mut next = 0u32;
            while next < PACKETS {
                let _ = receiver.take_mail();
                if receiver.receive(0, &mut scratch) {
                    let Some(Packet::Publish { content, .. }) = Packet::decode(&scratch) else {
                        panic!("foreign packet")
                    };
                    assert_eq!(content.payload, next.to_le_bytes());
                    next += 1;
                } else if receiver.announce_rest() {
                    bell.recv_timeout(std::time::Duration::from_secs(20)).expect("a lost wake-up");
                    receiver.woke();
                } else {
                    receiver.woke();
                }
            }
        });
        for n in 0..PACKETS {
            while !sender.send(1, &publish(&n.to_le_bytes())) {
                std::thread::yield_now();
            }
            sender.bells(|_| ring_bell.send(()).unwrap_or(()));
        }
        hearing.join().expect("the receiver saw every packet");
    }
}
