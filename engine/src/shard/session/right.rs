//! Rights: whether whoever is on a connection may do something with a topic. The one place that says so, for every transport: orders
//! ask it before they leave.
//!
//! ```text
//!                    nobody's           with a grant
//!   nobody           no                 no
//!   granted          unauthorized       if its patterns say so
//!   authenticated    unauthorized       yes
//!   anyone           yes                yes
//!   no rule          where all may      if its patterns say so
//! ```
//!
//! Where all may: on a listener that is open, as the configuration has it: one of this host, as long as nothing says who may what, or
//! any with `insecure`.

use crate::grant::{Action, Who};
use crate::io::driver::Slot;
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::grant::table::NOBODY;
use crate::shard::memory::wheel::TICK_MS;
use crate::shard::refusal::Refusal;
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::Life;

impl Shard {
    /// Says whether whoever is on a connection may do something with a topic, or why not.
    #[inline]
    pub(in crate::shard) fn may(&self, slot: Slot, action: Action, topic: &str) -> Result<(), Refusal> {
        // Nobody has said who it is, and everybody may everything.
        if self.all_may & self.trust.grants.is_empty() {
            return Ok(());
        }
        self.may_by_right(slot, action, topic)
    }

    #[inline(never)]
    fn may_by_right(&self, slot: Slot, action: Action, topic: &str) -> Result<(), Refusal> {
        let who = self.limits.rules.who(action, topic);
        let number = self.grant_of(slot);
        if number == NOBODY {
            return match who {
                Some(Who::Anyone) => Ok(()),
                None if self.is_open_to(slot) => Ok(()),
                Some(Who::Nobody) => Err(Refusal::Forbidden),
                _ => Err(Refusal::Unauthorized),
            };
        }
        let Some(interned) = self.trust.grants.get(number) else { return Err(Refusal::Unauthorized) };
        if interned.revoked || self.has_ended(number) {
            reach(Mark::OrderTooLate);
            return Err(Refusal::Expired);
        }
        match who {
            Some(Who::Anyone | Who::Authenticated) => Ok(()),
            Some(Who::Granted) | None if interned.grant.gives(action, topic) => Ok(()),
            _ => Err(Refusal::Forbidden),
        }
    }

    /// Returns the number of the grant that whatever a connection orders now is ordered by.
    pub(in crate::shard) fn grant_of(&self, slot: Slot) -> u32 {
        let connection = &self.slots.connections[slot as usize];
        match connection.session {
            Session::Request => self.exchange_if_any(slot).map_or(connection.grant, |exchange| exchange.grant),
            Session::Poll => self.reading_if_any(slot).map_or(connection.grant, |reading| reading.grant),
            _ => connection.grant,
        }
    }

    /// Says whether everybody may everything, on all listeners.
    pub(in crate::shard) fn is_open_to_all(&self) -> bool {
        let (open, listeners) = (&self.limits.open, self.limits.loopback.len().max(1));
        // What trusted proxies pass on is not open, unless all is.
        let by_proxy = !self.limits.trusted_proxies.is_empty() && !self.limits.insecure;
        !self.limits.rules.say_who() && !by_proxy && open.len() >= listeners && open.iter().all(|open| *open)
    }

    /// Says whether the grant that a connection reads by has ended.
    pub(in crate::shard) fn right_is_over(&self, slot: Slot) -> bool {
        let reads = self.slots.connections[slot as usize].session != Session::Request;
        reads && self.has_ended(self.grant_of(slot))
    }

    /// Says whether a connection reads by a grant that was taken back. One between requests, or in the middle of one, does not: its
    /// next order is refused.
    pub(in crate::shard) fn right_is_taken_back(&self, slot: Slot) -> bool {
        let connection = &self.slots.connections[slot as usize];
        connection.life == Life::Open
            && connection.session != Session::Request
            && self.trust.grants.get(self.grant_of(slot)).is_some_and(|interned| interned.revoked)
    }

    /// Sees to it that a connection that reads is looked at when its grant ends. To be called whenever its timer is set.
    pub(in crate::shard) fn watch_right(&mut self, slot: Slot) {
        let number = self.grant_of(slot);
        let Some(interned) = self.trust.grants.get(number) else { return };
        if interned.grant.expires_s != u64::MAX {
            let left_ms = interned.grant.expires_s.saturating_mul(1000).saturating_sub(self.clock.wall_ms());
            // A tick has begun already: whoever is looked at too early would be taken for somebody whose own time is over.
            self.timers.wheel.set_earlier(slot, self.clock.tick, left_ms.saturating_add(TICK_MS));
        }
    }

    /// Gives a connection another grant of its own, which it uses from now on; the old one has one user less.
    pub(in crate::shard) fn give(&mut self, slot: Slot, grant: u32) {
        let old = std::mem::replace(&mut self.slots.connections[slot as usize].grant, grant);
        self.trust.grants.release(old);
    }
}
