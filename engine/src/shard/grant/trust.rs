//! Trust: the grants of a shard, the verdicts that it knows, and the questions that it has asked.
//!
//! Owns: these three, and that a grant stays for as long as a verdict or somebody else uses it. Never: waits; never: asks by itself.
//!
//! Verdicts about topics are kept apart, so that whoever publishes to very many does not push out what is known of others' credentials.
//! They use no grant: their key has the serial of one, which none has after it.

use std::collections::HashMap;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::asking::Asking;
use super::known::{Known, Verdicts};
use super::table::Grants;
use crate::grant::{Denial, Grant};
use crate::io::driver::Slot;
use crate::mesh::questions::OWED_MAX;
use crate::reach::{Mark, reach};

/// Verdicts that a shard knows, at most.
const VERDICTS_MAX: usize = 64 << 10;

/// A verdict holds for so long at least, in milliseconds: those who wait for it go on one after another, and find it.
const HOLDS_MS_MIN: u64 = 1_000;

/// Grants and verdicts take at most one of so many parts of the memory.
const SHARE: u64 = 8;

/// Verdicts about topics take, besides, one of so many parts of that.
const TOPICS_SHARE: u64 = 4;

/// So many of them are kept however short memory is: all that were asked for at the same time, until those who wait have found them.
const TOPICS_MIN: usize = OWED_MAX;

/// The parts.
#[derive(Debug)]
pub(in crate::shard) struct Trust {
    /// The grants.
    pub(in crate::shard) grants: Grants,
    /// What became of credentials.
    verdicts: Verdicts,
    /// What the hook said about topics.
    topics: Verdicts,
    /// Questions without a verdict.
    pub(in crate::shard) asking: Asking,
    /// The key of credentials' hashes.
    key: (u64, u64),
    /// Names of certificates that clients have shown, until it is asked what they give: when the first request is there.
    pub(in crate::shard) shown: HashMap<Slot, Box<str>>,
    /// The connection whose wait for a verdict is over: it is told so now, instead of waiting again.
    pub(in crate::shard) late: Option<Slot>,
    /// Those in line go on just now: nobody of them has to go to its end.
    pub(in crate::shard) in_turn: bool,
    bytes_max: u64,
}

impl Trust {
    /// Makes one that trusts nobody, in so much memory of the whole shard.
    #[must_use]
    pub(in crate::shard) fn new(key: (u64, u64), memory_bytes: u64) -> Trust {
        Trust {
            grants: Grants::new(key),
            verdicts: Verdicts::new(),
            topics: Verdicts::new(),
            asking: Asking::new(),
            shown: HashMap::new(),
            key,
            late: None,
            in_turn: false,
            bytes_max: memory_bytes / SHARE,
        }
    }

    /// Returns the hash that a credential of a kind is known by.
    #[must_use]
    pub(in crate::shard) fn key_of(&self, kind: u8, parts: &[&str]) -> u128 {
        self.key_of_bytes(kind, parts.iter().map(|part| part.as_bytes()))
    }

    /// The same, of parts that are no text.
    #[must_use]
    pub(in crate::shard) fn key_of_bytes<'p>(&self, kind: u8, parts: impl Iterator<Item = &'p [u8]>) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u8(kind);
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish128().as_u128()
    }

    /// Returns what is known of a credential, if that still holds.
    pub(in crate::shard) fn find(&mut self, key: u128, now_ms: u64) -> Option<Known> {
        let (known, until_ms) = self.verdicts.find(key)?;
        let revoked = match known {
            Known::Grant(number) => self.grants.get(number).is_none_or(|interned| interned.revoked),
            Known::Denied(_) | Known::Yes => false,
        };
        if !revoked && now_ms < until_ms {
            return Some(known);
        }
        reach(Mark::VerdictOver);
        let known = self.verdicts.forget(key);
        self.forgotten(known);
        None
    }

    /// Notes what the authority says of a credential. If there is no memory for another grant, that is what is noted.
    pub(in crate::shard) fn note(&mut self, key: u128, said: Result<Box<Grant>, Denial>, now_ms: u64, holds_ms: u64) {
        // Of an older question about the same.
        let known = self.verdicts.forget(key);
        self.forgotten(known);
        let more = said.as_ref().map_or(0, |grant| grant.bytes()) as u64;
        while self.verdicts.len() >= VERDICTS_MAX || self.bytes_of_grants() + more > self.bytes_max {
            let Some(known) = self.verdicts.forget_oldest() else { break };
            reach(Mark::VerdictGaveWay);
            self.forgotten(Some(known));
        }
        let known = match said {
            Ok(_) if self.bytes_of_grants() + more > self.bytes_max => Known::Denied(Denial::Unavailable(FULL)),
            Ok(grant) => Known::Grant(self.grants.intern(*grant)),
            Err(denial) => Known::Denied(denial),
        };
        let holds_ms = holds_ms.max(HOLDS_MS_MIN);
        self.verdicts.put(key, known, now_ms.saturating_add(holds_ms));
    }

    /// Returns what is known of a question about a topic, if that still holds.
    pub(in crate::shard) fn find_topic(&mut self, key: u128, now_ms: u64) -> Option<Known> {
        let (known, until_ms) = self.topics.find(key)?;
        if now_ms < until_ms {
            return Some(known);
        }
        self.topics.forget(key);
        None
    }

    /// Notes what the authority says of a question about a topic.
    pub(in crate::shard) fn note_topic(&mut self, key: u128, said: Result<(), Denial>, now_ms: u64, holds_ms: u64) {
        self.topics.forget(key);
        let bytes_max = self.bytes_max / TOPICS_SHARE;
        while self.topics.len() >= TOPICS_MIN && (self.topics.len() >= VERDICTS_MAX || self.topics.bytes() > bytes_max)
        {
            self.topics.forget_oldest();
        }
        let known = said.map_or_else(Known::Denied, |()| Known::Yes);
        self.topics.put(key, known, now_ms.saturating_add(holds_ms.max(HOLDS_MS_MIN)));
    }

    /// Forgets all that the hook said about topics, and what it says now to what it was asked before.
    pub(in crate::shard) fn forget_topics(&mut self) {
        self.topics = Verdicts::new();
        self.asking.grow_stale();
    }

    fn forgotten(&mut self, known: Option<Known>) {
        if let Some(Known::Grant(number)) = known {
            self.grants.release(number);
        }
    }

    /// Returns the bytes of memory that grants and verdicts hold.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> u64 {
        self.bytes_of_grants() + self.topics.bytes()
    }

    fn bytes_of_grants(&self) -> u64 {
        self.grants.bytes() + self.verdicts.bytes()
    }

    /// Returns the numbers of the grants that verdicts use, each as often as one does.
    pub(in crate::shard) fn known_grants(&self) -> impl Iterator<Item = u32> {
        self.verdicts.grants()
    }
}

/// What is said where there is no memory for one more grant.
const FULL: &str = "there is no memory for one more permission";

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(token_id: &str) -> Result<Box<Grant>, Denial> {
        Ok(Box::new(Grant { token_id: token_id.into(), ..Grant::nothing("somebody") }))
    }

    /// A verdict is known until it ends, a denial too; a grant stays for as long as somebody uses it.
    #[test]
    fn verdicts_end() {
        let mut trust = Trust::new((1, 2), 1 << 30);
        let keys = [trust.key_of(0, &["a"]), trust.key_of(1, &["a"]), trust.key_of(0, &["a", ""])];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && trust.find(keys[0], 0).is_none());
        trust.note(keys[0], grant("1"), 0, 5_000);
        trust.note(keys[1], Err(Denial::Invalid("no")), 0, 0);
        assert_eq!(trust.find(keys[1], HOLDS_MS_MIN - 1), Some(Known::Denied(Denial::Invalid("no"))));
        assert_eq!(trust.find(keys[1], HOLDS_MS_MIN), None);
        let Some(Known::Grant(number)) = trust.find(keys[0], 4_999) else { panic!("it holds") };
        trust.grants.keep(number);
        assert_eq!(trust.find(keys[0], 5_000), None);
        assert_eq!(trust.grants.users_of(number), 1);
        trust.grants.release(number);
        assert!(trust.grants.is_empty() && trust.verdicts.len() == 0);
    }

    /// Verdicts about topics end, are forgotten together, and take no more than their share, in which a flood of them pushes out the oldest
    /// and nothing of others.
    #[test]
    fn verdicts_about_topics() {
        let mut trust = Trust::new((1, 2), 1 << 23);
        let credential = trust.key_of(0, &["a"]);
        trust.note(credential, grant("1"), 0, 60_000);
        trust.note_topic(1, Ok(()), 0, 5_000);
        trust.note_topic(2, Err(Denial::Forbidden("no")), 0, 0);
        assert_eq!(trust.find_topic(2, HOLDS_MS_MIN - 1), Some(Known::Denied(Denial::Forbidden("no"))));
        assert_eq!((trust.find_topic(2, HOLDS_MS_MIN), trust.find_topic(1, 4_999)), (None, Some(Known::Yes)));
        assert_eq!(trust.find_topic(1, 5_000), None);
        (0..60_000).for_each(|key| trust.note_topic(key, Ok(()), 0, 5_000));
        // The table and its slab may double when they have grown to their share.
        assert!(trust.topics.bytes() <= (1 << 23) / SHARE / TOPICS_SHARE * 2, "{}", trust.topics.bytes());
        assert!(trust.find_topic(59_999, 0).is_some() && trust.find_topic(0, 0).is_none());
        assert!(trust.topics.len() >= TOPICS_MIN && matches!(trust.find(credential, 0), Some(Known::Grant(_))));
        trust.forget_topics();
        assert!(trust.find_topic(59_999, 0).is_none() && trust.find(credential, 0).is_some());
    }

    /// Where memory is short, verdicts that nobody looked for go first; grants in use stay, and with nothing else to give way, no more
    /// are taken.
    #[test]
    fn memory_is_bounded() {
        let mut trust = Trust::new((1, 2), 1 << 25);
        let mut used = Vec::new();
        let mut full = 0;
        for n in 0..60_000_u32 {
            let id = n.to_string();
            let key = trust.key_of(0, &[&id]);
            trust.note(key, grant(&id), 0, 60_000);
            match trust.find(key, 0).unwrap() {
                Known::Grant(number) => used.push(trust.grants.keep(number)),
                Known::Denied(_) | Known::Yes => full += 1,
            }
            // A table may double once it is looked at.
            assert!(trust.bytes() <= (1 << 25) / SHARE * 3 / 2, "{}", trust.bytes());
        }
        assert!(full > 1_000 && used.len() > 1_000);
        used.into_iter().for_each(|number| trust.grants.release(number));
        let key = trust.key_of(0, &["late"]);
        trust.note(key, grant("late"), 0, 60_000);
        assert!(matches!(trust.find(key, 0), Some(Known::Grant(_))), "there is room again");
    }
}
