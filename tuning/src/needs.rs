//! What the engine takes of a host, and where it ends: the numbers that checks and plans are made of.
//!
//! The engine has each of them too, where it uses it; `engine/tests/tune_command.rs` holds the two to each other.

/// Oldest kernel the engine runs on.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// Most connections of one shard: the kernel makes no larger table of direct descriptors (`IORING_MAX_FIXED_FILES`).
pub const SLOTS_MAX: u64 = 1 << 20;

/// Most shards of one engine.
pub const SHARDS_MAX: u64 = 256;

/// Descriptors the process needs besides its shards.
pub const DESCRIPTORS_BASE: u64 = 64;

/// Descriptors a shard needs besides its connections.
pub const DESCRIPTORS_PER_SHARD: u64 = 16;

/// Locked memory that the executor wants before it starts, in bytes.
pub const LOCKED_BYTES_MIN: u64 = 512 << 10;

/// Locked memory that the rings of one shard are counted as, in bytes.
pub const LOCKED_BYTES_PER_SHARD: u64 = 1 << 20;

/// Returns the bytes of receive buffers of a shard, where so many take turns on a core.
#[must_use]
pub fn buffer_bytes(shards_per_core: u64) -> u64 {
    let buffers = (4_096 / shards_per_core.max(1)).next_power_of_two().max(256);
    buffers * 2_048
}

/// Returns the bytes of the ring between two shards, where so many take turns on a core, for messages of the default size at
/// most. There is one for each ordered pair, a shard with itself included.
#[must_use]
pub fn ring_bytes(shards_per_core: u64) -> u64 {
    ((256 << 10) / shards_per_core.max(1)).max(2 * PACKET_BYTES_MAX)
}

/// Returns the bytes that shards take on so many cores besides their connections, topics and messages.
#[must_use]
pub fn shard_bytes(shards: u64, cores: u64) -> u64 {
    let per_core = shards.div_ceil(cores.max(1));
    shards * (buffer_bytes(per_core) + LOCKED_BYTES_PER_SHARD) + shards * shards * ring_bytes(per_core)
}

/// The largest packet between shards, with a message of [`MESSAGE_BYTES_DEFAULT`], in bytes.
pub const PACKET_BYTES_MAX: u64 = MESSAGE_BYTES_DEFAULT + 736;

/// Connections each listener asks the kernel to hold until they are accepted.
pub const BACKLOG: u64 = 65_535;

/// Orders that one submit of a shard can hold: so many packets can leave at once.
pub const SUBMISSIONS: u64 = 4_096;

/// Time a shard spins before it sleeps, in microseconds.
pub const SPIN_US_MAX: u64 = 10;

/// Time that a core may take to wake, in microseconds: more would be the largest part of a lonely message's latency.
pub const WAKE_US_MAX: u64 = 50;

/// Largest payload without `--max-message`, in bytes.
pub const MESSAGE_BYTES_DEFAULT: u64 = 64 << 10;

/// Largest payload with it, in bytes.
pub const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// Messages remembered per topic, by default.
pub const HISTORY_MESSAGES: u64 = 64;

/// Bytes remembered per topic, by default.
pub const HISTORY_BYTES: u64 = 64 << 10;

/// Age up to which messages are remembered, by default, in seconds.
pub const HISTORY_SECONDS: u64 = 300;

/// Silence after which a peer is pinged, by default, in seconds.
pub const PING_SECONDS: u64 = 25;

/// Age at which an HTTP stream ends and its client comes back (`stream-seconds`), by default, in seconds.
pub const STREAM_SECONDS: u64 = 1_800;

/// Bytes of messages after which it does (`stream-bytes`), by default.
pub const STREAM_BYTES: u64 = 64 << 20;

/// Bytes of a socket's own that the kernel may hold unsent (`TCP_NOTSENT_LOWAT`).
pub const NOTSENT_BYTES: u64 = 128 << 10;

/// Room that connections need above their number, because the kernel spreads them over the shards by hash: a tenth.
#[must_use]
pub fn with_spare(connections: u64) -> u64 {
    connections.saturating_add(connections.div_ceil(10))
}
