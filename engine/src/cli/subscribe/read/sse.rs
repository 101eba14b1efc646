//! An event stream, read as the WHATWG text says (HTML, section 9.2.6).

use std::time::Duration;

use corecast_protocol::dialect::sse::{
    BASE64_EVENT, DELETE_EVENT, GAP_EVENT, MERGE_EVENT, REFUSED_EVENT, SNAPSHOT_END_EVENT,
};
use corecast_protocol::message::Op;

use super::splitter::{Ends, Splitter};
use super::{Item, Message, TEXT_BYTES_MAX, object};

/// What events are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::subscribe) enum Events {
    /// One topic: `id` is the message's cursor, and the data its payload.
    Of(String),
    /// Several: the data is the object that a stream has, whole.
    Enveloped,
}

/// The block at hand.
#[derive(Debug)]
pub(super) struct Sse {
    events: Events,
    splitter: Splitter,
    /// Nothing was read yet; a byte order mark may come.
    fresh: bool,
    /// The last event ID, which lasts from block to block.
    id: String,
    event: String,
    data: Option<Vec<u8>>,
}

impl Sse {
    pub(super) fn new(events: Events) -> Sse {
        let splitter = Splitter::new(Ends::Any, TEXT_BYTES_MAX);
        Sse { events, splitter, fresh: true, id: String::new(), event: String::new(), data: None }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut Vec<Item>) -> Result<(), String> {
        let mut rest = bytes;
        while let Some(line) = self.splitter.next(&mut rest)? {
            let mark: &[u8] = if std::mem::take(&mut self.fresh) { b"\xef\xbb\xbf" } else { b"" };
            let line = line.strip_prefix(mark).unwrap_or(line);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if let Some(data) = self.data.take() {
                    found.push(dispatch(&self.events, &self.id, &event, data)?);
                }
                continue;
            }
            let colon = line.iter().position(|&byte| byte == b':');
            let (name, value) = colon.map_or((line, &b""[..]), |at| (&line[..at], &line[at + 1..]));
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let text = || String::from_utf8_lossy(value).into_owned();
            match name {
                b"data" => match &mut self.data {
                    None => self.data = Some(value.to_vec()),
                    Some(data) if data.len() + value.len() < TEXT_BYTES_MAX => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    Some(_) => return Err(format!("an event is longer than {TEXT_BYTES_MAX} bytes")),
                },
                b"event" => self.event = text(),
                b"id" if !value.contains(&0) => self.id = text(),
                b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                    found.push(Item::Retry(Duration::from_millis(text().parse().unwrap_or(u64::MAX))));
                }
                // Comments, and what a later version may say.
                _ => {}
            }
        }
        Ok(())
    }
}

fn dispatch(events: &Events, id: &str, event: &str, data: Vec<u8>) -> Result<Item, String> {
    if event == GAP_EVENT {
        return object::gap(&data);
    }
    if event == REFUSED_EVENT {
        return object::refused(&data);
    }
    if event == SNAPSHOT_END_EVENT {
        return object::snapshot_end(&data);
    }
    if event == MERGE_EVENT || event == DELETE_EVENT {
        return object::item(&data);
    }
    let Events::Of(topic) = events else {
        return object::item(&data);
    };
    let cursor = object::cursor(id)?;
    let (event, payload) = match event {
        "" => (None, data),
        BASE64_EVENT => (None, object::base64(data)?),
        event => (Some(object::event(event)?), data),
    };
    Ok(Item::Message(Message { topic: topic.clone(), cursor, event, key: String::new(), op: Op::Put, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        Sse::new(Events::Of("t".to_owned())).feed(text.as_bytes(), &mut found)?;
        let payload = |item| match item {
            Item::Message(message) => String::from_utf8(message.payload).unwrap(),
            Item::Gap(gap) => format!("gap of {}", gap.count),
            Item::Refused { name, text } => format!("{name}: {text}"),
            Item::Retry(wait) => format!("retry in {wait:?}"),
            Item::SnapshotEnd { topic, .. } => format!("all there was of {topic}"),
        };
        Ok(found.into_iter().map(payload).collect())
    }

    /// The rules of the format: marks, comments, one space, several lines, empty data, blocks without data.
    #[test]
    fn the_format_is_read() {
        for (text, expected) in [
            ("\u{feff}id: 0000000a-1\ndata: a\n\n", &["a"] as &[&str]),
            ("id:0000000a-1\ndata:a\r\n\r\n", &["a"]),
            ("retry: 3000\n\n:comment\n\nid: 0000000a-1\ndata:  a\ndata\ndata: b\n\n", &["retry in 3s", " a\n\nb"]),
            ("retry: soon\nretry:\n\n", &[]),
            ("id: 0000000a-1\ndata\n\ndata:\n\n", &["", ""]),
            ("id: 0000000a-1\n\ndata: a\n\n", &["a"]),
            ("id: 0000000a-1\ndata: not dispatched yet\n", &[]),
            ("id: 0000000a-1\nevent: corecast-base64\ndata: aGk=\n\ndata: a\n\n", &["hi", "a"]),
            (
                "event: corecast-gap\ndata: {\"topic\":\"t\",\"to\":\"0000000a-1\",\"count\":3,\"reason\":\"epoch\"}\n\n",
                &["gap of 3"],
            ),
            ("event: corecast-refused\ndata: {\"name\":\"full\",\"text\":\"no room\"}\n\n", &["full: no room"]),
            (
                "event: corecast-snapshot-end\ndata: {\"topic\":\"t\",\"cursor\":\"0000000a-1\"}\n\n",
                &["all there was of t"],
            ),
            (
                "event: corecast-merge\ndata: {\"topic\":\"t\",\"cursor\":\"0000000a-1\",\"op\":\"merge\",\"data\":\"{}\"}\n\n",
                &["{}"],
            ),
            ("id: 0000000a-1\nevent: refused\ndata: a\n\n", &["a"]),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    /// What cannot be a message of an engine is refused with what is wrong.
    #[test]
    fn lies_are_named() {
        for (text, expected) in [
            ("data: a\n\n", "`` is not a cursor"),
            ("id: 7\ndata: a\n\n", "`7` is not a cursor"),
            ("id: 0000000a-1\nevent: corecast-base64\ndata: ?\n\n", "not base64"),
            ("event: corecast-gap\ndata: {}\n\n", "\"reason\" is missing"),
            ("event: corecast-refused\ndata: {}\n\n", "\"name\" is missing"),
        ] {
            assert!(read(text).unwrap_err().contains(expected), "{text}");
        }
    }

    /// An event whose lines never end is refused when it is too long, although none of its lines is.
    #[test]
    fn an_endless_event_is_refused() {
        let mut sse = Sse::new(Events::Of("t".to_owned()));
        let line = [b"data: ".as_slice(), &vec![b'x'; 1 << 20], b"\n"].concat();
        let results: Vec<_> = (0..200).map(|_| sse.feed(&line, &mut Vec::new())).collect();
        assert!(results.iter().any(|result| result.as_ref().is_err_and(|error| error.contains("longer than"))));
    }
}
