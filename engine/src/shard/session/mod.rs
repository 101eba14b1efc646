//! Sessions: what a peer's messages mean, and how it is told what became of them.
//!
//! ```text
//!   request/   HTTP: publish, poll, value, clear, batch, and how a stream or a WebSocket begins
//!   stream     subscriptions over HTTP, long polls
//!   line       the line protocol, on `/ws`
//!   raw        payloads of one topic, on `/topics/...`; the echo
//!   publish    what all of them share: to the topic's home, and on when there is room again
//! ```

pub(in crate::shard) mod length;
pub(in crate::shard) mod line;
pub(in crate::shard) mod publish;
pub(in crate::shard) mod raw;
pub(in crate::shard) mod request;
pub(in crate::shard) mod stream;

use corecast_protocol::ws::close;

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::carrier::Carrier;
use crate::shard::dialect::Shape;
use crate::shard::slot::connection::{Active, Asked, Life, Waiting};
use crate::shard::work::REQUEST_NS;

/// What the bytes of a connection mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Session {
    /// It waits for a request, or is in the middle of one.
    Request,
    /// An HTTP answer that goes on and on; what the peer sends is thrown away.
    Stream,
    /// A WebSocket of one topic: payloads both ways.
    Raw,
    /// A WebSocket that speaks `corecast.v1`.
    Line,
    /// A WebSocket that gets everything back.
    Echo,
}

/// What the rest of the shard asks of a session without knowing which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Traits {
    /// How its bytes become messages.
    pub(in crate::shard) carrier: Carrier,
    /// It may have subscriptions, and is sent what is new in them.
    pub(in crate::shard) subscribes: bool,
    /// What its peer sends is understood; otherwise it is thrown away.
    pub(in crate::shard) understands: bool,
    /// Its peer says what it wants right after the session has begun.
    pub(in crate::shard) speaks_first: bool,
    /// It can be told of messages that were passed over.
    pub(in crate::shard) is_told_gaps: bool,
}

impl Session {
    /// What every connection begins with.
    pub(in crate::shard) const FIRST: Session = Session::Request;

    /// Returns its row of the table.
    #[must_use]
    pub(in crate::shard) const fn traits(self) -> Traits {
        use Carrier::{Plain, WebSocket};
        let (carrier, subscribes, understands, speaks_first, is_told_gaps) = match self {
            Session::Request => (Plain, false, true, true, true),
            Session::Stream => (Plain, true, false, false, true),
            Session::Raw => (WebSocket, true, true, false, false),
            Session::Line => (WebSocket, true, true, true, true),
            Session::Echo => (WebSocket, true, true, false, true),
        };
        Traits { carrier, subscribes, understands, speaks_first, is_told_gaps }
    }
}

/// The verbs: what happens to every connection, and whose business it is.
impl Shard {
    /// Takes the next piece of what a connection sent, which is open; returns the bytes used, 0 if more are needed.
    pub(in crate::shard) fn understand<D: Driver>(&mut self, driver: &mut D, slot: Slot, bytes: &mut [u8]) -> usize {
        match self.connections[slot as usize].session {
            Session::Request => {
                self.work.spend(REQUEST_NS);
                self.http(driver, slot, bytes)
            }
            Session::Raw | Session::Line | Session::Echo => self.frames(driver, slot, bytes),
            Session::Stream => bytes.len(),
        }
    }

    /// Sends the next of what an open connection reads or asked for; says whether it ordered a send.
    pub(in crate::shard) fn send_news<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        match self.connections[slot as usize].session {
            Session::Request => {
                self.collect(driver, slot);
                false
            }
            _ => self.send_subscribed(driver, slot),
        }
    }

    /// The timer of an open connection is over.
    pub(in crate::shard) fn due<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.connections[slot as usize].session {
            Session::Request => self.expire_request(driver, slot),
            Session::Raw | Session::Line | Session::Echo => self.expire_websocket(driver, slot),
            Session::Stream => self.expire_stream(driver, slot),
        }
    }

    /// The peer of an open connection ended its direction: it is gone, or has asked for everything and waits for what is due.
    pub(in crate::shard) fn ended<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let session = self.connections[slot as usize].session;
        let Some(active) = self.active_if_any(slot) else {
            // A stream may have to be sent what is there.
            match session {
                Session::Stream => self.make_ready(slot),
                _ => self.kill(driver, slot),
            }
            return;
        };
        let (works, polls) = (active.is_at_work(), active.pending.what == Asked::LongPoll);
        match session {
            // Nobody knows whether it still waits for a message that has not been published: it is told that there is none.
            Session::Request if polls => self.answer_long_poll(driver, slot),
            Session::Request | Session::Stream => self.make_ready(slot),
            _ if works || self.is_closing(slot) => self.make_ready(slot),
            _ => self.kill(driver, slot),
        }
    }

    /// Says whether a peer that has ended its direction has all that it asked for, so that the connection ends.
    pub(in crate::shard) fn is_done(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        let active: Option<&Active> = self.actives.get(connection.active as usize);
        connection.ended
            && connection.life == Life::Open
            && match connection.session {
                Session::Request => active.is_none_or(|active| active.waiting == Waiting::No),
                Session::Raw | Session::Line | Session::Echo => active.is_none_or(|active| !active.is_at_work()),
                Session::Stream => false,
            }
    }

    /// Ends a subscriber in order.
    pub(in crate::shard) fn end_subscriber<D: Driver>(&mut self, driver: &mut D, slot: Slot, code: u16, reason: &str) {
        match self.connections[slot as usize].session {
            Session::Stream => self.end_stream(driver, slot),
            _ => self.close_websocket(driver, slot, code, reason),
        }
    }

    /// The engine is asked to finish: an open connection is told, and gets what is due.
    pub(in crate::shard) fn farewell<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        match self.connections[slot as usize].session {
            Session::Request => self.finish_request(driver, slot),
            _ => self.end_subscriber(driver, slot, close::GOING_AWAY, "the engine is shutting down"),
        }
    }

    /// Returns what operators call a connection.
    pub(in crate::shard) fn name_of(&self, slot: Slot) -> &'static str {
        let connection = &self.connections[slot as usize];
        let asked = self.actives.get(connection.active as usize).map_or(Asked::Nothing, |active| active.pending.what);
        match connection.session {
            _ if connection.life != Life::Open => "closing",
            Session::Request if asked == Asked::LongPoll => "long-poll",
            Session::Request => "http",
            Session::Raw => "websocket",
            Session::Line => "line",
            Session::Echo => "echo",
            Session::Stream => match connection.dialect.shape {
                Shape::Stream => "ndjson",
                Shape::Multipart => "multipart",
                Shape::ForeverFrame => "forever-frame",
                _ => "sse",
            },
        }
    }
}
