//! What a worker has seen: verdicts, latencies, and how far a broadcast spread in time.
//!
//! Each worker fills its own; the coordinator adds them up at the end. Nothing here is shared while the run lasts.

use hdrhistogram::Histogram;

use crate::payload::Stamp;
use crate::report::series::Timeline;
use crate::witness::Counts;

/// Longest time that is told apart, in nanoseconds: two minutes.
const NS_MAX: u64 = 120_000_000_000;

/// Messages whose first and last delivery are remembered, 16 B each; later ones are not in the spread.
const SPREAD_MESSAGES_MAX: usize = 1 << 20;

/// Texts of failures that are kept; the rest is only counted.
const FAULTS_MAX: usize = 8;

/// Makes an empty histogram of nanoseconds, with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, NS_MAX, 3).expect("the bounds are constants that hdrhistogram accepts")
}

/// First and last delivery of each message, in nanoseconds, by its place in the order of publishing.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    seen: Vec<(u64, u64)>,
}

impl Spread {
    #[inline]
    fn note(&mut self, place: u64, now_ns: u64) {
        if place >= SPREAD_MESSAGES_MAX as u64 {
            return;
        }
        let place = place as usize;
        if place >= self.seen.len() {
            self.seen.resize(place + 1, (u64::MAX, 0));
        }
        let (first, last) = &mut self.seen[place];
        *first = (*first).min(now_ns);
        *last = (*last).max(now_ns);
    }

    fn add(&mut self, other: &Spread) {
        if self.seen.len() < other.seen.len() {
            self.seen.resize(other.seen.len(), (u64::MAX, 0));
        }
        for ((first, last), (other_first, other_last)) in self.seen.iter_mut().zip(&other.seen) {
            *first = (*first).min(*other_first);
            *last = (*last).max(*other_last);
        }
    }

    /// Returns the time from first to last delivery of each message that was delivered at all.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut all = histogram();
        for (first, last) in self.seen.iter().filter(|(first, last)| first <= last) {
            all.saturating_record(last - first);
        }
        all
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) counts: Counts,
    /// From the time a message was due to the time it was seen, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// What was sent and came, by time.
    pub(crate) timeline: Timeline,
    /// Kept only where a message has several subscribers.
    pub(crate) spread: Option<Spread>,
    /// Messages that the server said it did not take.
    pub(crate) refused: u64,
    /// Times the server said that it had skipped messages.
    pub(crate) gaps_told: u64,
    /// Connections that could not be made, or ended before the run did.
    pub(crate) failed: u32,
    /// Why, for the first few.
    pub(crate) faults: Vec<String>,
    /// Bytes that came over all connections.
    pub(crate) received_bytes: u64,
    /// When the last message was seen.
    pub(crate) last_ns: u64,
    late_ns: u64,
    topics: u64,
}

impl Account {
    pub(crate) fn new(late_ms: u64, topics: u32, spread: bool) -> Account {
        Account {
            counts: Counts::default(),
            latency: histogram(),
            timeline: Timeline::new(0),
            spread: spread.then(Spread::default),
            refused: 0,
            gaps_told: 0,
            failed: 0,
            faults: Vec::new(),
            received_bytes: 0,
            last_ns: 0,
            late_ns: late_ms * 1_000_000,
            topics: u64::from(topics),
        }
    }

    /// Begins what is counted by time: seconds count from here.
    pub(crate) fn start(&mut self, start_ns: u64) {
        self.timeline = Timeline::new(start_ns);
        self.received_bytes = 0;
    }

    /// Takes note of a message that a subscriber counts as delivered.
    #[inline]
    pub(crate) fn delivered(&mut self, stamp: Stamp, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(stamp.scheduled_ns);
        self.latency.saturating_record(latency_ns);
        self.timeline.delivered(now_ns, latency_ns);
        self.counts.late += u64::from(latency_ns > self.late_ns);
        self.last_ns = now_ns;
        if let Some(spread) = &mut self.spread {
            spread.note(stamp.number * self.topics + u64::from(stamp.topic), now_ns);
        }
    }

    /// Takes note of why something failed.
    pub(crate) fn fault(&mut self, text: impl FnOnce() -> String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text());
        }
    }

    /// Adds another worker's account.
    pub(crate) fn add(&mut self, other: &Account) {
        self.counts.add(&other.counts);
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
        if let (Some(spread), Some(other)) = (&mut self.spread, &other.spread) {
            spread.add(other);
        }
        self.timeline.add(&other.timeline);
        self.received_bytes += other.received_bytes;
        self.refused += other.refused;
        self.gaps_told += other.gaps_told;
        self.failed += other.failed;
        self.last_ns = self.last_ns.max(other.last_ns);
        let room = FAULTS_MAX - self.faults.len();
        self.faults.extend(other.faults.iter().take(room).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broadcast's spread runs from the first to the last delivery over all workers, and undelivered messages have
    /// none.
    #[test]
    fn spread_over_workers() {
        let stamp = |number| Stamp { topic: 0, number, scheduled_ns: 1_000 };
        let (mut one, mut other) = (Account::new(1, 1, true), Account::new(1, 1, true));
        one.delivered(stamp(0), 5_000);
        one.delivered(stamp(0), 6_000);
        other.delivered(stamp(0), 2_000);
        other.delivered(stamp(2), 2_000_000);
        one.add(&other);
        let spread = one.spread.unwrap().histogram();
        assert_eq!(spread.len(), 2);
        assert!(spread.equivalent(spread.max(), 4_000));
        assert_eq!((one.counts.late, one.latency.len(), one.last_ns), (1, 4, 2_000_000));
    }
}
