//! How to talk to a server that is not the engine: what to say on a WebSocket, what to wait for, and how to publish.
//!
//! Texts are templates: `{topic}` is the topic's name, `{id}` the connection's number, `{payload}` and `{bytes}` (its
//! length) what is published; `\r`, `\n`, `\t`, `\\` and `\x0f` stand for bytes. Names and numbers have a fixed length, so
//! that protocols with lengths in front can be spoken, too. What is answered is heard anywhere in a message; `^` before it and
//! `$` behind it bind it to the message's start and end.

use std::net::{SocketAddr, ToSocketAddrs as _};

use serde::{Deserialize, Serialize};

use super::CannotStart;

/// How to talk to another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Generic {
    /// Where the WebSocket is.
    pub path: String,
    /// The subprotocol to ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subprotocol: Option<String>,
    /// What is said and waited for first, in order: `>text` is said, `<text` is waited for. Publishers do so, too.
    pub talk: Vec<String>,
    /// What is said to subscribe; nothing if the path does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<String>,
    /// What confirms the subscription; without it, it is taken to be there at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribed: Option<String>,
    /// What is said whenever something is heard: pairs of what is heard and what is said.
    pub answers: Vec<(String, String)>,
    /// Frames are binary. They are in any case if what is said is not text.
    pub binary: bool,
    /// Where to publish, if not where subscribers connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_connect: Option<SocketAddr>,
    /// Where to POST to (`publish = "http"`).
    pub publish_path: String,
    /// Further header lines of a POST.
    pub publish_headers: Vec<String>,
    /// What is said to publish, or posted.
    pub publish: String,
}

impl Default for Generic {
    fn default() -> Generic {
        Generic {
            path: "/".to_owned(),
            subprotocol: None,
            talk: Vec::new(),
            subscribe: None,
            subscribed: None,
            answers: Vec::new(),
            binary: false,
            publish_connect: None,
            publish_path: "/".to_owned(),
            publish_headers: Vec::new(),
            publish: "{payload}".to_owned(),
        }
    }
}

/// Something that a template says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Topic,
    Id,
    Length,
}

/// A text with places for what differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: Vec<Part>,
    /// Behind the payload, if it has a place for one.
    after: Option<Vec<Part>>,
}

/// What fills the places of a template.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The connection's number.
    pub id: u32,
    /// Length of the payload.
    pub bytes: usize,
}

/// What is said or waited for on a connection, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Say this.
    Say(Template),
    /// Wait for this.
    Hear(Vec<u8>),
}

/// What is answered: bytes anywhere in a message, or bound to its ends, as a ping of one character must be, which
/// payloads hold too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    bytes: Vec<u8>,
    at_start: bool,
    at_end: bool,
}

/// Everything to be said and heard, read once.
#[derive(Clone, Debug)]
pub struct Script {
    /// Steps of a subscriber; the first so many are also a publisher's.
    pub steps: Vec<Step>,
    /// See there.
    pub publisher_steps: usize,
    /// What to say when something is heard.
    pub answers: Vec<(Heard, Template)>,
    /// What is said to publish, or posted.
    pub publish: Template,
    /// The WebSocket's path.
    pub path: Template,
    /// The POST's path.
    pub publish_path: Template,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Template, CannotStart> {
        let mut template = Template { before: Vec::new(), after: None };
        let mut rest = text;
        let places = [("{topic}", Part::Topic), ("{id}", Part::Id), ("{bytes}", Part::Length)];
        while let Some(first) = rest.chars().next() {
            if let Some(behind) = rest.strip_prefix("{payload}") {
                if template.after.replace(Vec::new()).is_some() {
                    return Err(wrong(text, "has two places for the payload"));
                }
                rest = behind;
                continue;
            }
            let parts = template.after.as_mut().unwrap_or(&mut template.before);
            if let Some((name, part)) = places.iter().find(|(name, _)| rest.starts_with(name)) {
                parts.push(part.clone());
                rest = &rest[name.len()..];
                continue;
            }
            let (bytes, used) = if first == '\\' {
                let (byte, used) = escape(rest).ok_or_else(|| wrong(text, "has a \\ that means nothing"))?;
                (vec![byte], used)
            } else {
                (rest.as_bytes()[..first.len_utf8()].to_vec(), first.len_utf8())
            };
            match parts.last_mut() {
                Some(Part::Bytes(last)) => last.extend(bytes),
                _ => parts.push(Part::Bytes(bytes)),
            }
            rest = &rest[used..];
        }
        Ok(template)
    }

    /// Appends what stands before the payload, or everything if it has no place for one.
    pub fn before(&self, filling: &Filling<'_>, out: &mut Vec<u8>) {
        fill(&self.before, filling, out);
    }

    /// Appends what stands behind the payload.
    pub fn after(&self, filling: &Filling<'_>, out: &mut Vec<u8>) {
        fill(self.after.as_deref().unwrap_or_default(), filling, out);
    }

    /// Returns its own bytes, with nothing in its places.
    fn literal(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.before(&Filling { topic: "", id: 0, bytes: 0 }, &mut out);
        out
    }

    /// Says whether there is a place for a payload.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        self.after.is_some()
    }

    /// Says whether it names a topic.
    #[must_use]
    pub fn has_topic(&self) -> bool {
        self.before.iter().chain(self.after.iter().flatten()).any(|part| *part == Part::Topic)
    }

    /// Says whether its own bytes are text.
    #[must_use]
    pub fn is_text(&self) -> bool {
        let plain = |bytes: &Vec<u8>| {
            std::str::from_utf8(bytes).is_ok_and(|text| text.chars().all(|c| !c.is_control() || "\r\n\t".contains(c)))
        };
        let mut parts = self.before.iter().chain(self.after.iter().flatten());
        parts.all(|part| !matches!(part, Part::Bytes(bytes) if !plain(bytes)))
    }
}

impl Heard {
    /// Reads what is to be heard; a `^` or `$` of its own is written `\x5e` or `\x24`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Heard, CannotStart> {
        let start = text.strip_prefix('^');
        let rest = start.unwrap_or(text);
        let end = rest.strip_suffix('$');
        let bytes = Template::parse(end.unwrap_or(rest))?.literal();
        Ok(Heard { bytes, at_start: start.is_some(), at_end: end.is_some() })
    }

    /// Says whether a message has it.
    #[must_use]
    pub fn is_in(&self, message: &[u8]) -> bool {
        let Heard { bytes, at_start, at_end } = self;
        match (at_start, at_end) {
            (true, true) => message == bytes,
            (true, false) => message.starts_with(bytes),
            (false, true) => message.ends_with(bytes),
            (false, false) => message.windows(bytes.len().max(1)).any(|window| window.starts_with(bytes)),
        }
    }
}

fn fill(parts: &[Part], filling: &Filling<'_>, out: &mut Vec<u8>) {
    use std::io::Write as _;
    for part in parts {
        match part {
            Part::Bytes(bytes) => out.extend_from_slice(bytes),
            Part::Topic => out.extend_from_slice(filling.topic.as_bytes()),
            Part::Id => write!(out, "{:08}", filling.id).expect("a vector takes everything"),
            Part::Length => write!(out, "{}", filling.bytes).expect("a vector takes everything"),
        }
    }
}

/// Reads an escape at the start of a text: its byte, and its length.
fn escape(text: &str) -> Option<(u8, usize)> {
    match text.as_bytes().get(1)? {
        b'r' => Some((b'\r', 2)),
        b'n' => Some((b'\n', 2)),
        b't' => Some((b'\t', 2)),
        b'\\' => Some((b'\\', 2)),
        b'x' => Some((u8::from_str_radix(text.get(2..4)?, 16).ok()?, 4)),
        _ => None,
    }
}

fn wrong(text: &str, what: &str) -> CannotStart {
    CannotStart::new(
        format!("the template {text:?} {what}"),
        r"use {topic}, {id}, {bytes}, {payload}, and \r \n \t \\ \x0f",
    )
}

impl Generic {
    /// Reads all templates.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn script(&self) -> Result<Script, CannotStart> {
        let bytes = |text: &str| Ok(Template::parse(text)?.literal());
        let mut steps = Vec::new();
        for step in &self.talk {
            steps.push(match step.split_at_checked(1) {
                Some((">", text)) => Step::Say(Template::parse(text)?),
                Some(("<", text)) => Step::Hear(bytes(text)?),
                _ => return Err(wrong(step, "neither says (>) nor waits for (<) anything")),
            });
        }
        let publisher_steps = steps.len();
        if let Some(text) = &self.subscribe {
            steps.push(Step::Say(Template::parse(text)?));
        }
        if let Some(text) = &self.subscribed {
            steps.push(Step::Hear(bytes(text)?));
        }
        let answer = |(heard, say): &(String, String)| Ok((Heard::parse(heard)?, Template::parse(say)?));
        Ok(Script {
            steps,
            publisher_steps,
            answers: self.answers.iter().map(answer).collect::<Result<_, CannotStart>>()?,
            publish: Template::parse(&self.publish)?,
            path: Template::parse(&self.path)?,
            publish_path: Template::parse(&self.publish_path)?,
        })
    }

    /// Checks what can be checked without the server.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn check(&self, posts: bool) -> Result<(), CannotStart> {
        let script = self.script()?;
        if !script.publish.has_payload() {
            return Err(wrong(&self.publish, "has no place for the payload"));
        }
        let subscribes = self.subscribe.as_ref().map(|text| Template::parse(text)).transpose()?;
        if !script.path.has_topic() && !subscribes.is_some_and(|template| template.has_topic()) {
            return Err(CannotStart::new(
                "nobody says which topic is subscribed to",
                "put {topic} into the URL or the subscribe template",
            ));
        }
        if !posts && script.path.has_topic() {
            return Err(CannotStart::new(
                "one WebSocket cannot publish to many paths",
                "publish with --publish-url http://...",
            ));
        }
        Ok(())
    }
}

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `ws` or `http`.
    pub scheme: String,
    /// The same over TLS.
    pub is_tls: bool,
    /// Where it is.
    pub address: SocketAddr,
    /// What is there.
    pub path: String,
}

impl Url {
    /// Reads a URL and looks its host up.
    ///
    /// # Errors
    /// What is wrong with it, or why its host is not known.
    pub fn resolve(text: &str) -> Result<Url, CannotStart> {
        let wrong =
            |what: String| CannotStart::new(format!("the URL {text} {what}"), "give ws://host:port/path or http://...");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("has no scheme".to_owned()))?;
        let is_tls = ["wss", "https"].contains(&scheme);
        let plain = if is_tls { &scheme[..scheme.len() - 1] } else { scheme };
        if !["ws", "http"].contains(&plain) {
            return Err(wrong(format!("is {scheme}, and only ws, http, wss and https are spoken here")));
        }
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_port = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:{}", if is_tls { 443 } else { 80 })
        };
        let mut addresses = with_port.to_socket_addrs().map_err(|error| wrong(format!("leads nowhere: {error}")))?;
        let address = addresses.next().ok_or_else(|| wrong("leads nowhere".to_owned()))?;
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Ok(Url { scheme: plain.to_owned(), is_tls, address, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> (String, String) {
        let template = Template::parse(text).unwrap();
        let filling = Filling { topic: "t/1", id: 7, bytes: 99 };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        template.before(&filling, &mut before);
        template.after(&filling, &mut after);
        (String::from_utf8(before).unwrap(), String::from_utf8(after).unwrap())
    }

    /// Places are filled, escapes become bytes, and other braces stand for themselves.
    #[test]
    fn templates_are_filled() {
        assert_eq!(filled(r"PUB {topic} {bytes}\r\n{payload}\r\n"), ("PUB t/1 99\r\n".to_owned(), "\r\n".to_owned()));
        let json = r#"{"publish":{"channel":"{topic}","data":"{payload}"}}"#;
        let expected = (r#"{"publish":{"channel":"t/1","data":""#.to_owned(), r#""}}"#.to_owned());
        assert_eq!(filled(json), expected);
        assert_eq!(filled(r"\x41\\\t{id}é").0, "A\\\t00000007é");
        assert!(Template::parse(r"SUB {topic}\r\n").unwrap().is_text());
        assert!(!Template::parse(r"\x10\x00").unwrap().is_text());
    }

    /// What is answered stands where it was said to: anywhere, or at an end, or is all there is.
    #[test]
    fn what_is_heard_is_bound_to_its_place() {
        let places = [b"2".as_slice(), b"20", b"02", b"020", b"0", b""];
        for (text, expected) in [
            ("2", [true, true, true, true, false, false]),
            ("^2", [true, true, false, false, false, false]),
            ("2$", [true, false, true, false, false, false]),
            ("^2$", [true, false, false, false, false, false]),
            ("^$", [false, false, false, false, false, true]),
        ] {
            let heard = Heard::parse(text).unwrap();
            assert_eq!(places.map(|message| heard.is_in(message)), expected, "{text}");
        }
        let own = Heard::parse(r"\x5e\r\x24").unwrap();
        assert!(own.is_in(b"1^\r$1") && !own.is_in(b"\r"));
        assert!(Heard::parse(r"^\q$").is_err());
    }

    /// What is no template is refused.
    #[test]
    fn wrong_templates_are_refused() {
        for text in [r"\q", r"\x4", r"\xzz", r"\", "{payload}{payload}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        let check = |change: fn(&mut Generic), posts| {
            let mut generic = Generic { path: "/{topic}".to_owned(), ..Generic::default() };
            change(&mut generic);
            generic.check(posts).map_err(|reason| reason.cause)
        };
        assert_eq!(check(|_| {}, true), Ok(()));
        assert!(check(|_| {}, false).unwrap_err().contains("many paths"));
        assert!(check(|generic| generic.publish = "x".to_owned(), true).unwrap_err().contains("no place"));
        assert!(check(|generic| generic.path = "/".to_owned(), true).unwrap_err().contains("which topic"));
        assert!(check(|generic| generic.talk = vec!["hi".to_owned()], true).unwrap_err().contains("neither says"));
    }

    /// URLs are taken apart; what is not spoken here is refused.
    #[test]
    fn urls_are_resolved() {
        let url = Url::resolve("ws://127.0.0.1:8000/a/{topic}?x=1").unwrap();
        assert_eq!((&*url.scheme, url.address.port(), &*url.path), ("ws", 8000, "/a/{topic}?x=1"));
        assert_eq!(Url::resolve("http://127.0.0.1").unwrap().address.port(), 80);
        let url = Url::resolve("wss://127.0.0.1/").unwrap();
        assert_eq!((&*url.scheme, url.is_tls, url.address.port()), ("ws", true, 443));
        for text in ["127.0.0.1:80", "s://127.0.0.1/", "ws://127.0.0.1:99999/", "ws:///x"] {
            assert!(Url::resolve(text).is_err(), "{text}");
        }
    }
}
