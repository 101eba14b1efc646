//! Names that were used on a shard lately, by their hashes.
//!
//! Owns: a table of fixed size, which is made when the first is learnt. Never: tells two names with the same hash apart, or keeps one for ever.

/// Names that a shard knows to have been used lately, if topics have a rate: 64 KiB.
const RECENT: usize = 1 << 13;

/// Names that were used lately; each new one takes the place of another.
#[derive(Debug, Default)]
pub(super) struct Recent(Box<[u64]>);

impl Recent {
    /// Says whether a name was used lately.
    #[must_use]
    pub(super) fn knows(&self, hash: u64) -> bool {
        !self.0.is_empty() && self.0[hash as usize % RECENT] == hash
    }

    /// A name is used.
    pub(super) fn learn(&mut self, hash: u64) {
        if self.0.is_empty() {
            self.0 = vec![0; RECENT].into();
        }
        self.0[hash as usize % RECENT] = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was learnt is known, until others took its place.
    #[test]
    fn names_are_known_for_a_while() {
        let mut recent = Recent::default();
        assert!(!recent.knows(0) && !recent.knows(7));
        recent.learn(7);
        assert!(recent.knows(7) && !recent.knows(7 + RECENT as u64));
        recent.learn(7 + RECENT as u64);
        assert!(!recent.knows(7));
    }
}
