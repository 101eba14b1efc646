//! The `corecast.v1` dialect: what the server says on a line-protocol connection.
//!
//! Owns the MSG frame, which all subscribers share, and the texts of the answers that only one connection gets ([`gap`],
//! [`hi`], [`ok`], [`err`], [`pong`], [`bye`]); [`text_frame`] puts such a text into a frame. What clients say is in
//! [`line`](mod@crate::line).

use super::payload::opcode;
use crate::cursor::Cursor;
use crate::line::{ErrCode, GapReason, Stat};
use crate::message::{Message, Op};
use crate::percent::{encode_topic_word, topic_word_len};
use crate::write::{Overflow, Writer};
use crate::ws::frame::{Opcode, header_len, wrap, write_header};
use crate::ws::handshake::CORECAST_V1;

const KEY: &str = " key=";
const OP: &str = " op=";
const OF: &str = " of=";
const AT: &str = " at=";

/// Says how many bytes [`encode`] writes.
pub fn encoded_len(message: &Message<'_>) -> usize {
    let body = body_len(message);
    header_len(body, false) + body
}

/// Writes the message as one frame, `MSG <topic> <cursor> [event=<name>] [key=<key>] [op=<op>] [of=<pattern> [at=<place>]]`, line feed, payload, to the start of `out`, and
/// says how many bytes it took: [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let body = body_len(message);
    let header = write_header(out, true, false, opcode(message), body, None);
    let mut w = Writer::new(&mut out[header..header + body]);
    w.put(b"MSG ");
    encode_topic_word(message.topic, &mut w);
    w.byte(b' ');
    message.cursor.write(&mut w);
    if let Some(event) = message.event {
        w.put(b" event=");
        w.text(event);
    }
    if is_keyed(message) {
        write_key(message, &mut w);
    }
    if !message.of.is_empty() {
        write_places(message, &mut w);
    }
    w.byte(b'\n');
    w.put(message.payload);
    header + w.finish().expect("body_len counts what is written here")
}

fn body_len(message: &Message<'_>) -> usize {
    let event = message.event.map_or(0, |event| b" event=".len() + event.len());
    let key = if is_keyed(message) { key_len(message) } else { 0 };
    let at = if message.of.is_empty() { 0 } else { places_len(message) };
    let words = topic_word_len(message.topic) + 1 + message.cursor.text_len() + event + key + at;
    b"MSG ".len() + words + 1 + message.payload.len()
}

/// Says whether a message has something to say of a key.
#[inline]
fn is_keyed(message: &Message<'_>) -> bool {
    !message.key.is_empty() || message.op != Op::Put
}

fn places_len(message: &Message<'_>) -> usize {
    OF.len() + topic_word_len(message.of) + message.at.map_or(0, |at| AT.len() + at.text_len())
}

fn write_places(message: &Message<'_>, w: &mut Writer<'_>) {
    w.text(OF);
    encode_topic_word(message.of, w);
    if let Some(at) = message.at {
        w.text(AT);
        at.write(w);
    }
}

#[cold]
fn key_len(message: &Message<'_>) -> usize {
    let key = if message.key.is_empty() { 0 } else { KEY.len() + topic_word_len(message.key) };
    key + message.op.said().map_or(0, |op| OP.len() + op.len())
}

#[cold]
fn write_key(message: &Message<'_>, w: &mut Writer<'_>) {
    if !message.key.is_empty() {
        w.text(KEY);
        encode_topic_word(message.key, w);
    }
    if let Some(op) = message.op.said() {
        w.text(OP);
        w.text(op);
    }
}

/// Writes `EOS <topic> <cursor>`: what there was of a topic has come, up to `cursor`; what follows is new.
pub fn end_of_snapshot(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    w.text("EOS ");
    encode_topic_word(topic, w);
    w.byte(b' ');
    cursor.write(w);
}

/// Writes `GAP <topic> <from> <to> <count> <reason>`: `count` messages after
/// `from`, up to and with `to`, were not delivered.
pub fn gap(w: &mut Writer<'_>, topic: &str, from: Cursor, to: Cursor, count: u64, reason: GapReason) {
    w.text("GAP ");
    encode_topic_word(topic, w);
    w.byte(b' ');
    from.write(w);
    w.byte(b' ');
    to.write(w);
    w.byte(b' ');
    w.decimal(count);
    w.byte(b' ');
    w.text(reason.as_str());
}

/// Writes that it is told to a reader of a pattern, behind a gap: ` of=<pattern>`.
pub fn gap_of(w: &mut Writer<'_>, pattern: &str) {
    w.text(OF);
    encode_topic_word(pattern, w);
}

/// Writes `HI corecast.v1 <session>`; the session is one word.
pub fn hi(w: &mut Writer<'_>, session: &str) {
    w.text("HI ");
    w.text(CORECAST_V1);
    w.byte(b' ');
    w.text(session);
}

/// Writes `OK <token> <cursor> repeated`: the message had been published before, under this cursor; where that is not known any more, there
/// is neither.
pub fn ok_again(w: &mut Writer<'_>, token: &str, cursor: Option<Cursor>) {
    ok(w, token, cursor);
    if cursor.is_some() {
        w.text(" repeated");
    }
}

/// Writes `OK <token> [cursor]`.
pub fn ok(w: &mut Writer<'_>, token: &str, cursor: Option<Cursor>) {
    w.text("OK ");
    w.text(token);
    if let Some(cursor) = cursor {
        w.byte(b' ');
        cursor.write(w);
    }
}

/// Writes `OK <token> <places>`: the answer to `SUB` of a pattern.
pub fn ok_at(w: &mut Writer<'_>, token: &str, places: &str) {
    w.text("OK ");
    w.text(token);
    w.byte(b' ');
    w.text(places);
}

/// Writes `EOS <pattern> <places>`: what there was of the topics of a pattern has come.
pub fn end_of_places(w: &mut Writer<'_>, pattern: &str, places: &str) {
    w.text("EOS ");
    encode_topic_word(pattern, w);
    w.byte(b' ');
    w.text(places);
}

/// Writes `ERR <token or -> <code> <text>`.
pub fn err(w: &mut Writer<'_>, token: Option<&str>, code: ErrCode, text: &str) {
    w.text("ERR ");
    w.text(token.unwrap_or("-"));
    w.byte(b' ');
    w.text(code.as_str());
    w.byte(b' ');
    w.text(text);
}

/// Writes `ERR - <code> <text>` about a subscription that has ended: its topic, as one word, begins the text.
pub fn ended(w: &mut Writer<'_>, topic: &str, code: ErrCode) {
    w.text("ERR - ");
    w.text(code.as_str());
    w.byte(b' ');
    encode_topic_word(topic, w);
    w.text(" may not be read any more: the subscription has ended");
}

/// Writes `PONG [token]`.
pub fn pong(w: &mut Writer<'_>, token: Option<&str>) {
    w.text("PONG");
    if let Some(token) = token {
        w.byte(b' ');
        w.text(token);
    }
}

/// Writes `STAT [token] waiting=<bytes> messages=<number> blocked=<0 or 1> bandwidth=<bytes a second>`.
pub fn stat(w: &mut Writer<'_>, token: Option<&str>, stat: Stat) {
    w.text("STAT");
    if let Some(token) = token {
        w.byte(b' ');
        w.text(token);
    }
    let Stat { waiting, messages, blocked, bandwidth } = stat;
    let numbers = [waiting, messages, u64::from(blocked), u64::from(bandwidth)];
    for (name, number) in [" waiting=", " messages=", " blocked=", " bandwidth="].into_iter().zip(numbers) {
        w.text(name);
        w.decimal(number);
    }
}

/// Writes `BYE <code> <text>`; the code is that of the close frame that follows.
pub fn bye(w: &mut Writer<'_>, code: u16, text: &str) {
    w.text("BYE ");
    w.decimal(u64::from(code));
    w.byte(b' ');
    w.text(text);
}

/// Writes one unmasked text frame whose text `write` writes, and says how many bytes it took.
///
/// # Errors
/// [`Overflow`] if `out` is too short.
pub fn text_frame(out: &mut [u8], write: impl FnOnce(&mut Writer<'_>)) -> Result<usize, Overflow> {
    wrap(out, Opcode::Text, None, write)
}
