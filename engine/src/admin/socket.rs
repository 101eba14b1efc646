//! The sockets of the admin listener: of the network, or a path of this host; nothing above them tells them apart.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use crate::config::Listen;
use crate::handover::{Role, Shared};
use crate::io::listen::until_free;
use crate::io::unix::{SocketFile, UnixAccess, listen_at};
use crate::shard::Entrance;

/// One that listens.
#[derive(Debug)]
pub(super) enum Socket {
    /// In the network.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// Of the network.
    Tcp(TcpStream),
    /// Of this host.
    Unix(UnixStream),
}

impl Socket {
    /// Listens on an address; returns it with the port that the kernel chose, and the file that goes with it.
    pub(super) fn open(address: &Listen, access: UnixAccess) -> io::Result<(Listen, Socket, Option<SocketFile>)> {
        match address {
            Listen::Tcp(wanted) => until_free(|| {
                let socket = TcpListener::bind(wanted)?;
                socket.set_nonblocking(true)?;
                Ok((address.bound_to(socket.local_addr()?), Socket::Tcp(socket), None))
            }),
            Listen::Unix(path) => {
                let (socket, file) = listen_at(path, access)?;
                let socket = UnixListener::from(socket);
                socket.set_nonblocking(true)?;
                Ok((address.clone(), Socket::Unix(socket), Some(file)))
            }
            Listen::Tls(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "it does not speak TLS")),
        }
    }

    /// Takes a socket that another process has made, and handed over.
    pub(super) fn handed(address: &Listen, socket: OwnedFd) -> io::Result<(Listen, Socket, Option<SocketFile>)> {
        match address {
            Listen::Unix(_) => {
                let socket = UnixListener::from(socket);
                socket.set_nonblocking(true)?;
                Ok((address.clone(), Socket::Unix(socket), None))
            }
            Listen::Tcp(_) | Listen::Tls(_) => {
                let socket = TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                Ok((address.clone(), Socket::Tcp(socket), None))
            }
        }
    }

    /// Returns a duplicate for the next process.
    pub(super) fn duplicate(&self, address: &Listen) -> io::Result<Shared> {
        let socket = self.as_fd().try_clone_to_owned()?;
        Ok(Shared { role: Role::Admin, address: address.clone(), sockets: vec![socket] })
    }

    /// Accepts who waits.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Socket::Tcp(socket) => socket.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Socket::Unix(socket) => socket.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    /// Says what requests to it are asked for; nothing is assumed of one whose address cannot be read.
    pub(super) fn entrance(&self) -> Entrance {
        match self {
            Socket::Tcp(socket) => {
                let own = socket.local_addr().ok();
                Entrance {
                    on_loopback: own.is_some_and(|own| own.ip().to_canonical().is_loopback()),
                    port: own.map(|own| own.port()),
                    scheme: None,
                }
            }
            Socket::Unix(_) => Entrance { on_loopback: true, port: None, scheme: None },
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

impl Stream {
    /// Never waits from now on, and what is written leaves at once.
    pub(super) fn hurry(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        }
    }

    /// Returns another one of the same.
    pub(super) fn try_clone(&self) -> io::Result<Stream> {
        match self {
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
        }
    }

    /// Says that nothing more is written.
    pub(super) fn end(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buf),
            Stream::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buf),
            Stream::Unix(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
