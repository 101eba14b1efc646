//! Answers to what an operator asks: connections, topics and subscribers, in lists and one by one.
//!
//! Owns: how each is found and described. Touches: reads everything. Never: changes anything, or takes longer than a slice of a turn
//! ([`LOOKS`]). A look that takes several turns is no snapshot: what moves meanwhile may be missing, or stand there twice.

use super::Shard;
use super::errand::{
    Answer, By, ConnectionRow, Described, Inspected, Look, Most, Only, ROWS_MAX, Rows, SlowRow, TopicRow,
};
use super::memory::wheel::TICK_MS;
use super::slot::connection::Life;
use super::topic::topics::{NONE, UNRESOLVED};
use crate::io::driver::{Driver, Slot};
use crate::mesh::Name;
use crate::reach::{Mark, reach};

/// Connections, topics or subscribers that a turn looks at: 1,024 take some 20 to 100 µs, most of it waiting for memory.
const LOOKS: usize = 1024;

/// The same, of topics whose readers are wanted: a walk over the rules, and a look into another table for each.
const COUNTED_LOOKS: usize = 128;

impl Shard {
    /// Looks at so much as a turn has time for; returns the answer, if that was all.
    pub(super) fn look_on(&mut self, mut look: Box<Look>) -> Option<Answer> {
        self.hottest.bring_up_to(self.clock.now_ms);
        let Look { next, place, rows_max, rows, .. } = &mut *look;
        let over = match rows {
            Rows::Connections(only, rows) => self.look_at_connections(*only, next, *rows_max, rows),
            Rows::Topics(By::Rate, rows) => self.look_at_hottest(*rows_max, rows),
            Rows::Topics(by, rows) => self.look_at_homes(*by, next, *rows_max, rows),
            Rows::Slow(rows) => self.look_at_subscribers(next, place, *rows_max, rows),
        };
        if over {
            return Some(look.into_answer());
        }
        reach(Mark::AnsweredInTurns);
        self.look = Some(look);
        None
    }

    fn look_at_connections(
        &self,
        only: Only,
        next: &mut usize,
        rows_max: usize,
        rows: &mut Vec<ConnectionRow>,
    ) -> bool {
        let end = self.slots.connections.len().min(*next + LOOKS);
        for slot in *next..end {
            if rows.len() >= rows_max {
                return true;
            }
            let connection = &self.slots.connections[slot];
            let is_meant = connection.life != Life::Free
                && only.kind.is_none_or(|kind| kind == connection.kind.name())
                && only.peer.is_none_or(|peer| peer.is_of(connection.peer()));
            if is_meant {
                rows.push(self.connection_row(slot as Slot));
            }
        }
        *next = end;
        end == self.slots.connections.len() || rows.len() >= rows_max
    }

    fn connection_row(&self, slot: Slot) -> ConnectionRow {
        let connection = &self.slots.connections[slot as usize];
        let grant = if connection.life == Life::Open { self.grant_of(slot) } else { connection.grant };
        let subject = self.trust.grants.get(grant).map(|interned| &interned.grant.subject);
        ConnectionRow {
            slot,
            generation: connection.generation,
            peer: connection.peer(),
            kind: connection.kind.name(),
            subject: subject.filter(|subject| !subject.is_empty()).cloned(),
            subscriptions: connection.subscriptions,
            queued_bytes: self.queued_bytes(slot as usize),
            heard_ms: u64::from(self.clock.tick.wrapping_sub(connection.heard_tick)) * TICK_MS,
        }
    }

    fn look_at_homes(&self, by: By, next: &mut usize, rows_max: usize, rows: &mut Most<TopicRow>) -> bool {
        let places = self.homes.places();
        let looks = if by == By::Readers { COUNTED_LOOKS } else { LOOKS };
        let end = places.min(*next + looks);
        for place in *next..end {
            let Some((name, _, _, messages, bytes)) = self.homes.remembered(&self.store, place) else { continue };
            let key = match by {
                By::Messages => messages,
                By::Readers => self.readers_of(name).unwrap_or(0),
                By::Bytes | By::Rate => bytes,
            };
            rows.keep(key, rows_max, || self.topic_row(place).unwrap_or_default());
        }
        *next = end;
        end == places
    }

    /// Those of which it is known how much is published to them: there are few.
    fn look_at_hottest(&self, rows_max: usize, rows: &mut Most<TopicRow>) -> bool {
        for (hash, rate_milli) in self.hottest.rates() {
            if let Some(row) = self.homes.place_of(hash).and_then(|place| self.topic_row(place as usize)) {
                rows.keep(rate_milli, rows_max, || row);
            }
        }
        true
    }

    fn topic_row(&self, place: usize) -> Option<TopicRow> {
        let (name, epoch, head, messages, bytes) = self.homes.remembered(&self.store, place)?;
        let (topic, readers) = (name.to_owned(), self.readers_of(name));
        let rate_milli = self.homes.name_at(place).and_then(|name| self.hottest.rate_of(name.hash));
        Some(TopicRow { topic, messages, bytes, epoch, head, readers, rate_milli })
    }

    /// Says what is known here of one topic.
    pub(super) fn describe<D: Driver>(&mut self, driver: &D, topic: &str) -> Described {
        self.hottest.bring_up_to(self.clock.now_ms);
        let name = Name { hash: self.hash_topic(topic), text: topic };
        let readers = self.topics.find(name).map_or(0, |index| u64::from(self.topics.readers(index)));
        let place = self.homes.find(name);
        let home = place.and_then(|place| {
            Some((self.topic_row(place as usize)?, self.homes.oldest_number(&self.store, driver.memory(), place)))
        });
        Described { readers, home }
    }

    /// Says what is known of one connection.
    pub(super) fn inspect(&self, slot: Slot) -> Option<Inspected> {
        let connection =
            self.slots.connections.get(slot as usize).filter(|connection| connection.life != Life::Free)?;
        let listener = usize::from(connection.listener);
        let mut subscribed = Vec::new();
        let mut each = connection.first;
        while each != NONE && subscribed.len() < ROWS_MAX {
            let subscription = &self.topics.subscriptions[each as usize];
            let log = &self.topics.logs[subscription.log as usize];
            let subscriber = self.topics.subscriber(each);
            let is_known = subscriber.flags & UNRESOLVED == 0;
            let behind = is_known.then(|| subscriber.pending(log.chain.next()));
            subscribed.push((self.topics.name(log.topic).text.to_owned(), behind));
            each = subscription.next;
        }
        Some(Inspected {
            row: self.connection_row(slot),
            listener: connection.listener,
            port: self.limits.ports.get(listener).copied(),
            is_tls: self.limits.tls.get(listener).copied().unwrap_or(false),
            subscribed,
        })
    }

    fn look_at_subscribers(
        &self,
        log: &mut usize,
        place: &mut usize,
        rows_max: usize,
        rows: &mut Most<SlowRow>,
    ) -> bool {
        let mut looks = 0;
        while *log < self.topics.logs.bound() {
            let Some(frame_log) = self.topics.logs.get(*log) else {
                (*log, *place, looks) = (*log + 1, 0, looks + 1);
                if looks >= LOOKS {
                    return false;
                }
                continue;
            };
            let next = frame_log.chain.next();
            let end = frame_log.subscribers.len().min(*place + LOOKS.saturating_sub(looks));
            for subscriber in frame_log.subscribers.get(*place..end).unwrap_or_default() {
                if subscriber.flags & UNRESOLVED != 0 || subscriber.pending(next) == 0 {
                    continue;
                }
                let behind = subscriber.pending(next);
                let slot = subscriber.slot;
                rows.keep(behind, rows_max, || SlowRow {
                    slot,
                    peer: self.slots.connections[slot as usize].peer(),
                    topic: self.topics.name(frame_log.topic).text.to_owned(),
                    behind,
                    queued_bytes: self.queued_bytes(slot as usize),
                });
            }
            looks += 1 + end.saturating_sub(*place);
            *place = end;
            if *place >= frame_log.subscribers.len() {
                (*log, *place) = (*log + 1, 0);
            }
            if looks >= LOOKS {
                return *log >= self.topics.logs.bound();
            }
        }
        true
    }

    fn queued_bytes(&self, slot: usize) -> u32 {
        self.slots.actives.get(self.slots.connections[slot].active as usize).map_or(0, |active| active.queue.len())
    }
}
