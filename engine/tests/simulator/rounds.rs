//! How often a reader that waits for a message of its log is passed by the other readers, counted in rounds of that log.
//!
//! A round is as many sends of a log as it has readers. What is compared is what `Shard::standings` tells after every turn: who is
//! free to be sent what is new (its socket takes bytes, nothing else comes first) waits while the others are sent that message, or
//! what comes behind it, twice each at most. Who needs a look stands in line with all others of the shard that do, and may have to wait
//! a turn for each of them, where a kernel takes few orders at a time.

use std::collections::HashMap;

use corecast::shard::{Shard, Standing};

/// Rounds in which others pass a reader at most: the one that is under way when the message comes, and its own. A connection
/// that reads several logs is sent from one of them at a time.
const ROUNDS_MAX: u64 = 2;

#[derive(Debug, Default)]
struct Log {
    /// Tells one life of the number from the next.
    life: u32,
    /// The most readers it ever had.
    readers: u64,
    /// Who was sent something in this turn: up to before which number.
    sent: Vec<u64>,
    seen: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    log: u32,
    slot: u32,
    next: u64,
    /// Sends to others that went beyond what it waits for.
    passed: u64,
    /// The longest line that it stood in meanwhile.
    line: u64,
    seen: u64,
}

#[derive(Debug, Default)]
struct Books {
    logs: HashMap<u32, Log>,
    readers: HashMap<u32, Reader>,
    turns: u64,
}

#[derive(Debug)]
pub(crate) struct Rounds {
    shards: Vec<Books>,
    /// The longest that anybody waited, in hundredths of a round.
    pub(crate) longest: u64,
}

impl Rounds {
    pub(crate) fn new(shards: usize) -> Rounds {
        Rounds { shards: (0..shards).map(|_| Books::default()).collect(), longest: 0 }
    }

    /// A shard has taken a turn: panics if somebody was passed by the others.
    pub(crate) fn turned(&mut self, index: usize, shard: &Shard) {
        let books = &mut self.shards[index];
        books.turns += 1;
        shard.standings(|standing| books.heard(&standing));
        shard.standings(|standing| self.longest = self.longest.max(books.judged(&standing)));
        let turn = books.turns;
        books.logs.retain(|_, log| log.seen == turn);
        books.readers.retain(|_, reader| reader.seen == turn);
    }
}

impl Books {
    /// Returns what is known of a reader, if it is the same as before this turn.
    fn before(&self, standing: &Standing) -> Option<Reader> {
        let before = self.readers.get(&standing.subscription).copied();
        before.filter(|reader| reader.log == standing.log && reader.slot == standing.slot)
    }

    /// Notes what was sent in this turn.
    fn heard(&mut self, standing: &Standing) {
        let sent = self.before(standing).is_some_and(|reader| standing.next > reader.next);
        let log = self.logs.entry(standing.log).or_default();
        if log.life != standing.life {
            *log = Log { life: standing.life, ..Log::default() };
        }
        if log.seen != self.turns {
            log.seen = self.turns;
            log.readers = log.readers.max(standing.readers.into());
            log.sent.clear();
        }
        if sent {
            log.sent.push(standing.next);
        }
    }

    /// Notes who waits, and returns how often a reader was passed, in hundredths of a round.
    fn judged(&mut self, standing: &Standing) -> u64 {
        let log = &self.logs[&standing.log];
        let Standing { log: number, slot, next, .. } = *standing;
        // Its wait begins anew with whatever it is sent, and when it was not free.
        let waits = standing.free && next < standing.log_next;
        let (passed, line) = match self.before(standing) {
            Some(before) if waits && before.next == next => {
                let passed = log.sent.iter().filter(|sent| **sent > next).count() as u64;
                (before.passed + passed, before.line.max(standing.line))
            }
            _ => (0, standing.line),
        };
        self.readers.insert(standing.subscription, Reader { log: number, slot, next, passed, line, seen: self.turns });
        // Each reader that leaves may move the last one to a place that the walk has passed.
        let left = log.readers - u64::from(standing.readers);
        let rounds_max = ROUNDS_MAX + u64::from(standing.subscriptions) - 1 + line + left;
        assert!(
            passed <= rounds_max * log.readers,
            "{standing:?} waits while others are sent what it waits for: {passed} sends to {} readers",
            log.readers
        );
        100 * passed / log.readers
    }
}
