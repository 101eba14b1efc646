//! A snapshot: the histories of topics, with their epochs and numbers, as bytes of a file or between two engines.
//!
//! ```text
//!   head     "corecast" | version (4) | is it the last word? (4) | time of day in ms since 1970 (8)
//!   topic    'T' | length of its name (2) | epoch (4) | number of its newest message (8) | name
//!            't' | the same: the topic goes on, behind a cut
//!   message  'M' | flags (1): text 1, has a key 2, merges 4, deletes 8 | length of the event name (1) | length of the payload (4) | number (8) | time of day in ms (8)
//!                | event name | length of the key (1) and the key, if it has one | payload
//!   end      'E' | topics (8) | messages (8) | CRC-32 (IEEE 802.3) of all before it (4)
//! ```
//!
//! It is the last word if nothing was numbered behind what stands in it: then whoever restores it may go on with these epochs and numbers. All
//! numbers are little-endian. A topic's messages follow it, oldest first; it may have none, and an epoch and a number all the same. Behind the
//! end there is nothing. Version 1 is the same without keys, and is read as this.
//!
//! Owns the layout, and what must hold of any part of it; the checksum is the reader's to compare, who sees all bytes. Never allocates: what is
//! read borrows from the bytes given.

use core::fmt;

use crate::message::{Op, check_key, is_text, valid_event};
use crate::topic::{TOPIC_BYTES_MAX, validate_subscribe};

/// The version of the layout.
pub const VERSION: u32 = 2;
/// The oldest version that is read.
const VERSION_MIN: u32 = 1;
/// What a snapshot begins with.
const MAGIC: &[u8; 8] = b"corecast";
/// Bytes of the head.
pub const HEAD_BYTES: usize = 24;
/// Bytes of the end.
pub const END_BYTES: usize = 21;
/// Bytes of the checksum, which are the last ones of the end.
pub const CHECKSUM_BYTES: usize = 4;
/// Bytes of a topic before its name.
pub const TOPIC_HEAD_BYTES: usize = 15;
/// Bytes of a message before its event name.
pub const MESSAGE_HEAD_BYTES: usize = 23;
/// Largest payload in bytes: no engine takes larger ones.
pub const PAYLOAD_BYTES_MAX: u32 = 16 << 20;
/// Largest number of a message: whoever counts on from it does not run over.
pub const NUMBER_MAX: u64 = 1 << 62;
/// Flags of a message.
const TEXT: u8 = 1;
const KEYED: u8 = 2;
const MERGES: u8 = 4;
const DELETES: u8 = 8;
/// Bytes of the longest record: who has so many and finds none complete has no snapshot.
pub const RECORD_BYTES_MAX: usize = MESSAGE_HEAD_BYTES + 255 + 256 + PAYLOAD_BYTES_MAX as usize;

/// What is wrong with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It does not begin as one.
    NotASnapshot,
    /// It has the layout of another version.
    Version(u32),
    /// It has a part that makes no sense.
    Nonsense(&'static str),
    /// It ends before its end.
    CutShort,
    /// There is something behind its end.
    Longer,
    /// It does not have what its end counts.
    Miscounted,
    /// It is not what was written: the checksum says otherwise.
    Changed,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASnapshot => f.write_str("this is no snapshot of corecast"),
            Self::Version(version) => write!(f, "the snapshot has version {version}, and up to {VERSION} is read here"),
            Self::Nonsense(what) => write!(f, "the snapshot is damaged: {what}"),
            Self::CutShort => f.write_str("the snapshot is cut short"),
            Self::Longer => f.write_str("the snapshot is damaged: there is something behind its end"),
            Self::Miscounted => f.write_str("the snapshot is damaged: it does not hold what its end counts"),
            Self::Changed => f.write_str("the snapshot is damaged: its checksum does not fit"),
        }
    }
}

impl core::error::Error for Wrong {}

/// A topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its epoch, never 0.
    pub epoch: u32,
    /// The number of its newest message, 0 before the first.
    pub head: u64,
    /// It goes on: its first messages came before.
    pub goes_on: bool,
}

/// A message of the topic before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its number, from 1 on.
    pub number: u64,
    /// When it was numbered, in milliseconds since 1970.
    pub time_ms: u64,
    /// Its event name, or nothing.
    pub event: &'a str,
    /// What it says.
    pub payload: &'a [u8],
    /// The payload is text.
    pub text: bool,
    /// What it is a value of; empty for none.
    pub key: &'a str,
    /// What it does to that value.
    pub op: Op,
}

/// A part of a snapshot behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A topic begins, or goes on.
    Topic(Topic<'a>),
    /// One of its messages.
    Message(Message<'a>),
    /// Nothing follows.
    End(End),
}

/// The end of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How many topics there are.
    pub topics: u64,
    /// How many messages.
    pub messages: u64,
    /// The checksum of all before it.
    pub checksum: u32,
}

/// The head of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Nothing was numbered behind it.
    pub is_last: bool,
    /// When it was begun, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// Writes the head of a snapshot.
#[must_use]
pub fn head(head: Head) -> [u8; HEAD_BYTES] {
    let mut out = [0; HEAD_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12] = u8::from(head.is_last);
    out[16..].copy_from_slice(&head.wall_ms.to_le_bytes());
    out
}

/// Writes what stands before the name of a topic.
#[must_use]
pub fn topic_head(topic: &Topic<'_>) -> [u8; TOPIC_HEAD_BYTES] {
    let mut out = [0; TOPIC_HEAD_BYTES];
    out[0] = if topic.goes_on { b't' } else { b'T' };
    out[1..3].copy_from_slice(&(topic.name.len() as u16).to_le_bytes());
    out[3..7].copy_from_slice(&topic.epoch.to_le_bytes());
    out[7..].copy_from_slice(&topic.head.to_le_bytes());
    out
}

/// Returns what stands before the payload of a message behind its event name: the key, behind its length, if it has one.
#[must_use]
pub fn key_len(message: &Message<'_>) -> Option<u8> {
    if message.key.is_empty() { None } else { Some(message.key.len() as u8) }
}

/// Writes what stands before the event name and the payload of a message.
#[must_use]
pub fn message_head(message: &Message<'_>) -> [u8; MESSAGE_HEAD_BYTES] {
    let mut out = [0; MESSAGE_HEAD_BYTES];
    out[0] = b'M';
    out[1] = u8::from(message.text)
        | if message.key.is_empty() { 0 } else { KEYED }
        | match message.op {
            Op::Put => 0,
            Op::Merge => MERGES,
            Op::Delete => DELETES,
        };
    out[2] = message.event.len() as u8;
    out[3..7].copy_from_slice(&(message.payload.len() as u32).to_le_bytes());
    out[7..15].copy_from_slice(&message.number.to_le_bytes());
    out[15..].copy_from_slice(&message.time_ms.to_le_bytes());
    out
}

/// Writes the end, without the checksum, which covers it and comes behind it.
#[must_use]
pub fn end_head(topics: u64, messages: u64) -> [u8; END_BYTES - CHECKSUM_BYTES] {
    let mut out = [0; END_BYTES - CHECKSUM_BYTES];
    out[0] = b'E';
    out[1..9].copy_from_slice(&topics.to_le_bytes());
    out[9..].copy_from_slice(&messages.to_le_bytes());
    out
}

/// Reads a snapshot part by part, and holds it to its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    begun: bool,
    ended: bool,
    /// The epoch of the topic at hand; 0 before the first.
    epoch: u32,
    /// The number of its last message so far.
    last: u64,
    topics: u64,
    messages: u64,
}

impl Reader {
    /// Returns a reader of parts of a snapshot whose head was read already.
    #[must_use]
    pub const fn behind_the_head() -> Self {
        Self { begun: true, ended: false, epoch: 0, last: 0, topics: 0, messages: 0 }
    }

    /// Reads the head, once; returns it with its length. `None`: more bytes are needed.
    ///
    /// # Errors
    /// It is no snapshot, or of another version.
    pub fn head(&mut self, bytes: &[u8]) -> Result<Option<(Head, usize)>, Wrong> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(Wrong::NotASnapshot);
        }
        let Some(bytes) = bytes.get(..HEAD_BYTES) else { return Ok(None) };
        match number(&bytes[8..12]) as u32 {
            VERSION_MIN..=VERSION => {}
            version => return Err(Wrong::Version(version)),
        }
        let is_last = match number(&bytes[12..16]) {
            last @ 0..=1 => last == 1,
            _ => return Err(Wrong::Nonsense("its head")),
        };
        self.begun = true;
        Ok(Some((Head { is_last, wall_ms: number(&bytes[16..24]) }, HEAD_BYTES)))
    }

    /// Reads the next part; returns it with its length. `None`: more bytes are needed. [`Reader::head`] comes first, and nothing
    /// is read behind the end.
    ///
    /// # Errors
    /// What is wrong with it; there is no going on then.
    pub fn record<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Record<'a>, usize)>, Wrong> {
        if !self.begun {
            return Err(Wrong::NotASnapshot);
        }
        let Some(tag) = bytes.first() else { return Ok(None) };
        if self.ended {
            return Err(Wrong::Longer);
        }
        match tag {
            b'T' | b't' => self.topic(bytes),
            b'M' => self.message(bytes),
            b'E' => self.end(bytes),
            _ => Err(Wrong::Nonsense("a part of no known kind")),
        }
    }

    /// Says whether the end was read.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.ended
    }

    fn topic<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Record<'a>, usize)>, Wrong> {
        let Some(head) = bytes.get(..TOPIC_HEAD_BYTES) else { return Ok(None) };
        let len = TOPIC_HEAD_BYTES + number(&head[1..3]) as usize;
        if len > TOPIC_HEAD_BYTES + TOPIC_BYTES_MAX {
            return Err(Wrong::Nonsense("the name of a topic is too long"));
        }
        let Some(name) = bytes.get(TOPIC_HEAD_BYTES..len) else { return Ok(None) };
        let name = core::str::from_utf8(name).ok().filter(|name| validate_subscribe(name).is_ok());
        let name = name.ok_or(Wrong::Nonsense("the name of a topic"))?;
        let (goes_on, epoch, head) = (head[0] == b't', number(&head[3..7]) as u32, number(&head[7..15]));
        if epoch == 0 || head > NUMBER_MAX || goes_on && epoch != self.epoch {
            return Err(Wrong::Nonsense("the epoch or number of a topic"));
        }
        if !goes_on {
            self.topics += 1;
            self.last = 0;
        }
        self.epoch = epoch;
        Ok(Some((Record::Topic(Topic { name, epoch, head, goes_on }), len)))
    }

    fn message<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Record<'a>, usize)>, Wrong> {
        let Some(head) = bytes.get(..MESSAGE_HEAD_BYTES) else { return Ok(None) };
        let payload_len = number(&head[3..7]) as u32;
        if payload_len > PAYLOAD_BYTES_MAX {
            return Err(Wrong::Nonsense("a payload is too large"));
        }
        let (number_of, time_ms) = (number(&head[7..15]), number(&head[15..23]));
        if self.epoch == 0 || number_of <= self.last || number_of > NUMBER_MAX {
            return Err(Wrong::Nonsense("the number of a message"));
        }
        let flags = head[1];
        let event_end = MESSAGE_HEAD_BYTES + usize::from(head[2]);
        let key_from = event_end + usize::from(flags & KEYED != 0);
        let key_len = match key_from - event_end {
            0 => 0,
            _ => match bytes.get(event_end) {
                Some(len) => usize::from(*len),
                None => return Ok(None),
            },
        };
        let len = key_from + key_len + payload_len as usize;
        let Some(rest) = bytes.get(MESSAGE_HEAD_BYTES..len) else { return Ok(None) };
        let event = &rest[..event_end - MESSAGE_HEAD_BYTES];
        let (key, payload) = rest[key_from - MESSAGE_HEAD_BYTES..].split_at(key_len);
        let key = core::str::from_utf8(key).ok().filter(|key| flags & KEYED == 0 || check_key(key).is_ok());
        let key = key.ok_or(Wrong::Nonsense("the key of a message"))?;
        let op = match flags & (MERGES | DELETES) {
            0 => Op::Put,
            MERGES => Op::Merge,
            DELETES => Op::Delete,
            _ => return Err(Wrong::Nonsense("what a message does")),
        };
        let event = core::str::from_utf8(event).ok().filter(|event| event.is_empty() || valid_event(event));
        let event = event.ok_or(Wrong::Nonsense("the event name of a message"))?;
        let text = match flags & !(KEYED | MERGES | DELETES) {
            0 => false,
            TEXT if is_text(payload) => true,
            _ => return Err(Wrong::Nonsense("what a payload is")),
        };
        self.messages += 1;
        self.last = number_of;
        Ok(Some((Record::Message(Message { number: number_of, time_ms, event, payload, text, key, op }), len)))
    }

    fn end<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Record<'a>, usize)>, Wrong> {
        let Some(bytes) = bytes.get(..END_BYTES) else { return Ok(None) };
        let (topics, messages) = (number(&bytes[1..9]), number(&bytes[9..17]));
        if (topics, messages) != (self.topics, self.messages) {
            return Err(Wrong::Miscounted);
        }
        self.ended = true;
        let checksum = number(&bytes[17..21]) as u32;
        Ok(Some((Record::End(End { topics, messages, checksum }), END_BYTES)))
    }
}

/// Reads a little-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn written() -> Vec<u8> {
        let mut out = Vec::from(head(Head { is_last: true, wall_ms: 77 }));
        let topic = Topic { name: "a/b", epoch: 5, head: 9, goes_on: false };
        let message =
            Message { number: 8, time_ms: 70, event: "tick", payload: b"hello", text: true, key: "k", op: Op::Put };
        out.extend(topic_head(&topic));
        out.extend(b"a/b");
        out.extend(message_head(&message));
        out.extend(b"tick\x01khello");
        out.extend(topic_head(&Topic { goes_on: true, ..topic }));
        out.extend(b"a/b");
        out.extend(message_head(&Message {
            number: 9,
            event: "",
            payload: &[0xff],
            text: false,
            key: "",
            op: Op::Delete,
            ..message
        }));
        out.push(0xff);
        out.extend(end_head(1, 2));
        out.extend([1, 2, 3, 4]);
        out
    }

    fn read(bytes: &[u8]) -> Result<(Head, Vec<Record<'_>>), Wrong> {
        let mut reader = Reader::default();
        let (head, mut at) = reader.head(bytes)?.ok_or(Wrong::CutShort)?;
        let mut records = Vec::new();
        while let Some((record, len)) = reader.record(&bytes[at..])? {
            records.push(record);
            at += len;
        }
        if reader.is_over() { Ok((head, records)) } else { Err(Wrong::CutShort) }
    }

    /// What was written is read again; a snapshot that is cut anywhere is known to be, and so is one with something behind it.
    #[test]
    fn what_was_written_is_read() {
        let mut bytes = written();
        let (head, records) = read(&bytes).unwrap();
        assert_eq!((head, records.len()), (Head { is_last: true, wall_ms: 77 }, 5));
        let Record::Topic(topic) = records[0] else { panic!("{records:?}") };
        assert_eq!(topic, Topic { name: "a/b", epoch: 5, head: 9, goes_on: false });
        let Record::Message(message) = records[1] else { panic!("{records:?}") };
        assert_eq!(
            message,
            Message { number: 8, time_ms: 70, event: "tick", payload: b"hello", text: true, key: "k", op: Op::Put }
        );
        assert_eq!(records[4], Record::End(End { topics: 1, messages: 2, checksum: 0x0403_0201 }));
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Err(Wrong::CutShort), "{cut}");
        }
        bytes.push(0);
        assert_eq!(read(&bytes), Err(Wrong::Longer));
    }

    /// What no engine writes has a name: other beginnings, versions, kinds, numbers that do not grow, names that are none, wrong counts.
    #[test]
    fn nonsense_has_a_name() {
        let change = |at: usize, to: &[u8]| {
            let mut bytes = written();
            bytes[at..at + to.len()].copy_from_slice(to);
            read(&bytes).map(|_| ()).unwrap_err()
        };
        let topic = HEAD_BYTES;
        let message = topic + TOPIC_HEAD_BYTES + 3;
        let again = message + MESSAGE_HEAD_BYTES + 11;
        let end = written().len() - END_BYTES;
        assert_eq!(change(0, b"C"), Wrong::NotASnapshot);
        assert_eq!(change(8, &[3]), Wrong::Version(3));
        assert_eq!(change(8, &[0]), Wrong::Version(0));
        assert_eq!(change(15, &[1]), Wrong::Nonsense("its head"));
        assert_eq!(change(topic, b"X"), Wrong::Nonsense("a part of no known kind"));
        assert_eq!(change(topic + 2, &[1]), Wrong::Nonsense("the name of a topic is too long"));
        assert_eq!(change(topic + 3, &[0]), Wrong::Nonsense("the epoch or number of a topic"));
        assert_eq!(change(topic + 14, &[0xff]), Wrong::Nonsense("the epoch or number of a topic"));
        assert_eq!(change(topic + 15, b"/"), Wrong::Nonsense("the name of a topic"));
        assert_eq!(change(message + 1, &[16 | 2]), Wrong::Nonsense("what a payload is"));
        assert_eq!(change(message + 1, &[15]), Wrong::Nonsense("what a message does"));
        assert_eq!(change(message + 27, &[0]), Wrong::Nonsense("the key of a message"));
        assert_eq!(change(message + 28, &[0xff]), Wrong::Nonsense("the key of a message"));
        assert_eq!(change(message + 6, &[2]), Wrong::Nonsense("a payload is too large"));
        assert_eq!(change(message + 7, &[0]), Wrong::Nonsense("the number of a message"));
        assert_eq!(change(message + 23, b"\n"), Wrong::Nonsense("the event name of a message"));
        assert_eq!(change(message + 30, &[0xff]), Wrong::Nonsense("what a payload is"), "no text");
        assert_eq!(change(again + 3, &[6]), Wrong::Nonsense("the epoch or number of a topic"));
        assert_eq!(change(again + 18 + 7, &[8]), Wrong::Nonsense("the number of a message"));
        assert_eq!(change(end + 1, &[2]), Wrong::Miscounted);
        assert_eq!(change(end + 9, &[1]), Wrong::Miscounted);
    }
}
