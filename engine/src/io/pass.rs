//! Passing descriptors from one process to another over a Unix socket (unix(7), `SCM_RIGHTS`).
//!
//! Owns: nothing. Descriptors travel with the first byte of what is written; whoever reads that byte has them, and they close themselves on exec.
//!
//! Why the unsafe is sound: the control buffer is aligned and as long as is said, messages of control are walked by the macros that are made for
//! that, and each descriptor that the kernel made for us is owned once.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

/// Descriptors that are passed at once, at most; the kernel allows 253 (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 200;

/// Room for so many descriptors and the head of their message, aligned as that has to be.
type Control = [u64; (DESCRIPTORS_MAX * size_of::<RawFd>() + 64) / 8];

/// Writes bytes, the first of which takes descriptors along.
///
/// # Errors
/// What the kernel said; `WriteZero` if it took only a part. The socket must be one that waits.
///
/// # Panics
/// If there are too many, or no byte.
pub fn send(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    assert!(descriptors.len() <= DESCRIPTORS_MAX && !bytes.is_empty(), "so many at once, with a byte");
    let mut control: Control = [0; _];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let data_len = std::mem::size_of_val(descriptors) as libc::c_uint;
        message.msg_control = control.as_mut_ptr().cast();
        // SAFETY: computes a length, touches no memory.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(data_len) } as _;
        // SAFETY: the control buffer has room for a head and so many descriptors, and is aligned.
        unsafe {
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(data_len) as _;
            let data = libc::CMSG_DATA(head).cast::<RawFd>();
            for (nth, descriptor) in descriptors.iter().enumerate() {
                data.add(nth).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    loop {
        // SAFETY: the message names memory that outlives the call.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match sent {
            count if count == bytes.len() as isize => return Ok(()),
            0.. => return Err(io::ErrorKind::WriteZero.into()),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Reads bytes as they come, at most as many as there is room for, and the descriptors that came with the first of them. No bytes: the end.
///
/// # Errors
/// What the kernel said; `InvalidData` if descriptors were lost on the way, as there was no room for them.
pub fn receive(socket: &UnixStream, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control: Control = [0; _];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid message without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = std::mem::size_of_val(&control) as _;
    let count = loop {
        // SAFETY: the message names memory that outlives the call and is ours to write.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match received {
            0.. => break received as usize,
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled the control buffer as far as the message says; each descriptor in it is new and ours.
    unsafe {
        let mut head = libc::CMSG_FIRSTHDR(&raw const message);
        while !head.is_null() {
            if ((*head).cmsg_level, (*head).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data = libc::CMSG_DATA(head).cast::<RawFd>();
                let len = (*head).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for nth in 0..len / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(nth).read_unaligned()));
                }
            }
            head = libc::CMSG_NXTHDR(&raw const message, head);
        }
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost: too many files are open"));
    }
    Ok((count, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    /// Sockets that are passed listen on, however many they are; without any, bytes are bytes.
    #[test]
    fn descriptors_arrive() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let several = vec![listener.as_fd(); DESCRIPTORS_MAX];
        send(&here, b"take these", &several).unwrap();
        drop(listener);
        let mut bytes = [0; 4];
        let (count, mut descriptors) = receive(&there, &mut bytes).unwrap();
        assert_eq!((count, &bytes, descriptors.len()), (4, b"take", DESCRIPTORS_MAX));
        let (count, none) = receive(&there, &mut bytes).unwrap();
        assert_eq!((count, &bytes, none.len()), (4, b" the", 0));
        let listener = TcpListener::from(descriptors.remove(0));
        drop(descriptors);
        TcpStream::connect(address).unwrap().write_all(b"x").unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut bytes[..1]).unwrap();
        send(&here, b"more", &[]).unwrap();
        drop(here);
        let mut rest = Vec::new();
        there.read_to_end(&mut rest).unwrap();
        assert_eq!((&bytes[..1], rest.as_slice()), (&b"x"[..], &b"semore"[..]));
    }
}
