//! A subscription over an answer that goes on and on: events, lines, parts or scripts.

use std::convert::Infallible;
use std::time::Instant;

use corecast_protocol::{Cursor, cursor};
use ureq::http::response::Parts;

use super::answer::{Answer, Step, header, target};
use super::read::{Events, Item, OBJECT_BYTES_MAX, Reader};
use super::{End, SILENCE_MAX, Subscriber, Transport};

impl Subscriber<'_> {
    /// Subscribes, and prints what comes until the stream is over.
    pub(super) fn stream(&mut self) -> Result<Infallible, End> {
        if !self.stood && self.positions.iter().any(|position| position.exactly().is_none()) {
            self.look_up()?;
        }
        let (target, last) = self.request();
        let last = last.as_deref().map(|last| ("last-event-id", last));
        let (head, answer) = self.get(&target, last, self.client.timeout)?;
        let reader = self.reader(&head)?;
        self.stood = true;
        self.read(answer, reader)
    }

    /// Asks where the topics are now. On a word alone nobody could come back who was cut off before anything had come.
    fn look_up(&mut self) -> Result<(), End> {
        let target = target(&self.topics) + "transport=poll&since=live";
        let (head, mut answer) = self.get(&target, None, self.client.timeout)?;
        let cursors = self.cursors(&head)?;
        for (position, cursor) in self.positions.iter_mut().zip(cursors) {
            position.stands(cursor);
        }
        // Read to its end, its connection can be used again.
        self.whole(&mut answer, OBJECT_BYTES_MAX).map(drop)
    }

    /// Reads the cursors of all topics from the head of an answer.
    pub(super) fn cursors(&self, head: &Parts) -> Result<Vec<Cursor>, End> {
        let mut cursors = vec![Cursor::default(); self.topics.len()];
        match cursor::read_list(header(head, "corecast-cursor"), &mut cursors) {
            Ok(_) => Ok(cursors),
            Err(_) => Err(End::Refused("the answer has no Corecast-Cursor for each topic; not an engine?".to_owned())),
        }
    }

    /// Returns the target of the request, and the last event ID where that says where to go on.
    fn request(&mut self) -> (String, Option<String>) {
        let transport = self.arguments.transport;
        let mut target = target(&self.topics);
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

    fn reader(&self, head: &Parts) -> Result<Reader, End> {
        let content_type = header(head, "content-type");
        let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
        let wanted = match self.arguments.transport {
            Transport::Sse => "text/event-stream",
            Transport::Multipart => "multipart/x-mixed-replace",
            Transport::ForeverFrame => "text/html",
            _ => "application/x-ndjson",
        };
        let status = head.status.as_u16();
        if status != 200 || !kind.trim().eq_ignore_ascii_case(wanted) {
            let got = kind.escape_debug();
            let cause = format!("the answer is status {status} and `{got}` instead of {wanted}; not an engine?");
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
