//! Grants, interned: equal ones are one, found by hash, and counted by those who use them.
//!
//! A connection, an exchange, a poll and a verdict that is known keep the number of a grant, four bytes; each of them is a user.
//! Owns: the grants. Never: decides what one gives. Invariant: a grant is here exactly while it has a user.

use std::hash::{Hash as _, Hasher as _};

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::grant::{Grant, Revocation};
use crate::reach::{Mark, reach};
use crate::shard::memory::slab::Slab;

/// The number of no grant: nobody has said who it is.
pub(in crate::shard) const NOBODY: u32 = 0;

/// A grant, and who uses it.
#[derive(Debug)]
pub(in crate::shard) struct Interned {
    /// The grant.
    pub(in crate::shard) grant: Grant,
    /// It is not to be believed any more; whoever uses it is being ended.
    pub(in crate::shard) revoked: bool,
    /// Tells it from all that were ever here; numbers are used again.
    pub(in crate::shard) serial: u64,
    hash: u64,
    users: u32,
}

/// The grants. Their numbers are one more than their places in the slab.
#[derive(Debug)]
pub(in crate::shard) struct Grants {
    slab: Slab<Interned>,
    /// Those that are not revoked.
    table: HashTable<u32>,
    key: (u64, u64),
    /// What they hold besides their places.
    held_bytes: u64,
    /// The serial of the next one.
    next_serial: u64,
}

impl Grants {
    /// Makes a table without grants, which hashes with a key.
    #[must_use]
    pub(in crate::shard) fn new(key: (u64, u64)) -> Grants {
        Grants { slab: Slab::new(), table: HashTable::new(), key, held_bytes: 0, next_serial: 0 }
    }

    /// Says whether nobody has a grant.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.slab.len() == 0
    }

    /// Returns how many there are.
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the bytes of memory that they hold.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.slab.bytes() + self.table.allocation_size() as u64 + self.held_bytes
    }

    /// Returns a bound of their numbers.
    #[must_use]
    pub(in crate::shard) fn bound(&self) -> u32 {
        self.slab.bound() as u32 + 1
    }

    /// Returns a grant; none if nobody has one with this number, or it is that of nobody.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn get(&self, number: u32) -> Option<&Interned> {
        self.slab.get(number.wrapping_sub(1) as usize)
    }

    /// Finds or makes the number of a grant, for one more user.
    pub(in crate::shard) fn intern(&mut self, grant: Grant) -> u32 {
        let hash = self.hash(&grant);
        let slab = &self.slab;
        if let Some(place) = self.table.find(hash, |place| slab[*place as usize].grant == grant) {
            reach(Mark::GrantShared);
            let place = *place;
            self.slab[place as usize].users += 1;
            return place + 1;
        }
        self.held_bytes += held_bytes(&grant);
        let serial = self.next_serial;
        self.next_serial += 1;
        let place = self.slab.insert(Interned { grant, revoked: false, serial, hash, users: 1 });
        let place = u32::try_from(place).expect("fewer than 2^32");
        let slab = &self.slab;
        self.table.insert_unique(hash, place, |place| slab[*place as usize].hash);
        place + 1
    }

    /// A grant has one more user; returns its number.
    pub(in crate::shard) fn keep(&mut self, number: u32) -> u32 {
        if number != NOBODY {
            self.slab[number as usize - 1].users += 1;
        }
        number
    }

    /// A grant has one user less; the last one takes it along.
    pub(in crate::shard) fn release(&mut self, number: u32) {
        if number == NOBODY {
            return;
        }
        let place = number as usize - 1;
        let interned = &mut self.slab[place];
        interned.users -= 1;
        if interned.users > 0 {
            return;
        }
        let Interned { grant, hash, revoked, .. } = self.slab.remove(place);
        self.held_bytes -= held_bytes(&grant);
        if !revoked {
            self.unlist(hash, place as u32);
        }
    }

    /// Marks a grant as revoked, if one of these says so; says whether that is new. An equal one that comes later is another one.
    pub(in crate::shard) fn revoke(&mut self, number: u32, revocations: &[Revocation]) -> bool {
        let Some(place) = number.checked_sub(1) else { return false };
        let Some(Interned { grant, revoked: false, hash, .. }) = self.slab.get(place as usize) else { return false };
        if !revocations.iter().any(|revocation| is_meant(revocation, grant)) {
            return false;
        }
        let hash = *hash;
        self.slab[place as usize].revoked = true;
        self.unlist(hash, place);
        true
    }

    /// Returns how many users one has, for checks; none if it is not there.
    #[must_use]
    pub(in crate::shard) fn users_of(&self, number: u32) -> u32 {
        self.get(number).map_or(0, |interned| interned.users)
    }

    /// Returns how many users all of them have.
    #[cfg(test)]
    fn users(&self) -> u64 {
        self.slab.iter().map(|(_, interned)| u64::from(interned.users)).sum()
    }

    fn unlist(&mut self, hash: u64, place: u32) {
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
    }

    fn hash(&self, grant: &Grant) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        // These tell grants of different tokens apart; where they do not, equality does.
        grant.subject.hash(&mut hasher);
        grant.token_id.hash(&mut hasher);
        grant.name.hash(&mut hasher);
        hasher.write_u64(grant.issued_s);
        hasher.write_u64(grant.expires_s);
        hasher.finish()
    }
}

/// Returns the bytes that a grant holds besides its place.
fn held_bytes(grant: &Grant) -> u64 {
    (grant.bytes() - size_of::<Grant>()) as u64
}

/// Says whether a revocation means a grant. One that does not say when it was issued was issued before any time.
fn is_meant(revocation: &Revocation, grant: &Grant) -> bool {
    match revocation {
        Revocation::Token(id) => !id.is_empty() && *id == grant.token_id,
        Revocation::Subject(subject, before_s) => {
            !subject.is_empty() && *subject == grant.subject && grant.issued_s < *before_s
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(subject: &str, token_id: &str, issued_s: u64) -> Grant {
        Grant { subject: subject.into(), token_id: token_id.into(), issued_s, ..Grant::nothing("n") }
    }

    /// Equal grants are one, for as long as somebody uses it; then its memory goes.
    #[test]
    fn equal_ones_are_one() {
        let mut grants = Grants::new((1, 2));
        let empty = grants.held_bytes;
        let one = grants.intern(grant("a", "1", 5));
        let other = grants.intern(grant("a", "2", 5));
        assert_eq!(grants.intern(grant("a", "1", 5)), one);
        assert!(one != other && grants.len() == 2 && grants.users() == 3);
        grants.release(one);
        assert_eq!(grants.keep(one), one);
        grants.release(one);
        assert_eq!(grants.get(one).map(|interned| &*interned.grant.token_id), Some("1"));
        grants.release(one);
        grants.release(other);
        assert!(grants.is_empty() && grants.table.is_empty() && grants.held_bytes == empty);
        grants.release(NOBODY);
        assert!(grants.get(NOBODY).is_none() && grants.keep(NOBODY) == NOBODY);
    }

    /// A revocation means a token, or what a subject was given before a time; what is revoked is shared with nobody who comes later.
    #[test]
    fn revocations_mean_what_they_say() {
        let mut grants = Grants::new((1, 2));
        let numbers =
            [grant("a", "1", 5), grant("a", "2", 9), grant("a", "3", 0), grant("b", "1", 5), grant("", "", 1)]
                .map(|grant| grants.intern(grant));
        let revoked = |grants: &mut Grants, revocation: Revocation| {
            let revocations = [revocation];
            numbers.map(|number| grants.revoke(number, &revocations))
        };
        assert_eq!(revoked(&mut grants, Revocation::Token("2".into())), [false, true, false, false, false]);
        assert_eq!(revoked(&mut grants, Revocation::Subject("a".into(), 5)), [false, false, true, false, false]);
        assert_eq!(revoked(&mut grants, Revocation::Subject("a".into(), 6)), [true, false, false, false, false]);
        assert_eq!(revoked(&mut grants, Revocation::Subject("".into(), 99)), [false; 5]);
        assert_eq!(revoked(&mut grants, Revocation::Token("".into())), [false; 5]);
        let again = grants.intern(grant("a", "2", 9));
        assert!(again != numbers[1] && !grants.get(again).unwrap().revoked);
        numbers.into_iter().chain([again]).for_each(|number| grants.release(number));
        assert!(grants.is_empty() && grants.table.is_empty());
    }
}
