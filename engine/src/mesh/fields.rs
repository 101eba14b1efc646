//! The fields of packets, as they are written and read: little-endian numbers, short texts behind their length.

use corecast_protocol::message::Op;

use super::packet::{Asker, Content, Lost, Name, PREFIX_BYTES_MAX, Reason, Standing, Start, Stretch, Ticket};
use super::word::Numbered;

/// Flags of a content: its payload is text; it has a key; what it does to the value of that, if it is no put.
const TEXT: u8 = 1;
const KEYED: u8 = 2;
const MERGES: u8 = 4;
const DELETES: u8 = 8;

/// Returns a content's flags: a byte that says what of it is there.
#[must_use]
pub fn flags_of(content: Content<'_>) -> u8 {
    let flag = |flag: u8, on: bool| if on { flag } else { 0 };
    let op = flag(MERGES, content.op == Op::Merge) | flag(DELETES, content.op == Op::Delete);
    flag(TEXT, content.text) | flag(KEYED, !content.key.is_empty()) | op
}

/// Says whether a content with these flags has a text for its payload, and whether it has a key.
#[must_use]
pub fn says(flags: u8) -> (bool, bool) {
    (flags & TEXT != 0, flags & KEYED != 0)
}

/// Returns what a content with these flags does to a value.
#[must_use]
pub fn op_of(flags: u8) -> Op {
    match flags & (MERGES | DELETES) {
        0 => Op::Put,
        MERGES => Op::Merge,
        _ => Op::Delete,
    }
}

/// A packet that is being written.
pub(super) struct Fields<'o> {
    pub(super) out: &'o mut [u8; PREFIX_BYTES_MAX],
    pub(super) len: usize,
}

impl Fields<'_> {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.out[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn short(&mut self, text: &str) {
        self.byte(u8::try_from(text.len()).expect("topics, events and tokens are below 256 bytes"));
        self.put(text.as_bytes());
    }

    pub(super) fn name(&mut self, name: Name<'_>) {
        self.u64(name.hash);
        self.short(name.text);
    }

    pub(super) fn ticket(&mut self, ticket: Ticket<'_>) {
        self.u32(ticket.slot);
        self.put(&ticket.generation.to_le_bytes());
        self.byte(ticket.asker as u8);
        self.u32(ticket.word);
        self.u32(ticket.serial);
        self.short(ticket.token);
    }

    pub(super) fn standing(&mut self, standing: Standing) {
        self.u32(standing.epoch);
        self.u64(standing.head);
        self.byte(u8::from(standing.remembers));
    }

    pub(super) fn numbered(&mut self, numbered: Numbered) {
        self.put(&numbered.producer.to_le_bytes());
        self.u64(numbered.owner);
        self.u64(numbered.number);
    }

    pub(super) fn reason(&mut self, reason: Reason) {
        let (kind, number) = match reason {
            Reason::Full => (0, 0),
            Reason::Changed => (1, 0),
            Reason::Rows => (2, 0),
            Reason::TooLarge => (3, 0),
            Reason::OutOfOrder(number) => (4, number),
            Reason::TooManyProducers => (5, 0),
        };
        self.byte(kind);
        self.u64(number);
    }

    pub(super) fn content<'a>(&mut self, content: Content<'a>) -> &'a [u8] {
        self.byte(flags_of(content));
        self.short(content.event);
        self.u32(content.at_us);
        if !content.key.is_empty() {
            self.short(content.key);
        }
        content.payload
    }

    pub(super) fn from(&mut self, from: Start) {
        let (kind, epoch, number) = match from {
            Start::Latest => (0, 0, 0),
            Start::Live => (1, 0, 0),
            Start::Earliest => (2, 0, 0),
            Start::Last(n) => (3, 0, u64::from(n)),
            Start::After { epoch, seq } => (4, epoch, seq),
            Start::Behind(seq) => (5, 0, seq),
        };
        self.byte(kind);
        self.u32(epoch);
        self.u64(number);
    }

    pub(super) fn stretch(&mut self, stretch: Stretch) {
        self.u64(stretch.after);
        self.u64(stretch.last);
        self.u32(stretch.count);
        self.u64(stretch.ahead);
    }

    pub(super) fn lost(&mut self, lost: Option<Lost>) {
        self.byte(u8::from(lost.is_some()));
        if let Some(lost) = lost {
            self.u32(lost.after_epoch);
            self.u64(lost.after_seq);
            self.u64(lost.count);
            self.byte(u8::from(lost.epoch_changed));
        }
    }
}

/// A packet that is being read.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn short(&mut self) -> Option<&'a str> {
        let len = self.byte()?;
        std::str::from_utf8(self.take(usize::from(len))?).ok()
    }

    pub(super) fn name(&mut self) -> Option<Name<'a>> {
        Some(Name { hash: self.u64()?, text: self.short()? })
    }

    pub(super) fn ticket(&mut self) -> Option<Ticket<'a>> {
        Some(Ticket {
            slot: self.u32()?,
            generation: self.u16()?,
            asker: match self.byte()? {
                0 => Asker::Nobody,
                1 => Asker::Connection,
                2 => Asker::Topic,
                _ => return None,
            },
            word: self.u32()?,
            serial: self.u32()?,
            token: self.short()?,
        })
    }

    pub(super) fn standing(&mut self) -> Option<Standing> {
        Some(Standing { epoch: self.u32()?, head: self.u64()?, remembers: self.byte()? == 1 })
    }

    pub(super) fn numbered(&mut self) -> Option<Numbered> {
        let producer = u128::from_le_bytes(self.take(16)?.try_into().ok()?);
        Some(Numbered { producer, owner: self.u64()?, number: self.u64()? })
    }

    pub(super) fn reason(&mut self) -> Option<Reason> {
        let (kind, number) = (self.byte()?, self.u64()?);
        Some(match kind {
            0 => Reason::Full,
            1 => Reason::Changed,
            2 => Reason::Rows,
            3 => Reason::TooLarge,
            4 => Reason::OutOfOrder(number),
            5 => Reason::TooManyProducers,
            _ => return None,
        })
    }

    pub(super) fn content(&mut self) -> Option<Content<'a>> {
        let flags = self.byte()?;
        let event = self.short()?;
        let at_us = self.u32()?;
        let key = if flags & KEYED != 0 { self.short()? } else { "" };
        let op = op_of(flags);
        Some(Content { event, payload: std::mem::take(&mut self.rest), text: flags & TEXT != 0, at_us, key, op })
    }

    pub(super) fn from(&mut self) -> Option<Start> {
        let (kind, epoch, number) = (self.byte()?, self.u32()?, self.u64()?);
        Some(match kind {
            0 => Start::Latest,
            1 => Start::Live,
            2 => Start::Earliest,
            3 => Start::Last(u32::try_from(number).ok()?),
            4 => Start::After { epoch, seq: number },
            5 => Start::Behind(number),
            _ => return None,
        })
    }

    pub(super) fn stretch(&mut self) -> Option<Stretch> {
        Some(Stretch { after: self.u64()?, last: self.u64()?, count: self.u32()?, ahead: self.u64()? })
    }

    pub(super) fn lost(&mut self) -> Option<Option<Lost>> {
        Some(match self.byte()? {
            0 => None,
            _ => Some(Lost {
                after_epoch: self.u32()?,
                after_seq: self.u64()?,
                count: self.u64()?,
                epoch_changed: self.byte()? == 1,
            }),
        })
    }
}
