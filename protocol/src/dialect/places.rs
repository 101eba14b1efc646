//! What readers of patterns are told besides messages and gaps: that what there was has come, and how far they are then.
//!
//! In each dialect it looks as the end of the snapshot of a topic does; the pattern stands for the topic, and [places](crate::places) for the
//! cursor. The line protocol has it in [`line`](super::line::end_of_places).

use super::forever_frame::{END, START};
use super::multipart;
use super::sse::SNAPSHOT_END_EVENT;
use crate::json::{escaped_len, script_string, string};
use crate::percent::encode_path;
use crate::write::Writer;

/// Writes `{"topic","cursor"}`.
fn object(w: &mut Writer<'_>, pattern: &str, places: &str) {
    w.text("{\"topic\":");
    string(w, pattern);
    // Places need no escapes.
    w.text(",\"cursor\":\"");
    w.text(places);
    w.text("\"}");
}

/// Writes an event of a stream of server-sent events.
pub fn sse(w: &mut Writer<'_>, pattern: &str, places: &str) {
    w.text("event: ");
    w.text(SNAPSHOT_END_EVENT);
    w.text("\ndata: ");
    object(w, pattern, places);
    w.text("\n\n");
}

/// Writes a line of NDJSON.
pub fn ndjson(w: &mut Writer<'_>, pattern: &str, places: &str) {
    w.text("{\"snapshot_end\":");
    object(w, pattern, places);
    w.text("}\n");
}

/// Writes a part, and the boundary behind it.
pub fn multipart(w: &mut Writer<'_>, pattern: &str, places: &str) {
    let len = r#"{"topic":,"cursor":""}"#.len() + escaped_len(pattern) + places.len();
    w.text(multipart::TYPE_END);
    w.text(multipart::CURSOR);
    w.text(places);
    w.text(multipart::LINE_END);
    w.text(multipart::TOPIC);
    encode_path(pattern, w);
    w.text(multipart::LINE_END);
    w.text(multipart::LENGTH);
    w.decimal(len as u64);
    w.text(multipart::LINE_END);
    w.text(multipart::LINE_END);
    object(w, pattern, places);
    w.text(multipart::PART_END);
}

/// Writes a script.
pub fn forever_frame(w: &mut Writer<'_>, pattern: &str, places: &str) {
    w.text(START);
    w.text("{\"snapshot_end\":{\"topic\":");
    script_string(w, pattern);
    w.text(",\"cursor\":\"");
    w.text(places);
    w.text("\"}}");
    w.text(END);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(out: &mut [u8; 512], write: impl FnOnce(&mut Writer<'_>)) -> &str {
        let mut w = Writer::new(out);
        write(&mut w);
        let len = w.finish().expect("there is room");
        core::str::from_utf8(&out[..len]).expect("it is text")
    }

    /// What is told is what the manual says, and as long as it says.
    #[test]
    fn ends_are_told() {
        let (pattern, places) = ("a b/+", "~1a2b3c4d-1.2!3");
        let mut out = [0; 512];
        assert_eq!(
            written(&mut out, |w| sse(w, pattern, places)),
            "event: corecast-snapshot-end\ndata: {\"topic\":\"a b/+\",\"cursor\":\"~1a2b3c4d-1.2!3\"}\n\n"
        );
        assert_eq!(
            written(&mut out, |w| ndjson(w, pattern, places)),
            "{\"snapshot_end\":{\"topic\":\"a b/+\",\"cursor\":\"~1a2b3c4d-1.2!3\"}}\n"
        );
        assert_eq!(
            written(&mut out, |w| forever_frame(w, pattern, places)),
            "<script>c({\"snapshot_end\":{\"topic\":\"a b/+\",\"cursor\":\"~1a2b3c4d-1.2!3\"}})</script>\n"
        );
        let part = written(&mut out, |w| multipart(w, pattern, places));
        let (head, rest) = part.split_once("\r\n\r\n").expect("a head");
        let body = rest.split_once("\r\n--").expect("a boundary").0;
        let len = head.split_once("Content-Length: ").expect("a length").1;
        assert_eq!((len.parse(), body), (Ok(body.len()), "{\"topic\":\"a b/+\",\"cursor\":\"~1a2b3c4d-1.2!3\"}"));
    }
}
