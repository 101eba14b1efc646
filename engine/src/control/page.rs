//! What the shards said to a question, as JSON.

use serde_json::{Map, Value, json};

use super::Outcome;
use crate::config::{Config, Listen, terms};
use crate::shard::{By, ConnectionRow, Described, Inspected, Question, Said, TopicRow};

/// Puts what all shards said into one list of at most so many rows.
pub(super) fn rows(question: Question, mut said: Vec<(usize, Said)>, rows_max: usize) -> Outcome {
    said.sort_by_key(|(shard, _)| *shard);
    let by = if let Question::Topics(by) = question { by } else { By::default() };
    // A key by which the largest stand first, and the row.
    let mut rows: Vec<(u64, Value)> = Vec::new();
    for (shard, said) in said {
        match said {
            Said::Connections(of_shard) => rows.extend(of_shard.iter().map(|row| (0, connection_row(shard, row)))),
            Said::Topics(of_shard) => rows.extend(of_shard.iter().map(|row| {
                let key = match by {
                    By::Bytes => row.bytes,
                    By::Messages => row.messages,
                    By::Rate => row.rate_milli.unwrap_or(0),
                    By::Readers => row.readers.unwrap_or(0),
                };
                (key, topic_row(shard, row))
            })),
            Said::Slow(of_shard) => rows.extend(of_shard.into_iter().map(|row| {
                let value = json!({
                    "shard": shard, "slot": row.slot, "peer": row.peer.to_string(), "topic": row.topic,
                    "behind": row.behind, "queued_bytes": row.queued_bytes,
                });
                (row.behind, value)
            })),
            _ => {}
        }
    }
    // Stable: connections stay in the order of shards and slots.
    rows.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
    rows.truncate(rows_max);
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    Outcome { status: 200, body: Value::Array(rows).to_string() }
}

fn connection_row(shard: usize, row: &ConnectionRow) -> Value {
    let mut value = json!({
        "shard": shard, "slot": row.slot, "generation": row.generation, "peer": row.peer.to_string(), "kind": row.kind,
        "subscriptions": row.subscriptions, "queued_bytes": row.queued_bytes,
        "heard_seconds_ago": row.heard_ms as f64 / 1000.0,
    });
    if let Some(subject) = &row.subject {
        value["subject"] = (**subject).into();
    }
    value
}

fn topic_row(shard: usize, row: &TopicRow) -> Value {
    // The epoch as cursors have it.
    let mut value = json!({
        "topic": row.topic, "shard": shard, "messages": row.messages, "bytes": row.bytes,
        "epoch": format!("{:08x}", row.epoch), "head": row.head,
    });
    if let Some(readers) = row.readers {
        value["readers"] = readers.into();
    }
    if let Some(rate_milli) = row.rate_milli {
        value["rate"] = (rate_milli as f64 / 1000.0).into();
    }
    value
}

/// Says what is known of a topic; its home says most of it, and every shard who reads it there.
pub(super) fn topic(name: &str, said: Vec<(usize, Said)>, config: &Config) -> Outcome {
    let mut value = None;
    let mut readers: Vec<(usize, u64)> = Vec::new();
    for (shard, said) in said {
        let Said::Described(described) = said else { continue };
        let Described { readers: here, home } = *described;
        if here > 0 {
            readers.push((shard, here));
        }
        if let Some((row, first)) = home {
            let mut home = topic_row(shard, &row);
            // With 0 there is none that is remembered.
            home["first"] = first.unwrap_or(0).into();
            value = Some(home);
        }
    }
    let Some(mut value) = value else {
        let reason = "nothing is known of that topic: nobody reads it, and nothing of it is remembered";
        return Outcome { status: 404, body: json!({ "reason": reason }).to_string() };
    };
    readers.sort_unstable();
    value["readers"] = readers.iter().map(|(_, readers)| readers).sum::<u64>().into();
    value["readers_by_shard"] =
        readers.into_iter().map(|(shard, readers)| json!({ "shard": shard, "readers": readers })).collect();
    let terms: Map<String, Value> = terms(config, name)
        .into_iter()
        .map(|(key, value, pattern)| {
            let mut term = json!({ "value": value });
            if let Some(pattern) = pattern {
                term["rule"] = pattern.into();
            }
            (key.to_owned(), term)
        })
        .collect();
    value["terms"] = terms.into();
    Outcome { status: 200, body: value.to_string() }
}

/// Says what is known of a connection.
pub(super) fn connection(said: Vec<(usize, Said)>, config: &Config) -> Outcome {
    let found = said.into_iter().find_map(|(shard, said)| match said {
        Said::Inspected(Some(inspected)) => Some((shard, inspected)),
        _ => None,
    });
    let Some((shard, inspected)) = found else {
        let reason = "there is no connection with that number";
        return Outcome { status: 404, body: json!({ "reason": reason }).to_string() };
    };
    let Inspected { row, listener, port, is_tls, subscribed } = *inspected;
    let mut value = connection_row(shard, &row);
    if let Some(address) = config.listen.get(usize::from(listener)) {
        value["listener"] = listener_text(address, port).into();
    }
    value["tls"] = is_tls.into();
    value["subscribed"] = subscribed
        .into_iter()
        .map(|(topic, behind)| {
            let mut value = json!({ "topic": topic });
            if let Some(behind) = behind {
                value["behind"] = behind.into();
            }
            value
        })
        .collect();
    Outcome { status: 200, body: value.to_string() }
}

/// Writes a listener as the setting has it, but with the port that it has.
fn listener_text(address: &Listen, port: Option<u16>) -> String {
    let bound = address.socket().zip(port).map(|(mut socket, port)| {
        socket.set_port(port);
        address.bound_to(socket)
    });
    bound.as_ref().unwrap_or(address).to_string()
}

/// Says that there is no such shard.
pub(super) fn no_shard(shards: usize) -> Outcome {
    let reason = format!("there is no such shard: they are 0 to {}", shards - 1);
    Outcome { status: 404, body: json!({ "reason": reason }).to_string() }
}

/// Says how many connections were disconnected, and which shards are not done.
pub(super) fn disconnected(said: &[(usize, Said)], late: &[usize]) -> Outcome {
    let ended = said.iter().map(|(_, said)| if let Said::Disconnected(ended) = said { *ended } else { 0 });
    let reason = "these shards stand still or have much to end, and are not done with it";
    ended_by(ended.sum(), late, reason)
}

/// Says how many connections a revocation ended; and which shards will hear of it late.
pub(super) fn revoked(said: &[(usize, Said)], late: &[usize]) -> Outcome {
    let ended = said.iter().map(|(_, said)| if let Said::Revoked(ended) = said { *ended } else { 0 });
    let reason = "it holds, but these shards stand still or have much to end, and are not done with it";
    ended_by(ended.sum(), late, reason)
}

fn ended_by(ended: u64, late: &[usize], reason: &str) -> Outcome {
    if late.is_empty() {
        return Outcome { status: 200, body: json!({ "ended": ended }).to_string() };
    }
    Outcome { status: 504, body: json!({ "ended": ended, "late": late, "reason": reason }).to_string() }
}

/// Says that all shards have done what they were told to.
pub(super) fn done() -> Outcome {
    Outcome { status: 200, body: "{}".to_owned() }
}

/// Says which shards did not answer in time.
pub(super) fn late(late: &[usize]) -> Outcome {
    let body = json!({ "late": late, "reason": "these shards did not answer in time" });
    Outcome { status: 504, body: body.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    fn row(topic: &str, bytes: u64) -> TopicRow {
        TopicRow { topic: topic.to_owned(), messages: 1, bytes, epoch: 10, head: 1, ..TopicRow::default() }
    }

    /// Rows of all shards stand in one list, the largest first, with the number of their shard, and no more than were asked for.
    #[test]
    fn the_largest_stand_first() {
        let said =
            vec![(1, Said::Topics(vec![row("b", 5), row("d", 1)])), (0, Said::Topics(vec![row("a", 9), row("c", 3)]))];
        let outcome = rows(Question::Topics(By::Bytes), said, 3);
        let list: Vec<Value> = serde_json::from_str(&outcome.body).unwrap();
        let names: Vec<_> =
            list.iter().map(|row| (row["topic"].as_str().unwrap(), row["shard"].as_u64().unwrap())).collect();
        assert_eq!(names, [("a", 0), ("b", 1), ("c", 0)]);
        assert_eq!(list[0]["epoch"], "0000000a");
    }

    /// What is asked for decides the order, also where shards are put together.
    #[test]
    fn the_order_is_that_of_the_question() {
        let rated = |topic: &str, rate_milli| TopicRow { rate_milli, ..row(topic, 1) };
        let said = vec![
            (0, Said::Topics(vec![rated("slow", Some(500)), rated("unknown", None)])),
            (1, Said::Topics(vec![rated("fast", Some(2_500))])),
        ];
        let list: Vec<Value> = serde_json::from_str(&rows(Question::Topics(By::Rate), said, 9).body).unwrap();
        assert_eq!([&list[0]["topic"], &list[1]["topic"]], ["fast", "slow"]);
        assert_eq!((&list[0]["rate"], list[2].get("rate")), (&2.5.into(), None));
    }

    /// A topic is what its home says, with the readers of all shards and what holds for it; one that no home knows is not found.
    #[test]
    fn a_topic_is_put_together() {
        let config = Config::default_on(&Host { cores: vec![0], memory_bytes: 1 << 30 });
        let described = |readers, home| Said::Described(Box::new(Described { readers, home }));
        let said =
            vec![(2, described(3, None)), (0, described(0, Some((row("a", 9), Some(7))))), (1, described(1, None))];
        let found: Value = serde_json::from_str(&topic("a", said, &config).body).unwrap();
        assert_eq!((&found["shard"], &found["first"], &found["readers"]), (&0.into(), &7.into(), &4.into()));
        assert_eq!(found["readers_by_shard"], json!([{"shard": 1, "readers": 1}, {"shard": 2, "readers": 3}]));
        assert_eq!(found["terms"]["lag"], json!({"value": "replay"}), "{found}");
        assert_eq!(topic("a", vec![(0, described(1, None))], &config).status, 404);
    }

    /// A listener is shown with the port that the kernel chose.
    #[test]
    fn listeners_have_their_port() {
        let text = |address: &str, port| listener_text(&Listen::read(address).unwrap(), port);
        assert_eq!(text("127.0.0.1:0", Some(80)), "127.0.0.1:80");
        assert_eq!(text("tls://[::1]:0", Some(443)), "tls://[::1]:443");
        assert_eq!(text("unix:/run/a", Some(0)), "unix:/run/a");
    }
}
