//! What is written over HTTP, and read on the other side: response heads, the WebSocket handshake, the dialects' frames.

use corecast_protocol::dialect;
use corecast_protocol::http::client::{self, Reply, ReplyBody};
use corecast_protocol::http::head;
use corecast_protocol::http::response::{self, Framing, Head};
use corecast_protocol::ws::handshake;
use corecast_protocol::{Cursor, Message, Violation, Writer, is_text, json, line};
use proptest::prelude::*;

fn written(write: impl FnOnce(&mut Writer<'_>)) -> String {
    let mut out = vec![0; 4096];
    let mut w = Writer::new(&mut out);
    write(&mut w);
    let len = w.finish().expect("there is room");
    out.truncate(len);
    String::from_utf8(out).expect("heads are ASCII")
}

const EVERY: &str =
    "Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n";

/// Heads carry what PROTOCOL promises of every transport, and the framing that the peer understands.
#[test]
fn heads_are_written() {
    let base = Head {
        status: 200,
        content_type: Some("text/plain"),
        framing: Framing::Sized(3),
        http10: false,
        keep_alive: true,
        date: None,
        upgrade: None,
        extra: &[],
    };
    let rows = [
        (
            base,
            format!("HTTP/1.1 200 OK\r\n{EVERY}Content-Type: text/plain\r\nContent-Length: 3\r\n\r\n"),
            Framing::Sized(3),
        ),
        (
            Head { framing: Framing::Chunked, content_type: None, ..base },
            format!("HTTP/1.1 200 OK\r\n{EVERY}Transfer-Encoding: chunked\r\n\r\n"),
            Framing::Chunked,
        ),
        (
            Head { framing: Framing::Chunked, http10: true, content_type: None, ..base },
            format!("HTTP/1.1 200 OK\r\n{EVERY}Connection: close\r\n\r\n"),
            Framing::Close,
        ),
        (
            Head {
                status: 426,
                content_type: None,
                date: Some("Sun, 06 Nov 1994 08:49:37 GMT"),
                upgrade: Some("websocket"),
                keep_alive: false,
                ..base
            },
            format!(
                "HTTP/1.1 426 Upgrade Required\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{EVERY}Content-Length: 3\r\nUpgrade: websocket\r\nConnection: upgrade\r\nConnection: close\r\n\r\n"
            ),
            Framing::Sized(3),
        ),
        (
            Head { http10: true, content_type: None, ..base },
            format!("HTTP/1.1 200 OK\r\n{EVERY}Content-Length: 3\r\nConnection: keep-alive\r\n\r\n"),
            Framing::Sized(3),
        ),
        (
            Head { status: 503, framing: Framing::Close, extra: &[("Retry-After", "2")], ..base },
            format!(
                "HTTP/1.1 503 Service Unavailable\r\n{EVERY}Content-Type: text/plain\r\nConnection: close\r\nRetry-After: 2\r\n\r\n"
            ),
            Framing::Close,
        ),
        (
            Head {
                status: 304,
                framing: Framing::Empty,
                content_type: None,
                keep_alive: false,
                extra: &[("ETag", "\"a\r\nX: y\0\"")],
                ..base
            },
            format!("HTTP/1.1 304 Not Modified\r\n{EVERY}Connection: close\r\nETag: \"a  X: y \"\r\n\r\n"),
            Framing::Empty,
        ),
    ];
    for (answer, expected, framing) in rows {
        let mut used = None;
        assert_eq!(written(|w| used = Some(response::head(w, &answer))), expected);
        assert_eq!(used, Some(framing));
        let (reply, len) = client::parse(expected.as_bytes(), 4096).unwrap().unwrap();
        assert_eq!((reply.status, len), (answer.status, expected.len()));
    }
}

/// Every status that a violation asks for has a reason.
#[test]
fn every_status_has_a_reason() {
    for violation in
        [Violation::HeadTooLarge, Violation::UnsupportedVersion, Violation::MissingUpgrade, Violation::MessageTooLarge]
    {
        assert!(!response::reason(violation.status()).is_empty());
        assert!(violation.text().len() <= 123, "it fits a close frame");
    }
    for status in [100, 101, 200, 204, 304, 400, 401, 403, 404, 405, 413, 417, 426, 429, 431, 500, 501, 502, 503, 505] {
        assert!(!response::reason(status).is_empty(), "{status}");
    }
}

/// A chunk has its size before it, in hexadecimal without zeros.
#[test]
fn chunks_are_started() {
    assert_eq!(written(|w| response::chunk_start(w, 1)), "1\r\n");
    assert_eq!(written(|w| response::chunk_start(w, 0x1a0)), "1a0\r\n");
    assert_eq!(written(|w| response::chunk_start(w, u64::MAX)), "ffffffffffffffff\r\n");
}

fn reply(input: &str) -> Result<Option<(Reply<'_>, usize)>, Violation> {
    let whole = client::parse(input.as_bytes(), 4096);
    for cut in 0..input.len() {
        let found = client::parse(&input.as_bytes()[..cut], 4096);
        assert!(found == Ok(None) || found == whole, "{input:?} cut at {cut}");
    }
    whole
}

/// How a response's body ends, and whether the connection stays (RFC 9112 sections 6.3 and 9.3), cut at every byte.
#[test]
fn responses_are_read() {
    for (input, status, body, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, ReplyBody::Sized(5), true),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 200, ReplyBody::Sized(0), false),
        ("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", 200, ReplyBody::Chunked, true),
        ("HTTP/1.1 404 Not Found\r\n\r\n", 404, ReplyBody::UntilClose, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 200, ReplyBody::Sized(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", 200, ReplyBody::Sized(5), true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, ReplyBody::None, true),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 304, ReplyBody::None, true),
        ("HTTP/1.1 100 Continue\r\n\r\n", 100, ReplyBody::None, true),
    ] {
        let (found, len) = reply(input).unwrap().unwrap();
        assert_eq!(
            (found.status, found.body, found.keep_alive, len),
            (status, body, keep_alive, input.len()),
            "{input}"
        );
    }
    let input =
        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nETag: \"x\"\r\nRetry-After: 2\r\nCorecast-Cursor: 1a2b3c4d-1\r\n\r\n";
    let (found, _) = reply(input).unwrap().unwrap();
    assert_eq!((found.content_type, found.etag), (Some("a/b"), Some("\"x\"")));
    assert_eq!((found.retry_after, found.corecast_cursor), (Some("2"), Some("1a2b3c4d-1")));
    for (input, violation) in [
        ("HTTP/1.1 2x0 OK\r\n\r\n", Violation::BadStatusLine),
        ("HTTP/1.1 099 OK\r\n\r\n", Violation::BadStatusLine),
        ("HTTP/1.1\r\n\r\n", Violation::BadStatusLine),
        ("\x15\x03", Violation::BadStatusLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Violation::UnsupportedVersion),
        ("HTTP/1.1 200 OK\n\n", Violation::BareLineFeed),
        ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", Violation::BadHeaderName),
        ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", Violation::FoldedHeader),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Violation::DuplicateContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::BothLengths),
    ] {
        assert_eq!(reply(input), Err(violation), "{input:?}");
    }
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn upgrade(head: &str) -> Result<(bool, Vec<String>), Violation> {
    let (request, _) = head::parse(head.as_bytes(), 4096).expect("the head is valid").expect("the head is whole");
    let offer = handshake::check(&request)?;
    Ok((offer.corecast_v1, offer.protocols().map(String::from).collect()))
}

/// What a request must say to become a WebSocket (RFC 6455 section 4.2.1).
#[test]
fn upgrades_are_checked() {
    use Violation as V;
    let good = format!(
        "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    assert_eq!(upgrade(&good), Ok((false, vec![])));
    for (from, to, found) in [
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: chat, corecast.v1\r\n\r\n",
            Ok((true, vec!["chat".into(), "corecast.v1".into()])),
        ),
        ("Upgrade: websocket", "Upgrade: WebSocket/1, WEBSOCKET", Ok((false, vec![]))),
        ("Connection: Upgrade", "Connection: keep-alive, upgrade", Ok((false, vec![]))),
        ("Upgrade: websocket", "X: y", Err(V::MissingUpgrade)),
        ("Upgrade: websocket", "Upgrade: h2c", Err(V::MissingUpgrade)),
        ("Connection: Upgrade", "Connection: keep-alive", Err(V::MissingUpgrade)),
        ("GET", "POST", Err(V::BadUpgradeMethod)),
        ("HTTP/1.1", "HTTP/1.0", Err(V::BadUpgradeMethod)),
        ("Version: 13", "Version: 12", Err(V::BadWebSocketVersion)),
        ("Version: 13", "Version: 013", Err(V::BadWebSocketVersion)),
        ("Version: 13", "Version: 13, 8", Err(V::BadWebSocketVersion)),
        ("Sec-WebSocket-Version: 13", "X: y", Err(V::BadWebSocketVersion)),
        ("Sec-WebSocket-Key", "X", Err(V::BadWebSocketKey)),
        (KEY, "", Err(V::BadWebSocketKey)),
        (KEY, "dGhlIHNhbXBsZSBub25jZQ", Err(V::BadWebSocketKey)),
        (KEY, "dGhlIHNhbXBsZSBub25jZR==", Err(V::BadWebSocketKey)),
        (KEY, "dGhlIHNhbXBsZSBub25jZTE=", Err(V::BadWebSocketKey)),
        (KEY, "dGhlIHNhbXBsZSBub25jZ!==", Err(V::BadWebSocketKey)),
        (KEY, "dGhlIHNhbXBsZSBub25jZQ==dGhl", Err(V::BadWebSocketKey)),
        // Lists stand on any number of lines.
        (
            "\r\n\r\n",
            "\r\nSec-WebSocket-Protocol: chat\r\nX: y\r\nSec-WebSocket-Protocol: x, corecast.v1\r\n\r\n",
            Ok((true, vec!["chat".into(), "x".into(), "corecast.v1".into()])),
        ),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: corecast.v10\r\n\r\n", Ok((false, vec!["corecast.v10".into()]))),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: a, b; c;d = \"e\\f\" ,,g\r\n\r\n", Ok((false, vec![]))),
    ] {
        assert_eq!(upgrade(&good.replacen(from, to, 1)), found, "{from} -> {to}");
    }
}

/// What a client offers follows its grammar, or there is no WebSocket (RFC 6455 sections 4.2.1 and 9.1).
#[test]
fn malformed_offers_are_refused() {
    for line in [
        "Extensions: permessage-deflate;",
        "Extensions: permessage-deflate;; a",
        "Extensions: ; a",
        "Extensions: permessage-deflate; =x",
        "Extensions: permessage-deflate; a=",
        "Extensions: permessage-deflate; a=b=c",
        "Extensions: permessage-deflate a",
        "Extensions: permessage-deflate; a b",
        "Extensions: permessage-deflate; a=\"b",
        "Extensions: permessage-deflate; a=\"\"",
        "Extensions: permessage-deflate; a=\"b c\"",
        "Extensions: permessage-deflate; a=\"b\\\"",
        "Extensions: permessage-deflate; a=\"b, c\"",
        "Extensions: per/message",
        "Extensions: \u{e9}",
        "Extensions: ,",
        "Extensions:",
        "Extensions: a\r\nSec-WebSocket-Extensions: b c",
        "Protocol: corecast.v1, a b",
        "Protocol: \"corecast.v1\"",
        "Protocol: corecast/v1",
        "Protocol: ,",
        "Protocol: a\r\nSec-WebSocket-Protocol: \u{e9}",
    ] {
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-{line}\r\n\r\n"
        );
        assert_eq!(upgrade(&head), Err(Violation::BadWebSocketOffer), "{line}");
    }
}

/// What an answer must say to complete the handshake (RFC 6455 section 4.1).
#[test]
fn answers_to_upgrades_are_checked() {
    let key = handshake::encode_key(*b"the sample nonce");
    assert_eq!(&key, KEY.as_bytes());
    let good = written(|w| handshake::respond(w, &handshake::accept_key(KEY), Some("corecast.v1"), None));
    for (from, to, fits) in [
        ("", "", true),
        ("\r\nSec-WebSocket-Protocol: corecast.v1", "", true),
        ("Upgrade: websocket", "Upgrade: WebSocket", true),
        ("101 Switching", "200 Switching", false),
        ("Upgrade: websocket", "X: y", false),
        ("Connection: Upgrade", "Connection: close", false),
        ("s3pPLM", "S3pPLM", false),
        ("Sec-WebSocket-Accept", "X", false),
        (": corecast.v1", ": other", false),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", false),
    ] {
        let answer = good.replacen(from, to, 1);
        let (reply, _) = client::parse(answer.as_bytes(), 4096).unwrap().unwrap();
        let found = handshake::check_reply(&reply, &key, Some("corecast.v1"));
        assert_eq!(found.is_ok(), fits, "{from} -> {to}");
    }
    let request = written(|w| {
        handshake::client_request_with(w, "h:1", "/ws?x", &key, None, &[("Authorization", "Bearer t")]);
    });
    let (request, _) = head::parse(request.as_bytes(), 4096).unwrap().unwrap();
    assert_eq!(request.headers.authorization, Some("Bearer t"));
    assert_eq!((request.path, request.query, request.headers.host), ("/ws", "x", Some("h:1")));
    assert!(handshake::check(&request).is_ok());
}

proptest! {
    /// Every dialect takes exactly the bytes that were counted, and a client reads the same message out of them.
    #[test]
    fn dialects_are_exact_and_readable(
        topic in "[a-z %ü]{1,20}(/[a-z\"\\\\]{1,10})?",
        event in prop::option::of("[!-~]{1,64}"),
        payload in prop_oneof![any::<String>().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..400)],
        epoch: u32,
        seq: u64,
    ) {
        let message = Message {
            topic: &topic,
            cursor: Cursor { epoch, seq },
            event: event.as_deref(),
            payload: &payload,
            text: is_text(&payload),
            ..Default::default()
        };
        let opcode = if message.text { 0x81 } else { 0x82 };
        let header = |len: usize| if len - 2 <= 125 { 2 } else { 4 };

        let len = dialect::payload::encoded_len(&message);
        let mut out = vec![0; len];
        prop_assert_eq!(dialect::payload::encode(&message, &mut out), len);
        prop_assert_eq!(out[0], opcode);
        prop_assert_eq!(&out[header(len)..], &payload[..]);

        let len = dialect::line::encoded_len(&message);
        let mut out = vec![0; len];
        prop_assert_eq!(dialect::line::encode(&message, &mut out), len);
        prop_assert_eq!(out[0], opcode);
        let found = line::parse_server(&mut out[header(len)..]);
        let expected = line::ServerLine::Msg { topic: &topic, cursor: message.cursor, event: event.as_deref(), payload: &payload, key: "", op: Default::default() };
        prop_assert_eq!(found, Ok(expected));

        let len = dialect::json::encoded_len(&message);
        let mut out = vec![0; len];
        prop_assert_eq!(dialect::json::encode(&message, &mut out), len);
        prop_assert!(std::str::from_utf8(&out).is_ok());
        let found = json::publish_line(&mut out).unwrap();
        prop_assert_eq!((found.topic, found.data, found.event), (&topic[..], &payload[..], event.as_deref()));
    }
}
