//! Batches: NDJSON bodies, a message a line. All lines are checked, and asked whether they may, before any is published.
//!
//! ```text
//!   as it came   {"topic":"a","data":"x"}\n{"data":"eA==","encoding":"base64","topic":"b"}\n ...
//!   checked      [lengths]a x[lengths]b x ...                    a record is shorter than its line, so it takes its place
//!                                                                (the name of a producer comes behind the event, and then its number)
//! ```
//!
//! A line is read once, and its record stays where the line stood until it is published. A long batch takes many turns.

use corecast_protocol::json;
use corecast_protocol::message::{KEY_BYTES_MAX, Op};
use corecast_protocol::producer::Produced;
use corecast_protocol::topic::TOPIC_BYTES_MAX;
use corecast_protocol::write::Writer;

use crate::grant::Action;
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Reason};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::carrier::websocket::is_utf8;
use crate::shard::refusal::Refusal;
use crate::shard::session::order::Order;
use crate::shard::session::request::answer::{JSON, ok};
use crate::shard::session::request::exchange::Batch;
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::wait::{MayNot, Outcome, Told};
use crate::shard::work::PIECE_NS;

/// Bodies of batches may be so many times as large as a message.
pub(in crate::shard) const BATCH_MESSAGES: u64 = 16;

/// Bytes of a record before its topic: lengths of topic (1), event name (1) and payload (4), whether that is text (1), length of the key (1),
/// what it does to the value of that (1), and the length of the name of a producer (1).
const RECORD_HEAD: usize = 10;

/// Bytes of a number, which stands behind the name of its producer.
const NUMBER_BYTES: usize = 8;

/// The longest names of a record: its topic, its event, its key, its producer and number.
const NAMES_BYTES_MAX: usize = TOPIC_BYTES_MAX + 2 * u8::MAX as usize + KEY_BYTES_MAX + NUMBER_BYTES;

/// Records that the hook is asked about while one before them waits for it.
const FORESEEN_MAX: usize = 64;

/// What checking one line of a batch found.
enum Line {
    /// It is a message, and its record is made.
    Checked,
    /// There is no line left.
    End,
    /// It is wrong: this is why.
    Wrong(String),
}

/// A line that was checked.
struct Record<'r> {
    topic: &'r str,
    content: Content<'r>,
    op: Option<Op>,
    produced: Option<Produced<'r>>,
    /// Bytes that it takes.
    len: usize,
}

impl Record<'_> {
    /// Reads the first of some records.
    fn first(records: &[u8]) -> Record<'_> {
        let (head, rest) = records.split_at(RECORD_HEAD);
        let data_len = u32::from_le_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let (topic, rest) = rest.split_at(usize::from(head[0]));
        let (event, rest) = rest.split_at(usize::from(head[1]));
        let topic = std::str::from_utf8(topic).expect("only checked topics are kept");
        let event = std::str::from_utf8(event).expect("only checked events are kept");
        let (key, rest) = rest.split_at(usize::from(head[7]));
        let key = std::str::from_utf8(key).expect("only checked keys are kept");
        let (producer, rest) = rest.split_at(usize::from(head[9]));
        let (number, rest) = rest.split_at(if producer.is_empty() { 0 } else { NUMBER_BYTES });
        let produced = number.try_into().ok().map(|number| {
            let producer = std::str::from_utf8(producer).expect("only checked producers are kept");
            Produced { producer, number: u64::from_le_bytes(number) }
        });
        let names_len = topic.len() + event.len() + key.len() + producer.len() + number.len();
        let content = Content { event, payload: &rest[..data_len], text: head[2] == 1, key, ..Default::default() };
        let op = match head[8] {
            0 => None,
            1 => Some(Op::Put),
            2 => Some(Op::Merge),
            _ => Some(Op::Delete),
        };
        Record { topic, content, op, produced, len: RECORD_HEAD + names_len + data_len }
    }
}

impl Shard {
    /// Begins with a batch whose body is complete, in the connection's body buffer.
    pub(in crate::shard) fn begin_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.exchange(slot).batch = Batch::default();
        self.batch_step(driver, slot);
    }

    /// Checks and then publishes lines of a batch, as far as its slice of the turn and the rings allow.
    pub(in crate::shard) fn batch_step<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let start_ns = self.work.spent_ns();
        while !self.exchange(slot).batch.checked {
            if self.is_slice_over(driver, start_ns) {
                return self.batch_waits(slot);
            }
            match self.check_line(driver, slot) {
                Line::Checked => {}
                Line::End => {
                    let batch = &mut self.exchange(slot).batch;
                    batch.checked = true;
                    batch.offset = 0;
                }
                Line::Wrong(text) => {
                    self.clear_body(slot);
                    self.answer_error(driver, slot, 400, &text, false);
                    self.request_ends(slot);
                    return;
                }
            }
        }
        while !self.exchange(slot).batch.allowed {
            if self.is_slice_over(driver, start_ns) {
                return self.batch_waits(slot);
            }
            match self.allow_record(driver, slot) {
                Ok(()) => {}
                Err((_, MayNot::Yet(wait))) => {
                    self.foresee_records(driver, slot);
                    self.wait(slot, wait);
                    self.active(slot).complete = true;
                    return;
                }
                Err((line, MayNot::AtAll(refusal))) => {
                    self.clear_body(slot);
                    let text = format!("line {line}: {}", refusal.row().text);
                    self.refuse_request_because(driver, slot, refusal, &text, false);
                    self.request_ends(slot);
                    return;
                }
            }
        }
        if self.is_metered(slot) && !self.pay_for_batch(driver, slot) {
            return;
        }
        while let Batch { offset, packed, .. } = self.exchange(slot).batch
            && offset < packed
        {
            if self.is_slice_over(driver, start_ns) {
                return self.batch_waits(slot);
            }
            if let Outcome::Wait(wait) = self.publish_record(driver, slot) {
                self.wait(slot, wait);
                self.active(slot).complete = true;
                return;
            }
        }
        self.clear_body(slot);
        self.active(slot).waiting = Waiting::Answer;
        self.end_batch(driver, slot);
    }

    /// Takes all messages of a batch from what may be published, together; says false, and answers so, if they are too many just now.
    fn pay_for_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        let Batch { messages, payload_bytes, paid, .. } = self.exchange(slot).batch;
        if paid || messages == 0 {
            return true;
        }
        if let Err(refusal) = self.meter_messages(slot, messages.into(), payload_bytes.into()) {
            self.clear_body(slot);
            self.refuse_request(driver, slot, refusal, false);
            self.request_ends(slot);
            return false;
        }
        self.exchange(slot).batch.paid = true;
        true
    }

    /// Says whether what a connection publishes now was taken from what may be published before.
    pub(in crate::shard) fn is_paid_for(&self, slot: Slot) -> bool {
        self.exchange_if_any(slot).is_some_and(|exchange| exchange.batch.paid)
    }

    /// Forgets the body that was received.
    pub(in crate::shard) fn clear_body(&mut self, slot: Slot) {
        let index = self.slots.connections[slot as usize].active as usize;
        self.slots.actives[index].body.clear(&mut self.store);
    }

    fn batch_waits(&mut self, slot: Slot) {
        self.postpone(slot);
        self.active(slot).complete = true;
    }

    /// Reads the next line of the body, and makes a record of it behind those of the lines before.
    fn check_line<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> Line {
        let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
        let body = driver.memory_mut().bytes_mut(active.body.span());
        let batch = &mut self.exchanges[active.state as usize].batch;
        let (start, end) = loop {
            let start = batch.offset as usize;
            if start >= body.len() {
                return Line::End;
            }
            let len = body[start..].iter().position(|byte| *byte == b'\n').unwrap_or(body.len() - start);
            batch.offset += len as u32 + 1;
            batch.line += 1;
            if !body[start..start + len].iter().all(u8::is_ascii_whitespace) {
                break (start, start + len);
            }
        };
        self.work.spend_on(8 * (end - start));
        let base = body.as_ptr() as usize;
        let message = match json::publish_line(&mut body[start..end]) {
            Ok(message) if !self.limits.is_too_large(message.topic, message.data.len()) => message,
            Ok(_) => return Line::Wrong(format!("line {}: the payload is too large", batch.line)),
            Err(error) => return Line::Wrong(format!("line {}: {error}", batch.line)),
        };
        let event = message.event.unwrap_or("");
        let key = message.key.unwrap_or("");
        let producer = message.produced.map_or("", |produced| produced.producer);
        let number = message.produced.map(|produced| produced.number.to_le_bytes());
        let number = number.as_ref().map_or(&[][..], |number| &number[..]);
        let mut names = [0; NAMES_BYTES_MAX];
        let (topic_len, event_len) = (message.topic.len(), event.len());
        let (key_len, producer_len) = (key.len() as u8, producer.len() as u8);
        let mut names_len = 0;
        for part in [message.topic.as_bytes(), event.as_bytes(), key.as_bytes(), producer.as_bytes(), number] {
            names[names_len..names_len + part.len()].copy_from_slice(part);
            names_len += part.len();
        }
        let op = match message.op {
            None => 0,
            Some(Op::Put) => 1,
            Some(Op::Merge) => 2,
            Some(Op::Delete) => 3,
        };
        // A deletion may have none, which lies nowhere.
        let data_len = message.data.len();
        let data_at = if data_len == 0 { start } else { message.data.as_ptr() as usize - base };
        let text = is_utf8(message.data);

        let record = batch.packed as usize;
        let data_to = record + RECORD_HEAD + names_len;
        assert!(data_to + data_len <= end, "a record is shorter than its line");
        body.copy_within(data_at..data_at + data_len, data_to);
        body[record + RECORD_HEAD..data_to].copy_from_slice(&names[..names_len]);
        let head = &mut body[record..record + RECORD_HEAD];
        head[0] = topic_len as u8;
        head[1] = event_len as u8;
        head[2] = u8::from(text);
        head[3..7].copy_from_slice(&(data_len as u32).to_le_bytes());
        (head[7], head[8], head[9]) = (key_len, op, producer_len);
        batch.packed = (data_to + data_len) as u32;
        batch.messages += 1;
        batch.payload_bytes += data_len as u32;
        Line::Checked
    }

    /// Asks of the next record of a checked batch whether it may be published; says which one may not, and why.
    fn allow_record<D: Driver>(&mut self, driver: &D, slot: Slot) -> Result<(), (u32, MayNot)> {
        let active = &self.slots.actives[self.slots.connections[slot as usize].active as usize];
        let body = driver.memory().bytes(active.body.span());
        let Batch { offset, packed, sent, .. } = self.exchanges[active.state as usize].batch;
        if offset >= packed {
            let batch = &mut self.exchange(slot).batch;
            (batch.allowed, batch.offset, batch.sent) = (true, 0, 0);
            return Ok(());
        }
        let Record { topic, len, .. } = Record::first(&body[offset as usize..packed as usize]);
        self.may(slot, Action::Publish, topic).map_err(|may_not| (sent + 1, may_not))?;
        self.work.spend(PIECE_NS);
        let batch = &mut self.exchange(slot).batch;
        batch.offset += len as u32;
        batch.sent += 1;
        Ok(())
    }

    /// Has the hook asked about the records behind one that waits for it, some way ahead.
    fn foresee_records<D: Driver>(&mut self, driver: &D, slot: Slot) {
        let active = &self.slots.actives[self.slots.connections[slot as usize].active as usize];
        let body = driver.memory().bytes(active.body.span());
        let Batch { mut offset, packed, .. } = self.exchanges[active.state as usize].batch;
        for _ in 0..FORESEEN_MAX {
            if offset >= packed {
                return;
            }
            let Record { topic, len, .. } = Record::first(&body[offset as usize..packed as usize]);
            if !self.foresee(slot, Action::Publish, topic) {
                return;
            }
            self.work.spend(PIECE_NS);
            offset += len as u32;
        }
    }

    /// Publishes the next record of a checked batch.
    fn publish_record<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> Outcome {
        let active = &self.slots.actives[self.slots.connections[slot as usize].active as usize];
        let body = driver.memory().bytes(active.body.span());
        let Batch { offset, packed, .. } = self.exchanges[active.state as usize].batch;
        let Record { topic, content, op, produced, len } = Record::first(&body[offset as usize..packed as usize]);
        let numbered = produced.map(|produced| self.numbered(slot, topic, produced));
        let (expected, asker) = (None, Asker::Connection);
        let order = Order::Publish { topic, content, op, expected, numbered, asker, token: "" };
        let outcome = self.order(slot, order);
        if let Outcome::Wait(_) = outcome {
            return outcome;
        }
        self.work.spend_on(len);
        let batch = &mut self.exchange(slot).batch;
        batch.sent += 1;
        batch.offset += len as u32;
        if let Outcome::Refused(refusal) = outcome {
            // What may be has changed since the lines were checked.
            reach(Mark::LineRefused);
            batch.refused += 1;
            batch.why.get_or_insert(refusal);
        }
        outcome
    }

    /// A line of a batch is published, or refused.
    pub(in crate::shard) fn line_is_done<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        outcome: Result<Told, Reason>,
    ) {
        let batch = &mut self.exchange(slot).batch;
        match outcome {
            Ok(told) => batch.repeated += u32::from(told.repeated),
            Err(reason) => {
                batch.refused += 1;
                if let (None, Reason::OutOfOrder(number)) = (batch.why, reason) {
                    batch.expected = number;
                }
                batch.why.get_or_insert(reason.into());
            }
        }
        self.end_batch(driver, slot);
    }

    /// Answers a batch, once all its lines are sent and answered.
    fn end_batch<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let active = self.active(slot);
        if active.waiting != Waiting::Answer || active.owed > 0 {
            return;
        }
        let batch = self.exchange(slot).batch;
        let mut body = [0; 192];
        let mut w = Writer::new(&mut body);
        let published = u64::from(batch.sent - batch.refused);
        if batch.refused == 0 && batch.repeated == 0 {
            json::batch_answer(&mut w, published);
            let len = w.finish().expect("a number fits");
            self.answer(driver, slot, ok(JSON), &body[..len]);
        } else {
            w.text("{\"published\":");
            w.decimal(published);
            if batch.repeated > 0 {
                w.text(",\"repeated\":");
                w.decimal(batch.repeated.into());
            }
            if batch.refused == 0 {
                w.byte(b'}');
                let len = w.finish().expect("two numbers fit");
                self.answer(driver, slot, ok(JSON), &body[..len]);
                return self.request_ends_and_goes_on(driver, slot);
            }
            w.text(",\"error\":");
            let why = batch.why.unwrap_or(Refusal::Full);
            json::string(&mut w, why.row().text);
            if batch.expected > 0 {
                w.text(",\"expected\":");
                w.decimal(batch.expected);
            }
            w.byte(b'}');
            let len = w.finish().expect("a number and a reason fit");
            self.notice(slot, why, "", why.row().text);
            self.refuse_request_with(driver, slot, why, &body[..len], false);
        }
        self.request_ends_and_goes_on(driver, slot);
    }
}
