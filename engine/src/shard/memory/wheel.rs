//! The timer wheel: one timer per connection, set and cancelled in constant time, without allocation.
//!
//! Timers are lazy: activity does not move them. When one is due, the shard looks whether the silence was real, and
//! sets it again if not. So a busy connection costs nothing here.
//!
//! Invariant: a timer is in exactly one slot's list, the one of its due tick modulo the number of slots, or in none.

/// Resolution in milliseconds: the shortest time-out anybody waits for is a few of these.
pub(in crate::shard) const TICK_MS: u64 = 128;

/// Slots: 1,024 x 128 ms is 131 s, longer than every time-out in use; a longer one goes round once more.
const SLOTS: usize = 1024;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Timer {
    next: u32,
    previous: u32,
    /// Due tick, or 0 if the timer is not set.
    due: u32,
}

/// The wheel.
#[derive(Debug)]
pub(in crate::shard) struct Wheel {
    timers: Vec<Timer>,
    heads: Vec<u32>,
    occupied: [u64; SLOTS / 64],
    /// The last tick that was expired.
    tick: u32,
}

/// Returns the tick that time `us` lies in; ticks start at 1, because 0 means "not set".
#[must_use]
pub(in crate::shard) fn tick_of(us: u64) -> u32 {
    (us / 1000 / TICK_MS + 1) as u32
}

impl Wheel {
    /// Makes a wheel whose time starts at `now_us`.
    #[must_use]
    pub(in crate::shard) fn new(now_us: u64, timers_max: u32) -> Wheel {
        Wheel {
            timers: Vec::with_capacity(timers_max as usize),
            heads: vec![NONE; SLOTS],
            occupied: [0; SLOTS / 64],
            tick: tick_of(now_us),
        }
    }

    /// Sets timer `id`, `after_ms` from the tick `now` on; what was set before is forgotten.
    pub(in crate::shard) fn set(&mut self, id: u32, now: u32, after_ms: u64) {
        self.cancel(id);
        let ticks = u32::try_from(after_ms.div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2).max(1);
        let due = now.max(self.tick).saturating_add(ticks);
        self.insert(id, due);
    }

    /// Sets timer `id`, unless it is due before that anyway.
    pub(in crate::shard) fn set_earlier(&mut self, id: u32, now: u32, after_ms: u64) {
        let due = self.timers.get(id as usize).map_or(0, |timer| timer.due);
        self.set(id, now, after_ms);
        if due != 0 && due < self.timers[id as usize].due {
            self.cancel(id);
            self.insert(id, due);
        }
    }

    /// Forgets timer `id`, if it is set.
    pub(in crate::shard) fn cancel(&mut self, id: u32) {
        if self.timers.len() <= id as usize {
            let none = Timer { next: NONE, previous: NONE, due: 0 };
            self.timers.resize(id as usize + 1, none);
        }
        let timer = self.timers[id as usize];
        if timer.due == 0 {
            return;
        }
        let slot = timer.due as usize % SLOTS;
        if timer.previous == NONE {
            self.heads[slot] = timer.next;
            if timer.next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        } else {
            self.timers[timer.previous as usize].next = timer.next;
        }
        if timer.next != NONE {
            self.timers[timer.next as usize].previous = timer.previous;
        }
        self.timers[id as usize].due = 0;
    }

    /// Moves timers that are due at tick `now` to `due`, at most `max` of them; says whether more are due.
    pub(in crate::shard) fn expire(&mut self, now: u32, max: usize, due: &mut Vec<u32>) -> bool {
        // After a long stall every slot is looked at once, not once per missed tick.
        self.tick = self.tick.max(now.saturating_sub(SLOTS as u32));
        let mut taken = 0;
        while self.tick <= now {
            let slot = self.tick as usize % SLOTS;
            let mut id = self.heads[slot];
            while id != NONE {
                let timer = self.timers[id as usize];
                if timer.due <= now {
                    if taken == max {
                        return true;
                    }
                    self.cancel(id);
                    due.push(id);
                    taken += 1;
                }
                id = timer.next;
            }
            if self.tick == now {
                break;
            }
            self.tick += 1;
        }
        false
    }

    /// Returns the time of the next tick with a timer in its slot, in microseconds, if any timer is set.
    ///
    /// What is left in the slot of the tick that was expired last is a round or more away: it is looked at last, or a shard
    /// would take turn after turn while that tick lasts.
    #[must_use]
    pub(in crate::shard) fn next_us(&self) -> Option<u64> {
        let start = (self.tick as usize + 1) % SLOTS;
        (0..=self.occupied.len()).find_map(|word| {
            let index = (start / 64 + word) % self.occupied.len();
            let mut bits = self.occupied[index];
            if word == 0 {
                bits &= !0 << (start % 64);
            } else if word == self.occupied.len() {
                bits &= !(!0 << (start % 64));
            }
            (bits != 0).then(|| {
                let slot = index * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                (u64::from(self.tick) + ahead as u64) * TICK_MS * 1000
            })
        })
    }

    fn insert(&mut self, id: u32, due: u32) {
        let slot = due as usize % SLOTS;
        let head = self.heads[slot];
        self.timers[id as usize] = Timer { next: head, previous: NONE, due };
        if head != NONE {
            self.timers[head as usize].previous = id;
        }
        self.heads[slot] = id;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The wheel expires what a plain sorted map expires, never early, under random setting, cancelling and stalls. A rest until
    /// its next time passes no timer, and is a rest: also with timers that are rounds away in the slot of this very tick. (That
    /// was a bug: with `--ping-interval 10m` shards took turns without end.)
    #[test]
    fn like_a_sorted_map() {
        let mut wheel = Wheel::new(0, 64);
        let mut map: BTreeMap<u32, u32> = BTreeMap::new();
        let mut now = 1u32;
        let mut seed = 3u64;
        for _ in 0..50_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as u32;
            let id = dice % 64;
            match dice >> 8 & 7 {
                0..3 => {
                    let after_ms = u64::from(dice >> 12) % 300_000;
                    let due = now + (after_ms.div_ceil(TICK_MS) as u32).max(1);
                    if dice >> 11 & 1 == 0 {
                        wheel.set(id, now, after_ms);
                        map.insert(id, due);
                    } else {
                        wheel.set_earlier(id, now, after_ms);
                        map.entry(id).and_modify(|known| *known = due.min(*known)).or_insert(due);
                    }
                }
                3 => {
                    wheel.cancel(id);
                    map.remove(&id);
                }
                _ => {
                    now += if dice.is_multiple_of(97) { 5_000 } else { dice >> 12 & 31 };
                    let mut due = Vec::new();
                    while wheel.expire(now, 3, &mut due) {}
                    due.sort_unstable();
                    let expected: Vec<u32> = map.iter().filter(|(_, due)| **due <= now).map(|(id, _)| *id).collect();
                    map.retain(|_, due| *due > now);
                    assert_eq!(due, expected);
                }
            }
            let earliest = map.values().min();
            match (wheel.next_us(), earliest) {
                (None, None) => {}
                (Some(us), Some(due)) => {
                    assert!(tick_of(us) <= *due, "resting past a timer");
                    assert!(tick_of(us) > now, "no rest at all");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
