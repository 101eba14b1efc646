//! What sessions are in the middle of, as far as they keep it: an [`Exchange`] of a connection that takes requests, a [`Reading`] of one
//! that polls, or of a stream that has not subscribed all its topics.
//!
//! Each kind has a slab; a busy connection knows its place there ([`Active::state`](crate::shard::slot::connection::Active)), and its
//! session says in which.

use crate::io::driver::Slot;
use crate::shard::Shard;
use crate::shard::grant::table::NOBODY;
use crate::shard::memory::buffer::Buffer;
use crate::shard::memory::pool::Owner;
use crate::shard::session::reading::Reading;
use crate::shard::session::request::exchange::{Asked, Body, Exchange, Pending};
use crate::shard::session::request::words::Words;
use crate::shard::session::traits::Session;
use crate::shard::slot::wait::Wait;
use crate::shard::topic::topics::NONE;

impl Shard {
    /// Returns the exchange of a connection that takes requests, begun if need be.
    pub(in crate::shard) fn exchange(&mut self, slot: Slot) -> &mut Exchange {
        debug_assert_eq!(self.slots.connections[slot as usize].session, Session::Request);
        self.active(slot);
        let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
        if active.state == NONE {
            active.state = u32::try_from(self.exchanges.insert(Exchange::new())).expect("fewer than 2^32");
        }
        &mut self.exchanges[active.state as usize]
    }

    /// Returns the exchange of a connection, if it is in one.
    pub(in crate::shard) fn exchange_if_any(&self, slot: Slot) -> Option<&Exchange> {
        let connection = &self.slots.connections[slot as usize];
        let active = self.slots.actives.get(connection.active as usize)?;
        if connection.session == Session::Request { self.exchanges.get(active.state as usize) } else { None }
    }

    /// Returns the same, for changing.
    pub(in crate::shard) fn exchange_if_any_mut(&mut self, slot: Slot) -> Option<&mut Exchange> {
        let connection = &self.slots.connections[slot as usize];
        let active = self.slots.actives.get(connection.active as usize)?;
        if connection.session == Session::Request { self.exchanges.get_mut(active.state as usize) } else { None }
    }

    /// Returns what a connection asks for.
    #[must_use]
    pub(in crate::shard) fn asks_for(&self, slot: Slot) -> Asked {
        self.exchange_if_any(slot).map_or(Asked::Nothing, |exchange| exchange.pending.what)
    }

    /// Says whether a body is on its way.
    #[must_use]
    pub(in crate::shard) fn is_arriving(&self, slot: Slot) -> bool {
        self.exchange_if_any(slot).is_some_and(|exchange| exchange.arriving != Body::Done)
    }

    /// Forgets the exchange of a connection, if it is in one.
    pub(in crate::shard) fn end_exchange(&mut self, slot: Slot) {
        if self.exchange_if_any(slot).is_some() {
            let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
            let mut exchange = self.exchanges.remove(std::mem::replace(&mut active.state, NONE) as usize);
            exchange.clear(&mut self.store);
            self.trust.grants.release(exchange.grant);
            self.drop_reading(exchange.reading);
        }
    }

    /// Makes a request wait whose head is read once more when what it waits for has come. Who sends it, and what is known of what it may
    /// read, stays: it might not be known any more by then, and it would have to wait for that again, and again.
    pub(in crate::shard) fn read_head_again(&mut self, slot: Slot, wait: Wait) {
        let exchange = self.exchange(slot);
        let (grant, readable) = (std::mem::replace(&mut exchange.grant, NOBODY), exchange.readable);
        self.end_exchange(slot);
        let exchange = self.exchange(slot);
        (exchange.grant, exchange.known, exchange.readable) = (grant, true, readable);
        self.wait(slot, wait);
    }

    /// Begins the exchange of a request whose head is there; says whether it is known who sends it, as the head was read before.
    pub(in crate::shard) fn begin_exchange(&mut self, slot: Slot, pending: Pending) -> bool {
        let before = self.exchange_if_any_mut(slot).filter(|exchange| exchange.known);
        let before = before.map(|exchange| (std::mem::replace(&mut exchange.grant, NOBODY), exchange.readable));
        self.end_exchange(slot);
        let exchange = self.exchange(slot);
        exchange.pending = pending;
        if let Some((grant, readable)) = before {
            (exchange.grant, exchange.readable) = (grant, readable);
        }
        before.is_some()
    }

    /// Returns what a connection reads that is a poll, or a stream that has not subscribed all its topics.
    pub(in crate::shard) fn reading_if_any(&self, slot: Slot) -> Option<&Reading> {
        let connection = &self.slots.connections[slot as usize];
        let active = self.slots.actives.get(connection.active as usize)?;
        match connection.session {
            Session::Poll | Session::Stream => self.readings.get(active.state as usize),
            _ => None,
        }
    }

    /// Returns the same, for changing.
    pub(in crate::shard) fn reading_if_any_mut(&mut self, slot: Slot) -> Option<&mut Reading> {
        let connection = &self.slots.connections[slot as usize];
        let active = self.slots.actives.get(connection.active as usize)?;
        match connection.session {
            Session::Poll | Session::Stream => self.readings.get_mut(active.state as usize),
            _ => None,
        }
    }

    /// Says whether not all topics of a plan are subscribed yet.
    #[must_use]
    pub(in crate::shard) fn is_subscribing(&self, slot: Slot) -> bool {
        self.reading_if_any(slot).is_some_and(|reading| !reading.subscribed)
    }

    /// Makes a connection that was in an exchange one that reads: its state is the reading from now on, which takes over how it is
    /// answered. What its request was given is the connection's own by now.
    pub(in crate::shard) fn become_reading(&mut self, slot: Slot, session: Session) {
        let Some(exchange) = self.exchange_if_any_mut(slot) else { return };
        let index = std::mem::replace(&mut exchange.reading, NONE);
        let pending = exchange.pending;
        let words = std::mem::replace(&mut exchange.words, Words::new());
        let conditions = std::mem::replace(&mut exchange.conditions, Buffer::new(Owner::Inbound));
        let reading = &mut self.readings[index as usize];
        (reading.pending, reading.words, reading.conditions) = (pending, words, conditions);
        self.end_exchange(slot);
        self.slots.connections[slot as usize].session = session;
        self.recount_kind(slot);
        self.active(slot).state = index;
    }

    /// Forgets what a connection reads.
    pub(in crate::shard) fn end_reading(&mut self, slot: Slot) {
        if self.reading_if_any(slot).is_some() {
            let active = &mut self.slots.actives[self.slots.connections[slot as usize].active as usize];
            let index = std::mem::replace(&mut active.state, NONE);
            self.drop_reading(index);
        }
    }

    /// Forgets a reading, if there is one.
    pub(in crate::shard) fn drop_reading(&mut self, index: u32) {
        if let Some(mut reading) = self.readings.try_remove(index as usize) {
            reading.clear(&mut self.store);
            self.topics.views.release(reading.view);
            self.trust.grants.release(reading.grant);
        }
    }
}
