//! What is written for many: whatever the payload, a reader who knows only the format gets it back, and nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use super::{Copied, INPUT_BYTES_MAX, bounded};
use crate::cursor::Cursor;
use crate::dialect::{forever_frame, multipart, sse};
use crate::http::field::Field;
use crate::http::prefer::{accepts_event_stream, wait_s};
use crate::http::response::{chunk, piece};
use crate::message::{Message, is_text};
use crate::{json, write};

/// The most payload a body looks at: what grows sevenfold still fits.
const PAYLOAD_BYTES_MAX: usize = INPUT_BYTES_MAX / 2;

const AT: Cursor = Cursor { epoch: 0x1a2b_3c4d, seq: 17 };

fn message(data: &[u8]) -> Message<'_> {
    let payload = &data[..data.len().min(PAYLOAD_BYTES_MAX)];
    Message { topic: "t", cursor: AT, event: None, payload, text: is_text(payload), ..Default::default() }
}

type Len = fn(&Message<'_>) -> usize;
type Encode = fn(&Message<'_>, &mut [u8]) -> usize;

/// The message in a dialect, after it was found to be as long as counted, and the same as a chunk, made either way.
fn encoded(message: &Message<'_>, len: Len, encode: Encode) -> Copied {
    let mut copy = Copied { bytes: [0; 4 * INPUT_BYTES_MAX], len: len(message) };
    assert_eq!(encode(message, copy.bytes()), copy.len);
    let mut one = [0; 4 * INPUT_BYTES_MAX];
    let chunk_len = chunk(&mut one, copy.len, |out| out.copy_from_slice(&copy.bytes[..copy.len]));
    let mut other = [0; 4 * INPUT_BYTES_MAX];
    assert_eq!(piece(&mut other, true, |w| w.put(copy.bytes())), Ok(chunk_len));
    assert_eq!(one[..chunk_len], other[..chunk_len]);
    copy
}

/// A payload as an event: its lines come back, or its base64; and in an envelope, all of it.
pub fn sse(data: &[u8]) {
    let message = message(bounded(data));
    enveloped(&message);
    let mut event = encoded(&message, sse::encoded_len, sse::encode);
    let event = event.bytes().strip_prefix(b"id: 1a2b3c4d-17\n").expect("the id comes first");
    let mut lines = event.strip_suffix(b"\n\n").expect("an empty line ends the event").split(|&byte| byte == b'\n');
    if !message.text {
        assert_eq!(lines.next(), Some(&b"event: corecast-base64"[..]));
        let data = lines.next().and_then(|line| line.strip_prefix(b"data: ")).expect("one line of base64");
        let mut decoded = [0; PAYLOAD_BYTES_MAX];
        let len = STANDARD.decode_slice(data, &mut decoded).expect("base64 is read");
        assert_eq!((&decoded[..len], lines.next()), (message.payload, None));
        return;
    }
    let mut heard = Copied::written(|w| {
        for (place, line) in lines.enumerate() {
            assert!(!line.contains(&b'\r'));
            if place > 0 {
                w.byte(b'\n');
            }
            w.put(line.strip_prefix(b"data: ").expect("only data follows"));
        }
    });
    let mut said = Copied::written(|w| {
        for (at, &byte) in message.payload.iter().enumerate() {
            match byte {
                b'\n' if at > 0 && message.payload[at - 1] == b'\r' => {}
                b'\r' => w.byte(b'\n'),
                byte => w.byte(byte),
            }
        }
    });
    assert_eq!(heard.bytes(), said.bytes());
    // As a comment or an id, any text stays one line.
    let text = core::str::from_utf8(message.payload).expect("text is UTF-8");
    for block in [Copied::written(|w| sse::comment(w, text)), Copied::written(|w| sse::id_only(w, text))].iter_mut() {
        let line = block.bytes().strip_suffix(b"\n\n").expect("an empty line ends the block");
        assert!(!line.iter().any(u8::is_ascii_control));
    }
}

/// An event in an envelope, with its id and without: one line of data, whose object holds the payload.
fn enveloped(message: &Message<'_>) {
    let mut with = encoded(message, sse::encoded_len_enveloped, sse::encode_enveloped);
    let mut without = encoded(message, sse::encoded_len_enveloped_without_id, sse::encode_enveloped_without_id);
    assert_eq!(with.bytes().strip_prefix(b"id: 1a2b3c4d-17\n"), Some(&*without.bytes()));
    let line = without.bytes().strip_prefix(b"data: ").and_then(|rest| rest.strip_suffix(b"\n\n"));
    let object = line.expect("one field and an empty line");
    assert!(!object.iter().any(|byte| matches!(byte, b'\r' | b'\n')));
    let mut copy = Copied::of(object);
    assert_eq!(json::publish_line(copy.bytes()).map(|line| line.data), Ok(message.payload));
}

/// A payload as a part: one body, whether its reader counts or searches.
pub fn multipart(data: &[u8]) {
    let message = message(bounded(data));
    let mut part = encoded(&message, multipart::encoded_len, multipart::encode);
    let part: &[u8] = part.bytes();
    let found = memmem::find(part, multipart::BOUNDARY.as_bytes()).expect("the boundary stands behind the part");
    assert_eq!(found + multipart::BOUNDARY.len() + 2, part.len(), "and nowhere else");
    let head = memmem::find(part, b"\r\n\r\n").expect("the headers end");
    let body = &part[head + 4..found - 4];
    let length = memmem::find(&part[..head], b"Content-Length: ").expect("there is a length") + 16;
    let digits = part[length..head].split(|&byte| byte == b'\r').next().expect("a line ends");
    assert_eq!(write::parse_decimal(digits), Some(body.len() as u64));
    if memmem::find(&part[..head], b"\r\nContent-Transfer-Encoding: base64\r\n").is_none() {
        return assert_eq!(body, message.payload);
    }
    let mut decoded = [0; PAYLOAD_BYTES_MAX];
    let len = STANDARD.decode_slice(body, &mut decoded).expect("base64 is read");
    assert_eq!(&decoded[..len], message.payload);
}

/// A payload, and a callback, in a script: one stays text, the other a name.
pub fn script(data: &[u8]) {
    let message = message(bounded(data));
    let mut frame = encoded(&message, forever_frame::encoded_len, forever_frame::encode);
    let frame = frame.bytes().strip_prefix(b"<script>c(").and_then(|rest| rest.strip_suffix(b")</script>\n"));
    let object = frame.expect("one script");
    assert!(!object.iter().any(|byte| matches!(byte, 0..=0x1f | b'<' | b'>' | b'&')));
    assert!(
        memmem::find(object, "\u{2028}".as_bytes()).is_none() && memmem::find(object, "\u{2029}".as_bytes()).is_none()
    );
    let mut copy = Copied::of(object);
    assert_eq!(json::publish_line(copy.bytes()).map(|line| line.data), Ok(message.payload));

    let Ok(name) = core::str::from_utf8(message.payload) else {
        return;
    };
    if json::valid_frame_callback(name) {
        assert!(json::valid_callback(name));
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"$_.".contains(&byte)));
        let mut page = Copied::written(|w| forever_frame::prologue(w, name));
        assert!(page.len <= forever_frame::PROLOGUE_BYTES_MAX);
        assert_eq!(memmem::find_iter(page.bytes(), "<script").count(), 1);
    }
}

/// Wishes do not depend on the wishes before them, but for the first that counts.
pub fn prefer(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(bounded(data)) else {
        return;
    };
    for (before, waits, accepts) in [
        ("respond-async;x=\", wait=1\" , ", wait_s(line(text)), accepts_event_stream(line(text))),
        ("wait=7,text/event-stream,", Some(7), true),
        ("wait=,text/event-stream;q=0,", None, accepts_event_stream(line(text))),
    ] {
        let mut longer = Copied::written(|w| {
            w.text(before);
            w.text(text);
        });
        let longer = core::str::from_utf8(longer.bytes()).expect("two texts are a text");
        assert_eq!((wait_s(line(longer)), accepts_event_stream(line(longer))), (waits, accepts));
    }
}

fn line(text: &str) -> Field<'_> {
    Field::line(text.as_bytes())
}

/// What a proxy is told of its client by somebody who lies: whatever stands before what a trusted proxy wrote changes nothing of it.
pub fn forwarded(data: &[u8]) {
    use crate::http::forwarded::{Asker, Header, asker};
    use crate::http::head::Known;
    // A line of a head holds no line end.
    let data = bounded(data);
    let data = &data[..data.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0)).unwrap_or(data.len())];
    let is_trusted = |address: core::net::IpAddr| address.to_canonical() == core::net::Ipv4Addr::new(10, 0, 0, 1);
    let both = |value: &[u8], behind: &[u8]| {
        let line = Copied::written(|w| {
            w.put(value);
            w.put(behind);
        });
        let field = Field::line(&line.bytes[..line.len]);
        let known = Known { x_forwarded_for: field, forwarded: field, x_forwarded_proto: field, ..Known::default() };
        [Header::XForwardedFor, Header::Forwarded].map(|header| asker(&known, header, is_trusted))
    };
    let alone = both(data, b"");
    let client: core::net::SocketAddr = (core::net::Ipv4Addr::new(192, 0, 2, 7), 0).into();
    assert_eq!(both(data, b", 192.0.2.7")[0].address, Some(client));
    assert_eq!(both(data, b",for=192.0.2.7;proto=https")[1], Asker { address: Some(client), https: Some(true) });
    assert_eq!(both(data, b", for=\"[::ffff:192.0.2.7]\"")[1].address, Some(client));
    assert_eq!(both(data, b", unknown")[0].address, None);
    assert_eq!(both(data, b", for=unknown")[1].address, None);
    // Behind one more trusted proxy all is as it was.
    assert_eq!(both(data, b", 10.0.0.1")[0].address, alone[0].address);
    assert_eq!(both(data, b", for=10.0.0.1")[1].address, alone[1].address);
}
