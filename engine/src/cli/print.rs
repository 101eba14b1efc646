//! How `corecast sub` writes a message on stdout.

use std::io::{self, BufWriter, Stdout, Write};

use corecast_protocol::cursor::TEXT_BYTES_MAX;
use corecast_protocol::dialect::{self, ndjson};
use corecast_protocol::message::Op;
use corecast_protocol::write::Writer;
use corecast_protocol::{Cursor, Gap, Message};

/// Bytes of a line that is no message: a name of a topic, or a text of the engine's, each byte escaped in six.
const ASIDE_BYTES_MAX: usize = 8 << 10;

/// What a message looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `topic cursor payload`, one line whatever the payload holds: a stranger's bytes must not drive a terminal.
    Plain,
    /// The lines that a `stream` has: objects of messages, gaps and refusals.
    Json,
    /// The payload, byte for byte, and a line feed.
    Raw,
}

/// Writes messages; what cannot be written is an error at once, or when it is flushed.
#[derive(Debug)]
pub(super) struct Printer {
    shape: Shape,
    out: BufWriter<Stdout>,
}

impl Printer {
    pub(super) fn new(shape: Shape) -> Printer {
        Printer { shape, out: BufWriter::new(io::stdout()) }
    }

    pub(super) fn message(&mut self, message: &Message<'_>) -> io::Result<()> {
        let line = shaped(self.shape, message);
        self.out.write_all(&line)
    }

    /// Says that what there was of a topic has come, likewise.
    pub(super) fn snapshot_end(&mut self, topic: &str, cursor: Cursor) -> io::Result<()> {
        self.aside(|w| ndjson::end_of_snapshot(w, topic, cursor))
    }

    /// Says that messages are missing, where that has a place among them.
    pub(super) fn gap(&mut self, gap: &Gap<'_>) -> io::Result<()> {
        self.aside(|w| ndjson::gap(w, gap))
    }

    /// Says why the engine ends a connection, likewise.
    pub(super) fn refused(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.aside(|w| ndjson::refused(w, name, text))
    }

    fn aside(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> io::Result<()> {
        if self.shape != Shape::Json {
            return Ok(());
        }
        let mut line = [0; ASIDE_BYTES_MAX];
        let mut w = Writer::new(&mut line);
        write(&mut w);
        let length = w.finish().map_err(|_| io::Error::other("a line is too long"))?;
        self.out.write_all(&line[..length])
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn shaped(shape: Shape, message: &Message<'_>) -> Vec<u8> {
    let Message { topic, cursor, payload, key, op, .. } = *message;
    let mut text = [0; TEXT_BYTES_MAX];
    let mut line = match shape {
        // What is gone has none.
        Shape::Raw if op == Op::Delete => return Vec::new(),
        Shape::Raw => payload.to_vec(),
        Shape::Plain => {
            let payload: String = String::from_utf8_lossy(payload).chars().flat_map(tame).collect();
            let key = if key.is_empty() { String::new() } else { format!(" key={}", key.escape_debug()) };
            let op = op.said().map_or(String::new(), |op| format!(" op={op}"));
            format!("{topic} {}{key}{op} {payload}", cursor.text(&mut text)).into_bytes()
        }
        Shape::Json => {
            let mut object = vec![0; dialect::json::encoded_len(message)];
            let length = dialect::json::encode(message, &mut object);
            object.truncate(length);
            object
        }
    };
    line.push(b'\n');
    line
}

/// Escapes what would leave the line or drive a terminal; a tab does neither.
pub(super) fn tame(letter: char) -> impl Iterator<Item = char> {
    let harmful = letter.is_control() && letter != '\t';
    let escaped = harmful.then(|| letter.escape_default());
    let plain = (!harmful).then_some(letter);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn line(shape: Shape, event: Option<&str>, payload: &[u8]) -> String {
        let cursor = Cursor { epoch: 0x1a2b, seq: 17 };
        let text = std::str::from_utf8(payload).is_ok();
        let message = Message { topic: "a/b", cursor, event, payload, text, ..Default::default() };
        String::from_utf8_lossy(&shaped(shape, &message)).into_owned()
    }

    /// A plain message is one line, and control characters of a stranger do not reach the terminal.
    #[test]
    fn plain_is_one_tame_line() {
        assert_eq!(line(Shape::Plain, None, b"hello"), "a/b 00001a2b-17 hello\n");
        assert_eq!(line(Shape::Plain, None, b"a\nb\x1b[2J\tc"), "a/b 00001a2b-17 a\\nb\\u{1b}[2J\tc\n");
        assert_eq!(line(Shape::Plain, None, b"\xff"), "a/b 00001a2b-17 \u{fffd}\n");
    }

    /// JSON carries everything; bytes that are not UTF-8 go as base64.
    #[test]
    fn json_carries_everything() {
        let value: Value = serde_json::from_str(&line(Shape::Json, Some("tick"), b"a\"\n")).unwrap();
        assert_eq!(value, serde_json::json!({"topic":"a/b","cursor":"00001a2b-17","event":"tick","data":"a\"\n"}));
        let value: Value = serde_json::from_str(&line(Shape::Json, None, b"\xff\xfe")).unwrap();
        assert_eq!((&value["encoding"], &value["data"]), (&"base64".into(), &"//4=".into()));
    }

    /// Raw adds nothing but a line feed.
    #[test]
    fn raw_is_the_payload() {
        let message = Message { topic: "t", payload: b"\x00\xff", ..Default::default() };
        assert_eq!(shaped(Shape::Raw, &message), b"\x00\xff\n");
        assert_eq!(shaped(Shape::Raw, &Message { op: Op::Delete, ..message }), b"");
        let gone = Message { key: "a\x1b", op: Op::Delete, payload: b"", ..message };
        assert_eq!(shaped(Shape::Plain, &gone), b"t 00000000-0 key=a\\u{1b} op=delete \n");
    }
}
