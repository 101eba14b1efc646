//! What a subscriber is told, on whatever transport: messages, gaps, cursors, signs of life.
//!
//! Owns: the words, and the reading of the JSON objects that several transports share. Who reads them is `following`.

use corecast::shard::{COME_BACK, Refusal};
use serde_json::Value;

use crate::base64::unbase64;
use crate::oracle::Cursor;
use crate::regime::TAKEN_BACK;

/// One thing that a transport tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Message(Message),
    Gap(Gap),
    /// Why the stream ends now.
    Refused(Refusal),
    /// Where the answer, or the stream so far, leaves each topic of the request, joined by commas.
    Cursors(String),
    /// Where the topic stood when the subscription began.
    Head(Cursor),
    /// Only that the other end lives.
    Life,
}

/// What a transport cannot carry of a message as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Nothing,
    /// An event stream knows one line end: CR and CRLF arrive as LF.
    LineEnds,
    /// The name of the event says that the payload is in base64.
    EventName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The transport does not say it if there is only one.
    pub(crate) topic: Option<String>,
    /// Event streams with several topics do not say it.
    pub(crate) cursor: Option<Cursor>,
    pub(crate) event: Option<String>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) loss: Loss,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) topic: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) count: u64,
    pub(crate) reason: String,
}

/// Reads an object of a stream: a message, a gap or a refusal, and nothing that is none of them.
pub(crate) fn object_of_stream(value: &Value) -> Item {
    let Some(told) = value.get("refused") else { return object(value) };
    assert_eq!(keys(value), ["refused"], "{value}");
    Item::Refused(refusal(told))
}

/// Reads the inside of a refusal: name and text are those of the table, and of a row that streams can meet.
pub(crate) fn refusal(told: &Value) -> Refusal {
    assert_eq!(keys(told), ["name", "text"], "{told}");
    let (name, words) = (word(told, "name"), word(told, "text"));
    let (text, after_s) = match words.rsplit_once(COME_BACK) {
        Some((text, after)) => (text, after.strip_suffix('s').and_then(|after| after.parse::<u32>().ok())),
        None => (&*words, None),
    };
    let met = |refusal: &&Refusal| {
        let row = refusal.row();
        let says_when = row.comes_back_s.is_some() == after_s.is_some();
        let taken_back = **refusal == Refusal::Expired && text == TAKEN_BACK;
        row.event && row.name == name && (row.text == text || taken_back) && says_when
    };
    *Refusal::ALL.iter().find(met).unwrap_or_else(|| panic!("a refusal that streams can meet, not {told}"))
}

/// Reads an object of a poll or a stream: a message or a gap, and nothing that is neither.
pub(crate) fn object(value: &Value) -> Item {
    if let Some(told) = value.get("gap") {
        assert_eq!(keys(value), ["gap"], "{value}");
        return Item::Gap(gap(told));
    }
    let unknown = keys(value).into_iter().find(|key| !["topic", "cursor", "event", "data", "encoding"].contains(key));
    assert_eq!(unknown, None, "{value}");
    let data = word(value, "data");
    let bytes = match value.get("encoding") {
        Some(encoding) => {
            assert_eq!(encoding, "base64", "{value}");
            let bytes = unbase64(&data);
            assert!(std::str::from_utf8(&bytes).is_err(), "what is text goes as text: {value}");
            bytes
        }
        None => data.into_bytes(),
    };
    Item::Message(Message {
        topic: Some(word(value, "topic")),
        cursor: Some(Cursor::parse(&word(value, "cursor"))),
        event: value.get("event").map(|_| word(value, "event")),
        bytes,
        loss: Loss::Nothing,
    })
}

/// Reads the inside of a gap.
pub(crate) fn gap(told: &Value) -> Gap {
    let mut found = keys(told);
    found.sort_unstable();
    assert_eq!(found, ["count", "from", "reason", "to", "topic"], "{told}");
    Gap {
        topic: word(told, "topic"),
        from: word(told, "from"),
        to: word(told, "to"),
        count: told["count"].as_u64().unwrap_or_else(|| panic!("a count in {told}")),
        reason: word(told, "reason"),
    }
}

/// Reads an array of objects.
pub(crate) fn array(text: &[u8]) -> Vec<Item> {
    let objects: Vec<Value> = serde_json::from_slice(text)
        .unwrap_or_else(|error| panic!("an array, not {:?}: {error}", String::from_utf8_lossy(text)));
    objects.iter().map(object).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap_or_else(|| panic!("an object, not {value}"));
    object.keys().map(String::as_str).collect()
}

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("a string {name} in {value}")).to_string()
}
