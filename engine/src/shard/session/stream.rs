//! Streams over HTTP: an answer that goes on and on, in a dialect of its own. A stream is a subscriber like a WebSocket.
//!
//! Its head leaves first, so that a client and the proxies before it know at once that it stands.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::dialect::{forever_frame, multipart, ndjson, places, sse};
use corecast_protocol::http::head::{Method, Request};
use corecast_protocol::http::{gzip, prefer, response};
use corecast_protocol::json;
use corecast_protocol::message::Gap;
use corecast_protocol::write::Writer;

use crate::io::driver::{Driver, Slot};
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::dialect::{Coding, Dialect, Shape};
use crate::shard::memory::wheel::TICK_MS;
use crate::shard::refusal::Refusal;
use crate::shard::session::reading::CURSORS_BYTES_MAX;
use crate::shard::session::request::answer::Answer;
use crate::shard::session::subscribing::callback_of;
use crate::shard::session::traits::Session;
use crate::shard::topic::topics::{NONE, REPLAYING, UNRESOLVED};

/// How long an EventSource waits before it comes back: at least so long, and up to so much more, in milliseconds.
const RETRY_MS_MIN: u32 = 1_500;
const RETRY_MS_SPREAD: u64 = 3_000;

/// Some proxies and virus scanners hold back a stream until so many bytes have come.
const PADDING_BYTES: usize = 2_048;

/// Time of a stream's second sign of life after its first, in milliseconds.
const SECOND_SIGN_MS: u64 = 100;

impl Shard {
    /// Sends the head of a stream, and subscribes the first topic of its plan.
    pub(in crate::shard) fn begin_stream<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        shape: Shape,
    ) {
        let content_type = match shape {
            _ if shape.is_sse() => sse::CONTENT_TYPE,
            Shape::Ndjson => "application/x-ndjson",
            Shape::Multipart => multipart::CONTENT_TYPE,
            Shape::ForeverFrame => "text/html; charset=utf-8",
            _ => return,
        };
        let bare = request.http10 || request.method == Method::Head;
        let framing = if bare { response::Framing::Close } else { response::Framing::Chunked };
        // The connection ends with the stream. Who keeps connections, as proxies do, must not send another request on this one.
        self.exchange(slot).pending.keep_alive = false;
        let packs = self.limits.compress_from.is_some();
        let coding = match bare {
            true => Coding::Plain,
            false if packs && prefer::accepts_gzip(request.headers.accept_encoding) => Coding::Gzip,
            false => Coding::Chunked,
        };
        let policy = std::mem::take(&mut self.frame_policy);
        let vary = ("Vary", "Accept-Encoding");
        let (gzip, frames) = (("Content-Encoding", "gzip"), ("Content-Security-Policy", policy.as_str()));
        let extra: &[_] = match (coding, shape) {
            (Coding::Gzip, Shape::ForeverFrame) => &[vary, gzip, frames],
            (Coding::Gzip, _) => &[vary, gzip],
            (_, Shape::ForeverFrame) => &[vary, frames],
            _ => &[vary],
        };
        self.answer_head(driver, slot, Answer { status: 200, content_type: Some(content_type), extra }, framing);
        self.frame_policy = policy;
        if !self.is_http(slot) {
            return; // No memory for the head: the connection is gone, and must not become a stream.
        }
        if request.method == Method::Head {
            self.note_answer(slot, 200, 0);
            self.end_after_answer(slot);
            return;
        }
        self.become_reading(slot, Session::Stream);
        let connection = &mut self.slots.connections[slot as usize];
        connection.dialect = Dialect::new(shape, coding);
        connection.opened_tick = self.clock.tick;
        self.recount_kind(slot);
        self.note_begin(slot, 200);
        let mut callback = [0; 64];
        let callback = callback_of(request, &mut callback);
        if coding == Coding::Gzip {
            let mut start = [0; 32];
            let len = response::chunk(&mut start, gzip::START.len(), |out| out.copy_from_slice(&gzip::START));
            self.push(driver, slot, &start[..len]);
        }
        // Streams that end together, when the engine is restarted, shall not all come back together.
        let retry_ms = RETRY_MS_MIN + (crate::shard::random::random(&mut self.random) % RETRY_MS_SPREAD) as u32;
        self.say(driver, slot, |w| match shape {
            _ if shape.is_sse() => {
                sse::retry(w, retry_ms);
                sse::padding(w, PADDING_BYTES);
            }
            Shape::ForeverFrame => {
                let callback = if callback.is_empty() { json::DEFAULT_CALLBACK } else { callback };
                forever_frame::prologue(w, callback);
            }
            Shape::Multipart => w.put(multipart::PROLOGUE),
            _ => w.put(ndjson::HEARTBEAT),
        });
        if !self.slots.connections[slot as usize].is(Session::Stream) {
            return;
        }
        // A second sign of life: some scanners let the first pass only when the second has come.
        self.timers.wheel.set(slot, self.clock.tick, SECOND_SIGN_MS);
        self.watch_right(slot);
        self.subscribe_step(driver, slot);
    }

    /// Brings the combined cursor of an EventSource with several topics up to date, if it is known for all of them.
    pub(in crate::shard) fn tell_cursors<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let connection = &self.slots.connections[slot as usize];
        if connection.dialect.shape.is_shared() {
            let mut subscription = connection.first;
            while subscription != NONE {
                if self.topics.subscriber(subscription).flags & UNRESOLVED != 0 {
                    return; // Where it starts is not known yet; the cursor stays due.
                }
                subscription = self.topics.subscriptions[subscription as usize].next;
            }
            if self.is_subscribing(slot) {
                return; // Some of its topics are not subscribed yet.
            }
            let mut cursors = [0; CURSORS_BYTES_MAX];
            let cursors = self.cursors(driver, slot, &mut cursors);
            self.say(driver, slot, |w| sse::id_only(w, cursors));
            // Of many topics with small messages, it is most of what is sent.
            self.lengthen(slot, NONE, cursors.len() as i64);
        }
        self.slots.connections[slot as usize].cursor_due = false;
    }

    /// Puts text of a stream's own into its queue, in the framing of its dialect.
    pub(in crate::shard) fn say<D: Driver>(&mut self, driver: &mut D, slot: Slot, write: impl FnOnce(&mut Writer<'_>)) {
        let coding = self.slots.connections[slot as usize].dialect.coding;
        let mut text = std::mem::take(&mut self.scratch.text);
        let written = response::piece(&mut text, coding == Coding::Chunked, write);
        let len = written.expect("the scratch holds the longest line");
        if coding == Coding::Gzip && len > 0 {
            let mut encoder = std::mem::take(&mut self.encoder);
            self.push(driver, slot, encoder.told(&text[..len]));
            self.encoder = encoder;
        } else {
            self.push(driver, slot, &text[..len]);
        }
        self.scratch.text = text;
    }

    /// Tells a stream of a gap.
    pub(in crate::shard) fn gap_in_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot, gap: &Gap<'_>) {
        let shape = self.slots.connections[slot as usize].dialect.shape;
        self.say(driver, slot, |w| match shape {
            Shape::Sse | Shape::SseEnveloped => sse::gap(w, gap),
            Shape::SseShared | Shape::SseSharedEnveloped => sse::gap_without_id(w, gap),
            Shape::Ndjson => ndjson::gap(w, gap),
            Shape::Multipart => multipart::gap(w, gap),
            Shape::ForeverFrame => forever_frame::gap(w, gap),
            Shape::Line | Shape::Payload | Shape::Object => {}
        });
        self.slots.connections[slot as usize].cursor_due |= shape.is_shared();
    }

    /// Tells a stream that what there was of a topic has come.
    pub(in crate::shard) fn end_of_snapshot_in_stream<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        topic: &str,
        cursor: Cursor,
    ) {
        let shape = self.slots.connections[slot as usize].dialect.shape;
        self.say(driver, slot, |w| match shape {
            _ if shape.is_sse() => sse::end_of_snapshot(w, topic, cursor),
            Shape::Ndjson => ndjson::end_of_snapshot(w, topic, cursor),
            Shape::Multipart => multipart::end_of_snapshot(w, topic, cursor),
            Shape::ForeverFrame => forever_frame::end_of_snapshot(w, topic, cursor),
            _ => {}
        });
    }

    /// Tells a stream that what there was of the topics of a pattern has come.
    pub(in crate::shard) fn end_of_places_in_stream<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        pattern: &str,
        at: &str,
    ) {
        let shape = self.slots.connections[slot as usize].dialect.shape;
        self.say(driver, slot, |w| match shape {
            _ if shape.is_sse() => places::sse(w, pattern, at),
            Shape::Ndjson => places::ndjson(w, pattern, at),
            Shape::Multipart => places::multipart(w, pattern, at),
            Shape::ForeverFrame => places::forever_frame(w, pattern, at),
            _ => {}
        });
        self.slots.connections[slot as usize].cursor_due |= shape.is_shared();
    }

    /// A sign of life, in the way of the dialect.
    pub(in crate::shard) fn heartbeat<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let shape = self.slots.connections[slot as usize].dialect.shape;
        self.say(driver, slot, |w| match shape {
            _ if shape.is_sse() => w.put(sse::HEARTBEAT),
            Shape::ForeverFrame => w.put(forever_frame::HEARTBEAT),
            Shape::Ndjson => w.put(ndjson::HEARTBEAT),
            Shape::Multipart => w.put(multipart::HEARTBEAT),
            _ => {}
        });
    }

    /// Ends a stream in order: what was begun is completed, and the client knows that it has everything so far.
    pub(in crate::shard) fn end_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.complete_stream(driver, slot) {
            self.close_stream(driver, slot);
        }
    }

    /// Ends a stream in order that is refused, and says why behind all else: nothing but the end follows. An EventSource is told when to
    /// come back in the way that it does by itself.
    pub(in crate::shard) fn refuse_stream<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        refusal: Refusal,
        text: &str,
        after_s: Option<u32>,
    ) {
        let row = refusal.row();
        debug_assert!(row.event, "what refuses streams has an event, and {} has none", row.name);
        if !self.complete_stream(driver, slot) {
            return;
        }
        let shape = self.slots.connections[slot as usize].dialect.shape;
        self.say(driver, slot, |w| match shape {
            _ if shape.is_sse() => {
                if let Some(after_s) = after_s {
                    sse::retry(w, after_s * 1000);
                }
                sse::refused(w, row.name, text);
            }
            Shape::Ndjson => ndjson::refused(w, row.name, text),
            Shape::Multipart => multipart::refused(w, row.name, text),
            Shape::ForeverFrame => forever_frame::refused(w, row.name, text),
            _ => {}
        });
        self.close_stream(driver, slot);
    }

    /// Completes what was begun, and ends the subscriptions of a stream that is to end; says false if there is nothing to end any more.
    #[must_use]
    fn complete_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) -> bool {
        if self.slots.is_closing(slot) {
            return false;
        }
        let complete = self.unsubscribe_in_order(driver, slot);
        if !complete {
            self.kill(driver, slot);
        }
        complete
    }

    /// Says the end of a stream, and waits until it was sent.
    fn close_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.slots.connections[slot as usize].dialect.shape == Shape::Multipart {
            self.say(driver, slot, |w| w.put(multipart::END));
        }
        if self.slots.connections[slot as usize].dialect.chunked() {
            self.push(driver, slot, response::LAST_CHUNK);
        }
        if self.slots.connections[slot as usize].is(Session::Stream) {
            self.end_reading(slot);
            let active = self.active(slot);
            active.complete = false;
            active.closing = true;
            self.access.ends_with(slot, 200);
            self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
            self.slots.make_ready(slot);
        }
    }

    /// A stream has been silent, or is old.
    pub(in crate::shard) fn expire_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.slots.is_closing(slot) {
            self.expire_farewell(driver, slot);
            return;
        }
        let connection = &self.slots.connections[slot as usize];
        let age_ms = u64::from(self.clock.tick - connection.opened_tick) * TICK_MS;
        if age_ms >= self.limits.stream_ms {
            // The client comes back with its cursor: memory of proxies and browsers does not grow without end.
            reach(Mark::OldStream);
            self.end_stream(driver, slot);
            return;
        }
        // The first time comes soon after the beginning: the second sign of life.
        self.heartbeat(driver, slot);
        if !self.slots.connections[slot as usize].is(Session::Stream) {
            return;
        }
        let after_ms = self.limits.ping_ms.min(self.limits.stream_ms.saturating_sub(age_ms).max(TICK_MS));
        let after_ms = self.with_jitter(after_ms);
        self.timers.wheel.set(slot, self.clock.tick, after_ms);
        self.watch_right(slot);
    }

    /// Says whether a stream whose peer has ended its direction was sent everything there is: what is still to be published is not due.
    pub(in crate::shard) fn is_over(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        let mut over = connection.ended && connection.is(Session::Stream) && !self.slots.is_closing(slot);
        if let Some(active) = self.slots.actives.get(connection.active as usize) {
            over &= active.queue.is_empty() && active.replays == 0;
        }
        over = over && !self.is_subscribing(slot);
        let mut subscription = connection.first;
        while over && subscription != NONE {
            over = self.topics.subscriber(subscription).flags & (UNRESOLVED | REPLAYING) == 0;
            subscription = self.topics.subscriptions[subscription as usize].next;
        }
        over
    }
}
