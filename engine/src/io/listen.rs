//! Listening sockets: one per shard on the same address, so that the kernel spreads connections over the shards.
//!
//! Owns: the sockets and their options, which accepted sockets inherit: no system call per connection is needed.
//! Never: accepts (that is `accept`'s).
//!
//! Why the unsafe is sound: each call passes a descriptor owned here and local memory with its right length.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use super::address;

/// Connections the kernel may hold until we accept them. It caps this at `net.core.somaxconn` (4,096 by default),
/// so the number only says that we do not want to be the limit.
pub const BACKLOG: i32 = 65_535;

/// Bytes of ours the kernel may hold unsent per connection before a send is refused. What waits in the kernel cannot
/// be conflated or jumped over any more, so it should be little; but one turn's slice for one connection should fit,
/// or every slice would cost a wait. A first guess, to be tuned by measurement.
pub const NOTSENT_BYTES_MAX: i32 = 128 * 1024;

/// Time after which unacknowledged data fails a connection: a vanished peer must not hold its buffers for the 15
/// minutes that retransmission would (tcp(7), `TCP_USER_TIMEOUT`). As long as a silent peer may live (60 s).
const UNACKNOWLEDGED_MS_MAX: i32 = 60_000;

/// How long a port that is in use is asked for again. The kernel gives the sockets of a process back a moment after it was
/// killed (about 20 ms; more with many connections): who starts it again at once should not have to ask a second time.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes attempts until the address is free, for a bounded time.
///
/// # Errors
/// Those of the attempts, the last one if the address is still in use.
pub fn until_free<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => thread::sleep(PAUSE),
            result => return result,
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: SocketAddr,
    is_unix: bool,
}

impl Listener {
    /// Returns one for a path, for one of several shards, with the address that its clients are known by.
    ///
    /// # Errors
    /// The process has too many files open.
    pub fn at_path(socket: &OwnedFd) -> io::Result<Listener> {
        Ok(Listener { fd: socket.try_clone()?, address: address::OF_UNIX, is_unix: true })
    }

    /// Returns one whose socket another process has made, and handed over.
    ///
    /// # Errors
    /// It is no socket of the network.
    pub fn handed(fd: OwnedFd) -> io::Result<Listener> {
        let address = bound(&fd)?;
        Ok(Listener { fd, address, is_unix: false })
    }

    /// Lets those come to it that are made by [`beside`]; one that listens already listens on.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn begin(&self) -> io::Result<()> {
        // SAFETY: a system call on our own descriptor, without memory.
        if unsafe { libc::listen(self.fd.as_raw_fd(), BACKLOG) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Says whether it is a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.is_unix
    }

    /// Returns the address it listens on, with the port that was chosen; of a path one of this host, without a port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct ListenError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the kernel said.
    pub error: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListenError { address, error } = self;
        write!(f, "cannot listen on {address}: {error}")?;
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                let port = address.port();
                write!(f, "; another socket has the port: find it with `ss -ltnp 'sport = :{port}'`, or choose another")
            }
            Some(libc::EACCES) => {
                write!(f, "; ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE")
            }
            Some(libc::EADDRNOTAVAIL) => write!(f, "; no interface of this host has the address"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Opens `count` listeners on one address, one per shard; port 0 means one free port for all of them.
///
/// With `SO_REUSEPORT` the kernel would let a second process of the same user share the port silently, and half of
/// the connections would go to it. So the address is bound once without `SO_REUSEPORT` first: that fails if anybody
/// listens there. A port that is in use is waited for, but not for long.
///
/// # Errors
/// The address and what the kernel said: taken, not ours, not allowed.
pub fn listen(address: SocketAddr, count: usize) -> Result<Vec<Listener>, ListenError> {
    until_free(|| open_all(address, count)).map_err(|error| ListenError { address, error })
}

fn open_all(mut address: SocketAddr, count: usize) -> io::Result<Vec<Listener>> {
    if address.port() != 0 {
        // SO_REUSEADDR alone lets a bind pass over connections in TIME_WAIT, but not over a listener.
        let probe = socket(address)?;
        set(&probe, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        bind(&probe, address)?;
    }
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = open_one(address)?;
        listener.begin()?;
        address = listener.address;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Binds `count` sockets beside those of ours that listen on an address, in another process for now. They do not listen yet: nobody would
/// accept from them.
///
/// # Errors
/// The address and what the kernel said: the other process is another user's.
pub fn beside(address: SocketAddr, count: usize) -> Result<Vec<Listener>, ListenError> {
    (0..count).map(|_| open_one(address).map_err(|error| ListenError { address, error })).collect()
}

fn open_one(address: SocketAddr) -> io::Result<Listener> {
    let fd = socket(address)?;
    set(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    set(&fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set(&fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    set(&fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, NOTSENT_BYTES_MAX)?;
    set(&fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS_MAX)?;
    bind(&fd, address)?;
    Listener::handed(fd)
}

/// Makes a TCP socket of the address's family.
pub(super) fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: makes a new descriptor, touches no memory.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an integer option.
pub(super) fn set(fd: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the value is a readable `i32` of the length said.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Binds a socket to an address of ours.
pub(super) fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let (storage, len) = address::encode(address);
    // SAFETY: the storage is a readable socket address of the length said.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn bound(fd: &OwnedFd) -> io::Result<SocketAddr> {
    // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the storage is writable, and of the length said.
    let result = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut storage).cast(), &raw mut len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(address::decode(&storage)) }
}
