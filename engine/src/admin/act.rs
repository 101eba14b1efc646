//! What operators have done: connections that end, and the engine, in order.
//!
//! Owns: how each is written as JSON. Fields that are not known are refused: one that is misspelt would mean more connections than were meant.

use std::time::Duration;

use serde_json::{Map, Value};

use super::answer::{Asked, Reply, Said};
use crate::control::Demand;
use crate::shard::{PeerAddress, Whom};

const WHOM: &str = "say whom, as in {\"shard\": 0, \"slot\": 5, \"generation\": 1}, {\"peer\": \"10.0.0.7\"} or {\"subject\": \"anna\"}";

/// Ends connections.
pub(super) fn disconnect(asked: &Asked<'_>) -> Said {
    match object(asked.body).and_then(|fields| whom(&fields)) {
        Ok((shard, whom)) => asked.demand(Demand::Disconnect(shard, whom)),
        Err(cause) => Reply::text(400, cause).into(),
    }
}

/// Has the engine end, as SIGTERM does.
pub(super) fn drain(asked: &Asked<'_>) -> Said {
    let Some(drain) = &asked.watched.drain else {
        return Reply::text(503, "nobody here can end the engine").into();
    };
    let fields = if asked.body.is_empty() { Ok(Map::new()) } else { object(asked.body) };
    match fields.and_then(|fields| time(&fields, drain.time_bound)) {
        Ok(time) => {
            // One that is full has heard it already.
            let _ = drain.to.try_send(time);
            Reply::json(202, "{\"draining\":true}").into()
        }
        Err(cause) => Reply::text(400, cause).into(),
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("the body is JSON, but no object".to_owned()),
        Err(error) => Err(format!("the body is no JSON: {error}")),
    }
}

fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let key: String = key.chars().filter(|c| !c.is_control()).take(40).collect();
            Err(format!("`{key}` is not known beside the others, which may be {}", known.join(", ")))
        }
    }
}

fn whom(fields: &Map<String, Value>) -> Result<(Option<usize>, Whom), String> {
    if let Some(peer) = fields.get("peer") {
        only(fields, &["peer"])?;
        let peer = peer.as_str().and_then(PeerAddress::read);
        let peer =
            peer.ok_or("peer is an address, or an address and a port, in quotes: \"10.0.0.7\", \"[::1]:40312\"")?;
        return Ok((None, Whom::Peer(peer)));
    }
    if let Some(subject) = fields.get("subject") {
        only(fields, &["subject"])?;
        let subject = subject.as_str().filter(|subject| !subject.is_empty());
        return Ok((None, Whom::Subject(subject.ok_or("subject is a text that is not empty")?.into())));
    }
    only(fields, &["shard", "slot", "generation"])?;
    let number = |name: &str, most: u64| {
        let number = fields.get(name).ok_or_else(|| WHOM.to_owned())?.as_u64().filter(|number| *number <= most);
        number.ok_or_else(|| format!("{name} is a number, as /connections has it"))
    };
    let shard = number("shard", u64::from(u32::MAX))? as usize;
    let slot = number("slot", u64::from(u32::MAX - 1))? as u32;
    let generation = number("generation", u64::from(u16::MAX))? as u16;
    Ok((Some(shard), Whom::Slot(slot, generation)))
}

fn time(fields: &Map<String, Value>, most: Duration) -> Result<Option<Duration>, String> {
    only(fields, &["seconds"])?;
    let Some(seconds) = fields.get("seconds") else { return Ok(None) };
    let seconds = seconds.as_u64().ok_or("seconds is a whole number")?;
    let time = Duration::from_secs(seconds);
    if time >= most {
        return Err(format!("seconds has to be less than shutdown-timeout, which is {} s", most.as_secs_f32()));
    }
    Ok(Some(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Option<usize>, Whom), String> {
        object(text.as_bytes()).and_then(|fields| whom(&fields))
    }

    /// Each way to say whom is read, and whatever is none of them is refused: nobody is hit who was not meant.
    #[test]
    fn whom_is_read() {
        assert_eq!(read(r#"{"shard":1,"slot":2,"generation":3}"#), Ok((Some(1), Whom::Slot(2, 3))));
        assert_eq!(read(r#"{"subject":"anna"}"#), Ok((None, Whom::Subject("anna".into()))));
        let peer = PeerAddress::read("10.0.0.7:9").unwrap();
        assert_eq!(read(r#"{"peer":"10.0.0.7:9"}"#), Ok((None, Whom::Peer(peer))));
        for (text, cause) in [
            ("", "no JSON"),
            ("[]", "no object"),
            ("{}", "say whom"),
            (r#"{"shard":1}"#, "say whom"),
            (r#"{"shard":1,"slot":2}"#, "say whom"),
            (r#"{"shard":1,"slot":-2,"generation":3}"#, "slot is a number"),
            (r#"{"shard":1,"slot":2,"generation":65536}"#, "generation is a number"),
            (r#"{"shard":"1","slot":2,"generation":3}"#, "shard is a number"),
            (r#"{"shard":1,"slot":2,"generation":3,"peers":"x"}"#, "`peers` is not known"),
            (r#"{"peer":"localhost"}"#, "peer is an address"),
            (r#"{"peer":"10.0.0.7","slot":1}"#, "`slot` is not known beside"),
            (r#"{"subject":""}"#, "not empty"),
            (r#"{"subject":"a","peer":"10.0.0.7"}"#, "`subject` is not known beside"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(cause), "{text}: {error}");
        }
    }

    /// A time to drain is whole seconds, and need not be said.
    #[test]
    fn times_are_read() {
        let read = |text: &str| object(text.as_bytes()).and_then(|fields| time(&fields, Duration::from_secs(30)));
        assert_eq!((read("{}"), read(r#"{"seconds":29}"#)), (Ok(None), Ok(Some(Duration::from_secs(29)))));
        for text in [r#"{"seconds":-1}"#, r#"{"seconds":1.5}"#, r#"{"seconds":30}"#, r#"{"second":1}"#, "30"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
