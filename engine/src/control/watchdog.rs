//! Signs of life for the supervisor: given as long as all shards give one to the control plane.
//!
//! Owns: when the shards are asked next. A shard that stands still is one that answers nothing within [`PATIENCE`](super::PATIENCE): then
//! no sign is given, and the supervisor does what it was told to do about that. While the engine ends, shards end too, and no more is asked
//! of them: how long that may take is bounded otherwise.

use std::time::{Duration, Instant};

use crate::supervisor::{State, Supervisor};

/// What the control plane knows of it.
#[derive(Debug)]
pub(super) struct Watchdog {
    supervisor: Supervisor,
    /// How often the shards are asked; none: nobody wants to know.
    every: Option<Duration>,
    next: Instant,
    /// They are asked, and have not all answered.
    asked: bool,
}

impl Watchdog {
    /// Makes one for a supervisor that wants a sign within `interval`.
    pub(super) fn new(supervisor: Supervisor, interval: Option<Duration>, now: Instant) -> Watchdog {
        // As sd_watchdog_enabled(3) recommends.
        let every = interval.map(|interval| interval / 2);
        Watchdog { supervisor, every, next: now + every.unwrap_or_default(), asked: false }
    }

    pub(super) fn next_look(&self) -> Option<Instant> {
        self.every.map(|_| self.next)
    }

    /// Says whether the shards are to be asked now.
    pub(super) fn asks(&mut self, now: Instant) -> bool {
        let Some(every) = self.every.filter(|_| now >= self.next) else { return false };
        self.next = now + every;
        if self.supervisor.was_told_the_end() {
            self.supervisor.tell(State::Alive);
            return false;
        }
        !std::mem::replace(&mut self.asked, true)
    }

    /// They have answered, but for those that are late.
    pub(super) fn answered(&mut self, late: &[usize]) {
        self.asked = false;
        if late.is_empty() {
            self.supervisor.tell(State::Alive);
        } else {
            tracing::warn!(?late, "no sign of life is given: these shards stand still");
        }
    }
}
