//! Accepting: several one-shot accepts in flight per listener, each with a place for the peer's address.
//!
//! Owns: the listener and the places the kernel writes addresses to. Never: touches the ring; it makes entries, the
//! ring queues them.
//!
//! Multishot accept would need one entry for ever, but gives no peer address: all its connections would share one
//! place. So there are [`ACCEPTS`] one-shot accepts, each armed again when it completes. Measured (15,000 connections
//! over loopback, Linux 6.18): 5.3-6.2 µs of CPU each, multishot 5.7-6.1; with 8 in flight 7.8-8.2, with 128 5.8-6.2.
//!
//! To try an accept in vain costs the kernel a socket and a file, made and thrown away (LOG: 2.5 µs of 8). So one that is
//! armed while nobody seems to wait asks to be tried only when somebody does, if the kernel knows how.
//!
//! A connection of a Unix socket is accepted as an ordinary descriptor first, because who is at its other end cannot be asked of one in
//! the table, and then moved there; its place is taken until it has.
//!
//! Why the unsafe is sound: a place is written by the kernel while its accept is armed, and only inside our own
//! system calls (`DEFER_TASKRUN`); it is read when its completion was reaped. Places are boxed once and never move.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd};

use io_uring::types::{DestinationSlot, Fd};
use io_uring::{opcode, squeue};

use super::address;
use super::dial::CHOOSE_SLOT;
use super::listen::Listener;
use super::token::{Operation, Token};
use super::unix::{self, Credentials};

/// Accepts in flight per listener: how many connections one turn can take. A wake-up finds the whole burst that
/// arrived meanwhile; 32 make the system call and the turn around them a small part of the cost of each.
pub(super) const ACCEPTS: usize = 32;

struct Place {
    peer: UnsafeCell<libc::sockaddr_storage>,
    len: UnsafeCell<libc::socklen_t>,
    /// The socket going into the table, the slot coming out.
    cell: UnsafeCell<RawFd>,
    moving: Option<(OwnedFd, Credentials)>,
}

/// `IORING_ACCEPT_POLL_FIRST`, in `ioprio`: wait before the first try.
const POLL_FIRST: u16 = 4;

/// First kernel that knows it; an older one refuses it with `EINVAL`.
const POLL_FIRST_SINCE: (u32, u32) = (6, 10);

/// One listener, being accepted from.
pub(super) struct Accepting {
    /// Closed for good when `None`.
    listener: Option<Listener>,
    index: u8,
    is_unix: bool,
    /// Whether completed accepts are armed again.
    active: bool,
    /// The kernel can wait before the first try.
    polls_first: bool,
    places: Box<[Place]>,
    idle: Vec<u16>,
}

// SAFETY: the places are only written by the kernel inside system calls of the thread that owns this value.
unsafe impl Send for Accepting {}

impl Accepting {
    /// Makes what accepts from a listener, so many at a time, on a kernel of this version.
    pub(super) fn new(listener: Listener, index: u8, accepts: usize, kernel: (u32, u32)) -> Accepting {
        let place = |_| Place {
            // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
            peer: UnsafeCell::new(unsafe { std::mem::zeroed() }),
            len: UnsafeCell::new(0),
            cell: UnsafeCell::new(-1),
            moving: None,
        };
        Accepting {
            is_unix: listener.is_unix(),
            listener: Some(listener),
            index,
            active: false,
            polls_first: kernel >= POLL_FIRST_SINCE,
            places: (0..accepts).map(place).collect(),
            idle: (0..accepts as u16).rev().collect(),
        }
    }

    /// Says whether completed accepts are armed again.
    pub(super) fn active(&self) -> bool {
        self.active
    }

    /// Starts arming completed accepts again, unless the listener was closed.
    pub(super) fn start(&mut self) {
        self.active = self.listener.is_some();
    }

    /// Stops arming; returns whether it was active, so that a failure is told once.
    pub(super) fn pause(&mut self) -> bool {
        std::mem::take(&mut self.active)
    }

    /// Says whether no accept is in flight.
    pub(super) fn all_idle(&self) -> bool {
        self.idle.len() == self.places.len()
    }

    /// Returns the entry of one more accept, which is tried at once if somebody `waits`; `None` if all places are taken, or
    /// accepting is paused.
    pub(super) fn arm(&mut self, waits: bool) -> Option<squeue::Entry> {
        let fd = match &self.listener {
            Some(listener) if self.active => listener.as_fd().as_raw_fd(),
            _ => return None,
        };
        let number = self.idle.pop()?;
        let place = &self.places[usize::from(number)];
        // SAFETY: the place was idle, so the kernel does not know it.
        unsafe { *place.len.get() = size_of::<libc::sockaddr_storage>() as libc::socklen_t };
        let accept = opcode::Accept::new(Fd(fd), place.peer.get().cast(), place.len.get());
        let accept = if self.is_unix {
            accept.flags(libc::SOCK_CLOEXEC)
        } else {
            accept.file_index(Some(DestinationSlot::auto_target()))
        };
        let entry =
            accept.build().user_data(Token::new(Operation::Accept, u16::from(self.index), u32::from(number)).raw());
        Some(if waits || !self.polls_first { entry } else { with_ioprio(entry, POLL_FIRST) })
    }

    /// Takes a completed accept's place back; returns the peer's address, which is meaningful if it succeeded.
    pub(super) fn completed(&mut self, number: u32) -> SocketAddr {
        let place = &self.places[number as usize];
        // SAFETY: its accept completed, so the kernel does not write it any more; it was initialised at the start.
        let peer = address::decode(unsafe { &*place.peer.get() });
        self.idle.push(number as u16);
        peer
    }

    /// Takes an accepted socket that has yet to go into the table; returns the entry that moves it there. None: it is a slot already.
    ///
    /// # Errors
    /// Nobody can say who is at its other end; it is closed.
    pub(super) fn move_in(&mut self, number: u32, result: i32) -> Option<io::Result<squeue::Entry>> {
        let place = &mut self.places[number as usize];
        if !self.is_unix || place.moving.is_some() {
            return None;
        }
        // SAFETY: the kernel has just made the descriptor, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        let credentials = match unix::credentials(socket.as_fd()) {
            Ok(credentials) => credentials,
            Err(error) => return Some(Err(error)),
        };
        *place.cell.get_mut() = socket.as_raw_fd();
        place.moving = Some((socket, credentials));
        let entry = opcode::FilesUpdate::new(place.cell.get(), 1)
            .offset(CHOOSE_SLOT)
            .build()
            .user_data(Token::new(Operation::Accept, u16::from(self.index), number).raw());
        Some(Ok(entry))
    }

    /// Takes a socket that was moved, whether or not it is in the table now; none was.
    pub(super) fn moved(&mut self, number: u32) -> Option<(i32, Credentials)> {
        let place = &mut self.places[number as usize];
        let (_, credentials) = place.moving.take()?;
        Some((*place.cell.get_mut(), credentials))
    }

    /// Returns an entry per accept in flight that cancels it.
    pub(super) fn cancel_all(&self) -> Vec<squeue::Entry> {
        let armed = (0..self.places.len() as u32).filter(|number| !self.idle.contains(&(*number as u16)));
        armed
            .map(|number| {
                let target = Token::new(Operation::Accept, u16::from(self.index), number);
                opcode::AsyncCancel::new(target.raw())
                    .build()
                    .flags(squeue::Flags::SKIP_SUCCESS)
                    .user_data(Token::new(Operation::Cancel, 0, 0).raw())
            })
            .collect()
    }

    /// Closes the listener for good. Every queued entry that names it must have been submitted.
    pub(super) fn close(&mut self) {
        self.active = false;
        self.listener = None;
    }
}

impl std::fmt::Debug for Accepting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Accepting { listener, active, idle, .. } = self;
        f.debug_struct("Accepting").field("listener", listener).field("active", active).field("idle", idle).finish()
    }
}

/// Gives an entry bits for the kernel to do it in another way, which the crate has no word for.
pub(super) fn with_ioprio(mut entry: squeue::Entry, bits: u16) -> squeue::Entry {
    // SAFETY: an `Entry` is `repr(C)` and nothing but the kernel's `io_uring_sqe`, whose second 16 bits are `ioprio`; the
    // test `ioprio` holds the crate to that.
    unsafe { std::ptr::from_mut(&mut entry).cast::<u16>().add(1).write(bits) };
    entry
}

/// Says whether a failed accept means that we are out of something (table, memory), not that one connection failed.
pub(super) fn out_of_something(errno: i32) -> bool {
    // accept(2) passes pending network errors of the new socket on: these concern one connection only.
    let one_connection = matches!(
        errno,
        libc::ECONNABORTED
            | libc::EPROTO
            | libc::EPERM
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EHOSTUNREACH
            | libc::EOPNOTSUPP
            | libc::ENETUNREACH
            | libc::EINTR
            | libc::EAGAIN
    );
    !one_connection
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::listen::listen;

    /// Arming hands out every place once, a completed one again, and none while paused.
    #[test]
    fn places() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let mut accepting = Accepting::new(listener, 3, ACCEPTS, POLL_FIRST_SINCE);
        assert!(accepting.arm(false).is_none(), "not started");
        accepting.start();
        let armed: Vec<_> = std::iter::from_fn(|| accepting.arm(false)).collect();
        assert_eq!(armed.len(), ACCEPTS);
        let token = Token::from_raw(armed[5].get_user_data());
        assert_eq!((token.operation(), token.generation()), (Operation::Accept, 3));
        accepting.completed(token.slot());
        assert_eq!(accepting.arm(true).map(|entry| entry.get_user_data()), Some(token.raw()));
        accepting.completed(token.slot());
        assert!(accepting.pause());
        assert!(!accepting.pause(), "told once");
        assert!(accepting.arm(false).is_none());
        assert_eq!(accepting.cancel_all().len(), ACCEPTS - 1);
        accepting.close();
        accepting.start();
        assert!(accepting.arm(false).is_none(), "closed for good");
    }

    /// The bits for waiting first are where the crate puts those for many shots, and only on kernels that know them.
    #[test]
    fn ioprio() {
        // SAFETY: an entry is at least four bytes long.
        let ioprio = |entry: &squeue::Entry| unsafe { std::ptr::from_ref(entry).cast::<u16>().add(1).read() };
        assert_eq!(size_of::<squeue::Entry>(), 64);
        assert_eq!(ioprio(&opcode::AcceptMulti::new(Fd(0)).build()), 1, "IORING_ACCEPT_MULTISHOT");
        for (kernel, waits, wanted) in [((6, 10), false, POLL_FIRST), ((6, 10), true, 0), ((6, 9), false, 0)] {
            let listener = listen("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
            let mut accepting = Accepting::new(listener, 0, ACCEPTS, kernel);
            accepting.start();
            assert_eq!(accepting.arm(waits).map(|entry| ioprio(&entry)), Some(wanted), "{kernel:?}, {waits}");
        }
    }

    /// A full table stops accepting, a connection that died in the queue does not.
    #[test]
    fn which_errors_stop() {
        for errno in [libc::ENFILE, libc::EMFILE, libc::ENOMEM, libc::ENOBUFS] {
            assert!(out_of_something(errno));
        }
        for errno in [libc::ECONNABORTED, libc::EPERM, libc::EHOSTUNREACH] {
            assert!(!out_of_something(errno));
        }
    }
}
