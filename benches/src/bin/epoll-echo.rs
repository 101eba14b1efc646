//! Baseline of the echo bench: the best plain epoll loop. Level-triggered, one read and one write per turn of a peer.
//!
//! Every data frame goes back as it came, unmasked; what arrives together goes back in one write. A peer that does not
//! read its echoes is dropped: the load generator always reads.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

use clap::Parser as _;
use corecast_benches::frame::{self, Header};
use corecast_benches::handshake;
use corecast_benches::host::Place;

/// Events taken per call.
const EVENTS: usize = 1024;
/// Bytes read per call; one read serves a small frame, and level triggering serves the rest.
const READ_BYTES: usize = 16_384;

/// WebSocket echo on one core over epoll, no engine.
#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    place: Place,
}

struct Connection {
    stream: TcpStream,
    open: bool,
    /// Bytes of a request or frame cut short.
    carry: Vec<u8>,
}

fn main() -> io::Result<()> {
    let Arguments { place } = Arguments::parse();
    let listener = place.take()?;
    listener.set_nonblocking(true)?;
    // SAFETY: no memory is involved.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    watch(epoll, listener.as_raw_fd())?;
    let mut connections: HashMap<i32, Connection> = HashMap::new();
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    let (mut input, mut output) = (vec![0; READ_BYTES], Vec::new());
    loop {
        // SAFETY: `events` has room for `EVENTS`.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), EVENTS as i32, -1) };
        for event in &events[..count.max(0) as usize] {
            let fd = event.u64 as i32;
            if fd == listener.as_raw_fd() {
                accept(epoll, fd, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&fd) {
                // Closing the descriptor takes it out of the epoll set.
                if serve(connection, &mut input, &mut output).is_err() {
                    connections.remove(&fd);
                }
            }
        }
    }
}

fn watch(epoll: i32, fd: i32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
    // SAFETY: `event` outlives the call.
    let done = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn accept(epoll: i32, listener: i32, connections: &mut HashMap<i32, Connection>) -> io::Result<()> {
    loop {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no address is asked for.
        let fd = unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
        if fd < 0 {
            return Ok(());
        }
        // SAFETY: the descriptor is new and ours.
        let stream = unsafe { TcpStream::from_raw_fd(fd) };
        watch(epoll, fd)?;
        connections.insert(fd, Connection { stream, open: false, carry: Vec::new() });
    }
}

fn serve(connection: &mut Connection, input: &mut [u8], output: &mut Vec<u8>) -> io::Result<()> {
    let count = match connection.stream.read(input) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    output.clear();
    if connection.open && connection.carry.is_empty() {
        let used = echo(&input[..count], output);
        connection.carry.extend_from_slice(&input[used..count]);
    } else {
        connection.carry.extend_from_slice(&input[..count]);
        if !connection.open {
            let upgrade = handshake::parse(&connection.carry).map_err(|_| io::ErrorKind::InvalidData)?;
            let Some(upgrade) = upgrade else {
                return Ok(());
            };
            output.extend_from_slice(&handshake::answer(upgrade.key));
            let head_len = upgrade.head_len;
            connection.carry.drain(..head_len);
            connection.open = true;
        }
        let used = echo(&connection.carry, output);
        connection.carry.drain(..used);
    }
    if !output.is_empty() && connection.stream.write(output)? < output.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Appends the echoes of all whole frames, and returns how many bytes those are.
fn echo(bytes: &[u8], output: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while let Some(header) = Header::read(&bytes[at..]) {
        let Some(payload) = bytes.get(at + header.header_len..at + header.frame_len()) else {
            break;
        };
        if matches!(header.opcode, frame::TEXT | frame::BINARY) {
            let mut out = [0; frame::HEADER_BYTES_MAX];
            let header_len = frame::write_header(&mut out, header.opcode, header.payload_len);
            output.extend_from_slice(&out[..header_len]);
            let start = output.len();
            output.resize(start + header.payload_len, 0);
            frame::unmask(payload, &mut output[start..], header.mask);
        }
        at += header.frame_len();
    }
    at
}
