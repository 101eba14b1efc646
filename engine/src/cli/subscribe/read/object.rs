//! JSON objects: messages and gaps as polls, streams and scripts carry them.

use corecast_protocol::json;
use corecast_protocol::line::GapReason;
use corecast_protocol::{Cursor, topic, valid_event};
use serde_json::Value;

use super::{Gap, Item, Message};

/// Letters of a text of the engine's that are taken; it has fewer.
const TEXT_LETTERS_MAX: usize = 500;

/// Reads one object of a stream: a message, `{"gap":{...}}` or `{"refused":{...}}`, which no poll has.
pub(super) fn item(text: &[u8]) -> Result<Item, String> {
    let value: Value = value(text)?;
    value.get("refused").map_or_else(|| of_value(&value), refused_of_value)
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
        payload,
    }))
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
