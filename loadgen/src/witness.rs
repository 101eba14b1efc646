//! What one subscriber has seen of its topic, and what is wrong with it.
//!
//! Numbers within a topic start at 0 and grow by one. A subscriber that was there before the first message must see
//! each of them once, in order. [`Seen`] is small because there is one per connection: where nothing goes wrong it is
//! one number. Every verdict is final but "missing": a missing number that comes after all was reordered, not lost.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What one subscriber has seen. The counts of a whole worker are in [`Counts`].
#[derive(Debug, Default)]
pub struct Seen {
    /// The number that comes next if nothing goes wrong.
    next: u64,
    /// Numbers below `next` that have not come, ascending; only a subscriber that lost something has the list.
    missing: Option<Box<Missing>>,
}

/// Ranges of numbers, ascending. Boxed as a whole, because a vector's three words would be in every [`Seen`].
#[derive(Debug, Default)]
struct Missing {
    ranges: Vec<Range<u64>>,
}

/// Deliveries and everything that was wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Whole, undamaged messages, each counted once per subscriber.
    #[serde(rename = "delivered_messages")]
    pub delivered: u64,
    /// Messages that a subscriber never got.
    #[serde(rename = "lost_messages")]
    pub lost: u64,
    /// Messages that a subscriber got again.
    #[serde(rename = "duplicated_messages")]
    pub duplicated: u64,
    /// Messages that a subscriber got after a younger one.
    #[serde(rename = "reordered_messages")]
    pub reordered: u64,
    /// Payloads that were not as they were sent, or came to the wrong subscriber.
    #[serde(rename = "corrupted_messages")]
    pub corrupted: u64,
    /// Messages that took longer than the plan allows. They are delivered, so this alone is no failure.
    #[serde(rename = "late_messages")]
    pub late: u64,
}

impl Counts {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Counts) {
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.late += other.late;
    }

    /// Says whether every message came once, whole and in order.
    #[must_use]
    pub fn clean(&self) -> bool {
        let Counts { delivered: _, lost, duplicated, reordered, corrupted, late: _ } = *self;
        (lost, duplicated, reordered, corrupted) == (0, 0, 0, 0)
    }
}

impl Seen {
    /// Takes note of a message's number; returns whether it counts as a delivery, as all but duplicates do.
    #[inline]
    pub fn note(&mut self, number: u64, counts: &mut Counts) -> bool {
        if number == self.next {
            self.next += 1;
        } else if !self.note_out_of_turn(number, counts) {
            return false;
        }
        counts.delivered += 1;
        true
    }

    #[cold]
    fn note_out_of_turn(&mut self, number: u64, counts: &mut Counts) -> bool {
        if number > self.next {
            self.missing.get_or_insert_default().ranges.push(self.next..number);
            self.next = number + 1;
            return true;
        }
        let missing = self.missing.as_mut().and_then(|missing| {
            let index = missing.ranges.iter().position(|range| range.contains(&number))?;
            Some((&mut missing.ranges, index))
        });
        let Some((missing, index)) = missing else {
            counts.duplicated += 1;
            return false;
        };
        let Range { start, end } = missing[index];
        let around = [start..number, number + 1..end];
        missing.splice(index..=index, around.into_iter().filter(|range| !range.is_empty()));
        counts.reordered += 1;
        true
    }

    /// Closes the account: what has not come of the topic's `published` messages is lost.
    pub fn finish(&self, published: u64, counts: &mut Counts) {
        let missing = self.missing.iter().flat_map(|missing| missing.ranges.iter());
        counts.lost += missing.map(|range| range.end - range.start).sum::<u64>();
        counts.lost += published.saturating_sub(self.next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(stream: &[u64], published: u64) -> Counts {
        let (mut seen, mut counts) = (Seen::default(), Counts::default());
        for number in stream {
            seen.note(*number, &mut counts);
        }
        seen.finish(published, &mut counts);
        counts
    }

    /// A stream without fault has none counted, and needs no list.
    #[test]
    fn clean_stream() {
        let counts = account(&[0, 1, 2, 3], 4);
        assert_eq!(counts, Counts { delivered: 4, ..Counts::default() });
        assert!(counts.clean());
        assert!(size_of::<Seen>() <= 16, "there is one per connection");
    }

    /// Losses at the start, in the middle and at the end are counted, one message at a time.
    #[test]
    fn losses() {
        assert_eq!(account(&[2, 3, 7], 10), Counts { delivered: 3, lost: 7, ..Counts::default() });
        assert_eq!(account(&[], 3), Counts { lost: 3, ..Counts::default() });
        assert!(!account(&[0], 2).clean());
    }

    /// A repeated message is a duplicate, the newest as well as an old one, and is not counted as delivered twice.
    #[test]
    fn duplicates() {
        let counts = account(&[0, 1, 1, 0, 2], 3);
        assert_eq!(counts, Counts { delivered: 3, duplicated: 2, ..Counts::default() });
        assert!(!counts.clean());
    }

    /// A message overtaken by others is reordered and not lost, and is a duplicate when it comes once more.
    #[test]
    fn reordering() {
        let counts = account(&[0, 4, 2, 2, 1, 5], 6);
        assert_eq!(counts, Counts { delivered: 5, lost: 1, duplicated: 1, reordered: 2, ..Counts::default() });
        assert!(!counts.clean());
    }

    /// On random streams that lose, repeat and reorder, the verdicts equal those of a model that keeps everything.
    #[test]
    fn equals_a_naive_model() {
        let mut random = 7u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        for _ in 0..500 {
            let published = 1 + below(40);
            let stream: Vec<u64> = (0..below(60)).map(|_| below(published)).collect();
            let mut model = Counts::default();
            for (index, number) in stream.iter().enumerate() {
                if stream[..index].contains(number) {
                    model.duplicated += 1;
                } else {
                    model.delivered += 1;
                    model.reordered += u64::from(stream[..index].iter().any(|earlier| earlier > number));
                }
            }
            model.lost = published - model.delivered;
            assert_eq!(account(&stream, published), model, "{stream:?} of {published}");
        }
    }
}
