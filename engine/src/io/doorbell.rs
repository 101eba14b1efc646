//! A doorbell: the eventfd a resting shard waits for, and any other shard may ring.
//!
//! Owns: one eventfd, shared by all that may ring it. The shard's own ring rings it too, when a completion is ready
//! while the shard rests (`register_eventfd`). It carries no data: who hears it looks everywhere.
//!
//! Why the unsafe is sound: each call passes the descriptor this type owns, and at most one local 8-byte buffer.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// A shard's doorbell; clones ring the same one.
#[derive(Clone, Debug)]
pub struct Doorbell(Arc<OwnedFd>);

impl Doorbell {
    /// Makes a doorbell that nobody has rung.
    ///
    /// # Errors
    /// What the kernel said (`EMFILE`: the file limit of the process).
    pub fn new() -> io::Result<Doorbell> {
        // Not EFD_NONBLOCK: io_uring would then answer a read with EAGAIN instead of waiting for the bell.
        // SAFETY: makes a new descriptor, touches no memory.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and owned by nobody else.
        Ok(Doorbell(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes one doorbell per shard.
    ///
    /// # Errors
    /// What the kernel said (`EMFILE`: the file limit of the process).
    pub fn several(count: usize) -> io::Result<Vec<Doorbell>> {
        (0..count).map(|_| Doorbell::new()).collect()
    }

    /// Rings it: one system call, never waits.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as eventfd(2) wants. It could block only at 2^64 - 2 unheard rings.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes all rings; waits for one if there is none. For a thread that has nothing else to wait for, or has asked poll(2).
    pub fn hear(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: eight writable bytes, as eventfd(2) wants.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
