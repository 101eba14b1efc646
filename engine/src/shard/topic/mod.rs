//! Topics: where they are numbered and remembered (homes), who reads them on this shard, and what these are sent (frame logs).

pub(in crate::shard) mod at_home;
pub(in crate::shard) mod attendance;
pub(in crate::shard) mod attending;
pub(in crate::shard) mod chain;
#[cfg(test)]
mod cost;
pub(in crate::shard) mod delivery;
pub(in crate::shard) mod demand;
#[cfg(test)]
mod giving_way;
pub(in crate::shard) mod home;
pub(in crate::shard) mod hottest;
pub(in crate::shard) mod leaving;
pub(in crate::shard) mod logs;
pub(in crate::shard) mod member;
pub(in crate::shard) mod names;
pub(in crate::shard) mod news;
pub(in crate::shard) mod numbering;
pub(in crate::shard) mod occupancy;
pub(in crate::shard) mod once;
pub(in crate::shard) mod places;
pub(in crate::shard) mod presence;
pub(in crate::shard) mod producers;
pub(in crate::shard) mod readers;
pub(in crate::shard) mod record;
pub(in crate::shard) mod recounts;
pub(in crate::shard) mod replay;
pub(in crate::shard) mod side;
pub(in crate::shard) mod subscribe;
pub(in crate::shard) mod subscriber;
pub(in crate::shard) mod topics;
pub(in crate::shard) mod values;
pub(in crate::shard) mod wanting;
