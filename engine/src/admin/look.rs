//! What operators ask of the shards: lists of connections, topics and subscribers, and one topic or connection.
//!
//! Owns: how each question is written as a query. What is written otherwise is refused by name: a word that is misspelt would answer
//! another question.

use corecast_protocol::http::query;
use corecast_protocol::percent;
use corecast_protocol::topic;

use super::answer::{Asked, Reply, Said};
use crate::control::Demand;
use crate::shard::{By, KINDS, Only, PeerAddress, Question, ROWS_MAX};

/// Rows of a list, unless `limit` says otherwise.
const ROWS: usize = 100;

const ORDERS: [(&str, By); 4] =
    [("bytes", By::Bytes), ("messages", By::Messages), ("rate", By::Rate), ("readers", By::Readers)];

/// Asks for connections.
pub(super) fn connections(asked: &Asked<'_>) -> Said {
    list(asked, &["limit", "kind", "peer"], |words| {
        let kind = words.value("kind").map(|kind| {
            let known = KINDS.iter().find(|name| **name == kind);
            known.copied().ok_or_else(|| format!("kind is one of {}", KINDS.join(", ")))
        });
        let peer = words.value("peer").map(|peer| {
            PeerAddress::read(&peer)
                .ok_or("peer is an address, or an address and a port: 10.0.0.7, 10.0.0.7:40312, [::1]:40312")
        });
        Ok(Question::Connections(Only { kind: kind.transpose()?, peer: peer.transpose()? }))
    })
}

/// Asks for topics.
pub(super) fn topics(asked: &Asked<'_>) -> Said {
    list(asked, &["limit", "sort"], |words| {
        let Some(sort) = words.value("sort") else { return Ok(Question::Topics(By::default())) };
        let by = ORDERS.iter().find(|(name, _)| *name == sort).map(|(_, by)| Question::Topics(*by));
        by.ok_or_else(|| format!("sort is one of {}", ORDERS.map(|(name, _)| name).join(", ")))
    })
}

/// Asks for subscribers that have not been sent everything.
pub(super) fn slow(asked: &Asked<'_>) -> Said {
    list(asked, &["limit"], |_| Ok(Question::Slow))
}

/// Asks for one topic.
pub(super) fn one_topic(asked: &Asked<'_>) -> Said {
    let demand = Words::of(asked, &["topic"]).and_then(|words| {
        let name = words.value("topic").ok_or("say which: /topic?topic=NAME")?;
        topic::validate_subscribe(&name).map_err(|error| format!("topic: {error}"))?;
        Ok(Demand::Describe(name.into()))
    });
    told(asked, demand)
}

/// Asks for one connection.
pub(super) fn one_connection(asked: &Asked<'_>) -> Said {
    let demand = Words::of(asked, &["shard", "slot"]).and_then(|words| {
        let number = |name| words.value(name).and_then(|value| value.parse::<u32>().ok());
        let both = number("shard")
            .zip(number("slot"))
            .ok_or("say which: /connection?shard=N&slot=N, as /connections has them")?;
        Ok(Demand::Inspect(both.0 as usize, both.1))
    });
    told(asked, demand)
}

/// Asks for so many rows as the query says.
fn list(asked: &Asked<'_>, known: &[&str], question: impl FnOnce(&Words<'_>) -> Result<Question, String>) -> Said {
    let demand = Words::of(asked, known).and_then(|words| {
        let rows = words.value("limit").map_or(Some(ROWS), |limit| limit.parse().ok());
        let rows = rows.filter(|rows| (1..=ROWS_MAX).contains(rows));
        let rows = rows.ok_or_else(|| format!("limit is a number from 1 to {ROWS_MAX}"))?;
        Ok(Demand::Look(question(&words)?, rows))
    });
    told(asked, demand)
}

fn told(asked: &Asked<'_>, demand: Result<Demand, String>) -> Said {
    match demand {
        Ok(demand) => asked.demand(demand),
        Err(cause) => Reply::text(400, cause).into(),
    }
}

/// The words of a query.
struct Words<'q>(&'q str);

impl<'q> Words<'q> {
    /// Reads those of a request, which are all known.
    fn of(asked: &Asked<'q>, known: &[&str]) -> Result<Words<'q>, String> {
        let query = asked.request.query;
        match query::pairs(query).find(|(name, _)| !known.contains(name)) {
            None => Ok(Words(query)),
            Some((name, _)) => {
                let name: String = name.chars().take(40).collect();
                Err(format!("`{name}` is nothing that can be asked here; there is {}", known.join(", ")))
            }
        }
    }

    /// Returns a value, decoded; one that cannot be is none that anybody means.
    fn value(&self, name: &str) -> Option<String> {
        let encoded = query::value(self.0, name)?;
        let mut room = vec![0; encoded.len()];
        Some(percent::decode(encoded, &mut room, true).unwrap_or("\u{fffd}").to_owned())
    }
}
