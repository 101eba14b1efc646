//! Lines over bare TCP, as `telnet` and `nc` speak them: the smallest session there can be, and only in builds for tests.
//!
//! ```text
//!   SUB topic            OK topic 0a1b2c3d-7, and then a line of NDJSON for each message
//!   UNSUB topic          OK topic
//!   PUB topic payload    OK 0a1b2c3d-8
//! ```
//!
//! It shows what a session needs: this file, a row of the table of traits, and a line in each verb that concerns it.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::message::Gap;
use corecast_protocol::topic::{validate, validate_subscribe};
use corecast_protocol::write::Writer;

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Reason};
use crate::shard::Shard;
use crate::shard::dialect::{Coding, Dialect, Shape};
use crate::shard::refusal::Refusal;
use crate::shard::session::order::Order;
use crate::shard::slot::wait::{Outcome, Told, Wait};
use crate::shard::topic::subscribe::{Wanted, Wish};

/// Bytes of a line besides a payload.
const LINE_BYTES_MAX: usize = 512;

impl Shard {
    /// Takes the next line; returns the bytes used, 0 if more are needed.
    pub(in crate::shard) fn telnet<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &[u8]) -> usize {
        let Some(len) = bytes.iter().position(|byte| *byte == b'\n') else {
            if bytes.len() > self.limits.message_bytes_max as usize + LINE_BYTES_MAX {
                self.end_telnet(driver, slot, "the line is too long");
                return bytes.len();
            }
            return 0;
        };
        self.telnet_line(driver, slot, &bytes[..len]);
        len + 1
    }

    /// Goes on with a line that had to wait.
    pub(in crate::shard) fn resume_telnet<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let line = self.take_whole(driver, slot);
        self.telnet_line(driver, slot, &line);
        self.scratch.whole = line;
    }

    fn telnet_line<D: Driver>(&mut self, driver: &mut D, slot: Slot, line: &[u8]) {
        match self.telnet_order(driver, slot, line) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Wait(wait)) => {
                self.wait(slot, wait);
                self.stash(driver, slot, true, line);
            }
            Ok(Outcome::Refused(refusal)) => self.refuse_telnet(driver, slot, refusal),
            Err(text) => {
                self.stats.violations += 1;
                self.tell_line(driver, slot, |w| {
                    w.text("ERR ");
                    w.text(text);
                });
            }
        }
    }

    fn telnet_order<D: Driver>(&mut self, driver: &mut D, slot: Slot, line: &[u8]) -> Result<Outcome, &'static str> {
        let line = std::str::from_utf8(line).map_err(|_| "the line is not UTF-8")?.trim_end_matches('\r');
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        Ok(match verb {
            "SUB" => {
                validate_subscribe(rest).map_err(|error| error.text())?;
                if !self.may_replay(slot, Default::default()) {
                    return Ok(Outcome::Wait(Wait::Answer));
                }
                self.slots.connections[slot as usize].dialect = Dialect::new(Shape::Ndjson, Coding::Plain);
                let manner = self.manner(rest, Wanted::default());
                let wish = Wish {
                    topic: rest,
                    since: None,
                    places: None,
                    manner,
                    view: crate::shard::dialect::view::ALL,
                    counted: false,
                    token: rest,
                };
                self.order_subscription(driver, slot, wish)
            }
            "UNSUB" => {
                let outcome = self.order_unsubscription(driver, slot, rest);
                if outcome == Outcome::Done {
                    self.tell_line(driver, slot, |w| {
                        w.text("OK ");
                        w.text(rest);
                    });
                }
                outcome
            }
            "PUB" => {
                let (topic, payload) = rest.split_once(' ').ok_or("PUB topic payload")?;
                validate(topic).map_err(|error| error.text())?;
                let content =
                    Content { event: "", payload: payload.as_bytes(), text: true, at_us: 0, ..Default::default() };
                let asker = Asker::Connection;
                let (op, expected, numbered) = (None, None, None);
                self.order(slot, Order::Publish { topic, content, op, expected, numbered, asker, token: "" })
            }
            _ => return Err("SUB topic, UNSUB topic or PUB topic payload"),
        })
    }

    /// Tells that a subscription stands.
    pub(in crate::shard) fn telnet_subscribed<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        topic: &str,
        head: Cursor,
    ) {
        self.tell_line(driver, slot, |w| {
            w.text("OK ");
            w.text(topic);
            w.byte(b' ');
            head.write(w);
        });
    }

    /// Tells what became of a publication.
    pub(in crate::shard) fn telnet_is_done<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        outcome: Result<Told, Reason>,
    ) {
        match outcome {
            Ok(told) => self.tell_line(driver, slot, |w| {
                w.text("OK ");
                told.cursor.write(w);
            }),
            Err(reason) => self.refuse_telnet(driver, slot, reason.into()),
        }
    }

    /// Tells why an order is not done.
    fn refuse_telnet<D: Driver>(&mut self, driver: &mut D, slot: Slot, refusal: Refusal) {
        self.refused(refusal);
        self.notice(slot, refusal, "", refusal.row().text);
        self.tell_line(driver, slot, |w| {
            w.text("ERR ");
            w.text(refusal.row().text);
        });
    }

    /// Tells of a gap.
    pub(in crate::shard) fn gap_in_telnet<D: Driver>(&mut self, driver: &mut D, slot: Slot, gap: &Gap<'_>) {
        self.tell_line(driver, slot, |w| {
            w.text("GAP ");
            w.text(gap.topic);
            w.byte(b' ');
            w.decimal(gap.count);
        });
    }

    /// Nothing was heard of it for a while: a sign of life.
    pub(in crate::shard) fn expire_telnet<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.slots.is_closing(slot) {
            self.expire_farewell(driver, slot);
            return;
        }
        self.push(driver, slot, b"\n");
        self.timers.wheel.set(slot, self.clock.tick, self.limits.ping_ms);
    }

    /// Ends it in order, with the reason.
    pub(in crate::shard) fn end_telnet<D: Driver>(&mut self, driver: &mut D, slot: Slot, reason: &str) {
        if self.slots.is_closing(slot) {
            return;
        }
        if !self.unsubscribe_in_order(driver, slot) {
            self.kill(driver, slot);
            return;
        }
        self.tell_line(driver, slot, |w| {
            w.text("BYE ");
            w.text(reason);
        });
        if self.slots.connections[slot as usize].is_subscriber() {
            self.active(slot).closing = true;
            self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
            self.slots.make_ready(slot);
        }
    }

    fn tell_line<D: Driver>(&mut self, driver: &mut D, slot: Slot, write: impl FnOnce(&mut Writer<'_>)) {
        let mut text = std::mem::take(&mut self.scratch.text);
        let mut w = Writer::new(&mut text);
        write(&mut w);
        w.byte(b'\n');
        let len = w.finish().expect("the scratch holds the longest line");
        self.push(driver, slot, &text[..len]);
        self.scratch.text = text;
    }
}
