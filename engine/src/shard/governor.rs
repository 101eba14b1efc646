//! The governor of overload: turns that grow long, and what is done about who comes new meanwhile.
//!
//! ```text
//!   calm ── most of the time goes into turns longer than `overload-after` ──▶ holding: newcomers wait in the kernel's queue
//!    ▲                                                                          │ still so after HOLD_US
//!    │                                                                          ▼
//!    └──── less than a quarter of it does ──── refusing: newcomers are told when to come back, each at an appointment of its own,
//!                                              and every other window looking: they wait
//! ```
//!
//! Those who are connected are served all the time: what is held back is what would make their turns longer. It is the time that counts,
//! and not an average of turns: between two long ones there are short ones, which do not make a wait shorter. One long turn is none
//! too many: the kernel may have run somebody else. Appointments lie one behind the other, as far apart as the shard is known to
//! have taken newcomers: so many clients come back over as long as it takes to take them, and not at once. To refuse costs time, too:
//! so many are refused in a window, others wait; and the next window, in which nobody is refused, says whether it is still needed. (Without
//! that the simulator saw a shard that did nothing but send its clients away, as fast as they came back.)
//!
//! Owns: the window that is being watched, the known rate, the time of the next appointment. Never: ends anybody.

/// Turns are judged over at least so long, in microseconds, and at least so many of them.
const WINDOW_US: u64 = 100_000;
const WINDOW_TURNS: u32 = 4;

/// With so much of the time in long turns, in percent, and at least two of them, it is an overload; with so little it is over.
const LONG_PERCENT: u64 = 50;
const SHORT_PERCENT: u64 = 25;

/// How long newcomers wait before they are refused instead, in microseconds: longer than a burst, shorter than people wait.
const HOLD_US: u64 = 500_000;

/// So many are refused in a window: a round of accepts, about a hundredth of the time.
const REFUSALS: u32 = 32;

/// Newcomers that a shard is taken to be able to take in a second, before it has shown it, and at least.
const PER_SECOND: u64 = 1_000;
const PER_SECOND_MIN: u64 = 100;

/// Nobody is asked to come back sooner or later than this, in microseconds.
const SOONEST_US: u64 = 1_000_000;
const LATEST_US: u64 = 300_000_000;

/// What the governor does about newcomers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    /// They are taken.
    #[default]
    Calm,
    /// They wait, since then.
    Holding(u64),
    /// Some are refused.
    Refusing,
    /// They wait, and it is seen whether there is an overload without them.
    Looking,
}

/// What was seen of the turns lately.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// When it began.
    since_us: u64,
    turns: u32,
    /// Turns that were long, and what they took.
    longs: u32,
    long_us: u64,
    /// Newcomers that were refused.
    refusals: u32,
}

/// Watches the turns of a shard.
#[derive(Debug)]
pub(super) struct Governor {
    window: Window,
    /// How much of the time went into long turns in the window before, in percent.
    long_percent: u64,
    mood: Mood,
    /// Nobody is accepted now.
    holds: bool,
    /// Times that it was not calm any more.
    times: u64,
    /// Newcomers that the shard can take in a second.
    per_second: u64,
    /// When that was last looked at, and how many it had taken by then.
    looked: (u64, u64),
    /// Time of the last appointment.
    appointed_us: u64,
}

/// What becomes of accepting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    /// It goes on as it is.
    AsBefore,
    /// It pauses.
    No,
    /// It goes on again.
    Again,
}

impl Governor {
    /// Makes a calm one.
    #[must_use]
    pub(super) fn new() -> Governor {
        Governor {
            window: Window::default(),
            long_percent: 0,
            mood: Mood::Calm,
            holds: false,
            times: 0,
            per_second: PER_SECOND,
            looked: (0, 0),
            appointed_us: 0,
        }
    }

    /// A turn has ended that took so long, 0 if there was nothing to do; `taken` newcomers were taken since the start. With a bound of 0,
    /// nothing is too long.
    pub(super) fn turned(&mut self, took_us: u64, now_us: u64, bound_us: u64, taken: u64) -> Accepts {
        if bound_us == 0 && self.mood == Mood::Calm {
            return Accepts::AsBefore;
        }
        self.window.turns += 1;
        if took_us > bound_us {
            self.window.longs += 1;
            self.window.long_us += took_us;
        }
        if now_us >= self.window.since_us + WINDOW_US && self.window.turns >= WINDOW_TURNS {
            self.judge(now_us, bound_us, taken);
        }
        let holds = match self.mood {
            Mood::Calm => false,
            Mood::Holding(_) | Mood::Looking => true,
            Mood::Refusing => self.window.refusals >= REFUSALS,
        };
        if std::mem::replace(&mut self.holds, holds) == holds {
            return Accepts::AsBefore;
        }
        if holds { Accepts::No } else { Accepts::Again }
    }

    /// A window is over.
    fn judge(&mut self, now_us: u64, bound_us: u64, taken: u64) {
        let Window { since_us, longs, long_us, .. } = self.window;
        self.window = Window { since_us: now_us, ..Window::default() };
        self.long_percent = if bound_us == 0 { 0 } else { long_us * 100 / (now_us - since_us) };
        let (long, short) = (self.long_percent > LONG_PERCENT && longs > 1, self.long_percent < SHORT_PERCENT);
        self.learn(now_us, taken, long);
        self.mood = match self.mood {
            Mood::Calm if long => {
                self.times += 1;
                Mood::Holding(now_us)
            }
            Mood::Holding(since_us) if !short && now_us >= since_us + HOLD_US => Mood::Refusing,
            Mood::Holding(_) | Mood::Looking if short => Mood::Calm,
            Mood::Refusing => Mood::Looking,
            Mood::Looking => Mood::Refusing,
            mood => mood,
        };
    }

    /// Says whether nobody is accepted now.
    #[must_use]
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Returns when the shard has to take a turn at the latest, so that newcomers do not wait for one that rests.
    #[must_use]
    pub(super) fn looks_us(&self) -> Option<u64> {
        (self.mood != Mood::Calm).then_some(self.window.since_us + WINDOW_US)
    }

    /// Learns how many newcomers the shard takes in a second: at least so many as it took while that was easy. What it took before it
    /// became `long` was too many, if they are to blame; and while it stays so, fewer and fewer are asked to come.
    fn learn(&mut self, now_us: u64, taken: u64, long: bool) {
        let (looked_us, before) = self.looked;
        let (calm, elapsed_us) = (self.mood == Mood::Calm, now_us - looked_us);
        if elapsed_us < 1_000_000 && !(calm && long) {
            return;
        }
        let rate = (taken - before) * 1_000_000 / elapsed_us.max(1);
        let known = match calm {
            true if long => self.per_second.midpoint(rate),
            true => self.per_second.max(rate),
            false => self.per_second - self.per_second / 8,
        };
        self.per_second = known.max(PER_SECOND_MIN);
        self.looked = (now_us, taken);
    }

    /// Returns how much of the time went into long turns lately, in percent.
    #[must_use]
    pub(super) fn long_percent(&self) -> u64 {
        self.long_percent
    }

    /// Says whether newcomers wait, or are refused.
    #[must_use]
    pub(super) fn is_overloaded(&self) -> bool {
        self.mood != Mood::Calm
    }

    /// Returns how often it was not calm any more.
    #[must_use]
    pub(super) fn times(&self) -> u64 {
        self.times
    }

    /// Says whether newcomers are refused: those who were on their way when accepting paused are, too.
    #[must_use]
    pub(super) fn refuses(&self) -> bool {
        matches!(self.mood, Mood::Refusing | Mood::Looking)
    }

    /// Returns in how many microseconds the next one who is refused shall come back; `random` spreads those who come after very many.
    pub(super) fn appoint(&mut self, now_us: u64, random: u64) -> u64 {
        self.window.refusals += 1;
        let next_us = self.appointed_us.max(now_us + SOONEST_US) + 1_000_000 / self.per_second;
        if next_us > now_us + LATEST_US {
            return LATEST_US / 2 + random % (LATEST_US / 2);
        }
        self.appointed_us = next_us;
        next_us - now_us
    }

    /// Returns the seconds over which so many clients come back, if the shard is to take all of them.
    #[must_use]
    pub(super) fn spread_s(&self, clients: u64) -> u32 {
        u32::try_from(clients / self.per_second).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND_US: u64 = 20_000;

    /// Lets turns of these lengths follow each other for so many milliseconds, and returns what they made of accepting, but for nothing.
    fn turns(governor: &mut Governor, now_us: &mut u64, lengths_us: &[u64], ms: u64) -> Vec<Accepts> {
        let mut told = Vec::new();
        let end_us = *now_us + ms * 1000;
        for took_us in lengths_us.iter().cycle() {
            *now_us += took_us;
            told.push(governor.turned(*took_us, *now_us, BOUND_US, 0));
            if *now_us >= end_us {
                break;
            }
        }
        told.retain(|accepts| *accepts != Accepts::AsBefore);
        told
    }

    /// One long turn is none too many; where they are most of the time newcomers wait, in the long run they are refused, and where they
    /// are not any more that is over.
    #[test]
    fn moods() {
        let (mut governor, mut now_us) = (Governor::new(), 1_000_000);
        assert_eq!(turns(&mut governor, &mut now_us, &[1_000], 300), []);
        assert_eq!(turns(&mut governor, &mut now_us, &[10 * BOUND_US], 1), [], "a single one");
        assert_eq!(turns(&mut governor, &mut now_us, &[1_000], 300), []);
        assert_eq!(turns(&mut governor, &mut now_us, &[BOUND_US], 1_000), [], "not longer than may be");
        let long = [3 * BOUND_US, 500, 500, 500];
        assert_eq!(turns(&mut governor, &mut now_us, &long, 400), [Accepts::No], "short ones between change nothing");
        assert!(governor.is_overloaded() && !governor.refuses() && governor.long_percent() > 90);
        assert!(governor.looks_us().is_some_and(|at_us| at_us <= now_us + WINDOW_US));
        assert_eq!(turns(&mut governor, &mut now_us, &[1_000], 300), [Accepts::Again], "it was a burst");
        assert!(!governor.is_overloaded() && governor.looks_us().is_none());
        assert_eq!(turns(&mut governor, &mut now_us, &long, 750), [Accepts::No, Accepts::Again]);
        assert!(governor.refuses());
        let told = turns(&mut governor, &mut now_us, &[1_000], 500);
        assert!(told.ends_with(&[Accepts::No, Accepts::Again]) || told == [Accepts::Again], "{told:?}");
        assert!(!governor.is_overloaded());
        assert_eq!(governor.turned(u64::from(u32::MAX), now_us + u64::from(u32::MAX), 0, 0), Accepts::AsBefore);
    }

    /// So many are refused in a window, and then others wait for the next: to refuse costs time, too.
    #[test]
    fn refusals_are_bounded() {
        let (mut governor, mut now_us) = (Governor::new(), 1_000_000);
        while governor.mood != Mood::Refusing {
            turns(&mut governor, &mut now_us, &[2 * BOUND_US], 1);
        }
        for n in 0..REFUSALS {
            assert_eq!(governor.turned(2 * BOUND_US, now_us, BOUND_US, 0), Accepts::AsBefore, "{n}");
            governor.appoint(now_us, 0);
        }
        assert_eq!(governor.turned(2 * BOUND_US, now_us, BOUND_US, 0), Accepts::No);
        now_us += WINDOW_US;
        assert_eq!(governor.turned(2 * BOUND_US, now_us, BOUND_US, 0), Accepts::AsBefore, "it looks");
        let told = turns(&mut governor, &mut now_us, &[WINDOW_US / u64::from(WINDOW_TURNS)], WINDOW_US / 1000);
        assert_eq!((told, governor.mood), (vec![Accepts::Again], Mood::Refusing));
    }

    /// Turns so long that a few fill the time are seen, too.
    #[test]
    fn very_long_turns() {
        let (mut governor, mut now_us) = (Governor::new(), 1_000_000);
        let told = turns(&mut governor, &mut now_us, &[1_000_000], 20_000);
        assert!(told.starts_with(&[Accepts::No, Accepts::Again]) && governor.refuses(), "{told:?}");
    }

    /// Those who are refused come back one after the other, as fast as newcomers were taken, and the known rate follows what is seen.
    #[test]
    fn appointments_are_spread() {
        let mut governor = Governor::new();
        governor.learn(10_000_000, 0, false);
        governor.learn(12_000_000, 10_000, false);
        let delays: Vec<u64> = (0..10_000).map(|_| governor.appoint(12_000_000, 0)).collect();
        assert!(delays.is_sorted_by(|a, b| b - a == 200), "5,000 a second");
        assert_eq!((delays[0], delays[9_999]), (SOONEST_US + 200, SOONEST_US + 2_000_000));
        assert_eq!(governor.appoint(13_000_000, 0), 2_000_200, "those before are still to come");
        assert_eq!(governor.spread_s(1_000_000), 200);
        let far = (0..3_000_000).map(|n| governor.appoint(13_000_000, n * 7_919)).max().expect("some");
        assert!(far > LATEST_US / 2 && far <= LATEST_US, "{far}");
        // At 1,000 a second its turns have become long.
        governor.learn(13_000_000, 11_000, true);
        assert_eq!(governor.per_second, 3_000);
        governor.mood = Mood::Refusing;
        governor.learn(14_000_000, 11_000, true);
        assert_eq!(governor.per_second, 2_625, "and they still are");
        governor.mood = Mood::Calm;
        governor.learn(15_000_000, 11_000, true);
        governor.learn(15_000_000, 11_000, true);
        (0..10).for_each(|_| governor.learn(15_000_000, 11_000, true));
        assert_eq!(governor.per_second, PER_SECOND_MIN);
    }
}
