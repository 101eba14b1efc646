//! The JSON dialect: one object per message, `{"topic","cursor","event"?,"data","encoding"?}`, for polling and streaming.
//!
//! A payload that is not UTF-8 goes in base64, and `"encoding":"base64"` says so. Owns the object only; what stands between
//! two of them (a comma, a line feed) is the transport's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::json::{escaped_len, string};
use crate::message::Message;
use crate::write::Writer;

const TOPIC: &str = "{\"topic\":";
const CURSOR: &str = ",\"cursor\":\"";
const CURSOR_END: &str = "\"";
const EVENT: &str = ",\"event\":";
const DATA: &str = ",\"data\":";
const BASE64: &str = ",\"encoding\":\"base64\"";
const END: &str = "}";

/// Says how many bytes [`encode`] writes.
pub fn encoded_len(message: &Message<'_>) -> usize {
    let fixed = TOPIC.len() + CURSOR.len() + CURSOR_END.len() + DATA.len() + END.len();
    let event = message.event.map_or(0, |event| EVENT.len() + escaped_len(event));
    let data = match text(message) {
        Some(text) => escaped_len(text),
        None => message.payload.len().div_ceil(3) * 4 + 2 + BASE64.len(),
    };
    fixed + escaped_len(message.topic) + message.cursor.text_len() + event + data
}

/// Writes the message to the start of `out`, and says how many bytes it took: [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    w.text(TOPIC);
    string(&mut w, message.topic);
    w.text(CURSOR);
    message.cursor.write(&mut w);
    w.text(CURSOR_END);
    if let Some(event) = message.event {
        w.text(EVENT);
        string(&mut w, event);
    }
    w.text(DATA);
    match text(message) {
        Some(text) => string(&mut w, text),
        None => {
            w.byte(b'"');
            base64(&mut w, message.payload);
            w.byte(b'"');
            w.text(BASE64);
        }
    }
    w.text(END);
    w.finish().expect("the caller gave encoded_len bytes")
}

/// The payload as text, if it goes as text.
fn text<'a>(message: &Message<'a>) -> Option<&'a str> {
    if message.text { simdutf8::basic::from_utf8(message.payload).ok() } else { None }
}

/// Writes `bytes` in base64, with padding.
pub(crate) fn base64(w: &mut Writer<'_>, bytes: &[u8]) {
    let mut group = [0; 64];
    for chunk in bytes.chunks(48) {
        let len = STANDARD.encode_slice(chunk, &mut group).expect("48 bytes are 64 in base64");
        w.put(&group[..len]);
    }
}
