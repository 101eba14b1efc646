//! Sessions: what a peer's messages mean, and how it is told what became of them.
//!
//! ```text
//!   request/   HTTP: publish, poll, value, clear, batch, and how everything else begins
//!   reading    what polls and streams have in common: a plan of topics
//!   poll       the first messages of its topics, in one answer
//!   stream     the messages of its topics, in an answer that goes on and on
//!   line       the line protocol, on `/ws`
//!   raw        payloads of one topic, on `/topics/...`
//!   echo       everything back, on `/echo`
//!
//!   order      what they order, and what all of them share: rights, limits, room in a ring, who is told
//!   right      who may what: asked by every order
//!   served, notice   who was served, and who was refused, in the log
//! ```
//!
//! A session gives [orders](order) and is told *news*, by the verbs below. Messages never pass through it: they are in the frame log,
//! in its dialect. Whoever adds a session adds a file, a row of [`traits`], and a line to the verbs that concern it; what is not said
//! for one is done as for all that come in WebSocket frames.

pub(in crate::shard) mod echo;
pub(in crate::shard) mod entrance;
pub(in crate::shard) mod kinds;
pub(in crate::shard) mod length;
pub(in crate::shard) mod line;
pub(in crate::shard) mod notice;
pub(in crate::shard) mod order;
pub(in crate::shard) mod poll;
pub(in crate::shard) mod raw;
pub(in crate::shard) mod reading;
pub(in crate::shard) mod records;
pub(in crate::shard) mod refuse;
pub(in crate::shard) mod request;
pub(in crate::shard) mod right;
pub(in crate::shard) mod served;
pub(in crate::shard) mod states;
pub(in crate::shard) mod stream;
pub(in crate::shard) mod subscribing;
#[cfg(feature = "telnet")]
pub(in crate::shard) mod telnet;
pub(in crate::shard) mod traits;

use corecast_protocol::cursor::Cursor;
use corecast_protocol::dialect::line as answer;
use corecast_protocol::message::Gap;
use corecast_protocol::places::TEXT_BYTES_MAX;

use crate::io::driver::{Driver, Slot};
use crate::io::memory::Span;
use crate::mesh::{Content, Lost, Reason, Stretch};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::dialect::Shape;
use crate::shard::refusal::Refusal;
use crate::shard::session::kinds::Kind;
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::{Active, Life, Waiting};
use crate::shard::slot::wait::{Outcome, Told};
use crate::shard::work::REQUEST_NS;

/// What operators call connections, by what they are.
pub const KINDS: [&str; 10] = [
    Kind::Http.name(),
    Kind::LongPoll.name(),
    Kind::Raw.name(),
    Kind::Line.name(),
    Kind::Echo.name(),
    Kind::Sse.name(),
    Kind::Ndjson.name(),
    Kind::Multipart.name(),
    Kind::ForeverFrame.name(),
    Kind::Closing.name(),
];

/// What a peer says.
impl Shard {
    /// Takes the next piece of what a connection sent, which is open; returns the bytes used, 0 if more are needed.
    pub(in crate::shard) fn understand<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> usize {
        match self.slots.connections[slot as usize].session {
            Session::Request => {
                self.work.spend(REQUEST_NS);
                self.http(driver, slot, bytes)
            }
            Session::Poll => 0, // The next request waits for the answer to this one.
            Session::Stream => bytes.len(),
            #[cfg(feature = "telnet")]
            Session::Telnet => self.telnet(driver, slot, bytes),
            _ => self.frames(driver, slot, bytes),
        }
    }

    /// Handles a whole message that a carrier has unpacked.
    pub(in crate::shard) fn handle_message<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        text: bool,
        bytes: &mut [u8],
    ) -> Outcome {
        match self.slots.connections[slot as usize].session {
            Session::Raw => self.publish_payload(driver, slot, text, bytes),
            Session::Line => self.command(driver, slot, bytes),
            Session::Echo => self.echo(driver, slot, text, bytes),
            _ => Outcome::Done, // It has no carrier but its bytes.
        }
    }

    /// Goes on with what stands complete and had to wait.
    pub(in crate::shard) fn resume<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.slots.connections[slot as usize].session {
            Session::Request => self.resume_request(driver, slot),
            Session::Poll | Session::Stream => self.subscribe_step(driver, slot),
            #[cfg(feature = "telnet")]
            Session::Telnet => self.resume_telnet(driver, slot),
            _ => self.resume_message(driver, slot),
        }
    }

    /// The peer of an open connection ended its direction: it is gone, or has asked for everything and waits for what is due.
    pub(in crate::shard) fn ended<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let session = self.slots.connections[slot as usize].session;
        let Some(active) = self.slots.active_if_any(slot) else {
            // A stream may have to be sent what is there.
            match session {
                Session::Stream => self.slots.make_ready(slot),
                _ => self.kill(driver, slot),
            }
            return;
        };
        let works = active.is_at_work();
        match session {
            // Nobody knows whether it still waits for a message that has not been published: it is told that there is none.
            Session::Poll if self.is_polling(slot) => self.answer_poll(driver, slot),
            Session::Request | Session::Poll | Session::Stream => self.slots.make_ready(slot),
            _ if works || self.slots.is_closing(slot) => self.slots.make_ready(slot),
            _ => self.kill(driver, slot),
        }
    }

    /// The same was seen of a connection that is not read: it may have said something more before. But a message that has not been
    /// published yet is not waited for.
    pub(in crate::shard) fn ends<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.is_polling(slot) {
            self.answer_poll(driver, slot);
        }
    }
}

/// News: what a session is told.
impl Shard {
    /// A subscription stands, and everything behind `head` will come.
    pub(in crate::shard) fn tell_subscribed<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: &str,
        head: Cursor,
    ) {
        match self.slots.connections[slot as usize].session {
            _ if token.is_empty() => {} // It did not ask.
            Session::Line => self.tell_ok(driver, slot, token, Some(head)),
            #[cfg(feature = "telnet")]
            Session::Telnet => self.telnet_subscribed(driver, slot, token, head),
            _ => {}
        }
    }

    /// A subscription of a pattern stands, and begins at these places.
    pub(in crate::shard) fn tell_pattern_subscribed<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: &str,
        places: &str,
    ) {
        if self.slots.connections[slot as usize].is(Session::Line) {
            self.tell(driver, slot, |w| answer::ok_at(w, token, places));
        }
    }

    /// What there was of the topics of a pattern has come.
    pub(in crate::shard) fn tell_end_of_places<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        pattern: &str,
        places: &str,
    ) {
        match self.slots.connections[slot as usize].session {
            Session::Line => self.tell(driver, slot, |w| answer::end_of_places(w, pattern, places)),
            Session::Stream => self.end_of_places_in_stream(driver, slot, pattern, places),
            _ => {} // Polls say so by their end.
        }
    }

    /// Tells a session that changes a subscription of a pattern that it stands; says false if it is one of a topic.
    pub(in crate::shard) fn tell_pattern_stands<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        token: &str,
    ) -> bool {
        if self.pattern_read_by(subscription).is_none() {
            return false;
        }
        if !token.is_empty() {
            let mut text = [0; TEXT_BYTES_MAX];
            let text = self.places_of(driver, subscription, &mut text);
            self.tell_pattern_subscribed(driver, slot, token, text);
        }
        true
    }

    /// A home has done what was ordered, or refused it; what was ordered silently is told of only if it was refused.
    pub(in crate::shard) fn tell_outcome<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        token: Option<&str>,
        outcome: Result<Told, Reason>,
    ) {
        match self.slots.connections[slot as usize].session {
            Session::Request => self.request_is_done(driver, slot, outcome),
            Session::Line => self.command_is_done(driver, slot, token, outcome),
            Session::Raw => self.payload_is_done(driver, slot, outcome),
            Session::Poll | Session::Stream | Session::Echo => {}
            #[cfg(feature = "telnet")]
            Session::Telnet => self.telnet_is_done(driver, slot, outcome),
        }
    }

    /// A home begins to answer what a session asked for, besides its subscriptions: how many messages come, and what is lost.
    pub(in crate::shard) fn tell_asked<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        head: Cursor,
        stretch: Stretch,
        lost: Option<Lost>,
    ) {
        if self.slots.connections[slot as usize].session == Session::Request {
            self.answer_begins(driver, slot, head, stretch, lost);
        }
    }

    /// One message of such an answer.
    pub(in crate::shard) fn tell_message<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        seq: u64,
        content: Content<'_>,
    ) {
        if self.slots.connections[slot as usize].session == Session::Request {
            self.answer_message(driver, slot, seq, content);
        }
    }

    /// Makes room for a message of a subscription that only this connection is sent, and returns the place; `None` if there is no
    /// memory.
    pub(in crate::shard) fn place_for<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        len: u32,
    ) -> Option<Span> {
        match self.slots.connections[slot as usize].session {
            Session::Poll => {
                let place = self.place_in_answer(driver, slot, len)?;
                self.is_in_answer(slot, subscription);
                Some(place)
            }
            _ => self.place_in_queue(driver, slot, len),
        }
    }

    /// Messages of a subscription are lost, or were passed over.
    pub(in crate::shard) fn tell_gap<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        subscription: u32,
        gap: &Gap<'_>,
    ) {
        self.stats.gaps += 1;
        match self.slots.connections[slot as usize].session {
            Session::Poll => self.gap_in_answer(driver, slot, gap),
            Session::Stream => self.gap_in_stream(driver, slot, gap),
            Session::Line => self.gap_in_lines(driver, slot, gap),
            Session::Raw | Session::Echo => self.gap_in_payloads(driver, slot, subscription, gap),
            Session::Request => {}
            #[cfg(feature = "telnet")]
            Session::Telnet => self.gap_in_telnet(driver, slot, gap),
        }
    }

    /// What there was of a topic with values has come.
    pub(in crate::shard) fn tell_end_of_snapshot<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        topic: &str,
        cursor: Cursor,
    ) {
        match self.slots.connections[slot as usize].session {
            Session::Stream => self.end_of_snapshot_in_stream(driver, slot, topic, cursor),
            Session::Line => self.tell(driver, slot, |w| answer::end_of_snapshot(w, topic, cursor)),
            _ => {} // It has its end, or no word for it.
        }
    }

    /// Says whether a connection that waits for answers goes on, now that a replay of one of its subscriptions is over.
    pub(in crate::shard) fn goes_on_after_replay(&self, slot: Slot) -> bool {
        let replays = self
            .slots
            .actives
            .get(self.slots.connections[slot as usize].active as usize)
            .map_or(0, |active| active.replays);
        match self.slots.connections[slot as usize].session {
            Session::Poll | Session::Stream => replays == 0 && self.is_subscribing(slot),
            Session::Request => false,
            _ => true,
        }
    }

    /// Sends the next of what an open connection reads or asked for; says whether it ordered a send.
    pub(in crate::shard) fn send_news<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        match self.slots.connections[slot as usize].session {
            Session::Request => false,
            Session::Poll => {
                self.collect(driver, slot);
                false
            }
            _ => self.send_subscribed(driver, slot),
        }
    }

    /// The timer of an open connection is over.
    pub(in crate::shard) fn due<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.right_is_over(slot) && !self.slots.is_closing(slot) {
            reach(Mark::GrantExpired);
            self.refuse_connection(driver, slot, Refusal::Expired);
            return;
        }
        match self.slots.connections[slot as usize].session {
            Session::Request => self.expire_request(driver, slot),
            Session::Poll => self.expire_poll(driver, slot),
            Session::Stream => self.expire_stream(driver, slot),
            #[cfg(feature = "telnet")]
            Session::Telnet => self.expire_telnet(driver, slot),
            _ => self.expire_websocket(driver, slot),
        }
    }

    /// What is arriving of a connection takes too much memory for too long: it is given up, and told so.
    pub(in crate::shard) fn give_up<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.slots.connections[slot as usize].session {
            Session::Request if self.is_arriving(slot) => self.give_up_request(driver, slot),
            _ => self.shed(driver, slot),
        }
    }

    /// The engine is asked to finish: an open connection is told, and gets what is due.
    pub(in crate::shard) fn farewell<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.slots.connections[slot as usize].session {
            Session::Request => self.finish_request(driver, slot),
            Session::Poll => self.finish_poll(driver, slot),
            _ => self.refuse_connection(driver, slot, Refusal::Draining),
        }
    }

    /// An operator wants an open connection to end: who reads is told so; who asks has its answer first.
    pub(in crate::shard) fn dismiss<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.slots.connections[slot as usize].session {
            Session::Request => self.finish_request(driver, slot),
            Session::Poll => self.finish_poll(driver, slot),
            _ => self.refuse_connection(driver, slot, Refusal::Disconnected),
        }
    }

    /// A WebSocket is closed: what its session says before the close frame.
    pub(in crate::shard) fn last_words<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        if self.slots.connections[slot as usize].is(Session::Line) {
            self.say_bye(driver, slot, code, reason);
        }
    }
}

/// What the rest of the shard asks of a session.
impl Shard {
    /// Says whether a peer that has ended its direction has all that it asked for, so that the connection ends.
    pub(in crate::shard) fn is_done(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        let active: Option<&Active> = self.slots.actives.get(connection.active as usize);
        connection.ended
            && connection.life == Life::Open
            && match connection.session {
                Session::Request => active.is_none_or(|active| active.waiting == Waiting::No),
                Session::Poll | Session::Stream => false,
                _ => active.is_none_or(|active| !active.is_at_work()),
            }
    }

    /// Returns the memory that a session holds for what it is in the middle of, in bytes.
    #[must_use]
    pub(in crate::shard) fn state_bytes(&self, slot: Slot) -> u64 {
        match self.slots.connections[slot as usize].session {
            Session::Request => self.exchange_if_any(slot).map_or(0, |exchange| exchange.block_bytes()),
            Session::Poll | Session::Stream => self.reading_if_any(slot).map_or(0, |reading| reading.block_bytes()),
            _ => 0,
        }
    }

    /// Forgets what a session is in the middle of: its connection ends, or becomes another's.
    pub(in crate::shard) fn forget_state(&mut self, slot: Slot) {
        match self.slots.connections[slot as usize].session {
            Session::Request => self.end_exchange(slot),
            Session::Poll | Session::Stream => self.end_reading(slot),
            _ => {}
        }
    }

    /// Returns what a connection is.
    #[must_use]
    pub(in crate::shard) fn kind_of(&self, slot: Slot) -> Kind {
        let connection = &self.slots.connections[slot as usize];
        match (connection.life, connection.session) {
            (Life::Free, _) => Kind::Nobody,
            (Life::Open, Session::Request) => Kind::Http,
            (Life::Open, Session::Poll) => Kind::LongPoll,
            (Life::Open, Session::Raw) => Kind::Raw,
            (Life::Open, Session::Line) => Kind::Line,
            (Life::Open, Session::Echo) => Kind::Echo,
            #[cfg(feature = "telnet")]
            (Life::Open, Session::Telnet) => Kind::Line,
            (Life::Open, Session::Stream) => match connection.dialect.shape {
                Shape::Ndjson => Kind::Ndjson,
                Shape::Multipart => Kind::Multipart,
                Shape::ForeverFrame => Kind::ForeverFrame,
                _ => Kind::Sse,
            },
            _ => Kind::Closing,
        }
    }

    /// Counts a connection as what it is, and no more as what it was counted as before.
    pub(in crate::shard) fn recount_kind(&mut self, slot: Slot) {
        let kind = self.kind_of(slot);
        let before = std::mem::replace(&mut self.slots.connections[slot as usize].kind, kind);
        if before == kind {
            return;
        }
        if let Some(counter) = before.counter(&mut self.stats) {
            *counter -= 1;
        }
        if let Some(counter) = kind.counter(&mut self.stats) {
            *counter += 1;
        }
    }
}
