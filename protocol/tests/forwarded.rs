//! Who asked a proxy: lists that proxies write, and those that somebody wrote who wants to be taken for another.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use corecast_protocol::http::forwarded::{Asker, Header, asker};
use corecast_protocol::http::head;
use corecast_protocol::network::Network;

/// Reads header lines; trusted are `10.0.0.0/8` and `fd00::/8`.
fn read(header: Header, lines: &[&str]) -> Asker {
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| Network::parse(text).unwrap());
    let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", lines.join("\r\n"));
    let (request, _) = head::parse(text.as_bytes(), 16_384).unwrap().unwrap();
    asker(&request.headers, header, |address| trusted.iter().any(|network| network.contains(address)))
}

fn address(header: Header, lines: &[&str]) -> String {
    read(header, lines).address.map_or_else(|| "none".to_owned(), |address| address.to_string())
}

/// The last address that no trusted proxy has is the client; all before it may be a lie.
#[test]
fn x_forwarded_for() {
    for (lines, expected) in [
        (&["X-Forwarded-For: 192.0.2.1"] as &[&str], "192.0.2.1:0"),
        (&["X-Forwarded-For: 203.0.113.9, 192.0.2.1"], "192.0.2.1:0"),
        (&["X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.1"], "192.0.2.1:0"),
        (&["X-Forwarded-For: 203.0.113.9,192.0.2.1 ,10.0.0.1,\t10.2.3.4"], "192.0.2.1:0"),
        (&["X-Forwarded-For: 10.0.0.7, 10.0.0.1"], "10.0.0.7:0"),
        (
            &["X-Forwarded-For: 203.0.113.9", "X: y", "X-Forwarded-For: 192.0.2.1", "x-forwarded-for: 10.0.0.1"],
            "192.0.2.1:0",
        ),
        (&["X-Forwarded-For: 10.0.0.7", "X-Forwarded-For: 10.0.0.1"], "10.0.0.7:0"),
        (&["X-Forwarded-For: rubbish, 192.0.2.1"], "192.0.2.1:0"),
        (&["X-Forwarded-For: \"open, 192.0.2.1"], "192.0.2.1:0"),
        (&["X-Forwarded-For: rubbish", "X-Forwarded-For: 192.0.2.1"], "192.0.2.1:0"),
        (&["X-Forwarded-For: 192.0.2.1:4711"], "192.0.2.1:4711"),
        (&["X-Forwarded-For: 2001:db8::1"], "[2001:db8::1]:0"),
        (&["X-Forwarded-For: [2001:db8::1]:4711, fd00::1"], "[2001:db8::1]:4711"),
        (&["X-Forwarded-For: ::ffff:192.0.2.1"], "192.0.2.1:0"),
        (&["X-Forwarded-For: ::ffff:10.0.0.1"], "10.0.0.1:0"),
        // What makes no sense where it counts is none, and the connection's own address stays.
        (&[], "none"),
        (&["X-Forwarded-For:"], "none"),
        (&["X-Forwarded-For: unknown"], "none"),
        (&["X-Forwarded-For: 192.0.2.1, unknown"], "none"),
        (&["X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1"], "none"),
        (&["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: rubbish"], "none"),
        (&["X-Forwarded-For: 192.0.2.1,"], "none"),
        (&["X-Forwarded-For: 192.0.2.1:x"], "none"),
        (&["X-Forwarded-For: 192.0.2.1:65536"], "none"),
        (&["X-Forwarded-For: 192.0.2.01"], "none"),
        (&["X-Forwarded-For: 192.0.2.1 10.0.0.1"], "none"),
        (&["Forwarded: for=192.0.2.1"], "none"),
    ] {
        assert_eq!(address(Header::XForwardedFor, lines), expected, "{lines:?}");
    }
}

/// `Forwarded` likewise, with the grammar of RFC 7239; a quote that somebody left open hides nothing that a proxy wrote behind it.
#[test]
fn forwarded() {
    for (lines, expected) in [
        (&["Forwarded: for=192.0.2.43"] as &[&str], "192.0.2.43:0"),
        (&["Forwarded: For=\"[2001:db8:cafe::17]:4711\""], "[2001:db8:cafe::17]:4711"),
        (&["Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60:0"),
        (&["Forwarded: for=203.0.113.9, for=192.0.2.43;host=\"a,b\", for=\"10.0.0.1:80\""], "192.0.2.43:0"),
        (&["Forwarded: for=192.0.2.43:_port"], "192.0.2.43:0"),
        (&["Forwarded: for=\"x, for=192.0.2.43"], "192.0.2.43:0"),
        (&["Forwarded: for=\"\\\", for=192.0.2.43"], "192.0.2.43:0"),
        (&["Forwarded: for=203.0.113.9", "Forwarded: for=192.0.2.43"], "192.0.2.43:0"),
        (&["Forwarded: for=unknown, for=192.0.2.43"], "192.0.2.43:0"),
        (&["Forwarded: for=10.0.0.2, for=10.0.0.1"], "10.0.0.2:0"),
        (&["Forwarded: for=unknown"], "none"),
        (&["Forwarded: for=_gazonk"], "none"),
        (&["Forwarded: for=192.0.2.43, for=unknown"], "none"),
        (&["Forwarded: by=192.0.2.43"], "none"),
        (&["Forwarded: for=192.0.2.43;for=192.0.2.44"], "none"),
        (&["Forwarded: for=2001:db8::1"], "none"),
        (&["Forwarded: for"], "none"),
        (&["Forwarded: for=\"192.0.2.43"], "none"),
        (&["Forwarded: 192.0.2.43"], "none"),
        (&["Forwarded: for=192.0.2.43:_"], "none"),
        (&["X-Forwarded-For: 192.0.2.43"], "none"),
    ] {
        assert_eq!(address(Header::Forwarded, lines), expected, "{lines:?}");
    }
}

/// What the client spoke is told if one word says it, or the element that names the client.
#[test]
fn schemes() {
    for (header, lines, expected) in [
        (Header::XForwardedFor, &["X-Forwarded-Proto: https"] as &[&str], Some(true)),
        (Header::XForwardedFor, &["X-Forwarded-Proto: HTTP"], Some(false)),
        (Header::XForwardedFor, &["X-Forwarded-Proto: wss"], Some(true)),
        (Header::XForwardedFor, &["X-Forwarded-Proto: https, http"], None),
        (Header::XForwardedFor, &["X-Forwarded-Proto: http", "X-Forwarded-Proto: https"], None),
        (Header::XForwardedFor, &["X-Forwarded-Proto: gopher"], None),
        (Header::XForwardedFor, &[], None),
        (Header::Forwarded, &["Forwarded: for=192.0.2.1;proto=\"https\""], Some(true)),
        (Header::Forwarded, &["Forwarded: for=192.0.2.1;proto=http, for=10.0.0.1;proto=https"], Some(false)),
        (Header::Forwarded, &["Forwarded: for=192.0.2.1", "X-Forwarded-Proto: https"], None),
    ] {
        assert_eq!(read(header, lines).https, expected, "{lines:?}");
    }
}
