//! Subscribing over HTTP: streams that stay open, and long polls that wait for one answer.
//!
//! A request names one topic in its path or up to [`TOPICS_MAX`] in its query. Its [plan](crate::shard::session::request::plan) is kept while the
//! topics are subscribed one after another; each needs an answer of its home, and perhaps room in a ring. A stream's
//! head leaves first, so that a client and the proxies before it know at once that it stands.
//!
//! A stream is a subscriber like a WebSocket, in a dialect of its own. A long poll reads its topics' logs into the body
//! of one answer instead, and is then an ordinary HTTP connection again.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::dialect::{forever_frame, line, multipart, sse, stream};
use corecast_protocol::http::etag::Current;
use corecast_protocol::http::head::{Method, Request};
use corecast_protocol::http::{gzip, prefer, query, response};
use corecast_protocol::message::Gap;
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use corecast_protocol::{json, percent, topic};

use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::dialect::{Coding, Dialect, Shape};
use crate::shard::memory::wheel::TICK_MS;
use crate::shard::session::Session;
use crate::shard::session::request::answer::Answer;
use crate::shard::session::request::condition::{Broken, EMPTIED, asks_for_the_remembered};
use crate::shard::session::request::options::Options;
use crate::shard::session::request::plan;
use crate::shard::slot::connection::{Asked, Connection, Pending, Waiting};
use crate::shard::topic::subscribe::{Outcome, Wish};
use crate::shard::topic::topics::{NONE, REPLAYING, UNRESOLVED};

/// Topics of one request at most.
pub(in crate::shard) const TOPICS_MAX: usize = 64;

/// Longest wait of a long poll, and what it waits if it does not say, in seconds.
const WAIT_S_MAX: u32 = 120;
const WAIT_S: u32 = 25;

/// The callback of a script that names none.
const JSONP_CALLBACK: &str = "callback";

/// How long an EventSource waits before it comes back: at least so long, and up to so much more, in milliseconds.
const RETRY_MS_MIN: u32 = 1_500;
const RETRY_MS_SPREAD: u64 = 3_000;

/// Some proxies and virus scanners hold back a stream until so many bytes have come.
const PADDING_BYTES: usize = 2_048;

/// Longest list of cursors: each has at most 29 bytes, and a comma.
pub(in crate::shard) const CURSORS_BYTES_MAX: usize = TOPICS_MAX * (corecast_protocol::cursor::TEXT_BYTES_MAX + 1);

/// How a request wants its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Transport {
    /// The messages after a cursor, at once.
    Poll,
    /// The same, as soon as there is one.
    LongPoll,
    /// The newest payload.
    Value,
    /// The same as `Poll` or `LongPoll`, as a script.
    Jsonp,
    /// A stream in this shape.
    Stream(Shape),
}

/// What is told of a gap.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Told {
    /// Where the subscriber was.
    pub(in crate::shard) from: Cursor,
    /// Where it is now.
    pub(in crate::shard) to: Cursor,
    /// How many messages it did not get.
    pub(in crate::shard) count: u64,
    /// Why.
    pub(in crate::shard) reason: corecast_protocol::line::GapReason,
}

/// Chooses the transport of a request.
pub(in crate::shard) fn transport(request: &Request<'_>) -> Result<Transport, &'static str> {
    let mut value = [0; 32];
    let named = query::value(request.query, "transport").map(|name| percent::decode(name, &mut value, true));
    Ok(match named {
        Some(Ok("poll")) => Transport::Poll,
        Some(Ok("long-poll")) => Transport::LongPoll,
        Some(Ok("value")) => Transport::Value,
        Some(Ok("jsonp")) => Transport::Jsonp,
        Some(Ok("sse")) => Transport::Stream(Shape::Sse),
        Some(Ok("stream")) => Transport::Stream(Shape::Stream),
        Some(Ok("multipart")) => Transport::Stream(Shape::Multipart),
        Some(Ok("forever-frame")) => Transport::Stream(Shape::ForeverFrame),
        Some(Ok("websocket")) => return Err("this transport needs an Upgrade to websocket"),
        Some(_) => {
            return Err(
                "unknown transport; there are websocket, sse, stream, multipart, forever-frame, long-poll, poll, \
                        value and jsonp",
            );
        }
        None if prefer::accepts_event_stream(request.headers.accept) => Transport::Stream(Shape::Sse),
        None => Transport::Poll,
    })
}

impl Shard {
    /// Begins a stream or a long poll with these options: checks its plan, keeps it, sends the head, and subscribes the first topic.
    pub(in crate::shard) fn begin_subscriber<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        path_topic: Option<&str>,
        transport: Transport,
        options: Options,
    ) -> Result<(), &'static str> {
        let mut plan = std::mem::take(&mut self.carried_plan);
        let (query, last_event_id) = (request.query, request.headers.last_event_id);
        let mut room = [0; topic::TOPIC_BYTES_MAX];
        let path_topic = match path_topic.map(|topic| topic::from_path_subscribe(topic, &mut room)) {
            None => None,
            Some(topic) => Some(topic.map_err(|violation| violation.text())?),
        };
        let read = plan::read(&plan::Request { path_topic, query, last_event_id, options }, &mut plan);
        self.work.spend_on(4 * query.len());
        let framed = transport == Transport::Stream(Shape::ForeverFrame);
        let checked = read.and_then(|several| {
            let mut callback = [0; 64];
            let callback = callback_of(request, &mut callback);
            let sound = !framed || callback.is_empty() || json::valid_frame_callback(callback);
            if sound { Ok(several) } else { Err(Violation::BadFrameCallback.text()) }
        });
        let begun = checked.map(|several| {
            self.active(slot);
            let index = self.connections[slot as usize].active as usize;
            let active = &mut self.actives[index];
            active.plan.clear(&mut self.store);
            active.step = 0;
            active.emptied = 0;
            if !active.plan.push(&mut self.store, driver.memory_mut(), &plan) {
                self.answer_full(driver, slot);
                return;
            }
            match transport {
                Transport::Stream(shape) => {
                    let shape = match (shape, several, options.enveloped) {
                        (Shape::Sse, false, true) => Shape::SseEnveloped,
                        (Shape::Sse, true, false) => Shape::SseShared,
                        (Shape::Sse, true, true) => Shape::SseSharedEnveloped,
                        (shape, ..) => shape,
                    };
                    self.begin_stream(driver, slot, request, shape);
                }
                Transport::Poll | Transport::LongPoll | Transport::Value | Transport::Jsonp => {
                    self.begin_long_poll(driver, slot, request, transport, options.wait_s)
                }
            }
        });
        self.carried_plan = plan;
        begun
    }

    fn begin_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot, request: &Request<'_>, shape: Shape) {
        let content_type = match shape {
            _ if shape.is_sse() => sse::CONTENT_TYPE,
            Shape::Stream => "application/x-ndjson",
            Shape::Multipart => multipart::CONTENT_TYPE,
            Shape::ForeverFrame => "text/html; charset=utf-8",
            _ => return,
        };
        let bare = request.http10 || request.method == Method::Head;
        let framing = if bare { response::Framing::Close } else { response::Framing::Chunked };
        // The connection ends with the stream. Who keeps connections, as proxies do, must not send another request on this one.
        self.active(slot).pending.keep_alive = false;
        let index = self.connections[slot as usize].active as usize;
        self.actives[index].conditions.clear(&mut self.store);
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
            self.clear_plan(slot);
            self.end_after_answer(slot);
            return;
        }
        let connection = &mut self.connections[slot as usize];
        connection.session = Session::Stream;
        connection.dialect = Dialect::new(shape, coding);
        connection.opened_tick = self.tick;
        let active = self.active(slot);
        active.pending = Pending { what: Asked::Subscribe, ..Pending::default() };
        let mut callback = [0; 64];
        let callback = callback_of(request, &mut callback);
        if coding == Coding::Gzip {
            let mut start = [0; 32];
            let len = response::chunk(&mut start, gzip::START.len(), |out| out.copy_from_slice(&gzip::START));
            self.push(driver, slot, &start[..len]);
        }
        // Streams that end together, when the engine is restarted, shall not all come back together.
        let retry_ms = RETRY_MS_MIN + (crate::shard::random(&mut self.random) % RETRY_MS_SPREAD) as u32;
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
            _ => w.put(stream::HEARTBEAT),
        });
        if !self.connections[slot as usize].is(Session::Stream) {
            return;
        }
        // A second sign of life: some scanners let the first pass only when the second has come.
        self.wheel.set(slot, self.tick, SECOND_SIGN_MS);
        self.subscribe_step(driver, slot);
    }

    fn begin_long_poll<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        transport: Transport,
        wait_s: Option<u32>,
    ) {
        let mut callback = [0; 64];
        let callback = match callback_of(request, &mut callback) {
            _ if transport != Transport::Jsonp => "",
            "" => JSONP_CALLBACK,
            named => named,
        };
        if !self.name(driver, slot, "", callback) {
            return;
        }
        let wait_s = wait_s.or_else(|| prefer::wait_s(request.headers.prefer));
        let wait_s = wait_s.unwrap_or(if transport == Transport::Jsonp { 0 } else { WAIT_S }).min(WAIT_S_MAX);
        let connection = &mut self.connections[slot as usize];
        connection.dialect = Dialect::new(Shape::Object, Coding::Plain);
        let active = self.active(slot);
        active.transport = transport;
        active.wait_ms = if transport == Transport::Poll { 0 } else { u64::from(wait_s) * 1000 };
        active.pending.what = Asked::Subscribe;
    }

    /// Subscribes the next topic of the plan, as far as answers and rings allow; what has to wait comes back here.
    pub(in crate::shard) fn subscribe_step<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut plan = std::mem::take(&mut self.carried_plan);
        while let Some(active) = self.active_if_any(slot) {
            let (span, order, replays) = (active.plan.span(), active.step, active.replays);
            plan.clear();
            plan.extend_from_slice(driver.memory().bytes(span.part(0, span.len.min(plan::RECORD_BYTES_MAX))));
            let Some(step) = plan::first(&plan) else {
                if replays == 0 {
                    self.subscribed(driver, slot);
                } else {
                    // What there is of each comes first.
                    let active = self.active(slot);
                    active.waiting = Waiting::Answer;
                    active.complete = true;
                }
                break;
            };
            let plan::Step { topic, since, conflate, every_ms, counted, len } = step;
            match self.subscribe(slot, Wish { topic, since, conflate, every_ms, counted, token: "" }) {
                Outcome::Done => {
                    let first = self.connections[slot as usize].first;
                    self.topics.memberships[first as usize].order = order;
                    let active = self.active(slot);
                    active.plan.consume(len as u32);
                    active.step += 1;
                    // Until there is a message of it.
                    active.emptied |= u64::from(asks_for_the_remembered(since)) << order;
                }
                Outcome::NoRoom(way) => {
                    self.park(slot, way);
                    self.active(slot).complete = true;
                    break;
                }
                Outcome::Full if self.connections[slot as usize].is(Session::Stream) => {
                    self.end_stream(driver, slot);
                    break;
                }
                Outcome::Full => {
                    self.refuse_subscriber(driver, slot);
                    break;
                }
            }
        }
        self.carried_plan = plan;
    }

    /// All topics of the plan are subscribed, and what there was of them is queued.
    fn subscribed<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Connection { session, ended, ends, .. } = self.connections[slot as usize];
        let streams = session == Session::Stream;
        self.clear_plan(slot);
        let active = self.active(slot);
        if streams {
            active.pending = Pending::default();
            active.waiting = Waiting::No;
        } else {
            active.pending.what = Asked::LongPoll;
            active.waiting = Waiting::Answer;
            let wait_ms = active.wait_ms;
            self.wheel.set(slot, self.tick, wait_ms);
            // A peer that has ended its direction waits for no message that is still to come.
            if wait_ms == 0 || self.draining || ended || ends {
                self.answer_long_poll(driver, slot);
                return;
            }
        }
        self.make_ready(slot);
    }

    fn clear_plan(&mut self, slot: Slot) {
        let index = self.connections[slot as usize].active as usize;
        if let Some(active) = self.actives.get_mut(index) {
            active.plan.clear(&mut self.store);
        }
    }

    /// Reads what is new in the logs of a long poll into its answer, and answers if there is anything.
    pub(in crate::shard) fn collect<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut fits = true;
        let mut membership = self.connections[slot as usize].first;
        while membership != NONE {
            let following = self.topics.memberships[membership as usize].next;
            let subscriber = *self.topics.subscriber(membership);
            let log = &self.topics.logs[self.topics.memberships[membership as usize].log as usize];
            let (first, next) = (log.chain.first(), log.chain.next());
            if subscriber.flags & UNRESOLVED != 0 || subscriber.next >= next {
                // Nothing of it yet.
            } else if subscriber.flags & REPLAYING != 0 || subscriber.next < first {
                if subscriber.next < first {
                    self.lag(membership);
                }
                let _ = self.want_more(slot, membership);
            } else {
                for seq in subscriber.next..next {
                    let log = &self.topics.logs[self.topics.memberships[membership as usize].log as usize];
                    let object = log.chain.record(&self.store, driver.memory(), seq);
                    if !self.add_object(driver, slot, object.len, |memory, place| {
                        memory.copy(object, place, object.len);
                    }) {
                        fits = false;
                        break;
                    }
                    self.is_in_answer(slot, membership);
                    self.pass(membership);
                }
            }
            membership = following;
        }
        let Some(active) = self.active_if_any(slot) else { return };
        if active.pending.what != Asked::LongPoll || active.replays > 0 {
            return;
        }
        if !active.body.is_empty() {
            self.answer_long_poll(driver, slot);
        } else if !fits {
            // There is a message, and nothing would look at it again before the wait is over.
            self.refuse_subscriber(driver, slot);
        }
    }

    /// Answers a poll that there is no memory for.
    fn refuse_subscriber<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.unsubscribe_all(slot);
        self.clear_plan(slot);
        self.answer_full(driver, slot);
        self.request_ends_and_goes_on(driver, slot);
    }

    /// Adds an object to the answer of a long poll; says false if there is no memory, or the answer is long enough.
    pub(in crate::shard) fn add_object<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        len: u32,
        write: impl FnOnce(&mut crate::io::memory::Memory, crate::io::memory::Span),
    ) -> bool {
        let index = self.connections[slot as usize].active as usize;
        let active = &mut self.actives[index];
        let comma = u32::from(!active.body.is_empty());
        let memory = driver.memory_mut();
        let Some(place) = active.body.reserve(&mut self.store, memory, len + comma) else { return false };
        memory.bytes_mut(place.part(0, comma)).fill(b',');
        write(memory, place.part(comma, len));
        true
    }

    /// Answers a long poll with what it has; with nothing, when its time is over.
    pub(in crate::shard) fn answer_long_poll<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut cursors = [0; CURSORS_BYTES_MAX];
        let cursors = self.cursors(slot, &mut cursors).to_owned();
        let index = self.connections[slot as usize].active as usize;
        let tag = self.tag(slot, &cursors);
        let span = self.actives[index].body.span();
        let mut body = vec![b'['];
        body.extend_from_slice(driver.memory().bytes(span));
        body.push(b']');
        const GAP: &[u8] = b"{\"gap\":";
        let gap = body.windows(GAP.len()).any(|bytes| bytes == GAP);
        let broken = match self.actives[index].transport {
            Transport::Poll => {
                self.broken_condition(driver, slot, Current { tag: tag.as_bytes(), exists: body != b"[]" })
            }
            _ => None,
        };
        self.unsubscribe_all(slot);
        self.connections[slot as usize].session = Session::Request;
        let active = &mut self.actives[index];
        active.body.clear(&mut self.store);
        active.plan.clear(&mut self.store);
        active.pending.what = Asked::Poll;
        match broken {
            Some(Broken::Match) => self.answer_failed_condition(driver, slot),
            broken => self.answer_list(driver, slot, (&cursors, &tag), &body, broken.is_some() && !gap),
        }
        self.request_ends_and_goes_on(driver, slot);
    }

    /// Notes that a message of a topic is in the answer.
    pub(in crate::shard) fn is_in_answer(&mut self, slot: Slot, membership: u32) {
        let place = self.topics.memberships[membership as usize].order;
        if let Some(active) = self.active_if_any(slot) {
            active.emptied &= !(1 << place);
        }
    }

    /// Makes the entity tag of an answer that ends at these cursors.
    fn tag(&self, slot: Slot, cursors: &str) -> String {
        let active = &self.actives[self.connections[slot as usize].active as usize];
        let mut tag = String::with_capacity(cursors.len());
        for (place, cursor) in cursors.split(',').enumerate() {
            if place > 0 {
                tag.push(',');
            }
            tag.push_str(cursor);
            if active.emptied >> place & 1 == 1 && !cursor.ends_with("-0") {
                tag.push_str(EMPTIED);
            }
        }
        tag
    }

    /// Writes the cursors of all subscriptions, in the order of the request.
    pub(in crate::shard) fn cursors<'o>(&self, slot: Slot, out: &'o mut [u8; CURSORS_BYTES_MAX]) -> &'o str {
        let mut places = [Cursor { epoch: 0, seq: 0 }; TOPICS_MAX];
        let mut count = 0;
        let mut membership = self.connections[slot as usize].first;
        while membership != NONE {
            let place = &self.topics.memberships[membership as usize];
            let subscriber = self.topics.subscriber(membership);
            let epoch = self.topics.topic(self.topics.logs[place.log as usize].topic).epoch;
            if let Some(to) = places.get_mut(usize::from(place.order)) {
                *to = Cursor { epoch, seq: subscriber.next.saturating_sub(1) };
            }
            count += 1;
            membership = place.next;
        }
        let mut w = Writer::new(out);
        for (n, cursor) in places.iter().take(count).enumerate() {
            if n > 0 {
                w.byte(b',');
            }
            cursor.write(&mut w);
        }
        let len = w.finish().expect("room for the longest list was made");
        std::str::from_utf8(&out[..len]).expect("cursors are text")
    }

    /// Brings the combined cursor of an EventSource with several topics up to date, if it is known for all of them.
    pub(in crate::shard) fn tell_cursors<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let connection = &self.connections[slot as usize];
        if connection.dialect.shape.is_shared() {
            let mut membership = connection.first;
            while membership != NONE {
                if self.topics.subscriber(membership).flags & UNRESOLVED != 0 {
                    return; // Where it starts is not known yet; the cursor stays due.
                }
                membership = self.topics.memberships[membership as usize].next;
            }
            let index = self.connections[slot as usize].active as usize;
            if self.actives.get(index).is_some_and(|active| active.pending.what == Asked::Subscribe) {
                return; // Some of its topics are not subscribed yet.
            }
            let mut cursors = [0; CURSORS_BYTES_MAX];
            let cursors = self.cursors(slot, &mut cursors).to_owned();
            self.say(driver, slot, |w| sse::id_only(w, &cursors));
            // Of many topics with small messages, it is most of what is sent.
            self.lengthen(slot, NONE, cursors.len() as i64);
        }
        self.connections[slot as usize].cursor_due = false;
    }

    /// Puts text of a stream's own into its queue, in the framing of its dialect.
    pub(in crate::shard) fn say<D: Driver>(&mut self, driver: &mut D, slot: Slot, write: impl FnOnce(&mut Writer<'_>)) {
        let coding = self.connections[slot as usize].dialect.coding;
        let mut text = std::mem::take(&mut self.text);
        let written = response::piece(&mut text, coding == Coding::Chunked, write);
        let len = written.expect("the scratch holds the longest line");
        if coding == Coding::Gzip && len > 0 {
            let mut encoder = std::mem::take(&mut self.encoder);
            self.push(driver, slot, encoder.told(&text[..len]));
            self.encoder = encoder;
        } else {
            self.push(driver, slot, &text[..len]);
        }
        self.text = text;
    }

    /// Tells a stream or a long poll of a gap.
    pub(in crate::shard) fn tell_gap_over_http<D: Driver>(&mut self, driver: &mut D, slot: Slot, log: u32, told: Told) {
        let mut name = [0; topic::TOPIC_BYTES_MAX];
        let text = self.topics.topic(self.topics.logs[log as usize].topic).name().text.as_bytes();
        name[..text.len()].copy_from_slice(text);
        let name = std::str::from_utf8(&name[..text.len()]).expect("topics are text");
        let Told { from, to, count, reason } = told;
        let gap = Gap { topic: name, from, to, count, reason };
        match self.connections[slot as usize].dialect.shape {
            Shape::Sse | Shape::SseEnveloped => self.say(driver, slot, |w| sse::gap(w, &gap)),
            Shape::SseShared | Shape::SseSharedEnveloped => {
                self.say(driver, slot, |w| sse::gap_without_id(w, &gap));
                self.connections[slot as usize].cursor_due = true;
            }
            Shape::Stream => self.say(driver, slot, |w| stream::gap(w, &gap)),
            Shape::Multipart => self.say(driver, slot, |w| multipart::gap(w, &gap)),
            Shape::ForeverFrame => self.say(driver, slot, |w| forever_frame::gap(w, &gap)),
            Shape::Line => self.tell(driver, slot, |w| line::gap(w, name, from, to, count, reason)),
            Shape::Object => {
                let mut object = [0; 6 * topic::TOPIC_BYTES_MAX + 256];
                let mut w = Writer::new(&mut object);
                w.text("{\"gap\":");
                json::gap(&mut w, &gap);
                w.byte(b'}');
                let len = w.finish().expect("room for the longest topic was made");
                if !self.add_object(driver, slot, len as u32, |memory, place| {
                    memory.bytes_mut(place).copy_from_slice(&object[..len]);
                }) {
                    self.shed(driver, slot);
                }
            }
            Shape::Payload => {}
        }
    }

    /// A sign of life, in the way of the dialect.
    pub(in crate::shard) fn heartbeat<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let shape = self.connections[slot as usize].dialect.shape;
        self.say(driver, slot, |w| match shape {
            _ if shape.is_sse() => w.put(sse::HEARTBEAT),
            Shape::ForeverFrame => w.put(forever_frame::HEARTBEAT),
            Shape::Stream => w.put(stream::HEARTBEAT),
            Shape::Multipart => w.put(multipart::HEARTBEAT),
            _ => {}
        });
    }

    /// Ends a stream in order: what was begun is completed, and the client knows that it has everything so far.
    pub(in crate::shard) fn end_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.is_closing(slot) {
            return;
        }
        if !self.unsubscribe_in_order(driver, slot) {
            self.kill(driver, slot);
            return;
        }
        if self.connections[slot as usize].dialect.shape == Shape::Multipart {
            self.say(driver, slot, |w| w.put(multipart::END));
        }
        if self.connections[slot as usize].dialect.chunked() {
            self.push(driver, slot, response::LAST_CHUNK);
        }
        if self.connections[slot as usize].is(Session::Stream) {
            self.clear_plan(slot);
            let active = self.active(slot);
            active.complete = false;
            active.closing = true;
            self.wheel.set(slot, self.tick, self.limits.linger_ms);
            self.make_ready(slot);
        }
    }

    /// A stream has been silent, or is old.
    pub(in crate::shard) fn expire_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.is_closing(slot) {
            self.expire_farewell(driver, slot);
            return;
        }
        let connection = &self.connections[slot as usize];
        let age_ms = u64::from(self.tick - connection.opened_tick) * TICK_MS;
        if age_ms >= self.limits.stream_ms {
            // The client comes back with its cursor: memory of proxies and browsers does not grow without end.
            self.end_stream(driver, slot);
            return;
        }
        // The first time comes soon after the beginning: the second sign of life.
        self.heartbeat(driver, slot);
        if !self.connections[slot as usize].is(Session::Stream) {
            return;
        }
        let after_ms = self.limits.ping_ms.min(self.limits.stream_ms.saturating_sub(age_ms).max(TICK_MS));
        let after_ms = self.with_jitter(after_ms);
        self.wheel.set(slot, self.tick, after_ms);
    }

    /// Says whether a stream whose peer has ended its direction was sent everything there is: what is still to be published is not due.
    pub(in crate::shard) fn is_over(&self, slot: Slot) -> bool {
        let connection = &self.connections[slot as usize];
        let mut over = connection.ended && connection.is(Session::Stream) && !self.is_closing(slot);
        if let Some(active) = self.actives.get(connection.active as usize) {
            over &= active.pending.what != Asked::Subscribe && active.queue.is_empty() && active.replays == 0;
        }
        let mut membership = connection.first;
        while over && membership != NONE {
            over = self.topics.subscriber(membership).flags & (UNRESOLVED | REPLAYING) == 0;
            membership = self.topics.memberships[membership as usize].next;
        }
        over
    }
}

/// Time of a stream's second sign of life after its first, in milliseconds.
const SECOND_SIGN_MS: u64 = 100;

/// Reads the callback of a request whose plan was checked; empty if it names none.
fn callback_of<'o>(request: &Request<'_>, out: &'o mut [u8; 64]) -> &'o str {
    let named = query::value(request.query, "callback").and_then(|name| percent::decode(name, out, true).ok());
    let len = named.map_or(0, str::len);
    std::str::from_utf8(&out[..len]).unwrap_or("")
}
