//! Requests: a head, perhaps a body, one answer.

pub(in crate::shard) mod answer;
pub(in crate::shard) mod asset;
pub(in crate::shard) mod batch;
pub(in crate::shard) mod condition;
pub(in crate::shard) mod embed;
pub(in crate::shard) mod exchange;
pub(in crate::shard) mod http;
pub(in crate::shard) mod options;
pub(in crate::shard) mod origin;
pub(in crate::shard) mod plan;
pub(in crate::shard) mod route;
pub(in crate::shard) mod upgrade;
pub(in crate::shard) mod words;
