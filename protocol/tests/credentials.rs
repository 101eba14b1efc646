//! Where a request shows who it is, and that nobody is shown the secret.

use corecast_protocol::http::credential::{CREDENTIAL_BYTES_MAX, Credential, Kind, Places, bearer, find};
use corecast_protocol::http::head;

const EVERYWHERE: Places<'static> = Places { tokens: true, keys: true, cookie: Some("access") };

fn found(target: &str, lines: &[&str], places: Places<'_>) -> Option<(Kind, String)> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let bytes = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let (request, _) = head::parse(bytes.as_bytes(), 1 << 16).expect("a sound head").expect("a whole one");
    let mut room = [0; CREDENTIAL_BYTES_MAX];
    find(&request, places, &mut room).map(|Credential { kind, secret }| (kind, secret.to_owned()))
}

/// Each place is looked at, in its order, and only if somebody asks for what stands there.
#[test]
fn places() {
    let token = |secret: &str| Some((Kind::Token, secret.to_owned()));
    let key = |secret: &str| Some((Kind::Key, secret.to_owned()));
    let all = [
        "Authorization: Bearer one",
        "Corecast-Key: two",
        "Cookie: x=y; access=four",
        "Sec-WebSocket-Protocol: corecast.v1, bearer.five",
    ];
    let target = "/topics/a?since=live&token=three";
    assert_eq!(found(target, &all, EVERYWHERE), token("one"));
    assert_eq!(found(target, &all[1..], EVERYWHERE), key("two"));
    assert_eq!(found(target, &all[2..], EVERYWHERE), token("three"));
    assert_eq!(found("/", &all[2..], EVERYWHERE), token("four"));
    assert_eq!(found("/", &all[3..], EVERYWHERE), token("five"));
    assert_eq!(found("/", &[], EVERYWHERE), None);
    let tokens = Places { keys: false, ..EVERYWHERE };
    assert_eq!(found("/", &all[1..], tokens), token("four"));
    assert_eq!(found("/", &all[1..], Places { cookie: None, ..tokens }), token("five"));
    let keys = Places { tokens: false, ..EVERYWHERE };
    assert_eq!(found(target, &all, keys), key("two"));
    assert_eq!(found(target, &all, Places { tokens: false, keys: false, ..EVERYWHERE }), None);
}

/// The ways to write each; what is empty, or of a kind that nobody knows, is not there, and the next place is looked at.
#[test]
fn ways_to_write_them() {
    let token = |secret: &str| Some((Kind::Token, secret.to_owned()));
    let key = |secret: &str| Some((Kind::Key, secret.to_owned()));
    for (target, line, expected) in [
        ("/", "Authorization: bearer   a.b.c", token("a.b.c")),
        ("/", "Authorization: Bearer", None),
        ("/?token=q", "Authorization: Bearer ", token("q")),
        ("/?token=q", "Authorization: Negotiate a", token("q")),
        ("/", "Authorization: APIKEY k", key("k")),
        ("/", "Authorization: Basic dXNlcjprZXk=", key("key")),
        ("/", "Authorization: Basic Omtl=eTp5", key("")),
        ("/", "Authorization: Basic OmtlOnk=", key("ke:y")),
        ("/", "Authorization: Basic bm9jb2xvbg==", key("")),
        ("/", "Corecast-Key: k", key("k")),
        ("/?token=a%2eb", "Accept: */*", token("a.b")),
        ("/?token=a%2", "Accept: */*", token("")),
        ("/?token=", "Accept: */*", None),
        ("/?token", "Cookie: access=c", token("c")),
        ("/", "Cookie: access=\"c\"; access=d", token("c")),
        ("/", "Cookie: Access=c", None),
        ("/", "Cookie: access=; access=d;", token("d")),
        ("/", "Cookie: xaccess=c; =c; access", None),
        ("/", "Sec-WebSocket-Protocol: bearer.", None),
        ("/", "Sec-WebSocket-Protocol: Bearer.a", None),
    ] {
        assert_eq!(found(target, &[line], EVERYWHERE), expected, "{target} {line}");
    }
}

/// What is too long for a credential is one that nobody believes, and not none.
#[test]
fn long_ones() {
    let secret = "a".repeat(CREDENTIAL_BYTES_MAX);
    let (long, longer) = (format!("Authorization: Bearer {secret}"), format!("Authorization: Bearer {secret}a"));
    assert_eq!(found("/", &[&long], EVERYWHERE), Some((Kind::Token, secret.clone())));
    assert_eq!(found("/", &[&longer], EVERYWHERE), Some((Kind::Token, String::new())));
    assert_eq!(found(&format!("/?token={secret}"), &[], EVERYWHERE), Some((Kind::Token, secret.clone())));
    assert_eq!(found(&format!("/?token={secret}a"), &[], EVERYWHERE), Some((Kind::Token, String::new())));
}

/// A subprotocol with a token is found whole, on whatever line; and a credential does not show its secret to whoever logs it.
#[test]
fn told_and_not_told() {
    let lines = "Sec-WebSocket-Protocol: corecast.v1\r\nSec-WebSocket-Protocol: x, bearer.a.b, bearer.c\r\n";
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    let (request, _) = head::parse(bytes.as_bytes(), 1 << 16).expect("a sound head").expect("a whole one");
    assert_eq!(bearer(&request.headers), Some("bearer.a.b"));
    let shown = format!("{:?}", Credential { kind: Kind::Key, secret: "hunter2" });
    assert!(!shown.contains("hunter2") && shown.contains("Key"), "{shown}");
}
