//! What must hold of homes between turns.

use super::{Home, Homes};
use crate::shard::rules::Rules;

impl Homes {
    /// Checks the sums of what homes cost.
    ///
    /// # Panics
    /// If one is wrong.
    pub(in crate::shard) fn check_costs(&self) {
        let sum = |counts: fn(&Home) -> bool| {
            self.homes.iter().filter(|(_, home)| counts(home)).map(|(_, home)| home.cost()).sum::<u64>()
        };
        let read = sum(|home| !home.members.is_empty());
        assert_eq!((read, sum(|_| true)), (self.read_bytes, self.all_bytes), "invariant 10: what homes cost");
        for (_, home) in self.homes.iter() {
            let remembers = !home.history.is_empty() || home.awaited;
            assert!(
                remembers || !home.members.is_empty(),
                "invariant 20: a home has audience or history, or is awaited"
            );
            assert!(home.listed || !remembers, "invariant 20: those that could be forgotten stand in the list");
        }
    }

    /// Checks that homes which have looked for their terms know them.
    ///
    /// # Panics
    /// If one does not.
    pub(in crate::shard) fn check_terms(&self, rules: &Rules) {
        for (_, home) in self.homes.iter().filter(|(_, home)| home.terms_of == self.changes) {
            let name = self.names.text(home.name);
            assert_eq!(home.terms, rules.index_of(name), "invariant 18: the terms of {name}");
        }
    }
}
