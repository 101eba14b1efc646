//! What is read and written: a second reading must find the same.

use super::{Copied, INPUT_BYTES_MAX, bounded};
use crate::cursor::{Cursor, LIST_MAX, Since, TEXT_BYTES_MAX, list, read_list, write_list};
use crate::line::{Command, ServerLine, parse, parse_server};
use crate::message::{Message, Op};
use crate::topic::{from_path, from_path_subscribe, validate};
use crate::write::Writer;
use crate::{dialect, is_text, json, line as say, percent as escapes};

/// A line of the line protocol, as a client's and as a server's.
pub fn line(data: &[u8]) {
    let data = bounded(data);
    let mut copy = Copied::of(data);
    if let Ok(command) = parse(copy.bytes()) {
        let mut again = Copied::written(|w| write_command(w, &command));
        assert_eq!(parse(again.bytes()).as_ref(), Ok(&command));
    } else if let Err(error) = parse(Copied::of(data).bytes()) {
        assert!(error.token.is_none_or(|token| token.len() <= 64 && data.len() >= token.len()));
        let mut answer = Copied::written(|w| dialect::line::err(w, error.token, error.code, error.text));
        let answer = parse_server(answer.bytes());
        let token = error.token.filter(|&token| token != "-");
        let expected = ServerLine::Err { token, code: error.code, text: error.text };
        assert_eq!(answer, Ok(expected));
    }
    let mut copy = Copied::of(data);
    if let Ok(found) = parse_server(copy.bytes()) {
        let mut again = Copied::written(|w| write_server(w, &found));
        assert_eq!(parse_server(again.bytes()), Ok(found));
    }
}

fn write_command(w: &mut Writer<'_>, command: &Command<'_>) {
    match command {
        Command::Sub { topic, since, places, conflate, every_ms, view, pace, id } => {
            say::sub(w, topic, *since, *conflate, *every_ms, *view, *pace, *id);
            if let Some(places) = places {
                w.text(" since=");
                w.text(places);
            }
        }
        Command::Unsub { topic, id } => say::unsub(w, topic, *id),
        Command::Pub { topic, event, key, op, produced, id, payload } => {
            say::publish_head(w, topic, *event, *key, *op, *produced, *id);
            w.put(payload);
        }
        Command::Auth { credential, id } => say::auth(w, *credential, *id),
        Command::Set { bandwidth, id } => say::set_bandwidth(w, *bandwidth, *id),
        Command::Stat { token } => say::stat(w, *token),
        Command::Ping { token } => say::ping(w, *token),
    }
}

fn write_server(w: &mut Writer<'_>, found: &ServerLine<'_>) {
    use dialect::line as server;
    match *found {
        ServerLine::Hi { session } => server::hi(w, session),
        ServerLine::Msg { topic, cursor, event, key, op, payload } => {
            let message =
                Message { topic, cursor, event, payload, text: is_text(payload), key, op, ..Message::default() };
            let mut frame = [0; 4 * INPUT_BYTES_MAX];
            let len = server::encode(&message, &mut frame);
            assert_eq!(len, server::encoded_len(&message));
            let header = if len <= 2 + 125 { 2 } else { 4 };
            w.put(&frame[header..len]);
        }
        ServerLine::Eos { topic, cursor } => server::end_of_snapshot(w, topic, cursor),
        ServerLine::Gap { topic, from, to, count, reason } => server::gap(w, topic, from, to, count, reason),
        ServerLine::Ok { token, cursor } => server::ok(w, token, cursor),
        ServerLine::Err { token, code, text } => server::err(w, token, code, text),
        ServerLine::Pong { token } => server::pong(w, token),
        // A token may look like a number of it.
        ServerLine::Stat { token, stat } => server::stat(w, token, stat),
        ServerLine::Bye { code, text } => server::bye(w, code, text),
    }
}

/// A line of an NDJSON batch; and any text as a JSON string, and as a JSON value.
pub fn publish_line(data: &[u8]) {
    let data = bounded(data);
    let mut copy = Copied::of(data);
    match json::publish_line(copy.bytes()) {
        Ok(found) => {
            let message = Message {
                topic: found.topic,
                cursor: Cursor::default(),
                event: found.event,
                payload: found.data,
                text: is_text(found.data),
                key: found.key.unwrap_or(""),
                op: found.op.unwrap_or_default(),
                ..Message::default()
            };
            let mut out = [0; 8 * INPUT_BYTES_MAX];
            let len = dialect::json::encode(&message, &mut out);
            assert_eq!(len, dialect::json::encoded_len(&message));
            // The cursor is a member that is skipped, and that a message is a value, whole, is not said, nor who has numbered it.
            let found = json::PublishLine { op: found.op.filter(|op| *op != Op::Put), produced: None, ..found };
            assert_eq!(json::publish_line(&mut out[..len]), Ok(found));
        }
        Err(error) => assert!(error.offset <= data.len(), "{error}"),
    }
    let text = &data[..data.len().min(INPUT_BYTES_MAX / 2)];
    if let Ok(text) = core::str::from_utf8(text) {
        let mut line = Copied::written(|w| {
            w.text("{\"topic\":\"t\",\"data\":");
            let before = w.len();
            json::string(w, text);
            assert_eq!(w.len() - before, json::escaped_len(text));
            w.byte(b'}');
        });
        let found = json::publish_line(line.bytes()).expect("an escaped string is a string");
        assert_eq!(found.data, text.as_bytes());
        // Of anything but a string, the payload is what stands in the line.
        let mut line = Copied::written(|w| {
            w.text("{\"topic\":\"t\",\"data\":");
            w.text(text);
            w.byte(b'}');
        });
        let value = text.trim_start_matches([' ', '\t', '\r', '\n']);
        if let Ok(found) = json::publish_line(line.bytes())
            && !value.starts_with('"')
        {
            assert!(!found.data.is_empty() && value.as_bytes().starts_with(found.data), "{found:?}");
        }
    }
}

/// The rest of a path as a topic; and any text as a topic.
pub fn topic(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(bounded(data)) else {
        return;
    };
    let mut name = [0; 255];
    let mut name_again = [0; 255];
    let publish = from_path(text, &mut name_again).is_ok();
    if let Ok(topic) = from_path_subscribe(text, &mut name) {
        assert_eq!(publish, !crate::topic::is_system(topic));
        assert_eq!(validate(topic).is_ok(), publish);
        assert!(!topic.is_empty() && !topic.chars().any(char::is_control));
        assert!(topic.split('/').all(|segment| !segment.is_empty() && !segment.contains(['+', '#', '*'])));
        let mut path = Copied::written(|w| escapes::encode_path(topic, w));
        let path = core::str::from_utf8(path.bytes()).expect("escapes are ASCII");
        assert_eq!(from_path_subscribe(path, &mut name_again), Ok(topic));
        let mut word = Copied::written(|w| escapes::encode_topic_word(topic, w));
        assert_eq!(word.len, escapes::topic_word_len(topic));
        let word = word.bytes();
        assert!(!word.contains(&b' '));
        let len = escapes::decode_in_place(word);
        assert_eq!(len.map(|len| &word[..len]), Ok(topic.as_bytes()));
    } else {
        assert!(!publish);
    }
}

/// A cursor, a start position, and a combined cursor.
pub fn cursor(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(bounded(data)) else {
        return;
    };
    let mut out = [0; TEXT_BYTES_MAX];
    if let Ok(cursor) = Cursor::parse(text) {
        assert!(cursor.text(&mut out).eq_ignore_ascii_case(text));
        assert_eq!(cursor.text_len(), text.len());
        assert_eq!(Since::parse(text), Ok(Since::After(cursor)));
    }
    if let Ok(since) = Since::parse(text) {
        let mut again = Copied::written(|w| since.write(w));
        let again = core::str::from_utf8(again.bytes()).expect("a start position is ASCII");
        assert_eq!(Since::parse(again), Ok(since));
    }
    if list(text).all(|place| place.is_ok()) {
        let mut again = Copied::written(|w| write_list(w, list(text).flatten()));
        assert!(again.bytes().eq_ignore_ascii_case(text.as_bytes()));
        let mut places = [Cursor::default(); LIST_MAX];
        let count = list(text).count();
        if let Some(places) = places.get_mut(..count) {
            assert_eq!(read_list(text, places), Ok(()));
        }
    } else {
        assert!(Cursor::parse(text).is_err());
    }
}

/// Percent-decoding: both ways agree, and undo the encoding.
pub fn percent(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(bounded(data)) else {
        return;
    };
    let mut out = [0; INPUT_BYTES_MAX];
    let decoded = escapes::decode(text, &mut out, false);
    let mut copy = Copied::of(text.as_bytes());
    let in_place = escapes::decode_in_place(copy.bytes());
    assert_eq!(in_place.map(|len| &copy.bytes[..len]), decoded.map(str::as_bytes));
    let with_plus = escapes::decode(text, &mut out, true).map(str::len);
    assert_eq!(with_plus.is_ok(), in_place.is_ok());
    let mut encoded = Copied::written(|w| escapes::encode_path(text, w));
    let encoded = core::str::from_utf8(encoded.bytes()).expect("escapes are ASCII");
    let mut out = [0; INPUT_BYTES_MAX];
    assert_eq!(escapes::decode(encoded, &mut out, true), Ok(text));
    // One byte of room less is told.
    if let Some(short) = text.len().checked_sub(1) {
        assert_eq!(escapes::decode(encoded, &mut out[..short], true), Err(crate::Violation::ValueTooLong));
    }
}
