//! Waiting for descriptors outside of a ring: what the control plane does, which has few and is in no hurry.
//!
//! Owns: nothing. Never: called on a shard.
//!
//! Why the unsafe is sound: poll(2) is given a slice that lives as long as the call, and only writes into it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// What is written at once to a pipe that poll(2) calls writable without waiting for its reader (pipe(7), `PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Bytes, a connection, or an end.
    Reading,
    /// Room.
    Writing,
    /// Nothing but that its other end is gone altogether.
    Ending,
}

/// Waits until at least one of these descriptors is ready, at most so long, and says of each whether it is. One that failed
/// is ready: whoever uses it finds out.
///
/// # Errors
/// What the kernel said (`ENOMEM`); a signal is no error but the end of the wait.
pub fn wait(descriptors: &[(BorrowedFd<'_>, For)], patience: Option<Duration>) -> io::Result<Vec<bool>> {
    let asked = |(fd, what): &(BorrowedFd<'_>, For)| {
        let events = match what {
            For::Reading => libc::POLLIN,
            For::Writing => libc::POLLOUT,
            For::Ending => 0,
        };
        libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }
    };
    let mut polled: Vec<libc::pollfd> = descriptors.iter().map(asked).collect();
    // Rounded up, or the last millisecond would be spent asking.
    let patience = patience.map_or(-1, |patience| patience.as_micros().div_ceil(1000).min(1 << 30) as libc::c_int);
    // SAFETY: the slice has as many entries as are said, and outlives the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, patience) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        return Ok(vec![false; polled.len()]);
    }
    Ok(polled.iter().map(|one| one.revents != 0).collect())
}

/// Writes to a descriptor whose reader may have stopped; gives up after so long.
///
/// # Errors
/// `TimedOut` if the other end did not take all of it in time; what the kernel said otherwise.
pub fn write_within(out: impl AsFd, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
    let mut file = File::from(out.as_fd().try_clone_to_owned()?);
    let deadline = Instant::now() + patience;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if !wait(&[(file.as_fd(), For::Writing)], Some(left))?[0] {
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            continue;
        }
        match file.write(&bytes[..bytes.len().min(PIECE_BYTES)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;

    /// Readiness is told of each descriptor for itself, an end among them; nothing ready ends with the time.
    #[test]
    fn readiness() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (quiet, _kept) = UnixStream::pair().unwrap();
        let both = || [(ours.as_fd(), For::Reading), (quiet.as_fd(), For::Reading), (quiet.as_fd(), For::Writing)];
        assert_eq!(wait(&both(), None).unwrap(), [false, false, true]);
        assert_eq!(wait(&both()[..2], Some(Duration::from_millis(1))).unwrap(), [false, false]);
        (&theirs).write_all(b"x").unwrap();
        assert_eq!(wait(&both()[..2], None).unwrap(), [true, false]);
        (&ours).read_exact(&mut [0]).unwrap();
        theirs.shutdown(Shutdown::Both).unwrap();
        assert_eq!(wait(&both()[..2], None).unwrap(), [true, false]);
    }

    /// What a reader takes is written whole; one that has stopped is given up, and does not keep the writer.
    #[test]
    fn a_stopped_reader_is_given_up() {
        let (mut reader, writer) = io::pipe().unwrap();
        write_within(&writer, b"hello", Duration::from_secs(10)).unwrap();
        let mut read = [0; 5];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"hello");
        let error = write_within(&writer, &vec![0; 1 << 20], Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(reader);
        let error = write_within(&writer, b"hello", Duration::from_secs(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
