//! What two processes say to each other: a letter, a length, and so many bytes; some with descriptors. A snapshot stands between two words as it is.
//!
//! Owns: the words. Never: waits for longer than [`PATIENCE`] for the next byte.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Role, Shared};
use crate::config::Listen;
use crate::io::pass::{self, DESCRIPTORS_MAX};

/// The version of this conversation; the snapshot has one of its own.
pub(super) const VERSION: u32 = 1;

/// Time that the other end has for its next byte, or to take ours: a shard that stands still is given up before.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a word at most.
const BYTES_MAX: usize = 4096;
/// Bytes before them.
const HEAD_BYTES: usize = 5;

/// What is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Histories and sockets: the other end goes on with them.
    TakeOver,
    /// Histories as they are; the engine goes on.
    Snapshot,
    /// The same, and the engine ends with that.
    LastSnapshot,
}

/// A word.
#[derive(Debug)]
pub(super) enum Word {
    /// What the one that comes wants, and which conversation it knows.
    Wish(u32, Wish),
    /// Sockets of an address, some of them.
    Sockets(Shared),
    /// These were all, or there are none: who comes may say that it is ready.
    Hello(String),
    /// It is: what follows is a snapshot.
    Ready,
    /// The snapshot is there, and right.
    HaveAll,
    /// It is the other one's now.
    Yours,
    /// It cannot be, because of that.
    No(String),
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Line(UnixStream);

impl Line {
    /// Takes a connection.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn new(stream: UnixStream) -> io::Result<Line> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Line(stream))
    }

    /// Returns what snapshots are written to and read from.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.0
    }

    /// Waits for the next word for so long.
    ///
    /// # Errors
    /// What the kernel said.
    pub(super) fn wait_for(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))
    }

    /// Says a word.
    ///
    /// # Errors
    /// The other end is gone, or does not read.
    pub(super) fn say(&self, word: &Word) -> io::Result<()> {
        match word {
            Word::Wish(version, wish) => {
                let wish = match wish {
                    Wish::TakeOver => b't',
                    Wish::Snapshot => b's',
                    Wish::LastSnapshot => b'l',
                };
                let [a, b, c, d] = version.to_le_bytes();
                self.put(b'W', &[a, b, c, d, wish], &[])
            }
            Word::Sockets(Shared { role, address, sockets }) => {
                let role = match role {
                    Role::Public => "p",
                    Role::Admin => "a",
                    Role::Handover => "h",
                };
                let text = format!("{role}{address}");
                sockets.chunks(DESCRIPTORS_MAX).try_for_each(|some| {
                    let some: Vec<BorrowedFd<'_>> = some.iter().map(|socket| socket.as_fd()).collect();
                    self.put(b'S', text.as_bytes(), &some)
                })
            }
            Word::Hello(version) => self.put(b'H', version.as_bytes(), &[]),
            Word::Ready => self.put(b'R', &[], &[]),
            Word::HaveAll => self.put(b'A', &[], &[]),
            Word::Yours => self.put(b'Y', &[], &[]),
            Word::No(why) => self.put(b'N', why.as_bytes(), &[]),
        }
    }

    fn put(&self, letter: u8, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
        let mut out = vec![letter];
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
        if descriptors.is_empty() { (&self.0).write_all(&out) } else { pass::send(&self.0, &out, descriptors) }
    }

    /// Hears the next word.
    ///
    /// # Errors
    /// The other end is gone or says nothing, or it is no word.
    pub(super) fn hear(&self) -> io::Result<Word> {
        let mut head = [0; HEAD_BYTES];
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        let mut len = 0;
        while len < HEAD_BYTES {
            let (count, came) = pass::receive(&self.0, &mut head[len..])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            descriptors.extend(came);
            len += count;
        }
        let size = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if size > BYTES_MAX {
            return Err(nonsense());
        }
        let mut bytes = vec![0; size];
        (&self.0).read_exact(&mut bytes)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match (head[0], bytes.as_slice()) {
            (b'W', [a, b, c, d, wish]) => {
                let wish = match wish {
                    b't' => Wish::TakeOver,
                    b's' => Wish::Snapshot,
                    b'l' => Wish::LastSnapshot,
                    _ => return Err(nonsense()),
                };
                Ok(Word::Wish(u32::from_le_bytes([*a, *b, *c, *d]), wish))
            }
            (b'S', [role, address @ ..]) => {
                let role = match role {
                    b'p' => Role::Public,
                    b'a' => Role::Admin,
                    b'h' => Role::Handover,
                    _ => return Err(nonsense()),
                };
                let address = Listen::read(&text(address)).map_err(|_| nonsense())?;
                Ok(Word::Sockets(Shared { role, address, sockets: descriptors }))
            }
            (b'H', version) => Ok(Word::Hello(text(version))),
            (b'R', []) => Ok(Word::Ready),
            (b'A', []) => Ok(Word::HaveAll),
            (b'Y', []) => Ok(Word::Yours),
            (b'N', why) => Ok(Word::No(text(why))),
            _ => Err(nonsense()),
        }
    }
}

fn nonsense() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "what it says makes no sense: it may be another program, or another version",
    )
}

/// Says why a conversation ended.
pub(super) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("the other end did not go on for {PATIENCE:?}"),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "the other end is gone".to_owned()
        }
        _ => error.to_string(),
    }
}
