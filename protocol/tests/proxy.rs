//! What a proxy says of its client: headers as HAProxy sends them, each rule of them broken, each cut.

// A test that cannot go on has failed; clippy knows that only of functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use corecast_protocol::proxy::{BLOCK_BYTES_MAX, BLOCK_HEAD_BYTES, Header, LINE_BYTES_MAX, ProxyError, parse};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Makes a block of the second version; the length is that of the body.
fn block(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([version_and_command, family]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend(value);
    bytes
}

/// `127.0.0.1:47112` to `127.0.0.1:8080`.
const ADDRESSES4: &[u8] = b"\x7f\0\0\x01\x7f\0\0\x01\xb8\x08\x1f\x90";

/// `[2001:db8::1]:4711` to `[::1]:443`.
const ADDRESSES6: &[u8] =
    b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x67\x01\xbb";

fn told(source: &str, destination: &str) -> Header<'static> {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    Header { source: Some(address(source)), destination: Some(address(destination)), authority: None }
}

/// Reads a header with a request behind it, at every cut: before its last byte it asks for more, and never after.
fn read(bytes: &[u8]) -> Header<'_> {
    let (header, length) = parse(bytes).unwrap().expect("it is whole");
    for cut in 0..bytes.len() {
        let expected = (cut >= length).then_some((header, length));
        assert_eq!(parse(&bytes[..cut]), Ok(expected), "cut at {cut} of {}", bytes.escape_ascii());
    }
    assert_eq!(&bytes[length..], b"GET / HTTP/1.1\r\n");
    header
}

fn with_request(header: &[u8]) -> Vec<u8> {
    [header, b"GET / HTTP/1.1\r\n"].concat()
}

/// The first version: addresses of both families, and a client that the proxy knows nothing of.
#[test]
fn lines() {
    let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n");
    assert_eq!(longest.len(), LINE_BYTES_MAX);
    for (line, expected) in [
        ("PROXY TCP4 127.0.0.1 127.0.0.1 47112 8080\r\n", told("127.0.0.1:47112", "127.0.0.1:8080")),
        ("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", told("255.255.255.255:65535", "0.0.0.0:0")),
        ("PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", told("[2001:db8::1]:4711", "[::1]:443")),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 443\r\n", told("192.0.2.1:4711", "[::1]:443")),
        ("PROXY UNKNOWN\r\n", Header::default()),
        ("PROXY UNKNOWN whatever it says\r\n", Header::default()),
        (&longest, Header::default()),
    ] {
        assert_eq!(read(&with_request(line.as_bytes())), expected, "{line}");
    }
}

/// The second version as HAProxy sends it: for clients, for its own checks, and with fields behind the addresses.
#[test]
fn blocks() {
    let unix = [b"/run/client.sock".as_slice(), &[0; 92], b"/run/haproxy.sock", &[0; 91]].concat();
    let fields = [field(0x01, b"h2"), field(0x02, b"app.example"), field(0x04, &[0; 7]), field(0x03, b"abcd")].concat();
    let named = [ADDRESSES4, &fields].concat();
    let garbled = [ADDRESSES4, &field(0x02, b"a\r\nb")].concat();
    let latin1 = [ADDRESSES4, &field(0x02, b"b\xfccher")].concat();
    let longest = [ADDRESSES4, &field(0xea, &vec![7; BLOCK_BYTES_MAX - ADDRESSES4.len() - 3])].concat();
    let four = told("127.0.0.1:47112", "127.0.0.1:8080");
    for (bytes, expected) in [
        (block(0x21, 0x11, ADDRESSES4), four),
        (block(0x21, 0x21, ADDRESSES6), told("[2001:db8::1]:4711", "[::1]:443")),
        (block(0x21, 0x31, &unix), Header::default()),
        (block(0x21, 0x00, b""), Header::default()),
        (block(0x21, 0x00, &field(0x02, b"a")), Header { authority: Some("a"), ..Header::default() }),
        (block(0x20, 0x00, b""), Header::default()),
        (block(0x20, 0x11, ADDRESSES4), Header::default()),
        (block(0x20, 0xff, b"whatever"), Header::default()),
        (block(0x21, 0x11, &named), Header { authority: Some("app.example"), ..four }),
        (block(0x21, 0x11, &garbled), four),
        (block(0x21, 0x11, &latin1), four),
        (block(0x21, 0x11, &longest), four),
    ] {
        assert_eq!(read(&with_request(&bytes)), expected, "{}", bytes.escape_ascii());
    }
}

/// What HAProxy 2.6 sent: over IPv4, IPv6 and from a client on a Unix socket, in both versions, and with fields of its own.
#[test]
fn captured_headers() {
    let sent: [(&[u8], Header<'_>); 6] = [
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 50540 45847\r\n", told("127.0.0.1:50540", "127.0.0.1:45847")),
        (
            b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\xd5\xe4\x94'",
            told("127.0.0.1:54756", "127.0.0.1:37927"),
        ),
        (
            b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00:\x7f\x00\x00\x01\x7f\x00\x00\x01\x8f\x90\x955\x03\x00\x04\x10\x0e\xecj\
              \x05\x00$7ae2eb98-c614-48f8-ad6d-2c7a3b1ee2fe",
            told("127.0.0.1:36752", "127.0.0.1:38197"),
        ),
        (
            b"\r\n\r\n\x00\r\nQUIT\n!!\x00$\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\
              \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x88\xd0\xab\x8d",
            told("[::1]:35024", "[::1]:43917"),
        ),
        (b"\r\n\r\n\x00\r\nQUIT\n \x00\x00\x00", Header::default()),
        (b"PROXY UNKNOWN\r\n", Header::default()),
    ];
    for (bytes, expected) in sent {
        assert_eq!(read(&with_request(bytes)), expected, "{}", bytes.escape_ascii());
    }
}

/// Each broken rule has its name, and is seen as early as it can be: what follows does not matter.
#[test]
fn broken_rules() {
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(LINE_BYTES_MAX));
    let too_late = format!("PROXY UNKNOWN {}\r", "x".repeat(LINE_BYTES_MAX - 15));
    assert_eq!(too_late.len(), LINE_BYTES_MAX);
    let lines: [(&str, ProxyError); 27] = [
        ("G", ProxyError::Missing),
        ("GET / HTTP/1.1\r\n", ProxyError::Missing),
        ("PROXY\r\n", ProxyError::Missing),
        ("proxy TCP4", ProxyError::Missing),
        ("\r\n\r\n\r", ProxyError::Missing),
        ("\x16\x03\x01", ProxyError::Missing),
        (&endless, ProxyError::LineTooLong),
        (&too_late, ProxyError::LineTooLong),
        ("PROXY \r\n", ProxyError::BadLine),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rG", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3.4 1.2.3.04 1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP6 ::1%lo ::1 1 2\r\n", ProxyError::BadLine),
        ("PROXY TCP6 [::1] ::1 1 2\r\n", ProxyError::BadLine),
        ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::BadLine),
        ("PROXY UNKNOWNS\r\n", ProxyError::BadLine),
    ];
    for (line, error) in lines {
        assert_eq!(parse(line.as_bytes()), Err(error), "{line:?}");
        assert_eq!(parse(&with_request(line.as_bytes())), Err(error), "{line:?} and more");
    }
    let mut too_long = block(0x21, 0x11, ADDRESSES4);
    too_long[14..16].copy_from_slice(&(BLOCK_BYTES_MAX as u16 + 1).to_be_bytes());
    let beyond = [ADDRESSES4, b"\x02\0\x09a"].concat();
    let cut = [ADDRESSES4, b"\x02\0"].concat();
    for (bytes, error) in [
        (block(0x11, 0x11, ADDRESSES4), ProxyError::BadVersion),
        (block(0x31, 0x11, ADDRESSES4), ProxyError::BadVersion),
        (block(0x22, 0x11, ADDRESSES4), ProxyError::BadCommand),
        (block(0x21, 0x01, ADDRESSES4), ProxyError::BadFamily),
        (block(0x21, 0x10, ADDRESSES4), ProxyError::BadFamily),
        (block(0x21, 0x12, ADDRESSES4), ProxyError::BadFamily),
        (block(0x21, 0x41, ADDRESSES4), ProxyError::BadFamily),
        (too_long, ProxyError::BlockTooLong),
        (block(0x21, 0x11, &ADDRESSES4[1..]), ProxyError::BlockTooShort),
        (block(0x21, 0x21, ADDRESSES4), ProxyError::BlockTooShort),
        (block(0x21, 0x31, ADDRESSES6), ProxyError::BlockTooShort),
        (block(0x21, 0x11, &beyond), ProxyError::BadField),
        (block(0x21, 0x11, &cut), ProxyError::BadField),
    ] {
        assert_eq!(parse(&bytes), Err(error), "{}", bytes.escape_ascii());
        let early = (0..bytes.len()).map(|cut| parse(&bytes[..cut]));
        assert!(early.clone().all(|found| found == Ok(None) || found == Err(error)), "{}", bytes.escape_ascii());
        // Where the head says it, nobody waits for what the head announces.
        let in_head = !matches!(error, ProxyError::BadField);
        assert_eq!(parse(&bytes[..BLOCK_HEAD_BYTES]).is_err(), in_head, "{}", bytes.escape_ascii());
    }
}
