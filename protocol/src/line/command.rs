//! What clients say: SUB, UNSUB, PUB, AUTH, PING.
//!
//! Owns the reading and the writing of commands. Strict: words are separated by one space, an unknown or repeated option is
//! an error; but the token of a command that is wrong is still looked for, so that the error finds its way back.

use core::ops::Range;

use memchr::memchr;

use super::{AUTH_BYTES_MAX, ErrCode, HEADER_BYTES_MAX, SUB_BYTES_MAX, split};
use crate::cursor::Since;
use crate::http::credential::{Credential, Kind};
use crate::message::{Op, check_event, check_key, is_token};
use crate::percent;
use crate::places;
use crate::producer::{Produced, check_producer, parse_number};
use crate::topic;
use crate::violation::Violation;
use crate::write::{Writer, parse_decimal};

/// What a client wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Subscribe, or change the options of a subscription.
    Sub {
        /// The topic, decoded and valid for reading.
        topic: &'a str,
        /// Where to start; none if the command does not say, which for a new subscription means the default.
        since: Option<Since>,
        /// The same for a pattern, if the command says [places]; sound.
        places: Option<&'a str>,
        /// Whether only the newest message matters; none if the command does not say.
        conflate: Option<bool>,
        /// At most one message in so many milliseconds, 0 is no limit; none if the command does not say.
        every_ms: Option<u32>,
        /// What part of the messages is wanted, and in which form.
        view: View<'a>,
        /// How fast they are wanted.
        pace: Pace,
        /// The token for the answer, if one is wanted.
        id: Option<&'a str>,
    },
    /// End a subscription.
    Unsub {
        /// The topic, decoded and valid for reading.
        topic: &'a str,
        /// The token for the answer, if one is wanted.
        id: Option<&'a str>,
    },
    /// Publish.
    Pub {
        /// The topic, decoded and valid for publishing.
        topic: &'a str,
        /// The event name, if there is one.
        event: Option<&'a str>,
        /// What it is a value of, if it says so; valid.
        key: Option<&'a str>,
        /// What it does to that value; none if the command does not say.
        op: Option<Op>,
        /// Whose message it is, and which one, if it is numbered.
        produced: Option<Produced<'a>>,
        /// The token for the answer, if one is wanted.
        id: Option<&'a str>,
        /// The payload.
        payload: &'a mut [u8],
    },
    /// Say who it is, from now on.
    Auth {
        /// What it shows.
        credential: Credential<'a>,
        /// The token for the answer, if one is wanted.
        id: Option<&'a str>,
    },
    /// Change how the connection is served, from now on.
    Set {
        /// Bytes a second that it is sent; 0 is no limit of its own.
        bandwidth: u32,
        /// The token for the answer, if one is wanted.
        id: Option<&'a str>,
    },
    /// Say how the connection is doing.
    Stat {
        /// What the answer repeats.
        token: Option<&'a str>,
    },
    /// Answer with a pong.
    Ping {
        /// What the pong repeats.
        token: Option<&'a str>,
    },
}

/// What part of its messages a subscriber wants, as it says it: nothing is checked but that the words are UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View<'a> {
    /// The members of records that are wanted, joined by commas; none: all.
    pub fields: Option<&'a str>,
    /// Which messages are wanted, as a selector; none: all.
    pub selector: Option<&'a str>,
    /// Only what changed since what it has is wanted.
    pub delta: bool,
}

impl View<'_> {
    /// Says whether it is everything, whole.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.fields.is_none() && self.selector.is_none() && !self.delta
    }
}

/// How fast a subscriber wants its messages, besides `conflate` and `every`; none of each: as the rules say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// All that came in so many milliseconds is sent together; 0: at once.
    pub batch_ms: Option<u32>,
    /// At most so many bytes a second; 0 is no limit.
    pub rate: Option<u32>,
    /// So many messages wait for it at most; 0 is no limit of its own.
    pub queue: Option<u32>,
}

/// What is wrong with a command, ready for an ERR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandError<'a> {
    /// The code.
    pub code: ErrCode,
    /// The command's token, if it could be made out.
    pub token: Option<&'a str>,
    /// What is wrong, in English.
    pub text: &'static str,
}

type Wrong = (ErrCode, &'static str);

const fn bad(text: &'static str) -> Wrong {
    (ErrCode::BadCommand, text)
}

/// Reads a command, the whole content of one message.
///
/// # Errors
/// [`CommandError`], with the command's token if it has one.
pub fn parse(message: &mut [u8]) -> Result<Command<'_>, CommandError<'_>> {
    let (head, payload) = split(message);
    // The words are read before the topic is decoded in place, which moves none of the others.
    let mut words = read_words(head);
    let token = words.id.clone();
    let checked = words
        .wrong
        .map_or(Ok(()), Err)
        .and_then(|()| check(head, &words, payload.as_deref()))
        .and_then(|()| decode_values(head, &mut words))
        .and_then(|()| decode_topic(head, &words));
    let head: &[u8] = head;
    let topic = match checked {
        Ok(topic) => topic,
        Err((code, text)) => {
            return Err(CommandError { code, token: token.and_then(|token| word(head, token)), text });
        }
    };
    let topic = word(head, topic).unwrap_or("");
    let id = token.and_then(|token| word(head, token));
    Ok(match words.verb {
        Verb::Sub => {
            let text = |range: Option<Range<usize>>| range.and_then(|range| word(head, range));
            let view =
                View { fields: text(words.fields), selector: text(words.selector), delta: words.delta == Some(true) };
            let places = text(words.places);
            let Words { since, conflate, every_ms, pace, .. } = words;
            Command::Sub { topic, since, places, conflate, every_ms, view, pace, id }
        }
        Verb::Unsub => Command::Unsub { topic, id },
        Verb::Pub => Command::Pub {
            topic,
            event: words.event.and_then(|event| word(head, event)),
            key: words.key_of.and_then(|key| word(head, key)),
            op: words.op,
            produced: Produced::of(words.producer.and_then(|name| word(head, name)), words.number).unwrap_or(None),
            id,
            payload: payload.unwrap_or_default(),
        },
        Verb::Auth => {
            let secret = word(head, words.topic).unwrap_or("");
            let kind = if words.key { Kind::Key } else { Kind::Token };
            Command::Auth { credential: Credential { kind, secret }, id }
        }
        Verb::Set => Command::Set { bandwidth: words.bandwidth.unwrap_or(0), id },
        Verb::Stat => Command::Stat { token: id },
        Verb::Ping => Command::Ping { token: id },
    })
}

/// A word that was found to be UTF-8.
fn word(head: &[u8], range: Range<usize>) -> Option<&str> {
    core::str::from_utf8(&head[range]).ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Sub,
    Unsub,
    Pub,
    Auth,
    Set,
    Stat,
    Ping,
}

impl Verb {
    /// Says whether its first word is a topic.
    const fn has_topic(self) -> bool {
        matches!(self, Verb::Sub | Verb::Unsub | Verb::Pub)
    }
}

/// The words of a command, by where they stand.
struct Words {
    verb: Verb,
    /// Of AUTH the credential.
    topic: Range<usize>,
    /// The value of `id=`; for PING the token itself.
    id: Option<Range<usize>>,
    event: Option<Range<usize>>,
    producer: Option<Range<usize>>,
    number: Option<u64>,
    since: Option<Since>,
    places: Option<Range<usize>>,
    every_ms: Option<u32>,
    conflate: Option<bool>,
    fields: Option<Range<usize>>,
    selector: Option<Range<usize>>,
    delta: Option<bool>,
    pace: Pace,
    bandwidth: Option<u32>,
    key_of: Option<Range<usize>>,
    op: Option<Op>,
    /// The credential is a key.
    key: bool,
    /// The first thing that is wrong. Reading goes on, to find the token for the answer.
    wrong: Option<Wrong>,
}

fn read_words(head: &[u8]) -> Words {
    let mut words = Words {
        verb: Verb::Ping,
        topic: 0..0,
        id: None,
        event: None,
        producer: None,
        number: None,
        since: None,
        places: None,
        every_ms: None,
        conflate: None,
        fields: None,
        selector: None,
        delta: None,
        pace: Pace::default(),
        bandwidth: None,
        key_of: None,
        op: None,
        key: false,
        wrong: None,
    };
    // A carriage return before the line feed, or at the end of a command typed into a terminal, is forgiven in commands
    // that carry nothing.
    let head = match head {
        [line @ .., b'\r'] if !line.starts_with(b"PUB ") => line,
        line => line,
    };
    let mut at = 0;
    for (index, found) in head.split(|&byte| byte == b' ').enumerate() {
        let range = at..at + found.len();
        at = range.end + 1;
        let read = match index {
            0 => words.verb(found),
            1 if matches!(words.verb, Verb::Ping | Verb::Stat) => words.token(found, range),
            1 if words.verb == Verb::Set => words.option(found, range),
            1 => {
                words.topic = range;
                Ok(())
            }
            _ if matches!(words.verb, Verb::Ping | Verb::Stat) => Err(bad("PING and STAT take one token")),
            _ => words.option(found, range),
        };
        if let Err(wrong) = read {
            words.wrong.get_or_insert(wrong);
        }
    }
    words
}

impl Words {
    fn verb(&mut self, found: &[u8]) -> Result<(), Wrong> {
        // For an unknown verb reading goes on as for SUB, which has all options: one of them may be the token.
        (self.verb, self.wrong) = match found {
            b"SUB" => (Verb::Sub, None),
            b"UNSUB" => (Verb::Unsub, None),
            b"PUB" => (Verb::Pub, None),
            b"AUTH" => (Verb::Auth, None),
            b"SET" => (Verb::Set, None),
            b"STAT" => (Verb::Stat, None),
            b"PING" => (Verb::Ping, None),
            _ => (Verb::Sub, Some(bad("the command is not SUB, UNSUB, PUB, AUTH, SET, STAT or PING"))),
        };
        Ok(())
    }

    fn token(&mut self, found: &[u8], range: Range<usize>) -> Result<(), Wrong> {
        if self.id.is_some() {
            return Err(bad("an option is given twice"));
        }
        if !is_token(found) {
            return Err(bad("a token is 1 to 64 visible ASCII characters"));
        }
        self.id = Some(range);
        Ok(())
    }

    fn option(&mut self, found: &[u8], range: Range<usize>) -> Result<(), Wrong> {
        let name_len = memchr(b'=', found).unwrap_or(found.len());
        let (name, value) = (&found[..name_len], found.get(name_len + 1..));
        let twice = match (self.verb, name, value) {
            (_, b"id", Some(value)) => return self.token(value, range.start + 3..range.end),
            (Verb::Sub, b"since", Some([b'~', ..])) => {
                let value = range.start + "since=".len()..range.end;
                let places = word(found, "since=".len()..found.len());
                if places.is_none_or(|places| places::parse(places).is_err()) {
                    return Err(bad(Violation::BadSince.text()));
                }
                self.places.replace(value).is_some() || self.since.is_some()
            }
            (Verb::Sub, b"since", Some(value)) => {
                let since = core::str::from_utf8(value).ok().and_then(|text| Since::parse(text).ok());
                self.since.replace(since.ok_or(bad(Violation::BadSince.text()))?).is_some() || self.places.is_some()
            }
            (Verb::Sub, b"every", Some(value)) => {
                self.every_ms.replace(number(value, "every is not a number of milliseconds")?).is_some()
            }
            (Verb::Sub, b"batch", Some(value)) => {
                self.pace.batch_ms.replace(number(value, "batch is not a number of milliseconds")?).is_some()
            }
            (Verb::Sub, b"rate", Some(value)) => {
                self.pace.rate.replace(number(value, "rate is not a number of bytes a second")?).is_some()
            }
            (Verb::Sub, b"queue", Some(value)) => {
                self.pace.queue.replace(number(value, "queue is not a number of messages")?).is_some()
            }
            (Verb::Sub, b"conflate", value) => {
                let conflate = switch(value, "conflate is 1 (or true) or 0 (or false)")?;
                self.conflate.replace(conflate).is_some()
            }
            (Verb::Sub, b"delta", value) => {
                let delta = switch(value, "delta is 1 (or true) or 0 (or false)")?;
                self.delta.replace(delta).is_some()
            }
            (Verb::Sub, b"fields", Some(_)) => self.fields.replace(range.start + 7..range.end).is_some(),
            (Verb::Sub, b"where", Some(_)) => self.selector.replace(range.start + 6..range.end).is_some(),
            (Verb::Set, b"bandwidth", Some(value)) => {
                self.bandwidth.replace(number(value, "bandwidth is not a number of bytes a second")?).is_some()
            }
            (Verb::Pub, b"key", Some(_)) => self.key_of.replace(range.start + 4..range.end).is_some(),
            (Verb::Pub, b"op", Some(value)) => {
                let op = core::str::from_utf8(value).map_err(|_| Violation::BadOp).and_then(Op::parse);
                self.op.replace(op.map_err(|violation| bad(violation.text()))?).is_some()
            }
            (Verb::Auth, b"key", None) => core::mem::replace(&mut self.key, true),
            (Verb::Pub, b"event", Some(value)) => {
                let event = core::str::from_utf8(value).map_err(|_| Violation::BadEvent);
                event.and_then(check_event).map_err(|violation| bad(violation.text()))?;
                self.event.replace(range.start + 6..range.end).is_some()
            }
            (Verb::Pub, b"producer", Some(value)) => {
                let name = core::str::from_utf8(value).map_err(|_| Violation::BadProducer);
                name.and_then(check_producer).map_err(|violation| bad(violation.text()))?;
                self.producer.replace(range.start + 9..range.end).is_some()
            }
            (Verb::Pub, b"n", Some(value)) => {
                self.number.replace(parse_number(value).map_err(|violation| bad(violation.text()))?).is_some()
            }
            (_, [], None) => return Err(bad("words are separated by one space")),
            _ => return Err(bad("an option is not known")),
        };
        if twice {
            return Err(bad("an option is given twice"));
        }
        Ok(())
    }
}

/// Reads a number of an option.
fn number(value: &[u8], otherwise: &'static str) -> Result<u32, Wrong> {
    parse_decimal(value).and_then(|number| u32::try_from(number).ok()).ok_or(bad(otherwise))
}

/// Reads a switch; its name alone means yes.
fn switch(value: Option<&[u8]>, otherwise: &'static str) -> Result<bool, Wrong> {
    match value {
        None | Some(b"1" | b"true") => Ok(true),
        Some(b"0" | b"false") => Ok(false),
        Some(_) => Err(bad(otherwise)),
    }
}

/// Checks what needs more than one word.
fn check(head: &[u8], words: &Words, payload: Option<&[u8]>) -> Result<(), Wrong> {
    match words.verb {
        Verb::Auth if head.len() > AUTH_BYTES_MAX => return Err(bad("the credential is longer than 8192 bytes")),
        Verb::Sub if head.len() > SUB_BYTES_MAX => return Err(bad("the header line of SUB is longer than 4096 bytes")),
        Verb::Unsub | Verb::Pub | Verb::Set | Verb::Stat | Verb::Ping if head.len() > HEADER_BYTES_MAX => {
            return Err(bad("the header line is longer than 1024 bytes"));
        }
        _ => {}
    }
    match (words.verb, payload) {
        (Verb::Pub, None) => return Err(bad("PUB needs a line feed and a payload behind it")),
        (Verb::Pub, Some(_)) | (_, None | Some([])) => {}
        _ => return Err(bad("only PUB carries a payload")),
    }
    match words.verb {
        Verb::Set if words.bandwidth.is_none() => Err(bad("SET needs what is set: bandwidth=<bytes a second>")),
        Verb::Pub if words.producer.is_some() != words.number.is_some() => Err(bad(Violation::HalfNumbered.text())),
        verb if verb.has_topic() && words.topic.is_empty() => Err(bad("the topic is missing")),
        Verb::Auth if !head[words.topic.clone()].iter().all(u8::is_ascii_graphic) || words.topic.is_empty() => {
            Err(bad("AUTH needs a credential: visible ASCII characters"))
        }
        _ => Ok(()),
    }
}

/// Decodes values of options where they stand.
fn decode_values(head: &mut [u8], words: &mut Words) -> Result<(), Wrong> {
    for range in [&mut words.fields, &mut words.selector, &mut words.key_of].into_iter().flatten() {
        let len = percent::decode_in_place(&mut head[range.clone()]).map_err(|violation| bad(violation.text()))?;
        range.end = range.start + len;
    }
    match words.key_of.clone() {
        Some(range) => {
            let key = word(head, range).ok_or(Violation::BadKey).and_then(check_key);
            key.map_err(|violation| bad(violation.text()))
        }
        None => Ok(()),
    }
}

/// Decodes the topic where it stands, and checks it.
fn decode_topic(head: &mut [u8], words: &Words) -> Result<Range<usize>, Wrong> {
    if !words.verb.has_topic() {
        return Ok(0..0);
    }
    let start = words.topic.start;
    let wrong = |violation: Violation| (ErrCode::BadTopic, violation.text());
    let len = percent::decode_in_place(&mut head[words.topic.clone()]).map_err(wrong)?;
    let topic = start..start + len;
    let text = word(head, topic.clone()).ok_or(wrong(Violation::NotUtf8))?;
    let checked = match words.verb {
        Verb::Pub => topic::validate(text),
        _ => topic::validate_readable(text),
    };
    checked.map_err(|error| wrong(error.into()))?;
    Ok(topic)
}

/// Writes `SUB`; the options that are none are left out.
#[allow(clippy::too_many_arguments)]
pub fn sub(
    w: &mut Writer<'_>,
    topic: &str,
    since: Option<Since>,
    conflate: Option<bool>,
    every_ms: Option<u32>,
    view: View<'_>,
    pace: Pace,
    id: Option<&str>,
) {
    w.text("SUB ");
    percent::encode_topic_word(topic, w);
    if let Some(since) = since {
        w.text(" since=");
        since.write(w);
    }
    if let Some(conflate) = conflate {
        w.text(if conflate { " conflate" } else { " conflate=0" });
    }
    if let Some(every_ms) = every_ms {
        w.text(" every=");
        w.decimal(u64::from(every_ms));
    }
    for (name, value) in [(" fields=", view.fields), (" where=", view.selector)] {
        if let Some(value) = value {
            w.text(name);
            percent::encode_topic_word(value, w);
        }
    }
    if view.delta {
        w.text(" delta");
    }
    for (name, value) in [(" batch=", pace.batch_ms), (" rate=", pace.rate), (" queue=", pace.queue)] {
        if let Some(value) = value {
            w.text(name);
            w.decimal(u64::from(value));
        }
    }
    option(w, " id=", id);
}

/// Writes `UNSUB`.
pub fn unsub(w: &mut Writer<'_>, topic: &str, id: Option<&str>) {
    w.text("UNSUB ");
    percent::encode_topic_word(topic, w);
    option(w, " id=", id);
}

/// Writes the header line of `PUB` with its line feed; the payload comes behind it.
pub fn publish_head(
    w: &mut Writer<'_>,
    topic: &str,
    event: Option<&str>,
    key: Option<&str>,
    op: Option<Op>,
    produced: Option<Produced<'_>>,
    id: Option<&str>,
) {
    w.text("PUB ");
    percent::encode_topic_word(topic, w);
    option(w, " event=", event);
    if let Some(key) = key {
        w.text(" key=");
        percent::encode_topic_word(key, w);
    }
    option(w, " op=", op.map(Op::as_str));
    if let Some(Produced { producer, number }) = produced {
        option(w, " producer=", Some(producer));
        w.text(" n=");
        w.decimal(number);
    }
    option(w, " id=", id);
    w.byte(b'\n');
}

/// Writes `AUTH`.
pub fn auth(w: &mut Writer<'_>, credential: Credential<'_>, id: Option<&str>) {
    w.text("AUTH ");
    w.text(credential.secret);
    if credential.kind == Kind::Key {
        w.text(" key");
    }
    option(w, " id=", id);
}

/// Writes `SET bandwidth=<bytes a second>`.
pub fn set_bandwidth(w: &mut Writer<'_>, bandwidth: u32, id: Option<&str>) {
    w.text("SET bandwidth=");
    w.decimal(u64::from(bandwidth));
    option(w, " id=", id);
}

/// Writes `STAT`.
pub fn stat(w: &mut Writer<'_>, token: Option<&str>) {
    w.text("STAT");
    option(w, " ", token);
}

/// Writes `PING`.
pub fn ping(w: &mut Writer<'_>, token: Option<&str>) {
    w.text("PING");
    option(w, " ", token);
}

fn option(w: &mut Writer<'_>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        w.text(name);
        w.text(value);
    }
}
