//! What the admin listener says at two moments, and what happened between them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use corecast::io::check::StartError;
use serde_json::{Map, Value, json};

use crate::cli::admin::Admin;

/// What was said at one moment.
pub(super) struct Sample {
    at: Instant,
    unix_ms: u64,
    stats: Value,
    hottest: Value,
    slow: Value,
    connections: Value,
}

impl Sample {
    /// Asks for all of it.
    pub(super) fn take(admin: &Admin, limit: u16) -> Result<Sample, StartError> {
        let ask = |target: String| {
            let said = admin.get(&target)?;
            serde_json::from_str(&said).map_err(|_| StartError {
                cause: format!("{} does not answer as an engine would", admin.place),
                cure: "say where the admin listener is with --admin".to_owned(),
            })
        };
        let stats = ask("/stats".to_owned())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Sample {
            at: Instant::now(),
            unix_ms: now.as_millis() as u64,
            stats,
            hottest: ask(format!("/topics?sort=rate&limit={limit}"))?,
            slow: ask(format!("/slow?limit={limit}"))?,
            connections: ask(format!("/connections?limit={limit}"))?,
        })
    }
}

/// Counters of the whole engine of which people want to know how often a second.
const RATES: [&str; 7] = ["accepted", "published", "delivered", "bytes_received", "bytes_sent", "gaps", "violations"];

/// What happened in an interval, and what there is at its end.
pub(super) struct Figures {
    unix_ms: u64,
    /// Of the interval; 0: there was none.
    pub(super) seconds: f64,
    /// As the engine says it, if it does.
    pub(super) version: Option<String>,
    pub(super) uptime_s: Option<f64>,
    total: Map<String, Value>,
    before: Map<String, Value>,
    shards: Vec<(Value, Value)>,
    pub(super) hottest: Value,
    pub(super) slow: Value,
    pub(super) connections: Value,
}

/// What a shard does.
#[derive(Debug, PartialEq)]
pub(super) struct ShardFigures {
    pub(super) shard: u64,
    pub(super) connections: u64,
    pub(super) subscriptions: u64,
    pub(super) published: f64,
    pub(super) delivered: f64,
    pub(super) received: f64,
    pub(super) sent: f64,
    /// Of its time, in percent.
    pub(super) busy: f64,
}

impl Figures {
    /// Puts two moments together.
    pub(super) fn between(before: &Sample, after: &Sample) -> Figures {
        let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let shards = |sample: &Sample| sample.stats["shards"].as_array().cloned().unwrap_or_default();
        let (old, new) = (shards(before), shards(after));
        let old = |n: usize| old.get(n).cloned().unwrap_or_default();
        // What else is said of the engine stands beside its numbers.
        let said = |name: &str| [&after.stats[name], &after.stats["process"][name]].into_iter().find(|v| !v.is_null());
        Figures {
            unix_ms: after.unix_ms,
            seconds: after.at.saturating_duration_since(before.at).as_secs_f64(),
            version: said("version").and_then(Value::as_str).map(str::to_owned),
            uptime_s: said("uptime_seconds").and_then(Value::as_f64),
            total: object(&after.stats["total"]),
            before: object(&before.stats["total"]),
            shards: new.into_iter().enumerate().map(|(n, new)| (old(n), new)).collect(),
            hottest: after.hottest.clone(),
            slow: after.slow.clone(),
            connections: after.connections.clone(),
        }
    }

    /// Returns a number as it is now.
    pub(super) fn now(&self, name: &str) -> u64 {
        self.total.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Returns how often a second something was counted; an engine that was started again counts from 0.
    pub(super) fn rate(&self, name: &str) -> f64 {
        self.a_second(self.before.get(name), self.total.get(name))
    }

    fn a_second(&self, before: Option<&Value>, after: Option<&Value>) -> f64 {
        let number = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(0);
        let counted = number(after).saturating_sub(number(before));
        if self.seconds > 0.0 { counted as f64 / self.seconds } else { 0.0 }
    }

    /// Returns how often a second each refusal was told that was told at all.
    pub(super) fn refusals(&self) -> Vec<(&str, f64)> {
        let names = self.total.keys().filter_map(|name| Some((name.as_str(), name.strip_prefix("refused_")?)));
        let rates = names.map(|(name, short)| (short, self.rate(name)));
        let mut rates: Vec<_> = rates.filter(|(_, rate)| *rate > 0.0).collect();
        rates.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        rates
    }

    /// Returns what memory there is in use, and what there may be: blocks, and what stands beside them.
    pub(super) fn memory(&self) -> (u64, u64) {
        let used = ["pool_bytes", "table_bytes", "busy_bytes", "scratch_bytes"].map(|name| self.now(name));
        (used.iter().sum(), self.now("pool_bytes_max"))
    }

    /// Returns what each shard does.
    pub(super) fn shards(&self) -> Vec<ShardFigures> {
        let shard = |(before, after): &(Value, Value)| {
            let number = |name: &str| after[name].as_u64().unwrap_or(0);
            let rate = |name: &str| self.a_second(Some(&before[name]), Some(&after[name]));
            ShardFigures {
                shard: number("shard"),
                connections: number("connections"),
                subscriptions: number("subscriptions"),
                published: rate("published"),
                delivered: rate("delivered"),
                received: rate("bytes_received"),
                sent: rate("bytes_sent"),
                busy: (rate("turn_us_total") / 10_000.0).min(100.0),
            }
        };
        self.shards.iter().map(shard).collect()
    }

    /// Returns all of it as JSON.
    pub(super) fn json(&self) -> Value {
        let tenths = |number: f64| (number * 10.0).round() / 10.0;
        let rates: Map<String, Value> =
            RATES.iter().map(|name| ((*name).to_owned(), tenths(self.rate(name)).into())).collect();
        let refused: Map<String, Value> =
            self.refusals().into_iter().map(|(name, rate)| (name.to_owned(), tenths(rate).into())).collect();
        let shards: Vec<Value> = self
            .shards()
            .iter()
            .map(|of| {
                json!({
                    "shard": of.shard, "connections": of.connections, "subscriptions": of.subscriptions,
                    "published": tenths(of.published), "delivered": tenths(of.delivered),
                    "bytes_received": tenths(of.received), "bytes_sent": tenths(of.sent), "busy_percent": tenths(of.busy),
                })
            })
            .collect();
        let (used, max) = self.memory();
        json!({
            "at": self.unix_ms, "seconds": (self.seconds * 1000.0).round() / 1000.0,
            "connections": self.now("connections"), "subscriptions": self.now("subscriptions"),
            "memory_bytes": used, "memory_bytes_max": max,
            "rates": rates, "refused": refused, "shards": shards, "topics": self.hottest, "slow": self.slow,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(at: Instant, factor: u64) -> Sample {
        let numbers = |shard: u64| {
            json!({
                "shard": shard, "connections": 10 * (shard + 1), "subscriptions": 20, "published": 100 * factor, "accepted": 2 * factor,
                "delivered": 5_000 * factor * (shard + 1), "bytes_received": 2_048 * factor, "bytes_sent": 1_048_576 * factor,
                "turn_us_total": 250_000 * factor * (shard + 1), "gaps": 0, "violations": factor, "pool_bytes": 1 << 20,
                "pool_bytes_max": 1 << 30, "table_bytes": 1 << 19, "refused_full": factor, "refused": factor, "refused_lost": 0,
            })
        };
        let stats = json!({"version": "0.2.0", "uptime_seconds": 93.0, "total": numbers(0), "shards": [numbers(0), numbers(1)]});
        let hottest =
            json!([{"topic": "prices/eur", "shard": 0, "messages": 5, "bytes": 2048, "rate": 99.5, "readers": 12}]);
        let slow = json!([{"shard": 1, "slot": 7, "peer": "10.0.0.9:51544", "topic": "prices/eur", "behind": 412, "queued_bytes": 0}]);
        let connections = json!([{"shard": 0, "slot": 17, "peer": "10.0.0.7:40312", "kind": "line", "subscriptions": 2,
            "queued_bytes": 0, "heard_seconds_ago": 3.2, "subject": "anna"}]);
        Sample { at, unix_ms: 1_700_000_000_000, stats, hottest, slow, connections }
    }

    /// Figures of an interval of two seconds.
    pub(in crate::cli::top) fn figures() -> Figures {
        let now = Instant::now();
        Figures::between(&sample(now, 1), &sample(now + Duration::from_secs(2), 3))
    }

    /// Counters become rates by the time between two looks; gauges are what they are.
    #[test]
    fn rates_are_differences() {
        let figures = figures();
        assert_eq!((figures.rate("published"), figures.now("connections")), (100.0, 10));
        assert_eq!(figures.refusals(), [("full", 1.0)]);
        assert_eq!(figures.memory(), ((1 << 20) + (1 << 19), 1 << 30));
        let shards = figures.shards();
        assert_eq!((shards[1].delivered, shards[1].busy, shards[0].busy), (10_000.0, 50.0, 25.0));
        assert_eq!((figures.version.as_deref(), figures.uptime_s), (Some("0.2.0"), Some(93.0)));
    }

    /// An engine that was started again has smaller counters: nothing is negative; and without an interval nothing has happened.
    #[test]
    fn nothing_is_negative() {
        let now = Instant::now();
        let again = Figures::between(&sample(now, 3), &sample(now + Duration::from_secs(1), 1));
        let first = Figures::between(&sample(now, 3), &sample(now, 3));
        for figures in [again, first] {
            assert_eq!((figures.rate("published"), figures.shards()[0].busy), (0.0, 0.0));
            assert!(figures.refusals().is_empty());
        }
    }

    /// A line of JSON has the rates, and each shard.
    #[test]
    fn json_has_everything() {
        let json = figures().json();
        assert_eq!((&json["seconds"], &json["rates"]["delivered"]), (&2.0.into(), &5_000.0.into()));
        assert_eq!((&json["shards"][1]["busy_percent"], &json["refused"]["full"]), (&50.0.into(), &1.0.into()));
        assert_eq!((&json["topics"][0]["rate"], &json["slow"][0]["behind"]), (&99.5.into(), &412.into()));
        assert!(!json.to_string().contains('\n'));
    }
}
