//! Sending: what a shard sends is sealed into scratch, and what the kernel did not take is told in the shard's own bytes.
//!
//! ```text
//!   asked        [h|          text of the shard, in parts            ]        h: sealed before, with the record whose rest is kept
//!   scratch  [kept][new keys?][ record | record | record | rest ]             one send
//!                             ▲ lead    ▲ the kernel stops here: the record is begun, its rest is kept, its last byte becomes h
//! ```
//!
//! Owns: the scratch, a flight for each send of the present submit. A record that nothing was taken of is forgotten, and its number
//! used again: nobody has seen it.

use super::alert::{FATAL, Fault, WARNING};
use super::front::{Front, Sealed};
use super::record::{self, HANDSHAKE, Version};
use super::{Edge, NONE};
use crate::io::driver::{Completion, Driver, Errno, Slot};
use crate::io::memory::{Memory, Span};

/// Text of one record: a browser shows nothing of a record before all of it has come, and the rest of one that was begun is kept. With
/// 4 KiB the overhead is half a per cent, and a key is made once for all the records of a send.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 10;

/// Bytes of scratch of a shard: what a turn sends, with its overhead; a send that finds no room goes on in the next turn.
pub const SCRATCH_BYTES: u32 = (1 << 20) + (256 << 10);

/// How often is looked whether there is room for what was not taken of handshakes, in microseconds: they fit into an empty socket, so it
/// is the kernel that has no memory.
pub(super) const UNSAID_US: u64 = 2_000;

/// `EAGAIN`, `ENOBUFS`, `ENOMEM`: the connection is well, and takes nothing just now.
const NOT_NOW: [Errno; 3] = [11, 105, 12];

/// Bytes that the edge says at once, at most: what a handshake sends, with a long chain of certificates.
pub(super) const SAID_BYTES_MAX: usize = 64 << 10;

/// "My next records have new keys" (RFC 8446 section 4.6.3); we never ask for the peer's.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// One send of the present submit.
#[derive(Clone, Copy, Debug)]
struct Flight {
    slot: Slot,
    /// Bytes that the shard has asked for; `None`: it knows nothing of it.
    asked: Option<u32>,
    /// Where its first byte stands in the scratch.
    at: u32,
    /// Bytes before its first record of text: the rest of one, new keys.
    lead: u32,
    /// Where in what was asked for the first record begins.
    from: u32,
    /// Where the last one ends.
    to: u32,
    /// Number of the first one.
    seq: u64,
    /// It is settled.
    settled: bool,
}

/// The sends of the present submit.
#[derive(Debug)]
pub(super) struct Flights {
    scratch: Span,
    used: u32,
    flights: Vec<Flight>,
    /// Of these, last words to peers whose slots are closed behind them.
    pub(super) last_words: usize,
}

impl Flights {
    pub(super) fn new(scratch: Span) -> Flights {
        Flights { scratch, used: 0, flights: Vec::new(), last_words: 0 }
    }

    pub(super) fn room(&self) -> usize {
        (self.scratch.len - self.used) as usize
    }

    /// Says whether the slot was closed behind a last word that the kernel has yet to be heard of.
    pub(super) fn is_last_word(&self, slot: Slot) -> bool {
        self.last_words > 0 && self.flights.iter().any(|flight| flight.slot == slot && !flight.settled)
    }

    /// Returns a place of so many bytes; there has to be room.
    fn place(&mut self, len: usize) -> Span {
        let span = self.scratch.part(self.used, len as u32);
        self.used += len as u32;
        span
    }
}

impl Edge {
    /// Sends what a shard wants to send to a connection with a front.
    pub(super) fn send<D: Driver>(&mut self, driver: &mut D, slot: Slot, parts: &[Span]) {
        let asked: u32 = parts.iter().map(|part| part.len).sum();
        match self.front(slot) {
            Some(Front::Sealed(sealed)) => {
                let before = sealed.unfinished_bytes();
                self.seal(driver, slot, parts, asked);
                if before > 0 {
                    self.recount(slot, before);
                }
            }
            Some(Front::Broken) => {} // Nobody reads it; the shard hears of that soon.
            Some(Front::Header(_) | Front::Shaking(_)) => {
                self.said.push_back(Completion::Unsent { slot, asked, sent: Err(NOT_NOW[0]) });
            }
            Some(Front::Plain(_)) | None => match parts {
                [one] => driver.send(slot, *one),
                several => driver.send_parts(slot, several),
            },
        }
    }

    fn seal<D: Driver>(&mut self, driver: &mut D, slot: Slot, parts: &[Span], asked: u32) {
        let place = self.place(slot) as usize;
        let Some(Front::Sealed(sealed)) = self.fronts.get_mut(place) else { return };
        debug_assert_eq!(sealed.flight, NONE, "one send of a connection and submit");
        if sealed.keys.are_used_up() {
            match sealed.keys.version {
                Version::Tls13 => sealed.owes_update = true,
                Version::Tls12 => return self.break_off(driver, slot, Fault::Exhausted),
            }
        }
        let overhead = sealed.keys.overhead();
        let kept = sealed.busy.as_ref().map_or(0, |busy| busy.kept.len());
        let update = if sealed.owes_update { KEY_UPDATE.len() + overhead } else { 0 };
        let from = u32::from(sealed.held);
        let flights = &mut self.flights;
        let memory = driver.memory_mut();
        if flights.room() < kept + update + overhead + 1 {
            self.said.push_back(Completion::Unsent { slot, asked, sent: Ok(0) });
            return;
        }
        let at = flights.used;
        let mut spent = Vec::new();
        if kept > 0 {
            let to = flights.place(kept);
            if let Some(busy) = &mut sealed.busy {
                memory.bytes_mut(to).copy_from_slice(&busy.kept);
                spent = std::mem::take(&mut busy.kept);
                sealed.tidy(&mut self.unused);
            }
        }
        if update > 0 {
            let record = flights.place(update);
            let bytes = memory.bytes_mut(record);
            sealed.keys.with_sending(|keys, key| keys.seal(&key, HANDSHAKE, Some(&KEY_UPDATE), bytes));
            sealed.keys.update_sending();
            sealed.owes_update = false;
        }
        let lead = flights.used - at;
        let seq = sealed.keys.sending.seq;
        let to = seal_parts(sealed, memory, flights, parts, from, asked);
        let span = flights.scratch.part(at, flights.used - at);
        sealed.flight = flights.flights.len() as u32;
        flights.flights.push(Flight { slot, asked: Some(asked), at, lead, from, to, seq, settled: false });
        driver.send(slot, span);
        self.give_back(spent);
    }

    /// Sends a peer a record that the shard knows nothing of: an alert. To be called if it is sent nothing else in this submit.
    pub(super) fn say_alert<D: Driver>(&mut self, driver: &mut D, slot: Slot, level: u8, alert: u8) {
        let place = self.place(slot) as usize;
        let Some(Front::Sealed(sealed)) = self.fronts.get_mut(place) else { return };
        let len = 2 + sealed.keys.overhead();
        let mid_record = sealed.busy.as_ref().is_some_and(|busy| !busy.kept.is_empty());
        if sealed.flight != NONE || mid_record || self.flights.room() < len {
            return;
        }
        let at = self.flights.used;
        let record = self.flights.place(len);
        let bytes = driver.memory_mut().bytes_mut(record);
        sealed.keys.with_sending(|keys, key| keys.seal(&key, record::ALERT, Some(&[level, alert]), bytes));
        sealed.flight = self.flights.flights.len() as u32;
        self.flights.flights.push(Flight { slot, asked: None, at, lead: 0, from: 0, to: 0, seq: 0, settled: false });
        driver.send(slot, record);
    }

    /// Sends a peer bytes as they are, which the shard knows nothing of, behind those that were not taken before. To be called if it is
    /// sent nothing else in this submit.
    pub(super) fn say<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) {
        match self.front(slot) {
            Some(Front::Shaking(shaking)) if !shaking.unsaid.is_empty() => {
                shaking.unsaid.extend_from_slice(bytes);
                return;
            }
            _ if bytes.is_empty() => return,
            _ => {}
        }
        let at = self.flights.used;
        let place = self.flights.place(bytes.len());
        driver.memory_mut().bytes_mut(place).copy_from_slice(bytes);
        let lead = bytes.len() as u32;
        self.flights.flights.push(Flight { slot, asked: None, at, lead, from: 0, to: 0, seq: 0, settled: false });
        let number = self.flights.flights.len() as u32 - 1;
        if let Some(Front::Sealed(sealed)) = self.front(slot) {
            sealed.flight = number;
        }
        driver.send(slot, place);
    }

    /// Ends a connection: its peer is told why, if there is a word for it, and the shard that it is over.
    pub(super) fn break_off<D: Driver>(&mut self, driver: &mut D, slot: Slot, fault: Fault) {
        if let Some(alert) = fault.alert() {
            self.say_alert(driver, slot, FATAL, alert);
        }
        self.unfinished_bytes -= self.unfinished_of(slot);
        if let Some(front) = self.front(slot) {
            let ended = match front {
                Front::Shaking(shaking) => shaking.ended.take(),
                _ => None,
            };
            *front = Front::Broken;
            self.said.extend(ended);
        }
        self.said.push_back(Completion::Broken { slot, why: fault.text() });
    }

    /// Says to a peer that nothing more comes.
    pub(super) fn say_goodbye<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.say_alert(driver, slot, WARNING, super::alert::CLOSE_NOTIFY);
        if let Some(Front::Sealed(sealed)) = self.front(slot) {
            sealed.said_goodbye = true;
        }
    }

    /// The kernel did not take all of a send to a connection with a front; returns what the shard is told, if it knows of it.
    pub(super) fn unsent(
        &mut self,
        memory: &Memory,
        slot: Slot,
        said: Result<u32, Errno>,
    ) -> Option<(u32, Result<u32, Errno>)> {
        let before = self.unfinished_of(slot);
        let told = self.take_back(memory, slot, said);
        self.recount(slot, before);
        told
    }

    /// Keeps the rest of what was begun, and finds out what of the rest the shard has to send again.
    fn take_back(
        &mut self,
        memory: &Memory,
        slot: Slot,
        said: Result<u32, Errno>,
    ) -> Option<(u32, Result<u32, Errno>)> {
        let flights = &mut self.flights;
        let place = self.index.get(slot as usize).copied().unwrap_or(NONE);
        let front = self.fronts.get_mut(place as usize);
        let known = match &front {
            Some(Front::Sealed(sealed)) if sealed.flight != NONE => flights.flights.get_mut(sealed.flight as usize),
            _ => flights.flights.iter_mut().find(|flight| flight.slot == slot && !flight.settled),
        };
        let flight = known?;
        flight.settled = true;
        let flight = *flight;
        let Some(asked) = flight.asked else {
            if said.is_ok() || said.is_err_and(|errno| NOT_NOW.contains(&errno)) {
                self.say_again(memory, flight, said.unwrap_or(0));
            } else if let Some(Front::Sealed(sealed)) = front {
                // The peer is gone, and the shard hears of that soon; it may have an answer for it until then.
                sealed.flight = NONE;
            }
            return None;
        };
        let Some(Front::Sealed(sealed)) = front else { return Some((asked, said)) };
        sealed.flight = NONE;
        if let Err(errno) = said
            && !NOT_NOW.contains(&errno)
        {
            return Some((asked, said));
        }
        let sent = said.unwrap_or(0);
        let overhead = sealed.keys.overhead() as u32;
        let (rest, taken) = if sent < flight.lead {
            sealed.keys.sending.seq = flight.seq;
            (sent..flight.lead, 0)
        } else {
            let full = TEXT_BYTES_MAX as u32 + overhead;
            let (whole, part) = ((sent - flight.lead) / full, (sent - flight.lead) % full);
            let before = (flight.from + whole * TEXT_BYTES_MAX as u32).min(flight.to);
            sealed.held = part > 0;
            sealed.keys.sending.seq = flight.seq + u64::from(whole) + u64::from(part > 0);
            if part == 0 {
                (0..0, before)
            } else {
                let end = (before + TEXT_BYTES_MAX as u32).min(flight.to);
                let begin = flight.lead + whole * full;
                (begin + part..begin + (end - before) + overhead, end - 1)
            }
        };
        if !rest.is_empty() {
            let span = flights.scratch.part(flight.at + rest.start, rest.end - rest.start);
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.extend_from_slice(memory.bytes(span));
            sealed.unfinished(&mut self.unused).kept = buffer;
        }
        Some((asked, if taken == 0 { said.map(|_| 0) } else { Ok(taken) }))
    }

    /// The kernel did not take all of what the edge has said: an alert is let go, a handshake has to go on.
    fn say_again(&mut self, memory: &Memory, flight: Flight, sent: u32) {
        let mut rest = self.buffer();
        if sent < flight.lead {
            rest.extend_from_slice(memory.bytes(self.flights.scratch.part(flight.at + sent, flight.lead - sent)));
        }
        let place = self.place(flight.slot) as usize;
        match self.fronts.get_mut(place) {
            Some(Front::Sealed(sealed)) => {
                sealed.flight = NONE;
                if !rest.is_empty() {
                    sealed.unfinished(&mut self.unused).kept = rest;
                }
            }
            Some(Front::Shaking(shaking)) => shaking.unsaid = rest,
            _ => return,
        }
        if sent < flight.lead {
            self.unsaid.push(flight.slot);
        }
    }

    /// Says once more what was not taken of handshakes.
    pub(super) fn say_unsaid<D: Driver>(&mut self, driver: &mut D) {
        let now_us = driver.now_us();
        if self.unsaid.is_empty() || now_us < self.unsaid_due_us {
            return;
        }
        self.unsaid_due_us = now_us + UNSAID_US;
        for slot in std::mem::take(&mut self.unsaid) {
            let before = self.unfinished_of(slot);
            if self.flights.room() < SAID_BYTES_MAX {
                self.unsaid.push(slot);
                continue;
            }
            let place = self.place(slot) as usize;
            let rest = match self.fronts.get_mut(place) {
                Some(Front::Shaking(shaking)) => std::mem::take(&mut shaking.unsaid),
                Some(Front::Sealed(sealed)) if sealed.flight == NONE && !sealed.held => {
                    let rest = sealed.busy.as_mut().map(|busy| std::mem::take(&mut busy.kept));
                    sealed.tidy(&mut self.unused);
                    rest.unwrap_or_default()
                }
                // It leaves, or has left, with what the shard sends.
                _ => continue,
            };
            self.recount(slot, before);
            if !rest.is_empty() {
                self.say(driver, slot, &rest);
            }
            self.give_back(rest);
        }
    }

    /// Everything that was not taken has been told: the others were sent in full, as far as there was room for them.
    pub(super) fn settle(&mut self) {
        let mut flights = std::mem::take(&mut self.flights.flights);
        for flight in flights.drain(..).filter(|flight| !flight.settled) {
            let place = self.place(flight.slot) as usize;
            if let Some(Front::Sealed(sealed)) = self.fronts.get_mut(place) {
                sealed.flight = NONE;
                if flight.asked.is_some() {
                    sealed.held = false;
                }
                sealed.tidy(&mut self.unused);
            }
            if let Some(asked) = flight.asked
                && flight.to < asked
            {
                self.said.push_back(Completion::Unsent { slot: flight.slot, asked, sent: Ok(flight.to) });
            }
        }
        self.flights.flights = flights;
        self.flights.used = 0;
        self.flights.last_words = 0;
    }
}

/// Seals what stands in these parts, from byte `from` on, as far as there is room; returns where it ends.
#[inline]
fn seal_parts(
    sealed: &mut Sealed,
    memory: &mut Memory,
    flights: &mut Flights,
    parts: &[Span],
    from: u32,
    asked: u32,
) -> u32 {
    let mut at = from;
    if at >= asked {
        return at;
    }
    sealed.keys.with_sending(|keys, key| {
        // The part that is next, and how much of it is gone.
        let (mut part, mut gone) = (0, from);
        while at < asked {
            while gone >= parts[part].len {
                gone -= parts[part].len;
                part += 1;
            }
            let len = (asked - at).min(TEXT_BYTES_MAX as u32);
            if flights.room() < len as usize + keys.overhead() {
                break;
            }
            let record = flights.place(len as usize + keys.overhead());
            if gone + len <= parts[part].len {
                let (text, record) = memory.apart(parts[part].part(gone, len), record);
                keys.seal(&key, record::DATA, Some(text), record);
                gone += len;
            } else {
                let mut to = record.part(keys.text_at() as u32, len);
                let mut left = len;
                while left > 0 {
                    while gone >= parts[part].len {
                        (gone, part) = (0, part + 1);
                    }
                    let piece = left.min(parts[part].len - gone);
                    memory.copy(parts[part].part(gone, piece), to, piece);
                    to = to.part(piece, to.len - piece);
                    (gone, left) = (gone + piece, left - piece);
                }
                keys.seal(&key, record::DATA, None, memory.bytes_mut(record));
            }
            at += len;
        }
    });
    at
}
