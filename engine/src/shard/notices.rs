//! Notices: who is refused what, in the log, so that an operator who looks for a client finds it.
//!
//! Owns: how often each refusal was told of late. Each name has a bound of its own: a flood of one leaves the others their lines. What is not told is
//! counted, and said with the next line of its name, or when the window is over. Never: costs more than a comparison where nothing is told, or writes: that is
//! `session/notice`'s.

use super::refusal::Refusal;

/// Lines of one name that a shard writes in a window, and its length in microseconds.
const LINES_MAX: u32 = 10;
const WINDOW_US: u64 = 10_000_000;

/// What was told of one refusal.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    since_us: u64,
    told: u32,
    left_out: u64,
}

/// What was told of each.
#[derive(Debug)]
pub(super) struct Notices {
    names: [Name; Refusal::ALL.len()],
    /// When the first window is over of which something is to be said.
    due_us: Option<u64>,
}

impl Notices {
    /// Makes one that has told nothing.
    pub(super) fn new() -> Notices {
        Notices { names: [Name::default(); Refusal::ALL.len()], due_us: None }
    }

    /// Counts one refusal; returns how many like it were left out before, if it may be told.
    pub(super) fn may_tell(&mut self, refusal: Refusal, now_us: u64) -> Option<u64> {
        let name = &mut self.names[refusal as usize];
        if name.told == 0 || now_us >= name.since_us + WINDOW_US {
            (name.since_us, name.told) = (now_us, 0);
        }
        if name.told < LINES_MAX {
            name.told += 1;
            return Some(std::mem::take(&mut name.left_out));
        }
        name.left_out += 1;
        let over_us = name.since_us + WINDOW_US;
        self.due_us = Some(self.due_us.map_or(over_us, |due_us| due_us.min(over_us)));
        None
    }

    /// Returns when something is to be said.
    pub(super) fn due_us(&self) -> Option<u64> {
        self.due_us
    }

    /// Returns one refusal whose window is over, and how many of it were left out of which nobody was told.
    pub(super) fn overdue(&mut self, now_us: u64) -> Option<(Refusal, u64)> {
        self.due_us.filter(|due_us| now_us >= *due_us)?;
        let left_out = |name: &&mut Name| name.left_out > 0;
        let over = Refusal::ALL
            .iter()
            .zip(&mut self.names)
            .find(|(_, name)| left_out(name) && now_us >= name.since_us + WINDOW_US);
        match over {
            Some((refusal, name)) => Some((*refusal, std::mem::take(&mut name.left_out))),
            None => {
                let waiting = self.names.iter_mut().filter(left_out);
                self.due_us = waiting.map(|name| name.since_us + WINDOW_US).min();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each name has its lines, whatever becomes of the others; what is left out is said once.
    #[test]
    fn each_name_has_its_lines() {
        let mut notices = Notices::new();
        let told = |notices: &mut Notices, refusal, now_us| notices.may_tell(refusal, now_us);
        let mut lines = 0;
        for n in 0..1_000 {
            lines += u32::from(told(&mut notices, Refusal::TooFast, 5 + n).is_some());
        }
        assert_eq!((lines, told(&mut notices, Refusal::Full, 1_005)), (LINES_MAX, Some(0)));
        assert_eq!((notices.due_us(), notices.overdue(5_000_000)), (Some(5 + WINDOW_US), None));
        assert_eq!(told(&mut notices, Refusal::TooFast, 5 + WINDOW_US), Some(990), "with the next line");
        assert_eq!((notices.overdue(5 + WINDOW_US), notices.due_us()), (None, None));
    }

    /// A flood that has ended is said when its window is over; nobody waits for the next one.
    #[test]
    fn what_has_ended_is_said() {
        let mut notices = Notices::new();
        for refusal in [Refusal::TooFast, Refusal::Forbidden] {
            assert_eq!((0..15).filter(|n| notices.may_tell(refusal, *n).is_some()).count(), 10);
        }
        let over = |notices: &mut Notices| std::iter::from_fn(|| notices.overdue(WINDOW_US)).collect::<Vec<_>>();
        assert_eq!(over(&mut notices), [(Refusal::TooFast, 5), (Refusal::Forbidden, 5)]);
        assert!(over(&mut notices).is_empty() && notices.due_us().is_none());
    }
}
