//! JSON objects: messages and gaps as polls, streams and scripts carry them.

use corecast_protocol::json;
use corecast_protocol::line::GapReason;
use corecast_protocol::message::{Op, check_key};
use corecast_protocol::{Cursor, topic, valid_event};
use serde_json::Value;

use super::{Gap, Item, Message};

/// Letters of a text of the engine's that are taken; it has fewer.
const TEXT_LETTERS_MAX: usize = 500;

/// Reads one object of a stream: a message, `{"gap":{...}}`, or what no poll has, `{"snapshot_end":{...}}` and `{"refused":{...}}`.
pub(super) fn item(text: &[u8]) -> Result<Item, String> {
    let value: Value = value(text)?;
    match (value.get("refused"), value.get("snapshot_end")) {
        (Some(inside), _) => refused_of_value(inside),
        (None, Some(inside)) => end_of_value(inside),
        (None, None) => of_value(&value),
    }
}

/// Reads the array that a poll is answered with.
pub(in crate::cli) fn items(text: &[u8]) -> Result<Vec<Item>, String> {
    let values: Vec<Value> =
        serde_json::from_slice(text).map_err(|error| format!("that is not an array in JSON: {error}"))?;
    values.iter().map(of_value).collect()
}

/// Reads the script that a JSONP request with this callback is answered with.
pub(in crate::cli) fn script(text: &[u8], callback: &str) -> Result<Vec<Item>, String> {
    let start = format!("/**/{callback}(");
    let inside = text.strip_prefix(start.as_bytes()).and_then(|text| text.strip_suffix(b");"));
    items(inside.ok_or_else(|| format!("the script does not call {callback}"))?)
}

/// Reads what stands inside of `{"gap":...}`, and behind `data:` of a gap's event.
pub(super) fn gap(text: &[u8]) -> Result<Item, String> {
    gap_of_value(&value(text)?)
}

/// Reads what stands inside of `{"refused":...}`, and behind `data:` of a refusal's event.
pub(super) fn refused(text: &[u8]) -> Result<Item, String> {
    refused_of_value(&value(text)?)
}

/// Reads what stands inside of `{"snapshot_end":...}`, and behind `data:` of its event.
pub(super) fn snapshot_end(text: &[u8]) -> Result<Item, String> {
    end_of_value(&value(text)?)
}

fn value(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| format!("that is not JSON: {error}"))
}

/// Decodes base64.
pub(super) fn base64(mut text: Vec<u8>) -> Result<Vec<u8>, String> {
    let length = json::decode_base64(&mut text).ok_or("that is not base64")?;
    text.truncate(length);
    Ok(text)
}

/// Reads a cursor.
pub(super) fn cursor(text: &str) -> Result<Cursor, String> {
    Cursor::parse(text).map_err(|_| format!("`{}` is not a cursor", shown(text)))
}

/// Checks the name of a topic.
pub(super) fn topic(text: &str) -> Result<String, String> {
    topic::validate_subscribe(text).map_err(|error| format!("`{}` is not a topic: {}", shown(text), error.text()))?;
    Ok(text.to_owned())
}

/// Checks the name of an event.
pub(super) fn event(text: &str) -> Result<String, String> {
    if valid_event(text) { Ok(text.to_owned()) } else { Err(format!("`{}` is not an event's name", shown(text))) }
}

/// Checks a key.
pub(super) fn key(text: &str) -> Result<String, String> {
    check_key(text).map_err(|violation| format!("`{}`: {}", shown(text), violation.text()))?;
    Ok(text.to_owned())
}

/// Reads what a message does to the value of its key.
pub(super) fn op(text: &str) -> Result<Op, String> {
    Op::parse(text).map_err(|violation| format!("`{}`: {}", shown(text), violation.text()))
}

/// A stranger's text, fit for a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

fn of_value(value: &Value) -> Result<Item, String> {
    if let Some(inside) = value.get("gap") {
        return gap_of_value(inside);
    }
    let data = text(value, "data")?.as_bytes().to_vec();
    let payload = match value.get("encoding") {
        None => data,
        Some(encoding) if encoding == "base64" => base64(data)?,
        Some(encoding) => return Err(format!("the encoding {} is not known", shown(&encoding.to_string()))),
    };
    Ok(Item::Message(Message {
        topic: topic(text(value, "topic")?)?,
        cursor: cursor(text(value, "cursor")?)?,
        event: value.get("event").map(|_| event(text(value, "event")?)).transpose()?,
        key: value.get("key").map_or(Ok(String::new()), |_| key(text(value, "key")?))?,
        op: value.get("op").map_or(Ok(Op::Put), |_| op(text(value, "op")?))?,
        payload,
    }))
}

fn end_of_value(value: &Value) -> Result<Item, String> {
    Ok(Item::SnapshotEnd { topic: topic(text(value, "topic")?)?, cursor: cursor(text(value, "cursor")?)? })
}

fn gap_of_value(value: &Value) -> Result<Item, String> {
    let reason = text(value, "reason")?;
    Ok(Item::Gap(Gap {
        topic: topic(text(value, "topic")?)?,
        to: cursor(text(value, "to")?)?,
        count: value["count"].as_u64().ok_or("\"count\" is not a number")?,
        reason: GapReason::parse(reason).ok_or_else(|| format!("`{}` is no reason for a gap", shown(reason)))?,
    }))
}

fn refused_of_value(value: &Value) -> Result<Item, String> {
    let (name, text) = (shown(text(value, "name")?), text(value, "text")?);
    Ok(Item::Refused { name, text: text.chars().take(TEXT_LETTERS_MAX).collect() })
}

fn text<'v>(value: &'v Value, member: &str) -> Result<&'v str, String> {
    value.get(member).and_then(Value::as_str).ok_or_else(|| format!("\"{member}\" is missing, or is not a string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is no message, no gap and no answer is refused, and the error says what is wrong with it.
    #[test]
    fn lies_are_named() {
        for (lie, expected) in [
            ("{", "not JSON"),
            ("[]", "\"data\" is missing"),
            ("{\"topic\":\"t\",\"data\":\"x\"}", "\"cursor\" is missing"),
            ("{\"topic\":\"t\",\"cursor\":\"1\",\"data\":\"x\"}", "`1` is not a cursor"),
            ("{\"topic\":\"\\u001b[2J\",\"cursor\":\"0000000a-1\",\"data\":\"x\"}", "`\\u{1b}[2J` is not a topic"),
            ("{\"topic\":\"t\",\"cursor\":\"0000000a-1\",\"data\":1}", "\"data\" is missing"),
            ("{\"topic\":\"t\",\"cursor\":\"0000000a-1\",\"data\":\"?\",\"encoding\":\"base64\"}", "not base64"),
            ("{\"topic\":\"t\",\"cursor\":\"0000000a-1\",\"data\":\"\",\"encoding\":\"rot13\"}", "rot13"),
            ("{\"topic\":\"t\",\"cursor\":\"0000000a-1\",\"data\":\"\",\"event\":\"a b\"}", "not an event's name"),
            ("{\"gap\":{}}", "\"reason\" is missing"),
            ("{\"refused\":{\"text\":\"x\"}}", "\"name\" is missing"),
            ("{\"refused\":{\"name\":\"full\"}}", "\"text\" is missing"),
            ("{\"gap\":{\"topic\":\"t\",\"to\":\"0000000a-1\",\"count\":-1,\"reason\":\"epoch\"}}", "\"count\""),
            ("{\"gap\":{\"topic\":\"t\",\"to\":\"0000000a-1\",\"count\":1,\"reason\":\"rain\"}}", "`rain`"),
        ] {
            let error = item(lie.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{lie}: {error}");
        }
        assert!(items(b"{}").unwrap_err().contains("not an array"));
        let refused = br#"{"refused":{"name":"full","text":"no \u001broom"}}"#;
        assert_eq!(item(refused), Ok(Item::Refused { name: "full".to_owned(), text: "no \u{1b}room".to_owned() }));
        assert!(items(&[b"[".as_slice(), refused, b"]"].concat()).unwrap_err().contains("\"data\" is missing"));
        for script_text in ["alert(1)", "/**/other([]);", "/**/c([])", "[]"] {
            assert!(script(script_text.as_bytes(), "c").unwrap_err().contains("does not call c"), "{script_text}");
        }
        assert_eq!(script(b"/**/c([]);", "c"), Ok(Vec::new()));
    }
}
