//! Pipes: a page of the admin listener speaks to the engine itself, over the WebSocket of its own origin.
//!
//! ```text
//!   dashboard ──/ws──▶ admin listener ──▶ pipe ──▶ a listener inside of the process ──▶ a shard
//! ```
//!
//! Owns: a thread, and at most [`PIPES_MAX`] pairs of connections, each with [`BYTES_MAX`] of memory a direction. Never: reads what it
//! passes on, or waits for one of them alone. One whose peer does not read is not read from: the shard sees a subscriber that is slow.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::socket::Stream;
use crate::io::check::{StartError, fault, no_thread};
use crate::io::doorbell::Doorbell;
use crate::io::poll::{self, For};

/// Where pages connect.
pub(super) const PATH: &str = "/ws";

/// Pairs at the same time: pages that operators look at.
const PIPES_MAX: usize = 32;
/// Bytes that wait in one direction.
const BYTES_MAX: usize = 64 << 10;
/// How long nothing is done when the kernel has no memory for the wait.
const PAUSE: Duration = Duration::from_millis(100);

/// Where connections are given to the pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    give: Sender<(Stream, Vec<u8>)>,
    bell: Doorbell,
}

impl Pipe {
    /// Starts the thread, which connects to where the engine takes connections of this process.
    pub(super) fn start(inside: SocketAddr) -> Result<Pipe, StartError> {
        let bell = Doorbell::new().map_err(|error| fault("make doorbells", &error))?;
        let (give, given) = bounded(PIPES_MAX);
        let rung = bell.clone();
        let spawned = thread::Builder::new().name("admin-pipe".to_owned()).spawn(move || run(&inside, &given, &rung));
        spawned.map_err(|error| no_thread("admin-pipe", &error))?;
        Ok(Pipe { give, bell })
    }

    /// Takes a connection, and what has been read of it; says false if there are too many.
    pub(super) fn take(&self, stream: Stream, read: Vec<u8>) -> bool {
        let taken = self.give.try_send((stream, read)).is_ok();
        self.bell.ring();
        taken
    }
}

/// One direction of a pair.
#[derive(Debug, Default)]
struct Way {
    bytes: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// The other side was told that.
    told: bool,
}

#[derive(Debug)]
struct Pair {
    peer: Stream,
    engine: UnixStream,
    /// From the peer to the engine, and back.
    ways: [Way; 2],
}

fn run(inside: &SocketAddr, given: &Receiver<(Stream, Vec<u8>)>, bell: &Doorbell) {
    let mut pairs: Vec<Pair> = Vec::new();
    loop {
        while let Ok((peer, read)) = given.try_recv() {
            // Whoever comes while there are too many, or when the engine is gone, sees his connection end.
            if pairs.len() < PIPES_MAX
                && let Ok(engine) = connect(inside)
            {
                let there = Way { bytes: read, ..Way::default() };
                pairs.push(Pair { peer, engine, ways: [there, Way::default()] });
            }
        }
        let mut waiting = vec![(bell.as_fd(), For::Reading)];
        pairs.iter().for_each(|pair| waiting.extend(pair.waits_for()));
        let Ok(ready) = poll::wait(&waiting, None) else {
            thread::sleep(PAUSE); // The kernel is out of memory.
            continue;
        };
        if ready.first() == Some(&true) {
            bell.hear();
        }
        drop(waiting);
        // All of them: there are few, and none is waited for.
        pairs.retain_mut(|pair| pair.go_on().unwrap_or(false));
    }
}

fn connect(inside: &SocketAddr) -> io::Result<UnixStream> {
    let engine = UnixStream::connect_addr(inside)?;
    engine.set_nonblocking(true)?;
    Ok(engine)
}

impl Pair {
    fn waits_for(&self) -> impl Iterator<Item = (BorrowedFd<'_>, For)> {
        let ends = [(self.peer.as_fd(), self.engine.as_fd()), (self.engine.as_fd(), self.peer.as_fd())];
        self.ways.iter().zip(ends).filter_map(|(way, (from, to))| match (way.bytes.is_empty(), way.ended) {
            (false, _) => Some((to, For::Writing)),
            (true, false) => Some((from, For::Reading)),
            (true, true) => None,
        })
    }

    /// Passes on what there is; says false when both directions have ended.
    ///
    /// # Errors
    /// One of the two is gone.
    fn go_on(&mut self) -> io::Result<bool> {
        let Pair { peer, engine, ways: [there, back] } = self;
        pass(there, |into| peer.read(into), |bytes| engine.write(bytes))?;
        if there.ended && there.bytes.is_empty() && !std::mem::replace(&mut there.told, true) {
            engine.shutdown(Shutdown::Write)?;
        }
        pass(back, |into| engine.read(into), |bytes| peer.write(bytes))?;
        if back.ended && back.bytes.is_empty() && !std::mem::replace(&mut back.told, true) {
            peer.end()?;
        }
        Ok(!(there.told && back.told))
    }
}

/// Passes on what comes one way, until one of them would have to be waited for.
fn pass(
    way: &mut Way,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    loop {
        if way.bytes.is_empty() {
            if way.ended {
                return Ok(());
            }
            way.bytes.resize(BYTES_MAX, 0);
            let count = match read(&mut way.bytes) {
                Ok(count) => count,
                Err(error) => {
                    way.bytes.clear();
                    return is_passing(error);
                }
            };
            way.bytes.truncate(count);
            way.ended = count == 0;
        }
        while !way.bytes.is_empty() {
            match write(&way.bytes) {
                Ok(count) => drop(way.bytes.drain(..count)),
                Err(error) => return is_passing(error),
            }
        }
    }
}

fn is_passing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use crate::io::unix::listen_inside;

    fn piped(pipe: &Pipe, read: &[u8]) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let stream = Stream::Tcp(listener.accept().unwrap().0);
        stream.hurry().unwrap();
        assert!(pipe.take(stream, read.to_vec()));
        client
    }

    /// What was read before comes first, then all that follows, both ways; each end is passed on as one, behind what came before it.
    #[test]
    fn bytes_and_ends_go_both_ways() {
        let (socket, inside) = listen_inside().unwrap();
        let listener = UnixListener::from(socket);
        let pipe = Pipe::start(inside).unwrap();
        let mut client = piped(&pipe, b"GET /ws ");
        client.write_all(b"HTTP/1.1").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut engine, _) = listener.accept().unwrap();
        let mut text = String::new();
        engine.read_to_string(&mut text).unwrap();
        assert_eq!(text, "GET /ws HTTP/1.1");
        engine.write_all(b"and back").unwrap();
        drop(engine);
        text.clear();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "and back");
    }

    /// One whose peer does not read holds so much and no more, and the others go on.
    #[test]
    fn a_stalled_peer_is_bounded() {
        let (socket, inside) = listen_inside().unwrap();
        let listener = UnixListener::from(socket);
        let pipe = Pipe::start(inside).unwrap();
        let _stalled = piped(&pipe, b"");
        let (mut engine, _) = listener.accept().unwrap();
        engine.set_nonblocking(true).unwrap();
        let (mut written, late) = (0, Instant::now() + Duration::from_secs(10));
        // It is full when nothing more is taken while another one is served.
        loop {
            match engine.write(&[0; 4096]) {
                Ok(count) => written += count,
                Err(_) => {
                    let mut other = piped(&pipe, b"x");
                    let (mut end, _) = listener.accept().unwrap();
                    let mut byte = [0];
                    end.read_exact(&mut byte).unwrap();
                    end.write_all(b"y").unwrap();
                    other.read_exact(&mut byte).unwrap();
                    if engine.write(&[0; 1]).is_err() {
                        break;
                    }
                }
            }
            assert!(written < 64 << 20 && Instant::now() < late, "{written} bytes were taken");
        }
    }
}
