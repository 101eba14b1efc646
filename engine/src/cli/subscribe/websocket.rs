//! A subscription over the line protocol of a WebSocket.

use std::convert::Infallible;
use std::time::Instant;

use corecast_protocol::line::{self, ErrCode, ServerLine};

use super::super::lines::{Line, Lines};
use super::answer::refused;
use super::read::Gap;
use super::{End, SILENCE_MAX, Subscriber};

impl Subscriber<'_> {
    /// Subscribes, and prints what comes until the connection is over.
    pub(super) fn websocket(&mut self) -> Result<Infallible, End> {
        let mut lines = Lines::open(&self.arguments.url).map_err(|refusal| match refusal.status {
            None if refusal.permanent => End::Refused(refusal.cause),
            None => End::Unreachable(refusal.cause),
            Some(101) => End::Refused(refusal.cause),
            Some(status) => refused(status, refusal.cause, refusal.retry_after.as_deref()),
        })?;
        match self.converse(&mut lines) {
            Err(end @ (End::Done | End::Unwritten(_))) => {
                lines.close();
                Err(end)
            }
            other => other,
        }
    }

    fn converse(&mut self, lines: &mut Lines) -> Result<Infallible, End> {
        let (conflate, every_ms) = (self.arguments.conflates().then_some(true), self.arguments.every);
        for (n, (name, position)) in self.topics.iter().zip(&mut self.positions).enumerate() {
            let (since, id) = (position.resume(), n.to_string());
            lines.send(|w| line::sub(w, name, Some(since), conflate, every_ms, Some(&id))).map_err(End::Broken)?;
        }
        let mut heard = Instant::now();
        loop {
            if self.stopped() {
                return Err(End::Done);
            }
            match lines.next().map_err(End::Broken)? {
                Line::Message(message) => {
                    heard = Instant::now();
                    self.take(message)?;
                }
                Line::Alive => heard = Instant::now(),
                Line::Nothing => self.idle(heard, SILENCE_MAX)?,
            }
        }
    }

    /// Acts on one message of the server.
    fn take(&mut self, message: &mut [u8]) -> Result<(), End> {
        let parsed = line::parse_server(message)
            .map_err(|violation| End::Refused(format!("not an engine? {}", violation.text())))?;
        match parsed {
            ServerLine::Msg { topic, cursor, event, payload } => self.message(topic, cursor, event, payload)?,
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
                let cause = format!("{name} {}: {text}", code.as_str()).trim_start().to_owned();
                return Err(match code {
                    ErrCode::Full | ErrCode::Rate => End::Broken(cause),
                    _ => End::Refused(cause),
                });
            }
            ServerLine::Bye { code, text } => self.tell(&format!("the engine says goodbye: {code} {text}")),
            ServerLine::Hi { .. } | ServerLine::Pong { .. } => {}
        }
        Ok(())
    }
}
