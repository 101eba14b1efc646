//! What a worker has seen: verdicts, latencies, and how far a broadcast spread in time.
//!
//! Each worker fills its own; the coordinator adds them up at the end. Nothing here is shared while the run lasts.

use hdrhistogram::Histogram;

use crate::payload::Stamp;
use crate::plan::{Audience, Topic};
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

/// When a message was due, and its first and last delivery, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Span {
    due_ns: u64,
    first_ns: u64,
    last_ns: u64,
}

/// Spans of all messages, by their place in the order of publishing.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    seen: Vec<Span>,
}

impl Span {
    /// Of a message that was not delivered.
    const NONE: Span = Span { due_ns: 0, first_ns: u64::MAX, last_ns: 0 };
}

impl Spread {
    #[inline]
    fn note(&mut self, place: u64, due_ns: u64, now_ns: u64) {
        if place >= SPREAD_MESSAGES_MAX as u64 {
            return;
        }
        let place = place as usize;
        if place >= self.seen.len() {
            self.seen.resize(place + 1, Span::NONE);
        }
        let span = &mut self.seen[place];
        span.due_ns = due_ns;
        span.first_ns = span.first_ns.min(now_ns);
        span.last_ns = span.last_ns.max(now_ns);
    }

    fn add(&mut self, other: &Spread) {
        if self.seen.len() < other.seen.len() {
            self.seen.resize(other.seen.len(), Span::NONE);
        }
        for (span, other) in self.seen.iter_mut().zip(&other.seen) {
            span.due_ns = span.due_ns.max(other.due_ns);
            span.first_ns = span.first_ns.min(other.first_ns);
            span.last_ns = span.last_ns.max(other.last_ns);
        }
    }

    /// Returns the time from first to last delivery of each message that was delivered at all.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        self.times(|span| span.last_ns - span.first_ns)
    }

    /// Returns the time from when each was due to its last delivery.
    pub(crate) fn complete(&self) -> Histogram<u64> {
        self.times(|span| span.last_ns.saturating_sub(span.due_ns))
    }

    fn times(&self, of: impl Fn(&Span) -> u64) -> Histogram<u64> {
        let mut all = histogram();
        let delivered = self.seen.iter().filter(|span| span.first_ns <= span.last_ns);
        delivered.for_each(|span| all.saturating_record(of(span)));
        all
    }
}

/// What an account looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope {
    /// When the phase starts.
    pub(crate) start_ns: u64,
    /// A message that takes longer counts as late.
    pub(crate) late_ns: u64,
    /// Messages due earlier are checked, but not measured.
    pub(crate) measured_from_ns: u64,
    /// Whose broadcasts are looked at for their spread.
    pub(crate) spread_of: Option<Audience>,
    /// Topics that these have, and messages that they had before.
    pub(crate) topics: u64,
    pub(crate) published_before: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Account {
    scope: Scope,
    pub(crate) counts: Counts,
    /// From the time a message was due to the time it was seen, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) spread: Spread,
    /// What was sent and came, by time.
    pub(crate) timeline: Timeline,
    /// How late messages were sent, in nanoseconds.
    pub(crate) lag: Histogram<u64>,
    /// From dialing to being subscribed, in nanoseconds.
    pub(crate) connecting: Histogram<u64>,
    pub(crate) published: u64,
    /// Messages that the server said it did not take.
    pub(crate) refused: u64,
    /// Times the server said that it had skipped messages.
    pub(crate) gaps_told: u64,
    /// WebSocket pings of the server.
    pub(crate) pings: u64,
    /// Connections that could not be made, or ended before the run did.
    pub(crate) failed: u32,
    /// Why, for the first few.
    pub(crate) faults: Vec<String>,
    /// Bytes that came over all connections, and in how many reads.
    pub(crate) received_bytes: u64,
    pub(crate) reads: u64,
    /// A connection of the publisher's is gone.
    pub(crate) publisher_lost: bool,
    /// When the last message was seen, and when the last connection was there.
    pub(crate) last_ns: u64,
    pub(crate) connected_ns: u64,
}

impl Account {
    pub(crate) fn new(scope: Scope) -> Account {
        Account {
            scope,
            counts: Counts::default(),
            latency: histogram(),
            spread: Spread::default(),
            timeline: Timeline::new(scope.start_ns),
            lag: histogram(),
            connecting: histogram(),
            published: 0,
            refused: 0,
            gaps_told: 0,
            pings: 0,
            failed: 0,
            faults: Vec::new(),
            received_bytes: 0,
            reads: 0,
            publisher_lost: false,
            last_ns: 0,
            connected_ns: 0,
        }
    }

    /// Takes note of a message that a subscriber counts as delivered.
    #[inline]
    pub(crate) fn delivered(&mut self, topic: Topic, stamp: Stamp, now_ns: u64) {
        let latency_ns = now_ns.saturating_sub(stamp.scheduled_ns);
        self.last_ns = now_ns;
        self.timeline.delivered(now_ns, latency_ns);
        if stamp.scheduled_ns < self.scope.measured_from_ns {
            return;
        }
        self.latency.saturating_record(latency_ns);
        self.counts.late += u64::from(latency_ns > self.scope.late_ns);
        if self.scope.spread_of == Some(topic.audience) {
            let place = stamp.number * self.scope.topics + u64::from(topic.number);
            self.spread.note(place.wrapping_sub(self.scope.published_before), stamp.scheduled_ns, now_ns);
        }
    }

    /// Takes note of a connection that is there.
    pub(crate) fn connected(&mut self, took_ns: u64, now_ns: u64) {
        self.connecting.saturating_record(took_ns);
        self.connected_ns = now_ns;
    }

    /// Takes note of how late a message was sent that was due then.
    pub(crate) fn sent(&mut self, due_ns: u64, now_ns: u64) {
        self.published += 1;
        self.timeline.published(now_ns, 1);
        if due_ns >= self.scope.measured_from_ns {
            self.lag.saturating_record(now_ns.saturating_sub(due_ns));
        }
    }

    /// Takes note of messages that were sent in reply, and are never late.
    pub(crate) fn replied(&mut self, messages: u64, now_ns: u64) {
        self.published += messages;
        self.timeline.published(now_ns, messages);
    }

    /// Lets what was counted by time count from here.
    pub(crate) fn restart(&mut self, start_ns: u64) {
        self.timeline = Timeline::new(start_ns);
    }

    /// Takes note of why something failed.
    pub(crate) fn fault(&mut self, text: impl FnOnce() -> String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text());
        }
    }

    /// Adds another worker's account of the same phase.
    pub(crate) fn add(&mut self, other: &Account) {
        self.counts.add(&other.counts);
        let pairs = [
            (&mut self.latency, &other.latency),
            (&mut self.lag, &other.lag),
            (&mut self.connecting, &other.connecting),
        ];
        for (sum, other) in pairs {
            sum.add(other).expect("both histograms have the same bounds");
        }
        self.spread.add(&other.spread);
        self.timeline.add(&other.timeline);
        self.received_bytes += other.received_bytes;
        self.reads += other.reads;
        self.published += other.published;
        self.refused += other.refused;
        self.gaps_told += other.gaps_told;
        self.pings += other.pings;
        self.failed += other.failed;
        self.publisher_lost |= other.publisher_lost;
        self.last_ns = self.last_ns.max(other.last_ns);
        self.connected_ns = self.connected_ns.max(other.connected_ns);
        let room = FAULTS_MAX - self.faults.len();
        self.faults.extend(other.faults.iter().take(room).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Topic = Topic { audience: Audience::Group, number: 1 };

    fn scope() -> Scope {
        let spread_of = Some(Audience::Group);
        Scope { start_ns: 0, late_ns: 1_000_000, measured_from_ns: 1_000, spread_of, topics: 2, published_before: 8 }
    }

    /// A broadcast's spread runs from the first to the last delivery over all workers, and undelivered messages and those
    /// of other audiences have none.
    #[test]
    fn spread_over_workers() {
        let stamp = |number| Stamp { topic: TOPIC.stamp(), number, scheduled_ns: 1_000 };
        let (mut one, mut other) = (Account::new(scope()), Account::new(scope()));
        one.delivered(TOPIC, stamp(4), 5_000);
        one.delivered(TOPIC, stamp(4), 6_000);
        other.delivered(TOPIC, stamp(4), 2_000);
        other.delivered(Topic { audience: Audience::All, ..TOPIC }, stamp(6), 9_000);
        other.delivered(TOPIC, stamp(6), 2_000_000);
        one.add(&other);
        let spread = one.spread.histogram();
        assert_eq!(spread.len(), 2);
        assert!(spread.equivalent(spread.max(), 4_000));
        let complete = one.spread.complete();
        assert!(complete.equivalent(complete.min(), 5_000) && complete.equivalent(complete.max(), 1_999_000));
        assert_eq!((one.counts.late, one.latency.len(), one.last_ns), (1, 5, 2_000_000));
    }

    /// What was due before the warm-up is over is in no figure.
    #[test]
    fn warming_up_is_not_measured() {
        let mut account = Account::new(scope());
        account.delivered(TOPIC, Stamp { topic: TOPIC.stamp(), number: 4, scheduled_ns: 999 }, 9_000_000);
        account.sent(999, 5_000);
        account.sent(1_000, 5_000);
        assert_eq!((account.latency.len(), account.counts.late, account.spread.histogram().len()), (0, 0, 0));
        assert_eq!((account.published, account.lag.len()), (2, 1));
    }
}
