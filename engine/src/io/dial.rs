//! Outgoing connections, for the load generator.
//!
//! Owns: sockets on their way into the table, and the addresses they shall connect to. Never: touches the ring; it
//! makes entries, the ring queues them.
//!
//! A socket is made and bound by ordinary system calls (the ring has no `bind` before Linux 6.11 and no `setsockopt`
//! before 6.7), moved into the table by the kernel's choice of slot, closed here, and connected there. So a million
//! connections need a few descriptors of the process only.
//!
//! Why the unsafe is sound: the kernel reads and writes a place only between the submission of its entries and their
//! completion, inside our own system calls; places are boxed once, never move, and are reused after that only.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use io_uring::types::Fixed;
use io_uring::{opcode, squeue};

use super::address;
use super::driver::Slot;
use super::listen::{bind, set, socket};
use super::token::{Operation, Token};

/// Connections that may be on their way into the table at once: each holds a descriptor of the process for a moment.
pub const DIALS_MAX: usize = 256;

/// `IORING_FILE_INDEX_ALLOC` as the offset of a table update: the kernel chooses the slot, and writes it back.
pub(super) const CHOOSE_SLOT: i32 = -1;

/// A connection to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Where to.
    pub to: SocketAddr,
    /// The local address; by default the kernel's choice.
    pub from: Option<IpAddr>,
    /// The socket's receive buffer in bytes, for peers that shall be slow; by default the host's, which grows.
    pub receive_buffer: Option<u32>,
}

struct Place {
    /// The socket going in, the slot coming out.
    cell: UnsafeCell<RawFd>,
    to: libc::sockaddr_storage,
    to_len: libc::socklen_t,
    socket: Option<OwnedFd>,
}

/// Sockets on their way into the table; nothing is allocated until the first.
#[derive(Default)]
pub(super) struct Dials {
    places: Box<[Place]>,
    idle: Vec<u16>,
}

// SAFETY: the places are only written by the kernel inside system calls of the thread that owns this value.
unsafe impl Send for Dials {}

impl Dials {
    /// Makes a socket and returns the entry that moves it into the table.
    ///
    /// # Errors
    /// `WouldBlock` if [`DIALS_MAX`] are on their way; what the kernel said to the socket or its address.
    pub(super) fn start(&mut self, dial: &Dial) -> io::Result<squeue::Entry> {
        let Dial { to, from, receive_buffer } = *dial;
        if self.places.is_empty() {
            let place = |_| {
                let (to, to_len) = address::encode(SocketAddr::from(([0, 0, 0, 0], 0)));
                Place { cell: UnsafeCell::new(-1), to, to_len, socket: None }
            };
            self.places = (0..DIALS_MAX).map(place).collect();
            self.idle = (0..DIALS_MAX as u16).rev().collect();
        }
        let number = *self.idle.last().ok_or(io::ErrorKind::WouldBlock)?;
        let fd = socket(to)?;
        set(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        if let Some(bytes) = receive_buffer {
            // Before connecting, because the window that is offered depends on it.
            set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes as libc::c_int)?;
        }
        if let Some(from) = from {
            // The port is then chosen by connect, unique per pair of addresses, not per source address.
            set(&fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
            bind(&fd, SocketAddr::new(from, 0))?;
        }
        self.idle.pop();
        let place = &mut self.places[usize::from(number)];
        *place.cell.get_mut() = fd.as_raw_fd();
        place.socket = Some(fd);
        (place.to, place.to_len) = address::encode(to);
        Ok(opcode::FilesUpdate::new(place.cell.get(), 1)
            .offset(CHOOSE_SLOT)
            .build()
            .user_data(Token::new(Operation::Install, 0, u32::from(number)).raw()))
    }

    /// Takes note that a socket is in the table; returns its slot and the entry that connects it.
    ///
    /// The place stays taken until `done`: the entry names its address.
    pub(super) fn installed(&mut self, number: u32) -> (Slot, squeue::Entry) {
        let place = &mut self.places[number as usize];
        place.socket = None;
        let slot = *place.cell.get_mut() as Slot;
        let entry = opcode::Connect::new(Fixed(slot), (&raw const place.to).cast(), place.to_len)
            .build()
            .user_data(Token::new(Operation::Connect, number as u16, slot).raw());
        (slot, entry)
    }

    /// Takes a place back: its socket connected, or something failed.
    pub(super) fn done(&mut self, number: u32) {
        self.places[number as usize].socket = None;
        self.idle.push(number as u16);
    }
}

impl std::fmt::Debug for Dials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dials").field("under_way", &(self.places.len() - self.idle.len())).finish()
    }
}
