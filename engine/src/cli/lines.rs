//! One WebSocket connection that speaks the line protocol, from the client's side.
//!
//! Owns: the handshake, the frames, the answer to a ping. Hands out whole messages; what they mean is for the caller.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::ops::Range;
use std::time::Duration;

use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Event, Role};
use corecast_protocol::ws::frame::{self, Opcode};
use corecast_protocol::ws::handshake;

use super::connect::{Exchange, PATIENCE, Url};

/// Largest message taken: the largest payload an engine can be configured for, and room for its header line.
const MESSAGE_BYTES_MAX: usize = (16 << 20) + 4096;
/// How long `next` waits at most, and so how soon a signal is noticed.
const TICK: Duration = Duration::from_millis(200);

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) cause: String,
    /// The status of the answer, if there was one.
    pub(super) status: Option<u16>,
    /// When the server wants to be asked again, in its words.
    pub(super) retry_after: Option<String>,
    /// Without a status: another attempt would end the same.
    pub(super) permanent: bool,
}

/// What `next` found.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// A whole message.
    Message(&'a mut [u8]),
    /// Part of a message, or a control frame: no message, but a sign of life.
    Alive,
    /// Nothing within a tick.
    Nothing,
}

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Lines {
    exchange: Exchange,
    decoder: Decoder,
    /// Bytes of `exchange.received` that are used up.
    used: usize,
    message: Vec<u8>,
}

impl Lines {
    /// Connects and shakes hands.
    pub(super) fn open(url: &Url) -> Result<Lines, Refusal> {
        let unanswered = |cause: String, permanent| Refusal { cause, status: None, retry_after: None, permanent };
        let passing = |error: io::Error| unanswered(error.to_string(), error.kind() == io::ErrorKind::Other);
        let mut exchange = Exchange::open(url).map_err(passing)?;
        let key = handshake::encode_key(random().to_le_bytes());
        let mut request = [0; 4096];
        let mut writer = Writer::new(&mut request);
        let target = format!("{}/ws", url.prefix);
        handshake::client_request(&mut writer, &url.authority(), &target, &key, Some(handshake::CORECAST_V1));
        let length = writer.finish().map_err(|_| unanswered("the URL is too long".to_owned(), true))?;
        exchange.stream.write_all(&request[..length]).map_err(passing)?;
        let (status, retry_after, checked) = exchange
            .head(|reply| {
                let checked = handshake::check_reply(reply, &key, Some(handshake::CORECAST_V1));
                (reply.status, reply.retry_after.map(str::to_owned), checked)
            })
            .map_err(passing)?;
        if let Err(violation) = checked {
            let cause = match status {
                101 => violation.text().to_owned(),
                _ => format!("the answer was status {status} instead of a WebSocket"),
            };
            return Err(Refusal { cause, status: Some(status), retry_after, permanent: false });
        }
        exchange.stream.set_read_timeout(Some(TICK)).map_err(passing)?;
        Ok(Lines { exchange, decoder: Decoder::new(Role::Client), used: 0, message: Vec::new() })
    }

    /// Sends one text message.
    pub(super) fn send(&mut self, write: impl FnOnce(&mut Writer<'_>)) -> Result<(), String> {
        self.send_frame(Opcode::Text, write)
    }

    /// Says goodbye, and gives the server a moment to take it.
    pub(super) fn close(mut self) {
        let normal = corecast_protocol::ws::close::NORMAL;
        let sent = self.send_frame(Opcode::Close, |w| w.put(&normal.to_be_bytes()));
        let _ = sent.map(|()| self.exchange.stream.shutdown(std::net::Shutdown::Write));
        let _ = self.exchange.stream.set_read_timeout(Some(TICK));
        let _ = self.exchange.receive();
    }

    /// Returns the next message, or what there is instead.
    pub(super) fn next(&mut self) -> Result<Line<'_>, String> {
        loop {
            let buf = &mut self.exchange.received[self.used..];
            let step = self.decoder.next(buf, MESSAGE_BYTES_MAX).map_err(|violation| violation.text().to_owned())?;
            let start = self.used;
            self.used += step.consumed;
            let within = |range: &Range<usize>| start + range.start..start + range.end;
            match step.event {
                None if step.consumed == 0 => {
                    self.exchange.received.drain(..self.used);
                    self.used = 0;
                    return match self.exchange.receive() {
                        Ok(()) => Ok(Line::Alive),
                        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(Line::Nothing),
                        Err(error) => Err(error.to_string()),
                    };
                }
                None | Some(Event::Pong(_)) => {}
                Some(Event::Data { data, first, last, .. }) => {
                    if first {
                        self.message.clear();
                    }
                    self.message.extend_from_slice(&self.exchange.received[within(&data)]);
                    if last {
                        return Ok(Line::Message(&mut self.message));
                    }
                }
                Some(Event::Ping(data)) => {
                    let token = self.exchange.received[within(&data)].to_vec();
                    self.send_frame(Opcode::Pong, |w| w.put(&token))?;
                }
                Some(Event::Close { code, reason }) => {
                    let reason = String::from_utf8_lossy(&self.exchange.received[within(&reason)]).into_owned();
                    let code = code.map_or("without a code".to_owned(), |code| code.to_string());
                    return Err(format!("closed by the engine: {code} {}", reason.escape_debug())
                        .trim_end()
                        .to_owned());
                }
            }
        }
    }

    fn send_frame(&mut self, opcode: Opcode, write: impl FnOnce(&mut Writer<'_>)) -> Result<(), String> {
        let mut out = [0; 4096];
        let mask = (random() as u32).to_le_bytes();
        let length =
            frame::wrap(&mut out, opcode, Some(mask), write).map_err(|_| "the command is too long".to_owned())?;
        self.exchange.stream.set_write_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        self.exchange.stream.write_all(&out[..length]).map_err(|error| error.to_string())
    }
}

/// Returns bits that nobody else can guess: the keys of a fresh `RandomState` come from the kernel.
fn random() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0));
    half() << 64 | half()
}
