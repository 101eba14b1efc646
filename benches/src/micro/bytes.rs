//! Bytes to meaning and back: the works of the protocol crate.

use std::hint::black_box;

use corecast_protocol::cursor::Cursor;
use corecast_protocol::dialect::{line, payload, sse};
use corecast_protocol::http::head;
use corecast_protocol::message::Message;
use corecast_protocol::ws::decoder::{Decoder, Role};
use corecast_protocol::ws::frame;
use corecast_protocol::ws::utf8::Utf8;

use crate::frame::Header;

/// What a browser sends to open a WebSocket.
pub(super) const HEAD: &str = "GET /topics/news/sport?since=live HTTP/1.1\r\n\
    Host: messages.example.org:8080\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    Upgrade: websocket\r\n\
    Origin: https://messages.example.org\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
    \r\n";

/// The engine's own default.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Header of a masked frame of 512 bytes: two bytes, a length of two, a mask of four.
pub(super) const FRAME_HEADER_BYTES: usize = 8;

const FRAME_HEADER: [u8; FRAME_HEADER_BYTES] = [0x82, 0x80 | 126, 2, 0, 0xa5, 0x5a, 0x0f, 0xf1];

const MASK: [u8; 4] = [0xa5, 0x5a, 0x0f, 0xf1];

/// Five scripts and a smiley: characters of one to four bytes.
const MIXED: &str = "Messages: Grüße aus Köln, привет, 你好世界, नमस्ते, 😀. ";

/// Makes 512 bytes of text, without a line end.
fn text() -> [u8; 512] {
    let mut text = [0; 512];
    for (place, byte) in text.iter_mut().enumerate() {
        *byte = b' ' + (place * 7 % 90) as u8;
    }
    text
}

/// Makes 512 bytes of text in several scripts, cut where a character ends and filled up with spaces.
fn mixed() -> String {
    let mut text = MIXED.repeat(512 / MIXED.len() + 1);
    text.truncate(text.floor_char_boundary(512));
    while text.len() < 512 {
        text.push(' ');
    }
    text
}

pub(super) fn parse_head(iterations: u64) {
    let mut last = Ok(None);
    for _ in 0..iterations {
        last = head::parse(black_box(HEAD.as_bytes()), HEAD_BYTES_MAX);
        assert!(black_box(&last).is_ok(), "the head is good");
    }
    let (request, len) = last.expect("the head is good").expect("the head is whole");
    assert_eq!((request.method, request.path, len), (head::Method::Get, "/topics/news/sport", HEAD.len()));
    assert_eq!(request.headers.sec_websocket_key, Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert!(request.headers.upgrade_websocket && request.headers.connection_upgrade);
}

pub(super) fn parse_head_plain(iterations: u64) {
    let mut len = 0;
    for _ in 0..iterations {
        let mut headers = [httparse::EMPTY_HEADER; head::HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(black_box(HEAD.as_bytes())) {
            Ok(httparse::Status::Complete(complete)) => len = complete,
            _ => panic!("the head is good"),
        }
        black_box(&request);
    }
    assert_eq!(len, HEAD.len());
}

pub(super) fn parse_frame(iterations: u64) {
    let mut bytes = FRAME_HEADER;
    let fresh = Decoder::new(Role::Server);
    let mut decoder = fresh;
    for _ in 0..iterations {
        decoder = black_box(fresh);
        let step = decoder.next(black_box(&mut bytes), 64 << 10).expect("the frame is good");
        assert!(step.consumed == FRAME_HEADER_BYTES && step.event.is_none());
        black_box(&decoder);
    }
    // It went on inside of a message, with the mask it read.
    assert!(decoder.mid_message());
    let mut rest = [0; 512];
    frame::unmask(&mut rest, MASK, 0);
    let step = decoder.next(&mut rest, 64 << 10).expect("the frame is good");
    assert_eq!((step.consumed, rest, decoder.mid_message()), (512, [0; 512], false));
}

pub(super) fn parse_frame_plain(iterations: u64) {
    let mut header = None;
    for _ in 0..iterations {
        header = black_box(Header::read(black_box(&FRAME_HEADER)));
    }
    let header = header.expect("the header is whole");
    assert_eq!((header.opcode, header.header_len, header.payload_len, header.mask), (2, 8, 512, MASK));
}

/// Checks an unmasking, and then does it so many times in place.
fn unmask_with<const BYTES: usize>(iterations: u64, unmask: impl Fn(&mut [u8])) {
    let plain: Vec<u8> = (0..BYTES).map(|place| (place * 31) as u8).collect();
    let masked: Vec<u8> = plain.iter().enumerate().map(|(place, byte)| byte ^ MASK[place % 4]).collect();
    let mut data = plain.clone();
    for _ in 0..iterations {
        unmask(black_box(&mut data));
    }
    // Twice is not at all.
    assert!(data == if iterations.is_multiple_of(2) { plain } else { masked }, "a mask was not laid over all bytes");
}

pub(super) fn unmask<const BYTES: usize>(iterations: u64) {
    unmask_with::<BYTES>(iterations, |data| frame::unmask(data, black_box(MASK), 0));
}

pub(super) fn unmask_plain<const BYTES: usize>(iterations: u64) {
    unmask_with::<BYTES>(iterations, |data| {
        let mask = black_box(MASK);
        for (place, byte) in data.iter_mut().enumerate() {
            *byte ^= mask[place % 4];
        }
    });
}

/// Says that a text is UTF-8 so many times, and that it is not when its last byte is the first of a character.
fn utf8_with(text: &[u8], iterations: u64, valid: impl Fn(&[u8]) -> bool) {
    for _ in 0..iterations {
        assert!(black_box(valid(black_box(text))), "it is UTF-8");
    }
    let cut = [&text[..text.len() - 1], &[0xe2]].concat();
    assert!(!valid(&cut), "a character is cut");
}

fn checked(text: &[u8]) -> bool {
    let mut utf8 = Utf8::new();
    utf8.push(text).is_ok() && utf8.complete()
}

fn checked_by_std(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok()
}

pub(super) fn utf8_ascii(iterations: u64) {
    utf8_with(&text(), iterations, checked);
}

pub(super) fn utf8_ascii_plain(iterations: u64) {
    utf8_with(&text(), iterations, checked_by_std);
}

pub(super) fn utf8_mixed(iterations: u64) {
    utf8_with(mixed().as_bytes(), iterations, checked);
}

pub(super) fn utf8_mixed_plain(iterations: u64) {
    utf8_with(mixed().as_bytes(), iterations, checked_by_std);
}

/// Encodes a message of 512 bytes so many times as the engine does: measure, then write. What is written must be
/// `before`, the payload, and `after`.
fn encode_with(
    iterations: u64,
    (before, after): (&[u8], &[u8]),
    encoded_len: impl Fn(&Message<'_>) -> usize,
    encode: impl Fn(&Message<'_>, &mut [u8]) -> usize,
) {
    let payload = text();
    let cursor = Cursor { epoch: 0x5eed_c0de, seq: 123_456 };
    let message =
        Message { topic: "news/sport", cursor, event: None, payload: &payload, text: true, ..Default::default() };
    let mut out = [0; 1024];
    let mut len = 0;
    for _ in 0..iterations {
        let message = black_box(&message);
        len = encoded_len(message);
        assert_eq!(encode(message, black_box(&mut out[..len])), len);
        black_box(&out);
    }
    assert!(out[..len] == [before, &payload, after].concat(), "{}", String::from_utf8_lossy(&out[..len]));
}

pub(super) fn encode_payload(iterations: u64) {
    encode_with(iterations, (&[0x81, 126, 2, 0], b""), payload::encoded_len, payload::encode);
}

pub(super) fn encode_line(iterations: u64) {
    let before = b"\x81\x7e\x02\x1fMSG news/sport 5eedc0de-123456\n";
    encode_with(iterations, (before, b""), line::encoded_len, line::encode);
}

pub(super) fn encode_sse(iterations: u64) {
    encode_with(iterations, (b"id: 5eedc0de-123456\ndata: ", b"\n\n"), sse::encoded_len, sse::encode);
}

pub(super) fn copy(iterations: u64) {
    let len = |message: &Message<'_>| message.payload.len();
    encode_with(iterations, (b"", b""), len, |message, out| {
        out.copy_from_slice(message.payload);
        out.len()
    });
}
