//! Waiting outside of any executor, for the load generator, whose workers are plain threads.
//!
//! A shard rests through glommio instead: see [`super::rest`].

use io_uring::types::{SubmitArgs, Timespec};

use super::ring::Ring;

impl Ring {
    /// Waits until the kernel has something to say, at most `us_max` microseconds; returns at once if it has already.
    ///
    /// # Panics
    /// If the kernel refuses the ring itself.
    pub fn park(&mut self, us_max: u32) {
        if !self.quiet() {
            return;
        }
        let time = Timespec::new().nsec(us_max % 1_000_000 * 1_000).sec(u64::from(us_max / 1_000_000));
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time)) {
            Ok(_) => {}
            // ETIME: nothing came. EBUSY: completions must be reaped, which the caller does next.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            Err(error) => panic!("io_uring_enter failed: {error}"),
        }
    }
}
