//! A subscription made of polls: each answers from the cursor of the one before.

use std::convert::Infallible;
use std::time::Duration;

use corecast_protocol::Cursor;
use corecast_protocol::line::GapReason;
use ureq::http::response::Parts;

use super::answer::{header, target};
use super::read::{self, Gap, Item, Message, OBJECT_BYTES_MAX};
use super::{End, Subscriber, Transport};

/// How long a long poll waits.
const WAIT: Duration = Duration::from_secs(25);
/// Pause between two polls that find nothing, unless `--every` says how long.
const PAUSE: Duration = Duration::from_secs(1);
/// The callback of a script that only we read.
const CALLBACK: &str = "corecast";

impl Subscriber<'_> {
    /// Polls, and prints what comes until something breaks.
    pub(super) fn poll(&mut self) -> Result<Infallible, End> {
        let every = Duration::from_millis(self.arguments.every.unwrap_or(0).into());
        let waits = self.arguments.transport != Transport::Poll;
        let mut tag = None::<String>;
        // Behind what was there at the start; from now on a poll may wait, and old values may be left out.
        let mut settled = false;
        loop {
            let wait = if waits && settled { WAIT } else { Duration::ZERO };
            let known = tag.as_deref().map(|tag| ("if-none-match", tag));
            let target = self.poll_target(wait);
            let (head, mut answer) = self.get(&target, known, wait + self.client.timeout)?;
            let body = self.whole(&mut answer, OBJECT_BYTES_MAX)?;
            // Something that is no answer of an engine's at all is said to be that.
            let items = self.items(&head, &body)?;
            let cursors = self.cursors(&head)?;
            let nothing = items.is_empty();
            let items = if settled && self.arguments.conflates() { self.newest(items) } else { items };
            for item in &items {
                self.accept(item)?;
            }
            self.are_at(&cursors);
            self.stood = true;
            tag = Some(header(&head, "etag").to_owned()).filter(|tag| !waits && !tag.is_empty());
            settled |= nothing;
            let pause = match (settled, nothing) {
                (true, true) if !waits => every.max(if every.is_zero() { PAUSE } else { Duration::ZERO }),
                (true, false) => every,
                _ => Duration::ZERO,
            };
            self.rest(pause)?;
        }
    }

    fn poll_target(&mut self, wait: Duration) -> String {
        let transport = self.arguments.transport;
        let since = if self.stood { self.place() } else { self.start() };
        let mut target = target(&self.topics);
        target += &format!("transport={}&since={since}{}", transport.name(), self.arguments.viewed());
        if transport != Transport::Poll {
            target += &format!("&wait={}", wait.as_secs());
        }
        if transport == Transport::Jsonp {
            target += &format!("&callback={CALLBACK}");
        }
        target
    }

    fn items(&self, head: &Parts, body: &[u8]) -> Result<Vec<Item>, End> {
        let jsonp = self.arguments.transport == Transport::Jsonp;
        let wanted = if jsonp { "application/javascript" } else { "application/json" };
        let kind = header(head, "content-type").split(';').next().unwrap_or("").trim();
        if head.status != 200 {
            return Ok(Vec::new());
        }
        if !kind.eq_ignore_ascii_case(wanted) {
            let cause = format!("the answer is `{}` instead of {wanted}; not an engine?", kind.escape_debug());
            return Err(End::Refused(cause));
        }
        let items = if jsonp { read::script(body, CALLBACK) } else { read::items(body) };
        items.map_err(|cause| {
            End::Refused(format!("that is no answer to a {}: {cause}", self.arguments.transport.name()))
        })
    }

    /// Leaves only the newest message of each topic, and a gap in the place of the others: what a stream with `conflate`
    /// delivers to a reader that is not faster than we ask.
    fn newest(&self, items: Vec<Item>) -> Vec<Item> {
        let mut kept: Vec<Item> = Vec::new();
        for item in items {
            let Item::Message(Message { topic, key, .. }) = &item else {
                kept.push(item);
                continue;
            };
            let same =
                |kept: &Item| matches!(kept, Item::Message(message) if message.topic == *topic && message.key == *key);
            let Some(at) = kept.iter().position(same) else {
                kept.push(item);
                continue;
            };
            let told = |kept: &Item| match kept {
                Item::Gap(gap) => gap.topic == *topic && gap.reason == GapReason::Conflated,
                _ => false,
            };
            let Item::Message(Message { cursor: to, .. }) = kept[at] else { continue };
            match kept.iter_mut().find(|kept| told(kept)) {
                Some(Item::Gap(gap)) => (gap.to, gap.count) = (to, gap.count + 1),
                _ => {
                    let gap = Gap { topic: topic.clone(), to, count: 1, reason: GapReason::Conflated };
                    kept.insert(at, Item::Gap(gap));
                }
            }
            let at = kept.iter().position(same).expect("the older message is still there");
            kept[at] = item;
        }
        kept
    }

    /// Goes on from where the engine says that the answer ended.
    fn are_at(&mut self, cursors: &[Cursor]) {
        for (n, cursor) in cursors.iter().enumerate() {
            self.positions[n].is_at(*cursor);
        }
    }

    fn rest(&mut self, pause: Duration) -> Result<(), End> {
        if !pause.is_zero() {
            self.printer.flush().map_err(End::Unwritten)?;
        }
        if self.stops_within(pause) { Err(End::Done) } else { Ok(()) }
    }
}
