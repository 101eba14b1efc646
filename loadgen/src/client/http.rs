//! Subscribing over HTTP: Server-Sent Events, long polls and polls, each of which goes on from a cursor.
//!
//! The first request of a connection is always a poll: its answer says where the topic stands, so that nothing is missed
//! between it and what follows, and who comes back is known to be there at once. Only a stream goes on by itself.

use corecast_protocol::cursor::{Cursor, Since};
use corecast_protocol::http::body::Chunked;
use corecast_protocol::http::client::{Reply, ReplyBody, parse, request};
use corecast_protocol::write::Writer;
use serde::Deserialize;
use std::borrow::Cow;

use super::{Client, Ears, Fault, HEAD_BYTES_MAX, Purpose, Rules, State, Wire, write_head};
use crate::plan::Transport;
use crate::subscription::Subscription;

/// What a connection has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Where the topic stands, and what there is.
    Poll,
    /// What comes next.
    LongPoll,
    Stream,
    /// Nothing; the next poll comes later.
    Nothing,
}

/// Where a connection is in its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    asked: Asked,
    /// The body of a stream.
    body: Option<Chunked>,
}

impl Exchange {
    pub(super) fn new() -> Exchange {
        Exchange { asked: Asked::Nothing, body: None }
    }
}

/// A message or a gap in the answer to a poll.
#[derive(Debug, Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    data: Option<Cow<'a, str>>,
    #[serde(borrow)]
    gap: Option<Gap<'a>>,
}

#[derive(Debug, Deserialize)]
struct Gap<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    count: u64,
}

impl Gap<'_> {
    fn tell(&self, client: &Client, ears: &mut Ears<'_>) -> Result<(), Fault> {
        let from = Cursor::parse(&self.from).map_err(|_| format!("a gap from {}", self.from))?;
        let to = Cursor::parse(&self.to).map_err(|_| format!("a gap to {}", self.to))?;
        client.gap(0, from, to, self.count, ears);
        Ok(())
    }
}

impl Client {
    /// Says whether the next poll is to be made later.
    pub(crate) fn pauses(&self) -> bool {
        matches!(self.wire, Wire::Http(Exchange { asked: Asked::Nothing, .. })) && self.ready()
    }

    /// Asks for what comes next.
    pub(crate) fn ask(&mut self, rules: &Rules, subscription: &Subscription, say: &mut Vec<u8>) {
        let (Wire::Http(exchange), Purpose::Subscribe(own)) = (&mut self.wire, self.purpose) else {
            return;
        };
        let known = subscription.cursor().is_some();
        exchange.asked = match rules.plan.transport {
            Transport::Sse if known => Asked::Stream,
            Transport::LongPoll if self.state == State::Ready => Asked::LongPoll,
            _ => Asked::Poll,
        };
        let transport = match exchange.asked {
            Asked::Stream => "sse",
            Asked::LongPoll => "long-poll",
            Asked::Poll | Asked::Nothing => "poll",
        };
        let topic = rules.plan.topic_name(rules.plan.topic_of(rules.plan.subscribe[0], own));
        let mut since = [0; 64];
        let mut writer = Writer::new(&mut since);
        subscription.cursor().map_or(Since::Live, Since::After).write(&mut writer);
        let len = writer.finish().expect("a cursor is at most 29 bytes");
        let since = String::from_utf8_lossy(&since[..len]);
        let conflate = if rules.plan.conflate && exchange.asked == Asked::Stream { "&conflate" } else { "" };
        let target = format!("/topics/{topic}?transport={transport}&since={since}{conflate}");
        write_head(say, |writer| request(writer, "GET", &target, &rules.host, &[], None));
    }

    /// Takes answers and events, and returns how many bytes they were.
    pub(super) fn take_http(&mut self, bytes: &[u8], ears: &mut Ears<'_>) -> Result<usize, Fault> {
        let mut at = 0;
        loop {
            let Wire::Http(exchange) = &mut self.wire else {
                return Ok(at);
            };
            if let Some(chunked) = &mut exchange.body {
                let piece = chunked
                    .next(&bytes[at..])
                    .map_err(|violation| format!("the stream is not chunked as it should be: {}", violation.text()))?;
                if piece.done {
                    exchange.body = None;
                }
                let data = at + piece.data.start..at + piece.data.end;
                at += piece.consumed;
                self.events(&bytes[data], ears)?;
                if piece.done {
                    self.ask(ears.rules, &ears.subscriptions[0], ears.say);
                } else if at == bytes.len() {
                    return Ok(at);
                }
                continue;
            }
            let answer = parse(&bytes[at..], HEAD_BYTES_MAX)
                .map_err(|violation| format!("the answer is not HTTP: {}", violation.text()))?;
            let Some((reply, head_len)) = answer else {
                return Ok(at);
            };
            if exchange.asked == Asked::Stream {
                if (reply.status, reply.body) != (200, ReplyBody::Chunked) {
                    return Err(format!("the server answered {} to a stream", reply.status));
                }
                exchange.body = Some(Chunked::default());
                self.state = State::Ready;
                at += head_len;
                continue;
            }
            let body_len = match reply.body {
                ReplyBody::None => 0,
                ReplyBody::Sized(len) => len as usize,
                body => return Err(format!("the answer to a poll has no length: {body:?}")),
            };
            let Some(body) = bytes.get(at + head_len..at + head_len + body_len) else {
                return Ok(at);
            };
            self.polled(&reply, body, ears)?;
            at += head_len + body_len;
        }
    }

    /// Takes the answer to a poll, and asks on.
    fn polled(&mut self, reply: &Reply<'_>, body: &[u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        let text = || String::from_utf8_lossy(body).into_owned();
        match reply.status {
            200 | 204 => {}
            status => return Err(format!("the server answered {status} to a poll: {}", text())),
        }
        let cursor = reply.corecast_cursor.and_then(|cursor| Cursor::parse(cursor).ok());
        let cursor = cursor.ok_or("the answer to a poll has no cursor")?;
        // Before what it brings: this is where a first poll begins.
        self.subscribed(0, ears);
        if reply.status == 200 {
            let items: Vec<Item<'_>> =
                serde_json::from_slice(body).map_err(|error| format!("the answer to a poll is wrong: {error}"))?;
            for item in items {
                match (&item.data, &item.gap) {
                    (Some(data), _) => {
                        self.delivery(data.as_bytes(), ears);
                    }
                    (None, Some(gap)) => gap.tell(self, ears)?,
                    (None, None) => return Err(format!("the answer to a poll is wrong: {item:?}")),
                }
            }
        }
        ears.subscriptions[0].set_cursor(cursor);
        let Wire::Http(exchange) = &mut self.wire else {
            return Ok(());
        };
        let transport = ears.rules.plan.transport;
        if transport != Transport::Sse {
            self.state = State::Ready;
        }
        if transport == Transport::Poll {
            exchange.asked = Asked::Nothing;
        } else {
            self.ask(ears.rules, &ears.subscriptions[0], ears.say);
        }
        Ok(())
    }

    /// Takes a piece of an event stream.
    fn events(&mut self, data: &[u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        if self.cut.as_ref().is_none_or(|cut| cut.message.is_empty()) {
            let used = self.blocks(data, ears)?;
            if used < data.len() {
                self.cut.get_or_insert_default().message.extend_from_slice(&data[used..]);
            }
            return Ok(());
        }
        let mut message = self.cut.as_mut().map(|cut| std::mem::take(&mut cut.message)).unwrap_or_default();
        message.extend_from_slice(data);
        let used = self.blocks(&message, ears)?;
        message.drain(..used);
        if message.len() > ears.rules.payload_bytes_max + HEAD_BYTES_MAX {
            return Err("an event is longer than any that was published".to_owned());
        }
        self.cut.get_or_insert_default().message = message;
        Ok(())
    }

    /// Takes whole blocks, and returns how many bytes they were.
    fn blocks(&mut self, data: &[u8], ears: &mut Ears<'_>) -> Result<usize, Fault> {
        let mut at = 0;
        while let Some(len) = data[at..].windows(2).position(|pair| pair == b"\n\n") {
            self.block(&data[at..at + len], ears)?;
            at += len + 2;
        }
        Ok(at)
    }

    fn block(&mut self, block: &[u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        let (mut id, mut event, mut payload) = (None, None, None);
        for line in block.split(|byte| *byte == b'\n') {
            match line {
                [b'i', b'd', b':', b' ', value @ ..] => id = Some(value),
                [b'e', b'v', b'e', b'n', b't', b':', b' ', value @ ..] => event = Some(value),
                // What is published here has one line.
                [b'd', b'a', b't', b'a', b':', b' ', value @ ..] => payload = Some(value),
                _ => {}
            }
        }
        match (event, payload) {
            (Some(b"corecast-gap"), Some(payload)) => {
                let gap: Gap<'_> =
                    serde_json::from_slice(payload).map_err(|error| format!("a gap cannot be read: {error}"))?;
                gap.tell(self, ears)?;
            }
            // As a WebSocket is closed: what is sent away here is no success.
            (Some(b"corecast-refused"), Some(payload)) => {
                return Err(format!("the server refused the stream: {}", String::from_utf8_lossy(payload)));
            }
            (_, Some(payload)) => {
                if self.delivery(payload, ears).is_none() {
                    return Ok(());
                }
            }
            (_, None) => {}
        }
        if let Some(id) = id {
            let cursor = std::str::from_utf8(id).ok().and_then(|id| Cursor::parse(id).ok());
            let cursor = cursor.ok_or_else(|| format!("no cursor in {}", String::from_utf8_lossy(id)))?;
            ears.subscriptions[0].set_cursor(cursor);
        }
        Ok(())
    }
}
