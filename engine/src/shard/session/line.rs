//! The line protocol: commands in, and the short answers back.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::dialect::line as answer;
use corecast_protocol::line::{self, Command, ErrCode};
use corecast_protocol::write::Writer;

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Purpose};
use crate::shard::Shard;
use crate::shard::carrier::websocket::{Handled, is_utf8};
use crate::shard::session::Session;
use crate::shard::topic::subscribe::{Outcome, Wish};
use crate::shard::topic::topics::UNRESOLVED;

/// Publications with a token that one connection may have on their way.
pub(in crate::shard) const TICKETS_MAX: u32 = 64;

impl Shard {
    pub(in crate::shard) fn command<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> Handled {
        // A percent-encoded topic is decoded where it stands; the message must stay as it came, should it have to wait.
        let head = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        if bytes[..head].contains(&b'%') {
            let mut copy = bytes.to_vec();
            return self.parsed_command(driver, slot, &mut copy);
        }
        self.parsed_command(driver, slot, bytes)
    }

    fn parsed_command<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> Handled {
        match line::parse(bytes) {
            Ok(Command::Sub { topic, since, conflate, every_ms, id }) => {
                let token = id.unwrap_or("");
                self.command_sub(driver, slot, topic, since, conflate, every_ms, token)
            }
            Ok(Command::Unsub { topic, id }) => {
                let membership = self.membership_of(slot, topic);
                let unresolved = |membership| self.topics.subscriber(membership).flags & UNRESOLVED != 0;
                if membership.is_some_and(unresolved) {
                    // The answer to its SUB is on its way, and comes first.
                    return Handled::Answer;
                }
                match membership {
                    Some(membership) if !self.unsubscribe(driver, slot, membership) => self.kill(driver, slot),
                    _ => {
                        if let Some(token) = id {
                            self.tell_ok(driver, slot, token, None);
                        }
                    }
                }
                Handled::Done
            }
            Ok(Command::Pub { topic, event, id, payload }) => {
                if payload.len() > self.limits.message_bytes_max as usize {
                    self.tell_err(driver, slot, id, ErrCode::TooLarge, "the payload is too large");
                    return Handled::Done;
                }
                let content = Content { event: event.unwrap_or(""), text: is_utf8(payload), payload };
                let purpose = if id.is_some() { Purpose::Line } else { Purpose::Silent };
                if id.is_some() && self.active(slot).tickets >= TICKETS_MAX {
                    return Handled::Answer;
                }
                match self.publish(slot, topic, content, purpose, id.unwrap_or("")) {
                    Outcome::NoRoom(way) => return Handled::Room(way),
                    Outcome::Done | Outcome::Full => {}
                }
                if id.is_some() {
                    self.active(slot).tickets += 1;
                }
                Handled::Done
            }
            Ok(Command::Ping { token }) => {
                self.tell(driver, slot, |w| answer::pong(w, token));
                Handled::Done
            }
            Err(error) => {
                self.tell_err(driver, slot, error.token, error.code, error.text);
                Handled::Done
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn command_sub<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        topic: &str,
        since: Option<Since>,
        conflate: bool,
        every_ms: u32,
        token: &str,
    ) -> Handled {
        if !self.may_replay(slot, since.unwrap_or_default()) {
            return Handled::Answer;
        }
        if let Some(membership) = self.membership_of(slot, topic) {
            match since {
                None => {
                    self.change(slot, membership, conflate, every_ms);
                    if !token.is_empty() {
                        let log = self.topics.memberships[membership as usize].log;
                        let topic = self.topics.topic(self.topics.logs[log as usize].topic);
                        let head = Cursor { epoch: topic.epoch, seq: topic.next.saturating_sub(1) };
                        self.tell_ok(driver, slot, token, Some(head));
                    }
                    return Handled::Done;
                }
                // A new start is a new subscription; room for it is looked for before the old one ends.
                Some(_) => {
                    let home = self.home_of(self.hash(topic));
                    if let Err(way) = self.may_subscribe(home) {
                        return Handled::Room(way);
                    }
                    if !self.unsubscribe(driver, slot, membership) {
                        self.kill(driver, slot);
                        return Handled::Done;
                    }
                }
            }
        } else if self.connections[slot as usize].subscriptions >= self.limits.subscriptions_max {
            let id = Some(token).filter(|token| !token.is_empty());
            self.tell_err(driver, slot, id, ErrCode::TooMany, "too many subscriptions");
            return Handled::Done;
        }
        let wish = Wish { topic, since: since.unwrap_or_default(), conflate, every_ms, counted: false, token };
        match self.subscribe(slot, wish) {
            Outcome::Done => {}
            Outcome::NoRoom(way) => return Handled::Room(way),
            Outcome::Full => {
                let id = Some(token).filter(|token| !token.is_empty());
                self.tell_err(driver, slot, id, ErrCode::Full, "the engine is full");
            }
        }
        Handled::Done
    }

    pub(in crate::shard) fn tell_ok<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: &str,
        cursor: Option<Cursor>,
    ) {
        self.tell(driver, slot, |w| answer::ok(w, token, cursor));
    }

    pub(in crate::shard) fn tell_err<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: Option<&str>,
        code: ErrCode,
        text: &str,
    ) {
        self.tell(driver, slot, |w| answer::err(w, token, code, text));
    }

    /// Puts a line into the connection's queue.
    pub(in crate::shard) fn tell<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        write: impl FnOnce(&mut Writer<'_>),
    ) {
        let mut text = std::mem::take(&mut self.text);
        let written = answer::text_frame(&mut text, write);
        let len = written.expect("the scratch holds the longest line");
        self.push(driver, slot, &text[..len]);
        self.text = text;
    }

    /// Writes a close frame's worth of farewell in the line protocol.
    pub(in crate::shard) fn say_bye<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        if self.connections[slot as usize].is(Session::Line) && !reason.is_empty() {
            self.tell(driver, slot, |w| answer::bye(w, code, reason));
        }
    }
}
