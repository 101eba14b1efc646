//! Readers: the bytes of a body in, messages and gaps out, whatever the pieces it comes in.
//!
//! One file per format. They know nothing of connections, and hold at most one message that is not complete.

mod forever_frame;
mod multipart;
mod object;
mod splitter;
mod sse;

use std::time::Duration;

use corecast_protocol::line::GapReason;
use corecast_protocol::message::Op;
use corecast_protocol::{self as protocol, Cursor};

pub(super) use object::{items, script};
pub(super) use sse::Events;

use forever_frame::ForeverFrame;
use multipart::Multipart;
use splitter::{Ends, Splitter};
use sse::Sse;

/// Largest payload an engine can be configured for.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Largest text or base64 of a payload.
const TEXT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX / 3 * 4 + 4096;
/// Largest object: every byte of a payload may be escaped in six.
pub(super) const OBJECT_BYTES_MAX: usize = 6 * PAYLOAD_BYTES_MAX + 4096;

/// What a topic delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Message(Message),
    Gap(Gap),
    /// What there was of a topic has come.
    SnapshotEnd {
        topic: String,
        cursor: Cursor,
    },
    /// Why a stream ends.
    Refused {
        name: String,
        text: String,
    },
    /// How long to wait before the next one.
    Retry(Duration),
}

/// A message, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) cursor: Cursor,
    pub(super) event: Option<String>,
    /// What it is a value of; empty for none.
    pub(super) key: String,
    pub(super) op: Op,
    pub(super) payload: Vec<u8>,
}

impl Message {
    /// Returns it as the printer wants it.
    pub(super) fn lent(&self) -> protocol::Message<'_> {
        let Message { topic, cursor, event, key, op, payload } = self;
        let text = std::str::from_utf8(payload).is_ok();
        protocol::Message {
            topic,
            cursor: *cursor,
            event: event.as_deref(),
            payload,
            text,
            key,
            op: *op,
            ..Default::default()
        }
    }
}

/// Messages that were not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) topic: String,
    /// Where the topic goes on.
    pub(super) to: Cursor,
    pub(super) count: u64,
    pub(super) reason: GapReason,
}

/// The reader of a stream.
#[derive(Debug)]
pub(super) struct Reader(Format);

#[derive(Debug)]
enum Format {
    Sse(Sse),
    Lines(Splitter),
    Multipart(Multipart),
    ForeverFrame(ForeverFrame),
}

impl Reader {
    pub(super) fn sse(events: Events) -> Reader {
        Reader(Format::Sse(Sse::new(events)))
    }

    /// One object a line.
    pub(super) fn lines() -> Reader {
        Reader(Format::Lines(Splitter::new(Ends::LineFeed, OBJECT_BYTES_MAX)))
    }

    pub(super) fn multipart(boundary: &str) -> Reader {
        Reader(Format::Multipart(Multipart::new(boundary)))
    }

    pub(super) fn forever_frame() -> Reader {
        Reader(Format::ForeverFrame(ForeverFrame::new()))
    }

    /// Takes the next piece, and adds what it completes to `found`. After an error, which says what is wrong, nothing
    /// further can be read.
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut Vec<Item>) -> Result<(), String> {
        match &mut self.0 {
            Format::Sse(sse) => sse.feed(bytes, found),
            Format::Multipart(multipart) => multipart.feed(bytes, found),
            Format::ForeverFrame(frame) => frame.feed(bytes, found),
            Format::Lines(splitter) => {
                let mut rest = bytes;
                while let Some(line) = splitter.next(&mut rest)? {
                    // An empty line is a sign of life.
                    if !line.is_empty() {
                        found.push(object::item(line)?);
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type MakeReader = Box<dyn Fn() -> Reader>;
    use corecast_protocol::dialect;
    use corecast_protocol::dialect::{forever_frame as frame, multipart as parts, ndjson, sse as events};
    use corecast_protocol::write::Writer;

    type Written = (Vec<u8>, Vec<Item>);
    type Encoder = (fn(&protocol::Message<'_>) -> usize, fn(&protocol::Message<'_>, &mut [u8]) -> usize);

    /// How a gap and a refusal are told.
    type Tellers = (fn(&mut Writer<'_>, &protocol::Gap<'_>), fn(&mut Writer<'_>, &str, &str));

    fn said(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut text = [0; 8192];
        let mut w = Writer::new(&mut text);
        write(&mut w);
        let length = w.finish().unwrap();
        text[..length].to_vec()
    }

    /// A body as the engine's own encoders write it, with everything in it that makes readers stumble.
    fn body(start: &[u8], alive: &[u8], encoder: Encoder, (gap, refused): Tellers) -> Written {
        let payloads: [&[u8]; 9] = [
            b"hello",
            b"",
            b"two\nlines\n",
            "\u{2028}gr\u{fc}n \"'</script><!--".as_bytes(),
            b"\xff\x00\xfe",
            b": data: x\n\nid: 7",
            b"--corecast-part-7f3e9a51c2d84b06--\r",
            b"\n--",
            &[0xf0; 300],
        ];
        let topic = "a b/\u{fc}%";
        let at = |seq| Cursor { epoch: 0x1a2b, seq };
        let (mut bytes, mut items) = (start.to_vec(), Vec::new());
        for (seq, payload) in (1..).zip(payloads) {
            let text = std::str::from_utf8(payload).is_ok();
            let event = (text && seq % 2 == 0).then_some("tick");
            let (key, op) = match seq {
                1 => ("a key", Op::Put),
                2 => ("k", Op::Delete),
                4 => ("", Op::Merge),
                _ => ("", Op::Put),
            };
            let message =
                protocol::Message { topic, cursor: at(seq), event, payload, text, key, op, ..Default::default() };
            let mut out = vec![0; encoder.0(&message)];
            encoder.1(&message, &mut out);
            bytes.extend_from_slice(&out);
            bytes.extend_from_slice(alive);
            let (topic, event) = (topic.to_owned(), event.map(str::to_owned));
            items.push(Item::Message(Message {
                topic,
                cursor: at(seq),
                event,
                key: key.to_owned(),
                op,
                payload: payload.to_vec(),
            }));
        }
        let told = protocol::Gap { topic, from: at(9), to: at(12), count: 3, reason: GapReason::Overflow, of: "" };
        bytes.extend_from_slice(&said(|w| gap(w, &told)));
        items.push(Item::Gap(Gap { topic: topic.to_owned(), to: at(12), count: 3, reason: told.reason }));
        bytes.extend_from_slice(&said(|w| refused(w, "too-slow", "too <slow>")));
        items.push(Item::Refused { name: "too-slow".to_owned(), text: "too <slow>".to_owned() });
        (bytes, items)
    }

    /// The same bytes give the same messages, whole, byte by byte, and cut at random: for every format, as the engine
    /// writes it.
    #[test]
    fn cuts_do_not_matter() {
        let start = |prologue: Vec<u8>| prologue;
        let mut sse = body(
            &start([said(|w| events::retry(w, 3000)), said(|w| events::padding(w, 64))].concat()),
            events::HEARTBEAT,
            (events::encoded_len, events::encode),
            (events::gap, events::refused),
        );
        sse.1.insert(0, Item::Retry(Duration::from_secs(3)));
        // The format has one line end only, and no place for a key of a value.
        for item in &mut sse.1 {
            if let Item::Message(message) = item
                && message.op == Op::Put
            {
                message.key.clear();
            }
            if let Item::Message(message) = item
                && message.payload.ends_with(b"--\r")
            {
                message.payload = b"--corecast-part-7f3e9a51c2d84b06--\n".to_vec();
            }
        }
        let lines =
            body(b"\n", ndjson::HEARTBEAT, (ndjson::encoded_len, ndjson::encode), (ndjson::gap, ndjson::refused));
        let mut multipart =
            body(parts::PROLOGUE, parts::HEARTBEAT, (parts::encoded_len, parts::encode), (parts::gap, parts::refused));
        multipart.0.extend_from_slice(parts::END);
        let prologue = said(|w| frame::prologue(w, "parent.corecast"));
        let frames =
            body(&prologue, frame::HEARTBEAT, (frame::encoded_len, frame::encode), (frame::gap, frame::refused));
        let of_topic = || Events::Of("a b/\u{fc}%".to_owned());
        let cases: [(&str, Written, MakeReader); 4] = [
            ("sse", sse, Box::new(move || Reader::sse(of_topic()))),
            ("stream", lines, Box::new(Reader::lines)),
            ("multipart", multipart, Box::new(|| Reader::multipart(dialect::multipart::BOUNDARY))),
            ("forever-frame", frames, Box::new(Reader::forever_frame)),
        ];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        for (name, (bytes, expected), reader) in &cases {
            for round in 0..300 {
                let (mut reader, mut found, mut rest) = (reader(), Vec::new(), bytes.as_slice());
                while !rest.is_empty() {
                    let length = match round {
                        0 => rest.len(),
                        1 => 1,
                        _ => 1 + below(rest.len().min(1 << (round % 12))),
                    };
                    let (piece, after) = rest.split_at(length);
                    reader.feed(piece, &mut found).unwrap_or_else(|error| panic!("{name}, round {round}: {error}"));
                    rest = after;
                }
                assert_eq!(&found, expected, "{name}, round {round}");
            }
        }
    }

    /// Bytes that make no sense end in an error or in nothing, never in a panic.
    #[test]
    fn noise_is_survived() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..2000 {
            let noise: Vec<u8> = (0..64)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    b"\r\n:-b{}\"<> dataid0\xff"[(random % 19) as usize]
                })
                .collect();
            let of_topic = Events::Of("t".to_owned());
            for mut reader in [Reader::sse(of_topic), Reader::lines(), Reader::multipart("b"), Reader::forever_frame()]
            {
                let _ = reader.feed(&noise, &mut Vec::new());
            }
        }
    }
}
