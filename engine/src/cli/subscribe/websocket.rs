//! A subscription over the line protocol of a WebSocket.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use corecast_protocol::line::{self, ErrCode, ServerLine};
use corecast_protocol::write::Writer;
use corecast_protocol::ws::handshake::CORECAST_V1;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::error::ProtocolError;
use tungstenite::http::header::{HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::super::client::refusal;
use super::super::wire::Wire;
use super::answer::is_of_certificates;
use super::read::Gap;
use super::{End, SILENCE_MAX, Subscriber, wait};

/// Largest message taken: the largest payload an engine can be configured for, and room for its header line.
const MESSAGE_BYTES_MAX: usize = (16 << 20) + 4096;
/// How long the engine has to take a goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

impl Subscriber<'_> {
    /// Subscribes, and prints what comes until the connection is over.
    pub(super) fn websocket(&mut self) -> Result<Infallible, End> {
        let mut socket = self.shake_hands()?;
        let over = self.converse(&mut socket);
        if matches!(over, Err(End::Done | End::Unwritten(_))) {
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
            let until = Instant::now() + GOODBYE;
            let goes_on = |read: Result<Message, Error>| read.map_or_else(|error| waits(&error), |_| true);
            while Instant::now() < until && goes_on(socket.read()) {}
        }
        over
    }

    fn shake_hands(&mut self) -> Result<WebSocket<Wire>, End> {
        let wire = self.client.connect().map_err(End::Unreachable)?;
        let request = self.client.url.of("ws", "/ws").into_client_request();
        let mut request = request.map_err(|error| End::Refused(error.to_string()))?;
        let headers = self.headers()?;
        request.headers_mut().extend(headers.into_iter().map(|(name, value)| (Some(name), value)));
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(CORECAST_V1));
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let begun = Instant::now();
        let mut step = tungstenite::client::client_with_config(request, wire, Some(config));
        loop {
            match step {
                Ok((socket, _)) => return Ok(socket),
                Err(HandshakeError::Interrupted(half)) => {
                    self.idle(begun, self.client.timeout)?;
                    step = half.handshake();
                }
                Err(HandshakeError::Failure(Error::Http(answer))) => {
                    let body = refusal(answer.body().as_deref().unwrap_or_default());
                    let status = answer.status().as_u16();
                    let cause = format!("the answer was status {status} instead of a WebSocket: {body}");
                    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                    return Err(self.refused(
                        status,
                        cause.trim_end_matches([':', ' ']),
                        retry_after.unwrap_or_default(),
                    ));
                }
                Err(HandshakeError::Failure(error)) => {
                    let passes = matches!(error, Error::Io(_) | Error::Protocol(ProtocolError::HandshakeIncomplete));
                    return Err(if passes { broken(error) } else { End::Refused(format!("not an engine? {error}")) });
                }
            }
        }
    }

    fn converse(&mut self, socket: &mut WebSocket<Wire>) -> Result<Infallible, End> {
        let (conflate, every_ms) = (self.arguments.conflates().then_some(true), self.arguments.every);
        if let Some(bandwidth) = self.arguments.bandwidth {
            socket.write(Message::text(format!("SET bandwidth={bandwidth}"))).map_err(broken)?;
        }
        for (n, (name, position)) in self.topics.iter().zip(&mut self.positions).enumerate() {
            let (since, id) = (position.resume(), n.to_string());
            let mut text = [0; 4096];
            let mut w = Writer::new(&mut text);
            line::sub(
                &mut w,
                name,
                Some(since),
                conflate,
                every_ms,
                self.arguments.view(),
                line::Pace { batch_ms: self.arguments.batch, ..line::Pace::default() },
                Some(&id),
            );
            let length = w.finish().map_err(|_| End::Refused("the command is too long".to_owned()))?;
            let text = String::from_utf8_lossy(&text[..length]);
            socket.write(Message::text(text.into_owned())).map_err(broken)?;
        }
        socket.flush().map_err(broken)?;
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => self.take(&mut Vec::from(text.as_bytes()))?,
                Ok(Message::Binary(bytes)) => self.take(&mut Vec::from(bytes))?,
                Ok(Message::Close(close)) => {
                    // It is answered; whether that arrives is nobody's worry.
                    let _ = socket.flush();
                    return Err(self.closed(close));
                }
                Ok(_) => {}
                Err(error) if waits(&error) => self.idle(socket.get_ref().heard(), SILENCE_MAX)?,
                Err(error) => return Err(broken(error)),
            }
        }
    }

    /// Says what the engine's close frame means for the next attempt.
    fn closed(&mut self, close: Option<CloseFrame>) -> End {
        let (code, reason) =
            close.map_or((CloseCode::Status, String::new()), |close| (close.code, close.reason.to_string()));
        let shown = if code == CloseCode::Status { "without a code".to_owned() } else { u16::from(code).to_string() };
        let cause = format!("closed by the engine: {shown} {}", reason.escape_debug()).trim_end().to_owned();
        self.again = self.again.or(wait::in_words(&reason));
        match code {
            CloseCode::Policy => self.denied(cause),
            _ => End::Broken(cause),
        }
    }

    /// Acts on one message of the server.
    fn take(&mut self, message: &mut [u8]) -> Result<(), End> {
        let parsed = line::parse_server(message)
            .map_err(|violation| End::Refused(format!("not an engine? {}", violation.text())))?;
        match parsed {
            ServerLine::Msg { topic, cursor, event, key, op, payload, .. } => {
                let text = std::str::from_utf8(payload).is_ok();
                let message =
                    corecast_protocol::Message { topic, cursor, event, payload, text, key, op, ..Default::default() };
                self.message(&message)?;
            }
            ServerLine::Eos { topic, cursor } => self.printer.snapshot_end(topic, cursor).map_err(End::Unwritten)?,
            ServerLine::Gap { topic, to, count, reason, .. } => {
                self.gap(&Gap { topic: topic.to_owned(), to, count, reason })?;
            }
            ServerLine::Ok { token, cursor } => {
                let position = token.parse().ok().and_then(|n: usize| self.positions.get_mut(n));
                if let (Some(head), Some(position)) = (cursor, position) {
                    position.stands(head);
                }
            }
            ServerLine::Err { token, code, text } => {
                let name = token.and_then(|token| token.parse().ok()).and_then(|n: usize| self.topics.get(n));
                let name = name.map_or("", String::as_str);
                let cause = format!("{name} {}: {}", code.as_str(), text.escape_debug()).trim_start().to_owned();
                self.again = wait::in_words(text);
                return Err(match code {
                    ErrCode::Unauthorized | ErrCode::Expired => self.denied(cause),
                    ErrCode::Full | ErrCode::Rate | ErrCode::Unavailable => End::Broken(cause),
                    // Who says when to come back means it.
                    _ if self.again.is_some() => End::Broken(cause),
                    _ => End::Refused(cause),
                });
            }
            ServerLine::Bye { code, text } => drop(self.goodbye(&code.to_string(), text)?),
            ServerLine::Hi { .. } | ServerLine::Pong { .. } | ServerLine::Stat { .. } => {}
        }
        Ok(())
    }
}

/// Says whether an error is only that nothing came.
fn waits(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn broken(error: Error) -> End {
    match error {
        Error::Io(error) if is_of_certificates(&error) => End::Refused(error.to_string()),
        Error::Io(error) => End::Broken(error.to_string()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete)
        | Error::ConnectionClosed => End::Broken("the engine closed the connection".to_owned()),
        error => End::Broken(error.to_string()),
    }
}
