//! What shards say to each other of a topic that is no message of it ([`Packet::Say`](super::Packet::Say)), and whose a message is.

/// Whose numbered message it is, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Keyed hash of topic, owner and name, the same on every shard.
    pub producer: u128,
    /// Keyed hash of whose it is.
    pub owner: u64,
    /// The number that the producer gave it, from 1 on.
    pub number: u64,
}

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// From the home of `$sys/demand`: tell what is wanted, from now on, the number is which time this is asked.
    AskDemand,
    /// From the home of `$sys/demand`: tell nothing any more.
    StopDemand,
    /// To the home of `$sys/demand`: the topic is wanted; asked so many times.
    Wanted,
    /// To the home of `$sys/demand`: the topic is not wanted any more.
    Unwanted,
    /// To the home of `$sys/demand`: all that is wanted was told.
    AllWanted,
    /// From the home of `$sys/demand`: what was told of the topic found no room.
    Untold,
    /// To the home of a topic: so many connections of this name read it here.
    Present,
}

impl Word {
    const ALL: [Word; 7] =
        [Word::AskDemand, Word::StopDemand, Word::Wanted, Word::Unwanted, Word::AllWanted, Word::Untold, Word::Present];

    /// Reads one.
    pub(super) fn of(byte: u8) -> Option<Word> {
        Word::ALL.get(usize::from(byte)).copied()
    }
}
