//! Answers to HTTP requests: status and headers, `poll` and `value` as the home says them, and what comes after.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::dialect::json as object;
use corecast_protocol::http::etag::Current;
use corecast_protocol::http::response;
use corecast_protocol::line::GapReason;
use corecast_protocol::message::{Message, Op};
use corecast_protocol::write::Writer;
use corecast_protocol::{json, topic};

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Lost, Reason, Standing, Stretch};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::session::reading::Transport;
use crate::shard::session::request::condition::{Broken, TAG_BYTES_MAX, asks_for_the_remembered, tag_of};
use crate::shard::session::request::exchange::{Asked, ORIGIN_BYTES_MAX};
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::wait::Told;

pub(in crate::shard) const JSON: &str = "application/json";
pub(in crate::shard) const TEXT: &str = "text/plain; charset=utf-8";

/// Room that is looked for beforehand for a body that is longer than that of a refusal: so much, with most heads.
const HEAD_BYTES: usize = 512;
const SHORT_BODY_BYTES: usize = 128;

/// Headers of an answer besides the usual ones.
const EXTRA_MAX: usize = 10;

/// What an answer says.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Answer<'a> {
    /// The status.
    pub(in crate::shard) status: u16,
    /// The type of the body.
    pub(in crate::shard) content_type: Option<&'a str>,
    /// Further headers.
    pub(in crate::shard) extra: &'a [(&'a str, &'a str)],
}

/// What an answer says that has messages of several topics.
#[derive(Debug)]
pub(in crate::shard) struct List<'a> {
    /// Where it ends, a cursor for each topic.
    pub(in crate::shard) cursors: &'a str,
    /// Its entity tag, with its quotes.
    pub(in crate::shard) etag: &'a str,
    /// The messages. If they are wanted as a script, that is put behind them.
    pub(in crate::shard) body: &'a mut Vec<u8>,
    /// How they are wanted.
    pub(in crate::shard) transport: Transport,
    /// They were waited for.
    pub(in crate::shard) waited: bool,
}

/// Returns the answer that all is well.
pub(in crate::shard) const fn ok(content_type: &str) -> Answer<'_> {
    Answer { status: 200, content_type: Some(content_type), extra: &[] }
}

impl Shard {
    /// Answers a publication or a clearing.
    pub(in crate::shard) fn answer_publication<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        answer: Result<Told, Reason>,
    ) {
        let Some(exchange) = self.exchange_if_any(slot) else { return };
        match answer {
            Ok(told) => {
                // Escaping makes a topic at most six times as long.
                let mut body = [0; 6 * topic::TOPIC_BYTES_MAX + 128];
                let mut w = Writer::new(&mut body);
                let topic = exchange.words.topic(driver.memory());
                match told.repeated {
                    false => json::publish_answer(&mut w, topic.text(), told.cursor),
                    true => json::repeat_answer(&mut w, topic.text(), told.known()),
                }
                let len = w.finish().expect("room for the longest topic was made");
                self.answer(driver, slot, ok(JSON), &body[..len]);
            }
            Err(reason) => self.refuse_order(driver, slot, reason),
        }
        self.request_ends_and_goes_on(driver, slot);
    }

    /// The home begins to answer a `poll` or `value`.
    pub(in crate::shard) fn answer_begins<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        head: Cursor,
        stretch: Stretch,
        lost: Option<Lost>,
    ) {
        let Some(exchange) = self.exchange_if_any_mut(slot) else { return };
        let count = stretch.count;
        if matches!(exchange.pending.what, Asked::Publish | Asked::Clear) {
            let standing = Standing { epoch: head.epoch, head: head.seq, remembers: count > 0 };
            self.condition_resolves(driver, slot, standing);
            return;
        }
        let value = exchange.pending.what == Asked::Value;
        let cursor = Cursor { epoch: head.epoch, seq: stretch.last };
        exchange.cursor = cursor;
        exchange.poll_left = if value { count.min(1) } else { count };
        if value && count == 0 {
            self.answer_error(driver, slot, 404, "the topic has no message", false);
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        let emptied = !value && count == 0 && cursor.seq > 0 && asks_for_the_remembered(exchange.since);
        exchange.emptied = emptied;
        let mut tag = [0; TAG_BYTES_MAX];
        let tag = tag_of(cursor, emptied, &mut tag);
        let broken = self.broken_condition(driver, slot, Current { tag: tag.as_bytes(), exists: count > 0 });
        if broken == Some(Broken::Match) || broken.is_some() && lost.is_none() {
            self.exchange(slot).poll_left = 0;
            match broken {
                Some(Broken::Match) => self.refuse_request(driver, slot, Refusal::Changed, false),
                _ => self.answer_with_cursor(driver, slot, 304, None, cursor, b""),
            }
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        if value {
            return;
        }
        let mut gap = [0; 6 * topic::TOPIC_BYTES_MAX + 256];
        let mut w = Writer::new(&mut gap);
        w.byte(b'[');
        if let Some(lost) = lost {
            let to = Cursor { epoch: head.epoch, seq: stretch.after };
            write_gap(&mut w, self.exchange(slot).words.topic(driver.memory()).text(), to, lost);
        }
        let len = w.finish().expect("room for the longest topic was made");
        let index = self.slots.connections[slot as usize].active as usize;
        self.slots.actives[index].begin_answer(&mut self.store);
        if !self.slots.actives[index].body.push(&mut self.store, driver.memory_mut(), &gap[..len]) {
            self.exchange(slot).poll_left = 0;
            self.refuse_request(driver, slot, Refusal::Full, false);
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        if count == 0 {
            self.answer_ends(driver, slot);
        }
    }

    /// The home says one message of the answer.
    pub(in crate::shard) fn answer_message<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        seq: u64,
        content: Content<'_>,
    ) {
        let Some(exchange) = self.exchange_if_any_mut(slot) else { return };
        if exchange.poll_left == 0 {
            return; // It was answered already.
        }
        exchange.poll_left -= 1;
        let (value, last) = (exchange.pending.what == Asked::Value, exchange.poll_left == 0);
        if content.op == Op::Delete && (value || asks_for_the_remembered(exchange.since)) {
            // Who has nothing yet does not want to hear of what is gone.
            if value {
                self.answer_error(driver, slot, 404, "the topic has no message", false);
                self.request_ends_and_goes_on(driver, slot);
            } else if last {
                self.answer_ends(driver, slot);
            }
            return;
        }
        if value {
            let content_type = if content.text { TEXT } else { "application/octet-stream" };
            let cursor = exchange.cursor;
            self.answer_with_cursor(driver, slot, 200, Some(content_type), cursor, content.payload);
            self.request_ends_and_goes_on(driver, slot);
            return;
        }
        let name = exchange.words.topic(driver.memory());
        let epoch = exchange.cursor.epoch;
        let message = Message {
            topic: name.text(),
            cursor: Cursor { epoch, seq },
            event: Some(content.event).filter(|event| !event.is_empty()),
            payload: content.payload,
            text: content.text,
            key: content.key,
            op: content.op,
            ..Message::default()
        };
        let len = object::encoded_len(&message);
        self.work.spend_on(2 * len);
        let index = self.slots.connections[slot as usize].active as usize;
        let comma = usize::from(self.slots.actives[index].body.len() > 1);
        let memory = driver.memory_mut();
        let reserved = self.slots.actives[index].body.reserve(&mut self.store, memory, (len + comma) as u32);
        let Some(place) = reserved else {
            self.exchange(slot).poll_left = 0;
            self.refuse_request(driver, slot, Refusal::Full, false);
            self.request_ends_and_goes_on(driver, slot);
            return;
        };
        let out = memory.bytes_mut(place);
        out[..comma].fill(b',');
        object::encode(&message, &mut out[comma..]);
        if last {
            self.answer_ends(driver, slot);
        }
    }

    fn answer_ends<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.slots.connections[slot as usize].active as usize;
        let cursor = self.exchange(slot).cursor;
        let span = self.slots.actives[index].body.span();
        let mut body = std::mem::take(&mut self.scratch.answer);
        body.clear();
        body.extend_from_slice(driver.memory().bytes(span));
        body.push(b']');
        self.answer_with_cursor(driver, slot, 200, Some(JSON), cursor, &body);
        self.scratch.answer = body;
        self.request_ends_and_goes_on(driver, slot);
    }

    pub(in crate::shard) fn answer_with_cursor<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        status: u16,
        content_type: Option<&str>,
        cursor: Cursor,
        body: &[u8],
    ) {
        let (mut text, mut tag) = ([0; corecast_protocol::cursor::TEXT_BYTES_MAX], [0; TAG_BYTES_MAX]);
        let tag = tag_of(cursor, self.exchange(slot).emptied, &mut tag);
        let mut etag = [b'"'; TAG_BYTES_MAX + 2];
        etag[1..=tag.len()].copy_from_slice(tag.as_bytes());
        let etag = std::str::from_utf8(&etag[..tag.len() + 2]).expect("a tag is ASCII");
        let cursor = cursor.text(&mut text);
        let extra = [("Corecast-Cursor", cursor), ("ETag", etag)];
        self.answer(driver, slot, Answer { status, content_type, extra: &extra }, body);
    }

    /// Answers with an error, and with `ends` closes the connection afterwards.
    pub(in crate::shard) fn answer_error<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        status: u16,
        text: &str,
        ends: bool,
    ) {
        if ends {
            self.exchange(slot).pending.keep_alive = false;
        }
        let mut body = [0; 512];
        let mut w = Writer::new(&mut body);
        json::error(&mut w, text);
        let len = w.finish().unwrap_or(0);
        self.answer(driver, slot, Answer { status, content_type: Some(JSON), extra: &[] }, &body[..len]);
        if ends {
            self.end_after_answer(slot);
        }
    }

    /// Puts an answer into the connection's queue.
    pub(in crate::shard) fn answer<D: Driver>(&mut self, driver: &mut D, slot: Slot, answer: Answer<'_>, body: &[u8]) {
        let head_only = self.exchange(slot).pending.head_only;
        if !head_only && body.len() > SHORT_BODY_BYTES && !self.has_room_for_answer(driver, slot, body.len()) {
            // Whole or not at all: in the midst of it there would be no word for that.
            self.refuse_request(driver, slot, Refusal::Full, false);
            return;
        }
        let framing = match answer.status {
            204 | 304 => response::Framing::Empty,
            _ => response::Framing::Sized(body.len() as u64),
        };
        self.answer_head(driver, slot, answer, framing);
        if !head_only && self.is_http(slot) {
            self.push(driver, slot, body);
        }
        if self.is_http(slot) && self.exchange(slot).pending.what != Asked::Discard {
            self.exchange(slot).pending.what = Asked::Discard;
        }
    }

    /// Says whether the connection's queue has room for an answer with such a body; what others can do without makes way for it.
    fn has_room_for_answer<D: Driver>(&mut self, driver: &mut D, slot: Slot, body_bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(HEAD_BYTES + body_bytes) else { return false };
        for made_way in [false, true] {
            if made_way {
                self.make_way_without_histories(driver, bytes);
            }
            let index = self.slots.connections[slot as usize].active as usize;
            let Some(active) = self.slots.actives.get_mut(index) else { return false };
            if active.queue.expect(&mut self.store, driver.memory_mut(), bytes) {
                return true;
            }
        }
        false
    }

    /// Puts the head of an answer into the connection's queue, with what a page of another origin needs.
    pub(in crate::shard) fn answer_head<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        answer: Answer<'_>,
        framing: response::Framing,
    ) {
        let date = self.clock.date();
        let date = std::str::from_utf8(&date).expect("a date is ASCII");
        // Whoever gets his last answer, as the engine ends, is told when to come back, like those who are refused.
        let told = self.is_leaving(slot) && answer.extra.iter().all(|(name, _)| *name != "Retry-After");
        let after_s = if told { self.come_back_s(Refusal::Draining) } else { None };
        let mut number = [0; 20];
        let mut w = Writer::new(&mut number);
        w.decimal(after_s.unwrap_or_default().into());
        let len = w.finish().expect("a number fits");
        let after = [("Retry-After", std::str::from_utf8(&number[..len]).expect("digits are text"))];
        let after: &[_] = if after_s.is_some() { &after } else { &[] };
        let ended = self.slots.connections[slot as usize].ended;
        self.exchange(slot);
        let active = &self.slots.actives[self.slots.connections[slot as usize].active as usize];
        let exchange = &self.exchanges[active.state as usize];
        let pending = exchange.pending;
        // What the connection's end is said with: its last answer, before the rest of a body, or to who has nothing more to ask.
        let last = pending.cut || ended && active.carry.is_empty();
        let origin = exchange.words.origin::<ORIGIN_BYTES_MAX>(driver.memory());
        let origin = origin.text();
        // What is answered depends on who asks, whether or not this one is a page.
        let cross = [
            ("Vary", "Origin"),
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "Corecast-Cursor, ETag, Retry-After"),
            ("Access-Control-Allow-Credentials", "true"),
        ];
        let cross = match (origin.is_empty(), pending.credentials) {
            (true, _) => &cross[..1],
            (false, false) => &cross[..3],
            (false, true) => &cross[..],
        };
        let chosen: &[_] = if pending.by_accept { &[("Vary", "Accept")] } else { &[] };
        let mut extra = [("", ""); EXTRA_MAX];
        let count = chosen.len() + answer.extra.len() + cross.len() + after.len();
        for (to, header) in extra.iter_mut().zip(chosen.iter().chain(answer.extra).chain(cross).chain(after)) {
            *to = *header;
        }
        let head = response::Head {
            status: answer.status,
            content_type: answer.content_type,
            framing,
            http10: pending.http10,
            keep_alive: pending.keep_alive && !last,
            date: Some(date),
            upgrade: (answer.status == 426).then_some("websocket"),
            extra: &extra[..count],
        };
        let mut text = std::mem::take(&mut self.scratch.text);
        let mut w = Writer::new(&mut text);
        response::head(&mut w, &head);
        let len = w.finish().expect("heads are far shorter than the scratch");
        self.push(driver, slot, &text[..len]);
        self.scratch.text = text;
        match framing {
            response::Framing::Empty => self.note_answer(slot, answer.status, 0),
            response::Framing::Sized(bytes) => {
                self.note_answer(slot, answer.status, if pending.head_only { 0 } else { bytes })
            }
            // A stream, which is told of where it begins.
            response::Framing::Close | response::Framing::Chunked => {}
        }
    }

    /// Answers a poll of several topics, a long poll or a script with its objects, the list of its cursors, and its entity tag.
    pub(in crate::shard) fn answer_list<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        list: List<'_>,
        unchanged: bool,
    ) {
        let List { cursors, etag, body, transport, waited } = list;
        let extra = [("Corecast-Cursor", cursors), ("ETag", etag)];
        if unchanged {
            self.answer(driver, slot, Answer { status: 304, content_type: None, extra: &extra }, b"");
        } else if transport == Transport::Jsonp {
            let objects = body.len();
            self.add_script(driver, slot, body);
            let answer =
                Answer { status: 200, content_type: Some("application/javascript; charset=utf-8"), extra: &extra };
            self.answer(driver, slot, answer, &body[objects..]);
        } else if *body == b"[]" && waited {
            self.answer(driver, slot, Answer { status: 204, content_type: None, extra: &extra }, b"");
        } else {
            self.answer(driver, slot, Answer { status: 200, content_type: Some(JSON), extra: &extra }, body);
        }
    }

    /// Puts the script of a JSONP answer behind its objects: nothing in it ends a script or a line (U+2028, U+2029) of the page
    /// it runs in.
    fn add_script<D: Driver>(&mut self, driver: &D, slot: Slot, body: &mut Vec<u8>) {
        let callback = self.exchange(slot).words.event(driver.memory());
        let mut start = [0; 128];
        let mut w = Writer::new(&mut start);
        json::jsonp_start(&mut w, callback.text());
        let len = w.finish().expect("callbacks are short");
        let objects = body.len();
        body.extend_from_slice(&start[..len]);
        let mut at = 0;
        while at < objects {
            // These bytes stand only inside strings of JSON.
            match body[at..objects] {
                [b'<', ..] => body.extend_from_slice(b"\\u003c"),
                [b'>', ..] => body.extend_from_slice(b"\\u003e"),
                [b'&', ..] => body.extend_from_slice(b"\\u0026"),
                [0xE2, 0x80, last @ (0xA8 | 0xA9), ..] => {
                    body.extend_from_slice(if last == 0xA8 { b"\\u2028" } else { b"\\u2029" });
                    at += 2;
                }
                [byte, ..] => body.push(byte),
                [] => {}
            }
            at += 1;
        }
        body.extend_from_slice(b");");
    }

    /// The request is answered and its body is gone: the next one may come, or the connection ends.
    pub(in crate::shard) fn request_ends(&mut self, slot: Slot) {
        if !self.is_http(slot) {
            return;
        }
        let keep_alive = self.exchange_if_any(slot).is_some_and(|exchange| exchange.pending.keep_alive);
        self.end_exchange(slot);
        let active = self.active(slot);
        active.taken = 0;
        if active.waiting == Waiting::Answer {
            active.waiting = Waiting::No;
        }
        active.closing |= !keep_alive;
        self.timers.wheel.set(slot, self.clock.tick, self.limits.request_ms);
        self.slots.make_ready(slot);
    }

    /// The same, and what came behind the request is handled.
    pub(in crate::shard) fn request_ends_and_goes_on<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.slots.connections[slot as usize].active as usize;
        let Some(active) = self.slots.actives.get_mut(index) else { return };
        active.end_answer(&mut self.store);
        self.request_ends(slot);
        if self.is_http(slot) && !self.slots.is_closing(slot) {
            self.go_on(driver, slot);
        }
    }
}

fn write_gap(w: &mut Writer<'_>, topic: &str, to: Cursor, lost: Lost) {
    let (from, reason) = if lost.epoch_changed {
        (Cursor { epoch: lost.after_epoch, seq: lost.after_seq }, GapReason::Epoch)
    } else {
        (Cursor { epoch: to.epoch, seq: lost.after_seq }, GapReason::Expired)
    };
    w.text("{\"gap\":{\"topic\":");
    json::string(w, topic);
    w.text(",\"from\":\"");
    from.write(w);
    w.text("\",\"to\":\"");
    to.write(w);
    w.text("\",\"count\":");
    w.decimal(lost.count);
    w.text(",\"reason\":\"");
    w.text(reason.as_str());
    w.text("\"}}");
}
