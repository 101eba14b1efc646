//! What the shards said to a question, as JSON.

use serde_json::{Value, json};

use super::Outcome;
use crate::shard::Said;

/// Puts what all shards said into one list of at most so many rows.
pub(super) fn rows(mut said: Vec<(usize, Said)>, rows_max: usize) -> Outcome {
    said.sort_by_key(|(shard, _)| *shard);
    // A key by which the largest stand first, and the row.
    let mut rows: Vec<(u64, Value)> = Vec::new();
    for (shard, said) in said {
        match said {
            Said::Applied(_)
            | Said::Told
            | Said::Revoked(_)
            | Said::Frozen
            | Said::Alive
            | Said::Settled
            | Said::Dumped(_) => {}
            Said::Connections(of_shard) => rows.extend(of_shard.into_iter().map(|row| {
                let value = json!({
                    "shard": shard, "slot": row.slot, "peer": row.peer.to_string(), "kind": row.kind,
                    "subscriptions": row.subscriptions, "queued_bytes": row.queued_bytes,
                    "heard_seconds_ago": row.heard_ms as f64 / 1000.0,
                });
                (0, value)
            })),
            Said::Topics(of_shard) => rows.extend(of_shard.into_iter().map(|row| {
                // The epoch as cursors have it.
                let mut value = json!({
                    "topic": row.topic, "shard": shard, "messages": row.messages, "bytes": row.bytes,
                    "epoch": format!("{:08x}", row.epoch), "head": row.head,
                });
                if let Some(readers) = row.readers {
                    value["readers"] = readers.into();
                }
                (row.bytes, value)
            })),
            Said::Slow(of_shard) => rows.extend(of_shard.into_iter().map(|row| {
                let value = json!({
                    "shard": shard, "slot": row.slot, "peer": row.peer.to_string(), "topic": row.topic,
                    "behind": row.behind, "queued_bytes": row.queued_bytes,
                });
                (row.behind, value)
            })),
        }
    }
    // Stable: connections stay in the order of shards and slots.
    rows.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
    rows.truncate(rows_max);
    let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    Outcome { status: 200, body: Value::Array(rows).to_string() }
}

/// Says how many connections a revocation ended; and which shards will hear of it late.
pub(super) fn revoked(said: &[(usize, Said)], late: &[usize]) -> Outcome {
    let ended = said.iter().map(|(_, said)| if let Said::Revoked(ended) = said { *ended } else { 0 });
    let ended: u64 = ended.sum();
    if late.is_empty() {
        return Outcome { status: 200, body: json!({ "ended": ended }).to_string() };
    }
    let reason = "it holds, but these shards stand still or have much to end, and are not done with it";
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
    use crate::shard::TopicRow;

    /// Rows of all shards stand in one list, the largest first, with the number of their shard, and no more than were asked for.
    #[test]
    fn the_largest_stand_first() {
        let row = |topic: &str, bytes| TopicRow {
            topic: topic.to_owned(),
            messages: 1,
            bytes,
            epoch: 10,
            head: 1,
            readers: None,
        };
        let said =
            vec![(1, Said::Topics(vec![row("b", 5), row("d", 1)])), (0, Said::Topics(vec![row("a", 9), row("c", 3)]))];
        let outcome = rows(said, 3);
        let list: Vec<Value> = serde_json::from_str(&outcome.body).unwrap();
        let names: Vec<_> =
            list.iter().map(|row| (row["topic"].as_str().unwrap(), row["shard"].as_u64().unwrap())).collect();
        assert_eq!(names, [("a", 0), ("b", 1), ("c", 0)]);
        assert_eq!(list[0]["epoch"], "0000000a");
    }
}
