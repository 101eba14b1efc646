//! What time it is: the time of day, and the monotonic clock ([`now_us`]), which nobody sets and everything else goes by.
//!
//! Why the unsafe is sound: the call writes to a local of the type that it fills; the instructions only read a counter.
#![allow(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns monotonic time in microseconds.
#[must_use]
pub fn now_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local of the type the call fills; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Returns a counter of this core's time, in steps of its own, a nanosecond or less; 0 where this program knows of none.
#[inline]
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction; Linux does not keep processes from it unless they ask for that.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: reads the virtual counter, which Linux lets every process do; touches no memory, and no flags.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
        return ticks;
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

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
