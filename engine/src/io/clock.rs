//! The time of day. Everything else goes by the monotonic clock ([`now_us`]), which nobody sets.

use std::time::{SystemTime, UNIX_EPOCH};

use super::ring::now_us;

/// Returns the time of day in seconds since 1970.
#[must_use]
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns what the time of day, in microseconds since 1970, is ahead of the monotonic clock. It changes when the host's clock is
/// set; a clock before 1970 counts as 1970.
#[must_use]
pub fn wall_offset_us() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (wall.as_micros() as u64).saturating_sub(now_us())
}
