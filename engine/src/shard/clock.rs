//! The time of a turn: read once when it begins, the same for everything in it.

use corecast_protocol::http::date::{DATE_BYTES, date};

use crate::shard::memory::wheel::tick_of;

/// What time it is.
#[derive(Debug)]
pub(super) struct Clock {
    /// The driver's clock, in microseconds and milliseconds.
    pub(super) now_us: u64,
    pub(super) now_ms: u64,
    /// The same, in steps of the timers.
    pub(super) tick: u32,
    /// What the time of day is ahead of this clock, in microseconds.
    pub(super) wall_offset_us: u64,
    /// The time of day in seconds, and how answers say it; written anew when one is written in another second.
    date: (u64, [u8; DATE_BYTES]),
}

impl Clock {
    /// Makes a clock that has not been read yet.
    #[must_use]
    pub(super) fn new(wall_offset_us: u64) -> Clock {
        Clock { now_us: 0, now_ms: 0, tick: 1, wall_offset_us, date: (0, date(0)) }
    }

    /// A turn begins.
    pub(super) fn turn(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.now_ms = now_us / 1000;
        self.tick = tick_of(now_us);
    }

    /// Returns the time of day, in milliseconds and seconds since 1970.
    pub(super) fn wall_ms(&self) -> u64 {
        self.now_us.wrapping_add(self.wall_offset_us) / 1000
    }

    pub(super) fn wall_s(&self) -> u64 {
        self.now_us.wrapping_add(self.wall_offset_us) / 1_000_000
    }

    /// Returns the time of day as answers say it.
    pub(super) fn date(&mut self) -> [u8; DATE_BYTES] {
        let second = self.now_us.wrapping_add(self.wall_offset_us) / 1_000_000;
        if second != self.date.0 {
            self.date = (second, date(second));
        }
        self.date.1
    }
}
