//! Subscribing over HTTP: streams that stay open, and long polls that wait for one answer.
//!
//! A request names one topic in its path or up to [`TOPICS_MAX`] in its query. Its plan (the query) is kept while the
//! topics are subscribed one after another; each needs an answer of its home, and perhaps room in a ring. A stream's
//! head leaves first, so that a client and the proxies before it know at once that it stands.
//!
//! A stream is a subscriber like a WebSocket, in a dialect of its own. A long poll reads its topics' logs into the body
//! of one answer instead, and is then an ordinary HTTP connection again.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::dialect::{forever_frame, multipart, sse};
use corecast_protocol::http::head::{Method, Request};
use corecast_protocol::http::{prefer, query, response};
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use corecast_protocol::{percent, topic};

use super::Shard;
use super::connection::{Asked, Kind};
use super::connection::{Pending, Waiting};
use super::dialect::{Dialect, Shape};
use super::subscribe::{Outcome, Wish};
use super::topics::{NONE, REPLAYING, UNRESOLVED};
use crate::io::driver::{Driver, Slot};

/// Topics of one request at most.
pub(super) const TOPICS_MAX: usize = 64;

/// Longest wait of a long poll, and what it waits if it does not say, in seconds.
const WAIT_S_MAX: u32 = 120;
const WAIT_S: u32 = 25;

/// How long an EventSource waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 3_000;

/// Some proxies and virus scanners hold back a stream until so many bytes have come.
const PADDING_BYTES: usize = 2_048;

/// Longest list of cursors: each has at most 29 bytes, and a comma.
const CURSORS_BYTES_MAX: usize = TOPICS_MAX * (corecast_protocol::cursor::TEXT_BYTES_MAX + 1);

/// How a request wants its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
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

/// One topic of a plan.
struct Step<'r> {
    topic: &'r str,
    since: Since,
}

/// Chooses the transport of a request.
pub(super) fn transport(request: &Request<'_>) -> Result<Transport, &'static str> {
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
            return Err("unknown transport; there are websocket, sse, stream, multipart, forever-frame, long-poll, poll, \
                        value and jsonp");
        }
        None if request.headers.accept.is_some_and(prefer::accepts_event_stream) => Transport::Stream(Shape::Sse),
        None => Transport::Poll,
    })
}

impl Shard {
    /// Begins a stream or a long poll: checks its plan, keeps it, sends the head, and subscribes the first topic.
    pub(super) fn begin_subscriber<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        path_topic: Option<&str>,
        transport: Transport,
    ) -> Result<(), Violation> {
        let mut plan = std::mem::take(&mut self.carried_plan);
        plan.clear();
        if let Some(topic) = path_topic {
            plan.extend_from_slice(b"topic=");
            plan.extend_from_slice(topic.as_bytes());
            plan.push(b'&');
        }
        plan.extend_from_slice(request.query.as_bytes());
        if let Some(last) = request.headers.last_event_id.filter(|last| !last.is_empty()) {
            // It wins: a browser that comes back sends it, and knows nothing of the query's age.
            plan.extend_from_slice(b"&last_event_id=");
            plan.extend_from_slice(last.as_bytes());
        }
        let text = std::str::from_utf8(&plan).expect("queries and the headers read are text");
        let checked = check_plan(text, path_topic.is_some());
        let begun = checked.map(|several| {
            self.active(slot);
            let index = self.connections[slot as usize].active as usize;
            let active = &mut self.actives[index];
            active.plan.clear(&mut self.store);
            active.step = 0;
            if !active.plan.push(&mut self.store, driver.memory_mut(), &plan) {
                self.answer_full(driver, slot);
                return;
            }
            match transport {
                Transport::Stream(shape) => self.begin_stream(driver, slot, request, shape, several),
                _ => self.begin_long_poll(slot, request, transport),
            }
        });
        self.carried_plan = plan;
        begun
    }

    fn begin_stream<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        shape: Shape,
        several: bool,
    ) {
        let content_type = match shape {
            Shape::Sse | Shape::SseShared => sse::CONTENT_TYPE,
            Shape::Stream => "application/x-ndjson",
            Shape::Multipart => multipart::CONTENT_TYPE,
            Shape::ForeverFrame => "text/html; charset=utf-8",
            Shape::Payload | Shape::Line | Shape::Object => return,
        };
        let bare = request.http10 || request.method == Method::Head;
        let framing = if bare { response::Framing::Close } else { response::Framing::Chunked };
        if request.method == Method::Head {
            self.active(slot).pending.keep_alive = false;
        }
        self.answer_head(driver, slot, 200, Some(content_type), framing, &[]);
        if request.method == Method::Head {
            self.clear_plan(slot);
            self.end_after_answer(slot);
            return;
        }
        let shape = if several && shape == Shape::Sse { Shape::SseShared } else { shape };
        let connection = &mut self.connections[slot as usize];
        connection.kind = Kind::Stream;
        connection.dialect = Dialect::new(shape, !bare);
        connection.opened_tick = self.tick;
        let active = self.active(slot);
        active.pending = Pending { what: Asked::Subscribe, ..Pending::default() };
        let mut callback = [0; 64];
        let callback_len = query::value(request.query, "callback")
            .and_then(|name| percent::decode(name, &mut callback, true).ok())
            .map_or(0, str::len);
        let callback = std::str::from_utf8(&callback[..callback_len]).unwrap_or("");
        self.say(driver, slot, |w| match shape {
            Shape::Sse | Shape::SseShared => {
                sse::retry(w, RETRY_MS);
                sse::padding(w, PADDING_BYTES);
            }
            Shape::ForeverFrame => {
                let callback = if callback.is_empty() { "parent.corecast" } else { callback };
                forever_frame::prologue(w, callback);
            }
            _ => {}
        });
        // A second sign of life: some scanners let the first pass only when the second has come.
        self.wheel.set(slot, self.tick, SECOND_SIGN_MS);
        self.subscribe_step(driver, slot);
    }

    fn begin_long_poll(&mut self, slot: Slot, request: &Request<'_>, transport: Transport) {
        let wait_s = query::value(request.query, "wait").and_then(|wait| wait.parse().ok());
        let wait_s = wait_s.or_else(|| request.headers.prefer.and_then(prefer::wait_s));
        let wait_s = wait_s.unwrap_or(if transport == Transport::Jsonp { 0 } else { WAIT_S }).min(WAIT_S_MAX);
        let connection = &mut self.connections[slot as usize];
        connection.dialect = Dialect::new(Shape::Object, false);
        let active = self.active(slot);
        active.wait_ms = u64::from(wait_s) * 1000;
        active.pending.what = Asked::Subscribe;
    }

    /// Subscribes the next topic of the plan, as far as answers and rings allow; what has to wait comes back here.
    pub(super) fn subscribe_step<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut plan = std::mem::take(&mut self.carried_plan);
        loop {
            let Some(active) = self.active_if_any(slot) else { break };
            if active.replaying.is_some() {
                active.waiting = Waiting::Answer;
                active.complete = true;
                break;
            }
            let (span, step) = (active.plan.span(), usize::from(active.step));
            plan.clear();
            plan.extend_from_slice(driver.memory().bytes(span));
            let text = std::str::from_utf8(&plan).expect("a checked plan is text");
            let mut room = [0; topic::TOPIC_BYTES_MAX];
            let Some(Step { topic, since }) = nth_step(text, step, &mut room) else {
                self.subscribed(driver, slot);
                break;
            };
            let conflate = query::value(text, "conflate").is_some_and(|value| value != "0");
            let every_ms = query::value(text, "every").and_then(|value| value.parse().ok()).unwrap_or(0);
            match self.subscribe(slot, Wish { topic, since, conflate, every_ms, token: "" }) {
                Outcome::Done => {
                    let first = self.connections[slot as usize].first;
                    self.topics.memberships[first as usize].order = step as u8;
                    self.active(slot).step += 1;
                }
                Outcome::NoRoom(home) => {
                    self.park(slot, home);
                    self.active(slot).complete = true;
                    break;
                }
                Outcome::Full => {
                    self.end_stream(driver, slot);
                    break;
                }
            }
        }
        self.carried_plan = plan;
    }

    /// All topics of the plan are subscribed, and what there was of them is queued.
    fn subscribed<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        self.clear_plan(slot);
        let active = self.active(slot);
        if self.connections[slot as usize].kind == Kind::Stream {
            let active = self.active(slot);
            active.pending = Pending::default();
            active.waiting = Waiting::No;
        } else {
            active.pending.what = Asked::LongPoll;
            active.waiting = Waiting::Answer;
            let wait_ms = active.wait_ms;
            self.wheel.set(slot, self.tick, wait_ms);
            if wait_ms == 0 {
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
    pub(super) fn collect<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
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
                self.want_more(slot, membership);
            } else {
                for seq in subscriber.next..next {
                    let log = &self.topics.logs[self.topics.memberships[membership as usize].log as usize];
                    let object = log.chain.record(&self.store, driver.memory(), seq);
                    if !self.add_object(driver, slot, object.len, |memory, place| {
                        memory.copy(object, place, object.len);
                    }) {
                        break;
                    }
                    self.pass(membership);
                }
            }
            membership = following;
        }
        let ready = self.active_if_any(slot).is_some_and(|active| {
            active.pending.what == Asked::LongPoll && !active.body.is_empty() && active.replaying.is_none()
        });
        if ready {
            self.answer_long_poll(driver, slot);
        }
    }

    /// Adds an object to the answer of a long poll; says false if there is no memory, or the answer is long enough.
    pub(super) fn add_object<D: Driver>(
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
    pub(super) fn answer_long_poll<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut cursors = [0; CURSORS_BYTES_MAX];
        let cursors = self.cursors(slot, &mut cursors).to_owned();
        let index = self.connections[slot as usize].active as usize;
        let span = self.actives[index].body.span();
        let mut body = vec![b'['];
        body.extend_from_slice(driver.memory().bytes(span));
        body.push(b']');
        self.unsubscribe_all(slot);
        self.connections[slot as usize].kind = Kind::Http;
        let active = &mut self.actives[index];
        active.replaying = None;
        active.body.clear(&mut self.store);
        active.pending.what = Asked::Poll;
        self.answer_list(driver, slot, &cursors, &body);
        self.request_ends_and_goes_on(driver, slot);
    }

    /// Writes the cursors of all subscriptions, in the order of the request.
    pub(super) fn cursors<'o>(&self, slot: Slot, out: &'o mut [u8; CURSORS_BYTES_MAX]) -> &'o str {
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

    /// Brings the combined cursor of an EventSource with several topics up to date.
    pub(super) fn tell_cursors<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.connections[slot as usize].dialect.shape() != Shape::SseShared {
            return;
        }
        let mut cursors = [0; CURSORS_BYTES_MAX];
        let cursors = self.cursors(slot, &mut cursors).to_owned();
        self.say(driver, slot, |w| sse::id_only(w, &cursors));
    }

    /// Puts text of a stream's own into its queue, in the framing of its dialect.
    pub(super) fn say<D: Driver>(&mut self, driver: &mut D, slot: Slot, write: impl FnOnce(&mut Writer<'_>)) {
        let mut text = std::mem::take(&mut self.text);
        let mut w = Writer::new(&mut text);
        write(&mut w);
        let len = w.finish().expect("the scratch holds the longest line");
        if len > 0 {
            let chunked = self.connections[slot as usize].dialect.chunked();
            if chunked {
                let mut start = [0; 20];
                let mut w = Writer::new(&mut start);
                response::chunk_start(&mut w, len as u64);
                let start_len = w.finish().expect("a size is short");
                self.push(driver, slot, &start[..start_len]);
            }
            self.push(driver, slot, &text[..len]);
            if chunked {
                self.push(driver, slot, b"\r\n");
            }
        }
        self.text = text;
    }

    /// A sign of life, in the way of the dialect.
    pub(super) fn heartbeat<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let shape = self.connections[slot as usize].dialect.shape();
        self.say(driver, slot, |w| match shape {
            Shape::Sse | Shape::SseShared => sse::comment(w, ""),
            Shape::ForeverFrame => w.text("\n"),
            Shape::Stream => w.text("\n"),
            // Between two parts, empty lines belong to nothing (RFC 2046, section 5.1.1).
            Shape::Multipart => w.text("\r\n"),
            Shape::Payload | Shape::Line | Shape::Object => {}
        });
    }

    /// Ends a stream in order: what was begun is completed, and the client knows that it has everything so far.
    pub(super) fn end_stream<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.is_closing(slot) {
            return;
        }
        while self.connections[slot as usize].first != NONE {
            let membership = self.connections[slot as usize].first;
            if !self.unsubscribe(driver, slot, membership) {
                self.kill(driver, slot);
                return;
            }
        }
        if self.connections[slot as usize].dialect.chunked() {
            self.push(driver, slot, response::LAST_CHUNK);
        }
        if self.connections[slot as usize].kind == Kind::Stream {
            self.clear_plan(slot);
            let active = self.active(slot);
            active.complete = false;
            active.closing = true;
            self.wheel.set(slot, self.tick, self.limits.linger_ms);
            self.make_ready(slot);
        }
    }
}

/// Time of a stream's second sign of life after its first, in milliseconds.
const SECOND_SIGN_MS: u64 = 100;

/// Checks a plan: its topics, their starts, its options. Says whether the request asked in the way of several topics.
fn check_plan(plan: &str, one: bool) -> Result<bool, Violation> {
    let mut room = [0; topic::TOPIC_BYTES_MAX];
    let mut step = 0;
    while let Some(next) = try_step(plan, step, &mut room)? {
        let _ = (next.topic, next.since);
        step += 1;
        if step > TOPICS_MAX {
            return Err(Violation::TooManyTopics);
        }
    }
    if step == 0 {
        return Err(Violation::MissingTopic);
    }
    if let Some(every) = query::value(plan, "every") {
        every.parse::<u32>().map_err(|_| Violation::BadOption)?;
    }
    if let Some(wait) = query::value(plan, "wait") {
        wait.parse::<u32>().map_err(|_| Violation::BadOption)?;
    }
    if let Some(callback) = query::value(plan, "callback") {
        let mut name = [0; 64];
        let name = percent::decode(callback, &mut name, true).map_err(|_| Violation::BadCallback)?;
        if !forever_frame::valid_callback(name) {
            return Err(Violation::BadCallback);
        }
    }
    Ok(!one || step > 1)
}

fn nth_step<'r>(plan: &str, step: usize, room: &'r mut [u8; topic::TOPIC_BYTES_MAX]) -> Option<Step<'r>> {
    try_step(plan, step, room).ok().flatten()
}

fn try_step<'r>(
    plan: &str,
    step: usize,
    room: &'r mut [u8; topic::TOPIC_BYTES_MAX],
) -> Result<Option<Step<'r>>, Violation> {
    let mut topics = query::pairs(plan).filter(|(name, _)| *name == "topic").map(|(_, value)| value);
    let count = topics.clone().count();
    let Some(encoded) = topics.nth(step) else { return Ok(None) };
    let topic = topic::from_query_subscribe(encoded, room)?;
    let from = query::pairs(plan).filter(|(name, _)| *name == "last_event_id").last().map(|(_, value)| value);
    let from = from.or_else(|| query::value(plan, "since"));
    let mut value = [0; CURSORS_BYTES_MAX];
    let since = match from {
        None => Since::default(),
        Some(text) => {
            let list = percent::decode(text, &mut value, true)?;
            if count > 1 && list.contains(',') {
                if list.split(',').count() != count {
                    return Err(Violation::BadSince);
                }
                Since::parse(list.split(',').nth(step).unwrap_or(""))?
            } else if count > 1 && Cursor::parse(list).is_ok() {
                return Err(Violation::BadSince); // One cursor cannot be a place in several topics.
            } else {
                Since::parse(list)?
            }
        }
    };
    Ok(Some(Step { topic, since }))
}
