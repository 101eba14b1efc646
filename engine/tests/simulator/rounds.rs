//! How long a reader waits for a message of its log while the others get theirs, counted in rounds of that log.
//!
//! A round is as many sends of a log as it has readers. What is compared is what `Shard::standings` tells after every turn: who is
//! free to be sent what is new (its socket takes bytes, nothing else comes first) and waits for more than two rounds is passed by
//! others. Owns: per log how many sends there were when each message came, per reader since when it is free.

use std::collections::{HashMap, VecDeque};

use corecast::shard::{Shard, Standing};

/// Rounds that a message waits at most: the one that is under way when it comes, and its own. A connection that reads several logs
/// is sent from one of them at a time.
const ROUNDS_MAX: u64 = 2;

#[derive(Debug, Default)]
struct Log {
    /// Tells one life of the number from the next.
    life: u32,
    next: u64,
    sends: u64,
    /// The most readers it ever had.
    readers: u64,
    /// Messages that came, and the sends before.
    came: VecDeque<(u64, u64)>,
    seen: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reader {
    log: u32,
    slot: u32,
    next: u64,
    /// Sends of its log when it was last found not to be free.
    free_since: Option<u64>,
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
    /// Notes what came, and what was sent.
    fn heard(&mut self, standing: &Standing) {
        let log = self.logs.entry(standing.log).or_default();
        if log.seen == 0 || log.life != standing.life || standing.log_next < log.next {
            *log = Log { life: standing.life, next: standing.log_next, ..Log::default() };
        }
        if log.seen != self.turns {
            log.seen = self.turns;
            log.readers = log.readers.max(standing.readers.into());
            if standing.log_next > log.next {
                log.came.push_back((standing.log_next, log.sends));
                log.next = standing.log_next;
            }
            // What everybody has had for long need not be known.
            while log.came.len() > 1_000 {
                log.came.pop_front();
            }
        }
        let before = self.readers.get(&standing.membership);
        let same = before.filter(|reader| reader.log == standing.log && reader.slot == standing.slot);
        if same.is_some_and(|reader| standing.next > reader.next) {
            log.sends += 1;
        }
    }

    /// Notes who is free, and returns how long a reader has waited, in hundredths of a round.
    fn judged(&mut self, standing: &Standing) -> u64 {
        let log = &self.logs[&standing.log];
        let before = self.readers.get(&standing.membership).copied();
        let before = before.filter(|reader| reader.log == standing.log && reader.slot == standing.slot);
        // Who was not free before this turn has waited for its turn since now.
        let free_since = match before.and_then(|reader| reader.free_since) {
            _ if !standing.free => None,
            None => Some(log.sends),
            since => since,
        };
        let (next, slot) = (standing.next, standing.slot);
        self.readers
            .insert(standing.membership, Reader { log: standing.log, slot, next, free_since, seen: self.turns });
        let Some(free_since) = free_since.filter(|_| next < standing.log_next) else { return 0 };
        let Some((_, came)) = log.came.iter().find(|(end, _)| next < *end) else { return 0 };
        let waited = log.sends - free_since.max(*came);
        let rounds_max = ROUNDS_MAX + u64::from(standing.subscriptions) - 1;
        assert!(
            waited <= rounds_max * log.readers,
            "{standing:?} waits while others are sent to: {waited} sends to {} readers",
            log.readers
        );
        100 * waited / log.readers
    }
}
