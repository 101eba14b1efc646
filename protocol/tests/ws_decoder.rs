//! WebSocket frames, rule by rule (RFC 6455 section 5), every row cut at every byte.

use corecast_protocol::Violation;
use corecast_protocol::ws::decoder::{Decoder, Event, Role};
use corecast_protocol::ws::frame::{
    CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Opcode, unmask, write_header,
};
use proptest::prelude::*;

const LIMIT: usize = 100_000;

/// What went past, with the pieces of a message put together.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message {
        text: bool,
        data: Vec<u8>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
    /// What there was of a message that had not ended.
    Part {
        text: bool,
        data: Vec<u8>,
    },
}

/// Feeds `pieces` as a connection would: what is left over of one is put before the next.
fn feed<'p>(
    role: Role,
    limit: usize,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Seen>, Result<(), Violation>) {
    let mut decoder = Decoder::new(role);
    let mut seen = Vec::new();
    let mut part: Option<(bool, Vec<u8>)> = None;
    let mut buf = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        let mut used = 0;
        loop {
            let step = match decoder.next(&mut buf[used..], limit) {
                Ok(step) => step,
                Err(violation) => return (seen, Err(violation)),
            };
            let bytes = |range: std::ops::Range<usize>| {
                assert!(range.end <= step.consumed, "what is handed out is consumed");
                buf[used..][range].to_vec()
            };
            match step.event {
                None if step.consumed == 0 => break,
                None => {}
                Some(Event::Data {
                    text,
                    data,
                    first,
                    last,
                }) => {
                    assert_eq!(first, part.is_none(), "first is said once");
                    assert!(last || !data.is_empty(), "only a last piece is empty");
                    let (_, message) = part.get_or_insert((text, Vec::new()));
                    message.extend(bytes(data));
                    assert_eq!(decoder.mid_message(), !last);
                    if let Some((text, data)) = part.take_if(|_| last) {
                        seen.push(Seen::Message { text, data });
                    }
                }
                Some(Event::Ping(range)) => seen.push(Seen::Ping(bytes(range))),
                Some(Event::Pong(range)) => seen.push(Seen::Pong(bytes(range))),
                Some(Event::Close { code, reason }) => seen.push(Seen::Close(code, bytes(reason))),
            }
            used += step.consumed;
        }
        buf.drain(..used);
        assert!(buf.len() < HEADER_BYTES_MAX + CONTROL_BYTES_MAX);
    }
    if let Some((text, data)) = part {
        seen.push(Seen::Part { text, data });
    }
    (seen, Ok(()))
}

fn cut_everywhere(role: Role, limit: usize, input: &[u8]) -> (Vec<Seen>, Result<(), Violation>) {
    let whole = feed(role, limit, [input]);
    for cut in 0..=input.len() {
        let (before, after) = input.split_at(cut);
        assert_eq!(
            feed(role, limit, [before, after]),
            whole,
            "{} cut at {cut}",
            input.escape_ascii()
        );
    }
    assert_eq!(
        feed(role, limit, input.chunks(1)),
        whole,
        "{} byte by byte",
        input.escape_ascii()
    );
    whole
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn frame(fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES_MAX];
    let header = write_header(&mut out, fin, false, opcode, payload.len(), mask);
    out.truncate(header);
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        unmask(&mut out[header..], mask, 0);
    }
    out
}

/// A client's frame.
fn masked(fin: bool, opcode: Opcode, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(fin, opcode, payload.as_ref(), Some(MASK))
}

fn message(text: bool, data: impl AsRef<[u8]>) -> Seen {
    Seen::Message {
        text,
        data: data.as_ref().to_vec(),
    }
}

use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};

/// The examples that RFC 6455 section 5.7 prints, byte for byte.
#[test]
fn the_rfc_examples_are_read() {
    let hello = vec![message(true, "Hello")];
    let rows: &[(Role, &[u8], Vec<Seen>)] = &[
        (Role::Client, b"\x81\x05Hello", hello.clone()),
        (
            Role::Server,
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            hello.clone(),
        ),
        (Role::Client, b"\x01\x03Hel\x80\x02lo", hello),
        (
            Role::Client,
            b"\x89\x05Hello",
            vec![Seen::Ping(b"Hello".to_vec())],
        ),
        (
            Role::Server,
            b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            vec![Seen::Pong(b"Hello".to_vec())],
        ),
    ];
    for (role, input, seen) in rows {
        assert_eq!(cut_everywhere(*role, LIMIT, input), (seen.clone(), Ok(())));
    }
    for (header, len) in [
        (&b"\x82\x7e\x01\x00"[..], 256),
        (b"\x82\x7f\0\0\0\0\0\x01\0\0", 65_536),
    ] {
        let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let input = [header, &payload].concat();
        assert_eq!(frame(true, Binary, &payload, None), input);
        assert_eq!(
            feed(Role::Client, LIMIT, [&input[..]]),
            (vec![message(false, &payload)], Ok(()))
        );
        assert_eq!(
            feed(Role::Client, LIMIT, input.chunks(777)),
            (vec![message(false, payload)], Ok(()))
        );
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
            vec![
                masked(true, Text, ""),
                masked(true, Binary, ""),
                masked(true, Ping, ""),
            ],
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
            vec![
                masked(false, Text, ""),
                masked(false, Continuation, "ab"),
                masked(true, Continuation, ""),
            ],
            vec![message(true, "ab")],
        ),
        // Binary messages may hold anything, and text after one starts afresh.
        (
            vec![masked(true, Binary, [0xe2, 0x82]), masked(true, Text, "€")],
            vec![message(false, [0xe2, 0x82]), message(true, "€")],
        ),
        (
            vec![
                masked(false, Text, "un"),
                masked(false, Continuation, "finished"),
            ],
            vec![Seen::Part {
                text: true,
                data: b"unfinished".to_vec(),
            }],
        ),
        (
            vec![
                masked(true, Ping, [7; 125]),
                masked(true, Binary, [8; 126]),
                masked(true, Binary, [9; 300]),
            ],
            vec![
                Seen::Ping(vec![7; 125]),
                message(false, [8; 126]),
                message(false, [9; 300]),
            ],
        ),
    ];
    for (frames, seen) in rows {
        assert_eq!(
            cut_everywhere(Role::Server, LIMIT, &frames.concat()),
            (seen, Ok(()))
        );
    }
}

/// A close frame comes with its code and reason, and nothing after it is read (section 5.5.1).
#[test]
fn a_close_ends_the_stream() {
    let codes = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ];
    for code in codes {
        let payload = [&u16::to_be_bytes(code)[..], "bye ü".as_bytes()].concat();
        let input = [masked(true, Close, payload), b"\xff\xff\xff".to_vec()].concat();
        let seen = vec![Seen::Close(Some(code), "bye ü".as_bytes().to_vec())];
        assert_eq!(cut_everywhere(Role::Server, LIMIT, &input), (seen, Ok(())));
    }
    let input = [
        masked(false, Text, "a"),
        masked(true, Close, ""),
        masked(true, Text, "late"),
    ]
    .concat();
    let seen = vec![
        Seen::Close(None, vec![]),
        Seen::Part {
            text: true,
            data: b"a".to_vec(),
        },
    ];
    assert_eq!(cut_everywhere(Role::Server, LIMIT, &input), (seen, Ok(())));
    let longest = [&1000u16.to_be_bytes()[..], &[b'x'; 123]].concat();
    let seen = vec![Seen::Close(Some(1000), vec![b'x'; 123])];
    assert_eq!(
        cut_everywhere(Role::Server, LIMIT, &masked(true, Close, longest)),
        (seen, Ok(()))
    );
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
        (
            server(b"\x81\xff\0\0\0\0\0\0\xff\xff"),
            V::BadLengthEncoding,
        ),
        (server(b"\x81\xff\x80\0\0\0\0\0\0\0"), V::BadLengthEncoding),
        (
            server(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            V::BadLengthEncoding,
        ),
        // Section 5.4: fragments.
        (
            server(&masked(true, Continuation, "a")),
            V::UnexpectedContinuation,
        ),
        (
            server(&[masked(true, Text, "a"), masked(true, Continuation, "b")].concat()),
            V::UnexpectedContinuation,
        ),
        (
            server(&[masked(false, Text, "a"), masked(true, Text, "b")].concat()),
            V::ExpectedContinuation,
        ),
        (
            server(&[masked(false, Text, "a"), masked(false, Binary, "b")].concat()),
            V::ExpectedContinuation,
        ),
        // Section 5.5.1: close frames.
        (server(&masked(true, Close, [3])), V::BadClosePayload),
        (server(&masked(true, Close, b"\x03\xe8\xff")), V::NotUtf8),
        (
            server(&masked(true, Close, b"\x03\xe8\xe2\x82")),
            V::NotUtf8,
        ),
        // Too large is known when the header is there.
        (
            server(b"\x82\xff\0\0\0\0\0\x01\x86\xa1\0\0\0\0"),
            V::MessageTooLarge,
        ),
        (
            server(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
            V::MessageTooLarge,
        ),
    ];
    for code in [
        0u16, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        rows.push((
            server(&masked(true, Close, code.to_be_bytes())),
            V::BadCloseCode,
        ));
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
        assert_eq!(
            cut_everywhere(role, LIMIT, &input).1,
            Err(violation),
            "{}",
            input.escape_ascii()
        );
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
    assert_eq!(
        feed(Role::Server, LIMIT, [&input[..header + 11]]).1,
        Err(Violation::NotUtf8)
    );
}

/// The limit holds for the message, over all its fragments, and is exact.
#[test]
fn the_limit_counts_the_message() {
    let exact = [
        masked(false, Binary, [1; 60]),
        masked(true, Ping, [2; 100]),
        masked(true, Continuation, [1; 40]),
    ]
    .concat();
    let seen = vec![Seen::Ping(vec![2; 100]), message(false, [1; 100])];
    assert_eq!(cut_everywhere(Role::Server, 100, &exact), (seen, Ok(())));
    assert_eq!(
        cut_everywhere(Role::Server, 99, &exact).1,
        Err(Violation::MessageTooLarge)
    );
    let two = [
        masked(true, Binary, [1; 100]),
        masked(true, Binary, [1; 100]),
    ]
    .concat();
    assert_eq!(
        cut_everywhere(Role::Server, 100, &two).1,
        Ok(()),
        "each message counts for itself"
    );
    assert_eq!(
        cut_everywhere(Role::Server, 0, &masked(true, Text, "")).1,
        Ok(())
    );
    let endless = [
        masked(false, Binary, [1; 100]),
        masked(false, Continuation, [1; 1]),
    ]
    .concat();
    assert_eq!(
        cut_everywhere(Role::Server, 100, &endless).1,
        Err(Violation::MessageTooLarge)
    );
}

/// The state that a connection keeps is small.
#[test]
fn the_state_is_small() {
    assert!(size_of::<Decoder>() <= 32, "{}", size_of::<Decoder>());
}

/// A naive decoder: whole input, whole frames, no streaming; the model for the real one.
fn naive(mut input: &[u8], limit: u64) -> (Vec<Seen>, Result<(), Violation>) {
    use Violation as V;
    let mut seen = Vec::new();
    let mut open: Option<(bool, Vec<u8>)> = None;
    let mut frame = || -> Result<bool, Violation> {
        let Some(&[first, second]) = input.first_chunk() else {
            return Ok(false);
        };
        let opcode = first & 15;
        let wide = [0, 2, 8][(second & 127).saturating_sub(125) as usize];
        let Some(length) = input.get(2..2 + wide) else {
            return Ok(false);
        };
        let len = match wide {
            0 => u64::from(second & 127),
            _ => length
                .iter()
                .fold(0, |len, &byte| len << 8 | u64::from(byte)),
        };
        let Some(mask) = input.get(2 + wide..6 + wide) else {
            return Ok(false);
        };
        if opcode < 8 {
            let had = open.as_ref().map_or(0, |(_, data)| data.len() as u64);
            if had + len > limit {
                return Err(V::MessageTooLarge);
            }
        }
        let Some(payload) = input.get(6 + wide..6 + wide + len as usize) else {
            return Ok(false);
        };
        let payload: Vec<u8> = payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4])
            .collect();
        match opcode {
            8 => {
                let code = payload.first_chunk().map(|&code| u16::from_be_bytes(code));
                seen.push(Seen::Close(
                    code,
                    payload.get(2..).unwrap_or_default().to_vec(),
                ));
                return Ok(false);
            }
            9 => seen.push(Seen::Ping(payload)),
            10 => seen.push(Seen::Pong(payload)),
            _ => {
                let (text, data) = open.get_or_insert((opcode == 1, Vec::new()));
                data.extend(payload);
                if first & 128 != 0 {
                    if *text && String::from_utf8(data.clone()).is_err() {
                        return Err(V::NotUtf8);
                    }
                    let (text, data) = open.take().expect("a message is open");
                    seen.push(Seen::Message { text, data });
                }
            }
        }
        input = &input[6 + wide + len as usize..];
        Ok(true)
    };
    loop {
        match frame() {
            Ok(true) => {}
            Ok(false) => return (seen, Ok(())),
            Err(violation) => return (seen, Err(violation)),
        }
    }
}

#[derive(Debug, Clone)]
enum Sent {
    Message {
        text: bool,
        fragments: Vec<Vec<u8>>,
        control_between: bool,
    },
    Control(Opcode, Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    // Texts are cut into fragments at any byte; one in a few is not UTF-8.
    let text = ("\\PC{0,60}", any::<u8>(), 1usize..20, any::<bool>()).prop_map(
        |(text, spoil, size, between)| {
            let mut data = text.into_bytes();
            if spoil < 20 && !data.is_empty() {
                let at = usize::from(spoil) % data.len();
                data[at] ^= 0x80;
            }
            let fragments = data.chunks(size).map(<[u8]>::to_vec).collect();
            Sent::Message {
                text: true,
                fragments,
                control_between: between,
            }
        },
    );
    prop_oneof![
        text,
        (prop::collection::vec(bytes(200), 0..4), any::<bool>()).prop_map(
            |(fragments, control_between)| Sent::Message {
                text: false,
                fragments,
                control_between
            }
        ),
        bytes(125).prop_map(|data| Sent::Control(Ping, data)),
        bytes(125).prop_map(|data| Sent::Control(Pong, data)),
    ]
}

fn encode(sent: &[Sent], mask: [u8; 4]) -> Vec<u8> {
    let mut out = Vec::new();
    for sent in sent {
        match sent {
            Sent::Control(opcode, data) => out.extend(frame(true, *opcode, data, Some(mask))),
            Sent::Message {
                text,
                fragments,
                control_between,
            } => {
                let mut opcode = if *text { Text } else { Binary };
                for fragment in fragments {
                    out.extend(frame(false, opcode, fragment, Some(mask)));
                    if *control_between {
                        let some = &fragment[..fragment.len().min(CONTROL_BYTES_MAX)];
                        out.extend(frame(true, Ping, some, Some(mask)));
                    }
                    opcode = Continuation;
                }
                out.extend(frame(true, opcode, b"", Some(mask)));
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is sent, fragmented and cut in any way, the decoder sees what the naive one sees.
    #[test]
    fn the_decoder_agrees_with_the_naive_one(
        sent in prop::collection::vec(sent(), 0..6),
        mask in any::<[u8; 4]>(),
        sizes in prop::collection::vec(1usize..50, 1..10),
        limit in prop_oneof![Just(LIMIT), 20usize..300],
    ) {
        let input = encode(&sent, mask);
        let (expected, result) = naive(&input, limit as u64);
        let mut pieces = Vec::new();
        let mut rest = &input[..];
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let (seen, found) = feed(Role::Server, limit, pieces);
        match result {
            Ok(()) => prop_assert_eq!((seen, found), (expected, result)),
            // The naive decoder knows only at the end of a message that its text is bad; the real one stops at the byte, so
            // a control frame or a large fragment after it is not seen.
            Err(_) => {
                prop_assert!(found.is_err());
                prop_assert!(expected.starts_with(&seen), "{:?} then {:?}", expected, seen);
            }
        }
    }
}
