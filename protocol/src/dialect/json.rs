//! The JSON dialect: one object per message, `{"topic","cursor","event"?,"key"?,"op"?,"of"?,"at"?,"data","encoding"?}`, for polling and streaming.
//!
//! A payload that is not UTF-8 goes in base64, and `"encoding":"base64"` says so. Owns the object only; what stands between
//! two of them (a comma, a line feed) is the transport's. [`encode_script`] is the same for a place inside a script.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json::{string_len, write_string};
use crate::message::Message;
use crate::write::Writer;

const TOPIC: &str = "{\"topic\":";
const CURSOR: &str = ",\"cursor\":\"";
const CURSOR_END: &str = "\"";
const EVENT: &str = ",\"event\":";
const KEY: &str = ",\"key\":";
const OP: &str = ",\"op\":\"";
const OP_END: &str = "\"";
const OF: &str = ",\"of\":";
const AT: &str = ",\"at\":\"";
const AT_END: &str = "\"";
const DATA: &str = ",\"data\":";
const BASE64: &str = ",\"encoding\":\"base64\"";
const END: &str = "}";

/// Says how many bytes [`encode`] writes.
pub fn encoded_len(message: &Message<'_>) -> usize {
    object_len::<false>(message)
}

/// Writes the message to the start of `out`, and says how many bytes it took: [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    write_object::<false>(message, &mut w);
    w.finish().expect("the caller gave encoded_len bytes")
}

/// Says how many bytes [`encode_script`] writes.
pub fn script_encoded_len(message: &Message<'_>) -> usize {
    object_len::<true>(message)
}

/// Writes the message as [`encode`] does, with its strings as [`script_string`](crate::json::script_string) writes them, so
/// that it may stand in an HTML `<script>` element: [`script_encoded_len`] bytes.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode_script(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    write_object::<true>(message, &mut w);
    w.finish().expect("the caller gave script_encoded_len bytes")
}

fn object_len<const SCRIPT: bool>(message: &Message<'_>) -> usize {
    let fixed = TOPIC.len() + CURSOR.len() + CURSOR_END.len() + DATA.len() + END.len();
    let event = message.event.map_or(0, |event| EVENT.len() + string_len::<SCRIPT>(event));
    let data = match text(message) {
        Some(text) => string_len::<SCRIPT>(text),
        None => base64_len(message.payload.len()) + 2 + BASE64.len(),
    };
    let at = if message.of.is_empty() { 0 } else { places_len::<SCRIPT>(message) };
    let key = if message.key.is_empty() { 0 } else { KEY.len() + string_len::<SCRIPT>(message.key) };
    let op = message.op.said().map_or(0, |op| OP.len() + op.len() + OP_END.len());
    fixed + string_len::<SCRIPT>(message.topic) + message.cursor.text_len() + event + at + key + op + data
}

/// Writes the object, for JSON or with `SCRIPT` for JSON in HTML.
pub(crate) fn write_object<const SCRIPT: bool>(message: &Message<'_>, w: &mut Writer<'_>) {
    w.text(TOPIC);
    write_string::<SCRIPT>(w, message.topic);
    w.text(CURSOR);
    message.cursor.write(w);
    w.text(CURSOR_END);
    if let Some(event) = message.event {
        w.text(EVENT);
        write_string::<SCRIPT>(w, event);
    }
    if !message.key.is_empty() {
        w.text(KEY);
        write_string::<SCRIPT>(w, message.key);
    }
    if let Some(op) = message.op.said() {
        w.text(OP);
        w.text(op);
        w.text(OP_END);
    }
    if !message.of.is_empty() {
        write_places::<SCRIPT>(message, w);
    }
    w.text(DATA);
    match text(message) {
        Some(text) => write_string::<SCRIPT>(w, text),
        None => {
            w.byte(b'"');
            base64(w, message.payload);
            w.byte(b'"');
            w.text(BASE64);
        }
    }
    w.text(END);
}

fn places_len<const SCRIPT: bool>(message: &Message<'_>) -> usize {
    let at = message.at.map_or(0, |at| AT.len() + at.text_len() + AT_END.len());
    OF.len() + string_len::<SCRIPT>(message.of) + at
}

fn write_places<const SCRIPT: bool>(message: &Message<'_>, w: &mut Writer<'_>) {
    w.text(OF);
    write_string::<SCRIPT>(w, message.of);
    if let Some(at) = message.at {
        w.text(AT);
        at.write(w);
        w.text(AT_END);
    }
}

/// The payload as text, if it goes as text.
fn text<'a>(message: &Message<'a>) -> Option<&'a str> {
    if message.text { simdutf8::basic::from_utf8(message.payload).ok() } else { None }
}

/// Says how many bytes [`base64`] writes for `len` bytes.
pub(crate) const fn base64_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// Writes `bytes` in base64, with padding.
pub(crate) fn base64(w: &mut Writer<'_>, bytes: &[u8]) {
    let mut group = [0; 64];
    for chunk in bytes.chunks(48) {
        let len = STANDARD.encode_slice(chunk, &mut group).expect("48 bytes are 64 in base64");
        w.put(&group[..len]);
    }
}
