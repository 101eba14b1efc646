//! Patterns of topics: `prices/+`, `chat/#`, read like a topic.
//!
//! ```text
//!   home                              every home                        shard with readers
//!   topic: which patterns match?      pattern: members, what it had     pattern: frame logs, readers, how far it is with each home
//!       │ known until patterns change       │                                 │
//!       ╰──── a message ───────────────────▶╰──── Deliver ───────────────────▶╰─▶ encoded once, with its topic
//! ```
//!
//! A pattern has no home of its own: each shard knows the patterns that anybody reads, and sends their readers' shards what its topics say. It
//! counts all messages that it records, so that "everything of that home up to 17" says where a reader is; of all homes that is its
//! [places](corecast_protocol::places). A topic that is new is matched when it is published to first, so that it joins by itself.
//!
//! * `tree`: patterns, found by the topics they match; `journal`: what a home knows of them; `at_home`: what it does for them;
//! * `reads`: what a shard with readers knows; `reading`: how they begin, and what comes; `walk`: how one is given what it has not.

pub(in crate::shard) mod at_home;
pub(in crate::shard) mod journal;
pub(in crate::shard) mod reading;
pub(in crate::shard) mod reads;
pub(in crate::shard) mod tree;
pub(in crate::shard) mod walk;
