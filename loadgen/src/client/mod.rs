//! One connection of the load generator: from the first byte of the handshake to the last message.
//!
//! Owns: the state of the connection and what it has seen. Touches no socket: it is given bytes, and says what to send.
//! There may be a million of these, so it is small ([`Client`] is held below 96 bytes by a test): bytes are kept only
//! while a frame or a message is cut in two.

use corecast_protocol::http::client::{ReplyBody, parse};
use corecast_protocol::write::Writer;
use corecast_protocol::ws::decoder::{Decoder, Event, Role};
use corecast_protocol::ws::frame::{self, Opcode};
use corecast_protocol::ws::handshake;

use crate::account::Account;
use crate::payload;
use crate::plan::{Plan, Protocol};
use crate::publisher::append_frame;
use crate::witness::Seen;

/// Longest answer to a handshake or a POST, in bytes.
const HEAD_BYTES_MAX: usize = 8192;

/// Bytes that the line protocol may add to a payload: command, topic, cursor.
const LINE_BYTES_MAX: usize = 1024;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Subscribes to topic number so-and-so.
    Subscribe(u32),
    /// Gets its own messages back; its number stands in for the topic's.
    Echo(u32),
    /// Publishes over a WebSocket.
    Publish,
    /// Publishes with POST.
    Post,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the answer to the handshake.
    Upgrading,
    /// Waits for the subscription to be confirmed, or the server's greeting.
    Joining,
    Ready,
}

/// What all connections of a worker have in common.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) plan: Plan,
    /// A run's connections share one key: what it proves, that the server speaks WebSocket, it proves each time.
    pub(crate) key: [u8; 24],
    /// Echoes are answered with the next message, `0` messages ahead of it: not at all.
    pub(crate) echo_ahead: u32,
    /// Messages that each echoing connection may send.
    pub(crate) echo_messages_max: u64,
}

/// Why a connection is of no more use.
pub(crate) type Fault = String;

/// Bytes of a frame or message whose rest has not come yet.
#[derive(Debug, Default)]
struct Cut {
    raw: Vec<u8>,
    message: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    decoder: Decoder,
    seen: Seen,
    cut: Option<Box<Cut>>,
    purpose: Purpose,
    state: State,
    /// Failed: what still comes is thrown away.
    pub(crate) failed: bool,
}

/// Where a connection writes what it has to say and what it has seen.
#[derive(Debug)]
pub(crate) struct Ears<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) account: &'a mut Account,
    /// Bytes to send, appended.
    pub(crate) say: &'a mut Vec<u8>,
    /// When the bytes were there.
    pub(crate) now_ns: u64,
    /// Messages sent by echoing connections, in reply.
    pub(crate) echoes_sent: &'a mut u64,
}

impl Client {
    pub(crate) fn new(purpose: Purpose) -> Client {
        Client {
            decoder: Decoder::new(Role::Client),
            seen: Seen::default(),
            cut: None,
            purpose,
            state: if purpose == Purpose::Post { State::Ready } else { State::Upgrading },
            failed: false,
        }
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(crate) fn ready(&self) -> bool {
        self.state == State::Ready && !self.failed
    }

    /// Closes a subscriber's account.
    pub(crate) fn finish(&self, published: u64, account: &mut Account) {
        if let Purpose::Subscribe(_) = self.purpose {
            self.seen.finish(published, &mut account.counts);
        }
    }

    /// Appends the first bytes that this connection sends.
    pub(crate) fn greet(&self, rules: &Rules, host: &str, say: &mut Vec<u8>) {
        let plan = &rules.plan;
        let (target, subprotocol) = match self.purpose {
            Purpose::Post => return,
            Purpose::Echo(_) => ("/echo".to_owned(), None),
            Purpose::Subscribe(topic) if plan.protocol == Protocol::Raw => {
                (format!("/topics/{}?since=live", plan.topic_name(topic)), None)
            }
            Purpose::Publish | Purpose::Subscribe(_) => ("/ws".to_owned(), Some(handshake::CORECAST_V1)),
        };
        let mut out = [0; HEAD_BYTES_MAX];
        let mut writer = Writer::new(&mut out);
        handshake::client_request(&mut writer, host, &target, &rules.key, subprotocol);
        let len = writer.finish().expect("target and host are far shorter than the longest head");
        say.extend_from_slice(&out[..len]);
    }

    /// Takes bytes of the server's.
    ///
    /// # Errors
    /// What the server did that makes this connection useless.
    pub(crate) fn hear(&mut self, bytes: &mut [u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        let Some(cut) = self.cut.as_mut().filter(|cut| !cut.raw.is_empty()) else {
            let used = self.take(bytes, ears)?;
            if used < bytes.len() {
                self.cut.get_or_insert_default().raw.extend_from_slice(&bytes[used..]);
            }
            return Ok(());
        };
        let mut raw = std::mem::take(&mut cut.raw);
        raw.extend_from_slice(bytes);
        let used = self.take(&mut raw, ears)?;
        raw.drain(..used);
        match &mut self.cut {
            Some(cut) if raw.is_empty() && cut.message.is_empty() => self.cut = None,
            cut => cut.get_or_insert_default().raw = raw,
        }
        Ok(())
    }

    /// Takes as many bytes as make sense by themselves, and returns how many.
    fn take(&mut self, bytes: &mut [u8], ears: &mut Ears<'_>) -> Result<usize, Fault> {
        let mut at = 0;
        if self.purpose == Purpose::Post {
            while let Some(used) = take_reply(&bytes[at..], ears)? {
                at += used;
            }
            return Ok(at);
        }
        if self.state == State::Upgrading {
            match self.upgraded(bytes, ears)? {
                Some(used) => at = used,
                None => return Ok(0),
            }
        }
        let message_bytes_max = ears.rules.plan.bytes + LINE_BYTES_MAX;
        loop {
            let step = self
                .decoder
                .next(&mut bytes[at..], message_bytes_max)
                .map_err(|violation| format!("the server broke WebSocket: {}", violation.text()))?;
            let frame = &bytes[at..at + step.consumed];
            at += step.consumed;
            match step.event {
                None if step.consumed == 0 => return Ok(at),
                None | Some(Event::Pong(_)) => {}
                Some(Event::Data { data, first: true, last: true, .. }) => self.message(&frame[data], ears)?,
                Some(Event::Data { data, last, .. }) => {
                    let message = &mut self.cut.get_or_insert_default().message;
                    message.extend_from_slice(&frame[data]);
                    if last {
                        let message = std::mem::take(message);
                        self.message(&message, ears)?;
                        self.cut.take_if(|cut| cut.raw.is_empty());
                    }
                }
                Some(Event::Ping(data)) => pong(&frame[data], ears.say),
                Some(Event::Close { code, reason }) => {
                    let reason = String::from_utf8_lossy(&frame[reason]);
                    return Err(format!("the server closed with {} {reason}", code.unwrap_or(1005)));
                }
            }
        }
    }

    fn upgraded(&mut self, bytes: &[u8], ears: &mut Ears<'_>) -> Result<Option<usize>, Fault> {
        let answer = parse(bytes, HEAD_BYTES_MAX)
            .map_err(|violation| format!("the answer to the handshake is not HTTP: {}", violation.text()))?;
        let Some((reply, used)) = answer else {
            return Ok(None);
        };
        if reply.status != 101 {
            return Err(format!("the server answered the handshake with status {}", reply.status));
        }
        let plan = &ears.rules.plan;
        let line = match self.purpose {
            Purpose::Subscribe(_) => plan.protocol == Protocol::Line,
            purpose => purpose == Purpose::Publish,
        };
        handshake::check_reply(&reply, &ears.rules.key, line.then_some(handshake::CORECAST_V1))
            .map_err(|violation| format!("the answer to the handshake is wrong: {}", violation.text()))?;
        self.state = if line { State::Joining } else { State::Ready };
        if let (true, Purpose::Subscribe(topic)) = (line, self.purpose) {
            let text = format!("SUB {} since=live id=1", plan.topic_name(topic));
            append_text(&text, ears.say);
        }
        Ok(Some(used))
    }

    #[inline]
    fn message(&mut self, message: &[u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        match self.purpose {
            Purpose::Subscribe(_) if ears.rules.plan.protocol == Protocol::Line => match message {
                [b'M', b'S', b'G', b' ', rest @ ..] => {
                    let payload = rest.iter().position(|byte| *byte == b'\n').map(|end| &rest[end + 1..]);
                    self.delivery(payload.unwrap_or_default(), ears);
                }
                _ => self.line(message, ears)?,
            },
            Purpose::Publish => self.line(message, ears)?,
            _ => self.delivery(message, ears),
        }
        Ok(())
    }

    #[inline]
    fn delivery(&mut self, payload: &[u8], ears: &mut Ears<'_>) {
        let (Purpose::Subscribe(own) | Purpose::Echo(own)) = self.purpose else {
            return;
        };
        let Some(stamp) = payload::read(payload, ears.rules.plan.bytes).filter(|stamp| stamp.topic == own) else {
            ears.account.counts.corrupted += 1;
            return;
        };
        if self.seen.note(stamp.number, &mut ears.account.counts) {
            ears.account.delivered(stamp, ears.now_ns);
            let next = stamp.number + u64::from(ears.rules.echo_ahead);
            if ears.rules.echo_ahead > 0 && next < ears.rules.echo_messages_max {
                let stamp = payload::Stamp { number: next, scheduled_ns: ears.now_ns, ..stamp };
                append_frame(ears.say, b"", stamp, ears.rules.plan.bytes);
                *ears.echoes_sent += 1;
            }
        }
    }

    fn line(&mut self, line: &[u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        let (word, _) = line.split_at(line.iter().position(|byte| *byte == b' ').unwrap_or(line.len()));
        match word {
            b"HI" if self.purpose == Purpose::Publish => self.state = State::Ready,
            b"HI" | b"PONG" => {}
            b"OK" => self.state = State::Ready,
            b"GAP" => ears.account.gaps_told += 1,
            b"ERR" if self.purpose == Purpose::Publish => {
                ears.account.refused += 1;
                ears.account.fault(|| format!("a message was refused: {}", String::from_utf8_lossy(line)));
            }
            b"MSG" => {}
            _ => {
                return Err(format!("the server said: {}", String::from_utf8_lossy(line)));
            }
        }
        Ok(())
    }
}

/// Takes one whole answer to a POST.
fn take_reply(bytes: &[u8], ears: &mut Ears<'_>) -> Result<Option<usize>, Fault> {
    let answer = parse(bytes, HEAD_BYTES_MAX)
        .map_err(|violation| format!("the answer to a POST is not HTTP: {}", violation.text()))?;
    let Some((reply, head_len)) = answer else {
        return Ok(None);
    };
    let body_len = match reply.body {
        ReplyBody::None => 0,
        ReplyBody::Sized(len) => len as usize,
        body => return Err(format!("the answer to a POST has no length: {body:?}")),
    };
    if bytes.len() < head_len + body_len {
        return Ok(None);
    }
    if reply.status != 200 {
        ears.account.refused += 1;
        let text = String::from_utf8_lossy(&bytes[head_len..head_len + body_len]);
        ears.account.fault(|| format!("a message was refused: {} {text}", reply.status));
    }
    Ok(Some(head_len + body_len))
}

fn append_text(text: &str, say: &mut Vec<u8>) {
    append_control(Opcode::Text, text.as_bytes(), say);
}

fn pong(data: &[u8], say: &mut Vec<u8>) {
    append_control(Opcode::Pong, data, say);
}

/// Appends a short frame. Its mask may be zero: the server cannot tell, and no cache is to be protected on the way.
fn append_control(opcode: Opcode, data: &[u8], say: &mut Vec<u8>) {
    let mut out = [0; frame::HEADER_BYTES_MAX];
    let len = frame::write_header(&mut out, true, false, opcode, data.len(), Some([0; 4]));
    say.extend_from_slice(&out[..len]);
    say.extend_from_slice(data);
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
