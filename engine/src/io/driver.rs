//! The seam between a shard and the kernel: what a shard may ask for, and what it is told.
//!
//! Two implementors: [`super::ring::Ring`] (io_uring) and the simulator's fake kernel. The production shard runs
//! unchanged on both. Orders are queued by the methods of [`Driver`] and take effect in [`Driver::submit`];
//! everything the kernel says comes back from [`Driver::reap`] as a [`Completion`].
//!
//! Rules a shard keeps, and the simulator checks:
//! * at most one send per slot between two submits, or bytes could be reordered;
//! * the bytes of a send stay as they are until `submit` returns, and no longer;
//! * at most one receive (or wait for readability) per slot is armed at a time;
//! * a slot is closed only when nothing is armed on it, and is not named again until it is accepted again.

use std::net::SocketAddr;

use super::memory::{Memory, Span};
use super::unix::Credentials;

/// Number of an open socket: its place in the ring's table of direct descriptors, and in the shard's slab.
pub type Slot = u32;

/// Raw error number of the kernel, positive (`libc::ECONNRESET`).
pub type Errno = i32;

/// Pieces of one send at most: as many blocks as a frame log usually has.
pub const PARTS_MAX: usize = 12;

/// How a connection waits for bytes of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Multishot receive into provided buffers: cheapest per message, dearest in kernel memory while idle.
    Multishot,
    /// One-shot poll; `Readable` follows, and then the shard asks for `Once` or `Multishot`: cheapest while idle.
    Readiness,
    /// One-shot poll for the peer's end or a failure alone, whatever bytes there are: for a connection that is not read now.
    /// `Readable` follows.
    Ending,
    /// One receive that waits for bytes: one order where `Readiness` and `Once` are two, as dear in kernel memory as `Multishot`
    /// until they come; for who is about to speak once.
    Next,
    /// One receive of what is there now. `Received`, or `ReceiveEnded` with `Again` if nothing is.
    Once,
}

/// A receive buffer lent to the shard until it is given back with [`Driver::recycle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// Number of the buffer.
    pub id: u16,
    /// Bytes received into it.
    pub len: u32,
}

/// Why a receive stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed its direction.
    Eof,
    /// Nothing to receive now (`Interest::Once`).
    Again,
    /// No receive buffer was free; arm again later.
    NoBuffers,
    /// Cancelled on our order.
    Cancelled,
    /// The kernel ended a multishot receive that is still good; arm again.
    Rearm,
    /// The connection failed.
    Failed(Errno),
}

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// A connection was accepted straight into `slot`. The driver keeps accepting by itself.
    Accepted {
        /// Index of the listener.
        listener: u8,
        /// Where it is.
        slot: Slot,
        /// Address of the peer.
        peer: SocketAddr,
    },
    /// Accepting failed; the driver tries again after [`Driver::accept`].
    AcceptFailed {
        /// Index of the listener.
        listener: u8,
        /// `ENFILE`: the table is full. `EMFILE`, `ENOMEM`, ...
        errno: Errno,
    },
    /// An outgoing connection stands (`0`), or failed (load generator and clients only).
    Connected {
        /// Where it is.
        slot: Slot,
        /// Zero or an error number.
        errno: Errno,
    },
    /// Bytes arrived. `more` says whether the receive stays armed.
    Received {
        /// From whom.
        slot: Slot,
        /// Generation given when the receive was armed.
        generation: u16,
        /// The bytes.
        lent: Lent,
        /// The receive stays armed.
        more: bool,
    },
    /// The receive stopped, without bytes.
    ReceiveEnded {
        /// From whom.
        slot: Slot,
        /// Generation given when the receive was armed.
        generation: u16,
        /// Why.
        end: End,
    },
    /// A wait for readability, or for the peer's end, is over: there are bytes, an end or an error to receive (or it was
    /// cancelled).
    Readable {
        /// Who.
        slot: Slot,
        /// Generation given when it was armed.
        generation: u16,
        /// It was cancelled, nothing is known.
        cancelled: bool,
        /// The connection failed: there may be bytes to receive, but nobody is left to answer.
        failed: bool,
    },
    /// A send was not done in full. A send that was says nothing.
    Unsent {
        /// To whom.
        slot: Slot,
        /// Bytes asked for.
        asked: u32,
        /// Bytes taken by the kernel, or why none: `EAGAIN` if its buffer is full; `ENOBUFS` or `ENOMEM` if the kernel has no
        /// memory for it just now, which says nothing against the connection.
        sent: Result<u32, Errno>,
    },
    /// A wait for room ended; sending is worth a try (it may then fail).
    Writable {
        /// Who.
        slot: Slot,
        /// Generation given when it was armed.
        generation: u16,
    },
    /// The slot is free, and may be accepted into again.
    Closed {
        /// Which.
        slot: Slot,
    },
    /// The TLS handshake of a connection is over: what it says from now on is told. Comes from the edge.
    Secured {
        /// Which.
        slot: Slot,
        /// An earlier session went on.
        resumed: bool,
        /// Microseconds since its first record was here.
        took_us: u32,
    },
    /// A proxy has said who its client is. Comes from the edge, before any bytes.
    Announced {
        /// Whose connection.
        slot: Slot,
        /// The client's address.
        peer: SocketAddr,
    },
    /// The peer has said that it sends no more, in words of TLS: what it does afterwards at its socket, and what is armed there,
    /// is told besides. Comes from the edge.
    PeerEnded {
        /// Who.
        slot: Slot,
    },
    /// The connection can be used no more, and is to be closed; the peer has been told. Comes from the edge.
    Broken {
        /// Which.
        slot: Slot,
        /// What happened, for people.
        why: &'static str,
    },
}

/// What a shard asks of the kernel.
pub trait Driver {
    /// Returns monotonic time in microseconds; reads the clock.
    fn now_us(&mut self) -> u64;
    /// Returns a counter that grows evenly while somebody looks, in steps of its own: cheaper than the clock. Always 0: there is none.
    fn ticks(&self) -> u64 {
        0
    }
    /// Returns the block memory.
    fn memory(&self) -> &Memory;
    /// Returns the block memory, for writing.
    fn memory_mut(&mut self) -> &mut Memory;
    /// Returns the largest slot number plus one that can ever be accepted.
    fn slots_max(&self) -> u32;
    /// Returns how many more orders fit before the next `submit`.
    fn room(&self) -> usize;

    /// Starts (or after `AcceptFailed` resumes) accepting on a listener.
    fn accept(&mut self, listener: u8);
    /// With `held`, nobody more is accepted before it is called without: who was taken by then still comes, others wait in the kernel.
    fn hold_accepting(&mut self, held: bool);
    /// Takes accepts back that wait for somebody to come: with those held, only who was taken by now still comes.
    fn cancel_accepts(&mut self) {}
    /// Stops accepting on every listener, for good, and closes them.
    fn stop_accepting(&mut self);
    /// Arms a receive, or a wait for readability.
    fn receive(&mut self, slot: Slot, generation: u16, interest: Interest);
    /// Cancels what `receive` armed with this interest; its completion still comes, with bytes or `Cancelled`.
    fn cancel_receive(&mut self, slot: Slot, generation: u16, interest: Interest);
    /// Sends bytes without waiting; done when `submit` returns, told by `Unsent` if not in full.
    fn send(&mut self, slot: Slot, bytes: Span);
    /// Sends several pieces, one after the other, as `send` does one: it is one send. At most [`PARTS_MAX`].
    fn send_parts(&mut self, slot: Slot, parts: &[Span]);
    /// Waits until the kernel has room for more of our bytes (one shot).
    fn wait_writable(&mut self, slot: Slot, generation: u16);
    /// Waits a while, for the kernel to have memory again (one shot): `Writable` follows, as for `wait_writable`.
    fn wait_for_memory(&mut self, slot: Slot, generation: u16);
    /// Cancels `wait_writable` or `wait_for_memory`; its `Writable` still comes.
    fn cancel_writable(&mut self, slot: Slot, generation: u16);
    /// Lets the kernel hold little of what a connection is sent: it wants what is new when its link has room.
    fn keep_lean(&mut self, _slot: Slot) {}
    /// Ends our direction (`SHUT_WR`).
    fn finish_sending(&mut self, slot: Slot);
    /// Closes the slot; `Closed` follows.
    fn close(&mut self, slot: Slot);

    /// Returns the bytes of a lent buffer, which came from this slot.
    fn received(&mut self, slot: Slot, lent: Lent) -> &mut [u8];
    /// Gives a lent buffer back.
    fn recycle(&mut self, lent: Lent);

    /// Hands all orders to the kernel and collects what it has to say, without waiting.
    fn submit(&mut self);
    /// Moves what the kernel said to the end of `into`, in order, at most `max` of them.
    fn reap(&mut self, into: &mut Vec<Completion>, max: usize);
    /// Wakes another shard that rests; the number behind the last one is the control plane's, the next the authority's.
    fn wake(&mut self, shard: usize);

    /// Says whether it has something to do that waits for nothing but the next `submit`, or to say at the next `reap`.
    fn has_more(&self) -> bool {
        false
    }
    /// Returns when it next has something to do by itself, on the clock of [`Driver::now_us`].
    fn due_us(&self) -> Option<u64> {
        None
    }
    /// Takes the names of the certificate that the peer of a slot has shown, a line each, after `Secured`.
    fn take_names(&mut self, _slot: Slot) -> Option<Box<str>> {
        None
    }
    /// Takes who is at the other end of a slot that a Unix socket has accepted, once, after `Accepted`.
    fn take_credentials(&mut self, _slot: Slot) -> Option<Credentials> {
        None
    }
    /// Returns the bytes of memory that stand beside the block memory for what connections are in the middle of.
    fn bytes_beside(&self) -> usize {
        0
    }
}
