//! Request heads, rule by rule (RFC 9112), every row cut at every byte.

use corecast_protocol::Violation;
use corecast_protocol::http::head::{BodyLength, HEADERS_MAX, Method, Request, parse};

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
        ("PATCH /", Method::Other, "/", "", "h"),
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
        "upgrade",
        "content-type",
        "authorization",
        "if-none-match",
        "last-event-id",
        "corecast-event",
        "accept-encoding",
        "x-forwarded-for",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "access-control-request-method",
        "access-control-request-headers",
    ];
    for upper in [false, true] {
        let mut input = String::from("GET / HTTP/1.1\r\nhOsT: h:1\r\nX-Other: y\r\n");
        for name in names {
            let shown = if upper { name.to_uppercase() } else { name.to_string() };
            input += &format!("{shown}: value of {name}\r\n");
        }
        input += "\r\n";
        let known = accepted(&input).headers;
        let found = [
            known.accept,
            known.origin,
            known.prefer,
            known.cookie,
            known.upgrade,
            known.content_type,
            known.authorization,
            known.if_none_match,
            known.last_event_id,
            known.corecast_event,
            known.accept_encoding,
            known.x_forwarded_for,
            known.sec_websocket_key,
            known.sec_websocket_version,
            known.sec_websocket_protocol,
            known.access_control_request_method,
            known.access_control_request_headers,
        ];
        for (name, value) in names.into_iter().zip(found) {
            assert_eq!(value, Some(format!("value of {name}").as_str()));
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
    assert!(known.connection_upgrade && known.upgrade_websocket && known.offers_corecast_v1);
    assert_eq!(known.sec_websocket_protocol, Some("a, b"));
    assert_eq!(known.x_forwarded_for, Some("2.2.2.2"), "the nearest proxy speaks last");
    assert_eq!(known.cookie, Some("a=1"));
    let input = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgraded\r\nUpgrade: websocket2\r\n\
        Sec-WebSocket-Protocol: corecast.v10\r\n\r\n";
    let known = accepted(input).headers;
    assert!(!known.connection_upgrade && !known.upgrade_websocket && !known.offers_corecast_v1);
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
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", V::UnsupportedTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", V::UnsupportedTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", V::UnsupportedTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", V::UnsupportedTransferEncoding),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n", V::UnsupportedTransferEncoding),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            V::UnsupportedTransferEncoding,
        ),
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
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", V::UnsupportedVersion),
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
