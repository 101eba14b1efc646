//! Manners of HTTP connections: how they end and what is said of that, who gets an answer, and how long anybody is waited for.
//!
//! All of it is about one connection at a time, so there is one shard, and the clock is the test's.

use corecast::shard::Limits;

use crate::table::{Got, Table};

fn table() -> Table {
    Table::new(Limits::default())
}

/// Whatever ends a connection, its last answer has said so, and one that says so ends: a proxy that keeps connections would
/// otherwise send somebody else's request on one that is just going away (RFC 9112 section 9.6). Streams never said it, nor did
/// answers to a request whose body was not read.
#[test]
fn who_ends_a_connection_says_so() {
    let big = "Content-Length: 100000\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let ndjson = "Content-Type: application/x-ndjson\r\n";
    for (words, lines, body, status, ends) in [
        ("GET /nothing", "", "", 404, false),
        ("GET /nothing", "Connection: close\r\n", "", 404, true),
        ("POST /nothing", "Content-Length: 5\r\n", "hello", 404, false),
        // Not here yet, but soon: it is thrown away, and the next request is read.
        ("POST /nothing", "Content-Length: 5\r\n", "he", 404, false),
        ("POST /nothing", big, "", 404, true),
        ("POST /nothing", big, "hello", 404, true),
        ("POST /nothing", chunked, "5\r\nhello\r\n0\r\n\r\n", 404, false),
        ("POST /nothing", chunked, "5\r\nhello\r\n", 404, true),
        ("POST /nothing", chunked, "", 404, true),
        ("POST /nothing", chunked, "zz\r\n0\r\n\r\n", 404, true),
        ("POST /nothing", "Expect: 100-continue\r\nContent-Length: 5\r\n", "", 404, true),
        ("POST /nothing", "Expect: 100-continue\r\nContent-Length: 5\r\n", "hello", 404, false),
        ("PUT /topics/a", big, "", 405, true),
        ("PUT /topics/a", chunked, "5\r\nhe", 405, true),
        ("DELETE /", "Content-Length: 1\r\n", "x", 405, false),
        ("BREW /topics/a", big, "", 501, true),
        ("BREW /topics/a", "", "", 501, false),
        ("POST /topics", big, "{", 415, true),
        ("POST /topics", "Content-Length: 1\r\n", "{", 415, false),
        ("POST /topics/a", big, "", 413, true),
        ("POST /topics/a", "Expect: 100-continue\r\nContent-Length: 100000\r\n", "", 413, true),
        ("POST /topics/a//b", "Content-Length: 1\r\n", "x", 400, false),
        ("POST /topics/a//b", chunked, "1\r\nx", 400, true),
        ("POST /topics/a", "Origin: http://evil\r\nContent-Length: 100000\r\n", "x", 403, true),
        ("POST /topics/a", chunked, "zz\r\n", 400, true),
        ("POST /topics/a", chunked, "1\r\nx\r\n0\r\nno colon\r\n\r\n", 400, true),
        ("POST /topics", &format!("{ndjson}{chunked}"), "5\r\nhello\r\n0\r\n\r\n", 400, false),
        ("GET /topics/a", "Transfer-Encoding: gzip, chunked\r\n", "", 501, true),
        ("GET /topics/a", "Transfer-Encoding: gzip\r\n", "", 400, true),
        ("GET /topics/a", "Content-Length: 1\r\nContent-Length: 1\r\n", "", 400, true),
        ("GET /topics/a?transport=sse", "Origin: http://evil\r\n", "", 403, true),
        ("GET /topics/a?transport=sse&since=x", "", "", 400, false),
        ("HEAD /topics/a?transport=sse", "", "", 200, true),
        ("GET /topics/a?transport=long-poll&wait=0", "", "", 200, false),
        ("OPTIONS /topics/a", big, "", 204, true),
        ("GET /ws", "", "", 426, false),
        ("GET /ws", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n", "", 426, true),
        ("GET /topics/a", "Expect: something\r\n", "", 417, true),
        ("GET a", "", "", 400, true),
    ] {
        let mut table = table();
        let got = table.ask(format!("{words} HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}"));
        let what = format!("{words}, {lines:?}, {body:?}: {}", got.text());
        assert_eq!(got.statuses(), [status], "{what}");
        assert_eq!((got.says_close(), got.ended), (ends, ends), "{what}");
    }
    for transport in ["sse", "stream", "multipart", "forever-frame"] {
        let mut table = table();
        let got = table.get(&format!("GET /topics/a?transport={transport}"), "");
        assert_eq!(
            (got.statuses(), got.says_close(), got.ended),
            (vec![200], true, false),
            "{transport}: {}",
            got.text()
        );
    }
}

/// A request has one answer, whatever becomes of its body after it was answered: the second would be taken for that of the next
/// request (RFC 9112 section 9.2).
#[test]
fn a_request_has_one_answer() {
    for (head, pieces) in [
        ("POST /nothing", &["5\r\nhello\r\n", "zz\r\n"][..]),
        ("GET /", &["5\r\nhello\r\n", "zz\r\n"]),
        ("PUT /topics/a", &["5\r\nhello\r\n", "0\r\nno colon\r\n"]),
        ("POST /topics", &["5;\r\n"]),
        ("OPTIONS *", &["fffffff\r\n", "x"]),
        ("POST /topics/a//b", &["1\r\n", "xy\r\n"]),
    ] {
        let mut table = table();
        let conn = table.connect();
        let mut got = table.say(conn, format!("{head} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
        for piece in pieces {
            let more = table.say(conn, piece);
            got.bytes.extend(more.bytes);
        }
        assert_eq!(got.statuses().len(), 1, "{head}: {}", got.text());
    }
    // Nor does a body that never comes add another.
    let mut table = table();
    let conn = table.connect();
    let mut got = table.say(conn, "POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
    assert_eq!(got.statuses(), [404]);
    table.pass_ms(Limits::default().request_ms + 1_000);
    let rest = table.read(conn);
    got.bytes.extend(rest.bytes);
    assert!(rest.ended && got.statuses() == [404], "{}", got.text());
}

/// A request that is answered at its head has no other answer, whatever its body is, and the next one on its connection gets its own.
/// There used to be a 413 behind it, if the body was longer than a message may be and had come together with the head.
#[test]
fn an_answer_at_the_head_is_the_only_one() {
    let mut table = Table::new(Limits { message_bytes_max: 100, ..Limits::default() });
    for len in [99, 100, 101, 1_000, 5_000] {
        let head = format!("POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n");
        let conn = table.connect();
        let got = table.say(conn, format!("{head}{}GET / HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(len)));
        assert_eq!(got.statuses(), [404, 200], "{len}: {}", got.text());
    }
}

/// What was answered before its body came is followed by the next request, once that body is gone.
#[test]
fn a_short_body_is_thrown_away() {
    let mut table = table();
    let conn = table.connect();
    assert_eq!(table.say(conn, "POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET ").statuses(), [404]);
    let next = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(table.say(conn, format!(" / HT{next}")).statuses(), [200]);
}

/// A chunk that is announced larger than a payload may be is refused before it comes.
#[test]
fn an_announced_chunk_is_refused_at_once() {
    let mut table = table();
    for (size, status) in [("10001", 413), ("ffffffffffffffff", 413), ("10000", 0)] {
        let head = "POST /topics/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let got = table.ask(format!("{head}{size}\r\n"));
        let expected: &[u16] = if status == 0 { &[] } else { &[status] };
        assert_eq!(got.statuses(), expected, "{size}: {}", got.text());
    }
}

/// A head that trickles in is given up after its time, the second of a connection as the first, and told so; one that was not begun
/// leaves the connection open for longer. Only the first had a time of its own once.
#[test]
fn every_head_has_its_time() {
    let limits = Limits { head_ms: 3_000, request_ms: 20_000, ..Limits::default() };
    for first in ["", "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n", "\r\nGET /nothing HTTP/1.1\r\nHost: h\r\n\r\n\r\n"] {
        let mut table = Table::new(limits.clone());
        let conn = table.connect();
        if !first.is_empty() {
            assert_eq!(table.say(conn, first).statuses(), [404]);
            table.pass_ms(5_000);
            assert!(!table.read(conn).ended, "between two requests there is time");
        }
        table.send(conn, "GET /nothing HTTP/1.1\r\nHost: h\r\nX: ");
        for _ in 0..5 {
            table.pass_ms(500);
            table.send(conn, "y");
            let got = table.read(conn);
            assert!(got.bytes.is_empty() && !got.ended, "its time is not over: {}", got.text());
        }
        table.pass_ms(1_000);
        let got = table.read(conn);
        assert_eq!((got.statuses(), got.says_close(), got.ended), (vec![408], true, true), "{first:?}: {}", got.text());
    }
    // Empty lines are no head: what ends then ends without a word.
    let mut table = Table::new(limits);
    let conn = table.connect();
    assert_eq!(table.say(conn, "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n\r\n\r\n").statuses(), [404]);
    table.pass_ms(21_000);
    let got = table.read(conn);
    assert!(got.ended && got.bytes.is_empty(), "{}", got.text());
}

/// Reads so many bytes every 100 ms, until nothing comes any more or all of it is there.
fn read_steadily(table: &mut Table, conn: usize, bytes: usize, all: usize) -> Got {
    let mut got = Got { bytes: Vec::new(), ended: false };
    for _ in 0..2_000 {
        let some = table.read_some(conn, bytes);
        got.bytes.extend(some.bytes);
        got.ended |= some.ended;
        if got.ended || got.bytes.len() >= all {
            break;
        }
        table.pass_ms(100);
    }
    got
}

/// An answer that takes longer than the time for requests is sent to its end while its reader reads, and cut off when it does not.
/// It was cut off in any case.
#[test]
fn an_answer_is_not_cut_while_it_is_read() {
    let size = 1 << 20;
    let limits = Limits {
        request_ms: 2_000,
        message_bytes_max: size,
        log_bytes_max: 4 << 20,
        history_bytes: 4 << 20,
        ..Limits::default()
    };
    for close in ["", "Connection: close\r\n"] {
        let mut table = Table::new(limits.clone());
        table.publish("big", &"x".repeat(size as usize));
        let conn = table.connect();
        table.send(conn, format!("GET /topics/big?transport=value HTTP/1.1\r\nHost: h\r\n{close}\r\n"));
        let got = read_steadily(&mut table, conn, 8 << 10, size as usize + 200);
        assert!(got.bytes.len() > size as usize, "{} bytes came", got.bytes.len());

        let conn = table.connect();
        table.send(conn, "GET /topics/big?transport=value HTTP/1.1\r\nHost: h\r\n\r\n");
        table.pass_ms(4_500);
        let got = table.read(conn);
        assert!(got.ended && got.bytes.len() < size as usize, "who does not read is cut off: {}", got.bytes.len());
    }
}

/// A stream that ends, or is ended by a stopping engine, leaves in full to who reads it.
#[test]
fn a_farewell_is_not_cut_while_it_is_read() {
    let size = 512 << 10;
    let limits = Limits {
        message_bytes_max: size,
        log_bytes_max: 4 << 20,
        history_bytes: 4 << 20,
        linger_ms: 500,
        ..Limits::default()
    };
    let mut table = Table::new(limits);
    table.publish("big", &"x".repeat(size as usize));
    let conn = table.connect();
    table.send(conn, "GET /topics/big?transport=stream&since=earliest HTTP/1.1\r\nHost: h\r\n\r\n");
    table.pass_ms(20);
    table.drain();
    let got = read_steadily(&mut table, conn, 8 << 10, usize::MAX);
    assert!(got.text().ends_with("\r\n0\r\n\r\n"), "{} bytes came", got.bytes.len());
}

/// Who has ended its direction after its request gets what is due: whatever is there, and of a wait its end at once. Only answers
/// about one topic came once.
#[test]
fn half_closed_clients_get_what_is_due() {
    for (target, status, found) in [
        ("/topics/a?since=earliest", 200, "one"),
        ("/topics?topic=a&topic=b&since=earliest", 200, "one"),
        ("/topics/a?transport=jsonp&since=earliest", 200, "one"),
        ("/topics/a?transport=jsonp&wait=30&since=live", 200, "callback([])"),
        ("/topics/a?transport=long-poll&since=earliest", 200, "one"),
        ("/topics/a?transport=long-poll&since=live", 204, ""),
        ("/topics?topic=b&topic=c&transport=long-poll", 204, ""),
        ("/topics/a?transport=value", 200, "one"),
        ("/topics/a?transport=stream&since=earliest", 200, "one"),
        ("/topics/a?transport=sse&since=earliest", 200, "one"),
        ("/topics?topic=a&topic=b&transport=stream&since=earliest", 200, "one"),
        ("/nothing", 404, "no such"),
    ] {
        for waits in [false, true] {
            let mut table = table();
            table.publish("a", "one");
            let conn = table.connect();
            table.send(conn, format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            let mut got = Got { bytes: Vec::new(), ended: false };
            if waits {
                // The end comes later than the request, when a long poll waits already.
                got = table.read(conn);
            }
            table.end(conn);
            let rest = table.read(conn);
            got.bytes.extend(rest.bytes);
            got.ended |= rest.ended;
            assert_eq!(got.statuses(), [status], "{target}: {}", got.text());
            assert!(got.ended && got.body().contains(found), "{target}: {}", got.text());
            if target.contains("transport=stream") {
                assert!(got.text().ends_with("0\r\n\r\n"), "{target}: {}", got.text());
            }
        }
    }
    // Several requests, and then the end.
    let mut table = table();
    let conn = table.connect();
    let poll = "GET /topics/a?since=earliest HTTP/1.1\r\nHost: h\r\n\r\n";
    table.send(conn, format!("POST /topics/a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none{poll}{poll}"));
    table.end(conn);
    let got = table.read(conn);
    assert!(got.ended && got.statuses() == [200, 200, 200], "{}", got.text());
}

fn masked(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend((bytes.len() as u16).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(bytes);
    frame
}

/// A WebSocket that ends its direction without a close frame has what it sent before published, also what waits for room in a ring,
/// and is told of it. All of that was lost once.
#[test]
fn half_closed_websockets_lose_no_publication() {
    const MESSAGES: usize = 2_000;
    let limits = Limits { history_messages: 5_000, history_bytes: 8 << 20, ..Limits::default() };
    let mut table = Table::new(limits);
    let conn = table.connect();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(table.say(conn, upgrade).statuses(), [101]);
    let padding = "x".repeat(300);
    let frames: Vec<u8> = (0..MESSAGES).flat_map(|n| masked(&format!("PUB a id={n}\n{n} {padding}"))).collect();
    table.send(conn, frames);
    table.end(conn);
    let got = table.read(conn);
    let told = got.text().matches("OK ").count();
    assert!(got.ended && told == MESSAGES, "{told} were answered");
    let got = table.get(&format!("GET /topics/a?since=-{}", MESSAGES), "");
    assert!(got.text().contains(&format!("\"0 {padding}\"")), "the first is there");
    let last = table.get("GET /topics/a?transport=value", "").body();
    assert_eq!(last, format!("{} {padding}", MESSAGES - 1));
}

/// An engine that stops lets a body come that is on its way, and a head, and says in the answer that it was the last. They were cut
/// off once.
#[test]
fn a_stopping_engine_takes_what_is_on_its_way() {
    let head = "POST /topics/a HTTP/1.1\r\nHost: h\r\n";
    for (first, second) in [
        (format!("{head}Content-Length: 5\r\n\r\nhe"), "llo".to_string()),
        (format!("{head}Content-Length: 5\r\n\r\n"), "hello".to_string()),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhe"), "llo\r\n0\r\n\r\n".to_string()),
        (format!("{head}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"), "hello".to_string()),
        (head.to_string(), "Content-Length: 5\r\n\r\nhello".to_string()),
    ] {
        let mut table = table();
        let (conn, idle) = (table.connect(), table.connect());
        let before = table.say(conn, &first);
        assert!(!before.ended);
        table.drain();
        table.pass_ms(1_000);
        assert!(table.read(idle).ended, "who asks nothing is let go");
        let got = table.say(conn, &second);
        assert_eq!((got.statuses(), got.says_close(), got.ended), (vec![200], true, true), "{first}: {}", got.text());
        table.end(conn);
        table.pass_ms(3_000);
        assert!(table.shard().finished());
    }
    // What does not come keeps nobody waiting.
    let mut table = table();
    let conn = table.connect();
    table.say(conn, "GET / HTTP/1.1\r\nHo");
    table.drain();
    table.pass_ms(6_000);
    let got = table.read(conn);
    assert_eq!((got.statuses(), got.says_close(), got.ended), (vec![408], true, true), "{}", got.text());
    table.end(conn);
    table.pass_ms(3_000);
    assert!(table.shard().finished());
}
