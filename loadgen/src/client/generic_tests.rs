//! Conversations with servers that are not the engine, made up here.

use super::*;
use crate::plan::Generic;

fn nats() -> Plan {
    let generic = Generic {
        path: "/nats/{id}".to_owned(),
        talk: vec!["<INFO".to_owned(), r">CONNECT {}\r\nPING\r\n".to_owned(), "<PONG".to_owned()],
        subscribe: Some(r"SUB {topic} 1\r\nPING\r\n".to_owned()),
        subscribed: Some("PONG".to_owned()),
        answers: vec![("PING".to_owned(), r"PONG\r\n".to_owned())],
        ..Generic::default()
    };
    Plan { transport: Transport::Generic, generic: Some(generic), topics: 3, ..Plan::default() }
}

fn msg(number: u64) -> Vec<u8> {
    [b"MSG load/00000001 1 200\r\n", &message(1, number)[..], b"\r\n"].concat()
}

/// A conversation goes step by step, questions are answered, and payloads are found inside of what is around them,
/// however the server cuts them into frames and the network cuts the frames.
#[test]
fn conversations_are_held() {
    let stream = [msg(0), msg(1), b"PING\r\n".to_vec(), msg(3)].concat();
    for frames in [&[stream.len()][..], &[250, 100, stream.len()], &[10, 300, 1, stream.len()]] {
        let mut bytes = Worker::of(nats()).upgrade();
        bytes.extend(text(b"INFO {\"version\":\"2\"}\r\n"));
        bytes.extend(text(b"+OK\r\nPONG\r\n"));
        bytes.extend(text(b"PONG\r\n"));
        let mut rest = &stream[..];
        for len in frames {
            let (frame, behind) = rest.split_at(rest.len().min(*len));
            bytes.extend(text(frame));
            rest = behind;
        }
        for cut in 0..=bytes.len() {
            let mut worker = Worker::of(nats());
            let mut client = worker.client(Purpose::Subscribe(1));
            let Worker { rules, subscriptions, say, .. } = &mut worker;
            client.greet(rules, "host", subscriptions, say);
            assert!(said(say).starts_with("GET /nats/00000001 HTTP/1.1"));
            say.clear();
            worker.hear(&mut client, &bytes[..cut]).unwrap();
            worker.hear(&mut client, &bytes[cut..]).unwrap();
            let talk = said(&worker.say);
            let parts = ["CONNECT {}\r\nPING\r\n", "SUB load/", "/00000001 1\r\nPING\r\n", "PONG\r\n"];
            let mut at = 0;
            for part in parts {
                at += talk[at..].find(part).unwrap_or_else(|| panic!("{part} is not in {talk}"));
            }
            assert!(client.ready() && client.cut.is_none(), "cut at {cut}");
            let counts = Counts { delivered: 3, lost: 1, late: 3, ..Counts::default() };
            assert_eq!(worker.settle(4), counts, "{frames:?} cut at {cut}");
        }
    }
}

/// Payloads wrapped in JSON are found, damage and what belongs to others is noticed, and chatter means nothing.
#[test]
fn wrapped_payloads_are_judged() {
    let generic = Generic { path: "/{topic}".to_owned(), ..Generic::default() };
    let plan = Plan { transport: Transport::Generic, generic: Some(generic), topics: 3, ..Plan::default() };
    let mut worker = Worker::of(plan);
    let mut client = worker.client(Purpose::Subscribe(1));
    let wrapped = |payload: Vec<u8>| {
        text(
            format!(r#"{{"push":{{"channel":"a","pub":{{"data":"{}"}}}}}}"#, String::from_utf8(payload).unwrap())
                .as_bytes(),
        )
    };
    let mut damaged = message(1, 1);
    damaged[100] ^= 1;
    let stream = [
        worker.upgrade(),
        text(br#"{"connect":{"client":"01234567-89ab-cdef"}}"#),
        wrapped(message(1, 0)),
        wrapped(damaged),
        wrapped(message(2, 0)),
        wrapped(message(1, 2)),
        text(b"{}"),
    ];
    worker.hear(&mut client, &stream.concat()).unwrap();
    let counts = Counts { delivered: 2, corrupted: 2, lost: 1, late: 2, ..Counts::default() };
    assert_eq!(worker.settle(3), counts);
    assert!(client.cut.is_none());
}

/// A publishing connection goes through the greeting only, and says binary things in binary frames.
#[test]
fn publishers_are_greeted_too() {
    let mut plan = nats();
    let generic = plan.generic.as_mut().unwrap();
    generic.talk = vec![r">\x10\x00{id}".to_owned(), r"<\x20\x02".to_owned()];
    let mut worker = Worker::of(plan);
    worker.subscriptions.clear();
    let mut client = worker.client(Purpose::Publish(2));
    let upgrade = worker.upgrade();
    worker.hear(&mut client, &upgrade).unwrap();
    assert_eq!(worker.say[..2], [0x82, 0x8a], "a masked binary frame of ten bytes");
    assert!(said(&worker.say).ends_with("90000002") && !client.ready());
    worker.hear(&mut client, &text(b"\x20\x02\x00\x00")).unwrap();
    assert!(client.ready());
}

/// A server whose ping is one character that payloads hold as well: the ping is answered, and nothing else is.
#[test]
fn short_pings_are_answered() {
    let generic = Generic {
        path: "/io".to_owned(),
        talk: vec!["<0{".to_owned(), ">40".to_owned(), "<40{".to_owned()],
        subscribe: Some(r#"420["subscribe","{topic}"]"#.to_owned()),
        subscribed: Some("430[".to_owned()),
        answers: vec![("^2$".to_owned(), "3".to_owned())],
        ..Generic::default()
    };
    let plan = Plan { transport: Transport::Generic, generic: Some(generic), topics: 3, ..Plan::default() };
    let mut worker = Worker::of(plan);
    let mut client = worker.client(Purpose::Subscribe(1));
    let event = |number| [br#"42["message",""#, &message(1, number)[..], br#""]"#].concat();
    assert!(event(0).contains(&b'2'));
    let stream = [
        worker.upgrade(),
        text(br#"0{"sid":"a240","pingInterval":25000}"#),
        text(br#"40{"sid":"b240"}"#),
        text(b"430[]"),
        text(&event(0)),
        text(b"2"),
        text(&event(1)),
    ];
    worker.hear(&mut client, &stream.concat()).unwrap();
    let pong = b"\x81\x81\0\0\0\x003";
    let pongs = worker.say.windows(pong.len()).filter(|part| part == pong).count();
    assert!(pongs == 1 && worker.say.ends_with(pong), "{}", said(&worker.say));
    assert!(worker.say.starts_with(b"\x81\x82\0\0\0\x0040"), "{}", said(&worker.say));
    assert!(client.ready() && client.cut.is_none());
    let counts = Counts { delivered: 2, late: 2, ..Counts::default() };
    assert_eq!(worker.settle(2), counts);
}
