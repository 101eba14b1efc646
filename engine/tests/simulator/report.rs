//! What worlds amounted to, of one or of many together.

use corecast::shard::Stats;

use crate::ask::TRANSPORTS;
use crate::marks::Coverage;
use crate::regime::Told;
use crate::seat::Tally;

/// What a run amounted to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) sights: u64,
    pub(crate) gaps: u64,
    pub(crate) heard: [u64; TRANSPORTS],
    pub(crate) ends: u64,
    pub(crate) stats: Stats,
    pub(crate) tally: Tally,
    /// The longest that a shard waited for a message, in rounds of it and the home.
    pub(crate) rounds_to_hear: u64,
    /// The longest that a reader waited for a message, in hundredths of rounds of its log.
    pub(crate) rounds_to_send: u64,
    pub(crate) steps_max: u64,
    /// What strangers were told.
    pub(crate) told: Told,
    /// The rare places that were reached.
    pub(crate) coverage: Coverage,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Report) {
        self.sights += other.sights;
        self.gaps += other.gaps;
        self.heard.iter_mut().zip(other.heard).for_each(|(sum, one)| *sum += one);
        self.ends += other.ends;
        self.stats.add(&other.stats);
        self.tally.add(&other.tally);
        self.rounds_to_hear = self.rounds_to_hear.max(other.rounds_to_hear);
        self.rounds_to_send = self.rounds_to_send.max(other.rounds_to_send);
        self.steps_max = self.steps_max.max(other.steps_max);
        self.told.add(&other.told);
        self.coverage.add(&other.coverage);
    }
}
