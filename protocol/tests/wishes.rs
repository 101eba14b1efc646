//! What a client would like: Accept (RFC 9110) and Prefer (RFC 7240); and where it was, on several topics.

use corecast_protocol::cursor::{self, LIST_BYTES_MAX, LIST_MAX};
use corecast_protocol::http::field::Field;
use corecast_protocol::http::head;
use corecast_protocol::http::prefer::{accepts_event_stream, accepts_gzip, accepts_html, is_type, wait_s};
use corecast_protocol::{Cursor, Violation, Writer};
use proptest::prelude::*;

/// `wait` of RFC 7240, in all its spellings; what makes no sense is no wish.
#[test]
fn waits_are_read() {
    for (prefer, wait) in [
        ("wait=10", Some(10)),
        ("wait=0", Some(0)),
        ("Wait = 010", Some(10)),
        ("wait=\"10\"", Some(10)),
        ("respond-async, wait=10", Some(10)),
        ("respond-async;x=1,\twait=10; y", Some(10)),
        ("wait=10, wait=20", Some(10)),
        ("x=\"a, wait=3\", wait=4", Some(4)),
        ("x=\"a\\\", wait=3\", wait=4", Some(4)),
        ("x=\"a\\\\\", wait=3", Some(3)),
        (",, wait=1,", Some(1)),
        ("wait=4294967295", Some(u32::MAX)),
        ("wait=4294967296", Some(u32::MAX)),
        ("wait=99999999999999999999999999", Some(u32::MAX)),
        ("", None),
        ("wait", None),
        ("wait=", None),
        ("wait=\"\"", None),
        ("wait=-1", None),
        ("wait=+1", None),
        ("wait=1.5", None),
        ("wait=1s", None),
        ("wait=\"1", None),
        ("waiting=1", None),
        ("x; wait=1", None),
        ("x=\"wait=1", None),
        // The first one counts, also if it is nothing (RFC 7240 section 2).
        ("wait=x, wait=20", None),
    ] {
        assert_eq!(wait_s(Field::line(prefer.as_bytes())), wait, "{prefer}");
    }
}

/// Who wants events says so by name, and does not refuse them with `q=0`.
#[test]
fn event_streams_are_asked_for() {
    for (accept, wanted) in [
        ("text/event-stream", true),
        ("Text/Event-Stream", true),
        ("text/html, text/event-stream;q=0.1", true),
        ("text/event-stream; charset=utf-8; Q=1.000", true),
        (" text/event-stream ,*/*;q=0", true),
        ("text/event-stream;q=0.001", true),
        ("text/event-stream;q=", true),
        ("text/event-stream;q=0, text/event-stream", true),
        ("x/y;a=\", z\", text/event-stream", true),
        ("text/event-stream;a=\";q=0\"", true),
        ("", false),
        ("*/*", false),
        ("text/*", false),
        ("text/html,application/xhtml+xml,*/*;q=0.8", false),
        ("text/event-stream;q=0", false),
        ("text/event-stream ; q=0.000", false),
        ("text/event-stream;a=b;q=0.", false),
        ("text/event-streams", false),
        ("application/text/event-stream", false),
        ("x/y;a=\", text/event-stream\"", false),
    ] {
        assert_eq!(accepts_event_stream(Field::line(accept.as_bytes())), wanted, "{accept}");
    }
}

/// Of a wish on several lines every line counts, as if they were one (RFC 9110 section 5.3); only the first did once.
#[test]
fn wishes_stand_on_any_line() {
    let input = "GET / HTTP/1.1\r\nHost: h\r\nAccept: text/html;q=0\r\nAccept-Encoding: br\r\nPrefer: respond-async\r\n\
        X: y\r\naccept: text/event-stream\r\nPREFER: wait=7\r\nPrefer: wait=8\r\nAccept-Encoding: gzip\r\n\r\n";
    let (request, _) = head::parse(input.as_bytes(), 4096).unwrap().unwrap();
    assert!(accepts_event_stream(request.headers.accept) && !accepts_html(request.headers.accept));
    assert!(accepts_gzip(request.headers.accept_encoding));
    assert_eq!(wait_s(request.headers.prefer), Some(7));
}

/// Media types are compared without their parameters and whatever their case (RFC 9110 section 8.3.1).
#[test]
fn types_are_compared_by_what_they_name() {
    for (found, same) in [
        ("application/x-ndjson", true),
        ("Application/X-NDJSON", true),
        ("application/x-ndjson;charset=utf-8", true),
        (" application/x-ndjson\t; charset=utf-8", true),
        ("application/x-ndjson2", false),
        ("application/json", false),
        (";application/x-ndjson", false),
        ("", false),
    ] {
        assert_eq!(is_type(found, "application/x-ndjson"), same, "{found}");
    }
    assert!(accepts_html(Field::line(b"application/xml, TEXT/HTML;level=1")));
    assert!(!accepts_html(Field::line(b"text/html2, */*")));
}

/// A combined cursor has one cursor per topic, in order, and none is left out.
#[test]
fn combined_cursors_are_strict() {
    let one = Cursor { epoch: 0x1a2b_3c4d, seq: 17 };
    let mut two = [Cursor::default(); 2];
    assert_eq!(cursor::read_list("1a2b3c4d-17,00000000-0", &mut two), Ok(()));
    assert_eq!(two, [one, Cursor::default()]);
    assert_eq!(cursor::list("1a2b3c4d-17").collect::<Vec<_>>(), [Ok(one)]);
    for bad in [
        "",
        "1a2b3c4d-17",
        ",",
        "1a2b3c4d-17,",
        ",1a2b3c4d-17",
        "1a2b3c4d-17,-",
        "1a2b3c4d-17,,1a2b3c4d-17",
        "1a2b3c4d-17, 1a2b3c4d-17",
        "1a2b3c4d-17;1a2b3c4d-17",
        "1a2b3c4d-17,1a2b3c4d-17,1a2b3c4d-17",
        "1a2b3c4d-17,1a2b3c4d-17,",
        "1a2b3c4d-17,1a2b3c4d-17,x",
    ] {
        assert_eq!(cursor::read_list(bad, &mut two), Err(Violation::BadCursor), "{bad}");
    }
    // The list ends behind its first error, so nobody counts what makes no sense.
    assert_eq!(cursor::list("1a2b3c4d-17,x,1a2b3c4d-17").collect::<Vec<_>>(), [Ok(one), Err(Violation::BadCursor)]);

    let longest = Cursor { epoch: u32::MAX, seq: u64::MAX };
    let mut out = [0; LIST_BYTES_MAX];
    let mut w = Writer::new(&mut out);
    cursor::write_list(&mut w, [longest; LIST_MAX]);
    assert_eq!(w.finish(), Ok(LIST_BYTES_MAX));
    let text = std::str::from_utf8(&out).unwrap();
    assert!(cursor::list(text).eq([Ok(longest); LIST_MAX]));
    assert_eq!(cursor::list(&format!("{text},")).collect::<Vec<_>>(), [Err(Violation::BadCursor)]);
}

proptest! {
    /// A combined cursor that is written is read again, and has no other length.
    #[test]
    fn combined_cursors_are_read_again(places in prop::collection::vec((any::<u32>(), any::<u64>()), 1..=LIST_MAX)) {
        let cursors: Vec<_> = places.iter().map(|&(epoch, seq)| Cursor { epoch, seq }).collect();
        let mut out = [0; LIST_BYTES_MAX];
        let mut w = Writer::new(&mut out);
        cursor::write_list(&mut w, cursors.iter().copied());
        let text = String::from_utf8(w.written().to_vec()).unwrap();
        let mut read = vec![Cursor::default(); cursors.len()];
        prop_assert_eq!(cursor::read_list(&text, &mut read), Ok(()));
        prop_assert_eq!(&read, &cursors);
        prop_assert!(cursor::read_list(&text, &mut read[1..]).is_err());
        read.push(Cursor::default());
        prop_assert!(cursor::read_list(&text, &mut read).is_err());
    }
}
