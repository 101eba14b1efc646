//! The host as the baselines use it: a listening socket and a place on a core.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::FromRawFd as _;

/// Length of the accept queue asked for; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// Opens a listening IPv4 socket whose accepted sockets have `TCP_NODELAY` set.
///
/// # Errors
/// What the kernel said: usually that the port is taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let SocketAddr::V4(v4) = address else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the baselines listen on IPv4 only"));
    };
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: plain system calls on a socket made here; every pointer names a local that outlives its call. The
    // descriptor is given to `TcpListener` at once, which closes it on every way out.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let listener = TcpListener::from_raw_fd(fd);
        let on: libc::c_int = 1;
        for (level, option) in [(libc::SOL_SOCKET, libc::SO_REUSEADDR), (libc::IPPROTO_TCP, libc::TCP_NODELAY)] {
            let len = size_of_val(&on) as libc::socklen_t;
            if libc::setsockopt(fd, level, option, (&raw const on).cast(), len) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let len = size_of_val(&name) as libc::socklen_t;
        if libc::bind(fd, (&raw const name).cast(), len) < 0 || libc::listen(fd, BACKLOG) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(listener)
    }
}

/// Moves the calling thread to one core.
///
/// # Errors
/// If this machine has no such core.
pub fn pin(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: an all-zero `cpu_set_t` is the empty set; `core` lies within it, as checked above.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where a baseline serves: the flags that all of them take.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub listen: SocketAddr,
    /// Core to run on.
    #[arg(long)]
    pub core: Option<usize>,
    /// Most connections at a time; a ring's table cannot be larger than RLIMIT_NOFILE.
    #[arg(long, default_value_t = 18_000)]
    pub slots: u32,
}

impl Place {
    /// Pins the thread, opens the socket and says so on stdout, which `bench` waits for.
    ///
    /// # Errors
    /// As [`pin`] and [`listen`].
    pub fn take(&self) -> io::Result<TcpListener> {
        if let Some(core) = self.core {
            pin(core)?;
        }
        let listener = listen(self.listen)?;
        println!("listening on {}", listener.local_addr()?);
        Ok(listener)
    }
}
