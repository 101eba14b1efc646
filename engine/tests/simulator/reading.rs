//! One request for messages and its answer, on any transport: bytes of the server in, what they tell out.
//!
//! Owns: how far the answer has come. Checks heads and framing to the byte; what the messages must be is checked by
//! `following`, and what happens next is decided by the client.

use std::collections::VecDeque;

use corecast::shard::Refusal;

use crate::ask::{Ask, Start, Transport};
use crate::body::Body;
use crate::forever_frame::{Page, check_inside};
use crate::item::{Gap, Item, Loss, Message, array};
use crate::line::{escape, unescape};
use crate::multipart::{BOUNDARY, Parts};
use crate::ndjson;
use crate::oracle::Cursor;
use crate::rng::Rng;
use crate::sse::EventStream;
use crate::wire::{Answer, Frame, Wire, check_kind};

/// What a step of reading brings.
#[derive(Debug)]
pub(crate) enum News {
    /// A stream has begun.
    Begun,
    /// The server is full, or going away, or had no time for it.
    Refused,
    Item(Item),
    /// All is said: a poll is answered, a stream was ended in order.
    Over,
}

#[derive(Debug)]
enum Format {
    Sse(EventStream),
    Ndjson,
    Multipart(Parts),
    ForeverFrame(Page),
}

impl Format {
    fn of(ask: &Ask) -> Format {
        match ask.transport {
            Transport::Sse => Format::Sse(EventStream::new(ask.is_shared(), ask.enveloped)),
            Transport::Ndjson => Format::Ndjson,
            Transport::Multipart => Format::Multipart(Parts::default()),
            Transport::ForeverFrame => Format::ForeverFrame(Page::new(ask.callback())),
            other => panic!("{other:?} is no stream"),
        }
    }

    fn content_type(&self) -> String {
        match self {
            Format::Sse(_) => "text/event-stream; charset=utf-8".to_string(),
            Format::Ndjson => "application/x-ndjson".to_string(),
            Format::Multipart(_) => format!("multipart/x-mixed-replace; boundary={BOUNDARY}"),
            Format::ForeverFrame(_) => "text/html; charset=utf-8".to_string(),
        }
    }

    fn take(&mut self, bytes: &mut Vec<u8>) -> Option<Item> {
        match self {
            Format::Sse(stream) => stream.take(bytes),
            Format::Ndjson => ndjson::take(bytes),
            Format::Multipart(parts) => parts.take(bytes),
            Format::ForeverFrame(page) => page.take(bytes),
        }
    }

    /// Says whether the format itself allows its end here.
    fn may_end(&self) -> bool {
        match self {
            Format::Multipart(parts) => parts.ended,
            Format::Sse(_) | Format::Ndjson | Format::ForeverFrame(_) => true,
        }
    }
}

#[derive(Debug)]
enum Stage {
    Head,
    Stream(Body, Format),
    /// A poll's answer, item by item.
    Answered(VecDeque<Item>),
    /// The WebSocket stands, `HI` has not come.
    Greeting,
    /// It was subscribed to.
    Lines,
    Over,
}

#[derive(Debug)]
pub(crate) struct Reading {
    ask: Ask,
    stage: Stage,
    /// The connection does not outlive this answer.
    pub(crate) closing: bool,
    /// Why the stream ends, if it said so: nothing else comes any more.
    pub(crate) refused: Option<Refusal>,
    /// Bytes of a stream so far: as they came, or unpacked if that is more.
    pub(crate) length: u64,
    /// Whoever asks may not have the right to.
    pub(crate) strange: bool,
    /// The answer that refused the request.
    pub(crate) denied: Option<Box<Answer>>,
}

impl Reading {
    /// Puts the request on the wire.
    pub(crate) fn begin(ask: Ask, wire: &mut Wire, rng: &mut Rng) -> Reading {
        if ask.transport == Transport::Line {
            wire.put_upgrade(rng, "/ws", ask.packed);
        } else {
            wire.put(ask.head(rng).as_bytes());
        }
        Reading { closing: ask.http10, ask, stage: Stage::Head, refused: None, length: 0, strange: false, denied: None }
    }

    pub(crate) fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Says whether the answer has begun and has no end of its own.
    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Stream(..) | Stage::Lines)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// The connection ended: says whether that is the end of a stream that has no other.
    pub(crate) fn ends_in_order(&self, wire: &Wire) -> bool {
        match &self.stage {
            Stage::Stream(body, format) => {
                !body.is_chunked() && body.bytes.is_empty() && wire.bytes.is_empty() && format.may_end()
            }
            _ => false,
        }
    }

    /// Returns what the next bytes tell, once they are there.
    pub(crate) fn next(&mut self, wire: &mut Wire, rng: &mut Rng) -> Option<News> {
        loop {
            match &mut self.stage {
                Stage::Head => return self.head(wire),
                Stage::Stream(body, format) => {
                    if let Some(item) = format.take(&mut body.bytes) {
                        // The end of the format itself is a sign of life.
                        let is_end = item == Item::Life && matches!(format, Format::Multipart(parts) if parts.ended);
                        assert!(self.refused.is_none() || is_end, "behind {:?} comes {item:?}", self.refused);
                        if let Item::Refused(refusal) = item {
                            self.refused = Some(refusal);
                        }
                        return Some(News::Item(item));
                    }
                    if body.is_chunked() {
                        let rest = String::from_utf8_lossy(&body.bytes);
                        assert!(body.bytes.is_empty(), "a chunk holds whole pieces, and this is left: {rest:?}");
                    }
                    if !body.take(&mut wire.bytes) {
                        return None;
                    }
                    self.length = body.came.0.max(body.came.1);
                    if body.ended {
                        assert!(format.may_end(), "the body ended, and the format has an end of its own");
                        assert!(wire.bytes.is_empty(), "bytes after the last chunk");
                        self.stage = Stage::Over;
                        return Some(News::Over);
                    }
                }
                Stage::Answered(items) => {
                    if let Some(item) = items.pop_front() {
                        return Some(News::Item(item));
                    }
                    self.stage = Stage::Over;
                    return Some(News::Over);
                }
                Stage::Greeting | Stage::Lines => match self.frame(wire, rng)? {
                    Some(news) => return Some(news),
                    None => continue,
                },
                Stage::Over => return None,
            }
        }
    }

    fn head(&mut self, wire: &mut Wire) -> Option<News> {
        if self.ask.transport == Transport::Line {
            let answer = wire.take_answer(false)?;
            if answer.accepts_websocket() {
                self.stage = Stage::Greeting;
                return Some(News::Item(Item::Life));
            }
            return Some(self.refused());
        }
        if self.ask.transport.streams() && wire.status()? == 200 {
            let head = wire.take_head()?;
            let format = Format::of(&self.ask);
            check_head(&head, Some(&format.content_type()));
            let packed = head.header("content-encoding").is_some();
            assert!(self.ask.packed || !packed, "nobody asked for a content coding: {head:?}");
            let body = Body::new(&head);
            assert_eq!(body.is_chunked(), !self.ask.http10, "chunks are of HTTP/1.1");
            self.stage = Stage::Stream(body, format);
            return Some(News::Begun);
        }
        let answer = wire.take_answer(false)?;
        self.closing |= answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if [408, 429, 503].contains(&answer.status) || self.strange && [401, 403].contains(&answer.status) {
            self.denied = Some(Box::new(answer));
            return Some(self.refused());
        }
        assert!(!self.ask.transport.streams(), "{} for {:?}", answer.status, self.ask);
        self.stage = Stage::Answered(self.polled(&answer));
        Some(News::Begun)
    }

    fn refused(&mut self) -> News {
        self.stage = Stage::Over;
        News::Refused
    }

    /// Reads the whole answer of a poll.
    fn polled(&self, answer: &Answer) -> VecDeque<Item> {
        let Ask { transport, known, wait_s, .. } = &self.ask;
        let cursors = answer.header("corecast-cursor").expect("a poll's answer names the next cursor").to_string();
        // Of a topic that has forgotten its messages, the tag says so.
        let tag = answer.header("etag").expect("a poll's answer has a tag").replace("-emptied", "");
        assert_eq!(tag, format!("\"{cursors}\""), "{answer:?}");
        let mut items: VecDeque<Item> = VecDeque::new();
        match (answer.status, transport) {
            (200, Transport::Jsonp) => {
                check_head(answer, Some("application/javascript; charset=utf-8"));
                let start = format!("/**/{}(", self.ask.callback());
                let inside = answer.body.strip_prefix(start.as_bytes()).and_then(|rest| rest.strip_suffix(b");"));
                let inside =
                    inside.unwrap_or_else(|| panic!("a call, not {:?}", String::from_utf8_lossy(&answer.body)));
                check_inside(inside);
                items.extend(array(inside));
            }
            (200, _) => {
                check_head(answer, Some("application/json"));
                assert_eq!(answer.header("content-encoding"), None, "polls are not packed: {answer:?}");
                items.extend(array(&answer.body));
                let waited = *transport == Transport::LongPoll && *wait_s != Some(0);
                assert!(!waited || !items.is_empty(), "a long poll without a message is a 204");
            }
            (204, Transport::LongPoll) => check_head(answer, None),
            (304, Transport::Poll) => {
                check_head(answer, None);
                assert_eq!(known.as_ref(), Some(&cursors), "nothing is new only if it is still there");
            }
            (status, _) => panic!("{status} for {:?}", self.ask),
        }
        items.push_back(Item::Cursors(cursors));
        items
    }

    /// Takes a frame; `Some(None)` if it tells nothing.
    fn frame(&mut self, wire: &mut Wire, rng: &mut Rng) -> Option<Option<News>> {
        let bytes = match wire.take_frame()? {
            Frame::Message { text, bytes } => {
                check_kind(text, &bytes);
                bytes
            }
            Frame::Ping(payload) => {
                wire.put_frame(rng, 10, &payload);
                return Some(None);
            }
            Frame::Pong(_) => return Some(None),
            Frame::Close(code) => {
                // 1008: in the hour that passes at the end, what it was in the middle of sending took too long.
                assert!(matches!(code, Some(1001 | 1008 | 1013)), "close {code:?} without a reason");
                wire.put_frame(rng, 8, &code.unwrap_or(1000).to_be_bytes());
                self.stage = Stage::Over;
                return Some(Some(News::Over));
            }
        };
        let head_len = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let head = std::str::from_utf8(&bytes[..head_len]).expect("a header line is UTF-8").to_string();
        let words: Vec<&str> = head.split(' ').collect();
        let news = match words.as_slice() {
            ["HI", "corecast.v1", _session] if matches!(self.stage, Stage::Greeting) => {
                let Start::Since(since) = &self.ask.from else { panic!("there is no Last-Event-ID on a WebSocket") };
                let topic = escape(&self.ask.topics[0]);
                wire.put_message(rng, format!("SUB {topic} since={since} id=s").as_bytes());
                self.stage = Stage::Lines;
                News::Item(Item::Life)
            }
            ["OK", "s", head] => News::Item(Item::Head(Cursor::parse(head))),
            ["ERR", "s", "full" | "too-many", ..] => self.refused(),
            ["MSG", topic, cursor, rest @ ..] => {
                let event = rest.first().map(|word| word.strip_prefix("event=").expect("only an event may follow"));
                assert!(rest.len() <= 1 && head_len < bytes.len(), "a message: {head:?}");
                News::Item(Item::Message(Message {
                    topic: Some(unescape(topic)),
                    cursor: Some(Cursor::parse(cursor)),
                    event: event.map(str::to_string),
                    bytes: bytes[head_len + 1..].to_vec(),
                    loss: Loss::Nothing,
                }))
            }
            ["GAP", topic, from, to, count, reason] => News::Item(Item::Gap(Gap {
                topic: unescape(topic),
                from: from.to_string(),
                to: to.to_string(),
                count: count.parse().expect("a count"),
                reason: reason.to_string(),
            })),
            ["BYE", _code, ..] => return Some(None),
            _ => panic!("no line of the server is {head:?}"),
        };
        Some(Some(news))
    }
}

/// Asserts what every answer says of itself.
fn check_head(answer: &Answer, content_type: Option<&str>) {
    assert_eq!(answer.header("content-type"), content_type, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-cache, no-transform"), "{answer:?}");
    assert_eq!(answer.header("x-accel-buffering"), Some("no"), "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
}
