//! Letters of RFC 9110: methods, conditions, headers that every answer has, and who may be asked what.

use corecast::shard::Limits;

use crate::table::Table;

fn table() -> Table {
    Table::new(Limits::default())
}

/// Every answer says when it was given, by the time of day as it was last told.
#[test]
fn answers_are_dated() {
    let mut table = table();
    let first = table.get("GET /nothing", "").header("date");
    assert_eq!(first, ["Thu, 01 Jan 1970 00:00:01 GMT"], "the simulated clock begins there");
    table.pass_ms(2_000);
    assert_eq!(table.get("GET /topics/a", "").header("date"), ["Thu, 01 Jan 1970 00:00:03 GMT"]);
    table.shard().set_wall_clock(784_111_774_000_000);
    let dated = ["Sun, 06 Nov 1994 08:49:37 GMT"];
    assert_eq!(table.get("GET /topics/a?transport=stream", "").header("date"), dated);
    assert_eq!(table.ask("nonsense\r\n\r\n").header("date"), dated);
    assert_eq!(table.get("OPTIONS *", "").header("date"), dated);
}

/// Each resource has its methods: any other is a 405 that says which, one that nobody knows a 501, and what is not there a 404,
/// whoever asks; OPTIONS allows what is there, and only that.
#[test]
fn resources_have_methods() {
    let (read, topics, topic) = ("GET, HEAD, OPTIONS", "GET, HEAD, POST, OPTIONS", "GET, HEAD, POST, DELETE, OPTIONS");
    let mut table = table();
    for (path, allow, refused) in [
        ("/", read, &["POST", "DELETE", "PUT", "PATCH", "TRACE"][..]),
        ("/corecast.js", read, &["POST", "DELETE", "PUT"]),
        ("/corecast.min.js", read, &["POST", "DELETE", "PUT"]),
        ("/ws", read, &["POST", "DELETE", "PATCH"]),
        ("/topics", topics, &["DELETE", "PUT", "PATCH", "TRACE"]),
        ("/topics/a", topic, &["PUT", "PATCH", "TRACE"]),
    ] {
        for method in refused {
            let got = table.get(&format!("{method} {path}"), "");
            assert_eq!((got.statuses(), got.header("allow")), (vec![405], vec![allow.to_string()]), "{method} {path}");
        }
        let got = table.get(&format!("OPTIONS {path}"), "");
        assert_eq!((got.statuses(), got.header("allow")), (vec![204], vec![allow.to_string()]), "{path}");
        let got = table.get(&format!("OPTIONS {path}"), "Access-Control-Request-Method: POST\r\n");
        assert_eq!(got.header("access-control-allow-methods"), [allow], "{path}");
        for method in ["BREW", "get", "PROPFIND"] {
            assert_eq!(table.get(&format!("{method} {path}"), "").statuses(), [501], "{method} {path}");
        }
    }
    for path in ["/nothing", "/echo", "/topic", "/topicsa", "/ws/", "/corecast.js/", "/corecast.min.js.gz"] {
        for method in ["GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"] {
            assert_eq!(table.get(&format!("{method} {path}"), "").statuses(), [404], "{method} {path}");
        }
    }
    assert_eq!(table.get("OPTIONS *", "").header("allow"), [topic]);
}

/// The answer to HEAD has no body, also when the request is refused for what stands in its head, or for what does not come.
#[test]
fn heads_have_no_body() {
    let mut table = table();
    table.publish("a", "one");
    for (request, status) in [
        ("HEAD /topics/a HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("HEAD /nothing HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("HEAD /ws HTTP/1.1\r\nHost: h\r\n\r\n", 426),
        ("HEAD / HTTP/1.1\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("HEAD / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
        ("HEAD / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", 417),
        ("HEAD / HTTP/1.1\nHost: h\r\n\r\n", 400),
        ("HEAD /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 400),
    ] {
        let got = table.ask(request);
        assert_eq!((got.statuses(), got.body()), (vec![status], String::new()), "{request:?}: {}", got.text());
        assert_ne!(got.header("content-length"), ["0"], "{request:?}: it says how long the body would be");
    }
    let conn = table.connect();
    table.send(conn, "HEAD / HTTP/1.1\r\nHo");
    table.pass_ms(Limits::default().head_ms + 1_500);
    let got = table.read(conn);
    assert_eq!((got.statuses(), got.body()), (vec![408], String::new()), "{}", got.text());
    assert!(table.ask("GET / HTTP/1.1\r\n\r\n").body().contains("Host"), "and others have one");
}

/// 426 says what to change to, and that it is about this connection (RFC 9110 sections 7.8 and 15.5.22).
#[test]
fn upgrades_are_asked_for_by_name() {
    let mut table = table();
    let version = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n";
    for lines in ["", "Upgrade: h2c\r\nConnection: Upgrade\r\n", "Upgrade: websocket\r\n", version] {
        let got = table.get("GET /ws", lines);
        assert_eq!((got.statuses(), got.header("upgrade")), (vec![426], vec!["websocket".to_string()]), "{lines:?}");
        assert_eq!(got.header("connection").first().map(String::as_str), Some("upgrade"), "{lines:?}");
        let versions = got.header("sec-websocket-version");
        assert_eq!(versions.first().map(String::as_str), (lines == version).then_some("13"), "{lines:?}");
    }
    // Who speaks HTTP/1.0 cannot change to anything, and is answered as if it had not asked.
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let lines = format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n");
    assert_eq!(table.ask(format!("GET /topics/a HTTP/1.0\r\n{lines}")).statuses(), [200]);
    assert_eq!(table.ask(format!("GET /ws HTTP/1.0\r\n{lines}")).statuses(), [426]);
}

/// Polls answer 304 to any tag of theirs, on any line, and 412 to who wants another; an answer that lost its messages has a tag of its
/// own.
#[test]
fn polls_obey_conditions() {
    let mut table = table();
    let cursor = table.publish("a", "one");
    table.publish("b", "two");
    for target in ["/topics/a", "/topics/a?since=earliest", "/topics/a?transport=value", "/topics?topic=a&topic=b"] {
        let words = format!("GET {target}");
        let tag = table.get(&words, "").header("etag").concat();
        if !target.contains("topic=") {
            assert_eq!(tag, format!("\"{cursor}\""));
        }
        for (lines, status) in [
            (format!("If-None-Match: {tag}\r\n"), 304),
            (format!("If-None-Match: W/{tag}\r\n"), 304),
            (format!("If-None-Match: \"00000000-1\", {tag}\r\n"), 304),
            (format!("If-None-Match: \"x\"\r\nX: y\r\nIf-None-Match: {tag}\r\n"), 304),
            ("If-None-Match: *\r\n".to_string(), 304),
            ("If-None-Match: \"00000000-1\"\r\n".to_string(), 200),
            ("If-None-Match: nonsense\r\n".to_string(), 200),
            (format!("If-Match: \"x\", {tag}\r\n"), 200),
            ("If-Match: *\r\n".to_string(), 200),
            (format!("If-Match: W/{tag}\r\n"), 412),
            ("If-Match: \"x\"\r\n".to_string(), 412),
            (format!("If-Match: \"x\"\r\nIf-None-Match: {tag}\r\n"), 412),
            (format!("If-Match: {tag}\r\nIf-None-Match: {tag}\r\n"), 304),
        ] {
            let got = table.get(&words, &lines);
            assert_eq!(got.statuses(), [status], "{target}, {lines:?}: {}", got.text());
            assert!(status != 304 || got.header("etag") == [tag.clone()] && got.body().is_empty(), "{}", got.text());
        }
    }
    let mut bytes = b"GET /topics/a HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"\xe9\", ".to_vec();
    bytes.extend(format!("\"{cursor}\"\r\n\r\n").bytes());
    assert_eq!(table.ask(bytes).statuses(), [304], "a tag may hold any letter");
    assert_eq!(table.get("GET /topics/none?transport=value", "If-Match: *\r\n").statuses(), [404]);
    assert_eq!(table.get("GET /topics/none", "If-None-Match: *\r\n").statuses(), [200]);
}

/// A topic that was cleared while somebody subscribes keeps its numbers, and what is polled of it then is not what was there before.
#[test]
fn a_cleared_topic_is_another() {
    let mut table = table();
    let stream = table.connect();
    table.say(stream, "GET /topics?topic=a&topic=b&transport=stream HTTP/1.1\r\nHost: h\r\n\r\n");
    let (full, other) = (table.publish("a", "one"), table.publish("b", "two"));
    let targets = ["/topics/a", "/topics/a?since=earliest", "/topics/a?since=-5", "/topics?topic=a&topic=b"];
    let before: Vec<_> =
        targets.iter().map(|target| table.get(&format!("GET {target}"), "").header("etag").concat()).collect();
    assert_eq!(before[3], format!("\"{full},{other}\""));
    assert_eq!(table.get("DELETE /topics/a", "").statuses(), [200]);
    for (target, before) in targets.into_iter().zip(before) {
        let words = format!("GET {target}");
        let got = table.get(&words, &format!("If-None-Match: {before}\r\n"));
        assert_eq!(got.statuses(), [200], "{target}: {}", got.text());
        let after = got.header("etag").concat();
        assert_ne!(after, before, "{target}");
        assert!(got.header("corecast-cursor").concat().starts_with(&full), "{target}: the cursor is what it was");
        assert_eq!(table.get(&words, &format!("If-None-Match: {after}\r\n")).statuses(), [304], "{target}");
        assert_eq!(table.get(&words, &format!("If-Match: {before}\r\n")).statuses(), [412], "{target}");
    }
    // Who asks for what follows has missed nothing.
    let since = format!("GET /topics/a?since={full}");
    assert_eq!(table.get(&since, "").header("etag"), [format!("\"{full}\"")]);
}

/// DELETE and POST do nothing unless their conditions hold, whatever they are; DELETE used to forget everything all the same.
#[test]
fn writes_obey_conditions() {
    let mut table = table();
    let mut number = 0;
    let mut write = |table: &mut Table, method: &str, lines: &str| {
        number += 1;
        let topic = format!("t{number}");
        let cursor = table.publish(&topic, "one");
        let lines = lines.replace("TAG", &format!("\"{cursor}\""));
        let got =
            table.ask(format!("{method} /topics/{topic} HTTP/1.1\r\nHost: h\r\n{lines}Content-Length: 3\r\n\r\ntwo"));
        let newest = table.get(&format!("GET /topics/{topic}?transport=value"), "");
        (got.statuses(), newest.statuses(), newest.body())
    };
    for (lines, holds) in [
        ("If-Match: TAG\r\n", true),
        ("If-Match: \"x\", TAG\r\n", true),
        ("If-Match: \"x\"\r\nIf-Match: TAG\r\n", true),
        ("If-Match: *\r\n", true),
        ("If-None-Match: \"x\"\r\n", true),
        ("If-Match: TAG\r\nIf-None-Match: \"x\"\r\n", true),
        ("If-Match: \"x\"\r\n", false),
        ("If-Match: W/TAG\r\n", false),
        ("If-Match: nonsense\r\n", false),
        ("If-None-Match: *\r\n", false),
        ("If-None-Match: TAG\r\n", false),
        ("If-None-Match: \"x\", W/TAG\r\n", false),
        ("If-Match: TAG\r\nIf-None-Match: TAG\r\n", false),
    ] {
        let status = vec![if holds { 200 } else { 412 }];
        let (got, left, newest) = write(&mut table, "DELETE", lines);
        assert_eq!((got, left), (status.clone(), vec![if holds { 404 } else { 200 }]), "DELETE, {lines:?}: {newest}");
        let (got, _, newest) = write(&mut table, "POST", lines);
        assert_eq!((got, newest.as_str()), (status, if holds { "two" } else { "one" }), "POST, {lines:?}");
    }
    // What is not there can be made, once.
    let make = "POST /topics/new HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\nContent-Length: 3\r\n\r\none";
    assert_eq!(table.ask(make).statuses(), [200]);
    assert_eq!(table.ask(make).statuses(), [412]);
    assert_eq!(table.get("DELETE /topics/none", "If-Match: *\r\n").statuses(), [412]);
    // The connection goes on after a condition that does not hold.
    let conn = table.connect();
    let refused = "DELETE /topics/new HTTP/1.1\r\nHost: h\r\nIf-Match: \"x\"\r\n\r\n";
    let poll = "GET /topics/new HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(table.say(conn, format!("{refused}{poll}{refused}")).statuses(), [412, 200, 412]);
    let batch = "{\"topic\":\"new\",\"data\":\"x\"}\n";
    let lines = format!("Content-Type: Application/X-NDJSON; charset=utf-8\r\nContent-Length: {}\r\n", batch.len());
    for (condition, status) in [("", 200), ("If-None-Match: *\r\n", 200), ("If-Match: *\r\n", 412)] {
        let got = table.ask(format!("POST /topics HTTP/1.1\r\nHost: h\r\n{condition}{lines}\r\n{batch}"));
        assert_eq!(got.statuses(), [status], "{condition}: {}", got.text());
    }
}

/// Answers that depend on Accept say so, and only those.
#[test]
fn answers_say_what_they_depend_on() {
    let mut table = table();
    for (target, lines, vary) in [
        ("/", "", &["Accept", "Origin"][..]),
        ("/topics/a", "", &["Accept", "Origin"]),
        ("/topics/a", "Accept: Text/Event-Stream\r\n", &["Accept", "Accept-Encoding", "Origin"]),
        ("/topics/a?transport=sse", "", &["Accept-Encoding", "Origin"]),
        ("/topics/a?transport=value", "", &["Origin"]),
        ("/topics/a?transport=poll", "", &["Origin"]),
        ("/nothing", "", &["Origin"]),
    ] {
        assert_eq!(table.get(&format!("GET {target}"), lines).header("vary"), vary, "{target}");
    }
    let html = "Accept: application/json;q=0.1\r\nAccept: TEXT/HTML\r\n";
    let page = table.get("GET /", html);
    assert_eq!(page.header("content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(page.header("vary"), ["Accept", "Accept-Encoding", "Origin"]);
    let gzip = "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n";
    assert_eq!(table.get("GET /topics/a?transport=stream", gzip).header("content-encoding"), ["gzip"]);
    let conn = table.connect();
    let prefer = "Prefer: respond-async\r\nPrefer: wait=1\r\n";
    table.send(conn, format!("GET /topics/a?transport=long-poll HTTP/1.1\r\nHost: h\r\n{prefer}\r\n"));
    table.pass_ms(1_500);
    assert_eq!(table.read(conn).statuses(), [204]);
}

/// What the engine serves to browsers is sent once: compressed if they like, and not again to whoever has it. A page that is not
/// welcome may read the client, with which it can say so, and nothing else.
#[test]
fn assets_are_sent_to_those_who_have_them_not() {
    let mut table = table();
    let html = "Accept: text/html\r\n";
    let mut tags = Vec::new();
    for (path, lines, cache) in [
        ("/corecast.js", "", "public, max-age=60"),
        ("/corecast.min.js", "", "public, max-age=60"),
        ("/", html, "no-cache, no-transform"),
    ] {
        let get = format!("GET {path}");
        let gzip = format!("{lines}Accept-Encoding: br, gzip\r\n");
        let mut lens = Vec::new();
        for (lines, coding) in [(lines, &[][..]), (&*gzip, &["gzip"])] {
            let got = table.get(&get, lines);
            assert_eq!(got.header("content-encoding"), coding, "{path}");
            assert_eq!(got.header("cache-control"), [cache], "{path}");
            assert!(got.header("vary").contains(&"Accept-Encoding".to_string()), "{path}: {:?}", got.header("vary"));
            let tag = got.header("etag").concat();
            assert!(tag.starts_with('"'), "{path}: a strong tag: {tag}");
            lens.push(got.header("content-length").concat().parse::<u32>().expect("a length"));
            for (condition, status) in [
                (format!("If-None-Match: {tag}\r\n"), 304),
                (format!("If-None-Match: W/{tag}\r\n"), 304),
                ("If-None-Match: *\r\n".to_string(), 304),
                ("If-None-Match: \"x\"\r\n".to_string(), 200),
                (format!("If-Match: {tag}\r\n"), 200),
                ("If-Match: \"x\"\r\n".to_string(), 412),
            ] {
                let got = table.get(&get, &format!("{lines}{condition}"));
                assert_eq!(got.statuses(), [status], "{path}, {condition:?}");
                assert!(status != 304 || got.body().is_empty() && got.header("etag") == [tag.clone()], "{path}");
            }
            let head = table.get(&format!("HEAD {path}"), lines);
            assert_eq!((head.header("etag"), head.body()), (vec![tag.clone()], String::new()), "{path}");
            tags.push(tag);
        }
        assert!(lens[1] * 2 < lens[0], "{path}: {lens:?} bytes");
        let strange = table.get(&get, &format!("{lines}Origin: null\r\n"));
        let may = if path == "/" { &[][..] } else { &["*"] };
        assert_eq!(
            (strange.statuses(), strange.header("access-control-allow-origin")),
            (vec![200], may.iter().map(|&it| it.to_string()).collect())
        );
    }
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 6, "each form has a name of its own: {tags:?}");
}

/// Topics stand in the path or in the query, for every way of reading alike: some read one of the two, and some both.
#[test]
fn topics_are_named_in_one_place() {
    let mut table = table();
    for transport in ["", "poll", "value", "long-poll", "jsonp", "sse", "stream", "multipart", "forever-frame"] {
        let transport = if transport.is_empty() { String::new() } else { format!("&transport={transport}") };
        let got = table.get(&format!("GET /topics/a?topic=b{transport}"), "");
        assert_eq!(got.statuses(), [400], "{transport}: {}", got.text());
        assert!(got.body().contains("not twice"), "{}", got.text());
    }
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(table.get("GET /topics/a?topic=b", upgrade).statuses(), [400]);
    for path in ["/topics/.", "/topics/..", "/topics/a/../b", "/topics/%2e%2E", "/topics?topic=a/.&topic=b"] {
        let got = table.get(&format!("GET {path}"), "");
        assert!(got.statuses() == [400] && got.body().contains("segment . or .."), "{path}: {}", got.text());
    }
}

/// A forever frame calls a plain name, and only pages that may read it can show it.
#[test]
fn frames_are_shown_to_those_who_may_read() {
    let limits = Limits { origins: vec!["https://app.example".to_owned()], loopback: vec![false], ..Limits::default() };
    let mut table = Table::new(limits);
    let frame = |callback: &str| format!("GET /topics/a?transport=forever-frame&callback={callback}");
    for callback in ["got", "parent.got", "parent.$"] {
        let got = table.get(&frame(callback), "");
        assert_eq!(got.statuses(), [200], "{callback}");
        let policy = got.header("content-security-policy").concat();
        assert!(policy.ends_with("; frame-ancestors 'self' https://app.example"), "{policy}");
        assert!(got.text().contains(&format!("{callback}(m)")));
    }
    for callback in ["parent.document.write", "top.location.assign", "document.write", "parent.", "a.b"] {
        let got = table.get(&frame(callback), "");
        assert!(got.statuses() == [400] && got.body().contains("callback"), "{callback}: {}", got.text());
    }
    assert_eq!(table.get("GET /topics/a?transport=jsonp&callback=a.b", "").statuses(), [200]);
    assert!(table.get("GET /topics/a?transport=sse", "").header("content-security-policy").is_empty());
}
