//! Sends of several pieces: what names them for the kernel, from being queued until it was taken.
//!
//! The kernel is given the address of a `msghdr`, which has that of a list of pieces. It reads both inside `io_uring_enter`: a
//! send with `MSG_DONTWAIT` is never put off. So both lie in two tables that are emptied after it, and that never move.
//!
//! Why the unsafe is sound: the tables have their final capacity from the start, and an element is never moved; what they point
//! to is block memory, which outlives the ring.
#![allow(unsafe_code)]

use super::driver::PARTS_MAX;

/// Sends of several pieces between two calls of the kernel, and pieces of all of them: a turn has 512 sends at most.
const MESSAGES: usize = 512;
const PIECES: usize = MESSAGES * PARTS_MAX / 2;

/// The sends of several pieces that were queued.
pub(super) struct Parts {
    messages: Vec<libc::msghdr>,
    pieces: Vec<libc::iovec>,
}

// SAFETY: the pointers are into the tables themselves and into block memory, and travel with the ring that owns both.
unsafe impl Send for Parts {}

impl Parts {
    /// Makes the tables; what is never used costs no memory.
    pub(super) fn new() -> Parts {
        Parts { messages: Vec::with_capacity(MESSAGES), pieces: Vec::with_capacity(PIECES) }
    }

    /// Says whether there is room for one more send of so many pieces.
    pub(super) fn has_room(&self, pieces: usize) -> bool {
        self.messages.len() < MESSAGES && self.pieces.len() + pieces <= PIECES
    }

    /// Adds a send, for which room was looked for, and returns what names it.
    pub(super) fn add<'p>(&mut self, parts: impl Iterator<Item = &'p [u8]>) -> *const libc::msghdr {
        let first = self.pieces.len();
        for part in parts {
            assert!(self.pieces.len() < PIECES, "room was looked for");
            self.pieces.push(libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        }
        assert!(self.messages.len() < MESSAGES, "room was looked for");
        // SAFETY: a `msghdr` of zeros is one without address, pieces and control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.pieces[first..].as_mut_ptr();
        message.msg_iovlen = self.pieces.len() - first;
        self.messages.push(message);
        &raw const self.messages[self.messages.len() - 1]
    }

    /// Forgets all: the kernel has taken them.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.pieces.clear();
    }
}
