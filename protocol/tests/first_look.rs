//! One walk through every part, as a user of the crate would take it.

use corecast_protocol::dialect;
use corecast_protocol::http::{client, head, response};
use corecast_protocol::line::{self, Command, ServerLine};
use corecast_protocol::ws::decoder::{Decoder, Event, Role};
use corecast_protocol::ws::{frame, handshake};
use corecast_protocol::{Cursor, Message, Since, Writer, json, topic};

/// The handshake of RFC 6455 section 1.3 goes through both sides and ends in the accept value printed there.
#[test]
fn the_rfc_handshake_works_between_both_sides() {
    let mut out = [0; 1024];
    let mut w = Writer::new(&mut out);
    let key = b"dGhlIHNhbXBsZSBub25jZQ==";
    handshake::client_request(&mut w, "server.example.com", "/ws", key, Some("corecast.v1"));
    let (request, len) = head::parse(w.written(), 1024).unwrap().unwrap();
    assert_eq!(len, w.len());
    let offer = handshake::check(&request).unwrap();
    assert!(offer.corecast_v1);
    let accept = handshake::accept_key(offer.key);
    assert_eq!(&accept, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    let mut out = [0; 1024];
    let mut w = Writer::new(&mut out);
    handshake::respond(&mut w, &accept, Some("corecast.v1"), None);
    let (reply, len) = client::parse(w.written(), 1024).unwrap().unwrap();
    assert_eq!(len, w.len());
    handshake::check_reply(&reply, key, Some("corecast.v1")).unwrap();
    assert!(handshake::check_reply(&reply, key, None).is_err());
}

/// A masked ping of RFC 6455 section 5.7 and a message come out of the decoder.
#[test]
fn frames_come_out() {
    let mut bytes = [0; 64];
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    bytes[..11].copy_from_slice(&hello);
    let ping = frame::wrap(&mut bytes[11..], frame::Opcode::Ping, Some([9, 8, 7, 6]), |w| w.put(b"hi")).unwrap();
    let mut decoder = Decoder::new(Role::Server);
    let step = decoder.next(&mut bytes[..11 + ping], 100).unwrap();
    assert_eq!(step.consumed, 11);
    let event = Event::Data { text: true, compressed: false, data: 6..11, first: true, last: true };
    assert_eq!(step.event, Some(event));
    assert_eq!(&bytes[6..11], b"Hello");
    let step = decoder.next(&mut bytes[11..11 + ping], 100).unwrap();
    assert_eq!(step.event, Some(Event::Ping(6..8)));
    assert_eq!(&bytes[17..19], b"hi");
}

/// A published line becomes a message in each dialect, and a client reads it again.
#[test]
fn a_message_travels() {
    let mut command = *b"PUB a%20b/c event=e id=7\nhello";
    let Ok(Command::Pub { topic, event, id, payload, .. }) = line::parse(&mut command) else {
        panic!("not a PUB");
    };
    assert_eq!((topic, event, id, &*payload), ("a b/c", Some("e"), Some("7"), &b"hello"[..]));
    let cursor = Cursor { epoch: 0x1a2b3c4d, seq: 17 };
    let message = Message { topic, cursor, event, payload, text: true, ..Default::default() };
    let mut out = [0; 256];
    let len = dialect::line::encode(&message, &mut out);
    assert_eq!(len, dialect::line::encoded_len(&message));
    assert_eq!(&out[2..len], b"MSG a%20b/c 1a2b3c4d-17 event=e\nhello");
    let line = line::parse_server(&mut out[2..len]).unwrap();
    assert_eq!(
        line,
        ServerLine::Msg {
            topic: "a b/c",
            cursor,
            event: Some("e"),
            payload: b"hello",
            key: "",
            op: corecast_protocol::message::Op::Put
        }
    );

    let mut out = [0; 256];
    let len = dialect::json::encode(&message, &mut out);
    assert_eq!(len, dialect::json::encoded_len(&message));
    assert_eq!(&out[..len], br#"{"topic":"a b/c","cursor":"1a2b3c4d-17","event":"e","data":"hello"}"#);
    let line = json::publish_line(&mut out[..len]).unwrap();
    assert_eq!((line.topic, line.data, line.event), ("a b/c", &b"hello"[..], Some("e")));
    let len = dialect::payload::encode(&message, &mut out);
    assert_eq!(&out[..len], b"\x81\x05hello");
}

/// A request written by the client's side is read by the server's, and the answer the other way round.
#[test]
fn a_request_and_its_answer_travel() {
    let mut out = [0; 512];
    let mut w = Writer::new(&mut out);
    client::request(&mut w, "POST", "/topics/a%20b?x=1", "h:80", &[("Corecast-Event", "e")], Some(5));
    let (request, _) = head::parse(w.written(), 512).unwrap().unwrap();
    assert_eq!((request.path, request.query), ("/topics/a%20b", "x=1"));
    assert_eq!(request.body, head::BodyLength::Sized(5));
    assert_eq!(request.headers.corecast_event, Some("e"));
    let mut name = [0; 255];
    assert_eq!(topic::from_path("a%20b", &mut name), Ok("a b"));
    assert_eq!(Since::parse("-12"), Ok(Since::Last(12)));

    let mut out = [0; 512];
    let mut w = Writer::new(&mut out);
    let answer = response::Head {
        date: None,
        upgrade: None,
        status: 200,
        content_type: Some("application/json"),
        framing: response::Framing::Sized(2),
        http10: false,
        keep_alive: true,
        extra: &[],
    };
    response::head(&mut w, &answer);
    let (reply, _) = client::parse(w.written(), 512).unwrap().unwrap();
    assert_eq!((reply.status, reply.body, reply.keep_alive), (200, client::ReplyBody::Sized(2), true));
}
