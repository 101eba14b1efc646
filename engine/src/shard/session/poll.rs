//! Long polls, and polls of several topics: the first messages to come are one answer.
//!
//! What there is, and then what comes, is read from the logs into the body of the answer; once it has gone, the connection takes
//! requests again. A million may wait: see the test of what each costs.

use corecast_protocol::http::etag::Current;
use corecast_protocol::http::head::Request;
use corecast_protocol::http::prefer;
use corecast_protocol::message::Gap;
use corecast_protocol::write::Writer;
use corecast_protocol::{json, topic};

use crate::io::driver::{Driver, Slot};
use crate::io::memory::Span;
use crate::reach::{Mark, reach};
use crate::shard::Shard;
use crate::shard::dialect::{Coding, Dialect, Shape};
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::refusal::Refusal;
use crate::shard::session::reading::{CURSORS_BYTES_MAX, Reading, TOPICS_MAX, Transport};
use crate::shard::session::request::answer::List;
use crate::shard::session::request::condition::{Broken, EMPTIED};
use crate::shard::session::request::exchange::Asked;
use crate::shard::session::subscribing::callback_of;
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::{Connection, Waiting};
use crate::shard::topic::replay::Whereabouts;
use crate::shard::topic::topics::{NONE, REPLAYING, UNRESOLVED};

/// Longest wait of a long poll, and what it waits if it does not say, in seconds.
const WAIT_S_MAX: u32 = 120;
const WAIT_S: u32 = 25;

/// Longest entity tag of an answer: a list of cursors, perhaps with something behind each, in quotes.
const ETAG_BYTES_MAX: usize = CURSORS_BYTES_MAX + TOPICS_MAX * EMPTIED.len() + 2;

/// The callback of a script that names none.
const JSONP_CALLBACK: &str = "callback";

impl Shard {
    /// Keeps what a poll needs; it begins when the body of its request, which most have not, has come.
    pub(in crate::shard) fn begin_poll<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        transport: Transport,
        wait_s: Option<u32>,
    ) {
        let mut callback = [0; 64];
        let callback = match callback_of(request, &mut callback) {
            _ if transport != Transport::Jsonp => "",
            "" => JSONP_CALLBACK,
            named => named,
        };
        if !self.name(driver, slot, "", callback) {
            return;
        }
        let wait_s = wait_s.or_else(|| prefer::wait_s(request.headers.prefer));
        let wait_s = wait_s.unwrap_or(if transport == Transport::Jsonp { 0 } else { WAIT_S }).min(WAIT_S_MAX);
        let exchange = self.exchange(slot);
        exchange.pending.what = Asked::Subscribe;
        let index = exchange.reading as usize;
        self.readings[index].wait_ms = if transport == Transport::Poll { 0 } else { wait_s * 1000 };
    }

    /// All of its request has come: it subscribes the topics of its plan.
    pub(in crate::shard) fn poll<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let grant = self.trust.grants.keep(self.grant_of(slot));
        let Some(own) = self.lend(slot, grant) else {
            self.trust.grants.release(grant);
            self.refuse_request(driver, slot, Refusal::TooMany, false);
            self.request_ends(slot);
            return;
        };
        self.slots.connections[slot as usize].dialect = Dialect::new(Shape::Object, Coding::Plain);
        self.become_reading(slot, Session::Poll);
        if let Some(reading) = self.reading_if_any_mut(slot) {
            reading.grant = own;
        }
        let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
        active.begin_answer(&mut self.store);
        self.subscribe_step(driver, slot);
    }

    /// All topics are subscribed, and what there was of them is in the answer: it waits for the first message, if there is none.
    pub(in crate::shard) fn wait_for_the_first<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Connection { ended, ends, .. } = self.slots.connections[slot as usize];
        self.active(slot).waiting = Waiting::Answer;
        let Some(reading) = self.reading_if_any_mut(slot) else { return };
        reading.subscribed = true;
        let wait_ms = reading.wait_ms;
        let mut plan = std::mem::replace(&mut reading.plan, Buffer::new(Owner::Inbound));
        plan.clear(&mut self.store);
        self.timers.wheel.set(slot, self.clock.tick, wait_ms.into());
        self.watch_right(slot);
        // A peer that has ended its direction waits for no message that is still to come.
        if wait_ms == 0 || self.is_leaving(slot) || ended || ends {
            self.answer_poll(driver, slot);
            return;
        }
        self.slots.make_ready(slot);
    }

    /// Says whether a poll has subscribed all its topics, and waits for the first message.
    #[must_use]
    pub(in crate::shard) fn is_polling(&self, slot: Slot) -> bool {
        self.slots.connections[slot as usize].is(Session::Poll)
            && self.reading_if_any(slot).is_some_and(|reading| reading.subscribed)
    }

    /// It takes requests again, and is about to answer the one that it was.
    fn become_request(&mut self, slot: Slot) {
        let active = self.active(slot);
        let index = std::mem::replace(&mut active.state, NONE);
        let mut reading = self.readings.remove(index as usize);
        reading.plan.clear(&mut self.store);
        self.topics.views.release(reading.view);
        let Reading { mut pending, words, conditions, grant: own, .. } = reading;
        pending.what = Asked::Poll;
        let grant = self.take_back(slot, own);
        self.slots.connections[slot as usize].session = Session::Request;
        self.recount_kind(slot);
        let exchange = self.exchange(slot);
        (exchange.pending, exchange.words, exchange.conditions) = (pending, words, conditions);
        exchange.grant = grant;
    }

    /// Reads what is new in the logs of a long poll into its answer, and answers if there is anything.
    pub(in crate::shard) fn collect<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut fits = true;
        let mut subscription = self.slots.connections[slot as usize].first;
        while subscription != NONE {
            let following = self.topics.subscriptions[subscription as usize].next;
            let whereabouts = self.whereabouts(driver, subscription);
            let subscriber = *self.topics.subscriber(subscription);
            let log = &self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize];
            if subscriber.flags & UNRESOLVED != 0 || whereabouts == Whereabouts::Ahead {
                // Nothing of it yet.
            } else if whereabouts == Whereabouts::Elsewhere {
                if subscriber.flags & REPLAYING == 0 {
                    self.lag(subscription);
                }
                let _ = self.want_more(slot, subscription);
            } else {
                for position in subscriber.next..log.chain.next() {
                    let log = &self.topics.logs[self.topics.subscriptions[subscription as usize].log as usize];
                    let object = log.chain.record(&self.store, driver.memory(), position);
                    let Some(place) = self.place_in_answer(driver, slot, object.len) else {
                        fits = false;
                        break;
                    };
                    driver.memory_mut().copy(object, place, object.len);
                    self.is_in_answer(slot, subscription);
                    self.pass(subscription);
                }
            }
            subscription = following;
        }
        if !self.is_polling(slot) {
            return;
        }
        let active = self.active(slot);
        if active.replays > 0 {
            return;
        }
        if !active.body.is_empty() {
            self.answer_poll(driver, slot);
        } else if !fits {
            // There is a message, and nothing would look at it again before the wait is over.
            reach(Mark::PollWithoutMemory);
            self.refuse_connection(driver, slot, Refusal::Full);
        }
    }

    /// Answers a poll with a refusal.
    pub(in crate::shard) fn refuse_poll<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        refusal: Refusal,
        text: &str,
    ) {
        self.unsubscribe_all(slot);
        self.become_request(slot);
        self.refuse_request_because(driver, slot, refusal, text, false);
        self.request_ends_and_goes_on(driver, slot);
    }

    /// Makes room for an object in the answer of a poll; `None` if there is no memory, or the answer is long enough.
    pub(in crate::shard) fn place_in_answer<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        len: u32,
    ) -> Option<Span> {
        let active = self.slots.actives.get_mut(self.slots.connections[slot as usize].active as usize)?;
        let comma = u32::from(!active.body.is_empty());
        let memory = driver.memory_mut();
        let place = active.body.reserve(&mut self.store, memory, len + comma)?;
        memory.bytes_mut(place.part(0, comma)).fill(b',');
        Some(place.part(comma, len))
    }

    /// Answers a poll with what it has; with nothing, when its time is over.
    pub(in crate::shard) fn answer_poll<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let Some(reading) = self.reading_if_any(slot) else { return };
        let (transport, waited) = (reading.transport, reading.wait_ms > 0);
        let mut cursors = [0; CURSORS_BYTES_MAX];
        let cursors = self.cursors(driver, slot, &mut cursors);
        let mut etag = [0; ETAG_BYTES_MAX];
        let etag = self.etag(slot, cursors, &mut etag);
        self.unsubscribe_all(slot);
        self.become_request(slot);
        let active = self.active(slot);
        let span = active.body.span();
        let mut body = std::mem::take(&mut self.scratch.answer);
        body.clear();
        body.push(b'[');
        body.extend_from_slice(driver.memory().bytes(span));
        body.push(b']');
        const GAP: &[u8] = b"{\"gap\":";
        let gap = body.windows(GAP.len()).any(|bytes| bytes == GAP);
        let broken = match transport {
            Transport::Poll => {
                let tag = etag.trim_matches('"');
                self.broken_condition(driver, slot, Current { tag: tag.as_bytes(), exists: body != b"[]" })
            }
            _ => None,
        };
        if broken == Some(Broken::Match) {
            self.refuse_request(driver, slot, Refusal::Changed, false);
        } else {
            let list = List { cursors, etag, body: &mut body, transport, waited };
            self.answer_list(driver, slot, list, broken.is_some() && !gap);
        }
        self.scratch.answer = body;
        self.request_ends_and_goes_on(driver, slot);
    }

    /// A poll that is asked to finish, with the engine.
    pub(in crate::shard) fn finish_poll<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let polling = self.is_polling(slot);
        let Some(reading) = self.reading_if_any_mut(slot) else { return };
        reading.pending.keep_alive = false;
        if polling {
            self.answer_poll(driver, slot);
        } else {
            self.timers.wheel.set(slot, self.clock.tick, self.limits.linger_ms);
        }
    }

    /// The time of a poll is over.
    pub(in crate::shard) fn expire_poll<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.is_polling(slot) {
            self.answer_poll(driver, slot);
        } else {
            // It is we who are late with its topics.
            self.timers.wheel.set(slot, self.clock.tick, self.limits.request_ms);
        }
    }

    /// Tells of a gap in the answer.
    pub(in crate::shard) fn gap_in_answer<D: Driver>(&mut self, driver: &mut D, slot: Slot, gap: &Gap<'_>) {
        let mut object = [0; 6 * topic::TOPIC_BYTES_MAX + 256];
        let mut w = Writer::new(&mut object);
        w.text("{\"gap\":");
        json::gap(&mut w, gap);
        w.byte(b'}');
        let len = w.finish().expect("room for the longest topic was made");
        match self.place_in_answer(driver, slot, len as u32) {
            Some(place) => driver.memory_mut().bytes_mut(place).copy_from_slice(&object[..len]),
            None => self.shed(driver, slot),
        }
    }

    /// Notes that a message of a topic is in the answer.
    pub(in crate::shard) fn is_in_answer(&mut self, slot: Slot, subscription: u32) {
        let place = self.topics.subscriptions[subscription as usize].order();
        if let Some(reading) = self.reading_if_any_mut(slot) {
            reading.emptied &= !(1 << place);
        }
    }

    /// Writes the entity tag, with its quotes, of an answer that ends at these cursors.
    fn etag<'o>(&self, slot: Slot, cursors: &str, out: &'o mut [u8; ETAG_BYTES_MAX]) -> &'o str {
        let emptied = self.reading_if_any(slot).map_or(0, |reading| reading.emptied);
        let mut w = Writer::new(out);
        w.byte(b'"');
        for (place, cursor) in cursors.split(',').enumerate() {
            if place > 0 {
                w.byte(b',');
            }
            w.text(cursor);
            if emptied >> place & 1 == 1 && !cursor.ends_with("-0") {
                w.text(EMPTIED);
            }
        }
        w.byte(b'"');
        let len = w.finish().expect("room for the longest tag was made");
        std::str::from_utf8(&out[..len]).expect("a tag is ASCII")
    }
}
