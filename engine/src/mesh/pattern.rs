//! What shards tell each other of patterns: who reads one, and the messages of its topics.
//!
//! ```text
//!   homes, all of them                  shard with readers of a pattern
//!   know the pattern  ◀──────────────── Join, Leave
//!   how many messages there were ─────▶ Joined
//!   a message of a topic that matches ▶ Deliver
//!   no room ─ later ──────────────────▶ Behind
//!   what there is, what was missed ◀─── Ask
//!                     ────────────────▶ Answer, then its Messages, and its Lost
//! ```
//!
//! A home counts all messages that it records, whatever their topics: a reader of a pattern has everything of a home up to a number.

use super::fields::{Fields, Reader};
use super::packet::{Content, Name, Ticket};

/// What a shard asks a home for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Messages behind this number.
    Behind(u64),
    /// The newest message of each topic.
    Newest {
        /// Of topics from this place on.
        place: u32,
        /// If its number is larger.
        after: Option<u64>,
    },
}

/// What one shard tells another of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternPacket<'a> {
    /// To a home: this shard has a reader now.
    Join {
        /// Of what.
        pattern: Name<'a>,
        /// Number of the pattern on the joining shard.
        id: u32,
        /// Its generation there.
        generation: u32,
    },
    /// From a home: everything behind this number will be delivered.
    Joined {
        /// Number of the pattern on the joining shard.
        id: u32,
        /// Its generation there.
        generation: u32,
        /// Messages that the home has recorded.
        number: u64,
    },
    /// To a home: no reader is left.
    Leave {
        /// Of what.
        pattern: Name<'a>,
        /// Number of the pattern on the leaving shard.
        id: u32,
        /// Its generation there.
        generation: u32,
    },
    /// From a home: the next message.
    Deliver {
        /// Number of the pattern on the shard with readers.
        id: u32,
        /// Its generation there.
        generation: u32,
        /// Number of the message at the home.
        number: u64,
        /// Its topic.
        topic: &'a str,
        /// Epoch of the topic.
        epoch: u32,
        /// Number of the message in the topic.
        seq: u64,
        /// The message.
        content: Content<'a>,
    },
    /// From a home: messages did not fit; ask for them.
    Behind {
        /// Number of the pattern on the shard with readers.
        id: u32,
        /// Its generation there.
        generation: u32,
    },
    /// To a home: say again.
    Ask {
        /// Messages of what.
        pattern: Name<'a>,
        /// Who asks. For catching up, its slot is the generation of the asking shard's pattern.
        ticket: Ticket<'a>,
        /// From where on.
        from: From,
        /// Up to which number.
        up_to: u64,
    },
    /// From a home: so many [`PatternPacket::Message`] and [`PatternPacket::Lost`] follow.
    Answer {
        /// Who asked.
        ticket: Ticket<'a>,
        /// How many.
        count: u32,
        /// Where the next question begins, if that is not all: a number, or the place of a topic.
        next: u64,
        /// That is all.
        all: bool,
        /// The home does not know any more what was before.
        forgot: bool,
        /// Messages that the home has recorded, if all of them that are the pattern's have been sent to the asking shard.
        sent_to: Option<u64>,
    },
    /// From a home: one message of an answer.
    Message {
        /// Who asked.
        ticket: Ticket<'a>,
        /// Number of the message at the home.
        number: u64,
        /// Nothing comes behind it.
        last: bool,
        /// Its topic.
        topic: &'a str,
        /// Epoch of the topic.
        epoch: u32,
        /// Number of the message in the topic.
        seq: u64,
        /// The message.
        content: Content<'a>,
    },
    /// From a home: messages that it knew, and that are gone.
    Lost {
        /// Who asked.
        ticket: Ticket<'a>,
        /// Number of the last one at the home.
        number: u64,
        /// Nothing comes behind it.
        last: bool,
        /// Their topic; empty if that is gone, too.
        topic: &'a str,
        /// Epoch of the topic.
        epoch: u32,
        /// Number of the message before them in the topic.
        after: u64,
        /// Number of the last of them in the topic.
        seq: u64,
        /// How many.
        count: u64,
    },
}

const JOIN: u8 = 1;
const JOINED: u8 = 2;
const LEAVE: u8 = 3;
const DELIVER: u8 = 4;
const BEHIND: u8 = 5;
const ASK: u8 = 6;
const ANSWER: u8 = 7;
const MESSAGE: u8 = 8;
const LOST: u8 = 9;

impl<'a> PatternPacket<'a> {
    /// Returns the answers to a ticket that it says something of.
    #[must_use]
    pub fn ticket(&self) -> Option<Ticket<'a>> {
        match *self {
            PatternPacket::Ask { ticket, .. }
            | PatternPacket::Answer { ticket, .. }
            | PatternPacket::Message { ticket, .. }
            | PatternPacket::Lost { ticket, .. } => Some(ticket),
            _ => None,
        }
    }

    /// Writes all but the payload; returns that.
    pub(super) fn encode(&self, w: &mut Fields<'_>) -> &'a [u8] {
        let mut payload: &[u8] = &[];
        match *self {
            PatternPacket::Join { pattern, id, generation } | PatternPacket::Leave { pattern, id, generation } => {
                w.byte(if matches!(self, PatternPacket::Join { .. }) { JOIN } else { LEAVE });
                w.name(pattern);
                w.u32(id);
                w.u32(generation);
            }
            PatternPacket::Joined { id, generation, number } => {
                w.byte(JOINED);
                w.u32(id);
                w.u32(generation);
                w.u64(number);
            }
            PatternPacket::Deliver { id, generation, number, topic, epoch, seq, content } => {
                w.byte(DELIVER);
                w.u32(id);
                w.u32(generation);
                w.u64(number);
                w.short(topic);
                w.u32(epoch);
                w.u64(seq);
                payload = w.content(content);
            }
            PatternPacket::Behind { id, generation } => {
                w.byte(BEHIND);
                w.u32(id);
                w.u32(generation);
            }
            PatternPacket::Ask { pattern, ticket, from, up_to } => {
                w.byte(ASK);
                w.name(pattern);
                w.ticket(ticket);
                let (kind, place, number) = match from {
                    From::Behind(number) => (0, 0, number),
                    From::Newest { place, after: None } => (1, place, 0),
                    From::Newest { place, after: Some(number) } => (2, place, number),
                };
                w.byte(kind);
                w.u32(place);
                w.u64(number);
                w.u64(up_to);
            }
            PatternPacket::Answer { ticket, count, next, all, forgot, sent_to } => {
                w.byte(ANSWER);
                w.ticket(ticket);
                w.u32(count);
                w.u64(next);
                w.byte(u8::from(all) | u8::from(forgot) << 1 | u8::from(sent_to.is_some()) << 2);
                w.u64(sent_to.unwrap_or(0));
            }
            PatternPacket::Message { ticket, number, last, topic, epoch, seq, content } => {
                w.byte(MESSAGE);
                w.ticket(ticket);
                w.u64(number);
                w.byte(u8::from(last));
                w.short(topic);
                w.u32(epoch);
                w.u64(seq);
                payload = w.content(content);
            }
            PatternPacket::Lost { ticket, number, last, topic, epoch, after, seq, count } => {
                w.byte(LOST);
                w.ticket(ticket);
                w.u64(number);
                w.byte(u8::from(last));
                w.short(topic);
                w.u32(epoch);
                w.u64(after);
                w.u64(seq);
                w.u64(count);
            }
        }
        payload
    }

    /// Reads what [`PatternPacket::encode`] wrote.
    pub(super) fn decode(r: &mut Reader<'a>) -> Option<PatternPacket<'a>> {
        Some(match r.byte()? {
            JOIN => PatternPacket::Join { pattern: r.name()?, id: r.u32()?, generation: r.u32()? },
            JOINED => PatternPacket::Joined { id: r.u32()?, generation: r.u32()?, number: r.u64()? },
            LEAVE => PatternPacket::Leave { pattern: r.name()?, id: r.u32()?, generation: r.u32()? },
            DELIVER => PatternPacket::Deliver {
                id: r.u32()?,
                generation: r.u32()?,
                number: r.u64()?,
                topic: r.short()?,
                epoch: r.u32()?,
                seq: r.u64()?,
                content: r.content()?,
            },
            BEHIND => PatternPacket::Behind { id: r.u32()?, generation: r.u32()? },
            ASK => {
                let (pattern, ticket) = (r.name()?, r.ticket()?);
                let (kind, place, number) = (r.byte()?, r.u32()?, r.u64()?);
                let from = match kind {
                    0 => From::Behind(number),
                    1 => From::Newest { place, after: None },
                    2 => From::Newest { place, after: Some(number) },
                    _ => return None,
                };
                PatternPacket::Ask { pattern, ticket, from, up_to: r.u64()? }
            }
            ANSWER => {
                let (ticket, count, next, flags) = (r.ticket()?, r.u32()?, r.u64()?, r.byte()?);
                let sent_to = Some(r.u64()?).filter(|_| flags & 4 != 0);
                PatternPacket::Answer { ticket, count, next, all: flags & 1 != 0, forgot: flags & 2 != 0, sent_to }
            }
            MESSAGE => PatternPacket::Message {
                ticket: r.ticket()?,
                number: r.u64()?,
                last: r.byte()? == 1,
                topic: r.short()?,
                epoch: r.u32()?,
                seq: r.u64()?,
                content: r.content()?,
            },
            LOST => PatternPacket::Lost {
                ticket: r.ticket()?,
                number: r.u64()?,
                last: r.byte()? == 1,
                topic: r.short()?,
                epoch: r.u32()?,
                after: r.u64()?,
                seq: r.u64()?,
                count: r.u64()?,
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{Asker, PREFIX_BYTES_MAX, Packet};
    use super::*;

    /// Every packet comes out as it went in, with every field at its limits.
    #[test]
    fn round_trip() {
        let long = "t".repeat(255);
        let event = "e".repeat(64);
        let key = "k".repeat(255);
        let pattern = Name { hash: u64::MAX, text: &long };
        let content =
            Content { event: &event, payload: b"payload", text: true, at_us: 7, key: &key, ..Content::default() };
        let (asker, token) = (Asker::Topic, "");
        let ticket = Ticket { slot: u32::MAX, generation: u16::MAX, asker, word: u32::MAX, serial: u32::MAX, token };
        let (topic, epoch, seq, number) = (long.as_str(), 3, u64::MAX, u64::MAX - 1);
        let packets = [
            PatternPacket::Join { pattern, id: 1, generation: 2 },
            PatternPacket::Joined { id: 1, generation: 2, number },
            PatternPacket::Leave { pattern, id: 1, generation: 2 },
            PatternPacket::Deliver { id: 1, generation: 2, number, topic, epoch, seq, content },
            PatternPacket::Behind { id: 1, generation: 2 },
            PatternPacket::Ask { pattern, ticket, from: From::Behind(number), up_to: 9 },
            PatternPacket::Ask { pattern, ticket, from: From::Newest { place: 7, after: None }, up_to: 9 },
            PatternPacket::Ask { pattern, ticket, from: From::Newest { place: 7, after: Some(8) }, up_to: 9 },
            PatternPacket::Answer { ticket, count: 4, next: number, all: false, forgot: true, sent_to: None },
            PatternPacket::Answer { ticket, count: 4, next: number, all: true, forgot: false, sent_to: Some(number) },
            PatternPacket::Message { ticket, number, last: false, topic, epoch, seq, content },
            PatternPacket::Message { ticket, number, last: true, topic, epoch, seq, content },
            PatternPacket::Lost { ticket, number, last: true, topic, epoch, after: 1, seq, count: 5 },
        ];
        for packet in packets.map(Packet::Pattern) {
            let mut prefix = [0; PREFIX_BYTES_MAX];
            let (len, payload) = packet.encode(&mut prefix);
            let bytes = [&prefix[..len], payload].concat();
            assert_eq!(Packet::decode(&bytes), Some(packet));
        }
    }
}
