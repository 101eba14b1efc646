//! Request heads, rule by rule (RFC 9112), every row cut at every byte.

use corecast_protocol::Violation;
use corecast_protocol::http::field::Field;
use corecast_protocol::http::head::{BodyLength, HEADERS_MAX, Method, Request, is_for_head, parse};

const LIMIT: usize = 4096;

/// Parses `input` and every prefix of it: a prefix asks for more, or gives what the whole gives.
fn cut_everywhere(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Violation> {
    let whole = parse(input, LIMIT);
    for cut in 0..input.len() {
        let found = parse(&input[..cut], LIMIT);
        assert!(found == Ok(None) || found == whole, "{} cut at {cut}: {found:?}", input.escape_ascii());
        if let Ok(Some((_, len))) = whole {
            assert_eq!(found == Ok(None), cut < len, "{} cut at {cut}", input.escape_ascii());
        }
    }
    whole
}

fn lines(field: Field<'_>) -> Vec<String> {
    field.values().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

fn accepted(input: &str) -> Request<'_> {
    let (request, len) = cut_everywhere(input.as_bytes())
        .unwrap_or_else(|violation| panic!("{input:?}: {violation:?}"))
        .unwrap_or_else(|| panic!("{input:?}: asks for more"));
    assert_eq!(len, input.len());
    request
}

/// Forms of the request line and the target (RFC 9112 section 3).
#[test]
fn targets_are_split() {
    for (target, method, path, query, host) in [
        ("GET /", Method::Get, "/", "", "h"),
        ("HEAD /a/b", Method::Head, "/a/b", "", "h"),
        ("POST /a?x=1&y", Method::Post, "/a", "x=1&y", "h"),
        ("DELETE /a?b?c", Method::Delete, "/a", "b?c", "h"),
        ("PUT /%20%2F", Method::Put, "/%20%2F", "", "h"),
        ("OPTIONS *", Method::Options, "*", "", "h"),
        ("PATCH /", Method::Patch, "/", "", "h"),
        ("TRACE /", Method::Trace, "/", "", "h"),
        ("BREW /", Method::Other, "/", "", "h"),
        ("get /", Method::Other, "/", "", "h"),
        ("GET http://e.example:80/a?b", Method::Get, "/a", "b", "e.example:80"),
        ("GET HTTPS://e", Method::Get, "/", "", "e"),
        ("GET ws://[::1]:80?x", Method::Get, "/", "x", "[::1]:80"),
        ("GET //a", Method::Get, "//a", "", "h"),
    ] {
        let input = format!("{target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let request = accepted(&input);
        assert_eq!((request.method, request.path, request.query), (method, path, query), "{target}");
        assert_eq!(request.headers.host, Some(host), "{target}");
    }
}

/// How long the body is, and whether the connection stays (RFC 9112 sections 6.3 and 9.3).
#[test]
fn lengths_and_persistence_are_read() {
    use BodyLength::{Chunked, None, Sized};
    for (version, headers, body, keep_alive, expect_continue) in [
        ("1.1", "", None, true, false),
        ("1.1", "Content-Length: 0\r\n", Sized(0), true, false),
        ("1.1", "content-length:\t42 \r\n", Sized(42), true, false),
        ("1.1", "Content-Length: 18446744073709551615\r\n", Sized(u64::MAX), true, false),
        ("1.1", "Transfer-Encoding: CHUNKED\r\n", Chunked, true, false),
        ("1.1", "Connection: close\r\n", None, false, false),
        ("1.1", "Connection: x, Close\r\n", None, false, false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", None, false, false),
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", Sized(1), true, true),
        ("1.0", "", None, false, false),
        ("1.0", "Connection: Keep-Alive\r\n", None, true, false),
        ("1.0", "Connection: keep-alive, close\r\n", None, false, false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", Sized(1), false, false),
        ("1.0", "Expect: something\r\n", None, false, false),
    ] {
        let input = format!("POST / HTTP/{version}\r\nHost: h\r\n{headers}\r\n");
        let request = accepted(&input);
        assert_eq!(request.body, body, "{headers}");
        assert_eq!(request.keep_alive, keep_alive, "{headers}");
        assert_eq!(request.expect_continue, expect_continue, "{headers}");
        assert_eq!(request.http10, version == "1.0");
    }
}

/// Every header the engine reads lands in its own field, whatever its case.
#[test]
fn known_headers_land_in_their_fields() {
    let names = [
        "accept",
        "origin",
        "prefer",
        "cookie",
        "content-type",
        "authorization",
        "if-match",
        "if-none-match",
        "last-event-id",
        "corecast-event",
        "accept-encoding",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "access-control-request-method",
    ];
    for upper in [false, true] {
        let mut input = String::from("GET / HTTP/1.1\r\nhOsT: h:1\r\nX-Other: y\r\n");
        for name in names {
            let shown = if upper { name.to_uppercase() } else { name.to_string() };
            input += &format!("{shown}: value of {name}\r\n");
        }
        input += "\r\n";
        let known = accepted(&input).headers;
        let list = |field: Field<'_>| {
            assert!(field.is_given());
            lines(field).join("|")
        };
        let text = |value: Option<&str>| value.unwrap_or_default().to_string();
        let found = [
            list(known.accept),
            text(known.origin),
            list(known.prefer),
            text(known.cookie),
            text(known.content_type),
            text(known.authorization),
            list(known.if_match),
            list(known.if_none_match),
            text(known.last_event_id),
            text(known.corecast_event),
            list(known.accept_encoding),
            list(known.forwarded),
            list(known.x_forwarded_for),
            list(known.x_forwarded_proto),
            text(known.sec_websocket_key),
            text(known.sec_websocket_version),
            list(known.sec_websocket_protocol),
            list(known.sec_websocket_extensions),
            text(known.access_control_request_method),
        ];
        for (name, value) in names.into_iter().zip(found) {
            assert_eq!(value, format!("value of {name}"));
        }
        assert_eq!(known.host, Some("h:1"));
    }
}

/// Lists may stand on several lines; what is looked for is found on any of them.
#[test]
fn lists_over_several_lines_are_read() {
    let input = "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: ,Upgrade\r\nUpgrade: h2c\r\n\
        Upgrade: WebSocket\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: corecast.v1\r\n\
        X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n";
    let known = accepted(input).headers;
    assert!(known.connection_upgrade && known.upgrade_websocket);
    assert_eq!(lines(known.sec_websocket_protocol), ["a, b", "corecast.v1"]);
    assert_eq!(lines(known.x_forwarded_for), ["1.1.1.1", "2.2.2.2"]);
    assert_eq!(known.cookie, Some("a=1"));
    let input = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgraded\r\nUpgrade: websocket2\r\n\r\n";
    let known = accepted(input).headers;
    assert!(!known.connection_upgrade && !known.upgrade_websocket);
    // The lines of one header, whatever stands between them, and none of its namesakes.
    let input = "GET / HTTP/1.1\r\nHost: h\r\nAccept: a/b ; x=\"c, d\" ,,\r\nAccept-Encoding: br\r\nACCEPT:\te/f\t\r\nX: Accept: x\r\n\
        Accept:\r\naccept: g/h, i/j\r\n\r\n";
    let known = accepted(input).headers;
    assert_eq!(lines(known.accept), ["a/b ; x=\"c, d\" ,,", "e/f", "", "g/h, i/j"]);
    let members: Vec<_> = known.accept.members().map(|member| member.escape_ascii().to_string()).collect();
    assert_eq!(members, ["a/b ; x=\\\"c, d\\\"", "e/f", "g/h", "i/j"]);
    assert_eq!(lines(known.accept_encoding), ["br"]);
    assert!(!known.prefer.is_given() && lines(known.prefer).is_empty());
}

/// Text beyond ASCII is refused only where a value means something: who we are talking to, what a message is called, where it
/// starts. Everywhere else it is one more thing that nobody knows (RFC 9110 section 5.5). These were a 400 once, all of them.
#[test]
fn other_letters_matter_only_where_the_value_does() {
    for name in [
        "Accept",
        "Accept-Encoding",
        "Prefer",
        "If-Match",
        "If-None-Match",
        "Cookie",
        "Upgrade",
        "Connection",
        "Content-Type",
        "Authorization",
        "X-Forwarded-For",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
        "X-Other",
    ] {
        let input = [b"GET / HTTP/1.1\r\nHost: h\r\n", name.as_bytes(), b": \xe9\xff\r\n\r\n"].concat();
        assert!(matches!(cut_everywhere(&input), Ok(Some(_))), "{name}");
    }
    let input = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: \xe9, close\r\nUpgrade: \xe9\r\nUpgrade: websocket\r\n\r\n";
    let (request, _) = cut_everywhere(input).unwrap().unwrap();
    assert!(!request.keep_alive && request.headers.upgrade_websocket);
    for name in ["Host", "Origin", "Last-Event-ID", "Corecast-Event"] {
        let input = [b"GET / HTTP/1.1\r\nHost: h\r\n", name.as_bytes(), b": \xe9\r\n\r\n"].concat();
        let expected = if name == "Host" { Violation::DuplicateHost } else { Violation::HeaderNotAscii };
        assert_eq!(cut_everywhere(&input), Err(expected), "{name}");
    }
    let input = b"GET / HTTP/1.1\r\nHost: h\r\nExpect: \xe9\r\n\r\n";
    assert_eq!(cut_everywhere(input), Err(Violation::UnsupportedExpectation));
}

/// A host is a name or an address, with or without a port (RFC 3986 section 3.2.2), in Host and in an absolute target alike.
#[test]
fn hosts_follow_their_grammar() {
    for good in [
        "h",
        "a.example",
        "a.example.",
        "a.example:80",
        "a.example:",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "[::ffff:127.0.0.1]",
        "[v1.fe80:a]",
        "a_b",
        "a~b",
        "%41b",
        "xn--bcher-kva.example",
        "a!b",
        "a$&'()*+,;=b",
    ] {
        assert_eq!(accepted(&format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n")).headers.host, Some(good));
        let absolute = format!("GET http://{good}/ HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(accepted(&absolute).headers.host, Some(good));
    }
    for bad in [
        "a:b",
        "a:80:80",
        "a:-1",
        "a:+1",
        "a: 80",
        ":80",
        ":",
        "::1",
        "[",
        "]",
        "[]",
        "[::1",
        "::1]",
        "[::1]x",
        "[::1]80",
        "[x]",
        "[1.2.3.4]",
        "[::1%25lo]",
        "[v.a]",
        "[v1.]",
        "[vg.a]",
        "[[::1]]",
        "a[::1]",
        "a%",
        "a%4",
        "a%4g",
        "a\"b",
        "a<b",
        "a\\b",
        "a^b",
        "a`b",
        "a{b}",
        "a|b",
        "a@b",
        "a/b",
        "a?b",
        "a#b",
        "a b",
    ] {
        let input = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        assert_eq!(cut_everywhere(input.as_bytes()), Err(Violation::BadHost), "{bad:?}");
        if !bad.contains(['/', '?', ' ', '#']) {
            let input = format!("GET http://{bad}/ HTTP/1.1\r\nHost: h\r\n\r\n");
            let found = cut_everywhere(input.as_bytes());
            assert!(matches!(found, Err(Violation::BadTarget | Violation::BadRequestLine)), "{bad:?}: {found:?}");
        }
    }
}

/// A later HTTP/1 is read as HTTP/1.1 (RFC 9110 section 2.5), and nothing else is; it was a 505 once.
#[test]
fn a_later_minor_version_is_read_as_ours() {
    for version in ["1.2", "1.9"] {
        let input = format!("POST http://e/a?b HTTP/{version}\r\nHost: h\r\nX: y\r\nContent-Length: 3\r\n\r\n");
        let request = accepted(&input);
        assert_eq!((request.method, request.path, request.query), (Method::Post, "/a", "b"));
        assert_eq!((request.body, request.headers.host), (BodyLength::Sized(3), Some("e")));
        assert!(request.keep_alive && !request.http10);
    }
    use Violation as V;
    for (input, violation) in [
        ("GET / HTTP/1.2\r\n\r\n", V::MissingHost),
        ("GET / HTTP/1.2\r\nHost: h\r\nX y\r\n\r\n", V::BadHeaderName),
        ("GET / HTTP/1.2\r\nHost: h\r\nX: \0\r\n\r\n", V::BadHeaderValue),
        ("GET /\u{e9} HTTP/1.2\r\nHost: h\r\n\r\n", V::BadTarget),
        ("G(T / HTTP/1.2\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET  HTTP/1.2\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET / / HTTP/1.2\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET / HTTP/1.x\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET / HTTP/1\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", V::UnsupportedVersion),
        ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", V::UnsupportedVersion),
    ] {
        assert_eq!(cut_everywhere(input.as_bytes()), Err(violation), "{input:?}");
    }
    let many = format!("GET / HTTP/1.2\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
    assert_eq!(cut_everywhere(many.as_bytes()), Err(V::TooManyHeaders));
}

/// What of a head is too large is told: the target, the method, or the header section (RFC 9112 section 3). All were 431 once.
#[test]
fn what_is_too_large_is_named() {
    use Violation as V;
    let long = "x".repeat(LIMIT);
    for (input, violation) in [
        (format!("GET /{long}"), V::TargetTooLong),
        (format!("\r\nGET /{long} HTTP/1.1\r\n"), V::TargetTooLong),
        (format!("GET http://h/{long}"), V::TargetTooLong),
        (long.clone(), V::MethodTooLong),
        (format!("{long} / HTTP/1.1\r\n"), V::MethodTooLong),
        (format!("G(T{long}"), V::BadRequestLine),
        (format!("G(T /{long}"), V::BadRequestLine),
        (format!("GET / {long}"), V::BadRequestLine),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}"), V::HeadTooLarge),
        (format!("GET /{} HTTP/1.1\r\nX: {long}", &long[..LIMIT / 2]), V::HeadTooLarge),
        ("\r\n".repeat(LIMIT), V::HeadTooLarge),
    ] {
        assert_eq!(cut_everywhere(input.as_bytes()), Err(violation), "{}...", &input[..20]);
    }
    let statuses = [V::TargetTooLong, V::MethodTooLong, V::HeadTooLarge, V::BadTransferEncoding].map(V::status);
    assert_eq!(statuses, [414, 501, 431, 400]);
}

/// Whatever is wrong with it, a head that asks for a head is known for one: its answer has no body.
#[test]
fn a_refused_head_is_known() {
    for (input, found) in [
        ("HEAD / HTTP/1.1\r\n\r\n", true),
        ("\r\nHEAD  / HTTP/9\r\n", true),
        ("HEAD ", true),
        ("HEAD", false),
        ("HEADS / HTTP/1.1\r\n", false),
        ("head / HTTP/1.1\r\n", false),
        ("GET / HTTP/1.1\r\nX: HEAD \r\n", false),
        ("", false),
    ] {
        assert_eq!(is_for_head(input.as_bytes()), found, "{input:?}");
    }
}

/// What two parties could read differently, or what is not HTTP/1, is refused by name.
#[test]
fn smuggling_and_nonsense_are_refused() {
    use Violation as V;
    let rows: &[(&str, V)] = &[
        // RFC 9112 section 6.3: lengths.
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", V::BothLengths),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", V::BothLengths),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", V::DuplicateContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", V::DuplicateContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 3\r\n\r\n", V::BadContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\n", V::BadContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\n", V::BadContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\n", V::BadContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1 2\r\n\r\n", V::BadContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", V::BadContentLength),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n", V::BadContentLength),
        // RFC 9112 section 6.1: transfer encodings.
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", V::UnsupportedTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", V::BadTransferEncoding),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            V::BadTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            V::UnsupportedTransferEncoding,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n",
            V::BadTransferEncoding,
        ),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: , chunked\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked,\r\n\r\n", V::BadTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n", V::BadHeaderValue),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n\r\n", V::BothLengths),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n", V::TransferEncodingOnHttp10),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", V::TransferEncodingOnHttp10),
        // RFC 9112 section 5: header lines.
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n", V::BadHeaderName),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length\t: 3\r\n\r\n", V::BadHeaderName),
        ("GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n", V::BadHeaderName),
        ("GET / HTTP/1.1\r\nHost: h\r\n: empty\r\n\r\n", V::BadHeaderName),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", V::FoldedHeader),
        ("GET / HTTP/1.1\r\nHost: h\r\n\tX: a\r\n\r\n", V::FoldedHeader),
        ("GET / HTTP/1.1\r\n Host: h\r\n\r\n", V::FoldedHeader),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", V::BadHeaderValue),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n", V::BadHeaderValue),
        ("GET / HTTP/1.1\r\nHost: h\r\nOrigin: \u{e9}\r\n\r\n", V::HeaderNotAscii),
        ("GET / HTTP/1.1\r\nHost: h\r\nOrigin: a\r\nOrigin: a\r\n\r\n", V::DuplicateHeader),
        ("GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Key: a\r\n\r\n", V::DuplicateHeader),
        ("GET / HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", V::DuplicateHeader),
        // RFC 9112 section 2.2: line ends.
        ("GET / HTTP/1.1\nHost: h\r\n\r\n", V::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: h\n\r\n", V::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: h\r\n\n", V::BareLineFeed),
        ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", V::BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 3\r\n\r\n", V::BareCarriageReturn),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\r\n", V::BareCarriageReturn),
        ("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", V::BareCarriageReturn),
        // RFC 9112 section 3: the request line.
        ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET / x HTTP/1.1\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("GET /\r\n\r\n", V::BadRequestLine),
        ("GET\r\n\r\n", V::BadRequestLine),
        (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", V::BadRequestLine),
        ("\x16\x03\x01", V::BadRequestLine),
        ("GET / HTTP/2.0\r\n\r\n", V::UnsupportedVersion),
        ("PRI * HTTP/2.0\r\n\r\n", V::UnsupportedVersion),
        ("GET / http/1.1\r\nHost: h\r\n\r\n", V::BadRequestLine),
        // RFC 9112 section 3.2: the target and the host.
        ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("GET http:/// HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n", V::BadTarget),
        ("GET / HTTP/1.1\r\n\r\n", V::MissingHost),
        ("GET http://h/ HTTP/1.1\r\n\r\n", V::MissingHost),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", V::DuplicateHost),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", V::BadHost),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", V::BadHost),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", V::BadHost),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", V::BadHost),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", V::BadHost),
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n", V::UnsupportedExpectation),
    ];
    for (input, violation) in rows {
        assert_eq!(cut_everywhere(input.as_bytes()), Err(*violation), "{input:?}");
    }
}

/// A head may be as long as the limit, and not a byte longer; what stands behind it counts for nothing.
#[test]
fn the_limit_on_bytes_is_exact() {
    let head = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(200));
    let with_body = format!("{head}{}", "z".repeat(1000));
    for input in [&head, &with_body] {
        assert!(matches!(parse(input.as_bytes(), head.len()), Ok(Some((_, len))) if len == head.len()));
        assert_eq!(parse(input.as_bytes(), head.len() - 1), Err(Violation::HeadTooLarge));
    }
    let limit = 100;
    assert_eq!(parse(&head.as_bytes()[..limit - 1], limit), Ok(None));
    assert_eq!(parse(&head.as_bytes()[..limit], limit), Err(Violation::HeadTooLarge));
    assert_eq!(parse(&b"\r\n".repeat(60), limit), Err(Violation::HeadTooLarge));
}

/// A head may have so many header lines, and not one more.
#[test]
fn the_limit_on_headers_is_exact() {
    for (lines, fits) in [(HEADERS_MAX, true), (HEADERS_MAX + 1, false)] {
        let input = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(lines - 1));
        match cut_everywhere(input.as_bytes()) {
            Ok(Some(_)) => assert!(fits),
            other => assert!(!fits && other == Err(Violation::TooManyHeaders), "{other:?}"),
        }
    }
}

/// Requests that follow each other in one buffer are read one after the other; empty lines before one are skipped (RFC 9112
/// section 2.2).
#[test]
fn pipelined_requests_are_read_in_order() {
    let input = b"\r\nGET /1 HTTP/1.1\r\nHost: h\r\n\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3";
    let (first, len) = cut_everywhere(input).unwrap().unwrap();
    assert_eq!(first.path, "/1");
    let rest = &input[len..];
    let (second, len) = cut_everywhere(rest).unwrap().unwrap();
    assert_eq!(second.path, "/2");
    assert_eq!(cut_everywhere(&rest[len..]), Ok(None));
}

/// A stranger's cookie that is not UTF-8 is left out and breaks nothing.
#[test]
fn a_strange_cookie_is_left_out() {
    let input = b"GET / HTTP/1.1\r\nHost: h\r\nCookie: \xe9\r\nX-Other: \xff\r\n\r\n";
    let (request, _) = cut_everywhere(input).unwrap().unwrap();
    assert_eq!(request.headers.cookie, None);
}
