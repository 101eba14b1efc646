//! A subscription over an answer that goes on and on: events, lines, parts or scripts.

use std::convert::Infallible;
use std::time::Instant;

use super::answer::{Answer, Head, Step, target};
use super::read::{Events, Item, Reader};
use super::{End, PATIENCE, SILENCE_MAX, Subscriber, Transport};
use crate::cli::connect::Exchange;
use corecast_protocol::{Cursor, cursor};

impl Subscriber<'_> {
    /// Subscribes, and prints what comes until the stream is over.
    pub(super) fn stream(&mut self) -> Result<Infallible, End> {
        let mut exchange = Some(self.open()?);
        if !self.stood && self.positions.iter().any(|position| position.exactly().is_none()) {
            exchange = self.look_up(exchange)?;
        }
        let exchange = match exchange {
            Some(exchange) if exchange.stands() => exchange,
            _ => self.open()?,
        };
        let (target, last) = self.request();
        let extra: &[(&str, &str)] = match &last {
            Some(last) => &[("Last-Event-ID", last)],
            None => &[],
        };
        let (head, answer) = self.get(exchange, &target, extra, PATIENCE)?;
        let reader = self.reader(&head)?;
        self.stood = true;
        self.read(answer, reader)
    }

    /// Asks where the topics are now. On a word alone nobody could come back who was cut off before anything had come.
    fn look_up(&mut self, exchange: Option<Exchange>) -> Result<Option<Exchange>, End> {
        let exchange = exchange.map_or_else(|| self.open(), Ok)?;
        let target = target(&self.arguments.url.prefix, &self.topics) + "transport=poll&since=live";
        let (head, answer) = self.get(exchange, &target, &[], PATIENCE)?;
        let cursors = self.cursors(&head)?;
        for (position, cursor) in self.positions.iter_mut().zip(cursors) {
            position.stands(cursor);
        }
        let (_, exchange) = self.whole(answer, super::read::OBJECT_BYTES_MAX)?;
        Ok(exchange)
    }

    /// Reads the cursors of all topics from the head of an answer.
    pub(super) fn cursors(&self, head: &Head) -> Result<Vec<Cursor>, End> {
        let mut cursors = vec![Cursor::default(); self.topics.len()];
        let read = head.cursor.as_deref().is_some_and(|text| cursor::read_list(text, &mut cursors).is_ok());
        match read {
            true => Ok(cursors),
            false => Err(End::Refused("the answer has no Corecast-Cursor for each topic; not an engine?".to_owned())),
        }
    }

    /// Returns the target of the request, and the last event ID where that says where to go on.
    fn request(&mut self) -> (String, Option<String>) {
        let transport = self.arguments.transport;
        let mut target = target(&self.arguments.url.prefix, &self.topics);
        target += &format!("transport={}{}", transport.name(), self.arguments.conflation());
        if transport == Transport::Sse && self.topics.len() > 1 {
            target += "&enveloped=1";
        }
        let goes_on = self.stood.then(|| self.place());
        // An event source asks for the same URL again, and says in a header what it had.
        let (since, last) = match goes_on {
            Some(place) if transport == Transport::Sse => (self.start(), Some(place)),
            Some(place) => (place, None),
            None => (self.start(), None),
        };
        (target + "&since=" + &since, last)
    }

    fn reader(&self, head: &Head) -> Result<Reader, End> {
        let (kind, parameters) = head.content_type.split_once(';').unwrap_or((&head.content_type, ""));
        let wanted = match self.arguments.transport {
            Transport::Sse => "text/event-stream",
            Transport::Multipart => "multipart/x-mixed-replace",
            Transport::ForeverFrame => "text/html",
            _ => "application/x-ndjson",
        };
        if head.status != 200 || !kind.trim().eq_ignore_ascii_case(wanted) {
            let got = kind.escape_debug();
            let cause = format!("the answer is status {} and `{got}` instead of {wanted}; not an engine?", head.status);
            return Err(End::Refused(cause));
        }
        Ok(match (self.arguments.transport, &self.topics[..]) {
            (Transport::Sse, [topic]) => Reader::sse(Events::Of(topic.clone())),
            (Transport::Sse, _) => Reader::sse(Events::Enveloped),
            (Transport::ForeverFrame, _) => Reader::forever_frame(),
            (Transport::Multipart, _) => {
                let boundary = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="));
                let boundary = boundary.map(|boundary| boundary.trim_matches('"')).filter(|text| !text.is_empty());
                Reader::multipart(boundary.ok_or_else(|| End::Refused("the parts have no boundary".to_owned()))?)
            }
            _ => Reader::lines(),
        })
    }

    fn read(&mut self, mut answer: Answer, mut reader: Reader) -> Result<Infallible, End> {
        let mut heard = Instant::now();
        let (mut bytes, mut found) = (Vec::new(), Vec::<Item>::new());
        loop {
            if self.stopped() {
                return Err(End::Done);
            }
            bytes.clear();
            match answer.body(&mut bytes)? {
                Step::Bytes => heard = Instant::now(),
                Step::Nothing => self.idle(heard, SILENCE_MAX)?,
                Step::End => return Err(End::Ended("the stream ended".to_owned())),
            }
            let fed = reader.feed(&bytes, &mut found);
            for item in found.drain(..) {
                self.accept(&item)?;
            }
            fed.map_err(|cause| End::Refused(format!("that is no {}: {cause}", self.arguments.transport.name())))?;
        }
    }
}
