//! What the engine tells of itself, in topics of its own: `$sys/stats`, `$sys/shards` and `$sys/events`.
//!
//! Owns: how things stood a second ago. Never: publishes; the control plane does, and only its own home keeps what is told. The dashboard reads
//! them; whoever has the right to subscribe to `$sys/#` can.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Observed, total_of};
use crate::shard::{Histogram, PHASES, Stats, TIMED};

/// How often it is told how things stand.
pub const EVERY: Duration = Duration::from_secs(1);

/// All shards together.
pub const STATS: &str = "$sys/stats";
/// Shards side by side.
pub const SHARDS: &str = "$sys/shards";
/// What somebody should know of.
pub const EVENTS: &str = "$sys/events";

/// What is told of each shard: of 256 it fits into a message.
const OF_SHARDS: [&str; 12] = [
    "connections",
    "subscriptions",
    "published",
    "delivered",
    "bytes_received",
    "bytes_sent",
    "pool_bytes",
    "pool_bytes_max",
    "turn_us_total",
    "spin_us_total",
    "turn_us_max",
    "overloaded",
];

/// What is an event if it grows, besides refusals.
const EVENTFUL: [&str; 6] = ["violations", "gaps", "dropped", "overloads", "tls_broken", "behind"];

/// Histograms whose percentiles are told.
const PERCENTILES: [(&str, &str); 3] = [("latency", "latency_us"), ("round", "round_us"), ("turn", "turn_us")];

/// How things stood when it was told last.
#[derive(Debug)]
pub struct News {
    observed: Observed,
    due: Instant,
    before: Option<(Stats, Vec<Histogram>)>,
}

impl News {
    /// Begins to tell.
    #[must_use]
    pub fn new(observed: Observed) -> News {
        News { observed, due: Instant::now(), before: None }
    }

    /// Returns when it is to be told the next time.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Returns what is to be told now, by topic, if it is time to.
    pub fn told(&mut self, now: Instant, wall: SystemTime) -> Vec<(&'static str, String)> {
        if now < self.due {
            return Vec::new();
        }
        self.due = now + EVERY;
        let at = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let shards = self.observed.shards();
        let total = total_of(&shards);
        let histograms = self.observed.histograms();
        let (stats_before, histograms_before) =
            self.before.take().unwrap_or_else(|| (total, vec![Histogram::default(); histograms.len()]));
        let since: Vec<Histogram> =
            histograms.iter().zip(&histograms_before).map(|(now, before)| now.since(before)).collect();
        let mut told = vec![(STATS, self.stats(at, &total, &since)), (SHARDS, side_by_side(at, &shards))];
        let events = events(&stats_before, &total);
        if !events.is_empty() {
            told.push((EVENTS, json!({ "at": at, "events": events }).to_string()));
        }
        self.before = Some((total, histograms));
        told
    }

    fn stats(&self, at: u64, total: &Stats, since: &[Histogram]) -> String {
        let named =
            Stats::FIELDS.iter().zip(total.values()).map(|((name, _), value)| ((*name).to_owned(), value.into()));
        let named: Map<String, Value> = named.collect();
        let kinds = named
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("connections_")?.replace('_', "-"), value.clone())));
        let kinds: Map<String, Value> = kinds.collect();
        let limits: Vec<Value> = self
            .observed
            .limits(total)
            .iter()
            .map(|limit| json!({ "name": limit.name, "used": limit.used, "max": limit.max }))
            .collect();
        let (single, phases) = since.split_at(TIMED.len());
        let all_ns = phases.iter().map(Histogram::sum_ns).sum::<u64>().max(1);
        let share = |histogram: &Histogram| histogram.sum_ns() as f64 / all_ns as f64;
        let phases: Map<String, Value> = PHASES
            .iter()
            .zip(phases)
            .map(|(phase, histogram)| ((*phase).to_owned(), share(histogram).into()))
            .collect();
        let mut stats = json!({
            "at": at,
            "version": env!("CORECAST_VERSION"),
            "uptime_seconds": self.observed.uptime_s(),
            "ready": self.observed.is_ready(),
            "total": named,
            "kinds": kinds,
            "phases": phases,
            "limits": limits,
        });
        for (name, key) in PERCENTILES {
            let place = TIMED.iter().position(|(other, _)| *other == name);
            stats[key] = place.map_or(Value::Null, |place| percentiles(&single[place]));
        }
        stats.to_string()
    }
}

/// Returns what a second's times were.
fn percentiles(histogram: &Histogram) -> Value {
    let mut told = json!({ "count": histogram.count() });
    for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)] {
        if let Some(us) = histogram.quantile_us(part) {
            told[name] = us.into();
        }
    }
    told
}

fn side_by_side(at: u64, shards: &[Stats]) -> String {
    let place = |name: &&str| Stats::FIELDS.iter().position(|(field, _)| field == name);
    let places: Vec<usize> = OF_SHARDS.iter().filter_map(place).collect();
    let row = |stats: &Stats| {
        let values = stats.values();
        places.iter().map(|place| values[*place]).collect::<Vec<u64>>()
    };
    let rows: Vec<Vec<u64>> = shards.iter().map(row).collect();
    json!({ "at": at, "names": OF_SHARDS, "shards": rows }).to_string()
}

/// Returns what has grown that somebody should know of.
fn events(before: &Stats, now: &Stats) -> Map<String, Value> {
    let grown = Stats::FIELDS.iter().zip(before.values()).zip(now.values());
    let grown = grown.filter(|(((name, _), before), now)| {
        now > before && (name.starts_with("refused_") || name.starts_with("limited_") || EVENTFUL.contains(name))
    });
    grown.map(|(((name, _), before), now)| ((*name).to_owned(), (now - before).into())).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mesh::Board;

    fn read(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    /// Each second is told once; events only when something has grown since, and nothing of before the start is one.
    #[test]
    fn a_second_is_told_once() {
        let board = Arc::new(Board::new(2));
        board.write(0, &Stats { refused_full: 5, connections: 2, connections_sse: 2, ..Stats::default() });
        let mut news = News::new(Observed::new(board.clone(), 10));
        let (start, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_millis(1234));
        let first = news.told(start, wall);
        let topics: Vec<&str> = first.iter().map(|(topic, _)| *topic).collect();
        assert_eq!(topics, [STATS, SHARDS]);
        let stats = read(&first[0].1);
        assert_eq!(
            (&stats["at"], &stats["total"]["refused_full"], &stats["kinds"]["sse"]),
            (&1234.into(), &5.into(), &2.into())
        );
        assert_eq!(stats["latency_us"], json!({ "count": 0 }));
        assert_eq!(read(&first[1].1)["shards"][0][0], 2);
        assert!(news.told(start, wall).is_empty());
        board.write(1, &Stats { gaps: 1, refused_full: 2, published: 9, ..Stats::default() });
        let second = news.told(start + EVERY, wall);
        assert_eq!(read(&second[2].1)["events"], json!({ "gaps": 1, "refused_full": 2 }));
        assert_eq!(news.told(start + 2 * EVERY, wall).len(), 2);
    }

    /// What is told of as many shards as there can be fits into a message of the smallest size that is usual.
    #[test]
    fn many_shards_fit() {
        let shards = vec![Stats::of_values([1 << 40; Stats::COUNT]); 256];
        assert!(side_by_side(1 << 41, &shards).len() < 64 << 10);
        assert_eq!(OF_SHARDS.iter().filter(|name| Stats::FIELDS.iter().any(|(field, _)| field == *name)).count(), 12);
        assert!(EVENTFUL.iter().all(|name| Stats::FIELDS.iter().any(|(field, _)| field == name)));
    }
}
