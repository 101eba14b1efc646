//! Every refusal that can be met is told as its row of the table says, in each form in which it can be met, and counted by its name.

use corecast::shard::{COME_BACK, LagPolicy, Limits, Refusal, Stats};

use crate::endings::{frame, text, upgrade};
use crate::multipart::BOUNDARY;
use crate::stage::Stage;
use crate::table::{Got, Table};

/// Returns a text of a refusal with the words for when to come back, as they stand in what was got, if there are to be any.
fn in_words(text: &str, refusal: Refusal, got: &str) -> String {
    let Some((least_s, most_s)) = refusal.row().comes_back_s else { return text.to_owned() };
    let (_, after) = got.rsplit_once(COME_BACK).unwrap_or_else(|| panic!("no word of when in {got:?}"));
    let after_s: u32 = after.split('s').next().and_then(|number| number.parse().ok()).expect("a number of seconds");
    assert!((least_s..=most_s).contains(&after_s), "{after_s} is not of {least_s} to {most_s}");
    format!("{text}{COME_BACK}{after_s}s")
}

/// A request was answered with the refusal, in words of its own if `exact` is not said.
fn answered(got: &Got, refusal: Refusal, exact: bool) {
    let row = refusal.row();
    assert_eq!(got.statuses(), [row.status.expect("a request can meet it")], "{}", got.text());
    for (name, value) in row.headers {
        assert_eq!(got.header(name), [*value], "{}", got.text());
    }
    let after = got.header("Retry-After");
    match row.comes_back_s {
        None => assert!(after.is_empty(), "{}", got.text()),
        Some((least_s, most_s)) => {
            let after_s = after.first().and_then(|value| value.parse().ok()).expect("it says when");
            assert!(after.len() == 1 && (least_s..=most_s).contains(&after_s), "{}", got.text());
        }
    }
    let body = got.body();
    assert!(!exact || body == format!("{{\"error\":\"{}\"}}", row.text), "{body}");
}

/// The streams.
const STREAMS: [&str; 4] = ["sse", "stream", "multipart", "forever-frame"];

/// The bytes that end a stream that is refused: the event in its dialect, the end of its format if it has one, and that of the body.
fn last_words(stream: &str, refusal: Refusal, got: &str) -> String {
    let row = refusal.row();
    let words = in_words(row.text, refusal, got);
    let after = words.rsplit_once(COME_BACK).map(|(_, after)| after.trim_end_matches('s'));
    let retry = after.map_or(String::new(), |after_s| format!("retry: {after_s}000\n\n"));
    let inside = format!("{{\"name\":\"{}\",\"text\":\"{words}\"}}", row.name);
    let (event, end) = match stream {
        "sse" => (format!("{retry}event: corecast-refused\ndata: {inside}\n\n"), String::new()),
        "stream" => (format!("{{\"refused\":{inside}}}\n"), String::new()),
        "multipart" => {
            let head =
                format!("Content-Type: application/json\r\nCorecast-Refused: 1\r\nContent-Length: {}", inside.len());
            (format!("{head}\r\n\r\n{inside}\r\n--{BOUNDARY}\r\n"), format!("\r\n--{BOUNDARY}--\r\n"))
        }
        _ => (format!("<script>c({{\"refused\":{inside}}})</script>\n"), String::new()),
    };
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let end = if end.is_empty() { end } else { chunk(&end) };
    format!("\r\n{}{end}0\r\n\r\n", chunk(&event))
}

/// A stream was told the refusal, once, and then it ended in order.
fn told(got: &Got, stream: &str, refusal: Refusal) {
    let text = got.text();
    let last = last_words(stream, refusal, &text);
    assert!(got.ended && got.statuses() == [200] && text.ends_with(&last), "no {last:?} at the end of {text:?}");
    let times = text.to_ascii_lowercase().matches("refused").count();
    assert_eq!(times, last.to_ascii_lowercase().matches("refused").count(), "{text:?}");
}

/// A topic over a stream.
fn stream_of(topic: &str, stream: &str) -> String {
    format!("GET /topics/{topic}?transport={stream}&since=live HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A command was answered with the refusal, and the connection goes on.
fn erred(got: &Got, token: &str, refusal: Refusal) {
    let row = refusal.row();
    let words = in_words(row.text, refusal, &got.text());
    let line = format!("ERR {token} {} {words}", row.err.expect("a command can meet it").as_str());
    let said = [&[0x81, line.len() as u8], line.as_bytes()].concat();
    assert!(got.bytes.ends_with(&said) && !got.ended, "no {line:?} in {:?}", got.text());
}

/// A WebSocket was closed with the refusal; in the line protocol with a `BYE` before.
fn closed(got: &[u8], refusal: Refusal, words: &str) {
    let words = in_words(words, refusal, &String::from_utf8_lossy(got));
    let code = refusal.row().close.expect("a WebSocket can meet it");
    let frame = [&[0x88, 2 + words.len() as u8], &code.to_be_bytes()[..], words.as_bytes()].concat();
    assert!(got.ends_with(&frame), "no {code} {words:?} at the end of {:?}", String::from_utf8_lossy(got));
}

/// Of all refusals this one was counted, so many times.
fn counted(stats: &Stats, counter: &str, times: u64) {
    let found = Stats::FIELDS.iter().zip(stats.values());
    let refused: Vec<_> = found.filter(|((name, _), value)| name.starts_with("refused") && *value > 0).collect();
    let told: Vec<_> = refused.iter().map(|((name, _), value)| (*name, *value)).collect();
    assert_eq!(told, [("refused", times), (counter, times)]);
}

/// A connection too many is told so at once.
#[test]
fn full_of_connections() {
    let mut table = Table::new(Limits { connections_max: 1, ..Limits::default() });
    table.connect();
    let got = table.ask("");
    answered(&got, Refusal::Full, true);
    assert!(got.ended && got.says_close());
    counted(table.shard().stats(), "refused_full", 1);
}

/// A topic too many: requests, a command, a publication, an upgrade, and a stream whose head has left.
#[test]
fn full_of_topics() {
    let mut table = Table::new(Limits { topics_max: 1, ..Limits::default() });
    let line = table.connect();
    table.say(line, upgrade("/ws"));
    table.say(line, text("SUB a"));
    erred(&table.say(line, text("SUB b id=s")), "s", Refusal::Full);
    erred(&table.say(line, text("PUB b id=p\nhello")), "p", Refusal::Full);
    erred(&table.say(line, text("PUB b\nhello")), "-", Refusal::Full);
    answered(&table.get("GET /topics/b?transport=long-poll", ""), Refusal::Full, true);
    answered(&table.ask("POST /topics/b HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"), Refusal::Full, true);
    answered(&table.ask(upgrade("/topics/b")), Refusal::Full, true);
    let batch = "{\"topic\":\"a\",\"data\":\"x\"}\n{\"topic\":\"b\",\"data\":\"x\"}";
    let (words, len) = ("POST /topics HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-ndjson\r\n", batch.len());
    let got = table.ask(format!("{words}Content-Length: {len}\r\n\r\n{batch}"));
    answered(&got, Refusal::Full, false);
    assert_eq!(got.body(), format!("{{\"published\":1,\"error\":\"{}\"}}", Refusal::Full.row().text));
    for stream in STREAMS {
        told(&table.ask(stream_of("b", stream)), stream, Refusal::Full);
    }
    counted(table.shard().stats(), "refused_full", 11);
}

/// A payload that is too large: as a body, announced or not, as a command, and as a message that no command can be.
#[test]
fn too_large() {
    let mut table = Table::new(Limits { message_bytes_max: 100, ..Limits::default() });
    let large = "x".repeat(101);
    let head = "POST /topics/a HTTP/1.1\r\nHost: h\r\n";
    answered(&table.ask(format!("{head}Content-Length: 101\r\n\r\n{large}")), Refusal::TooLarge, true);
    answered(&table.ask(format!("{head}Transfer-Encoding: chunked\r\n\r\n65\r\n{large}")), Refusal::TooLarge, true);
    let line = table.connect();
    table.say(line, upgrade("/ws"));
    erred(&table.say(line, text(&format!("PUB a id=p\n{large}"))), "p", Refusal::TooLarge);
    for path in ["/ws", "/topics/a"] {
        let conn = table.connect();
        table.say(conn, upgrade(path));
        closed(&table.say(conn, frame(0x81, &[b'x'; 1_200])).bytes, Refusal::TooLarge, Refusal::TooLarge.row().text);
    }
    counted(table.shard().stats(), "refused_too_large", 5);
    assert_eq!(table.shard().stats().violations, 0);
}

/// A subscription too many: of a command, and of a poll or a stream of several topics, which does not begin.
#[test]
fn too_many() {
    let mut table = Table::new(Limits { subscriptions_max: 1, ..Limits::default() });
    let line = table.connect();
    table.say(line, upgrade("/ws"));
    table.say(line, text("SUB a"));
    erred(&table.say(line, text("SUB b id=s")), "s", Refusal::TooMany);
    erred(&table.say(line, text("SUB b")), "-", Refusal::TooMany);
    for transport in [&["poll", "long-poll"][..], &STREAMS].concat() {
        let got = table.ask(format!("GET /topics?topic=a&topic=b&transport={transport} HTTP/1.1\r\nHost: h\r\n\r\n"));
        answered(&got, Refusal::TooMany, true);
        assert_eq!(got.ended, STREAMS.contains(&transport), "only who waits for a stream sends nothing more");
    }
    counted(table.shard().stats(), "refused_too_many", 8);
}

/// Who falls off the log is closed, if that is the policy: a WebSocket with its code, a stream in order behind the event.
#[test]
fn too_slow() {
    let limits = Limits { lag: LagPolicy::Close, log_bytes_max: 4_096, ..Limits::default() };
    let mut cases = vec![(upgrade("/topics/t?since=live"), None)];
    cases.extend(STREAMS.map(|stream| (stream_of("t", stream), Some(stream))));
    for (head, stream) in cases {
        let mut scene = Stage::new(1, &limits);
        let slow = scene.open(700, head.as_bytes());
        let mut bytes = Vec::new();
        // What a stream begins with is longer than the room for it.
        for _ in 0..10 {
            scene.turns();
            scene.read(slow, usize::MAX, &mut bytes);
        }
        // Messages of a size that leaves no reader in the midst of one.
        for _ in 0..100 {
            assert!(scene.publish("t", &"m".repeat(500)));
        }
        let mut ended = false;
        for _ in 0..100 {
            scene.turns();
            ended |= scene.read(slow, usize::MAX, &mut bytes);
        }
        match stream {
            None => closed(&bytes, Refusal::TooSlow, Refusal::TooSlow.row().text),
            Some(stream) => told(&Got { bytes, ended }, stream, Refusal::TooSlow),
        }
        counted(&scene.stats(), "refused_too_slow", 1);
    }
}

/// A raw WebSocket that starts from a cursor whose messages are gone is closed.
#[test]
fn lost() {
    let mut table = Table::new(Limits { history_messages: 1, ..Limits::default() });
    let first = table.publish("a", "1");
    table.publish("a", "2");
    table.publish("a", "3");
    let conn = table.connect();
    let got = table.say(conn, upgrade(&format!("/topics/a?since={first}")));
    closed(&got.bytes, Refusal::Lost, Refusal::Lost.row().text);
    counted(table.shard().stats(), "refused_lost", 1);
}

/// What may not be done is told with words of its own.
#[test]
fn forbidden() {
    let mut table = Table::new(Limits { jsonp: false, ..Limits::default() });
    let foreign = "Origin: https://elsewhere.example\r\n";
    answered(&table.get("DELETE /topics/a", foreign), Refusal::Forbidden, false);
    answered(&table.get("GET /topics/a?transport=sse", foreign), Refusal::Forbidden, false);
    answered(&table.get("GET /topics/a?transport=jsonp", ""), Refusal::Forbidden, false);
    let asked = upgrade("/ws").replacen("\r\n\r\n", &format!("\r\n{foreign}\r\n"), 1);
    answered(&table.ask(asked), Refusal::Forbidden, false);
    let conn = table.connect();
    table.say(conn, upgrade("/topics/$sys/a"));
    closed(&table.say(conn, text("x")).bytes, Refusal::Forbidden, "topics that start with $ belong to the engine");
    counted(table.shard().stats(), "refused_forbidden", 5);
}

/// A condition that does not hold: of a poll, of a publication, and of a batch, which never has one.
#[test]
fn changed() {
    let mut table = Table::new(Limits::default());
    let condition = "If-Match: \"00000001-1\"\r\n";
    answered(&table.get("GET /topics/a", condition), Refusal::Changed, true);
    answered(&table.get("DELETE /topics/a", condition), Refusal::Changed, true);
    let batch = "Content-Type: application/x-ndjson\r\nContent-Length: 0\r\n";
    answered(&table.get("POST /topics", &format!("{condition}{batch}")), Refusal::Changed, true);
    counted(table.shard().stats(), "refused_changed", 3);
}

/// The engine is going to end: WebSockets are closed, streams are told and end in order, and none is begun.
#[test]
fn draining() {
    let mut table = Table::new(Limits::default());
    let (line, raw, late) = (table.connect(), table.connect(), table.connect());
    table.say(line, upgrade("/ws"));
    table.say(raw, upgrade("/topics/a"));
    let streams = STREAMS.map(|stream| {
        let conn = table.connect();
        (stream, conn, table.say(conn, stream_of("a", stream)))
    });
    table.say(late, "GET /topics/a?transport=sse HTTP/1.1\r\n");
    table.drain();
    let row = Refusal::Draining.row();
    let said = table.read(line).bytes;
    closed(&said, Refusal::Draining, row.text);
    let bye = format!("BYE {} {}", row.close.expect("a WebSocket meets it"), row.text);
    assert!(String::from_utf8_lossy(&said).contains(&bye), "a line that says {bye:?}");
    closed(&table.read(raw).bytes, Refusal::Draining, row.text);
    for (stream, conn, got) in streams {
        let rest = table.read(conn);
        told(&Got { bytes: [got.bytes, rest.bytes].concat(), ended: rest.ended }, stream, Refusal::Draining);
    }
    answered(&table.say(late, "Host: h\r\n\r\n"), Refusal::Draining, true);
    counted(table.shard().stats(), "refused_draining", 7);
}

/// A stream that ends because it is old is not refused: it ends in order without a word.
#[test]
fn old_age_is_no_refusal() {
    let mut table = Table::new(Limits { stream_ms: 1_000, ..Limits::default() });
    for stream in STREAMS {
        let conn = table.connect();
        let mut got = table.say(conn, stream_of("a", stream));
        table.pass_ms(3_000);
        let rest = table.read(conn);
        got.bytes.extend(rest.bytes);
        assert!(rest.ended && got.text().ends_with("0\r\n\r\n"), "{stream}: {}", got.text());
        assert!(!got.text().to_ascii_lowercase().contains("refused"), "{stream}: {}", got.text());
    }
    assert_eq!(table.shard().stats().refused, 0);
}
