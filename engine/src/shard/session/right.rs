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
//! Where patterns decide, the hook has to say so, too, if it is asked about that (`auth-ask`): then an order may have to wait. A grant that
//! says nothing of topics leaves it to the hook alone.
//!
//! A pattern may be read by whoever may read all topics that it may match: if one of the rules that overlap with it says no, it is no, and a
//! pattern of the grant has to cover it.
//!
//! What the engine tells of itself (`$sys/stats` and others, but for how many read a topic) nobody may read beyond this host whom neither a rule nor
//! a grant names.
//!
//! Where all may: on a listener that is open, as the configuration has it: one of this host, as long as nothing says who may what, or
//! any with `insecure`.

use corecast_protocol::pattern::is_pattern;
use corecast_protocol::topic::{SYSTEM_PREFIX, is_system, occupied, presented};

use crate::grant::{Action, Who};
use crate::io::driver::Slot;
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::grant::table::NOBODY;
use crate::shard::memory::wheel::TICK_MS;
use crate::shard::refusal::Refusal;
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::Life;
use crate::shard::slot::wait::MayNot;

/// What rules and a grant say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Says {
    /// He may.
    Yes,
    /// He may if the hook says so, too.
    AskHook,
}

impl Shard {
    /// Says whether whoever is on a connection may do something with a topic, or why not, or not yet.
    #[inline]
    pub(in crate::shard) fn may(&mut self, slot: Slot, action: Action, topic: &str) -> Result<(), MayNot> {
        // Nobody has said who it is, and everybody may everything.
        if self.all_may & self.trust.grants.is_empty() && !is_system(topic) {
            return Ok(());
        }
        self.may_by_right(slot, action, topic)
    }

    #[inline(never)]
    fn may_by_right(&mut self, slot: Slot, action: Action, topic: &str) -> Result<(), MayNot> {
        let topic = asked_about(action, topic);
        match self.rules_say(slot, action, topic) {
            Ok(Says::Yes) => Ok(()),
            Ok(Says::AskHook) if self.was_consulted(slot) => Ok(()),
            Ok(Says::AskHook) => self.consult(slot, action, topic),
            Err(refusal) => Err(MayNot::AtAll(refusal)),
        }
    }

    /// Has the hook asked about what a connection will order soon, if it has to be asked about that; says false if there is no room.
    pub(in crate::shard) fn foresee(&mut self, slot: Slot, action: Action, topic: &str) -> bool {
        let topic = asked_about(action, topic);
        self.rules_say(slot, action, topic) != Ok(Says::AskHook) || self.consult_ahead(slot, action, topic)
    }

    /// Says whether the hook was asked about all that a connection orders now when that began: the topics of a plan, the lines of a batch.
    /// What it said then may be over, and must not leave them half done.
    fn was_consulted(&self, slot: Slot) -> bool {
        match self.slots.connections[slot as usize].session {
            Session::Poll | Session::Stream => true,
            Session::Request => self.exchange_if_any(slot).is_some_and(|exchange| exchange.batch.allowed),
            _ => false,
        }
    }

    /// Says what rules and the grant of a connection say.
    pub(in crate::shard) fn rules_say(&self, slot: Slot, action: Action, topic: &str) -> Result<Says, Refusal> {
        let topic = asked_about(action, topic);
        if is_pattern(topic) {
            return self.rules_say_of_all(slot, action, topic);
        }
        self.rule_says(slot, action, topic, self.limits.rules.who(action, topic))
    }

    /// Says what rules and the grant of a connection say of all topics that a pattern matches: no, if they do of one.
    #[cold]
    fn rules_say_of_all(&self, slot: Slot, action: Action, pattern: &str) -> Result<Says, Refusal> {
        // Among what the engine tells are numbers of readers, which are for those who may read the topic.
        if pattern.strip_prefix(SYSTEM_PREFIX).is_some_and(|rest| rest.starts_with(['+', '#'])) {
            self.rules_say_of_all(slot, action, "#")?;
        }
        let mut all = Says::Yes;
        for who in self.limits.rules.who_of_all(action, pattern) {
            if self.rule_says(slot, action, pattern, who)? == Says::AskHook {
                all = Says::AskHook;
            }
        }
        Ok(all)
    }

    fn rule_says(&self, slot: Slot, action: Action, topic: &str, who: Option<Who>) -> Result<Says, Refusal> {
        let number = self.grant_of(slot);
        if number == NOBODY {
            return match who {
                Some(Who::Anyone) => Ok(Says::Yes),
                // How the engine is doing is nothing for strangers, whatever else is open to them.
                None if is_system(topic) && !self.is_of_this_host(slot) => Err(Refusal::Unauthorized),
                None if self.is_open_to(slot) => Ok(Says::Yes),
                Some(Who::Nobody) => Err(Refusal::Forbidden),
                _ => Err(Refusal::Unauthorized),
            };
        }
        let Some(interned) = self.trust.grants.get(number) else { return Err(Refusal::Unauthorized) };
        if interned.revoked || self.has_ended(number) {
            reach(Mark::OrderTooLate);
            return Err(Refusal::Expired);
        }
        let asks = self.limits.asks.about(action);
        match who {
            Some(Who::Anyone | Who::Authenticated) => Ok(Says::Yes),
            Some(Who::Granted) | None if interned.grant.gives(action, topic) || asks && interned.grant.unlisted => {
                Ok(if asks { Says::AskHook } else { Says::Yes })
            }
            _ => Err(Refusal::Forbidden),
        }
    }

    /// Says whether two grants are those of one and the same, as the hook is told of them.
    pub(in crate::shard) fn are_of_one(&self, one: u32, other: u32) -> bool {
        let who =
            |number| self.trust.grants.get(number).map(|interned| (&interned.grant.name, &interned.grant.subject));
        who(one).is_some_and(|one| who(other) == Some(one))
    }

    /// Returns the number of the grant that whatever a connection orders now is ordered by.
    pub(in crate::shard) fn grant_of(&self, slot: Slot) -> u32 {
        let connection = &self.slots.connections[slot as usize];
        match connection.session {
            Session::Request => self.exchange_if_any(slot).map_or(connection.grant, |exchange| exchange.grant),
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

    /// Gives a connection another grant of its own, which it uses from now on; the old one has one user less. Says false if the subject
    /// of the new one has as many connections or subscriptions as it may: then it is the new one that has one user less.
    #[must_use]
    pub(in crate::shard) fn give(&mut self, slot: Slot, grant: u32) -> bool {
        let old = self.lend(slot, grant);
        self.trust.grants.release(old.unwrap_or(grant));
        old.is_some()
    }

    /// Gives a connection another grant of its own for a while; returns the old one, which is to be given back, or none if the subject of
    /// the new one has as much as it may.
    #[must_use]
    pub(in crate::shard) fn lend(&mut self, slot: Slot, grant: u32) -> Option<u32> {
        if !self.count_for(slot, grant, false) {
            return None;
        }
        Some(std::mem::replace(&mut self.slots.connections[slot as usize].grant, grant))
    }

    /// A connection has again what it had before it was [lent](Shard::lend) something, whatever its subject has by now; returns that.
    pub(in crate::shard) fn take_back(&mut self, slot: Slot, grant: u32) -> u32 {
        let counted = self.count_for(slot, grant, true);
        debug_assert!(counted, "nothing is asked");
        std::mem::replace(&mut self.slots.connections[slot as usize].grant, grant)
    }
}

/// Returns the topic that has to be allowed: who may read one may know how many do, and who.
fn asked_about(action: Action, topic: &str) -> &str {
    if action == Action::Subscribe { occupied(topic).or_else(|| presented(topic)).unwrap_or(topic) } else { topic }
}
