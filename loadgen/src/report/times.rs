//! How long things took: a histogram of nanoseconds that can be added up, asked for percentiles, and stored.
//!
//! Stored as JSON it has the figures that people look for, and the buckets from which it is read back equal.

use hdrhistogram::Histogram;
use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::account::histogram;

/// Quantiles that are reported, with their names for people and for JSON.
pub const QUANTILES: [(f64, &str, &str); 5] = [
    (0.5, "p50", "p50_ns"),
    (0.9, "p90", "p90_ns"),
    (0.99, "p99", "p99_ns"),
    (0.999, "p99.9", "p99_9_ns"),
    (0.9999, "p99.99", "p99_99_ns"),
];

/// Durations in nanoseconds, up to two minutes, with three significant digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        Times(histogram())
    }
}

impl From<Histogram<u64>> for Times {
    fn from(histogram: Histogram<u64>) -> Times {
        Times(histogram)
    }
}

impl Times {
    /// Takes note of a duration; what is longer than two minutes counts as two minutes.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds others.
    ///
    /// # Panics
    /// Never: all have the same bounds.
    pub fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Says whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the duration that a part of all (0 to 1) does not exceed, in nanoseconds; 0 if there are none.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// Returns the shortest in nanoseconds; 0 if there are none.
    #[must_use]
    pub fn min_ns(&self) -> u64 {
        self.0.min()
    }

    /// Returns the longest in nanoseconds; 0 if there are none.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.0.max()
    }

    /// Returns the mean in nanoseconds; 0 if there are none.
    #[must_use]
    pub fn mean_ns(&self) -> f64 {
        self.0.mean()
    }

    /// Returns the histogram itself.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("count", &self.len())?;
        map.serialize_entry("min_ns", &self.min_ns())?;
        map.serialize_entry("mean_ns", &self.mean_ns())?;
        for (quantile, _, key) in QUANTILES {
            map.serialize_entry(key, &self.quantile_ns(quantile))?;
        }
        map.serialize_entry("max_ns", &self.max_ns())?;
        let buckets: Vec<(u64, u64)> =
            self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect();
        map.serialize_entry("buckets_ns_and_count", &buckets)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Times, D::Error> {
        /// What is read; the rest follows from it.
        #[derive(Deserialize)]
        struct Stored {
            count: u64,
            buckets_ns_and_count: Vec<(u64, u64)>,
        }
        let stored = Stored::deserialize(deserializer)?;
        let mut times = Times::default();
        for (ns, count) in stored.buckets_ns_and_count {
            times.0.saturating_record_n(ns, count);
        }
        if times.len() != stored.count {
            return Err(D::Error::custom(format!("{} times are said, {} are stored", stored.count, times.len())));
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read back from JSON is equal, from nothing at all to values beyond the bounds.
    #[test]
    fn times_round_trip() {
        let mut random = 11u64;
        for count in [0, 1, 2, 1_000] {
            let mut times = Times::default();
            for _ in 0..count {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                times.record(random >> (random % 64));
            }
            let text = serde_json::to_string(&times).unwrap();
            assert_eq!(serde_json::from_str::<Times>(&text).unwrap(), times, "{text}");
        }
    }

    /// A histogram with buckets missing is told from a whole one.
    #[test]
    fn damage_is_noticed() {
        let text = r#"{"count": 3, "buckets_ns_and_count": [[5, 1], [9, 1]]}"#;
        assert!(serde_json::from_str::<Times>(text).unwrap_err().to_string().contains("3 times are said"));
    }
}
