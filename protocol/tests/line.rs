//! The `corecast.v1` line protocol, command by command and answer by answer (PROTOCOL "WebSocket line protocol").

use corecast_protocol::dialect::line as server;
use corecast_protocol::http::credential::{Credential, Kind};
use corecast_protocol::line::{self, Command, CommandError, ErrCode, GapReason, Pace, ServerLine, View};
use corecast_protocol::message::Op;
use corecast_protocol::producer::Produced;
use corecast_protocol::{Cursor, Since, Violation, Writer};

const CURSOR: Cursor = Cursor { epoch: 0x1a2b_3c4d, seq: 17 };

fn sub<'a>(
    topic: &'a str,
    since: Option<Since>,
    conflate: Option<bool>,
    every_ms: Option<u32>,
    id: Option<&'a str>,
) -> Command<'a> {
    Command::Sub { topic, since, places: None, conflate, every_ms, view: View::default(), pace: Pace::default(), id }
}

fn auth<'a>(kind: Kind, secret: &'a str, id: Option<&'a str>) -> Command<'a> {
    Command::Auth { credential: Credential { kind, secret }, id }
}

/// Every form of every command.
#[test]
fn commands_are_read() {
    let long_token = "t".repeat(64);
    let long = format!("PING {long_token}");
    let long_secret = "s".repeat(8192);
    let long_auth = format!("AUTH {long_secret} id=1");
    let rows = [
        ("SUB a", sub("a", None, None, None, None)),
        ("SUB a\n", sub("a", None, None, None, None)),
        ("SUB a\r\n", sub("a", None, None, None, None)),
        ("SUB a%20b/c%25", sub("a b/c%", None, None, None, None)),
        ("SUB %C3%BCü", sub("üü", None, None, None, None)),
        ("SUB $sys/load", sub("$sys/load", None, None, None, None)),
        ("SUB a since=live", sub("a", Some(Since::Live), None, None, None)),
        (
            "SUB a since=-5 conflate every=100 id=x=y",
            sub("a", Some(Since::Last(5)), Some(true), Some(100), Some("x=y")),
        ),
        (
            "SUB a id=1 every=4294967295 since=1a2b3c4d-17",
            sub("a", Some(Since::After(CURSOR)), None, Some(u32::MAX), Some("1")),
        ),
        ("SUB a conflate=1", sub("a", None, Some(true), None, None)),
        ("SUB a conflate=true every=0", sub("a", None, Some(true), Some(0), None)),
        ("SUB a conflate=0", sub("a", None, Some(false), None, None)),
        ("SUB a every=7 conflate=false", sub("a", None, Some(false), Some(7), None)),
        ("UNSUB a", Command::Unsub { topic: "a", id: None }),
        ("UNSUB a%20b id=2", Command::Unsub { topic: "a b", id: Some("2") }),
        ("AUTH a.b.c", auth(Kind::Token, "a.b.c", None)),
        ("AUTH a.b.c\r\n", auth(Kind::Token, "a.b.c", None)),
        ("AUTH %20 id=1", auth(Kind::Token, "%20", Some("1"))),
        ("AUTH k id=1 key", auth(Kind::Key, "k", Some("1"))),
        (&long_auth, auth(Kind::Token, &long_secret, Some("1"))),
        ("PING", Command::Ping { token: None }),
        ("PING abc", Command::Ping { token: Some("abc") }),
        ("PING\n", Command::Ping { token: None }),
        ("SET bandwidth=8000 id=7", Command::Set { bandwidth: 8000, id: Some("7") }),
        ("SET id=7 bandwidth=0\r", Command::Set { bandwidth: 0, id: Some("7") }),
        ("STAT", Command::Stat { token: None }),
        ("STAT x", Command::Stat { token: Some("x") }),
        (&long, Command::Ping { token: Some(&long_token) }),
    ];
    for (text, command) in rows {
        assert_eq!(line::parse(&mut text.as_bytes().to_vec()), Ok(command), "{text:?}");
    }
}

/// A payload is everything behind the first line feed, whatever it is.
#[test]
fn payloads_are_taken_as_they_are() {
    for (header, topic, event, id) in [
        ("PUB a", "a", None, None),
        ("PUB a%20b event=e id=7", "a b", Some("e"), Some("7")),
        ("PUB a id=7 event=a=b", "a", Some("a=b"), Some("7")),
    ] {
        for payload in [&b""[..], b"x", b"\n", b"\r\nPUB b\n", b"\xff\0"] {
            let mut message = [header.as_bytes(), b"\n", payload].concat();
            let mut expected = payload.to_vec();
            let command =
                Command::Pub { topic, event, key: None, op: None, produced: None, id, payload: &mut expected };
            assert_eq!(line::parse(&mut message), Ok(command));
        }
    }
}

/// A message may be numbered: by a producer and its number, in any order among the options.
#[test]
fn publications_are_numbered() {
    for (header, event, id) in
        [("PUB a producer=p n=7", None, None), ("PUB a n=7 event=e id=1 producer=p", Some("e"), Some("1"))]
    {
        let produced = Some(Produced { producer: "p", number: 7 });
        let command = Command::Pub { topic: "a", event, key: None, op: None, produced, id, payload: &mut [] };
        assert_eq!(line::parse(&mut [header.as_bytes(), b"\n"].concat()), Ok(command), "{header}");
    }
}

/// What is wrong is told with the code that PROTOCOL names, and with the token if there is one, wherever it stands.
#[test]
fn wrong_commands_are_told_with_their_token() {
    use ErrCode::{BadCommand, BadTopic};
    let long_topic = format!("SUB {} id=t", "a".repeat(256));
    let long_token = format!("SUB a id={}", "t".repeat(65));
    let long_event = format!("PUB a id=t event={}\n", "e".repeat(65));
    let long_header = format!("PUB {} id=t\n", "a".repeat(1100));
    let long_sub = format!("SUB {} id=t", "a".repeat(4200));
    let long_auth = format!("AUTH {} id=t", "s".repeat(8400));
    let rows: &[(&str, ErrCode, Option<&str>)] = &[
        ("", BadCommand, None),
        ("\n", BadCommand, None),
        ("sub a", BadCommand, None),
        ("HELLO", BadCommand, None),
        ("HELLO a id=t", BadCommand, Some("t")),
        (" SUB a", BadCommand, None),
        ("SUB", BadCommand, None),
        ("SUB ", BadCommand, None),
        ("SUB  a id=t", BadCommand, Some("t")),
        ("SUB a ", BadCommand, None),
        ("SUB a  id=t", BadCommand, Some("t")),
        ("SUB a what id=t", BadCommand, Some("t")),
        ("SUB a event=e id=t", BadCommand, Some("t")),
        ("SUB a since=yesterday id=t", BadCommand, Some("t")),
        ("SUB a since id=t", BadCommand, Some("t")),
        ("SUB a since= id=t", BadCommand, Some("t")),
        ("SUB a since=live since=live id=t", BadCommand, Some("t")),
        ("SUB a conflate conflate id=t", BadCommand, Some("t")),
        ("SUB a conflate conflate=0 id=t", BadCommand, Some("t")),
        ("SUB a conflate=2 id=t", BadCommand, Some("t")),
        ("SUB a conflate= id=t", BadCommand, Some("t")),
        ("SUB a every=-1 id=t", BadCommand, Some("t")),
        ("SUB a every=4294967296 id=t", BadCommand, Some("t")),
        ("SUB a id=t id=u", BadCommand, Some("t")),
        ("SUB a id=", BadCommand, None),
        ("SUB a id=é", BadCommand, None),
        (&long_token, BadCommand, None),
        ("SUB a id=t\nx", BadCommand, Some("t")),
        ("UNSUB a since=live id=t", BadCommand, Some("t")),
        ("PUB a id=t", BadCommand, Some("t")),
        ("PUB a since=live id=t\n", BadCommand, Some("t")),
        ("PUB a event= id=t\n", BadCommand, Some("t")),
        ("PUB a event=é id=t\n", BadCommand, Some("t")),
        ("PUB a event=corecast-gap id=t\n", BadCommand, Some("t")),
        ("PUB a producer=p id=t\n", BadCommand, Some("t")),
        ("PUB a n=1 id=t\n", BadCommand, Some("t")),
        ("PUB a n=1 producer= id=t\n", BadCommand, Some("t")),
        ("PUB a n=1 producer=é id=t\n", BadCommand, Some("t")),
        ("PUB a n=0 producer=p id=t\n", BadCommand, Some("t")),
        ("PUB a n=1 n=2 producer=p id=t\n", BadCommand, Some("t")),
        ("PUB a n=1 producer=p producer=p id=t\n", BadCommand, Some("t")),
        ("SUB a n=1 producer=p id=t", BadCommand, Some("t")),
        (&long_event, BadCommand, Some("t")),
        ("PUB a id=t\r\nx", BadCommand, None),
        ("AUTH", BadCommand, None),
        ("AUTH  id=t", BadCommand, Some("t")),
        ("AUTH a\tb id=t", BadCommand, Some("t")),
        ("AUTH a key key id=t", BadCommand, Some("t")),
        ("AUTH a since=live id=t", BadCommand, Some("t")),
        ("AUTH a id=t\nx", BadCommand, Some("t")),
        (&long_auth, BadCommand, Some("t")),
        ("SUB a key id=t", BadCommand, Some("t")),
        ("PING a b", BadCommand, Some("a")),
        ("PING ", BadCommand, None),
        ("PING é", BadCommand, None),
        ("PING a\nb", BadCommand, Some("a")),
        (&long_header, BadCommand, Some("t")),
        (&long_sub, BadCommand, Some("t")),
        ("SUB a delta=2 id=t", BadCommand, Some("t")),
        ("SET id=t", BadCommand, Some("t")),
        ("SET bandwidth=x id=t", BadCommand, Some("t")),
        ("SET bandwidth=4294967296 id=t", BadCommand, Some("t")),
        ("SET speed=1 id=t", BadCommand, Some("t")),
        ("STAT a b", BadCommand, Some("a")),
        ("SUB a delta delta=0 id=t", BadCommand, Some("t")),
        ("SUB a fields=a fields=b id=t", BadCommand, Some("t")),
        ("SUB a where=%zz id=t", BadCommand, Some("t")),
        ("SUB a rate=x id=t", BadCommand, Some("t")),
        ("SUB a batch= id=t", BadCommand, Some("t")),
        ("SUB a queue=-1 id=t", BadCommand, Some("t")),
        ("SUB a key=b id=t", BadCommand, Some("t")),
        ("PUB a key= id=t\nx", BadCommand, Some("t")),
        ("PUB a key=a%0ab id=t\nx", BadCommand, Some("t")),
        ("PUB a key=%ff id=t\nx", BadCommand, Some("t")),
        ("PUB a op=patch id=t\nx", BadCommand, Some("t")),
        ("PUB a op=put op=put id=t\nx", BadCommand, Some("t")),
        ("PUB a fields=b id=t\nx", BadCommand, Some("t")),
        (&long_topic, BadTopic, Some("t")),
        ("SUB a//b id=t", BadTopic, Some("t")),
        ("SUB a/+b id=t", BadTopic, Some("t")),
        ("SUB a%2 id=t", BadTopic, Some("t")),
        ("SUB a%ff id=t", BadTopic, Some("t")),
        ("SUB a%0a id=t", BadTopic, Some("t")),
        ("SUB $other id=t", BadTopic, Some("t")),
        ("PUB $sys/a id=t\nx", BadTopic, Some("t")),
        ("UNSUB /a id=t", BadTopic, Some("t")),
    ];
    for (text, code, token) in rows {
        let mut message = text.as_bytes().to_vec();
        match line::parse(&mut message) {
            Err(CommandError { code: found, token: named, text: why }) => {
                assert_eq!((found, named), (*code, *token), "{text:?}: {why}");
                assert!(!why.is_empty());
            }
            Ok(command) => panic!("{text:?} was read as {command:?}"),
        }
    }
    // Of several things that are wrong, the first is told.
    let mut twice_wrong = *b"SUB a what since=yesterday id=t";
    let error = line::parse(&mut twice_wrong).unwrap_err();
    assert_eq!(error.text, "an option is not known");
    let mut not_utf8 = *b"SUB a\xff id=t";
    let error = line::parse(&mut not_utf8).unwrap_err();
    assert_eq!((error.code, error.token), (BadTopic, Some("t")));
}

/// What a subscriber wants of a topic, and what a message does to a key, are decoded where they stand.
#[test]
fn values_are_decoded() {
    let mut message =
        *b"SUB a where=price%20>%2010%20AND%20name%20LIKE%20'x%25' fields=a,b%20c delta batch=50 rate=800 queue=7 id=t";
    let view = View { fields: Some("a,b c"), selector: Some("price > 10 AND name LIKE 'x%'"), delta: true };
    let pace = Pace { batch_ms: Some(50), rate: Some(800), queue: Some(7) };
    let read = line::parse(&mut message).unwrap();
    let expected = Command::Sub {
        topic: "a",
        since: None,
        places: None,
        conflate: None,
        every_ms: None,
        view,
        pace,
        id: Some("t"),
    };
    assert_eq!(read, expected);
    let mut out = [0; 256];
    let mut w = Writer::new(&mut out);
    line::sub(&mut w, "a", None, None, None, view, pace, Some("t"));
    let len = w.finish().unwrap();
    assert_eq!(line::parse(&mut out[..len]), Ok(expected));

    let mut message = *b"PUB a op=merge key=EUR%20USD id=t\n{}";
    let (key, op) = (Some("EUR USD"), Some(Op::Merge));
    let expected =
        Command::Pub { topic: "a", event: None, key, op, produced: None, id: Some("t"), payload: &mut b"{}".to_vec() };
    assert_eq!(line::parse(&mut message), Ok(expected));
    let mut out = [0; 256];
    let mut w = Writer::new(&mut out);
    line::publish_head(&mut w, "a", None, key, op, None, Some("t"));
    assert_eq!(w.written(), b"PUB a key=EUR%20USD op=merge id=t\n");
}

/// What a message says of a key is read by a client, and the end of what there was.
#[test]
fn keys_are_read_by_clients() {
    for (text, event, key, op) in [
        (&b"MSG a 1a2b3c4d-17 key=k\nx"[..], None, "k", Op::Put),
        (b"MSG a 1a2b3c4d-17 event=e key=a%20b op=delete\nx", Some("e"), "a b", Op::Delete),
        (b"MSG a 1a2b3c4d-17 op=merge\nx", None, "", Op::Merge),
        (b"MSG a 1a2b3c4d-17 op=merge later=1\nx", None, "", Op::Merge),
    ] {
        let expected = ServerLine::Msg { topic: "a", cursor: CURSOR, event, key, op, payload: b"x" };
        assert_eq!(line::parse_server(&mut text.to_vec()), Ok(expected));
    }
    let stat = line::Stat { waiting: 5, messages: 2, blocked: true, bandwidth: 9 };
    let text = b"STAT t waiting=5 messages=2 blocked=1 bandwidth=9 later=1";
    assert_eq!(line::parse_server(&mut text.to_vec()), Ok(ServerLine::Stat { token: Some("t"), stat }));
    let eos = ServerLine::Eos { topic: "a b", cursor: CURSOR };
    assert_eq!(line::parse_server(&mut b"EOS a%20b 1a2b3c4d-17".to_vec()), Ok(eos));
    for wrong in ["MSG a 1a2b3c4d-17 key=\nx", "MSG a 1a2b3c4d-17 op=x\nx", "EOS a", "EOS a x", "EOS a 1a2b3c4d-17\nx"]
    {
        assert!(line::parse_server(&mut wrong.as_bytes().to_vec()).is_err(), "{wrong}");
    }
}

/// What the client's side writes, the server's side reads.
#[test]
fn written_commands_are_read() {
    for since in [None, Some(Since::Earliest), Some(Since::Last(3)), Some(Since::After(CURSOR))] {
        for (conflate, every_ms, id) in
            [(None, None, None), (Some(true), Some(250), Some("t")), (Some(false), Some(0), None)]
        {
            let mut out = [0; 256];
            let mut w = Writer::new(&mut out);
            line::sub(&mut w, "a b%", since, conflate, every_ms, View::default(), Pace::default(), id);
            let len = w.finish().unwrap();
            assert_eq!(line::parse(&mut out[..len]), Ok(sub("a b%", since, conflate, every_ms, id)));
        }
    }
    let written = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut out = [0; 256];
        let mut w = Writer::new(&mut out);
        write(&mut w);
        String::from_utf8(w.written().to_vec()).unwrap()
    };
    assert_eq!(written(&|w| line::unsub(w, "a b", Some("1"))), "UNSUB a%20b id=1");
    assert_eq!(written(&|w| line::unsub(w, "a", None)), "UNSUB a");
    assert_eq!(
        written(&|w| line::publish_head(w, "a", Some("e"), None, None, None, Some("1"))),
        "PUB a event=e id=1\n"
    );
    let produced = Some(Produced { producer: "p", number: 7 });
    assert_eq!(written(&|w| line::publish_head(w, "a", None, None, None, produced, None)), "PUB a producer=p n=7\n");
    assert_eq!(written(&|w| line::publish_head(w, "a", None, None, None, None, None)), "PUB a\n");
    assert_eq!(written(&|w| line::ping(w, Some("x"))), "PING x");
    assert_eq!(written(&|w| line::ping(w, None)), "PING");
}

type Write = fn(&mut Writer<'_>);

/// What the server writes is what PROTOCOL prints, and the client reads it.
#[test]
fn answers_are_written_and_read() {
    let after = Cursor { epoch: 0x1a2b_3c4d, seq: 25 };
    let rows: &[(Write, &str, ServerLine<'_>)] = &[
        (|w| server::hi(w, "s1"), "HI corecast.v1 s1", ServerLine::Hi { session: "s1" }),
        (|w| server::ok(w, "t", None), "OK t", ServerLine::Ok { token: "t", cursor: None }),
        (|w| server::ok(w, "t", Some(CURSOR)), "OK t 1a2b3c4d-17", ServerLine::Ok { token: "t", cursor: Some(CURSOR) }),
        (
            |w| server::err(w, None, ErrCode::TooMany, "too many of them"),
            "ERR - too-many too many of them",
            ServerLine::Err { token: None, code: ErrCode::TooMany, text: "too many of them" },
        ),
        (
            |w| server::err(w, Some("t"), ErrCode::Rate, "slower"),
            "ERR t rate slower",
            ServerLine::Err { token: Some("t"), code: ErrCode::Rate, text: "slower" },
        ),
        (|w| server::pong(w, None), "PONG", ServerLine::Pong { token: None }),
        (|w| server::pong(w, Some("t")), "PONG t", ServerLine::Pong { token: Some("t") }),
        (
            |w| server::bye(w, 1001, "going away"),
            "BYE 1001 going away",
            ServerLine::Bye { code: 1001, text: "going away" },
        ),
        (
            |w| server::gap(w, "a b", CURSOR, Cursor { epoch: 0x1a2b_3c4d, seq: 25 }, 7, GapReason::Overflow),
            "GAP a%20b 1a2b3c4d-17 1a2b3c4d-25 7 overflow",
            ServerLine::Gap { topic: "a b", from: CURSOR, to: after, count: 7, reason: GapReason::Overflow },
        ),
    ];
    for (write, text, found) in rows {
        let mut out = [0; 256];
        let mut w = Writer::new(&mut out);
        write(&mut w);
        assert_eq!(w.written(), text.as_bytes());
        assert_eq!(line::parse_server(&mut text.as_bytes().to_vec()), Ok(*found), "{text}");
        let len = server::text_frame(&mut out, write).unwrap();
        assert_eq!(&out[..len], [&[0x81, text.len() as u8], text.as_bytes()].concat());
    }
    let mut message = *b"MSG a%20b 1a2b3c4d-17 event=e\n\xff\n";
    let expected =
        ServerLine::Msg { topic: "a b", cursor: CURSOR, event: Some("e"), payload: b"\xff\n", key: "", op: Op::Put };
    assert_eq!(line::parse_server(&mut message), Ok(expected));
}

/// Every word for a code or a reason is read back, and no other.
#[test]
fn words_are_read_back() {
    for word in ["bad-command", "bad-topic", "too-large", "forbidden", "too-many", "full", "rate", "expired", "moved"] {
        assert_eq!(ErrCode::parse(word).map(ErrCode::as_str), Some(word));
    }
    for word in ["overflow", "expired", "epoch", "conflated"] {
        assert_eq!(GapReason::parse(word).map(GapReason::as_str), Some(word));
    }
    assert_eq!(ErrCode::parse("Full"), None);
    assert_eq!(GapReason::parse(""), None);
}

/// A client does not believe everything.
#[test]
fn malformed_answers_are_refused() {
    use Violation as V;
    for (text, violation) in [
        ("", V::BadLine),
        ("WHAT", V::BadLine),
        ("hi corecast.v1 s", V::BadLine),
        ("HI corecast.v2 s", V::BadLine),
        ("HI corecast.v1", V::BadLine),
        ("HI corecast.v1 s\n", V::BadLine),
        ("MSG a 1a2b3c4d-17", V::BadLine),
        ("MSG a\nx", V::BadLine),
        ("MSG a \nx", V::BadLine),
        ("MSG a 17\nx", V::BadCursor),
        ("MSG a 1a2b3c4d-17 what\nx", V::BadEvent),
        ("MSG a 1a2b3c4d-17 event=\nx", V::BadEvent),
        ("MSG a%2 1a2b3c4d-17\nx", V::BadEscape),
        ("MSG a//b 1a2b3c4d-17\nx", V::BadTopic(corecast_protocol::TopicError::EmptySegment)),
        ("GAP a 1a2b3c4d-1 1a2b3c4d-2 x overflow", V::BadLine),
        ("GAP a 1a2b3c4d-1 1a2b3c4d-2 1 bored", V::BadLine),
        ("GAP a 1a2b3c4d-1 1a2b3c4d-2", V::BadLine),
        ("OK", V::BadLine),
        ("OK t 17", V::BadCursor),
        ("ERR t", V::BadLine),
        ("ERR t what now", V::BadLine),
        ("BYE x", V::BadLine),
        ("BYE 65536 x", V::BadLine),
    ] {
        assert_eq!(line::parse_server(&mut text.as_bytes().to_vec()), Err(violation), "{text:?}");
    }
}
