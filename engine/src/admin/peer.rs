//! One connection of the admin listener: asks, is answered, leaves. Each step takes what is there and never waits.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use corecast_protocol::http::date::date;
use corecast_protocol::http::head::{self, Request};
use corecast_protocol::http::response::{self, Framing, Head};
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use crossbeam_channel::{Receiver, TryRecvError};

use super::answer::{Reply, Said, awaited_body};
use super::pipe::Pipe;
use super::socket::Stream;
use super::{ANSWER, BODY_BYTES_MAX, DEADLINE, HEAD_BYTES_MAX};
use crate::control::{Outcome, PATIENCE};
use crate::io::clock::unix_s;
use crate::io::poll::For;

/// Time a peer has to close after its answer: closing with unread bytes would reset the connection and could take the answer
/// with it.
const LEAVE: Duration = Duration::from_millis(500);
/// Bytes that a leaving peer may still send.
const LEAVE_BYTES_MAX: usize = 64 << 10;

/// The connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// Which of the listeners accepted it.
    of: usize,
    stream: Stream,
    deadline: Instant,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Its request arrives.
    Asking(Vec<u8>),
    /// The control plane will say what it is answered, with or without a body.
    Waiting(Receiver<Outcome>, bool),
    /// Its answer goes out; so many bytes have.
    Answering(Vec<u8>, usize),
    /// It has its answer; so many bytes of it were thrown away since.
    Leaving(usize),
}

impl Peer {
    /// Takes a connection that a listener has accepted.
    pub(super) fn new(of: usize, stream: Stream) -> io::Result<Peer> {
        stream.hurry()?;
        Ok(Peer { of, stream, deadline: Instant::now() + DEADLINE, step: Step::Asking(Vec::new()) })
    }

    /// Returns until when it may take for its step.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns what it is waited for.
    pub(super) fn waits_for(&self) -> (BorrowedFd<'_>, For) {
        let what = match self.step {
            Step::Answering(..) => For::Writing,
            Step::Waiting(..) => For::Ending,
            Step::Asking(_) | Step::Leaving(_) => For::Reading,
        };
        (self.stream.as_fd(), what)
    }

    /// Says whether the control plane has said what it is answered.
    pub(super) fn is_answered(&self) -> bool {
        matches!(&self.step, Step::Waiting(outcome, _) if !outcome.is_empty())
    }

    /// Goes on as far as it can; says false when it is over.
    pub(super) fn go_on(&mut self, answer: &impl Fn(usize, &Request<'_>, &[u8]) -> Said, pipe: Option<&Pipe>) -> bool {
        loop {
            let went = match &mut self.step {
                Step::Asking(_) => match self.ask(answer, pipe) {
                    // It is too early to ask whether it has gone.
                    Ok(true) if matches!(self.step, Step::Waiting(..)) && !self.is_answered() => return true,
                    went => went,
                },
                Step::Waiting(..) => Ok(self.take_outcome()),
                Step::Answering(..) => self.answer(),
                Step::Leaving(_) => self.leave(),
            };
            match went {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Its time is over; says false if so is the connection.
    pub(super) fn late(&mut self) -> bool {
        match self.step {
            Step::Asking(_) => self.reply(&Reply::text(408, "the request did not arrive in time")),
            Step::Waiting(..) => self.reply(&Reply::text(504, "the control plane did not answer in time")),
            Step::Answering(..) | Step::Leaving(_) => return false,
        }
        self.deadline = Instant::now() + LEAVE;
        true
    }

    /// Reads what there is of the request; says whether to go on at once.
    fn ask(&mut self, answer: &impl Fn(usize, &Request<'_>, &[u8]) -> Said, pipe: Option<&Pipe>) -> io::Result<bool> {
        let Step::Asking(bytes) = &mut self.step else { return Ok(true) };
        let mut piece = [0; HEAD_BYTES_MAX];
        let count = self.stream.read(&mut piece[..HEAD_BYTES_MAX - bytes.len()])?;
        if count == 0 {
            return Ok(false);
        }
        bytes.extend_from_slice(&piece[..count]);
        let reply = match head::parse(bytes, HEAD_BYTES_MAX) {
            Ok(Some((request, head_bytes))) => match body_in(&request, &bytes[head_bytes..]) {
                Ok(None) if bytes.len() == HEAD_BYTES_MAX => Reply::text(413, "too large"),
                Ok(None) => return Ok(true),
                Err(reply) => reply,
                Ok(Some(body)) => match answer(self.of, &request, body) {
                    Said::Now(reply) => reply,
                    Said::Piped => {
                        let taken = pipe.is_some_and(|pipe| {
                            self.stream.try_clone().is_ok_and(|stream| pipe.take(stream, std::mem::take(bytes)))
                        });
                        if taken {
                            return Ok(false); // It is the pipe's from now on.
                        }
                        Reply::text(503, "too many look already")
                    }
                    Said::Later { outcome, head_only } => {
                        self.step = Step::Waiting(outcome, head_only);
                        self.deadline = Instant::now() + PATIENCE + ANSWER;
                        return Ok(true);
                    }
                },
            },
            Ok(None) if bytes.len() == HEAD_BYTES_MAX => Reply::text(Violation::HeadTooLarge.status(), "too large"),
            Ok(None) => return Ok(true),
            Err(violation) => Reply::text(violation.status(), violation.text()),
        };
        self.reply(&reply);
        Ok(true)
    }

    /// Takes what the control plane says; says false if there is nothing yet: so it is the peer that was heard of, and it has gone.
    fn take_outcome(&mut self) -> bool {
        let Step::Waiting(outcome, head_only) = &self.step else { return true };
        let reply = match outcome.try_recv() {
            Ok(Outcome { status, body }) => Reply { head_only: *head_only, ..Reply::json(status, body) },
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => Reply::text(503, "the control plane is gone"),
        };
        self.reply(&reply);
        self.deadline = Instant::now() + DEADLINE;
        true
    }

    fn reply(&mut self, reply: &Reply) {
        self.step = Step::Answering(encode(reply), 0);
    }

    /// Writes what there is room for; says whether to go on at once.
    fn answer(&mut self) -> io::Result<bool> {
        let Step::Answering(bytes, sent) = &mut self.step else { return Ok(true) };
        *sent += self.stream.write(&bytes[*sent..])?;
        if *sent == bytes.len() {
            self.stream.end()?;
            self.step = Step::Leaving(0);
            self.deadline = Instant::now() + LEAVE;
        }
        Ok(true)
    }

    /// Throws away what still comes; says whether to go on at once.
    fn leave(&mut self) -> io::Result<bool> {
        let Step::Leaving(thrown) = &mut self.step else { return Ok(true) };
        let count = self.stream.read(&mut [0; 4096])?;
        *thrown += count;
        Ok(count > 0 && *thrown < LEAVE_BYTES_MAX)
    }
}

/// Returns the body of a request, or nothing if more of it has to come. Bodies of requests that need none are not waited for.
fn body_in<'b>(request: &Request<'_>, arrived: &'b [u8]) -> Result<Option<&'b [u8]>, Reply> {
    awaited_body(request, BODY_BYTES_MAX).map(|length| arrived.get(..length))
}

fn encode(reply: &Reply) -> Vec<u8> {
    let mut out = [0; 1024];
    let mut writer = Writer::new(&mut out);
    let date = date(unix_s());
    let head = Head {
        date: std::str::from_utf8(&date).ok(),
        upgrade: None,
        status: reply.status,
        content_type: Some(reply.content_type),
        framing: Framing::Sized(reply.body.len() as u64),
        http10: false,
        keep_alive: false,
        extra: &reply.headers,
    };
    response::head(&mut writer, &head);
    let length = writer.finish().expect("a head of constants fits 1 KiB");
    let mut bytes = out[..length].to_vec();
    if !reply.head_only {
        bytes.extend_from_slice(reply.body.as_bytes());
    }
    bytes
}
