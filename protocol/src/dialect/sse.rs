//! Server-Sent Events: one event per message (WHATWG HTML, section 9.2 "Server-sent events").
//!
//! Owns the event that subscribers share, and the blocks of one connection: [`retry`], [`id_only`], [`gap`], [`refused`],
//! [`comment`], [`padding`]. A payload comes out of an `EventSource` as it went in, but for its line ends: the format knows only one, so CR
//! and CRLF arrive as LF. A payload that is not UTF-8 goes in base64 under the event name [`BASE64_EVENT`]; its own event name
//! finds no place then.
//!
//! `id:` is what the browser sends back as Last-Event-ID. On a request for one topic it is the message's cursor. On a request
//! for several it is the cursors of all of them, which no two subscribers have alike: there the shared event goes
//! [without](encode_without_id), and an [`id_only`] block follows as often as the connection likes. What has arrived behind the
//! last such block comes again after a reconnect, so the block belongs right behind the events.
//!
//! Browsers show neither the topic nor what they take for an unknown field, and a listener has to be there for every event name.
//! For a page with several topics, or with names it does not know beforehand, the event goes in an [envelope](encode_enveloped):
//! its data is the [JSON object](super::json) that holds everything, and its type is always `message`.
//!
//! [`TEXT_BYTES_MAX`](crate::cursor::TEXT_BYTES_MAX) bytes of cursor and 64 of event name bound what an event adds to its data;
//! a line of data adds 7, so a payload of line feeds only grows sevenfold.

use memchr::memchr2;

use super::json as object;
use super::json::{base64, base64_len};
use crate::cursor::Cursor;
use crate::json;
use crate::message::{Gap, Message, Op};
use crate::write::Writer;

/// The type of the answer's body.
pub const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";

/// The event name of a payload in base64.
pub const BASE64_EVENT: &str = "corecast-base64";

/// The event name of a gap.
pub const GAP_EVENT: &str = "corecast-gap";

/// The event name of a refusal. No publisher can take it: names that begin with `corecast-` are the engine's.
pub const REFUSED_EVENT: &str = "corecast-refused";

/// The event name of a change of what a key has, or a topic: the `data` of its object is a JSON merge patch.
pub const MERGE_EVENT: &str = "corecast-merge";

/// The event name of a key that is gone, or of all that a topic had.
pub const DELETE_EVENT: &str = "corecast-delete";

/// The event name of the end of what there was of a topic.
pub const SNAPSHOT_END_EVENT: &str = "corecast-snapshot-end";

/// The heartbeat: an empty comment, which no `EventSource` shows.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// The least bytes of [`padding`].
pub const PADDING_BYTES_MIN: usize = HEARTBEAT.len();

const ID: &str = "id: ";
const TOPIC: &str = "topic: ";
const EVENT: &str = "event: ";
const DATA: &str = "data: ";

/// Says how many bytes [`encode`] writes.
pub fn encoded_len(message: &Message<'_>) -> usize {
    ID.len() + message.cursor.text_len() + 1 + event_len(message)
}

/// Writes the message as one event, `id`, `event` if it has one, `data` and an empty line, to the start of `out`, and says how
/// many bytes it took: [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    w.text(ID);
    message.cursor.write(&mut w);
    w.byte(b'\n');
    write_event(message, &mut w);
    w.finish().expect("the caller gave encoded_len bytes")
}

/// Says how many bytes [`encode_without_id`] writes.
pub fn encoded_len_without_id(message: &Message<'_>) -> usize {
    TOPIC.len() + message.topic.len() + 1 + event_len(message)
}

/// Writes the message as [`encode`] does, for requests with several topics: without `id`, and with a field `topic` that
/// browsers ignore and other clients may read: [`encoded_len_without_id`] bytes.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode_without_id(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    // No valid topic holds a control character, and so none breaks the line.
    w.text(TOPIC);
    w.text(message.topic);
    w.byte(b'\n');
    write_event(message, &mut w);
    w.finish().expect("the caller gave encoded_len_without_id bytes")
}

/// Says how many bytes [`encode_enveloped`] writes.
pub fn encoded_len_enveloped(message: &Message<'_>) -> usize {
    ID.len() + message.cursor.text_len() + 1 + encoded_len_enveloped_without_id(message)
}

/// Writes the message as one event in an envelope, `id`, `data` and an empty line: [`encoded_len_enveloped`] bytes. The data is
/// the [JSON object](super::json::encode), one line of it, which also says whether the payload is in base64.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode_enveloped(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    w.text(ID);
    message.cursor.write(&mut w);
    w.byte(b'\n');
    write_enveloped(message, &mut w);
    w.finish().expect("the caller gave encoded_len_enveloped bytes")
}

/// Says how many bytes [`encode_enveloped_without_id`] writes.
pub fn encoded_len_enveloped_without_id(message: &Message<'_>) -> usize {
    DATA.len() + object::encoded_len(message) + 2
}

/// Writes the message as [`encode_enveloped`] does, without `id`, for requests with several topics:
/// [`encoded_len_enveloped_without_id`] bytes.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode_enveloped_without_id(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    write_enveloped(message, &mut w);
    w.finish().expect("the caller gave encoded_len_enveloped_without_id bytes")
}

fn write_enveloped(message: &Message<'_>, w: &mut Writer<'_>) {
    w.text(DATA);
    // JSON escapes control characters, so no payload breaks the line.
    object::write_object::<false>(message, w);
    w.text("\n\n");
}

fn event_len(message: &Message<'_>) -> usize {
    if let Some(event) = object_event(message) {
        return EVENT.len() + event.len() + 1 + encoded_len_enveloped_without_id(message);
    }
    let event = event_name(message).map_or(0, |event| EVENT.len() + event.len() + 1);
    let data = if message.text {
        lines(message.payload).map(|line| DATA.len() + line.len() + 1).sum()
    } else {
        DATA.len() + base64_len(message.payload.len()) + 1
    };
    event + data + 1
}

/// Returns the event name of a message that is no whole value, so that nobody takes its data for one: its data is the object that holds
/// everything.
fn object_event(message: &Message<'_>) -> Option<&'static str> {
    match message.op {
        Op::Put => None,
        Op::Merge => Some(MERGE_EVENT),
        Op::Delete => Some(DELETE_EVENT),
    }
}

fn write_event(message: &Message<'_>, w: &mut Writer<'_>) {
    if let Some(event) = object_event(message) {
        field(w, EVENT, event);
        return write_enveloped(message, w);
    }
    if let Some(event) = event_name(message) {
        field(w, EVENT, event);
    }
    if message.text {
        for line in lines(message.payload) {
            w.text(DATA);
            w.put(line);
            w.byte(b'\n');
        }
    } else {
        w.text(DATA);
        base64(w, message.payload);
        w.byte(b'\n');
    }
    w.byte(b'\n');
}

fn event_name<'a>(message: &Message<'a>) -> Option<&'a str> {
    if message.text { message.event } else { Some(BASE64_EVENT) }
}

/// Goes through the lines of a text, which end at CR, LF or CRLF. There is always one more than there are line ends, so that an
/// empty text is one empty line, and a line end at the end of the text is not lost.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memchr2(b'\r', b'\n', text) else {
            return rest.take();
        };
        let taken = if text[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&text[end + taken..]);
        Some(&text[..end])
    })
}

/// Writes `retry: <ms>`: how long the browser waits before it comes back. Fit for the start of a stream.
pub fn retry(w: &mut Writer<'_>, ms: u32) {
    w.text("retry: ");
    w.decimal(u64::from(ms));
    w.text("\n\n");
}

/// Writes a block that only sets Last-Event-ID: a browser remembers it, and shows no event. Control characters in `id` become
/// spaces, so that it stays one field; a cursor or a [list](crate::cursor::write_list) of them holds none.
pub fn id_only(w: &mut Writer<'_>, id: &str) {
    field(w, ID, id);
    w.byte(b'\n');
}

/// Writes a gap as an event [`GAP_EVENT`] whose data is [`json::gap`]. Its `id` is where the gap ends, so that a browser that
/// comes back is not told of it again.
pub fn gap(w: &mut Writer<'_>, gap: &Gap<'_>) {
    w.text(ID);
    gap.to.write(w);
    w.byte(b'\n');
    gap_without_id(w, gap);
}

/// Writes a gap as [`gap`] does, without `id`, for requests with several topics.
pub fn gap_without_id(w: &mut Writer<'_>, gap: &Gap<'_>) {
    field(w, EVENT, GAP_EVENT);
    w.text(DATA);
    json::gap(w, gap);
    w.text("\n\n");
}

/// Writes that what there was of a topic has come, as an event [`SNAPSHOT_END_EVENT`] whose data is [`json::end_of_snapshot`].
pub fn end_of_snapshot(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    field(w, EVENT, SNAPSHOT_END_EVENT);
    w.text(DATA);
    json::end_of_snapshot(w, topic, cursor);
    w.text("\n\n");
}

/// Writes why the stream ends behind this, as an event [`REFUSED_EVENT`] whose data is [`json::refused`]. It has no `id`, so that
/// the cursor stays what it was; a browser without a listener for it shows nothing.
pub fn refused(w: &mut Writer<'_>, name: &str, text: &str) {
    field(w, EVENT, REFUSED_EVENT);
    w.text(DATA);
    json::refused(w, name, text);
    w.text("\n\n");
}

/// Writes a comment, which no `EventSource` shows; control characters in `text` become spaces. Without text it is
/// [`HEARTBEAT`].
pub fn comment(w: &mut Writer<'_>, text: &str) {
    if text.is_empty() {
        return w.put(HEARTBEAT);
    }
    field(w, ": ", text);
    w.byte(b'\n');
}

/// Writes a comment of exactly `bytes` bytes, at least [`PADDING_BYTES_MIN`]: what makes proxies and virus scanners that hold
/// the first bytes of an answer let go of them.
pub fn padding(w: &mut Writer<'_>, bytes: usize) {
    w.byte(b':');
    for _ in PADDING_BYTES_MIN..bytes {
        w.byte(b' ');
    }
    w.text("\n\n");
}

/// Writes one field and its line end; control characters in the value become spaces.
fn field(w: &mut Writer<'_>, name: &str, value: &str) {
    w.text(name);
    for byte in value.bytes() {
        w.byte(if byte.is_ascii_control() { b' ' } else { byte });
    }
    w.byte(b'\n');
}
