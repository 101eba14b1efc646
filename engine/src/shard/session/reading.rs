//! Reading over HTTP: a request names one topic in its path, or up to [`TOPICS_MAX`] in its query, and is sent their messages, in one
//! answer that waits for them ([`poll`](crate::shard::session::poll)) or in one that goes on and on
//! ([`stream`](crate::shard::session::stream)).
//!
//! Its [plan](crate::shard::session::request::plan) is kept while the topics are subscribed one after another; each needs an answer of
//! its home, and perhaps room in a ring.

use corecast_protocol::line::Pace;

use crate::shard::dialect::Shape;
use crate::shard::grant::table::NOBODY;
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::session::request::exchange::Pending;
use crate::shard::session::request::words::Words;
use crate::shard::topic::chain::Store;

/// Topics of one request at most.
pub(in crate::shard) const TOPICS_MAX: usize = 64;

/// Patterns among them at most.
pub(in crate::shard) const PATTERNS_MAX: usize = 4;

/// Longest list of cursors: each has at most 29 bytes, and a comma; those of patterns have more.
pub(in crate::shard) const CURSORS_BYTES_MAX: usize = (TOPICS_MAX - PATTERNS_MAX)
    * (corecast_protocol::cursor::TEXT_BYTES_MAX + 1)
    + PATTERNS_MAX * (corecast_protocol::places::TEXT_BYTES_MAX + 1);

/// How a request wants its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Transport {
    /// The messages after a cursor, at once.
    Poll,
    /// The same, as soon as there is one.
    LongPoll,
    /// The newest payload.
    Value,
    /// The same as `Poll` or `LongPoll`, as a script.
    Jsonp,
    /// A stream in this shape.
    Stream(Shape),
}

/// What a request reads that subscribes: its plan until all topics of it are subscribed, and how it is answered.
#[derive(Debug)]
pub(in crate::shard) struct Reading {
    /// Topics that are still to be subscribed, and their options.
    pub(in crate::shard) plan: Buffer,
    /// Words of the request that its answer needs.
    pub(in crate::shard) words: Words,
    /// Conditions on the answer.
    pub(in crate::shard) conditions: Buffer,
    /// By place in the plan: topics with messages none of which is in the answer, though it asked for what is remembered.
    pub(in crate::shard) emptied: u64,
    /// What its connection had of its own before it polled, and has again afterwards.
    pub(in crate::shard) grant: u32,
    /// How long it waits for the first message, in milliseconds.
    pub(in crate::shard) wait_ms: u32,
    /// How it is answered.
    pub(in crate::shard) pending: Pending,
    /// How it wants its messages.
    pub(in crate::shard) transport: Transport,
    /// The number of the topic that is next in the plan.
    pub(in crate::shard) step: u8,
    /// All topics are subscribed.
    pub(in crate::shard) subscribed: bool,
    /// What of them it wants; it uses it until it is cleared.
    pub(in crate::shard) view: u32,
    /// How fast: milliseconds of a batch, bytes a second, messages that wait; 0: it does not say.
    speeds: [u32; 3],
}

impl Reading {
    /// Makes one that has a plan.
    #[must_use]
    pub(in crate::shard) fn new(transport: Transport, plan: Buffer, view: u32, pace: Pace) -> Reading {
        Reading {
            plan,
            words: Words::new(),
            conditions: Buffer::new(Owner::Inbound),
            emptied: 0,
            grant: NOBODY,
            wait_ms: 0,
            pending: Pending::default(),
            transport,
            step: 0,
            subscribed: false,
            view,
            speeds: [pace.batch_ms, pace.rate, pace.queue].map(Option::unwrap_or_default),
        }
    }

    /// Returns how fast it wants its messages.
    #[must_use]
    pub(in crate::shard) fn pace(&self) -> Pace {
        let [batch_ms, rate, queue] = self.speeds.map(|speed| Some(speed).filter(|speed| *speed > 0));
        Pace { batch_ms, rate, queue }
    }

    /// Returns the memory that it holds, in bytes.
    #[must_use]
    pub(in crate::shard) fn block_bytes(&self) -> u64 {
        let buffers = u64::from(self.plan.block_bytes()) + u64::from(self.conditions.block_bytes());
        buffers + u64::from(self.words.block_bytes())
    }

    /// Gives all of its memory back.
    pub(in crate::shard) fn clear(&mut self, store: &mut Store) {
        self.plan.clear(store);
        self.words.clear(store);
        self.conditions.clear(store);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::slot::connection::{Active, Connection};
    use crate::shard::topic::topics::{Subscriber, Subscription};

    /// What a long poll that waits costs here: it is busy, but with nothing.
    #[test]
    fn a_waiting_long_poll_is_small() {
        let sizes = [
            size_of::<Connection>(),
            size_of::<Subscriber>(),
            size_of::<Subscription>(),
            size_of::<Active>(),
            size_of::<Reading>(),
        ];
        assert!(sizes.iter().sum::<usize>() <= 400, "{sizes:?}");
    }
}
