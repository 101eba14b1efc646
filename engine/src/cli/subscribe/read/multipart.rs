//! Parts of `multipart/x-mixed-replace`, each a message, a gap or why no more come.
//!
//! Reads a part's body by its Content-Length, which every part of an engine has, and then insists on the boundary.

use corecast_protocol::message::Op;
use corecast_protocol::percent;

use super::splitter::{Ends, Splitter};
use super::{Item, Message, TEXT_BYTES_MAX, object};

/// Longest line of a part's head: a topic whose every byte is encoded, and room.
const HEAD_LINE_BYTES_MAX: usize = 2048;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// The boundary before the first part.
    First,
    /// A line of a part's head.
    Head,
    /// So many bytes of a part's body.
    Body(usize),
    /// The line end behind a body.
    LineEnd,
    /// The boundary behind a part.
    Boundary,
    /// Nothing that counts: the last boundary was seen.
    End,
}

/// The head of the part at hand.
#[derive(Debug, Default)]
struct Head {
    length: Option<usize>,
    cursor: Option<String>,
    topic: Option<String>,
    event: Option<String>,
    is_base64: bool,
    is_gap: bool,
    is_refused: bool,
    is_end: bool,
    key: String,
    op: Op,
}

/// The part at hand.
#[derive(Debug)]
pub(super) struct Multipart {
    /// `--` and the boundary.
    boundary: Vec<u8>,
    splitter: Splitter,
    due: Due,
    head: Head,
    body: Vec<u8>,
}

impl Multipart {
    pub(super) fn new(boundary: &str) -> Multipart {
        Multipart {
            boundary: format!("--{boundary}").into_bytes(),
            splitter: Splitter::new(Ends::LineFeed, HEAD_LINE_BYTES_MAX),
            due: Due::First,
            head: Head::default(),
            body: Vec::new(),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut Vec<Item>) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Due::Body(left) = self.due {
                let (piece, after) = rest.split_at(left.min(rest.len()));
                self.body.extend_from_slice(piece);
                rest = after;
                self.due = Due::Body(left - piece.len());
                if piece.len() == left {
                    found.push(part(&std::mem::take(&mut self.head), std::mem::take(&mut self.body))?);
                    self.due = Due::LineEnd;
                }
                continue;
            }
            let Some(line) = self.splitter.next(&mut rest)? else { return Ok(()) };
            let line = line.strip_suffix(b"\r").ok_or("a line of a part's head does not end in CRLF")?;
            let after_boundary = line.strip_prefix(self.boundary.as_slice());
            self.due = match (self.due, after_boundary) {
                (Due::First | Due::Boundary, Some(b"")) => Due::Head,
                (Due::Boundary, Some(b"--")) => Due::End,
                (Due::LineEnd, _) if line.is_empty() => Due::Boundary,
                (Due::Head, _) if line.is_empty() => match self.head.length {
                    // An empty one is a message of no bytes, and the end of its part is due at once.
                    Some(0) => {
                        found.push(part(&std::mem::take(&mut self.head), Vec::new())?);
                        Due::LineEnd
                    }
                    Some(length) => Due::Body(length),
                    // The stream ends with a part that has nothing in it.
                    None => Due::Boundary,
                },
                (Due::Head, _) => {
                    self.head.take(line)?;
                    Due::Head
                }
                (Due::End, _) => Due::End,
                (Due::First | Due::Boundary, _) => return Err("a part does not begin with the boundary".to_owned()),
                (Due::LineEnd, _) => return Err("a part is longer than its Content-Length".to_owned()),
                (Due::Body(_), _) => unreachable!("bodies are taken above"),
            };
            if self.due == Due::Boundary && self.head.cursor.is_some() {
                return Err("a part has no Content-Length".to_owned());
            }
        }
        Ok(())
    }
}

impl Head {
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_| "the head of a part is not text")?;
        let (name, value) = line.split_once(':').ok_or("a line of a part's head has no colon")?;
        let value = value.trim();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("content-length") {
            let length = value.parse().ok().filter(|length| *length <= TEXT_BYTES_MAX);
            self.length = Some(length.ok_or_else(|| format!("a part of {} bytes is too long", object::shown(value)))?);
        } else if is("corecast-cursor") {
            self.cursor = Some(value.to_owned());
        } else if is("corecast-topic") {
            let mut room = vec![0; value.len()];
            let decoded = percent::decode(value, &mut room, false).map_err(|violation| violation.text())?;
            self.topic = Some(object::topic(decoded)?);
        } else if is("corecast-event") {
            self.event = Some(object::event(value)?);
        } else if is("corecast-message-key") {
            let mut room = vec![0; value.len()];
            let decoded = percent::decode(value, &mut room, false).map_err(|violation| violation.text())?;
            self.key = object::key(decoded)?;
        } else if is("corecast-op") {
            self.op = object::op(value)?;
        } else if is("corecast-snapshot-end") {
            self.is_end = true;
        } else if is("content-transfer-encoding") {
            self.is_base64 = value.eq_ignore_ascii_case("base64");
        } else if is("corecast-gap") {
            self.is_gap = true;
        } else if is("corecast-refused") {
            self.is_refused = true;
        }
        Ok(())
    }
}

fn part(head: &Head, body: Vec<u8>) -> Result<Item, String> {
    if head.is_gap {
        return object::gap(&body);
    }
    if head.is_refused {
        return object::refused(&body);
    }
    if head.is_end {
        return object::snapshot_end(&body);
    }
    let missing = "a part has no Corecast-Cursor and Corecast-Topic";
    Ok(Item::Message(Message {
        topic: head.topic.clone().ok_or(missing)?,
        cursor: object::cursor(head.cursor.as_deref().ok_or(missing)?)?,
        event: head.event.clone(),
        key: head.key.clone(),
        op: head.op,
        payload: if head.is_base64 { object::base64(body)? } else { body },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What breaks the format is refused with what is wrong.
    #[test]
    fn lies_are_named() {
        let start = "--b\r\nCorecast-Cursor: 0000000a-1\r\nCorecast-Topic: t\r\n";
        for (text, expected) in [
            ("hello\r\n".to_owned(), "does not begin with the boundary"),
            ("--b\n".to_owned(), "does not end in CRLF"),
            (format!("{start}Content-Length: 2\r\n\r\nabc\r\n"), "longer than its Content-Length"),
            (format!("{start}Content-Length: 99999999999999999999\r\n\r\n"), "too long"),
            (format!("{start}Content-Length: -1\r\n\r\n"), "too long"),
            (format!("{start}\r\nabc"), "no Content-Length"),
            (format!("{start}Content-Length: 1\r\n\r\na\r\n--c\r\n"), "does not begin with the boundary"),
            ("--b\r\nContent-Length: 1\r\n\r\na".to_owned(), "no Corecast-Cursor"),
            ("--b\r\nno colon\r\n".to_owned(), "no colon"),
            ("--b\r\nCorecast-Topic: %zz\r\n".to_owned(), "hexadecimal"),
            (format!("--b\r\nA: {}", "x".repeat(3000)), "longer than"),
        ] {
            let error = Multipart::new("b").feed(text.as_bytes(), &mut Vec::new()).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
