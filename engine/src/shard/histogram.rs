//! Histograms of times: counters by magnitude, four for each power of two, so that a percentile is known within a quarter.

/// Counters of one: up to 67 s; what takes longer stands in the last.
pub const BUCKETS: usize = 104;

/// How often something took how long, in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; BUCKETS], sum_ns: 0 }
    }
}

/// Returns the counter of a time.
#[inline]
fn bucket_of(us: u32) -> usize {
    if us < 4 {
        return us as usize;
    }
    let top = us.ilog2();
    ((top as usize - 1) * 4 + ((us >> (top - 2)) & 3) as usize).min(BUCKETS - 1)
}

/// Returns the microseconds that a counter does not reach: it counts whole ones below that.
#[must_use]
pub fn bound_us(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64 + 1;
    }
    (5 + bucket as u64 % 4) << (bucket / 4 - 1)
}

impl Histogram {
    /// Counts so many microseconds.
    #[inline]
    pub(in crate::shard) fn count_us(&mut self, us: u32) {
        self.counts[bucket_of(us)] += 1;
        self.sum_ns += u64::from(us) * 1000;
    }

    /// Returns it with so many more of so many microseconds, and a sum that is known better.
    #[must_use]
    pub(in crate::shard) fn with_short_ones(&self, count: u64, us: u32, sum_ns: u64) -> Histogram {
        let mut whole = Histogram { sum_ns, ..self.clone() };
        whole.counts[bucket_of(us)] += count;
        whole
    }

    /// Returns all counters, and then the sum of all times in nanoseconds.
    pub fn into_values(self) -> impl Iterator<Item = u64> {
        self.counts.into_iter().chain([self.sum_ns])
    }

    /// Adds what another one has counted, as [`Histogram::into_values`] gives it.
    pub fn add(&mut self, values: impl IntoIterator<Item = u64>) {
        let all = self.counts.iter_mut().chain([&mut self.sum_ns]);
        all.zip(values).for_each(|(to, value)| *to = to.wrapping_add(value));
    }

    /// Returns what was counted since it was that.
    #[must_use]
    pub fn since(&self, before: &Histogram) -> Histogram {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].saturating_sub(before.counts[bucket]));
        Histogram { counts, sum_ns: self.sum_ns.saturating_sub(before.sum_ns) }
    }

    /// Returns how many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all times in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// Returns the microseconds below which a part of the times is, 0 to 1: at most a quarter more than is true. `None`: there are none.
    #[must_use]
    pub fn quantile_us(&self, part: f64) -> Option<u64> {
        let count = self.count();
        let rank = (count as f64 * part).ceil().max(1.0) as u64;
        let mut below = 0;
        let found = self.counts.iter().position(|counted| {
            below += counted;
            below >= rank
        });
        found.filter(|_| count > 0).map(bound_us)
    }

    /// Returns how many times were less than 2^`power` microseconds.
    #[must_use]
    pub fn below_power(&self, power: u32) -> u64 {
        (0..BUCKETS).filter(|bucket| bound_us(*bucket) <= 1 << power).map(|bucket| self.counts[bucket]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each time is counted below its bound and not below the one before, and a bound is at most a quarter above what it stands for.
    #[test]
    fn times_are_where_they_belong() {
        for us in (0..5_000).chain((5_000..60_000_000).step_by(99_991)) {
            let bucket = bucket_of(us);
            assert!(u64::from(us) < bound_us(bucket), "{us}");
            assert!(bucket == 0 || u64::from(us) >= bound_us(bucket - 1), "{us}");
            assert!(bound_us(bucket) <= (u64::from(us) + 1) * 5 / 4 + 1, "{us}");
        }
        assert_eq!(bucket_of(u32::MAX), BUCKETS - 1);
    }

    /// Percentiles go by rank, powers of two by counting, sums by nanoseconds; nothing has none.
    #[test]
    fn what_is_read_is_what_was_counted() {
        let mut one = Histogram::default();
        assert_eq!((one.quantile_us(0.5), one.count(), one.below_power(30)), (None, 0, 0));
        (0..90).for_each(|_| one.count_us(10));
        (0..10).for_each(|_| one.count_us(1_000));
        assert_eq!((one.count(), one.sum_ns()), (100, 900_000 + 10_000_000));
        assert_eq!(
            (one.quantile_us(0.5), one.quantile_us(0.9), one.quantile_us(0.91)),
            (Some(12), Some(12), Some(1024))
        );
        assert_eq!(
            (one.below_power(3), one.below_power(4), one.below_power(10), one.below_power(26)),
            (0, 90, 100, 100)
        );
        let more = one.with_short_ones(5, 7, 9);
        assert_eq!((more.count(), more.sum_ns(), more.below_power(3)), (105, 9, 5));
        let before = one.clone();
        one.count_us(0);
        assert_eq!((one.since(&before).count(), one.since(&before).quantile_us(1.0)), (1, Some(1)));
        let mut sum = before.clone();
        sum.add(before.clone().into_values());
        assert_eq!((sum.count(), sum.sum_ns()), (200, 2 * before.sum_ns()));
    }
}
