//! How many connections and subscriptions there are: of all, of an address, of a subject, across shards.
//!
//! ```text
//!   connection   of all and of its address: from when it is admitted until its slot is closed
//!                of the subject of its own grant: from when it is given that until it is given another, or has had its last word
//!   subscription of those that its connection's subscriptions are counted for, for as long as it lasts
//! ```
//!
//! A connection is counted for whom something is limited when it comes, or is given its grant, and says so itself ([`Counted`]); so
//! whatever is counted leaves again, whatever the configuration says then. Requests are nobody's: their connection is given no grant of its own.
//! A long poll is given that of its request for as long as it lasts.
//!
//! Owns: who is counted. Touches: the census.

use super::{What, Whose};
use crate::io::driver::Slot;
use crate::mesh::Entry;
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::refusal::Refusal;
use crate::shard::slot::connection::{Counted, For};

/// As many as there may be.
const NO_LIMIT: u32 = u32::MAX;

impl Shard {
    /// Counts an open connection, of all and of its address; or says whose are as many as may be.
    pub(super) fn count_connection(&mut self, slot: Slot) -> Result<(), Whose> {
        let quotas = self.limits.quotas;
        let address = self.whose_address(slot);
        let limited = |whose, max: u32| (max > 0).then_some((whose, max));
        let per_address = self.of_address(slot, quotas.connections_per_address);
        let of = [limited(Whose::Everybody, quotas.connections_in_all), limited(address, per_address)];
        let [all, of_address] = self.count_more(What::Connections, 1, of).inspect_err(|whose| {
            self.stats.limited_connections += 1;
            reach(if *whose == Whose::Everybody { Mark::AllFull } else { Mark::AddressFull });
        })?;
        let held = self.of_address(slot, quotas.subscriptions_per_address) > 0;
        let counted = &mut self.slots.connections[slot as usize].counted;
        (counted.connection.all, counted.connection.address) = (all, of_address);
        counted.subscriptions = For { all: quotas.subscriptions_in_all > 0, address: held, ..counted.subscriptions };
        Ok(())
    }

    /// Another address stands behind a connection than before, which has no subscriptions now: it is one of that one's from now on. If
    /// those are as many as may be, its request is to be [refused](Counted::full).
    pub(in crate::shard) fn is_another(&mut self, slot: Slot, before: [u8; 16]) {
        let address = std::mem::replace(&mut self.slots.connections[slot as usize].address, before);
        if std::mem::take(&mut self.slots.connections[slot as usize].counted.connection.address) {
            self.count_less(What::Connections, 1, self.whose_address(slot));
        }
        self.slots.connections[slot as usize].address = address;
        self.hold(slot);
        let quotas = self.limits.quotas;
        let (connections, subscriptions) = (quotas.connections_per_address, quotas.subscriptions_per_address);
        let (max, of_subscriptions) = (self.of_address(slot, connections), self.of_address(slot, subscriptions));
        let of = [(max > 0).then(|| (self.whose_address(slot), max))];
        let entered = self.count_more(What::Connections, 1, of);
        let counted = &mut self.slots.connections[slot as usize].counted;
        counted.subscriptions.address = of_subscriptions > 0;
        counted.connection.address = entered == Ok([true]);
        counted.full = entered.is_err();
        if entered.is_err() {
            self.stats.limited_connections += 1;
            reach(Mark::AddressFull);
        }
    }

    /// Counts a connection, and its subscriptions, for the subject of a grant that it is about to be given, and no more for that of the
    /// one that it has; says false, and leaves all as it is, if that would be more than it may have. With `anyway` there is no such limit.
    #[must_use]
    pub(in crate::shard) fn count_for(&mut self, slot: Slot, grant: u32, anyway: bool) -> bool {
        let (connections, subscriptions) = self.limits_of_subject(grant);
        let counted = self.slots.connections[slot as usize].counted;
        if connections.or(subscriptions).is_none() && !counted.connection.subject && !counted.subscriptions.subject {
            return true;
        }
        let limit = |limit: Option<u32>| if anyway { limit.map(|_| NO_LIMIT) } else { limit };
        self.count_for_another(slot, grant, limit(connections), limit(subscriptions))
    }

    #[inline(never)]
    fn count_for_another(
        &mut self,
        slot: Slot,
        grant: u32,
        connections: Option<u32>,
        subscriptions: Option<u32>,
    ) -> bool {
        let connection = &self.slots.connections[slot as usize];
        let (counted, present) = (connection.counted, connection.subscriptions);
        let (old, new) = (self.subject(connection.grant), self.subject(grant));
        // Whoever shows that it is still the same is not one more.
        let connection_stays = counted.connection.subject && old == new;
        let subscriptions_stay = counted.subscriptions.subject && old == new;
        let of_connection = new.zip(connections).filter(|_| !connection_stays);
        let of_subscriptions = new.zip(subscriptions).filter(|_| !subscriptions_stay);
        let Ok([entered]) = self.count_more(What::Connections, 1, [of_connection]) else {
            self.stats.limited_connections += 1;
            reach(Mark::SubjectFull);
            return false;
        };
        if self.count_more(What::Subscriptions, present, [of_subscriptions]).is_err() {
            if let Some(new) = new.filter(|_| entered) {
                self.count_less(What::Connections, 1, new);
            }
            self.stats.limited_subscriptions += 1;
            reach(Mark::SubjectFull);
            return false;
        }
        if let Some(old) = old {
            if counted.connection.subject && !connection_stays {
                self.count_less(What::Connections, 1, old);
            }
            if counted.subscriptions.subject && !subscriptions_stay {
                self.count_less(What::Subscriptions, present, old);
            }
        }
        let counted = &mut self.slots.connections[slot as usize].counted;
        counted.connection.subject = entered || connection_stays;
        counted.subscriptions.subject = of_subscriptions.is_some() || subscriptions_stay;
        true
    }

    /// Returns how many connections and subscriptions the subject of a grant may have, if that is limited.
    fn limits_of_subject(&self, grant: u32) -> (Option<u32>, Option<u32>) {
        let Some(interned) = self.trust.grants.get(grant).filter(|interned| !interned.grant.subject.is_empty()) else {
            return (None, None);
        };
        let (quotas, own) = (&self.limits.quotas, &interned.grant.limits);
        let or = |own: Option<u32>, setting: u32| own.or((setting > 0).then_some(setting));
        (
            or(own.connections, quotas.connections_per_subject),
            or(own.subscriptions_per_subject, quotas.subscriptions_per_subject),
        )
    }

    /// A connection has had its last word: its subject may have another one. Its subscriptions may take a while to end.
    pub(in crate::shard) fn leaves_subject(&mut self, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        if std::mem::take(&mut connection.counted.connection.subject) {
            let grant = connection.grant;
            self.leave_subject(What::Connections, 1, grant);
        }
    }

    /// A connection is no more.
    pub(in crate::shard) fn discount(&mut self, slot: Slot) {
        let connection = &mut self.slots.connections[slot as usize];
        let (Counted { connection: of, .. }, grant) = (std::mem::take(&mut connection.counted), connection.grant);
        self.leave_all(slot, What::Connections, of, grant);
    }

    /// Counts a subscription that is about to begin, for whom those of its connection are counted; says why not, if there are as many as
    /// may be.
    #[inline]
    pub(in crate::shard) fn count_subscription(&mut self, slot: Slot) -> Result<(), Refusal> {
        let of = self.slots.connections[slot as usize].counted.subscriptions;
        if of == For::default() { Ok(()) } else { self.count_subscription_of(slot, of) }
    }

    #[inline(never)]
    fn count_subscription_of(&mut self, slot: Slot, of: For) -> Result<(), Refusal> {
        let quotas = self.limits.quotas;
        let grant = self.slots.connections[slot as usize].grant;
        // What is counted goes on being counted when it is no longer limited, or less would leave than have entered.
        let max = |setting: u32| if setting == 0 { NO_LIMIT } else { setting };
        let of_subject = self.subject(grant).zip(Some(self.limits_of_subject(grant).1.unwrap_or(NO_LIMIT)));
        let entered = self.count_more(
            What::Subscriptions,
            1,
            [
                of.all.then_some((Whose::Everybody, max(quotas.subscriptions_in_all))),
                of.address.then(|| (self.whose_address(slot), max(quotas.subscriptions_per_address))),
                of_subject.filter(|_| of.subject),
            ],
        );
        let Err(whose) = entered else { return Ok(()) };
        self.stats.limited_subscriptions += 1;
        match whose {
            Whose::Everybody => {
                reach(Mark::AllFull);
                Err(Refusal::Full)
            }
            _ => Err(Refusal::TooMany),
        }
    }

    /// A subscription has ended, or has not begun.
    #[inline]
    pub(in crate::shard) fn discount_subscription(&mut self, slot: Slot) {
        let connection = &self.slots.connections[slot as usize];
        let (of, grant) = (connection.counted.subscriptions, connection.grant);
        if of != For::default() {
            self.leave_all(slot, What::Subscriptions, of, grant);
        }
    }

    fn leave_all(&self, slot: Slot, what: What, of: For, grant: u32) {
        if of.all {
            self.count_less(what, 1, Whose::Everybody);
        }
        if of.address {
            self.count_less(what, 1, self.whose_address(slot));
        }
        if of.subject {
            self.leave_subject(what, 1, grant);
        }
    }

    fn leave_subject(&self, what: What, less: u32, grant: u32) {
        let subject = self.subject(grant).expect("a grant stays for as long as somebody is counted for its subject");
        self.count_less(what, less, subject);
    }

    fn count_less(&self, what: What, less: u32, whose: Whose) {
        if less > 0 {
            self.census().leave(self.key(what, whose), less);
        }
    }

    /// Counts so many more for each of these, up to as many as each may have, and says who is counted; or says whose would be too many,
    /// and counts none.
    fn count_more<const N: usize>(
        &self,
        what: What,
        more: u32,
        of: [Option<(Whose, u32)>; N],
    ) -> Result<[bool; N], Whose> {
        let mut counted = [false; N];
        if more == 0 {
            return Ok(counted);
        }
        for (n, (whose, max)) in of.iter().enumerate().filter_map(|(n, one)| Some((n, (*one)?))) {
            match self.census().enter(self.key(what, whose), more, max) {
                Entry::Counted => counted[n] = true,
                Entry::Uncounted => {}
                Entry::Refused => {
                    let before = of.iter().zip(counted).filter_map(|(one, counted)| (*one).filter(|_| counted));
                    before.for_each(|(whose, _)| self.count_less(what, more, whose));
                    return Err(whose);
                }
            }
        }
        Ok(counted)
    }
}
