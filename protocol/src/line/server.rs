//! What servers say, as `corecast sub` and the load generator read it: HI, MSG, GAP, OK, ERR, PONG, BYE.
//!
//! Owns the reading only; [`dialect::line`](crate::dialect::line) writes. Words that a later version may append to a line are
//! ignored, except behind a message's event.

use memchr::memchr;

use super::{ErrCode, GapReason, split};
use crate::cursor::Cursor;
use crate::message::{Op, check_key, is_token};
use crate::percent;
use crate::places;
use crate::topic;
use crate::violation::Violation;
use crate::write::parse_decimal;
use crate::ws::handshake::CORECAST_V1;

/// How a connection is doing, as its server sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    /// Bytes of messages that wait for it at the server.
    pub waiting: u64,
    /// Messages that these are.
    pub messages: u64,
    /// Its socket takes nothing more for now.
    pub blocked: bool,
    /// Bytes a second that it is sent at most; 0 is no limit.
    pub bandwidth: u32,
}

/// What a server says, as a client reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerLine<'a> {
    /// The first line.
    Hi {
        /// The name of the session.
        session: &'a str,
    },
    /// A message.
    Msg {
        /// The topic, decoded.
        topic: &'a str,
        /// The message's cursor.
        cursor: Cursor,
        /// The event name, if there is one.
        event: Option<&'a str>,
        /// What it is a value of; empty for none.
        key: &'a str,
        /// What it does to that value.
        op: Op,
        /// The payload.
        payload: &'a [u8],
    },
    /// What there was of a topic has come; what follows is new.
    Eos {
        /// The topic, decoded.
        topic: &'a str,
        /// How far that was.
        cursor: Cursor,
    },
    /// Messages that were not delivered.
    Gap {
        /// The topic, decoded.
        topic: &'a str,
        /// Cursor of the last message before the gap.
        from: Cursor,
        /// Cursor of the last message in the gap: what comes after it is next.
        to: Cursor,
        /// How many messages.
        count: u64,
        /// Why.
        reason: GapReason,
    },
    /// A command was carried out.
    Ok {
        /// The command's token.
        token: &'a str,
        /// SUB: the head at that moment; PUB: the message's cursor.
        cursor: Option<Cursor>,
    },
    /// A command was not carried out.
    Err {
        /// The command's token, if it had one.
        token: Option<&'a str>,
        /// What is wrong.
        code: ErrCode,
        /// The same in English.
        text: &'a str,
    },
    /// The answer to PING.
    Pong {
        /// The token of the PING.
        token: Option<&'a str>,
    },
    /// The answer to STAT.
    Stat {
        /// The token of the STAT.
        token: Option<&'a str>,
        /// What is said of the connection.
        stat: Stat,
    },
    /// The server is about to close.
    Bye {
        /// The close code.
        code: u16,
        /// Why, in English.
        text: &'a str,
    },
}

/// Reads what a server said, the whole content of one message.
///
/// # Errors
/// [`Violation::BadLine`], or the violation of the word that is malformed.
pub fn parse_server(message: &mut [u8]) -> Result<ServerLine<'_>, Violation> {
    let (head, payload) = split(message);
    let payload = payload.map(|payload| &*payload);
    let head = decode_server_topic(head)?;
    let (verb, rest) = head.verb_and_rest;
    if payload.is_some() != (verb == "MSG") {
        return Err(Violation::BadLine);
    }
    let mut words = rest.split(' ');
    let mut next = || words.next().filter(|word| !word.is_empty());
    let line = match verb {
        "HI" => match (next(), next()) {
            (Some(CORECAST_V1), Some(session)) => ServerLine::Hi { session },
            _ => return Err(Violation::BadLine),
        },
        "MSG" => ServerLine::Msg {
            topic: head.topic,
            cursor: Cursor::parse(next().ok_or(Violation::BadLine)?)?,
            event: match next().filter(|word| !word.starts_with("of=")).map(|word| word.strip_prefix("event=")) {
                None => None,
                Some(Some(event)) if is_token(event.as_bytes()) => Some(event),
                Some(_) => return Err(Violation::BadEvent),
            },
            key: head.key,
            op: match head.tail.split(' ').find_map(|word| word.strip_prefix("op=")) {
                None => Op::Put,
                Some(op) => Op::parse(op)?,
            },
            payload: payload.unwrap_or_default(),
        },
        "EOS" => {
            let cursor = next().ok_or(Violation::BadLine)?;
            let at = Some(cursor).filter(|cursor| places::are_meant(cursor));
            // Places are more than a cursor holds: who wants them reads the line itself.
            let cursor = if at.is_some() { Cursor::default() } else { Cursor::parse(cursor)? };
            ServerLine::Eos { topic: head.topic, cursor }
        }
        "GAP" => ServerLine::Gap {
            topic: head.topic,
            from: Cursor::parse(next().ok_or(Violation::BadLine)?)?,
            to: Cursor::parse(next().ok_or(Violation::BadLine)?)?,
            count: next().and_then(|count| parse_decimal(count.as_bytes())).ok_or(Violation::BadLine)?,
            reason: next().and_then(GapReason::parse).ok_or(Violation::BadLine)?,
        },
        "OK" => {
            let token = next().ok_or(Violation::BadLine)?;
            let cursor = next().filter(|cursor| !places::are_meant(cursor));
            ServerLine::Ok { token, cursor: cursor.map(Cursor::parse).transpose()? }
        }
        "PONG" => ServerLine::Pong { token: next() },
        "STAT" => {
            let (mut token, mut stat) = (None, Stat::default());
            for word in rest.split(' ').filter(|word| !word.is_empty()) {
                let Some((name, value)) = word.split_once('=') else {
                    token = Some(word);
                    continue;
                };
                let number = parse_decimal(value.as_bytes()).ok_or(Violation::BadLine)?;
                match name {
                    "waiting" => stat.waiting = number,
                    "messages" => stat.messages = number,
                    "blocked" => stat.blocked = number != 0,
                    "bandwidth" => stat.bandwidth = u32::try_from(number).map_err(|_| Violation::BadLine)?,
                    _ => {}
                }
            }
            return Ok(ServerLine::Stat { token, stat });
        }
        // Their last part is English, with spaces.
        "ERR" => {
            let mut parts = rest.splitn(3, ' ');
            let token = parts.next().filter(|token| !token.is_empty()).ok_or(Violation::BadLine)?;
            return Ok(ServerLine::Err {
                token: (token != "-").then_some(token),
                code: parts.next().and_then(ErrCode::parse).ok_or(Violation::BadLine)?,
                text: parts.next().unwrap_or(""),
            });
        }
        "BYE" => {
            let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
            let code = parse_decimal(code.as_bytes()).and_then(|code| u16::try_from(code).ok());
            return Ok(ServerLine::Bye { code: code.ok_or(Violation::BadLine)?, text });
        }
        _ => return Err(Violation::BadLine),
    };
    Ok(line)
}

/// A server's header line with its topic decoded, if its verb has one.
struct ServerHead<'a> {
    topic: &'a str,
    /// The verb, and what follows verb and topic, up to key or op.
    verb_and_rest: (&'a str, &'a str),
    /// The key of a message, decoded; empty for none.
    key: &'a str,
    /// What follows its key.
    tail: &'a str,
}

fn decode_server_topic(head: &mut [u8]) -> Result<ServerHead<'_>, Violation> {
    let verb_len = memchr(b' ', head).unwrap_or(head.len());
    let (verb, rest) = head.split_at_mut(verb_len);
    let rest = rest.get_mut(1..).unwrap_or_default();
    let has_topic = matches!(&*verb, b"MSG" | b"GAP" | b"EOS");
    let (topic, rest): (&[u8], &mut [u8]) = if has_topic {
        let topic_len = memchr(b' ', rest).ok_or(Violation::BadLine)?;
        let (topic, rest) = rest.split_at_mut(topic_len);
        let len = percent::decode_in_place(topic)?;
        (&topic[..len], &mut rest[1..])
    } else {
        (&[], rest)
    };
    let (rest, key, tail): Parts<'_> = match &*verb {
        b"MSG" => split_key(rest)?,
        _ => (rest, &[], &[]),
    };
    let text = |bytes| core::str::from_utf8(bytes).map_err(|_| Violation::NotUtf8);
    let topic = text(topic)?;
    if has_topic {
        topic::validate_readable(topic)?;
    }
    let (key, tail) = (text(key)?, text(tail)?);
    if !key.is_empty() {
        check_key(key)?;
    }
    Ok(ServerHead { topic, verb_and_rest: (text(verb)?, text(rest)?), key, tail })
}

/// Words before a key, the key, and those behind it.
type Parts<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits the words of a message into those before its key, the key, decoded, and those behind it, among which is what it does. Without a
/// key they may begin with that.
fn split_key(rest: &mut [u8]) -> Result<Parts<'_>, Violation> {
    let Some(cursor_len) = memchr(b' ', rest) else { return Ok((rest, &[], &[])) };
    let mut at = cursor_len;
    while !(rest[at + 1..].starts_with(b"key=") || rest[at + 1..].starts_with(b"op=")) {
        match memchr(b' ', &rest[at + 1..]) {
            Some(len) => at += 1 + len,
            None => return Ok((rest, &[], &[])),
        }
    }
    let (before, behind) = rest.split_at_mut(at);
    let behind = &mut behind[1..];
    if behind.starts_with(b"op=") {
        return Ok((before, &[], behind));
    }
    let behind = &mut behind[4..];
    let key_len = memchr(b' ', behind).unwrap_or(behind.len());
    let (key, tail) = behind.split_at_mut(key_len);
    let len = percent::decode_in_place(key)?;
    if len == 0 {
        return Err(Violation::BadKey);
    }
    Ok((before, &key[..len], tail.get(1..).unwrap_or_default()))
}
