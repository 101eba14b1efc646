//! The forever frame: an HTML page that never ends, one `<script>` per message, which calls the page around it.
//!
//! Owns the script, and what one connection gets: [`prologue`], [`gap`], [`refused`], [`HEARTBEAT`].
//!
//! Every subscriber names its own callback, and still all share the same bytes: the prologue defines a function `c` that calls
//! the callback, and the shared scripts call `c`. It also takes the script out of the page, which would otherwise grow for as long
//! as it stays open.
//!
//! What a publisher wrote stands only inside JSON strings, and there no byte that HTML or JavaScript could take for theirs
//! stands as it is ([`script_string`](crate::json::script_string)). The callback is a name, or the prologue is not written.

use super::json as object;
use crate::cursor::Cursor;
use crate::json;
use crate::json::valid_frame_callback;
use crate::message::{Gap, Message};
use crate::write::Writer;

/// The type of the answer's body.
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The heartbeat: a line end between two scripts.
pub const HEARTBEAT: &[u8] = b"\n";

/// How many bytes the padding in the prologue has. Browsers show a page once they have 1 KiB of it, some proxies pass on a
/// body in pieces of 2 KiB.
pub const PADDING_BYTES: usize = 2048;

/// No prologue has more bytes than this.
pub const PROLOGUE_BYTES_MAX: usize =
    HEAD.len() + json::CALLBACK_BYTES_MAX + FUNCTION_END.len() + PADDING_BYTES + PADDING_END.len();

// Without a title a page is not valid; without the charset its first bytes decide what they mean.
const HEAD: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>corecast</title></head><body>\n\
                    <script>function c(m){var s=document.currentScript;s&&s.parentNode.removeChild(s);";
const FUNCTION_END: &str = "(m)}</script>\n<!--";
const PADDING_END: &str = "-->\n";
pub(super) const START: &str = "<script>c(";
pub(super) const END: &str = ")</script>\n";

/// Says how many bytes [`encode`] writes.
pub fn encoded_len(message: &Message<'_>) -> usize {
    START.len() + object::script_encoded_len(message) + END.len()
}

/// Writes the message as one script, `<script>c({...})</script>` and a line end, to the start of `out`, and says how many bytes
/// it took: [`encoded_len`] of them.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode(message: &Message<'_>, out: &mut [u8]) -> usize {
    let mut w = Writer::new(out);
    w.text(START);
    object::write_object::<true>(message, &mut w);
    w.text(END);
    w.finish().expect("the caller gave encoded_len bytes")
}

/// Writes the start of the page: what defines `c` as a call of `callback`, looked up anew at each call, and padding (together
/// at most [`PROLOGUE_BYTES_MAX`] bytes).
///
/// # Panics
/// If the callback is not [valid](valid_frame_callback): a caller that forgets to look would let a page run anything.
pub fn prologue(w: &mut Writer<'_>, callback: &str) {
    assert!(valid_frame_callback(callback), "the caller has checked the callback");
    w.text(HEAD);
    w.text(callback);
    w.text(FUNCTION_END);
    for _ in 0..PADDING_BYTES {
        w.byte(b' ');
    }
    w.text(PADDING_END);
}

/// Writes a gap as one script, `<script>c({"gap":{...}})</script>` and a line end, whose inside is
/// [`json::script_gap`].
pub fn gap(w: &mut Writer<'_>, gap: &Gap<'_>) {
    w.text(START);
    w.text("{\"gap\":");
    json::script_gap(w, gap);
    w.byte(b'}');
    w.text(END);
}

/// Writes that what there was of a topic has come, as one script, `<script>c({"snapshot_end":{...}})</script>` and a line end, whose inside
/// is [`json::script_end_of_snapshot`].
pub fn end_of_snapshot(w: &mut Writer<'_>, topic: &str, cursor: Cursor) {
    w.text(START);
    w.text("{\"snapshot_end\":");
    json::script_end_of_snapshot(w, topic, cursor);
    w.byte(b'}');
    w.text(END);
}

/// Writes why the stream ends behind this, as one script, `<script>c({"refused":{...}})</script>` and a line end, whose inside is
/// [`json::script_refused`].
pub fn refused(w: &mut Writer<'_>, name: &str, text: &str) {
    w.text(START);
    w.text("{\"refused\":");
    json::script_refused(w, name, text);
    w.byte(b'}');
    w.text(END);
}
