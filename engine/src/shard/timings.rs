//! What takes how long: turns and their phases, rounds of fan-out, messages from being read to being sent, handshakes, verdicts.
//!
//! Owns: the histograms, and what a turn notes for them. A phase is measured by a tick counter, read between the phases: it costs some
//! nanoseconds, where a clock would take some tens. How long a tick is follows from the turn, whose begin and end are read from the clock.
//! A round is one walk over all readers of a topic and dialect on this shard; it counts once, not once for each reader. Readers whose
//! sockets are full, or who are sent several topics in one, get their bytes later, and are not waited for.

use super::histogram::Histogram;

/// Longer turns are divided as if they had taken so long: a quarter of an hour.
const TURN_US_MAX: u64 = 1 << 29;

/// A turn that takes longer is worth a line in the log, in microseconds: most take a tenth.
const LONG_US: u64 = 5_000;

/// Makes [`Phase`] and the names of its parts.
macro_rules! phases {
    ($($(#[$doc:meta])* $name:ident: $text:literal,)*) => {
        /// A part of a turn, as [`turn`](super::turn) has them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Phase {
            $($(#[$doc])* $name,)*
        }

        /// What the phases of a turn are called.
        pub const PHASES: &[&str] = &[$($text,)*];
    };
}

phases! {
    /// What the kernel said is taken.
    Reap: "reap",
    /// Other shards, and the control plane, are heard.
    Hear: "hear",
    /// What the kernel said is served.
    Serve: "serve",
    /// Timers.
    Expire: "expire",
    /// What the shard told itself, and what waited for room.
    Ask: "ask",
    /// Sends are ordered.
    Flush: "flush",
    /// The kernel sends.
    Submit: "submit",
    /// Positions go by what was sent.
    Settle: "settle",
}

/// Where the histogram of turns stands in [`TIMED`]; and others.
const TURN: usize = 2;
const HANDSHAKE: usize = 3;
const VERDICT: usize = 4;

/// Histograms of single things.
pub const TIMED: [(&str, &str); 5] = [
    (
        "latency",
        "From when a message was read from its publisher to when it was sent to its readers on a shard; once for each topic, dialect, shard and round.",
    ),
    ("round", "From when a round of fan-out began on a shard to when all of its sends were done."),
    ("turn", "Turns that did something."),
    ("handshake", "TLS handshakes, from the first record to the last."),
    ("verdict", "Questions to the authority, from being asked to being answered."),
];

/// All histograms of a shard: those of [`TIMED`], and then those of [`PHASES`].
pub const HISTOGRAMS: usize = TIMED.len() + PHASES.len();

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    single: [Histogram; TIMED.len()],
    /// Without those below a microsecond, which most are: they are what is missing to the number of turns.
    phases: [Histogram; PHASES.len()],
}

impl Timings {
    /// Returns the values of each histogram, in the order of [`TIMED`] and [`PHASES`].
    pub fn all(&self) -> impl Iterator<Item = impl Iterator<Item = u64>> {
        let turns = self.single[TURN].count();
        let whole = move |phase: &Histogram| phase.with_shortest(turns - phase.count());
        self.single.iter().cloned().chain(self.phases.iter().map(whole)).map(|histogram| histogram.into_values())
    }
}

/// What a shard measures.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) timings: Timings,
    /// Ticks when the turn began, and the phase.
    began: u64,
    mark: u64,
    /// Ticks of each phase of the turn.
    ticks: [u64; PHASES.len()],
    /// Rounds that this turn has ended: when the oldest message in it was read, and when it began; low bits of microseconds.
    ended: Vec<(u32, u32)>,
}

/// A turn that took long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongTurn {
    pub(super) took_us: u64,
    /// The phase that took most of it.
    pub(super) phase: &'static str,
    pub(super) phase_us: u64,
}

/// Returns the low bits of a time, which are never 0: that is no time.
#[inline]
pub(super) fn low_bits(now_us: u64) -> u32 {
    (now_us as u32).max(1)
}

impl Watch {
    /// A turn begins.
    #[inline]
    pub(super) fn begin(&mut self, ticks: u64) {
        (self.began, self.mark) = (ticks, ticks);
    }

    /// A phase is over.
    #[inline]
    pub(super) fn over(&mut self, phase: Phase, ticks: u64) {
        self.ticks[phase as usize] = ticks.wrapping_sub(self.mark);
        self.mark = ticks;
    }

    /// A round is over when this turn has sent what it has ordered.
    #[inline]
    pub(super) fn round_ends(&mut self, since: u32, began: u32) {
        self.ended.push((since, began));
    }

    /// A turn that did something is over; says if it took long.
    pub(super) fn turned(&mut self, took_us: u64, now_us: u64) -> Option<LongTurn> {
        let Timings { single: [latency, round, turn, ..], phases } = &mut self.timings;
        let now = low_bits(now_us);
        for (since, began) in self.ended.drain(..) {
            round.count_us(now.wrapping_sub(began));
            if since != 0 {
                latency.count_us(now.wrapping_sub(since));
            }
        }
        turn.count_us(u32::try_from(took_us).unwrap_or(u32::MAX));
        let all = self.mark.wrapping_sub(self.began);
        // Nanoseconds of a tick, times 2^24: one division for all phases. A turn that is too short for the clock has nothing to divide.
        let scale = ((took_us.min(TURN_US_MAX) * 1000) << 24).checked_div(all).unwrap_or(0);
        for (phase, ticks) in phases.iter_mut().zip(&self.ticks) {
            phase.count_if_long((ticks.wrapping_mul(scale)) >> 24);
        }
        if took_us < LONG_US {
            return None;
        }
        let (longest, ticks) = self.ticks.iter().enumerate().max_by_key(|(_, ticks)| **ticks)?;
        let phase_us = u128::from(took_us) * u128::from(*ticks) / u128::from(all.max(1));
        Some(LongTurn { took_us, phase: PHASES[longest], phase_us: u64::try_from(phase_us).unwrap_or(u64::MAX) })
    }

    /// A TLS handshake is over.
    pub(super) fn shaken(&mut self, took_us: u32) {
        self.timings.single[HANDSHAKE].count_us(took_us);
    }

    /// A verdict has come.
    pub(super) fn judged(&mut self, took_us: u32) {
        self.timings.single[VERDICT].count_us(took_us);
    }

    /// Returns the bytes of memory that it holds beside itself.
    #[must_use]
    pub(super) fn bytes(&self) -> usize {
        self.ended.capacity() * size_of::<(u32, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(watch: &Watch, name: &str) -> Histogram {
        let names = TIMED.iter().map(|(name, _)| *name).chain(PHASES.iter().copied());
        let place = names.clone().position(|other| other == name).unwrap();
        let mut found = Histogram::default();
        found.add(watch.timings.all().nth(place).unwrap());
        found
    }

    /// The time of a turn is its phases' by their ticks; a long one is told with the phase that took most.
    #[test]
    fn a_turn_is_divided_by_ticks() {
        let mut watch = Watch::default();
        watch.begin(1_000);
        watch.over(Phase::Reap, 2_000);
        for phase in [Phase::Hear, Phase::Serve, Phase::Expire, Phase::Ask] {
            watch.over(phase, 2_000);
        }
        watch.over(Phase::Flush, 5_000);
        watch.over(Phase::Submit, 11_000);
        watch.over(Phase::Settle, 11_000);
        let long = watch.turned(10_000, 77_000).unwrap();
        assert_eq!(long, LongTurn { took_us: 10_000, phase: "submit", phase_us: 6_000 });
        let sums = ["reap", "hear", "flush", "submit"].map(|name| named(&watch, name).sum_ns() / 1000);
        assert!([1_000, 0, 3_000, 6_000].iter().zip(sums).all(|(is, said)| is - said <= 1), "{sums:?}");
        assert_eq!((named(&watch, "turn").count(), named(&watch, "serve").count()), (1, 1));
        assert_eq!(watch.turned(LONG_US - 1, 0), None);
        // A turn without ticks, or without time, is one.
        let mut watch = Watch::default();
        watch.begin(0);
        assert_eq!(watch.turned(0, 0), None);
        assert!(watch.turned(u64::MAX >> 30, 0).is_some());
    }

    /// A round counts when its turn is over, once; a message of which it is not known when it came has no latency.
    #[test]
    fn rounds_count_once() {
        let mut watch = Watch::default();
        watch.round_ends(low_bits(1_000), low_bits(1_900));
        watch.round_ends(0, low_bits(1_900));
        watch.turned(50, 2_000);
        watch.turned(50, 3_000);
        let (latency, round) = (named(&watch, "latency"), named(&watch, "round"));
        assert_eq!((latency.count(), latency.sum_ns()), (1, 1_000_000));
        assert_eq!((round.count(), round.sum_ns()), (2, 200_000));
        // The bits of a time go round after an hour.
        watch.round_ends(low_bits(u64::from(u32::MAX)), low_bits(1 << 32));
        watch.turned(50, (1 << 32) + 9);
        assert_eq!(named(&watch, "latency").sum_ns(), 1_000_000 + 10_000);
    }
}
