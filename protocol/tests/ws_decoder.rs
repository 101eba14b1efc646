//! WebSocket frames, rule by rule (RFC 6455 section 5), every row cut at every byte.

mod frames;

use corecast_protocol::Violation;
use corecast_protocol::ws::decoder::{Decoder, Role};
use corecast_protocol::ws::frame::Opcode::{self, Binary, Close, Continuation, Ping, Pong, Text};
use frames::{Seen, feed, frame};

const LIMIT: usize = 100_000;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn cut_everywhere(role: Role, limit: usize, input: &[u8]) -> (Vec<Seen>, Result<(), Violation>) {
    let whole = feed(role, limit, [input]);
    for cut in 0..=input.len() {
        let (before, after) = input.split_at(cut);
        assert_eq!(feed(role, limit, [before, after]), whole, "{} cut at {cut}", input.escape_ascii());
    }
    assert_eq!(feed(role, limit, input.chunks(1)), whole, "{} byte by byte", input.escape_ascii());
    whole
}

/// A client's frame.
fn masked(fin: bool, opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(fin, opcode, payload.as_ref(), Some(MASK))
}

fn message(text: bool, data: impl AsRef<[u8]>) -> Seen {
    Seen::Message { text, data: data.as_ref().to_vec() }
}

/// The examples that RFC 6455 section 5.7 prints, byte for byte.
#[test]
fn the_rfc_examples_are_read() {
    let hello = vec![message(true, "Hello")];
    let rows: &[(Role, &[u8], Vec<Seen>)] = &[
        (Role::Client, b"\x81\x05Hello", hello.clone()),
        (Role::Server, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", hello.clone()),
        (Role::Client, b"\x01\x03Hel\x80\x02lo", hello),
        (Role::Client, b"\x89\x05Hello", vec![Seen::Ping(b"Hello".to_vec())]),
        (Role::Server, b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", vec![Seen::Pong(b"Hello".to_vec())]),
    ];
    for (role, input, seen) in rows {
        assert_eq!(cut_everywhere(*role, LIMIT, input), (seen.clone(), Ok(())));
    }
    for (header, len) in [(&b"\x82\x7e\x01\x00"[..], 256), (b"\x82\x7f\0\0\0\0\0\x01\0\0", 65_536)] {
        let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let input = [header, &payload].concat();
        assert_eq!(frame(true, Binary, &payload, None), input);
        assert_eq!(feed(Role::Client, LIMIT, [&input[..]]), (vec![message(false, &payload)], Ok(())));
        assert_eq!(feed(Role::Client, LIMIT, input.chunks(777)), (vec![message(false, payload)], Ok(())));
    }
}

/// Fragments make one message; control frames stand between them; empty fragments and messages count (section 5.4).
#[test]
fn fragments_make_one_message() {
    let greek = "κόσμε".as_bytes();
    let rows: Vec<(Vec<Vec<u8>>, Vec<Seen>)> = vec![
        (
            vec![
                masked(false, Text, "Hel"),
                masked(true, Ping, "?"),
                masked(false, Continuation, ""),
                masked(true, Continuation, "lo"),
            ],
            vec![Seen::Ping(b"?".to_vec()), message(true, "Hello")],
        ),
        // A character may be cut by fragments, and a control frame may stand inside of it.
        (
            vec![
                masked(false, Text, &greek[..1]),
                masked(true, Pong, [0xff]),
                masked(false, Continuation, &greek[1..3]),
                masked(true, Continuation, &greek[3..]),
            ],
            vec![Seen::Pong(vec![0xff]), message(true, greek)],
        ),
        (
            vec![masked(true, Text, ""), masked(true, Binary, ""), masked(true, Ping, "")],
            vec![message(true, ""), message(false, ""), Seen::Ping(vec![])],
        ),
        (
            vec![
                masked(false, Binary, ""),
                masked(false, Continuation, ""),
                masked(true, Continuation, ""),
                masked(true, Text, "x"),
            ],
            vec![message(false, ""), message(true, "x")],
        ),
        (
            vec![masked(false, Text, ""), masked(false, Continuation, "ab"), masked(true, Continuation, "")],
            vec![message(true, "ab")],
        ),
        // Binary messages may hold anything, and text after one starts afresh.
        (
            vec![masked(true, Binary, [0xe2, 0x82]), masked(true, Text, "€")],
            vec![message(false, [0xe2, 0x82]), message(true, "€")],
        ),
        (
            vec![masked(false, Text, "un"), masked(false, Continuation, "finished")],
            vec![Seen::Part { text: true, data: b"unfinished".to_vec() }],
        ),
        (
            vec![masked(true, Ping, [7; 125]), masked(true, Binary, [8; 126]), masked(true, Binary, [9; 300])],
            vec![Seen::Ping(vec![7; 125]), message(false, [8; 126]), message(false, [9; 300])],
        ),
    ];
    for (frames, seen) in rows {
        assert_eq!(cut_everywhere(Role::Server, LIMIT, &frames.concat()), (seen, Ok(())));
    }
}

/// A close frame comes with its code and reason, and nothing after it is read (section 5.5.1).
#[test]
fn a_close_ends_the_stream() {
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in codes {
        let payload = [&u16::to_be_bytes(code)[..], "bye ü".as_bytes()].concat();
        let input = [masked(true, Close, payload), b"\xff\xff\xff".to_vec()].concat();
        let seen = vec![Seen::Close(Some(code), "bye ü".as_bytes().to_vec())];
        assert_eq!(cut_everywhere(Role::Server, LIMIT, &input), (seen, Ok(())));
    }
    let input = [masked(false, Text, "a"), masked(true, Close, ""), masked(true, Text, "late")].concat();
    let seen = vec![Seen::Close(None, vec![]), Seen::Part { text: true, data: b"a".to_vec() }];
    assert_eq!(cut_everywhere(Role::Server, LIMIT, &input), (seen, Ok(())));
    let longest = [&1000u16.to_be_bytes()[..], &[b'x'; 123]].concat();
    let seen = vec![Seen::Close(Some(1000), vec![b'x'; 123])];
    assert_eq!(cut_everywhere(Role::Server, LIMIT, &masked(true, Close, longest)), (seen, Ok(())));
}

/// Every rule has its violation, found at the same place however the bytes are cut.
#[test]
fn violations_are_named() {
    use Violation as V;
    let server = |bytes: &[u8]| (Role::Server, bytes.to_vec());
    let mut rows = vec![
        // Section 5.2: the first two bytes. Some rows end where the rule is broken.
        (server(b"\xc1"), V::ReservedBits),
        (server(b"\xa1"), V::ReservedBits),
        (server(b"\x91"), V::ReservedBits),
        (server(b"\xc0"), V::ReservedBits),
        (server(b"\x83"), V::ReservedOpcode),
        (server(b"\x87"), V::ReservedOpcode),
        (server(b"\x8b"), V::ReservedOpcode),
        (server(b"\x8f"), V::ReservedOpcode),
        (server(b"\x81\x05"), V::UnmaskedFrame),
        (server(b"\x89\x00"), V::UnmaskedFrame),
        ((Role::Client, b"\x81\x85".to_vec()), V::MaskedFrame),
        // Section 5.5: control frames.
        (server(b"\x09"), V::FragmentedControl),
        (server(b"\x0a"), V::FragmentedControl),
        (server(b"\x08"), V::FragmentedControl),
        (server(b"\x89\xfe"), V::ControlTooLong),
        (server(b"\x88\xff"), V::ControlTooLong),
        // Section 5.2: the length in the fewest bytes, and below 2^63.
        (server(b"\x81\xfe\x00\x7d"), V::BadLengthEncoding),
        (server(b"\x81\xfe\x00\x00"), V::BadLengthEncoding),
        (server(b"\x81\xff\0\0\0\0\0\0\xff\xff"), V::BadLengthEncoding),
        (server(b"\x81\xff\x80\0\0\0\0\0\0\0"), V::BadLengthEncoding),
        (server(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"), V::BadLengthEncoding),
        // Section 5.4: fragments.
        (server(&masked(true, Continuation, "a")), V::UnexpectedContinuation),
        (server(&[masked(true, Text, "a"), masked(true, Continuation, "b")].concat()), V::UnexpectedContinuation),
        (server(&[masked(false, Text, "a"), masked(true, Text, "b")].concat()), V::ExpectedContinuation),
        (server(&[masked(false, Text, "a"), masked(false, Binary, "b")].concat()), V::ExpectedContinuation),
        // Section 5.5.1: close frames.
        (server(&masked(true, Close, [3])), V::BadClosePayload),
        (server(&masked(true, Close, b"\x03\xe8\xff")), V::NotUtf8),
        (server(&masked(true, Close, b"\x03\xe8\xe2\x82")), V::NotUtf8),
        // Too large is known when the header is there.
        (server(b"\x82\xff\0\0\0\0\0\x01\x86\xa1\0\0\0\0"), V::MessageTooLarge),
        (server(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"), V::MessageTooLarge),
    ];
    for code in [0u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        rows.push((server(&masked(true, Close, code.to_be_bytes())), V::BadCloseCode));
    }
    // Section 8.1: text. Each ends with the first byte that makes it impossible, or at the end of the message.
    for bad in [
        &b"\x80"[..],
        b"\xbf",
        b"\xc0",
        b"\xc1",
        b"\xf5",
        b"\xff",
        b"ok\xc3(",
        b"\xe0\x9f",
        b"\xed\xa0",
        b"\xf0\x8f",
        b"\xf4\x90",
        b"\xe2\x82(",
        b"\xf0\x9f\x98(",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65",
    ] {
        rows.push((server(&masked(true, Text, bad)), V::NotUtf8));
        rows.push((server(&masked(false, Text, bad)), V::NotUtf8));
    }
    for open in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98", b"ok\xe2"] {
        rows.push((server(&masked(true, Text, open)), V::NotUtf8));
        let fragments = [masked(false, Text, open), masked(true, Continuation, "")].concat();
        rows.push((server(&fragments), V::NotUtf8));
    }
    for ((role, input), violation) in rows {
        let good = frame(true, Pong, b"", (role == Role::Server).then_some(MASK));
        assert_eq!(cut_everywhere(role, LIMIT, &input).1, Err(violation), "{}", input.escape_ascii());
        // And at the same place behind frames that are in order.
        let later = [good, input].concat();
        let (seen, found) = cut_everywhere(role, LIMIT, &later);
        assert_eq!((&seen[0], found), (&Seen::Pong(vec![]), Err(violation)));
    }
}

/// Text is refused with the byte that makes it impossible, long before the frame ends.
#[test]
fn bad_text_fails_fast() {
    let mut text = vec![b'x'; 1000];
    text[10] = 0xff;
    let input = masked(true, Text, text);
    let header = input.len() - 1000;
    assert_eq!(feed(Role::Server, LIMIT, [&input[..header + 10]]).1, Ok(()));
    assert_eq!(feed(Role::Server, LIMIT, [&input[..header + 11]]).1, Err(Violation::NotUtf8));
}

/// The limit holds for the message, over all its fragments, and is exact.
#[test]
fn the_limit_counts_the_message() {
    let exact =
        [masked(false, Binary, [1; 60]), masked(true, Ping, [2; 100]), masked(true, Continuation, [1; 40])].concat();
    let seen = vec![Seen::Ping(vec![2; 100]), message(false, [1; 100])];
    assert_eq!(cut_everywhere(Role::Server, 100, &exact), (seen, Ok(())));
    assert_eq!(cut_everywhere(Role::Server, 99, &exact).1, Err(Violation::MessageTooLarge));
    let two = [masked(true, Binary, [1; 100]), masked(true, Binary, [1; 100])].concat();
    assert_eq!(cut_everywhere(Role::Server, 100, &two).1, Ok(()), "each message counts for itself");
    assert_eq!(cut_everywhere(Role::Server, 0, &masked(true, Text, "")).1, Ok(()));
    let endless = [masked(false, Binary, [1; 100]), masked(false, Continuation, [1; 1])].concat();
    assert_eq!(cut_everywhere(Role::Server, 100, &endless).1, Err(Violation::MessageTooLarge));
}

/// The state that a connection keeps is small.
#[test]
fn the_state_is_small() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
}
