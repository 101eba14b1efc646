//! The line protocol: commands in, and the short answers back.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::dialect::line as answer;
use corecast_protocol::http::credential::Credential;
use corecast_protocol::line::{self, Command, ErrCode};
use corecast_protocol::message::Gap;
use corecast_protocol::topic::TOPIC_BYTES_MAX;
use corecast_protocol::write::Writer;

use crate::grant::Action;
use crate::io::driver::{Driver, Slot};
use crate::mesh::{Asker, Content, Reason};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::carrier::websocket::is_utf8;
use crate::shard::grant::recognize::Recognized;
use crate::shard::pattern::reading::wrong_wish;
use crate::shard::refusal::Refusal;
use crate::shard::session::order::Order;
use crate::shard::session::refuse::{WORDS_BYTES_MAX, words_of};
use crate::shard::session::right::Says;
use crate::shard::slot::wait::{Outcome, Told, Wait};
use crate::shard::topic::subscribe::{Wanted, Wish};
use crate::shard::topic::topics::{NONE, Subscription, UNRESOLVED};
use crate::shard::work::PIECE_NS;

impl Shard {
    /// Handles a command.
    pub(in crate::shard) fn command<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> Outcome {
        // A percent-encoded topic is decoded where it stands; the message must stay as it came, should it have to wait.
        let head = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        if bytes[..head].contains(&b'%') {
            let mut copy = bytes.to_vec();
            return self.parsed_command(driver, slot, &mut copy);
        }
        self.parsed_command(driver, slot, bytes)
    }

    fn parsed_command<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> Outcome {
        let (outcome, id, about) = match line::parse(bytes) {
            Ok(Command::Sub { .. }) if self.frozen && self.is_draining() => {
                // The topic may be a new one, whose first life is another process's to begin.
                self.farewell(driver, slot);
                return Outcome::Done;
            }
            Ok(Command::Sub { topic, since, places, conflate, every_ms, view, pace, id }) => {
                if let Some(text) = wrong_wish(
                    topic,
                    since,
                    places.is_some(),
                    conflate,
                    every_ms,
                    view == line::View::default() && pace == line::Pace::default(),
                ) {
                    self.tell_err(driver, slot, id, ErrCode::BadCommand, text);
                    return Outcome::Done;
                }
                if !self.may_replay(slot, if places.is_some() { Since::Earliest } else { since.unwrap_or_default() }) {
                    return Outcome::Wait(Wait::Answer);
                }
                let view = match self.topics.views.hold(&view) {
                    Ok(view) => view,
                    Err(wrong) => {
                        self.tell_err(driver, slot, id, ErrCode::BadCommand, &wrong.to_string());
                        return Outcome::Done;
                    }
                };
                let manner = self.manner(topic, Wanted { conflate, every_ms, pace });
                let wish = Wish { topic, since, places, manner, view, counted: false, token: id.unwrap_or("") };
                let outcome = self.order_subscription(driver, slot, wish);
                self.topics.views.release(view);
                (outcome, id, topic)
            }
            Ok(Command::Unsub { topic, id }) => {
                let outcome = self.order_unsubscription(driver, slot, topic);
                if let (Outcome::Done, Some(token)) = (outcome, id) {
                    self.tell_ok(driver, slot, token, None);
                }
                (outcome, id, topic)
            }
            Ok(Command::Pub { topic, event, key, op, produced, id, payload }) => {
                let (event, key) = (event.unwrap_or(""), key.unwrap_or(""));
                let content = Content { event, text: is_utf8(payload), payload, key, ..Default::default() };
                let asker = if id.is_some() { Asker::Connection } else { Asker::Nobody };
                let token = id.unwrap_or("");
                let numbered = produced.map(|produced| self.numbered(slot, topic, produced));
                let order = Order::Publish { topic, content, op, expected: None, numbered, asker, token };
                (self.order(slot, order), id, topic)
            }
            Ok(Command::Auth { credential, id }) => (self.authenticate(driver, slot, credential, id), id, ""),
            Ok(Command::Set { bandwidth, id }) => {
                self.set_bandwidth(driver, slot, bandwidth);
                if let Some(token) = id {
                    self.tell_ok(driver, slot, token, None);
                }
                return Outcome::Done;
            }
            Ok(Command::Stat { token }) => {
                let stat = self.stat_of(driver, slot);
                self.tell(driver, slot, |w| answer::stat(w, token, stat));
                return Outcome::Done;
            }
            Ok(Command::Ping { token }) => {
                self.tell(driver, slot, |w| answer::pong(w, token));
                return Outcome::Done;
            }
            Err(error) => {
                self.tell_err(driver, slot, error.token, error.code, error.text);
                return Outcome::Done;
            }
        };
        if let Outcome::Refused(refusal) = outcome {
            self.refuse_command(driver, slot, id, refusal, about);
            if refusal == Refusal::Draining && self.is_draining() {
                // Whoever takes it over takes it: there is nothing to stay here for.
                self.farewell(driver, slot);
            }
        }
        outcome
    }

    /// Believes what a connection shows, or says why not; what it was given before is over then, or goes on.
    fn authenticate<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        credential: Credential<'_>,
        id: Option<&str>,
    ) -> Outcome {
        if self.has_unsettled(slot) {
            // Their answers come first: they may be the ones that end.
            reach(Mark::RenewalWaits);
            return Outcome::Wait(Wait::Answer);
        }
        match self.believe(slot, credential.kind, credential.secret) {
            Recognized::As(grant) => {
                if !self.renew(driver, slot, grant) {
                    return Outcome::Refused(Refusal::TooMany);
                }
                if let Some(token) = id {
                    self.tell_ok(driver, slot, token, None);
                }
                Outcome::Done
            }
            Recognized::Wait(wait) => Outcome::Wait(wait),
            Recognized::Refused(refusal, text) => {
                self.refused(refusal);
                self.notice(slot, refusal, "", text);
                self.tell_err(driver, slot, id, refusal.row().err.unwrap_or(ErrCode::Unauthorized), text);
                Outcome::Done
            }
        }
    }

    /// Says whether a connection has a subscription of which is still to be told that it stands.
    fn has_unsettled(&self, slot: Slot) -> bool {
        let mut subscription = self.slots.connections[slot as usize].first;
        while subscription != NONE {
            if self.topics.subscriber(subscription).flags & UNRESOLVED != 0 {
                return true;
            }
            subscription = self.topics.subscriptions[subscription as usize].next;
        }
        false
    }

    /// Gives a connection a new grant, for what it has subscribed too: subscriptions that it does not give end, and each is named. Says
    /// false, and changes nothing, if its subject has as much as it may.
    ///
    /// The hook is not asked about them, which would take as many verdicts: to one and the same it has said yes, and others subscribe again.
    fn renew<D: Driver>(&mut self, driver: &mut D, slot: Slot, grant: u32) -> bool {
        let still_the_same = self.are_of_one(self.grant_of(slot), grant);
        self.departs_all(slot);
        let given = self.give(slot, grant);
        self.arrives_all(slot);
        if !given {
            return false;
        }
        let mut subscription = self.slots.connections[slot as usize].first;
        while subscription != NONE {
            let Subscription { log, next, .. } = self.topics.subscriptions[subscription as usize];
            let mut room = [0; TOPIC_BYTES_MAX];
            let name = self.topics.name(self.topics.logs[log as usize].topic).text.as_bytes();
            let topic = &mut room[..name.len()];
            topic.copy_from_slice(name);
            let topic = std::str::from_utf8(topic).expect("topics are text");
            self.work.spend(PIECE_NS);
            let may_not = match self.rules_say(slot, Action::Subscribe, topic) {
                Ok(Says::AskHook) if !still_the_same => Some(Refusal::Forbidden),
                says => says.err(),
            };
            if let Some(refusal) = may_not {
                reach(Mark::RightLost);
                self.refused(refusal);
                self.notice(slot, refusal, topic, refusal.row().text);
                if !self.unsubscribe(driver, slot, subscription) {
                    self.kill(driver, slot);
                    return true;
                }
                self.tell(driver, slot, |w| answer::ended(w, topic, ErrCode::Forbidden));
            }
            subscription = next;
        }
        // What the new one allows of it.
        let bandwidth = self.meter_of(slot).map_or(0, |meter| meter.bandwidth);
        self.begin_meter(driver, slot, Some(bandwidth));
        self.watch_right(slot);
        true
    }

    /// A home has done what a command ordered, or has not.
    pub(in crate::shard) fn command_is_done<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: Option<&str>,
        outcome: Result<Told, Reason>,
    ) {
        match (outcome, token) {
            (Ok(told), Some(token)) if told.repeated => {
                self.tell(driver, slot, |w| answer::ok_again(w, token, told.known()));
            }
            (Ok(told), Some(token)) => self.tell_ok(driver, slot, token, Some(told.cursor)),
            (Ok(_), None) => {}
            (Err(reason), token) => {
                let mut words = [0; WORDS_BYTES_MAX];
                self.refuse_command_because(driver, slot, token, reason.into(), "", words_of(reason, &mut words));
            }
        }
    }

    /// Tells of a gap.
    pub(in crate::shard) fn gap_in_lines<D: Driver>(&mut self, driver: &mut D, slot: Slot, gap: &Gap<'_>) {
        let Gap { topic, from, to, count, reason, of } = *gap;
        self.tell(driver, slot, |w| {
            answer::gap(w, topic, from, to, count, reason);
            if !of.is_empty() {
                answer::gap_of(w, of);
            }
        });
    }

    /// Says that a command is done.
    pub(in crate::shard) fn tell_ok<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: &str,
        cursor: Option<Cursor>,
    ) {
        self.tell(driver, slot, |w| answer::ok(w, token, cursor));
    }

    /// Says why a command is not done.
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
        let mut text = std::mem::take(&mut self.scratch.text);
        let written = answer::text_frame(&mut text, write);
        let len = written.expect("the scratch holds the longest line");
        self.push(driver, slot, &text[..len]);
        self.scratch.text = text;
    }

    /// Writes a close frame's worth of farewell in the line protocol.
    pub(in crate::shard) fn say_bye<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        if !reason.is_empty() {
            self.tell(driver, slot, |w| answer::bye(w, code, reason));
        }
    }
}
