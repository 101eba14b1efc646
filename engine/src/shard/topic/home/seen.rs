//! What operators are told of homes.

use crate::io::memory::Memory;
use crate::shard::topic::chain::Store;
use crate::shard::topic::home::Homes;
use crate::shard::topic::places::half;

impl Homes {
    /// Returns of the home at a place, if there is one, its name, epoch and head, and how many messages and bytes it remembers.
    pub(in crate::shard) fn remembered(&self, store: &Store, place: usize) -> Option<(&str, u32, u64, u64, u64)> {
        let home = self.homes.get(place)?;
        let messages = home.history.next() - home.history.first() - u64::from(self.replaced(home));
        Some((self.names.text(home.name), home.epoch, home.head(store), messages, home.payload_bytes))
    }

    /// Returns the number of the oldest message that a home remembers.
    pub(in crate::shard) fn oldest_number(&self, store: &Store, memory: &Memory, index: u32) -> Option<u64> {
        let home = self.homes.get(index as usize).filter(|home| !home.history.is_empty())?;
        Some(home.number(store, memory, home.history.first()))
    }

    /// Finds a home by the hash of its topic.
    #[must_use]
    pub(in crate::shard) fn place_of(&self, hash: u64) -> Option<u32> {
        self.by_name.find(half(hash), |index| self.homes[index as usize].hash == hash)
    }
}
