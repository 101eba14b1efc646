//! `corecast sub` from the outside, over HTTP: what it asks, what it prints, and what it says of a server that lies.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The transports that ask once and are answered for long.
const STREAMS: [&str; 4] = ["sse", "stream", "multipart", "forever-frame"];
/// Those that ask again and again.
const POLLS: [&str; 3] = ["long-poll", "poll", "jsonp"];

fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corecast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CORECAST_")) {
        command.env_remove(name);
    }
    let output = command.arg("sub").args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// A made-up server: answers the requests that are no look-up one after the other, and says what was asked.
fn server(answers: Vec<Vec<u8>>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (saw, seen) = channel();
    std::thread::spawn(move || {
        let mut answers = answers.into_iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            while let Some(request) = head(&mut stream) {
                if request.contains("transport=poll&since=live") && !request.contains("if-none-match") {
                    stream
                        .write_all(&sized("Content-Type: application/json\r\nCorecast-Cursor: 0000000a-0", "[]"))
                        .unwrap();
                    continue;
                }
                saw.send(request).unwrap();
                let Some(answer) = answers.next() else { return };
                // A client that saw through a lie closes early.
                let _ = stream.write_all(&answer);
                if !answer.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length") {
                    break;
                }
            }
        }
    });
    (url, seen)
}

fn head(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        request.push(byte[0]);
    }
    Some(String::from_utf8(request).unwrap())
}

fn sized(headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n\r\n{body}", body.len()).into_bytes()
}

/// An answer that ends with its connection.
fn open(content_type: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n{body}").into_bytes()
}

fn chunked(content_type: &str, chunks: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
        .into_bytes()
}

fn content_type(transport: &str) -> &'static str {
    match transport {
        "sse" => "text/event-stream",
        "stream" => "application/x-ndjson",
        "multipart" => "multipart/x-mixed-replace; boundary=b",
        "forever-frame" => "text/html; charset=utf-8",
        "jsonp" => "application/javascript",
        _ => "application/json",
    }
}

/// One message in the format of the transport.
fn message(transport: &str, topic: &str, seq: u32, data: &str) -> String {
    let object = format!("{{\"topic\":\"{topic}\",\"cursor\":\"0000000a-{seq}\",\"data\":\"{data}\"}}");
    match transport {
        "sse" => format!("id: 0000000a-{seq}\ndata: {data}\n\n"),
        "stream" => object + "\n",
        "multipart" => format!(
            "--b\r\nContent-Length: {}\r\nCorecast-Cursor: 0000000a-{seq}\r\nCorecast-Topic: {topic}\r\n\r\n{data}\r\n",
            data.len()
        ),
        "forever-frame" => format!("<script>c({object})</script>\n"),
        "jsonp" => format!("/**/corecast([{object}]);"),
        _ => format!("[{object}]"),
    }
}

/// One answer with one message.
fn answer(transport: &str, topic: &str, seq: u32, data: &str) -> Vec<u8> {
    let body = message(transport, topic, seq, data);
    if STREAMS.contains(&transport) {
        return open(content_type(transport), &body);
    }
    sized(&format!("Content-Type: {}\r\nCorecast-Cursor: 0000000a-{seq}", content_type(transport)), &body)
}

/// Every stream comes back with its cursor, does not print again what comes again, and takes numbers that are left out for nothing
/// but that.
#[test]
fn streams_come_back() {
    for transport in STREAMS {
        let one = message(transport, "t", 1, "one");
        let two = message(transport, "t", 2, "two");
        let body = |parts: &[&str]| open(content_type(transport), &parts.concat());
        let five = message(transport, "t", 5, "five");
        let (url, seen) = server(vec![body(&[&one, &two]), body(&[&two, &five])]);
        let (status, out, errors) =
            run(&["t", "--transport", transport, "--since", "earliest", "--count", "3", "--url", &url]);
        assert_eq!(status, 0, "{transport}: {errors}");
        assert_eq!(out, "t 0000000a-1 one\nt 0000000a-2 two\nt 0000000a-5 five\n", "{transport}");
        assert!(errors.contains("the stream ended; trying again in "), "{transport}: {errors}");
        assert!(!errors.contains("gap"), "{transport}: {errors}");
        let first = seen.recv().unwrap();
        assert!(first.contains(&format!("/topics/t?transport={transport}&since=earliest ")), "{first}");
        let second = seen.recv().unwrap();
        let place = if transport == "sse" { "\r\nlast-event-id: 0000000a-2\r\n" } else { "&since=0000000a-2 " };
        assert!(second.contains(place), "{transport}: {second}");
    }
}

/// Why a stream ends is told on stderr, and then it goes on as after any end: from the cursor, which that did not move.
#[test]
fn refused_streams_say_why() {
    let inside = r#"{"name":"draining","text":"the engine is shutting down"}"#;
    for transport in STREAMS {
        let refused = match transport {
            "sse" => format!("event: corecast-refused\ndata: {inside}\n\n"),
            "stream" => format!("{{\"refused\":{inside}}}\n"),
            "multipart" => {
                format!("--b\r\nCorecast-Refused: 1\r\nContent-Length: {}\r\n\r\n{inside}\r\n--b--\r\n", inside.len())
            }
            _ => format!("<script>c({{\"refused\":{inside}}})</script>\n"),
        };
        let first = open(content_type(transport), &(message(transport, "t", 1, "one") + &refused));
        let (url, seen) = server(vec![first, answer(transport, "t", 2, "two")]);
        let (status, out, errors) =
            run(&["t", "--transport", transport, "--since", "earliest", "--count", "2", "--url", &url]);
        assert_eq!((status, &*out), (0, "t 0000000a-1 one\nt 0000000a-2 two\n"), "{transport}: {errors}");
        let words = "the engine says goodbye: draining: the engine is shutting down\n";
        let (_, after) = errors.split_once(words).unwrap_or_else(|| panic!("{transport}: {errors}"));
        assert!(after.contains("the stream ended; trying again in "), "{transport}: {errors}");
        let asked = seen.iter().take(2).last().unwrap();
        assert!(asked.contains("0000000a-1"), "{transport}: {asked}");
    }
}

/// What a stream's refusal or an event stream's `retry` says of when to come back is obeyed.
#[test]
fn streams_wait_as_told() {
    let words = "the engine is full; try again in 2s";
    let refused = format!("{{\"refused\":{{\"name\":\"full\",\"text\":\"{words}\"}}}}\n");
    for (transport, told, least) in [("stream", refused.as_str(), 2000), ("sse", "retry: 1500\n\n", 1500)] {
        let first = open(content_type(transport), &(told.to_owned() + &message(transport, "t", 1, "one")));
        let (url, _seen) = server(vec![first, answer(transport, "t", 2, "two")]);
        let begin = Instant::now();
        let (status, out, errors) =
            run(&["t", "--transport", transport, "--since", "earliest", "--count", "2", "--url", &url]);
        assert_eq!((status, &*out), (0, "t 0000000a-1 one\nt 0000000a-2 two\n"), "{transport}: {errors}");
        assert!(begin.elapsed() >= Duration::from_millis(least), "{transport}: {errors}");
    }
}

/// Who may not is told so in the midst of a stream, too: it ends with status 1 and the reason, and does not come back.
#[test]
fn denials_are_final() {
    for name in ["forbidden", "unauthorized", "invalid-token", "expired"] {
        for transport in ["stream", "sse"] {
            let inside = format!("{{\"name\":\"{name}\",\"text\":\"you may \\u001b not\"}}");
            let refused = match transport {
                "sse" => format!("event: corecast-refused\ndata: {inside}\n\n"),
                _ => format!("{{\"refused\":{inside}}}\n"),
            };
            let (url, _seen) = server(vec![open(content_type(transport), &refused)]);
            let (status, _, errors) = run(&["t", "--transport", transport, "--url", &url]);
            let last = format!("error: {url}: {name}: you may \\u{{1b}} not\n");
            assert!(status == 1 && errors.ends_with(&last), "{transport}: {errors}");
            assert!(!errors.contains("trying again"), "{transport}: {errors}");
        }
    }
}

/// With `--json`, gaps and the engine's goodbyes stand among the messages as a stream has them.
#[test]
fn json_has_gaps_and_goodbyes() {
    let gap = r#"{"gap":{"topic":"t","from":"0000000a-1","to":"0000000a-4","count":3,"reason":"expired"}}"#;
    let refused = r#"{"refused":{"name":"draining","text":"the engine is shutting down"}}"#;
    let first = format!("{gap}\n{}{refused}\n", message("stream", "t", 5, "five"));
    let (url, _seen) = server(vec![open("application/x-ndjson", &first), answer("stream", "t", 6, "six")]);
    let how = ["--transport", "stream", "--since", "0000000a-1", "--count", "2", "--json"];
    let (status, out, errors) = run(&[&["t", "--url", &url], &how[..]].concat());
    let expected = format!("{first}{}", message("stream", "t", 6, "six"));
    assert_eq!((status, out), (0, expected), "{errors}");
    assert!(errors.contains("gap: 3 messages of t are gone (expired)"), "{errors}");
}

/// Polls go on from the cursor of the answer, wherever that is, on one connection.
#[test]
fn polls_go_on_from_their_cursor() {
    for transport in POLLS {
        let skipped = message(transport, "t", 2, "two");
        let headers = format!("Content-Type: {}\r\nCorecast-Cursor: 0000000a-4", content_type(transport));
        let (url, seen) = server(vec![
            answer(transport, "t", 1, "one"),
            sized(&headers, &skipped),
            answer(transport, "t", 5, "five"),
        ]);
        let (status, out, errors) =
            run(&["t", "--transport", transport, "--since", "earliest", "--count", "3", "--raw", "--url", &url]);
        assert_eq!((status, out.as_str()), (0, "one\ntwo\nfive\n"), "{transport}: {errors}");
        assert!(!errors.contains("gap"), "{transport}: {errors}");
        for since in ["earliest", "0000000a-1", "0000000a-4"] {
            let request = seen.recv().unwrap();
            assert!(request.contains(&format!("since={since}")), "{transport}: {request}");
        }
    }
}

/// What is not what was asked for ends `sub` with status 1 and the reason, on every transport; it does not come back.
#[test]
fn lies_are_named() {
    for transport in STREAMS.into_iter().chain(POLLS) {
        let good = content_type(transport);
        let cursor = "\r\nCorecast-Cursor: 0000000a-1";
        let mut lies = vec![
            (open("text/plain", "hello"), "`text/plain` instead of"),
            (chunked(&format!("{good}{cursor}"), "zz\r\n"), "the answer's chunks are broken"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), "the answer was status 404"),
            (
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 24\r\n\r\n{\"error\":\"no \\u001b[2J\"}\n".to_vec(),
                "the answer was status 400: no [2J",
            ),
            (b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), "not an engine?"),
            (answer(transport, if transport == "sse" { "t" } else { "other" }, 1, "x"), "was not asked for"),
        ];
        if transport == "sse" {
            // Its messages do not name their topic.
            lies.pop();
        }
        if POLLS.contains(&transport) {
            let nothing = if transport == "jsonp" { "/**/corecast([]);" } else { "[]" };
            lies.push((sized(&format!("Content-Type: {good}"), nothing), "no Corecast-Cursor"));
            lies.push((sized(&format!("Content-Type: {good}{cursor}"), "[{]"), "that is no answer to a"));
        } else {
            let nonsense = "nonsense\r\ndata: nonsense\n\n";
            lies.push((chunked(good, &format!("{:x}\r\n{nonsense}\r\n", nonsense.len())), "that is no"));
        }
        for (lie, expected) in lies {
            let told = String::from_utf8_lossy(&lie).into_owned();
            let (url, _seen) = server(vec![lie]);
            let (status, out, errors) = run(&["t", "--transport", transport, "--url", &url]);
            assert_eq!((status, out.as_str()), (1, ""), "{transport}, {told}: {errors}");
            assert!(errors.contains(expected), "{transport}, {told}: {errors}");
            assert!(!errors.contains("trying again"), "{transport}, {told}: {errors}");
        }
    }
}

/// A line without end is given up when it is longer than any message, and takes no memory beyond that.
#[test]
fn an_endless_line_is_given_up() {
    let endless = "data: ".to_owned() + &"x".repeat(23 << 20);
    let (url, _seen) = server(vec![open("text/event-stream", &endless)]);
    let (status, out, errors) = run(&["t", "--transport", "sse", "--url", &url]);
    assert_eq!((status, out.as_str()), (1, ""), "{errors}");
    assert!(errors.contains("that is no sse: a line is longer than"), "{errors}");
}

/// A server that is full says when to come back, and is not asked before; what a proxy says without that passes too.
#[test]
fn retry_after_is_obeyed() {
    for transport in ["stream", "long-poll", "websocket"] {
        let full = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 32\r\n\r\n{\"error\":\"the \
                     engine is full\"}  "
            .to_vec();
        let gateway = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_vec();
        let refused = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        let (url, seen) = server(vec![full, gateway, refused]);
        let begin = Instant::now();
        let (status, _, errors) = run(&["t", "--transport", transport, "--url", &url]);
        assert_eq!(status, 1, "{transport}: {errors}");
        // Not how fast it is, but that it waited.
        assert!(begin.elapsed() >= Duration::from_secs(1), "{transport}: {errors}");
        let waits: Vec<u64> = errors
            .lines()
            .filter_map(|line| line.split_once("trying again in ")?.1.split(' ').next()?.parse().ok())
            .collect();
        assert!(matches!(waits[..], [first, second] if first >= 1000 && second < 1000), "{transport}: {errors}");
        assert_eq!(seen.iter().take(3).count(), 3);
        if transport != "websocket" {
            assert!(errors.contains("the answer was status 503: the engine is full;"), "{errors}");
        }
    }
}

/// Several topics are one request with one combined cursor, in which a topic without messages has its place.
#[test]
fn several_topics_share_a_cursor() {
    let (url, seen) = server(vec![open("application/x-ndjson", &message("stream", "a/b c", 3, "x")), Vec::new()]);
    // The second answer is none: the topics are looked up once more, and two cursors do not fit one topic's answer.
    let (status, out, errors) = run(&[
        "a/b c",
        "d",
        "--transport",
        "stream",
        "--since",
        "0000000a-2,0000000a-7",
        "--count",
        "1",
        "--url",
        &url,
    ]);
    assert_eq!((status, out.as_str()), (0, "a/b c 0000000a-3 x\n"), "{errors}");
    let request = seen.recv().unwrap();
    assert!(
        request.contains("/topics?topic=a/b%20c&topic=d&transport=stream&since=0000000a-2,0000000a-7 "),
        "{request}"
    );
}

/// Wrong usage of the new options is status 2, with the cause.
#[test]
fn wrong_usage_is_status_2() {
    let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
    let mut too_many: Vec<&str> = many.iter().map(String::as_str).collect();
    too_many.extend(["--transport", "sse"]);
    for (arguments, expected) in [
        (&["a", "--transport", "pigeon"] as &[&str], "forever-frame"),
        (&["a", "a"], "the topic `a` is named twice"),
        (&["a", "b", "--since", "0000000a-1"], "1 cursors for 2 topics"),
        (&["a", "--every", "0"], "--every"),
        (&too_many, "65 topics do not fit into one request, only 64"),
    ] {
        let (status, out, errors) = run(arguments);
        assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}
