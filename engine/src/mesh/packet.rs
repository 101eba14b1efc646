//! The vocabulary of shards: every packet that crosses from one shard to another.
//!
//! A packet is a length, a kind, fixed fields, short strings, and a payload that runs to its end. All numbers are
//! little-endian. Both sides are the same process, so a packet that does not decode is a bug, not bad input.
//!
//! ```text
//!   publisher's shard          home                       subscriber's shard
//!   Publish ─────────────────▶ numbers, records ────────▶ Deliver
//!   Clear   ─────────────────▶ forgets
//!   PublishIf, ClearIf ──────▶ the same, if nothing has changed
//!   PublishOnce ─────────────▶ the same, if its number is the next one
//!           ◀──── Published / Repeated / Refused
//!                              joined ◀────────────────── Join, Leave
//!                              head   ──────────────────▶ Joined
//!                              history ◀───────────────── Replay
//!                                     ──────────────────▶ Replayed, then its Messages
//!                              no room ─ later ─────────▶ Behind
//!                                     ──────────────────▶ Change, in place of Deliver, if it WantsOld
//!                              counts ◀────────────────── Readers
//! ```

use corecast_protocol::message::Op;

use super::fields::{Fields, Reader};
use super::pattern::PatternPacket;
use super::word::{Numbered, Word};

/// Bytes of the length field in front of every packet.
pub const LENGTH_BYTES: usize = 4;

/// No packet is longer than this without its payload: fields (below 80 bytes), topic (255), event (64), key (255), token (64).
pub const PREFIX_BYTES_MAX: usize = 736;

/// A topic: its keyed hash, which names its home, and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Keyed hash, the same on every shard.
    pub hash: u64,
    /// The topic.
    pub text: &'a str,
}

/// What a message carries besides its number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content<'a> {
    /// Event name, empty for none.
    pub event: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// The payload is valid UTF-8.
    pub text: bool,
    /// When it was read from its publisher: the low bits of the driver's clock in microseconds, which all shards share; 0: nobody knows.
    pub at_us: u32,
    /// What it is a value of, if its topic has many; empty for none.
    pub key: &'a str,
    /// What it does to that value.
    pub op: Op,
}

/// Who is told what became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Asker {
    /// Nobody, unless it is refused: then the connection.
    Nobody,
    /// The connection.
    Connection,
    /// A topic of the asking shard that fell behind.
    Topic,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket<'a> {
    /// The connection.
    pub slot: u32,
    /// Its generation.
    pub generation: u16,
    /// Who is told.
    pub asker: Asker,
    /// What the asking shard wants to hear again with the answer; of a topic, its number there. The home looks at no other.
    pub word: u32,
    /// Tells a replay from earlier ones, whose messages may still come.
    pub serial: u32,
    /// The client's token, empty for none.
    pub token: &'a str,
}

/// Where a replay starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The newest message, if there is one.
    Latest,
    /// Only what comes.
    Live,
    /// All the history.
    Earliest,
    /// The newest so many.
    Last(u32),
    /// Everything after this cursor of a client, checked.
    After {
        /// Its epoch.
        epoch: u32,
        /// Its number.
        seq: u64,
    },
    /// Everything after this number, which the asking shard was told, and knows to be of the present epoch.
    Behind(u64),
}

/// Why a home refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Memory or topic budget is used up.
    Full,
    /// The topic is not what it was expected to be.
    Changed,
    /// It has as many keys, or bytes of values, as it may have.
    Rows,
    /// What it would become is larger than a message may be.
    TooLarge,
    /// The number is not the one that is next of its producer, which is this.
    OutOfOrder(u64),
    /// The topic has as many producers as it may.
    TooManyProducers,
}

/// What a topic is, as far as a condition can depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its epoch.
    pub epoch: u32,
    /// Number of the newest message, 0 before the first.
    pub head: u64,
    /// Its history holds a message.
    pub remembers: bool,
}

/// A run of messages that is lost to the asker, which ends where the stretch that it is told with begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Cursor of the last message before the gap, as the asker knows it.
    pub after_epoch: u32,
    /// Its number.
    pub after_seq: u64,
    /// How many messages of the present epoch are lost.
    pub count: u64,
    /// Because the epoch changed (and how many of the old one are lost nobody knows).
    pub epoch_changed: bool,
}

/// A stretch of a topic's messages: those that follow, and where they stand. The home counts; others cannot, as numbers may be
/// left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Number of the message before its first, or before the next one to come.
    pub after: u64,
    /// Number of its last message, or of the one before it if it has none.
    pub last: u64,
    /// How many it has.
    pub count: u32,
    /// How many there are behind `after`; if that is more, ask again behind `last`.
    pub ahead: u64,
}

impl Stretch {
    /// Says whether it reaches to the newest message.
    #[must_use]
    pub fn is_all(&self) -> bool {
        u64::from(self.count) == self.ahead
    }
}

/// What comes behind a message of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rest {
    /// The next message of the batch.
    Follows,
    /// Nothing; there is more to ask for.
    Later,
    /// Nothing: that was all.
    Nothing,
}

/// What one shard tells another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// To the home: number, record and deliver this.
    Publish {
        /// Where.
        topic: Name<'a>,
        /// Who is to be told.
        ticket: Ticket<'a>,
        /// What.
        content: Content<'a>,
    },
    /// To the home: forget history and snapshot.
    Clear {
        /// Which.
        topic: Name<'a>,
        /// Who is to be told.
        ticket: Ticket<'a>,
    },
    /// As [`Packet::Publish`], if the topic is still what it was.
    PublishIf {
        /// Where.
        topic: Name<'a>,
        /// Who is to be told.
        ticket: Ticket<'a>,
        /// What the topic has to be.
        expected: Standing,
        /// What.
        content: Content<'a>,
    },
    /// As [`Packet::Clear`], if the topic is still what it was.
    ClearIf {
        /// Which.
        topic: Name<'a>,
        /// Who is to be told.
        ticket: Ticket<'a>,
        /// What the topic has to be.
        expected: Standing,
    },
    /// As [`Packet::Publish`], if its producer's number is the next one.
    PublishOnce {
        /// Where.
        topic: Name<'a>,
        /// Who is to be told.
        ticket: Ticket<'a>,
        /// Whose it is, and which one.
        numbered: Numbered,
        /// What.
        content: Content<'a>,
    },
    /// From the home: it was published before.
    Repeated {
        /// Who asked.
        ticket: Ticket<'a>,
        /// Epoch of the topic then; 0 if that is not known any more.
        epoch: u32,
        /// Number of the message.
        seq: u64,
    },
    /// Between homes: what is no message.
    Say {
        /// Of which topic; without a text: of none.
        topic: Name<'a>,
        /// What.
        word: Word,
        /// Whom it is about, empty for nobody.
        name: &'a str,
        /// How many, or how often.
        number: u32,
    },
    /// From the home: it has this number.
    Published {
        /// Who asked.
        ticket: Ticket<'a>,
        /// Epoch of the topic.
        epoch: u32,
        /// Number of the message.
        seq: u64,
    },
    /// From the home: not done.
    Refused {
        /// Who asked.
        ticket: Ticket<'a>,
        /// Why.
        reason: Reason,
    },
    /// To the home: this shard has a subscriber now.
    Join {
        /// Of what.
        topic: Name<'a>,
        /// Number of the topic on the joining shard.
        id: u32,
        /// Its generation there.
        generation: u32,
    },
    /// From the home: everything after `head` will be delivered.
    Joined {
        /// Number of the topic on the joining shard.
        id: u32,
        /// Its generation there.
        generation: u32,
        /// Epoch of the topic.
        epoch: u32,
        /// Number of the newest message, 0 before the first.
        head: u64,
    },
    /// To the home: no subscriber is left.
    Leave {
        /// Of what.
        topic: Name<'a>,
        /// Number of the topic on the leaving shard.
        id: u32,
        /// Its generation there.
        generation: u32,
    },
    /// To the home: so many subscriptions are here now.
    Readers {
        /// Of what.
        topic: Name<'a>,
        /// How many; 0 also if they are not counted any more.
        readers: u32,
    },
    /// From the home: the next message.
    Deliver {
        /// Number of the topic on the subscribed shard.
        id: u32,
        /// Its generation there.
        generation: u32,
        /// Number of the message.
        seq: u64,
        /// The message.
        content: Content<'a>,
    },
    /// From the home: the next message, and what its key had before.
    Change {
        /// Number of the topic on the subscribed shard.
        id: u32,
        /// Its generation there.
        generation: u32,
        /// Number of the message.
        seq: u64,
        /// So many bytes of the payload are what the key had before; the message's own is behind them.
        old_len: u32,
        /// The message.
        content: Content<'a>,
    },
    /// To the home: from now on, say with each message what its key had before.
    WantsOld {
        /// Of what.
        topic: Name<'a>,
        /// Number of the topic on the asking shard.
        id: u32,
        /// Its generation there.
        generation: u32,
    },
    /// From the home: messages did not fit; ask for them.
    Behind {
        /// Number of the topic on the subscribed shard.
        id: u32,
        /// Its generation there.
        generation: u32,
    },
    /// Of a pattern.
    Pattern(PatternPacket<'a>),
    /// To the home: say again.
    Replay {
        /// Of what.
        topic: Name<'a>,
        /// Who asks.
        ticket: Ticket<'a>,
        /// From where on.
        from: Start,
        /// Epoch and generation of the asking shard's topic, for catching up.
        generation: u32,
    },
    /// From the home: the [`Packet::Message`]s of this stretch follow.
    Replayed {
        /// Who asked.
        ticket: Ticket<'a>,
        /// Epoch of the topic, 0 if there is no such topic.
        epoch: u32,
        /// Number of the newest message, 0 before the first.
        head: u64,
        /// What follows now.
        stretch: Stretch,
        /// What is lost before it.
        lost: Option<Lost>,
    },
    /// From the home: one message of a replay.
    Message {
        /// Who asked.
        ticket: Ticket<'a>,
        /// Number of the message.
        seq: u64,
        /// What comes behind it.
        rest: Rest,
        /// The message.
        content: Content<'a>,
    },
}

const PUBLISH: u8 = 1;
const CLEAR: u8 = 2;
const PUBLISHED: u8 = 3;
const REFUSED: u8 = 4;
const JOIN: u8 = 5;
const JOINED: u8 = 6;
const LEAVE: u8 = 7;
const DELIVER: u8 = 8;
const BEHIND: u8 = 9;
const REPLAY: u8 = 10;
const REPLAYED: u8 = 11;
const MESSAGE: u8 = 12;
const PUBLISH_IF: u8 = 13;
const CLEAR_IF: u8 = 14;
const READERS: u8 = 15;
const CHANGE: u8 = 16;
const WANTS_OLD: u8 = 17;
const PUBLISH_ONCE: u8 = 40;
const REPEATED: u8 = 41;
const PATTERN: u8 = 18;
const SAY: u8 = 42;

impl<'a> Packet<'a> {
    /// Writes all but the payload to the front of `prefix`; returns its length and the payload.
    pub(super) fn encode(&self, prefix: &mut [u8; PREFIX_BYTES_MAX]) -> (usize, &'a [u8]) {
        let mut w = Fields { out: prefix, len: LENGTH_BYTES };
        let mut payload: &[u8] = &[];
        match *self {
            Packet::Publish { topic, ticket, content } => {
                w.byte(PUBLISH);
                w.name(topic);
                w.ticket(ticket);
                payload = w.content(content);
            }
            Packet::Clear { topic, ticket } => {
                w.byte(CLEAR);
                w.name(topic);
                w.ticket(ticket);
            }
            Packet::PublishIf { topic, ticket, expected, content } => {
                w.byte(PUBLISH_IF);
                w.name(topic);
                w.ticket(ticket);
                w.standing(expected);
                payload = w.content(content);
            }
            Packet::ClearIf { topic, ticket, expected } => {
                w.byte(CLEAR_IF);
                w.name(topic);
                w.ticket(ticket);
                w.standing(expected);
            }
            Packet::PublishOnce { topic, ticket, numbered, content } => {
                w.byte(PUBLISH_ONCE);
                w.name(topic);
                w.ticket(ticket);
                w.numbered(numbered);
                payload = w.content(content);
            }
            Packet::Say { topic, word, name, number } => {
                w.put(&[SAY, word as u8]);
                w.name(topic);
                w.short(name);
                w.u32(number);
            }
            Packet::Repeated { ticket, epoch, seq } => {
                w.byte(REPEATED);
                w.ticket(ticket);
                w.u32(epoch);
                w.u64(seq);
            }
            Packet::Published { ticket, epoch, seq } => {
                w.byte(PUBLISHED);
                w.ticket(ticket);
                w.u32(epoch);
                w.u64(seq);
            }
            Packet::Refused { ticket, reason } => {
                w.byte(REFUSED);
                w.ticket(ticket);
                w.reason(reason);
            }
            Packet::Join { topic, id, generation } => {
                w.byte(JOIN);
                w.name(topic);
                w.u32(id);
                w.u32(generation);
            }
            Packet::Joined { id, generation, epoch, head } => {
                w.byte(JOINED);
                w.u32(id);
                w.u32(generation);
                w.u32(epoch);
                w.u64(head);
            }
            Packet::Leave { topic, id, generation } => {
                w.byte(LEAVE);
                w.name(topic);
                w.u32(id);
                w.u32(generation);
            }
            Packet::Readers { topic, readers } => {
                w.byte(READERS);
                w.name(topic);
                w.u32(readers);
            }
            Packet::Deliver { id, generation, seq, content } => {
                w.byte(DELIVER);
                w.u32(id);
                w.u32(generation);
                w.u64(seq);
                payload = w.content(content);
            }
            Packet::Change { id, generation, seq, old_len, content } => {
                w.byte(CHANGE);
                w.u32(id);
                w.u32(generation);
                w.u64(seq);
                w.u32(old_len);
                payload = w.content(content);
            }
            Packet::WantsOld { topic, id, generation } => {
                w.byte(WANTS_OLD);
                w.name(topic);
                w.u32(id);
                w.u32(generation);
            }
            Packet::Pattern(packet) => {
                w.byte(PATTERN);
                payload = packet.encode(&mut w);
            }
            Packet::Behind { id, generation } => {
                w.byte(BEHIND);
                w.u32(id);
                w.u32(generation);
            }
            Packet::Replay { topic, ticket, from, generation } => {
                w.byte(REPLAY);
                w.name(topic);
                w.ticket(ticket);
                w.from(from);
                w.u32(generation);
            }
            Packet::Replayed { ticket, epoch, head, stretch, lost } => {
                w.byte(REPLAYED);
                w.ticket(ticket);
                w.u32(epoch);
                w.u64(head);
                w.stretch(stretch);
                w.lost(lost);
            }
            Packet::Message { ticket, seq, rest, content } => {
                w.byte(MESSAGE);
                w.ticket(ticket);
                w.u64(seq);
                w.byte(rest as u8);
                payload = w.content(content);
            }
        }
        let len = w.len;
        let total = u32::try_from(len + payload.len()).expect("payloads are far below 4 GiB");
        prefix[..LENGTH_BYTES].copy_from_slice(&total.to_le_bytes());
        (len, payload)
    }

    /// Returns the packet as bytes of its own, for sending it later.
    #[must_use]
    pub fn to_bytes(&self) -> Box<[u8]> {
        let mut prefix = [0; PREFIX_BYTES_MAX];
        let (len, payload) = self.encode(&mut prefix);
        [&prefix[..len], payload].concat().into_boxed_slice()
    }

    /// Reads a packet; `None` means that the other side and this one disagree, which is a bug.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let mut r = Reader { rest: bytes.get(LENGTH_BYTES..)? };
        Some(match r.byte()? {
            PUBLISH => Packet::Publish { topic: r.name()?, ticket: r.ticket()?, content: r.content()? },
            CLEAR => Packet::Clear { topic: r.name()?, ticket: r.ticket()? },
            PUBLISHED => Packet::Published { ticket: r.ticket()?, epoch: r.u32()?, seq: r.u64()? },
            REFUSED => Packet::Refused { ticket: r.ticket()?, reason: r.reason()? },
            PUBLISH_ONCE => Packet::PublishOnce {
                topic: r.name()?,
                ticket: r.ticket()?,
                numbered: r.numbered()?,
                content: r.content()?,
            },
            SAY => {
                let word = Word::of(r.byte()?)?;
                Packet::Say { topic: r.name()?, word, name: r.short()?, number: r.u32()? }
            }
            REPEATED => Packet::Repeated { ticket: r.ticket()?, epoch: r.u32()?, seq: r.u64()? },
            JOIN => Packet::Join { topic: r.name()?, id: r.u32()?, generation: r.u32()? },
            JOINED => Packet::Joined { id: r.u32()?, generation: r.u32()?, epoch: r.u32()?, head: r.u64()? },
            LEAVE => Packet::Leave { topic: r.name()?, id: r.u32()?, generation: r.u32()? },
            CHANGE => Packet::Change {
                id: r.u32()?,
                generation: r.u32()?,
                seq: r.u64()?,
                old_len: r.u32()?,
                content: r.content()?,
            },
            WANTS_OLD => Packet::WantsOld { topic: r.name()?, id: r.u32()?, generation: r.u32()? },
            DELIVER => Packet::Deliver { id: r.u32()?, generation: r.u32()?, seq: r.u64()?, content: r.content()? },
            PATTERN => Packet::Pattern(PatternPacket::decode(&mut r)?),
            BEHIND => Packet::Behind { id: r.u32()?, generation: r.u32()? },
            REPLAY => Packet::Replay { topic: r.name()?, ticket: r.ticket()?, from: r.from()?, generation: r.u32()? },
            REPLAYED => Packet::Replayed {
                ticket: r.ticket()?,
                epoch: r.u32()?,
                head: r.u64()?,
                stretch: r.stretch()?,
                lost: r.lost()?,
            },
            MESSAGE => Packet::Message {
                ticket: r.ticket()?,
                seq: r.u64()?,
                rest: match r.byte()? {
                    0 => Rest::Follows,
                    1 => Rest::Later,
                    2 => Rest::Nothing,
                    _ => return None,
                },
                content: r.content()?,
            },
            PUBLISH_IF => Packet::PublishIf {
                topic: r.name()?,
                ticket: r.ticket()?,
                expected: r.standing()?,
                content: r.content()?,
            },
            READERS => Packet::Readers { topic: r.name()?, readers: r.u32()? },
            CLEAR_IF => Packet::ClearIf { topic: r.name()?, ticket: r.ticket()?, expected: r.standing()? },
            _ => return None,
        })
    }

    /// Returns the most bytes that a packet with this payload takes in a ring.
    #[must_use]
    pub const fn bytes_max(payload: usize) -> usize {
        PREFIX_BYTES_MAX + payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every packet comes out as it went in, with every field at its limits.
    #[test]
    fn round_trip() {
        let long = "t".repeat(255);
        let token = "k".repeat(64);
        let event = "e".repeat(64);
        let topic = Name { hash: u64::MAX, text: &long };
        let content = Content { event: &event, payload: b"payload", text: true, at_us: 7, ..Default::default() };
        let expected = Standing { epoch: u32::MAX, head: u64::MAX, remembers: true };
        let stretch = Stretch { after: 3, last: u64::MAX, count: 4, ahead: 5 };
        let numbered = Numbered { producer: u128::MAX - 1, owner: u64::MAX - 2, number: u64::MAX - 3 };
        let lost = Lost { after_epoch: 1, after_seq: 2, count: 3, epoch_changed: true };
        for asker in [Asker::Nobody, Asker::Connection, Asker::Topic] {
            let ticket =
                Ticket { slot: u32::MAX, generation: u16::MAX, asker, word: u32::MAX, serial: u32::MAX, token: &token };
            let froms = [
                Start::Latest,
                Start::Live,
                Start::Earliest,
                Start::Last(u32::MAX),
                Start::After { epoch: 9, seq: u64::MAX },
                Start::Behind(5),
            ];
            let mut packets = vec![
                Packet::Publish { topic, ticket, content },
                Packet::Clear { topic, ticket },
                Packet::Published { ticket, epoch: 1, seq: 2 },
                Packet::PublishIf { topic, ticket, expected, content },
                Packet::ClearIf { topic, ticket, expected },
                Packet::Refused { ticket, reason: Reason::Full },
                Packet::Refused { ticket, reason: Reason::Changed },
                Packet::Refused { ticket, reason: Reason::OutOfOrder(u64::MAX) },
                Packet::Refused { ticket, reason: Reason::TooManyProducers },
                Packet::PublishOnce { topic, ticket, numbered, content },
                Packet::Repeated { ticket, epoch: 1, seq: 2 },
                Packet::Say { topic, word: Word::Present, name: &token, number: u32::MAX },
                Packet::Join { topic, id: 1, generation: 2 },
                Packet::Joined { id: 1, generation: 2, epoch: 3, head: 4 },
                Packet::Leave { topic, id: 1, generation: 2 },
                Packet::Readers { topic, readers: u32::MAX },
                Packet::Deliver { id: 1, generation: 2, seq: 3, content },
                Packet::Behind { id: 1, generation: 2 },
                Packet::Replayed { ticket, epoch: 1, head: 2, stretch, lost: Some(lost) },
                Packet::Replayed { ticket, epoch: 1, head: 2, stretch, lost: None },
                Packet::Message { ticket, seq: 1, rest: Rest::Follows, content },
                Packet::Message { ticket, seq: 2, rest: Rest::Later, content },
                Packet::Message { ticket, seq: 3, rest: Rest::Nothing, content },
            ];
            packets.extend(froms.map(|from| Packet::Replay { topic, ticket, from, generation: 8 }));
            for packet in packets {
                let mut prefix = [0; PREFIX_BYTES_MAX];
                let (len, payload) = packet.encode(&mut prefix);
                let mut bytes = prefix[..len].to_vec();
                bytes.extend_from_slice(payload);
                assert_eq!(u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len());
                assert_eq!(Packet::decode(&bytes), Some(packet));
            }
        }
    }
}
