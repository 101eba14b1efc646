//! One ring, a table of direct descriptors, a ring of receive buffers, and memory to send from.
//!
//! Owns: all of these. What is sent is named by a place in that memory, which outlives every send, so the servers above
//! need no `unsafe`. This is the same recipe as the engine's driver with everything left out that a plain loop can do
//! without: no trait, no generations, no peer addresses, no cancelling, one listener.
//!
//! Soundness: `memory` and the receive buffers are mappings made once and unmapped after the ring is gone (fields drop
//! in order), so no operation of the kernel can name memory that is gone; the kernel writes only into buffers that are
//! in its hands, and a buffer is in ours from its completion until `recycle`.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Submission entries: sends per system call. More than 512 brought nothing measurable.
const SUBMISSIONS: u32 = 1024;
/// Completion entries: a burst of receives from every connection of a table must fit.
const COMPLETIONS: u32 = 32_768;
/// Receive buffers; a power of two.
const BUFFERS: u16 = 4096;
/// Bytes of one receive buffer.
const BUFFER_BYTES: usize = 2048;
/// Memory for what is sent once (answers, echoes), in bytes. Full: submit, then start again.
const SCRATCH_BYTES: usize = 1 << 20;
/// Sends never wait, and are done in full if the socket has room.
const SEND_FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const WRITABLE: u64 = 3;
const CLOSE: u64 = 4;

/// A receive buffer that is ours until it is recycled.
#[derive(Clone, Copy, Debug)]
pub struct Lent {
    id: u16,
    len: u32,
}

/// What the kernel said.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A connection was accepted; its receive is armed.
    Accepted(u32),
    /// Bytes arrived. The receive stays armed.
    Received(u32, Lent),
    /// The connection ended or failed. It is being closed.
    Ended(u32),
    /// A send was not done in full.
    Unsent {
        /// To whom.
        slot: u32,
        /// Bytes asked for.
        asked: usize,
        /// Bytes sent; `None` if the connection failed.
        sent: Option<usize>,
    },
    /// There is room to send again.
    Writable(u32),
}

/// A private anonymous mapping.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { base: NonNull::new(base.cast()).expect("mmap never maps address zero unasked"), len })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` initialised bytes (zero pages), borrowed through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference to it outlives `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// See the module.
pub struct PlainRing {
    // Dropped first: after it the kernel names no memory of ours.
    ring: IoUring,
    listener: TcpListener,
    memory: Mapping,
    scratch_start: usize,
    scratch_used: usize,
    buffer_ring: Mapping,
    buffers: Mapping,
    buffer_tail: u16,
    accepting: bool,
}

impl std::fmt::Debug for PlainRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainRing").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl PlainRing {
    /// Sets the ring up and starts accepting; `log_bytes` of its memory are the caller's to fill and send from.
    ///
    /// # Errors
    /// What the kernel said: kernel older than 6.1, io_uring forbidden, `slots` above RLIMIT_NOFILE.
    pub fn new(listener: TcpListener, slots: u32, log_bytes: usize) -> io::Result<PlainRing> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        ring.submitter().register_files_sparse(slots)?;
        let buffer_ring = Mapping::new(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let address = buffer_ring.base.as_ptr() as u64;
        // SAFETY: the mapping holds `BUFFERS` entries, is page-aligned, and outlives the ring.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, BUFFERS, 0, 0)? };
        let mut ring = PlainRing {
            ring,
            listener,
            memory: Mapping::new(log_bytes + SCRATCH_BYTES)?,
            scratch_start: log_bytes,
            scratch_used: 0,
            buffer_ring,
            buffers: Mapping::new(usize::from(BUFFERS) * BUFFER_BYTES)?,
            buffer_tail: 0,
            accepting: false,
        };
        for id in 0..BUFFERS {
            ring.recycle(Lent { id, len: 0 });
        }
        ring.accept();
        Ok(ring)
    }

    /// Returns the caller's part of the memory.
    pub fn log(&mut self) -> &mut [u8] {
        let len = self.scratch_start;
        &mut self.memory.bytes()[..len]
    }

    /// Queues one send of a part of the memory.
    #[inline]
    pub fn send(&mut self, slot: u32, start: usize, len: usize) {
        assert!(start + len <= self.memory.len && len < 1 << 24, "a send lies within the memory");
        // SAFETY: the start lies within the mapping, as asserted.
        let bytes = unsafe { self.memory.base.as_ptr().add(start) };
        let send = opcode::Send::new(Fixed(slot), bytes, len as u32).flags(SEND_FLAGS).build();
        self.push(send.flags(squeue::Flags::SKIP_SUCCESS), SEND, len as u32, slot);
    }

    /// Queues one send of `len` bytes and returns where to write them.
    ///
    /// # Panics
    /// If `len` is above 1 MiB.
    pub fn send_new(&mut self, slot: u32, len: usize) -> &mut [u8] {
        if self.scratch_used + len > SCRATCH_BYTES {
            self.submit(0);
        }
        let start = self.scratch_start + self.scratch_used;
        self.scratch_used += len;
        self.send(slot, start, len);
        &mut self.memory.bytes()[start..start + len]
    }

    /// Returns received bytes.
    pub fn received(&mut self, lent: Lent) -> &[u8] {
        let start = usize::from(lent.id) * BUFFER_BYTES;
        &self.buffers.bytes()[start..start + lent.len as usize]
    }

    /// Queues one send as [`send_new`](Self::send_new) and returns it beside the received bytes it is made from.
    pub fn answer(&mut self, slot: u32, lent: Lent, len: usize) -> (&[u8], &mut [u8]) {
        // The bytes must be written before the next submit, and `send_new` submits only before it queues.
        self.send_new(slot, len);
        let end = self.scratch_start + self.scratch_used;
        let start = usize::from(lent.id) * BUFFER_BYTES;
        (&self.buffers.bytes()[start..start + lent.len as usize], &mut self.memory.bytes()[end - len..end])
    }

    /// Gives a receive buffer back to the kernel.
    #[inline]
    pub fn recycle(&mut self, lent: Lent) {
        let index = usize::from(self.buffer_tail & (BUFFERS - 1));
        let base = self.buffer_ring.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `index` is below the number of entries; the entry is ours until the tail passes it. The tail lies in
        // the first entry's reserved field, where the kernel reads it with acquire: it pairs with the release here.
        unsafe {
            let entry = &mut *base.add(index);
            entry.set_addr(self.buffers.base.as_ptr().add(usize::from(lent.id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(lent.id);
            self.buffer_tail = self.buffer_tail.wrapping_add(1);
            AtomicU16::from_ptr(BufRingEntry::tail(base).cast_mut()).store(self.buffer_tail, Ordering::Release);
        }
    }

    /// Waits until the connection has room to send.
    pub fn wait_writable(&mut self, slot: u32) {
        self.push(opcode::PollAdd::new(Fixed(slot), libc::POLLOUT as u32).build(), WRITABLE, 0, slot);
    }

    /// Ends a connection from our side; `Ended` follows when its receive has.
    pub fn shut_down(&mut self, slot: u32) {
        let shut_down = opcode::Shutdown::new(Fixed(slot), libc::SHUT_RDWR).build();
        self.push(shut_down.flags(squeue::Flags::SKIP_SUCCESS), CLOSE, 0, slot);
    }

    /// Hands everything queued to the kernel, waiting for at least `want` completions.
    ///
    /// # Panics
    /// If the kernel refuses the ring itself.
    #[inline]
    pub fn submit(&mut self, want: usize) {
        self.scratch_used = 0;
        match self.ring.submit_and_wait(want) {
            Ok(_) => {}
            // EBUSY: completions must be reaped first, which the caller does next. EINTR: nothing was lost.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            Err(error) => panic!("io_uring_enter: {error}"),
        }
    }

    /// Takes what the kernel said, in order.
    pub fn reap(&mut self, events: &mut Vec<Event>) {
        while let Some(entry) = { self.ring.completion().next() } {
            let (operation, len, slot) = untoken(entry.user_data());
            let result = entry.result();
            match operation {
                ACCEPT => {
                    if let Ok(slot) = u32::try_from(result) {
                        self.receive(slot);
                        events.push(Event::Accepted(slot));
                    } else if result != -libc::ENFILE {
                        eprintln!("accept: {}", io::Error::from_raw_os_error(-result));
                    }
                    self.accepting = cqueue::more(entry.flags());
                    // A full table (ENFILE) is tried again when a connection ends.
                    if result >= 0 && !self.accepting {
                        self.accept();
                    }
                }
                RECEIVE => self.receive_done(slot, &entry, events),
                SEND => {
                    let sent = if result == -libc::EAGAIN { Some(0) } else { usize::try_from(result).ok() };
                    events.push(Event::Unsent { slot, asked: len as usize, sent });
                }
                WRITABLE => events.push(Event::Writable(slot)),
                _ => {}
            }
        }
    }

    fn receive_done(&mut self, slot: u32, entry: &cqueue::Entry, events: &mut Vec<Event>) {
        let result = entry.result();
        if let (Some(id), 1..) = (cqueue::buffer_select(entry.flags()), result) {
            events.push(Event::Received(slot, Lent { id, len: result as u32 }));
            if !cqueue::more(entry.flags()) {
                self.receive(slot);
            }
        } else if result == -libc::ENOBUFS {
            self.receive(slot);
        } else if !cqueue::more(entry.flags()) {
            self.push(opcode::Close::new(Fixed(slot)).build(), CLOSE, 0, slot);
            if !self.accepting {
                self.accept();
            }
            events.push(Event::Ended(slot));
        }
    }

    fn accept(&mut self) {
        let accept = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd())).allocate_file_index(true).build();
        self.push(accept, ACCEPT, 0, 0);
        self.accepting = true;
    }

    fn receive(&mut self, slot: u32) {
        self.push(opcode::RecvMulti::new(Fixed(slot), 0).build(), RECEIVE, 0, slot);
    }

    #[inline]
    fn push(&mut self, entry: squeue::Entry, operation: u64, len: u32, slot: u32) {
        let entry = entry.user_data(token(operation, len, slot));
        // SAFETY: whatever an entry names (memory, buffers, listener) lives longer than the ring: see the module.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit().expect("a full submission queue can be submitted");
        }
    }
}

/// operation: 8 bits, length: 24, slot: 32.
const fn token(operation: u64, len: u32, slot: u32) -> u64 {
    operation << 56 | (len as u64) << 32 | slot as u64
}

const fn untoken(token: u64) -> (u64, u32, u32) {
    (token >> 56, (token >> 32) as u32 & 0xff_ffff, token as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes into a token comes out of it, at the edges of every field.
    #[test]
    fn tokens_round_trip() {
        for operation in ACCEPT..=CLOSE {
            for len in [0, 1, 0xff_ffff] {
                for slot in [0, 1, u32::MAX] {
                    assert_eq!(untoken(token(operation, len, slot)), (operation, len, slot));
                }
            }
        }
    }
}
