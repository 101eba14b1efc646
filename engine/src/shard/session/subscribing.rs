//! Subscribing over HTTP: from the request to its plan, and the topics of the plan one after another.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::http::head::Request;
use corecast_protocol::http::{prefer, query};
use corecast_protocol::pattern::is_pattern;
use corecast_protocol::places::TEXT_BYTES_MAX;
use corecast_protocol::violation::Violation;
use corecast_protocol::write::Writer;
use corecast_protocol::{json, percent, topic};

use crate::grant::Action;
use crate::io::driver::{Driver, Slot};
use crate::shard::Shard;
use crate::shard::dialect::Shape;
use crate::shard::dialect::view::ALL;
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::pattern::reads::pattern_of;
use crate::shard::refusal::Refusal;
use crate::shard::session::reading::{CURSORS_BYTES_MAX, Reading, TOPICS_MAX, Transport};
use crate::shard::session::request::condition::asks_for_the_remembered;
use crate::shard::session::request::options::{Options, ViewRoom};
use crate::shard::session::request::plan;
use crate::shard::session::traits::Session;
use crate::shard::slot::connection::Waiting;
use crate::shard::slot::wait::{MayNot, Outcome, Wait};
use crate::shard::topic::subscribe::{Wanted, Wish};
use crate::shard::topic::topics::{AWAY, NONE};

/// Chooses the transport of a request.
pub(in crate::shard) fn transport(request: &Request<'_>) -> Result<Transport, &'static str> {
    let mut value = [0; 32];
    let named = query::value(request.query, "transport").map(|name| percent::decode(name, &mut value, true));
    Ok(match named {
        Some(Ok("poll")) => Transport::Poll,
        Some(Ok("long-poll")) => Transport::LongPoll,
        Some(Ok("value")) => Transport::Value,
        Some(Ok("jsonp")) => Transport::Jsonp,
        Some(Ok("sse")) => Transport::Stream(Shape::Sse),
        Some(Ok("stream")) => Transport::Stream(Shape::Ndjson),
        Some(Ok("multipart")) => Transport::Stream(Shape::Multipart),
        Some(Ok("forever-frame")) => Transport::Stream(Shape::ForeverFrame),
        Some(Ok("websocket")) => return Err("this transport needs an Upgrade to websocket"),
        Some(_) => {
            return Err(
                "unknown transport; there are websocket, sse, stream, multipart, forever-frame, long-poll, poll, \
                        value and jsonp",
            );
        }
        None if prefer::accepts_event_stream(request.headers.accept) => Transport::Stream(Shape::Sse),
        None => Transport::Poll,
    })
}

impl Shard {
    /// Begins a stream or a long poll with these options: checks its plan, keeps it, sends the head, and subscribes the first topic. If it
    /// is not known yet whether it may read all of them, nothing is begun, and what has to come before is returned.
    pub(in crate::shard) fn begin_subscriber<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        path_topic: Option<&str>,
        transport: Transport,
        options: Options,
    ) -> Result<Option<Wait>, String> {
        let mut room = ViewRoom::new();
        let wanted = room.read(request.query)?;
        let view = self.topics.views.hold(&wanted).map_err(|wrong| wrong.to_string())?;
        let begun = self.begin_reading(driver, slot, request, path_topic, transport, options, view);
        // What is read holds it.
        self.topics.views.release(view);
        Ok(begun?)
    }

    #[allow(clippy::too_many_arguments)]
    fn begin_reading<D: Driver>(
        &mut self,
        driver: &mut D,
        slot: Slot,
        request: &Request<'_>,
        path_topic: Option<&str>,
        transport: Transport,
        options: Options,
        view: u32,
    ) -> Result<Option<Wait>, &'static str> {
        let (query, last_event_id) = (request.query, request.headers.last_event_id);
        let mut room = [0; topic::TOPIC_BYTES_MAX];
        let path_topic = match path_topic.map(|topic| topic::from_path_readable(topic, &mut room)) {
            None => None,
            Some(topic) => Some(topic.map_err(|violation| violation.text())?),
        };
        let mut plan = std::mem::take(&mut self.scratch.plan);
        let read = plan::read(&plan::Request { path_topic, query, last_event_id, options }, &mut plan);
        self.work.spend_on(4 * query.len());
        let framed = transport == Transport::Stream(Shape::ForeverFrame);
        let checked = read.and_then(|several| {
            let mut callback = [0; 64];
            let callback = callback_of(request, &mut callback);
            let sound = !framed || callback.is_empty() || json::valid_frame_callback(callback);
            if view != ALL && plan::steps(&plan).any(|step| is_pattern(step.topic)) {
                return Err("fields, where and delta are of single topics");
            }
            if sound { Ok(several) } else { Err(Violation::BadFrameCallback.text()) }
        });
        // Who waits for a stream, and gets none, does not send another request on this connection.
        let ends = matches!(transport, Transport::Stream(_));
        let begun = checked.map(|several| {
            match self.may_read_all(slot, &plan) {
                Ok(()) => {}
                Err((_, MayNot::Yet(wait))) => return Some(wait),
                Err((topic, MayNot::AtAll(refusal))) => {
                    self.refuse_topic(driver, slot, refusal, topic, ends);
                    return None;
                }
            }
            if plan::count(&plan) > self.subscriptions_max(slot) as usize {
                // Before its head: a stream would end, and come back for the same.
                self.refuse_request(driver, slot, Refusal::TooMany, ends);
                return None;
            }
            let mut kept = Buffer::new(Owner::Inbound);
            if !kept.push(&mut self.store, driver.memory_mut(), &plan) {
                self.refuse_request(driver, slot, Refusal::Full, ends);
                return None;
            }
            self.topics.views.hold_too(view);
            let reading = self.readings.insert(Reading::new(transport, kept, view, options.pace));
            self.exchange(slot).reading = u32::try_from(reading).expect("fewer than 2^32");
            match transport {
                Transport::Stream(_) if !self.give_what_was_shown(slot) => {
                    self.refuse_request(driver, slot, Refusal::TooMany, ends);
                }
                Transport::Stream(shape) => {
                    let shape = match (shape, several, options.enveloped) {
                        (Shape::Sse, false, true) => Shape::SseEnveloped,
                        (Shape::Sse, true, false) => Shape::SseShared,
                        (Shape::Sse, true, true) => Shape::SseSharedEnveloped,
                        (shape, ..) => shape,
                    };
                    self.begin_meter(driver, slot, options.bandwidth);
                    self.begin_stream(driver, slot, request, shape);
                }
                Transport::Poll | Transport::LongPoll | Transport::Value | Transport::Jsonp => {
                    self.begin_poll(driver, slot, request, transport, options.wait_s);
                }
            }
            None
        });
        self.scratch.plan = plan;
        begun
    }

    /// Says whether all topics of a plan may be read, or which may not, and why. Of those that have to be waited for, the hook is asked
    /// about all.
    fn may_read_all<'p>(&mut self, slot: Slot, plan: &'p [u8]) -> Result<(), (&'p str, MayNot)> {
        let readable = self.exchange(slot).readable;
        let mut awaited = None;
        for (place, step) in plan::steps(plan).enumerate().skip(readable.into()) {
            if awaited.is_some() {
                if !self.foresee(slot, Action::Subscribe, step.topic) {
                    break;
                }
                continue;
            }
            match self.may(slot, Action::Subscribe, step.topic) {
                Ok(()) => {}
                Err(may_not @ MayNot::AtAll(_)) => return Err((step.topic, may_not)),
                Err(may_not @ MayNot::Yet(_)) => {
                    self.exchange(slot).readable = place as u8;
                    awaited = Some((step.topic, may_not));
                }
            }
        }
        awaited.map_or(Ok(()), Err)
    }

    /// Subscribes the next topic of the plan, as far as answers and rings allow; what has to wait comes back here.
    pub(in crate::shard) fn subscribe_step<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let mut plan = std::mem::take(&mut self.scratch.plan);
        while let Some(reading) = self.reading_if_any(slot) {
            let (span, order, view, pace) = (reading.plan.span(), reading.step, reading.view, reading.pace());
            plan.clear();
            plan.extend_from_slice(driver.memory().bytes(span.part(0, span.len.min(plan::RECORD_BYTES_MAX))));
            let Some(step) = plan::first(&plan) else {
                let active = self.active(slot);
                if active.replays == 0 {
                    self.plan_is_done(driver, slot);
                } else {
                    // What there is of each comes first.
                    active.waiting = Waiting::Answer;
                    active.complete = true;
                }
                break;
            };
            let plan::Step { topic, since, places, conflate, every_ms, several, len } = step;
            let manner = self.manner(topic, Wanted { conflate, every_ms, pace });
            // What is not simply all of one log has to be counted.
            let counted = several || manner.skips();
            let wish = Wish { topic, since: Some(since), places, manner, view, counted, token: "" };
            match self.order_subscription(driver, slot, wish) {
                Outcome::Done => {
                    let first = self.slots.connections[slot as usize].first;
                    self.topics.subscriptions[first as usize].set_order(order);
                    if let Some(reading) = self.reading_if_any_mut(slot) {
                        reading.plan.consume(len as u32);
                        reading.step += 1;
                        // Until there is a message of it.
                        reading.emptied |= u64::from(asks_for_the_remembered(since)) << order;
                    }
                }
                Outcome::Wait(wait) => {
                    self.wait(slot, wait);
                    self.active(slot).complete = true;
                    break;
                }
                Outcome::Refused(refusal) => {
                    self.refuse_connection(driver, slot, refusal);
                    break;
                }
            }
        }
        self.scratch.plan = plan;
    }

    /// All topics of the plan are subscribed, and what there was of them is queued.
    fn plan_is_done<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        if self.slots.connections[slot as usize].session == Session::Stream {
            self.end_reading(slot);
            self.active(slot).waiting = Waiting::No;
            self.slots.make_ready(slot);
        } else {
            self.wait_for_the_first(driver, slot);
        }
    }

    /// Writes the cursors of all subscriptions, in the order of the request.
    pub(in crate::shard) fn cursors<'o, D: Driver>(
        &self,
        driver: &D,
        slot: Slot,
        out: &'o mut [u8; CURSORS_BYTES_MAX],
    ) -> &'o str {
        let mut in_order = [NONE; TOPICS_MAX];
        let mut count = 0;
        let mut subscription = self.slots.connections[slot as usize].first;
        while subscription != NONE {
            let place = &self.topics.subscriptions[subscription as usize];
            if let Some(to) = in_order.get_mut(usize::from(place.order())) {
                *to = subscription;
            }
            count += 1;
            subscription = place.next;
        }
        let mut w = Writer::new(out);
        for (n, subscription) in in_order.iter().take(count).enumerate() {
            if n > 0 {
                w.byte(b',');
            }
            let Some(place) = self.topics.subscriptions.get(*subscription as usize) else {
                Cursor::default().write(&mut w);
                continue;
            };
            let log = &self.topics.logs[place.log as usize];
            let subscriber = &log.subscribers[place.index as usize];
            let topic = self.topics.topic(log.topic);
            if pattern_of(topic.home).is_some() {
                let mut text = [0; TEXT_BYTES_MAX];
                w.text(self.places_of(driver, *subscription, &mut text));
                continue;
            }
            let seq = match subscriber.flags & AWAY {
                0 => log.chain.number_before(&self.store, driver.memory(), subscriber.next),
                _ => subscriber.next,
            };
            Cursor { epoch: topic.epoch, seq }.write(&mut w);
        }
        let len = w.finish().expect("room for the longest list was made");
        std::str::from_utf8(&out[..len]).expect("cursors are text")
    }
}

/// Reads the callback of a request whose plan was checked; empty if it names none.
pub(in crate::shard) fn callback_of<'o>(request: &Request<'_>, out: &'o mut [u8; 64]) -> &'o str {
    let named = query::value(request.query, "callback").and_then(|name| percent::decode(name, out, true).ok());
    let len = named.map_or(0, str::len);
    std::str::from_utf8(&out[..len]).unwrap_or("")
}
