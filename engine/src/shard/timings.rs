//! What takes how long: turns and their phases, rounds of fan-out, messages from being read to being sent, handshakes, verdicts.
//!
//! Owns: the histograms, and what a turn notes for them. A phase is measured by a tick counter, read between the phases: it costs some
//! nanoseconds, where a clock would take some tens. How long a tick is follows from the clock, which is read at both ends of a turn.
//! A round is one walk over all readers of a topic and dialect on this shard; it counts once, not once for each reader. Readers whose
//! sockets are full, or who are sent several topics in one, get their bytes later, and are not waited for.

use super::histogram::Histogram;

/// Turns that take so long, in microseconds, are divided among their phases one by one; of shorter ones, of which a busy shard may have a
/// hundred thousand a second, one of so many is divided for all of these.
const DIVIDED_US: u32 = 8;
const SHORT_ONES: u32 = 8;

/// How long it is watched how long a tick is, in microseconds: the clock is a microsecond wrong at both ends.
const MEASURED_US: u64 = 1_000_000;

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
    /// Of turns that took [`DIVIDED_US`]; in the others each phase took less.
    phases: [Histogram; PHASES.len()],
    /// Of all turns that did something: of a part of the short ones, each for all of these.
    ticks: [u64; PHASES.len()],
    /// Nanoseconds of a tick, times 2^24; 0 until that is known, and the same from then on, so that no sum ever falls.
    tick_ns: u64,
}

impl Timings {
    /// Returns the values of each histogram, in the order of [`TIMED`] and [`PHASES`].
    pub fn all(&self) -> impl Iterator<Item = impl Iterator<Item = u64>> {
        let turns = self.single[TURN].count();
        let whole = move |(phase, ticks): (&Histogram, &u64)| {
            let sum_ns = (u128::from(*ticks) * u128::from(self.tick_ns)) >> 24;
            phase.with_short_ones(turns - phase.count(), DIVIDED_US - 1, u64::try_from(sum_ns).unwrap_or(u64::MAX))
        };
        let phases = self.phases.iter().zip(&self.ticks).map(whole);
        self.single.iter().cloned().chain(phases).map(Histogram::into_values)
    }
}

/// What a shard measures.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) timings: Timings,
    /// Ticks when the turn began, and when each phase of it ended.
    marks: [u64; PHASES.len() + 1],
    /// Turns that were too short to be divided, one by one.
    short_ones: u32,
    /// Time and ticks at the end of the first turn that was divided.
    first: Option<(u64, u64)>,
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
        self.marks[0] = ticks;
    }

    /// A phase is over; all of a turn are, in order.
    #[inline]
    pub(super) fn over(&mut self, phase: Phase, ticks: u64) {
        self.marks[phase as usize + 1] = ticks;
    }

    /// A round is over when this turn has sent what it has ordered.
    #[inline]
    pub(super) fn round_ends(&mut self, since: u32, began: u32) {
        self.ended.push((since, began));
    }

    /// A turn that did something is over; says if it took long.
    pub(super) fn turned(&mut self, took_us: u64, now_us: u64) -> Option<LongTurn> {
        let [latency, round, turn, ..] = &mut self.timings.single;
        let now = low_bits(now_us);
        for (since, began) in self.ended.drain(..) {
            round.count_us(now.wrapping_sub(began));
            if since != 0 {
                latency.count_us(now.wrapping_sub(since));
            }
        }
        turn.count_us(u32::try_from(took_us).unwrap_or(u32::MAX));
        if took_us >= u64::from(DIVIDED_US) {
            return self.divide(took_us, now_us, 1);
        }
        self.short_ones += 1;
        if self.short_ones.is_multiple_of(SHORT_ONES) {
            self.divide(took_us, now_us, SHORT_ONES.into());
        }
        None
    }

    /// Divides a turn among its phases, which stands for so many.
    #[cold]
    fn divide(&mut self, took_us: u64, now_us: u64, stands_for: u64) -> Option<LongTurn> {
        let Timings { phases, ticks: sums, tick_ns, .. } = &mut self.timings;
        // A counter that is set back, as of a guest that is moved to another host, takes nothing away.
        let ticks: [u64; PHASES.len()] = std::array::from_fn(|n| self.marks[n + 1].saturating_sub(self.marks[n]));
        sums.iter_mut().zip(ticks).for_each(|(sum, ticks)| *sum += stands_for * ticks);
        let end = self.marks[PHASES.len()];
        let (first_us, first) = *self.first.get_or_insert((now_us, end));
        if *tick_ns == 0 && now_us.saturating_sub(first_us) >= MEASURED_US {
            let ns = (u128::from(now_us - first_us) * 1000) << 24;
            *tick_ns =
                ns.checked_div(end.saturating_sub(first).into()).and_then(|ns| u64::try_from(ns).ok()).unwrap_or(0);
        }
        let all: u64 = ticks.iter().sum();
        if took_us < u64::from(DIVIDED_US) || all == 0 {
            return None;
        }
        let us_of = |ticks: u64| u128::from(took_us) * u128::from(ticks) / u128::from(all);
        for (phase, ticks) in phases.iter_mut().zip(ticks) {
            phase.count_us(u32::try_from(us_of(ticks)).unwrap_or(u32::MAX));
        }
        let (longest, most) = ticks.into_iter().enumerate().max_by_key(|(_, ticks)| *ticks)?;
        let phase_us = u64::try_from(us_of(most)).unwrap_or(u64::MAX);
        (took_us >= LONG_US).then_some(LongTurn { took_us, phase: PHASES[longest], phase_us })
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

    fn turn(watch: &mut Watch, began: u64, phases: [u64; PHASES.len()], took_us: u64, now_us: u64) -> Option<LongTurn> {
        let all = [
            Phase::Reap,
            Phase::Hear,
            Phase::Serve,
            Phase::Expire,
            Phase::Ask,
            Phase::Flush,
            Phase::Submit,
            Phase::Settle,
        ];
        let mut ticks = began;
        watch.begin(ticks);
        for (phase, took) in all.into_iter().zip(phases) {
            ticks += took;
            watch.over(phase, ticks);
        }
        watch.turned(took_us, now_us)
    }

    /// A turn is its phases' by their ticks; a long one is told with the phase that took most. Short ones are in the sums, and count as
    /// short ones.
    #[test]
    fn a_turn_is_divided_by_ticks() {
        let mut watch = Watch::default();
        let long = turn(&mut watch, 1_000, [1_000, 0, 0, 0, 0, 3_000, 6_000, 0], 10_000, 77_000).unwrap();
        assert_eq!(long, LongTurn { took_us: 10_000, phase: "submit", phase_us: 6_000 });
        assert_eq!(named(&watch, "flush").sum_ns(), 0, "nobody knows yet how long a tick is");
        assert_eq!(named(&watch, "flush").quantile_us(1.0), Some(3_072));
        // A second later it is known: a microsecond.
        assert_eq!(turn(&mut watch, 1_010_990, [0, 10, 0, 0, 0, 0, 0, 0], LONG_US - 1, 1_077_000), None);
        let sums = ["reap", "hear", "flush", "submit"].map(|name| named(&watch, name).sum_ns() / 1000);
        assert_eq!(sums, [1_000, 10, 3_000, 6_000]);
        for short in 0..8 {
            turn(&mut watch, 2_000_000, [0, 0, 5 + short % 2, 0, 0, 0, 0, 0], 5, 2_000_000);
        }
        let serve = named(&watch, "serve");
        assert_eq!((serve.count(), serve.sum_ns(), named(&watch, "turn").count()), (10, 48_000, 10));
        assert_eq!((serve.below_power(3), serve.below_power(0)), (10, 2));
        // A turn without ticks, or without time, is one; ticks that go back take nothing away.
        assert_eq!(turn(&mut watch, 0, [0; PHASES.len()], 0, 0), None);
        watch.begin(9);
        assert_eq!(watch.turned(u64::MAX >> 30, 0), None);
        assert_eq!((named(&watch, "turn").count(), named(&watch, "serve").sum_ns()), (12, 48_000));
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
