//! What can be seen of a running engine without asking a shard: statistics, histograms, limits and how near they are.
//!
//! Owns: when the engine began, and what it is held to. Touches: the statistics board, which each shard writes four times a second.
//! Never: a shard. `/metrics` ([`metrics`]) and the engine's own topics ([`news`]) are made of it.

pub mod metrics;
pub mod news;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::config::Config;
use crate::log;
use crate::mesh::Board;
use crate::shard::{HISTOGRAMS, Histogram, Stats};

/// What the engine is held to, as far as it can be used up; a reload may change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Connections of all shards together.
    pub connections: u64,
    /// Topics with a history, or a subscriber, of all shards together.
    pub topics: u64,
    /// Subscriptions of all shards together; 0: as many as memory allows.
    pub subscriptions: u64,
    /// When the first certificate expires, in seconds since 1970.
    pub certificate_expires_s: Option<i64>,
}

/// A limit and what is used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub name: &'static str,
    /// How much there is.
    pub used: u64,
    /// How much there may be.
    pub max: u64,
}

/// The engine, as it can be seen.
#[derive(Clone, Debug)]
pub struct Observed {
    board: Arc<Board>,
    held: Arc<RwLock<Held>>,
    slots_max: u32,
    started: Instant,
}

impl Observed {
    /// Looks at the board of an engine that has just begun, each shard of which can hold so many connections.
    #[must_use]
    pub fn new(board: Arc<Board>, slots_max: u32) -> Observed {
        Observed { board, held: Arc::default(), slots_max, started: Instant::now() }
    }

    /// Holds it to a configuration, and to when a certificate expires.
    pub fn hold_to(&self, config: &Config, certificate_expires_s: Option<i64>) {
        let shards = self.board.shards() as u64;
        let connections = shards * u64::from(self.slots_max.min(config.connections));
        let in_all = config.quotas.connections_in_all;
        let connections = if in_all == 0 { connections } else { connections.min(in_all.into()) };
        let held = Held {
            connections,
            topics: shards * u64::from(config.topics_max),
            subscriptions: config.quotas.subscriptions_in_all.into(),
            certificate_expires_s,
        };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// Returns what it is held to.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the seconds since it began.
    #[must_use]
    pub fn uptime_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Says whether it takes new connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.board.draining()
    }

    /// Returns the statistics of each shard.
    #[must_use]
    pub fn shards(&self) -> Vec<Stats> {
        (0..self.board.shards()).map(|shard| self.board.read(shard)).collect()
    }

    /// Returns one histogram of a shard, by its place among all of them.
    #[must_use]
    pub fn histogram_of(&self, shard: usize, place: usize) -> Histogram {
        let mut histogram = Histogram::default();
        self.board.read_timing(shard, place, &mut histogram);
        histogram
    }

    /// Returns the histograms of all shards together.
    #[must_use]
    pub fn histograms(&self) -> Vec<Histogram> {
        let sum = |place| {
            let mut sum = Histogram::default();
            (0..self.board.shards()).for_each(|shard| self.board.read_timing(shard, place, &mut sum));
            sum
        };
        (0..HISTOGRAMS).map(sum).collect()
    }

    /// Returns the log lines that were dropped, and those that were left out.
    #[must_use]
    pub fn log_lines(&self) -> (u64, u64) {
        log::missing()
    }

    /// Returns the limits that there are, and what is used of them.
    #[must_use]
    pub fn limits(&self, total: &Stats) -> Vec<Limit> {
        let held = self.held();
        let memory = total.pool_bytes + total.table_bytes + total.busy_bytes + total.scratch_bytes;
        let all = [
            ("connections", total.connections, held.connections),
            ("memory", memory, total.pool_bytes_max),
            ("topics", total.homes.max(total.topics), held.topics),
            ("subscriptions", total.subscriptions, held.subscriptions),
        ];
        all.into_iter().filter(|(.., max)| *max > 0).map(|(name, used, max)| Limit { name, used, max }).collect()
    }
}

/// Returns the sum of all shards' statistics.
#[must_use]
pub fn total_of(shards: &[Stats]) -> Stats {
    let mut total = Stats::default();
    shards.iter().for_each(|stats| total.add(stats));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    /// Limits go by what the kernel allows and by what is configured, whichever is less; what has no limit is not told as one.
    #[test]
    fn limits_are_the_lesser_ones() {
        let observed = Observed::new(Arc::new(Board::new(2)), 1000);
        let mut config = Config::default_on(&Host { cores: vec![0], memory_bytes: 1 << 30 });
        config.quotas.subscriptions_in_all = 0;
        let limit = |observed: &Observed, name: &str| {
            let total =
                Stats { connections: 7, pool_bytes: 5, table_bytes: 6, pool_bytes_max: 100, ..Stats::default() };
            observed.limits(&total).into_iter().find(|limit| limit.name == name).map(|limit| (limit.used, limit.max))
        };
        config.quotas.connections_in_all = 0;
        observed.hold_to(&config, None);
        assert_eq!(limit(&observed, "connections"), Some((7, 2000)));
        assert_eq!(limit(&observed, "memory"), Some((11, 100)));
        assert_eq!(limit(&observed, "subscriptions"), None);
        config.quotas.connections_in_all = 1500;
        config.quotas.subscriptions_in_all = 9;
        observed.hold_to(&config, Some(5));
        assert_eq!(
            (limit(&observed, "connections"), limit(&observed, "subscriptions")),
            (Some((7, 1500)), Some((0, 9)))
        );
        assert_eq!(observed.held().certificate_expires_s, Some(5));
    }
}
