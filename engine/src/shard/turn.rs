//! The turn: everything a shard does, in order. Each phase has a budget, so that nothing starves anything.
//!
//! 1. read the clock once, and `reap` what the kernel said since the last turn; `obey` the control plane, if it wants something
//! 2. `hear` what other shards sent; first, because it frees their rings
//! 3. `serve` what the kernel said: bytes, connections, room to write
//! 4. `expire` timers
//! 5. `hear` once more what this shard sent itself, so that it is one turn from a publisher to a reader
//! 6. `ask`: what waited for room in a ring
//! 7. `flush`: one send each to those with something to receive, at most a slice of them
//! 8. `submit`: one system call
//! 9. `settle`: positions move back by what was not sent; blocks that everybody has go back to the pool
//!
//! Sending comes last, so that everything that arrived in this turn leaves in one send per connection; settling comes
//! right after submitting, so that no position is a guess while anything else looks at it.

use super::Shard;
use super::governor::Accepts;
use super::timers::earlier;
use super::timings::{LongTurn, Phase};
use crate::io::driver::Driver;
use crate::reach::{Mark, reach};

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// There was, or still is, something to do.
    Yes,
    /// Nothing to do before this time (microseconds of the driver's clock), unless the kernel or a shard says so.
    RestUntil(Option<u64>),
}

/// How soon a shard looks again at a full ring of another shard: nobody rings a bell when it drains.
const RETRY_US: u64 = 1_000;

impl Shard {
    /// Takes one turn.
    pub fn turn<D: Driver>(&mut self, driver: &mut D) -> Busy {
        let start_us = driver.now_us();
        self.clock.turn(start_us);
        self.encoder.refill(start_us);

        self.watch.begin(driver.ticks());
        let mut worked = self.reap(driver);
        self.watch.over(Phase::Reap, driver.ticks());
        if self.crossings.links.has_orders() {
            self.obey(driver);
            worked = true;
        }
        worked |= self.hear(driver);
        self.watch.over(Phase::Hear, driver.ticks());
        worked |= self.serve(driver);
        self.watch.over(Phase::Serve, driver.ticks());
        // What these have left for the next turn is not seen below: they say so.
        let mut again = self.expire(driver);
        self.watch.over(Phase::Expire, driver.ticks());
        // What it told itself meanwhile leaves in this turn: most messages have their home and their readers here. Before
        // `ask`, which ends those for whom a message was the last straw, before anything is sent to them.
        worked |= self.hear_own(driver);
        again |= self.ask(driver);
        // Before the flush, which may take its time: the other shards begin meanwhile.
        self.crossings.links.bells(|shard| driver.wake(shard));
        self.watch.over(Phase::Ask, driver.ticks());
        worked |= again | self.flush(driver);
        self.watch.over(Phase::Flush, driver.ticks());
        driver.submit();
        self.watch.over(Phase::Submit, driver.ticks());
        again |= self.settle(driver);
        self.crossings.links.bells(|shard| driver.wake(shard));

        self.give_back(driver);
        self.weigh_sometimes(driver);
        self.watch.over(Phase::Settle, driver.ticks());

        self.stats.turns += 1;
        if worked | again {
            let took_us = driver.now_us().saturating_sub(start_us);
            self.stats.turn_us_total += took_us;
            self.stats.turn_us_max = self.stats.turn_us_max.max(took_us);
            if let Some(long) = self.watch.turned(took_us, start_us + took_us) {
                self.tell_long(long);
            }
            self.govern(driver, took_us, start_us + took_us);
        } else {
            self.govern(driver, 0, start_us);
        }
        // A turn that did all there was to do is followed by a rest, not by one that finds nothing.
        again |= worked && self.waits_for_room();
        if again
            || !self.completions.is_empty()
            || !self.postponed.is_empty()
            || !self.slots.ready.is_empty()
            || !self.sending.dirty.is_empty()
            || !self.leaving.connections.is_empty()
            || driver.has_more()
        {
            return Busy::Yes;
        }
        if !self.crossings.unheard.is_empty() || self.crossings.links.has_mail() {
            return Busy::Yes;
        }
        let again_us = self.waits_for_room().then_some(start_us + RETRY_US);
        let until = earlier(earlier(self.timers.next_us(), self.accepting.again_us()), again_us);
        let until = earlier(earlier(until, self.gives_back_us()), driver.due_us());
        let until = earlier(until, self.trust.asking.next_deadline().map(|(due_ms, _)| due_ms * 1000));
        let until = earlier(until, self.governor.looks_us());
        let until = earlier(earlier(until, self.drains_us()), self.notices.due_us());
        let until = earlier(until, self.occupancy.due_ms().map(|due_ms| due_ms * 1000));
        let told_ms = [self.demand.due_ms(), self.presence.due_ms()].into_iter().flatten().min();
        let until = earlier(until, told_ms.map(|due_ms| due_ms * 1000));
        Busy::RestUntil(until)
    }

    /// A turn that takes long delays everybody on this shard: the log says where the time went.
    #[cold]
    fn tell_long(&self, LongTurn { took_us, phase, phase_us }: LongTurn) {
        let (connections, subscriptions) = (self.stats.connections, self.topics.subscriptions.len());
        tracing::warn!(shard = self.index, took_us, phase, phase_us, connections, subscriptions, "a long turn");
    }

    /// Lets newcomers wait while turns are too long.
    fn govern<D: Driver>(&mut self, driver: &mut D, took_us: u64, now_us: u64) {
        let taken = self.stats.accepted.saturating_sub(self.stats.refused_overloaded);
        match self.governor.turned(took_us, now_us, self.limits.overload_us, taken) {
            Accepts::AsBefore => {}
            Accepts::No => {
                reach(Mark::OverloadHolds);
                driver.hold_accepting(true);
            }
            Accepts::Again => driver.hold_accepting(self.frozen),
        }
    }

    fn waits_for_room(&self) -> bool {
        !self.leaving.homes.is_empty()
            || !self.reads.leaving.is_empty()
            || !self.reads.going.is_empty()
            || !self.crossings.crowded.is_empty()
            || !self.recounts.is_idle()
            || self.demand.waits()
            || !self.attendance.is_idle()
    }
}
