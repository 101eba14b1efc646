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
    /// Only a subscriber with which something was not as it should be has it.
    trouble: Option<Box<Trouble>>,
}

/// What is not in order. Boxed, because it would be in every [`Seen`].
#[derive(Debug, Default)]
struct Trouble {
    /// Numbers below `next` that have not come, ascending.
    missing: Vec<Range<u64>>,
    /// How many they are, and how many of them were counted as lost already.
    missing_count: u64,
    judged_count: u64,
    /// `next` when the missing were last counted as lost: those below are.
    judged_next: u64,
    /// A subscriber that came in the middle: until `next` moves on from here, what it gets first is where it begins.
    began: Option<u64>,
    /// Until `next` moves on from here, what is skipped was told, though not how much.
    told: Option<u64>,
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
    /// Messages that a subscriber did not get and was told of.
    #[serde(rename = "told_messages")]
    pub told: u64,
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
        self.told += other.told;
    }

    /// Says whether every message came once, whole and in order, or was told to be skipped.
    #[must_use]
    pub fn clean(&self) -> bool {
        let Counts { delivered: _, lost, duplicated, reordered, corrupted, late: _, told: _ } = *self;
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
            if self.trouble.as_ref().is_some_and(|trouble| trouble.told == Some(self.next)) {
                counts.told += number - self.next;
            } else {
                self.miss(number);
            }
            self.next = number + 1;
            return true;
        }
        let next = self.next;
        let Some(trouble) = &mut self.trouble else {
            counts.duplicated += 1;
            return false;
        };
        if trouble.began.take() == Some(next) {
            self.next = number + 1;
            return true;
        }
        let Some(index) = trouble.missing.iter().position(|range| range.contains(&number)) else {
            counts.duplicated += 1;
            return false;
        };
        let Range { start, end } = trouble.missing[index];
        let around = [start..number, number + 1..end];
        trouble.missing.splice(index..=index, around.into_iter().filter(|range| !range.is_empty()));
        trouble.missing_count -= 1;
        trouble.judged_count -= u64::from(number < trouble.judged_next);
        counts.reordered += 1;
        true
    }

    /// Takes note that everything from `next` to `end` has not come, though later ones may have.
    fn miss(&mut self, end: u64) {
        let trouble = self.trouble.get_or_insert_default();
        match trouble.missing.last_mut() {
            Some(last) if last.end == self.next => last.end = end,
            _ => trouble.missing.push(self.next..end),
        }
        trouble.missing_count += end - self.next;
    }

    /// Makes a subscriber of one that comes when `published` messages were published: it may begin with any of them,
    /// and must see all that follow.
    #[must_use]
    pub fn since(published: u64) -> Seen {
        let trouble = Trouble { began: Some(published), ..Trouble::default() };
        Seen { next: published, trouble: (published > 0).then(|| Box::new(trouble)) }
    }

    /// Takes note that the server said how many of the next messages it has skipped.
    pub fn skip(&mut self, count: u64, counts: &mut Counts) {
        self.next += count;
        counts.told += count;
    }

    /// Takes note that the server said that it has skipped messages, but not how many.
    pub fn skip_some(&mut self) {
        self.trouble.get_or_insert_default().told = Some(self.next);
    }

    /// Returns how many of the topic's `published` messages may still come, those aside that are counted as lost.
    #[must_use]
    pub fn outstanding(&self, published: u64) -> u64 {
        let missing = self.trouble.as_ref().map_or(0, |trouble| trouble.missing_count - trouble.judged_count);
        missing + published.saturating_sub(self.next)
    }

    /// Closes the account for now: what has not come of the topic's `published` messages is lost, each counted once.
    pub fn settle(&mut self, published: u64, counts: &mut Counts) {
        if published > self.next {
            if self.trouble.as_ref().is_some_and(|trouble| trouble.told == Some(self.next)) {
                counts.told += published - self.next;
            } else {
                self.miss(published);
            }
            self.next = published;
        }
        self.settle_holes(counts);
    }

    /// Closes the account of one that leaves: what was overtaken by others is lost, what might have come is not.
    pub fn settle_holes(&mut self, counts: &mut Counts) {
        if let Some(trouble) = &mut self.trouble {
            counts.lost += trouble.missing_count - trouble.judged_count;
            trouble.judged_count = trouble.missing_count;
            trouble.judged_next = self.next;
        }
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
        seen.settle(published, &mut counts);
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

    /// What was counted as lost is not counted again, and is reordered when it comes after all.
    #[test]
    fn losses_are_counted_once() {
        let (mut seen, mut counts) = (Seen::default(), Counts::default());
        seen.note(1, &mut counts);
        assert_eq!(seen.outstanding(4), 3);
        seen.settle(4, &mut counts);
        assert_eq!((counts.lost, seen.outstanding(4)), (3, 0));
        let mut later = Counts::default();
        for number in [4, 3, 6] {
            seen.note(number, &mut later);
        }
        assert_eq!(seen.outstanding(8), 2, "number 5 and number 7");
        seen.settle(8, &mut later);
        seen.settle(8, &mut later);
        assert_eq!(later, Counts { delivered: 3, reordered: 1, lost: 2, ..Counts::default() });
    }

    /// One that comes in the middle begins where it begins, but may miss nothing that was published afterwards; one that
    /// leaves has lost only what was overtaken.
    #[test]
    fn comers_and_leavers() {
        for (stream, lost) in [(&[3, 4, 5][..], 0), (&[5], 0), (&[4, 6], 1), (&[7], 2), (&[], 3)] {
            let (mut seen, mut counts) = (Seen::since(5), Counts::default());
            for number in stream {
                seen.note(*number, &mut counts);
            }
            let until = stream.last().map_or(8, |last| last + 1);
            seen.settle(until, &mut counts);
            let delivered = stream.len() as u64;
            assert_eq!(counts, Counts { delivered, lost, ..Counts::default() }, "{stream:?}");
        }
        let (mut seen, mut counts) = (Seen::since(5), Counts::default());
        for number in [5, 3, 7] {
            seen.note(number, &mut counts);
        }
        seen.settle_holes(&mut counts);
        assert_eq!(counts, Counts { delivered: 2, duplicated: 1, lost: 1, ..Counts::default() });
    }

    /// Messages that the server said it skipped are told, and not lost; what is missing besides is lost.
    #[test]
    fn told_gaps() {
        let (mut seen, mut counts) = (Seen::default(), Counts::default());
        seen.note(0, &mut counts);
        seen.skip(4, &mut counts);
        seen.note(5, &mut counts);
        seen.note(7, &mut counts);
        seen.skip_some();
        seen.note(10, &mut counts);
        seen.note(12, &mut counts);
        seen.settle(13, &mut counts);
        assert_eq!(counts, Counts { delivered: 5, told: 4 + 2, lost: 2, ..Counts::default() });
        seen.skip_some();
        seen.settle(15, &mut counts);
        assert_eq!((counts.told, counts.lost), (8, 2));
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
