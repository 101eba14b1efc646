//! Memory: blocks and who holds them, buffers in them, tables, and the wheel of timers.

pub(in crate::shard) mod buffer;
pub(in crate::shard) mod few;
pub(in crate::shard) mod pool;
pub(in crate::shard) mod slab;
pub(in crate::shard) mod wheel;
