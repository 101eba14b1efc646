//! What a home knows of a shard with subscribers, and what it tells one.

use crate::mesh::Lost;

/// A shard with subscribers of a topic.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Member {
    /// The shard.
    pub(in crate::shard) shard: u32,
    /// Number of the topic there.
    pub(in crate::shard) id: u32,
    /// Its generation there.
    pub(in crate::shard) generation: u32,
    /// How it hears of messages.
    pub(in crate::shard) hearing: Hearing,
    /// It hears with each value what its key had before.
    pub(in crate::shard) wants_old: bool,
}

/// How a shard with subscribers hears of a topic's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Hearing {
    /// It could not be told yet that it has joined: it hears of nothing before.
    Joining,
    /// Each is delivered to it.
    Live,
    /// One did not fit into its ring; nothing is delivered until it has caught up.
    Behind,
}

/// Where a replay starts, and what is lost before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Resolved {
    /// Position of the first message in the history.
    pub(in crate::shard) first: u64,
    /// What is lost before.
    pub(in crate::shard) lost: Option<Lost>,
}
