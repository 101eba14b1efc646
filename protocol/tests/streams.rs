//! The dialects that stream over HTTP, against naive readers of the texts: WHATWG HTML "server-sent events", RFC 9112 chunks,
//! RFC 2046 multipart.

use corecast_protocol::dialect::{forever_frame, multipart, ndjson, sse};
use corecast_protocol::http::body::Chunked;
use corecast_protocol::http::response;
use corecast_protocol::line::GapReason;
use corecast_protocol::{Cursor, Gap, Message, Writer, cursor, is_text, json, percent};
use proptest::prelude::*;

const AT: Cursor = Cursor { epoch: 0x1a2b_3c4d, seq: 17 };

fn message<'a>(topic: &'a str, event: Option<&'a str>, payload: &'a [u8]) -> Message<'a> {
    Message { topic, cursor: AT, event, payload, text: is_text(payload), ..Default::default() }
}

fn gap(topic: &str) -> Gap<'_> {
    Gap { topic, from: Cursor { seq: 9, ..AT }, to: AT, count: 8, reason: GapReason::Expired, of: "" }
}

fn written(write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0; 8192];
    let mut w = Writer::new(&mut out);
    write(&mut w);
    let len = w.finish().expect("there is room");
    out.truncate(len);
    out
}

type Len = fn(&Message<'_>) -> usize;
type Encode = fn(&Message<'_>, &mut [u8]) -> usize;

/// What `encode` writes into exactly the room that `len` counted.
fn exact(message: &Message<'_>, len: Len, encode: Encode) -> Vec<u8> {
    let mut out = vec![0; len(message)];
    assert_eq!(encode(message, &mut out), out.len(), "{message:?}");
    out
}

/// Every streaming dialect.
const DIALECTS: [(Len, Encode); 7] = [
    (sse::encoded_len, sse::encode),
    (sse::encoded_len_without_id, sse::encode_without_id),
    (sse::encoded_len_enveloped, sse::encode_enveloped),
    (sse::encoded_len_enveloped_without_id, sse::encode_enveloped_without_id),
    (ndjson::encoded_len, ndjson::encode),
    (multipart::encoded_len, multipart::encode),
    (forever_frame::encoded_len, forever_frame::encode),
];

/// Base64 as RFC 4648 section 4 describes it, bit by bit.
fn encode_naively(data: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let mut out = String::new();
    for group in data.chunks(3) {
        let bits = group.iter().fold(0, |bits, &byte| bits << 8 | usize::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let padding = place > group.len();
            out.push(if padding { '=' } else { alphabet[bits >> (18 - 6 * place) & 63] });
        }
    }
    out
}

/// Reads a chunked body to its end.
fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let (mut state, mut found) = (Chunked::default(), Vec::new());
    loop {
        let piece = state.next(body).expect("our own chunks are read");
        found.extend_from_slice(&body[piece.data]);
        body = &body[piece.consumed..];
        if piece.done {
            assert!(body.is_empty());
            return found;
        }
        assert!(piece.consumed > 0, "the body ends");
    }
}

/// What an `EventSource` is after a stream, put down as in section 9.2.6 of the WHATWG text.
#[derive(Debug, Default, PartialEq)]
struct EventSource {
    /// Type, data and lastEventId of every event dispatched.
    events: Vec<(String, String, String)>,
    last_event_id: String,
    retry_ms: Option<String>,
}

/// Reads a stream as the WHATWG text says, with no care for speed.
fn listen(stream: &[u8]) -> EventSource {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // Every line end becomes LF; an unfinished block at the end is dropped, with its unfinished line.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found = EventSource::default();
    let (mut data, mut event, mut id) = (String::new(), String::new(), String::new());
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop();
    for line in lines {
        if line.is_empty() {
            found.last_event_id.clone_from(&id);
            if data.is_empty() {
                event.clear();
                continue;
            }
            data.pop();
            let kind = if event.is_empty() { "message".into() } else { std::mem::take(&mut event) };
            found.events.push((kind, std::mem::take(&mut data), found.last_event_id.clone()));
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event = value.into(),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => id = value.into(),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => found.retry_ms = Some(value.into()),
            _ => {}
        }
    }
    found
}

/// Every shape of payload, as bytes: `data` split at CR, LF and CRLF, an empty payload, line ends at both ends.
#[test]
fn server_sent_events_are_written() {
    for (event, payload, expected) in [
        (None, &b"hello"[..], "id: 1a2b3c4d-17\ndata: hello\n\n"),
        (Some("tick"), b"hello", "id: 1a2b3c4d-17\nevent: tick\ndata: hello\n\n"),
        (None, b"", "id: 1a2b3c4d-17\ndata: \n\n"),
        (None, b"\n", "id: 1a2b3c4d-17\ndata: \ndata: \n\n"),
        (None, b"a\n", "id: 1a2b3c4d-17\ndata: a\ndata: \n\n"),
        (None, b"a\nb", "id: 1a2b3c4d-17\ndata: a\ndata: b\n\n"),
        (None, b"a\rb", "id: 1a2b3c4d-17\ndata: a\ndata: b\n\n"),
        (None, b"a\r\nb", "id: 1a2b3c4d-17\ndata: a\ndata: b\n\n"),
        (None, b"a\n\rb", "id: 1a2b3c4d-17\ndata: a\ndata: \ndata: b\n\n"),
        (None, b"a\r\r\nb\r", "id: 1a2b3c4d-17\ndata: a\ndata: \ndata: b\ndata: \n\n"),
        (None, b" a: b\nid: 9\n:c", "id: 1a2b3c4d-17\ndata:  a: b\ndata: id: 9\ndata: :c\n\n"),
        (None, b"\xff\xfe", "id: 1a2b3c4d-17\nevent: corecast-base64\ndata: //4=\n\n"),
        (Some("tick"), b"\xff", "id: 1a2b3c4d-17\nevent: corecast-base64\ndata: /w==\n\n"),
    ] {
        let message = message("t", event, payload);
        let bytes = exact(&message, sse::encoded_len, sse::encode);
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        let bytes = exact(&message, sse::encoded_len_without_id, sse::encode_without_id);
        assert_eq!(String::from_utf8(bytes).unwrap(), expected.replace("id: 1a2b3c4d-17", "topic: t"));
    }
}

/// An envelope holds topic, cursor, event name and encoding in one line of data; its type is that of any message.
#[test]
fn events_in_an_envelope_are_written() {
    for (event, payload, object) in [
        (None, &b"a\nb"[..], r#"{"topic":"t","cursor":"1a2b3c4d-17","data":"a\nb"}"#),
        (Some("tick"), b"a\r\n", r#"{"topic":"t","cursor":"1a2b3c4d-17","event":"tick","data":"a\r\n"}"#),
        (None, b"", r#"{"topic":"t","cursor":"1a2b3c4d-17","data":""}"#),
        (
            Some("tick"),
            b"\xff\xfe",
            r#"{"topic":"t","cursor":"1a2b3c4d-17","event":"tick","data":"//4=","encoding":"base64"}"#,
        ),
    ] {
        let message = message("t", event, payload);
        let bytes = exact(&message, sse::encoded_len_enveloped, sse::encode_enveloped);
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), format!("id: 1a2b3c4d-17\ndata: {object}\n\n"));
        assert_eq!(listen(&bytes).events, [("message".into(), object.to_owned(), "1a2b3c4d-17".into())]);
        let bytes = exact(&message, sse::encoded_len_enveloped_without_id, sse::encode_enveloped_without_id);
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("data: {object}\n\n"));
    }
}

/// The blocks of one connection, as bytes and as a browser understands them.
#[test]
fn blocks_of_one_connection_are_written() {
    let data = r#"{"topic":"t","from":"1a2b3c4d-9","to":"1a2b3c4d-17","count":8,"reason":"expired"}"#;
    let refused = r#"{"name":"full","text":"no \"room\""}"#;
    let rows: [(Vec<u8>, String); 10] = [
        (written(|w| sse::retry(w, 3000)), "retry: 3000\n\n".into()),
        (written(|w| sse::comment(w, "")), ":\n\n".into()),
        (written(|w| sse::comment(w, "a\r\ndata: b")), ": a  data: b\n\n".into()),
        (written(|w| sse::padding(w, 5)), ":  \n\n".into()),
        (written(|w| sse::padding(w, 0)), ":\n\n".into()),
        (written(|w| sse::id_only(w, "1a2b3c4d-17,00000000-0")), "id: 1a2b3c4d-17,00000000-0\n\n".into()),
        (written(|w| sse::id_only(w, "a\n\0")), "id: a  \n\n".into()),
        (written(|w| sse::gap(w, &gap("t"))), format!("id: 1a2b3c4d-17\nevent: corecast-gap\ndata: {data}\n\n")),
        (written(|w| sse::gap_without_id(w, &gap("t"))), format!("event: corecast-gap\ndata: {data}\n\n")),
        (written(|w| sse::refused(w, "full", "no \"room\"")), format!("event: corecast-refused\ndata: {refused}\n\n")),
    ];
    for (bytes, expected) in rows {
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
    assert_eq!(written(|w| sse::padding(w, 2048)).len(), 2048);

    // An id-only block changes what the browser will send back, and shows nothing; neither does anything else here.
    let quiet = written(|w| {
        sse::retry(w, 1);
        sse::padding(w, 100);
        sse::id_only(w, "x,y");
        sse::comment(w, "still there");
    });
    let expected = EventSource { last_event_id: "x,y".into(), retry_ms: Some("1".into()), ..Default::default() };
    assert_eq!(listen(&quiet), expected);
    let told = listen(&written(|w| sse::gap(w, &gap("t"))));
    assert_eq!(told.events, [("corecast-gap".into(), data.into(), "1a2b3c4d-17".into())]);
    // A refusal leaves the browser where it was: what it will send back is the last message's.
    let mut stream = exact(&message("t", None, b"x"), sse::encoded_len, sse::encode);
    stream.extend(written(|w| sse::refused(w, "full", "no \"room\"")));
    let told = listen(&stream);
    assert_eq!(told.events[1..], [("corecast-refused".into(), refused.into(), "1a2b3c4d-17".into())]);
    assert_eq!(told.last_event_id, "1a2b3c4d-17");
}

/// Lines of the stream and of its gaps, as PROTOCOL prints them.
#[test]
fn stream_lines_are_written() {
    let message = message("t", None, b"a\nb");
    let line = exact(&message, ndjson::encoded_len, ndjson::encode);
    assert_eq!(line, b"{\"topic\":\"t\",\"cursor\":\"1a2b3c4d-17\",\"data\":\"a\\nb\"}\n");
    let told = written(|w| ndjson::gap(w, &gap("a\"b")));
    let expected = r#"{"gap":{"topic":"a\"b","from":"1a2b3c4d-9","to":"1a2b3c4d-17","count":8,"reason":"expired"}}"#;
    assert_eq!(String::from_utf8(told).unwrap(), format!("{expected}\n"));
    let told = written(|w| ndjson::refused(w, "too-slow", "a\nb"));
    assert_eq!(told, b"{\"refused\":{\"name\":\"too-slow\",\"text\":\"a\\nb\"}}\n");
}

/// A part as its reader sees it: headers and body.
type Part = (Vec<(String, String)>, Vec<u8>);

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn headers(head: &[u8]) -> Vec<(String, String)> {
    let head = std::str::from_utf8(head).expect("part headers are ASCII");
    let lines = head.split("\r\n").filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(": ").expect("name and value")).map(|(n, v)| (n.into(), v.into())).collect()
}

fn value<'p>(part: &'p Part, name: &str) -> Option<&'p str> {
    part.0.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
}

/// Reads a whole body as RFC 2046 section 5.1.1 says, by its boundaries only.
fn parts_by_boundary(body: &[u8]) -> Vec<Part> {
    let delimiter = format!("\r\n--{}", multipart::BOUNDARY);
    // The first delimiter's CRLF is that of the head before it.
    let body = [b"\r\n", body].concat();
    let mut rest = &body[find(&body, delimiter.as_bytes()).expect("a first boundary") + delimiter.len()..];
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        rest = rest.strip_prefix(b"\r\n").expect("a boundary ends its line");
        // The CRLF of the last header may be the one that the delimiter begins with.
        let end = find(rest, delimiter.as_bytes()).expect("a part ends in a boundary");
        let part = &rest[..end];
        parts.push(match find(part, b"\r\n\r\n") {
            Some(head) => (headers(&part[..head]), part[head + 4..].to_vec()),
            None => (headers(part), Vec::new()),
        });
        rest = &rest[end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n");
    parts
}

/// Reads a whole body by the lengths of its parts only, as clients do that know better than to search.
fn parts_by_length(body: &[u8]) -> Vec<Part> {
    let line = format!("--{}\r\n", multipart::BOUNDARY);
    let mut rest = body.strip_prefix(line.as_bytes()).expect("a first boundary");
    let mut parts = Vec::new();
    while rest != multipart::END {
        let head = find(rest, b"\r\n\r\n").expect("headers end");
        let mut part: Part = (headers(&rest[..head]), Vec::new());
        let len: usize = value(&part, "Content-Length").expect("every part has one").parse().expect("a number");
        part.1 = rest[head + 4..][..len].to_vec();
        rest = rest[head + 4 + len..].strip_prefix(b"\r\n").expect("a line end behind the body");
        rest = rest.strip_prefix(line.as_bytes()).expect("the boundary behind the part");
        parts.push(part);
    }
    parts
}

/// A part, as bytes; the boundary stands behind it, so that nobody waits for the next one.
#[test]
fn parts_are_written() {
    let bytes = exact(&message("ü", Some("tick"), b"hello"), multipart::encoded_len, multipart::encode);
    let expected = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\nCorecast-Cursor: 1a2b3c4d-17\r\n\
        Corecast-Topic: %C3%BC\r\nCorecast-Event: tick\r\n\r\nhello\r\n--corecast-part-7f3e9a51c2d84b06\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    let bytes = written(|w| multipart::gap(w, &gap("t")));
    let expected = "Content-Type: application/json\r\nCorecast-Gap: 1\r\nCorecast-Cursor: 1a2b3c4d-17\r\n\
        Corecast-Topic: t\r\nContent-Length: 81\r\n\r\n\
        {\"topic\":\"t\",\"from\":\"1a2b3c4d-9\",\"to\":\"1a2b3c4d-17\",\"count\":8,\"reason\":\"expired\"}\r\n\
        --corecast-part-7f3e9a51c2d84b06\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    let bytes = written(|w| multipart::refused(w, "draining", "so \"long\""));
    let expected = "Content-Type: application/json\r\nCorecast-Refused: 1\r\nContent-Length: 40\r\n\r\n\
        {\"name\":\"draining\",\"text\":\"so \\\"long\\\"\"}\r\n--corecast-part-7f3e9a51c2d84b06\r\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    assert_eq!(multipart::CONTENT_TYPE, "multipart/x-mixed-replace; boundary=corecast-part-7f3e9a51c2d84b06");
}

/// A payload that brings the boundary, and a page behind it, stays one part with one body, for those who search, too.
#[test]
fn a_payload_cannot_begin_a_part() {
    let evil = format!("x\r\n--{}\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>", multipart::BOUNDARY);
    for payload in [evil.as_bytes(), &evil.as_bytes()[3..], multipart::BOUNDARY.as_bytes(), multipart::END] {
        let part = exact(&message("t", None, payload), multipart::encoded_len, multipart::encode);
        let body = [multipart::PROLOGUE, &part, multipart::HEARTBEAT, multipart::END].concat();
        let parts = parts_by_boundary(&body);
        assert_eq!(parts.len(), 2, "the message, and what END leaves");
        assert_eq!(value(&parts[0], "Content-Transfer-Encoding"), Some("base64"));
        assert_eq!(parts[0].1, encode_naively(payload).into_bytes());
    }
}

/// Pieces for one connection are chunks or bare, of any length, and never the chunk that ends the body by mistake.
#[test]
fn pieces_are_framed() {
    let mut out = vec![0; 70_000];
    for len in [1, 9, 15, 16, 17, 255, 256, 4095, 4096, 65_536] {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let took = response::piece(&mut out, true, |w| w.put(&data)).unwrap();
        assert_eq!(took, response::chunk_len(len));
        assert_eq!(unchunk(&[&out[..took], response::LAST_CHUNK].concat()), data);
        assert_eq!(response::piece(&mut out, false, |w| w.put(&data)), Ok(len));
        assert_eq!(out[..len], data);
        // One byte of room less is told.
        assert!(response::piece(&mut out[..took - 1], true, |w| w.put(&data)).is_err());
        assert!(response::piece(&mut out[..len - 1], false, |w| w.put(&data)).is_err());
    }
    assert_eq!(response::piece(&mut out, true, |_| {}), Ok(0));
    assert!(response::piece(&mut [], true, |w| w.byte(b'x')).is_err());
}

/// The combined cursor that an id-only block carries comes back as it was.
#[test]
fn a_combined_cursor_survives_the_browser() {
    let cursors = [AT, Cursor::default(), Cursor { epoch: u32::MAX, seq: u64::MAX }];
    let id = String::from_utf8(written(|w| cursor::write_list(w, cursors))).unwrap();
    let heard = listen(&written(|w| sse::id_only(w, &id)));
    let mut read = [Cursor::default(); 3];
    cursor::read_list(&heard.last_event_id, &mut read).unwrap();
    assert_eq!(read, cursors);
}

fn payloads() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a:\r\n \0é\u{2028}]{0,20}".prop_map(String::into_bytes),
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..400),
        (any::<String>(), any::<String>())
            .prop_map(|(before, after)| [&before, "\r\n--", multipart::BOUNDARY, &after].concat().into_bytes()),
    ]
}

proptest! {
    /// Every dialect takes exactly the bytes that were counted, and is the same bytes in chunks.
    #[test]
    fn dialects_are_exact(topic in "[a-z %ü<\"]{1,9}", event in prop::option::of("[!-~]{1,64}"), payload in payloads()) {
        let message = message(&topic, event.as_deref(), &payload);
        for (len, encode) in DIALECTS {
            let bare = exact(&message, len, encode);
            let mut chunk = vec![0; response::chunk_len(bare.len())];
            let chunk_len = response::chunk(&mut chunk, bare.len(), |out| assert_eq!(encode(&message, out), bare.len()));
            prop_assert_eq!(chunk_len, chunk.len());
            prop_assert_eq!(unchunk(&[&chunk, response::LAST_CHUNK].concat()), bare);
        }
    }

    /// A browser hears exactly what was published, but for line ends, whatever stands between the events.
    #[test]
    fn browsers_hear_what_was_published(
        messages in prop::collection::vec((prop::option::of("[!-~]{1,64}"), payloads(), 0u8..4), 0..6),
    ) {
        let mut stream = written(|w| sse::retry(w, 1000));
        let mut expected = Vec::new();
        for (event, payload, between) in &messages {
            let message = message("t", event.as_deref(), payload);
            stream.extend(exact(&message, sse::encoded_len, sse::encode));
            let heard = match std::str::from_utf8(payload) {
                Ok(text) => {
                    let text = text.replace("\r\n", "\n").replace('\r', "\n");
                    (event.clone().unwrap_or("message".into()), text, "1a2b3c4d-17".to_owned())
                }
                Err(_) => (sse::BASE64_EVENT.into(), encode_naively(payload), "1a2b3c4d-17".into()),
            };
            expected.push(heard);
            stream.extend(match between {
                0 => sse::HEARTBEAT.to_vec(),
                1 => written(|w| sse::padding(w, 64)),
                2 => written(|w| sse::id_only(w, "zzz")),
                _ => Vec::new(),
            });
        }
        prop_assert_eq!(listen(&stream).events, expected);
    }

    /// In an envelope a browser hears one event, and the object in it is exactly what was published, line ends included.
    #[test]
    fn envelopes_hold_what_was_published(event in prop::option::of("[!-~]{1,64}"), payload in payloads()) {
        let message = message("t", event.as_deref(), &payload);
        let mut stream = exact(&message, sse::encoded_len_enveloped, sse::encode_enveloped);
        stream.extend(exact(&message, sse::encoded_len_enveloped_without_id, sse::encode_enveloped_without_id));
        let heard = listen(&stream).events;
        prop_assert_eq!(heard.len(), 2);
        for (kind, data, id) in heard {
            prop_assert_eq!((&kind[..], &id[..]), ("message", "1a2b3c4d-17"));
            let mut data = data.into_bytes();
            let found = json::publish_line(&mut data).unwrap();
            prop_assert_eq!((found.topic, found.data, found.event), ("t", &payload[..], event.as_deref()));
        }
    }

    /// A line of the stream is one line, and holds the message.
    #[test]
    fn stream_lines_are_read(event in prop::option::of("[!-~]{1,64}"), payload in payloads()) {
        let mut line = exact(&message("t", event.as_deref(), &payload), ndjson::encoded_len, ndjson::encode);
        prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count(), 1);
        let found = json::publish_line(&mut line).unwrap();
        prop_assert_eq!((found.data, found.event), (&payload[..], event.as_deref()));
    }

    /// Who goes by boundaries and who goes by lengths reads the same parts.
    #[test]
    fn parts_are_read_both_ways(topic in "[a-zü %]{1,9}", payloads in prop::collection::vec(payloads(), 0..5)) {
        let mut body = multipart::PROLOGUE.to_vec();
        for payload in &payloads {
            body.extend_from_slice(multipart::HEARTBEAT);
            body.extend(exact(&message(&topic, Some("e"), payload), multipart::encoded_len, multipart::encode));
        }
        body.extend(written(|w| multipart::gap(w, &gap(&topic))));
        body.extend_from_slice(multipart::END);
        let parts = parts_by_length(&body);
        let mut searched = parts_by_boundary(&body);
        prop_assert_eq!(searched.pop(), Some((Vec::new(), Vec::new())));
        prop_assert_eq!(&searched, &parts);
        prop_assert_eq!(parts.len(), payloads.len() + 1);
        for (part, payload) in parts.iter().zip(&payloads) {
            let expected = match value(part, "Content-Transfer-Encoding") {
                Some(_) => encode_naively(payload).into_bytes(),
                None => payload.clone(),
            };
            prop_assert_eq!(&part.1, &expected);
            let mut out = [0; 64];
            prop_assert_eq!(percent::decode(value(part, "Corecast-Topic").unwrap(), &mut out, false), Ok(&topic[..]));
        }
        prop_assert_eq!(value(&parts[payloads.len()], "Corecast-Gap"), Some("1"));
    }
}
