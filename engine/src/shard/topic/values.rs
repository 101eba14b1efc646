//! Values: where they are put together, before and after a change.

use corecast_protocol::record::MEMBERS_MAX;

/// Pieces of memory that are used for one message and left to the next.
#[derive(Debug, Default)]
pub(in crate::shard) struct Values {
    /// What a key had before.
    pub(in crate::shard) old: Vec<u8>,
    /// What it has now, if that had to be put together.
    pub(in crate::shard) new: Vec<u8>,
    /// Where the members of records are found again.
    pub(in crate::shard) members: Vec<u64>,
}

impl Values {
    /// Returns room for the members of a record; nobody has it who never needs it.
    pub(in crate::shard) fn scratch(&mut self) -> &mut [u64] {
        if self.members.is_empty() {
            self.members = vec![0; MEMBERS_MAX];
        }
        &mut self.members
    }

    /// Returns the bytes of memory that they hold.
    #[must_use]
    pub(in crate::shard) fn bytes(&self) -> usize {
        self.old.capacity() + self.new.capacity() + self.members.capacity() * size_of::<u64>()
    }
}
