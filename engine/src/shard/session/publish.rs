//! Publishing: from a connection to the topic's home; and how a connection goes on that had to wait.

use corecast_protocol::cursor::Cursor;
use corecast_protocol::line::ErrCode;
use corecast_protocol::ws::close;

use crate::io::driver::{Driver, Slot};
use crate::mesh::{Content, Name, Packet, Purpose, Reason, Standing, Ticket};
use crate::shard::Shard;
use crate::shard::crossing::{Lane, Way};
use crate::shard::session::Session;
use crate::shard::slot::connection::{Asked, Waiting};
use crate::shard::slot::keep::Shelf;
use crate::shard::topic::subscribe::Outcome;

impl Shard {
    /// Sends a message to the home of its topic.
    pub(in crate::shard) fn publish(
        &mut self,
        slot: Slot,
        topic: &str,
        content: Content<'_>,
        purpose: Purpose,
        token: &str,
    ) -> Outcome {
        let name = Name { hash: self.hash(topic), text: topic };
        let ticket = self.ticket(slot, purpose, token);
        let bytes = Packet::bytes_max(content.payload.len());
        let lane = Lane::of(bytes, self.links.ring_bytes());
        self.order(Packet::Publish { topic: name, ticket, content }, bytes, name.hash, lane)
    }

    /// Asks the home of a topic to forget its history.
    pub(in crate::shard) fn publish_clear(&mut self, slot: Slot, topic: &str) -> Outcome {
        let name = Name { hash: self.hash(topic), text: topic };
        let ticket = self.ticket(slot, Purpose::Http, "");
        self.order(Packet::Clear { topic: name, ticket }, Packet::bytes_max(0), name.hash, Lane::Short)
    }

    /// Sends a message to the home of its topic, or without one asks it to forget its history, if the topic is still what it was.
    pub(in crate::shard) fn order_if(
        &mut self,
        slot: Slot,
        topic: &str,
        expected: Standing,
        content: Option<Content<'_>>,
    ) -> Outcome {
        let topic = Name { hash: self.hash(topic), text: topic };
        let ticket = self.ticket(slot, Purpose::Http, "");
        let bytes = Packet::bytes_max(content.map_or(0, |content| content.payload.len()));
        let lane = Lane::of(bytes, self.links.ring_bytes());
        let packet = match content {
            Some(content) => Packet::PublishIf { topic, ticket, expected, content },
            None => Packet::ClearIf { topic, ticket, expected },
        };
        self.order(packet, bytes, topic.hash, lane)
    }

    /// Asks the home of a topic for messages.
    pub(in crate::shard) fn ask_replay(
        &mut self,
        slot: Slot,
        topic: &str,
        purpose: Purpose,
        from: crate::mesh::Start,
    ) -> Outcome {
        let name = Name { hash: self.hash(topic), text: topic };
        let serial = self.next_serial();
        let ticket = Ticket { serial, ..self.ticket(slot, purpose, "") };
        self.active(slot).serial = serial;
        let request = Packet::Replay { topic: name, ticket, from, generation: 0 };
        self.order(request, Packet::bytes_max(0), name.hash, Lane::Bulk)
    }

    fn ticket<'t>(&self, slot: Slot, purpose: Purpose, token: &'t str) -> Ticket<'t> {
        Ticket { slot, generation: self.connections[slot as usize].generation, purpose, detail: 0, serial: 0, token }
    }

    /// Sends a home what a connection orders, in at most so many bytes.
    fn order(&mut self, packet: Packet<'_>, bytes: usize, hash: u64, lane: Lane) -> Outcome {
        let way = Way::to(self.home_of(hash), lane);
        let silent = matches!(packet, Packet::Publish { ticket, .. } if ticket.purpose == Purpose::Silent);
        if !self.has_room(way, bytes, u32::from(!silent)) {
            return Outcome::NoRoom(way);
        }
        let sent = self.links.send(way.home as usize, &packet);
        assert!(sent, "room was looked for");
        if !silent {
            self.asked(way);
        }
        Outcome::Done
    }

    /// A home has answered a publication.
    pub(in crate::shard) fn published<D: Driver>(
        &mut self,
        driver: &mut D,
        ticket: Ticket<'_>,
        answer: Result<Cursor, Reason>,
    ) {
        let slot = ticket.slot;
        if !self.is_living(slot, ticket.generation) {
            return;
        }
        match (ticket.purpose, answer) {
            (Purpose::Http, answer) => self.answer_publication(driver, slot, answer),
            (Purpose::Batch, answer) => self.answer_line_of_batch(driver, slot, answer.is_ok()),
            (Purpose::Line, answer) => {
                let mut was_full = false;
                if let Some(active) = self.active_if_any(slot) {
                    was_full = active.tickets >= crate::shard::session::line::TICKETS_MAX;
                    active.tickets -= 1;
                }
                match answer {
                    Ok(cursor) => self.tell_ok(driver, slot, ticket.token, Some(cursor)),
                    Err(_) => self.tell_err(driver, slot, Some(ticket.token), ErrCode::Full, "the engine is full"),
                }
                if was_full && self.is_living(slot, ticket.generation) {
                    self.go_on(driver, slot);
                }
                self.make_ready(slot);
            }
            (_, Err(_)) if self.connections[slot as usize].is(Session::Line) => {
                self.tell_err(driver, slot, None, ErrCode::Full, "the engine is full");
            }
            (_, Err(_)) => self.close_websocket(driver, slot, close::TRY_AGAIN, "the engine is full"),
            (_, Ok(_)) => {}
        }
    }

    /// Lets a connection handle what has waited, and then what it received meanwhile.
    pub(in crate::shard) fn go_on<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let generation = self.connections[slot as usize].generation;
        let private_bytes_max = self.limits.private_bytes_max;
        let Some(active) = self.active_if_any(slot) else { return };
        if active.queue.len() > private_bytes_max {
            // Whoever does not read its answers is not given more of them: `drained` comes back here.
            active.waiting = Waiting::Drain;
            self.make_ready(slot);
            return;
        }
        active.waiting = Waiting::No;
        if active.complete {
            active.complete = false;
            self.handle_complete(driver, slot);
        }
        if !self.is_living(slot, generation) {
            return;
        }
        let waits = self.active_if_any(slot).is_some_and(|active| active.waiting != Waiting::No);
        if !waits {
            self.take_carried(driver, slot);
        }
        if self.is_living(slot, generation) {
            self.rearm(driver, slot);
            self.make_ready(slot);
        }
    }

    /// Handles the message or body that stands complete in the connection's body buffer.
    fn handle_complete<D: Driver>(&mut self, driver: &mut D, slot: Slot) {
        let index = self.connections[slot as usize].active as usize;
        let active = &self.actives[index];
        let what = active.pending.what;
        if what == Asked::Batch {
            self.batch_step(driver, slot);
            return;
        }
        if what == Asked::Subscribe {
            self.subscribe_step(driver, slot);
            return;
        }
        let (text, span) = (active.text, active.body.span());
        let mut bytes = std::mem::take(&mut self.whole);
        bytes.clear();
        bytes.extend_from_slice(driver.memory().bytes(span));
        self.actives[index].body.clear(&mut self.store);
        if what == Asked::Nothing {
            self.message(driver, slot, text, &mut bytes);
        } else {
            self.request(driver, slot, &bytes);
        }
        self.whole = bytes;
    }

    /// Keeps a complete message or body until it can be handled.
    pub(in crate::shard) fn stash<D: Driver>(&mut self, driver: &mut D, slot: Slot, text: bool, bytes: &[u8]) {
        self.active(slot);
        let index = self.connections[slot as usize].active as usize;
        let active = &mut self.actives[index];
        active.body.clear(&mut self.store);
        active.text = text;
        active.complete = true;
        if !self.keep(driver, slot, Shelf::Body, bytes) {
            self.shed(driver, slot);
        }
    }
}
