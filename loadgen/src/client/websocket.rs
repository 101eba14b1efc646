//! WebSockets: the handshake, and frames put together to messages.

use corecast_protocol::http::client::parse;
use corecast_protocol::ws::decoder::Event;
use corecast_protocol::ws::frame::Opcode;
use corecast_protocol::ws::handshake;

use super::{Client, Ears, Fault, HEAD_BYTES_MAX, LINE_BYTES_MAX, Purpose, State, Wire, append_control};
use crate::plan::Transport;

/// Longest message of a server that is not the engine, in bytes.
const FRAME_BYTES_MAX: usize = 64 << 20;

impl Client {
    pub(super) fn take_frames(&mut self, bytes: &mut [u8], ears: &mut Ears<'_>) -> Result<usize, Fault> {
        let mut at = 0;
        if self.state == State::Upgrading {
            match self.upgraded(bytes, ears)? {
                Some(used) => at = used,
                None => return Ok(0),
            }
        }
        let message_bytes_max = match ears.rules.talk {
            // Others put many messages into one frame.
            Some(_) => FRAME_BYTES_MAX,
            None => ears.rules.payload_bytes_max + LINE_BYTES_MAX,
        };
        loop {
            let Wire::WebSocket(decoder) = &mut self.wire else {
                return Ok(at);
            };
            let step = decoder
                .next(&mut bytes[at..], message_bytes_max)
                .map_err(|violation| format!("the server broke WebSocket: {}", violation.text()))?;
            let frame = &mut bytes[at..at + step.consumed];
            at += step.consumed;
            match step.event {
                None if step.consumed == 0 => return Ok(at),
                None | Some(Event::Pong(_)) => {}
                Some(Event::Data { data, first: true, last: true, .. }) => self.message(&mut frame[data], ears)?,
                Some(Event::Data { data, last, .. }) => {
                    let message = &mut self.cut.get_or_insert_default().message;
                    message.extend_from_slice(&frame[data]);
                    if last {
                        let mut message = std::mem::take(message);
                        self.message(&mut message, ears)?;
                    }
                }
                Some(Event::Ping(data)) => {
                    ears.account.pings += 1;
                    append_control(Opcode::Pong, &frame[data], ears.say);
                }
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
        let line = self.speaks_line(ears);
        let subprotocol = match &ears.rules.talk {
            Some(talk) => talk.subprotocol.as_deref(),
            None => line.then_some(handshake::CORECAST_V1),
        };
        handshake::check_reply(&reply, &ears.rules.key, subprotocol)
            .map_err(|violation| format!("the answer to the handshake is wrong: {}", violation.text()))?;
        match self.purpose {
            _ if ears.rules.talk.is_some() => self.talk_on(0, ears),
            Purpose::Subscribe(own) if line => self.subscribe(own, ears),
            Purpose::Subscribe(_) => {
                self.state = State::Ready;
                self.subscribed(0, ears);
            }
            Purpose::Publish(_) | Purpose::Post(_) => self.state = State::Joining(1),
        }
        Ok(Some(used))
    }

    fn speaks_line(&self, ears: &Ears<'_>) -> bool {
        let engine = ears.rules.talk.is_none();
        engine && matches!(self.purpose, Purpose::Publish(_)) || ears.rules.plan.transport == Transport::Line
    }

    #[inline]
    fn message(&mut self, message: &mut [u8], ears: &mut Ears<'_>) -> Result<(), Fault> {
        if self.speaks_line(ears) {
            return self.line(message, ears);
        }
        if ears.rules.talk.is_some() {
            return self.generic(message, ears);
        }
        self.delivery(message, ears);
        Ok(())
    }
}
